#include "drive/node_priv.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/name.h"

struct rid node_rid(const struct node *n)
{
	return (struct rid){n->kind == NODE_FILE ? ID_FILE : ID_FOLDER, n->id};
}

void node_from_row(struct arena *a, struct rows *r, struct node *n)
{
	*n = (struct node){
	    .id = rows_i64(r, 0),
	    .tenant_id = rows_i64(r, 1),
	    .share_id = rows_i64(r, 2),
	    .parent_id = rows_i64(r, 3),
	    .kind = (enum node_kind)rows_i64(r, 4),
	    .version_id = rows_i64(r, 6),
	    .version = rows_i64(r, 7),
	    .last_version = rows_i64(r, 8),
	    .size_bytes = rows_i64(r, 9),
	    .has_mtime = !rows_is_null(r, 12),
	    .mtime_us = rows_i64(r, 12),
	    .executable = rows_i64(r, 13) != 0,
	    .owner_id = rows_i64(r, 14),
	    .created_by = rows_i64(r, 15),
	    .created_at = rows_i64(r, 16),
	    .modified_by = rows_i64(r, 17),
	    .modified_at = rows_i64(r, 18),
	    .deleted_at = rows_i64(r, 19),
	    .change_seq = rows_i64(r, 20),
	};
	n->parent_is_root = n->parent_id == rows_i64(r, 21);
	n->in_trash = n->deleted_at != 0;
	n->name = arena_str(a, rows_text(r, 5));
	n->mime_type = arena_str(a, rows_text(r, 10));
	struct str sha256 = rows_blob(r, 11);
	n->has_sha256 = sha256.n == sizeof n->sha256.b;
	if (n->has_sha256)
		memcpy(n->sha256.b, sha256.p, sizeof n->sha256.b);
}

struct str path_join(struct arena *a, struct str folder_path, struct str name)
{
	bool root = folder_path.n == 1;
	size_t n = (root ? 0 : folder_path.n) + 1 + name.n;
	char *p = arena_alloc(a, n + 1);
	size_t at = 0;
	if (!root && folder_path.n) {
		memcpy(p, folder_path.p, folder_path.n);
		at = folder_path.n;
	}
	p[at++] = '/';
	if (name.n)
		memcpy(p + at, name.p, name.n);
	return str_n(p, n);
}

/* ---- one node ---- */

/* A node with the four folders above it, below the root (whose row tells nothing); NULL reads as 0. */
#define LOAD_COLUMNS \
	NODE_COLUMNS ", s.deleted_at, a.parent_id, a.name, a.deleted_at, b.parent_id, b.name, b.deleted_at," \
	             " c.parent_id, c.name, c.deleted_at, d.parent_id, d.name, d.deleted_at"
#define LOAD_JOINS \
	" left join nodes a on a.id = n.parent_id and n.parent_id <> s.root_id" \
	" left join nodes b on b.id = a.parent_id and a.parent_id <> s.root_id" \
	" left join nodes c on c.id = b.parent_id and b.parent_id <> s.root_id" \
	" left join nodes d on d.id = c.parent_id and c.parent_id <> s.root_id"
enum { NEAR = NODE_N_COLUMNS + 1, NEAR_LEVELS = 4 };

struct step {
	int64_t id;
	struct str name;
};

/* Where a way up ends. */
enum top { TOP_NONE, TOP_ROOT, TOP_PURGED };

/* The rest of the way up from a folder, one row a level. */
static int walk_far(struct dtx *t, struct node *n, int64_t from_id, int64_t root_id, struct step *steps, size_t *count,
                    enum top *top)
{
	AUTO_ROWS *r = NULL;
	int err = tx_query(t->tx,
	                   "with recursive up(id, parent_id, name, deleted_at, depth) as ("
	                   "select id, parent_id, name, deleted_at, 1 from nodes where id = $1 union all "
	                   "select n.id, n.parent_id, n.name, n.deleted_at, up.depth + 1 from up"
	                   " join nodes n on n.id = up.parent_id where up.depth <= 1024)"
	                   " select id, parent_id, name, deleted_at from up order by depth",
	                   DB_ARGS(V_I(from_id)), &r);
	if (err)
		return err;
	while (*count < NODE_WALK_MAX && rows_next(r)) {
		if (rows_i64(r, 1) == 0) {
			*top = rows_i64(r, 0) == root_id ? TOP_ROOT : TOP_PURGED;
			break;
		}
		n->in_trash |= rows_i64(r, 3) != 0;
		steps[(*count)++] = (struct step){rows_i64(r, 0), arena_str(t->ctx->arena, rows_text(r, 2))};
	}
	return rows_close(&r);
}

/* Path, ancestors and liveness of *n. The folders nearest to it came with its row (columns from NEAR on), since most
 * nodes lie no deeper; the others are walked. *top is TOP_PURGED for what purge.c is about to remove. */
static int walk_up(struct dtx *t, struct rows *r, struct node *n, int64_t root_id, enum top *top)
{
	struct arena *a = t->ctx->arena;
	*top = TOP_ROOT;
	if (!n->parent_id) {
		n->path = STR("/");
		*top = n->id == root_id ? TOP_ROOT : TOP_PURGED;
		return 0;
	}
	*top = TOP_NONE;
	UNSET struct step steps[NODE_WALK_MAX];
	size_t count = 0;
	int64_t at = n->parent_id;
	for (int level = 0; level < NEAR_LEVELS && at && at != root_id; level++) {
		int col = NEAR + level * 3;
		steps[count++] = (struct step){at, arena_str(a, rows_text(r, col + 1))};
		n->in_trash |= rows_i64(r, col + 2) != 0;
		at = rows_i64(r, col);
		if (!at && !rows_is_null(r, col))
			*top = TOP_PURGED;
	}
	if (at == root_id)
		*top = TOP_ROOT;
	int err = *top != TOP_NONE || !at ? 0 : walk_far(t, n, at, root_id, steps, &count, top);
	if (!err && *top == TOP_NONE)
		err = ctx_fail(t->ctx, E_CORRUPT, "a folder has no way up to its share");
	if (err || *top == TOP_PURGED)
		return err;
	int64_t *ancestors = arena_many(a, count + 1, int64_t);
	struct buf path = {0};
	ancestors[0] = root_id;
	for (size_t i = 0; i < count; i++) {
		const struct step *s = &steps[count - 1 - i];
		ancestors[i + 1] = s->id;
		buf_char(&path, '/');
		buf_str(&path, s->name);
	}
	buf_char(&path, '/');
	buf_str(&path, n->name);
	n->path = arena_str(a, buf_as_str(&path));
	buf_fini(&path);
	n->ancestors = ancestors;
	n->n_ancestors = count + 1;
	return 0;
}

/* The row is current in r, columns LOAD_COLUMNS. */
static int finish(struct dtx *t, struct rows *r, unsigned want, struct node *out)
{
	struct ctx *ctx = t->ctx;
	node_from_row(ctx->arena, r, out);
	int64_t root_id = rows_i64(r, NODE_N_COLUMNS - 1);
	bool share_gone = rows_i64(r, NODE_N_COLUMNS) != 0;
	struct rid what = node_rid(out);
	unsigned rights;
	int err = access_share(t, out->share_id, &rights, NULL);
	if (err)
		return err;
	if (share_gone)
		rights = 0;
	out->rights = rights;
	if (!(rights & RIGHT_READ))
		return access_verdict(ctx, 0, want, what);
	enum top top;
	err = walk_up(t, r, out, root_id, &top);
	if (err)
		return err;
	if (top == TOP_PURGED)
		return access_verdict(ctx, 0, want, what);
	if (out->in_trash && !(want & NODE_WITH_TRASH)) {
		char id[ID_WIRE_MAX + 1];
		id_format(id, what.kind, what.n);
		return ctx_fail(ctx, E_GONE, "%s is in the trash; restore it first", id);
	}
	return access_verdict(ctx, rights, want, what);
}

int node_load(struct dtx *t, int64_t id, enum node_kind kind, unsigned want, struct node *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	*out = (struct node){0};
	int err = tx_query_row(t->tx,
	                       "select " LOAD_COLUMNS " from nodes n join shares s on s.id = n.share_id" LOAD_JOINS
	                       " where n.id = $1 and n.tenant_id = $2",
	                       DB_ARGS(V_I(id), V_I(t->ctx->tenant_id)), &r, &found);
	if (err)
		return err;
	if (!found || (kind && rows_i64(r, 4) != (int64_t)kind))
		return access_verdict(t->ctx, 0, want, (struct rid){kind == NODE_FOLDER ? ID_FOLDER : ID_FILE, id});
	return finish(t, r, want, out);
}

int node_load_root(struct dtx *t, int64_t share_id, unsigned want, struct node *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	*out = (struct node){0};
	struct rid share = {ID_SHARE, share_id};
	int err = tx_query_row(t->tx,
	                       "select " LOAD_COLUMNS " from shares s join nodes n on n.id = s.root_id" LOAD_JOINS
	                       " where s.id = $1 and s.tenant_id = $2",
	                       DB_ARGS(V_I(share_id), V_I(t->ctx->tenant_id)), &r, &found);
	if (err)
		return err;
	if (!found)
		return access_verdict(t->ctx, 0, want, share);
	bool gone = rows_i64(r, NODE_N_COLUMNS) != 0;
	unsigned rights;
	err = access_share(t, share_id, &rights, NULL);
	if (!err)
		err = access_verdict(t->ctx, rights, gone ? 0 : want, share); /* names the share, which the caller knows */
	if (!err && gone)
		err = ctx_fail(t->ctx, E_GONE, "The share is in the trash; restore it first");
	return err ? err : finish(t, r, want, out);
}

/* Whether t->folder is the one asked for, and enough is known of it. */
static bool folder_kept(const struct dtx *t, int64_t share_id, int64_t folder_id, unsigned want)
{
	const struct node *n = t->makes_files ? t->folder : NULL;
	if (!n || (n->rights & want) != want || (n->parent_id ? n->id : 0) != folder_id)
		return false;
	return n->share_id == share_id || (folder_id && !share_id);
}

int node_load_folder(struct dtx *t, int64_t share_id, int64_t folder_id, unsigned want, struct node *out)
{
	if (folder_kept(t, share_id, folder_id, want)) {
		*out = *t->folder;
		return 0;
	}
	int err = folder_id ? node_load(t, folder_id, NODE_FOLDER, want, out) : node_load_root(t, share_id, want, out);
	if (!err && share_id && out->share_id != share_id)
		err = access_verdict(t->ctx, 0, want, (struct rid){ID_FOLDER, folder_id});
	if (!err && t->makes_files) {
		t->folder = arena_new(t->ctx->arena, struct node);
		*t->folder = *out;
	}
	return err;
}

int node_child(struct dtx *t, const struct node *folder, struct str name, struct node *out)
{
	struct arena *a = t->ctx->arena;
	AUTO_ROWS *r = NULL;
	bool found;
	*out = (struct node){0};
	if (name_problem(name))
		return 0;
	int err = tx_query_row(t->tx,
	                       "select " NODE_COLUMNS " from nodes n join shares s on s.id = n.share_id"
	                       " where n.parent_id = $1 and n.name_key = $2 and n.trash_key = 0",
	                       DB_ARGS(V_I(folder->id), V_T(name_key(a, name))), &r, &found);
	if (err || !found)
		return err;
	node_from_row(a, r, out);
	node_put_below(a, out, folder);
	out->in_trash = folder->in_trash;
	out->rights = folder->rights;
	return 0;
}

int node_load_path(struct dtx *t, int64_t share_id, struct str path, unsigned want, struct node *out)
{
	struct str rest = str_starts(path, STR("/")) ? str_skip(path, 1) : path;
	if (path.n > LIMIT_PATH_BYTES)
		return ctx_fail(t->ctx, E_NOT_FOUND, "There is no such path");
	int err = node_load_root(t, share_id, rest.n ? RIGHT_READ : want, out);
	while (!err && rest.n) {
		struct node folder = *out;
		struct str name = str_cut(&rest, '/');
		err = folder.kind == NODE_FOLDER ? node_child(t, &folder, name, out) : 0;
		if (!err && (folder.kind != NODE_FOLDER || !out->id))
			err = ctx_fail(t->ctx, E_NOT_FOUND, "There is no such path");
		if (!err && !rest.n)
			err = access_verdict(t->ctx, out->rights, want, node_rid(out));
	}
	return err;
}

void node_put_below(struct arena *a, struct node *n, const struct node *folder)
{
	int64_t *ancestors = arena_many(a, folder->n_ancestors + 1, int64_t);
	if (folder->n_ancestors)
		memcpy(ancestors, folder->ancestors, folder->n_ancestors * sizeof *ancestors);
	ancestors[folder->n_ancestors] = folder->id;
	n->ancestors = ancestors;
	n->n_ancestors = folder->n_ancestors + 1;
	n->parent_id = folder->id;
	n->parent_is_root = folder->parent_id == 0;
	n->share_id = folder->share_id;
	n->path = path_join(a, folder->path, n->name);
}

/* ---- many folders at once ---- */

const struct folder_state *folder_states_get(const struct folder_states *s, int64_t id)
{
	return map_get(s->map, (uint64_t)id);
}

struct level {
	struct folder_states *s;
	struct folder_state **found;
};

static int read_folder(void *arg, size_t call, struct rows *r)
{
	struct level *level = arg;
	struct folder_state *f = arena_new(level->s->arena, struct folder_state);
	f->id = rows_i64(r, 0);
	f->parent_id = rows_i64(r, 1);
	f->own_deleted = rows_i64(r, 2) != 0;
	if (level->s->paths)
		f->name = arena_str(level->s->arena, rows_text(r, 3));
	map_put(level->s->map, (uint64_t)f->id, f);
	level->found[call] = f;
	return 0;
}

/* Settles a folder whose chain is in the map; without recursion, since the chain may be long. */
static void settle(struct folder_states *s, struct folder_state *f)
{
	UNSET struct folder_state *chain[NODE_WALK_MAX];
	size_t n = 0;
	for (; f && !f->settled && n < NODE_WALK_MAX; f = map_get(s->map, (uint64_t)f->parent_id))
		chain[n++] = f;
	while (n--) {
		struct folder_state *c = chain[n];
		const struct folder_state *parent = c->parent_id ? map_get(s->map, (uint64_t)c->parent_id) : NULL;
		c->live = !c->own_deleted && (!c->parent_id || (parent && parent->live));
		if (s->paths)
			c->path = c->parent_id ? path_join(s->arena, parent ? parent->path : STR("/"), c->name) : STR("/");
		c->settled = true;
	}
}

int folder_states_load(struct dtx *t, struct folder_states *s, const struct node *items, size_t n)
{
	int64_t *ids = arena_many(s->arena, n + 1, int64_t);
	struct folder_state **found = arena_many(s->arena, n + 1, struct folder_state *);
	struct dbv *args = arena_many(s->arena, n + 1, struct dbv);
	struct folder_state **fresh = arena_many(s->arena, n + 1, struct folder_state *);
	size_t n_ids = 0, n_fresh = 0;
	struct map asked = {0};
	for (size_t i = 0; i < n; i++) {
		int64_t id = items[i].parent_id;
		if (id && !map_get(s->map, (uint64_t)id) && !map_put(&asked, (uint64_t)id, found))
			ids[n_ids++] = id;
	}
	int err = 0;
	/* One round a level; each round asks for at most as many folders as the one before. */
	for (int depth = 0; !err && n_ids && depth < NODE_WALK_MAX; depth++) {
		for (size_t i = 0; i < n_ids; i++)
			args[i] = V_I(ids[i]);
		memset(found, 0, n_ids * sizeof *found);
		struct level level = {s, found};
		err = tx_many(t->tx, "select id, parent_id, deleted_at, name from nodes where id = $1", args, 1, n_ids,
		              read_folder, &level);
		size_t next = 0;
		for (size_t i = 0; !err && i < n_ids; i++) {
			if (!found[i])
				continue;
			if (depth == 0)
				fresh[n_fresh++] = found[i];
			int64_t up = found[i]->parent_id;
			if (up && !map_get(s->map, (uint64_t)up) && !map_put(&asked, (uint64_t)up, found))
				ids[next++] = up;
		}
		n_ids = next;
	}
	map_fini(&asked);
	for (size_t i = 0; !err && i < n_fresh; i++)
		settle(s, fresh[i]);
	return err;
}
