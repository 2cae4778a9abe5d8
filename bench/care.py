#!/usr/bin/env python3
"""How long the care of stored data holds SQLite's one writer, and what a point of a backup costs.

usage: care.py [--build build] [--files 100000] [--points] [--work DIR]
A data folder with so many files in the trash for too long, and as many old versions; `jobs run trash` and `jobs run versions` take them away by themselves, while
another connection asks for the writer every half millisecond, and so sees how long each transaction holds it. --points instead: two backups of --files files, one
after the other. Rows are made by SQL, so contents are one chunk for all. --work must be on a disk.
"""
import argparse
import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

DAY_US = 86400 * 1000000


def run(args, *words):
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([os.path.join(args.build, 'scaidrived'), *words], check=True, capture_output=True, text=True, env=args.env).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - begin, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, out


def database(args):
    db = sqlite3.connect(os.path.join(args.data, 'scaidrive.db'), isolation_level=None, timeout=20)
    db.execute('pragma synchronous = off')
    return db


def fill(args, trashed, versions_each):
    """Files 1, 2 ... of a share; each has so many versions, made at times that thinning does not keep. trashed: 'each', or the 'folder' that they are in."""
    now = int(time.time() * 1000000)
    with contextlib.closing(database(args)) as db:
        tenant, share, root, user = db.execute('select tenant_id, share_id, id, owner_id from nodes where id in (select root_id from shares) limit 1').fetchone()
        first, parent = db.execute('select max(id) + 2, max(id) + 1 from nodes').fetchone()
        seq = db.execute('select seq from tenants where id = ?', [tenant]).fetchone()[0]
        n = args.files // versions_each
        db.execute('begin')
        db.execute('create temp table n as with recursive c(i) as (select 0 union all select i + 1 from c where i + 1 < ?) select i from c', [n])
        db.execute('insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, owner_id, created_by, created_at, modified_by, modified_at, deleted_at,'
                   " trash_key, change_seq) values (?, ?, ?, ?, 1, 'folder', 'folder', ?, ?, ?, ?, ?, ?, ?, ?)",
                   [parent, tenant, share, root, user, user, now, user, now, now - 40 * DAY_US if trashed == 'folder' else 0, parent if trashed == 'folder' else 0, seq + 1])
        db.execute('insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, version_id, version, last_version, size_bytes, sha256, owner_id,'
                   ' created_by, created_at, modified_by, modified_at, deleted_at, deleted_by, trash_key, change_seq)'
                   " select ? + i, ?, ?, ?, 2, 'file ' || i || '.txt', 'file ' || i || '.txt', ? + i, ?, ?, 10, randomblob(32), ?, ?, ?, ?, ?, ?, 0, ?, ? + i from n",
                   [first, tenant, share, parent, first + n * versions_each, versions_each, versions_each, user, user, now, user, now,
                    now - 40 * DAY_US if trashed == 'each' else 0, 0, seq + 1])
        if trashed == 'each':
            db.execute('update nodes set trash_key = id where deleted_at > 0 and trash_key = 0')
        recipe = bytes.fromhex('01')
        for k in range(versions_each):
            db.execute('insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, recipe, created_by, created_at)'
                       ' select ? + i, ?, ? + i, ?, 10, randomblob(32), ?, ?, ? from n',
                       [first + n * (versions_each - k), tenant, first, versions_each - k, recipe, user, now - 20 * DAY_US - k * 1000000])
        db.execute('insert into changes (share_id, seq, tenant_id, resource_kind, resource_id, change_type, changed_by, changed_at, new_path, metadata)'
                   " select ?, ? + i, ?, 2, ? + i, 1, ?, ?, '/file ' || i || '.txt', '{\"name\":\"file.txt\",\"size\":10}' from n",
                   [share, seq + 1, tenant, first, user, now])
        db.execute('update tenants set seq = ? where id = ?', [seq + n + 1, tenant])
        db.execute('commit')
        db.execute('pragma wal_checkpoint(truncate)')


class Watch(threading.Thread):
    """Asks for the writer, and notes for how long on end it was not to be had."""

    def __init__(self, args):
        super().__init__()
        self.args, self.held, self.stop = args, [], False

    def run(self):
        with contextlib.closing(sqlite3.connect(os.path.join(self.args.data, 'scaidrive.db'), isolation_level=None, timeout=0)) as db:
            since = None
            while not self.stop:
                now = time.monotonic()
                try:
                    db.execute('begin immediate')
                    db.execute('rollback')
                    if since:
                        self.held.append(now - since)
                    since = None
                except sqlite3.OperationalError:
                    since = since or now
                time.sleep(0.0005)


def steps(args, job, what):
    watch = Watch(args)
    watch.start()
    took, cpu, said = run(args, 'jobs', 'run', job, '--full', '--data', args.data)
    watch.stop = True
    watch.join()
    held = sorted(watch.held)
    at = lambda q: held[min(len(held) - 1, int(len(held) * q))] * 1000  # noqa: E731
    print(f'{what}: {said.strip()} in {took:.1f} s, CPU {cpu / args.files * 1e6:.0f} us a file; {len(held)} holds seen: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f}, longest {held[-1] * 1000:.1f}')


def points(args):
    shelf = os.path.join(args.work, 'shelf')
    for _ in range(2):
        took, cpu, said = run(args, 'backup', '--data', args.data, shelf)
        print(f'{took:.1f} s, CPU {cpu:.1f}: {said.strip()}')
        time.sleep(1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--build', default='build')
    p.add_argument('--files', type=int, default=100000)
    p.add_argument('--points', action='store_true')
    p.add_argument('--work')
    args = p.parse_args()
    args.work = tempfile.mkdtemp(prefix='care-', dir=args.work)
    args.data = os.path.join(args.work, 'data')
    args.env = {**os.environ, 'SCAIDRIVE_ADMIN_PASSWORD': 'a long password'}
    try:
        if args.points:
            run(args, 'init', '--data', args.data, '--admin-email', 'a@example.org')
            fill(args, '', 1)
            points(args)
            return
        for what, job, trashed, versions_each in (('files in the trash', 'trash', 'each', 1), ('a folder of files in the trash', 'trash', 'folder', 1),
                                                  ('old versions, a hundred a file', 'versions', '', 100)):
            run(args, 'init', '--data', args.data, '--admin-email', 'a@example.org')
            fill(args, trashed, versions_each)
            steps(args, job, what)
            shutil.rmtree(args.data)
    finally:
        shutil.rmtree(args.work)


if __name__ == '__main__':
    sys.exit(main())
