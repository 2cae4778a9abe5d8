/* listener: what a socket of this feature remembers. Shared by the lane that serves it and the fan-out. */
#ifndef SD_FEATURES_REALTIME_LISTENER_H
#define SD_FEATURES_REALTIME_LISTENER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "drive/principal.h"
#include "http/socket.h"

enum listener_kind { LISTENER_SYNC, LISTENER_UI };

struct listener {
	_Atomic int refs;
	enum listener_kind kind;
	struct arena arena; /* of what is below */
	struct principal who;
	struct str device_id;      /* LISTENER_SYNC */
	_Atomic bool open;         /* position is set; frames may come */
	int64_t since;             /* the log's head when it opened */
	int64_t position;          /* entries above it are news; the fan-out's once open is true */
	pthread_mutex_t lock;
	struct map shares;         /* LISTENER_UI: subscribed; under lock */
	struct map verdicts;       /* share id -> may read or not, and since when that is known; the fan-out's alone */
};

enum { LISTENER_SHARES_MAX = 1000 };

/* Copies who. One reference: the socket's. */
struct listener *listener_new(enum listener_kind kind, const struct principal *who, struct str device_id);
struct listener *listener_ref(struct listener *l);
void listener_unref(struct listener *l);
/* The listener of a socket of this feature. */
struct listener *listener_of(struct socket_session *s);
void listener_on_close(struct socket_session *s);

/* Begins a frame {"type":NAME,"event_type":NAME, with the share when it is not 0; frame_end closes it. */
void frame_begin(struct buf *b, const char *name, int64_t share_id);
void frame_send(struct socket_session *s, struct buf *b);
/* A frame without more in it. */
void frame_plain(struct socket_session *s, const char *name, int64_t share_id);
void frame_error(struct socket_session *s, int err, struct str detail);
/* Reads {"type"|"action": word, "share_id": id}; share_id 0 when there is none or it is malformed. False: not JSON. */
bool frame_read(struct str text, struct arena *a, struct str *word, int64_t *share_id);

/* Sets the position to the log's head and opens the listener. */
void listener_open(struct socket_session *s, struct ctx *ctx);
/* Answers a ping with the log's head; closes with 4404 when the device is gone. */
void listener_pong(struct socket_session *s, struct ctx *ctx);

#endif
