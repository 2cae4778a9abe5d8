/* folders: create, show, list, rename, move, delete. */
#include "features/wire.h"

static int answer(int err, const struct node *n, struct Folder *out)
{
	if (!err)
		wire_folder(n, out);
	return err;
}

int folder_create(struct ctx *ctx, const struct FolderCreateIn *in, struct Folder *out)
{
	struct folder_create create = {.share_id = in->body.share_id, .parent_id = in->body.parent_id, .name = in->body.name};
	struct node n;
	return answer(drive_folder_create(ctx, &create, &n), &n, out);
}

int folder_get(struct ctx *ctx, const struct FolderGetIn *in, struct Folder *out)
{
	struct node n;
	return answer(drive_node_get(ctx, NODE_FOLDER, in->folder_id, in->include_deleted, &n), &n, out);
}

int folder_update(struct ctx *ctx, const struct FolderUpdateIn *in, struct Folder *out)
{
	if (in->body.has_is_deleted && in->body.is_deleted)
		return ctx_invalid(ctx, "body", STR("is_deleted"), "value_error", "use DELETE to move a folder to the trash");
	struct node_patch patch = {
	    .id = in->folder_id,
	    .name = in->body.name,
	    .restore = (in->body.has_restore && in->body.restore) || in->body.has_is_deleted,
	};
	struct node n;
	return answer(drive_node_patch(ctx, NODE_FOLDER, &patch, &n), &n, out);
}

int folder_delete(struct ctx *ctx, const struct FolderDeleteIn *in)
{
	return drive_node_delete(ctx, NODE_FOLDER, &(struct node_delete){.id = in->folder_id, .permanent = in->permanent});
}

int folder_children(struct ctx *ctx, const struct FolderChildrenIn *in, struct Children *out)
{
	if (!in->folder_id && !in->share_id)
		return ctx_invalid(ctx, "query", STR("share_id"), "missing", "Field required");
	struct folder_children_in list = {
	    .share_id = in->share_id,
	    .folder_id = in->folder_id,
	    .include_deleted = in->include_deleted,
	    .limit = in->limit,
	    .offset = in->offset,
	};
	struct folder_children children;
	int err = drive_folder_children(ctx, &list, &children);
	if (!err)
		wire_children(ctx, &children, out);
	return err;
}

int folder_move(struct ctx *ctx, const struct FolderMoveIn *in, struct Folder *out)
{
	struct node_place place = {
	    .id = in->folder_id,
	    .target_folder_id = in->body.target_folder_id,
	    .target_share_id = in->body.target_share_id,
	    .name = in->body.name,
	};
	struct node n;
	return answer(drive_node_move(ctx, NODE_FOLDER, &place, &n), &n, out);
}
