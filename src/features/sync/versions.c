/* A file whose content is made of chunks that the caller has (D14). */
#include "base/limits.h"
#include "drive/assemble.h"
#include "features/sync/sync_priv.h"
#include "features/wire.h"

int sync_sources(struct ctx *ctx, struct str list, const int64_t **out, size_t *n)
{
	int64_t *ids = arena_many(ctx->arena, LIMIT_CHUNK_SOURCES, int64_t);
	*out = ids;
	*n = 0;
	while (list.n) {
		struct str one = str_cut(&list, ',');
		if (*n == LIMIT_CHUNK_SOURCES)
			return ctx_invalid(ctx, "query", STR("sources"), "too_long", "at most %d versions", LIMIT_CHUNK_SOURCES);
		if (!id_parse_kind(one, ID_VERSION, &ids[(*n)++]))
			return ctx_invalid(ctx, "query", STR("sources"), "value_error", "ids of versions, separated by commas");
	}
	return 0;
}

static int read_args(struct ctx *ctx, struct request *req, struct assemble_in *out)
{
	struct SyncVersionPutIn in;
	int err = args_sync_version_put(ctx, req, &in);
	if (err)
		return err;
	if (!in.share_id && !in.folder_id && !in.replace_file_id)
		return ctx_invalid(ctx, "query", STR("share_id"), "missing", "Field required");
	if (!in.name.p && !in.replace_file_id)
		return ctx_invalid(ctx, "query", STR("name"), "missing", "Field required");
	*out = (struct assemble_in){
	    .steps = req->body,
	    .put = {
	        .share_id = in.share_id,
	        .folder_id = in.folder_id,
	        .name = in.name,
	        .replace_file_id = in.replace_file_id,
	        .base_version_id = in.base_version_id,
	        .strategy = wire_strategy(in.conflict_resolution),
	        .staged = in.staged,
	        .size_bytes = in.size,
	        .mime_type = in.mime_type,
	        .has_mtime = in.has_mtime,
	        .mtime_us = in.mtime,
	        .has_executable = in.has_executable,
	        .executable = in.executable,
	        .device_id = in.device_id,
	    },
	};
	if (!str_unhex(in.checksum_sha256, out->put.sha256.b, sizeof out->put.sha256.b))
		return ctx_invalid(ctx, "query", STR("checksum_sha256"), "value_error", "64 hexadecimal digits");
	return sync_sources(ctx, in.sources, &out->sources, &out->n_sources);
}

int sync_version_put(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct assemble_in in;
	struct version_result r;
	struct FileUploaded made;
	int err = read_args(ctx, req, &in);
	if (!err)
		err = drive_assemble(ctx, &in, &r);
	if (err)
		return err;
	wire_uploaded(&r, &made);
	write_FileUploaded(&out->body, &made);
	return 0;
}
