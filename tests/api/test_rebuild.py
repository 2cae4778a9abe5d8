"""scaidrived fsck --rebuild: the database is lost; packs and the catalog beside them make it anew."""
import contextlib
import os
import subprocess
import time

import pytest
from conftest import populate
from device import SHARE, world  # noqa: F401
from support import Cluster, Failed


def lose_the_database(server):
    if server.cluster_database:
        Cluster.get().drop(server.cluster_database)
        Cluster.get().sql(f'create database {server.cluster_database}')
        return
    for suffix in ('', '-wal', '-shm'):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(server.data, 'scaidrive.db' + suffix))


def test_all_is_there_again(private_server):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share('Papers')
    alice.add_member(share['id'], server.client('bob@example.com').me()['id'], 'contributor')
    folder = alice.make_folder(share['id'], 'reports')
    small = alice.make_file(share['id'], 'small.txt', b'small content\n' * 100, folder_id=folder['id'])
    big = alice.make_file(share['id'], 'big.bin', os.urandom(5 << 20))
    server.run('jobs', 'run', 'catalog')
    late = alice.make_file(share['id'], 'late.txt', b'after the catalog')
    big_bytes = alice.content(big['id'])
    before = alice.ok('GET', '/api/v1/sync/changes', params={'share_id': share['id']})['cursor']
    server.kill()
    lose_the_database(server)

    done = server.run('fsck', '--rebuild', '--deep', check=False)
    assert done.returncode == 0, done
    assert 'made anew' in done.stdout and 'No findings.' in done.stdout
    server.tokens.clear()
    server.start()
    for who in ('alice@example.com', 'bob@example.com'):
        api = server.client(token=server.token(who))
        assert api.content(small['id']) == b'small content\n' * 100
        assert api.content(big['id']) == big_bytes
    assert api.get(f'/api/v1/files/{late["id"]}').status_code == 404
    r = api.get('/api/v1/sync/changes', params={'share_id': share['id'], 'cursor': str(before)})
    assert r.status_code == 400 and r.json()['error']['code'] == 'SYNC_CURSOR_INVALID'
    again = api.make_file(share['id'], 'again.txt', b'after the catalog')
    assert api.content(again['id']) == b'after the catalog'


def test_devices_bring_back_what_is_newer(world):  # noqa: F811
    a = world.device('a')
    a.write('old.txt', 'old')
    a.sync()
    world.server.run('jobs', 'run', 'catalog')
    a.write('new.txt', 'new')
    a.write('old.txt', 'edited')
    a.sync()
    world.server.kill()
    lose_the_database(world.server)
    assert world.server.run('fsck', '--rebuild', check=False).returncode == 0
    world.server.start()
    a.login()
    a.sync()
    b = world.device('b')
    b.sync()
    assert b.read('old.txt') == 'edited' and b.read('new.txt') == 'new'


def test_packs_of_a_lost_database_are_kept(private_server):
    """A server that is started on a new database beside them, or after a rebuilding that did not come to its end, would have them
    collected: nothing refers to them."""
    server = private_server()
    share = server.client('alice@example.com').make_share('Papers')
    file = server.client('alice@example.com').make_file(share['id'], 'big.bin', os.urandom(5 << 20))
    content = server.client('alice@example.com').content(file['id'])
    server.run('jobs', 'run', 'catalog')
    server.kill()
    lose_the_database(server)
    refused = server.run('collect', check=False)
    assert refused.returncode == 1 and 'knows of none of them' in refused.stderr
    with pytest.raises(Failed, match='knows of none of them'):
        server.start()
    server.process = None

    lose_the_database(server)
    assert server.run('fsck', '--rebuild', check=False).returncode == 0
    server.sql('delete from packs')  # a rebuilding counts them last
    assert server.run('collect', check=False).returncode == 1
    assert server.run('fsck', '--repair', check=False).returncode == 0
    server.tokens.clear()
    server.start()
    assert server.client(token=server.token('alice@example.com')).content(file['id']) == content


def test_interrupted(private_server):
    """Killed at any moment: it is run again and goes on, and until then nothing else touches the folder."""
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share('Papers')
    files = {alice.make_file(share['id'], f'f{i}', c)['id']: c for i, c in enumerate(os.urandom(200_000 + i) for i in range(40))}
    server.run('jobs', 'run', 'catalog')
    server.kill()
    lose_the_database(server)
    begun = os.path.join(server.data, 'rebuilding')
    begin = time.monotonic()
    killed = server.run('fsck', '--rebuild', '--quick', check=False)
    assert killed.returncode == 0 and not os.path.exists(begun)
    took_s = time.monotonic() - begin
    for i in range(6):
        lose_the_database(server)
        p = subprocess.Popen(server.args('fsck', '--rebuild', '--quick'), env=server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(took_s * (i + 1) / 8)
        p.kill()
        p.wait()
        if os.path.exists(begun):
            for command in (('fsck',), ('fsck', '--repair'), ('user', 'list')):
                refused = server.run(*command, check=False)
                assert refused.returncode and 'its rebuilding did not come to its end; run it again' in refused.stderr
            again = server.run('fsck', '--rebuild', '--deep', check=False)
            assert again.returncode == 0 and 'No findings.' in again.stdout, again
            assert not os.path.exists(begun)
    # the rows are there, the index is not
    word = server.sql("select value from facts where key = 'restored'")[0][0]
    server.sql('delete from chunks')
    server.sql('delete from packs')
    with open(begun, 'w') as f:
        f.write(word)
    assert server.run('collect', check=False).returncode == 1
    again = server.run('fsck', '--rebuild', '--deep', check=False)
    assert again.returncode == 0 and 'No findings.' in again.stdout, again
    refused = server.run('fsck', '--rebuild', check=False)  # it is there by now
    assert refused.returncode == 2 and 'not empty' in refused.stderr and not os.path.exists(begun)
    server.tokens.clear()
    server.start()
    api = server.client(token=server.token('alice@example.com'))
    assert all(api.content(f) == c for f, c in files.items())


def test_refusals(private_server):
    server = private_server(start=False)
    done = server.run('fsck', '--rebuild', check=False)  # the database is there
    assert done.returncode == 2 and 'not empty' in done.stderr or 'no whole catalog' in done.stderr
    lose_the_database(server)
    done = server.run('fsck', '--rebuild', check=False)
    assert done.returncode == 2 and 'no whole catalog' in done.stderr
    populate(server)
