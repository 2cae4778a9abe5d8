/* ctx: what one unit of work carries: its memory, who asks, the seams, and the first thing that went wrong. */
#ifndef SD_BASE_CTX_H
#define SD_BASE_CTX_H

#include "base/arena.h"
#include "base/err.h"
#include "base/rng.h"
#include "base/time.h"

struct ctx;
struct principal; /* drive/principal.h */
struct drive;     /* drive/drive.h */

/* Counts work that is known to be more than its route's cost says. E_RATE_LIMITED, with the sentence in ctx. */
struct meter {
	int (*charge)(struct meter *self, struct ctx *ctx, int64_t units);
};

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
	struct meter *meter;        /* NULL: nobody counts */

	int err;            /* the first fault recorded */
	struct str detail;  /* its sentence; STR_NULL: the table's */
	struct str invalid; /* E_INVALID: the JSON array of field problems (FastAPI's shape) */
	int retry_after_s;  /* E_RATE_LIMITED, E_BUSY and the like: when to return; 0: the server's default */
};

void ctx_init(struct ctx *ctx, struct arena *arena, const struct clock *clock, struct rng *rng);
/* Records err and a sentence for the caller to read, unless one is recorded already, and returns err. */
int ctx_fail(struct ctx *ctx, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* E_INVALID with one field problem, in FastAPI's shape: loc is "body", "query" or "path" and the field. */
int ctx_invalid(struct ctx *ctx, const char *where, struct str field, const char *type, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Says with a fault that passes when to return: rounded up to seconds, at least one. */
void ctx_retry_after(struct ctx *ctx, int64_t wait_us);
/* Before work of that many rate units is done; 0, or E_RATE_LIMITED. */
int ctx_charge(struct ctx *ctx, int64_t units);
/* Forgets a recorded fault (before a retry, or when a fault was expected). */
void ctx_clear(struct ctx *ctx);
/* The sentence to show. */
struct str ctx_detail(const struct ctx *ctx, int err);

#endif
