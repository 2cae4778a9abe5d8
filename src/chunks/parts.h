/* parts: an ingest in parts, so that what was fed outlives the ingest.
 *
 * A part holds the whole chunks that were fed since the part before. The bytes behind the last cut are written to the
 * pack as well, so that all that was fed is durable; a later ingest, of this run or another, is shown the parts again
 * (their bytes are hashed and nothing else), is fed the tail, and stands where the first one stood: the chunks of a
 * file do not depend on where it was parted.
 *
 * A part is durable after content_sync, indexed by content_commit (parts in order), and then told to ingest_keep, so
 * that ingest_abort leaves its bytes. Only content_write and content_sync may run beside a feed. After a fault the ingest
 * is dead: abort it.
 */
#ifndef SD_CHUNKS_PARTS_H
#define SD_CHUNKS_PARTS_H

#include "chunks/index.h"
#include "chunks/store.h"

enum { INGEST_TAIL_BYTES = 40 };

/* Where the bytes lie that no chunk has ended yet. */
struct ingest_tail {
	size_t n; /* 0 (there are none) or INGEST_TAIL_BYTES */
	uint8_t b[INGEST_TAIL_BYTES];
};

/* ingest_feed without writing: the bytes have to stay where they are until the next part was written or freed. */
int ingest_lend(struct ingest *in, const void *p, size_t n);
/* last: the file ends here; then there is no tail, and the part has the SHA-256 of the whole file. *part is freed with
 * content_free, before the ingest. */
int ingest_cut(struct ingest *in, bool last, struct content **part, struct ingest_tail *tail);
/* Writes what the part left to be written, and that and all written before becomes durable. */
int content_sync(struct store *s, struct content *part);
/* The first half of it. */
int content_write(struct content *part);
void ingest_keep(struct ingest *in, const struct content *part);

/* Where the bytes of a tail lie; pack_id, offset, xxh and both lengths of *place are set. E_CORRUPT. */
int ingest_tail_place(const struct ingest_tail *tail, struct chunk_place *place);
/* Into a new ingest: the bytes of all parts, in order, then the tail. E_CORRUPT: the tail is damaged. */
void ingest_resume(struct ingest *in, const void *p, size_t n);
int ingest_resume_tail(struct ingest *in, const struct ingest_tail *tail);

/* One recipe out of those of all parts, in order. recipe begins empty and is borrowed. */
struct recipe_join {
	struct buf *recipe;
	int64_t previous, size_bytes;
};
void recipe_join_begin(struct recipe_join *j, struct buf *recipe);
/* E_CORRUPT. */
int recipe_join_add(struct recipe_join *j, struct str part);

#endif
