#include "chunks/chunker.h"

#include <string.h>

#include "base/sha256_x86.h"

/* The top bits hang on the whole window; 2^16 is the average, two bits more or fewer is normalisation level 2. */
#define MASK_HARD (UINT64_C(0x3ffff) << 46) /* 18 bits, below the average */
#define MASK_EASY (UINT64_C(0x3fff) << 50)  /* 14 bits, above it */

void gear_init(struct gear *g, const uint8_t key[32])
{
	static const char label[] = "scaidrive gear 1";
	char text[sizeof label];
	memcpy(text, label, sizeof label);
	for (unsigned i = 0; i < 64; i++) {
		text[sizeof label - 1] = (char)i;
		struct sha256 h = hmac_sha256(str_n(key, 32), str_n(text, sizeof text));
		for (unsigned w = 0; w < 4; w++) {
			uint64_t v = 0;
			for (unsigned b = 8; b-- > 0;)
				v = v << 8 | h.b[w * 8 + b];
			g->table[i * 4 + w] = v;
		}
	}
}

void chunker_init(struct chunker *c, const struct gear *gear)
{
	*c = (struct chunker){.gear = gear};
}

/* Rolls over p[*at .. end) and stops behind the first position whose hash has no bit of mask. */
static bool roll(struct chunker *c, const uint8_t *p, size_t *at, size_t end, uint64_t mask)
{
	const uint64_t *table = c->gear->table;
	uint64_t hash = c->hash;
	size_t i = *at;
	bool hit = false;
	while (i < end) {
		hash = (hash << 1) + table[p[i++]];
		if (!(hash & mask)) {
			hit = true;
			break;
		}
	}
	c->hash = hash;
	*at = i;
	return hit;
}

/* The hash behind the CHUNK_WINDOW_BYTES bytes before p: nothing older is left in it. */
static uint64_t hash_before(const uint64_t *table, const uint8_t *p)
{
	uint64_t hash = 0;
	for (const uint8_t *q = p - CHUNK_WINDOW_BYTES; q < p; q++)
		hash = (hash << 1) + table[*q];
	return hash;
}

/* ROLLING_LANES lanes at q at once, for each step waits for the one before it. */
static bool roll_lanes(struct rolling *r, const uint8_t *q)
{
	const uint64_t *table = r->table, mask = r->mask;
	uint64_t a = r->h[0], b = r->h[1], d = r->h[2], e = r->h[3];
	bool hit = false;
	for (size_t k = 0; k < ROLLING_LANE && !hit; k++) {
		a = (a << 1) + table[q[k]];
		b = (b << 1) + table[q[k + ROLLING_LANE]];
		d = (d << 1) + table[q[k + 2 * ROLLING_LANE]];
		e = (e << 1) + table[q[k + 3 * ROLLING_LANE]];
		hit = !(a & mask) || !(b & mask) || !(d & mask) || !(e & mask);
	}
	r->h[3] = e;
	return hit;
}

/* As roll, with nothing found up to *at, in lanes. A hash hangs on its window alone, so they need nothing of each other. Stops
 * before the block in which one is hit, for roll. */
static void roll_over(struct chunker *c, const uint8_t *p, size_t *at, size_t end, uint64_t mask, struct sha256_pair *beside)
{
	enum { BLOCK = ROLLING_LANES * ROLLING_LANE };
	struct rolling r = {.table = c->gear->table, .mask = mask};
	size_t i = *at;
	for (; end - i >= BLOCK; i += BLOCK) {
		const uint8_t *q = p + i;
		for (size_t k = 0; k < BLOCK; k += 64) /* the next block, wherever it lies */
			__builtin_prefetch(q + BLOCK + k);
		r.h[0] = c->hash;
		for (size_t lane = 1; lane < ROLLING_LANES; lane++)
			r.h[lane] = hash_before(r.table, q + lane * ROLLING_LANE);
		bool hit;
		if (!beside || !sha256_pair_beside(beside, &r, q, &hit))
			hit = roll_lanes(&r, q);
		if (hit)
			break;
		c->hash = r.h[ROLLING_LANES - 1];
	}
	*at = i;
}

static bool find(struct chunker *c, const uint8_t *p, size_t *at, size_t end, uint64_t mask, struct sha256_pair *beside)
{
	if (*at < end)
		roll_over(c, p, at, end, mask, beside);
	return roll(c, p, at, end, mask);
}

/* How far the scan goes within n bytes before the chunk is limit bytes long; base is its length at byte 0. */
static size_t upto(size_t base, size_t n, size_t limit)
{
	if (base >= limit)
		return 0;
	return limit - base < n ? limit - base : n;
}

size_t chunker_scan_beside(struct chunker *c, const void *bytes, size_t n, bool *cut, struct sha256_pair *beside)
{
	const uint8_t *p = bytes;
	size_t base = c->length;
	*cut = false;

	/* A cut after L bytes is tested for L >= CHUNK_MIN_BYTES, so byte MIN - 1 is the first to be tested. */
	size_t i = upto(base, n, CHUNK_MIN_BYTES - CHUNK_WINDOW_BYTES);
	for (size_t end = upto(base, n, CHUNK_MIN_BYTES - 1); i < end; i++)
		c->hash = (c->hash << 1) + c->gear->table[p[i]];
	*cut = find(c, p, &i, upto(base, n, CHUNK_AVG_BYTES), MASK_HARD, beside);
	if (!*cut)
		*cut = find(c, p, &i, upto(base, n, CHUNK_MAX_BYTES), MASK_EASY, beside);
	c->length = base + i;
	if (*cut || c->length == CHUNK_MAX_BYTES) {
		*cut = true;
		c->hash = 0;
		c->length = 0;
	}
	return i;
}

size_t chunker_scan(struct chunker *c, const void *p, size_t n, bool *cut)
{
	return chunker_scan_beside(c, p, n, cut, NULL);
}
