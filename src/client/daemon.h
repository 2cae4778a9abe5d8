/* daemon: keeps one folder in step until it is told to stop.
 *
 * It wakes for changes on the disk (inotify, gathered for some tens of milliseconds), for nudges from the server's
 * WebSocket, and by a 60 s timer behind both; it sends a heartbeat every 5 minutes and waits longer and longer, with
 * jitter, while the server does not answer.
 */
#ifndef SD_CLIENT_DAEMON_H
#define SD_CLIENT_DAEMON_H

#include "client/agent.h"

struct daemon {
	struct agent *agent;
	const char *root_path;
	bool (*stopping)(void *arg);
	/* After each settling: err 0 or why it did not work; round tells what was left. */
	void (*on_settled)(void *arg, struct ctx *ctx, int err, const struct agent_round *round);
	/* A sentence about something that works less well than it could (no socket, no watches). */
	void (*on_notice)(void *arg, struct str sentence);
	void *arg;
};

/* Until stopping, then 0. When the guard stops a plan it goes on observing, until a person decides. */
int daemon_run(struct ctx *ctx, struct daemon *d);

/* How long to wait before what failed is tried again: exponential, up to 5 minutes, half of it random, so that many clients
 * do not come back at once. *pause_us is its memory; 0 before the first time. */
int64_t daemon_pause_us(struct rng *rng, int64_t *pause_us);

#endif
