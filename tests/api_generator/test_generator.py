"""The API generator: what it refuses, that it is deterministic, and that the committed documents are fresh."""
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GENERATE = os.path.join(ROOT, 'api', 'generate.py')
YAMLS = sorted(os.path.join(ROOT, 'api', n) for n in os.listdir(os.path.join(ROOT, 'api')) if n.endswith('.yaml'))

BASE = {
    'openapi': '3.1.0',
    'info': {'title': 't', 'version': '1', 'description': 'd'},
    'tags': [{'name': 'x', 'description': 'd'}],
    'components': {'schemas': {
        'Colour': {'type': 'string', 'enum': ['red', 'blue'], 'description': 'd'},
        'Thing': {'type': 'object', 'description': 'd', 'required': ['name'], 'properties': {
            'name': {'type': 'string', 'description': 'd', 'x-aliases': ['title']},
            'colour': {'$ref': '#/components/schemas/Colour'},
            'count': {'type': 'integer', 'description': 'd'}}}}},
}


def run(*args):
    return subprocess.run([sys.executable, GENERATE, *args], capture_output=True, text=True, timeout=60)


def operation(**more):
    o = {'operationId': 'thing_get', 'tags': ['x'], 'summary': 's', 'description': 'd', 'x-permission': 'public', 'x-cost': 0,
         'responses': {200: {'description': 'd', 'content': {
             'application/json': {'schema': {'$ref': '#/components/schemas/Thing'}}}}}}
    o.update(more)
    return {k: v for k, v in o.items() if v is not None}


def generate(tmp_path, paths, schemas=None):
    doc = json.loads(json.dumps(BASE))
    doc['components']['schemas'].update(schemas or {})
    base, feature = tmp_path / 'base.yaml', tmp_path / 'a_feature.yaml'
    base.write_text(yaml.safe_dump(doc))
    feature.write_text(yaml.safe_dump({'paths': paths}))
    return run('--out', str(tmp_path / 'out'), str(feature), str(base))


def out(tmp_path, name):
    return (tmp_path / 'out' / name).read_text()


def test_committed_documents_are_fresh():
    result = run('--docs', os.path.join(ROOT, 'docs'), '--check')
    assert result.returncode == 0, result.stderr


def test_stale_documents_are_noticed(tmp_path):
    docs = tmp_path / 'docs'
    assert run('--docs', str(docs)).returncode == 0
    assert run('--docs', str(docs), '--check').returncode == 0
    page = docs / 'openapi.json'
    page.write_text(page.read_text().replace('"3.1.0"', '"3.0.0"'))
    result = run('--docs', str(docs), '--check')
    assert result.returncode != 0 and 'openapi.json' in result.stderr
    page.unlink()
    assert run('--docs', str(docs), '--check').returncode != 0
    assert not page.exists()


def test_output_is_the_same_whatever_the_order(tmp_path):
    assert run('--out', str(tmp_path / 'a'), *YAMLS).returncode == 0
    assert run('--out', str(tmp_path / 'b'), *reversed(YAMLS)).returncode == 0
    for name in ('api.h', 'api.c', 'routes.c', 'openapi.json'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


@pytest.mark.parametrize('compiler', ['gcc', 'clang'])
def test_the_real_api_compiles_without_a_warning(tmp_path, compiler):
    if not shutil.which(compiler):
        pytest.skip(f'no {compiler}')
    assert run('--out', str(tmp_path)).returncode == 0
    for name in ('api.c', 'routes.c'):
        result = subprocess.run([compiler, '-std=gnu17', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-Wformat=2',
                                 '-Wmissing-prototypes', '-Wstrict-prototypes', '-fsyntax-only', f'-I{ROOT}/src', f'-I{tmp_path}',
                                 str(tmp_path / name)], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr


def test_the_small_api(tmp_path):
    assert generate(tmp_path, {'/things': {'get': operation()}}).returncode == 0
    assert 'int thing_get(struct ctx *ctx, const struct ThingGetIn *in, struct Thing *out);' in out(tmp_path, 'api.h')
    assert 'COLOUR_RED = 1,' in out(tmp_path, 'api.h')
    assert 'bool has_count;' in out(tmp_path, 'api.h')
    assert '.template = "/things"' in out(tmp_path, 'routes.c')
    assert 'memcmp(k, "title", 5)' in out(tmp_path, 'api.c')
    doc = json.loads(out(tmp_path, 'openapi.json'))
    count = doc['components']['schemas']['Thing']['properties']['count']
    assert count['type'] == ['integer', 'null']


def refused(tmp_path, paths, schemas=None):
    result = generate(tmp_path, paths, schemas)
    assert result.returncode != 0
    assert not (tmp_path / 'out').exists()
    return result.stderr


@pytest.mark.parametrize('permission', [None, '', 'anyone', 'READ', 'READ nothing_id', 'FLY tenant'])
def test_a_route_without_a_permission_is_refused(tmp_path, permission):
    assert 'x-permission' in refused(tmp_path, {'/things': {'get': operation(**{'x-permission': permission})}})


@pytest.mark.parametrize('key', ['summary', 'description', 'tags', 'operationId'])
def test_an_undocumented_operation_is_refused(tmp_path, key):
    assert key in refused(tmp_path, {'/things': {'get': operation(**{key: None})}})


def test_an_undocumented_field_or_parameter_is_refused(tmp_path):
    bare = {'Bare': {'type': 'object', 'description': 'd', 'properties': {'x': {'type': 'string'}}}}
    assert 'Bare.x' in refused(tmp_path, {'/things': {'get': operation()}}, bare)
    params = [{'name': 'q', 'in': 'query', 'schema': {'type': 'string'}}]
    assert 'parameter q' in refused(tmp_path, {'/things': {'get': operation(parameters=params)}})


def test_parameters_must_fit_the_template(tmp_path):
    assert 'template' in refused(tmp_path, {'/things/{id}': {'get': operation()}})


def test_unknown_error_codes_are_refused(tmp_path):
    assert 'NO_SUCH' in refused(tmp_path, {'/things': {'get': operation(**{'x-errors': ['NO_SUCH']})}})


def test_an_operation_name_is_used_once(tmp_path):
    assert 'thing_get' in refused(tmp_path, {'/a': {'get': operation()}, '/b': {'get': operation()}})


def test_unknown_references_and_kinds_are_refused(tmp_path):
    ok = {'/things': {'get': operation()}}
    bad = {'Bad': {'type': 'object', 'description': 'd', 'properties': {'x': {'$ref': '#/components/schemas/No'}}}}
    bad['Bad']['properties']['x']['description'] = 'd'
    assert 'No' in refused(tmp_path, ok, bad)
    bad['Bad']['properties']['x'] = {'type': 'string', 'x-id': ['cat'], 'description': 'd'}
    assert 'cat' in refused(tmp_path, ok, bad)
    bad['Bad']['properties']['x'] = {'type': 'number', 'description': 'd'}
    assert 'Bad.x' in refused(tmp_path, ok, bad)


def test_a_struct_that_contains_itself_is_refused(tmp_path):
    loop = {'Loop': {'type': 'object', 'description': 'd', 'required': ['x'], 'properties': {
        'x': {'$ref': '#/components/schemas/Loop', 'description': 'd'}}}}
    assert 'contains itself' in refused(tmp_path, {'/things': {'get': operation()}}, loop)


@pytest.mark.parametrize('what, fits', [
    ({'x-cost': 1}, False), ({'x-cost': None}, False),  # public
    ({'x-permission': 'authenticated', 'x-cost': 1}, True),
    ({'x-permission': 'authenticated', 'x-cost': None}, False),
    ({'x-permission': 'authenticated', 'x-cost': 0, 'x-cost-why': 'never'}, False),
    ({'x-permission': 'authenticated', 'x-cost': 2}, False),
    ({'x-permission': 'authenticated', 'x-cost': 2, 'x-cost-why': 'it counts'}, True),
    ({'x-permission': 'authenticated', 'x-cost': 1, 'x-cost-why': 'the usual cost needs no reason'}, False),
    ({'x-permission': 'authenticated', 'x-cost': 1, 'x-lane': 'bulk'}, False),
    ({'x-permission': 'authenticated', 'x-cost': 5, 'x-lane': 'bulk'}, True),
])
def test_costs_are_those_of_their_kind(tmp_path, what, fits):
    paths = {'/things': {'get': operation(**what)}}
    if fits:
        assert generate(tmp_path, paths).returncode == 0
    else:
        assert 'cost' in refused(tmp_path, paths)


def test_a_list_and_a_write_cost_two(tmp_path):
    many = {'Many': {'type': 'object', 'description': 'd', 'properties': {
        'things': {'type': 'array', 'description': 'd', 'items': {'$ref': '#/components/schemas/Thing'}}}}}
    answer = {200: {'description': 'd', 'content': {'application/json': {'schema': {'$ref': '#/components/schemas/Many'}}}}}
    for method, body in (('get', {'responses': answer}), ('post', {})):
        for cost in (1, 2):
            paths = {'/things': {method: operation(**{'x-permission': 'authenticated', 'x-cost': cost}, **body)}}
            assert (generate(tmp_path, paths, many).returncode == 0) == (cost == 2), (method, cost)


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / 'x.yaml'
    path.write_text('openapi: 3.1.0\npaths:\n  /a: {}\n  /a: {}\n')
    result = run('--out', str(tmp_path / 'out'), str(path))
    assert result.returncode != 0 and '/a twice' in result.stderr


def test_every_reference_in_the_document_resolves():
    with open(os.path.join(ROOT, 'docs', 'openapi.json'), encoding='utf-8') as f:
        doc = json.load(f)

    def walk(node):
        if isinstance(node, dict):
            if '$ref' in node:
                target = doc
                for part in node['$ref'].removeprefix('#/').split('/'):
                    target = target[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(doc)


def test_every_operation_says_what_it_needs_costs_and_fails_with():
    with open(os.path.join(ROOT, 'docs', 'openapi.json'), encoding='utf-8') as f:
        doc = json.load(f)
    for url, item in doc['paths'].items():
        for method, op in item.items():
            assert op['x-permission'] and op['description'], (method, url)
            assert any(s >= '400' for s in op['responses']), (method, url)
            if op['x-permission'] != 'public':
                assert '401' in op['responses'], (method, url)
