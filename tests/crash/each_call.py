#!/usr/bin/env python3
"""A fault at every system call with which the real server writes: killed there (kill), or a sync that fails there (eio).

usage: each_call.py [--fault kill|eio] [--work upload,multipart,bulk,apply,complete] [--sample N] [--seed N] [--build build]
A workload is run once under strace, to see which thread makes which call how often. Then it is run for each of these calls, with
the fault injected into that very one. After it the server starts again (fsck finds nothing before it does), what was acknowledged
must be there, what got no answer is sent again and must be carried out once, and no staging file is left.
A failed sync must be answered by no success: the server takes no more writes until it is started again.
--sample: so many of the calls, drawn by lot.
"""
import argparse
import collections
import contextlib
import hashlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'api'))
CALLS = {'kill': ('pwrite64', 'write', 'fdatasync', 'fsync', 'ftruncate', 'fallocate', 'unlink', 'unlinkat', 'mkdir', 'mkdirat', 'rename',
                  'renameat', 'renameat2', 'openat', 'sync_file_range'),
         'eio': ('fsync', 'fdatasync')}
INJECT = {'kill': 'signal=KILL', 'eio': 'error=EIO'}
V1 = '/api/v1'
PIECE = 64 << 10


class Lost(Exception):
    """An invariant does not hold."""


class Refused(Exception):
    """The server did not acknowledge: what a fault may lead to."""


def must(condition, sentence):
    if not condition:
        raise Lost(sentence)


def content(seed, n):
    return random.Random(seed).randbytes(n)


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Work:
    """One run of a workload under names of its own. run() may be cut off anywhere; check() comes after a restart."""

    def __init__(self, api, share, name):
        self.api, self.share, self.name, self.acknowledged = api, share['id'], name, []
        self.prepare()

    def prepare(self):
        pass

    def ok(self, r):
        if r.status_code >= 500:
            raise Refused(f'{r.status_code} {r.text[:200]}')
        must(r.status_code in (200, 201), f'{r.request.url}: {r.status_code} {r.text[:500]}')
        self.acknowledged.append(r.request.url)
        return r.json()

    def patiently(self, send):
        """After the restart, pieces may still be put together: 503."""
        for _ in range(200):
            r = send()
            if r.status_code != 503:
                return self.ok(r)
            time.sleep(0.05)
        raise Lost(f'it stays busy: {r.text}')

    def once(self, names):
        """Nodes of these names in the share's root, each there once."""
        items = self.api.ok('GET', f'{V1}/folders/root/children', params={'share_id': self.share, 'limit': 100})['items']
        found = [n for n in items if n['name'].startswith(self.name)]
        must(sorted(n['name'] for n in found) == sorted(names), f'there is {sorted(n["name"] for n in found)}, wanted {sorted(names)}')
        return {n['name']: n for n in found}

    def whole(self, file, data, versions):
        must(sha(self.api.content(file)) == sha(data), 'other bytes')
        n = len(self.api.ok('GET', f'{V1}/files/{file}/versions')['versions'])
        must(n == versions, f'{n} versions, {versions} were made')


class Upload(Work):
    """Pieces in an order of their own, then the end."""
    order = (0, 2, 5, 1, 3, 4)

    def prepare(self):
        self.data = content(self.name, 5 * PIECE + 17)
        self.id = self.api.ok('POST', f'{V1}/uploads', json={'share_id': self.share, 'file_name': self.name, 'file_size': len(self.data),
                                                             'chunk_size': PIECE})['id']
        self.received, self.made = set(), None

    def send(self, i):
        self.ok(self.api.put(f'{V1}/uploads/{self.id}/chunks/{i}', content=self.data[i * PIECE:(i + 1) * PIECE]))
        self.received.add(i)

    def run(self):
        for i in self.order:
            self.send(i)
        self.complete()

    def complete(self):
        self.made = self.ok(self.api.post(f'{V1}/uploads/{self.id}/complete'))

    def check(self):
        session = self.api.ok('GET', f'{V1}/uploads/{self.id}')
        there = set(session['received_chunks'])
        must(self.received <= there, f'acknowledged {self.received}, there {there}')
        made = self.made
        must(not made or session['status'] != 'active', 'a completed upload is active again')
        for i in range(6):
            if session['status'] == 'active' and i not in there:
                self.send(i)
        file = self.patiently(lambda: self.api.post(f'{V1}/uploads/{self.id}/complete'))
        must(not made or made['version_id'] == file['version_id'], 'completed twice')
        self.once([self.name])
        self.whole(file['id'], self.data, 1)


class Complete(Upload):
    """The end alone: all pieces are there, of a file that is replaced."""

    def prepare(self):
        super().prepare()
        for i in range(6):
            self.send(i)

    def run(self):
        self.complete()


class Multipart(Work):
    """A small file and one with a pack of its own, then a new version of the first."""

    def prepare(self):
        self.contents = [content(self.name + str(i), n) for i, n in enumerate((70_000, 4_500_000, 9_000))]
        self.made = []

    def post(self, i):
        if i < 2:
            data = {'share_id': self.share, 'name': f'{self.name}-{i}'}
        else:
            data = {'replace_file_id': self.made[0]['id'], 'base_version_id': self.made[0]['version_id']}
        return self.api.post(f'{V1}/files', data=data, files={'file': ('x', self.contents[i])}, headers={'Idempotency-Key': f'{self.name}-{i}'})

    def run(self):
        for i in range(3):
            self.made.append(self.ok(self.post(i)))

    def check(self):
        for file in self.made[1:2]:
            self.whole(file['id'], self.contents[1], 1)
        if len(self.made) == 3:
            self.whole(self.made[0]['id'], self.contents[2], 2)
        before = list(self.made)
        for i in range(3):
            answer = self.ok(self.post(i))
            must(i >= len(before) or answer['version_id'] == before[i]['version_id'], 'made twice')
            self.made[i:i + 1] = [answer]
        self.once([f'{self.name}-0', f'{self.name}-1'])
        self.whole(self.made[0]['id'], self.contents[2], 2)


def frames(chunks):
    return b''.join(hashlib.sha256(c).digest() + len(c).to_bytes(4, 'little') + c for c in chunks)


class Bulk(Work):
    """Chunks in two bodies, the second larger than a shared pack takes of one."""

    def prepare(self):
        self.bodies = [[content(f'{self.name}{i}.{k}', size) for k in range(n)] for i, (n, size) in enumerate(((40, 3000), (20, 250_000)))]
        self.sent = []

    def send(self, body):
        self.ok(self.api.post(f'{V1}/sync/chunks', params={'share_id': self.share}, content=frames(body),
                              headers={'Content-Type': 'application/octet-stream'}))

    def run(self):
        for body in self.bodies:
            self.send(body)
            self.sent += body

    def check(self):
        if self.sent:
            answer = self.api.ok('POST', f'{V1}/sync/chunks/missing', params={'share_id': self.share},
                                 json={'hashes': [sha(c) for c in self.sent], 'sources': []})
            must(not answer['missing'], f'{len(answer["missing"])} acknowledged chunks are missing')
        for body in self.bodies:
            self.send(body)
        device = self.api.register_device()['device_id']
        changes = [{'op_id': f'{self.name}-{i}', 'resource_type': 'file', 'change_type': 'created', 'chunks': [sha(c) for c in body],
                    'metadata': {'parent_id': None, 'name': f'{self.name}-{i}'}} for i, body in enumerate(self.bodies)]
        answer = self.api.apply(self.share, device, changes, 'KEEP_BOTH')
        must(answer.status_code == 200 and len(answer.json()['applied']) == 2, answer.text[:500])
        for body, made in zip(self.bodies, answer.json()['applied']):
            self.whole(made['resource_id'], b''.join(body), 1)


class Apply(Work):
    """Files with content, a folder, a new version, a move and a delete: three requests, each sent again as it was."""

    def prepare(self):
        self.chunks = [content(f'{self.name}{k}', 2000 + k) for k in range(12)]
        self.device = self.api.register_device()['device_id']
        Bulk.send(self, self.chunks)
        self.old = self.api.make_file(self.share, f'{self.name}-old', b'old' * 100)
        self.doomed = self.api.make_file(self.share, f'{self.name}-doomed', b'doomed')
        h = [sha(c) for c in self.chunks]
        n = self.name

        def made(i, chunks):
            return {'op_id': f'{n}.{i}', 'resource_type': 'file', 'change_type': 'created', 'chunks': chunks,
                    'metadata': {'parent_id': None, 'name': f'{n}-{i}'}}
        self.requests = [
            [made(i, [h[i], h[i + 1]]) for i in range(8)] + [{'op_id': f'{n}.f', 'resource_type': 'folder', 'change_type': 'created',
                                                               'new_path': f'/{n}-folder'}],
            [{'op_id': f'{n}.e', 'resource_type': 'file', 'resource_id': self.old['id'], 'change_type': 'updated', 'chunks': h,
              'base_version_id': self.old['version_id']},
             {'op_id': f'{n}.m', 'resource_type': 'file', 'resource_id': self.old['id'], 'change_type': 'renamed', 'new_path': f'/{n}-new'}],
            [{'op_id': f'{n}.d', 'resource_type': 'file', 'resource_id': self.doomed['id'], 'change_type': 'deleted'}]]
        self.answers = []

    def post(self, i):
        answer = self.ok(self.api.apply(self.share, self.device, self.requests[i], 'KEEP_BOTH'))
        if answer['errors'] and all(e['code'] in ('READ_ONLY', 'DATABASE_ERROR', 'IO_ERROR') for e in answer['errors']):
            raise Refused(str(answer['errors'])[:200])
        must(len(answer['applied']) == len(self.requests[i]) and not answer['conflicts'], str(answer)[:800])
        return [(a['resource_id'], a.get('version_id')) for a in answer['applied']]

    def run(self):
        for i in range(3):
            self.answers.append(self.post(i))

    def check(self):
        for i in range(3):
            again = self.post(i)
            must(again in self.answers[i:i + 1] or i >= len(self.answers), f'another answer to a repeated request: {again}')
        there = self.once([f'{self.name}-{i}' for i in range(8)] + [f'{self.name}-folder', f'{self.name}-new'])
        for i in range(8):
            self.whole(there[f'{self.name}-{i}']['id'], self.chunks[i] + self.chunks[i + 1], 1)
        self.whole(self.old['id'], b''.join(self.chunks), 2)


WORKS = {'upload': Upload, 'multipart': Multipart, 'bulk': Bulk, 'apply': Apply, 'complete': Complete}


# ---- strace ----

def threads(pid):
    return sorted(int(t) for t in os.listdir(f'/proc/{pid}/task'))


@contextlib.contextmanager
def traced(target, out, *options):
    tracer = subprocess.Popen(['strace', *target, '-o', out, *options], stderr=subprocess.PIPE, text=True)
    tracer.stderr.readline()  # "attached"
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


class Campaign:
    def __init__(self, args, server, api):
        self.args, self.server, self.api = args, server, api
        self.share = api.make_share()
        self.calls = CALLS[args.fault]
        self.number = self.faults = 0
        self.trace = os.path.join(tempfile.gettempdir(), f'each-call-{os.getpid()}')

    def work(self, kind):
        if self.number % 8 == 7:  # a listing shows 100 nodes
            self.share = self.api.make_share()
        self.number += 1
        return WORKS[kind](self.api, self.share, f'{kind}{self.number}')

    def census(self, kind):
        """How often each thread, by its place among them, makes each call."""
        pid = self.server.process.pid
        place = {tid: i for i, tid in enumerate(threads(pid))}
        work = self.work(kind)
        with traced(['-f', '-p', str(pid)], self.trace, '-e', 'trace=' + ','.join('?' + c for c in self.calls)):
            work.run()
        counts = collections.Counter()
        with open(self.trace) as f:
            for line in f:
                found = re.match(r'(\d+) +(\w+)\(', line)
                if found and int(found[1]) in place:
                    counts[place[int(found[1])], found[2]] += 1
        work.check()
        return counts

    def points(self, kind):
        return [(kind, which, call, n) for (which, call), count in sorted(self.census(kind).items()) for n in range(1, count + 1)]

    def one(self, kind, which, call, n):
        """True when the fault struck."""
        work = self.work(kind)
        pid = self.server.process.pid
        with traced(['-p', str(threads(pid)[which])], self.trace, '-e', f'trace={call}', '-e', f'inject={call}:{INJECT[self.args.fault]}:when={n}'):
            try:
                work.run()
                through = True
            except Lost:
                raise
            except Exception as e:  # the connection broke, or the server refused
                must(self.args.fault == 'eio' or not isinstance(e, Refused), f'refused before the kill: {e}')
                through = False
        struck = self.restart(kind, work, through)
        work.check()
        if struck:
            self.tidy()
        return struck

    def restart(self, kind, work, through):
        server = self.server
        if self.args.fault == 'kill':
            if through and server.process.poll() is None:
                return False
            server.process.wait(10)
            server.process = None
        else:
            with open(self.trace) as f:
                if 'INJECTED' not in f.read():
                    must(through, 'refused without a fault')
                    return False
            self.takes_no_more(kind, through)
            server.stop()
        found = server.run('fsck', '--quick', check=False)
        must(found.returncode == 0, f'fsck: {found.stdout}{found.stderr}')
        server.start()
        return True

    def takes_no_more(self, kind, through):
        """A sync failed: nothing that would rest on that disk is acknowledged any more. A staging file has a folder, and so a
        fate, of its own."""
        r = self.api.upload(self.share['id'], f'after-{self.number}', b'after the fault')
        if r.status_code == 201:
            again = [self.api.put(f'{V1}/uploads/{self.probe()}/chunks/1', content=bytes(PIECE)) for _ in range(2)]
            must(kind == 'upload' and not through and all(r.status_code == 503 for r in again), 'a write was acknowledged after a failed sync')
        else:
            must(r.status_code == 503 and r.json()['error']['code'] == 'READ_ONLY', f'after a failed sync: {r.status_code} {r.text}')
        must(self.api.get(f'{V1}/shares').status_code == 200, 'reading does not go on')

    def probe(self):
        return self.api.ok('POST', f'{V1}/uploads', json={'share_id': self.share['id'], 'file_name': f'probe-{self.number}-{time.monotonic_ns()}',
                                                          'file_size': 3 * PIECE, 'chunk_size': PIECE})['id']

    def tidy(self):
        end = time.monotonic() + 10
        while any(files for _, _, files in os.walk(os.path.join(self.server.data, 'uploads'))):
            must(time.monotonic() < end, 'staging files are left')
            time.sleep(0.02)

    def run(self):
        chance = random.Random(self.args.seed)
        points = [p for kind in self.args.work.split(',') for p in self.points(kind)]
        if self.args.sample:
            points = chance.sample(points, min(self.args.sample, len(points)))
        struck = collections.Counter()
        for kind, which, call, n in points:
            try:
                struck[kind, call] += self.one(kind, which, call, n)
            except (Lost, AssertionError) as e:
                print(f'WRONG: {kind}, thread {which}, {call} number {n}: {e}', flush=True)
                raise
        for (kind, call), n in sorted(struck.items()):
            print(f'{kind:10} {call:16} {n:4}')
        self.faults = sum(struck.values())
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.trace)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--build', default='build')
    a.add_argument('--fault', choices=sorted(CALLS), default='kill')
    a.add_argument('--work', default=','.join(WORKS))
    a.add_argument('--sample', type=int, default=0)
    a.add_argument('--seed', type=int, default=random.randrange(10 ** 6))
    args = a.parse_args()
    if subprocess.run(['strace', '-o', '/dev/null', 'true'], check=False, capture_output=True).returncode:
        print('skipped: strace may not trace here')
        return 77
    os.environ.setdefault('SCAIDRIVED', os.path.join(os.path.abspath(args.build), 'scaidrived'))
    from conftest import populate
    from support import Server
    server = populate(Server({'lanes.bulk': '1', 'lanes.meta': '1', 'http.threads': '1', 'storage.reserve_bytes': '0'})).start()
    begin = time.monotonic()
    try:
        campaign = Campaign(args, server, server.client('alice@example.com'))
        campaign.run()
        server.stop()
        found = server.run('fsck', '--deep', check=False)
        must(found.returncode == 0, f'fsck: {found.stdout}{found.stderr}')
    except Lost:
        print(server.log()[-3000:])
        raise
    finally:
        server.close()
    print(f'{campaign.faults} times {args.fault}, nothing lost, nothing made twice (seed {args.seed}, {time.monotonic() - begin:.0f} s)')
    return 0 if campaign.faults else 1


if __name__ == '__main__':
    sys.exit(main())
