#include "chunks/idset.h"

#include <stdlib.h>
#include <string.h>

#include "base/must.h"

enum { BITS_AN_ID = 12, BLOCK_BYTES = 64, PROBES = 7 };

struct idset {
	uint64_t n_blocks, seed;
	uint64_t (*blocks)[BLOCK_BYTES / 8];
};

struct idset *idset_new(int64_t expected, uint64_t seed)
{
	struct idset *s = calloc(1, sizeof *s);
	int64_t most = IDSET_MAX_BYTES / BLOCK_BYTES, n = expected / (BLOCK_BYTES * 8 / BITS_AN_ID) + 1;
	must(s != NULL && expected >= 0);
	s->n_blocks = (uint64_t)(n < most ? n : most);
	s->seed = seed;
	s->blocks = aligned_alloc(BLOCK_BYTES, s->n_blocks * BLOCK_BYTES);
	must(s->blocks != NULL);
	memset(s->blocks, 0, s->n_blocks * BLOCK_BYTES);
	return s;
}

void idset_free(struct idset *s)
{
	if (!s)
		return;
	free(s->blocks);
	free(s);
}

/* The finalizer of splitmix64 (Steele et al. 2014). */
static uint64_t mixed(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t *block_of(const struct idset *s, uint64_t hash)
{
	return s->blocks[((hash >> 32) * s->n_blocks) >> 32];
}

void idset_add(struct idset *s, int64_t id)
{
	uint64_t hash = mixed((uint64_t)id ^ s->seed), bits = mixed(hash);
	uint64_t *block = block_of(s, hash);
	for (unsigned i = 0; i < PROBES; i++, bits >>= 9)
		block[bits >> 6 & 7] |= UINT64_C(1) << (bits & 63);
}

bool idset_has(const struct idset *s, int64_t id)
{
	uint64_t hash = mixed((uint64_t)id ^ s->seed), bits = mixed(hash);
	const uint64_t *block = block_of(s, hash);
	for (unsigned i = 0; i < PROBES; i++, bits >>= 9)
		if (!(block[bits >> 6 & 7] >> (bits & 63) & 1))
			return false;
	return true;
}

int64_t idset_bytes(const struct idset *s)
{
	return (int64_t)(s->n_blocks * BLOCK_BYTES);
}
