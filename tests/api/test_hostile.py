"""Peers that break the rules of TCP and HTTP, or use them up: one connection or many, beside large bodies that pass libmicrohttpd by."""
import contextlib
import http.client
import json
import time

import pytest
from helpers import V1
from support import unique

pytestmark = pytest.mark.once

MIB = 1 << 20


class Peer:
    """One connection, that is never opened again."""

    def __init__(self, server, token, timeout=20):
        self.connection = http.client.HTTPConnection('127.0.0.1', server.port, timeout=timeout)
        self.connection.auto_open = 0
        self.connection.connect()
        self.headers = {'Authorization': 'Bearer ' + token}

    def ask(self, method, path, body=None, status=200, **headers):
        kind = {'Content-Type': 'application/json' if isinstance(body, str) else 'application/octet-stream'}
        self.connection.request(method, path, body, self.headers | kind | headers)
        r = self.connection.getresponse()
        data = r.read()
        assert r.status == status, data
        return json.loads(data) if 'json' in r.headers['Content-Type'] else data

    def close(self):
        self.connection.close()


@pytest.mark.parametrize('limits', [{'http.connections_per_address': '1'}, {'http.connections': '16', 'http.threads': '2'}])
def test_large_bodies_at_the_limit_of_connections(private_server, limits):
    """The socket of a large body is another connection afterwards, and not one more."""
    s = private_server(limits, people=False)
    token = s.token('admin')
    peers = []
    with contextlib.ExitStack() as stack:
        deadline = time.monotonic() + 10
        while len(peers) < int(limits.get('http.connections', 1)):  # the connection that asked for /health may be there still
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError, http.client.HTTPException):
                p = stack.enter_context(contextlib.closing(Peer(s, token, 2)))
                p.ask('GET', f'{V1}/shares')
                peers.append(p)
        share = peers[0].ask('GET', f'{V1}/shares')['shares'][0]['id']
        for p in peers:
            up = p.ask('POST', f'{V1}/uploads', json.dumps({'share_id': share, 'file_name': unique('f'), 'file_size': 2 * MIB, 'chunk_size': MIB}),
                       status=201)
            for i in range(2):
                p.ask('PUT', f'{V1}/uploads/{up["id"]}/chunks/{i}', bytes([i]) * MIB)
            file = p.ask('POST', f'{V1}/uploads/{up["id"]}/complete', '')
            for _ in range(3):
                assert p.ask('GET', f'{V1}/files/{file["id"]}/content') == bytes(MIB) + b'\1' * MIB
