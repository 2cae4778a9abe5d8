#include "reconcile/model.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "base/name.h"

static void *room(void *v, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return v;
	*cap = *cap ? *cap * 2 : 32;
	v = realloc(v, *cap * size);
	must(v != NULL);
	return v;
}

static struct model_node *find(const struct model *m, int64_t id)
{
	size_t at = (size_t)(uintptr_t)map_get(&m->by_id, (uint64_t)id);
	return at ? &m->nodes[at - 1] : NULL;
}

static struct model_node *add_node(struct model *m, const struct model_node *n)
{
	m->nodes = room(m->nodes, m->n, &m->cap, sizeof(*m->nodes));
	m->nodes[m->n++] = *n;
	map_put(&m->by_id, (uint64_t)n->id, (void *)(uintptr_t)m->n);
	return &m->nodes[m->n - 1];
}

void model_init(struct model *m)
{
	*m = (struct model){0};
	arena_init(&m->arena);
	add_node(m, &(struct model_node){.id = TREE_ROOT, .kind = NODE_FOLDER, .name = STR(""), .key = STR("")});
}

void model_fini(struct model *m)
{
	map_fini(&m->by_id);
	free(m->nodes);
	free(m->versions);
	free(m->log);
	arena_fini(&m->arena);
	*m = (struct model){0};
}

const struct model_node *model_get(const struct model *m, int64_t id)
{
	return find(m, id);
}

const struct model_version *model_version(const struct model *m, int64_t id)
{
	for (size_t i = m->n_versions; i > 0; i--)
		if (m->versions[i - 1].id == id)
			return &m->versions[i - 1];
	return NULL;
}

bool model_has(const struct model *m, const struct sha256 *checksum)
{
	for (size_t i = 0; i < m->n_versions; i++)
		if (sha256_eq(&m->versions[i].checksum, checksum))
			return true;
	return false;
}

static bool live(const struct model *m, const struct model_node *n)
{
	while (n->id != TREE_ROOT && !n->trashed)
		n = find(m, n->parent);
	return n->id == TREE_ROOT;
}

bool model_is_live(const struct model *m, int64_t id)
{
	const struct model_node *n = find(m, id);
	return n && live(m, n);
}

static bool is_inside(const struct model *m, const struct model_node *n, int64_t folder)
{
	for (; n->id != folder; n = find(m, n->parent))
		if (n->id == TREE_ROOT)
			return false;
	return true;
}

/* Who has that name in that folder, other than the node itself. */
static const struct model_node *holder(const struct model *m, int64_t parent, struct str key, int64_t self)
{
	for (size_t i = 1; i < m->n; i++) {
		const struct model_node *n = &m->nodes[i];
		if (n->parent == parent && !n->trashed && n->id != self && str_eq(n->key, key))
			return n;
	}
	return NULL;
}

static struct str numbered(struct model *m, int64_t parent, struct str name)
{
	struct str s = name;
	for (int i = 2; holder(m, parent, name_key(&m->arena, s), -1); i++)
		s = name_with_label(&m->arena, name, arena_fmt(&m->arena, "%d", i), 1);
	return s;
}

static void name_it(struct model *m, struct model_node *n, int64_t parent, struct str name)
{
	n->parent = parent;
	n->name = arena_str(&m->arena, name);
	n->key = name_key(&m->arena, name);
}

static void changed(struct model *m, struct model_node *n, int64_t by)
{
	n->seq = ++m->seq;
	m->log = room(m->log, m->n_log, &m->cap_log, sizeof(*m->log));
	m->log[m->n_log++] = (struct model_change){n->seq, n->id, by};
}

static int64_t add_version(struct model *m, struct model_node *n, const struct model_op *op)
{
	m->versions = room(m->versions, m->n_versions, &m->cap_versions, sizeof(*m->versions));
	int64_t id = op->version_id ? op->version_id : ++m->next_id;
	m->versions[m->n_versions++] = (struct model_version){id, n->id, ++n->numbers, op->size_bytes, op->checksum};
	return id;
}

static int place_problem(const struct model *m, int64_t parent, struct str name, struct str key, int64_t self)
{
	const struct model_node *up = find(m, parent);
	if (!up || up->kind != NODE_FOLDER)
		return E_NOT_FOUND;
	if (!live(m, up))
		return E_GONE;
	if (name_problem(name))
		return E_NAME_INVALID;
	if (self >= 0 && is_inside(m, up, self))
		return E_MOVE_CYCLE;
	return holder(m, parent, key, self) ? E_NAME_CONFLICT : 0;
}

static struct model_result make(struct model *m, const struct model_op *op)
{
	int err = place_problem(m, op->parent, op->name, name_key(&m->arena, op->name), -1);
	if (err)
		return (struct model_result){.err = err};
	struct model_node *n = add_node(
	    m,
	    &(struct model_node){.id = op->id ? op->id : ++m->next_id, .kind = op->kind, .executable = op->executable});
	name_it(m, n, op->parent, op->name);
	if (op->kind == NODE_FILE)
		n->head = add_version(m, n, op);
	changed(m, n, op->by);
	return (struct model_result){.id = n->id, .version_id = n->head, .changed = true};
}

static void restore(struct model *m, struct model_node *n)
{
	struct model_node *up = find(m, n->parent);
	int64_t parent = live(m, up) ? up->id : TREE_ROOT;
	struct str name = numbered(m, parent, n->name);
	n->trashed = false;
	name_it(m, n, parent, name);
}

/* Becomes the head. */
static struct model_result win(struct model *m, struct model_node *n, const struct model_op *op, bool conflict)
{
	bool back = !live(m, n);
	if (back)
		restore(m, n);
	n->head = add_version(m, n, op);
	n->executable = op->executable;
	changed(m, n, op->by);
	return (struct model_result){.id = n->id, .version_id = n->head, .changed = true, .conflict = conflict};
}

/* Is kept beside the head. */
static struct model_result lose(struct model *m, struct model_node *n, const struct model_op *op)
{
	struct model_result r = {.id = n->id, .changed = true, .conflict = true, .version_id = add_version(m, n, op)};
	if (op->strategy != RESOLVE_KEEP_BOTH)
		return r;
	struct model_op copy = *op;
	copy.id = op->copy_id;
	copy.version_id = op->copy_version_id;
	copy.kind = NODE_FILE;
	copy.parent = n->parent;
	copy.name = numbered(m, n->parent, op->copy_name.n ? op->copy_name : n->name);
	r.copy_id = make(m, &copy).id;
	return r;
}

static struct model_result put(struct model *m, const struct model_op *op)
{
	struct model_node *n = find(m, op->id);
	if (!n || n->kind != NODE_FILE)
		return (struct model_result){.err = E_NOT_FOUND};
	enum resolve_strategy s = op->strategy;
	bool client = s == RESOLVE_LAST_WRITER_WINS || s == RESOLVE_CLIENT_WINS;
	if (!live(m, n)) {
		if (s == RESOLVE_NONE)
			return (struct model_result){.err = E_GONE};
		return client || s == RESOLVE_KEEP_BOTH ? win(m, n, op, true) : lose(m, n, op);
	}
	const struct model_version *head = model_version(m, n->head);
	int64_t base = !op->base_version_id && (client || s == RESOLVE_NONE) ? n->head : op->base_version_id;
	if (sha256_eq(&head->checksum, &op->checksum)) {
		bool bit = base == n->head && n->executable != op->executable;
		if (bit) {
			n->executable = op->executable;
			changed(m, n, op->by);
		}
		return (struct model_result){.id = n->id, .version_id = n->head, .changed = bit};
	}
	if (base == n->head)
		return win(m, n, op, false);
	if (s == RESOLVE_NONE)
		return (struct model_result){.err = E_VERSION_STALE};
	return client ? win(m, n, op, true) : lose(m, n, op);
}

static struct model_result set_mode(struct model *m, const struct model_op *op)
{
	struct model_node *n = find(m, op->id);
	if (!n || n->kind != NODE_FILE)
		return (struct model_result){.err = E_NOT_FOUND};
	if (!live(m, n))
		return (struct model_result){.err = E_GONE};
	struct model_result r = {.id = n->id, .changed = n->executable != op->executable};
	n->executable = op->executable;
	if (r.changed)
		changed(m, n, op->by);
	return r;
}

static struct model_result move(struct model *m, const struct model_op *op)
{
	struct model_node *n = find(m, op->id);
	if (!n || n->id == TREE_ROOT)
		return (struct model_result){.err = n ? E_FORBIDDEN : E_NOT_FOUND};
	if (!live(m, n))
		return (struct model_result){.err = E_GONE};
	if (n->parent == op->parent && str_eq(n->name, op->name))
		return (struct model_result){.id = n->id};
	int err = place_problem(m, op->parent, op->name, name_key(&m->arena, op->name), n->id);
	if (err)
		return (struct model_result){.err = err};
	name_it(m, n, op->parent, op->name);
	changed(m, n, op->by);
	return (struct model_result){.id = n->id, .changed = true};
}

static bool others_changed(const struct model *m, int64_t id, const struct model_op *op)
{
	for (size_t i = 0; i < m->n_log; i++)
		if (m->log[i].id == id && m->log[i].seq > op->seen_seq && m->log[i].by != op->by)
			return true;
	return false;
}

/* Something below it, that is still there, was changed by others. */
static bool changed_below(const struct model *m, const struct model_node *top, const struct model_op *op)
{
	for (size_t i = 1; i < m->n; i++) {
		const struct model_node *n = &m->nodes[i];
		if (n != top && live(m, n) && is_inside(m, n, top->id) && others_changed(m, n->id, op))
			return true;
	}
	return false;
}

/* Returns whether all of it went. */
static bool trash_unseen(struct model *m, struct model_node *n, const struct model_op *op)
{
	bool itself = others_changed(m, n->id, op);
	if (!itself && !changed_below(m, n, op)) {
		n->trashed = true;
		changed(m, n, op->by);
		return true;
	}
	for (size_t i = 1; !itself && i < m->n; i++) /* a folder that others changed stays with all that is in it */
		if (m->nodes[i].parent == n->id && !m->nodes[i].trashed)
			trash_unseen(m, &m->nodes[i], op);
	return false;
}

static struct model_result trash(struct model *m, const struct model_op *op)
{
	struct model_node *n = find(m, op->id);
	if (!n || n->id == TREE_ROOT)
		return (struct model_result){.err = n ? E_FORBIDDEN : E_NOT_FOUND};
	struct model_result r = {.id = n->id};
	if (!live(m, n))
		return r;
	if (n->kind == NODE_FOLDER && op->seen_seq >= 0) {
		r.changed = true;
		r.conflict = !trash_unseen(m, n, op);
		return r;
	}
	if (n->kind == NODE_FILE && op->base_version_id && op->base_version_id != n->head) {
		if (op->strategy == RESOLVE_NONE)
			return (struct model_result){.err = E_VERSION_STALE};
		r.conflict = true;
		if (op->strategy != RESOLVE_CLIENT_WINS)
			return r; /* an edit beats a delete */
	}
	n->trashed = r.changed = true;
	changed(m, n, op->by);
	return r;
}

static struct model_result take_back(struct model *m, const struct model_op *op)
{
	struct model_node *n = find(m, op->id);
	if (!n || n->id == TREE_ROOT)
		return (struct model_result){.err = n ? E_FORBIDDEN : E_NOT_FOUND};
	struct model_result r = {.id = n->id};
	if (live(m, n))
		return r;
	restore(m, n);
	changed(m, n, op->by);
	r.changed = true;
	return r;
}

struct model_result model_apply(struct model *m, const struct model_op *op)
{
	switch (op->verb) {
	case MODEL_MAKE:
		return make(m, op);
	case MODEL_PUT:
		return put(m, op);
	case MODEL_SET_MODE:
		return set_mode(m, op);
	case MODEL_MOVE:
		return move(m, op);
	case MODEL_TRASH:
		return trash(m, op);
	case MODEL_RESTORE:
		return take_back(m, op);
	}
	return (struct model_result){.err = E_INVALID};
}

struct node_facts model_facts(const struct model *m, const struct model_node *n)
{
	struct node_facts f = {
	    .id = n->id, .parent = n->parent, .kind = n->kind, .name = n->name, .executable = n->executable};
	const struct model_version *v = n->head ? model_version(m, n->head) : NULL;
	if (v) {
		f.version_id = v->id;
		f.version = v->number;
		f.size_bytes = v->size_bytes;
		f.checksum = v->checksum;
	}
	return f;
}

static void put_with_parents(const struct model *m, const struct model_node *n, struct tree *t)
{
	if (!tree_get(t, n->parent))
		put_with_parents(m, find(m, n->parent), t);
	struct node_facts f = model_facts(m, n);
	must(tree_put(t, &f) != NULL);
}

void model_feed(const struct model *m, int64_t since, struct tree *t)
{
	for (size_t i = 0; i < m->n_log; i++) { /* in the order of the log, so that no move is refused */
		const struct model_change *c = &m->log[i];
		const struct model_node *n = c->seq > since ? find(m, c->id) : NULL;
		if (n && !live(m, n))
			tree_remove(t, n->id);
	}
	/* What moved goes to the root first: places of now and of then together need not form a tree. */
	for (size_t i = 1; i < m->n; i++) {
		const struct model_node *n = &m->nodes[i];
		const struct node *known = n->seq > since ? tree_get(t, n->id) : NULL;
		if (known && known->f.parent != n->parent) {
			struct node_facts f = known->f;
			f.parent = TREE_ROOT;
			must(tree_put(t, &f) != NULL);
		}
	}
	for (size_t i = 1; i < m->n; i++) {
		const struct model_node *n = &m->nodes[i];
		if (live(m, n) && (n->seq > since || !tree_get(t, n->id)))
			put_with_parents(m, n, t);
	}
}
