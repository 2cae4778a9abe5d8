/* guard: stops a plan that would delete too much, in either direction, until a person agrees; and one that rests on a folder
 * which may not be the one that was synced.
 *
 * The worst losses of shipped sync clients came from believing a bad answer or an empty disk. More than half of what is
 * in step (when that is at least GUARD_LEAST nodes), or more than GUARD_MOST nodes, are not deleted unasked. Pure: the
 * caller looks, asks and stops. What would be done is the plan itself; plan_explain() tells it item by item.
 */
#ifndef SD_RECONCILE_GUARD_H
#define SD_RECONCILE_GUARD_H

#include "reconcile/plan.h"

enum { GUARD_LEAST = 10, GUARD_MOST = 1000 };

struct guard_verdict {
	bool stop;
	size_t remote, local; /* nodes the plan would delete there; folders count with all their content */
	size_t synced;        /* nodes in step before */
	uint64_t which;       /* a digest of what would be deleted, in whatever order: equal for equal sets on each side */
};

/* Each node that the plan would delete: folders with all their content on the server, local ones as they are named. The number tells
 * node and side. */
typedef void guard_fn(void *arg, uint64_t item);
void guard_each(const struct plan *p, const struct tree *remote, guard_fn *fn, void *arg);

struct guard_verdict guard_check(const struct plan *p, const struct tree *remote, const struct tree *synced);
/* "this would delete 20 items on the server and 3 here, of 30 in sync" */
struct str guard_explain(struct arena *a, const struct guard_verdict *v);

/* What a look at the synced folder showed. */
struct guard_root_facts {
	bool is_there;   /* there is a folder at its path */
	bool same_disk;  /* on the device where it was when it was opened */
	bool same_folder;/* and it is that very folder */
	bool has_marker;
	bool marker_is_ours;
};

enum guard_root {
	GUARD_ROOT_OK,
	GUARD_ROOT_MISSING,    /* nothing there, or something else in its place */
	GUARD_OTHER_DISK,      /* another disk is mounted there, or its own is not */
	GUARD_MARKER_MISSING,
	GUARD_MARKER_FOREIGN,  /* it is synced by somebody else */
};

enum guard_root guard_root(const struct guard_root_facts *f);

#endif
