/* plan: from three trees to what has to be done. Pure: no clock, disk, network or global; same trees, same plan (I6).
 *
 *   #   remote since synced   local since synced        operation
 *   01  same                  same                      nothing
 *   02  new or edited         same                      FETCH / MAKE_LOCAL
 *   03  same                  new or edited             SEND / SEND_VERSION with base = synced / MAKE_REMOTE
 *   04  edited                edited, equal bytes       RECORD: write synced only; also adopts what both sides made alike
 *                                                       (in other capitals: MOVE_LOCAL to the name it has remotely, 10)
 *   05  edited                edited, other bytes       as the strategy says; KEEP_BOTH: DETACH to a copy's name, then 02
 *   06  deleted               same                      TRASH_LOCAL
 *   07  deleted               edited                    SEND_VERSION that restores, or DETACH and then 03
 *   08  edited                deleted                   FETCH: an edit beats a delete
 *   09  same                  deleted                   TRASH_REMOTE
 *   10  moved                 not moved (or reverse)    MOVE_LOCAL (or MOVE_REMOTE), a folder as one operation
 *   11  moved                 moved elsewhere           MOVE_LOCAL: remote decides the place; content is not touched
 *   12  two nodes, one name                             remote keeps the name, MOVE_LOCAL of the other beside it; case
 *                                                       twins (D19) keep their local names and get a suffix remotely
 *   13  moves that form a cycle                         remote stands: MOVE_LOCAL undoes the local move
 *   14  deleted               deleted                   FORGET the synced row
 *   15  folder deleted        a child edited            the folder and that child stay (DETACH, or MAKE_LOCAL when it was
 *                                                       deleted here), untouched children go
 *
 * The executable bit travels alone as well: SET_MODE_LOCAL is case 02, SET_MODE_REMOTE case 03; content that is sent or
 * fetched carries the bit that changed. A bit that was never agreed (adoption, 04) is the server's.
 *
 * How it ends. A plan need not do everything: what has to wait for another operation (a parent that does not exist
 * yet, a name still taken) is left to the next round. Each operation carries what it assumes; whoever executes it
 * checks that first and skips it otherwise, so the operations of one plan may run in any order, in parallel, or not at
 * all. Sorted by `order` most of them succeed at once. The executor folds each result, not the intention, into the
 * trees (I8) and plans again until the plan is empty. Names that wait for each other in a ring are untied by a
 * temporary name, ".scaidrive-moving-" and the id, which the planner knows again whoever finds it after a crash. What a user puts
 * under such a name, another node's place, is renamed here before it goes to the server. One that stands for PLAN_TEMP_STANDS_US is
 * replaced by "moving-" and the id, or a copy's name where that is taken, by whichever device sees it first; for others it is a rename.
 *
 * Deleting: a node is deleted on one side only when the other side's tree lacks an id that synced has. A tree must
 * therefore be complete; absence of knowledge is the caller's to tell from absence of a node (I11, guard.h).
 */
#ifndef SD_RECONCILE_PLAN_H
#define SD_RECONCILE_PLAN_H

#include "base/time.h"
#include "reconcile/resolve.h"
#include "reconcile/tree.h"

#define PLAN_TEMP_STANDS_US SECONDS_US(86400)

enum plan_verb {
	PLAN_RECORD,       /* synced := what both have (see record_*); a local node with an own id takes the remote's */
	PLAN_FORGET,       /* drop the synced row */
	PLAN_MAKE_LOCAL,   /* create the folder at (parent, name) */
	PLAN_FETCH,        /* download into (parent, name); has_local: replace those bytes */
	PLAN_MOVE_LOCAL,   /* rename to (parent, name) */
	PLAN_TRASH_LOCAL,  /* into the client's trash; a folder only when it is empty */
	PLAN_DETACH,       /* the local node becomes a new one with an own id, the synced row goes; name set: renamed */
	PLAN_MAKE_REMOTE,  /* create the folder at (parent, name) */
	PLAN_SEND,         /* upload a new file to (parent, name) */
	PLAN_SEND_VERSION, /* upload a version of remote.id on top of base_version_id */
	PLAN_MOVE_REMOTE,  /* to (parent, name) */
	PLAN_TRASH_REMOTE, /* one call for a folder with all its content */
	PLAN_SET_MODE_LOCAL,  /* set the executable bit of the local file */
	PLAN_SET_MODE_REMOTE, /* of the remote one */
};

/* How a side's node differs from what was agreed. */
enum plan_diff {
	DIFF_NEW = 1,      /* it is there, and nothing was agreed about it */
	DIFF_DELETED = 2,  /* something was agreed, and it is not there */
	DIFF_EDITED = 4,   /* other bytes */
	DIFF_MOVED = 8,    /* another folder */
	DIFF_RENAMED = 16, /* another name */
	DIFF_MODE = 32,    /* another executable bit */
};

/* Why an operation is in the plan. plan_explain() says it in a sentence. The causes are there when whoever keeps the trees
 * told them (tree_set_cause): of a remote node when its change was read from the log (also of a delete), of a local one
 * when a scan noticed the difference. */
struct plan_reason {
	unsigned remote, local;               /* sets of enum plan_diff; 0: as agreed, or on neither side */
	struct node_cause remote_cause, local_cause; /* all zero: unknown; by lives in the plan's arena */
};

struct plan_op {
	enum plan_verb verb;
	int case_no;           /* of the table above */
	const char *reason;    /* which rule of the case, in a few words */
	struct plan_reason why;
	uint64_t order;        /* execute in ascending order: folders before content, parents first, deletes last */
	int64_t id;            /* the remote node's id, or the local node's when there is no remote one */
	enum node_kind kind;
	int64_t parent;        /* target folder; an id in the tree of the side that is written */
	struct str name;       /* target name on that side; STR_NULL: not renamed */
	struct str other_name; /* set when the other side shall bear another name (D19): then synced gets a local_name */
	bool final;            /* MOVE_*: this is the agreed place, to be recorded; false: a temporary or evading name */
	bool restore;          /* SEND_VERSION: the remote file is in the trash */
	int64_t base_version_id;        /* SEND_VERSION */
	enum resolve_strategy strategy; /* SEND_VERSION; RESOLVE_NONE: refuse when the base is stale */
	bool record_content, record_place; /* RECORD */
	bool executable;       /* the bit that what is written shall have; RECORD: that was agreed */
	/* What the plan saw, and assumes. Names live in the plan's arena. */
	bool has_remote, has_local, has_synced;
	struct node_facts remote, local, synced;
};

struct plan_options {
	enum resolve_strategy strategy; /* case 05; RESOLVE_NONE means KEEP_BOTH */
	struct str device, date;        /* for the names of copies */
	struct str reserved;            /* a name the root does not hold on this disk (the client's own folder) */
	bool fold;                      /* this disk takes names with equal keys for one name */
	bool modeless;                  /* this disk keeps no executable bit: what it shows means nothing */
	int64_t now_us;                 /* by the clock of this disk's stamps; 0: unknown, temporary names stand */
};

struct plan {
	struct arena arena;
	struct plan_op *ops; /* by order, then id */
	size_t n, cap;
	size_t waiting;      /* nodes that wait for another operation */
};

/* Looks at what was touched in the trees since the last plan of the same three, and at what was not in step then; trees that
 * no plan has seen are gone through as a whole. So the cost grows with the differences. The trees' nodes and facts are not
 * changed, only the notes of what was touched. The same three trees always go together, with the same `modeless`: if one of
 * them is paired with others, tree_touch_all() it. Free with plan_fini. */
void plan_make(struct tree *remote, struct tree *local, struct tree *synced, const struct plan_options *options,
               struct plan *out);
void plan_fini(struct plan *p);

const char *plan_verb_name(enum plan_verb v);
/* One sentence for people: what is to be done, which side differed from what was agreed, how, since when and by whom, and
 * the case. The path is the caller's to add. "download it: edited remotely; on the server edited (change 812,
 * 2026-11-20T10:00:00Z, by Ann), here unchanged; case 02" */
struct str plan_explain(struct arena *a, const struct plan_op *op);
/* A file that programs keep beside a document for as long as it is open, or while it arrives. When it is new on one side it
 * is left alone there: not sent, not fetched, not deleted. What was synced before it got such a name stays synced. */
bool plan_is_passing(struct str name);

#endif
