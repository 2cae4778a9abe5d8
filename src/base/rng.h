/* rng: the seam for randomness. Secrets come from the system; a simulator supplies a seeded one. */
#ifndef SD_BASE_RNG_H
#define SD_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
	void (*fill)(struct rng *, void *out, size_t n);
};

/* getrandom(2); safe from any thread. */
extern struct rng rng_system;

/* A seeded generator for tests and jitter (splitmix64, Steele et al. 2014); never for secrets. Not thread-safe. */
struct rng_seeded {
	struct rng base;
	uint64_t state;
};

void rng_seeded_init(struct rng_seeded *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);

#endif
