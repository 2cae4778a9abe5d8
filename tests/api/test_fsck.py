"""scaidrived fsck: each thing that can be hurt is hurt, and must be told for what it is, and nothing else; then it is mended.

One stopped server for the module. Damage to rows is done by SQL, on both engines, and undone by SQL."""
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import subprocess

import pytest
from conftest import populate
from support import Server

RANDOM = random.Random(7)
PIECE = 256 << 10  # two of them hold a cut for certain


def bulk_chunk(data):
    return hashlib.sha256(data).digest() + len(data).to_bytes(4, 'little') + data


class World:
    def __init__(self):
        self.server = populate(Server()).start()
        alice = self.server.client('alice@example.com')
        self.share = alice.make_share('Papers')
        self.folder = alice.make_folder(self.share['id'], 'reports')
        self.inner = alice.make_folder(self.share['id'], 'inner', parent_id=self.folder['id'])
        self.small = alice.make_file(self.share['id'], 'small.txt', b'small content\n' * 100, folder_id=self.inner['id'])
        self.big = alice.make_file(self.share['id'], 'big.bin', RANDOM.randbytes(5 << 20))
        trashed = alice.make_file(self.share['id'], 'old.txt', b'in the trash\n' * 50)
        alice.delete(f'/api/v1/files/{trashed["id"]}')
        self.other_share = alice.make_share('Others')
        self.upload = alice.ok('POST', '/api/v1/uploads', json={'share_id': self.share['id'], 'file_name': 'u', 'file_size': 6 * PIECE,
                                                                'chunk_size': PIECE})['id']
        for i in (0, 1, 4):
            r = alice.put(f'/api/v1/uploads/{self.upload}/chunks/{i}', content=RANDOM.randbytes(PIECE))
            assert r.status_code == 200, r.text
        r = alice.post('/api/v1/sync/chunks', params={'share_id': self.share['id']}, content=bulk_chunk(RANDOM.randbytes(5000)),
                       headers={'Content-Type': 'application/octet-stream'})
        assert r.status_code == 200, r.text
        laptop = alice.register_device()['device_id']
        alice.ok('POST', '/api/v1/sync/cursor', params={'device_id': laptop, 'share_id': self.share['id'], 'position': 1})
        self.server.kill()  # as a crash leaves it: the log of SQLite is not folded in

    def sql(self, text):
        """Rows of the last statement as text."""
        return self.server.sql(text)

    def one(self, text):
        return self.sql(text)[0][0]

    def fsck(self, *options, code=None):
        done = self.server.run('fsck', '--json', *options, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found = [line for line in lines if 'finding' in line]
        assert done.returncode == (bool(found) if code is None else code), done
        assert lines[-1]['summary']['findings'] == len(found)
        return found

    def codes(self, *options):
        return sorted({f['finding'] for f in self.fsck(*options)})

    @contextlib.contextmanager
    def hurt(self, do, undo):
        self.sql(do)
        try:
            yield
        finally:
            self.sql(undo)

    def packs(self):
        """Paths by size, the largest first."""
        out = []
        for top, _, names in os.walk(os.path.join(self.server.data, 'packs')):
            out += [os.path.join(top, n) for n in names if n.endswith('.pack')]
        return sorted(out, key=os.path.getsize, reverse=True)


@contextlib.contextmanager
def other_byte(path, at):
    with open(path, 'r+b') as f:
        f.seek(at)
        was = f.read(1)
        f.seek(at)
        f.write(bytes([was[0] ^ 1]))
    try:
        yield
    finally:
        with open(path, 'r+b') as f:
            f.seek(at)
            f.write(was)


@pytest.fixture(scope='module')
def world():
    w = World()
    yield w
    w.server.close()


def pack_path(world, pack_id):
    return next(p for p in world.packs() if p.endswith(f'{int(pack_id):016x}.pack'))


def place_of_small(world):
    """Pack, offset and stored length of the one chunk of small.txt."""
    pack, offset, length = world.sql('select pack_id, offset_bytes, stored_len from chunks where raw_len = 1400')[0]
    return pack_path(world, pack), int(offset), int(length)


def test_clean(world):
    for option in ((), ('--quick',), ('--deep',)):
        assert world.fsck(*option) == []
    done = world.server.run('fsck', check=False)
    assert done.returncode == 0 and done.stdout.endswith('No findings.\n') and done.stderr == ''


def test_changes_nothing(world):
    def stamps():
        return {p: (os.stat(p).st_mtime_ns, os.path.getsize(p)) for top, _, names in os.walk(world.server.data)
                for p in (os.path.join(top, n) for n in names) if not p.endswith(('-shm', 'lock'))}
    before = stamps()
    world.fsck('--deep')
    assert stamps() == before


def test_in_use(world):
    with open(os.path.join(world.server.data, 'lock'), 'rb') as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        done = world.server.run('fsck', check=False)
        assert done.returncode == 2 and 'is in use' in done.stderr


def test_not_a_data_folder(world, tmp_path):
    done = subprocess.run([world.server.args('x')[0], 'fsck', '--data', str(tmp_path / 'none')], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and 'is not a data folder' in done.stderr
    assert not (tmp_path / 'none').exists()


def test_other_schema(world):
    with world.hurt("insert into schema_migrations (number, name, applied_at) values (999, 'x', 0)", 'delete from schema_migrations where number = 999'):
        done = world.server.run('fsck', check=False)
        assert done.returncode == 2 and 'it has schema 999' in done.stderr


# ---- packs ----

def test_flipped_byte_of_content(world):
    path, offset, _ = place_of_small(world)
    with other_byte(path, offset + 3):
        found = world.fsck()
        assert [f['finding'] for f in found] == ['CHUNK_DAMAGED', 'VERSION_UNREADABLE']
        assert found[1]['share'] == 'Papers' and found[1]['path'] == '/reports/inner/small.txt' and found[1]['version'] == 1
        assert '1 of 1 chunks' in found[1]['sentence'] and found[0]['subject'] in path
        assert world.fsck('--quick') == []
        text = world.server.run('fsck', check=False)
        assert re.search(r'^Papers:/reports/inner/small.txt, version 1: 1 of 1 chunks cannot be read; .*\[VERSION_UNREADABLE ver_', text.stdout, re.M)


def test_every_byte_of_a_pack_matters(world):
    """Any one byte: either content, which is told with the file, or the pack's own description."""
    path, _, _ = place_of_small(world)
    size = os.path.getsize(path)
    for _ in range(25):
        with other_byte(path, RANDOM.randrange(size)):
            codes = world.codes()
            assert codes in (['CHUNK_DAMAGED', 'VERSION_UNREADABLE'], ['CHUNK_DAMAGED'], ['PACK_TABLE_DAMAGED'], ['PACK_HEAD_DAMAGED'],
                             ['CHUNK_DAMAGED', 'LEASE_CHUNK'], ['CHUNK_DAMAGED', 'UPLOAD_UNREADABLE'], ['UPLOAD_UNREADABLE'], []), codes


def test_a_rotten_head_of_a_segment_hides_nothing(world):
    big = world.packs()[0]
    with open(big, 'rb') as f:
        data = f.read()
    first = data.index(b'SDSEGM1\n')
    with other_byte(big, first + 20):
        assert world.codes() == ['PACK_TABLE_DAMAGED']  # all content is whole, and is known to be
        with other_byte(big, first + 5000):
            assert world.codes() == ['CHUNK_DAMAGED', 'PACK_TABLE_DAMAGED', 'VERSION_UNREADABLE']


def test_missing_pack(world):
    path, _, _ = place_of_small(world)
    os.rename(path, path + '.away')
    try:
        for option in ((), ('--quick',)):
            found = world.fsck(*option)
            codes = [f['finding'] for f in found]
            assert codes[0] == 'PACK_MISSING' and 'VERSION_UNREADABLE' in codes and 'LEASE_CHUNK' in codes
            assert '/reports/inner/small.txt' in [f.get('path') for f in found]
            assert '/big.bin' not in [f.get('path') for f in found]
    finally:
        os.rename(path + '.away', path)


def test_shortened_pack(world):
    big = world.packs()[0]
    with open(big, 'rb') as f:
        data = f.read()
    try:
        os.truncate(big, len(data) // 2)
        assert world.codes() == ['CHUNK_DAMAGED', 'PACK_TABLE_DAMAGED', 'VERSION_UNREADABLE']
        assert 'VERSION_UNREADABLE' in world.codes('--quick')
    finally:
        with open(big, 'wb') as f:
            f.write(data)


def test_garbage_is_no_finding(world):
    path, _, _ = place_of_small(world)
    stray = os.path.join(os.path.dirname(path), f'{int(os.path.basename(path)[:16], 16) + 1:016x}.pack')
    staged = os.path.join(world.server.data, 'uploads', '1', f'{0x5551:016x}')
    os.makedirs(os.path.dirname(staged), exist_ok=True)
    for name in (stray, staged):
        with open(name, 'wb') as f:
            f.write(b'x' * 1000)
    with open(path, 'ab') as f:  # what a crash leaves behind the last segment
        f.write(b'torn' * 100)
    try:
        done = world.server.run('fsck', '--json', check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 0
        assert sorted(line['bytes'] for line in lines if 'garbage' in line) == [1000, 1000]
        assert lines[-1]['summary']['garbage_packs'] == 1 and lines[-1]['summary']['garbage_files'] == 1
    finally:
        os.unlink(stray)
        os.unlink(staged)
        os.truncate(path, os.path.getsize(path) - 400)


# ---- the index ----

def test_missing_row_of_the_index(world):
    row = world.sql('select id, tenant_id, pack_id, offset_bytes, stored_len, raw_len, codec, xxh from chunks where raw_len = 1400')[0]
    with world.hurt(f'update chunks set id = 5 where id = {row[0]}', f'update chunks set id = {row[0]} where id = 5'):
        found = world.fsck()
        assert {'VERSION_UNREADABLE'} <= {f['finding'] for f in found}
        assert 'is not in the index' in next(f['sentence'] for f in found if f['finding'] == 'VERSION_UNREADABLE')


@pytest.mark.parametrize('column, delta, code', [
    ('xxh', 1, 'CHUNK_DIFFERS'), ('raw_len', 1, 'CHUNK_DIFFERS'), ('offset_bytes', 64, 'CHUNK_DAMAGED'), ('codec', 7, 'INDEX_ROW_INVALID')])
def test_row_that_lies(world, column, delta, code):
    chunk = world.one('select id from chunks where raw_len = 1400')
    with world.hurt(f'update chunks set {column} = {column} + {delta} where id = {chunk}',
                    f'update chunks set {column} = {column} - {delta} where id = {chunk}'):
        codes = world.codes()
        assert code in codes and 'VERSION_UNREADABLE' in codes, codes


def test_pack_count(world):
    with world.hurt('update packs set size_bytes = size_bytes + 1', 'update packs set size_bytes = size_bytes - 1'):
        assert world.codes('--quick') == ['PACK_COUNT']


# ---- rows of the domain: the damage, its mending, what is found ----

V = "(select max(id) from versions where size_bytes = 1400)"
SMALL = "(select max(id) from nodes where name = 'small.txt')"
REPORTS = "(select max(id) from nodes where name = 'reports')"
INNER = "(select max(id) from nodes where name = 'inner')"
PAPERS = "(select max(id) from shares where name = 'Papers')"
OTHERS = "(select max(id) from shares where name = 'Others')"


@pytest.mark.parametrize('do, undo, codes', [
    ('update shares set used_bytes = used_bytes + 1', 'update shares set used_bytes = used_bytes - 1', ['SHARE_USED_BYTES']),
    (f'update versions set size_bytes = 1401 where id = {V}', 'update versions set size_bytes = 1400 where size_bytes = 1401',
     ['NODE_HEAD_FACTS', 'SHARE_USED_BYTES', 'VERSION_SIZE']),
    (f'update nodes set size_bytes = 1 where id = {SMALL}', f'update nodes set size_bytes = 1400 where id = {SMALL}', ['NODE_HEAD_FACTS']),
    (f'update nodes set version = 2, last_version = 2 where id = {SMALL}', f'update nodes set version = 1, last_version = 1 where id = {SMALL}',
     ['NODE_HEAD_FACTS']),
    (f'update nodes set version_id = -version_id where id = {SMALL}', f'update nodes set version_id = -version_id where id = {SMALL}',
     ['NODE_HEAD_MISSING']),
    (f'update nodes set last_version = 0 where id = {SMALL}', f'update nodes set last_version = 1 where id = {SMALL}', ['VERSION_NUMBER']),
    (f'update nodes set version_id = 7 where id = {INNER}', f'update nodes set version_id = 0 where id = {INNER}', ['NODE_FOLDER_CONTENT']),
    (f'update versions set node_id = -node_id where id = {V}', 'update versions set node_id = -node_id where node_id < 0',
     ['NODE_HEAD_MISSING', 'SHARE_USED_BYTES', 'VERSION_FILE']),
    (f'update versions set staged_until = 5 where id = {V}', 'update versions set staged_until = 0 where staged_until = 5', ['VERSION_STAGE']),
    # reports and inner in each other
    (f'update nodes set parent_id = {INNER} where id = {REPORTS}',
     f'update nodes set parent_id = (select root_id from shares where id = {PAPERS}) where id = {REPORTS}', ['NODE_CYCLE']),
    (f'update nodes set parent_id = 5 where id = {INNER}', f'update nodes set parent_id = {REPORTS} where id = {INNER}', ['NODE_PARENT_MISSING']),
    (f'update nodes set parent_id = {SMALL} where id = {INNER}', f'update nodes set parent_id = {REPORTS} where id = {INNER}',
     ['NODE_CYCLE', 'NODE_PARENT_WRONG']),
    (f'update nodes set parent_id = 0 where id = {INNER}', f'update nodes set parent_id = {REPORTS} where id = {INNER}', ['NODE_NAME', 'NODE_ROOT']),
    (f"update nodes set name_key = 'other' where id = {SMALL}", f"update nodes set name_key = 'small.txt' where id = {SMALL}", ['NODE_NAME']),
    (f"update nodes set name = 'a/b' where id = {SMALL}", "update nodes set name = 'small.txt' where name = 'a/b'", ['NODE_NAME']),
    (f'update nodes set deleted_at = 9 where id = {INNER}', f'update nodes set deleted_at = 0 where id = {INNER}', ['NODE_TRASH']),
    (f'update nodes set change_seq = change_seq + 1000000 where id = {SMALL}', f'update nodes set change_seq = change_seq - 1000000 where id = {SMALL}',
     ['NODE_CHANGE']),
    (f'update shares set root_id = -root_id where id = {OTHERS}', f'update shares set root_id = -root_id where id = {OTHERS}', ['NODE_ROOT', 'SHARE_ROOT']),
    (f'update shares set tenant_id = -tenant_id where id = {OTHERS}', f'update shares set tenant_id = -tenant_id where id = {OTHERS}',
     ['SHARE_ROOT', 'SHARE_TENANT']),
    (f'update share_members set share_id = -share_id where share_id = {OTHERS}', 'update share_members set share_id = -share_id where share_id < 0',
     ['MEMBER_SHARE']),
    (f'update changes set seq = -seq where seq = 3 and share_id = {PAPERS}', 'update changes set seq = -seq where seq < 0', ['CHANGES_MISSING']),
    ('update tenants set seq = seq + 3', 'update tenants set seq = seq - 3', ['CHANGES_MISSING']),
    ('update tenants set seq = seq - 1 where seq > 3', 'update tenants set seq = seq + 1 where seq > 1', ['CHANGES_BEYOND', 'NODE_CHANGE']),
    (f'update changes set share_id = -share_id where share_id = {OTHERS}', 'update changes set share_id = -share_id where share_id < 0', ['CHANGE_SHARE']),
    ('update device_cursors set position = position + 1000000', 'update device_cursors set position = position - 1000000', ['CURSOR_AHEAD']),
    ('update uploads set next_piece = next_piece + 1', 'update uploads set next_piece = next_piece - 1', ['UPLOAD_SIZE']),
    ('update upload_parts set upload_id = -upload_id', 'update upload_parts set upload_id = -upload_id', ['UPLOAD_PARTS', 'UPLOAD_SIZE']),
    ('update upload_pieces set upload_id = -upload_id', 'update upload_pieces set upload_id = -upload_id', ['UPLOAD_PIECES']),
    ('update upload_pieces set xxh = xxh + 1', 'update upload_pieces set xxh = xxh - 1', ['UPLOAD_PIECE']),
    ('update upload_pieces set size_bytes = size_bytes + 1', 'update upload_pieces set size_bytes = size_bytes - 1', ['UPLOAD_PIECE']),
    ('update chunk_leases set tenant_id = tenant_id + 1', 'update chunk_leases set tenant_id = tenant_id - 1', ['LEASE_CHUNK']),
])
def test_rows(world, do, undo, codes):
    with world.hurt(do, undo):
        assert world.codes() == codes
    assert world.codes('--quick') == []


def test_recipe(world):
    blob = "x'0203'" if 'database.url' not in world.server.settings else "'\\x0203'"
    was = world.one(f"select {'hex(recipe)' if blob[0] == 'x' else 'encode(recipe, $$hex$$)'} from versions where id = {V}")
    back = f"x'{was}'" if blob[0] == 'x' else f"'\\x{was}'"
    with world.hurt(f'update versions set recipe = {blob} where id = {V}', f'update versions set recipe = {back} where id = {V}'):
        found = world.fsck()
        assert [f['finding'] for f in found] == ['VERSION_UNREADABLE']
        assert found[0]['sentence'] == 'the list of its chunks is damaged' and found[0]['path'] == '/reports/inner/small.txt'
        assert '/reports/inner/small.txt, version 1: the list' in world.server.run('fsck', check=False).stdout


def test_whole_checksum_is_for_deep(world):
    flip = f'update versions set sha256 = (select sha256 from versions where id <> {V} and size_bytes = 5242880) where id = {V}'
    was = world.one(f"select {'hex(sha256)' if 'database.url' not in world.server.settings else 'encode(sha256, $$hex$$)'} from versions where id = {V}")
    back = f"x'{was}'" if 'database.url' not in world.server.settings else f"'\\x{was}'"
    with world.hurt(flip, f'update versions set sha256 = {back} where id = {V}'):
        assert world.codes() == ['NODE_HEAD_FACTS']
        assert world.codes('--deep') == ['NODE_HEAD_FACTS', 'VERSION_CHECKSUM']


def test_staged_piece_that_is_gone(world):
    files = [os.path.join(top, n) for top, _, names in os.walk(os.path.join(world.server.data, 'uploads')) for n in names]
    assert len(files) == 1
    os.rename(files[0], files[0] + 'x')
    try:
        found = world.fsck()
        assert [f['finding'] for f in found] == ['UPLOAD_PIECE'] and 'piece 4' in found[0]['sentence']
        assert found[0]['subject'] == world.upload
    finally:
        os.rename(files[0] + 'x', files[0])


def test_damaged_database_file(world, engine):
    if engine != 'sqlite':
        pytest.skip('PostgreSQL checks its own files')
    world.sql('pragma wal_checkpoint(truncate)')
    path = os.path.join(world.server.data, 'scaidrive.db')
    root = int(world.one("select rootpage from sqlite_master where name = 'nodes_name'"))
    page = int(world.one('pragma page_size'))
    with open(path, 'r+b') as f:
        f.seek((root - 1) * page + page - 60)
        was = f.read(50)
        f.seek(-50, 1)
        f.write(bytes(b ^ 0x55 for b in was))
    try:
        assert 'DATABASE_DAMAGED' in world.codes('--quick') + world.codes()
    finally:
        with open(path, 'r+b') as f:
            f.seek((root - 1) * page + page - 60)
            f.write(was)


def test_still_clean_and_alive(world):
    assert world.fsck('--deep') == []
    world.server.start()
    try:
        alice = world.server.client('alice@example.com')
        assert alice.content(world.small['id']) == b'small content\n' * 100
    finally:
        world.server.stop()
    assert world.fsck('--deep') == []
