/* model: what a share is, in the plainest form: the oracle that simulators and random tests of the API compare with.
 *
 * A list of nodes, a list of versions, a number that counts changes. No indexes but id -> node, no concurrency, no
 * storage, nothing shared with the planner, the server, or resolve(): the rules of strategies stand here a second time,
 * written from the decisions (D5, D7, D8, D19) and not from the code, so that a fault in one is seen against the other.
 *
 *   make      a name is unique among what is not in the trash of one folder, compared by name_key()
 *   put       new bytes for a file. On the current base they become the head. On a stale one:
 *             none                      E_VERSION_STALE, nothing changes
 *             last writer, client wins  they become the head all the same
 *             server wins, manual       kept as a version; the head stays
 *             keep both                 kept as a version, and made a file of beside
 *             For a file in the trash: none E_GONE; server wins, manual as above; the others take it out of the trash.
 *             The head's own bytes change nothing but the executable bit, and that on the current base alone.
 *   move      E_MOVE_CYCLE into itself or below
 *   trash     marks one node; what is below is out of reach with it. With seen_seq (a folder): what others changed
 *             since then stays, and so do the folders on the way to it; the rest goes
 *   restore   to its folder, or to the root when that is in the trash; under a numbered name when its own is taken
 *
 * Nothing is ever forgotten: nodes and versions stay for good.
 */
#ifndef SD_RECONCILE_MODEL_H
#define SD_RECONCILE_MODEL_H

#include "reconcile/resolve.h"
#include "reconcile/tree.h"

struct model_version {
	int64_t id, node, number;
	int64_t size_bytes;
	struct sha256 checksum;
};

struct model_node {
	int64_t id, parent;
	enum node_kind kind;
	struct str name, key;
	bool trashed, executable;
	int64_t head;    /* id of the version; 0: a folder */
	int64_t numbers; /* versions so far */
	int64_t seq;     /* of its last change */
};

struct model_change {
	int64_t seq, id, by;
};

struct model {
	struct arena arena; /* of the names */
	struct map by_id;   /* id -> index + 1 */
	struct model_node *nodes;
	struct model_version *versions;
	struct model_change *log;
	size_t n, cap, n_versions, cap_versions, n_log, cap_log;
	int64_t seq, next_id;
};

enum model_verb { MODEL_MAKE, MODEL_PUT, MODEL_SET_MODE, MODEL_MOVE, MODEL_TRASH, MODEL_RESTORE };

struct model_op {
	enum model_verb verb;
	int64_t id;      /* MAKE: the new node's, or 0: the model chooses; the others: of what */
	int64_t parent;  /* MAKE, MOVE; TREE_ROOT is the share's root */
	struct str name; /* the same */
	enum node_kind kind;
	struct sha256 checksum; /* MAKE of a file, PUT */
	int64_t size_bytes;
	bool executable;         /* MAKE, PUT, SET_MODE */
	int64_t version_id;      /* MAKE of a file, PUT: of the version, or 0: the model chooses */
	int64_t base_version_id; /* PUT, TRASH of a file; 0: not named, and then a PUT that may win takes the head */
	enum resolve_strategy strategy;
	int64_t seen_seq; /* TRASH of a folder; -1: not named */
	int64_t by;       /* who; changes of others are what seen_seq guards */
	struct str copy_name; /* PUT: what a copy beside is called when that is free, or STR_NULL */
	int64_t copy_id, copy_version_id; /* 0: the model chooses */
};

struct model_result {
	int err;            /* 0 or E_*; then nothing else is set and nothing changed */
	int64_t id;         /* the node */
	int64_t version_id; /* of the bytes that came in; 0: there was nothing to store */
	bool changed;       /* something happened at all */
	bool conflict;      /* the other side stands, or stands in part, or gave way to a strategy */
	int64_t copy_id;    /* 0: none */
};

void model_init(struct model *m);
void model_fini(struct model *m);
struct model_result model_apply(struct model *m, const struct model_op *op);

/* NULL: unknown. Until the next call of model_apply. */
const struct model_node *model_get(const struct model *m, int64_t id);
const struct model_version *model_version(const struct model *m, int64_t id);
/* Neither it nor a folder above it is in the trash. False: unknown. */
bool model_is_live(const struct model *m, int64_t id);
/* Was content of that checksum ever stored? */
bool model_has(const struct model *m, const struct sha256 *checksum);
/* As a reader of the change log sees the node; names are borrowed. */
struct node_facts model_facts(const struct model *m, const struct model_node *n);
/* What a reader of the change log does: brings the tree, that knows everything up to `since`, up to date. */
void model_feed(const struct model *m, int64_t since, struct tree *t);

#endif
