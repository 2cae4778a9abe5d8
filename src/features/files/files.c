/* files: show, change, delete, copy, move, versions, content. */
#include "features/content.h"
#include "features/wire.h"

static int answer(int err, const struct node *n, struct File *out)
{
	if (!err)
		wire_file(n, out);
	return err;
}

int file_get(struct ctx *ctx, const struct FileGetIn *in, struct File *out)
{
	struct node n;
	return answer(drive_node_get(ctx, NODE_FILE, in->file_id, in->include_deleted, &n), &n, out);
}

int file_find(struct ctx *ctx, const struct FileFindIn *in, struct FileMatches *out)
{
	struct sha256 sha256;
	struct node *nodes;
	size_t n;
	if (!str_unhex(in->checksum_sha256, sha256.b, sizeof sha256.b))
		return ctx_invalid(ctx, "query", STR("checksum_sha256"), "string_pattern_mismatch", "SHA-256 in hex");
	int err = drive_file_find(ctx, in->share_id, &sha256, &nodes, &n);
	if (err)
		return err;
	*out = (struct FileMatches){.files = arena_many(ctx->arena, n, struct File), .n_files = n};
	for (size_t i = 0; i < n; i++)
		wire_file(&nodes[i], &out->files[i]);
	return 0;
}

int file_update(struct ctx *ctx, const struct FileUpdateIn *in, struct File *out)
{
	const struct FileUpdate *body = &in->body;
	if (body->has_is_deleted && body->is_deleted)
		return ctx_invalid(ctx, "body", STR("is_deleted"), "value_error", "use DELETE to move a file to the trash");
	struct node_patch patch = {
	    .id = in->file_id,
	    .name = body->name,
	    .has_mtime = body->has_mtime,
	    .mtime_us = body->mtime,
	    .has_executable = body->has_executable,
	    .executable = body->executable,
	    .restore = (body->has_restore && body->restore) || body->has_is_deleted,
	};
	struct node n;
	return answer(drive_node_patch(ctx, NODE_FILE, &patch, &n), &n, out);
}

int file_delete(struct ctx *ctx, const struct FileDeleteIn *in)
{
	return drive_node_delete(ctx, NODE_FILE, &(struct node_delete){.id = in->file_id, .permanent = in->permanent});
}

int file_copy(struct ctx *ctx, const struct FileCopyIn *in, struct File *out)
{
	struct node_place place = {
	    .id = in->file_id,
	    .target_folder_id = in->body.target_folder_id,
	    .target_share_id = in->body.target_share_id,
	    .name = in->body.name,
	};
	struct node n;
	return answer(drive_file_copy(ctx, &place, &n), &n, out);
}

int file_move(struct ctx *ctx, const struct FileMoveIn *in, struct File *out)
{
	struct node_place place = {
	    .id = in->file_id,
	    .target_folder_id = in->body.target_folder_id,
	    .target_share_id = in->body.target_share_id,
	    .name = in->body.name,
	};
	struct node n;
	return answer(drive_node_move(ctx, NODE_FILE, &place, &n), &n, out);
}

int file_content(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct FileContentIn in;
	int err = args_file_content(ctx, req, &in);
	return err ? err : content_answer(ctx, req, in.file_id, in.has_version ? in.version : 0, in.include_deleted, out);
}

int file_version_list(struct ctx *ctx, const struct FileVersionListIn *in, struct VersionPage *out)
{
	struct node n;
	struct file_versions found;
	int err = drive_node_get(ctx, NODE_FILE, in->file_id, in->include_deleted, &n);
	if (!err)
		err = drive_file_versions(ctx, in->file_id, in->include_deleted, in->limit, in->offset, &found);
	if (err)
		return err;
	*out = (struct VersionPage){
	    .versions = arena_many(ctx->arena, found.n, struct Version), .n_versions = found.n, .total = found.total};
	for (size_t i = 0; i < found.n; i++) {
		const struct version *v = &found.items[i];
		out->versions[i] = (struct Version){
		    .id = v->id,
		    .version_number = v->number,
		    .size = v->size_bytes,
		    .checksum_sha256 = v->sha256,
		    .has_checksum_sha256 = true,
		    .created_by = v->created_by,
		    .created_at = v->created_at,
		    .mtime = v->mtime_us,
		    .has_mtime = v->has_mtime,
		    .decompressed_size = v->decompressed_bytes,
		    .has_decompressed_size = v->has_decompressed,
		    .is_current = v->id == n.version_id,
		};
	}
	return 0;
}

int file_version_restore(struct ctx *ctx, const struct FileVersionRestoreIn *in, struct VersionRestored *out)
{
	struct version_result r;
	int err = drive_file_version_restore(ctx, in->file_id, in->version, &r);
	if (err)
		return err;
	*out = (struct VersionRestored){
	    .id = r.node.id,
	    .restored_from_version = in->version,
	    .restored_version = in->version,
	    .version = r.version.number,
	    .new_version = r.version.number,
	    .version_id = r.version.id,
	};
	return 0;
}
