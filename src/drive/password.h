/* password: argon2id (RFC 9106) of account passwords: 64 MiB, 3 passes, 1 lane; about 0.15 s of one core each.
 *
 * At most one computation per core runs at a time and a few more wait; beyond that E_BUSY, since hashing on request is
 * otherwise a way to exhaust the machine (reliability.md, class 15).
 */
#ifndef SD_DRIVE_PASSWORD_H
#define SD_DRIVE_PASSWORD_H

#include "base/ctx.h"

enum { PASSWORD_MIN_BYTES = 8, PASSWORD_MAX_BYTES = 1024, PASSWORD_WAITING_MAX = 16 };

/* A place among those who may hash; both calls below need one. E_BUSY. */
int password_enter(void);
void password_leave(void);

/* The encoded hash, in the arena. E_INVALID for a password of the wrong length. Takes a place itself. */
int password_hash(struct ctx *ctx, struct str password, struct str *encoded);
/* Whether the password fits; in a place taken by password_enter. encoded STR_NULL: an account that does not exist;
 * computes as long and says no. */
bool password_matches(struct str encoded, struct str password);

#endif
