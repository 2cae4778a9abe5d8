/* base: the bytes of chunks that a request takes for known: chunks of versions that the caller may read, by their numbers in the
 * recipe (D13, D15). */
#ifndef SD_DRIVE_BASE_H
#define SD_DRIVE_BASE_H

#include "chunks/frame.h"
#include "drive/chunk.h"

/* A reader of a version, also of one in the trash. E_NOT_FOUND: there is none that the caller may read. *n_chunks grows by the
 * recipe's; above LIMIT_CHUNK_SOURCE_CHUNKS it is E_TOO_LARGE. */
int drive_base_open(struct ctx *ctx, int64_t version_id, size_t *n_chunks, struct content_reader **out);
/* The same inside a transaction. */
int base_load(struct dtx *t, int64_t version_id, size_t *n_chunks, struct content_reader **out);

/* Frames that came with flags (chunks/frame.h), back to the chunks that they stand for. */
struct rebuild;
/* ctx and sources, versions by their numbers, are borrowed. */
struct rebuild *rebuild_new(struct ctx *ctx, const int64_t *sources, size_t n_sources);
void rebuild_free(struct rebuild *r);
/* number: of the frame, for people. The bytes are valid until the next call; whether they have the frame's hash is not asked
 * here. E_BAD_REQUEST: no such frame or patch; E_CHUNK_MISSING: a source that the caller may not read, or none; E_TOO_LARGE: the
 * sources have too many chunks, or patches copied from more than LIMIT_BASE_BYTES; E_CORRUPT: a source is damaged on disk. */
int rebuild_chunk(struct rebuild *r, int64_t number, const struct frame *f, struct str *bytes);

#endif
