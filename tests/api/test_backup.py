"""scaidrived backup and restore: points in time beside a running server, and a new server from one of them."""
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time

import httpx
import pytest
from support import Server, sha256

RANDOM = random.Random(11)


class Shelf:
    """A folder of backups beside a server's."""

    def __init__(self, server, name='backups'):
        self.server, self.path = server, os.path.join(server.dir, name)

    def make(self, *more):
        self.server.run('backup', self.path, *more)
        return self.points()[-1]

    def points(self):
        return [line.split()[0] for line in self.server.run('backup', 'list', self.path).splitlines()]

    def verify(self, *more):
        return self.server.run('backup', 'verify', self.path, *more, check=False)

    def packs(self):
        return {os.path.join(top, n) for top, _, names in os.walk(os.path.join(self.path, 'packs')) for n in names}

    def files(self):
        return {n for n in os.listdir(self.path) if n not in ('lock', 'packs')}


@pytest.fixture
def empty():
    """A function that makes servers without a data folder, on an engine of choice."""
    made = []

    def make(engine=None):
        made.append(Server(engine=engine))
        return made[-1]
    yield make
    for s in made:
        s.close()


def fill(server):
    alice = server.client('admin@example.com')
    share = alice.make_share('Papers')
    folder = alice.make_folder(share['id'], 'reports')
    contents = {}
    for name, size in (('a.txt', 10), ('b.bin', 300_000), ('Ünïcode 名.bin', 5 << 20), ('empty', 0)):
        data = RANDOM.randbytes(size)
        f = alice.make_file(share['id'], name, data, folder_id=folder['id'])
        contents[f['id']] = data
    return alice, share, contents


def fetch(client, file):
    """None: the server broke off, as it does rather than send what is damaged."""
    with contextlib.suppress(httpx.RemoteProtocolError):
        return client.get(f'/api/v1/files/{file}/content').content


def same(client, contents):
    for file, data in contents.items():
        r = client.get(f'/api/v1/files/{file}/content')
        assert r.status_code == 200 and r.content == data


def clean(server):
    done = server.run('fsck', '--deep', check=False)
    assert done.returncode == 0, done.stdout


def restored(path, server, *more):
    """A server that runs with what is kept there; nothing is wrong with it."""
    server.run('restore', path, *more)
    clean(server)
    return server.start()


def sign_in_again(server):
    server.tokens.clear()
    return server.client('admin@example.com')


def test_there_and_back(private_server, empty):
    server = private_server(people=False)
    alice, share, contents = fill(server)
    cursor = alice.ok('GET', '/api/v1/sync/changes', params={'share_id': share['id']})['cursor']
    shelf = Shelf(server)
    point = shelf.make()
    later = alice.make_file(share['id'], 'later', b'after the backup')
    assert shelf.verify().returncode == 0
    other = empty()
    assert 'sign in again' in other.run('restore', shelf.path)
    assert not os.path.exists(os.path.join(other.data, 'restoring'))
    clean(other)
    other.start()
    again = sign_in_again(other)
    same(again, contents)
    assert again.get(f'/api/v1/files/{later["id"]}').status_code == 404
    # nobody's cursor is valid, nobody's token either
    r = again.get('/api/v1/sync/changes', params={'share_id': share['id'], 'cursor': cursor})
    assert r.status_code == 400 and r.json()['error']['code'] == 'SYNC_CURSOR_INVALID'
    assert again.get('/api/v1/users/me', headers={'Authorization': alice.headers['Authorization']}).status_code == 401
    page = again.ok('GET', '/api/v1/sync/snapshot', params={'share_id': share['id']})
    assert page['cursor'] > cursor + 1000
    restore, = page['restores']
    assert restore['cursor'] == page['cursor']
    # ids of the lost time are not given again, and those of before and after the restore can be told apart
    made = again.make_file(share['id'], 'works', b'as before')
    assert max(n['version_id'] or '' for n in page['nodes']) < later['version_id'] < restore['version_id'] < made['version_id']
    assert shelf.points() == [point]


def test_engines(private_server, empty, engine):
    """What one engine kept the other one has."""
    if engine != 'postgresql':
        pytest.skip('one run of both is enough')
    first = private_server(people=False)
    _, _, contents = fill(first)
    Shelf(first).make()
    lite = restored(Shelf(first).path, empty('sqlite'))
    alice = sign_in_again(lite)
    same(alice, contents)
    more = alice.make_file(alice.make_share()['id'], 'more', RANDOM.randbytes(100_000))
    contents[more['id']] = alice.get(f'/api/v1/files/{more["id"]}/content').content
    Shelf(lite).make()
    back = restored(Shelf(lite).path, empty('postgresql'))
    same(sign_in_again(back), contents)


def test_points_share_packs(private_server, empty):
    server = private_server(people=False)
    alice, share, contents = fill(server)
    shelf = Shelf(server)
    first = shelf.make()
    before = shelf.packs()
    stamps = {p: os.stat(p).st_mtime_ns for p in before}
    server.restart()  # closes the packs that small writes share: they grow no more
    new = alice.make_file(share['id'], 'new', RANDOM.randbytes(6 << 20))
    second = shelf.make()
    assert shelf.points() == [first, second]
    assert len(shelf.packs()) > len(before)
    large = max(before, key=os.path.getsize)
    assert os.stat(large).st_mtime_ns == stamps[large], 'copied twice'
    r = shelf.verify('--all')
    assert r.returncode == 0, r.stdout
    # each point is itself
    for point, there in ((first, 404), (second, 200)):
        other = empty()
        other.run('restore', shelf.path, '--point', point)
        other.start()
        client = sign_in_again(other)
        same(client, contents)
        assert client.get(f'/api/v1/files/{new["id"]}').status_code == there


def test_keep(private_server):
    server = private_server(people=False)
    alice, share, _ = fill(server)
    shelf = Shelf(server)
    points = [shelf.make()]
    garbage = os.path.join(shelf.path, 'packs', '0', '0123456789abcdef.pack')
    shutil.copy(next(iter(shelf.packs())), garbage)
    for i in range(3):
        alice.make_file(share['id'], f'f{i}', b'%d' % i)
        points.append(shelf.make('--keep', '2'))
    assert shelf.points() == points[-2:]
    assert not os.path.exists(garbage)
    assert shelf.files() == {p + s for p in points[-2:] for s in ('.db', '.json')}
    assert shelf.verify('--all').returncode == 0


def test_damage_is_told(private_server, empty):
    server = private_server(people=False)
    _, _, contents = fill(server)
    shelf = Shelf(server)
    point = shelf.make()
    large = max(shelf.packs(), key=os.path.getsize)
    with open(large, 'r+b') as f:
        f.seek(1000)
        f.write(b'rot')
    r = shelf.verify()
    assert r.returncode == 1 and 'CHUNK_DAMAGED' in r.stdout
    other = empty()
    done = other.run('restore', shelf.path, check=False)
    assert done.returncode == 1 and 'damaged' in done.stderr
    other.start()
    client = sign_in_again(other)
    bad = [f for f, data in contents.items() if fetch(client, f) != data]
    assert len(bad) == 1  # the rest is there
    # a pack that is gone, a database that is another
    os.unlink(large)
    r = shelf.verify()
    assert r.returncode == 1 and 'PACK_MISSING' in r.stdout
    with open(os.path.join(shelf.path, point + '.db'), 'r+b') as f:
        f.seek(5000)
        f.write(b'rot')
    assert shelf.verify().returncode == 1
    third = empty()
    done = third.run('restore', shelf.path, check=False)
    assert done.returncode == 2 and 'not as it was written' in done.stderr


def test_source_damage_is_told(private_server):
    server = private_server(people=False)
    fill(server)
    packs = [os.path.join(top, n) for top, _, names in os.walk(os.path.join(server.data, 'packs')) for n in names if n.endswith('.pack')]
    large = max(packs, key=os.path.getsize)
    with open(large, 'r+b') as f:
        f.seek(1000)
        f.write(b'rot')
    shelf = Shelf(server)
    done = server.run('backup', shelf.path, check=False)
    assert done.returncode == 1 and 'is damaged on the server' in done.stderr
    assert len(shelf.points()) == 1


def test_refusals(private_server, empty, engine):
    server = private_server(people=False)
    fill(server)
    shelf = Shelf(server)
    done = server.run('restore', shelf.path, check=False)
    assert done.returncode == 2 and 'no such folder' in done.stderr
    os.makedirs(shelf.path)
    done = server.run('restore', shelf.path, check=False)
    assert done.returncode == 2 and 'no whole backup' in done.stderr
    shelf.make()
    done = server.run('restore', shelf.path, check=False)
    assert done.returncode == 2 and 'in use' in done.stderr
    server.stop()
    done = server.run('restore', shelf.path, check=False)
    assert done.returncode == 2 and 'empty data folder' in done.stderr
    done = server.run('restore', shelf.path, '--point', '20200101T000000Z', check=False)
    assert done.returncode == 2 and 'no point' in done.stderr
    # another folder, but a database in use
    other = Server(engine=engine, database_url=server.settings.get('database.url'))
    if engine == 'sqlite':
        other.init()
    done = other.run('restore', shelf.path, check=False)
    assert done.returncode == 2 and 'not empty' in done.stderr
    assert not os.path.exists(os.path.join(other.data, 'restoring'))
    other.close()
    server.start()
    sign_in_again(server).me()


def kill_while(command, env, delay):
    p = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    p.send_signal(signal.SIGKILL)
    return p.wait()


def test_killed(private_server, empty):
    """At any moment: an interrupted backup is no point, an interrupted restore is nothing that serves, and both go on."""
    server = private_server(people=False)
    alice, share, contents = fill(server)
    for i in range(4):
        data = RANDOM.randbytes(8 << 20)
        contents[alice.make_file(share['id'], f'large{i}', data)['id']] = data
    shelf = Shelf(server)
    begin = time.monotonic()
    shelf.make()
    whole_s = time.monotonic() - begin
    shutil.rmtree(shelf.path)
    killed = 0
    for i in range(8):
        n = len(shelf.points()) if os.path.exists(shelf.path) else 0
        if kill_while(server.args('backup', shelf.path), server.env, whole_s * (i + 1) / 9):
            killed += 1
            now = len(shelf.points()) if os.path.exists(shelf.path) else 0
            assert now == n or (now == n + 1 and shelf.verify().returncode == 0)  # the kill may have come behind the end
        if i % 3 == 2:
            shutil.rmtree(shelf.path)
    assert killed
    shelf.make('--keep', '1')
    assert shelf.verify().returncode == 0
    assert len(shelf.files()) == 2
    other = empty()
    killed = 0
    for i in range(8):
        if kill_while(other.args('restore', shelf.path), other.env, whole_s * (i + 1) / 12):
            killed += 1
            if os.path.exists(os.path.join(other.data, 'restoring')):
                done = other.run('fsck', check=False)
                assert done.returncode == 2 and 'run it again' in done.stderr
    assert killed
    done = other.run('restore', shelf.path, check=False)
    assert done.returncode == 0 or 'packs already' in done.stderr  # the last kill may have come behind the end
    clean(other)
    other.start()
    same(sign_in_again(other), contents)


def test_beside_writers(private_server, empty):
    """A backup beside uploads is some moment of the log: what it has is whole."""
    server = private_server(people=False)
    alice, share, contents = fill(server)
    shelf = Shelf(server)
    p = subprocess.Popen(server.args('backup', shelf.path), env=server.env, stdout=subprocess.DEVNULL)
    made, order = {}, []
    while p.poll() is None or len(made) < 20:
        data = RANDOM.randbytes(50_000)
        f = alice.make_file(share['id'], f'n{len(made)}', data)
        made[f['id']] = data
        order.append(f['id'])
    assert p.returncode == 0
    other = restored(shelf.path, empty())
    client = sign_in_again(other)
    same(client, contents)
    there = [client.get(f'/api/v1/files/{f}').status_code == 200 for f in order]
    n = sum(there)
    assert there == [True] * n + [False] * (len(there) - n)  # no hole
    same(client, {f: made[f] for f in order[:n]})


def test_uploads_and_leases_stay_behind(private_server, empty):
    server = private_server(people=False)
    alice, share, _ = fill(server)
    upload = alice.ok('POST', '/api/v1/uploads', json={'share_id': share['id'], 'file_name': 'u', 'file_size': 1 << 20, 'chunk_size': 256 << 10})['id']
    assert alice.put(f'/api/v1/uploads/{upload}/chunks/0', content=RANDOM.randbytes(256 << 10)).status_code == 200
    data = RANDOM.randbytes(5000)
    body = bytes.fromhex(sha256(data)) + len(data).to_bytes(4, 'little') + data
    r = alice.post('/api/v1/sync/chunks', params={'share_id': share['id']}, content=body, headers={'Content-Type': 'application/octet-stream'})
    assert r.status_code == 200
    shelf = Shelf(server)
    shelf.make()
    with open(os.path.join(shelf.path, shelf.points()[0] + '.json')) as f:
        assert json.load(f)['engine'] == server.engine
    other = restored(shelf.path, empty())
    assert sign_in_again(other).get(f'/api/v1/uploads/{upload}').status_code == 404
