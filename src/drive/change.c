#include "drive/change.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/must.h"
#include "base/mutant.h"
#include "drive/node.h"
#include "drive/share.h"

enum {
	SCAN_FACTOR = 4, /* a page over all shares looks at this many times its limit before it returns what it has */
};
#define EPOCH_ZERO_US (INT64_C(1704067200) * 1000000) /* 2024-01-01 */

const char *change_type_name(enum change_type type)
{
	static const char *const names[] = {"", "created", "updated", "deleted", "moved", "renamed"};
	return (unsigned)type < sizeof names / sizeof *names ? names[type] : "";
}

/* ---- append ---- */

int change_peek(struct dtx *t, int64_t *seq)
{
	int err = drive_head(t, seq);
	(*seq)++;
	return err;
}

static void put_id_or_null(struct buf *b, enum id_kind kind, int64_t id)
{
	if (!id) {
		buf_lit(b, "null");
		return;
	}
	buf_char(b, '"');
	buf_id(b, kind, id);
	buf_char(b, '"');
}

static void put_file_facts(struct buf *b, const struct node *n)
{
	if (n->kind != NODE_FILE) {
		buf_lit(b, ",\"size\":null,\"mime_type\":null,\"checksum_sha256\":null,\"version\":null");
		return;
	}
	buf_lit(b, ",\"size\":");
	buf_i64(b, n->size_bytes);
	buf_lit(b, ",\"mime_type\":");
	json_put_str(b, n->mime_type);
	buf_lit(b, ",\"checksum_sha256\":");
	if (n->has_sha256) {
		char hex[64];
		hex_encode(n->sha256.b, 32, hex);
		json_put_str(b, str_n(hex, 64));
	} else {
		buf_lit(b, "null");
	}
	buf_lit(b, ",\"version\":");
	buf_i64(b, n->version);
}

static struct str node_metadata(struct arena *a, const struct node *n, bool subtree, struct str device_id)
{
	struct buf b = {0};
	buf_reserve(&b, 512);
	buf_lit(&b, "{\"parent_id\":");
	put_id_or_null(&b, ID_FOLDER, n->parent_is_root ? 0 : n->parent_id);
	buf_lit(&b, ",\"name\":");
	json_put_str(&b, n->name);
	put_file_facts(&b, n);
	buf_lit(&b, ",\"mtime\":");
	if (n->has_mtime) {
		buf_char(&b, '"');
		buf_time_us(&b, n->mtime_us);
		buf_char(&b, '"');
	} else {
		buf_lit(&b, "null");
	}
	buf_lit(&b, ",\"executable\":");
	json_put_bool(&b, n->executable);
	buf_lit(&b, ",\"device_id\":");
	json_put_str(&b, device_id);
	if (subtree)
		buf_lit(&b, ",\"subtree\":true");
	buf_char(&b, '}');
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

static struct str share_metadata(struct arena *a, struct str name, struct str reason, struct str device_id)
{
	struct buf b = {0};
	buf_lit(&b, "{\"parent_id\":null,\"name\":");
	json_put_str(&b, name);
	buf_lit(&b, ",\"size\":null,\"mime_type\":null,\"checksum_sha256\":null,\"version\":null,\"mtime\":null,"
	            "\"executable\":false,\"device_id\":");
	json_put_str(&b, device_id);
	if (reason.n) {
		buf_lit(&b, ",\"reason\":");
		json_put_str(&b, reason);
	}
	buf_char(&b, '}');
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

static int append(struct dtx *t, struct change *c)
{
	int64_t head;
	int err = drive_head(t, &head);
	if (err)
		return err;
	must(head < (INT64_C(1) << 53) - 1);
	c->seq = t->seq = head + 1;
	c->tenant_id = t->ctx->tenant_id;
	c->changed_by = t->ctx->who ? t->ctx->who->user_id : 0;
	c->changed_at = clock_now(t->ctx->clock);
	if (t->last)
		t->last->next = c;
	else
		t->first = c;
	t->last = c;
	t->n_changes++;
	return 0;
}

static struct str device_of(const struct dtx *t, struct str device_id)
{
	return device_id.p || !t->ctx->who ? device_id : t->ctx->who->device_id;
}

static struct str pack_ancestors(struct arena *a, const struct node *n)
{
	if (!n->n_ancestors || !n->ancestors)
		return STR_NULL;
	struct buf b = {0};
	for (size_t i = 0; i < n->n_ancestors; i++)
		buf_varint(&b, (uint64_t)n->ancestors[i]);
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

int change_append(struct dtx *t, enum change_type type, const struct node *node, struct str old_path,
                  struct str new_path, bool subtree, struct str device_id, int64_t *seq)
{
	struct arena *a = t->ctx->arena;
	struct change *c = arena_new(a, struct change);
	device_id = device_of(t, device_id);
	c->share_id = node->share_id;
	c->resource = node_rid(node);
	c->type = type;
	c->old_path = old_path;
	c->new_path = new_path;
	c->version_id = node->version_id;
	c->device_id = device_id;
	c->metadata = node_metadata(a, node, subtree, device_id);
	c->ancestors = pack_ancestors(a, node);
	int err = append(t, c);
	if (!err && seq)
		*seq = c->seq;
	return err;
}

int change_append_share(struct dtx *t, enum change_type type, int64_t share_id, struct str name, struct str reason)
{
	struct change *c = arena_new(t->ctx->arena, struct change);
	c->share_id = share_id;
	c->resource = (struct rid){ID_SHARE, share_id};
	c->type = type;
	c->device_id = device_of(t, STR_NULL);
	c->metadata = share_metadata(t->ctx->arena, name, reason, c->device_id);
	return append(t, c);
}

enum { CHANGE_ARGS = 14, FLUSH_MAX = DTX_ROWS_MAX };

static int flush_some(struct dtx *t, struct dbv *args)
{
	enum { N = CHANGE_ARGS };
	size_t n = 0;
	for (const struct change *c = t->first; c && n < FLUSH_MAX; c = t->first = c->next, n++) {
		const struct dbv row[N] = {V_I(c->share_id),     V_I(c->seq),           V_I(c->tenant_id),
		                           V_I(c->resource.kind), V_I(c->resource.n),   V_I(c->type),
		                           V_I(c->changed_by),   V_I(c->changed_at),    V_T(c->old_path),
		                           V_T(c->new_path),     V_I(c->version_id),    V_T(c->device_id),
		                           V_T(c->metadata),     V_B(c->ancestors)};
		memcpy(&args[n * N], row, sizeof row);
	}
	return tx_many(t->tx,
	               "insert into changes (share_id, seq, tenant_id, resource_kind, resource_id, change_type, changed_by,"
	               " changed_at, old_path, new_path, version_id, device_id, metadata, ancestors)"
	               " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
	               args, N, n, NULL, NULL);
}

int change_flush_rows(struct dtx *t)
{
	struct dbv one[CHANGE_ARGS];
	bool many = t->first && t->first->next;
	int err = 0;
	if (many && !t->change_args)
		t->change_args = arena_many(t->ctx->arena, (size_t)CHANGE_ARGS * FLUSH_MAX, struct dbv);
	while (!err && t->first)
		err = flush_some(t, many ? t->change_args : one);
	if (!err)
		t->last = NULL;
	return err;
}

int change_flush(struct dtx *t)
{
	int err = change_flush_rows(t);
	if (err || t->seq == t->stored_seq)
		return err;
	t->stored_seq = t->seq;
	return tx_exec(t->tx, "update tenants set seq = $2 where id = $1", DB_ARGS(V_I(t->ctx->tenant_id), V_I(t->seq)),
	               NULL);
}

/* ---- epochs: facts 'epoch_gaps/TENANT' = "old base ids;old base ids;..." ---- */

struct str change_gaps_key(struct arena *a, int64_t tenant_id)
{
	return arena_fmt(a, "epoch_gaps/%lld", (long long)tenant_id);
}

int change_gaps(struct dtx *t, struct str *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	*out = STR("");
	int err = tx_query_row(t->tx, "select value from facts where key = $1",
	                       DB_ARGS(V_T(change_gaps_key(t->ctx->arena, t->ctx->tenant_id))), &r, &found);
	if (!err && found)
		*out = arena_str(t->ctx->arena, rows_text(r, 0));
	return err;
}

int change_epoch_begin(struct dtx *t, int64_t ids_behind)
{
	struct arena *a = t->ctx->arena;
	int64_t head;
	struct str gaps;
	must(!t->first);
	int err = drive_head(t, &head);
	if (!err)
		err = change_gaps(t, &gaps);
	if (err)
		return err;
	int64_t ms = (clock_now(t->ctx->clock) - EPOCH_ZERO_US) / 1000;
	int64_t base = (ms > 0 ? ms << 12 : 0) + (int64_t)rng_below(t->ctx->rng, 1 << 12);
	if (base <= head)
		base = head + 1 + (int64_t)rng_below(t->ctx->rng, UINT64_C(1) << 34);
	if (mutant(M_DRIVE_EPOCH_AGAIN))
		base = head + 1;
	gaps = arena_fmt(a, "%.*s%lld %lld %lld;", STR_ARG(gaps), (long long)head, (long long)base, (long long)ids_behind);
	err = tx_exec(t->tx, "insert into facts (key, value) values ($1, $2) on conflict (key) do update set value = $2",
	              DB_ARGS(V_T(change_gaps_key(a, t->ctx->tenant_id)), V_T(gaps)), NULL);
	if (err)
		return err;
	t->seq = t->stored_seq = base;
	t->n_changes++; /* readers are to come and find out */
	return tx_exec(t->tx, "update tenants set seq = $2, floor_seq = $2 where id = $1",
	               DB_ARGS(V_I(t->ctx->tenant_id), V_I(base)), NULL);
}

bool change_gap_next(struct str *gaps, struct change_gap *out)
{
	while (gaps->n) {
		struct str gap = str_cut(gaps, ';');
		struct str from = str_cut(&gap, ' '), to = str_cut(&gap, ' ');
		if (!str_to_i64(gap, &out->ids_behind))
			out->ids_behind = INT64_MAX;
		if (str_to_i64(from, &out->from) && str_to_i64(to, &out->to))
			return true;
	}
	return false;
}

/* ---- pages ---- */

static int cursor_check_head(struct dtx *t, struct str text, int64_t *position, int64_t *head)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(t->tx, "select seq, floor_seq from tenants where id = $1",
	                       DB_ARGS(V_I(t->ctx->tenant_id)), &r, &found);
	if (err)
		return err;
	if (!found)
		return E_NOT_FOUND;
	*head = tx_is_write(t->tx) && t->seq ? t->seq : rows_i64(r, 0);
	int64_t floor_seq = rows_i64(r, 1);
	if (!text.p) {
		*position = *head;
		return 0;
	}
	bool known = str_to_i64(text, position) && *position >= floor_seq && *position >= 0 && *position <= *head;
	return known ? 0 : E_CURSOR_INVALID;
}

int cursor_check(struct dtx *t, struct str text, int64_t *position)
{
	int64_t head;
	return cursor_check_head(t, text, position, &head);
}

#define PAGE_COLUMNS \
	"seq, share_id, resource_kind, resource_id, change_type, changed_by, changed_at, old_path, new_path, version_id," \
	" device_id, metadata"

static void read_change(struct arena *a, int64_t tenant_id, struct rows *r, struct change *c)
{
	c->seq = rows_i64(r, 0);
	c->tenant_id = tenant_id;
	c->share_id = rows_i64(r, 1);
	c->resource.kind = (enum id_kind)rows_i64(r, 2);
	c->resource.n = rows_i64(r, 3);
	c->type = (enum change_type)rows_i64(r, 4);
	c->changed_by = rows_i64(r, 5);
	c->changed_at = rows_i64(r, 6);
	c->old_path = arena_str(a, rows_text(r, 7));
	c->new_path = arena_str(a, rows_text(r, 8));
	c->version_id = rows_i64(r, 9);
	c->device_id = arena_str(a, rows_text(r, 10));
	c->metadata = arena_str(a, rows_text(r, 11));
}

struct page_run {
	const struct change_page_in *in;
	struct change_page *out;
};

static int share_page(struct dtx *t, const struct change_page_in *in, int64_t position, int64_t head,
                      struct change_page *out)
{
	AUTO_ROWS *r = NULL;
	int err = tx_query(t->tx,
	                   "select " PAGE_COLUMNS " from changes where share_id = $1 and seq > $2 order by seq limit $3",
	                   DB_ARGS(V_I(in->share_id), V_I(position), V_I(in->limit + 1)), &r);
	if (err)
		return err;
	while (rows_next(r)) {
		if ((int64_t)out->n_items == in->limit) {
			out->has_more = true;
			break;
		}
		read_change(t->ctx->arena, t->ctx->tenant_id, r, &out->items[out->n_items++]);
	}
	out->cursor = out->has_more ? out->items[out->n_items - 1].seq : head;
	return rows_close(&r);
}

static char live, deleted;

/* Whose rows the caller may see; of a share that is deleted only those about the share itself. */
static int readable(struct dtx *t, struct map *shares)
{
	struct access_entry *list;
	size_t n;
	int err = access_shares(t, &list, &n);
	for (size_t i = 0; !err && i < n; i++)
		map_put(shares, (uint64_t)list[i].share_id, list[i].deleted ? &deleted : &live);
	return err;
}

static bool may_see(const struct map *shares, struct rows *r)
{
	const void *state = map_get(shares, (uint64_t)rows_i64(r, 1));
	return state == &live || (state == &deleted && rows_i64(r, 2) == ID_SHARE);
}

static int all_page(struct dtx *t, const struct change_page_in *in, int64_t position, int64_t head,
                    struct change_page *out)
{
	struct map shares = {0};
	bool admin = access_is_admin(t->ctx) && (t->ctx->who->scopes & ~(unsigned)SCOPE_FILES_WRITE);
	int64_t scan = in->limit * SCAN_FACTOR, scanned = 0;
	AUTO_ROWS *r = NULL;
	int err = admin ? 0 : readable(t, &shares);
	if (!err)
		err = tx_query(t->tx,
		               "select " PAGE_COLUMNS " from changes where tenant_id = $1 and seq > $2 order by seq limit $3",
		               DB_ARGS(V_I(t->ctx->tenant_id), V_I(position), V_I(scan)), &r);
	out->cursor = position;
	while (!err && rows_next(r)) {
		scanned++;
		if (admin || may_see(&shares, r)) {
			if ((int64_t)out->n_items == in->limit) {
				out->has_more = true;
				break;
			}
			read_change(t->ctx->arena, t->ctx->tenant_id, r, &out->items[out->n_items++]);
		}
		out->cursor = rows_i64(r, 0);
	}
	if (!err)
		err = rows_close(&r);
	if (scanned == scan && out->cursor < head)
		out->has_more = true;
	if (!out->has_more)
		out->cursor = head;
	map_fini(&shares);
	return err;
}

static int page_op(struct dtx *t, void *arg)
{
	struct page_run *run = arg;
	const struct change_page_in *in = run->in;
	int64_t position, head;
	int err = 0;
	if (in->share_id) {
		struct share share;
		err = share_load(t, in->share_id, RIGHT_READ, &share);
	}
	if (!err)
		err = cursor_check_head(t, in->cursor, &position, &head);
	if (err)
		return err;
	*run->out = (struct change_page){.cursor = head};
	if (position == head)
		return 0;
	int64_t room = head - position < in->limit ? head - position : in->limit;
	run->out->items = arena_many(t->ctx->arena, (size_t)room, struct change);
	return in->share_id ? share_page(t, in, position, head, run->out) : all_page(t, in, position, head, run->out);
}

int change_page_read(struct ctx *ctx, const struct change_page_in *in, struct change_page *out)
{
	struct change_page_in bounded = *in;
	if (bounded.limit < 1 || bounded.limit > LIMIT_PAGE_CHANGES)
		return ctx_invalid(ctx, "query", STR("limit"), "value_error", "limit must be between 1 and %d",
		                   LIMIT_PAGE_CHANGES);
	struct page_run run = {&bounded, out};
	return drive_read(ctx, page_op, &run);
}
