/* index: which chunks a tenant has and where they lie. A row is found by its id, which is time-ordered: rows are appended and
 * never searched by hash. From a hash to an id the finder leads, a file of hints (finder.h). So two rows may describe equal
 * chunks: when a hint was lost, or two daemons stored a chunk at the same moment. That costs room and nothing else.
 *
 * Rows are written in the transaction that makes a version, after the bytes are durable; a row therefore never points
 * to bytes that a crash can take away.
 */
#ifndef SD_CHUNKS_INDEX_H
#define SD_CHUNKS_INDEX_H

#include "base/hash.h"
#include "chunks/finder.h"
#include "db/db.h"

enum { INDEX_BATCH = 64 };

struct chunk_place {
	int64_t pack_id; /* 0: no such chunk */
	int64_t offset;
	uint64_t xxh;
	uint32_t raw_len, stored_len;
	uint8_t codec;
};

/* packs.state. A pack begins without a row. Chunks are added to live ones alone. What is retired has no chunks and gets none
 * any more; its file is deleted later. The row of one that is gone stays for as long as somebody may still want to add to it. */
enum pack_state { PACK_LIVE = 1, PACK_RETIRED, PACK_GONE };

struct chunk_row {
	int64_t id;
	struct sha256 hash;
	struct chunk_place place;
};

/* ids[i] becomes the id of hashes[i], or 0; rows that are marked (marks.h) are as if they were not there. n is at most
 * INDEX_BATCH. */
int index_find(struct db *db, struct finder *f, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids);
/* Chunks of one tenant that wait to be added, zeroed at first: many rows at once cost a third. */
struct index_batch {
	struct chunk_row rows[INDEX_BATCH];
	size_t n;
};
/* Puts n <= INDEX_BATCH chunks into the batch, which is flushed when it is full and is to be flushed before the transaction ends.
 * ids[i] becomes rows[i].id, or the id of one that was there or in the batch first and is not marked. Packs not seen before
 * are added too. Repeatable.
 * E_BUSY: a pack of theirs was retired meanwhile, or an id of theirs is another chunk's: to be tried with new ids. */
int index_add(struct tx *tx, struct finder *f, int64_t tenant_id, int64_t now_us, const struct chunk_row *rows, size_t n,
              struct index_batch *b, int64_t *ids);
int index_flush(struct tx *tx, struct finder *f, int64_t tenant_id, int64_t now_us, struct index_batch *b);
/* May something be added to the pack? Also when it has no row yet. E_BUSY: it was retired. */
int index_pack_open(struct tx *tx, int64_t pack_id);
/* In a write: chunks that were found a while ago are to be used. Those that are condemned are so no longer. E_BUSY: one is gone.
 * n <= INDEX_BATCH. */
int index_use(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n);
/* In a write: a chunk's bytes, stored as *from says so far, lie durable in *to. E_BUSY: that pack was retired. */
int index_replace(struct tx *tx, int64_t tenant_id, int64_t now_us, int64_t id, const struct chunk_place *from,
                  const struct chunk_place *to);
/* Where chunks ids[0..n) lie; n is at most INDEX_BATCH. Values are as the database gave them: the reader checks. */
int index_place(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, struct chunk_place *places);
/* The hashes of chunks ids[0..n); n is at most INDEX_BATCH. E_CORRUPT when one is missing. */
int index_hashes(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, struct sha256 *hashes);

/* ---- rows that go or move (index_care.c); inside a write of the tenant, n <= INDEX_BATCH ---- */

struct index_removed {
	int64_t id, stored_bytes;
	struct sha256 hash;
};
/* Removes those of ids that were condemned (marks.h) before the given time, with their marks. removed has room for n. */
int index_remove(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, int64_t condemned_before_us,
                 struct index_removed *removed, size_t *n_removed);

struct index_move {
	int64_t id, from_pack, from_offset, to_pack, to_offset;
	uint32_t stored_len;
};
/* The same stored bytes are, durable, in another place as well; rows that still are at the old one are at the new one from now
 * on. E_BUSY: the new pack was retired. */
int index_move(struct tx *tx, int64_t tenant_id, int64_t now_us, const struct index_move *moves, size_t n, size_t *n_moved);

/* Retires a pack that no chunk lies in, whether it has a row or not; false in *retired: one does, or it is retired. */
int index_pack_retire(struct tx *tx, int64_t pack_id, int64_t tenant_id, int64_t now_us, bool *retired);
/* The file of a retired pack is gone; and nobody has it open any more. */
int index_pack_gone(struct tx *tx, int64_t pack_id);
int index_pack_forget(struct tx *tx, int64_t pack_id);
/* For index_move: so many bytes more are in the pack, which gets a row. E_BUSY: it was retired. */
int index_pack_count(struct tx *tx, int64_t pack_id, int64_t tenant_id, int64_t now_us, int64_t bytes);

/* ---- for checks (check.h): rows as they are, damaged or not ---- */

struct index_row {
	struct chunk_row chunk; /* chunk.id 0: no such row; chunk.place.pack_id 0: a value does not fit its field */
	int64_t tenant_id;
};
/* Chunks ids[0..n), of any tenant; n is at most INDEX_BATCH. */
int index_rows(struct db *db, const int64_t *ids, size_t n, struct index_row *rows);
/* All rows by id, those above after; *n is at most max, and less at the end. */
int index_walk(struct tx *tx, int64_t after_id, struct index_row *rows, size_t max, size_t *n);
/* The rows of one pack by id. It may have to read the whole index: for packs that are damaged. */
int index_walk_pack(struct tx *tx, int64_t pack_id, int64_t after_id, struct index_row *rows, size_t max, size_t *n);

struct index_pack {
	int64_t id, tenant_id;
	int64_t stored_bytes; /* what the index counts for it */
	int64_t retired_us;
	enum pack_state state;
};
/* All packs by id. */
int index_walk_packs(struct tx *tx, int64_t after_id, struct index_pack *packs, size_t max, size_t *n);

/* ---- for repairs: nobody else writes, and no hint is given ---- */

/* In a write: the rows stand as given from now on, whatever was there. n <= INDEX_BATCH. */
int index_put(struct tx *tx, int64_t tenant_id, const struct chunk_row *rows, size_t n);
/* In a write: what packs.size_bytes says is counted anew from the rows; packs that have rows and were not known are added. */
int index_recount_packs(struct tx *tx, int64_t now_us);

#endif
