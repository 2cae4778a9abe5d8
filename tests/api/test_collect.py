"""scaidrived collect: with the server stopped, what nothing refers to goes at once."""
import os
import re

import pytest


def packs(server):
    return {os.path.join(top, n): os.path.getsize(os.path.join(top, n))
            for top, _, names in os.walk(os.path.join(server.data, 'packs')) for n in names if n.endswith('.pack')}


def told(text):
    """What it says, as {line: (number, bytes)}."""
    return {m[1].strip(): (int(m[2]), int(m[3])) for m in re.finditer(r'^(.{34}) +(\d+) +(\d+) bytes$', text, re.M)}


def test_all_at_once(private_server, engine):
    server = private_server()
    alice = server.client('alice@example.com')
    share = alice.make_share('Papers')
    kept, gone = os.urandom(5 << 20), os.urandom(6 << 20)
    stays = alice.make_file(share['id'], 'stays', kept)
    goes = alice.make_file(share['id'], 'goes', gone)
    before = packs(server)
    refused = server.run('collect', check=False)
    if engine == 'sqlite':
        assert refused.returncode == 1 and 'is in use by another scaidrived' in refused.stderr
    alice.delete(f'/api/v1/files/{goes["id"]}', params={'permanent': 'true'})
    server.stop()
    if engine != 'sqlite':
        server.run('collect')
        pytest.skip('others may be at work: it goes with the next collections')

    dry = told(server.run('collect', '--dry-run'))
    assert dry['unused chunks'][1] >= len(gone) and dry['packs to delete'][0] == 0
    assert packs(server) == before
    done = told(server.run('collect'))
    assert done['chunks removed'][0] > 10 and done['chunks removed'][1] >= len(gone)
    assert sum(packs(server).values()) < len(kept) * 1.05
    again = told(server.run('collect'))
    assert again['chunks removed'][0] == again['unused chunks'][0] == again['packs deleted'][0] == 0
    assert server.run('fsck', '--deep', check=False).returncode == 0
    server.start()
    assert alice.content(stays['id']) == kept
    assert alice.get(f'/api/v1/files/{goes["id"]}').status_code == 404
    # the same bytes once more are a new file
    assert alice.content(alice.make_file(share['id'], 'goes', gone)['id']) == gone
