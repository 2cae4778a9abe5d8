/* hash: SHA-256 (SHA instructions where the CPU has them, OpenSSL's EVP) and XXH3. */
#ifndef SD_BASE_HASH_H
#define SD_BASE_HASH_H

#include "base/str.h"

struct sha256 {
	uint8_t b[32];
};

/* A running digest; heap-allocated. */
struct sha256_state;
struct sha256_state *sha256_new(void);
void sha256_free(struct sha256_state *s);
void sha256_reset(struct sha256_state *s);
void sha256_update(struct sha256_state *s, const void *p, size_t n);
/* The digest of what was fed; the state must be reset or freed afterwards. */
struct sha256 sha256_final(struct sha256_state *s);
struct sha256 sha256_of(const void *p, size_t n);
/* sha256_update and sha256_of the same bytes together, which costs hardly more than one of them where the CPU has SHA
 * instructions. */
struct sha256 sha256_update_of(struct sha256_state *s, const void *p, size_t n);

/* The same, done by and by beside a rolling sum over other bytes (base/sha256_x86.h), which then costs a third. s and the bytes stay
 * until the end. */
struct sha256_pair {
	struct sha256_state *s;
	const uint8_t *p;
	size_t n, from, blocks, done; /* s is led from p + from on, the other from p; done of the blocks */
	uint32_t one[8];
};
void sha256_pair_begin(struct sha256_pair *pair, struct sha256_state *s, const void *p, size_t n);
/* Goes on with both; false: nothing was done, the caller rolls alone. Else *hit is what sha256_x86_two_beside says. */
struct rolling;
bool sha256_pair_beside(struct sha256_pair *pair, struct rolling *r, const uint8_t *p, bool *hit);
struct sha256 sha256_pair_end(struct sha256_pair *pair);

static inline bool sha256_eq(const struct sha256 *a, const struct sha256 *b)
{
	return memcmp(a->b, b->b, 32) == 0;
}

/* HMAC-SHA-256 (RFC 2104). */
struct sha256 hmac_sha256(struct str key, struct str data);
/* Constant-time comparison of n bytes. */
bool hash_equal_ct(const void *a, const void *b, size_t n);
uint64_t xxh3_64(const void *p, size_t n);
/* Another one for each seed. */
uint64_t xxh3_64_seeded(const void *p, size_t n, uint64_t seed);
/* The same of bytes that come in parts. xxh3_final frees the state. */
struct xxh3_state;
struct xxh3_state *xxh3_new(void);
void xxh3_update(struct xxh3_state *s, const void *p, size_t n);
uint64_t xxh3_final(struct xxh3_state *s);
void xxh3_free(struct xxh3_state *s);

#endif
