/* frame: how many chunks travel in one body (POST /sync/chunks, the answer of /sync/chunks/fetch).
 *
 *   frame*
 *      0 32  SHA-256 of the chunk
 *     32  4  number of the bytes that follow, and flags; little-endian
 *     36  n  the bytes
 *
 * Without flags these are the chunk, 1..CHUNK_MAX_BYTES. With FRAME_ZSTD they are one zstd frame that declares the size of
 * its content (chunks/codec.h). FRAME_BASED: they rest on chunks that the receiver has. In a request their content is a patch
 * (chunks/patch.h); in an answer, where FRAME_ZSTD always comes with it, chunks of the base are the prefix with which the
 * zstd frame was made, one behind the other.
 *
 * The body ends with a frame. In an answer a frame without bytes (number 0) ends what belongs to one item of the request:
 * its hash is that of the item's whole content, or 32 zeros when the item cannot be had. There is no checksum besides the
 * SHA-256: whoever receives a chunk hashes it anyway. Pure, no I/O; server and client use the same code.
 */
#ifndef SD_CHUNKS_FRAME_H
#define SD_CHUNKS_FRAME_H

#include "base/err.h"
#include "base/hash.h"
#include "chunks/chunker.h"

enum {
	FRAME_HEAD_BYTES = 36,
	FRAME_MAX_BYTES = CHUNK_MAX_BYTES + 9, /* with flags: a patch may be a little longer than its chunk */
};

#define FRAME_BASED (UINT32_C(1) << 31)
#define FRAME_ZSTD (UINT32_C(1) << 30)

struct frame {
	struct sha256 hash;
	uint32_t length;      /* of bytes; 0: the end of an item */
	uint32_t flags;
	const uint8_t *bytes; /* valid until the next call, and as long as what was fed */
};

/* Zero-initialise. A frame that comes in pieces is put together in a buffer of FRAME_MAX_BYTES. */
struct frame_reader {
	uint32_t allowed; /* flags that may come */
	uint8_t head[FRAME_HEAD_BYTES];
	size_t have_head, have; /* bytes of the present frame */
	uint8_t *held;
};

void frame_reader_fini(struct frame_reader *r);
/* Takes bytes from the front of *in. *ready: a whole frame is in *out, and there may be more in *in; else *in is used up.
 * E_BAD_REQUEST: the number is too large, or flags are not allowed; the stream cannot be read on. */
int frame_next(struct frame_reader *r, struct str *in, bool *ready, struct frame *out);
/* True between two frames: the stream may end here. */
bool frame_between(const struct frame_reader *r);

/* number: of the bytes that follow, and flags. */
void frame_head(uint8_t out[FRAME_HEAD_BYTES], const struct sha256 *hash, uint32_t number);

#endif
