/* scaidrived export: a share's tree as plain files. Reads only, beside a server or without one.
 *
 * The folder is written as a client writes its own (client/root.h): staged in DIR/.scaidrive, verified, renamed; never
 * through a symbolic link. What has the right size and time is taken for whole, so a second run goes on where the first one
 * ended. What is there and differs goes to DIR/.scaidrive/trash; what the share does not have is left alone. */
#include <stdlib.h>
#include <unistd.h>

#include "bin/carry.h"
#include "client/root.h"
#include "drive/hold.h"

enum { PENDING = 256, PENDING_BYTES = 64 << 20, WINDOW = 1 << 20, HOLD_MS = 3600 * 1000, RENEW_US = 60 * 1000000 };

/* One content on its way to one path. */
struct wanted {
	int64_t node_id, number, size_bytes, mtime_us;
	bool executable;
	struct sha256 sha256;
};

struct pending {
	struct root_stage *stage;
	struct str path;
	struct wanted w;
};

struct export {
	struct runtime *rt;
	struct ctx *ctx; /* of the principal; its arena lives as long as the export */
	struct arena scratch;
	struct ctx work; /* the same principal, on scratch */
	struct root *root;
	struct tree_read tree;
	bool verify;
	char hold[24];
	char *window;
	struct pending pending[PENDING];
	size_t n_pending;
	int64_t pending_bytes, held_us;
	struct progress progress;
	int64_t written, whole, bytes, failed, seen;
	int fatal; /* the disk or the database failed: it makes no sense to go on */
};

static void fail(struct export *x, struct str path, struct ctx *ctx, int err)
{
	int fatal = carry_failed(&x->progress, path, ctx, err);
	x->failed++;
	if (fatal)
		x->fatal = fatal;
}

static void keep_hold(struct export *x)
{
	int64_t now = clock_mono(&clock_system);
	if (x->held_us && now - x->held_us < RENEW_US)
		return;
	x->held_us = now;
	int err = hold_take(x->rt->db, &clock_system, str_c(x->hold), HOLD_MS);
	if (err)
		x->fatal = err;
}

/* ---- names that this disk cannot have ---- */

/* Another name for it, told: what file systems refuse as %XX, shorter, and with the id so that it stays one of its own. */
static struct str other_name(struct arena *a, struct str name, struct rid id)
{
	enum { KEPT = 150 };
	struct buf b = {0};
	for (size_t i = 0; i < name.n && b.n < KEPT; i++) {
		unsigned char c = (unsigned char)name.p[i];
		if (c < 32 || c > 126 || strchr("<>:\"\\|?*%", c))
			buf_fmt(&b, "%%%02X", c);
		else
			buf_char(&b, (char)c);
	}
	buf_char(&b, '~');
	buf_id(&b, id.kind, id.n);
	struct str out = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return out;
}

static struct str below(struct arena *a, struct str folder, struct str name)
{
	return folder.n ? arena_fmt(a, "%.*s/%.*s", STR_ARG(folder), STR_ARG(name)) : name;
}

/* ---- contents ---- */

struct stage_fill {
	struct export *x;
	struct root_stage *stage;
};

static int on_window(void *arg, const void *p, size_t n)
{
	const struct stage_fill *f = arg;
	keep_hold(f->x);
	return f->x->root->ops->stage_write(f->stage, p, n);
}

static int stage_content(struct export *x, const struct wanted *w, struct root_stage **out)
{
	const struct root_ops *ops = x->root->ops;
	int err = ops->stage(x->root, &x->work, out);
	if (err)
		return err;
	err = carry_out(&x->work, w->node_id, w->number, on_window, &(struct stage_fill){x, *out});
	if (!err)
		err = ops->stage_seal(*out, &x->work, w->mtime_us, w->executable);
	if (err)
		ops->stage_abort(*out);
	return err;
}

/* All that waits gets its bytes onto the disk together, then its names. */
static void flush(struct export *x)
{
	const struct root_ops *ops = x->root->ops;
	struct root_entry e;
	int err = x->n_pending ? ops->settle(x->root, &x->work) : 0;
	for (size_t i = 0; i < x->n_pending; i++) {
		struct pending *p = &x->pending[i];
		if (err) {
			ops->stage_abort(p->stage);
			fail(x, p->path, &x->work, err);
			continue;
		}
		int placed = ops->stage_place(p->stage, &x->work, p->path, NULL, &e);
		if (placed) {
			fail(x, p->path, &x->work, placed);
			continue;
		}
		x->written++;
		x->bytes += p->w.size_bytes;
	}
	x->n_pending = 0;
	x->pending_bytes = 0;
}

static bool has_bytes(struct export *x, struct str path, const struct sha256 *sha256)
{
	const struct root_ops *ops = x->root->ops;
	struct root_file *f;
	struct root_entry e;
	size_t got = 1;
	if (ops->open(x->root, &x->work, path, &f, &e))
		return ctx_clear(&x->work), false;
	struct sha256_state *h = sha256_new();
	int err = 0;
	while (!err && got) {
		err = ops->read(f, x->window, WINDOW, &got);
		sha256_update(h, x->window, err ? 0 : got);
	}
	struct sha256 digest = sha256_final(h);
	sha256_free(h);
	ops->close(f);
	return !err && sha256_eq(&digest, sha256);
}

static bool is_whole(struct export *x, struct str path, const struct wanted *w, const struct root_entry *e)
{
	return e->kind == ENTRY_FILE && e->stamp.size_bytes == w->size_bytes && e->stamp.mtime_ns / 1000 == w->mtime_us &&
	       (x->root->modeless || e->executable == w->executable) && (!x->verify || has_bytes(x, path, &w->sha256));
}

/* 0: nothing is there now. E_CONFLICT: something that is no file, and stays. */
static int make_way(struct export *x, struct str path, const struct root_entry *e)
{
	if (e->kind != ENTRY_FILE)
		return ctx_fail(&x->work, E_CONFLICT, "something else has this name here");
	return x->root->ops->trash(x->root, &x->work, path, &e->stamp, path);
}

static int export_content(struct export *x, struct str path, const struct wanted *w)
{
	struct root_entry e;
	int err = x->root->ops->stat(x->root, &x->work, path, &e);
	if (!err && is_whole(x, path, w, &e)) {
		x->whole++;
		return 0;
	}
	if (!err)
		err = make_way(x, path, &e);
	else if (err == E_NOT_FOUND)
		err = 0;
	if (err)
		return err;
	ctx_clear(&x->work);
	struct pending *p = &x->pending[x->n_pending];
	*p = (struct pending){.path = path, .w = *w};
	err = stage_content(x, w, &p->stage);
	if (err)
		return err;
	x->n_pending++;
	x->pending_bytes += w->size_bytes;
	if (x->n_pending == PENDING || x->pending_bytes >= PENDING_BYTES)
		flush(x);
	return 0;
}

/* ---- the tree ---- */

/* E_IO and the like from a name that the disk refuses: once more under another. */
static bool worth_another_name(int err)
{
	return err == E_IO || err == E_INVALID || err == E_NAME_INVALID;
}

static int folder_at(struct export *x, struct str path)
{
	struct root_entry e;
	int err = x->root->ops->stat(x->root, &x->work, path, &e);
	if (!err)
		return e.kind == ENTRY_FOLDER ? 0 : ctx_fail(&x->work, E_CONFLICT, "something else has this name here");
	ctx_clear(&x->work);
	return err == E_NOT_FOUND ? x->root->ops->make_folder(x->root, &x->work, path, &e) : err;
}

/* Makes the folder, under another name where the disk has none such. */
static int make_folder(struct export *x, struct str up, struct str name, struct rid id, struct str *path)
{
	struct arena *a = x->ctx->arena;
	*path = below(a, up, name);
	int err = !up.n && str_eq(name, STR(ROOT_OWN_NAME)) ? E_NAME_INVALID : folder_at(x, *path);
	if (!worth_another_name(err))
		return err;
	ctx_clear(&x->work);
	struct str other = below(a, up, other_name(a, name, id));
	err = folder_at(x, other);
	if (!err)
		carry_tell(&x->progress, *path, arena_fmt(a, "this disk cannot have such a name; it is %.*s", STR_ARG(other)));
	*path = other;
	return err;
}

static struct str version_name(struct arena *a, const struct tree_version *v, struct str name)
{
	enum { SUFFIX_MAX = 16 };
	struct buf when = {0};
	buf_time(&when, v->created_at);
	ptrdiff_t dot = str_rchr(name, '.');
	struct str suffix = dot > 0 && name.n - (size_t)dot <= SUFFIX_MAX ? str_skip(name, (size_t)dot) : STR("");
	struct str out = arena_fmt(a, "v%lld ", (long long)v->number);
	struct buf b = {0};
	buf_str(&b, out);
	for (size_t i = 0; i < when.n; i++)
		if (when.p[i] != '-' && when.p[i] != ':')
			buf_char(&b, when.p[i]);
	buf_str(&b, suffix);
	out = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	buf_fini(&when);
	return out;
}

static int by_node(const void *key, const void *item)
{
	int64_t id = *(const int64_t *)key, other = ((const struct tree_version *)item)->node_id;
	return id < other ? -1 : id > other;
}

/* NAME.versions/vN TIME.EXT, beside the file. */
static void export_versions(struct export *x, const struct tree_entry *e, struct str up)
{
	struct arena *a = x->ctx->arena;
	const struct tree_version *all = x->tree.versions, *end = all + x->tree.n_versions;
	const struct tree_version *v = all ? bsearch(&e->id, all, x->tree.n_versions, sizeof *all, by_node) : NULL;
	struct str folder = STR("");
	while (v && v > all && v[-1].node_id == e->id)
		v--;
	for (bool first = true; v && v < end && v->node_id == e->id && !x->fatal; v++, first = false) {
		if (first) {
			struct str name = arena_fmt(a, "%.*s.versions", STR_ARG(e->name));
			int err = make_folder(x, up, name, (struct rid){ID_FILE, e->id}, &folder);
			if (err)
				return fail(x, folder, &x->work, err);
		}
		struct wanted w = {e->id, v->number, v->size_bytes, v->mtime_us, v->executable, v->sha256};
		struct str path = below(a, folder, version_name(a, v, e->name));
		int err = export_content(x, path, &w);
		if (err)
			fail(x, path, &x->work, err);
	}
}

static void export_file(struct export *x, const struct tree_entry *e, struct str up)
{
	struct arena *a = x->ctx->arena;
	struct wanted w = {e->id, e->version, e->size_bytes, e->mtime_us, e->executable, e->sha256};
	struct str path = below(a, up, e->name);
	struct root_entry there;
	int err = !up.n && str_eq(e->name, STR(ROOT_OWN_NAME)) ? E_NAME_INVALID : x->root->ops->stat(x->root, &x->work, path, &there);
	if (worth_another_name(err)) {
		struct str other = below(a, up, other_name(a, e->name, (struct rid){ID_FILE, e->id}));
		carry_tell(&x->progress, path, arena_fmt(a, "this disk cannot have such a name; it is %.*s", STR_ARG(other)));
		path = other;
	}
	ctx_clear(&x->work);
	err = export_content(x, path, &w);
	if (err)
		fail(x, path, &x->work, err);
	export_versions(x, e, up);
}

static void export_below(struct export *x, const struct tree_entry *folder, struct str path)
{
	for (size_t i = folder->first; i && !x->fatal; i = x->tree.entries[i].next) {
		const struct tree_entry *e = &x->tree.entries[i];
		struct str at;
		arena_reset(&x->scratch);
		ctx_clear(&x->work);
		progress_show(&x->progress, "files and folders", ++x->seen, (int64_t)x->tree.n);
		keep_hold(x);
		if (!e->is_folder) {
			export_file(x, e, path);
			continue;
		}
		int err = make_folder(x, path, e->name, (struct rid){ID_FOLDER, e->id}, &at);
		if (err)
			fail(x, at, &x->work, err);
		else
			export_below(x, e, at);
	}
}

/* ---- the command ---- */

static const struct option_spec export_options[] = {
    {"versions", NULL, "Also the older versions of each file, in NAME.versions beside it", NULL},
    {"verify", NULL, "Read what is there already and compare its SHA-256; without, size and time tell", NULL},
    {"user", "E", "See what this account sees; without, all", NULL},
    {"tenant", "NAME", "The tenant; may be left out when there is one", NULL},
    {0},
};

static int run(struct export *x)
{
	export_below(x, &x->tree.entries[0], STR(""));
	arena_reset(&x->scratch);
	flush(x);
	int err = x->root->ops->settle(x->root, &x->work);
	if (err)
		fail(x, STR("."), &x->work, err);
	(void)hold_drop(x->rt->db, str_c(x->hold));
	progress_wipe(&x->progress);
	printf("%lld files written, %lld bytes; %lld were there; %lld faults.\n", (long long)x->written, (long long)x->bytes,
	       (long long)x->whole, (long long)x->failed);
	return x->failed ? 1 : 0;
}

static int export(struct runtime *rt, const struct args *args, struct ctx *ctx)
{
	struct export x = {.rt = rt, .ctx = ctx, .verify = arg(args, "verify") != NULL};
	int64_t share_id;
	char id[ID_WIRE_MAX + 1];
	snprintf(x.hold, sizeof x.hold, "export%d", (int)getpid());
	int err = carry_share(ctx, str_c(args->operands[0]), &share_id), code = 2;
	if (!err)
		keep_hold(&x);
	if (!err)
		err = drive_tree_read(ctx, share_id, arg(args, "versions"), &x.tree);
	if (!err) {
		id_format(id, ID_SHARE, share_id);
		err = root_open(ctx, args->operands[1], true, &(struct root_mark){str_c(id), str_c(id), STR("export")}, &x.root);
	}
	if (err)
		return usage_fault("%.*s", STR_ARG(ctx_detail(ctx, err))), 2;
	arena_init(&x.scratch);
	x.work = *ctx;
	x.work.arena = &x.scratch;
	x.window = malloc(WINDOW);
	must(x.window);
	progress_init(&x.progress, false);
	code = run(&x);
	free(x.window);
	arena_fini(&x.scratch);
	root_free(x.root);
	return code;
}

static int run_export(struct args *args)
{
	struct runtime rt;
	struct ctx ctx;
	struct arena arena;
	struct principal who;
	if (runtime_open(&args->config, RUNTIME_READ, &rt))
		return 2;
	arena_init(&arena);
	int err = carry_as(&rt, args, &arena, &who, &ctx), code = 2;
	if (err)
		runtime_fault(&rt, err);
	else
		code = export(&rt, args, &ctx);
	arena_fini(&arena);
	runtime_close(&rt);
	return code;
}

const struct command cmd_export = {"export", "Write a share's tree as plain files into a folder", export_options, run_export,
                                   "SHARE DIR"};
