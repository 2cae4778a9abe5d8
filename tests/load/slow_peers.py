#!/usr/bin/env python3
"""Thousands of peers that trickle, and a few that do not: a slow peer must hold a connection and nothing else (D21).

usage: slow_peers.py [--build build] [--peers 3000] [--seconds 20] [--work DIR]
A fourth of the peers send the head of a request, a fourth a JSON body, a fourth content (pieces of uploads, and multipart), a byte a second each, and a
fourth read a download as slowly. Whom the server hangs up on, as it does on bodies below its rate, connects again. Ordinary requests, one connection of
each kind, are timed for so many seconds without and then with them. It fails when one is refused, when the slowest one in a hundred takes ten times as long
and above 250 ms, or when memory grows by more than 160 MiB and 32 KiB a peer.
"""
import argparse
import http.client
import json
import multiprocessing
import os
import resource
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'bench'))
from first_light import Server  # noqa: E402
from small_files import cpu_of  # noqa: E402

PIECE, LARGE = 4 << 20, 8 << 20


def head(method, path, token, length=None, kind='application/json'):
    return (f'{method} {path} HTTP/1.1\r\nHost: slow\r\nAuthorization: Bearer {token}\r\n'
            + (f'Content-Type: {kind}\r\nContent-Length: {length}\r\n' if length is not None else '') + '\r\n').encode()


class Slow:
    """One peer. now: sent at once; then a byte of rest at each step, and a few bytes are read."""

    def __init__(self, port, now, rest):
        self.port, self.now, self.rest, self.s = port, now, rest, None
        self.connect()

    def connect(self):
        self.s = socket.socket()
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.s.connect(('127.0.0.1', self.port))
        self.s.sendall(self.now)
        self.s.setblocking(False)
        self.at = 0

    def step(self):
        """False: the server hung up, or answered; it begins anew."""
        try:
            if self.at < len(self.rest):
                self.at += self.s.send(self.rest[self.at:self.at + 1])
            if self.s.recv(16) and not self.rest:
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        self.s.close()
        self.connect()
        return False


def slow_peers(port, token, share, large, peers, hangups, ready):
    """In a process of its own, so that it takes nothing from those who are timed but the processor."""
    upload = ask(port, token, 'POST', '/api/v1/uploads', {'share_id': share, 'file_name': 'slow', 'file_size': 64 * PIECE, 'chunk_size': PIECE})['id']
    multipart = (b'--x\r\nContent-Disposition: form-data; name="share_id"\r\n\r\n' + share.encode()
                 + b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="slow"\r\n\r\n')
    body = b' ' * 4000
    kinds = [
        lambda i: (b'', head('GET', '/api/v1/shares', token)),
        lambda i: (head('POST', '/api/v1/folders', token, len(body)), body),
        lambda i: ((head('PUT', f'/api/v1/uploads/{upload}/chunks/{i // 8 % 64}', token, PIECE, 'application/octet-stream'), body) if i % 8 == 2 else
                   (head('POST', '/api/v1/files', token, PIECE, 'multipart/form-data; boundary=x') + multipart, body)),
        lambda i: (head('GET', f'/api/v1/files/{large}/content', token), b''),
    ]
    all_peers = []
    for i in range(peers):
        all_peers.append(Slow(port, *kinds[i % 4](i)))
    ready.set()
    while True:
        begin = time.monotonic()
        for p in all_peers:
            if not p.step():
                hangups.value += 1
        time.sleep(max(0.0, begin + 1 - time.monotonic()))


def ask(port, token, method, path, body=None):
    c = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    c.request(method, path, json.dumps(body) if body is not None else None, {'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json'})
    r = c.getresponse()
    got = r.read()
    c.close()
    if r.status >= 300:
        sys.exit(f'{method} {path}: {r.status} {got[:300]}')
    return json.loads(got)


def form(share, name, content):
    return (b'--x\r\nContent-Disposition: form-data; name="share_id"\r\n\r\n' + share.encode()
            + f'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + content + b'\r\n--x--\r\n')


class Ordinary:
    """One connection that makes one kind of request again and again; its times, and what was refused."""

    def __init__(self, port, token, request):
        self.port, self.token, self.request = port, token, request

    def run(self, seconds):
        self.times, self.wrong = [], []
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            method, path, body, kind = self.request()
            begin = time.monotonic()
            c.request(method, path, body, {'Authorization': 'Bearer ' + self.token, 'Content-Type': kind})
            r = c.getresponse()
            got = r.read()
            self.times.append(time.monotonic() - begin)
            if r.status >= 300:
                self.wrong.append((r.status, got[:200]))
            time.sleep(0.01)
        c.close()


def timed(what, seconds):
    threads = [threading.Thread(target=o.run, args=(seconds,)) for o in what.values()]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return {name: (statistics.median(o.times), sorted(o.times)[len(o.times) * 99 // 100], max(o.times), len(o.times), o.wrong) for name, o in what.items()}


def rss(pid):
    with open(f'/proc/{pid}/status', encoding='ascii') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS')) * 1024


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default='build')
    args.add_argument('--peers', type=int, default=3000)
    args.add_argument('--seconds', type=float, default=20)
    args.add_argument('--work')
    args = args.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    work = tempfile.mkdtemp(prefix='slow-peers-', dir=args.work)
    server = Server(os.path.join(os.path.abspath(args.build), 'scaidrived'), os.path.join(work, 'data'), pinned=False)
    server.init()
    server.start()
    crowd = None
    try:
        token, count = server.token(), iter(range(1 << 30))
        share = server.call('GET', '/api/v1/shares', None, token)['shares'][0]['id']

        def upload(name, content):
            return server.call('POST', '/api/v1/files', form(share, name, content), token, 'multipart/form-data; boundary=x')
        small, large = (upload(name, os.urandom(n))['id'] for name, n in (('small', 65536), ('large', LARGE)))
        what = {
            'metadata': lambda: ('GET', f'/api/v1/files/{small}', None, ''),
            'a folder made': lambda: ('POST', '/api/v1/folders', json.dumps({'share_id': share, 'name': f'f{next(count)}'}), 'application/json'),
            '64 KiB up': lambda: ('POST', '/api/v1/files', form(share, f'n{next(count)}', os.urandom(65536)), 'multipart/form-data; boundary=x'),
            '64 KiB down': lambda: ('GET', f'/api/v1/files/{small}/content', None, ''),
        }
        what = {name: Ordinary(server.port, token, request) for name, request in what.items()}
        without, memory = timed(what, args.seconds), rss(server.process.pid)
        hangups, ready = multiprocessing.Value('q', 0), multiprocessing.Event()
        crowd = multiprocessing.Process(target=slow_peers, args=(server.port, token, share, large, args.peers, hangups, ready), daemon=True)
        crowd.start()
        if not ready.wait(120):
            sys.exit('the slow peers could not connect')
        time.sleep(10)  # their first requests are answered
        cpu = cpu_of(server.process.pid)
        beside, more = timed(what, args.seconds), rss(server.process.pid) - memory
        cpu = cpu_of(server.process.pid) - cpu
        failed = more > (160 << 20) + args.peers * 32768
        print(f'{args.peers} slow peers: {more / args.peers / 1024:.1f} KiB of memory each; {hangups.value} times hung up on; CPU {cpu / args.seconds:.2f} of a processor')
        for name, (median, late, worst, n, wrong) in beside.items():
            was = without[name]
            bad = bool(wrong) or (late > 0.25 and late > 10 * was[1])
            failed |= bad
            print(f'  {name:14} median {was[0] * 1000:6.1f} -> {median * 1000:6.1f} ms, one in a hundred {was[1] * 1000:6.1f} -> {late * 1000:6.1f}, '
                  f'the longest {was[2] * 1000:6.1f} -> {worst * 1000:6.1f}; {n} requests{"  WRONG " if bad else ""}{wrong[:2] if wrong else ""}')
        return 1 if failed else 0
    finally:
        if crowd:
            crowd.kill()
            crowd.join()
        server.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    sys.exit(main())
