/* For tests of drive: a tenant, Bob's share "Team", and who acts on it: ada administers, bob owns the share, dan is of the
 * group, eve of another tenant. Static, so include it once a test program. */
#ifndef SD_DRIVE_CAST_TESTING_H
#define SD_DRIVE_CAST_TESTING_H

#include "drive/drive_testing.h"
#include "drive/engines_testing.h"

static struct testing t;
static struct arena arena;
static struct ctx ada, bob, cleo, dan, eve;
static int64_t share;

static inline int setup(void **state)
{
	(void)state;
	testing_open(&t, pg);
	arena_init(&arena);
	ada = testing_ctx(&t, &arena, &t.users[0]);
	bob = testing_ctx(&t, &arena, &t.users[1]);
	cleo = testing_ctx(&t, &arena, &t.users[2]);
	dan = testing_ctx(&t, &arena, &t.users[3]);
	eve = testing_ctx(&t, &arena, &t.stranger);
	share = testing_share(&bob, "Team");
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	testing_close(&t);
	arena_fini(&arena);
	return 0;
}

/* A folder of Bob's; parent 0: the root. */
static inline struct node folder(int64_t parent, const char *name)
{
	struct node n;
	assert_int_equal(testing_folder(&bob, share, parent, name, &n), 0);
	return n;
}

static inline struct node file(int64_t parent, const char *name, const char *bytes)
{
	struct node n;
	assert_int_equal(testing_file(&t, &bob, share, parent, name, str_c(bytes), &n), 0);
	return n;
}

static inline void assert_str(struct str got, const char *want)
{
	if (!str_eq(got, str_c(want)))
		fail_msg("got \"%.*s\", want \"%s\"", STR_ARG(got), want);
}

#endif
