"""scaidrived export and import: a share as plain files, and plain files as a share."""
import os
import random
import socket

import pytest

RANDOM = random.Random(13)
TIME_NS = 1_700_000_000_123_456_000


def tree(root):
    """path -> (bytes, mtime in µs, executable), or None for a folder."""
    out = {}
    for top, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f != '.scaidrive']
        out |= {os.path.relpath(os.path.join(top, f), root): None for f in folders}
        for name in files:
            path = os.path.join(top, name)
            st = os.stat(path)
            with open(path, 'rb') as f:
                out[os.path.relpath(path, root)] = f.read(), st.st_mtime_ns // 1000, bool(st.st_mode & 0o100)
    return out


def local_tree(root):
    os.makedirs(os.path.join(root, 'a', 'Ünter 名', 'deep'))
    os.makedirs(os.path.join(root, 'empty'))
    for name, size in (('x.txt', 5), ('a/big.bin', 5 << 20), ('a/Ünter 名/deep/f.sh', 3000), ('zero', 0)):
        path = os.path.join(root, name)
        with open(path, 'wb') as f:
            f.write(RANDOM.randbytes(size))
        os.chmod(path, 0o755 if name.endswith('.sh') else 0o644)
        os.utime(path, ns=(TIME_NS, TIME_NS))


def numbers(text):
    return [int(w) for w in text.replace(';', '').split() if w.isdigit()]


@pytest.fixture
def there(private_server):
    """A stopped server with a share Files, and a local tree."""
    server = private_server(people=False)
    server.stop()
    server.root = os.path.join(server.dir, 'tree')
    os.makedirs(server.root)
    local_tree(server.root)
    server.into = lambda *more, check=True: server.run('import', 'Files', server.root, '--user', 'admin@example.com', *more, check=check)
    server.out = os.path.join(server.dir, 'out')
    return server


def test_in_and_out(there):
    assert 'Would import: 4 files, 4 folders' in there.into('--dry-run')
    assert there.into().startswith('4 files, 4 folders')
    assert there.into().startswith('0 files, 0 folders, 0 new versions, 0 bytes; 4 were there')
    assert '4 files written' in there.run('export', 'Files', there.out)
    assert tree(there.out) == tree(there.root)
    assert '0 files written, 0 bytes; 4 were there' in there.run('export', 'Files', there.out, '--verify')
    assert there.run('fsck', '--deep', check=False).returncode == 0


def test_the_feed_tells(there):
    """Whoever follows the change feed gets what came while the server was stopped."""
    there.start()
    admin = there.client('admin@example.com')
    share = admin.ok('GET', '/api/v1/shares')['shares'][0]
    cursor = admin.ok('GET', '/api/v1/sync/changes', params={'share_id': share['id']})['cursor']
    there.stop()
    there.into()
    there.start()
    changes = admin.ok('GET', '/api/v1/sync/changes', params={'share_id': share['id'], 'cursor': cursor, 'limit': 100})['changes']
    assert sorted(c['new_path'] for c in changes) == sorted('/' + p for p in tree(there.root))
    # and the lock: not beside a server
    done = there.into(check=False)
    assert done.returncode == 2 and 'in use' in done.stderr


def test_changed_files(there):
    there.into()
    path = os.path.join(there.root, 'x.txt')
    with open(path, 'w') as f:
        f.write('other bytes')
    done = there.into('--on-change', 'skip', check=False)
    assert done.returncode == 0 and 'differs' in done.stderr
    assert '1 new versions' in there.into()
    with open(path, 'w') as f:
        f.write('third bytes')
    there.into('--on-change', 'both')
    there.run('export', 'Files', there.out, '--versions')
    out = tree(there.out)
    copies = [p for p in out if p.startswith('x (conflicted copy')]
    assert len(copies) == 1 and {out['x.txt'][0], out[copies[0]][0]} == {b'other bytes', b'third bytes'}
    old = sorted(p for p in out if p.startswith('x.txt.versions/v'))
    assert [p[:len('x.txt.versions/v1 20')] for p in old] == ['x.txt.versions/v1 20', 'x.txt.versions/v3 20'] and old[0].endswith('Z.txt')
    assert len(out[old[0]][0]) == 5 and out[old[1]][0] == out[copies[0]][0]  # what is not the head is in the history, too


def test_only_regular_files(there):
    os.symlink('/etc/passwd', os.path.join(there.root, 'link'))
    os.symlink('/etc', os.path.join(there.root, 'a', 'folder'))
    os.mkfifo(os.path.join(there.root, 'pipe'))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.join(there.root, 'sock'))
        done = there.into(check=False)
    assert done.returncode == 0 and done.stdout.startswith('4 files, 4 folders') and '4 left out' in done.stdout
    assert done.stderr.count('no regular file') == 4


def test_names_that_the_share_cannot_have(there):
    """Told, each time alike; the rest comes in, and nothing becomes a version of its twin."""
    for name in (b'Twin', b'twin', b'\xff\xfe', b'con\x01trol'):
        with open(os.path.join(there.root.encode(), name), 'wb') as f:
            f.write(name)
    for expected in ('5 files, 4 folders, 0 new versions', '0 files, 0 folders, 0 new versions'):
        done = there.into(check=False)
        assert done.returncode == 1 and done.stdout.startswith(expected) and '3 faults' in done.stdout, done


def test_a_folder_of_the_share(there):
    done = there.into('--folder', 'deep/er', check=False)
    assert done.returncode == 2 and 'no such folder' in done.stderr
    there.start()
    admin = there.client('admin@example.com')
    share = admin.ok('GET', '/api/v1/shares')['shares'][0]
    deep = admin.make_folder(share['id'], 'deep')
    admin.make_folder(share['id'], 'er', parent_id=deep['id'])
    there.stop()
    there.into('--folder', '/deep/er')
    there.run('export', share['id'], there.out)
    assert tree(os.path.join(there.out, 'deep', 'er')) == tree(there.root)


def test_rights_and_quota(there):
    there.add_user('eve@example.com')
    done = there.run('import', 'Files', there.root, '--user', 'eve@example.com', check=False)
    assert done.returncode == 2 and 'no share' in done.stderr
    there.start()
    admin = there.client('admin@example.com')
    share = admin.ok('GET', '/api/v1/shares')['shares'][0]
    admin.ok('PATCH', f'/api/v1/shares/{share["id"]}', json={'quota_bytes': 1 << 20})
    there.stop()
    done = there.into(check=False)
    assert done.returncode == 1 and 'quota' in done.stderr.lower()


def test_export_beside_a_server(there):
    there.into()
    there.start()
    there.run('export', 'Files', there.out)
    want = tree(there.root)
    assert tree(there.out) == want
    # what is not whole, and what is the user's own
    path = os.path.join(there.out, 'a', 'big.bin')
    with open(path, 'r+b') as f:
        f.truncate(1000)
    with open(os.path.join(there.out, 'mine'), 'w') as f:
        f.write('mine')
    os.utime(os.path.join(there.out, 'x.txt'), (1, 1))
    assert '2 files written' in there.run('export', 'Files', there.out)
    got = tree(there.out)
    assert got.pop('mine')[0] == b'mine' and got == want
    # rot under the right time and size
    st = os.stat(path)
    with open(path, 'r+b') as f:
        f.write(b'rot')
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    assert '0 files written' in there.run('export', 'Files', there.out)
    assert '1 files written' in there.run('export', 'Files', there.out, '--verify')


def test_nothing_leads_out(there):
    """A link in the target is in the way; it is not followed."""
    there.into()
    outside = os.path.join(there.dir, 'outside')
    os.makedirs(outside)
    os.makedirs(there.out)
    os.symlink(outside, os.path.join(there.out, 'a'))
    os.symlink(os.path.join(outside, 'f'), os.path.join(there.out, 'x.txt'))
    done = there.run('export', 'Files', there.out, check=False)
    assert done.returncode == 1 and done.stderr.count('something else') == 2
    assert os.listdir(outside) == [] and os.path.islink(os.path.join(there.out, 'x.txt'))
    assert os.path.exists(os.path.join(there.out, 'zero'))


def test_damage_is_told_and_the_rest_goes_on(there):
    there.into()
    packs = [os.path.join(top, n) for top, _, names in os.walk(os.path.join(there.data, 'packs')) for n in names if n.endswith('.pack')]
    with open(max(packs, key=os.path.getsize), 'r+b') as f:
        f.seek(100_000)
        f.write(b'rot')
    done = there.run('export', 'Files', there.out, check=False)
    assert done.returncode == 1 and 'a/big.bin' in done.stderr and '3 files written' in done.stdout
    want = tree(there.root)
    del want['a/big.bin']
    assert tree(there.out) == want


def test_long_names_and_our_own(there):
    long = 'ä' * 120  # 240 bytes: its versions have no room for a folder of that name
    with open(os.path.join(there.root, long), 'w') as f:
        f.write('1')
    there.into()
    with open(os.path.join(there.root, long), 'w') as f:
        f.write('two')
    there.into()
    there.start()
    admin = there.client('admin@example.com')
    share = admin.ok('GET', '/api/v1/shares')['shares'][0]
    own = admin.make_folder(share['id'], '.scaidrive')
    admin.make_file(share['id'], 'inside', b'in', folder_id=own['id'])
    x = 'x' * 250
    admin.make_file(share['id'], x, b'x')
    done = there.run('export', 'Files', there.out, '--versions', check=False)
    assert done.returncode == 0 and done.stderr.count('cannot have such a name') == 1, done
    out = tree(there.out)
    assert out[long][0] == b'two' and out[x][0] == b'x'
    renamed = [p for p in out if p.startswith('.scaidrive~fld_')]
    assert f'{renamed[0]}/inside' in renamed
