#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "http/dispatch.h"
#include "http/encode.h"

static int show(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)ctx;
	buf_fmt(&out->body, "%s|%.*s|%.*s", req->route->operation, STR_ARG(req->params[0]), STR_ARG(req->params[1]));
	return E_OK;
}

static int echo(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)ctx;
	buf_str(&out->body, req->body);
	return E_OK;
}

static int refuse(struct ctx *ctx, struct request *req, struct reply *out)
{
	(void)out;
	if (str_eq(req->params[0], STR("field")))
		return ctx_invalid(ctx, "body", STR("name"), "missing", "Field required");
	if (str_eq(req->params[0], STR("inside")))
		return ctx_fail(ctx, E_DB, "secret table");
	return ctx_fail(ctx, E_BUSY, "Later.");
}

static const struct route routes[] = {
    {.method = HTTP_GET, .template = "/a/{x}", .operation = "one", .handle = show, .kind = ROUTE_RAW},
    {.method = HTTP_GET, .template = "/a/trash", .operation = "trash", .handle = show, .kind = ROUTE_RAW},
    {.method = HTTP_GET, .template = "/a/{x}/b/{y}", .operation = "two", .handle = show, .kind = ROUTE_RAW},
    {.method = HTTP_POST, .template = "/echo", .operation = "echo", .handle = echo, .kind = ROUTE_RAW, .anonymous = true,
     .body_max = 100000},
    {.method = HTTP_GET, .template = "/fail/{how}", .operation = "fail", .handle = refuse, .kind = ROUTE_RAW,
     .anonymous = true},
};

static int verify(struct authenticator *a, struct ctx *ctx, struct str token)
{
	(void)a;
	(void)ctx;
	return str_eq(token, STR("good")) ? E_OK : E_UNAUTHENTICATED;
}

static struct authenticator auth = {.verify = verify};
static struct http *http;

static int setup(void **state)
{
	(void)state;
	http = http_new(&(struct http_config){.routes = routes, .n_routes = sizeof routes / sizeof routes[0],
	                                      .clock = &clock_system, .rng = &rng_system, .auth = &auth});
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	http_free(http);
	return 0;
}

static struct exchange *ask(const char *method, const char *target, struct str body, const char *name, const char *value)
{
	const struct http_header h[] = {{STR("Authorization"), STR("bearer good")}, {str_c(name), str_c(value)}};
	return http_dispatch(http, str_c(method), str_c(target), h, name ? 2 : 1, body, STR("127.0.0.1"));
}

static void expect(const char *method, const char *target, int status, const char *body)
{
	struct exchange *x = ask(method, target, STR(""), NULL, NULL);
	assert_int_equal(x->reply.status, status);
	if (body)
		assert_true(str_eq(buf_as_str(&x->reply.body), str_c(body)));
	exchange_free(x);
}

static void test_routes(void **state)
{
	(void)state;
	expect("GET", "/a/1", 200, "one|1|");
	expect("GET", "/a/1/?q=%20x", 200, "one|1|");
	expect("GET", "/a/1?q=%zz", 400, NULL);
	expect("GET", "/a/1?x%=1", 400, NULL);
	expect("GET", "/a/1?q=%ff", 400, NULL);
	expect("HEAD", "/a/1", 200, "one|1|");
	expect("GET", "http://host/a/1?q", 200, "one|1|");
	expect("GET", "/a/trash", 200, "trash||");
	expect("GET", "/a/trash/b/%2F%20", 200, "two|trash|/ ");
	expect("GET", "/%61/1", 200, "one|1|");
	expect("GET", "/a//b/1", 404, NULL);
	expect("GET", "/a", 404, NULL);
	expect("GET", "/", 404, NULL);
	expect("GET", "/a/%00", 400, NULL);
	expect("GET", "/a/%0", 400, NULL);
	expect("GET", "/a/%ff", 400, NULL);
	expect("GET", "a/1", 400, NULL);
	expect("POST", "/a/1", 405, NULL);
	expect("BREW", "/a/1", 405, NULL);
	expect("OPTIONS", "/a/1", 204, "");
	expect("GET", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", 404, NULL);
}

/* every byte in every place of a header's value; str_c ends it at 0 */
static void test_header_bytes(void **state)
{
	(void)state;
	for (int i = 256; i < 256 * 20; i++) {
		char value[] = "nineteen characters";
		int c = i % 256, at = i / 256 - 1;
		if (!c)
			continue;
		value[at] = (char)c;
		struct exchange *x = ask("GET", "/a/1", STR(""), "X-Any", value);
		assert_int_equal(x->reply.status, (c < 0x20 && c != '\t') || c == 0x7f ? 400 : 200);
		exchange_free(x);
	}
}

static struct str header_of(struct exchange *x, const char *name)
{
	for (size_t i = 0; i < x->n_headers; i++)
		if (str_ieq(x->headers[i].name, str_c(name)))
			return x->headers[i].value;
	return STR_NULL;
}

static void test_errors(void **state)
{
	(void)state;
	struct exchange *x = ask("GET", "/fail/field", STR(""), "X-Request-Id", "abc-1");
	assert_int_equal(x->reply.status, 422);
	assert_true(str_eq(buf_as_str(&x->reply.body),
	                   STR("{\"detail\":[{\"type\":\"missing\",\"loc\":[\"body\",\"name\"],\"msg\":\"Field required\","
	                       "\"input\":null}],\"error\":{\"code\":\"VALIDATION_ERROR\",\"message\":\"Field required\"},"
	                       "\"meta\":{\"request_id\":\"abc-1\"}}")));
	assert_true(str_eq(header_of(x, "x-request-id"), STR("abc-1")));
	assert_true(str_eq(header_of(x, "cache-control"), STR("private, no-store")));
	exchange_free(x);
	x = ask("GET", "/fail/inside", STR(""), "X-Request-Id", "a\"b");
	assert_int_equal(x->reply.status, 500);
	assert_null(memmem(x->reply.body.p, x->reply.body.n, "secret", 6));
	assert_true(str_starts(header_of(x, "x-request-id"), STR("req_")));
	exchange_free(x);
	x = ask("GET", "/fail/busy", STR(""), NULL, NULL);
	assert_int_equal(x->reply.status, 503);
	assert_true(str_eq(header_of(x, "retry-after"), STR("1")));
	exchange_free(x);
	x = http_dispatch(http, STR("GET"), STR("/a/1"), NULL, 0, STR(""), STR(""));
	assert_int_equal(x->reply.status, 401);
	assert_true(header_of(x, "www-authenticate").n > 0);
	exchange_free(x);
}

static void test_codings(void **state)
{
	(void)state;
	struct encoders *e = encoders_new();
	struct buf big = {0}, packed = {0};
	for (int i = 0; i < 20000; i++)
		buf_lit(&big, "abcd");
	for (int c = CODING_GZIP; c <= CODING_ZSTD; c++) {
		const char *name = coding_name((enum coding)c);
		buf_clear(&packed);
		assert_true(encode(e, (enum coding)c, buf_as_str(&big), &packed));
		struct exchange *x = ask("POST", "/echo", buf_as_str(&packed), "Content-Encoding", name);
		assert_int_equal(x->reply.status, 200);
		assert_true(str_eq(buf_as_str(&x->reply.body), buf_as_str(&big)));
		exchange_free(x);
		x = ask("POST", "/echo", str_head(buf_as_str(&packed), packed.n - 5), "Content-Encoding", name);
		assert_int_equal(x->reply.status, 400);
		exchange_free(x);
		struct buf bomb = {0};
		buf_reserve(&bomb, 1 << 24);
		memset(bomb.p, 0, 1 << 24);
		bomb.n = 1 << 24;
		buf_clear(&packed);
		assert_true(encode(e, (enum coding)c, buf_as_str(&bomb), &packed));
		x = ask("POST", "/echo", buf_as_str(&packed), "Content-Encoding", name);
		assert_int_equal(x->reply.status, 413);
		exchange_free(x);
		buf_fini(&bomb);
		x = ask("POST", "/echo", buf_as_str(&big), "Accept-Encoding", name);
		assert_true(str_eq(header_of(x, "content-encoding"), str_c(name)));
		struct buf plain = {0};
		assert_int_equal(decode((enum coding)c, buf_as_str(&x->reply.body), 100000, &plain), 0);
		assert_true(str_eq(buf_as_str(&plain), buf_as_str(&big)));
		buf_fini(&plain);
		exchange_free(x);
	}
	struct exchange *x = ask("POST", "/echo", STR("x"), "Content-Encoding", "br");
	assert_int_equal(x->reply.status, 415);
	exchange_free(x);
	assert_int_equal(coding_accepted(STR("gzip, zstd;q=0")), CODING_GZIP);
	assert_int_equal(coding_accepted(STR("br")), CODING_IDENTITY);
	buf_fini(&big);
	buf_fini(&packed);
	encoders_free(e);
}

/* ---- rate limits (rate_test.c has the arithmetic) ---- */

static int work(struct ctx *ctx, struct request *req, struct reply *out)
{
	int64_t units = 0;
	(void)out;
	str_to_i64(req->params[0], &units);
	return ctx_charge(ctx, units);
}

static int whose(struct authenticator *a, struct ctx *ctx, struct str token)
{
	(void)a;
	ctx->tenant_id = 7;
	return str_starts(token, STR("good")) ? E_OK : E_UNAUTHENTICATED;
}

static struct str reply_of(const struct exchange *x, const char *name)
{
	for (size_t i = 0; i < x->n_headers; i++)
		if (str_ieq(x->headers[i].name, str_c(name)))
			return x->headers[i].value;
	return STR_NULL;
}

/* The status and what is left; -1: the answer says nothing about it. */
static struct exchange *limited(struct http *h, const char *token, const char *target, int status, int64_t left)
{
	const struct http_header head[] = {{STR("Authorization"), str_c(token)}};
	struct exchange *x = http_dispatch(h, STR("GET"), str_c(target), head, 1, STR(""), STR("::1"));
	int64_t told = -1;
	str_to_i64(reply_of(x, "X-RateLimit-Remaining"), &told);
	assert_int_equal(x->reply.status, status);
	assert_int_equal(told, left);
	return x;
}

static void test_rate_limits(void **state)
{
	(void)state;
	static const struct route ways[] = {
	    {.method = HTTP_GET, .template = "/task/{units}", .operation = "work", .handle = work, .kind = ROUTE_RAW, .cost = 2},
	    {.method = HTTP_GET, .template = "/open/{units}", .operation = "open", .handle = work, .kind = ROUTE_RAW, .anonymous = true},
	};
	struct authenticator who = {.verify = whose};
	struct metrics *m = metrics_new();
	struct http *h = http_new(&(struct http_config){.routes = ways, .n_routes = 2, .clock = &clock_system, .rng = &rng_system, .auth = &who,
	                                                .metrics = m, .rates = {.units = {[RATE_TOKEN] = 10}, .window_s = 3600}});
	exchange_free(limited(h, "bearer good.1", "/task/0", 200, 8));
	exchange_free(limited(h, "bearer good.2", "/task/0", 200, 6)); /* the same, signed otherwise */
	exchange_free(limited(h, "bearer good", "/task/0", 200, 8));
	exchange_free(limited(h, "bearer bad", "/task/0", 401, -1));
	exchange_free(limited(h, "bearer good.1", "/open/5", 200, -1));
	exchange_free(limited(h, "bearer good.1", "/nowhere", 404, -1));
	exchange_free(limited(h, "bearer good.1", "/task/900", 200, 0)); /* more than there are */
	struct exchange *x = limited(h, "bearer good.1", "/task/0", 429, 0);
	int64_t wait_s = 0;
	assert_true(str_to_i64(reply_of(x, "Retry-After"), &wait_s) && wait_s > 3500 && wait_s <= 7200);
	assert_true(str_eq(reply_of(x, "X-RateLimit-Limit"), STR("10")));
	assert_non_null(strstr(arena_cstr(&x->arena, buf_as_str(&x->reply.body)),
	                       "\"details\":{\"dimension\":\"token\",\"limit\":10,\"window_seconds\":3600}}"));
	exchange_free(x);
	struct buf text = {0};
	metrics_text(m, &text);
	buf_char(&text, 0);
	assert_non_null(strstr(text.p, "scaidrive_rate_limit_rejections_total{dimension=\"token\"} 1\n"));
	assert_non_null(strstr(text.p, "scaidrive_rate_limit_rejections_total{dimension=\"user\"} 0\n"));
	buf_fini(&text);
	http_free(h);
	metrics_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_routes),
	    cmocka_unit_test(test_header_bytes),
	    cmocka_unit_test(test_errors),
	    cmocka_unit_test(test_codings),
	    cmocka_unit_test(test_rate_limits),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
