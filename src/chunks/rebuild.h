/* rebuild: rows of the index from packs, which describe themselves. For a store that nobody else writes to.
 *
 * Every entry whose bytes are whole (XXH3 and SHA-256) and whose chunk the index does not know gets a row; a row whose own bytes
 * are not whole, or that says otherwise than the pack, is led to the entry. A row that is right stays, also when another pack has the same
 * chunk (compaction leaves such copies for a while). So of an index that is lost all is found again that the packs hold; chunks that were
 * garbage come back too, until the next collection. Then the packs' byte counts are made anew, and the file of hints is removed,
 * which the server makes anew by itself.
 */
#ifndef SD_CHUNKS_REBUILD_H
#define SD_CHUNKS_REBUILD_H

#include "chunks/index.h"
#include "io/disk.h"

struct store_rebuild_totals {
	int64_t packs, entries;  /* read */
	int64_t added, mended;   /* rows */
	int64_t damaged;         /* entries that are not whole */
	int64_t unreadable_packs; /* their head is damaged and nothing tells whose they are, or the disk does not give them */
};

struct store_rebuild_config {
	struct disk *disk; /* of the packs; NULL: there is no such folder */
	struct db *db;
	int64_t only_tenant; /* whose a pack is of which nothing else tells it; 0: there are several */
	const struct clock *clock;
	void (*progress)(void *arg, const char *what, int64_t done, int64_t all); /* bytes; often */
	void *arg;
};

/* Repeatable, and may be ended at any moment. */
int store_rebuild(const struct store_rebuild_config *config, struct store_rebuild_totals *out);

#endif
