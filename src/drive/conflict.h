/* conflict: a recorded disagreement between what a device wanted and what the server had (D7).
 *
 * Recording never loses content: both sides are versions of the file before the row is written. A conflict is open
 * while resolved_at is 0; one that a strategy settled at once is born resolved, for the record.
 */
#ifndef SD_DRIVE_CONFLICT_H
#define SD_DRIVE_CONFLICT_H

#include "drive/drive.h"
#include "reconcile/resolve.h"

enum conflict_type {
	CONFLICT_EDIT_EDIT = 1, /* two edits of one file */
	CONFLICT_EDIT_DELETE,   /* an edit came for a file that is in the trash */
	CONFLICT_DELETE_EDIT,   /* a delete came for a file that was edited since */
	CONFLICT_FOLDER_DELETE, /* a delete came for a folder in which something changed since (D5) */
};

const char *conflict_type_name(enum conflict_type type); /* "edit_edit" ... */

struct conflict {
	int64_t id, tenant_id, share_id, user_id;
	struct str device_id; /* STR_NULL: none was named */
	struct rid resource;
	enum conflict_type type;
	struct str path;      /* when it was recorded; of a conflict that was read: as it is now */
	int64_t base_version_id, local_version_id, server_version_id; /* 0: none (a delete has no version) */
	int64_t copy_id;      /* the file made beside by KEEP_BOTH; 0: none */
	enum resolve_strategy strategy;   /* what the writer named */
	enum resolve_strategy resolution; /* what settled it; RESOLVE_NONE while open */
	int64_t resolved_at, resolved_by, created_at; /* resolved_at 0: open */
	int64_t seq; /* the log's head when it was recorded */
};

struct conflict_list_in {
	int64_t share_id;     /* 0: all that the caller may read */
	struct str device_id; /* STR_NULL: any; else one of the caller's */
	bool include_resolved;
	int64_t limit, offset; /* limit 0: CONFLICT_LIST_MAX, which is also the most */
};

struct conflict_list {
	struct conflict *items; /* newest first */
	size_t n;
};

/* In a write: stores *c, giving it id, tenant, user and times; open: it waits for someone, else it is settled by
 * c->strategy. */
int conflict_record(struct dtx *t, struct conflict *c, bool open);
/* E_NOT_FOUND: unknown, or in a share or on a node that the caller may not read. */
int conflict_load(struct dtx *t, int64_t id, struct conflict *out);

enum { CONFLICT_LIST_MAX = 1000 };

/* A device_id that is not the caller's gives E_NOT_FOUND. */
int drive_conflict_list(struct ctx *ctx, const struct conflict_list_in *in, struct conflict_list *out);
/* Carries out a strategy on the stored versions. The same again: success, nothing written. E_CONFLICT: settled by
 * another, or the file was edited since it was recorded. E_INVALID: MANUAL settles nothing. */
int drive_conflict_resolve(struct ctx *ctx, int64_t id, enum resolve_strategy how, struct conflict *out);
/* Conflicts of a type recorded by this process since it started, for /metrics; never goes back. */
int64_t conflict_recorded(enum conflict_type type);

#endif
