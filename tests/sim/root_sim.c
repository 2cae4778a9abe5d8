/* The client's root over fs.c: what root_posix.c does with system calls, step by step, with hooks where others can come
 * between. */
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "sim.h"

struct sim_root {
	struct root face;
	struct device *d;
	struct str marker;
	unsigned next_stage;
};

struct root_file {
	struct device *d;
	struct inode *node;
	size_t at;
};

struct root_stage {
	struct sim_root *root;
	struct inode *node;
	char name[32];
	struct buf bytes;
	struct disk_stamp sealed;
};

static struct fs *fs_of(struct root *r)
{
	return &((struct sim_root *)r)->d->fs;
}

/* A call of the client's: time passes, and it may fail. */
static int enter(struct device *d, struct ctx *ctx, const char *what, struct str path)
{
	sim_hook(d->sim, d);
	int err = d->dead ? E_IO : 0;
	if (!err && d->root_fault_in > 0 && --d->root_fault_in == 0)
		err = d->root_fault;
	sim_note(d->sim, "  d%d %s \"%.*s\"%s%s", d->number, what, STR_ARG(path), err ? " fails: " : "", err ? err_info(err)->symbol : "");
	return err && ctx ? ctx_fail(ctx, err, "cannot %s \"%.*s\"", what, STR_ARG(path)) : err;
}

static int missing(struct ctx *ctx, struct str path)
{
	return ctx_fail(ctx, E_NOT_FOUND, "there is no \"%.*s\"", STR_ARG(path));
}

static int changed(struct ctx *ctx, struct str path)
{
	return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
}

static int taken(struct ctx *ctx, struct str path)
{
	return ctx_fail(ctx, E_CONFLICT, "there is something at \"%.*s\"", STR_ARG(path));
}

static void entry_of(const struct device *d, const struct inode *n, struct root_entry *out)
{
	out->kind = n->is_folder ? ENTRY_FOLDER : ENTRY_FILE;
	out->executable = n->executable;
	out->stamp = (struct disk_stamp){.dev = 7, .ino = n->ino, .birth_ns = d->fs.birthless ? 0 : n->birth_ns,
	                                 .mtime_ns = n->mtime_ns, .ctime_ns = n->ctime_ns};
	out->stamp.size_bytes = n->is_folder ? 0 : (int64_t)d->sim->contents[n->content].n;
}

static bool same_thing(const struct inode *n, const struct disk_stamp *assumed)
{
	return assumed->dev == 7 && assumed->ino == n->ino;
}

static int sim_list(struct root *r, struct ctx *ctx, struct str path, struct root_entry **out, size_t *n)
{
	struct device *d = ((struct sim_root *)r)->d;
	struct fs *f = &d->fs;
	int err = enter(d, ctx, "list", path);
	if (!err && path.n && d->list_fault) {
		d->list_fault = false;
		err = ctx_fail(ctx, E_IO, "cannot list \"%.*s\"", STR_ARG(path));
	}
	if (err)
		return err;
	struct inode *dir = fs_find(f, path);
	if (!dir || !dir->is_folder)
		return missing(ctx, path);
	*out = arena_many(ctx->arena, f->live.n + 1, struct root_entry);
	*n = 0;
	for (size_t i = 0; i < f->live.n; i++) {
		struct dent *e = &f->live.v[i];
		if (e->dir != dir || e->node == f->own)
			continue;
		struct root_entry *to = &(*out)[(*n)++];
		entry_of(d, e->node, to);
		to->name = arena_str(ctx->arena, e->name);
	}
	return 0;
}

static int sim_stat(struct root *r, struct ctx *ctx, struct str path, struct root_entry *out)
{
	struct device *d = ((struct sim_root *)r)->d;
	int err = enter(d, ctx, "stat", path);
	struct inode *n = err ? NULL : fs_find(&d->fs, path);
	if (n)
		entry_of(d, n, out);
	return err ? err : n ? 0 : missing(ctx, path);
}

static int sim_open(struct root *r, struct ctx *ctx, struct str path, struct root_file **out, struct root_entry *entry)
{
	struct device *d = ((struct sim_root *)r)->d;
	int err = enter(d, ctx, "open", path);
	if (err)
		return err;
	struct inode *n = fs_find(&d->fs, path);
	if (!n)
		return missing(ctx, path);
	if (n->is_folder)
		return changed(ctx, path);
	entry_of(d, n, entry);
	struct root_file *file = calloc(1, sizeof(*file));
	must(file != NULL);
	*file = (struct root_file){d, n, 0};
	*out = file;
	return 0;
}

/* In pieces, so that a writer can come between. */
static int sim_read(struct root_file *file, void *out, size_t cap, size_t *got)
{
	*got = 0;
	int err = enter(file->d, NULL, "read", STR(""));
	if (err)
		return err;
	const struct content_row *c = &file->d->sim->contents[file->node->content];
	size_t left = file->at < c->n ? c->n - file->at : 0, piece = c->n > 8 ? c->n / 2 + 1 : 8;
	*got = left < cap ? left : cap;
	*got = *got < piece ? *got : piece;
	if (*got)
		memcpy(out, c->p + file->at, *got);
	file->at += *got;
	return 0;
}

static int sim_file_stat(struct root_file *file, struct root_entry *entry)
{
	int err = enter(file->d, NULL, "fstat", STR(""));
	entry_of(file->d, file->node, entry);
	return err;
}

/* Nothing tells: as where there are no leases. */
static bool sim_is_written(struct root_file *file)
{
	(void)file;
	return false;
}

static void sim_close(struct root_file *file)
{
	free(file);
}

/* ---- staging ---- */

static int sim_stage(struct root *r, struct ctx *ctx, struct root_stage **out)
{
	struct sim_root *root = (struct sim_root *)r;
	struct root_stage *s = calloc(1, sizeof(*s));
	must(s != NULL);
	s->root = root;
	snprintf(s->name, sizeof(s->name), "new-%u", root->next_stage++);
	int err = enter(root->d, ctx, "stage", str_c(s->name));
	if (!err)
		err = fs_make(&root->d->fs, root->d->fs.staging, str_c(s->name), false, &s->node);
	if (err) {
		free(s);
		return ctx_fail(ctx, err, "cannot stage a file");
	}
	s->node->by_client = true;
	*out = s;
	return 0;
}

static int sim_stage_write(struct root_stage *s, const void *p, size_t n)
{
	int err = enter(s->root->d, NULL, "write", str_c(s->name));
	if (!err)
		buf_put(&s->bytes, p, n);
	return err;
}

static int sim_stage_copy(struct root_stage *s, struct root_file *f, int64_t offset, int64_t n, struct sha256_state *sha)
{
	int err = enter(s->root->d, NULL, "copy into", str_c(s->name));
	const struct content_row *c = &f->d->sim->contents[f->node->content];
	if (err || offset > (int64_t)c->n || n > (int64_t)c->n - offset)
		return err ? err : E_CHANGED;
	buf_put(&s->bytes, c->p + offset, (size_t)n);
	sha256_update(sha, c->p + offset, (size_t)n);
	return 0;
}

static void stage_free(struct root_stage *s)
{
	buf_fini(&s->bytes);
	free(s);
}

static void sim_stage_abort(struct root_stage *s)
{
	struct device *d = s->root->d;
	if (!d->dead && fs_child(&d->fs, d->fs.staging, str_c(s->name)) == s->node)
		fs_unlink(&d->fs, d->fs.staging, str_c(s->name));
	stage_free(s);
}

static void fill(struct root_stage *s, int64_t mtime_us, bool executable)
{
	struct device *d = s->root->d;
	fs_write(&d->fs, s->node, content_add(d->sim, s->bytes.p, s->bytes.n));
	s->node->by_client = true;
	s->node->executable = executable;
	if (mtime_us)
		s->node->mtime_ns = mtime_us * 1000;
}

static int sim_stage_seal(struct root_stage *s, struct ctx *ctx, int64_t mtime_us, bool executable)
{
	struct root_entry e;
	int err = enter(s->root->d, ctx, "seal", str_c(s->name));
	if (err)
		return err;
	fill(s, mtime_us, executable);
	entry_of(s->root->d, s->node, &e);
	s->sealed = e.stamp;
	return 0;
}

static int sim_settle(struct root *r, struct ctx *ctx)
{
	int err = enter(((struct sim_root *)r)->d, ctx, "settle", STR(""));
	if (!err)
		fs_sync_all(fs_of(r));
	return err;
}

/* By exchange; what was displaced is looked at once more, and goes back when somebody wrote it in the last moment. */
static int replace(struct root_stage *s, struct ctx *ctx, struct inode *dir, struct str name, const struct disk_stamp *assumed)
{
	struct device *d = s->root->d;
	struct fs *f = &d->fs;
	struct inode *there = fs_child(f, dir, name);
	struct root_entry e;
	if (!there || there->is_folder)
		return E_CHANGED;
	entry_of(d, there, &e);
	if (!stamp_same(&e.stamp, assumed))
		return E_CHANGED;
	int err = enter(d, ctx, "exchange", name);
	if (err)
		return err;
	there = fs_child(f, dir, name);
	if (!there)
		return E_CHANGED;
	fs_exchange(f, f->staging, str_c(s->name), dir, name);
	entry_of(d, there, &e);
	if (there->is_folder || !stamp_same_file(&e.stamp, assumed)) {
		fs_exchange(f, f->staging, str_c(s->name), dir, name);
		return E_CHANGED;
	}
	fs_unlink(f, f->staging, str_c(s->name));
	return 0;
}

static int put_in_place(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed)
{
	struct fs *f = &s->root->d->fs;
	struct str name;
	struct inode *dir = fs_parent(f, path, &name);
	if (!dir)
		return missing(ctx, path);
	if (assumed) {
		int err = replace(s, ctx, dir, name, assumed);
		return err == E_CHANGED ? changed(ctx, path) : err;
	}
	if (fs_child(f, dir, name))
		return taken(ctx, path);
	fs_rename(f, f->staging, str_c(s->name), dir, name);
	return 0;
}

static int sim_stage_place(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                           struct root_entry *out)
{
	struct device *d = s->root->d;
	int err = enter(d, ctx, "place", path);
	if (!err)
		err = put_in_place(s, ctx, path, assumed);
	if (err) {
		sim_stage_abort(s);
		return err;
	}
	err = enter(d, ctx, "look at", path);
	struct inode *n = fs_find(&d->fs, path);
	if (n)
		entry_of(d, n, out);
	if (!err && (!n || !stamp_same_file(&out->stamp, &s->sealed)))
		err = changed(ctx, path);
	stage_free(s);
	return err;
}

static int sim_stage_commit(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                            int64_t mtime_us, bool executable, struct root_entry *out)
{
	struct device *d = s->root->d;
	int err = enter(d, ctx, "sync", path);
	if (!err) {
		fill(s, mtime_us, executable);
		fs_sync_file(&d->fs, s->node);
		err = put_in_place(s, ctx, path, assumed);
	}
	if (!err)
		err = enter(d, ctx, "sync the folder of", path);
	if (err) {
		sim_stage_abort(s);
		return err;
	}
	fs_sync_names(&d->fs);
	entry_of(d, s->node, out);
	stage_free(s);
	return 0;
}

/* ---- names ---- */

static int sim_make_folder(struct root *r, struct ctx *ctx, struct str path, struct root_entry *out)
{
	struct device *d = ((struct sim_root *)r)->d;
	struct str name;
	struct inode *made;
	int err = enter(d, ctx, "make", path);
	if (err)
		return err;
	struct inode *dir = fs_parent(&d->fs, path, &name);
	if (!dir)
		return missing(ctx, path);
	err = fs_make(&d->fs, dir, name, true, &made);
	if (err)
		return err == E_CONFLICT ? taken(ctx, path) : ctx_fail(ctx, err, "no room");
	entry_of(d, made, out);
	return 0;
}

static int sim_rename(struct root *r, struct ctx *ctx, struct str from, const struct disk_stamp *assumed, struct str to,
                      struct root_entry *out)
{
	struct device *d = ((struct sim_root *)r)->d;
	struct fs *f = &d->fs;
	struct str name, to_name;
	int err = enter(d, ctx, "rename", arena_fmt(ctx->arena, "%.*s\" to \"%.*s", STR_ARG(from), STR_ARG(to)));
	if (err)
		return err;
	struct inode *dir = fs_parent(f, from, &name), *to_dir = fs_parent(f, to, &to_name);
	struct inode *node = dir ? fs_child(f, dir, name) : NULL;
	if (!node || !to_dir)
		return missing(ctx, from);
	if (!same_thing(node, assumed))
		return changed(ctx, from);
	struct inode *there = fs_child(f, to_dir, to_name);
	if ((there && !(f->fold && there == node)) || fs_is_below(f, to_dir, node))
		return taken(ctx, to);
	fs_rename(f, dir, name, to_dir, to_name);
	err = enter(d, ctx, "sync the folder of", to);
	if (err)
		return err;
	fs_sync_names(f);
	entry_of(d, node, out);
	return 0;
}

static int sim_trash(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed, struct str label)
{
	struct device *d = ((struct sim_root *)r)->d;
	struct fs *f = &d->fs;
	struct str name;
	struct root_entry e;
	int err = enter(d, ctx, "trash", path);
	if (err)
		return err;
	struct inode *dir = fs_parent(f, path, &name), *node = dir ? fs_child(f, dir, name) : NULL;
	if (!node)
		return missing(ctx, path);
	entry_of(d, node, &e);
	if (node->is_folder || !stamp_same(&e.stamp, assumed))
		return changed(ctx, path);
	struct str target = arena_fmt(&d->sim->arena, "%.*s-%zu-%.*s", STR_ARG(label), f->live.n, STR_ARG(name));
	for (int i = 0; fs_child(f, f->trash, target); i++)
		target = arena_fmt(&d->sim->arena, "%.*s~%d", STR_ARG(target), i);
	fs_rename(f, dir, name, f->trash, target);
	err = enter(d, ctx, "sync the folder of", path);
	if (!err)
		fs_sync_names(f);
	return err;
}

static int sim_set_mode(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed, bool executable,
                        struct root_entry *out)
{
	struct device *d = ((struct sim_root *)r)->d;
	int err = enter(d, ctx, executable ? "chmod +x" : "chmod -x", path);
	if (err)
		return err;
	struct inode *n = fs_find(&d->fs, path);
	if (!n)
		return missing(ctx, path);
	entry_of(d, n, out);
	if (n->is_folder || !stamp_same(&out->stamp, assumed))
		return changed(ctx, path);
	fs_set_executable(&d->fs, n, executable);
	fs_sync_file(&d->fs, n);
	entry_of(d, n, out);
	return 0;
}

static int sim_remove_folder(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed)
{
	struct device *d = ((struct sim_root *)r)->d;
	struct fs *f = &d->fs;
	struct str name;
	int err = enter(d, ctx, "remove", path);
	if (err)
		return err;
	struct inode *dir = fs_parent(f, path, &name), *node = dir ? fs_child(f, dir, name) : NULL;
	if (!node)
		return missing(ctx, path);
	if (!node->is_folder || !same_thing(node, assumed))
		return changed(ctx, path);
	for (size_t i = 0; i < f->live.n; i++)
		if (f->live.v[i].dir == node)
			return taken(ctx, path);
	fs_unlink(f, dir, name);
	err = enter(d, ctx, "sync the folder of", path);
	if (!err)
		fs_sync_names(f);
	return err;
}

static int sim_check(struct root *r, struct ctx *ctx)
{
	return enter(((struct sim_root *)r)->d, ctx, "check", STR(""));
}

/* No call of its own for faults: the marker is replaced as a whole, and it comes last. */
static int sim_set_generation(struct root *r, struct ctx *ctx, int64_t generation)
{
	struct device *d = ((struct sim_root *)r)->d;
	if (d->dead)
		return ctx_fail(ctx, E_IO, "the process is gone");
	r->generation = d->fs.generation = generation;
	return 0;
}

static void sim_free(struct root *r)
{
	free(r);
}

static const struct root_ops ops = {
    .list = sim_list,
    .stat = sim_stat,
    .open = sim_open,
    .read = sim_read,
    .file_stat = sim_file_stat,
    .is_written = sim_is_written,
    .close = sim_close,
    .stage = sim_stage,
    .stage_write = sim_stage_write,
    .stage_copy = sim_stage_copy,
    .stage_commit = sim_stage_commit,
    .stage_abort = sim_stage_abort,
    .stage_seal = sim_stage_seal,
    .settle = sim_settle,
    .stage_place = sim_stage_place,
    .make_folder = sim_make_folder,
    .rename = sim_rename,
    .trash = sim_trash,
    .set_mode = sim_set_mode,
    .remove_folder = sim_remove_folder,
    .set_generation = sim_set_generation,
    .check = sim_check,
    .free = sim_free,
};

/* Files that a crash left in staging were never part of the tree. */
static void sweep(struct fs *f)
{
	for (size_t i = f->live.n; i-- > 0;)
		if (f->live.v[i].dir == f->staging)
			fs_unlink(f, f->staging, f->live.v[i].name);
}

struct root *root_sim_new(struct device *d)
{
	struct sim_root *r = calloc(1, sizeof(*r));
	must(r != NULL);
	r->face = (struct root){.ops = &ops, .fold = d->fs.fold, .generation = d->fs.generation};
	r->d = d;
	sweep(&d->fs);
	return &r->face;
}
