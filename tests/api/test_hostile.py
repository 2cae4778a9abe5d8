"""Peers that break the rules of TCP and HTTP, or use them up: one connection or many, beside large bodies that pass libmicrohttpd by."""
import contextlib
import http.client
import json
import os
import socket
import struct
import time

import pytest
from device import until
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


class World:
    """A server that waits 5 seconds for the silent, with a file of 8 MiB and a session of pieces of 1 MiB; raw connections to it."""

    def __init__(self, server):
        self.server, self.token = server, server.token('admin')
        with contextlib.closing(Peer(server, self.token)) as p:
            share = p.ask('GET', f'{V1}/shares')['shares'][0]['id']
            begin = {'share_id': share, 'file_name': 'a', 'file_size': 8 * MIB, 'chunk_size': MIB}
            up = p.ask('POST', f'{V1}/uploads', json.dumps(begin), status=201)['id']
            for i in range(8):
                p.ask('PUT', f'{V1}/uploads/{up}/chunks/{i}', os.urandom(MIB))
            self.file = f'{V1}/files/{p.ask("POST", f"{V1}/uploads/{up}/complete", "")["id"]}/content'
            self.piece = f'{V1}/uploads/{p.ask("POST", f"{V1}/uploads", json.dumps(begin | {"file_name": "b"}), status=201)["id"]}/chunks/'

    def head(self, method, path, length=0):
        return f'{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\nContent-Length: {length}\r\n\r\n'.encode()

    def say(self, *texts, receive=None):
        s = socket.socket()
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.connect(('127.0.0.1', self.server.port))
        s.settimeout(20)
        s.sendall(b''.join(texts))
        return s

    def files(self):
        return len(os.listdir(f'/proc/{self.server.process.pid}/fd'))

    def all_is_well(self, files):
        """No descriptor was left behind, and others are served."""
        until(lambda: self.files() <= files + 8)  # packs and staged pieces that it keeps open
        with contextlib.closing(Peer(self.server, self.token)) as p:
            assert len(p.ask('GET', self.file)) == 8 * MIB


@pytest.fixture
def hostile(private_server):
    return World(private_server({'http.idle_timeout': '5'}, people=False))


def hang_up(s):
    """With a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()


def all_of(s):
    out = b''
    with contextlib.closing(s):
        while data := s.recv(1 << 16):
            out += data
    return out


def test_peers_that_go_in_the_middle(hostile):
    files, body = hostile.files(), os.urandom(MIB)
    for i in range(40):
        s = hostile.say(hostile.head('PUT', hostile.piece + str(i % 8), MIB), body[:i * 26000])
        hang_up(s) if i % 2 else s.shutdown(socket.SHUT_WR)
        assert i % 2 or all_of(s) == b''
        s = hostile.say(hostile.head('GET', hostile.file))
        s.recv(1 + i * 26000)
        hang_up(s)
    hostile.all_is_well(files)


def test_peers_that_only_listen_any_more(hostile):
    """A request is whole: its sender has closed its side, and reads the answer."""
    body = os.urandom(MIB)
    for texts, answer in (((hostile.head('PUT', hostile.piece + '0', MIB), body), b'"received'), ((hostile.head('GET', hostile.file),), b''),
                          ((hostile.head('GET', f'{V1}/shares'),), b'"shares"')):
        s = hostile.say(*texts)
        s.shutdown(socket.SHUT_WR)
        got = all_of(s)
        assert got.startswith(b'HTTP/1.1 200 ') and answer in got and (answer or len(got) > 8 * MIB)


def test_requests_behind_large_bodies(hostile):
    ask, body = hostile.head('GET', f'{V1}/shares'), os.urandom(MIB)
    last = ask.replace(b'Host: x', b'Host: x\r\nConnection: close')
    got = all_of(hostile.say(hostile.head('PUT', hostile.piece + '1', MIB), body, ask * 20, last))
    assert got.count(b'HTTP/1.1 200 OK') == 22
    # a piece that is refused ends the connection behind its answer, and so does one that is longer than it said
    assert all_of(hostile.say(hostile.head('PUT', hostile.piece + '99', MIB), body, ask)).count(b'HTTP/1.1 ') == 1
    assert b' 200 OK' not in all_of(hostile.say(hostile.head('PUT', hostile.piece + '2', MIB - 10), body, ask))


def test_peers_that_take_nothing(hostile):
    """Windows of no length, and pieces that do not go on: they are hung up on, and others do not wait meanwhile."""
    files = hostile.files()
    silent = [hostile.say(hostile.head('GET', hostile.file), receive=4096) for _ in range(60)]
    silent += [hostile.say(hostile.head('PUT', hostile.piece + str(i % 8), MIB), bytes(300000)) for i in range(60)]
    begin = time.monotonic()
    with contextlib.closing(Peer(hostile.server, hostile.token)) as p:
        p.ask('GET', f'{V1}/shares')
        assert time.monotonic() - begin < 4
    hostile.all_is_well(files)
    for s in silent:
        s.close()
