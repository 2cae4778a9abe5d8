/* http_client: outgoing HTTP behind one seam: a request in, a response out, both streaming. The real one is libcurl; a
 * simulator supplies another that calls the server's dispatch.
 *
 * Calls block and may come from several threads. Redirects are not followed. A response that ends early is E_NETWORK.
 */
#ifndef SD_IO_HTTP_CLIENT_H
#define SD_IO_HTTP_CLIENT_H

#include "base/buf.h"
#include "base/ctx.h"

/* A request body of known length. */
struct http_source {
	/* Up to cap bytes in order; *got == 0 only at the end. An error ends the call with that error. */
	int (*read)(struct http_source *self, void *out, size_t cap, size_t *got);
	/* From the beginning again, for a call that is made once more. An error ends the call with that error. */
	int (*rewind)(struct http_source *self, struct ctx *ctx);
	int64_t length;
};

/* Receives the body of a 2xx response. */
struct http_sink {
	/* An error ends the call with that error. */
	int (*write)(struct http_sink *self, const void *p, size_t n);
};

enum { HTTP_CALL_HEADERS = 6 };

struct http_call {
	const char *method;
	struct str path;         /* with its query, beginning with '/' */
	struct str token;        /* bearer; STR_NULL: none */
	struct str content_type; /* of the body; STR_NULL: none */
	struct str headers[HTTP_CALL_HEADERS]; /* "Name: value" */
	size_t n_headers;
	struct str body;             /* when source == NULL */
	struct http_source *source;
	struct http_sink *sink;      /* NULL: into reply */
	size_t reply_max;            /* most bytes kept in reply; more is E_TOO_LARGE */
	int timeout_ms;              /* without any progress; 0: 60 s */
	/* Filled by the call. */
	int status;
	struct buf reply;            /* the caller gives it back with http_call_fini */
	bool is_json;                /* by its content type */
	int64_t length;              /* of the response, as announced; -1: unknown */
	int retry_after_s;           /* 0: not said */
};

struct http_client {
	/* 0 when there is a response, whatever its status. E_NETWORK (with the reason in ctx), E_TIMEOUT, or what source
	 * or sink returned. */
	int (*call)(struct http_client *self, struct ctx *ctx, struct http_call *call);
	void (*free)(struct http_client *self);
};

struct http_client_config {
	const char *base_url; /* "https://host[:port][/prefix]" */
	const char *ca_file;  /* NULL: the system's */
	const char *proxy;    /* NULL: by the environment */
	const char *user_agent;
	int connect_timeout_ms; /* 0: 10 s */
	/* Asked now and then during a call; true ends it with E_CANCELLED. May be NULL. */
	bool (*cancelled)(void *arg);
	void *cancelled_arg;
};

/* E_USAGE: the URL is not http or https. */
int http_client_new(struct ctx *ctx, const struct http_client_config *config, struct http_client **out);
void http_client_free(struct http_client *c);
void http_call_fini(struct http_call *call);
/* Appends s as a query or path value: everything but unreserved characters is percent-encoded (RFC 3986). */
void http_escape(struct buf *b, struct str s);

/* A connection for a WebSocket, TLS and proxy done: plain bytes both ways, not blocking. */
struct http_tunnel;
int http_tunnel_open(struct http_client *c, struct ctx *ctx, struct http_tunnel **out);
/* 0; E_BUSY: try again when http_tunnel_fd is ready; E_NETWORK: it is closed. */
int http_tunnel_send(struct http_tunnel *t, const void *p, size_t n, size_t *sent);
int http_tunnel_recv(struct http_tunnel *t, void *p, size_t cap, size_t *got);
int http_tunnel_fd(struct http_tunnel *t);
/* "host[:port]" and the prefix of the base URL, for the upgrade request. */
struct str http_client_host(struct http_client *c);
struct str http_client_prefix(struct http_client *c);
void http_tunnel_close(struct http_tunnel *t);

#endif
