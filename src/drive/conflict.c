#include "drive/conflict.h"

#include <stdatomic.h>

#include "drive/device.h"
#include "drive/share.h"

static _Atomic int64_t recorded[CONFLICT_FOLDER_DELETE + 1];

static const char *const type_names[] = {
    [CONFLICT_EDIT_EDIT] = "edit_edit",
    [CONFLICT_EDIT_DELETE] = "edit_delete",
    [CONFLICT_DELETE_EDIT] = "delete_edit",
    [CONFLICT_FOLDER_DELETE] = "folder_delete",
};

const char *conflict_type_name(enum conflict_type type)
{
	return type >= CONFLICT_EDIT_EDIT && type <= CONFLICT_FOLDER_DELETE ? type_names[type] : "";
}

int64_t conflict_recorded(enum conflict_type type)
{
	return type >= CONFLICT_EDIT_EDIT && type <= CONFLICT_FOLDER_DELETE ? atomic_load(&recorded[type]) : 0;
}

int conflict_record(struct dtx *t, struct conflict *c, bool open)
{
	int64_t now = clock_now(t->ctx->clock);
	c->id = idgen_next(t->drive->ids);
	c->tenant_id = t->ctx->tenant_id;
	c->user_id = t->ctx->who->user_id;
	c->created_at = now;
	c->resolution = open ? RESOLVE_NONE : c->strategy;
	c->resolved_at = open ? 0 : now;
	c->resolved_by = open ? 0 : c->user_id;
	int err = drive_head(t, &c->seq);
	if (err)
		return err;
	/* counted though the group may yet fail: a metric may say one too many, never one too few */
	atomic_fetch_add(&recorded[c->type], 1);
	return tx_exec(t->tx,
	               "insert into conflicts (id, tenant_id, share_id, device_id, user_id, resource_kind, resource_id,"
	               " conflict_type, path, base_version_id, local_version_id, server_version_id, copy_id, strategy,"
	               " resolution, resolved_at, resolved_by, created_at, seq)"
	               " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
	               DB_ARGS(V_I(c->id), V_I(c->tenant_id), V_I(c->share_id), V_T(c->device_id), V_I(c->user_id),
	                       V_I(c->resource.kind), V_I(c->resource.n), V_T(str_c(type_names[c->type])), V_T(c->path),
	                       V_I(c->base_version_id), V_I(c->local_version_id), V_I(c->server_version_id), V_I(c->copy_id),
	                       V_I(c->strategy), V_I(c->resolution), V_ID(c->resolved_at), V_I(c->resolved_by), V_I(now),
	                       V_I(c->seq)),
	               NULL);
}

/* ---- reading ---- */

#define CONFLICT_COLUMNS \
	"id, tenant_id, share_id, device_id, user_id, resource_kind, resource_id, conflict_type, path, base_version_id," \
	" local_version_id, server_version_id, copy_id, strategy, resolution, resolved_at, resolved_by, created_at, seq"

static void conflict_row(struct rows *r, struct arena *a, struct conflict *c)
{
	struct str type = rows_text(r, 7);
	*c = (struct conflict){
	    .id = rows_i64(r, 0),
	    .tenant_id = rows_i64(r, 1),
	    .share_id = rows_i64(r, 2),
	    .device_id = arena_str(a, rows_text(r, 3)),
	    .user_id = rows_i64(r, 4),
	    .resource = {(enum id_kind)rows_i64(r, 5), rows_i64(r, 6)},
	    .type = CONFLICT_EDIT_EDIT,
	    .path = arena_str(a, rows_text(r, 8)),
	    .base_version_id = rows_i64(r, 9),
	    .local_version_id = rows_i64(r, 10),
	    .server_version_id = rows_i64(r, 11),
	    .copy_id = rows_i64(r, 12),
	    .strategy = (enum resolve_strategy)rows_i64(r, 13),
	    .resolution = (enum resolve_strategy)rows_i64(r, 14),
	    .resolved_at = rows_i64(r, 15),
	    .resolved_by = rows_i64(r, 16),
	    .created_at = rows_i64(r, 17),
	    .seq = rows_i64(r, 18),
	};
	for (int i = CONFLICT_EDIT_EDIT; i <= CONFLICT_FOLDER_DELETE; i++)
		if (str_eq(type, str_c(type_names[i])))
			c->type = (enum conflict_type)i;
}

/* Whether the caller may read the node that it is about; *yes false without a fault when not. The path becomes the one
 * of today: the recorded one may name folders of a share that the node has left. */
static int conflict_readable(struct dtx *t, struct conflict *c, bool *yes)
{
	struct node n;
	int err = node_load(t, c->resource.n, 0, RIGHT_READ | NODE_WITH_TRASH, &n);
	*yes = !err;
	if (!err)
		c->path = n.path;
	if (err == E_NOT_FOUND || err == E_FORBIDDEN) {
		ctx_clear(t->ctx);
		return 0;
	}
	return err;
}

int conflict_load(struct dtx *t, int64_t id, struct conflict *out)
{
	struct rows *r = NULL;
	bool found, yes = false;
	int err = tx_query_row(t->tx, "select " CONFLICT_COLUMNS " from conflicts where id = $1 and tenant_id = $2",
	                       DB_ARGS(V_I(id), V_I(t->ctx->tenant_id)), &r, &found);
	if (!err && found)
		conflict_row(r, t->ctx->arena, out);
	int end = rows_close(&r);
	if (!err)
		err = end;
	if (!err && found)
		err = conflict_readable(t, out, &yes);
	if (err || yes)
		return err;
	char wire[ID_WIRE_MAX + 1];
	id_format(wire, ID_CONFLICT, id);
	return ctx_fail(t->ctx, E_NOT_FOUND, "Not found: %s", wire);
}

struct list_op {
	const struct conflict_list_in *in;
	struct conflict_list *out;
};

/* Rows per query while looking for readable ones, and the most that one call looks at. */
enum { LIST_STEP = 500, LIST_SCAN_MAX = 20000 };

/* Candidates with an id below *before, newest first. The filters are optional: an empty one matches all. */
static int list_step(struct dtx *t, const struct conflict_list_in *in, int64_t before, struct conflict *rows, size_t *n)
{
	AUTO_ROWS *r = NULL;
	struct str device = in->device_id.p ? in->device_id : STR("");
	const struct dbv args[] = {V_I(t->ctx->tenant_id), V_I(before), V_I(in->include_resolved), V_T(device),
	                           V_I(t->ctx->who->user_id), V_I(LIST_STEP), V_I(in->share_id)};
	*n = 0;
	int err = in->share_id ? tx_query(t->tx,
	                                  "select " CONFLICT_COLUMNS " from conflicts where share_id = $7 and tenant_id = $1"
	                                  " and id < $2 and ($3 = 1 or resolved_at is null)"
	                                  " and ($4 = '' or (device_id = $4 and user_id = $5)) order by id desc limit $6",
	                                  args, 7, &r)
	                       : tx_query(t->tx,
	                                  "select " CONFLICT_COLUMNS " from conflicts where tenant_id = $1"
	                                  " and id < $2 and ($3 = 1 or resolved_at is null)"
	                                  " and ($4 = '' or (device_id = $4 and user_id = $5)) order by id desc limit $6",
	                                  args, 6, &r);
	if (err)
		return err;
	while (*n < LIST_STEP && rows_next(r))
		conflict_row(r, t->ctx->arena, &rows[(*n)++]);
	return rows_close(&r);
}

static int list_begin(struct dtx *t, const struct conflict_list_in *in)
{
	struct device d;
	struct share share;
	int err = in->device_id.p ? device_load(t, in->device_id, &d) : 0;
	return err || !in->share_id ? err : share_load(t, in->share_id, RIGHT_READ, &share);
}

static int list_op(struct dtx *t, void *arg)
{
	struct list_op *op = arg;
	const struct conflict_list_in *in = op->in;
	size_t limit = in->limit > 0 && in->limit < CONFLICT_LIST_MAX ? (size_t)in->limit : CONFLICT_LIST_MAX;
	struct conflict *step = arena_many(t->ctx->arena, LIST_STEP, struct conflict);
	*op->out = (struct conflict_list){.items = arena_many(t->ctx->arena, limit, struct conflict)};
	int64_t skip = in->offset, before = INT64_MAX;
	size_t scanned = 0, n = LIST_STEP;
	int err = list_begin(t, in);
	while (!err && n == LIST_STEP && scanned < LIST_SCAN_MAX && op->out->n < limit) {
		err = list_step(t, in, before, step, &n);
		scanned += n;
		for (size_t i = 0; !err && i < n && op->out->n < limit; i++) {
			bool yes;
			before = step[i].id;
			err = conflict_readable(t, &step[i], &yes);
			if (!err && yes && skip-- <= 0)
				op->out->items[op->out->n++] = step[i];
		}
	}
	return err;
}

int drive_conflict_list(struct ctx *ctx, const struct conflict_list_in *in, struct conflict_list *out)
{
	struct list_op op = {in, out};
	return drive_read(ctx, list_op, &op);
}
