#include "db/db_sqlite_log.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"

/* The system's file lies right behind. */
struct log_file {
	sqlite3_file base;
	char *waiting; /* NULL: nothing was written yet */
	int n;
	sqlite3_int64 at; /* where the waiting bytes go */
};

static sqlite3_vfs *system_vfs, vfs;

static sqlite3_file *system_file(sqlite3_file *f)
{
	return (sqlite3_file *)((struct log_file *)f + 1);
}

static int write_out(sqlite3_file *f)
{
	struct log_file *log = (struct log_file *)f;
	int n = log->n;
	log->n = 0;
	return n ? system_file(f)->pMethods->xWrite(system_file(f), log->waiting, n, log->at) : SQLITE_OK;
}

static int log_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct log_file *log = (struct log_file *)f;
	bool follows = log->n && at == log->at + log->n && n <= DB_SQLITE_LOG_JOINED - log->n;
	int rc = follows ? SQLITE_OK : write_out(f);
	if (rc != SQLITE_OK)
		return rc;
	if (n > DB_SQLITE_LOG_JOINED)
		return system_file(f)->pMethods->xWrite(system_file(f), p, n, at);
	if (!log->waiting)
		log->waiting = malloc(DB_SQLITE_LOG_JOINED);
	must(log->waiting != NULL);
	if (!log->n)
		log->at = at;
	memcpy(log->waiting + log->n, p, (size_t)n);
	log->n += n;
	return SQLITE_OK;
}

static int log_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	int rc = write_out(f);
	return rc != SQLITE_OK ? rc : system_file(f)->pMethods->xRead(system_file(f), p, n, at);
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = write_out(f);
	return rc != SQLITE_OK ? rc : system_file(f)->pMethods->xTruncate(system_file(f), size);
}

static int log_sync(sqlite3_file *f, int flags)
{
	int rc = write_out(f);
	return rc != SQLITE_OK ? rc : system_file(f)->pMethods->xSync(system_file(f), flags);
}

static int log_size(sqlite3_file *f, sqlite3_int64 *size)
{
	int rc = write_out(f);
	return rc != SQLITE_OK ? rc : system_file(f)->pMethods->xFileSize(system_file(f), size);
}

/* What waits here belongs to no commit: nobody will miss it. */
static int log_close(sqlite3_file *f)
{
	free(((struct log_file *)f)->waiting);
	return system_file(f)->pMethods->xClose(system_file(f));
}

static int log_lock(sqlite3_file *f, int level)
{
	return system_file(f)->pMethods->xLock(system_file(f), level);
}

static int log_unlock(sqlite3_file *f, int level)
{
	return system_file(f)->pMethods->xUnlock(system_file(f), level);
}

static int log_reserved(sqlite3_file *f, int *out)
{
	return system_file(f)->pMethods->xCheckReservedLock(system_file(f), out);
}

static int log_control(sqlite3_file *f, int op, void *arg)
{
	return system_file(f)->pMethods->xFileControl(system_file(f), op, arg);
}

static int log_sector(sqlite3_file *f)
{
	return system_file(f)->pMethods->xSectorSize(system_file(f));
}

static int log_device(sqlite3_file *f)
{
	return system_file(f)->pMethods->xDeviceCharacteristics(system_file(f));
}

static int log_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	static const sqlite3_io_methods methods = {
	    .iVersion = 1,
	    .xClose = log_close,
	    .xRead = log_read,
	    .xWrite = log_write,
	    .xTruncate = log_truncate,
	    .xSync = log_sync,
	    .xFileSize = log_size,
	    .xLock = log_lock,
	    .xUnlock = log_unlock,
	    .xCheckReservedLock = log_reserved,
	    .xFileControl = log_control,
	    .xSectorSize = log_sector,
	    .xDeviceCharacteristics = log_device,
	};
	(void)v;
	if (!(flags & SQLITE_OPEN_WAL))
		return system_vfs->xOpen(system_vfs, name, f, flags, out);
	*(struct log_file *)f = (struct log_file){0};
	int rc = system_vfs->xOpen(system_vfs, name, system_file(f), flags, out);
	if (system_file(f)->pMethods)
		f->pMethods = &methods;
	return rc;
}

void db_sqlite_log_register(void)
{
	system_vfs = sqlite3_vfs_find(NULL);
	must(system_vfs != NULL);
	vfs = *system_vfs;
	vfs.zName = DB_SQLITE_LOG_VFS;
	vfs.szOsFile += (int)sizeof(struct log_file);
	vfs.xOpen = log_open;
	must(sqlite3_vfs_register(&vfs, 0) == SQLITE_OK);
}
