/* purge: what leaves the trash for good.
 *
 * What is to go is cut off from the tree in one transaction, which decides against a restore: its row loses its parent and its
 * name and becomes a mark (parent_id 0, name_key '', deleted_at > 0), to which no way leads from a share's root. From then on
 * node_load does not find it, nor anything below. What lies below goes afterwards, deepest first, so many rows a transaction;
 * its bytes are counted off the share as they go. When there are few rows, all of this is one transaction.
 *
 * The log tells nothing of it: the deletion that put the node into the trash is its last entry.
 *
 * Two ways lead here: node_purge (node.h), when somebody asks for it, and the job "trash", for what has been in the trash as long
 * as the policy says (policy.h). What must not go, say for a legal hold, is to be refused where each begins: in expired(), and
 * before node_purge.
 */
#ifndef SD_DRIVE_PURGE_H
#define SD_DRIVE_PURGE_H

#include "drive/node.h"

enum {
	PURGE_ROWS = 500, /* nodes and versions of one transaction */
	PURGE_PERIOD_S = 3600,
	PURGE_ROUND_S = 300,
};

#endif
