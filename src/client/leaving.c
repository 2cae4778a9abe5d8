/* What is about to be trashed here is written down first. Were it trashed by a client that ends before it has recorded that, and came it
 * back to the share meanwhile, it would look deleted by the user, and go from the server. */
#include "base/mutant.h"
#include "client/agent_priv.h"

int leaving_begin(struct ctx *ctx, struct agent *a, const struct plan *p, size_t at)
{
	if (mutant(M_AGENT_TRASH_UNTOLD))
		return 0;
	for (; at < p->n; at++)
		if (p->ops[at].verb == PLAN_TRASH_LOCAL)
			replica_set_leaving(a->replica, p->ops[at].id, true);
	return generation_next(ctx, a);
}

void leaving_end(struct agent *a, const struct plan_op *op, int err)
{
	bool untouched = err == E_CHANGED || err == E_NOT_FOUND || err == E_CONFLICT;
	if (op->verb == PLAN_TRASH_LOCAL && (!err || untouched))
		replica_set_leaving(a->replica, op->id, false);
}

static const struct node *local(const struct agent *a, int64_t id)
{
	return tree_get(&a->replica->trees[REPLICA_LOCAL], id);
}

/* Of whatever bears the node's name now. */
static int look(struct ctx *ctx, struct agent *a, const struct node *n, struct root_entry *out)
{
	int err = a->root->ops->stat(a->root, ctx, agent_path(ctx, a, n->f.id), out);
	ctx_clear(ctx);
	return err;
}

static bool same_inode(const struct disk_stamp *x, const struct disk_stamp *y)
{
	return x->ino == y->ino && x->dev == y->dev && x->birth_ns == y->birth_ns;
}

/* The ids that are open, as the map changes while they are settled. */
static size_t open_ids(struct ctx *ctx, const struct agent *a, int64_t **out)
{
	uint64_t id;
	void *value;
	size_t n = 0;
	*out = arena_many(ctx->arena, a->replica->leaving.count + 1, int64_t);
	for (size_t at = 0; map_next(&a->replica->leaving, &at, &id, &value);)
		(*out)[n++] = (int64_t)id;
	return n;
}

void leaving_before_scan(struct ctx *ctx, struct agent *a)
{
	int64_t *ids;
	size_t n_ids = open_ids(ctx, a, &ids);
	for (size_t i = 0; i < n_ids; i++) {
		struct root_entry e;
		const struct node *n = local(a, ids[i]);
		if (n && n->f.kind == NODE_FILE && !look(ctx, a, n, &e) && !same_inode(&e.stamp, &n->f.stamp))
			replica_del(a->replica, REPLICA_LOCAL, ids[i]);
	}
}

void leaving_after_scan(struct ctx *ctx, struct agent *a)
{
	int64_t *ids;
	size_t n_ids = open_ids(ctx, a, &ids);
	for (size_t i = 0; i < n_ids; i++) {
		struct root_entry e;
		const struct node *n = local(a, ids[i]);
		if (n && (look(ctx, a, n, &e) || !same_inode(&e.stamp, &n->f.stamp)))
			continue; /* the scan could not look there */
		if (!n)
			replica_del(a->replica, REPLICA_SYNCED, ids[i]);
		replica_set_leaving(a->replica, ids[i], false);
	}
}
