/* tasks: work handed to a lane, and waiting for it. Without a lane each piece is done at once, by the caller (the simulator,
 * tests): then the order is the program's. */
#ifndef SD_CLIENT_TASKS_H
#define SD_CLIENT_TASKS_H

#include <pthread.h>

#include "io/lane.h"

struct tasks {
	struct lane *lane; /* NULL: none */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	size_t open;
};

/* One piece of work; embedded by the caller, who keeps it until the piece has ended. */
struct task {
	struct tasks *tasks;
	void (*run)(struct task *self);
};

void tasks_init(struct tasks *t, struct lane *lane);
/* Nothing may be open. */
void tasks_fini(struct tasks *t);
void tasks_add(struct tasks *t, struct task *task, void (*run)(struct task *self));
/* Waits until at most `most` pieces are open; `tell` (may be NULL) is called several times a second with how many are. */
void tasks_wait(struct tasks *t, size_t most, void (*tell)(void *arg, size_t open), void *arg);

#endif
