#include "chunks/parts.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/must.h"
#include "chunks/ingest_priv.h"
#include "chunks/recipe.h"

/* pack id 8, offset 8, xxh 8, length 4, 12 zero bytes; little-endian. The tail is stored as it is. */
static void tail_write(const struct chunk_place *place, struct ingest_tail *out)
{
	memset(out->b, 0, sizeof out->b);
	put_le(out->b, (uint64_t)place->pack_id, 8);
	put_le(out->b + 8, (uint64_t)place->offset, 8);
	put_le(out->b + 16, place->xxh, 8);
	put_le(out->b + 24, place->raw_len, 4);
	out->n = INGEST_TAIL_BYTES;
}

/* The tail goes into the pack like a chunk that nothing refers to. */
static int store_tail(struct ingest *in, struct ingest_tail *tail)
{
	struct chunk_place place = {.raw_len = (uint32_t)in->fill, .stored_len = (uint32_t)in->fill};
	must(in->fill <= CHUNK_MAX_BYTES);
	place.xxh = xxh3_64(in->slab, in->fill);
	struct pack_entry e = {
	    .hash = sha256_of(in->slab, in->fill),
	    .chunk_id = idgen_next(in->store->config.ids),
	    .xxh = place.xxh,
	    .raw_len = place.raw_len,
	    .stored_len = place.stored_len,
	    .codec = CODEC_RAW,
	};
	int err;
	if (ingest_wants_own(in)) {
		err = ingest_append_own(in, &e, in->slab, false);
		place.pack_id = in->own.id;
	} else {
		err = shared_append(in->store, in->tenant_id, &in->held, &e, in->slab, &place.pack_id, &in->ticket);
	}
	place.offset = e.offset;
	if (err == E_OK)
		tail_write(&place, tail);
	return err;
}

/* What the caller has to sync is told by the part; the shared pack, for small files alone, is flushed here. */
static int seal(struct ingest *in, struct content *part)
{
	int err = E_OK;
	if (in->held)
		err = shared_flush(in->store, in->held, in->ticket);
	if (err == E_OK && in->has_own) {
		err = pack_seal(&in->own);
		part->unsynced = in->own.file;
		part->pack_end = in->own.segment;
		part->unwritten = in->own.runs;
		in->own.runs = (struct pack_runs){.started = in->own.segment};
	}
	return err;
}

int ingest_lend(struct ingest *in, const void *p, size_t n)
{
	in->lent = true;
	return ingest_feed(in, p, n);
}

int ingest_cut(struct ingest *in, bool last, struct content **part, struct ingest_tail *tail)
{
	*part = NULL;
	*tail = (struct ingest_tail){0};
	if (in->err == E_OK && last && in->fill > (in->n_ends ? in->ends[in->n_ends - 1] : 0))
		in->ends[in->n_ends++] = in->fill;
	if (in->err == E_OK)
		in->err = ingest_drain(in);
	if (in->err == E_OK && in->fill > 0)
		in->err = store_tail(in, tail);
	if (in->err == E_OK)
		in->err = seal(in, in->content);
	if (in->err != E_OK)
		return in->err;
	if (last)
		in->content->sha256 = sha256_final(in->whole);
	*part = in->content;
	in->content = ingest_content(in->store);
	in->cap_chunks = 0;
	map_fini(&in->by_hash);
	in->by_hash = (struct map){0};
	in->lent = false;
	return E_OK;
}

int content_write(struct content *part)
{
	return part->unsynced ? pack_runs_write(&part->unwritten, part->unsynced) : E_OK;
}

int content_sync(struct store *s, struct content *part)
{
	int err = content_write(part);
	if (err == E_OK && part->unsynced)
		err = pack_sync(part->unsynced, part->pack_end);
	return err != E_OK ? err : store_health(s);
}

void ingest_keep(struct ingest *in, const struct content *part)
{
	if (part->pack_end > in->kept)
		in->kept = part->pack_end;
}

void ingest_resume(struct ingest *in, const void *p, size_t n)
{
	must(in->fill == 0 && in->content->n_chunks == 0);
	sha256_update(in->whole, p, n);
}

int ingest_tail_place(const struct ingest_tail *tail, struct chunk_place *place)
{
	uint32_t length = (uint32_t)get_le(tail->b + 24, 4);
	*place = (struct chunk_place){
	    .pack_id = (int64_t)get_le(tail->b, 8),
	    .offset = (int64_t)get_le(tail->b + 8, 8),
	    .xxh = get_le(tail->b + 16, 8),
	    .raw_len = length,
	    .stored_len = length,
	};
	bool good = tail->n == INGEST_TAIL_BYTES && place->pack_id > 0 && place->offset >= 2 * PACK_HEADER_BYTES &&
	            length > 0 && length <= CHUNK_MAX_BYTES;
	return good ? E_OK : E_CORRUPT;
}

int ingest_resume_tail(struct ingest *in, const struct ingest_tail *tail)
{
	struct store *s = in->store;
	if (tail->n == 0)
		return E_OK;
	struct chunk_place place;
	size_t got = 0;
	if (ingest_tail_place(tail, &place) != E_OK)
		return store_corrupt(s, place.pack_id, place.offset, "tail of an upload");
	size_t length = place.raw_len;
	struct pack_handle *h;
	int err = handle_take(s, place.pack_id, &h);
	if (err == E_NOT_FOUND)
		return store_corrupt(s, place.pack_id, place.offset, "pack of an upload's tail is missing");
	if (err != E_OK)
		return err;
	void *slab = slab_take(s);
	err = disk_pread(h->file, slab, length, place.offset, &got);
	handle_give(s, h);
	if (err == E_OK && (got < length || xxh3_64(slab, length) != place.xxh))
		err = store_corrupt(s, place.pack_id, place.offset, "tail of an upload");
	if (err == E_OK)
		err = ingest_feed(in, slab, length);
	slab_give(s, slab);
	return err;
}

void recipe_join_begin(struct recipe_join *j, struct buf *recipe)
{
	struct recipe_writer w;
	*j = (struct recipe_join){.recipe = recipe};
	recipe_begin(&w, recipe);
}

int recipe_join_add(struct recipe_join *j, struct str part)
{
	struct recipe_reader r;
	struct recipe_writer w = {.out = j->recipe, .previous = j->previous};
	bool more = true;
	int err = recipe_open(&r, part);
	while (err == E_OK && more) {
		int64_t id;
		uint32_t length;
		err = recipe_next(&r, &more, &id, &length);
		if (err == E_OK && more)
			recipe_add(&w, id, length);
	}
	j->previous = w.previous;
	j->size_bytes += r.offset;
	return err;
}
