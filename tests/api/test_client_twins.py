"""Content that is known on the other side does not travel: copies of files, and what comes back."""
import hashlib
import os
import shutil
import time

import pytest
from test_client import world  # noqa: F401 (a fixture)
from test_client_delta import MIB, Pair

pytestmark = pytest.mark.once


@pytest.fixture
def pair(world):  # noqa: F811
    p = Pair(world, 3 * MIB)
    os.makedirs(p.devices[0].path('small'))
    for i in range(40):
        with open(p.devices[0].path(f'small/{i}'), 'wb') as f:
            f.write(os.urandom(3000 + i))
    p.move()
    yield p
    p.close()


def tree(device):
    found = {}
    for at, folders, files in os.walk(device.root):
        folders[:] = [f for f in folders if f != '.scaidrive']
        for name in files:
            with open(os.path.join(at, name), 'rb') as f:
                found[os.path.relpath(os.path.join(at, name), device.root)] = hashlib.sha256(f.read()).hexdigest()
    return found


def moved(pair):
    """Both in step; the bytes and the calls that it took on either wire."""
    for w in pair.wires:
        w.sent = w.got = 0
        w.lines.clear()
    for d in pair.devices:
        d.sync()
    assert tree(pair.devices[0]) == tree(pair.devices[1])
    return [w.sent + w.got for w in pair.wires], [[line.split()[1].split('?')[0] for line in w.lines if ' HTTP/1.1' in line] for w in pair.wires]


def test_a_copy_sends_and_fetches_nothing(pair):
    a = pair.devices[0]
    shutil.copyfile(a.path('small/7'), a.path('small/8'))  # over another's content
    shutil.copytree(a.path('small'), a.path('small again'))
    shutil.copyfile(a.path('disk.img'), a.path('disk again.img'))
    (up, down), calls = moved(pair)
    assert up < 80_000 and down < 80_000, (up, down, calls)
    assert '/api/v1/sync/chunks' not in calls[0] and '/api/v1/files' not in calls[0], calls[0]
    assert '/api/v1/sync/chunks/fetch' not in calls[1] and not any('/sync/download/' in c for c in calls[1]), calls[1]


def test_a_twin_that_changed_meanwhile_is_not_used(pair):
    """The device that receives a copy has edited the file that it would be made from."""
    a, b = pair.devices
    shutil.copyfile(a.path('disk.img'), a.path('disk again.img'))
    shutil.copytree(a.path('small'), a.path('small again'))
    a.sync()
    for name in ('disk.img', 'small/3'):  # of the same length, and with the same time
        times = os.stat(b.path(name))
        with open(b.path(name), 'r+b') as f:
            f.write(b'edited here')
        os.utime(b.path(name), ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(b.path('small again'), ignore_errors=True)
    b.sync()
    a.sync()
    assert tree(a) == tree(b)
    assert tree(a)['disk again.img'] == hashlib.sha256(pair.content).hexdigest()
    with open(a.path('disk.img'), 'rb') as f:
        assert f.read(11) == b'edited here'


def test_a_twin_that_the_server_refuses_is_sent(pair):
    a = pair.devices[0]
    pair.wires[0].twist = (b'"source_version_id":"ver_0', b'"source_version_id":"ver_1')  # there is no such version
    shutil.copyfile(a.path('small/5'), a.path('small/5 again'))
    (up, _), calls = moved(pair)
    assert calls[0].count('/api/v1/sync/apply') == 1 and '/api/v1/files' in calls[0] and up > 3000, calls[0]


def test_a_stale_edit_does_not_hold_up_the_others(pair):
    """Of forty edits that go together one is made on both sides: it alone waits for the next round."""
    a, b = pair.devices

    def edit(device, *names):
        for name in names:
            with open(device.path(f'small/{name}'), 'wb') as f:
                f.write(os.urandom(3000))

    def edit_there():
        edit(b, 7)
        b.sync()
    edit(a, *range(40))
    pair.wires[0].meanwhile = ('/api/v1/sync/apply', edit_there)
    _, calls = moved(pair)
    assert pair.wires[0].meanwhile is None
    assert 5 < calls[0].count('/api/v1/sync/apply') < 20, calls[0]  # it is looked for by halves
    a.sync()
    assert tree(a) == tree(b) and len(os.listdir(a.path('small'))) == 41


def test_text_travels_packed(pair):
    """New files, then edits of them, many at a time; and a text that does not shrink among them."""
    a = pair.devices[0]
    os.makedirs(a.path('text'))
    for round_no in range(2):
        for i in range(60):
            with open(a.path(f'text/{i}'), 'wb') as f:
                f.write(b'line %d of file %d of round %d\n' % (7, i, round_no) * 1500 if i % 7 else os.urandom(2000))
        time.sleep(0.1)  # what was written this very moment is looked at again, and goes in another call
        (up, down), calls = moved(pair)
        assert 18_000 < up < 200_000 and 18_000 < down < 200_000, (up, down)
        assert '/api/v1/files' not in calls[0] and calls[0].count('/api/v1/sync/chunks') == 1, calls
