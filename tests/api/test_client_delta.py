"""Large files that changed a little: what the client sends and fetches is as small as the change."""
import hashlib
import os
import types

import pytest
from test_client import SHARE, Device, Lossy, world  # noqa: F401 (a fixture)

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


def test_another_file_goes_whole(pair):
    pair.content = bytearray(os.urandom(8 * MIB))
    up, down, ways = pair.move()
    assert up > 8 * MIB and down > 8 * MIB and ways == {'/api/v1/files ', '/sync/download/'}


def test_what_is_refused_goes_whole(pair):
    for w, path in zip(pair.wires, (b'/sync/versions?', b'/chunks/fetch?')):
        w.twist = (path, path[:-2] + b'X?')  # there is no such call
    pair.content[SIZE // 2:SIZE // 2 + 4096] = os.urandom(4096)
    up, down, ways = pair.move()
    assert up > SIZE and down > SIZE and {'/api/v1/files ', '/sync/download/'} <= ways


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
