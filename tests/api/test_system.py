"""Health, readiness, configuration, metrics, the process: start, lock, signals, settings."""
import json
import os
import signal
import stat
import subprocess
import time

import httpx
import pytest
from support import PLAIN, Failed, Server, binary


@pytest.mark.parametrize('path', ['/health', '/api/v1/health'])
def test_health(anonymous, path):
    assert anonymous.ok('GET', path) == {'status': 'healthy', 'version': '0.1.0'}


def test_ready(anonymous):
    assert anonymous.ok('GET', '/api/v1/ready') == {'status': 'ready', 'checks': {'database': 'ok', 'storage': 'ok'}}


def test_config(anonymous, private_server):
    body = anonymous.ok('GET', '/api/v1/config')
    assert body['version'] == '0.1.0'
    assert set(body['features']) == {'semantic_search', 'external_sharing', 'smb_connector', 'sharepoint_connector'}
    assert body['limits']['max_file_size_bytes'] == 5368709120
    assert body['limits']['max_upload_chunk_size_bytes'] == 5242880
    assert 'snapshot' in body['capabilities']
    s = private_server({'limits.file_max_bytes': '1000'}, people=False)
    assert s.client().ok('GET', '/api/v1/config')['limits']['max_file_size_bytes'] == 1000


def test_openapi(anonymous):
    doc = anonymous.ok('GET', '/api/v1/openapi.json')
    assert doc['openapi'].startswith('3.1') and '/api/v1/sync/changes' in doc['paths']


def test_metrics(anonymous, alice):
    alice.me()
    r = anonymous.get('/metrics')
    assert r.status_code == 200 and r.headers['content-type'].startswith('text/plain')
    assert 'scaidrive_requests_total{' in r.text and 'scaidrive_auth_total{result="cached"}' in r.text
    names = [line.split()[2] for line in r.text.splitlines() if line.startswith('# TYPE')]
    assert len(names) == len(set(names))
    # through a proxy it is not from this machine, whatever the proxy's address
    assert anonymous.get('/metrics', headers={'X-Forwarded-For': '127.0.0.1'}).status_code == 404


def test_metrics_off(private_server):
    assert private_server({'metrics.access': 'off'}, people=False).client().get('/metrics').status_code == 404


def test_unknown_route(anonymous):
    r = anonymous.get('/api/v1/nothing')
    assert r.status_code == 404 and set(r.json()) >= {'detail', 'error', 'meta'}
    assert anonymous.delete('/api/v1/config').status_code == 405


def test_request_ids(anonymous):
    a, b = anonymous.get('/api/v1/nothing'), anonymous.get('/api/v1/nothing')
    assert a.json()['meta']['request_id'] != b.json()['meta']['request_id']


def test_second_server_is_refused(private_server):
    s = private_server(people=False)
    done = subprocess.run(s.args('serve', '--listen', '127.0.0.1:0'), capture_output=True, text=True, timeout=30, env=s.env)
    assert done.returncode == 1 and 'in use by another scaidrived' in done.stderr and str(s.process.pid) in done.stderr
    assert s.client().get('/health').status_code == 200


def test_taken_port(private_server):
    s = private_server(people=False)
    t = private_server(people=False, start=False)
    done = subprocess.run(t.args('serve', '--listen', f'127.0.0.1:{s.port}'), capture_output=True, text=True, timeout=30, env=t.env)
    assert done.returncode == 1 and 'cannot be listened on' in done.stderr


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_clean_stop(private_server, number):
    s = private_server(people=False)
    s.process.send_signal(number)
    assert s.process.wait(10) == 0
    s.process = None
    assert s.log_lines()[-1]['msg'] == 'stopped'


def test_stop_with_open_connections(private_server):
    s = private_server(people=False)
    clients = [httpx.Client(base_url=s.base_url, **PLAIN) for _ in range(5)]
    for c in clients:
        assert c.get('/health').status_code == 200  # kept alive, idle
    begin = time.monotonic()
    assert s.stop() == 0 and time.monotonic() - begin < 4
    for c in clients:
        c.close()


def test_restart_after_kill(private_server):
    s = private_server()
    alice = s.client('alice@example.com')
    share = alice.make_share()
    f = alice.make_file(share['id'], content=b'acknowledged')
    s.restart(hard=True)
    assert alice.content(f['id']) == b'acknowledged'


def test_data_folder_is_private(private_server):
    s = private_server(fresh=True)
    assert stat.S_IMODE(os.stat(s.data).st_mode) == 0o700
    for folder, _, names in os.walk(s.data):
        for name in names:
            assert not os.stat(os.path.join(folder, name)).st_mode & 0o077, name


def test_init_twice(private_server):
    s = private_server(people=False, start=False)
    with pytest.raises(Failed, match='initialised already'):
        s.init()


def test_packs_of_another_database(private_server):
    """A database whose contents lie in another folder is not served: what it stored there could not be read."""
    s = private_server()
    mark = os.path.join(s.data, 'packs', 'mark')
    s.stop()
    with open(mark, encoding='ascii') as f:
        mine = f.read()
    os.unlink(mark)
    for other in (None, 'another one'.ljust(len(mine)), mine[:7]):
        if other:
            with open(mark, 'w', encoding='ascii') as f:
                f.write(other)
        p = subprocess.run(s.args('serve', '--listen', '127.0.0.1:0'), capture_output=True, text=True, env=s.env, timeout=60, check=False)
        assert p.returncode and 'lie in another data folder' in p.stderr, p.stderr
    with open(mark, 'w', encoding='ascii') as f:
        f.write(mine)
    s.start()


def test_first_start_prints_a_login():
    s = Server()
    try:
        p = subprocess.Popen(s.args('serve', '--listen', '127.0.0.1:0', '--init-if-new'), stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True, env=s.env)
        try:
            lines = []
            while not any(' sync ' in line for line in lines):
                lines.append(p.stdout.readline())
                assert lines[-1], 'it ended: ' + ''.join(lines)
            text = ''.join(lines)
            url = text.split(' is running at ')[1].split()[0]
            password = text.split('Password')[1].split()[0]
            r = httpx.post(url + '/api/v1/auth/login', json={'email': 'admin@localhost', 'password': password}, timeout=60)
            assert r.status_code == 200, r.text
            shares = httpx.get(url + '/api/v1/users/me/shares', timeout=60,
                               headers={'Authorization': 'Bearer ' + r.json()['access_token']}).json()
            assert [x['name'] for x in shares['shares']] == ['Files']
            p.send_signal(signal.SIGINT)
            assert p.wait(20) == 0
        finally:
            p.kill()
            p.stdout.close()
            p.wait()
        # again: no new people, no password
        p = subprocess.Popen(s.args('serve', '--listen', '127.0.0.1:0', '--init-if-new'), stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True, env=s.env)
        p.stdout.readline()
        assert 'is running at' in p.stdout.readline()
        p.terminate()
        assert 'shown only now' not in p.stdout.read()
        assert p.wait(20) == 0
        p.stdout.close()
        assert len(json.loads(s.run('user', 'list', '--json'))) == 1
    finally:
        s.close()


# ---- settings ----

def config(*args, env=None, check=True):
    done = subprocess.run([binary(), 'config', *args], capture_output=True, text=True, timeout=30,
                          env={'PATH': os.environ['PATH']} | (env or {}))
    if not check:
        return done
    assert done.returncode == 0, done.stderr
    return {row['key']: row for row in json.loads(done.stdout)}


def test_settings_and_their_sources(tmp_path):
    ini = tmp_path / 'a.ini'
    ini.write_text('[compat]\ndata_mirror = true\n[lanes]\nmeta = 5\nbulk = 5\n')
    rows = config('--json', '--config', str(ini), '--set', 'lanes.bulk=7', env={'SCAIDRIVE_LANES_META': '6', 'SCAIDRIVE_LANES_BULK': '6'})
    assert rows['compat.data_mirror']['value'] is True and rows['compat.data_mirror']['source'] == f'{ini}:2'
    assert rows['lanes.meta']['value'] == 6 and 'SCAIDRIVE_LANES_META' in rows['lanes.meta']['source']
    assert rows['lanes.bulk']['value'] == 7 and rows['lanes.bulk']['source'] == 'command line'
    assert rows['listen']['source'] == 'default' and all(r['meaning'] for r in rows.values())


def test_secrets_are_masked():
    rows = config('--json', '--set', 'database.url=postgresql://u:hunter2@h/d')
    assert rows['database.url']['value'] == '********'


@pytest.mark.parametrize('text,words', [
    ('[compat]\ndata_miror = true\n', ':2: there is no setting "compat.data_miror"'),
    ('\nlisten\n', ':2: neither'),
    ('[lanes]\nmeta = lots\n', ':2: lanes.meta must be a whole number'),
    ('[log]\nlevel = loud\n', ':2: log.level is not valid'),
])
def test_bad_settings_name_their_place(tmp_path, text, words):
    ini = tmp_path / 'a.ini'
    ini.write_text(text)
    done = config('--config', str(ini), check=False)
    assert done.returncode == 2 and str(ini) + words in done.stderr, done.stderr


def test_missing_config_file():
    done = config('--config', '/nonexistent/a.ini', check=False)
    assert done.returncode == 2 and '/nonexistent/a.ini' in done.stderr


@pytest.mark.parametrize('args,words', [
    (['fly'], 'no command'), (['serve', '--fast'], 'no option --fast'), (['token'], '--user is needed'),
    (['serve', '--listen'], 'needs a value'), (['init', '--data', '/tmp/x'], 'needed'),
])
def test_usage(args, words):
    done = subprocess.run([binary(), *args], capture_output=True, text=True, timeout=30, env={'PATH': os.environ['PATH']})
    assert done.returncode == 2 and words in done.stderr


def test_every_command_has_help():
    text = subprocess.run([binary(), '--help'], capture_output=True, text=True, timeout=30).stdout
    names = [line[2:17].strip() for line in text.splitlines() if line.startswith('  ') and line[2] != ' ']
    assert {'serve', 'init', 'token', 'user add', 'keys rotate', 'config', 'migrate', 'version'} <= set(names)
    for name in names:
        done = subprocess.run([binary(), *name.split(), '--help'], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and f'scaidrived {name}' in done.stdout and '--data' in done.stdout


def test_data_mirror(private_server):
    s = private_server({'compat.data_mirror': 'true'})
    alice = s.client('alice@example.com')
    share = alice.make_share()
    body = alice.ok('GET', '/api/v1/sync/changes', params={'share_id': share['id']})
    data = body.pop('data')
    assert data == body


def test_newer_schema_is_refused(private_server, engine):
    if engine != 'sqlite':
        pytest.skip('the number is written into the embedded database by hand')
    import sqlite3
    s = private_server(people=False)
    s.stop()
    db = sqlite3.connect(os.path.join(s.data, 'scaidrive.db'))
    table = [r[0] for r in db.execute("select name from sqlite_master where name like '%migration%'")]
    assert len(table) == 1, table
    columns = [r[1] for r in db.execute(f'pragma table_info({table[0]})')]
    row = list(db.execute(f'select * from {table[0]} order by 1 desc').fetchone())
    row[columns.index('number')] = 999
    db.execute(f'insert into {table[0]} values ({",".join("?" * len(row))})', row)
    db.commit()
    db.close()
    done = s.run('migrate', check=False)
    assert done.returncode == 1 and 'newer' in done.stderr
