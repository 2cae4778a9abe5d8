/* change: the append-only log of a tenant (D1, D2).
 *
 * Numbers: a write group holds the tenant's row from its first statement (db.h), so the next number can be taken at any
 * point of the op and still becomes visible in order: no reader ever sees n before n - 1 (I1).
 */
#ifndef SD_DRIVE_CHANGE_H
#define SD_DRIVE_CHANGE_H

#include "drive/drive.h"

enum change_type { CHANGE_CREATED = 1, CHANGE_UPDATED, CHANGE_DELETED, CHANGE_MOVED, CHANGE_RENAMED };

const char *change_type_name(enum change_type type);

struct node; /* drive/node.h */

/* One entry; strings live in the arena of whoever made it. */
struct change {
	struct change *next;
	int64_t seq, tenant_id, share_id;
	struct rid resource;
	enum change_type type;
	int64_t changed_by, changed_at;
	struct str old_path, new_path; /* share-rooted, or STR_NULL */
	int64_t version_id;
	struct str device_id;
	struct str metadata;  /* JSON object (D2): parent_id (null: the share's root), name, size, mime_type, checksum_sha256,
	                       * version, mtime (ISO 8601 with a fraction), executable, device_id; subtree, reason where they apply */
	struct str ancestors; /* as stored; not read in pages */
};

/* Takes the next number, fills it into *seq (may be NULL) and queues the entry; metadata is made from the node as it is
 * after the change. subtree: descendants arrive without rows of their own (D2). */
int change_append(struct dtx *t, enum change_type type, const struct node *node, struct str old_path,
                  struct str new_path, bool subtree, struct str device_id, int64_t *seq);
/* The same for a share itself; reason (or STR_NULL) goes into the metadata, e.g. "members". */
int change_append_share(struct dtx *t, enum change_type type, int64_t share_id, struct str name, struct str reason);
/* The number that the next change_append of this transaction will get. */
int change_peek(struct dtx *t, int64_t *seq);
/* Stores what is queued. */
int change_flush_rows(struct dtx *t);
/* The same, and moves the tenant's head; called by drive_write. */
int change_flush(struct dtx *t);

/* A page (GET /sync/changes). share_id 0: every share that the principal may read. */
struct change_page_in {
	int64_t share_id;
	struct str cursor; /* as sent; STR_NULL: the head */
	int64_t limit;     /* 1..5000 */
};
struct change_page {
	struct change *items;
	size_t n_items;
	int64_t cursor; /* last position scanned */
	bool has_more;
};
/* E_CURSOR_INVALID, E_NOT_FOUND (share). */
int change_page_read(struct ctx *ctx, const struct change_page_in *in, struct change_page *out);
/* In a write, after the database was restored from a backup: numbers that readers may have seen are skipped. The head
 * jumps to the present millisecond since 2024 times 4,096, or, where the clock is behind it, by a random number below 2^34, so that a second
 * restore of the same backup does not give the numbers that followed the first again (below 2^53 for 69 years), and every cursor from before is refused from now on (D1), also one that the backup
 * knew: its reader may have been told of results that are gone. ids_behind: drive_leap_ids(). */
int change_epoch_begin(struct dtx *t, int64_t ids_behind);
/* What a restore skipped: the numbers above from and up to to. What was made since has numbers above to and ids above ids_behind. */
struct change_gap {
	int64_t from, to, ids_behind; /* ids_behind: INT64_MAX where it was not kept */
};
/* The row of facts that tells the tenant's, oldest first, and reading its value. */
struct str change_gaps_key(struct arena *a, int64_t tenant_id);
bool change_gap_next(struct str *gaps, struct change_gap *out);
/* Its value; "": none. */
int change_gaps(struct dtx *t, struct str *out);
/* Parses and checks a cursor against the log in this snapshot: not older than the log, not from before a restore, not
 * from the future. */
int cursor_check(struct dtx *t, struct str text, int64_t *position);

#endif
