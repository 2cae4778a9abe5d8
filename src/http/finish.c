/* The end of an exchange: errors become JSON here and nowhere else, every reply gets its standard headers, and what
 * happened is counted and logged. */
#include <stdlib.h>

#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/must.h"
#include "http/encode.h"
#include "http/exchange_priv.h"
#include "http/router.h"

static void header(struct exchange *x, struct str name, struct str value)
{
	must(x->n_headers < EXCHANGE_HEADERS_MAX);
	x->headers[x->n_headers++] = (struct http_header){name, value};
}

static bool has_header(const struct exchange *x, struct str name)
{
	for (size_t i = 0; i < x->n_headers; i++)
		if (str_ieq(x->headers[i].name, name))
			return true;
	return false;
}

/* Seconds; 0: the error is none that passes. */
static int retry_after(const struct exchange *x)
{
	if (x->reply.status != 429 && x->reply.status != 503)
		return 0;
	return x->ctx.retry_after_s ? x->ctx.retry_after_s : x->http->config.retry_after_s;
}

/* {"detail": sentence or field problems, "error": {"code", "message"}, "meta": {"request_id"}} (D26). What went wrong
 * inside is for the log, not for the caller. */
static void error_body(struct exchange *x, int err)
{
	const struct err_info *info = err_info(err);
	struct str sentence = ctx_detail(&x->ctx, err);
	if (info->status == 500) {
		log_error("request failed", LOG_S("request_id", x->ctx.request_id), LOG_C("error", info->symbol),
		          LOG_S("detail", sentence), LOG_S("operation", x->ctx.operation));
		sentence = str_c(info->sentence);
	}
	if (x->reply.source)
		x->reply.source->close(x->reply.source);
	x->reply.source = NULL;
	x->reply.status = info->status;
	x->reply.content_type = STR_NULL;
	struct buf *b = &x->reply.body;
	buf_clear(b);
	buf_lit(b, "{\"detail\":");
	if (err == E_INVALID && x->ctx.err == err && x->ctx.invalid.n)
		buf_str(b, x->ctx.invalid);
	else
		json_put_str(b, sentence);
	buf_lit(b, ",\"error\":{\"code\":");
	json_put_str(b, str_c(info->code));
	buf_lit(b, ",\"message\":");
	json_put_str(b, sentence);
	if (retry_after(x))
		buf_fmt(b, ",\"retry_after\":%d", retry_after(x));
	if (err == E_RATE_LIMITED && x->rated && x->rate.refused)
		rate_details(x, b);
	buf_lit(b, "},\"meta\":{\"request_id\":");
	json_put_str(b, x->ctx.request_id);
	buf_lit(b, "}}");
}

static void error_headers(struct exchange *x)
{
	int status = x->reply.status;
	if (status == 401) {
		bool given = request_header(&x->req, STR("authorization")).n > 0;
		header(x, STR("WWW-Authenticate"),
		       given ? STR("Bearer realm=\"scaidrive\", error=\"invalid_token\"") : STR("Bearer realm=\"scaidrive\""));
	}
	if (retry_after(x) && !has_header(x, STR("retry-after")))
		header(x, STR("Retry-After"), arena_fmt(&x->arena, "%d", retry_after(x)));
}

/* Large text is compressed when the client can read it (D18). */
static void compress(struct exchange *x)
{
	struct reply *r = &x->reply;
	bool text = str_starts(r->content_type, STR("application/json")) || str_starts(r->content_type, STR("text/"));
	if (r->source || !text || r->body.n <= ENCODE_MIN || has_header(x, STR("content-encoding")))
		return;
	header(x, STR("Vary"), STR("Accept-Encoding"));
	enum coding c = coding_accepted(request_header(&x->req, STR("accept-encoding")));
	if (c == CODING_IDENTITY)
		return;
	struct buf packed = {0};
	if (encode(x->http->encoders, c, buf_as_str(&r->body), &packed)) {
		struct buf plain = r->body;
		r->body = packed;
		packed = plain;
		header(x, STR("Content-Encoding"), str_c(coding_name(c)));
	}
	buf_fini(&packed);
}

void exchange_finish(struct exchange *x, int err)
{
	struct reply *r = &x->reply;
	must(!x->finished);
	x->finished = true;
	x->err = err;
	if (err)
		error_body(x, err);
	else if (!r->status)
		r->status = x->req.route && x->req.route->status ? x->req.route->status : 200;
	must(r->status >= 100 && r->status < 600);
	bool bodyless = r->status == 204 || r->status == 304 || r->status < 200;
	if (bodyless)
		buf_clear(&r->body);
	if (!r->content_type.n)
		r->content_type = STR("application/json");
	for (size_t i = 0; i < r->n_headers; i++)
		header(x, r->headers[i].name, r->headers[i].value);
	if (!bodyless)
		header(x, STR("Content-Type"), r->content_type);
	if (err)
		error_headers(x);
	header(x, STR("X-Request-Id"), x->ctx.request_id);
	if (x->rated) {
		struct http_header rate[3];
		rate_headers(x, rate);
		for (int i = 0; i < 3; i++)
			header(x, rate[i].name, rate[i].value);
	}
	if (!has_header(x, STR("cache-control")))
		header(x, STR("Cache-Control"), STR("private, no-store"));
	header(x, STR("X-Content-Type-Options"), STR("nosniff"));
	header(x, STR("Referrer-Policy"), STR("no-referrer"));
	compress(x);
}

/* ---- counting and logging ---- */

static void write_route(struct http *h, struct buf *out, const char *name, size_t i, bool durations)
{
	struct http_count *c = &h->counts[i];
	bool matched = i < h->config.n_routes;
	struct buf labels = {0};
	metrics_label(&labels, "method", str_c(matched ? method_name(h->config.routes[i].method) : "-"));
	metrics_label(&labels, "path", str_c(matched ? h->config.routes[i].template : "-"));
	size_t base = labels.n;
	bool any = false;
	for (int s = 0; s < 500; s++) {
		uint64_t n = atomic_load_explicit(&c->status[s], memory_order_relaxed);
		if (!n)
			continue;
		any = true;
		if (durations)
			break;
		labels.n = base;
		buf_fmt(&labels, ",status=\"%d\"", s + 100);
		metrics_sample(out, name, buf_as_str(&labels), (int64_t)n);
	}
	if (durations && any)
		metrics_sample_histogram(out, name, buf_as_str(&labels), &c->duration);
	buf_fini(&labels);
}

static void write_totals(struct buf *out, const char *name, void *arg)
{
	struct http *h = arg;
	for (size_t i = 0; i <= h->config.n_routes; i++)
		write_route(h, out, name, i, false);
}

static void write_durations(struct buf *out, const char *name, void *arg)
{
	struct http *h = arg;
	for (size_t i = 0; i <= h->config.n_routes; i++)
		write_route(h, out, name, i, true);
}

static int64_t read_inflight(void *arg)
{
	return (int64_t)http_inflight(arg);
}

void http_count_init(struct http *h)
{
	h->counts = calloc(h->config.n_routes + 1, sizeof *h->counts);
	must(h->counts != NULL);
	struct metrics *m = h->config.metrics;
	if (!m)
		return;
	metrics_family(m, "scaidrive_requests_total", METRIC_COUNTER, "Requests by route and status.", write_totals, h);
	metrics_family(m, "scaidrive_request_duration_seconds", METRIC_HISTOGRAM, "Time from the headers to the reply.",
	               write_durations, h);
	metrics_gauge(m, "scaidrive_requests_in_flight", "Requests being served.", NULL, read_inflight, h);
}

int64_t exchange_user_id(const struct exchange *x)
{
	struct authenticator *auth = x->http->config.auth;
	return x->ctx.who && auth && auth->user_id ? auth->user_id(auth, x->ctx.who) : 0;
}

struct str exchange_user(const struct exchange *x, char room[ID_WIRE_MAX + 1])
{
	int64_t id = exchange_user_id(x);
	return str_n(room, id > 0 ? id_format(room, ID_USER, id) : 0);
}

static void access_log(struct exchange *x, int64_t sent_bytes, int64_t duration_us, bool aborted)
{
	const struct route *route = x->req.route;
	/* the path of a public route may hold a secret (a link's token): its template says enough */
	struct str path = route && route->anonymous ? str_c(route->template) : str_head(x->req.path, 512);
	char user[ID_WIRE_MAX + 1];
	log_info("request", LOG_S("request_id", x->ctx.request_id), LOG_C("method", method_name(x->req.method)),
	         LOG_C("route", route ? route->template : "-"), LOG_S("path", path), LOG_I("status", x->reply.status),
	         LOG_I("bytes", sent_bytes), LOG_I("duration_us", duration_us), LOG_S("user", exchange_user(x, user)),
	         LOG_S("peer", x->req.peer), LOG_I("aborted", aborted));
}

void exchange_done(struct exchange *x, int64_t sent_bytes, bool aborted)
{
	if (x->logged)
		return;
	x->logged = true;
	struct http *h = x->http;
	int64_t duration_us = clock_mono(h->config.clock) - x->begin_us;
	int status = x->reply.status;
	if (h->config.metrics && status >= 100 && status < 600) {
		size_t i = x->req.route ? (size_t)(x->req.route - h->config.routes) : h->config.n_routes;
		atomic_fetch_add_explicit(&h->counts[i].status[status - 100], 1, memory_order_relaxed);
		histogram_add(&h->counts[i].duration, duration_us);
	}
	if (h->config.access_log)
		access_log(x, sent_bytes, duration_us, aborted);
}
