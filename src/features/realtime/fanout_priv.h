/* What fanout.c (thread, tenants) and tell.c (entries to frames) share. */
#ifndef SD_FEATURES_FANOUT_PRIV_H
#define SD_FEATURES_FANOUT_PRIV_H

#include "features/realtime/listener.h"
#include "features/realtime/realtime.h"

/* A change of access that was announced (drive_access_fn). */
struct access_event {
	int64_t tenant_id, share_id;
	struct rid who;
};

/* Change frames of one share in the present LIMIT_WS_BURST_MS (D9). */
struct burst {
	int64_t share_id;
	int64_t begin_us; /* monotonic */
	int count;
	char *held;       /* the frame that stands for all beyond the bound; heap */
	size_t held_n;
	int64_t held_seq;
};

/* A tenant with open sockets. */
struct follow {
	int64_t tenant_id;
	int64_t due_us;          /* monotonic; when there is more to do without being woken; INT64_MAX: nothing */
	int64_t preferences_us;  /* announced up to here */
	struct map bursts;       /* share id -> struct burst */
};

/* A socket that is told, with the references held while it is. */
struct ear {
	struct socket_session *socket;
	struct listener *listener;
};

struct telling {
	struct drive *drive;
	struct arena *arena;
	struct follow *follow;
	struct ear *ears;
	size_t n_ears;
	const struct access_event *events; /* of all tenants */
	size_t n_events;
	bool woken;                        /* not by the clock */
};

/* Reads the log and tells the ears. Sets follow->due_us. */
void tell(struct telling *w);
void follow_free(struct follow *f);

#endif
