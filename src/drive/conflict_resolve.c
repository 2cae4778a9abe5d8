/* Settling a recorded conflict on the stored versions. */
#include "drive/conflict.h"

#include "base/limits.h"
#include "drive/version.h"

struct settle_op {
	int64_t id;
	enum resolve_strategy how;
	struct conflict *out;
};

static bool incoming_wins(enum resolve_strategy how)
{
	return how == RESOLVE_CLIENT_WINS || how == RESOLVE_LAST_WRITER_WINS;
}

static int newer(struct dtx *t)
{
	return ctx_fail(t->ctx, E_CONFLICT, "It was changed since the conflict was recorded; look at it again.");
}

/* Both sides are content: the head still is what the conflict saw, and the device's version is in the history. */
static int settle_edits(struct dtx *t, struct settle_op *op, struct node *n)
{
	struct conflict *c = op->out;
	struct version local;
	struct version_result r;
	if (n->in_trash)
		return ctx_fail(t->ctx, E_GONE, "The file is in the trash; restore it first.");
	if (n->version_id == c->local_version_id && incoming_wins(op->how))
		return 0;
	if (n->version_id != c->server_version_id)
		return newer(t);
	if (op->how == RESOLVE_SERVER_WINS)
		return 0;
	int err = version_load(t, n, c->local_version_id, &local);
	if (err)
		return err;
	if (incoming_wins(op->how))
		return version_restore(t, n, local.number, c->device_id, &r);
	struct node copy;
	err = version_copy_beside(t, n, &local, c->device_id, &copy);
	if (!err)
		c->copy_id = copy.id;
	return err;
}

/* The device edited what the server had deleted; its version was kept in the trash. */
static int settle_edit_delete(struct dtx *t, struct settle_op *op, struct node *n)
{
	struct conflict *c = op->out;
	struct version local;
	struct version_result r;
	if (!n->in_trash && n->version_id == c->local_version_id && op->how != RESOLVE_SERVER_WINS)
		return 0;
	if (!n->in_trash || n->version_id != c->server_version_id)
		return newer(t);
	if (op->how == RESOLVE_SERVER_WINS)
		return 0;
	int err = version_load(t, n, c->local_version_id, &local);
	if (!err)
		err = node_restore(t, n, c->device_id);
	return err ? err : version_restore(t, n, local.number, c->device_id, &r);
}

/* Has anything but a deletion happened to the folder or below it since? More rows than are looked at count as yes. */
static int changed_below(struct dtx *t, const struct node *folder, int64_t since, bool *yes)
{
	AUTO_ROWS *r = NULL;
	int64_t looked = 0;
	int err = tx_query(t->tx,
	                   "select resource_id, ancestors from changes where share_id = $1 and seq > $2 and change_type <> $3"
	                   " order by seq limit $4",
	                   DB_ARGS(V_I(folder->share_id), V_I(since), V_I(CHANGE_DELETED), V_I(LIMIT_APPLY_TRASH_WALK)), &r);
	*yes = false;
	while (!err && !*yes && rows_next(r)) {
		*yes = rows_i64(r, 0) == folder->id || ++looked == LIMIT_APPLY_TRASH_WALK;
		uint64_t id;
		for (struct str rest = rows_blob(r, 1); !*yes && rest.n && varint_read(&rest, &id);)
			*yes = id == (uint64_t)folder->id;
	}
	int end = rows_close(&r);
	return err ? err : end;
}

/* The device deleted what the server's side had edited: only CLIENT_WINS deletes (resolve.h). */
static int settle_delete(struct dtx *t, struct settle_op *op, struct node *n)
{
	struct conflict *c = op->out;
	if (op->how != RESOLVE_CLIENT_WINS)
		return 0;
	if (n->in_trash)
		return 0;
	if (n->kind == NODE_FILE && n->version_id != c->server_version_id)
		return newer(t);
	bool more = false;
	int err = n->kind == NODE_FOLDER ? changed_below(t, n, c->seq, &more) : 0;
	if (!err && more)
		return newer(t);
	if (!err)
		err = access_verdict(t->ctx, n->rights, RIGHT_DELETE, node_rid(n));
	return err ? err : node_trash(t, n, c->device_id);
}

static int settle_carry_out(struct dtx *t, struct settle_op *op)
{
	struct node n;
	int err = node_load(t, op->out->resource.n, 0, RIGHT_WRITE | NODE_WITH_TRASH, &n);
	if (err)
		return err;
	switch (op->out->type) {
	case CONFLICT_EDIT_EDIT:
		return settle_edits(t, op, &n);
	case CONFLICT_EDIT_DELETE:
		return settle_edit_delete(t, op, &n);
	case CONFLICT_DELETE_EDIT:
	case CONFLICT_FOLDER_DELETE:
		return settle_delete(t, op, &n);
	}
	return ctx_fail(t->ctx, E_INTERNAL, "The conflict is of an unknown type.");
}

static int settle_op(struct dtx *t, void *arg)
{
	struct settle_op *op = arg;
	struct conflict *c = op->out;
	struct node n;
	int err = conflict_load(t, op->id, c);
	if (!err) /* the right is asked before anything is told about its state */
		err = node_load(t, c->resource.n, 0, RIGHT_WRITE | NODE_WITH_TRASH, &n);
	if (err)
		return err;
	if (c->resolved_at && c->resolution == op->how)
		return 0;
	if (c->resolved_at)
		return ctx_fail(t->ctx, E_CONFLICT, "The conflict was settled by %s already.",
		                resolve_strategy_name(c->resolution));
	err = settle_carry_out(t, op);
	if (err)
		return err;
	c->resolution = op->how;
	c->resolved_at = clock_now(t->ctx->clock);
	c->resolved_by = t->ctx->who->user_id;
	return tx_exec(t->tx,
	               "update conflicts set resolution = $2, resolved_at = $3, resolved_by = $4, copy_id = $5 where id = $1",
	               DB_ARGS(V_I(c->id), V_I(c->resolution), V_I(c->resolved_at), V_I(c->resolved_by), V_I(c->copy_id)),
	               NULL);
}

int drive_conflict_resolve(struct ctx *ctx, int64_t id, enum resolve_strategy how, struct conflict *out)
{
	if (how == RESOLVE_NONE || how == RESOLVE_MANUAL)
		return ctx_invalid(ctx, "query", STR("resolution"), "enum", "MANUAL settles nothing; name another strategy.");
	struct settle_op op = {id, how, out};
	return drive_write(ctx, settle_op, &op);
}
