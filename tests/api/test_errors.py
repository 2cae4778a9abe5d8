"""Answers to what is wrong (D26), limits, encodings, framing (D18, D21)."""
import gzip
import json
import re
import socket
import subprocess
import time
import zlib

import pytest
from helpers import V1, Device, fields_of, mkdir, refused, snapshot


def raw(server, data, timeout=10):
    """Sends bytes, returns what comes until the server closes or is silent."""
    with socket.create_connection(('127.0.0.1', server.port), timeout) as s:
        s.sendall(data)
        out = b''
        s.settimeout(3)
        try:
            while True:
                part = s.recv(65536)
                if not part:
                    break
                out += part
                head, end, body = out.partition(b'\r\n\r\n')
                if end and b'content-length: ' in head.lower():
                    n = int(head.lower().split(b'content-length: ')[1].split(b'\r')[0])
                    if len(body) >= n:
                        break
        except socket.timeout:
            pass
        return out


def status_of(answer):
    assert answer.startswith(b'HTTP/1.1 '), answer[:200]
    return int(answer[9:12])


# ---- the shape ----

def test_unknown_path(alice, anonymous):
    for path in ('/', '/nope', f'{V1}', f'{V1}/nope', f'{V1}/files/x/y/z', f'{V1}//files', '/api/v2/files', f'{V1}/files/' + 'x/' * 50):
        refused(alice.get(path), 404, 'NOT_FOUND')
        refused(anonymous.get(path), 404, 'NOT_FOUND')


def test_other_methods(alice):
    for method, path, allowed in (('PUT', f'{V1}/files/fil_0000000000001', {'GET', 'PATCH', 'DELETE'}), ('PUT', f'{V1}/files', {'GET', 'POST'}),
                                  ('DELETE', f'{V1}/sync/changes', {'GET'}), ('PATCH', f'{V1}/shares', {'GET', 'POST'})):
        r = alice.request(method, path)
        refused(r, 405, 'METHOD_NOT_ALLOWED')
        assert allowed <= {m.strip() for m in r.headers['allow'].split(',')}
    r = alice.request('OPTIONS', f'{V1}/shares')
    assert r.status_code == 204 and 'GET' in r.headers['allow']
    refused(alice.request('BREW', f'{V1}/shares'), 405, 'METHOD_NOT_ALLOWED')


def test_request_ids(alice):
    one, two = alice.get(f'{V1}/nope'), alice.get(f'{V1}/nope')
    assert one.headers['x-request-id'] != two.headers['x-request-id']
    given = alice.get(f'{V1}/nope', headers={'X-Request-Id': 'abc-123_X.y'})
    assert given.headers['x-request-id'] == 'abc-123_X.y' == given.json()['meta']['request_id']
    for odd in ('a b', 'x' * 65, '<script>', '"', 'a\\b'):
        got = alice.get(f'{V1}/nope', headers={'X-Request-Id': odd})
        assert got.headers['x-request-id'] != odd


def test_the_log_knows_the_request_id(server, alice):
    alice.get(f'{V1}/files/fil_0000000000001', headers={'X-Request-Id': 'find-me-in-the-log'})
    end = time.monotonic() + 5
    while not (found := [line for line in server.log_lines() if line.get('request_id') == 'find-me-in-the-log']) and time.monotonic() < end:
        time.sleep(0.1)  # lines are gathered before they are written
    assert [line.get('status') for line in found] == [404]


def test_tokens_are_not_logged(server, alice):
    alice.get(f'{V1}/users/me')
    assert alice.token not in server.log() and alice.token.split('.')[2] not in server.log()


def test_401(anonymous, server):
    r = anonymous.get(f'{V1}/users/me')
    refused(r, 401, 'AUTH_TOKEN_INVALID')
    assert r.headers['www-authenticate'].startswith('Bearer')
    good = server.token('alice')
    broken = [good[:-3] + 'abc', good + 'x', good.split('.')[0] + '..', 'x', 'a.b.c', 'x' * 9000, good.split('.')[0] + '.' + good.split('.')[1] + '.']
    for token in broken:
        r = anonymous.get(f'{V1}/users/me', headers={'Authorization': f'Bearer {token}'})
        assert r.status_code in (401, 431), token[:40]
    for header in ('', 'Bearer', 'Basic dXNlcjpwYXNz', good, f'Token {good}'):
        assert anonymous.get(f'{V1}/users/me', headers={'Authorization': header}).status_code == 401, header[:20]
    assert anonymous.get(f'{V1}/users/me', headers={'Authorization': f'bearer {good}'}).status_code == 200
    assert anonymous.get(f'{V1}/users/me', params={'token': good}).status_code == 401  # in the query for sockets alone


def test_alg_none_and_foreign_claims(anonymous, server):
    import base64
    enc = lambda o: base64.urlsafe_b64encode(json.dumps(o).encode()).rstrip(b'=').decode()
    head, body, sign = server.token('alice').split('.')
    claims = json.loads(base64.urlsafe_b64decode(body + '=='))
    for token in (enc({'alg': 'none', 'typ': 'JWT'}) + '.' + body + '.', enc({'alg': 'none'}) + '.' + body + '.' + sign,
                  enc({'alg': 'HS256', 'typ': 'JWT'}) + '.' + body + '.' + sign, head + '.' + enc({**claims, 'sub': 'usr_0000000000001'}) + '.' + sign):
        assert anonymous.get(f'{V1}/users/me', headers={'Authorization': f'Bearer {token}'}).status_code == 401


def test_422_names_every_field(alice):
    r = alice.post(f'{V1}/sync/devices', json={'device_id': '', 'device_name': 5, 'platform': 'x'})
    assert {f for f, _ in fields_of(r)} == {'body.device_id', 'body.device_name', 'body.platform'}
    r = alice.get(f'{V1}/shares', params={'limit': 'x', 'offset': -1})
    assert {f for f, _ in fields_of(r)} == {'query.limit', 'query.offset'}
    assert {'type', 'loc', 'msg', 'input'} == set(r.json()['detail'][0])


def test_422_is_bounded(alice, share):
    device = Device(alice, share)
    r = alice.post(f'{V1}/sync/apply', json={'device_id': device.id, 'share_id': share['id'], 'changes': [{}] * 5000})
    assert r.status_code == 422 and len(r.json()['detail']) == 100 and len(r.content) < 100000


def test_a_password_is_not_echoed(anonymous):
    r = anonymous.post(f'{V1}/auth/login', json={'email': 5, 'password': 'secret-' + 'x' * 2000})
    assert r.status_code == 422 and 'secret-' not in r.text


# ---- JSON ----

@pytest.mark.parametrize('body', [
    b'', b'{', b'{"name":}', b'[1,]', b'nul', b'{"name":"x"}{"name":"y"}', b'{"name":"x"} trailing', b"{'name':'x'}", b'\xff\xfe{\x00}\x00', b'{"name":"\xff"}',
    b'{"name":"\xed\xa0\x80"}', b'{"name":"a\nb"}', b'{name:"x"}', b'/**/{"name":"x"}', b'{"a":NaN}', b'{"a":Infinity}', b'\x00', b'{"name":"x"}\x00',
    b'[' * 100000, b'{"a":' * 65 + b'1' + b'}' * 65], ids=lambda b: ascii(b[:24]))
def test_broken_json(alice, share, body):
    r = alice.post(f'{V1}/folders', content=body, headers={'Content-Type': 'application/json'})
    assert r.status_code == 422, r.text
    assert snapshot(alice, share)[0] == {}


@pytest.mark.parametrize('body', [b'null', b'5', b'"x"', b'true', b'[]'])
def test_json_that_is_no_object(alice, body):
    assert alice.post(f'{V1}/folders', content=body).status_code == 422


def test_duplicate_keys_and_unknown_fields(alice, share):
    r = alice.post(f'{V1}/folders', content=f'{{"share_id":"{share["id"]}","name":"one","name":"two","unknown":[1,{{}}]}}')
    assert r.status_code in (201, 422)
    if r.status_code == 201:
        assert r.json()['name'] in ('one', 'two')


@pytest.mark.parametrize('number', ['9223372036854775808', '-9223372036854775809', '1e400', '-1e400', '1' * 400, '1.5', '18446744073709551616', '9223372036854775807', '-0.5', 'true', '"5"', '[5]'])
def test_huge_and_odd_numbers(alice, number):
    r = alice.post(f'{V1}/shares', content=f'{{"name":"x","share_type":"project","quota_bytes":{number}}}')
    assert r.status_code in (201, 422), r.text
    if r.status_code == 201:
        assert str(r.json()['quota_bytes']) == number


def test_whole_floats_are_integers(alice):
    assert alice.post(f'{V1}/shares', content=b'{"name":"x","share_type":"project","quota_bytes":5.0}').json()['quota_bytes'] == 5


def test_bodies_have_a_limit(alice, share):
    device = Device(alice, share)
    assert alice.post(f'{V1}/folders', content=json.dumps({'share_id': share['id'], 'name': 'padded'}).encode() + b' ' * (200 << 10)).status_code == 201
    apply = {'device_id': device.id, 'share_id': share['id'], 'changes': [mkdir('/ok')]}
    assert alice.post(f'{V1}/sync/apply', content=json.dumps(apply).encode() + b' ' * (8 << 20)).status_code == 200


@pytest.mark.parametrize('path, size', [('folders', (256 << 10) + 1), ('sync/apply', (16 << 20) + 1)])
def test_bodies_that_are_too_large(server, alice, path, size):
    """Declared or not: the answer comes, and before the bytes when the length is declared."""
    head = f'POST {V1}/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n'
    assert status_of(raw(server, f'{head}Content-Length: {size}\r\n\r\n'.encode())) == 413
    with socket.create_connection(('127.0.0.1', server.port), 10) as s:
        s.sendall(f'{head}Transfer-Encoding: chunked\r\n\r\n'.encode())
        answer = b''
        try:
            for _ in range(size // 65536 + 2):
                s.sendall(b'10000\r\n' + b' ' * 65536 + b'\r\n')
            s.sendall(b'0\r\n\r\n')
            answer = s.recv(65536)
        except ConnectionError:
            pass  # closed while we were still sending: the answer may be lost with it
        assert answer == b'' or status_of(answer) == 413
    assert alice.get('/health').status_code == 200


# ---- compression (D18) ----

def zstd(data, *args):
    return subprocess.run(['zstd', '-q', '-c', *args], input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize('coding, pack', [('gzip', gzip.compress), ('x-gzip', gzip.compress), ('zstd', zstd), ('GZIP', gzip.compress), ('identity', bytes)])
def test_packed_requests(alice, share, coding, pack):
    body = pack(json.dumps({'share_id': share['id'], 'name': coding}).encode())
    r = alice.post(f'{V1}/folders', content=body, headers={'Content-Encoding': coding})
    assert r.status_code == 201 and r.json()['name'] == coding


def test_packed_requests_that_are_broken(alice, share):
    good = json.dumps({'share_id': share['id'], 'name': 'x'}).encode()
    post = lambda body, coding: alice.post(f'{V1}/folders', content=body, headers={'Content-Encoding': coding})
    refused(post(good, 'br'), 415, 'UNSUPPORTED_MEDIA_TYPE')
    refused(post(good, 'gzip, gzip'), 415, 'UNSUPPORTED_MEDIA_TYPE')
    for body, coding in ((good, 'gzip'), (good, 'zstd'), (gzip.compress(good)[:-9], 'gzip'), (zstd(good)[:-5], 'zstd'), (zlib.compress(good), 'gzip')):
        refused(post(body, coding), 400, 'BAD_REQUEST')
    corrupt = bytearray(gzip.compress(good))
    corrupt[-6] ^= 1
    refused(post(bytes(corrupt), 'gzip'), 400, 'BAD_REQUEST')
    assert snapshot(alice, share)[0] == {}


@pytest.mark.parametrize('coding, pack', [('gzip', gzip.compress), ('zstd', zstd)])
def test_bombs(alice, coding, pack):
    bomb = pack(b' ' * (200 << 20))
    r = alice.post(f'{V1}/folders', content=bomb, headers={'Content-Encoding': coding})
    refused(r, 413, 'PAYLOAD_TOO_LARGE')


def test_packed_answers(alice, share):
    for i in range(40):
        alice.make_folder(share['id'], f'folder {i}')
    get = lambda accept: alice.get(f'{V1}/sync/snapshot', params={'share_id': share['id']}, headers={'Accept-Encoding': accept})
    plain = get('identity')
    assert 'content-encoding' not in plain.headers and plain.headers['vary'].lower() == 'accept-encoding'
    packed = get('gzip')
    assert packed.headers['content-encoding'] == 'gzip' and packed.json() == plain.json()
    assert int(packed.headers['content-length']) < len(plain.content) / 2
    assert 'content-encoding' not in get('gzip;q=0, br').headers


def test_short_answers_stay_plain(alice, share):
    """Packing costs more than a KiB is worth."""
    seen = set()
    for i in range(8):
        alice.make_folder(share['id'], f'folder {i}')
        r = alice.get(f'{V1}/sync/snapshot', params={'share_id': share['id']}, headers={'Accept-Encoding': 'gzip'})
        packed = r.headers.get('content-encoding') == 'gzip'
        assert packed == (len(r.content) > 1024) == ('vary' in r.headers)
        seen.add(packed)
    assert seen == {False, True}


def test_zstd_answers(server, alice, share):
    for i in range(40):
        alice.make_folder(share['id'], f'folder {i}')
    answer = raw(server, f'GET {V1}/sync/snapshot?share_id={share["id"]} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: zstd, gzip\r\nAuthorization: Bearer {alice.token}\r\n\r\n'.encode())
    head, _, body = answer.partition(b'\r\n\r\n')
    assert b'content-encoding: zstd' in head.lower()
    plain = subprocess.run(['zstd', '-d', '-q', '-c'], input=body, stdout=subprocess.PIPE, check=True).stdout
    assert len(json.loads(plain)['nodes']) == 40


# ---- framing ----

@pytest.mark.parametrize('request_, status', [
    ('GET /health HTTP/1.1\r\nHost: x\r\n\r\n', {200}),
    ('GET /health HTTP/1.0\r\n\r\n', {200}),
    ('GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n', {200}),
    ('GET /health?x=%zz HTTP/1.1\r\nHost: x\r\n\r\n', {400}),
    ('GET /%00health HTTP/1.1\r\nHost: x\r\n\r\n', {400, 404}),
    ('GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n', {400, 404}),
    ('GET nonsense HTTP/1.1\r\nHost: x\r\n\r\n', {400}),
    ('POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello', {400}),
    ('POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', {400}),
    ('POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n', {400}),
    ('POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n', {400, 413}),
    ('POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n', {400}),
    ('POST /api/v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n', {401, 411}),
], ids=lambda v: v[:60] if isinstance(v, str) else None)
def test_framing(server, request_, status):
    assert status_of(raw(server, request_.encode())) in status
    assert status_of(raw(server, b'GET /health HTTP/1.1\r\nHost: x\r\n\r\n')) == 200


def test_large_headers(server, alice):
    answer = raw(server, b'GET /health HTTP/1.1\r\nHost: x\r\nX-Large: ' + b'x' * 40000 + b'\r\n\r\n')
    assert status_of(answer) == 431
    answer = raw(server, b'GET /' + b'x' * 40000 + b' HTTP/1.1\r\nHost: x\r\n\r\n')
    assert status_of(answer) in (414, 431)
    answer = raw(server, b'GET /health HTTP/1.1\r\nHost: x\r\n' + b''.join(b'X-%d: y\r\n' % i for i in range(300)) + b'\r\n')
    assert status_of(answer) in (200, 431)
    assert alice.get('/health').status_code == 200


def test_expect_continue(server, alice):
    with socket.create_connection(('127.0.0.1', server.port), 10) as s:
        s.sendall(f'POST {V1}/sync/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n'.encode())
        s.settimeout(5)
        first = s.recv(65536)
        assert first.startswith(b'HTTP/1.1 100 ')
        s.sendall(b'{}')
        assert b'HTTP/1.1 422 ' in first + s.recv(65536)


@pytest.mark.parametrize('who, method, path, length, status', [
    (None, 'POST', 'files', 100000, 401), ('nobody', 'POST', 'files', 100000, 401), ('alice', 'POST', 'files', 6 << 30, 413),
    ('alice', 'PUT', 'uploads/ups_0000000000001/chunks/0', 4 << 20, 404), ('alice', 'POST', 'sync/chunks?share_id=shr_0000000000001', 100000, 404),
    ('alice', 'POST', 'sync/chunks?share_id=shr_0000000000001', (256 << 20) + 1, 413), ('alice', 'POST', 'files', 100000, 100)])
def test_expect_continue_of_what_is_refused(server, alice, who, method, path, length, status):
    """Who waits to be told is told, and sends nothing."""
    token = {'alice': alice.token, 'nobody': 'x.y.z'}.get(who)
    with socket.create_connection(('127.0.0.1', server.port), 10) as s:
        s.sendall(f'{method} {V1}/{path} HTTP/1.1\r\nHost: x\r\n{f"Authorization: Bearer {token}" if token else "X: y"}\r\n'
                  f'Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n'.encode())
        s.settimeout(5)
        assert s.recv(65536).startswith(b'HTTP/1.1 %d ' % status)


def test_pipelined(server):
    answer = raw(server, b'GET /health HTTP/1.1\r\nHost: x\r\n\r\n' * 3 + b'GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    with socket.create_connection(('127.0.0.1', server.port), 10) as s:
        s.sendall(b'GET /health HTTP/1.1\r\nHost: x\r\n\r\n' * 3 + b'GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
        s.settimeout(5)
        out = b''
        while part := s.recv(65536):
            out += part
    assert out.count(b'HTTP/1.1 200 ') == 3 and out.count(b'HTTP/1.1 404 ') == 1 and answer


def test_a_refused_upload_costs_no_bytes(server, anonymous):
    """The answer comes before the body: a client without rights need not send it."""
    with socket.create_connection(('127.0.0.1', server.port), 10) as s:
        s.sendall(f'POST {V1}/files HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000000\r\n\r\n'.encode())
        s.settimeout(5)
        assert s.recv(65536).startswith(b'HTTP/1.1 401 ')


def test_clients_that_hang_up(server, alice, share):
    for cut in (10, 150, 400, 100000):
        body = b'--x\r\nContent-Disposition: form-data; name="share_id"\r\n\r\n' + share['id'].encode() + b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + b'y' * 500000
        head = f'POST {V1}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 600000\r\n\r\n'.encode()
        s = socket.create_connection(('127.0.0.1', server.port), 10)
        s.sendall((head + body)[:cut])
        s.close()
    assert snapshot(alice, share)[0] == {} and alice.get('/health').status_code == 200


def test_query_oddities(alice, share):
    path = f'{V1}/folders/root/children?share_id={share["id"]}'
    assert alice.get(path + '&unknown=1&=&&x').status_code == 200
    assert alice.get(path + '&limit=5&limit=x').status_code in (200, 422)
    assert alice.get(path + '&include_deleted=%ff').status_code == 400
    assert alice.get(path + '&limit=%35').status_code == 200
    assert alice.get(path + '&include_deleted=TRUE').status_code == 200


# ---- system ----

def test_health(anonymous):
    for path in ('/health', f'{V1}/health'):
        r = anonymous.get(path)
        assert r.status_code == 200 and r.json()['status'] == 'healthy' and r.json()['version']
    assert anonymous.get(f'{V1}/ready').json() == {'status': 'ready', 'checks': {'database': 'ok', 'storage': 'ok'}}
    assert anonymous.head('/health').status_code == 200


def test_config_and_document(anonymous):
    import contract
    c = anonymous.get(f'{V1}/config').json()
    assert {'snapshot', 'op_id', 'base_cursor', 'staged'} <= set(c['capabilities']) and c['limits']['max_apply_changes'] == 10000
    served = anonymous.get(f'{V1}/openapi.json').json()
    assert served == contract.DOCUMENT  # what is served, what is in docs/, what is tested: one thing


def test_metrics(private_server, anonymous):
    anonymous.get('/health')
    text = anonymous.get('/metrics').text
    for name in ('scaidrive_requests_total', 'scaidrive_request_duration_seconds', 'scaidrive_queue_depth', 'scaidrive_sync_websocket_connections'):
        assert f'# TYPE {name}' in text, name
    assert 'status="200"' in text
    families, family, seen = set(), None, set()
    for line in text.splitlines():  # exposition format 0.0.4
        about = re.fullmatch(r'# (HELP|TYPE) ([a-z_]+) (.+)', line)
        if about:
            if about[1] == 'HELP':
                assert about[2] not in families, f'{about[2]} stands in two places'
                families.add(about[2])
            else:
                assert about[3] in ('counter', 'gauge', 'histogram') and about[2] in families, line
                family = about[2]
            continue
        sample = re.fullmatch(r'([a-z_]+)(\{([a-z_]+="(?:[^"\\\n]|\\.)*",?)+\})? (\d+(\.\d+)?)', line)
        assert sample and sample[1] in (family, family + '_bucket', family + '_sum', family + '_count'), line
        assert line.rsplit(' ', 1)[0] not in seen, f'twice: {line}'
        seen.add(line.rsplit(' ', 1)[0])
    assert anonymous.get('/metrics', headers={'X-Forwarded-For': '10.0.0.1'}).status_code == 404  # not from this machine
    off = private_server({'metrics.access': 'off'})
    assert off.client().get('/metrics').status_code == 404


def test_jwks_and_ways_in(anonymous):
    keys = anonymous.get(f'{V1}/auth/jwks').json()
    assert keys['keys'] and all('d' not in k for k in keys['keys']) and anonymous.get('/.well-known/jwks.json').json() == keys
    assert anonymous.get(f'{V1}/auth/config').json()['login_url'].endswith(f'{V1}/auth/login')


def test_login(server, anonymous, password):
    login = lambda **body: anonymous.post(f'{V1}/auth/login', json=body)
    r = login(email='ADMIN@example.com', password=password)
    assert r.status_code == 200 and r.json()['token_type'] == 'Bearer' and r.json()['user']['email'] == 'admin@example.com'
    assert server.client(token=r.json()['access_token']).me()['is_admin'] is True
    wrong, unknown = login(email='admin@example.com', password='wrong'), login(email='nobody@example.com', password='wrong')
    refused(wrong, 401, 'AUTH_LOGIN_FAILED')
    refused(unknown, 401, 'AUTH_LOGIN_FAILED')
    assert wrong.json()['detail'] == unknown.json()['detail']
    refused(login(email='alice@example.com', password=''), 422, 'VALIDATION_ERROR')
    refused(login(email='alice@example.com', password='x'), 401, 'AUTH_LOGIN_FAILED')  # has no password


def test_suspended(private_server):
    server = private_server()
    bob = server.client('bob@example.com')
    assert bob.get(f'{V1}/users/me').status_code == 200
    server.run('user', 'suspend', '--email', 'bob@example.com')
    end = time.monotonic() + 5
    while bob.get(f'{V1}/users/me').status_code == 200 and time.monotonic() < end:
        time.sleep(0.1)
    refused(bob.get(f'{V1}/users/me'), 403, 'AUTHZ_USER_SUSPENDED')
    server.run('user', 'activate', '--email', 'bob@example.com')
    while bob.get(f'{V1}/users/me').status_code != 200 and time.monotonic() < end + 5:
        time.sleep(0.1)
    assert bob.get(f'{V1}/users/me').status_code == 200
