#include "drive/where.h"

enum { UP_MAX = 1024, PATH_MAX_BYTES = 4096 };

/* The way up, as far as it goes. */
static int walk_up(struct tx *tx, struct arena *a, int64_t id, struct where *w)
{
	int err = 0;
	for (int i = 0; !err && id && i < UP_MAX; i++) {
		AUTO_ROWS *r = NULL;
		bool found;
		err = tx_query_row(tx, "select parent_id, name, share_id, deleted_at from nodes where id = $1", DB_ARGS(V_I(id)), &r,
		                   &found);
		if (err || !found) {
			w->path = arena_fmt(a, "/...%.*s", STR_ARG(w->path));
			return err;
		}
		id = rows_i64(r, 0);
		w->share_id = w->share_id ? w->share_id : rows_i64(r, 2);
		w->in_trash |= rows_i64(r, 3) > 0;
		if (id)
			w->path = arena_fmt(a, "/%.*s%.*s", STR_ARG(rows_text(r, 1)), STR_ARG(w->path));
		if (w->path.n > PATH_MAX_BYTES) /* a cycle */
			return 0;
	}
	if (!err && !w->path.n)
		w->path = STR("/");
	return err;
}

int where_is(struct tx *tx, struct arena *a, int64_t node_id, struct where *w)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = node_id ? walk_up(tx, a, node_id, w) : 0;
	if (!err && w->share_id)
		err = tx_query_row(tx, "select name from shares where id = $1", DB_ARGS(V_I(w->share_id)), &r, &found);
	if (!err && w->share_id && found)
		w->share = arena_str(a, rows_text(r, 0));
	return err;
}

int where_text(struct tx *tx, struct arena *a, int64_t node_id, struct str *out)
{
	struct where w = {0};
	int err = where_is(tx, a, node_id, &w);
	*out = arena_fmt(a, "%.*s:%.*s", STR_ARG(w.share), STR_ARG(w.path));
	return err;
}
