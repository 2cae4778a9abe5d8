"""Rate limits: what is counted and for whom, what the answers say of it, and clients that wait (docs/integrate/limits.md)."""
import json
import os
import time

import pytest
import websockets
from device import Device, status, until
from helpers import V1, refused, sha
from support import Failed
from test_chunk_versions import put, run
from test_sockets import address, code_of
from test_sockets import run as run_async

HERE = os.path.dirname(os.path.abspath(__file__))
LONG = 3600  # no window ends during a test


def limits(token=0, user=0, tenant=0, window=LONG):
    return {'limits.rate_per_token': str(token), 'limits.rate_per_user': str(user), 'limits.rate_per_tenant': str(tenant),
            'limits.rate_window': str(window)}


def left(r):
    return int(r.headers['x-ratelimit-remaining'])


def other_token(server, email):
    return server.client(email, token=server.token(email))


def used_up(api, path=f'{V1}/users/me'):
    """Asks until it is refused; (how often it was not, the refusal)."""
    for i in range(10000):
        r = api.get(path)
        if r.status_code == 429:
            return i, r
    raise AssertionError('never refused')


def rejections(server):
    text = server.client().get('/metrics').text
    return {line.split('"')[1]: int(line.split()[-1]) for line in text.splitlines()
            if line.startswith('scaidrive_rate_limit_rejections_total{')}


def test_off_unless_configured(server, alice):
    r = alice.get(f'{V1}/users/me')
    assert not [h for h in r.headers if h.startswith('x-ratelimit')]
    assert rejections(server) == {}


def test_each_request_costs_what_the_document_says(private_server):
    s = private_server(limits(token=1000))
    a = s.client('alice@example.com')
    with open(os.path.join(HERE, '..', '..', 'docs', 'openapi.json')) as f:
        paths = json.load(f)['paths']
    was = 1000

    def expect(r, method, path):
        nonlocal was
        cost = paths[path][method]['x-cost']
        assert was - left(r) == cost > 0, (method, path, was, left(r))
        assert int(r.headers['x-ratelimit-limit']) == 1000
        assert 0 < int(r.headers['x-ratelimit-reset']) - time.time() <= 2 * LONG + 1
        was = left(r)
        return r

    expect(a.get(f'{V1}/users/me'), 'get', f'{V1}/users/me')
    share = expect(a.post(f'{V1}/shares', json={'name': 'S', 'share_type': 'project'}), 'post', f'{V1}/shares').json()
    expect(a.get(f'{V1}/shares'), 'get', f'{V1}/shares')
    f = expect(a.upload(share['id'], 'f', b'x' * 3000), 'post', f'{V1}/files').json()
    expect(a.get(f'{V1}/files/{f["id"]}'), 'get', f'{V1}/files/{{file_id}}')
    r = expect(a.get(f'{V1}/files/{f["id"]}/content'), 'get', f'{V1}/files/{{file_id}}/content')
    assert r.content == b'x' * 3000
    expect(a.head(f'{V1}/files/{f["id"]}/content'), 'head', f'{V1}/files/{{file_id}}/content')
    expect(a.get(f'{V1}/sync/changes'), 'get', f'{V1}/sync/changes')
    # what fails costs the same, once it is known who asks
    assert expect(a.get(f'{V1}/files/fil_0000000000001'), 'get', f'{V1}/files/{{file_id}}').status_code == 404
    assert expect(a.patch(f'{V1}/files/{f["id"]}', json={'name': 7}), 'patch', f'{V1}/files/{{file_id}}').status_code == 422
    assert a.get('/nowhere').status_code == 404
    assert left(a.get(f'{V1}/users/me')) == was - 1


def test_a_refusal(private_server):
    s = private_server(limits(token=20, window=2))
    a = s.client('alice@example.com')
    had, r = used_up(a)
    assert had >= 20
    body = refused(r, 429, 'RATE_LIMITED')
    assert body['error']['details'] == {'dimension': 'token', 'limit': 20, 'window_seconds': 2}
    wait = int(r.headers['retry-after'])
    assert body['error']['retry_after'] == wait and 1 <= wait <= 4
    assert r.headers['x-ratelimit-limit'] == '20' and left(r) == 0
    time.sleep(wait)
    assert a.get(f'{V1}/users/me').status_code == 200
    for _ in range(3):
        used_up(a)
    assert rejections(s)['token'] >= 4
    told = [line for line in s.log_lines() if line['msg'] == 'rate limit reached']
    time.sleep(4)
    assert told[0]['dimension'] == 'token' and told[0]['user'] == a.me()['id']


def test_the_log_has_a_line_a_window(private_server):
    s = private_server(limits(user=3))
    a = s.client('alice@example.com')
    for _ in range(50):
        a.get(f'{V1}/users/me')
    assert rejections(s) == {'token': 0, 'user': 47, 'tenant': 0}
    until(lambda: any(line['msg'] == 'rate limit reached' for line in s.log_lines()))  # written by a thread of its own
    assert len([line for line in s.log_lines() if line['msg'] == 'rate limit reached']) == 1


def test_tokens_users_and_tenants(private_server):
    s = private_server(limits(token=10, user=15, tenant=20))
    one, two, bob = s.client('alice@example.com'), other_token(s, 'alice@example.com'), s.client('bob@example.com')
    stranger = s.client('admin@other.example')
    for who, count, dimension in ((one, 10, 'token'), (two, 5, 'user'), (bob, 5, 'tenant'), (stranger, 10, 'token')):
        had, r = used_up(who)
        assert (had, r.json()['error']['details']['dimension']) == (count, dimension)
    s.restart()  # counts are the process's own
    assert one.get(f'{V1}/users/me').status_code == 200


def test_signatures_spelled_differently_are_one_token(private_server):
    """The last character of a signature in base64 has bits that mean nothing."""
    s = private_server(limits(token=10))
    a = s.client('alice@example.com')
    assert left(a.get(f'{V1}/users/me')) == 9
    for c in 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_':
        r = a.get(f'{V1}/users/me', headers={'Authorization': f'Bearer {a.token[:-1]}{c}'})
        assert r.status_code in (401, 429) or left(r) < 9
    assert used_up(a)[0] < 9


def test_what_needs_no_token_is_not_counted(private_server):
    s = private_server(limits(token=2, user=2, tenant=2))
    nobody, a = s.client(), s.client('alice@example.com')
    for _ in range(5):
        for path in ('/health', f'{V1}/config', f'{V1}/ready', f'{V1}/openapi.json', f'{V1}/auth/jwks.json'):
            r = nobody.get(path)
            assert r.status_code in (200, 404) and 'x-ratelimit-limit' not in r.headers
        r = nobody.get(f'{V1}/users/me', headers={'Authorization': 'Bearer nonsense'})
        assert r.status_code == 401 and 'x-ratelimit-limit' not in r.headers
    assert used_up(a)[0] == 2
    assert a.get('/health').status_code == 200


def test_suspended_users_are_told_that_and_cost_nothing(private_server):
    s = private_server(limits(token=5, tenant=10))
    a, b = s.client('alice@example.com'), s.client('bob@example.com')
    assert a.get(f'{V1}/users/me').status_code == 200
    s.run('user', 'suspend', '--email', 'alice@example.com')
    until(lambda: a.get(f'{V1}/users/me').status_code == 403)
    for _ in range(20):
        r = a.get(f'{V1}/users/me')
        assert r.status_code == 403 and 'x-ratelimit-limit' not in r.headers
    assert used_up(b)[0] == 5


def test_an_upload_is_refused_before_its_body(private_server):
    s = private_server(limits(token=12))
    a = s.client('alice@example.com')
    share = a.make_share()
    a.make_file(share['id'], 'one', b'x')  # 2 + 5 used, 5 left
    a.make_file(share['id'], 'two', b'x' * (3 << 20))
    for size in (1, 100 << 10, (4 << 20) - 4096):
        refused(a.upload(share['id'], 'three', os.urandom(size)), 429, 'RATE_LIMITED')
    other = other_token(s, 'alice@example.com')
    assert sorted(i['name'] for i in other.ok('GET', f'{V1}/shares/{share["id"]}/children')['items']) == ['one', 'two']


def test_sockets_cost_once(private_server):
    s = private_server(limits(token=10))
    a = s.client('alice@example.com')
    device = a.register_device()['device_id']  # 2

    async def go():
        for _ in range(8):
            async with websockets.connect(address(s, f'{V1}/sync/ws/{device}', a.token)) as ws:
                for _ in range(5):
                    await ws.send('{"type":"ping"}')
                    await ws.recv()
        assert await code_of(websockets.connect(address(s, f'{V1}/sync/ws/{device}', a.token))) == 1013
        assert await code_of(websockets.connect(address(s, f'{V1}/realtime/ws', a.token))) == 1013
    run_async(go())
    assert a.get(f'{V1}/users/me').status_code == 429


def test_a_long_recipe_costs_by_its_length(private_server):
    s = private_server(limits(token=60))
    first, second, third = (other_token(s, 'alice@example.com') for _ in range(3))
    share = first.make_share()
    content = os.urandom(1 << 20)
    f = first.make_file(share['id'], 'f', content)
    n = len(first.ok('GET', f'{V1}/files/{f["id"]}/chunks')['chunks'])

    def make(api, name, times):
        return put(api, content * times, run(0, 0, n) * times, share_id=share['id'], name=name, sources=[f['version_id']])

    r = make(second, 'small', 3)
    assert r.status_code == 201 and left(r) == 40
    r = make(second, 'large', 41)
    assert r.status_code == 201 and left(r) == 10
    r = make(second, 'refused', 1)
    refused(r, 429, 'RATE_LIMITED')
    assert left(r) == 10
    # it may exceed what is left, and then the next has to wait
    third.get(f'{V1}/users/me')
    assert left(make(third, 'beyond', 200)) == 0
    assert third.content is not None and sha(second.content(first.ok('GET', f'{V1}/files', params={
        'share_id': share['id'], 'checksum_sha256': sha(content * 3)})['files'][0]['id'])) == sha(content * 3)
    refused(third.get(f'{V1}/users/me'), 429, 'RATE_LIMITED')


def test_the_client_of_the_documents(private_server):
    """The loop that docs/integrate/limits.md shows."""
    s = private_server(limits(token=6, window=1))
    with open(os.path.join(HERE, '..', '..', 'docs', 'integrate', 'limits.md')) as f:
        code = f.read().split('```python\n')[1].split('```')[0]
    names = {}
    exec(code, names)
    share = names['call'](f'{s.url}{V1}/shares', s.token('alice'), 'POST', {'name': 'S', 'share_type': 'project'})
    for _ in range(25):
        assert names['call'](f'{s.url}{V1}/shares/{share["id"]}', s.tokens.get('a') or s.tokens.setdefault('a', s.token('alice')))['name'] == 'S'
    assert rejections(s)['token'] > 0


def test_settings_out_of_range(private_server):
    for bad in ({'limits.rate_per_token': '-1'}, {'limits.rate_per_user': str(2 << 30)}, {'limits.rate_window': '0'}):
        with pytest.raises(Failed, match='must be from'):
            private_server(bad, people=False, start=False).run('user', 'list')


# ---- clients ----

@pytest.fixture
def devices(private_server):
    """Devices of one user at a server that lets a device do little in a second."""
    s = private_server(limits(token=12, window=1), people=False)
    made = []

    def device(name):
        made.append(Device(s, os.path.join(s.dir, 'devices'), name))
        return made[-1].login()
    yield device
    for d in made:
        d.stop(9)


@pytest.mark.once
def test_two_thousand_files_converge(devices):
    a, b = devices('a'), devices('b')
    names = {f'd{i % 40}/f{i}': os.urandom(100).hex() for i in range(2000)}
    for name, text in names.items():
        a.write(name, text)
    large = {f'large {i}': os.urandom((5 << 20) + (i == 0) * (15 << 20)) for i in range(2)}  # one by one, read as they are sent
    for name, content in large.items():
        with open(a.path(name), 'wb') as f:
            f.write(content)
    a.start()
    until(lambda: os.path.exists(a.path('.scaidrive')))
    until(lambda: status(a)['items'] >= 2000 + 40 + 2 and status(a)['last_sync_at'] is not None, 120)
    assert '"event":"fault"' not in a.log()
    events, _ = b.sync()
    waited = '"event":"waiting"' in a.log() or any(e['event'] == 'waiting' for e in events)
    assert waited == (sum(rejections(a.server).values()) > 0)  # a slow machine may need no patience
    assert events[-1]['in_step'] and events[-1]['problems'] == []
    for name, text in names.items():
        assert b.read(name) == text
    for name, content in large.items():
        with open(b.path(name), 'rb') as f:
            assert f.read() == content


@pytest.mark.once
def test_a_waiting_client_says_so_and_stops_when_told(private_server):
    s = private_server(limits(token=8), people=False)
    d = Device(s, os.path.join(s.dir, 'devices'), 'a').login()
    for name in 'abc':
        d.write(name, name)
    d.start()
    until(lambda: '"event":"waiting"' in d.log())
    assert status(d)['waiting_until'] > time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
    assert 'rate limit until' in d.run('status').stdout
    begin = time.monotonic()
    d.stop()
    assert time.monotonic() - begin < 5
