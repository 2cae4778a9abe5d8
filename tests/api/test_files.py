"""Files: every way to make, read, change and remove one (D6, D8, D17, D19)."""
import email.policy
import email.utils
import gzip
import os
import time

import pytest
from helpers import (V1, children, contents_of, file_of, form, head, names, refused, replace, replaced, sha, since, together, trash,
                     versions_of)
from support import unique


def post(api, parts, headers=None, **kwargs):
    body, more = form(*parts, **kwargs)
    return api.post(f'{V1}/files', content=body, headers={**more, **(headers or {})})


# ---- create ----

def test_create_says_everything(alice, share):
    folder = alice.make_folder(share['id'], 'Engineering')
    f = alice.make_file(share['id'], 'Spec.pdf', b'%PDF-1.7', folder['id'], mtime='2026-01-02T03:04:05.678901Z', executable=True)
    me = alice.me()
    assert (f['name'], f['path'], f['folder_id'], f['size']) == ('Spec.pdf', '/Engineering/Spec.pdf', folder['id'], 8)
    assert f['checksum_sha256'] == sha(b'%PDF-1.7') and f['version'] == 1 and f['version_id'].startswith('ver_')
    assert f['mtime'] == '2026-01-02T03:04:05.678901Z' and f['executable'] is True
    assert f['owner_id'] == f['created_by'] == f['modified_by'] == me['id'] and f['tenant_id'] == me['tenant_id']
    assert (f['file_id'], f['staged'], f['conflict_id'], f['is_deleted'], f['vectorized_at']) == (f['id'], False, None, False, None)
    got = file_of(alice, f)
    assert got == {k: v for k, v in f.items() if k not in ('file_id', 'staged', 'conflict_id', 'decompressed_size')}
    assert alice.content(f['id']) == b'%PDF-1.7'


def test_create_at_the_root(alice, share):
    f = alice.make_file(share['id'], 'a.txt', b'')
    assert (f['folder_id'], f['path'], f['size']) == (None, '/a.txt', 0)
    assert f['checksum_sha256'] == sha(b'') and alice.content(f['id']) == b''


@pytest.mark.parametrize('size', [1, 1023, 65536, 1 << 20, (5 << 20) + 17])
def test_bytes_come_back(alice, share, size):
    data = os.urandom(size)
    f = alice.make_file(share['id'], content=data)
    assert f['size'] == size and f['checksum_sha256'] == sha(data)
    assert alice.content(f['id']) == data


def test_fields_may_follow_the_file(alice, share):
    r = post(alice, [('file; filename="x.txt"', b'late'), ('share_id', share['id']), ('name', 'late.txt'), ('mtime', '2020-01-01T00:00:00Z')])
    assert r.status_code == 201, r.text
    assert (r.json()['name'], r.json()['mtime']) == ('late.txt', '2020-01-01T00:00:00Z')
    assert alice.content(r.json()['id']) == b'late'


def test_fields_before_the_file_are_checked_at_once(alice, share):
    r = post(alice, [('share_id', share['id']), ('folder_id', 'fld_0000000000001'), ('file; filename="x"', b'x')])
    refused(r, 404, 'NOT_FOUND')


@pytest.mark.parametrize('filename, name', [('x.txt', 'x.txt'), ('C:/dir/y.txt', 'y.txt'), ('dir/../z.txt', 'z.txt'), ('na\u00efve.txt', 'na\u00efve.txt'), ('a;b.txt', 'a;b.txt')])
def test_name_of_the_part(alice, share, filename, name):
    r = post(alice, [('share_id', share['id']), (f'file; filename="{filename}"', b'1')])
    assert r.status_code == 201, r.text
    assert r.json()['name'] == name


def test_filename_star(alice, share):
    r = post(alice, [('share_id', share['id']), ("file; filename=\"fallback\"; filename*=UTF-8''%e2%82%ac%20rates", b'1')])
    assert r.json()['name'] == '\u20ac rates'
    for unreadable in ("iso-8859-1''%A3", "UTF-8''%ff", "UTF-8''a%zz", "UTF-8''%00", 'nonsense'):
        name = unique('plain')
        r = post(alice, [('share_id', share['id']), (f'file; filename*={unreadable}; filename="{name}"', b'1')])
        assert r.status_code == 201 and r.json()['name'] == name  # the other form is for this
        refused(post(alice, [('share_id', share['id']), (f'file; filename*={unreadable}', b'1')]), 400, 'BAD_REQUEST')


@pytest.mark.parametrize('boundary', ['a', 'b' * 70, "'()+_,-./:=?", '----WebKitFormBoundary7MA4YWxkTrZu0gW'])
def test_boundaries(alice, share, boundary):
    body, _ = form(('share_id', share['id']), ('name', 'x'), ('file; filename="x"', b'\r\n--' + boundary[:-1].encode() + b'\r\n--\r\n'), boundary=boundary)
    r = alice.post(f'{V1}/files', content=body, headers={'Content-Type': f'multipart/form-data; boundary="{boundary}"'})
    assert r.status_code == 201, r.text
    assert alice.content(r.json()['id']) == b'\r\n--' + boundary[:-1].encode() + b'\r\n--\r\n'


def test_preamble_and_epilogue(alice, share):
    body, headers = form(('share_id', share['id']), ('name', 'x'), ('file; filename="x"', b'z'))
    r = alice.post(f'{V1}/files', content=b'preamble\r\n' + body + b'epilogue', headers=headers)
    assert r.status_code == 201, r.text


def test_chunked_body(alice, share):
    body, headers = form(('share_id', share['id']), ('file; filename="x"', b'z' * 100000))
    r = alice.post(f'{V1}/files', content=(body[i:i + 7777] for i in range(0, len(body), 7777)), headers=headers)
    assert r.status_code == 201 and r.json()['size'] == 100000


def test_mime_type(alice, share):
    def mime(name, part=None, **fields):
        more = [(k, v) for k, v in fields.items()]
        r = post(alice, [('share_id', share['id']), *more, (f'file; filename="{name}"', b'x', {'Content-Type': part} if part else {})])
        assert r.status_code == 201, r.text
        return r.json()['mime_type']
    assert mime('a.pdf') == 'application/pdf'  # by the extension
    assert mime('b.pdf', 'application/octet-stream') == 'application/pdf'  # generic: by the extension
    assert mime('c.pdf', 'text/x-odd') == 'text/x-odd'  # the part's
    assert mime('d.pdf', 'text/x-odd', mime_type='image/x-mine') == 'image/x-mine'  # the field's
    assert mime('e.unknownextension') == 'application/octet-stream'
    assert mime('f.pdf', 'Text/X-Odd; charset=utf-8') == 'Text/X-Odd; charset=utf-8'
    for i, odd in enumerate(('text/' + 'x' * 251, 'no slash', '/x', 'text/pl\u00e9n')):
        assert mime(f'g{i}.pdf', odd) == 'application/pdf'  # nothing that could be told again
    assert len(mime('h.pdf', 'text/' + 'x' * 250)) == 255


@pytest.mark.parametrize('body, status, code', [
    (b'', 400, 'BAD_REQUEST'), (b'garbage', 400, 'BAD_REQUEST'), (b'--edge-7d1f\r\n', 400, 'BAD_REQUEST'),
    (b'--edge-7d1f\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge-7d1f--\r\n', 400, 'BAD_REQUEST'),
    (b'--edge-7d1f\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b'x' * 5000 + b'\r\n--edge-7d1f--\r\n', 422, 'VALIDATION_ERROR'),
    (b'--edge-7d1f\r\n' + b'X: y\r\n' * 3000 + b'\r\n\r\n--edge-7d1f--\r\n', 400, 'BAD_REQUEST'),
])
def test_broken_multipart(alice, share, body, status, code):
    refused(alice.post(f'{V1}/files', content=body, headers={'Content-Type': 'multipart/form-data; boundary=edge-7d1f'}), status, code)
    assert children(alice, share) == []


def test_cut_short(alice, share):
    body, headers = form(('share_id', share['id']), ('file; filename="x"', b'x' * 1000), close=False)
    refused(alice.post(f'{V1}/files', content=body, headers=headers), 400, 'BAD_REQUEST')
    assert children(alice, share) == []


@pytest.mark.parametrize('content_type, status, code', [
    ('application/json', 415, 'UNSUPPORTED_MEDIA_TYPE'), ('multipart/mixed; boundary=x', 415, 'UNSUPPORTED_MEDIA_TYPE'),
    ('multipart/form-data', 400, 'BAD_REQUEST'), ('multipart/form-data; boundary=' + 'x' * 71, 400, 'BAD_REQUEST'),
    ('multipart/form-data; boundary=""', 400, 'BAD_REQUEST')])
def test_other_content_types(alice, share, content_type, status, code):
    body, _ = form(('share_id', share['id']), ('file; filename="x"', b'x'))
    refused(alice.post(f'{V1}/files', content=body, headers={'Content-Type': content_type}), status, code)


def test_packed_as_a_whole(alice, share):
    """Content-Encoding belongs to the part (RFC 7578); the body itself is not unpacked."""
    body, headers = form(('share_id', share['id']), ('file; filename="x"', b'x'))
    refused(alice.post(f'{V1}/files', content=gzip.compress(body), headers={**headers, 'Content-Encoding': 'gzip'}), 415, 'UNSUPPORTED_MEDIA_TYPE')
    assert alice.post(f'{V1}/files', content=body, headers={**headers, 'Content-Encoding': 'identity'}).status_code == 201


def test_what_is_missing(alice, share):
    from helpers import fields_of
    assert fields_of(post(alice, [('share_id', share['id'])])) == {('body.file', 'missing')}
    assert fields_of(post(alice, [('file; filename="x"', b'x')])) == {('body.share_id', 'missing')}
    r = post(alice, [('share_id', share['id']), ('file; filename="x"', b'x'), ('file; filename="y"', b'y')])
    assert fields_of(r) == {('body.file', 'value_error')}
    folder, other = alice.make_folder(share['id']), alice.make_share()
    for field, twice in (('share_id', [share['id'], other['id']]), ('name', ['a', 'a']), ('folder_id', [folder['id'], folder['id']])):
        r = post(alice, [('share_id', share['id']), *[(field, v) for v in twice[field == 'share_id':]], ('file; filename="x"', b'x')])
        assert fields_of(r) == {(f'body.{field}', 'value_error')}
    assert children(alice, share, folder) == []
    trash(alice, folder)
    bad = fields_of(post(alice, [('share_id', 'shr_nonsense'), ('staged', 'perhaps'), ('mtime', 'yesterday'), ('checksum_sha256', 'beef'),
                                 ('conflict_resolution', 'COIN_TOSS'), ('file; filename="x"', b'x')]))
    assert {f for f, _ in bad} == {'body.share_id', 'body.staged', 'body.mtime', 'body.checksum_sha256', 'body.conflict_resolution'}
    assert children(alice, share) == []


def test_checksum_is_a_claim(alice, share):
    refused(alice.upload(share['id'], 'x', b'data', checksum_sha256=sha(b'other')), 400, 'CHECKSUM_MISMATCH')
    assert children(alice, share) == []
    assert alice.make_file(share['id'], 'x', b'data', checksum_sha256=sha(b'data'))['checksum_sha256'] == sha(b'data')
    assert alice.make_file(share['id'], 'y', b'data', checksum_sha256=sha(b'data').upper())['checksum_sha256'] == sha(b'data')


def test_too_large(private_server):
    server = private_server({'limits.file_max_bytes': '100000'})
    api = server.client('admin@example.com')
    share = api.make_share()
    assert api.ok('GET', f'{V1}/config')['limits']['max_file_size_bytes'] == 100000
    api.make_file(share['id'], 'fits', b'x' * 100000)
    refused(api.upload(share['id'], 'not', b'x' * 100001), 413, 'PAYLOAD_TOO_LARGE')
    body, headers = form(('share_id', share['id']), ('name', 'not2'), ('file; filename="x"', b'x' * 200000))
    refused(api.post(f'{V1}/files', content=(body[i:i + 5000] for i in range(0, len(body), 5000)), headers=headers), 413, 'PAYLOAD_TOO_LARGE')
    assert names(children(api, share)) == ['fits']


def test_a_tenant_has_its_own_limit(private_server):
    server = private_server()
    alice, other = server.client('alice@example.com'), server.client('admin@other.example')
    share, theirs = alice.make_share(), other.make_share()
    server.run('policy', 'set', '--tenant', 'default', 'max_file_size_bytes=2000000')
    alice.make_file(share['id'], 'fits', b'x' * 2000000)
    body, headers = form(('share_id', share['id']), ('file; filename="not"', b'x' * 2000001))
    r = refused(alice.post(f'{V1}/files', content=body, headers=headers), 413, 'PAYLOAD_TOO_LARGE')
    assert '2000000 bytes' in r['detail']
    refused(alice.post(f'{V1}/files', content=(body[i:i + 50000] for i in range(0, len(body), 50000)), headers=headers), 413, 'PAYLOAD_TOO_LARGE')
    assert names(children(alice, share)) == ['fits']
    other.make_file(theirs['id'], 'theirs', b'x' * 2000001)
    for wrong in (['--tenant', 'default', 'max_file_size_bytes=1048575'], ['--share', share['id'], 'max_file_size_bytes=2000000']):
        assert server.run('policy', 'set', *wrong, check=False).returncode == 2
    assert 'max_file_size_bytes=2000000' in server.run('policy', 'show', '--share', share['id'])
    server.run('policy', 'set', '--tenant', 'default', 'max_file_size_bytes=')
    alice.make_file(share['id'], 'now', b'x' * 2000001)


# ---- names (D19) ----

BAD_NAMES = ['.', '..', 'a/b', '/', 'a\x01b', 'tab\there', 'x' * 256, '\u00e9' * 128, 'del\x7f', 'c1\u0085']
GOOD_NAMES = ['x' * 255, '\u00e9' * 127, '...', '.hidden', 'a\\b', 'con', 'trailing.', ' spaces ', 'a:b*?"<>|', '\U0001f600.txt', 'e\u0301', '-rf', '%2e%2e', '\u202egnp.exe']


@pytest.mark.parametrize('name', BAD_NAMES, ids=lambda n: ascii(n)[:20])
def test_bad_names(alice, share, name):
    f = alice.make_file(share['id'], 'good', b'1')
    d = alice.make_folder(share['id'], 'folder')
    code = ('NAME_INVALID', 'VALIDATION_ERROR')
    for r in (post(alice, [('share_id', share['id']), ('name', name), ('file; filename="x"', b'x')]),
              alice.post(f'{V1}/folders', json={'share_id': share['id'], 'name': name}),
              alice.patch(f'{V1}/files/{f["id"]}', json={'name': name}),
              alice.patch(f'{V1}/folders/{d["id"]}', json={'name': name}),
              alice.post(f'{V1}/files/{f["id"]}/copy', json={'target_share_id': share['id'], 'name': name}),
              alice.post(f'{V1}/files/{f["id"]}/move', json={'target_folder_id': d['id'], 'name': name})):
        assert r.status_code == 422 and r.json()['error']['code'] in code, (name, r.text)
    assert names(children(alice, share)) == ['folder', 'good']


def test_empty_name_and_nul(alice, share):
    assert alice.post(f'{V1}/folders', json={'share_id': share['id'], 'name': ''}).status_code == 422
    assert alice.post(f'{V1}/folders', content=f'{{"share_id":"{share["id"]}","name":"a\\u0000b"}}').status_code == 422
    assert post(alice, [('share_id', share['id']), ('name', b'a\xff\xfeb'), ('file; filename="x"', b'x')]).status_code == 422
    assert children(alice, share) == []


@pytest.mark.parametrize('name', GOOD_NAMES, ids=lambda n: ascii(n)[:20])
def test_good_names_are_stored_as_typed(alice, share, name):
    f = alice.make_file(share['id'], name, b'1')
    assert f['name'] == name and f['path'] == '/' + name
    assert names(children(alice, share)) == [name]
    assert alice.get(f'{V1}/files/{f["id"]}/content').status_code == 200  # whatever Content-Disposition makes of it


@pytest.mark.parametrize('one, two', [('a', 'A'), ('stra\u00dfe', 'STRASSE'), ('e\u0301.txt', '\u00c9.TXT'), ('\u03a3', '\u03c2'), ('\ufb01n', 'FIN'), ('\u212b', '\u00e5')])
def test_the_same_name(alice, share, one, two):
    first = alice.make_file(share['id'], one, b'1')
    refused(alice.upload(share['id'], two, b'2'), 409, 'NAME_CONFLICT')
    refused(alice.post(f'{V1}/folders', json={'share_id': share['id'], 'name': two}), 409, 'NAME_CONFLICT')
    other = alice.make_file(share['id'], 'other', b'3')
    refused(alice.patch(f'{V1}/files/{other["id"]}', json={'name': two}), 409, 'NAME_CONFLICT')
    renamed = alice.ok('PATCH', f'{V1}/files/{first["id"]}', json={'name': two})  # its own name in another spelling
    assert renamed['name'] == two


@pytest.mark.parametrize('one, two', [('i', '\u0131'), ('a', '\u0430'), ('K', 'k '), ('x', 'x.')])
def test_other_names(alice, share, one, two):
    alice.make_file(share['id'], one, b'1')
    assert alice.upload(share['id'], two, b'2').status_code == 201


def test_a_trashed_name_is_free(alice, share):
    trash(alice, alice.make_file(share['id'], 'x', b'1'))
    assert alice.make_file(share['id'], 'X', b'2')['version'] == 1


# ---- replace, stage, base, strategies (D6, D7) ----

def test_replace(alice, share):
    f = alice.make_file(share['id'], 'x.txt', b'one')
    at = head(alice)
    g = replaced(alice, f, b'two', base=f['version_id'])
    assert (g['id'], g['version'], g['name'], g['conflict_id']) == (f['id'], 2, 'x.txt', None) and g['version_id'] != f['version_id']
    assert contents_of(alice, f) == [b'one', b'two'] and file_of(alice, f)['version_id'] == g['version_id']
    assert since(alice, share, at) == [('updated', f['id'])]
    assert [(v['version_number'], v['is_current'], v['size']) for v in versions_of(alice, f)] == [(2, True, 3), (1, False, 3)]


def test_replace_without_base_takes_the_head(alice, share):
    f = alice.make_file(share['id'], content=b'one')
    assert replaced(alice, f, b'two')['version'] == 2 and replaced(alice, f, b'three')['version'] == 3


def test_replace_by_the_same_bytes_is_no_change(alice, share):
    f = alice.make_file(share['id'], content=b'one')
    at = head(alice)
    g = replaced(alice, f, b'one', base=f['version_id'])
    assert (g['version'], g['version_id']) == (1, f['version_id']) and since(alice, share, at) == []


def test_stale_base_without_strategy(alice, share):
    f = alice.make_file(share['id'], content=b'one')
    replaced(alice, f, b'two', base=f['version_id'])
    at = head(alice)
    refused(replace(alice, f, b'three', base=f['version_id']), 409, 'SYNC_VERSION_STALE')
    assert contents_of(alice, f) == [b'one', b'two'] and since(alice, share, at) == []
    assert replaced(alice, f, b'two', base=f['version_id'])['version'] == 2  # the same bytes are there: nobody disagrees


@pytest.mark.parametrize('strategy, current, open_', [
    ('LAST_WRITER_WINS', b'three', False), ('CLIENT_WINS', b'three', False), ('SERVER_WINS', b'two', False),
    ('MANUAL', b'two', True), ('KEEP_BOTH', b'two', False)])
def test_stale_base_with_strategy(alice, share, strategy, current, open_):
    f = alice.make_file(share['id'], 'plan.txt', b'one')
    replaced(alice, f, b'two', base=f['version_id'])
    device = alice.register_device(name="Anna's PC")['device_id']
    g = replaced(alice, f, b'three', base=f['version_id'], resolution=strategy, device_id=device)
    assert alice.content(f['id']) == current
    assert contents_of(alice, f) == [b'one', b'two', b'three']  # the loser is always kept, with the next number
    found = alice.ok('GET', f'{V1}/sync/conflicts', params={'share_id': share['id'], 'include_resolved': 'true'})
    assert [c['id'] for c in found] == [g['conflict_id']] and found[0]['resolved'] is not open_
    assert found[0]['resolution'] == (None if open_ else strategy) and found[0]['conflict_type'] == 'edit_edit'
    others = [n for n in children(alice, share) if n['id'] != f['id']]
    if strategy != 'KEEP_BOTH':
        assert others == [] and found[0]['copy_id'] is None
        return
    day = time.strftime('%Y-%m-%d', time.gmtime())
    assert len(others) == 1 and others[0]['id'] == found[0]['copy_id']
    assert others[0]['name'].startswith('plan (conflicted copy ') and others[0]['name'].endswith(f'{day}).txt')
    assert alice.content(others[0]['id']) == b'three'


def test_staged_needs_a_file(alice, share):
    r = alice.post(f'{V1}/files', data={'share_id': share['id'], 'staged': 'true'}, files={'file': ('x.txt', b'x')})
    assert r.status_code == 422 and r.json()['detail'][0]['loc'] == ['body', 'replace_file_id'], r.text


def test_staged(alice, bob, shared):
    f = alice.make_file(shared['id'], 'x.txt', b'one')
    at, used = head(alice), alice.ok('GET', f'{V1}/shares/{shared["id"]}')['used_bytes']
    s = replaced(alice, f, b'four', base=f['version_id'], staged=True)
    assert s['staged'] is True and s['version_id'] != f['version_id'] and s['id'] == f['id']
    assert since(alice, shared, at) == [] and alice.content(f['id']) == b'one' and len(versions_of(alice, f)) == 1
    assert alice.ok('GET', f'{V1}/shares/{shared["id"]}')['used_bytes'] == used + 4  # counts to the quota
    get = f'{V1}/sync/download/{f["id"]}'
    assert alice.get(get, params={'version_id': s['version_id']}).content == b'four'  # its maker sees it
    refused(bob.get(get, params={'version_id': s['version_id']}), 404, 'NOT_FOUND')  # nobody else does


def test_staged_needs_a_file_to_replace(alice, share):
    assert alice.upload(share['id'], 'x', b'x', staged=True).status_code in (400, 422)
    assert children(alice, share) == []


def test_replacing_what_cannot_be(alice, bob, shared):
    f = alice.make_file(shared['id'], content=b'1')
    refused(replace(alice, {'id': 'fil_0000000000001'}, b'x'), 404, 'NOT_FOUND')
    other = alice.make_file(shared['id'], content=b'2')
    r = replace(alice, f, b'x', base=other['version_id'])  # a version of another file
    assert r.status_code in (404, 409), r.text
    trash(alice, f)
    refused(replace(alice, f, b'x'), 410, 'GONE')
    assert contents_of(alice, f) == [b'1']


# ---- content (D17) ----

@pytest.fixture(scope='module')
def big(alice):
    share = alice.make_share()
    data = os.urandom(700001)
    return alice.make_file(share['id'], 'big.bin', data), data


ROUTES = ['files/{}/content', 'sync/download/{}']


@pytest.mark.parametrize('route', ROUTES)
@pytest.mark.parametrize('spec, first, last', [
    ('0-0', 0, 0), ('0-99', 0, 99), ('100-', 100, 700000), ('-1', 700000, 700000), ('-500', 699501, 700000), ('699000-9999999', 699000, 700000),
    ('5-184467440737095516160', 5, 700000), ('-99999999999999999999', 0, 700000), ('0-9,800000-', 0, 9),
    ('65536-131071', 65536, 131071), ('0-', 0, 700000), ('-9999999', 0, 700000)])
def test_range(alice, big, route, spec, first, last):
    f, data = big
    r = alice.get(f'{V1}/' + route.format(f['id']), headers={'Range': f'bytes={spec}'})
    assert r.status_code == 206 and r.content == data[first:last + 1]
    assert r.headers['content-range'] == f'bytes {first}-{last}/700001' and r.headers['content-length'] == str(last - first + 1)
    assert r.headers['accept-ranges'] == 'bytes'


@pytest.mark.parametrize('route', ROUTES)
@pytest.mark.parametrize('spec', ['700001-', '700001-700005', '-0', '9223372036854775807-', '99999999999999999999-', '800000-,900000-'])
def test_range_outside(alice, big, route, spec):
    r = alice.get(f'{V1}/' + route.format(big[0]['id']), headers={'Range': f'bytes={spec}'})
    refused(r, 416, 'RANGE_NOT_SATISFIABLE')
    assert r.headers['content-range'] == 'bytes */700001'


@pytest.mark.parametrize('header', ['bytes=5-3', 'bytes=a-b', 'lines=0-5', 'bytes=', 'bytes=-', 'bytes=0-1,2', 'bytes=9999999999999999999x-', 'bytes 0-5',
                                    'bytes=0-9,5-14', 'bytes=' + ','.join(f'{i}-{i}' for i in range(17))])
def test_range_that_is_ignored(alice, big, header):
    r = alice.get(f'{V1}/files/{big[0]["id"]}/content', headers={'Range': header})
    assert r.status_code == 200 and r.content == big[1]


@pytest.mark.parametrize('route', ROUTES)
def test_several_ranges(alice, big, route):
    """In the order asked for, as a reader of MIME sees them."""
    f, data = big
    r = alice.get(f'{V1}/' + route.format(f['id']), headers={'Range': 'bytes=300000-399999, 0-9,,-5,800000-'})
    assert r.status_code == 206 and 'content-range' not in r.headers and int(r.headers['content-length']) == len(r.content)
    parts = email.message_from_bytes(b'Content-Type: ' + r.headers['content-type'].encode() + b'\r\n\r\n' + r.content, policy=email.policy.HTTP)
    assert parts.get_content_type() == 'multipart/byteranges' and not parts.defects
    got = [(p['content-range'], p.get_content_type(), p.get_payload(decode=True)) for p in parts.iter_parts()]
    assert got == [(f'bytes {a}-{b}/700001', 'application/octet-stream', data[a:b + 1]) for a, b in ((300000, 399999), (0, 9), (699996, 700000))]


def test_range_by_query(alice, big):
    f, data = big
    get = f'{V1}/sync/download/{f["id"]}'
    r = alice.get(get, params={'range_start': 0, 'range_end': 4194303})
    assert r.status_code == 206 and r.content == data
    r = alice.get(get, params={'range_start': 10, 'range_end': 19})
    assert (r.status_code, r.content, r.headers['content-range']) == (206, data[10:20], 'bytes 10-19/700001')
    assert alice.get(get, params={'range_start': 700000}).content == data[700000:]
    assert alice.get(get, params={'range_end': 4}).content == data[:5]
    refused(alice.get(get, params={'range_start': 700001}), 416, 'RANGE_NOT_SATISFIABLE')
    assert alice.get(get, params={'range_start': -1}).status_code == 422
    r = alice.get(get, params={'range_start': 10, 'range_end': 19}, headers={'Range': 'bytes=0-1'})
    assert r.content == data[:2]  # the header wins
    assert alice.get(get, params={'range_start': 10}, headers={'If-Range': r.headers['etag']}).content == data[10:]
    assert alice.get(get, params={'range_start': 10}, headers={'If-Range': '"of another content"'}).content == data


def test_range_of_an_empty_file(alice, share):
    f = alice.make_file(share['id'], content=b'')
    get = f'{V1}/files/{f["id"]}/content'
    refused(alice.get(get, headers={'Range': 'bytes=0-'}), 416, 'RANGE_NOT_SATISFIABLE')
    r = alice.get(get)
    assert r.status_code == 200 and r.headers['content-length'] == '0'


@pytest.mark.parametrize('route', ROUTES)
def test_etag(alice, share, route):
    f = alice.make_file(share['id'], content=b'one')
    get = f'{V1}/' + route.format(f['id'])
    r = alice.get(get)
    etag = r.headers['etag']
    assert etag.startswith('"') and etag.endswith('"')
    for header in (etag, f'W/{etag}', f'"nope", {etag}', '*'):
        r = alice.get(get, headers={'If-None-Match': header})
        assert r.status_code == 304 and r.headers['etag'] == etag and not r.content, header
        assert r.headers['content-length'] == '3'  # the content's (RFC 9110, 8.6)
    assert alice.get(get, headers={'If-None-Match': '"nope"'}).status_code == 200
    for name, status in (('If-None-Match', 304), ('If-Match', 200)):  # a list may stand on several lines
        assert alice.get(get, headers=[(name, '"nope"'), (name, etag), *alice.headers.raw]).status_code == status
    assert alice.get(get, headers={'Range': 'bytes=0-0', 'If-Range': etag}).status_code == 206
    assert alice.get(get, headers={'Range': 'bytes=0-0', 'If-Range': '"nope"'}).content == b'one'
    replaced(alice, f, b'two')
    r = alice.get(get, headers={'If-None-Match': etag})
    assert r.status_code == 200 and r.headers['etag'] != etag
    for header in ('"nope"', f'W/{etag}', r.headers['etag'].upper()):
        refused(alice.get(get, headers={'If-Match': header}), 412, 'PRECONDITION_FAILED')
    assert alice.get(get, headers={'If-Match': f'"nope", {r.headers["etag"]}'}).status_code == 200


@pytest.mark.parametrize('route', ROUTES)
def test_dates(alice, share, route):
    """Last-Modified is the server's, whatever mtime the client gave: that of an older file, or of tomorrow, must not pass for the news."""
    f = alice.make_file(share['id'], content=b'one', mtime='2099-01-02T03:04:05Z')
    get = f'{V1}/' + route.format(f['id'])
    r = alice.get(get)
    first = r.headers['last-modified']
    told, now = (email.utils.parsedate_to_datetime(r.headers[h]) for h in ('last-modified', 'date'))
    assert 0 <= (now - told).total_seconds() < 60
    assert alice.get(get, headers={'If-Modified-Since': first}).status_code == 304
    assert alice.get(get, headers={'If-Modified-Since': 'Thu, 01 Jan 2015 00:00:00 GMT'}).content == b'one'
    assert alice.get(get, headers={'If-Modified-Since': first, 'If-None-Match': '"nope"'}).content == b'one'  # tags outrank dates
    assert alice.get(get, headers={'If-Modified-Since': 'yesterday'}).content == b'one'
    time.sleep(1.1)
    replaced(alice, f, b'two', mtime='2001-01-02T03:04:05Z')
    r = alice.get(get, headers={'If-Modified-Since': first})
    assert r.status_code == 200 and r.content == b'two' and r.headers['last-modified'] != first
    assert alice.get(get, params={'version': 1}).headers['last-modified'] == first
    r = alice.get(get, headers={'Range': 'bytes=1-', 'If-Range': r.headers['last-modified']})
    assert r.status_code == 200 and r.content == b'two'  # a second is too long to tell two contents apart


def test_head(alice, big):
    f, data = big
    path = f'{V1}/files/{f["id"]}/content'
    g, h = alice.get(path), alice.head(path)
    assert h.status_code == 200 and not h.content
    for name in ('content-length', 'etag', 'content-type', 'accept-ranges', 'content-disposition', 'last-modified'):
        assert h.headers.get(name) == g.headers.get(name), name
    h = alice.head(path, headers={'Range': 'bytes=0-9'})
    assert (h.status_code, h.headers['content-range'], h.headers['content-length'], h.content) == (206, 'bytes 0-9/700001', '10', b'')
    h = alice.head(path, headers={'Range': 'bytes=700001-'})
    assert (h.status_code, h.headers['content-range'], h.content) == (416, 'bytes */700001', b'')
    h = alice.head(path, headers={'If-None-Match': g.headers['etag']})
    assert (h.status_code, h.headers['etag'], h.content) == (304, g.headers['etag'], b'')
    assert alice.head(f'{V1}/files/fil_0000000000001/content').status_code == 404


def test_headers_that_keep_users_safe(alice, share):
    f = alice.make_file(share['id'], 'evil "name"\u20ac.html', b'<script>alert(1)</script>')
    r = alice.get(f'{V1}/files/{f["id"]}/content')
    assert r.headers['content-disposition'].startswith('attachment') and "filename*=UTF-8''" in r.headers['content-disposition']
    assert r.headers['x-content-type-options'] == 'nosniff'


@pytest.mark.parametrize('route', ROUTES)
def test_older_versions(alice, share, route):
    f = alice.make_file(share['id'], content=b'one')
    replaced(alice, f, b'two')
    get = f'{V1}/' + route.format(f['id'])
    assert [alice.get(get, params={'version': n}).content for n in (1, 2)] == [b'one', b'two']
    refused(alice.get(get, params={'version': 3}), 404, 'NOT_FOUND')
    for bad in (0, -1, 'x', 10 ** 30):
        assert alice.get(get, params={'version': bad}).status_code == 422


def test_download_by_version_id(alice, share):
    f = alice.make_file(share['id'], content=b'one')
    replaced(alice, f, b'two')
    g = alice.make_file(share['id'], content=b'other')
    get = f'{V1}/sync/download/{f["id"]}'
    assert alice.get(get, params={'version_id': f['version_id']}).content == b'one'
    refused(alice.get(get, params={'version_id': g['version_id']}), 404, 'NOT_FOUND')  # of another file


# ---- metadata, patch ----

def test_patch(alice, share):
    f = alice.make_file(share['id'], 'a.txt', b'one', mtime='2020-01-01T00:00:00Z')
    at = head(alice)
    g = alice.ok('PATCH', f'{V1}/files/{f["id"]}', json={'name': 'b.txt'})
    assert (g['name'], g['path'], g['version'], g['version_id'], g['mtime']) == ('b.txt', '/b.txt', 1, f['version_id'], f['mtime'])
    g = alice.ok('PATCH', f'{V1}/files/{f["id"]}', json={'mtime': '2021-05-06T07:08:09.123456Z', 'executable': True})
    assert (g['mtime'], g['executable']) == ('2021-05-06T07:08:09.123456Z', True)
    assert since(alice, share, at) == [('renamed', f['id']), ('updated', f['id'])]
    at = head(alice)
    for body in ({}, {'name': 'b.txt'}, {'name': None}, {'executable': True}, {'mtime': '2021-05-06T07:08:09.123456Z'}):
        assert alice.ok('PATCH', f'{V1}/files/{f["id"]}', json=body)['version_id'] == f['version_id']
    assert since(alice, share, at) == []  # nothing new, no entry


def test_patch_refuses(alice, share):
    f = alice.make_file(share['id'], 'a.txt', b'one')
    for body in ({'name': 5}, {'executable': 'maybe'}, {'mtime': 'x'}, [], 'x'):
        assert alice.patch(f'{V1}/files/{f["id"]}', json=body).status_code == 422, body


# ---- trash (D8) ----

def test_trash_and_restore(alice, bob, eve, shared):
    f = alice.make_file(shared['id'], 'x.txt', b'one')
    at = head(alice)
    trash(alice, f)
    path = f'{V1}/files/{f["id"]}'
    for r in (alice.get(path), bob.get(path), alice.get(path + '/content'), alice.get(path + '/versions'), alice.patch(path, json={'name': 'y'}),
              alice.post(path + '/copy', json={'target_share_id': shared['id'], 'name': 'y'}), alice.get(f'{V1}/sync/download/{f["id"]}'),
              alice.post(path + '/move', json={'target_share_id': shared['id'], 'name': 'y'}), alice.post(path + '/versions/1/restore')):
        refused(r, 410, 'GONE')
    refused(eve.get(path), 404, 'NOT_FOUND')
    refused(eve.get(path, params={'include_deleted': 'true'}), 404, 'NOT_FOUND')
    g = file_of(bob, f, include_deleted='true')
    assert g['is_deleted'] is True and g['path'] == '/x.txt'
    assert bob.content(f['id'], params={'include_deleted': 'true'}) == b'one'
    assert bob.get(f'{V1}/sync/download/{f["id"]}', params={'include_deleted': 'true'}).content == b'one'
    assert len(versions_of(bob, f, include_deleted='true')) == 1
    trash(alice, f)  # again: success, nothing changes
    assert since(alice, shared, at) == [('deleted', f['id'])]
    assert names(children(alice, shared)) == [] and [(n['name'], n['is_deleted']) for n in children(alice, shared, include_deleted='true')] == [('x.txt', True)]
    g = alice.ok('PATCH', path, json={'restore': True})
    assert g['is_deleted'] is False and alice.content(f['id']) == b'one'
    assert [t for t, _ in since(alice, shared, at)][1:] == ['created']
    trash(alice, f)
    assert alice.ok('PATCH', path, json={'is_deleted': False})['is_deleted'] is False
    assert alice.ok('PATCH', path, json={'restore': True})['is_deleted'] is False  # again


def test_restore_when_the_name_is_taken(alice, share):
    f = alice.make_file(share['id'], 'x.txt', b'one')
    trash(alice, f)
    alice.make_file(share['id'], 'x.txt', b'two')
    g = alice.ok('PATCH', f'{V1}/files/{f["id"]}', json={'restore': True})
    assert g['name'] != 'x.txt' and g['name'].endswith('.txt') and alice.content(f['id']) == b'one'


def test_restore_when_the_folder_is_gone(alice, share):
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x.txt', b'one', d['id'])
    trash(alice, f)
    alice.ok('DELETE', f'{V1}/folders/{d["id"]}', params={'permanent': 'true'})
    r = alice.patch(f'{V1}/files/{f["id"]}', json={'restore': True})
    assert r.status_code in (200, 404), r.text  # purged with its folder, or back at the root
    if r.status_code == 200:
        assert r.json()['folder_id'] is None and alice.content(f['id']) == b'one'


def test_restore_inside_a_trashed_folder(alice, share):
    """A file that was trashed by itself comes back to the root when its folder still lies in the trash."""
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x.txt', b'one', d['id'])
    trash(alice, f)
    trash(alice, d)
    g = alice.ok('PATCH', f'{V1}/files/{f["id"]}', json={'restore': True})
    assert g['is_deleted'] is False and g['folder_id'] is None
    assert alice.content(f['id']) == b'one'


def test_permanent(alice, share):
    f = alice.make_file(share['id'], 'x', b'12345')
    g = alice.make_file(share['id'], 'y', b'123')
    trash(alice, g)
    at = head(alice)
    for n in (f, g):
        alice.ok('DELETE', f'{V1}/files/{n["id"]}', 204, params={'permanent': 'true'})
        refused(alice.get(f'{V1}/files/{n["id"]}', params={'include_deleted': 'true'}), 404, 'NOT_FOUND')
        refused(alice.get(f'{V1}/files/{n["id"]}/content', params={'include_deleted': 'true'}), 404, 'NOT_FOUND')
    assert [x for x in since(alice, share, at) if x[1] == f['id']] == [('deleted', f['id'])]
    assert alice.ok('GET', f'{V1}/shares/{share["id"]}')['used_bytes'] == 0
    assert alice.delete(f'{V1}/files/{f["id"]}', params={'permanent': 'true'}).status_code in (204, 404)


# ---- copy and move ----

def test_copy(alice, share):
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x.txt', b'one', mtime='2020-01-01T00:00:00Z')
    replaced(alice, f, b'two')
    at = head(alice)
    c = alice.ok('POST', f'{V1}/files/{f["id"]}/copy', 201, json={'target_folder_id': d['id']})
    assert (c['name'], c['folder_id'], c['version'], c['checksum_sha256']) == ('x.txt', d['id'], 1, sha(b'two')) and c['id'] != f['id']
    assert alice.content(c['id']) == b'two' and since(alice, share, at) == [('created', c['id'])]
    replaced(alice, f, b'three')
    assert alice.content(c['id']) == b'two'
    named = alice.ok('POST', f'{V1}/files/{f["id"]}/copy', 201, json={'target_share_id': share['id'], 'new_name': 'y.txt'})
    assert (named['name'], named['folder_id']) == ('y.txt', None)
    beside = alice.ok('POST', f'{V1}/files/{f["id"]}/copy', 201, json={'target_share_id': share['id']})  # into its own folder
    assert beside['name'] not in ('x.txt', 'y.txt')
    refused(alice.post(f'{V1}/files/{f["id"]}/copy', json={'target_folder_id': d['id']}), 409, 'NAME_CONFLICT')


@pytest.mark.parametrize('verb', ['copy', 'move'])
def test_targets(alice, share, verb):
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x.txt', b'one')
    path = f'{V1}/files/{f["id"]}/{verb}'
    assert alice.post(path, json={}).status_code == 422
    assert alice.post(path, json={'target_folder_id': d['id'], 'target_share_id': share['id']}).status_code in (200, 201, 422)
    refused(alice.post(path, json={'target_folder_id': 'fld_0000000000001'}), 404, 'NOT_FOUND')
    refused(alice.post(path, json={'target_share_id': 'shr_0000000000001'}), 404, 'NOT_FOUND')
    gone = alice.make_folder(share['id'], 'gone')
    trash(alice, gone)
    refused(alice.post(path, json={'target_folder_id': gone['id']}), 410, 'GONE')


@pytest.mark.parametrize('alias', ['target_folder_id', 'target_parent_id', 'parent_id', 'folder_id'])
def test_move(alice, share, alias):
    d = alice.make_folder(share['id'], 'd')
    f = alice.make_file(share['id'], 'x.txt', b'one')
    at = head(alice)
    m = alice.ok('POST', f'{V1}/files/{f["id"]}/move', 200, json={alias: d['id']})
    assert (m['id'], m['folder_id'], m['path'], m['version_id']) == (f['id'], d['id'], '/d/x.txt', f['version_id'])
    entry = alice.changes(share['id'], at)[0]
    assert [(c['change_type'], c['old_path'], c['new_path']) for c in entry] == [('moved', '/x.txt', '/d/x.txt')]
    back = alice.ok('POST', f'{V1}/files/{f["id"]}/move', 200, json={'target_share_id': share['id'], 'name': 'y.txt'})
    assert (back['folder_id'], back['path']) == (None, '/y.txt')
    at = head(alice)
    alice.ok('POST', f'{V1}/files/{f["id"]}/move', 200, json={'target_share_id': share['id']})  # where it is
    assert since(alice, share, at) == []
    alice.make_file(share['id'], 'y.txt', b'two', d['id'])
    refused(alice.post(f'{V1}/files/{f["id"]}/move', json={'target_folder_id': d['id']}), 409, 'NAME_CONFLICT')


def test_move_across_shares(alice, share):
    there = alice.make_share()
    f = alice.make_file(share['id'], 'x.txt', b'12345')
    replaced(alice, f, b'1234567')
    at = head(alice)
    m = alice.ok('POST', f'{V1}/files/{f["id"]}/move', 200, json={'target_share_id': there['id']})
    assert m['id'] == f['id'] and m['share_id'] == there['id'] and contents_of(alice, f) == [b'12345', b'1234567']
    assert since(alice, share, at) == [('deleted', f['id'])] and since(alice, there, at) == [('created', f['id'])]
    used = [alice.ok('GET', f'{V1}/shares/{s["id"]}')['used_bytes'] for s in (share, there)]
    assert used == [0, 12]


# ---- versions ----

def test_versions_page(alice, share):
    f = alice.make_file(share['id'], content=b'v1')
    for i in range(2, 8):
        replaced(alice, f, f'v{i}'.encode())
    page = alice.ok('GET', f'{V1}/files/{f["id"]}/versions', params={'limit': 2, 'offset': 1})
    assert [v['version_number'] for v in page['versions']] == [6, 5] and page['total'] == 7
    for bad in ({'limit': 0}, {'limit': 101}, {'offset': -1}, {'limit': 'x'}):
        assert alice.get(f'{V1}/files/{f["id"]}/versions', params=bad).status_code == 422, bad


def test_restore_a_version(alice, share):
    f = alice.make_file(share['id'], content=b'v1')
    for i in (2, 3, 4):
        replaced(alice, f, f'v{i}'.encode())
    at = head(alice)
    r = alice.ok('POST', f'{V1}/files/{f["id"]}/versions/2/restore', 200)
    assert (r['id'], r['restored_from_version'], r['restored_version'], r['version'], r['new_version']) == (f['id'], 2, 2, 5, 5)
    assert contents_of(alice, f) == [b'v1', b'v2', b'v3', b'v4', b'v2'] and since(alice, share, at) == [('updated', f['id'])]
    assert file_of(alice, f)['version_id'] == r['version_id']
    refused(alice.post(f'{V1}/files/{f["id"]}/versions/9/restore'), 404, 'NOT_FOUND')
    assert alice.post(f'{V1}/files/{f["id"]}/versions/0/restore').status_code in (404, 422)
    assert alice.post(f'{V1}/files/{f["id"]}/versions/x/restore').status_code in (404, 422)


# ---- sent twice (D4) ----

def test_idempotency_key(alice, bob, share):
    body, headers = form(('share_id', share['id']), ('name', 'x'), ('file; filename="x"', b'one'))
    key = {'Idempotency-Key': f'key-{share["id"]}'}
    at = head(alice)
    answers = together(*[lambda: alice.post(f'{V1}/files', content=body, headers={**headers, **key}) for _ in range(4)])
    assert [r.status_code for r in answers] == [201] * 4 and len({r.json()['id'] for r in answers}) == 1
    assert len(since(alice, share, at)) == 1
    body, headers = form(('share_id', share['id']), ('name', 'y'), ('file; filename="x"', b'one'))
    refused(alice.post(f'{V1}/files', content=body, headers={**headers, **key}), 409, 'IDEMPOTENCY_KEY_REUSED')
    refused(bob.post(f'{V1}/files', content=body, headers={**headers, **key}), 404, 'NOT_FOUND')  # another principal: another key
    assert names(children(alice, share)) == ['x']


def test_idempotency_key_elsewhere(alice, share):
    def twice(path, body):
        key = {'Idempotency-Key': f'{path}-{share["id"]}'}
        one, two = (alice.post(path, json=body, headers=key) for _ in range(2))
        assert one.status_code == two.status_code == 201 and one.json()['id'] == two.json()['id'], (one.text, two.text)
        body = {**body, 'name': 'another'}
        refused(alice.post(path, json=body, headers=key), 409, 'IDEMPOTENCY_KEY_REUSED')
    f = alice.make_file(share['id'], 'f', b'1')
    twice(f'{V1}/folders', {'share_id': share['id'], 'name': 'd'})
    twice(f'{V1}/files/{f["id"]}/copy', {'target_share_id': share['id'], 'name': 'copy'})
    twice(f'{V1}/shares', {'name': 'twice ' + share['id'], 'share_type': 'project'})
    refused(alice.post(f'{V1}/folders', json={'share_id': share['id'], 'name': 'z'}, headers={'Idempotency-Key': 'k' * 129}), 400, 'BAD_REQUEST')


# ---- ids (D28) ----

@pytest.mark.parametrize('bad', ['x', 'fil_', 'fil_0', 'fld_0000000000001', 'FIL_0000000000001', 'fil_ZZZZZZZZZZZZZ', 'fil_000000000000U', 'fil_0000000000000',
                                 'fil_00000000000011', '..%2f..', '%00', 'fil_%zz'])
def test_ids_that_are_none(alice, bad):
    for method, path in (('GET', ''), ('GET', '/content'), ('DELETE', ''), ('GET', '/versions')):
        r = alice.request(method, f'{V1}/files/{bad}{path}')
        assert r.status_code in (400, 404), (bad, r.text)


def test_ids_in_small_letters(alice, share):
    f = alice.make_file(share['id'], content=b'1')
    assert alice.ok('GET', f'{V1}/files/fil_{f["id"][4:].lower()}')['id'] == f['id']


def test_ids_are_ordered_by_time(alice, share):
    ids = [alice.make_folder(share['id'], str(i))['id'] for i in range(20)]
    assert ids == sorted(ids)


# ---- quota ----

def test_quota(alice, admin):
    share = alice.make_share(quota_bytes=1000)
    alice.make_file(share['id'], 'a', b'x' * 600)
    refused(alice.upload(share['id'], 'b', b'y' * 401), 507, 'QUOTA_EXCEEDED')
    f = alice.make_file(share['id'], 'b', b'y' * 400)
    refused(replace(alice, f, b'z'), 507, 'QUOTA_EXCEEDED')
    refused(alice.post(f'{V1}/files/{f["id"]}/copy', json={'target_share_id': share['id'], 'name': 'c'}), 507, 'QUOTA_EXCEEDED')
    other = alice.make_share()
    g = alice.make_file(other['id'], 'g', b'1')
    refused(alice.post(f'{V1}/files/{g["id"]}/move', json={'target_share_id': share['id']}), 507, 'QUOTA_EXCEEDED')
    assert alice.ok('GET', f'{V1}/shares/{share["id"]}')['used_bytes'] == 1000
    admin.ok('PATCH', f'{V1}/shares/{share["id"]}', json={'quota_bytes': 1001})
    assert replace(alice, f, b'z').status_code == 201
