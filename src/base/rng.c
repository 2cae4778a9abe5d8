#include "base/rng.h"

#include <string.h>
#include <sys/random.h>

#include "base/must.h"

static void system_fill(struct rng *r, void *out, size_t n)
{
	(void)r;
	for (size_t done = 0; done < n;) {
		ssize_t got = getrandom((char *)out + done, n - done, 0);
		must(got > 0 || done < n);
		if (got > 0)
			done += (size_t)got;
	}
}

struct rng rng_system = {system_fill};

static uint64_t next(struct rng_seeded *s)
{
	uint64_t z = (s->state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void seeded_fill(struct rng *r, void *out, size_t n)
{
	struct rng_seeded *s = (struct rng_seeded *)r;
	for (size_t done = 0; done < n; done += 8) {
		uint64_t v = next(s);
		memcpy((char *)out + done, &v, n - done < 8 ? n - done : 8);
	}
}

void rng_seeded_init(struct rng_seeded *r, uint64_t seed)
{
	r->base.fill = seeded_fill;
	r->state = seed;
}

uint64_t rng_u64(struct rng *r)
{
	uint64_t v;
	r->fill(r, &v, sizeof v);
	return v;
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
	must(bound > 0);
	uint64_t limit = UINT64_MAX - UINT64_MAX % bound, v;
	do
		v = rng_u64(r);
	while (v >= limit);
	return v % bound;
}
