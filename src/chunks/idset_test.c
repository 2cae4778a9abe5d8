#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chunks/idset.h"

enum { N = 200000 };

static int64_t wrongly_claimed(uint64_t seed, int64_t *first)
{
	struct idset *s = idset_new(N, seed);
	int64_t wrong = 0;
	*first = 0;
	for (int64_t i = 0; i < N; i++)
		idset_add(s, i << 12);
	for (int64_t i = 0; i < N; i++)
		assert_true(idset_has(s, i << 12));
	for (int64_t i = N; i < 2 * N; i++) {
		bool has = idset_has(s, i << 12);
		if (has && !*first)
			*first = i;
		wrong += has;
	}
	idset_free(s);
	return wrong;
}

static void test_claims_few_others(void **state)
{
	(void)state;
	int64_t first[2];
	assert_in_range(wrongly_claimed(1, &first[0]), 0, N / 80);
	assert_in_range(wrongly_claimed(2, &first[1]), 0, N / 80);
	assert_int_not_equal(first[0], first[1]);
}

static void test_small_and_full(void **state)
{
	(void)state;
	struct idset *s = idset_new(0, 3);
	assert_int_equal(idset_bytes(s), 64);
	assert_false(idset_has(s, 5));
	for (int64_t i = 0; i < 1000; i++)
		idset_add(s, i);
	assert_true(idset_has(s, 999));
	idset_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_claims_few_others), cmocka_unit_test(test_small_and_full)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
