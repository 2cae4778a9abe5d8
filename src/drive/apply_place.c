/* Making folders, moving and renaming. */
#include "base/name.h"
#include "drive/apply_priv.h"

/* Where a change wants its node: a folder, and the name in it. */
struct place {
	struct node folder;
	struct str name;
};

/* "/a/b.txt" -> "/a", "b.txt". A trailing slash is ignored. */
static void path_split(struct str path, struct str *dir, struct str *name)
{
	while (path.n && path.p[path.n - 1] == '/')
		path.n--;
	ptrdiff_t slash = str_rchr(path, '/');
	*name = str_skip(path, (size_t)(slash + 1));
	*dir = slash > 0 ? str_head(path, (size_t)slash) : STR("/");
}

/* now: the node as it is, or NULL for one to be made. */
static int place_find(struct apply_step *s, const struct node *now, struct place *out)
{
	const struct apply_change *c = s->c;
	const struct apply_in *in = s->batch->in;
	struct str dir = STR_NULL, last = STR_NULL;
	if (c->new_path.n)
		path_split(c->new_path, &dir, &last);
	out->name = c->name.p ? c->name : last.n ? last : now ? now->name : STR_NULL;
	if (!out->name.n)
		return ctx_fail(s->t->ctx, E_INVALID, "metadata.name or new_path must name it.");
	int err;
	if (c->has_parent)
		err = node_load_folder(s->t, in->share_id, c->parent_id, RIGHT_READ, &out->folder);
	else if (dir.p)
		err = node_load_path(s->t, in->share_id, dir, RIGHT_READ, &out->folder);
	else if (now && now->parent_id)
		err = node_load_folder(s->t, in->share_id, now->parent_is_root ? 0 : now->parent_id, RIGHT_READ, &out->folder);
	else
		return ctx_fail(s->t->ctx, E_INVALID, "metadata.parent_id or new_path must name the folder.");
	if (!err && out->folder.kind != NODE_FOLDER)
		err = ctx_fail(s->t->ctx, E_NOT_FOUND, "Not found: the parent folder");
	return err;
}

/* The name is taken: by KEEP_BOTH a free one, else a failure of this change. */
static int place_free(struct apply_step *s, struct place *p)
{
	if (s->batch->in->strategy == RESOLVE_KEEP_BOTH)
		return node_free_name(s->t, p->folder.id, p->name, &p->name);
	return ctx_fail(s->t->ctx, E_NAME_CONFLICT, "A sibling of that name exists: %.*s", STR_ARG(p->name));
}

int apply_folder_created(struct apply_step *s)
{
	struct place p;
	struct node n = {0};
	enum apply_status status = APPLY_APPLIED;
	if (s->c->resource.n) { /* made by POST /folders before */
		int found = apply_node(s, RIGHT_READ, &n);
		if (!found)
			apply_says(s, APPLY_NOOP, &n);
		return found;
	}
	int err = place_find(s, NULL, &p);
	if (!err)
		err = access_verdict(s->t->ctx, p.folder.rights, RIGHT_CREATE, node_rid(&p.folder));
	if (!err)
		err = node_child(s->t, &p.folder, p.name, &n);
	if (err)
		return err;
	if (n.id && n.kind == NODE_FOLDER) {
		apply_says(s, APPLY_NOOP, &n);
		return 0;
	}
	if (n.id) {
		err = place_free(s, &p);
		status = APPLY_RENAMED;
	}
	if (err)
		return err;
	n = (struct node){.kind = NODE_FOLDER, .name = p.name};
	err = node_insert(s->t, &p.folder, &n, s->batch->in->device_id);
	if (!err)
		apply_says(s, status, &n);
	return err;
}

int apply_file_made(struct apply_step *s)
{
	struct place p;
	struct version_put put = {.device_id = s->batch->in->device_id};
	struct version_result v = {0};
	enum apply_status status = APPLY_APPLIED;
	struct ctx *ctx = s->t->ctx;
	if (s->c->resource.n)
		return ctx_fail(ctx, E_INVALID, "resource_id and content of a new file exclude each other.");
	int err = place_find(s, NULL, &p);
	if (!err)
		err = access_verdict(ctx, p.folder.rights, RIGHT_CREATE, node_rid(&p.folder));
	if (!err)
		err = apply_bytes_put(s, &put);
	if (err)
		return err;
	put.share_id = s->batch->in->share_id;
	put.folder = &p.folder;
	put.name = p.name;
	err = version_commit(s->t, &put, &v);
	if (err == E_NAME_CONFLICT && s->batch->in->strategy == RESOLVE_KEEP_BOTH) {
		ctx_clear(ctx);
		status = APPLY_RENAMED;
		err = place_free(s, &p);
		put.name = p.name;
		if (!err)
			err = version_commit(s->t, &put, &v);
	}
	if (!err)
		apply_says(s, status, &v.node);
	return err;
}

int apply_placed(struct apply_step *s)
{
	struct place p;
	struct node n, there;
	enum apply_status status = APPLY_APPLIED;
	struct ctx *ctx = s->t->ctx;
	struct str device_id = s->batch->in->device_id;
	int err = apply_node(s, RIGHT_READ, &n);
	if (!err && n.in_trash)
		err = ctx_fail(ctx, E_GONE, "It is in the trash; it cannot be moved or renamed there.");
	if (!err && !n.parent_id)
		err = ctx_fail(ctx, E_FORBIDDEN, "Permission denied: the root of a share stays");
	if (!err)
		err = place_find(s, &n, &p);
	if (err)
		return err;
	bool same_folder = p.folder.id == n.parent_id;
	if (same_folder && str_eq(p.name, n.name)) {
		apply_says(s, APPLY_NOOP, &n);
		return 0;
	}
	err = access_verdict(ctx, n.rights, same_folder ? RIGHT_WRITE : RIGHT_DELETE, node_rid(&n));
	if (!err && !same_folder)
		err = access_verdict(ctx, p.folder.rights, RIGHT_CREATE, node_rid(&p.folder));
	if (!err)
		err = node_child(s->t, &p.folder, p.name, &there);
	if (!err && there.id && there.id != n.id) {
		err = place_free(s, &p);
		status = APPLY_RENAMED;
	}
	if (!err)
		err = same_folder ? node_rename(s->t, &n, p.name, device_id)
		                  : node_move(s->t, &n, &p.folder, p.name, device_id);
	if (!err)
		apply_says(s, status, &n);
	return err;
}
