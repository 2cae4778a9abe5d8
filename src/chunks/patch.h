/* patch: a chunk told as a difference from chunks of other versions (D15), and the signatures from which it is made.
 *
 * The receiver of a patch has the chunks, its maker has signatures of them. Signatures of a chunk of n bytes:
 *
 *   4 n      then for each block of PATCH_BLOCK_BYTES, the last of which may be shorter:    4 rolling    8 strong
 *
 * rolling is the polynomial hash of Karp and Rabin (IBM J. Res. Dev. 1987) modulo 2^32: h = 0, then for each byte
 * h = h * 0xc2b2ae3d + byte. strong is XXH3-64. A patch:
 *
 *   4 length of the chunk that it makes, 1..CHUNK_MAX_BYTES; then, until that is reached:
 *   0x01   4 length   bytes                                     these bytes
 *   0x02   2 source   4 chunk   4 offset   4 length             bytes of one chunk, by its number in a source's recipe
 *
 * Numbers are little-endian. Lengths are at least 1. A copy whose chunk is not that of the copy before it has the receiver
 * read that chunk; what is read so is at most PATCH_READ_MAX bytes, lest a short patch cost much. Both sides of the wire know
 * the chunk's SHA-256, so a patch need not be right, only harmless. Pure, no I/O; server and client use the same code.
 */
#ifndef SD_CHUNKS_PATCH_H
#define SD_CHUNKS_PATCH_H

#include "base/buf.h"
#include "base/err.h"
#include "chunks/chunker.h"

enum {
	PATCH_BLOCK_BYTES = 1024,
	PATCH_READ_MAX = 4 << 20,
	PATCH_MAX_BYTES = CHUNK_MAX_BYTES + 9, /* longer than a chunk as one literal; a longer one is refused */
};

/* Bytes that the signatures of a chunk of n bytes take. */
static inline size_t signature_bytes(uint32_t n)
{
	return 4 + ((size_t)n + PATCH_BLOCK_BYTES - 1) / PATCH_BLOCK_BYTES * 12;
}
/* Appends the signatures of a chunk, n > 0. */
void signature_put(struct buf *b, const void *chunk, size_t n);

/* ---- making ---- */

/* Signatures of chunks that a patch may copy from. About 40 bytes a block. */
struct patch_base;
struct patch_base *patch_base_new(void);
void patch_base_free(struct patch_base *b);
/* Takes a chunk's signatures from the front of *in, which is not empty: chunk number `chunk` of the recipe of source number
 * `source` (at most UINT16_MAX). Add chunks in file order. *length: the chunk's. E_BAD_REQUEST: these are none. */
int patch_base_add(struct patch_base *b, uint32_t source, uint32_t chunk, struct str *in, uint32_t *length);
/* Appends a patch that makes these bytes, n <= CHUNK_MAX_BYTES, and returns true; or false, and nothing is appended: it
 * would not be shorter than they are. */
bool patch_make(const struct patch_base *b, const void *p, size_t n, struct buf *out);

/* ---- applying ---- */

/* The bytes of a source's chunk, valid until the next call. */
typedef int patch_chunk_fn(void *arg, uint32_t source, uint32_t chunk, struct str *bytes);
/* Makes the chunk at out, which has room for CHUNK_MAX_BYTES. E_BAD_REQUEST: the patch is malformed, makes another length than it
 * says, copies from beyond a chunk's end or reads too much; or what fn returned. */
int patch_apply(struct str patch, patch_chunk_fn *fn, void *arg, void *out, size_t *n);

#endif
