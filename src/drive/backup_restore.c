#include "drive/backup_priv.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "chunks/pack_copy.h"
#include "db/db_copy.h"
#include "drive/change.h"
#include "drive/schema.h"

struct restore {
	const struct backup *b;
	const struct backup_point *point;
	const struct restore_target *to;
	struct backup_totals *totals;
	struct db *from;
	struct tx *tx; /* the target's */
};

/* ---- is it empty? ---- */

static int tenants_op(struct tx *tx, void *arg)
{
	return tx_i64(tx, "select count(*) from tenants", DB_NO_ARGS, 0, arg);
}

static int facts_op(struct tx *tx, void *arg)
{
	struct str *token = arg;
	int64_t n;
	int err = tx_i64(tx, "select count(*) from facts where key = 'restored' and value = $1", DB_ARGS(V_T(*token)), 0, &n);
	if (!err && !n)
		*token = STR_NULL;
	return err;
}

/* The number of the newest migration; 0 also where there is no table of them, which is asked for by making it. */
static int schema_of(struct db *db, int64_t *number)
{
	AUTO_FREE char *why = NULL;
	(void)db_migrate(db, schema_migrations, 0, &why); /* E_DB where there are migrations, which is no fault here */
	return db_schema_number(db, number);
}

int backup_restored(struct db *db, struct str token, bool *yes)
{
	int64_t schema;
	*yes = false;
	int err = schema_of(db, &schema);
	if (err || !schema)
		return err;
	err = db_read(db, facts_op, &token);
	*yes = !err && token.p;
	return err;
}

static int prepare(const struct restore *r)
{
	struct ctx *ctx = r->to->ctx;
	struct db *db = ctx->drive->db;
	int64_t schema, tenants = 0;
	AUTO_FREE char *why = NULL;
	if (r->point->schema > (int64_t)schema_n_migrations)
		return ctx_fail(ctx, E_CONFLICT, "%s has schema %lld, which a later version of this program knows.", r->point->name,
		                (long long)r->point->schema);
	int err = schema_of(db, &schema);
	if (!err && schema)
		err = db_read(db, tenants_op, &tenants);
	if (!err && (tenants || schema > r->point->schema))
		return ctx_fail(ctx, E_CONFLICT, "The database is not empty: a restore needs one in which nothing was ever stored.");
	return err ? err : db_migrate(db, schema_migrations, (size_t)r->point->schema, &why);
}

/* ---- packs ---- */

static int fetch_packs(const struct restore *r)
{
	struct arena a;
	int64_t *ids;
	size_t n;
	arena_init(&a);
	int err = backup_packs_of(r->from, &a, &ids, &n);
	if (!err)
		err = pack_copy_begin(r->to->packs);
	for (size_t i = 0; !err && i < n; i++) {
		struct pack_copied one = {0};
		char name[PACK_NAME_MAX];
		pack_name(name, ids[i]);
		r->b->progress(r->b->arg, "packs", (int64_t)i, (int64_t)n);
		err = r->b->packs ? pack_copy(r->b->packs, r->to->packs, ids[i], false, &one) : E_NOT_FOUND;
		if (err == E_NOT_FOUND) {
			err = 0; /* backup_look has told */
		} else if (!err && one.damaged) {
			backup_tell(r->b, r->totals, "packs/%s is damaged; scaidrived fsck tells whose contents are in it", name);
		}
		r->totals->copied_packs += one.copied;
		r->totals->copied_bytes += one.copied ? one.bytes : 0;
	}
	arena_fini(&a);
	return err ? err : pack_copy_end(r->to->packs);
}

/* ---- rows ---- */

static bool on_table(void *arg, const char *table, int64_t rows)
{
	const struct restore *r = arg;
	(void)table;
	r->b->progress(r->b->arg, "rows", rows, -1);
	return true;
}

static int read_rows(struct tx *from, void *arg)
{
	static const char *const nothing[] = {NULL};
	struct restore *r = arg;
	return db_copy(from, r->tx, &(struct db_copy){nothing, on_table, r});
}

enum { TENANTS_MAX = 100000 };

static int begin_epochs(struct restore *r)
{
	struct ctx own = *r->to->ctx;
	struct dtx all;
	int64_t id = 0, ids_behind;
	dtx_init(&all, r->tx, &own);
	int err = drive_leap_ids(&all, &ids_behind);
	for (int i = 0; !err && i <= TENANTS_MAX; i++) {
		struct dtx t;
		err = tx_i64(r->tx, "select min(id) from tenants where id > $1", DB_ARGS(V_I(id)), 0, &id);
		if (err || !id)
			return err;
		own.tenant_id = id;
		dtx_init(&t, r->tx, &own);
		err = change_epoch_begin(&t, ids_behind);
	}
	return err ? err : E_INTERNAL;
}

static int rows_op(struct tx *tx, void *arg)
{
	struct restore *r = arg;
	r->tx = tx;
	int err = db_read(r->from, read_rows, r);
	/* The packs lie in another folder now, which gets a mark of its own (server_mark.c). */
	if (!err)
		err = tx_exec(tx, "delete from facts where key = 'packs'", DB_NO_ARGS, NULL);
	if (!err)
		err = tx_exec(tx, "insert into facts (key, value) values ('restored', $1) on conflict (key) do update set value = $1",
		              DB_ARGS(V_T(r->to->token)), NULL);
	return err ? err : begin_epochs(r);
}

int backup_restore(const struct backup *b, const struct backup_point *p, const struct restore_target *to,
                   struct backup_totals *totals)
{
	struct restore r = {.b = b, .point = p, .to = to, .totals = totals};
	AUTO_FREE char *why = NULL;
	int err = prepare(&r);
	if (!err)
		err = backup_open_point(b, p, &r.from);
	if (err)
		return err;
	err = fetch_packs(&r);
	if (!err)
		err = db_write(to->ctx->drive->db, 0, rows_op, &r);
	backup_close_point(b, p, &r.from);
	return err ? err : db_migrate(to->ctx->drive->db, schema_migrations, schema_n_migrations, &why);
}
