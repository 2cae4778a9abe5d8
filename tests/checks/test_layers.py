"""The check of the layers can fail: each kind of wrong arrow is noticed, and the tree itself is clean."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import layers  # noqa: E402

GOOD = {
    'base/str.h': '',
    'io/file.h': '#include "base/str.h"\n',
    'drive/node.h': '#include "base/str.h"\n#include <stdio.h>\n',
    'http/server.h': '#include "drive/node.h"\n',
    'http/server_priv.h': '',
    'features/wire.h': '#include "drive/node.h"\n',
    'features/files/files.h': '#include "features/wire.h"\n#include "http/server.h"\n',
}
BAD = [
    ('base/str.c', '#include "io/file.h"\n', 'base/ may not know io/'),
    ('drive/node.c', '#include "http/server.h"\n', 'drive/ may not know http/'),
    ('drive/node.c', '#include "api.h"\n', 'drive/ may not include api.h'),
    ('features/links/links.c', '#include "features/files/files.h"\n', 'a feature may not know another'),
    ('client/agent.c', '#include "drive/node.h"\n', 'client/ may not know drive/'),
    ('features/files/files.c', '#include "http/server_priv.h"\n', 'private to its folder'),
    ('drive/token.c', '#include <jansson.h>\n', 'alone'),
    ('base/x.c', '#include "str.h"\n', 'is not in src/'),
    ('odd/x.c', '', 'is not a layer'),
    ('io/long.h', '\n' * 300, 'two jobs'),
]


def tree(path, extra):
    for name, text in (GOOD | extra).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return layers.check(str(path))


def test_a_good_tree_passes(tmp_path):
    assert tree(tmp_path, {}) == []


@pytest.mark.parametrize('path,text,why', BAD, ids=[b[2] for b in BAD])
def test_a_wrong_arrow_is_noticed(tmp_path, path, text, why):
    faults = tree(tmp_path, {path: text})
    assert len(faults) == 1 and why in faults[0], faults


def test_this_tree():
    assert layers.check(os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), 'src')) == []
