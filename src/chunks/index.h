/* index: which chunks a tenant has and where they lie. Everything above sees chunks through these calls only, since
 * the tables behind them will change their shape for tens of millions of chunks.
 *
 * Rows are written in the transaction that makes a version, after the bytes are durable; a row therefore never points
 * to bytes that a crash can take away.
 */
#ifndef SD_CHUNKS_INDEX_H
#define SD_CHUNKS_INDEX_H

#include "base/hash.h"
#include "db/db.h"

enum { INDEX_BATCH = 64 };

struct chunk_place {
	int64_t pack_id; /* 0: no such chunk */
	int64_t offset;
	uint64_t xxh;
	uint32_t raw_len, stored_len;
	uint8_t codec;
};

struct chunk_row {
	int64_t id;
	struct sha256 hash;
	struct chunk_place place;
};

/* ids[i] becomes the id of hashes[i], or 0. n is at most INDEX_BATCH. */
int index_find(struct tx *tx, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids);
/* Adds n <= INDEX_BATCH chunks, whose hashes differ from each other. ids[i] becomes rows[i].id, or the id of the row
 * that was there first. Packs not seen before are added too. Repeatable. */
int index_add(struct tx *tx, int64_t tenant_id, int64_t now_us, const struct chunk_row *rows, size_t n, int64_t *ids);
/* Where chunks ids[0..n) lie; n is at most INDEX_BATCH. Values are as the database gave them: the reader checks. */
int index_place(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, struct chunk_place *places);
/* The hashes of chunks ids[0..n); n is at most INDEX_BATCH. E_CORRUPT when one is missing. */
int index_hashes(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, struct sha256 *hashes);

#endif
