#include "drive/job.h"

#include <stdio.h>

#include "base/must.h"
#include "drive/catalog.h"

const struct job *const job_list[] = {&job_housekeeping, &job_versions, &job_trash, &job_collect, &job_scrub, &job_catalog};
const size_t job_count = sizeof job_list / sizeof *job_list;

const struct job *job_find(struct str name)
{
	for (size_t i = 0; i < job_count; i++)
		if (str_eq(str_c(job_list[i]->name), name))
			return job_list[i];
	return NULL;
}

bool job_go_on(struct job_round *r)
{
	int64_t now = clock_now(r->drive->clock);
	r->more = now < r->begin || (now >= r->end && !r->dry) || (r->stop && atomic_load(r->stop));
	return !r->more;
}

void job_ctx(const struct job_round *r, struct ctx *ctx, struct arena *a, int64_t tenant_id)
{
	ctx_init(ctx, a, r->drive->clock, r->drive->rng);
	ctx->drive = r->drive;
	ctx->tenant_id = tenant_id;
	ctx->operation = str_c(r->job->name);
}

/* ---- the row ---- */

struct take {
	const struct job *job;
	const struct job_run *how;
	int64_t now, holder;
	int64_t before; /* who held the row before, or last */
	bool due, doubtful;
	char state[JOB_STATE_BYTES];
};

static int64_t period_us(const struct job *job)
{
	return SECONDS_US(job->period_s);
}

static int64_t hold_us(const struct job *job)
{
	return SECONDS_US(job->round_s + JOB_HOLD_SPARE_S);
}

/* Is it time, and is nobody at it? A clock that was set back must not stop a job for as long as it was ahead. */
static int look_op(struct tx *tx, void *arg)
{
	struct take *t = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx, "select held_until, due_at, began_at, state, holder from jobs where name = $1",
	                       DB_ARGS(V_T(str_c(t->job->name))), &r, &found);
	if (err)
		return err;
	int64_t held_until = found ? rows_i64(r, 0) : 0, due_at = found ? rows_i64(r, 1) : 0;
	int64_t began_at = found ? rows_i64(r, 2) : 0;
	struct str state = found ? rows_text(r, 3) : STR("");
	t->before = found ? rows_i64(r, 4) : 0;
	bool free = held_until <= t->now || held_until > t->now + 2 * hold_us(t->job);
	t->due = free && (t->how->by_hand || due_at <= t->now || due_at > t->now + 2 * period_us(t->job) + SECONDS_US(JOB_DOUBT_S));
	t->doubtful = t->job->by_age && !t->how->by_hand && began_at &&
	              t->now - began_at > period_us(t->job) + SECONDS_US(JOB_GAP_S);
	snprintf(t->state, sizeof t->state, "%.*s", STR_ARG(state));
	return 0;
}

static int take_op(struct tx *tx, void *arg)
{
	struct take *t = arg;
	int err = look_op(tx, t);
	if (err || !t->due)
		return err;
	int64_t changed = 0;
	/* On PostgreSQL two may have looked; the second waits for the row, and then it is not what it was. */
	err = tx_exec(tx,
	              "insert into jobs (name, holder, held_until, due_at, began_at) values ($1, $2, $3, $4, $5)"
	              " on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until,"
	              " due_at = excluded.due_at, began_at = excluded.began_at"
	              " where jobs.holder = $6",
	              DB_ARGS(V_T(str_c(t->job->name)), V_I(t->holder), V_I(t->doubtful ? 0 : t->now + hold_us(t->job)),
	                      V_I(t->now + (t->doubtful ? SECONDS_US(JOB_DOUBT_S) : period_us(t->job))), V_I(t->now),
	                      V_I(t->before)),
	              &changed);
	t->due = changed > 0 && !t->doubtful;
	return err;
}

struct give {
	const struct job_round *round;
	int64_t holder, now;
	int err;
};

static int give_op(struct tx *tx, void *arg)
{
	const struct give *g = arg;
	const struct job_round *r = g->round;
	struct str result = g->err ? str_c(err_info(g->err)->code) : STR("ok");
	return tx_exec(tx,
	               "update jobs set held_until = 0, ended_at = $3, succeeded_at = case when $4 = 1 then $3 else succeeded_at"
	               " end, rounds = rounds + 1, items = $5, size_bytes = $6, result = $7, state = $8"
	               " where name = $1 and holder = $2",
	               DB_ARGS(V_T(str_c(r->job->name)), V_I(g->holder), V_I(g->now), V_I(!g->err), V_I(r->items), V_I(r->bytes),
	                       V_T(result), V_T(str_c(r->state))),
	               NULL);
}

int job_run(struct drive *drive, const struct job *job, const struct job_run *how, struct job_result *out)
{
	int64_t mono = clock_mono(drive->clock);
	struct take t = {.job = job, .how = how, .now = clock_now(drive->clock), .holder = idgen_next(drive->ids)};
	*out = (struct job_result){0};
	int err = db_read(drive->db, look_op, &t); /* most nodes are told here, without a write */
	if (!err && t.due && !how->dry)
		err = db_write(drive->db, 0, take_op, &t);
	out->doubtful = t.doubtful;
	if (err || (!t.due && !how->dry))
		return err;
	struct job_round r = {
	    .drive = drive,
	    .job = job,
	    .stop = how->stop,
	    .begin = t.now,
	    .end = t.now + SECONDS_US(job->round_s),
	    .by_hand = how->by_hand,
	    .dry = how->dry,
	    .tell = how->tell,
	    .tell_arg = how->tell_arg,
	};
	snprintf(r.state, sizeof r.state, "%s", how->state ? how->state : how->dry ? "" : t.state);
	out->ran = true;
	err = job->run(&r);
	struct give g = {&r, t.holder, clock_now(drive->clock), err};
	int given = how->dry ? 0 : db_write(drive->db, 0, give_op, &g);
	out->more = r.more;
	out->items = r.items;
	out->bytes = r.bytes;
	out->took_us = clock_mono(drive->clock) - mono;
	return err ? err : given;
}

/* ---- what became of them ---- */

struct statuses {
	struct drive *drive;
	struct arena *a;
	struct job_status *out;
};

static void status_row(struct rows *r, const struct statuses *s, struct job_status *j)
{
	int64_t held_until = rows_i64(r, 1), now = clock_now(s->drive->clock);
	j->due_at = rows_i64(r, 2);
	j->began_at = rows_i64(r, 3);
	j->ended_at = rows_i64(r, 4);
	j->succeeded_at = rows_i64(r, 5);
	j->rounds = rows_i64(r, 6);
	j->items = rows_i64(r, 7);
	j->bytes = rows_i64(r, 8);
	j->running = held_until > now;
	j->result = j->running ? STR("running") : held_until ? STR("interrupted") : arena_str(s->a, rows_text(r, 9));
	j->state = arena_str(s->a, rows_text(r, 10));
}

static int status_op(struct tx *tx, void *arg)
{
	struct statuses *s = arg;
	AUTO_ROWS *r = NULL;
	for (size_t i = 0; i < job_count; i++)
		s->out[i] = (struct job_status){.job = job_list[i], .result = STR("-"), .state = STR("")};
	int err = tx_query(tx,
	                   "select name, held_until, due_at, began_at, ended_at, succeeded_at, rounds, items, size_bytes, result,"
	                   " state from jobs",
	                   DB_NO_ARGS, &r);
	while (!err && rows_next(r)) {
		const struct job *job = job_find(rows_text(r, 0));
		for (size_t i = 0; job && i < job_count; i++)
			if (job_list[i] == job)
				status_row(r, s, &s->out[i]);
	}
	return err ? err : rows_close(&r);
}

int job_status(struct drive *drive, struct arena *a, struct job_status *out)
{
	struct statuses s = {drive, a, out};
	return db_read(drive->db, status_op, &s);
}
