/* A real server on a free port, and clients made of bare sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "http/download.h"
#include "http/server.h"
#include "io/logsink.h"

static _Atomic int sinks_closed, downloads_closed, sockets_closed, gate;

/* ---- handlers ---- */

static int get_echo(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)ctx;
	buf_fmt(&out->body, "{\"id\":\"%.*s\"}", STR_ARG(req->params[0]));
	return E_OK;
}

static int post_echo(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)ctx;
	buf_str(&out->body, req->body);
	return E_OK;
}

static int get_slow(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)ctx;
	(void)req;
	while (!atomic_load(&gate))
		usleep(1000);
	buf_lit(&out->body, "{}");
	return E_OK;
}

struct sum {
	struct body_sink base;
	struct sha256_state *sha;
	int64_t n;
	int64_t fail_at;
};

static int sum_feed(struct body_sink *base, struct ctx *ctx, const void *p, size_t n)
{
	struct sum *s = (struct sum *)base;
	sha256_update(s->sha, p, n);
	s->n += (int64_t)n;
	return s->fail_at && s->n > s->fail_at ? ctx_fail(ctx, E_QUOTA, "Too much.") : E_OK;
}

static int sum_end(struct body_sink *base, struct ctx *ctx, struct reply *out)
{
	struct sum *s = (struct sum *)base;
	(void)ctx;
	struct sha256 digest = sha256_final(s->sha);
	char hex[64];
	hex_encode(digest.b, 32, hex);
	buf_fmt(&out->body, "%lld %.64s", (long long)s->n, hex);
	return E_OK;
}

static void sum_close(struct body_sink *base)
{
	sha256_free(((struct sum *)base)->sha);
	atomic_fetch_add(&sinks_closed, 1);
}

static int put_stream(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	struct sum *s = arena_new(ctx->arena, struct sum);
	s->base = (struct body_sink){sum_feed, sum_end, sum_close};
	s->sha = sha256_new();
	if (request_query(req, ctx->arena, "fail").p)
		s->fail_at = 1 << 20;
	*out = &s->base;
	return E_OK;
}

static char byte_at(int64_t i)
{
	return (char)((uint64_t)i * 0x9e3779b97f4a7c15u >> 56);
}

/* A sink with memory for the whole body. */
struct gathered {
	struct body_sink base;
	char *p;
	size_t n, size;
};

static int gathered_feed(struct body_sink *base, struct ctx *ctx, const void *p, size_t n)
{
	struct gathered *g = (struct gathered *)base;
	(void)ctx;
	memcpy(g->p + g->n, p, n);
	g->n += n;
	return E_OK;
}

static void *gathered_room(struct body_sink *base, size_t *n)
{
	struct gathered *g = (struct gathered *)base;
	*n = g->size - g->n;
	return *n ? g->p + g->n : NULL;
}

static void gathered_took(struct body_sink *base, size_t n)
{
	((struct gathered *)base)->n += n;
}

static int gathered_end(struct body_sink *base, struct ctx *ctx, struct reply *out)
{
	struct gathered *g = (struct gathered *)base;
	size_t right = 0;
	(void)ctx;
	while (right < g->n && g->p[right] == byte_at((int64_t)right))
		right++;
	buf_fmt(&out->body, "%zu of %zu", right, g->size);
	return E_OK;
}

static void gathered_close(struct body_sink *base)
{
	free(((struct gathered *)base)->p);
	atomic_fetch_add(&sinks_closed, 1);
}

static int put_gathered(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	struct gathered *g = arena_new(ctx->arena, struct gathered);
	uint64_t size = 0;
	str_to_u64(request_header(req, STR("content-length")), &size);
	*g = (struct gathered){{gathered_feed, gathered_end, gathered_close, NULL, gathered_room, gathered_took}, NULL, 0, (size_t)size};
	g->p = malloc(g->size + 1);
	assert_non_null(g->p);
	*out = &g->base;
	return E_OK;
}

static int pattern_read(struct download *d, int64_t offset, void *out, size_t n, size_t *got)
{
	(void)d;
	*got = n > 100000 ? 100000 : n;
	for (size_t i = 0; i < *got; i++)
		((char *)out)[i] = byte_at(offset + (int64_t)i);
	return E_OK;
}

static void pattern_close(struct download *d)
{
	(void)d;
	atomic_fetch_add(&downloads_closed, 1);
}

enum { PATTERN = 5000000, BROKEN_AT = 3000000 };

static int broken_read(struct download *d, int64_t offset, void *out, size_t n, size_t *got)
{
	return offset >= BROKEN_AT ? E_CORRUPT : pattern_read(d, offset, out, n, got);
}

static int get_content(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct download *d = arena_new(ctx->arena, struct download);
	*d = (struct download){pattern_read, pattern_close, PATTERN, 0, STR("\"e1\""), STR("text/html"), STR("a\"\xc3\xa4.html")};
	if (request_query(req, ctx->arena, "broken").p)
		d->read = broken_read;
	return download_reply(ctx, req, d, out);
}

static void ws_text(struct socket_session *s, struct ctx *ctx, struct str text)
{
	(void)ctx;
	if (str_eq(text, STR("bye")))
		socket_close(s, 4000);
	else
		socket_send(s, text);
}

static void ws_open(struct socket_session *s, struct ctx *ctx)
{
	(void)ctx;
	socket_send(s, STR("hello"));
}

static void ws_close(struct socket_session *s)
{
	(void)s;
	atomic_fetch_add(&sockets_closed, 1);
}

static int open_socket(struct ctx *ctx, struct request *req, struct socket_session **out)
{
	static const struct socket_handler handler = {ws_open, ws_text, ws_close};
	if (str_eq(req->params[0], STR("none")))
		return E_NOT_FOUND;
	*out = socket_new(&handler, NULL, ctx->tenant_id, 5);
	return E_OK;
}

static int verify(struct authenticator *a, struct ctx *ctx, struct str token)
{
	(void)a;
	ctx->tenant_id = 7;
	return str_eq(token, STR("good")) ? E_OK : E_UNAUTHENTICATED;
}

static const struct route routes[] = {
    {.method = HTTP_GET, .template = "/echo/{id}", .operation = "echo", .kind = ROUTE_RAW, .handle = get_echo},
    {.method = HTTP_POST, .template = "/echo", .operation = "post", .kind = ROUTE_RAW, .handle = post_echo,
     .body_max = 1 << 20, .status = 201},
    {.method = HTTP_GET, .template = "/slow", .operation = "slow", .kind = ROUTE_RAW, .handle = get_slow},
    {.method = HTTP_PUT, .template = "/stream", .operation = "stream", .kind = ROUTE_STREAM, .stream = put_stream},
    {.method = HTTP_PUT, .template = "/gathered", .operation = "gathered", .kind = ROUTE_STREAM, .stream = put_gathered},
    {.method = HTTP_GET, .template = "/content", .operation = "content", .kind = ROUTE_RAW, .lane = LANE_BULK,
     .anonymous = true, .handle = get_content},
    {.method = HTTP_GET, .template = "/ws/{id}", .operation = "ws", .kind = ROUTE_SOCKET, .socket = open_socket},
};

/* ---- the server ---- */

static struct http *http;
static struct lane *meta, *bulk;
static struct hub *hub;
static struct http_server *server;
static struct authenticator auth = {.verify = verify};
static struct metrics *metrics;
static int ws_ping_ms; /* 0: the default */

static int start_with(int threads, size_t queue)
{
	const char *why = "";
	metrics = metrics_new();
	http = http_new(&(struct http_config){.routes = routes,
	                                      .n_routes = sizeof routes / sizeof routes[0],
	                                      .clock = &clock_system,
	                                      .rng = &rng_system,
	                                      .auth = &auth,
	                                      .metrics = metrics,
	                                      .access_log = true});
	meta = lane_new("meta", threads, queue);
	bulk = lane_new("bulk", 2, 1024);
	hub = hub_new();
	return http_server_start(&(struct http_server_config){.http = http,
	                                                      .meta = meta,
	                                                      .bulk = bulk,
	                                                      .hub = hub,
	                                                      .listen = "127.0.0.1:0",
	                                                      .threads = 2,
	                                                      .idle_timeout_s = 2,
	                                                      .ws_ping_ms = ws_ping_ms,
	                                                      .grace_ms = 300},
	                         &server, &why);
}

static int start(void **state)
{
	(void)state;
	return start_with(2, 1024);
}

static int stop(void **state)
{
	(void)state;
	http_server_stop(server);
	lane_free(meta);
	lane_free(bulk);
	hub_free(hub);
	http_free(http); /* must() that no exchange is left */
	metrics_free(metrics);
	return 0;
}

/* ---- a client ---- */

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(server))};
	struct timeval patience = {20, 0};
	inet_pton(AF_INET, "127.0.0.1", &a.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static bool put(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
		if (k <= 0)
			return false;
		p = (const char *)p + k;
		n -= (size_t)k;
	}
	return true;
}

static void say(int fd, const char *text)
{
	assert_true(put(fd, text, strlen(text)));
}

struct answer {
	int status;
	struct buf head, body;
};

static bool more(int fd, struct buf *b)
{
	buf_reserve(b, 1 << 16);
	ssize_t n = recv(fd, b->p + b->n, 1 << 16, 0);
	if (n > 0)
		b->n += (size_t)n;
	return n > 0;
}

static struct str field(const struct answer *a, const char *name)
{
	struct str rest = buf_as_str(&a->head);
	while (rest.n) {
		struct str line = str_trim(str_cut(&rest, '\n')), key = str_cut(&line, ':');
		if (str_ieq(key, str_c(name)))
			return str_trim(line);
	}
	return STR_NULL;
}

/* Reads one reply (with a Content-Length). status 0: the connection ended first. */
static void answer(int fd, bool head_only, struct answer *a)
{
	int64_t length = 0;
	char *end = NULL;
	*a = (struct answer){0};
	while (!(end = a->head.n ? memmem(a->head.p, a->head.n, "\r\n\r\n", 4) : NULL))
		if (!more(fd, &a->head))
			return;
	size_t n = (size_t)(end - a->head.p) + 4;
	buf_put(&a->body, a->head.p + n, a->head.n - n);
	a->head.n = n;
	str_to_i64(field(a, "content-length"), &length);
	while (!head_only && a->body.n < (size_t)length)
		if (!more(fd, &a->body))
			return;
	a->status = (int)strtol(a->head.p + 9, NULL, 10);
}

static void done(struct answer *a)
{
	buf_fini(&a->head);
	buf_fini(&a->body);
}

#define AUTH "Host: x\r\nAuthorization: Bearer good\r\n"

static int ask(int fd, const char *text, const char *expect_body)
{
	struct answer a;
	say(fd, text);
	answer(fd, false, &a);
	buf_char(&a.body, 0);
	if (expect_body)
		assert_string_equal(a.body.p, expect_body);
	int status = a.status;
	done(&a);
	return status;
}

/* ---- tests ---- */

static void test_requests(void **state)
{
	(void)state;
	int fd = dial();
	assert_int_equal(ask(fd, "GET /echo/a%2Fb?token=x HTTP/1.1\r\n" AUTH "\r\n", "{\"id\":\"a/b\"}"), 200);
	assert_int_equal(ask(fd, "GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\n", NULL), 401);
	assert_int_equal(ask(fd, "GET /nowhere HTTP/1.1\r\n" AUTH "\r\n", NULL), 404);
	assert_int_equal(ask(fd, "DELETE /echo HTTP/1.1\r\n" AUTH "\r\n", NULL), 405);
	assert_int_equal(ask(fd, "OPTIONS /echo HTTP/1.1\r\n" AUTH "\r\n", NULL), 204);
	assert_int_equal(ask(fd, "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: 2\r\n\r\nhi", "hi"), 201);
	assert_int_equal(ask(fd, "POST /echo HTTP/1.1\r\n" AUTH "\r\n", ""), 201);
	assert_int_equal(ask(fd, "POST /echo HTTP/1.1\r\n" AUTH "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
	                     "hi!"), 201);
	/* two at once */
	assert_int_equal(ask(fd, "GET /echo/1 HTTP/1.1\r\n" AUTH "\r\nGET /echo/2 HTTP/1.1\r\n" AUTH "\r\n", NULL), 200);
	close(fd);
	fd = dial();
	assert_int_equal(ask(fd, "GET /echo/%zz HTTP/1.1\r\n" AUTH "\r\n", NULL), 400);
	close(fd);
	fd = dial();
	assert_int_equal(ask(fd, "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: 9999999\r\n\r\nxx", NULL), 413);
	close(fd);
	fd = dial();
	assert_int_equal(ask(fd, "PUT /stream HTTP/1.1\r\n" AUTH "\r\n", NULL), 411);
	close(fd);
	fd = dial();
	struct answer a;
	say(fd, "HEAD /content HTTP/1.1\r\nHost: x\r\n\r\n");
	answer(fd, true, &a);
	assert_int_equal(a.status, 200);
	assert_true(str_eq(field(&a, "content-length"), STR("5000000")));
	done(&a);
	assert_int_equal(ask(fd, "GET /echo/1 HTTP/1.1\r\n" AUTH "\r\n", NULL), 200);
	close(fd);
}

/* Nothing that two parsers could read in two ways may pass. */
static void test_desync(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	    "POST /echo HTTP/1.1\r\n" AUTH "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: +2\r\n\r\nhi",
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length : 2\r\n\r\nhi",
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length:\r\n 2\r\n\r\nhi",
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: 1\r\n\t2\r\n\r\nhi",
	    "POST /echo HTTP/1.1\r\n" AUTH "Content-Length: 2\r\nTransfer-Encoding:\r\n chunked\r\n\r\nhi",
	    "POST /nowhere HTTP/1.1\r\n" AUTH "Transfer-Encoding:\r\n chunked\r\n\r\nGET /echo/1 HTTP/1.1\r\n" AUTH "\r\n",
	    "POST /echo HTTP/1.1\r\n" AUTH "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n",
	    "POST /echo HTTP/1.1\r\n" AUTH "X: a\nContent-Length: 2\r\n\r\nhi",
	    "POST /echo HTTP/1.1\r\n" AUTH "X: a\rContent-Length: 2\r\n\r\nhi",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		int fd = dial();
		struct buf rest = {0};
		int status = ask(fd, bad[i], NULL);
		assert_true(status == 400 || status == 0 || status == 404);
		shutdown(fd, SHUT_WR);
		while (more(fd, &rest))
			;
		assert_null(rest.n ? memmem(rest.p, rest.n, "HTTP/1.1 2", 10) : NULL);
		buf_fini(&rest);
		close(fd);
	}
}

static void upload(size_t total, bool chunked, const char *query, int expect)
{
	int fd = dial();
	struct sha256_state *sha = sha256_new();
	static char piece[1 << 16];
	char head[256], size[32], hex[64];
	struct answer a;
	snprintf(size, sizeof size, "Content-Length: %zu", total);
	snprintf(head, sizeof head, "PUT /stream%s HTTP/1.1\r\n" AUTH "%s\r\n\r\n", query,
	         chunked ? "Transfer-Encoding: chunked" : size);
	say(fd, head);
	for (size_t at = 0; at < total;) {
		size_t n = total - at < sizeof piece ? total - at : sizeof piece;
		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at((int64_t)(at + i));
		sha256_update(sha, piece, n);
		snprintf(head, sizeof head, "%zx\r\n", n);
		if (chunked)
			say(fd, head);
		if (!put(fd, piece, n))
			break;
		if (chunked)
			say(fd, "\r\n");
		at += n;
	}
	if (chunked)
		say(fd, "0\r\n\r\n");
	answer(fd, false, &a);
	assert_int_equal(a.status, expect);
	if (expect == 200) {
		struct sha256 digest = sha256_final(sha);
		hex_encode(digest.b, 32, hex);
		snprintf(head, sizeof head, "%zu %.64s", total, hex);
		assert_true(str_eq(buf_as_str(&a.body), str_c(head)));
	}
	sha256_free(sha);
	done(&a);
	close(fd);
}

static void wait_for(_Atomic int *n, int value)
{
	for (int i = 0; i < 5000 && atomic_load(n) != value; i++)
		usleep(1000);
	assert_int_equal(atomic_load(n), value);
}

static void test_uploads(void **state)
{
	(void)state;
	atomic_store(&sinks_closed, 0);
	upload(0, false, "", 200);
	upload(1, false, "", 200);
	upload(65536, false, "", 200);
	upload(65537, false, "", 200);
	upload(300000, true, "", 200);
	upload(64 << 20, false, "", 200);
	upload(3 << 20, false, "?fail=1", 507);
	wait_for(&sinks_closed, 7);
	/* the client goes away in the middle */
	int fd = dial();
	say(fd, "PUT /stream HTTP/1.1\r\n" AUTH "Content-Length: 1000000\r\n\r\nabc");
	usleep(50000);
	close(fd);
	wait_for(&sinks_closed, 8);
	/* or says nothing more (idle_timeout_s) */
	fd = dial();
	say(fd, "PUT /stream HTTP/1.1\r\n" AUTH "Content-Length: 1000000\r\n\r\nabc");
	wait_for(&sinks_closed, 9);
	close(fd);
}

static void fetch(const char *headers, int status, size_t first, size_t length)
{
	char text[256];
	struct answer a;
	int fd = dial();
	snprintf(text, sizeof text, "GET /content HTTP/1.1\r\nHost: x\r\n%s\r\n", headers);
	say(fd, text);
	answer(fd, status == 304, &a);
	assert_int_equal(a.status, status);
	if (status == 304)
		assert_true(str_eq(field(&a, "content-length"), STR("5000000")));
	if (status < 300) {
		assert_int_equal(a.body.n, length);
		for (size_t i = 0; i < length; i++)
			assert_true(a.body.p[i] == byte_at((int64_t)(first + i)));
	}
	done(&a);
	close(fd);
}

static void test_downloads(void **state)
{
	(void)state;
	atomic_store(&downloads_closed, 0);
	fetch("", 200, 0, PATTERN);
	fetch("Range: bytes=1000000-3999999\r\n", 206, 1000000, 3000000);
	fetch("Range: bytes=-5\r\n", 206, PATTERN - 5, 5);
	fetch("Range: bytes=5000000-\r\n", 416, 0, 0);
	fetch("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n", 200, 0, PATTERN);
	fetch("If-None-Match: \"e1\"\r\n", 304, 0, 0);
	fetch("If-Match: \"e2\"\r\n", 412, 0, 0);
	wait_for(&downloads_closed, 7);
	struct answer a;
	int fd = dial();
	say(fd, "GET /content HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9,20-29\r\n\r\n");
	answer(fd, false, &a);
	assert_int_equal(a.status, 206);
	assert_true(str_starts(field(&a, "content-type"), STR("multipart/byteranges; boundary=")));
	assert_non_null(memmem(a.body.p, a.body.n, "Content-Range: bytes 20-29/5000000\r\n\r\n", 38));
	assert_true(str_eq(field(&a, "content-disposition"),
	                   STR("attachment; filename=\"a___.html\"; filename*=UTF-8''a%22%C3%A4.html")));
	done(&a);
	close(fd);
	wait_for(&downloads_closed, 8);
	/* the client goes away in the middle */
	fd = dial();
	say(fd, "GET /content HTTP/1.1\r\nHost: x\r\n\r\n");
	char some[1000];
	assert_true(recv(fd, some, sizeof some, 0) > 0);
	close(fd);
	wait_for(&downloads_closed, 9);
}

/* ---- bodies that pass MHD by ---- */

enum { BIG = 3 << 20 };

static char *pattern(size_t n)
{
	char *p = malloc(n);
	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = byte_at((int64_t)i);
	return p;
}

static void say_gathered(int fd, size_t n, const char *headers)
{
	char head[256];
	snprintf(head, sizeof head, "PUT /gathered HTTP/1.1\r\n" AUTH "%sContent-Length: %zu\r\n\r\n", headers, n);
	say(fd, head);
}

/* Reads until the text has come; what came. */
static struct buf read_until(int fd, const char *text)
{
	struct buf b = {0};
	while (!(b.n && memmem(b.p, b.n, text, strlen(text))))
		assert_true(more(fd, &b));
	return b;
}

static void is_pattern(struct str answer, size_t n)
{
	const char *head = memmem(answer.p, answer.n, "\r\n\r\n", 4);
	assert_true(head && (size_t)(answer.p + answer.n - (head + 4)) >= n);
	for (size_t i = 0; i < n; i++)
		assert_true(head[4 + i] == byte_at((int64_t)i));
}

/* The connection serves further requests afterwards, also those that were sent without waiting. */
static void test_transfers(void **state)
{
	(void)state;
	static const char get[] = "GET /content HTTP/1.1\r\nHost: x\r\n\r\n", next[] = "GET /echo/1 HTTP/1.1\r\n" AUTH "\r\n";
	static const char want[] = "3145728 of 3145728";
	char *body = pattern(BIG);
	struct answer a;
	int fd = dial();
	for (int i = 0; i < 3; i++) {
		say_gathered(fd, BIG, "");
		assert_true(put(fd, body, BIG));
		assert_int_equal(ask(fd, "", want), 200);
		say(fd, get);
		answer(fd, false, &a);
		assert_int_equal(a.status, 200);
		assert_int_equal(a.body.n, PATTERN);
		done(&a);
		assert_int_equal(ask(fd, next, "{\"id\":\"1\"}"), 200);
	}
	for (int i = 0; i < 3; i++) {
		struct buf text = {0};
		say_gathered(fd, BIG, "");
		buf_put(&text, body, BIG);
		buf_fmt(&text, "%s%s", get, next);
		assert_true(put(fd, text.p, text.n));
		buf_fini(&text);
		text = read_until(fd, "{\"id\":\"1\"}");
		char *first = memmem(text.p, text.n, want, strlen(want));
		assert_non_null(first);
		is_pattern(str_skip(buf_as_str(&text), (size_t)(first - text.p)), PATTERN);
		buf_fini(&text);
	}
	close(fd);
	free(body);
}

static void ends(int fd)
{
	char some[1024];
	while (recv(fd, some, sizeof some, 0) > 0)
		;
	assert_true(errno != EAGAIN);
	close(fd);
}

static void test_transfers_end(void **state)
{
	(void)state;
	char *body = pattern(BIG);
	struct answer a;
	atomic_store(&sinks_closed, 0);
	atomic_store(&downloads_closed, 0);
	/* by the client's wish */
	int fd = dial();
	say_gathered(fd, BIG, "Connection: close\r\n");
	assert_true(put(fd, body, BIG));
	answer(fd, false, &a);
	assert_true(str_eq(field(&a, "connection"), STR("close")));
	assert_true(str_eq(buf_as_str(&a.body), STR("3145728 of 3145728")));
	done(&a);
	ends(fd);
	/* the client goes away, or is silent (idle_timeout_s), in the middle of the body */
	for (int i = 0; i < 2; i++) {
		fd = dial();
		say_gathered(fd, BIG, "");
		assert_true(put(fd, body, BIG / 2));
		if (i == 0)
			close(fd);
		else
			ends(fd);
		wait_for(&sinks_closed, 2 + i);
	}
	/* or reads nothing of the answer; the rest of it is lost with the source */
	int small = 4096;
	fd = dial();
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
	say(fd, "GET /content HTTP/1.1\r\nHost: x\r\n\r\n");
	wait_for(&downloads_closed, 1);
	close(fd);
	fd = dial();
	say(fd, "GET /content?broken=1 HTTP/1.1\r\nHost: x\r\n\r\n");
	answer(fd, false, &a);
	assert_int_equal(a.status, 0);
	assert_true(a.body.n > 0 && a.body.n <= BROKEN_AT);
	done(&a);
	close(fd);
	wait_for(&downloads_closed, 2);
	free(body);
}

static void *busy_client(void *arg)
{
	int fd = dial();
	char text[128], body[64];
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof text, "GET /echo/%d-%d HTTP/1.1\r\n" AUTH "\r\n", (int)(intptr_t)arg, i);
		snprintf(body, sizeof body, "{\"id\":\"%d-%d\"}", (int)(intptr_t)arg, i);
		assert_int_equal(ask(fd, text, body), 200);
	}
	close(fd);
	return NULL;
}

static void test_parallel(void **state)
{
	(void)state;
	pthread_t t[64];
	for (int i = 0; i < 64; i++)
		pthread_create(&t[i], NULL, busy_client, (void *)(intptr_t)i);
	for (int i = 0; i < 64; i++)
		pthread_join(t[i], NULL);
	struct buf text = {0};
	metrics_text(metrics, &text);
	assert_non_null(memmem(text.p, text.n, "{method=\"GET\",path=\"/echo/{id}\",status=\"200\"} 3200\n", 51));
	buf_fini(&text);
}

static void test_full_lane(void **state)
{
	(void)state;
	int fd[4], busy = 0;
	struct answer a;
	assert_int_equal(start_with(1, 1), 0);
	atomic_store(&gate, 0);
	for (int i = 0; i < 4; i++) {
		fd[i] = dial();
		say(fd[i], "GET /slow HTTP/1.1\r\n" AUTH "\r\n");
		usleep(50000); /* the first runs, the second waits, the others find the lane full */
	}
	for (int i = 2; i < 4; i++) {
		answer(fd[i], false, &a);
		busy += a.status == 503 && field(&a, "retry-after").n > 0;
		done(&a);
	}
	assert_int_equal(busy, 2);
	atomic_store(&gate, 1);
	for (int i = 0; i < 2; i++) {
		answer(fd[i], false, &a);
		assert_int_equal(a.status, 200);
		done(&a);
	}
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	stop(NULL);
}

static void *open_gate(void *arg)
{
	(void)arg;
	usleep(700000);
	atomic_store(&gate, 1);
	return NULL;
}

/* Requests still in handlers, uploads half way, downloads unread, sockets open: stop must cut them all and not abort. */
static void test_stop(void **state)
{
	(void)state;
	pthread_t t;
	int fd[12], small = 4096;
	assert_int_equal(start_with(2, 1024), 0);
	atomic_store(&gate, 0);
	for (int i = 0; i < 12; i++) {
		fd[i] = dial();
		setsockopt(fd[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
		if (i >= 8)
			say(fd[i], "PUT /gathered HTTP/1.1\r\n" AUTH "Content-Length: 1000000\r\n\r\nabc");
		else if (i < 2)
			say(fd[i], "GET /slow HTTP/1.1\r\n" AUTH "\r\n");
		else if (i < 4)
			say(fd[i], "PUT /stream HTTP/1.1\r\n" AUTH "Content-Length: 1000000\r\n\r\nabc");
		else if (i < 6)
			say(fd[i], "GET /content HTTP/1.1\r\nHost: x\r\n\r\n");
		else
			say(fd[i], "GET /ws/1?token=good HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
	}
	usleep(100000);
	pthread_create(&t, NULL, open_gate, NULL);
	stop(NULL);
	pthread_join(t, NULL);
	for (int i = 0; i < 12; i++)
		close(fd[i]);
}

static _Atomic int pushing, port_now;

static void *push(void *arg)
{
	static const char text[] = "GET /echo/1 HTTP/1.1\r\n" AUTH "\r\n";
	char reply[512];
	(void)arg;
	while (atomic_load(&pushing)) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atomic_load(&port_now))};
		struct timeval patience = {1, 0};
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && put(fd, text, sizeof text - 1))
			(void)!recv(fd, reply, sizeof reply, 0);
		close(fd);
	}
	return NULL;
}

/* Connections arrive at the very moment: stop must neither abort nor hang. */
static void test_stop_under_load(void **state)
{
	(void)state;
	pthread_t t[6];
	for (int round = 0; round < 25; round++) {
		assert_int_equal(start_with(2, 1024), 0);
		atomic_store(&port_now, http_server_port(server));
		atomic_store(&pushing, 1);
		for (int i = 0; i < 6; i++)
			pthread_create(&t[i], NULL, push, NULL);
		usleep(15000);
		stop(NULL);
		atomic_store(&pushing, 0);
		for (int i = 0; i < 6; i++)
			pthread_join(t[i], NULL);
	}
}

/* ---- WebSockets ---- */

static int upgrade(const char *path)
{
	char text[512];
	struct answer a;
	int fd = dial();
	snprintf(text, sizeof text,
	         "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
	         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	         path);
	say(fd, text);
	memset(&a, 0, sizeof a);
	/* byte by byte: frames may follow at once */
	while (!str_ends(buf_as_str(&a.head), STR("\r\n\r\n"))) {
		char c;
		assert_int_equal(recv(fd, &c, 1, 0), 1);
		buf_char(&a.head, c);
	}
	assert_int_equal(strtol(a.head.p + 9, NULL, 10), 101);
	assert_true(str_eq(field(&a, "sec-websocket-accept"), STR("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
	done(&a);
	return fd;
}

static void ws_put(int fd, int opcode, const char *text, size_t n)
{
	char frame[256] = {(char)(0x80 | opcode), (char)(0x80 | n), 1, 2, 3, 4};
	assert_true(n < 126);
	for (size_t i = 0; i < n; i++)
		frame[6 + i] = (char)(text[i] ^ (1 + (int)(i & 3)));
	/* in two pieces: the server meets half a header */
	assert_true(put(fd, frame, 1));
	usleep(2000);
	assert_true(put(fd, frame + 1, 5 + n));
}

static int ws_get(int fd, char out[126])
{
	uint8_t head[2];
	if (recv(fd, head, 2, MSG_WAITALL) != 2)
		return -1;
	assert_true(head[1] < 126);
	memset(out, 0, 126);
	if (head[1])
		assert_int_equal(recv(fd, out, head[1], MSG_WAITALL), head[1]);
	return head[0] & 15;
}

static void expect_text(int fd, const char *text)
{
	char got[126];
	assert_int_equal(ws_get(fd, got), 1);
	assert_string_equal(got, text);
}

static void expect_close(int fd, int code)
{
	char got[126];
	assert_int_equal(ws_get(fd, got), 8);
	assert_int_equal((uint8_t)got[0] << 8 | (uint8_t)got[1], code);
	close(fd);
}

static void broadcast(struct socket_session *s, void *arg)
{
	socket_send(s, str_c(arg));
}

static void test_sockets(void **state)
{
	(void)state;
	char got[126];
	atomic_store(&sockets_closed, 0);
	int fd = upgrade("/ws/1?token=good");
	expect_text(fd, "hello");
	ws_put(fd, 1, "one", 3);
	expect_text(fd, "one");
	ws_put(fd, 9, "p", 1);
	assert_int_equal(ws_get(fd, got), 10);
	assert_string_equal(got, "p");
	hub_each(hub, 7, broadcast, "all");
	expect_text(fd, "all");
	hub_each(hub, 8, broadcast, "others");
	assert_int_equal(hub_count(hub), 1);
	ws_put(fd, 1, "bye", 3);
	expect_close(fd, 4000);
	wait_for(&sockets_closed, 1);
	expect_close(upgrade("/ws/1?token=bad"), 4401);
	expect_close(upgrade("/ws/1"), 4401);
	expect_close(upgrade("/ws/none?token=good"), 4404);
	fd = upgrade("/ws/1?token=good");
	expect_text(fd, "hello");
	ws_put(fd, 2, "bin", 3);
	expect_close(fd, 1003);
	fd = upgrade("/ws/1?token=good");
	expect_text(fd, "hello");
	ws_put(fd, 8, "\x03\xe8", 2);
	expect_close(fd, 1000);
	fd = upgrade("/ws/1?token=good");
	expect_text(fd, "hello");
	close(fd); /* without a word */
	wait_for(&sockets_closed, 4);
	fd = dial();
	assert_int_equal(ask(fd, "GET /ws/1 HTTP/1.1\r\n" AUTH "\r\n", NULL), 400);
	close(fd);
	assert_int_equal(hub_count(hub), 0);
}

/* A peer that never reads is dropped, whatever it sends meanwhile. */
static void test_deaf_socket(void **state)
{
	(void)state;
	char *big = malloc(64 << 10);
	ws_ping_ms = 100;
	assert_int_equal(start_with(2, 1024), 0);
	ws_ping_ms = 0;
	atomic_store(&sockets_closed, 0);
	int fd = upgrade("/ws/1?token=good");
	for (int i = 0; i < 5000 && !hub_count(hub); i++) /* the answer is sent before the hub knows the session */
		usleep(1000);
	memset(big, 'x', 64 << 10);
	big[(64 << 10) - 1] = 0;
	for (int i = 0; i < 1000; i++)
		hub_each(hub, 7, broadcast, big);
	for (int i = 0; i < 100 && hub_count(hub); i++) {
		char ping[6] = {(char)0x89, (char)0x80};
		(void)!send(fd, ping, sizeof ping, MSG_NOSIGNAL);
		usleep(20000);
	}
	assert_int_equal(hub_count(hub), 0);
	wait_for(&sockets_closed, 1);
	close(fd);
	free(big);
	stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_requests, start, stop),
	    cmocka_unit_test_setup_teardown(test_desync, start, stop),
	    cmocka_unit_test_setup_teardown(test_uploads, start, stop),
	    cmocka_unit_test_setup_teardown(test_downloads, start, stop),
	    cmocka_unit_test_setup_teardown(test_transfers, start, stop),
	    cmocka_unit_test_setup_teardown(test_transfers_end, start, stop),
	    cmocka_unit_test_setup_teardown(test_parallel, start, stop),
	    cmocka_unit_test_setup_teardown(test_sockets, start, stop),
	    cmocka_unit_test(test_deaf_socket),
	    cmocka_unit_test(test_full_lane),
	    cmocka_unit_test(test_stop),
	    cmocka_unit_test(test_stop_under_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
