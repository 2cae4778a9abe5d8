"""Devices and what they sync (D4, D23)."""
import pytest
from helpers import V1, Device, fields_of, head, refused, together
from support import unique

PLATFORMS = ('windows', 'macos', 'linux', 'ios', 'android', 'web', 'cli')


def register(api, **body):
    return api.post(f'{V1}/sync/devices', json={'device_id': unique('dev'), 'device_name': 'PC', 'platform': 'linux', 'client_version': '1.2.0', **body})


def test_register(alice):
    r = register(alice, device_id='', platform='linux')
    assert r.status_code == 422
    r = register(alice)
    d = r.json()
    assert r.status_code == 201 and (d['device_name'], d['platform'], d['client_version'], d['is_active']) == ('PC', 'linux', '1.2.0', True)
    assert d['user_id'] == alice.me()['id'] and d['id'].startswith('dvc_')
    assert alice.ok('GET', f'{V1}/sync/devices/{d["device_id"]}') == d
    assert alice.ok('GET', f'{V1}/sync/devices')[-1] == d


def test_register_again(alice, share):
    """The same id: success, the fields are brought up to date, cursor and preferences stay."""
    d = Device(alice, share)
    first = alice.ok('GET', f'{V1}/sync/devices/{d.id}')
    params = {'share_id': share['id'], 'device_id': d.id}
    at = alice.ok('GET', f'{V1}/sync/status', params=params)['cursor_position']
    alice.ok('PUT', f'{V1}/sync/devices/{d.id}/preferences/{share["id"]}', json={'sync_enabled': False})
    alice.ok('PATCH', f'{V1}/sync/devices/{d.id}', json={'is_active': False})
    alice.make_folder(share['id'])
    r = register(alice, device_id=d.id, device_name='New name', platform='macos', client_version='2.0')
    assert r.status_code == 201 and r.json()['id'] == first['id'] and r.json()['created_at'] == first['created_at']
    assert (r.json()['device_name'], r.json()['platform'], r.json()['is_active']) == ('New name', 'macos', True)
    assert alice.ok('GET', f'{V1}/sync/status', params=params)['cursor_position'] == at
    assert alice.ok('GET', f'{V1}/sync/devices/{d.id}/preferences')['preferences'][0]['sync_enabled'] is False
    assert [x['device_id'] for x in alice.ok('GET', f'{V1}/sync/devices')].count(d.id) == 1


def test_two_users_may_choose_one_id(alice, bob, share):
    d = Device(alice, share)
    r = register(bob, device_id=d.id, device_name="Bob's")
    assert r.status_code == 201
    assert alice.ok('GET', f'{V1}/sync/devices/{d.id}')['device_name'] == 'Laptop'
    assert bob.ok('GET', f'{V1}/sync/devices/{d.id}')['device_name'] == "Bob's"


@pytest.mark.parametrize('platform', PLATFORMS)
def test_platforms(alice, platform):
    assert register(alice, device_id=f'platform-{platform}', platform=platform).json()['platform'] == platform


def test_odd_ids(alice):
    for odd in ('a' * 128, '\u00e9' * 64, 'dev_01J3KX', 'a.b:c+d~e', '100%'):
        assert register(alice, device_id=odd).json()['device_id'] == odd
        from urllib.parse import quote
        assert alice.ok('GET', f'{V1}/sync/devices/{quote(odd, safe="")}')['device_id'] == odd
        alice.ok('DELETE', f'{V1}/sync/devices/{quote(odd, safe="")}', 204)


def test_register_refuses(alice):
    assert fields_of(alice.post(f'{V1}/sync/devices', json={})) == {
        ('body.device_id', 'missing'), ('body.device_name', 'missing'), ('body.platform', 'missing')}
    for bad in ({'device_id': 'a' * 129}, {'device_id': '\u00e9' * 65}, {'device_id': 'a\x01'}, {'device_id': 'with space'}, {'device_id': 'a/b'}, {'platform': 'amiga'}, {'platform': 'LINUX'}, {'platform': None},
                {'device_name': ''}, {'device_name': 'x' * 256}, {'client_version': 'x' * 65}, {'device_name': 7}):
        assert register(alice, **bad).status_code == 422, bad
    assert register(alice, client_version=None).json()['client_version'] is None


def test_a_user_has_at_most_1000(private_server):
    server = private_server()
    apis = [server.client('bob@example.com') for _ in range(20)]
    api = apis[0]
    together(*[lambda n=n: [apis[n].ok('POST', f'{V1}/sync/devices', 201, json={'device_id': f'd{i}', 'device_name': 'x', 'platform': 'cli'})
                            for i in range(n, 1000, 20)] for n in range(20)])
    refused(register(api, device_id='one-more'), 409, 'CONFLICT')
    assert register(api, device_id='d5').status_code == 201  # known already
    assert len(api.ok('GET', f'{V1}/sync/devices')) == 1000
    api.ok('DELETE', f'{V1}/sync/devices/d0', 204)
    assert register(api, device_id='one-more').status_code == 201


def test_patch(alice, share):
    d = Device(alice, share)
    path = f'{V1}/sync/devices/{d.id}'
    assert alice.ok('PATCH', path, json={'device_name': 'Desk'})['device_name'] == 'Desk'
    got = alice.ok('PATCH', path, json={'is_active': False})
    assert (got['is_active'], got['device_name']) == (False, 'Desk')
    assert alice.ok('PATCH', path, json={}) == got
    for bad in ({'device_name': ''}, {'is_active': 'x'}, {'device_name': 'x' * 256}):
        assert alice.patch(path, json=bad).status_code == 422


def test_heartbeat(alice, share):
    d = Device(alice, share)
    path = f'{V1}/sync/devices/{d.id}'
    alice.ok('PATCH', path, json={'is_active': False})
    at = head(alice)
    before = alice.ok('GET', path)['last_seen_at']
    alice.ok('POST', path + '/heartbeat', 204)
    got = alice.ok('GET', path)
    assert got['is_active'] is True and got['last_seen_at'] and (before is None or got['last_seen_at'] >= before) and head(alice) == at


def test_delete(alice, share):
    d = Device(alice, share)
    path = f'{V1}/sync/devices/{d.id}'
    alice.ok('PUT', f'{path}/preferences/{share["id"]}', json={'sync_enabled': False})
    alice.ok('DELETE', path, 204)
    for method, more in (('GET', ''), ('DELETE', ''), ('POST', '/heartbeat'), ('GET', '/preferences')):
        refused(alice.request(method, path + more), 404, 'NOT_FOUND')
    refused(alice.get(f'{V1}/sync/status', params={'share_id': share['id'], 'device_id': d.id}), 404, 'NOT_FOUND')
    register(alice, device_id=d.id)
    assert alice.ok('GET', path + '/preferences')['preferences'] == []  # a new one


def test_anothers_device_is_not_found(alice, bob, share):
    d = Device(alice, share)
    path = f'{V1}/sync/devices/{d.id}'
    unknown = bob.get(f'{V1}/sync/devices/{unique("none")}').json()
    for method, more, body in (('GET', '', None), ('PATCH', '', {'device_name': 'mine'}), ('DELETE', '', None), ('POST', '/heartbeat', None),
                               ('GET', '/preferences', None), ('PUT', '/preferences', {'preferences': []}), ('PUT', f'/preferences/{share["id"]}', {})):
        refused(bob.request(method, path + more, json=body), 404, 'NOT_FOUND')
    assert unknown['error']['code'] == 'NOT_FOUND' and alice.ok('GET', path)['device_name'] == 'Laptop'
    assert d.id not in [x['device_id'] for x in bob.ok('GET', f'{V1}/sync/devices')]


def test_a_token_of_one_device_reaches_no_other(server, alice, share):
    one, two = Device(alice, share), Device(alice, share)
    api = server.client(token=server.token('alice', device=one.id))
    assert api.ok('GET', f'{V1}/sync/devices/{one.id}')['device_id'] == one.id
    assert api.get(f'{V1}/sync/devices/{two.id}').status_code in (403, 404)
    assert api.apply(share['id'], two.id, []).status_code in (403, 404)


# ---- preferences ----

def test_preferences(alice, share):
    d = Device(alice, share)
    path = f'{V1}/sync/devices/{d.id}/preferences'
    one, two = alice.make_folder(share['id'], 'one')['id'], alice.make_folder(share['id'], 'two')['id']
    assert alice.ok('GET', path) == {'preferences': []}
    at = head(alice)
    p = {'share_id': share['id'], 'sync_enabled': True, 'selected_folders': [one, two], 'excluded_folders': None}
    assert alice.ok('PUT', f'{path}/{share["id"]}', 200, json={'sync_enabled': True, 'selected_folders': [one, two], 'excluded_folders': None}) == p
    assert alice.ok('GET', path) == {'preferences': [p]}
    q = {'share_id': share['id'], 'sync_enabled': False, 'selected_folders': None, 'excluded_folders': [one]}
    assert alice.ok('PUT', f'{path}/{share["id"]}', json={'sync_enabled': False, 'excluded_folders': [one]}) == q
    assert alice.ok('PUT', f'{path}/{share["id"]}', json={})['sync_enabled'] is True  # the default
    assert alice.ok('PUT', f'{path}/{share["id"]}', json={'selected_folders': []})['selected_folders'] == []
    assert head(alice) == at  # preferences are no changes, and do not filter them
    alice.make_folder(share['id'])
    assert len(alice.changes(share['id'], at)[0]) == 1
    assert alice.ok('GET', f'{V1}/sync/devices/{Device(alice, share).id}/preferences') == {'preferences': []}  # of one device alone


def test_preferences_of_all_shares(alice, share):
    d, there = Device(alice, share), alice.make_share()
    path = f'{V1}/sync/devices/{d.id}/preferences'
    put = lambda *entries: alice.put(path, json={'preferences': list(entries)})
    a = {'share_id': share['id'], 'sync_enabled': True, 'selected_folders': None, 'excluded_folders': None}
    b = {'share_id': there['id'], 'sync_enabled': False, 'selected_folders': None, 'excluded_folders': None}
    assert put(a, b).json() == {'preferences': sorted([a, b], key=lambda p: p['share_id'])}
    assert put(b).json() == {'preferences': [b]} == alice.ok('GET', path)  # what is not named returns to the default
    refused(put(a, {**b, 'share_id': 'shr_0000000000001'}), 404, 'NOT_FOUND')
    assert alice.ok('GET', path) == {'preferences': [b]}  # all or none
    assert put({'share_id': share['id']}).json()['preferences'][0]['sync_enabled'] is True
    assert put().json() == {'preferences': []}
    for bad in ({'preferences': None}, {'preferences': {}}, {'preferences': [{}]}, {}, {'preferences': [{**a, 'selected_folders': ['x']}]},
                {'preferences': [{**a, 'selected_folders': ['fld_0000000000001'] * 10001}]}):
        assert alice.put(path, json=bad).status_code == 422, str(bad)[:100]


def test_preferences_refuse(alice, bob, share):
    d = Device(alice, share)
    path = f'{V1}/sync/devices/{d.id}/preferences'
    refused(alice.put(f'{path}/shr_0000000000001', json={}), 404, 'NOT_FOUND')
    hidden = bob.make_share()
    refused(alice.put(f'{path}/{hidden["id"]}', json={}), 404, 'NOT_FOUND')
    for bad in ({'sync_enabled': 'x'}, {'selected_folders': 'x'}, {'excluded_folders': ['fil_0000000000001']}, {'selected_folders': [1]}):
        assert alice.put(f'{path}/{share["id"]}', json=bad).status_code == 422, bad
