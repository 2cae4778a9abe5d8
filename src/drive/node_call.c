#include "drive/node_call.h"

#include "drive/node_call_priv.h"
#include "drive/node_priv.h"

void hash_i64(struct buf *b, int64_t v)
{
	buf_varint(b, zigzag(v));
}

void hash_str(struct buf *b, struct str s)
{
	hash_i64(b, s.p ? (int64_t)s.n : -1);
	buf_str(b, s);
}

struct call {
	enum node_kind kind;
	const void *in;
	struct node *out;
};

/* ---- get, patch, delete ---- */

struct get {
	int64_t id;
	unsigned want;
};

static int get_op(struct dtx *t, void *arg)
{
	struct call *c = arg;
	const struct get *in = c->in;
	return node_load(t, in->id, c->kind, in->want, c->out);
}

int drive_node_get(struct ctx *ctx, enum node_kind kind, int64_t id, bool include_deleted, struct node *out)
{
	struct get in = {id, RIGHT_READ | (include_deleted ? NODE_WITH_TRASH : 0)};
	return drive_read(ctx, get_op, &(struct call){kind, &in, out});
}

/* Does the patch change an attribute of the file? */
static bool patch_attributes(const struct node_patch *in, struct node *n)
{
	bool differs = false;
	if (in->has_mtime && (!n->has_mtime || n->mtime_us != in->mtime_us)) {
		differs = n->has_mtime = true;
		n->mtime_us = in->mtime_us;
	}
	if (in->has_executable && n->executable != in->executable) {
		differs = true;
		n->executable = in->executable;
	}
	if (in->mime_type.n && !str_eq(in->mime_type, n->mime_type)) {
		differs = true;
		n->mime_type = in->mime_type;
	}
	return differs;
}

static int patch_op(struct dtx *t, void *arg)
{
	struct call *c = arg;
	const struct node_patch *in = c->in;
	struct node *n = c->out;
	int err = node_load(t, in->id, c->kind, RIGHT_WRITE | (in->restore ? NODE_WITH_TRASH : 0), n);
	if (!err && in->restore)
		err = node_restore(t, n, in->device_id);
	if (!err && in->name.p)
		err = node_rename(t, n, in->name, in->device_id);
	if (!err && c->kind == NODE_FILE && patch_attributes(in, n))
		err = node_touch(t, n, in->device_id);
	return err;
}

int drive_node_patch(struct ctx *ctx, enum node_kind kind, const struct node_patch *in, struct node *out)
{
	return drive_write(ctx, patch_op, &(struct call){kind, in, out});
}

static int delete_op(struct dtx *t, void *arg)
{
	struct call *c = arg;
	const struct node_delete *in = c->in;
	struct node n;
	int err = node_load(t, in->id, c->kind, RIGHT_DELETE | NODE_WITH_TRASH, &n); /* deleted again: success */
	if (err)
		return err;
	return in->permanent ? node_purge(t, &n, in->device_id) : node_trash(t, &n, in->device_id);
}

int drive_node_delete(struct ctx *ctx, enum node_kind kind, const struct node_delete *in)
{
	return drive_write(ctx, delete_op, &(struct call){kind, in, NULL});
}

/* ---- move ---- */

int node_place_check_target(struct ctx *ctx, const struct node_place *in)
{
	if (in->target_folder_id || in->target_share_id)
		return 0;
	return ctx_invalid(ctx, "body", STR("target_folder_id"), "missing", "target_folder_id or target_share_id is required");
}

struct sha256 node_place_hash(const struct node_place *in)
{
	struct buf b = {0};
	hash_i64(&b, in->id);
	hash_i64(&b, in->target_folder_id);
	hash_i64(&b, in->target_share_id);
	hash_str(&b, in->name);
	struct sha256 h = sha256_of(b.p, b.n);
	buf_fini(&b);
	return h;
}

static int move_op(struct dtx *t, void *arg)
{
	struct call *c = arg;
	const struct node_place *in = c->in;
	struct node folder, *n = c->out;
	struct sha256 hash = node_place_hash(in);
	struct rid hit;
	int err = idempotency_find(t, &hash, &hit);
	if (!err && hit.n)
		return node_load(t, hit.n, c->kind, RIGHT_READ | NODE_WITH_TRASH, n);
	if (!err)
		err = node_load(t, in->id, c->kind, RIGHT_READ, n);
	if (!err)
		err = node_load_folder(t, in->target_share_id, in->target_folder_id, RIGHT_READ, &folder);
	if (err)
		return err;
	bool stays = folder.id == n->parent_id;
	err = access_verdict(t->ctx, n->rights, stays ? RIGHT_WRITE : RIGHT_DELETE, node_rid(n));
	if (!err && !stays)
		err = access_verdict(t->ctx, folder.rights, RIGHT_CREATE, node_rid(&folder));
	if (!err)
		err = node_move(t, n, &folder, in->name, in->device_id);
	return err ? err : idempotency_store(t, &hash, node_rid(n));
}

int drive_node_move(struct ctx *ctx, enum node_kind kind, const struct node_place *in, struct node *out)
{
	int err = node_place_check_target(ctx, in);
	return err ? err : drive_write(ctx, move_op, &(struct call){kind, in, out});
}
