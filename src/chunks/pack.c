#include "chunks/pack.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/log.h"
#include "chunks/chunker.h"
#include "chunks/codec.h"

static const char file_magic[8] = "SDPACK1\n";
static const char segment_magic[8] = "SDSEGM1\n";
enum { VERSION = 1 };

unsigned pack_folder(int64_t pack_id)
{
	return (unsigned)(pack_id >> 22) % PACK_FOLDERS;
}

void pack_folder_name(char out[2], unsigned folder)
{
	out[0] = "0123456789abcdef"[folder % PACK_FOLDERS];
	out[1] = 0;
}

void pack_name(char out[PACK_NAME_MAX], int64_t pack_id)
{
	snprintf(out, PACK_NAME_MAX, "%x/%016llx.pack", pack_folder(pack_id), (unsigned long long)pack_id);
}

static void file_header(uint8_t h[PACK_HEADER_BYTES], int64_t pack_id, int64_t tenant_id)
{
	memset(h, 0, PACK_HEADER_BYTES);
	memcpy(h, file_magic, 8);
	put_le(h + 8, VERSION, 4);
	put_le(h + 12, PACK_HEADER_BYTES, 4);
	put_le(h + 16, (uint64_t)pack_id, 8);
	put_le(h + 24, (uint64_t)tenant_id, 8);
	put_le(h + 56, xxh3_64(h, 56), 8);
}

int pack_create(struct disk *d, int64_t pack_id, int64_t tenant_id, struct pack_writer *w)
{
	char name[PACK_NAME_MAX], folder[2];
	uint8_t header[PACK_HEADER_BYTES];
	*w = (struct pack_writer){.id = pack_id, .segment = PACK_HEADER_BYTES, .tail = 2 * PACK_HEADER_BYTES};
	pack_name(name, pack_id);
	pack_folder_name(folder, pack_folder(pack_id));
	int err = disk_mkdir(d, folder);
	if (err != E_OK)
		return err;
	err = disk_open(d, name, DISK_WRITE | DISK_CREATE, &w->file);
	if (err != E_OK)
		return err;
	file_header(header, pack_id, tenant_id);
	err = disk_pwrite(w->file, header, sizeof header, 0);
	if (err != E_OK) {
		pack_close(w);
		(void)disk_unlink(d, name);
	}
	return err;
}

static void table_add(struct buf *table, const struct pack_entry *e)
{
	uint8_t row[PACK_ENTRY_BYTES] = {0};
	memcpy(row, e->hash.b, 32);
	put_le(row + 32, (uint64_t)e->chunk_id, 8);
	put_le(row + 40, e->xxh, 8);
	put_le(row + 48, e->raw_len, 4);
	put_le(row + 52, e->stored_len, 4);
	row[56] = e->codec;
	buf_put(table, row, sizeof row);
}

/* ---- runs ---- */

static void run_add(struct pack_runs *r, const void *p, size_t n, int64_t offset, void *owned)
{
	struct pack_run *last = r->n ? &r->run[r->n - 1] : NULL;
	if (last && !owned && !last->owned && last->p + last->n == (const uint8_t *)p &&
	    last->offset + (int64_t)last->n == offset) {
		last->n += n;
		return;
	}
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 8;
		r->run = realloc(r->run, r->cap * sizeof *r->run);
		must(r->run != NULL);
	}
	r->run[r->n++] = (struct pack_run){p, n, offset, owned};
	r->owned_bytes += owned ? n : 0;
}

static int run_write(struct pack_runs *r, const struct pack_run *run, struct disk_file *f)
{
	int err = E_OK;
	for (size_t at = 0; err == E_OK && at < run->n; at += PACK_WRITE_BYTES) {
		size_t n = run->n - at < PACK_WRITE_BYTES ? run->n - at : PACK_WRITE_BYTES;
		int64_t offset = run->offset + (int64_t)at, end = offset + (int64_t)n;
		err = disk_pwrite(f, run->p + at, n, offset);
		if (err == E_OK && end - r->started >= PACK_WRITE_BYTES) {
			disk_start_write(f, r->started, end - r->started);
			r->started = end;
		}
	}
	return err;
}

static void runs_clear(struct pack_runs *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->run[i].owned);
	r->n = r->owned_bytes = 0;
}

int pack_runs_write(struct pack_runs *r, struct disk_file *f)
{
	int err = E_OK;
	for (size_t i = 0; err == E_OK && i < r->n; i++)
		err = run_write(r, &r->run[i], f);
	if (err == E_OK)
		runs_clear(r);
	return err;
}

void pack_runs_fini(struct pack_runs *r)
{
	runs_clear(r);
	free(r->run);
	*r = (struct pack_runs){.started = r->started};
}

/* ---- append ---- */

static int write_at(struct pack_writer *w, const void *p, size_t n, int64_t offset)
{
	if (!w->deferred)
		return disk_pwrite(w->file, p, n, offset);
	void *copy = malloc(n);
	must(copy != NULL);
	run_add(&w->runs, memcpy(copy, p, n), n, offset, copy);
	return E_OK;
}

/* After a failure what is joined is there still. */
static int write_joined(struct pack_writer *w)
{
	int err = w->n_joined ? write_at(w, w->joined, w->n_joined, w->tail - (int64_t)w->n_joined) : E_OK;
	if (err == E_OK)
		w->n_joined = 0;
	return err;
}

/* A payload at the tail, or into what will be written there. A large one is not worth a copy. */
static int write_payload(struct pack_writer *w, const void *p, size_t n)
{
	int err = E_OK;
	if (n > PACK_JOIN_BYTES / 4 || w->n_joined + n > PACK_JOIN_BYTES)
		err = write_joined(w);
	if (err != E_OK)
		return err;
	if (n > PACK_JOIN_BYTES / 4)
		return write_at(w, p, n, w->tail);
	if (!w->joined)
		w->joined = malloc(PACK_JOIN_BYTES);
	must(w->joined != NULL);
	memcpy(w->joined + w->n_joined, p, n);
	w->n_joined += n;
	return E_OK;
}

/* Its payload is at the tail. */
static int appended(struct pack_writer *w, struct pack_entry *e)
{
	e->offset = w->tail;
	table_add(&w->table, e);
	w->tail += e->stored_len;
	w->n_entries++;
	bool full = w->tail - w->segment - PACK_HEADER_BYTES >= PACK_SEGMENT_BYTES || w->n_entries >= PACK_SEGMENT_ENTRIES;
	return full ? pack_seal(w) : E_OK;
}

int pack_append(struct pack_writer *w, struct pack_entry *e, const void *stored, bool *broken)
{
	*broken = false;
	must(e->stored_len > 0 && e->stored_len <= CHUNK_MAX_BYTES);
	int err = write_payload(w, stored, e->stored_len);
	if (err != E_OK)
		return err;
	err = appended(w, e);
	*broken = err != E_OK;
	return err;
}

void pack_append_kept(struct pack_writer *w, struct pack_entry *e, const void *stored)
{
	must(w->deferred && e->stored_len > 0 && e->stored_len <= CHUNK_MAX_BYTES);
	int err = write_joined(w);
	run_add(&w->runs, stored, e->stored_len, w->tail, NULL);
	must(err == E_OK && appended(w, e) == E_OK);
}

int pack_seal(struct pack_writer *w)
{
	if (w->n_entries == 0)
		return E_OK;
	uint8_t h[PACK_HEADER_BYTES] = {0};
	memcpy(h, segment_magic, 8);
	put_le(h + 8, (uint64_t)w->id, 8);
	put_le(h + 16, (uint64_t)w->segment, 8);
	put_le(h + 24, (uint64_t)(w->tail - w->segment - PACK_HEADER_BYTES), 8);
	put_le(h + 32, w->n_entries, 4);
	put_le(h + 48, xxh3_64(w->table.p, w->table.n), 8);
	put_le(h + 56, xxh3_64(h, 56), 8);
	int err = write_joined(w);
	if (err == E_OK)
		err = write_at(w, w->table.p, w->table.n, w->tail);
	if (err == E_OK)
		err = write_at(w, h, sizeof h, w->segment);
	if (err != E_OK)
		return err;
	w->segment = w->tail + (int64_t)w->table.n;
	w->tail = w->segment + PACK_HEADER_BYTES;
	w->n_entries = 0;
	buf_clear(&w->table);
	return E_OK;
}

int pack_sync(struct disk_file *file, int64_t end)
{
	int64_t there = 0;
	int err = disk_sync(file);
	if (err == E_OK)
		err = disk_there(file, &there);
	if (err != E_OK || there >= end)
		return err;
	log_error("a pack was deleted while it was written to", LOG_I("written_bytes", end));
	return E_BUSY;
}

void pack_close(struct pack_writer *w)
{
	disk_close(w->file);
	w->file = NULL;
	free(w->joined);
	w->joined = NULL;
	pack_runs_fini(&w->runs);
	buf_fini(&w->table);
}

/* ---- scan ---- */

struct scan {
	struct disk_file *f;
	bool verify;
	pack_entry_fn *fn;
	void *arg;
	struct pack_info *info;
	struct buf table, payload; /* of a segment */
};

struct segment {
	int64_t at;      /* offset of its header */
	int64_t payload; /* offset of the first stored byte */
	int64_t payload_len;
	uint32_t n_entries;
	uint64_t table_xxh;
};

/* Reads exactly n bytes at offset; false also at the end of the file. */
static int read_all(struct disk_file *f, void *p, size_t n, int64_t offset, bool *all)
{
	size_t got;
	int err = disk_pread(f, p, n, offset, &got);
	*all = err == E_OK && got == n;
	return err;
}

static int read_into(struct scan *scan, struct buf *b, size_t n, int64_t offset, bool *all)
{
	buf_clear(b);
	buf_reserve(b, n);
	int err = read_all(scan->f, b->p, n, offset, all);
	b->n = *all ? n : 0;
	return err;
}

static bool segment_parse(const uint8_t h[PACK_HEADER_BYTES], const struct pack_info *info, int64_t at, struct segment *s)
{
	if (memcmp(h, segment_magic, 8) != 0 || get_le(h + 56, 8) != xxh3_64(h, 56))
		return false;
	uint64_t len = get_le(h + 24, 8);
	s->n_entries = (uint32_t)get_le(h + 32, 4);
	s->table_xxh = get_le(h + 48, 8);
	if (get_le(h + 8, 8) != (uint64_t)info->pack_id || get_le(h + 16, 8) != (uint64_t)at)
		return false;
	if (len == 0 || len > PACK_SEGMENT_MAX_BYTES || s->n_entries == 0 || s->n_entries > PACK_SEGMENT_ENTRIES)
		return false;
	s->at = at;
	s->payload = at + PACK_HEADER_BYTES;
	s->payload_len = (int64_t)len;
	return s->payload + s->payload_len + (int64_t)s->n_entries * PACK_ENTRY_BYTES <= info->file_bytes;
}

static bool entry_parse(const uint8_t *row, struct pack_entry *e)
{
	memcpy(e->hash.b, row, 32);
	e->chunk_id = (int64_t)get_le(row + 32, 8);
	e->xxh = get_le(row + 40, 8);
	e->raw_len = (uint32_t)get_le(row + 48, 4);
	e->stored_len = (uint32_t)get_le(row + 52, 4);
	e->codec = row[56];
	return e->chunk_id > 0 && e->raw_len > 0 && e->raw_len <= CHUNK_MAX_BYTES && e->stored_len > 0 &&
	       e->stored_len <= CHUNK_MAX_BYTES && e->codec < CODEC_COUNT;
}

/* The lengths must add up to the payloads before any entry is believed. */
static bool table_fits(const uint8_t *table, const struct segment *s)
{
	int64_t sum = 0;
	struct pack_entry e;
	for (uint32_t i = 0; i < s->n_entries; i++) {
		if (!entry_parse(table + (size_t)i * PACK_ENTRY_BYTES, &e))
			return false;
		sum += e.stored_len;
	}
	return sum == s->payload_len;
}

static int segment_entries(struct scan *scan, const struct segment *s)
{
	if (scan->verify) {
		bool all;
		int err = read_into(scan, &scan->payload, (size_t)s->payload_len, s->payload, &all);
		if (err != E_OK || !all)
			return err != E_OK ? err : E_IO;
	}
	int64_t at = 0;
	for (uint32_t i = 0; i < s->n_entries; i++) {
		struct pack_entry e;
		must(entry_parse((const uint8_t *)scan->table.p + (size_t)i * PACK_ENTRY_BYTES, &e));
		e.offset = s->payload + at;
		const char *stored = scan->verify ? scan->payload.p + at : NULL;
		bool intact = !stored || xxh3_64(stored, e.stored_len) == e.xxh;
		at += e.stored_len;
		scan->info->n_entries++;
		scan->info->n_bad += !intact;
		int err = scan->fn ? scan->fn(scan->arg, &e, stored, intact) : E_OK;
		if (err != E_OK)
			return err;
	}
	return E_OK;
}

/* Header and table of the segment at an offset; *valid is false when there is none. */
static int segment_read(struct scan *scan, int64_t at, struct segment *s, bool *valid)
{
	uint8_t header[PACK_HEADER_BYTES];
	int err = read_all(scan->f, header, sizeof header, at, valid);
	if (err != E_OK || !*valid)
		return err;
	*valid = segment_parse(header, scan->info, at, s);
	if (!*valid)
		return E_OK;
	size_t n = (size_t)s->n_entries * PACK_ENTRY_BYTES;
	err = read_into(scan, &scan->table, n, s->payload + s->payload_len, valid);
	*valid = *valid && xxh3_64(scan->table.p, n) == s->table_xxh && table_fits((const uint8_t *)scan->table.p, s);
	return err;
}

/* The first segment header in the bytes that are at offset at, or -1. */
static int64_t find_header(const struct scan *scan, const uint8_t *p, size_t n, int64_t at)
{
	struct segment s;
	const uint8_t *end = p + n, *hit = p;
	while ((size_t)(end - hit) >= PACK_HEADER_BYTES && (hit = memmem(hit, (size_t)(end - hit), segment_magic, 8)) != NULL) {
		if (end - hit >= PACK_HEADER_BYTES && segment_parse(hit, scan->info, at + (hit - p), &s))
			return at + (hit - p);
		hit++;
	}
	return -1;
}

/* Where the next segment may begin, at or behind an offset; *next is -1 when nowhere. A header names its own offset and
 * carries a checksum, so bytes of a chunk are hardly taken for one; and whoever forged one would only be shown entries
 * that the index does not know. */
static int seek_header(struct scan *scan, int64_t at, int64_t *next)
{
	enum { WINDOW = 1 << 20 };
	*next = -1;
	buf_clear(&scan->payload);
	buf_reserve(&scan->payload, WINDOW);
	while (*next < 0 && scan->info->file_bytes - at >= PACK_HEADER_BYTES) {
		size_t got;
		int err = disk_pread(scan->f, scan->payload.p, WINDOW, at, &got);
		if (err != E_OK || got < PACK_HEADER_BYTES)
			return err;
		*next = find_header(scan, (const uint8_t *)scan->payload.p, got, at);
		at += (int64_t)got - (PACK_HEADER_BYTES - 1);
	}
	return E_OK;
}

static int scan_segments(struct scan *scan)
{
	struct pack_info *info = scan->info;
	for (int64_t at = info->valid_bytes; at >= 0 && at < info->file_bytes;) {
		struct segment s;
		bool valid;
		int err = segment_read(scan, at, &s, &valid);
		if (err == E_OK && !valid)
			err = seek_header(scan, at + 1, &at);
		else if (err == E_OK)
			err = segment_entries(scan, &s);
		if (err != E_OK)
			return err;
		if (!valid)
			continue;
		info->n_segments++;
		info->n_gaps += s.at > info->valid_bytes;
		at = info->valid_bytes = s.payload + s.payload_len + (int64_t)s.n_entries * PACK_ENTRY_BYTES;
	}
	return E_OK;
}

static int scan_all(struct scan *scan)
{
	scan->info->valid_bytes = PACK_HEADER_BYTES;
	int err = scan_segments(scan);
	scan->info->torn = scan->info->valid_bytes < scan->info->file_bytes;
	buf_fini(&scan->table);
	buf_fini(&scan->payload);
	return err;
}

int pack_scan(struct disk_file *f, bool verify, pack_entry_fn *fn, void *arg, struct pack_info *out)
{
	uint8_t h[PACK_HEADER_BYTES];
	bool more;
	*out = (struct pack_info){0};
	int err = disk_size(f, &out->file_bytes);
	if (err == E_OK)
		err = read_all(f, h, sizeof h, 0, &more);
	if (err != E_OK)
		return err;
	if (!more || memcmp(h, file_magic, 8) != 0 || get_le(h + 8, 4) != VERSION ||
	    get_le(h + 12, 4) != PACK_HEADER_BYTES || get_le(h + 56, 8) != xxh3_64(h, 56))
		return E_CORRUPT;
	out->pack_id = (int64_t)get_le(h + 16, 8);
	out->tenant_id = (int64_t)get_le(h + 24, 8);
	return scan_all(&(struct scan){.f = f, .verify = verify, .fn = fn, .arg = arg, .info = out});
}

int pack_scan_headless(struct disk_file *f, int64_t pack_id, int64_t tenant_id, bool verify, pack_entry_fn *fn, void *arg,
                       struct pack_info *out)
{
	*out = (struct pack_info){.pack_id = pack_id, .tenant_id = tenant_id};
	int err = disk_size(f, &out->file_bytes);
	return err != E_OK ? err : scan_all(&(struct scan){.f = f, .verify = verify, .fn = fn, .arg = arg, .info = out});
}

/* ---- all packs ---- */

struct listing {
	struct buf *ids;
	unsigned folder;
};

static int list_file(void *arg, const char *name, bool is_folder)
{
	struct listing *l = arg;
	uint8_t b[8];
	int64_t id = 0;
	struct str stem = str_c(name);
	if (is_folder || !str_ends(stem, STR(".pack")) || !str_unhex(str_head(stem, stem.n - 5), b, sizeof b))
		return E_OK;
	for (size_t i = 0; i < sizeof b; i++)
		id = id << 8 | b[i];
	if (id > 0 && pack_folder(id) == l->folder)
		buf_put(l->ids, &id, sizeof id);
	return E_OK;
}

static int by_id(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

int pack_list(struct disk *d, struct buf *ids)
{
	struct listing l = {.ids = ids};
	int err = E_OK;
	buf_clear(ids);
	for (; err == E_OK && l.folder < PACK_FOLDERS; l.folder++) {
		char folder[2];
		pack_folder_name(folder, l.folder);
		err = disk_list(d, folder, list_file, &l);
		if (err == E_NOT_FOUND)
			err = E_OK;
	}
	if (ids->n)
		qsort(ids->p, ids->n / sizeof(int64_t), sizeof(int64_t), by_id);
	return err;
}
