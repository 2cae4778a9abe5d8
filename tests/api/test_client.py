"""The real client as a person uses it: logins that last, a server that is away, folders that come back, modes and times."""
import contextlib
import http.server
import json
import os
import select
import socket
import subprocess
import threading
import time
import types

import pytest
from device import SHARE, Device, status, until, world  # noqa: F401 (world is a fixture)
from support import PASSWORD

pytestmark = pytest.mark.once

# ---- a login that lasts ----

def test_login_is_renewed(world):
    a = world.device('a')
    assert os.stat(os.path.join(a.state, 'device.json')).st_mode & 0o777 == 0o600
    first = a.identity()
    assert first.refresh_token and time.time() < first.renew_at_us / 1e6 < time.time() + 3600
    a.run('shares')
    assert a.identity().token == first.token
    a.identity(renew_at_us=1)  # its time has come
    a.run('shares')
    second = a.identity()
    assert second.token != first.token and second.refresh_token != first.refresh_token and second.device_id == first.device_id
    a.identity(token='refused')  # by a server whose clock differs
    a.run('shares')
    assert a.identity().token not in ('refused', second.token)


def test_a_lost_renewal_ends_nothing(world):
    """The new pair never reached the disk: the old one goes on."""
    a = world.device('a')
    first = a.identity(renew_at_us=1)
    a.run('shares')
    a.identity(**vars(first))
    a.run('shares')
    assert a.identity().token != first.token
    a.run('shares')


def test_daemon_and_commands_share_a_login(world):
    """Everybody finds the token refused at the same time; whoever comes first renews it, and no use is taken for a theft."""
    a = world.device('a').start()
    until(lambda: os.path.isdir(a.root))
    for i in range(3):
        a.identity(token=f'refused {i}', renew_at_us=1)
        running = [subprocess.Popen(a.command('shares'), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(6)]
        a.write(f'file {i}', 'x')
        for p in running:
            assert (p.wait(30), p.stderr.read()) == (0, b'')
    b = world.device('b')
    until(lambda: b.sync() and b.names() == ['file 0', 'file 1', 'file 2'])
    assert 'refresh token' not in world.server.log()


def test_an_ended_login_says_so_and_a_new_one_is_taken_up(world):
    a = world.device('a')
    a.sync()
    a.start()
    world.server.run('user', 'password', '--email', 'admin@example.com', '--password', PASSWORD)
    a.identity(token='refused')
    done = a.run('shares', code=4)
    assert 'scaidrive login --server' in done.stderr
    a.write('later', 'x')
    a.login()
    b = world.device('b')
    until(lambda: b.sync() and b.names() == ['later'])


def test_a_bare_token_cannot_be_renewed(world):
    a = world.device('a')
    a.run('login', '--server', world.server.base_url, '--token', world.server.token('admin@example.com'))
    assert a.identity().refresh_token is None
    a.run('shares')
    a.identity(token='refused')
    assert 'has ended' in a.run('shares', code=4).stderr


# ---- a server that is away ----

def test_start_without_the_server(world):
    a = world.device('a')
    a.write('one', '1')
    a.sync()
    assert status(a)['problem'] is None
    world.server.kill()
    done = a.run('sync', SHARE, a.root, '--once', code=3)
    assert 'reached' in done.stderr or 'connect' in done.stderr.lower()
    a.start()
    a.write('two', '2')
    until(lambda: status(a)['problem'])
    assert a.daemon.poll() is None
    assert '"event":"fault"' in a.log()
    world.server.start()
    b = world.device('b')
    until(lambda: b.sync() and b.read('two') == '2', 30)
    until(lambda: status(a)['problem'] is None)


def test_an_unknown_folder_waits_for_the_server(world):
    a = world.device('a')
    world.server.kill()
    a.run('sync', SHARE, a.root, '--once', code=3)
    a.start()
    until(lambda: a.log().count('"event":"fault"') > 1)
    assert a.daemon.poll() is None and not os.path.exists(a.root)
    world.server.start()
    until(lambda: os.path.isdir(a.root), 10)
    a.stop()


class Excuse(http.server.BaseHTTPRequestHandler):
    """A server that answers everything with one error; code None: a proxy's page."""

    def do_GET(self):
        status, code = self.server.excuse
        body = json.dumps({'detail': 'x', 'error': {'code': code}}) if code else '<html>'
        self.send_response(status)
        self.send_header('Content-Type', 'application/json' if code else 'text/html')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET

    def log_message(self, *args):
        pass


def test_what_is_waited_for_with_a_new_folder(world):
    """What a server says that may answer as it should later; all else ends the program."""
    passes = [(500, 'INTERNAL'), (500, 'DATABASE_ERROR'), (502, None), (503, 'OVERLOADED'), (503, 'READ_ONLY'), (503, 'SHUTTING_DOWN'),
              (504, 'TIMEOUT')]
    stays = [(401, 'AUTH_TOKEN_INVALID'), (403, 'AUTHZ_USER_SUSPENDED'), (404, 'NOT_FOUND'), (409, 'CONFLICT'), (500, 'IO_ERROR'),
             (500, 'CONTENT_CORRUPT'), (507, 'STORAGE_FULL')]
    a = world.device('a')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Excuse) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        a.identity(server=f'http://127.0.0.1:{fake.server_port}')
        for fake.excuse in passes:
            a.start()
            until(lambda: '"event":"fault"' in a.log())
            assert a.daemon.poll() is None, fake.excuse
            a.stop()
            os.remove(a.state + '.log')
        for fake.excuse in stays:
            a.start()
            assert a.daemon.wait(20) != 0, fake.excuse
            assert '"event":"fault"' not in a.log(), fake.excuse
            os.remove(a.state + '.log')
        fake.shutdown()


def test_a_stop_while_it_waits(world):
    a = world.device('a')
    world.server.kill()
    a.start()
    until(lambda: '"event":"fault"' in a.log())
    daemon = a.daemon
    a.stop()
    assert daemon.returncode == 0 and not os.path.exists(a.root)


def test_server_goes_and_comes_back(world):
    a = world.device('a').start()
    until(lambda: os.path.isdir(a.root))
    a.write('one', '1')
    b = world.device('b')
    until(lambda: b.sync() and b.read('one') == '1')
    world.server.kill()
    a.write('two', '2')
    until(lambda: status(a)['problem'])
    world.server.start()
    until(lambda: b.sync() and b.read('two') == '2', 30)


# ---- a state folder that is lost ----

def test_a_lost_state_adopts_the_tree(world):
    import shutil
    a = world.device('a')
    a.write('same', 'same')
    a.write('folder/deep/same', 'deep')
    a.write('edited', 'old')
    a.sync()
    shutil.rmtree(a.state)
    a.login()
    a.write('edited', 'new')
    a.write('added', 'more')
    events, _ = a.sync()
    done = events[-1]
    assert done['in_step'] and done['received_files'] <= 1 and done['sent_files'] <= 2 and not done['trashed'], events
    assert a.read('same') == 'same' and a.read('folder/deep/same') == 'deep' and a.read('added') == 'more'
    assert sorted(a.read(n) for n in a.names() if n.startswith('edited')) == ['new', 'old'], a.names()
    assert len(a.names()) == 5
    before = a.names()
    assert not [e for e in a.sync()[0] if e['event'] != 'settled'] and a.names() == before


def test_a_folder_that_came_with_another_and_left_it(world):
    """Between the log's entry and its subtree's snapshot: what was moved out is not in that, nor has it entries for its descendants."""
    a, admin = world.device('a'), world.server.client('admin@example.com')
    a.write('first', '1')
    a.sync()
    (here,) = [s for s in admin.ok('GET', '/api/v1/shares')['shares'] if s['name'] == SHARE]
    there = admin.make_share()
    outer = admin.make_folder(there['id'], 'outer')
    inner = admin.make_folder(there['id'], 'inner', outer['id'])
    deep = admin.make_folder(there['id'], 'deep', inner['id'])
    admin.make_file(there['id'], 'file', b'12345', deep['id'])
    admin.ok('POST', f'/api/v1/folders/{outer["id"]}/move', 200, json={'target_share_id': here['id']})
    admin.ok('POST', f'/api/v1/folders/{inner["id"]}/move', 200, json={'target_share_id': here['id']})
    events, _ = a.sync()
    assert events[-1]['in_step'] and a.names() == ['first', 'inner', 'outer'] and a.read('inner/deep/file') == '12345'


def test_a_folder_of_another_share_is_refused(world):
    a = world.device('a')
    a.write('one', '1')
    a.sync()
    world.server.client('admin@example.com').make_share('Other')
    done = a.run('sync', 'Other', a.root, '--once', code=1)
    assert '.scaidrive/id' in done.stderr and 'nothing is deleted' in done.stderr
    os.unlink(a.path('.scaidrive/id'))
    done = a.run('sync', SHARE, a.root, '--once', code=1)
    assert 'lost its marker' in done.stderr
    a.run('sync', 'Other', a.root, '--once')
    assert a.names() == ['one']


# ---- modes and times ----

def executable(device, name):
    return bool(os.stat(device.path(name)).st_mode & 0o100)


def test_the_executable_bit_travels_alone(world):
    a, b = world.device('a'), world.device('b')
    a.write('tool', 'x')
    a.sync()
    b.sync()
    assert not executable(b, 'tool')
    os.chmod(a.path('tool'), 0o755)
    events, _ = a.sync()
    assert [e['event'] for e in events] == ['set_mode_remote', 'settled'] and events[-1]['sent_files'] == 0
    events, _ = b.sync()
    assert [e['event'] for e in events] == ['set_mode_local', 'settled'] and executable(b, 'tool')
    assert [e['event'] for e in b.sync()[0]] == [e['event'] for e in a.sync()[0]] == ['settled']
    os.chmod(b.path('tool'), 0o600)
    b.sync()
    a.sync()
    assert os.stat(a.path('tool')).st_mode & 0o777 == 0o644
    os.chmod(a.path('tool'), 0o755)  # here the bit, there the content
    b.write('tool', 'new content')
    b.sync()
    a.sync()
    b.sync()
    assert a.read('tool') == 'new content' and executable(a, 'tool') and executable(b, 'tool')
    assert a.names() == b.names() == ['tool']


def test_a_new_time_is_no_edit(world):
    a = world.device('a')
    a.write('file', 'x')
    a.sync()
    os.utime(a.path('file'), (1, 1))
    events, _ = a.sync()
    assert [e['event'] for e in events] == ['settled'] and events[-1]['sent_files'] == 0


# ---- files that only pass by ----

PASSING = ('~$report.docx', '.~lock.report.odt#', '.notes.txt.swp', 'film.mkv.crdownload')


def test_lock_files_are_left_alone(world):
    a, b = world.device('a'), world.device('b')
    for name in PASSING:
        a.write('folder/' + name, 'x')
    a.write('folder/real', 'x')
    a.sync()
    b.sync()
    assert os.listdir(b.path('folder')) == ['real']
    assert set(os.listdir(a.path('folder'))) == {'real', *PASSING}
    admin = world.server.client('admin@example.com')
    share = [s for s in admin.ok('GET', '/api/v1/users/me/shares')['shares'] if s['name'] == SHARE][0]
    there = admin.make_file(share['id'], name='~$there')  # made by a client that does not know better
    assert not [e for e in b.sync()[0] if e['event'] != 'settled'] and b.names() == ['folder']
    os.rename(a.path('folder/film.mkv.crdownload'), a.path('folder/film.mkv'))
    os.rename(a.path('folder/real'), a.path('folder/~$real'))  # what is synced stays so
    a.sync()
    b.sync()
    assert sorted(os.listdir(b.path('folder'))) == ['film.mkv', '~$real']
    assert admin.get(f"/api/v1/files/{there['id']}").status_code == 200


# ---- files that are being written ----

def test_half_a_file_is_no_version(world):
    a, b = world.device('a'), world.device('b')
    a.write('other', 'x')

    def write_slowly():
        with open(a.path('slow'), 'wb', buffering=0) as f:
            for _ in range(4):
                f.write(b'piece')
                time.sleep(0.1)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    events, _ = a.sync()
    writer.join()
    sent = [e['path'] for e in events if e['event'] == 'send']
    assert sorted(sent) == ['other', 'slow'] and not [e for e in events if e['event'] == 'send_version']
    b.sync()
    assert b.read('slow') == 4 * 'piece'


def test_a_file_that_stays_open_is_synced_all_the_same(world):
    a = world.device('a')
    a.write('other', 'x')
    with open(a.path('log'), 'wb', buffering=0) as f:
        f.write(b'one')
        assert [e['path'] for e in a.sync()[0] if e['event'] == 'send' and e['path'] != 'other'] == ['log']
        f.write(b'two')
        assert [e['path'] for e in a.sync()[0] if e['event'] == 'send_version'] == ['log']


# ---- replies that are lost ----

class Lossy:
    """Between client and server: while armed, the server gets each change but its answer is lost. Counts bytes, and keeps
    the first line of each piece that the client sends; replaces `twist` in it by as many bytes; before a call to `meanwhile[0]`
    arrives there, does `meanwhile[1]`, once."""

    def __init__(self, to):
        self.to, self.armed, self.lost = to, set(), []
        self.sent, self.got, self.lines, self.twist, self.meanwhile = 0, 0, [], (b'', b''), None
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = 'http://127.0.0.1:%d' % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, s):
        up, losing = socket.create_connection(('127.0.0.1', self.to)), False
        with s, up, contextlib.suppress(OSError):
            while True:
                for a in select.select([s, up], [], [])[0]:
                    data = a.recv(1 << 20)
                    if not data:
                        return
                    if a is s:
                        line = data.split(b'\r\n')[0].decode('latin-1')
                        self.sent += len(data)
                        data = data.replace(*self.twist) if self.twist[0] else data
                        self.lines.append(line[:200])
                        if self.meanwhile and self.meanwhile[0] in line:
                            (_, act), self.meanwhile = self.meanwhile, None
                            act()
                        for path in list(self.armed):
                            if ' HTTP/1.1' in line and path in line and not line.startswith('GET'):
                                self.armed.discard(path)
                                self.lost.append(line)
                                losing = True
                        up.sendall(data)
                    elif losing:
                        return
                    else:
                        self.got += len(data)
                        s.sendall(data)


def test_lost_replies_make_nothing_twice(world):
    lossy = Lossy(world.server.port)
    a = Device(types.SimpleNamespace(base_url=lossy.url, env=world.server.env), os.path.join(world.server.dir, 'devices'), 'a').login()
    b = world.device('b')

    def step(path, change):
        change()
        lossy.armed.add(path)
        a.run('sync', SHARE, a.root, '--once', code=None)
        assert lossy.lost and path in lossy.lost[-1]
        lossy.armed.clear()
        a.sync()
        b.sync()
        seen = {}
        for d in (a, b):
            seen[d] = sorted((os.path.relpath(os.path.join(at, f), d.root), d.read(os.path.relpath(os.path.join(at, f), d.root)))
                             for at, _, files in os.walk(d.root) if '.scaidrive' not in at for f in files)
        assert seen[a] == seen[b]
        return dict(seen[a])
    assert step('/api/v1/files', lambda: a.write('new', '1')) == {'new': '1'}
    assert step('/api/v1/files', lambda: a.write('new', '2 edited')) == {'new': '2 edited'}
    assert step('/sync/apply', lambda: a.write('folder/in it', '3')) == {'new': '2 edited', 'folder/in it': '3'}
    assert step('/sync/apply', lambda: os.rename(a.path('new'), a.path('folder/moved'))) == {'folder/moved': '2 edited', 'folder/in it': '3'}
    assert step('/api/v1/files/', lambda: os.chmod(a.path('folder/moved'), 0o755)) and executable(b, 'folder/moved')
    assert step('/sync/apply', lambda: os.unlink(a.path('folder/in it'))) == {'folder/moved': '2 edited'}
    lossy.listener.close()
