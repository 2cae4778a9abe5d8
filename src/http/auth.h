/* auth: the server's authenticator: a bounded cache of verified tokens before drive/token.h.
 *
 * A hit costs one XXH3, one comparison and a copy of the principal. What is cached is checked against the user's row
 * again when this process changed a user or a key, and in any case after a second, so that another node's suspension
 * or a withdrawn key counts within that time. Only tokens that verified are kept; a full set forgets its oldest.
 */
#ifndef SD_HTTP_AUTH_H
#define SD_HTTP_AUTH_H

#include "base/authenticator.h"
#include "drive/token.h"

/* tokens is borrowed. slots: tokens remembered, 0 means 8,192. */
struct authenticator *auth_new(struct tokens *tokens, size_t slots);
void auth_free(struct authenticator *a);

struct auth_counts {
	uint64_t hits, refreshed, verified, refused;
};
void auth_counts(struct authenticator *a, struct auth_counts *out);

#endif
