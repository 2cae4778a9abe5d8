#include "base/places.h"

/* Of all bytes: hashes that are only claimed may begin alike. */
static uint64_t short_key(const struct sha256 *hash)
{
	return map_key(hash->b, sizeof hash->b);
}

void places_init(struct places *p, struct arena *a, const struct sha256 *hashes, size_t n)
{
	*p = (struct places){.hashes = hashes, .next = arena_many(a, n + 1, size_t)};
	for (size_t i = 0; i < n; i++)
		p->next[i] = (size_t)(uintptr_t)map_put(&p->first, short_key(&hashes[i]), (void *)(uintptr_t)(i + 1));
}

void places_fini(struct places *p)
{
	map_fini(&p->first);
}

bool places_next(const struct places *p, const struct sha256 *hash, size_t *i)
{
	*i = *i ? p->next[*i - 1] : (size_t)(uintptr_t)map_get(&p->first, short_key(hash));
	while (*i && !sha256_eq(&p->hashes[*i - 1], hash))
		*i = p->next[*i - 1];
	return *i != 0;
}
