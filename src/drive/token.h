/* token: bearer tokens of this server: signing keys in the database, issuing, verifying.
 *
 * Claims: iss, sub (usr_), tenant_id (tnt_), email, name, scope, iat, exp, jti, and device_id for a token that is bound
 * to a device. Keys: the newest one without retired_at signs; one with retired_at verifies until that moment. The set
 * is read again at most once a second, so a key that another process made or withdrew counts within a second.
 */
#ifndef SD_DRIVE_TOKEN_H
#define SD_DRIVE_TOKEN_H

#include "drive/user.h"

struct tokens;

struct tokens_config {
	struct drive *drive;
	const char *issuer;
	int64_t ttl_s; /* of a token got by signing in */
	struct login_limits login;
	int64_t refresh_ttl_s; /* of a refresh token that is not used (refresh.h) */
};

/* Makes the first key when there is none. */
int tokens_open(struct ctx *ctx, const struct tokens_config *config, struct tokens **out);
void tokens_close(struct tokens *t);
const struct login_limits *tokens_login_limits(const struct tokens *t);
int64_t tokens_refresh_ttl_s(const struct tokens *t);

struct token_new {
	const struct user *user;
	struct str device_id; /* STR_NULL: any device */
	int64_t ttl_s;        /* 0: the configured one */
	struct str scope;     /* STR_NULL: files:read files:write, and tenant:admin for administrators */
};

struct token {
	struct str text; /* secret */
	int64_t expires_in_s;
	unsigned scopes; /* SCOPE_* */
};

/* E_INVALID: ttl or device_id out of bounds. */
int token_issue(struct ctx *ctx, struct tokens *t, const struct token_new *in, struct token *out);
/* Signature, issuer, times (60 s leeway, D25), then the user's row. E_UNAUTHENTICATED, E_SUSPENDED. Strings in the arena. */
int token_verify(struct ctx *ctx, struct tokens *t, struct str token, struct principal *out);
/* Whether a token of that expiry is past, leeway included. */
bool token_expired(int64_t now_us, int64_t expires_at_us);
/* Changes whenever the set of keys does: what was verified under another number must be verified again. */
uint64_t tokens_epoch(struct ctx *ctx, struct tokens *t);

/* {"keys": [...]} of the public keys that verify at present, in the arena. */
int tokens_jwks(struct ctx *ctx, struct tokens *t, struct str *out);
/* Makes a new key, which signs from now on; the old ones verify for as long as their tokens may live, or, with revoke,
 * no longer at all. *kid in the arena. */
int keys_rotate(struct ctx *ctx, bool revoke, struct str *kid);

/* SCOPE_* bits of a scope claim; without an application scope: files:read and files:write (D25). */
unsigned scopes_parse(struct str claim);
/* The names of the bits, in order, into out[8]; returns how many. */
size_t scopes_names(unsigned scopes, struct str out[8]);

#endif
