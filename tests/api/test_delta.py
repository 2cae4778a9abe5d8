"""Differences on the wire: recipes in steps, signatures, patches up, prefixes down (D13, D15)."""
import hashlib
import os
import random
import struct

import pytest
from helpers import V1, refused, replaced, sha, trash
from packing import unzstd, xxh3, zstd
from test_chunk_versions import chunk, run
from test_chunks import MAX, missing, recipe, send, sent

BASED, ZSTD = 1 << 31, 1 << 30
UNKNOWN = 'ver_0000000000001'


def flagged(content, payload, flags):
    """A frame for a chunk with this content."""
    return hashlib.sha256(content).digest() + struct.pack('<I', len(payload) | flags) + payload


def literal(content):
    return b'\x01' + struct.pack('<I', len(content)) + content


def copy(source, number, offset, length):
    return b'\x02' + struct.pack('<HIII', source, number, offset, length)


def patch(length, *instructions):
    return struct.pack('<I', length) + b''.join(instructions)


def put(api, share, body, *sources):
    return api.post(f'{V1}/sync/chunks', params={'share_id': share['id'], 'sources': ','.join(sources)}, content=body)


def steps(api, version, base=None, **params):
    return api.get(f'{V1}/sync/steps', params={'version_id': version, **({'base_version_id': base} if base else {}), **params})


def signatures(api, share, version, *runs):
    return api.post(f'{V1}/sync/chunks/signatures', params={'share_id': share['id']},
                    json={'version_id': version, 'runs': [{'first': f, 'count': c} for f, c in runs]})


def fetch(api, share, *items):
    """[(hex hash, flags, payload)]."""
    r = api.post(f'{V1}/sync/chunks/fetch', params={'share_id': share['id']}, json={'items': list(items), 'zstd': True})
    assert r.status_code == 200, r.text
    out, at, body = [], 0, r.content
    while at < len(body):
        n, = struct.unpack_from('<I', body, at + 32)
        size = n & ~(BASED | ZSTD)
        out.append((body[at:at + 32].hex(), n & (BASED | ZSTD), body[at + 36:at + 36 + size]))
        at += 36 + size
    assert at == len(body)
    return out


class Old:
    """A file of two versions of 3 MB that differ by an edit in the middle."""

    def __init__(self, api, share):
        self.share = share
        self.one = os.urandom(3_000_000)
        self.two = self.one[:1_500_000] + b'edited' * 100 + self.one[1_500_600:]
        self.file = api.make_file(share['id'], content=self.one)
        self.v1 = self.file['version_id']
        self.cut1 = recipe(api, self.file)['chunks']
        self.v2 = replaced(api, self.file, self.two, base=self.v1)['version_id']
        self.cut2 = recipe(api, self.file)['chunks']
        self.at = next(i for i, c in enumerate(self.cut1) if c['hash'] != self.cut2[i]['hash'])

    def chunk(self, number, version=1):
        c = (self.cut1 if version == 1 else self.cut2)[number]
        return (self.one if version == 1 else self.two)[c['offset']:c['offset'] + c['length']]


@pytest.fixture(scope='module')
def shared(alice):
    return alice.make_share()


@pytest.fixture(scope='module')
def old(alice, shared):
    return Old(alice, shared)


@pytest.fixture(params=['eve', 'other'])
def stranger(request):
    """Somebody of the tenant who is no member, and somebody of another tenant, each with a share."""
    api = request.getfixturevalue(request.param)
    return api, api.make_share()


# ---- steps ----

def test_steps_without_a_base(alice, old):
    r = steps(alice, old.v1)
    assert r.content == b''.join(chunk(b'', bytes.fromhex(c['hash']), c['length']) for c in old.cut1)
    assert (r.headers['x-content-length'], r.headers['x-content-sha256']) == (str(len(old.one)), sha(old.one))
    assert int(r.headers['content-length']) == len(r.content)
    short = steps(alice, old.v1, short='true').content
    assert short == b''.join(bytes.fromhex(c['hash'])[:8] + struct.pack('<I', c['length']) for c in old.cut1)


def test_steps_against_a_base(alice, old):
    at, n = old.at, len(old.cut1)
    new = [c for c in old.cut2 if c['hash'] not in {c['hash'] for c in old.cut1}]
    assert 1 <= len(new) <= 3
    tail = n - (len(old.cut2) - at - len(new))
    assert steps(alice, old.v2, old.v1).content == \
        run(0, 0, at) + b''.join(chunk(b'', bytes.fromhex(c['hash']), c['length']) for c in new) + run(0, tail, n - tail)
    assert steps(alice, old.v1, old.v1).content == run(0, 0, n)


def test_steps_of_moved_and_repeated_chunks(alice, shared):
    a, b, c = (bytes([i]) * 5000 for i in range(3))
    sent(alice, shared, a, b, c)

    def make(name, *parts):
        whole = b''.join(parts)
        r = alice.post(f'{V1}/sync/versions', params={'share_id': shared['id'], 'name': name, 'size': len(whole), 'checksum_sha256': sha(whole)},
                       content=b''.join(chunk(p) for p in parts))
        assert r.status_code == 201, r.text
        return r.json()['version_id']
    base = make('base', a, b, a, a)
    assert steps(alice, make('turned', b, a, a, b), base).content == run(0, 1, 3) + run(0, 1, 1)
    assert steps(alice, make('more', a, a, a, a), base).content == run(0, 0, 1) + run(0, 2, 2) + run(0, 0, 1)
    assert steps(alice, make('other', c, b, c), base).content == chunk(c) + run(0, 1, 1) + chunk(c)
    assert steps(alice, make('none'), base).content == b'' == steps(alice, make('none too')).content
    assert steps(alice, base, make('empty')).content == chunk(a) + chunk(b) + chunk(a) + chunk(a)


def test_any_steps_lead_to_the_recipe(alice, shared):
    """Versions that random edits of a list of chunks make: their steps, followed, are their recipe."""
    dice = random.Random(5)
    parts = [b'%d ' % i * 500 for i in range(12)]
    hashes = sent(alice, shared, *parts)
    versions = []
    for number in range(20):
        what = list(dice.choice(versions)[1]) if versions and number % 4 else [dice.randrange(12) for _ in range(dice.randrange(200))]
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(what) + 1)
            what[at:at + dice.randrange(9)] = [dice.randrange(12) for _ in range(dice.randrange(9))]
        whole = b''.join(parts[i] for i in what)
        r = alice.post(f'{V1}/sync/versions', params={'share_id': shared['id'], 'name': f'any {number}', 'size': len(whole), 'checksum_sha256': sha(whole)},
                       content=b''.join(chunk(parts[i]) for i in what))
        assert r.status_code == 201, r.text
        versions.append((r.json()['version_id'], what))
    for version, what in versions:
        for base, old_what in dice.sample(versions, 4):
            body, got = steps(alice, version, base).content, []
            while body:
                if body[0] == 1:
                    got.append(hashes.index(body[1:33].hex()))
                    assert got[-1] not in old_what
                    body = body[37:]
                else:
                    source, first, count = struct.unpack_from('<HII', body, 1)
                    assert source == 0 and first + count <= len(old_what)
                    got += old_what[first:first + count]
                    body = body[11:]
            assert got == what


def test_steps_are_not_sent_again(alice, old):
    seen = {steps(alice, old.v2).headers['etag'], steps(alice, old.v2, old.v1).headers['etag'], steps(alice, old.v2, short='true').headers['etag']}
    assert len(seen) == 3 and not any(e.startswith('W/') for e in seen)
    r = alice.get(f'{V1}/sync/steps', params={'version_id': old.v2}, headers={'If-None-Match': steps(alice, old.v2).headers['etag']})
    assert r.status_code == 304 and not r.content


def test_steps_refused(alice, old, stranger):
    api, share = stranger
    mine = api.make_file(share['id'], content=b'mine')['version_id']

    def bare(r):
        return r.status_code, r.text.replace(r.headers['x-request-id'], '').replace(old.v1, '').replace(UNKNOWN, '')
    assert bare(steps(api, old.v1)) == bare(steps(api, UNKNOWN)) and steps(api, old.v1).status_code == 404
    assert bare(steps(api, mine, old.v1)) == bare(steps(api, mine, UNKNOWN)) and steps(api, mine, old.v1).status_code == 404
    refused(steps(alice, old.v2, old.v1, short='true'), 422, 'VALIDATION_ERROR')
    refused(alice.get(f'{V1}/sync/steps'), 422, 'VALIDATION_ERROR')


# ---- signatures ----

def signed(content):
    out = struct.pack('<I', len(content))
    for at in range(0, len(content), 1024):
        block, rolling = content[at:at + 1024], 0
        for byte in block:
            rolling = (rolling * 0xc2b2ae3d + byte) & 0xffffffff
        out += struct.pack('<IQ', rolling, xxh3(block))
    return out


def test_signatures(alice, shared, old):
    last = len(old.cut1) - 1
    r = signatures(alice, shared, old.v1, (last, 1), (3, 2))
    assert r.content == signed(old.chunk(last)) + signed(old.chunk(3)) + signed(old.chunk(4))
    assert int(r.headers['content-length']) == len(r.content)
    assert signatures(alice, shared, old.v1).content == b''


def test_signatures_refused(alice, shared, old, stranger):
    n = len(old.cut1)
    for beyond in ((n, 1), (0, n + 1), (n - 1, 2), (4294967295, 4294967295), (1, 4294967295)):
        refused(signatures(alice, shared, old.v1, beyond), 400, 'BAD_REQUEST')
    refused(signatures(alice, shared, old.v1, *[(0, n)] * 23), 413, 'PAYLOAD_TOO_LARGE')  # 69 MB
    refused(signatures(alice, shared, old.v1, (0, 0)), 422, 'VALIDATION_ERROR')
    small = alice.make_file(shared['id'], content=b'x')['version_id']
    refused(signatures(alice, shared, small, *[(0, 1)] * 10_001), 422, 'VALIDATION_ERROR')
    api, share = stranger
    hidden, unknown = (signatures(api, share, v, (0, 1)) for v in (old.v1, UNKNOWN))
    refused(hidden, 404, 'NOT_FOUND')
    assert hidden.text.replace(hidden.headers['x-request-id'], '').replace(old.v1, '') == \
        unknown.text.replace(unknown.headers['x-request-id'], '').replace(UNKNOWN, '')


# ---- patches ----

def test_a_patch_makes_a_chunk(alice, shared, old):
    a, b = old.chunk(3), old.chunk(7)
    new = a[:5000] + b'new bytes' + b[100:9000] + a[6000:]
    p = patch(len(new), copy(0, 3, 0, 5000), literal(b'new bytes'), copy(1, 7, 100, 8900), copy(0, 3, 6000, len(a) - 6000))
    whole, small = os.urandom(1000), b'y' * 50_000
    body = flagged(new, p, BASED) + flagged(whole, whole, 0) + flagged(small, zstd(small), ZSTD)
    again = new[::-1]
    body += flagged(again, zstd(patch(len(again), literal(again))), BASED | ZSTD)
    r = put(alice, shared, body, old.v1, old.v1)
    assert r.status_code == 200, r.text
    assert (r.json()['chunks'], r.json()['bytes']) == (4, 2 * len(new) + 51_000)
    assert missing(alice, shared, [sha(x) for x in (new, whole, small, again)]) == []
    content = small + new
    r = alice.post(f'{V1}/sync/versions', content=chunk(small) + chunk(new),
                   params={'share_id': shared['id'], 'name': 'patched', 'size': len(content), 'checksum_sha256': sha(content)})
    assert r.status_code == 201 and alice.content(r.json()['id']) == content


def test_a_patch_of_a_file_in_the_trash(alice, shared):
    f = alice.make_file(shared['id'], content=b'0123456789')
    trash(alice, f)
    assert put(alice, shared, flagged(b'345', patch(3, copy(0, 0, 3, 3)), BASED), f['version_id']).status_code == 200


def test_patches_from_what_one_may_not_read(old, stranger):
    """As if it were not there, whatever the patch says; and not an oracle for what is in it."""
    api, share = stranger
    guess = old.chunk(3)[:100]
    for number, offset in ((3, 0), (10**6, 0), (3, 10**6)):
        p = flagged(guess, patch(100, copy(0, number, offset, 100)), BASED)
        hidden, unknown = put(api, share, p, old.v1), put(api, share, p, UNKNOWN)
        refused(hidden, 409, 'CHUNK_MISSING')
        assert hidden.text.replace(hidden.headers['x-request-id'], '') == unknown.text.replace(unknown.headers['x-request-id'], '')
    assert missing(api, share, [sha(guess)]) == [0]


def test_hostile_patches(alice, shared, old):
    n, size = len(old.cut1), len(old.chunk(3))
    good = copy(0, 3, 0, 10)
    new = old.chunk(3)[:10]
    bad = [b'', b'\1', patch(10), patch(0), patch(10, good, good), patch(11, good), patch(9, good), patch(10, good[:-1]), patch(10, good, b'\3'),
           patch(MAX + 1, copy(0, 3, 0, 10)), patch(10, copy(1, 3, 0, 10)), patch(10, copy(65535, 3, 0, 10)), patch(10, copy(0, n, 0, 10)),
           patch(10, copy(0, 4294967295, 0, 10)), patch(10, copy(0, 3, size, 10)), patch(10, copy(0, 3, size - 9, 10)),
           patch(10, copy(0, 3, 4294967295, 10)), patch(10, copy(0, 3, 0, 4294967295)), patch(10, copy(0, 3, 0, 0), good),
           patch(10, literal(b''), good), patch(10, b'\1' + struct.pack('<I', 4294967295) + b'x'), patch(10, b'\0' + good)]
    for p in bad:
        refused(put(alice, shared, flagged(new, p, BASED), old.v1), 400, 'BAD_REQUEST')
        if p:
            refused(put(alice, shared, flagged(new, zstd(p), BASED | ZSTD), old.v1), 400, 'BAD_REQUEST')
    refused(put(alice, shared, flagged(b'other', patch(10, good), BASED), old.v1), 400, 'CHECKSUM_MISMATCH')
    # reading much for little
    big = sorted(range(n), key=lambda i: -old.cut1[i]['length'])[:2]
    turns = 2 + (4 << 20) // sum(old.cut1[i]['length'] for i in big)
    p = patch(2 * turns, *[copy(0, i, 0, 1) for _ in range(turns) for i in big])
    refused(put(alice, shared, flagged(b'x', p, BASED), old.v1), 400, 'BAD_REQUEST')
    # without sources; with malformed ones; with too many
    refused(put(alice, shared, flagged(new, patch(10, good), BASED)), 400, 'BAD_REQUEST')
    refused(put(alice, shared, flagged(new, patch(10, good), BASED), 'nonsense'), 422, 'VALIDATION_ERROR')
    refused(put(alice, shared, flagged(new, patch(10, good), BASED), *[old.v1] * 65), 422, 'VALIDATION_ERROR')
    assert put(alice, shared, flagged(new, patch(10, good), BASED), old.v1).status_code == 200


def test_reading_for_patches_is_bounded(alice, shared):
    """A short body has the server read a GiB at most."""
    f = alice.make_file(shared['id'], content=b'p' * MAX)
    one = flagged(b'p', patch(1, copy(0, 0, 0, 1)), BASED)
    assert put(alice, shared, one * 4096, f['version_id']).status_code == 200
    refused(put(alice, shared, one * 4097, f['version_id']), 413, 'PAYLOAD_TOO_LARGE')


def test_hostile_frames(alice, shared):
    content = b'z' * MAX
    frame = zstd(content)
    for payload in (frame[:-1], frame + b'\0', frame + frame, frame + bytes.fromhex('502a4d1801000000') + b'a', zstd(content, declared=False), zstd(content + b'z'), zstd(b''), b'no frame', content[:100],
                    zstd(b'z' * (1 << 27)), bytes.fromhex('502a4d1801000000') + b'a', frame[:4] + b'\xe0' + b'\xff' * 8 + frame[10:]):
        refused(send(alice, shared, raw=flagged(content, payload, ZSTD)), 400, 'BAD_REQUEST')
    for flags in (1 << 29, ZSTD | 1 << 28, 1 << 31 | 1 << 18):
        refused(send(alice, shared, raw=flagged(content, b'x', flags)), 400, 'BAD_REQUEST')
    for flags in (ZSTD, BASED, ZSTD | BASED):
        refused(send(alice, shared, raw=flagged(content, b'', flags)), 400, 'BAD_REQUEST')
        refused(send(alice, shared, raw=flagged(content, frame, flags)[:-1]), 400, 'BAD_REQUEST')
    assert send(alice, shared, raw=flagged(content, frame, ZSTD)).status_code == 200


def test_small_frames_that_grow_are_counted(alice):
    """What frames hold counts, not what was sent."""
    share = alice.make_share(quota_bytes=1_000_000)
    content = b'q' * MAX
    refused(send(alice, share, raw=flagged(content, zstd(content), ZSTD) * 4), 507, 'QUOTA_EXCEEDED')


# ---- prefixes ----

def test_fetching_against_a_base(alice, shared, old):
    """An edited chunk comes as what is new in it."""
    new, at = old.cut2[old.at], old.at
    item = {'version_id': old.v2, 'chunks': [new['hash'], old.cut2[0]['hash']], 'base_version_id': old.v1, 'bases': [{'first': at, 'count': 1}, None]}
    (digest, flags, payload), second, end = fetch(alice, shared, item)
    assert (digest, flags) == (new['hash'], BASED | ZSTD) and len(payload) < 1200
    assert unzstd(payload, MAX, old.chunk(at)) == old.chunk(at, 2)
    assert second == (old.cut2[0]['hash'], 0, old.chunk(0, 2))
    assert end == (sha(old.two), 0, b'')
    whole = fetch(alice, shared, {**item, 'bases': [{'first': max(at - 2, 0), 'count': 4}]})[0]
    prefix = b''.join(old.chunk(i) for i in range(max(at - 2, 0), max(at - 2, 0) + 4))
    assert whole[1] == BASED | ZSTD and unzstd(whole[2], MAX, prefix) == old.chunk(at, 2)


def test_bases_that_cannot_be_used_are_passed_over(alice, shared, old, stranger):
    n, new = len(old.cut1), old.cut2[old.at]
    plain = [(new['hash'], 0, old.chunk(old.at, 2)), (sha(old.two), 0, b'')]
    for base, bases in ((UNKNOWN, [{'first': 0, 'count': 1}]), (old.v1, [{'first': n, 'count': 1}]), (old.v1, [{'first': 0, 'count': n}]),
                        (old.v1, [{'first': 4294967295, 'count': 4294967295}]), (old.v1, [None]), (old.v1, [])):
        assert fetch(alice, shared, {'version_id': old.v2, 'chunks': [new['hash']], 'base_version_id': base, 'bases': bases}) == plain
    # a base that one may not read is none
    api, share = stranger
    content = old.chunk(old.at, 2)
    mine = api.make_file(share['id'], content=content)
    cut = recipe(api, mine)['chunks'][0]  # another tenant cuts otherwise
    item = {'version_id': mine['version_id'], 'chunks': [cut['hash']], 'base_version_id': old.v1, 'bases': [{'first': old.at, 'count': 1}]}
    assert fetch(api, share, item) == [(cut['hash'], 0, content[:cut['length']]), (sha(content), 0, b'')]


def test_reading_for_bases_is_bounded(alice, shared):
    """Beyond a GiB of bases chunks come without."""
    f = alice.make_file(shared['id'], content=b'b' * 4 * MAX)
    assert recipe(alice, f)['total'] == 4
    x = alice.make_file(shared['id'], content=b'b' * 99 + b'x')
    got = fetch(alice, shared, {'version_id': x['version_id'], 'chunks': [x['checksum_sha256']] * 1030,
                                'base_version_id': f['version_id'], 'bases': [{'first': 0, 'count': 4}] * 1030})
    assert [flags for _, flags, _ in got] == [BASED | ZSTD] * 1024 + [ZSTD] * 6 + [0]


def test_compressed_frames(alice, shared):
    text = b''.join(b'line %d of a text\n' % i for i in range(20_000))
    f = alice.make_file(shared['id'], content=text)
    got = fetch(alice, shared, {'version_id': f['version_id']})
    assert all(flags == ZSTD for _, flags, _ in got[:-1])
    parts = [unzstd(payload, MAX) for _, _, payload in got[:-1]]
    assert b''.join(parts) == text and [sha(p) for p in parts] == [digest for digest, _, _ in got[:-1]]
    assert sum(len(p) for _, _, p in got) < len(text) / 3
    # and back in, as they came
    share = alice.make_share()
    body = b''.join(bytes.fromhex(d) + struct.pack('<I', len(p) | flags) + p for d, flags, p in got[:-1])
    r = send(alice, share, raw=body)
    assert r.status_code == 200 and r.json()['bytes'] == len(text)
