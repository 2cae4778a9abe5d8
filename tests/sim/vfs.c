/* SQLite over io/disk.h, one process, one connection a file: the write-ahead index is plain memory. The first sync of a journal or log
 * also syncs its folder: of a new one, as SQLite's own VFS for Unix does; of one that was there, since a database's folder is synced
 * when it is opened (db_sqlite.c), so that the name lasts though its maker ended before. */
#include <stdlib.h>

#include "base/must.h"
#include "vfs.h"

/* Of SQLite's write-ahead index: without it the index is made anew from the log. */
enum { SHM_HEADER = 136 };

struct slot sim_slots[SLOTS];
static struct sim *current;

static struct vfile *of(sqlite3_file *f)
{
	return (struct vfile *)f;
}

static int v_close(sqlite3_file *f)
{
	struct vfile *v = of(f);
	v->slot->n_open--;
	for (int i = 0; i < 2; i++)
		if (v->slot->files[i] == v)
			v->slot->files[i] = NULL;
	if (v->file)
		v->disk->ops->close(v->file);
	for (int i = 0; i < SHM_REGIONS; i++)
		free(v->shm[i]);
	return SQLITE_OK;
}

static int v_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	size_t got = 0;
	if (!of(f)->file || of(f)->disk->ops->pread(of(f)->file, p, (size_t)n, at, &got))
		return SQLITE_IOERR_READ;
	if (got == (size_t)n)
		return SQLITE_OK;
	memset((char *)p + got, 0, (size_t)n - got);
	return SQLITE_IOERR_SHORT_READ;
}

static int v_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int err = of(f)->file ? of(f)->disk->ops->pwrite(of(f)->file, p, (size_t)n, at) : E_IO;
	return err == E_NO_SPACE ? SQLITE_FULL : err ? SQLITE_IOERR_WRITE : SQLITE_OK;
}

static int v_truncate(sqlite3_file *f, sqlite3_int64 n)
{
	return !of(f)->file || of(f)->disk->ops->truncate(of(f)->file, n) ? SQLITE_IOERR_TRUNCATE : SQLITE_OK;
}

static int v_sync(sqlite3_file *f, int flags)
{
	struct vfile *v = of(f);
	(void)flags;
	if (!v->file || v->disk->ops->sync(v->file))
		return SQLITE_IOERR_FSYNC;
	if (v->new_journal && v->disk->ops->sync_dir(v->disk, ""))
		return SQLITE_IOERR_DIR_FSYNC;
	v->new_journal = false;
	return SQLITE_OK;
}

static int v_size(sqlite3_file *f, sqlite3_int64 *out)
{
	int64_t n = 0;
	int err = of(f)->file ? of(f)->disk->ops->size(of(f)->file, &n) : E_IO;
	*out = n;
	return err ? SQLITE_IOERR_FSTAT : SQLITE_OK;
}

static int v_lock(sqlite3_file *f, int level)
{
	(void)f, (void)level;
	return SQLITE_OK;
}

static int v_reserved(sqlite3_file *f, int *out)
{
	(void)f;
	*out = 0;
	return SQLITE_OK;
}

static int v_control(sqlite3_file *f, int op, void *arg)
{
	(void)f, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int v_sector(sqlite3_file *f)
{
	(void)f;
	return 4096;
}

static int v_traits(sqlite3_file *f)
{
	(void)f;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int v_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out)
{
	struct vfile *v = of(f);
	must(region < SHM_REGIONS);
	v->shm_size = (size_t)size;
	if (!v->shm[region] && extend)
		v->shm[region] = calloc(1, v->shm_size);
	*out = v->shm[region];
	return SQLITE_OK;
}

static int v_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
	(void)f, (void)offset, (void)n, (void)flags;
	return SQLITE_OK;
}

static void v_shm_barrier(sqlite3_file *f)
{
	(void)f;
}

static int v_shm_unmap(sqlite3_file *f, int remove)
{
	struct vfile *v = of(f);
	(void)remove;
	for (int i = 0; i < SHM_REGIONS; i++) {
		free(v->shm[i]);
		v->shm[i] = NULL;
	}
	return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = v_close,
    .xRead = v_read,
    .xWrite = v_write,
    .xTruncate = v_truncate,
    .xSync = v_sync,
    .xFileSize = v_size,
    .xLock = v_lock,
    .xUnlock = v_lock,
    .xCheckReservedLock = v_reserved,
    .xFileControl = v_control,
    .xSectorSize = v_sector,
    .xDeviceCharacteristics = v_traits,
    .xShmMap = v_shm_map,
    .xShmLock = v_shm_lock,
    .xShmBarrier = v_shm_barrier,
    .xShmUnmap = v_shm_unmap,
};

static int open_file(struct vfile *v, const char *name, bool create, bool journal)
{
	int err = v->disk->ops->open(v->disk, name, DISK_WRITE, &v->file);
	v->new_journal = journal;
	if (err == E_NOT_FOUND && create) {
		err = v->disk->ops->open(v->disk, name, DISK_WRITE | DISK_CREATE, &v->file);
		v->new_journal = journal;
	}
	if (err)
		v->file = NULL;
	else
		v->file->disk = v->disk;
	return err;
}

static int v_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *f, int flags, int *out_flags)
{
	struct slot *slot = vfs->pAppData;
	struct vfile *v = of(f);
	*v = (struct vfile){.slot = slot, .disk = slot->disk, .name = name};
	if (!name)
		return SQLITE_CANTOPEN;
	bool log = flags & SQLITE_OPEN_WAL;
	if (open_file(v, name, flags & SQLITE_OPEN_CREATE, log || flags & SQLITE_OPEN_MAIN_JOURNAL))
		return SQLITE_CANTOPEN;
	v->base.pMethods = &methods;
	slot->n_open++;
	if (log || flags & SQLITE_OPEN_MAIN_DB)
		slot->files[log] = v;
	if (out_flags)
		*out_flags = flags;
	return SQLITE_OK;
}

int vfs_attach(struct slot *slot)
{
	int err = 0;
	for (int log = 0; !err && log < 2; log++) {
		struct vfile *v = slot->files[log];
		if (!v)
			continue;
		v->disk = slot->disk;
		err = open_file(v, v->name, log, log);
		if (v->shm[0])
			memset(v->shm[0], 0, SHM_HEADER);
	}
	return err;
}

void vfs_detach(struct slot *slot)
{
	for (int log = 0; log < 2; log++) {
		struct vfile *v = slot->files[log];
		if (v && v->file)
			v->disk->ops->close(v->file);
		if (v)
			v->file = NULL;
	}
}

static int v_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
	struct disk *disk = ((struct slot *)vfs->pAppData)->disk;
	int err = disk->ops->unlink(disk, name);
	if (!err && sync_dir)
		err = disk->ops->sync_dir(disk, "");
	return err == E_NOT_FOUND ? SQLITE_IOERR_DELETE_NOENT : err ? SQLITE_IOERR_DELETE : SQLITE_OK;
}

static int v_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
	struct disk *disk = ((struct slot *)vfs->pAppData)->disk;
	struct disk_file *f;
	(void)flags;
	int err = disk->ops->open(disk, name, DISK_READ, &f);
	*out = err == 0;
	if (err)
		return err == E_NOT_FOUND ? SQLITE_OK : SQLITE_IOERR_ACCESS;
	f->disk = disk;
	disk->ops->close(f);
	return SQLITE_OK;
}

static int v_full_path(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
	(void)vfs;
	sqlite3_snprintf(n, out, "%s", name);
	return SQLITE_OK;
}

static int v_random(sqlite3_vfs *vfs, int n, char *out)
{
	(void)vfs;
	struct rng_seeded r;
	rng_seeded_init(&r, current ? current->seed : 1);
	r.base.fill(&r.base, out, (size_t)n);
	return n;
}

static int v_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return us;
}

static int v_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
	(void)vfs;
	*out = INT64_C(210866760000000) + 1800000000000;
	return SQLITE_OK;
}

static int v_time_days(sqlite3_vfs *vfs, double *out)
{
	(void)vfs;
	*out = 2461000.5;
	return SQLITE_OK;
}

static int v_last_error(sqlite3_vfs *vfs, int n, char *out)
{
	(void)vfs, (void)n, (void)out;
	return 0;
}

struct disk *sim_vfs(int slot, struct disk *disk)
{
	must(slot >= 0 && slot < SLOTS);
	sim_slots[slot].disk = disk;
	return disk;
}

/* One thread: no locks, and no count of memory, which SQLite keeps under one. */
static void configure(void)
{
	must(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
	must(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
}

/* Also seeds SQLite's own generator, which is the process's, anew. */
void sim_vfs_register(struct sim *s)
{
	static bool done;
	current = s;
	if (!done)
		configure();
	for (int i = 0; i < SLOTS && !done; i++) {
		struct slot *slot = &sim_slots[i];
		sqlite3_snprintf(sizeof slot->name, slot->name, "sim%d", i);
		sqlite3_snprintf(sizeof slot->disk_name, slot->disk_name, "disk%d", i);
		slot->vfs = (sqlite3_vfs){
		    .iVersion = 2,
		    .szOsFile = sizeof(struct vfile),
		    .mxPathname = 256,
		    .zName = slot->disk_name,
		    .pAppData = slot,
		    .xOpen = v_open,
		    .xDelete = v_delete,
		    .xAccess = v_access,
		    .xFullPathname = v_full_path,
		    .xRandomness = v_random,
		    .xSleep = v_sleep,
		    .xCurrentTime = v_time_days,
		    .xGetLastError = v_last_error,
		    .xCurrentTimeInt64 = v_time,
		};
		must(sqlite3_vfs_register(&slot->vfs, i == 0) == SQLITE_OK);
		db_sqlite_log_register(&slot->joined, slot->name, slot->disk_name);
	}
	done = true;
	sqlite3_randomness(0, NULL);
}
