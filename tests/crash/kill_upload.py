#!/usr/bin/env python3
"""kill -9 of the server at every system call that writes, while pieces of a resumable upload arrive and it is completed.

usage: kill_upload.py [--build build] [--limit N]
Every thread of the server in turn is traced alone (strace --inject), and killed at its first, second, third ... call of each
kind, until the workload gets through. Then the server starts again: every acknowledged piece must be there, the upload goes
on, the file is whole, it exists once, completing again answers the same, and no staging file is left.
"""
import argparse
import contextlib
import hashlib
import os
import random
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'api'))
CALLS = ('pwrite64', 'fdatasync', 'fsync', 'ftruncate', 'unlinkat', 'unlink', 'mkdirat', 'openat')
PIECE = 64 << 10
CONTENT = random.Random(1).randbytes(5 * PIECE + 17)
ORDER = (0, 2, 5, 1, 3, 4)
V1 = '/api/v1'


class Lost(Exception):
    """An invariant does not hold."""


def must(condition, sentence):
    if not condition:
        raise Lost(sentence)


def send(api, up, i):
    r = api.put(f'{V1}/uploads/{up}/chunks/{i}', content=CONTENT[i * PIECE:(i + 1) * PIECE])
    must(r.status_code == 200, f'piece {i}: {r.status_code} {r.text}')


def complete(api, up):
    for _ in range(100):
        r = api.post(f'{V1}/uploads/{up}/complete')
        if r.status_code != 503:
            break
        time.sleep(0.05)
    must(r.status_code == 200, f'complete: {r.status_code} {r.text}')
    return r.json()


def threads(pid):
    return sorted(int(t) for t in os.listdir(f'/proc/{pid}/task'))


@contextlib.contextmanager
def traced(tid, call, n):
    tracer = subprocess.Popen(['strace', '-p', str(tid), '-o', '/dev/null', '-e', f'trace={call}', '-e', f'inject={call}:signal=KILL:when={n}'],
                              stderr=subprocess.PIPE, text=True)
    tracer.stderr.readline()  # "attached"
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


def check(server, api, share, up, name, acknowledged, made):
    p = api.get(f'{V1}/uploads/{up}')
    must(p.status_code == 200, f'the session: {p.status_code} {p.text}')
    received = set(p.json()['received_chunks'])
    must(acknowledged <= received, f'acknowledged {acknowledged}, there {received}')
    if p.json()['status'] == 'active':
        must(not made, 'a completed upload is active again')
        for i in range(6):
            if i not in received:
                send(api, up, i)
    file = complete(api, up)
    must(not made or made['version_id'] == file['version_id'], 'completed twice')
    must(complete(api, up)['version_id'] == file['version_id'], 'not repeatable')
    must(hashlib.sha256(api.content(file['id'])).digest() == hashlib.sha256(CONTENT).digest(), 'other bytes')
    there = [f for f in api.ok('GET', f'{V1}/folders/root/children', params={'share_id': share['id']})['items'] if f['name'] == name]
    must(len(there) == 1, f'{len(there)} files')
    must(len(api.ok('GET', f'{V1}/files/{file["id"]}/versions')['versions']) == 1, 'more than one version')
    end = time.monotonic() + 10
    while any(files for _, _, files in os.walk(os.path.join(server.data, 'uploads'))):
        must(time.monotonic() < end, 'staging files are left')
        time.sleep(0.02)


def one(server, api, share, which, call, n):
    """True when the server was killed."""
    name = f'{which}-{call}-{n}.bin'
    up = api.ok('POST', f'{V1}/uploads', json={'share_id': share['id'], 'file_name': name, 'file_size': len(CONTENT), 'chunk_size': PIECE})['id']
    acknowledged, made = set(), None
    with traced(threads(server.process.pid)[which], call, n):
        try:
            for i in ORDER:
                send(api, up, i)
                acknowledged.add(i)
            made = complete(api, up)
        except Lost:
            raise
        except Exception:  # the connection broke: that is the kill
            pass
    killed = made is None or server.process.poll() is not None
    if killed:
        server.process.wait(10)
        server.process = None
        server.start()
    check(server, api, share, up, name, acknowledged, made)
    return killed


def main():
    a = argparse.ArgumentParser()
    a.add_argument('--build', default='build')
    a.add_argument('--limit', type=int, default=0, help='at most so many kills')
    args = a.parse_args()
    os.environ.setdefault('SCAIDRIVED', os.path.join(os.path.abspath(args.build), 'scaidrived'))
    from conftest import populate
    from support import Server
    server = populate(Server({'lanes.bulk': '1', 'lanes.meta': '1', 'http.threads': '1'})).start()
    kills = 0
    try:
        api = server.client('alice@example.com')
        share = api.make_share()
        for which in range(len(threads(server.process.pid))):
            for call in CALLS:
                n = 1
                while not (args.limit and kills >= args.limit) and one(server, api, share, which, call, n):
                    kills += 1
                    n += 1
                if n > 1:
                    print(f'thread {which} {call}: {n - 1} kills, nothing lost', flush=True)
    finally:
        server.close()
    print(f'{kills} kills, nothing lost')
    return 0 if kills else 1


if __name__ == '__main__':
    sys.exit(main())
