#include "drive/tree_read.h"

#include <stdlib.h>

#include "base/map.h"
#include "drive/share.h"

struct job {
	int64_t share_id;
	bool with_versions;
	struct tree_read *out;
};

enum { PAGE = 5000 };

static void take_sha256(struct rows *r, int col, struct sha256 *out)
{
	struct str s = rows_blob(r, col);
	if (s.n == sizeof out->b)
		memcpy(out->b, s.p, s.n);
}

static int read_nodes(struct dtx *t, struct job *j, int64_t n)
{
	struct tree_read *out = j->out;
	struct arena *a = t->ctx->arena;
	int64_t last = 0;
	int err = 0;
	out->entries = arena_many(a, (size_t)n + 1, struct tree_entry);
	out->n = 0;
	for (bool more = true; !err && more;) {
		AUTO_ROWS *r = NULL;
		more = false;
		err = tx_query(t->tx,
		               "select id, parent_id, kind, name, version_id, version, size_bytes, coalesce(mtime, modified_at),"
		               " executable, sha256 from nodes where share_id = $1 and id > $2 and trash_key = 0 order by id limit $3",
		               DB_ARGS(V_I(j->share_id), V_I(last), V_I(PAGE)), &r);
		while (!err && out->n < (size_t)n && rows_next(r)) {
			struct tree_entry *e = &out->entries[out->n++];
			*e = (struct tree_entry){
			    .id = rows_i64(r, 0),
			    .parent_id = rows_i64(r, 1),
			    .is_folder = rows_i64(r, 2) == NODE_FOLDER,
			    .name = arena_str(a, rows_text(r, 3)),
			    .version_id = rows_i64(r, 4),
			    .version = rows_i64(r, 5),
			    .size_bytes = rows_i64(r, 6),
			    .mtime_us = rows_i64(r, 7),
			    .executable = rows_i64(r, 8) != 0,
			};
			take_sha256(r, 9, &e->sha256);
			last = e->id;
			more = true;
		}
		if (!err)
			err = rows_close(&r);
	}
	return err;
}

/* Children to parents; what lies below something in the trash stays unreached. */
static void link_up(struct tree_read *tree)
{
	struct map at = {0};
	for (size_t i = 0; i < tree->n; i++) {
		if (tree->entries[i].parent_id == 0 && i) { /* the root first */
			struct tree_entry root = tree->entries[i];
			tree->entries[i] = tree->entries[0];
			tree->entries[0] = root;
		}
	}
	for (size_t i = 0; i < tree->n; i++)
		map_put(&at, (uint64_t)tree->entries[i].id, &tree->entries[i]);
	for (size_t i = tree->n; i-- > 1;) {
		struct tree_entry *up = map_get(&at, (uint64_t)tree->entries[i].parent_id);
		if (!up)
			continue;
		tree->entries[i].next = up->first;
		up->first = i;
	}
	map_fini(&at);
}

static int by_node(const void *x, const void *y)
{
	const struct tree_version *a = x, *b = y;
	if (a->node_id != b->node_id)
		return a->node_id < b->node_id ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

#define OF_VERSIONS " from versions v join nodes n on n.id = v.node_id" \
	" where n.share_id = $1 and n.trash_key = 0 and v.number > 0 and v.id <> n.version_id"

static int read_versions(struct dtx *t, struct job *j)
{
	struct tree_read *out = j->out;
	int64_t n, last = 0;
	int err = tx_i64(t->tx, "select count(*)" OF_VERSIONS, DB_ARGS(V_I(j->share_id)), 0, &n);
	if (err)
		return err;
	out->versions = arena_many(t->ctx->arena, (size_t)n, struct tree_version);
	out->n_versions = 0;
	for (bool more = true; !err && more;) {
		AUTO_ROWS *r = NULL;
		more = false;
		err = tx_query(t->tx,
		               "select v.id, v.node_id, v.number, v.size_bytes, coalesce(v.mtime, v.created_at), v.created_at,"
		               " v.executable, v.sha256" OF_VERSIONS " and v.id > $2 order by v.id limit $3",
		               DB_ARGS(V_I(j->share_id), V_I(last), V_I(PAGE)), &r);
		while (!err && out->n_versions < (size_t)n && rows_next(r)) {
			struct tree_version *v = &out->versions[out->n_versions++];
			last = rows_i64(r, 0);
			*v = (struct tree_version){
			    .node_id = rows_i64(r, 1),
			    .number = rows_i64(r, 2),
			    .size_bytes = rows_i64(r, 3),
			    .mtime_us = rows_i64(r, 4),
			    .created_at = rows_i64(r, 5),
			    .executable = rows_i64(r, 6) != 0,
			};
			take_sha256(r, 7, &v->sha256);
			more = true;
		}
		if (!err)
			err = rows_close(&r);
	}
	if (!err && out->n_versions)
		qsort(out->versions, out->n_versions, sizeof *out->versions, by_node);
	return err;
}

static int read_op(struct dtx *t, void *arg)
{
	struct job *j = arg;
	struct share share;
	int64_t n;
	int err = share_load(t, j->share_id, RIGHT_READ, &share);
	if (!err)
		err = tx_i64(t->tx, "select count(*) from nodes where share_id = $1 and trash_key = 0", DB_ARGS(V_I(j->share_id)), 0, &n);
	if (!err)
		err = read_nodes(t, j, n);
	if (!err)
		link_up(j->out);
	if (!err && j->with_versions)
		err = read_versions(t, j);
	return err;
}

int drive_tree_read(struct ctx *ctx, int64_t share_id, bool with_versions, struct tree_read *out)
{
	struct job j = {share_id, with_versions, out};
	*out = (struct tree_read){0};
	return drive_read(ctx, read_op, &j);
}
