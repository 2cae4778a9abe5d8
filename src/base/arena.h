/* arena: memory that is given back all at once. A request's results live in its arena.
 *
 * Allocation never returns NULL: when the system has no memory the process ends (must), since every limit that
 * protects it (limits.h) is enforced before we allocate. One arena belongs to one thread at a time.
 */
#ifndef SD_BASE_ARENA_H
#define SD_BASE_ARENA_H

#include <stdarg.h>

#include "base/str.h"

struct arena_block;

struct arena {
	struct arena_block *head; /* newest block first */
	char *at, *end;           /* free room in the newest block */
	size_t total;             /* bytes taken from the system */
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a);
/* Forgets everything but keeps one block for reuse. */
void arena_reset(struct arena *a);

/* n zeroed bytes, aligned for any type. */
void *arena_alloc(struct arena *a, size_t n);
/* count * size zeroed bytes; checked against overflow. */
void *arena_array(struct arena *a, size_t count, size_t size);
#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define arena_many(a, count, type) ((type *)arena_array((a), (count), sizeof(type)))

/* Copies; the copy is NUL-terminated behind its n bytes. STR_NULL stays STR_NULL. */
struct str arena_str(struct arena *a, struct str s);
char *arena_cstr(struct arena *a, struct str s);
struct str arena_fmt(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct str arena_vfmt(struct arena *a, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

#endif
