#include "drive/assemble.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/chunker.h"
#include "chunks/recipe.h"
#include "chunks/steps.h"
#include "drive/chunk.h"

/* ---- hashing ---- */

struct opening {
	struct str recipe;
	int64_t size_bytes;
	struct content_reader *reader;
};

static int open_op(struct dtx *t, void *arg)
{
	struct opening *o = arg;
	return content_open(t->tx, t->drive->store, t->ctx->tenant_id, o->recipe, o->size_bytes, &o->reader);
}

int content_hash(struct ctx *ctx, struct str recipe, int64_t size_bytes, int64_t until_us, struct sha256 *out)
{
	struct opening o = {recipe, size_bytes, NULL};
	int err = drive_read(ctx, open_op, &o);
	if (err)
		return err;
	struct sha256_state *sha = sha256_new();
	void *window = malloc(CHUNK_MAX_BYTES);
	must(window != NULL);
	size_t got = 1;
	for (int64_t at = 0; !err && got; at += (int64_t)got) {
		err = content_read(o.reader, at, window, CHUNK_MAX_BYTES, &got);
		sha256_update(sha, window, got);
		if (!err && until_us && clock_now(ctx->clock) > until_us)
			err = ctx_fail(ctx, E_TIMEOUT, "Hashing the content took too long; use a resumable upload");
		if (!err && atomic_load(&ctx->drive->stopping))
			err = E_SHUTDOWN;
	}
	*out = sha256_final(sha);
	sha256_free(sha);
	free(window);
	content_close(o.reader);
	return err;
}

/* ---- following the steps ---- */

enum { AT_ONCE = 4096 }; /* steps that are looked up in one snapshot */

/* The recipe of a version, for runs of it. */
struct source {
	bool asked; /* it was looked for */
	bool had;
	size_t n;
	struct chunk_found *chunks;
};

struct assembly {
	struct ctx *ctx;
	const struct assemble_in *in;
	struct source sources[LIMIT_CHUNK_SOURCES];
	size_t n_source_chunks;
	struct chunk_sources by_hash;
	struct step steps[AT_ONCE];
	struct sha256 hashes[AT_ONCE];
	struct chunk_found found[AT_ONCE];
	size_t n_steps, n_hashes;
	struct buf recipe;
	struct recipe_writer writer;
	struct buf leased;         /* struct chunk_found: what the leases had */
	size_t n_chunks, n_done; /* in the recipe; steps before the present ones */
	int64_t size_bytes;
};

static int source_fill(struct assembly *a, struct source *s, struct str recipe)
{
	struct recipe_reader r;
	bool more;
	int64_t size;
	size_t n;
	int err = recipe_measure(recipe, &n, &size);
	if (err)
		return err;
	if (n > LIMIT_ASSEMBLED_CHUNKS - a->n_source_chunks)
		return ctx_fail(a->ctx, E_TOO_LARGE, "The sources of one request have at most %d chunks together",
		                LIMIT_ASSEMBLED_CHUNKS);
	a->n_source_chunks += n;
	s->chunks = malloc((n + 1) * sizeof *s->chunks);
	must(s->chunks != NULL);
	err = recipe_open(&r, recipe);
	for (s->n = 0; !err && s->n < n; s->n++)
		err = recipe_next(&r, &more, &s->chunks[s->n].id, &s->chunks[s->n].length);
	s->had = !err;
	return err;
}

static int source_load(struct dtx *t, struct assembly *a, size_t i)
{
	struct source *s = &a->sources[i];
	struct node n;
	struct version v;
	if (s->asked)
		return 0;
	s->asked = true;
	int err = version_load_readable(t, a->in->sources[i], NODE_WITH_TRASH, &n, &v);
	if (err == E_NOT_FOUND) {
		ctx_clear(t->ctx);
		return 0;
	}
	return err ? err : source_fill(a, s, v.recipe);
}

/* Chunks by the caller's leases; what is left, by the sources. */
static int find_chunks(struct dtx *t, struct assembly *a)
{
	int err = chunk_leased(t, a->hashes, a->n_hashes, a->found);
	for (size_t i = 0; !err && i < a->n_hashes; i++)
		err = chunk_source_any(t, &a->by_hash, a->in->sources, a->in->n_sources, &a->hashes[i], &a->found[i]);
	return err;
}

static int find_op(struct dtx *t, void *arg)
{
	struct assembly *a = arg;
	int err = a->n_hashes ? find_chunks(t, a) : 0;
	for (size_t i = 0; !err && i < a->n_steps; i++)
		if (a->steps[i].is_run)
			err = source_load(t, a, a->steps[i].source);
	return err;
}

static int add_chunk(struct assembly *a, const struct chunk_found *c)
{
	if (a->n_chunks == LIMIT_ASSEMBLED_CHUNKS || a->size_bytes + c->length > LIMIT_ASSEMBLED_BYTES)
		return ctx_fail(a->ctx, E_TOO_LARGE, "A version made of chunks has at most %d of them and %lld bytes; use a resumable"
		                " upload above it", LIMIT_ASSEMBLED_CHUNKS, (long long)LIMIT_ASSEMBLED_BYTES);
	recipe_add(&a->writer, c->id, c->length);
	a->n_chunks++;
	a->size_bytes += c->length;
	return 0;
}

static int add_run(struct assembly *a, const struct step *s, size_t number)
{
	const struct source *source = &a->sources[s->source];
	int err = 0;
	if (!source->had)
		return ctx_fail(a->ctx, E_CHUNK_MISSING, "Step %zu: source %u is no version that you may read; send its chunks", number,
		                s->source);
	if (s->first > source->n || s->count > source->n - s->first)
		return ctx_fail(a->ctx, E_BAD_REQUEST, "Step %zu runs beyond the %zu chunks of source %u", number, source->n, s->source);
	for (size_t i = 0; !err && i < s->count; i++)
		err = add_chunk(a, &source->chunks[s->first + i]);
	return err;
}

static int add_hash(struct assembly *a, const struct step *s, const struct chunk_found *c, size_t number)
{
	char hex[64];
	hex_encode(s->hash.b, 32, hex);
	if (!c->id)
		return ctx_fail(a->ctx, E_CHUNK_MISSING, "Step %zu: chunk %.16s... is neither in the sources nor was it sent: send it"
		                " first", number, hex);
	if (c->length != s->length)
		return ctx_fail(a->ctx, E_BAD_REQUEST, "Step %zu: chunk %.16s... has another length", number, hex);
	if (c->lease_id)
		buf_put(&a->leased, c, sizeof *c);
	return add_chunk(a, c);
}

/* Looks up the steps that were read, and follows them. */
static int follow(struct assembly *a)
{
	int err = drive_read(a->ctx, find_op, a);
	for (size_t i = 0, h = 0; !err && i < a->n_steps; i++) {
		const struct step *s = &a->steps[i];
		err = s->is_run ? add_run(a, s, a->n_done + i) : add_hash(a, s, &a->found[h], a->n_done + i);
		h += !s->is_run;
	}
	a->n_done += a->n_steps;
	a->n_steps = a->n_hashes = 0;
	return err;
}

static int read_steps(struct assembly *a)
{
	struct str rest = a->in->steps;
	int err = 0;
	recipe_begin(&a->writer, &a->recipe);
	while (!err && rest.n) {
		struct step *s = &a->steps[a->n_steps];
		err = step_next(&rest, s);
		if (err || (s->is_run && s->source >= a->in->n_sources))
			return ctx_fail(a->ctx, E_BAD_REQUEST, "Step %zu is malformed or names a source that was not given",
			                a->n_done + a->n_steps);
		if (!s->is_run)
			a->hashes[a->n_hashes++] = s->hash;
		if (++a->n_steps == AT_ONCE)
			err = follow(a);
	}
	return err ? err : follow(a);
}

static void assembly_free(struct assembly *a)
{
	for (size_t i = 0; i < LIMIT_CHUNK_SOURCES; i++)
		free(a->sources[i].chunks);
	chunk_sources_fini(&a->by_hash);
	buf_fini(&a->recipe);
	buf_fini(&a->leased);
	free(a);
}

static int verify(struct assembly *a)
{
	const struct version_put *claim = &a->in->put;
	struct ctx *ctx = a->ctx;
	struct sha256 hash;
	if (a->size_bytes != claim->size_bytes)
		return ctx_fail(ctx, E_CHECKSUM, "The steps make a content of %lld bytes, not of the size that was sent with them",
		                (long long)a->size_bytes);
	int err = ctx_charge(ctx, a->size_bytes / LIMIT_RATE_UNIT_BYTES);
	if (!err)
		err = content_hash(ctx, buf_as_str(&a->recipe), a->size_bytes,
		                   clock_now(ctx->clock) + MILLIS_US(LIMIT_ASSEMBLE_MS), &hash);
	if (!err && !sha256_eq(&hash, &claim->sha256))
		err = ctx_fail(ctx, E_CHECKSUM, "The content does not have the checksum_sha256 that was sent with it");
	return err;
}

static int assemble(struct ctx *ctx, const struct assemble_in *in, struct version_result *out)
{
	struct version_put put = in->put;
	struct assembly *a = calloc(1, sizeof *a);
	must(a != NULL);
	a->ctx = ctx;
	a->in = in;
	put.had_us = clock_now(ctx->clock);
	int err = read_steps(a);
	if (!err)
		err = verify(a);
	if (!err) {
		put.recipe = arena_str(ctx->arena, buf_as_str(&a->recipe)); /* the result refers to it */
		put.leased = (struct chunk_found *)(void *)a->leased.p;
		put.n_leased = a->leased.n / sizeof *put.leased;
		err = drive_file_put(ctx, &put, out);
	}
	assembly_free(a);
	return err;
}

int drive_assemble(struct ctx *ctx, const struct assemble_in *in, struct version_result *out)
{
	struct drive *d = ctx->drive;
	bool made;
	must(in->n_sources <= LIMIT_CHUNK_SOURCES);
	int err = drive_file_put_again(ctx, &in->put, &made, out);
	if (!err && !made)
		err = drive_file_put_check(ctx, &in->put, in->put.size_bytes, NULL);
	if (err || made)
		return err;
	if (atomic_fetch_add(&d->assembling, 1) < d->assembling_max)
		err = assemble(ctx, in, out);
	else
		err = ctx_fail(ctx, E_BUSY, "The server is hashing as many contents as it may at once; try again shortly");
	atomic_fetch_sub(&d->assembling, 1);
	return err;
}
