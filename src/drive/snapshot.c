#include "drive/snapshot.h"

#include <stdlib.h>

#include "base/limits.h"
#include "drive/node_priv.h"
#include "drive/share.h"

enum {
	DEFAULT_LIMIT = 1000,
	SUBTREE_MAX = 20000, /* a folder with more below it is read by scanning its share */
};

struct token {
	int64_t share_id, folder_id, cursor, last_id;
};

/* "1.SHARE.FOLDER.CURSOR.LAST", decimal. Not signed: a forged one yields nothing that its maker may not read. */
static struct str token_make(struct arena *a, const struct token *k)
{
	return arena_fmt(a, "1.%lld.%lld.%lld.%lld", (long long)k->share_id, (long long)k->folder_id, (long long)k->cursor,
	                 (long long)k->last_id);
}

static bool token_read(struct str s, struct token *k)
{
	struct str rest = s;
	return str_eq(str_cut(&rest, '.'), STR("1")) && str_to_i64(str_cut(&rest, '.'), &k->share_id) &&
	       str_to_i64(str_cut(&rest, '.'), &k->folder_id) && str_to_i64(str_cut(&rest, '.'), &k->cursor) && rest.p &&
	       str_to_i64(rest, &k->last_id);
}

struct run {
	const struct snapshot_in *in;
	int64_t limit, below;
	struct snapshot_page *out;
};

static int by_id(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;
	return a < b ? -1 : a > b;
}

/* The ids of folder_id and of all that is live below it, ascending; *n > SUBTREE_MAX: too many. */
static int subtree(struct dtx *t, int64_t folder_id, int64_t *ids, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	int err = tx_query(t->tx,
	                   "with recursive down(id) as (select id from nodes where id = $1 union all"
	                   " select n.id from down join nodes n on n.parent_id = down.id where n.trash_key = 0)"
	                   " select id from down limit $2",
	                   DB_ARGS(V_I(folder_id), V_I(SUBTREE_MAX + 1)), &r);
	if (err)
		return err;
	while (*n <= SUBTREE_MAX && rows_next(r))
		ids[(*n)++] = rows_i64(r, 0);
	qsort(ids, *n, sizeof *ids, by_id);
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

static int page_of_ids(struct dtx *t, struct run *run, const int64_t *ids, size_t n, struct token *k, bool *more)
{
	struct snapshot_page *out = run->out;
	size_t from = 0;
	while (from < n && ids[from] <= k->last_id)
		from++;
	out->n = n - from < (size_t)run->limit ? n - from : (size_t)run->limit;
	*more = from + out->n < n;
	out->items = arena_many(t->ctx->arena, out->n + 1, struct node);
	struct dbv *args = arena_many(t->ctx->arena, out->n + 1, struct dbv);
	for (size_t i = 0; i < out->n; i++)
		args[i] = V_I(ids[from + i]);
	if (out->n)
		k->last_id = ids[from + out->n - 1];
	struct fill fill = {t->ctx->arena, out->items};
	return tx_many(t->tx, "select " NODE_COLUMNS " from nodes n join shares s on s.id = n.share_id where n.id = $1", args,
	               1, out->n, fill_node, &fill);
}

static bool below(const struct folder_states *s, const struct node *n, int64_t folder_id)
{
	if (!folder_id || n->id == folder_id)
		return true;
	int steps = 0;
	for (const struct folder_state *f = folder_states_get(s, n->parent_id); f && steps++ < NODE_WALK_MAX;
	     f = folder_states_get(s, f->parent_id))
		if (f->id == folder_id)
			return true;
	return false;
}

/* Twice the room for n nodes: a page may hold many more than a share has. */
static struct node *more_room(struct arena *a, const struct node *items, size_t n, size_t *cap)
{
	*cap = *cap ? *cap * 2 : 64;
	struct node *more = arena_many(a, *cap, struct node);
	if (n)
		memcpy(more, items, n * sizeof(*more));
	return more;
}

/* The next rows of the share in id order; those that are live (and below folder_id) stay. */
static int page_of_share(struct dtx *t, struct run *run, struct token *k, bool *more)
{
	struct arena *a = t->ctx->arena;
	struct snapshot_page *out = run->out;
	struct map map = {0};
	struct folder_states states = {.arena = a, .map = &map};
	AUTO_ROWS *r = NULL;
	int err = tx_query(t->tx,
	                   "select " NODE_COLUMNS " from nodes n join shares s on s.id = n.share_id"
	                   " where n.share_id = $1 and n.id > $2 order by n.id limit $3",
	                   DB_ARGS(V_I(run->in->share_id), V_I(k->last_id), V_I(run->limit)), &r);
	if (err)
		return err;
	struct node *items = NULL;
	size_t scanned = 0, n = 0, cap = 0;
	while (scanned < (size_t)run->limit && rows_next(r)) {
		if (n == cap)
			items = more_room(a, items, n, &cap);
		node_from_row(a, r, &items[n]);
		k->last_id = items[n].id;
		scanned++;
		if (!items[n].deleted_at && items[n].parent_id)
			n++;
	}
	*more = scanned == (size_t)run->limit;
	err = rows_close(&r);
	if (!err)
		err = folder_states_load(t, &states, items, n);
	out->items = items;
	for (size_t i = 0; !err && i < n; i++) {
		const struct folder_state *f = folder_states_get(&states, items[i].parent_id);
		if (f && f->live && below(&states, &items[i], run->below))
			items[out->n++] = items[i];
	}
	map_fini(&map);
	return err;
}

static int snapshot_op(struct dtx *t, void *arg)
{
	struct run *run = arg;
	const struct snapshot_in *in = run->in;
	struct token k = {.share_id = in->share_id, .folder_id = in->folder_id};
	struct node folder; /* the share's root counts as none */
	bool more = false;
	*run->out = (struct snapshot_page){0};
	int err = node_load_folder(t, in->share_id, in->folder_id, RIGHT_READ, &folder);
	if (!err && in->page_token.p) {
		if (!token_read(in->page_token, &k) || k.share_id != in->share_id || k.folder_id != in->folder_id)
			return ctx_fail(t->ctx, E_BAD_REQUEST, "page_token does not belong to this snapshot");
		int64_t position;
		err = cursor_check(t, arena_fmt(t->ctx->arena, "%lld", (long long)k.cursor), &position);
	} else if (!err) {
		err = drive_head(t, &k.cursor);
		if (!err)
			err = change_gaps(t, &run->out->gaps);
	}
	if (err)
		return err;
	run->out->cursor = k.cursor;
	size_t n_ids = SUBTREE_MAX + 1;
	run->below = folder.parent_id ? folder.id : 0;
	if (run->below) {
		int64_t *ids = arena_many(t->ctx->arena, SUBTREE_MAX + 1, int64_t);
		err = subtree(t, folder.id, ids, &n_ids);
		if (!err && n_ids <= SUBTREE_MAX)
			err = page_of_ids(t, run, ids, n_ids, &k, &more);
	}
	if (!err && n_ids > SUBTREE_MAX)
		err = page_of_share(t, run, &k, &more);
	if (!err && more)
		run->out->next_page_token = token_make(t->ctx->arena, &k);
	return err;
}

int drive_snapshot(struct ctx *ctx, const struct snapshot_in *in, struct snapshot_page *out)
{
	struct run run = {.in = in, .limit = in->limit ? in->limit : DEFAULT_LIMIT, .out = out};
	if (run.limit < 1 || run.limit > LIMIT_PAGE_SNAPSHOT)
		return ctx_invalid(ctx, "query", STR("limit"), "value_error", "limit must be between 1 and %d",
		                   LIMIT_PAGE_SNAPSHOT);
	return drive_read(ctx, snapshot_op, &run);
}
