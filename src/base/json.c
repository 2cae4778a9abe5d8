#include "base/json.h"

#include <json-c/json.h>

#include "base/limits.h"

enum { COUNT_FROM = 64 << 10 };

/* json-c spends 800 bytes on "{}" (16 MiB of them would take 4 GiB), so a limit of the bytes alone bounds nothing. */
static bool too_many_values(struct str text)
{
	size_t containers = 0, values = 0;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (c == '"')
			for (i++; i < text.n && text.p[i] != '"'; i++)
				i += text.p[i] == '\\';
		containers += c == '{' || c == '[';
		values += c == ',';
	}
	return containers > LIMIT_JSON_CONTAINERS || values > LIMIT_JSON_VALUES;
}

const char *json_parse(struct str text, struct json_object **out)
{
	*out = NULL;
	if (text.n > INT32_MAX)
		return "the document is too large";
	if (text.n > COUNT_FROM && too_many_values(text))
		return "the document has too many values";
	struct json_tokener *tok = json_tokener_new_ex(LIMIT_JSON_DEPTH);
	must(tok != NULL);
	/* Trailing bytes are judged below, with a sentence of our own. */
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	struct json_object *doc = json_tokener_parse_ex(tok, text.n ? text.p : "", (int)text.n);
	enum json_tokener_error err = json_tokener_get_error(tok);
	size_t end = json_tokener_get_parse_end(tok);
	if (err == json_tokener_continue) { /* a bare number at the end needs a terminator to be complete */
		struct json_object *more = json_tokener_parse_ex(tok, " ", 1);
		err = json_tokener_get_error(tok);
		end = text.n;
		if (err == json_tokener_success)
			doc = more;
	}
	const char *why = NULL;
	if (err != json_tokener_success) {
		why = err == json_tokener_error_depth ? "the document is nested too deeply"
		      : err == json_tokener_continue  ? "the document is cut off"
		                                      : json_tokener_error_desc(err);
		if (doc)
			json_object_put(doc);
	} else {
		if (end < text.n && str_trim(str_skip(text, end)).n > 0) {
			why = "there is more after the document";
			json_object_put(doc);
		} else {
			*out = doc;
		}
	}
	json_tokener_free(tok);
	return why;
}

void json_free(struct json_object **doc)
{
	if (*doc)
		json_object_put(*doc);
	*doc = NULL;
}

struct json_object *json_get(struct json_object *obj, const char *key)
{
	struct json_object *v = NULL;
	if (obj && json_object_is_type(obj, json_type_object))
		json_object_object_get_ex(obj, key, &v);
	return v;
}

struct str json_value_str(struct json_object *v)
{
	if (!v || !json_object_is_type(v, json_type_string))
		return STR_NULL;
	return str_n(json_object_get_string(v), (size_t)json_object_get_string_len(v));
}

struct str json_str(struct json_object *obj, const char *key)
{
	return json_value_str(json_get(obj, key));
}

int64_t json_value_i64(struct json_object *v, int64_t dflt)
{
	return v && json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : dflt;
}

int64_t json_i64(struct json_object *obj, const char *key, int64_t dflt)
{
	return json_value_i64(json_get(obj, key), dflt);
}

bool json_flag(struct json_object *obj, const char *key, bool dflt)
{
	struct json_object *v = json_get(obj, key);
	return v && json_object_is_type(v, json_type_boolean) ? json_object_get_boolean(v) : dflt;
}

bool json_is_list(struct json_object *v)
{
	return v && json_object_is_type(v, json_type_array);
}

size_t json_len(struct json_object *array)
{
	return array && json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

struct json_object *json_at(struct json_object *array, size_t i)
{
	return i < json_len(array) ? json_object_array_get_idx(array, i) : NULL;
}

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
