/* map: an open-addressing hash table from 64-bit keys, or byte strings, to pointers or numbers. Not thread-safe. */
#ifndef SD_BASE_MAP_H
#define SD_BASE_MAP_H

#include "base/rng.h"
#include "base/str.h"

/* Where a key stands hangs on a secret, so that nobody can choose keys (the beginnings of hashes, say) that all meet in one
 * place. Programs that talk to peers draw it first of all, before there is any map. Until then it is a fixed number, and
 * what is tested with seeds is the same each time. */
void map_draw_secret(struct rng *rng);
/* A key for bytes that somebody may have chosen. */
uint64_t map_key(const void *p, size_t n);

/* uint64 -> void *. Keys may be anything; values must not be NULL. Zero-initialise. */
struct map_slot {
	uint64_t key;
	void *value;
};

struct map {
	struct map_slot *slots;
	size_t count, cap; /* cap is 0 or a power of two */
};

void map_fini(struct map *m);
void *map_get(const struct map *m, uint64_t key);
/* Sets the value; returns the one it replaced, or NULL. */
void *map_put(struct map *m, uint64_t key, void *value);
/* Removes; returns the value, or NULL when there was none. */
void *map_del(struct map *m, uint64_t key);
/* Iterates in table order: for (size_t i = 0; map_next(m, &i, &key, &value);). Not across changes. */
bool map_next(const struct map *m, size_t *i, uint64_t *key, void **value);

/* str -> void *: keys are borrowed and must outlive the entry. Zero-initialise. */
struct smap_slot {
	struct str key;
	void *value;
};

struct smap {
	struct smap_slot *slots;
	size_t count, cap;
};

void smap_fini(struct smap *m);
void *smap_get(const struct smap *m, struct str key);
void *smap_put(struct smap *m, struct str key, void *value);
void *smap_del(struct smap *m, struct str key);
bool smap_next(const struct smap *m, size_t *i, struct str *key, void **value);

#endif
