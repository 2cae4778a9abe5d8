/* dispatch: from a request to a reply, without a socket or a thread of its own.
 *
 * One request is one exchange, taken from a pool with its arena and its buffers. A server walks it through
 *
 *   begin     route, method, declared length: cheap, never blocks, done on the network thread
 *   open      authentication (and the sink of a stream): may block, done in a lane
 *   run       the handler with its collected body; or feed ... feed, end for a stream
 *   finish    implied by run and end: error -> JSON (D26), standard headers, compression
 *   done      metrics and the access log; once
 *
 * and http_dispatch() does all of it at once on the caller's thread (the simulator, tests).
 */
#ifndef SD_HTTP_DISPATCH_H
#define SD_HTTP_DISPATCH_H

#include "base/authenticator.h"
#include "http/handler.h"
#include "http/metrics.h"
#include "http/rate.h"

struct http;

struct http_config {
	const struct route *routes; /* borrowed for the life of the http */
	size_t n_routes;
	const struct clock *clock;
	struct rng *rng;            /* for ctx->rng and to seed request ids */
	struct drive *drive;        /* for ctx->drive; may be NULL */
	struct authenticator *auth; /* NULL: every token is refused */
	struct metrics *metrics;    /* borrowed; NULL: nothing is counted */
	bool access_log;            /* one log_info line a request */
	int retry_after_s;          /* sent with 503 and 429 when nothing better is known; 0 means 1 */
	struct rate_limits rates;   /* all 0: nothing is limited */
	size_t pool_max;            /* exchanges kept for reuse; 0 means 256 */
};

struct http *http_new(const struct http_config *config);
/* Every exchange must have been given back. */
void http_free(struct http *h);
struct metrics *http_metrics(struct http *h);
/* Exchanges in use. */
size_t http_inflight(struct http *h);

enum exchange_step {
	STEP_REPLY,  /* the reply is ready */
	STEP_RUN,    /* collect the body (body_max bytes at most), then exchange_run() in the route's lane */
	STEP_STREAM, /* exchange_open(), then exchange_feed() ..., exchange_end(), all in the bulk lane */
	STEP_SOCKET, /* exchange_socket() in the meta lane, then accept the upgrade */
};

enum { EXCHANGE_HEADERS_MAX = 24, REQUEST_HEADERS_MAX = 100 };

struct exchange {
	struct http *http;
	struct arena arena;
	struct ctx ctx;
	struct request req;
	struct reply reply;                               /* body, source and status, after STEP_REPLY or run/end */
	struct http_header headers[EXCHANGE_HEADERS_MAX]; /* all reply headers but Content-Length and Date */
	size_t n_headers;
	int err;                                          /* 0 or E_* of the handler */
	size_t body_max;                                  /* largest collected body, as sent (before inflation) */
	int64_t content_length;                           /* declared; -1: none */
	bool chunked;                                     /* Transfer-Encoding: chunked */
	bool authenticated;
	bool rated;                                       /* what follows is known */
	struct rate_verdict rate;
	uint64_t rate_keys[RATE_DIMENSIONS];
	struct meter meter;

	struct body_sink *sink;
	struct buf plain; /* the inflated body */
	struct http_header in[REQUEST_HEADERS_MAX];
	size_t n_in;
	struct rng_seeded ids;
	char request_id[24];
	int64_t begin_us;
	bool finished, logged;
	struct exchange *next; /* in the pool */
};

struct exchange *exchange_new(struct http *h);
/* Closes a sink and a source that are still open, then gives the exchange back to the pool. */
void exchange_free(struct exchange *x);

/* Before begin: request headers, in order. name and value are borrowed until the exchange is freed. False when there
 * are too many. */
bool exchange_header(struct exchange *x, struct str name, struct str value);
/* target: path and query as sent, borrowed likewise; peer: the client's address without the port. */
enum exchange_step exchange_begin(struct exchange *x, struct str method, struct str target, struct str peer);
/* Authenticates and takes the route's rate units (once) and, for a stream, opens the sink. 0, or E_* and the reply is ready. */
int exchange_open(struct exchange *x);
/* Opens, inflates the body, calls the handler, finishes the reply. */
void exchange_run(struct exchange *x, struct str body);
/* The next bytes of a stream. 0, or E_* and the reply is ready; then only exchange_free may follow. */
int exchange_feed(struct exchange *x, const void *p, size_t n);
void exchange_end(struct exchange *x);
/* Authenticates and opens the session. Always yields what to do: a session, or the code to close with (D9). */
struct socket_session *exchange_socket(struct exchange *x, uint16_t *close_code);
/* Makes the reply an error, whatever was there before. Not after finish. */
void exchange_fail(struct exchange *x, int err);
/* Counts and logs the exchange; sent_bytes of the body, aborted when the client went away. Once; later calls do nothing. */
void exchange_done(struct exchange *x, int64_t sent_bytes, bool aborted);

/* The whole way at once. The reply is in the exchange; a source in it is the caller's to read and close by exchange_free. */
struct exchange *http_dispatch(struct http *h, struct str method, struct str target, const struct http_header *headers,
                               size_t n_headers, struct str body, struct str peer);

/* The close code that stands for an error on a socket (D9). */
uint16_t socket_code(int err);

#endif
