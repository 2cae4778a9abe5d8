/* agent: observe, plan, act, for one synced folder. One thread drives it; transfers may run in a lane.
 *
 *   observe   pull the change log (or the snapshot) into the remote tree, scan the disk into the local tree
 *   plan      reconcile/plan.h, then the guard
 *   act       in order; each operation checks what it assumes; its result, never the intention, goes into the trees
 *
 * A round ends with everything durable. After any crash the next round observes and plans again.
 */
#ifndef SD_CLIENT_AGENT_H
#define SD_CLIENT_AGENT_H

#include "client/remote.h"
#include "client/replica.h"
#include "client/root.h"
#include "client/scan.h"
#include "io/lane.h"
#include "reconcile/guard.h"
#include "reconcile/plan.h"

struct agent_problem {
	char *path; /* heap */
	char *what; /* heap */
};

/* What happened, for people, --json and the journal. */
struct agent_event {
	const char *verb;   /* plan_verb_name() */
	int case_no;
	struct str path;
	int64_t id;         /* of the node; negative: known here alone */
	enum node_kind kind;
	int64_t size_bytes; /* of the content that was moved or agreed; 0 for folders */
	struct str why;     /* plan_explain() */
	const char *reason;
	int err;            /* 0: done */
	struct str detail;
};

struct agent_stats {
	int64_t sent_files, sent_bytes, fetched_files, fetched_bytes;
	int64_t made, moved, trashed, copies, rounds;
};

struct agent {
	struct root *root;
	struct replica *replica;
	struct remote *remote;
	struct lane *lane;      /* NULL: transfers run inline */
	struct str share, device_name;
	enum resolve_strategy strategy;
	bool allow_mass_delete;
	/* A person agreed to the deletions of this plan. NULL: nobody did. */
	bool (*confirmed)(void *arg, const struct plan *p, const struct guard_verdict *v);
	void (*on_event)(void *arg, const struct agent_event *e); /* may be NULL */
	/* total: operations of this round; called now and then. May be NULL. */
	void (*on_progress)(void *arg, size_t done, size_t total, int64_t bytes);
	/* Waits a moment for a file system to settle; the seam for sleeping. */
	void (*pause)(void *arg, int ms);
	void *arg;
	/* Kept by the agent. */
	bool scan_wanted;       /* set by whoever sees the disk change */
	bool unsettled;         /* scan again soon */
	bool hasty;             /* it was waited for long enough: what is still being written goes as it is */
	bool reread;            /* set by whoever is told that rights changed: read the snapshot, after the log */
	bool stranger;          /* the server may not know this device: it is told before the log is read */
	bool restored;          /* the server does not know our position: it may know less than was agreed */
	struct agent_stats stats;
	struct agent_problem *problems; /* of the last round */
	size_t n_problems, cap_problems, n_scan_problems;
	_Atomic int64_t bytes;          /* sent and received in this round */
	size_t acted, planned;          /* of this round, for on_progress */
	bool unsynced;          /* folders were made that may not be on the disk yet */
	bool looking;           /* nothing is written */
	bool begun;             /* the state was found to be the latest (client/generation.c) */
	bool one_by_one;        /* a bulk call was refused as a whole */
	bool no_twins;          /* a content that the server was said to have was refused */
	_Atomic bool no_sources; /* a chunk that the server has was refused, for the file's own base does not have it: such are sent too */
	struct map own;         /* log entries that this device caused, and whose effect stands in the remote tree */
	bool has_gear;          /* how the server cuts, once it was asked */
	struct gear gear;
};

struct agent_round {
	size_t planned, done, failed, waiting;
	struct guard_verdict guard;
	bool in_step; /* nothing left to do */
};

/* Whether this is the latest copy of the state, as the folder's marker tells (client/generation.c). Who looks beside a process that
 * syncs reads the two at different moments, and should look again when they do not fit. */
bool agent_state_fits(const struct replica *r, const struct root *root);
void agent_init(struct agent *a, struct root *root, struct replica *replica, struct remote *remote);
void agent_fini(struct agent *a);
/* One round. An error is the server's or the disk's as a whole (try again later); single operations that failed are
 * counted and listed as problems. E_PRECONDITION: the guard stopped the plan, nothing was done. */
int agent_round(struct ctx *ctx, struct agent *a, struct agent_round *out);
/* Observes and plans without doing anything, not even in memory that lasts: nothing is written, and the agent is good for nothing
 * else afterwards. Folders that would be made count as made, so that what would follow into them is told as well. root may be
 * NULL: an empty disk. */
typedef void agent_item_fn(void *arg, const struct plan_op *op, struct str path, struct str why);
int agent_look(struct ctx *ctx, struct agent *a, agent_item_fn *on_item, void *arg, struct agent_round *out);
/* Rounds until both sides are in step, or nothing moves any more. */
int agent_settle(struct ctx *ctx, struct agent *a, struct agent_round *out);

#endif
