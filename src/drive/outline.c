#include "drive/outline.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/index.h"
#include "chunks/recipe.h"
#include "chunks/steps.h"

enum { RUNS_MAX = 65536, PLACES_MAX = 1 << 20, NEAR = 16, BRIEF_BYTES = 12 };

/* Chunks [first, first + count) of the version are chunks [at, at + count) of the base. */
struct run {
	uint32_t first, at, count;
};

struct outline {
	struct drive *drive;
	int64_t tenant_id, content_bytes, bytes;
	struct sha256 hash;
	bool brief;
	struct buf recipe;
	struct recipe_reader reader;
	struct buf runs; /* struct run, ascending; what is in none is told by hash */
	size_t n, at;    /* chunks of the version; told */
	size_t run;      /* the next one */
};

static const struct run *run_at(const struct outline *o, size_t i)
{
	return i < o->runs.n / sizeof(struct run) ? &((const struct run *)(const void *)o->runs.p)[i] : NULL;
}

/* ---- what two recipes share ---- */

/* The chunks of the base: their ids in order, and where an id comes first; of a very long one, in its beginning. */
struct base {
	int64_t *ids;
	size_t n;
	struct map places; /* id -> place + 1 */
};

static int base_fill(struct ctx *ctx, struct str recipe, struct base *b)
{
	struct recipe_reader r;
	int64_t size;
	size_t n;
	bool more = true;
	int err = recipe_measure(recipe, &n, &size);
	if (err)
		return err;
	if (n > LIMIT_ASSEMBLED_CHUNKS)
		return ctx_fail(ctx, E_TOO_LARGE, "Versions of more than %d chunks are not told in steps", LIMIT_ASSEMBLED_CHUNKS);
	b->ids = malloc((n + 1) * sizeof *b->ids);
	must(b->ids != NULL);
	err = recipe_open(&r, recipe);
	for (b->n = 0; !err && b->n < n; b->n++) {
		uint32_t length;
		err = recipe_next(&r, &more, &b->ids[b->n], &length);
	}
	for (size_t i = b->n < PLACES_MAX ? b->n : PLACES_MAX; i-- > 0;)
		map_put(&b->places, (uint64_t)b->ids[i], (void *)(uintptr_t)(i + 1));
	return err;
}

/* Where the base has this chunk, be it behind where the last one was found; SIZE_MAX: nowhere that we look. */
static size_t base_find(const struct base *b, int64_t id, size_t behind)
{
	for (size_t i = behind; i < b->n && i < behind + NEAR; i++)
		if (b->ids[i] == id)
			return i;
	return (size_t)(uintptr_t)map_get(&b->places, (uint64_t)id) - 1;
}

static int find_runs(struct outline *o, const struct base *b)
{
	struct recipe_reader r;
	struct run run = {0};
	size_t behind = 0;
	int err = recipe_open(&r, buf_as_str(&o->recipe));
	for (size_t i = 0; !err && i < o->n; i++) {
		bool more;
		uint32_t length;
		int64_t id;
		err = recipe_next(&r, &more, &id, &length);
		size_t at = base_find(b, id, behind);
		if (run.count && at != behind) {
			buf_put(&o->runs, &run, sizeof run);
			run.count = 0;
		}
		if (at == SIZE_MAX || o->runs.n / sizeof run == RUNS_MAX)
			continue;
		if (!run.count)
			run = (struct run){(uint32_t)i, (uint32_t)at, 0};
		run.count++;
		behind = at + 1;
	}
	if (run.count)
		buf_put(&o->runs, &run, sizeof run);
	return err;
}

/* ---- opening ---- */

struct opening {
	const struct outline_in *in;
	struct outline *outline;
	struct base base;
};

static int open_op(struct dtx *t, void *arg)
{
	struct opening *p = arg;
	struct outline *o = p->outline;
	struct node n;
	struct version v;
	int err = version_load_readable(t, p->in->version_id, NODE_WITH_TRASH, &n, &v);
	if (!err)
		err = recipe_measure(v.recipe, &o->n, &o->content_bytes);
	if (err)
		return err;
	if (o->n > LIMIT_ASSEMBLED_CHUNKS)
		return ctx_fail(t->ctx, E_TOO_LARGE, "Versions of more than %d chunks are not told in steps", LIMIT_ASSEMBLED_CHUNKS);
	o->hash = v.sha256;
	buf_clear(&o->recipe);
	buf_str(&o->recipe, v.recipe);
	if (!p->in->base_version_id)
		return 0;
	err = version_load_readable(t, p->in->base_version_id, NODE_WITH_TRASH, &n, &v);
	return err ? err : base_fill(t->ctx, v.recipe, &p->base);
}

static void measure(struct outline *o)
{
	struct buf b = {0};
	static const struct sha256 none;
	step_put_run(&b, 0, 0, 1);
	size_t run_bytes = b.n, rest = o->n, runs = 0;
	step_put_chunk(&b, &none, 1);
	size_t chunk_bytes = o->brief ? BRIEF_BYTES : b.n - run_bytes;
	for (const struct run *r; (r = run_at(o, runs)); runs++)
		rest -= r->count;
	o->bytes = (int64_t)(runs * run_bytes + rest * chunk_bytes);
	buf_fini(&b);
}

int drive_outline_open(struct ctx *ctx, const struct outline_in *in, struct outline **out)
{
	struct outline *o = calloc(1, sizeof *o);
	must(o != NULL && !(in->brief && in->base_version_id));
	*o = (struct outline){.drive = ctx->drive, .tenant_id = ctx->tenant_id, .brief = in->brief};
	struct opening p = {.in = in, .outline = o};
	int err = drive_read(ctx, open_op, &p);
	if (!err && in->base_version_id)
		err = find_runs(o, &p.base);
	if (!err)
		err = recipe_open(&o->reader, buf_as_str(&o->recipe));
	map_fini(&p.base.places);
	free(p.base.ids);
	if (err) {
		outline_close(o);
		return err;
	}
	measure(o);
	*out = o;
	return 0;
}

void outline_close(struct outline *o)
{
	buf_fini(&o->recipe);
	buf_fini(&o->runs);
	free(o);
}

int64_t outline_content_bytes(const struct outline *o)
{
	return o->content_bytes;
}

const struct sha256 *outline_content_hash(const struct outline *o)
{
	return &o->hash;
}

int64_t outline_bytes(const struct outline *o)
{
	return o->bytes;
}

/* ---- telling ---- */

struct telling {
	struct outline *outline;
	int64_t ids[INDEX_BATCH];
	uint32_t lengths[INDEX_BATCH];
	struct sha256 hashes[INDEX_BATCH];
	size_t n;
};

static int hashes_op(struct tx *tx, void *arg)
{
	struct telling *t = arg;
	return index_hashes(tx, t->outline->tenant_id, t->ids, t->n, t->hashes);
}

static int tell_run(struct outline *o, const struct run *run, struct buf *out)
{
	bool more;
	int64_t id;
	uint32_t length;
	int err = 0;
	for (uint32_t i = 0; !err && i < run->count; i++)
		err = recipe_next(&o->reader, &more, &id, &length);
	step_put_run(out, 0, run->at, run->count);
	o->at += run->count;
	o->run++;
	return err;
}

/* Chunks up to the next run or the end. */
static int tell_chunks(struct outline *o, size_t end, struct buf *out)
{
	struct telling t = {.outline = o};
	int err = 0;
	bool more;
	for (; !err && t.n < INDEX_BATCH && o->at < end; o->at++, t.n++)
		err = recipe_next(&o->reader, &more, &t.ids[t.n], &t.lengths[t.n]);
	if (!err)
		err = db_read(o->drive->db, hashes_op, &t);
	for (size_t i = 0; !err && i < t.n; i++) {
		if (o->brief) {
			buf_put(out, t.hashes[i].b, 8);
			buf_le(out, t.lengths[i], 4);
		} else {
			step_put_chunk(out, &t.hashes[i], t.lengths[i]);
		}
	}
	return err;
}

int outline_read(struct outline *o, struct buf *out)
{
	const struct run *next = run_at(o, o->run);
	if (o->at == o->n)
		return 0;
	if (next && next->first == o->at)
		return tell_run(o, next, out);
	return tell_chunks(o, next ? next->first : o->n, out);
}
