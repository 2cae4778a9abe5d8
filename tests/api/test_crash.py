"""The campaign that kills the server, on PostgreSQL. On SQLite it is a step of its own (tests/all.py)."""
import os
import subprocess
import sys

import pytest
from support import ROOT, Cluster, binary


def test_kill_server(engine):
    if engine == 'sqlite':
        pytest.skip('a step of its own')
    name = Cluster.get().create()
    try:
        done = subprocess.run([sys.executable, os.path.join(ROOT, 'tests', 'crash', 'kill_server.py'), '--rounds', '4',
                               '--build', os.path.dirname(os.path.abspath(binary())), '--database', Cluster.get().url(name)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
                              env={k: v for k, v in os.environ.items() if not k.startswith('SCAIDRIVE_')})
        assert done.returncode == 0, done.stdout[-4000:]
    finally:
        Cluster.get().drop(name)
