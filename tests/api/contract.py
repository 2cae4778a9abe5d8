"""The contract: docs/openapi.json. Every answer that any test gets is held against it (D26, D28).

An answer of a known route must have a declared status, and a JSON body must be exactly of the declared schema: no field
missing, none too many, ids of the declared kinds, times in RFC 3339 UTC. An error must have the one shape of D26 and a
code that goes with its status.
"""
import json
import os
import re

import httpx

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
with open(os.path.join(ROOT, 'docs', 'openapi.json'), encoding='utf-8') as f:
    DOCUMENT = json.load(f)
SCHEMAS = DOCUMENT['components']['schemas']
PREFIX = {'tenant': 'tnt', 'partner': 'prt', 'user': 'usr', 'group': 'grp', 'share': 'shr', 'file': 'fil', 'folder': 'fld',
          'version': 'ver', 'change': 'chg', 'conflict': 'cfl', 'upload': 'ups', 'device': 'dvc'}
TIME = re.compile(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z')
METHODS = ('get', 'head', 'post', 'put', 'patch', 'delete')
# What a server may answer to any request, whatever the route: framing, limits, load.
ANYWHERE = {400: 'BAD_REQUEST', 405: 'METHOD_NOT_ALLOWED', 411: 'LENGTH_REQUIRED', 413: 'PAYLOAD_TOO_LARGE',
            415: 'UNSUPPORTED_MEDIA_TYPE', 431: 'HEADERS_TOO_LARGE'}


def operations():
    """(METHOD, path template, operation) of every route."""
    return [(m.upper(), path, op) for path, item in DOCUMENT['paths'].items() for m, op in item.items() if m in METHODS]


def pattern(template):
    return re.compile(re.sub(r'\\?\{[a-z_]+\\?\}', '([^/]+)', re.escape(template)))


# static templates first, as the server does it
ROUTES = [(m, pattern(path), path, op) for m, path, op in sorted(operations(), key=lambda r: r[1].count('{'))]


def route_of(method, path):
    return next(((template, op) for m, p, template, op in ROUTES if m == method and p.fullmatch(path)), None)


def problems(value, schema, at='', mirror=False):
    """What in the value does not fit; a list of sentences."""
    if '$ref' in schema:
        schema = SCHEMAS[schema['$ref'].rsplit('/', 1)[1]]
    for part in ('anyOf', 'oneOf'):
        if part in schema:
            found = [problems(value, s, at) for s in schema[part]]
            return [] if any(not f for f in found) else found[0]
    types = schema.get('type', [])
    types = types if isinstance(types, list) else [types]
    if value is None:
        return [] if not types or 'null' in types else [f'{at} is null']
    if 'enum' in schema:
        return [] if value in schema['enum'] else [f'{at}: {value!r} is none of {schema["enum"]}']
    real = {dict: 'object', list: 'array', str: 'string', bool: 'boolean', int: 'integer', float: 'number'}[type(value)]
    if types and real not in types:
        return [f'{at} is {real}, not {types}']
    out = []
    if real == 'object' and 'properties' in schema:
        names = set(schema['properties']) | ({'data'} if mirror else set())
        out += [f'{at}.{name} is not declared' for name in value if name not in names]
        out += [f'{at}.{name} is missing' for name in schema.get('required', []) if name not in value]
        for name, sub in schema['properties'].items():
            if name in value:
                out += problems(value[name], sub, f'{at}.{name}')
    elif real == 'array' and 'items' in schema:
        for i, item in enumerate(value):
            out += problems(item, schema['items'], f'{at}[{i}]')
    elif real == 'string':
        if 'x-id' in schema:
            kinds = '|'.join(PREFIX[k] for k in schema['x-id'])
            if not re.fullmatch(rf'({kinds})_[0-9A-HJKMNP-TV-Z]{{13}}', value):
                out.append(f'{at}: {value!r} is not an id of {kinds}')
        elif schema.get('format') == 'date-time' and not TIME.fullmatch(value):
            out.append(f'{at}: {value!r} is not a time in UTC')
        elif schema.get('x-sha256') and not re.fullmatch('[0-9a-f]{64}', value):
            out.append(f'{at}: {value!r} is not a SHA-256')
    return out


def fits(value, schema):
    found = problems(value, {'$ref': f'#/components/schemas/{schema}'}, schema)
    assert not found, found[:10]
    return value


def check_error(response, code=None):
    """The one shape of D26; returns the body."""
    body = response.json()
    assert set(body) == {'detail', 'error', 'meta'}, body
    assert set(body['error']) <= {'code', 'message', 'retry_after', 'details'} and body['error']['code'], body
    assert isinstance(body['error']['message'], str) and body['error']['message'], body
    assert body['meta'] == {'request_id': response.headers['x-request-id']}, body
    if isinstance(body['detail'], list):
        assert response.status_code == 422 and body['detail'], body
        found = problems(body, {'$ref': '#/components/schemas/ValidationError'}, 'error')
        assert not found, found
    else:
        assert isinstance(body['detail'], str) and body['detail'] == body['error']['message'], body
    assert response.headers['content-type'].startswith('application/json'), response.headers
    assert body['error'].get('retry_after') == (int(response.headers['retry-after']) if response.status_code in (429, 503) else None), body
    if code:
        assert body['error']['code'] == code, body
    return body


def check(response: httpx.Response):
    """A response hook for every client of the suite."""
    response.read()
    method, path = response.request.method, response.request.url.raw_path.decode().split('?')[0]
    assert response.headers.get('x-request-id'), f'{method} {path}: no X-Request-Id'
    assert response.status_code < 500 or response.status_code in (503, 507), f'{method} {path}: {response.status_code} {response.text[:2000]}'
    route = route_of(method, path)
    status = response.status_code
    if status in (204, 304):
        assert not response.content, f'{method} {path}: {status} with a body'
    if method == 'HEAD':
        assert not response.content
        return
    if status >= 400:
        body = check_error(response)
        if route and ANYWHERE.get(status) != body['error']['code']:
            declared = route[1]['responses'].get(str(status))
            assert declared, f'{method} {path}: {status} is not declared: {body}'
            assert f'`{body["error"]["code"]}`' in declared['description'] or status == 503, \
                f'{method} {path}: {body["error"]["code"]} is not declared for {status}: {body}'
        return
    if not route:
        return
    declared = route[1]['responses'].get(str(status))
    assert declared, f'{method} {path}: {status} is not declared'
    media = declared.get('content', {}).get('application/json', {})
    if media.get('schema'):
        assert response.headers['content-type'] == 'application/json', response.headers
        found = problems(response.json(), media['schema'], route[1]['operationId'], mirror=route[1].get('x-data-mirror', False))
        assert not found, f'{method} {path}: {found[:10]}'
