#include "drive/preference.h"

#include "base/json.h"
#include "drive/device.h"
#include "drive/share.h"
#include "drive/tail.h"

/* A share that went back to the default keeps its row, so that the sockets can be told; nothing else sees it. */
enum { SYNC_OFF, SYNC_ON, SYNC_DEFAULT };

/* ---- folder lists: JSON arrays of wire ids in the database ---- */

static struct str folders_text(struct arena *a, bool has, const int64_t *ids, size_t n)
{
	if (!has)
		return STR_NULL;
	struct buf b;
	buf_init(&b);
	buf_char(&b, '[');
	for (size_t i = 0; i < n; i++) {
		buf_str(&b, i ? STR(",\"") : STR("\""));
		buf_id(&b, ID_FOLDER, ids[i]);
		buf_char(&b, '"');
	}
	buf_char(&b, ']');
	struct str text = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return text;
}

static void folders_parse(struct arena *a, struct str text, bool *has, int64_t **ids, size_t *n)
{
	AUTO_JSON *doc = NULL;
	*has = false;
	*n = 0;
	if (!text.p || json_parse(text, &doc))
		return;
	size_t len = json_len(doc);
	*has = true;
	*ids = arena_many(a, len, int64_t);
	for (size_t i = 0; i < len; i++)
		if (id_parse_kind(json_value_str(json_at(doc, i)), ID_FOLDER, &(*ids)[*n]))
			++*n;
}

/* ---- reading ---- */

static int list_read(struct dtx *t, int64_t device, struct preference_list *out)
{
	struct arena *a = t->ctx->arena;
	int64_t count;
	AUTO_ROWS *r = NULL;
	int err = tx_i64(t->tx, "select count(*) from device_preferences where device = $1 and sync_enabled <> $2",
	                 DB_ARGS(V_I(device), V_I(SYNC_DEFAULT)), 0, &count);
	if (err)
		return err;
	if (count > PREFERENCE_LIST_MAX)
		count = PREFERENCE_LIST_MAX;
	*out = (struct preference_list){.items = arena_many(a, (size_t)count, struct preference)};
	err = tx_query(t->tx,
	               "select share_id, sync_enabled, selected_folders, excluded_folders, updated_at from device_preferences"
	               " where device = $1 and sync_enabled <> $3 order by share_id limit $2",
	               DB_ARGS(V_I(device), V_I(count), V_I(SYNC_DEFAULT)), &r);
	if (err)
		return err;
	while (out->n < (size_t)count && rows_next(r)) {
		struct preference *p = &out->items[out->n++];
		p->share_id = rows_i64(r, 0);
		p->sync_enabled = rows_i64(r, 1) == SYNC_ON;
		folders_parse(a, rows_text(r, 2), &p->has_selected, &p->selected, &p->n_selected);
		folders_parse(a, rows_text(r, 3), &p->has_excluded, &p->excluded, &p->n_excluded);
		p->updated_at = rows_i64(r, 4);
	}
	return rows_close(&r);
}

struct list_op {
	struct str device_id;
	struct preference_list *out;
};

static int list_op(struct dtx *t, void *arg)
{
	struct list_op *op = arg;
	struct device d;
	int err = device_load(t, op->device_id, &d);
	return err ? err : list_read(t, d.id, op->out);
}

int drive_preference_list(struct ctx *ctx, struct str device_id, struct preference_list *out)
{
	struct list_op op = {device_id, out};
	return drive_read(ctx, list_op, &op);
}

/* ---- writing ---- */

struct put_op {
	struct str device_id;
	const struct preference *items;
	size_t n;
	bool replace;
	struct preference_list *out;
};

static int put_one(struct dtx *t, int64_t device, const struct preference *p, int64_t now)
{
	struct share share;
	struct arena *a = t->ctx->arena;
	int err = share_load(t, p->share_id, RIGHT_READ, &share);
	if (err)
		return err;
	return tx_exec(t->tx,
	               "insert into device_preferences (device, share_id, sync_enabled, selected_folders, excluded_folders,"
	               " updated_at) values ($1, $2, $3, $4, $5, $6) on conflict (device, share_id) do update set"
	               " sync_enabled = excluded.sync_enabled, selected_folders = excluded.selected_folders,"
	               " excluded_folders = excluded.excluded_folders, updated_at = excluded.updated_at",
	               DB_ARGS(V_I(device), V_I(p->share_id), V_I(p->sync_enabled ? SYNC_ON : SYNC_OFF),
	                       V_T(folders_text(a, p->has_selected, p->selected, p->n_selected)),
	                       V_T(folders_text(a, p->has_excluded, p->excluded, p->n_excluded)), V_I(now)),
	               NULL);
}

static int put_op(struct dtx *t, void *arg)
{
	struct put_op *op = arg;
	struct device d;
	int64_t now = clock_now(t->ctx->clock);
	int err = device_load(t, op->device_id, &d);
	if (!err && op->replace)
		err = tx_exec(t->tx,
		              "update device_preferences set sync_enabled = $2, selected_folders = null, excluded_folders = null,"
		              " updated_at = $3 where device = $1 and sync_enabled <> $2",
		              DB_ARGS(V_I(d.id), V_I(SYNC_DEFAULT), V_I(now)), NULL);
	for (size_t i = 0; !err && i < op->n; i++)
		err = put_one(t, d.id, &op->items[i], now);
	if (!err)
		err = list_read(t, d.id, op->out);
	return err;
}

int drive_preference_put(struct ctx *ctx, struct str device_id, const struct preference *items, size_t n,
                         bool replace, struct preference_list *out)
{
	if (n > PREFERENCE_LIST_MAX)
		return ctx_invalid(ctx, "body", STR("preferences"), "too_long", "At most %d preferences.", PREFERENCE_LIST_MAX);
	for (size_t i = 0; i < n; i++)
		if (items[i].n_selected > PREFERENCE_FOLDERS_MAX || items[i].n_excluded > PREFERENCE_FOLDERS_MAX)
			return ctx_invalid(ctx, "body", STR("selected_folders"), "too_long", "At most %d folders in a list.",
			                   PREFERENCE_FOLDERS_MAX);
	struct put_op op = {device_id, items, n, replace, out};
	int err = drive_write(ctx, put_op, &op);
	if (!err)
		tail_nudge(ctx->drive, ctx->tenant_id);
	return err;
}

int preference_changed(struct dtx *t, int64_t since_us, size_t max, struct preference_notice **out, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	*out = arena_many(t->ctx->arena, max, struct preference_notice);
	int err = tx_query(t->tx,
	                   "select d.user_id, p.share_id, p.updated_at, d.device_id from device_preferences p"
	                   " join devices d on d.id = p.device where p.updated_at > $1 and d.tenant_id = $2"
	                   " order by p.updated_at limit $3",
	                   DB_ARGS(V_I(since_us), V_I(t->ctx->tenant_id), V_I(max)), &r);
	if (err)
		return err;
	while (*n < max && rows_next(r)) {
		struct preference_notice *p = &(*out)[(*n)++];
		p->user_id = rows_i64(r, 0);
		p->share_id = rows_i64(r, 1);
		p->updated_at = rows_i64(r, 2);
		p->device_id = arena_str(t->ctx->arena, rows_text(r, 3));
	}
	return rows_close(&r);
}
