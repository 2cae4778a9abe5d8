/* authenticator: the seam between a bearer token and the principal behind it. http/ calls it, drive/ implements it. */
#ifndef SD_BASE_AUTHENTICATOR_H
#define SD_BASE_AUTHENTICATOR_H

#include "base/ctx.h"

struct authenticator {
	/* Sets ctx->who (living at least as long as ctx->arena) and ctx->tenant_id; else E_UNAUTHENTICATED,
	 * E_SUSPENDED or a fault. May block; called from any lane's thread. */
	int (*verify)(struct authenticator *self, struct ctx *ctx, struct str bearer_token);
	/* The row id of a principal's user, for the access log; 0: none. May be NULL. */
	int64_t (*user_id)(struct authenticator *self, const struct principal *who);
};

#endif
