/* reader: any window of a recipe, each chunk verified before a byte of it leaves.
 *
 * Memory: 16 bytes a chunk, the places of one window of chunks, and one slab. The first window's places are resolved
 * with the transaction that opened the reader, so a small file needs no further look-up; later windows as the reading
 * reaches them. */
#include <stdlib.h>

#include "base/must.h"
#include "chunks/recipe.h"
#include "chunks/scrub.h"
#include "chunks/store_priv.h"

struct reader_chunk {
	int64_t id;
	int64_t end; /* offset in the file behind it */
};

struct content_reader {
	struct store *store;
	int64_t tenant_id, size_bytes;
	size_t n;
	struct reader_chunk *chunks;
	struct chunk_place places[INDEX_BATCH]; /* of chunks [window, window + n_places) */
	size_t window, n_places;
	size_t at;       /* the chunk that was read last: where a sequential reader goes on */
	uint8_t *slab;   /* first half: a decoded chunk; second: its stored bytes */
	size_t decoded;  /* its number + 1; 0: none */
	struct pack_handle *pack;
};

static int fill_window(struct tx *tx, struct content_reader *r, size_t first)
{
	int64_t ids[INDEX_BATCH];
	size_t n = r->n - first < INDEX_BATCH ? r->n - first : INDEX_BATCH;
	for (size_t i = 0; i < n; i++)
		ids[i] = r->chunks[first + i].id;
	r->n_places = 0;
	int err = index_place(tx, r->tenant_id, ids, n, r->places);
	if (err != E_OK)
		return err;
	r->window = first;
	r->n_places = n;
	return E_OK;
}

static int fill_chunks(struct content_reader *r, struct str recipe)
{
	struct recipe_reader rr;
	int err = recipe_open(&rr, recipe);
	for (size_t i = 0; err == E_OK && i < r->n; i++) {
		bool more;
		uint32_t length;
		err = recipe_next(&rr, &more, &r->chunks[i].id, &length);
		r->chunks[i].end = rr.offset;
	}
	return err;
}

int content_open(struct tx *tx, struct store *s, int64_t tenant_id, struct str recipe, int64_t size_bytes,
                 struct content_reader **out)
{
	size_t n;
	int64_t measured;
	*out = NULL;
	int err = recipe_measure(recipe, &n, &measured);
	if (err != E_OK || measured != size_bytes)
		return store_corrupt(s, 0, 0, "recipe");
	struct content_reader *r = calloc(1, sizeof *r);
	must(r != NULL);
	*r = (struct content_reader){.store = s, .tenant_id = tenant_id, .size_bytes = size_bytes, .n = n};
	r->chunks = calloc(n + 1, sizeof *r->chunks);
	must(r->chunks != NULL);
	err = fill_chunks(r, recipe);
	if (err == E_OK && n > 0)
		err = fill_window(tx, r, 0);
	if (err != E_OK) {
		content_close(r);
		return err;
	}
	*out = r;
	return E_OK;
}

void content_close(struct content_reader *r)
{
	if (!r)
		return;
	handle_give(r->store, r->pack);
	slab_give(r->store, r->slab);
	free(r->chunks);
	free(r);
}

struct window_job {
	struct content_reader *reader;
	size_t first;
};

static int window_op(struct tx *tx, void *arg)
{
	struct window_job *job = arg;
	return fill_window(tx, job->reader, job->first);
}

/* Where chunk i lies; checked against the recipe and our bounds. */
static int place_of(struct content_reader *r, size_t i, const struct chunk_place **out)
{
	if (i < r->window || i >= r->window + r->n_places) {
		struct window_job job = {r, i};
		int err = db_read(r->store->config.db, window_op, &job);
		if (err != E_OK)
			return err;
	}
	const struct chunk_place *p = &r->places[i - r->window];
	int64_t length = r->chunks[i].end - (i ? r->chunks[i - 1].end : 0);
	if (p->pack_id <= 0 || p->offset < 2 * PACK_HEADER_BYTES || p->raw_len != length ||
	    p->stored_len > CHUNK_MAX_BYTES || p->codec >= CODEC_COUNT ||
	    (p->codec == CODEC_RAW && p->stored_len != p->raw_len))
		return store_corrupt(r->store, p->pack_id, p->offset, "chunk has no valid place");
	*out = p;
	return E_OK;
}

/* The stored bytes, verified. E_NOT_FOUND: their pack is gone. */
static int read_stored(struct content_reader *r, const struct chunk_place *p, void *out)
{
	if (!r->pack || r->pack->pack_id != p->pack_id) {
		handle_give(r->store, r->pack);
		int err = handle_take(r->store, p->pack_id, &r->pack);
		if (err != E_OK)
			return err;
	}
	size_t got;
	int err = disk_pread(r->pack->file, out, p->stored_len, p->offset, &got);
	if (err != E_OK)
		return err;
	if (got < p->stored_len)
		return store_corrupt(r->store, p->pack_id, p->offset, "pack is cut off");
	if (xxh3_64(out, p->stored_len) != p->xxh)
		return store_corrupt(r->store, p->pack_id, p->offset, "checksum");
	return E_OK;
}

static int read_placed(struct content_reader *r, size_t i, void *out)
{
	const struct chunk_place *p = NULL;
	int err = place_of(r, i, &p);
	if (err != E_OK)
		return err;
	if (p->codec == CODEC_RAW)
		return read_stored(r, p, out);
	if (!r->slab)
		r->slab = slab_take(r->store);
	uint8_t *stored = r->slab + CHUNK_MAX_BYTES;
	err = read_stored(r, p, stored);
	if (err != E_OK)
		return err;
	struct codec_work *w = work_take(r->store);
	err = codec_decode(w, p->codec, str_n(stored, p->stored_len), out, p->raw_len);
	work_give(r->store, w);
	return err == E_OK ? E_OK : store_corrupt(r->store, p->pack_id, p->offset, "frame");
}

typedef int read_fn(struct content_reader *r, size_t i, void *out);

/* Its pack may have been rewritten since its place was looked up. Damage is noted, so that its bytes are taken when they come. */
static int read_somewhere(struct content_reader *r, size_t i, read_fn *fn, void *out)
{
	int err = fn(r, i, out);
	if (err == E_NOT_FOUND) {
		int64_t pack_id = r->places[i - r->window].pack_id;
		r->n_places = 0;
		err = fn(r, i, out);
		if (err == E_NOT_FOUND)
			err = store_corrupt(r->store, pack_id, 0, "pack is missing");
	}
	if (err == E_CORRUPT)
		damage_note(r->store, r->tenant_id, r->chunks[i].id);
	return err;
}

/* Chunk i, decoded, at out, which has room for all of it. */
static int read_chunk(struct content_reader *r, size_t i, void *out)
{
	return read_somewhere(r, i, read_placed, out);
}

/* Chunk i in the slab. */
static int decode_chunk(struct content_reader *r, size_t i)
{
	if (r->decoded == i + 1)
		return E_OK;
	if (!r->slab)
		r->slab = slab_take(r->store);
	r->decoded = 0;
	int err = read_chunk(r, i, r->slab);
	if (err == E_OK)
		r->decoded = i + 1;
	return err;
}

size_t content_chunks(const struct content_reader *r)
{
	return r->n;
}

uint32_t content_chunk_bytes(const struct content_reader *r, size_t i)
{
	return i < r->n ? (uint32_t)(r->chunks[i].end - (i ? r->chunks[i - 1].end : 0)) : 0;
}

int content_chunk(struct content_reader *r, size_t i, struct str *bytes)
{
	must(i < r->n);
	int err = decode_chunk(r, i);
	if (err != E_OK)
		return err;
	*bytes = str_n(r->slab, content_chunk_bytes(r, i));
	atomic_fetch_add(&r->store->bytes_out, (int64_t)bytes->n);
	return E_OK;
}

/* As it is stored, in the second half of the slab; out: its place. */
static int read_as_stored(struct content_reader *r, size_t i, void *out)
{
	const struct chunk_place **p = out;
	int err = place_of(r, i, p);
	return err != E_OK ? err : read_stored(r, *p, r->slab + CHUNK_MAX_BYTES);
}

int content_chunk_stored(struct content_reader *r, size_t i, bool *zstd, struct str *stored)
{
	const struct chunk_place *p = NULL;
	must(i < r->n);
	if (!r->slab)
		r->slab = slab_take(r->store);
	int err = read_somewhere(r, i, read_as_stored, &p);
	if (err != E_OK)
		return err;
	*zstd = p->codec == CODEC_ZSTD;
	*stored = str_n(r->slab + CHUNK_MAX_BYTES, p->stored_len);
	atomic_fetch_add(&r->store->bytes_out, (int64_t)stored->n);
	return E_OK;
}

/* The chunk that holds the byte at offset < size_bytes. */
static size_t chunk_at(const struct content_reader *r, int64_t offset)
{
	for (size_t i = r->at; i < r->n && i < r->at + 2; i++)
		if (offset < r->chunks[i].end && (i == 0 || offset >= r->chunks[i - 1].end))
			return i;
	size_t low = 0, high = r->n - 1;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (offset < r->chunks[middle].end)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

size_t content_fit(const struct content_reader *r, int64_t offset, size_t n)
{
	if (offset < 0 || offset >= r->size_bytes || (int64_t)n >= r->size_bytes - offset)
		return n;
	size_t last = chunk_at(r, offset + (int64_t)n);
	int64_t fits = (last ? r->chunks[last - 1].end : 0) - offset;
	return fits > 0 ? (size_t)fits : n;
}

int content_read(struct content_reader *r, int64_t offset, void *out, size_t n, size_t *got)
{
	*got = 0;
	if (offset < 0)
		return E_RANGE;
	size_t done = 0;
	while (done < n && offset < r->size_bytes) {
		size_t i = r->at = chunk_at(r, offset);
		int64_t start = i ? r->chunks[i - 1].end : 0;
		size_t length = (size_t)(r->chunks[i].end - start), skip = (size_t)(offset - start);
		size_t k = length - skip < n - done ? length - skip : n - done;
		int err;
		if (k == length && r->decoded != i + 1) {
			err = read_chunk(r, i, (char *)out + done);
		} else {
			err = decode_chunk(r, i);
			if (err == E_OK)
				memcpy((char *)out + done, r->slab + skip, k);
		}
		if (err != E_OK)
			return err;
		done += k;
		offset += (int64_t)k;
	}
	atomic_fetch_add(&r->store->bytes_out, (int64_t)done);
	*got = done;
	return E_OK;
}

/* A batch of them with their hashes. */
static int tell_batch(struct tx *tx, struct store *s, int64_t tenant_id, struct recipe_chunk *chunks, size_t n,
                      recipe_fn *fn, void *arg)
{
	int64_t ids[INDEX_BATCH];
	struct sha256 hashes[INDEX_BATCH];
	if (n == 0)
		return E_OK;
	for (size_t i = 0; i < n; i++)
		ids[i] = chunks[i].id;
	int err = index_hashes(tx, tenant_id, ids, n, hashes);
	if (err != E_OK)
		return err == E_CORRUPT ? store_corrupt(s, 0, 0, "chunk of a recipe is missing") : err;
	for (size_t i = 0; err == E_OK && i < n; i++) {
		chunks[i].hash = &hashes[i];
		err = fn(arg, &chunks[i]);
	}
	return err;
}

int recipe_each(struct tx *tx, struct store *s, int64_t tenant_id, struct str recipe, size_t from, size_t n, recipe_fn *fn,
                void *arg)
{
	struct recipe_reader r;
	struct recipe_chunk batch[INDEX_BATCH];
	size_t held = 0;
	bool more = true;
	int err = recipe_open(&r, recipe);
	if (err != E_OK)
		return store_corrupt(s, 0, 0, "recipe");
	for (size_t i = 0; i < from || i - from < n; i++) {
		struct recipe_chunk c = {.i = i, .offset = r.offset};
		err = recipe_next(&r, &more, &c.id, &c.length);
		if (err != E_OK)
			return store_corrupt(s, 0, 0, "recipe");
		if (!more)
			break;
		if (i < from)
			continue;
		batch[held++] = c;
		if (held < INDEX_BATCH)
			continue;
		err = tell_batch(tx, s, tenant_id, batch, held, fn, arg);
		if (err != E_OK)
			return err;
		held = 0;
	}
	return tell_batch(tx, s, tenant_id, batch, held, fn, arg);
}
