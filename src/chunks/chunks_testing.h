/* For tests of chunks: a fresh SQLite database with the tables of the store, in a folder of the test's. */
#ifndef SD_CHUNKS_CHUNKS_TESTING_H
#define SD_CHUNKS_CHUNKS_TESTING_H

#include <stdio.h>
#include <unistd.h>

#include "base/time.h"
#include "base/must.h"
#include "chunks/schema.h"
#include "db/db.h"

/* Replaces the one that a test before left. The caller closes it with db_close(). */
static inline struct db *testing_store_db(const char *folder)
{
	static const struct migration m[] = {{1, "store", CHUNKS_SCHEMA_FIRST}, {2, "finder", CHUNKS_SCHEMA_FINDER},
					     {3, "marks", CHUNKS_SCHEMA_MARKS}, {4, "retired", CHUNKS_SCHEMA_RETIRED}};
	char url[128];
	struct db *db;
	snprintf(url, sizeof url, "sqlite:%s/t.db", folder);
	unlink(url + 7);
	must(db_open(&(struct db_config){.url = url, .clock = &clock_system}, &db, NULL) == E_OK);
	must(db_migrate(db, m, 4, NULL) == E_OK);
	return db;
}

#endif
