/* layout: what the chunks of a version are, and where they lie in it, as GET /sync/steps tells it in short: 8 bytes of each SHA-256,
 * 4 of its length, little-endian. That is enough to find what two versions have alike; should two chunks of one length have the
 * same 8 bytes, what is made from them has another SHA-256 than was said, and goes another way. Pure, no I/O. */
#ifndef SD_CLIENT_LAYOUT_H
#define SD_CLIENT_LAYOUT_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/map.h"

enum {
	LAYOUT_CHUNK_BYTES = 12,
	LAYOUT_CHUNKS_MAX = 1 << 20, /* 64 GiB of chunks of the usual length, held in about 50 MB; what has more goes whole */
};
#define LAYOUT_NONE SIZE_MAX

struct layout {
	struct str text;    /* borrowed */
	int64_t *offsets;   /* where each chunk begins; offsets[n] is the content's length */
	size_t n;
	struct map by_key;  /* by the bytes of a hash: the index + 1 of the first such chunk */
};

/* E_UPSTREAM: it is malformed, or has more than LAYOUT_CHUNKS_MAX. */
int layout_read(struct layout *l, struct str text);
void layout_fini(struct layout *l);
/* A chunk like this, LAYOUT_NONE when there is none; the one at `likely` if that is one. */
size_t layout_find(const struct layout *l, const struct sha256 *hash, uint32_t length, size_t likely);
uint32_t layout_length(const struct layout *l, size_t i);

/* How many bytes of the other's chunks are in l; equal ones count each. */
int64_t layout_common(const struct layout *l, struct str other);

/* Appends. */
void layout_put(struct buf *text, const struct sha256 *hash, uint32_t length);
void layout_put_run(struct buf *text, const struct layout *l, size_t first, size_t count);

#endif
