"""The check of the text can fail: each kind of fault is noticed, and the tree itself is clean."""
import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests'))
import tidy  # noqa: E402

BAD = [
    ('src/base/a.c', 'int f(void); /* TODO: f */\n', 'is unfinished'),
    ('src/base/a.c', '\tsprintf(text, "%d", n);\n', 'is not used here'),
    ('src/base/a.c', '\treturn atoi (text);\n', 'is not used here'),
    ('docs/a.md', 'cd /home/ada/scaidrive\n', 'is a path of one machine'),
    ('src/base/a.h', '\n' * 301, 'two jobs'),
    ('tests/a.py', '\n' * 1001, 'two jobs'),
]
GOOD = '\tsnprintf(text, sizeof text, "/folders/root/children"); /* snprintf( is fine, and so is gets_some( */\n'


@pytest.mark.parametrize('path,text,why', BAD, ids=[f'{n}-{b[2]}' for n, b in enumerate(BAD)])
def test_a_fault_is_noticed(tmp_path, path, text, why):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    faults = tidy.check(str(tmp_path))
    assert len(faults) == 1 and why in faults[0], faults


def test_a_good_file_passes(tmp_path):
    (tmp_path / 'src').mkdir()
    (tmp_path / 'src' / 'a.c').write_text(GOOD)
    assert tidy.check(str(tmp_path)) == []


def test_this_tree():
    assert tidy.check(ROOT) == []
