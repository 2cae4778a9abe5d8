/* Content that changes bring along: found, joined to a recipe and verified before the first transaction, so that
 * the writer is held for rows alone.
 *
 * What the caller has (drive/chunk.h) is looked up in a snapshot before the writes. Losing a lease or the right to
 * read a source in between changes nothing: the caller could have read it then. A content of one chunk has that chunk's
 * hash. The whole hash of several chunks is not known from theirs, so they are read again. */
#include "base/limits.h"
#include "base/must.h"
#include "chunks/recipe.h"
#include "drive/apply_priv.h"
#include "drive/assemble.h"
#include "drive/chunk.h"

struct find {
	struct apply_batch *b;
	struct sha256 *hashes; /* of all changes */
	struct chunk_found *found;
	size_t n;
};

/* This change alone cannot be; the fault is kept for its turn. */
static int refuse(struct ctx *ctx, struct apply_ready *r, int err)
{
	r->err = err;
	r->detail = arena_str(ctx->arena, ctx_detail(ctx, err));
	ctx_clear(ctx);
	return 0;
}

static int claim_check(struct ctx *ctx, const struct apply_bytes *bytes, const struct apply_ready *r)
{
	if (bytes->has_size && bytes->size_bytes != r->size_bytes)
		return ctx_fail(ctx, E_CHECKSUM, "The content has %lld bytes, not the size that was sent with it", (long long)r->size_bytes);
	if (!bytes->has_checksum || sha256_eq(&bytes->checksum, &r->sha256))
		return 0;
	return ctx_fail(ctx, E_CHECKSUM, "The content does not have the checksum_sha256 that was sent with it");
}

static int from_version(struct dtx *t, const struct apply_bytes *bytes, struct apply_ready *r)
{
	struct node n;
	struct version v;
	int err = version_load_readable(t, bytes->source_version_id, NODE_WITH_TRASH, &n, &v);
	if (err)
		return err;
	r->recipe = v.recipe;
	r->size_bytes = v.size_bytes;
	r->sha256 = v.sha256;
	return claim_check(t->ctx, bytes, r);
}

/* The chunk by a lease, else by a source. */
static int one_chunk(struct dtx *t, struct chunk_sources *sources, const struct apply_bytes *bytes, size_t i,
                     struct chunk_found *f)
{
	int err = chunk_source_any(t, sources, bytes->sources, bytes->n_sources, &bytes->chunks[i], f);
	if (err || f->id)
		return err;
	char hex[64];
	hex_encode(bytes->chunks[i].b, 32, hex);
	return ctx_fail(t->ctx, E_CHUNK_MISSING, "Chunk %zu (%.16s...) is neither in the sources nor was it sent: send it first", i,
	                hex);
}

static int from_chunks(struct dtx *t, struct chunk_sources *sources, const struct apply_bytes *bytes,
                       struct chunk_found *found, struct apply_ready *r)
{
	struct buf recipe = {0};
	struct recipe_writer w;
	int err = 0;
	recipe_begin(&w, &recipe);
	for (size_t i = 0; !err && i < bytes->n_chunks; i++) {
		err = one_chunk(t, sources, bytes, i, &found[i]);
		if (err)
			break;
		recipe_add(&w, found[i].id, found[i].length);
		r->size_bytes += found[i].length;
	}
	if (!err)
		r->recipe = arena_str(t->ctx->arena, buf_as_str(&recipe));
	buf_fini(&recipe);
	if (err)
		return err;
	r->unverified = bytes->n_chunks > 1;
	r->chunks = found;
	r->n_chunks = bytes->n_chunks;
	r->sha256 = bytes->n_chunks == 1 ? bytes->chunks[0] : sha256_of("", 0);
	return r->unverified ? 0 : claim_check(t->ctx, bytes, r);
}

static int find_op(struct dtx *t, void *arg)
{
	struct find *f = arg;
	struct apply_batch *b = f->b;
	struct chunk_sources sources = {0};
	int err = chunk_leased(t, f->hashes, f->n, f->found);
	size_t at = 0;
	for (size_t i = 0; !err && i < b->in->n_changes; i++) {
		const struct apply_bytes *bytes = b->in->changes[i].bytes;
		if (!bytes)
			continue;
		struct apply_ready *r = &b->ready[i];
		*r = (struct apply_ready){0};
		err = bytes->source_version_id ? from_version(t, bytes, r) : from_chunks(t, &sources, bytes, f->found + at, r);
		at += bytes->n_chunks;
		if (err && err_info(err)->status < 500)
			err = refuse(t->ctx, r, err);
	}
	chunk_sources_fini(&sources);
	return err;
}

/* ---- the whole hash of several chunks ---- */

static int verify(struct ctx *ctx, struct apply_batch *b, size_t i)
{
	struct apply_ready *r = &b->ready[i];
	if (r->err || !r->unverified)
		return 0;
	if (r->size_bytes > b->hash_left) {
		ctx_fail(ctx, E_TOO_LARGE, "One request has at most %d bytes of content in several chunks verified; send fewer"
		                           " changes, or use sync/versions", LIMIT_APPLY_HASH_BYTES);
		return refuse(ctx, r, E_TOO_LARGE);
	}
	b->hash_left -= r->size_bytes;
	int err = content_hash(ctx, r->recipe, r->size_bytes, 0, &r->sha256);
	if (err)
		return err;
	r->unverified = false;
	err = claim_check(ctx, b->in->changes[i].bytes, r);
	return err ? refuse(ctx, r, err) : 0;
}

int apply_bytes_find(struct ctx *ctx, struct apply_batch *b)
{
	struct find f = {.b = b};
	bool any = false;
	b->ready = NULL;
	for (size_t i = 0; i < b->in->n_changes; i++) {
		any |= b->in->changes[i].bytes != NULL;
		f.n += b->in->changes[i].bytes ? b->in->changes[i].bytes->n_chunks : 0;
	}
	if (!any)
		return 0;
	b->ready = arena_many(ctx->arena, b->in->n_changes, struct apply_ready);
	f.hashes = arena_many(ctx->arena, f.n + 1, struct sha256);
	f.found = arena_many(ctx->arena, f.n + 1, struct chunk_found);
	size_t at = 0;
	for (size_t i = 0; i < b->in->n_changes; i++) {
		const struct apply_bytes *bytes = b->in->changes[i].bytes;
		if (bytes && bytes->n_chunks)
			memcpy(f.hashes + at, bytes->chunks, bytes->n_chunks * sizeof *f.hashes);
		at += bytes ? bytes->n_chunks : 0;
	}
	b->had_us = clock_now(ctx->clock);
	int err = drive_read(ctx, find_op, &f);
	for (size_t i = 0; !err && i < b->in->n_changes; i++)
		if (b->in->changes[i].bytes)
			err = verify(ctx, b, i);
	return err;
}

int apply_bytes_put(struct apply_step *s, struct version_put *put)
{
	const struct apply_bytes *bytes = s->c->bytes;
	const struct apply_ready *r = &s->batch->ready[s->c - s->batch->in->changes];
	if (r->err)
		return ctx_fail(s->t->ctx, r->err, "%.*s", STR_ARG(r->detail));
	must(!r->unverified && r->recipe.p);
	put->recipe = r->recipe;
	put->had_us = s->batch->had_us;
	put->size_bytes = r->size_bytes;
	put->sha256 = r->sha256;
	put->mime_type = bytes->mime_type;
	put->has_mtime = bytes->has_mtime;
	put->mtime_us = bytes->mtime_us;
	put->has_executable = bytes->has_executable;
	put->executable = bytes->executable;
	return 0;
}

int apply_bytes_used(struct dtx *t, struct apply_batch *b)
{
	size_t n = 0;
	for (size_t i = 0; b->ready && i < b->to; i++)
		n += b->ready[i].n_chunks;
	if (!n)
		return 0;
	struct chunk_found *used = arena_many(t->ctx->arena, n, struct chunk_found);
	n = 0;
	for (size_t i = 0; i < b->to; i++) {
		const struct apply_ready *r = &b->ready[i];
		enum apply_status status = b->out->results[i].status;
		if (!r->n_chunks || (status != APPLY_APPLIED && status != APPLY_RENAMED))
			continue; /* a repeated change may name any chunks, and makes no version of them */
		memcpy(used + n, r->chunks, r->n_chunks * sizeof *used);
		n += r->n_chunks;
	}
	return chunk_leases_use(t, used, n);
}
