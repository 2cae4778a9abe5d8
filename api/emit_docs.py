"""Documents from the model: openapi.json (OpenAPI 3.1) and the reference page."""
import copy
import json

from model import STRING_MAX, ref_name, split_null


def nullable(schema):
    if '$ref' in schema:
        note = {'description': schema['description']} if 'description' in schema else {}
        return {**note, 'anyOf': [{'$ref': schema['$ref']}, {'type': 'null'}]}
    if isinstance(schema.get('type'), str):
        return {**schema, 'type': [schema['type'], 'null']}
    return schema


def spelled_out(schema):
    """A schema with what the generator implies: all fields of an answer are required, optional input may be null."""
    s = copy.deepcopy(schema)
    properties = s.get('properties', {})
    if s.get('x-answer'):
        s['required'] = list(properties)
    for key, value in properties.items():
        if key not in s.get('required', []) and not s.get('x-docs-only'):
            value = properties[key] = nullable(value)
        plain, _ = split_null(value)
        if plain.get('type') == 'string' and not s.get('x-answer') and not s.get('x-docs-only') \
                and not any(k in plain for k in ('x-id', 'format', 'x-sha256', 'enum', 'maxLength')):
            value['maxLength'] = STRING_MAX
    return s


def error_answers(api, op):
    by_status = {}
    for code in op.errors:
        by_status.setdefault(api.errors[code][0], []).append(code)
    answers = {}
    for status in sorted(by_status):
        text = ' '.join(f'`{c}`: {api.errors[c][1]}' for c in by_status[status])
        name = 'ValidationError' if 'VALIDATION_ERROR' in by_status[status] else 'Error'
        answers[str(status)] = {'description': text, 'content': {
            'application/json': {'schema': {'$ref': f'#/components/schemas/{name}'}}}}
    return answers


def openapi_json(api):
    doc = {k: v for k, v in api.doc.items() if k not in ('paths', 'components')}
    paths = {}
    for op in api.operations:
        raw = {k: v for k, v in op.raw.items() if k not in ('responses', 'x-errors', 'parameters')}
        if op.params:
            raw['parameters'] = copy.deepcopy(op.params)
        if op.permission == 'public':
            raw['security'] = []
        raw['responses'] = {str(k): v for k, v in op.raw['responses'].items()}
        raw['responses'].update(error_answers(api, op))
        paths.setdefault(op.path, {})[op.method] = raw
    doc['paths'] = paths
    components = {k: v for k, v in api.doc['components'].items() if k not in ('schemas', 'parameters')}
    components['schemas'] = {n: spelled_out(s.raw) for n, s in api.schemas.items()}
    doc['components'] = components
    return json.dumps(doc, indent=1, ensure_ascii=False) + '\n'


# ---------------------------------------------------------------- the reference page

def type_words(schema):
    several = [s for s in schema.get('anyOf', []) if s.get('type') != 'null']
    if len(several) > 1:
        return ' or '.join(type_words(s) for s in several)
    plain, null = split_null(schema)
    words = f'`{ref_name(plain["$ref"])}`' if '$ref' in plain else plain.get('type', 'any')
    if 'x-id' in plain:
        words = 'id of ' + ' or '.join(plain['x-id'])
    elif plain.get('x-sha256'):
        words = 'SHA-256, hex'
    elif plain.get('format') in ('date-time', 'binary'):
        words = {'date-time': 'time', 'binary': 'bytes'}[plain['format']]
    elif plain.get('type') == 'array':
        words = 'list of ' + type_words(plain['items'])
    notes = []
    if 'minimum' in plain or 'maximum' in plain:
        notes.append(f'{plain.get("minimum", "")}–{plain.get("maximum", "")}')
    if 'minLength' in plain or 'maxLength' in plain:
        notes.append(f'{plain.get("minLength", 0)}–{plain.get("maxLength", STRING_MAX)} characters')
    if 'x-max-bytes' in plain:
        notes.append(f'at most {plain["x-max-bytes"]} bytes')
    if 'maxItems' in plain:
        notes.append(f'at most {plain["maxItems"]}')
    if 'default' in plain:
        notes.append(f'default {json.dumps(plain["default"])}')
    if null:
        notes.append('or null')
    return words + (f' ({", ".join(notes)})' if notes else '')


def cell(text):
    return ' '.join((text or '').split()).replace('|', '\\|')


def described(api, schema):
    if schema.get('description'):
        return schema['description']
    plain, _ = split_null(schema)
    return api.doc['components']['schemas'][ref_name(plain['$ref'])]['description'] if '$ref' in plain \
        else plain.get('description', '')


def field_rows(api, schema):
    o = ['| Field | Type | Meaning |\n|---|---|---|\n']
    required = schema.get('required', [])
    for key, value in schema.get('properties', {}).items():
        star = '' if schema.get('x-answer') or key not in required else ' \\*'
        extra = f' Also accepted: {", ".join("`" + a + "`" for a in value["x-aliases"])}.' if 'x-aliases' in value else ''
        o.append(f'| `{key}`{star} | {cell(type_words(value))} | {cell(described(api, value))}{extra} |\n')
    return ''.join(o)


def link(name):
    return f'[{name}](#{name.lower()})'


def cost(op):
    why = op.raw.get('x-cost-why')
    return f'Cost: {op.cost}{f" ({why})" if why else ""}.' if op.cost else 'Not limited.'


def operation(api, op):
    o = [f'### {op.method.upper()} `{op.path}`\n\n{" ".join(op.raw["description"].split())}\n\n'
         f'Permission: `{op.permission}`. {cost(op)}\n\n']
    if op.params:
        o.append('| Parameter | In | Type | Meaning |\n|---|---|---|---|\n')
        for p in op.params:
            star = ' \\*' if p['in'] == 'path' or p.get('required') else ''
            o.append(f'| `{p["name"]}`{star} | {p["in"]} | {cell(type_words(p["schema"]))} | {cell(p["description"])} |\n')
        o.append('\n')
    if op.body:
        o.append(f'Body: {link(op.body)}{"" if op.body_required else " (optional)"}.\n\n')
    if op.form:
        o.append(f'Form: {link(op.form)}.\n\n')
    for status, answer in op.raw['responses'].items():
        what = ''
        if str(status) == str(op.status) and op.answer:
            what = f' {"List of " if op.answer_is_list else ""}{link(op.answer)}.'
        o.append(f'- **{status}** {" ".join(answer["description"].split())}{what}\n')
    by_status = {}
    for code in op.errors:
        by_status.setdefault(api.errors[code][0], []).append(f'`{code}`')
    o += [f'- {status} {", ".join(codes)}\n' for status, codes in sorted(by_status.items())]
    return ''.join(o) + '\n'


def reference(api):
    info = api.doc['info']
    o = [f'# {info["title"]} {info["version"]}\n\n<!-- Generated from the yaml files in api/; run api/generate.py --docs docs. -->\n\n'
         f'{info["description"].strip()}\n\nA star marks what is required.\n\n']
    for tag in api.doc['tags']:
        o.append(f'## {tag["name"]}\n\n{" ".join(tag["description"].split())}\n\n')
        o += [operation(api, op) for op in api.operations if tag['name'] in op.raw['tags']]
    o.append('## Objects\n\n')
    for s in api.schemas.values():
        o.append(f'### {s.name}\n\n{" ".join(s.raw["description"].split())}\n\n')
        if s.enum:
            o.append('One of ' + ', '.join(f'`{v}`' for v in s.enum) + '.\n\n')
        elif s.raw.get('properties'):
            o.append(field_rows(api, s.raw) + '\n')
    o.append('## Errors\n\n| Status | Code | Meaning |\n|---|---|---|\n')
    for code, (status, sentence, _) in sorted(api.errors.items(), key=lambda e: (e[1][0], e[0])):
        o.append(f'| {status} | `{code}` | {cell(sentence)} |\n')
    return ''.join(o)
