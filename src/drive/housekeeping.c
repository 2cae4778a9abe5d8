#include "drive/housekeeping.h"

#include <stdatomic.h>

#include "base/limits.h"
#include "drive/version.h"

const char *const housekeeping_names[HOUSEKEEPING_KINDS] = {
    [HOUSEKEEPING_STAGES] = "staged_versions",
    [HOUSEKEEPING_OPS] = "operation_results",
    [HOUSEKEEPING_KEYS] = "idempotency_keys",
    [HOUSEKEEPING_LOGINS] = "sign_ins",
    [HOUSEKEEPING_REFRESH] = "refresh_tokens",
};

struct round {
	struct drive *drive;
	const _Atomic bool *stop;
	int64_t begin, end; /* of the round; wall clock, as the lease */
	bool due;
};

static const char lease_name[] = "housekeeping";

static int due_op(struct tx *tx, void *arg)
{
	struct round *r = arg;
	int64_t until;
	int err = tx_i64(tx, "select expires_at from leases where name = $1", DB_ARGS(V_T(str_c(lease_name))), 0, &until);
	/* a clock that was set back must not stop housekeeping for as long as it was ahead */
	r->due = until <= r->begin || until > r->begin + 2 * SECONDS_US(HOUSEKEEPING_PERIOD_S);
	return err;
}

static int take_op(struct tx *tx, void *arg)
{
	struct round *r = arg;
	int64_t changed = 0;
	int err = tx_exec(tx,
	                  "insert into leases (name, holder, expires_at) values ($1, '', $2) on conflict (name) do update"
	                  " set expires_at = excluded.expires_at where leases.expires_at <= $3 or leases.expires_at > $4",
	                  DB_ARGS(V_T(str_c(lease_name)), V_I(r->begin + SECONDS_US(HOUSEKEEPING_PERIOD_S)), V_I(r->begin),
	                          V_I(r->begin + 2 * SECONDS_US(HOUSEKEEPING_PERIOD_S))),
	                  &changed);
	r->due = changed > 0;
	return err;
}

static bool may_go_on(const struct round *r)
{
	int64_t now = clock_now(r->drive->clock);
	return now >= r->begin && now < r->end && !(r->stop && atomic_load(r->stop));
}

/* ---- staged versions, tenant by tenant ---- */

struct next_tenant {
	int64_t now, after, id;
};

static int next_tenant_op(struct tx *tx, void *arg)
{
	struct next_tenant *n = arg;
	return tx_i64(tx,
	              "select min(tenant_id) from versions where staged_until > 0 and staged_until < $1 and tenant_id > $2",
	              DB_ARGS(V_I(n->now), V_I(n->after)), 0, &n->id);
}

static int sweep_stages(struct round *r, int64_t *removed)
{
	struct arena arena;
	struct next_tenant next = {.now = r->begin};
	int err = 0, steps = 0;
	arena_init(&arena);
	while (!err && steps < HOUSEKEEPING_STEPS && may_go_on(r)) {
		err = db_read(r->drive->db, next_tenant_op, &next);
		if (err || !next.id)
			break;
		next.after = next.id;
		for (int64_t n = HOUSEKEEPING_STEP_ROWS;
		     !err && n == HOUSEKEEPING_STEP_ROWS && steps < HOUSEKEEPING_STEPS && may_go_on(r); steps++) {
			struct ctx ctx;
			ctx_init(&ctx, &arena, r->drive->clock, r->drive->rng);
			ctx.drive = r->drive;
			ctx.tenant_id = next.id;
			ctx.operation = STR("housekeeping");
			n = 0;
			err = drive_version_sweep(&ctx, &n);
			*removed += err ? 0 : n;
			arena_reset(&arena);
		}
	}
	arena_fini(&arena);
	return err;
}

/* ---- rows with an age ---- */

struct step {
	const char *sql;
	int64_t before, changed;
};

static int old_op(struct tx *tx, void *arg)
{
	struct step *s = arg;
	return tx_exec(tx, s->sql, DB_ARGS(V_I(s->before), V_I(HOUSEKEEPING_STEP_ROWS)), &s->changed);
}

static int sweep_old(struct round *r, const char *sql, int64_t before, int64_t *removed)
{
	struct step s = {.sql = sql, .before = before};
	int err = 0;
	for (int i = 0; i < HOUSEKEEPING_STEPS && !err && may_go_on(r); i++) {
		err = db_write(r->drive->db, 0, old_op, &s);
		*removed += err ? 0 : s.changed;
		if (s.changed < HOUSEKEEPING_STEP_ROWS)
			break;
	}
	return err;
}

/* ---- results of operations: walked by key, a part of them each round ---- */

struct walk {
	struct arena arena;
	int64_t before, from, to, changed;
	struct str from_op, to_op;
	size_t seen, old;
};

static int walk_look_op(struct tx *tx, void *arg)
{
	struct walk *w = arg;
	AUTO_ROWS *r = NULL;
	int err = tx_query(tx,
	                   "select device, op_id, created_at from op_results where (device, op_id) > ($1, $2)"
	                   " order by device, op_id limit $3",
	                   DB_ARGS(V_I(w->from), V_T(w->from_op), V_I(HOUSEKEEPING_WALK_ROWS)), &r);
	w->seen = w->old = 0;
	while (!err && rows_next(r)) {
		w->old += rows_i64(r, 2) < w->before;
		if (++w->seen < HOUSEKEEPING_WALK_ROWS)
			continue;
		w->to = rows_i64(r, 0);
		w->to_op = arena_str(&w->arena, rows_text(r, 1));
	}
	return err ? err : rows_close(&r);
}

static int walk_remove_op(struct tx *tx, void *arg)
{
	struct walk *w = arg;
	bool end = w->seen < HOUSEKEEPING_WALK_ROWS;
	return end ? tx_exec(tx, "delete from op_results where (device, op_id) > ($1, $2) and created_at < $3",
	                     DB_ARGS(V_I(w->from), V_T(w->from_op), V_I(w->before)), &w->changed)
	           : tx_exec(tx,
	                     "delete from op_results where (device, op_id) > ($1, $2) and (device, op_id) <= ($3, $4)"
	                     " and created_at < $5",
	                     DB_ARGS(V_I(w->from), V_T(w->from_op), V_I(w->to), V_T(w->to_op), V_I(w->before)), &w->changed);
}

static void walk_keep(struct drive *d, int64_t device, struct str op_id)
{
	d->ops_walked.device = device;
	d->ops_walked.op_id_bytes = op_id.n < sizeof d->ops_walked.op_id ? op_id.n : sizeof d->ops_walked.op_id;
	memcpy(d->ops_walked.op_id, op_id.p, d->ops_walked.op_id_bytes);
}

static int sweep_ops(struct round *r, int64_t before, int64_t *removed)
{
	struct drive *d = r->drive;
	struct walk w = {.before = before, .seen = HOUSEKEEPING_WALK_ROWS};
	int err = 0;
	for (int i = 0; !err && i < HOUSEKEEPING_WALK_STEPS && w.seen == HOUSEKEEPING_WALK_ROWS && may_go_on(r); i++) {
		arena_init(&w.arena);
		w.from = d->ops_walked.device;
		w.from_op = str_n(d->ops_walked.op_id, d->ops_walked.op_id_bytes);
		err = db_read(d->db, walk_look_op, &w);
		w.changed = 0;
		if (!err && w.old)
			err = db_write(d->db, 0, walk_remove_op, &w);
		*removed += err ? 0 : w.changed;
		if (!err && w.seen == HOUSEKEEPING_WALK_ROWS)
			walk_keep(d, w.to, w.to_op);
		else if (!err)
			walk_keep(d, 0, STR(""));
		arena_fini(&w.arena);
	}
	return err;
}

int housekeeping_run(struct drive *drive, const _Atomic bool *stop, struct housekeeping_round *out)
{
	int64_t now = clock_now(drive->clock), kept = now - MILLIS_US(LIMIT_OP_RESULT_MS);
	struct round r = {drive, stop, now, now + SECONDS_US(HOUSEKEEPING_ROUND_S), false};
	*out = (struct housekeeping_round){0};
	int err = db_read(drive->db, due_op, &r); /* most nodes are told here, without a write */
	if (!err && r.due)
		err = db_write(drive->db, 0, take_op, &r);
	if (err || !r.due)
		return err;
	out->ran = true;
	err = sweep_stages(&r, &out->removed[HOUSEKEEPING_STAGES]);
	if (!err)
		err = sweep_ops(&r, kept, &out->removed[HOUSEKEEPING_OPS]);
	if (!err)
		err = sweep_old(&r,
		                "delete from idempotency where (user_id, key) in"
		                " (select user_id, key from idempotency where created_at < $1 order by created_at limit $2)",
		                kept, &out->removed[HOUSEKEEPING_KEYS]);
	if (!err)
		err = sweep_old(&r,
		                "delete from login_attempts where key in"
		                " (select key from login_attempts where window_end <= $1 order by window_end limit $2)",
		                now, &out->removed[HOUSEKEEPING_LOGINS]);
	if (!err)
		err = sweep_old(&r,
		                "delete from refresh_families where name in"
		                " (select name from refresh_families where expires_at <= $1 order by expires_at limit $2)",
		                now, &out->removed[HOUSEKEEPING_REFRESH]);
	return err;
}
