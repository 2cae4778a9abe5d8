"""Resumable uploads: sessions, pieces in any order, restarts, and everything a client can do wrong."""
import base64
import contextlib
import gzip
import hashlib
import os
import random
import socket
import sqlite3
import subprocess
import threading
import time

import pytest
from helpers import V1, children, fields_of, refused, replaced, sha, together, versions_of
from support import unique

KIB, MIB = 1 << 10, 1 << 20
PIECE = 64 * KIB


def begin(api, share, content, chunk_size=PIECE, name=None, **more):
    """The response, whatever its status."""
    body = {'share_id': share['id'], 'file_name': name or unique('file') + '.bin', 'file_size': len(content), 'chunk_size': chunk_size}
    return api.post(f'{V1}/uploads', json={**body, **more})


def begun(api, share, content, chunk_size=PIECE, **more):
    r = begin(api, share, content, chunk_size, **more)
    assert r.status_code == 201, r.text
    up = r.json()
    assert up['id'] == up['session_id'] and up['id'].startswith('ups_')
    assert up['total_chunks'] == -(-len(content) // chunk_size) and up['chunk_size'] == chunk_size
    return up


def piece(content, i, size=PIECE):
    return content[i * size:(i + 1) * size]


def put(api, up, i, data, **headers):
    return api.put(f'{V1}/uploads/{up["id"]}/chunks/{i}', content=data, headers={k.replace('_', '-'): v for k, v in headers.items()})


def sent(api, up, content, order=None, size=None):
    size = size or up['chunk_size']
    for i in order if order is not None else range(up['total_chunks']):
        r = put(api, up, i, piece(content, i, size))
        assert r.status_code == 200, r.text


def half_sent(server, api, up, content, n):
    """A connection on which n bytes of piece 0 have been sent."""
    s = socket.create_connection(('127.0.0.1', server.port), 10)
    s.sendall(f'PUT {V1}/uploads/{up["id"]}/chunks/0 HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers["Authorization"]}\r\n'
              f'Content-Length: {len(content)}\r\n\r\n'.encode() + content[:n])
    return s


def progress(api, up):
    return api.ok('GET', f'{V1}/uploads/{up["id"]}')


def complete(api, up):
    """The response; a 503 is asked again."""
    for _ in range(60):
        r = api.post(f'{V1}/uploads/{up["id"]}/complete')
        if r.status_code != 503:
            return r
        assert int(r.headers['retry-after']) >= 1
        time.sleep(0.2)
    return r


def completed(api, up, content):
    r = complete(api, up)
    assert r.status_code == 200, r.text
    file = r.json()
    assert file['file_id'] == file['id'] and file['size'] == len(content) and file['checksum_sha256'] == sha(content)
    assert api.content(file['id']) == content
    return file


def staging_files(server):
    return sum(len(files) for _, _, files in os.walk(os.path.join(server.data, 'uploads')))


def stored_bytes(server):
    """Bytes of all packs."""
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(server.data, 'packs')) for f in files)


def run_sql(server, text):
    """While the server is down."""
    if server.engine == 'sqlite':
        with contextlib.closing(sqlite3.connect(os.path.join(server.data, 'scaidrive.db'))) as db, db:
            db.execute(text)
    else:
        subprocess.run(['psql', '-q', server.settings['database.url'], '-c', text], check=True)


def blob(n, seed=0):
    return random.Random(seed).randbytes(n)


# ---- the way it is meant ----

@pytest.mark.parametrize('size', [1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 5 * PIECE + 12345, 6 * MIB])
def test_in_order(alice, share, size):
    content = blob(size, size)
    up = begun(alice, share, content)
    sent(alice, up, content)
    p = progress(alice, up)
    assert p['missing_chunks'] == [] and p['received_chunks'] == list(range(up['total_chunks']))
    assert p['bytes_received'] == size and p['status'] == 'active'
    file = completed(alice, up, content)
    assert file['version'] == 1
    p = progress(alice, up)
    assert (p['status'], p['file_id'], p['version_id']) == ('completed', file['id'], file['version_id'])


def test_empty_file(alice, share):
    up = begun(alice, share, b'')
    assert up['total_chunks'] == 0
    completed(alice, up, b'')


@pytest.mark.parametrize('order', ['reverse', 'random', 'odd first'])
def test_any_order(alice, share, order):
    content = blob(40 * PIECE + 99, 7)
    up = begun(alice, share, content)
    indices = list(range(up['total_chunks']))
    if order == 'reverse':
        indices.reverse()
    elif order == 'random':
        random.Random(3).shuffle(indices)
    else:
        indices = indices[1::2] + indices[::2]
    for k, i in enumerate(indices):
        assert put(alice, up, i, piece(content, i)).status_code == 200
        if k == len(indices) // 2:
            p = progress(alice, up)
            assert p['received_chunks'] == sorted(indices[:k + 1]) and p['missing_chunks'] == sorted(indices[k + 1:])
    completed(alice, up, content)


def test_parallel_with_duplicates(alice, share):
    content = blob(64 * PIECE, 9)
    up = begun(alice, share, content)
    shares = [list(range(k, 64, 4)) + list(range(0, 64, 7)) for k in range(4)]

    def run(indices):
        for i in indices:
            r = put(alice, up, i, piece(content, i))
            assert r.status_code == 200, r.text

    together(*[lambda s=s: run(s) for s in shares])
    completed(alice, up, content)


def test_same_chunks_whichever_way(alice, share, server):
    """The content deduplicates against a simple upload of the same bytes."""
    content = blob(3 * MIB, 21)
    alice.make_file(share['id'], unique('a'), content)
    before = stored_bytes(server)
    up = begun(alice, share, content, MIB)
    sent(alice, up, content)
    completed(alice, up, content)
    assert stored_bytes(server) - before < 600 * KIB, 'at most two tails'


def test_large_pieces(alice, share):
    content = blob(9 * MIB + 5, 4)
    up = begun(alice, share, content, 4 * MIB)
    sent(alice, up, content, [1, 0, 2], 4 * MIB)
    completed(alice, up, content)


def test_large_pieces_at_once(alice, share, server):
    """More than a session may hold, half of each, the first last: all wait for room or for it, nobody for ever."""
    content = blob(6 * 4 * MIB, 41)
    up = begun(alice, share, content, 4 * MIB)
    coming = []
    for i in (5, 1, 2, 3, 4, 0, 0):
        s = socket.create_connection(('127.0.0.1', server.port), 20)
        data = piece(content, i, 4 * MIB)
        s.sendall(f'PUT {V1}/uploads/{up["id"]}/chunks/{i} HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers["Authorization"]}\r\n'
                  f'Content-Length: {len(data)}\r\n\r\n'.encode() + data[:MIB])
        coming.append((s, data[MIB:]))

    def rest(s, data):
        s.sendall(data)
        assert s.recv(12) == b'HTTP/1.1 200'
        s.close()

    begin_s = time.monotonic()
    together(*[lambda c=c: rest(*c) for c in coming])
    assert time.monotonic() - begin_s < 10
    completed(alice, up, content)


def test_repetitive_content(alice, share):
    content = bytes(5 * MIB) + b'x' * MIB
    up = begun(alice, share, content)
    sent(alice, up, content, reversed(range(up['total_chunks'])))
    completed(alice, up, content)


# ---- completing ----

def test_complete_is_repeatable(alice, share):
    content = blob(3 * PIECE, 5)
    up = begun(alice, share, content)
    sent(alice, up, content)
    first = completed(alice, up, content)
    again = complete(alice, up)
    assert again.status_code == 200 and again.json()['version_id'] == first['version_id'] and again.json()['id'] == first['id']
    assert len(versions_of(alice, first)) == 1
    refused(put(alice, up, 0, piece(content, 0)), 409, 'CONFLICT')


def test_complete_together(alice, share):
    content = blob(3 * PIECE, 6)
    up = begun(alice, share, content)
    sent(alice, up, content)
    answers = together(*[lambda: complete(alice, up) for _ in range(6)])
    assert {r.status_code for r in answers} == {200} and len({r.json()['version_id'] for r in answers}) == 1


def test_missing_pieces_are_named(alice, share):
    content = blob(30 * PIECE)
    up = begun(alice, share, content)
    sent(alice, up, content, [0, 2, 29])
    body = refused(alice.post(f'{V1}/uploads/{up["id"]}/complete'), 409, 'CONFLICT')
    assert '27 of 30' in body['detail'] and '1, 3, 4' in body['detail']


def test_whole_checksum(alice, share):
    content = blob(3 * PIECE, 8)
    up = begun(alice, share, content, checksum_sha256=sha(content))
    sent(alice, up, content)
    completed(alice, up, content)
    up = begun(alice, share, content, checksum_sha256=sha(b'other'))
    sent(alice, up, content)
    refused(complete(alice, up), 400, 'CHECKSUM_MISMATCH')


def test_name_taken_meanwhile(alice, share):
    content = blob(PIECE)
    name = unique('late')
    up = begun(alice, share, content, name=name)
    refused(begin(alice, share, content, name=alice.make_file(share['id'], unique('there'), b'x')['name']), 409, 'NAME_CONFLICT')
    sent(alice, up, content)
    alice.make_file(share['id'], name, b'first')
    refused(complete(alice, up), 409, 'NAME_CONFLICT')


def test_new_version(alice, share):
    file = alice.make_file(share['id'], unique('f'), b'one')
    content = blob(2 * PIECE, 11)
    up = begun(alice, share, content, replace_file_id=file['id'], base_version_id=file['version_id'], mtime='2026-01-02T03:04:05.678901Z',
               executable=True)
    sent(alice, up, content)
    done = completed(alice, up, content)
    assert (done['id'], done['version'], done['mtime'], done['executable']) == (file['id'], 2, '2026-01-02T03:04:05.678901Z', True)
    up = begun(alice, share, content[:5], replace_file_id=file['id'], base_version_id=file['version_id'])
    sent(alice, up, content[:5])
    refused(complete(alice, up), 409, 'SYNC_VERSION_STALE')
    up = begun(alice, share, content[:5], replace_file_id=file['id'], base_version_id=file['version_id'], conflict_resolution='MANUAL')
    sent(alice, up, content[:5])
    kept = complete(alice, up).json()
    assert kept['conflict_id'] and kept['version'] == 2


def test_staged(alice, share):
    file = alice.make_file(share['id'], unique('f'), b'one')
    content = blob(PIECE, 12)
    up = begun(alice, share, content, replace_file_id=file['id'], staged=True)
    sent(alice, up, content)
    done = complete(alice, up).json()
    assert done['staged'] and done['version'] == 1 and done['version_id'] != file['version_id']
    assert complete(alice, up).json()['version_id'] == done['version_id']
    assert ('body.replace_file_id', 'missing') in fields_of(begin(alice, share, content, staged=True))


# ---- what a client can do wrong ----

def test_wrong_lengths(alice, share):
    content = blob(2 * PIECE + 10)
    up = begun(alice, share, content)
    for i, data in [(0, b''), (0, content[:100]), (0, content[:PIECE + 1]), (2, content[:11]), (2, b'123456789')]:
        refused(put(alice, up, i, data), 400, 'BAD_REQUEST')

    def slowly(data):
        for k in range(0, len(data), 10000):
            yield data[k:k + 10000]

    refused(put(alice, up, 0, slowly(content[:PIECE - 1])), 400, 'BAD_REQUEST')
    r = put(alice, up, 0, slowly(content[:PIECE + 1]))
    refused(r, 413, 'PAYLOAD_TOO_LARGE')
    assert progress(alice, up)['received_chunks'] == []
    assert put(alice, up, 0, slowly(content[:PIECE])).status_code == 200, 'chunked transfer is as good'


def test_wrong_index(alice, share):
    up = begun(alice, share, blob(2 * PIECE))
    for i in ('2', '999999', '1000000', '-1', '9223372036854775808', 'x', '1e3'):
        assert put(alice, up, i, b'x' * PIECE).status_code == 422, i


def test_wrong_shapes(alice, share):
    base = {'share_id': share['id'], 'file_name': 'x', 'file_size': 10}
    for change, status in [({'file_size': -1}, 422), ({'file_size': 1 << 63}, 422), ({'file_size': (1 << 63) - 1}, 413),
                           ({'file_size': 1.5}, 422), ({'file_size': None}, 422), ({'chunk_size': 65535}, 422), ({'chunk_size': 65537}, 422),
                           ({'chunk_size': 8 * MIB}, 422), ({'chunk_size': 0}, 422), ({'file_size': 1 << 50, 'chunk_size': 65536}, 422),
                           ({'file_size': (1 << 50) + 1}, 413), ({'file_name': None}, 422), ({'file_name': 'a/b'}, 422),
                           ({'file_name': '..'}, 422), ({'checksum_sha256': 'zz'}, 422), ({'share_id': None}, 422),
                           ({'share_id': 'shr_0000000000001'}, 404), ({'chunk_hashes': ['zz']}, 422)]:
        r = alice.post(f'{V1}/uploads', json={**base, **change})
        assert r.status_code == status, (change, r.text)
    hints = alice.post(f'{V1}/uploads', json={**base, 'file_name': unique('h'), 'chunk_hashes': [sha(b'x')]})
    assert hints.status_code == 201 and hints.json()['existing_chunks'] == []


def test_piece_checksums(alice, share):
    content = blob(3 * PIECE)
    up = begun(alice, share, content)
    first, wrong = piece(content, 0), hashlib.sha256(b'other')
    refused(put(alice, up, 0, first, X_Chunk_SHA256=wrong.hexdigest()), 400, 'CHECKSUM_MISMATCH')
    digest = 'sha-256=:' + base64.b64encode(wrong.digest()).decode() + ':'
    refused(put(alice, up, 0, first, Content_Digest=digest), 400, 'CHECKSUM_MISMATCH')
    right = 'sha-512=:YQ==:, sha-256=:' + base64.b64encode(hashlib.sha256(first).digest()).decode() + ':'
    lines = [('Content-Digest', 'sha-512=:YQ==:'), ('Content-Digest', digest), *alice.headers.raw]
    refused(alice.put(f'{V1}/uploads/{up["id"]}/chunks/0', content=first, headers=lines), 400, 'CHECKSUM_MISMATCH')
    for bad in ('sha-256=abc', 'sha-256=:!!!:', 'sha-256', 'sha-256=:YQ==:', '='):
        refused(put(alice, up, 0, first, Content_Digest=bad), 400, 'BAD_REQUEST')
    refused(put(alice, up, 0, first, X_Chunk_SHA256='12'), 400, 'BAD_REQUEST')
    refused(put(alice, up, 0, first, X_Chunk_SHA256=wrong.hexdigest(), Content_Digest=right), 400, 'BAD_REQUEST')
    refused(put(alice, up, 0, first, Content_Encoding='gzip'), 415, 'UNSUPPORTED_MEDIA_TYPE')
    assert progress(alice, up)['received_chunks'] == []
    assert put(alice, up, 0, first, Content_Digest=right).status_code == 200
    assert put(alice, up, 1, piece(content, 1), X_Chunk_SHA256=sha(piece(content, 1))).status_code == 200
    assert put(alice, up, 2, piece(content, 2), Content_Digest='sha-512=:YQ==:').status_code == 200
    completed(alice, up, content)


def test_body_cut_off(alice, share, server):
    content = blob(4 * MIB, 13)
    up = begun(alice, share, content, 4 * MIB)
    for n in (0, 1, 1 * MIB, 4 * MIB - 1):
        s = half_sent(server, alice, up, content, n)
        s.close()
    assert progress(alice, up)['received_chunks'] == []
    sent(alice, up, content)
    completed(alice, up, content)


def test_slow_senders_hold_nobody(alice, share, server):
    """More half-sent pieces than there are workers or room in memory; others go on."""
    content = blob(4 * MIB, 14)
    stuck = []
    for _ in range(12):
        up = begun(alice, share, content, 4 * MIB)
        s = half_sent(server, alice, up, content, MIB)
        stuck.append((s, up))
    up = begun(alice, share, content + content, 4 * MIB)
    begin_s = time.monotonic()
    sent(alice, up, content + content, [1, 0])
    completed(alice, up, content + content)
    assert time.monotonic() - begin_s < 15
    for s, up in stuck:
        s.sendall(content[MIB:])
        assert s.recv(12) == b'HTTP/1.1 200'
        s.close()
        completed(alice, up, content)


def test_whose_session(alice, bob, eve, other, anonymous, shared):
    content = blob(PIECE)
    up = begun(alice, shared, content)
    for who in (bob, eve, other):
        refused(who.get(f'{V1}/uploads/{up["id"]}'), 404, 'NOT_FOUND')
        refused(put(who, up, 0, content), 404, 'NOT_FOUND')
        refused(who.post(f'{V1}/uploads/{up["id"]}/complete'), 404, 'NOT_FOUND')
        refused(who.delete(f'{V1}/uploads/{up["id"]}'), 404, 'NOT_FOUND')
    assert anonymous.get(f'{V1}/uploads/{up["id"]}').status_code == 401
    refused(begin(eve, shared, content), 404, 'NOT_FOUND')


def test_rights_end_in_between(alice, bob, share):
    alice.add_member(share['id'], bob.me()['id'], 'contributor')
    content = blob(2 * PIECE)
    up = begun(bob, share, content)
    sent(bob, up, content, [0])
    alice.ok('PATCH', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}', json={'role': 'reader'})
    refused(put(bob, up, 1, piece(content, 1)), 403, 'PERMISSION_DENIED')
    alice.ok('PATCH', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}', json={'role': 'contributor'})
    sent(bob, up, content, [1])
    alice.ok('PATCH', f'{V1}/shares/{share["id"]}/members/{bob.me()["id"]}', json={'role': 'reader'})
    refused(complete(bob, up), 403, 'PERMISSION_DENIED')


def test_cancel(alice, share):
    content = blob(4 * PIECE)
    up = begun(alice, share, content)
    sent(alice, up, content, [3, 0])
    for _ in range(2):
        assert alice.delete(f'{V1}/uploads/{up["id"]}').status_code == 204
    refused(alice.get(f'{V1}/uploads/{up["id"]}'), 410, 'EXPIRED')
    refused(put(alice, up, 1, piece(content, 1)), 410, 'EXPIRED')
    refused(complete(alice, up), 410, 'EXPIRED')
    refused(alice.delete(f'{V1}/uploads/ups_0000000000001'), 404, 'NOT_FOUND')
    done = begun(alice, share, content)
    sent(alice, done, content)
    completed(alice, done, content)
    refused(alice.delete(f'{V1}/uploads/{done["id"]}'), 409, 'CONFLICT')


@pytest.mark.parametrize('size', [64 * KIB, 4 * MIB])
def test_cancel_while_a_piece_comes(alice, share, server, size):
    content = blob(size, 24)
    before = staging_files(server)
    up = begun(alice, share, content, size)
    with half_sent(server, alice, up, content, size // 2) as s:
        time.sleep(0.2)
        assert alice.delete(f'{V1}/uploads/{up["id"]}').status_code == 204
        s.sendall(content[size // 2:])
        answer = s.recv(65536)
        assert answer.startswith(b'HTTP/1.1 410 ') and b'EXPIRED' in answer
    end = time.monotonic() + 20
    while staging_files(server) != before and time.monotonic() < end:
        time.sleep(0.05)
    assert staging_files(server) == before


@pytest.mark.parametrize('what', ['share', 'folder', 'file'])
def test_trashed_meanwhile(alice, what):
    """Nothing is lost: what was trashed is restored, and the upload completes."""
    share = alice.make_share()
    content = blob(2 * PIECE, 25)
    node = alice.make_folder(share['id']) if what == 'folder' else alice.make_file(share['id']) if what == 'file' else share
    more = {'folder': {'folder_id': node['id']}, 'file': {'replace_file_id': node['id'], 'base_version_id': node.get('version_id')}, 'share': {}}
    path = f'{V1}/{what}s/{node["id"]}'
    up = begun(alice, share, content, **more[what])
    sent(alice, up, content, [1])
    assert alice.delete(path).status_code == 204
    if what == 'share':
        refused(begin(alice, share, content), 410, 'GONE')
    sent(alice, up, content, [0])
    refused(complete(alice, up), 410, 'GONE')
    if what == 'share':
        return
    assert alice.patch(path, json={'restore': True}).status_code == 200
    assert completed(alice, up, content)['version'] == (2 if what == 'file' else 1)


@pytest.mark.parametrize('strategy, current, versions, copies', [
    (None, b'two', 2, 0), ('LAST_WRITER_WINS', None, 3, 0), ('CLIENT_WINS', None, 3, 0), ('SERVER_WINS', b'two', 3, 0),
    ('MANUAL', b'two', 3, 0), ('KEEP_BOTH', b'two', 3, 1)])
def test_edited_meanwhile(alice, share, strategy, current, versions, copies):
    file = alice.make_file(share['id'], 'plan.txt', b'one')
    content = blob(2 * PIECE, 26)
    up = begun(alice, share, content, name='plan.txt', replace_file_id=file['id'], base_version_id=file['version_id'], conflict_resolution=strategy)
    sent(alice, up, content)
    replaced(alice, file, b'two')
    r = complete(alice, up)
    if strategy:
        assert r.status_code == 200 and r.json()['conflict_id'] and complete(alice, up).json()['version_id'] == r.json()['version_id']
    else:
        refused(r, 409, 'SYNC_VERSION_STALE')
    assert alice.content(file['id']) == (current or content) and len(versions_of(alice, file)) == versions
    others = [n for n in children(alice, share) if n['id'] != file['id']]
    assert [alice.content(n['id']) for n in others] == [content] * copies


def test_base_of_another_file(alice, share):
    """It is as stale as any that is not the current version."""
    a, b = (alice.make_file(share['id'], unique('f'), c) for c in (b'a', b'b'))
    up = begun(alice, share, b'new', replace_file_id=a['id'], base_version_id=b['version_id'])
    sent(alice, up, b'new')
    refused(complete(alice, up), 409, 'SYNC_VERSION_STALE')
    assert alice.content(a['id']) == b'a' and len(versions_of(alice, a)) == 1


def test_idempotency_key(alice, share):
    key, name = unique('key'), unique('f')
    first = alice.post(f'{V1}/uploads', json={'share_id': share['id'], 'file_name': name, 'file_size': 5}, headers={'Idempotency-Key': key})
    again = alice.post(f'{V1}/uploads', json={'share_id': share['id'], 'file_name': name, 'file_size': 5}, headers={'Idempotency-Key': key})
    assert (first.status_code, again.status_code) == (201, 201) and first.json()['id'] == again.json()['id']
    refused(alice.post(f'{V1}/uploads', json={'share_id': share['id'], 'file_name': name, 'file_size': 6}, headers={'Idempotency-Key': key}),
            409, 'IDEMPOTENCY_KEY_REUSED')


def test_quota(admin, alice):
    share = alice.make_share()
    admin.ok('PATCH', f'{V1}/shares/{share["id"]}', json={'quota_bytes': 3 * PIECE})
    content = blob(2 * PIECE)
    refused(begin(alice, share, blob(4 * PIECE)), 507, 'QUOTA_EXCEEDED')
    up = begun(alice, share, content)
    refused(begin(alice, share, content), 507, 'QUOTA_EXCEEDED')
    sent(alice, up, content)
    alice.make_file(share['id'], unique('f'), blob(2 * PIECE))
    refused(complete(alice, up), 507, 'QUOTA_EXCEEDED')
    admin.ok('PATCH', f'{V1}/shares/{share["id"]}', json={'quota_bytes': 4 * PIECE})
    completed(alice, up, content)
    assert alice.ok('GET', f'{V1}/shares/{share["id"]}')['used_bytes'] == 4 * PIECE


def test_too_many_sessions(private_server):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    last = [begun(alice, share, b'x') for _ in range(1000)][-1]
    refused(begin(alice, share, b'x'), 429, 'RATE_LIMITED')
    assert alice.delete(f'{V1}/uploads/{last["id"]}').status_code == 204
    begun(alice, share, b'x')


# ---- restarts ----

@pytest.mark.parametrize('hard', [False, True])
def test_restarts(private_server, hard):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(6 * MIB + 777, 15)
    up = begun(alice, share, content, 256 * KIB, checksum_sha256=sha(content))
    order = list(range(up['total_chunks']))
    rng = random.Random(16)
    for k in range(0, len(order), 6):
        group = order[k:k + 6]
        rng.shuffle(group)
        sent(alice, up, content, group, 256 * KIB)
        received = progress(alice, up)['received_chunks']
        assert received == order[:k + 6]
        server.restart(hard=hard)
        assert progress(alice, up)['received_chunks'] == received, 'what was acknowledged is there'
    completed(alice, up, content)
    assert staging_files(server) == 0
    server.restart(hard=hard)
    assert complete(alice, up).status_code == 200


def test_restart_with_the_first_piece_last(private_server):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(5 * MIB, 17)
    up = begun(alice, share, content, 256 * KIB)
    sent(alice, up, content, reversed(range(1, 20)), 256 * KIB)
    assert staging_files(server) == 19
    server.restart(hard=True)
    sent(alice, up, content, [0], 256 * KIB)
    completed(alice, up, content)
    assert staging_files(server) == 0


@pytest.mark.parametrize('at', [0, 600 * KIB, 4 * MIB - 1])
def test_staged_piece_is_damaged(private_server, at):
    """Found when its turn comes, wherever in its four MiB the bit lies: the piece is missing again, nothing else is."""
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(16 * MIB, 23)
    up = begun(alice, share, content, 4 * MIB)
    sent(alice, up, content, [0, 2, 3])
    paths = sorted(os.path.join(d, f) for d, _, files in os.walk(os.path.join(server.data, 'uploads')) for f in files)
    assert len(paths) == 2
    for path in paths:
        with open(path, 'r+b') as f:
            if f.read(9) == content[8 * MIB:8 * MIB + 9]:
                f.seek(at)
                byte = f.read(1)[0]
                f.seek(at)
                f.write(bytes([byte ^ 4]))
    sent(alice, up, content, [1])
    end = time.monotonic() + 20
    while progress(alice, up)['missing_chunks'] != [2] and time.monotonic() < end:
        time.sleep(0.1)
    assert progress(alice, up)['missing_chunks'] == [2]
    sent(alice, up, content, [2])
    completed(alice, up, content)


def test_kill_while_pieces_fly(private_server):
    """What was acknowledged before kill -9 is there after it; the rest is sent again."""
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(16 * MIB, 18)
    up = begun(alice, share, content, 256 * KIB)
    done, stop = set(), threading.Event()

    def run(k):
        for i in range(k, 64, 4):
            if stop.is_set():
                return
            try:
                if put(alice, up, i, piece(content, i, 256 * KIB)).status_code == 200:
                    done.add(i)
            except Exception:
                return

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    while len(done) < 20:
        time.sleep(0.005)
    server.kill()
    stop.set()
    for t in threads:
        t.join()
    server.start()
    received = set(progress(alice, up)['received_chunks'])
    assert done <= received
    sent(alice, up, content, [i for i in range(64) if i not in received], 256 * KIB)
    completed(alice, up, content)


def test_the_end_after_a_day(private_server):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(3 * PIECE)
    up = begun(alice, share, content)
    sent(alice, up, content, [2, 0])
    server.stop()
    run_sql(server, 'update uploads set active_at = active_at - 86500000000')
    server.start()
    refused(alice.get(f'{V1}/uploads/{up["id"]}'), 410, 'EXPIRED')
    refused(put(alice, up, 1, piece(content, 1)), 410, 'EXPIRED')
    refused(complete(alice, up), 410, 'EXPIRED')
    end = time.monotonic() + 20
    while staging_files(server) and time.monotonic() < end:
        time.sleep(0.1)
    assert staging_files(server) == 0


def test_random_sessions(alice, share):
    """Random sizes, orders, duplicates and refused pieces, compared with a plain list."""
    rng = random.Random(int(os.environ.get('UPLOAD_SEED', '19')))
    for _ in range(int(os.environ.get('UPLOAD_ROUNDS', '30'))):
        content = rng.randbytes(rng.choice([1, PIECE, rng.randrange(1, 20 * PIECE)]))
        up = begun(alice, share, content)
        have, todo = set(), list(range(up['total_chunks'])) * 2
        rng.shuffle(todo)
        for i in todo:
            kind = rng.randrange(8)
            if kind == 0:
                assert put(alice, up, i, piece(content, i) + b'x').status_code == 400
            elif kind == 1 and i not in have:
                assert put(alice, up, i, piece(content, i), X_Chunk_SHA256='0' * 64).status_code == 400
            elif kind == 2:
                assert set(progress(alice, up)['received_chunks']) == have
            else:
                r = put(alice, up, i, piece(content, i))
                have.add(i)
                assert r.status_code == 200 and r.json()['received_count'] == len(have)
        sent(alice, up, content, [i for i in range(up['total_chunks']) if i not in have])
        completed(alice, up, content)


def test_fields_are_named(alice, share):
    assert ('body.file_size', 'missing') in fields_of(alice.post(f'{V1}/uploads', json={'share_id': share['id'], 'file_name': 'x'}))


# ---- simple uploads: what they are ----

def simple(api, share, name, content, mime='application/octet-stream', **headers):
    boundary = 'b0undary'
    lines = [f'Content-Disposition: form-data; name="file"; filename="{name}"', f'Content-Type: {mime}', *(f'{k.replace("_", "-")}: {v}' for k, v in headers.items())]
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="share_id"\r\n\r\n{share["id"]}\r\n--{boundary}\r\n' + '\r\n'.join(lines)
            + '\r\n\r\n').encode() + content + f'\r\n--{boundary}--\r\n'.encode()
    r = api.post(f'{V1}/files', content=body, headers={'Content-Type': f'multipart/form-data; boundary={boundary}'})
    assert r.status_code == 201, r.text
    return r.json()


def test_gzip_part(alice, share):
    plain = b'all work and no play ' * 50000
    packed = gzip.compress(plain)
    f = simple(alice, share, unique('g') + '.txt', packed, 'text/plain', Content_Encoding='gzip')
    assert (f['size'], f['decompressed_size'], f['checksum_sha256']) == (len(packed), len(plain), sha(packed))
    assert alice.content(f['id']) == packed
    assert versions_of(alice, f)[0]['decompressed_size'] == len(plain)
    for bad in (packed[:-1], b'no gzip at all', b''):
        f = simple(alice, share, unique('g'), bad, Content_Encoding='gzip')
        assert f['decompressed_size'] is None and f['size'] == len(bad)
    assert simple(alice, share, unique('g'), packed)['decompressed_size'] is None
    bomb = gzip.compress(bytes(200 * MIB))
    begin_s = time.monotonic()
    assert simple(alice, share, unique('g'), bomb, Content_Encoding='gzip')['decompressed_size'] == 200 * MIB
    assert time.monotonic() - begin_s < 20


@pytest.mark.parametrize('name, mime, content, expected', [
    ('a.bin', 'application/octet-stream', b'%PDF-1.7 ...', 'application/pdf'),
    ('a', 'application/octet-stream', b'\x89PNG\r\n\x1a\n.......', 'image/png'),
    ('a.txt', 'application/octet-stream', b'%PDF-1.7 ...', 'text/plain'),
    ('a.txt', 'text/x-mine', b'%PDF-1.7 ...', 'text/x-mine'),
    ('a.unknown', 'application/octet-stream', b'just text', 'application/octet-stream'),
    ('a.unknown', 'application/octet-stream', b'%', 'application/octet-stream'),
])
def test_media_type(alice, share, name, mime, content, expected):
    assert simple(alice, share, unique() + name, content, mime)['mime_type'] == expected


def test_is_this_content_there(alice, bob, eve, share):
    content = blob(1000, 33)
    ask = {'share_id': share['id'], 'checksum_sha256': sha(content)}
    assert alice.ok('GET', f'{V1}/files', params=ask) == {'files': []}
    a, b = (alice.make_file(share['id'], unique(), content) for _ in range(2))
    folder = alice.make_folder(share['id'], unique())
    below = alice.make_file(share['id'], unique(), content, folder_id=folder['id'])
    assert [f['id'] for f in alice.ok('GET', f'{V1}/files', params=ask)['files']] == [a['id'], b['id'], below['id']]
    alice.delete(f'{V1}/files/{a["id"]}')
    alice.delete(f'{V1}/folders/{folder["id"]}')
    assert [f['id'] for f in alice.ok('GET', f'{V1}/files', params=ask)['files']] == [b['id']]
    refused(eve.get(f'{V1}/files', params=ask), 404, 'NOT_FOUND')
    refused(alice.get(f'{V1}/files', params={**ask, 'checksum_sha256': 'z' * 64}), 422, 'VALIDATION_ERROR')
    assert alice.get(f'{V1}/files', params={'share_id': share['id']}).status_code == 422
