#include "drive/upload.h"

#include <stdlib.h>

#include "base/must.h"
#include "drive/file.h"
#include "drive/upload_hint.h"
#include "drive/upload_priv.h"
#include "drive/version_priv.h"

/* ---- the process ---- */

int uploads_open(struct drive *drive, struct disk *staging, struct uploads **out)
{
	struct uploads *u = calloc(1, sizeof *u);
	must(u != NULL);
	u->drive = drive;
	u->staging = staging;
	*out = NULL;
	int err = stage_sweep(u);
	if (err) {
		free(u);
		return err;
	}
	pthread_condattr_t attr;
	pthread_mutex_init(&u->mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->work, &attr);
	pthread_condattr_destroy(&attr);
	must(pthread_create(&u->mover, NULL, upload_mover, u) == 0);
	*out = u;
	return 0;
}

void uploads_close(struct uploads *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->mu);
	u->stopping = true;
	pthread_cond_broadcast(&u->work);
	pthread_mutex_unlock(&u->mu);
	pthread_join(u->mover, NULL);
	pthread_mutex_lock(&u->mu);
	while (u->lives.count) {
		uint64_t key;
		void *value;
		size_t i = 0;
		must(map_next(&u->lives, &i, &key, &value));
		must(((struct live *)value)->refs == 0);
		live_kill_locked(value);
	}
	while (u->n_spare)
		free(u->spare[--u->n_spare]);
	pthread_mutex_unlock(&u->mu);
	map_fini(&u->lives);
	pthread_cond_destroy(&u->work);
	pthread_mutex_destroy(&u->mu);
	free(u);
}

/* ---- rows ---- */

#define UPLOAD_COLUMNS \
	"id, share_id, folder_id, name, replace_file_id, base_version_id, strategy, staged, mime_type, mtime, " \
	"executable," \
	" device_id, checksum, size_bytes, chunk_bytes, status, next_piece, tail, sha256, file_id, version_id, " \
	"created_at," \
	" active_at, user_id"

static void from_row(struct arena *a, struct rows *r, struct upload *out)
{
	struct str checksum = rows_blob(r, 12);
	*out = (struct upload){
	    .id = rows_i64(r, 0),
	    .in.put = {.share_id = rows_i64(r, 1),
		       .folder_id = rows_i64(r, 2),
		       .name = arena_str(a, rows_text(r, 3)),
		       .replace_file_id = rows_i64(r, 4),
		       .base_version_id = rows_i64(r, 5),
		       .strategy = (enum resolve_strategy)rows_i64(r, 6),
		       .staged = rows_i64(r, 7) != 0,
		       .mime_type = arena_str(a, rows_text(r, 8)),
		       .has_mtime = !rows_is_null(r, 9),
		       .mtime_us = rows_i64(r, 9),
		       .has_executable = !rows_is_null(r, 10),
		       .executable = rows_i64(r, 10) != 0,
		       .device_id = arena_str(a, rows_text(r, 11))},
	    .in.has_checksum = checksum.n == 32,
	    .in.size_bytes = rows_i64(r, 13),
	    .in.chunk_bytes = rows_i64(r, 14),
	    .status = (enum upload_status)rows_i64(r, 15),
	    .next_piece = rows_i64(r, 16),
	    .tail = arena_str(a, rows_blob(r, 17)),
	    .sha256 = arena_str(a, rows_blob(r, 18)),
	    .file_id = rows_i64(r, 19),
	    .version_id = rows_i64(r, 20),
	    .created_at = rows_i64(r, 21),
	    .expires_at = rows_i64(r, 22) + MILLIS_US(LIMIT_UPLOAD_MS),
	    .user_id = rows_i64(r, 23),
	};
	if (checksum.n == 32)
		memcpy(out->in.checksum.b, checksum.p, 32);
	if (out->in.chunk_bytes > 0)
		out->n_pieces = upload_pieces(&out->in);
}

int upload_load(struct dtx *t, int64_t id, struct upload *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(
	    t->tx, "select " UPLOAD_COLUMNS " from uploads where id = $1 and tenant_id = $2 and user_id = $3",
	    DB_ARGS(V_I(id), V_I(t->ctx->tenant_id), V_I(actor(t))), &r, &found);
	if (err)
		return err;
	if (!found) {
		char wire[ID_WIRE_MAX + 1];
		id_format(wire, ID_UPLOAD, id);
		return ctx_fail(t->ctx, E_NOT_FOUND, "Not found: %s", wire);
	}
	from_row(t->ctx->arena, r, out);
	if (out->status == UPLOAD_OPEN && out->expires_at <= clock_now(t->ctx->clock))
		out->status = UPLOAD_EXPIRED;
	return 0;
}

int upload_status_check(struct ctx *ctx, const struct upload *up, bool open)
{
	if (up->status == UPLOAD_CANCELLED)
		return ctx_fail(ctx, E_EXPIRED, "The upload was cancelled");
	if (up->status == UPLOAD_EXPIRED)
		return ctx_fail(ctx, E_EXPIRED, "The upload has expired: nothing came for 24 hours");
	if (up->status == UPLOAD_COMPLETED && open)
		return ctx_fail(ctx, E_CONFLICT, "The upload is completed");
	return 0;
}

int upload_staged(struct dtx *t, int64_t id, struct staged_row **out, size_t *n)
{
	int64_t count;
	AUTO_ROWS *r = NULL;
	int err = tx_i64(t->tx, "select count(*) from upload_pieces where upload_id = $1", DB_ARGS(V_I(id)), 0, &count);
	if (!err)
		err = tx_query(t->tx,
			       "select piece, file_id, size_bytes, xxh, hash from upload_pieces where upload_id = $1 order "
			       "by piece limit $2",
			       DB_ARGS(V_I(id), V_I(count)), &r);
	if (err)
		return err;
	*n = 0;
	*out = arena_many(t->ctx->arena, (size_t)count + 1, struct staged_row);
	while ((int64_t)*n < count && rows_next(r)) {
		struct staged_row *row = &(*out)[(*n)++];
		struct str claim = rows_blob(r, 4);
		*row = (struct staged_row){rows_i64(r, 0), {rows_i64(r, 1), rows_i64(r, 2), (uint64_t)rows_i64(r, 3), claim.n == 32, {{0}}}, STR_NULL, 0};
		if (claim.n == 32)
			memcpy(row->staged.claim.b, claim.p, 32);
	}
	return rows_close(&r);
}

static int staged_new(void *arg, size_t call, struct rows *r)
{
	(void)call;
	(void)r;
	++*(size_t *)arg;
	return 0;
}

int upload_stage(struct tx *tx, int64_t id, const struct staged_row *rows, size_t n, size_t *n_new)
{
	enum { ARGS = 8 };
	struct dbv *args = arena_many(tx_arena(tx), n * ARGS, struct dbv), *a = args;
	int64_t next;
	*n_new = 0;
	int err = tx_i64(tx, "select next_piece from uploads where id = $1 and status = 1", DB_ARGS(V_I(id)), -1, &next);
	if (!err && next < 0)
		return E_EXPIRED;
	for (const struct staged_row *r = rows; !err && r < rows + n; r++) {
		if (r->piece < next)
			continue;
		*a++ = V_I(id);
		*a++ = V_I(r->piece);
		*a++ = V_I(r->staged.file_id);
		*a++ = V_I(r->staged.size_bytes);
		*a++ = V_I((int64_t)r->staged.xxh);
		*a++ = r->staged.claimed ? V_B(str_n(r->staged.claim.b, 32)) : V_NULL;
		*a++ = V_B(r->recipe);
		*a++ = V_I(r->skip_bytes);
	}
	return err ? err
	           : tx_many(tx,
	                     "insert into upload_pieces (upload_id, piece, file_id, size_bytes, xxh, hash, recipe, skip_bytes) values"
	                     " ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (upload_id, piece) do nothing returning piece",
	                     args, ARGS, (size_t)(a - args) / ARGS, staged_new, n_new);
}

/* ---- what is received ---- */

static void list_pieces(struct arena *a, struct upload *up, const struct staged_row *rows, size_t n)
{
	int64_t all = up->n_pieces;
	up->received = arena_many(a, (size_t)(all < UPLOAD_LIST_MAX ? all : UPLOAD_LIST_MAX) + 1, int64_t);
	up->missing = arena_many(a, (size_t)(all < UPLOAD_LIST_MAX ? all : UPLOAD_LIST_MAX) + 1, int64_t);
	bool over = up->status == UPLOAD_COMPLETED;
	size_t k = 0;
	for (int64_t i = 0; i < all; i++) {
		while (k < n && rows[k].piece < i)
			k++;
		bool have = over || i < up->next_piece || (k < n && rows[k].piece == i);
		if (have) {
			up->n_received++;
			up->bytes_received +=
			    i + 1 < all ? up->in.chunk_bytes : up->in.size_bytes - i * up->in.chunk_bytes;
			if (up->n_received_listed < UPLOAD_LIST_MAX)
				up->received[up->n_received_listed++] = i;
		} else if (up->n_missing_listed < UPLOAD_LIST_MAX) {
			up->missing[up->n_missing_listed++] = i;
		}
	}
}

/* Of an upload that was loaded: which pieces it has. */
static int received_op(struct dtx *t, void *upload)
{
	struct upload *up = upload;
	struct staged_row *rows = NULL;
	size_t n = 0;
	int err = up->status == UPLOAD_OPEN ? upload_staged(t, up->id, &rows, &n) : 0;
	up->n_received = up->bytes_received = 0;
	up->n_received_listed = up->n_missing_listed = 0;
	if (!err)
		list_pieces(t->ctx->arena, up, rows, n);
	return err;
}

/* ---- create ---- */

static int shape_check(struct ctx *ctx, const struct upload_create *in)
{
	int64_t chunk = in->chunk_bytes;
	if (chunk < LIMIT_UPLOAD_CHUNK_MIN || chunk > LIMIT_UPLOAD_CHUNK_MAX || (chunk & (chunk - 1)) != 0)
		return ctx_invalid(ctx, "body", STR("chunk_size"), "value_error", "a power of two from %d to %d",
				   LIMIT_UPLOAD_CHUNK_MIN, LIMIT_UPLOAD_CHUNK_MAX);
	if (in->size_bytes < 0)
		return ctx_invalid(ctx, "body", STR("file_size"), "greater_than_equal", "0 or more");
	if (in->size_bytes > LIMIT_CONTENT_BYTES)
		return ctx_fail(ctx, E_TOO_LARGE, "A file has at most %lld bytes", (long long)LIMIT_CONTENT_BYTES);
	if (upload_pieces(in) > LIMIT_UPLOAD_PIECES)
		return chunk < LIMIT_UPLOAD_CHUNK_MAX
			   ? ctx_invalid(ctx, "body", STR("chunk_size"), "value_error",
					 "an upload has at most %d chunks; take larger ones", LIMIT_UPLOAD_PIECES)
			   : ctx_fail(ctx, E_TOO_LARGE, "An upload has at most %d chunks", LIMIT_UPLOAD_PIECES);
	const struct version_put *put = &in->put;
	if (!put->share_id && !put->folder_id && !put->replace_file_id)
		return ctx_invalid(ctx, "body", STR("share_id"), "missing", "Field required");
	if (!put->name.p && !put->replace_file_id)
		return ctx_invalid(ctx, "body", STR("file_name"), "missing", "Field required");
	if (put->staged && !put->replace_file_id)
		return ctx_invalid(ctx, "body", STR("replace_file_id"), "missing", "Field required when staged");
	return 0;
}

struct create {
	const struct upload_create *in;
	struct sha256 hash;
	struct upload *out;
};

static void hash_text(struct buf *b, struct str s)
{
	buf_varint(b, s.p ? s.n + 1 : 0);
	buf_str(b, s);
}

static struct sha256 create_hash(const struct upload_create *in)
{
	const struct version_put *put = &in->put;
	const int64_t numbers[] = {put->share_id,   put->folder_id, put->replace_file_id, put->base_version_id,
				   put->strategy,   put->staged,    in->size_bytes,       in->chunk_bytes,
				   put->has_mtime,  put->mtime_us,  put->has_executable,  put->executable,
				   in->has_checksum};
	struct buf b = {0};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		buf_varint(&b, zigzag(numbers[i]));
	hash_text(&b, put->name);
	hash_text(&b, put->mime_type);
	hash_text(&b, put->device_id);
	buf_put(&b, in->checksum.b, 32);
	struct sha256 h = sha256_of(b.p, b.n);
	buf_fini(&b);
	return h;
}

/* The share it will count to: rights were checked, and are again at the end. */
static int find_share(struct dtx *t, struct version_put *put)
{
	struct node n;
	int err = put->replace_file_id
		      ? node_load(t, put->replace_file_id, NODE_FILE, RIGHT_WRITE | NODE_WITH_TRASH, &n)
		      : node_load_folder(t, put->share_id, put->folder_id, RIGHT_CREATE, &n);
	put->share_id = n.share_id;
	return err;
}

/* A user's open sessions are bounded in number and in bytes, and a share's quota holds them all. */
static int room_check(struct dtx *t, int64_t share_id, int64_t size_bytes)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int64_t quota_left;
	int err = tx_query_row(
	    t->tx,
	    "select count(*), coalesce(sum(size_bytes), 0), coalesce(sum(case when share_id = $2 then size_bytes"
	    " else 0 end), 0) from uploads where user_id = $1 and status = 1 and active_at > $3",
	    DB_ARGS(V_I(actor(t)), V_I(share_id), V_I(clock_now(t->ctx->clock) - MILLIS_US(LIMIT_UPLOAD_MS))), &r,
	    &found);
	if (err || !found)
		return err ? err : E_INTERNAL;
	int64_t sessions = rows_i64(r, 0), reserved = rows_i64(r, 1), here = rows_i64(r, 2);
	err = tx_i64(t->tx, "select quota_bytes - used_bytes from shares where id = $1", DB_ARGS(V_I(share_id)),
		     INT64_MAX, &quota_left);
	if (err)
		return err;
	if (sessions >= LIMIT_UPLOADS_PER_USER)
		return ctx_fail(t->ctx, E_RATE_LIMITED, "You have %d open uploads; complete or cancel some",
				LIMIT_UPLOADS_PER_USER);
	if (reserved > LIMIT_UPLOAD_RESERVED_BYTES || size_bytes > LIMIT_UPLOAD_RESERVED_BYTES - reserved)
		return ctx_fail(t->ctx, E_QUOTA, "Your open uploads would have more than %lld bytes together",
				(long long)LIMIT_UPLOAD_RESERVED_BYTES);
	if (here > quota_left || size_bytes > quota_left - here)
		return ctx_fail(t->ctx, E_QUOTA, "The quota of the share would be exceeded");
	return 0;
}

static int insert_row(struct dtx *t, const struct upload_create *in, const struct version_put *put, int64_t id)
{
	int64_t now = clock_now(t->ctx->clock);
	static const char nothing[] = "";
	struct sha256 empty = sha256_of(nothing, 0);
	return tx_exec(
	    t->tx,
	    "insert into uploads (id, tenant_id, user_id, share_id, folder_id, name, replace_file_id, base_version_id,"
	    " strategy, staged, mime_type, mtime, executable, device_id, checksum, size_bytes, chunk_bytes, sha256,"
	    " created_at, active_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, "
	    "$17,"
	    " $18, $19, $19)",
	    DB_ARGS(V_I(id), V_I(t->ctx->tenant_id), V_I(actor(t)), V_I(put->share_id), V_I(put->folder_id),
		    V_T(put->name), V_I(put->replace_file_id), V_I(put->base_version_id), V_I(put->strategy),
		    V_I(put->staged), V_T(put->mime_type), put->has_mtime ? V_I(put->mtime_us) : V_NULL,
		    put->has_executable ? V_I(put->executable) : V_NULL, V_T(put->device_id),
		    in->has_checksum ? V_B(str_n(in->checksum.b, 32)) : V_NULL, V_I(in->size_bytes),
		    V_I(in->chunk_bytes), in->size_bytes ? V_NULL : V_B(str_n(empty.b, 32)), V_I(now)),
	    NULL);
}

static int create_op(struct dtx *t, void *arg)
{
	struct create *c = arg;
	struct version_put put = c->in->put;
	struct rid hit = {0};
	int err = idempotency_find(t, &c->hash, &hit);
	if (!err && hit.n)
		return upload_load(t, hit.n, c->out);
	int64_t id = idgen_next(t->drive->ids);
	if (!err)
		err = drive_room(t);
	if (!err)
		err = find_share(t, &put);
	if (!err)
		err = room_check(t, put.share_id, c->in->size_bytes);
	if (!err)
		err = insert_row(t, c->in, &put, id);
	if (!err)
		err = idempotency_store(t, &c->hash, (struct rid){ID_UPLOAD, id});
	if (!err)
		err = upload_load(t, id, c->out);
	c->out->is_new = !err;
	return err;
}

int drive_upload_create(struct ctx *ctx, const struct upload_create *in, struct upload *out)
{
	struct create c = {.in = in, .hash = create_hash(in), .out = out};
	struct staged_row *found;
	size_t n;
	int err = shape_check(ctx, in);
	if (!err)
		err = upload_hints_check(ctx, in);
	if (!err)
		err = drive_file_put_check(ctx, &in->put, in->size_bytes, NULL);
	if (!err)
		err = upload_hints_find(ctx, in, &found, &n);
	if (!err)
		err = drive_write(ctx, create_op, &c);
	if (!err && out->is_new && n)
		err = upload_hints_take(ctx, out, found, n);
	return err ? err : drive_read(ctx, received_op, out);
}

/* ---- get ---- */

struct get {
	int64_t id;
	struct upload *out;
};

static int get_op(struct dtx *t, void *arg)
{
	struct get *g = arg;
	int err = upload_load(t, g->id, g->out);
	if (!err)
		err = upload_status_check(t->ctx, g->out, false);
	return err ? err : received_op(t, g->out);
}

int drive_upload_get(struct ctx *ctx, int64_t id, struct upload *out)
{
	struct get g = {id, out};
	return drive_read(ctx, get_op, &g);
}

/* ---- cancel ---- */

static void drop_live(struct uploads *u, int64_t id)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->mu);
	struct live *l = map_get(&u->lives, (uint64_t)id);
	if (l)
		live_kill_locked(l);
	pthread_mutex_unlock(&u->mu);
}

struct cancel {
	int64_t id;
	struct staged_row *rows;
	size_t n;
};

static int cancel_op(struct dtx *t, void *arg)
{
	struct cancel *c = arg;
	struct upload up;
	c->n = 0;
	int err = upload_load(t, c->id, &up);
	if (!err && up.status != UPLOAD_CANCELLED)
		err = upload_status_check(t->ctx, &up, true);
	if (err || up.status == UPLOAD_CANCELLED)
		return err;
	err = tx_exec(t->tx, "update uploads set status = 3, active_at = $2 where id = $1",
	              DB_ARGS(V_I(c->id), V_I(clock_now(t->ctx->clock))), NULL);
	if (!err)
		err = upload_staged(t, c->id, &c->rows, &c->n);
	/* at most as many as the writer bears; the mover clears away the rest */
	if (!err && c->n <= 500)
		err = tx_exec(t->tx, "delete from upload_pieces where upload_id = $1", DB_ARGS(V_I(c->id)), NULL);
	return err;
}

int drive_upload_cancel(struct ctx *ctx, int64_t id)
{
	struct uploads *u = ctx->drive->uploads;
	struct cancel c = {.id = id};
	int err = drive_write(ctx, cancel_op, &c);
	if (err)
		return err;
	drop_live(u, id);
	for (size_t i = 0; u && i < c.n && c.n <= 500; i++)
		stage_remove(u, c.rows[i].staged.file_id);
	return 0;
}

/* ---- complete ---- */

struct complete {
	int64_t id;
	struct upload up;
	struct staged_row *rows;
	size_t n;
	struct buf recipe;
	struct content content;
	struct version_result *out;
	struct buf hashes; /* of the pieces, as far as they were claimed; empty when none was */
};

static int join_parts(struct dtx *t, struct complete *c)
{
	struct recipe_join join;
	AUTO_ROWS *r = NULL;
	static const uint8_t none[32];
	bool any = false;
	buf_clear(&c->recipe);
	buf_clear(&c->hashes);
	recipe_join_begin(&join, &c->recipe);
	int err = tx_query(t->tx, "select recipe, hash from upload_parts where upload_id = $1 order by first_piece",
			   DB_ARGS(V_I(c->id)), &r);
	while (!err && rows_next(r)) {
		struct str hash = rows_blob(r, 1);
		any |= hash.n == 32;
		buf_put(&c->hashes, hash.n == 32 ? (const uint8_t *)hash.p : none, 32);
		err = recipe_join_add(&join, rows_blob(r, 0));
	}
	if (!any || c->up.n_pieces > LIMIT_UPLOAD_HINTS)
		buf_clear(&c->hashes);
	int closed = rows_close(&r);
	if (err || closed)
		return err ? err : closed;
	return join.size_bytes == c->up.in.size_bytes ? 0 : E_CORRUPT;
}

static int look_op(struct dtx *t, void *arg)
{
	struct complete *c = arg;
	int err = upload_load(t, c->id, &c->up);
	if (!err)
		err = upload_status_check(t->ctx, &c->up, false);
	if (err || c->up.status == UPLOAD_COMPLETED)
		return err;
	if (c->up.sha256.n == 32)
		return join_parts(t, c);
	err = upload_staged(t, c->id, &c->rows, &c->n);
	if (!err)
		list_pieces(t->ctx->arena, &c->up, c->rows, c->n);
	return err;
}

static int pieces_missing(struct ctx *ctx, const struct upload *up)
{
	enum { SHOWN = 20 };
	struct buf list = {0};
	for (size_t i = 0; i < up->n_missing_listed && i < SHOWN; i++)
		buf_fmt(&list, "%s%lld", i ? ", " : "", (long long)up->missing[i]);
	int err = ctx_fail(ctx, E_CONFLICT, "%lld of %lld chunks are missing: %.*s%s",
			   (long long)(up->n_pieces - up->n_received), (long long)up->n_pieces, (int)list.n, list.p,
			   up->n_pieces - up->n_received > SHOWN ? " ..." : "");
	buf_fini(&list);
	return err;
}

/* All is received, but not all is fed: the mover is at it. Waits a little, if not many do: whoever waits holds a worker that
 * the mover's pieces may need. */
static int wait_for_mover(struct ctx *ctx, struct complete *c)
{
	enum { WAIT_MS = 2000, STEP_MS = 50 };
	struct uploads *u = ctx->drive->uploads;
	struct live *l = live_find(u, c->id);
	if (!l)
		l = live_new(u, ctx->tenant_id, &c->up, c->rows, c->n);
	int64_t until = clock_mono(&clock_system) + MILLIS_US(WAIT_MS);
	pthread_mutex_lock(&u->mu);
	live_learn_locked(l, c->rows, c->n);
	pthread_cond_signal(&u->work);
	bool may_wait = u->n_waiting < LIMIT_UPLOAD_WAITING;
	u->n_waiting += may_wait;
	while (may_wait && !l->dead && l->durable < l->n_pieces && clock_mono(&clock_system) < until) {
		int64_t us = clock_mono(&clock_system) + MILLIS_US(STEP_MS);
		struct timespec step = {us / 1000000, us % 1000000 * 1000};
		pthread_cond_timedwait(&l->moved, &u->mu, &step);
	}
	u->n_waiting -= may_wait;
	bool done = l->durable == l->n_pieces;
	pthread_mutex_unlock(&u->mu);
	live_put(l);
	return done ? 0 : ctx_fail(ctx, E_BUSY, "The chunks are still being put together; ask again shortly");
}

static int complete_op(struct dtx *t, void *arg)
{
	struct complete *c = arg;
	struct upload up;
	int err = upload_load(t, c->id, &up);
	if (!err)
		err = upload_status_check(t->ctx, &up, false);
	if (err)
		return err;
	if (up.status == UPLOAD_COMPLETED)
		return version_again(t, up.file_id, up.version_id, c->out);
	struct version_put put = up.in.put;
	put.content = &c->content;
	err = version_commit(t, &put, c->out);
	return err ? err
		   : tx_exec(
			 t->tx,
			 "update uploads set status = 2, file_id = $2, version_id = $3, active_at = $4, hashes = $5 where id = $1",
			 DB_ARGS(V_I(c->id), V_I(c->out->node.id), V_I(c->out->version.id),
				 V_I(clock_now(t->ctx->clock)), c->hashes.n ? V_B(buf_as_str(&c->hashes)) : V_NULL),
			 NULL);
}

static int again_op(struct dtx *t, void *arg)
{
	struct complete *c = arg;
	return version_again(t, c->up.file_id, c->up.version_id, c->out);
}

static int make_version(struct ctx *ctx, struct complete *c)
{
	c->content = (struct content){.size_bytes = c->up.in.size_bytes, .recipe = buf_as_str(&c->recipe)};
	memcpy(c->content.sha256.b, c->up.sha256.p, 32);
	if (c->up.in.has_checksum && !sha256_eq(&c->content.sha256, &c->up.in.checksum))
		return ctx_fail(ctx, E_CHECKSUM,
				"The content that arrived does not have the checksum_sha256 that the upload was begun"
				" with");
	int err = store_health(ctx->drive->store);
	if (!err)
		err = drive_write(ctx, complete_op, c);
	if (!err)
		drop_live(ctx->drive->uploads, c->id);
	return err;
}

int drive_upload_complete(struct ctx *ctx, int64_t id, struct version_result *out)
{
	struct complete c = {.id = id, .out = out};
	int err = drive_read(ctx, look_op, &c);
	bool open = !err && c.up.status == UPLOAD_OPEN;
	if (open && c.up.sha256.n != 32) {
		err = c.up.n_received < c.up.n_pieces ? pieces_missing(ctx, &c.up) : wait_for_mover(ctx, &c);
		if (!err)
			err = drive_read(ctx, look_op, &c);
		if (!err && c.up.sha256.n != 32 && c.up.status == UPLOAD_OPEN)
			err = E_BUSY;
	}
	if (!err)
		err = c.up.status == UPLOAD_COMPLETED ? drive_read(ctx, again_op, &c) : make_version(ctx, &c);
	buf_fini(&c.recipe);
	buf_fini(&c.hashes);
	return err;
}
