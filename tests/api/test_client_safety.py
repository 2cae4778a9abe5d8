"""What the client does around the planner so that nobody loses a file: guard, trash, restored servers, editors, names."""
import fcntl
import json
import os
import pty
import shutil
import threading
import time
import unicodedata

import pytest
from device import SHARE, status, until, world  # noqa: F401
from support import binary

pytestmark = pytest.mark.once


def fill(device, n, folder='many'):
    for i in range(n):
        device.write(f'{folder}/{i:03}', f'{folder} {i}')


def files(device):
    return sorted(os.path.relpath(os.path.join(top, f), device.root) for top, _, names in os.walk(device.root)
                  if '.scaidrive' not in top for f in names)


# ---- the guard ----

def test_many_deletions_here_wait_for_a_word(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    fill(a, 30)
    a.sync()
    b.sync()
    shutil.rmtree(a.path('many'))
    _, err = a.sync(code=5)
    assert 'scaidrive confirm' in err and '31 items on the server' in err
    assert status(a)['held'] == {'deletes_on_server': 31, 'deletes_here': 0} and 'Stopped' in status(a)['problem']
    done = json.loads(a.run('sync', SHARE, a.root, '--dry-run', '--json').stdout.splitlines()[-1])
    assert done['needs_confirmation'] and done['deletes_on_server'] == 31
    a.sync(code=5)
    assert not [e for e in b.sync()[0] if e['event'] != 'settled']
    assert '31 items' in a.run('confirm', a.root).stdout
    a.write('another', 'x')
    a.sync()
    assert status(a)['held'] == {'deletes_on_server': 0, 'deletes_here': 0} and status(a)['problem'] is None
    assert 'Nothing waits' in a.run('confirm', a.root).stdout
    fill(a, 30)
    a.sync()
    shutil.rmtree(a.path('many'))
    a.sync(code=5)  # the word was used up


def test_many_deletions_there_wait_for_a_word_too(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    fill(a, 30)
    a.sync()
    b.start()
    until(lambda: os.path.isdir(b.root) and len(files(b)) == 30)
    shutil.rmtree(a.path('many'))
    a.sync(0, '--allow-mass-delete')
    until(lambda: status(b)['held']['deletes_here'] >= 30)
    assert len(files(b)) == 30 and b.daemon.poll() is None and '"event":"held"' in b.log()
    b.write('meanwhile', 'kept')
    b.run('confirm', b.root)
    until(lambda: files(b) == ['meanwhile'])
    until(lambda: status(b)['problem'] is None and status(b)['held']['deletes_here'] == 0)
    a.sync()
    assert files(a) == ['meanwhile']
    assert len(json.loads(b.run('trash', 'list', b.root, '--json').stdout)) == 30


def test_more_than_was_confirmed_asks_again(world):  # noqa: F811
    a = world.device('a')
    fill(a, 40)
    a.sync()
    for i in range(25):
        os.unlink(a.path(f'many/{i:03}'))
    a.sync(code=5)
    a.run('confirm', a.root)
    os.unlink(a.path('many/030'))
    _, err = a.sync(code=5)
    assert '26 items' in err


def test_a_word_is_for_what_it_was_asked_about(world):  # noqa: F811
    a = world.device('a')
    fill(a, 40)
    a.sync()
    os.rename(a.path('many/000'), a.root + '.aside')
    for i in range(1, 25):
        os.unlink(a.path(f'many/{i:03}'))
    a.sync(code=5)
    a.run('confirm', a.root)
    os.rename(a.root + '.aside', a.path('many/000'))
    os.unlink(a.path('many/030'))
    _, err = a.sync(code=5)  # as many as before, but others
    assert '25 items' in err
    a.run('confirm', a.root)
    a.sync()
    assert len(files(a)) == 15


def test_two_processes(world):  # noqa: F811
    """The second one does not come so far as to write what is known about the folder."""
    a = world.device('a')
    fill(a, 3)
    a.sync()
    known = [os.path.join(top, n) for top, _, names in os.walk(a.state) for n in names if n.endswith('.db')]
    assert len(known) == 1
    with open(known[0][:-3] + '.lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, err = a.sync(code=None)
        assert 'Another process is syncing' in err
    a.sync()


def test_a_word_does_not_outlive_what_it_was_given_for(world):  # noqa: F811
    a = world.device('a')
    fill(a, 30)
    a.sync()
    shutil.rmtree(a.path('many'))
    a.sync(code=5)
    a.run('confirm', a.root)
    fill(a, 30)  # put back: nothing is to be deleted any more
    a.sync()
    shutil.rmtree(a.path('many'))
    a.sync(code=5)


# ---- the trash ----

def trash(device):
    return json.loads(device.run('trash', 'list', device.root, '--json').stdout)


def test_trash(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('folder/one', 'content of one')
    a.write('two', '2')
    a.write('three', '3')
    a.sync()
    b.sync()
    shutil.rmtree(a.path('folder'))
    os.unlink(a.path('two'))
    a.sync()
    b.sync()
    assert files(b) == ['three']
    today = trash(b)[0]['entry'].split('/')[0]
    assert trash(b) == [{'entry': f'{today}/folder/one', 'size': 14}, {'entry': f'{today}/two', 'size': 1}]
    b.run('trash', 'restore', b.root, f'{today}/folder/one')
    b.write('two', 'another')
    assert 'two (restored)' in b.run('trash', 'restore', b.root, f'{today}/two').stdout
    b.run('trash', 'restore', b.root, f'{today}/two', code=1)
    b.run('trash', 'restore', b.root, '../../three', code=1)
    b.run('trash', 'forget', b.root, code=2)
    assert trash(b) == [] and b.read('folder/one') == 'content of one' and b.read('two (restored)') == '2'
    b.sync()
    a.sync()
    assert files(a) == files(b) == ['folder/one', 'three', 'two', 'two (restored)']


def test_trash_is_emptied_by_age_and_size(world):  # noqa: F811
    a = world.device('a')
    a.write('kept', 'x')
    a.sync()
    old, young = time.strftime('%Y-%m-%d', time.gmtime(time.time() - 31 * 86400)), time.strftime('%Y-%m-%d', time.gmtime(time.time() - 29 * 86400))
    for day in (old, young):
        a.write(f'.scaidrive/trash/{day}/folder/file', 'x' * 700000)
        a.write(f'.scaidrive/trash/{day}/other', 'x' * 700000)
    a.sync()
    assert [t['entry'] for t in trash(a)] == [f'{young}/folder/file', f'{young}/other']
    assert os.listdir(a.path('.scaidrive/trash')) == [young]
    world.server.env['SCAIDRIVE_TRASH_MB'] = '1'
    a.sync()
    assert [t['entry'] for t in trash(a)] == [f'{young}/other']
    world.server.env['SCAIDRIVE_TRASH_MB'] = 'much'
    assert 'trash_mb' in a.run('status', code=2).stderr
    del world.server.env['SCAIDRIVE_TRASH_MB']
    a.write(f'.scaidrive/trash/{young}/void', '')
    a.run('trash', 'empty', a.root)
    assert trash(a) == [] and files(a) == ['kept']


# ---- a server that was restored from a backup ----

def restored(world, change):  # noqa: F811
    """The server's folder as it was before `change`."""
    s, copy = world.server, world.server.data + '.backup'
    s.stop()
    shutil.copytree(s.data, copy)
    s.start()
    change()
    s.stop()
    shutil.rmtree(s.data)
    os.rename(copy, s.data)
    s.start()


@pytest.mark.skipif(os.environ.get('SCAIDRIVE_TEST_DB') == 'postgresql', reason='the backup is a copy of the folder')
@pytest.mark.parametrize('running', [False, True])
def test_a_restored_server_costs_nothing_that_is_newer(world, running):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('old', 'old')
    a.write('edited later', 'before')
    a.write('deleted later', 'gone')
    a.write('moved later', 'moves')
    a.sync()
    b.sync()

    def go_on():
        a.write('made later', 'new')
        a.write('folder later/in it', 'new too')
        a.write('edited later', 'after')
        os.unlink(a.path('deleted later'))
        os.rename(a.path('moved later'), a.path('moved'))
        a.sync()
        b.sync()
        assert files(a) == files(b)
        if running:
            a.start()
            b.start()
            time.sleep(1)
    restored(world, go_on)
    newer = {'old': 'old', 'edited later': 'after', 'made later': 'new', 'folder later/in it': 'new too', 'moved': 'moves'}

    def contents(d):
        return {name: d.read(name) for name in files(d)}
    if running:
        until(lambda: all(set(newer.items()) <= set(contents(d).items()) for d in (a, b)) and contents(a) == contents(b)
              and status(a)['problem'] is None and status(b)['problem'] is None, 40)
        time.sleep(1)
        a.stop()
        b.stop()
    for _ in range(2):
        a.sync(None)
        b.sync(None)
    assert contents(a) == contents(b)
    for name, text in newer.items():
        assert text in contents(a).values(), (name, contents(a))
    assert contents(a).get('made later') == 'new' and contents(a).get('folder later/in it') == 'new too'
    assert not [e for e in a.sync()[0] if e['event'] != 'settled']
    c = world.device('c')
    c.sync()
    assert contents(c) == contents(a)


@pytest.mark.skipif(os.environ.get('SCAIDRIVE_TEST_DB') == 'postgresql', reason='the backup is a copy of the folder')
def test_an_older_state_folder_loses_nothing(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('one', '1')
    a.sync()
    shutil.copytree(a.state, a.state + '.old')
    a.write('one', '1 edited')
    a.write('two', '2')
    a.sync()
    b.sync()
    b.write('three', '3')
    b.sync()
    a.sync()
    identity = a.identity()
    shutil.rmtree(a.state)
    os.rename(a.state + '.old', a.state)
    a.identity(token=identity.token, refresh_token=identity.refresh_token)
    a.sync()
    b.sync()
    assert files(a) == files(b) == ['one', 'three', 'two'] and a.read('one') == '1 edited'


# ---- editors ----

def versions(world, name):  # noqa: F811
    admin = world.server.client('admin@example.com')
    share = [s for s in admin.ok('GET', '/api/v1/users/me/shares')['shares'] if s['name'] == SHARE][0]['id']
    node = [f for f in admin.ok('GET', '/api/v1/sync/snapshot', params={'share_id': share})['nodes'] if f['name'] == name]
    assert len(node) == 1
    return node[0]['id'], node[0]['version']


def in_place(path, text):
    with open(path, 'w') as f:
        f.write(text)


def temp_and_rename(path, text):
    in_place(path + '.tmp', text)
    os.rename(path + '.tmp', path)


def backup_swap(path, text):
    os.rename(path, path + '~')
    in_place(path, text)
    os.unlink(path + '~')


def office(path, text):
    """A new file is written, the old one moved aside, the new one takes its name, the old one goes; a lock file all the while."""
    folder, name = os.path.split(path)
    in_place(os.path.join(folder, '~$' + name), 'lock')
    in_place(os.path.join(folder, 'A1B2.tmp'), text)
    os.rename(path, os.path.join(folder, 'C3D4.tmp'))
    os.rename(os.path.join(folder, 'A1B2.tmp'), path)
    os.unlink(os.path.join(folder, 'C3D4.tmp'))
    os.unlink(os.path.join(folder, '~$' + name))


def unlink_and_write(path, text):
    os.unlink(path)
    in_place(path, text)


@pytest.mark.parametrize('save', [in_place, temp_and_rename, backup_swap, office, unlink_and_write])
def test_saving_is_one_new_version_of_the_same_file(world, save):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('doc', 'first')
    a.sync()
    b.sync()
    node, version = versions(world, 'doc')
    for i in range(3):
        save(a.path('doc'), f'edit {i}')
        events, _ = a.sync()
        assert [e['event'] for e in events if e.get('ok')] == ['send_version'], events
    assert versions(world, 'doc') == (node, version + 3)
    b.sync()
    assert files(b) == ['doc'] and b.read('doc') == 'edit 2'


STILL_S = 0.025  # less than what the client asks for before it trusts a file


def test_a_file_that_is_being_written_is_never_torn(world):  # noqa: F811
    """Each state of the file is one letter, repeated. No version is a mixture, but of a save in which the editor itself paused for so
    long that nobody can tell it from the end."""
    a = world.device('a')
    a.write('growing', 'a' * 300000)
    a.sync()
    a.start()
    end = threading.Event()
    paused = set()  # "cb": while the c's were written over the b's

    def write():
        before, i = b'a', 0
        while not end.is_set():
            i += 1
            with open(a.path('growing'), 'r+b', buffering=0) as f:
                letter, last = bytes([98 + i % 20]), time.monotonic()
                for piece in range(30):
                    f.write(letter * 10000)
                    if piece and time.monotonic() - last > STILL_S:
                        paused.add(letter + before)
                    last = time.monotonic()
                    time.sleep(0.001)
                before = letter
            time.sleep(0.12 if i % 5 == 0 else 0)
    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(4)
    end.set()
    writer.join()
    admin = world.server.client('admin@example.com')
    last = a.read('growing').encode()
    until(lambda: admin.content(versions(world, 'growing')[0]) == last)
    node, count = versions(world, 'growing')
    assert count >= 2, 'it was never still for long enough; the test proves nothing'
    for version in range(1, count + 1):
        content = admin.content(node, params={'version': version})
        letters = bytes(dict.fromkeys(content))
        assert len(content) == 300000 and (len(letters) == 1 or letters in paused), (version, letters, paused)


# ---- names ----

def test_forms_of_one_name(world):  # noqa: F811
    """A name in the other Unicode form is the same name: no deletion, no second file, no end of renaming."""
    nfc, nfd = unicodedata.normalize('NFC', 'Mü\u00e9.txt'), unicodedata.normalize('NFD', 'Mü\u00e9.txt')
    a, b = world.device('a'), world.device('b')
    a.write(nfc, '1')
    a.sync()
    b.sync()
    node = versions(world, nfc)[0]
    os.rename(b.path(nfc), b.path(nfd))  # as a disk that normalises shows it
    b.sync()
    a.sync()
    assert len(files(a)) == len(files(b)) == 1
    for d in (a, b):
        assert not [e for e in d.sync()[0] if e['event'] != 'settled']
    b.write(files(b)[0], 'edited')
    b.sync()
    a.sync()
    assert a.read(files(a)[0]) == 'edited' and versions(world, unicodedata.normalize('NFC', files(a)[0]) if
                                                         files(a)[0] != nfd else nfd)[0] == node


def test_case_twins_live_side_by_side(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('Report', 'upper')
    a.write('report', 'lower')
    a.sync()
    b.sync()
    assert files(a) == ['Report', 'report'] and sorted(b.read(n) for n in files(b)) == ['lower', 'upper']
    for d in (a, b):
        assert not [e for e in d.sync()[0] if e['event'] != 'settled']
    a.write('report', 'lower edited')
    a.sync()
    b.sync()
    assert sorted(b.read(n) for n in files(b)) == ['lower edited', 'upper']
    os.rename(a.path('Report'), a.path('rEPORT'))
    a.sync()
    b.sync()
    assert files(a) == ['rEPORT', 'report'] and len(files(b)) == 2


def test_what_cannot_be_synced_is_told_and_kept(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('fine', 'x')
    bad = os.fsencode(a.root) + b'/bad \xff name'
    with open(bad, 'wb') as f:
        f.write(b'kept')
    a.write('line\nbreak', 'kept too')
    os.symlink('fine', a.path('link'))
    os.mkfifo(a.path('pipe'))
    events, _ = a.sync(None)
    told = [p['detail'] for p in events[-1]['problems']]
    assert len(told) == 4 and sum('cannot be synced' in t for t in told) == 2 and sum('not synced' in t for t in told) == 2
    b.sync()
    assert files(b) == ['fine'] and os.path.exists(bad) and a.read('line\nbreak') == 'kept too'


def test_a_terminal_gets_no_control_characters(tmp_path):
    """A name may hold what a terminal obeys (ESC, BEL, C1 as UTF-8): there it is printed as question marks."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(binary('scaidrive'), ['scaidrive', '--state', str(tmp_path), 'no\x1b]0;x\x07\x9bsuch'])
    out = b''
    while True:
        try:
            more = os.read(fd, 1000)
        except OSError:  # how a terminal says that nobody is there any more
            break
        if not more:
            break
        out += more
    os.waitpid(pid, 0)
    assert b'no?]0;x?' in out and b'such' in out
    assert b'\x1b' not in out and b'\x07' not in out and b'\xc2\x9b' not in out
