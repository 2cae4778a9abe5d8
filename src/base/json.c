#include "base/json.h"

#include <stdlib.h>

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

/* ---- reading ---- */

struct document {
	struct json_object root; /* first: what json_parse yields is freed as the document */
	struct arena arena;      /* members and items */
	char *text;              /* strings, decoded, and numbers that are no int64, each with a NUL behind it */
};

struct parser {
	const char *at, *end;
	const char *why;
	struct document *doc;
	char *text;                /* free room; what is decoded is never longer than its source */
	struct json_member *stack; /* of containers that are still open */
	size_t n, cap, values;
};

static bool fail(struct parser *p, const char *why)
{
	p->why = why;
	return false;
}

static bool cut_off(struct parser *p)
{
	return fail(p, "the document is cut off");
}

static void blanks(struct parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t'))
		p->at++;
}

static bool hex4(struct parser *p, uint32_t *out)
{
	uint8_t b[2];
	if (p->end - p->at < 4)
		return cut_off(p);
	if (!str_unhex(str_n(p->at, 4), b, sizeof b))
		return fail(p, "a \\u is not followed by four hexadecimal digits");
	p->at += 4;
	*out = (uint32_t)b[0] << 8 | b[1];
	return true;
}

static char *put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 63));
		*to++ = (char)(0x80 | (c & 63));
	} else {
		*to++ = (char)(0xf0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 63));
		*to++ = (char)(0x80 | (c >> 6 & 63));
		*to++ = (char)(0x80 | (c & 63));
	}
	return to;
}

/* Half of a surrogate pair that stands alone is U+FFFD. */
static bool unicode_escape(struct parser *p, char **to)
{
	uint32_t c, low;
	if (!hex4(p, &c))
		return false;
	while (c >= 0xd800 && c < 0xdc00 && p->end - p->at >= 2 && p->at[0] == '\\' && p->at[1] == 'u') {
		p->at += 2;
		if (!hex4(p, &low))
			return false;
		bool pair = low >= 0xdc00 && low < 0xe000;
		*to = put_utf8(*to, pair ? 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00)) : 0xfffd);
		if (pair)
			return true;
		c = low;
	}
	*to = put_utf8(*to, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
	return true;
}

static bool escape(struct parser *p, char **to)
{
	static const char from[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
	if (++p->at == p->end)
		return cut_off(p);
	char c = *p->at++;
	if (c == 'u')
		return unicode_escape(p, to);
	const char *found = c ? strchr(from, c) : NULL;
	if (!found)
		return fail(p, "a backslash is followed by what it cannot escape");
	*(*to)++ = means[found - from];
	return true;
}

/* Behind the opening quote. */
static bool string(struct parser *p, struct str *out)
{
	char *begin = p->text, *to = begin;
	bool ascii = true;
	for (;;) {
		const char *from = p->at;
		while (p->end - p->at >= 8 && plain8(p->at))
			p->at += 8;
		while (p->at < p->end && class_of[(unsigned char)*p->at] == 0)
			p->at++;
		memcpy(to, from, (size_t)(p->at - from));
		to += p->at - from;
		if (p->at == p->end)
			return cut_off(p);
		unsigned char c = (unsigned char)*p->at;
		if (c == '"')
			break;
		if (c < ' ')
			return fail(p, "a string holds a control character");
		if (c == '\\') {
			if (!escape(p, &to))
				return false;
			continue;
		}
		ascii &= c < 128;
		*to++ = (char)c;
		p->at++;
	}
	p->at++;
	*to = 0;
	p->text = to + 1;
	*out = str_n(begin, (size_t)(to - begin));
	return ascii || str_is_utf8(*out) || fail(p, "a string is not UTF-8");
}

static size_t digits(struct parser *p)
{
	const char *from = p->at;
	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return (size_t)(p->at - from);
}

static bool skip(struct parser *p, const char *any)
{
	bool yes = p->at < p->end && *p->at && strchr(any, *p->at);
	p->at += yes;
	return yes;
}

static bool number(struct parser *p, struct json_object *out)
{
	const char *from = p->at;
	bool whole = true;
	skip(p, "-");
	bool zero = p->at < p->end && *p->at == '0';
	size_t n = digits(p);
	bool good = n > 0 && !(zero && n > 1);
	if (good && skip(p, ".")) {
		whole = false;
		good = digits(p) > 0;
	}
	if (good && skip(p, "eE")) {
		whole = false;
		skip(p, "+-");
		good = digits(p) > 0;
	}
	if (!good)
		return p->at == p->end ? cut_off(p) : fail(p, "a number is malformed");
	struct str s = str_n(from, (size_t)(p->at - from));
	out->type = JSON_INT;
	if (whole && str_to_i64(s, &out->i))
		return true;
	out->type = JSON_DOUBLE;
	out->s = str_n(p->text, s.n);
	memcpy(p->text, s.p, s.n);
	p->text[s.n] = 0;
	p->text += s.n + 1;
	return true;
}

static bool word(struct parser *p, const char *text, enum json_type type, bool flag, struct json_object *out)
{
	size_t n = strlen(text);
	if ((size_t)(p->end - p->at) < n || memcmp(p->at, text, n) != 0)
		return (size_t)(p->end - p->at) < n ? cut_off(p) : fail(p, "a value is none that JSON knows");
	p->at += n;
	out->type = type;
	out->flag = flag;
	return true;
}

static bool value(struct parser *p, int depth, struct json_object *out);

static bool push(struct parser *p, const struct json_member *m)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 32;
		p->stack = realloc(p->stack, p->cap * sizeof *p->stack);
		must(p->stack != NULL);
	}
	p->stack[p->n++] = *m;
	return true;
}

static bool entry(struct parser *p, int depth, bool object)
{
	struct json_member m = {0};
	if (object) {
		if (!skip(p, "\""))
			return p->at == p->end ? cut_off(p) : fail(p, "a member does not begin with a quoted name");
		if (!string(p, &m.key))
			return false;
		blanks(p);
		if (!skip(p, ":"))
			return p->at == p->end ? cut_off(p) : fail(p, "a member's name is not followed by a colon");
		blanks(p);
	}
	return value(p, depth + 1, &m.value) && push(p, &m);
}

static void collect(struct parser *p, size_t from, struct json_object *out)
{
	size_t n = p->n - from;
	out->n = n;
	if (out->type == JSON_OBJECT) {
		out->members = arena_many(&p->doc->arena, n, struct json_member);
		if (n)
			memcpy(out->members, p->stack + from, n * sizeof *out->members);
	} else {
		out->items = arena_many(&p->doc->arena, n, struct json_object);
		for (size_t i = 0; i < n; i++)
			out->items[i] = p->stack[from + i].value;
	}
	p->n = from;
}

/* Behind the opening bracket. */
static bool container(struct parser *p, int depth, bool object, struct json_object *out)
{
	size_t from = p->n;
	const char *close = object ? "}" : "]";
	if (depth >= LIMIT_JSON_DEPTH)
		return fail(p, "the document is nested too deeply");
	blanks(p);
	bool more = !skip(p, close);
	while (more) {
		if (!entry(p, depth, object))
			return false;
		blanks(p);
		more = skip(p, ",");
		if (more)
			blanks(p);
		else if (!skip(p, close))
			return p->at == p->end ? cut_off(p) : fail(p, "a comma or the closing bracket is missing");
	}
	out->type = object ? JSON_OBJECT : JSON_ARRAY;
	collect(p, from, out);
	return true;
}

static bool value(struct parser *p, int depth, struct json_object *out)
{
	if (p->at == p->end)
		return cut_off(p);
	if (++p->values > LIMIT_JSON_VALUES)
		return fail(p, "the document has too many values");
	switch (*p->at) {
	case '"':
		p->at++;
		out->type = JSON_STRING;
		return string(p, &out->s);
	case '{':
	case '[':
		p->at++;
		return container(p, depth, p->at[-1] == '{', out);
	case 't':
		return word(p, "true", JSON_BOOL, true, out);
	case 'f':
		return word(p, "false", JSON_BOOL, false, out);
	case 'n':
		return word(p, "null", JSON_NULL, false, out);
	}
	return number(p, out);
}

const char *json_parse(struct str text, struct json_object **out)
{
	struct document *doc = calloc(1, sizeof *doc);
	*out = NULL;
	must(doc != NULL);
	arena_init(&doc->arena);
	doc->text = malloc(text.n + 1);
	must(doc->text != NULL);
	struct parser p = {.at = text.p, .end = text.p + text.n, .doc = doc, .text = doc->text};
	blanks(&p);
	bool good = value(&p, 0, &doc->root);
	blanks(&p);
	if (good && p.at < p.end)
		fail(&p, "there is more after the document");
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
