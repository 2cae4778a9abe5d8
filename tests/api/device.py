"""The real client as a person uses it: a state folder, a synced folder, and perhaps a daemon."""
import contextlib
import json
import os
import signal
import subprocess
import time
import types

import pytest
from support import PASSWORD, binary

SHARE = 'Files'


class Device:
    """One device: a state folder, a synced folder, and perhaps a daemon."""

    def __init__(self, server, base, name):
        self.server, self.base = server, base
        self.state, self.root = os.path.join(base, name + '.state'), os.path.join(base, name)
        self.daemon = None
        os.makedirs(base, exist_ok=True)

    def command(self, *args):
        return [binary('scaidrive'), *args, '--state', self.state]

    def run(self, *args, stdin=None, code=0):
        done = subprocess.run(self.command(*args), capture_output=True, text=True, input=stdin, timeout=60, env=self.server.env)
        if code is not None:
            assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        return done

    def login(self):
        self.run('login', '--server', self.server.base_url, '--email', 'admin@example.com', '--password-stdin', stdin=PASSWORD + '\n')
        return self

    def sync(self, code=0, *more):
        done = self.run('sync', SHARE, self.root, '--once', '--json', *more, code=code)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def start(self):
        log = open(self.state + '.log', 'ab')
        self.daemon = subprocess.Popen(self.command('sync', SHARE, self.root, '--json'), stdout=log, stderr=log, env=self.server.env)
        log.close()
        return self

    def stop(self, how=signal.SIGTERM):
        if self.daemon:
            self.daemon.send_signal(how)
            self.daemon.wait(30)
            self.daemon = None

    def log(self):
        with open(self.state + '.log') as f:
            return f.read()

    def identity(self, **change):
        path = os.path.join(self.state, 'device.json')
        with open(path) as f:
            doc = json.load(f)
        if change:
            doc.update(change)
            with open(path, 'w') as f:
                json.dump(doc, f)
        return types.SimpleNamespace(**doc)

    def path(self, name):
        return os.path.join(self.root, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), 'w') as f:
            f.write(text)

    def read(self, name):
        with contextlib.suppress(FileNotFoundError), open(self.path(name)) as f:
            return f.read()

    def names(self):
        return sorted(n for n in os.listdir(self.root) if n != '.scaidrive')


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.05)
    assert what()


@pytest.fixture
def world(private_server):
    s = private_server(people=False)
    made = []

    def device(name):
        made.append(Device(s, os.path.join(s.dir, 'devices'), name))
        return made[-1].login()
    yield types.SimpleNamespace(server=s, device=device)
    for d in made:
        d.stop(signal.SIGKILL)


def status(device):
    return json.loads(device.run('status', '--json').stdout)['folders'][0]
