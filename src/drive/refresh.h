/* refresh: refresh tokens, so that a login lasts longer than an access token (RFC 6749, 6).
 *
 * One sign-in begins a family: a line of tokens of which each use hands out the next. The text is "sdr_" and 96 hex
 * digits: 128 random bits that name the family and 256 that are the secret of this generation; the database has the
 * SHA-256 of both and nothing else. A row a family:
 *
 *   current   the newest token
 *   sibling   the newest but one of the same generation: the answer that carried it may still be on its way
 *   previous  the token that was exchanged for them. It stays valid, however long, until one of them is used: their
 *             answer may have been lost, and the device asleep since
 *
 * Anything else with the family's name is an older token of it: two hold what one should, so the family ends and both
 * have to sign in again (rotation with reuse detection, RFC 9700, 4.14.2). A family also ends when it was not used for its
 * time to live, when its device is deleted, and when the user's gen has moved on: a new password, a new state.
 */
#ifndef SD_DRIVE_REFRESH_H
#define SD_DRIVE_REFRESH_H

#include "drive/user.h"

enum { REFRESH_TEXT_MAX = 128, REFRESH_FAMILIES_PER_USER = 1000 };

/* Begins a family for a user who has just signed in (user_login). device_id STR_NULL: none. *token in the arena, secret. A
 * user's least recently used family goes when there are too many. */
int refresh_begin(struct ctx *ctx, const struct user *u, struct str device_id, int64_t ttl_s, struct str *token);
/* Exchanges a token: the user as it is now and the next token. E_UNAUTHENTICATED: unknown, expired, revoked, used before.
 * E_SUSPENDED. */
int refresh_use(struct ctx *ctx, struct str token, int64_t ttl_s, struct user *out, struct str *next);

#endif
