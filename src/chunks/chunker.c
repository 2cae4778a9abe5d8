#include "chunks/chunker.h"

#include <string.h>

#include "base/hash.h"

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

/* The same, with nothing found up to *at: four places at once, for each step waits for the one before it. A hash hangs on
 * its window alone, so the places need nothing of each other. Stops before the block in which one is hit, for roll. */
static void roll_over(struct chunker *c, const uint8_t *p, size_t *at, size_t end, uint64_t mask)
{
	enum { LANE = 512 };
	const uint64_t *table = c->gear->table;
	size_t i = *at;
	for (; end - i >= 4 * LANE; i += 4 * LANE) {
		const uint8_t *q = p + i;
		for (size_t k = 0; k < 4 * LANE; k += 64) /* the next block, wherever it lies */
			__builtin_prefetch(q + 4 * LANE + k);
		uint64_t a = c->hash, b = hash_before(table, q + LANE), d = hash_before(table, q + 2 * LANE),
			 e = hash_before(table, q + 3 * LANE);
		for (size_t k = 0; k < LANE; k++) {
			a = (a << 1) + table[q[k]];
			b = (b << 1) + table[q[k + LANE]];
			d = (d << 1) + table[q[k + 2 * LANE]];
			e = (e << 1) + table[q[k + 3 * LANE]];
			if (!(a & mask) || !(b & mask) || !(d & mask) || !(e & mask))
				goto hit;
		}
		c->hash = e;
	}
hit:
	*at = i;
}

static bool find(struct chunker *c, const uint8_t *p, size_t *at, size_t end, uint64_t mask)
{
	if (*at < end)
		roll_over(c, p, at, end, mask);
	return roll(c, p, at, end, mask);
}

/* How far the scan goes within n bytes before the chunk is limit bytes long; base is its length at byte 0. */
static size_t upto(size_t base, size_t n, size_t limit)
{
	if (base >= limit)
		return 0;
	return limit - base < n ? limit - base : n;
}

size_t chunker_scan(struct chunker *c, const void *bytes, size_t n, bool *cut)
{
	const uint8_t *p = bytes;
	size_t base = c->length;
	*cut = false;

	/* A cut after L bytes is tested for L >= CHUNK_MIN_BYTES, so byte MIN - 1 is the first to be tested. */
	size_t i = upto(base, n, CHUNK_MIN_BYTES - CHUNK_WINDOW_BYTES);
	for (size_t end = upto(base, n, CHUNK_MIN_BYTES - 1); i < end; i++)
		c->hash = (c->hash << 1) + c->gear->table[p[i]];
	*cut = find(c, p, &i, upto(base, n, CHUNK_AVG_BYTES), MASK_HARD);
	if (!*cut)
		*cut = find(c, p, &i, upto(base, n, CHUNK_MAX_BYTES), MASK_EASY);
	c->length = base + i;
	if (*cut || c->length == CHUNK_MAX_BYTES) {
		*cut = true;
		c->hash = 0;
		c->length = 0;
	}
	return i;
}
