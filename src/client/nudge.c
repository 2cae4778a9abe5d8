#include "client/nudge.h"

#include <openssl/evp.h>
#include <poll.h>
#include <stdlib.h>
#include <wslay/wslay.h>

#include "base/json.h"
#include "base/must.h"
#include "client/remote_priv.h"

enum { HEAD_MAX = 16 << 10, FRAME_MAX = 1 << 20, WAIT_MS = 10000 };

struct nudge {
	struct http_tunnel *tunnel;
	wslay_event_context_ptr ws;
	struct rng *rng;
	struct buf early; /* bytes that came with the response's head */
	size_t early_at;
	struct str share;
	enum nudge_news news;
	bool closed;
};

static ssize_t on_recv(wslay_event_context_ptr ws, uint8_t *out, size_t cap, int flags, void *arg)
{
	struct nudge *n = arg;
	size_t got = n->early.n - n->early_at;
	(void)flags;
	if (got) {
		got = got < cap ? got : cap;
		memcpy(out, n->early.p + n->early_at, got);
		n->early_at += got;
		return (ssize_t)got;
	}
	int err = http_tunnel_recv(n->tunnel, out, cap, &got);
	if (!err)
		return (ssize_t)got;
	n->closed |= err != E_BUSY;
	wslay_event_set_error(ws, err == E_BUSY ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr ws, const uint8_t *p, size_t len, int flags, void *arg)
{
	struct nudge *n = arg;
	size_t sent = 0;
	(void)flags;
	int err = http_tunnel_send(n->tunnel, p, len, &sent);
	if (!err)
		return (ssize_t)sent;
	n->closed |= err != E_BUSY;
	wslay_event_set_error(ws, err == E_BUSY ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static int on_mask(wslay_event_context_ptr ws, uint8_t *out, size_t len, void *arg)
{
	struct nudge *n = arg;
	(void)ws;
	n->rng->fill(n->rng, out, len);
	return 0;
}

static void on_message(wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
	struct nudge *n = arg;
	AUTO_JSON *doc = NULL;
	(void)ws;
	if (wslay_is_ctrl_frame(m->opcode)) {
		n->closed |= m->opcode == WSLAY_CONNECTION_CLOSE;
		return;
	}
	if (json_parse(str_n(m->msg, m->msg_length), &doc))
		return;
	struct str type = json_str(doc, "event_type"), share = json_str(doc, "share_id");
	if (!type.p)
		type = json_str(doc, "type");
	if (share.p && !str_eq(share, n->share))
		return;
	if (str_eq(type, STR("force_sync")))
		n->news = NUDGE_FORCE;
	else if (str_eq(type, STR("change")) && n->news == NUDGE_NONE)
		n->news = NUDGE_CHANGE;
}

static bool wait_for(struct nudge *n, short events)
{
	struct pollfd p = {.fd = http_tunnel_fd(n->tunnel), .events = events};
	return poll(&p, 1, WAIT_MS) > 0;
}

static int send_all(struct ctx *ctx, struct nudge *n, struct str s)
{
	while (s.n) {
		size_t sent;
		int err = http_tunnel_send(n->tunnel, s.p, s.n, &sent);
		if (err == E_BUSY && wait_for(n, POLLOUT))
			continue;
		if (err)
			return ctx_fail(ctx, E_NETWORK, "The WebSocket could not be opened.");
		s = str_skip(s, sent);
	}
	return 0;
}

static struct str base64(struct arena *a, const void *p, size_t n)
{
	char *out = arena_alloc(a, n * 4 / 3 + 8);
	int len = EVP_EncodeBlock((unsigned char *)out, p, (int)n);
	return str_n(out, (size_t)len);
}

/* RFC 6455 section 4.1: the server proves that it understood. */
static struct str accept_key(struct arena *a, struct str key)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	struct str s = arena_fmt(a, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", STR_ARG(key));
	must(EVP_Digest(s.p, s.n, digest, &n, EVP_sha1(), NULL) == 1);
	return base64(a, digest, n);
}

static int read_head(struct ctx *ctx, struct nudge *n, struct str key)
{
	struct buf head = {0};
	int err = 0;
	size_t end = 0;
	while (!err && !end) {
		char piece[2048];
		size_t got = 0;
		err = http_tunnel_recv(n->tunnel, piece, sizeof(piece), &got);
		if (err == E_BUSY)
			err = wait_for(n, POLLIN) ? 0 : E_TIMEOUT;
		buf_put(&head, piece, got);
		for (size_t i = 0; i + 4 <= head.n && !end; i++)
			if (!memcmp(head.p + i, "\r\n\r\n", 4))
				end = i + 4;
		if (!end && head.n > HEAD_MAX)
			err = E_UPSTREAM;
	}
	struct str rest = str_head(buf_as_str(&head), end), status = str_cut(&rest, '\n');
	bool switched = !err && str_starts(status, STR("HTTP/1.1 101")), proven = false;
	while (switched && rest.n) {
		struct str line = str_cut(&rest, '\n'), name = str_cut(&line, ':');
		proven |= str_ieq(name, STR("Sec-WebSocket-Accept")) && str_eq(str_trim(line), accept_key(ctx->arena, key));
	}
	if (proven)
		buf_put(&n->early, head.p + end, head.n - end);
	else if (err)
		ctx_fail(ctx, err, "The WebSocket could not be opened.");
	else
		err = ctx_fail(ctx, str_starts(status, STR("HTTP/1.1 401")) ? E_UNAUTHENTICATED : E_UPSTREAM,
		               "The server does not open a WebSocket: %.*s", STR_ARG(str_trim(status)));
	buf_fini(&head);
	return err;
}

static int upgrade(struct ctx *ctx, struct nudge *n, struct remote *r, struct str token)
{
	uint8_t nonce[16];
	ctx->rng->fill(ctx->rng, nonce, sizeof(nonce));
	struct str key = base64(ctx->arena, nonce, sizeof(nonce));
	struct buf b = {0};
	buf_lit(&b, "GET ");
	buf_str(&b, http_client_prefix(r->http));
	buf_lit(&b, "/api/v1/sync/ws/");
	http_escape(&b, r->device_id);
	buf_fmt(&b, " HTTP/1.1\r\nHost: %.*s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %.*s\r\n"
	            "Sec-WebSocket-Version: 13\r\nAuthorization: Bearer %.*s\r\nUser-Agent: scaidrive/" SD_VERSION "\r\n\r\n",
	        STR_ARG(http_client_host(r->http)), STR_ARG(key), STR_ARG(token));
	int err = send_all(ctx, n, buf_as_str(&b));
	explicit_bzero(b.p, b.n);
	buf_fini(&b);
	return err ? err : read_head(ctx, n, key);
}

static int say(struct nudge *n, const char *text)
{
	struct wslay_event_msg m = {.opcode = WSLAY_TEXT_FRAME, .msg = (const uint8_t *)text, .msg_length = strlen(text)};
	if (n->closed || wslay_event_queue_msg(n->ws, &m) || wslay_event_send(n->ws))
		return E_NETWORK;
	return 0;
}

int nudge_open(struct ctx *ctx, struct remote *r, struct nudge **out)
{
	static const struct wslay_event_callbacks callbacks = {
	    .recv_callback = on_recv, .send_callback = on_send, .genmask_callback = on_mask, .on_msg_recv_callback = on_message};
	struct nudge *n = calloc(1, sizeof(*n));
	must(n != NULL);
	n->rng = ctx->rng;
	struct str token, next;
	int err = remote_token(ctx, r, STR_NULL, &token);
	if (!err)
		err = http_tunnel_open(r->http, ctx, &n->tunnel);
	if (!err)
		err = upgrade(ctx, n, r, token);
	if (err == E_UNAUTHENTICATED)
		(void)remote_token(ctx, r, token, &next); /* for the next time */
	if (!err) {
		must(wslay_event_context_client_init(&n->ws, &callbacks, n) == 0);
		wslay_event_config_set_max_recv_msg_length(n->ws, FRAME_MAX);
		err = say(n, "{\"type\":\"subscribe\"}");
	}
	if (err) {
		nudge_close(n);
		return err;
	}
	*out = n;
	return 0;
}

int nudge_fd(const struct nudge *n)
{
	return http_tunnel_fd(n->tunnel);
}

int nudge_drain(struct ctx *ctx, struct nudge *n, struct str share, enum nudge_news *news)
{
	n->share = share;
	n->news = NUDGE_NONE;
	bool broken = wslay_event_recv(n->ws) != 0 || (wslay_event_want_write(n->ws) && wslay_event_send(n->ws) != 0);
	*news = n->news;
	if (broken || n->closed)
		return ctx_fail(ctx, E_NETWORK, "The WebSocket was closed.");
	return 0;
}

int nudge_ping(struct nudge *n)
{
	return say(n, "{\"type\":\"ping\"}");
}

void nudge_close(struct nudge *n)
{
	if (!n)
		return;
	if (n->ws)
		wslay_event_context_free(n->ws);
	http_tunnel_close(n->tunnel);
	buf_fini(&n->early);
	free(n);
}
