#!/usr/bin/env python3
"""A bulk upload into an index of 17 million chunks (1 TB), against the same into an empty one, in interleaved pairs.

usage: chunk_index.py [--build build] [--pairs 7] [--rows 17000000] [--files 10000] [--work DIR] [--keep DIR] [--postgresql URL]
Two servers, one with rows made by SQL (random hashes, ids of the past); it reads them into its finder before the first pair
and is timed at that too. Each pair sends 10,000 new chunks of 4 KiB to either. Meanwhile a second connection makes the smallest
write there is, again and again: the longest it waits bounds the longest commit. CPU is the server's. --work must be on a disk
with room for about 150 bytes a row.

Making the rows takes minutes. --keep: both servers' folders stay there, and the next run begins with the pairs. --postgresql: the URL of a cluster
(tests/pg_cluster.sh), where both get a database of their own, named after the folder; whoever keeps one keeps the other.
"""
import argparse
import hashlib
import http.client
import json
import os
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from small_files import SIZE, Ours, Timed, post  # noqa: E402

PAGE_BYTES, HINTS_PER_PAGE = 4096, 105  # src/chunks/finder.c
COLUMNS, BATCH = 'id, tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh', 1000000


def psql(url, statement):
    return subprocess.run(['psql', '-qtAX', '-v', 'ON_ERROR_STOP=1', url, '-c', statement], check=True, stdout=subprocess.PIPE).stdout.decode().strip()


class Cluster:
    def __init__(self, url):
        self.url, self.made = url, []

    def database(self, name, anew):
        """The URL of a database."""
        if anew:
            psql(self.url, f'drop database if exists {name} with (force)')
            psql(self.url, f'create database {name}')
        self.made.append(name)
        return self.url.replace(':///scaidrive', ':///' + name)

    def drop(self):
        for name in self.made:
            psql(self.url, f'drop database {name} with (force)')


class Store(Ours):
    def __init__(self, build, work, name, cluster):
        self.data, self.marker = os.path.join(work, name, 'data'), os.path.join(work, name, 'filled')
        os.makedirs(os.path.join(work, name), exist_ok=True)
        self.database = cluster and cluster.database(f'{os.path.basename(work)}_{name}'.replace('-', '_'), not os.path.exists(self.data))
        super().__init__(build, os.path.join(work, name), {'SCAIDRIVE_DATABASE_URL': self.database} if cluster else None)
        names = [s['name'] for s in self.call('GET', '/api/v1/shares')['shares']]
        self.id = self.call('GET', '/api/v1/shares')['shares'][names.index('bulk')]['id'] if 'bulk' in names else self.share('bulk')

    def insert_sqlite(self, rows):
        db = sqlite3.connect(os.path.join(self.data, 'scaidrive.db'))
        tenant = db.execute('select id from tenants').fetchone()[0]
        db.execute('pragma synchronous = off')
        for begin in range(0, rows, BATCH):
            db.execute('with recursive n(i) as (select ?1 union all select i + 1 from n where i < ?2)'
                       f' insert into chunks ({COLUMNS})'
                       ' select i << 16, ?3, randomblob(32), 1 + i / 1000, (i % 1000) << 16, 65536, 65536, 0, random() from n',
                       (begin + 1, min(begin + BATCH, rows), tenant))
            db.commit()
        db.execute('pragma wal_checkpoint(truncate)')
        db.close()

    def insert_postgresql(self, rows):
        tenant = psql(self.database, 'select id from tenants')
        for begin in range(0, rows, BATCH):
            psql(self.database, f'insert into chunks ({COLUMNS})'
                 f" select i << 16, {tenant}, decode(md5(random()::text) || md5(random()::text), 'hex'), 1 + i / 1000, (i % 1000) << 16,"
                 f' 65536, 65536, 0, (random() * 1e18)::bigint from generate_series({begin + 1}::bigint, {min(begin + BATCH, rows)}) i')
        psql(self.database, 'vacuum analyze chunks')
        psql(self.database, 'checkpoint')

    def fill(self, rows):
        """Rows of chunks as a terabyte would leave them; then the server meets them. Seconds until it has."""
        self.server.stop()
        (self.insert_postgresql if self.database else self.insert_sqlite)(rows)
        began = time.monotonic()
        self.server.start()
        ready, finder = time.monotonic() - began, os.path.join(self.data, 'packs', 'finder')
        while not os.path.exists(finder) or os.path.getsize(finder) < (rows / HINTS_PER_PAGE - 100) * PAGE_BYTES:
            time.sleep(0.2)
        print(f'{rows} rows: first answer after {ready:.2f} s, all of them known to the finder after {time.monotonic() - began:.0f} s', flush=True)
        with open(self.marker, 'w', encoding='ascii') as f:
            f.write(str(rows))

    def put(self, body):
        waits, done = [], threading.Event()

        def probe():
            c = http.client.HTTPConnection('127.0.0.1', self.server.port, timeout=60)
            write = json.dumps({'device_id': 'bench', 'device_name': 'bench', 'platform': 'cli'})
            while not done.is_set():
                began = time.monotonic()
                c.request('POST', '/api/v1/sync/devices', write, {'Authorization': 'Bearer ' + self.token, 'Content-Type': 'application/json'})
                c.getresponse().read()
                waits.append(time.monotonic() - began)
                time.sleep(0.005)
            c.close()
        prober = threading.Thread(target=probe)
        prober.start()
        with Timed(self.server.process.pid) as t:
            post(self.server, self.token, f'/api/v1/sync/chunks?share_id={self.id}', body, 'application/octet-stream')
        done.set()
        prober.join()
        t.longest = max(waits)
        return t


def new_chunks(files):
    body = bytearray()
    for _ in range(files):
        content = os.urandom(SIZE)
        body += hashlib.sha256(content).digest() + struct.pack('<I', SIZE) + content
    return bytes(body)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'build'))
    args.add_argument('--pairs', type=int, default=7)
    args.add_argument('--rows', type=int, default=17000000)
    args.add_argument('--files', type=int, default=10000)
    args.add_argument('--work')
    args.add_argument('--keep')
    args.add_argument('--postgresql')
    args = args.parse_args()
    work = args.keep and os.path.abspath(args.keep) or tempfile.mkdtemp(prefix='chunk-index-', dir=args.work)
    cluster = Cluster(args.postgresql) if args.postgresql else None
    stores = [Store(os.path.abspath(args.build), work, name, cluster) for name in ('large', 'empty')]
    try:
        if not os.path.exists(stores[0].marker):
            stores[0].fill(args.rows)
        got = ([], [])
        for pair in range(args.pairs):
            for which in ((0, 1) if pair % 2 == 0 else (1, 0)):
                got[which].append(stores[which].put(new_chunks(args.files)))
            a, b = got[0][-1], got[1][-1]
            print(f'  pair {pair + 1}  {a.wall:.3f} / {b.wall:.3f} s = {a.wall / b.wall:.2f}   CPU {a.cpu:.2f} / {b.cpu:.2f}   longest write '
                  f'{a.longest * 1000:.0f} / {b.longest * 1000:.0f} ms', flush=True)
        print(f'{args.files} new chunks, medians: large {statistics.median(t.wall for t in got[0]):.3f} s, empty {statistics.median(t.wall for t in got[1]):.3f} s, '
              f'ratio {statistics.median(a.wall / b.wall for a, b in zip(*got)):.2f} (bar 1.5)  '
              f'CPU {statistics.median(t.cpu for t in got[0]):.2f} / {statistics.median(t.cpu for t in got[1]):.2f} s')
        print(f'a small write meanwhile waited at most {max(t.longest for t in got[0]) * 1000:.0f} / {max(t.longest for t in got[1]) * 1000:.0f} ms (bar 250)')
    finally:
        for store in stores:
            store.server.stop()
        if not args.keep:
            shutil.rmtree(work, ignore_errors=True)
            if cluster:
                cluster.drop()


if __name__ == '__main__':
    main()
