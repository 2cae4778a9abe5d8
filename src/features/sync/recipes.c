/* What a version consists of, and signatures of its chunks (D15). */
#include "base/limits.h"
#include "chunks/patch.h"
#include "drive/base.h"
#include "drive/outline.h"
#include "features/sync/sync_priv.h"
#include "features/wire.h"
#include "http/range.h"

/* ---- steps ---- */

struct steps_out {
	struct piece_source source;
	struct outline *outline;
};

static int steps_next(struct piece_source *source, struct buf *piece)
{
	return outline_read(((struct steps_out *)source)->outline, piece);
}

static void steps_fini(struct piece_source *source)
{
	outline_close(((struct steps_out *)source)->outline);
}

/* A version never changes, so what is asked for is its own entity tag. */
static struct str steps_etag(struct ctx *ctx, const struct SyncStepsIn *in)
{
	struct buf b = {0};
	buf_char(&b, '"');
	buf_id(&b, ID_VERSION, in->version_id);
	if (in->base_version_id) {
		buf_char(&b, '-');
		buf_id(&b, ID_VERSION, in->base_version_id);
	}
	buf_str(&b, in->brief ? STR("-short\"") : STR("\""));
	struct str s = arena_str(ctx->arena, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

int sync_steps(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct SyncStepsIn in;
	struct steps_out *s = arena_new(ctx->arena, struct steps_out);
	int err = args_sync_steps(ctx, req, &in);
	if (!err && in.brief && in.base_version_id)
		err = ctx_invalid(ctx, "query", STR("short"), "value_error", "The short form has no base");
	struct outline_in ask = {in.version_id, in.base_version_id, in.brief};
	if (!err)
		err = drive_outline_open(ctx, &ask, &s->outline);
	if (err)
		return err;
	struct outline *o = s->outline;
	struct str etag = steps_etag(ctx, &in);
	char *hex = arena_alloc(ctx->arena, 64);
	hex_encode(outline_content_hash(o)->b, 32, hex);
	reply_header(out, STR("ETag"), etag);
	reply_header(out, STR("X-Content-Length"), arena_fmt(ctx->arena, "%lld", (long long)outline_content_bytes(o)));
	reply_header(out, STR("X-Content-SHA256"), str_n(hex, 64));
	if (etag_listed(request_list(req, ctx->arena, STR("if-none-match")), etag, true)) {
		out->status = 304;
		out->content_bytes = outline_bytes(o);
		outline_close(o);
		return 0;
	}
	piece_source_reply(&s->source, outline_bytes(o), steps_next, steps_fini, out);
	return 0;
}

/* ---- signatures ---- */

struct signatures_out {
	struct piece_source source;
	struct content_reader *reader;
	const struct ChunkRun *runs;
	size_t n_runs, run; /* the present one */
	size_t at;          /* chunks of it that were told */
};

static int signatures_next(struct piece_source *source, struct buf *piece)
{
	struct signatures_out *s = (struct signatures_out *)source;
	struct str bytes;
	if (s->run == s->n_runs)
		return 0;
	const struct ChunkRun *run = &s->runs[s->run];
	int err = content_chunk(s->reader, (size_t)run->first + s->at, &bytes);
	if (err)
		return err;
	signature_put(piece, bytes.p, bytes.n);
	if (++s->at == (size_t)run->count) {
		s->run++;
		s->at = 0;
	}
	return 0;
}

static void signatures_fini(struct piece_source *source)
{
	content_close(((struct signatures_out *)source)->reader);
}

/* Bytes of the answer. */
static int measure(struct ctx *ctx, const struct signatures_out *s, int64_t *length)
{
	size_t n_chunks = 0, signed_bytes = 0;
	*length = 0;
	for (size_t i = 0; i < s->n_runs; i++)
		for (size_t k = 0; k < (size_t)s->runs[i].count; k++) {
			uint32_t n = content_chunk_bytes(s->reader, (size_t)s->runs[i].first + k);
			if (!n)
				return ctx_fail(ctx, E_BAD_REQUEST, "Run %zu goes beyond the %zu chunks of the version", i,
				                content_chunks(s->reader));
			signed_bytes += n;
			if (++n_chunks > LIMIT_CHUNKS_REQUEST || signed_bytes > LIMIT_SIGNED_BYTES)
				return ctx_fail(ctx, E_TOO_LARGE, "Signatures of at most %d chunks and %d bytes are told at once",
				                LIMIT_CHUNKS_REQUEST, LIMIT_SIGNED_BYTES);
			*length += (int64_t)signature_bytes(n);
		}
	return 0;
}

int sync_chunk_signatures(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct SyncChunkSignaturesIn in;
	struct chunking unused;
	struct signatures_out *s = arena_new(ctx->arena, struct signatures_out);
	size_t n_chunks = 0;
	int64_t length;
	int err = args_sync_chunk_signatures(ctx, req, &in);
	if (!err)
		err = drive_chunking(ctx, in.share_id, &unused); /* the right to the share */
	if (!err)
		err = drive_base_open(ctx, in.body.version_id, &n_chunks, &s->reader);
	if (err)
		return err;
	s->runs = in.body.runs;
	s->n_runs = in.body.n_runs;
	err = measure(ctx, s, &length);
	if (err)
		content_close(s->reader);
	else
		piece_source_reply(&s->source, length, signatures_next, signatures_fini, out);
	return err;
}
