/* encode: content codings of bodies, both ways (D18): gzip (RFC 1952) and zstd (RFC 8878). */
#ifndef SD_HTTP_ENCODE_H
#define SD_HTTP_ENCODE_H

#include "base/buf.h"

enum coding { CODING_IDENTITY, CODING_GZIP, CODING_ZSTD, CODING_UNKNOWN };

enum { ENCODE_MIN = 1024 }; /* smaller replies are sent as they are */

/* Compressors cost several hundred KiB each, so a few are kept and shared. Safe from any thread. */
struct encoders;
struct encoders *encoders_new(void);
void encoders_free(struct encoders *e);

/* The value of a request's Content-Encoding; STR_NULL is identity. */
enum coding coding_parse(struct str content_encoding);
const char *coding_name(enum coding c);
/* The coding that Accept-Encoding allows: zstd before gzip; q=0 forbids. */
enum coding coding_accepted(struct str accept_encoding);
/* Appends the whole of in, compressed at level 1. False: leave it as it is. */
bool encode(struct encoders *e, enum coding c, struct str in, struct buf *out);
/* Appends the whole of in, inflated, at most max bytes: E_TOO_LARGE above, E_BAD_REQUEST when malformed. */
int decode(enum coding c, struct str in, size_t max, struct buf *out);

#endif
