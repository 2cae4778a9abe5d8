/* handler: what a route is, and what a raw handler sees. Typed handlers see none of this (D22).
 *
 * The core is a pure request -> reply function, http_dispatch(): the server (libmicrohttpd) calls it from lanes, the
 * simulator calls it directly.
 */
#ifndef SD_HTTP_HANDLER_H
#define SD_HTTP_HANDLER_H

#include "base/buf.h"
#include "base/ctx.h"

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER };

struct http_header {
	struct str name, value;
};

struct http;

struct request {
	enum http_method method;
	struct str path;     /* percent-encoded, without the query */
	struct str query;    /* raw, without '?'; never logged */
	const struct http_header *headers;
	size_t n_headers;
	struct str body;     /* collected body of typed and raw routes; empty for streams */
	struct str peer;     /* address, for logs and limits */
	struct str params[4];/* decoded path parameters, in the template's order */
	const struct route *route;
	struct http *http;   /* who serves it: http_metrics() and the like (http/dispatch.h) */
};

/* First value of a header, or STR_NULL. */
struct str request_header(const struct request *r, struct str name);
/* All values of a header that is a list, as one (RFC 9110, 5.3), or STR_NULL. */
struct str request_list(const struct request *r, struct arena *a, struct str name);
/* First value of a query parameter, percent-decoded into the arena, or STR_NULL. */
struct str request_query(const struct request *r, struct arena *a, const char *name);

/* A body that is produced piece by piece; fill and close run in the bulk lane. */
struct body_source {
	/* Up to cap bytes at the given position; *got == 0 only at the end. An error cuts the connection. */
	int (*fill)(struct body_source *self, int64_t position, void *out, size_t cap, size_t *got);
	void (*close)(struct body_source *self);
	int64_t length; /* exact, or -1 (chunked) */
};

struct reply {
	int status;                 /* 0: taken from the route (success) or the error */
	struct buf body;            /* when source == NULL */
	struct str content_type;    /* default application/json */
	struct http_header headers[12];
	size_t n_headers;
	struct body_source *source; /* the server closes it */
	int64_t content_bytes;      /* 304: of the content that is not sent */
};

/* value is copied into the arena by the caller; CR and LF in it are a bug. */
void reply_header(struct reply *r, struct str name, struct str value);

/* A body that is consumed piece by piece, in the bulk lane; state is the handler's own. */
struct body_sink {
	/* The next bytes, in order. An error ends the request: the rest of the body is drained (bounded) or cut. */
	int (*feed)(struct body_sink *self, struct ctx *ctx, const void *p, size_t n);
	/* The body is complete: fill the reply. */
	int (*end)(struct body_sink *self, struct ctx *ctx, struct reply *out);
	/* Called exactly once, always, last. */
	void (*close)(struct body_sink *self);
	/* Optional, before end, which may come without it: may the body be ended now? False: the sink waits for something that
	 * is no socket of its own; it keeps wake and calls wake(arg) once, from any thread, holding no lock, and soon (bounded
	 * by the sink itself): no worker waits meanwhile. */
	bool (*ready)(struct body_sink *self, void (*wake)(void *arg), void *arg);
	/* Optional: memory of the sink's own for the next bytes, of which *n then holds some (never more than it said);
	 * took tells how many. *n = 0: there is none, and never will be again; the rest is fed. Called by a network thread:
	 * neither may wait. Bytes that arrive so need no worker before the end. */
	void *(*room)(struct body_sink *self, size_t *n);
	void (*took)(struct body_sink *self, size_t n);
	/* Optional, with room, of a large body: may the rest be received now? False: memory is short; wake as for ready. */
	bool (*may_receive)(struct body_sink *self, void (*wake)(void *arg), void *arg);
};

/* kind of route */
enum route_kind {
	ROUTE_TYPED,  /* generated wrapper: parse, validate, call, write */
	ROUTE_RAW,    /* sees request and reply, body collected */
	ROUTE_STREAM, /* open() yields a sink for the request body */
	ROUTE_SOCKET, /* WebSocket upgrade: the handler authenticates and returns a socket session */
};

enum route_lane { LANE_META, LANE_BULK };

typedef int handle_fn(struct ctx *ctx, struct request *req, struct reply *out);
typedef int stream_fn(struct ctx *ctx, struct request *req, struct body_sink **out);

struct socket_session; /* http/socket.h */
typedef int socket_fn(struct ctx *ctx, struct request *req, struct socket_session **out);

/* One row of the generated table. */
struct route {
	enum http_method method;
	const char *template;   /* "/api/v1/files/{file_id}/content" */
	const char *operation;  /* operationId */
	const char *permission; /* x-permission, as documented: "public", "authenticated", "READ file_id", ... */
	enum route_kind kind;
	enum route_lane lane;
	bool anonymous;         /* no token needed */
	int cost;               /* rate units (x-cost) */
	int status;             /* success status */
	size_t body_max;        /* largest collected body */
	handle_fn *handle;      /* typed, raw */
	stream_fn *stream;      /* stream */
	socket_fn *socket;      /* socket */
};

/* The generated table (routes.c). */
extern const struct route api_routes[];
extern const size_t api_n_routes;

#endif
