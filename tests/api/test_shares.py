"""Shares, members and the four roles."""
import time

import pytest
from helpers import V1, children, fields_of, head, names, refused, replace, since, trash
from support import unique


def member(api, share, user_id, role='contributor', **more):
    return api.post(f'{V1}/shares/{share["id"]}/members', json={'principal_type': 'user', 'principal_id': user_id, 'role': role, **more})


def set_role(api, share, user_id, role):
    return api.patch(f'{V1}/shares/{share["id"]}/members/{user_id}', json={'role': role})


# ---- the share itself ----

def test_create(alice):
    r = alice.post(f'{V1}/shares', json={'name': 'Plans', 'share_type': 'project', 'description': 'What we plan', 'quota_bytes': 10 ** 9})
    s = r.json()
    assert r.status_code == 201 and (s['name'], s['share_type'], s['description'], s['quota_bytes']) == ('Plans', 'project', 'What we plan', 10 ** 9)
    assert (s['owner_id'], s['used_bytes'], s['is_deleted'], s['is_public'], s['settings']) == (alice.me()['id'], 0, False, False, {})
    assert alice.ok('GET', f'{V1}/shares/{s["id"]}') == s
    assert [(m['principal_id'], m['role']) for m in alice.ok('GET', f'{V1}/shares/{s["id"]}/members')['members']] == [(alice.me()['id'], 'owner')]
    plain = alice.ok('POST', f'{V1}/shares', json={'name': 'x', 'share_type': 'central'})
    assert (plain['description'], plain['quota_bytes']) == (None, None)


def test_create_refuses(alice, bob, admin, other):
    post = lambda api, **body: api.post(f'{V1}/shares', json={'name': unique(), 'share_type': 'project', **body})
    assert fields_of(alice.post(f'{V1}/shares', json={})) == {('body.name', 'missing'), ('body.share_type', 'missing')}
    for bad in ({'name': ''}, {'name': 'x' * 256}, {'share_type': 'secret'}, {'quota_bytes': -1}, {'quota_bytes': 'x'}, {'quota_bytes': 1.5},
                {'quota_bytes': 2 ** 63}, {'description': 'x' * 4097}, {'owner_id': 'x'}, {'owner_id': 'fil_0000000000001'}):
        assert post(alice, **bad).status_code == 422, bad
    refused(post(alice, owner_id=bob.me()['id']), 403, 'PERMISSION_DENIED')
    assert post(admin, owner_id=bob.me()['id']).json()['owner_id'] == bob.me()['id']
    assert post(admin, owner_id=other.me()['id']).status_code in (403, 404, 422)


def test_list(alice, bob, eve, admin, other):
    s = alice.make_share('zz ' + unique())
    ids = lambda api, **params: [x['id'] for x in api.ok('GET', f'{V1}/shares', params={'limit': 100, **params})['shares']]

    def everything(api):
        out, offset = [], 0
        while True:
            page = api.ok('GET', f'{V1}/shares', params={'limit': 100, 'offset': offset})
            out += page['shares']
            offset += 100
            if offset >= page['total']:
                assert len(out) == page['total']
                return [x['id'] for x in out]
    assert s['id'] in everything(alice) and s['id'] in everything(admin)
    assert s['id'] not in everything(bob) + everything(eve) + everything(other)
    one = alice.ok('GET', f'{V1}/shares', params={'limit': 1, 'offset': 0})
    assert len(one['shares']) == 1 and one['total'] >= 1
    for bad in ({'limit': 0}, {'limit': 101}, {'offset': -1}, {'offset': 10 ** 10}, {'include_trashed': 'x'}):
        assert alice.get(f'{V1}/shares', params=bad).status_code == 422, bad


def test_my_shares(alice, bob, admin):
    s = alice.make_share()
    alice.add_member(s['id'], bob.me()['id'], 'reader')
    find = lambda api: [x for x in api.ok('GET', f'{V1}/users/me/shares', params={'limit': 100, 'offset': max(0, api.ok('GET', f'{V1}/users/me/shares')['total'] - 100)})['shares'] if x['id'] == s['id']]
    assert [x['role'] for x in find(alice)] == ['owner'] and find(alice)[0]['type'] == 'project'
    assert [x['role'] for x in find(bob)] == ['reader'] and find(admin) == []


def test_patch(alice, admin, share):
    path = f'{V1}/shares/{share["id"]}'
    at = head(alice)
    s = alice.ok('PATCH', path, json={'name': 'New', 'description': 'd'})
    assert (s['name'], s['description']) == ('New', 'd')
    assert alice.ok('PATCH', path, json={'description': ''})['description'] is None
    entries = alice.changes(share['id'], at)[0]
    assert entries and all(c['resource_type'] == 'share' and c['resource_id'] == share['id'] for c in entries)
    refused(alice.patch(path, json={'quota_bytes': 5}), 403, 'PERMISSION_DENIED')  # takes an administrator of the tenant
    assert admin.ok('PATCH', path, json={'quota_bytes': 5})['quota_bytes'] == 5
    assert admin.ok('PATCH', path, json={'name': 'Newer'})['quota_bytes'] == 5
    for bad in ({'name': ''}, {'name': 'x' * 256}, {'quota_bytes': -1}, {'description': 7}):
        assert alice.patch(path, json=bad).status_code == 422, bad


def test_delete(alice, bob, shared):
    f = alice.make_file(shared['id'], 'x', b'1')
    at = head(alice)
    path = f'{V1}/shares/{shared["id"]}'
    alice.ok('DELETE', path, 204)
    alice.ok('DELETE', path, 204)  # again
    for api in (alice, bob):
        assert api.get(path).status_code == 410
        assert api.get(f'{V1}/files/{f["id"]}').status_code in (404, 410)
        assert api.get(f'{V1}/folders/root/children', params={'share_id': shared['id']}).status_code in (404, 410)
        assert api.upload(shared['id'], 'y', b'1').status_code in (404, 410)
        assert shared['id'] not in [s['id'] for s in api.ok('GET', f'{V1}/users/me/shares', params={'limit': 100})['shares']]
    total = alice.ok('GET', f'{V1}/shares', params={'include_trashed': 'true'})['total']
    page = alice.ok('GET', f'{V1}/shares', params={'include_trashed': 'true', 'limit': 100, 'offset': max(0, total - 100)})
    pages = page['shares'] + (alice.ok('GET', f'{V1}/shares', params={'include_trashed': 'true', 'limit': 100})['shares'] if total > 100 else [])
    assert [s['is_deleted'] for s in pages if s['id'] == shared['id']][:1] == [True]
    assert ('deleted', shared['id']) in [(c['change_type'], c['resource_id']) for c in alice.changes(None, at)[0]]


# ---- members ----

def test_members(alice, bob, eve, share):
    me, his = alice.me(), bob.me()
    r = member(alice, share, his['id'], 'reader')
    m = r.json()
    assert r.status_code == 201 and (m['principal_type'], m['principal_id'], m['role'], m['email'], m['added_by'], m['expires_at']) == (
        'user', his['id'], 'reader', 'bob@example.com', me['id'], None)
    refused(member(alice, share, his['id'], 'admin'), 409, 'CONFLICT')
    page = alice.ok('GET', f'{V1}/shares/{share["id"]}/members')
    assert [x['principal_id'] for x in page['members']] == [me['id'], his['id']] and page['total'] == 2  # as they were added
    part = alice.ok('GET', f'{V1}/shares/{share["id"]}/members', params={'limit': 1, 'offset': 1})
    assert [x['principal_id'] for x in part['members']] == [his['id']] and part['total'] == 2
    assert set_role(alice, share, his['id'], 'contributor').json()['role'] == 'contributor'
    alice.ok('DELETE', f'{V1}/shares/{share["id"]}/members/{his["id"]}', 204)
    refused(bob.get(f'{V1}/shares/{share["id"]}'), 404, 'NOT_FOUND')
    refused(set_role(alice, share, his['id'], 'reader'), 404, 'NOT_FOUND')
    refused(set_role(alice, share, eve.me()['id'], 'reader'), 404, 'NOT_FOUND')


def test_members_refuse(alice, bob, other, share):
    refused(member(alice, share, 'usr_0000000000001'), 404, 'NOT_FOUND')
    refused(member(alice, share, other.me()['id']), 404, 'NOT_FOUND')  # of another tenant
    post = lambda **body: alice.post(f'{V1}/shares/{share["id"]}/members', json=body)
    assert fields_of(post()) == {('body.principal_type', 'missing'), ('body.principal_id', 'missing'), ('body.role', 'missing')}
    for bad in ({'role': 'king'}, {'principal_type': 'robot'}, {'principal_type': 'group'}, {'principal_id': 'x'}, {'expires_at': 'tomorrow'}):
        assert post(**{'principal_type': 'user', 'principal_id': bob.me()['id'], 'role': 'reader', **bad}).status_code == 422, bad
    refused(post(principal_type='group', principal_id='grp_0000000000001', role='reader'), 404, 'NOT_FOUND')
    for bad in ('x', 'fil_0000000000001', 'usr_'):
        assert alice.delete(f'{V1}/shares/{share["id"]}/members/{bad}').status_code in (404, 422)


def test_the_last_owner_stays(alice, bob, admin, share):
    me = alice.me()['id']
    for role in ('admin', 'contributor', 'reader'):
        refused(set_role(alice, share, me, role), 409, 'CONFLICT')
        refused(set_role(admin, share, me, role), 409, 'CONFLICT')
    refused(alice.delete(f'{V1}/shares/{share["id"]}/members/{me}'), 409, 'CONFLICT')
    member(alice, share, bob.me()['id'], 'owner')
    assert set_role(bob, share, me, 'reader').status_code == 200
    refused(bob.delete(f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}'), 409, 'CONFLICT')


def test_a_membership_ends_by_itself(alice, bob, share):
    soon = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 2))
    assert member(alice, share, bob.me()['id'], 'reader', expires_at=soon).json()['expires_at'] == soon
    assert bob.get(f'{V1}/shares/{share["id"]}').status_code == 200
    end = time.monotonic() + 6
    while bob.get(f'{V1}/shares/{share["id"]}').status_code == 200 and time.monotonic() < end:
        time.sleep(0.1)
    refused(bob.get(f'{V1}/shares/{share["id"]}'), 404, 'NOT_FOUND')
    alice.ok('PATCH', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}', json={'expires_at': None})
    assert bob.get(f'{V1}/shares/{share["id"]}').status_code == 200  # null: without an end


def test_anybody_may_leave(alice, bob, share):
    member(alice, share, bob.me()['id'], 'reader')
    bob.ok('DELETE', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}', 204)
    refused(bob.get(f'{V1}/shares/{share["id"]}'), 404, 'NOT_FOUND')


def test_an_admin_makes_no_owner(alice, bob, eve, share):
    member(alice, share, bob.me()['id'], 'admin')
    refused(member(bob, share, eve.me()['id'], 'owner'), 403, 'PERMISSION_DENIED')
    refused(set_role(bob, share, bob.me()['id'], 'owner'), 403, 'PERMISSION_DENIED')
    refused(set_role(bob, share, alice.me()['id'], 'reader'), 403, 'PERMISSION_DENIED')  # nor unmakes one
    refused(bob.delete(f'{V1}/shares/{share["id"]}/members/{alice.me()["id"]}'), 403, 'PERMISSION_DENIED')
    assert member(bob, share, eve.me()['id'], 'contributor').status_code == 201
    bob.ok('DELETE', f'{V1}/shares/{share["id"]}/members/{eve.me()["id"]}', 204)


# ---- roles ----

ROLES = ('reader', 'contributor', 'admin', 'owner')
# what is done, and the least role that may
DEEDS = {
    'get share': ('reader', lambda a, s, n: a.get(f'{V1}/shares/{s["id"]}')),
    'members': ('reader', lambda a, s, n: a.get(f'{V1}/shares/{s["id"]}/members')),
    'children': ('reader', lambda a, s, n: a.get(f'{V1}/shares/{s["id"]}/children')),
    'get file': ('reader', lambda a, s, n: a.get(f'{V1}/files/{n["file"]["id"]}')),
    'content': ('reader', lambda a, s, n: a.get(f'{V1}/files/{n["file"]["id"]}/content')),
    'versions': ('reader', lambda a, s, n: a.get(f'{V1}/files/{n["file"]["id"]}/versions')),
    'snapshot': ('reader', lambda a, s, n: a.get(f'{V1}/sync/snapshot', params={'share_id': s['id']})),
    'changes': ('reader', lambda a, s, n: a.get(f'{V1}/sync/changes', params={'share_id': s['id'], 'cursor': 0})),
    'upload': ('contributor', lambda a, s, n: a.upload(s['id'], unique('f'), b'1')),
    'replace': ('contributor', lambda a, s, n: replace(a, n['file'], b'2' + a.user.encode())),
    'rename': ('contributor', lambda a, s, n: a.patch(f'{V1}/files/{n["file"]["id"]}', json={'name': unique('f')})),
    'restore version': ('contributor', lambda a, s, n: a.post(f'{V1}/files/{n["file"]["id"]}/versions/1/restore')),
    'make folder': ('contributor', lambda a, s, n: a.post(f'{V1}/folders', json={'share_id': s['id'], 'name': unique('d')})),
    'rename folder': ('contributor', lambda a, s, n: a.patch(f'{V1}/folders/{n["folder"]["id"]}', json={'name': unique('d')})),
    'copy': ('contributor', lambda a, s, n: a.post(f'{V1}/files/{n["file"]["id"]}/copy', json={'target_share_id': s['id'], 'name': unique('c')})),
    'move': ('contributor', lambda a, s, n: a.post(f'{V1}/files/{n["file"]["id"]}/move', json={'target_folder_id': n['folder']['id'], 'name': unique('m')})),
    'trash': ('contributor', lambda a, s, n: a.delete(f'{V1}/files/{n["doomed"]["id"]}')),
    'trash folder': ('contributor', lambda a, s, n: a.delete(f'{V1}/folders/{n["doomed folder"]["id"]}')),
    'patch share': ('admin', lambda a, s, n: a.patch(f'{V1}/shares/{s["id"]}', json={'description': a.user})),
    'add member': ('admin', lambda a, s, n: member(a, s, n['eve'], 'reader')),
    'delete share': ('owner', lambda a, s, n: a.delete(f'{V1}/shares/{s["id"]}')),
}


@pytest.mark.parametrize('role', ROLES)
def test_roles(alice, bob, eve, role):
    s = alice.make_share()
    n = {'file': alice.make_file(s['id']), 'doomed': alice.make_file(s['id']), 'folder': alice.make_folder(s['id']), 'doomed folder': alice.make_folder(s['id']),
         'eve': eve.me()['id']}
    assert member(alice, s, bob.me()['id'], role).status_code == 201
    for name, (least, deed) in DEEDS.items():
        r = deed(bob, s, n)
        if ROLES.index(role) >= ROLES.index(least):
            assert r.status_code in (200, 201, 204), (name, r.text)
        else:
            refused(r, 403, 'PERMISSION_DENIED')


def test_without_a_role_nothing_is_there(alice, eve, share):
    n = {'file': alice.make_file(share['id']), 'doomed': alice.make_file(share['id']), 'folder': alice.make_folder(share['id']),
         'doomed folder': alice.make_folder(share['id']), 'eve': eve.me()['id']}
    for _, deed in DEEDS.values():
        refused(deed(eve, share, n), 404, 'NOT_FOUND')


def test_the_tenants_administrator_may_all(alice, admin, eve):
    s = alice.make_share()
    n = {'file': alice.make_file(s['id']), 'doomed': alice.make_file(s['id']), 'folder': alice.make_folder(s['id']), 'doomed folder': alice.make_folder(s['id']),
         'eve': eve.me()['id']}
    for name, (_, deed) in DEEDS.items():
        r = deed(admin, s, n)
        assert r.status_code in (200, 201, 204), (name, r.text)


def test_a_move_takes_delete_here_and_create_there(alice, bob, share):
    there = alice.make_share()
    f = alice.make_file(share['id'], 'x', b'1')
    move = lambda: bob.post(f'{V1}/files/{f["id"]}/move', json={'target_share_id': there['id']})
    copy = lambda: bob.post(f'{V1}/files/{f["id"]}/copy', json={'target_share_id': there['id']})
    his = bob.me()['id']
    member(alice, share, his, 'reader')
    refused(move(), 404, 'NOT_FOUND') if move().status_code == 404 else refused(move(), 403, 'PERMISSION_DENIED')
    member(alice, there, his, 'reader')
    refused(copy(), 403, 'PERMISSION_DENIED')
    set_role(alice, there, his, 'contributor')
    refused(move(), 403, 'PERMISSION_DENIED')
    assert copy().status_code == 201
    trash(bob, [n for n in children(bob, there)][0])
    set_role(alice, share, his, 'contributor')
    assert move().status_code == 200 and names(children(alice, there)) == ['x'] and since(alice, share, 0)[-1] == ('deleted', f['id'])


def test_scopes_of_a_token_cap_the_rights(server, alice, share):
    f = alice.make_file(share['id'], 'x', b'1')
    reading = server.client(token=server.token('alice', scope='files:read'))
    assert reading.content(f['id']) == b'1' and reading.me()['scopes'] == ['files:read']
    refused(reading.delete(f'{V1}/files/{f["id"]}'), 403, 'PERMISSION_DENIED')
    refused(reading.post(f'{V1}/shares', json={'name': 'x', 'share_type': 'project'}), 403, 'PERMISSION_DENIED')
    none = server.client(token=server.token('alice', scope='files:write'))
    assert none.get(f'{V1}/files/{f["id"]}').status_code in (200, 403, 404)
    boss = server.client(token=server.token('admin', scope='files:read files:write'))  # an administrator's token that may not act as one
    refused(boss.get(f'{V1}/files/{f["id"]}'), 404, 'NOT_FOUND')


# ---- finding people ----

def test_search(alice, other):
    search = lambda api, **params: api.ok('GET', f'{V1}/shares/search/principals', params=params)
    found = search(alice, q='bo')
    assert [(u['email'], u['name'], u['id']) for u in found['users']][:1] and 'bob@example.com' in [u['email'] for u in found['users']]
    assert 'bob@example.com' in [u['email'] for u in search(alice, q='BOB@EX')['users']]
    assert search(alice, q='ob@example')['users'] == []  # the beginning, not the middle
    assert search(alice, q='bob', principal_type='group') == {'users': [], 'groups': []}
    assert search(other, q='bob')['users'] == []  # of the tenant
    assert search(alice, q='%')['users'] == [] and search(alice, q='_ob')['users'] == []
    assert len(search(alice, q='e', limit=1)['users']) <= 1
    for bad in ({}, {'q': ''}, {'q': 'x' * 257}, {'q': 'x', 'limit': 0}, {'q': 'x', 'limit': 51}, {'q': 'x', 'principal_type': 'robot'}):
        assert alice.get(f'{V1}/shares/search/principals', params=bad).status_code == 422, bad


def test_me(alice, admin, other, anonymous):
    me = alice.me()
    assert (me['email'], me['name'], me['is_admin'], me['admin_role'], me['groups']) == ('alice@example.com', 'Alice', False, None, [])
    assert (admin.me()['is_admin'], admin.me()['admin_role']) == (True, 'tenant_admin') and other.me()['tenant_id'] != me['tenant_id']
    refused(anonymous.get(f'{V1}/users/me'), 401, 'AUTH_TOKEN_INVALID')
