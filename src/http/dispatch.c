#include "http/dispatch.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "http/encode.h"
#include "http/exchange_priv.h"
#include "http/router.h"

struct http *http_new(const struct http_config *config)
{
	struct http *h = calloc(1, sizeof *h);
	must(h != NULL);
	h->config = *config;
	if (!h->config.retry_after_s)
		h->config.retry_after_s = 1;
	if (!h->config.pool_max)
		h->config.pool_max = 256;
	pthread_mutex_init(&h->lock, NULL);
	h->router = router_new(config->routes, config->n_routes);
	h->encoders = encoders_new();
	http_count_init(h);
	http_rates_init(h);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	must(atomic_load(&h->inflight) == 0);
	for (struct exchange *x = h->pool, *next; x; x = next) {
		next = x->next;
		arena_fini(&x->arena);
		buf_fini(&x->reply.body);
		buf_fini(&x->plain);
		free(x);
	}
	router_free(h->router);
	encoders_free(h->encoders);
	free(h->counts);
	rates_free(h->rates);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

struct metrics *http_metrics(struct http *h)
{
	return h->config.metrics;
}

size_t http_inflight(struct http *h)
{
	return atomic_load(&h->inflight);
}

struct exchange *exchange_new(struct http *h)
{
	pthread_mutex_lock(&h->lock);
	struct exchange *x = h->pool;
	if (x) {
		h->pool = x->next;
		h->pooled--;
	}
	pthread_mutex_unlock(&h->lock);
	atomic_fetch_add_explicit(&h->inflight, 1, memory_order_relaxed);
	if (!x) {
		x = calloc(1, sizeof *x);
		must(x != NULL);
		x->http = h;
		arena_init(&x->arena);
		rng_seeded_init(&x->ids, rng_u64(h->config.rng));
	}
	ctx_init(&x->ctx, &x->arena, h->config.clock, h->config.rng);
	x->ctx.drive = h->config.drive;
	x->req = (struct request){.http = h, .headers = x->in};
	x->begin_us = clock_mono(h->config.clock);
	return x;
}

/* Large buffers are not kept: one big reply must not stay resident for the life of the pool. */
static void buf_recycle(struct buf *b)
{
	if (b->cap > 64 << 10)
		buf_fini(b);
	else
		buf_clear(b);
}

void exchange_free(struct exchange *x)
{
	struct http *h = x->http;
	if (x->sink)
		x->sink->close(x->sink);
	if (x->reply.source)
		x->reply.source->close(x->reply.source);
	arena_reset(&x->arena);
	buf_recycle(&x->plain);
	buf_recycle(&x->reply.body);
	struct buf body = x->reply.body;
	x->reply = (struct reply){.body = body};
	x->sink = NULL;
	x->n_in = x->n_headers = 0;
	x->err = 0;
	x->body_max = 0;
	x->content_length = -1;
	x->chunked = x->authenticated = x->rated = x->finished = x->logged = false;
	atomic_fetch_sub(&h->inflight, 1);
	pthread_mutex_lock(&h->lock);
	if (h->pooled < h->config.pool_max) {
		x->next = h->pool;
		h->pool = x;
		h->pooled++;
		x = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	if (x) {
		arena_fini(&x->arena);
		buf_fini(&x->reply.body);
		buf_fini(&x->plain);
		free(x);
	}
}

bool exchange_header(struct exchange *x, struct str name, struct str value)
{
	if (x->n_in == REQUEST_HEADERS_MAX)
		return false;
	x->in[x->n_in++] = (struct http_header){name, value};
	return true;
}

/* An incoming request id is kept when it is short and plain, so that it can stand in logs and headers. */
static void name_request(struct exchange *x)
{
	struct str given = request_header(&x->req, STR("x-request-id"));
	bool sane = given.n > 0 && given.n <= 64;
	for (size_t i = 0; sane && i < given.n; i++) {
		char c = given.p[i];
		sane = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
		       c == '.';
	}
	if (sane) {
		x->ctx.request_id = given;
		return;
	}
	uint64_t n = rng_u64(&x->ids.base);
	memcpy(x->request_id, "req_", 4);
	hex_encode((const uint8_t *)&n, sizeof n, x->request_id + 4);
	x->ctx.request_id = str_n(x->request_id, 4 + 16);
}

/* Eight bytes at a time: the high bit of each byte that is below 0x20 or 0x7f (exact for "is there any": what a borrow
 * marks wrongly stands above a byte that is marked rightly). A token makes this loop worth its while. */
static uint64_t controls(const char *p)
{
	const uint64_t ones = 0x0101010101010101, highs = ones << 7;
	uint64_t v;
	memcpy(&v, p, sizeof v);
	uint64_t low = (v - ones * 0x20) & ~v, del = ((v ^ ones * 0x7f) - ones) & ~(v ^ ones * 0x7f);
	return (low | del) & highs;
}

/* No control characters but tabs. */
static bool plain_value(struct str s)
{
	size_t i = 0;
	while (i < s.n) {
		if (s.n - i >= 8 && !controls(s.p + i)) {
			i += 8;
			continue;
		}
		for (size_t end = s.n - i > 8 ? i + 8 : s.n; i < end; i++)
			if (((uint8_t)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f)
				return false;
	}
	return true;
}

/* A name with a blank ("Content-Length : 2") is another header to us and the same one to others. */
static bool plain_header(const struct http_header *h)
{
	for (size_t i = 0; i < h->name.n; i++)
		if ((uint8_t)h->name.p[i] <= 0x20 || (uint8_t)h->name.p[i] >= 0x7f)
			return false;
	return h->name.n > 0 && plain_value(h->value);
}

/* Two readers of one stream must never disagree about where a message ends (request smuggling), so every doubt is
 * refused: RFC 9112, 6.3. */
static int read_framing(struct exchange *x)
{
	bool have_length = false;
	x->content_length = -1;
	x->chunked = false;
	for (size_t i = 0; i < x->n_in; i++) {
		struct str name = x->in[i].name, value = x->in[i].value;
		if (!plain_header(&x->in[i]))
			return ctx_fail(&x->ctx, E_BAD_REQUEST, "A header is malformed.");
		if (str_ieq(name, STR("content-length"))) {
			if (have_length || !str_to_i64(value, &x->content_length) || x->content_length < 0)
				return ctx_fail(&x->ctx, E_BAD_REQUEST, "The Content-Length is malformed.");
			have_length = true;
		} else if (str_ieq(name, STR("transfer-encoding"))) {
			if (x->chunked || !str_ieq(value, STR("chunked")))
				return ctx_fail(&x->ctx, E_BAD_REQUEST, "The Transfer-Encoding is not supported.");
			x->chunked = true;
		}
	}
	if (have_length && x->chunked)
		return ctx_fail(&x->ctx, E_BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other.");
	return E_OK;
}

static struct str target_path(struct str target)
{
	struct str rest = target;
	if (str_starts(rest, STR("http://")))
		rest = str_skip(rest, 7);
	else if (str_starts(rest, STR("https://")))
		rest = str_skip(rest, 8);
	else
		return target;
	ptrdiff_t slash = str_chr(rest, '/');
	return slash < 0 ? STR("/") : str_skip(rest, (size_t)slash);
}

/* Fills x->req.route, or says why not. STEP_REPLY's reply for OPTIONS is made here too. */
static int find_route(struct exchange *x, bool *answered)
{
	struct request *req = &x->req;
	struct str allow = STR_NULL;
	switch (router_find(x->http->router, &x->arena, req->method, req->path, &req->route, req->params, &allow)) {
	case ROUTE_FOUND:
		return E_OK;
	case ROUTE_METHOD:
		reply_header(&x->reply, STR("Allow"), allow);
		if (req->method != HTTP_OPTIONS)
			return E_METHOD;
		x->reply.status = 204;
		*answered = true;
		return E_OK;
	case ROUTE_MALFORMED:
		return ctx_fail(&x->ctx, E_BAD_REQUEST, "The path is malformed.");
	case ROUTE_UNKNOWN:
		break;
	}
	return E_NOT_FOUND;
}

/* What the declared length and the route say before a byte of the body is read. */
static int check_body(struct exchange *x)
{
	const struct route *route = x->req.route;
	bool stream = route->kind == ROUTE_STREAM;
	if (stream && x->content_length < 0 && !x->chunked)
		return E_LENGTH_REQUIRED;
	if (stream && coding_parse(request_header(&x->req, STR("content-encoding"))) != CODING_IDENTITY)
		return ctx_fail(&x->ctx, E_MEDIA_TYPE, "This body is sent without a Content-Encoding.");
	x->body_max = route->body_max ? route->body_max : stream ? 0 : LIMIT_JSON_BODY_SMALL;
	if (x->body_max && x->content_length > 0 && (uint64_t)x->content_length > x->body_max)
		return E_TOO_LARGE;
	struct str key = request_header(&x->req, STR("idempotency-key"));
	if (key.n > LIMIT_IDEMPOTENCY_KEY_BYTES)
		return ctx_fail(&x->ctx, E_BAD_REQUEST, "The Idempotency-Key is too long.");
	x->ctx.idempotency_key = key.n ? key : STR_NULL;
	return E_OK;
}

enum exchange_step exchange_begin(struct exchange *x, struct str method, struct str target, struct str peer)
{
	struct request *req = &x->req;
	req->method = method_parse(method);
	req->peer = peer;
	req->n_headers = x->n_in;
	req->query = target_path(target);
	req->path = str_cut(&req->query, '?');
	name_request(x);
	bool answered = false;
	struct str decoded;
	int err = read_framing(x);
	if (!err)
		err = find_route(x, &answered);
	/* once, for all parameters: none may pass for absent because it cannot be read */
	if (!err && !answered && !percent_decode(&x->arena, req->query, false, &decoded))
		err = ctx_fail(&x->ctx, E_BAD_REQUEST, "The query is malformed.");
	if (!err && !answered)
		err = check_body(x);
	if (err || answered) {
		exchange_finish(x, err);
		return STEP_REPLY;
	}
	x->ctx.operation = str_c(req->route->operation);
	switch (req->route->kind) {
	case ROUTE_STREAM:
		return STEP_STREAM;
	case ROUTE_SOCKET:
		return STEP_SOCKET;
	default:
		return STEP_RUN;
	}
}

static struct str bearer_token(struct exchange *x)
{
	struct str value = request_header(&x->req, STR("authorization"));
	struct str scheme = str_cut(&value, ' ');
	if (str_ieq(scheme, STR("bearer")))
		return str_trim(value);
	if (x->req.route->kind == ROUTE_SOCKET && !scheme.p)
		return request_query(&x->req, &x->arena, "token");
	return STR_NULL;
}

static int authenticate(struct exchange *x)
{
	if (x->authenticated || x->req.route->anonymous)
		return E_OK;
	struct authenticator *auth = x->http->config.auth;
	struct str token = bearer_token(x);
	if (!token.n)
		return ctx_fail(&x->ctx, E_UNAUTHENTICATED, "Not authenticated.");
	if (token.n > LIMIT_TOKEN_BYTES || !auth)
		return E_UNAUTHENTICATED;
	int err = auth->verify(auth, &x->ctx, token);
	x->authenticated = err == E_OK;
	return !err && x->http->rates ? exchange_charge(x, token) : err;
}

int exchange_open(struct exchange *x)
{
	int err = authenticate(x);
	if (!err && x->req.route->kind == ROUTE_STREAM && !x->sink)
		err = x->req.route->stream(&x->ctx, &x->req, &x->sink);
	if (err)
		exchange_finish(x, err);
	return err;
}

static int inflate_body(struct exchange *x, struct str *body)
{
	enum coding c = coding_parse(request_header(&x->req, STR("content-encoding")));
	if (c == CODING_IDENTITY)
		return E_OK;
	if (c == CODING_UNKNOWN)
		return ctx_fail(&x->ctx, E_MEDIA_TYPE, "The Content-Encoding is not supported; use gzip, zstd or none.");
	buf_clear(&x->plain);
	int err = decode(c, *body, x->body_max, &x->plain);
	if (err == E_BAD_REQUEST)
		ctx_fail(&x->ctx, err, "The body does not match its Content-Encoding.");
	*body = buf_as_str(&x->plain);
	return err;
}

void exchange_run(struct exchange *x, struct str body)
{
	int err = authenticate(x);
	if (!err && body.n > x->body_max)
		err = E_TOO_LARGE;
	if (!err && body.n)
		err = inflate_body(x, &body);
	if (!err) {
		x->req.body = body;
		err = x->req.route->handle(&x->ctx, &x->req, &x->reply);
	}
	exchange_finish(x, err);
}

int exchange_feed(struct exchange *x, const void *p, size_t n)
{
	int err = x->sink->feed(x->sink, &x->ctx, p, n);
	if (err)
		exchange_finish(x, err);
	return err;
}

void exchange_end(struct exchange *x)
{
	int err = x->sink->end(x->sink, &x->ctx, &x->reply);
	x->sink->close(x->sink); /* now, in the lane: whoever frees the exchange may be a network thread */
	x->sink = NULL;
	exchange_finish(x, err);
}

uint16_t socket_code(int err)
{
	switch (err_info(err)->status) {
	case 200:
		return 1000;
	case 400:
	case 422:
		return 1008;
	case 401:
		return 4401;
	case 403:
		return 4403;
	case 404:
		return 4404;
	case 429:
	case 503:
		return 1013;
	default:
		return 1011;
	}
}

struct socket_session *exchange_socket(struct exchange *x, uint16_t *close_code)
{
	struct socket_session *session = NULL;
	int err = authenticate(x);
	if (!err)
		err = x->req.route->socket(&x->ctx, &x->req, &session);
	x->err = err;
	x->reply.status = 101;
	*close_code = socket_code(err);
	must(err != E_OK || session != NULL);
	return err ? NULL : session;
}

void exchange_fail(struct exchange *x, int err)
{
	must(!x->finished);
	exchange_finish(x, err);
}

struct exchange *http_dispatch(struct http *h, struct str method, struct str target, const struct http_header *headers,
                               size_t n_headers, struct str body, struct str peer)
{
	struct exchange *x = exchange_new(h);
	bool fits = true;
	for (size_t i = 0; i < n_headers; i++)
		fits = fits && exchange_header(x, headers[i].name, headers[i].value);
	enum exchange_step step = exchange_begin(x, method, target, peer);
	if (!fits && step != STEP_REPLY)
		exchange_fail(x, E_HEADERS_TOO_LARGE);
	else if (step == STEP_RUN)
		exchange_run(x, body);
	else if (step == STEP_SOCKET)
		exchange_fail(x, E_BAD_REQUEST);
	else if (step == STEP_STREAM && !exchange_open(x) && (!body.n || !exchange_feed(x, body.p, body.n)))
		exchange_end(x);
	exchange_done(x, x->reply.source ? x->reply.source->length : (int64_t)x->reply.body.n, false);
	return x;
}
