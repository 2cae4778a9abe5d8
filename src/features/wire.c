#include "features/wire.h"

int64_t wire_parent(const struct node *n)
{
	return n->parent_is_root ? 0 : n->parent_id;
}

void wire_file(const struct node *n, struct File *out)
{
	*out = (struct File){
	    .id = n->id,
	    .tenant_id = n->tenant_id,
	    .share_id = n->share_id,
	    .folder_id = wire_parent(n),
	    .name = n->name,
	    .path = n->path,
	    .mime_type = n->mime_type,
	    .size = n->size_bytes,
	    .checksum_sha256 = n->sha256,
	    .has_checksum_sha256 = n->has_sha256,
	    .version = n->version,
	    .version_id = n->version_id,
	    .mtime = n->mtime_us,
	    .has_mtime = n->has_mtime,
	    .executable = n->executable,
	    .owner_id = {ID_USER, n->owner_id},
	    .created_by = n->created_by,
	    .created_at = n->created_at,
	    .modified_by = n->modified_by,
	    .modified_at = n->modified_at,
	    .is_deleted = n->in_trash,
	};
}

void wire_uploaded(const struct version_result *r, struct FileUploaded *out)
{
	struct File file;
	wire_file(&r->node, &file);
	*out = (struct FileUploaded){
	    .id = file.id,
	    .tenant_id = file.tenant_id,
	    .share_id = file.share_id,
	    .folder_id = file.folder_id,
	    .name = file.name,
	    .path = file.path,
	    .mime_type = file.mime_type,
	    .size = file.size,
	    .checksum_sha256 = file.checksum_sha256,
	    .has_checksum_sha256 = file.has_checksum_sha256,
	    .version = file.version,
	    .version_id = r->version.id,
	    .mtime = file.mtime,
	    .has_mtime = file.has_mtime,
	    .executable = file.executable,
	    .owner_id = file.owner_id,
	    .created_by = file.created_by,
	    .created_at = file.created_at,
	    .modified_by = file.modified_by,
	    .modified_at = file.modified_at,
	    .is_deleted = file.is_deleted,
	    .file_id = file.id,
	    .decompressed_size = r->version.decompressed_bytes,
	    .has_decompressed_size = r->version.has_decompressed,
	    .staged = r->fate == VERSION_STAGED,
	    .conflict_id = r->has_conflict ? r->conflict.id : 0,
	};
}

void wire_folder(const struct node *n, struct Folder *out)
{
	*out = (struct Folder){
	    .id = n->id,
	    .tenant_id = n->tenant_id,
	    .share_id = n->share_id,
	    .parent_id = wire_parent(n),
	    .name = n->name,
	    .path = n->path,
	    .owner_id = {ID_USER, n->owner_id},
	    .created_by = n->created_by,
	    .created_at = n->created_at,
	    .modified_at = n->modified_at,
	    .is_deleted = n->in_trash,
	};
}

void wire_share(const struct share *s, struct Share *out)
{
	*out = (struct Share){
	    .id = s->id,
	    .tenant_id = s->tenant_id,
	    .name = s->name,
	    .description = s->description,
	    .share_type = parse_ShareType(s->share_type),
	    .owner_id = s->owner,
	    .is_public = s->is_public,
	    .is_deleted = s->deleted_at != 0,
	    .quota_bytes = s->quota_bytes,
	    .has_quota_bytes = s->has_quota,
	    .used_bytes = s->used_bytes,
	    .settings = s->settings,
	    .created_at = s->created_at,
	    .modified_at = s->modified_at,
	};
}

void wire_children(struct ctx *ctx, const struct folder_children *c, struct Children *out)
{
	*out = (struct Children){
	    .items = arena_many(ctx->arena, c->n, struct Child), .n_items = c->n, .path = c->folder.path, .total = c->total};
	for (size_t i = 0; i < c->n; i++) {
		const struct node *n = &c->items[i];
		bool file = n->kind == NODE_FILE;
		out->items[i] = (struct Child){
		    .id = node_rid(n),
		    .name = n->name,
		    .type = file ? NODE_TYPE_FILE : NODE_TYPE_FOLDER,
		    .size = n->size_bytes,
		    .has_size = file,
		    .mime_type = file ? n->mime_type : STR_NULL,
		    .modified_at = n->modified_at,
		    .version = n->version,
		    .has_version = file,
		    .version_id = n->version_id,
		    .checksum_sha256 = n->sha256,
		    .has_checksum_sha256 = n->has_sha256,
		    .is_deleted = n->in_trash,
		};
	}
}

enum resolve_strategy wire_strategy(enum ConflictResolution r)
{
	enum resolve_strategy s = RESOLVE_NONE;
	return r && resolve_strategy_parse(name_ConflictResolution(r), &s) ? s : RESOLVE_NONE;
}
