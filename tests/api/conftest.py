"""Fixtures for black-box tests of the real server.

One server for the whole session and engine (SCAIDRIVE_TEST_DB = sqlite | postgresql), with these people:
  admin  administrator of the tenant "default"        alice, bob   ordinary users
  eve    ordinary user, member of nothing             other        administrator of the tenant "other"
Every test makes its own share (fixture `share`, owned by alice), so tests do not meet. For settings, restarts and
kill -9: `private_server(settings={...})`.
"""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from support import PASSWORD, Api, Cluster, Server  # noqa: E402

PEOPLE = ('alice', 'bob', 'eve')
TAKEN = os.environ.get('SCAIDRIVE_TEST_TAKEN')
OURS = set()  # of the files, those taken by this process


def pytest_configure(config):
    config.addinivalue_line('markers', 'once(engine): does not meet the database; runs on that one alone, SQLite if it is not said. '
                                       './test runs SQLite with the sanitizers and PostgreSQL without')


def pytest_collection_modifyitems(config, items):
    here = os.environ.get('SCAIDRIVE_TEST_DB', 'sqlite')

    def elsewhere(item):
        once = item.get_closest_marker('once')
        return once and here != (once.args or ('sqlite',))[0]
    config.hook.pytest_deselected(items=[i for i in items if elsewhere(i)])
    items[:] = [i for i in items if not elsewhere(i)]
    if TAKEN:
        with open(os.path.join(TAKEN, 'collected'), 'w') as f:
            f.write(str(len(items)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    """With SCAIDRIVE_TEST_TAKEN, an empty folder, several processes share the work: a file is done by the one that takes it."""
    if TAKEN and item.path not in OURS:
        try:
            os.close(os.open(os.path.join(TAKEN, item.path.stem), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return True  # dealt with: elsewhere
        OURS.add(item.path)
    return None


def populate(server):
    server.init()
    for person in PEOPLE:
        server.add_user(f'{person}@example.com', name=person.capitalize())
    server.add_tenant('other', 'admin@other.example')
    return server


@pytest.fixture(scope='session')
def server():
    s = populate(Server()).start()
    yield s
    s.close()


@pytest.fixture(scope='session')
def patterns():
    """A function: patterns(people) -> a server that never runs, with the people of populate() or its administrator alone.
    Private servers are copies, which spares each half a second of processor time."""
    made = {}

    def get(people):
        if people not in made:
            s = made[people] = Server()
            populate(s) if people else s.init()
            s.cheap_sign_in()
        return made[people]

    yield get
    for s in made.values():
        s.close()


@pytest.fixture
def private_server(patterns):
    """A function: private_server(settings=None, people=True, start=True, fresh=False, SCAIDRIVE_X=..., **more) -> Server, closed
    after the test. Names in capitals go into its environment. It is a copy, so all with people, and all without, have the same
    signing key, and a password that costs nothing to compare; a fresh one is made here and now, without people."""
    made = []

    def make(settings=None, people=True, start=True, fresh=False, **more):
        env = {name: more.pop(name) for name in list(more) if name.isupper()}
        s = Server(settings, env=env, pattern=None if fresh else patterns(people), **more)
        made.append(s)
        if fresh:
            s.init()
        return s.start() if start else s

    yield make
    for s in made:
        s.close()


@pytest.fixture(autouse=True)
def devices_end():
    yield
    Api.forget_devices()


@pytest.fixture(scope='session', autouse=True)
def cluster_end():
    yield
    Cluster.shut()


def person(name, email):
    @pytest.fixture(scope='session', name=name)
    def fixture(server):
        return server.client(email)
    return fixture


admin = person('admin', 'admin@example.com')
alice = person('alice', 'alice@example.com')
bob = person('bob', 'bob@example.com')
eve = person('eve', 'eve@example.com')
other = person('other', 'admin@other.example')


@pytest.fixture(scope='session')
def anonymous(server):
    return server.client()


@pytest.fixture
def share(alice):
    """A fresh share owned by alice."""
    return alice.make_share()


@pytest.fixture
def shared(alice, bob, share):
    """A fresh share of alice's in which bob is a contributor."""
    alice.add_member(share['id'], bob.me()['id'], 'contributor')
    return share


@pytest.fixture(scope='session')
def engine():
    return os.environ.get('SCAIDRIVE_TEST_DB', 'sqlite')


@pytest.fixture(scope='session')
def password():
    return PASSWORD
