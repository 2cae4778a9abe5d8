/* plan_priv: what plan.c (what shall happen) and plan_names.c (under which name, and when) share. */
#ifndef SD_RECONCILE_PLAN_PRIV_H
#define SD_RECONCILE_PLAN_PRIV_H

#include "reconcile/plan.h"

enum place {
	PLACE_NONE,   /* on one side only */
	PLACE_SAME,   /* both sides agree */
	PLACE_LOCAL,  /* the local place wins: move remotely */
	PLACE_REMOTE, /* the remote place wins: move locally */
};

/* One id in up to three trees. A local node that pairs with a remote one (case 04) lends its l to the remote's item. */
struct item {
	int64_t id;
	struct node *r, *l, *s;
	enum place place;
	bool pair, cycle;
	bool keep; /* one-sided synced folder: something below must survive on this side (case 15) */
	bool wait; /* ... something below has yet to move out */
	bool busy; /* an operation on its place was emitted in this plan */
	uint64_t stamp;
	struct item *made_before; /* of all that this plan made */
};

struct maker {
	struct tree *remote, *local, *synced;
	const struct plan_options *options;
	struct plan *out;
	struct arena *a; /* the plan's */
	struct item **items; /* of what is not in step, by id */
	size_t n, cap;
	struct item *made;
	struct smap claims; /* names taken by operations of this plan */
};

/* What is in step has no item until somebody asks. */
struct item *item_make(struct maker *m, const struct node *n);

static inline struct item *item_of(struct maker *m, const struct node *n)
{
	return n->mark ? n->mark : item_make(m, n);
}

/* On one side only, not touched there, so it follows its deletion on the other. */
bool item_going(const struct item *it);
struct plan_op *plan_emit(struct maker *m, enum plan_verb verb, int case_no, const char *reason, struct item *it);
bool plan_is_temp(struct str name, int64_t id);

/* May `it` take (parent, *name) on this disk now? *name may become an alias. False: not now; what stands in the way
 * was dealt with (moved aside, evicted) or will go by itself. */
bool plan_local_slot(struct maker *m, struct item *it, struct item *parent, struct str *name);
/* The same remotely, for a node whose local name is *name; *name may get a suffix (case twins). */
bool plan_remote_slot(struct maker *m, struct item *it, struct item *parent, struct str *name);
/* The local node, which is new or was moved, bears a temporary name: somebody put it where a node was on its way to another name.
 * Such a name does not go to the server: the node is renamed here first. */
bool plan_leaves_temp(struct maker *m, struct item *it, const char *reason);
/* Both sides have had the node under its temporary name for so long that whoever gave it will not give another: the device lost its
 * state, say, or somebody restored what was deleted under that name. It is given one here, as if its user had renamed it. */
bool plan_is_forgotten(const struct maker *m, const struct item *it);
/* A copy's name that is free in both trees, for the local node of it. */
struct str plan_copy_name(struct maker *m, const struct item *it, struct str name);
/* Is the remote name free for a file that leaves the trash? */
bool plan_remote_free(struct maker *m, const struct item *parent, struct str name);

#endif
