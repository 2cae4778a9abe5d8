"""compat.data_mirror: the object-valued sync answers once more under "data" (D26); off by default."""
import pytest
from helpers import V1, Device, mkdir


@pytest.fixture
def mirrored(private_server):
    return private_server(SCAIDRIVE_COMPAT_DATA_MIRROR='true').client('alice@example.com')


def answers(api):
    share = api.make_share()
    device = Device(api, share)
    params = {'share_id': share['id'], 'device_id': device.id}
    return {
        'status': api.ok('GET', f'{V1}/sync/status', params=params),
        'apply': api.ok('POST', f'{V1}/sync/apply', json={**params, 'changes': [mkdir('/a')]}),
        'changes': api.ok('GET', f'{V1}/sync/changes', params={'share_id': share['id'], 'cursor': 0}),
        'devices': api.ok('GET', f'{V1}/sync/devices'),
        'conflicts': api.ok('GET', f'{V1}/sync/conflicts'),
        'file': api.make_file(share['id']),
        'error': api.get(f'{V1}/files/fil_0000000000001').json(),
        'empty': api.ok('GET', f'{V1}/sync/changes', params={'share_id': share['id']}),
    }


def test_on(mirrored):
    got = answers(mirrored)
    for name in ('status', 'apply', 'changes', 'empty'):
        data = got[name].pop('data')
        assert data == got[name], name
    assert isinstance(got['devices'], list) and isinstance(got['conflicts'], list)  # never for bare lists
    assert 'data' not in got['file'] and 'data' not in got['error']


def test_off(alice):
    assert all('data' not in answer for answer in answers(alice).values())
