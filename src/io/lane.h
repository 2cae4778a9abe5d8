/* lane: a bounded pool of worker threads with a bounded queue. Network threads wait, lanes work (house.md 5). */
#ifndef SD_IO_LANE_H
#define SD_IO_LANE_H

#include "base/err.h"

#include <stddef.h>

struct lane;
typedef void lane_fn(void *arg);

/* threads == 0: work runs on the caller's thread, in lane_submit (the simulator, tests). */
struct lane *lane_new(const char *name, int threads, size_t queue_max);
/* Queues fn(arg). E_BUSY when the queue is full or the lane is stopping; then fn is not called. */
int lane_submit(struct lane *lane, lane_fn *fn, void *arg);
/* The same for the continuation of work that was admitted before (one a connection at most): ignores the bound, so it is
 * refused only when the lane is stopping. */
int lane_continue(struct lane *lane, lane_fn *fn, void *arg);
size_t lane_queued(struct lane *lane);
/* Runs what is queued, then joins the threads. */
void lane_free(struct lane *lane);

#endif
