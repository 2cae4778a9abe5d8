"""Chunks: the recipe of a file, which must be sent, sending and fetching many, and apply with content (D13, D14)."""
import hashlib
import os
import struct

import pytest
from helpers import V1, Device, fields_of, refused, replaced, sha, since, trash
from support import unique

MAX = 256 << 10


def frame(content, digest=None, length=None):
    return (digest or hashlib.sha256(content).digest()) + struct.pack('<I', len(content) if length is None else length) + content


def frames(body):
    """[(hex hash, content)] of a stream of frames."""
    out, at = [], 0
    while at < len(body):
        n, = struct.unpack_from('<I', body, at + 32)
        assert at + 36 + n <= len(body), 'the stream ends between two frames'
        out.append((body[at:at + 32].hex(), body[at + 36:at + 36 + n]))
        at += 36 + n
    return out


def send(api, share, *contents, raw=None):
    body = raw if raw is not None else b''.join(frame(c) for c in contents)
    return api.post(f'{V1}/sync/chunks', params={'share_id': share['id']}, content=body,
                    headers={'Content-Type': 'application/octet-stream'})


def sent(api, share, *contents):
    r = send(api, share, *contents)
    assert r.status_code == 200, r.text
    return [sha(c) for c in contents]


def missing(api, share, hashes, sources=()):
    return api.ok('POST', f'{V1}/sync/chunks/missing', params={'share_id': share['id']},
                  json={'hashes': hashes, 'sources': list(sources)})['missing']


def fetch(api, share, *items):
    """For each item: its contents, or None when it cannot be had."""
    r = api.post(f'{V1}/sync/chunks/fetch', params={'share_id': share['id']}, json={'items': list(items)})
    assert r.status_code == 200, r.text
    out, now = [], []
    for digest, content in frames(r.content):
        if content:
            assert sha(content) == digest
            now.append(content)
        else:
            out.append(None if digest == '0' * 64 else now)
            now = []
    assert not now and len(out) == len(items)
    return out


def made(name, chunks, parent=None, **more):
    """A change that creates a file with content."""
    metadata = {'parent_id': parent and parent['id'], 'name': name, **more.pop('metadata', {})}
    return {'resource_type': 'file', 'change_type': 'created', 'chunks': chunks, 'metadata': metadata, **more}


def edited(file, base, chunks, **more):
    return {'resource_type': 'file', 'resource_id': file['id'], 'change_type': 'updated', 'base_version_id': base,
            'chunks': chunks, **more}


def recipe(api, file, **params):
    return api.ok('GET', f'{V1}/files/{file["id"]}/chunks', params=params)


# ---- the recipe, and the parameters ----

def test_chunking(alice, share):
    c = alice.ok('GET', f'{V1}/sync/chunking', params={'share_id': share['id']})
    assert (c['algorithm'], c['min_bytes'], c['avg_bytes'], c['max_bytes']) == ('fastcdc-gear64-1', 16 << 10, 64 << 10, MAX)
    assert len(bytes.fromhex(c['key'])) == 32


def test_recipe(alice, share):
    content = os.urandom(3_000_000)
    f = alice.make_file(share['id'], content=content)
    r = recipe(alice, f)
    assert (r['size'], r['checksum_sha256'], r['version_id']) == (len(content), sha(content), f['version_id'])
    assert r['total'] == len(r['chunks']) > 10
    at = 0
    for c in r['chunks']:
        assert c['offset'] == at and c['hash'] == sha(content[at:at + c['length']])
        at += c['length']
    assert at == len(content)
    pages = [recipe(alice, f, limit=7, offset=o)['chunks'] for o in range(0, r['total'], 7)]
    assert sum(pages, []) == r['chunks']
    assert recipe(alice, f, offset=r['total'])['chunks'] == []
    replaced(alice, f, b'', base=f['version_id'])
    assert recipe(alice, f)['chunks'] == [] and recipe(alice, f, version=1)['chunks'] == r['chunks']


# ---- apply with content ----

def test_ten_thousand_files_in_two_requests(alice, share):
    device, n = Device(alice, share), 10_000
    folder = alice.make_folder(share['id'])
    contents = [b'file %d' % i for i in range(n)]
    hashes = sent(alice, share, *contents)
    before = alice.ok('GET', f'{V1}/sync/changes')['cursor']
    answer = device.apply([made(f'f{i}', [h], folder, op_id=f'op-{i}', metadata={'checksum_sha256': h}) for i, h in enumerate(hashes)],
                          'SERVER_WINS')
    assert len(answer['applied']) == n and not answer['errors']
    assert len(since(alice, share, before)) == n
    for i in (0, 499, 500, n - 1):
        assert alice.content(answer['applied'][i]['resource_id']) == contents[i]
    again = device.apply([made(f'f{i}', [h], folder, op_id=f'op-{i}') for i, h in enumerate(hashes[:700])], 'SERVER_WINS')
    assert [a['status'] for a in again['applied']] == ['duplicate'] * 700
    assert [a['resource_id'] for a in again['applied']] == [a['resource_id'] for a in answer['applied'][:700]]


def test_attributes_and_empty_file(alice, share):
    device = Device(alice, share)
    h, = sent(alice, share, b'#!/bin/sh\n')
    metadata = {'mtime': '2020-02-03T04:05:06.123456Z', 'executable': True, 'checksum_sha256': h, 'mime_type': 'text/x-shellscript'}
    done = device.apply([made('run.sh', [h], metadata=metadata), made('empty.txt', [])], 'SERVER_WINS')['applied']
    f = alice.ok('GET', f'{V1}/files/{done[0]["resource_id"]}')
    assert (f['name'], f['mtime'], f['executable'], f['mime_type']) == ('run.sh', metadata['mtime'], True, 'text/x-shellscript')
    assert (f['version'], f['version_id'], f['checksum_sha256']) == (1, done[0]['version_id'], h)
    empty = alice.ok('GET', f'{V1}/files/{done[1]["resource_id"]}')
    assert (empty['size'], empty['checksum_sha256'], empty['mime_type']) == (0, sha(b''), 'text/plain')


def test_several_chunks_are_hashed_by_the_server(alice, share):
    device = Device(alice, share)
    parts = [os.urandom(n) for n in (MAX, 1, 70_000)]
    hashes = sent(alice, share, *parts)
    whole = b''.join(parts)
    good, bad, none = device.apply([made('good', hashes, metadata={'checksum_sha256': sha(whole)}),
                                    made('bad', hashes, metadata={'checksum_sha256': sha(b'else')}), made('none', hashes)],
                                   'SERVER_WINS')['applied'] + [None]
    assert alice.content(good['resource_id']) == whole
    assert bad['index'] == 2 and alice.ok('GET', f'{V1}/files/{bad["resource_id"]}')['checksum_sha256'] == sha(whole)
    done, _ = device.one(made('bad', hashes, metadata={'checksum_sha256': sha(b'else')}), 'SERVER_WINS')
    assert (done['status'], done['code']) == (400, 'CHECKSUM_MISMATCH')
    done, _ = device.one(made('bad', hashes[:1], metadata={'checksum_sha256': sha(b'else')}), 'SERVER_WINS')
    assert (done['status'], done['code']) == (400, 'CHECKSUM_MISMATCH')


def test_names(alice, share):
    device = Device(alice, share)
    h, = sent(alice, share, b'x')
    device.apply([made('a', [h])], 'SERVER_WINS')
    done, _ = device.one(made('A', [h]), 'SERVER_WINS')
    assert (done['status'], done['code']) == (409, 'NAME_CONFLICT')
    done, _ = device.one(made('a', [h]), 'KEEP_BOTH')
    assert (done['status'], done['name']) == ('renamed', 'a (2)')
    done, _ = device.one(made('..', [h]), 'KEEP_BOTH')
    assert done['code'] == 'NAME_INVALID'


def test_folder_and_files_of_it_in_one_request(alice, share):
    device = Device(alice, share)
    h, = sent(alice, share, b'inside')
    answer = device.apply([{'resource_type': 'folder', 'change_type': 'created', 'new_path': '/new'},
                           {'resource_type': 'file', 'change_type': 'created', 'new_path': '/new/f', 'chunks': [h]},
                           {'resource_type': 'file', 'change_type': 'created', 'new_path': '/new/g', 'chunks': [h]}], 'SERVER_WINS')
    assert [alice.ok('GET', f'{V1}/files/{a["resource_id"]}')['path'] for a in answer['applied'][1:]] == ['/new/f', '/new/g']


@pytest.mark.parametrize('resolution, status', [(None, None), ('KEEP_BOTH', 'conflict'), ('SERVER_WINS', 'conflict'),
                                                ('LAST_WRITER_WINS', 'applied'), ('CLIENT_WINS', 'applied')])
def test_edit_on_a_stale_base(alice, share, resolution, status):
    device = Device(alice, share)
    f = alice.make_file(share['id'], 'doc.txt', b'one')
    base = f['version_id']
    replaced(alice, f, b'two', base=base)
    h, = sent(alice, share, b'three')
    change = edited(f, base, [h])
    if resolution is None:
        refused(device.send([change]), 409, 'SYNC_VERSION_STALE')
        assert alice.content(f['id']) == b'two'
        return
    done, conflict = device.one(change, resolution)
    assert done['status'] == status and (conflict is not None)
    assert alice.content(f['id']) == (b'three' if status == 'applied' else b'two')


def test_edit(alice, share):
    device = Device(alice, share)
    f = alice.make_file(share['id'], 'doc.txt', b'one')
    h, = sent(alice, share, b'two')
    change = edited(f, f['version_id'], [h], op_id=unique())
    done, _ = device.one(change)
    assert (done['status'], done['version']) == ('applied', 2) and alice.content(f['id']) == b'two'
    again, _ = device.one(change)
    assert (again['status'], again['version_id']) == ('duplicate', done['version_id'])
    done, _ = device.one(edited(f, done['version_id'], [h]))
    assert (done['status'], done['version']) == ('noop', 2)


def test_edit_with_chunks_of_its_base(alice, share):
    """Only what changed is sent."""
    device = Device(alice, share)
    content = os.urandom(1_000_000)
    f = alice.make_file(share['id'], content=content)
    chunks = [c['hash'] for c in recipe(alice, f)['chunks']]
    hashes = chunks[:2] + [sha(b'middle')] + chunks[3:]
    assert missing(alice, share, hashes, [f['version_id']]) == [2]
    done, _ = device.one(edited(f, f['version_id'], hashes, sources=[f['version_id']]), 'SERVER_WINS')
    assert (done['status'], done['code']) == (409, 'CHUNK_MISSING')
    sent(alice, share, b'middle')
    assert missing(alice, share, hashes, [f['version_id']]) == []
    done, _ = device.one(edited(f, f['version_id'], hashes, sources=[f['version_id']]), 'SERVER_WINS')
    assert done['status'] == 'applied'
    cut = recipe(alice, f)['chunks']
    assert [c['hash'] for c in cut] == hashes
    assert alice.content(f['id'])[cut[2]['offset']:][:6] == b'middle'


def test_content_of_a_version(alice, bob, share):
    device = Device(alice, share)
    content = os.urandom(700_000)
    f = alice.make_file(share['id'], content=content)
    done, _ = device.one({'resource_type': 'file', 'change_type': 'created', 'new_path': '/copy', 'source_version_id': f['version_id'],
                          'metadata': {'checksum_sha256': sha(content)}}, 'SERVER_WINS')
    assert done['status'] == 'applied' and alice.content(done['resource_id']) == content
    wrong, _ = device.one({'resource_type': 'file', 'change_type': 'created', 'new_path': '/copy2', 'source_version_id': f['version_id'],
                           'metadata': {'checksum_sha256': sha(b'')}}, 'SERVER_WINS')
    assert wrong['code'] == 'CHECKSUM_MISMATCH'


def test_quota(admin):
    share = admin.make_share(quota_bytes=1000)
    device = Device(admin, share)
    refused(send(admin, share, b'x' * 2000), 507, 'QUOTA_EXCEEDED')
    refused(send(admin, share, raw=iter([frame(b'x' * 2000)])), 507, 'QUOTA_EXCEEDED')
    h, = sent(admin, share, b'x' * 600)
    answer = device.apply([made('a', [h]), made('b', [h])], 'SERVER_WINS')
    assert len(answer['applied']) == 1 and answer['errors'][0]['code'] == 'QUOTA_EXCEEDED'


def test_bad_changes(alice, share):
    device = Device(alice, share)
    h, = sent(alice, share, b'x')
    f = alice.make_file(share['id'])
    folder = alice.make_folder(share['id'])
    for change in (made('n', [h], resource_id=f['id']), {**edited(f, f['version_id'], [h]), 'version_id': f['version_id']},
                   made('n', [h], version_id=f['version_id']), made('n', [h], source_version_id=f['version_id']),
                   {**edited(f, f['version_id'], [h]), 'source_version_id': f['version_id']},
                   {**made('n', [h]), 'resource_type': 'folder'}, {**edited(f, f['version_id'], [h]), 'change_type': 'deleted'},
                   {**edited(f, f['version_id'], [h]), 'change_type': 'renamed', 'metadata': {'name': 'm'}},
                   {'resource_type': 'folder', 'resource_id': folder['id'], 'change_type': 'deleted', 'chunks': []}):
        done, _ = device.one(change, 'SERVER_WINS')
        assert (done['status'], done['code']) == (422, 'VALIDATION_ERROR'), (change, done)
    assert fields_of(device.send([made('n', [h] * 65)])) == {('body.changes.0.chunks', 'too_long')}
    assert refused(device.send([made('n', ['zz' * 32])]), 422, 'VALIDATION_ERROR')


def test_a_claimed_size_is_verified(alice, share):
    device = Device(alice, share)
    a, b = sent(alice, share, b'x' * 100, b'y' * 50)
    f = alice.make_file(share['id'], content=b'z' * 30)
    contents = [({'chunks': [a]}, 100), ({'chunks': [a, b]}, 150), ({'source_version_id': f['version_id']}, 30), ({'chunks': []}, 0)]
    for i, (content, size) in enumerate(contents):
        change = {'resource_type': 'file', 'change_type': 'created', **content}
        done, _ = device.one({**change, 'metadata': {'parent_id': None, 'name': f'wrong{i}', 'size': size + 1}}, 'SERVER_WINS')
        assert (done['status'], done['code']) == (400, 'CHECKSUM_MISMATCH'), done
        done, _ = device.one({**change, 'metadata': {'parent_id': None, 'name': f'right{i}', 'size': size}}, 'SERVER_WINS')
        assert done['status'] == 'applied' and done['name'] == f'right{i}', done


# ---- framing ----

@pytest.mark.parametrize('body, status, code', [
    (b'', 400, 'BAD_REQUEST'), (b'\0' * 35, 400, 'BAD_REQUEST'), (frame(b'good') + b'x', 400, 'BAD_REQUEST'),
    (frame(b''), 400, 'BAD_REQUEST'), (frame(b'x' * 10, length=11), 400, 'BAD_REQUEST'),
    (frame(b'', length=MAX + 1), 400, 'BAD_REQUEST'), (frame(b'', length=2**32 - 1), 400, 'BAD_REQUEST'),
    (frame(b'right', hashlib.sha256(b'wrong').digest()), 400, 'CHECKSUM_MISMATCH')])
def test_malformed_bodies(alice, share, body, status, code):
    refused(send(alice, share, raw=body), status, code)


def test_longest_chunk_and_repetition(alice, share):
    big = os.urandom(MAX)
    h = sent(alice, share, big, big, b'a', big)[0]
    sent(alice, share, big)
    done, _ = Device(alice, share).one(made('twice', [h, h]), 'SERVER_WINS')
    assert alice.content(done['resource_id']) == big + big


def test_body_in_pieces(alice, share):
    contents = [os.urandom(i * 37 % 9000 + 1) for i in range(300)]
    body = b''.join(frame(c) for c in contents)

    def pieces():
        at = 0
        while at < len(body):
            n = at % 4099 + 1
            yield body[at:at + n]
            at += n
    r = alice.post(f'{V1}/sync/chunks', params={'share_id': share['id']}, content=pieces())
    assert r.status_code == 200 and (r.json()['chunks'], r.json()['bytes']) == (300, sum(map(len, contents)))
    assert missing(alice, share, [sha(c) for c in contents]) == []


# ---- fetch ----

def test_fetch(alice, share):
    contents = [b'', b'one', os.urandom(500_000), os.urandom(10)]
    files = [alice.make_file(share['id'], content=c) for c in contents]
    gone = alice.make_file(share['id'])
    trash(alice, gone)
    items = [{'version_id': f['version_id']} for f in (*files, gone, files[1])]
    items.append({'version_id': 'ver_0000000000001'})
    got = fetch(alice, share, *items)
    assert [b''.join(g) if g is not None else None for g in got] == contents + [None, b'one', None]
    cut = [c['hash'] for c in recipe(alice, files[2])['chunks']]
    some = [cut[3], cut[0], cut[3]]
    assert [[sha(c) for c in g] for g in fetch(alice, share, {'version_id': files[2]['version_id'], 'chunks': some})] == [some]
    assert fetch(alice, share, {'version_id': files[2]['version_id'], 'chunks': [cut[0], sha(b'one')]}) == [None]
    assert fetch(alice, share) == []


def test_fetch_many(alice, share):
    device = Device(alice, share)
    contents = [b'%d' % i * 100 for i in range(1000)]
    done = device.apply([made(f'{i}', [h]) for i, h in enumerate(sent(alice, share, *contents))], 'SERVER_WINS')['applied']
    assert fetch(alice, share, *({'version_id': a['version_id']} for a in done)) == [[c] for c in contents]


def test_old_versions_can_be_fetched_and_are_sources(alice, share):
    f = alice.make_file(share['id'], content=b'old')
    replaced(alice, f, b'new', base=f['version_id'])
    assert fetch(alice, share, {'version_id': f['version_id']}) == [[b'old']]
    assert missing(alice, share, [sha(b'old'), sha(b'new')], [f['version_id']]) == [1]


# ---- a hash is never a key (D13) ----

@pytest.fixture
def secret(alice, share):
    """A file of alice that bob and others cannot read; its only chunk."""
    content = b'the secret of ' + unique().encode()
    f = alice.make_file(share['id'], 'secret.txt', content)
    assert [c['hash'] for c in recipe(alice, f)['chunks']] == [sha(content)]
    return f, content


@pytest.mark.parametrize('thief', ['bob', 'other'])
def test_a_hash_is_not_a_key(request, alice, share, secret, thief):
    """Whoever knows hash, size and ids of content that he may not read gets nothing by them, in any call."""
    thief = request.getfixturevalue(thief)
    mine, (f, content) = thief.make_share(), secret
    device, h = Device(thief, mine), sha(content)
    for sources in ([], [f['version_id']], ['ver_0000000000001']):
        assert missing(thief, mine, [h], sources) == [0]
        done, _ = device.one(made(unique(), [h], sources=sources, metadata={'checksum_sha256': h, 'size': len(content)}), 'SERVER_WINS')
        assert (done['status'], done['code']) == (409, 'CHUNK_MISSING')
    own = thief.make_file(mine['id'], 'own', b'own')
    done, _ = device.one(edited(own, own['version_id'], [h], sources=[own['version_id'], f['version_id']]), 'CLIENT_WINS')
    assert done['code'] == 'CHUNK_MISSING'
    done, _ = device.one({'resource_type': 'file', 'change_type': 'created', 'new_path': '/x', 'source_version_id': f['version_id']}, 'SERVER_WINS')
    assert (done['status'], done['code']) == (404, 'NOT_FOUND')
    unknown, _ = device.one({'resource_type': 'file', 'change_type': 'created', 'new_path': '/x', 'source_version_id': 'ver_0000000000001'}, 'SERVER_WINS')
    assert done['detail'].replace(f['version_id'], '') == unknown['detail'].replace('ver_0000000000001', ''), 'hidden is as unknown'
    assert fetch(thief, mine, {'version_id': f['version_id']}, {'version_id': own['version_id'], 'chunks': [h]}) == [None, None]
    # asking in the name of the share itself
    for path, body in (('missing', {'hashes': [h]}), ('fetch', {'items': [{'version_id': f['version_id']}]})):
        refused(thief.post(f'{V1}/sync/chunks/{path}', params={'share_id': share['id']}, json=body), 404, 'NOT_FOUND')
    refused(send(thief, share, b'x'), 404, 'NOT_FOUND')
    # a positive control: with the bytes it is his
    sent(thief, mine, content)
    assert missing(thief, mine, [h]) == []
    done, _ = device.one(made('own copy', [h]), 'SERVER_WINS')
    assert done['status'] == 'applied' and thief.content(done['resource_id']) == content


def test_chunks_that_another_sent_are_not_had(alice, bob, share):
    """Even in a share that both may write."""
    alice.add_member(share['id'], bob.me()['id'], 'contributor')
    content = unique().encode()
    h, = sent(alice, share, content)
    assert missing(alice, share, [h]) == [] and missing(bob, share, [h]) == [0]
    done, _ = Device(bob, share).one(made('stolen', [h]), 'SERVER_WINS')
    assert done['code'] == 'CHUNK_MISSING'
    # once it is a version that bob may read, naming that version is the way
    mine, _ = Device(alice, share).one(made('mine', [h]), 'SERVER_WINS')
    assert missing(bob, share, [h]) == [0] and missing(bob, share, [h], [mine['version_id']]) == []
    done, _ = Device(bob, share).one(made('copied', [h], sources=[mine['version_id']]), 'SERVER_WINS')
    assert done['status'] == 'applied'


def test_losing_the_right_to_read_loses_the_source(alice, bob, share):
    alice.add_member(share['id'], bob.me()['id'], 'reader')
    content = unique().encode()
    f = alice.make_file(share['id'], content=content)
    mine = bob.make_share()
    assert missing(bob, mine, [sha(content)], [f['version_id']]) == []
    alice.ok('DELETE', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}')
    assert missing(bob, mine, [sha(content)], [f['version_id']]) == [0]
    assert fetch(bob, mine, {'version_id': f['version_id']}) == [None]


def test_staged_versions_are_their_makers(alice, bob, share):
    alice.add_member(share['id'], bob.me()['id'], 'contributor')
    f = alice.make_file(share['id'], content=b'head')
    content = unique().encode()
    staged = replaced(alice, f, content, staged=True)['version_id']
    assert missing(bob, share, [sha(content)], [staged]) == [0]
    assert missing(alice, share, [sha(content)], [staged]) == []
    assert fetch(bob, share, {'version_id': staged}) == [None]


def test_an_expired_lease_is_none(private_server):
    """A lease ends after a day, by the server's database: it is set back there."""
    import sqlite3
    server = private_server()
    if server.engine != 'sqlite':
        pytest.skip('reaches into the SQLite file')
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = unique().encode()
    h, = sent(alice, share, content)
    assert missing(alice, share, [h]) == []
    server.stop()
    path = next(os.path.join(root, name) for root, _, names in os.walk(server.data) for name in names if name.endswith('.db'))
    with sqlite3.connect(path) as db:
        assert db.execute('update chunk_leases set expires_at = expires_at - 86400000001').rowcount == 1
    db.close()
    server.start()
    assert missing(alice, share, [h]) == [0]
    done, _ = Device(alice, share).one(made('late', [h]), 'SERVER_WINS')
    assert done['code'] == 'CHUNK_MISSING'
    sent(alice, share, content)  # sent again it is had again, and what was over is cleared away
    done, _ = Device(alice, share).one(made('late', [h]), 'SERVER_WINS')
    assert done['status'] == 'applied'


def test_leases_survive_a_crash(private_server):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    contents = [os.urandom(5000) for _ in range(200)]
    hashes = sent(alice, share, *contents)
    server.restart(hard=True)
    done = Device(alice, share).apply([made(f'{i}', [h]) for i, h in enumerate(hashes)], 'SERVER_WINS')['applied']
    assert [alice.content(a['resource_id']) for a in done] == contents


def test_readers_cannot_send(alice, bob, share):
    alice.add_member(share['id'], bob.me()['id'], 'reader')
    refused(send(bob, share, b'x'), 403, 'PERMISSION_DENIED')
