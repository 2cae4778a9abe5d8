/* range: byte ranges and validators (RFC 9110, 8.8, 13 and 14). Pure. */
#ifndef SD_HTTP_RANGE_H
#define SD_HTTP_RANGE_H

#include "base/str.h"

enum { RANGE_MAX = 16 };

struct range {
	int64_t first, length;
};

struct ranges {
	size_t n;
	struct range r[RANGE_MAX]; /* in the order asked for */
};

enum range_result {
	RANGE_WHOLE,         /* no usable Range: send everything (also: malformed, too many, or overlapping ranges) */
	RANGE_PARTIAL,       /* out->n >= 1 ranges, inside the size, each at least one byte */
	RANGE_UNSATISFIABLE, /* 416 */
};

/* The Range header over content of size_bytes. STR_NULL is RANGE_WHOLE. Numbers of any length are numbers. */
enum range_result range_parse(struct str header, int64_t size_bytes, struct ranges *out);
/* range_start and range_end (inclusive) of the query; either may be STR_NULL. Malformed or outside: UNSATISFIABLE. */
enum range_result range_query(struct str start, struct str end, int64_t size_bytes, struct ranges *out);

/* Is the entity tag (with its quotes) in the list of If-None-Match / If-Match? "*" is. Weak comparison when weak. */
bool etag_listed(struct str list, struct str etag, bool weak);
/* May the range be honoured? True without If-Range. A date never holds: it is a weak validator (RFC 9110, 8.8.2.2), since content
 * may change twice in a second, and parts of two contents must not be put together. */
bool if_range_holds(struct str if_range, struct str etag);

#endif
