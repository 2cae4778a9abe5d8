/* db_sqlite_log: a VFS of SQLite that is another's but for the log. SQLite writes that in pieces of 24 bytes and of a page;
 * here they wait in memory, up to DB_SQLITE_LOG_JOINED bytes, until the log is synced, read or measured, or a piece comes that
 * does not follow. So a commit is a few large writes.
 *
 * The file gets what one connection writes in the order in which it does, at latest with its next sync. It rests on:
 * - synchronous = full. Every commit ends with a sync, so what waits belongs to a transaction that is open or undone, and what
 *   other connections are shown is in the file. A write that fails is told by the call that made it happen, and what waited is
 *   dropped: that transaction is undone, and SQLite writes anew from its beginning.
 * - one process, and in it one connection at a time, writes the log (the server's folder has a lock). What an undone transaction
 *   left waiting goes to its place, behind the last commit, before the next piece that this connection writes, which begins
 *   there: so it is overwritten, or stays behind the log's end, as pieces of undone transactions do without us. Nobody reads
 *   it as a commit: each frame's checksum goes on from the one before, and a frame that ends a transaction says so, so that the
 *   new last frame is not the one which the old ones followed. Had another connection committed meanwhile, they would be
 *   written over its frames. A connection that is closed drops them. */
#ifndef SD_DB_DB_SQLITE_LOG_H
#define SD_DB_DB_SQLITE_LOG_H

#include <sqlite3.h>

#define DB_SQLITE_LOG_VFS    "joined-log"
#define DB_SQLITE_LOG_JOINED 65536

struct db_sqlite_log {
	sqlite3_vfs vfs;
	sqlite3_vfs *below;
};

/* Before a database is opened by that name. below: of a VFS; NULL: the default. v and the name stay with SQLite. */
void db_sqlite_log_register(struct db_sqlite_log *v, const char *name, const char *below);

#endif
