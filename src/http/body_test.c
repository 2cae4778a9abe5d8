/* Bodies that trickle, on a clock that jumps: whoever sends less than BODY_RATE_MIN on average is hung up on, whichever way the
 * body takes, and also when it was refused and is read for the sake of the connection alone. And what large bodies past libmicrohttpd
 * must not do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/server_priv.h"

enum { LENGTH = 1 << 20 };

static _Atomic int64_t ahead_us;
static _Atomic int opened, closed;

static int64_t now(const struct clock *c)
{
	(void)c;
	return clock_now(&clock_system);
}

static int64_t mono(const struct clock *c)
{
	(void)c;
	return clock_mono(&clock_system) + atomic_load(&ahead_us);
}

static const struct clock jumping = {.now_us = now, .monotonic_us = mono};

/* ---- a server ---- */

struct memory {
	struct body_sink base;
	size_t n, size;
	bool empty, odd; /* the answer: without a body, with a header that would end its line */
	char p[LENGTH + 4096];
};

static int feed(struct body_sink *base, struct ctx *ctx, const void *p, size_t n)
{
	(void)ctx;
	(void)p;
	((struct memory *)base)->n += n;
	return E_OK;
}

static void *room(struct body_sink *base, size_t *n)
{
	struct memory *m = (struct memory *)base;
	*n = m->size - m->n;
	return *n ? m->p + m->n : NULL;
}

static void took(struct body_sink *base, size_t n)
{
	((struct memory *)base)->n += n;
}

static int end(struct body_sink *base, struct ctx *ctx, struct reply *out)
{
	static const struct http_header odd = {{"X-Odd", 5}, {"1\r\nX-More: 2", 12}};
	struct memory *m = (struct memory *)base;
	(void)ctx;
	out->status = m->empty ? 204 : 200;
	out->headers[0] = odd;
	out->n_headers = m->odd;
	buf_fmt(&out->body, "%zu", m->n);
	return E_OK;
}

static void shut(struct body_sink *base)
{
	free(base);
	atomic_fetch_add(&closed, 1);
}

static int open_sink(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	if (request_query(req, ctx->arena, "refused").p)
		return ctx_fail(ctx, E_QUOTA, "No.");
	struct memory *m = calloc(1, sizeof *m);
	assert_non_null(m);
	m->base = (struct body_sink){feed, end, shut, NULL, NULL, NULL};
	struct str whole = request_query(req, ctx->arena, "whole");
	if (whole.p) {
		m->base.room = room;
		m->base.took = took;
		m->size = str_eq(whole, STR("less")) ? LENGTH / 2 : str_eq(whole, STR("more")) ? sizeof m->p : LENGTH;
		m->empty = str_eq(whole, STR("empty"));
		m->odd = str_eq(whole, STR("odd"));
	}
	*out = &m->base;
	atomic_fetch_add(&opened, 1);
	return E_OK;
}

static int post(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)ctx;
	buf_fmt(&out->body, "%zu", req->body.n);
	return E_OK;
}

static int fill(struct body_source *base, int64_t position, void *out, size_t cap, size_t *got)
{
	(void)base;
	(void)position;
	memset(out, 0, cap);
	*got = cap;
	return E_OK;
}

static void close_zeros(struct body_source *base)
{
	(void)base;
}

static int get_zeros(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)req;
	out->source = arena_new(ctx->arena, struct body_source);
	*out->source = (struct body_source){.fill = fill, .close = close_zeros, .length = LENGTH};
	return E_OK;
}

static int verify(struct authenticator *a, struct ctx *ctx, struct str token)
{
	(void)a;
	ctx->tenant_id = 7;
	return str_eq(token, STR("good")) ? E_OK : E_UNAUTHENTICATED;
}

static const struct route routes[] = {
    {.method = HTTP_POST, .template = "/collected", .operation = "collected", .kind = ROUTE_RAW, .handle = post, .body_max = LENGTH},
    {.method = HTTP_GET, .template = "/zeros", .operation = "zeros", .kind = ROUTE_RAW, .lane = LANE_BULK, .handle = get_zeros},
    {.method = HTTP_PUT, .template = "/stream", .operation = "stream", .kind = ROUTE_STREAM, .stream = open_sink},
};

static struct http *http;
static struct lane *meta, *bulk;
static struct http_server *server;
static struct authenticator auth = {.verify = verify};

static int start(void **state)
{
	const char *why;
	(void)state;
	http = http_new(&(struct http_config){.routes = routes, .n_routes = 3, .clock = &jumping, .rng = &rng_system, .auth = &auth});
	meta = lane_new("meta", 1, 64);
	bulk = lane_new("bulk", 1, 64);
	return http_server_start(&(struct http_server_config){.http = http, .meta = meta, .bulk = bulk, .listen = "127.0.0.1:0", .threads = 1},
	                         &server, &why);
}

static int stop(void **state)
{
	(void)state;
	http_server_stop(server);
	lane_free(meta);
	lane_free(bulk);
	http_free(http); /* must() that no exchange is left */
	return 0;
}

/* ---- a peer ---- */

static void send_bytes(int fd, size_t n)
{
	char zeros[4096] = {0};
	while (n) {
		ssize_t k = send(fd, zeros, n < sizeof zeros ? n : sizeof zeros, MSG_NOSIGNAL);
		assert_true(k > 0);
		n -= (size_t)k;
	}
}

static int ask(const char *line, const char *version, const char *token, int length)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(server))};
	struct timeval patience = {10, 0};
	char head[256];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	int n = snprintf(head, sizeof head, "%s HTTP/%s\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", line, version, token, length);
	assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
	return fd;
}

static int begin(const char *line, const char *token)
{
	return ask(line, "1.1", token, LENGTH);
}

/* Until the server has taken all that was sent: only then may the clock jump over it. */
static void is_taken(int fd)
{
	struct sockaddr_in me;
	socklen_t n = sizeof me;
	char line[256], want[64];
	bool waits = true;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&me, &n), 0);
	snprintf(want, sizeof want, "0100007F:%04X 0100007F:%04X", (unsigned)http_server_port(server), (unsigned)ntohs(me.sin_port));
	for (int i = 0; waits && i < 5000; i++) {
		FILE *f = fopen("/proc/net/tcp", "r");
		int unsent = 1;
		unsigned unread = 1;
		assert_non_null(f);
		while (fgets(line, sizeof line, f))
			if (strstr(line, want) && sscanf(strstr(line, want) + 27, "%*x %*x:%x", &unread) == 1)
				break;
		fclose(f);
		assert_int_equal(ioctl(fd, SIOCOUTQ, &unsent), 0);
		waits = unsent || unread;
		usleep(1000);
	}
	assert_false(waits);
	usleep(5000); /* and looked at the clock */
}

/* The server has hung up without a word. */
static void is_cut(int fd)
{
	char some[16];
	ssize_t n = recv(fd, some, sizeof some, 0);
	assert_true(n == 0 || (n < 0 && errno != EAGAIN));
	close(fd);
}

static void is_answered(int fd, int status)
{
	char got[4096], want[32];
	size_t n = 0;
	snprintf(want, sizeof want, "HTTP/1.1 %d ", status);
	while (n < strlen(want)) {
		ssize_t k = recv(fd, got + n, sizeof got - n, 0);
		assert_true(k > 0);
		n += (size_t)k;
	}
	assert_memory_equal(got, want, strlen(want));
	close(fd);
}

/* All that comes until the server hangs up, as it does on who says so, or is silent. */
static size_t read_all(int fd, char *got, size_t size)
{
	size_t n = 0;
	for (ssize_t k; n < size && (k = recv(fd, got + n, size - n, 0)) != 0; n += (size_t)k)
		assert_true(k > 0);
	close(fd);
	got[n < size ? n : size - 1] = 0;
	return n;
}

static const struct {
	const char *line, *token;
	int status;
} ways[] = {
    {"POST /collected", "good", 200},     {"POST /collected", "bad", 401},      {"PUT /stream", "good", 200},
    {"PUT /stream?whole=1", "good", 200}, {"PUT /stream?refused=1", "good", 507}, {"PUT /stream", "bad", 401},
};

static void test_trickles_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int fd = begin(ways[i].line, ways[i].token);
		send_bytes(fd, 300000); /* the rest of one that may go past MHD does so */
		is_taken(fd);
		atomic_fetch_add(&ahead_us, SECONDS_US(300000 / BODY_RATE_MIN + 1));
		send_bytes(fd, 1);
		is_cut(fd);
	}
	for (int i = 0; i < 1000 && atomic_load(&closed) < atomic_load(&opened); i++)
		usleep(1000);
	assert_int_equal(closed, opened);
}

static void test_slow_ones_are_heard(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int fd = begin(ways[i].line, ways[i].token);
		send_bytes(fd, 300000);
		is_taken(fd);
		atomic_fetch_add(&ahead_us, SECONDS_US(300000 / BODY_RATE_MIN - 1));
		send_bytes(fd, LENGTH - 300000);
		is_answered(fd, ways[i].status);
	}
}

static const char next[] = "POST /collected HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";

/* Of bodies that may be received straight into memory: less of it, more of it, and then the next request. */
static void test_what_is_taken(void **state)
{
	static const char *const lines[] = {"PUT /stream?whole=1", "PUT /stream?whole=less", "PUT /stream?whole=more", "PUT /stream?whole=empty"};
	(void)state;
	for (int i = 0; i < 4; i++) {
		char got[8192];
		int fd = begin(lines[i], "good");
		send_bytes(fd, 300000);
		usleep(20000); /* it is being received */
		send_bytes(fd, LENGTH - 300000);
		assert_int_equal(send(fd, next, sizeof next - 1, MSG_NOSIGNAL), sizeof next - 1);
		read_all(fd, got, sizeof got);
		char *second = strstr(got + 1, "HTTP/1.1 200 ");
		assert_non_null(second);
		assert_string_equal(second + strlen(second) - 5, "\r\n\r\n5");
		second[0] = 0;
		assert_int_equal(strncmp(got, i == 3 ? "HTTP/1.1 204 " : "HTTP/1.1 200 ", 13), 0);
		assert_true((strstr(got, "\r\n\r\n1048576") != NULL) == (i != 3));
		assert_true((strstr(got, "Content-Length") != NULL) == (i != 3));
	}
}

/* Who speaks HTTP/1.0 is hung up on behind the answer; and a header is one line. */
static void test_how_it_is_answered(void **state)
{
	static char got[LENGTH + 4096];
	(void)state;
	int fd = ask("PUT /stream?whole=1", "1.0", "good", LENGTH);
	send_bytes(fd, LENGTH);
	assert_true(read_all(fd, got, sizeof got) < 4096);
	assert_non_null(strstr(got, " 200 OK"));
	assert_true(read_all(ask("GET /zeros", "1.0", "good", 0), got, sizeof got) > LENGTH);
	fd = begin("PUT /stream?whole=odd", "good");
	send_bytes(fd, LENGTH);
	assert_int_equal(send(fd, next, sizeof next - 1, MSG_NOSIGNAL), sizeof next - 1);
	read_all(fd, got, sizeof got);
	assert_int_equal(strncmp(got, "HTTP/1.1 200 ", 13), 0);
	assert_null(strstr(got, "X-More"));
	/* who sends no more is not waited for */
	fd = begin("PUT /stream?whole=1", "good");
	send_bytes(fd, LENGTH / 2);
	shutdown(fd, SHUT_WR);
	is_cut(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_trickles_are_cut, start, stop),
	    cmocka_unit_test_setup_teardown(test_slow_ones_are_heard, start, stop),
	    cmocka_unit_test_setup_teardown(test_what_is_taken, start, stop),
	    cmocka_unit_test_setup_teardown(test_how_it_is_answered, start, stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
