/* finder: from the hash of a chunk to the id of the row that may describe it.
 *
 * A file of hints beside the packs, no truth: whoever gets an id looks at the row and compares the whole hash, so a hint
 * that is old, torn or wrong costs a look and a lost one costs room (the chunk is stored twice). Nothing here is synced
 * before a commit, and the file may be deleted between two lives; it fills itself from the rows again. Why not an index in
 * the database: hashes are random, so each new chunk would dirty a page of it, which at 17 million chunks is what a commit
 * costs. Here it is a write into the page cache.
 *
 * The file is a linear hash table (W. Litwin, "Linear hashing", 1980) of pages of 4 KiB: it grows by one page at a time, and
 * a look-up reads one page. Page 0 is a header; numbers are in the machine's order. A page that is full drops what comes.
 * Keys depend on a secret of the file, so nobody can choose hashes that meet in one page.
 *
 * One process uses a file. All calls are safe from any thread. Faults of the disk make hints missing, nothing else.
 */
#ifndef SD_CHUNKS_FINDER_H
#define SD_CHUNKS_FINDER_H

#include "base/hash.h"
#include "db/db.h"
#include "io/disk.h"

struct finder;

/* Opens the disk's finder, or begins an empty one. follow (may be NULL: for tests and tools): a thread adds what rows of
 * chunks tell and the finder does not know, after an upgrade or a crash, or because another daemon wrote them: at the start
 * and every minute, from a little before where it ended last time, since ids are not committed in their order. */
void finder_open(struct disk *d, struct db *follow, struct finder **out);
/* Makes it durable: the next life follows from here. */
void finder_close(struct finder *f);

/* Removes the disk's finder, which nobody has open: the next one begins from the rows. For repairs. */
int finder_remove(struct disk *d);

/* ids[i]: where hashes[i] may be, or 0. */
void finder_find(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids);
/* The same among the thousands that were added lately, without touching the disk: for the writer. */
void finder_find_lately(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids);
/* From now on hashes[i] may be at ids[i]; an older hint for the same hash is replaced. It is kept in memory, and later
 * written together with others. */
void finder_add(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, const int64_t *ids, size_t n);
/* Rows ids[i] of hashes[i] are gone, so their hints go. */
void finder_forget(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, const int64_t *ids, size_t n);

struct finder_stats {
	int64_t hints, bytes;
};
void finder_stats(struct finder *f, struct finder_stats *out);

#endif
