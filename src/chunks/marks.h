/* marks: chunks of the index that no new upload may use, and why. For as long as a chunk bears a mark, index_find and
 * index_add take it for not there: who uploads its bytes stores them again, in a row with an id of its own. Recipes hold
 * ids, so contents that use the marked chunk go on using it, and reading it is as it was.
 *
 *  - MARK_CONDEMNED, set and taken back by the collector alone (collect.h): nothing refers to the chunk. Its row goes when no
 *    request can be under way that found it before it was marked.
 *  - MARK_DAMAGED, set by the scrub: its bytes on disk are not what they were. When they come again, the new row is where the
 *    old one's bytes can be had from; the mark goes when the old row's place is good again.
 *
 * A chunk may bear both. since_at is the time of the last mark that was set.
 */
#ifndef SD_CHUNKS_MARKS_H
#define SD_CHUNKS_MARKS_H

#include "chunks/index.h"

enum mark_reason { MARK_CONDEMNED = 1, MARK_DAMAGED = 2 }; /* bits of chunk_marks.reason */

/* In a write of the tenant: n <= INDEX_BATCH chunks of it bear the mark from now on. Repeatable. */
int marks_set(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, enum mark_reason reason, int64_t now_us);
/* Takes it back, from those that bear it. */
int marks_clear(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, enum mark_reason reason);

struct mark {
	int64_t chunk_id, tenant_id, since_us;
};
/* Those that bear the mark, by chunk id, above after_id; *n is less than max only at the end. */
int marks_walk(struct tx *tx, enum mark_reason reason, int64_t after_id, struct mark *marks, size_t max, size_t *n);

#endif
