/* nudge: the sync WebSocket (RFC 6455 by wslay over an http_tunnel). A frame is a hint to pull; losing it loses nothing.
 */
#ifndef SD_CLIENT_NUDGE_H
#define SD_CLIENT_NUDGE_H

#include "client/remote.h"

struct nudge;

enum nudge_news {
	NUDGE_NONE,
	NUDGE_CHANGE, /* pull */
	NUDGE_FORCE,  /* force_sync: read everything anew */
};

/* Connects and upgrades; waits up to 10 s. E_UNAUTHENTICATED, E_NETWORK ... */
int nudge_open(struct ctx *ctx, struct remote *r, struct nudge **out);
int nudge_fd(const struct nudge *n);
/* Handles what came. E_NETWORK: the socket is closed, open another later. share: others' frames are ignored. */
int nudge_drain(struct ctx *ctx, struct nudge *n, struct str share, enum nudge_news *news);
/* Sends a ping message, so that a dead connection is noticed. */
int nudge_ping(struct nudge *n);
void nudge_close(struct nudge *n);

#endif
