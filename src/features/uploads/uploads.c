/* uploads: files in pieces. */
#include "drive/upload.h"
#include "features/uploads/digest.h"
#include "features/wire.h"
#include "http/handler.h"

static void from_body(const struct UploadCreate *b, struct upload_create *in)
{
	*in = (struct upload_create){
	    .put = {.share_id = b->share_id,
		    .folder_id = b->folder_id,
		    .name = b->file_name,
		    .replace_file_id = b->replace_file_id,
		    .base_version_id = b->base_version_id,
		    .strategy = wire_strategy(b->conflict_resolution),
		    .staged = b->staged,
		    .mime_type = b->mime_type,
		    .has_mtime = b->has_mtime,
		    .mtime_us = b->mtime,
		    .has_executable = b->has_executable,
		    .executable = b->executable,
		    .device_id = b->device_id},
	    .size_bytes = b->file_size,
	    .chunk_bytes = b->chunk_size,
	    .has_checksum = b->has_checksum_sha256,
	    .checksum = b->checksum_sha256,
	    .hints = {.hashes = b->chunk_hashes,
		      .sizes = b->has_chunk_sizes ? b->chunk_sizes : NULL,
		      .n = b->n_chunk_hashes,
		      .sources = b->sources,
		      .n_sources = b->n_sources},
	};
}

static int sizes_check(struct ctx *ctx, const struct UploadCreate *b)
{
	if (!b->has_chunk_sizes || b->n_chunk_sizes == b->n_chunk_hashes)
		return 0;
	return ctx_invalid(ctx, "body", STR("chunk_sizes"), "value_error", "as many as chunk_hashes");
}

int upload_create(struct ctx *ctx, const struct UploadCreateIn *in, struct UploadCreated *out)
{
	struct upload_create create;
	struct upload up;
	from_body(&in->body, &create);
	int err = sizes_check(ctx, &in->body);
	if (!err)
		err = drive_upload_create(ctx, &create, &up);
	if (err)
		return err;
	*out = (struct UploadCreated){
	    .id = up.id,
	    .session_id = up.id,
	    .total_chunks = up.n_pieces,
	    .chunk_size = up.in.chunk_bytes,
	    .file_size = up.in.size_bytes,
	    .status = up.status == UPLOAD_COMPLETED ? UPLOAD_STATUS_COMPLETED : UPLOAD_STATUS_ACTIVE,
	    .existing_chunks = up.received,
	    .n_existing_chunks = up.n_received_listed,
	    .expires_at = up.expires_at,
	};
	return 0;
}

int upload_get(struct ctx *ctx, const struct UploadGetIn *in, struct UploadSession *out)
{
	struct upload up;
	int err = drive_upload_get(ctx, in->upload_id, &up);
	if (err)
		return err;
	*out = (struct UploadSession){
	    .id = up.id,
	    .session_id = up.id,
	    .status = up.status == UPLOAD_COMPLETED ? UPLOAD_STATUS_COMPLETED : UPLOAD_STATUS_ACTIVE,
	    .share_id = up.in.put.share_id,
	    .folder_id = up.in.put.folder_id,
	    .file_name = up.in.put.name,
	    .replace_file_id = up.in.put.replace_file_id,
	    .file_size = up.in.size_bytes,
	    .chunk_size = up.in.chunk_bytes,
	    .total_chunks = up.n_pieces,
	    .received_count = up.n_received,
	    .missing_count = up.n_pieces - up.n_received,
	    .received_chunks = up.received,
	    .n_received_chunks = up.n_received_listed,
	    .missing_chunks = up.missing,
	    .n_missing_chunks = up.n_missing_listed,
	    .bytes_received = up.bytes_received,
	    .file_id = up.file_id,
	    .version_id = up.version_id,
	    .created_at = up.created_at,
	    .expires_at = up.expires_at,
	};
	return 0;
}

int upload_cancel(struct ctx *ctx, const struct UploadCancelIn *in)
{
	return drive_upload_cancel(ctx, in->upload_id);
}

int upload_complete(struct ctx *ctx, const struct UploadCompleteIn *in, struct FileUploaded *out)
{
	struct version_result r;
	int err = drive_upload_complete(ctx, in->upload_id, &r);
	if (!err)
		wire_uploaded(&r, out);
	return err;
}

/* ---- pieces ---- */

struct chunk_sink {
	struct body_sink sink;
	struct upload_piece *piece;
};

static int chunk_feed(struct body_sink *sink, struct ctx *ctx, const void *p, size_t n)
{
	return upload_piece_feed(ctx, ((struct chunk_sink *)sink)->piece, p, n);
}

static void *chunk_room(struct body_sink *sink, size_t *n)
{
	return upload_piece_room(((struct chunk_sink *)sink)->piece, n);
}

static void chunk_took(struct body_sink *sink, size_t n)
{
	upload_piece_took(((struct chunk_sink *)sink)->piece, n);
}

static bool chunk_may_receive(struct body_sink *sink, void (*wake)(void *arg), void *arg)
{
	return upload_piece_may_receive(((struct chunk_sink *)sink)->piece, wake, arg);
}

static bool chunk_ready(struct body_sink *sink, void (*wake)(void *arg), void *arg)
{
	return upload_piece_ready(((struct chunk_sink *)sink)->piece, wake, arg);
}

static int chunk_end(struct body_sink *sink, struct ctx *ctx, struct reply *out)
{
	struct upload_receipt r;
	int err = upload_piece_end(ctx, ((struct chunk_sink *)sink)->piece, &r);
	if (err)
		return err;
	struct UploadChunk chunk = {
	    .index = r.index,
	    .size = r.size_bytes,
	    .received_count = r.n_received,
	    .total_chunks = r.n_pieces,
	    .bytes_received = r.bytes_received,
	};
	write_UploadChunk(&out->body, &chunk);
	return 0;
}

static void chunk_close(struct body_sink *sink)
{
	upload_piece_close(((struct chunk_sink *)sink)->piece);
}

/* The claim of either header; both must agree. */
static int read_claim(struct ctx *ctx, const struct request *req, struct sha256 *claim, bool *claimed)
{
	struct str hex = request_header(req, STR("X-Chunk-SHA256"));
	struct str field = request_list(req, ctx->arena, STR("Content-Digest"));
	struct sha256 other;
	*claimed = hex.p != NULL;
	if (hex.p && !digest_hex(hex, claim))
		return ctx_fail(ctx, E_BAD_REQUEST, "X-Chunk-SHA256 is not a SHA-256 in hex");
	bool found = false;
	if (field.p && !digest_field(field, &other, &found))
		return ctx_fail(ctx, E_BAD_REQUEST, "The Content-Digest is malformed");
	if (found && *claimed && !sha256_eq(claim, &other))
		return ctx_fail(ctx, E_BAD_REQUEST, "X-Chunk-SHA256 and Content-Digest differ");
	if (found)
		*claim = other;
	*claimed = *claimed || found;
	return 0;
}

int upload_chunk(struct ctx *ctx, struct request *req, struct body_sink **out)
{
	struct UploadChunkIn in;
	struct sha256 claim;
	bool claimed;
	int64_t length;
	int err = args_upload_chunk(ctx, req, &in);
	if (err)
		return err;
	if (!str_to_i64(request_header(req, STR("Content-Length")), &length) || length < 0)
		length = -1;
	err = read_claim(ctx, req, &claim, &claimed);
	struct chunk_sink *s = arena_new(ctx->arena, struct chunk_sink);
	s->sink = (struct body_sink){
	    .feed = chunk_feed,
	    .room = chunk_room,
	    .took = chunk_took,
	    .may_receive = chunk_may_receive,
	    .end = chunk_end,
	    .close = chunk_close,
	    .ready = chunk_ready,
	};
	if (!err)
		err = upload_piece_begin(ctx, in.upload_id, in.index, length, claimed ? &claim : NULL, &s->piece);
	if (!err)
		*out = &s->sink;
	return err;
}
