/* jose: signed JSON Web Tokens (RFC 7515, 7517, 7519). The only file behind which rhonabwy and jansson live; claims go in
 * and out as JSON text.
 *
 * Which key verifies a token is decided by its kid within the JWKS that the caller trusts, and by nothing else in the
 * header: jwk, jku, x5c and x5u are never looked at, a crit header is refused, and the key's own type must fit the
 * algorithm, which must be on the caller's list. There is no way to accept "none" or an HMAC.
 */
#ifndef SD_IO_JOSE_H
#define SD_IO_JOSE_H

#include "base/buf.h"
#include "base/err.h"

enum jose_alg { JOSE_ES256 = 1, JOSE_EDDSA = 2, JOSE_RS256 = 4 };

/* "ES256", "EdDSA", "RS256"; 0 for any other name. */
enum jose_alg jose_alg_parse(struct str name);
const char *jose_alg_name(enum jose_alg alg);

/* A new private key (ES256 or EdDSA) as a JWK with kid, alg and use, appended to *private_jwk. E_INTERNAL. */
int jose_generate(enum jose_alg alg, const char *kid, struct buf *private_jwk);
/* The public half of it, as a JWK. */
int jose_public(struct str private_jwk, struct buf *public_jwk);
/* Appends the compact serialisation of a token of typ "JWT" with these claims (a JSON object). */
int jose_sign(struct str private_jwk, struct str claims, struct buf *token);

/* A set of public keys, immutable: any number of threads may verify against it. */
struct jose_keys;
/* Parses {"keys": [...]}; keys of other types or without a kid are left out. E_BAD_REQUEST: not a JWKS. */
int jose_keys_new(struct str jwks, struct jose_keys **out);
void jose_keys_free(struct jose_keys *keys);
size_t jose_keys_count(const struct jose_keys *keys);

/* Verifies structure, algorithm (one of algs, JOSE_* bits), typ ("JWT" or "at+jwt", optional "application/", any case) and
 * signature, and appends the claims' JSON. The claims themselves (exp, iss ...) are the caller's to judge.
 * E_UNAUTHENTICATED, with a static reason in *why (may be NULL) fit for a log, not for the peer. */
int jose_verify(const struct jose_keys *keys, unsigned algs, struct str token, struct buf *claims, const char **why);

#endif
