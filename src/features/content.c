#include "features/content.h"

#include "drive/file.h"
#include "http/download.h"

struct served {
	struct download download;
	struct file_content content;
};

static int served_read(struct download *d, int64_t offset, void *out, size_t n, size_t *got)
{
	struct served *s = (struct served *)d;
	return content_read(s->content.reader, offset, out, n, got);
}

static void served_close(struct download *d)
{
	struct served *s = (struct served *)d;
	file_content_close(&s->content);
}

int content_answer(struct ctx *ctx, const struct request *req, int64_t file_id, int64_t version, bool include_deleted,
                   struct reply *out)
{
	struct served *s = arena_new(ctx->arena, struct served);
	int err = file_content_open(ctx, file_id, version, include_deleted, &s->content);
	if (err)
		return err;
	const struct version *v = &s->content.version;
	char etag[66] = "\"";
	hex_encode(v->sha256.b, 32, etag + 1);
	etag[65] = '"';
	s->download = (struct download){
	    .read = served_read,
	    .close = served_close,
	    .size_bytes = v->size_bytes,
	    .mtime_us = v->has_mtime ? v->mtime_us : v->created_at,
	    .etag = arena_str(ctx->arena, str_n(etag, sizeof etag)),
	    .mime = v->mime_type,
	    .filename = s->content.node.name,
	};
	return download_reply(ctx, req, &s->download, out);
}
