"""The two WebSockets (D9): nudges, codes, bursts."""
import asyncio
import json
import time

import contract
import pytest
import websockets
from helpers import V1, Device, head, mkdir, replaced, trash


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 40))


def address(server, path, token=None):
    return server.url.replace('http', 'ws') + path + (f'?token={token}' if token else '')


def sync_socket(server, api, device_id, header=False):
    if header:
        return websockets.connect(address(server, f'{V1}/sync/ws/{device_id}'), extra_headers={'Authorization': f'Bearer {api.token}'})
    return websockets.connect(address(server, f'{V1}/sync/ws/{device_id}', api.token))


async def frame(ws, timeout=5, skip=()):
    """The next frame; both keys are on every one."""
    while True:
        f = json.loads(await asyncio.wait_for(ws.recv(), timeout))
        assert f['type'] == f['event_type'], f
        if f['type'] not in skip:
            return f


async def silent(ws, seconds=0.4):
    try:
        return await frame(ws, seconds)
    except asyncio.TimeoutError:
        return None


async def ready(ws):
    """The session is open once it answers a ping."""
    await ws.send('{"type":"ping"}')
    return await frame(ws, skip=('connected',))


async def code_of(connect):
    """How a socket that is not wanted ends: the upgrade is accepted, then closed with a code."""
    async with connect as ws:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(ws.recv(), 5)
        return closed.value.code


def call(f, *args, **kwargs):
    return asyncio.to_thread(f, *args, **kwargs)


# ---- who may ----

def test_codes(server, alice, bob, other, share):
    mine, his, foreign = Device(alice, share), Device(bob, share), Device(other, share)
    url = lambda device, token=None: websockets.connect(address(server, f'{V1}/sync/ws/{device}', token))

    async def go():
        assert await code_of(url(mine.id)) == 4401
        assert await code_of(url(mine.id, 'nonsense')) == 4401
        assert await code_of(url(mine.id, alice.token[:-4] + 'abcd')) == 4401
        assert await code_of(url(his.id, alice.token)) == 4403
        assert await code_of(url('unknown', alice.token)) == 4404
        assert await code_of(url(foreign.id, alice.token)) == 4404  # another tenant's is unknown
        assert await code_of(websockets.connect(address(server, f'{V1}/realtime/ws'))) == 4401
        assert await code_of(websockets.connect(address(server, f'{V1}/realtime/ws', 'x'))) == 4401
        for header in (True, False):
            async with sync_socket(server, alice, mine.id, header) as ws:
                assert (await ready(ws))['type'] == 'pong'
    run(go())


def test_a_plain_get_is_no_socket(alice, share):
    r = alice.get(f'{V1}/sync/ws/{Device(alice, share).id}')
    assert r.status_code in (400, 426), r.text
    contract.check_error(r)


# ---- sync ----

def test_ping_and_subscribe(server, alice, share):
    device = Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ws.send('{"type":"subscribe"}')
            assert (await frame(ws))['type'] == 'subscribed'
            await ws.send('{"type":"ping"}')
            assert (await frame(ws))['cursor'] == head(alice)
            await call(alice.make_folder, alice.make_share()['id'])
            await ws.send('{"type":"ping"}')
            assert (await frame(ws, skip=('change', 'force_sync')))['cursor'] == head(alice)  # of the tenant
    run(go())


def test_change_frames(server, alice, share):
    device = Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ready(ws)
            at = head(alice)
            f = await call(alice.make_file, share['id'], 'x.txt', b'1')
            got = await frame(ws)
            assert (got['type'], got['share_id'], got['data']['resource_id']) == ('change', share['id'], f['id'])
            contract.fits(got['data'], 'Change')
            assert got['data'] == alice.changes(share['id'], at)[0][0]  # the full entry, as the pull gives it
            begin = time.monotonic()
            await call(replaced, alice, f, b'2')
            assert (await frame(ws))['data']['change_type'] == 'updated' and time.monotonic() - begin < 2
            await call(trash, alice, f)
            assert (await frame(ws))['data']['change_type'] == 'deleted'
    run(go())


def test_a_change_is_told_at_once(server, alice, share):
    """Not at the next look, which comes each second in any case."""
    device = Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ready(ws)
            began = time.monotonic()
            for _ in range(8):
                d = await call(alice.make_folder, share['id'])
                assert (await frame(ws))['data']['resource_id'] == d['id']
            assert time.monotonic() - began < 4
    run(go())


def test_frames_of_readable_shares_alone(server, alice, bob, eve, other, shared):
    hidden = alice.make_share()
    people = [(api, Device(api, shared)) for api in (bob, eve, other)]

    async def go():
        sockets = [await sync_socket(server, api, device.id) for api, device in people]
        for ws in sockets:
            await ready(ws)
        await call(alice.make_folder, hidden['id'])
        d = await call(alice.make_folder, shared['id'])
        got = await frame(sockets[0])
        assert got['data']['resource_id'] == d['id']  # not the hidden one before it
        assert await silent(sockets[1]) is None and await silent(sockets[2]) is None
        for ws in sockets:
            await ws.close()
    run(go())


def test_a_burst_is_told_by_its_newest(server, alice, share):
    """At most 16 change frames a share in 50 ms; beyond that one frame with the newest entry stands for the rest."""
    device, writer = Device(alice, share), Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ready(ws)
            began = time.monotonic()
            answer = await call(writer.apply, [mkdir(f'/{i:04d}') for i in range(2000)], 'KEEP_BOTH')
            last = answer['applied'][-1]['resource_id']
            got = []
            while not got or got[-1]['data']['resource_id'] != last:
                got.append(await frame(ws))
            most = 16 * (20 * (time.monotonic() - began) + 2)  # in each 50 ms
            assert len(got) < min(most, 1999) and all(f['type'] == 'change' for f in got)
            ids = [f['data']['id'] for f in got]
            assert ids == sorted(ids) and len(set(ids)) == len(ids)
            assert await silent(ws) is None
        return len(got)
    assert run(go()) >= 1


def test_few_changes_come_one_by_one(server, alice, share):
    device, writer = Device(alice, share), Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ready(ws)
            answer = await call(writer.apply, [mkdir(f'/{i}') for i in range(8)], 'KEEP_BOTH')
            got = [(await frame(ws))['data']['resource_id'] for _ in range(8)]
            assert got == [a['resource_id'] for a in answer['applied']]
    run(go())


def test_two_sockets_hear_the_same(server, alice, share):
    devices = [Device(alice, share) for _ in range(2)]

    async def go():
        sockets = [await sync_socket(server, alice, d.id) for d in devices]
        for ws in sockets:
            await ready(ws)
        d = await call(alice.make_folder, share['id'])
        for ws in sockets:
            assert (await frame(ws))['data']['resource_id'] == d['id']
            await ws.close()
    run(go())


def test_preferences_are_announced(server, alice, bob, share):
    one, two = Device(alice, share), Device(alice, share)
    his = Device(bob, share)

    async def go():
        async with sync_socket(server, alice, one.id) as ws, sync_socket(server, bob, his.id) as foreign:
            await ready(ws)
            await ready(foreign)
            await call(alice.ok, 'PUT', f'{V1}/sync/devices/{two.id}/preferences/{share["id"]}', json={'sync_enabled': False})
            got = await frame(ws)
            assert (got['type'], got['share_id'], got['device_id']) == ('sync_preference_updated', share['id'], two.id)
            assert await silent(foreign, 1.5) is None
    run(go())


def test_access_that_changes_forces_a_sync(server, alice, bob, share):
    device = Device(bob, share)

    async def go():
        async with sync_socket(server, bob, device.id) as ws:
            await ready(ws)
            await call(alice.add_member, share['id'], bob.me()['id'], 'reader')
            got = await frame(ws, skip=('change',))
            assert (got['type'], got['share_id']) == ('force_sync', share['id'])
            d = await call(alice.make_folder, share['id'])
            got = await frame(ws, skip=('force_sync',))
            while got['data']['resource_id'] != d['id']:
                got = await frame(ws, skip=('force_sync',))
            await call(alice.ok, 'DELETE', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}', 204)
            assert (await frame(ws, skip=('change',)))['type'] == 'force_sync'
            while await silent(ws):
                pass
            await call(alice.make_folder, share['id'])
            assert await silent(ws) is None
    run(go())


def test_a_removed_device_loses_its_socket(server, alice, share):
    device = Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ready(ws)
            await call(alice.ok, 'DELETE', f'{V1}/sync/devices/{device.id}', 204)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await ws.send('{"type":"ping"}')
                while True:
                    await frame(ws, 10)
            assert closed.value.code == 4404
    run(go())


def test_a_token_that_ends_ends_the_socket(server, alice, share):
    device = Device(alice, share)
    token = server.token('alice', ttl=1)

    async def go():
        async with websockets.connect(address(server, f'{V1}/sync/ws/{device.id}', token)) as ws:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await frame(ws, 15)
            assert closed.value.code == 4401
    run(go())


# ---- what clients send ----

@pytest.mark.parametrize('text', ['', '{', 'null', '[]', '{"type":5}', '{"type":"dance"}', '{"type":"ping","x":' + '[' * 500 + '}', '"ping"', '\u0000'])
def test_odd_frames_hurt_nobody(server, alice, share, text):
    device = Device(alice, share)

    async def go():
        async with sync_socket(server, alice, device.id) as ws:
            await ws.send(text)
            await ws.send('{"type":"ping"}')
            assert (await frame(ws, skip=('error',)))['type'] == 'pong'
    run(go())


def test_frames_that_are_too_large_or_binary(server, alice, share):
    device = Device(alice, share)

    async def go():
        for data, codes in (('x' * (65 << 10), {1009}), (b'\x00\x01', {1003, 1007, 1008})):
            async with sync_socket(server, alice, device.id) as ws:
                await ws.send(data)
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    while True:
                        await frame(ws, 5)
                assert closed.value.code in codes
    run(go())


def test_sockets_of_one_user_are_bounded(server, eve, share):
    device = Device(eve, share)

    async def go():
        sockets = []
        await asyncio.sleep(0.3)  # the sockets of the tests before are gone
        try:
            for _ in range(64):
                sockets.append(await sync_socket(server, eve, device.id))
                await ready(sockets[-1])
            assert await code_of(sync_socket(server, eve, device.id)) == 1013
        finally:
            await asyncio.gather(*(ws.close() for ws in sockets))
        await asyncio.sleep(0.3)
        async with sync_socket(server, eve, device.id) as ws:
            assert (await ready(ws))['type'] == 'pong'
    run(go())


def test_a_stopping_server_says_goodbye(private_server):
    server = private_server()
    api = server.client('alice@example.com')
    device = Device(api, api.make_share())

    async def go():
        async with sync_socket(server, api, device.id) as ws:
            await ready(ws)
            stop = asyncio.create_task(call(server.stop))
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await frame(ws, 10)
            assert closed.value.code == 1001
            assert await stop == 0
    run(go())


# ---- user interfaces ----

def test_realtime(server, alice, bob, shared):
    quiet = alice.make_share()

    async def go():
        async with websockets.connect(address(server, f'{V1}/realtime/ws', bob.token)) as ws:
            hello = await frame(ws)
            assert (hello['type'], hello['user_id']) == ('connected', bob.me()['id']) and hello['timestamp']
            d0 = await call(alice.make_folder, shared['id'])
            assert await silent(ws) is None and d0  # nothing is subscribed yet
            await ws.send(json.dumps({'action': 'subscribe', 'share_id': shared['id']}))
            got = await frame(ws)
            assert (got['type'], got['share_id']) == ('subscribed', shared['id'])
            f = await call(alice.make_file, shared['id'], 'x.txt', b'1')
            got = await frame(ws)
            assert (got['type'], got['share_id'], got['data']['id'], got['data']['name']) == ('file_created', shared['id'], f['id'], 'x.txt')
            await call(replaced, alice, f, b'2')
            assert (await frame(ws))['type'] == 'file_updated'
            await call(alice.ok, 'PATCH', f'{V1}/files/{f["id"]}', json={'name': 'y.txt'})
            got = await frame(ws)
            assert (got['type'], got['data']['name']) == ('file_updated', 'y.txt')
            await call(trash, alice, f)
            got = await frame(ws)
            assert (got['type'], got['data']['file_id']) == ('file_deleted', f['id'])
            d = await call(alice.make_folder, shared['id'], 'd')
            got = await frame(ws)
            assert (got['type'], got['data']['id']) == ('folder_created', d['id'])
            await call(trash, alice, d)
            got = await frame(ws)
            assert (got['type'], got['data']['folder_id']) == ('folder_deleted', d['id'])
            await ws.send(json.dumps({'type': 'ping'}))
            assert (await frame(ws))['type'] == 'pong'
            await ws.send(json.dumps({'type': 'unsubscribe', 'share_id': shared['id']}))
            assert (await frame(ws))['type'] == 'unsubscribed'
            await call(alice.make_folder, shared['id'])
            assert await silent(ws) is None
            for hidden in (quiet['id'], 'shr_0000000000001', 'nonsense', None):
                await ws.send(json.dumps({'type': 'subscribe', 'share_id': hidden}))
                got = await frame(ws)
                assert got['type'] == 'error' and got['code'] in ('NOT_FOUND', 'VALIDATION_ERROR', 'BAD_REQUEST'), (hidden, got)
            await call(alice.make_folder, quiet['id'])
            assert await silent(ws) is None
    run(go())
