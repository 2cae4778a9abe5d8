/* What a sync would do, without doing it. */
#include "client/agent_priv.h"

enum { DEPTH_MAX = 1000 };
#define MADE_FIRST (INT64_C(1) << 62) /* far above any id of the server */

/* own_id: of a folder that the server would make. */
static bool would_make(struct agent *a, const struct plan_op *op, int64_t own_id)
{
	if (op->verb == PLAN_MAKE_LOCAL) {
		struct node_facts f = {.id = op->id, .parent = op->parent, .kind = NODE_FOLDER, .name = op->name};
		if (!replica_put(a->replica, REPLICA_LOCAL, &f))
			return false;
		agent_agree(a, op->remote, op->name);
		return true;
	}
	struct node_facts f = {.id = own_id, .parent = op->parent, .kind = NODE_FOLDER, .name = op->name};
	if (!replica_put(a->replica, REPLICA_REMOTE, &f) || !replica_rename_id(a->replica, op->local.id, f.id))
		return false;
	agent_agree(a, f, op->local.name);
	return true;
}

static void tell(struct ctx *ctx, const struct agent *a, const struct plan_op *op, agent_item_fn *on_item, void *arg)
{
	on_item(arg, op, agent_op_path(ctx, a, op), plan_explain(ctx->arena, op));
}

static bool makes_folder(const struct plan_op *op)
{
	return op->verb == PLAN_MAKE_LOCAL || op->verb == PLAN_MAKE_REMOTE;
}

int agent_look(struct ctx *ctx, struct agent *a, agent_item_fn *on_item, void *arg, struct agent_round *out)
{
	*out = (struct agent_round){0};
	a->looking = true;
	int err = agent_observe(ctx, a);
	bool more = true;
	for (int depth = 0; !err && more; depth++) {
		struct plan p;
		agent_plan(ctx, a, &p);
		more = false;
		for (size_t i = 0; i < p.n; i++) {
			if (!makes_folder(&p.ops[i]))
				continue;
			tell(ctx, a, &p.ops[i], on_item, arg);
			out->planned++;
			more |= would_make(a, &p.ops[i], MADE_FIRST + (int64_t)out->planned) && depth < DEPTH_MAX;
		}
		for (size_t i = 0; i < p.n && !more; i++) {
			if (makes_folder(&p.ops[i]))
				continue;
			tell(ctx, a, &p.ops[i], on_item, arg);
			out->planned++;
		}
		out->waiting = p.waiting;
		out->guard = guard_check(&p, &a->replica->trees[REPLICA_REMOTE], &a->replica->trees[REPLICA_SYNCED]);
		plan_fini(&p);
	}
	out->in_step = !out->planned && !out->waiting;
	return err;
}
