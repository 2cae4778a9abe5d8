"""POST /sync/apply as its tables say: apply.h, resolve.h, apply_folder.c (D4-D7)."""
import time

import pytest
from helpers import (STRATEGIES, V1, Device, children, contents_of, deleted, file_of, head, mkdir, moved, names, refused, replaced, since,
                     snapshot, trash, updated, versions_of)


@pytest.fixture
def device(alice, share):
    return Device(alice, share, "Anna's PC")


def stage(api, file, content, **fields):
    return replaced(api, file, content, staged=True, **fields)['version_id']


# ---- table: created ----

def test_created_file_was_made_by_the_upload(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'1')
    at = head(alice)
    change = {'resource_type': 'file', 'resource_id': f['id'], 'change_type': 'created', 'version_id': f['version_id'], 'new_path': '/x'}
    for _ in range(2):
        done, conflict = device.one(change, 'LAST_WRITER_WINS')
        assert (done['status'], done['version_id'], done['version'], done['name'], done['cursor'], conflict) == (
            'noop', f['version_id'], 1, 'x', None, None)
    assert since(alice, share, at) == []
    bad, _ = device.one({**change, 'resource_id': 'fil_0000000000001'}, 'KEEP_BOTH')
    assert (bad['status'], bad['code']) == (404, 'NOT_FOUND')
    nothing, _ = device.one({'resource_type': 'file', 'change_type': 'created', 'new_path': '/y'}, 'KEEP_BOTH')
    assert nothing['status'] == 422


def test_created_folder(alice, share, device):
    at = head(alice)
    done, _ = device.one(mkdir('/A'))
    assert (done['status'], done['name'], done['parent_id'], done['version_id'], done['cursor']) == ('applied', 'A', None, None, at + 1)
    again, _ = device.one(mkdir('/A'))  # two clients made the same folder
    assert (again['status'], again['resource_id'], again['cursor']) == ('noop', done['resource_id'], None)
    below, _ = device.one(mkdir('/A/B'))
    assert below['parent_id'] == done['resource_id']
    by_id, _ = device.one({'resource_type': 'folder', 'change_type': 'created', 'metadata': {'parent_id': below['resource_id'], 'name': 'C'}})
    assert alice.ok('GET', f'{V1}/folders/{by_id["resource_id"]}')['path'] == '/A/B/C'
    top, _ = device.one({'resource_type': 'folder', 'change_type': 'created', 'new_path': '/A/ignored', 'metadata': {'parent_id': None, 'name': 'Top'}})
    assert alice.ok('GET', f'{V1}/folders/{top["resource_id"]}')['path'] == '/Top'  # metadata wins over the path
    made_before, _ = device.one({**mkdir('/A'), 'resource_id': done['resource_id']})
    assert made_before['status'] == 'noop'
    assert len(since(alice, share, at)) == 4


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_created_folder_where_a_file_is(alice, share, device, strategy):
    alice.make_file(share['id'], 'a', b'1')
    done, _ = device.one(mkdir('/a'), strategy)
    if strategy == 'KEEP_BOTH':
        assert done['status'] == 'renamed' and done['name'] != 'a' and sorted(names(children(alice, share))) == sorted(['a', done['name']])
    else:
        assert (done['status'], done['code']) == (409, 'NAME_CONFLICT') and names(children(alice, share)) == ['a']


def test_created_folder_nowhere(alice, share, device):
    for change, status in ((mkdir('/none/x'), 404), (mkdir(''), 422), (mkdir('/'), 422), ({'resource_type': 'folder', 'change_type': 'created'}, 422),
                           (mkdir('/a\x01b'), 422), (mkdir('/' + 'x' * 256), 422), (mkdir('/..'), 422),
                           ({'resource_type': 'folder', 'change_type': 'created', 'metadata': {'name': 'x', 'parent_id': 'fld_0000000000001'}}, 404)):
        done, _ = device.one(change, 'KEEP_BOTH')
        assert done['status'] == status, (change, done)
    assert snapshot(alice, share)[0] == {}


# ---- table: updated ----

def test_updated_by_a_staged_version(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    s = stage(alice, f, b'two', base=f['version_id'])
    at = head(alice)
    done, conflict = device.one(updated(f, s, f['version_id'], new_path='/x'))
    assert (done['status'], done['version_id'], done['version'], done['cursor'], conflict) == ('applied', s, 2, at + 1, None)
    assert contents_of(alice, f) == [b'one', b'two'] and file_of(alice, f)['version_id'] == s
    assert alice.changes(share['id'], at)[0][0]['metadata']['device_id'] == device.id
    again, _ = device.one(updated(f, s, f['version_id']))  # the head already
    assert (again['status'], again['cursor']) == ('noop', None) and head(alice) == at + 1


def test_updated_after_an_upload_that_was_not_staged(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    g = replaced(alice, f, b'two', base=f['version_id'])
    replaced(alice, f, b'three', base=g['version_id'])
    at = head(alice)
    done, _ = device.one(updated(f, g['version_id'], f['version_id']), 'LAST_WRITER_WINS')  # its echo: it took effect once
    assert done['status'] == 'noop' and alice.content(f['id']) == b'three' and since(alice, share, at) == []


def test_updated_by_an_old_version(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    g = replaced(alice, f, b'two', base=f['version_id'])
    done, _ = device.one(updated(f, f['version_id'], g['version_id']))  # its content becomes the head again
    assert (done['status'], done['version']) == ('applied', 3) and contents_of(alice, f) == [b'one', b'two', b'one']


def test_updated_by_the_same_bytes(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    replaced(alice, f, b'two', base=f['version_id'])
    s = stage(alice, f, b'two')
    at = head(alice)
    for strategy in (None, *STRATEGIES):
        done, conflict = device.one(updated(f, s, f['version_id']), strategy)  # stale, but nobody disagrees
        assert done['status'] == 'noop' and conflict is None, strategy
    assert since(alice, share, at) == [] and len(versions_of(alice, f)) == 2


@pytest.mark.parametrize('strategy', [None, *STRATEGIES])
def test_updated_on_a_stale_base(alice, bob, share, strategy):
    """resolve.h: base is stale."""
    alice.add_member(share['id'], bob.me()['id'])
    device = Device(alice, share, "Anna's PC")
    f = alice.make_file(share['id'], 'plan.txt', b'one')
    theirs = replaced(bob, f, b'theirs', base=f['version_id'])
    s = stage(alice, f, b'mine', base=f['version_id'])
    at = head(alice)
    change = updated(f, s, f['version_id'])
    if strategy is None:
        refused(device.send([change]), 409, 'SYNC_VERSION_STALE')
        assert contents_of(alice, f) == [b'one', b'theirs'] and head(alice) == at
        return
    done, conflict = device.one(change, strategy)
    wins = strategy in ('LAST_WRITER_WINS', 'CLIENT_WINS')
    assert done['status'] == ('applied' if wins else 'conflict')
    assert alice.content(f['id']) == (b'mine' if wins else b'theirs')
    assert contents_of(alice, f) == [b'one', b'theirs', b'mine']  # both survive, with the next number
    assert (done['version_id'], done['version']) == ((s, 3) if wins else (theirs['version_id'], 2))
    assert (conflict['conflict_type'], conflict['local_version_id'], conflict['server_version_id'], conflict['base_version_id'],
            conflict['resource_id'], conflict['device_id'], conflict['path'], conflict['index']) == (
        'edit_edit', s, theirs['version_id'], f['version_id'], f['id'], device.id, '/plan.txt', 0)
    assert (conflict['resolved'], conflict['resolution']) == ((False, None) if strategy == 'MANUAL' else (True, strategy))
    copies = [n for n in children(alice, share) if n['id'] != f['id']]
    if strategy != 'KEEP_BOTH':
        assert copies == [] and conflict['copy_id'] is None
        return
    day = time.strftime('%Y-%m-%d', time.gmtime())
    assert [(n['id'], n['name']) for n in copies] == [(conflict['copy_id'], f"plan (conflicted copy Anna's PC {day}).txt")]
    assert alice.content(copies[0]['id']) == b'mine'


def test_a_second_copy_gets_a_number(alice, share, device):
    f = alice.make_file(share['id'], 'plan.txt', b'one')
    replaced(alice, f, b'theirs', base=f['version_id'])
    for i in range(3):
        device.one(updated(f, stage(alice, f, f'mine {i}'.encode()), f['version_id']), 'KEEP_BOTH')
    day = time.strftime('%Y-%m-%d', time.gmtime())
    copies = sorted(n['name'] for n in children(alice, share) if n['id'] != f['id'])
    assert copies == sorted(f"plan (conflicted copy Anna's PC {day}{n}).txt" for n in ('', ' 2', ' 3'))


def test_the_copy_of_a_long_name_is_cut_at_a_character(alice, share, device):
    f = alice.make_file(share['id'], '\u20ac' * 80 + '.docx', b'one')
    replaced(alice, f, b'theirs', base=f['version_id'])
    _, conflict = device.one(updated(f, stage(alice, f, b'mine'), f['version_id']), 'KEEP_BOTH')
    name = file_of(alice, {'id': conflict['copy_id']})['name']
    assert name.endswith(').docx') and '(conflicted copy' in name and 240 < len(name.encode()) <= 255


@pytest.mark.parametrize('strategy', [None, *STRATEGIES])
def test_updated_in_the_trash(alice, share, device, strategy):
    """resolve.h: head deleted, edit comes in."""
    f = alice.make_file(share['id'], 'x', b'one')
    s = stage(alice, f, b'mine', base=f['version_id'])
    trash(alice, f)
    if strategy is None:
        assert device.send([updated(f, s, f['version_id'])]).status_code == 409
        return
    done, conflict = device.one(updated(f, s, f['version_id']), strategy)
    assert conflict['conflict_type'] == 'edit_delete' and conflict['resolved'] is (strategy != 'MANUAL')
    shown = file_of(alice, f, include_deleted='true')
    if strategy in ('SERVER_WINS', 'MANUAL'):
        assert done['status'] == 'conflict' and shown['is_deleted'] is True
    else:  # an edit beats a delete
        assert done['status'] == 'applied' and shown['is_deleted'] is False and alice.content(f['id']) == b'mine'
    assert contents_of(alice, f) == [b'one', b'mine']


@pytest.mark.parametrize('strategy', [None, 'LAST_WRITER_WINS'])
def test_a_version_that_is_not_the_files(alice, share, device, strategy):
    f, g = alice.make_file(share['id'], 'x', b'one'), alice.make_file(share['id'], 'y', b'two')
    for version in (g['version_id'], 'ver_0000000000001'):
        refused(device.send([updated(f, version, f['version_id'])], strategy), 409, 'SYNC_CONFLICT')
    assert contents_of(alice, f) == [b'one']


def test_a_staged_version_is_its_makers(alice, bob, shared):
    f = alice.make_file(shared['id'], 'x', b'one')
    s = stage(alice, f, b'two', base=f['version_id'])
    refused(Device(bob, shared).send([updated(f, s, f['version_id'])]), 409, 'SYNC_CONFLICT')
    assert contents_of(bob, f) == [b'one']


# ---- table: moved, renamed ----

def test_moved_and_renamed(alice, share, device):
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x', b'1')
    at = head(alice)
    done, _ = device.one(moved(f, '/d/y'))
    assert (done['status'], done['name'], done['parent_id']) == ('applied', 'y', d['id'])
    same, _ = device.one(moved(f, '/d/y'))
    assert (same['status'], same['cursor']) == ('noop', None)
    renamed, _ = device.one(moved(f, '/d/z', 'renamed'))
    by_id, _ = device.one(moved(d, None, 'renamed', name='e'))
    home, _ = device.one(moved(f, None, 'moved', parent_id=None))
    assert (renamed['name'], by_id['name'], home['parent_id'], home['name']) == ('z', 'e', None, 'z')
    assert since(alice, share, at) == [('moved', f['id']), ('renamed', f['id']), ('renamed', d['id']), ('moved', f['id'])]


@pytest.mark.parametrize('strategy', [None, *STRATEGIES])
def test_moved_to_a_taken_name(alice, share, device, strategy):
    f = alice.make_file(share['id'], 'x.txt', b'1')
    alice.make_file(share['id'], 'taken.txt', b'2')
    done, _ = device.one(moved(f, '/TAKEN.txt', 'renamed'), strategy)
    if strategy == 'KEEP_BOTH':
        assert done['status'] == 'renamed' and done['name'].endswith('.txt') and file_of(alice, f)['name'] == done['name']
    else:
        assert (done['status'], done['code']) == (409, 'NAME_CONFLICT') and file_of(alice, f)['name'] == 'x.txt'


def test_moved_where_it_cannot_go(alice, share, device):
    a = alice.make_folder(share['id'], 'a')
    b = alice.make_folder(share['id'], 'b', a['id'])
    f = alice.make_file(share['id'], 'f', b'1')
    gone = alice.make_file(share['id'], 'gone', b'1')
    trash(alice, gone)
    elsewhere = alice.make_folder(alice.make_share()['id'], 'elsewhere')
    for change, code in ((moved(a, '/a/b/a'), 'MOVE_CYCLE'), (moved(a, None, parent_id=b['id']), 'MOVE_CYCLE'), (moved(f, '/none/f'), 'NOT_FOUND'),
                         (moved(f, '/gone/f'), 'NOT_FOUND'), (moved(gone, '/x'), 'GONE'), (moved(f, None, parent_id=elsewhere['id']), 'NOT_FOUND'),
                         (moved(elsewhere, '/x'), 'NOT_FOUND'), (moved(f, '/a\x02'), 'NAME_INVALID')):
        done, _ = device.one(change, 'KEEP_BOTH')
        assert done.get('code') == code, (change, done)
    assert alice.ok('GET', f'{V1}/folders/{b["id"]}')['path'] == '/a/b'


# ---- table: deleted ----

def test_deleted_file(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'1')
    at = head(alice)
    done, conflict = device.one(deleted(f, f['version_id']))
    assert (done['status'], conflict) == ('applied', None) and since(alice, share, at) == [('deleted', f['id'])]
    again, _ = device.one(deleted(f, f['version_id']))
    assert (again['status'], again['cursor']) == ('noop', None)
    g = alice.make_file(share['id'], 'y', b'1')
    assert device.one(deleted(g))[0]['status'] == 'applied'  # naming no base is a plain delete


@pytest.mark.parametrize('strategy', [None, *STRATEGIES])
@pytest.mark.parametrize('how', ['base_version_id', 'base_cursor'])
def test_deleted_but_edited_since(alice, bob, share, strategy, how):
    """resolve.h: head edited since, delete comes."""
    alice.add_member(share['id'], bob.me()['id'])
    device = Device(alice, share)
    f = alice.make_file(share['id'], 'x', b'one')
    at = head(alice)
    theirs = replaced(bob, f, b'theirs', base=f['version_id'])
    change, more = (deleted(f, f['version_id']), {}) if how == 'base_version_id' else (deleted(f), {'base_cursor': at})
    if strategy is None:
        refused(device.send([change], None, **more), 409, 'SYNC_VERSION_STALE')
        assert alice.content(f['id']) == b'theirs'
        return
    done, conflict = device.one(change, strategy, **more)
    assert (conflict['conflict_type'], conflict['server_version_id'], conflict['local_version_id']) == ('delete_edit', theirs['version_id'], None)
    assert conflict['resolved'] is (strategy != 'MANUAL')
    shown = file_of(alice, f, include_deleted='true')
    assert (done['status'], shown['is_deleted']) == (('applied', True) if strategy == 'CLIENT_WINS' else ('conflict', False))
    assert contents_of(alice, f) == [b'one', b'theirs']


def test_deleted_folder_is_one_row(alice, share, device):
    a = alice.make_folder(share['id'], 'a')
    alice.make_file(share['id'], 'x', b'1', a['id'])
    at = head(alice)
    assert device.one(deleted(a))[0]['status'] == 'applied' and since(alice, share, at) == [('deleted', a['id'])]
    assert device.one(deleted(a))[0]['status'] == 'noop'


# ---- table: deleted folder with base_cursor (apply_folder.c) ----

@pytest.fixture
def world(alice, bob, share):
    """/a with b/(x, y), c/z and w; alice's device has read it all."""
    alice.add_member(share['id'], bob.me()['id'])
    device = Device(alice, share)
    n = {'a': alice.make_folder(share['id'], 'a')}
    n['b'], n['c'] = (alice.make_folder(share['id'], name, n['a']['id']) for name in 'bc')
    for name, parent in (('x', 'b'), ('y', 'b'), ('z', 'c'), ('w', 'a')):
        n[name] = alice.make_file(share['id'], name, name.encode(), n[parent]['id'])
    return device, n, head(alice)


def alive(api, share, n):
    live = snapshot(api, share)[0]
    return {name for name, node in n.items() if node['id'] in live}


def test_nothing_changed(alice, share, world):
    device, n, at = world
    done, conflict = device.one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert done['status'] == 'applied' and conflict is None and alive(alice, share, n) == set()
    assert since(alice, share, at) == [('deleted', n['a']['id'])]


def test_a_changed_child_stays_with_the_way_to_it(alice, bob, share, world):
    device, n, at = world
    replaced(bob, n['x'], b'edited')
    mid = head(alice)
    done, conflict = device.one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert done['status'] == 'conflict' and conflict['conflict_type'] == 'folder_delete' and conflict['resource_id'] == n['a']['id']
    assert alive(alice, share, n) == {'a', 'b', 'x'} and alice.content(n['x']['id']) == b'edited'
    assert {i for t, i in since(alice, share, mid)} == {n[k]['id'] for k in ('c', 'w', 'y')}  # one row each
    assert conflict['resolved'] is True


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_the_guard_holds_with_every_strategy(alice, bob, share, world, strategy):
    device, n, at = world
    made = bob.make_file(share['id'], 'unseen', b'1', n['c']['id'])
    _, conflict = device.one(deleted(n['a']), strategy, base_cursor=at)
    assert alive(alice, share, {**n, 'unseen': made}) == {'a', 'c', 'unseen'} and conflict['resolved'] is (strategy != 'MANUAL')


def test_the_folder_itself_changed(alice, bob, share, world):
    device, n, at = world
    bob.ok('PATCH', f'{V1}/folders/{n["a"]["id"]}', json={'name': 'renamed'})
    done, _ = device.one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert done['status'] == 'conflict' and alive(alice, share, n) == set(n)  # nothing goes


def test_a_changed_folder_below_stays_whole(alice, bob, share, world):
    device, n, at = world
    bob.ok('PATCH', f'{V1}/folders/{n["b"]["id"]}', json={'name': 'renamed'})
    device.one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert alive(alice, share, n) == {'a', 'b', 'x', 'y'}


def test_moved_in_and_moved_out(alice, bob, share, world):
    device, n, at = world
    n['in'] = alice.make_file(share['id'], 'in', b'1')
    at = head(alice)
    bob.ok('POST', f'{V1}/files/{n["in"]["id"]}/move', json={'target_folder_id': n['c']['id']})
    bob.ok('POST', f'{V1}/files/{n["w"]["id"]}/move', json={'target_share_id': share['id']})
    device.one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert alive(alice, share, n) == {'a', 'c', 'in', 'w'}


def test_own_changes_do_not_guard(alice, share, world):
    device, n, at = world
    device.apply([updated(n['x'], stage(alice, n['x'], b'mine'), n['x']['version_id']), mkdir('/a/new')])
    done, conflict = device.one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert done['status'] == 'applied' and conflict is None and alive(alice, share, n) == set()


def test_own_changes_by_another_device_do(alice, share, world):
    _, n, at = world
    Device(alice, share).apply([mkdir('/a/new')])
    done, _ = world[0].one(deleted(n['a']), 'KEEP_BOTH', base_cursor=at)
    assert done['status'] == 'conflict'


def test_a_base_cursor_from_the_future(alice, share, device):
    d = alice.make_folder(share['id'])
    refused(device.send([deleted(d)], 'KEEP_BOTH', base_cursor=head(alice) + 1000), 400, 'SYNC_CURSOR_INVALID')
    for bad in (-1, 'x', 2 ** 53):
        refused(device.send([deleted(d)], 'KEEP_BOTH', base_cursor=bad), 400, 'SYNC_CURSOR_INVALID')


# ---- all or nothing (D5) ----

def test_without_strategy_all_or_nothing(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    replaced(alice, f, b'two', base=f['version_id'])
    g = alice.make_file(share['id'], 'y', b'other')
    at = head(alice)
    stale = updated(f, stage(alice, f, b'three'), f['version_id'])
    refused(device.send([mkdir('/before'), stale, mkdir('/after')]), 409, 'SYNC_VERSION_STALE')
    refused(device.send([mkdir('/before'), updated(f, g['version_id'])]), 409, 'SYNC_CONFLICT')
    assert head(alice) == at and sorted(names(children(alice, share))) == ['x', 'y']
    answer = device.apply([mkdir('/before'), mkdir('/none/x'), mkdir('/after')])  # other failures fail alone
    assert [a['index'] for a in answer['applied']] == [0, 2] and [e['index'] for e in answer['errors']] == [1]


def test_with_a_strategy_each_for_itself(alice, share, device):
    f, g = alice.make_file(share['id'], 'x', b'one'), alice.make_file(share['id'], 'y', b'other')
    answer = device.apply([mkdir('/a'), updated(f, g['version_id']), mkdir('/a/b'), mkdir('/x'), deleted(g)], 'LAST_WRITER_WINS')
    assert [(a['index'], a['status']) for a in answer['applied']] == [(0, 'applied'), (2, 'applied'), (4, 'applied')]
    assert [(e['index'], e['code'], e['status']) for e in answer['errors']] == [(1, 'SYNC_CONFLICT', 409), (3, 'NAME_CONFLICT', 409)]
    assert answer['cursor'] == head(alice)


def test_in_order(alice, share, device):
    """A later change stands on an earlier one, also over the end of a transaction."""
    done = device.apply([mkdir('/a'), mkdir('/a/b'), mkdir('/a/b/c')])['applied']
    a, b, c = ({'id': x['resource_id']} for x in done)
    device.apply([moved(c, '/c'), moved(b, '/c/b'), deleted(a), mkdir('/a')])
    assert {n['path'] for n in (alice.ok('GET', f'{V1}/folders/{x["id"]}') for x in (b, c))} == {'/c', '/c/b'}


# ---- op_id (D4) ----

def test_op_id(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    s = stage(alice, f, b'two', base=f['version_id'])
    batch = [mkdir('/a', op_id='op-a'), updated(f, s, f['version_id'], op_id='op-x'), deleted(f, s, op_id='op-d')]
    one = device.apply(batch, 'KEEP_BOTH')
    at = head(alice)
    two = device.apply(batch, 'KEEP_BOTH')
    assert [a['status'] for a in one['applied']] == ['applied'] * 3 and [a['status'] for a in two['applied']] == ['duplicate'] * 3
    strip = lambda answer: [{k: v for k, v in a.items() if k != 'status'} for a in answer['applied']]
    assert strip(one) == strip(two) and head(alice) == at  # the same result, nothing written
    more = device.apply([*batch, mkdir('/b', op_id='op-b')], 'KEEP_BOTH')
    assert [a['status'] for a in more['applied']] == ['duplicate'] * 3 + ['applied']
    elsewhere = Device(alice, share).apply([mkdir('/c', op_id='op-a')])  # unique per device
    assert elsewhere['applied'][0]['status'] == 'applied'


def test_op_id_twice_in_one_request(alice, share, device):
    answer = device.apply([mkdir('/a', op_id='same'), mkdir('/a', op_id='same')])
    assert [a['status'] for a in answer['applied']] == ['applied', 'duplicate']


def test_op_id_of_another_change(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    device.apply([mkdir('/a', op_id='op')])
    done, _ = device.one(deleted(f, op_id='op'), 'KEEP_BOTH')
    assert (done['status'], done['code']) == (409, 'IDEMPOTENCY_KEY_REUSED')
    assert alice.content(f['id']) == b'one'


def test_op_id_of_a_conflict_is_repeated_with_it(alice, share, device):
    f = alice.make_file(share['id'], 'x', b'one')
    replaced(alice, f, b'two', base=f['version_id'])
    change = updated(f, stage(alice, f, b'three'), f['version_id'], op_id='op')
    (one, c1), (two, c2) = (device.one(change, 'KEEP_BOTH') for _ in range(2))
    assert one['status'] == two['status'] == 'conflict' and c1['id'] == c2['id'] and c1['copy_id'] == c2['copy_id']
    assert len(children(alice, share)) == 2 and len(versions_of(alice, f)) == 3


def test_op_id_of_a_failure_is_tried_again(alice, share, device):
    assert device.one(mkdir('/none/x', op_id='op'), 'KEEP_BOTH')[0]['status'] == 404
    device.apply([mkdir('/none')])
    assert device.one(mkdir('/none/x', op_id='op'), 'KEEP_BOTH')[0]['status'] == 'applied'


def test_op_id_survives_a_kill(private_server):
    server = private_server()
    api = server.client('admin@example.com')
    share = api.make_share()
    device = Device(api, share)
    change = [mkdir('/a', op_id='op')]
    one = device.apply(change)['applied'][0]
    server.restart(hard=True)
    two = device.apply(change)['applied'][0]
    assert (two['status'], two['resource_id'], two['cursor']) == ('duplicate', one['resource_id'], one['cursor'])


@pytest.mark.parametrize('bad', ['', 'x' * 129, 5])
def test_bad_op_ids(alice, share, device, bad):
    assert device.send([mkdir('/a', op_id=bad)]).status_code == 422


# ---- size ----

def test_ten_thousand_changes(alice, share, device):
    begin = time.monotonic()
    at = head(alice)
    batch = [mkdir(f'/{i:02d}') for i in range(100)] + [mkdir(f'/{i % 100:02d}/{i}', op_id=f'{share["id"]}-{i}') for i in range(9900)]
    answer = device.apply(batch, 'KEEP_BOTH')
    assert len(answer['applied']) == 10000 and not answer['errors'] and not answer['conflicts'] and answer['cursor'] >= at + 10000
    nodes, _ = snapshot(alice, share, limit=10000)
    assert len(nodes) == 10000
    again = device.apply(batch[9000:], 'KEEP_BOTH')
    assert {a['status'] for a in again['applied']} == {'duplicate'}
    assert len(since(alice, share, at)) == 10000
    assert time.monotonic() - begin < 40
    r = device.send([*batch, mkdir('/one too many')], 'KEEP_BOTH')
    assert r.status_code == 422 and snapshot(alice, share, limit=10000)[0].keys() == nodes.keys()


def test_without_strategy_at_most_one_transaction(alice, share, device):
    assert len(device.apply([mkdir(f'/{i}') for i in range(500)])['applied']) == 500
    assert device.send([mkdir(f'/x{i}') for i in range(501)]).status_code == 422
    assert len(snapshot(alice, share)[0]) == 500


def test_empty(alice, share, device):
    assert device.apply([]) == {'applied': [], 'conflicts': [], 'errors': [], 'cursor': head(alice)}


# ---- what is refused whole ----

def test_schema(alice, share, device):
    post = lambda **body: alice.post(f'{V1}/sync/apply', json={'device_id': device.id, 'share_id': share['id'], 'changes': [], **body})
    for bad in ({'device_id': ''}, {'device_id': 5}, {'share_id': 'x'}, {'changes': {}}, {'changes': None}, {'changes': ['x']}, {'conflict_resolution': 'X'},
                {'changes': [{}]}, {'changes': [{'resource_type': 'thing', 'change_type': 'created'}]},
                {'changes': [{'resource_type': 'file', 'change_type': 'erased'}]}, {'changes': [mkdir('/x', version_id='fil_0000000000001')]},
                {'changes': [{'resource_type': 'file', 'resource_id': 'fld_0000000000001', 'change_type': 'deleted'}]},
                {'changes': [mkdir('/' + 'x' * 8192)]}, {'changes': [mkdir('/x', metadata=[])]}):
        r = post(**bad)
        assert r.status_code == 422, (bad, r.text)
    r = post(changes=[mkdir('/ok'), {'resource_type': 'x', 'change_type': 'y'}])
    locations = [p['loc'] for p in r.json()['detail']]
    assert ['body', 'changes', 1, 'resource_type'] in locations and ['body', 'changes', 1, 'change_type'] in locations
    assert snapshot(alice, share)[0] == {}


def test_rights(alice, bob, eve, other, shared):
    device = Device(alice, shared)
    his, hers, foreign = Device(bob, shared), Device(eve, shared), Device(other, shared)
    body = {'share_id': shared['id'], 'changes': [mkdir('/x')]}
    refused(bob.post(f'{V1}/sync/apply', json={**body, 'device_id': device.id}), 404, 'NOT_FOUND')  # another's device
    refused(alice.post(f'{V1}/sync/apply', json={**body, 'device_id': 'unknown'}), 404, 'NOT_FOUND')
    refused(eve.post(f'{V1}/sync/apply', json={**body, 'device_id': hers.id}), 404, 'NOT_FOUND')
    refused(other.post(f'{V1}/sync/apply', json={**body, 'device_id': foreign.id}), 404, 'NOT_FOUND')
    alice.ok('PATCH', f'{V1}/shares/{shared["id"]}/members/{bob.me()["id"]}', json={'role': 'reader'})
    refused(bob.post(f'{V1}/sync/apply', json={**body, 'device_id': his.id}), 403, 'PERMISSION_DENIED')
    assert snapshot(alice, shared)[0] == {}


def test_a_share_change_is_not_applied_here(alice, share, device):
    r = device.send([{'resource_type': 'share', 'change_type': 'deleted'}], 'KEEP_BOTH')
    assert r.status_code == 422 or r.json()['errors'][0]['status'] == 422
