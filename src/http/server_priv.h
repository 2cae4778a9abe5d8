/* server_priv: one request on its way through the server.
 *
 * A flight is created when MHD has read the request line and freed with its last reference: one is the request's (until
 * MHD reports it complete), one is the response's while it has a source, one each is held by a running feed or fill job.
 *
 * While a connection is suspended MHD does not touch it, so a job may use it until it resumes it; after that it must not
 * touch the flight without a reference of its own.
 */
#ifndef SD_HTTP_SERVER_PRIV_H
#define SD_HTTP_SERVER_PRIV_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/server.h"

enum {
	SLAB = 256 << 10,         /* one window of a stream, in or out; two a connection */
	SLABS_KEPT = 16,          /* free slabs a server keeps */
	SLABS_MEMORY = 64 << 20,  /* of all streams; beyond it a further slab is short, for thousands of readers that trickle */
	SLAB_SHORT = 16 << 10,
	SLAB_TINY = 8 << 10,      /* a body of at most so much is received into the request's own memory */
	SMALL_BODY = 64 << 10,    /* below: collected before the caller is authenticated */
	TRANSFER_MIN = 256 << 10, /* a body of so much passes MHD by, see transfer.c */
	DRAIN_MAX = 64 << 20,     /* of a refused body, so that the client gets to read the reply */
	DRAIN_REFUSED = 4 << 20,  /* the same of one that is refused before it began to come; a larger one is cut off */
	BODY_RATE_AFTER_MS = 30000, /* from here on a body must have come with so many bytes a second on average */
	BODY_RATE_MIN = 512,
};

struct http_server {
	struct http_server_config config;
	struct MHD_Daemon *daemon;
	struct transfers *transfers;
	struct reactor *reactor;  /* NULL: no sockets, or stopped */
	pthread_mutex_t reactor_lock;
	int listen_fd, port;
	_Atomic bool stopping;    /* new requests get 503 */
	_Atomic bool cutting;     /* nothing is suspended any more */
	_Atomic int suspended;    /* connections a job has yet to resume */
	_Atomic int active;       /* requests that the graceful stop waits for */
	_Atomic int flights;
	pthread_mutex_t slab_lock;
	void *slabs[SLABS_KEPT];
	int n_slabs;
	_Atomic int64_t slab_bytes; /* that streams hold */
};

enum flight_state {
	FLIGHT_NEW,
	FLIGHT_OPENING, /* authenticating (and opening a sink) in a lane, before the body */
	FLIGHT_BODY,    /* reading the body */
	FLIGHT_RUNNING, /* the handler has everything */
	FLIGHT_READY,   /* the reply is made */
	FLIGHT_QUEUED,  /* MHD sends it */
	FLIGHT_TRANSFERRED, /* answered, and the socket is no longer this connection's */
};

struct slab {
	char *p;
	size_t n, cap, at; /* filled, size, read so far */
	bool full;         /* in: belongs to the job; out: belongs to the reader */
	bool in_arena;     /* p is the request's memory */
};

/* Of a connection: what its requests made up of the bytes that were read from it; -1: unknown. If more was read, MHD holds the
 * beginning of a further request. */
struct intake {
	int64_t used_bytes;
};

struct flight {
	struct http_server *server;
	struct MHD_Connection *con;
	struct exchange *x;
	struct str target;
	enum flight_state state;
	enum exchange_step step;
	_Atomic int refs;
	bool counted;                  /* in server->active */
	bool close_after;
	bool aborted;
	bool opened;                   /* resumed before the body: one more call without data comes */
	bool old_http;                 /* before HTTP/1.1 */
	struct transfer *transfer;     /* it has the socket; else NULL */

	struct buf body;               /* STEP_RUN */
	int64_t received, body_begin_us;

	pthread_mutex_t lock;          /* of what follows, while a feed or fill job runs */
	struct slab slab[2];
	int writer, reader;            /* slab indices */
	bool working;                  /* a job runs or is queued */
	bool waiting;                  /* the connection is suspended until the job has made progress */
	bool ended;                    /* in: the body is complete */
	bool failed;                   /* in: the reply is an error already; out: the source failed */
	bool eof, detached;            /* out */
	int64_t fill_at, sent;         /* out */

	struct MHD_Response *response; /* an upgrade's; others are made when they are sent */
	struct socket_session *session;
	uint16_t close_code;
	char accept[32];
};

bool flight_suspend(struct flight *f);
void flight_resume(struct flight *f);
struct flight *flight_ref(struct flight *f);
void flight_unref(struct flight *f);
/* The exchange is finished: MHD may have the answer. */
void flight_respond(struct flight *f);
/* The same for a suspended connection, which goes on; or the answer is sent by a transfer. In a lane. */
void flight_answer(struct flight *f);
/* A body that trickles holds a connection for ever; the average rate ends it. */
bool flight_too_slow(const struct flight *f);
/* Suspends and runs fn in the lane; a full lane turns the exchange into a 503. */
enum MHD_Result flight_to_lane(struct flight *f, struct lane *lane, lane_fn *fn);

size_t slab_size(struct http_server *s);
/* For a stream of n bytes. */
void slab_get(struct http_server *s, struct slab *slab, int64_t n);
void slab_put(struct http_server *s, struct slab *slab);

/* stream.c: bodies that pass through slab by slab */
enum MHD_Result stream_receive(struct flight *f, const char *data, size_t *n);
enum MHD_Result stream_ended(struct flight *f);
/* The same with the connection suspended. */
void stream_complete(struct flight *f);
struct MHD_Response *stream_response(struct flight *f);
/* Fills the slab, which it takes if there is none, from the reply's source at fill_at. False: the source failed. */
bool stream_fill(struct flight *f, struct slab *slab, bool *eof);

/* transfer.c: large bodies that pass MHD by */
struct transfers *transfers_new(struct http_server *s);
/* After server->cutting was set: those that wait for a peer end soon, and no socket goes back to MHD any more. */
void transfers_cut(struct transfers *all);
/* There are no flights any more. */
void transfers_free(struct transfers *all);
/* The rest of a body that is whole in the sink's memory when it has arrived, if it is large: received past MHD. */
enum MHD_Result transfer_body(struct flight *f);
/* Sends the finished exchange's answer. False: MHD has to. */
bool transfer_answer(struct flight *f);
/* What was read from a TCP socket so far; -1: unknown. */
int64_t transfer_read_bytes(int fd);

/* server_mhd.c: what MHD calls */
enum MHD_Result on_request(void *cls, struct MHD_Connection *con, const char *url, const char *method,
                           const char *version, const char *data, size_t *n, void **slot);
void *on_target(void *cls, const char *target, struct MHD_Connection *con);
void on_connection(void *cls, struct MHD_Connection *con, void **slot, enum MHD_ConnectionNotificationCode what);
void on_completed(void *cls, struct MHD_Connection *con, void **slot, enum MHD_RequestTerminationCode why);

#endif
