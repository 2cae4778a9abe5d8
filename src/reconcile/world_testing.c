#include "reconcile/world_testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/name.h"

enum { US = 1, OTHERS = 2 };

static uint64_t below(struct world *w, uint64_t n)
{
	return rng_below(&w->rng.base, n);
}

static bool fails(struct world *w, const char *fault)
{
	if (!w->fault)
		w->fault = fault;
	return false;
}

static int64_t content_of(const struct node_facts *f)
{
	int64_t c;
	memcpy(&c, f->checksum.b, sizeof(c));
	return c;
}

static struct sha256 bytes_of(int64_t content)
{
	struct sha256 h = {{0}};
	must(content > 0 && content < WORLD_CONTENTS);
	memcpy(h.b, &content, sizeof(content));
	return h;
}

static int by_id(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
	return (x->f.id > y->f.id) - (x->f.id < y->f.id);
}

/* The nodes of a tree by id, so that a seed gives the same run everywhere. */
static size_t list(struct world *w, const struct tree *t, struct node ***out)
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

static struct node_facts facts_of(struct world *w, const struct node *n)
{
	struct node_facts f = n->f;
	f.name = arena_str(&w->arena, f.name);
	f.local_name = arena_str(&w->arena, f.local_name);
	return f;
}

/* On the disk, where names are told apart by their bytes, or by their keys when it folds. */
static bool disk_free(struct world *w, int64_t parent, struct str name, int64_t self)
{
	struct node *n = w->options.fold ? tree_child_by_key(&w->disk, parent, name_key(&w->arena, name))
					 : tree_child_exact(&w->disk, parent, name);
	while (n && n->f.id == self)
		n = w->options.fold ? tree_twin(n) : NULL;
	return !n;
}

/* The disk stores it. One that decomposes knows one letter, which is enough. */
static void disk_put(struct world *w, struct node_facts f)
{
	if (w->decomposes && str_eq(f.name, STR("\xc3\xa9")))
		f.name = STR("e\xcc\x81");
	must(tree_put(&w->disk, &f) != NULL);
}

static struct model_result serve(struct world *w, const struct model_op *op)
{
	struct model_result r = model_apply(&w->model, op);
	model_feed(&w->model, w->server_seq, &w->server);
	w->server_seq = w->model.seq;
	return r;
}

/* ---- users ---- */

static bool do_on_server(struct world *w, const struct deed *d)
{
	struct node *n = tree_get(&w->server, d->id), *o = tree_get(&w->server, d->other);
	struct model_op op = {.id = d->id,
			      .parent = d->parent,
			      .name = str_c(d->name),
			      .by = OTHERS,
			      .seen_seq = -1,
			      .executable = n && n->f.executable};
	if (d->verb == DEED_FILE || d->verb == DEED_EDIT)
		op.checksum = bytes_of(d->content);
	switch (d->verb) {
	case DEED_FOLDER:
	case DEED_FILE:
		op.verb = MODEL_MAKE;
		op.id = 0;
		op.executable = false;
		op.kind = d->verb == DEED_FILE ? NODE_FILE : NODE_FOLDER;
		break;
	case DEED_EDIT:
		op.verb = MODEL_PUT;
		break;
	case DEED_MODE:
		op.verb = MODEL_SET_MODE;
		op.executable = !op.executable;
		break;
	case DEED_MOVE:
		op.verb = MODEL_MOVE;
		break;
	case DEED_DELETE:
		op.verb = MODEL_TRASH;
		break;
	case DEED_RESTORE:
		op.verb = MODEL_RESTORE;
		break;
	case DEED_SWAP:
		if (!n || !o || n == o || tree_is_below(n, o) || tree_is_below(o, n))
			return false;
		struct node_facts a = facts_of(w, n), b = facts_of(w, o);
		op = (struct model_op){
		    .verb = MODEL_MOVE, .id = a.id, .parent = a.parent, .name = STR("swapping"), .by = OTHERS};
		if (serve(w, &op).err)
			return false;
		op.id = b.id, op.name = a.name;
		must(!serve(w, &op).err);
		op.id = a.id, op.parent = b.parent, op.name = b.name;
		must(!serve(w, &op).err);
		return true;
	}
	struct model_result r = serve(w, &op);
	if (d->verb == DEED_RESTORE && r.changed)
		for (struct node *top = tree_get(&w->server, d->id), *at = top; at; at = tree_walk(top, at))
			map_put(&w->restored, (uint64_t)at->f.id, w);
	return !r.err && r.changed;
}

static bool swap_on_disk(struct world *w, struct node *n, struct node *o)
{
	if (!o || n == o || !o->up || tree_is_below(n, o) || tree_is_below(o, n) ||
	    !disk_free(w, n->f.parent, STR("swapping"), n->f.id))
		return false;
	struct node_facts a = facts_of(w, n), b = facts_of(w, o), hold = a;
	hold.name = STR("swapping");
	disk_put(w, hold);
	struct node_facts na = a, nb = b;
	na.parent = b.parent, na.name = b.name;
	nb.parent = a.parent, nb.name = a.name;
	disk_put(w, nb);
	disk_put(w, na);
	return true;
}

static bool do_on_disk(struct world *w, const struct deed *d)
{
	bool makes = d->verb == DEED_FILE || d->verb == DEED_FOLDER;
	struct node *n = makes ? NULL : tree_get(&w->disk, d->id), *up = tree_get(&w->disk, d->parent);
	if (!makes && (!n || !n->up))
		return false;
	struct node_facts f = n ? facts_of(w, n) : (struct node_facts){.id = w->next_local - 1};
	if (makes || d->verb == DEED_MOVE) {
		struct str name = str_c(d->name);
		if (!up || up->f.kind != NODE_FOLDER || (n && tree_is_below(up, n)) ||
		    !disk_free(w, d->parent, name, f.id) || (n && n->f.parent == d->parent && str_eq(n->f.name, name)))
			return false;
		f.parent = d->parent;
		f.name = name;
	}
	switch (d->verb) {
	case DEED_FOLDER:
	case DEED_FILE:
		w->next_local--;
		f.kind = d->verb == DEED_FILE ? NODE_FILE : NODE_FOLDER;
		if (f.kind == NODE_FILE)
			f.checksum = bytes_of(d->content);
		break;
	case DEED_EDIT:
		if (f.kind != NODE_FILE || content_of(&f) == d->content)
			return false;
		f.checksum = bytes_of(d->content);
		break;
	case DEED_MODE:
		if (f.kind != NODE_FILE || w->options.modeless)
			return false;
		f.executable = !f.executable;
		break;
	case DEED_MOVE:
		break;
	case DEED_SWAP:
		return swap_on_disk(w, n, tree_get(&w->disk, d->other));
	case DEED_DELETE:
		return tree_remove(&w->disk, d->id);
	case DEED_RESTORE:
		return false;
	}
	disk_put(w, f);
	return true;
}

bool world_do(struct world *w, enum world_side side, const struct deed *d)
{
	return side == WORLD_SERVER ? do_on_server(w, d) : do_on_disk(w, d);
}

/* ---- the plan's executor ---- */

static void agree(struct world *w, struct node_facts f, struct str local_name)
{
	f.local_name = local_name.p && !str_eq(local_name, f.name) ? local_name : STR_NULL;
	must(tree_put(&w->synced, &f) != NULL);
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
	return up && up->f.kind == NODE_FOLDER && disk_free(w, op->parent, op->name, self);
}

/* Bytes that leave the disk are on the server. */
static void no_loss(struct world *w, const struct node *n)
{
	if (n->f.kind == NODE_FILE && !model_has(&w->model, &n->f.checksum))
		fails(w, "bytes that the server never had were removed from the disk");
}

static void do_fetch(struct world *w, const struct plan_op *op)
{
	struct node_facts f = op->remote;
	struct node *l = tree_get(&w->disk, op->has_local ? op->local.id : op->id);
	bool executable = op->executable && !w->options.modeless;
	if (op->has_local) {
		if (!local_as_planned(w, op))
			return;
		no_loss(w, l);
		f.parent = l->f.parent;
		f.name = facts_of(w, l).name;
		f.executable = executable;
		disk_put(w, f);
		f = op->remote;
		f.parent = op->synced.parent; /* the place is another matter */
		f.name = op->synced.name;
		agree(w, f, op->synced.local_name);
		return;
	}
	if (l || !local_room(w, op, TREE_ROOT))
		return;
	f.parent = op->parent;
	f.name = op->name;
	f.executable = executable;
	disk_put(w, f);
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
	disk_put(w, f);
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
	if (!l || (op->name.p && !disk_free(w, l->f.parent, op->name, l->f.id)))
		return;
	struct node_facts f = facts_of(w, l);
	if (op->name.p)
		f.name = op->name;
	disk_put(w, f);
	must(tree_rename_id(&w->disk, f.id, --w->next_local));
	tree_remove(&w->synced, op->id);
}

static void do_trash_local(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op);
	if (!l || l->first)
		return;
	no_loss(w, l);
	tree_remove(&w->disk, l->f.id);
	tree_remove(&w->synced, op->id);
}

static bool reply_lost(struct world *w)
{
	return w->losing && below(w, 8) == 0;
}

static struct model_op edit_of(const struct plan_op *op, enum model_verb verb)
{
	return (struct model_op){.verb = verb,
				 .id = op->id,
				 .parent = op->parent,
				 .name = op->name,
				 .by = US,
				 .seen_seq = -1,
				 .executable = op->executable,
				 .checksum = op->local.checksum};
}

static void do_send(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op);
	if (!l)
		return;
	struct model_op made = edit_of(op, MODEL_MAKE);
	made.id = 0;
	made.kind = op->kind;
	struct model_result r = serve(w, &made);
	if (r.err || reply_lost(w))
		return;
	must(tree_rename_id(&w->disk, l->f.id, r.id));
	agree(w, model_facts(&w->model, model_get(&w->model, r.id)), op->local.name);
}

static void do_send_version(struct world *w, const struct plan_op *op)
{
	if (!local_as_planned(w, op))
		return;
	struct model_op put = edit_of(op, MODEL_PUT);
	put.base_version_id = op->base_version_id;
	put.strategy = op->strategy;
	put.copy_name = resolve_copy_name(&w->arena, op->local.name, STR("dev"), STR("2026-01-01"), 1);
	bool was_live = model_is_live(&w->model, op->id);
	struct model_result r = serve(w, &put);
	if (r.err && op->restore && !was_live)
		do_detach(w, op); /* it cannot come back as itself */
	if (r.err || !model_is_live(&w->model, op->id) || reply_lost(w))
		return;
	struct node *s = tree_get(&w->synced, op->id);
	struct node_facts f = s ? facts_of(w, s) : model_facts(&w->model, model_get(&w->model, op->id));
	f.checksum = op->local.checksum;
	f.version_id = r.version_id;
	agree(w, f, f.local_name);
}

static void do_move_remote(struct world *w, const struct plan_op *op)
{
	struct model_op move = edit_of(op, MODEL_MOVE);
	struct model_result r = serve(w, &move);
	struct node *s = tree_get(&w->synced, op->id);
	if (r.err || reply_lost(w) || !s)
		return;
	struct node_facts f = facts_of(w, s);
	f.parent = op->parent;
	f.name = op->name;
	/* An evading name is the server's alone; the local one is still to come back. */
	agree(w, f, op->final ? op->local.name : op->has_local ? STR_NULL : f.local_name);
}

static void do_trash_remote(struct world *w, const struct plan_op *op)
{
	struct model_op trash = edit_of(op, MODEL_TRASH);
	trash.base_version_id = op->remote.version_id;
	trash.seen_seq = w->seen_seq;
	struct model_result r = serve(w, &trash);
	if (!r.err && !r.conflict && !reply_lost(w))
		tree_remove(&w->synced, op->id);
}

static void do_record(struct world *w, const struct plan_op *op)
{
	struct node *l = local_as_planned(w, op), *s = tree_get(&w->synced, op->id);
	if (!l || (l->f.id != op->id && !tree_rename_id(&w->disk, l->f.id, op->id)))
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
	struct node *l = local_as_planned(w, op), *s = tree_get(&w->synced, op->id);
	if (!l || !s || l->f.executable != op->local.executable)
		return;
	struct node_facts f = facts_of(w, l), sf = facts_of(w, s);
	struct model_op set = edit_of(op, MODEL_SET_MODE);
	if (!here && (serve(w, &set).err || reply_lost(w)))
		return;
	f.executable = sf.executable = op->executable;
	if (here)
		disk_put(w, f);
	agree(w, sf, sf.local_name);
}

static void execute(struct world *w, const struct plan_op *op)
{
	switch (op->verb) {
	case PLAN_RECORD:
		do_record(w, op);
		break;
	case PLAN_FORGET:
		tree_remove(&w->synced, op->id);
		break;
	case PLAN_MAKE_LOCAL:
	case PLAN_FETCH:
		do_fetch(w, op);
		break;
	case PLAN_MOVE_LOCAL:
		do_move_local(w, op);
		break;
	case PLAN_TRASH_LOCAL:
		do_trash_local(w, op);
		break;
	case PLAN_DETACH:
		do_detach(w, op);
		break;
	case PLAN_MAKE_REMOTE:
	case PLAN_SEND:
		do_send(w, op);
		break;
	case PLAN_SEND_VERSION:
		do_send_version(w, op);
		break;
	case PLAN_MOVE_REMOTE:
		do_move_remote(w, op);
		break;
	case PLAN_TRASH_REMOTE:
		do_trash_remote(w, op);
		break;
	case PLAN_SET_MODE_LOCAL:
	case PLAN_SET_MODE_REMOTE:
		do_set_mode(w, op);
		break;
	}
}

/* ---- showing ---- */

static void show(struct world *w, const char *title, struct tree *t)
{
	fprintf(stderr, "%s:\n", title);
	struct node **all;
	size_t n = list(w, t, &all);
	for (size_t i = 0; i < n; i++) {
		const struct node_facts *f = &all[i]->f;
		fprintf(stderr, "  %lld in %lld %s \"%.*s\" \"%.*s\" content %lld version %lld%s\n", (long long)f->id,
			(long long)f->parent, f->kind ? "file" : "folder", STR_ARG(f->name), STR_ARG(f->local_name),
			(long long)content_of(f), (long long)f->version_id, f->executable ? " executable" : "");
	}
}

static void show_all(struct world *w)
{
	show(w, "server", &w->server);
	show(w, "disk", &w->disk);
	show(w, "synced", &w->synced);
}

static void show_plan(struct world *w, const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct plan_op *op = &p->ops[i];
		struct str why = plan_explain(&w->arena, op);
		fprintf(stderr, "  %lld (local %lld) to %lld: %.*s\n", (long long)op->id,
			op->has_local ? (long long)op->local.id : 0, (long long)op->parent, STR_ARG(why));
	}
	fprintf(stderr, "  waiting %zu\n", p->waiting);
}

/* ---- observing and checking ---- */

/* What a scan does: the view becomes what is true, and only what differs is put. Parents come first, so no move is
 * refused. */
static void scan(struct world *w)
{
	for (struct node *n = w->disk.root; n; n = tree_walk(w->disk.root, n)) {
		struct node *v = tree_get(&w->view_local, n->f.id);
		bool same = v && v->f.parent == n->f.parent && str_eq(v->f.name, n->f.name) &&
			    node_same_content(&v->f, &n->f) && v->f.executable == n->f.executable;
		if (n->up && !same)
			must(tree_put(&w->view_local, &n->f) != NULL);
	}
	struct node **all;
	size_t n = list(w, &w->view_local, &all);
	int64_t *ids = arena_many(&w->arena, n, int64_t);
	for (size_t i = 0; i < n; i++)
		ids[i] = all[i]->f.id;
	for (size_t i = 0; i < n; i++)
		if (!tree_get(&w->disk, ids[i]))
			tree_remove(&w->view_local, ids[i]);
}

/* The same tree, never planned, its nodes put in random order. */
static void tree_anew(struct world *w, struct tree *to, const struct tree *from)
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
	return a->verb == b->verb && a->case_no == b->case_no && a->id == b->id && a->order == b->order &&
	       a->parent == b->parent && str_eq(a->name, b->name) && str_eq(a->other_name, b->other_name) &&
	       a->final == b->final && a->restore == b->restore && a->base_version_id == b->base_version_id &&
	       a->record_content == b->record_content && a->record_place == b->record_place &&
	       a->executable == b->executable && a->why.remote == b->why.remote && a->why.local == b->why.local;
}

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
		fprintf(stderr, "made from everything the plan is another one:\n");
		show_plan(w, &all);
	}
	plan_fini(&all);
	tree_fini(&remote);
	tree_fini(&local);
	tree_fini(&synced);
	return same ||
	       fails(w, "a plan made from what was touched, or from trees that grew in another order, is another plan");
}

static bool in_step(struct world *w)
{
	if (w->server.count != w->disk.count || w->server.count != w->synced.count)
		return false;
	for (struct node *r = tree_walk(w->server.root, w->server.root); r; r = tree_walk(w->server.root, r)) {
		struct node *l = tree_get(&w->disk, r->f.id), *s = tree_get(&w->synced, r->f.id);
		if (!l || !s || s->f.executable != r->f.executable ||
		    (!w->options.modeless && l->f.executable != r->f.executable))
			return false;
		if (l->f.parent != r->f.parent || s->f.parent != r->f.parent || !node_same_content(&r->f, &l->f) ||
		    !node_same_content(&r->f, &s->f) || !str_eq(s->f.name, r->f.name) ||
		    !str_eq(node_local_name(&s->f), l->f.name) ||
		    (r->f.kind == NODE_FILE && s->f.version_id != r->f.version_id))
			return false;
		bool alias = !str_eq(l->f.name, r->f.name);
		if (alias && w->options.fold && !str_eq(l->key, r->key) && !str_starts(r->f.name, STR(".scaidrive")))
			return false; /* where names fold, nothing needs another name */
	}
	return true;
}

/* Something new on the disk with the same bytes: it may be adopted for a file that was deleted there. */
static bool made_again(struct world *w, const struct node *n)
{
	for (struct node *l = w->disk.root; l; l = tree_walk(w->disk.root, l))
		if (node_same_content(&l->f, &n->f) && !tree_get(&w->synced, l->f.id))
			return true;
	return false;
}

void world_expect(struct world *w)
{
	memset(w->wanted, 0, sizeof(w->wanted));
	map_fini(&w->gone);
	map_fini(&w->stay);
	struct tree *sides[] = {&w->server, &w->disk};
	for (int i = 0; i < 2; i++) {
		for (struct node *n = sides[i]->root; n; n = tree_walk(sides[i]->root, n)) {
			if (tree_get(sides[1 - i], n->f.id))
				map_put(&w->stay, (uint64_t)n->f.id, w);
			if (n->f.kind != NODE_FILE)
				continue;
			struct node *s = tree_get(&w->synced, n->f.id), *other = tree_get(sides[1 - i], n->f.id);
			bool edited = !s || !node_same_content(&s->f, &n->f);
			/* What the server had already (a lost reply): somebody may have edited on top of it there. */
			bool known = i == 1 && model_has(&w->model, &n->f.checksum);
			bool kept = !edited && other && node_same_content(&other->f, &n->f);
			if ((edited && !known) || kept)
				w->wanted[content_of(&n->f)] = true;
			if (s && !edited && !other && !map_get(&w->restored, (uint64_t)n->f.id) && !made_again(w, n))
				map_put(&w->gone, (uint64_t)n->f.id, w);
		}
	}
}

static bool as_expected(struct world *w)
{
	bool live[WORLD_CONTENTS] = {false};
	for (struct node *n = w->server.root; n; n = tree_walk(w->server.root, n)) {
		if (n->f.kind == NODE_FILE)
			live[content_of(&n->f)] = true;
		if (map_get(&w->gone, (uint64_t)n->f.id))
			return fails(w, "a file that was deleted on one side, and not edited on the other, came back");
		map_del(&w->stay, (uint64_t)n->f.id);
	}
	if (w->stay.count)
		return fails(w, "what neither side deleted is not there under its id");
	for (int64_t c = 1; c < WORLD_CONTENTS; c++) {
		struct sha256 h = {{0}};
		memcpy(h.b, &c, sizeof(c));
		if (w->wanted[c] && !live[c] && (w->keeps_all || !model_has(&w->model, &h)))
			return fails(w, "an edit is lost");
	}
	return true;
}

void world_in_step(struct world *w)
{
	for (struct node *n = w->server.root; n; n = tree_walk(w->server.root, n)) {
		if (!n->up)
			continue;
		disk_put(w, n->f);
		agree(w, n->f, STR_NULL);
	}
}

static int by_text(const void *a, const void *b)
{
	return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

/* Without what distinguishes twins and copies: which of two gets the suffix may depend on who came first. */
static struct str plain_path(struct arena *a, const struct node *n)
{
	struct str path = name_key(a, tree_path(a, n));
	char *out = arena_alloc(a, path.n + 1);
	size_t k = 0;
	bool inside = false;
	for (size_t i = 0; i < path.n; i++) {
		inside |= path.p[i] == ' ' && i + 1 < path.n && path.p[i + 1] == '(';
		if (!inside)
			out[k++] = path.p[i];
		inside &= path.p[i] != ')';
	}
	return str_n(out, k);
}

struct str world_shape(struct world *w, struct arena *a)
{
	struct str *lines = arena_many(a, w->server.count + 1, struct str);
	size_t n = 0;
	for (struct node *at = w->server.root; at; at = tree_walk(w->server.root, at)) {
		struct str path = plain_path(a, at);
		lines[n++] = arena_fmt(a, "%.*s %d %lld%s", STR_ARG(path), at->f.kind, (long long)content_of(&at->f),
				       at->f.executable ? " executable" : "");
	}
	qsort(lines, n, sizeof(*lines), by_text);
	struct str all = STR("");
	for (size_t i = 0; i < n; i++)
		all = arena_fmt(a, "%.*s%.*s\n", STR_ARG(all), STR_ARG(lines[i]));
	return all;
}

/* ---- running ---- */

/* Of each event its own random numbers, so that leaving one out does not change what the others draw. */
static bool event(struct world *w, struct rng_seeded *rng)
{
	size_t no = w->events++;
	rng_seeded_init(rng, w->seed * UINT64_C(0x9e3779b97f4a7c15) + no + 1);
	return no < WORLD_EVENTS && !(w->left_out && w->left_out[no]);
}

static const char *const pool[] = {"a", "b", "c", "A", "B", "d", "e.txt", "E.txt", "\xc3\xa9", "e\xcc\x81"};
enum { POOL = sizeof(pool) / sizeof(pool[0]) };

static struct node *pick(struct world *w, struct rng_seeded *rng, struct tree *t, bool folder_or_root)
{
	struct node **all;
	size_t n = list(w, t, &all), k = 0;
	for (size_t i = 0; i < n; i++)
		if (folder_or_root ? all[i]->f.kind == NODE_FOLDER : all[i] != t->root)
			all[k++] = all[i];
	return k ? all[rng_below(&rng->base, k)] : NULL;
}

static void disturb(struct world *w, enum world_side side)
{
	static const enum deed_verb verbs[] = {DEED_FOLDER, DEED_FILE,   DEED_FILE,   DEED_MOVE,   DEED_MOVE,
					       DEED_MOVE,   DEED_EDIT,   DEED_EDIT,   DEED_DELETE, DEED_MODE,
					       DEED_SWAP,   DEED_FOLDER, DEED_RESTORE};
	struct rng_seeded rng;
	if (!event(w, &rng))
		return;
	struct tree *t = side == WORLD_SERVER ? &w->server : &w->disk;
	struct deed d = {.verb = verbs[rng_below(&rng.base, sizeof(verbs) / sizeof(verbs[0]))]};
	struct node *n = pick(w, &rng, t, false), *o = pick(w, &rng, t, false), *up = pick(w, &rng, t, true);
	d.id = n ? n->f.id : TREE_ROOT;
	d.other = o ? o->f.id : TREE_ROOT;
	d.parent = up->f.id;
	d.name = pool[rng_below(&rng.base, POOL)];
	if (d.verb == DEED_MOVE && n && rng_below(&rng.base, 3) == 0)
		d.parent = n->f.parent;
	else if (d.verb == DEED_MOVE && n && rng_below(&rng.base, 2))
		d.name = arena_cstr(&w->arena, n->f.name);
	if (d.verb == DEED_RESTORE)
		d.id = 1 + (int64_t)rng_below(&rng.base, (uint64_t)w->model.next_id + 1);
	d.content = rng_below(&rng.base, 6) ? ++w->next_content : 1 + (int64_t)rng_below(&rng.base, 3);
	if (tree_depth(up) > 4 && d.verb <= DEED_FILE)
		return;
	if (world_do(w, side, &d) && w->verbose)
		fprintf(stderr,
			"event %zu on the %s: verb %d, id %lld, other %lld, parent %lld, name %s, content %lld\n",
			w->events - 1, side == WORLD_SERVER ? "server" : "disk", d.verb, (long long)d.id,
			(long long)d.other, (long long)d.parent, d.name, (long long)d.content);
}

static void carry_out(struct world *w, struct plan *p, bool disturbed)
{
	for (size_t i = p->n; w->shuffled && i > 1; i--) {
		size_t j = below(w, i);
		struct plan_op t = p->ops[i - 1];
		p->ops[i - 1] = p->ops[j];
		p->ops[j] = t;
	}
	for (size_t i = 0; i < p->n; i++) {
		if (disturbed && below(w, 4) == 0) {
			disturb(w, below(w, 2) ? WORLD_SERVER : WORLD_DISK);
			world_expect(w);
		}
		if (!w->losing || below(w, 5))
			execute(w, &p->ops[i]);
	}
}

bool world_settle(struct world *w)
{
	for (int round = 0; round < WORLD_ROUNDS_MAX && !w->fault; round++) {
		model_feed(&w->model, w->seen_seq, &w->view_remote);
		w->seen_seq = w->model.seq;
		scan(w);
		struct plan p;
		plan_make(&w->view_remote, &w->view_local, &w->synced, &w->options, &p);
		w->plans++;
		if (w->verbose) {
			fprintf(stderr, "round %d\n", round);
			show_plan(w, &p);
		}
		if (w->on_plan)
			w->on_plan(w, &p);
		bool still = p.n == 0;
		if (below(w, 4) == 0)
			same_as_anew(w, &p);
		if (!still)
			carry_out(w, &p, round < w->late);
		else if (p.waiting || !in_step(w))
			fails(w, "nothing is left to do, but the sides differ");
		plan_fini(&p);
		if (still)
			return !w->fault && as_expected(w);
	}
	return fails(w, "it does not end");
}

void world_init(struct world *w, uint64_t seed)
{
	*w = (struct world){.seed = seed, .next_content = 8, .keeps_all = true};
	rng_seeded_init(&w->rng, seed);
	arena_init(&w->arena);
	model_init(&w->model);
	tree_init(&w->server);
	tree_init(&w->disk);
	tree_init_flat(&w->synced);
	tree_init(&w->view_remote);
	tree_init(&w->view_local);
	w->options =
	    (struct plan_options){.device = STR("dev"), .date = STR("2026-01-01"), .reserved = STR(".scaidrive")};
}

void world_fini(struct world *w)
{
	model_fini(&w->model);
	tree_fini(&w->server);
	tree_fini(&w->disk);
	tree_fini(&w->synced);
	tree_fini(&w->view_remote);
	tree_fini(&w->view_local);
	map_fini(&w->gone);
	map_fini(&w->stay);
	map_fini(&w->restored);
	arena_fini(&w->arena);
}

bool world_run(struct world *w, uint64_t seed, const bool *left_out, bool verbose)
{
	/* LAST_WRITER_WINS and SERVER_WINS give up a side by intent; then only its history must keep it. */
	static const enum resolve_strategy strategies[] = {RESOLVE_NONE, RESOLVE_KEEP_BOTH, RESOLVE_KEEP_BOTH,
							   RESOLVE_LAST_WRITER_WINS, RESOLVE_SERVER_WINS};
	world_init(w, seed);
	w->left_out = left_out;
	w->verbose = verbose;
	w->options.strategy = strategies[below(w, 5)];
	w->keeps_all = w->options.strategy == RESOLVE_NONE || w->options.strategy == RESOLVE_KEEP_BOTH;
	w->options.fold = below(w, 4) == 0;
	w->decomposes = w->options.fold && below(w, 2);
	w->options.modeless = below(w, 8) == 0;
	w->losing = below(w, 2);
	w->shuffled = below(w, 4);
	int late = below(w, 3) ? 0 : (int)below(w, 6);
	for (int n = (int)below(w, 30); n > 0; n--)
		disturb(w, WORLD_SERVER);
	world_expect(w);
	bool ok = world_settle(w);
	w->late = late;
	for (int n = (int)below(w, 12); ok && n > 0; n--)
		disturb(w, WORLD_SERVER);
	for (int n = (int)below(w, 12); ok && n > 0; n--)
		disturb(w, WORLD_DISK);
	if (ok && verbose)
		show_all(w);
	world_expect(w);
	ok = ok && world_settle(w);
	if (!ok && verbose) {
		fprintf(stderr, "%s\n", w->fault);
		show_all(w);
	}
	return ok;
}

static bool run_once(uint64_t seed, const bool *left_out, bool verbose, size_t *events)
{
	struct world *w = malloc(sizeof(*w));
	must(w != NULL);
	bool ok = world_run(w, seed, left_out, verbose);
	*events = w->events;
	world_fini(w);
	free(w);
	return ok;
}

void world_report(uint64_t seed)
{
	bool left_out[WORLD_EVENTS] = {false};
	size_t events, ignored;
	run_once(seed, NULL, false, &events);
	for (bool shrunk = true; shrunk;) {
		shrunk = false;
		for (size_t i = 0; i < events && i < WORLD_EVENTS; i++) {
			if (left_out[i])
				continue;
			left_out[i] = true;
			if (run_once(seed, left_out, false, &ignored))
				left_out[i] = false;
			else
				shrunk = true;
		}
	}
	run_once(seed, left_out, true, &ignored);
	fprintf(stderr, "replay: SD_SIM_FIRST=%llu SD_SIM_SEEDS=1 SD_SIM_SKIP=", (unsigned long long)seed);
	for (size_t i = 0; i < events && i < WORLD_EVENTS; i++)
		if (left_out[i])
			fprintf(stderr, "%zu,", i);
	fprintf(stderr, " test-reconcile-plan_sim\n");
}

void world_skip_list(const char *text, bool left_out[WORLD_EVENTS])
{
	struct str rest = str_c(text);
	while (rest.n) {
		uint64_t no;
		if (str_to_u64(str_cut(&rest, ','), &no) && no < WORLD_EVENTS)
			left_out[no] = true;
	}
}
