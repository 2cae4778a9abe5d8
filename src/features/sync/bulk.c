/* Many chunks at once: which must be sent, sending them, fetching them (D13, D14, D22). */
#include "base/limits.h"
#include "base/map.h"
#include "chunks/chunker.h"
#include "chunks/frame.h"
#include "chunks/recipe.h"
#include "drive/chunk.h"
#include "features/wire.h"
#include "http/handler.h"

int sync_chunking(struct ctx *ctx, const struct SyncChunkingIn *in, struct Chunking *out)
{
	struct chunking c;
	int err = drive_chunking(ctx, in->share_id, &c);
	if (err)
		return err;
	char *hex = arena_alloc(ctx->arena, 64);
	hex_encode(c.key, sizeof c.key, hex);
	*out = (struct Chunking){
	    .algorithm = STR("fastcdc-gear64-1"),
	    .min_bytes = CHUNK_MIN_BYTES,
	    .avg_bytes = CHUNK_AVG_BYTES,
	    .max_bytes = CHUNK_MAX_BYTES,
	    .key = str_n(hex, 64),
	    .max_chunks = LIMIT_CHUNKS_REQUEST,
	    .max_inline = LIMIT_CHUNKS_INLINE,
	    .max_body_bytes = LIMIT_CHUNKS_BODY,
	    .lease_seconds = LIMIT_CHUNK_LEASE_MS / 1000,
	};
	return 0;
}

int sync_chunks_missing(struct ctx *ctx, const struct SyncChunksMissingIn *in, struct ChunksMissingAnswer *out)
{
	const struct ChunksMissing *ask = &in->body;
	struct chunking unused;
	bool *missing = arena_many(ctx->arena, ask->n_hashes, bool);
	int err = drive_chunking(ctx, in->share_id, &unused); /* the right to the share */
	if (!err)
		err = drive_chunks_missing(ctx, ask->hashes, ask->n_hashes, ask->sources, ask->n_sources, missing);
	if (err)
		return err;
	out->missing = arena_many(ctx->arena, ask->n_hashes, int64_t);
	for (size_t i = 0; i < ask->n_hashes; i++)
		if (missing[i])
			out->missing[out->n_missing++] = (int64_t)i;
	return 0;
}

int file_chunks(struct ctx *ctx, const struct FileChunksIn *in, struct FileChunks *out)
{
	struct file_chunks c;
	int err = drive_file_chunks(ctx, in->file_id, in->has_version ? in->version : 0, in->include_deleted, in->offset,
	                            in->limit, &c);
	if (err)
		return err;
	*out = (struct FileChunks){
	    .file_id = in->file_id,
	    .version_id = c.version.id,
	    .version = c.version.number,
	    .has_version = c.version.number != 0,
	    .size = c.version.size_bytes,
	    .checksum_sha256 = c.version.sha256,
	    .chunks = arena_many(ctx->arena, c.n, struct FileChunk),
	    .n_chunks = c.n,
	    .total = (int64_t)c.total,
	    .limit = in->limit,
	    .offset = in->offset,
	};
	for (size_t i = 0; i < c.n; i++)
		out->chunks[i] = (struct FileChunk){.hash = c.items[i].hash, .offset = c.items[i].offset, .length = c.items[i].length};
	return 0;
}

/* ---- in ---- */

struct chunks_in {
	struct body_sink sink;
	struct ctx *ctx;
	struct frame_reader frames;
	struct ingest *ingest; /* the present group */
	int64_t size_hint;
	int64_t room_bytes; /* that the caller may lease, when it began */
	int64_t n_chunks, n_bytes, group_chunks, group_bytes, expires_at;
};

/* Makes the group durable and leases it. */
static int group_end(struct chunks_in *c)
{
	struct content *content;
	struct ingest *in = c->ingest;
	if (!in)
		return 0;
	c->ingest = NULL;
	int err = ingest_finish(in, &content);
	if (err)
		return err;
	err = drive_chunks_keep(c->ctx, content, &c->expires_at);
	content_free(content);
	c->size_hint -= c->group_bytes;
	c->group_chunks = c->group_bytes = 0;
	return err;
}

static int take_frame(struct chunks_in *c, const struct frame *f)
{
	struct ctx *ctx = c->ctx;
	int err = 0;
	if (f->length == 0)
		return ctx_fail(ctx, E_BAD_REQUEST, "Frame %lld has no bytes", (long long)c->n_chunks);
	if (c->n_bytes + f->length > c->room_bytes)
		return ctx_fail(ctx, E_QUOTA, "Frame %lld is more than the share's quota, or what this user may send before changes use it, has room for",
		                (long long)c->n_chunks);
	if (c->group_chunks == LIMIT_CHUNKS_GROUP || c->group_bytes + f->length > LIMIT_CHUNKS_GROUP_BYTES)
		err = group_end(c);
	if (!err && !c->ingest)
		err = ingest_begin_chunks(ctx->drive->store, ctx->tenant_id, c->size_hint, &c->ingest);
	if (!err)
		err = ingest_chunk(c->ingest, &f->hash, f->bytes, f->length);
	if (err == E_CHECKSUM)
		return ctx_fail(ctx, err, "The bytes of frame %lld do not have the hash that is sent with them", (long long)c->n_chunks);
	c->n_chunks++;
	c->n_bytes += f->length;
	c->group_chunks++;
	c->group_bytes += f->length;
	return err;
}

static int chunks_feed(struct body_sink *sink, struct ctx *ctx, const void *p, size_t n)
{
	struct chunks_in *c = (struct chunks_in *)sink;
	struct str in = str_n(p, n);
	int err = 0;
	for (bool ready = true; !err && ready;) {
		struct frame f;
		err = frame_next(&c->frames, &in, &ready, &f);
		if (err)
			return ctx_fail(ctx, err, "Frame %lld says that its chunk is longer than %d bytes", (long long)c->n_chunks,
			                CHUNK_MAX_BYTES);
		if (ready)
			err = take_frame(c, &f);
	}
	return err;
}

static int chunks_end(struct body_sink *sink, struct ctx *ctx, struct reply *out)
{
	struct chunks_in *c = (struct chunks_in *)sink;
	if (!frame_between(&c->frames))
		return ctx_fail(ctx, E_BAD_REQUEST, "The body ends within frame %lld", (long long)c->n_chunks);
	if (!c->n_chunks)
		return ctx_fail(ctx, E_BAD_REQUEST, "The body has no frame");
	int err = group_end(c);
	if (err)
		return err;
	struct ChunksStored done = {.chunks = c->n_chunks, .bytes = c->n_bytes, .expires_at = c->expires_at};
	write_ChunksStored(&out->body, &done);
	return 0;
}

static void chunks_close(struct body_sink *sink)
{
	struct chunks_in *c = (struct chunks_in *)sink;
	ingest_abort(c->ingest);
	frame_reader_fini(&c->frames);
}

int sync_chunks_put(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	struct SyncChunksPutIn in;
	struct chunks_in *c = arena_new(ctx->arena, struct chunks_in);
	c->sink = (struct body_sink){.feed = chunks_feed, .end = chunks_end, .close = chunks_close};
	c->ctx = ctx;
	if (!str_to_i64(request_header(req, STR("Content-Length")), &c->size_hint) || c->size_hint < 0)
		c->size_hint = -1;
	int err = args_sync_chunks_put(ctx, req, &in);
	if (!err)
		err = drive_chunks_check(ctx, in.share_id, c->size_hint, &c->room_bytes);
	if (!err)
		*out = &c->sink;
	return err;
}

/* ---- out ---- */

enum { AHEAD = 64, AHEAD_CHUNKS = 4096 }; /* items looked up together; fewer when they are long */

/* An item with its chunks found. */
struct fetch_item {
	struct content_reader *reader; /* NULL: it cannot be had */
	struct sha256 whole;
	struct fetch_chunk {
		struct sha256 hash;
		int64_t offset;
		uint32_t length;
	} *chunks;
	size_t n_chunks, at;
};

struct chunks_out {
	struct body_source source;
	struct ctx ctx; /* of ours: its arena is emptied batch by batch */
	struct arena arena;
	const struct ChunksFetchItem *items;
	int64_t share_id;
	size_t n_items, next; /* not looked up yet */
	size_t walked;        /* chunks of recipes that were read for a part of them; bounded */
	struct fetch_item ahead[AHEAD];
	size_t n_ahead, at, ahead_chunks;
	uint8_t *frame; /* being sent */
	size_t frame_bytes, frame_sent;
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
	struct fetch_chunk here = {*c->hash, c->offset, c->length};
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
	*item = (struct fetch_item){0};
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

static void drop_ahead(struct chunks_out *c)
{
	for (size_t i = 0; i < c->n_ahead; i++)
		content_close(c->ahead[i].reader);
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

/* The next frame into c->frame; frame_bytes 0 at the end. */
static int make_frame(struct chunks_out *c)
{
	struct fetch_item *item;
	static const struct sha256 none;
	c->frame_bytes = c->frame_sent = 0;
	int err = fetch_next(c, &item);
	if (err || !item)
		return err;
	if (item->reader && item->at < item->n_chunks) {
		const struct fetch_chunk *chunk = &item->chunks[item->at++];
		size_t got;
		frame_head(c->frame, &chunk->hash, chunk->length);
		c->frame_bytes = FRAME_HEAD_BYTES + chunk->length;
		err = content_read(item->reader, chunk->offset, c->frame + FRAME_HEAD_BYTES, chunk->length, &got);
		if (!err && got == chunk->length)
			return 0;
		content_close(item->reader); /* rot costs the item, not the others */
		item->reader = NULL;
	}
	frame_head(c->frame, item->reader ? &item->whole : &none, 0);
	c->frame_bytes = FRAME_HEAD_BYTES;
	c->at++;
	return 0;
}

static int chunks_fill(struct body_source *source, int64_t position, void *out, size_t cap, size_t *got)
{
	struct chunks_out *c = (struct chunks_out *)source;
	(void)position; /* always called in order */
	*got = 0;
	while (*got < cap) {
		if (c->frame_sent == c->frame_bytes) {
			int err = make_frame(c);
			if (err)
				return err;
			if (!c->frame_bytes)
				break;
		}
		size_t n = c->frame_bytes - c->frame_sent < cap - *got ? c->frame_bytes - c->frame_sent : cap - *got;
		memcpy((char *)out + *got, c->frame + c->frame_sent, n);
		c->frame_sent += n;
		*got += n;
	}
	return 0;
}

static void chunks_out_close(struct body_source *source)
{
	struct chunks_out *c = (struct chunks_out *)source;
	drop_ahead(c);
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
	c->source = (struct body_source){.fill = chunks_fill, .close = chunks_out_close, .length = -1};
	c->items = in.body.items;
	c->n_items = in.body.n_items;
	c->share_id = in.share_id;
	c->frame = arena_alloc(ctx->arena, FRAME_HEAD_BYTES + CHUNK_MAX_BYTES);
	arena_init(&c->arena);
	ctx_init(&c->ctx, &c->arena, ctx->clock, ctx->rng);
	c->ctx.drive = ctx->drive;
	c->ctx.who = ctx->who;
	c->ctx.tenant_id = ctx->tenant_id;
	out->content_type = STR("application/octet-stream");
	out->source = &c->source;
	return 0;
}
