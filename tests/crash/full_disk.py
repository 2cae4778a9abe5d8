#!/usr/bin/env python3
"""A server, then a client, then backups, on a disk that is full: 507 and nothing half made, deleting and signing in go on, and when there is
room again so does everything else, without a restart.

usage: full_disk.py [--build build] [--rounds N]
Needs a mount of its own (ext4 in a file, else tmpfs), so root. Ends with status 77 and a reason where that is not possible.
"""
import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'api'))
V1 = '/api/v1'
MIB = 1 << 20
SKIPPED = 77
R = random.Random(3)


class Wrong(Exception):
    """An invariant does not hold."""


def must(condition, sentence):
    if not condition:
        raise Wrong(sentence)


class Disk:
    """A small file system on a folder."""

    def __init__(self, mib):
        self.work = tempfile.mkdtemp(prefix='full-disk-')
        self.path = os.path.join(self.work, 'mnt')
        os.mkdir(self.path)
        image = os.path.join(self.work, 'image')
        with open(image, 'wb') as f:
            f.truncate(mib * MIB)
        self.kind = None
        for kind, commands in (('ext4', [['mkfs.ext4', '-q', '-F', '-m', '0', image], ['mount', '-o', 'loop', image, self.path]]),
                               ('tmpfs', [['mount', '-t', 'tmpfs', '-o', f'size={mib}m', 'tmpfs', self.path]])):
            with contextlib.suppress(OSError):
                if all(subprocess.run(c, capture_output=True, check=False).returncode == 0 for c in commands):
                    self.kind = kind
                    return

    def free(self):
        s = os.statvfs(self.path)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        """Another program takes all but so many bytes."""
        path = os.path.join(self.path, 'ballast')
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while self.free() > leave:
                try:
                    os.write(fd, b'x' * min(MIB, max(4096, self.free() - leave)))
                except OSError:
                    break
                os.fsync(fd)
        finally:
            os.close(fd)

    def clear(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, 'ballast'))

    def close(self):
        if self.kind:
            for _ in range(50):
                if subprocess.run(['umount', self.path], capture_output=True, check=False).returncode == 0:
                    break
                time.sleep(0.1)
        subprocess.run(['rm', '-rf', '--one-file-system', self.work], check=False)


def chunk(data):
    return hashlib.sha256(data).digest() + len(data).to_bytes(4, 'little') + data


def full(r, what):
    must(r.status_code == 507 and r.json()['error']['code'] == 'STORAGE_FULL', f'{what} on a full disk: {r.status_code} {r.text[:300]}')


class ServerRound:
    def __init__(self, server, api, disk):
        self.server, self.api, self.disk = server, api, disk
        self.share = api.make_share()
        self.sid = self.share['id']
        self.device = api.register_device()['device_id']
        self.kept = [(api.make_file(self.sid, f'kept-{i}', data)['id'], data) for i, data in enumerate(R.randbytes(n) for n in (10, 50000, 900000))]
        self.victims = [api.make_file(self.sid, f'victim-{i}', b'v' * 100)['id'] for i in range(6)]
        self.folder = api.make_folder(self.sid, 'folder')['id']
        data = R.randbytes(300000)
        self.upload_data = data
        self.upload = api.ok('POST', f'{V1}/uploads', json={'share_id': self.sid, 'file_name': 'pieces', 'file_size': len(data), 'chunk_size': 65536})['id']
        self.received = set()
        self.piece(0)

    def piece(self, i, want=200):
        r = self.api.put(f'{V1}/uploads/{self.upload}/chunks/{i}', content=self.upload_data[i * 65536:(i + 1) * 65536])
        if want == 200:
            must(r.status_code == 200, f'piece {i}: {r.status_code} {r.text}')
            self.received.add(i)
        return r

    def names(self):
        return {n['name'] for n in self.api.ok('GET', f'{V1}/folders/root/children', params={'share_id': self.sid, 'limit': 100})['items']}

    def nothing_new(self, before):
        must(self.names() == before, f'half made: {self.names() ^ before}')
        for file, data in self.kept:
            must(self.api.content(file) == data, 'a kept file has other bytes')

    def refused(self):
        """All that grows, on a full disk."""
        api, sid = self.api, self.sid
        before = self.names()
        full(api.upload(sid, 'small', R.randbytes(200)), 'a small upload')
        full(api.upload(sid, 'large', R.randbytes(9 * MIB)), 'a large upload')
        full(api.upload(sid, 'known', self.kept[1][1]), 'an upload of known content')
        full(api.post('/api/v1/files', data={'replace_file_id': self.kept[0][0]}, files={'file': ('x', R.randbytes(5000))}), 'a new version')
        full(self.piece(1, None), 'the next piece')
        full(self.piece(3, None), 'a later piece')
        full(api.post(f'{V1}/uploads', json={'share_id': sid, 'file_name': 'other', 'file_size': 10, 'chunk_size': 65536}), 'a new session')
        full(api.post(f'{V1}/sync/chunks', params={'share_id': sid}, content=b''.join(chunk(R.randbytes(4000)) for _ in range(100)),
                      headers={'Content-Type': 'application/octet-stream'}), 'chunks in bulk')
        full(api.post(f'{V1}/folders', json={'share_id': sid, 'name': 'more'}), 'a folder')
        full(api.post(f'{V1}/shares', json={'name': 'more', 'share_type': 'project'}), 'a share')
        r = api.apply(sid, self.device, [{'op_id': f'op{R.random()}', 'resource_type': 'folder', 'resource_id': None, 'change_type': 'created',
                                          'new_path': f'/applied-{i}'} for i in range(3)], 'KEEP_BOTH')
        told = [e['code'] for e in r.json()['errors']] if r.status_code == 200 else []
        must(r.status_code == 507 or told == ['STORAGE_FULL'] * 3, f'apply: {r.status_code} {r.text[:500]}')
        self.nothing_new(before)
        session = api.ok('GET', f'{V1}/uploads/{self.upload}')
        must(set(session['received_chunks']) == self.received, f'received {session["received_chunks"]}, acknowledged {self.received}')

    def goes_on(self):
        """What makes room, or needs none."""
        api = self.api
        r = api.delete(f'{V1}/files/{self.victims.pop()}')
        must(r.status_code in (200, 204), f'a delete on a full disk: {r.status_code} {r.text}')
        gone = self.victims.pop()
        must(api.delete(f'{V1}/files/{gone}').status_code in (200, 204), 'a second delete')
        r = api.delete(f'{V1}/files/{gone}', params={'permanent': 'true'})
        must(r.status_code in (200, 204, 410), f'a purge: {r.status_code} {r.text}')
        r = api.apply(self.sid, self.device, [{'op_id': f'del{R.random()}', 'resource_type': 'file', 'resource_id': self.victims.pop(),
                                               'change_type': 'deleted'}], 'KEEP_BOTH')
        must(r.status_code == 200 and len(r.json()['applied']) == 1, f'a delete by apply: {r.status_code} {r.text}')
        login = self.server.client().post(f'{V1}/auth/login', json={'email': 'admin@example.com', 'password': PASSWORD})
        must(login.status_code == 200, f'signing in on a full disk: {login.status_code} {login.text}')
        fresh = self.server.client().post(f'{V1}/auth/token', data={'grant_type': 'refresh_token',
                                                                           'refresh_token': login.json()['refresh_token']})
        must(fresh.status_code == 200, f'refreshing a token on a full disk: {fresh.status_code} {fresh.text}')
        must(api.get(f'{V1}/ready').status_code == 200, 'not ready')
        api.ok('GET', f'{V1}/sync/changes', params={'share_id': self.sid, 'cursor': 0})
        for file, data in self.kept:
            must(api.content(file) == data, 'a kept file has other bytes')

    def recovered(self):
        api, sid = self.api, self.sid
        data = R.randbytes(700000)
        must(api.content(api.make_file(sid, 'again', data)['id']) == data, 'other bytes')
        api.make_folder(sid, 'again-folder')
        for i in range(5):
            self.piece(i)
        for _ in range(100):
            r = api.post(f'{V1}/uploads/{self.upload}/complete')
            if r.status_code != 503:
                break
            time.sleep(0.05)
        must(r.status_code == 200, f'complete: {r.status_code} {r.text}')
        must(api.content(r.json()['id']) == self.upload_data, 'other bytes')


def ballast_by_uploads(api, sid, disk):
    """Fills the disk through the front door; returns how many were acknowledged."""
    n = 0
    while True:
        r = api.upload(sid, f'fill-{n}', R.randbytes(R.choice((100, 3000, 900000, 5 * MIB))))
        if r.status_code == 507:
            return n
        must(r.status_code == 201, f'{r.status_code} {r.text[:300]}')
        n += 1
        must(n < 10000, 'never full')


def wait_for(path):
    end = time.monotonic() + 15
    while not os.path.exists(path):
        must(time.monotonic() < end, f'{path} does not come back')
        time.sleep(0.1)


def server_rounds(disk, rounds):
    server = populate(Server({'storage.margin_bytes': str(6 * MIB), 'storage.reserve_bytes': str(2 * MIB)}, data=os.path.join(disk.path, 'data')))
    server.start()
    try:
        api = server.client('alice@example.com')
        for i in range(rounds):
            state = ServerRound(server, api, disk)
            if i == 0:
                disk.fill(leave=24 * MIB)
                n = ballast_by_uploads(api, state.sid, disk)
                must(disk.free() > 5 * MIB, f'the margin was used: {disk.free()} left')
                print(f'full after {n} uploads, {disk.free() // 1024} KiB left')
            disk.fill(leave=(3 * MIB, 0, 0, 20000)[i % 4])
            state.refused()
            state.goes_on()
            if i % 4 == 2:
                server.restart(hard=True)  # also starts on a full disk
                state.refused()
                state.goes_on()
            disk.clear()
            state.recovered()
            wait_for(os.path.join(server.data, 'packs', 'reserve'))
            print(f'round {i}: refused, went on, recovered ({disk.free() // 1024} KiB free)', flush=True)
        server.stop()
        done = server.run('fsck', '--deep', check=False)
        must(done.returncode == 0, f'fsck: {done.stdout}{done.stderr}')
    except Wrong:
        print(f'{disk.free()} bytes free; the log ends with\n' + server.log()[-3000:])
        raise
    finally:
        with contextlib.suppress(AssertionError):
            server.close()


def tree(root):
    """Relative path -> bytes of all that a user sees."""
    out = {}
    for top, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith('.scaidrive')]
        for name in names:
            path = os.path.join(top, name)
            with open(path, 'rb') as f:
                out[os.path.relpath(path, root)] = f.read()
    return out


class Device:
    """A client whose folder lies on the small disk; its state beside it, or elsewhere."""

    def __init__(self, server, disk, share, state_on_disk):
        self.server, self.share = server, share
        self.root = os.path.join(disk.path, 'root')
        self.state = os.path.join(disk.path if state_on_disk else disk.work, 'state')
        os.mkdir(self.root)
        self.run('login', '--server', server.url, '--email', 'admin@example.com', '--password-stdin', '--state', self.state, stdin=PASSWORD + '\n')

    def run(self, *args, stdin=None):
        return subprocess.run([binary('scaidrive'), *args], input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def sync(self):
        return self.run('sync', self.share, self.root, '--once', '--state', self.state)


def client_round(disk, state_on_disk):
    disk.clear()
    server = populate(Server()).start()
    try:
        api = server.client('admin@example.com')
        share = api.make_share('Tight')
        sid = share['id']
        wanted = {f'small-{i}': R.randbytes(2000) for i in range(300)} | {'large': R.randbytes(20 * MIB), 'medium': R.randbytes(6 * MIB)}
        ids = {name: api.make_file(sid, name, data)['id'] for name, data in wanted.items()}
        device = Device(server, disk, 'Tight', state_on_disk)
        with open(os.path.join(device.root, 'mine'), 'wb') as f:
            f.write(b'written here, not sent yet')
        for leave in (10 * MIB, 300000, 0):
            disk.clear()
            disk.fill(leave)
            done = device.sync()
            must(done.returncode != 0, f'a sync into {leave} bytes says that all is well: {done.stdout}{done.stderr}')
            must('full' in done.stdout + done.stderr or 'space' in done.stdout + done.stderr, f'it does not say why: {done.stdout}{done.stderr}')
            for name, data in tree(device.root).items():
                must(data == wanted.get(name, b'written here, not sent yet'), f'{name} is half made')
            must('mine' in tree(device.root), 'the file that was here is gone')
            there = {n['name'] for n in api.ok('GET', f'{V1}/sync/snapshot', params={'share_id': sid, 'limit': 1000})['nodes'] if n['type'] == 'file'}
            must(set(wanted) <= there, 'files are gone from the server')
        wanted['small-7'] = R.randbytes(9 * MIB)  # a newer version that finds no room
        api.post(f'{V1}/files', data={'replace_file_id': ids['small-7']}, files={'file': ('x', wanted['small-7'])})
        done = device.sync()
        must(done.returncode != 0, 'a sync into nothing says that all is well')
        must(len(tree(device.root).get('small-7', bytes(2000))) == 2000, 'a file was torn')
        disk.clear()
        done = device.sync()
        must(done.returncode == 0, f'no recovery: {done.returncode} {done.stdout}{done.stderr}')
        wanted['mine'] = b'written here, not sent yet'
        must(tree(device.root) == wanted, f'other files: {set(tree(device.root)) ^ set(wanted)}')
        there = {n['name'] for n in api.ok('GET', f'{V1}/sync/snapshot', params={'share_id': sid, 'limit': 1000})['nodes'] if n['type'] == 'file'}
        must(there == set(wanted), f'the server has {there ^ set(wanted)}')
        left = [n for top, _, names in os.walk(device.root) for n in names if '.scaidrive' in top and n not in ('lock', 'id')]
        must(not left, f'staging files are left: {left}')
    finally:
        server.close()
    subprocess.run(['rm', '-rf', device.root, device.state], check=False)
    print(f'a client on a full disk (its state {"there too" if state_on_disk else "elsewhere"}): safe, told, recovered', flush=True)


def backup_round(disk):
    """A backup onto, and a restore into, a disk that gets full: no point and nothing to serve; the points before stay whole; with room it
    goes on."""
    server = Server()
    other = Server(data=os.path.join(disk.path, 'data'))
    shelf = os.path.join(disk.path, 'shelf')
    try:
        server.init().start()
        admin = server.client('admin@example.com')
        sid = admin.make_share()['id']
        admin.make_file(sid, 'first', R.randbytes(MIB))
        server.run('backup', shelf)
        files = [(admin.make_file(sid, f'f{i}', data)['id'], data) for i, data in enumerate(R.randbytes(6 * MIB) for _ in range(4))]
        for leave in (0, 100_000, 8 * MIB):
            disk.fill(leave)
            done = server.run('backup', shelf, check=False)
            must(done.returncode == 2, f'a backup onto a full disk: {done}')
            disk.clear()
            points = server.run('backup', 'list', shelf).splitlines()
            must(len(points) == 1 and server.run('backup', 'verify', shelf, check=False).returncode == 0, 'the point before is hurt')
        server.run('backup', shelf, '--keep', '1')
        must(server.run('backup', 'verify', shelf, check=False).returncode == 0, 'a backup after a full disk')
        for leave in (100_000, 8 * MIB):
            disk.fill(leave)
            must(other.run('restore', shelf, check=False).returncode == 2, 'a restore into a full disk')
            must(other.run('fsck', check=False).returncode == 2, 'a half restored server is checked')
            disk.clear()
        other.run('restore', shelf)
        must(other.run('fsck', check=False).returncode == 0, 'a restore that went on')
        other.start()
        client = other.client('admin@example.com')
        must(all(client.get(f'{V1}/files/{f}/content').content == data for f, data in files), 'restored contents')
    finally:
        other.close()
        server.close()
        subprocess.run(['rm', '-rf', shelf, other.data], check=False)


def main():
    a = argparse.ArgumentParser()
    a.add_argument('--build', default='build')
    a.add_argument('--rounds', type=int, default=4)
    args = a.parse_args()
    for name, variable in (('scaidrived', 'SCAIDRIVED'), ('scaidrive', 'SCAIDRIVE_CLIENT')):
        os.environ.setdefault(variable, os.path.join(os.path.abspath(args.build), name))
    disk = Disk(96)
    try:
        if not disk.kind:
            print('skipped: no file system can be mounted here')
            return SKIPPED
        server_rounds(disk, args.rounds)
        subprocess.run(['rm', '-rf', os.path.join(disk.path, 'data')], check=False)
        for state_on_disk in (False, True):
            client_round(disk, state_on_disk)
        backup_round(disk)
        print(f'{args.rounds} rounds on a full {disk.kind}, nothing half made')
    finally:
        disk.close()
    return 0


if __name__ == '__main__':
    from conftest import populate
    from support import PASSWORD, Server, binary
    sys.exit(main())
