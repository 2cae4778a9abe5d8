"""Reading the log and the snapshot (D1, D2, D3)."""
import json
import random

import pytest
from helpers import V1, Device, file_of, head, mkdir, refused, replaced, since, snapshot, trash

CHANGE_FIELDS = {'id', 'tenant_id', 'share_id', 'resource_type', 'resource_id', 'change_type', 'changed_by', 'changed_at', 'old_path',
                 'new_path', 'version_id', 'metadata'}
METADATA_FIELDS = {'parent_id', 'name', 'size', 'mime_type', 'checksum_sha256', 'version', 'mtime', 'executable', 'device_id'}


def changes(api, **params):
    return api.ok('GET', f'{V1}/sync/changes', params=params)


# ---- cursors (D1) ----

def test_without_cursor_at_the_head(alice, share):
    alice.make_folder(share['id'])
    page = changes(alice, share_id=share['id'])
    assert page == {'changes': [], 'cursor': head(alice), 'has_more': False, 'share_id': share['id']}
    assert changes(alice)['share_id'] is None


def test_cursor_is_an_integer_or_its_decimals(alice, share):
    at = head(alice)
    assert isinstance(at, int)
    d = alice.make_folder(share['id'])
    for spelling in (at, str(at)):
        page = changes(alice, cursor=spelling, share_id=share['id'])
        assert [c['resource_id'] for c in page['changes']] == [d['id']] and isinstance(page['cursor'], int)


@pytest.mark.parametrize('bad', ['x', '-1', '1.5', '1e3', '0x10', '9007199254740992', '99999999999999999999', '9007199254740991', '+5', ' 5', '5 ', 'null'])
def test_bad_cursors(alice, share, bad):
    body = refused(alice.get(f'{V1}/sync/changes', params={'cursor': bad, 'share_id': share['id']}), 400, 'SYNC_CURSOR_INVALID')
    assert 'snapshot' in body['detail']


def test_empty_cursor(alice, share):
    r = alice.get(f'{V1}/sync/changes', params={'cursor': '', 'share_id': share['id']})
    assert r.status_code in (200, 400) and (r.status_code == 400 or r.json()['changes'] == [])


def test_cursor_from_the_future(alice, share):
    refused(alice.get(f'{V1}/sync/changes', params={'cursor': head(alice) + 1000, 'share_id': share['id']}), 400, 'SYNC_CURSOR_INVALID')


def test_from_the_beginning(alice, share):
    a = alice.make_folder(share['id'], 'a')
    f = alice.make_file(share['id'], 'f', b'1')
    got = alice.changes(share['id'], 0)[0]
    assert [c['resource_id'] for c in got if c['resource_type'] != 'share'] == [a['id'], f['id']]


def test_pages(alice, share):
    at = head(alice)
    made = [alice.make_folder(share['id'])['id'] for _ in range(7)]
    seen, cursor, pages = [], at, 0
    while True:
        page = changes(alice, cursor=cursor, share_id=share['id'], limit=3)
        assert len(page['changes']) <= 3 and page['cursor'] >= cursor
        seen += [c['resource_id'] for c in page['changes']]
        cursor, pages = page['cursor'], pages + 1
        if not page['has_more']:
            break
    assert seen == made and pages == 3
    assert changes(alice, cursor=cursor, share_id=share['id']) == {'changes': [], 'cursor': cursor, 'has_more': False, 'share_id': share['id']}
    assert [c['resource_id'] for c in alice.changes(share['id'], at, limit=1)[0]] == made


def test_has_more_is_exact(alice, share):
    at = head(alice)
    for _ in range(3):
        alice.make_folder(share['id'])
    assert changes(alice, cursor=at, share_id=share['id'], limit=3)['has_more'] is False


@pytest.mark.parametrize('bad', [0, -1, 5001, 'x', '1.5', ''])
def test_bad_limits(alice, share, bad):
    r = alice.get(f'{V1}/sync/changes', params={'cursor': 0, 'share_id': share['id'], 'limit': bad})
    assert r.status_code == 422 or bad == '', r.text


def test_the_cursor_moves_over_other_shares(alice, share):
    """A reader of a quiet share never stalls: the cursor is the last position scanned."""
    busy = alice.make_share()
    at = head(alice)
    for _ in range(30):
        alice.make_folder(busy['id'])
    seen, cursor = alice.changes(share['id'], at, limit=5)
    assert seen == [] and cursor >= at + 30


def test_a_cursor_of_another_share_is_valid(alice, share):
    there = alice.make_share()
    _, cursor = alice.changes(there['id'], 0)
    d = alice.make_folder(share['id'])
    assert since(alice, share, cursor) == [('created', d['id'])]


def test_without_share_all_that_are_readable(alice, bob, eve, shared):
    hidden = alice.make_share()
    at = head(alice)
    a, b = alice.make_folder(shared['id']), alice.make_folder(hidden['id'])
    ids = lambda api: {c['resource_id'] for c in api.changes(None, at)[0]}
    assert ids(alice) >= {a['id'], b['id']}
    assert a['id'] in ids(bob) and b['id'] not in ids(bob) and not {a['id'], b['id']} & ids(eve)


def test_other_tenants_count_for_themselves(alice, other, share):
    at = head(other)
    for _ in range(3):
        alice.make_folder(share['id'])
    assert head(other) == at
    assert all(c['tenant_id'] == other.me()['tenant_id'] for c in other.changes(None, 0)[0])


# ---- entries (D2) ----

def test_every_entry_has_all_fields(alice, share):
    at = head(alice)
    device = Device(alice, share)
    d = alice.make_folder(share['id'], 'D')
    f = alice.make_file(share['id'], 'x.pdf', b'12', d['id'], mtime='2020-01-02T03:04:05.5Z', executable=True, device_id=device.id)
    g = replaced(alice, f, b'123', base=f['version_id'])
    alice.ok('PATCH', f'{V1}/files/{f["id"]}', json={'name': 'y.pdf'})
    alice.ok('POST', f'{V1}/files/{f["id"]}/move', json={'target_share_id': share['id']})
    trash(alice, f)
    got = alice.changes(share['id'], at)[0]
    assert all(set(c) == CHANGE_FIELDS and METADATA_FIELDS <= set(c['metadata']) for c in got)
    assert all(c['changed_by'] == alice.me()['id'] and c['share_id'] == share['id'] for c in got)
    assert [(c['resource_type'], c['change_type'], c['old_path'], c['new_path']) for c in got] == [
        ('folder', 'created', None, '/D'), ('file', 'created', None, '/D/x.pdf'), ('file', 'updated', '/D/x.pdf', '/D/x.pdf'),
        ('file', 'renamed', '/D/x.pdf', '/D/y.pdf'), ('file', 'moved', '/D/y.pdf', '/y.pdf'), ('file', 'deleted', '/y.pdf', None)]
    folder, created, update, _, move, _ = got
    assert folder['version_id'] is None and folder['metadata']['parent_id'] is None and folder['metadata']['name'] == 'D'
    m = created['metadata']
    assert (m['parent_id'], m['name'], m['size'], m['mime_type'], m['checksum_sha256'], m['version'], m['executable'], m['device_id']) == (
        d['id'], 'x.pdf', 2, 'application/pdf', f['checksum_sha256'], 1, True, device.id)
    assert m['mtime'].startswith('2020-01-02T03:04:05.5') and created['version_id'] == f['version_id']
    assert update['version_id'] == g['version_id'] and update['metadata']['version'] == 2 and update['metadata']['size'] == 3
    assert move['metadata']['parent_id'] is None and move['metadata']['name'] == 'y.pdf'
    assert all(not c['metadata'].get('subtree') for c in got)
    assert [c['id'] for c in got] == sorted(c['id'] for c in got) and len({c['id'] for c in got}) == len(got)


def test_one_change_one_row(alice, share):
    """Every kind of write, and how many entries it leaves."""
    at = head(alice)
    f = alice.make_file(share['id'], 'f', b'1')
    d = alice.make_folder(share['id'], 'd')
    alice.ok('POST', f'{V1}/files/{f["id"]}/move', json={'target_folder_id': d['id'], 'name': 'moved and renamed'})
    alice.ok('PATCH', f'{V1}/files/{f["id"]}', json={'mtime': '2020-01-01T00:00:00Z', 'executable': True})
    assert since(alice, share, at) == [('created', f['id']), ('created', d['id']), ('moved', f['id']), ('updated', f['id'])]


# ---- snapshot (D3) ----

def test_snapshot(alice, share):
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x', b'12', d['id'], mtime='2020-01-02T03:04:05.123456Z', executable=True)
    gone = alice.make_file(share['id'], 'gone', b'1')
    trash(alice, gone)
    at = head(alice)
    nodes, cursor = snapshot(alice, share)
    assert cursor == at and nodes == {
        d['id']: {'id': d['id'], 'parent_id': None, 'type': 'folder', 'name': 'd', 'version_id': None, 'version': None, 'size': None,
                  'checksum_sha256': None, 'mtime': None, 'executable': False},
        f['id']: {'id': f['id'], 'parent_id': d['id'], 'type': 'file', 'name': 'x', 'version_id': f['version_id'], 'version': 1, 'size': 2,
                  'checksum_sha256': f['checksum_sha256'], 'mtime': '2020-01-02T03:04:05.123456Z', 'executable': True}}


def test_snapshot_of_an_empty_share(alice, share):
    page = alice.ok('GET', f'{V1}/sync/snapshot', params={'share_id': share['id']})
    assert page == {'nodes': [], 'cursor': head(alice), 'page_token': None, 'has_more': False, 'share_id': share['id'],
                    'restores': []}


def test_snapshot_of_a_folder(alice, share):
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    f = alice.make_file(share['id'], 'x', b'1', b['id'])
    alice.make_file(share['id'], 'y', b'1')
    for limit in (1, 1000):
        nodes, _ = snapshot(alice, share, folder_id=a['id'], limit=limit)
        assert set(nodes) - {a['id']} == {b['id'], f['id']}
        assert set(snapshot(alice, share, folder_id=b['id'], limit=limit)[0]) - {b['id']} == {f['id']}


def test_snapshot_pages_while_all_is_moving(alice, share):
    """Whatever happens between two pages, snapshot plus the changes from its cursor is the tree."""
    device = Device(alice, share)
    chance = random.Random(7)
    device.apply([mkdir(f'/d{i}') for i in range(40)], 'KEEP_BOTH')
    tree = {n['id']: n for n in snapshot(alice, share)[0].values()}
    got, token, cursor = {}, None, None
    while True:
        page = alice.ok('GET', f'{V1}/sync/snapshot', params={'share_id': share['id'], 'limit': 5, **({'page_token': token} if token else {})})
        cursor = page['cursor']
        got |= {n['id']: n for n in page['nodes']}
        one, two = chance.sample(sorted(tree), 2)
        alice.post(f'{V1}/folders/{one}/move', json={'target_folder_id': two})  # may be refused: a cycle
        alice.patch(f'{V1}/folders/{two}', json={'name': f'renamed {len(got)}'})
        gone = chance.choice(sorted(tree))
        alice.delete(f'{V1}/folders/{gone}')
        alice.make_folder(share['id'], f'new {len(got)}')
        token = page['page_token']
        if not token:
            break
    for c in alice.changes(share['id'], cursor)[0]:
        if c['resource_type'] == 'share':
            continue
        if c['change_type'] == 'deleted':
            doomed = {c['resource_id']}
            while True:  # a folder takes what lies below it
                more = {i for i, n in got.items() if n['parent_id'] in doomed} - doomed
                if not more:
                    break
                doomed |= more
            got = {i: n for i, n in got.items() if i not in doomed}
        else:
            got[c['resource_id']] = {'id': c['resource_id'], 'parent_id': c['metadata']['parent_id'], 'name': c['metadata']['name']}
    now = snapshot(alice, share)[0]
    place = lambda nodes: {i: (n['parent_id'], n['name']) for i, n in nodes.items()}
    assert place(got) == place(now)


def test_bad_page_tokens(alice, share):
    for i in range(3):
        alice.make_folder(share['id'], f'd{i}')
    a = alice.make_folder(share['id'], 'a')
    token = alice.ok('GET', f'{V1}/sync/snapshot', params={'share_id': share['id'], 'limit': 1})['page_token']
    assert token
    there = alice.make_share()
    get = lambda **params: alice.get(f'{V1}/sync/snapshot', params=params)
    assert get(share_id=there['id'], page_token=token).status_code == 400
    assert get(share_id=share['id'], folder_id=a['id'], page_token=token).status_code == 400
    for bad in ('x', token + 'x', '\u20ac', '0', '-1.5', token.replace('.', ',')):
        assert get(share_id=share['id'], page_token=bad).status_code == 400, bad
    assert get(share_id=share['id'], page_token='x' * 513).status_code == 422


def test_snapshot_refuses(alice, share):
    get = lambda **params: alice.get(f'{V1}/sync/snapshot', params=params)
    assert get().status_code == 422
    refused(get(share_id='shr_0000000000001'), 404, 'NOT_FOUND')
    refused(get(share_id=share['id'], folder_id='fld_0000000000001'), 404, 'NOT_FOUND')
    refused(get(share_id=share['id'], folder_id=alice.make_folder(alice.make_share()['id'])['id']), 404, 'NOT_FOUND')
    gone = alice.make_folder(share['id'])
    trash(alice, gone)
    refused(get(share_id=share['id'], folder_id=gone['id']), 410, 'GONE')
    for bad in (0, -1, 10001, 'x'):
        assert get(share_id=share['id'], limit=bad).status_code == 422


# ---- status and cursor ----

def test_status(alice, share):
    device = Device(alice, share)
    params = {'share_id': share['id'], 'device_id': device.id}
    at = head(alice)
    status = lambda: alice.ok('GET', f'{V1}/sync/status', params=params)
    assert status() == {'cursor_position': at, 'last_sync_at': None, 'pending_changes': 0, 'has_conflicts': False}  # made at the head
    for i in range(3):
        alice.make_folder(share['id'])
    alice.make_folder(alice.make_share()['id'])
    s = status()
    assert (s['cursor_position'], s['pending_changes']) == (at, 3)  # of this share alone
    r = alice.ok('POST', f'{V1}/sync/cursor', 200, params={**params, 'position': at + 2})
    assert r['cursor_position'] == at + 2 and r['last_sync_at']
    assert (status()['pending_changes'], status()['last_sync_at']) == (1, r['last_sync_at'])


def test_the_cursor_never_goes_back(alice, share):
    device = Device(alice, share)
    alice.make_folder(share['id'])
    at = head(alice)
    post = lambda position: alice.post(f'{V1}/sync/cursor', params={'share_id': share['id'], 'device_id': device.id, 'position': position})
    assert post(at).json()['cursor_position'] == at
    for older in (at, at - 1, 0):
        r = post(older)
        assert (r.status_code, r.json()['cursor_position']) == (200, at)
    for bad in (at + 1000, -1, 'x', 2 ** 53, 10 ** 30):
        refused(post(bad), 400, 'SYNC_CURSOR_INVALID')
    assert post(at).json()['cursor_position'] == at


@pytest.mark.parametrize('method, path', [('GET', 'status'), ('POST', 'cursor')])
def test_status_and_cursor_refuse(alice, bob, shared, method, path):
    device, his = Device(alice, shared), Device(bob, shared)
    ask = lambda api, **params: api.request(method, f'{V1}/sync/{path}', params={'share_id': shared['id'], 'device_id': device.id, 'position': 0, **params})
    assert ask(alice).status_code == 200
    refused(ask(alice, device_id='unknown'), 404, 'NOT_FOUND')
    refused(ask(alice, device_id=his.id), 404, 'NOT_FOUND')  # another user's (D23)
    refused(ask(alice, share_id='shr_0000000000001'), 404, 'NOT_FOUND')
    assert ask(alice, device_id='').status_code == 422 and ask(alice, share_id='nonsense').status_code == 422


def test_two_devices_have_two_cursors(alice, share):
    one, two = Device(alice, share), Device(alice, share)
    position = lambda d: alice.ok('GET', f'{V1}/sync/status', params={'share_id': share['id'], 'device_id': d.id})['cursor_position']
    start = position(one), position(two)
    alice.make_folder(share['id'])
    alice.ok('POST', f'{V1}/sync/cursor', params={'share_id': share['id'], 'device_id': one.id, 'position': start[0] + 1})
    assert (position(one), position(two)) == (start[0] + 1, start[1])


def test_a_restart_changes_nothing(private_server):
    server = private_server()
    api = server.client('admin@example.com')
    share = api.make_share()
    f = api.make_file(share['id'], 'x', b'1')
    before, cursor = api.changes(None, 0)
    server.restart(hard=True)
    assert api.changes(None, 0) == (before, cursor)
    replaced(api, f, b'2', base=f['version_id'])
    after, more = api.changes(None, cursor)
    assert more == cursor + 1 and len(after) == 1 and after[0]['id'] > before[-1]['id']
    assert file_of(api, f)['version'] == 2


def test_metadata_is_an_object_not_text(alice, share):
    alice.make_file(share['id'], 'quote " and \\ and \u2028.txt', b'1')
    (c,) = [c for c in alice.changes(share['id'], 0)[0] if c['resource_type'] == 'file']
    assert json.loads(json.dumps(c['metadata']))['name'] == 'quote " and \\ and \u2028.txt' and c['new_path'] == '/quote " and \\ and \u2028.txt'
