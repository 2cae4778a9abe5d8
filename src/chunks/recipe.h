/* recipe: which chunks a file consists of, as a compact blob (D12).
 *
 *   byte     1, the version
 *   chunk*   zigzag varint: chunk id minus the previous one (the first: minus 0); varint: length in bytes
 *
 * An empty file is the version byte alone. Lengths are 1..CHUNK_MAX_BYTES.
 */
#ifndef SD_CHUNKS_RECIPE_H
#define SD_CHUNKS_RECIPE_H

#include "base/buf.h"
#include "base/err.h"

#define RECIPE_VERSION 1

struct recipe_writer {
	struct buf *out;
	int64_t previous;
};

/* Appends to out, which is borrowed. */
void recipe_begin(struct recipe_writer *w, struct buf *out);
void recipe_add(struct recipe_writer *w, int64_t chunk_id, uint32_t length);

struct recipe_reader {
	struct str rest;
	int64_t previous;
	int64_t offset; /* of the next chunk in the file */
};

/* E_CORRUPT when this is no recipe. The blob is borrowed. */
int recipe_open(struct recipe_reader *r, struct str recipe);
/* The next chunk; false in *more at the end. E_CORRUPT when malformed. */
int recipe_next(struct recipe_reader *r, bool *more, int64_t *chunk_id, uint32_t *length);
/* Walks all of it: the number of chunks and of bytes. */
int recipe_measure(struct str recipe, size_t *n_chunks, int64_t *size_bytes);

#endif
