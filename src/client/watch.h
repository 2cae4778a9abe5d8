/* watch: tells that something below the root changed (inotify), so that the agent scans at once.
 *
 * A hint like every other: losing events costs time, never data. Folders are watched one by one; when the system has no
 * watches left the watcher says so and the agent scans by timer instead.
 */
#ifndef SD_CLIENT_WATCH_H
#define SD_CLIENT_WATCH_H

#include "base/ctx.h"
#include "reconcile/tree.h"

struct watch;

/* path: of the root. */
int watch_open(struct ctx *ctx, const char *path, struct watch **out);
/* Watches every folder of the local tree that is not watched yet; *added: some were, and what happened in them before is
 * unknown: scan once more. E_NO_SPACE: out of watches; ctx says what to do. */
int watch_update(struct ctx *ctx, struct watch *w, const struct tree *local, bool *added);
/* Readable when something happened. */
int watch_fd(const struct watch *w);
/* Reads what happened. True: scan. */
bool watch_drain(struct watch *w);
/* Not every folder is watched. */
bool watch_degraded(const struct watch *w);
void watch_close(struct watch *w);

#endif
