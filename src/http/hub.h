/* hub: the open WebSocket sessions, by tenant; how a committed change finds who wants to hear of it. */
#ifndef SD_HTTP_HUB_H
#define SD_HTTP_HUB_H

#include "base/err.h"
#include "http/socket.h"

struct hub *hub_new(void);
/* Every session must have left. */
void hub_free(struct hub *h);
/* E_BUSY when the principal has LIMIT_WS_PER_PRINCIPAL sessions. The server does this at open and close. */
int hub_join(struct hub *h, struct socket_session *s, int64_t tenant_id, int64_t principal_id);
void hub_leave(struct hub *h, struct socket_session *s, int64_t tenant_id, int64_t principal_id);
/* Calls fn for each open session of a tenant (0: of all). fn may call socket_send and socket_close, must not block, and
 * must not call hub_*; keep a session beyond the call with socket_ref. */
void hub_each(struct hub *h, int64_t tenant_id, void (*fn)(struct socket_session *s, void *arg), void *arg);
/* Of all tenants; takes no lock. */
size_t hub_count(struct hub *h);

#endif
