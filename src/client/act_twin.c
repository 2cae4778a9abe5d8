/* Content that need not travel: a file that is to be fetched equals one that is here, or a file that is to be sent equals a
 * version that the share has. Both are known from the synced tree. Fetching, the copy is hashed as it stands in the stage,
 * so it does not matter what became of the twin meanwhile; sending, the server is told the checksum as well and refuses another. */
#include "base/must.h"
#include "client/agent_priv.h"

void act_twin_find(struct job *j)
{
	const struct plan_op *op = j->op;
	struct agent *a = j->agent;
	const struct node_facts *want = op->verb == PLAN_FETCH ? &op->remote : &op->local;
	if (op->kind != NODE_FILE || op->verb == PLAN_SET_MODE_REMOTE || !want->size_bytes)
		return;
	const struct node_facts *f = replica_same_content(a->replica, &want->checksum, want->size_bytes);
	if (!f)
		return;
	if (op->verb != PLAN_FETCH) {
		j->twin_version_id = a->no_twins ? 0 : f->version_id;
		return;
	}
	const struct node *here = tree_get(&a->replica->trees[REPLICA_LOCAL], f->id);
	if (here && here->f.kind == NODE_FILE && sha256_eq(&here->f.checksum, &want->checksum))
		j->twin = agent_path(&j->ctx, a, f->id);
}

int act_twin_fetch(struct job *j, struct act_stage *to)
{
	const struct root_ops *ops = j->agent->root->ops;
	struct root_file *f;
	struct root_entry e;
	int err = ops->open(j->agent->root, to->ctx, j->twin, &f, &e);
	if (err)
		return err;
	err = ops->stage_copy(to->stage, f, 0, j->op->remote.size_bytes, to->sha);
	ops->close(f);
	return err == E_CHANGED ? E_NOT_FOUND : err; /* it is the twin that did */
}
