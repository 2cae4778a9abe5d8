/* digest: what a client claims the bytes of a request body to be. */
#ifndef SD_FEATURES_UPLOADS_DIGEST_H
#define SD_FEATURES_UPLOADS_DIGEST_H

#include "base/hash.h"

/* X-Chunk-SHA256: 64 hex digits. */
bool digest_hex(struct str s, struct sha256 *out);
/* Content-Digest (RFC 9530): a dictionary (RFC 8941) such as "sha-256=:BASE64:, sha-512=:...:". False when malformed;
 * *found tells whether sha-256 is in it; other algorithms are passed over. */
bool digest_field(struct str s, struct sha256 *out, bool *found);

#endif
