/* ingest: bytes in file order become durable chunks.
 *
 * Fed bytes gather in one slab. When it is full, the chunks that end in it are hashed, looked up together, and those
 * that the tenant lacks are appended. So an ingest holds one slab and a record of about 100 bytes a chunk. What is fed
 * in pieces larger than a slab is not copied there first. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/recipe.h"
#include "chunks/ingest_priv.h"

enum { INCOMPRESSIBLE_RUN = 4, RETRY_EVERY = 16 };

struct content *ingest_content(struct store *s)
{
	struct content *c = calloc(1, sizeof *c);
	must(c != NULL);
	c->since_us = clock_now(s->config.clock);
	c->since_mono_us = clock_mono(s->config.clock);
	return c;
}

static int begin(struct store *s, int64_t tenant_id, int64_t size_hint, struct ingest **out)
{
	*out = NULL;
	int err = store_health(s);
	if (err == E_OK)
		err = store_room(s, 0);
	if (err != E_OK)
		return err;
	struct ingest *in = calloc(1, sizeof *in);
	must(in != NULL);
	in->store = s;
	in->tenant_id = tenant_id;
	in->size_hint = size_hint;
	in->slab = slab_take(s);
	in->content = ingest_content(s);
	*out = in;
	return E_OK;
}

int ingest_begin(struct store *s, int64_t tenant_id, const uint8_t tenant_key[32], int64_t size_hint, struct ingest **out)
{
	int err = begin(s, tenant_id, size_hint, out);
	if (err != E_OK)
		return err;
	gear_of(s, tenant_id, tenant_key, &(*out)->gear);
	chunker_init(&(*out)->chunker, &(*out)->gear);
	(*out)->whole = sha256_new();
	return E_OK;
}

int ingest_begin_chunks(struct store *s, int64_t tenant_id, int64_t size_hint, struct ingest **out)
{
	int err = begin(s, tenant_id, size_hint, out);
	if (err == E_OK)
		(*out)->given = true;
	return err;
}

static void ingest_free(struct ingest *in)
{
	sha256_free(in->whole);
	slab_give(in->store, in->slab);
	map_fini(&in->by_hash);
	shared_release(in->store, in->held);
	content_free(in->content);
	free(in);
}

void ingest_abort(struct ingest *in)
{
	if (!in)
		return;
	if (in->has_own && !in->kept) { /* only this ingest knows of its chunks */
		store_pack_drop(in->store, &in->own);
	} else if (in->has_own) {
		(void)disk_truncate(in->own.file, in->kept); /* gives room back, no more */
		pack_close(&in->own);
	}
	ingest_free(in);
}

void content_free(struct content *c)
{
	if (!c)
		return;
	if (c->shared)
		shared_release(c->store, c->shared);
	pack_runs_fini(&c->unwritten);
	free(c->chunks);
	free(c);
}

/* The next record; its chunk is a repetition when an earlier one of the file has its hash. */
static void record_chunk(struct ingest *in, struct sha256 hash, size_t n)
{
	struct content *c = in->content;
	if (c->n_chunks == in->cap_chunks) {
		in->cap_chunks = in->cap_chunks ? in->cap_chunks * 2 : 4;
		c->chunks = realloc(c->chunks, in->cap_chunks * sizeof *c->chunks);
		must(c->chunks != NULL && in->cap_chunks <= UINT32_MAX);
	}
	struct content_chunk *chunk = &c->chunks[c->n_chunks];
	*chunk = (struct content_chunk){.first = (uint32_t)c->n_chunks};
	chunk->row.hash = hash;
	chunk->row.place.raw_len = (uint32_t)n;
	c->size_bytes += (int64_t)n;

	uint64_t key;
	memcpy(&key, chunk->row.hash.b, sizeof key);
	uintptr_t seen = (uintptr_t)map_get(&in->by_hash, key);
	if (seen && sha256_eq(&c->chunks[seen - 1].row.hash, &chunk->row.hash))
		chunk->first = (uint32_t)(seen - 1);
	else if (!seen)
		map_put(&in->by_hash, key, (void *)(uintptr_t)(c->n_chunks + 1));
	c->n_chunks++;
}

struct lookup {
	struct sha256 hashes[INDEX_BATCH];
	int64_t ids[INDEX_BATCH];
	size_t where[INDEX_BATCH];
	size_t n;
};

bool ingest_wants_own(const struct ingest *in)
{
	return in->has_own || in->size_hint > OWN_PACK_FROM_BYTES || in->content->size_bytes > OWN_PACK_FROM_BYTES;
}

int ingest_append_own(struct ingest *in, struct pack_entry *e, const void *stored, bool kept)
{
	if (!in->has_own) {
		int err = store_pack_create(in->store, in->tenant_id, &in->own);
		if (err != E_OK)
			return err;
		in->has_own = in->own.deferred = true;
	}
	bool broken;
	if (!kept)
		return pack_append(&in->own, e, stored, &broken);
	pack_append_kept(&in->own, e, stored);
	return E_OK;
}

static int write_own(struct ingest *in)
{
	return in->has_own ? pack_runs_write(&in->own.runs, in->own.file) : E_OK;
}

static enum codec encode(struct ingest *in, struct codec_work *w, const uint8_t *p, size_t n, struct str *stored)
{
	*stored = str_n(p, n);
	if (in->raw_run >= INCOMPRESSIBLE_RUN && in->raw_run % RETRY_EVERY != 0) {
		in->raw_run++;
		return CODEC_RAW;
	}
	enum codec codec = codec_encode(w, p, n, stored);
	in->raw_run = codec == CODEC_RAW ? in->raw_run + 1 : 0;
	return codec;
}

/* Appends a chunk that the tenant does not have; kept: its bytes stay until write_own. */
static int store_chunk(struct ingest *in, struct codec_work *w, struct content_chunk *chunk, const uint8_t *p, bool kept)
{
	struct store *s = in->store;
	struct chunk_place *place = &chunk->row.place;
	struct str stored;
	place->codec = (uint8_t)encode(in, w, p, place->raw_len, &stored);
	place->stored_len = (uint32_t)stored.n;
	place->xxh = xxh3_64(stored.p, stored.n);
	chunk->row.id = idgen_next(s->config.ids);
	struct pack_entry e = {
	    .hash = chunk->row.hash,
	    .chunk_id = chunk->row.id,
	    .xxh = place->xxh,
	    .raw_len = place->raw_len,
	    .stored_len = place->stored_len,
	    .codec = place->codec,
	};
	int err;
	if (ingest_wants_own(in)) {
		err = ingest_append_own(in, &e, stored.p, kept && place->codec == CODEC_RAW);
		place->pack_id = in->own.id;
	} else {
		err = shared_append(s, in->tenant_id, &in->held, &e, stored.p, &place->pack_id, &in->ticket);
	}
	if (err != E_OK)
		return err;
	place->offset = e.offset;
	chunk->is_new = true;
	in->content->n_new_chunks++;
	in->content->new_bytes += place->stored_len;
	atomic_fetch_add(&s->chunks_new, 1);
	atomic_fetch_add(&s->bytes_stored, place->stored_len);
	return E_OK;
}

/* Stores what the look-up did not find; p: the bytes of chunks [first, n_chunks). */
static int store_missing(struct ingest *in, size_t first, const struct lookup *l, const uint8_t *p)
{
	struct codec_work *w = work_take(in->store);
	int err = E_OK;
	bool kept = !in->lent || p != in->slab;
	for (size_t i = first, k = 0; err == E_OK && i < in->content->n_chunks; i++) {
		struct content_chunk *chunk = &in->content->chunks[i];
		bool looked_up = k < l->n && l->where[k] == i;
		if (looked_up)
			chunk->row.id = l->ids[k++];
		if (looked_up && chunk->row.id == 0)
			err = store_chunk(in, w, chunk, p, kept);
		else
			atomic_fetch_add(&in->store->chunks_deduplicated, 1);
		p += chunk->row.place.raw_len;
	}
	work_give(in->store, w);
	if (err == E_OK && (!in->lent || in->own.runs.owned_bytes > PACK_WRITE_BYTES))
		err = write_own(in);
	return err;
}

/* Deals with the chunks at bytes, whose ends are known; hashed: their hashes, too. */
static int take_in(struct ingest *in, const uint8_t *bytes, bool hashed)
{
	struct lookup l = {0};
	size_t first = in->content->n_chunks, start = 0;
	for (size_t i = 0; i < in->n_ends; start = in->ends[i++]) {
		size_t n = in->ends[i] - start;
		record_chunk(in, hashed ? in->hashes[i] : sha256_update_of(in->whole, bytes + start, n), n);
		const struct content_chunk *chunk = &in->content->chunks[first + i];
		if (chunk->first != first + i)
			continue;
		l.hashes[l.n] = chunk->row.hash;
		l.where[l.n++] = first + i;
	}
	int err = index_find(in->store->config.db, in->store->finder, in->tenant_id, l.hashes, l.n, l.ids);
	if (err == E_OK)
		err = store_missing(in, first, &l, bytes);
	if (err == E_OK)
		in->n_ends = 0;
	return err;
}

int ingest_drain(struct ingest *in)
{
	if (in->n_ends == 0)
		return E_OK;
	size_t end = in->ends[in->n_ends - 1];
	int err = take_in(in, in->slab, in->given);
	if (err != E_OK)
		return err;
	in->fill -= end;
	memmove(in->slab, in->slab + end, in->fill);
	return E_OK;
}

/* Finds the cuts in the n bytes just added at the end of the slab. */
static int scan(struct ingest *in, size_t n)
{
	size_t at = in->fill;
	in->fill += n;
	while (at < in->fill) {
		bool cut;
		at += chunker_scan(&in->chunker, in->slab + at, in->fill - at, &cut);
		if (!cut)
			break;
		must(in->n_ends < INDEX_BATCH); /* a slab holds 32 chunks of the least length */
		in->ends[in->n_ends++] = at;
	}
	return in->fill == SLAB_BYTES ? ingest_drain(in) : E_OK;
}

int ingest_chunk(struct ingest *in, const struct sha256 *claimed, const void *p, size_t n)
{
	must(in->given && n > 0 && n <= CHUNK_MAX_BYTES);
	struct sha256 hash = sha256_of(p, n);
	if (!sha256_eq(&hash, claimed))
		return E_CHECKSUM;
	if (in->err == E_OK && (in->n_ends == INDEX_BATCH || SLAB_BYTES - in->fill < n))
		in->err = ingest_drain(in);
	if (in->err != E_OK)
		return in->err;
	atomic_fetch_add(&in->store->bytes_in, (int64_t)n);
	memcpy(in->slab + in->fill, p, n);
	in->fill += n;
	in->hashes[in->n_ends] = hash;
	in->ends[in->n_ends++] = in->fill;
	return E_OK;
}

/* The chunk that began in the slab, up to its end. */
static int finish_open_chunk(struct ingest *in, const uint8_t *p, size_t n, size_t *took)
{
	bool cut;
	*took = chunker_scan(&in->chunker, p, n, &cut);
	must(in->fill + *took <= CHUNK_MAX_BYTES);
	memcpy(in->slab + in->fill, p, *took);
	in->fill += *took;
	if (!cut)
		return E_OK;
	in->ends[in->n_ends++] = in->fill;
	return ingest_drain(in);
}

/* The chunks are taken from where they lie, up to one that ends behind a slab's length; what is left behind the last begins the
 * next slab. Each is hashed while the next one is looked for. */
static int feed_in_place(struct ingest *in, const uint8_t *p, size_t n, size_t *took)
{
	struct sha256_pair digests;
	size_t end = 0;
	int err = ingest_drain(in);
	*took = 0;
	if (err != E_OK)
		return err;
	if (in->fill > 0)
		return finish_open_chunk(in, p, n, took);
	while (*took < n && end < SLAB_BYTES && in->n_ends < INDEX_BATCH) {
		bool cut;
		*took += chunker_scan_beside(&in->chunker, p + *took, n - *took, &cut, in->n_ends ? &digests : NULL);
		if (!cut)
			break;
		if (in->n_ends)
			in->hashes[in->n_ends - 1] = sha256_pair_end(&digests);
		sha256_pair_begin(&digests, in->whole, p + end, *took - end);
		in->ends[in->n_ends++] = end = *took;
	}
	if (in->n_ends)
		in->hashes[in->n_ends - 1] = sha256_pair_end(&digests);
	in->fill = *took - end;
	memcpy(in->slab, p + end, in->fill);
	return in->n_ends ? take_in(in, p, true) : E_OK;
}

int ingest_feed(struct ingest *in, const void *p, size_t n)
{
	must(!in->given);
	atomic_fetch_add(&in->store->bytes_in, (int64_t)n);
	size_t in_place = in->lent ? 1 : SLAB_BYTES; /* a copy into the slab would have to be copied again */
	while (in->err == E_OK && n >= in_place) {
		size_t took;
		in->err = feed_in_place(in, p, n, &took);
		p = (const char *)p + took;
		n -= took;
	}
	while (in->err == E_OK && n > 0) {
		size_t room = SLAB_BYTES - in->fill;
		size_t k = n < room ? n : room;
		memcpy(in->slab + in->fill, p, k);
		in->err = scan(in, k);
		p = (const char *)p + k;
		n -= k;
	}
	return in->err;
}

/* Every byte of the ingest's own pack on the disk. */
static int make_own_durable(struct ingest *in)
{
	int err = in->has_own ? pack_seal(&in->own) : E_OK;
	if (err == E_OK)
		err = write_own(in);
	return in->has_own && err == E_OK && !mutant(M_PACK_NO_SYNC) ? pack_sync(in->own.file, in->own.segment) : err;
}

int content_flush(struct content *c)
{
	int err = c->shared ? shared_flush(c->store, c->shared, c->ticket) : E_OK;
	/* what was found in the index may have been written before the disk failed; new commits stop */
	return err == E_OK ? store_health(c->store) : err;
}

int ingest_finish(struct ingest *in, struct content **out)
{
	int err = ingest_close(in, out);
	if (err == E_OK)
		err = content_flush(*out);
	if (err != E_OK) {
		content_free(*out);
		*out = NULL;
	}
	return err;
}

int ingest_close(struct ingest *in, struct content **out)
{
	*out = NULL;
	int err = in->err;
	if (err == E_OK && in->fill > (in->n_ends ? in->ends[in->n_ends - 1] : 0))
		in->ends[in->n_ends++] = in->fill;
	if (err == E_OK)
		err = ingest_drain(in);
	if (err == E_OK)
		err = make_own_durable(in);
	if (err != E_OK) {
		ingest_abort(in);
		return err;
	}
	if (in->has_own)
		pack_close(&in->own);
	if (!in->given)
		in->content->sha256 = sha256_final(in->whole);
	*out = in->content;
	(*out)->store = in->store;
	(*out)->shared = in->held;
	(*out)->ticket = in->ticket;
	in->content = NULL;
	in->held = NULL;
	ingest_free(in);
	return E_OK;
}

/* What was found long ago is looked at again: by the wall clock, which the collector goes by and which may have been set
 * meanwhile, or by the other. */
static int use_found(struct tx *tx, struct store *s, int64_t tenant_id, const struct content *c, size_t from, size_t to)
{
	int64_t age = clock_now(s->config.clock) - c->since_us;
	int64_t ids[INDEX_BATCH];
	size_t n = 0;
	int err = E_OK;
	int64_t took = clock_mono(s->config.clock) - c->since_mono_us;
	bool fresh = age >= 0 && age < MILLIS_US(LIMIT_FOUND_MS) && took < MILLIS_US(LIMIT_FOUND_MS);
	if (fresh || mutant(M_CONTENT_NEVER_OLD))
		return E_OK;
	if (age > MILLIS_US(LIMIT_INGEST_MS) || took > MILLIS_US(LIMIT_INGEST_MS))
		return E_TIMEOUT;
	for (size_t i = from; err == E_OK && i < to; i++) {
		const struct content_chunk *chunk = &c->chunks[i];
		if (!chunk->is_new && chunk->first == i)
			ids[n++] = chunk->row.id;
		if (n < INDEX_BATCH && i + 1 < to)
			continue;
		err = index_use(tx, tenant_id, ids, n);
		n = 0;
	}
	return err;
}

/* Has chunks indexed by way of the batch; ids[i - from] becomes the id of chunk i wherever it is the first with its hash. */
static int commit_new(struct tx *tx, struct store *s, int64_t tenant_id, const struct content *c, size_t from, size_t to,
                      struct index_batch *batch, int64_t *ids)
{
	struct chunk_row rows[INDEX_BATCH];
	int64_t got[INDEX_BATCH];
	size_t where[INDEX_BATCH], n = 0;
	int64_t now_us = clock_now(s->config.clock);
	int old = use_found(tx, s, tenant_id, c, from, to);
	if (old != E_OK)
		return old;
	for (size_t i = from; i < to; i++) {
		const struct content_chunk *chunk = &c->chunks[i];
		ids[i - from] = chunk->row.id;
		if (chunk->is_new) {
			where[n] = i - from;
			rows[n++] = chunk->row;
		}
		if (n < INDEX_BATCH && i + 1 < to)
			continue;
		int err = index_add(tx, s->finder, tenant_id, now_us, rows, n, batch, got);
		if (err != E_OK)
			return err;
		for (size_t k = 0; k < n; k++)
			ids[where[k]] = got[k];
		n = 0;
	}
	return E_OK;
}

int content_index(struct tx *tx, struct store *s, int64_t tenant_id, const struct content *c, size_t from, size_t n,
                  content_chunk_fn *fn, void *arg)
{
	size_t to = n < c->n_chunks - from ? from + n : c->n_chunks;
	int64_t *ids = arena_many(tx_arena(tx), to - from + 1, int64_t);
	struct index_batch batch = {.n = 0};
	int err = commit_new(tx, s, tenant_id, c, from, to, &batch, ids);
	if (err == E_OK)
		err = store_index_flush(tx, s, tenant_id, &batch);
	for (size_t i = from; err == E_OK && i < to; i++)
		if (c->chunks[i].first == i)
			err = fn(arg, ids[i - from], &c->chunks[i].row.hash, c->chunks[i].row.place.raw_len);
	return err;
}

int store_index_flush(struct tx *tx, struct store *s, int64_t tenant_id, struct index_batch *batch)
{
	return index_flush(tx, s->finder, tenant_id, clock_now(s->config.clock), batch);
}

int content_commit(struct tx *tx, struct store *s, int64_t tenant_id, const struct content *c, struct index_batch *batch,
                   struct buf *recipe)
{
	if (c->recipe.p) {
		buf_str(recipe, c->recipe);
		return E_OK;
	}
	int64_t *ids = arena_many(tx_arena(tx), c->n_chunks + 1, int64_t);
	struct index_batch own = {.n = 0};
	int err = commit_new(tx, s, tenant_id, c, 0, c->n_chunks, batch ? batch : &own, ids);
	if (err == E_OK)
		err = store_index_flush(tx, s, tenant_id, &own);
	if (err != E_OK)
		return err;
	struct recipe_writer w;
	recipe_begin(&w, recipe);
	for (size_t i = 0; i < c->n_chunks; i++)
		recipe_add(&w, ids[c->chunks[i].first], c->chunks[i].row.place.raw_len);
	return E_OK;
}
