/* guard: stops a plan that would delete too much, in either direction, until a person agrees.
 *
 * The worst losses of shipped sync clients came from believing a bad answer or an empty disk. More than half of what is
 * in step (when that is at least GUARD_LEAST nodes), or more than GUARD_MOST nodes, are not deleted unasked.
 */
#ifndef SD_RECONCILE_GUARD_H
#define SD_RECONCILE_GUARD_H

#include "reconcile/plan.h"

enum { GUARD_LEAST = 10, GUARD_MOST = 1000 };

struct guard_verdict {
	bool stop;
	size_t remote, local; /* nodes the plan would delete there; folders count with all their content */
	size_t synced;        /* nodes in step before */
};

struct guard_verdict guard_check(const struct plan *p, const struct tree *remote, const struct tree *synced);

#endif
