#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "io/lane.h"

static void count_one(void *arg)
{
	atomic_fetch_add((_Atomic int *)arg, 1);
}

/* What is never posted fails the test instead of holding it up. */
static void wait_for(sem_t *s)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	assert_int_equal(sem_timedwait(s, &until), 0);
}

static void post(void *arg)
{
	sem_post(arg);
}

struct gate {
	sem_t reached, open;
};

static void gate_init(struct gate *g)
{
	sem_init(&g->reached, 0, 0);
	sem_init(&g->open, 0, 0);
}

static void pass(void *arg)
{
	struct gate *g = arg;
	sem_post(&g->reached);
	sem_wait(&g->open);
}

static void test_inline(void **state)
{
	(void)state;
	_Atomic int n = 0;
	struct lane *lane = lane_new("test", 0, 1);
	assert_int_equal(lane_submit(lane, count_one, (void *)&n), 0);
	assert_int_equal(n, 1);
	lane_free(lane);
}

enum { SUBMITTERS = 4, EACH = 5000 };

struct submitter {
	struct lane *lane;
	_Atomic int *n;
	pthread_t thread;
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;
	for (int i = 0; i < EACH; i++) {
		if (lane_continue(s->lane, count_one, (void *)s->n))
			abort();
		if (i % 64 == 0)
			nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL); /* now and then all fall asleep */
	}
	return NULL;
}

static void test_each_once(void **state)
{
	(void)state;
	_Atomic int n = 0;
	struct lane *lane = lane_new("test", 4, 1);
	struct submitter all[SUBMITTERS];
	for (int i = 0; i < SUBMITTERS; i++) {
		all[i] = (struct submitter){lane, &n, 0};
		pthread_create(&all[i].thread, NULL, submit_many, &all[i]);
	}
	for (int i = 0; i < SUBMITTERS; i++)
		pthread_join(all[i].thread, NULL);
	lane_free(lane);
	assert_int_equal(n, SUBMITTERS * EACH);
}

/* One at a time, behind workers that sleep or are about to: the wake-up that is lost would be the last. */
static void test_no_wake_up_is_lost(void **state)
{
	(void)state;
	sem_t done;
	sem_init(&done, 0, 0);
	struct lane *lane = lane_new("test", 3, 16);
	for (int i = 0; i < 20000; i++) {
		assert_int_equal(lane_submit(lane, post, &done), 0);
		if (i % 3 == 0)
			assert_int_equal(lane_submit(lane, post, &done), 0);
		wait_for(&done);
		if (i % 3 == 0)
			wait_for(&done);
	}
	lane_free(lane);
	sem_destroy(&done);
}

/* Whoever leaves work in the queue wakes another, down to the last worker. */
static void test_long_work_keeps_nobody_waiting(void **state)
{
	(void)state;
	struct gate gate;
	sem_t done;
	gate_init(&gate);
	sem_init(&done, 0, 0);
	struct lane *lane = lane_new("test", 4, 16);
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 3; i++)
			assert_int_equal(lane_submit(lane, pass, &gate), 0);
		assert_int_equal(lane_submit(lane, post, &done), 0);
		wait_for(&done);
		for (int i = 0; i < 3; i++)
			wait_for(&gate.reached);
		for (int i = 0; i < 3; i++)
			sem_post(&gate.open);
	}
	lane_free(lane);
}

static void test_full_and_stopping(void **state)
{
	(void)state;
	_Atomic int n = 0;
	struct gate gate;
	gate_init(&gate);
	struct lane *lane = lane_new("test", 1, 2);
	assert_int_equal(lane_submit(lane, pass, &gate), 0);
	wait_for(&gate.reached);
	assert_int_equal(lane_submit(lane, count_one, (void *)&n), 0);
	assert_int_equal(lane_submit(lane, count_one, (void *)&n), 0);
	assert_int_equal(lane_submit(lane, count_one, (void *)&n), E_BUSY);
	for (int i = 0; i < 200; i++) /* the ring grows */
		assert_int_equal(lane_continue(lane, count_one, (void *)&n), 0);
	assert_int_equal(lane_queued(lane), 202);
	sem_post(&gate.open);
	lane_free(lane); /* runs what is queued */
	assert_int_equal(n, 202);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inline),
	    cmocka_unit_test(test_each_once),
	    cmocka_unit_test(test_no_wake_up_is_lost),
	    cmocka_unit_test(test_long_work_keeps_nobody_waiting),
	    cmocka_unit_test(test_full_and_stopping),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
