/* backup: points in time of a whole server, kept in one folder, and the way back.
 *
 *   DIR/packs/X/ID.pack         packs, shared by all points
 *   DIR/20261121T094500Z.db     the database at that moment: SQLite, whatever engine the server has
 *   DIR/20261121T094500Z.json   what the point is; a point without it does not exist
 *
 * A point is made in this order: the rows, in one snapshot; then the packs that they name, of which only those that are new or
 * grew are copied (a pack only ever grows, so a copy made after the rows has all that they point to); then, when all is on the
 * disk, the .json by a rename. So a backup that was interrupted is no point, and the next one goes on with its packs. A hold
 * (hold.h) keeps the collector from removing packs meanwhile.
 *
 * Rows are copied by the same code out of and into either engine (db/db_copy.h), which is why SQLite's own online backup is not
 * used: a server can be moved from one engine to the other by a backup and a restore.
 *
 * What a backup does not hold, and a restore does not bring back: signing keys, refresh tokens, counts of sign-ins (so
 * whoever reads a backup cannot forge a token, and nobody stays signed in who was shut out since); uploads under way and
 * chunks that were sent and not used (clients send them again); leases. Password hashes are in it.
 */
#ifndef SD_DRIVE_BACKUP_H
#define SD_DRIVE_BACKUP_H

#include "drive/drive.h"

struct backup {
	const char *path;  /* DIR; nobody else works in it */
	struct disk *disk; /* the same */
	struct disk *packs; /* DIR/packs; for all but the making of points it may be NULL when there is none */
	const struct clock *clock;
	bool verify;     /* packs that are there already are read, and those that have rotted copied anew */
	bool rows_alone; /* for a catalog (catalog.h): without packs, and without what these tell */
	void (*progress)(void *arg, const char *what, int64_t done, int64_t all); /* all -1: not known */
	bool (*go_on)(void *arg); /* asked often while rows are copied; false ends it with E_CANCELLED. NULL: go on */
	void (*told)(void *arg, struct str sentence); /* something that is not as it should be, and does not end the work */
	void *arg;
};

enum { BACKUP_NAME_MAX = 24, BACKUP_ENGINE_MAX = 16, BACKUP_VERSION_MAX = 24 };

struct backup_point {
	char name[BACKUP_NAME_MAX]; /* its time, UTC */
	int64_t made_at;
	char version[BACKUP_VERSION_MAX], engine[BACKUP_ENGINE_MAX]; /* of the program and the server's database */
	int64_t schema, packs, pack_bytes, database_bytes;
	struct sha256 database_sha256;
};

struct backup_totals {
	int64_t copied_packs, copied_bytes;
	int64_t faults; /* told */
	int64_t removed_points, removed_packs, removed_bytes;
};

/* Whole points, the oldest first. */
int backup_points(const struct backup *b, struct arena *a, struct backup_point **out, size_t *n);

struct backup_source {
	struct db *db;
	struct disk *packs; /* NULL: the server has stored nothing yet */
	struct rng *rng;
};
int backup_make(const struct backup *b, const struct backup_source *from, struct backup_point *out,
                struct backup_totals *totals);

/* Leaves the newest keep points, and of the packs those that a point needs. */
int backup_prune(const struct backup *b, size_t keep, struct backup_totals *totals);

/* Are the database of the point and its packs there, and is the database as it was written? Faults are told. */
int backup_look(const struct backup *b, const struct backup_point *p, struct backup_totals *totals);

/* Opens the point's database for reading; after db_close, backup_close_point removes what SQLite leaves beside it. */
int backup_open_point(const struct backup *b, const struct backup_point *p, struct db **out);
/* The same in the schema of today: of an older point a copy in DIR is opened, which backup_close_point removes. */
int backup_open_upgraded(const struct backup *b, const struct backup_point *p, struct db **out);
void backup_close_point(const struct backup *b, const struct backup_point *p, struct db **db);

/* Into an empty database and an empty folder of packs; packs that are there already are taken for its own (from an earlier try).
 * ctx->drive->db is the database: without a schema, or with no later one than the point's and no tenant. token becomes the fact
 * "restored", so that a second try can tell that the first one was done. The rows come last and all at once, and with them
 * each tenant's log begins a new epoch (change.h), so that every client reads a snapshot and deletes nothing. E_CONFLICT: it is not
 * empty. Damage in packs is told, and does not end it. */
struct restore_target {
	struct ctx *ctx;
	struct disk *packs;
	struct str token;
};
int backup_restore(const struct backup *b, const struct backup_point *p, const struct restore_target *to,
                   struct backup_totals *totals);
/* Was this database restored with that token? */
int backup_restored(struct db *db, struct str token, bool *yes);

#endif
