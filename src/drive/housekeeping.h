/* housekeeping: removes what has had its time. Staged versions that never became a head (D6), results of operations and
 * idempotency keys after 30 days (D4), counted sign-ins whose window is over, refresh tokens that were
 * not used for too long.
 *
 * A job (job.h). A round does a bounded amount of work; where nothing tells the age but the row, a part of the table is
 * walked each round, on from where the last one stopped.
 */
#ifndef SD_DRIVE_HOUSEKEEPING_H
#define SD_DRIVE_HOUSEKEEPING_H

#include "drive/job.h"

enum {
	HOUSEKEEPING_PERIOD_S = 300,
	HOUSEKEEPING_ROUND_S = 120,
	HOUSEKEEPING_STEP_ROWS = 500,
	HOUSEKEEPING_STEPS = 200,    /* of one kind a round */
	HOUSEKEEPING_WALK_ROWS = 4000, /* looked at in one step where no index tells the age */
	HOUSEKEEPING_WALK_STEPS = 25,  /* of those a round: 28 million rows a day */
};

enum housekeeping_kind { HOUSEKEEPING_STAGES, HOUSEKEEPING_OPS, HOUSEKEEPING_KEYS, HOUSEKEEPING_LOGINS,
                         HOUSEKEEPING_REFRESH, HOUSEKEEPING_KINDS };
/* "staged_versions", "operation_results", "idempotency_keys", "sign_ins", "refresh_tokens" */
extern const char *const housekeeping_names[HOUSEKEEPING_KINDS];

/* Rows of a kind removed by this process since it started, for /metrics. */
int64_t housekeeping_removed(enum housekeeping_kind kind);

#endif
