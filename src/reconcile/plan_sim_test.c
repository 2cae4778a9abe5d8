/* A random world in step is disturbed on both sides, planned, the batch is shuffled, applied, repeated: it must end,
 * both sides must be equal, and no edit may be lost. SD_SIM_SEEDS and SD_SIM_FIRST choose the seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/must.h"
#include "base/name.h"
#include "base/rng.h"
#include "reconcile/plan.h"

enum { ROUNDS_MAX = 200, STORE_MAX = 4096 };

struct world {
	struct rng_seeded rng;
	struct tree server, disk, synced;    /* the truth; synced is the client's record */
	struct tree view_remote, view_local; /* what the planner sees */
	struct node_facts trash[STORE_MAX];  /* of the server; names are borrowed from the pool or leaked to the arena */
	size_t n_trash;
	bool stored[STORE_MAX]; /* contents the server ever held */
	int64_t next_id, next_local, next_version, next_content;
	int64_t seq, seen_seq; /* the server's change log, and base_cursor of the view; a node's mtime_us is its last entry */
	struct arena arena;
	struct plan_options options;
	bool verbose;
	bool failing; /* a part of the operations is lost */
};

static uint64_t below(struct world *w, uint64_t n)
{
	return rng_below(&w->rng.base, n);
}

static int64_t content_of(const struct node_facts *f)
{
	int64_t c;
	memcpy(&c, f->checksum.b, sizeof(c));
	return c;
}

static void set_content(struct node_facts *f, int64_t c)
{
	must(c < STORE_MAX);
	memcpy(f->checksum.b, &c, sizeof(c));
}

static const char *const pool[] = {"a", "b", "c", "A", "B", "d", "e.txt", "E.txt"};

static struct str some_name(struct world *w)
{
	return str_c(pool[below(w, sizeof(pool) / sizeof(pool[0]))]);
}

static int by_id(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	return (x->f.id > y->f.id) - (x->f.id < y->f.id);
}

/* The nodes of a tree by id, so that a seed gives the same run everywhere. */
static size_t list(struct world *w, struct tree *t, struct node ***out)
{
	struct node **all = arena_many(&w->arena, t->count + 1, struct node *);
	size_t n = 0;
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&t->by_id, &i, &key, &value);)
		all[n++] = value;
	qsort(all, n, sizeof(struct node *), by_id);
	*out = all;
	return n;
}

static struct node *pick(struct world *w, struct tree *t, bool folder_or_root)
{
	struct node **all;
	size_t n = list(w, t, &all), k = 0;
	for (size_t i = 0; i < n; i++)
		if (folder_or_root ? all[i]->f.kind == NODE_FOLDER : all[i] != t->root)
			all[k++] = all[i];
	return k ? all[below(w, k)] : NULL;
}

static bool name_free(struct world *w, struct tree *t, int64_t parent, struct str name, int64_t self)
{
	if (t == &w->server) {
		struct node *n = tree_child_by_key(t, parent, name_key(&w->arena, name));
		return !n || n->f.id == self;
	}
	struct node *n = tree_child_exact(t, parent, name);
	return !n || n->f.id == self;
}

static struct node_facts facts_of(struct world *w, const struct node *n)
{
	struct node_facts f = n->f;
	f.name = arena_str(&w->arena, f.name);
	f.local_name = arena_str(&w->arena, f.local_name);
	return f;
}

static void server_store(struct world *w, struct node_facts *f)
{
	f->mtime_us = ++w->seq;
	f->version_id = ++w->next_version;
	if (f->kind == NODE_FILE)
		w->stored[content_of(f)] = true;
}

static void server_trash(struct world *w, struct node *top)
{
	for (struct node *n = top; n; n = tree_walk(top, n)) {
		must(w->n_trash < STORE_MAX);
		w->trash[w->n_trash++] = facts_of(w, n);
	}
	tree_remove(&w->server, top->f.id);
}

/* ---- users ---- */

static void user_creates(struct world *w, struct tree *t)
{
	struct node *up = pick(w, t, true);
	struct node_facts f = {.parent = up->f.id, .name = some_name(w), .kind = below(w, 2) ? NODE_FILE : NODE_FOLDER};
	if (tree_depth(up) > 4 || !name_free(w, t, f.parent, f.name, 0))
		return;
	if (f.kind == NODE_FILE)
		set_content(&f, below(w, 6) ? ++w->next_content : 1 + (int64_t)below(w, 3));
	f.id = t == &w->server ? ++w->next_id : --w->next_local;
	if (t == &w->server)
		server_store(w, &f);
	must(tree_put(t, &f));
}

static void user_moves(struct world *w, struct tree *t)
{
	struct node *n = pick(w, t, false), *up = pick(w, t, true);
	if (!n)
		return;
	struct node_facts f = facts_of(w, n);
	if (below(w, 3))
		f.parent = up->f.id;
	if (below(w, 2))
		f.name = some_name(w);
	if (tree_is_below(tree_get(t, f.parent), n) || !name_free(w, t, f.parent, f.name, f.id))
		return;
	if (t == &w->server)
		f.mtime_us = ++w->seq;
	must(tree_put(t, &f));
}

static void user_edits(struct world *w, struct tree *t)
{
	struct node *n = pick(w, t, false);
	if (!n || n->f.kind != NODE_FILE)
		return;
	struct node_facts f = facts_of(w, n);
	set_content(&f, below(w, 5) ? ++w->next_content : 1 + (int64_t)below(w, 3));
	if (t == &w->server)
		server_store(w, &f);
	must(tree_put(t, &f));
}

static void user_changes_mode(struct world *w, struct tree *t)
{
	struct node *n = pick(w, t, false);
	if (!n || n->f.kind != NODE_FILE)
		return;
	struct node_facts f = facts_of(w, n);
	f.executable = !f.executable;
	if (t == &w->server)
		f.mtime_us = ++w->seq;
	must(tree_put(t, &f));
}

static void user_swaps(struct world *w, struct tree *t)
{
	struct node *a = pick(w, t, false), *b = pick(w, t, false);
	if (!a || a == b || tree_is_below(a, b) || tree_is_below(b, a))
		return;
	struct node_facts fa = facts_of(w, a), fb = facts_of(w, b), hold = fa;
	hold.name = STR("swapping");
	if (!name_free(w, t, hold.parent, hold.name, hold.id))
		return;
	must(tree_put(t, &hold));
	struct node_facts na = fa, nb = fb;
	na.parent = fb.parent;
	na.name = fb.name;
	nb.parent = fa.parent;
	nb.name = fa.name;
	if (t == &w->server)
		na.mtime_us = nb.mtime_us = ++w->seq;
	must(tree_put(t, &nb) && tree_put(t, &na));
}

static void user_deletes(struct world *w, struct tree *t)
{
	struct node *n = pick(w, t, false);
	if (!n)
		return;
	if (t == &w->server)
		server_trash(w, n);
	else
		tree_remove(t, n->f.id);
}

static void disturb(struct world *w, struct tree *t, int n)
{
	while (n-- > 0) {
		switch (below(w, 11)) {
		case 0: case 1: case 2: user_creates(w, t); break;
		case 3: case 4: case 5: user_moves(w, t); break;
		case 6: case 7: user_edits(w, t); break;
		case 8: user_deletes(w, t); break;
		case 9: user_changes_mode(w, t); break;
		default: user_swaps(w, t); break;
		}
	}
}

static void show_plan(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct plan_op *op = &p->ops[i];
		fprintf(stderr, "  %02d %s %lld (local %lld) -> %lld/\"%.*s\" other \"%.*s\"%s: %s\n", op->case_no,
		        plan_verb_name(op->verb), (long long)op->id, op->has_local ? (long long)op->local.id : 0,
		        (long long)op->parent, STR_ARG(op->name), STR_ARG(op->other_name), op->final ? " final" : "",
		        op->reason);
	}
	fprintf(stderr, "  waiting %zu\n", p->waiting);
}

/* ---- executing ---- */

/* What a pull or a scan does: the view becomes what is true, and only what differs is put. Parents come first, so that no
 * move is refused. */
static void observe(struct world *w, struct tree *view, struct tree *truth)
{
	for (struct node *n = truth->root; n; n = tree_walk(truth->root, n)) {
		struct node *v = tree_get(view, n->f.id);
		bool same = v && v->f.parent == n->f.parent && str_eq(v->f.name, n->f.name) && node_same_content(&v->f, &n->f) &&
		            v->f.version_id == n->f.version_id && v->f.executable == n->f.executable;
		if (n->up && !same)
			must(tree_put(view, &n->f));
	}
	struct node **all;
	size_t n = list(w, view, &all);
	int64_t *ids = arena_many(&w->arena, n, int64_t);
	for (size_t i = 0; i < n; i++)
		ids[i] = all[i]->f.id;
	for (size_t i = 0; i < n; i++)
		if (!tree_get(truth, ids[i]))
			tree_remove(view, ids[i]);
}

/* The same tree, never planned, its nodes put in random order. */
static void tree_anew(struct world *w, struct tree *to, struct tree *from)
{
	struct node **all;
	size_t n = list(w, from, &all);
	struct node_facts *facts = arena_many(&w->arena, n, struct node_facts);
	for (size_t i = 0; i < n; i++)
		facts[i] = all[i]->f;
	for (size_t i = n; i > 1; i--) {
		size_t k = below(w, i);
		struct node_facts f = facts[i - 1];
		facts[i - 1] = facts[k];
		facts[k] = f;
	}
	if (from->flat)
		tree_init_flat(to);
	else
		tree_init(to);
	must(tree_put_all(to, facts, n) == 1); /* all but the root */
}

static bool same_op(const struct plan_op *a, const struct plan_op *b)
{
	return a->verb == b->verb && a->case_no == b->case_no && a->id == b->id && a->order == b->order && a->parent == b->parent &&
	       str_eq(a->name, b->name) && str_eq(a->other_name, b->other_name) && a->final == b->final && a->restore == b->restore &&
	       a->base_version_id == b->base_version_id && a->record_content == b->record_content &&
	       a->record_place == b->record_place && a->executable == b->executable && a->why.remote == b->why.remote &&
	       a->why.local == b->why.local;
}

/* A plan made from what was touched is the plan made from everything, whatever the order in which the trees grew (I6). */
static bool same_as_anew(struct world *w, const struct plan *p)
{
	struct tree remote, local, synced;
	struct plan all;
	tree_anew(w, &remote, &w->view_remote);
	tree_anew(w, &local, &w->view_local);
	tree_anew(w, &synced, &w->synced);
	plan_make(&remote, &local, &synced, &w->options, &all);
	bool same = p->n == all.n && p->waiting == all.waiting;
	for (size_t i = 0; same && i < p->n; i++)
		same = same_op(&p->ops[i], &all.ops[i]);
	if (!same && w->verbose) {
		fprintf(stderr, "the plan made from everything is another one:\n");
		show_plan(&all);
	}
	plan_fini(&all);
	tree_fini(&remote);
	tree_fini(&local);
	tree_fini(&synced);
	return same;
}

static void agree(struct world *w, struct node_facts f, struct str local_name)
{
	f.local_name = local_name.p && !str_eq(local_name, f.name) ? local_name : STR_NULL;
	must(tree_put(&w->synced, &f));
}

/* What the plan saw of the local node is still so. */
static struct node *local_as_planned(struct world *w, const struct plan_op *op)
{
	struct node *n = op->has_local ? tree_get(&w->disk, op->local.id) : NULL;
	if (!n || n->f.parent != op->local.parent || !str_eq(n->f.name, op->local.name) ||
	    !node_same_content(&n->f, &op->local))
		return NULL;
	return n;
}

static bool local_room(struct world *w, const struct plan_op *op, int64_t self)
{
	struct node *up = tree_get(&w->disk, op->parent);
	return up && up->f.kind == NODE_FOLDER && name_free(w, &w->disk, op->parent, op->name, self);
}

static void no_loss(struct world *w, const struct node *n)
{
	if (n->f.kind == NODE_FILE && !w->stored[content_of(&n->f)]) {
		fprintf(stderr, "content %lld would be lost\n", (long long)content_of(&n->f));
		abort();
	}
}

static void do_fetch(struct world *w, const struct plan_op *op)
{
	struct node_facts f = op->remote;
	struct node *l = tree_get(&w->disk, op->has_local ? op->local.id : op->id);
	if (op->has_local) {
		if (!local_as_planned(w, op))
			return;
		no_loss(w, l);
		f.parent = l->f.parent;
		f.name = facts_of(w, l).name;
		f.executable = op->executable;
		must(tree_put(&w->disk, &f));
		f = op->remote;
		f.parent = op->synced.parent; /* the place is another matter */
		f.name = op->synced.name;
		agree(w, f, op->synced.local_name);
		return;
	}
	if (l || !local_room(w, op, 0))
		return;
	f.parent = op->parent;
	f.name = op->name;
	must(tree_put(&w->disk, &f));
	agree(w, op->remote, op->name);
}

static void do_move_local(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op);
	if (!l || !local_room(w, op, l->f.id) || tree_is_below(tree_get(&w->disk, op->parent), l))
		return;
	struct node_facts f = facts_of(w, l);
	f.parent = op->parent;
	f.name = op->name;
	must(tree_put(&w->disk, &f));
	struct node *s = tree_get(&w->synced, op->id);
	if (op->final && s) {
		struct node_facts sf = facts_of(w, s);
		sf.parent = op->remote.parent;
		sf.name = op->remote.name;
		agree(w, sf, op->name);
	}
}

static void do_detach(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op);
	if (!l || (op->name.p && !name_free(w, &w->disk, l->f.parent, op->name, l->f.id)))
		return;
	struct node_facts f = facts_of(w, l);
	if (op->name.p)
		f.name = op->name;
	must(tree_put(&w->disk, &f));
	must(tree_rename_id(&w->disk, f.id, --w->next_local));
	if (!op->has_remote)
		tree_remove(&w->synced, op->id);
}

static void do_send(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op), *up = tree_get(&w->server, op->parent);
	if (!l || !up || !name_free(w, &w->server, op->parent, op->name, 0))
		return;
	struct node_facts f = facts_of(w, l);
	f.id = ++w->next_id;
	f.parent = op->parent;
	f.name = op->name;
	f.executable = op->executable;
	server_store(w, &f);
	must(tree_put(&w->server, &f));
	if (below(w, 8) == 0)
		return; /* the reply is lost */
	must(tree_rename_id(&w->disk, l->f.id, f.id));
	agree(w, f, op->other_name);
}

static void restore(struct world *w, const struct plan_op *op)
{
	for (size_t i = 0; i < w->n_trash; i++) {
		struct node_facts f = w->trash[i];
		if (f.id != op->id || !tree_get(&w->server, f.parent) ||
		    !name_free(w, &w->server, f.parent, f.name, 0) || tree_get(&w->server, f.id))
			continue;
		f.checksum = op->local.checksum;
		f.executable = op->executable;
		server_store(w, &f);
		must(tree_put(&w->server, &f));
		agree(w, f, op->synced.local_name);
		return;
	}
	do_detach(w, op);
}

static void do_send_version(struct world *w, const struct plan_op *op)
{
	struct node *r = tree_get(&w->server, op->id);
	if (!local_as_planned(w, op))
		return;
	if (!r) {
		if (op->restore)
			restore(w, op);
		return;
	}
	struct resolve_side head = {.version_id = r->f.version_id, .has_checksum = true, .checksum = r->f.checksum};
	struct resolve_side in = {.has_checksum = true, .checksum = op->local.checksum};
	struct resolve_outcome o = resolve(op->strategy, op->base_version_id, &head, &in);
	if (o.refused || o.copy)
		return;
	struct node_facts f = facts_of(w, r);
	w->stored[content_of(&op->local)] = true;
	f.checksum = op->local.checksum;
	f.version_id = ++w->next_version;
	f.executable = op->executable;
	f.mtime_us = ++w->seq;
	if (o.head == RESOLVE_HEAD_INCOMING)
		must(tree_put(&w->server, &f));
	if (below(w, 8) == 0)
		return;
	struct node *s = tree_get(&w->synced, op->id);
	struct node_facts sf = s ? facts_of(w, s) : f;
	sf.checksum = op->local.checksum;
	sf.version_id = f.version_id;
	agree(w, sf, sf.local_name.p ? sf.local_name : sf.name);
}

static void do_move_remote(struct world *w, const struct plan_op *op)
{
	struct node *r = tree_get(&w->server, op->id), *up = tree_get(&w->server, op->parent);
	if (!r || !up || tree_is_below(up, r) || !name_free(w, &w->server, op->parent, op->name, op->id))
		return;
	struct node_facts f = facts_of(w, r);
	f.parent = op->parent;
	f.name = op->name;
	f.mtime_us = ++w->seq;
	must(tree_put(&w->server, &f));
	struct node *s = tree_get(&w->synced, op->id);
	if (below(w, 8) == 0 || !s)
		return;
	struct node_facts sf = facts_of(w, s);
	sf.parent = f.parent;
	sf.name = f.name;
	agree(w, sf, op->other_name);
}

static void do_trash_remote(struct world *w, const struct plan_op *op)
{
	struct node *r = tree_get(&w->server, op->id);
	if (!r || r->f.version_id != op->remote.version_id)
		return;
	for (struct node *n = r; n; n = tree_walk(r, n))
		if (n->f.mtime_us > w->seen_seq)
			return;
	server_trash(w, r);
	tree_remove(&w->synced, op->id);
}

static void do_record(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op), *s = tree_get(&w->synced, op->id);
	if (!l)
		return;
	if (l->f.id != op->id && !tree_rename_id(&w->disk, l->f.id, op->id))
		return;
	struct node_facts f = s ? facts_of(w, s) : op->remote;
	if (op->record_content) {
		f.checksum = op->remote.checksum;
		f.version_id = op->remote.version_id;
	}
	f.executable = op->executable;
	if (op->record_place) {
		f.parent = op->parent;
		f.name = op->name;
		f.local_name = op->other_name;
	}
	agree(w, f, f.local_name);
}

static void do_set_mode(struct world *w, const struct plan_op *op)
{
	bool here = op->verb == PLAN_SET_MODE_LOCAL;
	struct node *l = local_as_planned(w, op), *r = tree_get(&w->server, op->id), *s = tree_get(&w->synced, op->id);
	if (!l || !r || !s || l->f.executable != op->local.executable)
		return;
	struct node_facts f = facts_of(w, here ? l : r), sf = facts_of(w, s);
	f.executable = sf.executable = op->executable;
	if (!here)
		f.mtime_us = ++w->seq;
	must(tree_put(here ? &w->disk : &w->server, &f));
	if (here || below(w, 8))
		agree(w, sf, sf.local_name);
}

static void execute(struct world *w, const struct plan_op *op)
{
	struct node *l;
	switch (op->verb) {
	case PLAN_RECORD: do_record(w, op); break;
	case PLAN_FORGET: tree_remove(&w->synced, op->id); break;
	case PLAN_MAKE_LOCAL:
	case PLAN_FETCH: do_fetch(w, op); break;
	case PLAN_MOVE_LOCAL: do_move_local(w, op); break;
	case PLAN_TRASH_LOCAL:
		l = local_as_planned(w, op);
		if (l && !l->first) {
			no_loss(w, l);
			tree_remove(&w->disk, l->f.id);
			tree_remove(&w->synced, op->id);
		}
		break;
	case PLAN_DETACH: do_detach(w, op); break;
	case PLAN_MAKE_REMOTE:
	case PLAN_SEND: do_send(w, op); break;
	case PLAN_SEND_VERSION: do_send_version(w, op); break;
	case PLAN_MOVE_REMOTE: do_move_remote(w, op); break;
	case PLAN_TRASH_REMOTE: do_trash_remote(w, op); break;
	case PLAN_SET_MODE_LOCAL:
	case PLAN_SET_MODE_REMOTE: do_set_mode(w, op); break;
	}
}

/* ---- checking ---- */

static void show(struct world *w, const char *title, struct tree *t)
{
	fprintf(stderr, "%s:\n", title);
	struct node **all;
	size_t n = list(w, t, &all);
	for (size_t i = 0; i < n; i++) {
		const struct node_facts *f = &all[i]->f;
		fprintf(stderr, "  %lld in %lld %s \"%.*s\" \"%.*s\" content %lld version %lld\n", (long long)f->id,
		        (long long)f->parent, f->kind ? "file" : "folder", STR_ARG(f->name), STR_ARG(f->local_name),
		        (long long)content_of(f), (long long)f->version_id);
	}
}

static void show_all(struct world *w)
{
	show(w, "server", &w->server);
	show(w, "disk", &w->disk);
	show(w, "synced", &w->synced);
}

static bool in_step(struct world *w)
{
	if (w->server.count != w->disk.count || w->server.count != w->synced.count)
		return false;
	for (struct node *r = w->server.root; r; r = tree_walk(w->server.root, r)) {
		struct node *l = tree_get(&w->disk, r->f.id), *s = tree_get(&w->synced, r->f.id);
		if (!l || !s)
			return false;
		if (r == w->server.root)
			continue;
		if (l->f.executable != r->f.executable || s->f.executable != r->f.executable)
			return false;
		if (l->f.parent != r->f.parent || s->f.parent != r->f.parent || !node_same_content(&r->f, &l->f) ||
		    !node_same_content(&r->f, &s->f) || !str_eq(s->f.name, r->f.name) ||
		    !str_eq(node_local_name(&s->f), l->f.name) || (r->f.kind == NODE_FILE && s->f.version_id != r->f.version_id))
			return false;
	}
	return true;
}

/* Contents that one side holds and that are not what was agreed: they must be live in the end, but for
 * local ones the server has had already (a lost reply): somebody may have edited on top of them there. */
static void edits(struct world *w, bool *must_live)
{
	struct tree *sides[] = {&w->server, &w->disk};
	for (int i = 0; i < 2; i++) {
		for (struct node *n = sides[i]->root; n; n = tree_walk(sides[i]->root, n)) {
			struct node *s = tree_get(&w->synced, n->f.id);
			bool known = i == 1 && n->f.kind == NODE_FILE && w->stored[content_of(&n->f)];
			if (n->f.kind == NODE_FILE && !known && (!s || !node_same_content(&s->f, &n->f)))
				must_live[content_of(&n->f)] = true;
		}
	}
}

static bool run(uint64_t seed, bool verbose)
{
	struct world *w = calloc(1, sizeof(*w));
	bool *must_live = calloc(STORE_MAX, sizeof(bool));
	must(w && must_live);
	rng_seeded_init(&w->rng, seed);
	arena_init(&w->arena);
	w->verbose = verbose;
	tree_init(&w->server);
	tree_init(&w->disk);
	tree_init_flat(&w->synced);
	tree_init(&w->view_remote);
	tree_init(&w->view_local);
	w->next_content = 8;
	w->options = (struct plan_options){.device = STR("dev"), .date = STR("2026-01-01"), .reserved = STR(".scaidrive"),
	                                   .fold = false};
	/* LAST_WRITER_WINS and SERVER_WINS give up a side by intent; then only its history must keep it. */
	static const enum resolve_strategy strategies[] = {RESOLVE_NONE, RESOLVE_KEEP_BOTH, RESOLVE_KEEP_BOTH,
	                                                   RESOLVE_LAST_WRITER_WINS, RESOLVE_SERVER_WINS};
	w->options.strategy = strategies[below(w, 5)];
	bool keeps_all = w->options.strategy == RESOLVE_NONE || w->options.strategy == RESOLVE_KEEP_BOTH;
	w->failing = below(w, 2);
	int late = below(w, 3) ? 0 : (int)below(w, 6); /* rounds that are disturbed while the plan is carried out */
	disturb(w, &w->server, (int)below(w, 30));
	bool ok = false;
	for (int phase = 0; phase < 2; phase++) {
		if (phase == 1) {
			disturb(w, &w->server, (int)below(w, 12));
			disturb(w, &w->disk, (int)below(w, 12));
			edits(w, must_live);
		}
		if (verbose && phase)
			show_all(w);
		ok = false;
		for (int round = 0; round < ROUNDS_MAX && !ok; round++) {
			observe(w, &w->view_remote, &w->server);
			observe(w, &w->view_local, &w->disk);
			w->seen_seq = w->seq;
			struct plan p;
			plan_make(&w->view_remote, &w->view_local, &w->synced, &w->options, &p);
			if (verbose && phase) {
				fprintf(stderr, "round %d\n", round);
				show_plan(&p);
			}
			if (below(w, 4) == 0 && !same_as_anew(w, &p)) {
				plan_fini(&p);
				break;
			}
			if (p.n == 0) {
				ok = p.waiting == 0 && in_step(w);
				plan_fini(&p);
				break;
			}
			for (size_t i = p.n; i > 1; i--) {
				size_t j = below(w, i);
				struct plan_op t = p.ops[i - 1];
				p.ops[i - 1] = p.ops[j];
				p.ops[j] = t;
			}
			for (size_t i = 0; i < p.n; i++) {
				if (phase == 1 && round < late && below(w, 4) == 0) {
					memset(must_live, 0, STORE_MAX);
					disturb(w, below(w, 2) ? &w->server : &w->disk, 1);
					edits(w, must_live);
				}
				if (!w->failing || below(w, 5))
					execute(w, &p.ops[i]);
			}
			plan_fini(&p);
		}
		if (!ok)
			break;
	}
	if (!ok && verbose) {
		fprintf(stderr, "not in step\n");
		show_all(w);
	}
	for (struct node *n = w->server.root; n; n = tree_walk(w->server.root, n))
		if (n->f.kind == NODE_FILE)
			must_live[content_of(&n->f)] = false;
	for (int64_t c = 0; c < STORE_MAX; c++) {
		bool lost = must_live[c] && (keeps_all || !w->stored[c]);
		ok = ok && !lost;
		if (lost && verbose)
			fprintf(stderr, "content %lld is lost\n", (long long)c);
	}
	tree_fini(&w->server);
	tree_fini(&w->disk);
	tree_fini(&w->synced);
	tree_fini(&w->view_remote);
	tree_fini(&w->view_local);
	arena_fini(&w->arena);
	free(w);
	free(must_live);
	return ok;
}

static uint64_t setting(const char *name, uint64_t dflt)
{
	const char *s = getenv(name);
	return s ? strtoull(s, NULL, 10) : dflt;
}

static void random_worlds(void **state)
{
	(void)state;
	uint64_t first = setting("SD_SIM_FIRST", 1), n = setting("SD_SIM_SEEDS", 5000);
	for (uint64_t seed = first; seed < first + n; seed++) {
		if (!run(seed, n == 1)) {
			fprintf(stderr, "replay: SD_SIM_FIRST=%llu SD_SIM_SEEDS=1 test-reconcile-plan_sim\n", (unsigned long long)seed);
			fail();
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(random_worlds)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
