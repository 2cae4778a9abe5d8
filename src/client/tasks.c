#include "client/tasks.h"

#include <time.h>

#include "base/must.h"

enum { TELL_MS = 200 };

void tasks_init(struct tasks *t, struct lane *lane)
{
	*t = (struct tasks){.lane = lane};
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->ended, NULL);
}

void tasks_fini(struct tasks *t)
{
	must(t->open == 0);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->ended);
}

static void run(void *arg)
{
	struct task *task = arg;
	struct tasks *t = task->tasks;
	task->run(task);
	pthread_mutex_lock(&t->lock);
	t->open--; /* from here on the task may be gone */
	pthread_cond_signal(&t->ended);
	pthread_mutex_unlock(&t->lock);
}

void tasks_add(struct tasks *t, struct task *task, void (*fn)(struct task *self))
{
	task->tasks = t;
	task->run = fn;
	pthread_mutex_lock(&t->lock);
	t->open++;
	pthread_mutex_unlock(&t->lock);
	if (!t->lane || lane_submit(t->lane, run, task))
		run(task);
}

void tasks_wait(struct tasks *t, size_t most, void (*tell)(void *arg, size_t open), void *arg)
{
	pthread_mutex_lock(&t->lock);
	while (t->open > most) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += TELL_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		pthread_cond_timedwait(&t->ended, &t->lock, &until);
		if (tell)
			tell(arg, t->open);
	}
	pthread_mutex_unlock(&t->lock);
}
