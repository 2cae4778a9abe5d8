#include "http/multipart.h"

#include "base/buf.h"
#include "http/router.h"

enum state { PREAMBLE, AFTER_MARK, HEADERS, DATA, EPILOGUE, BROKEN };

struct multipart {
	struct ctx *ctx;
	struct multipart_events events;
	void *arg;
	enum state state;
	char mark[4 + MULTIPART_BOUNDARY_MAX]; /* CR LF - - boundary: CR stands only at its head */
	size_t mark_n, matched;
	char tail[2];                          /* what follows the mark */
	size_t tail_n, preamble_n;
	int parts, err;
	struct buf head;
};

/* ---- header values ---- */

static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = (uint8_t)s.p[i];
		if (c <= 0x20 || c >= 0x7f || strchr("()<>@,;:\\\"/[]?=", c))
			return false;
	}
	return s.n > 0;
}

static bool is_escape(struct str s, size_t i)
{
	return s.p[i] == '\\' && i + 1 < s.n && (s.p[i + 1] == '"' || s.p[i + 1] == '\\');
}

/* A quoted-string at the head of *s, unescaped; *s moves behind it. Only \" and \\ are escapes: old clients send paths
 * with bare backslashes. */
static bool take_quoted(struct arena *a, struct str *s, struct str *out)
{
	size_t end = 1, n = 0;
	while (end < s->n && s->p[end] != '"')
		end += is_escape(*s, end) ? 2 : 1;
	if (end >= s->n)
		return false;
	char *p = arena_alloc(a, end);
	for (size_t i = 1; i < end; i++) {
		i += is_escape(*s, i);
		p[n++] = s->p[i];
	}
	*out = str_n(p, n);
	*s = str_skip(*s, end + 1);
	return true;
}

static bool take_param(struct arena *a, struct str *rest, struct str *key, struct str *value)
{
	*rest = str_trim(*rest);
	size_t i = 0;
	while (i < rest->n && rest->p[i] != '=' && rest->p[i] != ';')
		i++;
	if (i == rest->n || rest->p[i] != '=')
		return false;
	*key = str_trim(str_head(*rest, i));
	*rest = str_trim(str_skip(*rest, i + 1));
	if (!is_token(*key))
		return false;
	if (rest->n && rest->p[0] == '"') {
		if (!take_quoted(a, rest, value))
			return false;
	} else {
		for (i = 0; i < rest->n && rest->p[i] != ';';)
			i++;
		*value = str_trim(str_head(*rest, i));
		*rest = str_skip(*rest, i);
	}
	*rest = str_trim(*rest);
	if (rest->n && rest->p[0] != ';')
		return false;
	*rest = str_skip(*rest, 1);
	return true;
}

/* UTF-8'language'percent-encoded (RFC 8187); STR_NULL: anything else. */
static struct str decode_extended(struct arena *a, struct str value)
{
	struct str rest = value, out;
	struct str charset = str_cut(&rest, '\'');
	str_cut(&rest, '\'');
	if (!rest.p || !str_ieq(charset, STR("UTF-8")) || !percent_decode(a, rest, false, &out))
		return STR_NULL;
	return out;
}

/* False when the value is malformed, a parameter comes twice, or it comes in an extended form alone that cannot be read. */
static bool find_param(struct arena *a, struct str value, const char *name, struct str *out)
{
	struct str rest = value, key, v, plain = STR_NULL, extended = STR_NULL, want = str_c(name);
	bool has_extended = false;
	str_cut(&rest, ';');
	rest = rest.p ? str_trim(rest) : rest;
	while (rest.n) {
		if (!take_param(a, &rest, &key, &v))
			return false;
		if (str_ieq(key, want)) {
			if (plain.p)
				return false;
			plain = v;
		} else if (key.n == want.n + 1 && key.p[want.n] == '*' && str_ieq(str_head(key, want.n), want)) {
			if (has_extended)
				return false;
			has_extended = true;
			extended = decode_extended(a, v);
		}
		rest = str_trim(rest);
	}
	*out = extended.p ? extended : plain;
	return out->p || !has_extended;
}

struct str header_param(struct arena *a, struct str value, const char *name)
{
	struct str out = STR_NULL;
	return find_param(a, value, name, &out) ? out : STR_NULL;
}

static struct str header_main(struct str value)
{
	return str_trim(str_cut(&value, ';'));
}

/* ---- the parser ---- */

int multipart_new(struct ctx *ctx, struct str content_type, const struct multipart_events *events, void *arg,
                  struct multipart **out)
{
	if (!str_ieq(header_main(content_type), STR("multipart/form-data")))
		return ctx_fail(ctx, E_MEDIA_TYPE, "The content type must be multipart/form-data.");
	struct str boundary = header_param(ctx->arena, content_type, "boundary");
	bool valid = boundary.n > 0 && boundary.n <= MULTIPART_BOUNDARY_MAX && boundary.p[boundary.n - 1] != ' ';
	for (size_t i = 0; valid && i < boundary.n; i++)
		valid = (uint8_t)boundary.p[i] >= 0x20 && (uint8_t)boundary.p[i] < 0x7f;
	if (!valid)
		return ctx_fail(ctx, E_BAD_REQUEST, "The multipart boundary is missing or malformed.");
	struct multipart *m = arena_new(ctx->arena, struct multipart);
	m->ctx = ctx;
	m->events = *events;
	m->arg = arg;
	memcpy(m->mark, "\r\n--", 4);
	memcpy(m->mark + 4, boundary.p, boundary.n);
	m->mark_n = 4 + boundary.n;
	m->matched = 2; /* the first mark needs no line end before it */
	*out = m;
	return E_OK;
}

void multipart_free(struct multipart *m)
{
	if (m)
		buf_fini(&m->head);
}

static int broken(struct multipart *m, const char *why)
{
	m->state = BROKEN;
	m->err = ctx_fail(m->ctx, E_BAD_REQUEST, "The multipart body is malformed: %s.", why);
	return m->err;
}

static int event(struct multipart *m, int err)
{
	if (err) {
		m->state = BROKEN;
		m->err = err;
	}
	return err;
}

static int emit(struct multipart *m, const char *p, size_t n)
{
	if (!n)
		return E_OK;
	if (m->state == DATA)
		return event(m, m->events.on_data(m->arg, p, n));
	m->preamble_n += n;
	return m->preamble_n > MULTIPART_HEADER_MAX ? broken(m, "no boundary") : E_OK;
}

/* Data up to the next mark. A mark that turns out to be none is data: its bytes are those of m->mark. */
static int feed_data(struct multipart *m, const char **p, const char *end)
{
	const char *from = *p, *at = *p;
	while (at < end) {
		if (m->matched == 0) {
			at = memchr(at, '\r', (size_t)(end - at));
			if (!at) {
				*p = end;
				return emit(m, from, (size_t)(end - from));
			}
			if (emit(m, from, (size_t)(at - from)))
				return m->err;
			from = ++at;
			m->matched = 1;
			continue;
		}
		if (*at == m->mark[m->matched]) {
			from = ++at;
			if (++m->matched < m->mark_n)
				continue;
			bool data = m->state == DATA;
			m->matched = m->tail_n = 0;
			m->state = AFTER_MARK;
			*p = at;
			return data ? event(m, m->events.on_part_end(m->arg)) : E_OK;
		}
		size_t held = m->matched;
		m->matched = 0;
		/* at the very beginning CR LF of the mark were only imagined */
		size_t imagined = m->state == PREAMBLE && !m->preamble_n ? 2 : 0;
		m->preamble_n += m->state == PREAMBLE;
		if (held > imagined && emit(m, m->mark + imagined, held - imagined))
			return m->err;
		from = at;
	}
	*p = end;
	return E_OK;
}

static int feed_tail(struct multipart *m, const char **p, const char *end)
{
	while (*p < end && m->tail_n < 2) {
		char c = *(*p)++;
		if (m->tail_n == 0 && (c == ' ' || c == '\t')) /* padding */
			continue;
		m->tail[m->tail_n++] = c;
	}
	if (m->tail_n < 2)
		return E_OK;
	if (m->tail[0] == '-' && m->tail[1] == '-') {
		m->state = EPILOGUE;
	} else if (m->tail[0] == '\r' && m->tail[1] == '\n') {
		if (++m->parts > MULTIPART_PART_MAX)
			return broken(m, "too many parts");
		m->state = HEADERS;
		buf_clear(&m->head);
	} else {
		return broken(m, "a boundary is followed by other text");
	}
	return E_OK;
}

static int read_header(struct multipart *m, struct str line, struct multipart_part *part)
{
	struct str value = line, name = str_cut(&value, ':');
	if (!value.p || !is_token(name))
		return broken(m, "a part has a malformed header");
	for (size_t i = 0; i < value.n; i++)
		if (((uint8_t)value.p[i] < 0x20 && value.p[i] != '\t') || value.p[i] == 0x7f)
			return broken(m, "a header contains a control character");
	value = str_trim(value);
	if (str_ieq(name, STR("content-type"))) {
		part->content_type = value;
	} else if (str_ieq(name, STR("content-encoding"))) {
		part->content_encoding = value;
	} else if (str_ieq(name, STR("content-disposition"))) {
		if (part->name.p || !str_ieq(header_main(value), STR("form-data")) ||
		    !find_param(m->ctx->arena, value, "name", &part->name) ||
		    !find_param(m->ctx->arena, value, "filename", &part->filename))
			return broken(m, "a Content-Disposition is malformed");
	}
	return E_OK;
}

static int read_headers(struct multipart *m)
{
	struct multipart_part part = {0};
	struct str rest = str_n(m->head.p, m->head.n - 2); /* without the empty line */
	while (rest.n) {
		const char *eol = memmem(rest.p, rest.n, "\r\n", 2);
		struct str line = str_head(rest, eol ? (size_t)(eol - rest.p) : rest.n);
		rest = str_skip(rest, line.n + 2);
		if (read_header(m, line, &part))
			return m->err;
	}
	if (!part.name.p)
		return broken(m, "a part has no name");
	m->state = DATA;
	m->matched = 0;
	return event(m, m->events.on_part(m->arg, &part));
}

static int feed_headers(struct multipart *m, const char **p, const char *end)
{
	while (*p < end) {
		const char *eol = memchr(*p, '\n', (size_t)(end - *p));
		size_t n = (size_t)((eol ? eol + 1 : end) - *p);
		if (n > MULTIPART_HEADER_MAX - m->head.n)
			return broken(m, "a part's headers are too large");
		buf_put(&m->head, *p, n);
		*p += n;
		struct str h = buf_as_str(&m->head);
		if (str_eq(h, STR("\r\n")) || str_ends(h, STR("\r\n\r\n")))
			return read_headers(m);
	}
	return E_OK;
}

int multipart_feed(struct multipart *m, const void *data, size_t n)
{
	const char *p = data, *end = p + n;
	int err = m->err;
	while (p < end && !err) {
		if (m->state == PREAMBLE || m->state == DATA)
			err = feed_data(m, &p, end);
		else if (m->state == AFTER_MARK)
			err = feed_tail(m, &p, end);
		else if (m->state == HEADERS)
			err = feed_headers(m, &p, end);
		else
			break; /* the epilogue is ignored */
	}
	return err;
}

int multipart_end(struct multipart *m)
{
	if (m->err)
		return m->err;
	return m->state == EPILOGUE ? E_OK : broken(m, "it ends before its last boundary");
}
