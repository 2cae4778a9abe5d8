/* scaidrived import: a local tree into a share, by the way that every upload takes (drive/file.h), so that rights, quota,
 * deduplication and the change feed hold. It takes the data folder's lock: packs and finder have one process that writes
 * them. Beside a running server, a client's sync does the same. */
#include <stdlib.h>

#include "base/name.h"
#include "bin/carry.h"
#include "client/root.h"

enum { WINDOW = 1 << 20 };

enum on_change { NEW_VERSION, KEEP_BOTH, SKIP };

struct import {
	struct ctx *ctx; /* of the account; its arena lives as long as the import */
	struct arena scratch;
	struct ctx work; /* the same account, on scratch */
	struct root *root;
	struct tree_read tree;
	int64_t share_id;
	enum on_change on_change;
	bool dry, verify;
	uint8_t key[32];
	char *window;
	struct progress progress;
	int64_t folders, files, versions, same, kept, skipped, bytes, failed;
	int fatal;
};

static void fail(struct import *x, struct str path, int err)
{
	int fatal = carry_failed(&x->progress, path, &x->work, err);
	x->failed++;
	if (fatal)
		x->fatal = fatal;
}

static const struct tree_entry *child(struct import *x, const struct tree_entry *folder, struct str name)
{
	struct str key = name_key(&x->scratch, name);
	for (size_t i = folder ? folder->first : 0; i; i = x->tree.entries[i].next)
		if (str_eq(name_key(&x->scratch, x->tree.entries[i].name), key))
			return &x->tree.entries[i];
	return NULL;
}

/* ---- files ---- */

static int digest_of(struct import *x, struct str path, struct sha256 *out)
{
	const struct root_ops *ops = x->root->ops;
	struct root_file *f;
	struct root_entry e;
	size_t got = 1;
	int err = ops->open(x->root, &x->work, path, &f, &e);
	if (err)
		return err;
	struct sha256_state *h = sha256_new();
	while (!err && got) {
		err = ops->read(f, x->window, WINDOW, &got);
		sha256_update(h, x->window, err ? 0 : got);
	}
	*out = sha256_final(h);
	sha256_free(h);
	ops->close(f);
	return err;
}

/* Size and time tell; with --verify, or where the time differs, the bytes do. */
static int same_content(struct import *x, const struct tree_entry *there, struct str path, const struct root_entry *e, bool *same)
{
	struct sha256 digest;
	*same = false;
	if (there->size_bytes != e->stamp.size_bytes)
		return 0;
	*same = there->mtime_us == e->stamp.mtime_ns / 1000 && !x->verify;
	if (*same)
		return 0;
	int err = digest_of(x, path, &digest);
	*same = !err && sha256_eq(&digest, &there->sha256);
	return err;
}

/* Feeds what lies at path; *e is how the file was. */
static int feed(struct import *x, struct str path, struct root_entry *e, struct content **out)
{
	const struct root_ops *ops = x->root->ops;
	struct root_file *f;
	struct root_entry after;
	struct ingest *in;
	size_t got = 1;
	int err = ops->open(x->root, &x->work, path, &f, e);
	if (err)
		return err;
	err = ingest_begin(x->ctx->drive->store, x->ctx->tenant_id, x->key, e->stamp.size_bytes, &in);
	if (err) {
		ops->close(f);
		return err;
	}
	while (!err && got) {
		err = ops->read(f, x->window, WINDOW, &got);
		if (!err && got)
			err = ingest_feed(in, x->window, got);
	}
	if (!err)
		err = ops->file_stat(f, &after);
	if (!err && !stamp_same(&e->stamp, &after.stamp))
		err = ctx_fail(&x->work, E_CHANGED, "it changed while it was read; run the import again");
	ops->close(f);
	if (err) {
		ingest_abort(in);
		return err;
	}
	return ingest_finish(in, out);
}

static int put(struct import *x, struct carry_put *in, struct str path)
{
	struct root_entry e;
	struct content *content;
	int err = feed(x, path, &e, &content);
	if (err)
		return err;
	in->content = content;
	in->mtime_us = e.stamp.mtime_ns / 1000;
	in->executable = e.executable;
	err = content_index_ahead(content, x->ctx->tenant_id);
	if (!err)
		err = carry_put(&x->work, in);
	if (!err)
		x->bytes += content->size_bytes;
	content_free(content);
	return err;
}

static int import_changed(struct import *x, const struct tree_entry *there, struct str path)
{
	struct carry_put in = {
	    .replace_id = there->id, .base_version_id = there->version_id, .keep_both = x->on_change == KEEP_BOTH};
	if (x->on_change == SKIP) {
		x->kept++;
		carry_tell(&x->progress, path, STR("differs from what the share has, and is left out"));
		return 0;
	}
	x->versions++;
	return x->dry ? 0 : put(x, &in, path);
}

static int import_file(struct import *x, const struct tree_entry *there, int64_t folder_id, const struct root_entry *e,
                       struct str path)
{
	if (!there) {
		struct carry_put in = {.share_id = x->share_id, .folder_id = folder_id, .name = e->name};
		int err = x->dry ? carry_name(&x->work, e->name) : put(x, &in, path);
		x->files += !err;
		return err;
	}
	bool same;
	if (there->is_folder)
		return ctx_fail(&x->work, E_NAME_CONFLICT, "a folder of that name is in the share");
	int err = same_content(x, there, path, e, &same);
	x->same += !err && same;
	return err || same ? err : import_changed(x, there, path);
}

/* ---- folders ---- */

static int make_folder(struct import *x, const struct tree_entry *there, int64_t parent_id, struct str name, int64_t *id)
{
	*id = there ? there->id : 0;
	if (there)
		return there->is_folder ? 0 : ctx_fail(&x->work, E_NAME_CONFLICT, "a file of that name is in the share");
	if (x->dry) {
		x->folders++;
		return carry_name(&x->work, name);
	}
	int err = carry_folder(&x->work, x->share_id, parent_id, name, id);
	x->folders += !err;
	return err;
}

/* What the share has under that name. Here names may differ by case alone, there they may not: then it is the one that is
 * written alike. E_NAME_CONFLICT: for the others. */
static int counterpart(struct import *x, const struct tree_entry *folder, struct str path, struct str name,
                       const struct tree_entry **out)
{
	struct root_entry twin;
	*out = child(x, folder, name);
	if (!*out || str_eq((*out)->name, name) || x->root->fold)
		return 0;
	struct str other = path.n ? arena_fmt(&x->scratch, "%.*s/%.*s", STR_ARG(path), STR_ARG((*out)->name)) : (*out)->name;
	if (!x->root->ops->stat(x->root, &x->work, other, &twin))
		return ctx_fail(&x->work, E_NAME_CONFLICT, "its name differs from that of its sibling %.*s by case alone",
		                STR_ARG((*out)->name));
	ctx_clear(&x->work);
	return 0;
}

static int import_entry(struct import *x, const struct tree_entry *folder, int64_t folder_id, const struct root_entry *e,
                        struct str path, struct str at, int depth);

/* folder: where it goes, as it was; NULL: a new one. */
static void import_below(struct import *x, const struct tree_entry *folder, int64_t folder_id, struct str path, int depth)
{
	struct root_entry *entries;
	size_t n = 0;
	struct ctx own = *x->ctx;
	int err = depth > LIMIT_PATH_DEPTH ? ctx_fail(&own, E_INVALID, "the folders are nested too deep")
	                                   : x->root->ops->list(x->root, &own, path, &entries, &n);
	if (err) {
		x->failed++;
		carry_tell(&x->progress, path.n ? path : STR("."), ctx_detail(&own, err));
	}
	for (size_t i = 0; i < n && !x->fatal; i++) {
		const struct root_entry *e = &entries[i];
		struct str at = path.n ? arena_fmt(x->ctx->arena, "%.*s/%.*s", STR_ARG(path), STR_ARG(e->name)) : e->name;
		arena_reset(&x->scratch);
		ctx_clear(&x->work);
		progress_show(&x->progress, "files", x->files + x->versions + x->same, -1);
		if (e->kind == ENTRY_OTHER) {
			x->skipped++;
			carry_tell(&x->progress, at, STR("is no regular file and is left out"));
			continue;
		}
		err = import_entry(x, folder, folder_id, e, path, at, depth);
		if (err)
			fail(x, at, err);
	}
}

static int import_entry(struct import *x, const struct tree_entry *folder, int64_t folder_id, const struct root_entry *e,
                        struct str path, struct str at, int depth)
{
	const struct tree_entry *there;
	int64_t id;
	int err = counterpart(x, folder, path, e->name, &there);
	if (err || e->kind == ENTRY_FILE)
		return err ? err : import_file(x, there, folder_id, e, at);
	err = make_folder(x, there, folder_id, e->name, &id);
	if (!err)
		import_below(x, there, id, at, depth + 1);
	return err;
}

/* ---- the command ---- */

static const struct option_spec import_options[] = {
    {"user", "E", "The account that imports: its rights count, and it becomes the author (needed)", NULL},
    {"folder", "PATH", "Into this folder of the share, which exists", NULL},
    {"on-change", "WHAT", "A file that the share has with other bytes: version (a new one; default), both or skip", NULL},
    {"verify", NULL, "Compare bytes also where size and time are equal", NULL},
    {"dry-run", NULL, "Change nothing; tell what would be done", NULL},
    {"tenant", "NAME", "The tenant, when several know the account", NULL},
    {0},
};

static bool parse_change(const char *text, enum on_change *out)
{
	static const char *const words[] = {"version", "both", "skip"};
	*out = NEW_VERSION;
	for (int i = 0; text && i < 3; i++)
		if (strcmp(text, words[i]) == 0) {
			*out = (enum on_change)i;
			return true;
		}
	return !text;
}

/* The folder of --folder in the tree; the root without it. */
static const struct tree_entry *target(struct import *x, struct str path)
{
	const struct tree_entry *at = &x->tree.entries[0];
	while (at && path.n) {
		struct str name = str_cut(&path, '/');
		if (name.n)
			at = child(x, at, name);
	}
	return at && at->is_folder ? at : NULL;
}

static int import(struct import *x, const struct args *args)
{
	struct ctx *ctx = x->ctx;
	int err = carry_share(ctx, str_c(args->operands[0]), &x->share_id);
	if (!err)
		err = drive_tree_read(ctx, x->share_id, false, &x->tree);
	if (!err)
		err = carry_key(ctx, x->key);
	if (!err)
		err = root_open_to_look(ctx, args->operands[1], NULL, &x->root);
	const struct tree_entry *into = err ? NULL : target(x, arg_str(args, "folder"));
	if (!err && !into)
		err = ctx_fail(ctx, E_NOT_FOUND, "The share has no such folder.");
	if (err)
		return usage_fault("%.*s", STR_ARG(ctx_detail(ctx, err))), 2;
	import_below(x, into, into->id, STR(""), 0);
	progress_wipe(&x->progress);
	printf("%s%lld files, %lld folders, %lld new versions, %lld bytes; %lld were there; %lld left out; %lld faults.\n",
	       x->dry ? "Would import: " : "", (long long)x->files, (long long)x->folders, (long long)x->versions, (long long)x->bytes,
	       (long long)x->same, (long long)(x->kept + x->skipped), (long long)x->failed);
	return x->failed ? 1 : 0;
}

static int with_runtime(struct import *x, struct runtime *rt, const struct args *args)
{
	struct ctx ctx;
	struct arena arena;
	struct principal who;
	arena_init(&arena);
	arena_init(&x->scratch);
	x->window = malloc(WINDOW);
	must(x->window);
	progress_init(&x->progress, false);
	int err = carry_as(rt, args, &arena, &who, &ctx), code = 2;
	x->ctx = &ctx;
	x->work = ctx;
	x->work.arena = &x->scratch;
	if (err)
		runtime_fault(rt, err);
	else
		code = import(x, args);
	if (x->root)
		root_free(x->root);
	free(x->window);
	arena_fini(&x->scratch);
	arena_fini(&arena);
	return code;
}

static int run_import(struct args *args)
{
	struct runtime rt;
	struct import x = {.dry = arg(args, "dry-run") != NULL, .verify = arg(args, "verify") != NULL};
	if (!arg(args, "user"))
		return usage_fault("import: --user is needed");
	if (!parse_change(arg(args, "on-change"), &x.on_change))
		return usage_fault("import: --on-change is version, both or skip");
	if (runtime_open(&args->config, RUNTIME_SERVE | RUNTIME_IMPORT, &rt))
		return 2;
	int code = with_runtime(&x, &rt, args);
	runtime_close(&rt);
	return code;
}

const struct command cmd_import = {"import", "Put a local tree into a share, while the server is stopped", import_options,
                                   run_import, "SHARE DIR"};
