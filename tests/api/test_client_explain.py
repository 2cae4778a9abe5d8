"""The client explains itself: what it would do, what it did and why, and a trace without content."""
import json
import os
import shutil
import subprocess
import time

import pytest
from device import SHARE, status, until, world  # noqa: F401

pytestmark = pytest.mark.once


def would(device, *more):
    done = device.run('sync', SHARE, device.root, '--dry-run', '--json', *more)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]['event'] == 'dry_run'
    return lines[:-1], lines[-1]


def everything(device):
    """All that a dry run must not touch: the folder, its memory, the log on the server."""
    found = {}
    for top, folders, files in os.walk(device.root):
        for name in folders + files:
            st = os.lstat(os.path.join(top, name))
            found[os.path.join(top, name)] = (st.st_ino, st.st_mtime_ns, st.st_size)
    folders = json.loads(device.run('status', '--json').stdout)['folders']
    return found, folders


def test_a_dry_run_changes_nothing_and_tells_all(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('folder/deep/file', 'x')
    a.write('one', '1')
    before = everything(a)
    items, end = would(a)
    assert [(i['operation'], i['path']) for i in items] == [('make_remote', 'folder'), ('make_remote', 'folder/deep'), ('send', 'one'),
                                                            ('send', 'folder/deep/file')]
    assert not end['in_step'] and end['operations'] == 4 and everything(a) == before and '.scaidrive' not in os.listdir(a.root)
    assert would(b)[1]['in_step'] and not os.path.exists(b.root)
    a.sync()
    items, _ = would(b)
    assert {i['operation'] for i in items} == {'make_local', 'fetch'} and len(items) == 4 and not os.path.exists(b.root)
    b.sync()
    b.write('one', '1 edited')
    os.rename(b.path('folder/deep'), b.path('deeper'))
    before = everything(b)
    items, _ = would(b)
    assert [(i['operation'], i['path'], i['case']) for i in items] == [('move_remote', 'deeper', 10), ('send_version', 'one', 3)]
    assert everything(b) == before
    assert 'move it on the server' in b.run('sync', SHARE, b.root, '--dry-run').stdout
    assert would(a)[1]['in_step']
    b.sync()
    items, _ = would(a)
    assert [i['operation'] for i in items] == ['move_local', 'fetch']
    assert all('change ' in i['why'] and 'by usr_' in i['why'] and 'case' in i['why'] for i in items)
    assert [e['event'] for e in a.sync()[0]] == ['move_local', 'fetch', 'settled']  # the same, this time for good


def test_a_dry_run_beside_a_daemon(world):  # noqa: F811
    a = world.device('a').start()
    until(lambda: os.path.isdir(a.root))
    a.write('one', '1')
    until(lambda: status(a)['items'] == 1)
    assert would(a)[1]['in_step'] and a.daemon.poll() is None


def opened(pid):
    """What the process has open, and what it started."""
    with open(f'/proc/{pid}/task/{pid}/children', encoding='ascii') as f:
        pids = [str(pid), *f.read().split()]
    return {os.path.realpath(f'/proc/{p}/fd/{fd}') for p in pids for fd in os.listdir(f'/proc/{p}/fd')}


def test_a_dry_run_that_a_sync_overtakes(world):  # noqa: F811
    """It has loaded the state when somebody writes a later one, and then the folder's marker."""
    a = world.device('a')
    a.write('one', '1')
    a.sync()
    held = ['strace', '-f', '-qq', '-o', os.devnull, '-P', 'id', '-e', 'trace=openat', '-e', 'inject=openat:delay_enter=4s:when=1']
    env = {**os.environ, 'ASAN_OPTIONS': 'detect_leaks=0'}  # its search for leaks does not bear to be traced
    command = [*held, *a.command('sync', SHARE, a.root, '--dry-run', '--json')]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as slow:
        until(lambda: any(name.endswith('.db-wal') for name in opened(slow.pid)))
        time.sleep(0.3)
        a.sync()
        assert slow.poll() is None
        out, err = slow.communicate(timeout=30)
    assert slow.returncode == 0, (slow.returncode, err)
    assert json.loads(out.splitlines()[-1])['in_step'] and b'copy' not in err


def test_a_dry_run_of_another_states_folder(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('one', '1')
    a.sync()
    done = b.run('sync', SHARE, a.root, '--dry-run', '--json')  # a sync would take it over
    assert 'copy' not in done.stderr and json.loads(done.stdout.splitlines()[-1])['problems'] == []
    marker = os.path.join(a.root, '.scaidrive', 'id')
    with open(marker, encoding='utf-8') as f:
        lines = f.read().split('\n')
    for i, other in ((0, 'somebody'), (1, 'shr_another')):
        lines[i] = other
        with open(marker, 'w', encoding='utf-8') as f:
            f.write('\n'.join(lines))
        for device in (a, b)[:i + 1]:
            done = device.run('sync', SHARE, a.root, '--dry-run', code=1)
            assert 'by another state folder' in done.stderr and 'a copy' not in done.stderr
    assert a.run('sync', SHARE, a.root, '--once', code=1).stderr.count('by another state folder') == 1


def why(device, name):
    return json.loads(device.run('why', device.path(name), '--json').stdout)


def test_why(world):  # noqa: F811
    a, b = world.device('a'), world.device('b')
    a.write('one', '1')
    a.sync()
    b.sync()
    a.write('one', 'edited in a')
    b.write('one', 'edited in b')
    a.sync()
    b.sync()
    copy = [n for n in b.names() if n != 'one']
    assert len(copy) == 1
    assert [e['operation'] for e in why(a, 'one')] == ['send', 'send_version'] and why(a, 'one')[0]['id'].startswith('fil_')
    told = why(b, 'one')
    assert told[0]['operation'] == 'fetch' and any(e['case'] == 5 for e in told) and all(e['ok'] for e in told)
    assert any(e['case'] == 5 for e in why(b, copy[0])) or any(e['operation'] == 'send' for e in why(b, copy[0]))
    os.rename(a.path('one'), a.path('two'))
    a.sync()
    assert [e['operation'] for e in why(a, 'two')] == ['send', 'send_version', 'move_remote']  # by the node, whatever its name was
    os.unlink(a.path('two'))
    a.sync()
    assert why(a, 'two')[-1]['operation'] == 'trash_remote' and 'deleted locally' in why(a, 'two')[-1]['why']
    assert why(a, 'never') == [] and len(why(a, '')) >= 4
    a.run('why', '/nowhere', code=2)
    assert 'Nothing is recorded' in a.run('why', a.path('never')).stdout
    shutil.rmtree(a.root)
    assert why(a, 'two')  # also when nothing of it is left


def test_a_trace_has_no_content_and_no_names(world):  # noqa: F811
    a = world.device('a')
    a.write('secret-folder/secret-name.txt', 'secret-content')
    a.write('twin', '1')
    a.write('TWIN', '2')
    a.sync()
    text = a.run('export-trace', a.root).stdout
    assert 'secret' not in text and 'twin' not in text.lower()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0]['trace'] == 1 and lines[0]['names'] == 'hashed'
    local = [x for x in lines if x.get('tree') == 'local']
    assert len(local) == 4 and {x['tree'] for x in lines if 'tree' in x} == {'local', 'remote', 'synced'}
    twins = [x for x in local if [y['key'] for y in local].count(x['key']) == 2]
    assert len(twins) == 2 and twins[0]['name'] != twins[1]['name']
    assert len([x for x in lines if x.get('event') == 'send' and x['ok']]) == 3
    assert 'secret-name.txt' in a.run('export-trace', a.root, '--names').stdout
    assert a.run('export-trace', a.root).stdout != text  # another key each time
