#!/usr/bin/env python3
"""What the server writes to its disk, and how long it takes, when 4 KiB of a file of 1 GiB are overwritten.

usage: small_edits.py [--build build] [--edits 7] [--work DIR]
Each edit: the changed chunk goes up as a patch, then POST /sync/versions names the rest. Bytes are write_bytes of /proc/PID/io: what the
process made dirty on a disk's file system, each page as often as it went there. --work must be on a disk.
"""
import argparse
import hashlib
import os
import random
import shutil
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from downloads import chunks_of  # noqa: E402
from uploads import SIZE, Unpinned, fill, show, upload  # noqa: E402


def written(server):
    with open(f'/proc/{server.process.pid}/io', encoding='ascii') as f:
        return int(next(line.split()[1] for line in f if line.startswith('write_bytes')))


def post(server, path, body):
    return server.call('POST', path, body, server.bearer, 'application/octet-stream')


def edit(server, fd, places, file, version, at, new):
    """Overwrites the 4 KiB at a position; the new version's id."""
    i = next(i for i, (offset, length) in enumerate(places) if offset <= at and at + len(new) <= offset + length)
    offset, length = places[i]
    os.pwrite(fd, new, at)
    chunk, begin = os.pread(fd, length, offset), at - offset
    copies = [(0, begin), (begin + len(new), length - begin - len(new))]
    parts = [b'\x02' + struct.pack('<HIII', 0, i, o, n) if n else b'' for o, n in copies]
    patch = struct.pack('<I', length) + parts[0] + b'\x01' + struct.pack('<I', len(new)) + new + parts[1]
    digest = hashlib.sha256(chunk).digest()
    post(server, f'/api/v1/sync/chunks?share_id={server.share}&sources={version}', digest + struct.pack('<I', len(patch) | 1 << 31) + patch)
    h = hashlib.sha256()
    for o in range(0, SIZE, 1 << 20):
        h.update(os.pread(fd, 1 << 20, o))
    run = [b'\x02' + struct.pack('<HII', 0, f, n) if n else b'' for f, n in ((0, i), (i + 1, len(places) - i - 1))]
    begin = time.monotonic()
    made = post(server, f'/api/v1/sync/versions?replace_file_id={file}&base_version_id={version}&size={SIZE}&checksum_sha256={h.hexdigest()}'
                       f'&sources={version}', run[0] + b'\x01' + digest + struct.pack('<I', length) + run[1])
    return made['version_id'], time.monotonic() - begin


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--build', default='build')
    p.add_argument('--edits', type=int, default=7)
    p.add_argument('--work')
    args = p.parse_args()
    work = tempfile.mkdtemp(prefix='small-edits-', dir=args.work)
    server, fd, dice = Unpinned(os.path.abspath(args.build), work), os.memfd_create('file'), random.Random(1)
    try:
        os.ftruncate(fd, SIZE)
        fill(fd, SIZE)
        file = upload(server, 'file', fd, SIZE, None)
        version = server.ask('GET', f'/api/v1/files/{file}')['version_id']
        places, rows = chunks_of(server, file), []
        time.sleep(3)
        for number in range(args.edits):
            offset, length = dice.choice([x for x in places if x[1] > 8192])
            before, cpu = written(server), server.cpu()
            version, seconds = edit(server, fd, places, file, version, offset + dice.randrange(length - 4096), os.urandom(4096))
            cpu = server.cpu() - cpu
            now = written(server)
            time.sleep(2)
            rows.append((now - before, written(server) - before, seconds, cpu))
            print('  written {} KiB, {} KiB two seconds later; versions {:.2f} s, CPU {:.2f} s'.format(rows[-1][0] >> 10, rows[-1][1] >> 10, *rows[-1][2:]), flush=True)
        print(f'{len(places)} chunks')
        show('KiB written for a 4 KiB overwrite of 1 GiB', [r[1] / 1024 for r in rows], 0)
        show('seconds of POST /sync/versions', [r[2] for r in rows])
        show('CPU seconds of the server', [r[3] for r in rows])
    finally:
        server.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
