/* trash: one row is marked; what is below it is reached through it and comes back with it. */
#include "drive/node_priv.h"

#include "base/name.h"
#include "drive/share.h"
#include "drive/version.h"

int node_trash(struct dtx *t, struct node *n, struct str device_id)
{
	int err = node_not_root(t, n);
	if (err || n->in_trash)
		return err;
	err = change_peek(t, &n->change_seq);
	n->deleted_at = clock_now(t->ctx->clock);
	n->in_trash = true;
	if (!err)
		err = tx_exec(t->tx,
		              "update nodes set deleted_at = $2, deleted_by = $3, trash_key = id, change_seq = $4 where id = $1",
		              DB_ARGS(V_I(n->id), V_I(n->deleted_at), V_I(actor(t)), V_I(n->change_seq)), NULL);
	if (err)
		return err;
	return change_append(t, CHANGE_DELETED, n, n->path, STR_NULL, false, device_id, NULL);
}

int node_restore(struct dtx *t, struct node *n, struct str device_id)
{
	struct arena *a = t->ctx->arena;
	if (!n->in_trash)
		return 0;
	struct node folder;
	/* The parent is the place to go back to while it is live; the rights were checked on the node, not on it. */
	int err = node_load(t, n->parent_id, NODE_FOLDER, RIGHT_READ | NODE_WITH_TRASH, &folder);
	if (!err && folder.in_trash)
		err = node_load_root(t, n->share_id, RIGHT_READ, &folder);
	if (err)
		return err;
	struct str name;
	err = node_free_name(t, folder.id, n->name, &name);
	if (!err)
		err = change_peek(t, &n->change_seq);
	if (err)
		return err;
	n->name = arena_str(a, name);
	node_put_below(a, n, &folder);
	n->deleted_at = 0;
	n->in_trash = false;
	n->modified_by = actor(t);
	n->modified_at = clock_now(t->ctx->clock);
	err = tx_exec(t->tx,
	              "update nodes set deleted_at = 0, deleted_by = 0, trash_key = 0, parent_id = $2, name = $3,"
	              " name_key = $4, modified_by = $5, modified_at = $6, change_seq = $7 where id = $1",
	              DB_ARGS(V_I(n->id), V_I(n->parent_id), V_T(n->name), V_T(name_key(a, n->name)), V_I(n->modified_by),
	                      V_I(n->modified_at), V_I(n->change_seq)),
	              NULL);
	if (err)
		return err;
	return change_append(t, CHANGE_CREATED, n, STR_NULL, n->path, n->kind == NODE_FOLDER, device_id, NULL);
}
