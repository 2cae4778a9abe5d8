/* server: the HTTP/1.1 server (libmicrohttpd behind this face) that carries exchanges through lanes. */
#ifndef SD_HTTP_SERVER_H
#define SD_HTTP_SERVER_H

#include "http/dispatch.h"
#include "http/hub.h"
#include "io/lane.h"

struct http_server;

struct http_server_config {
	struct http *http;            /* borrowed */
	struct lane *meta, *bulk;     /* borrowed; must outlive the server */
	struct hub *hub;              /* borrowed; NULL: upgrades are refused with 503 */
	const char *listen;           /* "127.0.0.1:8000", "[::1]:0"; port 0: any free one, see http_server_port */
	int threads;                  /* network threads; 0: one a core, 8 at most */
	int connections_max;          /* 0: 10,000; raise RLIMIT_NOFILE accordingly */
	int connections_per_address;  /* 0: no limit (a proxy in front has one address) */
	int idle_timeout_s;           /* silence of a connection between or within requests; 0: LIMIT_SLOW_BODY_MS */
	int ws_ping_ms, ws_silence_ms;/* 0: see socket.h */
	int grace_ms;                 /* how long http_server_stop lets running requests finish; 0: 5,000 */
};

/* Listens and serves. E_IO with a reason in *why (static or errno's text) when the address cannot be had. */
int http_server_start(const struct http_server_config *config, struct http_server **out, const char **why);
/* The port that is listened on. */
int http_server_port(const struct http_server *s);
/* Stops accepting, answers 503 to new requests on open connections, waits for running ones (grace_ms), cuts the rest,
 * closes sockets with 1001, frees. The lanes still run while this is called. */
void http_server_stop(struct http_server *s);

#endif
