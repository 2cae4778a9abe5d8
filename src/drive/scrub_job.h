/* scrub_job: the job "scrub": everything that is stored is read again once in about SCRUB_PASS_S, or faster when it is little.
 * chunks/scrub.h says how. */
#ifndef SD_DRIVE_SCRUB_JOB_H
#define SD_DRIVE_SCRUB_JOB_H

#include "drive/job.h"

enum {
	SCRUB_PERIOD_S = 300,
	SCRUB_ROUND_S = 240,
	SCRUB_PASS_S = 30 * 24 * 3600,
	SCRUB_ROUND_MIN_BYTES = 4 << 20,
};

struct scrub_coverage {
	int64_t begun_at, done_bytes, all_bytes; /* of the pass under way; all_bytes: as it was at its beginning */
	int64_t passed_at;                       /* when the last whole pass ended; 0: there was none */
	int64_t marked;                          /* chunks that are damaged, as far as is known */
};
int scrub_coverage(struct drive *drive, struct scrub_coverage *out);

/* What this process did since it started, for /metrics. */
enum scrub_total { SCRUB_CHUNKS, SCRUB_BYTES, SCRUB_DAMAGED, SCRUB_HEALED, SCRUB_CLEARED, SCRUB_TOTALS };
int64_t scrub_total(enum scrub_total what);

#endif
