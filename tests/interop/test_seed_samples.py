"""The sample clients of the product's own documents run unmodified against the server.

The documents are not part of this repository: they are looked for in ../shared/seeds (or SCAIDRIVE_SEEDS). Where they
are missing, these tests skip and say so. A sample's code is taken as it stands; only names that it leaves open (url,
token, apply_change_locally ...) are supplied, and in shell samples the placeholder ids are replaced by real ones.
"""
import asyncio
import contextlib
import glob
import hashlib
import json
import os
import re
import subprocess
import threading

import httpx
import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
SEEDS = os.environ.get('SCAIDRIVE_SEEDS', os.path.join(REPO, '..', 'shared', 'seeds'))

pytestmark = pytest.mark.skipif(not glob.glob(os.path.join(SEEDS, '*.txt')),
                                reason="the product's documents are not here (../shared/seeds)")


def samples(title):
    """[(language, code)] of the document whose text begins with that title: a language, line numbers, then the lines."""
    for path in sorted(glob.glob(os.path.join(SEEDS, '*.txt'))):
        lines = open(path, encoding='utf-8').read().splitlines()
        if title not in lines[:20]:
            continue
        found, i = [], 0
        while i < len(lines):
            language = lines[i].strip()
            i += 1
            if language in ('python', 'typescript', 'bash', 'json') and i < len(lines) and lines[i].strip() == '1':
                count = 0
                while i < len(lines) and lines[i].strip() == str(count + 1):
                    count += 1
                    i += 1
                found.append((language, '\n'.join(lines[i:i + count])))
                i += count
        return found
    pytest.skip(f'no document called {title}')


def sample(title, language, contains):
    return next(code for kind, code in samples(title) if kind == language and contains in code)


@pytest.fixture
def bench(private_server):
    """A server of its own with the data mirror on, a share with some content, and a token."""
    server = private_server(SCAIDRIVE_COMPAT_DATA_MIRROR='true')
    token = server.token('admin')
    client = httpx.Client(base_url=server.url, headers={'Authorization': f'Bearer {token}'}, timeout=30)
    share = client.get('/api/v1/shares').json()['shares'][0]['id']
    folder = client.post('/api/v1/folders', json={'share_id': share, 'name': 'Engineering'}).json()['id']
    return type('Bench', (), {'server': server, 'token': token, 'client': client, 'share': share, 'folder': folder})


def test_python_sync_client(bench):
    scope = {'apply_change_locally': lambda change: seen.append(change)}
    seen = []
    exec(compile(sample('Sync', 'python', 'class SyncClient'), 'sample', 'exec'), scope)

    async def run():
        client = scope['SyncClient'](bench.server.url, bench.token, 'dev_01J3KX')
        device = await client.register('Alice MacBook Pro', 'macos', '1.2.0')
        assert device['device_id'] == 'dev_01J3KX'
        assert await client.register('Alice MacBook Pro', 'macos', '1.2.0')  # again: the same device
        assert await client.cursor(bench.share) >= 1  # a fresh device starts at the head
        for i in range(25):
            bench.client.post('/api/v1/folders', json={'share_id': bench.share, 'name': f'f{i}'}).raise_for_status()
        pull = client.pull
        client.pull = lambda share, cursor: pull(share, cursor, limit=10)  # several pages: the loop follows has_more
        await scope['sync_share'](client, bench.share)
        made = bench.client.post('/api/v1/files', data={'share_id': bench.share, 'folder_id': bench.folder},
                                 files={'file': ('spec.pdf', b'one', 'application/pdf')}).json()
        staged = bench.client.post('/api/v1/files', data={'share_id': bench.share, 'replace_file_id': made['id'],
                                                          'base_version_id': made['version_id'], 'staged': 'true'},
                                   files={'file': ('spec.pdf', b'two', 'application/pdf')}).json()
        answer = await client.apply(bench.share, [{
            'resource_type': 'file', 'resource_id': made['id'], 'change_type': 'updated', 'version_id': staged['version_id'],
            'base_version_id': made['version_id'], 'new_path': '/Engineering/spec.pdf'}])
        assert not answer['conflicts'] and len(answer['applied']) == 1
        assert bench.client.get(f'/api/v1/files/{made["id"]}/content').content == b'two'
        await client.client.aclose()

    asyncio.run(run())
    assert [c['new_path'] for c in seen] == [f'/f{i}' for i in range(25)]


def test_python_watch(bench):
    woken = []

    class Done(Exception):
        pass

    async def trigger_sync(share):
        woken.append(share)
        raise Done

    scope = {'trigger_sync': trigger_sync}
    exec(compile(sample('Sync', 'python', 'websockets'), 'sample', 'exec'), scope)
    bench.client.post('/api/v1/sync/devices', json={'device_id': 'dev_01J3KX', 'device_name': 'x', 'platform': 'cli',
                                                    'client_version': '1.0.0'}).raise_for_status()

    async def run():
        watch = asyncio.create_task(scope['watch'](bench.server.url.replace('http', 'ws'), bench.token, 'dev_01J3KX'))
        for i in range(100):
            await asyncio.sleep(0.1)
            if watch.done():
                break
            await asyncio.to_thread(bench.client.post, '/api/v1/folders', json={'share_id': bench.share, 'name': f'w{i}'})
        with contextlib.suppress(Done):
            await asyncio.wait_for(watch, 5)

    asyncio.run(run())
    assert woken == [bench.share]


def transpiled(code, tmp_path, driver):
    esbuild = os.path.join(REPO, 'tests', 'interop', 'node_modules', '.bin', 'esbuild')
    if not os.path.exists(esbuild):
        pytest.skip('esbuild is not installed (npm ci in tests/interop)')
    source = tmp_path / 'sample.ts'
    source.write_text(code + '\n' + driver)
    out = tmp_path / 'sample.mjs'
    subprocess.run([esbuild, str(source), '--format=esm', f'--outfile={out}', '--log-level=warning'], check=True)
    return out


def node(script, bench, tmp_path, **more):
    done = subprocess.run(['node', str(script)], cwd=tmp_path, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, 'SCAIDRIVE_URL': bench.server.url, 'SCAIDRIVE_TOKEN': bench.token,
                               'SHARE': bench.share, 'FOLDER': bench.folder, **more})
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.decode().splitlines()[-1])


def test_typescript_sync_client(bench, tmp_path):
    bench.client.post('/api/v1/sync/devices', json={'device_id': 'dev_01J3KX', 'device_name': 'x', 'platform': 'cli',
                                                    'client_version': '1.0.0'}).raise_for_status()
    driver = '''
const e = process.env as Record<string, string>;
const client = new SyncClient(e.SCAIDRIVE_URL, e.SCAIDRIVE_TOKEN, 'dev_01J3KX');
const start = await client.cursor(e.SHARE);
const made = await client.apply(e.SHARE, [{resource_type: 'folder', resource_id: null, change_type: 'created', new_path: '/From TypeScript'}]);
const page = await client.pull(e.SHARE, start);
await client.advance(e.SHARE, page.cursor);
console.log(JSON.stringify({start, made, page, end: await client.cursor(e.SHARE)}));
'''
    answer = node(transpiled(sample('Sync', 'typescript', 'class SyncClient'), tmp_path, driver), bench, tmp_path)
    assert [c['new_path'] for c in answer['page']['changes']] == ['/From TypeScript']
    assert answer['end'] == answer['page']['cursor'] > answer['start']
    assert len(answer['made']['applied']) == 1


def test_typescript_upload_and_download(bench, tmp_path):
    (tmp_path / 'spec.pdf').write_bytes(b'%PDF-1.7 from node')
    upload = sample('Uploads and Downloads', 'typescript', 'new FormData').replace('shr_01J3H', bench.share).replace(
        'fld_01J3I', bench.folder)
    script = transpiled("import { readFileSync } from 'node:fs';\nconst url = process.env.SCAIDRIVE_URL, token = process.env.SCAIDRIVE_TOKEN;\n" +
                        upload.replace('console.log(', 'console.log(JSON.stringify(').replace('.id);', '.id));'), tmp_path, '')
    file = node(script, bench, tmp_path)
    assert file.startswith('fil_')
    (tmp_path / 'spec.pdf').unlink()
    download = sample('Uploads and Downloads', 'typescript', 'createWriteStream').replace('fil_01J3K', file)
    script = transpiled("import { createWriteStream } from 'node:fs';\nimport { finished } from 'node:stream/promises';\n"
                        "import { Readable } from 'node:stream';\n"
                        "const url = process.env.SCAIDRIVE_URL, token = process.env.SCAIDRIVE_TOKEN;\n" + download, tmp_path,
                        'console.log("true");')
    node(script, bench, tmp_path)
    assert (tmp_path / 'spec.pdf').read_bytes() == b'%PDF-1.7 from node'


def test_python_upload_download_verify(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = os.urandom(300000)
    (tmp_path / 'spec.pdf').write_bytes(content)
    printed = []
    scope = {'httpx': httpx, 'url': bench.server.url, 'token': bench.token, 'print': printed.append}
    code = [c for kind, c in samples('Uploads and Downloads') if kind == 'python']
    exec(compile(code[0].replace('shr_01J3H', bench.share).replace('fld_01J3I', bench.folder), 'sample', 'exec'), scope)
    (tmp_path / 'spec.pdf').unlink()
    exec(compile(code[1].replace('fil_01J3K', printed[0]), 'sample', 'exec'), scope)
    assert (tmp_path / 'spec.pdf').read_bytes() == content
    exec(compile(code[2].replace('fil_01J3K', printed[0]), 'sample', 'exec'), scope)  # asserts the checksum itself


def shell(code, bench, tmp_path, **ids):
    for placeholder, real in ids.items():
        code = re.sub(rf'\b{placeholder}\b', real, code)
    code = code.replace('curl ', 'curl -sS --fail ', 1)
    done = subprocess.run(['bash', '-c', code], cwd=tmp_path, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env={**os.environ, 'SCAIDRIVE_URL': bench.server.url, 'SCAIDRIVE_TOKEN': bench.token})
    assert done.returncode == 0, code + '\n' + done.stderr.decode()
    return done.stdout


def test_shell_samples_of_the_sync_guide(bench, tmp_path):
    share2 = bench.client.get('/api/v1/users/me').json()['id']
    share2 = bench.client.post('/api/v1/shares', json={'name': 'Second', 'share_type': 'project', 'owner_id': share2}).json()['id']
    folder2 = bench.client.post('/api/v1/folders', json={'share_id': bench.share, 'name': 'Design'}).json()['id']
    content = b'%PDF-' + os.urandom(5 << 20)  # begins as no JSON does
    made = bench.client.post('/api/v1/files', data={'share_id': bench.share, 'folder_id': bench.folder},
                             files={'file': ('spec.pdf', content, 'application/pdf')}).json()
    second = bench.client.post('/api/v1/files', data={'share_id': bench.share, 'replace_file_id': made['id'], 'base_version_id': made['version_id'],
                                                      'staged': 'true'}, files={'file': ('spec.pdf', b'two', 'application/pdf')}).json()
    ids = {'shr_01J3K': bench.share, 'shr_01J4Z': share2, 'fld_01J4A': bench.folder, 'fld_01J4B': folder2, 'fil_01J3M': made['id'],
           'ver_01J4Q': second['version_id'], 'ver_01J3P': made['version_id']}
    code = [c for kind, c in samples('Sync') if kind == 'bash']
    outputs = []
    for block in code:
        if 'download' in block:
            (tmp_path / 'part').unlink(missing_ok=True)
            block = re.sub(r'version=4', 'version=1', block)
        if '/conflicts/' in block:
            continue  # needs a conflict: below
        outputs.append(shell(block, bench, tmp_path, **ids))
    lists = [json.loads(v) for v in outputs if v.startswith(b'[')]
    assert any(d.get('device_id') == 'dev_01J3KX' for found in lists for d in found), outputs
    assert bench.client.get('/api/v1/sync/devices').json()[0]['device_id'] == 'dev_01J3KX'
    preferences = bench.client.get('/api/v1/sync/devices/dev_01J3KX/preferences').json()['preferences']
    assert {p['share_id']: p['sync_enabled'] for p in preferences} == {bench.share: True, share2: False}
    assert bench.client.get(f'/api/v1/files/{made["id"]}').json()['version'] == 2

    stale = bench.client.post('/api/v1/files', data={'share_id': bench.share, 'replace_file_id': made['id'], 'base_version_id': made['version_id'],
                                                     'conflict_resolution': 'MANUAL', 'device_id': 'dev_01J3KX'},
                              files={'file': ('spec.pdf', b'three', 'application/pdf')})
    stale.raise_for_status()
    conflict = bench.client.get('/api/v1/sync/conflicts', params={'device_id': 'dev_01J3KX'}).json()[0]
    resolve = next(c for c in code if '/conflicts/' in c)
    assert json.loads(shell(resolve, bench, tmp_path, cfl_01J4R=conflict['id']))['resolved'] is True


def test_shell_samples_of_the_upload_guide(bench, tmp_path):
    content = os.urandom(3 << 20)
    (tmp_path / 'spec.pdf').write_bytes(content)
    code = [c for kind, c in samples('Uploads and Downloads') if kind == 'bash']
    made = json.loads(shell(code[0], bench, tmp_path, shr_01J3H=bench.share, fld_01J3I=bench.folder))
    assert made['checksum_sha256'] == hashlib.sha256(content).hexdigest()
    (tmp_path / 'spec.pdf').unlink()
    shell(code[1], bench, tmp_path, fil_01J3K=made['id'])
    assert (tmp_path / 'spec.pdf').read_bytes() == content
    assert shell(code[2], bench, tmp_path, fil_01J3K=made['id']) == content[1048576:2097152]
    assert shell(code[3].replace('version=4', 'version=1'), bench, tmp_path, fil_01J3K=made['id']) == content[:1000]
