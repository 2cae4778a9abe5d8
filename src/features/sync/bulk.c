/* Many chunks at once: which must be sent, and sending them (D13, D14, D22). */
#include "base/limits.h"
#include "chunks/chunker.h"
#include "drive/base.h"
#include "features/sync/sync_priv.h"
#include "features/wire.h"

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
	const int64_t *sources; /* of patches */
	size_t n_sources;
	struct rebuild *rebuild; /* NULL: no frame with flags has come */
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

/* The chunk that a frame stands for. */
static int chunk_of(struct chunks_in *c, const struct frame *f, struct str *bytes)
{
	*bytes = str_n(f->bytes, f->length);
	if (f->length == 0)
		return ctx_fail(c->ctx, E_BAD_REQUEST, "Frame %lld has no bytes", (long long)c->n_chunks);
	if (!f->flags)
		return 0;
	if (!c->rebuild)
		c->rebuild = rebuild_new(c->ctx, c->sources, c->n_sources);
	return rebuild_chunk(c->rebuild, c->n_chunks, f, bytes);
}

static int take_frame(struct chunks_in *c, const struct frame *f)
{
	struct ctx *ctx = c->ctx;
	struct str bytes;
	int err = chunk_of(c, f, &bytes);
	if (err)
		return err;
	if (c->n_bytes + (int64_t)bytes.n > c->room_bytes)
		return ctx_fail(ctx, E_QUOTA, "Frame %lld is more than the share's quota, or what this user may send before changes use it, has room for",
		                (long long)c->n_chunks);
	if (c->group_chunks == LIMIT_CHUNKS_GROUP || c->group_bytes + (int64_t)bytes.n > LIMIT_CHUNKS_GROUP_BYTES)
		err = group_end(c);
	if (!err && !c->ingest)
		err = ingest_begin_chunks(ctx->drive->store, ctx->tenant_id, c->size_hint, &c->ingest);
	if (!err)
		err = ingest_chunk(c->ingest, &f->hash, bytes.p, bytes.n);
	if (err == E_CHECKSUM)
		return ctx_fail(ctx, err, "The bytes of frame %lld do not have the hash that is sent with them", (long long)c->n_chunks);
	c->n_chunks++;
	c->n_bytes += (int64_t)bytes.n;
	c->group_chunks++;
	c->group_bytes += (int64_t)bytes.n;
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
			return ctx_fail(ctx, err, "Frame %lld says that its chunk is longer than %d bytes, or has flags that do not exist",
			                (long long)c->n_chunks, CHUNK_MAX_BYTES);
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
	rebuild_free(c->rebuild);
}

int sync_chunks_put(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	struct SyncChunksPutIn in;
	struct chunks_in *c = arena_new(ctx->arena, struct chunks_in);
	c->sink = (struct body_sink){.feed = chunks_feed, .end = chunks_end, .close = chunks_close};
	c->ctx = ctx;
	c->frames.allowed = FRAME_BASED | FRAME_ZSTD;
	if (!str_to_i64(request_header(req, STR("Content-Length")), &c->size_hint) || c->size_hint < 0)
		c->size_hint = -1;
	int err = args_sync_chunks_put(ctx, req, &in);
	if (!err)
		err = sync_sources(ctx, in.sources, &c->sources, &c->n_sources);
	if (!err)
		err = drive_chunks_check(ctx, in.share_id, c->size_hint, &c->room_bytes);
	if (!err)
		*out = &c->sink;
	return err;
}
