/* A file system in memory. Names are a journal: a power failure keeps a prefix of their changes, from the last sync on, as
 * ext4, XFS and btrfs do. Bytes are not in that journal: a file that was not synced keeps its last durable bytes or the
 * present ones, each with the stamps that belong to them. Stamps have the granularity of a kernel's tick, inode numbers are
 * used again. */
#include "base/must.h"
#include "base/name.h"
#include "sim.h"

static int64_t now_ns(const struct fs *f)
{
	int64_t ns = clock_now(&f->clock->clock) * 1000;
	return ns - ns % f->tick_ns;
}

static struct names copy_names(struct fs *f, struct names from)
{
	struct names to = {arena_many(&f->sim->arena, from.n + 1, struct dent), from.n};
	if (from.n)
		memcpy(to.v, from.v, from.n * sizeof(*to.v));
	return to;
}

/* Before a change to names. */
static void remember(struct fs *f)
{
	if (f->n_past == f->cap_past) {
		f->cap_past = f->cap_past ? f->cap_past * 2 : 16;
		struct names *more = arena_many(&f->sim->arena, f->cap_past, struct names);
		if (f->n_past)
			memcpy(more, f->past, f->n_past * sizeof(*more));
		f->past = more;
	}
	f->past[f->n_past++] = f->live;
	f->live = copy_names(f, f->live);
}

static struct dent *find_dent(const struct fs *f, const struct inode *dir, struct str name)
{
	struct str key = f->fold ? name_key(&f->sim->arena, name) : name;
	for (size_t i = 0; i < f->live.n; i++) {
		struct dent *d = &f->live.v[i];
		if (d->dir == dir && str_eq(f->fold ? d->key : d->name, key))
			return d;
	}
	return NULL;
}

struct inode *fs_child(const struct fs *f, const struct inode *dir, struct str name)
{
	struct dent *d = dir ? find_dent(f, dir, name) : NULL;
	return d ? d->node : NULL;
}

struct inode *fs_find(const struct fs *f, struct str path)
{
	struct inode *at = f->root;
	while (at && path.n)
		at = fs_child(f, at, str_cut(&path, '/'));
	return at;
}

struct inode *fs_parent(const struct fs *f, struct str path, struct str *name)
{
	ptrdiff_t slash = str_rchr(path, '/');
	*name = str_skip(path, slash < 0 ? 0 : (size_t)slash + 1);
	struct inode *dir = slash < 0 ? f->root : fs_find(f, str_head(path, (size_t)slash));
	return dir && dir->is_folder ? dir : NULL;
}

struct dent *fs_dent(const struct fs *f, const struct inode *node)
{
	for (size_t i = 0; i < f->live.n; i++)
		if (f->live.v[i].node == node)
			return &f->live.v[i];
	return NULL;
}

bool fs_is_below(const struct fs *f, const struct inode *node, const struct inode *top)
{
	while (node && node != top) {
		const struct dent *d = fs_dent(f, node);
		node = d ? d->dir : NULL;
	}
	return node == top;
}

static void link_name(struct fs *f, struct inode *dir, struct str name, struct inode *node)
{
	struct arena *a = &f->sim->arena;
	f->live.v[f->live.n++] = (struct dent){dir, arena_str(a, name), name_key(a, name), node};
	dir->mtime_ns = dir->ctime_ns = now_ns(f);
}

/* The names behind move up, so that listing is in the order of making. */
static struct inode *unlink_name(struct fs *f, struct inode *dir, struct str name)
{
	struct dent *d = find_dent(f, dir, name);
	must(d != NULL);
	struct inode *node = d->node;
	size_t at = (size_t)(d - f->live.v);
	memmove(d, d + 1, (f->live.n - at - 1) * sizeof(*d));
	f->live.n--;
	dir->mtime_ns = dir->ctime_ns = now_ns(f);
	return node;
}

static void forget_inode(struct fs *f, struct inode *node)
{
	if (f->space >= 0)
		f->space++;
	if (f->n_free_inos < sizeof(f->free_inos) / sizeof(f->free_inos[0]))
		f->free_inos[f->n_free_inos++] = node->ino;
}

static struct inode *new_inode(struct fs *f, bool is_folder)
{
	struct inode *n = arena_new(&f->sim->arena, struct inode);
	bool again = f->n_free_inos > 0 && rng_below(&f->sim->rng.base, 2);
	n->ino = again ? f->free_inos[--f->n_free_inos] : f->next_ino++;
	n->is_folder = is_folder;
	n->birth_ns = n->mtime_ns = n->ctime_ns = n->durable_mtime_ns = n->durable_ctime_ns = now_ns(f);
	n->content = n->durable_content = 0; /* the empty one */
	return n;
}

int fs_make(struct fs *f, struct inode *dir, struct str name, bool is_folder, struct inode **out)
{
	if (find_dent(f, dir, name))
		return E_CONFLICT;
	if (f->space == 0)
		return E_NO_SPACE;
	if (f->space > 0)
		f->space--;
	remember(f);
	*out = new_inode(f, is_folder);
	link_name(f, dir, name, *out);
	return 0;
}

void fs_write(struct fs *f, struct inode *file, int content)
{
	file->content = content;
	file->by_client = false;
	file->mtime_ns = file->ctime_ns = now_ns(f);
}

void fs_rename(struct fs *f, struct inode *dir, struct str name, struct inode *to_dir, struct str to_name)
{
	remember(f);
	struct inode *node = unlink_name(f, dir, name);
	struct dent *there = find_dent(f, to_dir, to_name);
	if (there)
		forget_inode(f, unlink_name(f, to_dir, to_name));
	link_name(f, to_dir, to_name, node);
	node->ctime_ns = now_ns(f);
}

void fs_exchange(struct fs *f, struct inode *dir, struct str name, struct inode *to_dir, struct str to_name)
{
	remember(f);
	struct dent *a = find_dent(f, dir, name), *b = find_dent(f, to_dir, to_name);
	must(a && b);
	struct inode *node = a->node;
	a->node = b->node;
	b->node = node;
	a->node->ctime_ns = b->node->ctime_ns = now_ns(f);
}

void fs_unlink(struct fs *f, struct inode *dir, struct str name)
{
	remember(f);
	forget_inode(f, unlink_name(f, dir, name));
}

void fs_set_executable(struct fs *f, struct inode *file, bool on)
{
	file->executable = on;
	file->ctime_ns = now_ns(f);
}

void fs_sync_file(struct fs *f, struct inode *file)
{
	(void)f;
	file->durable_content = file->content;
	file->durable_mtime_ns = file->mtime_ns;
	file->durable_ctime_ns = file->ctime_ns;
	file->durable_executable = file->executable;
	file->synced = true;
}

void fs_sync_names(struct fs *f)
{
	f->n_past = 0;
}

void fs_sync_all(struct fs *f)
{
	for (size_t i = 0; i < f->live.n; i++)
		fs_sync_file(f, f->live.v[i].node);
	fs_sync_names(f);
}

void fs_power_fails(struct fs *f, struct rng *rng)
{
	size_t keep = rng_below(rng, f->n_past + 1);
	if (keep < f->n_past)
		f->live = f->past[keep];
	f->n_past = 0;
	f->n_free_inos = 0;
	f->epoch++;
	for (size_t i = 0; i < f->live.n; i++) {
		struct inode *n = f->live.v[i].node;
		/* What nobody could see from outside is left out: other bytes under the same stamp. */
		bool same_tick = n->durable_ctime_ns == n->ctime_ns && n->durable_mtime_ns == n->mtime_ns && n->synced;
		bool present = n->is_folder || rng_below(rng, 2) || same_tick;
		if (present) {
			fs_sync_file(f, n);
			continue;
		}
		if (n->by_client && !n->synced && !fs_is_below(f, n, f->own)) {
			sim_violation(f->sim, "the client put \"%.*s\" in its place before its bytes were durable", STR_ARG(f->live.v[i].name));
			return;
		}
		n->content = n->durable_content;
		n->mtime_ns = n->durable_mtime_ns;
		n->ctime_ns = n->durable_ctime_ns;
		n->executable = n->durable_executable;
		n->synced = true;
	}
}

static void list_below(const struct fs *f, const struct inode *dir, struct str path, struct seen *out, size_t *n)
{
	for (size_t i = 0; i < f->live.n; i++) {
		struct dent *d = &f->live.v[i];
		if (d->dir != dir || d->node == f->own)
			continue;
		struct str at = path.n ? arena_fmt(&f->sim->arena, "%.*s/%.*s", STR_ARG(path), STR_ARG(d->name)) : d->name;
		out[(*n)++] = (struct seen){at, d->node, d};
		if (d->node->is_folder)
			list_below(f, d->node, at, out, n);
	}
}

size_t fs_list(const struct fs *f, struct seen **out)
{
	size_t n = 0;
	*out = arena_many(&f->sim->arena, f->live.n + 1, struct seen);
	list_below(f, f->root, STR(""), *out, &n);
	return n;
}

void fs_init(struct fs *f, struct sim *s, struct sim_clock *clock)
{
	*f = (struct fs){.sim = s, .clock = clock, .next_ino = 100, .space = -1};
	f->tick_ns = (const int64_t[]){1000000, 4000000, 10000000}[rng_below(&s->rng.base, 3)];
	f->live = (struct names){arena_many(&s->arena, 1, struct dent), 0};
	f->root = new_inode(f, true);
	must(fs_make(f, f->root, STR(ROOT_OWN_NAME), true, &f->own) == 0);
	must(fs_make(f, f->own, STR("staging"), true, &f->staging) == 0);
	must(fs_make(f, f->own, STR("trash"), true, &f->trash) == 0);
	fs_sync_all(f);
}
