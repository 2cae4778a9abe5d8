#include "io/disk_fault.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/rng.h"

enum { SECTOR = 512 };

struct bytes {
	uint8_t *p;
	size_t n, cap;
};

/* Outside from .. to the durable bytes are the live ones and need not be written in durable.p; all of them are there when a
 * sync failed, whose bytes are neither durable nor to be synced again. */
struct node {
	int refs; /* names that lead to it, and open files */
	bool is_folder, all_there;
	struct bytes live, durable;
	size_t from, to; /* written since the last sync */
};

/* A name leads to live now and to durable after a crash that loses its last changes. op: the change that made them
 * differ; both names of a rename carry the same, so it is lost or kept as a whole. */
struct name {
	char *text;
	struct node *live, *durable;
	uint64_t op;
};

struct fault_disk {
	struct disk base;
	pthread_mutex_t mu;
	struct rng_seeded rng;
	uint64_t seed, ops, epoch;
	struct name *names;
	size_t n_names, cap_names;
	int64_t calls, fail_from, fail_count, fail_sync_in, die_at, capacity, used;
	int fail_err;
	bool dead;
};

struct fault_file {
	struct disk_file base;
	struct node *node;
	uint64_t epoch;
};

static struct fault_disk *of(struct disk *d)
{
	return (struct fault_disk *)d;
}

static struct fault_disk *enter(struct disk *d)
{
	pthread_mutex_lock(&of(d)->mu);
	return of(d);
}

static int leave(struct fault_disk *d, int err)
{
	pthread_mutex_unlock(&d->mu);
	return err;
}

/* Counts a call; its fault, if this is its turn. */
static int turn(struct fault_disk *d)
{
	int64_t call = ++d->calls;
	if (d->dead || call == d->die_at) {
		d->dead = true;
		return E_IO;
	}
	return d->fail_err && call >= d->fail_from && call < d->fail_from + d->fail_count ? d->fail_err : E_OK;
}

static void node_unref(struct fault_disk *d, struct node *n)
{
	if (!n || --n->refs > 0)
		return;
	d->used -= (int64_t)n->live.n;
	free(n->live.p);
	free(n->durable.p);
	free(n);
}

static void point(struct fault_disk *d, struct node **where, struct node *n)
{
	if (n)
		n->refs++;
	node_unref(d, *where);
	*where = n;
}

static void zero(struct bytes *b, size_t from, size_t to)
{
	if (from < to)
		memset(b->p + from, 0, to - from);
}

static void reserve(struct bytes *b, size_t n)
{
	if (n <= b->cap)
		return;
	b->cap = n < 1 << 14 ? 1 << 15 : n < 1 << 18 ? 1 << 19 : n * 2;
	b->p = realloc(b->p, b->cap);
	must(b->p != NULL);
}

/* What it grows by is zero, but for from .. to, which the caller writes. */
static void resize_but(struct bytes *b, size_t n, size_t from, size_t to)
{
	reserve(b, n);
	zero(b, b->n, from < n ? from : n);
	zero(b, to > b->n ? to : b->n, n);
	b->n = n;
}

static void resize(struct bytes *b, size_t n)
{
	resize_but(b, n, n, n);
}

/* The durable bytes of from .. to are written down, as long as the live ones are the same. */
static void keep(struct node *n, size_t from, size_t to)
{
	to = to < n->durable.n ? to : n->durable.n;
	to = to < n->live.n ? to : n->live.n;
	if (from >= to)
		return;
	reserve(&n->durable, n->durable.n);
	memcpy(n->durable.p + from, n->live.p + from, to - from);
}

static void keep_all(struct node *n)
{
	if (n->all_there)
		return;
	keep(n, 0, n->from == n->to ? SIZE_MAX : n->from);
	if (n->from != n->to)
		keep(n, n->to, SIZE_MAX);
	n->all_there = true;
}

/* Before from .. to are changed. */
static void touch(struct node *n, size_t from, size_t to)
{
	if (n->from == n->to)
		n->from = n->to = from;
	if (!n->all_there && from < n->from)
		keep(n, from, n->from);
	if (!n->all_there && to > n->to)
		keep(n, n->to, to);
	n->from = from < n->from ? from : n->from;
	n->to = to > n->to ? to : n->to;
}

static struct name *find(struct fault_disk *d, const char *text)
{
	for (size_t i = 0; i < d->n_names; i++)
		if (strcmp(d->names[i].text, text) == 0)
			return &d->names[i];
	return NULL;
}

static struct node *live(struct fault_disk *d, const char *text)
{
	struct name *n = find(d, text);
	return n ? n->live : NULL;
}

static struct name *find_or_add(struct fault_disk *d, const char *text)
{
	struct name *found = find(d, text);
	if (found)
		return found;
	if (d->n_names == d->cap_names) {
		d->cap_names = d->cap_names ? d->cap_names * 2 : 64;
		d->names = realloc(d->names, d->cap_names * sizeof *d->names);
		must(d->names != NULL);
	}
	struct name *n = &d->names[d->n_names++];
	*n = (struct name){.text = strdup(text)};
	must(n->text != NULL);
	return n;
}

static void set_name(struct fault_disk *d, const char *text, struct node *node, uint64_t op)
{
	struct name *n = find_or_add(d, text);
	point(d, &n->live, node);
	n->op = op;
}

/* Is text directly in dir ("" is the root)? Returns where its last part begins, or NULL. */
static const char *child_of(const char *dir, const char *text)
{
	size_t n = strlen(dir);
	if (n && (strncmp(text, dir, n) != 0 || text[n] != '/'))
		return NULL;
	const char *rest = n ? text + n + 1 : text;
	return *rest && !strchr(rest, '/') ? rest : NULL;
}

static bool parent_lives(struct fault_disk *d, const char *text)
{
	const char *slash = strrchr(text, '/');
	if (!slash)
		return true;
	char *dir = strndup(text, (size_t)(slash - text));
	must(dir != NULL);
	struct node *n = live(d, dir);
	free(dir);
	return n && n->is_folder;
}

static struct node *new_node(struct fault_disk *d, const char *text, bool is_folder)
{
	struct node *n = calloc(1, sizeof *n);
	must(n != NULL);
	n->is_folder = is_folder;
	set_name(d, text, n, ++d->ops);
	return n;
}

static int fault_open(struct disk *disk, const char *name, int flags, struct disk_file **out)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	if (err != E_OK)
		return leave(d, err);
	struct node *n = live(d, name);
	if ((n && n->is_folder) || !parent_lives(d, name))
		return leave(d, n ? E_IO : E_NOT_FOUND);
	if (flags & DISK_CREATE) {
		if (n)
			return leave(d, E_CONFLICT);
		n = new_node(d, name, false);
	}
	if (!n)
		return leave(d, E_NOT_FOUND);
	struct fault_file *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->epoch = d->epoch;
	point(d, &f->node, n);
	*out = &f->base;
	return leave(d, E_OK);
}

static void fault_close(struct disk_file *file)
{
	struct fault_disk *d = enter(file->disk);
	struct fault_file *f = (struct fault_file *)file;
	node_unref(d, f->node);
	free(f);
	leave(d, E_OK);
}

/* Locks, counts, checks that the file is of this life. */
static struct fault_disk *enter_file(struct disk_file *file, struct node **n, int *err)
{
	struct fault_disk *d = enter(file->disk);
	struct fault_file *f = (struct fault_file *)file;
	*n = f->node;
	*err = f->epoch != d->epoch ? E_IO : turn(d);
	return d;
}

static int fault_pread(struct disk_file *file, void *p, size_t n, int64_t offset, size_t *got)
{
	struct node *node;
	int err;
	struct fault_disk *d = enter_file(file, &node, &err);
	if (err == E_OK && (uint64_t)offset < node->live.n) {
		size_t left = node->live.n - (size_t)offset;
		*got = left < n ? left : n;
		memcpy(p, node->live.p + offset, *got);
	}
	return leave(d, err);
}

static int fault_pwrite(struct disk_file *file, const void *p, size_t n, int64_t offset)
{
	struct node *node;
	int err;
	struct fault_disk *d = enter_file(file, &node, &err);
	if (((struct fault_file *)file)->epoch != d->epoch || (d->dead && d->calls != d->die_at))
		return leave(d, err);
	if (err != E_OK)
		n = rng_below(&d->rng.base, n + 1);
	size_t end = (size_t)offset + n;
	int64_t more = end > node->live.n ? (int64_t)(end - node->live.n) : 0;
	if (d->capacity >= 0 && d->used + more > d->capacity)
		return leave(d, E_NO_SPACE);
	if (n)
		touch(node, (size_t)offset, end);
	if (more)
		resize_but(&node->live, end, (size_t)offset, end);
	d->used += more;
	if (n)
		memcpy(node->live.p + offset, p, n);
	return leave(d, err);
}

static int fault_sync(struct disk_file *file)
{
	struct node *node;
	int err;
	struct fault_disk *d = enter_file(file, &node, &err);
	if (err == E_OK && d->fail_sync_in > 0 && --d->fail_sync_in == 0)
		err = E_IO;
	if (err == E_OK && !node->all_there) {
		node->durable.n = node->live.n;
	} else if (err == E_OK) {
		size_t to = node->to < node->live.n ? node->to : node->live.n;
		resize_but(&node->durable, node->live.n, node->from, to);
		if (node->from < to)
			memcpy(node->durable.p + node->from, node->live.p + node->from, to - node->from);
	}
	if (!d->dead && ((struct fault_file *)file)->epoch == d->epoch) {
		if (err != E_OK) /* the kernel takes the pages for clean all the same */
			keep_all(node);
		node->from = node->to = 0;
	}
	return leave(d, err);
}

static void fault_start_write(struct disk_file *file, int64_t offset, int64_t n)
{
	(void)file;
	(void)offset;
	(void)n;
}

static int fault_size(struct disk_file *file, int64_t *size_bytes)
{
	struct node *node;
	int err;
	struct fault_disk *d = enter_file(file, &node, &err);
	*size_bytes = (int64_t)node->live.n;
	return leave(d, err);
}

/* Counts as no call, and never fails. */
static int fault_there(struct disk_file *file, int64_t *size_bytes)
{
	struct fault_disk *d = enter(file->disk);
	struct node *node = ((struct fault_file *)file)->node;
	*size_bytes = 0;
	for (size_t i = 0; i < d->n_names; i++)
		if (d->names[i].live == node)
			*size_bytes = (int64_t)node->live.n;
	return leave(d, E_OK);
}

static int fault_truncate(struct disk_file *file, int64_t size_bytes)
{
	struct node *node;
	int err;
	struct fault_disk *d = enter_file(file, &node, &err);
	if (err == E_OK) {
		size_t was = node->live.n, now = (size_t)size_bytes;
		d->used += size_bytes - (int64_t)was;
		touch(node, was < now ? was : now, was < now ? now : was);
		resize(&node->live, now);
	}
	return leave(d, err);
}

static int fault_sync_dir(struct disk *disk, const char *dir)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	for (size_t i = 0; err == E_OK && i < d->n_names; i++)
		if (child_of(dir, d->names[i].text))
			point(d, &d->names[i].durable, d->names[i].live);
	return leave(d, err);
}

static int fault_rename(struct disk *disk, const char *from, const char *to)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	struct node *n = live(d, from);
	if (err == E_OK && (!n || !parent_lives(d, to)))
		err = E_NOT_FOUND;
	if (err == E_OK && strcmp(from, to) != 0) {
		uint64_t op = ++d->ops;
		set_name(d, to, n, op);
		set_name(d, from, NULL, op);
	}
	return leave(d, err);
}

static int fault_unlink(struct disk *disk, const char *name)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	if (err == E_OK && !live(d, name))
		err = E_NOT_FOUND;
	if (err == E_OK)
		set_name(d, name, NULL, ++d->ops);
	return leave(d, err);
}

static int fault_mkdir(struct disk *disk, const char *name)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	if (err == E_OK && !parent_lives(d, name))
		err = E_NOT_FOUND;
	if (err == E_OK && !live(d, name))
		new_node(d, name, true);
	return leave(d, err);
}

static int fault_list(struct disk *disk, const char *dir, disk_list_fn *fn, void *arg)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	for (size_t i = 0; err == E_OK && i < d->n_names; i++) {
		const char *rest = child_of(dir, d->names[i].text);
		if (!rest || !d->names[i].live)
			continue;
		bool is_folder = d->names[i].live->is_folder;
		leave(d, E_OK); /* fn may call the disk; names are only ever added, and their texts stay */
		err = fn(arg, rest, is_folder);
		enter(disk);
	}
	return leave(d, err);
}

static int fault_space(struct disk *disk, int64_t *free_bytes)
{
	struct fault_disk *d = enter(disk);
	int err = turn(d);
	*free_bytes = d->capacity < 0 ? INT64_MAX : d->capacity - d->used;
	return leave(d, err);
}

static void fault_free(struct disk *disk)
{
	struct fault_disk *d = of(disk);
	for (size_t i = 0; i < d->n_names; i++) {
		node_unref(d, d->names[i].live);
		node_unref(d, d->names[i].durable);
		free(d->names[i].text);
	}
	free(d->names);
	pthread_mutex_destroy(&d->mu);
	free(d);
}

static const struct disk_ops fault_ops = {
    .open = fault_open,
    .close = fault_close,
    .pread = fault_pread,
    .pwrite = fault_pwrite,
    .sync = fault_sync,
    .start_write = fault_start_write,
    .size = fault_size,
    .there = fault_there,
    .truncate = fault_truncate,
    .sync_dir = fault_sync_dir,
    .rename = fault_rename,
    .unlink = fault_unlink,
    .mkdir = fault_mkdir,
    .list = fault_list,
    .space = fault_space,
    .free = fault_free,
};

struct disk *disk_fault_new(uint64_t seed)
{
	struct fault_disk *d = calloc(1, sizeof *d);
	must(d != NULL);
	d->base.ops = &fault_ops;
	d->capacity = -1;
	d->seed = seed;
	rng_seeded_init(&d->rng, seed);
	pthread_mutex_init(&d->mu, NULL);
	return &d->base;
}

int64_t disk_fault_calls(struct disk *disk)
{
	struct fault_disk *d = enter(disk);
	int64_t calls = d->calls;
	leave(d, E_OK);
	return calls;
}

void disk_fault_at(struct disk *disk, int64_t nth, int64_t count, int err)
{
	struct fault_disk *d = enter(disk);
	d->fail_from = d->calls + nth;
	d->fail_count = count;
	d->fail_err = err;
	leave(d, E_OK);
}

void disk_fault_sync(struct disk *disk, int64_t nth)
{
	struct fault_disk *d = enter(disk);
	d->fail_sync_in = nth;
	leave(d, E_OK);
}

void disk_fault_capacity(struct disk *disk, int64_t bytes)
{
	struct fault_disk *d = enter(disk);
	d->capacity = bytes;
	leave(d, E_OK);
}

/* The size after the crash lies anywhere between the two; each sector that differs is kept or lost. */
static void crash_node(struct fault_disk *d, struct node *n)
{
	size_t was = n->durable.n, now = n->live.n;
	size_t low = was < now ? was : now, high = was < now ? now : was;
	size_t size = low + rng_below(&d->rng.base, high - low + 1);
	keep_all(n);
	resize(&n->durable, size);
	for (size_t at = 0; at < size && at < now; at += SECTOR) {
		size_t k = size - at < SECTOR ? size - at : SECTOR;
		if (now - at < k)
			k = now - at;
		if (rng_u64(&d->rng.base) & 1)
			memcpy(n->durable.p + at, n->live.p + at, k);
	}
	d->used += (int64_t)size - (int64_t)now;
	resize(&n->live, size);
	if (size)
		memcpy(n->live.p, n->durable.p, size);
	n->from = n->to = 0;
	n->all_there = false;
}

/* A new life: files of the one before are dead. */
static void restart(struct fault_disk *d)
{
	d->epoch++;
	d->fail_err = E_OK;
	d->fail_sync_in = 0;
	d->dead = false;
	d->die_at = 0;
	atomic_store(&d->base.failed, false);
}

void disk_fault_crash(struct disk *disk)
{
	struct fault_disk *d = enter(disk);
	restart(d);
	for (size_t i = 0; i < d->n_names; i++) {
		struct name *n = &d->names[i];
		struct rng_seeded coin;
		rng_seeded_init(&coin, d->seed ^ n->op * UINT64_C(0x9e3779b97f4a7c15));
		if (n->live != n->durable && rng_u64(&coin.base) & 1)
			point(d, &n->durable, n->live);
		point(d, &n->live, n->durable);
	}
	for (size_t i = 0; i < d->n_names; i++) /* a name whose folder was lost is lost too */
		if (d->names[i].live && !parent_lives(d, d->names[i].text)) {
			point(d, &d->names[i].live, NULL);
			point(d, &d->names[i].durable, NULL);
		}
	for (size_t i = 0; i < d->n_names; i++)
		if (d->names[i].live)
			crash_node(d, d->names[i].live);
	leave(d, E_OK);
}

void disk_fault_die(struct disk *disk, int64_t nth)
{
	struct fault_disk *d = enter(disk);
	d->die_at = nth > 0 ? d->calls + nth : 0;
	d->dead = d->dead || nth == 0;
	leave(d, E_OK);
}

bool disk_fault_is_dead(struct disk *disk)
{
	struct fault_disk *d = enter(disk);
	bool dead = d->dead;
	leave(d, E_OK);
	return dead;
}

void disk_fault_restart(struct disk *disk)
{
	struct fault_disk *d = enter(disk);
	restart(d);
	leave(d, E_OK);
}
