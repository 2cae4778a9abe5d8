#include "io/lane.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/must.h"

struct work {
	lane_fn *fn;
	void *arg;
};

/* A ring under one lock. At most one worker is being woken at a time; it wakes the next one if it leaves work behind. So
 * a burst of short jobs costs one futex call, not one a job, and a long job never keeps others waiting.
 *
 * Sleepers wait for a semaphore, and who wakes one takes it out of `asleep` before: there are as many posts as sleepers
 * were taken out, so a wake-up that comes before its sleeper sleeps is kept and none is lost. (Behind a condition variable the
 * lock is taken back as if others waited for it, which costs a futex call at its release.) */
struct lane {
	pthread_mutex_t lock;
	sem_t wake;
	struct work *ring;
	size_t head, count, cap; /* cap is a power of two */
	size_t queue_max;
	int asleep;              /* workers that nobody wakes yet */
	bool waking;             /* a worker is on its way */
	int n_threads;
	bool stopping;
	pthread_t threads[];
};

static void grow(struct lane *lane)
{
	size_t cap = lane->cap * 2;
	struct work *ring = calloc(cap, sizeof *ring);
	must(ring != NULL);
	for (size_t i = 0; i < lane->count; i++)
		ring[i] = lane->ring[(lane->head + i) & (lane->cap - 1)];
	free(lane->ring);
	lane->ring = ring;
	lane->cap = cap;
	lane->head = 0;
}

/* With the lock held, by whoever leaves work in the queue. True: post when the lock is free. */
static bool wake_one(struct lane *lane)
{
	bool wake = lane->count > 0 && lane->asleep > 0 && !lane->waking;
	if (wake) {
		lane->asleep--;
		lane->waking = true;
	}
	return wake;
}

/* With the lock held, before and behind. */
static void sleep_until_woken(struct lane *lane)
{
	lane->asleep++;
	pthread_mutex_unlock(&lane->lock);
	while (sem_wait(&lane->wake) != 0)
		must(errno == EINTR);
	pthread_mutex_lock(&lane->lock);
	lane->waking = false;
}

static void *worker(void *arg)
{
	struct lane *lane = arg;
	bool worked = false;
	pthread_mutex_lock(&lane->lock);
	for (;;) {
		if (worked && lane->count == 0 && !lane->stopping) {
			/* Who shares this core may be about to submit more: then nobody sleeps and nobody is woken. */
			pthread_mutex_unlock(&lane->lock);
			sched_yield();
			pthread_mutex_lock(&lane->lock);
			worked = false;
		}
		while (lane->count == 0 && !lane->stopping)
			sleep_until_woken(lane);
		if (lane->count == 0)
			break;
		struct work w = lane->ring[lane->head];
		lane->head = (lane->head + 1) & (lane->cap - 1);
		lane->count--;
		bool more = wake_one(lane);
		pthread_mutex_unlock(&lane->lock);
		if (more)
			sem_post(&lane->wake);
		w.fn(w.arg);
		worked = true;
		pthread_mutex_lock(&lane->lock);
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

/* It is held for a few instructions: who finds it taken spins for a moment before it sleeps. */
static void lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;
	must(pthread_mutexattr_init(&attr) == 0);
	must(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP) == 0);
	must(pthread_mutex_init(lock, &attr) == 0);
	pthread_mutexattr_destroy(&attr);
}

struct lane *lane_new(const char *name, int threads, size_t queue_max)
{
	must(threads >= 0 && threads <= 1024);
	struct lane *lane = calloc(1, sizeof *lane + (size_t)threads * sizeof lane->threads[0]);
	must(lane != NULL);
	lock_init(&lane->lock);
	must(sem_init(&lane->wake, 0, 0) == 0);
	lane->cap = 64;
	lane->ring = calloc(lane->cap, sizeof *lane->ring);
	must(lane->ring != NULL);
	lane->queue_max = queue_max;
	lane->n_threads = threads;
	for (int i = 0; i < threads; i++) {
		must(pthread_create(&lane->threads[i], NULL, worker, lane) == 0);
		char label[16] = "";
		for (int j = 0; j < 15 && name && name[j]; j++)
			label[j] = name[j];
		pthread_setname_np(lane->threads[i], label);
	}
	return lane;
}

static int submit(struct lane *lane, lane_fn *fn, void *arg, bool bounded)
{
	if (lane->n_threads == 0) {
		fn(arg);
		return E_OK;
	}
	pthread_mutex_lock(&lane->lock);
	if (lane->stopping || (bounded && lane->count >= lane->queue_max)) {
		pthread_mutex_unlock(&lane->lock);
		return E_BUSY;
	}
	if (lane->count == lane->cap)
		grow(lane);
	lane->ring[(lane->head + lane->count) & (lane->cap - 1)] = (struct work){fn, arg};
	lane->count++;
	bool wake = wake_one(lane);
	pthread_mutex_unlock(&lane->lock);
	if (wake)
		sem_post(&lane->wake);
	return E_OK;
}

int lane_submit(struct lane *lane, lane_fn *fn, void *arg)
{
	return submit(lane, fn, arg, true);
}

int lane_continue(struct lane *lane, lane_fn *fn, void *arg)
{
	return submit(lane, fn, arg, false);
}

size_t lane_queued(struct lane *lane)
{
	pthread_mutex_lock(&lane->lock);
	size_t n = lane->count;
	pthread_mutex_unlock(&lane->lock);
	return n;
}

void lane_free(struct lane *lane)
{
	if (!lane)
		return;
	pthread_mutex_lock(&lane->lock);
	lane->stopping = true;
	for (; lane->asleep > 0; lane->asleep--)
		sem_post(&lane->wake);
	pthread_mutex_unlock(&lane->lock);
	for (int i = 0; i < lane->n_threads; i++)
		pthread_join(lane->threads[i], NULL);
	sem_destroy(&lane->wake);
	pthread_mutex_destroy(&lane->lock);
	free(lane->ring);
	free(lane);
}
