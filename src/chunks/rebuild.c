#include "chunks/rebuild.h"

#include <stdlib.h>

#include "base/must.h"
#include "chunks/codec.h"
#include "chunks/pack.h"

struct rebuild {
	const struct store_rebuild_config *config;
	struct store_rebuild_totals *totals;
	struct codec_work *work;
	struct pack_info info; /* of the pack at hand */
	int64_t bytes_before;
	struct pack_entry batch[INDEX_BATCH];
	struct index_row rows[INDEX_BATCH];
	bool wanted[INDEX_BATCH]; /* what the batch says shall stand in the index */
	size_t n;
	uint8_t raw[CHUNK_MAX_BYTES], stored[CHUNK_MAX_BYTES];
};

static bool content_is(struct rebuild *r, const struct sha256 *hash, unsigned codec, struct str stored, uint32_t raw_len)
{
	const void *raw = stored.p;
	if (raw_len == 0 || raw_len > CHUNK_MAX_BYTES || codec >= CODEC_COUNT)
		return false;
	if (codec != CODEC_RAW) {
		if (codec_decode(r->work, (enum codec)codec, stored, r->raw, raw_len))
			return false;
		raw = r->raw;
	} else if (stored.n != raw_len) {
		return false;
	}
	struct sha256 is = sha256_of(raw, raw_len);
	return sha256_eq(&is, hash);
}

/* Is what the row points to what it says? */
static bool row_is_whole(struct rebuild *r, const struct chunk_row *row)
{
	const struct chunk_place *p = &row->place;
	char name[PACK_NAME_MAX];
	struct disk_file *f;
	size_t got = 0;
	if (p->pack_id <= 0 || p->offset < 0 || p->stored_len > CHUNK_MAX_BYTES)
		return false;
	pack_name(name, p->pack_id);
	if (disk_open(r->config->disk, name, DISK_READ, &f))
		return false;
	int err = disk_pread(f, r->stored, p->stored_len, p->offset, &got);
	disk_close(f);
	return !err && got == p->stored_len && xxh3_64(r->stored, got) == p->xxh &&
	       content_is(r, &row->hash, p->codec, str_n((const char *)r->stored, got), p->raw_len);
}

static bool says_the_same(const struct rebuild *r, const struct pack_entry *e, const struct index_row *row)
{
	const struct chunk_place *p = &row->chunk.place;
	return row->tenant_id == r->info.tenant_id && p->pack_id == r->info.pack_id && p->offset == e->offset && p->xxh == e->xxh &&
	       p->raw_len == e->raw_len && p->stored_len == e->stored_len && p->codec == e->codec &&
	       sha256_eq(&row->chunk.hash, &e->hash);
}

static int write_op(struct tx *tx, void *arg)
{
	struct rebuild *r = arg;
	struct chunk_row rows[INDEX_BATCH];
	size_t n = 0;
	for (size_t i = 0; i < r->n; i++) {
		const struct pack_entry *e = &r->batch[i];
		if (r->wanted[i])
			rows[n++] = (struct chunk_row){e->chunk_id, e->hash, {r->info.pack_id, e->offset, e->xxh, e->raw_len, e->stored_len, e->codec}};
	}
	return index_put(tx, r->info.tenant_id, rows, n);
}

static int settle(struct rebuild *r)
{
	int64_t ids[INDEX_BATCH];
	size_t n = 0;
	for (size_t i = 0; i < r->n; i++)
		ids[i] = r->batch[i].chunk_id;
	int err = index_rows(r->config->db, ids, r->n, r->rows);
	for (size_t i = 0; !err && i < r->n; i++) {
		bool there = r->rows[i].chunk.id != 0, same = there && says_the_same(r, &r->batch[i], &r->rows[i]);
		bool elsewhere = there && (r->rows[i].chunk.place.pack_id != r->info.pack_id || r->rows[i].chunk.place.offset != r->batch[i].offset);
		r->wanted[i] = !same && !(elsewhere && row_is_whole(r, &r->rows[i].chunk));
		r->totals->added += r->wanted[i] && !there;
		r->totals->mended += r->wanted[i] && there;
		n += r->wanted[i];
	}
	if (!err && n)
		err = db_write(r->config->db, r->info.tenant_id, write_op, r);
	r->n = 0;
	return err;
}

static int on_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	struct rebuild *r = arg;
	r->totals->entries++;
	r->config->progress(r->config->arg, "bytes of packs", r->bytes_before + e->offset, -1);
	if (!intact || e->chunk_id <= 0 || !content_is(r, &e->hash, e->codec, str_n(stored, e->stored_len), e->raw_len)) {
		r->totals->damaged++;
		return 0;
	}
	r->batch[r->n++] = *e;
	return r->n == INDEX_BATCH ? settle(r) : 0;
}

struct owner {
	int64_t pack_id, tenant_id;
};

/* Whose a pack is that cannot tell it: its row's tenant, or that of a chunk in it. */
static int owner_op(struct tx *tx, void *arg)
{
	struct owner *o = arg;
	struct index_row row;
	size_t n = 0;
	int err = tx_i64(tx, "select tenant_id from packs where id = $1", DB_ARGS(V_I(o->pack_id)), 0, &o->tenant_id);
	if (!err && !o->tenant_id)
		err = index_walk_pack(tx, o->pack_id, 0, &row, 1, &n);
	if (!err && n)
		o->tenant_id = row.tenant_id;
	return err;
}

static int rebuild_headless(struct rebuild *r, struct disk_file *f, int64_t pack_id)
{
	struct owner o = {pack_id, 0};
	int err = db_read(r->config->db, owner_op, &o);
	if (!o.tenant_id)
		o.tenant_id = r->config->only_tenant;
	if (err || !o.tenant_id)
		return err ? err : E_CORRUPT;
	return pack_scan_headless(f, pack_id, o.tenant_id, true, on_entry, r, &r->info);
}

static int rebuild_pack(struct rebuild *r, int64_t pack_id)
{
	char name[PACK_NAME_MAX];
	struct disk_file *f;
	pack_name(name, pack_id);
	int err = disk_open(r->config->disk, name, DISK_READ, &f);
	if (err)
		return err == E_NOT_FOUND ? 0 : err;
	r->totals->packs++;
	err = pack_scan(f, true, on_entry, r, &r->info);
	if (err == E_CORRUPT)
		err = rebuild_headless(r, f, pack_id);
	if (!err || err == E_CORRUPT || err == E_IO) {
		r->totals->unreadable_packs += err != 0;
		err = settle(r);
	}
	r->bytes_before += r->info.file_bytes;
	disk_close(f);
	return err;
}

static int recount_op(struct tx *tx, void *arg)
{
	return index_recount_packs(tx, clock_now(((struct rebuild *)arg)->config->clock));
}

int store_rebuild(const struct store_rebuild_config *config, struct store_rebuild_totals *out)
{
	struct rebuild *r = calloc(1, sizeof *r);
	struct buf ids = {0};
	must(r != NULL);
	*out = (struct store_rebuild_totals){0};
	r->config = config;
	r->totals = out;
	r->work = codec_work_new();
	int err = config->disk ? pack_list(config->disk, &ids) : 0;
	for (size_t i = 0; !err && i < ids.n; i += sizeof(int64_t)) {
		int64_t id;
		memcpy(&id, ids.p + i, sizeof id);
		err = rebuild_pack(r, id);
	}
	if (!err)
		err = db_write(config->db, 0, recount_op, r);
	if (!err && config->disk)
		err = finder_remove(config->disk);
	buf_fini(&ids);
	codec_work_free(r->work);
	free(r);
	return err;
}
