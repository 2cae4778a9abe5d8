/* Deleting a folder as its deleter saw it (D5).
 *
 * base_cursor says up to where the device had read. What others changed after it was not seen, so it stays, and so do
 * the folders on the way to it; everything else goes. The nodes that stay are found from the few that changed, walking
 * up, never by walking down the tree:
 *
 *   folder              changed by others since base_cursor?        what goes
 *   the deleted one     nothing at or below it                      the folder, one row
 *                       the folder itself                           nothing
 *   one on the way      something below it                          its other children, one row each
 *   a changed folder    itself (made, moved in, renamed)            nothing: it may hold what the deleter never saw
 *   a changed file      itself                                      nothing
 *
 * Changes made by the device itself do not count: it knows them.
 */
#include "base/limits.h"
#include "base/mutant.h"
#include "drive/apply_priv.h"

/* The siblings that one guarded deletion may trash, a row each, while the writer is held. */
enum { SIBLINGS_MAX = 5000 };

static char way_mark, whole_mark;
#define ON_THE_WAY ((void *)&way_mark)  /* stays, something below it changed */
#define WHOLE ((void *)&whole_mark)     /* changed itself: stays with all below */

static int foreign_load(struct apply_step *s)
{
	struct apply_foreign *f = &s->batch->foreign;
	const struct apply_in *in = s->batch->in;
	if (f->loaded)
		return 0;
	f->loaded = true;
	AUTO_ROWS *r = NULL;
	int64_t scanned = 0;
	int err = tx_query(s->t->tx,
	                   "select resource_id, changed_by, device_id from changes where share_id = $1 and seq > $2"
	                   " order by seq limit $3",
	                   DB_ARGS(V_I(in->share_id), V_I(in->base_cursor), V_I(LIMIT_APPLY_TRASH_WALK + 1)), &r);
	if (err)
		return err;
	while (rows_next(r)) {
		int64_t id = rows_i64(r, 0);
		if (++scanned > LIMIT_APPLY_TRASH_WALK) {
			f->too_many = true;
			break;
		}
		if (mutant(M_DRIVE_FRESH_FILES_GO))
			continue;
		if (rows_i64(r, 1) == s->t->ctx->who->user_id && str_eq(rows_text(r, 2), in->device_id))
			continue;
		map_put(&f->ids, (uint64_t)id, s->batch);
	}
	return rows_close(&r);
}

int apply_foreign_has(struct apply_step *s, int64_t node_id, bool *yes)
{
	int err = foreign_load(s);
	*yes = map_get(&s->batch->foreign.ids, (uint64_t)node_id) != NULL && !mutant(M_DRIVE_FRESH_FILES_GO);
	if (!err && s->batch->foreign.too_many)
		err = ctx_fail(s->t->ctx, E_CURSOR_INVALID, "base_cursor lies too far back to delete by it; pull first.");
	return err;
}

/* Walks up from a changed node. When it lies below the folder, the way to it is marked in keep. */
static int keep_way(struct apply_step *s, const struct node *folder, int64_t id, struct map *keep)
{
	int64_t way[LIMIT_PATH_DEPTH + 2];
	size_t n = 0;
	for (int64_t at = id; at;) {
		if (at == folder->id)
			break;
		if (n == sizeof way / sizeof *way)
			return 0;
		struct rows *r = NULL;
		bool found;
		int64_t parent = 0;
		int err = tx_query_row(s->t->tx, "select parent_id from nodes where id = $1 and share_id = $2 and deleted_at = 0",
		                       DB_ARGS(V_I(at), V_I(folder->share_id)), &r, &found);
		if (!err && found)
			parent = rows_i64(r, 0);
		int end = rows_close(&r);
		if (err || end)
			return err ? err : end;
		if (!found)
			return 0; /* gone already, or elsewhere */
		way[n++] = at;
		at = parent;
		if (!at)
			return 0; /* reached the root: it lies elsewhere */
	}
	for (size_t i = 1; i < n; i++)
		if (map_get(keep, (uint64_t)way[i]) != WHOLE)
			map_put(keep, (uint64_t)way[i], ON_THE_WAY);
	map_put(keep, (uint64_t)id, WHOLE);
	if (n && !map_get(keep, (uint64_t)folder->id))
		map_put(keep, (uint64_t)folder->id, ON_THE_WAY);
	return 0;
}

static int keep_find(struct apply_step *s, const struct node *folder, struct map *keep)
{
	uint64_t id;
	void *value;
	bool itself;
	int err = apply_foreign_has(s, folder->id, &itself);
	for (size_t i = 0; !err && map_next(&s->batch->foreign.ids, &i, &id, &value);)
		err = keep_way(s, folder, (int64_t)id, keep);
	return err;
}

/* The live children of a folder that do not stay, appended to *ids; folders on the way are appended to *ways. */
struct sweep {
	int64_t *ids, *ways;
	size_t n_ids, n_ways;
};

static int sweep_folder(struct apply_step *s, int64_t folder_id, const struct map *keep, struct sweep *w)
{
	AUTO_ROWS *r = NULL;
	int err = tx_query(s->t->tx, "select id from nodes where parent_id = $1 and deleted_at = 0 order by id limit $2",
	                   DB_ARGS(V_I(folder_id), V_I(SIBLINGS_MAX + (int64_t)keep->count + 1)), &r);
	if (err)
		return err;
	while (rows_next(r)) {
		int64_t id = rows_i64(r, 0);
		void *mark = map_get(keep, (uint64_t)id);
		if (mark == ON_THE_WAY)
			w->ways[w->n_ways++] = id;
		else if (!mark && w->n_ids < SIBLINGS_MAX)
			w->ids[w->n_ids++] = id;
		else if (!mark)
			return ctx_fail(s->t->ctx, E_CURSOR_INVALID,
			                "Others changed this folder since base_cursor and it is too large to sort out; pull first.");
	}
	return rows_close(&r);
}

/* Trashes what does not stay. Nothing is trashed before all is found: a child is one row whatever lies below it. */
static int sweep_run(struct apply_step *s, const struct node *folder, const struct map *keep)
{
	struct arena *a = s->t->ctx->arena;
	struct sweep w = {.ids = arena_many(a, SIBLINGS_MAX, int64_t), .ways = arena_many(a, keep->count + 1, int64_t)};
	int err = 0;
	w.ways[w.n_ways++] = folder->id;
	for (size_t i = 0; !err && i < w.n_ways; i++)
		err = sweep_folder(s, w.ways[i], keep, &w);
	for (size_t i = 0; !err && i < w.n_ids; i++) {
		struct node child;
		err = node_load(s->t, w.ids[i], 0, RIGHT_DELETE, &child);
		if (!err)
			err = node_trash(s->t, &child, s->batch->in->device_id);
		else if (err == E_FORBIDDEN || err == E_NOT_FOUND) { /* a rule protects it: it stays */
			ctx_clear(s->t->ctx);
			err = 0;
		}
	}
	return err;
}

static int delete_guarded(struct apply_step *s, struct node *n)
{
	struct map keep = {0};
	int err = keep_find(s, n, &keep);
	void *mark = map_get(&keep, (uint64_t)n->id);
	if (!err && !mark) {
		err = node_trash(s->t, n, s->batch->in->device_id);
		if (!err)
			apply_says(s, APPLY_APPLIED, n);
	} else if (!err) {
		if (mark == ON_THE_WAY)
			err = sweep_run(s, n, &keep);
		if (!err)
			err = apply_conflict(s, n, CONFLICT_FOLDER_DELETE, 0, 0, 0, s->batch->in->strategy == RESOLVE_MANUAL);
		if (!err)
			apply_says(s, APPLY_CONFLICT, n);
	}
	map_fini(&keep);
	return err;
}

int apply_folder_deleted(struct apply_step *s)
{
	struct node n;
	int err = apply_node(s, RIGHT_READ, &n);
	if (err)
		return err;
	if (n.in_trash) {
		apply_says(s, APPLY_NOOP, &n);
		return 0;
	}
	if (!n.parent_id)
		return ctx_fail(s->t->ctx, E_FORBIDDEN, "Permission denied: the root of a share stays");
	err = access_verdict(s->t->ctx, n.rights, RIGHT_DELETE, node_rid(&n));
	if (err)
		return err;
	if (s->batch->in->base_cursor >= 0)
		return delete_guarded(s, &n);
	err = node_trash(s->t, &n, s->batch->in->device_id);
	if (!err)
		apply_says(s, APPLY_APPLIED, &n);
	return err;
}
