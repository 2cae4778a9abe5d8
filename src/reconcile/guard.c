#include "reconcile/guard.h"

#include "base/mutant.h"

static bool too_much(size_t deleted, size_t all)
{
	if (mutant(M_GUARD_OFF))
		return false;
	return deleted > GUARD_MOST || (deleted >= GUARD_LEAST && deleted > all / 2);
}

struct guard_verdict guard_check(const struct plan *p, const struct tree *remote, const struct tree *synced)
{
	struct guard_verdict v = {.synced = synced->count};
	for (size_t i = 0; i < p->n; i++) {
		const struct plan_op *op = &p->ops[i];
		v.local += op->verb == PLAN_TRASH_LOCAL;
		if (op->verb != PLAN_TRASH_REMOTE)
			continue;
		const struct node *top = tree_get(remote, op->id);
		for (const struct node *n = top; n; n = tree_walk(top, n))
			v.remote++;
	}
	v.stop = too_much(v.remote, v.synced) || too_much(v.local, v.synced);
	return v;
}
