#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <pthread.h>

#include "base/rng.h"
#include "base/time.h"
#include "http/rate.h"

static const int64_t S = 1000000;

static struct rates *limited(int64_t token, int64_t user, int64_t tenant)
{
	return rates_new(&(struct rate_limits){.units = {token, user, tenant}, .window_s = 60});
}

static struct rate_verdict charge(struct rates *r, uint64_t token, uint64_t user, int64_t units, int64_t now_us)
{
	struct rate_verdict v;
	rate_charge(r, (uint64_t[]){token, user, 7}, units, RATE_ASKED, now_us, &v);
	return v;
}

static void test_off(void **state)
{
	(void)state;
	assert_null(limited(0, 0, 0));
	rates_free(NULL);
}

static void test_a_window_slides(void **state)
{
	(void)state;
	struct rates *r = limited(100, 0, 0);
	struct rate_verdict v = charge(r, 1, 1, 60, 0);
	assert_false(v.refused);
	assert_int_equal(v.left, 40);
	assert_int_equal(v.limit, 100);
	assert_int_equal(v.reset_us, 120 * S);
	v = charge(r, 1, 1, 41, 59 * S);
	assert_true(v.refused && v.first);
	assert_int_equal(v.left, 40);
	assert_false(charge(r, 1, 1, 40, 59 * S).refused);
	assert_true(charge(r, 1, 1, 1, 59 * S).refused);
	/* half of the next minute is covered still: 50 of 100 count */
	v = charge(r, 1, 1, 50, 90 * S);
	assert_false(v.refused);
	assert_int_equal(v.left, 0);
	assert_int_equal(charge(r, 1, 1, 0, 120 * S - 1).left, 49); /* rounded down */
	/* at its end the 50 alone, and then they, decaying */
	assert_int_equal(charge(r, 1, 1, 0, 120 * S).left, 50);
	assert_int_equal(charge(r, 1, 1, 0, 150 * S).left, 75);
	v = charge(r, 1, 1, 0, 180 * S);
	assert_int_equal(v.left, 100);
	assert_int_equal(v.reset_us, 0);
	rates_free(r);
}

/* After exactly the wait that was told there is room, and not a moment before. */
static void test_waits_are_exact(void **state)
{
	(void)state;
	struct rng_seeded rng;
	rng_seeded_init(&rng, 5);
	for (int i = 0; i < 20000; i++) {
		int64_t limit = 1 + (int64_t)rng_below(&rng.base, i % 2 ? 30 : RATE_UNITS_MAX), now = (int64_t)rng_below(&rng.base, 1000 * S);
		struct rates *r = rates_new(&(struct rate_limits){.units = {limit}, .window_s = 1 + (int64_t)rng_below(&rng.base, RATE_WINDOW_MAX_S)});
		struct rate_verdict v = {0};
		for (int k = 0; k < 10 && !v.refused; k++) {
			now += (int64_t)rng_below(&rng.base, 20 * S);
			v = charge(r, 1, 1, 1 + (int64_t)rng_below(&rng.base, (uint64_t)limit * 2), now);
		}
		if (v.refused) {
			/* what it needs is not known here: the least that is refused now tells of itself */
			int64_t least = v.left + 1;
			v = charge(r, 1, 1, least, now);
			assert_true(v.refused && v.wait_us > 0);
			assert_true(charge(r, 1, 1, least, now + v.wait_us - 1).refused);
			assert_false(charge(r, 1, 1, least, now + v.wait_us).refused);
		}
		rates_free(r);
	}
}

static void test_all_or_none(void **state)
{
	(void)state;
	struct rates *r = limited(10, 15, 18);
	assert_int_equal(charge(r, 1, 1, 10, 0).dimension, RATE_TOKEN);
	struct rate_verdict v = charge(r, 1, 1, 1, 0);
	assert_true(v.refused && v.dimension == RATE_TOKEN);
	/* another token of that user */
	v = charge(r, 2, 1, 6, 0);
	assert_true(v.refused && v.dimension == RATE_USER && v.limit == 15);
	v = charge(r, 2, 1, 5, 0);
	assert_false(v.refused);
	assert_int_equal(v.dimension, RATE_USER);
	/* another user: the tenant has three left */
	v = charge(r, 3, 2, 4, 0);
	assert_true(v.refused && v.dimension == RATE_TENANT);
	v = charge(r, 3, 2, 3, 0);
	assert_true(!v.refused && v.dimension == RATE_TENANT && v.left == 0);
	/* what was refused took nothing */
	v = charge(r, 2, 1, 0, 0);
	assert_int_equal(v.left, 0);
	assert_int_equal(charge(r, 3, 2, 0, 120 * S).left, 10);
	rates_free(r);
}

static void test_the_longest_wait_is_told(void **state)
{
	(void)state;
	struct rates *r = limited(10, 20, 0);
	charge(r, 2, 1, 9, 0);
	charge(r, 1, 1, 5, 0);
	struct rate_verdict v = charge(r, 1, 1, 10, 0);
	assert_true(v.refused); /* by both; the user's has room again first */
	assert_int_equal(v.dimension, RATE_TOKEN);
	assert_true(charge(r, 1, 1, 10, v.wait_us - 1).refused);
	assert_false(charge(r, 1, 1, 10, v.wait_us).refused);
	rates_free(r);
	r = limited(10, 10, 0);
	charge(r, 2, 1, 5, 0);
	charge(r, 1, 1, 5, 0);
	v = charge(r, 1, 1, 8, 0); /* here the token's has */
	assert_true(v.refused);
	assert_int_equal(v.dimension, RATE_USER);
	rates_free(r);
}

/* More than the limit takes all of it, and can be had. */
static void test_more_than_the_limit(void **state)
{
	(void)state;
	struct rates *r = limited(5, 0, 0);
	struct rate_verdict v = charge(r, 1, 1, 20, 0);
	assert_true(!v.refused && v.left == 0);
	v = charge(r, 1, 1, 20, S);
	assert_true(v.refused);
	assert_true(v.wait_us < 120 * S);
	assert_false(charge(r, 1, 1, INT64_MAX, S + v.wait_us).refused);
	rates_free(r);
}

static void test_found_units_may_exceed(void **state)
{
	(void)state;
	struct rates *r = limited(100, 0, 0);
	const uint64_t keys[RATE_DIMENSIONS] = {1, 1, 7};
	struct rate_verdict v;
	charge(r, 1, 1, 100, 0);
	rate_charge(r, keys, 16384, RATE_FOUND, 0, &v);
	assert_true(!v.refused && v.left == 0);
	rate_charge(r, keys, 1, RATE_FOUND, 0, &v);
	assert_true(v.refused);
	v = charge(r, 1, 1, 1, 0);
	assert_true(v.refused && v.wait_us > 100 * S && v.wait_us <= 120 * S);
	assert_false(charge(r, 1, 1, 1, v.wait_us).refused);
	/* and there is no number that breaks it */
	rate_charge(r, keys, INT64_C(1) << 32, RATE_FOUND, 500 * S, &v);
	assert_true(!v.refused && v.left == 0);
	for (int i = 0; i < 3; i++) {
		rate_charge(r, keys, INT64_MAX, RATE_FOUND, 1000 * S, &v);
		assert_true(v.refused == (i > 0) && v.wait_us <= 120 * S && v.left == 0);
	}
	rates_free(r);
}

static void test_clocks_that_jump(void **state)
{
	(void)state;
	struct rates *r = limited(10, 0, 0);
	charge(r, 1, 1, 10, 1000 * S);
	struct rate_verdict v = charge(r, 1, 1, 1, 10 * S);
	assert_true(v.refused && v.wait_us <= 120 * S);
	assert_true(charge(r, 1, 1, 1, -5).refused);
	assert_true(charge(r, 1, 1, 1, INT64_MIN).refused);
	assert_false(charge(r, 1, 1, 10, INT64_MAX).refused);
	assert_true(charge(r, 1, 1, 1, INT64_MAX).refused);
	assert_true(charge(r, 1, 1, 1, 1000 * S).refused);
	rates_free(r);
}

static void test_one_line_a_minute(void **state)
{
	(void)state;
	struct rates *r = limited(1, 0, 0);
	int told = 0;
	charge(r, 1, 1, 1, 0);
	for (int64_t t = 0; t < 50 * S; t += S)
		told += charge(r, 1, 1, 1, t).first;
	assert_int_equal(told, 1);
	rates_free(r);
}

/* A million tokens of one user find room in a fixed memory, and do not make the server forget him, or who else uses much. */
static void test_many_tokens(void **state)
{
	(void)state;
	struct rates *r = limited(100, 5000, 0);
	int64_t had = 0;
	charge(r, 99, 2, 80, 0);
	for (uint64_t token = 1000; token < 1001000; token++)
		had += !charge(r, token, 1, 1, 0).refused;
	assert_int_equal(had, 5000);
	struct rate_verdict v = charge(r, 99, 2, 21, 0);
	assert_true(v.refused && v.dimension == RATE_TOKEN);
	rates_free(r);
}

/* Of those who used something, how many are counted still. */
static int64_t remembered(struct rates *r, uint64_t n)
{
	int64_t there = 0;
	for (uint64_t token = 0; token < n; token++)
		there += charge(r, 1000000 + token, 2, 0, 0).left < 100;
	return there;
}

/* Many tokens of a user who is refused, or who asks for what costs nothing, cost nobody his count. */
static void test_who_is_refused_displaces_nobody(void **state)
{
	(void)state;
	struct rates *r = rates_new(&(struct rate_limits){.units = {100, 50000, 0}, .window_s = 60});
	for (uint64_t token = 0; token < 40000; token++)
		assert_false(charge(r, 1000000 + token, 2, 1, 0).refused);
	int64_t before = remembered(r, 40000);
	assert_true(before > 15000); /* the table is full */
	assert_int_equal(remembered(r, 40000), before);
	for (uint64_t token = 1; token <= 500; token++) /* user 3 takes all that is his */
		assert_false(charge(r, token % 500, 3, 100, 0).refused);
	before = remembered(r, 40000);
	for (uint64_t token = 2000000; token < 2100000; token++)
		assert_true(charge(r, token, 3, 1, 0).refused);
	assert_int_equal(remembered(r, 40000), before);
	rates_free(r);
}

static void *hammer(void *arg)
{
	int64_t had = 0;
	for (int i = 0; i < 20000; i++)
		had += !charge(arg, (uint64_t)i % 3, 1, 1, S).refused;
	return (void *)(intptr_t)had;
}

static void test_threads_get_no_more(void **state)
{
	(void)state;
	struct rates *r = limited(20000, 30000, 40000);
	pthread_t threads[4];
	int64_t sum = 0;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, r), 0);
	for (int i = 0; i < 4; i++) {
		void *had;
		pthread_join(threads[i], &had);
		sum += (intptr_t)had;
	}
	assert_int_equal(sum, 30000);
	rates_free(r);
}

/* Long ago, much, in any order of the clock: never more than the limit in a minute that is asked in order, never a negative rest. */
static void test_random(void **state)
{
	(void)state;
	struct rng_seeded rng;
	rng_seeded_init(&rng, 11);
	for (int world = 0; world < 200; world++) {
		int64_t limit = 1 + (int64_t)rng_below(&rng.base, 50), now = 0, in_minute = 0, minute = 0;
		struct rates *r = limited(limit, 0, 0);
		for (int i = 0; i < 1000; i++) {
			now += (int64_t)rng_below(&rng.base, world % 2 ? S : 30 * S);
			int64_t units = (int64_t)rng_below(&rng.base, 6);
			struct rate_verdict v = charge(r, 1, 1, units, now);
			if (now / (60 * S) != minute) {
				minute = now / (60 * S);
				in_minute = 0;
			}
			in_minute += v.refused ? 0 : units < limit ? units : limit;
			assert_true(in_minute <= limit);
			assert_true(v.left >= 0 && v.left <= limit && v.reset_us >= 0 && v.reset_us <= 120 * S);
			assert_true(v.refused == (v.wait_us > 0));
			assert_false(charge(r, 1, 1, v.left, now).refused);
			in_minute += v.left;
		}
		rates_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_off),
	    cmocka_unit_test(test_a_window_slides),
	    cmocka_unit_test(test_waits_are_exact),
	    cmocka_unit_test(test_all_or_none),
	    cmocka_unit_test(test_the_longest_wait_is_told),
	    cmocka_unit_test(test_more_than_the_limit),
	    cmocka_unit_test(test_found_units_may_exceed),
	    cmocka_unit_test(test_clocks_that_jump),
	    cmocka_unit_test(test_one_line_a_minute),
	    cmocka_unit_test(test_many_tokens),
	    cmocka_unit_test(test_who_is_refused_displaces_nobody),
	    cmocka_unit_test(test_threads_get_no_more),
	    cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
