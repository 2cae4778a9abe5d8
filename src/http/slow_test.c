/* Bodies that trickle, on a clock that jumps: whoever sends less than BODY_RATE_MIN on average is hung up on, whichever way the
 * body takes, and also when it was refused and is read for the sake of the connection alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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
	size_t n;
	char p[LENGTH];
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
	*n = LENGTH - m->n;
	return *n ? m->p + m->n : NULL;
}

static void took(struct body_sink *base, size_t n)
{
	((struct memory *)base)->n += n;
}

static int end(struct body_sink *base, struct ctx *ctx, struct reply *out)
{
	(void)ctx;
	buf_fmt(&out->body, "%zu", ((struct memory *)base)->n);
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
	if (request_query(req, ctx->arena, "whole").p) {
		m->base.room = room;
		m->base.took = took;
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

static int verify(struct authenticator *a, struct ctx *ctx, struct str token)
{
	(void)a;
	ctx->tenant_id = 7;
	return str_eq(token, STR("good")) ? E_OK : E_UNAUTHENTICATED;
}

static const struct route routes[] = {
    {.method = HTTP_POST, .template = "/collected", .operation = "collected", .kind = ROUTE_RAW, .handle = post, .body_max = LENGTH},
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
	http = http_new(&(struct http_config){.routes = routes, .n_routes = 2, .clock = &jumping, .rng = &rng_system, .auth = &auth});
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

static int begin(const char *line, const char *token)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(server))};
	struct timeval patience = {10, 0};
	char head[256];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	int n = snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", line, token, LENGTH);
	assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
	return fd;
}

/* The server has hung up without a word. */
static void is_cut(int fd)
{
	char some[16];
	assert_true(recv(fd, some, sizeof some, 0) <= 0 && errno != EAGAIN);
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
		usleep(20000);
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
		usleep(20000);
		atomic_fetch_add(&ahead_us, SECONDS_US(300000 / BODY_RATE_MIN - 1));
		send_bytes(fd, LENGTH - 300000);
		is_answered(fd, ways[i].status);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_trickles_are_cut, start, stop),
	    cmocka_unit_test_setup_teardown(test_slow_ones_are_heard, start, stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
