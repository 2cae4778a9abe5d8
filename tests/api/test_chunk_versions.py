"""POST /sync/versions: a version of any length, made of chunks that the caller has (D13, D14)."""
import hashlib
import os
import struct
import threading

import pytest
from helpers import V1, Device, fields_of, head, refused, replaced, sha, since, trash, updated, versions_of
from support import unique
from test_chunks import MAX, recipe, secret, sent  # noqa: F401 (a fixture)


def chunk(content, digest=None, length=None):
    return b'\x01' + (digest or hashlib.sha256(content).digest()) + struct.pack('<I', len(content) if length is None else length)


def run(source, first, count):
    return b'\x02' + struct.pack('<HII', source, first, count)


def put(api, content, steps, headers=None, **query):
    """content: the bytes that the steps are claimed to make."""
    params = {'size': len(content), 'checksum_sha256': sha(content), **query}
    params['sources'] = ','.join(params.get('sources', ())) or None
    return api.post(f'{V1}/sync/versions', params={k: v for k, v in params.items() if v is not None}, content=steps, headers=headers)


def made(api, content, steps, **query):
    r = put(api, content, steps, **query)
    assert r.status_code == 201, r.text
    return r.json()


@pytest.fixture(scope='module')
def big(alice):
    """A file of about 800 chunks, with them and where they begin."""
    share = alice.make_share()
    content = os.urandom(48 << 20)
    f = alice.make_file(share['id'], 'big', content)
    cut = recipe(alice, f)['chunks']
    assert 500 < len(cut) < 1500
    return share, f, content, cut


def edit(big, at=400):
    """What an edit of one chunk makes of the file: (content, the new chunk, steps)."""
    _, f, content, cut = big
    new = unique().encode() * 1000
    c = cut[at]
    return (content[:c['offset']] + new + content[c['offset'] + c['length']:], new,
            run(0, 0, at) + chunk(new) + run(0, at + 1, len(cut) - at - 1))


def test_an_edit_of_a_large_file_is_small(alice, big):
    share, f, _, cut = big
    content, new, steps = edit(big)
    assert len(steps) < 100
    refused(put(alice, content, steps, replace_file_id=f['id'], base_version_id=f['version_id'], sources=[f['version_id']]), 409, 'CHUNK_MISSING')
    sent(alice, share, new)
    before = head(alice)
    done = made(alice, content, steps, replace_file_id=f['id'], base_version_id=f['version_id'], sources=[f['version_id']],
                mtime='2026-03-01T09:00:00.123456Z', executable='true')
    assert (done['id'], done['version'], done['checksum_sha256'], done['size']) == (f['id'], 2, sha(content), len(content))
    assert (done['mtime'], done['executable']) == ('2026-03-01T09:00:00.123456Z', True)
    assert alice.content(f['id']) == content
    assert len(since(alice, share, before)) == 1
    # the same again changes nothing, also with a base that is stale now
    again = made(alice, content, steps, replace_file_id=f['id'], base_version_id=f['version_id'], sources=[f['version_id']])
    assert again['version_id'] == done['version_id'] and len(versions_of(alice, f)) == 2


def test_a_new_file_of_many_sources(alice, big):
    share, f, content, cut = big
    head = alice.make_file(share['id'], unique(), b'head')
    name = unique() + '.pdf'
    whole = b'head' + content[:cut[3]['offset']] + b'head' + content[cut[-1]['offset']:]
    steps = chunk(b'head') + run(1, 0, 3) + run(0, 0, 1) + run(1, len(cut) - 1, 1)
    done = made(alice, whole, steps, share_id=share['id'], name=name, sources=[head['version_id'], f['version_id']])
    assert (done['name'], done['version'], done['mime_type']) == (name, 1, 'application/pdf')
    assert alice.content(done['id']) == whole
    refused(put(alice, whole, steps, share_id=share['id'], name=name, sources=[head['version_id'], f['version_id']]), 409, 'NAME_CONFLICT')
    empty = made(alice, b'', b'', share_id=share['id'], name=unique())
    assert alice.content(empty['id']) == b''


def test_what_is_claimed_is_verified(alice, big):
    share, f, content, cut = big
    args = {'share_id': share['id'], 'name': unique(), 'sources': [f['version_id']]}
    steps = run(0, 0, len(cut))
    refused(put(alice, content, steps, checksum_sha256=sha(b'else'), **args), 400, 'CHECKSUM_MISMATCH')
    refused(put(alice, content, steps, size=len(content) - 1, **args), 400, 'CHECKSUM_MISMATCH')
    refused(put(alice, content, run(0, 1, len(cut) - 1), **args), 400, 'CHECKSUM_MISMATCH')
    refused(put(alice, content, chunk(b'', bytes.fromhex(cut[0]['hash']), 5), **args), 400, 'BAD_REQUEST')  # another length
    assert alice.ok('GET', f'{V1}/files', params={'share_id': share['id'], 'checksum_sha256': sha(b'else')})['files'] == []
    made(alice, content, steps, **args)


def test_steps_that_cannot_be_followed(alice, big):
    share, f, content, cut = big
    args = {'share_id': share['id'], 'name': unique(), 'sources': [f['version_id']]}
    n = len(cut)
    for steps in (run(0, 0, n + 1), run(0, n, 1), run(0, 1, n), run(0, 0xffffffff, 0xffffffff), run(0, 0, 0xffffffff), run(0, 0, 0), run(1, 0, 1),
                  run(65535, 0, 1), b'\0', b'\3' * 40, run(0, 0, n)[:-1], chunk(b'x')[:-1], chunk(b'x', length=0), chunk(b'x', length=MAX + 1),
                  run(0, 0, n) + b'\2'):
        refused(put(alice, content, steps, **args), 400, 'BAD_REQUEST')
    refused(put(alice, content, run(0, 0, n) * 6000, **args), 413, 'PAYLOAD_TOO_LARGE')  # too many chunks, and bytes
    assert fields_of(put(alice, content, b'', **{**args, 'sources': ['ver_x y']})) == {('query.sources', 'value_error')}
    assert fields_of(put(alice, content, b'', **{**args, 'sources': [f['version_id']] * 65})) == {('query.sources', 'too_long')}
    assert fields_of(put(alice, content, b'', checksum_sha256='z' * 64, share_id=share['id'], name='x')) == {('query.checksum_sha256', 'value_error')}
    assert fields_of(put(alice, content, b'')) == {('query.share_id', 'missing')}
    assert fields_of(put(alice, content, b'', share_id=share['id'])) == {('query.name', 'missing')}
    assert fields_of(alice.post(f'{V1}/sync/versions')) == {('query.size', 'missing'), ('query.checksum_sha256', 'missing')}


def test_staged_and_applied(alice, big):
    share, _, content, cut = big
    f = alice.make_file(share['id'], unique(), b'one')
    staged = made(alice, content, run(0, 0, len(cut)), replace_file_id=f['id'], base_version_id=f['version_id'], staged='true',
                  sources=[big[1]['version_id']])
    assert staged['staged'] and alice.content(f['id']) == b'one'
    done, _ = Device(alice, share).one(updated(f, staged['version_id'], f['version_id']))
    assert (done['status'], done['version']) == ('applied', 2) and alice.content(f['id']) == content


def test_a_stale_base_and_its_strategies(alice, big):
    share, _, content, cut = big
    f = alice.make_file(share['id'], unique(), b'one')
    replaced(alice, f, b'two', base=f['version_id'])
    args = {'replace_file_id': f['id'], 'base_version_id': f['version_id'], 'sources': [big[1]['version_id']]}
    steps = run(0, 0, len(cut))
    refused(put(alice, content, steps, **args), 409, 'SYNC_VERSION_STALE')
    kept = made(alice, content, steps, conflict_resolution='SERVER_WINS', **args)
    assert kept['conflict_id'] and alice.content(f['id']) == b'two'
    made(alice, content, steps, conflict_resolution='CLIENT_WINS', **args)
    assert alice.content(f['id']) == content


def test_a_lost_answer(alice, big):
    share, f, content, cut = big
    args = {'share_id': share['id'], 'name': unique(), 'sources': [f['version_id']], 'headers': {'Idempotency-Key': unique()}}
    first = made(alice, content, run(0, 0, len(cut)), **args)
    assert made(alice, content, run(0, 0, len(cut)), **args)['version_id'] == first['version_id']
    part = content[:cut[5]['offset']]
    refused(put(alice, part, run(0, 0, 5), **args), 409, 'IDEMPOTENCY_KEY_REUSED')


def test_quota_is_seen_before_the_work(admin):
    share = admin.make_share(quota_bytes=500_000)
    f = admin.make_file(share['id'], 'f', os.urandom(400_000))
    n = recipe(admin, f)['total']
    refused(put(admin, b'x' * 400_000, run(0, 0, n), share_id=share['id'], name='g', sources=[f['version_id']]), 507, 'QUOTA_EXCEEDED')


# ---- D13: a hash is not a key, nor is an id ----

@pytest.mark.parametrize('thief', ['bob', 'other'])
def test_nothing_is_had_by_knowing_it(request, alice, share, secret, thief):  # noqa: F811
    thief = request.getfixturevalue(thief)
    mine, (f, content) = thief.make_share(), secret
    for sources in ([], [f['version_id']], ['ver_0000000000001']):
        refused(put(thief, content, chunk(content), share_id=mine['id'], name=unique(), sources=sources), 409, 'CHUNK_MISSING')
    hidden = refused(put(thief, content, run(0, 0, 1), share_id=mine['id'], name='x', sources=[f['version_id']]), 409, 'CHUNK_MISSING')
    unknown = refused(put(thief, content, run(0, 0, 1), share_id=mine['id'], name='x', sources=['ver_0000000000001']), 409, 'CHUNK_MISSING')
    assert hidden['detail'] == unknown['detail'], 'hidden is as unknown'
    # where a run of it would end is not told either
    beyond = refused(put(thief, content, run(0, 10, 99), share_id=mine['id'], name='x', sources=[f['version_id']]), 409, 'CHUNK_MISSING')
    assert beyond['detail'] == unknown['detail']
    refused(put(thief, b'', b'', share_id=share['id'], name='x'), 404, 'NOT_FOUND')
    refused(put(thief, b'', b'', replace_file_id=f['id']), 404, 'NOT_FOUND')
    sent(thief, mine, content)  # with the bytes it is his
    assert thief.content(made(thief, content, chunk(content), share_id=mine['id'], name='own')['id']) == content


def test_what_another_sent_is_not_had(alice, bob, share):
    alice.add_member(share['id'], bob.me()['id'], 'contributor')
    content = unique().encode()
    sent(alice, share, content)
    refused(put(bob, content, chunk(content), share_id=share['id'], name='stolen'), 409, 'CHUNK_MISSING')
    made(alice, content, chunk(content), share_id=share['id'], name='mine')


def test_losing_the_right_to_read_loses_the_source(alice, bob, share):
    alice.add_member(share['id'], bob.me()['id'], 'reader')
    f, mine = alice.make_file(share['id'], content=b'abc'), bob.make_share()
    args = {'share_id': mine['id'], 'sources': [f['version_id']]}
    refused(put(bob, b'abc', run(0, 0, 1), share_id=share['id'], name='x', sources=[f['version_id']]), 403, 'PERMISSION_DENIED')
    made(bob, b'abc', run(0, 0, 1), name='one', **args)
    alice.ok('DELETE', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}')
    refused(put(bob, b'abc', run(0, 0, 1), name='two', **args), 409, 'CHUNK_MISSING')


def test_a_source_in_the_trash_serves_its_readers(alice, share):
    f = alice.make_file(share['id'], content=b'abc')
    trash(alice, f)
    made(alice, b'abc', run(0, 0, 1), share_id=share['id'], name='again', sources=[f['version_id']])


# ---- the lane ----

@pytest.mark.once('postgresql')  # hashes some gigabytes, which takes the sanitizers long and meets no code of ours
def test_few_hash_at_once(private_server):
    """Tiny bodies that name gigabytes: half of the workers hash, the others serve, and who is refused may come again."""
    alice = private_server(settings={'lanes.bulk': 2}).client('alice@example.com')
    share, content, times = alice.make_share(), os.urandom(16 << 20), 60
    f = alice.make_file(share['id'], 'big', content)
    steps, whole = run(0, 0, recipe(alice, f)['total']) * times, hashlib.sha256()
    for _ in range(times):
        whole.update(content)
    answers = []

    def go(name):
        answers.append(alice.post(f'{V1}/sync/versions', content=steps, params={
            'share_id': share['id'], 'name': name, 'size': times * len(content), 'checksum_sha256': whole.hexdigest(),
            'sources': f['version_id']}))

    threads = [threading.Thread(target=go, args=(unique(),)) for _ in range(6)]
    for t in threads:
        t.start()
    assert alice.content(f['id']) == content  # the lane still serves
    for t in threads:
        t.join()
    done = [r for r in answers if r.status_code == 201]
    busy = [r for r in answers if r.status_code != 201]
    assert done and busy, [r.status_code for r in answers]
    for r in busy:
        refused(r, 503, 'OVERLOADED')
        assert r.headers['Retry-After']
