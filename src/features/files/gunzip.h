/* gunzip: how long a gzip stream is when it is inflated (RFC 1952), found out as it passes by. Nothing is kept of it.
 */
#ifndef SD_FEATURES_FILES_GUNZIP_H
#define SD_FEATURES_FILES_GUNZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gunzip;

/* Beyond limit_bytes it stops to inflate, and the length stays unknown. */
struct gunzip *gunzip_new(int64_t limit_bytes);
void gunzip_feed(struct gunzip *g, const void *p, size_t n);
/* True when what was fed is one whole gzip file, of one or more members. */
bool gunzip_length(const struct gunzip *g, int64_t *length);
void gunzip_free(struct gunzip *g);

#endif
