/* sync: the sync part of the API over drive/. Handlers are declared in api.h. */
#ifndef SD_FEATURES_SYNC_H
#define SD_FEATURES_SYNC_H

#include "http/metrics.h"

/* Registers what this feature counts; at start, by one thread. */
void sync_metrics(struct metrics *m);

#endif
