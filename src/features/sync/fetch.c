/* Content by chunks, out: many chunks, those that the caller holds something alike of as differences from it (D13, D15). */
#include "base/limits.h"
#include "base/map.h"
#include "base/must.h"
#include "chunks/codec.h"
#include "chunks/frame.h"
#include "chunks/recipe.h"
#include "drive/base.h"
#include "features/sync/sync_priv.h"
#include "features/wire.h"

enum { AHEAD = 64, AHEAD_CHUNKS = 4096 }; /* items looked up together; fewer when they are long */

/* An item with its chunks found. */
struct fetch_item {
	const struct ChunksFetchItem *ask;
	struct content_reader *reader; /* NULL: it cannot be had */
	struct content_reader *base;   /* NULL: none */
	struct sha256 whole;
	struct fetch_chunk {
		struct sha256 hash;
		int64_t offset;
		size_t number; /* in the recipe */
		uint32_t length;
	} *chunks;
	size_t n_chunks, at;
};

struct chunks_out {
	struct piece_source source;
	struct ctx ctx; /* of ours: its arena is emptied batch by batch */
	struct arena arena;
	struct arena *request; /* what lives to the end */
	const struct ChunksFetchItem *items;
	int64_t share_id;
	size_t n_items, next; /* not looked up yet */
	size_t walked;        /* chunks of recipes that were read for a part of them, or as a base; bounded */
	struct fetch_item ahead[AHEAD];
	size_t n_ahead, at, ahead_chunks;
	bool zstd;               /* frames may have flags */
	int64_t base_bytes;      /* read for them so far */
	struct codec_work *work; /* for chunks with a base; NULL: none so far */
	uint8_t *prefix;
};

struct fill_chunks {
	struct fetch_item *item;
	struct map asked; /* first bytes of a hash -> its first place in ask + 1; empty: all chunks in turn */
	size_t *twin;     /* the place + 1 of the next asked hash with the same first bytes */
	const struct ChunksFetchItem *ask;
	size_t found;
};

static uint64_t short_key(const struct sha256 *hash)
{
	uint64_t key;
	memcpy(&key, hash->b, sizeof key);
	return key;
}

/* A chunk that was asked for takes its place (once; a file may repeat it); without a list each takes the next. */
static int fetch_chunk(void *arg, const struct recipe_chunk *c)
{
	struct fill_chunks *f = arg;
	struct fetch_chunk here = {*c->hash, c->offset, c->i, c->length};
	if (!f->ask->has_chunks) {
		f->item->chunks[f->item->n_chunks++] = here;
		return 0;
	}
	for (size_t i = (size_t)(uintptr_t)map_get(&f->asked, short_key(c->hash)); i; i = f->twin[i - 1]) {
		if (!sha256_eq(&f->ask->chunks[i - 1], c->hash))
			continue;
		if (f->item->chunks[i - 1].length)
			break; /* equal hashes take their places in one pass: a file that repeats a chunk costs no more than one look */
		f->item->chunks[i - 1] = here;
		f->found++;
	}
	return 0;
}

static void index_asked(struct arena *a, struct fill_chunks *f)
{
	f->twin = arena_many(a, f->ask->n_chunks, size_t);
	for (size_t i = 0; i < f->ask->n_chunks; i++)
		f->twin[i] = (size_t)(uintptr_t)map_put(&f->asked, short_key(&f->ask->chunks[i]), (void *)(uintptr_t)(i + 1));
}

static int fetch_find(struct dtx *t, struct chunks_out *c, const struct ChunksFetchItem *ask, struct fetch_item *item)
{
	struct node n;
	struct version v;
	size_t count;
	int64_t size;
	*item = (struct fetch_item){.ask = ask};
	int err = version_load_readable(t, ask->version_id, 0, &n, &v);
	if (!err && n.share_id != c->share_id)
		err = E_NOT_FOUND;
	if (!err)
		err = recipe_measure(v.recipe, &count, &size);
	if (!err && ask->has_chunks)
		c->walked += count;
	if (!err && (count > LIMIT_CHUNK_SOURCE_CHUNKS || c->walked > LIMIT_CHUNK_SOURCE_CHUNKS))
		err = E_NOT_FOUND; /* too long to be looked through: it is downloaded otherwise */
	if (err)
		return err;
	struct fill_chunks f = {.item = item, .ask = ask};
	size_t room = ask->has_chunks ? ask->n_chunks : count;
	item->whole = v.sha256;
	item->chunks = arena_many(t->ctx->arena, room, struct fetch_chunk);
	c->ahead_chunks += room;
	if (ask->has_chunks)
		index_asked(t->ctx->arena, &f);
	err = recipe_each(t->tx, t->drive->store, t->ctx->tenant_id, v.recipe, 0, SIZE_MAX, fetch_chunk, &f);
	map_fini(&f.asked);
	if (!err && ask->has_chunks && f.found < ask->n_chunks)
		err = E_NOT_FOUND;
	if (!err && ask->has_chunks)
		item->n_chunks = ask->n_chunks;
	if (!err)
		err = content_open(t->tx, t->drive->store, t->ctx->tenant_id, v.recipe, v.size_bytes, &item->reader);
	if (!err && c->zstd && ask->n_bases && ask->has_chunks && base_load(t, ask->base_version_id, &c->walked, &item->base))
		ctx_clear(t->ctx); /* then there is no base */
	return err;
}

static int fetch_batch(struct dtx *t, void *arg)
{
	struct chunks_out *c = arg;
	while (c->n_ahead < AHEAD && c->ahead_chunks < AHEAD_CHUNKS && c->next < c->n_items) {
		int err = fetch_find(t, c, &c->items[c->next], &c->ahead[c->n_ahead]);
		if (err && err != E_NOT_FOUND && err != E_CORRUPT)
			return err;
		ctx_clear(t->ctx);
		c->n_ahead++;
		c->next++;
	}
	return 0;
}

static void drop_item(struct fetch_item *item)
{
	content_close(item->reader);
	content_close(item->base);
	item->reader = item->base = NULL;
}

static void drop_ahead(struct chunks_out *c)
{
	for (size_t i = 0; i < c->n_ahead; i++)
		drop_item(&c->ahead[i]);
	c->n_ahead = c->at = c->ahead_chunks = 0;
	arena_reset(&c->arena);
}

/* The item that is next in turn, or NULL at the end. */
static int fetch_next(struct chunks_out *c, struct fetch_item **out)
{
	*out = NULL;
	if (c->at == c->n_ahead) {
		drop_ahead(c);
		int err = c->next < c->n_items ? drive_read(&c->ctx, fetch_batch, c) : 0;
		if (err)
			return err;
	}
	if (c->at < c->n_ahead)
		*out = &c->ahead[c->at];
	return 0;
}

/* The bytes of the base's chunks that the caller named for this one; STR_NULL: none that can be used. */
static struct str base_bytes(struct chunks_out *c, const struct fetch_item *item, size_t at)
{
	const struct ChunksFetchItem *ask = item->ask;
	struct str bytes;
	size_t n = 0;
	if (!item->base || at >= ask->n_bases)
		return STR_NULL;
	size_t first = (size_t)ask->bases[at].first, count = (size_t)ask->bases[at].count;
	for (size_t i = first; i < first + count; i++) {
		size_t length = content_chunk_bytes(item->base, i);
		if (!length || length > CODEC_PREFIX_MAX - n)
			return STR_NULL;
		n += length;
	}
	if (n > (uint64_t)(LIMIT_BASE_BYTES - c->base_bytes))
		return STR_NULL;
	c->base_bytes += (int64_t)n;
	if (!c->prefix)
		c->prefix = arena_alloc(c->request, CODEC_PREFIX_MAX);
	n = 0;
	for (size_t i = first; i < first + count; i++, n += bytes.n) {
		if (content_chunk(item->base, i, &bytes))
			return STR_NULL;
		memcpy(c->prefix + n, bytes.p, bytes.n);
	}
	return n ? str_n(c->prefix, n) : STR_NULL;
}

/* The chunk as a difference from its base. False: it goes otherwise. */
static bool pack_based(struct chunks_out *c, struct fetch_item *item, size_t at, struct str *packed)
{
	struct str bytes, prefix = base_bytes(c, item, at);
	if (!prefix.n || content_chunk(item->reader, item->chunks[at].number, &bytes))
		return false;
	if (!c->work)
		c->work = codec_work_new();
	return codec_pack(c->work, prefix, bytes.p, bytes.n, packed);
}

static void put_frame(struct buf *out, const struct sha256 *hash, struct str bytes, uint32_t flags)
{
	uint8_t head[FRAME_HEAD_BYTES];
	frame_head(head, hash, (uint32_t)bytes.n | flags);
	buf_put(out, head, sizeof head);
	buf_str(out, bytes);
}

/* What is stored as a zstd frame goes as it is, which costs nothing. */
static int put_chunk(struct chunks_out *c, struct fetch_item *item, size_t at, struct buf *out)
{
	const struct fetch_chunk *chunk = &item->chunks[at];
	uint8_t head[FRAME_HEAD_BYTES];
	struct str bytes;
	size_t got;
	bool zstd;
	if (c->zstd && pack_based(c, item, at, &bytes)) {
		put_frame(out, &chunk->hash, bytes, FRAME_BASED | FRAME_ZSTD);
		return 0;
	}
	if (c->zstd) {
		int err = content_chunk_stored(item->reader, chunk->number, &zstd, &bytes);
		if (!err)
			put_frame(out, &chunk->hash, bytes, zstd ? FRAME_ZSTD : 0);
		return err;
	}
	frame_head(head, &chunk->hash, chunk->length);
	buf_put(out, head, sizeof head);
	buf_reserve(out, chunk->length);
	int err = content_read(item->reader, chunk->offset, out->p + out->n, chunk->length, &got);
	if (!err && got < chunk->length)
		err = E_CORRUPT;
	out->n = err ? 0 : out->n + got;
	return err;
}

static int next_frame(struct piece_source *source, struct buf *out)
{
	struct chunks_out *c = (struct chunks_out *)source;
	struct fetch_item *item;
	static const struct sha256 none;
	int err = fetch_next(c, &item);
	if (err || !item)
		return err;
	if (item->reader && item->at < item->n_chunks) {
		if (!put_chunk(c, item, item->at++, out))
			return 0;
		drop_item(item); /* rot costs the item, not the others */
	}
	put_frame(out, item->reader ? &item->whole : &none, STR(""), 0);
	c->at++;
	return 0;
}

static void chunks_out_fini(struct piece_source *source)
{
	struct chunks_out *c = (struct chunks_out *)source;
	drop_ahead(c);
	codec_work_free(c->work);
	arena_fini(&c->arena);
}

int sync_chunks_fetch(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct SyncChunksFetchIn in;
	struct chunking unused;
	int err = args_sync_chunks_fetch(ctx, req, &in);
	if (!err)
		err = drive_chunking(ctx, in.share_id, &unused); /* the right to the share */
	if (err)
		return err;
	struct chunks_out *c = arena_new(ctx->arena, struct chunks_out);
	c->items = in.body.items;
	c->n_items = in.body.n_items;
	c->share_id = in.share_id;
	c->zstd = in.body.zstd;
	c->request = ctx->arena;
	arena_init(&c->arena);
	ctx_init(&c->ctx, &c->arena, ctx->clock, ctx->rng);
	c->ctx.drive = ctx->drive;
	c->ctx.who = ctx->who;
	c->ctx.tenant_id = ctx->tenant_id;
	piece_source_reply(&c->source, -1, next_frame, chunks_out_fini, out);
	return 0;
}
