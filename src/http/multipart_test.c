#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "base/buf.h"
#include "http/multipart.h"

static int on_part(void *arg, const struct multipart_part *p)
{
	buf_fmt(arg, "[%.*s|%.*s|%.*s|%.*s]", STR_ARG(p->name), STR_ARG(p->filename), STR_ARG(p->content_type),
	        STR_ARG(p->content_encoding));
	return 0;
}

static int on_data(void *arg, const void *p, size_t n)
{
	buf_put(arg, p, n);
	return 0;
}

static int on_part_end(void *arg)
{
	buf_lit(arg, ";");
	return 0;
}

static const struct multipart_events events = {on_part, on_data, on_part_end};

/* Parses text cut at a and b; writes the events. */
static int parse(struct str text, size_t a, size_t b, struct buf *out)
{
	struct arena arena;
	struct ctx ctx;
	struct multipart *m = NULL;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	int err = multipart_new(&ctx, STR("multipart/form-data; boundary=\"b\""), &events, out, &m);
	if (!err)
		err = multipart_feed(m, text.p, a);
	if (!err)
		err = multipart_feed(m, text.p + a, b - a);
	if (!err)
		err = multipart_feed(m, text.p + b, text.n - b);
	if (!err)
		err = multipart_end(m);
	multipart_free(m);
	arena_fini(&arena);
	return err;
}

static void expect(struct str text, int err, const char *events_text)
{
	for (size_t a = 0; a <= text.n; a++)
		for (size_t b = a; b <= text.n; b++) {
			struct buf out = {0};
			assert_int_equal(parse(text, a, b, &out), err);
			if (!err) {
				buf_char(&out, 0);
				assert_string_equal(out.p, events_text);
			}
			buf_fini(&out);
		}
}

static void test_every_split(void **state)
{
	(void)state;
	expect(STR("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n"
	           "one\r\n-two\r\n--\rb\r\n\r\n--b\r\ncontent-disposition:form-data;name=x\r\n\r\n\r\n--b--\r\nrest"),
	       0, "[f|a.txt|text/plain|]one\r\n-two\r\n--\rb\r\n;[x|||];");
	expect(STR("\r\n--b  \r\nContent-Disposition: form-data; name=q\r\nContent-Encoding: gzip\r\n\r\n\r\r\n--b--"), 0,
	       "[q|||gzip]\r;");
}

static void test_filenames(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a);
#define FILENAME(value) header_param(&a, STR(value), "filename")
	assert_true(str_eq(FILENAME("form-data; name=a; filename=\"q\\\"\\\\;x\"; z=1"), STR("q\"\\;x")));
	assert_true(str_eq(FILENAME("form-data; filename=\"C:\\dir\\f\""), STR("C:\\dir\\f")));
	assert_true(str_eq(FILENAME("x; filename=\"e\"; filename*=utf-8'en'%E2%82%AC%20rates"), STR("\xe2\x82\xac rates")));
	assert_null(FILENAME("x; filename=a; filename=b").p);
	assert_null(FILENAME("x; filename=\"a").p);
	assert_null(FILENAME("x; filename*=latin1''a").p);
	assert_true(str_eq(FILENAME("x; filename*=latin1''a; filename=b"), STR("b")));
	assert_null(FILENAME("x; filename*=UTF-8''a; filename*=UTF-8''a").p);
	assert_null(FILENAME("x; filename*=UTF-8''%00").p);
	assert_null(FILENAME("x").p);
	arena_fini(&a);
}

static void test_malformed(void **state)
{
	(void)state;
	expect(STR("--b\r\nContent-Disposition: form-data; name=f\r\n\r\ndata"), E_BAD_REQUEST, "");
	expect(STR("--b\r\n\r\ndata\r\n--b--"), E_BAD_REQUEST, "");
	expect(STR("--bx\r\nContent-Disposition: form-data; name=f\r\n\r\n\r\n--b--"), E_BAD_REQUEST, "");
	expect(STR("--b\nContent-Disposition: form-data; name=f\n\nx\n--b--"), E_BAD_REQUEST, "");
	expect(STR("--b\r\nContent-Disposition: form-data; name=f\r\n folded\r\n\r\n\r\n--b--"), E_BAD_REQUEST, "");
	expect(STR(""), E_BAD_REQUEST, "");
}

static void test_limits(void **state)
{
	(void)state;
	struct buf text = {0}, out = {0};
	for (int i = 0; i <= MULTIPART_PART_MAX; i++)
		buf_lit(&text, "--b\r\nContent-Disposition: form-data; name=f\r\n\r\n\r\n");
	buf_lit(&text, "--b--");
	assert_int_equal(parse(buf_as_str(&text), 0, 0, &out), E_BAD_REQUEST);
	buf_clear(&text);
	buf_lit(&text, "--b\r\nX: ");
	for (int i = 0; i < MULTIPART_HEADER_MAX; i++)
		buf_char(&text, 'x');
	assert_int_equal(parse(buf_as_str(&text), 0, 0, &out), E_BAD_REQUEST);
	buf_fini(&text);
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_split),
	    cmocka_unit_test(test_filenames),
	    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
