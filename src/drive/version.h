/* version: immutable content of a file: a recipe with a number (1, 2, ... per file, never reused).
 *
 * Every way in ends in version_commit() or version_settle(), inside a write: rights again, quota, base or strategy (resolve.h), chunk
 * index and recipe, version row, head, change. A staged version (D6) has number 0, is seen by its maker alone, counts to the
 * quota, and becomes the head by version_promote() or is swept when staged_until has passed.
 */
#ifndef SD_DRIVE_VERSION_H
#define SD_DRIVE_VERSION_H

#include "drive/conflict.h"
#include "drive/node.h"

struct version {
	int64_t id, node_id, number; /* number 0: staged */
	int64_t size_bytes;
	struct sha256 sha256;
	struct str mime_type; /* or STR_NULL */
	bool has_mtime;
	int64_t mtime_us;
	bool executable;
	int64_t created_by, created_at;
	struct str device_id; /* or STR_NULL */
	int64_t staged_until; /* 0: not staged */
	bool has_decompressed;      /* it was sent as gzip, and this is what it inflates to */
	int64_t decompressed_bytes;
	struct str recipe;    /* STR_NULL when it was listed */
};

struct chunk_found;
struct version_put {
	/* A new file: in folder_id, or at the root of share_id when folder_id is 0 (with both, the folder must lie in it). */
	int64_t share_id, folder_id;
	struct str name;
	/* Or the next version of a file. */
	int64_t replace_file_id;
	int64_t base_version_id; /* 0: not named; then the head is taken for the base, unless the strategy keeps both */
	enum resolve_strategy strategy;
	bool staged;             /* with replace_file_id only */

	const struct content *content; /* of ingest_finish or ingest_close; stays the caller's. NULL: the next three */
	struct str recipe;             /* of chunks that the caller has (drive/chunk.h) */
	int64_t had_us;                /* wall clock when they were looked for; E_BUSY after LIMIT_FOUND_MS */
	int64_t size_bytes;
	struct sha256 sha256;          /* verified */
	struct chunk_found *leased;    /* n_leased of them: in recipe by leases, which the version uses up (drive/chunk.h) */
	size_t n_leased;
	const struct node *folder;     /* NULL, or folder_id as this transaction loaded it with RIGHT_CREATE */
	struct str mime_type;          /* STR_NULL: as the file had it, or by the name */
	bool has_mtime, has_executable, executable;
	int64_t mtime_us;
	struct str device_id;          /* STR_NULL: the token's */
	struct str mime_by_content;    /* a guess, for want of mime_type and a known extension; or STR_NULL */
	bool has_decompressed;
	int64_t decompressed_bytes;
};

enum version_fate {
	VERSION_HEAD = 1,  /* it is the head now */
	VERSION_UNCHANGED, /* the head has these bytes already; nothing was written (but attributes, where they differ) */
	VERSION_KEPT,      /* the head stands; it is in the history with a number */
	VERSION_STAGED,
};

struct version_result {
	enum version_fate fate;
	struct node node;         /* the file afterwards */
	struct version version;   /* this content as a version of that file (UNCHANGED: the head) */
	bool has_copy;            /* KEEP_BOTH made a file beside */
	struct node copy;
	bool has_conflict;
	struct conflict conflict;
	int64_t seq;              /* of the last change; 0: none was written */
};

/* E_NAME_CONFLICT, E_NAME_INVALID, E_QUOTA, E_VERSION_STALE, E_NOT_FOUND, E_GONE, E_FORBIDDEN. */
int version_commit(struct dtx *t, const struct version_put *in, struct version_result *out);

/* What version_commit answered, for the same request sent again: the file and the version as they are now, with the conflict
 * and the copy that came of it. */
int version_again(struct dtx *t, int64_t file_id, int64_t version_id, struct version_result *out);

/* A version of the node, by id or by number; staged ones for their maker alone. E_NOT_FOUND. With recipe. */
int version_load(struct dtx *t, const struct node *n, int64_t id, struct version *out);
int version_load_number(struct dtx *t, const struct node *n, int64_t number, struct version *out);

/* A version of the file is to become its head, judged by resolve(): a staged one gets its number; the content of one in the
 * history becomes a new version. The file was loaded with RIGHT_WRITE (and NODE_WITH_TRASH where a strategy may restore it).
 * E_SYNC_CONFLICT: the id is not a version of this file that the caller may use, or its stage has ended. */
int version_promote(struct dtx *t, const struct node *n, int64_t version_id, int64_t base_version_id,
                    enum resolve_strategy strategy, struct str device_id, struct version_result *out);
/* The number's content as a new head. */
int version_restore(struct dtx *t, const struct node *n, int64_t number, struct str device_id, struct version_result *out);
/* A file beside *n, or in another folder, with v's content as its version 1; the recipe is shared. The name is checked. */
int version_copy(struct dtx *t, const struct node *n, const struct version *v, const struct node *folder, struct str name,
                 struct str device_id, struct node *out);
/* The copy that KEEP_BOTH makes: in the same folder, under resolve_copy_name() and the first free number. */
int version_copy_beside(struct dtx *t, const struct node *n, const struct version *v, struct str device_id,
                        struct node *out);
/* In a write: removes the row, or up to max > 0 rows of a file, the present version last; what else it takes (used bytes, a head that moves) is
 * the caller's. Nothing else deletes versions: for an hour the recipes stay in removed_versions, where the collector spares
 * their chunks, since a request may just be making a version of them. */
int version_remove(struct dtx *t, int64_t id);
struct version_removed {
	int64_t n, size_bytes;
	bool more; /* the file has more than max */
};
int version_remove_some(struct dtx *t, int64_t node_id, int64_t max, struct version_removed *out);
/* Removes staged versions whose time is over, at most 500 a call, in ctx->tenant_id. */
int drive_version_sweep(struct ctx *ctx, int64_t *removed);

#endif
