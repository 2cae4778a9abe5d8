"""scaidrived fsck --repair: what is hurt is mended, nothing is lost, and the server and its clients go on."""
import contextlib
import json
import os

import pytest
from support import Server
from test_fsck import INNER, OTHERS, PAPERS, REPORTS, SMALL, V, World, other_byte, place_of_small

SMALL_BYTES = b'small content\n' * 100


@pytest.fixture(scope='module')
def whole():
    w = World()
    yield w
    w.server.close()


@pytest.fixture
def world(whole):
    """A copy that may be hurt."""
    w = object.__new__(World)
    w.__dict__.update(whole.__dict__)
    w.server = Server(pattern=whole.server)
    yield w
    w.server.close()


def repair(world, *options, left=()):
    done = world.server.run('fsck', '--json', '--repair', *options, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == (1 if left else 0), done
    assert sorted({f['finding'] for f in world.fsck(*options)}) == sorted(left)
    return [line for line in lines if 'repaired' in line]


def paths(world):
    """Every file of Papers by its path, with its content, as alice gets it from the server."""
    alice = world.server.client('alice@example.com')
    page = alice.ok('GET', '/api/v1/sync/snapshot', params={'share_id': world.share['id'], 'limit': 1000})
    nodes = {n['id']: n for n in page['nodes']}

    def path(n):
        return (path(nodes[n['parent_id']]) if n['parent_id'] in nodes else '') + '/' + n['name']
    return {path(n): alice.content(n['id']) for n in nodes.values() if n['type'] == 'file'}


def test_nothing_to_repair(world):
    assert repair(world) == []


@pytest.mark.parametrize('do, left', [
    ('update shares set used_bytes = used_bytes + 1', []),
    (f'update versions set size_bytes = 1401 where id = {V}', []),
    (f'update nodes set size_bytes = 1 where id = {SMALL}', []),
    (f'update nodes set version = 2, last_version = 2 where id = {SMALL}', []),
    (f'update nodes set version_id = -version_id where id = {SMALL}', []),
    (f'update nodes set last_version = 0 where id = {SMALL}', []),
    (f'update nodes set version_id = 7 where id = {INNER}', []),
    (f'update versions set staged_until = 5 where id = {V}', []),
    (f'update nodes set parent_id = {INNER} where id = {REPORTS}', []),
    (f'update nodes set parent_id = 5 where id = {INNER}', []),
    (f'update nodes set parent_id = {SMALL} where id = {INNER}', []),
    (f'update nodes set parent_id = 0 where id = {INNER}', []),
    (f"update nodes set name_key = 'other' where id = {SMALL}", []),
    (f"update nodes set name = 'a/b' where id = {SMALL}", []),
    (f'update nodes set deleted_at = 9 where id = {INNER}', []),
    (f'update nodes set change_seq = change_seq + 1000000 where id = {SMALL}', []),
    (f'update shares set root_id = -root_id where id = {PAPERS}', []),
    (f"update nodes set name = 'root' where id = (select root_id from shares where id = {PAPERS})", []),
    (f'update share_members set share_id = -share_id where share_id = {OTHERS}', []),
    (f'update changes set seq = -seq where seq = 3 and share_id = {PAPERS}', []),
    ('update tenants set seq = seq + 3', []),
    ('update tenants set seq = seq - 1 where seq > 3', []),
    (f'update changes set share_id = -share_id where share_id = {OTHERS}', []),
    ('update device_cursors set position = position + 1000000', []),
    ('update uploads set next_piece = next_piece + 1', []),
    ('update upload_parts set upload_id = -upload_id', []),
    ('update upload_pieces set xxh = xxh + 1', []),
    ('update chunk_leases set tenant_id = tenant_id + 1', []),
    ('update packs set size_bytes = size_bytes + 1', []),
    ('delete from packs', []),
    ('update chunks set xxh = xxh + 1 where raw_len = 1400', []),
    ('update chunks set offset_bytes = offset_bytes + 64 where raw_len = 1400', []),
    ('update chunks set codec = codec + 7', []),
    ('delete from chunks where raw_len = 1400', []),
    ('delete from chunks', []),
    (f'update shares set tenant_id = -tenant_id where id = {OTHERS}', ['SHARE_ROOT', 'SHARE_TENANT']),  # nobody knows whose it was
    (f'update versions set node_id = -node_id where id = {V}', ['NODE_HEAD_MISSING', 'VERSION_FILE']),
])
def test_rows(world, do, left):
    world.sql(do)
    assert world.codes(), 'the damage is none'
    done = repair(world, left=left)
    assert done or left
    if left:
        return
    world.server.start()
    contents = paths(world)
    assert SMALL_BYTES in contents.values(), contents.keys()
    assert any(len(c) == 5 << 20 for c in contents.values())


def test_lost_and_found(world):
    world.sql(f'update nodes set parent_id = 5 where id = {INNER}')
    done = repair(world)
    assert [d['repaired'] for d in done] == ['NODE_PARENT_MISSING', 'CHANGES'] and done[0]['rows'] == 1
    world.server.start()
    assert paths(world)['/lost+found/inner/small.txt'] == SMALL_BYTES


def test_a_broken_tree_sends_clients_to_the_snapshot(world):
    world.server.start()
    alice = world.server.client('alice@example.com')
    before = alice.ok('GET', '/api/v1/sync/changes', params={'share_id': world.share['id'], 'cursor': '0'})['cursor']
    world.server.stop()
    world.sql(f'update nodes set parent_id = {INNER} where id = {REPORTS}')
    repair(world)
    world.server.start()
    alice = world.server.client('alice@example.com')
    r = alice.get('/api/v1/sync/changes', params={'share_id': world.share['id'], 'cursor': str(before)})
    assert r.status_code == 400 and r.json()['error']['code'] == 'SYNC_CURSOR_INVALID'
    assert alice.ok('GET', '/api/v1/sync/snapshot', params={'share_id': world.share['id']})['cursor'] > before


def test_what_is_nowhere_stays_told(world):
    """Damaged bytes: no repair invents them, and nothing else goes; put back, all is well."""
    path, offset, _ = place_of_small(world)
    with other_byte(path, offset + 3):
        repair(world, left=['CHUNK_DAMAGED', 'VERSION_UNREADABLE'])
    assert repair(world) == []


def test_an_index_that_is_lost_comes_back_from_packs(world):
    world.sql('delete from chunks')
    world.sql('delete from packs')
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(world.server.data, 'packs', 'finder'))
    assert repair(world, '--deep')
    world.server.start()
    alice = world.server.client('alice@example.com')
    assert alice.content(world.small['id']) == SMALL_BYTES
    copy = alice.make_file(world.share['id'], 'again.txt', SMALL_BYTES)
    assert alice.content(copy['id']) == SMALL_BYTES
