#include "drive/drive.h"

#include "base/limits.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/index.h"
#include "drive/access.h"
#include "drive/change.h"
#include "drive/principal.h"
#include "drive/share.h"

void dtx_init(struct dtx *t, struct tx *tx, struct ctx *ctx)
{
	*t = (struct dtx){.tx = tx, .ctx = ctx, .drive = ctx->drive};
}

static int follow_op(struct tx *tx, void *arg)
{
	static const char *const newest[] = {"select max(id) from nodes", "select max(id) from versions", "select max(id) from chunks",
	                                     "select cast(value as bigint) from facts where key = 'ids_behind'"};
	int err = 0;
	for (size_t i = 0; !err && i < sizeof newest / sizeof *newest; i++) {
		int64_t id;
		err = tx_i64(tx, newest[i], DB_NO_ARGS, 0, &id);
		idgen_follow(arg, id);
	}
	return err;
}

enum { START_LEAP_MS = 1 << 14, LEAP_MS = 1 << 22 };

int drive_follow_ids(struct db *db, struct idgen *ids, struct rng *rng)
{
	int err = mutant(M_DRIVE_IDS_ANEW) ? 0 : db_read(db, follow_op, ids);
	if (!err && idgen_is_ahead(ids))
		idgen_follow(ids, id_later(idgen_next(ids), (int64_t)rng_below(rng, START_LEAP_MS)));
	return err;
}

int drive_leap_ids(struct dtx *t, int64_t *behind)
{
	struct idgen ids;
	idgen_init(&ids, t->ctx->clock, 0);
	int err = follow_op(t->tx, &ids);
	*behind = id_later(idgen_next(&ids), (int64_t)rng_below(t->ctx->rng, LEAP_MS));
	if (!err)
		err = tx_exec(t->tx, "insert into facts (key, value) values ('ids_behind', $1) on conflict (key) do update set value = $1",
		              DB_ARGS(V_T(arena_fmt(t->ctx->arena, "%lld", (long long)*behind))), NULL);
	if (!err && t->drive->ids && !mutant(M_DRIVE_IDS_ANEW))
		idgen_follow(t->drive->ids, *behind);
	return err;
}

struct reading {
	struct ctx *ctx;
	drive_op_fn *op;
	void *arg;
};

static int run_read(struct tx *tx, void *arg)
{
	struct reading *r = arg;
	struct dtx t;
	ctx_clear(r->ctx);
	dtx_init(&t, tx, r->ctx);
	return r->op(&t, r->arg);
}

static int write_finish(struct tx *tx, void *arg)
{
	struct dtx *t = arg;
	must(t->tx == tx);
	int err = drive_insert_flush(t);
	if (!err)
		err = share_use_flush(t);
	return err ? err : change_flush(t);
}

/* Goes on where another of the group left off: all that it knew is still true, and what it has made still there, since nobody
 * is answered before the group ends. */
static void go_on(struct dtx *t, const struct dtx *left, struct ctx *ctx)
{
	*t = *left;
	t->ctx = ctx;
	t->n_changes = t->n_access = 0;
	if (!access_same_principal(left->ctx, ctx))
		access_forget(t);
}

static int run_write(struct tx *tx, void *arg)
{
	struct drive_write *w = arg;
	struct dtx *t = &w->t, *left = tx_left(tx);
	bool goes_on = w->makes_files && tx_is_daring(tx);
	int err = 0;
	ctx_clear(w->ctx); /* of a run before, which was rolled back */
	if (left && left->ctx->tenant_id != w->ctx->tenant_id) {
		err = write_finish(tx, left);
		left = NULL;
	}
	dtx_init(t, tx, w->ctx);
	if (left)
		go_on(t, left, w->ctx);
	t->makes_files = w->makes_files;
	t->by_index = goes_on;
	if (!err)
		err = w->op(t, w->arg);
	if (!err && goes_on)
		tx_leave(tx, write_finish, t);
	else if (!err)
		err = write_finish(tx, t);
	return err;
}

int drive_read(struct ctx *ctx, drive_op_fn *op, void *arg)
{
	int err = db_read(ctx->drive->db, run_read, &(struct reading){ctx, op, arg});
	if (!err)
		ctx_clear(ctx);
	return err;
}

/* It is durable: tells those who listen. */
static void written(struct drive_write *w)
{
	struct ctx *ctx = w->ctx;
	struct drive *d = ctx->drive;
	ctx_clear(ctx);
	if (w->t.n_changes) {
		for (size_t i = 0; i < d->n_listeners; i++)
			d->listeners[i].fn(d->listeners[i].arg, ctx->tenant_id);
		db_notify(d->db, ctx->tenant_id);
	}
	for (size_t k = 0; k < w->t.n_access; k++)
		for (size_t i = 0; i < d->n_access_listeners; i++)
			d->access_listeners[i].fn(d->access_listeners[i].arg, ctx->tenant_id, w->t.access[k].share_id, w->t.access[k].who);
}

int drive_write(struct ctx *ctx, drive_op_fn *op, void *arg)
{
	struct drive_write w = {.ctx = ctx, .op = op, .arg = arg};
	int err = db_write(ctx->drive->db, ctx->tenant_id, run_write, &w);
	if (!err)
		written(&w);
	return err;
}

void drive_write_begin(struct drive_write *w)
{
	w->w.tenant_id = w->ctx->tenant_id;
	w->w.op = run_write;
	w->w.arg = w;
	w->w.goes_on = w->makes_files;
	db_write_begin(w->ctx->drive->db, &w->w);
}

int drive_write_end(struct drive_write *w)
{
	if (!w->w.err)
		written(w);
	return w->w.err;
}

static int rows_flush(struct dtx *t, struct dtx_rows *rows)
{
	size_t n = rows->n;
	rows->n = 0;
	return tx_many(t->tx, rows->sql, rows->args, rows->n_args, n, NULL, NULL);
}

static bool gathers(const struct dtx *t)
{
	return t->by_index && t->makes_files;
}

int drive_insert(struct dtx *t, const char *sql, const struct dbv *args, size_t n_args)
{
	struct arena *a = t->ctx->arena;
	struct dtx_rows *rows = t->waiting;
	if (!gathers(t))
		return tx_exec(t->tx, sql, args, n_args, NULL);
	while (rows->sql && rows->sql != sql)
		must(++rows < t->waiting + DTX_TABLES_MAX);
	if (!rows->sql)
		*rows = (struct dtx_rows){.sql = sql, .n_args = n_args, .args = arena_many(a, n_args * DTX_ROWS_MAX, struct dbv)};
	struct dbv *row = rows->args + rows->n++ * n_args;
	for (size_t i = 0; i < n_args; i++) {
		row[i] = args[i];
		row[i].s = arena_str(a, args[i].s);
	}
	return rows->n < DTX_ROWS_MAX ? 0 : rows_flush(t, rows);
}

int drive_insert_flush(struct dtx *t)
{
	int err = 0;
	for (size_t i = 0; !err && i < DTX_TABLES_MAX; i++)
		err = rows_flush(t, &t->waiting[i]);
	if (!err && t->chunks)
		err = store_index_flush(t->tx, t->drive->store, t->ctx->tenant_id, t->chunks);
	return err;
}

struct index_batch *drive_chunk_batch(struct dtx *t)
{
	if (gathers(t) && !t->chunks)
		t->chunks = arena_new(t->ctx->arena, struct index_batch);
	return gathers(t) ? t->chunks : NULL;
}

int drive_makes_files(struct dtx *t, bool yes)
{
	t->makes_files = yes;
	if (yes)
		return 0;
	t->folder = NULL;
	return drive_insert_flush(t);
}

struct nested {
	struct dtx *t;
	drive_op_fn *part;
	void *arg;
};

static int run_nested(struct tx *tx, void *arg)
{
	struct nested *n = arg;
	must(n->t->tx == tx);
	return n->part(n->t, n->arg);
}

int drive_nested(struct dtx *t, drive_op_fn *part, void *arg)
{
	must(!gathers(t));
	struct dtx before = *t;
	struct nested n = {t, part, arg};
	int err = tx_nested(t->tx, run_nested, &n);
	if (err) {
		*t = before;
		if (t->last)
			t->last->next = NULL;
		access_forget(t);
	}
	return err;
}

void drive_listen(struct drive *d, drive_listener_fn *fn, void *arg)
{
	must(d->n_listeners < sizeof d->listeners / sizeof *d->listeners);
	d->listeners[d->n_listeners].fn = fn;
	d->listeners[d->n_listeners++].arg = arg;
}

void drive_listen_access(struct drive *d, drive_access_fn *fn, void *arg)
{
	must(d->n_access_listeners < sizeof d->access_listeners / sizeof *d->access_listeners);
	d->access_listeners[d->n_access_listeners].fn = fn;
	d->access_listeners[d->n_access_listeners++].arg = arg;
}

void drive_access_changed(struct dtx *t, int64_t share_id, struct rid who)
{
	access_forget(t);
	if (t->n_access == DTX_ACCESS_MAX) { /* too many to name: everyone, anywhere */
		t->n_access = 1;
		share_id = 0;
		who = (struct rid){0};
		t->access[0].share_id = 0;
		t->access[0].who = who;
		return;
	}
	t->access[t->n_access].share_id = share_id;
	t->access[t->n_access++].who = who;
}

int drive_head(struct dtx *t, int64_t *seq)
{
	int err = 0;
	if (!t->seq)
		err = tx_i64(t->tx, "select seq from tenants where id = $1", DB_ARGS(V_I(t->ctx->tenant_id)), 0, &t->stored_seq);
	if (!t->seq)
		t->seq = t->stored_seq;
	*seq = t->seq;
	return err;
}

/* ---- requests sent twice (D4) ---- */

int idempotency_find(struct dtx *t, const struct sha256 *request_hash, struct rid *hit)
{
	struct ctx *ctx = t->ctx;
	*hit = (struct rid){0};
	if (!ctx->idempotency_key.n || !ctx->who)
		return 0;
	AUTO_ROWS *r = NULL;
	bool found;
	int64_t oldest = clock_now(ctx->clock) - MILLIS_US(LIMIT_OP_RESULT_MS);
	int err = tx_query_row(t->tx,
	                       "select operation, request_hash, resource_kind, resource_id from idempotency"
	                       " where user_id = $1 and key = $2 and created_at > $3",
	                       DB_ARGS(V_I(ctx->who->user_id), V_T(ctx->idempotency_key), V_I(oldest)), &r, &found);
	if (err || !found)
		return err;
	struct str hash = rows_blob(r, 1);
	struct str operation = ctx->operation.p ? ctx->operation : STR("");
	if (!str_eq(rows_text(r, 0), operation) || hash.n != 32 || memcmp(hash.p, request_hash->b, 32) != 0)
		return E_IDEMPOTENCY;
	*hit = (struct rid){(enum id_kind)rows_i64(r, 2), rows_i64(r, 3)};
	return 0;
}

int idempotency_store(struct dtx *t, const struct sha256 *request_hash, struct rid made)
{
	struct ctx *ctx = t->ctx;
	if (!ctx->idempotency_key.n || !ctx->who)
		return 0;
	return tx_exec(t->tx,
	               "insert into idempotency (user_id, key, operation, request_hash, resource_kind, resource_id,"
	               " created_at) values ($1, $2, $3, $4, $5, $6, $7) on conflict (user_id, key) do update set"
	               " operation = excluded.operation, request_hash = excluded.request_hash,"
	               " resource_kind = excluded.resource_kind, resource_id = excluded.resource_id,"
	               " created_at = excluded.created_at",
	               DB_ARGS(V_I(ctx->who->user_id), V_T(ctx->idempotency_key),
	                       V_T(ctx->operation.p ? ctx->operation : STR("")), V_B(str_n(request_hash->b, 32)),
	                       V_I(made.kind), V_I(made.n), V_I(clock_now(ctx->clock))),
	               NULL);
}

int drive_room(struct dtx *t)
{
	enum { ROWS_BYTES = 4096 }; /* a node or version, its indexes and its log entry, twice: SQLite's log, then its file */
	return t->drive->store ? store_room(t->drive->store, ROWS_BYTES) : 0;
}
