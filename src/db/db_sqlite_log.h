/* db_sqlite_log: a VFS of SQLite that is the system's but for the log. SQLite writes that in pieces of 24 bytes and of a page;
 * here they wait in memory, up to DB_SQLITE_LOG_JOINED bytes, until the log is synced, read or measured, or a piece comes that
 * does not follow. So a commit is a few large writes.
 *
 * It rests on synchronous = full: what is in the log becomes visible to other connections behind the sync of its commit. A write
 * that fails is told by the call that made it happen; what waited is dropped, as SQLite writes it anew. */
#ifndef SD_DB_DB_SQLITE_LOG_H
#define SD_DB_DB_SQLITE_LOG_H

#define DB_SQLITE_LOG_VFS    "joined-log"
#define DB_SQLITE_LOG_JOINED 65536

/* Once, before a database is opened by that name. */
void db_sqlite_log_register(void);

#endif
