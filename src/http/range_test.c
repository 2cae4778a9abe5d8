#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "http/range.h"

static struct ranges r;

static void one(const char *header, int64_t size, int64_t first, int64_t length)
{
	assert_int_equal(range_parse(str_c(header), size, &r), RANGE_PARTIAL);
	assert_int_equal(r.n, 1);
	assert_int_equal(r.r[0].first, first);
	assert_int_equal(r.r[0].length, length);
}

static void test_ranges(void **state)
{
	(void)state;
	one("bytes=0-0", 10, 0, 1);
	one("bytes=2-", 10, 2, 8);
	one("bytes=-3", 10, 7, 3);
	one("bytes=-99", 10, 0, 10);
	one("bytes= 1-5 ", 10, 1, 5);
	one("bytes=5-18446744073709551615", 10, 5, 5);
	one("bytes=9223372036854775806-", INT64_MAX, INT64_MAX - 1, 1);
	one("bytes=20-30,1-2", 10, 1, 2);
	assert_int_equal(range_parse(STR("bytes=0-1, 4-5,-1"), 10, &r), RANGE_PARTIAL);
	assert_int_equal(r.n, 3);
	assert_int_equal(r.r[2].first, 9);
	assert_int_equal(range_parse(STR("bytes=10-"), 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse(STR("bytes=-0"), 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse(STR("bytes=0-"), 0, &r), RANGE_UNSATISFIABLE);
	static const char *const whole[] = {"", "items=0-1", "bytes=", "bytes=,", "bytes=5-2", "bytes=50-20", "bytes=a-",
	                                    "bytes=-", "bytes=1", "bytes=0-5,3-8", "bytes=18446744073709551616-",
	                                    "bytes=1-2-3", "bytes=-1-",
	                                    /* parentheses: one string on two lines, meant */
	                                    ("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,"
	                                     "15-15,16-16")};
	for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
		assert_int_equal(range_parse(str_c(whole[i]), 100, &r), RANGE_WHOLE);
}

static void test_query(void **state)
{
	(void)state;
	assert_int_equal(range_query(STR_NULL, STR_NULL, 10, &r), RANGE_WHOLE);
	assert_int_equal(range_query(STR("2"), STR("3"), 10, &r), RANGE_PARTIAL);
	assert_int_equal(r.r[0].length, 2);
	assert_int_equal(range_query(STR("2"), STR_NULL, 10, &r), RANGE_PARTIAL);
	assert_int_equal(r.r[0].length, 8);
	assert_int_equal(range_query(STR_NULL, STR("9223372036854775807"), 10, &r), RANGE_PARTIAL);
	assert_int_equal(r.r[0].length, 10);
	assert_int_equal(range_query(STR("10"), STR_NULL, 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_query(STR("-1"), STR_NULL, 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_query(STR("x"), STR_NULL, 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_query(STR("5"), STR("4"), 10, &r), RANGE_UNSATISFIABLE);
}

static void test_tags(void **state)
{
	(void)state;
	assert_true(etag_listed(STR("*"), STR("\"a\""), false));
	assert_true(etag_listed(STR("\"x,y\", \"a\""), STR("\"a\""), false));
	assert_true(etag_listed(STR("W/\"a\""), STR("\"a\""), true));
	assert_false(etag_listed(STR("W/\"a\""), STR("\"a\""), false));
	assert_false(etag_listed(STR("\"x\",\"a,\""), STR("\"a\""), true));
	assert_false(etag_listed(STR(""), STR("\"a\""), true));
	assert_true(if_range_holds(STR_NULL, STR("\"a\""), 0));
	assert_true(if_range_holds(STR("\"a\""), STR("\"a\""), 0));
	assert_false(if_range_holds(STR("W/\"a\""), STR("\"a\""), 0));
	assert_true(if_range_holds(STR("Thu, 01 Jan 1970 00:00:05 GMT"), STR_NULL, 5999999));
	assert_false(if_range_holds(STR("Thu, 01 Jan 1970 00:00:06 GMT"), STR_NULL, 5999999));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_query),
	    cmocka_unit_test(test_tags),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
