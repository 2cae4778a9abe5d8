#!/usr/bin/env python3
"""Two real clients, random edits on both, kill -9 of everything now and then: the folders end equal, no content is lost.

usage: two_clients.py [--seconds 60] [--seed N] [--build build] [--no-kill]
Every content is unique. A content counts as given up only when the user of that device overwrote or deleted it; every
other one must be in the final tree, or (when a write raced with an arriving change) in the server's versions or trash.
Prints the seed; ends with status 1 and keeps its folder when something is wrong.
"""
import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

PASSWORD = 'two-clients-password'


class World:
    def __init__(self, args):
        self.args = args
        self.random = random.Random(args.seed)
        self.build = os.path.abspath(args.build)
        self.work = tempfile.mkdtemp(prefix='two-clients-')
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'
        self.processes = {}
        self.given_up = set()
        self.written = {}
        self.counter = 0
        self.kills = 0

    def root(self, device):
        return os.path.join(self.work, device)

    def start(self, name):
        if name == 'server':
            command = [f'{self.build}/scaidrived', 'serve', '--data', self.root('server'), '--listen', f'127.0.0.1:{self.port}']
        else:
            command = [f'{self.build}/scaidrive', 'sync', 'Files', self.root(name), '--allow-mass-delete', '--state', self.root(name + '.state')]
        log = open(self.root(name + '.log'), 'ab')
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, name, how=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(30)

    def setup(self):
        subprocess.run([f'{self.build}/scaidrived', 'init', '--data', self.root('server'), '--admin-email', 'a@example.org',
                        '--admin-password', PASSWORD], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.start('server')
        self.wait_server()
        for device in ('one', 'two'):
            os.makedirs(self.root(device))
            subprocess.run([f'{self.build}/scaidrive', 'login', '--server', self.url, '--email', 'a@example.org', '--password-stdin',
                            '--state', self.root(device + '.state')], input=PASSWORD + '\n', text=True, check=True, stdout=subprocess.DEVNULL)
            self.start(device)

    def wait_server(self):
        for _ in range(500):
            try:
                urllib.request.urlopen(self.url + '/health', timeout=2).read()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit('the server does not answer')

    # what a user does

    def listing(self, device):
        folders, files = [self.root(device)], []
        for top, names, entries in os.walk(self.root(device)):
            names[:] = [n for n in names if not n.startswith('.scaidrive')]
            folders += [os.path.join(top, n) for n in names]
            files += [os.path.join(top, n) for n in entries]
        return sorted(folders), sorted(files)

    def content(self, path):
        try:
            with open(path) as f:
                return f.readline().strip()
        except OSError:
            return None

    def put(self, path):
        self.counter += 1
        mark = f'content {self.counter} of seed {self.args.seed}'
        seen = self.content(path)
        text = mark + '\n' + 'x' * self.random.choice((0, 10, 4000, 70000, 700000)) + '\n'
        if self.random.random() < 0.5:
            with open(path + '.tmp~', 'w') as f: # as editors do: a new file takes the name
                f.write(text)
            os.rename(path + '.tmp~', path)
        else:
            with open(path, 'w') as f:
                f.write(text)
        self.written[mark] = path
        if seen:
            self.given_up.add(seen)

    def act(self, device):
        folders, files = self.listing(device)
        r = self.random
        folder = r.choice(folders)
        deed = r.random()
        name = f'{r.choice("abcdefgh")}{r.randint(0, 9)}'
        if deed < 0.35 or len(files) < 10:
            self.put(os.path.join(folder, name + '.txt'))
        elif deed < 0.6:
            self.put(r.choice(files))
        elif deed < 0.68:
            path = r.choice(files)
            seen = self.content(path)
            os.unlink(path)
            if seen:
                self.given_up.add(seen)
        elif deed < 0.78:
            target = os.path.join(folder, name + '.txt')
            if not os.path.exists(target):
                os.rename(r.choice(files), target)
        elif deed < 0.86:
            if len(folders) < 25:
                os.makedirs(os.path.join(folder, 'folder-' + name), exist_ok=True)
        elif deed < 0.95:
            source, target = r.choice(folders), os.path.join(folder, 'moved-' + name)
            if source != self.root(device) and not (target + '/').startswith(source + '/') and not os.path.exists(target):
                os.rename(source, target)
        else:
            if folder != self.root(device) and len(folders) > 6:
                for top, _, entries in os.walk(folder):
                    self.given_up.update(filter(None, (self.content(os.path.join(top, n)) for n in entries)))
                shutil.rmtree(folder)

    def run(self):
        self.setup()
        end = time.monotonic() + self.args.seconds
        down = {}
        while time.monotonic() < end:
            try:
                self.act(self.random.choice(('one', 'two')))
            except OSError:
                pass # the other side moved it away under our hands
            time.sleep(self.random.random() * 0.1)
            for name, when in list(down.items()):
                if time.monotonic() > when:
                    del down[name]
                    self.start(name)
            for name, process in list(self.processes.items()):
                if process.poll() is not None:
                    return self.fail(f'{name} ended by itself with {process.returncode}')
            if not self.args.no_kill and self.random.random() < 0.02 and len(self.processes) == 3:
                name = self.random.choice(('server', 'one', 'two'))
                self.kill(name)
                self.kills += 1
                down[name] = time.monotonic() + self.random.random() * 2
        for name in down:
            self.start(name)
        self.wait_server()
        return self.judge()

    # the judgement

    def tree(self, device):
        folders, files = self.listing(device)
        found = {os.path.relpath(f, self.root(device)): None for f in folders}
        for path in files:
            with open(path, 'rb') as f:
                found[os.path.relpath(path, self.root(device))] = f.read()
        return found

    def judge(self):
        calm_since, last, begin = None, None, time.monotonic()
        while True:
            if time.monotonic() - begin > 120:
                one, two = self.tree('one'), self.tree('two')
                print('only in one:', sorted(set(one) - set(two))[:20])
                print('only in two:', sorted(set(two) - set(one))[:20])
                print('different:', sorted(p for p in one if p in two and one[p] != two[p])[:20])
                return self.fail('the folders do not become equal')
            try:
                one, two = self.tree('one'), self.tree('two')
            except OSError:
                continue
            if one != two or one != last:
                calm_since, last = None, one
            elif calm_since is None:
                calm_since = time.monotonic()
            elif time.monotonic() - calm_since > 3:
                break
            time.sleep(0.2)
        for device in ('one', 'two'):
            self.kill(device, signal.SIGTERM)
            done = subprocess.run([f'{self.build}/scaidrive', 'sync', 'Files', self.root(device), '--once', '--allow-mass-delete', '--state',
                                   self.root(device + '.state')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode:
                return self.fail(f'a last round on {device}: {done.stdout.decode()[-500:]}')
        if self.tree('one') != one or self.tree('two') != one:
            return self.fail('another round changes something')
        present = {data.split(b'\n')[0].decode() for data in one.values() if data}
        missing = set(self.written) - present - self.given_up
        kept = self.stored() if missing else set()
        lost = missing - kept
        print(f'{len(self.written)} contents, {len(self.given_up)} given up by users, {len(missing)} only in versions or trash, {self.kills} kills, '
              f'{sum(v is not None for v in one.values())} files and {sum(v is None for v in one.values())} folders at the end')
        if lost:
            for mark in sorted(lost)[:10]:
                print('LOST:', mark, 'written to', self.written[mark])
            return self.fail(f'{len(lost)} contents are lost')
        self.kill('server', signal.SIGTERM)
        done = subprocess.run([f'{self.build}/scaidrived', 'fsck', '--deep', '--data', self.root('server')], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            return self.fail('fsck: ' + done.stdout)
        return True

    def stored(self):
        """First lines of every version of every file, the trash included."""
        token = subprocess.run([f'{self.build}/scaidrived', 'token', '--data', self.root('server'), '--user', 'a@example.org'], check=True,
                               stdout=subprocess.PIPE).stdout.decode().strip()

        def get(path):
            request = urllib.request.Request(self.url + path, headers={'Authorization': 'Bearer ' + token})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read()
        share = json.loads(get('/api/v1/shares'))['shares'][0]['id']
        found, cursor = set(), 0
        files = set()
        while True:
            page = json.loads(get(f'/api/v1/sync/changes?share_id={share}&cursor={cursor}&limit=5000'))
            files |= {c['resource_id'] for c in page['changes'] if c['resource_type'] == 'file'}
            cursor = page['cursor']
            if not page['has_more']:
                break
        for file in files:
            try:
                versions = json.loads(get(f'/api/v1/files/{file}/versions?include_deleted=true&limit=100'))['versions']
            except OSError:
                continue
            for version in versions:
                data = get(f'/api/v1/files/{file}/content?include_deleted=true&version={version["version_number"]}')
                found.add(data.split(b'\n')[0].decode())
        return found

    def fail(self, why):
        print(f'WRONG: {why} (seed {self.args.seed}); everything is left in {self.work}')
        return False

    def close(self, good):
        for name in list(self.processes):
            self.kill(name)
        if good:
            shutil.rmtree(self.work)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--seconds', type=float, default=60)
    args.add_argument('--seed', type=int, default=random.randrange(10 ** 6))
    args.add_argument('--build', default='build')
    args.add_argument('--no-kill', action='store_true')
    world = World(args.parse_args())
    good = False
    try:
        good = world.run()
    finally:
        world.close(good)
    print('equal, nothing lost' if good else 'FAILED', f'(seed {world.args.seed})')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
