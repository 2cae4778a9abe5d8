/* node: a file or folder: an id that survives rename and move. The only way to one is node_load (D24). */
#ifndef SD_DRIVE_NODE_H
#define SD_DRIVE_NODE_H

#include "drive/access.h"
#include "drive/change.h"

enum node_kind { NODE_FOLDER = 1, NODE_FILE = 2 };

struct node {
	int64_t id, tenant_id, share_id, parent_id; /* parent_id is the root folder's id at the top; 0 for the root itself */
	bool parent_is_root;                        /* the API shows null then */
	enum node_kind kind;
	struct str name;
	int64_t version_id, version, last_version; /* head; last_version: highest number ever given */
	int64_t size_bytes;
	struct str mime_type;
	bool has_sha256;
	struct sha256 sha256;
	bool has_mtime;
	int64_t mtime_us;
	bool executable;
	int64_t owner_id, created_by, created_at, modified_by, modified_at;
	int64_t deleted_at; /* of the node itself */
	bool in_trash;      /* itself or an ancestor */
	int64_t change_seq;
	struct str path;    /* "/a/b.txt"; "/" for a root */
	unsigned rights;    /* of the principal who loaded it */
	/* Ids from the root down to the parent; n_ancestors is the depth (0 for a root). Of node_load and its kin; NULL in
	 * listings. */
	const int64_t *ancestors;
	size_t n_ancestors;
};

struct rid node_rid(const struct node *n); /* fil_ or fld_ */

enum {
	NODE_WITH_TRASH = 1 << 8,   /* flag beside rights: a trashed node is wanted too (else E_GONE for readers) */
};

/* Loads a node of the principal's tenant with its path, liveness and rights, and demands want (RIGHT_* | flags).
 * kind 0: either. E_NOT_FOUND: unknown, foreign, unreadable, of the other kind, or in a deleted share. E_GONE: in the
 * trash, for those who may read it. E_FORBIDDEN: readable, but want is not covered. */
int node_load(struct dtx *t, int64_t id, enum node_kind kind, unsigned want, struct node *out);
/* The root folder of a share, by the same rules. */
int node_load_root(struct dtx *t, int64_t share_id, unsigned want, struct node *out);
/* A folder by id, or the share's root when folder_id is 0; it must lie in share_id (else E_NOT_FOUND). share_id 0 with a
 * folder_id: any share. Files made one after the other mostly share their folder, so while t->makes_files it is kept: the tenant
 * stands still, and what was true of it stays true. */
int node_load_folder(struct dtx *t, int64_t share_id, int64_t folder_id, unsigned want, struct node *out);
/* The live child of that name, or out->id == 0. The folder was loaded, so rights are its. */
int node_child(struct dtx *t, const struct node *folder, struct str name, struct node *out);
/* A live node by share-rooted path; E_NOT_FOUND. */
int node_load_path(struct dtx *t, int64_t share_id, struct str path, unsigned want, struct node *out);

/* Operations on loaded nodes, inside a write; they append the change and update *n. They check names, siblings (E_NAME_CONFLICT),
 * cycles (I12, E_MOVE_CYCLE) and depth, but not rights: the loads did. */
int node_insert(struct dtx *t, const struct node *parent, struct node *n, struct str device_id);
int node_rename(struct dtx *t, struct node *n, struct str name, struct str device_id);
/* To another folder and/or name, also of another share (then two changes, D2). */
int node_move(struct dtx *t, struct node *n, const struct node *target, struct str name, struct str device_id);
int node_trash(struct dtx *t, struct node *n, struct str device_id);
/* Out of the trash, to its old place; when the name is taken or the parent is gone: under a free name, or to the root. */
int node_restore(struct dtx *t, struct node *n, struct str device_id);
/* The node, its versions and all below are deleted for good: at once when they are few, else it is cut off from the tree,
 * where nobody finds it any more, and the job "trash" removes the rest (purge.h). */
int node_purge(struct dtx *t, struct node *n, struct str device_id);
/* Attributes of the head as they stand in *n (mtime, executable, mime_type): one `updated` change. */
int node_touch(struct dtx *t, struct node *n, struct str device_id);
/* E_NAME_INVALID with the reason. */
int node_name_check(struct ctx *ctx, struct str name);
/* A name that is free in the folder: name itself, or with " (2)", " (3)" ... */
int node_free_name(struct dtx *t, int64_t parent_id, struct str name, struct str *out);

#endif
