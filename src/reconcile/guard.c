#include "reconcile/guard.h"

#include "base/hash.h"
#include "base/mutant.h"

static bool too_much(size_t deleted, size_t all)
{
	if (mutant(M_GUARD_OFF))
		return false;
	return deleted > GUARD_MOST || (deleted >= GUARD_LEAST && deleted > all / 2);
}

void guard_each(const struct plan *p, const struct tree *remote, guard_fn *fn, void *arg)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct plan_op *op = &p->ops[i];
		if (op->verb == PLAN_TRASH_LOCAL)
			fn(arg, (uint64_t)op->id << 1);
		if (op->verb != PLAN_TRASH_REMOTE)
			continue;
		const struct node *top = tree_get(remote, op->id);
		for (const struct node *n = top; n; n = tree_walk(top, n))
			fn(arg, (uint64_t)n->f.id << 1 | 1);
	}
}

static void count(void *arg, uint64_t item)
{
	struct guard_verdict *v = arg;
	v->remote += item & 1;
	v->local += !(item & 1);
	v->which += xxh3_64(&item, sizeof item);
}

struct guard_verdict guard_check(const struct plan *p, const struct tree *remote, const struct tree *synced)
{
	struct guard_verdict v = {.synced = synced->count};
	guard_each(p, remote, count, &v);
	v.stop = too_much(v.remote, v.synced) || too_much(v.local, v.synced);
	return v;
}

struct str guard_explain(struct arena *a, const struct guard_verdict *v)
{
	return arena_fmt(a, "this would delete %zu items on the server and %zu here, of %zu in sync", v->remote,
			 v->local, v->synced);
}

enum guard_root guard_root(const struct guard_root_facts *f)
{
	if (!f->is_there)
		return GUARD_ROOT_MISSING;
	if (!f->same_disk)
		return GUARD_OTHER_DISK;
	if (!f->same_folder)
		return GUARD_ROOT_MISSING;
	if (!f->has_marker)
		return GUARD_MARKER_MISSING;
	return f->marker_is_ours ? GUARD_ROOT_OK : GUARD_MARKER_FOREIGN;
}
