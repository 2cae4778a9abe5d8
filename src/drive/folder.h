/* folder: operations on folders, one call each; every one opens its own transaction and checks rights there. */
#ifndef SD_DRIVE_FOLDER_H
#define SD_DRIVE_FOLDER_H

#include "drive/file.h"

struct folder_create {
	int64_t share_id, parent_id; /* parent_id 0: the share's root; share_id 0: the parent's */
	struct str name;
	struct str device_id;
};
/* CREATE on the parent. A repeated Idempotency-Key yields the folder it made. */
int drive_folder_create(struct ctx *ctx, const struct folder_create *in, struct node *out);
struct folder_children_in {
	int64_t share_id, folder_id; /* folder_id 0: the root of share_id */
	bool include_deleted;        /* what was trashed out of the folder is listed too, and the folder may be in the trash */
	int64_t limit, offset;       /* limit 0: LIMIT_PAGE_SNAPSHOT, which is the most */
};
struct folder_children {
	struct node folder;
	struct node *items; /* folders, then files, each by name */
	size_t n;
	int64_t total;
};
int drive_folder_children(struct ctx *ctx, const struct folder_children_in *in, struct folder_children *out);

struct trash_list {
	struct node *items; /* newest first */
	size_t n;
	int64_t total;
};
/* What was trashed in a share. READ. limit 0: LIMIT_PAGE_LIST. */
int drive_trash_list(struct ctx *ctx, int64_t share_id, int64_t limit, int64_t offset, struct trash_list *out);

#endif
