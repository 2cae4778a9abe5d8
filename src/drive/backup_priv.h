/* backup_priv: what the parts share. backup.c: making points; backup_points.c: which there are, and removing them;
 * backup_restore.c: the way back. */
#ifndef SD_DRIVE_BACKUP_PRIV_H
#define SD_DRIVE_BACKUP_PRIV_H

#include "drive/backup.h"

/* Tells a sentence and counts it. */
void backup_tell(const struct backup *b, struct backup_totals *totals, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Opens DIR/name, an SQLite file. */
int backup_open_db(const struct backup *b, const char *name, bool read_only, struct db **out);
/* Removes what SQLite may have left beside the file. */
void backup_tidy_db(const struct backup *b, const char *name);
/* The packs in which a database has chunks, ascending. */
int backup_packs_of(struct db *db, struct arena *a, int64_t **out, size_t *n);
/* SHA-256 and length of DIR/name. */
int backup_digest(const struct backup *b, const char *name, struct sha256 *digest, int64_t *bytes);

enum { BACKUP_FILE_MAX = BACKUP_NAME_MAX + 16 };
void backup_file(char out[BACKUP_FILE_MAX], const char *point, const char *suffix);

/* Writes the point's description beside and renames it: from here on it exists. */
int backup_write_point(const struct backup *b, const struct backup_point *p);

#endif
