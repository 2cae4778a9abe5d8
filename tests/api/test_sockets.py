"""The two WebSockets: nudges for sync clients, frames for user interfaces."""
import asyncio
import inspect
import json
import time

import pytest
import websockets
from support import unique


HEADERS = 'extra_headers' if 'extra_headers' in inspect.signature(websockets.connect).parameters or \
    websockets.__version__ < '14' else 'additional_headers'


class Socket:
    """One connection, driven step by step."""

    def __init__(self, server, path, token=None, header=True):
        url = server.url.replace('http', 'ws', 1) + path
        headers = {}
        if token and header:
            headers['Authorization'] = f'Bearer {token}'
        elif token:
            url += f'?token={token}'
        self.loop = asyncio.new_event_loop()
        self.ws = self.run(self.open(url, headers))

    async def open(self, url, headers):
        return await websockets.connect(url, **{HEADERS: headers})

    def run(self, work):
        return self.loop.run_until_complete(work)

    def text(self, text):
        self.run(self.ws.send(text))

    def send(self, **frame):
        self.text(json.dumps(frame))

    def recv(self, timeout):
        async def wait():
            return await asyncio.wait_for(self.ws.recv(), timeout)
        return self.run(wait())

    def frame(self, timeout=10):
        f = json.loads(self.recv(timeout))
        assert f['type'] == f['event_type']
        return f

    def frames(self, quiet=0.4):
        out = []
        while True:
            try:
                out.append(self.frame(timeout=quiet))
            except asyncio.TimeoutError:
                return out

    def close(self):
        if not self.loop.is_closed():
            self.run(self.ws.close())
            self.loop.close()

    def ready(self):
        """Whatever is committed after this is told."""
        self.send(type='ping')
        f = self.frame()
        assert f['type'] == 'pong'
        return f['cursor']

    def close_code(self, timeout=10):
        try:
            while True:
                self.recv(timeout)
        except websockets.ConnectionClosed as e:
            return e.code
        finally:
            self.close()


@pytest.fixture
def sync_socket(server):
    opened = []

    def make(client, device=None, **more):
        device = device or client.register_device()['device_id']
        s = Socket(server, f'/api/v1/sync/ws/{device}', client.token, **more)
        opened.append(s)
        s.device = device
        return s

    yield make
    for s in opened:
        s.close()


@pytest.fixture
def ui_socket(server):
    opened = []

    def make(client):
        s = Socket(server, '/api/v1/realtime/ws', client.token)
        opened.append(s)
        return s

    yield make
    for s in opened:
        s.close()


def test_who_is_not_let_in(server, alice, bob, sync_socket):
    device = alice.register_device()['device_id']
    assert Socket(server, f'/api/v1/sync/ws/{device}', 'nonsense').close_code() == 4401
    assert Socket(server, f'/api/v1/sync/ws/{device}').close_code() == 4401
    assert Socket(server, '/api/v1/realtime/ws').close_code() == 4401
    assert sync_socket(bob, device).close_code() == 4403
    assert sync_socket(bob, unique('nobody')).close_code() == 4404
    assert sync_socket(alice, device, header=False).ready() >= 0


def test_a_change_is_told_with_its_entry(alice, shared, bob, sync_socket):
    hers, his = sync_socket(alice), sync_socket(bob)
    hers.ready(), his.ready()
    hers.send(type='subscribe')
    assert hers.frame()['type'] == 'subscribed'
    began = time.monotonic()
    made = alice.make_file(shared['id'])
    frames = [s.frame() for s in (hers, his)]
    assert time.monotonic() - began < 5
    entries, _ = alice.changes(shared['id'])
    for f in frames:
        assert f['type'] == 'change' and f['share_id'] == shared['id']
        assert f['data'] == [e for e in entries if e['resource_id'] == made['id']][-1]
    assert his.ready() >= int(frames[0]['data']['metadata']['version'])


def test_nothing_is_told_to_strangers(alice, eve, share, sync_socket):
    s = sync_socket(eve)
    s.ready()
    alice.make_file(share['id'])
    assert s.frames() == []


def test_membership_is_a_force_sync(alice, eve, share, sync_socket):
    s = sync_socket(eve)
    s.ready()
    alice.add_member(share['id'], eve.me()['id'], 'reader')
    kinds = [f['type'] for f in s.frames() if f['share_id'] == share['id']]
    assert 'force_sync' in kinds
    alice.make_file(share['id'])
    assert [f['type'] for f in s.frames()] == ['change']
    alice.ok('DELETE', f"/api/v1/shares/{share['id']}/members/{eve.me()['id']}")
    assert 'force_sync' in [f['type'] for f in s.frames()]
    alice.make_file(share['id'])
    assert s.frames() == []


def test_a_burst_is_bounded_and_ends_with_the_newest(alice, share, sync_socket):
    s = sync_socket(alice)
    s.ready()
    changes = [{'resource_type': 'folder', 'change_type': 'created', 'new_path': f'/b{i}'} for i in range(300)]
    answer = alice.apply(share['id'], s.device, changes, 'KEEP_BOTH').json()
    assert len(answer['applied']) == 300
    frames = [f for f in s.frames(quiet=1) if f['type'] == 'change']
    assert 17 <= len(frames) <= 40
    assert frames[-1]['data']['resource_id'] == answer['applied'][-1]['resource_id']


def test_preferences_and_removal(alice, share, sync_socket):
    s = sync_socket(alice)
    s.ready()
    other = alice.register_device()['device_id']
    alice.ok('PUT', f"/api/v1/sync/devices/{other}/preferences/{share['id']}", json={'sync_enabled': False})
    f = s.frame()
    assert (f['type'], f['share_id'], f['device_id']) == ('sync_preference_updated', share['id'], other)
    alice.ok('DELETE', f'/api/v1/sync/devices/{s.device}')
    assert s.close_code() == 4404


def test_odd_frames_do_no_harm(alice, sync_socket):
    s = sync_socket(alice)
    s.ready()
    for text in ('', 'nonsense', '[]', '{}', '{"type":7}', '"ping"', '{"type":"' + 'x' * 5000 + '"}'):
        s.text(text)
    s.frames()
    s.ready()


def test_user_interfaces(alice, share, ui_socket):
    s = ui_socket(alice)
    f = s.frame()
    assert f['type'] == 'connected' and f['user_id'] == alice.me()['id'] and f['timestamp'].endswith('Z')
    alice.make_file(share['id'])
    s.send(action='subscribe', share_id=share['id'])
    assert s.frame()['type'] == 'subscribed'
    s.frames()
    made = alice.make_file(share['id'], 'a.txt')
    f = s.frame()
    assert (f['type'], f['share_id'], f['data']['id'], f['data']['name']) == ('file_created', share['id'], made['id'], 'a.txt')
    alice.ok('PATCH', f"/api/v1/files/{made['id']}", json={'name': 'b.txt'})
    f = s.frame()
    assert (f['type'], f['data']['name']) == ('file_updated', 'b.txt')
    folder = alice.make_folder(share['id'])
    assert s.frame()['type'] == 'folder_created'
    alice.ok('DELETE', f"/api/v1/folders/{folder['id']}")
    f = s.frame()
    assert (f['type'], f['data']) == ('folder_deleted', {'folder_id': folder['id']})
    alice.ok('DELETE', f"/api/v1/files/{made['id']}")
    f = s.frame()
    assert (f['type'], f['data']) == ('file_deleted', {'file_id': made['id']})
    s.send(type='unsubscribe', share_id=share['id'])
    assert s.frame()['type'] == 'unsubscribed'
    alice.make_file(share['id'])
    assert s.frames() == []


def test_a_user_interface_subscribes_to_what_it_may_read(alice, eve, share, ui_socket):
    s = ui_socket(eve)
    assert s.frame()['type'] == 'connected'
    for share_id in (share['id'], 'shr_0000000000001', 'nonsense'):
        s.send(action='subscribe', share_id=share_id)
        assert s.frame()['type'] == 'error'
    alice.make_file(share['id'])
    assert s.frames() == []


def test_losing_every_frame_loses_no_data(alice, share, sync_socket):
    s = sync_socket(alice)
    cursor = s.ready()
    s.close()
    made = alice.make_file(share['id'])
    entries, _ = alice.changes(share['id'], cursor)
    assert [e['resource_id'] for e in entries] == [made['id']]
