#include "drive/tail.h"

#include "drive/share.h"

static void tail_row(struct rows *r, struct arena *a, struct change *c)
{
	*c = (struct change){
	    .share_id = rows_i64(r, 0),
	    .seq = rows_i64(r, 1),
	    .tenant_id = rows_i64(r, 2),
	    .resource = {(enum id_kind)rows_i64(r, 3), rows_i64(r, 4)},
	    .type = (enum change_type)rows_i64(r, 5),
	    .changed_by = rows_i64(r, 6),
	    .changed_at = rows_i64(r, 7),
	    .old_path = arena_str(a, rows_text(r, 8)),
	    .new_path = arena_str(a, rows_text(r, 9)),
	    .version_id = rows_i64(r, 10),
	    .device_id = arena_str(a, rows_text(r, 11)),
	    .metadata = arena_str(a, rows_text(r, 12)),
	};
}

int tail_read(struct dtx *t, int64_t position, size_t max, struct tail_page *out)
{
	AUTO_ROWS *r = NULL;
	*out = (struct tail_page){0};
	int err = drive_head(t, &out->head);
	if (err || out->head <= position)
		return err;
	out->items = arena_many(t->ctx->arena, max, struct change);
	err = tx_query(t->tx,
	               "select share_id, seq, tenant_id, resource_kind, resource_id, change_type, changed_by, changed_at,"
	               " old_path, new_path, version_id, device_id, metadata from changes"
	               " where tenant_id = $1 and seq > $2 order by seq limit $3",
	               DB_ARGS(V_I(t->ctx->tenant_id), V_I(position), V_I(max)), &r);
	if (err)
		return err;
	while (out->n < max && rows_next(r))
		tail_row(r, t->ctx->arena, &out->items[out->n++]);
	return rows_close(&r);
}

void tail_as(struct dtx *t, const struct principal *who)
{
	t->ctx->who = who;
	access_forget(t);
}

/* A listener keeps the principal it came with, so it is asked anew whether that user may still come in. */
static int is_active(struct dtx *t, int64_t user_id, bool *yes)
{
	int64_t n;
	int err = tx_i64(t->tx,
	                 "select count(*) from users u join tenants t on t.id = u.tenant_id"
	                 " where u.id = $1 and u.status = 'active' and t.status = 'active'",
	                 DB_ARGS(V_I(user_id)), 0, &n);
	*yes = n != 0;
	return err;
}

int tail_readable(struct dtx *t, const struct principal *who, int64_t share_id, bool *yes)
{
	const struct principal *before = t->ctx->who;
	struct share share;
	tail_as(t, who);
	int err = share_load(t, share_id, RIGHT_READ, &share);
	tail_as(t, before);
	*yes = !err;
	if (!err)
		return is_active(t, who->user_id, yes);
	if (err != E_NOT_FOUND && err != E_FORBIDDEN && err != E_GONE)
		return err;
	ctx_clear(t->ctx);
	return 0;
}

void tail_nudge(struct drive *d, int64_t tenant_id)
{
	for (size_t i = 0; i < d->n_listeners; i++)
		d->listeners[i].fn(d->listeners[i].arg, tenant_id);
	db_notify(d->db, tenant_id);
}
