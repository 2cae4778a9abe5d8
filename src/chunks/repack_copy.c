#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/chunker.h"
#include "chunks/marks.h"
#include "chunks/repack_priv.h"

#define COPY_BYTES (64 << 20) /* of a pack of copies */
enum { COPY_CHUNKS = 8192, MOVE_ROWS = 256 };

struct copying {
	struct repack *r;
	int64_t tenant_id;
	struct pack_writer out;
	bool open;
	struct index_move moves[COPY_CHUNKS]; /* what out holds, and no row says yet */
	size_t n;
	int64_t n_moved_of_out; /* rows that say it */
	/* the pack that is being copied */
	const struct pack_fact *pack;
	struct disk_file *in;
	struct pack_entry batch[INDEX_BATCH];
	size_t n_batch;
	uint8_t stored[CHUNK_MAX_BYTES];
};

struct copying *copying_begin(struct repack *r)
{
	struct copying *c = calloc(1, sizeof *c);
	must(c != NULL);
	c->r = r;
	return c;
}

/* ---- the new pack ---- */

static int out_open(struct copying *c)
{
	struct disk *d = c->r->disk;
	int64_t id = idgen_next(c->r->ids);
	char folder[2];
	pack_folder_name(folder, pack_folder(id));
	c->tenant_id = c->pack->tenant_id;
	c->n_moved_of_out = 0;
	int err = pack_create(d, id, c->tenant_id, &c->out);
	c->open = err == E_OK;
	if (err == E_OK)
		err = disk_sync_dir(d, "");
	return err == E_OK ? disk_sync_dir(d, folder) : err;
}

struct move_write {
	struct copying *c;
	size_t from, n, moved;
};

static int move_op(struct tx *tx, void *arg)
{
	struct move_write *w = arg;
	struct copying *c = w->c;
	int err = E_OK;
	w->moved = 0;
	for (size_t i = 0; err == E_OK && i < w->n; i += INDEX_BATCH) {
		size_t n = w->n - i < INDEX_BATCH ? w->n - i : INDEX_BATCH, moved = 0;
		err = index_move(tx, c->tenant_id, clock_now(c->r->clock), c->moves + w->from + i, n, &moved);
		w->moved += moved;
	}
	return err;
}

/* The copies are durable; then their rows say so. */
static int out_settle(struct copying *c)
{
	int err = pack_seal(&c->out);
	if (err == E_OK && !mutant(M_REPACK_NO_SYNC))
		err = disk_sync(c->out.file);
	for (size_t i = 0; err == E_OK && i < c->n; i += MOVE_ROWS) {
		struct move_write w = {.c = c, .from = i, .n = c->n - i < MOVE_ROWS ? c->n - i : MOVE_ROWS};
		err = db_write(c->r->db, c->tenant_id, move_op, &w);
		c->n_moved_of_out += err == E_OK ? (int64_t)w.moved : 0;
		c->r->totals.moved += err == E_OK ? (int64_t)w.moved : 0;
	}
	if (err == E_OK)
		c->n = 0;
	return err;
}

static void out_close(struct copying *c)
{
	if (c->open)
		pack_close(&c->out);
	c->open = false;
	c->n = 0;
}

/* Whatever the rows say of a pack that failed, it stays; one that they cannot know of is garbage to a later round. */
static int out_end(struct copying *c)
{
	int err = c->open ? out_settle(c) : E_OK;
	out_close(c);
	return err;
}

/* ---- the old one ---- */

struct damage {
	int64_t tenant_id, chunk_id, now_us;
};

static int damage_op(struct tx *tx, void *arg)
{
	const struct damage *d = arg;
	return marks_set(tx, d->tenant_id, &d->chunk_id, 1, MARK_DAMAGED, d->now_us);
}

static int tell_damage(struct copying *c, const struct chunk_row *row)
{
	struct damage d = {c->pack->tenant_id, row->id, clock_now(c->r->clock)};
	log_error("stored content is damaged; its pack is kept", LOG_I("pack_id", c->pack->id), LOG_I("offset", row->place.offset),
	          LOG_I("chunk_id", row->id));
	c->r->totals.damaged++;
	return db_write(c->r->db, d.tenant_id, damage_op, &d);
}

static int copy_chunk(struct copying *c, const struct chunk_row *row)
{
	const struct chunk_place *p = &row->place;
	size_t got = 0;
	int err = disk_pread(c->in, c->stored, p->stored_len, p->offset, &got);
	if (err != E_OK)
		return err;
	if (got < p->stored_len || xxh3_64(c->stored, got) != p->xxh)
		return tell_damage(c, row);
	if (c->open && (c->tenant_id != c->pack->tenant_id || c->out.tail >= COPY_BYTES || c->n == COPY_CHUNKS))
		err = out_end(c);
	if (err == E_OK && !c->open)
		err = out_open(c);
	if (err != E_OK)
		return err;
	struct pack_entry e = {
	    .hash = row->hash,
	    .chunk_id = row->id,
	    .xxh = p->xxh,
	    .raw_len = p->raw_len,
	    .stored_len = p->stored_len,
	    .codec = p->codec,
	};
	bool broken = false;
	err = pack_append(&c->out, &e, c->stored, &broken);
	if (broken)
		out_close(c);
	if (err != E_OK)
		return err;
	c->moves[c->n++] = (struct index_move){row->id, c->pack->id, p->offset, c->out.id, e.offset, p->stored_len};
	c->r->totals.moved_bytes += p->stored_len;
	return E_OK;
}

static int copy_batch(struct copying *c)
{
	struct index_row rows[INDEX_BATCH];
	int64_t ids[INDEX_BATCH], bytes = (int64_t)c->n_batch * PACK_ENTRY_BYTES;
	for (size_t i = 0; i < c->n_batch; i++)
		ids[i] = c->batch[i].chunk_id;
	int err = c->n_batch ? index_rows(c->r->db, ids, c->n_batch, rows) : E_OK;
	for (size_t i = 0; err == E_OK && i < c->n_batch; i++) {
		const struct chunk_row *row = &rows[i].chunk;
		if (row->id == 0 || row->place.pack_id != c->pack->id || row->place.offset != c->batch[i].offset ||
		    rows[i].tenant_id != c->pack->tenant_id || row->place.stored_len > CHUNK_MAX_BYTES)
			continue;
		err = copy_chunk(c, row);
		bytes += 2 * (int64_t)row->place.stored_len;
	}
	c->n_batch = 0;
	return err != E_OK || c->r->go_on(c->r->arg, bytes) ? err : E_CANCELLED;
}

static int on_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	struct copying *c = arg;
	(void)stored;
	(void)intact;
	c->batch[c->n_batch++] = *e;
	return c->n_batch == INDEX_BATCH ? copy_batch(c) : E_OK;
}

int copying_pack(struct copying *c, const struct pack_fact *pack)
{
	char name[PACK_NAME_MAX];
	struct pack_info info;
	pack_name(name, pack->id);
	int err = disk_open(c->r->disk, name, DISK_READ, &c->in);
	if (err != E_OK)
		return err;
	c->pack = pack;
	c->n_batch = 0;
	err = pack_scan(c->in, false, on_entry, c, &info);
	if (err == E_CORRUPT) /* its row tells whose it is */
		err = pack_scan_headless(c->in, pack->id, pack->tenant_id, false, on_entry, c, &info);
	if (err == E_OK)
		err = copy_batch(c);
	disk_close(c->in);
	c->r->totals.rewritten += err == E_OK;
	return err;
}

int copying_end(struct copying *c, int err)
{
	int ended = out_end(c);
	free(c);
	return err == E_OK ? ended : err;
}
