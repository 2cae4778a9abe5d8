#include "reconcile/plan.h"

#include <stdlib.h>

#include "base/must.h"
#include "base/mutant.h"
#include "base/name.h"
#include "reconcile/plan_priv.h"

static const char PUT_THERE[] = "it was put under a temporary name";

static struct node_facts copy_facts(struct arena *a, const struct node *n)
{
	struct node_facts f = n->f;
	f.name = arena_str(a, f.name);
	f.local_name = arena_str(a, f.local_name);
	return f;
}

/* Phases of a batch that is executed in order. */
static uint64_t order_of(enum plan_verb verb, const struct item *it, bool temporary)
{
	uint64_t phase = 0, depth = 0;
	const struct node *n = it->r ? it->r : it->l ? it->l : NULL;
	if (n)
		depth = (uint64_t)tree_depth(n);
	switch (verb) {
	case PLAN_RECORD:
	case PLAN_FORGET:
	case PLAN_DETACH:
		phase = 0;
		break;
	case PLAN_MOVE_LOCAL:
	case PLAN_MOVE_REMOTE:
		phase = temporary ? 1 : 3;
		break;
	case PLAN_MAKE_LOCAL:
	case PLAN_MAKE_REMOTE:
		phase = 2;
		break;
	case PLAN_FETCH:
	case PLAN_SEND:
	case PLAN_SEND_VERSION:
	case PLAN_SET_MODE_LOCAL:
	case PLAN_SET_MODE_REMOTE:
		phase = 4;
		break;
	case PLAN_TRASH_LOCAL:
	case PLAN_TRASH_REMOTE:
		phase = 5;
		depth = UINT32_MAX - depth; /* children first */
		break;
	}
	return phase << 32 | depth;
}

/* The executable bit as the disk shows it. */
static bool local_bit(const struct maker *m, const struct item *it)
{
	if (!m->options->modeless)
		return it->l->f.executable;
	return it->r ? it->r->f.executable : it->s && it->s->f.executable;
}

/* The bit that both sides shall have: the one that changed. */
static bool wanted_bit(const struct maker *m, const struct item *it)
{
	if (!it->r || !it->l)
		return it->r ? it->r->f.executable : it->l && local_bit(m, it);
	bool remote = it->r->f.executable, changed = it->s && it->s->f.executable == remote;
	return changed ? local_bit(m, it) : remote;
}

static int64_t mapped_local_parent(struct maker *m, const struct item *it)
{
	const struct item *up = item_of(m, it->l->up);
	return up->r ? up->r->f.id : up->l->f.id;
}

static unsigned differs(const struct node *n, const struct node *s, int64_t parent, struct str agreed_name, bool bit)
{
	if (!n || !s)
		return n ? DIFF_NEW : s ? DIFF_DELETED : 0;
	return (node_same_content(&n->f, &s->f) ? 0 : DIFF_EDITED) | (parent == s->f.parent ? 0 : DIFF_MOVED) |
	       (str_eq(n->f.name, agreed_name) ? 0 : DIFF_RENAMED) | (bit == s->f.executable ? 0 : DIFF_MODE);
}

static struct node_cause cause_of(struct arena *a, const struct tree *t, int64_t id)
{
	const struct node_cause *c = tree_cause(t, id);
	struct node_cause out = c ? *c : (struct node_cause){0};
	out.by = arena_str(a, out.by);
	return out;
}

static struct plan_reason reason_of(struct maker *m, const struct item *it)
{
	const struct node *r = it->r, *l = it->l, *s = it->s;
	struct plan_reason why = {0};
	why.remote = differs(r, s, r ? r->f.parent : 0, s ? s->f.name : STR_NULL, r && r->f.executable);
	why.local = differs(l, s, l ? mapped_local_parent(m, it) : 0, s ? node_local_name(&s->f) : STR_NULL,
	                    l && local_bit(m, it));
	why.remote_cause = cause_of(m->a, m->remote, it->id);
	why.local_cause = cause_of(m->a, m->local, l ? l->f.id : it->id);
	return why;
}

struct plan_op *plan_emit(struct maker *m, enum plan_verb verb, int case_no, const char *reason, struct item *it)
{
	struct plan *p = m->out;
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 64;
		p->ops = realloc(p->ops, p->cap * sizeof(*p->ops));
		must(p->ops != NULL);
	}
	struct plan_op *op = &p->ops[p->n++];
	const struct node *n = it->r ? it->r : it->l ? it->l : it->s;
	*op = (struct plan_op){.verb = verb, .case_no = case_no, .reason = reason, .id = n->f.id, .kind = n->f.kind};
	op->has_remote = it->r != NULL;
	op->has_local = it->l != NULL;
	op->has_synced = it->s != NULL;
	if (it->r)
		op->remote = copy_facts(m->a, it->r);
	if (it->l)
		op->local = copy_facts(m->a, it->l);
	if (it->s)
		op->synced = copy_facts(m->a, it->s);
	op->executable = wanted_bit(m, it);
	op->why = reason_of(m, it);
	if (verb == PLAN_MOVE_LOCAL || verb == PLAN_MOVE_REMOTE)
		it->busy = true;
	return op;
}

/* ---- items: one per id that is not in step, and of those in step whom somebody asks about ---- */

static struct item *new_item(struct maker *m, int64_t id, struct node *r, struct node *l, struct node *s)
{
	struct item *it = arena_new(m->a, struct item);
	*it = (struct item){.id = id, .r = r, .l = l, .s = s, .made_before = m->made};
	m->made = it;
	if (r)
		r->mark = it;
	if (l)
		l->mark = it;
	if (s)
		s->mark = it;
	return it;
}

struct item *item_make(struct maker *m, const struct node *n)
{
	int64_t id = n->f.id;
	struct item *it = new_item(m, id, tree_get(m->remote, id), tree_get(m->local, id), tree_get(m->synced, id));
	it->place = id == TREE_ROOT ? PLACE_NONE : PLACE_SAME;
	return it;
}

/* Nothing is to be done about such a node, whatever becomes of others. */
static bool all_agree(const struct maker *m, const struct node *r, const struct node *l, const struct node *s)
{
	if (!r || !l || !s || r->f.parent != s->f.parent || l->f.parent != s->f.parent || !str_eq(r->f.name, s->f.name) ||
	    !str_eq(l->f.name, node_local_name(&s->f)) || !node_same_content(&r->f, &l->f) || r->f.kind != s->f.kind ||
	    plan_is_temp(l->f.name, l->f.id))
		return false;
	return r->f.kind == NODE_FOLDER ||
	       (r->f.version_id == s->f.version_id && node_same_content(&r->f, &s->f) && r->f.executable == s->f.executable &&
	        (m->options->modeless || l->f.executable == s->f.executable));
}

static void look_at(struct maker *m, int64_t id)
{
	struct node *r = tree_get(m->remote, id), *l = tree_get(m->local, id), *s = tree_get(m->synced, id);
	const struct node *any = r ? r : l ? l : s;
	if (id == TREE_ROOT || (any && any->mark))
		return;
	if (!any || all_agree(m, r, l, s)) {
		tree_forget_cause(m->remote, id);
		tree_forget_cause(m->local, id);
		return;
	}
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 64;
		m->items = realloc(m->items, m->cap * sizeof(struct item *));
		must(m->items != NULL);
	}
	m->items[m->n++] = new_item(m, id, r, l, s);
}

/* The cost of a plan is that of what was touched: only trees that were never planned are gone through as a whole. */
static void collect(struct maker *m)
{
	struct tree *trees[] = {m->remote, m->local, m->synced};
	bool all = m->remote->all_touched || m->local->all_touched || m->synced->all_touched;
	uint64_t key;
	void *value;
	for (int t = 0; t < 3; t++) {
		for (size_t i = 0; map_next(all ? &trees[t]->by_id : &trees[t]->touched, &i, &key, &value);)
			if (!all || t == 0 || !tree_get(trees[0], (int64_t)key)) /* the remote pass saw to those */
				look_at(m, (int64_t)key);
	}
}

/* What is not in step will be looked at again. */
static void leave(struct maker *m)
{
	struct tree *trees[] = {m->remote, m->local, m->synced};
	for (int t = 0; t < 3; t++) {
		map_fini(&trees[t]->touched);
		trees[t]->all_touched = false;
	}
	for (size_t i = 0; i < m->n; i++)
		tree_touch(m->synced, m->items[i]->id);
	for (struct item *it = m->made; it; it = it->made_before) {
		struct node *nodes[] = {it->r, it->l, it->s};
		for (int t = 0; t < 3; t++)
			if (nodes[t])
				nodes[t]->mark = NULL;
	}
	free(m->items);
}

static int by_id(const void *a, const void *b)
{
	const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
	return (x->id > y->id) - (x->id < y->id);
}

/* New on one side, and to be left alone there. */
static bool is_passing(const struct item *it)
{
	const struct node *n = it->r ? it->r : it->l;
	return !it->s && !(it->r && it->l) && n && n->f.kind == NODE_FILE && plan_is_passing(n->f.name);
}

static struct node *remote_double(struct maker *m, const struct node *l)
{
	struct node *up = item_of(m, l->up)->r;
	struct node *r = up ? tree_child_by_key(m->remote, up->f.id, l->key) : NULL;
	while (r && (item_of(m, r)->l || !(node_same_content(&r->f, &l->f) || mutant(M_PLAN_PATH_NOT_ID))))
		r = tree_twin(r);
	if (!r)
		return NULL;
	struct node *exact = tree_child_exact(m->local, l->f.parent, r->f.name);
	if (!exact || exact == l)
		return r;
	struct item *other = item_of(m, exact); /* of twins, the one that bears the very name */
	return !other->s && !other->r && node_same_content(&exact->f, &r->f) ? NULL : r;
}

static int by_depth(const void *a, const void *b)
{
	const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
	if (x->stamp != y->stamp)
		return x->stamp < y->stamp ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

/* What both sides made alike is one thing: folders by name, files by name and bytes. Parents before children. */
static void pair_up(struct maker *m)
{
	struct item **fresh = arena_many(m->a, m->n + 1, struct item *);
	size_t n = 0;
	for (size_t i = 0; i < m->n; i++) {
		struct item *it = m->items[i];
		if (it->l && !it->r && !it->s && !is_passing(it)) {
			it->stamp = (uint64_t)tree_depth(it->l);
			fresh[n++] = it;
		}
	}
	qsort(fresh, n, sizeof(*fresh), by_depth);
	for (size_t i = 0; i < n; i++) {
		struct item *mine = fresh[i];
		struct node *l = mine->l, *r = remote_double(m, l);
		mine->stamp = 0;
		if (!r)
			continue;
		struct item *theirs = item_of(m, r);
		theirs->l = l;
		theirs->pair = true;
		l->mark = theirs;
		mine->l = NULL; /* an empty item needs nothing */
	}
}

/* ---- places ---- */

/* Another Unicode form of a name is no rename: some file systems choose the form by themselves. */
static bool same_form(struct arena *a, struct str x, struct str y)
{
	return str_eq(x, y) || str_eq(name_nfc(a, x), name_nfc(a, y));
}

static void decide_place(struct maker *m, struct item *it)
{
	if (!it->r || !it->l || !it->r->up)
		return;
	const struct node_facts *r = &it->r->f, *l = &it->l->f;
	int64_t local_parent = mapped_local_parent(m, it);
	bool same_parent = r->parent == local_parent;
	if (it->pair) { /* other capitals here: as the server has them, unless that is the name of one here that stays */
		struct node *twin = tree_child_exact(m->local, l->parent, r->name);
		bool stays = twin && item_of(m, twin)->r;
		it->place = stays || same_form(m->a, l->name, r->name) ? PLACE_SAME : PLACE_REMOTE;
		return;
	}
	if (!it->s) {
		it->place = same_parent && str_eq(it->r->key, it->l->key) ? PLACE_SAME : PLACE_REMOTE;
		return;
	}
	const struct node_facts *s = &it->s->f;
	bool local_temp = plan_is_temp(l->name, it->id), remote_temp = plan_is_temp(r->name, it->id);
	struct str agreed = mutant(M_PLAN_TWIN_FORGOTTEN) ? s->name : node_local_name(s);
	bool local_moved = local_parent != s->parent || !same_form(m->a, l->name, agreed);
	bool remote_moved = r->parent != s->parent || !str_eq(r->name, s->name);
	if ((same_parent && str_eq(r->name, l->name)) || (!local_moved && !remote_moved))
		it->place = PLACE_SAME;
	else if (local_temp)
		it->place = PLACE_REMOTE;
	else if (local_moved && (!remote_moved || remote_temp))
		it->place = PLACE_LOCAL;
	else
		it->place = PLACE_REMOTE;
}

static struct item *final_parent(struct maker *m, const struct item *it)
{
	const struct node *n = it->r && it->place != PLACE_LOCAL ? it->r : it->l;
	return n && n->up ? item_of(m, n->up) : NULL;
}

/* Case 13. Remote places alone form a tree, so every ring holds a node that was moved locally. */
static bool undo_ring(struct maker *m, struct item *ring)
{
	bool undone = false;
	struct item *at = ring;
	do {
		if (at->place == PLACE_LOCAL) {
			at->place = PLACE_REMOTE;
			at->cycle = undone = true;
		}
		at = final_parent(m, at);
	} while (at && at != ring);
	return undone;
}

/* Walks up from the item until it meets the root, or what an earlier walk went over. Returns an item of a ring, or NULL. */
static struct item *find_ring(struct maker *m, struct item *from, uint64_t stamp)
{
	struct item *at = from;
	while (at && !at->stamp) {
		at->stamp = stamp;
		at = final_parent(m, at);
	}
	if (!at || at->stamp != stamp)
		return NULL;
	for (struct item *p = from; p && p->stamp == stamp; p = final_parent(m, p))
		p->stamp = 0; /* this walk proved nothing */
	return at;
}

static void break_cycles(struct maker *m)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->items[i]->place != PLACE_LOCAL)
			continue;
		for (struct item *ring; (ring = find_ring(m, m->items[i], i + 1)) != NULL;)
			must(undo_ring(m, ring));
	}
}

/* ---- existence ---- */

static bool edited(const struct node *n, const struct node *s)
{
	return !node_same_content(&n->f, &s->f);
}

bool item_going(const struct item *it)
{
	const struct node *n = it->r ? it->r : it->l;
	if (!n || !it->s || (it->r && it->l) || !n->up)
		return false;
	return n->f.kind == NODE_FOLDER ? !it->keep && !it->wait : !edited(n, it->s);
}

static void mark_up(struct maker *m, struct item *at, bool remote_side, bool keep)
{
	while (at && (remote_side ? at->r && !at->l : at->l && !at->r)) {
		if (at->keep || (!keep && at->wait) || mutant(keep ? M_PLAN_NO_SURVIVAL : M_PLAN_NO_WAIT))
			return;
		if (keep)
			at->keep = true;
		else
			at->wait = true;
		const struct node *n = remote_side ? at->r : at->l;
		at = n->up ? item_of(m, n->up) : NULL;
	}
}

/* Which folders, deleted on the other side, must stay (15) or wait until something has moved out. */
static void spread_survival(struct maker *m)
{
	for (size_t i = 0; i < m->n; i++) {
		struct item *it = m->items[i];
		if (is_passing(it))
			continue;
		if (it->r && it->l) {
			if (it->place == PLACE_LOCAL) {
				mark_up(m, item_of(m, it->r->up), true, false);
				mark_up(m, item_of(m, it->l->up), false, true);
			} else if (it->place == PLACE_REMOTE) {
				mark_up(m, item_of(m, it->r->up), true, true);
				mark_up(m, item_of(m, it->l->up), false, false);
			}
		} else if (it->r && it->r->up && (!it->s || edited(it->r, it->s))) {
			mark_up(m, item_of(m, it->r->up), true, true);
		} else if (it->l && it->l->up && (!it->s || edited(it->l, it->s))) {
			mark_up(m, item_of(m, it->l->up), false, true);
		}
	}
}

/* ---- operations ---- */

static void conflict(struct maker *m, struct item *it)
{
	enum resolve_strategy strategy = m->options->strategy;
	if (strategy == RESOLVE_NONE || strategy == RESOLVE_KEEP_BOTH) {
		if (it->busy)
			return;
		struct str name = plan_copy_name(m, it, it->l->f.name);
		struct plan_op *op = plan_emit(m, PLAN_DETACH, 5, "edited on both sides", it);
		op->name = name;
		it->busy = true;
		return;
	}
	struct plan_op *op = plan_emit(m, PLAN_SEND_VERSION, 5, "edited on both sides", it);
	op->base_version_id = it->s ? it->s->f.version_id : 0;
	op->strategy = strategy;
}

/* Returns true when the contents agree. */
static bool content(struct maker *m, struct item *it)
{
	if (it->r->f.kind == NODE_FOLDER || node_same_content(&it->r->f, &it->l->f) || (it->pair && mutant(M_PLAN_PATH_NOT_ID)))
		return true;
	if (!it->s || (edited(it->r, it->s) && edited(it->l, it->s) && !mutant(M_PLAN_NO_BASE_CHECK))) {
		conflict(m, it);
	} else if (edited(it->r, it->s)) {
		struct plan_op *op = plan_emit(m, PLAN_FETCH, 2, "edited remotely", it);
		op->parent = it->l->f.parent;
		op->name = op->local.name;
	} else {
		struct plan_op *op = plan_emit(m, PLAN_SEND_VERSION, 3, "edited locally", it);
		op->base_version_id = it->r->f.version_id; /* the bytes are those of synced, whatever their number */
	}
	return false;
}

/* The executable bit of a file whose bytes and place are agreed. */
static void mode(struct maker *m, struct item *it)
{
	const struct node_facts *r = &it->r->f;
	if (r->kind != NODE_FILE || !it->s || it->pair || it->busy || r->executable == local_bit(m, it))
		return;
	if (mutant(M_PLAN_MODE_FORGOTTEN))
		return;
	if (wanted_bit(m, it) == r->executable)
		plan_emit(m, PLAN_SET_MODE_LOCAL, 2, "executable bit changed remotely", it);
	else
		plan_emit(m, PLAN_SET_MODE_REMOTE, 3, "executable bit changed locally", it);
}

static void record(struct maker *m, struct item *it, bool same_content)
{
	const struct node_facts *r = &it->r->f, *s = it->s ? &it->s->f : NULL;
	bool same_place = it->place == PLACE_SAME;
	bool place = !s || s->parent != r->parent || !str_eq(s->name, r->name) ||
	             !str_eq(node_local_name(s), it->l->f.name);
	bool bit = r->executable == local_bit(m, it) ? r->executable : s ? s->executable : local_bit(m, it);
	bool bytes = r->kind == NODE_FILE &&
	             (!s || s->version_id != r->version_id || s->executable != bit || edited(it->r, it->s));
	place = place && same_place;
	bytes = bytes && (same_content || mutant(M_PLAN_RECORD_EARLY));
	if (!(place || bytes || it->pair) || ((!s || it->pair) && !(same_place && same_content)))
		return;
	struct plan_op *op = plan_emit(m, PLAN_RECORD, 4, "the same on both sides", it);
	op->record_place = place;
	op->record_content = bytes;
	op->executable = bit;
	op->name = op->remote.name;
	op->parent = r->parent;
	if (!str_eq(it->l->f.name, r->name))
		op->other_name = op->local.name;
}

static void move_local(struct maker *m, struct item *it)
{
	struct item *target = item_of(m, it->r->up);
	struct str name = it->r->f.name;
	if (it->busy)
		return;
	if (!target->l || tree_is_below(target->l, it->l) || !plan_local_slot(m, it, target, &name)) {
		m->out->waiting++;
		return;
	}
	if (it->busy)
		return;
	int case_no = it->cycle ? 13 : plan_is_temp(it->l->f.name, it->id) ? 12 : 10;
	const char *reason = it->cycle ? "moves form a cycle: the remote place stands" : "moved remotely";
	if (!it->cycle && it->s && it->l->f.parent != it->s->f.parent)
		case_no = 11;
	struct plan_op *op = plan_emit(m, PLAN_MOVE_LOCAL, case_no, reason, it);
	op->parent = target->l->f.id;
	op->name = arena_str(m->a, name);
	op->final = true;
	if (!str_eq(name, it->r->f.name))
		op->other_name = op->remote.name;
}

static void move_remote(struct maker *m, struct item *it)
{
	struct item *target = item_of(m, it->l->up);
	struct str name = it->l->f.name;
	if (it->busy || plan_leaves_temp(m, it, PUT_THERE))
		return;
	if (!target->r || tree_is_below(target->r, it->r) || !plan_remote_slot(m, it, target, &name)) {
		m->out->waiting++;
		return;
	}
	if (it->busy)
		return;
	bool stays = it->r->f.parent == target->r->f.id && str_eq(name, it->r->f.name);
	struct plan_op *op = plan_emit(m, stays ? PLAN_RECORD : PLAN_MOVE_REMOTE, 10, "moved locally", it);
	op->parent = target->r->f.id;
	op->name = arena_str(m->a, name);
	op->final = op->record_place = true;
	if (!str_eq(name, it->l->f.name))
		op->other_name = op->local.name;
}

static void bring_down(struct maker *m, struct item *it, int case_no, const char *reason)
{
	struct item *target = item_of(m, it->r->up);
	struct str name = it->r->f.name;
	if (!target->l || !plan_local_slot(m, it, target, &name)) {
		m->out->waiting++;
		return;
	}
	bool folder = it->r->f.kind == NODE_FOLDER;
	struct plan_op *op = plan_emit(m, folder ? PLAN_MAKE_LOCAL : PLAN_FETCH, case_no, reason, it);
	op->parent = target->l->f.id;
	op->name = arena_str(m->a, name);
	if (!str_eq(name, it->r->f.name))
		op->other_name = op->remote.name;
}

static void bring_up(struct maker *m, struct item *it)
{
	struct item *target = item_of(m, it->l->up);
	struct str name = it->l->f.name;
	if (!it->busy && plan_leaves_temp(m, it, PUT_THERE))
		return;
	if (!target->r || it->busy || !plan_remote_slot(m, it, target, &name)) {
		m->out->waiting++;
		return;
	}
	bool folder = it->l->f.kind == NODE_FOLDER;
	struct plan_op *op = plan_emit(m, folder ? PLAN_MAKE_REMOTE : PLAN_SEND, 3, "new locally", it);
	op->parent = target->r->f.id;
	op->name = arena_str(m->a, name);
	if (!str_eq(name, it->l->f.name))
		op->other_name = op->local.name;
}

static void remote_only(struct maker *m, struct item *it)
{
	bool folder = it->r->f.kind == NODE_FOLDER;
	if (!it->s) {
		bring_down(m, it, 2, "new remotely");
	} else if (folder && it->keep) {
		bring_down(m, it, 15, "deleted locally, but something in it was changed remotely");
	} else if (folder && it->wait) {
		m->out->waiting++;
	} else if (!folder && edited(it->r, it->s) && !mutant(M_PLAN_EDIT_LOSES)) {
		bring_down(m, it, 8, "deleted locally, edited remotely");
	} else {
		struct item *up = item_of(m, it->r->up);
		if (!up->l && item_going(up))
			return; /* goes with its folder */
		plan_emit(m, PLAN_TRASH_REMOTE, 9, "deleted locally", it);
	}
}

static void detach(struct maker *m, struct item *it, int case_no, const char *reason)
{
	struct plan_op *op = plan_emit(m, PLAN_DETACH, case_no, reason, it);
	if (!it->s || !plan_is_temp(it->l->f.name, it->id))
		return;
	struct str name = arena_str(m->a, node_local_name(&it->s->f));
	if (tree_child_by_key(m->local, it->l->f.parent, name_key(m->a, name)))
		name = plan_copy_name(m, it, name);
	m->out->ops[m->out->n - 1].name = name;
	(void)op;
}

static void local_only(struct maker *m, struct item *it)
{
	struct item *up = item_of(m, it->l->up);
	if (!it->s && !mutant(M_PLAN_ABSENCE_DELETES)) {
		bring_up(m, it);
	} else if (it->l->f.kind == NODE_FOLDER && it->keep) {
		detach(m, it, 15, "deleted remotely, but something in it was changed locally");
	} else if (it->l->f.kind == NODE_FOLDER && it->wait) {
		m->out->waiting++;
	} else if (it->s && it->l->f.kind == NODE_FILE && edited(it->l, it->s) && !mutant(M_PLAN_EDIT_LOSES)) {
		bool in_place = up->r && up->r->f.id == it->s->f.parent && str_eq(it->l->f.name, node_local_name(&it->s->f));
		if (in_place && plan_remote_free(m, up, it->s->f.name)) {
			struct plan_op *op = plan_emit(m, PLAN_SEND_VERSION, 7, "deleted remotely, edited locally", it);
			op->restore = true;
			op->base_version_id = it->s->f.version_id;
			op->strategy = RESOLVE_KEEP_BOTH;
		} else {
			detach(m, it, up->r ? 7 : 15, "deleted remotely, edited locally");
		}
	} else {
		plan_emit(m, PLAN_TRASH_LOCAL, 6, "deleted remotely", it);
	}
}

static void both(struct maker *m, struct item *it)
{
	if (it->r->f.kind != it->l->f.kind) {
		detach(m, it, 12, "one side has a file, the other a folder");
		return;
	}
	bool same_content = content(m, it);
	if (it->place == PLACE_REMOTE)
		move_local(m, it);
	else if (it->place == PLACE_LOCAL)
		move_remote(m, it);
	else if (same_content && plan_is_forgotten(m, it))
		plan_leaves_temp(m, it, "whoever gave it its temporary name forgot it");
	else if (same_content)
		mode(m, it);
	record(m, it, same_content);
}

static int by_order(const void *a, const void *b)
{
	const struct plan_op *x = a, *y = b;
	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->verb > y->verb) - (x->verb < y->verb);
}

/* What leaves the server's trash goes back to where it was last, which may be a folder that is about to go. Then folders go
 * in the next plan, which knows where it went. */
static void restore_before_trash(struct plan *p)
{
	bool restores = false;
	size_t n = 0;
	for (size_t i = 0; i < p->n; i++)
		restores |= p->ops[i].restore;
	for (size_t i = 0; restores && i < p->n; i++)
		if (p->ops[i].verb != PLAN_TRASH_REMOTE || p->ops[i].kind != NODE_FOLDER)
			p->ops[n++] = p->ops[i];
	if (restores) {
		p->waiting += p->n - n;
		p->n = n;
	}
}

static void finish(struct maker *m)
{
	struct plan *p = m->out;
	restore_before_trash(p);
	for (size_t i = 0; i < p->n; i++) {
		struct plan_op *op = &p->ops[i];
		struct node *n = tree_get(m->remote, op->id);
		n = n ? n : tree_get(m->local, op->has_local ? op->local.id : op->id);
		n = n ? n : tree_get(m->synced, op->id);
		bool moves = op->verb == PLAN_MOVE_LOCAL || op->verb == PLAN_MOVE_REMOTE;
		op->order = order_of(op->verb, item_of(m, n), moves && !op->final);
	}
	if (p->n)
		qsort(p->ops, p->n, sizeof(*p->ops), by_order);
}

void plan_make(struct tree *remote, struct tree *local, struct tree *synced, const struct plan_options *options,
               struct plan *out)
{
	*out = (struct plan){0};
	arena_init(&out->arena);
	struct maker m = {.remote = remote, .local = local, .synced = synced, .options = options, .out = out,
	                  .a = &out->arena};
	collect(&m);
	if (m.n && !mutant(M_PLAN_UNORDERED))
		qsort(m.items, m.n, sizeof(*m.items), by_id);
	pair_up(&m);
	for (size_t i = 0; i < m.n; i++)
		decide_place(&m, m.items[i]);
	if (!mutant(M_PLAN_NO_CYCLE_CHECK))
		break_cycles(&m);
	spread_survival(&m);
	for (size_t i = 0; i < m.n; i++) {
		struct item *it = m.items[i];
		if (it->id == TREE_ROOT || is_passing(it))
			continue;
		if (it->r && it->l)
			both(&m, it);
		else if (it->r)
			remote_only(&m, it);
		else if (it->l)
			local_only(&m, it);
		else if (it->s)
			plan_emit(&m, PLAN_FORGET, 14, "deleted on both sides", it);
	}
	finish(&m);
	smap_fini(&m.claims);
	leave(&m);
}

void plan_fini(struct plan *p)
{
	free(p->ops);
	arena_fini(&p->arena);
	*p = (struct plan){0};
}
