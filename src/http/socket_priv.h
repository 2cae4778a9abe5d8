/* socket_priv: a WebSocket session, shared by socket.c (sessions), reactor.c (the thread that moves bytes) and hub.c. */
#ifndef SD_HTTP_SOCKET_PRIV_H
#define SD_HTTP_SOCKET_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <wslay/wslay.h>

#include "base/buf.h"
#include "http/socket.h"

struct frame {
	struct frame *next;
	size_t n;
	char p[];
};

struct frames {
	struct frame *first, *last;
	size_t count;
};

struct socket_session {
	const struct socket_handler *handler;
	void *state;
	int64_t tenant_id, principal_id;
	_Atomic int refs;

	pthread_mutex_t lock;  /* of this part */
	struct reactor *reactor; /* NULL before adoption and after the end */
	struct frames out;     /* encoded, to the peer */
	struct frames in;      /* texts, to the feature */
	bool dirty;            /* in the reactor's list */
	bool closing;          /* a close frame is queued or sent: nothing may follow it */
	bool closed;           /* the connection is gone */
	bool job;              /* callbacks run or are queued */
	bool opened, ended;    /* on_open, on_close were called */
	struct socket_session *dirty_next;

	/* of the reactor's thread */
	int fd;
	size_t out_at;         /* sent bytes of out.first */
	bool adopted, joined, want_out, lingering;
	void (*let_go)(void *);
	void *let_go_arg;
	struct frame *extra;   /* bytes that came with the upgrade */
	size_t extra_at;
	wslay_event_context_ptr ws; /* exists while a message is half read: idle sessions have none */
	struct buf *replies;        /* where wslay writes, during a turn */
	uint64_t got, used;    /* bytes read; bytes of the frames begun so far */
	bool in_message, eof;
	size_t turn;           /* bytes read in this turn */
	int64_t seen_us, due_us;
	struct socket_session *prev, *next;

	/* of the hub */
	struct socket_session *hub_prev, *hub_next;
};

void frames_push(struct frames *q, struct frame *f);
struct frame *frames_pop(struct frames *q);
void frames_free(struct frames *q);
struct frame *frame_new(size_t n);
/* One unmasked frame, as a server sends it. */
struct frame *frame_encode(int opcode, struct str payload);

/* Runs the callbacks that are due, in the lane. With the lock held. */
void socket_schedule(struct socket_session *s);
/* Puts the session into the reactor's list. With the session's lock held. */
void reactor_touch(struct reactor *r, struct socket_session *s);
struct lane *reactor_lane(struct reactor *r);
struct http *reactor_http(struct reactor *r);

#endif
