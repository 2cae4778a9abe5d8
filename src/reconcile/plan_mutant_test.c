/* Each seeded bug of the planner's rooms (base/mutant.h) is caught by one of the checks, each in at most 100,000 tries.
 * Prints a row per bug: which check caught it, after how many. In builds without seeded bugs there is nothing to test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/must.h"
#include "base/mutant.h"
#include "reconcile/oracle_testing.h"
#include "reconcile/small_testing.h"

#ifdef SD_MUTANTS

enum { TRIES_MAX = 100000, SECONDS_MAX = 60 };

static bool random_world(uint64_t no)
{
	static struct world w;
	bool ok = world_run(&w, no, NULL, false);
	world_fini(&w);
	return ok;
}

/* Pairs; their order is mixed, so that the first ones are not all of one kind. */
static bool small_world(uint64_t no)
{
	static struct small *s;
	if (!s)
		s = small_new();
	return small_play(s, 2, no * 7919 % small_count(s, 2), false);
}

struct check {
	const char *name;
	bool (*holds)(uint64_t no);
	uint64_t tries_max;
};

static const struct check random_worlds = {"random worlds", random_world, TRIES_MAX};
static const struct check small_worlds = {"small worlds (pairs)", small_world, 25000};
static const struct check resolving = {"resolve() against the model", oracle_resolve, TRIES_MAX};
static const struct check guarding = {"guard against counting", oracle_guard, 1000};

/* In a process of its own, since a bug may end it. Returns after how many tries it was caught; 0: never. */
static uint64_t caught_after(enum mutant_name bug, const struct check *c)
{
	volatile uint64_t *tries =
	    mmap(NULL, sizeof(*tries), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(tries != MAP_FAILED);
	fflush(NULL);
	pid_t child = fork();
	must(child >= 0);
	if (!child) {
		must(freopen("/dev/null", "w", stderr) != NULL);
		alarm(SECONDS_MAX); /* a bug that never ends is caught as well */
		mutant_on = bug;
		while (*tries < c->tries_max) {
			++*tries;
			if (!c->holds(*tries))
				_exit(1);
		}
		_exit(0);
	}
	int status;
	must(waitpid(child, &status, 0) == child);
	bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	uint64_t n = *tries;
	munmap((void *)(uintptr_t)tries, sizeof(*tries));
	return well ? 0 : n;
}

static void tell(enum mutant_name bug, const struct check *c, uint64_t tries)
{
	print_message("| `%s` | %s | %s | %llu |\n", mutant_label(bug), mutant_bug(bug),
		      tries ? c->name : "**nothing**", (unsigned long long)tries);
}

/* With SD_MUTANT_ALL every check is asked, and the table shows the ones that do not see a bug as well. */
static void every_bug_is_caught(void **state)
{
	(void)state;
	bool missed = false;
	for (enum mutant_name bug = M_PLAN_NO_BASE_CHECK; bug <= M_RESOLVE_ALWAYS_CURRENT; bug++) {
		const struct check *check = bug == M_GUARD_OFF                ? &guarding
					    : bug == M_RESOLVE_ALWAYS_CURRENT ? &resolving
									      : &random_worlds;
		uint64_t tries = caught_after(bug, check);
		missed |= !tries;
		tell(bug, check, tries);
		if (check == &random_worlds && getenv("SD_MUTANT_ALL"))
			tell(bug, &small_worlds, caught_after(bug, &small_worlds));
	}
	assert_false(missed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_bug_is_caught)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	return 0;
}

#endif
