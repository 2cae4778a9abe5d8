#!/usr/bin/env python3
"""A bulk upload into an index of 17 million chunks (1 TB), against the same into an empty one, in interleaved pairs.

usage: chunk_index.py [--build build] [--pairs 7] [--rows 17000000] [--files 10000] [--work DIR]
Two servers, one with rows made by SQL (random hashes, ids of the past); it reads them into its finder before the first pair
and is timed at that too. Each pair sends 10,000 new chunks of 4 KiB to either. Meanwhile a second connection makes the smallest
write there is, again and again: the longest it waits bounds the longest commit. CPU is the server's. --work must be on a disk
with room for about 150 bytes a row.
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
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from small_files import SIZE, Ours, Timed, post  # noqa: E402

PAGE_BYTES, HINTS_PER_PAGE = 4096, 105  # src/chunks/finder.c


class Store(Ours):
    def __init__(self, build, work, name):
        os.makedirs(os.path.join(work, name))
        super().__init__(build, os.path.join(work, name))
        self.data = os.path.join(work, name, 'data')
        self.id = self.share('bulk')

    def fill(self, rows):
        """Rows of chunks as a terabyte would leave them; then the server meets them. Seconds until it has."""
        self.server.stop()
        db = sqlite3.connect(os.path.join(self.data, 'scaidrive.db'))
        tenant = db.execute('select id from tenants').fetchone()[0]
        db.execute('pragma synchronous = off')
        for begin in range(0, rows, 1000000):
            db.execute('with recursive n(i) as (select ?1 union all select i + 1 from n where i < ?2)'
                       ' insert into chunks (id, tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh)'
                       ' select i << 16, ?3, randomblob(32), 1 + i / 1000, (i % 1000) << 16, 65536, 65536, 0, random() from n',
                       (begin + 1, min(begin + 1000000, rows), tenant))
            db.commit()
        db.execute('pragma wal_checkpoint(truncate)')
        db.close()
        began = time.monotonic()
        self.server.start()
        ready, finder = time.monotonic() - began, os.path.join(self.data, 'packs', 'finder')
        while not os.path.exists(finder) or os.path.getsize(finder) < (rows / HINTS_PER_PAGE - 100) * PAGE_BYTES:
            time.sleep(0.2)
        return ready, time.monotonic() - began

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
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix='chunk-index-', dir=args.work)
    stores = [Store(os.path.abspath(args.build), work, name) for name in ('large', 'empty')]
    try:
        ready, filled = stores[0].fill(args.rows)
        print(f'{args.rows} rows: first answer after {ready:.2f} s, all of them known to the finder after {filled:.0f} s', flush=True)
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
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
