#!/usr/bin/env python3
"""The figures of a small request, a change page, a start and an idle server, each as a ratio against a limit.

usage: first_light.py [--server build/scaidrived] [--pairs 7] [--seconds 2]
Needs wrk, nginx, gcc with libsqlite3-dev. The server runs on processor 0, the load on processor 1; runs are interleaved
(A B A B ...), the median of the per-pair ratios is printed, with the server's CPU time per request.
"""
import argparse
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TICK = os.sysconf('SC_CLK_TCK')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mb(pid):
    return int(re.search(r'VmRSS:\s+(\d+)', open(f'/proc/{pid}/status').read()).group(1)) / 1024


def wait_port(port, process, limit=10):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit('the server ended')
        try:
            socket.create_connection(('127.0.0.1', port), 0.2).close()
            return
        except OSError:
            time.sleep(0.002)
    sys.exit('the server does not answer')


class Server:
    def __init__(self, binary, data, env=None, pinned=True):
        self.binary, self.data, self.port = binary, data, free_port()
        self.env, self.pinned = {**os.environ, **(env or {})}, ['taskset', '-c', '0'] if pinned else []
        self.url = f'http://127.0.0.1:{self.port}'

    def init(self):
        subprocess.run([self.binary, 'init', '--data', self.data, '--admin-email', 'a@example.org', '--admin-password',
                        'correct horse'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=self.env)

    def start(self):
        begin = time.monotonic()
        self.process = subprocess.Popen([*self.pinned, self.binary, 'serve', '--data', self.data, '--listen',
                                         f'127.0.0.1:{self.port}'], stdout=subprocess.DEVNULL,
                                        stderr=open(os.path.join(self.data, 'log'), 'ab'), env=self.env)
        while True:
            try:
                urllib.request.urlopen(self.url + '/health', timeout=1).read()
                return time.monotonic() - begin
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(open(os.path.join(self.data, 'log')).read()[-2000:])
                time.sleep(0.001)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def token(self):
        out = subprocess.run([self.binary, 'token', '--data', self.data, '--user', 'a@example.org'], check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.env).stdout
        return out.decode().strip()

    def call(self, method, path, body=None, token=None, content_type='application/json'):
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method,
                                         headers={'Authorization': 'Bearer ' + token, 'Content-Type': content_type})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def wrk(url, seconds, connections, token=None):
    command = ['taskset', '-c', '1', 'wrk', '-t1', f'-c{connections}', f'-d{seconds}s', url]
    if token:
        command += ['-H', 'Authorization: Bearer ' + token]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    if 'Non-2xx' in out:
        sys.exit('errors under load:\n' + out)
    return int(re.search(r'(\d+) requests in', out).group(1)), float(re.search(r'Requests/sec:\s+([\d.]+)', out).group(1))


class Nginx:
    def __init__(self, folder, body):
        self.port = free_port()
        os.makedirs(folder)
        conf = os.path.join(folder, 'nginx.conf')
        with open(conf, 'w') as f:
            f.write(f'worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/err; events {{ worker_connections 1024; }}\n'
                    f'http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;'
                    f' fastcgi_temp_path {folder}/f; scgi_temp_path {folder}/s; uwsgi_temp_path {folder}/u;\n'
                    f' server {{ listen 127.0.0.1:{self.port}; location / {{ default_type application/json; return 200 \'{body}\'; }} }} }}\n')
        self.process = subprocess.Popen(['taskset', '-c', '0', 'nginx', '-c', conf, '-e', f'{folder}/err'])
        wait_port(self.port, self.process)

    def cpu(self):
        """CPU seconds of the master and its worker."""
        children = open(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read().split()
        return sum(cpu_seconds(pid) for pid in [self.process.pid, *children])

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def summary(name, values, unit=''):
    print(f'{name:58} median {statistics.median(values):9.3f}  min {min(values):9.3f}  max {max(values):9.3f} {unit}')


def fill(server, token, share, count):
    """count folders: as many change rows."""
    for start in range(0, count, 10000):
        changes = [{'resource_type': 'folder', 'resource_id': None, 'change_type': 'created',
                    'new_path': f'/project-{i:06d}', 'op_id': f'fill-{i}'} for i in range(start, min(count, start + 10000))]
        answer = server.call('POST', '/api/v1/sync/apply', {'device_id': 'bench', 'share_id': share, 'changes': changes,
                                                            'conflict_resolution': 'KEEP_BOTH'}, token)
        if answer['errors']:
            sys.exit(str(answer['errors'][:3]))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--server', default=os.path.join(HERE, '..', 'build', 'scaidrived'))
    args.add_argument('--pairs', type=int, default=7)
    args.add_argument('--seconds', type=int, default=2)
    args.add_argument('--connections', type=int, default=16)
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix='first-light-')
    server = Server(os.path.abspath(args.server), os.path.join(work, 'data'))
    server.init()
    starts = []
    for _ in range(args.pairs):
        starts.append(server.start() * 1000)
        server.stop()
    server.start()
    time.sleep(2)
    idle = rss_mb(server.process.pid)
    token = server.token()
    share = server.call('GET', '/api/v1/shares', token=token)['shares'][0]['id']
    server.call('POST', '/api/v1/sync/devices', {'device_id': 'bench', 'device_name': 'bench', 'platform': 'cli',
                                                 'client_version': '1.0.0'}, token)
    edge = b'bench-boundary'
    part = (b'--' + edge + b'\r\nContent-Disposition: form-data; name="share_id"\r\n\r\n' + share.encode() + b'\r\n--' + edge +
            b'\r\nContent-Disposition: form-data; name="file"; filename="spec.pdf"\r\nContent-Type: application/pdf\r\n\r\n' +
            b'x' * 4096 + b'\r\n--' + edge + b'--\r\n')
    made = server.call('POST', '/api/v1/files', part, token, 'multipart/form-data; boundary=' + edge.decode())
    fill(server, token, share, 30000)
    metadata = json.dumps(server.call('GET', f'/api/v1/files/{made["id"]}', token=token))
    nginx = Nginx(os.path.join(work, 'nginx'), metadata)

    ratios, cpu, rates, peers, peer_cpu = [], [], [], [], []
    for _ in range(args.pairs):
        before = nginx.cpu()
        count, peer = wrk(f'http://127.0.0.1:{nginx.port}/', args.seconds, args.connections)
        peer_cpu.append((nginx.cpu() - before) / count * 1e6)
        before = cpu_seconds(server.process.pid)
        count, rate = wrk(f'{server.url}/api/v1/files/{made["id"]}', args.seconds, args.connections, token)
        cpu.append((cpu_seconds(server.process.pid) - before) / count * 1e6)
        ratios.append(rate / peer)
        rates.append(rate)
        peers.append(peer)
    summary('GET file metadata, requests/s', rates)
    summary('nginx, the same body fixed, requests/s', peers)
    summary('  ratio (bar: at least 0.25)', ratios)
    summary('  server CPU (bar: at most 30)', cpu, 'us a request')
    summary('  nginx CPU in the same run (4.7 on a quiet machine)', peer_cpu, 'us a request')

    probe = os.path.join(work, 'sqlite_page')
    subprocess.run(['gcc', '-O2', '-o', probe, os.path.join(HERE, 'sqlite_page.c'), '-lsqlite3'], check=True)
    copy = os.path.join(work, 'copy.db')
    source = sqlite3.connect(os.path.join(server.data, 'scaidrive.db'))
    target = sqlite3.connect(copy)
    source.backup(target)
    share_number = target.execute('select share_id from changes group by share_id order by count(*) desc').fetchone()[0]
    target.close()
    source.close()
    ratios, cpu_ratios, rates, peers = [], [], [], []
    for i in range(args.pairs):
        out = subprocess.run(['taskset', '-c', '0', probe, copy, str(share_number), str(args.seconds)], check=True,
                             stdout=subprocess.PIPE).stdout.split()
        peer, peer_cpu = int(out[0]) / float(out[3]), float(out[2]) / int(out[0])
        before = cpu_seconds(server.process.pid)
        count, rate = wrk(f'{server.url}/api/v1/sync/changes?share_id={share}&cursor={i * 1000}&limit=1000', args.seconds, 4, token)
        ours = (cpu_seconds(server.process.pid) - before) / count
        ratios.append(rate / peer)
        cpu_ratios.append(peer_cpu / ours)
        rates.append(rate)
        peers.append(peer)
    summary('GET sync/changes, pages of 1,000 a second', rates)
    summary('SQLite alone, the same rows, pages a second', peers)
    summary('  ratio (bar: at least 0.6)', ratios)
    summary('  ratio of CPU a page', cpu_ratios)
    summary('start to first answer (bar: under 100)', starts, 'ms')
    print(f'{"resident memory of the idle server (bar: under 30)":58} {idle:.1f} MB')
    loaded = rss_mb(server.process.pid)
    time.sleep(15)
    print(f'{"resident memory after the load, and 15 s later (bar: 30)":58} {loaded:.1f} MB, {rss_mb(server.process.pid):.1f} MB')
    server.stop()
    nginx.stop()
    shutil.rmtree(work)


if __name__ == '__main__':
    main()
