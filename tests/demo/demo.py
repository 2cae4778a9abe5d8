#!/usr/bin/env python3
"""The main job, shown on real folders: a server, two devices, and everything that may go wrong between them.

usage: demo.py [BUILD_DIR]   (build/ when left out)
Narrates what happens and ends with status 1 as soon as something is not as it said.
"""
import filecmp
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

BUILD = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else 'build')
PASSWORD = 'demo-' + os.urandom(6).hex()
started = time.monotonic()
bold, plain = ('\033[1m', '\033[0m') if sys.stdout.isatty() else ('', '')


def say(text):
    print(f'{bold}[{time.monotonic() - started:5.1f} s]{plain} {text}', flush=True)


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def until(condition, what, limit=20):
    """Waits for condition() to hold; the time it took, in seconds."""
    begin = time.monotonic()
    while not condition():
        check(time.monotonic() - begin < limit, f'{what}: not after {limit} s')
        time.sleep(0.02)
    return time.monotonic() - begin


def visible(folder):
    """{path: kind} of what a person sees in a folder."""
    found = {}
    for top, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith('.scaidrive')]
        for name in folders:
            found[os.path.relpath(os.path.join(top, name), folder)] = 'folder'
        for name in files:
            found[os.path.relpath(os.path.join(top, name), folder)] = 'file'
    return found


def equal(a, b):
    left, right = visible(a), visible(b)
    return left == right and all(kind == 'folder' or filecmp.cmp(os.path.join(a, p), os.path.join(b, p), shallow=False)
                                 for p, kind in left.items())


def write(*parts, text):
    path = os.path.join(*parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as f:
        f.write(text)
    return path


def read(*parts):
    with open(os.path.join(*parts)) as f:
        return f.read()


class Demo:
    def __init__(self):
        self.work = tempfile.mkdtemp(prefix='scaidrive-demo-')
        self.data = os.path.join(self.work, 'server')
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.processes = {}

    def path(self, device):
        return os.path.join(self.work, device)

    def run(self, *command, **more):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **more)
        check(done.returncode == 0, f'{" ".join(command[:2])} ended with {done.returncode}: {done.stderr.strip()[-600:]}')
        return done.stdout

    def start(self, name, *command):
        log = open(os.path.join(self.work, name + '.log'), 'ab')
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def end(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        status = process.wait(20)
        check(how == signal.SIGKILL or status == 0, f'{name} ended with {status}')

    def server(self):
        self.start('server', f'{BUILD}/scaidrived', 'serve', '--data', self.data, '--listen', f'127.0.0.1:{self.port}')

        def answers():
            check(self.processes['server'].poll() is None, 'the server ended; see ' + os.path.join(self.work, 'server.log'))
            try:
                socket.create_connection(('127.0.0.1', self.port), 0.2).close()
                return True
            except OSError:
                return False
        return until(answers, 'the server answers')

    def client(self, device):
        self.start(device, f'{BUILD}/scaidrive', 'sync', 'Files', self.path(device), '--state', self.path(device + '.state'))

    def once(self, device):
        self.run(f'{BUILD}/scaidrive', 'sync', 'Files', self.path(device), '--once', '--state', self.path(device + '.state'))

    def settle(self, what, limit=20):
        return until(lambda: equal(self.path('laptop'), self.path('desktop')), what, limit)

    def play(self):
        laptop, desktop = self.path('laptop'), self.path('desktop')
        say('A fresh server: SQLite and local packs in one folder, no other service.')
        self.run(f'{BUILD}/scaidrived', 'init', '--data', self.data, '--admin-email', 'ann@example.org', '--admin-password', PASSWORD)
        say(f'It answers after {self.server() * 1000:.0f} ms on 127.0.0.1:{self.port}.')

        for device in ('laptop', 'desktop'):
            os.makedirs(self.path(device))
            self.run(f'{BUILD}/scaidrive', 'login', '--server', f'http://127.0.0.1:{self.port}', '--email', 'ann@example.org',
                     '--password-stdin', '--state', self.path(device + '.state'), input=PASSWORD + '\n')
        shares = json.loads(self.run(f'{BUILD}/scaidrive', 'shares', '--json', '--state', self.path('laptop.state')))
        check('Files' in json.dumps(shares), 'the share Files is listed')
        self.client('laptop')
        self.client('desktop')
        say('Two devices, laptop and desktop, each keep a real folder in step with the share "Files".')

        for i in range(40):
            write(laptop, f'Projects/Alpha/notes-{i:02d}.txt', text=f'note {i}\n' * 50)
        write(laptop, 'Projects/Alpha/plan.md', text='# Plan\n\nSync must never lose a file.\n')
        say(f'41 files made on the laptop are on the desktop after {self.settle("new files arrive"):.2f} s.')

        write(desktop, 'Projects/Alpha/plan.md', text='# Plan\n\nSync must never lose a file. Never.\n')
        took = until(lambda: read(laptop, 'Projects/Alpha/plan.md').endswith('Never.\n'), 'the edit arrives')
        say(f'An edit on the desktop is on the laptop after {took * 1000:.0f} ms.')
        self.settle('after the edit')

        inode = os.stat(os.path.join(desktop, 'Projects/Alpha/notes-07.txt')).st_ino
        os.rename(os.path.join(laptop, 'Projects/Alpha'), os.path.join(laptop, 'Projects/Apollo'))
        took = self.settle('the rename arrives')
        check(os.stat(os.path.join(desktop, 'Projects/Apollo/notes-07.txt')).st_ino == inode, 'the desktop renamed instead of loading again')
        say(f'A folder of 41 files renamed on the laptop: renamed on the desktop too ({took * 1000:.0f} ms, no byte sent again).')

        os.unlink(os.path.join(desktop, 'Projects/Apollo/notes-00.txt'))
        took = until(lambda: not os.path.exists(os.path.join(laptop, 'Projects/Apollo/notes-00.txt')), 'the delete arrives')
        say(f'A file deleted on the desktop is gone from the laptop after {took * 1000:.0f} ms (and rests in two trashes).')
        self.settle('after the delete')

        self.end('laptop')
        self.end('desktop')
        write(laptop, 'Projects/Apollo/plan.md', text='# Plan\n\nThe laptop wrote this while offline.\n')
        write(desktop, 'Projects/Apollo/plan.md', text='# Plan\n\nThe desktop wrote that while offline.\n')
        say('Both devices go offline and edit the same file ...')
        self.client('laptop')
        self.client('desktop')

        def both_kept():
            folder = os.path.join(laptop, 'Projects/Apollo')
            plans = [n for n in os.listdir(folder) if n.startswith('plan')]
            return len(plans) == 2 and equal(laptop, desktop)
        until(both_kept, 'both versions survive')
        folder = os.path.join(laptop, 'Projects/Apollo')
        names = sorted(n for n in os.listdir(folder) if n.startswith('plan'))
        texts = {read(folder, n).split('The ')[1].split()[0] for n in names}
        check(texts == {'laptop', 'desktop'}, f'both texts are there: {texts}')
        say('... and both versions survive, on both: ' + ' / '.join(names))

        say('Now 400 files on the laptop, and in the middle of it kill -9 hits the server and the desktop.')
        chance = random.Random(7)
        for i in range(400):
            write(laptop, f'Photos/{i % 10}/picture-{i:03d}.raw', text=chance.choice('abcdefgh') * chance.randint(100, 9000))
            if i == 250:
                until(lambda: len(visible(desktop)) > 60, 'transfers are under way', 30)
                self.end('server', signal.SIGKILL)
                self.end('desktop', signal.SIGKILL)
        time.sleep(0.3)
        say(f'The server is started again and answers after {self.server() * 1000:.0f} ms; so is the desktop.')
        self.client('desktop')
        took = self.settle('everything is well again', 40)
        check(len([p for p, k in visible(desktop).items() if p.startswith('Photos/') and k == 'file']) == 400, '400 pictures')
        say(f'All is well again after {took:.1f} s: 400 of 400 files, byte for byte, on both.')

        self.end('laptop')
        self.end('desktop')
        self.once('laptop')
        self.once('desktop')
        check(equal(laptop, desktop), 'another round changes nothing')
        self.end('server')
        say('Another round on each device changed nothing. Server and devices stopped cleanly.')

    def close(self, keep):
        for name in list(self.processes):
            self.processes[name].kill()
            self.processes[name].wait()
        if keep:
            print(f'Everything is left in {self.work} to look at.', file=sys.stderr)
        else:
            shutil.rmtree(self.work)


def main():
    demo = Demo()
    try:
        demo.play()
    except (Failed, subprocess.TimeoutExpired) as fault:
        print(f'\nNOT AS PROMISED: {fault}', file=sys.stderr)
        demo.close(keep=True)
        return 1
    except BaseException:
        demo.close(keep=True)
        raise
    demo.close(keep=False)
    say('That was the main job.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
