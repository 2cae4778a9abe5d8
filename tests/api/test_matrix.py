"""Every route of the API by everybody: no unexpected success, and what one may not know of answers like what is not there.

The table must know every operation of docs/openapi.json; one that it does not know makes the test fail.
"""
import asyncio
import copy

import pytest
import websockets
from contract import operations
from helpers import V1, Device, form, refused, replaced, sha, trash, updated
from support import unique

CALLERS = ('anonymous', 'other', 'none', 'reader', 'contributor', 'admin', 'owner')
PUBLIC, EVERYBODY, SOCKET = 'public', 'everybody', 'socket'
ALL = set(CALLERS)
READERS = {'reader', 'contributor', 'admin', 'owner'}
WRITERS = READERS - {'reader'}
MANAGERS = {'admin', 'owner'}


class World:
    """A fresh share with one of everything, made by its owner; what the caller needs of its own (a device) is the caller's."""

    def __init__(self, people, caller):
        owner = people['owner']
        self.caller = people[caller]
        self.ids = {c: people[c].me()['id'] for c in ('admin', 'contributor', 'reader', 'none')}
        self.share = owner.make_share()
        for role in ('reader', 'contributor', 'admin'):
            owner.add_member(self.share['id'], self.ids[role], role)
        self.file = owner.make_file(self.share['id'], 'file.txt', b'one')
        replaced(owner, self.file, b'two', base=self.file['version_id'])
        self.folder = owner.make_folder(self.share['id'], 'folder')
        self.owner = owner
        self.device = Device(self.caller, self.share).id if caller != 'anonymous' else 'dev-none'

    def conflict(self):
        device = Device(self.owner, self.share)
        staged = replaced(self.owner, self.file, b'three', staged=True)['version_id']
        return device.one(updated(self.file, staged, self.file['version_id']), 'MANUAL')[1]['id']


def upload(w):
    body, headers = form(('share_id', w.share['id']), ('file; filename="new.txt"', b'new'))
    return w.caller.post(f'{V1}/files', content=body, headers=headers)


def chunks(w):
    content = b'chunk'
    body = bytes.fromhex(sha(content)) + len(content).to_bytes(4, 'little') + content
    return w.caller.post(f'{V1}/sync/chunks', params={'share_id': w.share['id']}, content=body)


def resumable(method, tail='', **kwargs):
    """With a session of the caller's own, in a share of its own; it holds one byte."""
    def go(w):
        maker = w.caller if 'Authorization' in w.caller.headers else w.owner
        up = maker.ok('POST', f'{V1}/uploads', json={'share_id': maker.make_share()['id'], 'file_name': 'x', 'file_size': 1})['id']
        if tail == '/complete':
            maker.ok('PUT', f'{V1}/uploads/{up}/chunks/0', content=b'x')
        return w.caller.request(method, f'{V1}/uploads/{up}{tail}', **kwargs)
    return go


def ask(method, path, **kwargs):
    """path and the strings in kwargs may name {share} {file} {version} {folder} {device} {member} {conflict}."""
    def fill(value, names):
        if isinstance(value, str):
            return value.format(**names) if '{' in value else value
        if isinstance(value, dict):
            return {k: fill(v, names) for k, v in value.items()}
        return [fill(v, names) for v in value] if isinstance(value, list) else value

    def go(w):
        names = {'share': w.share['id'], 'file': w.file['id'], 'version': w.file['version_id'], 'folder': w.folder['id'], 'device': w.device, 'member': w.ids['reader']}
        if '{conflict}' in path:
            names['conflict'] = w.conflict()
        return w.caller.request(method, fill(path, names), **{k: fill(v, names) for k, v in kwargs.items()})
    return go


# operationId: (who may, how it is asked). Who: a set of callers, or PUBLIC (all), or EVERYBODY (all but anonymous).
TABLE = {
    'auth_login': (None, ask('POST', f'{V1}/auth/login', json={'email': 'nobody@example.com', 'password': 'x'})),  # 401 for all here
    'auth_token': (None, ask('POST', f'{V1}/auth/token', data={'grant_type': 'refresh_token', 'refresh_token': 'x'})),  # the same
    'auth_jwks': (PUBLIC, ask('GET', f'{V1}/auth/jwks')),
    'auth_jwks_well_known': (PUBLIC, ask('GET', '/.well-known/jwks.json')),
    'auth_config': (PUBLIC, ask('GET', f'{V1}/auth/config')),
    'health_get': (PUBLIC, ask('GET', '/health')),
    'health_get_v1': (PUBLIC, ask('GET', f'{V1}/health')),
    'ready_get': (PUBLIC, ask('GET', f'{V1}/ready')),
    'config_get': (PUBLIC, ask('GET', f'{V1}/config')),
    'metrics_get': (PUBLIC, ask('GET', '/metrics')),
    'openapi_get': (PUBLIC, ask('GET', f'{V1}/openapi.json')),
    'user_me': (EVERYBODY, ask('GET', f'{V1}/users/me')),
    'user_shares': (EVERYBODY, ask('GET', f'{V1}/users/me/shares')),
    'share_list': (EVERYBODY, ask('GET', f'{V1}/shares')),
    'share_create': (EVERYBODY, ask('POST', f'{V1}/shares', json={'name': 'mine', 'share_type': 'project'})),
    'share_principals': (EVERYBODY, ask('GET', f'{V1}/shares/search/principals', params={'q': 'a'})),
    'share_get': (READERS, ask('GET', f'{V1}/shares/{{share}}')),
    'share_update': (MANAGERS, ask('PATCH', f'{V1}/shares/{{share}}', json={'name': 'renamed'})),
    'share_delete': ({'owner'}, ask('DELETE', f'{V1}/shares/{{share}}')),
    'share_children': (READERS, ask('GET', f'{V1}/shares/{{share}}/children')),
    'member_list': (READERS, ask('GET', f'{V1}/shares/{{share}}/members')),
    'member_add': (MANAGERS, lambda w: w.caller.post(f'{V1}/shares/{w.share["id"]}/members',
                                                     json={'principal_type': 'user', 'principal_id': w.ids['none'], 'role': 'reader'})),
    'member_update': (MANAGERS, ask('PATCH', f'{V1}/shares/{{share}}/members/{{member}}', json={'role': 'contributor'})),
    'member_remove': (MANAGERS | {'reader'}, ask('DELETE', f'{V1}/shares/{{share}}/members/{{member}}')),  # the reader leaves
    'folder_create': (WRITERS, ask('POST', f'{V1}/folders', json={'share_id': '{share}', 'name': 'new'})),
    'folder_get': (READERS, ask('GET', f'{V1}/folders/{{folder}}')),
    'folder_update': (WRITERS, ask('PATCH', f'{V1}/folders/{{folder}}', json={'name': 'renamed'})),
    'folder_delete': (WRITERS, ask('DELETE', f'{V1}/folders/{{folder}}')),
    'folder_children': (READERS, ask('GET', f'{V1}/folders/{{folder}}/children', params={'share_id': '{share}'})),
    'folder_move': (WRITERS, ask('POST', f'{V1}/folders/{{folder}}/move', json={'target_share_id': '{share}', 'name': 'moved'})),
    'file_upload': (WRITERS, upload),
    'file_find': (READERS, ask('GET', f'{V1}/files', params={'share_id': '{share}', 'checksum_sha256': '0' * 64})),
    'file_get': (READERS, ask('GET', f'{V1}/files/{{file}}')),
    'file_update': (WRITERS, ask('PATCH', f'{V1}/files/{{file}}', json={'name': 'renamed'})),
    'file_delete': (WRITERS, ask('DELETE', f'{V1}/files/{{file}}')),
    'file_content': (READERS, ask('GET', f'{V1}/files/{{file}}/content')),
    'file_content_head': (READERS, ask('HEAD', f'{V1}/files/{{file}}/content')),
    'file_chunks': (READERS, ask('GET', f'{V1}/files/{{file}}/chunks')),
    'file_copy': (WRITERS, ask('POST', f'{V1}/files/{{file}}/copy', json={'target_folder_id': '{folder}'})),
    'file_move': (WRITERS, ask('POST', f'{V1}/files/{{file}}/move', json={'target_folder_id': '{folder}'})),
    'file_version_list': (READERS, ask('GET', f'{V1}/files/{{file}}/versions')),
    'file_version_restore': (WRITERS, ask('POST', f'{V1}/files/{{file}}/versions/1/restore')),
    'upload_create': (WRITERS, ask('POST', f'{V1}/uploads', json={'share_id': '{share}', 'file_name': 'new.bin', 'file_size': 1})),
    'upload_get': (EVERYBODY, resumable('GET')),
    'upload_chunk': (EVERYBODY, resumable('PUT', '/chunks/0', content=b'x')),
    'upload_cancel': (EVERYBODY, resumable('DELETE')),
    'upload_complete': (EVERYBODY, resumable('POST', '/complete')),
    'sync_changes': (READERS, ask('GET', f'{V1}/sync/changes', params={'share_id': '{share}', 'cursor': '0'})),
    'sync_snapshot': (READERS, ask('GET', f'{V1}/sync/snapshot', params={'share_id': '{share}'})),
    'sync_status': (READERS, ask('GET', f'{V1}/sync/status', params={'share_id': '{share}', 'device_id': '{device}'})),
    'sync_cursor': (READERS, ask('POST', f'{V1}/sync/cursor', params={'share_id': '{share}', 'device_id': '{device}', 'position': '0'})),
    'sync_apply': (WRITERS, ask('POST', f'{V1}/sync/apply', json={'share_id': '{share}', 'device_id': '{device}', 'changes': [
        {'resource_type': 'folder', 'change_type': 'created', 'new_path': '/new'}]})),
    'sync_chunking': (READERS, ask('GET', f'{V1}/sync/chunking', params={'share_id': '{share}'})),
    'sync_chunks_missing': (READERS, ask('POST', f'{V1}/sync/chunks/missing', params={'share_id': '{share}'}, json={'hashes': ['0' * 64]})),
    'sync_chunks_put': (WRITERS, chunks),
    'sync_chunks_fetch': (READERS, ask('POST', f'{V1}/sync/chunks/fetch', params={'share_id': '{share}'}, json={'items': []})),
    'sync_chunk_signatures': (READERS, ask('POST', f'{V1}/sync/chunks/signatures', params={'share_id': '{share}'},
                                           json={'version_id': '{version}', 'runs': [{'first': 0, 'count': 1}]})),
    'sync_steps': (READERS, ask('GET', f'{V1}/sync/steps', params={'version_id': '{version}'})),
    'sync_version_put': (WRITERS, ask('POST', f'{V1}/sync/versions', params={'share_id': '{share}', 'name': 'new', 'size': '0',
                                                                          'checksum_sha256': sha(b'')})),
    'sync_download': (READERS, ask('GET', f'{V1}/sync/download/{{file}}')),
    'conflict_list': (READERS, ask('GET', f'{V1}/sync/conflicts', params={'share_id': '{share}'})),
    'conflict_resolve': (WRITERS, ask('POST', f'{V1}/sync/conflicts/{{conflict}}/resolve', params={'resolution': 'SERVER_WINS'})),
    'device_list': (EVERYBODY, ask('GET', f'{V1}/sync/devices')),
    'device_register': (EVERYBODY, lambda w: w.caller.post(f'{V1}/sync/devices', json={'device_id': unique(), 'device_name': 'x', 'platform': 'cli'})),
    'device_get': (EVERYBODY, ask('GET', f'{V1}/sync/devices/{{device}}')),
    'device_update': (EVERYBODY, ask('PATCH', f'{V1}/sync/devices/{{device}}', json={'device_name': 'y'})),
    'device_delete': (EVERYBODY, ask('DELETE', f'{V1}/sync/devices/{{device}}')),
    'device_heartbeat': (EVERYBODY, ask('POST', f'{V1}/sync/devices/{{device}}/heartbeat')),
    'preference_list': (EVERYBODY, ask('GET', f'{V1}/sync/devices/{{device}}/preferences')),
    'preference_put_all': (READERS, ask('PUT', f'{V1}/sync/devices/{{device}}/preferences', json={'preferences': [{'share_id': '{share}'}]})),
    'preference_put': (READERS, ask('PUT', f'{V1}/sync/devices/{{device}}/preferences/{{share}}', json={'sync_enabled': False})),
    'sync_socket': (EVERYBODY, SOCKET),
    'realtime_socket': (EVERYBODY, SOCKET),
}
OPERATIONS = {op['operationId']: (method, path, op) for method, path, op in operations()}


@pytest.fixture(scope='module')
def people(server, alice, other, anonymous):
    """Of every role one: the owner is alice; admin here is the role in the share, not the tenant's administrator."""
    made = {}
    for role in ('none', 'reader', 'contributor', 'admin'):
        email = f'{unique("matrix")}@example.com'
        server.add_user(email, name=f'Matrix {role}', tenant='default')
        made[role] = server.client(email)
    return {**made, 'owner': alice, 'other': other, 'anonymous': anonymous}


def test_every_operation_is_in_the_table():
    assert set(TABLE) == set(OPERATIONS)


def test_the_table_agrees_with_the_declared_permission():
    """x-permission of the API: public is public, and whoever needs WRITE, CREATE or DELETE is no reader."""
    for name, (who, _) in TABLE.items():
        declared = OPERATIONS[name][2]['x-permission']
        assert (declared == 'public') == (who in (PUBLIC, None)), name
        if any(word in declared for word in ('WRITE', 'CREATE', 'DELETE')):
            assert 'reader' not in who, name
        if 'MANAGE' in declared:
            assert 'contributor' not in who, name


@pytest.fixture(scope='module')
def worlds(people):
    """A world a caller, used until something was done in it: what is refused or only reads leaves it as it was."""
    made = {}

    def world(caller, fresh=False):
        if fresh or caller not in made:
            made[caller] = World(people, caller)
        elif caller != 'anonymous':
            made[caller].device = Device(people[caller], made[caller].share).id  # devices end with each test
        return made[caller]
    return world


@pytest.mark.parametrize('caller', CALLERS)
@pytest.mark.parametrize('name', [n for n, (_, how) in TABLE.items() if how != SOCKET])
def test_matrix(worlds, name, caller):
    who, how = TABLE[name]
    r = how(worlds(caller))
    if r.is_success and r.request.method not in ('GET', 'HEAD') and who != PUBLIC:
        worlds(caller, fresh=True)
    may = ALL if who == PUBLIC else ALL - {'anonymous'} if who == EVERYBODY else who or set()
    told = f'{name} by {caller}: {r.status_code} {r.text[:500]}'
    if caller in may:
        assert r.status_code in (200, 201, 204), told
    elif caller == 'anonymous' or who is None:
        assert r.status_code == 401, told
    elif caller in ('other', 'none'):
        assert r.status_code == 404, told
    else:
        assert r.status_code == 403, told


def test_sockets(server, people, alice, share):
    async def go():
        for path in (f'{V1}/sync/ws/{Device(alice, share).id}', f'{V1}/realtime/ws'):
            async with websockets.connect(server.url.replace('http', 'ws') + path) as ws:
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await asyncio.wait_for(ws.recv(), 5)
                assert closed.value.code == 4401
    asyncio.run(go())


# ---- unknown and forbidden are alike ----

UNKNOWN = {'file': 'fil_0000000000001', 'folder': 'fld_0000000000001', 'share': 'shr_0000000000001',
           'version': 'ver_0000000000001'}


@pytest.mark.parametrize('caller', ['other', 'none'])
@pytest.mark.parametrize('name', [n for n, (who, how) in TABLE.items() if isinstance(who, set) and how != SOCKET and n not in ('conflict_resolve', 'file_content_head')])
def test_hidden_is_as_unknown(worlds, name, caller):
    """Byte for byte, but for the id that was sent, the request id and the way it is worded around that id."""
    w = copy.copy(worlds(caller))
    hidden = TABLE[name][1](w)
    ids = {'file': w.file['id'], 'folder': w.folder['id'], 'share': w.share['id'], 'version': w.file['version_id']}
    w.file, w.folder, w.share = ({'id': UNKNOWN[k], 'version_id': UNKNOWN['version']} for k in ('file', 'folder', 'share'))
    unknown = TABLE[name][1](w)

    def bare(r):
        text = r.text.replace(r.headers['x-request-id'], '')
        for kind in ids:
            text = text.replace(ids[kind], kind).replace(UNKNOWN[kind], kind)
        headers = {k: v for k, v in r.headers.items() if k not in ('x-request-id', 'date')}
        return r.status_code, text, {**headers, 'content-length': 0}
    assert bare(hidden) == bare(unknown)
    assert hidden.status_code == 404


def test_hidden_trash_is_as_unknown(alice, eve, share):
    f = alice.make_file(share['id'])
    trash(alice, f)
    for params in ({}, {'include_deleted': 'true'}):
        hidden, unknown = (eve.get(f'{V1}/files/{i}', params=params) for i in (f['id'], UNKNOWN['file']))
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.text.replace(f['id'], '').replace(hidden.headers['x-request-id'], '') == \
            unknown.text.replace(UNKNOWN['file'], '').replace(unknown.headers['x-request-id'], '')


def test_nothing_of_another_tenant_can_be_named(alice, other, share):
    """Foreign ids in bodies and as targets, too."""
    mine = other.make_share()
    f, d = alice.make_file(share['id']), alice.make_folder(share['id'])
    own = other.make_file(mine['id'], 'own', b'1')
    device = Device(other, mine)
    for method, path, body in (('POST', f'files/{own["id"]}/copy', {'target_folder_id': d['id']}), ('POST', f'files/{own["id"]}/move', {'target_share_id': share['id']}),
                               ('POST', 'folders', {'share_id': mine['id'], 'parent_id': d['id'], 'name': 'x'}), ('POST', f'files/{f["id"]}/copy', {'target_share_id': mine['id']})):
        refused(other.request(method, f'{V1}/{path}', json=body), 404, 'NOT_FOUND')
    refused(other.post(f'{V1}/files', data={'replace_file_id': f['id']}, files={'file': ('x', b'x')}), 404, 'NOT_FOUND')
    refused(other.get(f'{V1}/sync/download/{own["id"]}', params={'version_id': f['version_id']}), 404, 'NOT_FOUND')
    done, _ = device.one({'resource_type': 'file', 'resource_id': f['id'], 'change_type': 'deleted'}, 'KEEP_BOTH')
    assert (done['status'], done['code']) == (404, 'NOT_FOUND')
    r = device.send([{'resource_type': 'file', 'resource_id': own['id'], 'change_type': 'updated', 'version_id': f['version_id']}], 'KEEP_BOTH')
    assert r.status_code == 409 and alice.content(f['id']) == b'hello\n'
