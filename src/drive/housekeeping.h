/* housekeeping: removes what has had its time. Staged versions that never became a head (D6), results of operations and
 * idempotency keys after 30 days (D4), counted sign-ins whose window is over, refresh tokens that were
 * not used for too long.
 *
 * One round does a bounded amount of work in small writes, so that requests pass in between; what is left waits for the
 * next round. A lease row names when the next round may begin: among nodes that share a database, whoever finds it over
 * takes it and works, the others do nothing. A round ends itself before its lease does; one that died is followed by
 * another when the lease is over.
 */
#ifndef SD_DRIVE_HOUSEKEEPING_H
#define SD_DRIVE_HOUSEKEEPING_H

#include "drive/drive.h"

enum {
	HOUSEKEEPING_PERIOD_S = 300, /* from one round's beginning to the next's */
	HOUSEKEEPING_ROUND_S = 120,  /* no step begins later than this */
	HOUSEKEEPING_STEP_ROWS = 500,
	HOUSEKEEPING_STEPS = 200,    /* of one kind a round */
	HOUSEKEEPING_WALK_ROWS = 4000, /* looked at in one step where no index tells the age */
	HOUSEKEEPING_WALK_STEPS = 25,  /* of those a round: 28 million rows a day */
};

enum housekeeping_kind { HOUSEKEEPING_STAGES, HOUSEKEEPING_OPS, HOUSEKEEPING_KEYS, HOUSEKEEPING_LOGINS,
                         HOUSEKEEPING_REFRESH, HOUSEKEEPING_KINDS };
/* "staged_versions", "operation_results", "idempotency_keys", "sign_ins", "refresh_tokens" */
extern const char *const housekeeping_names[HOUSEKEEPING_KINDS];

struct housekeeping_round {
	bool ran;                            /* false: the time has not come, or another node does it */
	int64_t removed[HOUSEKEEPING_KINDS]; /* rows */
};

/* One round, if it is due. *stop (may be NULL) ends it between two steps. A fault ends the round; the next one begins
 * where it stopped. */
int housekeeping_run(struct drive *drive, const _Atomic bool *stop, struct housekeeping_round *out);

#endif
