/* store: file content as content-defined chunks in append-only packs.
 *
 * In: bytes are fed in file order to an ingest (whole-file SHA-256, FastCDC keyed per tenant, SHA-256 of each chunk,
 * append to a pack if the tenant does not have the chunk). ingest_finish makes every byte durable (I2) and yields a
 * content; content_commit, inside the write transaction that creates the version, adds the new chunks to the index
 * and turns the content into a recipe.
 * Small writes of a tenant share one open pack and its flush; what exceeds 4 MiB gets a pack of its own.
 * Out: a reader serves any window of a recipe; every chunk it touches is verified (D17), rot is E_CORRUPT.
 *
 * A recipe (D12) is a blob: version byte, then (zigzag varint: chunk id minus the previous id, varint: length) per
 * chunk. Chunk ids are time-ordered row ids of this database, so a file's chunks are read by near-sequential look-ups.
 * A hash alone never yields content (D13): recipes do, and they are reached through versions.
 */
#ifndef SD_CHUNKS_STORE_H
#define SD_CHUNKS_STORE_H

#include "base/hash.h"
#include "base/id.h"
#include "chunks/pack.h"
#include "db/db.h"
#include "io/disk.h"

struct store;
struct ingest;
struct content_reader;
struct index_batch; /* chunks/index.h */

struct store_config {
	struct disk *disk;   /* rooted at the folder of the packs */
	struct db *db;
	struct idgen *ids;
	const struct clock *clock;
	bool follow;         /* a thread keeps the finder up with the rows (finder.h); for servers */
	bool read_only;      /* for readers alone, also beside a server: no finder, and nothing may be fed */
};

int store_open(const struct store_config *config, struct store **out);
/* Makes open packs durable and closes them. */
void store_close(struct store *s);
/* 0, or E_READ_ONLY after a failed fsync (then nothing is acknowledged any more until a restart). */
int store_health(struct store *s);
/* Is there room for n more bytes besides the disk's margin? 0 or E_NO_SPACE. */
int store_room(struct store *s, int64_t n);

/* What ingest_finish found out. Lives until content_free. */
struct content {
	struct sha256 sha256;
	int64_t size_bytes;
	size_t n_chunks;
	size_t n_new_chunks; /* not in the index when they were fed */
	int64_t new_bytes;   /* stored for them */
	struct content_chunk *chunks; /* store_priv.h; about 100 bytes each */
	struct str recipe;            /* not NULL: it is made already, and content_commit hands it on; borrowed */
	struct disk_file *unsynced;   /* of a part: what content_sync has to sync; the ingest's */
	int64_t pack_end;             /* of a part: where its bytes end in that file */
	struct pack_runs unwritten;   /* of a part: what content_sync has to write there before */
	struct store *store;
	int64_t since_us, since_mono_us; /* what it has of the index was found then or later */
	struct shared_pack *shared;   /* not NULL: where small chunks lie, durable when it is flushed up to ticket */
	uint64_t ticket;
};

/* An ingest may move between threads, one at a time. It holds a slab of 512 KiB and a record of each chunk.
 * What it found in the index the collector spares for LIMIT_CONDEMNED_MS; an older content looks again at its commit.
 * tenant_key: 32 bytes, keys the chunker. E_READ_ONLY. size_hint: expected bytes, -1 unknown (above 4 MiB gets a pack of its own). */
int ingest_begin(struct store *s, int64_t tenant_id, const uint8_t tenant_key[32], int64_t size_hint, struct ingest **out);
/* The key that an ingest of the tenant began with lately (a tenant's key is for ever); false: ask the database. */
bool store_tenant_key(struct store *s, int64_t tenant_id, uint8_t tenant_key[32]);
/* E_NO_SPACE, E_IO, E_READ_ONLY: the ingest is dead; abort it. */
int ingest_feed(struct ingest *in, const void *p, size_t n);
/* Makes the content durable. The ingest is freed in any case; on 0 *out must be freed with content_free. */
int ingest_finish(struct ingest *in, struct content **out);
void ingest_abort(struct ingest *in);
/* As ingest_finish, but what lies in the pack that small writes share becomes durable by content_flush, which one caller
 * does for all who have appended. Repeatable, on any thread. */
int ingest_close(struct ingest *in, struct content **out);
int content_flush(struct content *c);

/* The same for chunks that the caller cut: many small ones become durable together, at ingest_finish. The content has
 * no sha256 of its own and is for content_index alone. */
int ingest_begin_chunks(struct store *s, int64_t tenant_id, int64_t size_hint, struct ingest **out);
/* The next chunk, 1..CHUNK_MAX_BYTES bytes. E_CHECKSUM: the bytes have another hash; the ingest goes on without them. */
int ingest_chunk(struct ingest *in, const struct sha256 *claimed, const void *p, size_t n);
void content_free(struct content *c);

/* Before content_commit, outside of any transaction: makes a content of more than LIMIT_CHUNKS_TX new chunks durable and
 * indexes them, so many at a time, so that its content_commit does not hold the writer for all of them. Should that never
 * come, the rows are garbage for the collector, which spares chunks for LIMIT_CONDEMNED_MS. Nothing for smaller ones. */
int content_index_ahead(struct content *c, int64_t tenant_id);

/* In a write transaction: indexes the new chunks and appends the recipe to *recipe (so an op that is run again starts
 * by clearing it). Repeatable. E_BUSY: it took so long that the collector has removed what it rests on; E_TIMEOUT: longer than
 * LIMIT_INGEST_MS. Of two ingests that stored the same chunk, the second to commit uses the first's, unless the finder
 * does not know of it. batch: NULL, or where new chunks may wait for those of the tenant's other contents in this transaction. */
int content_commit(struct tx *tx, struct store *s, int64_t tenant_id, const struct content *c, struct index_batch *batch,
                   struct buf *recipe);
/* Adds what waits in a batch to the index. */
int store_index_flush(struct tx *tx, struct store *s, int64_t tenant_id, struct index_batch *batch);

/* In a write transaction: indexes the new ones of chunks [from, from + n), makes no recipe, and tells each chunk of them
 * that no earlier one equals. Repeatable. */
typedef int content_chunk_fn(void *arg, int64_t chunk_id, const struct sha256 *hash, uint32_t length);
int content_index(struct tx *tx, struct store *s, int64_t tenant_id, const struct content *c, size_t from, size_t n,
                  content_chunk_fn *fn, void *arg);

/* Opens a reader over a recipe (copied). tx resolves chunk places; it is not kept. size_bytes must match the recipe
 * (else E_CORRUPT). */
int content_open(struct tx *tx, struct store *s, int64_t tenant_id, struct str recipe, int64_t size_bytes,
                 struct content_reader **out);
/* Reads up to n bytes at offset; *got < n only at the end. Thread-compatible: one caller at a time. After an error
 * (E_CORRUPT, E_IO, E_DB) *got is 0 and out holds nothing that may be shown. Places of later chunks are looked up with
 * db_read, so this is not called inside a transaction on the same thread. Whole chunks are cheapest: windows of 256 KiB
 * or more, read in order. */
int content_read(struct content_reader *r, int64_t offset, void *out, size_t n, size_t *got);
/* How much of the n bytes at offset ends with a chunk, so that none is read for a part of it; n when no chunk ends there. */
size_t content_fit(const struct content_reader *r, int64_t offset, size_t n);
void content_close(struct content_reader *r);
/* By chunks: how many; the length of chunk i, 0 when there is none. */
size_t content_chunks(const struct content_reader *r);
uint32_t content_chunk_bytes(const struct content_reader *r, size_t i);
/* Chunk i, which is there, whole and verified; valid until the next call on r. Errors as content_read. */
int content_chunk(struct content_reader *r, size_t i, struct str *bytes);
/* The same as it is stored: *zstd: as one zstd frame that declares its size, else as it is. */
int content_chunk_stored(struct content_reader *r, size_t i, bool *zstd, struct str *stored);

/* The recipe in words (for the chunks API and fsck): hash and length of chunk i, in file order. */
struct recipe_chunk {
	size_t i;
	int64_t id, offset; /* offset in the file */
	uint32_t length;
	const struct sha256 *hash;
};
typedef int recipe_fn(void *arg, const struct recipe_chunk *chunk);
/* Chunks [from, from + n) of it; those before cost no look-up. */
int recipe_each(struct tx *tx, struct store *s, int64_t tenant_id, struct str recipe, size_t from, size_t n, recipe_fn *fn,
                void *arg);

/* Closes packs whose files were deleted, maybe by another process: until then their room is not free. */
void store_forget_gone(struct store *s);

/* Counters for /metrics; never go back within a process. */
struct store_stats {
	int64_t chunks_new, chunks_deduplicated, bytes_in, bytes_stored, bytes_out, fsyncs, corrupt;
	int64_t finder_hints, finder_bytes; /* what is there */
};
void store_stats(struct store *s, struct store_stats *out);

#endif
