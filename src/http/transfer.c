/* Large bodies past libmicrohttpd, which reads 7 KiB at a time into its pool and sends from a buffer of its own: a piece of an
 * upload is received straight into its memory, and content is sent from where it was verified.
 *
 * A transfer takes the socket out of MHD's hands: it keeps a duplicate of the descriptor, and what MHD has becomes one that is at
 * its end. So MHD can neither read what is not its own nor close under us, and sees a peer that went away once its connection,
 * suspended until then, is resumed. After the answer the socket goes back to MHD as a new connection, for the next request on it;
 * at a limit of connections once the old one is gone, which would count beside it.
 *
 * One thread waits for all these sockets and receives; filling and sending is a job of the bulk lane, which ends where the socket
 * would block. At any time a transfer belongs to one of them: to the thread while it is armed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/must.h"
#include "http/server_priv.h"

enum {
	TURN_BYTES = 1 << 20,  /* received from one socket before the next one's turn */
	BURST_BYTES = 4 << 20, /* sent to one socket before others that wait for a worker */
	LOOK_MS = 1000,        /* for those whose time is over */
	BACK_MS = 200,         /* how long MHD is tried, each millisecond, to take a socket back */
};

struct transfer {
	struct transfers *all;
	struct flight *flight; /* NULL once it has been answered */
	int fd;
	struct sockaddr_storage address; /* the peer's */
	socklen_t address_n;
	struct transfer *prev, *next; /* under the lock */
	bool armed;                   /* under the lock: the thread waits for the socket */
	int64_t since_us;             /* when the peer last took or gave something */
	bool polled;                  /* in the epoll set */
	bool sending, closes;
	int64_t left;                 /* of the body that comes in */
	struct buf head;              /* of the answer, with a body that is in memory */
	size_t head_at;
	struct transfer *queued_next; /* overdue, of the thread; or on its way back */
};

struct transfers {
	struct http_server *server;
	pthread_t thread;
	int epoll, wake;
	int dead; /* a socket whose peer has hung up: what MHD is left with */
	_Atomic bool stopping;
	pthread_mutex_t lock;
	struct transfer *first, *back; /* at work; sockets to be given back */
};

static int64_t now_us(void)
{
	return clock_mono(&clock_system); /* real sockets live in real time */
}

static void wake(struct transfers *all)
{
	uint64_t one = 1;
	(void)!write(all->wake, &one, sizeof one);
}

/* ---- taking and giving back ---- */

static bool address_of(const struct flight *f, struct transfer *t)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *a = info ? info->client_addr : NULL;
	if (!a || (a->sa_family != AF_INET && a->sa_family != AF_INET6))
		return false;
	t->address_n = a->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	memcpy(&t->address, a, t->address_n);
	return true;
}

/* The connection is suspended, or about to be by the caller, who is on its network thread. NULL: it stays MHD's. */
static struct transfer *take(struct flight *f)
{
	struct transfers *all = f->server->transfers;
	int theirs = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, on = 1;
	struct transfer *t = calloc(1, sizeof *t);
	must(t != NULL);
	t->all = all;
	t->flight = f;
	t->fd = address_of(f, t) ? fcntl(theirs, F_DUPFD_CLOEXEC, 0) : -1;
	if (t->fd < 0 || dup3(all->dead, theirs, O_CLOEXEC) < 0) {
		if (t->fd >= 0)
			close(t->fd);
		free(t);
		return NULL;
	}
	(void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	pthread_mutex_lock(&all->lock);
	t->next = all->first;
	if (t->next)
		t->next->prev = t;
	all->first = t;
	pthread_mutex_unlock(&all->lock);
	f->transfer = t;
	return t;
}

/* False: MHD, which closes what it refuses, is at a limit; perhaps the connection that had the socket counts still. */
static bool is_back(struct transfer *t)
{
	struct http_server *s = t->all->server;
	if (atomic_load(&s->stopping)) {
		close(t->fd);
		return true;
	}
	int again = fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
	bool over = MHD_add_connection(s->daemon, t->fd, (struct sockaddr *)&t->address, t->address_n) == MHD_YES || again < 0 ||
	            now_us() - t->since_us > MILLIS_US(BACK_MS);
	if (!over)
		t->fd = again;
	else if (again >= 0)
		close(again);
	return over;
}

/* The lock is held so that nothing is given back behind transfers_cut(). True: some are to be tried again. */
static bool give_back(struct transfers *all)
{
	pthread_mutex_lock(&all->lock);
	for (struct transfer **at = &all->back, *t; (t = *at);) {
		if (is_back(t)) {
			*at = t->queued_next;
			free(t);
		} else {
			at = &t->queued_next;
		}
	}
	bool more = all->back != NULL;
	pthread_mutex_unlock(&all->lock);
	return more;
}

static void give_back_later(struct transfer *t)
{
	struct transfers *all = t->all;
	pthread_mutex_lock(&all->lock);
	t->queued_next = all->back;
	all->back = t;
	pthread_mutex_unlock(&all->lock);
	wake(all);
}

/* The end, for whom it belongs to. MHD forgets the request; on the socket there may be another one. */
static void finish(struct transfer *t, bool aborted)
{
	struct flight *f = t->flight;
	struct transfers *all = t->all;
	pthread_mutex_lock(&all->lock);
	if (t->prev)
		t->prev->next = t->next;
	else
		all->first = t->next;
	if (t->next)
		t->next->prev = t->prev;
	pthread_mutex_unlock(&all->lock);
	if (t->polled)
		epoll_ctl(all->epoll, EPOLL_CTL_DEL, t->fd, NULL);
	exchange_done(f->x, f->sent, aborted);
	buf_fini(&t->head);
	t->flight = NULL;
	if (aborted || t->closes)
		close(t->fd);
	if (aborted || t->closes || is_back(t))
		free(t);
	else
		give_back_later(t);
	f->transfer = NULL;
	f->state = FLIGHT_TRANSFERRED;
	flight_resume(f);
}

/* Gives it to the thread until the socket is ready. */
static void arm(struct transfer *t, uint32_t events)
{
	struct transfers *all = t->all;
	struct epoll_event ev = {.events = events, .data.ptr = t};
	pthread_mutex_lock(&all->lock);
	bool armed = !atomic_load(&t->flight->server->cutting) &&
	             epoll_ctl(all->epoll, t->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, t->fd, &ev) == 0;
	t->polled |= armed;
	t->armed = armed;
	pthread_mutex_unlock(&all->lock); /* from here on it may be gone */
	if (!armed)
		finish(t, true);
}

/* ---- in ---- */

static void begin_receive(void *arg)
{
	struct transfer *t = arg;
	t->since_us = now_us();
	arm(t, EPOLLIN);
}

enum MHD_Result transfer_body(struct flight *f)
{
	struct body_sink *sink = f->x->sink;
	int64_t left = f->x->content_length - f->received;
	size_t room = 0;
	if (f->old_http || left < TRANSFER_MIN || !sink || !sink->room || !sink->room(sink, &room) || (int64_t)room < left)
		return MHD_YES;
	if (!flight_suspend(f))
		return MHD_NO;
	f->state = FLIGHT_RUNNING;
	struct transfer *t = take(f);
	if (!t) {
		f->state = FLIGHT_BODY;
		flight_resume(f);
		return MHD_YES;
	}
	t->left = left;
	if (!sink->may_receive || sink->may_receive(sink, begin_receive, t)) /* else it may be gone already */
		begin_receive(t);
	return MHD_YES;
}

static void receive(struct transfer *t)
{
	struct flight *f = t->flight;
	struct body_sink *sink = f->x->sink;
	size_t room = 0;
	void *to = sink->room(sink, &room);
	must((int64_t)room >= t->left);
	size_t want = t->left < TURN_BYTES ? (size_t)t->left : TURN_BYTES;
	ssize_t n = recv(t->fd, to, want, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		sink->took(sink, (size_t)n);
		f->received += n;
		t->left -= n;
		t->since_us = now_us();
	}
	if (n <= 0 || flight_too_slow(f)) {
		finish(t, true);
	} else if (t->left == 0) {
		pthread_mutex_lock(&f->server->transfers->lock);
		t->armed = t->polled = false;
		pthread_mutex_unlock(&f->server->transfers->lock);
		epoll_ctl(f->server->transfers->epoll, EPOLL_CTL_DEL, t->fd, NULL);
		stream_complete(f);
	}
}

/* ---- out ---- */

static bool wants_close(const struct request *req)
{
	struct str options = request_header(req, STR("connection"));
	bool closes = false;
	while (options.n)
		closes |= str_ieq(str_trim(str_cut(&options, ',')), STR("close"));
	return closes;
}

/* A value that would end its line is left out, as MHD does. */
static void put_header(struct buf *b, struct str name, struct str value)
{
	if (str_chr(value, '\r') >= 0 || str_chr(value, '\n') >= 0)
		return;
	buf_str(b, name);
	buf_lit(b, ": ");
	buf_str(b, value);
	buf_lit(b, "\r\n");
}

static void put_head(struct transfer *t)
{
	struct exchange *x = t->flight->x;
	const struct body_source *source = x->reply.source;
	int64_t length = source ? source->length : (int64_t)x->reply.body.n;
	char date[32];
	time_http(clock_now(x->ctx.clock), date);
	buf_fmt(&t->head, "HTTP/1.1 %d %s\r\nDate: %s\r\n", x->reply.status, MHD_get_reason_phrase_for((unsigned)x->reply.status), date);
	if (x->reply.status != 204 && x->reply.status != 304)
		buf_fmt(&t->head, "Content-Length: %lld\r\n", (long long)length);
	for (size_t i = 0; i < x->n_headers; i++)
		put_header(&t->head, x->headers[i].name, x->headers[i].value);
	if (t->closes)
		put_header(&t->head, STR("Connection"), STR("close"));
	buf_lit(&t->head, "\r\n");
}

/* What is to be sent next, verified as always; *more: there is something behind it. False: the source failed. */
static bool next_bytes(struct transfer *t, struct str *out, bool *more)
{
	struct flight *f = t->flight;
	const struct body_source *source = f->x->reply.source;
	struct slab *slab = &f->slab[0];
	bool eof = !source || f->fill_at == source->length;
	*more = !eof;
	*out = str_n(t->head.p + t->head_at, t->head.n - t->head_at);
	if (out->n > 0)
		return true;
	if (slab->at == slab->n && !eof && !stream_fill(f, slab, &eof))
		return false;
	*more = !eof;
	*out = str_n(slab->p + slab->at, slab->n - slab->at);
	return true;
}

static void sent(struct transfer *t, size_t n)
{
	struct flight *f = t->flight;
	if (t->head_at < t->head.n) {
		t->head_at += n;
	} else {
		f->slab[0].at += n;
		f->sent += (int64_t)n;
	}
}

static void send_job(void *arg)
{
	struct transfer *t = arg;
	struct lane *lane = t->flight->server->config.bulk;
	struct str bytes;
	bool more;
	for (size_t burst = 0; next_bytes(t, &bytes, &more);) {
		if (bytes.n == 0) {
			finish(t, false);
			return;
		}
		ssize_t n = send(t->fd, bytes.p, bytes.n, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			arm(t, EPOLLOUT | EPOLLONESHOT);
			return;
		}
		if (n < 0)
			break;
		sent(t, (size_t)n);
		t->since_us = now_us();
		burst += (size_t)n;
		if (burst >= BURST_BYTES && lane_queued(lane) > 0 && lane_continue(lane, send_job, t) == E_OK)
			return;
	}
	finish(t, true);
}

int64_t transfer_read_bytes(int fd)
{
	struct tcp_info info = {0};
	socklen_t n = sizeof info;
	int unread;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) < 0 || n < offsetof(struct tcp_info, tcpi_bytes_received) + 8 ||
	    ioctl(fd, SIOCINQ, &unread) < 0)
		return -1;
	return (int64_t)info.tcpi_bytes_received - unread;
}

/* Or else MHD has read on, into a request that was sent without waiting for this one's answer, and must go on itself. */
static bool is_alone(const struct flight *f)
{
	const struct intake *in = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	int fd = MHD_get_connection_info(f->con, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	return in->used_bytes >= 0 && in->used_bytes == transfer_read_bytes(fd);
}

static bool is_on_this_machine(const struct transfer *t)
{
	static const uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127};
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&t->address)->sin6_addr;
	if (t->address.ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)&t->address)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(v6) || memcmp(v6, mapped, sizeof mapped) == 0;
}

/* To a proxy on this machine there is no network that could be congested. Where a host paces all that is sent (BBR), the timers of that
 * would be a third of a download's CPU. */
static void do_without_pacing(const struct transfer *t)
{
	static const char plain[] = "reno"; /* every kernel has it, and all may choose it */
	if (is_on_this_machine(t))
		(void)setsockopt(t->fd, IPPROTO_TCP, TCP_CONGESTION, plain, sizeof plain - 1);
}

/* Small answers, those whose length is not known, and those to old clients are MHD's. */
static bool is_large(const struct flight *f)
{
	const struct body_source *source = f->x->reply.source;
	return source && source->length >= TRANSFER_MIN && f->x->req.method == HTTP_GET && !f->old_http && !f->close_after && is_alone(f);
}

bool transfer_answer(struct flight *f)
{
	struct transfer *t = f->transfer;
	struct exchange *x = f->x;
	if (!t && is_large(f) && (t = take(f)))
		do_without_pacing(t);
	if (!t)
		return false;
	must(!x->reply.source || x->reply.source->length >= 0);
	slab_put(f->server, &f->slab[0]);
	slab_put(f->server, &f->slab[1]);
	t->closes = f->close_after || wants_close(&x->req) || atomic_load(&f->server->stopping);
	t->sending = true;
	put_head(t);
	if (!x->reply.source) {
		buf_str(&t->head, buf_as_str(&x->reply.body));
		f->sent = (int64_t)x->reply.body.n;
	}
	t->since_us = now_us();
	send_job(t);
	return true;
}

/* ---- the thread ---- */

static void on_ready(struct transfer *t)
{
	struct transfers *all = t->all;
	if (!t->sending) {
		receive(t);
		return;
	}
	pthread_mutex_lock(&all->lock);
	t->armed = false;
	pthread_mutex_unlock(&all->lock);
	if (lane_continue(t->flight->server->config.bulk, send_job, t))
		finish(t, true);
}

/* Peers that have been silent for too long; everybody, once the server cuts. */
static void end_overdue(struct transfers *all)
{
	const struct http_server_config *c = &all->server->config;
	int64_t silence_us = c->idle_timeout_s ? SECONDS_US(c->idle_timeout_s) : MILLIS_US(LIMIT_SLOW_BODY_MS);
	int64_t since_us = now_us() - silence_us;
	struct transfer *overdue = NULL;
	pthread_mutex_lock(&all->lock);
	for (struct transfer *t = all->first; t; t = t->next) {
		if (!t->armed || (t->since_us > since_us && !atomic_load(&all->server->cutting)))
			continue;
		t->armed = false;
		t->queued_next = overdue;
		overdue = t;
	}
	pthread_mutex_unlock(&all->lock);
	for (struct transfer *t = overdue, *next; t; t = next) {
		next = t->queued_next;
		finish(t, true);
	}
}

static void *run(void *arg)
{
	struct transfers *all = arg;
	struct epoll_event events[64];
	int64_t look_us = now_us();
	bool back = false; /* sockets wait to be given back */
	while (!atomic_load(&all->stopping)) {
		int n = epoll_wait(all->epoll, events, 64, back ? 1 : LOOK_MS);
		for (int i = 0; i < n; i++) {
			uint64_t count;
			if (events[i].data.ptr)
				on_ready(events[i].data.ptr);
			else
				back |= read(all->wake, &count, sizeof count) > 0;
		}
		back = back && give_back(all);
		if (!atomic_load(&all->server->cutting) && now_us() < look_us)
			continue;
		end_overdue(all);
		look_us = now_us() + MILLIS_US(LOOK_MS);
	}
	return NULL;
}

struct transfers *transfers_new(struct http_server *s)
{
	struct transfers *all = calloc(1, sizeof *all);
	int pair[2];
	must(all != NULL);
	all->server = s;
	pthread_mutex_init(&all->lock, NULL);
	all->epoll = epoll_create1(EPOLL_CLOEXEC);
	all->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	must(all->epoll >= 0 && all->wake >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	all->dead = pair[0];
	close(pair[1]);
	struct epoll_event ev = {.events = EPOLLIN};
	must(epoll_ctl(all->epoll, EPOLL_CTL_ADD, all->wake, &ev) == 0);
	must(pthread_create(&all->thread, NULL, run, all) == 0);
	pthread_setname_np(all->thread, "transfers");
	return all;
}

void transfers_cut(struct transfers *all)
{
	pthread_mutex_lock(&all->lock); /* whoever gives a socket back has done so, or sees that the server cuts */
	pthread_mutex_unlock(&all->lock);
	wake(all);
}

void transfers_free(struct transfers *all)
{
	atomic_store(&all->stopping, true);
	wake(all);
	pthread_join(all->thread, NULL);
	give_back(all);
	must(!all->first);
	close(all->epoll);
	close(all->wake);
	close(all->dead);
	pthread_mutex_destroy(&all->lock);
	free(all);
}
