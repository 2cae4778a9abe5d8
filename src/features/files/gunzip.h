/* gunzip: how long a gzip stream is when it is inflated (RFC 1952), found out as it passes by. Nothing is kept of it.
 */
#ifndef SD_FEATURES_FILES_GUNZIP_H
#define SD_FEATURES_FILES_GUNZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gunzip;

/* Beyond limit_bytes it stops to inflate, and the length stays unknown; so it does beyond free_bytes when each byte that came has
 * made more than LIMIT_INFLATED_RATIO. */
struct gunzip *gunzip_new(int64_t free_bytes, int64_t limit_bytes);
void gunzip_feed(struct gunzip *g, const void *p, size_t n);
/* True when what was fed is one whole gzip file, of one or more members. */
bool gunzip_length(const struct gunzip *g, int64_t *length);
void gunzip_free(struct gunzip *g);

#endif
