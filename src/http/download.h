/* download: content as a reply: 200, 206 (one range or multipart/byteranges), 304, 412 and 416, with the headers that
 * keep a browser from running it (attachment, sandbox, nosniff). Honours Range, range_start/range_end, If-Range,
 * If-Match, If-None-Match and If-Modified-Since. */
#ifndef SD_HTTP_DOWNLOAD_H
#define SD_HTTP_DOWNLOAD_H

#include "http/handler.h"

/* Where the bytes come from; read and close are called in the bulk lane. */
struct download {
	/* Up to n bytes at offset; *got >= 1 inside the content. */
	int (*read)(struct download *self, int64_t offset, void *out, size_t n, size_t *got);
	/* Once, always, also when download_reply fails or needs no body. */
	void (*close)(struct download *self);

	int64_t size_bytes;
	int64_t modified_us; /* Last-Modified: when these bytes became what is served; 0: none */
	struct str etag;     /* with its quotes; STR_NULL: none */
	struct str mime;     /* STR_NULL: application/octet-stream */
	struct str filename; /* STR_NULL: no Content-Disposition file name */
};

/* self must live until its close (the request's arena will do). */
int download_reply(struct ctx *ctx, const struct request *req, struct download *self, struct reply *out);
/* attachment; filename="..."; filename*=UTF-8''... (RFC 6266), in the arena. */
struct str content_disposition(struct arena *a, struct str filename);

#endif
