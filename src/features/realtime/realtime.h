/* realtime: nudges over WebSockets. A hint, never the truth: losing every frame loses no data (I5).
 *
 * One follower thread reads each tenant's log once for all its sockets (fanout), from the lowest position any of them
 * has reached, when a write was committed here, when another node said so, and each second in any case. An entry is
 * told only to those who may read its share at that moment.
 */
#ifndef SD_FEATURES_REALTIME_H
#define SD_FEATURES_REALTIME_H

#include "drive/drive.h"
#include "http/hub.h"
#include "http/metrics.h"

struct fanout;

/* Listens to the drive and to the other nodes (it is the one caller of db_listen). threaded false: nothing happens but
 * in fanout_step (the simulator, tests). Must outlive the drive's last write, and the hub it. */
struct fanout *fanout_new(struct drive *drive, struct hub *hub, bool threaded);
/* Ends the thread. The drive keeps its listeners, so the memory stays until fanout_free. */
void fanout_stop(struct fanout *f);
void fanout_free(struct fanout *f);
/* Tells what is to be told now. Returns the microseconds until there may be more to do. */
int64_t fanout_step(struct fanout *f);

void realtime_metrics(struct metrics *m, struct hub *hub);

#endif
