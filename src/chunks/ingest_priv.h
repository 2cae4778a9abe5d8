/* ingest_priv: an ingest from within; for ingest.c and parts.c. */
#ifndef SD_CHUNKS_INGEST_PRIV_H
#define SD_CHUNKS_INGEST_PRIV_H

#include "chunks/store_priv.h"

struct ingest {
	struct store *store;
	int64_t tenant_id, size_hint;
	struct gear gear;
	struct chunker chunker;
	struct sha256_state *whole;
	uint8_t *slab;
	size_t fill;             /* bytes in the slab */
	size_t ends[INDEX_BATCH]; /* of the chunks in it */
	size_t n_ends;
	struct sha256 hashes[INDEX_BATCH]; /* of the chunks in it, when the caller cuts; of those that are taken in place */
	bool given;              /* the caller cuts (ingest_begin_chunks) */
	struct content *content;
	size_t cap_chunks;
	struct map by_hash; /* first 8 bytes of a chunk's hash -> number of the first such chunk + 1 */
	struct shared_pack *held;
	uint64_t ticket;
	struct pack_writer own;
	bool has_own;
	bool lent; /* what is fed stays until the next part was written */
	unsigned raw_run; /* chunks in a row that did not shrink */
	int64_t kept;    /* of own: parts up to here are in the index, and an abort leaves them */
	int err;
};

/* An empty one that begins now. */
struct content *ingest_content(struct store *s);
/* Deals with the chunks that end in the slab and moves the rest to its front. */
int ingest_drain(struct ingest *in);
/* Appends to the ingest's own pack; kept: as pack_append_kept. */
int ingest_append_own(struct ingest *in, struct pack_entry *e, const void *stored, bool kept);
/* Whether new chunks go to a pack of its own. */
bool ingest_wants_own(const struct ingest *in);

#endif
