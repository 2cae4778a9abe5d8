#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reconcile/oracle_testing.h"

static void resolve_does_what_the_model_does(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20000; seed++)
		if (!oracle_resolve(seed))
			fail_msg("seed %llu", (unsigned long long)seed);
}

static void the_guard_counts_right(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 500; seed++)
		if (!oracle_guard(seed))
			fail_msg("seed %llu", (unsigned long long)seed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(resolve_does_what_the_model_does),
	                                   cmocka_unit_test(the_guard_counts_right)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
