"""C from the model: api.h (types, prototypes), api.c (readers, writers, argument parsers), routes.c (the table)."""
import json

from model import ID_KINDS, INT_MAX, INT_MIN, STRING_MAX, upper_snake

HEAD = '/* Generated from the yaml files in api/ by api/generate.py. Do not edit. */\n'


def c_str(s):
    return json.dumps(s, ensure_ascii=True)


def constant(enum, value):
    return f'{upper_snake(enum)}_{upper_snake(str(value))}'


# ---------------------------------------------------------------- api.h

def struct(name, lines):
    return f'struct {name} {{\n' + ''.join(f'\t{line}\n' for line in lines or ['char none;']) + '};\n\n'


def in_lines(op):
    lines = [line for f in op.fields for line in f.declare()]
    if op.body:
        lines.append(f'struct {op.body} body;')
        if not op.body_required:
            lines.append('bool has_body;')
    return lines


def prototype(op):
    if op.kind == 'typed':
        out = f', struct {op.out} *out' if op.out else ''
        return f'int {op.handler}(struct ctx *ctx, const struct {op.struct}In *in{out});'
    last = {'raw': 'struct reply *out', 'stream': 'struct body_sink **out', 'socket': 'struct socket_session **out'}
    return f'int {op.handler}(struct ctx *ctx, struct request *req, {last[op.kind]});'


def header(api):
    o = [HEAD, '''/* Types, readers and writers of the API, and the prototypes of every handler.
 *
 * struct str with p == NULL, an id of 0, a rid with n == 0 and an enum of 0 mean absent or null. What a reader yields
 * lives in the ctx's arena. A reader returns 0 or a fault that is recorded in the ctx; a writer always succeeds.
 */
#ifndef SD_API_H
#define SD_API_H

#include "base/ctx.h"
#include "base/hash.h"
#include "base/id.h"

struct json_object;
struct request;
struct reply;
struct body_sink;
struct socket_session;
struct http_header;

''']
    for s in api.enums():
        o.append(f'enum {s.name} {{\n')
        for i, v in enumerate(s.enum):
            o.append(f'\t{constant(s.name, v)}{" = 1" if i == 0 else ""},\n')
        o.append('};\n\n')
        o.append(f'/* The wire form (STR_NULL of 0), and back (0: unknown). */\n'
                 f'struct str name_{s.name}(enum {s.name} v);\nenum {s.name} parse_{s.name}(struct str s);\n\n')
    for s in api.ordered():
        o.append(f'struct {s.name};\n')
    o.append('\n')
    for s in api.ordered():
        text = ' '.join(s.raw['description'].split())
        o.append(f'/* {text.replace("*/", "* /")} */\n' + struct(s.name, [x for f in s.fields for x in f.declare()]))
    for name in api.lists():
        o.append(struct(name + 'List', [f'struct {name} *items;', 'size_t n_items;']))
    o.append('/* Readers. */\n')
    for s in api.ordered():
        o.append(f'int read_{s.name}(struct ctx *ctx, struct json_object *doc, struct {s.name} *out);\n')
        if s.form:
            o.append(f'/* From name and value pairs, as a multipart form yields them; each once. */\n'
                     f'int read_form_{s.name}(struct ctx *ctx, const struct http_header *fields, size_t n, '
                     f'struct {s.name} *out);\n')
    o.append('\n/* Writers: one JSON value appended to b. */\n')
    for s in api.ordered():
        o.append(f'void write_{s.name}(struct buf *b, const struct {s.name} *v);\n')
    for name in api.lists():
        o.append(f'void write_{name}List(struct buf *b, const struct {name}List *v);\n')
    o.append('\n/* Arguments of the operations: path and query parameters, and the body. */\n')
    for op in api.handlers():
        o.append(struct(op.struct + 'In', in_lines(op)))
    o.append('/* Parses and validates them from a request; the generated wrappers call these, raw handlers may. */\n')
    for op in api.handlers():
        o.append(f'int args_{op.name}(struct ctx *ctx, const struct request *req, struct {op.struct}In *in);\n')
    o.append('\n/* Handlers: features define them. Those of raw, stream and socket kind call args_ themselves. */\n')
    for op in api.handlers():
        o.append(f'{prototype(op)} /* {op.method.upper()} {op.path} */\n')
    o.append('''
/* compat.data_mirror (D26); defined in http/validate.c. */
extern bool api_data_mirror;

#endif
''')
    return ''.join(o)


# ---------------------------------------------------------------- rules

def limits(f):
    s = f.schema
    if f.kind == 'str':
        return s.get('minLength', 0), s.get('maxLength', STRING_MAX), s.get('x-max-bytes', 0)
    if f.kind == 'array':
        return s.get('minItems', 0), s.get('maxItems', INT_MAX), 0
    if f.kind == 'i64':
        return s.get('minimum', INT_MIN), s.get('maximum', INT_MAX), 0
    return 0, 0, s.get('x-max-bytes', 0)


def number(v):
    return f'INT64_C({v})' if abs(v) > 2**31 - 1 else str(v)


def rule(api, f, path=False):
    low, high, size = limits(f)
    s = f.schema
    parts = [f'.min = {number(low)}, .max = {number(high)}']
    if size:
        parts.append(f'.max_bytes = {size}')
    flags = [name for name, on in (('RULE_REQUIRED', f.must), ('RULE_SECRET', s.get('x-secret')),
                                   ('RULE_TEXT', s.get('x-accept-string')), ('RULE_PATH', path)) if on]
    if flags:
        parts.append(f'.flags = {" | ".join(flags)}')
    if 'x-id' in s:
        parts.append('.kinds = ' + ' | '.join(f'1u << ID_{k.upper()}' for k in s['x-id'] if k in ID_KINDS))
    if 'x-error' in s:
        parts.append(f'.err = {api.errors[s["x-error"]][2]}')
    if 'x-zero' in s:
        parts.append(f'.word = {c_str(s["x-zero"])}')
    if f.kind == 'enum':
        parts.append(f'.names = names_{f.ref}, .n_names = {len(api.schemas[f.ref].enum)}')
    return '{' + ', '.join(parts) + '}'


def rules(api, name, fields, path_of=lambda f: False):
    if not fields:
        return ''
    o = [f'static const struct rule rules_{name}[] = {{\n']
    items = []
    for i, f in enumerate(fields):
        o.append(f'\t[{i}] = {rule(api, f, path_of(f))}, /* {f.name} */\n')
        if f.kind == 'array':
            items.append(f'static const struct rule item_{name}_{f.name} = {rule(api, f.item)};\n')
    o.append('};\n')
    return ''.join(items + o)


# ---------------------------------------------------------------- readers

def set_default(f, into):
    if f.default is None:
        return ''
    value = {'bool': lambda: str(f.default).lower(), 'i64': lambda: number(f.default),
             'enum': lambda: constant(f.ref, f.default)}[f.kind]()
    return f'\t{into}->{f.name} = {value};\n'


def take(f, into, rule_expr, at, given, json_expr, pad):
    """Statements that read one value into `into`."""
    if f.kind == 'ref':
        if f.must or not f.name:
            return f'{pad}if (take_object(c, {at}, {rule_expr}, {json_expr}))\n{pad}\tin_{f.ref}(c, {at}, {json_expr}, &{into});\n'
        return (f'{pad}if (take_object(c, {at}, {rule_expr}, {json_expr})) {{\n'
                f'{pad}\t{into} = arena_new(c->ctx->arena, struct {f.ref});\n'
                f'{pad}\tin_{f.ref}(c, {at}, {json_expr}, {into});\n{pad}}}\n')
    if f.kind == 'enum':
        return (f'{pad}int e = 0;\n{pad}if (take_enum(c, {at}, {rule_expr}, {given}, &e))\n'
                f'{pad}\t{into} = (enum {f.ref})e;\n')
    fn = {'str': 'take_str', 'i64': 'take_i64', 'bool': 'take_bool', 'time': 'take_time', 'sha256': 'take_sha256',
          'id': 'take_id', 'rid': 'take_rid', 'raw': 'take_raw'}[f.kind]
    if f.has:
        owner, _, leaf = into.rpartition('->')
        return f'{pad}{owner}->has_{leaf} = {fn}(c, {at}, {rule_expr}, {given}, &{into});\n'
    return f'{pad}{fn}(c, {at}, {rule_expr}, {given}, &{into});\n'


def take_items(schema, f, i):
    rule_expr = f'&rules_{schema.name}[{i}]'
    mark = f'\t\t\tout->has_{f.name} = true;\n' if f.has else ''
    inner = take(f.item, f'out->{f.name}[i]', f'&item_{schema.name}_{f.name}', '&e_at', 'given_json(item)', 'item', '\t\t\t\t')
    return (f'\t\tsize_t n = 0;\n\t\tif (take_array(c, &at, {rule_expr}, v, &n)) {{\n{mark}'
            f'\t\t\tout->{f.name} = arena_many(c->ctx->arena, n, {f.item.ctype});\n\t\t\tout->n_{f.name} = n;\n'
            f'\t\t\tfor (size_t i = 0; i < n; i++) {{\n'
            f'\t\t\t\tstruct loc e_at = {{&at, NULL, i}};\n'
            f'\t\t\t\tstruct json_object *item = json_at(v, i);\n{inner}\t\t\t}}\n\t\t}}\n')


def key_switch(schema):
    """k, n -> field index, by length first."""
    by_length = {}
    for i, f in enumerate(schema.fields):
        for key in [f.name] + f.aliases:
            by_length.setdefault(len(key), []).append((key, i))
    o = [f'static int field_{schema.name}(const char *k, size_t n)\n{{\n\tswitch (n) {{\n']
    for n in sorted(by_length):
        o.append(f'\tcase {n}:\n')
        for key, i in by_length[n]:
            o.append(f'\t\tif (memcmp(k, {c_str(key)}, {n}) == 0)\n\t\t\treturn {i};\n')
        o.append('\t\tbreak;\n')
    o.append('\t}\n\treturn -1;\n}\n\n')
    return ''.join(o)


def reader(api, s):
    o = [rules(api, s.name, s.fields), '\n', key_switch(s)]
    o.append(f'static void in_{s.name}(struct check *c, const struct loc *up, struct json_object *doc, struct {s.name} *out)\n{{\n')
    o += [set_default(f, 'out') for f in s.fields]
    if s.fields:
        o.append(f'\tstruct json_member *given[{len(s.fields)}] = {{0}}; /* the last of a name counts */\n')
    o.append('\tfor (size_t i = 0; i < doc->n; i++) {\n'
             '\t\tstruct json_member *m = &doc->members[i];\n'
             f'\t\tint field = field_{s.name}(m->key.p, m->key.n);\n')
    if s.fields:
        o.append('\t\tif (field >= 0)\n\t\t\tgiven[field] = m;\n')
    if s.strict:
        o.append('\t\tif (field < 0) {\n\t\t\tstruct loc at = {up, m->key.p, 0};\n'
                 '\t\t\tcheck_fail(c, &at, given_json(json_member_value(m)), "extra_forbidden", "Extra inputs are not permitted");\n\t\t}\n')
    elif not s.fields:
        o.append('\t\t(void)field;\n')
    o.append('\t}\n')
    for i, f in enumerate(s.fields):
        o.append(f'\tif (given[{i}]) {{\n\t\tstruct loc at = {{up, given[{i}]->key.p, 0}};\n'
                 f'\t\tstruct json_object *v = json_member_value(given[{i}]);\n')
        if f.present:
            o.append(f'\t\tout->given_{f.name} = true;\n')
        if f.kind == 'array':
            o.append(take_items(s, f, i))
        else:
            o.append(take(f, f'out->{f.name}', f'&rules_{s.name}[{i}]', '&at', 'given_json(v)', 'v', '\t\t'))
        o.append(f'\t}} else {{\n\t\tcheck_missing(c, up, {c_str(f.name)});\n\t}}\n' if f.must else '\t}\n')
    if not s.fields:
        o.append('\t(void)out;\n\t(void)up;\n')
    o.append('}\n\n')
    o.append(f'''int read_{s.name}(struct ctx *ctx, struct json_object *doc, struct {s.name} *out)
{{
	struct check c;
	struct loc at = {{NULL, "body", 0}};
	check_init(&c, ctx);
	*out = (struct {s.name}){{0}};
	if (take_object(&c, &at, NULL, doc))
		in_{s.name}(&c, &at, doc, out);
	return check_end(&c);
}}

''')
    if s.form:
        o.append(form_reader(s))
    return ''.join(o)


def take_text(f, into, rule_expr, name, source, pad='\t'):
    """A parameter or form field: text or absent."""
    o = [f'{pad}{{\n{pad}\tstruct given g = given_text({source});\n{pad}\tstruct loc at = {{&up, {c_str(name)}, 0}};\n']
    inner = take(f, f'{into}->{f.name}', rule_expr, '&at', 'g', 'NULL', pad + '\t\t').replace('(c, ', '(&c, ')
    o.append(f'{pad}\tif (g.text.p) {{\n{inner}{pad}\t}}\n')
    if f.must:
        o[-1] = o[-1][:-1] + f' else {{\n{pad}\t\tcheck_missing(&c, &up, {c_str(name)});\n{pad}\t}}\n'
    o.append(f'{pad}}}\n')
    return ''.join(o)


def form_reader(s):
    o = [f'int read_form_{s.name}(struct ctx *ctx, const struct http_header *fields, size_t n, struct {s.name} *out)\n{{\n'
         f'\tstruct check c;\n\tstruct loc up = {{NULL, "body", 0}};\n\tstruct str text[{len(s.fields)}] = {{{{0}}}};\n'
         f'\tcheck_init(&c, ctx);\n\t*out = (struct {s.name}){{0}};\n']
    o += [set_default(f, 'out') for f in s.fields]
    o.append(f'\tfor (size_t i = 0; i < n; i++) {{\n'
             f'\t\tint field = field_{s.name}(fields[i].name.p, fields[i].name.n);\n'
             '\t\tif (field >= 0 && text[field].p)\n\t\t\tcheck_twice(&c, &up, fields[i].name);\n'
             '\t\telse if (field >= 0)\n\t\t\ttext[field] = fields[i].value;\n\t}\n')
    for i, f in enumerate(s.fields):
        o.append(take_text(f, 'out', f'&rules_{s.name}[{i}]', f.name, f'text[{i}]'))
    o.append('\treturn check_end(&c);\n}\n\n')
    return ''.join(o)


# ---------------------------------------------------------------- writers

class Literals:
    """Collects literal text so that neighbours become one append."""

    def __init__(self, out, pad='\t'):
        self.out, self.pad, self.text = out, pad, ''

    def lit(self, text):
        self.text += text

    def flush(self):
        if len(self.text) == 1:
            self.out.append(f"{self.pad}buf_char(b, '{self.text}');\n")
        elif self.text:
            self.out.append(f'{self.pad}buf_lit(b, {c_str(self.text)});\n')
        self.text = ''

    def code(self, line):
        self.flush()
        self.out.append(f'{self.pad}{line}\n')


def put(f, expr):
    """The statement that writes one present value."""
    if f.kind == 'id':
        return f'put_id(b, ID_{f.schema["x-id"][0].upper()}, {expr});'
    if f.kind == 'time':
        return f'put_time{"_us" if f.schema.get("x-precision") == "us" else ""}(b, {expr});'
    if f.kind == 'sha256':
        return f'put_sha256(b, &{expr});'
    if f.kind == 'enum':
        return f'put_enum(b, names_{f.ref}, COUNT(names_{f.ref}), (int){expr});'
    if f.kind == 'ref':
        return f'write_{f.ref}(b, &{expr});'
    return {'str': 'json_put_str', 'i64': 'buf_i64', 'bool': 'json_put_bool', 'rid': 'put_rid', 'raw': 'put_raw'}[f.kind] \
        + f'(b, {expr});'


def write_field(w, f):
    expr = f'v->{f.name}'
    if f.kind == 'array':
        body = put(f.item, f'{expr}[i]')
        loop = (f'\tbuf_char(b, \'[\');\n\tfor (size_t i = 0; i < v->n_{f.name}; i++) {{\n\t\tif (i > 0)\n'
                f"\t\t\tbuf_char(b, ',');\n\t\t{body}\n\t}}\n\tbuf_char(b, ']');\n")
        w.flush()
        if f.has:
            inner = ''.join('\t' + line + '\n' for line in loop.splitlines())
            w.out.append(f'\tif (v->has_{f.name}) {{\n{inner}\t}} else {{\n\t\tbuf_lit(b, "null");\n\t}}\n')
        else:
            w.out.append(loop)
    elif f.has:
        w.code(f'if (v->has_{f.name})')
        w.out.append(f'\t\t{put(f, expr)}\n\telse\n\t\tbuf_lit(b, "null");\n')
    elif f.kind == 'ref' and not f.must:
        w.code(f'if ({expr})')
        w.out.append(f'\t\twrite_{f.ref}(b, {expr});\n\telse\n\t\tbuf_lit(b, "null");\n')
    else:
        w.code(put(f, expr))


def writer(s):
    o = [f'void write_{s.name}(struct buf *b, const struct {s.name} *v)\n{{\n']
    w = Literals(o)
    w.lit('{')
    for i, f in enumerate(s.fields):
        w.lit((',' if i else '') + f'"{f.name}":')
        write_field(w, f)
    w.lit('}')
    w.flush()
    if not s.fields:
        o.append('\t(void)v;\n')
    o.append('}\n\n')
    return ''.join(o)


def list_writer(name):
    return (f'void write_{name}List(struct buf *b, const struct {name}List *v)\n{{\n\tbuf_char(b, \'[\');\n'
            f'\tfor (size_t i = 0; i < v->n_items; i++) {{\n\t\tif (i > 0)\n\t\t\tbuf_char(b, \',\');\n'
            f'\t\twrite_{name}(b, &v->items[i]);\n\t}}\n\tbuf_char(b, \']\');\n}}\n\n')


# ---------------------------------------------------------------- arguments

def args(api, op):
    o = [rules(api, f'args_{op.name}', op.fields, lambda f: f.source == 'path'),
         f'int args_{op.name}(struct ctx *ctx, const struct request *req, struct {op.struct}In *in)\n{{\n',
         '\tstruct check c;\n\tcheck_init(&c, ctx);\n', f'\t*in = (struct {op.struct}In){{0}};\n']
    o += [set_default(f, 'in') for f in op.fields]
    for i, f in enumerate(op.fields):
        source = (f'req->params[{op.slots.index(f.name)}]' if f.source == 'path'
                  else f'request_query(req, ctx->arena, {c_str(f.param)})')
        text = take_text(f, 'in', f'&rules_args_{op.name}[{i}]', f.param, source)
        o.append(text.replace('{&up, ', '{&loc_' + f.source + ', ').replace('(&c, &up, ', f'(&c, &loc_{f.source}, '))
    if op.body:
        mark = '' if op.body_required else '\t\tin->has_body = true;\n'
        o.append(f'\tAUTO_JSON *doc = NULL;\n\tif (take_body(&c, req->body, {str(op.body_required).lower()}, &doc) '
                 f'&& take_object(&c, &loc_body, NULL, doc)) {{\n{mark}'
                 f'\t\tin_{op.body}(&c, &loc_body, doc, &in->body);\n\t}}\n')
    if not op.fields and not op.body:
        o.append('\t(void)req;\n')
    o.append('\treturn check_end(&c);\n}\n\n')
    return ''.join(o)


def source(api):
    o = [HEAD, '''#include "api.h"

#include "http/handler.h"
#include "http/validate.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* 0 is null; a value outside the table is a bug of ours. */
static void put_enum(struct buf *b, const struct str *names, size_t n, int v)
{
	if (v == 0) {
		buf_lit(b, "null");
		return;
	}
	must(v > 0 && (size_t)v <= n);
	buf_char(b, '"');
	buf_str(b, names[v - 1]);
	buf_char(b, '"');
}

static const struct loc loc_path __attribute__((unused)) = {NULL, "path", 0};
static const struct loc loc_query __attribute__((unused)) = {NULL, "query", 0};
static const struct loc loc_body __attribute__((unused)) = {NULL, "body", 0};

''']
    for s in api.enums():
        o.append(f'static const struct str names_{s.name}[] = {{\n')
        o += [f'\t{{{c_str(str(v))}, {len(str(v))}}},\n' for v in s.enum]
        o.append(f'''}};

struct str name_{s.name}(enum {s.name} v)
{{
	return (int)v > 0 && (size_t)v <= COUNT(names_{s.name}) ? names_{s.name}[(int)v - 1] : STR_NULL;
}}

enum {s.name} parse_{s.name}(struct str s)
{{
	for (size_t i = 0; i < COUNT(names_{s.name}); i++)
		if (str_eq(s, names_{s.name}[i]))
			return (enum {s.name})(i + 1);
	return (enum {s.name})0;
}}

''')
    for s in api.ordered():
        o.append(f'static void in_{s.name}(struct check *c, const struct loc *up, struct json_object *doc, struct {s.name} *out);\n')
    o.append('\n')
    for s in api.ordered():
        o.append(reader(api, s))
    for s in api.ordered():
        o.append(writer(s))
    o += [list_writer(name) for name in api.lists()]
    o += [args(api, op) for op in api.handlers()]
    return ''.join(o)


# ---------------------------------------------------------------- routes.c

def wrapper(op):
    o = [f'static int handle_{op.name}(struct ctx *ctx, struct request *req, struct reply *out)\n{{\n',
         f'\tstruct {op.struct}In in;\n\tint err = args_{op.handler}(ctx, req, &in);\n\tif (err)\n\t\treturn err;\n']
    if op.out:
        o.append(f'\tstruct {op.out} res = {{0}};\n\terr = {op.handler}(ctx, &in, &res);\n\tif (err)\n\t\treturn err;\n')
        o.append(f'\tsize_t from = out->body.n;\n\twrite_{op.out}(&out->body, &res);\n' if op.mirror
                 else f'\twrite_{op.out}(&out->body, &res);\n')
        if op.mirror:
            o.append('\tif (api_data_mirror)\n\t\tapi_mirror(&out->body, from);\n')
    else:
        o.append(f'\terr = {op.handler}(ctx, &in);\n\tif (err)\n\t\treturn err;\n')
    o.append(f'\tout->status = {op.status};\n\treturn 0;\n}}\n\n')
    return ''.join(o)


def routes(api):
    o = [HEAD, '#include "api.h"\n#include "base/limits.h"\n#include "http/handler.h"\n#include "http/validate.h"\n\n']
    o += [wrapper(op) for op in api.operations if op.kind == 'typed']
    o.append('const struct route api_routes[] = {\n')
    for op in api.operations:
        fn = f'.handle = handle_{op.name}' if op.kind == 'typed' else \
            f'.{ {"raw": "handle", "stream": "stream", "socket": "socket"}[op.kind] } = {op.handler}'
        o.append(f'\t{{.method = HTTP_{op.method.upper()}, .template = {c_str(op.path)}, .operation = {c_str(op.name)},\n'
                 f'\t .permission = {c_str(op.permission)}, .kind = ROUTE_{op.kind.upper()}, .lane = LANE_{op.lane.upper()},\n'
                 f'\t .anonymous = {str(op.permission == "public").lower()}, .cost = {op.cost}, .status = {op.status}, '
                 f'.body_max = {op.body_max}, {fn}}},\n')
    o.append('};\n\nconst size_t api_n_routes = sizeof api_routes / sizeof api_routes[0];\n')
    return ''.join(o)
