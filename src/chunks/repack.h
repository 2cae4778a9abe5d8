/* repack: gives back the room of what is dead in packs. One round looks at all packs, and then:
 *
 *   - A pack that no chunk lies in is retired, whether it had chunks once or a crash or a refused upload left it behind: nothing
 *     is added to it any more (index.h), which holds for whoever has it open on any node. Later its file is deleted. Until then
 *     readers that had looked up their places go on; a reader that comes too late for the file looks them up again.
 *   - Of packs that are dead for the most part the live chunks are verified and copied to a new pack. When that is durable, the
 *     rows' places move in short writes; chunk ids stay. The deadest packs come first, and no more than it takes to bring the
 *     dead bytes of all packs below REPACK_DEAD_PERCENT of the live ones.
 *
 * A crash leaves what was copied as a pack without chunks, or rows in both packs, and the next round goes on from there. A
 * chunk that is damaged is marked (marks.h) and stays where it is, and so does the pack.
 */
#ifndef SD_CHUNKS_REPACK_H
#define SD_CHUNKS_REPACK_H

#include "base/id.h"
#include "base/map.h"
#include "chunks/store.h"

enum { REPACK_DEAD_PERCENT = 8 };

struct repack_totals {
	int64_t packs, file_bytes, live_bytes, dead_bytes; /* as the round found them; dead: in packs that have live chunks */
	int64_t idle_bytes;                   /* of files that no chunk lies in */
	int64_t retired, deleted, deleted_bytes, forgotten;
	int64_t rewritten, moved, moved_bytes; /* packs that were gone through; chunks and bytes copied */
	int64_t damaged;
};

struct repack {
	struct db *db;
	struct disk *disk;
	struct store *store; /* of this process, or NULL */
	struct idgen *ids;
	const struct clock *clock;
	int64_t ids_below;            /* packs made later may be written to: they are let alone */
	int64_t retired_before_us;    /* files of packs that were retired before are deleted */
	int64_t forgotten_before_us;  /* nobody has those open any more that were retired before */
	bool held;                    /* no file is deleted (drive/hold.h) */
	bool dry;
	/* pack id -> number of its rows (sweep.h); packs that were gone through go. NULL: not known, and nothing is rewritten. */
	struct map *rows;
	/* In a write of the tenant: is there something else than chunks that lies in the pack? */
	int (*in_use)(struct tx *tx, void *arg, int64_t tenant_id, int64_t pack_id, bool *yes);
	/* After each piece of work, with the bytes that it read or wrote: false ends the round. */
	bool (*go_on)(void *arg, int64_t bytes);
	void *arg;
	struct repack_totals totals;
	bool ended;                   /* nothing is left to do but to wait */
};

int repack_run(struct repack *r);
/* Adds what was done in another round. */
void repack_count(struct repack_totals *sum, const struct repack_totals *other);

#endif
