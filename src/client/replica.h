/* replica: what this device knows about one synced folder: three trees and a cursor, in memory and in SQLite.
 *
 * Observations are persisted, never pending work: after a crash the agent observes and plans again. The synced tree is
 * written from results alone (I8). What is about to be trashed here is told apart from what a user deletes by its id alone, which
 * is nothing to be carried out either (client/leaving.c). A change is in memory at once and durable after replica_flush.
 */
#ifndef SD_CLIENT_REPLICA_H
#define SD_CLIENT_REPLICA_H

#include "base/ctx.h"
#include "client/layout.h"
#include "db/db.h"
#include "reconcile/tree.h"

enum replica_tree { REPLICA_REMOTE, REPLICA_LOCAL, REPLICA_SYNCED, REPLICA_TREES };

/* An entry of the server's log. */
struct replica_entry {
	int64_t seq, id; /* its number; the node. 0: none */
	int64_t at_us;   /* when it was recorded; 0: unknown */
};

enum { REPLICA_NUMBERS = 13, REPLICA_TEXTS = 5 };

/* The facts besides the trees, in the order in which replica.c names them. */
struct replica_facts {
	int64_t numbers[REPLICA_NUMBERS];
	struct str texts[REPLICA_TEXTS];
};

struct replica {
	struct db *db;
	struct arena arena; /* of the strings */
	struct tree trees[REPLICA_TREES];
	struct map dirty[REPLICA_TREES];
	struct map by_content; /* first bytes of a checksum -> the id of a file that was once agreed with it; see replica_same_content */
	bool knows_content;
	struct map leaving;    /* ids: about to be trashed here, and it is not known yet whether they were */
	struct map leaving_dirty;
	struct map layouts;    /* to be written: id -> struct kept_layout */
	bool meta_dirty;
	struct replica_facts saved; /* as the database has them */
	int64_t cursor;        /* -1: none yet, start from the snapshot */
	struct replica_entry last; /* the last that was read, or was our own */
	int64_t next_local_id; /* the last own id given out */
	int64_t last_sync_us;  /* when both sides were last found in step; 0: never */
	bool marked;           /* the root was given its marker */
	struct str marker, share, share_name, path;
	struct str problem;    /* of the last round, for status; STR_NULL: none */
	int64_t problem_us;    /* when it was first met */
	int64_t held_remote, held_local; /* deletions that wait for a person's word; 0: none */
	int64_t held_which;    /* which they are (guard.h) */
	int64_t aged_us;       /* of the trash (trash_age_doubtful) */
	int64_t generation;    /* of this state (client/generation.c) */
};

/* Opens or makes the database. file is sqlite's; a new one gets a marker, and share and path are remembered. */
int replica_open(struct ctx *ctx, const char *file, struct replica *out);
/* Of a folder that was never synced, in memory alone: nothing can be flushed. */
void replica_open_blank(struct replica *out);
void replica_close(struct replica *r);
/* As if the folder had never been synced. */
void replica_forget(struct replica *r);

/* Facts into a tree. False: the tree refused them. */
bool replica_put(struct replica *r, enum replica_tree which, const struct node_facts *f);
/* Many, in any order (tree_put_all). */
size_t replica_put_all(struct replica *r, enum replica_tree which, const struct node_facts *f, size_t n);
void replica_del(struct replica *r, enum replica_tree which, int64_t id);
bool replica_rename_id(struct replica *r, int64_t local_id, int64_t new_id);
/* Whether the node is one of those that are about to be trashed here. */
void replica_set_leaving(struct replica *r, int64_t id, bool leaving);
/* Puts a whole new tree in the place of one; only differences are written. *t is moved from. noticed_us: when the differences
 * were seen, remembered as their cause; 0: not. */
void replica_replace(struct replica *r, enum replica_tree which, struct tree *t, int64_t noticed_us);
/* A file that both sides agreed to have this content, or NULL. Not every one is found; what is found is right. The first call goes
 * through the tree. */
const struct node_facts *replica_same_content(struct replica *r, const struct sha256 *checksum, int64_t size_bytes);
/* What the version of a file that is agreed consists of (client/layout.h): a cache, one version a file, gone with the file. Keeping takes
 * *layout over. */
void replica_keep_layout(struct replica *r, int64_t id, int64_t version_id, struct buf *layout);
/* The one that was flushed, into *out. False: it is not known. From any thread. */
bool replica_layout(struct replica *r, int64_t id, int64_t version_id, struct buf *out);
/* The flushed layout that has most bytes in common with this one: how many, and whose it is; 0: none has any. Of very many layouts
 * the first are looked at. From any thread. */
int64_t replica_similar(struct replica *r, const struct layout *like, int64_t *id, int64_t *version_id);
/* Makes everything since the last flush durable, in one transaction. */
int replica_flush(struct ctx *ctx, struct replica *r);
void replica_set_str(struct replica *r, struct str *field, struct str value);
/* STR_NULL: none any more. */
void replica_set_problem(struct replica *r, struct str problem, int64_t now_us);

#endif
