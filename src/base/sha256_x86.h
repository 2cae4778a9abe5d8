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

#endif
