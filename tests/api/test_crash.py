"""The campaigns of tests/crash, run as they stand: kill -9 of the server and of several clients.

Marked slow: leave them out with -m 'not slow'.
"""
import os
import subprocess
import sys

import pytest
from support import ROOT, Cluster, binary

pytestmark = pytest.mark.slow


def campaign(name, *args, timeout):
    done = subprocess.run([sys.executable, os.path.join(ROOT, 'tests', 'crash', name), '--build', os.path.dirname(os.path.abspath(binary())), *args],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                          env={k: v for k, v in os.environ.items() if not k.startswith('SCAIDRIVE_')})
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:]


def test_kill_server(engine):
    if engine == 'sqlite':
        campaign('kill_server.py', '--rounds', '6', timeout=240)
        return
    name = Cluster.get().create()
    try:
        campaign('kill_server.py', '--rounds', '4', '--database', Cluster.get().url(name), timeout=240)
    finally:
        Cluster.get().drop(name)


def test_clients(engine):
    if engine != 'sqlite':
        pytest.skip('the clients do not see the engine: run once')
    try:
        binary('scaidrive')
    except RuntimeError as e:
        pytest.skip(str(e))
    campaign('clients.py', '--seconds', '60', timeout=420)
