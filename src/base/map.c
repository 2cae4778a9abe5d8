#include "base/map.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/must.h"

/* Linear probing with backward-shift deletion (Knuth, TAOCP 3, 6.4 R). A NULL value marks a free slot. */

__extension__ typedef unsigned __int128 wide;

static struct {
	uint64_t add, times;
} secret = {UINT64_C(0x2d358dccaa6c78a5), UINT64_C(0x9e3779b97f4a7c15)};

void map_draw_secret(struct rng *rng)
{
	secret.add = rng_u64(rng);
	secret.times = rng_u64(rng) | 1;
}

uint64_t map_key(const void *p, size_t n)
{
	return xxh3_64_seeded(p, n, secret.add);
}

/* Both halves of the product: each bit of either hangs on all of the key below or above it (Y. Wang, wyhash). */
static size_t mix(uint64_t k)
{
	wide product = (wide)(k ^ secret.add) * secret.times;
	return (size_t)(product ^ product >> 64);
}

static size_t mix_str(struct str key)
{
	return (size_t)map_key(key.p, key.n);
}

void map_fini(struct map *m)
{
	free(m->slots);
	*m = (struct map){0};
}

static struct map_slot *map_find(const struct map *m, uint64_t key)
{
	size_t i = mix(key) & (m->cap - 1);
	while (m->slots[i].value && m->slots[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

void *map_get(const struct map *m, uint64_t key)
{
	return m->cap ? map_find(m, key)->value : NULL;
}

void *map_put(struct map *m, uint64_t key, void *value)
{
	must(value != NULL);
	if ((m->count + 1) * 4 > m->cap * 3) {
		struct map bigger = {.cap = m->cap ? m->cap * 2 : 16, .count = m->count};
		bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
		must(bigger.slots != NULL);
		for (size_t i = 0; i < m->cap; i++)
			if (m->slots[i].value)
				*map_find(&bigger, m->slots[i].key) = m->slots[i];
		free(m->slots);
		*m = bigger;
	}
	struct map_slot *s = map_find(m, key);
	void *old = s->value;
	*s = (struct map_slot){key, value};
	m->count += old == NULL;
	return old;
}

void *map_del(struct map *m, uint64_t key)
{
	if (!m->cap)
		return NULL;
	struct map_slot *s = map_find(m, key);
	void *old = s->value;
	if (!old)
		return NULL;
	size_t hole = (size_t)(s - m->slots), mask = m->cap - 1;
	for (size_t i = (hole + 1) & mask; m->slots[i].value; i = (i + 1) & mask) {
		size_t home = mix(m->slots[i].key) & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].value = NULL;
	m->count--;
	return old;
}

bool map_next(const struct map *m, size_t *i, uint64_t *key, void **value)
{
	for (; *i < m->cap; ++*i)
		if (m->slots[*i].value) {
			*key = m->slots[*i].key;
			*value = m->slots[*i].value;
			++*i;
			return true;
		}
	return false;
}

void smap_fini(struct smap *m)
{
	free(m->slots);
	*m = (struct smap){0};
}

static struct smap_slot *smap_find(const struct smap *m, struct str key)
{
	size_t i = mix_str(key) & (m->cap - 1);
	while (m->slots[i].value && !str_eq(m->slots[i].key, key))
		i = (i + 1) & (m->cap - 1);
	return &m->slots[i];
}

void *smap_get(const struct smap *m, struct str key)
{
	return m->cap ? smap_find(m, key)->value : NULL;
}

void *smap_put(struct smap *m, struct str key, void *value)
{
	must(value != NULL);
	if ((m->count + 1) * 4 > m->cap * 3) {
		struct smap bigger = {.cap = m->cap ? m->cap * 2 : 16, .count = m->count};
		bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
		must(bigger.slots != NULL);
		for (size_t i = 0; i < m->cap; i++)
			if (m->slots[i].value)
				*smap_find(&bigger, m->slots[i].key) = m->slots[i];
		free(m->slots);
		*m = bigger;
	}
	struct smap_slot *s = smap_find(m, key);
	void *old = s->value;
	*s = (struct smap_slot){key, value};
	m->count += old == NULL;
	return old;
}

void *smap_del(struct smap *m, struct str key)
{
	if (!m->cap)
		return NULL;
	struct smap_slot *s = smap_find(m, key);
	void *old = s->value;
	if (!old)
		return NULL;
	size_t hole = (size_t)(s - m->slots), mask = m->cap - 1;
	for (size_t i = (hole + 1) & mask; m->slots[i].value; i = (i + 1) & mask) {
		size_t home = mix_str(m->slots[i].key) & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].value = NULL;
	m->count--;
	return old;
}

bool smap_next(const struct smap *m, size_t *i, struct str *key, void **value)
{
	for (; *i < m->cap; ++*i)
		if (m->slots[*i].value) {
			*key = m->slots[*i].key;
			*value = m->slots[*i].value;
			++*i;
			return true;
		}
	return false;
}
