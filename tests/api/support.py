"""Running the real server and talking to it. The fixtures of conftest.py stand on this; scripts may import it too."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import types
import uuid

import contract
import httpx
from httpcore.backends import sync as httpcore_sync


def connect_at_once(*args, **kwargs):
    """httpx sends head and body in two pieces; with Nagle's algorithm the second waits 40 ms for the first one's ACK."""
    connection = socket.create_connection(*args, **kwargs)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


if hasattr(httpcore_sync, 'socket'):
    httpcore_sync.socket = types.SimpleNamespace(**{**vars(socket), 'create_connection': connect_at_once})

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PASSWORD = 'correct horse battery'
# Its hash with the smallest parameters that argon2id has (they stand in it), for servers that do not test passwords: a real
# one costs 0.2 s of processor time whenever it is made or compared.
CHEAP_HASH = '$argon2id$v=19$m=8,t=1,p=1$c2NhaWRyaXZlIHRlc3RzLg$spvhCDRmN9fALZWfHVVf/w'
PLAIN = {'verify': False}  # no TLS here; httpx would load the system's certificates for each client, 40 ms of processor time
START_TIMEOUT_S = float(os.environ.get('SCAIDRIVE_TEST_START_TIMEOUT', '30'))


def binary(name='scaidrived'):
    """The program under test: from the environment (SCAIDRIVED, SCAIDRIVE_CLIENT, SCAIDRIVE_SIM), else the newest build."""
    given = os.environ.get({'scaidrived': 'SCAIDRIVED', 'scaidrive': 'SCAIDRIVE_CLIENT', 'sim': 'SCAIDRIVE_SIM'}[name])
    if given:
        return given
    server = os.environ.get('SCAIDRIVED')
    places = [os.path.dirname(server)] if server else [os.path.join(ROOT, d) for d in ('build-test', 'build')]
    for place in places:
        path = os.path.join(place, name)
        if os.path.exists(path):
            return path
    raise RuntimeError(f'{name} is not built: ./run build, or set SCAIDRIVED')


def scratch():
    """Where data folders lie: in memory when there is room, since these tests wait for thousands of syncs that prove nothing
    here (a killed process loses no page of the system's). TMPDIR, when set, is taken instead."""
    if 'TMPDIR' in os.environ or not os.access('/dev/shm', os.W_OK):
        return None
    room = os.statvfs('/dev/shm')
    return '/dev/shm' if room.f_bavail * room.f_frsize > 2 << 30 else None


class Failed(Exception):
    """A command of scaidrived failed."""


class Server:
    """One scaidrived with a data folder and a database of its own.

    settings: {'compat.data_mirror': 'true', ...}; data: where the data folder is to lie. The folder and the database live until
    close(). pattern: another Server that does not run; this one begins as its copy."""

    def __init__(self, settings=None, engine=None, database_url=None, env=None, data=None, pattern=None):
        self.engine = engine or os.environ.get('SCAIDRIVE_TEST_DB', 'sqlite')
        self.dir = tempfile.mkdtemp(prefix='scaidrive-test-', dir=scratch())
        self.data = data or os.path.join(self.dir, 'data')
        self.settings = {'log.level': 'info', 'http.idle_timeout': '30', **(settings or {})}
        self.env = {k: v for k, v in os.environ.items() if not k.startswith('SCAIDRIVE_')} | (env or {})
        self.process = self.port = self.base_url = None
        self.clients, self.tokens = [], {}
        self.cluster_database = None
        if database_url:
            self.settings['database.url'] = database_url
        elif self.engine == 'postgresql':
            self.cluster_database = Cluster.get().create(pattern and pattern.cluster_database)
            self.settings['database.url'] = Cluster.get().url(self.cluster_database)
        if pattern:
            shutil.copytree(pattern.data, self.data)

    # ---- commands ----
    def args(self, *command):
        out = [binary(), *command, '--data', self.data]
        for key, value in self.settings.items():
            out += ['--set', f'{key}={value}']
        return out

    def run(self, *command, check=True, stdin=None):
        """Runs a subcommand; returns its standard output without the last newline."""
        done = subprocess.run(self.args(*command), capture_output=True, text=True, env=self.env, input=stdin, timeout=120)
        if check and done.returncode:
            raise Failed(f'{command[0]}: {done.returncode}: {done.stderr.strip()}')
        return done.stdout.rstrip('\n') if check else done

    def init(self, email='admin@example.com', password=PASSWORD, share=None):
        more = ['--share', share] if share else []
        self.run('init', '--admin-email', email, '--admin-password', password, *more)
        return self

    def cheap_sign_in(self):
        """Passwords of those who have one are compared at no cost from now on."""
        self.sql(f"update users set password_hash = '{CHEAP_HASH}' where password_hash is not null")
        return self

    def sql(self, text):
        """Runs statements on the database, beside a running server or without one; rows of the last one as lists of text."""
        url = self.settings.get('database.url')
        if url:
            done = subprocess.run(['psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', url, '-c', text], check=True,
                                  capture_output=True, text=True)
            return [line.split('|') for line in done.stdout.splitlines()]
        with contextlib.closing(sqlite3.connect(os.path.join(self.data, 'scaidrive.db'), timeout=20)) as db, db:
            rows = []
            for one in text.split(';'):
                rows = db.execute(one).fetchall()
            return [[str(v) for v in row] for row in rows]

    def job(self, name, *options):
        """scaidrived jobs run: what it said."""
        return self.run('jobs', 'run', name, *options)

    def jobs(self):
        """scaidrived jobs: name -> what became of it."""
        return {line['name']: line for line in map(json.loads, self.run('jobs', '--json').splitlines())}

    # ---- the process ----
    def start(self, wait=True):
        assert self.process is None
        self.log_path = os.path.join(self.dir, 'server.log')
        log = open(self.log_path, 'ab')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.data, 'address'))
        listen = f'127.0.0.1:{self.port or 0}'
        # stdin is a pipe that closes with us; the server's own session keeps the terminal's signals away
        self.process = subprocess.Popen(self.args('serve', '--listen', listen), stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=log, env=self.env, start_new_session=True)
        log.close()
        return self.wait_ready() if wait else self

    def wait_ready(self):
        end = time.monotonic() + START_TIMEOUT_S
        address = os.path.join(self.data, 'address')
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Failed(f'the server ended with {self.process.returncode}:\n{self.log()[-4000:]}')
            with contextlib.suppress(FileNotFoundError, httpx.TransportError):
                with open(address) as f:
                    self.base_url = f.read().strip()
                if self.base_url and httpx.get(self.base_url + '/health', timeout=5, **PLAIN).status_code == 200:
                    self.port = int(self.base_url.rsplit(':', 1)[1])
                    return self
            time.sleep(0.01)
        raise Failed(f'the server did not start:\n{self.log()[-4000:]}')

    def stop(self, timeout=20):
        """Asks it to stop (SIGTERM); returns its exit code."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f'the server did not stop:\n{self.log()[-4000:]}') from None
        finally:
            self.process = None

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self, hard=False):
        """On the same port, so that clients stay valid."""
        self.kill() if hard else self.stop()
        return self.start()

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def log_lines(self):
        """The log as objects; lines that are not JSON are left out."""
        out = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                out.append(json.loads(line))
        return out

    def close(self):
        for client in self.clients:
            client.close()
        try:
            code = self.stop()
        finally:
            if self.cluster_database:
                Cluster.get().drop(self.cluster_database)
            text = self.log() if hasattr(self, 'log_path') else ''
            shutil.rmtree(self.dir, ignore_errors=True)
        for word in ('ERROR: AddressSanitizer', 'ERROR: LeakSanitizer', 'runtime error:', 'WARNING: ThreadSanitizer'):
            assert word not in text, f'{word} in the server\'s log:\n' + text[text.index(word) - 200:][:6000]
        assert code in (None, 0), f'the server ended with {code}:\n{text[-4000:]}'

    # ---- people ----
    def add_user(self, email, name=None, tenant=None, admin=False, password=None):
        more = ['--name', name] if name else []
        more += ['--tenant', tenant] if tenant else []
        more += ['--admin'] if admin else []
        more += ['--password', password] if password else []
        return self.run('user', 'add', '--email', email, *more)

    def add_tenant(self, name, admin_email):
        return self.run('tenant', 'add', '--name', name, '--admin-email', admin_email)

    @property
    def url(self):
        return self.base_url

    def token(self, user, device=None, ttl=None, scope=None, tenant=None):
        """user: an address; 'admin' is short for admin@example.com."""
        more = []
        user = user if '@' in user else f'{user}@example.com'
        for option, value in (('--device', device), ('--ttl', ttl), ('--scope', scope), ('--tenant', tenant)):
            more += [option, str(value)] if value is not None else []
        return self.run('token', '--user', user, *more)

    def client(self, user=None, token=None, **kwargs):
        """An API client: of a user's address, of a token, or anonymous."""
        if user and not token:
            token = self.tokens.get(user) or self.tokens.setdefault(user, self.token(user))
        headers = {'Authorization': f'Bearer {token}'} if token else {}
        kwargs.setdefault('event_hooks', {'response': [contract.check]})  # every answer is held against the contract
        client = Api(base_url=self.base_url, headers=headers, timeout=60, **PLAIN, **kwargs)
        client.user, client.token = user, token
        self.clients.append(client)
        return client


class Api(httpx.Client):
    """httpx with the product's few shortcuts; each asserts success and returns the parsed body."""
    user = token = None

    def ok(self, method, path, status=(200, 201, 204), **kwargs):
        r = self.request(method, path, **kwargs)
        wanted = status if isinstance(status, tuple) else (status,)
        assert r.status_code in wanted, f'{method} {path}: {r.status_code} {r.text[:2000]}'
        return r.json() if r.content and 'json' in r.headers.get('content-type', '') else r

    def me(self):
        return self.ok('GET', '/api/v1/users/me')

    def make_share(self, name=None, **kwargs):
        return self.ok('POST', '/api/v1/shares', json={'name': name or unique('share'), 'share_type': 'project', **kwargs})

    def add_member(self, share_id, user_id, role='contributor'):
        return self.ok('POST', f'/api/v1/shares/{share_id}/members',
                       json={'principal_type': 'user', 'principal_id': user_id, 'role': role})

    def make_folder(self, share_id, name=None, parent_id=None):
        body = {'share_id': share_id, 'name': name or unique('folder')}
        if parent_id:
            body['parent_id'] = parent_id
        return self.ok('POST', '/api/v1/folders', json=body)

    def upload(self, share_id, name, content=b'', folder_id=None, **fields):
        """A multipart upload; returns the response, whatever its status."""
        data = {'share_id': share_id, 'name': name, **{k: flag(v) for k, v in fields.items() if v is not None}}
        if folder_id:
            data['folder_id'] = folder_id
        return self.post('/api/v1/files', data=data, files={'file': (name, content, 'application/octet-stream')})

    def make_file(self, share_id, name=None, content=b'hello\n', folder_id=None, **fields):
        r = self.upload(share_id, name or unique('file') + '.txt', content, folder_id, **fields)
        assert r.status_code == 201, f'upload: {r.status_code} {r.text[:2000]}'
        return r.json()

    def content(self, file_id, **kwargs):
        r = self.get(f'/api/v1/files/{file_id}/content', **kwargs)
        assert r.status_code in (200, 206), f'content: {r.status_code} {r.text[:2000]}'
        return r.content

    def changes(self, share_id=None, cursor=0, limit=None):
        """All entries after a cursor, and the cursor after them."""
        out = []
        while True:
            params = {'cursor': cursor} | ({'share_id': share_id} if share_id else {}) | ({'limit': limit} if limit else {})
            page = self.ok('GET', '/api/v1/sync/changes', params=params)
            out += page['changes']
            cursor = page['cursor']
            if not page['has_more']:
                return out, cursor

    registered = []  # (client, device_id) since the last forget_devices

    def register_device(self, device_id=None, name='Laptop', platform='linux'):
        device = self.ok('POST', '/api/v1/sync/devices', json={
            'device_id': device_id or unique('dev'), 'device_name': name, 'platform': platform, 'client_version': '1.0'})
        Api.registered.append((self, device['device_id']))
        return device

    @staticmethod
    def forget_devices():
        """A user has at most 100 devices: those of a test go with it. A private server is gone already."""
        for client, device_id in Api.registered:
            with contextlib.suppress(httpx.HTTPError, RuntimeError):
                httpx.delete(f'{client.base_url}/api/v1/sync/devices/{device_id}'.replace('//api', '/api'),
                             headers=client.headers, timeout=10, **PLAIN)
        Api.registered.clear()

    def apply(self, share_id, device_id, changes, resolution=None, **more):
        """POST /sync/apply; returns the response, whatever its status."""
        body = {'device_id': device_id, 'share_id': share_id, 'changes': changes, **more}
        if resolution:
            body['conflict_resolution'] = resolution
        return self.post('/api/v1/sync/apply', json=body)


def flag(v):
    return ('true' if v else 'false') if isinstance(v, bool) else str(v)


def unique(prefix='x'):
    return f'{prefix}-{uuid.uuid4().hex[:10]}'


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Cluster:
    """One throw-away PostgreSQL cluster for the whole run; a database for each server.

    SCAIDRIVE_TEST_PG_URL names one that is already there."""
    instance = None

    def __init__(self):
        self.dir = None
        self.base = os.environ.get('SCAIDRIVE_TEST_PG_URL') or os.environ.get('SCAIDRIVE_TEST_PG')
        if not self.base:
            self.dir = tempfile.mkdtemp(prefix='scaidrive-pg-', dir=scratch())
            os.chmod(self.dir, 0o711)
            self.base = subprocess.run([os.path.join(ROOT, 'tests', 'pg_cluster.sh'), 'start', self.dir + '/c'], check=True,
                                       capture_output=True, text=True).stdout.strip().splitlines()[-1]

    @classmethod
    def get(cls):
        if cls.instance is None:
            cls.instance = Cluster()
        return cls.instance

    @classmethod
    def shut(cls):
        if cls.instance and cls.instance.dir:
            subprocess.run([os.path.join(ROOT, 'tests', 'pg_cluster.sh'), 'stop', cls.instance.dir + '/c'], check=False,
                           capture_output=True)
            shutil.rmtree(cls.instance.dir, ignore_errors=True)
        cls.instance = None

    def url(self, database):
        head, _, query = self.base.partition('?')
        return head.rsplit('/', 1)[0] + '/' + database + ('?' + query if query else '')

    def sql(self, text):
        subprocess.run(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', self.base, '-c', text], check=True,
                       capture_output=True, text=True)

    def create(self, like=None):
        name = 't' + uuid.uuid4().hex[:16]
        self.sql(f'create database {name}' + (f' template {like}' if like else ''))
        return name

    def drop(self, name):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.sql(f'drop database {name} with (force)')
