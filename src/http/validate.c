#include "http/validate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum {
	FAILURES_MAX = 100,    /* further ones are counted only */
	ECHO_MAX = 256,        /* bytes of an input that a failure repeats */
	LOC_DEPTH_MAX = 16,
};

bool api_data_mirror;

void check_init(struct check *c, struct ctx *ctx)
{
	*c = (struct check){.ctx = ctx};
}

int check_end(struct check *c)
{
	int err = c->err;
	if (err == E_OK && c->n > 0)
		err = E_INVALID;
	if (err == E_INVALID && c->ctx->err == E_OK) {
		buf_char(&c->items, ']');
		c->ctx->err = E_INVALID;
		c->ctx->detail = c->first;
		c->ctx->invalid = arena_str(c->ctx->arena, buf_as_str(&c->items));
	} else if (err != E_OK) {
		ctx_fail(c->ctx, err, "%s", err_info(err)->sentence);
	}
	buf_fini(&c->items);
	return err;
}

static void put_loc(struct buf *b, const struct loc *at)
{
	const struct loc *chain[LOC_DEPTH_MAX];
	size_t n = 0;
	for (; at && n < LOC_DEPTH_MAX; at = at->up)
		chain[n++] = at;
	buf_char(b, '[');
	for (size_t i = n; i-- > 0;) {
		if (chain[i]->name)
			json_put_str(b, str_c(chain[i]->name));
		else
			buf_u64(b, chain[i]->index);
		if (i > 0)
			buf_char(b, ',');
	}
	buf_char(b, ']');
}

/* The longest prefix of at most max bytes that ends at a character. */
static struct str cut_utf8(struct str s, size_t max)
{
	if (s.n <= max)
		return s;
	while (max > 0 && ((unsigned char)s.p[max] & 0xc0) == 0x80)
		max--;
	return str_head(s, max);
}

static bool of_type(const struct json_object *v, enum json_type type)
{
	return v && v->type == type;
}

static void put_input(struct buf *b, struct given g)
{
	if (g.is_text) {
		json_put_str(b, cut_utf8(g.text, ECHO_MAX));
		return;
	}
	if (of_type(g.json, JSON_STRING))
		json_put_str(b, cut_utf8(g.json->s, ECHO_MAX));
	else if (of_type(g.json, JSON_DOUBLE) && g.json->s.n > ECHO_MAX)
		buf_lit(b, "null");
	else if (of_type(g.json, JSON_OBJECT))
		buf_lit(b, "{}");
	else if (of_type(g.json, JSON_ARRAY))
		buf_lit(b, "[]");
	else
		json_put_value(b, g.json);
}

void check_fail(struct check *c, const struct loc *at, struct given input, const char *type, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	struct str msg = c->n < FAILURES_MAX ? arena_vfmt(c->ctx->arena, fmt, ap) : STR_NULL;
	va_end(ap);
	if (c->n++ == 0)
		c->first = msg;
	if (c->n > FAILURES_MAX)
		return;
	struct buf *b = &c->items;
	buf_str(b, b->n ? STR(",{\"type\":") : STR("[{\"type\":"));
	json_put_str(b, str_c(type));
	buf_lit(b, ",\"loc\":");
	put_loc(b, at);
	buf_lit(b, ",\"msg\":");
	json_put_str(b, msg);
	buf_lit(b, ",\"input\":");
	put_input(b, input);
	buf_char(b, '}');
}

void check_missing(struct check *c, const struct loc *up, const char *name)
{
	struct loc at = {up, name, 0};
	check_fail(c, &at, given_json(NULL), "missing", "Field required");
}

void check_twice(struct check *c, const struct loc *up, struct str name)
{
	struct loc at = {up, arena_cstr(c->ctx->arena, name), 0};
	check_fail(c, &at, given_json(NULL), "value_error", "Field given twice");
}

static bool is_null(struct given g)
{
	return g.is_text ? g.text.p == NULL : g.json == NULL;
}

static struct given shown(const struct rule *r, struct given g)
{
	return r->flags & RULE_SECRET ? given_json(NULL) : g;
}

/* A malformed value: the rule's own error, or one failing field. Always false. */
static bool refuse(struct check *c, const struct loc *at, const struct rule *r, struct given g, const char *type,
                   const char *msg)
{
	if (r->err)
		c->err = c->err == E_NOT_FOUND ? c->err : r->err;
	else
		check_fail(c, at, shown(r, g), type, "%s", msg);
	return false;
}

/* The value as a string. False with a failure recorded, or for an allowed null. */
static bool string_of(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct str *out)
{
	if (is_null(g))
		return r->flags & RULE_REQUIRED ? refuse(c, at, r, g, "string_type", "Input should be a valid string") : false;
	if (!g.is_text && !of_type(g.json, JSON_STRING))
		return refuse(c, at, r, g, "string_type", "Input should be a valid string");
	*out = g.is_text ? g.text : json_value_str(g.json);
	return true;
}

static size_t characters(struct str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

bool take_str(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct str *out)
{
	struct str s;
	if (!string_of(c, at, r, g, &s))
		return false;
	if (g.is_text && !str_is_utf8(s))
		return refuse(c, at, r, given_json(NULL), "string_unicode", "Input should be valid UTF-8");
	if (memchr(s.p, 0, s.n))
		return refuse(c, at, r, given_json(NULL), "string_nul", "Input should not contain a NUL character");
	if (r->max_bytes && s.n > (size_t)r->max_bytes) {
		check_fail(c, at, shown(r, g), "string_too_long", "String should have at most %" PRId64 " bytes", r->max_bytes);
		return false;
	}
	if (s.n > (size_t)r->max && characters(s) > (size_t)r->max) {
		check_fail(c, at, shown(r, g), "string_too_long", "String should have at most %" PRId64 " characters", r->max);
		return false;
	}
	if (r->min > 0 && characters(s) < (size_t)r->min) {
		check_fail(c, at, shown(r, g), "string_too_short", "String should have at least %" PRId64 " character%s", r->min,
		           r->min == 1 ? "" : "s");
		return false;
	}
	*out = arena_str(c->ctx->arena, s);
	return true;
}

/* 3.0 and 1e3 are integers too. */
static bool exact_i64(struct json_object *v, int64_t *out)
{
	if (of_type(v, JSON_DOUBLE)) {
		double d = strtod(v->s.p, NULL);
		if (!(fabs(d) <= 9007199254740991.0) || d != trunc(d))
			return false;
		*out = (int64_t)d;
		return true;
	}
	if (!of_type(v, JSON_INT))
		return false;
	*out = v->i;
	return true;
}

bool take_i64(struct check *c, const struct loc *at, const struct rule *r, struct given g, int64_t *out)
{
	int64_t v = 0;
	if (is_null(g))
		return r->flags & RULE_REQUIRED ? refuse(c, at, r, g, "int_type", "Input should be a valid integer") : false;
	bool text = g.is_text || ((r->flags & RULE_TEXT) && of_type(g.json, JSON_STRING));
	if (text ? !str_to_i64(g.is_text ? g.text : json_value_str(g.json), &v) : !exact_i64(g.json, &v))
		return refuse(c, at, r, g, text ? "int_parsing" : "int_type", "Input should be a valid integer");
	if (v < r->min || v > r->max) {
		if (r->err)
			return refuse(c, at, r, g, "", "");
		bool low = v < r->min;
		check_fail(c, at, g, low ? "greater_than_equal" : "less_than_equal",
		           "Input should be %s than or equal to %" PRId64, low ? "greater" : "less", low ? r->min : r->max);
		return false;
	}
	*out = v;
	return true;
}

bool take_bool(struct check *c, const struct loc *at, const struct rule *r, struct given g, bool *out)
{
	static const char msg[] = "Input should be a valid boolean";
	if (is_null(g))
		return r->flags & RULE_REQUIRED ? refuse(c, at, r, g, "bool_type", msg) : false;
	if (g.is_text) {
		struct str s = g.text;
		bool yes = str_ieq(s, STR("true")) || str_eq(s, STR("1")) || str_ieq(s, STR("yes")) || str_ieq(s, STR("on"));
		bool no = str_ieq(s, STR("false")) || str_eq(s, STR("0")) || str_ieq(s, STR("no")) || str_ieq(s, STR("off"));
		if (!yes && !no)
			return refuse(c, at, r, g, "bool_parsing", msg);
		*out = yes;
		return true;
	}
	if (!of_type(g.json, JSON_BOOL))
		return refuse(c, at, r, g, "bool_type", msg);
	*out = g.json->flag;
	return true;
}

bool take_time(struct check *c, const struct loc *at, const struct rule *r, struct given g, int64_t *out)
{
	struct str s;
	int64_t us;
	if (!string_of(c, at, r, g, &s))
		return false;
	if (!time_parse(s, &us))
		return refuse(c, at, r, g, "datetime_parsing", "Input should be an RFC 3339 date and time with a zone");
	*out = us;
	return true;
}

bool take_sha256(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct sha256 *out)
{
	struct str s;
	if (!string_of(c, at, r, g, &s))
		return false;
	if (!str_unhex(s, out->b, sizeof out->b))
		return refuse(c, at, r, g, "sha256", "Input should be a SHA-256 digest of 64 hexadecimal digits");
	return true;
}

bool take_rid(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct rid *out)
{
	struct str s;
	struct rid id;
	if (!string_of(c, at, r, g, &s))
		return false;
	if (r->word && str_eq(s, str_c(r->word)))
		return true;
	if (id_parse(s, &id) && (r->kinds >> id.kind & 1)) {
		*out = id;
		return true;
	}
	if (r->flags & RULE_PATH) {
		c->err = E_NOT_FOUND;
		return false;
	}
	return refuse(c, at, r, g, "id_parsing", "Input should be an id of the expected kind");
}

bool take_id(struct check *c, const struct loc *at, const struct rule *r, struct given g, int64_t *out)
{
	struct rid id = {0};
	if (!take_rid(c, at, r, g, &id))
		return false;
	*out = id.n;
	return true;
}

static struct str expected(struct arena *a, const struct rule *r)
{
	struct buf b = {0};
	for (size_t i = 0; i < r->n_names; i++)
		buf_fmt(&b, "%s'%.*s'", i == 0 ? "" : i + 1 == r->n_names ? " or " : ", ", STR_ARG(r->names[i]));
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

bool take_enum(struct check *c, const struct loc *at, const struct rule *r, struct given g, int *out)
{
	struct str s;
	if (!string_of(c, at, r, g, &s))
		return false;
	for (size_t i = 0; i < r->n_names; i++)
		if (str_eq(s, r->names[i])) {
			*out = (int)i + 1;
			return true;
		}
	check_fail(c, at, g, "enum", "Input should be %.*s", STR_ARG(expected(c->ctx->arena, r)));
	return false;
}

bool take_raw(struct check *c, const struct loc *at, const struct rule *r, struct given g, struct str *out)
{
	if (g.is_text || !g.json) {
		if (r->flags & RULE_REQUIRED)
			return refuse(c, at, r, g, "dict_type", "Input should be a valid dictionary");
		return false;
	}
	if (!of_type(g.json, JSON_OBJECT))
		return refuse(c, at, r, g, "dict_type", "Input should be a valid dictionary");
	struct buf b = {0};
	json_put_value(&b, g.json);
	bool fits = !r->max_bytes || b.n <= (size_t)r->max_bytes;
	if (fits)
		*out = arena_str(c->ctx->arena, buf_as_str(&b));
	else
		check_fail(c, at, given_json(NULL), "too_long", "The object should have at most %" PRId64 " bytes", r->max_bytes);
	buf_fini(&b);
	return fits;
}

bool take_object(struct check *c, const struct loc *at, const struct rule *r, struct json_object *v)
{
	if (of_type(v, JSON_OBJECT))
		return true;
	if (v || !r || (r->flags & RULE_REQUIRED))
		check_fail(c, at, given_json(v), "model_attributes_type", "Input should be a valid dictionary");
	return false;
}

bool take_array(struct check *c, const struct loc *at, const struct rule *r, struct json_object *v, size_t *n)
{
	*n = 0;
	if (!v && !(r->flags & RULE_REQUIRED))
		return false;
	if (!of_type(v, JSON_ARRAY)) {
		check_fail(c, at, given_json(v), "list_type", "Input should be a valid list");
		return false;
	}
	size_t len = json_len(v);
	if (len > (size_t)r->max || len < (size_t)r->min) {
		bool more = len > (size_t)r->max;
		check_fail(c, at, given_json(v), more ? "too_long" : "too_short", "List should have at %s %" PRId64 " items, not %zu",
		           more ? "most" : "least", more ? r->max : r->min, len);
		return false;
	}
	*n = len;
	return true;
}

bool take_body(struct check *c, struct str body, bool required, struct json_object **out)
{
	struct loc at = {NULL, "body", 0};
	*out = NULL;
	if (str_trim(body).n == 0) {
		if (required)
			check_fail(c, &at, given_json(NULL), "missing", "Field required");
		return false;
	}
	const char *why = json_parse(body, out);
	if (why)
		check_fail(c, &at, given_json(NULL), "json_invalid", "JSON decode error: %s", why);
	return !why;
}

void put_id(struct buf *b, enum id_kind kind, int64_t id)
{
	if (id == 0) {
		buf_lit(b, "null");
		return;
	}
	buf_char(b, '"');
	buf_id(b, kind, id);
	buf_char(b, '"');
}

void put_time(struct buf *b, int64_t us)
{
	buf_char(b, '"');
	buf_time(b, us);
	buf_char(b, '"');
}

void put_time_us(struct buf *b, int64_t us)
{
	buf_char(b, '"');
	buf_time_us(b, us);
	buf_char(b, '"');
}

void put_sha256(struct buf *b, const struct sha256 *h)
{
	char hex[66];
	hex[0] = hex[65] = '"';
	hex_encode(h->b, sizeof h->b, hex + 1);
	buf_put(b, hex, sizeof hex);
}

void api_mirror(struct buf *b, size_t from)
{
	must(b->n >= from + 2 && b->p[b->n - 1] == '}');
	size_t n = b->n - from;
	bool empty = n == 2;
	buf_reserve(b, n + 16);
	b->n--; /* the object stays open */
	buf_str(b, empty ? STR("\"data\":") : STR(",\"data\":"));
	size_t head = b->n;
	buf_put(b, b->p + from, n - 1); /* room is reserved: the source does not move */
	must(head + n - 1 == b->n);
	buf_lit(b, "}}");
}
