"""The merged document and its C view: schemas, fields, operations. Every rule that a yaml file can break is checked here."""
import os
import re
import sys

import yaml

LOADER = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
ID_KINDS = ('tenant partner user group share file folder version change conflict device upload link ace quota hold '
            'connector event').split()
ID_PREFIX = dict(zip(ID_KINDS, 'tnt prt usr grp shr fil fld ver chg cfl dvc ups lnk ace qta hld cnn evt'.split()))
RIGHTS = {'READ', 'WRITE', 'DELETE', 'CREATE', 'SHARE', 'MANAGE_PERMISSIONS', 'OWNER', 'SELF', 'ADMIN'}
METHODS = ('get', 'head', 'post', 'put', 'patch', 'delete')
RESERVED = set('auto break case char const continue default do double else enum extern float for goto if inline int long '
               'register restrict return short signed sizeof static struct switch typedef union unsigned void volatile '
               'while bool true false'.split())
INT_MIN, INT_MAX = -2**63 + 1, 2**63 - 1
COSTS = {'public': 0, 'metadata': 1, 'list': 2, 'write': 2, 'content': 5}  # rate units; docs/integrate/limits.md says them too
STRING_MAX = 8192  # characters of a string that names no bound of its own


class Fault(Exception):
    """A yaml file breaks a rule; the message names the place."""


def camel(snake):
    return ''.join(w[:1].upper() + w[1:] for w in snake.split('_'))


def upper_snake(name):
    return re.sub(r'[^A-Z0-9]+', '_', re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).upper())


def ref_name(ref):
    return ref.rsplit('/', 1)[1]


def split_null(schema):
    """The schema without null, and whether null was allowed."""
    for key in ('anyOf', 'oneOf'):
        if key in schema:
            rest = [s for s in schema[key] if s.get('type') != 'null']
            if len(rest) != 1 or len(rest) == len(schema[key]):
                raise Fault(f'{key} is for one schema and null only')
            return {**{k: v for k, v in schema.items() if k != key}, **rest[0]}, True
    kind = schema.get('type')
    if isinstance(kind, list):
        rest = [t for t in kind if t != 'null']
        if len(rest) != 1:
            raise Fault(f'several types: {kind}')
        return {**schema, 'type': rest[0]}, len(rest) < len(kind)
    return schema, False


class Field:
    """One property, parameter or array item, and how C holds it."""

    def __init__(self, doc, where, name, schema, required):
        self.doc, self.where, self.name = doc, where, name
        schema, self.nullable = split_null(schema)
        self.schema, self.required = schema, required
        self.default = schema.get('default')
        self.aliases = schema.get('x-aliases', [])
        self.must = required and not self.nullable
        self.item = None
        self.present = bool(schema.get('x-present'))
        self.kind = self._kind(schema)
        if name in RESERVED or (name and not re.fullmatch(r'[a-z][a-z0-9_]*', name)):
            raise Fault(f'{where}: {name} cannot be a field of a C struct')
        if self.default is not None and self.kind not in ('i64', 'bool', 'enum'):
            raise Fault(f'{where}.{name}: a default is for integers, booleans and enums')
        self.has = (self.kind in ('i64', 'bool', 'time', 'sha256', 'array') and not self.must and self.default is None)

    def _kind(self, s):
        at = f'{self.where}.{self.name}'
        if '$ref' in s:
            target = doc_schema(self.doc, s['$ref'], at)
            self.ref = ref_name(s['$ref'])
            return 'enum' if 'enum' in target else 'ref'
        kind = s.get('type')
        if kind == 'string':
            if 'enum' in s:
                raise Fault(f'{at}: give the enumeration a schema of its own')
            if 'x-id' in s:
                if not s['x-id'] or any(k not in ID_KINDS for k in s['x-id']):
                    raise Fault(f'{at}: x-id names an unknown kind: {s["x-id"]}')
                return 'id' if len(s['x-id']) == 1 else 'rid'
            if s.get('format') == 'date-time':
                return 'time'
            return 'sha256' if s.get('x-sha256') else 'str'
        if kind == 'integer':
            return 'i64'
        if kind == 'boolean':
            return 'bool'
        if kind == 'array':
            self.item = Field(self.doc, at, '', s['items'], True)
            return 'array'
        if kind == 'object' and s.get('x-raw-json'):
            return 'raw'
        raise Fault(f'{at}: no C form for {s}')

    @property
    def ctype(self):
        return {'str': 'struct str', 'i64': 'int64_t', 'bool': 'bool', 'time': 'int64_t', 'sha256': 'struct sha256',
                'id': 'int64_t', 'rid': 'struct rid', 'raw': 'struct str', 'enum': f'enum {getattr(self, "ref", "")}',
                'ref': f'struct {getattr(self, "ref", "")}', 'array': None}[self.kind]

    def declare(self):
        """Lines of the struct."""
        note = self.note()
        if self.kind == 'array':
            lines = [f'{self.item.ctype} *{self.name};{note}', f'size_t n_{self.name};']
        elif self.kind == 'ref' and not self.must:
            lines = [f'{self.ctype} *{self.name};{note}']
        else:
            lines = [f'{self.ctype} {self.name};{note}']
        if self.present:
            lines.append(f'bool given_{self.name}; /* sent, be it null */')
        return lines + ([f'bool has_{self.name};'] if self.has else [])

    def note(self):
        words = []
        s = self.item.schema if self.item else self.schema
        if 'x-id' in s:
            words.append('|'.join(ID_PREFIX[k] + '_' for k in s['x-id']))
        if self.kind == 'time':
            words.append('us since 1970')
        if self.kind == 'raw':
            words.append('raw JSON')
        if not self.must and self.kind in ('str', 'raw', 'id', 'rid', 'enum', 'ref'):
            words.append('or null')
        if self.default is not None:
            words.append(f'default {str(self.default).lower()}')
        return f' /* {" ".join(words)} */' if words else ''


def doc_schema(doc, ref, at):
    name = ref_name(ref)
    found = doc['components']['schemas'].get(name)
    if found is None:
        raise Fault(f'{at}: no schema {name}')
    return found


class Schema:
    def __init__(self, doc, name, raw):
        self.name, self.raw = name, raw
        self.enum = raw.get('enum')
        self.docs_only = bool(raw.get('x-docs-only'))
        self.form = bool(raw.get('x-form'))
        self.fields = []
        if not raw.get('description'):
            raise Fault(f'{name}: no description')
        if self.enum or self.docs_only:
            return
        required = set(raw.get('required', []))
        properties = raw.get('properties', {})
        if required - set(properties):
            raise Fault(f'{name}: required names an unknown property: {sorted(required - set(properties))}')
        for key, schema in properties.items():
            if not describe(doc, schema):
                raise Fault(f'{name}.{key}: no description')
            self.fields.append(Field(doc, name, key, schema, bool(raw.get('x-answer')) or key in required))
        if len(self.fields) > 64:
            raise Fault(f'{name}: more than 64 fields')
        self.strict = raw.get('additionalProperties') is False

    def needs(self):
        """Names of structs that must be complete before this one."""
        return [f.ref for f in self.fields if f.kind == 'ref' and f.must]


def describe(doc, schema):
    if schema.get('description'):
        return schema['description']
    schema, _ = split_null(schema)
    if '$ref' in schema:
        return doc_schema(doc, schema['$ref'], '').get('description')
    return schema.get('description')


class Operation:
    def __init__(self, doc, errors, path, method, raw, shared):
        self.path, self.method, self.raw = path, method, raw
        self.name = raw.get('operationId', '')
        at = f'{method.upper()} {path}'
        if not re.fullmatch(r'[a-z][a-z0-9_]*', self.name):
            raise Fault(f'{at}: operationId must be snake_case')
        for key in ('summary', 'description', 'tags'):
            if not raw.get(key):
                raise Fault(f'{at}: no {key}')
        self.kind = raw.get('x-kind', 'typed')
        self.lane = raw.get('x-lane', 'meta')
        if self.kind not in ('typed', 'raw', 'stream', 'socket') or self.lane not in ('meta', 'bulk'):
            raise Fault(f'{at}: unknown x-kind or x-lane')
        self.handler = raw.get('x-handler', self.name)
        self.struct = camel(self.handler)
        self.params = [resolve_param(doc, p) for p in shared + raw.get('parameters', [])]
        self._params(doc, at)
        self._body(doc, at)
        self._answer(at)
        self._permission(at)
        self._cost(doc, at)
        self._errors(errors, at)
        self.mirror = bool(raw.get('x-data-mirror'))
        if self.mirror and (self.kind != 'typed' or not self.answer or self.answer_is_list):
            raise Fault(f'{at}: x-data-mirror is for typed operations that answer with an object')
        self.body_max = raw.get('x-body-max', 0 if self.kind in ('stream', 'socket') else 'LIMIT_JSON_BODY_SMALL')

    def _params(self, doc, at):
        self.slots = re.findall(r'{([a-z_]+)}', self.path)
        if len(self.slots) > 4:
            raise Fault(f'{at}: more than 4 path parameters')
        self.fields, seen = [], set()
        for p in self.params:
            if not p.get('description'):
                raise Fault(f'{at}: parameter {p["name"]} has no description')
            if p['in'] == 'header':
                continue
            if p['name'] in seen or p['name'] == 'body':
                raise Fault(f'{at}: parameter {p["name"]} twice')
            seen.add(p['name'])
            f = Field(doc, at, p.get('x-field', p['name']), p['schema'], p['in'] == 'path' or p.get('required', False))
            f.param = p['name']  # as it is sent; x-field is for names that C reserves
            if f.kind not in ('str', 'i64', 'bool', 'time', 'id', 'rid', 'enum'):
                raise Fault(f'{at}: parameter {f.name} cannot be {f.kind}')
            f.source = p['in']
            self.fields.append(f)
        if sorted(self.slots) != sorted(f.name for f in self.fields if f.source == 'path'):
            raise Fault(f'{at}: path parameters differ from the template')

    def _body(self, doc, at):
        self.body, self.body_required, self.form = None, False, None
        body = self.raw.get('requestBody')
        if not body:
            return
        self.body_required = body.get('required', False)
        for media, content in body['content'].items():
            schema = content.get('schema', {})
            if '$ref' not in schema:
                continue
            doc_schema(doc, schema['$ref'], at)
            if media == 'application/json':
                self.body = ref_name(schema['$ref'])
            else:
                self.form = ref_name(schema['$ref'])
        if self.kind == 'typed' and not self.body:
            raise Fault(f'{at}: a typed body is a schema under application/json')

    def _answer(self, at):
        good = [s for s in self.raw.get('responses', {}) if str(s)[0] in '123']
        if not good:
            raise Fault(f'{at}: no success answer')
        self.status = int(str(good[0]))
        self.answer, self.answer_is_list = None, False
        schema = self.raw['responses'][good[0]].get('content', {}).get('application/json', {}).get('schema')
        if schema and '$ref' in schema:
            self.answer = ref_name(schema['$ref'])
        elif schema and schema.get('type') == 'array' and '$ref' in schema['items']:
            self.answer, self.answer_is_list = ref_name(schema['items']['$ref']), True
        elif schema:
            raise Fault(f'{at}: the answer must be a schema or an array of one')
        if self.kind == 'typed' and len(good) != 1:
            raise Fault(f'{at}: one success status a route')

    @property
    def out(self):
        return self.answer + 'List' if self.answer_is_list else self.answer

    def _permission(self, at):
        p = self.permission = self.raw.get('x-permission')
        if not p:
            raise Fault(f'{at}: no x-permission; a route without one does not build')
        if p in ('public', 'authenticated'):
            return
        for part in p.split(', '):
            words = part.split(' ')
            if len(words) != 2 or words[0] not in RIGHTS:
                raise Fault(f'{at}: x-permission is public, authenticated or "RIGHT parameter", not "{part}"')
            for target in words[1].split('|'):
                if not self._target(target):
                    raise Fault(f'{at}: x-permission names {target}, which is no parameter')

    def _cost(self, doc, at):
        """Rate units: what COSTS says of its kind, or, where `x-cost-why` gives the reason, something else."""
        self.cost = self.raw.get('x-cost')
        usual = COSTS[self._kind_of_cost(doc)]
        if not isinstance(self.cost, int) or self.cost < 0 or (self.cost == 0) != (self.permission == 'public'):
            raise Fault(f'{at}: x-cost is missing; public operations cost 0, others at least 1')
        if (self.cost != usual) != bool(self.raw.get('x-cost-why')):
            raise Fault(f'{at}: it should cost {usual}; another x-cost needs an x-cost-why, and only that')

    def _kind_of_cost(self, doc):
        if self.permission == 'public':
            return 'public'
        if self.lane == 'bulk' and self.method != 'head':
            return 'content'
        if self.method not in ('get', 'head'):
            return 'write'
        fields = doc['components']['schemas'][self.answer].get('properties', {}) if self.answer else {}
        many = any(f.get('type') == 'array' and '$ref' in f['items'] for f in fields.values())
        return 'list' if self.answer_is_list or many else 'metadata'

    def _target(self, target):
        if target == 'tenant':
            return True
        if target.startswith('body.'):
            return bool(self.body or self.form)
        return any(f.name == target for f in self.fields)

    def _errors(self, errors, at):
        named = list(self.raw.get('x-errors', []))
        if self.permission != 'public':
            named += ['AUTH_TOKEN_INVALID', 'AUTHZ_USER_SUSPENDED']
        if self.permission not in ('public', 'authenticated'):
            named += ['NOT_FOUND', 'PERMISSION_DENIED']
        if any(f.source == 'query' or (f.source == 'path' and f.kind not in ('id', 'rid')) for f in self.fields) or self.body or self.form:
            named += ['VALIDATION_ERROR']
        if self.method not in ('get', 'head'):
            named += ['STORAGE_FULL', 'READ_ONLY']
        if self.cost:
            named += ['RATE_LIMITED']
        named += ['INTERNAL', 'OVERLOADED']
        unknown = [c for c in named if c not in errors]
        if unknown:
            raise Fault(f'{at}: x-errors names unknown codes: {unknown}')
        self.errors = sorted(set(named), key=lambda c: (errors[c][0], c))


def resolve_param(doc, p):
    if '$ref' in p:
        name = ref_name(p['$ref'])
        found = doc['components'].get('parameters', {}).get(name)
        if found is None:
            raise Fault(f'no parameter {name}')
        return found
    return p


def read_errors(path):
    """The rows of ERR_TABLE in base/err.h: code -> (status, sentence, symbol)."""
    with open(path, encoding='utf-8') as f:
        text = f.read()
    rows = re.findall(r'X\((E_\w+),\s*(\d+),\s*"(\w+)",\s*"([^"]*)"\)', text)
    return {code: (int(status), sentence, symbol) for symbol, status, code, sentence in rows if status != '599'}


class UniqueLoader(LOADER):
    """yaml silently keeps the last of two equal keys; a path declared twice must not vanish."""


def _mapping(loader, node):
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise Fault(f'{key.start_mark.name}:{key.start_mark.line + 1}: {key.value} twice')
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


UniqueLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load(paths):
    """Merges the files into one document; the one with the openapi key comes first."""
    docs = []
    for path in sorted(paths, key=os.path.basename):
        with open(path, encoding='utf-8') as f:
            docs.append((path, yaml.load(f, UniqueLoader)))
    roots = [d for d in docs if 'openapi' in d[1]]
    if len(roots) != 1:
        raise Fault('exactly one file holds the openapi key')
    root = roots[0][1]
    root.setdefault('paths', {})
    components = root.setdefault('components', {})
    for path, part in docs:
        if part is root:
            continue
        for url, item in part.get('paths', {}).items():
            if url in root['paths']:
                raise Fault(f'{path}: {url} is declared twice')
            root['paths'][url] = item
        for group, members in part.get('components', {}).items():
            into = components.setdefault(group, {})
            for name, value in members.items():
                if name in into:
                    raise Fault(f'{path}: {group} {name} is declared twice')
                into[name] = value
    return root


class Api:
    def __init__(self, paths, err_h):
        self.errors = read_errors(err_h)
        self.doc = load(paths)
        self.schemas = {n: Schema(self.doc, n, s) for n, s in self.doc['components'].get('schemas', {}).items()}
        self.operations = []
        for url, item in self.doc['paths'].items():
            for method in item:
                if method not in METHODS and method != 'parameters':
                    raise Fault(f'{url}: unknown key {method}')
            for method in METHODS:
                if method in item:
                    self.operations.append(Operation(self.doc, self.errors, url, method, item[method],
                                                     item.get('parameters', [])))
        names = [o.name for o in self.operations]
        double = {n for n in names if names.count(n) > 1}
        if double:
            raise Fault(f'operationId used twice: {sorted(double)}')
        for o in self.operations:
            if o.answer_is_list and o.out in self.schemas:
                raise Fault(f'{o.name}: the schema {o.out} collides with the list of {o.answer}')
            if o.struct + 'In' in self.schemas:
                raise Fault(f'{o.name}: the schema {o.struct}In collides with its arguments')

        by_name = {o.name: o for o in self.operations}
        for o in self.operations:
            main = by_name.get(o.handler)
            if main is None or (main.kind, main.answer, main.body, [f.name for f in main.fields]) != (
                    o.kind, o.answer, o.body, [f.name for f in o.fields]):
                raise Fault(f'{o.name}: x-handler names no operation with the same arguments and answer')

    def handlers(self):
        """Operations with a function of their own."""
        return [o for o in self.operations if o.handler == o.name]

    def ordered(self):
        """Structs so that what is embedded comes first."""
        done, order = set(), []

        def visit(name, trail):
            if name in trail:
                raise Fault(f'{name} contains itself')
            if name in done:
                return
            for need in self.schemas[name].needs():
                visit(need, trail + [name])
            done.add(name)
            order.append(self.schemas[name])

        for name, schema in self.schemas.items():
            if not schema.enum and not schema.docs_only:
                visit(name, [])
        return order

    def enums(self):
        return [s for s in self.schemas.values() if s.enum]

    def lists(self):
        return sorted({o.answer for o in self.operations if o.answer_is_list and o.kind == 'typed'})


if __name__ == '__main__':
    sys.exit('this is the model; run generate.py')
