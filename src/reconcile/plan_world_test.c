/* All pairs of small_testing.h, and of the triples one in SD_WORLD_STEP (397; 1: all). SD_WORLD=N shows triple number N
 * in full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/must.h"
#include "reconcile/small_testing.h"

static void every(int deeds, uint64_t step)
{
	struct small *s = small_new();
	uint64_t count = small_count(s, deeds);
	for (uint64_t no = 0; no < count; no += step) {
		if (small_play(s, deeds, no, false))
			continue;
		small_play(s, deeds, no, true);
		fail_msg("world %llu of %d deeds: %s", (unsigned long long)no, deeds, s->fault);
	}
	print_message("%llu worlds, one in %llu\n", (unsigned long long)s->played, (unsigned long long)step);
	small_free(s);
}

static void all_pairs(void **state)
{
	(void)state;
	every(2, 1);
}

static void triples(void **state)
{
	(void)state;
	const char *step = getenv("SD_WORLD_STEP"), *one = getenv("SD_WORLD");
	if (one) {
		struct small *s = small_new();
		uint64_t no = strtoull(one, NULL, 10);
		must(no < small_count(s, 3));
		bool ok = small_play(s, 3, no, true);
		fprintf(stderr, "%s\n", ok ? "all is well" : s->fault);
		assert_true(ok);
		small_free(s);
		return;
	}
	uint64_t n = step ? strtoull(step, NULL, 10) : 397;
	must(n > 0);
	every(3, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_pairs), cmocka_unit_test(triples)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
