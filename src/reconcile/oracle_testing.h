/* oracle: random questions to resolve() and to the guard, with answers worked out in another way. */
#ifndef SD_RECONCILE_ORACLE_TESTING_H
#define SD_RECONCILE_ORACLE_TESTING_H

#include <stdbool.h>
#include <stdint.h>

/* A file with a history, an edit or a deletion on some base with some strategy: resolve() says what the model does. */
bool oracle_resolve(uint64_t seed);
/* A tree of which a part was deleted on one side: the guard stops when it should, and counts right. */
bool oracle_guard(uint64_t seed);

#endif
