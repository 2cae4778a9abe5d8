#include "reconcile/plan_priv.h"

#include <stdio.h>

#include "base/must.h"
#include "base/mutant.h"
#include "base/name.h"

#define TEMP_PREFIX ".scaidrive-moving-"

enum { CHAIN_MAX = 64 }; /* longer chains of names that wait for each other are cut by a temporary name */

bool plan_is_passing(struct str name)
{
	return str_starts(name, STR("~$")) || (str_starts(name, STR(".~lock.")) && str_ends(name, STR("#"))) ||
	       (str_starts(name, STR(".")) && str_ends(name, STR(".swp"))) || str_ends(name, STR(".crdownload"));
}

bool plan_is_temp(struct str name, int64_t id)
{
	char wanted[48];
	if (!str_starts(name, STR(TEMP_PREFIX)))
		return false; /* nearly all */
	int n = snprintf(wanted, sizeof(wanted), TEMP_PREFIX "%lld", (long long)id);
	int64_t attempt;
	if (!str_starts(name, str_n(wanted, (size_t)n)))
		return false;
	struct str rest = str_skip(name, (size_t)n);
	return !rest.n || (rest.p[0] == '-' && str_to_i64(str_skip(rest, 1), &attempt) && attempt > 0);
}

/* The node for which some planner made up the name; 0: it is nobody's temporary name. */
static int64_t temp_owner(struct str name)
{
	struct str rest = str_skip(name, sizeof(TEMP_PREFIX) - 1);
	int64_t id;
	if (!str_starts(name, STR(TEMP_PREFIX)) || !str_to_i64(str_cut(&rest, '-'), &id) || id <= 0)
		return 0;
	return plan_is_temp(name, id) ? id : 0;
}

/* The name itself; of a temporary one, the name that its node goes by elsewhere, or one that nobody takes for temporary. */
static struct str plain_name(struct maker *m, struct str name)
{
	int64_t id = temp_owner(name);
	const struct node *s = tree_get(m->synced, id), *r = tree_get(m->remote, id);
	if (!id)
		return name;
	if (s && !temp_owner(node_local_name(&s->f)))
		return node_local_name(&s->f);
	return r && !temp_owner(r->f.name) ? r->f.name : arena_fmt(m->a, "moving-%lld", (long long)id);
}

/* True once per side, parent and name key in one plan. */
static bool claim(struct maker *m, char side, int64_t parent, struct str name)
{
	struct str key = name_key(m->a, name);
	struct str all = arena_fmt(m->a, "%c%lld/%.*s", side, (long long)parent, STR_ARG(key));
	if (smap_get(&m->claims, all))
		return false;
	smap_put(&m->claims, all, m);
	return true;
}

static bool claimed(struct maker *m, char side, int64_t parent, struct str name)
{
	struct str key = name_key(m->a, name);
	return smap_get(&m->claims, arena_fmt(m->a, "%c%lld/%.*s", side, (long long)parent, STR_ARG(key))) != NULL;
}

static struct node *by_key(struct maker *m, const struct tree *t, int64_t parent, struct str name)
{
	return tree_child_by_key(t, parent, name_key(m->a, name));
}

/* Who bears the name on this disk, other than self. */
static struct node *local_holder(struct maker *m, const struct node *parent, struct str name, const struct node *self)
{
	struct node *n = by_key(m, m->local, parent->f.id, name);
	while (n && (n == self || (!m->options->fold && !str_eq(n->f.name, name))))
		n = tree_twin(n);
	return n;
}

static struct node *remote_holder(struct maker *m, const struct node *parent, struct str name, const struct node *self)
{
	struct node *n = by_key(m, m->remote, parent->f.id, name);
	while (n && n == self)
		n = tree_twin(n);
	return n;
}

/* No node of either tree, and no operation of this plan, has that name in that folder. */
static bool name_unused(struct maker *m, const struct item *parent, struct str name)
{
	if (parent->l && (by_key(m, m->local, parent->l->f.id, name) || claimed(m, 'L', parent->l->f.id, name)))
		return false;
	return !parent->r || (!by_key(m, m->remote, parent->r->f.id, name) && !claimed(m, 'R', parent->r->f.id, name));
}

/* Somebody may have taken the plain one, or want it from the node itself. */
static struct str temp_name(struct maker *m, const struct item *parent, int64_t id)
{
	struct str s = arena_fmt(m->a, TEMP_PREFIX "%lld", (long long)id);
	for (int attempt = 2; !name_unused(m, parent, s); attempt++)
		s = arena_fmt(m->a, TEMP_PREFIX "%lld-%d", (long long)id, attempt);
	return s;
}

static struct str labelled(struct maker *m, const struct item *parent, struct str name, struct str label)
{
	for (int attempt = 1;; attempt++) {
		struct str s = name_with_label(m->a, name, label, attempt);
		if (name_unused(m, parent, s))
			return s;
	}
}

struct str plan_copy_name(struct maker *m, const struct item *it, struct str name)
{
	struct item *parent = item_of(m, it->l->up);
	name = plain_name(m, name);
	for (int attempt = 1;; attempt++) {
		struct str s = resolve_copy_name(m->a, name, m->options->device, m->options->date, attempt);
		if (name_unused(m, parent, s)) {
			claim(m, 'L', parent->l->f.id, s);
			return s;
		}
	}
}

bool plan_remote_free(struct maker *m, const struct item *parent, struct str name)
{
	return !tree_child_by_key(m->remote, parent->r->f.id, name_key(m->a, name));
}

bool plan_is_forgotten(const struct maker *m, const struct item *it)
{
	const struct node_facts *l = &it->l->f;
	int64_t age_us = m->options->now_us - l->stamp.ctime_ns / 1000; /* from the future: by a clock that was set back */
	return m->options->now_us && l->stamp.ctime_ns && (age_us >= PLAN_TEMP_STANDS_US || age_us <= -PLAN_TEMP_STANDS_US) && it->s &&
	       it->place == PLACE_SAME && plan_is_temp(l->name, it->id) && !mutant(M_PLAN_TEMP_STAYS);
}

bool plan_leaves_temp(struct maker *m, struct item *it, const char *reason)
{
	struct item *parent = item_of(m, it->l->up);
	int64_t owner = temp_owner(it->l->f.name);
	if (!owner)
		return false;
	struct str name = arena_str(m->a, plain_name(m, it->l->f.name));
	struct node *there = parent->r ? by_key(m, m->remote, parent->r->f.id, name) : NULL;
	bool leaves = there && there->f.id == owner && !item_of(m, there)->l; /* it was deleted here: the name will be free */
	if (name_unused(m, parent, name) || (leaves && !by_key(m, m->local, parent->l->f.id, name)))
		claim(m, 'L', parent->l->f.id, name);
	else
		name = plan_copy_name(m, it, name);
	struct plan_op *op = plan_emit(m, PLAN_MOVE_LOCAL, 12, reason, it);
	op->parent = it->l->f.parent;
	op->name = name;
	return true;
}

/* The name is the remote's: the local node steps aside under a copy's name, and keeps its identity. */
static void step_aside(struct maker *m, struct item *it)
{
	if (it->busy)
		return;
	struct str name = plan_copy_name(m, it, it->l->f.name);
	struct plan_op *op = plan_emit(m, PLAN_MOVE_LOCAL, 12, "the name is taken remotely", it);
	op->parent = it->l->f.parent;
	op->name = name;
}

static void evict_local(struct maker *m, struct item *it)
{
	if (it->busy || mutant(M_PLAN_NO_TEMP_NAME))
		return;
	struct plan_op *op = plan_emit(m, PLAN_MOVE_LOCAL, 12, "its name is wanted, its own is not free yet", it);
	op->parent = it->l->f.parent;
	op->name = temp_name(m, item_of(m, it->l->up), it->id);
}

static void evict_remote(struct maker *m, struct item *it)
{
	if (it->busy || mutant(M_PLAN_NO_TEMP_NAME))
		return;
	struct plan_op *op = plan_emit(m, PLAN_MOVE_REMOTE, 12, "its name is wanted, its own is not free yet", it);
	op->parent = it->r->f.parent;
	op->name = temp_name(m, item_of(m, it->r->up), it->id);
}

static bool one_sided(const struct item *it)
{
	return !it->r || !it->l;
}

/* Of a ring the one with the least id gives way; not one that bears its temporary name already, as a node does that was
 * trashed under it and restored. */
static bool gives_way(const struct item *a, const struct item *b, const struct node *at_a, const struct node *at_b)
{
	bool is_temp = plan_is_temp(at_a->f.name, a->id), was_temp = plan_is_temp(at_b->f.name, b->id);
	return is_temp != was_temp ? was_temp : a->id < b->id;
}

/* Somebody waits for `o` to leave its local name. Follows who waits for whom and cuts rings and dead ends. */
static void unblock_local(struct maker *m, struct item *o)
{
	struct item *at = o, *least = o;
	if (one_sided(o)) {
		if (o->wait && !o->keep)
			evict_local(m, o);
		return;
	}
	for (int step = 0; step < CHAIN_MAX; step++) {
		struct item *target = item_of(m, at->r->up);
		if (!target->l || tree_is_below(target->l, at->l)) {
			if (at == o)
				evict_local(m, o);
			return; /* else whoever waits for `at` sees to it */
		}
		struct node *holder = local_holder(m, target->l, at->r->f.name, at->l);
		if (!holder)
			return;
		struct item *next = item_of(m, holder);
		if (next == o) {
			if (least == o)
				evict_local(m, o);
			return;
		}
		if (one_sided(next) || next->place != PLACE_REMOTE)
			return;
		if (gives_way(next, least, next->l, least->l))
			least = next;
		at = next;
	}
	evict_local(m, o);
}

static void unblock_remote(struct maker *m, struct item *o)
{
	struct item *at = o, *least = o;
	if (one_sided(o)) {
		if (o->wait && !o->keep)
			evict_remote(m, o);
		return;
	}
	for (int step = 0; step < CHAIN_MAX; step++) {
		struct item *target = item_of(m, at->l->up);
		if (!target->r || tree_is_below(target->r, at->r)) {
			if (at == o)
				evict_remote(m, o);
			return;
		}
		struct node *holder = remote_holder(m, target->r, at->l->f.name, at->r);
		if (!holder)
			return;
		struct item *next = item_of(m, holder);
		if (next == o) {
			if (least == o)
				evict_remote(m, o);
			return;
		}
		if (one_sided(next) || next->place != PLACE_LOCAL)
			return;
		if (gives_way(next, least, next->r, least->r))
			least = next;
		at = next;
	}
	evict_remote(m, o);
}

static bool leaves_one_sided(const struct item *o)
{
	return o->s && (item_going(o) || (o->wait && !o->keep));
}

bool plan_local_slot(struct maker *m, struct item *it, struct item *parent, struct str *name)
{
	struct str reserved = m->options->reserved;
	bool forbidden = reserved.n && parent->l == m->local->root &&
	                 str_eq(name_key(m->a, *name), name_key(m->a, reserved));
	struct node *holder = local_holder(m, parent->l, *name, it->l);
	if (holder && mutant(M_PLAN_NAME_TAKEN))
		return claim(m, 'L', parent->l->f.id, *name);
	if (holder && !forbidden) {
		struct item *o = item_of(m, holder);
		if (one_sided(o)) {
			if (leaves_one_sided(o))
				unblock_local(m, o);
			else if (!o->s)
				step_aside(m, o);
			return false;
		}
		if (o->place == PLACE_REMOTE) {
			unblock_local(m, o);
			return false;
		}
		if (o->place == PLACE_LOCAL)
			return false; /* it steps aside on its own way to the remote name */
	}
	if (holder || forbidden)
		*name = labelled(m, parent, *name, STR("on the server"));
	return claim(m, 'L', parent->l->f.id, *name);
}

/* The name that o bears on this disk when all is in step. */
static struct str settled_local_name(const struct item *o)
{
	if (!o->l || o->place == PLACE_REMOTE)
		return o->r->f.name;
	return o->l->f.name;
}

bool plan_remote_slot(struct maker *m, struct item *it, struct item *parent, struct str *name)
{
	struct node *holder = remote_holder(m, parent->r, *name, it->r);
	if (!holder)
		return claim(m, 'R', parent->r->f.id, *name);
	struct item *o = item_of(m, holder);
	if (!o->l && leaves_one_sided(o)) {
		unblock_remote(m, o);
		return false;
	}
	if (o->place == PLACE_LOCAL) {
		bool same_key = str_eq(o->l->key, holder->key);
		if (item_of(m, o->l->up) != parent || !same_key) {
			unblock_remote(m, o);
			return false;
		}
	}
	if (m->options->fold || str_eq(settled_local_name(o), *name)) {
		step_aside(m, it);
		return false;
	}
	/* Case twins: both live on this disk, the server holds this one under a suffix that can be taken off again. */
	if (it->r && it->s && it->s->f.local_name.p && it->r->f.parent == parent->r->f.id &&
	    str_eq(it->s->f.name, it->r->f.name) && str_eq(*name, it->l->f.name)) {
		*name = it->r->f.name;
		return true;
	}
	*name = labelled(m, parent, *name, STR("name twin"));
	return claim(m, 'R', parent->r->f.id, *name);
}
