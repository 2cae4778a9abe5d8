"""Background work by hand and on its own: scaidrived jobs, on the real server. Ages are set in the database."""
import datetime
import os
import re
import shutil
import time

import httpx
import pytest
from conftest import populate
from support import Failed, Server

DAY_US = 86400 * 1000000


def metric(server, name, **labels):
    """The value of one series; 0 when there is none."""
    text = server.client().get('/metrics').text
    wanted = {f'{k}="{v}"' for k, v in labels.items()}
    for line in text.splitlines():
        m = re.match(r'(\w+)(?:\{(.*)\})? (\S+)$', line)
        if m and m[1] == name and wanted <= set((m[2] or '').split(',')):
            return int(float(m[3]))
    return 0


def rounds(server, job):
    return sum(metric(server, 'scaidrive_queue_jobs_processed_total', queue=job, result=r) for r in ('ok', 'error'))


@pytest.fixture(scope='module')
def quiet():
    """A server that does no background work by itself."""
    s = populate(Server({'jobs.look_s': '0'})).start()
    yield s
    s.close()


def test_list(quiet):
    jobs = quiet.jobs()
    assert {'housekeeping'} <= set(jobs)
    for job in jobs.values():
        assert job['period_s'] > 0 and job['what']
    quiet.job('housekeeping')
    job = quiet.jobs()['housekeeping']
    assert job['result'] == 'ok' and job['rounds'] >= 1 and job['last_run'] <= job['last_success'] <= job['next_due']
    assert 'housekeeping' in quiet.run('jobs')


def test_by_hand(quiet):
    day = 40 * DAY_US
    old = int(time.time() * 1000000) - day
    quiet.sql(f"insert into idempotency (user_id, key, operation, request_hash, resource_kind, resource_id, created_at)"
              f" values (1, 'k', 'x', '', 1, 1, {old})")
    said = quiet.job('housekeeping', '--dry-run')
    assert 'idempotency_keys: 1 rows' in said and 'housekeeping: 1 items' in said
    assert quiet.sql('select count(*) from idempotency') == [['1']]
    assert 'housekeeping: 1 items' in quiet.job('housekeeping')
    assert quiet.sql('select count(*) from idempotency') == [['0']]
    for bad in (('jobs', 'run'), ('jobs', 'run', 'nothing'), ('jobs', 'run', '-x'), ('jobs', 'extra')):
        with pytest.raises(Failed, match=': 2: '):
            quiet.run(*bad)


def test_held(quiet):
    quiet.job('housekeeping')
    until = int(time.time() * 1000000) + 60 * 1000000
    quiet.sql(f"update jobs set held_until = {until} where name = 'housekeeping'")
    assert quiet.jobs()['housekeeping']['result'] == 'running'
    with pytest.raises(Failed, match='under way'):
        quiet.job('housekeeping')
    quiet.sql("update jobs set held_until = 1 where name = 'housekeeping'")
    assert quiet.jobs()['housekeeping']['result'] == 'interrupted'
    quiet.job('housekeeping')
    assert quiet.jobs()['housekeeping']['result'] == 'ok'


def ago(**delta):
    return int((time.time() - datetime.timedelta(**delta).total_seconds()) * 1000000)


def number(wire_id):
    """A wire id as the database has it."""
    out = 0
    for digit in wire_id.split('_')[1]:
        out = out * 32 + '0123456789ABCDEFGHJKMNPQRSTVWXYZ'.index(digit)
    return out


def test_versions(quiet):
    alice = quiet.client('alice@example.com')
    share = alice.make_share(f'Versions {time.time()}')
    f = alice.make_file(share['id'], 'f.txt', b'1')
    for i in range(2, 9):
        assert alice.upload(share['id'], 'f.txt', b'x' * i, replace_file_id=f['id']).status_code in (200, 201)
    newest = ago(days=3) // 3600000000 * 3600000000 + 3599000000
    for i in range(1, 9):
        quiet.sql(f"update versions set created_at = {newest - (8 - i) * 1000000} where node_id = {number(f['id'])} and number = {i}")

    def numbers():
        return [v['version_number'] for v in alice.ok('GET', f'/api/v1/files/{f["id"]}/versions')['versions']]

    place = ('--share', share['id'])
    assert quiet.run('policy', 'set', *place, 'version_all_hours=never').splitlines()[1].startswith('version_all_hours=never ')
    assert 'versions: 0 items' in quiet.job('versions')
    assert alice.ok('GET', f'/api/v1/shares/{share["id"]}')['settings'] == {'version_all_hours': None}
    quiet.run('policy', 'set', *place, 'version_all_hours=')
    assert '# default, hours' in quiet.run('policy', 'show', *place)
    before, cursor = alice.ok('GET', f'/api/v1/shares/{share["id"]}')['used_bytes'], alice.changes(share['id'])[1]
    said = quiet.job('versions', '--dry-run')
    assert f'{share["name"]}:/f.txt version 7  (7 bytes)' in said and 'versions: 7 items, 28 bytes to be dealt with' in said
    assert numbers() == list(range(8, 0, -1))
    assert 'versions: 7 items, 28 bytes' in quiet.job('versions')
    assert numbers() == [8] and alice.content(f['id']) == b'x' * 8
    assert alice.ok('GET', f'/api/v1/shares/{share["id"]}')['used_bytes'] == before - 28
    assert alice.changes(share['id'], cursor)[0] == []
    assert alice.get(f'/api/v1/files/{f["id"]}/content', params={'version': 3}).status_code == 404
    assert alice.post(f'/api/v1/files/{f["id"]}/versions/3/restore').status_code == 404
    assert alice.upload(share['id'], 'f.txt', b'next', replace_file_id=f['id']).json()['version'] == 9
    with pytest.raises(Failed, match='is a number of days'):
        quiet.run('policy', 'set', *place, 'trash_retention_days=soon')


def test_trash(quiet):
    alice = quiet.client('alice@example.com')
    share = alice.make_share(f'Trash {time.time()}')
    top = alice.make_folder(share['id'], 'top')
    inner = alice.make_folder(share['id'], 'inner', parent_id=top['id'])
    for i in range(600):  # more than a step removes
        alice.make_file(share['id'], f'{i}.txt', b'12345', folder_id=inner['id'])
    session = alice.ok('POST', '/api/v1/uploads', json={'share_id': share['id'], 'folder_id': inner['id'], 'file_name': 'u', 'file_size': 65536,
                                                        'chunk_size': 65536})['id']
    assert alice.put(f'/api/v1/uploads/{session}/chunks/0', content=bytes(65536)).status_code == 200
    young = alice.make_file(share['id'], 'young.txt', b'1')
    for kind, node in (('folders', top), ('files', young)):
        alice.delete(f'/api/v1/{kind}/{node["id"]}')
    cursor = alice.changes(share['id'])[1]
    quiet.sql(f"update nodes set deleted_at = {ago(days=31)} where id = {number(top['id'])}")
    said = quiet.job('trash', '--dry-run')
    assert f'{share["name"]}:/top  (3000 bytes)' in said and 'trash: 1 items, 3000 bytes' in said
    assert 'trash: 1 items, 3000 bytes' in quiet.job('trash')
    assert alice.ok('GET', f'/api/v1/shares/{share["id"]}')['used_bytes'] == 1
    assert alice.changes(share['id'], cursor)[0] == []
    for node in (top, inner):
        assert alice.get(f'/api/v1/folders/{node["id"]}').status_code == 404
        assert alice.patch(f'/api/v1/folders/{node["id"]}', json={'restore': True}).status_code == 404
    assert alice.post(f'/api/v1/uploads/{session}/complete').status_code == 404
    alice.ok('PATCH', f'/api/v1/files/{young["id"]}', json={'restore': True})
    quiet.stop()
    assert quiet.run('fsck', '--json').count('"finding"') == 0
    quiet.start()


def packs(server):
    for top, _, names in os.walk(os.path.join(server.data, 'packs')):
        for name in names:
            if name.endswith('.pack'):
                yield os.path.join(top, name)


def flip(server, needle):
    """Turns a bit of stored bytes over, on the disk, under the running server."""
    for path in packs(server):
        with open(path, 'r+b') as f:
            at = f.read().find(needle)
            if at >= 0:
                f.seek(at + 5)
                f.write(bytes([needle[5] ^ 4]))
                return
    raise AssertionError('not stored')


def unreadable(client, file):
    """An error, or an answer that breaks off: not a byte of damage. At once, not when the connection has been idle too long (30 s)."""
    begin = time.monotonic()
    try:
        with client.stream('GET', f'/api/v1/files/{file["id"]}/content') as r:
            return r.status_code == 500 or r.read() is None
    except httpx.RemoteProtocolError:
        return time.monotonic() - begin < 25


def marked(server):
    return int(server.sql('select count(*) from chunk_marks where (reason & 2) <> 0')[0][0])


def scrub(server):
    """A whole pass in the server itself."""
    before = rounds(server, 'scrub')
    server.sql("update jobs set due_at = 0, state = '' where name = 'scrub'")
    wait_for(lambda: rounds(server, 'scrub') > before)


@pytest.mark.once
def test_rot(private_server):
    """Damage is never served; it is found, by the scrub or by who reads, and healed when the bytes come again."""
    s = private_server({'jobs.look_s': '1'})
    alice = s.client('alice@example.com')
    share = alice.make_share()
    a, b = os.urandom(3000), os.urandom(3000)
    fa, fb = (alice.make_file(share['id'], n, c) for n, c in (('a', a), ('b', b)))
    wait_for(lambda: rounds(s, 'scrub') >= 1)
    flip(s, a), flip(s, b)
    # b is read before the scrub comes by
    assert unreadable(alice, fb)
    assert marked(s) == 1
    scrub(s)
    assert marked(s) == 2 and metric(s, 'scaidrive_scrub_total', kind='damaged') >= 1
    wait_for(lambda: metric(s, 'scaidrive_chunks_damaged') == 2)
    assert 'scrub: 2 items' in s.job('scrub', '--dry-run')
    assert unreadable(alice, fa)
    # the same bytes again, as other files: they are whole at once, and the old ones after a round
    for name, content in (('a2', a), ('b2', b)):
        assert alice.content(alice.make_file(share['id'], name, content)['id']) == content
    scrub(s)
    assert alice.content(fa['id']) == a and alice.content(fb['id']) == b
    assert marked(s) == 0 and metric(s, 'scaidrive_scrub_total', kind='healed') == 2
    # the other way round: a chunk that is stored twice heals from its twin
    flip(s, a)
    for _ in range(3):  # the pass may meet the twin first, and tell of it in the round behind
        scrub(s)
    assert metric(s, 'scaidrive_scrub_total', kind='healed') == 3
    assert alice.content(fa['id']) == a and marked(s) == 0
    s.stop()
    done = s.run('fsck', '--json', check=False).stdout
    assert 'VERSION_' not in done and 'PACK_TABLE' not in done and 'PACK_COUNT' not in done, done
    s.start()


def test_scrub_by_hand(quiet):
    """Beside a running server the tool finds what is damaged, and what is good again."""
    alice = quiet.client('alice@example.com')
    share = alice.make_share(f'Scrub {time.time()}')
    content = os.urandom(5000)
    alice.make_file(share['id'], 'f', content)
    quiet.job('scrub', '--full')
    assert marked(quiet) == 0 and quiet.jobs()['scrub']['bytes'] >= 5000
    flip(quiet, content)
    quiet.job('scrub', '--full')
    assert marked(quiet) == 1
    quiet.stop()
    done = quiet.run('fsck', check=False)
    assert 'Marked as damaged by the scrub, until their bytes come again: 1 chunks.' in done.stdout and done.returncode == 1
    broken = bytearray(content)
    broken[5] ^= 4
    flip(quiet, bytes(broken))
    quiet.job('scrub', '--full')
    assert marked(quiet) == 0
    quiet.start()


def wait_for(what, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_by_itself(private_server):
    s = private_server({'jobs.look_s': '1'})
    wait_for(lambda: rounds(s, 'housekeeping') == 1)
    wait_for(lambda: metric(s, 'scaidrive_job_last_success_timestamp_seconds', job='housekeeping') > time.time() - 60)
    s.sql("update jobs set due_at = 0 where name = 'housekeeping'")
    wait_for(lambda: rounds(s, 'housekeeping') == 2)
    time.sleep(1.5)
    assert rounds(s, 'housekeeping') == 2


def test_two_servers(private_server, engine):
    """Two servers on one database: each round is done by one of them."""
    if engine != 'postgresql':
        pytest.skip('SQLite has one server')
    one = private_server({'jobs.look_s': '1'})
    two = Server({'jobs.look_s': '1'}, database_url=one.settings['database.url'])
    try:
        os.makedirs(two.data + '/packs', mode=0o700)
        shutil.copy(one.data + '/packs/mark', two.data + '/packs/mark')
        two.start()
        for _ in range(5):
            one.sql('update jobs set due_at = 0')
            time.sleep(1.2)
        wait_for(lambda: one.sql('select count(*) from jobs where held_until > 0') == [['0']])
        total = int(one.sql("select rounds from jobs where name = 'housekeeping'")[0][0])
        assert total >= 5 and total == rounds(one, 'housekeeping') + rounds(two, 'housekeeping')
    finally:
        two.close()


def test_collect_by_hand_removes(private_server):
    """Beside a server, whose finder it does not have."""
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share('Papers')
    file = alice.make_file(share['id'], 'a.txt', b'some content\n' * 100)
    wait_for(lambda: server.sql("select held_until from jobs where name = 'collect'") == [['0']])
    two_hours = 7200 * 1000 << 22  # of ids
    columns = 'tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh'
    server.sql(f'insert into chunks (id, {columns}) select min(id) - {two_hours}, {columns} from chunks group by {columns} limit 1')
    server.sql('update packs set size_bytes = (select sum(stored_len) from chunks where pack_id = packs.id)')
    server.sql('insert into chunk_marks (chunk_id, tenant_id, reason, since_at) select min(id), min(tenant_id), 1, 1 from chunks')
    before = int(server.sql('select count(*) from chunks')[0][0])
    server.run('jobs', 'run', 'collect', '--full')
    assert int(server.sql('select count(*) from chunks')[0][0]) == before - 1
    assert alice.content(file['id']) == b'some content\n' * 100
