/* node_priv: what the files of node, trash, folder, snapshot and share say to each other. */
#ifndef SD_DRIVE_NODE_PRIV_H
#define SD_DRIVE_NODE_PRIV_H

#include "base/map.h"
#include "drive/node.h"
#include "drive/principal.h"

/* Columns of a node as alias n joined to its share as alias s, in node_from_row's order. */
#define NODE_COLUMNS \
	"n.id, n.tenant_id, n.share_id, n.parent_id, n.kind, n.name, n.version_id, n.version, n.last_version, n.size_bytes," \
	" n.mime_type, n.sha256, n.mtime, n.executable, n.owner_id, n.created_by, n.created_at, n.modified_by," \
	" n.modified_at, n.deleted_at, n.change_seq, s.root_id"
enum { NODE_N_COLUMNS = 22 };

/* Strings are copied into the arena; path, rights and ancestors are left alone; in_trash is of the row itself. */
void node_from_row(struct arena *a, struct rows *r, struct node *n);

/* The largest walk to a root: deeper chains are damage. */
enum { NODE_WALK_MAX = 1024 };

struct str path_join(struct arena *a, struct str folder_path, struct str name);
/* Where *n lies after it was put into *folder: parent_id, parent_is_root, ancestors, path, share_id. */
void node_put_below(struct arena *a, struct node *n, const struct node *folder);
/* E_NAME_CONFLICT when the folder has another live child of that name than except_id. */
int node_name_free(struct dtx *t, int64_t parent_id, struct str key, struct str name, int64_t except_id);
/* Path and depth limits for a child of *folder. */
int node_place_check(struct dtx *t, const struct node *folder, struct str name, enum node_kind kind);
/* Bytes of all versions of the node and of what is below it, staged and trashed ones too. */
int node_bytes(struct dtx *t, const struct node *n, int64_t *size_bytes);
/* E_BAD_REQUEST for the root folder of a share. */
int node_not_root(struct dtx *t, const struct node *n);

/* The user who acts; 0: none. */
static inline int64_t actor(const struct dtx *t)
{
	return t->ctx->who ? t->ctx->who->user_id : 0;
}

/* ---- many folders at once ---- */

/* What a page of nodes must know about the folders above them; filled level by level, each folder read once. */
struct folder_state {
	int64_t id, parent_id; /* parent_id 0: a root */
	struct str name;
	bool live;             /* itself and everything above */
	bool settled;          /* live and path are known */
	bool own_deleted;
	struct str path;
};
struct folder_states {
	struct arena *arena;
	struct map *map; /* id -> struct folder_state */
	bool paths;      /* paths are wanted */
};
/* Makes the parents of items known. */
int folder_states_load(struct dtx *t, struct folder_states *s, const struct node *items, size_t n);
const struct folder_state *folder_states_get(const struct folder_states *s, int64_t id);

#endif
