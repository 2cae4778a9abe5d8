"""What the tests say again and again."""
import hashlib
import threading

import contract

V1 = '/api/v1'
STRATEGIES = ('LAST_WRITER_WINS', 'KEEP_BOTH', 'SERVER_WINS', 'CLIENT_WINS', 'MANUAL')


def refused(response, status, code):
    """The response is that error, in the shape of D26; returns its body."""
    assert response.status_code == status, f'{status} {code} expected: {response.status_code} {response.text[:1000]}'
    return contract.check_error(response, code)


def fields_of(response):
    """(field path, type) of every failing field of a 422."""
    return {('.'.join(str(x) for x in p['loc']), p['type']) for p in refused(response, 422, 'VALIDATION_ERROR')['detail']}


def form(*parts, boundary='edge-7d1f', close=True):
    """A multipart body by hand: parts are (name, value) or (name, value, {header: value}); the file part has a filename in
    name as 'file; filename="x"'. Returns (body, headers)."""
    out = b''
    for part in parts:
        name, value, more = (*part, {})[:3]
        field, _, rest = name.partition(';')
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"{";" + rest if rest else ""}\r\n'.encode()
        out += b''.join(f'{k}: {v}\r\n'.encode() for k, v in more.items()) + b'\r\n'
        out += (value if isinstance(value, bytes) else str(value).encode()) + b'\r\n'
    if close:
        out += f'--{boundary}--\r\n'.encode()
    return out, {'Content-Type': f'multipart/form-data; boundary={boundary}'}


def replace(api, file, content, base=None, resolution=None, **fields):
    """A new version of a file; the response, whatever its status."""
    data = {'replace_file_id': file['id'], **{k: str(v).lower() if isinstance(v, bool) else v for k, v in fields.items()}}
    if base:
        data['base_version_id'] = base
    if resolution:
        data['conflict_resolution'] = resolution
    return api.post(f'{V1}/files', data=data, files={'file': ('ignored.bin', content, 'application/octet-stream')})


def replaced(api, file, content, base=None, resolution=None, **fields):
    r = replace(api, file, content, base, resolution, **fields)
    assert r.status_code == 201, r.text
    return r.json()


def file_of(api, file, **params):
    return api.ok('GET', f'{V1}/files/{file["id"]}', params=params)


def versions_of(api, file, **params):
    return api.ok('GET', f'{V1}/files/{file["id"]}/versions', params=params)['versions']


def contents_of(api, file):
    """The content of every numbered version, oldest first, the trash included."""
    numbers = sorted(v['version_number'] for v in versions_of(api, file, include_deleted='true'))
    return [api.content(file['id'], params={'version': n, 'include_deleted': 'true'}) for n in numbers]


def trash(api, node):
    kind = 'folders' if node['id'].startswith('fld_') else 'files'
    return api.ok('DELETE', f'{V1}/{kind}/{node["id"]}', 204)


def children(api, share, folder=None, **params):
    return api.ok('GET', f'{V1}/folders/{folder["id"] if folder else "root"}/children',
                  params={'share_id': share['id'], **params})['items']


def names(items):
    return [item['name'] for item in items]


def head(api):
    """The end of the tenant's log."""
    return api.ok('GET', f'{V1}/sync/changes')['cursor']


def since(api, share, cursor):
    """[(change_type, resource_id)] after the cursor, besides those of the share itself."""
    return [(c['change_type'], c['resource_id']) for c in api.changes(share['id'], cursor)[0] if c['resource_type'] != 'share']


def snapshot(api, share, limit=1000, **params):
    """({id: node}, cursor) over all pages."""
    nodes, token, cursor, last = {}, None, None, ''
    while True:
        page = api.ok('GET', f'{V1}/sync/snapshot', params={'share_id': share['id'], 'limit': limit, **params,
                                                            **({'page_token': token} if token else {})})
        assert cursor in (None, page['cursor']), 'the cursor is the same on every page'
        cursor = page['cursor']
        for node in page['nodes']:
            assert node['id'] not in nodes, 'every node once'
            assert node['id'][4:] > last, 'in id order'
            last = node['id'][4:]
            nodes[node['id']] = node
        token = page['page_token']
        assert page['has_more'] == (token is not None)
        if token is None:
            return nodes, cursor


class Device:
    """A device of a user, working in one share."""

    def __init__(self, api, share, name='Laptop'):
        self.api, self.share = api, share
        self.id = api.register_device(name=name)['device_id']

    def send(self, changes, resolution=None, **more):
        """The response, whatever its status."""
        return self.api.apply(self.share['id'], self.id, changes, resolution, **more)

    def apply(self, changes, resolution=None, **more):
        """The answer; every change has exactly one entry in applied or errors."""
        r = self.send(changes, resolution, **more)
        assert r.status_code == 200, r.text[:2000]
        answer = r.json()
        told = sorted([a['index'] for a in answer['applied']] + [e['index'] for e in answer['errors']])
        assert told == list(range(len(changes))), answer
        return answer

    def one(self, change, resolution=None, **more):
        """(what became of the only change, its conflict or None)."""
        answer = self.apply([change], resolution, **more)
        return (answer['applied'] + answer['errors'])[0], (answer['conflicts'] or [None])[0]


def updated(file, version_id, base=None, **more):
    return {'resource_type': 'file', 'resource_id': file['id'], 'change_type': 'updated', 'version_id': version_id,
            **({'base_version_id': base} if base else {}), **more}


def deleted(node, base=None, **more):
    kind = 'folder' if node['id'].startswith('fld_') else 'file'
    return {'resource_type': kind, 'resource_id': node['id'], 'change_type': 'deleted',
            **({'base_version_id': base} if base else {}), **more}


def mkdir(path, **more):
    return {'resource_type': 'folder', 'change_type': 'created', 'new_path': path, **more}


def moved(node, path=None, change_type='moved', **metadata):
    kind = 'folder' if node['id'].startswith('fld_') else 'file'
    return {'resource_type': kind, 'resource_id': node['id'], 'change_type': change_type,
            **({'new_path': path} if path else {}), **({'metadata': metadata} if metadata else {})}


def sha(content):
    return hashlib.sha256(content).hexdigest()


def together(*calls):
    """Runs all at once from as many threads; returns their results, or raises the first fault."""
    results, faults, gate = [None] * len(calls), [], threading.Barrier(len(calls))

    def run(i, call):
        try:
            gate.wait(30)
            results[i] = call()
        except BaseException as e:  # told in the test's own thread
            faults.append(e)

    threads = [threading.Thread(target=run, args=(i, call)) for i, call in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    if faults:
        raise faults[0]
    return results
