#include "base/sha256_x86.h"

#include "base/must.h"

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>

#define WITH_SHA __attribute__((target("sha,sse4.1")))
#define INLINE   WITH_SHA static inline __attribute__((always_inline))

bool sha256_x86_usable(void)
{
	unsigned a, b, c, d;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1))
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA);
}

/* FIPS 180-4, 4.2.2 */
static const uint32_t constants[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The state in the order in which the instructions want it. */
struct state {
	__m128i abef, cdgh;
};

INLINE struct state load(const uint32_t h[SHA256_WORDS])
{
	return (struct state){
	    _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]),
	    _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]),
	};
}

INLINE void save(struct state s, uint32_t h[SHA256_WORDS])
{
	uint32_t v[8];
	_mm_storeu_si128((__m128i *)v, s.abef);
	_mm_storeu_si128((__m128i *)(v + 4), s.cdgh);
	h[0] = v[3], h[1] = v[2], h[4] = v[1], h[5] = v[0];
	h[2] = v[7], h[3] = v[6], h[6] = v[5], h[7] = v[4];
}

INLINE struct state add(struct state a, struct state b)
{
	return (struct state){_mm_add_epi32(a.abef, b.abef), _mm_add_epi32(a.cdgh, b.cdgh)};
}

/* The first sixteen message words, big-endian in the block. */
INLINE void words(__m128i w[4], const uint8_t *p)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
	for (int i = 0; i < 4; i++)
		w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(p + 16 * i)), swap);
}

/* Rounds 4i to 4i + 3, and the message words for those sixteen later. */
INLINE struct state rounds(struct state s, __m128i w[4], int i)
{
	__m128i k = _mm_add_epi32(w[i & 3], _mm_load_si128((const __m128i *)(constants + 4 * i)));
	__m128i half = _mm_sha256rnds2_epu32(s.cdgh, s.abef, k);
	s = (struct state){_mm_sha256rnds2_epu32(s.abef, half, _mm_shuffle_epi32(k, 0x0e)), half};
	if (i < 12) {
		__m128i *a = &w[i & 3], b = w[(i + 1) & 3], c = w[(i + 2) & 3], d = w[(i + 3) & 3];
		*a = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(*a, b), _mm_alignr_epi8(d, c, 4)), d);
	}
	return s;
}

WITH_SHA void sha256_x86_one(uint32_t h[SHA256_WORDS], const uint8_t *p, size_t blocks)
{
	struct state s = load(h);
	for (; blocks; blocks--, p += 64) {
		struct state before = s;
		__m128i w[4];
		words(w, p);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++)
			s = rounds(s, w, i);
		s = add(s, before);
	}
	save(s, h);
}

WITH_SHA void sha256_x86_two(uint32_t ha[SHA256_WORDS], const uint8_t *a, uint32_t hb[SHA256_WORDS], const uint8_t *b,
			     size_t blocks)
{
	struct state s = load(ha), t = load(hb);
	for (; blocks; blocks--, a += 64, b += 64) {
		struct state s0 = s, t0 = t;
		__m128i v[4], w[4];
		words(v, a);
		words(w, b);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			s = rounds(s, v, i);
			t = rounds(t, w, i);
		}
		s = add(s, s0);
		t = add(t, t0);
	}
	save(s, ha);
	save(t, hb);
}

WITH_SHA bool sha256_x86_two_beside(uint32_t ha[SHA256_WORDS], const uint8_t *a, uint32_t hb[SHA256_WORDS], const uint8_t *b,
				    struct rolling *r, const uint8_t *p)
{
	struct state s = load(ha), t = load(hb);
	const uint64_t *table = r->table, mask = r->mask;
	uint64_t h0 = r->h[0], h1 = r->h[1], h2 = r->h[2], h3 = r->h[3];
	bool hit = false;
	for (int block = 0; block < SHA256_BESIDE_BLOCKS; block++, a += 64, b += 64, p += 16) {
		struct state s0 = s, t0 = t;
		__m128i v[4], w[4];
		words(v, a);
		words(w, b);
#pragma GCC unroll 16
		for (int i = 0; i < 16; i++) {
			s = rounds(s, v, i);
			h0 = (h0 << 1) + table[p[i]];
			h1 = (h1 << 1) + table[p[i + ROLLING_LANE]];
			if (!(h0 & mask) || !(h1 & mask)) /* branches, seldom taken, cost less than sums of conditions */
				hit = true;
			t = rounds(t, w, i);
			h2 = (h2 << 1) + table[p[i + 2 * ROLLING_LANE]];
			h3 = (h3 << 1) + table[p[i + 3 * ROLLING_LANE]];
			if (!(h2 & mask) || !(h3 & mask))
				hit = true;
		}
		s = add(s, s0);
		t = add(t, t0);
	}
	save(s, ha);
	save(t, hb);
	r->h[0] = h0, r->h[1] = h1, r->h[2] = h2, r->h[3] = h3;
	return hit;
}

#else

bool sha256_x86_usable(void)
{
	return false;
}

void sha256_x86_one(uint32_t h[SHA256_WORDS], const uint8_t *p, size_t blocks)
{
	(void)h, (void)p, (void)blocks;
	must(false);
}

void sha256_x86_two(uint32_t ha[SHA256_WORDS], const uint8_t *a, uint32_t hb[SHA256_WORDS], const uint8_t *b,
		    size_t blocks)
{
	(void)ha, (void)a, (void)hb, (void)b, (void)blocks;
	must(false);
}

bool sha256_x86_two_beside(uint32_t ha[SHA256_WORDS], const uint8_t *a, uint32_t hb[SHA256_WORDS], const uint8_t *b, struct rolling *r,
			   const uint8_t *p)
{
	(void)ha, (void)a, (void)hb, (void)b, (void)r, (void)p;
	must(false);
	return false;
}

#endif
