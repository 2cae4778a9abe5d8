#!/usr/bin/env python3
"""kill -9 of the server in the middle of uploads and applies: nothing acknowledged is lost, nothing half made is seen.

usage: kill_server.py [--rounds 12] [--seed N] [--build build] [--database URL]
Writers upload, replace, apply and repeat what got no answer (with the same op_id or Idempotency-Key); the server is
killed at random moments and started again. After each round every acknowledged file must be there with its bytes, the
log must be gap-free, and a repeated request must not have been carried out twice.
"""
import argparse
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

PASSWORD = 'kill-server-password'


class Server:
    def __init__(self, build, work, database):
        self.build, self.data, self.database = os.path.abspath(build), os.path.join(work, 'data'), database
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            self.port = s.getsockname()[1]
        self.env = dict(os.environ)
        if database:
            self.env['SCAIDRIVE_DATABASE_URL'] = database
        self.log = open(os.path.join(work, 'server.log'), 'ab')
        self.tool('init', '--admin-email', 'a@example.org', '--admin-password', PASSWORD)

    def tool(self, command, *more):
        return subprocess.run([f'{self.build}/scaidrived', command, '--data', self.data, *more], check=True, env=self.env,
                              stdout=subprocess.PIPE, stderr=self.log).stdout.decode().strip()

    def start(self):
        begin = time.monotonic()
        self.process = subprocess.Popen([f'{self.build}/scaidrived', 'serve', '--data', self.data, '--listen', f'127.0.0.1:{self.port}'],
                                        stdout=self.log, stderr=self.log, env=self.env)
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 0.2).close()
                return time.monotonic() - begin
            except OSError:
                if self.process.poll() is not None or time.monotonic() - begin > 20:
                    sys.exit('the server does not start again')
                time.sleep(0.01)

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        return self.process.wait(30)


class Client:
    """One connection; every call either gets a whole answer or raises OSError / HTTPException."""

    def __init__(self, port, token):
        self.port, self.token, self.connection = port, token, None

    def call(self, method, path, body=None, headers=None):
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
            self.connection.request(method, path, body=body, headers={'Authorization': 'Bearer ' + self.token, **(headers or {})})
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection = None
            raise

    def json(self, method, path, body=None):
        return self.call(method, path, None if body is None else json.dumps(body).encode(), {'Content-Type': 'application/json'})


def form(fields, name, data):
    edge = 'edge' + hashlib.sha256(data).hexdigest()
    head = ''.join(f'--{edge}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items())
    head += f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + data + f'\r\n--{edge}--\r\n'.encode(), {'Content-Type': f'multipart/form-data; boundary={edge}'}


class Writer(threading.Thread):
    """Makes files, replaces them and makes folders until told to stop; remembers what was acknowledged."""

    def __init__(self, number, world):
        super().__init__()
        self.number, self.world = number, world
        self.random = random.Random(f'{world.args.seed}-{number}')
        self.files, self.folders, self.step, self.ended = {}, {}, 0, False
        self.wrong = []

    def until_answered(self, attempt):
        """Repeats attempt() until it is answered; None when the writer is told to stop first."""
        while True:
            try:
                status, body = attempt()
            except (OSError, http.client.HTTPException):
                if self.world.stop and self.world.final:
                    return None
                time.sleep(0.05)
                continue
            if status == 503:
                time.sleep(0.05)
                continue
            return status, body

    def run(self):
        client = Client(self.world.server.port, self.world.token)
        while not self.world.stop:
            self.step += 1
            kind = self.random.random()
            if kind < 0.5 or not self.files:
                self.create(client)
            elif kind < 0.8:
                self.replace(client)
            else:
                self.apply(client)
        self.ended = True

    def create(self, client):
        data = self.random.randbytes(self.random.choice((0, 100, 5000, 80000, 600000, 5 << 20) if self.step % 20 == 0 else (0, 100, 5000, 80000)))
        name = f'w{self.number}-{self.step}.bin'
        body, headers = form({'share_id': self.world.share}, name, data)
        headers['Idempotency-Key'] = f'key-{self.number}-{self.step}'
        answer = self.until_answered(lambda: client.call('POST', '/api/v1/files', body, headers))
        if answer is None:
            return
        if answer[0] != 201:
            self.wrong.append(f'create {name}: {answer}')
            return
        made = json.loads(answer[1])
        self.files[made['id']] = [made['version_id'], hashlib.sha256(data).hexdigest(), 1]

    def replace(self, client):
        file = self.random.choice(list(self.files))
        data = self.random.randbytes(self.random.choice((16, 3000, 70000)))
        body, headers = form({'replace_file_id': file, 'base_version_id': self.files[file][0], 'staged': 'true'}, 'x', data)
        answer = self.until_answered(lambda: client.call('POST', '/api/v1/files', body, headers))
        if answer is None:
            return
        if answer[0] != 201:
            self.wrong.append(f'stage: {answer}')
            return
        staged = json.loads(answer[1])['version_id']
        change = {'op_id': f'op-{self.number}-{self.step}', 'resource_type': 'file', 'resource_id': file, 'change_type': 'updated',
                  'version_id': staged, 'base_version_id': self.files[file][0]}
        answer = self.send(client, [change])
        if answer is None:
            # the last one, unanswered: either state is right
            self.files[file].append(hashlib.sha256(data).hexdigest())
            return
        if len(answer['applied']) != 1 or answer['conflicts']:
            self.wrong.append(f'apply: {answer}')
            return
        self.files[file] = [staged, hashlib.sha256(data).hexdigest(), self.files[file][2] + 1]

    def apply(self, client):
        names = [f'folder-{self.number}-{self.step}-{i}' for i in range(self.random.choice((1, 5, 40)))]
        answer = self.send(client, [{'op_id': f'op-{name}', 'resource_type': 'folder', 'resource_id': None, 'change_type': 'created',
                                     'new_path': '/' + name} for name in names])
        if answer is None:
            return
        if len(answer['applied']) != len(names):
            self.wrong.append(f'folders: {answer}')
            return
        for result in answer['applied']:
            self.folders[result['resource_id']] = True

    def send(self, client, changes):
        answer = self.until_answered(lambda: client.json('POST', '/api/v1/sync/apply', {
            'device_id': 'killer', 'share_id': self.world.share, 'conflict_resolution': 'KEEP_BOTH', 'changes': changes}))
        if answer is None:
            return None
        if answer[0] != 200:
            self.wrong.append(f'apply: {answer}')
            return None
        return json.loads(answer[1])


class World:
    def __init__(self, args):
        self.args = args
        self.work = tempfile.mkdtemp(prefix='kill-server-')
        self.server = Server(args.build, self.work, args.database)
        self.server.start()
        self.token = self.server.tool('token', '--user', 'a@example.org')
        client = Client(self.server.port, self.token)
        self.share = json.loads(client.json('GET', '/api/v1/shares')[1])['shares'][0]['id']
        status, _ = client.json('POST', '/api/v1/sync/devices', {'device_id': 'killer', 'device_name': 'killer', 'platform': 'cli',
                                                                 'client_version': '1.0.0'})
        assert status == 201
        self.stop = self.final = False

    def run(self):
        chance = random.Random(self.args.seed)
        writers = [Writer(i, self) for i in range(4)]
        for writer in writers:
            writer.start()
        slowest = 0
        for _ in range(self.args.rounds):
            time.sleep(0.2 + chance.random() * 0.8)
            self.server.kill()
            slowest = max(slowest, self.server.start())
        self.stop = True
        for writer in writers:
            writer.join(60)
        wrong = [w for writer in writers for w in writer.wrong]
        wrong += self.judge(writers)
        files = sum(len(w.files) for w in writers)
        versions = sum(v[2] for w in writers for v in w.files.values())
        print(f'{self.args.rounds} kills, {files} files with {versions} versions and {sum(len(w.folders) for w in writers)} folders acknowledged, '
              f'slowest start {slowest * 1000:.0f} ms, seed {self.args.seed}')
        if self.server.kill(signal.SIGTERM) != 0:
            wrong.append('the server does not stop cleanly')
        return wrong + self.fsck()

    def fsck(self):
        done = subprocess.run([f'{self.server.build}/scaidrived', 'fsck', '--deep', '--data', self.server.data], env=self.server.env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return [] if done.returncode == 0 else ['fsck: ' + done.stdout]

    def judge(self, writers):
        client, wrong = Client(self.server.port, self.token), []
        nodes, token = {}, ''
        while True:
            page = json.loads(client.json('GET', f'/api/v1/sync/snapshot?share_id={self.share}&limit=1000' + token)[1])
            for node in page['nodes']:
                if node['id'] in nodes:
                    wrong.append(f'twice in the snapshot: {node}')
                nodes[node['id']] = node
            if not page.get('page_token'):
                break
            token = '&page_token=' + page['page_token']
        for writer in writers:
            for file, (version, digest, count, *maybe) in writer.files.items():
                node = nodes.get(file)
                if node is None:
                    wrong.append(f'lost: {file}')
                    continue
                status, body = client.call('GET', f'/api/v1/files/{file}/content')
                if status != 200 or hashlib.sha256(body).hexdigest() not in [digest, *maybe]:
                    wrong.append(f'{file}: {status}, other bytes')
                total = json.loads(client.json('GET', f'/api/v1/files/{file}/versions')[1])['total']
                if total != count and not maybe:
                    wrong.append(f'{file}: {total} versions, {count} were acknowledged')
            wrong += [f'lost: {folder}' for folder in writer.folders if folder not in nodes]
        names = [node['name'] for node in nodes.values()]
        if len(names) != len(set(names)):
            wrong.append('a repeated request was carried out twice')
        cursor, seen = 0, set()
        while True:
            page = json.loads(client.json('GET', f'/api/v1/sync/changes?cursor={cursor}&limit=700')[1])
            for change in page['changes']:
                if change['id'] in seen:
                    wrong.append(f'twice in the log: {change["id"]}')
                seen.add(change['id'])
            cursor = page['cursor']
            if not page['has_more']:
                break
        if len(seen) != cursor:
            wrong.append(f'the log has {len(seen)} entries up to {cursor}')
        return wrong


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--rounds', type=int, default=12)
    args.add_argument('--seed', type=int, default=random.randrange(10 ** 6))
    args.add_argument('--build', default='build')
    args.add_argument('--database', default='')
    args = args.parse_args()
    world = World(args)
    wrong = world.run()
    for line in wrong[:20]:
        print('WRONG:', line)
    if wrong:
        print(f'{len(wrong)} findings; everything is left in {world.work}')
        return 1
    shutil.rmtree(world.work)
    return 0


if __name__ == '__main__':
    sys.exit(main())
