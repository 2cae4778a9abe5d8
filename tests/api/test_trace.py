"""What `scaidrive export-trace` writes of a real folder, `sim --trace` plans again and plays on."""
import collections
import json
import os
import re
import subprocess

import pytest
from device import SHARE, world  # noqa: F401
from support import binary

pytestmark = pytest.mark.once

PLAIN = ('one', 'bit', 'both', 'gone', 'edited-away', 'old-place', 'twin', 'TWIN')


def play(tmp_path, text):
    path = tmp_path / 'trace'
    path.write_text(text)
    return subprocess.run([binary('sim'), '--trace', str(path)], capture_output=True, text=True, timeout=60)


def planned(output):
    """Operations by round: (verb, case)."""
    rounds = []
    for line in output.splitlines():
        if line.startswith('round '):
            rounds.append([])
        elif line.startswith('    '):
            rounds[-1].append((verb, int(re.search(r'; case (\d+)$', line).group(1))))
        elif not line.startswith('sim: '):
            verb = line.split()[0]
    return rounds


def count(operations):
    return collections.Counter(o for o in operations if o[0] not in ('record', 'forget'))


def stopped(world):  # noqa: F811
    """Two devices; the second stopped before it did anything, since it would delete too much."""
    a, b = world.device('a'), world.device('b')
    for name in (*PLAIN, *(f'many/{i}' for i in range(40))):
        a.write(name, f'this is {name}')
    a.sync()
    b.sync()
    a.write('one', 'edited in a')
    a.write('both', 'edited in a')
    os.chmod(a.path('bit'), 0o755)
    os.unlink(a.path('gone'))
    os.unlink(a.path('edited-away'))
    a.write('new/deep/from-a', 'new in a')
    a.sync()
    b.write('both', 'edited in b')
    b.write('edited-away', 'edited in b')
    os.rename(b.path('old-place'), b.path('new-place'))
    b.write('ONE', 'a twin')
    b.write('made/deep/from-b', 'new in b')
    b.write('made/same-bytes', 'this is one')
    for i in range(40):
        os.unlink(b.path(f'many/{i}'))
    b.sync(code=None)
    assert os.path.exists(b.path('gone'))  # nothing was done
    done = b.run('sync', SHARE, b.root, '--dry-run', '--json')
    would = [json.loads(line) for line in done.stdout.splitlines()]
    assert would[-1]['needs_confirmation']
    return b, count((o['operation'], o['case']) for o in would[:-1])


@pytest.mark.parametrize('names', [[], ['--names']])
def test_the_plan_is_the_same_and_ends(world, tmp_path, names):  # noqa: F811
    b, would = stopped(world)
    done = play(tmp_path, b.run('export-trace', b.root, *names).stdout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    rounds = planned(done.stdout)
    all_of_it = count(o for r in rounds for o in r)
    assert len(would) > 8 and would['trash_remote', 9] == 40
    follows = {('fetch', 2): 1, ('send', 3): 1}  # once `both` was set aside, which a dry run does not do
    assert all_of_it == would + collections.Counter(follows), done.stdout
    assert '(name twin)' in done.stdout  # `ONE`, beside `one`: seen from hashes too
    assert 'in step' in done.stdout.splitlines()[-1]


def test_what_is_in_step_stays(world, tmp_path):  # noqa: F811
    a = world.device('a')
    for name in PLAIN:
        a.write(name, name)
    a.sync()
    done = play(tmp_path, a.run('export-trace', a.root).stdout)
    assert done.returncode == 0 and planned(done.stdout) == [], done.stdout + done.stderr


HEAD = '{"trace":1,"names":"plain","next_local_id":-5}\n'
FILE = '{"tree":"remote","id":7,"parent":0,"kind":"file","name":"a","size":1,"version_id":8,"version":1,"executable":false,"content":"0123456789ab"}\n'


BAD = [
    ('', 1, 'empty'),
    ('{"trace":2}\n', 1, 'format 1'),
    (HEAD + '{"tree":\n', 2, ''),
    (HEAD + '[]\n', 2, 'object'),
    (HEAD + '{"tree":"other"}\n', 2, 'none of'),
    (HEAD + FILE + FILE, 3, 'already, in line 2'),
    (HEAD + FILE + FILE.replace(':7,', ':9,'), 2, 'line 3 has the same name'),
    (HEAD + FILE + FILE.replace(':7,', ':9,').replace('"a"', '"A"'), 2, 'taken'),
    (HEAD + FILE.replace('"a"', '"a/b"'), 2, 'not allowed'),
    (HEAD + FILE.replace('"parent":0', '"parent":6'), 2, 'no folder'),
    (HEAD + FILE.replace('"id":7', '"id":9223372036854775807'), 2, 'out of range'),
    (HEAD + FILE.replace('"size":1', '"size":-1'), 2, 'out of range'),
    (HEAD + FILE + FILE.replace('remote', 'local').replace('"file"', '"folder"'), 3, 'another kind'),
    (HEAD.replace('plain', 'hashed') + FILE, 2, '12 hexadecimal'),
    (HEAD + ''.join(FILE.replace(':7,', f':{i},').replace('"a"', f'"{i}"').replace('89ab', f'{i}') for i in range(1000, 6000)), 4089, 'contents'),
]


@pytest.mark.parametrize('text, line, words', BAD, ids=[f'{words}-{line}' for _, line, words in BAD])
def test_what_is_wrong_is_told_by_its_line(tmp_path, text, line, words):
    done = play(tmp_path, text)
    assert done.returncode == 2 and f'trace:{line}: ' in done.stderr and words in done.stderr, done.stderr


def test_lines_of_a_later_program_are_passed_over(tmp_path):
    done = play(tmp_path, HEAD + '{"event":"fetch"}\n{"later":[1]}\n' + FILE)
    assert done.returncode == 0 and planned(done.stdout) == [[('fetch', 2)]], done.stdout + done.stderr
