/* repair_priv: what the parts of a repair share. repair.c: what one statement can mend, and the order of all; repair_tree.c: places and
 * names. */
#ifndef SD_DRIVE_REPAIR_PRIV_H
#define SD_DRIVE_REPAIR_PRIV_H

#include "drive/repair.h"

struct repair {
	const struct repair_config *config;
	const struct repair_list *list;
	struct arena arena; /* of one step */
	struct ctx ctx;     /* of no tenant, or of the one at hand */
	bool touched;       /* a tree or the log: begin the log anew */
};

/* Runs op as a write of the tenant; 0: of all. The arena is fresh. */
int repair_write(struct repair *r, int64_t tenant_id, drive_op_fn *op, void *arg);
void repair_done(struct repair *r, const char *code, int64_t n, const char *sentence);

int repair_places(struct repair *r);
int repair_names(struct repair *r);

#endif
