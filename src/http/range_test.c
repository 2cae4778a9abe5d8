#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>

#include <stdio.h>

#include "base/rng.h"
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
	one("bytes=4-184467440737095516160", 10, 4, 6);
	one("bytes=-99999999999999999999999", 10, 0, 10);
	assert_int_equal(range_parse(STR("bytes=18446744073709551616-"), 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse(STR("bytes=0-1, 4-5,-1"), 10, &r), RANGE_PARTIAL);
	assert_int_equal(r.n, 3);
	assert_int_equal(r.r[2].first, 9);
	assert_int_equal(range_parse(STR("bytes=10-"), 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse(STR("bytes=-0"), 10, &r), RANGE_UNSATISFIABLE);
	assert_int_equal(range_parse(STR("bytes=0-"), 0, &r), RANGE_UNSATISFIABLE);
	static const char *const whole[] = {"", "items=0-1", "bytes=", "bytes=,", "bytes=5-2", "bytes=50-20", "bytes=a-",
	                                    "bytes=-", "bytes=1", "bytes=0-5,3-8", "bytes=9999999999999999999x-",
	                                    "bytes=1-2-3", "bytes=-1-",
	                                    /* parentheses: one string on two lines, meant */
	                                    ("bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8,9-9,10-10,11-11,12-12,13-13,14-14,"
	                                     "15-15,16-16")};
	for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
		assert_int_equal(range_parse(str_c(whole[i]), 100, &r), RANGE_WHOLE);
}

/* ---- a million random ones ---- */

enum { SLICE = 48, ROUNDS = 1000000 };

/* What RFC 9110, 14.1.2, says of one item about each byte of the slice; false: it is malformed. */
static bool plain_item(bool has_first, uint64_t first, bool has_last, uint64_t last, int64_t size, bool out[SLICE])
{
	if ((!has_first && !has_last) || (has_first && has_last && last < first))
		return false;
	for (int64_t i = 0; i < size; i++) {
		uint64_t to_end = (uint64_t)(size - i); /* of the last byte: 1 */
		out[i] = has_first ? (uint64_t)i >= first && (!has_last || (uint64_t)i <= last) : to_end <= last;
	}
	return true;
}

static uint64_t some_number(struct rng *rng, int64_t size)
{
	static const uint64_t odd[] = {0, INT64_MAX, UINT64_MAX, (uint64_t)INT64_MAX + 1, 1ULL << 32};
	return rng_below(rng, 20) ? rng_below(rng, (uint64_t)size + 4) : odd[rng_below(rng, 5)];
}

/* A header's meaning. */
struct plain {
	bool malformed;
	size_t n; /* satisfiable items, and which bytes they ask for */
	bool bytes[RANGE_MAX][SLICE];
};

static size_t random_item(struct rng *rng, int64_t size, char *text, size_t cap, struct plain *p)
{
	bool has_first = rng_below(rng, 4) != 0, has_last = rng_below(rng, 4) != 0, any = false;
	uint64_t a = some_number(rng, size), b = some_number(rng, size);
	bool swap = has_first && b < a && rng_below(rng, 8);
	uint64_t first = swap ? b : a, last = swap ? a : b;
	size_t n = 0;
	if (has_first)
		n += (size_t)snprintf(text + n, cap - n, "%llu", (unsigned long long)first);
	n += (size_t)snprintf(text + n, cap - n, "-");
	if (has_last)
		n += (size_t)snprintf(text + n, cap - n, "%llu", (unsigned long long)last);
	bool *bytes = p->bytes[p->n];
	memset(bytes, 0, SLICE);
	p->malformed |= !plain_item(has_first, first, has_last, last, size, bytes);
	for (int64_t k = 0; k < size; k++)
		any |= bytes[k];
	p->n += any;
	return n;
}

static size_t random_header(struct rng *rng, int64_t size, char *text, size_t cap, struct plain *p)
{
	static const char *const gaps[] = {"", "", "", " ", ", ,"};
	size_t n = (size_t)snprintf(text, cap, "bytes="), items = 1 + rng_below(rng, 4);
	p->malformed = false;
	p->n = 0;
	for (size_t i = 0; i < items; i++) {
		n += (size_t)snprintf(text + n, cap - n, "%s%s", i ? "," : "", gaps[rng_below(rng, 5)]);
		n += random_item(rng, size, text + n, cap - n, p);
	}
	return n;
}

static bool plain_overlap(const struct plain *p, int64_t size)
{
	for (int64_t k = 0; k < size; k++) {
		size_t covered = 0;
		for (size_t i = 0; i < p->n; i++)
			covered += p->bytes[i][k];
		if (covered > 1)
			return true;
	}
	return false;
}

static enum range_result plain_result(const struct plain *p, int64_t size)
{
	if (p->malformed)
		return RANGE_WHOLE;
	if (!p->n)
		return RANGE_UNSATISFIABLE;
	return plain_overlap(p, size) ? RANGE_WHOLE : RANGE_PARTIAL;
}

static void test_a_million(void **state)
{
	(void)state;
	struct rng_seeded seeded;
	struct rng *rng = &seeded.base;
	struct plain p;
	char text[512];
	size_t partial = 0;
	rng_seeded_init(&seeded, 14);
	for (int round = 0; round < ROUNDS; round++) {
		int64_t size = (int64_t)rng_below(rng, SLICE + 1);
		size_t n = random_header(rng, size, text, sizeof text, &p);
		enum range_result want = plain_result(&p, size), is = range_parse(str_n(text, n), size, &r);
		if (is != want)
			fail_msg("%.*s of %d: %d instead of %d", (int)n, text, (int)size, (int)is, (int)want);
		if (is != RANGE_PARTIAL)
			continue;
		partial++;
		assert_int_equal(r.n, p.n);
		for (size_t i = 0; i < r.n; i++)
			for (int64_t k = 0; k < size; k++)
				if (p.bytes[i][k] != (k >= r.r[i].first && k - r.r[i].first < r.r[i].length))
					fail_msg("%.*s of %d: byte %d of range %zu", (int)n, text, (int)size, (int)k, i);
	}
	assert_true(partial > ROUNDS / 10);
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
	assert_true(if_range_holds(STR_NULL, STR("\"a\"")));
	assert_true(if_range_holds(STR("\"a\""), STR("\"a\"")));
	assert_false(if_range_holds(STR("W/\"a\""), STR("\"a\"")));
	assert_false(if_range_holds(STR("\"b\""), STR("\"a\"")));
	assert_false(if_range_holds(STR("Thu, 01 Jan 1970 00:00:05 GMT"), STR("\"a\"")));
	assert_false(if_range_holds(STR("a"), STR_NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_ranges),
	    cmocka_unit_test(test_a_million),
	    cmocka_unit_test(test_query),
	    cmocka_unit_test(test_tags),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
