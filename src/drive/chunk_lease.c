/* Leases: chunks that a user sent and may name (drive/chunk.h). A row is a batch as it was indexed, so that ten thousand
 * chunks are three rows. Who looks for chunks reads its leases from the newest on, until it has found them all: those are the
 * chunks that were sent a moment ago. The bound on unused bytes and on rows bounds that reading. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/places.h"
#include "chunks/chunker.h"
#include "drive/chunk.h"
#include "drive/node_priv.h"
#include "drive/share.h"

enum { SWEEP = 64 };
#define USED_BIT (UINT32_C(1) << 31)

/* What a chunk counts of LIMIT_LEASED_BYTES: small ones as much as it costs to look through them. */
static int64_t weight(uint32_t length)
{
	return length > LIMIT_LEASE_CHUNK_BYTES ? length : LIMIT_LEASE_CHUNK_BYTES;
}

static void entry_write(uint8_t out[LEASE_ENTRY_BYTES], const struct lease_entry *e)
{
	uint32_t length = e->length | (e->used ? USED_BIT : 0);
	memcpy(out, e->hash.b, 32);
	for (unsigned i = 0; i < 8; i++)
		out[32 + i] = (uint8_t)((uint64_t)e->chunk_id >> (8 * i));
	for (unsigned i = 0; i < 4; i++)
		out[40 + i] = (uint8_t)(length >> (8 * i));
}

int lease_entry_read(struct str chunks, size_t slot, struct lease_entry *e)
{
	const uint8_t *in = (const uint8_t *)chunks.p + slot * LEASE_ENTRY_BYTES;
	uint64_t id = 0;
	uint32_t length = 0;
	for (unsigned i = 8; i-- > 0;)
		id = id << 8 | in[32 + i];
	for (unsigned i = 4; i-- > 0;)
		length = length << 8 | in[40 + i];
	memcpy(e->hash.b, in, 32);
	e->chunk_id = (int64_t)id;
	e->length = length & ~USED_BIT;
	e->used = length & USED_BIT;
	return e->chunk_id > 0 && e->length > 0 && e->length <= CHUNK_MAX_BYTES ? 0 : E_CORRUPT;
}

/* ---- who may upload ---- */

/* What the user may still lease. */
static int room_left(struct dtx *t, int64_t *room_bytes)
{
	AUTO_ROWS *rows = NULL;
	bool found;
	*room_bytes = 0;
	int err = tx_query_row(t->tx,
	                       "select count(*), cast(coalesce(sum(unused_bytes), 0) as bigint) from chunk_leases"
	                       " where user_id = $1 and tenant_id = $2 and expires_at > $3",
	                       DB_ARGS(V_I(actor(t)), V_I(t->ctx->tenant_id), V_I(clock_now(t->ctx->clock))), &rows, &found);
	if (!err && found && rows_i64(rows, 0) < LIMIT_LEASES)
		*room_bytes = LIMIT_LEASED_BYTES - rows_i64(rows, 1);
	if (*room_bytes < 0)
		*room_bytes = 0;
	return err ? err : rows_close(&rows);
}

static int no_room(struct ctx *ctx)
{
	return ctx_fail(ctx, E_QUOTA,
	                "Chunks of %d GiB, or sent in %d requests, are waiting to be used by this user: apply the changes that "
	                "they were sent for first",
	                (int)(LIMIT_LEASED_BYTES >> 30), LIMIT_LEASES);
}

struct upload_ask {
	int64_t share_id, size_bytes;
	int64_t *room_bytes;
};

static int upload_op(struct dtx *t, void *arg)
{
	struct upload_ask *a = arg;
	struct share s;
	int err = share_load(t, a->share_id, RIGHT_WRITE, &s);
	int64_t quota_left = !err && s.has_quota ? s.quota_bytes - s.used_bytes : INT64_MAX;
	if (!err && (quota_left <= 0 || a->size_bytes > quota_left))
		err = ctx_fail(t->ctx, E_QUOTA, "The quota of the share would be exceeded");
	if (!err)
		err = room_left(t, a->room_bytes);
	if (!err && (*a->room_bytes == 0 || a->size_bytes > *a->room_bytes))
		err = no_room(t->ctx);
	if (!err && *a->room_bytes > quota_left)
		*a->room_bytes = quota_left;
	return err;
}

int drive_chunks_check(struct ctx *ctx, int64_t share_id, int64_t size_bytes, int64_t *room_bytes)
{
	struct upload_ask a = {share_id, size_bytes, room_bytes};
	return drive_read(ctx, upload_op, &a);
}

/* ---- making ---- */

struct keep {
	const struct content *content;
	int64_t expires_at;
	size_t from;
	struct buf chunks;
	int64_t bytes;
};

static int lease_one(void *arg, int64_t chunk_id, const struct sha256 *hash, uint32_t length)
{
	struct keep *k = arg;
	uint8_t entry[LEASE_ENTRY_BYTES];
	entry_write(entry, &(struct lease_entry){.hash = *hash, .chunk_id = chunk_id, .length = length});
	buf_put(&k->chunks, entry, sizeof entry);
	k->bytes += weight(length);
	return 0;
}

/* Whoever adds one clears away several: what is over, and the user's own that are used up. What is over stays until whoever
 * found a chunk by it has made a version (drive/assemble.h), since the collector spares chunks for the rows there are. */
static int sweep(struct dtx *t)
{
	int64_t now = clock_now(t->ctx->clock);
	int64_t used_before = now + MILLIS_US(LIMIT_CHUNK_LEASE_MS - LIMIT_LEASE_USED_MS);
	_Static_assert(SWEEP > 1, "more is cleared away than added");
	int err = tx_exec(t->tx,
	                  "delete from chunk_leases where id in (select id from chunk_leases"
	                  " where tenant_id = $1 and expires_at < $2 limit 64)",
	                  DB_ARGS(V_I(t->ctx->tenant_id), V_I(now - MILLIS_US(LIMIT_CONDEMNED_MS))), NULL);
	if (err)
		return err;
	return tx_exec(t->tx,
	               "delete from chunk_leases where id in (select id from chunk_leases"
	               " where user_id = $1 and tenant_id = $2 and unused_bytes = 0 and expires_at < $3 limit 64)",
	               DB_ARGS(V_I(actor(t)), V_I(t->ctx->tenant_id), V_I(used_before)), NULL);
}

static int keep_op(struct dtx *t, void *arg)
{
	struct keep *k = arg;
	int64_t room;
	buf_clear(&k->chunks);
	k->bytes = 0;
	int err = sweep(t);
	if (!err)
		err = room_left(t, &room);
	if (!err)
		err = content_index(t->tx, t->drive->store, t->ctx->tenant_id, k->content, k->from, LIMIT_CHUNKS_TX, lease_one, k);
	if (!err && k->bytes > room)
		err = no_room(t->ctx);
	if (err || !k->chunks.n)
		return err;
	return tx_exec(t->tx,
	               "insert into chunk_leases (id, tenant_id, user_id, expires_at, unused_bytes, chunks)"
	               " values ($1, $2, $3, $4, $5, $6)",
	               DB_ARGS(V_I(idgen_next(t->drive->ids)), V_I(t->ctx->tenant_id), V_I(actor(t)), V_I(k->expires_at),
	                       V_I(k->bytes), V_B(buf_as_str(&k->chunks))),
	               NULL);
}

int drive_chunks_keep(struct ctx *ctx, const struct content *c, int64_t *expires_at)
{
	struct keep k = {.content = c};
	*expires_at = k.expires_at = clock_now(ctx->clock) + MILLIS_US(LIMIT_CHUNK_LEASE_MS);
	int err = 0;
	for (; !err && k.from < c->n_chunks; k.from += LIMIT_CHUNKS_TX)
		err = drive_write(ctx, keep_op, &k);
	buf_fini(&k.chunks);
	return err;
}

/* ---- looking ---- */

struct asked {
	struct places places;
	struct chunk_found *out;
	size_t left;
};

static int look_in(struct asked *a, int64_t lease_id, struct str chunks)
{
	if (chunks.n % LEASE_ENTRY_BYTES || chunks.n / LEASE_ENTRY_BYTES > UINT32_MAX)
		return E_CORRUPT;
	for (size_t slot = 0; a->left && slot < chunks.n / LEASE_ENTRY_BYTES; slot++) {
		struct lease_entry e;
		struct sha256 hash;
		memcpy(hash.b, chunks.p + slot * LEASE_ENTRY_BYTES, 32);
		for (size_t i = 0; places_next(&a->places, &hash, &i);) {
			if (a->out[i - 1].id)
				continue;
			int err = lease_entry_read(chunks, slot, &e);
			if (err)
				return err;
			a->out[i - 1] = (struct chunk_found){e.chunk_id, lease_id, e.length, (uint32_t)slot};
			a->left--;
		}
	}
	return 0;
}

int chunk_leased(struct dtx *t, const struct sha256 *hashes, size_t n, struct chunk_found *out)
{
	if (!n)
		return 0;
	memset(out, 0, n * sizeof *out);
	struct asked a = {.out = out, .left = n};
	places_init(&a.places, t->ctx->arena, hashes, n);
	AUTO_ROWS *rows = NULL;
	int err = tx_query(t->tx,
	                   "select id, chunks from chunk_leases where user_id = $1 and tenant_id = $2 and expires_at > $3"
	                   " order by id desc",
	                   DB_ARGS(V_I(actor(t)), V_I(t->ctx->tenant_id), V_I(clock_now(t->ctx->clock))), &rows);
	while (!err && a.left && rows_next(rows))
		err = look_in(&a, rows_i64(rows, 0), rows_blob(rows, 1));
	places_fini(&a.places);
	return err ? err : rows_close(&rows);
}

/* ---- using ---- */

static int by_place(const void *a, const void *b)
{
	const struct chunk_found *x = a, *y = b;
	return (x->lease_id > y->lease_id) - (x->lease_id < y->lease_id);
}

/* Marks the slots of one lease. */
static int use_one(struct dtx *t, const struct chunk_found *found, size_t n)
{
	AUTO_ROWS *rows = NULL;
	bool there;
	int64_t unused = 0;
	struct lease_entry e;
	int err = tx_query_row(t->tx, "select chunks, unused_bytes from chunk_leases where id = $1 and user_id = $2",
	                       DB_ARGS(V_I(found->lease_id), V_I(actor(t))), &rows, &there);
	if (err || !there)
		return err; /* it is over by now */
	struct str chunks = arena_str(t->ctx->arena, rows_blob(rows, 0));
	unused = rows_i64(rows, 1);
	err = rows_close(&rows);
	uint8_t *p = (uint8_t *)(uintptr_t)chunks.p;
	for (size_t i = 0; !err && i < n; i++) {
		uint8_t *at = p + (size_t)found[i].slot * LEASE_ENTRY_BYTES;
		err = found[i].slot < chunks.n / LEASE_ENTRY_BYTES ? lease_entry_read(chunks, found[i].slot, &e) : E_CORRUPT;
		if (err || e.used)
			continue;
		e.used = true;
		entry_write(at, &e);
		unused -= weight(e.length);
	}
	return err ? err
	           : tx_exec(t->tx, "update chunk_leases set chunks = $1, unused_bytes = $2 where id = $3",
	                     DB_ARGS(V_B(chunks), V_I(unused), V_I(found->lease_id)), NULL);
}

int chunk_leases_use(struct dtx *t, struct chunk_found *found, size_t n)
{
	int err = 0;
	if (n)
		qsort(found, n, sizeof *found, by_place);
	for (size_t i = 0, end; !err && i < n; i = end) {
		for (end = i + 1; end < n && found[end].lease_id == found[i].lease_id;)
			end++;
		if (found[i].lease_id)
			err = use_one(t, found + i, end - i);
	}
	return err;
}
