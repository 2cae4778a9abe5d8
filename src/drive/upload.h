/* upload: a file that arrives in pieces, in any order, over days and restarts (resumable uploads).
 *
 * A session belongs to a principal and a share. Pieces are fed to an ingest in file order as they become whole (D11),
 * so that at the end nothing is left to do but one transaction. What an acknowledged piece rests on:
 *   - Its turn has come: its chunks are in a pack that was synced, and in the index; the session's row says how far the
 * file has come, and upload_parts hold the recipe so far. A piece whose predecessors are on their way waits for them in
 * memory, shortly (LIMIT_UPLOAD_WAIT_MS; LIMIT_UPLOAD_GAP_MS for one that may just be late), and holds no worker meanwhile.
 *   - Its turn has not come: it lies in a staging file of its own, synced, and in upload_pieces; the mover (a thread)
 * feeds it when the gap before it has closed. The ingest lives in memory. Lost in a restart, or parked because nothing
 * came for a while, it is rebuilt by the mover from the parts (their bytes are read and hashed again); pieces that come
 * meanwhile are staged.
 */
#ifndef SD_DRIVE_UPLOAD_H
#define SD_DRIVE_UPLOAD_H

#include "drive/version.h"

struct uploads;

/* staging: the folder of the staging files. Removes files that no row names. Starts the mover. */
int uploads_open(struct drive *drive, struct disk *staging, struct uploads **out);
/* No call may be under way. */
void uploads_close(struct uploads *u);

enum upload_status { UPLOAD_OPEN = 1, UPLOAD_COMPLETED, UPLOAD_CANCELLED, UPLOAD_EXPIRED };

/* What the content hashes to, as the client has it: of each piece; or with sizes of each chunk that it cut (upload_hint.h). */
struct upload_hints {
	const struct sha256 *hashes;
	const int64_t *sizes; /* NULL: hashes are of pieces */
	size_t n;
	const int64_t *sources; /* versions that may hold the chunks */
	size_t n_sources;
};

struct upload_create {
	struct version_put put; /* without content */
	int64_t size_bytes;
	int64_t chunk_bytes; /* of a piece; a power of two within the limits */
	bool has_checksum;
	struct sha256 checksum; /* of the whole file, as the client has it */
	struct upload_hints hints;
};
static inline int64_t upload_pieces(const struct upload_create *in)
{
	return in->size_bytes / in->chunk_bytes + (in->size_bytes % in->chunk_bytes != 0);
}

struct upload {
	int64_t id;
	enum upload_status status;
	struct upload_create in;
	int64_t n_pieces;
	int64_t next_piece; /* pieces below it are received */
	int64_t created_at, expires_at;
	int64_t n_received, bytes_received;
	int64_t *received, *missing; /* of create and get: the first UPLOAD_LIST_MAX of each */
	size_t n_received_listed, n_missing_listed;
	int64_t file_id, version_id; /* when completed */
	/* private */
	int64_t user_id;
	struct str tail, sha256;
	bool is_new;
};
enum { UPLOAD_LIST_MAX = 10000 };

/* Rights, name and quota as for the file itself (all is checked again at the end). Pieces that the hints find are received.
 * E_TOO_LARGE, E_INVALID, E_RATE_LIMITED: too many open sessions. An Idempotency-Key yields the session it made. */
int drive_upload_create(struct ctx *ctx, const struct upload_create *in, struct upload *out);
/* The caller's session. E_NOT_FOUND. E_EXPIRED: ended by inactivity or cancelled. */
int drive_upload_get(struct ctx *ctx, int64_t id, struct upload *out);
/* Also of one that was cancelled. E_CONFLICT: it is completed. */
int drive_upload_cancel(struct ctx *ctx, int64_t id);
/* Makes the version. Again: the same answer. E_CONFLICT: pieces are missing. E_CHECKSUM. E_BUSY: pieces are still being
 * put together after a restart, or because the first ones came last; ask again. Faults of drive_file_put. */
int drive_upload_complete(struct ctx *ctx, int64_t id, struct version_result *out);

/* A piece on its way in. One thread at a time. */
struct upload_piece;
struct upload_receipt {
	int64_t index, size_bytes;
	int64_t n_received, n_pieces, bytes_received;
};
/* length: what the client announced, or -1. hash: what it claims, or NULL. E_INVALID: no such piece. E_BAD_REQUEST:
 * wrong length. E_NOT_FOUND, E_EXPIRED, E_FORBIDDEN, E_CONFLICT (completed). */
int upload_piece_begin(struct ctx *ctx, int64_t id, int64_t index, int64_t length, const struct sha256 *hash,
		       struct upload_piece **out);
int upload_piece_feed(struct ctx *ctx, struct upload_piece *p, const void *data, size_t n);
/* The same without a copy: where the next *n bytes may be put (*n = 0: nowhere; they have to be fed), and that some were. */
void *upload_piece_room(struct upload_piece *p, size_t *n);
void upload_piece_took(struct upload_piece *p, size_t n);
/* Before most of it is: false: its session holds much in memory; wake(arg) is called once, soon. It is in order not to ask. */
bool upload_piece_may_receive(struct upload_piece *p, void (*wake)(void *arg), void *arg);
/* All is fed. False: its turn is near; wake(arg) is called once, soon. */
bool upload_piece_ready(struct upload_piece *p, void (*wake)(void *arg), void *arg);
/* After upload_piece_ready, or wake, or (then it does not wait for its turn) without. 0: the piece is durable.
 * E_CHECKSUM, E_BAD_REQUEST, E_NO_SPACE, E_EXPIRED ... */
int upload_piece_end(struct ctx *ctx, struct upload_piece *p, struct upload_receipt *out);
/* Always, last. */
void upload_piece_close(struct upload_piece *p);

#endif
