"""Folders: make, read, list, rename, move, trash, restore."""
import pytest
from helpers import V1, children, fields_of, file_of, head, names, refused, since, snapshot, trash


def test_create(alice, share):
    a = alice.ok('POST', f'{V1}/folders', 201, json={'share_id': share['id'], 'name': 'A'})
    b = alice.ok('POST', f'{V1}/folders', 201, json={'share_id': share['id'], 'name': 'B', 'parent_id': a['id']})
    me = alice.me()['id']
    assert (a['parent_id'], a['path'], a['name'], a['is_deleted']) == (None, '/A', 'A', False)
    assert (b['parent_id'], b['path']) == (a['id'], '/A/B') and a['owner_id'] == a['created_by'] == me
    assert alice.ok('GET', f'{V1}/folders/{b["id"]}') == b
    refused(alice.post(f'{V1}/folders', json={'share_id': share['id'], 'name': 'a'}), 409, 'NAME_CONFLICT')
    assert alice.make_folder(share['id'], 'a', b['id'])['path'] == '/A/B/a'


@pytest.mark.parametrize('alias', ['parent_id', 'folder_id', 'parent_folder_id'])
def test_aliases(alice, share, alias):
    a = alice.make_folder(share['id'], 'A')
    assert alice.ok('POST', f'{V1}/folders', json={'share_id': share['id'], 'name': 'B', alias: a['id']})['parent_id'] == a['id']


def test_create_refuses(alice, share):
    post = lambda **body: alice.post(f'{V1}/folders', json=body)
    assert fields_of(post()) == {('body.name', 'missing'), ('body.share_id', 'missing')}
    refused(post(name='x', share_id='shr_0000000000001'), 404, 'NOT_FOUND')
    refused(post(name='x', share_id=share['id'], parent_id='fld_0000000000001'), 404, 'NOT_FOUND')
    elsewhere = alice.make_folder(alice.make_share()['id'], 'x')
    refused(post(name='x', share_id=share['id'], parent_id=elsewhere['id']), 404, 'NOT_FOUND')  # of another share
    gone = alice.make_folder(share['id'], 'gone')
    trash(alice, gone)
    refused(post(name='x', share_id=share['id'], parent_id=gone['id']), 410, 'GONE')
    f = alice.make_file(share['id'])
    assert post(name='x', share_id=share['id'], parent_id=f['id']).status_code == 422
    assert children(alice, share) == [n for n in children(alice, share) if n['id'] == f['id']]


def test_children(alice, share):
    d = alice.make_folder(share['id'], 'b-folder')
    alice.make_folder(share['id'], 'A-folder')
    f = alice.make_file(share['id'], 'a.pdf', b'12')
    alice.make_file(share['id'], 'C.txt', b'')
    inside = alice.make_file(share['id'], 'x', b'1', d['id'])
    page = alice.ok('GET', f'{V1}/folders/root/children', params={'share_id': share['id']})
    assert [(n['type'], n['name']) for n in page['items']] == [('folder', 'A-folder'), ('folder', 'b-folder'), ('file', 'a.pdf'), ('file', 'C.txt')]
    assert (page['path'], page['total']) == ('/', 4)
    item = page['items'][2]
    assert (item['id'], item['size'], item['mime_type'], item['version'], item['version_id'], item['checksum_sha256']) == (
        f['id'], 2, 'application/pdf', 1, f['version_id'], f['checksum_sha256'])
    assert all(page['items'][0][k] is None for k in ('size', 'mime_type', 'version', 'version_id', 'checksum_sha256'))
    assert alice.ok('GET', f'{V1}/shares/{share["id"]}/children') == page  # the same answer
    below = alice.ok('GET', f'{V1}/folders/{d["id"]}/children', params={'share_id': share['id']})
    assert (names(below['items']), below['path'], below['items'][0]['id']) == (['x'], '/b-folder', inside['id'])
    assert alice.ok('GET', f'{V1}/folders/{d["id"]}/children') == below  # the folder knows its share
    for path in (f'{V1}/folders/root/children', f'{V1}/shares/{share["id"]}/children'):
        part = alice.ok('GET', path, params={'share_id': share['id'], 'limit': 2, 'offset': 1})
        assert (names(part['items']), part['total']) == (['b-folder', 'a.pdf'], 4)


def test_children_refuses(alice, share):
    get = lambda folder, **params: alice.get(f'{V1}/folders/{folder}/children', params=params)
    assert get('root').status_code == 422  # which share?
    refused(get('root', share_id='shr_0000000000001'), 404, 'NOT_FOUND')
    refused(get('fld_0000000000001', share_id=share['id']), 404, 'NOT_FOUND')
    d = alice.make_folder(share['id'])
    refused(get(d['id'], share_id=alice.make_share()['id']), 404, 'NOT_FOUND')
    for bad in ({'limit': 0}, {'limit': 10001}, {'offset': -1}, {'include_deleted': 'x'}):
        assert get(d['id'], **bad).status_code == 422, bad


def test_rename(alice, share):
    a = alice.make_folder(share['id'], 'A')
    f = alice.make_file(share['id'], 'x', b'1', alice.make_folder(share['id'], 'B', a['id'])['id'])
    at = head(alice)
    assert alice.ok('PATCH', f'{V1}/folders/{a["id"]}', json={'name': 'Z'})['path'] == '/Z'
    assert file_of(alice, f)['path'] == '/Z/B/x'
    got = alice.changes(share['id'], at)[0]
    assert [(c['change_type'], c['resource_type'], c['old_path'], c['new_path']) for c in got] == [('renamed', 'folder', '/A', '/Z')]  # one row
    at = head(alice)
    alice.ok('PATCH', f'{V1}/folders/{a["id"]}', json={'name': 'Z'})
    alice.ok('PATCH', f'{V1}/folders/{a["id"]}', json={})
    assert since(alice, share, at) == []
    alice.make_folder(share['id'], 'taken')
    refused(alice.patch(f'{V1}/folders/{a["id"]}', json={'name': 'TAKEN'}), 409, 'NAME_CONFLICT')


def test_move(alice, share):
    a, b = alice.make_folder(share['id'], 'a'), alice.make_folder(share['id'], 'b')
    c = alice.make_folder(share['id'], 'c', a['id'])
    f = alice.make_file(share['id'], 'x', b'1', c['id'])
    at = head(alice)
    m = alice.ok('POST', f'{V1}/folders/{a["id"]}/move', 200, json={'target_folder_id': b['id']})
    assert (m['id'], m['parent_id'], m['path']) == (a['id'], b['id'], '/b/a') and file_of(alice, f)['path'] == '/b/a/c/x'
    assert since(alice, share, at) == [('moved', a['id'])]  # one row, however much is below
    m = alice.ok('POST', f'{V1}/folders/{c["id"]}/move', 200, json={'target_share_id': share['id'], 'name': 'top'})
    assert (m['parent_id'], m['path']) == (None, '/top')


def test_no_cycles(alice, share):
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    c = alice.make_folder(share['id'], 'c', b['id'])
    at = head(alice)
    for target in (a, b, c):
        refused(alice.post(f'{V1}/folders/{a["id"]}/move', json={'target_folder_id': target['id']}), 409, 'MOVE_CYCLE')
    assert since(alice, share, at) == [] and alice.ok('GET', f'{V1}/folders/{c["id"]}')['path'] == '/a/b/c'


def test_move_across_shares(alice, share):
    there = alice.make_share()
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    f = alice.make_file(share['id'], 'x', b'12345', b['id'])
    at = head(alice)
    alice.ok('POST', f'{V1}/folders/{a["id"]}/move', 200, json={'target_share_id': there['id']})
    assert since(alice, share, at) == [('deleted', a['id'])]
    (created,) = alice.changes(there['id'], at)[0]
    assert (created['change_type'], created['resource_id'], created['metadata']['subtree']) == ('created', a['id'], True)
    nodes, _ = snapshot(alice, there, folder_id=a['id'])
    assert {n['name'] for n in nodes.values()} >= {'b', 'x'} and nodes[f['id']]['version_id'] == f['version_id']
    assert file_of(alice, f)['share_id'] == there['id'] and alice.content(f['id']) == b'12345'
    assert [alice.ok('GET', f'{V1}/shares/{s["id"]}')['used_bytes'] for s in (share, there)] == [0, 5]
    assert snapshot(alice, share)[0] == {}


def test_trash_is_one_row(alice, share):
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    f = alice.make_file(share['id'], 'x', b'1', b['id'])
    at = head(alice)
    trash(alice, a)
    trash(alice, a)  # again
    assert since(alice, share, at) == [('deleted', a['id'])] and snapshot(alice, share)[0] == {}
    for path in (f'folders/{a["id"]}', f'folders/{b["id"]}', f'files/{f["id"]}', f'files/{f["id"]}/content', f'folders/{b["id"]}/children'):
        refused(alice.get(f'{V1}/{path}'), 410, 'GONE')
    shown = {'include_deleted': 'true'}
    assert alice.ok('GET', f'{V1}/folders/{b["id"]}', params=shown)['is_deleted'] is True
    assert names(alice.ok('GET', f'{V1}/folders/{b["id"]}/children', params=shown)['items']) == ['x']
    assert alice.content(f['id'], params=shown) == b'1'


@pytest.mark.parametrize('body', [{'restore': True}, {'is_deleted': False}])
def test_restore_brings_all_back(alice, share, body):
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    f = alice.make_file(share['id'], 'x', b'1', b['id'])
    before = alice.make_file(share['id'], 'trashed before', b'2', b['id'])
    trash(alice, before)
    trash(alice, a)
    at = head(alice)
    alice.ok('PATCH', f'{V1}/folders/{a["id"]}', json=body)
    (entry,) = alice.changes(share['id'], at)[0]
    assert (entry['change_type'], entry['resource_id'], entry['metadata']['subtree']) == ('created', a['id'], True)
    assert set(snapshot(alice, share)[0]) == {a['id'], b['id'], f['id']} and alice.content(f['id']) == b'1'
    refused(alice.get(f'{V1}/files/{before["id"]}'), 410, 'GONE')  # it was trashed by itself


def test_permanent(alice, share):
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    f = alice.make_file(share['id'], 'x', b'12345', b['id'])
    at = head(alice)
    alice.ok('DELETE', f'{V1}/folders/{a["id"]}', 204, params={'permanent': 'true'})
    assert since(alice, share, at) == [('deleted', a['id'])]
    for path in (f'folders/{a["id"]}', f'folders/{b["id"]}', f'files/{f["id"]}'):
        refused(alice.get(f'{V1}/{path}', params={'include_deleted': 'true'}), 404, 'NOT_FOUND')
    assert alice.ok('GET', f'{V1}/shares/{share["id"]}')['used_bytes'] == 0


def test_the_root_stays(alice, share):
    """The root has no id in the API; the word is for listing alone."""
    for r in (alice.get(f'{V1}/folders/root'), alice.delete(f'{V1}/folders/root'), alice.patch(f'{V1}/folders/root', json={'name': 'x'}),
              alice.post(f'{V1}/folders/root/move', json={'target_share_id': share['id']})):
        assert r.status_code in (404, 422), r.text


def test_depth_is_bounded(alice, share):
    device = alice.register_device()['device_id']
    path = ''
    for start in range(0, 130, 26):
        changes = []
        for _ in range(26):
            path += '/d'
            changes.append({'resource_type': 'folder', 'change_type': 'created', 'new_path': path})
        answer = alice.apply(share['id'], device, changes, 'KEEP_BOTH').json()
    deepest = max(n['path'].count('/') for n in [alice.ok('GET', f'{V1}/folders/{i}') for i in list(snapshot(alice, share)[0])[-1:]])
    assert answer['errors'] and 100 <= deepest <= 128, (deepest, answer['errors'][:1])
