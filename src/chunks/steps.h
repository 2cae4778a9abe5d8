/* steps: how a client says what a content consists of (POST /sync/versions), one step behind the other:
 *
 *   0x01  32 SHA-256   4 length              one chunk, 1..CHUNK_MAX_BYTES bytes long
 *   0x02   2 source    4 first    4 count    chunks [first, first + count) of a source's recipe; count >= 1
 *
 * Numbers are little-endian. Sources are the versions that the request names, counted from 0. Pure, no I/O; server and
 * client use the same code.
 */
#ifndef SD_CHUNKS_STEPS_H
#define SD_CHUNKS_STEPS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"

struct step {
	bool is_run;
	struct sha256 hash; /* a chunk */
	uint32_t length;
	uint32_t source, first, count; /* a run */
};

/* Takes a step from the front of *in, which is not empty. E_BAD_REQUEST: there is none, or it is cut off. */
int step_next(struct str *in, struct step *out);

void step_put_chunk(struct buf *b, const struct sha256 *hash, uint32_t length);
void step_put_run(struct buf *b, uint32_t source, uint32_t first, uint32_t count);

#endif
