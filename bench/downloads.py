#!/usr/bin/env python3
"""Downloads of 1 GiB and of 47 MiB ranges, every chunk verified before it leaves, against nginx sendfile of the same bytes.

usage: downloads.py [--build build] [--pairs 7] [--work DIR] [--log FILE]
  whole      1 GiB that was uploaded in one go: it lies in one pack, in order
  ranges     twenty ranges of 47 MiB of it, at random offsets, one connection
  scattered  1 GiB made of the same chunks in random order: thousands of places
Everything lies in the page cache, for both. The client reads into one buffer and does nothing else; before the first pair it checks the
SHA-256 of both files once. CPU is the server's. --log collects pairs over several runs.
"""
import hashlib
import os
import random
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from uploads import SIZE, Nginx, Unpinned, arguments, connect, content, remember, show, upload  # noqa: E402

RANGE, RANGES = 47 << 20, 20


def get(port, path, bearer=None, part=None, keep=None):
    """Reads one answer; its bytes go to keep(bytes) or nowhere. How many there were."""
    head = f'GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n'
    if bearer:
        head += f'Authorization: Bearer {bearer}\r\n'
    if part:
        head += f'Range: bytes={part[0]}-{part[1]}\r\n'
    with connect(port) as s:
        s.sendall((head + '\r\n').encode())
        got = b''
        while b'\r\n\r\n' not in got:
            got += s.recv(1)  # byte by byte: the body begins behind it
        status, count, room = int(got.split()[1]), 0, bytearray(1 << 20)
        if status not in (200, 206):
            sys.exit(f'{path}: {status}')
        while True:
            n = s.recv_into(room)
            if n <= 0:
                return count
            count += n
            if keep:
                keep(memoryview(room)[:n])


def chunks_of(server, file):
    """(offset, length) of the chunks, in file order."""
    out, at = [], 0
    while at < SIZE:
        for c in server.ask('GET', f'/api/v1/files/{file}/chunks?offset={len(out)}')['chunks']:
            out.append((at, c['length']))
            at += c['length']
    return out


def shuffled(fd, places):
    """The content with its chunks in random order. A chunk ends where its own bytes say so, so they are cut alike again."""
    other, order = os.memfd_create('shuffled'), places[:-1]
    random.Random(1).shuffle(order)
    for offset, length in order + places[-1:]:
        while length:
            n = os.sendfile(other, fd, offset, length)
            offset, length = offset + n, length - n
    return other


def digest_of(fd):
    h = hashlib.sha256()
    for at in range(0, SIZE, 1 << 20):
        h.update(os.pread(fd, 1 << 20, at))
    return h.hexdigest()


def copy(fd, path):
    with open(path, 'wb') as f:
        at = 0
        while at < SIZE:
            at += os.sendfile(f.fileno(), fd, at, SIZE - at)
        os.fsync(f.fileno())


class Work:
    """One kind of download, from ours or from nginx."""

    def __init__(self, server, nginx, name, file, parts):
        self.name, self.parts = name, parts
        self.ours = (server, server.port, f'/api/v1/files/{file}/content', server.bearer)
        self.peer = (nginx, nginx.port, f'/{"scattered" if name == "scattered" else "plain"}', None)

    def time(self, who):
        peer, port, path, bearer = who
        cpu, begin, count = peer.cpu(), time.monotonic(), 0
        for part in self.parts:
            count += get(port, path, bearer, part)
        return {'rate': count / (time.monotonic() - begin) / 1e9, 'cpu': (peer.cpu() - cpu) / count * (1 << 30)}

    def pair(self, number):
        ours, peer = (self.ours, self.peer) if number % 2 else (self.peer, self.ours)
        got = {id(ours): self.time(ours), id(peer): self.time(peer)}
        mine, other = got[id(self.ours)], got[id(self.peer)]
        return {'kind': self.name, 'rate': mine['rate'], 'cpu': mine['cpu'], 'nginx_rate': other['rate'], 'nginx_cpu': other['cpu'],
                'ratio': mine['rate'] / other['rate']}


def prepare(server, nginx):
    plain, dice = content(SIZE), random.Random(2)
    file = upload(server, 'plain', plain, SIZE, None)
    places = chunks_of(server, file)
    mixed = shuffled(plain, places)
    other = upload(server, 'scattered', mixed, SIZE, None)
    copy(plain, os.path.join(nginx.files, 'plain'))
    copy(mixed, os.path.join(nginx.files, 'scattered'))
    for name, fd, mine in (('plain', plain, file), ('scattered', mixed, other)):
        for port, path, bearer in ((server.port, f'/api/v1/files/{mine}/content', server.bearer), (nginx.port, f'/{name}', None)):
            h = hashlib.sha256()
            get(port, path, bearer, keep=h.update)
            if h.hexdigest() != digest_of(fd):
                sys.exit(f'{path}: other bytes came back')
        os.close(fd)
    begins = [dice.randrange(SIZE - RANGE) for _ in range(RANGES)]
    return len(places), [Work(server, nginx, 'whole', file, [None]), Work(server, nginx, 'ranges', file, [(b, b + RANGE - 1) for b in begins]),
                         Work(server, nginx, 'scattered', other, [None])]


def main():
    args = arguments(__doc__).parse_args()
    work = tempfile.mkdtemp(prefix='downloads-', dir=args.work)
    server, nginx = Unpinned(os.path.abspath(args.build), work), Nginx(work)
    rows = []
    try:
        n, kinds = prepare(server, nginx)
        for number in range(args.pairs):
            for kind in kinds:
                rows.append(kind.pair(number))
                print('  ' + '  '.join(f'{k} {v:.2f}' if isinstance(v, float) else v for k, v in rows[-1].items()), flush=True)
    finally:
        server.stop()
        nginx.stop()
        shutil.rmtree(work, ignore_errors=True)
    rows = remember(args.log, rows)
    print(f'{n} chunks; medians of {len(rows) // 3} pairs')
    for kind in ('whole', 'ranges', 'scattered'):
        mine = [r for r in rows if r['kind'] == kind]
        show(f'{kind}: GB/s', [r['rate'] for r in mine])
        show('  of nginx sendfile (bar: at least 0.8)', [r['ratio'] for r in mine])
        show('  server CPU seconds a GiB (bar: at most 0.6)', [r['cpu'] for r in mine])
        show('  nginx CPU seconds a GiB', [r['nginx_cpu'] for r in mine])


if __name__ == '__main__':
    main()
