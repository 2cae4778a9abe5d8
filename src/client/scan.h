/* scan: from the disk to the local tree.
 *
 * Everything below the root is listed and looked at; only files whose stamp changed are read. Identity (which thing on
 * the disk is which node) comes from the previous local tree, in this order:
 *   folders   the inode, else the same name in the same folder
 *   files     the same name in the same folder with the same inode, or with an inode never seen (editors save by
 *             replacing: one new version, not a deletion and a new file); then the inode (renames); then the name
 * What cannot be looked at (an unreadable folder, a file that changes while it is read, a thing we do not sync in its
 * place) keeps its old facts: ignorance is never a deletion (I11).
 */
#ifndef SD_CLIENT_SCAN_H
#define SD_CLIENT_SCAN_H

#include "client/root.h"
#include "io/lane.h"

/* An edit within a tick of the file system's clock does not show in a stamp: one whose times are this close to each other, or to
 * the present, is not believed. */
enum { SCAN_SETTLE_MS = 30 };
/* What a program has open for writing and wrote to that recently may be half of what it will be. */
enum { SCAN_WRITING_MS = 2000 };

struct scan_problem {
	struct str path;
	const char *what; /* a sentence for people, with what to do */
};

struct scan_result {
	struct tree tree; /* the new local tree */
	struct scan_problem *problems;
	size_t n_problems;
	size_t hashed;     /* files that were read */
	int64_t hashed_bytes;
	bool unsettled;    /* something was changing, or changed too recently to trust its stamp: scan again soon */
};

/* patient: a file that is being written is left for the next scan, as one that changes while it is read. old: the previous local tree. *next_id: the last own (negative) id given out, counted down. Memory of problems is the
 * ctx's arena. Files are read on the lane too, when there is one. An error means that the scan as a whole is worthless. The
 * tree is freed with tree_fini. */
int scan_run(struct ctx *ctx, struct root *root, struct lane *lane, const struct tree *old, int64_t *next_id,
             bool patient, struct scan_result *out);

#endif
