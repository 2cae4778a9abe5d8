/* tree: nodes keyed by id, with children by parent and by name. Three of them feed the planner (plan.h).
 *
 *   remote   what the server has: ids are the server's (positive)
 *   local    what the disk has: the server's id where the thing is known, else a negative id of our own
 *   synced   what both sides agreed on when they last agreed
 *
 * The synced tree is flat: its rows are agreements about one node each, taken at different moments, so together they
 * need not form a tree. It has the same calls without links: no children, no names, no checks of parents.
 *
 * The share's root is node TREE_ROOT, a folder that always exists. A linked tree is always well formed: every node has a
 * parent that is a folder, and there is no cycle; a call that would break this is refused and changes nothing.
 */
#ifndef SD_RECONCILE_TREE_H
#define SD_RECONCILE_TREE_H

#include "base/arena.h"
#include "base/hash.h"
#include "base/map.h"

enum { TREE_ROOT = 0 };

enum node_kind { NODE_FOLDER, NODE_FILE };

/* What tells one thing on a disk from another, and whether it was touched. */
struct disk_stamp {
	uint64_t dev, ino;
	int64_t birth_ns; /* 0: the file system does not say */
	int64_t mtime_ns, ctime_ns;
	int64_t size_bytes;
};

/* What a caller says about a node. */
struct node_facts {
	int64_t id, parent;
	enum node_kind kind;
	bool executable;
	struct str name;       /* synced: the server's name */
	struct str local_name; /* synced only: the name on this disk when it differs (D19), else STR_NULL */
	int64_t version_id;    /* files; 0: none (local) */
	int64_t version;       /* its number; 0: unknown */
	int64_t size_bytes;
	struct sha256 checksum;
	int64_t mtime_us;
	struct disk_stamp stamp; /* local */
};

/* What is known of the change that made a node what it is. For people; it decides nothing. */
struct node_cause {
	int64_t seq;   /* remote: its number in the change log; 0: unknown */
	int64_t at_us; /* remote: when the server recorded it; local: when it was noticed here; 0: unknown */
	struct str by; /* who, as it shall be shown; STR_NULL: unknown */
};

struct node {
	struct node_facts f; /* name and local_name are owned by the tree */
	struct str key;      /* name_key(name) */
	struct node *up, *first, *prev, *next; /* siblings are in no particular order */
	struct node *twin;   /* next node of the same (parent, key) hash */
	void *mark;          /* the planner's during one plan_make, else NULL */
};

struct tree {
	struct map by_id;
	struct map by_name; /* hash of (parent, key) -> chain */
	struct map causes;  /* id -> what tree_set_cause was told */
	struct map touched; /* ids that the planner has to look at: changed since, or not in step when it last looked */
	bool all_touched;   /* all of them, as in a tree that it has not seen yet */
	struct node *root;
	struct arena scratch;
	size_t count; /* without the root */
	bool flat;
};

void tree_init(struct tree *t);
void tree_init_flat(struct tree *t);
void tree_fini(struct tree *t);

struct node *tree_get(const struct tree *t, int64_t id); /* NULL: unknown */

/* Adds the node, or gives the known id new facts (which may move it). NULL, and nothing changed, when the parent is
 * unknown or a file, the kind of a known id changes, the id is the root's, or the move would make a cycle. */
struct node *tree_put(struct tree *t, const struct node_facts *facts);
/* Adds many in any order, parents found wherever they stand. Returns how many could not be placed (no such parent, a
 * cycle); the others are in. */
size_t tree_put_all(struct tree *t, const struct node_facts *facts, size_t n);
/* Removes the node and everything below (flat: the node alone). False: unknown or the root. */
bool tree_remove(struct tree *t, int64_t id);
/* Gives a node another, unused id. False: unknown, the root, or taken. */
bool tree_rename_id(struct tree *t, int64_t id, int64_t new_id);

/* The node must be looked at by the next plan. Whatever changes a tree does this by itself. */
void tree_touch(struct tree *t, int64_t id);
/* All of them must. */
void tree_touch_all(struct tree *t);
/* now, just made, takes the place of old: causes and what is to be looked at go over. The caller then touches every id that
 * the two do not have alike. */
void tree_succeed(struct tree *now, struct tree *old);

/* Remembers why the node is as it is, or why it is gone; the node need not exist. Copied; an earlier one is replaced. The
 * planner forgets it when it finds the node in step. */
void tree_set_cause(struct tree *t, int64_t id, const struct node_cause *cause);
void tree_forget_cause(struct tree *t, int64_t id);
/* NULL: unknown. */
const struct node_cause *tree_cause(const struct tree *t, int64_t id);

/* The first child of that name key; the next with tree_twin. In a remote tree there is at most one. */
struct node *tree_child_by_key(const struct tree *t, int64_t parent, struct str key);
struct node *tree_twin(const struct node *n);
/* The child of exactly that name. */
struct node *tree_child_exact(const struct tree *t, int64_t parent, struct str name);
/* Is n the ancestor itself or below it? */
bool tree_is_below(const struct node *n, const struct node *ancestor);
/* Number of steps to the root. */
int tree_depth(const struct node *n);
/* The next node of a walk through everything below top, parents first; start with top, NULL at the end. */
struct node *tree_walk(const struct node *top, const struct node *at);
/* "/a/b" with the server's names; "/" for the root. */
struct str tree_path(struct arena *a, const struct node *n);

/* Equal as content: kind, size and bytes. */
bool node_same_content(const struct node_facts *a, const struct node_facts *b);
/* The name this node bears on the disk, by a synced row. */
struct str node_local_name(const struct node_facts *synced);

#endif
