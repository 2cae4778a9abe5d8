#!/usr/bin/env python3
"""Real clients, two users and one server: random edits on every device, kill -9 of everything, pauses, cut connections.

usage: clients.py [--sequences 10000 | --seconds 60] [--worlds N] [--devices 3] [--seed N] [--work DIR] [--build build] [--no-faults]
A sequence is a few edits and faults, then quiet; then all folders are equal and equal to what the server lists, every
file is whole, and every content that no user gave up (overwrote or deleted on a device that had it) is in the tree, in
the server's versions or trash, or in a client's trash. Every FSCK_EVERY sequences the clients stop, another round
changes nothing, and fsck finds nothing. DIR chooses the file system. Edits and faults follow from the seed, the
processes' timing does not: what fails prints the line that runs it again and what the last sequence did, and keeps its
folder. A sequence waits more than it works, so several worlds side by side (--worlds, each with the next seed) do more.
"""
import argparse
import collections
import contextlib
import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from proxy import FAULTS, Proxy

PASSWORD = 'some-clients-password'
FSCK_EVERY = 100
FILES_MAX, FOLDERS_MAX = 30, 12
CALM_S = 0.2     # a client that failed to reach its server waits for a second and more: most sequences start it anew instead,
ALL_S = 15       # and in the end all, since one may have lost no more than the socket on which it is told of news
TICK_NS = 50_000_000  # of the clock that stamps files, and more
PATIENCE_S = 90  # one in PATIENT lets every client come back by itself
PATIENT = 30
LONG_S = 3600    # for what takes a second: the whole campaign may be paused meanwhile
GONE = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY)  # the client was there first


class Wrong(Exception):
    pass


def quiet_run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONG_S, **more)
    if done.returncode:
        raise Wrong(f'{command[:3]} ended with {done.returncode}: {done.stdout[-2000:]}')
    return done.stdout.strip()


def has_twins(trees):
    return any('(name twin' in path or '(on the server' in path for tree in trees for path in tree)


def without_twins(tree):
    """Of names that differ by case alone one has another name on the server, and its own on the disk where it was made: names as they
    are compared, and how often each is there."""
    entries = collections.Counter((re.sub(r' \((name twin|on the server)( \d+)?\)', '', path).lower(), entry) for path, entry in tree.items())
    return {(*what, i): what[1] for what, n in entries.items() for i in range(n)}


class Passing:
    """Seconds of our own: while the whole campaign is paused, to make room for something else, at most one passes."""

    def __init__(self):
        self.passed, self.looked = 0, time.monotonic()

    def seconds(self):
        now = time.monotonic()
        self.passed += min(now - self.looked, 1)
        self.looked = now
        return self.passed


class Server:
    def __init__(self, world):
        self.world, self.data = world, world.path('server')
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.program = os.path.join(world.build, 'scaidrived')
        quiet_run([self.program, 'init', '--data', self.data, '--admin-email', 'ada@example.org', '--admin-password', PASSWORD])
        bob = quiet_run([self.program, 'user', 'add', '--data', self.data, '--email', 'bob@example.org', '--name', 'Bob', '--password', PASSWORD])
        world.running.append(self)
        self.start()
        self.token = quiet_run([self.program, 'token', '--data', self.data, '--user', 'ada@example.org', '--ttl', '864000'])
        self.share = self.ask('/api/v1/shares')['shares'][0]['id']
        self.ask(f'/api/v1/shares/{self.share}/members', {'principal_type': 'user', 'principal_id': bob, 'role': 'contributor'})

    def start(self):
        with open(self.data + '.log', 'ab') as log:
            self.process = subprocess.Popen([self.program, 'serve', '--data', self.data, '--listen', f'127.0.0.1:{self.port}'],
                                            stdout=log, stderr=log)
        time_passed = Passing()
        while time_passed.seconds() < 20:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'http://127.0.0.1:{self.port}/health', timeout=2).read()
                return
            time.sleep(0.01)
        raise Wrong('the server does not answer')

    def ask(self, path, body=None):
        headers = {'Authorization': 'Bearer ' + self.token, 'Content-Type': 'application/json'}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f'http://127.0.0.1:{self.port}{path}', data, headers)
        with urllib.request.urlopen(request, timeout=LONG_S) as answer:
            return json.loads(answer.read())

    def tree(self):
        nodes, token = {}, ''
        while True:
            page = self.ask(f'/api/v1/sync/snapshot?share_id={self.share}&limit=5000{token}')
            nodes.update({n['id']: n for n in page['nodes']})
            if not page['has_more']:
                break
            token = '&page_token=' + page['page_token']

        def path(n):
            up = nodes.get(n['parent_id'])
            return os.path.join(path(up), n['name']) if up else n['name']
        return {path(n): n['type'] == 'file' and (n['checksum_sha256'], n['executable']) for n in nodes.values()}

    def changes(self, cursor):
        """All entries of the log behind the cursor, and the new one."""
        found = []
        while True:
            page = self.ask(f'/api/v1/sync/changes?share_id={self.share}&cursor={cursor}&limit=5000')
            found += page['changes']
            cursor = page['cursor']
            if not page['has_more']:
                return found, cursor

    def versions(self, file):
        """Checksums of every version, in the trash or not; none of a file that is gone for good."""
        try:
            page = self.ask(f'/api/v1/files/{file}/versions?include_deleted=true&limit=500')
        except urllib.error.HTTPError:
            return set()
        return {v['checksum_sha256'] for v in page['versions']}

    def fsck(self, deep):
        quiet_run([self.program, 'fsck', *(['--deep'] if deep else []), '--data', self.data])


class Device:
    def __init__(self, world, number):
        self.world, self.number, self.name = world, number, f'd{number}'
        self.root, self.state = world.path(self.name), world.path(self.name + '.state')
        self.proxy = Proxy(world.server.port)
        self.program = os.path.join(world.build, 'scaidrive')
        self.user = 'bob' if number == world.args.devices - 1 else 'ada'
        self.growing, self.hashed = {}, {}
        os.makedirs(self.root)
        quiet_run([self.program, 'login', '--server', f'http://127.0.0.1:{self.proxy.port}', '--email', f'{self.user}@example.org',
                   '--password-stdin', '--device-name', self.name, '--state', self.state], input=PASSWORD + '\n')
        world.running.append(self)
        self.start()

    def command(self, *more):
        return [self.program, 'sync', 'Files', self.root, '--allow-mass-delete', '--state', self.state, *more]

    def start(self):
        with open(self.root + '.log', 'ab') as log:
            self.process = subprocess.Popen(self.command('--json'), stdout=log, stderr=log)

    def checksum(self, path, stat, anew):
        """A file whose stamp is the one of before is not read again, unless it was read so soon after its last change that a later one may
        have the same stamp."""
        stamp = stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        if anew or stamp not in self.hashed:
            settled = time.time_ns() - stat.st_ctime_ns > TICK_NS
            with open(path, 'rb') as f:
                checksum = hashlib.sha256(f.read()).hexdigest()
            if not settled:
                return checksum
            self.hashed[stamp] = checksum
        return self.hashed[stamp]

    def tree(self, anew=False):
        """path -> (checksum, executable), or False for a folder; hidden names are ours or the client's."""
        found, folders = {}, ['']
        while folders:
            below = folders.pop()
            with os.scandir(os.path.join(self.root, below)) as entries:
                for e in entries:
                    path = below + e.name
                    if e.is_dir(follow_symlinks=False):
                        if not e.name.startswith('.scaidrive'):
                            found[path] = False
                            folders.append(path + '/')
                    else:
                        stat = e.stat(follow_symlinks=False)
                        found[path] = self.checksum(e.path, stat, anew), bool(stat.st_mode & 0o100)
        return found

    def is_waiting(self):
        """It met a fault, by its log, and has not got over it: it comes back by itself, after a second and more."""
        with open(self.root + '.log', 'rb') as log:
            log.seek(max(os.fstat(log.fileno()).st_size - 4096, 0))
            told = [line for line in log.read().split(b'\n') if line.startswith(b'{"event"')]
        return bool(told) and told[-1].startswith(b'{"event":"fault"')

    def trashed(self):
        found = set()
        for top, _, files in os.walk(os.path.join(self.root, '.scaidrive')):
            for n in files:
                with contextlib.suppress(OSError), open(os.path.join(top, n), 'rb') as f:
                    found.add(hashlib.sha256(f.read()).hexdigest())
        return found

    def another_round(self):
        """Of a device that is in step: nothing may happen."""
        told = [json.loads(line) for line in quiet_run(self.command('--once', '--json')).splitlines()]
        if any(e['event'] != 'settled' for e in told):
            raise Wrong(f'{self.name}: another round does something: {told}')


class User:
    """Somebody who edits in a device's folder, as people and their programs do."""

    def __init__(self, world, device, rng):
        self.world, self.device, self.r = world, device, rng

    def look(self):
        folders, files = [self.device.root], []
        for top, names, entries in os.walk(self.device.root):
            names[:] = [n for n in names if not n.startswith('.scaidrive')]
            folders += [os.path.join(top, n) for n in names]
            files += [os.path.join(top, n) for n in entries]
        self.folders = sorted(folders)
        inodes = {os.fstat(f.fileno()).st_ino for f, _, _ in self.device.growing.values()}  # the client may have moved them
        self.busy = {f for f in files if inodes and os.path.lexists(f) and os.lstat(f).st_ino in inodes}
        self.files = sorted(f for f in files if f not in self.busy)

    def read(self, path):
        """What the user knows of it; None: nothing."""
        with contextlib.suppress(OSError), open(path, 'rb') as f:
            return hashlib.sha256(f.read()).hexdigest()

    def new_name(self):
        return os.path.join(self.r.choice(self.folders), f'{self.r.choice("abcdefgh")}{self.r.randint(0, 9)}')

    def text(self):
        self.world.counter += 1
        mark = f'{self.world.counter} of {self.world.args.seed} on {self.device.name}\n'.encode()
        return mark + self.r.choice((b'x', b'yz', mark)) * self.r.choice((0, 10, 4000, 4000, 30000, 200000)) + mark

    def written(self, data, path):
        self.world.written(data)
        self.world.live[hashlib.sha256(data).hexdigest()] = path

    def in_place(self, path, data):
        seen = self.read(path)
        with open(path, 'wb', buffering=0) as f:
            f.write(data)
        self.world.live.pop(seen, None)
        self.written(data, path)

    def create(self):
        path = self.new_name() + '.txt'
        if not os.path.exists(path):
            self.in_place(path, self.text())

    def overwrite(self):
        self.in_place(self.r.choice(self.files), self.text())

    def edit_some(self):
        """The size stays, some bytes do not."""
        path = self.r.choice(self.files)
        with open(path, 'r+b', buffering=0) as f:
            old = f.read()
            self.world.counter += 1
            mark = b'%12d' % self.world.counter
            f.seek(0)
            f.write(mark[:max(len(old), 1)])
        self.world.live.pop(hashlib.sha256(old).hexdigest(), None)
        self.written(mark[:max(len(old), 1)] + old[12:], path)

    def temp_and_rename(self):
        path, data = self.r.choice(self.files), self.text()
        seen = self.read(path)
        temp = os.path.join(os.path.dirname(path), f'.~{self.world.counter}.tmp')
        with open(temp, 'wb', buffering=0) as f:
            f.write(data)
        self.world.written(data)
        if not os.path.isfile(path):
            os.unlink(temp)
            return
        os.rename(temp, path)
        self.world.live.pop(seen, None)
        self.written(data, path)

    def rename(self):
        source, target = self.r.choice(self.files), self.new_name() + '.txt'
        if not os.path.exists(target):
            os.rename(source, target)

    def swap(self):
        one, two = self.r.choice(self.files), self.r.choice(self.files)
        if one != two:
            os.rename(one, one + '.swap')
            os.rename(two, one)
            os.rename(one + '.swap', two)

    def case_only(self):
        path = self.r.choice(self.files)
        folder, name = os.path.split(path)
        target = os.path.join(folder, name.swapcase())
        if not os.path.exists(target):
            os.rename(path, target)

    def flag(self):
        path = self.r.choice(self.files)
        os.chmod(path, os.stat(path).st_mode ^ 0o100)

    def delete(self):
        path = self.r.choice(self.files)
        seen = self.read(path)
        os.unlink(path)
        self.world.live.pop(seen, None)

    def make_folder(self):
        if len(self.folders) < FOLDERS_MAX:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.new_name() + '-folder')

    def busy_below(self, folder):
        return any(f.startswith(folder + '/') for f in self.busy)

    def move_folder(self):
        source, target = self.r.choice(self.folders), self.new_name() + '-moved'
        if source != self.device.root and not (target + '/').startswith(source + '/') and not os.path.exists(target) \
                and not self.busy_below(source):
            os.rename(source, target)

    def delete_folder(self):
        folder = self.r.choice(self.folders)
        if folder == self.device.root or self.busy_below(folder):
            return
        for top, folders, files in os.walk(folder, topdown=False):
            for n in files:
                seen = self.read(os.path.join(top, n))
                os.unlink(os.path.join(top, n))
                self.world.live.pop(seen, None)
            for n in folders:
                os.rmdir(os.path.join(top, n))
        os.rmdir(folder)

    def file_becomes_folder(self):
        path = self.r.choice(self.files)
        seen = self.read(path)
        os.unlink(path)
        self.world.live.pop(seen, None)
        os.mkdir(path)
        self.in_place(os.path.join(path, 'inside.txt'), self.text())

    def grow(self):
        """Written in pieces while the client looks: begun here, continued by go_on."""
        path = self.new_name() + '.log'
        if os.path.exists(path):
            return
        f = open(path, 'wb', buffering=0)
        self.device.growing[path] = f, [self.text() for _ in range(self.r.randint(2, 6))], []
        self.go_on(path)

    def go_on(self, path):
        """One more piece; after the last one the file is a content like others."""
        f, pieces, done = self.device.growing[path]
        done.append(pieces.pop(0))
        f.write(done[-1])
        self.world.written(b''.join(done))
        if not pieces:
            f.close()
            del self.device.growing[path]
            self.world.grown.append(b''.join(done))
            self.world.live[hashlib.sha256(b''.join(done)).hexdigest()] = path

    DEEDS = ((create, 10), (overwrite, 8), (edit_some, 4), (temp_and_rename, 10), (rename, 8), (swap, 4), (case_only, 3), (flag, 2), (delete, 6),
             (make_folder, 4), (move_folder, 5), (delete_folder, 2), (file_becomes_folder, 2), (grow, 3))

    def act(self):
        if self.device.growing and self.r.random() < 0.4:
            self.go_on(sorted(self.device.growing)[0])
            return 'go_on'
        self.look()
        deeds, weights = zip(*self.DEEDS)
        deed = self.r.choices(deeds, weights)[0]
        if len(self.files) < 5:
            deed = User.create
        elif len(self.files) > FILES_MAX and deed in (User.create, User.grow):
            deed = User.delete
        try:
            deed(self)
        except OSError as e:
            if e.errno not in GONE:
                raise
            return deed.__name__ + ' (too late)'
        return deed.__name__


class World:
    def __init__(self, args):
        self.args, self.build = args, os.path.abspath(args.build)
        self.work = tempfile.mkdtemp(prefix='clients-', dir=args.work)
        self.known = {hashlib.sha256(b'').hexdigest()}  # checksums of all that a file ever held between two writes
        self.live = {}     # checksum of a content that nobody gave up -> where it was written
        self.counter = self.cursor = self.faults = self.only_kept = self.restarts = 0
        self.notes, self.paused, self.running, self.grown = [], [], [], []

    def setup(self):
        self.server = Server(self)
        self.devices = [Device(self, i) for i in range(self.args.devices)]

    def path(self, name):
        return os.path.join(self.work, name)

    def note(self, text):
        self.notes.append(f'{time.time():.3f} {text}')

    def written(self, data):
        self.known.add(hashlib.sha256(data).hexdigest())

    # faults

    def fault(self, r):
        self.faults += 1
        what = r.choices(('client', 'server', 'pause', 'net'), (3, 2, 2, 6))[0]
        device = r.choice(self.devices)
        if what == 'client':
            self.note(f'kill {device.name}')
            self.kill(device)
            device.start()
        elif what == 'server':
            how = r.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            self.note(f'server ends by {how.name}')
            self.kill(self.server, how)
            time.sleep(r.random() * 0.1)
            self.server.start()
        elif what == 'pause':
            victim = r.choice((device, device, self.server))
            self.note(f'{getattr(victim, "name", "server")} is stopped')
            victim.process.send_signal(signal.SIGSTOP)
            self.paused.append(victim)
        else:
            fault, after = r.choice(FAULTS), r.choice((0, 100, 1000, 10000, 100000))
            self.note(f'{device.name}: network {fault} after {after}')
            device.proxy.strike(fault, after)

    def kill(self, who, how=signal.SIGKILL):
        who.process.send_signal(signal.SIGCONT)
        who.process.send_signal(how)
        code = who.process.wait(LONG_S)
        if how == signal.SIGTERM and code not in (0, -signal.SIGTERM):
            raise Wrong(f'{getattr(who, "name", "server")} ended with {code}')

    def heal(self):
        for victim in self.paused:
            victim.process.send_signal(signal.SIGCONT)
        self.paused.clear()
        for d in self.devices:
            d.proxy.heal()

    def alive(self):
        for who in self.running:
            if who.process.poll() is not None:
                raise Wrong(f'{getattr(who, "name", "the server")} ended by itself with {who.process.returncode}')

    # one sequence

    def sequence(self, number):
        r = random.Random(f'{self.args.seed}:{number}')
        self.notes.clear()
        deeds = ['edit'] * r.randint(3, 12) + ['fault'] * (0 if self.args.no_faults else r.choice((0, 0, 1, 1, 2, 3)))
        r.shuffle(deeds)
        users = [User(self, d, r) for d in self.devices]
        for deed in deeds:
            if deed == 'fault':
                self.fault(r)
            else:
                user = r.choice(users)
                did = user.act()
                self.note(f'{user.device.name} {did}')
            time.sleep(r.choice((0, 0, 0, 0.01, 0.03, 0.08)))
            if r.random() < 0.2:
                self.heal()
        for user in users:
            while user.device.growing:
                user.go_on(sorted(user.device.growing)[0])
        self.heal()
        self.alive()
        tree = self.become_equal(patient=r.randrange(PATIENT) == 0)
        self.judge(tree)

    def trees(self):
        """The devices' and the server's, who is asked once the devices agree; None: something moved away under our eyes."""
        try:
            trees = [d.tree() for d in self.devices]
            if has_twins(trees) or all(t == trees[0] for t in trees):
                trees.append(self.server.tree())
        except OSError:
            return None
        return [without_twins(t) for t in trees] if has_twins(trees) else trees

    def become_equal(self, patient):
        time_passed, last, nudged, pause_s = Passing(), None, 0, 0.02
        while True:
            trees = self.trees()
            equal = trees and len(trees) > len(self.devices) and all(t == trees[0] for t in trees)
            if equal and trees == last:
                return trees[0]
            waited = time_passed.seconds()
            if waited > PATIENCE_S:
                self.tell_difference()
                raise Wrong('the folders do not become equal')
            last = trees
            time.sleep(0.05 if equal else pause_s)
            pause_s = min(pause_s * 1.2, 0.15)
            if not equal and not patient and waited > CALM_S * (nudged + 1) ** 2:
                nudged += 1
                self.begin_anew(self.devices if waited > ALL_S else [d for d in self.devices if d.is_waiting()], nudged)

    def begin_anew(self, devices, nudged):
        self.restarts += len(devices)
        for device in devices:
            self.kill(device, signal.SIGKILL if nudged % 2 else signal.SIGTERM)
            device.start()

    def tell_difference(self):
        there = self.server.tree()
        for device in self.devices:
            tree = device.tree()
            for p in sorted(set(tree) | set(there)):
                if tree.get(p) != there.get(p):
                    print(f'{device.name} {p}: {tree.get(p, "missing")}, the server: {there.get(p, "missing")}')

    def is_begun(self, checksum, changes):
        """The beginning of a file that was written for longer than the client waits, read in the midst of a write."""
        sizes = {c['metadata']['size'] for c in changes if c['metadata'].get('checksum_sha256') == checksum}
        return any(hashlib.sha256(g[:n]).hexdigest() == checksum for g in self.grown for n in sizes)

    def judge(self, tree):
        here = {entry[0] for entry in tree.values() if entry}
        changes, self.cursor = self.server.changes(self.cursor)
        seen = here | {c['metadata'].get('checksum_sha256') for c in changes} - {None}
        torn = {c for c in seen - self.known if not self.is_begun(c, changes)}
        self.grown.clear()
        if torn:
            raise Wrong(f'contents that nobody wrote: {torn}; {[c for c in changes if c["metadata"].get("checksum_sha256") in torn]}')
        missing = {c: p for c, p in self.live.items() if c not in here}
        if missing:
            kept = seen.union(*(self.server.versions(f) for f in {c['resource_id'] for c in changes if c['resource_type'] == 'file'}))
            if not kept.issuperset(missing):
                kept = kept.union(*(d.trashed() for d in self.devices))
            for c, p in missing.items():
                if c not in kept:
                    raise Wrong(f'a content is lost, written to {p}, checksum {c}')
            self.only_kept += len(missing)
        self.live = {c: self.live[c] for c in here if c in self.live}

    def inspect(self, deep):
        """All stop; nothing is left to do, and all that is stored is whole."""
        for d in self.devices:
            self.kill(d, signal.SIGTERM)
        if has_twins([self.server.tree()]):  # then capitals were not compared, and some may be on their way
            for d in self.devices * 2:
                quiet_run(d.command('--once'))
        for d in self.devices:
            d.another_round()
        self.kill(self.server, signal.SIGTERM)
        self.server.fsck(deep)
        if any(d.tree(anew=True) != d.tree() for d in self.devices):
            raise Wrong('a file changed under the same stamp')
        self.server.start()
        for d in self.devices:
            d.start()

    def run(self):
        begin, number, args = time.monotonic(), 0, self.args
        end = begin + args.seconds if args.seconds else None
        try:
            while number < args.sequences if not end else time.monotonic() < end:
                self.sequence(number)
                number += 1
                if number % FSCK_EVERY == 0:
                    self.notes.clear()
                    self.inspect(False)
                    print(f'{time.strftime("%T")} seed {args.seed}: {number} sequences', flush=True)
            self.inspect(True)
        except (Wrong, subprocess.TimeoutExpired) as e:
            print('\n'.join(self.notes))
            print(f'WRONG: {e}\nin sequence {number}; everything is left in {self.work}; again: tests/crash/clients.py --seed {args.seed} '
                  f'--devices {args.devices} --sequences {number + 1}' + (' --no-faults' if args.no_faults else ''))
            return False
        seconds = time.monotonic() - begin
        worked = sum(os.times()[:4])
        print(f'{number} sequences in {seconds:.0f} s, {worked:.0f} s of processor time: {self.counter} contents, {self.faults} faults, {self.restarts} restarts to '
              f'save time; {self.only_kept} contents in versions or trash alone; all else equal everywhere (seed {args.seed})')
        return True

    def close(self, good):
        for who in self.running:
            if who.process.poll() is None:
                self.kill(who)
        if good:
            shutil.rmtree(self.work)


def side_by_side(args):
    """Each world in a process of its own, with its part of the sequences."""
    more = [f'--{key}={value}' for key, value in (('seconds', args.seconds), ('devices', args.devices), ('work', args.work), ('build', args.build)) if value]
    more += ['--no-faults'] * args.no_faults + [f'--sequences={-(-args.sequences // args.worlds)}']
    worlds = [subprocess.Popen([sys.executable, __file__, *more, f'--seed={args.seed + i}']) for i in range(args.worlds)]
    return max(w.wait() for w in worlds)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--sequences', type=int, default=10000)
    p.add_argument('--seconds', type=float)
    p.add_argument('--devices', type=int, default=3)
    p.add_argument('--seed', type=int, default=random.randrange(10 ** 6))
    p.add_argument('--work')
    p.add_argument('--build', default='build')
    p.add_argument('--no-faults', action='store_true')
    p.add_argument('--worlds', type=int, default=1)
    args = p.parse_args()
    if args.worlds > 1:
        return side_by_side(args)
    return campaign(World(args))


def campaign(world):
    good = False
    try:
        world.setup()
        good = world.run()
    finally:
        world.close(good)
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
