#!/usr/bin/env python3
"""10,000 files of 4 KiB, up and down, against rsync that is as durable (a syncfs behind each hop), in interleaved pairs.

usage: small_files.py [--build build] [--pairs 7] [--files 10000] [--work DIR]
  server side   POST sync/chunks and sync/apply with bodies made before the clock starts, against a push to an rsync daemon
  push          `scaidrive sync --once` of the tree (hashes, plan, state and all), against the same push
  pull          `scaidrive sync --once` into an empty folder, against a pull from that daemon
Every pair has fresh random content, so nothing is deduplicated. CPU is ours, server and client together, or rsync's, both
ends. --work must be on a disk. Nothing is deleted before the end: ext4 shuns inodes that were freed in the last seconds, at a
cost that grows with their number.
"""
import argparse
import hashlib
import http.client
import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from first_light import Server, free_port, wait_port  # noqa: E402

SIZE, FOLDERS = 4096, 100


def cpu_of(pid):
    with open(f'/proc/{pid}/stat', encoding='ascii') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return sum(int(x) for x in fields[11:15]) / os.sysconf('SC_CLK_TCK')  # with the children it has waited for


def children_cpu():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


class Timed:
    """Wall and CPU seconds of a block; pid: a server whose CPU counts too."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        os.sync()
        self.cpu0, self.begin = cpu_of(self.pid) + children_cpu(), time.monotonic()
        return self

    def __exit__(self, *_):
        self.wall = time.monotonic() - self.begin
        self.cpu = cpu_of(self.pid) + children_cpu() - self.cpu0


class Rsync:
    def __init__(self, work):
        self.store, self.port, self.pushes = os.path.join(work, 'rsync-store'), free_port(), 0
        os.makedirs(self.store)
        conf = os.path.join(work, 'rsyncd.conf')
        with open(conf, 'w', encoding='ascii') as f:
            f.write(f'use chroot=no\nuid={os.getuid()}\ngid={os.getgid()}\nlog file={work}/rsyncd.log\n[m]\npath={self.store}\nread only=no\n')
        self.process = subprocess.Popen(['rsync', '--daemon', '--no-detach', '--address=127.0.0.1', f'--port={self.port}', f'--config={conf}'],
                                        stderr=subprocess.DEVNULL)
        wait_port(self.port, self.process)

    def push(self, tree):
        self.pushes += 1
        os.makedirs(os.path.join(self.store, str(self.pushes)))
        with Timed(self.process.pid) as t:
            subprocess.run(['rsync', '-a', tree + '/', f'rsync://127.0.0.1:{self.port}/m/{self.pushes}/'], check=True)
            subprocess.run(['sync', '-f', self.store], check=True)
        return t

    def pull(self, target):
        os.makedirs(target)
        with Timed(self.process.pid) as t:
            subprocess.run(['rsync', '-a', f'rsync://127.0.0.1:{self.port}/m/{self.pushes}/', target + '/'], check=True)
            subprocess.run(['sync', '-f', target], check=True)
        return t


def make_tree(path, files):
    for i in range(files):
        if i % (files // FOLDERS) == 0:
            folder = os.path.join(path, f'folder-{i // (files // FOLDERS):03d}')
            os.makedirs(folder)
        with open(os.path.join(folder, f'file-{i:05d}.bin'), 'wb') as f:
            f.write(os.urandom(SIZE))


def post(server, token, path, body, content_type):
    c = http.client.HTTPConnection('127.0.0.1', server.port, timeout=120)
    c.request('POST', path, body, {'Authorization': 'Bearer ' + token, 'Content-Type': content_type})
    r = c.getresponse()
    answer = r.read()
    c.close()
    if r.status != 200:
        sys.exit(f'{path}: {r.status} {answer[:500]}')
    return answer


class Ours:
    def __init__(self, build, work, env=None):
        self.build, self.work = build, work
        self.server = Server(os.path.join(build, 'scaidrived'), os.path.join(work, 'data'), env)
        if not os.path.exists(self.server.data):
            self.server.init()
        self.server.start()
        subprocess.run(['taskset', '-pc', f'0-{os.cpu_count() - 1}', str(self.server.process.pid)], check=True, stdout=subprocess.DEVNULL)
        for task in os.listdir(f'/proc/{self.server.process.pid}/task'):
            subprocess.run(['taskset', '-pc', f'0-{os.cpu_count() - 1}', task], check=False, stdout=subprocess.DEVNULL)
        self.token = self.server.token()
        self.call('POST', '/api/v1/sync/devices', {'device_id': 'bench', 'device_name': 'bench', 'platform': 'cli'})

    def call(self, method, path, body=None):
        return self.server.call(method, path, body, self.token)

    def share(self, name):
        return self.call('POST', '/api/v1/shares', {'name': name, 'share_type': 'project'})['id']

    def bulk(self, tree, name):
        """The server's part of a push: one body of chunks and one apply that makes folders and files."""
        share, body, changes = self.share(name), bytearray(), []
        for folder in sorted(os.listdir(tree)):
            changes.append({'resource_type': 'folder', 'change_type': 'created', 'new_path': '/' + folder, 'op_id': f'{name}/{folder}'})
        made = json.loads(post(self.server, self.token, '/api/v1/sync/apply', json.dumps(
            {'device_id': 'bench', 'share_id': share, 'conflict_resolution': 'SERVER_WINS', 'changes': changes}).encode(), 'application/json'))
        ids = {a['name']: a['resource_id'] for a in made['applied']}
        changes = []
        for folder in sorted(os.listdir(tree)):
            for file in sorted(os.listdir(os.path.join(tree, folder))):
                with open(os.path.join(tree, folder, file), 'rb') as f:
                    content = f.read()
                digest = hashlib.sha256(content)
                body += digest.digest() + struct.pack('<I', len(content)) + content
                changes.append({'resource_type': 'file', 'change_type': 'created', 'chunks': [digest.hexdigest()], 'op_id': f'{name}/{file}',
                                'metadata': {'parent_id': ids[folder], 'name': file, 'mtime': '2026-01-02T03:04:05.678901Z',
                                             'checksum_sha256': digest.hexdigest()}})
        apply = json.dumps({'device_id': 'bench', 'share_id': share, 'conflict_resolution': 'SERVER_WINS', 'changes': changes}).encode()
        with Timed(self.server.process.pid) as t:
            post(self.server, self.token, f'/api/v1/sync/chunks?share_id={share}', bytes(body), 'application/octet-stream')
            half = time.monotonic()
            answer = post(self.server, self.token, '/api/v1/sync/apply', apply, 'application/json')
        t.chunks = half - t.begin
        if len(json.loads(answer)['applied']) != len(changes):
            sys.exit(f'not all were applied: {answer[:1000]}')
        return t

    def sync(self, name, folder, state):
        with Timed(self.server.process.pid) as t:
            subprocess.run([os.path.join(self.build, 'scaidrive'), 'sync', name, folder, '--once', '--state', state], check=True,
                           stdout=subprocess.DEVNULL)
        return t

    def login(self, state):
        subprocess.run([os.path.join(self.build, 'scaidrive'), 'login', '--server', self.server.url, '--email', 'a@example.org',
                        '--password-stdin', '--state', state], input=b'correct horse\n', check=True, stdout=subprocess.DEVNULL)


def summary(name, ours, peers, bar):
    ratio = statistics.median(o.wall / p.wall for o, p in zip(ours, peers))
    cpu = statistics.median(o.cpu / p.cpu for o, p in zip(ours, peers))
    print(f'{name:12} ours {statistics.median(o.wall for o in ours):6.2f} s  rsync {statistics.median(p.wall for p in peers):6.2f} s  '
          f'ratio {ratio:5.2f}{bar}  CPU {statistics.median(o.cpu for o in ours):5.2f} / {statistics.median(p.cpu for p in peers):5.2f} s, ratio {cpu:5.2f}')


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'build'))
    args.add_argument('--pairs', type=int, default=7)
    args.add_argument('--files', type=int, default=10000)
    args.add_argument('--work')
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix='small-files-', dir=args.work)
    ours, rsync = Ours(os.path.abspath(args.build), work), Rsync(work)
    got = {k: ([], []) for k in ('server side', 'push', 'pull')}
    try:
        for pair in range(args.pairs):
            tree, other = os.path.join(work, f'tree-{pair}'), os.path.join(work, f'other-{pair}')
            target, copy = os.path.join(work, f'target-{pair}'), os.path.join(work, f'copy-{pair}')
            states = [os.path.join(work, f'state-{pair}-{x}') for x in 'ab']
            make_tree(tree, args.files)
            make_tree(other, args.files)
            ours.share(f'push-{pair}')
            for state in states:
                ours.login(state)
            steps = [lambda: got['server side'][0].append(ours.bulk(tree, f'bulk-{pair}')),
                     lambda: got['server side'][1].append(rsync.push(tree)),
                     lambda: got['push'][0].append(ours.sync(f'push-{pair}', other, states[0])),
                     lambda: got['push'][1].append(rsync.push(other))]
            for step in (steps if pair % 2 == 0 else [steps[1], steps[0], steps[3], steps[2]]):
                step()
            os.makedirs(target)
            steps = [lambda: got['pull'][0].append(ours.sync(f'push-{pair}', target, states[1])), lambda: got['pull'][1].append(rsync.pull(copy))]
            for step in steps[::1 if pair % 2 == 0 else -1]:
                step()
            for kind, (a, b) in got.items():
                print(f'  pair {pair + 1} {kind:12} {a[-1].wall:6.2f} / {b[-1].wall:6.2f} s = {a[-1].wall / b[-1].wall:5.2f}   '
                      f'CPU {a[-1].cpu:5.2f} / {b[-1].cpu:5.2f}', flush=True)
        print(f'{args.files} files of {SIZE} bytes, {args.pairs} pairs, medians')
        for (kind, (a, b)), bar in zip(got.items(), (' (bar 0.35)', '', ' (bar 0.9)')):
            summary(kind, a, b, bar)
    finally:
        ours.server.stop()
        rsync.process.terminate()
        rsync.process.wait(10)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
