#include "db/db_sqlite_log.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/mutant.h"

/* The file of the VFS below lies right behind. */
struct log_file {
	sqlite3_file base;
	char *waiting; /* NULL: nothing was written yet */
	int n;
	sqlite3_int64 at; /* where the waiting bytes go */
};

static sqlite3_file *file_below(sqlite3_file *f)
{
	return (sqlite3_file *)((struct log_file *)f + 1);
}

static int write_out(sqlite3_file *f)
{
	struct log_file *log = (struct log_file *)f;
	int n = log->n;
	log->n = 0;
	int rc = n ? file_below(f)->pMethods->xWrite(file_below(f), log->waiting, n, log->at) : SQLITE_OK;
	return mutant(M_DB_LOG_LOSS_UNTOLD) ? SQLITE_OK : rc;
}

static int log_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	struct log_file *log = (struct log_file *)f;
	bool follows = log->n && at == log->at + log->n && n <= DB_SQLITE_LOG_JOINED - log->n;
	int rc = follows ? SQLITE_OK : write_out(f);
	if (rc != SQLITE_OK)
		return rc;
	if (n > DB_SQLITE_LOG_JOINED)
		return file_below(f)->pMethods->xWrite(file_below(f), p, n, at);
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
	return rc != SQLITE_OK ? rc : file_below(f)->pMethods->xRead(file_below(f), p, n, at);
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int rc = write_out(f);
	return rc != SQLITE_OK ? rc : file_below(f)->pMethods->xTruncate(file_below(f), size);
}

static int log_sync(sqlite3_file *f, int flags)
{
	bool late = mutant(M_DB_LOG_SYNC_FIRST);
	int rc = late ? SQLITE_OK : write_out(f);
	if (rc == SQLITE_OK)
		rc = file_below(f)->pMethods->xSync(file_below(f), flags);
	return late && rc == SQLITE_OK ? write_out(f) : rc;
}

static int log_size(sqlite3_file *f, sqlite3_int64 *size)
{
	int rc = write_out(f);
	return rc != SQLITE_OK ? rc : file_below(f)->pMethods->xFileSize(file_below(f), size);
}

/* What waits belongs to no commit. */
static int log_close(sqlite3_file *f)
{
	free(((struct log_file *)f)->waiting);
	return file_below(f)->pMethods->xClose(file_below(f));
}

static int log_lock(sqlite3_file *f, int level)
{
	return file_below(f)->pMethods->xLock(file_below(f), level);
}

static int log_unlock(sqlite3_file *f, int level)
{
	return file_below(f)->pMethods->xUnlock(file_below(f), level);
}

static int log_reserved(sqlite3_file *f, int *out)
{
	return file_below(f)->pMethods->xCheckReservedLock(file_below(f), out);
}

static int log_control(sqlite3_file *f, int op, void *arg)
{
	return file_below(f)->pMethods->xFileControl(file_below(f), op, arg);
}

static int log_sector(sqlite3_file *f)
{
	return file_below(f)->pMethods->xSectorSize(file_below(f));
}

static int log_device(sqlite3_file *f)
{
	return file_below(f)->pMethods->xDeviceCharacteristics(file_below(f));
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
	sqlite3_vfs *below = ((struct db_sqlite_log *)v)->below;
	if (!(flags & SQLITE_OPEN_WAL))
		return below->xOpen(below, name, f, flags, out);
	*(struct log_file *)f = (struct log_file){0};
	int rc = below->xOpen(below, name, file_below(f), flags, out);
	if (file_below(f)->pMethods)
		f->pMethods = &methods;
	return rc;
}

void db_sqlite_log_register(struct db_sqlite_log *v, const char *name, const char *below)
{
	v->below = sqlite3_vfs_find(below);
	must(v->below != NULL);
	v->vfs = *v->below;
	v->vfs.zName = name;
	v->vfs.szOsFile += (int)sizeof(struct log_file);
	v->vfs.xOpen = log_open;
	must(sqlite3_vfs_register(&v->vfs, 0) == SQLITE_OK);
}
