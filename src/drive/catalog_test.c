/* The catalog's job: it ends when it is told to or when its time is over, and never two work in one folder. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "drive/catalog.h"
#include "drive/drive_testing.h"

static struct testing t;
static char folder[128];
static _Atomic bool stop;

static int setup(void **state)
{
	(void)state;
	testing_open(&t, getenv("SCAIDRIVE_TEST_PG"));
	snprintf(folder, sizeof folder, "%s/catalog", t.dir);
	assert_int_equal(mkdir(folder, 0700), 0);
	t.drive.catalog = folder;
	t.drive.packs = NULL;
	atomic_store(&stop, false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	testing_close(&t);
	return 0;
}

static int run(struct job_result *r)
{
	return job_run(&t.drive, &job_catalog, &(struct job_run){.by_hand = true, .stop = &stop}, r);
}

static size_t points(void)
{
	struct arena a;
	struct disk *d;
	struct backup_point *p;
	size_t n;
	arena_init(&a);
	assert_int_equal(disk_posix_open(folder, &d), 0);
	assert_int_equal(backup_points(&(struct backup){.path = folder, .disk = d}, &a, &p, &n), 0);
	disk_free(d);
	arena_fini(&a);
	return n;
}

static void test_made(void **state)
{
	struct job_result r;
	(void)state;
	assert_int_equal(run(&r), 0);
	assert_true(r.items == 1 && r.bytes > 0 && points() == 1);
}

static void test_stopped(void **state)
{
	struct job_result r;
	(void)state;
	atomic_store(&stop, true);
	assert_int_equal(run(&r), 0);
	assert_true(r.items == 0 && r.more && points() == 0);
}

/* Its clocks jump behind the end of the round while rows are copied. */
static int late_calls;
static int64_t jumped_us;

static int64_t late(const struct clock *c)
{
	(void)c;
	if (late_calls++ == 3)
		jumped_us += SECONDS_US(4000);
	return clock_now(&clock_system) + jumped_us;
}

static int64_t mono(const struct clock *c)
{
	(void)c;
	return clock_mono(&clock_system) + jumped_us;
}

static int run_when_due(struct job_result *r)
{
	return job_run(&t.drive, &job_catalog, &(struct job_run){.stop = &stop}, r);
}

static void test_too_long(void **state)
{
	struct job_result r;
	struct clock jumping = {.now_us = late, .monotonic_us = mono};
	(void)state;
	t.drive.clock = &jumping;
	assert_int_equal(run_when_due(&r), E_TIMEOUT);
	assert_true(r.ran && r.items == 0 && points() == 0);
	/* not again in each hour to come */
	jumped_us += SECONDS_US(20 * 3600);
	assert_int_equal(run_when_due(&r), 0);
	assert_true(r.ran && r.items == 0 && points() == 0);
	jumped_us += SECONDS_US(100 * 3600);
	assert_int_equal(run_when_due(&r), 0);
	assert_int_equal(points(), 1);
	/* by hand it takes as long as it takes */
	late_calls = 0;
	assert_int_equal(run(&r), 0);
	assert_int_equal(points(), 1);
	assert_true(r.items == 1 && late_calls > 4);
}

/* Another process slept longer than it held the job. */
static void test_two(void **state)
{
	struct job_result r;
	char path[160];
	(void)state;
	snprintf(path, sizeof path, "%s/lock", folder);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0 && flock(fd, LOCK_EX) == 0);
	assert_int_equal(run(&r), E_BUSY);
	assert_int_equal(points(), 0);
	close(fd);
	assert_int_equal(run(&r), 0);
	assert_int_equal(points(), 1);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_made), CASE(test_stopped), CASE(test_too_long), CASE(test_two)};
	return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
