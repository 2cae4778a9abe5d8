/* patience: the client's answer to a server that says 429 and when to come back (Retry-After): all calls of this process wait
 * until then, since what is limited is the user, not a connection; a little longer by chance, so that many clients do not come
 * back at once. Nothing is lost meanwhile: the call that was refused is made again.
 */
#ifndef SD_CLIENT_PATIENCE_H
#define SD_CLIENT_PATIENCE_H

#include <pthread.h>

#include "client/remote.h"

struct patience {
	struct remote_patience face;
	void (*pause)(void *arg, int ms);
	/* True ends a wait with E_CANCELLED. */
	bool (*stopping)(void *arg);
	/* A wait has begun, or became longer; called by whichever thread waits, under a lock. May be NULL. */
	void (*tell)(void *arg, struct ctx *ctx, int seconds);
	void *arg;
	/* Kept by it. */
	pthread_mutex_t lock;
	int64_t until_us; /* monotonic */
};

/* The functions and arg are the caller's to set, before the first call. */
void patience_init(struct patience *p);
void patience_fini(struct patience *p);

#endif
