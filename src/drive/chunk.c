#include "drive/chunk.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/chunker.h"
#include "chunks/recipe.h"
#include "drive/node_priv.h"
#include "drive/share.h"

/* ---- parameters ---- */

static int share_op(struct dtx *t, void *arg)
{
	struct share s;
	return share_load(t, *(const int64_t *)arg, RIGHT_READ, &s);
}

int drive_chunking(struct ctx *ctx, int64_t share_id, struct chunking *out)
{
	int err = drive_read(ctx, share_op, &share_id);
	return err ? err : drive_chunk_key(ctx, out->key);
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
	*s = (struct source_chunk){.hash = *c->hash, .found = {.id = c->id, .length = c->length}};
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

int chunk_source_any(struct dtx *t, struct chunk_sources *s, const int64_t *sources, size_t n_sources, const struct sha256 *hash,
                     struct chunk_found *found)
{
	int err = 0;
	for (size_t i = 0; !err && !found->id && i < n_sources; i++) {
		err = chunk_source_add(t, s, sources[i]);
		*found = chunk_source_find(s, sources[i], hash);
	}
	return err;
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
