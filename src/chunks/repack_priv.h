/* repack_priv: repack.c looks at packs, retires and deletes them; repack_copy.c rewrites one. */
#ifndef SD_CHUNKS_REPACK_PRIV_H
#define SD_CHUNKS_REPACK_PRIV_H

#include "chunks/index.h"
#include "chunks/repack.h"

/* What a round knows of a pack. */
struct pack_fact {
	int64_t id, tenant_id;
	int64_t live_bytes, rows;
	int64_t file_bytes; /* -1: there is no file */
	int64_t retired_us;
	enum pack_state state; /* 0: it has no row */
	bool kept; /* without a row, and not to be told from one whose row was lost */
	bool chosen;
};

struct copying;
/* Copies go to one pack after the other, of one tenant at a time. */
struct copying *copying_begin(struct repack *r);
/* Copies what is alive in the pack. E_CANCELLED: go_on ended it. */
int copying_pack(struct copying *c, const struct pack_fact *pack);
/* Makes durable and moves what was copied so far, also after a fault of the above. */
int copying_end(struct copying *c, int err);

#endif
