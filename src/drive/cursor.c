#include "drive/cursor.h"

#include "drive/change.h"
#include "drive/device.h"
#include "drive/share.h"

struct cursor_op {
	struct str device_id;
	int64_t share_id;
	int64_t position;
	bool missing;
	struct sync_state *out;
};

static int cursor_begin(struct dtx *t, struct cursor_op *op, struct device *d)
{
	struct share share;
	*op->out = (struct sync_state){0};
	int err = device_load(t, op->device_id, d);
	return err ? err : share_load(t, op->share_id, RIGHT_READ, &share);
}

static int cursor_find(struct dtx *t, int64_t device, struct cursor_op *op, bool *found)
{
	struct rows *r = NULL;
	int err = tx_query_row(t->tx, "select position, last_sync_at from device_cursors where device = $1 and share_id = $2",
	                       DB_ARGS(V_I(device), V_I(op->share_id)), &r, found);
	if (!err && *found) {
		op->out->position = rows_i64(r, 0);
		op->out->last_sync_at = rows_i64(r, 1);
	}
	int end = rows_close(&r);
	return err ? err : end;
}

static int status_count(struct dtx *t, const struct device *d, struct cursor_op *op)
{
	int64_t open;
	int err = tx_i64(t->tx,
	                 "select count(*) from (select seq from changes where share_id = $1 and seq > $2 limit $3) as pending",
	                 DB_ARGS(V_I(op->share_id), V_I(op->out->position), V_I(CURSOR_PENDING_MAX)), 0,
	                 &op->out->pending_changes);
	if (err)
		return err;
	err = tx_i64(t->tx,
	             "select count(*) from (select c.id from conflicts c join nodes n on n.id = c.resource_id"
	             " where c.share_id = $1 and c.resolved_at is null and c.user_id = $2 and c.device_id = $3 limit 1)"
	             " as open_ones",
	             DB_ARGS(V_I(op->share_id), V_I(d->user_id), V_T(d->device_id)), 0, &open);
	op->out->has_conflicts = open != 0;
	return err;
}

static int status_op(struct dtx *t, void *arg)
{
	struct cursor_op *op = arg;
	struct device d;
	bool found = false;
	int err = cursor_begin(t, op, &d);
	if (!err)
		err = cursor_find(t, d.id, op, &found);
	if (err)
		return err;
	op->missing = !found;
	return found ? status_count(t, &d, op) : 0;
}

static int create_op(struct dtx *t, void *arg)
{
	struct cursor_op *op = arg;
	struct device d;
	bool found;
	int64_t head;
	int err = cursor_begin(t, op, &d);
	if (!err)
		err = drive_head(t, &head);
	if (!err) /* another request of the device may have been faster */
		err = tx_exec(t->tx,
		              "insert into device_cursors (device, share_id, position) values ($1, $2, $3)"
		              " on conflict (device, share_id) do nothing",
		              DB_ARGS(V_I(d.id), V_I(op->share_id), V_I(head)), NULL);
	if (!err)
		err = cursor_find(t, d.id, op, &found);
	return err ? err : status_count(t, &d, op);
}

int drive_sync_status(struct ctx *ctx, struct str device_id, int64_t share_id, struct sync_state *out)
{
	struct cursor_op op = {.device_id = device_id, .share_id = share_id, .out = out};
	int err = drive_read(ctx, status_op, &op);
	if (!err && op.missing)
		err = drive_write(ctx, create_op, &op);
	return err;
}

static int set_op(struct dtx *t, void *arg)
{
	struct cursor_op *op = arg;
	struct device d;
	bool found;
	int64_t head;
	int err = cursor_begin(t, op, &d);
	if (!err)
		err = drive_head(t, &head);
	if (err)
		return err;
	if (op->position < 0 || op->position > head)
		return ctx_fail(t->ctx, E_CURSOR_INVALID, "The position is not in the log.");
	int64_t now = clock_now(t->ctx->clock);
	/* never backwards: a late request of the same device must not undo a newer one (D1) */
	err = tx_exec(t->tx,
	              "insert into device_cursors (device, share_id, position, last_sync_at) values ($1, $2, $3, $4)"
	              " on conflict (device, share_id) do update set position = excluded.position,"
	              " last_sync_at = excluded.last_sync_at where device_cursors.position <= excluded.position",
	              DB_ARGS(V_I(d.id), V_I(op->share_id), V_I(op->position), V_I(now)), NULL);
	return err ? err : cursor_find(t, d.id, op, &found);
}

int drive_sync_cursor_set(struct ctx *ctx, struct str device_id, int64_t share_id, int64_t position,
                          struct sync_state *out)
{
	struct cursor_op op = {.device_id = device_id, .share_id = share_id, .position = position, .out = out};
	return drive_write(ctx, set_op, &op);
}
