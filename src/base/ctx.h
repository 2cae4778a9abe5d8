/* ctx: what one unit of work carries: its memory, who asks, the seams, and the first thing that went wrong. */
#ifndef SD_BASE_CTX_H
#define SD_BASE_CTX_H

#include "base/arena.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/time.h"

struct principal; /* drive/principal.h */
struct drive;     /* drive/drive.h */

struct ctx {
	struct arena *arena;
	const struct clock *clock;
	struct rng *rng;
	struct drive *drive;         /* NULL in the client */
	const struct principal *who; /* NULL: anonymous */
	int64_t tenant_id;           /* of who; 0: none */
	struct str request_id;
	struct str idempotency_key; /* STR_NULL: none */
	struct str operation;       /* operationId of the route, for idempotency and logs */

	int err;            /* the first fault recorded */
	struct str detail;  /* its sentence; STR_NULL: the table's */
	struct str invalid; /* E_INVALID: the JSON array of field problems (FastAPI's shape) */
};

void ctx_init(struct ctx *ctx, struct arena *arena, const struct clock *clock, struct rng *rng);
/* Records err and a sentence for the caller to read, unless one is recorded already, and returns err. */
int ctx_fail(struct ctx *ctx, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* E_INVALID with one field problem, in FastAPI's shape: loc is "body", "query" or "path" and the field. */
int ctx_invalid(struct ctx *ctx, const char *where, struct str field, const char *type, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Forgets a recorded fault (before a retry, or when a fault was expected). */
void ctx_clear(struct ctx *ctx);
/* The sentence to show. */
struct str ctx_detail(const struct ctx *ctx, int err);

#endif
