/* Sessions: what features see of a WebSocket. The bytes are moved by reactor.c. */
#include "http/socket.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "http/dispatch.h"
#include "http/socket_priv.h"

enum { INBOX_MAX = 64 }; /* texts that wait for the feature; more is a flood */

bool socket_handshake(const struct request *req, char accept[32])
{
	struct str key = str_trim(request_header(req, STR("sec-websocket-key")));
	if (!str_ieq(request_header(req, STR("upgrade")), STR("websocket")) || key.n != 24 ||
	    !str_eq(request_header(req, STR("sec-websocket-version")), STR("13")) || req->method != HTTP_GET)
		return false;
	struct str options = request_header(req, STR("connection"));
	bool upgrade = false;
	while (options.n)
		upgrade |= str_ieq(str_trim(str_cut(&options, ',')), STR("upgrade"));
	char text[24 + 36];
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	memcpy(text, key.p, 24);
	memcpy(text + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
	must(EVP_Digest(text, sizeof text, digest, &n, EVP_sha1(), NULL) == 1 && n == 20);
	EVP_EncodeBlock((unsigned char *)accept, digest, 20);
	return upgrade;
}

/* ---- frames ---- */

struct frame *frame_new(size_t n)
{
	must(n < SIZE_MAX / 2);
	struct frame *f = malloc(sizeof *f + n);
	must(f != NULL);
	f->next = NULL;
	f->n = n;
	return f;
}

struct frame *frame_encode(int opcode, struct str payload)
{
	size_t head = payload.n < 126 ? 2 : payload.n < 65536 ? 4 : 10;
	struct frame *f = frame_new(head + payload.n);
	f->p[0] = (char)(0x80 | opcode);
	if (head == 2) {
		f->p[1] = (char)payload.n;
	} else {
		f->p[1] = head == 4 ? 126 : 127;
		for (size_t i = 0; i < head - 2; i++)
			f->p[2 + i] = (char)((uint64_t)payload.n >> (8 * (head - 3 - i)));
	}
	if (payload.n)
		memcpy(f->p + head, payload.p, payload.n);
	return f;
}

void frames_push(struct frames *q, struct frame *f)
{
	f->next = NULL;
	if (q->last)
		q->last->next = f;
	else
		q->first = f;
	q->last = f;
	q->count++;
}

struct frame *frames_pop(struct frames *q)
{
	struct frame *f = q->first;
	if (f) {
		q->first = f->next;
		if (!q->first)
			q->last = NULL;
		q->count--;
	}
	return f;
}

void frames_free(struct frames *q)
{
	struct frame *f;
	while ((f = frames_pop(q)))
		free(f);
}

/* ---- sessions ---- */

struct socket_session *socket_new(const struct socket_handler *handler, void *state, int64_t tenant_id,
                                  int64_t principal_id)
{
	struct socket_session *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->handler = handler;
	s->state = state;
	s->tenant_id = tenant_id;
	s->principal_id = principal_id;
	s->fd = -1;
	atomic_init(&s->refs, 1);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void *socket_state(struct socket_session *s)
{
	return s->state;
}

int64_t socket_tenant(const struct socket_session *s)
{
	return s->tenant_id;
}

struct socket_session *socket_ref(struct socket_session *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void socket_unref(struct socket_session *s)
{
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	if (!s->ended && s->handler->on_close)
		s->handler->on_close(s);
	must(!s->adopted);
	frames_free(&s->out);
	frames_free(&s->in);
	free(s->extra);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void close_locked(struct socket_session *s, uint16_t code)
{
	if (s->closing || s->closed)
		return;
	char payload[2] = {(char)(code >> 8), (char)code};
	s->closing = true;
	frames_push(&s->out, frame_encode(8, str_n(payload, 2)));
	if (s->reactor)
		reactor_touch(s->reactor, s);
}

int socket_send(struct socket_session *s, struct str text)
{
	int err = E_OK;
	pthread_mutex_lock(&s->lock);
	if (s->closing || s->closed) {
		err = E_GONE;
	} else if (s->out.count >= LIMIT_WS_QUEUE_FRAMES) {
		/* what waits is stale for a client that does not read; keep the frame that is half sent */
		close_locked(s, 1013);
		err = E_BUSY;
	} else {
		frames_push(&s->out, frame_encode(1, text));
		if (s->reactor)
			reactor_touch(s->reactor, s);
	}
	pthread_mutex_unlock(&s->lock);
	return err;
}

void socket_close(struct socket_session *s, uint16_t code)
{
	pthread_mutex_lock(&s->lock);
	close_locked(s, code);
	pthread_mutex_unlock(&s->lock);
}

/* ---- callbacks ---- */

static void call_text(struct socket_session *s, struct exchange *x, struct frame *text)
{
	if (s->handler->on_text)
		s->handler->on_text(s, &x->ctx, str_n(text->p, text->n));
	free(text);
}

static void session_job(void *arg)
{
	struct socket_session *s = arg;
	pthread_mutex_lock(&s->lock);
	struct exchange *x = NULL;
	for (;;) {
		struct frame *text = NULL;
		bool open = false, end = false;
		if (!s->opened && !s->closed)
			open = s->opened = true;
		else if (!s->closed && (text = frames_pop(&s->in)))
			;
		else if (s->closed && !s->ended)
			end = s->ended = true;
		else
			break;
		/* the reactor may be freed once the lock is free and the session dropped; http outlives the lanes */
		struct http *http = s->reactor ? reactor_http(s->reactor) : NULL;
		pthread_mutex_unlock(&s->lock);
		if (!end && http) {
			x = exchange_new(http);
			x->ctx.tenant_id = s->tenant_id;
			if (open && s->handler->on_open)
				s->handler->on_open(s, &x->ctx);
			if (text)
				call_text(s, x, text);
			exchange_free(x);
		} else {
			free(text);
			if (end && s->handler->on_close)
				s->handler->on_close(s);
		}
		pthread_mutex_lock(&s->lock);
	}
	s->job = false;
	pthread_mutex_unlock(&s->lock);
	socket_unref(s);
}

void socket_schedule(struct socket_session *s)
{
	if (s->in.count > INBOX_MAX)
		close_locked(s, 1008);
	if (s->job || !s->reactor)
		return;
	s->job = true;
	socket_ref(s);
	if (lane_continue(reactor_lane(s->reactor), session_job, s)) {
		s->job = false; /* the lane has stopped: on_close comes with the last reference */
		atomic_fetch_sub(&s->refs, 1);
	}
}
