/* places: where a hash stands in a list of hashes. */
#ifndef SD_BASE_PLACES_H
#define SD_BASE_PLACES_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/map.h"

struct places {
	const struct sha256 *hashes;
	struct map first; /* short key of a hash -> the last place with it + 1 */
	size_t *next;     /* the place + 1 of another hash with the same short key */
};

/* hashes is borrowed. */
void places_init(struct places *p, struct arena *a, const struct sha256 *hashes, size_t n);
void places_fini(struct places *p);
/* All places of a hash, in turn: for (size_t i = 0; places_next(p, &hash, &i);) uses p->hashes[i - 1]. */
bool places_next(const struct places *p, const struct sha256 *hash, size_t *i);

#endif
