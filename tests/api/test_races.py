"""What only shows when many come at once (D1, D19, I1, I12)."""
import random
import threading
import time

import pytest
from helpers import V1, Device, children, contents_of, file_of, head, mkdir, moved, names, replace, since, snapshot, together, updated
from support import unique


def test_writers_and_a_poller(server, alice, share):
    """16 concurrent writers and a poller that never misses, repeats or disorders a change; each page small, each poll at once."""
    at = head(alice)
    done, made, lock = threading.Event(), [], threading.Lock()

    def write(number):
        api = server.client('alice@example.com')
        device = Device(api, share)
        chance = random.Random(number)
        mine = []
        end = time.monotonic() + 4
        step = 0
        while time.monotonic() < end:
            step += 1
            kind = chance.random()
            if kind < 0.5:
                mine.append(('created', api.make_folder(share['id'], f'{number}-{step}')['id']))
            elif kind < 0.8:
                answer = device.apply([mkdir(f'/{number}-{step}-{i}') for i in range(chance.choice((1, 7, 30)))], 'KEEP_BOTH')
                mine += [('created', a['resource_id']) for a in answer['applied']]
            elif mine:
                victim = chance.choice(mine)[1]
                api.ok('PATCH', f'{V1}/folders/{victim}', json={'name': f'{number}-{step}-renamed'})
                mine.append(('renamed', victim))
        with lock:
            made.extend(mine)

    def poll():
        api = server.client('alice@example.com')
        cursor, seen, chance = at, [], random.Random(99)
        while True:
            last = done.is_set()
            page = api.ok('GET', f'{V1}/sync/changes', params={'share_id': share['id'], 'cursor': cursor, 'limit': chance.choice((1, 3, 50, 1000))})
            assert page['cursor'] >= cursor
            cursor = page['cursor']
            seen += page['changes']
            if last and not page['has_more']:
                return seen

    def work():
        try:
            together(*[lambda n=n: write(n) for n in range(16)])
        finally:
            done.set()

    results = together(poll, poll, work)
    assert len(made) > 200
    for seen in results[:2]:
        ids = [c['id'] for c in seen]
        assert len(set(ids)) == len(ids), 'a change was repeated'
        assert ids == sorted(ids), 'changes came out of order'
        assert sorted((c['change_type'], c['resource_id']) for c in seen) == sorted(made), 'a change was missed'
    assert results[0] == results[1]


def test_concurrent_moves_make_no_cycle(server, alice, share):
    """Random folder moves from 8 clients, by the two routes; afterwards every folder is reached from the root, once."""
    alice_device = Device(alice, share)
    folders = [a['resource_id'] for a in alice_device.apply([mkdir(f'/d{i}') for i in range(12)])['applied']]
    moves = []

    def run(number):
        api = server.client('alice@example.com')
        device = Device(api, share)
        chance = random.Random(number)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            one, two = chance.sample(folders, 2)
            if chance.random() < 0.7:
                r = api.post(f'{V1}/folders/{one}/move', json={'target_folder_id': two})
                assert r.status_code == 200 or r.json()['error']['code'] in ('MOVE_CYCLE', 'NAME_CONFLICT'), r.text
                moves.append(r.status_code)
            else:
                answer = device.apply([moved({'id': one}, None, parent_id=two), moved({'id': two}, None, parent_id=None)], 'KEEP_BOTH')
                assert all(e['code'] == 'MOVE_CYCLE' for e in answer['errors']), answer['errors']

    together(*[lambda n=n: run(n) for n in range(8)])
    assert moves.count(200) > 20 and 409 in moves
    nodes, _ = snapshot(alice, share)
    assert set(nodes) == set(folders)
    for node in nodes.values():
        way, at = [], node
        while at['parent_id']:
            assert at['id'] not in way, f'a cycle: {way}'
            way.append(at['id'])
            at = nodes[at['parent_id']]
    for i in folders:
        assert alice.ok('GET', f'{V1}/folders/{i}')['path'].endswith(nodes[i]['name'])


@pytest.mark.parametrize('what', ['folder', 'file', 'apply', 'rename'])
def test_one_name_one_winner(server, alice, share, what):
    """64 at once want one name (in 64 spellings of case): exactly one gets it."""
    n = 64
    spellings = [''.join(c.upper() if i >> k & 1 else c for k, c in enumerate('contested')) for i in range(n)]
    apis = [server.client('alice@example.com') for _ in range(16)]
    if what == 'folder':
        calls = [lambda i=i: apis[i % 16].post(f'{V1}/folders', json={'share_id': share['id'], 'name': spellings[i]}).status_code for i in range(n)]
    elif what == 'file':
        calls = [lambda i=i: apis[i % 16].upload(share['id'], spellings[i], str(i).encode()).status_code for i in range(n)]
    elif what == 'rename':
        files = [alice.make_file(share['id'], f'f{i}', b'')['id'] for i in range(n)]
        calls = [lambda i=i: apis[i % 16].patch(f'{V1}/files/{files[i]}', json={'name': spellings[i]}).status_code for i in range(n)]
    else:
        alice.make_file(share['id'], 'contested', b'')  # a file has the name: folders get free ones
        devices = [Device(api, share) for api in apis]
        calls = [lambda i=i: devices[i % 16].one(mkdir('/' + spellings[i]), 'KEEP_BOTH')[0]['status'] for i in range(n)]
    at = head(alice)
    got = together(*calls)
    live = names(children(alice, share))
    assert len({x.lower() for x in live}) == len(live)
    if what == 'apply':
        assert set(got) <= {'renamed'} and len(live) == n + 1
        return
    good = 200 if what == 'rename' else 201
    assert sorted(set(got)) == [good, 409] and got.count(good) == 1, got
    assert len(since(alice, share, at)) == 1 and len([x for x in live if x.lower() == 'contested']) == 1


def test_one_folder_made_by_many(server, alice, share):
    devices = [Device(server.client('alice@example.com'), share) for _ in range(16)]
    got = together(*[lambda d=d: d.one(mkdir('/same'))[0] for d in devices])
    assert len({g['resource_id'] for g in got}) == 1 and sorted(g['status'] for g in got) == ['applied'] + ['noop'] * 15
    assert len(snapshot(alice, share)[0]) == 1


def test_the_quota_holds(server, alice):
    """32 uploads at once into room for 10: never more than fits."""
    share = alice.make_share(quota_bytes=100_000)
    apis = [server.client('alice@example.com') for _ in range(16)]
    got = together(*[lambda i=i: apis[i % 16].upload(share['id'], f'f{i}', bytes([i]) * 10_000).status_code for i in range(32)])
    assert sorted(set(got)) == [201, 507] and got.count(201) == 10, got
    assert alice.ok('GET', f'{V1}/shares/{share["id"]}')['used_bytes'] == 100_000
    assert len(children(alice, share)) == 10


def test_edits_of_one_file(server, alice, share):
    """16 edits on one base: without a strategy one wins; with one, all are kept as versions."""
    f = alice.make_file(share['id'], 'x', b'base')
    apis = [server.client('alice@example.com') for _ in range(16)]
    got = together(*[lambda i=i: replace(apis[i], f, b'edit %d' % i, base=f['version_id']).status_code for i in range(16)])
    assert sorted(got) == [201] + [409] * 15 and file_of(alice, f)['version'] == 2
    base = file_of(alice, f)['version_id']
    got = together(*[lambda i=i: replace(apis[i], f, b'more %d' % i, base=base, resolution='LAST_WRITER_WINS').status_code for i in range(16)])
    assert got == [201] * 16
    kept = contents_of(alice, f)
    assert len(kept) == 18 and set(kept[2:]) == {b'more %d' % i for i in range(16)} and alice.content(f['id']) == kept[-1]


def test_one_op_id_sent_by_many(server, alice, share):
    device = Device(alice, share)
    apis = [server.client('alice@example.com') for _ in range(12)]
    f = alice.make_file(share['id'], 'x', b'one')
    s = alice.post(f'{V1}/files', data={'replace_file_id': f['id'], 'base_version_id': f['version_id'], 'staged': 'true'}, files={'file': ('x', b'two')}).json()
    batch = [mkdir('/a', op_id='a'), updated(f, s['version_id'], f['version_id'], op_id='b')]
    at = head(alice)
    got = together(*[lambda api=api: api.apply(share['id'], device.id, batch, 'KEEP_BOTH').json() for api in apis])
    assert all(len(g['applied']) == 2 and not g['conflicts'] for g in got)
    assert len({g['applied'][0]['resource_id'] for g in got}) == 1
    assert sorted(since(alice, share, at)) == sorted([('created', got[0]['applied'][0]['resource_id']), ('updated', f['id'])])


def test_same_bytes_at_once(server, alice, share):
    """Equal content is stored once however many bring it together; every file reads back."""
    data = random.Random(unique()).randbytes(300_000)
    apis = [server.client('alice@example.com') for _ in range(12)]
    got = together(*[lambda i=i: apis[i].make_file(share['id'], f'f{i}', data) for i in range(12)])
    assert all(alice.content(g['id']) == data for g in got)


def test_move_against_trash(server, alice, share):
    """A child moved away while its folder is trashed is either with it in the trash or alive elsewhere, never in between."""
    for round_ in range(10):
        a, b = alice.make_folder(share['id'], f'a{round_}'), alice.make_folder(share['id'], f'b{round_}')
        f = alice.make_file(share['id'], 'x', b'1', a['id'])
        one, two = server.client('alice@example.com'), server.client('alice@example.com')
        moved_, trashed = together(lambda: one.post(f'{V1}/files/{f["id"]}/move', json={'target_folder_id': b['id']}).status_code,
                                   lambda: two.delete(f'{V1}/folders/{a["id"]}').status_code)
        assert trashed == 204 and moved_ in (200, 410)
        shown = file_of(alice, f, include_deleted='true')
        assert (shown['is_deleted'], shown['folder_id']) == ((False, b['id']) if moved_ == 200 else (True, a['id']))
