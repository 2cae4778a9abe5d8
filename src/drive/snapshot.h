/* snapshot: every live node of a share once, in id order, page by page (D3).
 *
 * The cursor is taken before the first page and carried in the token, so a reader links the nodes at the end and
 * replays the changes from that cursor: whatever moved between two pages comes again there. In id order no node can be missed by
 * moving; in path order a folder moved between two pages would lose its subtree.
 * A page holds at most limit nodes and may hold fewer, even none, before the end: only the absence of a token ends it.
 */
#ifndef SD_DRIVE_SNAPSHOT_H
#define SD_DRIVE_SNAPSHOT_H

#include "drive/node.h"

struct snapshot_in {
	int64_t share_id;
	int64_t folder_id;     /* 0: all; else this folder and what is below */
	struct str page_token; /* STR_NULL: the first page */
	int64_t limit;         /* 1..LIMIT_PAGE_SNAPSHOT; 0: 1000 */
};
struct snapshot_page {
	struct node *items; /* without path; the root folder is not among them */
	size_t n;
	int64_t cursor;     /* the same on every page */
	struct str gaps;    /* change_gaps(), on the first page */
	struct str next_page_token; /* STR_NULL: that was all */
};
/* READ. E_BAD_REQUEST (the token is not one of this share and folder), E_CURSOR_INVALID (the log no longer reaches back
 * to it), E_NOT_FOUND, E_GONE. */
int drive_snapshot(struct ctx *ctx, const struct snapshot_in *in, struct snapshot_page *out);

#endif
