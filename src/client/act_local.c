#include "base/must.h"
#include "base/mutant.h"
#include "client/agent_priv.h"

static int gone(struct ctx *ctx, const struct plan_op *op)
{
	struct str name = op->has_local ? op->local.name : op->name;
	return ctx_fail(ctx, E_CHANGED, "\"%.*s\" changed meanwhile; it is looked at again.", STR_ARG(name));
}

static struct node_facts synced_or(const struct agent *a, const struct plan_op *op, const struct node_facts *dflt)
{
	const struct node *s = tree_get(&a->replica->trees[REPLICA_SYNCED], op->id);
	return s ? s->f : *dflt;
}

/* The local tree has old facts of what the scan could not look at (scan.h), and a power failure may have taken that away: once
 * agreed, it would look deleted here. */
static int is_on_disk(struct ctx *ctx, struct agent *a, const struct plan_op *op, const struct node *n)
{
	struct root_entry e;
	int err = a->root->ops->stat(a->root, ctx, agent_path(ctx, a, n->f.id), &e);
	if (err && err != E_NOT_FOUND)
		return err;
	bool same = n->f.kind == NODE_FOLDER ? e.stamp.dev == n->f.stamp.dev && e.stamp.ino == n->f.stamp.ino
	                                     : stamp_same_file(&e.stamp, &n->f.stamp);
	ctx_clear(ctx);
	return !err && same ? 0 : gone(ctx, op);
}

static int act_record(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	const struct node *n = agent_as_planned(a, op);
	int err = n ? is_on_disk(ctx, a, op, n) : gone(ctx, op);
	if (err)
		return err;
	if (!replica_rename_id(a->replica, op->local.id, op->id))
		return gone(ctx, op);
	struct node_facts f = synced_or(a, op, &op->remote);
	struct str local_name = arena_str(ctx->arena, f.local_name);
	f.name = arena_str(ctx->arena, f.name);
	if (op->record_content) {
		f.checksum = op->remote.checksum;
		f.size_bytes = op->remote.size_bytes;
		f.version_id = op->remote.version_id;
		f.version = op->remote.version;
	}
	f.executable = op->executable;
	if (op->record_place) {
		f.parent = op->parent;
		f.name = op->name;
		local_name = op->other_name;
	}
	agent_agree(a, f, local_name);
	return 0;
}

static int act_make(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	struct root_entry e;
	struct str path = agent_child_path(ctx, a, op->parent, op->name);
	if (!path.p || tree_get(&a->replica->trees[REPLICA_LOCAL], op->id))
		return gone(ctx, op);
	int err = a->root->ops->make_folder(a->root, ctx, path, &e);
	if (err)
		return err;
	a->unsynced = true;
	struct node_facts f = {.id = op->id, .parent = op->parent, .kind = NODE_FOLDER, .name = op->name, .stamp = e.stamp};
	if (!replica_put(a->replica, REPLICA_LOCAL, &f))
		return gone(ctx, op);
	agent_agree(a, op->remote, op->name);
	a->stats.made++;
	return 0;
}

/* Renames on the disk and in the local tree. */
static int rename_node(struct ctx *ctx, struct agent *a, const struct node *n, int64_t parent, struct str name)
{
	struct root_entry e;
	struct str from = agent_path(ctx, a, n->f.id), to = agent_child_path(ctx, a, parent, name);
	if (!to.p)
		return ctx_fail(ctx, E_CHANGED, "The target folder of \"%.*s\" went away.", STR_ARG(from));
	int err = a->root->ops->rename(a->root, ctx, from, &n->f.stamp, to, &e);
	if (err)
		return err;
	struct node_facts f = n->f;
	f.parent = parent;
	f.name = name;
	if (stamp_same_file(&f.stamp, &e.stamp) && f.stamp.ctime_ns)
		f.stamp = e.stamp; /* else the next scan reads the file again */
	return replica_put(a->replica, REPLICA_LOCAL, &f) ? 0 : E_CHANGED;
}

static int act_move(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	const struct node *n = agent_as_planned(a, op);
	if (!n)
		return gone(ctx, op);
	int err = rename_node(ctx, a, n, op->parent, op->name);
	if (err)
		return err;
	a->stats.moved++;
	if (op->final && tree_get(&a->replica->trees[REPLICA_SYNCED], op->id)) {
		struct node_facts f = synced_or(a, op, &op->remote);
		f.parent = op->remote.parent;
		f.name = op->remote.name;
		agent_agree(a, f, op->name);
	}
	return 0;
}

static int act_trash(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	const struct node *n = agent_as_planned(a, op);
	if (!n || n->first)
		return gone(ctx, op);
	struct str path = agent_path(ctx, a, n->f.id);
	int err;
	if (n->f.kind == NODE_FOLDER) {
		err = a->root->ops->remove_folder(a->root, ctx, path, &n->f.stamp);
		if (err == E_CONFLICT) {
			ctx_clear(ctx);
			err = ctx_fail(ctx, err, "The folder was deleted remotely but holds things that are not synced; remove it by hand when they are not needed.");
		}
	} else {
		char date[11];
		time_date(clock_now(ctx->clock), date);
		struct disk_stamp seen = n->f.stamp;
		struct root_entry now;
		if (mutant(M_ACT_TRASH) && !a->root->ops->stat(a->root, ctx, path, &now))
			seen = now.stamp;
		err = a->root->ops->trash(a->root, ctx, path, &seen, str_n(date, 10));
	}
	if (err)
		return err;
	replica_del(a->replica, REPLICA_LOCAL, op->local.id);
	replica_del(a->replica, REPLICA_SYNCED, op->id);
	a->stats.trashed++;
	return 0;
}

static int act_set_mode(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	struct root_entry e;
	const struct node *n = agent_as_planned(a, op), *s = tree_get(&a->replica->trees[REPLICA_SYNCED], op->id);
	if (!n || !s || n->f.executable != op->local.executable)
		return gone(ctx, op);
	int err = a->root->ops->set_mode(a->root, ctx, agent_path(ctx, a, n->f.id), &n->f.stamp, op->executable, &e);
	if (err)
		return err;
	struct node_facts f = n->f, sf = s->f;
	f.stamp = e.stamp;
	f.executable = sf.executable = e.executable;
	f.name = arena_str(ctx->arena, f.name);
	sf.name = arena_str(ctx->arena, sf.name);
	sf.local_name = arena_str(ctx->arena, sf.local_name);
	if (!replica_put(a->replica, REPLICA_LOCAL, &f))
		return gone(ctx, op);
	agent_agree(a, sf, sf.local_name);
	return 0;
}

int act_detach(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	if (!agent_as_planned(a, op))
		return gone(ctx, op);
	int64_t own = --a->replica->next_local_id;
	a->replica->meta_dirty = true;
	must(replica_rename_id(a->replica, op->local.id, own));
	/* Else, should the server's bytes become the agreed ones again, the old node would look deleted here. */
	replica_del(a->replica, REPLICA_SYNCED, op->id);
	/* Durable before the rename: after a crash in between, the edited file must not be found again as the old node. */
	int err = agent_flush(ctx, a);
	if (!err && op->name.p) {
		const struct node *n = tree_get(&a->replica->trees[REPLICA_LOCAL], own);
		err = rename_node(ctx, a, n, n->f.parent, op->name);
	}
	a->stats.copies += !err && op->case_no == 5;
	return err;
}

int act_local(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	switch (op->verb) {
	case PLAN_RECORD:
		return act_record(ctx, a, op);
	case PLAN_FORGET:
		replica_del(a->replica, REPLICA_SYNCED, op->id);
		return 0;
	case PLAN_MAKE_LOCAL:
		return act_make(ctx, a, op);
	case PLAN_MOVE_LOCAL:
		return act_move(ctx, a, op);
	case PLAN_TRASH_LOCAL:
		return act_trash(ctx, a, op);
	case PLAN_SET_MODE_LOCAL:
		return act_set_mode(ctx, a, op);
	default:
		must(op->verb == PLAN_DETACH);
		return act_detach(ctx, a, op);
	}
}
