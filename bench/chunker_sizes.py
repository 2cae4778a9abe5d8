#!/usr/bin/env python3
"""What other lengths of chunks would cost, on files as people change them.

usage: chunker_sizes.py [--build build] [--work DIR] [--large 1024]
Makes pairs of an old and a new state: a tree of sources as tar with a line added to one file in fifty; a mailbox that grew, lost mails in the
middle and had mails marked as read; office documents (zip) saved again after an edit of their text; an ext4 image in which files were
replaced; --large MiB with 1 MiB inserted in the middle; the same with 100 scattered overwrites of 4 KiB. Then `ninja -C build
bench-chunker-sizes` cuts them. All is drawn from one seed; the sources are this machine's /usr/include and Python library.
"""
import argparse
import base64
import io
import os
import random
import shutil
import subprocess
import tarfile
import tempfile
import zipfile

MIB = 1 << 20


class Cases:
    def __init__(self, work):
        self.work, self.lines, self.n, self.rng = work, [], 0, random.Random(20)

    def begin(self, name):
        self.lines.append('case ' + name)

    def put(self, state, data):
        self.n += 1
        path = os.path.join(self.work, f'{self.n}.{state}')
        with open(path, 'wb') as f:
            f.write(data)
        self.lines.append(f'{state} {path}')
        return path


def sources(c):
    paths = sorted(os.path.join(top, name) for top, _, names in os.walk('/usr/include') for name in names)
    texts = [(p, open(p, 'rb').read()) for p in paths if os.path.isfile(p) and not os.path.islink(p)]
    c.begin('source tree, tar')
    for state in ('old', 'new'):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode='w') as tar:
            for path, text in texts:
                if state == 'new' and c.rng.random() < 0.02:
                    at = text.find(b'\n', c.rng.randrange(len(text) + 1)) + 1
                    text = text[:at] + b'/* an edit */\n' + text[at:]
                info = tarfile.TarInfo(path)
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text))
        c.put(state, out.getvalue())


def mailbox(c):
    words = open('/usr/include/stdio.h').read().split() + open(os.__file__).read().split()

    def mail(i):
        text = f'From sender{i} Mon Nov 16 08:00:00 2026\nMessage-ID: <{i}@example>\nStatus: O \n\n' + ' '.join(c.rng.choices(words, k=c.rng.randrange(20, 600)))
        if c.rng.random() < 0.2:
            text += '\n\n' + base64.encodebytes(c.rng.randbytes(c.rng.randrange(10000, 800000))).decode()
        return text + '\n\n'
    old = [mail(i) for i in range(2000)]
    new = [m.replace('Status: O ', 'Status: RO', 1) if c.rng.random() < 0.02 else m for i, m in enumerate(old) if i < 500 or c.rng.random() < 0.99]
    new += [mail(2000 + i) for i in range(20)]
    c.begin('mailbox')
    c.put('old', ''.join(old).encode())
    c.put('new', ''.join(new).encode())


def documents(c):
    words = open(os.__file__).read().split()
    c.begin('office documents (zip), saved again')
    for _ in range(60):
        text = ' '.join(c.rng.choices(words, k=20000))
        pictures = [c.rng.randbytes(c.rng.randrange(20000, 1500000)) for _ in range(c.rng.randrange(6))]
        for state in ('old', 'new'):
            out = io.BytesIO()
            with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
                z.writestr(zipfile.ZipInfo('[Content_Types].xml'), '<Types/>' * 100)
                z.writestr(zipfile.ZipInfo('word/document.xml', (2026, 11, 20 + (state == 'new'), 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
                for i, p in enumerate(pictures):
                    z.writestr(zipfile.ZipInfo(f'word/media/image{i}.jpeg'), p, zipfile.ZIP_DEFLATED)
            c.put(state, out.getvalue())
            text = text[:len(text) // 2] + ' a sentence more ' + text[len(text) // 2:]


def image(c):
    tree = os.path.dirname(os.__file__)
    path = os.path.join(c.work, 'image')
    subprocess.run(['/sbin/mkfs.ext4', '-q', '-F', '-E', 'hash_seed=00000000-0000-0000-0000-000000000001', '-U', '00000000-0000-0000-0000-000000000001', '-d', tree, path, '384M'],
                   check=True, stdout=subprocess.DEVNULL)
    c.begin('disk image, 40 files replaced')
    with open(path, 'rb') as f:
        c.put('old', f.read())
    names = sorted(os.path.relpath(os.path.join(top, name), tree) for top, _, names in os.walk(tree) for name in names
                   if name.endswith('.py') and ' ' not in top + name and not os.path.islink(os.path.join(top, name)))
    script = ''
    for i, name in enumerate(c.rng.sample(names, 40)):
        edited = os.path.join(c.work, f'edited{i}')
        with open(os.path.join(tree, name), 'rb') as f, open(edited, 'wb') as out:
            out.write(b'# an edit\n' + f.read())
        script += f'rm {name}\nwrite {edited} {name}\n'
    subprocess.run(['/sbin/debugfs', '-w', '-f', '/dev/stdin', path], input=script.encode(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, 'rb') as f:
        c.put('new', f.read())
    os.unlink(path)


def large(c, mib):
    old = bytearray().join(c.rng.randbytes(MIB) for _ in range(mib))
    c.begin(f'1 MiB inserted into {mib} MiB')
    path = c.put('old', old)
    middle = len(old) // 2 + 12345
    c.put('new', old[:middle] + c.rng.randbytes(MIB) + old[middle:])
    c.begin(f'100 overwrites of 4 KiB in {mib} MiB')
    c.lines.append('old ' + path)
    for _ in range(100):
        at = c.rng.randrange(len(old) // 4096) * 4096
        old[at:at + 4096] = c.rng.randbytes(4096)
    c.put('new', old)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument('--build', default=os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'build'))
    args.add_argument('--work')
    args.add_argument('--large', type=int, default=1024)
    args = args.parse_args()
    work = tempfile.mkdtemp(prefix='chunker-sizes-', dir=args.work)
    try:
        c = Cases(work)
        for make in (sources, mailbox, documents, image):
            make(c)
        large(c, args.large)
        subprocess.run([os.path.join(args.build, 'bench-chunker-sizes')], input='\n'.join(c.lines).encode() + b'\n', check=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == '__main__':
    main()
