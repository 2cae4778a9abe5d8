#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

#include <yajl/yajl_parse.h>

#include "base/limits.h"
#include "base/must.h"

/* 0: as it is; 1: needs an escape; 2: not ASCII (checked for UTF-8 once a string). */
static const unsigned char class_of[256] = {
    [0 ... 31] = 1, ['"'] = 1, ['\\'] = 1, [127] = 1, [128 ... 255] = 2};

/* Are these eight bytes of class 0, as most text is? In each byte the high bit is free to show a borrow: of v - 32 below
 * a blank, of x - 1 where x is zero. What a borrow marks wrongly stands above a byte that is marked rightly. */
static bool plain8(const char *p)
{
	const uint64_t ones = 0x0101010101010101, highs = ones << 7;
	uint64_t v;
	memcpy(&v, p, sizeof v);
	uint64_t quote = v ^ ones * '"', slash = v ^ ones * '\\', del = v ^ ones * 127;
	return ((v | (v - ones * 32) | (quote - ones) | (slash - ones) | (del - ones)) & highs) == 0;
}

/* ---- reading: yajl finds the values, a tree of them is laid out behind it ---- */

struct document {
	struct json_object root; /* first: what json_parse yields is freed as the document */
	struct arena arena;      /* members and items */
	char *text;              /* strings, decoded, and numbers that are no int64, each with a NUL behind it */
};

struct open_container {
	size_t from; /* its first value in the stack */
	struct str key;
	bool object;
};

struct parser {
	const char *why;
	struct document *doc;
	char *text;                /* free room; what is decoded is never longer than its source */
	struct str key;            /* of the value that comes next, in an object */
	struct json_member *stack; /* values of containers that are still open */
	size_t n, cap, values;
	struct open_container open[LIMIT_JSON_DEPTH];
	int depth;
};

static int fail(struct parser *p, const char *why)
{
	p->why = why;
	return 0;
}

/* Room for the next value, or NULL. */
static struct json_object *next(struct parser *p)
{
	if (++p->values > LIMIT_JSON_VALUES) {
		fail(p, "the document has too many values");
		return NULL;
	}
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 32;
		p->stack = realloc(p->stack, p->cap * sizeof *p->stack);
		must(p->stack != NULL);
	}
	struct json_member *m = &p->stack[p->n++];
	*m = (struct json_member){.key = p->key};
	return &m->value;
}

/* A copy that lasts as long as the document. */
static struct str keep(struct parser *p, const void *from, size_t n)
{
	struct str s = str_n(p->text, n);
	memcpy(p->text, from, n);
	p->text[n] = 0;
	p->text += n + 1;
	return s;
}

static int on_null(void *arg)
{
	return next(arg) != NULL;
}

static int on_bool(void *arg, int flag)
{
	struct json_object *v = next(arg);
	if (v)
		v->type = JSON_BOOL, v->flag = flag != 0;
	return v != NULL;
}

static int on_number(void *arg, const char *text, size_t n)
{
	struct json_object *v = next(arg);
	if (!v)
		return 0;
	v->type = JSON_INT;
	if (!str_to_i64(str_n(text, n), &v->i)) {
		v->type = JSON_DOUBLE;
		v->s = keep(arg, text, n);
	}
	return 1;
}

static int text_of(struct parser *p, const void *from, size_t n, struct str *out)
{
	*out = keep(p, from, n);
	return str_is_utf8(*out) || fail(p, "a string is not UTF-8");
}

static int on_string(void *arg, const unsigned char *text, size_t n)
{
	struct json_object *v = next(arg);
	if (v)
		v->type = JSON_STRING;
	return v && text_of(arg, text, n, &v->s);
}

static int on_key(void *arg, const unsigned char *text, size_t n)
{
	struct parser *p = arg;
	return text_of(p, text, n, &p->key);
}

static int on_open(struct parser *p, bool object)
{
	if (p->depth == LIMIT_JSON_DEPTH)
		return fail(p, "the document is nested too deeply");
	p->open[p->depth++] = (struct open_container){p->n, p->key, object};
	p->key = STR_NULL;
	return 1;
}

static int on_object(void *arg)
{
	return on_open(arg, true);
}

static int on_array(void *arg)
{
	return on_open(arg, false);
}

/* The values of the container leave the stack for their place in the tree; the container takes its own there. */
static int on_close(void *arg)
{
	struct parser *p = arg;
	struct open_container c = p->open[--p->depth];
	struct json_object out = {.type = c.object ? JSON_OBJECT : JSON_ARRAY, .n = p->n - c.from};
	const struct json_member *from = p->stack + c.from;
	if (c.object) {
		out.members = arena_many(&p->doc->arena, out.n, struct json_member);
		if (out.n)
			memcpy(out.members, from, out.n * sizeof *out.members);
	} else {
		out.items = arena_many(&p->doc->arena, out.n, struct json_object);
		for (size_t i = 0; i < out.n; i++)
			out.items[i] = from[i].value;
	}
	p->n = c.from;
	p->key = c.key;
	struct json_object *v = next(p);
	if (v)
		*v = out;
	p->key = STR_NULL;
	return v != NULL;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_bool,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_object,
    .yajl_map_key = on_key,
    .yajl_end_map = on_close,
    .yajl_start_array = on_array,
    .yajl_end_array = on_close,
};

/* What yajl says without the excerpt, "lexical error: invalid char in json text.", in a text that lasts until this thread's
 * next call. */
static const char *reason(yajl_handle yajl)
{
	static _Thread_local char text[96];
	unsigned char *said = yajl_get_error(yajl, 0, NULL, 0);
	snprintf(text, sizeof text, "%.*s", (int)strcspn((char *)said, "\n"), (char *)said);
	yajl_free_error(yajl, said);
	return text;
}

static bool escaped_unit(const char *p, const char *end, unsigned *out)
{
	uint8_t b[2];
	if (end - p < 6 || p[0] != '\\' || p[1] != 'u' || !str_unhex(str_n(p + 2, 4), b, sizeof b))
		return false;
	*out = (unsigned)b[0] << 8 | b[1];
	return true;
}

/* Does every escaped surrogate stand in a pair? yajl makes other characters of half a pair. */
static bool surrogates_paired(struct str text)
{
	const char *p = text.p, *end = p + text.n;
	unsigned unit, low;
	while (p < end && (p = memchr(p, '\\', (size_t)(end - p)))) {
		if (!escaped_unit(p, end, &unit) || unit < 0xd800 || unit > 0xdfff) {
			p += 2;
			continue;
		}
		if (unit > 0xdbff || !escaped_unit(p + 6, end, &low) || low < 0xdc00 || low > 0xdfff)
			return false;
		p += 12;
	}
	return true;
}

const char *json_parse(struct str text, struct json_object **out)
{
	struct document *doc = calloc(1, sizeof *doc);
	struct parser p = {.doc = doc};
	yajl_handle yajl = yajl_alloc(&callbacks, NULL, &p);
	*out = NULL;
	must(doc && yajl);
	arena_init(&doc->arena);
	p.text = doc->text = malloc(text.n + 1);
	must(doc->text != NULL);
	yajl_config(yajl, yajl_dont_validate_strings, 1); /* text_of() does, and more strictly */
	yajl_status status = yajl_parse(yajl, (const unsigned char *)text.p, text.n);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(yajl);
	if (status == yajl_status_error)
		p.why = reason(yajl);
	if (!p.why && !surrogates_paired(text))
		p.why = "half of a surrogate pair is escaped alone";
	yajl_free(yajl);
	if (!p.why)
		doc->root = p.stack[0].value;
	free(p.stack);
	struct json_object *root = &doc->root;
	if (p.why || root->type == JSON_NULL)
		json_free(&root);
	*out = root;
	return p.why;
}

void json_free(struct json_object **root)
{
	struct document *doc = (struct document *)*root;
	*root = NULL;
	if (!doc)
		return;
	arena_fini(&doc->arena);
	free(doc->text);
	free(doc);
}

/* ---- looking ---- */

/* NULL is JSON null. */
static struct json_object *present(struct json_object *v)
{
	return v->type == JSON_NULL ? NULL : v;
}

struct json_object *json_get(struct json_object *obj, const char *key)
{
	struct str name = str_c(key);
	if (!obj || obj->type != JSON_OBJECT)
		return NULL;
	for (size_t i = obj->n; i-- > 0;)
		if (str_eq(obj->members[i].key, name))
			return present(&obj->members[i].value);
	return NULL;
}

struct str json_value_str(struct json_object *v)
{
	return v && v->type == JSON_STRING ? v->s : STR_NULL;
}

struct str json_str(struct json_object *obj, const char *key)
{
	return json_value_str(json_get(obj, key));
}

int64_t json_value_i64(struct json_object *v, int64_t dflt)
{
	return v && v->type == JSON_INT ? v->i : dflt;
}

int64_t json_i64(struct json_object *obj, const char *key, int64_t dflt)
{
	return json_value_i64(json_get(obj, key), dflt);
}

bool json_flag(struct json_object *obj, const char *key, bool dflt)
{
	struct json_object *v = json_get(obj, key);
	return v && v->type == JSON_BOOL ? v->flag : dflt;
}

bool json_is_list(struct json_object *v)
{
	return v && v->type == JSON_ARRAY;
}

size_t json_len(struct json_object *array)
{
	return json_is_list(array) ? array->n : 0;
}

struct json_object *json_at(struct json_object *array, size_t i)
{
	return i < json_len(array) ? present(&array->items[i]) : NULL;
}

/* ---- writing ---- */

static void escape_byte(struct buf *b, unsigned char c)
{
	switch (c) {
	case '"':
		buf_lit(b, "\\\"");
		break;
	case '\\':
		buf_lit(b, "\\\\");
		break;
	case '\n':
		buf_lit(b, "\\n");
		break;
	case '\r':
		buf_lit(b, "\\r");
		break;
	case '\t':
		buf_lit(b, "\\t");
		break;
	default:
		buf_fmt(b, "\\u%04x", c);
	}
}

void json_put_str(struct buf *b, struct str s)
{
	if (!s.p) {
		buf_lit(b, "null");
		return;
	}
	buf_char(b, '"');
	size_t start = 0, i = 0;
	bool valid = true, checked = false;
	for (; i < s.n; i++) {
		while (s.n - i >= 8 && plain8(s.p + i))
			i += 8;
		if (i == s.n)
			break;
		unsigned char c = (unsigned char)s.p[i];
		if (class_of[c] == 0)
			continue;
		if (class_of[c] == 2) {
			if (!checked) {
				valid = str_is_utf8(s);
				checked = true;
			}
			if (valid)
				continue;
		}
		buf_put(b, s.p + start, i - start);
		if (class_of[c] == 2)
			buf_lit(b, "\xef\xbf\xbd");
		else
			escape_byte(b, c);
		start = i + 1;
	}
	buf_put(b, s.p + start, i - start);
	buf_char(b, '"');
}

void json_put_key(struct buf *b, bool *first, struct str key)
{
	if (*first)
		buf_char(b, '"');
	else
		buf_lit(b, ",\"");
	*first = false;
	buf_str(b, key);
	buf_lit(b, "\":");
}

void json_put_bool(struct buf *b, bool v)
{
	if (v)
		buf_lit(b, "true");
	else
		buf_lit(b, "false");
}

static void put_members(struct buf *b, const struct json_object *v)
{
	buf_char(b, '{');
	for (size_t i = 0; i < v->n; i++) {
		if (i)
			buf_char(b, ',');
		json_put_str(b, v->members[i].key);
		buf_char(b, ':');
		json_put_value(b, &v->members[i].value);
	}
	buf_char(b, '}');
}

void json_put_value(struct buf *b, const struct json_object *v)
{
	switch (v ? v->type : JSON_NULL) {
	case JSON_NULL:
		buf_lit(b, "null");
		break;
	case JSON_BOOL:
		json_put_bool(b, v->flag);
		break;
	case JSON_INT:
		buf_i64(b, v->i);
		break;
	case JSON_DOUBLE:
		buf_str(b, v->s);
		break;
	case JSON_STRING:
		json_put_str(b, v->s);
		break;
	case JSON_OBJECT:
		put_members(b, v);
		break;
	case JSON_ARRAY:
		buf_char(b, '[');
		for (size_t i = 0; i < v->n; i++) {
			if (i)
				buf_char(b, ',');
			json_put_value(b, &v->items[i]);
		}
		buf_char(b, ']');
		break;
	}
}
