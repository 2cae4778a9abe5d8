/* Random worlds (world_testing.h): a tree in step is disturbed on both sides, planned, the batch is shuffled, carried out,
 * repeated: it must end, both sides must be equal, no edit may be lost. SD_SIM_SEEDS and SD_SIM_FIRST choose the seeds;
 * one alone is shown in full, and SD_SIM_SKIP leaves events of it out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/must.h"
#include "reconcile/world_testing.h"

static uint64_t setting(const char *name, uint64_t dflt)
{
	const char *s = getenv(name);
	return s ? strtoull(s, NULL, 10) : dflt;
}

static void random_worlds(void **state)
{
	(void)state;
	uint64_t first = setting("SD_SIM_FIRST", 1), n = setting("SD_SIM_SEEDS", 35000), plans = 0;
	bool left_out[WORLD_EVENTS] = {false};
	world_skip_list(getenv("SD_SIM_SKIP"), left_out);
	struct world *w = malloc(sizeof(*w));
	must(w != NULL);
	for (uint64_t seed = first; seed < first + n; seed++) {
		bool ok = world_run(w, seed, left_out, n == 1);
		plans += w->plans;
		world_fini(w);
		if (!ok && n > 1)
			world_report(seed);
		if (!ok)
			fail();
	}
	free(w);
	print_message("%llu worlds, %llu plans\n", (unsigned long long)n, (unsigned long long)plans);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_worlds)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
