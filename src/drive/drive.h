/* drive: the domain. Shares, nodes, versions, changes, devices, conflicts; knows no HTTP and no JSON of requests.
 *
 * A domain operation is `int x_verb(struct ctx *, const struct x_in *, struct x_out *)`: it opens its own transaction
 * with drive_read or drive_write. Inside one, functions take a struct dtx. Results live in ctx->arena.
 * Rights are checked where a node or share is obtained (node_load, share_load: D24), in the same transaction as the
 * work, never by callers.
 */
#ifndef SD_DRIVE_DRIVE_H
#define SD_DRIVE_DRIVE_H

#include <stdatomic.h>

#include "base/ctx.h"
#include "base/id.h"
#include "base/limits.h"
#include "chunks/store.h"
#include "db/db.h"

struct change; /* drive/change.h */
struct tokens; /* drive/token.h */
struct uploads; /* drive/upload.h */
struct collector; /* drive/collect.h */

/* Called after a write group is durable, on a thread that asked for the write: a hint that the tenant's log grew
 * (I5). It must not block. */
typedef void drive_listener_fn(void *arg, int64_t tenant_id);

/* Called like a listener, when a principal's rights in a share may have grown or shrunk (D9: force_sync). who.n 0:
 * everyone's; share_id 0: in any share. */
typedef void drive_access_fn(void *arg, int64_t tenant_id, int64_t share_id, struct rid who);

struct drive {
	struct db *db;
	struct store *store;
	struct disk *packs; /* of the store; tools may have it without one, for reading. NULL: none */
	const char *catalog; /* path of the folder for catalogs (catalog.h); NULL: none is kept */
	struct idgen *ids;
	const struct clock *clock;
	struct rng *rng;
	struct uploads *uploads; /* NULL: resumable uploads are not served (tools) */
	struct tokens *tokens;  /* NULL: nobody can sign in (tools, tests) */
	struct collector *_Atomic collector; /* of this process; NULL: there was none yet */
	int64_t scrub_bytes_per_s; /* read at most by the job "scrub"; 0: no limit */
	int64_t file_max_bytes; /* largest single request body for a file; default LIMIT_FILE_BYTES */
	int assembling_max;     /* contents hashed at once for drive_assemble; 0: none (tools) */
	_Atomic int assembling;
	_Atomic bool stopping;  /* whatever takes long may give up */
	struct {
		drive_listener_fn *fn;
		void *arg;
	} listeners[8];
	size_t n_listeners;
	struct {
		drive_access_fn *fn;
		void *arg;
	} access_listeners[4];
	size_t n_access_listeners;
};

enum { DTX_ACCESS_MAX = 8, DTX_TABLES_MAX = 3, DTX_ROWS_MAX = 64 };

/* Rows of one table that wait to be inserted together. */
struct dtx_rows {
	const char *sql; /* NULL: unused */
	struct dbv *args;
	size_t n_args, n;
};

/* A drive transaction: the database's, who works in it, and the changes it will append. */
struct dtx {
	struct tx *tx;
	struct ctx *ctx;
	struct drive *drive;
	int64_t seq;         /* the tenant's head as this transaction leaves it; 0 until first used */
	int64_t stored_seq;  /* and as its row has it */
	struct change *first, *last; /* appended, flushed as the last statements of the op, or before */
	struct dbv *change_args;     /* of change_flush_rows; NULL: not yet needed */
	size_t n_changes;
	struct {
		int64_t share_id;
		struct rid who;
	} access[DTX_ACCESS_MAX]; /* announced after the commit */
	size_t n_access;
	/* The caller's rights in the share asked about last (access.c). */
	int64_t rights_share_id;
	unsigned rights;
	int role;
	/* The share counted on last (share_use), and what is to be added to its row. */
	struct {
		int64_t share_id, left_bytes, pending_bytes;
	} use;
	/* What is taken (a name, an op_id) is not looked for but told by its unique index: E_CONFLICT, and the write is lost.
	 * For writes that are then run again without this. */
	bool by_index;
	/* What is at work only makes files (drive_makes_files). */
	bool makes_files;
	struct node *folder; /* the one they were made in last (node_load_folder); NULL: none, or it may have changed since */
	struct dtx_rows waiting[DTX_TABLES_MAX]; /* of drive_insert */
	struct index_batch *chunks;              /* of drive_chunk_batch; NULL: not yet needed */
};

typedef int drive_op_fn(struct dtx *t, void *arg);

/* New ids are greater than those of the database (idgen_follow): a client takes a version with a greater id for a newer one. */
/* The database does not keep all ids that were given: those of packs, of what was deleted. Where the clock is behind, so that they would come
 * again, new ones begin a random part of 16 s further on. */
int drive_follow_ids(struct db *db, struct idgen *ids, struct rng *rng);
/* In a write, after the database was restored from a backup: new ids are behind *behind, which is kept (facts 'ids_behind'). It is greater
 * than all that the database knows and than the clock's, by a random part of 70 minutes: the time that was lost gave ids too,
 * and where the clock is behind it they would come again. */
int drive_leap_ids(struct dtx *t, int64_t *behind);
/* A snapshot read; op sees t->tx read-only. */
int drive_read(struct ctx *ctx, drive_op_fn *op, void *arg);
/* A write in ctx->tenant_id. op may run more than once; it sees a tenant that stands still (db.h). After op returns
 * 0 the changes it appended are numbered and stored; when all is durable the listeners are told. */
int drive_write(struct ctx *ctx, drive_op_fn *op, void *arg);
/* A write that nobody sleeps for, as db_write_begin says: *w, ctx and arg are the caller's to keep until done is called; then
 * drive_write_end, once, on any thread but the writer's, yields what drive_write would have. */
struct drive_write {
	struct ctx *ctx;
	drive_op_fn *op;
	void *arg;
	bool makes_files;  /* op only makes files: those of a group go on where the one before left off */
	struct db_write w; /* before and done are the caller's to fill */
	/* ---- */
	struct dtx t;
};
void drive_write_begin(struct drive_write *w);
int drive_write_end(struct drive_write *w);
/* What comes next only makes files, of which it reads nothing but their folders; or it may be anything: then what waits is
 * inserted, and the folder is forgotten. */
int drive_makes_files(struct dtx *t, bool yes);
/* tx_exec of an insert; while files are made by_index the row may wait for drive_insert_flush, which then tells of a conflict: many
 * rows at once cost half as much (and on PostgreSQL one round trip). */
int drive_insert(struct dtx *t, const char *sql, const struct dbv *args, size_t n_args);
/* Where chunks of new files wait for it too, or NULL. */
struct index_batch *drive_chunk_batch(struct dtx *t);
int drive_insert_flush(struct dtx *t);
/* A part of a write that may fail alone: its rows and its queued changes are undone. ctx keeps the fault; clear it to go
 * on. */
int drive_nested(struct dtx *t, drive_op_fn *part, void *arg);
/* A dtx over a transaction that was opened elsewhere; its changes are not flushed. For tools and tests. */
void dtx_init(struct dtx *t, struct tx *tx, struct ctx *ctx);
/* In a transaction of an operation that made something new under ctx->idempotency_key: 0 and *hit filled when the
 * key was used before for the same operation and request, else hit->n == 0. E_IDEMPOTENCY when it was another request. */
int idempotency_find(struct dtx *t, const struct sha256 *request_hash, struct rid *hit);
int idempotency_store(struct dtx *t, const struct sha256 *request_hash, struct rid made);

void drive_listen(struct drive *d, drive_listener_fn *fn, void *arg);
void drive_listen_access(struct drive *d, drive_access_fn *fn, void *arg);
/* In a write: to be announced after the commit. */
void drive_access_changed(struct dtx *t, int64_t share_id, struct rid who);
/* Before something new is made: is there room for a few rows besides what deleting and signing in need? 0 or E_NO_SPACE. */
int drive_room(struct dtx *t);
/* The tenant's log head in this snapshot (t->seq in a write). */
int drive_head(struct dtx *t, int64_t *seq);

#endif
