"""Recorded disagreements: listed, settled, once (D4, D7)."""
import pytest
from helpers import (STRATEGIES, V1, Device, children, contents_of, deleted, file_of, head, refused, replaced, trash, updated, versions_of)

SETTLING = [s for s in STRATEGIES if s != 'MANUAL']


def listed(api, **params):
    return api.ok('GET', f'{V1}/sync/conflicts', params=params)


def resolve(api, conflict, how):
    return api.post(f'{V1}/sync/conflicts/{conflict["id"]}/resolve', params={'resolution': how})


@pytest.fixture
def device(alice, share):
    return Device(alice, share, 'PC')


def make_conflict(api, device, name='x.txt'):
    """An open edit_edit conflict; returns (file, conflict)."""
    f = api.make_file(device.share['id'], name, b'one')
    replaced(api, f, b'theirs', base=f['version_id'])
    _, conflict = device.one(updated(f, replaced(api, f, b'mine', staged=True)['version_id'], f['version_id']), 'MANUAL')
    return f, conflict


def test_listed(alice, bob, eve, share, device):
    f, c = make_conflict(alice, device)
    status = lambda: alice.ok('GET', f'{V1}/sync/status', params={'share_id': share['id'], 'device_id': device.id})['has_conflicts']
    (got,) = listed(alice, share_id=share['id'])
    assert got == {**c, 'index': None, 'op_id': None} and status() is True
    assert listed(alice, device_id=device.id) == [got] and listed(alice, device_id=Device(alice, share).id) == []
    assert got in listed(alice)
    refused(bob.get(f'{V1}/sync/conflicts', params={'share_id': share['id']}), 404, 'NOT_FOUND')
    refused(bob.get(f'{V1}/sync/conflicts', params={'device_id': device.id}), 404, 'NOT_FOUND')
    refused(alice.get(f'{V1}/sync/conflicts', params={'device_id': 'unknown'}), 404, 'NOT_FOUND')
    assert c['id'] not in [x['id'] for x in listed(eve)] and c['id'] not in [x['id'] for x in listed(bob)]
    assert resolve(alice, c, 'SERVER_WINS').status_code == 200
    assert listed(alice, share_id=share['id']) == [] and status() is False
    assert [x['id'] for x in listed(alice, share_id=share['id'], include_resolved='true')] == [c['id']]


def test_newest_first(alice, share, device):
    ids = [make_conflict(alice, device, f'{i}')[1]['id'] for i in range(3)]
    assert [c['id'] for c in listed(alice, share_id=share['id'])] == ids[::-1]


@pytest.mark.parametrize('how', SETTLING)
def test_edit_edit(alice, share, device, how):
    f, c = make_conflict(alice, device)
    r = resolve(alice, c, how)
    assert r.status_code == 200 and (r.json()['resolved'], r.json()['resolution'], r.json()['resolved_by']) == (True, how, alice.me()['id'])
    assert r.json()['resolved_at']
    wins = how in ('LAST_WRITER_WINS', 'CLIENT_WINS')
    assert alice.content(f['id']) == (b'mine' if wins else b'theirs')
    assert contents_of(alice, f)[:3] == [b'one', b'theirs', b'mine']
    copies = [n for n in children(alice, share) if n['id'] != f['id']]
    assert [n['id'] for n in copies] == ([r.json()['copy_id']] if how == 'KEEP_BOTH' else [])
    if copies:
        assert alice.content(copies[0]['id']) == b'mine' and 'conflicted copy PC' in copies[0]['name']


@pytest.mark.parametrize('how', SETTLING)
def test_twice(alice, share, device, how):
    f, c = make_conflict(alice, device)
    one = resolve(alice, c, how).json()
    at = head(alice)
    assert resolve(alice, c, how).json() == one and head(alice) == at  # success, nothing written
    for another in set(SETTLING) - {how}:
        refused(resolve(alice, c, another), 409, 'CONFLICT')
    assert head(alice) == at


def test_manual_settles_nothing(alice, share, device):
    f, c = make_conflict(alice, device)
    assert resolve(alice, c, 'MANUAL').status_code == 422 and resolve(alice, c, 'X').status_code == 422
    assert alice.post(f'{V1}/sync/conflicts/{c["id"]}/resolve').status_code == 422
    assert listed(alice, share_id=share['id'])[0]['resolved'] is False


def test_the_file_went_on(alice, share, device):
    f, c = make_conflict(alice, device)
    replaced(alice, f, b'newer')
    for how in SETTLING:
        r = resolve(alice, c, how)
        assert r.status_code == 409 or how == 'SERVER_WINS', (how, r.text)
    assert alice.content(f['id']) == b'newer'


def test_the_file_is_in_the_trash(alice, share, device):
    f, c = make_conflict(alice, device)
    trash(alice, f)
    refused(resolve(alice, c, 'CLIENT_WINS'), 410, 'GONE')


@pytest.mark.parametrize('how', SETTLING)
def test_edit_delete(alice, share, device, how):
    f = alice.make_file(share['id'], 'x', b'one')
    s = replaced(alice, f, b'mine', staged=True)['version_id']
    trash(alice, f)
    _, c = device.one(updated(f, s, f['version_id']), 'MANUAL')
    assert c['conflict_type'] == 'edit_delete'
    assert resolve(alice, c, how).status_code == 200
    shown = file_of(alice, f, include_deleted='true')
    assert shown['is_deleted'] is (how == 'SERVER_WINS')
    if how != 'SERVER_WINS':
        assert alice.content(f['id']) == b'mine'
    assert contents_of(alice, f)[:2] == [b'one', b'mine']


@pytest.mark.parametrize('how', SETTLING)
def test_delete_edit(alice, share, device, how):
    f = alice.make_file(share['id'], 'x', b'one')
    replaced(alice, f, b'theirs', base=f['version_id'])
    _, c = device.one(deleted(f, f['version_id']), 'MANUAL')
    assert c['conflict_type'] == 'delete_edit' and file_of(alice, f)['is_deleted'] is False
    assert resolve(alice, c, how).status_code == 200
    assert file_of(alice, f, include_deleted='true')['is_deleted'] is (how == 'CLIENT_WINS')


@pytest.mark.parametrize('how', SETTLING)
def test_folder_delete(alice, bob, shared, how):
    device = Device(alice, shared)
    d = alice.make_folder(shared['id'], 'd')
    at = head(alice)
    f = bob.make_file(shared['id'], 'new', b'1', d['id'])
    _, c = device.one(deleted(d), 'MANUAL', base_cursor=at)
    assert (c['conflict_type'], c['resource_type'], c['resolved']) == ('folder_delete', 'folder', False)
    assert resolve(alice, c, how).status_code == 200
    assert file_of(alice, f, include_deleted='true')['is_deleted'] is (how == 'CLIENT_WINS')


def test_folder_delete_after_more_came(alice, bob, shared):
    """What came after the conflict was recorded is not swept away by settling it (invariant 6)."""
    device = Device(alice, shared)
    d = alice.make_folder(shared['id'], 'd')
    at = head(alice)
    bob.make_file(shared['id'], 'new', b'1', d['id'])
    _, c = device.one(deleted(d), 'MANUAL', base_cursor=at)
    later = bob.make_file(shared['id'], 'later', b'2', d['id'])
    refused(resolve(alice, c, 'CLIENT_WINS'), 409, 'CONFLICT')
    assert file_of(alice, later)['is_deleted'] is False
    assert resolve(alice, c, 'SERVER_WINS').status_code == 200


def test_rights(alice, bob, eve, other, shared):
    device = Device(alice, shared)
    f, c = make_conflict(alice, device)
    refused(eve.post(f'{V1}/sync/conflicts/{c["id"]}/resolve', params={'resolution': 'SERVER_WINS'}), 404, 'NOT_FOUND')
    refused(other.post(f'{V1}/sync/conflicts/{c["id"]}/resolve', params={'resolution': 'SERVER_WINS'}), 404, 'NOT_FOUND')
    refused(resolve(alice, {'id': 'cfl_0000000000001'}, 'SERVER_WINS'), 404, 'NOT_FOUND')
    alice.ok('PATCH', f'{V1}/shares/{shared["id"]}/members/{bob.me()["id"]}', json={'role': 'reader'})
    assert [x['id'] for x in listed(bob, share_id=shared['id'])] == [c['id']]
    refused(resolve(bob, c, 'SERVER_WINS'), 403, 'PERMISSION_DENIED')
    alice.ok('PATCH', f'{V1}/shares/{shared["id"]}/members/{bob.me()["id"]}', json={'role': 'contributor'})
    assert resolve(bob, c, 'CLIENT_WINS').json()['resolved_by'] == bob.me()['id']
    assert alice.content(f['id']) == b'mine' and len(versions_of(alice, f)) >= 3


def test_devices_go_conflicts_stay(alice, share, device):
    f, c = make_conflict(alice, device)
    alice.ok('DELETE', f'{V1}/sync/devices/{device.id}', 204)
    assert [x['id'] for x in listed(alice, share_id=share['id'])] == [c['id']]
    assert resolve(alice, c, 'KEEP_BOTH').status_code == 200
