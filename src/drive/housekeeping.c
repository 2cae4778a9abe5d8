#include "drive/housekeeping.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/limits.h"
#include "drive/version.h"

const char *const housekeeping_names[HOUSEKEEPING_KINDS] = {
    [HOUSEKEEPING_STAGES] = "staged_versions",
    [HOUSEKEEPING_OPS] = "operation_results",
    [HOUSEKEEPING_KEYS] = "idempotency_keys",
    [HOUSEKEEPING_LOGINS] = "sign_ins",
    [HOUSEKEEPING_REFRESH] = "refresh_tokens",
};

static _Atomic int64_t removed_rows[HOUSEKEEPING_KINDS];

int64_t housekeeping_removed(enum housekeeping_kind kind)
{
	return atomic_load(&removed_rows[kind]);
}

static void count(struct job_round *r, enum housekeeping_kind kind, int64_t rows)
{
	atomic_fetch_add(&removed_rows[kind], rows);
	r->items += rows;
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

static int sweep_stages(struct job_round *r)
{
	struct arena arena;
	struct next_tenant next = {.now = r->begin};
	int err = 0, steps = 0;
	arena_init(&arena);
	while (!err && steps < HOUSEKEEPING_STEPS && job_go_on(r)) {
		err = db_read(r->drive->db, next_tenant_op, &next);
		if (err || !next.id)
			break;
		next.after = next.id;
		for (int64_t n = HOUSEKEEPING_STEP_ROWS;
		     !err && n == HOUSEKEEPING_STEP_ROWS && steps < HOUSEKEEPING_STEPS && job_go_on(r); steps++) {
			struct ctx ctx;
			job_ctx(r, &ctx, &arena, next.id);
			n = 0;
			err = drive_version_sweep(&ctx, &n);
			count(r, HOUSEKEEPING_STAGES, err ? 0 : n);
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

static int sweep_old(struct job_round *r, enum housekeeping_kind kind, const char *sql, int64_t before)
{
	struct step s = {.sql = sql, .before = before};
	int err = 0;
	for (int i = 0; i < HOUSEKEEPING_STEPS && !err && job_go_on(r); i++) {
		err = db_write(r->drive->db, 0, old_op, &s);
		count(r, kind, err ? 0 : s.changed);
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

/* The place in r->state: "DEVICE OP_ID"; "": from the beginning. */
static void walk_from(const struct job_round *r, struct walk *w)
{
	struct str rest = arena_str(&w->arena, str_c(r->state));
	if (!str_to_i64(str_cut(&rest, ' '), &w->from))
		w->from = 0;
	w->from_op = w->from ? rest : STR("");
}

static void walk_keep(struct job_round *r, const struct walk *w)
{
	static_assert(LIMIT_OP_ID_BYTES + 24 < JOB_STATE_BYTES, "a place fits into the state");
	r->state[0] = 0;
	if (w->seen == HOUSEKEEPING_WALK_ROWS && w->to_op.n <= LIMIT_OP_ID_BYTES)
		snprintf(r->state, sizeof r->state, "%lld %.*s", (long long)w->to, STR_ARG(w->to_op));
}

static int sweep_ops(struct job_round *r, int64_t before)
{
	struct walk w = {.before = before, .seen = HOUSEKEEPING_WALK_ROWS};
	int err = 0;
	for (int i = 0; !err && i < HOUSEKEEPING_WALK_STEPS && w.seen == HOUSEKEEPING_WALK_ROWS && job_go_on(r); i++) {
		arena_init(&w.arena);
		walk_from(r, &w);
		err = db_read(r->drive->db, walk_look_op, &w);
		w.changed = 0;
		if (!err && w.old)
			err = db_write(r->drive->db, 0, walk_remove_op, &w);
		count(r, HOUSEKEEPING_OPS, err ? 0 : w.changed);
		if (!err)
			walk_keep(r, &w);
		arena_fini(&w.arena);
	}
	return err;
}

/* ---- a round that only counts ---- */

static const struct counting {
	enum housekeeping_kind kind;
	bool kept; /* for LIMIT_OP_RESULT_MS, else to a time that the row names */
	const char *sql;
} countings[] = {
    {HOUSEKEEPING_STAGES, false, "select count(*) from versions where staged_until > 0 and staged_until < $1"},
    {HOUSEKEEPING_OPS, true, "select count(*) from op_results where created_at < $1"},
    {HOUSEKEEPING_KEYS, true, "select count(*) from idempotency where created_at < $1"},
    {HOUSEKEEPING_LOGINS, false, "select count(*) from login_attempts where window_end <= $1"},
    {HOUSEKEEPING_REFRESH, false, "select count(*) from refresh_families where expires_at <= $1"},
};

struct counted {
	const struct counting *what;
	int64_t before, rows;
};

static int counting_op(struct tx *tx, void *arg)
{
	struct counted *c = arg;
	return tx_i64(tx, c->what->sql, DB_ARGS(V_I(c->before)), 0, &c->rows);
}

static int dry_run(struct job_round *r, int64_t kept)
{
	int err = 0;
	for (size_t i = 0; !err && i < sizeof countings / sizeof *countings; i++) {
		char line[80];
		struct counted c = {.what = &countings[i], .before = countings[i].kept ? kept : r->begin};
		err = db_read(r->drive->db, counting_op, &c);
		int n = snprintf(line, sizeof line, "%s: %lld rows", housekeeping_names[c.what->kind], (long long)c.rows);
		if (!err && c.rows)
			r->tell(r->tell_arg, str_n(line, (size_t)n), 0);
		r->items += c.rows;
	}
	return err;
}

static int run(struct job_round *r)
{
	int64_t kept = r->begin - MILLIS_US(LIMIT_OP_RESULT_MS);
	if (r->dry)
		return dry_run(r, kept);
	int err = sweep_stages(r);
	if (!err)
		err = sweep_ops(r, kept);
	if (!err)
		err = sweep_old(r, HOUSEKEEPING_KEYS,
		                "delete from idempotency where (user_id, key) in"
		                " (select user_id, key from idempotency where created_at < $1 order by created_at limit $2)",
		                kept);
	if (!err)
		err = sweep_old(r, HOUSEKEEPING_LOGINS,
		                "delete from login_attempts where key in"
		                " (select key from login_attempts where window_end <= $1 order by window_end limit $2)",
		                r->begin);
	if (!err)
		err = sweep_old(r, HOUSEKEEPING_REFRESH,
		                "delete from refresh_families where name in"
		                " (select name from refresh_families where expires_at <= $1 order by expires_at limit $2)",
		                r->begin);
	return err;
}

const struct job job_housekeeping = {
    .name = "housekeeping",
    .what = "Removes staged versions, results of operations, idempotency keys, sign-in counts and logins whose time is over",
    .period_s = HOUSEKEEPING_PERIOD_S,
    .round_s = HOUSEKEEPING_ROUND_S,
    .run = run,
};
