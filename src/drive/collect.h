/* collect: the garbage collector. Chunks that nothing refers to any more are found by mark and sweep (D12), and packs that are
 * dead for the most part are rewritten.
 *
 * A collection marks (the ids of all chunks that roots refer to: collect_roots.c), sweeps (chunks/sweep.h), and looks after the
 * packs (chunks/repack.h). It is a job (job.h) and works a little each round, at a pace that leaves the machine to requests; how
 * far it is stands in memory, so a restart begins a new one, which costs time and nothing else. What a collection condemns,
 * the next one removes that begins LIMIT_CONDEMNED_MS later, if it is still unused by then.
 *
 * Why nothing goes that somebody is about to use:
 *  - An upload finds no chunk that is condemned, so it stores it again. If it found it before, the hour is for its version to
 *    be there; one that takes longer looks again as it commits (content_commit). In that write it takes a mark back, or is told
 *    that the chunk is gone.
 *  - A request that copies chunks from a version or a lease may outlive those by minutes: removed versions are kept for an hour
 *    (removed_versions), leases for an hour behind their end. Older look-ups make no version (version_put.had_us).
 *  - Roots are read in the order in which content moves: leases, pieces, parts of uploads, versions, removed versions. So
 *    what leaves one while they are read is met in another.
 *  - Rows are added to live packs alone, tails of uploads as well, in the same transactions that see a pack's state (D20: a
 *    tenant's writes are one after the other, on every node).
 */
#ifndef SD_DRIVE_COLLECT_H
#define SD_DRIVE_COLLECT_H

#include "chunks/repack.h"
#include "chunks/sweep.h"
#include "drive/job.h"

enum {
	COLLECT_PERIOD_S = 300,
	COLLECT_ROUND_S = 60,
	COLLECT_EVERY_S = 6 * 3600,  /* from one collection's beginning to the next's */
	COLLECT_PACK_SPARE_S = 3600, /* packs are let alone for LIMIT_PACK_OPEN_MS, LIMIT_INGEST_MS and this */
	COLLECT_FORGET_S = 48 * 3600, /* uploads that may know of a pack end before */
};

enum collect_phase { COLLECT_IDLE, COLLECT_COUNT, COLLECT_MARK, COLLECT_SWEEP, COLLECT_PACKS, COLLECT_PHASES };
/* "idle", "count", "mark", "sweep", "packs" */
extern const char *const collect_phases[COLLECT_PHASES];

struct collect_totals {
	int64_t began_us, ended_us; /* wall clock; ended 0: it goes on */
	int64_t chunks;             /* in the index, as it began */
	int64_t roots, references;  /* recipes and leases that were read, and chunks in them */
	struct sweep_totals sweep;
	struct repack_totals packs;
};

/* One collection. */
struct collection;
struct collection_config {
	struct drive *drive;
	bool alone;  /* no request is under way anywhere, nor was when the database was opened: nothing needs to be spared */
	bool dry;
	/* After each piece of work, with the bytes of packs that it read or wrote: false ends collection_go_on. NULL: go on. */
	bool (*go_on)(void *arg, int64_t bytes);
	void *arg;
};
struct collection *collection_new(const struct collection_config *config);
/* Works until it is at its end (*done) or go_on says no. After a fault it may go on where it was. */
int collection_go_on(struct collection *c, bool *done);
void collection_totals(const struct collection *c, struct collect_totals *out);
void collection_free(struct collection *c);

/* What the collections of this process did, and how far its present one is. */
struct collect_stats {
	enum collect_phase phase;
	int64_t done, all; /* rows of the index in this phase; all 0: not known */
	struct collect_totals last; /* the last one that ended, on whichever node: when, and the bytes that it found */
	struct sweep_totals swept;  /* sums over all */
	struct repack_totals packed;
};
void collect_stats(struct drive *d, struct collect_stats *out);
/* At the end of the drive. */
void collect_close(struct drive *d);

#endif
