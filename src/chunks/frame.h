/* frame: how many chunks travel in one body (POST /sync/chunks, the answer of /sync/chunks/fetch).
 *
 *   frame*
 *      0 32  SHA-256 of the bytes
 *     32  4  their number, little-endian: 1..CHUNK_MAX_BYTES
 *     36  n  the bytes
 *
 * The body ends with a frame. In an answer a frame without bytes (number 0) ends what belongs to one item of the request:
 * its hash is that of the item's whole content, or 32 zeros when the item cannot be had. There is no checksum besides the
 * SHA-256: whoever receives a chunk hashes it anyway. Pure, no I/O; server and client use the same code.
 */
#ifndef SD_CHUNKS_FRAME_H
#define SD_CHUNKS_FRAME_H

#include "base/err.h"
#include "base/hash.h"

enum { FRAME_HEAD_BYTES = 36 };

struct frame {
	struct sha256 hash;
	uint32_t length;      /* 0: the end of an item */
	const uint8_t *bytes; /* valid until the next call, and as long as what was fed */
};

/* Zero-initialise. A chunk that comes in pieces is put together in a buffer of CHUNK_MAX_BYTES. */
struct frame_reader {
	uint8_t head[FRAME_HEAD_BYTES];
	size_t have_head, have; /* bytes of the present frame */
	uint8_t *held;
};

void frame_reader_fini(struct frame_reader *r);
/* Takes bytes from the front of *in. *ready: a whole frame is in *out, and there may be more in *in; else *in is used up.
 * E_BAD_REQUEST: the number is too large; the stream cannot be read on. */
int frame_next(struct frame_reader *r, struct str *in, bool *ready, struct frame *out);
/* True between two frames: the stream may end here. */
bool frame_between(const struct frame_reader *r);

void frame_head(uint8_t out[FRAME_HEAD_BYTES], const struct sha256 *hash, uint32_t length);

#endif
