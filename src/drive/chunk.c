#include "drive/chunk.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/chunker.h"
#include "chunks/recipe.h"
#include "drive/node_priv.h"
#include "drive/share.h"

enum { BATCH = 64, SWEEP = 5000 };

/* ---- parameters, and who may upload ---- */

struct share_ask {
	int64_t share_id, size_bytes;
	unsigned want;
};

static int share_op(struct dtx *t, void *arg)
{
	struct share_ask *a = arg;
	struct share s;
	int err = share_load(t, a->share_id, a->want, &s);
	if (!err && s.has_quota && a->size_bytes > s.quota_bytes - s.used_bytes)
		err = ctx_fail(t->ctx, E_QUOTA, "The quota of the share would be exceeded");
	return err;
}

int drive_chunking(struct ctx *ctx, int64_t share_id, struct chunking *out)
{
	struct share_ask a = {.share_id = share_id, .want = RIGHT_READ};
	int err = drive_read(ctx, share_op, &a);
	return err ? err : drive_chunk_key(ctx, out->key);
}

int drive_chunks_check(struct ctx *ctx, int64_t share_id, int64_t size_bytes)
{
	struct share_ask a = {.share_id = share_id, .size_bytes = size_bytes, .want = RIGHT_WRITE};
	return drive_read(ctx, share_op, &a);
}

/* ---- leases ---- */

struct keep {
	const struct content *content;
	struct dtx *t;
	int64_t expires_at;
	size_t from;
	struct dbv args[BATCH * 6];
	struct sha256 hashes[BATCH];
	size_t n;
};

static int lease_batch(struct keep *k)
{
	size_t n = k->n;
	k->n = 0;
	return n ? tx_many(k->t->tx,
	                   "insert into chunk_leases (tenant_id, user_id, hash, chunk_id, length, expires_at)"
	                   " values ($1, $2, $3, $4, $5, $6) on conflict (tenant_id, user_id, hash) do update set"
	                   " chunk_id = excluded.chunk_id, expires_at = excluded.expires_at",
	                   k->args, 6, n, NULL, NULL)
	         : 0;
}

static int lease_one(void *arg, int64_t chunk_id, const struct sha256 *hash, uint32_t length)
{
	struct keep *k = arg;
	struct dbv *a = k->args + 6 * k->n;
	k->hashes[k->n] = *hash;
	a[0] = V_I(k->t->ctx->tenant_id);
	a[1] = V_I(actor(k->t));
	a[2] = V_B(str_n(k->hashes[k->n].b, 32));
	a[3] = V_I(chunk_id);
	a[4] = V_I(length);
	a[5] = V_I(k->expires_at);
	return ++k->n < BATCH ? 0 : lease_batch(k);
}

static int keep_op(struct dtx *t, void *arg)
{
	struct keep *k = arg;
	k->t = t;
	k->n = 0;
	/* Whoever adds clears away: more than it adds, so what is over does not pile up. */
	int err = tx_exec(t->tx,
	                  "delete from chunk_leases where (tenant_id, user_id, hash) in (select tenant_id, user_id, hash"
	                  " from chunk_leases where tenant_id = $1 and expires_at < $2 limit 5000)",
	                  DB_ARGS(V_I(t->ctx->tenant_id), V_I(clock_now(t->ctx->clock))), NULL);
	if (!err)
		err = content_index(t->tx, t->drive->store, t->ctx->tenant_id, k->content, k->from, LIMIT_CHUNKS_TX, lease_one, k);
	return err ? err : lease_batch(k);
}

int drive_chunks_keep(struct ctx *ctx, const struct content *c, int64_t *expires_at)
{
	_Static_assert(SWEEP > LIMIT_CHUNKS_TX, "more is cleared away than added");
	struct keep *k = arena_new(ctx->arena, struct keep);
	k->content = c;
	*expires_at = k->expires_at = clock_now(ctx->clock) + MILLIS_US(LIMIT_CHUNK_LEASE_MS);
	int err = 0;
	for (k->from = 0; !err && k->from < c->n_chunks; k->from += LIMIT_CHUNKS_TX)
		err = drive_write(ctx, keep_op, k);
	return err;
}

static int leased_row(void *arg, size_t call, struct rows *r)
{
	int64_t length = rows_i64(r, 1);
	if (length <= 0 || length > CHUNK_MAX_BYTES)
		return E_CORRUPT;
	((struct chunk_found *)arg)[call] = (struct chunk_found){rows_i64(r, 0), (uint32_t)length};
	return 0;
}

int chunk_leased(struct dtx *t, const struct sha256 *hashes, size_t n, struct chunk_found *out)
{
	struct dbv args[BATCH * 4];
	int64_t now = clock_now(t->ctx->clock);
	int err = 0;
	if (n)
		memset(out, 0, n * sizeof *out);
	for (size_t at = 0; !err && at < n; at += BATCH) {
		size_t k = n - at < BATCH ? n - at : BATCH;
		for (size_t i = 0; i < k; i++) {
			args[4 * i] = V_I(t->ctx->tenant_id);
			args[4 * i + 1] = V_I(actor(t));
			args[4 * i + 2] = V_B(str_n(hashes[at + i].b, 32));
			args[4 * i + 3] = V_I(now);
		}
		err = tx_many(t->tx,
		              "select chunk_id, length from chunk_leases where tenant_id = $1 and user_id = $2 and hash = $3"
		              " and expires_at > $4",
		              args, 4, k, leased_row, out + at);
	}
	return err;
}

/* ---- sources ---- */

struct source_chunk {
	struct sha256 hash;
	struct chunk_found found;
	struct source_chunk *twin; /* another hash with the same first bytes */
};

struct source {
	struct map by_hash;
};

struct source_fill {
	struct dtx *t;
	struct chunk_sources *all;
	struct source *source;
};

static uint64_t short_key(const struct sha256 *hash)
{
	uint64_t key;
	memcpy(&key, hash->b, sizeof key);
	return key;
}

void chunk_sources_fini(struct chunk_sources *s)
{
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&s->versions, &i, &key, &value);)
		map_fini(&((struct source *)value)->by_hash);
	map_fini(&s->versions);
}

static int source_chunk_add(void *arg, const struct recipe_chunk *c)
{
	struct source_fill *f = arg;
	if (++f->all->n_chunks > LIMIT_CHUNK_SOURCE_CHUNKS)
		return ctx_fail(f->t->ctx, E_TOO_LARGE, "The sources of one request have at most %d chunks together",
		                LIMIT_CHUNK_SOURCE_CHUNKS);
	struct source_chunk *s = arena_new(f->t->ctx->arena, struct source_chunk);
	*s = (struct source_chunk){.hash = *c->hash, .found = {c->id, c->length}};
	s->twin = map_put(&f->source->by_hash, short_key(c->hash), s);
	return 0;
}

int version_load_readable(struct dtx *t, int64_t version_id, unsigned flags, struct node *n, struct version *out)
{
	int64_t node_id;
	int err = tx_i64(t->tx, "select node_id from versions where id = $1 and tenant_id = $2",
	                 DB_ARGS(V_I(version_id), V_I(t->ctx->tenant_id)), 0, &node_id);
	if (!err && !node_id)
		err = E_NOT_FOUND;
	if (!err)
		err = node_load(t, node_id, NODE_FILE, RIGHT_READ | flags, n);
	if (!err)
		err = version_load(t, n, version_id, out);
	if (err != E_NOT_FOUND && err != E_FORBIDDEN && err != E_GONE)
		return err;
	ctx_clear(t->ctx);
	char wire[ID_WIRE_MAX + 1]; /* one wording, whatever the reason was */
	id_format(wire, ID_VERSION, version_id);
	return ctx_fail(t->ctx, E_NOT_FOUND, "Not found: %s", wire);
}

int chunk_source_add(struct dtx *t, struct chunk_sources *s, int64_t version_id)
{
	struct node n;
	struct version v;
	if (map_get(&s->versions, (uint64_t)version_id))
		return 0;
	struct source *source = arena_new(t->ctx->arena, struct source);
	map_put(&s->versions, (uint64_t)version_id, source);
	int err = version_load_readable(t, version_id, NODE_WITH_TRASH, &n, &v);
	if (err == E_NOT_FOUND) {
		ctx_clear(t->ctx);
		return 0;
	}
	struct source_fill f = {t, s, source};
	return err ? err
	           : recipe_each(t->tx, t->drive->store, t->ctx->tenant_id, v.recipe, 0, SIZE_MAX, source_chunk_add, &f);
}

struct chunk_found chunk_source_find(const struct chunk_sources *s, int64_t version_id, const struct sha256 *hash)
{
	const struct source *source = map_get(&s->versions, (uint64_t)version_id);
	const struct source_chunk *c = source ? map_get(&source->by_hash, short_key(hash)) : NULL;
	while (c && !sha256_eq(&c->hash, hash))
		c = c->twin;
	return c ? c->found : (struct chunk_found){0};
}

/* ---- which must I send ---- */

struct missing {
	const struct sha256 *hashes;
	size_t n;
	const int64_t *sources;
	size_t n_sources;
	bool *out;
};

static int missing_op(struct dtx *t, void *arg)
{
	struct missing *m = arg;
	struct chunk_sources sources = {0};
	struct chunk_found *found = arena_many(t->ctx->arena, m->n, struct chunk_found);
	int err = chunk_leased(t, m->hashes, m->n, found);
	for (size_t i = 0; !err && i < m->n_sources; i++)
		err = chunk_source_add(t, &sources, m->sources[i]);
	/* Every hash takes every step, had or not. */
	for (size_t i = 0; !err && i < m->n; i++) {
		bool had = found[i].id != 0;
		for (size_t k = 0; k < m->n_sources; k++)
			had |= chunk_source_find(&sources, m->sources[k], &m->hashes[i]).id != 0;
		m->out[i] = !had;
	}
	chunk_sources_fini(&sources);
	return err;
}

int drive_chunks_missing(struct ctx *ctx, const struct sha256 *hashes, size_t n, const int64_t *sources, size_t n_sources,
                         bool *missing)
{
	struct missing m = {hashes, n, sources, n_sources, missing};
	return drive_read(ctx, missing_op, &m);
}

/* ---- the recipe of a file ---- */

struct page {
	int64_t id, number, offset, limit;
	unsigned want;
	struct file_chunks *out;
};

static int page_chunk(void *arg, const struct recipe_chunk *c)
{
	struct file_chunks *out = arg;
	out->items[out->n++] = (struct file_chunk){*c->hash, c->offset, c->length};
	return 0;
}

static int page_op(struct dtx *t, void *arg)
{
	struct page *p = arg;
	struct file_chunks *out = p->out;
	struct node n;
	int64_t size;
	*out = (struct file_chunks){0};
	int err = node_load(t, p->id, NODE_FILE, p->want, &n);
	if (!err)
		err = p->number ? version_load_number(t, &n, p->number, &out->version)
		                : version_load(t, &n, n.version_id, &out->version);
	if (!err)
		err = recipe_measure(out->version.recipe, &out->total, &size);
	if (err)
		return err;
	out->items = arena_many(t->ctx->arena, (size_t)p->limit, struct file_chunk);
	return recipe_each(t->tx, t->drive->store, t->ctx->tenant_id, out->version.recipe, (size_t)p->offset,
	                   (size_t)p->limit, page_chunk, out);
}

int drive_file_chunks(struct ctx *ctx, int64_t file_id, int64_t number, bool include_deleted, int64_t offset, int64_t limit,
                      struct file_chunks *out)
{
	if (limit < 1 || limit > LIMIT_CHUNKS_REQUEST)
		limit = LIMIT_CHUNKS_REQUEST;
	if (offset < 0)
		offset = 0;
	struct page p = {file_id, number, offset, limit, RIGHT_READ | (include_deleted ? NODE_WITH_TRASH : 0), out};
	return drive_read(ctx, page_op, &p);
}
