/* job: background work that comes back: what has had its time goes, what is stored is looked at.
 *
 * A job is worked at in rounds. A row of `jobs` tells when the next one is due and who is in one now: of several nodes on one
 * database, whoever takes the row does the round, the others do nothing. A round does a bounded amount of work in small
 * writes, so that requests pass in between, and ends before the hold on its row does; when its node died, the next round
 * begins when the hold is over. What is left waits for the next round. Where it goes on is kept in the row (state).
 *
 * Every step of a round decides anew, in its own transaction, what may go; so two rounds at once, or one that was cut off,
 * do no harm.
 *
 * A clock that has jumped ahead makes everything look old. A job that goes by ages (by_age) does nothing in its first round
 * when more than JOB_GAP_S lie behind the one before, and is due again after JOB_DOUBT_S: by then a clock that was wrong has
 * mostly been set right. Whoever runs it by hand has looked at the clock.
 */
#ifndef SD_DRIVE_JOB_H
#define SD_DRIVE_JOB_H

#include "drive/drive.h"

enum {
	JOB_STATE_BYTES = 200,
	JOB_HOLD_SPARE_S = 120, /* a row is held for the length of a round and this */
	JOB_GAP_S = 24 * 3600,
	JOB_DOUBT_S = 3600,
};

struct job_round {
	struct drive *drive;
	const struct job *job;
	const _Atomic bool *stop; /* may be NULL */
	int64_t begin, end;       /* of the round; wall clock, as the hold */
	bool by_hand;             /* no pace is kept */
	bool dry;                 /* nothing is written: what would be done is counted, and told */
	void (*tell)(void *arg, struct str what, int64_t bytes); /* of a dry round: one thing that would be done */
	void *tell_arg;
	/* what the job fills in */
	int64_t items, bytes;     /* done, or in a dry round: to be done */
	bool more;                /* it ended for want of time, not of work */
	char state[JOB_STATE_BYTES]; /* text; "" at the very first */
};

struct job {
	const char *name, *what; /* "trash"; a sentence for people */
	int period_s;            /* from one round's beginning to the next's */
	int round_s;             /* no step begins later than this */
	bool by_age, packs;      /* packs: it reads drive->packs */
	int (*run)(struct job_round *r);
};

extern const struct job *const job_list[];
extern const size_t job_count;
/* NULL: there is none of that name. */
const struct job *job_find(struct str name);
extern const struct job job_housekeeping; /* housekeeping.h */
extern const struct job job_versions;     /* thin.h */
extern const struct job job_scrub;        /* scrub_job.h */
extern const struct job job_trash;        /* purge.h */
extern const struct job job_collect;      /* collect.h */

struct job_run {
	bool by_hand; /* whether it is due or not */
	bool dry;     /* takes no row, and keeps nothing */
	const char *state; /* by hand: begin here; NULL: where the last round ended */
	const _Atomic bool *stop;
	void (*tell)(void *arg, struct str what, int64_t bytes);
	void *tell_arg;
};
struct job_result {
	bool ran;      /* false: it is not due, or another is at it */
	bool doubtful; /* not run, since the clock may be wrong */
	bool more;
	int64_t items, bytes, took_us;
};
/* A fault ends the round and is kept in the row; the next round begins where this one stopped. */
int job_run(struct drive *drive, const struct job *job, const struct job_run *how, struct job_result *out);

/* For jobs, between two steps: false when the round has to end; *r->more is set then. */
bool job_go_on(struct job_round *r);
/* A context for a tenant's writes in a round, with nobody who asks. */
void job_ctx(const struct job_round *r, struct ctx *ctx, struct arena *a, int64_t tenant_id);

struct job_status {
	const struct job *job;
	int64_t began_at, ended_at, succeeded_at, due_at; /* 0: never; due_at 0: at once */
	bool running;
	int64_t rounds, items, bytes; /* items and bytes of the last round */
	struct str result;            /* "ok", "error: ...", "running", "interrupted", "-": none yet */
	struct str state;
};
/* One for each of job_list; strings live in the arena. */
int job_status(struct drive *drive, struct arena *a, struct job_status *out);

#endif
