#include "client/scan.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/name.h"
#include "client/tasks.h"
#include "reconcile/plan.h"

enum { READ_BYTES = 256 << 10, READERS = 4 /* besides the caller */, WORTH_A_READER = 50 };

struct found {
	struct root_entry e;
	struct found *up, *next; /* next in breadth-first order */
	const struct node *node; /* the old node this is; NULL: new */
	bool unknown;            /* a folder that could not be listed, or an entry that is no file or folder */
	bool passing;            /* left alone */
	bool kept;               /* could not be read: keep the old facts */
	int read_err;
	int64_t id;
	struct sha256 checksum;
	bool untrusted;          /* its stamp must not be believed next time */
};

struct scanner {
	struct ctx *ctx;
	struct root *root;
	const struct tree *old;
	struct scan_result *out;
	struct found *first, *last, *top;
	struct map old_by_ino; /* hash of (dev, ino) -> old node */
	struct map claimed;    /* old ids that were found */
	int64_t *next_id;
	bool patient;
	size_t cap_problems;
};

static uint64_t ino_key(const struct disk_stamp *s)
{
	return s->ino * UINT64_C(0x9e3779b97f4a7c15) ^ s->dev;
}

static void problem(struct scanner *s, struct str path, const char *what)
{
	struct scan_result *r = s->out;
	if (r->n_problems == s->cap_problems) {
		s->cap_problems = s->cap_problems ? s->cap_problems * 2 : 16;
		struct scan_problem *more = arena_many(s->ctx->arena, s->cap_problems, struct scan_problem);
		if (r->n_problems)
			memcpy(more, r->problems, r->n_problems * sizeof(*more));
		r->problems = more;
	}
	r->problems[r->n_problems++] = (struct scan_problem){arena_str(s->ctx->arena, path), what};
}

static struct str path_in(struct arena *a, const struct found *f)
{
	if (!f->up)
		return STR("");
	struct str up = path_in(a, f->up);
	return up.n ? arena_fmt(a, "%.*s/%.*s", STR_ARG(up), STR_ARG(f->e.name)) : arena_str(a, f->e.name);
}

static struct str path_of(struct scanner *s, const struct found *f)
{
	return path_in(s->ctx->arena, f);
}

static void add(struct scanner *s, struct found *up, const struct root_entry *e)
{
	struct found *f = arena_new(s->ctx->arena, struct found);
	f->e = *e;
	f->up = up;
	if (s->last)
		s->last->next = f;
	else
		s->first = f;
	s->last = f;
}

/* Lists everything, folders first come. */
static int list_all(struct scanner *s)
{
	struct root_entry top = {.name = STR(""), .kind = ENTRY_FOLDER};
	add(s, NULL, &top);
	s->top = s->first;
	for (struct found *f = s->first; f; f = f->next) {
		struct root_entry *entries;
		size_t n;
		if (f->e.kind != ENTRY_FOLDER || f->unknown)
			continue;
		struct str path = path_of(s, f);
		int err = s->root->ops->list(s->root, s->ctx, path, &entries, &n);
		if (err && !f->up)
			return err;
		if (err) {
			ctx_clear(s->ctx);
			f->unknown = true;
			problem(s, path, "the folder cannot be read; check its permissions");
			continue;
		}
		for (size_t i = 0; i < n; i++) {
			if (name_problem(entries[i].name))
				problem(s, arena_fmt(s->ctx->arena, "%.*s/%.*s", STR_ARG(path), STR_ARG(entries[i].name)),
				        "the name cannot be synced (not UTF-8, or control characters); rename it");
			else
				add(s, f, &entries[i]);
		}
	}
	return 0;
}

static enum node_kind kind_of(const struct found *f)
{
	return f->e.kind == ENTRY_FOLDER ? NODE_FOLDER : NODE_FILE;
}

static bool is_claimed(const struct scanner *s, const struct node *n)
{
	return map_get(&s->claimed, (uint64_t)n->f.id) != NULL;
}

static void claim(struct scanner *s, struct found *f, const struct node *n)
{
	f->node = n;
	f->id = n->f.id;
	map_put(&s->claimed, (uint64_t)n->f.id, f);
}

static const struct node *old_by_inode(const struct scanner *s, const struct found *f)
{
	const struct node *n = map_get(&s->old_by_ino, ino_key(&f->e.stamp));
	if (!n || n->f.kind != kind_of(f) || n->f.stamp.ino != f->e.stamp.ino || n->f.stamp.dev != f->e.stamp.dev)
		return NULL;
	if (n->f.stamp.birth_ns && f->e.stamp.birth_ns)
		return n->f.stamp.birth_ns == f->e.stamp.birth_ns ? n : NULL;
	/* Without birth times an inode may have been used again; a renamed file is at least otherwise untouched. */
	return n->f.kind == NODE_FOLDER || stamp_same_file(&n->f.stamp, &f->e.stamp) ? n : NULL;
}

static const struct node *old_by_name(const struct scanner *s, const struct found *f)
{
	if (!f->up->node)
		return NULL;
	const struct node *n = tree_child_exact(s->old, f->up->node->f.id, f->e.name);
	return n && n->f.kind == kind_of(f) ? n : NULL;
}

static void index_old(struct scanner *s)
{
	for (struct node *n = s->old->root; n; n = tree_walk(s->old->root, n))
		if (n->up && n->f.stamp.ino)
			map_put(&s->old_by_ino, ino_key(&n->f.stamp), n);
}

static void match_folders(struct scanner *s)
{
	claim(s, s->top, s->old->root);
	for (struct found *f = s->first->next; f; f = f->next) {
		if (f->e.kind != ENTRY_FOLDER)
			continue;
		const struct node *n = old_by_inode(s, f);
		if (!n || is_claimed(s, n))
			n = old_by_name(s, f);
		if (n && !is_claimed(s, n) && n->up)
			claim(s, f, n);
	}
}

static void match_files(struct scanner *s)
{
	for (int pass = 0; pass < 3; pass++) {
		for (struct found *f = s->first; f; f = f->next) {
			if (f->e.kind != ENTRY_FILE || f->node)
				continue;
			const struct node *there = old_by_name(s, f), *same = old_by_inode(s, f);
			const struct node *n = there;
			if (pass == 0 && same && same != there)
				n = NULL;
			else if (pass == 1)
				n = same;
			if (n && !is_claimed(s, n))
				claim(s, f, n);
		}
	}
}

/* New files that only pass by are as if they were not there. */
static void leave_passing(struct scanner *s)
{
	for (struct found *f = s->first; f; f = f->next)
		f->passing = f->e.kind == ENTRY_FILE && !f->node && plan_is_passing(f->e.name);
}

/* How long ago it was last changed. A stamp from far in the future is that of a clock which was set back: it is old. */
static bool is_younger(const struct root_entry *e, int64_t now_ns, int64_t ms)
{
	int64_t age_ns = now_ns - e->stamp.ctime_ns;
	return age_ns > -(int64_t)SECONDS_US(1) * 1000 && age_ns < ms * 1000000;
}

/* E_CHANGED: it changed while it was read, or is being written. */
static int hash_file(struct ctx *ctx, struct root *root, bool patient, struct str path, char *block, struct root_entry *entry,
                     struct sha256 *out)
{
	struct root_file *file;
	struct root_entry after;
	size_t got = 0;
	int64_t total = 0;
	int err = root->ops->open(root, ctx, path, &file, entry);
	if (err)
		return err;
	if (patient && is_younger(entry, clock_now(ctx->clock) * 1000, SCAN_WRITING_MS) && root->ops->is_written(file)) {
		root->ops->close(file);
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" is being written", STR_ARG(path));
	}
	struct sha256_state *sha = sha256_new();
	while (!err && total < entry->stamp.size_bytes) {
		err = root->ops->read(file, block, READ_BYTES, &got);
		if (!err)
			sha256_update(sha, block, got);
		total += (int64_t)got;
		if (!got)
			break;
	}
	*out = sha256_final(sha);
	if (!err)
		err = root->ops->file_stat(file, &after);
	if (!err && (!stamp_same(&after.stamp, &entry->stamp) || total != entry->stamp.size_bytes))
		err = ctx_fail(ctx, E_CHANGED, "\"%.*s\" changes while it is read", STR_ARG(path));
	root->ops->close(file);
	sha256_free(sha);
	return err;
}

/* What has to be read, and by whom: everybody takes the next one until there are no more. */
struct readings {
	struct scanner *s;
	struct found **files;
	size_t n;
	_Atomic size_t next;
};

struct reader {
	struct task task; /* first */
	struct readings *all;
};

static void read_files(struct task *self)
{
	struct readings *all = ((struct reader *)self)->all;
	struct arena arena;
	struct ctx ctx;
	arena_init(&arena);
	ctx_init(&ctx, &arena, all->s->ctx->clock, all->s->ctx->rng);
	char *block = malloc(READ_BYTES);
	must(block != NULL);
	for (size_t i; (i = all->next++) < all->n;) {
		struct found *f = all->files[i];
		struct root_entry entry = f->e;
		int64_t now_ns = clock_now(ctx.clock) * 1000;
		f->read_err = hash_file(&ctx, all->s->root, all->s->patient, path_in(&arena, f), block, &entry, &f->checksum);
		if (!f->read_err) {
			entry.name = f->e.name;
			f->e = entry;
		}
		/* A change within the tick of the file system's clock would not show in the stamp. */
		f->untrusted = is_younger(&f->e, now_ns, SCAN_SETTLE_MS);
		ctx_clear(&ctx);
		arena_reset(&arena);
	}
	free(block);
	arena_fini(&arena);
}

/* Everything whose stamp is not the one that is known. */
static struct readings to_read(struct scanner *s)
{
	struct readings all = {.s = s};
	size_t cap = 0;
	for (struct found *f = s->first->next; f; f = f->next) {
		const struct node *n = f->node;
		if (f->passing || f->e.kind != ENTRY_FILE)
			continue;
		if (n && stamp_same(&n->f.stamp, &f->e.stamp)) {
			f->checksum = n->f.checksum;
			continue;
		}
		if (all.n == cap) {
			cap = cap ? cap * 2 : 64;
			all.files = realloc(all.files, cap * sizeof *all.files);
			must(all.files != NULL);
		}
		all.files[all.n++] = f;
	}
	return all;
}

static void note_reading(struct scanner *s, struct found *f)
{
	s->out->unsettled |= f->untrusted || f->read_err;
	f->kept = f->read_err != 0;
	if (!f->read_err) {
		s->out->hashed++;
		s->out->hashed_bytes += f->e.stamp.size_bytes;
	} else if (f->read_err != E_CHANGED && f->read_err != E_NOT_FOUND) {
		problem(s, path_of(s, f), "the file cannot be read; check its permissions");
	}
}

static void read_all(struct scanner *s, struct lane *lane)
{
	struct readings all = to_read(s);
	struct reader readers[READERS] = {{.all = &all}, {.all = &all}, {.all = &all}, {.all = &all}}, own = {.all = &all};
	struct tasks tasks;
	tasks_init(&tasks, lane);
	for (size_t i = 0; lane && i < READERS && all.n > (i + 1) * WORTH_A_READER; i++)
		tasks_add(&tasks, &readers[i].task, read_files);
	read_files(&own.task);
	tasks_wait(&tasks, 0, NULL, NULL);
	tasks_fini(&tasks);
	for (size_t i = 0; i < all.n; i++)
		note_reading(s, all.files[i]);
	free(all.files);
}

static bool put(struct scanner *s, const struct found *f)
{
	struct node_facts facts = {.id = f->id, .parent = f->up->id, .kind = kind_of(f), .name = f->e.name};
	if (f->kept && !f->node)
		return false; /* new and not readable yet: as if it were not there */
	if (f->kept) {
		facts = f->node->f;
		facts.parent = f->up->id;
		facts.name = f->e.name;
	} else {
		facts.stamp = f->e.stamp;
		facts.executable = f->e.executable;
		facts.checksum = f->checksum;
		facts.size_bytes = facts.kind == NODE_FILE ? f->e.stamp.size_bytes : 0;
		facts.mtime_us = f->e.stamp.mtime_ns / 1000;
		if (f->untrusted)
			facts.stamp.ctime_ns = 0; /* equals nothing: read again next time, and no plan acts on it */
	}
	return tree_put(&s->out->tree, &facts) != NULL;
}

/* What the old tree had below a place we could not look into stays, unless it was found elsewhere. */
static void keep_below(struct scanner *s, const struct node *top, int64_t parent)
{
	for (const struct node *n = top->first; n; n = n->next) {
		if (is_claimed(s, n))
			continue;
		struct node_facts facts = n->f;
		facts.parent = parent;
		if (tree_put(&s->out->tree, &facts))
			keep_below(s, n, n->f.id);
	}
}

static void keep_at(struct scanner *s, const struct found *f)
{
	const struct node *n = f->up->node ? tree_child_exact(s->old, f->up->node->f.id, f->e.name) : NULL;
	problem(s, path_of(s, f), "symbolic links, special files and mount points are not synced");
	if (!n || is_claimed(s, n))
		return;
	struct node_facts facts = n->f;
	facts.parent = f->up->id;
	if (tree_put(&s->out->tree, &facts))
		keep_below(s, n, n->f.id);
}

int scan_run(struct ctx *ctx, struct root *root, struct lane *lane, const struct tree *old, int64_t *next_id,
             bool patient, struct scan_result *out)
{
	struct scanner s = {.ctx = ctx, .root = root, .old = old, .out = out, .next_id = next_id, .patient = patient};
	*out = (struct scan_result){0};
	int err = root->ops->check(root, ctx);
	if (!err)
		err = list_all(&s);
	if (err)
		return err;
	tree_init(&out->tree);
	index_old(&s);
	match_folders(&s);
	match_files(&s);
	leave_passing(&s);
	read_all(&s, lane);
	for (struct found *f = s.first->next; f; f = f->next) {
		if (f->passing)
			continue;
		if (!f->node && f->e.kind != ENTRY_OTHER)
			f->id = --*next_id;
		if (f->e.kind != ENTRY_OTHER)
			put(&s, f);
	}
	for (struct found *f = s.first->next; f; f = f->next) {
		if (f->e.kind == ENTRY_OTHER)
			keep_at(&s, f);
		else if (f->unknown && f->node)
			keep_below(&s, f->node, f->id);
	}
	map_fini(&s.old_by_ino);
	map_fini(&s.claimed);
	/* The root may have been unmounted while we looked: then what we saw means nothing. */
	err = root->ops->check(root, ctx);
	if (err)
		tree_fini(&out->tree);
	return err;
}
