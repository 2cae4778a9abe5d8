"""Background work by hand and on its own: scaidrived jobs, on the real server. Ages are set in the database."""
import os
import re
import shutil
import time

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
