#include "chunks/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/must.h"
#include "chunks/codec.h"
#include "chunks/pack.h"

enum { WALK_ROWS = 1024 };

/* What the index says of a pack, and what was met in it. */
struct pack_count {
	int64_t rows, bytes; /* of the index */
	int64_t whole;       /* rows met in the pack and found whole */
	bool missing;
	bool counted;        /* there is a row of packs */
};

struct store_check {
	struct store_check_config config;
	struct store_check_totals totals;
	struct map packs; /* pack id -> struct pack_count */
	struct map hurt;  /* chunk id -> what is wrong, a literal */
	struct codec_work *work;
	int64_t bytes_all;
	/* of the pack at hand */
	struct pack_count *count;
	int64_t pack_id;
	struct disk_file *file;
	struct {
		struct pack_entry e;
		const char *wrong; /* found in its bytes */
	} batch[INDEX_BATCH];
	size_t n_batch;
	uint8_t raw[CHUNK_MAX_BYTES];
};

static void tell(struct store_check *c, const char *code, int64_t pack_id, int64_t chunk_id, int64_t offset,
                 const char *sentence)
{
	c->config.fault(c->config.arg, &(struct store_fault){code, pack_id, chunk_id, offset, sentence});
}

static void hurt(struct store_check *c, int64_t chunk_id, const char *wrong)
{
	map_put(&c->hurt, (uint64_t)chunk_id, (void *)(uintptr_t)wrong);
}

const char *store_check_chunk(const struct store_check *c, const struct index_row *row)
{
	const struct pack_count *p = map_get(&c->packs, (uint64_t)row->chunk.place.pack_id);
	if (row->chunk.id == 0)
		return "is not in the index";
	if (p && p->missing)
		return "lies in a pack that is missing";
	return map_get(&c->hurt, (uint64_t)row->chunk.id);
}

static struct pack_count *count_of(struct store_check *c, int64_t pack_id)
{
	struct pack_count *p = map_get(&c->packs, (uint64_t)pack_id);
	if (!p) {
		p = calloc(1, sizeof *p);
		must(p != NULL);
		map_put(&c->packs, (uint64_t)pack_id, p);
	}
	return p;
}

/* ---- the index ---- */

struct walk {
	int64_t pack_id, after;
	struct index_row rows[WALK_ROWS];
	struct index_pack packs[WALK_ROWS];
	size_t n;
};

static int walk_op(struct tx *tx, void *arg)
{
	struct walk *w = arg;
	return index_walk(tx, w->after, w->rows, WALK_ROWS, &w->n);
}

static int walk_pack_op(struct tx *tx, void *arg)
{
	struct walk *w = arg;
	return index_walk_pack(tx, w->pack_id, w->after, w->rows, WALK_ROWS, &w->n);
}

static int walk_packs_op(struct tx *tx, void *arg)
{
	struct walk *w = arg;
	return index_walk_packs(tx, w->after, w->packs, WALK_ROWS, &w->n);
}

static bool place_possible(const struct chunk_place *p)
{
	return p->pack_id > 0 && p->offset >= 2 * PACK_HEADER_BYTES && p->raw_len <= CHUNK_MAX_BYTES &&
	       p->stored_len <= CHUNK_MAX_BYTES && p->codec < CODEC_COUNT &&
	       (p->codec != CODEC_RAW || p->stored_len == p->raw_len);
}

static int count_rows(struct store_check *c, struct walk *w)
{
	int err;
	w->after = 0;
	do {
		err = db_read(c->config.db, walk_op, w);
		for (size_t i = 0; err == E_OK && i < w->n; i++) {
			const struct chunk_row *row = &w->rows[i].chunk;
			w->after = row->id;
			c->totals.chunks++;
			if (!place_possible(&row->place)) {
				hurt(c, row->id, "has no possible place in the index");
				tell(c, "INDEX_ROW_INVALID", row->place.pack_id, row->id, row->place.offset,
				     "a row of the chunk index has impossible values");
				continue;
			}
			struct pack_count *p = count_of(c, row->place.pack_id);
			p->rows++;
			p->bytes += row->place.stored_len;
		}
		c->config.progress(c->config.arg, "chunks in the index", c->totals.chunks, -1);
	} while (err == E_OK && w->n == WALK_ROWS);
	return err;
}

/* The index's own count of a pack's bytes, which a collector goes by. */
static int compare_counts(struct store_check *c, struct walk *w)
{
	int err;
	char sentence[160];
	uint64_t key;
	void *value;
	w->after = 0;
	do {
		err = db_read(c->config.db, walk_packs_op, w);
		for (size_t i = 0; err == E_OK && i < w->n; i++) {
			struct pack_count *p = map_get(&c->packs, (uint64_t)w->packs[i].id);
			w->after = w->packs[i].id;
			if (p)
				p->counted = true;
			if (w->packs[i].stored_bytes == (p ? p->bytes : 0))
				continue;
			snprintf(sentence, sizeof sentence, "the index counts %lld bytes in it, but its chunks have %lld",
			         (long long)w->packs[i].stored_bytes, (long long)(p ? p->bytes : 0));
			tell(c, "PACK_COUNT", w->packs[i].id, 0, 0, sentence);
		}
	} while (err == E_OK && w->n == WALK_ROWS);
	for (size_t i = 0; err == E_OK && map_next(&c->packs, &i, &key, &value);)
		if (!((struct pack_count *)value)->counted)
			tell(c, "PACK_COUNT", (int64_t)key, 0, 0, "the index does not count it");
	return err;
}

/* ---- one pack ---- */

/* What is wrong with stored bytes whose XXH3 is right. */
static const char *content_fault(struct store_check *c, const struct sha256 *want, const struct chunk_place *p,
                                 const char *stored)
{
	const void *raw = stored;
	if (p->codec != CODEC_RAW) {
		if (codec_decode(c->work, p->codec, str_n(stored, p->stored_len), c->raw, p->raw_len) != E_OK)
			return "cannot be decoded";
		raw = c->raw;
	}
	struct sha256 is = sha256_of(raw, p->raw_len);
	return sha256_eq(&is, want) ? NULL : "does not have the SHA-256 it is named by";
}

static const char damaged[] = "is damaged: its bytes are not those that were written";

static bool agree(const struct pack_entry *e, const struct chunk_row *row)
{
	return e->xxh == row->place.xxh && e->raw_len == row->place.raw_len && e->stored_len == row->place.stored_len &&
	       e->codec == row->place.codec && sha256_eq(&e->hash, &row->hash);
}

/* Compares what was read with the index. */
static int settle_batch(struct store_check *c)
{
	int64_t ids[INDEX_BATCH];
	struct index_row rows[INDEX_BATCH];
	for (size_t i = 0; i < c->n_batch; i++)
		ids[i] = c->batch[i].e.chunk_id;
	int err = index_rows(c->config.db, ids, c->n_batch, rows);
	for (size_t i = 0; err == E_OK && i < c->n_batch; i++) {
		const struct pack_entry *e = &c->batch[i].e;
		const struct chunk_row *row = &rows[i].chunk;
		const char *wrong = c->batch[i].wrong;
		if (row->id == 0 || row->place.pack_id != c->pack_id || row->place.offset != e->offset) {
			c->totals.garbage_chunks++;
			c->totals.garbage_bytes += e->stored_len;
		} else if (wrong || !agree(e, row)) {
			const char *what = wrong ? wrong : "is described otherwise in the index than in its pack";
			hurt(c, row->id, what);
			tell(c, wrong ? "CHUNK_DAMAGED" : "CHUNK_DIFFERS", c->pack_id, row->id, e->offset, what);
		} else {
			c->count->whole++;
		}
	}
	c->n_batch = 0;
	return err;
}

static int on_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	struct store_check *c = arg;
	struct chunk_place p = {.stored_len = e->stored_len, .raw_len = e->raw_len, .codec = e->codec};
	c->batch[c->n_batch].e = *e;
	c->batch[c->n_batch].wrong = !intact ? damaged : stored ? content_fault(c, &e->hash, &p, stored) : NULL;
	c->config.progress(c->config.arg, "bytes of packs", c->totals.bytes + e->offset, c->bytes_all);
	return ++c->n_batch == INDEX_BATCH ? settle_batch(c) : E_OK;
}

/* Bytes that a scan of their pack did not meet, by what is said of them. */
static const char *bytes_fault(struct store_check *c, const struct chunk_place *p, char *stored)
{
	int64_t size = 0;
	size_t got = 0;
	if (disk_size(c->file, &size) != E_OK || size - p->offset < p->stored_len)
		return "lies behind the end of its pack";
	if (c->config.depth == CHECK_QUICK)
		return NULL;
	if (disk_pread(c->file, stored, p->stored_len, p->offset, &got) != E_OK || got != p->stored_len)
		return "cannot be read from the disk";
	return xxh3_64(stored, got) != p->xxh ? damaged : NULL;
}

static const char *row_fault(struct store_check *c, const struct chunk_row *row, char *stored)
{
	const char *wrong = bytes_fault(c, &row->place, stored);
	return wrong || c->config.depth == CHECK_QUICK ? wrong : content_fault(c, &row->hash, &row->place, stored);
}

const char *store_check_bytes(struct store_check *c, const struct chunk_place *place)
{
	char name[PACK_NAME_MAX];
	pack_name(name, place->pack_id);
	must(place->stored_len <= CHUNK_MAX_BYTES);
	if (!c->config.disk || disk_open(c->config.disk, name, DISK_READ, &c->file) != E_OK)
		return "lies in a pack that is missing";
	const char *wrong = bytes_fault(c, place, (char *)c->raw);
	disk_close(c->file);
	c->file = NULL;
	return wrong;
}

/* The scan did not meet all chunks of the pack: its tables are damaged, or the rows are wrong. */
static int check_rows(struct store_check *c)
{
	struct walk *w = malloc(sizeof *w);
	char *stored = malloc(CHUNK_MAX_BYTES);
	must(w != NULL && stored != NULL);
	int err;
	w->pack_id = c->pack_id;
	w->after = 0;
	do {
		err = db_read(c->config.db, walk_pack_op, w);
		for (size_t i = 0; err == E_OK && i < w->n; i++) {
			const struct chunk_row *row = &w->rows[i].chunk;
			w->after = row->id;
			if (map_get(&c->hurt, (uint64_t)row->id))
				continue;
			const char *wrong = row_fault(c, row, stored);
			if (!wrong)
				continue;
			hurt(c, row->id, wrong);
			tell(c, "CHUNK_DAMAGED", c->pack_id, row->id, row->place.offset, wrong);
		}
	} while (err == E_OK && w->n == WALK_ROWS);
	free(stored);
	free(w);
	return err;
}

static int check_open_pack(struct store_check *c)
{
	struct pack_info info;
	size_t hurt_before = c->hurt.count;
	int err = pack_scan(c->file, c->config.depth != CHECK_QUICK, on_entry, c, &info);
	int settled = settle_batch(c);
	if (err == E_OK)
		err = settled;
	if (err == E_CORRUPT || (err == E_OK && (info.pack_id != c->pack_id)))
		tell(c, "PACK_HEAD_DAMAGED", c->pack_id, 0, 0, "its head is damaged; its chunks are checked one by one");
	else if (err == E_IO)
		tell(c, "PACK_UNREADABLE", c->pack_id, 0, info.valid_bytes, "it cannot be read from the disk to its end");
	else if (err != E_OK)
		return err;
	c->totals.bytes += info.file_bytes;
	if (c->count->whole + (int64_t)(c->hurt.count - hurt_before) >= c->count->rows)
		return E_OK;
	if (err == E_OK)
		tell(c, "PACK_TABLE_DAMAGED", c->pack_id, 0, info.valid_bytes,
		     "it does not describe all chunks that the index has in it; they are checked one by one");
	return check_rows(c);
}

static int check_pack(struct store_check *c, int64_t pack_id)
{
	char name[PACK_NAME_MAX];
	pack_name(name, pack_id);
	c->pack_id = pack_id;
	c->count = map_get(&c->packs, (uint64_t)pack_id);
	int err = disk_open(c->config.disk, name, DISK_READ, &c->file);
	if (err != E_OK)
		return err == E_NOT_FOUND ? E_OK : err; /* told with those that are missing */
	if (c->count) {
		err = check_open_pack(c);
		c->totals.packs++;
	} else {
		int64_t size = 0;
		(void)disk_size(c->file, &size);
		c->totals.garbage_packs++;
		c->totals.garbage_pack_bytes += size;
		c->totals.bytes += size;
		c->config.garbage(c->config.arg, pack_id, size);
	}
	disk_close(c->file);
	c->file = NULL;
	return err;
}

/* ---- all packs ---- */

static int by_id(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

static void measure(struct store_check *c, const struct buf *ids)
{
	for (size_t i = 0; i < ids->n; i += sizeof(int64_t)) {
		int64_t id, size;
		char name[PACK_NAME_MAX];
		struct disk_file *f;
		memcpy(&id, ids->p + i, sizeof id);
		pack_name(name, id);
		if (disk_open(c->config.disk, name, DISK_READ, &f) != E_OK)
			continue;
		if (disk_size(f, &size) == E_OK)
			c->bytes_all += size;
		disk_close(f);
	}
}

static void tell_missing(struct store_check *c, const struct buf *ids)
{
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&c->packs, &i, &key, &value);) {
		struct pack_count *p = value;
		int64_t id = (int64_t)key;
		char sentence[96];
		if (ids->n && bsearch(&id, ids->p, ids->n / sizeof id, sizeof id, by_id))
			continue;
		p->missing = true;
		snprintf(sentence, sizeof sentence, "it is missing, with the %lld chunks that the index has in it",
		         (long long)p->rows);
		tell(c, "PACK_MISSING", id, 0, 0, sentence);
	}
}

int store_check_run(const struct store_check_config *config, struct store_check **out)
{
	struct store_check *c = calloc(1, sizeof *c);
	struct walk *w = malloc(sizeof *w);
	struct buf ids = {0};
	must(c != NULL && w != NULL);
	c->config = *config;
	c->work = codec_work_new();
	int err = count_rows(c, w);
	if (err == E_OK)
		err = compare_counts(c, w);
	free(w);
	if (err == E_OK)
		err = config->disk ? pack_list(config->disk, &ids) : E_OK;
	if (err == E_OK) {
		measure(c, &ids);
		tell_missing(c, &ids);
	}
	for (size_t i = 0; err == E_OK && i < ids.n; i += sizeof(int64_t)) {
		int64_t id;
		memcpy(&id, ids.p + i, sizeof id);
		err = check_pack(c, id);
	}
	buf_fini(&ids);
	*out = c;
	return err;
}

void store_check_free(struct store_check *c)
{
	uint64_t key;
	void *value;
	if (!c)
		return;
	for (size_t i = 0; map_next(&c->packs, &i, &key, &value);)
		free(value);
	map_fini(&c->packs);
	map_fini(&c->hurt);
	codec_work_free(c->work);
	free(c);
}

void store_check_totals(const struct store_check *c, struct store_check_totals *out)
{
	*out = c->totals;
}
