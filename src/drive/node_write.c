#include "drive/node_priv.h"

#include "base/limits.h"
#include "base/must.h"
#include "base/mutant.h"
#include "base/name.h"
#include "drive/share.h"

int node_name_check(struct ctx *ctx, struct str name)
{
	const char *problem = name_problem(name);
	return problem ? ctx_fail(ctx, E_NAME_INVALID, "%s", problem) : 0;
}

int node_name_free(struct dtx *t, int64_t parent_id, struct str key, struct str name, int64_t except_id)
{
	int64_t id;
	int err = tx_i64(t->tx, "select id from nodes where parent_id = $1 and name_key = $2 and trash_key = 0",
	                 DB_ARGS(V_I(parent_id), V_T(key)), 0, &id);
	if (!err && id && id != except_id)
		err = ctx_fail(t->ctx, E_NAME_CONFLICT, "A sibling named \"%.*s\" exists", STR_ARG(name));
	return err;
}

int node_place_check(struct dtx *t, const struct node *folder, struct str name, enum node_kind kind)
{
	must(folder->kind == NODE_FOLDER);
	if (kind == NODE_FOLDER && folder->n_ancestors + 1 > LIMIT_PATH_DEPTH)
		return ctx_fail(t->ctx, E_NAME_INVALID, "folders may be at most %d deep", LIMIT_PATH_DEPTH);
	if (folder->path.n + 1 + name.n > LIMIT_PATH_BYTES)
		return ctx_fail(t->ctx, E_NAME_INVALID, "a path may have at most %d bytes", LIMIT_PATH_BYTES);
	return 0;
}

int node_not_root(struct dtx *t, const struct node *n)
{
	return n->parent_id ? 0 : ctx_fail(t->ctx, E_BAD_REQUEST, "The root folder of a share cannot be changed");
}

int node_free_name(struct dtx *t, int64_t parent_id, struct str name, struct str *out)
{
	enum { IN_ORDER = 50 };
	struct arena *a = t->ctx->arena;
	*out = name;
	for (int i = 2;; i++) {
		int64_t id;
		int err = tx_i64(t->tx, "select id from nodes where parent_id = $1 and name_key = $2 and trash_key = 0",
		                 DB_ARGS(V_I(parent_id), V_T(name_key(a, *out))), 0, &id);
		if (err || !id)
			return err;
		char label[ID_WIRE_MAX + 1];
		if (i <= IN_ORDER)
			*out = name_with_label(a, name, arena_fmt(a, "%d", i), 1);
		else /* so many are taken: stop counting */
			*out = name_with_label(a, name,
			                       str_skip(str_n(label, id_format(label, ID_FILE, idgen_next(t->drive->ids))), 4), 1);
	}
}

int node_insert(struct dtx *t, const struct node *parent, struct node *n, struct str device_id)
{
	struct arena *a = t->ctx->arena;
	int err = drive_room(t);
	if (!err)
		err = node_name_check(t->ctx, n->name);
	if (!err)
		err = node_place_check(t, parent, n->name, n->kind);
	if (err)
		return err;
	struct str key = name_key(a, n->name);
	int64_t seq, now = clock_now(t->ctx->clock), who = actor(t);
	err = t->by_index ? 0 : node_name_free(t, parent->id, key, n->name, 0);
	if (!err)
		err = change_peek(t, &seq);
	if (err)
		return err;
	if (!n->id)
		n->id = idgen_next(t->drive->ids);
	n->tenant_id = t->ctx->tenant_id;
	node_put_below(a, n, parent);
	n->owner_id = n->created_by = n->modified_by = who;
	n->created_at = n->modified_at = now;
	n->deleted_at = 0;
	n->in_trash = parent->in_trash;
	n->change_seq = seq;
	n->rights = parent->rights;
	err = drive_insert(t,
	                   "insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, version_id, version,"
	                   " last_version, size_bytes, mime_type, sha256, mtime, executable, owner_id, created_by, created_at,"
	                   " modified_by, modified_at, change_seq) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,"
	                   " $13, $14, $15, $16, $16, $17, $16, $17, $18)",
	                   DB_ARGS(V_I(n->id), V_I(n->tenant_id), V_I(n->share_id), V_I(n->parent_id), V_I(n->kind), V_T(n->name),
	                           V_T(key), V_I(n->version_id), V_I(n->version), V_I(n->last_version), V_I(n->size_bytes),
	                           V_T(n->mime_type), V_B(n->has_sha256 ? str_n(n->sha256.b, 32) : STR_NULL),
	                           n->has_mtime ? V_I(n->mtime_us) : V_NULL, V_I(n->executable), V_I(who), V_I(now), V_I(seq)));
	if (err)
		return err;
	return change_append(t, CHANGE_CREATED, n, STR_NULL, n->path, false, device_id, NULL);
}

/* Stores place, name and who; *n has the new values already. */
static int store_place(struct dtx *t, struct node *n, struct str key)
{
	int err = change_peek(t, &n->change_seq);
	n->modified_by = actor(t);
	n->modified_at = clock_now(t->ctx->clock);
	if (err)
		return err;
	return tx_exec(t->tx,
	               "update nodes set parent_id = $2, name = $3, name_key = $4, share_id = $5, modified_by = $6,"
	               " modified_at = $7, change_seq = $8 where id = $1",
	               DB_ARGS(V_I(n->id), V_I(n->parent_id), V_T(n->name), V_T(key), V_I(n->share_id), V_I(n->modified_by),
	                       V_I(n->modified_at), V_I(n->change_seq)),
	               NULL);
}

static struct str parent_path(const struct node *n)
{
	ptrdiff_t slash = str_rchr(n->path, '/');
	must(slash >= 0);
	return slash ? str_head(n->path, (size_t)slash) : STR("/");
}

int node_rename(struct dtx *t, struct node *n, struct str name, struct str device_id)
{
	struct arena *a = t->ctx->arena;
	int err = node_not_root(t, n);
	if (err || str_eq(n->name, name))
		return err;
	err = node_name_check(t->ctx, name);
	if (err)
		return err;
	struct str key = name_key(a, name), old_path = n->path;
	if (parent_path(n).n + 1 + name.n > LIMIT_PATH_BYTES)
		return ctx_fail(t->ctx, E_NAME_INVALID, "a path may have at most %d bytes", LIMIT_PATH_BYTES);
	err = node_name_free(t, n->parent_id, key, name, n->id);
	if (err)
		return err;
	n->name = arena_str(a, name);
	n->path = path_join(a, parent_path(n), name);
	err = store_place(t, n, key);
	if (err)
		return err;
	if (mutant(M_DRIVE_LOG_FORGETS))
		return 0;
	return change_append(t, CHANGE_RENAMED, n, old_path, n->path, false, device_id, NULL);
}

int node_bytes(struct dtx *t, const struct node *n, int64_t *size_bytes)
{
	if (n->kind == NODE_FILE)
		return tx_i64(t->tx, "select cast(coalesce(sum(size_bytes), 0) as bigint) from versions where node_id = $1",
		              DB_ARGS(V_I(n->id)), 0, size_bytes);
	return tx_i64(t->tx,
	              "with recursive down(id) as (select id from nodes where id = $1 union all"
	              " select n.id from down join nodes n on n.parent_id = down.id)"
	              " select cast(coalesce(sum(v.size_bytes), 0) as bigint) from down join versions v on v.node_id = down.id",
	              DB_ARGS(V_I(n->id)), 0, size_bytes);
}

/* A folder that goes deeper must not carry its own folders below the limit. Only then are they looked at: the cost is
 * the number of folders below it. */
static int depth_check(struct dtx *t, const struct node *n, const struct node *target)
{
	if (n->kind != NODE_FOLDER || target->n_ancestors + 1 <= n->n_ancestors)
		return 0;
	int64_t too_deep;
	int err = tx_i64(t->tx,
	                 "with recursive down(id, depth) as (select id, 0 from nodes where id = $1 union all"
	                 " select n.id, down.depth + 1 from down join nodes n on n.parent_id = down.id"
	                 " where n.kind = 1 and down.depth < 1024)"
	                 " select id from down where depth + $2 > $3 limit 1",
	                 DB_ARGS(V_I(n->id), V_I(target->n_ancestors + 1), V_I(LIMIT_PATH_DEPTH)), 0, &too_deep);
	if (!err && too_deep)
		err = ctx_fail(t->ctx, E_NAME_INVALID, "folders may be at most %d deep", LIMIT_PATH_DEPTH);
	return err;
}

/* I12: the tenant stands still, so the chain that target was loaded with is the truth until we commit. */
static int cycle_check(struct dtx *t, const struct node *n, const struct node *target)
{
	bool inside = target->id == n->id;
	for (size_t i = 0; !inside && i < target->n_ancestors; i++)
		inside = target->ancestors[i] == n->id;
	return inside && !mutant(M_DRIVE_NO_CYCLE_CHECK) ? ctx_fail(t->ctx, E_MOVE_CYCLE, "A folder cannot be moved into itself or below itself") : 0;
}

/* The node's row has moved already; everything below follows. Costs one walk and one index update a row: about 10 us
 * each on SQLite, so a folder of 100,000 nodes holds the tenant for a second. Moves inside a share cost one row. */
static int share_follows(struct dtx *t, const struct node *n, int64_t from_share)
{
	int64_t size_bytes;
	int err = node_bytes(t, n, &size_bytes);
	if (!err)
		err = share_use(t, n->share_id, size_bytes);
	if (!err)
		err = share_use(t, from_share, -size_bytes);
	if (!err && n->kind == NODE_FOLDER && !mutant(M_DRIVE_SHARE_STAYS))
		err = tx_exec(t->tx,
		              "update nodes set share_id = $2 where id in (with recursive down(id) as ("
		              "select id from nodes where parent_id = $1 union all"
		              " select n.id from down join nodes n on n.parent_id = down.id) select id from down)",
		              DB_ARGS(V_I(n->id), V_I(n->share_id)), NULL);
	if (!err)
		err = tx_exec(t->tx,
		              "update conflicts set share_id = $2 where resource_id in (with recursive down(id) as ("
		              "select id from nodes where id = $1 union all"
		              " select n.id from down join nodes n on n.parent_id = down.id) select id from down)",
		              DB_ARGS(V_I(n->id), V_I(n->share_id)), NULL);
	return err;
}

int node_move(struct dtx *t, struct node *n, const struct node *target, struct str name, struct str device_id)
{
	struct arena *a = t->ctx->arena;
	if (!name.p)
		name = n->name;
	int err = node_not_root(t, n);
	if (!err && target->id == n->parent_id)
		return node_rename(t, n, name, device_id);
	if (!err)
		err = node_name_check(t->ctx, name);
	if (!err)
		err = cycle_check(t, n, target);
	if (!err)
		err = node_place_check(t, target, name, n->kind);
	if (!err)
		err = depth_check(t, n, target);
	struct str key = err ? STR_NULL : name_key(a, name);
	if (!err)
		err = node_name_free(t, target->id, key, name, n->id);
	if (err)
		return err;
	struct str old_path = n->path;
	int64_t from_share = n->share_id;
	bool leaves = target->share_id != from_share;
	if (leaves && !mutant(M_DRIVE_LEAVES_SILENTLY)) /* two rows: gone here, arrived there; id and versions stay (D2) */
		err = change_append(t, CHANGE_DELETED, n, old_path, STR_NULL, false, device_id, NULL);
	if (err)
		return err;
	n->name = arena_str(a, name);
	node_put_below(a, n, target);
	n->rights = target->rights;
	err = store_place(t, n, key);
	if (!err && leaves)
		err = share_follows(t, n, from_share);
	if (err)
		return err;
	if (leaves)
		return change_append(t, CHANGE_CREATED, n, STR_NULL, n->path, n->kind == NODE_FOLDER, device_id, NULL);
	return change_append(t, CHANGE_MOVED, n, old_path, n->path, false, device_id, NULL);
}

int node_touch(struct dtx *t, struct node *n, struct str device_id)
{
	int err = change_peek(t, &n->change_seq);
	n->modified_by = actor(t);
	n->modified_at = clock_now(t->ctx->clock);
	if (!err)
		err = tx_exec(t->tx,
		              "update nodes set mtime = $2, executable = $3, mime_type = $4, modified_by = $5, modified_at = $6,"
		              " change_seq = $7 where id = $1",
		              DB_ARGS(V_I(n->id), n->has_mtime ? V_I(n->mtime_us) : V_NULL, V_I(n->executable),
		                      V_T(n->mime_type), V_I(n->modified_by), V_I(n->modified_at), V_I(n->change_seq)),
		              NULL);
	if (err)
		return err;
	return change_append(t, CHANGE_UPDATED, n, n->path, n->path, false, device_id, NULL);
}
