/* sha256_x86: the block function of SHA-256 (FIPS 180-4, 6.2) by the SHA instructions of x86. A round waits for the one
 * before it, so one stream leaves half of the unit idle; a second one, interleaved, costs next to nothing. */
#ifndef SD_BASE_SHA256_X86_H
#define SD_BASE_SHA256_X86_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* h: the eight words of the state, as the standard names them. */
#define SHA256_WORDS 8

/* Whether this processor has the instructions; the others may be called only then. */
bool sha256_x86_usable(void);
/* Blocks of 64 bytes. */
void sha256_x86_one(uint32_t h[SHA256_WORDS], const uint8_t *p, size_t blocks);
/* Two streams of as many blocks each. */
void sha256_x86_two(uint32_t ha[SHA256_WORDS], const uint8_t *a, uint32_t hb[SHA256_WORDS], const uint8_t *b,
		    size_t blocks);

/* Four lanes of a rolling sum, h = 2h + table[byte], each over ROLLING_LANE bytes. */
#define ROLLING_LANES      4
#define ROLLING_LANE       512
#define SHA256_BESIDE_BLOCKS (ROLLING_LANES * ROLLING_LANE / 64)

struct rolling {
	const uint64_t *table; /* of 256 */
	uint64_t mask;
	uint64_t h[ROLLING_LANES];
};

/* sha256_x86_two of SHA256_BESIDE_BLOCKS blocks, and beside it the lanes at p: the sums want other parts of the processor, and
 * take a third of the time that they take alone. Whether one of the sums had no bit of the mask. */
bool sha256_x86_two_beside(uint32_t ha[SHA256_WORDS], const uint8_t *a, uint32_t hb[SHA256_WORDS], const uint8_t *b, struct rolling *r,
			   const uint8_t *p);

#endif
