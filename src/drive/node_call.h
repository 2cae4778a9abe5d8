/* node_call: what a caller does to a file or a folder alike, one call each; every one opens its own transaction and checks
 * rights there. kind: NODE_FILE or NODE_FOLDER, what the caller takes the id for; of the other kind it is E_NOT_FOUND. */
#ifndef SD_DRIVE_NODE_CALL_H
#define SD_DRIVE_NODE_CALL_H

#include "drive/node.h"

/* READ. */
int drive_node_get(struct ctx *ctx, enum node_kind kind, int64_t id, bool include_deleted, struct node *out);

struct node_patch {
	int64_t id;
	struct str name; /* STR_NULL: as it is */
	bool restore;    /* out of the trash, before the rest */
	struct str device_id;
	/* Of files alone. */
	bool has_mtime, has_executable, executable;
	int64_t mtime_us;
	struct str mime_type; /* STR_NULL: as it is */
};
/* WRITE. A rename is one `renamed` row, other attributes one `updated` row, nothing new no row at all. */
int drive_node_patch(struct ctx *ctx, enum node_kind kind, const struct node_patch *in, struct node *out);

struct node_delete {
	int64_t id;
	bool permanent; /* also of what is in the trash already */
	struct str device_id;
};
/* DELETE. One row and one change, however much is below. The root of a share is refused (E_BAD_REQUEST). */
int drive_node_delete(struct ctx *ctx, enum node_kind kind, const struct node_delete *in);

struct node_place {
	int64_t id;
	int64_t target_folder_id, target_share_id; /* a folder, or the root of a share; both: the folder must lie in it */
	struct str name; /* STR_NULL: as it is; a copy into its own folder then gets a free name */
	struct str device_id;
};
/* DELETE on the node, CREATE on the target; WRITE alone when it stays in its folder. E_INVALID without a target,
 * E_MOVE_CYCLE. */
int drive_node_move(struct ctx *ctx, enum node_kind kind, const struct node_place *in, struct node *out);

#endif
