/* apply: a device's changes, carried out in order (D4, D5, D6, D7).
 *
 * Each change is atomic. They are carried out in transactions of as many changes as LIMIT_APPLY_TX_US hold, so a request that
 * fails with a fault (E_DB, E_BUSY, ...) may have been carried out up to a transaction's end: sent again with the same
 * op_ids it continues there, since what succeeded is repeated from its stored result, not done twice. A change that
 * failed is not stored: sent again it is tried again.
 *
 * Without a strategy the request is all or nothing as far as stale bases go: one stale base (E_VERSION_STALE) or one
 * version that is not the file's (E_SYNC_CONFLICT) and nothing is applied. Such a request runs in one transaction and
 * is therefore limited to LIMIT_APPLY_ALL_OR_NONE changes (E_INVALID above).
 *
 *   change            node             outcome
 *   any               op_id known      duplicate: the stored result
 *   created file      there            noop: the upload made it already
 *                     with content     made; a name that is taken as for folders, below, but a file never meets a file
 *   created folder    name is free     made
 *                     a folder there   noop, with that folder's id: two clients made the same folder
 *                     a file there     E_NAME_CONFLICT; KEEP_BOTH: made under a free name, renamed
 *   updated           version is head  noop
 *                     version staged   resolve(): promoted, or kept as a version (resolve.h)
 *                     version in the history, made after the base      noop: it took effect once already
 *                     version in the history, otherwise                resolve(): its content becomes the head again
 *                     with content     as an upload would (version_commit): base or strategy, the loser kept
 *   moved, renamed    the same place   noop
 *                     name taken       E_NAME_CONFLICT; KEEP_BOTH: a free name, renamed
 *   deleted           in the trash     noop
 *                     file             into the trash; resolve() decides when base_version_id is stale
 *                     folder           into the trash, one row; with base_cursor only what nobody else changed since
 *                                      (apply_folder.c), then a conflict is recorded
 */
#ifndef SD_DRIVE_APPLY_H
#define SD_DRIVE_APPLY_H

#include "drive/change.h"
#include "drive/conflict.h"

/* The content of a file, that the change brings along: chunks the caller has, or a version it may read. */
struct apply_bytes {
	const struct sha256 *chunks; /* in file order; none: an empty file */
	size_t n_chunks;
	const int64_t *sources;      /* versions that may hold them */
	size_t n_sources;
	int64_t source_version_id;   /* 0, or this version's content, whole; then chunks is empty */
	bool has_checksum, has_size; /* claims: E_CHECKSUM when one is wrong. Taken from the content when there is none */
	struct sha256 checksum;
	int64_t size_bytes;
	bool has_mtime, has_executable, executable;
	int64_t mtime_us;
	struct str mime_type;        /* STR_NULL: by the name */
};

struct apply_change {
	struct str op_id;        /* STR_NULL: none */
	struct rid resource;     /* kind: ID_FILE or ID_FOLDER; n 0: not named (a folder to be made) */
	enum change_type type;
	int64_t version_id, base_version_id; /* 0: not named */
	struct str new_path;     /* share-rooted; STR_NULL: not named */
	bool has_parent;         /* parent_id was named; it goes before new_path */
	int64_t parent_id;       /* 0: the share's root */
	struct str name;         /* STR_NULL: not named; goes before the last part of new_path */
	const struct apply_bytes *bytes; /* NULL: none. Files that are created (without resource) or updated (without version) */
};

struct apply_in {
	struct str device_id;
	int64_t share_id;
	enum resolve_strategy strategy;
	int64_t base_cursor; /* the position up to which the client had seen the share; -1: not named */
	const struct apply_change *changes;
	size_t n_changes;
};

enum apply_status {
	APPLY_APPLIED = 1, /* as asked */
	APPLY_DUPLICATE,   /* done by an earlier request with the same op_id; its result */
	APPLY_NOOP,        /* was so already; nothing written */
	APPLY_RENAMED,     /* done, under another name */
	APPLY_CONFLICT,    /* the server's side stands, or stands in part: see the conflict (repeated for a known op_id) */
	APPLY_FAILED,      /* err and detail say why; nothing of this change was done */
};

const char *apply_status_name(enum apply_status s); /* "applied", "duplicate" ... */

struct apply_result {
	size_t index;
	struct str op_id;
	enum apply_status status;
	int err;             /* APPLY_FAILED */
	struct str detail;
	enum change_type type;
	struct rid resource;
	int64_t version_id, version; /* the head afterwards; 0 for folders */
	int64_t parent_id;   /* 0: the share's root */
	struct str name;
	int64_t seq;         /* the change's number in the log; 0: none was written */
	int64_t conflict_id; /* 0: none; may be set with APPLY_APPLIED too (the incoming side won) */
	const struct conflict *conflict; /* NULL: none, or not the caller's to read any more */
};

struct apply_out {
	struct apply_result *results; /* one a change, in order */
	size_t n_results;
	int64_t cursor;               /* the tenant's head after the last transaction */
};

/* E_NOT_FOUND (device, share), E_VERSION_STALE, E_SYNC_CONFLICT (single change, or no strategy), E_INVALID,
 * E_CURSOR_INVALID (base_cursor from the future). */
int drive_apply(struct ctx *ctx, const struct apply_in *in, struct apply_out *out);

#endif
