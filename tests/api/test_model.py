"""Random sequences of operations against the real server and against the reference model (tests/model, reconcile/model.h):
every answer and, after every operation, the whole tree must be the same. SCAIDRIVE_MODEL_SEEDS=first:count chooses the sequences."""
import json
import os
import random
import subprocess

import pytest

from helpers import STRATEGIES, V1, Device, deleted, head, replace, since, snapshot

BUILD = os.environ.get('SCAIDRIVE_BUILD', os.path.join(os.path.dirname(__file__), '..', '..', 'build'))
FIRST, COUNT = map(int, os.environ.get('SCAIDRIVE_MODEL_SEEDS', '1:6').split(':'))
STEPS = 80
NAMES = ('a', 'A', 'b', 'c.txt', 'C.TXT', '\u00e9', 'e\u0301', 'a (2)', '..', 'x\u0001')
DEVICE, BOB, ALICE = 1, 2, 3  # who: alice's device, bob and alice by hand
VERSIONS = 10000  # a version's number in the model is node * VERSIONS + number


class Model:
    def __init__(self):
        self.process = subprocess.Popen([os.path.join(BUILD, 'reference-model')], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, op, **fields):
        self.process.stdin.write(json.dumps({'op': op, **{k: v for k, v in fields.items() if v is not None}}) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0


def code_of(response):
    return None if response.status_code < 300 else response.json()['error']['code']


class Twins:
    """The same share twice: on the server, and in the model."""

    def __init__(self, alice, bob, share, seed):
        self.alice, self.bob, self.share = alice, bob, share
        self.rng = random.Random(seed)
        self.device = Device(alice, share)
        self.model = Model()
        self.wire = {}      # our number -> wire id
        self.kinds = {}     # our number -> 'file' | 'folder'
        self.versions = {}  # our number of a file -> wire ids of its versions, in order
        self.seen = [(head(alice), 0)]
        self.story = []

    def number(self, wire):
        return next((n for n, w in self.wire.items() if w == wire), 0) if wire else 0

    def learn(self, node, kind):
        n = len(self.wire) + 1
        self.wire[n], self.kinds[n] = node['id'], kind
        if kind == 'file':
            self.versions[n] = [node['version_id']]
        return n

    def url(self, n):
        return f'{V1}/{self.kinds[n]}s/{self.wire[n]}'

    def someone(self):
        return self.rng.choice(((self.alice, ALICE), (self.bob, BOB)))

    def some(self, kind=None, root=False):
        choice = [n for n in self.wire if kind in (None, self.kinds[n])] + ([0] if root else [])
        return self.rng.choice(choice) if choice else None

    def content(self):
        return self.rng.choice(('one', 'two', str(self.rng.random())))

    def base(self, n):
        """(its wire id, its number in the model) of some version, or of none."""
        at = self.rng.randrange(-1, len(self.versions[n]))
        latest = len(self.versions[n]) - 1
        at = latest if self.rng.random() < 0.5 else at
        return (None, 0) if at < 0 else (self.versions[n][at], n * VERSIONS + at + 1)

    def check(self, what, code, answer):
        self.story.append(f'{what}: {code}; the model: {answer}')
        self.same(code, answer['err'])

    def same(self, server, model):
        if server != model:
            pytest.fail('\n'.join([*self.story[-15:], f'server: {server}', f'model: {model}']), pytrace=False)

    # ---- operations ----
    def make(self):
        api, by = self.someone()
        parent, name, kind, content = self.some('folder', root=True), self.rng.choice(NAMES), self.rng.choice(('file', 'folder')), self.content()
        if kind == 'file':
            r = api.upload(self.share['id'], name, content.encode(), folder_id=self.wire.get(parent))
        else:
            r = api.post(f'{V1}/folders', json={'share_id': self.share['id'], 'name': name, **({'parent_id': self.wire[parent]} if parent else {})})
        n = self.learn(r.json(), kind) if r.status_code == 201 else 0
        self.check(('make', kind, parent, name, n), code_of(r), self.model.ask(
            'make', id=n, parent=parent, name=name, kind=kind, content=content, by=by, version_id=n * VERSIONS + 1))

    def put(self):
        api, by = self.someone()
        n, content, strategy = self.some('file'), self.content(), self.rng.choice((None, *STRATEGIES))
        if not n:
            return
        base, base_number = self.base(n)
        executable = self.rng.random() < 0.3
        r = replace(api, {'id': self.wire[n]}, content.encode(), base, strategy, executable=executable)
        made = [i for change, i in since(self.alice, self.share, self.seen[-1][0]) if change == 'created' and not self.number(i)]
        copy = made[0] if made else None
        node = self.alice.ok('GET', f'{V1}/files/{copy}') if copy else None
        k = self.learn(node, 'file') if copy else 0
        answer = self.model.ask('put', id=n, content=content, executable=executable, base=base_number, strategy=strategy, by=by,
                                version_id=n * VERSIONS + len(self.versions[n]) + 1, copy_id=k, copy_version_id=k * VERSIONS + 1,
                                copy_name=node['name'] if copy else None)
        self.check(('put', n, content, base_number, strategy, copy), code_of(r), answer)
        self.same(k, answer['copy_id'])
        self.look_at_versions(n)

    def look_at_versions(self, n):
        listed = self.alice.ok('GET', self.url(n) + '/versions', params={'include_deleted': 'true'})['versions']
        self.versions[n] = [v['id'] for v in sorted(listed, key=lambda v: v['version_number'])]

    def mode(self):
        api, by = self.someone()
        n, executable = self.some('file'), self.rng.random() < 0.5
        if n:
            r = api.patch(self.url(n), json={'executable': executable})
            self.check(('mode', n, executable), code_of(r), self.model.ask('mode', id=n, executable=executable, by=by))

    def move(self):
        api, by = self.someone()
        n, parent, name = self.some(), self.some('folder', root=True), self.rng.choice(NAMES)
        if n:
            target = {'target_folder_id': self.wire[parent]} if parent else {'target_share_id': self.share['id']}
            r = api.post(self.url(n) + '/move', json={**target, 'name': name})
            self.check(('move', n, parent, name), code_of(r), self.model.ask('move', id=n, parent=parent, name=name, by=by))

    def trash(self):
        api, by = self.someone()
        n = self.some()
        if n:
            self.check(('trash', n), code_of(api.delete(self.url(n))), self.model.ask('trash', id=n, by=by))

    def trash_by_device(self):
        n, strategy = self.some(), self.rng.choice(STRATEGIES)
        if not n:
            return
        node, more, fields = {'id': self.wire[n]}, {}, {}
        if self.kinds[n] == 'folder':
            cursor, seq = self.rng.choice(self.seen[-4:])
            more, fields = {'base_cursor': cursor}, {'seen': seq}
            change = deleted(node)
        else:
            base, number = self.base(n)
            fields = {'base': number, 'strategy': strategy}
            change = deleted(node, base)
        done, conflict = self.device.one(change, strategy, **more)
        answer = self.model.ask('trash', id=n, by=DEVICE, **fields)
        self.check(('trash by device', n, strategy, fields), done.get('code'), answer)
        self.same(conflict is not None, answer['conflict'])

    def restore(self):
        api, by = self.someone()
        n = self.some()
        if n:
            r = api.patch(self.url(n), json={'restore': True})
            self.check(('restore', n), code_of(r), self.model.ask('restore', id=n, by=by))

    def step(self):
        self.rng.choice((self.make, self.make, self.make, self.put, self.put, self.mode, self.move, self.move, self.trash,
                         self.trash_by_device, self.restore))()
        answer = self.model.ask('mode', id=-1)  # no such node: tells the number of changes
        self.seen.append((head(self.alice), answer['seq']))

    def compare(self):
        ours = {m['id']: (m['kind'], m['parent'], m['name'], m['version_id'] % VERSIONS, m['executable'], m['checksum'])
                for m in self.model.ask('tree')['nodes']}
        theirs = {self.number(i): (s['type'], self.number(s['parent_id']), s['name'], s['version'] or 0, bool(s['executable']), s['checksum_sha256'])
                  for i, s in snapshot(self.alice, self.share)[0].items()}
        self.same({n: t for n, t in theirs.items() if ours.get(n) != t}, {n: m for n, m in ours.items() if theirs.get(n) != m})


@pytest.mark.parametrize('seed', range(FIRST, FIRST + COUNT))
def test_the_server_does_what_the_model_does(alice, bob, shared, seed):
    twins = Twins(alice, bob, shared, seed)
    for _ in range(STEPS):
        twins.step()
        twins.compare()
    twins.model.close()
