#include "drive/folder.h"

#include <stdlib.h>

#include "base/limits.h"
#include "drive/node_priv.h"
#include "drive/share.h"

/* ---- create ---- */

struct create {
	const struct folder_create *in;
	struct node *out;
};

static struct sha256 create_hash(const struct folder_create *in)
{
	struct buf b = {0};
	buf_varint(&b, (uint64_t)in->share_id);
	buf_varint(&b, (uint64_t)in->parent_id);
	buf_str(&b, in->name);
	struct sha256 h = sha256_of(b.p, b.n);
	buf_fini(&b);
	return h;
}

static int create_op(struct dtx *t, void *arg)
{
	const struct folder_create *in = ((struct create *)arg)->in;
	struct node parent, *n = ((struct create *)arg)->out;
	struct sha256 hash = create_hash(in);
	struct rid hit;
	int err = idempotency_find(t, &hash, &hit);
	if (!err && hit.n)
		return node_load(t, hit.n, NODE_FOLDER, RIGHT_READ | NODE_WITH_TRASH, n);
	if (!err)
		err = node_load_folder(t, in->share_id, in->parent_id, RIGHT_CREATE, &parent);
	if (err)
		return err;
	*n = (struct node){.kind = NODE_FOLDER, .name = in->name};
	err = node_insert(t, &parent, n, in->device_id);
	return err ? err : idempotency_store(t, &hash, node_rid(n));
}

int drive_folder_create(struct ctx *ctx, const struct folder_create *in, struct node *out)
{
	struct create c = {in, out};
	return drive_write(ctx, create_op, &c);
}

/* ---- children ---- */

struct entry {
	int64_t id;
	int kind;
	struct str key;
};

/* Folders first, then by the key that compares names (D19), byte by byte, so that both engines agree; id for twins in
 * the trash. */
static int by_name(const void *x, const void *y)
{
	const struct entry *a = x, *b = y;
	if (a->kind != b->kind)
		return a->kind - b->kind;
	int c = str_cmp(a->key, b->key);
	return c ? c : a->id < b->id ? -1 : a->id > b->id;
}

static int entries(struct dtx *t, const struct node *folder, bool deleted, struct entry **out, size_t *n_out)
{
	struct arena *a = t->ctx->arena;
	AUTO_ROWS *r = NULL;
	struct entry *list = NULL;
	size_t n = 0, cap = 0;
	int err = tx_query(t->tx, "select id, kind, name_key, trash_key from nodes where parent_id = $1",
	                   DB_ARGS(V_I(folder->id)), &r);
	if (err)
		return err;
	while (rows_next(r)) {
		if (rows_i64(r, 3) && !deleted)
			continue;
		if (n == cap) {
			struct entry *more = arena_many(a, cap = cap ? cap * 2 : 64, struct entry);
			if (n)
				memcpy(more, list, n * sizeof *more);
			list = more;
		}
		list[n++] = (struct entry){rows_i64(r, 0), (int)rows_i64(r, 1), arena_str(a, rows_text(r, 2))};
	}
	if (n)
		qsort(list, n, sizeof *list, by_name);
	*out = list;
	*n_out = n;
	return rows_close(&r);
}

struct fill {
	struct arena *arena;
	struct node *items;
};

static int fill_node(void *arg, size_t call, struct rows *r)
{
	struct fill *f = arg;
	node_from_row(f->arena, r, &f->items[call]);
	return 0;
}

struct children {
	const struct folder_children_in *in;
	struct folder_children *out;
};

static int children_op(struct dtx *t, void *arg)
{
	const struct folder_children_in *in = ((struct children *)arg)->in;
	struct folder_children *out = ((struct children *)arg)->out;
	struct arena *a = t->ctx->arena;
	struct entry *list;
	size_t n;
	*out = (struct folder_children){0};
	int err = node_load_folder(t, in->share_id, in->folder_id, RIGHT_READ | (in->include_deleted ? NODE_WITH_TRASH : 0),
	                           &out->folder);
	if (!err)
		err = entries(t, &out->folder, in->include_deleted, &list, &n);
	if (err)
		return err;
	out->total = (int64_t)n;
	size_t from = in->offset > 0 && in->offset < (int64_t)n ? (size_t)in->offset : in->offset > 0 ? n : 0;
	size_t limit = in->limit > 0 && in->limit < LIMIT_PAGE_SNAPSHOT ? (size_t)in->limit : LIMIT_PAGE_SNAPSHOT;
	out->n = n - from < limit ? n - from : limit;
	out->items = arena_many(a, out->n + 1, struct node);
	struct dbv *args = arena_many(a, out->n + 1, struct dbv);
	for (size_t i = 0; i < out->n; i++)
		args[i] = V_I(list[from + i].id);
	struct fill fill = {a, out->items};
	err = tx_many(t->tx, "select " NODE_COLUMNS " from nodes n join shares s on s.id = n.share_id where n.id = $1", args, 1,
	              out->n, fill_node, &fill);
	for (size_t i = 0; !err && i < out->n; i++) {
		struct node *child = &out->items[i];
		child->path = path_join(a, out->folder.path, child->name);
		child->in_trash |= out->folder.in_trash;
		child->rights = out->folder.rights;
	}
	return err;
}

int drive_folder_children(struct ctx *ctx, const struct folder_children_in *in, struct folder_children *out)
{
	struct children c = {in, out};
	return drive_read(ctx, children_op, &c);
}

/* ---- the trash of a share ---- */

struct trash {
	int64_t share_id, limit, offset;
	struct trash_list *out;
};

static int trash_op(struct dtx *t, void *arg)
{
	struct trash *in = arg;
	struct arena *a = t->ctx->arena;
	struct node root;
	struct map map = {0};
	struct folder_states states = {.arena = a, .map = &map, .paths = true};
	*in->out = (struct trash_list){0};
	int err = node_load_root(t, in->share_id, RIGHT_READ, &root);
	if (!err)
		err = tx_i64(t->tx, "select count(*) from nodes where share_id = $1 and deleted_at > 0",
		             DB_ARGS(V_I(in->share_id)), 0, &in->out->total);
	AUTO_ROWS *r = NULL;
	if (!err)
		err = tx_query(t->tx,
		               "select " NODE_COLUMNS " from nodes n join shares s on s.id = n.share_id where n.share_id = $1"
		               " and n.deleted_at > 0 order by n.deleted_at desc, n.id desc limit $2 offset $3",
		               DB_ARGS(V_I(in->share_id), V_I(in->limit), V_I(in->offset)), &r);
	if (err)
		return err;
	struct node *items = in->out->items = arena_many(a, (size_t)in->limit, struct node);
	while ((int64_t)in->out->n < in->limit && rows_next(r))
		node_from_row(a, r, &items[in->out->n++]);
	err = rows_close(&r);
	if (!err)
		err = folder_states_load(t, &states, items, in->out->n);
	for (size_t i = 0; !err && i < in->out->n; i++) {
		const struct folder_state *f = folder_states_get(&states, items[i].parent_id);
		items[i].path = path_join(a, f ? f->path : STR("/"), items[i].name);
		items[i].rights = root.rights;
	}
	map_fini(&map);
	return err;
}

int drive_trash_list(struct ctx *ctx, int64_t share_id, int64_t limit, int64_t offset, struct trash_list *out)
{
	struct trash in = {share_id, limit, offset < 0 ? 0 : offset, out};
	if (limit < 1 || limit > LIMIT_PAGE_LIST)
		in.limit = LIMIT_PAGE_LIST;
	return drive_read(ctx, trash_op, &in);
}
