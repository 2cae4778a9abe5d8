/* sim --trace FILE: what `scaidrive export-trace` wrote (docs/integrate/trace.md) becomes the start of the planner's
 * world (reconcile/world_testing.h): its server, its disk and what both agreed on. It is planned and carried out there
 * until all is in step, each plan is printed, and the world's checks hold or fail.
 *
 * Contents are numbers, equal where the trace's hashes are. Hashed names become twelve letters made from the key, so that
 * names of one key are told apart by capitals alone. What the trace does not tell is as plain as can be: versions between
 * the agreed and the present one are one, what was deleted on the server lies in its trash. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/json.h"
#include "base/must.h"
#include "base/name.h"
#include "reconcile/world_testing.h"
#include "sim.h"

enum { REMOTE, LOCAL, SYNCED, TREES, KEY_DIGITS = 12, SOMEBODY = 2 };

#define ID_MAX (INT64_MAX - (INT64_C(1) << 32)) /* the world gives ids above those that it finds */

static const char *const tree_names[] = {"remote", "local", "synced"};

struct row {
	int line;
	struct node_facts f;
};

struct rows {
	struct row *v;
	size_t n, cap;
	struct map by_id; /* -> index + 1 */
};

struct trace {
	const char *file;
	int line;
	bool plain; /* names are written as they are */
	struct arena arena;
	struct rows trees[TREES];
	struct tree remote;
	struct smap names, variants, contents; /* hash -> name; key -> names so far; hash and size -> number */
	int64_t greatest, least;               /* ids */
	struct world *world;
};

__attribute__((format(printf, 3, 4))) static bool wrong(const struct trace *t, int line, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "%s:%d: ", t->file, line);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return false;
}

/* ---- names and contents ---- */

static bool is_hash(struct str s)
{
	uint8_t bytes[KEY_DIGITS / 2];
	return s.n == KEY_DIGITS && str_unhex(s, bytes, sizeof(bytes));
}

static bool invent_name(struct trace *t, struct str hash, struct str key, struct str *out)
{
	const char *known = smap_get(&t->names, hash);
	if (known) {
		*out = str_c(known);
		return true;
	}
	if (!is_hash(hash) || !is_hash(key))
		return wrong(t, t->line, "a hashed name and its key are 12 hexadecimal digits each");
	uintptr_t variant = (uintptr_t)smap_get(&t->variants, key);
	if (variant >> KEY_DIGITS)
		return wrong(t, t->line, "too many names have this key");
	char *name = arena_alloc(&t->arena, KEY_DIGITS + 1);
	for (size_t i = 0; i < KEY_DIGITS; i++) {
		char digit = key.p[i];
		int value = digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
		name[i] = (char)((variant >> i & 1 ? 'A' : 'a') + value);
	}
	smap_put(&t->variants, arena_str(&t->arena, key), (void *)(variant + 1));
	smap_put(&t->names, arena_str(&t->arena, hash), name);
	*out = str_c(name);
	return true;
}

static bool number_content(struct trace *t, struct sha256 *out)
{
	struct world *w = t->world;
	if (w->next_content + 1 >= WORLD_CONTENTS)
		return wrong(t, t->line, "more than %d different contents", WORLD_CONTENTS - 9);
	w->next_content++;
	*out = (struct sha256){{0}};
	memcpy(out->b, &w->next_content, sizeof(w->next_content));
	return true;
}

static bool invent_content(struct trace *t, struct str hash, int64_t size, struct sha256 *out)
{
	struct str key = arena_fmt(&t->arena, "%.*s %lld", STR_ARG(hash), (long long)size);
	struct sha256 *known = smap_get(&t->contents, key);
	if (!known) {
		known = arena_new(&t->arena, struct sha256);
		if (!number_content(t, known))
			return false;
		smap_put(&t->contents, key, known);
	}
	*out = *known;
	return true;
}

/* ---- reading ---- */

static bool whole_number(struct json_object *o, const char *key, int64_t least, int64_t most, int64_t *out)
{
	struct json_object *v = json_get(o, key);
	*out = json_value_i64(v, 0);
	return v && v->type == JSON_INT && *out >= least && *out <= most;
}

static bool read_head(struct trace *t, struct json_object *o)
{
	int64_t format, id;
	if (!whole_number(o, "trace", 1, 1, &format))
		return wrong(t, t->line, "the first line is not that of a trace of format 1");
	struct str names = json_str(o, "names");
	t->plain = str_eq(names, STR("plain"));
	if (!t->plain && !str_eq(names, STR("hashed")))
		return wrong(t, t->line, "names are neither hashed nor plain");
	if (!whole_number(o, "next_local_id", -ID_MAX, 0, &id))
		return wrong(t, t->line, "next_local_id is missing, or no number of 0 or less");
	t->least = id;
	return true;
}

static bool read_names(struct trace *t, struct json_object *o, struct node_facts *f)
{
	struct str name = json_str(o, "name"), local = json_str(o, "local_name");
	if (!name.n)
		return wrong(t, t->line, "the name is missing");
	f->local_name = arena_str(&t->arena, local); /* hashed: may be that of a later line, see take_local_names() */
	if (!t->plain)
		return invent_name(t, name, json_str(o, "key"), &f->name);
	f->name = arena_str(&t->arena, name);
	return true;
}

static bool read_file_facts(struct trace *t, struct json_object *o, int which, struct node_facts *f)
{
	int64_t size;
	if (!whole_number(o, "size", 0, INT64_MAX, &size) ||
	    !whole_number(o, "version_id", which == REMOTE ? 1 : 0, ID_MAX, &f->version_id))
		return wrong(t, t->line, "size or version_id is missing or out of range");
	struct str content = json_str(o, "content");
	if (!content.n)
		return wrong(t, t->line, "the content is missing");
	f->executable = json_flag(o, "executable", false);
	t->greatest = f->version_id > t->greatest ? f->version_id : t->greatest;
	return invent_content(t, content, size, &f->checksum);
}

static struct row *row_of(const struct rows *r, int64_t id)
{
	uintptr_t at = (uintptr_t)map_get(&r->by_id, (uint64_t)id);
	return at ? &r->v[at - 1] : NULL;
}

static bool add_row(struct trace *t, int which, const struct node_facts *f)
{
	struct rows *r = &t->trees[which];
	for (int i = 0; i < TREES; i++) {
		const struct row *known = row_of(&t->trees[i], f->id);
		if (known && i == which)
			return wrong(t, t->line, "the %s tree has this id already, in line %d", tree_names[which], known->line);
		if (known && known->f.kind != f->kind)
			return wrong(t, t->line, "this id is of another kind in line %d", known->line);
	}
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 64;
		r->v = realloc(r->v, r->cap * sizeof(*r->v));
		must(r->v != NULL);
	}
	r->v[r->n++] = (struct row){t->line, *f};
	map_put(&r->by_id, (uint64_t)f->id, (void *)(uintptr_t)r->n);
	t->greatest = f->id > t->greatest ? f->id : t->greatest;
	t->least = f->id < t->least ? f->id : t->least;
	return true;
}

static bool read_node(struct trace *t, struct json_object *o)
{
	struct node_facts f = {0};
	struct str tree = json_str(o, "tree"), kind = json_str(o, "kind");
	int which = 0;
	while (which < TREES && !str_eq(tree, str_c(tree_names[which])))
		which++;
	if (which == TREES)
		return wrong(t, t->line, "the tree is none of remote, local, synced");
	int64_t least = which == LOCAL ? -ID_MAX : 0;
	if (!whole_number(o, "id", least, ID_MAX, &f.id) || !whole_number(o, "parent", least, ID_MAX, &f.parent) || f.id == TREE_ROOT)
		return wrong(t, t->line, "id or parent is missing or out of range");
	f.kind = str_eq(kind, STR("file")) ? NODE_FILE : NODE_FOLDER;
	if (f.kind == NODE_FOLDER && !str_eq(kind, STR("folder")))
		return wrong(t, t->line, "the kind is neither file nor folder");
	if (!read_names(t, o, &f) || (f.kind == NODE_FILE && !read_file_facts(t, o, which, &f)))
		return false;
	return add_row(t, which, &f);
}

static bool read_line(struct trace *t, struct str text)
{
	AUTO_JSON *o = NULL;
	const char *fault = json_parse(text, &o);
	t->line++;
	if (fault)
		return wrong(t, t->line, "%s", fault);
	if (!o || o->type != JSON_OBJECT)
		return wrong(t, t->line, "a line is a JSON object");
	if (t->line == 1)
		return read_head(t, o);
	return json_get(o, "tree") ? read_node(t, o) : true; /* an event, or what a later program adds */
}

static bool read_all(struct trace *t)
{
	FILE *f = fopen(t->file, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	bool ok = f != NULL;
	if (!f)
		perror(t->file);
	while (ok && (n = getline(&line, &cap, f)) >= 0)
		ok = read_line(t, str_n(line, (size_t)n));
	if (ok && ferror(f))
		ok = wrong(t, t->line + 1, "it cannot be read");
	if (ok && t->line == 0)
		ok = wrong(t, 1, "it is empty");
	free(line);
	if (f)
		fclose(f);
	return ok;
}

/* ---- building ---- */

static bool take_local_names(struct trace *t)
{
	struct rows *r = &t->trees[SYNCED];
	for (size_t i = 0; i < r->n && !t->plain; i++) {
		struct str hash = r->v[i].f.local_name;
		t->line = r->v[i].line;
		if (hash.p && !invent_name(t, hash, hash, &r->v[i].f.local_name))
			return false;
	}
	return true;
}

/* Rows into a tree. */
static bool grow(struct trace *t, int which, struct tree *to)
{
	struct rows *r = &t->trees[which];
	struct node_facts *facts = arena_many(&t->arena, r->n + 1, struct node_facts);
	for (size_t i = 0; i < r->n; i++)
		facts[i] = r->v[i].f;
	tree_put_all(to, facts, r->n);
	for (size_t i = 0; i < r->n; i++) {
		struct node *n = tree_get(to, r->v[i].f.id);
		if (!n)
			return wrong(t, r->v[i].line, "its parent is no folder of the %s tree", tree_names[which]);
		const struct node *named = to->flat ? n : tree_child_exact(to, n->f.parent, n->f.name);
		if (named != n)
			return wrong(t, r->v[i].line, "line %d has the same name in the same folder", row_of(r, named->f.id)->line);
	}
	return true;
}

static struct model_op edit(enum model_verb verb, const struct node_facts *f)
{
	return (struct model_op){.verb = verb, .id = f->id, .parent = f->parent, .name = f->name, .kind = f->kind, .checksum = f->checksum,
	                         .version_id = f->version_id, .executable = f->executable, .by = SOMEBODY, .seen_seq = -1};
}

/* On top of the agreed version. Versions that the trace does not have lie between two of the same bytes. */
static bool put_version(struct trace *t, const struct node_facts *agreed, const struct node_facts *now)
{
	struct model *m = &t->world->model;
	struct model_op put = edit(MODEL_PUT, now);
	if (sha256_eq(&agreed->checksum, &now->checksum)) {
		struct model_op between = put;
		between.version_id = 0;
		if (!number_content(t, &between.checksum))
			return false;
		must(model_apply(m, &between).changed);
	}
	must(model_apply(m, &put).changed);
	return true;
}

static bool make_on_server(struct trace *t, const struct node_facts *f)
{
	const struct row *row = row_of(&t->trees[REMOTE], f->id), *agreed = row_of(&t->trees[SYNCED], f->id);
	struct model_op make = edit(MODEL_MAKE, f);
	t->line = row->line;
	bool older = agreed && f->kind == NODE_FILE && agreed->f.version_id &&
		     agreed->f.version_id != f->version_id;
	if (older) {
		make.checksum = agreed->f.checksum;
		make.version_id = agreed->f.version_id;
	}
	struct model_result r = model_apply(&t->world->model, &make);
	if (r.err)
		return wrong(t, t->line, "a server does not hold this: %s", r.err == E_NAME_CONFLICT ? "the name is taken" : "the name is not allowed");
	return !older || put_version(t, &agreed->f, f);
}

/* What was agreed and is not on the server lies in its trash, where it was, as far as that is known. */
static bool trash_on_server(struct trace *t, const struct node_facts *agreed, int line)
{
	struct model *m = &t->world->model;
	struct model_op make = edit(MODEL_MAKE, agreed);
	if (model_apply(m, &make).err) {
		make.parent = TREE_ROOT;
		make.name = arena_fmt(&t->arena, "deleted %lld", (long long)agreed->id);
		if (model_apply(m, &make).err)
			return wrong(t, line, "the trash has no room for this: \"%.*s\" is there", STR_ARG(make.name));
	}
	struct model_op trash = edit(MODEL_TRASH, agreed);
	trash.version_id = 0;
	must(model_apply(m, &trash).changed);
	return true;
}

static bool build(struct trace *t)
{
	struct world *w = t->world;
	struct tree *remote = &t->remote;
	w->model.next_id = t->greatest;
	w->next_local = t->least;
	if (!take_local_names(t) || !grow(t, REMOTE, remote) || !grow(t, LOCAL, &w->disk) || !grow(t, SYNCED, &w->synced))
		return false;
	for (struct node *n = tree_walk(remote->root, remote->root); n; n = tree_walk(remote->root, n))
		if (!make_on_server(t, &n->f))
			return false;
	const struct rows *synced = &t->trees[SYNCED];
	for (size_t i = 0; i < synced->n; i++)
		if (!tree_get(remote, synced->v[i].f.id) && !trash_on_server(t, &synced->v[i].f, synced->v[i].line))
			return false;
	model_feed(&w->model, 0, &w->server);
	w->server_seq = w->model.seq;
	return true;
}

/* ---- playing ---- */

static struct str path_of(struct world *w, const struct plan_op *op)
{
	const struct node *n = op->has_local ? tree_get(&w->view_local, op->local.id) : tree_get(&w->view_remote, op->id);
	return n ? tree_path(&w->arena, n) : arena_fmt(&w->arena, "... /%.*s", STR_ARG(op->synced.name));
}

static void print_plan(struct world *w, const struct plan *p)
{
	if (p->n)
		printf("round %zu: %zu operations, %zu wait for others\n", w->plans, p->n, p->waiting);
	for (size_t i = 0; i < p->n; i++) {
		struct str path = path_of(w, &p->ops[i]), why = plan_explain(&w->arena, &p->ops[i]);
		printf("%s %lld %.*s\n    %.*s\n", plan_verb_name(p->ops[i].verb), (long long)p->ops[i].id, STR_ARG(path), STR_ARG(why));
	}
}

static int play(struct world *w)
{
	w->on_plan = print_plan;
	world_expect(w);
	bool ok = world_settle(w);
	printf("sim: the trace %s after %zu plans: %s\n", ok ? "holds" : "fails", w->plans, ok ? "in step" : w->fault);
	return ok ? 0 : 1;
}

int trace_replay(const char *file)
{
	struct trace t = {.file = file, .world = calloc(1, sizeof(*t.world))};
	must(t.world != NULL);
	arena_init(&t.arena);
	world_init(t.world, 1);
	tree_init(&t.remote);
	int code = read_all(&t) && build(&t) ? play(t.world) : 2;
	tree_fini(&t.remote);
	for (int i = 0; i < TREES; i++) {
		free(t.trees[i].v);
		map_fini(&t.trees[i].by_id);
	}
	smap_fini(&t.names);
	smap_fini(&t.variants);
	smap_fini(&t.contents);
	world_fini(t.world);
	free(t.world);
	arena_fini(&t.arena);
	return code;
}
