/* db_copy: the rows of one database into another, whichever engines they have; for backups.
 *
 * One of the two is SQLite, and its catalog says which tables and columns there are. Rows travel in pages by primary key,
 * so memory holds a page, and both sides stay in the transactions they were given: the copy is one snapshot of the source,
 * and is there whole or not at all. */
#ifndef SD_DB_DB_COPY_H
#define SD_DB_DB_COPY_H

#include "db/db.h"

struct db_copy {
	const char *const *leave_out; /* tables that are not copied, besides that of the migrations; ends with NULL */
	bool (*go_on)(void *arg, const char *table, int64_t rows); /* after each page; rows of this table so far. False: E_CANCELLED */
	void *arg;
};

/* from: a read; to: a write in a database of the same schema, whose tables are empty but for those left out. Called inside
 * both: what earlier calls left in their arenas is gone afterwards. */
int db_copy(struct tx *from, struct tx *to, const struct db_copy *how);

#endif
