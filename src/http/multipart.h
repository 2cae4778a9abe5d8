/* multipart: a push parser for multipart/form-data (RFC 7578, RFC 2046 5.1). Bytes go in, in any split; events come out.
 *
 * Strict: CRLF line ends, a name in every part, the close delimiter at the end. Limits: PART_MAX parts, HEADER_MAX bytes
 * of headers a part, 70 bytes of boundary. Part data is passed through without copying wherever it lies in the input.
 */
#ifndef SD_HTTP_MULTIPART_H
#define SD_HTTP_MULTIPART_H

#include "base/ctx.h"

enum { MULTIPART_PART_MAX = 64, MULTIPART_HEADER_MAX = 8192, MULTIPART_BOUNDARY_MAX = 70 };

/* One part's headers; valid during on_part (decoded ones lie in ctx's arena). Absent: STR_NULL. */
struct multipart_part {
	struct str name;             /* of the form field */
	struct str filename;         /* filename* (RFC 8187) wins over filename, unless it is not UTF-8; raw bytes, not yet validated */
	struct str content_type;     /* as sent */
	struct str content_encoding; /* as sent */
};

/* Each returns 0, or E_*, which ends the parse and is returned by multipart_feed. */
struct multipart_events {
	int (*on_part)(void *arg, const struct multipart_part *part);
	int (*on_data)(void *arg, const void *p, size_t n);
	int (*on_part_end)(void *arg);
};

struct multipart;

/* The boundary comes from the Content-Type header. E_MEDIA_TYPE when it is not multipart/form-data, E_BAD_REQUEST when
 * the boundary is missing or malformed; ctx tells. ctx is used for details in feed and end too, and the parser lies in its arena. */
int multipart_new(struct ctx *ctx, struct str content_type, const struct multipart_events *events, void *arg,
                  struct multipart **out);
void multipart_free(struct multipart *m);
int multipart_feed(struct multipart *m, const void *p, size_t n);
/* The input is complete: 0 only behind the close delimiter. */
int multipart_end(struct multipart *m);

/* A parameter of a header value such as Content-Disposition or Content-Type: quotes and escapes removed, name* decoded.
 * Bytes live in the arena. STR_NULL when absent or malformed. */
struct str header_param(struct arena *a, struct str value, const char *name);

#endif
