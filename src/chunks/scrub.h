/* scrub: reads again what the index points to, while the store is in use, and keeps account of what is damaged.
 *
 * Rows are gone through by id, which is near the order of the packs; each chunk's bytes are read from the disk and verified, XXH3
 * and SHA-256, as a download would. What is wrong bears MARK_DAMAGED (marks.h) from then on; what is good again loses it. A read
 * that meets damage marks it as well (damage_note). Every write looks at the row anew: one that has moved meanwhile is let alone.
 *
 * A damaged chunk is healed from another row with the same hash: there is one when its bytes were uploaded again (a marked chunk is
 * never found, so they were stored), or when the chunk had been stored twice. The bytes are verified, appended to a pack once more
 * under the damaged chunk's own id, and its row is led there; so every recipe that names it is whole again. The finder leads to the
 * other row; when it does not, the pass tells it of rows that it meets with a hash that is wanted.
 */
#ifndef SD_CHUNKS_SCRUB_H
#define SD_CHUNKS_SCRUB_H

#include "chunks/store.h"

struct scrub;
struct scrub_config {
	struct db *db;
	struct disk *packs;
	struct store *store; /* NULL: nothing is healed */
	const struct clock *clock;
};
struct scrub *scrub_new(const struct scrub_config *config);
void scrub_free(struct scrub *s);

struct scrub_counts {
	int64_t chunks, bytes; /* read: bytes as they are stored */
	int64_t damaged, healed, cleared; /* marked anew; led to other bytes; found to be good */
	int64_t left_out; /* of chunks: their pack is there, and could not be opened */
};
/* Tries to heal one chunk that is marked, the next behind *after_id, which moves on; *end: there is none. */
int scrub_heal(struct scrub *s, int64_t *after_id, struct scrub_counts *counts, bool *end);
/* Reads the chunks of the next INDEX_BATCH rows behind *after_id, which moves on; *end: these were the last. */
int scrub_step(struct scrub *s, int64_t *after_id, struct scrub_counts *counts, bool *end);

/* A read met damage: the chunk is marked. Not inside a transaction. A fault is of no consequence: the pass comes by later. */
void damage_note(struct store *s, int64_t tenant_id, int64_t chunk_id);

#endif
