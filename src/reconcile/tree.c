#include "reconcile/tree.h"

#include <stdlib.h>

#include "base/must.h"
#include "base/mutant.h"
#include "base/name.h"

static uint64_t name_hash(int64_t parent, struct str key)
{
	return xxh3_64(key.p, key.n) ^ ((uint64_t)parent * UINT64_C(0x9e3779b97f4a7c15));
}

static void *must_alloc(size_t n)
{
	void *p = calloc(1, n);
	must(p != NULL);
	return p;
}

/* Both names and the key in one block, which f.name begins; a key that equals the name is the name. */
static void set_names(struct tree *t, struct node *n, const struct node_facts *facts)
{
	struct str key = name_key(&t->scratch, facts->name);
	size_t shared = str_eq(key, facts->name) ? 0 : key.n + 1;
	char *block = must_alloc(facts->name.n + 1 + shared + facts->local_name.n), *old = (char *)(uintptr_t)n->f.name.p;
	struct str name = str_n(memcpy(block, facts->name.p, facts->name.n), facts->name.n), local_name = STR_NULL;
	char *at = block + name.n + 1;
	if (shared)
		memcpy(at, key.p, key.n);
	if (facts->local_name.p)
		local_name = str_n(memcpy(at + shared, facts->local_name.p, facts->local_name.n), facts->local_name.n);
	n->key = shared ? str_n(at, key.n) : name;
	arena_reset(&t->scratch);
	n->f = *facts;
	n->f.name = name;
	n->f.local_name = local_name;
	free(old);
}

static void node_free(struct node *n)
{
	free((void *)(uintptr_t)n->f.name.p);
	free(n);
}

void tree_init(struct tree *t)
{
	*t = (struct tree){0};
	t->root = must_alloc(sizeof(*t->root));
	set_names(t, t->root, &(struct node_facts){.id = TREE_ROOT, .kind = NODE_FOLDER, .name = STR("")});
	map_put(&t->by_id, TREE_ROOT, t->root);
	t->all_touched = true;
}

void tree_init_flat(struct tree *t)
{
	tree_init(t);
	t->flat = true;
}

void tree_fini(struct tree *t)
{
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&t->by_id, &i, &key, &value);)
		node_free(value);
	map_fini(&t->by_id);
	map_fini(&t->by_name);
	for (size_t i = 0; map_next(&t->causes, &i, &key, &value);)
		free(value);
	map_fini(&t->causes);
	map_fini(&t->touched);
	arena_fini(&t->scratch);
	*t = (struct tree){0};
}

struct node *tree_get(const struct tree *t, int64_t id)
{
	return map_get(&t->by_id, (uint64_t)id);
}

void tree_touch(struct tree *t, int64_t id)
{
	if (!t->all_touched)
		map_put(&t->touched, (uint64_t)id, t);
}

void tree_touch_all(struct tree *t)
{
	map_fini(&t->touched);
	t->all_touched = true;
}

void tree_succeed(struct tree *now, struct tree *old)
{
	struct map causes = now->causes;
	now->causes = old->causes;
	old->causes = causes;
	if (old->all_touched)
		return;
	map_fini(&now->touched);
	now->touched = old->touched;
	now->all_touched = false;
	old->touched = (struct map){0};
}

static void link_node(struct tree *t, struct node *n, struct node *up)
{
	n->up = up;
	n->prev = NULL;
	n->next = up->first;
	if (up->first)
		up->first->prev = n;
	up->first = n;
	uint64_t h = name_hash(up->f.id, n->key);
	n->twin = map_get(&t->by_name, h);
	map_put(&t->by_name, h, n);
}

static void unlink_node(struct tree *t, struct node *n)
{
	if (n->prev)
		n->prev->next = n->next;
	else
		n->up->first = n->next;
	if (n->next)
		n->next->prev = n->prev;
	uint64_t h = name_hash(n->up->f.id, n->key);
	struct node *head = map_get(&t->by_name, h);
	if (head == n) {
		if (n->twin)
			map_put(&t->by_name, h, n->twin);
		else
			map_del(&t->by_name, h);
	} else {
		while (head->twin != n)
			head = head->twin;
		head->twin = n->twin;
	}
	n->twin = n->prev = n->next = n->up = NULL;
}

struct node *tree_put(struct tree *t, const struct node_facts *facts)
{
	struct node *up = tree_get(t, facts->parent), *n = tree_get(t, facts->id);
	if (facts->id == TREE_ROOT || (!t->flat && (!up || up->f.kind != NODE_FOLDER)))
		return NULL;
	if (n) {
		if (n->f.kind != facts->kind || (!t->flat && tree_is_below(up, n)))
			return NULL;
		if (!t->flat)
			unlink_node(t, n);
	} else {
		n = must_alloc(sizeof(*n));
		map_put(&t->by_id, (uint64_t)facts->id, n);
		t->count++;
	}
	if (!mutant(M_TREE_MOVE_UNTOUCHED) || n->f.parent == facts->parent)
		tree_touch(t, facts->id);
	set_names(t, n, facts);
	if (!t->flat)
		link_node(t, n, up);
	return n;
}

size_t tree_put_all(struct tree *t, const struct node_facts *facts, size_t n)
{
	struct map waiting = {0}; /* id -> facts not yet put */
	const struct node_facts **stack = must_alloc((n + 1) * sizeof(*stack));
	size_t unplaced = 0;
	for (size_t i = 0; i < n; i++)
		map_put(&waiting, (uint64_t)facts[i].id, (void *)(uintptr_t)&facts[i]);
	for (size_t i = 0; i < n; i++) {
		size_t depth = 0;
		const struct node_facts *f = map_get(&waiting, (uint64_t)facts[i].id);
		for (; f; f = t->flat ? NULL : map_get(&waiting, (uint64_t)f->parent)) {
			map_del(&waiting, (uint64_t)f->id); /* each is taken once, so a cycle ends */
			stack[depth++] = f;
		}
		while (depth)
			unplaced += tree_put(t, stack[--depth]) == NULL;
	}
	map_fini(&waiting);
	free(stack);
	return unplaced;
}

bool tree_remove(struct tree *t, int64_t id)
{
	struct node *n = tree_get(t, id);
	if (!n || n == t->root)
		return false;
	while (n->first) { /* leaves first, without recursion: depth is the peer's choice */
		struct node *leaf = n->first;
		while (leaf->first)
			leaf = leaf->first;
		tree_touch(t, leaf->f.id);
		unlink_node(t, leaf);
		map_del(&t->by_id, (uint64_t)leaf->f.id);
		t->count--;
		node_free(leaf);
	}
	tree_touch(t, id);
	if (!t->flat)
		unlink_node(t, n);
	map_del(&t->by_id, (uint64_t)id);
	t->count--;
	node_free(n);
	return true;
}

bool tree_rename_id(struct tree *t, int64_t id, int64_t new_id)
{
	struct node *n = tree_get(t, id);
	if (!n || n == t->root || tree_get(t, new_id))
		return false;
	void *cause = map_del(&t->causes, (uint64_t)id);
	if (cause)
		free(map_put(&t->causes, (uint64_t)new_id, cause));
	tree_touch(t, id);
	tree_touch(t, new_id);
	if (t->flat) {
		map_del(&t->by_id, (uint64_t)id);
		n->f.id = new_id;
		map_put(&t->by_id, (uint64_t)new_id, n);
		return true;
	}
	/* Children are indexed by the parent's id, so each is taken out and put back. */
	struct node *up = n->up, *children = NULL;
	while (n->first) {
		struct node *c = n->first;
		unlink_node(t, c);
		c->next = children;
		children = c;
	}
	unlink_node(t, n);
	map_del(&t->by_id, (uint64_t)id);
	n->f.id = new_id;
	map_put(&t->by_id, (uint64_t)new_id, n);
	link_node(t, n, up);
	while (children) {
		struct node *c = children;
		children = c->next;
		c->f.parent = new_id;
		tree_touch(t, c->f.id);
		link_node(t, c, n);
	}
	return true;
}

void tree_set_cause(struct tree *t, int64_t id, const struct node_cause *cause)
{
	struct node_cause *c = must_alloc(sizeof(*c) + cause->by.n);
	*c = *cause;
	if (cause->by.p) {
		memcpy(c + 1, cause->by.p, cause->by.n);
		c->by.p = (const char *)(c + 1);
	}
	free(map_put(&t->causes, (uint64_t)id, c));
}

void tree_forget_cause(struct tree *t, int64_t id)
{
	free(map_del(&t->causes, (uint64_t)id));
}

const struct node_cause *tree_cause(const struct tree *t, int64_t id)
{
	return map_get(&t->causes, (uint64_t)id);
}

static struct node *same_key(struct node *n, int64_t parent, struct str key)
{
	while (n && (n->up->f.id != parent || !str_eq(n->key, key)))
		n = n->twin;
	return n;
}

struct node *tree_child_by_key(const struct tree *t, int64_t parent, struct str key)
{
	return same_key(map_get(&t->by_name, name_hash(parent, key)), parent, key);
}

struct node *tree_twin(const struct node *n)
{
	return same_key(n->twin, n->up->f.id, n->key);
}

struct node *tree_child_exact(const struct tree *t, int64_t parent, struct str name)
{
	struct arena a;
	arena_init(&a);
	struct node *n = tree_child_by_key(t, parent, name_key(&a, name));
	arena_fini(&a);
	while (n && !str_eq(n->f.name, name))
		n = tree_twin(n);
	return n;
}

bool tree_is_below(const struct node *n, const struct node *ancestor)
{
	for (; n; n = n->up)
		if (n == ancestor)
			return true;
	return false;
}

int tree_depth(const struct node *n)
{
	int depth = 0;
	for (; n->up; n = n->up)
		depth++;
	return depth;
}

struct node *tree_walk(const struct node *top, const struct node *at)
{
	if (at->first)
		return at->first;
	while (at != top && !at->next)
		at = at->up;
	return at == top ? NULL : at->next;
}

struct str tree_path(struct arena *a, const struct node *n)
{
	if (!n->up)
		return STR("/");
	size_t size = 0;
	for (const struct node *p = n; p->up; p = p->up)
		size += 1 + p->f.name.n;
	char *path = arena_alloc(a, size + 1);
	size_t at = size;
	for (const struct node *p = n; p->up; p = p->up) {
		at -= p->f.name.n;
		memcpy(path + at, p->f.name.p, p->f.name.n);
		path[--at] = '/';
	}
	return str_n(path, size);
}

bool node_same_content(const struct node_facts *a, const struct node_facts *b)
{
	if (a->kind != b->kind)
		return false;
	return a->kind == NODE_FOLDER || (a->size_bytes == b->size_bytes && sha256_eq(&a->checksum, &b->checksum));
}

struct str node_local_name(const struct node_facts *synced)
{
	return synced->local_name.p ? synced->local_name : synced->name;
}
