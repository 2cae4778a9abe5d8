/* assemble: a version of any length whose content the client says in steps (chunks/steps.h; D14): chunks that it has
 * (drive/chunk.h), and runs of the recipes of versions that it may read. The server hashes the content itself; what the client
 * says of it is a claim.
 *
 * Hashing reads all of the content, which a tiny request may ask for, so at most drive->assembling_max do it at once, in the
 * bulk lane and outside of any transaction; the others are refused with E_BUSY before anything is looked up.
 *
 * Until the version is there, its chunks rest on what made the caller have them, which may end meanwhile: the collector spares
 * them for an hour longer (drive/chunk.h); hashing takes LIMIT_ASSEMBLE_MS at most, and what has become too old by the clock all
 * the same (LIMIT_FOUND_MS) makes no version.
 */
#ifndef SD_DRIVE_ASSEMBLE_H
#define SD_DRIVE_ASSEMBLE_H

#include "drive/file.h"

struct assemble_in {
	struct version_put put; /* sha256 and size_bytes are what the client claims; no content, no recipe */
	struct str steps;
	const int64_t *sources; /* version ids */
	size_t n_sources;
};

/* The faults of drive_file_put; E_BAD_REQUEST: the steps cannot be followed; E_CHUNK_MISSING; E_TOO_LARGE; E_CHECKSUM;
 * E_CORRUPT: a chunk is damaged on disk; E_BUSY; E_TIMEOUT. */
int drive_assemble(struct ctx *ctx, const struct assemble_in *in, struct version_result *out);

/* SHA-256 of the content of a recipe, read again; not inside a transaction. E_TIMEOUT: it was not done before until_us (0: no
 * bound); E_SHUTDOWN. */
int content_hash(struct ctx *ctx, struct str recipe, int64_t size_bytes, int64_t until_us, struct sha256 *out);

#endif
