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
	return content_read(s->content.reader, offset, out, content_fit(s->content.reader, offset, n), got);
}

static void served_close(struct download *d)
{
	struct served *s = (struct served *)d;
	file_content_close(&s->content);
}

/* By the server's clock, not the file's mtime, which goes back when an older file is put in its place. */
static int64_t modified_us(const struct file_content *c)
{
	return c->version.id == c->node.version_id ? c->node.modified_at : c->version.created_at;
}

static int answer(struct ctx *ctx, const struct request *req, struct served *s, struct reply *out)
{
	const struct version *v = &s->content.version;
	char etag[66] = "\"";
	hex_encode(v->sha256.b, 32, etag + 1);
	etag[65] = '"';
	s->download = (struct download){
	    .read = served_read,
	    .close = served_close,
	    .size_bytes = v->size_bytes,
	    .modified_us = modified_us(&s->content),
	    .etag = arena_str(ctx->arena, str_n(etag, sizeof etag)),
	    .mime = v->mime_type,
	    .filename = s->content.node.name,
	};
	return download_reply(ctx, req, &s->download, out);
}

int content_answer(struct ctx *ctx, const struct request *req, int64_t file_id, int64_t version, bool include_deleted,
                   struct reply *out)
{
	struct served *s = arena_new(ctx->arena, struct served);
	int err = file_content_open(ctx, file_id, version, include_deleted, &s->content);
	return err ? err : answer(ctx, req, s, out);
}

struct by_version {
	int64_t file_id, version_id;
	bool include_deleted;
	struct file_content *out;
};

static int open_version(struct dtx *t, void *arg)
{
	struct by_version *op = arg;
	struct file_content *c = op->out;
	unsigned want = RIGHT_READ | (op->include_deleted ? NODE_WITH_TRASH : 0);
	int err = node_load(t, op->file_id, NODE_FILE, want, &c->node);
	if (!err)
		err = version_load(t, &c->node, op->version_id, &c->version);
	if (!err)
		err = content_open(t->tx, t->drive->store, t->ctx->tenant_id, c->version.recipe, c->version.size_bytes, &c->reader);
	return err;
}

int content_answer_version(struct ctx *ctx, const struct request *req, int64_t file_id, int64_t version_id,
                           bool include_deleted, struct reply *out)
{
	struct served *s = arena_new(ctx->arena, struct served);
	struct by_version op = {file_id, version_id, include_deleted, &s->content};
	int err = drive_read(ctx, open_version, &op);
	return err ? err : answer(ctx, req, s, out);
}
