#include "drive/base.h"

#include <stdlib.h>

#include "base/must.h"
#include "chunks/codec.h"
#include "chunks/patch.h"
#include "chunks/recipe.h"

int base_load(struct dtx *t, int64_t version_id, size_t *n_chunks, struct content_reader **out)
{
	struct node n;
	struct version v;
	size_t count;
	int64_t size;
	int err = version_load_readable(t, version_id, NODE_WITH_TRASH, &n, &v);
	if (!err)
		err = recipe_measure(v.recipe, &count, &size);
	if (err)
		return err;
	if (count > LIMIT_CHUNK_SOURCE_CHUNKS || *n_chunks > LIMIT_CHUNK_SOURCE_CHUNKS - count)
		return ctx_fail(t->ctx, E_TOO_LARGE, "The versions that one request takes for known have at most %d chunks together",
		                LIMIT_CHUNK_SOURCE_CHUNKS);
	*n_chunks += count;
	return content_open(t->tx, t->drive->store, t->ctx->tenant_id, v.recipe, size, out);
}

struct opening {
	int64_t version_id;
	size_t *n_chunks;
	struct content_reader **out;
};

static int open_op(struct dtx *t, void *arg)
{
	struct opening *o = arg;
	return base_load(t, o->version_id, o->n_chunks, o->out);
}

int drive_base_open(struct ctx *ctx, int64_t version_id, size_t *n_chunks, struct content_reader **out)
{
	struct opening o = {version_id, n_chunks, out};
	return drive_read(ctx, open_op, &o);
}

/* ---- frames with flags ---- */

struct rebuild {
	struct ctx *ctx;
	const int64_t *ids;
	size_t n_sources, n_chunks;
	struct source {
		bool asked;
		struct content_reader *reader; /* NULL: not to be had */
	} sources[LIMIT_CHUNK_SOURCES];
	int64_t read_bytes; /* for patches */
	int64_t number;     /* of the present frame */
	struct codec_work *work;
	uint8_t content[FRAME_MAX_BYTES], chunk[CHUNK_MAX_BYTES];
};

struct rebuild *rebuild_new(struct ctx *ctx, const int64_t *sources, size_t n_sources)
{
	struct rebuild *r = malloc(sizeof *r); /* most of it is touched as it is used */
	must(r != NULL && n_sources <= LIMIT_CHUNK_SOURCES);
	memset(r, 0, offsetof(struct rebuild, content));
	r->ctx = ctx;
	r->ids = sources;
	r->n_sources = n_sources;
	r->work = codec_work_new();
	return r;
}

void rebuild_free(struct rebuild *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n_sources; i++)
		content_close(r->sources[i].reader);
	codec_work_free(r->work);
	free(r);
}

static int source_chunk(void *arg, uint32_t source, uint32_t chunk, struct str *bytes)
{
	struct rebuild *r = arg;
	if (source >= r->n_sources)
		return E_BAD_REQUEST;
	struct source *s = &r->sources[source];
	int err = 0;
	if (!s->asked)
		err = drive_base_open(r->ctx, r->ids[source], &r->n_chunks, &s->reader);
	s->asked = true;
	if (err == E_NOT_FOUND)
		ctx_clear(r->ctx);
	else if (err)
		return err;
	if (!s->reader)
		return ctx_fail(r->ctx, E_CHUNK_MISSING, "Frame %lld: source %u is no version that you may read; send the chunk whole",
		                (long long)r->number, source);
	r->read_bytes += content_chunk_bytes(s->reader, chunk);
	if (r->read_bytes > LIMIT_BASE_BYTES)
		return ctx_fail(r->ctx, E_TOO_LARGE, "Frame %lld: the patches of one body copy from at most %lld bytes of chunks",
		                (long long)r->number, (long long)LIMIT_BASE_BYTES);
	if (chunk >= content_chunks(s->reader))
		return E_BAD_REQUEST;
	err = content_chunk(s->reader, chunk, bytes);
	return err != E_CORRUPT ? err : ctx_fail(r->ctx, E_CHUNK_MISSING, "Frame %lld: what source %u has there is damaged; send the chunk whole",
	                                         (long long)r->number, source);
}

int rebuild_chunk(struct rebuild *r, int64_t number, const struct frame *f, struct str *bytes)
{
	struct str content = str_n(f->bytes, f->length);
	size_t n;
	int err = 0;
	bool unpacked = false;
	r->number = number;
	if (f->flags & FRAME_ZSTD) {
		err = codec_unpack(r->work, STR_NULL, content, r->content,
		                   f->flags & FRAME_BASED ? PATCH_MAX_BYTES : CHUNK_MAX_BYTES, &n);
		content = str_n(r->content, n);
	}
	unpacked = !err;
	if (!err && (f->flags & FRAME_BASED)) {
		err = patch_apply(content, source_chunk, r, r->chunk, &n);
		content = str_n(r->chunk, n);
	}
	*bytes = content;
	if (err == E_BAD_REQUEST)
		return ctx_fail(r->ctx, err, unpacked ? "Frame %lld is no patch, or copies from where nothing is"
		                                      : "Frame %lld is not one whole zstd frame that declares its size, at most that of a chunk",
		                (long long)number);
	return err;
}
