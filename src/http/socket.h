/* socket: WebSockets (RFC 6455). A session is one connection and the feature that serves it.
 *
 * A ROUTE_SOCKET's handler makes a session (socket_new) and returns it; the server accepts the upgrade and owns that
 * reference. An error of the handler is accepted too and closed with the code of D9 (socket_code).
 * Text frames only, no compression, at most LIMIT_WS_FRAME from a client; pings every 30 s, dropped after 90 s silence.
 *
 * on_open, on_text and on_close run in the meta lane, one at a time a session, in order; on_close is called exactly once,
 * last, whether or not on_open was reached. They may block.
 */
#ifndef SD_HTTP_SOCKET_H
#define SD_HTTP_SOCKET_H

#include "base/ctx.h"
#include "io/lane.h"

struct socket_session;
struct hub;

struct socket_handler {
	void (*on_open)(struct socket_session *s, struct ctx *ctx);                  /* may be NULL */
	void (*on_text)(struct socket_session *s, struct ctx *ctx, struct str text); /* text: valid UTF-8 */
	void (*on_close)(struct socket_session *s);                                  /* frees the state; may be NULL */
};

/* state is the feature's own (socket_state); principal_id counts towards LIMIT_WS_PER_PRINCIPAL (0: not counted). ctx in
 * the callbacks is a fresh one with tenant_id set and who == NULL: keep what you need of the principal in the state. */
struct socket_session *socket_new(const struct socket_handler *handler, void *state, int64_t tenant_id,
                                  int64_t principal_id);
void *socket_state(struct socket_session *s);
int64_t socket_tenant(const struct socket_session *s);
struct socket_session *socket_ref(struct socket_session *s);
/* The last reference frees; if the session was never opened, on_close is called first. */
void socket_unref(struct socket_session *s);

/* Queues one text frame; from any thread, never blocks. E_BUSY: the queue was full and the session is being closed with
 * 1013; E_GONE: closed already. */
int socket_send(struct socket_session *s, struct str text);
/* Closes after what is queued; from any thread; later calls do nothing. */
void socket_close(struct socket_session *s, uint16_t code);

/* ---- for the server ---- */

struct reactor;
struct http;
struct request;

/* Checks the headers of an upgrade (RFC 6455, 4.2.1) and computes Sec-WebSocket-Accept. */
bool socket_handshake(const struct request *req, char accept[32]);

struct reactor_config {
	struct hub *hub;          /* open sessions are indexed here */
	struct http *http;        /* gives the callbacks their ctx */
	struct lane *lane;        /* callbacks run here */
	int ping_ms, silence_ms;  /* 0: 30,000 and 90,000 */
};

struct reactor *reactor_new(const struct reactor_config *config);
/* Closes every session with 1001, waits up to grace_ms for the peers, then joins the thread. */
void reactor_free(struct reactor *r, int grace_ms);
/* Takes over one reference of s and the descriptor (made non-blocking here), after the 101 has been sent. extra: bytes
 * already read. let_go(arg) is called once, instead of close(fd), when the connection ends; NULL: close(fd). */
void reactor_adopt(struct reactor *r, struct socket_session *s, int fd, struct str extra, void (*let_go)(void *),
                   void *arg);
/* Accepts and closes at once with a code. */
void reactor_reject(struct reactor *r, int fd, uint16_t code, void (*let_go)(void *), void *arg);

#endif
