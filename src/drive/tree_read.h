/* tree_read: a share's live tree as of one moment, in memory, for tools that carry it elsewhere. */
#ifndef SD_DRIVE_TREE_READ_H
#define SD_DRIVE_TREE_READ_H

#include "drive/drive.h"

struct tree_entry {
	int64_t id, parent_id;
	bool is_folder;
	struct str name;
	/* files: the head */
	int64_t version_id, version, size_bytes;
	int64_t mtime_us; /* of the content, or when it was stored */
	bool executable;
	struct sha256 sha256;
	size_t first, next; /* the first child and the next sibling by number; 0: none. Children come in no order */
};
struct tree_version {
	int64_t node_id, number, size_bytes, mtime_us, created_at;
	bool executable;
	struct sha256 sha256;
};
struct tree_read {
	struct tree_entry *entries; /* entry 0 is the root */
	size_t n;
	struct tree_version *versions; /* with_versions: all but the heads, by node id */
	size_t n_versions;
};

/* READ on the share. All in one snapshot, in the ctx's arena: about 150 bytes a node. */
int drive_tree_read(struct ctx *ctx, int64_t share_id, bool with_versions, struct tree_read *out);

#endif
