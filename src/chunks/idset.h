/* idset: a set of ids that may also claim to have some that were never added: a Bloom filter in blocks of a cache line
 * (F. Putze, P. Sanders, J. Singler, "Cache-, hash- and space-efficient bloom filters", 2007). 12 bits an id: about one
 * of a hundred others is claimed; which ones depends on the seed, so another set claims others. Not thread-safe.
 */
#ifndef SD_CHUNKS_IDSET_H
#define SD_CHUNKS_IDSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct idset;

#define IDSET_MAX_BYTES (INT64_C(512) << 20) /* beyond it more is claimed */

struct idset *idset_new(int64_t expected, uint64_t seed);
void idset_free(struct idset *s);
void idset_add(struct idset *s, int64_t id);
bool idset_has(const struct idset *s, int64_t id);
int64_t idset_bytes(const struct idset *s);

#endif
