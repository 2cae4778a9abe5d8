/* chunk: when a caller has a chunk (D13).
 *
 * A hash is never a key. What turns a hash into content is one of two things, and nothing else:
 *  - a lease: this principal uploaded the bytes (drive_chunks_keep) less than LIMIT_CHUNK_LEASE_MS ago;
 *  - a source: the hash is in the recipe of a version that the request names and the caller may read.
 * Both are looked up in what belongs to the caller alone. The tenant's index of chunks is not asked, so neither the answer
 * nor the time it takes depends on what others have. Within the store equal chunks of a tenant are kept once all the same.
 *
 * The collector (collect.h) spares leases for as long as there are rows of them, which is an hour longer than they last, and
 * the chunks of a version for an hour after it was removed: a request may just be using one (drive/assemble.h). Its roots:
 * versions.recipe, removed_versions.recipe, upload_parts.recipe, upload_pieces.recipe, leases, and the packs of uploads.tail.
 */
#ifndef SD_DRIVE_CHUNK_H
#define SD_DRIVE_CHUNK_H

#include "base/map.h"
#include "drive/file.h"

/* What a client must know to cut as the server does. */
struct chunking {
	uint8_t key[32];
};
/* READ on the share. */
int drive_chunking(struct ctx *ctx, int64_t share_id, struct chunking *out);

/* May the caller upload size_bytes (-1: unknown) of chunks for this share? WRITE; E_QUOTA, also when it would hold more than
 * LIMIT_LEASED_BYTES that no version uses. *room_bytes: how many it may upload, of a body whose length is not known too. */
int drive_chunks_check(struct ctx *ctx, int64_t share_id, int64_t size_bytes, int64_t *room_bytes);
/* Chunks that are durable (ingest_finish) are indexed and leased to the caller, in writes of LIMIT_CHUNKS_TX. Repeatable.
 * E_QUOTA as above. */
int drive_chunks_keep(struct ctx *ctx, const struct content *c, int64_t *expires_at);

/* missing[i]: the caller does not have hashes[i]. Sources that the caller may not read or that are no more count for
 * nothing. E_TOO_LARGE: their recipes are too long for one request. */
int drive_chunks_missing(struct ctx *ctx, const struct sha256 *hashes, size_t n, const int64_t *sources, size_t n_sources,
                         bool *missing);

/* A page of a version's recipe. */
struct file_chunk {
	struct sha256 hash;
	int64_t offset;
	uint32_t length;
};
struct file_chunks {
	struct version version;
	struct file_chunk *items;
	size_t n, total;
};
/* number 0: the head. READ. */
int drive_file_chunks(struct ctx *ctx, int64_t file_id, int64_t number, bool include_deleted, int64_t offset, int64_t limit,
                      struct file_chunks *out);

/* A chunk of a lease, as chunk_leases.chunks holds it: hash 32, chunk id 8, length 4, the top bit of which is `used`; all
 * little-endian. */
enum { LEASE_ENTRY_BYTES = 44 };
struct lease_entry {
	struct sha256 hash;
	int64_t chunk_id;
	uint32_t length;
	bool used; /* by a version */
};
/* The slot is one of chunks.n / LEASE_ENTRY_BYTES. E_CORRUPT: id or length are impossible; the entry is filled all the same. */
int lease_entry_read(struct str chunks, size_t slot, struct lease_entry *e);

/* ---- inside a transaction ---- */

struct chunk_found {
	int64_t id;       /* 0: not had */
	int64_t lease_id; /* 0: had by a source */
	uint32_t length;
	uint32_t slot;    /* in the lease */
};
/* In the caller's live leases, the newest first. */
int chunk_leased(struct dtx *t, const struct sha256 *hashes, size_t n, struct chunk_found *out);
/* In a write: versions refer to these now, so they no longer count against LIMIT_LEASED_BYTES. n chunks or fewer: those
 * without a lease are passed over. Reorders found. */
int chunk_leases_use(struct dtx *t, struct chunk_found *found, size_t n);

/* The chunks of sources, by hash. Zero-initialise; strings live in ctx's arena. */
struct chunk_sources {
	struct map versions; /* version id -> its chunks by hash (chunk.c) */
	size_t n_chunks;
};
void chunk_sources_fini(struct chunk_sources *s);
/* Reads the recipe of a version, once. What cannot be read is empty. E_TOO_LARGE. */
int chunk_source_add(struct dtx *t, struct chunk_sources *s, int64_t version_id);
/* The chunk in one of the sources that were added, or id 0. */
struct chunk_found chunk_source_find(const struct chunk_sources *s, int64_t version_id, const struct sha256 *hash);
/* What a lease did not have (found->id 0), by the sources in turn, which are added as they are needed. E_TOO_LARGE. */
int chunk_source_any(struct dtx *t, struct chunk_sources *s, const int64_t *sources, size_t n_sources, const struct sha256 *hash,
                     struct chunk_found *found);
/* A version that the caller may read, with its file; by the version's id alone. E_NOT_FOUND. */
int version_load_readable(struct dtx *t, int64_t version_id, unsigned flags, struct node *n, struct version *out);

#endif
