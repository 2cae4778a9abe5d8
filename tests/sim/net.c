/* Requests on their way. */
#include "base/must.h"
#include "sim.h"

static const char page[] = "<html><body>Please sign in to use this network.</body></html>";

static int broken(struct ctx *ctx, const char *why)
{
	return ctx_fail(ctx, E_NETWORK, "%s", why);
}

/* The server's process ends with the call that its disk did not survive. */
static void bury(struct server *v)
{
	if (v->open && server_is_dead(v))
		server_stop(v);
}

static void free_exchange(struct server *v, struct exchange *x)
{
	if (x)
		exchange_free(x);
	bury(v);
}

/* A supervisor starts it again when it has been away for a while. */
static void miss(struct server *v)
{
	if (!v->open && ++v->unreachable > 3 && v->sim->depth == 0)
		server_start(v);
}

static int collect(struct http_call *call, struct buf *body)
{
	char piece[4096];
	size_t got = 1;
	int err = 0;
	if (!call->source) {
		buf_str(body, call->body);
		return 0;
	}
	while (!err && got) {
		err = call->source->read(call->source, piece, sizeof(piece), &got);
		if (!err)
			buf_put(body, piece, got);
	}
	if (!err && (int64_t)body->n != call->source->length)
		return E_NETWORK;
	return err;
}

/* The reply's bytes, whether they are there or to be read. */
static int read_reply(struct exchange *x, struct buf *out)
{
	struct body_source *src = x->reply.source;
	char piece[4096];
	size_t got = 1;
	if (!src) {
		buf_str(out, buf_as_str(&x->reply.body));
		return 0;
	}
	for (int64_t at = 0; got; at += (int64_t)got) {
		if (src->fill(src, at, piece, sizeof(piece), &got))
			return E_NETWORK; /* the connection is cut */
		buf_put(out, piece, got);
	}
	return 0;
}

/* Into the sink or the reply, n bytes of it. */
static int hand_over(struct http_call *call, struct str bytes, bool whole)
{
	if (call->status >= 200 && call->status < 300 && call->sink) {
		for (size_t at = 0; at < bytes.n; at += 3000) {
			int err = call->sink->write(call->sink, bytes.p + at, bytes.n - at < 3000 ? bytes.n - at : 3000);
			if (err)
				return err;
		}
	} else if (bytes.n > call->reply_max) {
		return E_TOO_LARGE;
	} else {
		buf_str(&call->reply, bytes);
	}
	return whole ? 0 : E_NETWORK;
}

static int proxy(struct http_call *call, int status)
{
	call->status = status;
	call->is_json = false;
	call->length = (int64_t)sizeof(page) - 1;
	return hand_over(call, str_c(page), true);
}

static bool is_write(const struct http_call *call)
{
	return strcmp(call->method, "GET") != 0;
}

static struct exchange *deliver(struct device *d, struct http_call *call, struct str body)
{
	struct server *v = &d->sim->server;
	struct exchange *x = server_request(v, str_c(call->method), call->path, call->token, call->content_type, call->headers,
	                                    call->n_headers, body);
	if (x && server_is_dead(v)) {
		free_exchange(v, x);
		return NULL;
	}
	return x;
}

/* Reads the reply before anything else happens to the server. */
static int take_answer(struct device *d, struct http_call *call, struct exchange *x, enum net_fault fault)
{
	struct server *v = &d->sim->server;
	struct buf bytes = {0};
	call->status = x->reply.status;
	struct str type = x->reply.content_type;
	call->is_json = !type.p || str_starts(type, STR("application/json"));
	int err = read_reply(x, &bytes);
	call->length = (int64_t)bytes.n;
	bool dead = server_is_dead(v);
	free_exchange(v, x);
	if (dead)
		err = E_NETWORK;
	if (fault == NET_FLIP && call->sink && bytes.n)
		bytes.p[bytes.n - 1 - bytes.n / 8] ^= 32;
	sim_note(d->sim, "  d%d %s %.*s: %d, %zu bytes%s", d->number, call->method, STR_ARG(call->path), call->status, bytes.n,
	         fault == NET_LOST ? ", lost" : fault == NET_CUT ? ", cut" : "");
	if (!err && fault == NET_OK && is_write(call) && call->status < 300) {
		int64_t head = server_i64(v, "select seq from tenants where id = $1", v->tenant_id);
		v->acked_seq = head > v->acked_seq ? head : v->acked_seq;
	}
	sim_hook(d->sim, d);
	if (d->dead || fault == NET_LOST || err)
		err = err ? err : E_NETWORK;
	else if (fault == NET_CUT)
		err = hand_over(call, str_head(buf_as_str(&bytes), bytes.n / 2), false);
	else
		err = hand_over(call, buf_as_str(&bytes), true);
	buf_fini(&bytes);
	return err;
}

static void keep_ghost(struct device *d, struct http_call *call, struct str body)
{
	struct sim *s = d->sim;
	struct arena *a = &s->arena;
	if (s->n_ghosts == GHOSTS_MAX)
		return;
	struct ghost *g = &s->ghosts[s->n_ghosts++];
	*g = (struct ghost){.method = arena_str(a, str_c(call->method)), .path = arena_str(a, call->path),
	                    .token = arena_str(a, call->token), .content_type = arena_str(a, call->content_type),
	                    .body = arena_str(a, body), .n_headers = call->n_headers};
	for (size_t i = 0; i < call->n_headers; i++)
		g->headers[i] = arena_str(a, call->headers[i]);
}

void net_deliver_ghost(struct sim *s, size_t i)
{
	if (!s->n_ghosts || !s->server.open)
		return;
	i %= s->n_ghosts--;
	struct ghost g = s->ghosts[i];
	s->ghosts[i] = s->ghosts[s->n_ghosts];
	struct exchange *x = server_request(&s->server, g.method, g.path, g.token, g.content_type, g.headers, g.n_headers, g.body);
	sim_note(s, "a late request arrives: %.*s %.*s: %d", STR_ARG(g.method), STR_ARG(g.path), x ? x->reply.status : 0);
	free_exchange(&s->server, x);
}

static int call_with(struct device *d, struct ctx *ctx, struct http_call *call, struct str body)
{
	struct sim *s = d->sim;
	bool waits = d->net == NET_FLIP && !call->sink; /* for content */
	enum net_fault fault = waits ? NET_OK : d->net;
	d->net = waits ? NET_FLIP : NET_OK;
	sim_hook(s, d);
	if (d->dead)
		return broken(ctx, "the process ends");
	if (fault != NET_OK)
		sim_note(s, "  d%d %s %.*s meets fault %d", d->number, call->method, STR_ARG(call->path), fault);
	if (fault == NET_PROXY_503 || fault == NET_PROXY_404 || fault == NET_PORTAL)
		return proxy(call, fault == NET_PORTAL ? 200 : fault == NET_PROXY_404 ? 404 : 503);
	if (fault == NET_GHOST)
		keep_ghost(d, call, body);
	if (fault == NET_DROP || fault == NET_GHOST)
		return broken(ctx, "timed out");
	if (fault == NET_TWICE) {
		free_exchange(&s->server, deliver(d, call, body));
		sim_hook(s, d);
	}
	struct exchange *x = deliver(d, call, body);
	if (!x) {
		miss(&s->server);
		return broken(ctx, "connection refused");
	}
	int err = take_answer(d, call, x, fault);
	return err == E_NETWORK ? broken(ctx, "the answer broke off") : err;
}

static int net_call(struct http_client *self, struct ctx *ctx, struct http_call *call)
{
	struct device *d = (struct device *)((char *)self - offsetof(struct device, http));
	struct buf body = {0};
	if (!call->reply_max)
		call->reply_max = 64 << 20;
	int err = collect(call, &body);
	if (!err)
		err = call_with(d, ctx, call, buf_as_str(&body));
	buf_fini(&body);
	return err;
}

static void net_free(struct http_client *self)
{
	(void)self;
}

struct http_client net_client(struct device *d)
{
	(void)d;
	return (struct http_client){net_call, net_free};
}
