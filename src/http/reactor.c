/* The one thread that moves the bytes of all WebSockets: epoll, level-triggered. wslay reads frames and answers pings
 * and closes; its context exists only while a message is half read. Frames to the peer are encoded once by the sender and
 * queued; wslay's own replies go through the same queue. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/must.h"
#include "http/dispatch.h"
#include "http/hub.h"
#include "http/socket_priv.h"

enum { TURN_BYTES = 64 << 10, LINGER_MS = 2000 };

struct reactor {
	struct reactor_config config;
	pthread_t thread;
	int epoll, wake;
	_Atomic bool woken, stopping;
	int64_t stop_by_us;
	pthread_mutex_t lock;          /* of dirty */
	struct socket_session *dirty;
	struct socket_session *first, *last; /* by due_us; of the thread */
};

struct lane *reactor_lane(struct reactor *r)
{
	return r->config.lane;
}

struct http *reactor_http(struct reactor *r)
{
	return r->config.http;
}

static int64_t now_us(void)
{
	return clock_mono(&clock_system); /* real sockets live in real time */
}

static void wake(struct reactor *r)
{
	uint64_t one = 1;
	if (!atomic_exchange(&r->woken, true))
		(void)!write(r->wake, &one, sizeof one);
}

void reactor_touch(struct reactor *r, struct socket_session *s)
{
	if (s->dirty)
		return;
	s->dirty = true;
	socket_ref(s);
	pthread_mutex_lock(&r->lock);
	s->dirty_next = r->dirty;
	r->dirty = s;
	pthread_mutex_unlock(&r->lock);
	wake(r);
}

/* ---- the list by due time ---- */

static void list_add(struct reactor *r, struct socket_session *s, int64_t due_us)
{
	s->due_us = due_us;
	s->next = NULL;
	s->prev = r->last;
	if (r->last)
		r->last->next = s;
	else
		r->first = s;
	r->last = s;
}

static void list_del(struct reactor *r, struct socket_session *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		r->first = s->next;
	if (s->next)
		s->next->prev = s->prev;
	else
		r->last = s->prev;
}

/* ---- end ---- */

static void drop(struct reactor *r, struct socket_session *s)
{
	if (!s->adopted)
		return;
	s->adopted = false;
	epoll_ctl(r->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	list_del(r, s);
	if (s->joined)
		hub_leave(r->config.hub, s, s->tenant_id, s->principal_id);
	s->joined = false;
	if (s->ws)
		wslay_event_context_free(s->ws);
	s->ws = NULL;
	int fd = s->fd;
	pthread_mutex_lock(&s->lock);
	s->closed = true;
	s->fd = -1;
	frames_free(&s->out);
	frames_free(&s->in);
	socket_schedule(s);
	s->reactor = NULL;
	pthread_mutex_unlock(&s->lock);
	if (s->let_go)
		s->let_go(s->let_go_arg);
	else
		close(fd);
	socket_unref(s);
}

/* ---- writing ---- */

static void want_out(struct reactor *r, struct socket_session *s, bool on)
{
	if (s->want_out == on)
		return;
	s->want_out = on;
	struct epoll_event ev = {.events = EPOLLIN | (on ? (uint32_t)EPOLLOUT : 0u), .data.ptr = s};
	epoll_ctl(r->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

/* Sends what is queued. False: the connection is broken. */
static bool flush(struct reactor *r, struct socket_session *s)
{
	pthread_mutex_lock(&s->lock);
	bool blocked = false, broken = false;
	while (s->out.first && !blocked && !broken) {
		struct frame *f = s->out.first;
		ssize_t n = send(s->fd, f->p + s->out_at, f->n - s->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			blocked = errno == EAGAIN || errno == EWOULDBLOCK;
			broken = !blocked && errno != EINTR;
			continue;
		}
		s->out_at += (size_t)n;
		if (s->out_at == f->n) {
			free(frames_pop(&s->out));
			s->out_at = 0;
		}
	}
	bool done = s->closing && !s->out.first;
	pthread_mutex_unlock(&s->lock);
	if (broken)
		return false;
	want_out(r, s, blocked);
	if (done && !s->lingering) { /* let the peer read the close frame before the connection goes */
		s->lingering = true;
		shutdown(s->fd, SHUT_WR);
	}
	return true;
}

/* ---- reading ---- */

static ssize_t on_recv(wslay_event_context_ptr ws, uint8_t *buf, size_t n, int flags, void *arg)
{
	struct socket_session *s = arg;
	(void)flags;
	if (s->extra) {
		size_t left = s->extra->n - s->extra_at, take = left < n ? left : n;
		memcpy(buf, s->extra->p + s->extra_at, take);
		s->extra_at += take;
		s->got += take;
		if (s->extra_at == s->extra->n) {
			free(s->extra);
			s->extra = NULL;
		}
		return (ssize_t)take;
	}
	ssize_t got = s->turn < TURN_BYTES ? recv(s->fd, buf, n, MSG_DONTWAIT) : -1;
	if (got > 0) {
		s->got += (uint64_t)got;
		s->turn += (size_t)got;
		return got;
	}
	bool again = s->turn >= TURN_BYTES || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
	s->eof |= !again;
	wslay_event_set_error(ws, again ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr ws, const uint8_t *data, size_t n, int flags, void *arg)
{
	struct socket_session *s = arg;
	(void)ws;
	(void)flags;
	buf_put(s->replies, data, n);
	return (ssize_t)n;
}

static void on_frame(wslay_event_context_ptr ws, const struct wslay_event_on_frame_recv_start_arg *f, void *arg)
{
	struct socket_session *s = arg;
	(void)ws;
	/* header, mask key, payload */
	s->used += 2u + (f->payload_length < 126 ? 0u : f->payload_length < 65536 ? 2u : 8u) + 4u + f->payload_length;
	if (f->opcode < 8)
		s->in_message = !f->fin;
}

static void on_message(wslay_event_context_ptr ws, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
	struct socket_session *s = arg;
	(void)ws;
	if (m->opcode == WSLAY_BINARY_FRAME)
		socket_close(s, 1003);
	if (m->opcode != WSLAY_TEXT_FRAME)
		return;
	struct frame *text = frame_new(m->msg_length);
	if (m->msg_length)
		memcpy(text->p, m->msg, m->msg_length);
	pthread_mutex_lock(&s->lock);
	if (s->closing) {
		free(text);
	} else {
		frames_push(&s->in, text);
		socket_schedule(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static struct wslay_event_callbacks callbacks = {
    .recv_callback = on_recv,
    .send_callback = on_send,
    .on_frame_recv_start_callback = on_frame,
    .on_msg_recv_callback = on_message,
};

/* What wslay wants to say (pong, close) becomes one more frame in the queue. */
static void take_replies(struct reactor *r, struct socket_session *s)
{
	struct buf out = {0};
	s->replies = &out;
	while (wslay_event_want_write(s->ws) && wslay_event_send(s->ws) == 0)
		;
	bool closes = wslay_event_get_close_sent(s->ws) != 0;
	pthread_mutex_lock(&s->lock);
	/* who does not read gets no pongs: a flood of pings must not fill the queue (RFC 6455, 5.5.3, lets us skip some) */
	if (out.n && !s->closing && (closes || !s->want_out) && s->out.count < LIMIT_WS_QUEUE_FRAMES) {
		struct frame *f = frame_new(out.n);
		memcpy(f->p, out.p, out.n);
		frames_push(&s->out, f);
		reactor_touch(r, s);
	}
	s->closing |= closes;
	pthread_mutex_unlock(&s->lock);
	buf_fini(&out);
}

/* False: the connection has come to its end. */
static bool receive(struct reactor *r, struct socket_session *s)
{
	if (!s->ws) {
		must(wslay_event_context_server_init(&s->ws, &callbacks, s) == 0);
		wslay_event_config_set_max_recv_msg_length(s->ws, LIMIT_WS_FRAME);
		s->got = s->used = 0;
		s->in_message = false;
	}
	s->turn = 0;
	s->seen_us = now_us();
	int result = wslay_event_recv(s->ws);
	if (s->eof || (result != 0 && result != WSLAY_ERR_CALLBACK_FAILURE))
		return false;
	take_replies(r, s);
	if (wslay_event_get_close_received(s->ws))
		return flush(r, s) && s->want_out; /* our answer is out, or will be soon */
	if (s->got == s->used && !s->in_message && !wslay_event_get_close_sent(s->ws)) {
		wslay_event_context_free(s->ws);
		s->ws = NULL;
	}
	return true;
}

/* ---- the loop ---- */

static void begin(struct reactor *r, struct socket_session *s)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = s};
	s->adopted = true;
	s->seen_us = now_us();
	list_add(r, s, s->seen_us + MILLIS_US(r->config.ping_ms));
	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, s->fd, &ev) < 0 || (s->extra && !receive(r, s)))
		drop(r, s);
}

static void take_dirty(struct reactor *r)
{
	pthread_mutex_lock(&r->lock);
	struct socket_session *s = r->dirty, *next;
	r->dirty = NULL;
	pthread_mutex_unlock(&r->lock);
	for (; s; s = next) {
		next = s->dirty_next;
		pthread_mutex_lock(&s->lock);
		s->dirty = false;
		bool fresh = !s->adopted && !s->closed && s->fd >= 0;
		pthread_mutex_unlock(&s->lock);
		if (fresh)
			begin(r, s);
		if (s->adopted && !flush(r, s))
			drop(r, s);
		socket_unref(s);
	}
}

static void check_timers(struct reactor *r, int64_t now)
{
	struct socket_session *s;
	while ((s = r->first) && s->due_us <= now) {
		list_del(r, s);
		list_add(r, s, now + MILLIS_US(r->config.ping_ms));
		pthread_mutex_lock(&s->lock);
		bool deaf = s->closing && s->want_out; /* it sends, but never takes its close frame */
		pthread_mutex_unlock(&s->lock);
		if (s->lingering || deaf || now - s->seen_us >= MILLIS_US(r->config.silence_ms)) {
			drop(r, s);
			continue;
		}
		pthread_mutex_lock(&s->lock);
		if (!s->closing && s->out.count < LIMIT_WS_QUEUE_FRAMES) {
			frames_push(&s->out, frame_encode(9, STR("")));
			reactor_touch(r, s);
		}
		pthread_mutex_unlock(&s->lock);
	}
}

static void stop_all(struct reactor *r, bool now)
{
	for (struct socket_session *s = r->first, *next; s; s = next) {
		next = s->next;
		socket_close(s, 1001);
		if (!flush(r, s) || now)
			drop(r, s);
	}
}

static void *run(void *arg)
{
	struct reactor *r = arg;
	struct epoll_event events[64];
	bool told = false;
	for (;;) {
		bool stopping = atomic_load(&r->stopping);
		int64_t now = now_us();
		int wait_ms = stopping ? 10 : 1000;
		if (r->first && r->first->due_us - now < MILLIS_US(wait_ms))
			wait_ms = r->first->due_us <= now ? 0 : (int)((r->first->due_us - now) / 1000) + 1;
		int n = epoll_wait(r->epoll, events, 64, wait_ms);
		for (int i = 0; i < n; i++) {
			struct socket_session *s = events[i].data.ptr;
			if (!s) {
				uint64_t count;
				atomic_store(&r->woken, false);
				(void)!read(r->wake, &count, sizeof count);
				continue;
			}
			/* a session has one event a turn, and is dropped nowhere else in this loop */
			bool alive = true;
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				alive = receive(r, s);
			if (alive && (events[i].events & EPOLLOUT))
				alive = flush(r, s);
			if (!alive)
				drop(r, s);
		}
		take_dirty(r);
		check_timers(r, now_us());
		if (!stopping)
			continue;
		bool late = now_us() >= r->stop_by_us;
		if (!told || late)
			stop_all(r, late);
		told = true;
		if (!r->first)
			break;
	}
	return NULL;
}

struct reactor *reactor_new(const struct reactor_config *config)
{
	struct reactor *r = calloc(1, sizeof *r);
	must(r != NULL);
	r->config = *config;
	if (!r->config.ping_ms)
		r->config.ping_ms = 30000;
	if (!r->config.silence_ms)
		r->config.silence_ms = 90000;
	pthread_mutex_init(&r->lock, NULL);
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(r->epoll >= 0 && r->wake >= 0);
	struct epoll_event ev = {.events = EPOLLIN};
	must(epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &ev) == 0);
	must(pthread_create(&r->thread, NULL, run, r) == 0);
	pthread_setname_np(r->thread, "sockets");
	return r;
}

void reactor_free(struct reactor *r, int grace_ms)
{
	r->stop_by_us = now_us() + MILLIS_US(grace_ms);
	atomic_store(&r->stopping, true);
	wake(r);
	pthread_join(r->thread, NULL);
	take_dirty(r); /* what was dropped while it was in the list */
	close(r->epoll);
	close(r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void reactor_adopt(struct reactor *r, struct socket_session *s, int fd, struct str extra, void (*let_go)(void *),
                   void *arg)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (extra.n) {
		s->extra = frame_new(extra.n);
		memcpy(s->extra->p, extra.p, extra.n);
	}
	s->let_go = let_go;
	s->let_go_arg = arg;
	bool welcome = true;
	if (r->config.hub && s->tenant_id) {
		welcome = hub_join(r->config.hub, s, s->tenant_id, s->principal_id) == E_OK;
		s->joined = welcome;
	}
	pthread_mutex_lock(&s->lock);
	s->fd = fd;
	s->reactor = r;
	if (welcome)
		socket_schedule(s);
	reactor_touch(r, s);
	pthread_mutex_unlock(&s->lock);
	if (!welcome)
		socket_close(s, 1013);
}

void reactor_reject(struct reactor *r, int fd, uint16_t code, void (*let_go)(void *), void *arg)
{
	static const struct socket_handler nobody = {0};
	struct socket_session *s = socket_new(&nobody, NULL, 0, 0);
	socket_close(s, code);
	reactor_adopt(r, s, fd, STR_NULL, let_go, arg);
}
