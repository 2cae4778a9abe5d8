#!/usr/bin/env python3
"""Documents as programs change them: bytes on the wire, ours and rsync's, plain and with -z.

usage: documents.py [--build build] [--git REPOSITORY --tags OLD NEW] [--only TEXT] [--work DIR]
Office documents whose text is replaced by Info-ZIP; a mailbox and a maildir changed by Python's mailbox; an SQLite database changed by SQL and
then by VACUUM; an ext4 image changed by debugfs; a git checkout that moves between two commits (all of .git as well). Each is synced, changed,
and synced again: the bytes are those of the second time, both directions, TCP and IP headers included (see delta.py; it wants root).
Sizes are drawn from one seed; contents of the sources and words of the texts are this machine's.
"""
import argparse
import mailbox
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import chunker_sizes  # noqa: E402
import delta  # noqa: E402


class Images(chunker_sizes.Cases):
    """The image of chunker_sizes.py, as one file that changes."""

    def put(self, state, data):
        path = os.path.join(self.work, state)
        with open(path, 'wb') as f:
            f.write(data)
        return path


def words(rng, n):
    if not hasattr(words, 'all'):
        words.all = open(os.__file__, encoding='utf-8').read().split()
    return ' '.join(rng.choices(words.all, k=n))


def office(top, rng):
    for i in range(40):
        with zipfile.ZipFile(os.path.join(top, f'report-{i}.docx'), 'w', zipfile.ZIP_DEFLATED) as z:
            z.writestr('[Content_Types].xml', '<Types/>' * 100)
            z.writestr('word/document.xml', words(rng, 20000))
            for k in range(rng.randrange(6)):
                z.writestr(f'word/media/image{k}.jpeg', rng.randbytes(rng.randrange(20000, 1500000)))
    yield
    for i in range(40):
        path = os.path.join(top, f'report-{i}.docx')
        with tempfile.TemporaryDirectory(dir=os.path.dirname(top)) as part:
            with zipfile.ZipFile(path) as z:
                text = z.read('word/document.xml').decode()
            os.makedirs(os.path.join(part, 'word'))
            with open(os.path.join(part, 'word/document.xml'), 'w', encoding='utf-8') as f:
                f.write(text[:len(text) // 2] + ' a sentence more ' + text[len(text) // 2:])
            subprocess.run(['zip', '-q', path, 'word/document.xml'], cwd=part, check=True)


def mail(rng, i):
    m = mailbox.mboxMessage(f'From: sender{i}@example.org\nSubject: {words(rng, 4)[:60]}\nMessage-ID: <{i}@example>\n\n{words(rng, rng.randrange(20, 600))}\n'
                            .encode('ascii', 'replace'))
    if rng.random() < 0.2:
        m.set_payload(rng.randbytes(rng.randrange(7000, 600000)).hex())
    return m


def change_box(box, rng):
    for key in list(box.keys()):
        if rng.random() < 0.01:
            box.remove(key)
        elif rng.random() < 0.02:
            m = box[key]
            m.set_flags('RO') if isinstance(box, mailbox.mbox) else m.add_flag('S')
            box[key] = m
    for i in range(20):
        box.add(mail(rng, 10000 + i))
    box.flush()


def mbox(top, rng):
    box = mailbox.mbox(os.path.join(top, 'inbox'))
    for i in range(1000):
        box.add(mail(rng, i))
    box.flush()
    yield
    change_box(box, rng)
    box.close()


def maildir(top, rng):
    box = mailbox.Maildir(os.path.join(top, 'mail'))
    for i in range(1000):
        box.add(mail(rng, i))
    yield
    change_box(box, rng)


def database(top, rng):
    db = sqlite3.connect(os.path.join(top, 'books.db'))
    db.execute('create table books (id integer primary key, title text, body text)')
    db.execute('create index titles on books (title)')
    db.executemany('insert into books (title, body) values (?, ?)', ((words(rng, 3), words(rng, rng.randrange(10, 300))) for _ in range(100_000)))
    db.commit()
    yield
    for _ in range(200):
        db.execute('update books set title = ? where id = ?', (words(rng, 3), rng.randrange(100_000)))
    db.execute('delete from books where id between 5000 and 5100')
    db.commit()
    db.close()  # what a program has open for writing waits a second
    yield
    db = sqlite3.connect(os.path.join(top, 'books.db'))
    db.execute('vacuum')
    db.close()


def image(top, rng):
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.dirname(top))) as work:  # on the disk, but not synced
        chunker_sizes.image(Images(work))
        os.rename(os.path.join(work, 'old'), os.path.join(top, 'disk.img'))
        yield
        os.rename(os.path.join(work, 'new'), os.path.join(top, 'disk.img'))


def checkout(repository, old, new):
    def case(top, rng):
        tree = os.path.join(top, 'tree')
        subprocess.run(['git', 'clone', '-q', '--no-hardlinks', '--no-checkout', repository, tree], check=True)
        subprocess.run(['git', 'checkout', '-q', old], cwd=tree, check=True, stderr=subprocess.DEVNULL)
        yield
        subprocess.run(['git', 'checkout', '-q', new], cwd=tree, check=True, stderr=subprocess.DEVNULL)
    return case


class Places(delta.World):
    def __init__(self, args, work):
        super().__init__(args, work)
        self.packed = delta.Rsync(os.path.join(work, 'z'))
        self.packed_b = os.path.join(work, 'rsync-z-b')
        os.makedirs(self.packed_b)
        self.packed.options = ['-z']

    def go(self):
        os.sync()
        time.sleep(0.2)
        hops = [(self.sync('a'), self.sync('b'))]
        hops += [(r.push(self.a), r.pull(b)) for r, b in ((self.rsync, self.rsync_b), (self.packed, self.packed_b))]
        for b in (self.b, self.rsync_b, self.packed_b):
            delta.same(self.a, b)
        return hops

    def stop(self):
        super().stop()
        self.packed.stop()


def size_of(top):
    return sum(os.lstat(os.path.join(at, f)).st_size for at, _, files in os.walk(top) for f in files)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(here, '..', 'build'))
    args.add_argument('--git', default=os.path.join(here, '..'))
    args.add_argument('--tags', nargs=2, default=['HEAD~30', 'HEAD'])
    args.add_argument('--only', default='', help='cases whose name has this')
    args.add_argument('--work')
    args = args.parse_args()
    delta.own_network(os.path.abspath(__file__))
    work = tempfile.mkdtemp(prefix='documents-', dir=args.work)
    os.makedirs(os.path.join(work, 'z'))
    places, rng = Places(args, work), random.Random(7)
    revisions = [subprocess.run(['git', 'rev-parse', t], cwd=args.git, check=True, stdout=subprocess.PIPE).stdout.decode().strip() for t in args.tags]
    cases = {'40 office documents, their text replaced (zip)': office, 'mailbox of 1,000': mbox, 'maildir of 1,000': maildir,
             'SQLite database, 200 rows updated, 100 deleted; then VACUUM': database, 'ext4 image, 40 files replaced': image,
             f'git checkout, {args.tags[0]} to {args.tags[1]}': checkout(args.git, *revisions)}
    print('| | MB | up: ours, rsync, rsync -z | down | time of both hops |\n|---|---|---|---|---|')
    try:
        for name, case in ((n, c) for n, c in cases.items() if args.only in n):
            top = os.path.join(places.a, str(len(os.listdir(places.a))))
            os.makedirs(top)
            steps = case(top, rng)
            next(steps)
            places.go()
            more = True
            while more:
                more = next(steps, 'end') is None
                ways = places.go()
                print(f'| {name} | {size_of(top) / 1e6:.1f} | ' + ' | '.join(', '.join(f'{hops[i].wire / 1e6:.2f}' for hops in ways) for i in (0, 1)) + ' | '
                      + ', '.join(f'{up.wall + down.wall:.2f}' for up, down in ways) + ' s |', flush=True)
    finally:
        places.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
