#!/usr/bin/env python3
"""A resumable upload of 1 GiB in 4 parallel pieces of 4 MiB, each acknowledged on disk, against nginx DAV PUT + fsync of the same bytes.

usage: uploads.py [--build build] [--pairs 7] [--work DIR] [--log FILE] [--claims]
Random content, other chunks for every pair, so nothing is deduplicated or shrinks. The client sends it from memory with sendfile, so that it costs
next to nothing itself. CPU is the server's; memory is the server's peak during the upload (VmHWM).
--log collects pairs over several runs and sums up all of them; --claims sends the SHA-256 of every piece with it, which the server
checks. --work must be on a disk.
"""
import argparse
import hashlib
import json
import mmap
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from first_light import Server, cpu_seconds, free_port, wait_port  # noqa: E402

SIZE, PIECE, PARALLEL = 1 << 30, 4 << 20, 4


class Unpinned(Server):
    """The server on all processors; a device and a share to work in."""

    def __init__(self, build, work):
        super().__init__(os.path.join(build, 'scaidrived'), os.path.join(work, 'data'))
        self.init()
        self.process = subprocess.Popen([self.binary, 'serve', '--data', self.data, '--listen', f'127.0.0.1:{self.port}'],
                                        stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.data, 'log'), 'ab'))
        wait_port(self.port, self.process)
        self.bearer = self.token()
        self.share = self.ask('GET', '/api/v1/shares')['shares'][0]['id']

    def ask(self, method, path, body=None):
        return self.call(method, path, body, self.bearer)

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def forget_peak(self):
        with open(f'/proc/{self.process.pid}/clear_refs', 'w', encoding='ascii') as f:
            f.write('5')

    def peak_mb(self):
        with open(f'/proc/{self.process.pid}/status', encoding='ascii') as f:
            return int(re.search(r'VmHWM:\s+(\d+)', f.read()).group(1)) * 1024 / 1e6


class Nginx:
    """Serves and takes files of its folder."""

    def __init__(self, work):
        self.port, folder = free_port(), os.path.join(work, 'nginx')
        self.files = os.path.join(folder, 'files')
        os.makedirs(self.files)
        conf = os.path.join(folder, 'nginx.conf')
        with open(conf, 'w', encoding='ascii') as f:
            f.write(f'user root; worker_processes auto; daemon off; pid {folder}/pid; error_log {folder}/err; events {{ worker_connections 1024; }}\n'
                    f'http {{ access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;'
                    f' fastcgi_temp_path {folder}/f; scgi_temp_path {folder}/s; uwsgi_temp_path {folder}/u;\n'
                    f' server {{ listen 127.0.0.1:{self.port}; location / {{ root {self.files}; dav_methods PUT; client_body_buffer_size 1m; }} }} }}\n')
        self.process = subprocess.Popen(['nginx', '-c', conf, '-e', f'{folder}/err'])
        wait_port(self.port, self.process)

    def cpu(self):
        with open(f'/proc/{self.process.pid}/task/{self.process.pid}/children', encoding='ascii') as f:
            return sum(cpu_seconds(pid) for pid in [self.process.pid, *f.read().split()])

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def connect(port):
    s = socket.create_connection(('127.0.0.1', port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def send(s, head, fd, offset, n, spare=None):
    s.sendall(head.encode())
    while n:
        sent = os.sendfile(s.fileno(), fd, offset, min(n, PIECE))
        offset, n = offset + sent, n - sent
        if spare:
            spare.give(sent)


def answer(s):
    """The status and the body of one answer."""
    got = b''
    while b'\r\n\r\n' not in got:
        more = s.recv(65536)
        if not more:
            sys.exit('the server hung up')
        got += more
    head, body = got.split(b'\r\n\r\n', 1)
    length = int((re.search(rb'content-length: *(\d+)', head, re.I) or [0, 0])[1])
    while len(body) < length:
        body += s.recv(65536)
    return int(head.split()[1]), body


def content(size):
    """A file in memory with random bytes."""
    fd = os.memfd_create('content')
    os.ftruncate(fd, size)
    with mmap.mmap(fd, size) as m:
        for at in range(0, size, PIECE):
            m[at:at + PIECE] = os.urandom(min(PIECE, size - at))
    return fd


def renew(fd, size, digested):
    """Makes every 4 KiB another, so that no chunk is one that was there before; the digests of the pieces, if they are wanted."""
    with mmap.mmap(fd, size) as m:
        for at in range(0, size, 4096):
            m[at:at + 8] = os.urandom(8)
        return [hashlib.sha256(m[at:at + PIECE]).hexdigest() for at in range(0, size, PIECE)] if digested else None


class Spare:
    """Memory for what a server is going to write. A virtual machine's host takes back memory that lies free, within seconds, and the first
    touch after that costs a fault to the host, which counts as the CPU of whoever writes: up to 1.5 s a GiB. So a file of that size is
    written before, and let go as the upload proceeds: the page cache of what the server writes is its memory."""
    AHEAD, STEP = 128 << 20, 64 << 20

    def __init__(self, work, size):
        self.given, self.owed, self.lock = 0, 0, threading.Lock()
        with tempfile.TemporaryFile(dir=work, buffering=0) as f:
            self.fd = os.dup(f.fileno())
            block = bytes(1 << 20)
            for _ in range((size + self.AHEAD) >> 20):
                f.write(block)
        os.sync()
        self.give(self.AHEAD)

    def give(self, n):
        with self.lock:
            self.owed += n
            if self.owed >= self.STEP:
                os.posix_fadvise(self.fd, self.given, self.owed, os.POSIX_FADV_DONTNEED)
                self.given, self.owed = self.given + self.owed, 0

    def close(self):
        os.close(self.fd)


def upload(server, name, fd, size, digests, spare=None):
    session = server.ask('POST', '/api/v1/uploads', {'share_id': server.share, 'file_name': name, 'file_size': size, 'chunk_size': PIECE})
    todo, lock = iter(range(session['total_chunks'])), threading.Lock()

    def work():
        with connect(server.port) as s:
            while True:
                with lock:
                    i = next(todo, None)
                if i is None:
                    return
                n = min(PIECE, size - i * PIECE)
                claim = f'X-Chunk-SHA256: {digests[i]}\r\n' if digests else ''
                send(s, f'PUT /api/v1/uploads/{session["id"]}/chunks/{i} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {server.bearer}\r\n{claim}'
                     f'Content-Length: {n}\r\n\r\n', fd, i * PIECE, n, spare)
                status, body = answer(s)
                if status != 200:
                    sys.exit(f'piece {i}: {status} {body!r}')

    threads = [threading.Thread(target=work) for _ in range(PARALLEL)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return server.ask('POST', f'/api/v1/uploads/{session["id"]}/complete')['id']


def put(nginx, name, fd, size, spare):
    with connect(nginx.port) as s:
        send(s, f'PUT /{name} HTTP/1.1\r\nHost: bench\r\nContent-Length: {size}\r\n\r\n', fd, 0, size, spare)
        status, _ = answer(s)
    if status != 201:
        sys.exit(f'nginx: {status}')
    f = os.open(os.path.join(nginx.files, name), os.O_RDONLY)
    os.fsync(f)
    os.close(f)


def timed(work, peer, fn, *args):
    """Wall seconds, CPU seconds of the peer, CPU seconds of this process: the load (and the fsync of what nginx wrote)."""
    spare = Spare(work, SIZE)
    cpu, mine, begin = peer.cpu(), time.process_time(), time.monotonic()
    fn(peer, *args, spare)
    result = time.monotonic() - begin, peer.cpu() - cpu, time.process_time() - mine
    spare.close()
    return result


def one_pair(work, server, nginx, fd, number, claims):
    digests = renew(fd, SIZE, claims)
    name = f'file-{number}-{os.getpid()}'
    row = {}

    def ours():
        server.forget_peak()
        row['ours'], row['cpu'], row['client_cpu'] = timed(work, server, upload, name, fd, SIZE, digests)
        row['peak_mb'] = server.peak_mb()

    def peers():
        row['nginx'], row['nginx_cpu'], row['nginx_client_cpu'] = timed(work, nginx, put, name, fd, SIZE)
        os.unlink(os.path.join(nginx.files, name))

    for step in (ours, peers)[::1 if number % 2 == 0 else -1]:
        step()
    row['ratio'] = row['nginx'] / row['ours']
    return row


def show(name, values, digits=2):
    print(f'{name:58} median {statistics.median(values):8.{digits}f}  min {min(values):8.{digits}f}  max {max(values):8.{digits}f}')


def remember(log, rows):
    """Adds the rows to the log, if there is one; all that it holds."""
    if not log:
        return rows
    with open(log, 'a', encoding='ascii') as f:
        for row in rows:
            f.write(json.dumps(row) + '\n')
    with open(log, encoding='ascii') as f:
        return [json.loads(line) for line in f]


def arguments(doc):
    args = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'build'))
    args.add_argument('--pairs', type=int, default=7)
    args.add_argument('--work')
    args.add_argument('--log')
    return args


def main():
    args = arguments(__doc__)
    args.add_argument('--claims', action='store_true')
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix='uploads-', dir=args.work)
    server, nginx = Unpinned(os.path.abspath(args.build), work), Nginx(work)
    fd = content(SIZE)
    rows = []
    try:
        for number in range(args.pairs):
            rows.append(one_pair(work, server, nginx, fd, number, args.claims))
            print('  ' + '  '.join(f'{k} {v:.2f}' for k, v in rows[-1].items()), flush=True)
    finally:
        server.stop()
        nginx.stop()
        shutil.rmtree(work, ignore_errors=True)
    rows = remember(args.log, rows)
    print(f'1 GiB, pieces of 4 MiB, {PARALLEL} at a time{", each with its SHA-256" if args.claims else ""}; {len(rows)} pairs')
    show('ours, seconds', [r['ours'] for r in rows])
    show('nginx DAV PUT + fsync, seconds', [r['nginx'] for r in rows])
    show('  rate, ours of its (bar: at least 0.5, stretch 0.65)', [r['ratio'] for r in rows])
    show('  server CPU seconds (bar: at most 3.2)', [r['cpu'] for r in rows])
    show('  nginx CPU seconds, without the fsync', [r['nginx_cpu'] for r in rows])
    show('  CPU seconds of the client', [r['client_cpu'] for r in rows])
    show('  peak memory of the server, MB (bar: under 40)', [r['peak_mb'] for r in rows], 1)


if __name__ == '__main__':
    main()
