/* upload_priv: what the files of upload say to each other. upload.c: sessions in the database; upload_live.c: sessions
 * in memory, and feeding them; upload_piece.c: a piece on its way in; upload_stage.c: staging files; upload_mover.c:
 * the thread.
 *
 * One lock guards everything in memory; it is not held over a disk or database call, but when a dead ingest is let go.
 */
#ifndef SD_DRIVE_UPLOAD_PRIV_H
#define SD_DRIVE_UPLOAD_PRIV_H

#include <pthread.h>

#include "base/limits.h"
#include "base/map.h"
#include "chunks/parts.h"
#include "drive/node_priv.h"
#include "drive/upload.h"

enum { STAGE_FOLDERS = 16, SPARE_MAX = LIMIT_UPLOAD_MEMORY / LIMIT_UPLOAD_CHUNK_MAX };

struct uploads {
	struct drive *drive;
	struct disk *staging;
	pthread_mutex_t mu;
	pthread_cond_t work; /* the mover's */
	pthread_t mover;
	bool stopping;
	struct map lives;   /* session id -> struct live */
	int64_t last_moved; /* the mover takes turns */
	size_t n_ingests;
	size_t n_waiting;       /* completions that wait for the mover */
	size_t memory;          /* bytes of pieces in memory */
	void *spare[SPARE_MAX]; /* of LIMIT_UPLOAD_CHUNK_MAX bytes each */
	size_t n_spare;
	_Atomic bool folder_synced[STAGE_FOLDERS];
};

/* A piece in a staging file, or (file_id 0) in chunks that its row names. */
struct staged {
	int64_t file_id, size_bytes;
	uint64_t xxh; /* of the file */
	bool claimed; /* the sender said what its SHA-256 is, and it was so */
	struct sha256 claim;
};

/* What was fed and cut, and is not in the database yet. */
struct part {
	struct part *next;
	struct content *content;
	struct ingest_tail tail;
	int64_t first, upto;
	bool last;
	bool claimed;
	struct sha256 claim;
};

/* A session in memory. */
struct live {
	struct uploads *u;
	int64_t id, tenant_id, size_bytes, chunk_bytes, n_pieces;
	int refs;
	bool dead;       /* off the table; freed with its last reference */
	int64_t used_us; /* monotonic */
	uint8_t *have;   /* a bit a piece: acknowledged */
	int64_t n_have, bytes_have;
	struct map staged; /* piece + 1 -> struct staged */
	struct upload_piece *active;
	int64_t fed;                   /* pieces below it were given to the ingest */
	int64_t durable;               /* pieces below it are in the database */
	struct ingest *ingest;         /* NULL with fed > 0: to be rebuilt */
	struct content_reader *reader; /* while that goes on */
	int64_t rebuilt_bytes, rebuild_bytes;
	bool feeding; /* someone owns ingest, reader and fed */
	bool syncing; /* someone makes parts durable */
	int broken;   /* what was fed and is not durable is lost: the fault; mended when nobody is at it */
	int last_fault;
	uint64_t breaks; /* how often that was */
	bool jumps;      /* a piece waited in vain for one that was not on its way: its pieces come out of order */
	struct part *parts, **parts_end;
	pthread_cond_t moved;
};

struct upload_piece {
	struct live *live;
	struct upload_piece *next; /* of live->active */
	int64_t index, size_bytes, got_bytes;
	bool claimed, claim_differs;
	struct sha256 claim;
	struct sha256_state *digest; /* of what went to the file, when there is a claim */
	uint8_t *memory; /* NULL: it goes straight to the file; or it was fed and written */
	bool held;       /* memory that counts in LIMIT_UPLOAD_HELD; else it is untouched but for its first bytes */
	bool lent;       /* to the ingest, which needs it until it is written */
	struct disk_file *file;
	struct xxh3_state *xxh; /* of what went to the file */
	int64_t file_id;
	bool complete, granted; /* granted: live->feeding is held for it */
	void (*wake)(void *arg); /* it waits: complete, for its turn, else for room */
	void *wake_arg;
	bool for_gap;        /* it waits for a piece that is not on its way yet */
	int64_t deadline_us; /* monotonic */
};

static inline int64_t piece_size(const struct live *l, int64_t index)
{
	return index + 1 < l->n_pieces ? l->chunk_bytes : l->size_bytes - index * l->chunk_bytes;
}

static inline bool live_has(const struct live *l, int64_t index)
{
	return l->have[index / 8] >> (index % 8) & 1;
}

/* ---- upload.c ---- */

/* The caller's session, whatever its status. E_NOT_FOUND. */
int upload_load(struct dtx *t, int64_t id, struct upload *out);
/* Its pieces that wait in staging files. */
struct staged_row {
	int64_t piece;
	struct staged staged;
	struct str recipe; /* for upload_stage: of a piece without a file, the chunks that hold it */
	int64_t skip_bytes; /* of them, before it begins */
};
int upload_staged(struct dtx *t, int64_t id, struct staged_row **out, size_t *n);
/* Pieces that are there before their turn: *n_new of them had no row and are not fed yet. E_EXPIRED. */
int upload_stage(struct tx *tx, int64_t id, const struct staged_row *rows, size_t n, size_t *n_new);
/* E_EXPIRED unless it is open or completed; E_CONFLICT when it is completed and open is wanted. */
int upload_status_check(struct ctx *ctx, const struct upload *up, bool open);

/* ---- upload_live.c; under u->mu where a name ends in _locked ---- */

/* The session in memory, referenced. up and rows as the database had them, when it was not there. */
struct live *live_find(struct uploads *u, int64_t id);
struct live *live_new(struct uploads *u, int64_t tenant_id, const struct upload *up, const struct staged_row *rows,
		      size_t n);
/* The database has these pieces: those that the session does not know (another session in memory took them) are its too. */
void live_learn_locked(struct live *l, const struct staged_row *rows, size_t n);
void live_put(struct live *l);
/* The session is over or its rows changed behind us: whoever is at it gets E_EXPIRED or E_BUSY. Freed when nobody is.
 */
void live_kill_locked(struct live *l);
void live_got_locked(struct live *l, int64_t index);
/* Could piece index be fed now? Then the caller may set l->feeding. */
bool live_may_feed_locked(struct live *l, int64_t index);
/* Is there room for one more ingest? If not, the one that was idle longest is let go. */
bool live_make_room_locked(struct uploads *u);
/* With l->feeding set: a new ingest for it. */
int live_begin_ingest(struct live *l);
/* With l->feeding set by the caller: bytes of a piece before those that live_feed is given. A fault: the ingest is dead. */
int live_feed_first(struct live *l, const void *p, size_t n);
/* With l->feeding set by the caller; clears it. The piece's bytes, or its last ones; on 0 they still have to be settled. *breaks is for
 * that. kept: they stay where they are until live_settle has returned, which writes them then. claim: their SHA-256, or NULL. */
int live_feed(struct live *l, int64_t index, const void *p, size_t n, const struct sha256 *claim, bool kept, uint64_t *breaks);
/* Returns when all below upto are durable: one caller writes, syncs and commits for all who came before. In any case
 * nobody is at the caller's bytes any more. */
int live_settle(struct live *l, int64_t upto, uint64_t breaks);
/* Gives up l->feeding after work on the ingest; err: the ingest is dead. Wakes whose turn it is. */
void live_release(struct live *l, int err);
/* The ingest is let go, to be rebuilt when it is needed. Nobody is at it. */
void live_park_locked(struct live *l);
/* Wakes the pieces that wait: all of l's that wait for their turn, or (l NULL) those that have waited too long. */
void live_wake(struct uploads *u, struct live *l);
bool live_has_work_locked(const struct live *l);

/* Memory for a piece, untouched or (used) as another piece left it; NULL when too much is in use. */
void *piece_memory_take_locked(struct uploads *u, int64_t size_bytes, bool used);
/* Memory that another piece left instead of untouched one, of which n bytes are in use; p itself when there is none. */
void *piece_memory_swap_locked(struct uploads *u, void *p, int64_t size_bytes, size_t n);
void piece_memory_give(struct uploads *u, void *p, int64_t size_bytes);

/* ---- upload_piece.c ---- */

/* Pieces [from, upto) were fed and lie in the pack's file: what they were received in may serve those that wait for room. */
void pieces_written(struct live *l, int64_t from, int64_t upto);

/* ---- upload_stage.c ---- */

enum { STAGE_NAME_MAX = 24 };
/* The file's name below the folder of staging files; the name of one of its STAGE_FOLDERS folders; and back: false when
 * it is no such file of that folder. */
void stage_name(char out[STAGE_NAME_MAX], int64_t file_id);
void stage_folder_name(char out[2], unsigned folder);
bool stage_file_id(struct str name, unsigned folder, int64_t *file_id);
int stage_create(struct uploads *u, int64_t *file_id, struct disk_file **out);
/* The file and its name are durable. */
int stage_sync(struct uploads *u, int64_t file_id, struct disk_file *f);
void stage_remove(struct uploads *u, int64_t file_id);
/* The bytes of a piece that is staged, in its file or in chunks. */
struct stage_source {
	int64_t size_bytes, at_bytes, skip_bytes;
	uint64_t xxh;
	struct disk_file *file;
	struct xxh3_state *digest; /* of the file so far */
	struct content_reader *chunks;
};
/* E_CORRUPT: they cannot be had. To be closed in any case. */
int stage_source_open(const struct live *l, int64_t piece, const struct staged *s, struct stage_source *out);
/* The next n bytes at most. E_CORRUPT: they are not all there, or, with the last ones, they are not what was staged. */
int stage_source_read(struct stage_source *s, void *out, size_t n, size_t *got);
void stage_source_close(struct stage_source *s);
/* At the start: files that no row names. */
int stage_sweep(struct uploads *u);

/* ---- upload_mover.c ---- */

void *upload_mover(void *uploads);

#endif
