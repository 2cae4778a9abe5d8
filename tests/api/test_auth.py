"""Signing in, tokens, keys, suspension, and what must never work."""
import base64
import json
import time

import pytest
from support import PASSWORD, Failed, unique

LOGIN = '/api/v1/auth/login'


def login(client, email, password=PASSWORD, **more):
    return client.post(LOGIN, json={'email': email, 'password': password, **more})


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=').decode()


def part(token, i):
    text = token.split('.')[i]
    return json.loads(base64.urlsafe_b64decode(text + '=' * (-len(text) % 4)))


def status_of(server, token):
    return server.client(token=token).get('/api/v1/users/me').status_code


def test_login(anonymous, server):
    r = login(anonymous, 'admin@example.com')
    assert r.status_code == 200
    body = r.json()
    assert body['token_type'] == 'Bearer' and body['expires_in'] == 3600
    assert body['user']['email'] == 'admin@example.com' and body['user']['admin_role'] == 'tenant_admin'
    assert r.headers['cache-control'] == 'no-store'
    me = server.client(token=body['access_token']).me()
    assert me == body['user']
    claims = part(body['access_token'], 1)
    assert claims['iss'] == 'scaidrive' and claims['sub'] == me['id'] and claims['tenant_id'] == me['tenant_id']
    assert claims['exp'] - claims['iat'] == 3600 and claims['jti'] and 'tenant:admin' in claims['scope'].split()


def test_address_is_compared_without_case(anonymous):
    assert login(anonymous, 'ADMIN@Example.COM').status_code == 200


def test_wrong_and_unknown_are_alike(private_server):
    s = private_server()
    c = s.client()
    answers = []
    for email, password in (('admin@example.com', 'wrong password'), ('nobody@example.com', PASSWORD),
                            ('alice@example.com', PASSWORD)):  # alice has no password
        r = login(c, email, password)
        assert r.status_code == 401
        body = r.json()
        body.pop('meta')
        answers.append(body)
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]['error']['code'] == 'AUTH_LOGIN_FAILED'


def test_unknown_address_takes_as_long(private_server):
    s = private_server({'auth.login_attempts': '1000'}, fresh=True)  # a real hash
    c = s.client()

    def median(email):
        times = []
        for _ in range(5):
            begin = time.monotonic()
            assert login(c, email, 'wrong password').status_code == 401
            times.append(time.monotonic() - begin)
        return sorted(times)[2]
    known, unknown = median('admin@example.com'), median('nobody@example.com')
    assert 0.4 < known / unknown < 2.5, (known, unknown)


@pytest.mark.parametrize('body', [{}, {'email': 'a@b.c'}, {'email': 'a@b.c', 'password': 7}, {'email': '', 'password': 'x'}, []])
def test_login_is_validated(anonymous, body):
    r = anonymous.post(LOGIN, json=body)
    assert r.status_code == 422
    assert isinstance(r.json()['detail'], list)
    assert PASSWORD not in r.text


@pytest.mark.parametrize('header', ['', 'Bearer', 'Bearer x', 'Basic YTpi', 'Bearer ' + 'a' * 9000, 'Bearer a.b.c', 'x'])
def test_bad_authorization(anonymous, header):
    r = anonymous.get('/api/v1/users/me', headers={'Authorization': header})
    assert r.status_code == 401
    assert r.json()['error']['code'] == 'AUTH_TOKEN_INVALID'
    assert r.headers['www-authenticate'].startswith('Bearer')


def test_no_token(anonymous):
    assert anonymous.get('/api/v1/users/me').status_code == 401


def test_forged_tokens(server, alice):
    header, claims, signature = alice.token.split('.')
    good = part(alice.token, 0)
    admin = dict(part(alice.token, 1), sub=server.client('admin@example.com').me()['id'])
    forged = [
        f'{header}.{b64(json.dumps(admin).encode())}.{signature}',
        f'{b64(json.dumps(dict(good, alg="none")).encode())}.{claims}.',
        f'{b64(json.dumps(dict(good, alg="none")).encode())}.{claims}.{signature}',
        f'{b64(json.dumps(dict(good, alg="HS256")).encode())}.{claims}.{signature}',
        f'{b64(json.dumps(dict(good, kid="other")).encode())}.{claims}.{signature}',
        f'{b64(json.dumps(dict(good, jku="http://127.0.0.1:1/")).encode())}.{claims}.{signature}',
        f'{header}.{claims}.{"A" * len(signature)}',
        f'{header}.{claims}',
        alice.token + '.x',
        alice.token[:-2],
    ]
    for token in forged:
        assert status_of(server, token) == 401, token
    assert status_of(server, alice.token) == 200


def test_token_of_another_server(server, private_server):
    foreign = private_server(fresh=True).token('admin@example.com')
    assert status_of(server, foreign) == 401


def test_scopes(server):
    me = server.client(token=server.token('alice@example.com', scope='files:read')).me()
    assert me['scopes'] == ['files:read'] and not me['is_admin']
    me = server.client(token=server.token('alice@example.com', scope='openid profile')).me()
    assert me['scopes'] == ['files:read', 'files:write']  # D25: an ordinary user's
    # a scope does not make an administrator: the role is in the database
    me = server.client(token=server.token('alice@example.com', scope='admin:*')).me()
    assert not me['is_admin'] and me['admin_role'] is None


def test_ttl_and_device(server):
    token = server.token('alice@example.com', device='dev_x', ttl=120)
    claims = part(token, 1)
    assert claims['exp'] - claims['iat'] == 120 and claims['device_id'] == 'dev_x'
    with pytest.raises(Failed):
        server.token('alice@example.com', ttl=0)
    with pytest.raises(Failed):
        server.token('alice@example.com', ttl=10**12)


def test_jwks_verifies_our_tokens(anonymous, alice):
    keys = anonymous.ok('GET', '/api/v1/auth/jwks')['keys']
    assert keys == anonymous.ok('GET', '/.well-known/jwks.json')['keys']
    mine = [k for k in keys if k['kid'] == part(alice.token, 0)['kid']]
    assert len(mine) == 1 and mine[0]['kty'] == 'EC' and mine[0]['alg'] == part(alice.token, 0)['alg'] == 'ES256'
    assert all('d' not in k for k in keys)


def test_auth_config(anonymous):
    body = anonymous.ok('GET', '/api/v1/auth/config')
    assert body['login_url'].endswith(LOGIN) and body['authorize_url'] is None


def test_suspension_beside_a_running_server(private_server):
    s = private_server()
    alice = s.client('alice@example.com')
    assert alice.me()['email'] == 'alice@example.com'
    s.run('user', 'suspend', '--email', 'alice@example.com')
    time.sleep(1.1)  # another process's change counts within a second
    r = alice.get('/api/v1/users/me')
    assert r.status_code == 403 and r.json()['error']['code'] == 'AUTHZ_USER_SUSPENDED'
    with pytest.raises(Failed):
        s.token('alice@example.com')
    s.run('user', 'activate', '--email', 'alice@example.com')
    assert alice.get('/api/v1/users/me').status_code == 200


def test_suspended_user_cannot_sign_in(private_server):
    s = private_server()
    s.run('user', 'password', '--email', 'alice@example.com', '--password', PASSWORD)
    c = s.client()
    assert login(c, 'alice@example.com').status_code == 200
    s.run('user', 'suspend', '--email', 'alice@example.com')
    assert login(c, 'alice@example.com', 'wrong password').status_code == 401
    assert login(c, 'alice@example.com').status_code == 403


def test_password_change(private_server):
    s = private_server()
    c = s.client()
    s.run('user', 'password', '--email', 'admin@example.com', '--password-stdin', stdin='another long one\n')
    assert login(c, 'admin@example.com').status_code == 401
    assert login(c, 'admin@example.com', 'another long one').status_code == 200
    with pytest.raises(Failed):
        s.run('user', 'password', '--email', 'admin@example.com', '--password', 'short')


def test_guessing_is_bounded(private_server):
    s = private_server({'auth.login_attempts': '4'})
    c = s.client()
    seen = [login(c, 'admin@example.com', f'guess number {i}').status_code for i in range(6)]
    assert seen == [401] * 4 + [429] * 2
    r = login(c, 'admin@example.com')  # the right one too, or the bound would tell which it was
    assert r.status_code == 429 and 800 <= int(r.headers['retry-after']) <= 900  # when the window ends
    assert r.json()['error']['code'] == 'RATE_LIMITED'
    s.restart()
    assert login(c, 'admin@example.com').status_code == 429  # the count outlives the process
    assert login(c, 'nobody@example.com', 'x').status_code == 401  # another account is not held up


def test_success_forgets_failures(private_server):
    s = private_server({'auth.login_attempts': '3'})
    c = s.client()
    for _ in range(3):
        assert [login(c, 'admin@example.com', 'wrong one').status_code for _ in range(2)] == [401, 401]
        assert login(c, 'admin@example.com').status_code == 200


def test_parallel_sign_ins(private_server):
    """More at once than may hash: all succeed or are told to come back; none fails otherwise."""
    from concurrent.futures import ThreadPoolExecutor
    s = private_server({'auth.login_attempts': '1000', 'lanes.bulk': '32'}, fresh=True)  # a real hash
    c = s.client()
    with ThreadPoolExecutor(24) as pool:
        seen = list(pool.map(lambda _: login(c, 'admin@example.com').status_code, range(24)))
    assert set(seen) <= {200, 503} and seen.count(200) >= 16, seen


def test_key_rotation(private_server):
    s = private_server()
    old = s.token('alice@example.com')
    s.run('keys', 'rotate')
    new = s.token('alice@example.com')
    assert part(old, 0)['kid'] != part(new, 0)['kid']
    time.sleep(1.1)
    assert status_of(s, old) == 200 and status_of(s, new) == 200
    assert len(s.client().ok('GET', '/api/v1/auth/jwks')['keys']) == 2
    s.run('keys', 'rotate', '--revoke')
    time.sleep(1.1)
    assert status_of(s, old) == 401 and status_of(s, new) == 401  # cached ones included
    assert status_of(s, s.token('alice@example.com')) == 200


def test_keys_outlive_a_restart(private_server):
    s = private_server()
    token = s.token('alice@example.com')
    s.restart(hard=True)
    assert status_of(s, token) == 200


def test_one_address_in_two_tenants(private_server):
    s = private_server()
    s.add_user('alice@example.com', tenant='other')
    with pytest.raises(Failed, match='name the tenant'):
        s.token('alice@example.com')
    here, there = s.token('alice@example.com', tenant='default'), s.token('alice@example.com', tenant='other')
    assert s.client(token=here).me()['tenant_id'] != s.client(token=there).me()['tenant_id']
    with pytest.raises(Failed, match='exists'):
        s.add_user('Alice@Example.com', tenant='default')


def test_users_me(alice, other):
    me = alice.me()
    assert me['name'] == me['display_name'] == 'Alice' and me['groups'] == [] and me['partner_id'] is None
    assert me['tenant_id'] != other.me()['tenant_id']


def test_my_shares(alice, bob, eve, admin):
    share = alice.make_share(unique('mine'))
    alice.add_member(share['id'], bob.me()['id'], 'reader')

    def roles(who):
        page = who.ok('GET', '/api/v1/users/me/shares', params={'limit': 100})
        assert page['total'] >= len(page['shares'])
        return {s['id']: s['role'] for s in page['shares']}
    assert roles(alice)[share['id']] == 'owner' and roles(bob)[share['id']] == 'reader'
    assert share['id'] not in roles(eve) and share['id'] not in roles(admin)
    mine = [s for s in alice.ok('GET', '/api/v1/users/me/shares', params={'limit': 100})['shares'] if s['id'] == share['id']][0]
    assert mine['type'] == share['share_type'] and mine['owner_id'] == alice.me()['id'] and mine['used_bytes'] == 0


TOKEN = '/api/v1/auth/token'


def exchange(client, token, **more):
    return client.post(TOKEN, data={'grant_type': 'refresh_token', 'refresh_token': token, **more})


def test_refresh(private_server):
    s = private_server({'auth.token_ttl': '600'})
    c = s.client()
    first = login(c, 'admin@example.com').json()['refresh_token']
    r = exchange(c, first)
    assert r.status_code == 200 and r.headers['cache-control'] == 'no-store'
    body = r.json()
    assert set(body) == {'access_token', 'token_type', 'expires_in', 'refresh_token'}
    assert body['token_type'] == 'Bearer' and body['expires_in'] == 600 and body['refresh_token'] != first
    assert s.client(token=body['access_token']).me()['email'] == 'admin@example.com'
    s.restart()
    lost = exchange(c, first)  # the answer above was lost
    assert lost.status_code == 200
    second = lost.json()['refresh_token']
    third = exchange(c, second)
    assert third.status_code == 200
    r = exchange(c, first)  # two generations old
    assert r.status_code == 401 and r.json()['error']['code'] == 'AUTH_TOKEN_INVALID'
    assert exchange(c, third.json()['refresh_token']).status_code == 401  # the whole sign-in has ended
    s.stop()
    assert 'an old refresh token was used' in s.log()
    for secret in (first, second, third.json()['refresh_token'], body['access_token']):
        assert secret not in s.log()


def test_refresh_is_a_form(anonymous):
    assert exchange(anonymous, '').status_code == 422
    assert exchange(anonymous, 'x' * 129).status_code == 422
    assert exchange(anonymous, 'x').status_code == 401
    assert exchange(anonymous, 'sdr_' + '0' * 96).status_code == 401
    assert anonymous.post(TOKEN, data={'grant_type': 'password', 'refresh_token': 'x'}).status_code == 422
    assert anonymous.post(TOKEN, data={'refresh_token': 'x'}).status_code == 422
    assert anonymous.post(TOKEN, data={}).status_code in (415, 422)
    assert anonymous.post(TOKEN, json={'grant_type': 'refresh_token', 'refresh_token': 'x'}).status_code == 415


def test_what_ends_a_sign_in(private_server):
    s = private_server()
    c = s.client()
    mail = 'alice@example.com'
    s.run('user', 'password', '--email', mail, '--password', PASSWORD)

    def sign_in(**more):
        return login(c, mail, **more).json()
    token = sign_in()['refresh_token']
    s.run('user', 'password', '--email', mail, '--password', PASSWORD)
    assert exchange(c, token).status_code == 401
    token = sign_in()['refresh_token']
    s.run('user', 'suspend', '--email', mail)
    assert exchange(c, token).status_code == 403
    s.run('user', 'activate', '--email', mail)
    assert exchange(c, token).status_code == 401
    bound, other = sign_in(device_id='dev_1'), sign_in(device_id='dev_2')
    alice = s.client(token=bound['access_token'])
    alice.ok('POST', '/api/v1/sync/devices', json={'device_id': 'dev_1', 'name': 'one', 'platform': 'linux', 'device_name': 'one'})
    assert alice.delete('/api/v1/sync/devices/dev_1').status_code in (200, 204)
    assert exchange(c, bound['refresh_token']).status_code == 401
    assert exchange(c, other['refresh_token']).status_code == 200


def test_parallel_exchanges(private_server):
    """Of any number at once, all are answered and the sign-in goes on with one of the last two answers."""
    from concurrent.futures import ThreadPoolExecutor
    s = private_server()
    c = s.client()
    token = login(c, 'admin@example.com').json()['refresh_token']
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: exchange(c, token), range(8)))
    assert {r.status_code for r in answers} == {200}
    assert len({r.json()['refresh_token'] for r in answers}) == 8
    assert exchange(c, token).status_code == 200


def test_secrets_stay_out_of_the_log(private_server):
    s = private_server({'log.level': 'debug'})
    c = s.client()
    token = s.token('alice@example.com')
    login(c, 'admin@example.com', 'canary-wrong-password')
    r = login(c, 'admin@example.com')
    s.client(token=token).me()
    s.client(token='canary.token.here').get('/api/v1/users/me')
    c.get('/api/v1/users/me', params={'token': 'canary-query'})
    s.stop()
    text = s.log()
    for secret in (PASSWORD, 'canary-wrong-password', 'canary.token.here', 'canary-query', token, token.split('.')[2],
                   r.json()['access_token']):
        assert secret not in text
