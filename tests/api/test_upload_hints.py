"""Pieces that need not be sent (D16): by the pieces of one's earlier uploads, by one's chunks, and never by what others have."""
import time

import pytest
from helpers import V1, fields_of, refused, sha, versions_of
from support import unique
from test_chunks import send
from test_uploads import MIB, PIECE, begin, begun, blob, completed, piece, progress, put, run_sql, staging_files


def claimed(api, up, content, indices=None):
    """Sends pieces with their hashes."""
    for i in indices if indices is not None else range(up['total_chunks']):
        data = piece(content, i, up['chunk_size'])
        assert put(api, up, i, data, X_Chunk_SHA256=sha(data)).status_code == 200


def hashes(content, size=PIECE):
    return [sha(content[i:i + size]) for i in range(0, len(content), size)]


def hinted(api, share, content, chunk_size=PIECE, **more):
    """A new upload with the hashes of its pieces; they and existing_chunks agree with what is received."""
    up = begun(api, share, content, chunk_size, **{'chunk_hashes': hashes(content, chunk_size), **more})
    p = progress(api, up)
    assert p['received_chunks'] == up['existing_chunks']
    assert p['bytes_received'] == sum(len(piece(content, i, chunk_size)) for i in up['existing_chunks'])
    return up


def uploaded(api, share, content):
    """A complete upload whose pieces were all claimed."""
    up = begun(api, share, content)
    claimed(api, up, content)
    completed(api, up, content)


def finished(api, up, content):
    """Sends what is missing, without claims, and completes."""
    for i in progress(api, up)['missing_chunks']:
        assert put(api, up, i, piece(content, i, up['chunk_size'])).status_code == 200
    return completed(api, up, content)


@pytest.mark.parametrize('size', [1, 5 * PIECE, 9 * PIECE + 77, 3 * MIB])
def test_by_an_upload_that_is_complete(alice, share, size):
    content = blob(size, size + 1)
    uploaded(alice, share, content)
    up = hinted(alice, share, content)
    assert up['existing_chunks'] == list(range(up['total_chunks'])), 'all need not be sent'
    finished(alice, up, content)


def test_by_an_upload_that_is_open(alice, share):
    """The client forgot its session: what was fed counts, what lies beyond a gap or was sent without a claim does not."""
    content = blob(20 * PIECE, 51)
    lost = begun(alice, share, content)
    claimed(alice, lost, content, [0, 1, 2, 3])
    assert put(alice, lost, 4, piece(content, 4)).status_code == 200
    claimed(alice, lost, content, [5, 6, 7, 12])
    up = hinted(alice, share, content)
    assert set(up['existing_chunks']) <= {0, 1, 2, 3, 5, 6, 7} and {0, 1, 2, 3} <= set(up['existing_chunks'])
    alice.delete(f'{V1}/uploads/{lost["id"]}')
    finished(alice, up, content)


def test_a_large_file_that_changed(alice, share):
    """Whole pieces that did not change are not sent again, also where they moved and where they repeat."""
    old = blob(30 * PIECE, 52)
    first = begun(alice, share, old, checksum_sha256=sha(old))
    claimed(alice, first, old)
    file = completed(alice, first, old)
    new = old[:7 * PIECE] + blob(PIECE, 53) + old[20 * PIECE:] + old[:2 * PIECE] + old[:2 * PIECE] + b'tail'
    up = hinted(alice, share, new, replace_file_id=file['id'], base_version_id=file['version_id'], checksum_sha256=sha(new))
    assert set(range(up['total_chunks'])) - set(up['existing_chunks']) == {7, 22}
    assert finished(alice, up, new)['version'] == 2
    third = new[:PIECE] + new[2 * PIECE:]
    up = hinted(alice, share, third)
    assert len(up['existing_chunks']) == up['total_chunks'] - 2, 'what was found once is found again; what came without a claim is not'
    finished(alice, up, third)


def test_other_piece_lengths_find_nothing(alice, share):
    content = blob(8 * PIECE, 54)
    uploaded(alice, share, content)
    assert hinted(alice, share, content, 2 * PIECE)['existing_chunks'] == []
    half = content[:PIECE // 2]
    assert hinted(alice, share, half)['existing_chunks'] == []


def test_by_chunks_that_were_sent(alice, share):
    content = blob(700000, 55)
    cuts = [0, 1, 30000, 200000, 262144 + 200000, 690000, 700000]
    chunks = [content[a:b] for a, b in zip(cuts, cuts[1:])]
    assert send(alice, share, *[c for i, c in enumerate(chunks) if i != 2]).status_code == 200
    up = hinted(alice, share, content, chunk_hashes=[sha(c) for c in chunks], chunk_sizes=[len(c) for c in chunks])
    missing = {i for i in range(up['total_chunks']) if i * PIECE < 200000 and (i + 1) * PIECE > 30000}
    assert set(range(up['total_chunks'])) - set(up['existing_chunks']) == missing
    finished(alice, up, content)


def test_by_sources(alice, share):
    content = blob(2 * MIB, 56)
    file = alice.make_file(share['id'], unique('f'), content)
    page = alice.ok('GET', f'{V1}/files/{file["id"]}/chunks')['chunks']
    new = content + b'and more'
    hints = {'chunk_hashes': [c['hash'] for c in page] + [sha(b'and more')], 'chunk_sizes': [c['length'] for c in page] + [8]}
    assert hinted(alice, share, new, **hints)['existing_chunks'] == [], 'a hash is no key'
    up = hinted(alice, share, new, sources=[file['version_id']], **hints)
    assert up['existing_chunks'] == list(range(32))
    finished(alice, up, new)


# ---- the attack ----

def test_what_others_have_is_not_found(alice, bob, shared):
    """Bob knows the hashes of what Alice has, in a share that he writes to, and gets nothing by them."""
    secret = blob(6 * PIECE, 57)
    first = begun(alice, shared, secret)
    claimed(alice, first, secret)
    private = alice.make_share()
    hers = begun(alice, private, secret)
    claimed(alice, hers, secret)
    file = completed(alice, hers, secret)
    page = alice.ok('GET', f'{V1}/files/{file["id"]}/chunks')['chunks']
    assert send(alice, private, secret[:1000]).status_code == 200
    hints = {'chunk_hashes': [c['hash'] for c in page], 'chunk_sizes': [c['length'] for c in page]}
    assert hinted(bob, shared, secret)['existing_chunks'] == []
    up = hinted(bob, shared, secret, **hints, sources=[file['version_id']])
    assert up['existing_chunks'] == [], 'a version that he may not read is no source'
    assert hinted(bob, shared, secret[:1000], chunk_hashes=[sha(secret[:1000])], chunk_sizes=[1000])['existing_chunks'] == []
    refused(bob.post(f'{V1}/uploads/{up["id"]}/complete'), 409, 'CONFLICT')


def test_a_claim_that_is_wrong_is_no_hint(alice, bob, shared):
    """Nobody gets content by claiming its hash for other bytes."""
    secret = blob(PIECE, 58)
    alice.make_file(shared['id'], unique('f'), secret)
    mine = begun(bob, shared, secret)
    refused(put(bob, mine, 0, bytes(PIECE), X_Chunk_SHA256=sha(secret)), 400, 'CHECKSUM_MISMATCH')
    assert put(bob, mine, 0, bytes(PIECE)).status_code == 200
    assert bob.post(f'{V1}/uploads/{mine["id"]}/complete').status_code == 200
    assert hinted(bob, shared, secret)['existing_chunks'] == []


def test_wrong_hints(alice, share):
    content = blob(3 * PIECE, 59)
    ok = {'chunk_hashes': [sha(b'x')] * 3}
    assert begin(alice, share, content, **ok).json()['existing_chunks'] == []
    for hints, field in [({'chunk_hashes': [sha(b'x')] * 2}, 'chunk_hashes'), ({**ok, 'chunk_sizes': [1, 2]}, 'chunk_sizes'),
                         ({**ok, 'chunk_sizes': [PIECE, PIECE, PIECE + 1]}, 'chunk_sizes'), ({**ok, 'chunk_sizes': [1, 2, 3]}, 'chunk_sizes'),
                         ({'chunk_sizes': [1]}, 'chunk_sizes')]:
        assert f'body.{field}' in {f for f, _ in fields_of(begin(alice, share, content, **hints))}
    for sizes in ([0, PIECE, 2 * PIECE], [-1, 2, 3 * PIECE - 1], [1 << 62, 1 << 62, 1 << 62], [3 * PIECE, 0, 0]):
        assert begin(alice, share, content, **ok, chunk_sizes=sizes).status_code == 422
    assert begin(alice, share, content, chunk_hashes=['zz'] * 3).status_code == 422
    assert begin(alice, share, content, sources=['ver_nonsense']).status_code == 422
    assert begin(alice, share, b'', chunk_hashes=[], chunk_sizes=[]).json()['existing_chunks'] == []


def test_said_again(alice, share):
    """An Idempotency-Key yields the session, with what it has by then."""
    content = blob(4 * PIECE, 60)
    first = begun(alice, share, content)
    claimed(alice, first, content, [0, 1])
    body = {'share_id': share['id'], 'file_name': unique('f'), 'file_size': len(content), 'chunk_size': PIECE, 'chunk_hashes': hashes(content)}
    key = {'Idempotency-Key': unique('key')}
    up = alice.post(f'{V1}/uploads', json=body, headers=key).json()
    assert put(alice, up, 3, piece(content, 3)).status_code == 200
    again = alice.post(f'{V1}/uploads', json=body, headers=key).json()
    assert again['id'] == up['id'] and set(again['existing_chunks']) == {*up['existing_chunks'], 3}
    finished(alice, up, content)


def test_restart_and_cancel(private_server):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(40 * PIECE, 61)
    uploaded(alice, share, content)
    new = blob(PIECE, 62) + content
    up, other = hinted(alice, share, new), hinted(alice, share, new)
    assert up['existing_chunks'] == list(range(1, 41)) and staging_files(server) == 0
    assert alice.delete(f'{V1}/uploads/{other["id"]}').status_code == 204
    server.stop()
    assert server.run('fsck', '--deep', check=False).returncode == 0
    server.start()
    assert progress(alice, up)['missing_chunks'] == [0]
    finished(alice, up, new)
    third = hinted(alice, share, new)
    claimed(alice, third, new, [0])
    server.restart(hard=True)
    finished(alice, third, new)
    assert len(versions_of(alice, completed(alice, third, new))) == 1


def test_a_hundred_thousand_pieces(alice, share):
    """The most hints there may be; the file is one byte repeated, so that all pieces are alike."""
    one = bytes(PIECE)
    uploaded(alice, share, one)
    body = {'share_id': share['id'], 'file_name': unique('f'), 'file_size': PIECE * 100000, 'chunk_size': PIECE, 'chunk_hashes': [sha(one)] * 100000}
    up = alice.ok('POST', f'{V1}/uploads', json=body)
    assert up['existing_chunks'] == list(range(10000))
    p = progress(alice, up)
    assert (p['received_count'], p['missing_count']) == (100000, 0)
    assert alice.delete(f'{V1}/uploads/{up["id"]}').status_code == 204
    body['chunk_hashes'].append(sha(one))
    assert alice.post(f'{V1}/uploads', json=body).status_code == 422


def test_a_reference_that_is_damaged(private_server):
    """A piece that was found and cannot be read any more is missing again, and fsck tells."""
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share()
    content = blob(6 * PIECE, 63)
    uploaded(alice, share, content)
    new = blob(PIECE, 64) + content
    up = hinted(alice, share, new)
    assert up['existing_chunks'] == [1, 2, 3, 4, 5, 6]
    server.stop()
    run_sql(server, 'update upload_pieces set recipe = ' + ("x'0203'" if server.engine == 'sqlite' else "'\\x0203'") + ' where piece = 4')
    found = server.run('fsck', check=False).stdout
    assert 'piece 4' in found and 'cannot be read' in found and 'piece 3' not in found
    server.start()
    assert put(alice, up, 0, piece(new, 0)).status_code == 200
    end = time.monotonic() + 20
    while progress(alice, up)['missing_chunks'] != [4] and time.monotonic() < end:
        time.sleep(0.1)
    assert progress(alice, up)['missing_chunks'] == [4]
    finished(alice, up, new)
