#!/usr/bin/env python3
"""Real clients and a server that is restored to older points in time while they are ahead of it.

usage: restore.py [--rounds 100 | --seconds 30] [--devices 3] [--seed N] [--work DIR] [--build build]
A round is edits on every device, with backups made meanwhile, then a restore: the server ends, its data folder goes, a random
one of the last points comes back (now and then the restore is killed on the way, and run again), and everyone signs in again.
Then all folders become equal, and every content that was on a device at that moment is in the tree; where devices were not in
step before, it may also be in versions or a trash. Some backups are killed: they are no points. Every point is verified before it is used,
and fsck finds nothing afterwards. The edits and checks are those of clients.py.
"""
import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import clients
from clients import LONG_S, PASSWORD, User, World, Wrong, quiet_run

KEEP = 4


class Campaign(World):
    def setup(self):
        super().setup()
        self.shelf = self.path('shelf')
        self.backups = self.restores = self.killed = 0

    def kill(self, who, how=signal.SIGKILL):
        """A client that is told to end while it begins says so by its exit code, which clients.py takes for a fault."""
        super().kill(who, signal.SIGKILL if who in self.devices else how)

    def points(self):
        return [line.split()[0] for line in quiet_run([self.server.program, 'backup', 'list', self.shelf]).splitlines()]

    def begin_backup(self):
        return subprocess.Popen([self.server.program, 'backup', '--data', self.server.data, self.shelf, '--keep', str(KEEP)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT)

    def edits(self, r, n):
        users = [User(self, d, r) for d in self.devices]
        for _ in range(n):
            user = r.choice(users)
            self.note(f'{user.device.name} {user.act()}')
            time.sleep(r.choice((0, 0, 0.01, 0.05)))
        for user in users:
            while user.device.growing:
                user.go_on(sorted(user.device.growing)[0])

    def edits_and_backup(self, r):
        self.edits(r, r.randint(1, 4))
        backup = self.begin_backup()
        if r.random() < 0.2:
            time.sleep(r.random() * 0.1)
            backup.send_signal(signal.SIGKILL)
            self.killed += 1
            self.note('a backup is killed')
        self.edits(r, r.randint(1, 6))
        told = backup.communicate(timeout=LONG_S)[0]
        if backup.returncode not in (0, -signal.SIGKILL):
            raise Wrong(f'backup ended with {backup.returncode}: {told}')
        self.backups += backup.returncode == 0

    def restore(self, r):
        """The server as it was at some point; what each device has at that moment."""
        point = r.choice(self.points())
        quiet_run([self.server.program, 'backup', 'verify', self.shelf, '--point', point])
        self.kill(self.server, r.choice((signal.SIGKILL, signal.SIGTERM)))
        for device in self.devices:
            self.kill(device)
        # What only the server had is gone with what came after the point.
        there = {e[0] for d in self.devices for e in d.tree().values() if e}.union(*(d.trashed() for d in self.devices))
        self.live = {c: p for c, p in self.live.items() if c in there}
        shutil.rmtree(self.server.data)
        command = [self.server.program, 'restore', '--data', self.server.data, self.shelf, '--point', point]
        if r.random() < 0.3:
            p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(r.random() * 0.05)
            p.kill()
            self.killed += 1
            if p.wait() == 0:
                command = None
        if command and (not os.path.exists(self.server.data + '/packs') or os.path.exists(self.server.data + '/restoring') or not os.listdir(self.server.data + '/packs')):
            quiet_run(command)
        self.server.fsck(False)
        self.note(f'restored to {point}')
        self.restores += 1
        self.server.start()
        self.server.token = quiet_run([self.server.program, 'token', '--data', self.server.data, '--user', 'ada@example.org', '--ttl', '864000'])
        self.cursor = self.server.ask(f'/api/v1/sync/snapshot?share_id={self.server.share}&limit=1')['cursor']

    def sign_in_again(self, device):
        if device.process.poll() is None:
            self.kill(device)
        quiet_run([device.program, 'login', '--server', f'http://127.0.0.1:{device.proxy.port}', '--email', f'{device.user}@example.org',
                   '--password-stdin', '--device-name', device.name, '--state', device.state], input=PASSWORD + '\n')
        device.start()

    def round(self, number):
        r = random.Random(f'{self.args.seed}:{number}')
        self.notes.clear()
        for _ in range(r.randint(1, 3)):
            self.edits_and_backup(r)
        if not os.path.exists(self.shelf) or not self.points():
            self.begin_backup().wait(LONG_S)
        self.edits(r, r.randint(0, 5))
        in_step = r.random() < 0.6
        if in_step:
            self.judge(self.become_equal(patient=False))
        self.restore(r)
        for device in self.devices:
            if r.random() < 0.5:
                device.start()  # it is not signed in any more
        if not in_step:
            self.edits(r, r.randint(0, 3))
        had = {e[0] for d in self.devices for e in d.tree().values() if e} if in_step else set()
        for device in self.devices:
            self.sign_in_again(device)
        tree = self.become_equal(patient=False)
        gone = had - {e[0] for e in tree.values() if e}
        if gone:
            raise Wrong(f'on a device before the restore, and not in the tree behind it: {gone}')
        self.judge(tree)

    def run(self):
        begin, number, args = time.monotonic(), 0, self.args
        end = begin + args.seconds if args.seconds else None
        try:
            while number < args.rounds if not end else time.monotonic() < end:
                self.round(number)
                number += 1
            self.inspect(True)
        except (Wrong, subprocess.TimeoutExpired) as e:
            print('\n'.join(self.notes))
            print(f'WRONG: {e}\nin round {number}; everything is left in {self.work}; again: tests/crash/restore.py --seed {args.seed} '
                  f'--devices {args.devices} --rounds {number + 1}')
            return False
        seconds = time.monotonic() - begin
        print(f'{number} rounds in {seconds:.0f} s: {self.restores} restores from {self.backups} backups, {self.killed} of either killed; {self.counter} contents, '
              f'{self.only_kept} in versions or trash alone; all equal everywhere (seed {args.seed})')
        return True


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rounds', type=int, default=100)
    p.add_argument('--seconds', type=float)
    p.add_argument('--devices', type=int, default=3)
    p.add_argument('--seed', type=int, default=random.randrange(10 ** 6))
    p.add_argument('--work')
    p.add_argument('--build', default='build')
    return clients.campaign(Campaign(p.parse_args()))


if __name__ == '__main__':
    sys.exit(main())
