#!/usr/bin/env python3
"""Small files by POST /files, one multipart request each, against a bare program that does the syncs and commits alone.

usage: multipart.py [--build build] [--pairs 7] [--seconds 3] [--connections 8,32] [--work DIR]
The peer (group_commit.c) has as many threads as we have connections; each hands 4 KiB and a row to a writer that appends,
syncs and commits for all who wait. It parses nothing, hashes nothing and checks nothing: it is what the disk allows. Every
upload of ours is a new name and fresh content. Server and peer may use every processor; the load (wrk) keeps to processor 1.
CPU is the server's and the peer's, per upload. --work must be on a disk.
"""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from first_light import HERE, Server, cpu_seconds  # noqa: E402

SIZE = 4096
LUA = '''
local f = io.open("%(content)s", "rb")
local content = f:read("*a")
f:close()
local n, run = 0, "%(run)s"
local before = '--b\\r\\nContent-Disposition: form-data; name="share_id"\\r\\n\\r\\n%(share)s\\r\\n' ..
  '--b\\r\\nContent-Disposition: form-data; name="file"; filename="'
local behind = '"\\r\\nContent-Type: application/octet-stream\\r\\n\\r\\n'
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=b"
function request()
  n = n + 1
  local mark = string.format("%%s-%%08d", run, n)
  return wrk.format(nil, nil, nil, before .. mark .. behind .. mark .. content:sub(#mark + 1) .. "\\r\\n--b--\\r\\n")
end
'''


class Ours:
    def __init__(self, build, work):
        self.work, self.runs = work, 0
        self.server = Server(os.path.join(build, 'scaidrived'), os.path.join(work, 'data'))
        self.server.init()
        self.server.start()
        for task in os.listdir(f'/proc/{self.server.process.pid}/task'):
            subprocess.run(['taskset', '-pc', f'0-{os.cpu_count() - 1}', task], check=True, stdout=subprocess.DEVNULL)
        self.token = self.server.token()

    def run(self, connections, seconds):
        self.runs += 1
        name = f'run-{self.runs:04d}'
        share = self.server.call('POST', '/api/v1/shares', {'name': name, 'share_type': 'project'}, self.token)['id']
        content, script = os.path.join(self.work, 'content'), os.path.join(self.work, 'upload.lua')
        with open(content, 'wb') as f:
            f.write(os.urandom(SIZE))
        with open(script, 'w', encoding='ascii') as f:
            f.write(LUA % {'content': content, 'run': name, 'share': share})
        os.sync()
        before = cpu_seconds(self.server.process.pid)
        out = subprocess.run(['taskset', '-c', '1', 'wrk', '-t1', f'-c{connections}', f'-d{seconds}s', '-s', script, '-H',
                              'Authorization: Bearer ' + self.token, self.server.url + '/api/v1/files'], check=True, stdout=subprocess.PIPE).stdout.decode()
        cpu = cpu_seconds(self.server.process.pid) - before
        if 'Non-2xx' in out or 'Socket errors' in out:
            sys.exit('errors under load:\n' + out)
        return float(re.search(r'Requests/sec:\s+([\d.]+)', out).group(1)), cpu / int(re.search(r'(\d+) requests in', out).group(1))


class Bare:
    def __init__(self, work):
        self.work, self.program, self.runs = work, os.path.join(work, 'group_commit'), 0
        subprocess.run(['gcc', '-O2', '-o', self.program, os.path.join(HERE, 'group_commit.c'), '-lsqlite3', '-lpthread'], check=True)

    def run(self, connections, seconds):
        self.runs += 1
        folder = os.path.join(self.work, f'bare-{self.runs}')
        os.makedirs(folder)
        os.sync()
        out = subprocess.run([self.program, folder, str(connections), str(seconds)], check=True, stdout=subprocess.PIPE).stdout.split()
        return int(out[0]) / float(out[1]), float(out[2]) / int(out[0])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(HERE, '..', 'build'))
    args.add_argument('--pairs', type=int, default=7)
    args.add_argument('--seconds', type=int, default=3)
    args.add_argument('--connections', default='8,32')
    args.add_argument('--work')
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix='multipart-', dir=args.work)
    ours, bare = Ours(os.path.abspath(args.build), work), Bare(work)
    try:
        for connections in map(int, args.connections.split(',')):
            pairs = []
            for i in range(args.pairs):
                pair = {}
                for who in ((ours, bare) if i % 2 == 0 else (bare, ours)):
                    pair[who] = who.run(connections, args.seconds)
                pairs.append((pair[ours], pair[bare]))
            ratios = [a[0] / b[0] for a, b in pairs]
            print(f'{connections:3} connections: {statistics.median(ratios):.2f} of the bare rate ({min(ratios):.2f} to {max(ratios):.2f}), bar 0.5;  '
                  f'{statistics.median(a[0] for a, _ in pairs):,.0f} / {statistics.median(b[0] for _, b in pairs):,.0f} a second;  CPU '
                  f'{statistics.median(a[1] for a, _ in pairs) * 1e6:.0f} / {statistics.median(b[1] for _, b in pairs) * 1e6:.0f} us each', flush=True)
    finally:
        ours.server.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
