/* drive: the domain. Shares, nodes, versions, changes, devices, conflicts; knows no HTTP and no JSON of requests.
 *
 * A domain operation is `int x_verb(struct ctx *, const struct x_in *, struct x_out *)`: it opens its own transaction
 * with drive_read or drive_write. Inside one, functions take a struct dtx. Results live in ctx->arena.
 * Rights are checked where a node or share is obtained (node_load, share_load: D24), in the same transaction as the
 * work, never by callers.
 */
#ifndef SD_DRIVE_DRIVE_H
#define SD_DRIVE_DRIVE_H

#include "base/ctx.h"
#include "base/id.h"
#include "chunks/store.h"
#include "db/db.h"

struct change; /* drive/change.h */
struct tokens; /* drive/token.h */

/* Called after a write group is durable, on the thread that asked for the write: a hint that the tenant's log grew
 * (I5). It must not block. */
typedef void drive_listener_fn(void *arg, int64_t tenant_id);

struct drive {
	struct db *db;
	struct store *store;
	struct idgen *ids;
	const struct clock *clock;
	struct rng *rng;
	struct tokens *tokens;  /* NULL: nobody can sign in (tools, tests) */
	int64_t file_max_bytes; /* largest single request body for a file; default LIMIT_FILE_BYTES */
	struct {
		drive_listener_fn *fn;
		void *arg;
	} listeners[8];
	size_t n_listeners;
};

/* A drive transaction: the database's, who works in it, and the changes it will append. */
struct dtx {
	struct tx *tx;
	struct ctx *ctx;
	struct drive *drive;
	int64_t seq;         /* the tenant's head as this transaction leaves it; 0 until first used */
	struct change *first, *last; /* appended, flushed as the last statements of the op */
	size_t n_changes;
};

typedef int drive_op_fn(struct dtx *t, void *arg);

/* A snapshot read; op sees t->tx read-only. */
int drive_read(struct ctx *ctx, drive_op_fn *op, void *arg);
/* A write in ctx->tenant_id. op may run more than once; it sees a tenant that stands still (db.h). After op returns
 * 0 the changes it appended are numbered and stored; when all is durable the listeners are told. */
int drive_write(struct ctx *ctx, drive_op_fn *op, void *arg);
/* In a transaction of an operation that made something new under ctx->idempotency_key: 0 and *hit filled when the
 * key was used before for the same operation and request, else hit->n == 0. E_IDEMPOTENCY when it was another request. */
int idempotency_find(struct dtx *t, const struct sha256 *request_hash, struct rid *hit);
int idempotency_store(struct dtx *t, const struct sha256 *request_hash, struct rid made);

void drive_listen(struct drive *d, drive_listener_fn *fn, void *arg);
/* The tenant's log head in this snapshot (t->seq in a write). */
int drive_head(struct dtx *t, int64_t *seq);

#endif
