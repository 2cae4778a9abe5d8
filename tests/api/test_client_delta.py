"""Large files that changed a little: what the client sends and fetches is as small as the change."""
import contextlib
import glob
import hashlib
import os
import random
import sqlite3
import subprocess
import time
import types

import pytest
from test_client import SHARE, Device, Lossy, world  # noqa: F401 (a fixture)

pytestmark = pytest.mark.once

MIB = 1 << 20
SIZE = 16 * MIB


class Pair:
    """Two devices with the same large file, and what each moves over the wire."""

    def __init__(self, world, size=SIZE):
        self.wires = [Lossy(world.server.port) for _ in 'ab']
        self.devices = [Device(types.SimpleNamespace(base_url=w.url, env=world.server.env), os.path.join(world.server.dir, 'devices'), n).login()
                        for w, n in zip(self.wires, 'ab')]
        for d in self.devices:
            os.makedirs(d.root)
        self.content = bytearray(os.urandom(size))
        self.write()
        for d in self.devices:
            d.sync()
        assert self.at_b() == self.content
        self.admin = world.server.client('admin@example.com')

    def close(self):
        for w in self.wires:
            w.listener.close()

    def write(self):
        with open(self.devices[0].path('disk.img'), 'wb') as f:
            f.write(self.content)

    def at_b(self):
        with open(self.devices[1].path('disk.img'), 'rb') as f:
            return f.read()

    def move(self):
        """Syncs a, then b: (bytes that a sent, bytes that b got, how a sent it)."""
        for w in self.wires:
            w.sent = w.got = 0
            w.lines.clear()
        self.write()
        for d in self.devices:
            d.sync()
        assert hashlib.sha256(self.at_b()).digest() == hashlib.sha256(self.content).digest()
        ways = {p for p in ('/sync/versions', '/api/v1/files ', '/sync/download/', '/chunks/fetch') for w in self.wires for line in w.lines if p in line}
        return self.wires[0].sent + self.wires[0].got, self.wires[1].sent + self.wires[1].got, ways


@pytest.fixture
def pair(world):  # noqa: F811
    p = Pair(world)
    yield p
    p.close()


def test_an_edit_in_the_middle_is_small(world):  # noqa: F811
    pair = Pair(world, 64 * MIB)
    pair.content[32 * MIB:32 * MIB + 4096] = os.urandom(4096)
    up, down, ways = pair.move()
    assert up < 1.5 * MIB and down < 1.5 * MIB, (up, down)
    assert ways == {'/sync/versions', '/chunks/fetch'}
    pair.close()


def test_edits_that_move_what_is_behind_them(pair):
    # bytes put in, so that all behind them moves; then the end cut off, where nothing new has to be fetched but the last chunk
    pair.content[1000:1000] = os.urandom(10_000)
    up, down, _ = pair.move()
    assert up < 1.5 * MIB and down < 1.5 * MIB, (up, down)
    del pair.content[SIZE // 3:]
    up, down, _ = pair.move()
    assert up < 1.5 * MIB and down < 1.5 * MIB, (up, down)


def test_scattered_edits_are_as_small_as_they_are(pair):
    """In every chunk something changed: what is around it does not travel."""
    for at in range(0, SIZE, 100_000):
        pair.content[at:at + 100] = os.urandom(100)
    up, down, ways = pair.move()
    assert up < SIZE // 20 and down < SIZE // 50 and ways == {'/sync/versions', '/chunks/fetch'}, (up, down, ways)


def test_a_document(world):  # noqa: F811
    pair = Pair(world, 200_000)
    pair.content[100_000:100_010] = b'a sentence more'
    up, down, _ = pair.move()
    assert up < 20_000 and down < 20_000, (up, down)
    pair.close()


def test_many_documents_at_once(pair):
    """More than the server puts together at a time: they wait for their turn instead of going whole."""
    texts = [bytearray(os.urandom(400_000)) for _ in range(12)]

    def write():
        for i, text in enumerate(texts):
            with open(pair.devices[0].path(f'document-{i}'), 'wb') as f:
                f.write(text)
        return pair.move()
    write()
    for text in texts:
        text[200_000:200_000] = b'a sentence more'
    up, down, ways = write()
    assert up < 150_000 and down < 150_000 and '/api/v1/files ' not in ways, (up, down, ways)


def test_another_file_goes_whole(pair):
    pair.content = bytearray(os.urandom(17 * MIB))
    up, down, ways = pair.move()
    assert up > 17 * MIB and down > 17 * MIB and ways == {'/api/v1/files ', '/sync/download/'}


@pytest.mark.parametrize('up_call, down_call', [(b'/sync/versions?', b'/chunks/fetch?'), (b'/chunks?', b'/sync/steps?'), (b'/sync/steps?', b'/sync/steps?')])
def test_what_is_refused_goes_whole(pair, up_call, down_call):
    for w, path in zip(pair.wires, (up_call, down_call)):
        w.twist = (path, path[:-2] + b'X?')  # there is no such call
    for d in pair.devices:
        forget_layouts(d)
    pair.content[SIZE // 2:SIZE // 2 + 4096] = os.urandom(4096)
    up, down, ways = pair.move()
    assert up > SIZE and down > SIZE and {'/api/v1/files ', '/sync/download/'} <= ways


def test_without_signatures_chunks_go(pair):
    pair.wires[0].twist = (b'/chunks/signatures?', b'/chunks/signatureX?')
    pair.content[SIZE // 2:SIZE // 2 + 4096] = os.urandom(4096)
    up, _, ways = pair.move()
    assert 16_000 < up < 600_000 and '/sync/versions' in ways


def layouts(device, change=None):
    """What the device remembers of chunks; change is carried out in its database."""
    path, = glob.glob(os.path.join(device.state, 'roots', '*.db'))
    with contextlib.closing(sqlite3.connect(path)) as db:
        if change:
            db.execute(*change)
            db.commit()
        return db.execute('select version_id, chunks from layouts').fetchall()


def forget_layouts(device):
    layouts(device, ('delete from layouts',))


def test_what_is_remembered_of_chunks(pair):
    """It is kept from change to change without asking, asked for when it is lost, and goes with the file."""
    a, b = pair.devices
    assert len(layouts(a)) == 1 and layouts(a) == layouts(b)
    first = layouts(a)
    pair.content[1000:1000] = os.urandom(10_000)
    pair.move()
    assert layouts(a) == layouts(b) != first
    assert not any('short=true' in line for w in pair.wires for line in w.lines)
    for d in (a, b):
        forget_layouts(d)
    pair.content[SIZE // 2:SIZE // 2 + 10] = os.urandom(10)
    up, down, _ = pair.move()
    assert all(sum('short=true' in line for line in w.lines) == 1 for w in pair.wires) and up < 100_000 and down < 100_000
    os.unlink(a.path('disk.img'))
    a.sync()
    b.sync()
    assert layouts(a) == layouts(b) == []


def test_a_wrong_memory_costs_bytes_alone(pair):
    """What is remembered says that chunks are alike which are not: the whole file goes."""
    for d in pair.devices:
        (_, chunks), = layouts(d)
        at = 12 * 5
        swapped = chunks[:at] + chunks[at:at + 8][::-1] + chunks[at + 8:-12] + chunks[:12]
        layouts(d, ('update layouts set chunks = ?', (swapped,)))
    pair.content[SIZE // 2:SIZE // 2 + 10] = os.urandom(10)
    pair.move()


def test_a_new_file_that_resembles_another(pair):
    """Saved under another name and edited, somewhere below: chunks of the other file are not sent, and not fetched."""
    a, b = pair.devices
    other = pair.content[:]
    other[SIZE // 2:SIZE // 2] = b'a sentence more'
    other[1000:2000] = os.urandom(1000)
    os.makedirs(a.path('a folder'))
    with open(a.path('a folder/Saved as & so on.img'), 'wb') as f:
        f.write(other)
    up, down, ways = pair.move()
    with open(b.path('a folder/Saved as & so on.img'), 'rb') as f:
        assert f.read() == other
    assert up < 100_000 and down < 200_000 and ways == {'/sync/versions', '/chunks/fetch'}, (up, down, ways)
    assert len(layouts(a)) == 2 and sorted(layouts(a)) == sorted(layouts(b))
    # the other file is edited here in the very moment in which a third one arrives that resembles it
    other[5_000_000:5_000_000] = b'more'
    with open(a.path('third'), 'wb') as f:
        f.write(other)
    a.sync()
    for name in ('disk.img', 'a folder/Saved as & so on.img'):
        with open(b.path(name), 'r+b') as f:
            f.write(b'edited here')
    b.sync()
    with open(b.path('third'), 'rb') as f:
        assert f.read() == other


def test_it_is_killed_in_the_middle(pair):
    """Whatever the moment, the next run ends well, and no half of a file is ever in its place."""
    a, b = pair.devices
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2):
        old = hashlib.sha256(pair.content).digest()
        for _ in range(20):
            at = random.randrange(SIZE - 5000)
            pair.content[at:at + 100] = os.urandom(5000)
        pair.write()
        new = hashlib.sha256(pair.content).digest()
        for d in (a, b):
            p = subprocess.Popen(d.command('sync', SHARE, d.root, '--once'), env=d.server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            p.kill()
            p.wait()
            if d is a:
                a.sync()
            assert hashlib.sha256(pair.at_b()).digest() in (old, new)
        b.sync()
        assert pair.at_b() == pair.content and b.names() == ['disk.img']


def test_a_lost_answer(pair):
    """The client does not know whether the steps were taken, and what it does then ends well."""
    pair.content[SIZE // 2:SIZE // 2 + 4096] = os.urandom(4096)
    pair.wires[0].armed.add('/sync/versions')
    pair.write()
    a, b = pair.devices
    a.run('sync', SHARE, a.root, '--once', code=None)
    assert pair.wires[0].lost
    a.sync()
    b.sync()
    assert pair.at_b() == pair.content and sorted(b.names()) == ['disk.img']
