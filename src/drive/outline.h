/* outline: which chunks a version consists of, told in steps (chunks/steps.h), as a stream: chunks by their hashes, or, when
 * the caller has the recipe of another version, runs of that. */
#ifndef SD_DRIVE_OUTLINE_H
#define SD_DRIVE_OUTLINE_H

#include "base/buf.h"
#include "drive/chunk.h"

struct outline;

struct outline_in {
	int64_t version_id;
	int64_t base_version_id; /* 0: none */
	bool brief;              /* instead of steps 12 bytes a chunk: the first 8 of its hash, 4 length; without a base */
};

/* READ on both versions, also when they are in the trash: E_NOT_FOUND. E_TOO_LARGE: more than LIMIT_ASSEMBLED_CHUNKS. Holds the
 * version's recipe in memory, a few bytes a chunk, and of what it shares with the base a bounded record. */
int drive_outline_open(struct ctx *ctx, const struct outline_in *in, struct outline **out);
/* Of the version that it tells. */
int64_t outline_content_bytes(const struct outline *o);
const struct sha256 *outline_content_hash(const struct outline *o);
/* Bytes that outline_read yields together. */
int64_t outline_bytes(const struct outline *o);
/* Appends what is next, some KiB; nothing at the end. Reads the database: not inside a transaction. */
int outline_read(struct outline *o, struct buf *out);
void outline_close(struct outline *o);

#endif
