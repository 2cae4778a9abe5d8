/* What the parts of apply share: apply.c drives, apply_content.c edits and deletes files, apply_place.c makes, moves and
 * renames, apply_folder.c deletes folders. */
#ifndef SD_DRIVE_APPLY_PRIV_H
#define SD_DRIVE_APPLY_PRIV_H

#include "base/map.h"
#include "drive/apply.h"
#include "drive/device.h"
#include "drive/version.h"

/* Nodes of the share that others changed after base_cursor; read once a transaction, when first needed. Changes made
 * by the transaction itself are the device's own, so the set stays true until it ends. */
struct apply_foreign {
	bool loaded;
	bool too_many; /* more than LIMIT_APPLY_TRASH_WALK entries since base_cursor */
	struct map ids; /* node id -> itself */
};

/* Content of a change, worked out before its transaction (apply_bytes.c). */
struct apply_ready {
	int err;           /* why it cannot be; told when the change's turn comes */
	struct str detail;
	struct str recipe;
	int64_t size_bytes;
	struct sha256 sha256;
	bool unverified;   /* sha256 is not known yet */
	const struct chunk_found *chunks; /* of a change that names chunks */
	size_t n_chunks;
};

/* A transaction's worth of a request. */
struct apply_batch {
	const struct apply_in *in;
	struct apply_out *out;
	size_t from, to;   /* of the transaction; to is known when it ends */
	bool tripped;      /* a change failed in a transaction that was not careful: it is lost, to be done again with care */
	bool careful;      /* something of the request failed: what is taken is looked for, failures are told one by one */
	struct device device;
	struct apply_foreign foreign;
	struct apply_ready *ready; /* one a change; NULL: none brings content */
	int64_t hash_left;         /* bytes that the request may still have read again */
	int64_t had_us;            /* wall clock when its chunks were looked for */
};

/* One change at work. */
struct apply_step {
	struct apply_batch *batch;
	struct dtx *t;
	const struct apply_change *c;
	struct apply_result *r;
};

/* The named resource with the rights it takes, also from the trash; of this share, else E_NOT_FOUND. */
int apply_node(struct apply_step *s, unsigned want, struct node *out);
/* Fills the result from the node as it is now. */
void apply_says(struct apply_step *s, enum apply_status status, const struct node *n);
/* Records a conflict over n and hangs it on the result. */
int apply_conflict(struct apply_step *s, const struct node *n, enum conflict_type type, int64_t local_version_id,
                   int64_t server_version_id, int64_t copy_id, bool open);

/* Whether someone else changed the node after base_cursor (which must be named). E_CURSOR_INVALID when it lies too far
 * back to tell. */
int apply_foreign_has(struct apply_step *s, int64_t node_id, bool *yes);

/* Before the first transaction: finds the content of the changes and verifies it. Faults of the machine alone. */
int apply_bytes_find(struct ctx *ctx, struct apply_batch *b);
/* The content of the change, as version_commit() takes it, or why it cannot be. */
int apply_bytes_put(struct apply_step *s, struct version_put *put);
/* After the last change of the request: the leases of what its changes brought along are used. Once, not with each of its
 * transactions, since a lease is a row of thousands of chunks; a request that fails before leaves them to their end. */
int apply_bytes_used(struct dtx *t, struct apply_batch *b);

int apply_file_made(struct apply_step *s);   /* created, with content */
int apply_file_edited(struct apply_step *s); /* updated, with content */
int apply_file_created(struct apply_step *s);
int apply_file_updated(struct apply_step *s);
int apply_file_deleted(struct apply_step *s);
int apply_folder_created(struct apply_step *s);
int apply_folder_deleted(struct apply_step *s);
int apply_placed(struct apply_step *s); /* moved, renamed; both kinds */

#endif
