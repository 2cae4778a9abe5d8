/* where: what a node is called, for people: its share's name and its path, as far as they can be found. No rights are asked: for
 * tools and checks. */
#ifndef SD_DRIVE_WHERE_H
#define SD_DRIVE_WHERE_H

#include "db/db.h"

struct where {
	int64_t share_id;
	struct str share, path; /* STR_NULL: not known */
	bool in_trash;
};
/* node_id 0: of the share alone, out->share_id; else that may be 0. */
int where_is(struct tx *tx, struct arena *a, int64_t node_id, struct where *out);
/* "Files:/a/b.txt" */
int where_text(struct tx *tx, struct arena *a, int64_t node_id, struct str *out);

#endif
