/* What libmicrohttpd calls, and the way of a request without streaming. See server_priv.h for who owns what. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "http/server_priv.h"
#include "http/socket.h"

/* ---- flights ---- */

bool flight_suspend(struct flight *f)
{
	struct http_server *s = f->server;
	atomic_fetch_add(&s->suspended, 1);
	if (atomic_load(&s->cutting)) {
		atomic_fetch_sub(&s->suspended, 1);
		return false;
	}
	MHD_suspend_connection(f->con);
	return true;
}

void flight_resume(struct flight *f)
{
	struct http_server *s = f->server;
	MHD_resume_connection(f->con);
	atomic_fetch_sub(&s->suspended, 1);
}

struct flight *flight_ref(struct flight *f)
{
	atomic_fetch_add(&f->refs, 1);
	return f;
}

static void inactive(struct flight *f)
{
	if (f->counted)
		atomic_fetch_sub(&f->server->active, 1);
	f->counted = false;
}

static void flight_free(void *arg)
{
	struct flight *f = arg;
	struct http_server *s = f->server;
	if (f->session)
		socket_unref(f->session);
	if (f->x) {
		exchange_done(f->x, f->sent, f->aborted);
		exchange_free(f->x);
	}
	slab_put(s, &f->slab[0]);
	slab_put(s, &f->slab[1]);
	buf_fini(&f->body);
	pthread_mutex_destroy(&f->lock);
	inactive(f);
	free(f);
	atomic_fetch_sub(&s->flights, 1); /* last: the server may be freed now */
}

void flight_unref(struct flight *f)
{
	if (atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	/* sinks, sources and sessions may block when they are closed */
	bool heavy = f->session || (f->x && (f->x->sink || f->x->reply.source));
	if (!heavy || lane_continue(f->server->config.bulk, flight_free, f))
		flight_free(f);
}

size_t slab_size(struct http_server *s)
{
	return atomic_load(&s->slab_bytes) < SLABS_MEMORY ? SLAB : SLAB_SHORT;
}

void slab_get(struct http_server *s, struct slab *slab, int64_t n)
{
	size_t most = n <= SMALL_BODY ? SMALL_BODY : slab_size(s);
	slab->n = slab->at = 0;
	slab->cap = n < (int64_t)most ? (size_t)n : most;
	atomic_fetch_add(&s->slab_bytes, (int64_t)slab->cap);
	if (slab->cap == SLAB) {
		pthread_mutex_lock(&s->slab_lock);
		slab->p = s->n_slabs ? s->slabs[--s->n_slabs] : NULL;
		pthread_mutex_unlock(&s->slab_lock);
	}
	if (!slab->p)
		slab->p = malloc(slab->cap ? slab->cap : 1);
	must(slab->p != NULL);
}

void slab_put(struct http_server *s, struct slab *slab)
{
	if (slab->in_arena)
		slab->p = NULL;
	if (slab->p)
		atomic_fetch_sub(&s->slab_bytes, (int64_t)slab->cap);
	if (slab->p && slab->cap == SLAB) {
		pthread_mutex_lock(&s->slab_lock);
		if (s->n_slabs < SLABS_KEPT) {
			s->slabs[s->n_slabs++] = slab->p;
			slab->p = NULL;
		}
		pthread_mutex_unlock(&s->slab_lock);
	}
	free(slab->p);
	*slab = (struct slab){0};
}

/* ---- replies ---- */

static void add_header(struct MHD_Response *r, struct str name, struct str value, struct arena *a)
{
	char n[64], v[256];
	must(name.n < sizeof n);
	memcpy(n, name.p, name.n);
	n[name.n] = 0;
	if (value.n >= sizeof v) {
		MHD_add_response_header(r, n, arena_cstr(a, value));
		return;
	}
	if (value.n)
		memcpy(v, value.p, value.n);
	v[value.n] = 0;
	MHD_add_response_header(r, n, v);
}

static ssize_t no_bytes(void *cls, uint64_t at, char *out, size_t n)
{
	(void)cls;
	(void)at;
	(void)out;
	(void)n;
	return MHD_CONTENT_READER_END_WITH_ERROR;
}

void flight_respond(struct flight *f)
{
	struct exchange *x = f->x;
	if (!x->reply.source) {
		f->sent = (int64_t)x->reply.body.n;
		exchange_done(x, f->sent, false);
	}
	f->state = FLIGHT_READY;
}

/* On the network thread, which also frees it: its two dozen allocations come from the thread's own cache. */
static struct MHD_Response *make_response(struct flight *f)
{
	struct exchange *x = f->x;
	struct buf *body = &x->reply.body;
	struct MHD_Response *r;
	if (x->reply.source)
		r = stream_response(f);
	else if (x->reply.status == 304) /* its Content-Length is that of the content (RFC 9110, 8.6) */
		r = MHD_create_response_from_callback((uint64_t)x->reply.content_bytes, 1, no_bytes, NULL, NULL);
	else
		r = MHD_create_response_from_buffer(body->n, body->p, MHD_RESPMEM_PERSISTENT);
	must(r != NULL);
	for (size_t i = 0; i < x->n_headers; i++)
		add_header(r, x->headers[i].name, x->headers[i].value, &x->arena);
	if (f->close_after || atomic_load(&f->server->stopping))
		MHD_add_response_header(r, "Connection", "close");
	return r;
}

static enum MHD_Result send_reply(struct flight *f)
{
	struct MHD_Response *r = f->response ? f->response : make_response(f);
	f->response = NULL;
	f->state = FLIGHT_QUEUED;
	enum MHD_Result result = MHD_queue_response(f->con, (unsigned)f->x->reply.status, r);
	MHD_destroy_response(r);
	return result;
}

void flight_answer(struct flight *f)
{
	if (transfer_answer(f))
		return;
	flight_respond(f);
	flight_resume(f);
}

enum MHD_Result flight_to_lane(struct flight *f, struct lane *lane, lane_fn *fn)
{
	if (!flight_suspend(f))
		return MHD_NO;
	if (lane_submit(lane, fn, f)) {
		exchange_fail(f->x, E_BUSY);
		flight_respond(f);
		flight_resume(f);
	}
	return MHD_YES;
}

/* ---- jobs ---- */

static void run_job(void *arg)
{
	struct flight *f = arg;
	exchange_run(f->x, buf_as_str(&f->body));
	flight_answer(f);
}

/* Is it better to refuse the body at once than to read it? One that is too long, or whose sender waits to be told. */
static bool unread(const struct exchange *x)
{
	return x->chunked || x->content_length > DRAIN_REFUSED || str_ieq(request_header(&x->req, STR("expect")), STR("100-continue"));
}

/* Before a large body: may it come at all? */
static void open_job(void *arg)
{
	struct flight *f = arg;
	f->failed = exchange_open(f->x) != 0;
	f->close_after = f->failed;
	if (f->failed && unread(f->x)) {
		flight_respond(f);
	} else {
		f->state = FLIGHT_BODY;
		f->opened = true;
	}
	flight_resume(f);
}

static void on_upgrade(void *cls, struct MHD_Connection *con, void *slot, const char *extra, size_t n, MHD_socket fd,
                       struct MHD_UpgradeResponseHandle *urh);

static void socket_job(void *arg)
{
	struct flight *f = arg;
	f->session = exchange_socket(f->x, &f->close_code);
	struct MHD_Response *r = MHD_create_response_for_upgrade(on_upgrade, f);
	must(r != NULL);
	MHD_add_response_header(r, "Upgrade", "websocket");
	MHD_add_response_header(r, "Sec-WebSocket-Accept", f->accept);
	add_header(r, STR("X-Request-Id"), f->x->ctx.request_id, &f->x->arena);
	exchange_done(f->x, 0, false);
	f->response = r;
	f->state = FLIGHT_READY;
	flight_resume(f);
}

static void let_go(void *arg)
{
	MHD_upgrade_action(arg, MHD_UPGRADE_ACTION_CLOSE);
}

static void on_upgrade(void *cls, struct MHD_Connection *con, void *slot, const char *extra, size_t n, MHD_socket fd,
                       struct MHD_UpgradeResponseHandle *urh)
{
	struct flight *f = cls;
	(void)con;
	(void)slot;
	struct http_server *s = f->server;
	exchange_free(f->x); /* an idle socket keeps no request memory */
	f->x = NULL;
	pthread_mutex_lock(&s->reactor_lock);
	if (!s->reactor) {
		let_go(urh); /* stopped meanwhile; the session goes with the flight */
	} else if (f->session) {
		reactor_adopt(s->reactor, f->session, fd, str_n(extra, n), let_go, urh);
		f->session = NULL;
	} else {
		reactor_reject(s->reactor, fd, f->close_code, let_go, urh);
	}
	pthread_mutex_unlock(&s->reactor_lock);
	inactive(f);
}

/* ---- what MHD calls ---- */

void *on_target(void *cls, const char *target, struct MHD_Connection *con)
{
	struct http_server *s = cls;
	struct flight *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->server = s;
	f->con = con;
	atomic_init(&f->refs, 1);
	pthread_mutex_init(&f->lock, NULL);
	f->x = exchange_new(s->config.http);
	f->target = arena_str(&f->x->arena, str_c(target));
	f->counted = true;
	atomic_fetch_add(&s->active, 1);
	atomic_fetch_add(&s->flights, 1);
	return f;
}

void on_connection(void *cls, struct MHD_Connection *con, void **slot, enum MHD_ConnectionNotificationCode what)
{
	(void)cls;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		free(*slot);
		return;
	}
	struct intake *in = *slot = malloc(sizeof *in);
	must(in != NULL);
	in->used_bytes = transfer_read_bytes(MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
}

/* The request's head, and its body if that is not too chopped to tell. */
static void note_intake(struct flight *f)
{
	struct intake *in = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	size_t head = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
	int64_t body = f->x->content_length > 0 ? f->x->content_length : 0;
	if (f->x->chunked || in->used_bytes < 0 || body > LIMIT_CONTENT_BYTES)
		in->used_bytes = -1;
	else
		in->used_bytes += (int64_t)head + body;
}

void on_completed(void *cls, struct MHD_Connection *con, void **slot, enum MHD_RequestTerminationCode why)
{
	struct flight *f = *slot;
	(void)cls;
	(void)con;
	*slot = NULL;
	if (!f)
		return;
	f->aborted = why != MHD_REQUEST_TERMINATED_COMPLETED_OK;
	if (f->response) {
		MHD_destroy_response(f->response);
		f->response = NULL;
	}
	flight_unref(f);
}

struct header_walk {
	struct exchange *x;
	const char *end; /* of the last value */
	bool odd;
};

/* MHD reads what it should refuse: it takes a folded line for more of the header's name (so that "Transfer-Encoding"
 * vanishes from our sight and its own), a bare CR or LF for a line's end, and cuts at a NUL. As it splits the text in
 * place, each value must stand right behind its name, and each name CR LF behind the value before. */
static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_n,
                                 const char *value, size_t value_n)
{
	struct header_walk *w = cls;
	(void)kind;
	w->odd |= !value || value <= name + name_n || (w->end && name != w->end + 2);
	for (const char *p = name + name_n + 1; !w->odd && p < value; p++)
		w->odd = *p != ' ' && *p != '\t';
	w->end = value + value_n;
	return exchange_header(w->x, str_n(name, name_n), str_n(value ? value : "", value_n)) ? MHD_YES : MHD_NO;
}

/* inet_ntop formats with sprintf, which costs more than the rest of begin(). */
static struct str ipv4_text(struct flight *f, const struct in_addr *address)
{
	const uint8_t *byte = (const uint8_t *)&address->s_addr;
	char *text = arena_alloc(&f->x->arena, INET_ADDRSTRLEN);
	size_t n = 0;
	for (int i = 0; i < 4; i++) {
		if (i)
			text[n++] = '.';
		if (byte[i] >= 100)
			text[n++] = (char)('0' + byte[i] / 100);
		if (byte[i] >= 10)
			text[n++] = (char)('0' + byte[i] / 10 % 10);
		text[n++] = (char)('0' + byte[i] % 10);
	}
	return str_n(text, n);
}

static struct str peer_of(struct flight *f)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	char text[INET6_ADDRSTRLEN] = "";
	if (!info || !info->client_addr)
		return STR("");
	const struct sockaddr *a = info->client_addr;
	if (a->sa_family == AF_INET)
		return ipv4_text(f, &((const struct sockaddr_in *)(const void *)a)->sin_addr);
	if (a->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, text, sizeof text);
	return arena_str(&f->x->arena, str_c(text));
}

static void check_socket(struct flight *f, bool body)
{
	if (!f->server->config.hub)
		exchange_fail(f->x, E_BUSY);
	else if (body || !socket_handshake(&f->x->req, f->accept)) {
		ctx_fail(&f->x->ctx, E_BAD_REQUEST, "This is a WebSocket: a valid version 13 upgrade is needed.");
		exchange_fail(f->x, E_BAD_REQUEST);
	}
}

static struct lane *lane_of(struct flight *f)
{
	return f->x->req.route->lane == LANE_BULK ? f->server->config.bulk : f->server->config.meta;
}

/* The first call: headers only. */
static enum MHD_Result begin(struct flight *f, const char *method, const char *version)
{
	struct exchange *x = f->x;
	f->old_http = strcmp(version, MHD_HTTP_VERSION_1_1) != 0;
	int wanted = MHD_get_connection_values(f->con, MHD_HEADER_KIND, NULL, NULL);
	struct header_walk walk = {.x = x};
	int taken = MHD_get_connection_values_n(f->con, MHD_HEADER_KIND, on_header, &walk);
	f->step = exchange_begin(x, str_c(method), f->target, peer_of(f));
	note_intake(f);
	bool body = x->chunked || x->content_length > 0;
	if (f->step != STEP_REPLY && taken < wanted)
		exchange_fail(x, E_HEADERS_TOO_LARGE);
	else if (f->step != STEP_REPLY && walk.odd) {
		ctx_fail(&x->ctx, E_BAD_REQUEST, "A header is malformed.");
		exchange_fail(x, E_BAD_REQUEST);
	} else if (f->step != STEP_REPLY && atomic_load(&f->server->stopping))
		exchange_fail(x, E_SHUTDOWN);
	else if (f->step == STEP_SOCKET)
		check_socket(f, body);
	if (x->finished) {
		/* a reply to this first call ends the connection: right for a body that we do not want to read, and
		 * where it is in doubt where the request ends */
		f->close_after = body || walk.odd || x->err == E_BAD_REQUEST;
		flight_respond(f);
		return f->close_after ? send_reply(f) : MHD_YES;
	}
	f->state = FLIGHT_BODY;
	f->body_begin_us = x->begin_us;
	if (!x->chunked && x->content_length <= SMALL_BODY)
		return MHD_YES;
	f->state = FLIGHT_OPENING;
	return flight_to_lane(f, f->step == STEP_STREAM ? f->server->config.bulk : f->server->config.meta, open_job);
}

static enum MHD_Result collect(struct flight *f, const char *data, size_t *n)
{
	struct exchange *x = f->x;
	if (x->finished) { /* 413 already: read on for a while, so that the client sees it */
		if (f->received > DRAIN_MAX)
			return MHD_NO;
	} else if (*n > x->body_max - f->body.n) {
		exchange_fail(x, E_TOO_LARGE);
		f->close_after = true;
		buf_fini(&f->body);
	} else {
		if (!f->body.cap && x->content_length > 0)
			buf_reserve(&f->body, x->content_length < SMALL_BODY ? (size_t)x->content_length : SMALL_BODY);
		buf_put(&f->body, data, *n);
	}
	*n = 0;
	return MHD_YES;
}

bool flight_too_slow(const struct flight *f)
{
	int64_t ms = (clock_mono(f->x->ctx.clock) - f->body_begin_us) / 1000;
	return ms > BODY_RATE_AFTER_MS && f->received / (ms / 1000) < BODY_RATE_MIN;
}

static enum MHD_Result body_ended(struct flight *f)
{
	if (f->step == STEP_STREAM)
		return stream_ended(f);
	if (f->x->finished) {
		flight_respond(f);
		return send_reply(f);
	}
	f->state = FLIGHT_RUNNING;
	if (f->step == STEP_SOCKET)
		return flight_to_lane(f, f->server->config.meta, socket_job);
	return flight_to_lane(f, lane_of(f), run_job);
}

enum MHD_Result on_request(void *cls, struct MHD_Connection *con, const char *url, const char *method,
                           const char *version, const char *data, size_t *n, void **slot)
{
	struct flight *f = *slot;
	(void)cls;
	(void)con;
	(void)url;
	if (atomic_load(&f->server->cutting))
		return MHD_NO;
	switch (f->state) {
	case FLIGHT_NEW:
		return begin(f, method, version);
	case FLIGHT_OPENING:
	case FLIGHT_RUNNING:
	case FLIGHT_QUEUED:
		return MHD_YES;
	case FLIGHT_READY:
		return send_reply(f);
	case FLIGHT_TRANSFERRED:
		return MHD_NO;
	case FLIGHT_BODY:
		break;
	}
	if (*n == 0) {
		if (f->opened) { /* called again behind a suspension, still before the body */
			f->opened = false;
			return MHD_YES;
		}
		return body_ended(f);
	}
	f->opened = false;
	size_t had = *n;
	if (flight_too_slow(f))
		return MHD_NO;
	enum MHD_Result result = f->step == STEP_STREAM ? stream_receive(f, data, n) : collect(f, data, n);
	f->received += (int64_t)(had - *n);
	return result == MHD_YES && f->step == STEP_STREAM && *n == 0 ? transfer_body(f) : result;
}
