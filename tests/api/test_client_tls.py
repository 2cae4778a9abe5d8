"""The client over TLS: the sample nginx configuration with a certificate authority of our own, straight and by a proxy."""
import os
import select
import shutil
import socket
import subprocess
import threading
import time
import types

import pytest
from support import PASSWORD, ROOT
from test_client import SHARE, Device, until

NGINX = shutil.which('nginx') or shutil.which('nginx', path='/usr/sbin:/usr/local/sbin')
NAME = 'drive.test'  # resolved by nobody but the proxy
pytestmark = [pytest.mark.once, pytest.mark.skipif(not NGINX or not shutil.which('openssl'), reason='nginx and openssl are not installed')]


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def certificates(folder):
    def openssl(*args):
        subprocess.run(['openssl', *args], cwd=folder, check=True, capture_output=True)
    curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    for ca in ('ca', 'other'):
        openssl('req', '-x509', *curve, '-keyout', ca + '.key', '-out', ca + '.pem', '-days', '2', '-subj', f'/CN=test {ca}')
    openssl('req', *curve, '-keyout', 'privkey.pem', '-out', 'server.csr', '-subj', '/CN=' + NAME)
    with open(os.path.join(folder, 'names'), 'w') as f:
        f.write(f'subjectAltName=DNS:{NAME},DNS:localhost')
    openssl('x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2',
            '-extfile', 'names', '-out', 'fullchain.pem')


def sample(folder, backend, port):
    with open(os.path.join(ROOT, 'packaging', 'nginx.conf')) as f:
        text = f.read()
    for old, new in (('127.0.0.1:8000', f'127.0.0.1:{backend}'), ('listen 80;', f'listen 127.0.0.1:{free_port()};'),
                     ('\tlisten [::]:80;\n', ''), ('listen 443 ssl', f'listen 127.0.0.1:{port} ssl'), ('\tlisten [::]:443 ssl http2;\n', ''),
                     ('/etc/ssl/drive.example.com', folder), ('/var/log/nginx/scaidrive.log', folder + '/access.log'),
                     ('drive.example.com', NAME + ' localhost')):
        assert old in text, old
        text = text.replace(old, new)
    temp = ''.join(f'{k}_temp_path {folder}/{k};\n' for k in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
    path = os.path.join(folder, 'nginx.conf')
    with open(path, 'w') as f:
        f.write(f'daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\n{temp}{text}}}\n')
    return path


class Proxy:
    """CONNECT and nothing else; resolves NAME to this machine."""

    def __init__(self):
        self.seen = []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = 'http://127.0.0.1:%d' % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        head = b''
        while b'\r\n\r\n' not in head:
            more = s.recv(4096)
            if not more:
                return
            head += more
        method, target, _ = head.split(b'\r\n')[0].decode().split(' ')
        self.seen.append((method, target))
        host, port = target.rsplit(':', 1)
        if method != 'CONNECT' or host != NAME:
            s.sendall(b'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
            return s.close()
        up = socket.create_connection(('127.0.0.1', int(port)))
        s.sendall(b'HTTP/1.1 200 OK\r\n\r\n')
        while True:
            for a in select.select([s, up], [], [])[0]:
                try:
                    data = a.recv(65536)
                    (up if a is s else s).sendall(data)
                except OSError:
                    data = b''
                if not data:
                    s.close()
                    return up.close()


@pytest.fixture
def tls(private_server):
    s = private_server(people=False)
    folder = os.path.join(s.dir, 'tls')
    os.mkdir(folder)
    certificates(folder)
    port = free_port()
    nginx = subprocess.Popen([NGINX, '-c', sample(folder, s.port, port), '-e', folder + '/error.log'], stderr=subprocess.PIPE)
    until(lambda: nginx.poll() is not None or socket.socket().connect_ex(('127.0.0.1', port)) == 0)
    assert nginx.poll() is None, nginx.stderr.read()
    made = []

    def device(name, host, **env):
        d = Device(types.SimpleNamespace(base_url=f'https://{host}:{port}', env={**s.env, **env}), os.path.join(s.dir, 'devices'), name)
        made.append(d)
        return d
    yield types.SimpleNamespace(device=device, ca=folder + '/ca.pem', other=folder + '/other.pem', folder=folder)
    for d in made:
        d.stop()
    nginx.terminate()
    nginx.wait(10)


def in_step(a, b):
    """Both ways within less than the 60 s of the timer: the sockets carry the nudge."""
    for d in (a, b):
        d.start()
    until(lambda: os.path.isdir(a.root) and os.path.isdir(b.root))
    a.write('from a', 'x' * 300000)
    until(lambda: b.read('from a') == 'x' * 300000)
    time.sleep(1)
    begin = time.monotonic()
    b.write('from b', '1')
    until(lambda: a.read('from b') == '1', 10)
    a.stop()
    b.stop()
    assert time.monotonic() - begin < 10


def test_own_authority(tls):
    a, b = (tls.device(n, 'localhost', SCAIDRIVE_CA_FILE=tls.ca).login() for n in 'ab')
    in_step(a, b)
    with open(tls.folder + '/access.log') as f:
        log = f.read()
    assert '"GET /api/v1/sync/ws/' in log and ' 101 ' in log


def test_unknown_authority_is_refused(tls):
    for env in ({}, {'SCAIDRIVE_CA_FILE': tls.other}):
        d = tls.device('x', 'localhost', **env)
        done = d.run('login', '--server', d.server.base_url, '--email', 'admin@example.com', '--password-stdin', stdin=PASSWORD + '\n', code=3)
        assert 'certificate' in done.stderr.lower()
    d = tls.device('y', '127.0.0.1', SCAIDRIVE_CA_FILE=tls.ca)  # the right authority, but not that name
    d.run('login', '--server', d.server.base_url, '--email', 'admin@example.com', '--password-stdin', stdin=PASSWORD + '\n', code=3)


def test_by_a_proxy(tls):
    proxy = Proxy()
    a, b = (tls.device(n, NAME, SCAIDRIVE_CA_FILE=tls.ca, SCAIDRIVE_PROXY=proxy.url).login() for n in 'ab')
    in_step(a, b)
    assert proxy.seen and {m for m, _ in proxy.seen} == {'CONNECT'}
    env = dict(https_proxy=proxy.url, SCAIDRIVE_CA_FILE=tls.ca)  # as other programs are told
    assert SHARE in tls.device('c', NAME, **env).login().run('shares').stdout
    proxy.listener.close()
