/* sweep: a pass over the index that condemns what nothing refers to, and removes what was condemned in a pass before.
 *
 * Mark and sweep (J. McCarthy, 1960), made safe beside writers by two looks. The caller gathers the ids of all chunks that
 * are referred to (seen), after condemned_before_us; then the pass asks of each row:
 *   - not seen, not condemned: it is condemned. No new upload finds it any more (marks.h).
 *   - not seen, and condemned before condemned_before_us: it is removed. Whoever found it before it was condemned has used it
 *     by then, in a recipe that seen was gathered from, or has to look again (LIMIT_FOUND_MS).
 *   - seen, and condemned: somebody used it all the same, so it is spared.
 * Every write decides anew, by the marks that it finds, and is small.
 */
#ifndef SD_CHUNKS_SWEEP_H
#define SD_CHUNKS_SWEEP_H

#include "base/map.h"
#include "chunks/idset.h"
#include "chunks/marks.h"
#include "chunks/store.h"

struct sweep_totals {
	int64_t chunks, stored_bytes;         /* of all rows that were looked at */
	int64_t garbage, garbage_bytes;       /* of them: not seen, and not removed */
	int64_t condemned, spared, removed, removed_bytes;
};

struct sweep {
	struct db *db;
	struct store *store; /* NULL, or without a finder: hints to rows that are removed stay, which costs their room */
	const struct clock *clock;
	const struct idset *seen;
	int64_t ids_below;   /* rows made later are let alone */
	int64_t condemned_before_us;
	bool dry;            /* counts what would be done */
	/* ---- filled in ---- */
	int64_t after_id;    /* the pass has come so far */
	bool done;
	struct sweep_totals totals;
	struct map rows;     /* pack id -> number of rows that are left in it */
};

/* The next page of rows: a read, and writes of at most SWEEP_WRITE_ROWS. */
enum { SWEEP_PAGE_ROWS = 2000, SWEEP_WRITE_ROWS = 256 };
int sweep_page(struct sweep *s);
void sweep_fini(struct sweep *s);

#endif
