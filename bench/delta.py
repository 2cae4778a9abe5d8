#!/usr/bin/env python3
"""Small changes of a large file, up and down, against rsync that is as durable (a syncfs behind each hop), in interleaved pairs.

usage: delta.py [--build build] [--pairs 7] [--mib 1024] [--files 10000] [--work DIR] [--only alone,insert,overwrite,copy,disk,sizes]
  insert      1 MiB put into the middle of the file, which is saved by replace, with --files files of 4 KiB beside it: bytes and time of either hop
  overwrite   100 scattered pieces of 4 KiB overwritten, saved by replace: the same
  alone       the insertion, with nothing beside the file
  copy        a second copy of --files files of 4 KiB and of the file, under other names; the pull against `cp -r` of them, with a syncfs, too
  disk        what the server writes when 4 KiB of the file were overwritten, by the counter of its process
  sizes       requests and bytes of an edit of documents of 64 KiB to 4 MiB
Bytes are those of the loopback of a network namespace of its own (so it wants root): both directions, TCP and IP headers included. Times of
ours are whole runs of `scaidrive sync --once`: scan, hash, plan, transfer, verify, sync. CPU is both ends.
"""
import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from first_light import free_port, wait_port  # noqa: E402
from small_files import Ours, Timed, make_tree  # noqa: E402

MIB = 1 << 20


def own_network(program=os.path.abspath(__file__)):
    if os.environ.get('DELTA_NETNS') != '1':
        os.environ['DELTA_NETNS'] = '1'
        os.execvp('unshare', ['unshare', '-n', sys.executable, program, *sys.argv[1:]])
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)


def loopback_bytes():
    with open('/proc/net/dev', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.strip().startswith('lo:'))


class Counted(Timed):
    def __enter__(self):
        self.wire0 = loopback_bytes()
        return super().__enter__()

    def __exit__(self, *_):
        super().__exit__()
        self.wire = loopback_bytes() - self.wire0


class Rsync:
    """A daemon and its store."""
    options = []

    def __init__(self, work):
        self.store, self.port = os.path.join(work, 'rsync-store'), free_port()
        os.makedirs(self.store)
        conf = os.path.join(work, 'rsyncd.conf')
        with open(conf, 'w', encoding='ascii') as f:
            f.write(f'use chroot=no\nuid={os.getuid()}\ngid={os.getgid()}\nlog file={work}/rsyncd.log\n[m]\npath={self.store}\nread only=no\n')
        self.process = subprocess.Popen(['rsync', '--daemon', '--no-detach', '--address=127.0.0.1', f'--port={self.port}', f'--config={conf}'],
                                        stderr=subprocess.DEVNULL)
        wait_port(self.port, self.process)

    def hop(self, source, target, disk):
        with Counted(self.process.pid) as t:
            subprocess.run(['rsync', '-a', *self.options, '--delete', '--exclude=.scaidrive', source, target], check=True)
            subprocess.run(['sync', '-f', disk], check=True)
        return t

    def push(self, a):
        return self.hop(a + '/', f'rsync://127.0.0.1:{self.port}/m/', self.store)

    def pull(self, b):
        return self.hop(f'rsync://127.0.0.1:{self.port}/m/', b + '/', b)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class World:
    """Ours: folders A and B of two devices and a server between them; rsync's: the same A, a B of its own."""

    def __init__(self, args, work):
        self.work, self.rng = work, random.Random(5)
        self.a, self.b, self.rsync_b = (os.path.join(work, n) for n in ('a', 'b', 'rsync-b'))
        for folder in (self.a, self.b, self.rsync_b):
            os.makedirs(folder)
        self.ours, self.rsync = Ours(os.path.abspath(args.build), work), Rsync(work)
        self.ours.share('delta')
        for state in 'ab':
            self.ours.login(self.state(state))

    def state(self, name):
        return os.path.join(self.work, 'state-' + name)

    def sync(self, name):
        with Counted(self.ours.server.process.pid) as t:
            subprocess.run([os.path.join(self.ours.build, 'scaidrive'), 'sync', 'delta', getattr(self, name), '--once', '--allow-mass-delete', '--state', self.state(name)],
                           check=True, stdout=subprocess.DEVNULL)
        return t

    def both(self):
        """Everything in step, in all places."""
        self.sync('a')
        self.sync('b')
        self.rsync.push(self.a)
        self.rsync.pull(self.rsync_b)

    def big(self, mib):
        with open(os.path.join(self.a, 'big.bin'), 'wb') as f:
            for _ in range(mib):
                f.write(self.rng.randbytes(MIB))
        self.both()

    def tree(self, files):
        """What lies beside big.bin."""
        path = os.path.join(self.a, 'tree')
        if not os.path.exists(path):
            make_tree(path, files)
            self.both()

    def edit(self, change):
        """Saves big.bin by replace, as editors do."""
        path = os.path.join(self.a, 'big.bin')
        with open(path, 'rb') as f, open(path + '.new', 'wb') as out:
            change(f, out)
        os.rename(path + '.new', path)
        os.sync()
        time.sleep(0.1)  # a stamp of this very moment is not trusted, and read again

    def insert(self, f, out):
        middle = os.fstat(f.fileno()).st_size // 2 + 12345
        shutil.copyfileobj(Head(f, middle), out, MIB)
        out.write(self.rng.randbytes(MIB))
        shutil.copyfileobj(f, out, MIB)

    def overwrite(self, f, out, times=100):
        shutil.copyfileobj(f, out, MIB)
        for _ in range(times):
            out.seek(self.rng.randrange(os.fstat(f.fileno()).st_size // 4096) * 4096)
            out.write(self.rng.randbytes(4096))

    def stop(self):
        self.ours.server.stop()
        self.rsync.stop()


class Head:
    def __init__(self, f, left):
        self.f, self.left = f, left

    def read(self, n):
        data = self.f.read(min(n, self.left))
        self.left -= len(data)
        return data


def same(a, b):
    subprocess.run(['diff', '-rq', '-x', '.scaidrive', a, b], check=True)


def median(values):
    values = list(values)
    return f'{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})'


def edits(world, name, change, pairs):
    got = []
    for pair in range(pairs):
        world.edit(change)
        hops = {}
        steps = [('ours', lambda: (world.sync('a'), world.sync('b'))),
                 ('rsync', lambda: (world.rsync.push(world.a), world.rsync.pull(world.rsync_b)))]
        for who, go in steps[::1 if pair % 2 == 0 else -1]:
            hops[who] = go()
        same(world.a, world.b)
        same(world.a, world.rsync_b)
        got.append(hops)
        print(f'  {name} {pair + 1}: ' + '   '.join(
            f'{who} {up.wire / 1e6:.2f} up {down.wire / 1e6:.2f} down MB, {up.wall:.2f} + {down.wall:.2f} s, CPU {up.cpu + down.cpu:.2f}' for who, (up, down) in hops.items()),
            flush=True)
    for i, way in enumerate(('up', 'down')):
        print(f'{name} {way}: ours {median(h["ours"][i].wire / 1e6 for h in got)} MB, rsync {median(h["rsync"][i].wire / 1e6 for h in got)} MB, '
              f'ratio {median(h["ours"][i].wire / h["rsync"][i].wire for h in got)}')
    total = {who: [h[who][0].wall + h[who][1].wall for h in got] for who in ('ours', 'rsync')}
    print(f'{name} time, both hops: ours {median(total["ours"])} s, rsync {median(total["rsync"])} s, '
          f'ratio {median(o / r for o, r in zip(total["ours"], total["rsync"]))} (bar 1.3), '
          f'CPU ratio {median((h["ours"][0].cpu + h["ours"][1].cpu) / (h["rsync"][0].cpu + h["rsync"][1].cpu) for h in got)}')


def copies(world, files, pairs):
    world.tree(files)
    got = []
    for pair in range(pairs):
        source, target = (os.path.join(world.a, n) for n in ('', f'copy-{pair}'))
        os.makedirs(target)
        subprocess.run(['cp', '-r', os.path.join(source, 'tree'), os.path.join(source, 'big.bin'), target], check=True)
        os.sync()
        time.sleep(0.1)
        up = world.sync('a')
        elsewhere = os.path.join(world.work, f'cp-{pair}')
        os.makedirs(elsewhere)

        def cp():
            with Counted(world.ours.server.process.pid) as t:
                subprocess.run(['cp', '-r', os.path.join(world.b, 'tree'), os.path.join(world.b, 'big.bin'), elsewhere], check=True)
                t.begin_sync = time.monotonic()
                subprocess.run(['sync', '-f', elsewhere], check=True)
            t.alone = t.begin_sync - t.begin
            return t
        steps = [lambda: world.sync('b'), cp]
        down, plain = (steps[0](), steps[1]()) if pair % 2 == 0 else (steps[1](), steps[0]())[::-1]
        same(world.a, world.b)
        got.append((up, down, plain))
        print(f'  copy {pair + 1}: {up.wire / 1e6:.2f} up {down.wire / 1e6:.2f} down MB, {up.wall:.2f} + {down.wall:.2f} s; cp -r {plain.alone:.2f}, with sync {plain.wall:.2f} s',
              flush=True)
        shutil.rmtree(target)
        world.sync('a')
        world.sync('b')
    print(f'copy: {median(g[0].wire / 1e6 for g in got)} MB up, {median(g[1].wire / 1e6 for g in got)} MB down (bar 2); push {median(g[0].wall for g in got)} s, '
          f'pull {median(g[1].wall for g in got)} s; pull / cp -r with sync {median(g[1].wall / g[2].wall for g in got)} (bar 1.6), / cp -r alone '
          f'{median(g[1].wall / g[2].alone for g in got)}; CPU of push {median(g[0].cpu for g in got)}, pull {median(g[1].cpu for g in got)} s')


def server_writes(world, pairs):
    got = []
    for _ in range(pairs):
        world.edit(lambda f, out: world.overwrite(f, out, 1))
        os.sync()
        before = written(world.ours.server.process.pid)
        world.sync('a')
        time.sleep(1)
        got.append((written(world.ours.server.process.pid) - before) / 1e6)
    print(f'disk: the server wrote {median(got)} MB for 4 KiB (bar 2)')
    world.both()


def written(pid):
    with open(f'/proc/{pid}/io', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('write_bytes'))


def sizes(world):
    """An edit in the middle of a document, by its size."""
    for kib in (64, 128, 256, 512, 1024, 4096):
        path = os.path.join(world.a, f'document-{kib}')
        text = bytearray(world.rng.randbytes(kib << 10))
        for state in ('new', 'edited'):
            if state == 'edited':
                text[kib << 9:kib << 9] = b'a sentence more'
            with open(path + '.new', 'wb') as f:
                f.write(text)
            os.rename(path + '.new', path)
            time.sleep(0.1)
            up, down = world.sync('a'), world.sync('b')
        print(f'  a document of {kib} KiB, edited: {up.wire / 1024:.0f} KiB up, {down.wire / 1024:.0f} KiB down', flush=True)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'build'))
    args.add_argument('--pairs', type=int, default=7)
    args.add_argument('--mib', type=int, default=1024)
    args.add_argument('--files', type=int, default=10000)
    args.add_argument('--only', default='alone,insert,overwrite,copy,disk,sizes')
    args.add_argument('--work')
    args = args.parse_args()
    own_network()
    work = tempfile.mkdtemp(prefix='delta-', dir=args.work)
    world = World(args, work)
    only = args.only.split(',')
    try:
        world.big(args.mib)
        if 'alone' in only:
            edits(world, 'insert, alone', world.insert, args.pairs)
        if only != ['alone']:
            world.tree(args.files)
        if 'insert' in only:
            edits(world, 'insert', world.insert, args.pairs)
        if 'overwrite' in only:
            edits(world, 'overwrite', world.overwrite, args.pairs)
        if 'disk' in only:
            server_writes(world, min(args.pairs, 3))
        if 'sizes' in only:
            sizes(world)
        if 'copy' in only:
            copies(world, args.files, args.pairs)
    finally:
        world.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
