/* Who does a round, and when: against a clock that the test moves, on both engines. */
#include <pthread.h>
#include <stdatomic.h>

#include "drive/drive_testing.h"
#include "drive/engines_testing.h"
#include "drive/job.h"

static struct testing t;
static _Atomic int rounds, inside, met;
static int fault;
static int64_t pause_us;

static int count_round(struct job_round *r)
{
	if (atomic_fetch_add(&inside, 1))
		atomic_fetch_add(&met, 1);
	int at = 0;
	sscanf(r->state, "%d", &at);
	snprintf(r->state, sizeof r->state, "%d", at + 1);
	r->items = at;
	r->bytes = 2 * at;
	atomic_fetch_add(&rounds, 1);
	struct timespec nap = {.tv_nsec = pause_us * 1000};
	nanosleep(&nap, NULL);
	atomic_fetch_sub(&inside, 1);
	return fault;
}

static const struct job counting = {"housekeeping", "Counts its rounds", 300, 60, false, false, count_round};
static const struct job aging = {"housekeeping", "Goes by ages", 300, 60, true, false, count_round};

static int setup(void **state)
{
	(void)state;
	testing_open(&t, pg);
	rounds = met = 0;
	fault = 0;
	pause_us = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	testing_close(&t);
	return 0;
}

static struct job_result run_how(const struct job *job, const struct job_run *how, int want)
{
	struct job_result r;
	assert_int_equal(job_run(&t.drive, job, how, &r), want);
	return r;
}

static bool run(const struct job *job)
{
	return run_how(job, &(struct job_run){0}, 0).ran;
}

static void later(int64_t s)
{
	t.clock.offset_us += SECONDS_US(s);
}

static void test_due(void **state)
{
	(void)state;
	assert_true(run(&counting));
	assert_false(run(&counting));
	later(300 - 2);
	assert_false(run(&counting));
	assert_true(run_how(&counting, &(struct job_run){.by_hand = true}, 0).ran);
	later(298);
	assert_false(run(&counting)); /* from the one by hand on */
	later(3);
	assert_true(run(&counting));
	t.clock.offset_us -= SECONDS_US(2 * 86400); /* the clock was ahead */
	assert_true(run(&counting));
	assert_int_equal(testing_i64(&t, "select count(*) from jobs"), 1);
}

/* Another node holds the row; then it has died. */
static void test_held(void **state)
{
	(void)state;
	assert_true(run(&counting));
	int64_t until = clock_now(&t.clock.clock) + SECONDS_US(60);
	testing_exec(&t, "update jobs set holder = 5, held_until = $1, due_at = 0", DB_ARGS(V_I(until)));
	assert_false(run(&counting));
	assert_false(run_how(&counting, &(struct job_run){.by_hand = true}, 0).ran);
	assert_true(run_how(&counting, &(struct job_run){.dry = true}, 0).ran);
	later(61);
	assert_true(run(&counting));
}

static void test_state(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a);
	struct job_status all[8];
	assert_int_equal(run_how(&counting, &(struct job_run){0}, 0).items, 0);
	later(301);
	struct job_result r = run_how(&counting, &(struct job_run){0}, 0);
	assert_true(r.items == 1 && r.bytes == 2);
	r = run_how(&counting, &(struct job_run){.dry = true}, 0);
	assert_int_equal(r.items, 0); /* from the beginning, and nothing is kept of it */
	fault = E_IO;
	later(301);
	assert_int_equal(run_how(&counting, &(struct job_run){0}, E_IO).items, 2);
	assert_int_equal(job_status(&t.drive, &a, all), 0);
	assert_true(str_eq(all[0].result, STR("IO_ERROR")));
	assert_true(str_eq(all[0].state, STR("3")));
	assert_true(all[0].succeeded_at < all[0].ended_at && all[0].due_at > all[0].began_at && !all[0].running);
	assert_int_equal(all[0].rounds, 3);
	fault = 0;
	assert_int_equal(run_how(&counting, &(struct job_run){.by_hand = true, .state = "40"}, 0).items, 40);
	arena_fini(&a);
}

/* After a gap of more than a day the clock is asked again in an hour. */
static void test_doubt(void **state)
{
	(void)state;
	assert_true(run(&aging));
	later(JOB_GAP_S + 200);
	assert_true(run(&aging)); /* longer than the period alone, but no gap */
	later(JOB_GAP_S + 400);
	struct job_result r = run_how(&aging, &(struct job_run){0}, 0);
	assert_true(!r.ran && r.doubtful);
	later(JOB_DOUBT_S - 10);
	assert_false(run(&aging));
	later(11);
	assert_true(run(&aging));
	later(3 * JOB_GAP_S);
	assert_true(run_how(&aging, &(struct job_run){.by_hand = true}, 0).ran);
	later(3 * JOB_GAP_S);
	assert_true(run(&counting));
}

static void *race(void *arg)
{
	struct drive *d = arg;
	for (int i = 0; i < 20; i++) {
		struct job_result r;
		assert_int_equal(job_run(d, &counting, &(struct job_run){.by_hand = i % 2}, &r), 0);
	}
	return NULL;
}

/* Nodes on one database: two drives, each with connections and ids of its own. */
static void test_nodes(void **state)
{
	(void)state;
	enum { NODES = 2, THREADS = 4 };
	struct drive drives[NODES];
	struct idgen ids[NODES];
	struct db *dbs[NODES];
	pthread_t threads[THREADS];
	char url[128];
	snprintf(url, sizeof url, "sqlite:%s/db", t.dir);
	for (int64_t i = 0; i < NODES; i++) {
		idgen_init(&ids[i], &t.clock.clock, i + 1);
		assert_int_equal(db_open(&(struct db_config){.url = pg ? pg : url, .clock = &t.clock.clock}, &dbs[i], NULL), 0);
		drives[i] = t.drive;
		drives[i].db = dbs[i];
		drives[i].ids = &ids[i];
	}
	pause_us = 3000;
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, race, &drives[i % NODES]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(met, 0); /* never two at once */
	assert_int_equal(testing_i64(&t, "select rounds from jobs"), rounds);
	for (int i = 0; i < NODES; i++)
		db_close(dbs[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_due), CASE(test_held), CASE(test_state), CASE(test_doubt),
	                                   CASE(test_nodes)};
	return RUN_ON_BOTH("jobs", tests);
}
