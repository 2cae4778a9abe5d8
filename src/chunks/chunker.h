/* chunker: content-defined cut points. The same code runs in the server and the client; it does no I/O.
 *
 * FastCDC with normalised chunking, level 2 (Xia et al., "FastCDC", USENIX ATC 2016, and "The Design of Fast
 * Content-Defined Chunking", IEEE TPDS 2020): a Gear hash, a harder mask below the average length, an easier one
 * above it. Two things differ:
 *  - The 256 Gear numbers come from a tenant's key, so chunk lengths tell an outsider nothing about known content.
 *  - The hash is 64 bits wide and shifts by one bit a byte, so it depends on the last 64 bytes alone. The bytes below
 *    the minimum are skipped except the last 64, which warm it up: whether a position can be a cut is a property of
 *    the 64 bytes before it, and not of where the chunk began. A scan in several lanes finds the same cuts.
 *
 * The parameters, the masks and the key derivation are frozen: changing one loses all deduplication with what is
 * stored. chunker_test.c has known answers.
 */
#ifndef SD_CHUNKS_CHUNKER_H
#define SD_CHUNKS_CHUNKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

#define CHUNK_MIN_BYTES (16 << 10) /* the last chunk of a file may be shorter */
#define CHUNK_AVG_BYTES (64 << 10)
#define CHUNK_MAX_BYTES (256 << 10)
#define CHUNK_WINDOW_BYTES 64

/* The Gear numbers of one key; 2 KiB. */
struct gear {
	uint64_t table[256];
};

/* table[4i .. 4i+3] are the little-endian words of HMAC-SHA-256(key, "scaidrive gear 1" and the byte i). */
void gear_init(struct gear *g, const uint8_t key[32]);

/* A scan in progress. gear is borrowed. */
struct chunker {
	const struct gear *gear;
	uint64_t hash;
	size_t length; /* bytes of the present chunk so far */
};

void chunker_init(struct chunker *c, const struct gear *gear);
/* Scans the next n bytes of the file. When a chunk ends within them: sets *cut, returns how many of the bytes belong
 * to it, and stands at the start of the next chunk. Otherwise returns n. The cuts do not depend on how a file is split
 * into calls. What is left at the end of the file is the last chunk. */
size_t chunker_scan(struct chunker *c, const void *p, size_t n, bool *cut);
/* The same; meanwhile the digests of other bytes go on (base/hash.h). */
size_t chunker_scan_beside(struct chunker *c, const void *p, size_t n, bool *cut, struct sha256_pair *beside);

#endif
