/* session: the login of a device: hands out its access token and renews it before it ends, or when it was refused.
 *
 * Several processes and threads share one login. Who renews holds the state folder's lock and reads device.json first:
 * another may have done it, or signed in anew. The new pair is on disk before it is used, and the server honours the pair
 * before until then, so that neither a crash nor a lost answer ends the login.
 */
#ifndef SD_CLIENT_SESSION_H
#define SD_CLIENT_SESSION_H

#include <pthread.h>

#include "client/remote.h"
#include "client/state.h"

struct session {
	struct remote_session face;
	pthread_mutex_t lock;
	struct state *state;
	struct http_client *http;
	char *token;          /* the one handed out; heap */
	int64_t renew_at_us;  /* wall clock; 0: unknown, when it is refused */
	int64_t not_before_us;/* after a renewal that failed while the token still works; monotonic */
	bool ended;           /* refused, and could not be renewed */
};

/* Borrows both. */
void session_init(struct session *s, struct state *state, struct http_client *http);
void session_fini(struct session *s);
/* A pair as the state keeps it; the caller makes it durable. */
void session_keep(struct ctx *ctx, struct state *state, const struct remote_grant *grant);

#endif
