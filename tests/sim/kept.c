/* SQLite connections that are used again. Reading the schema and compiling the statements anew for each life of each process
 * took a third of a schedule's time. The linker leads the calls of the product here (--wrap).
 *
 * A process of ours ends when its disk is dead, so SQLite could do nothing more at its end. Then a connection without a
 * transaction is kept, and whoever opens the database of its slot next gets it, its files led to those of today. Its
 * write-ahead index is empty: SQLite reads the log as after a crash and drops all pages it had; every transaction compares
 * the schema's number with that of what was compiled. When the database does not begin as one with a log (a new one, one that
 * was torn), or the last process ended in order, a connection is opened as ever.
 *
 * So that a schedule does not depend on those before it, all begin with connections that have just seen an empty database. */
#include "kept.h"

#include "base/must.h"
#include "vfs.h"

int __real_sqlite3_open_v2(const char *file, sqlite3 **out, int flags, const char *vfs);
int __real_sqlite3_close(sqlite3 *db);
int __real_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *arg, char **why);
int __real_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **out, const char **tail);
int __real_sqlite3_finalize(sqlite3_stmt *s);
int __wrap_sqlite3_open_v2(const char *file, sqlite3 **out, int flags, const char *vfs);
int __wrap_sqlite3_close(sqlite3 *db);
int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *arg, char **why);
int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **out, const char **tail);
int __wrap_sqlite3_finalize(sqlite3_stmt *s);

struct kept {
	sqlite3 *db;
	bool in_use;
	char *setup;     /* what was executed first: settings, which a connection keeps */
	struct map free; /* statements, by the hash of their text */
};

static struct kept all[SLOTS];

static struct kept *of(const sqlite3 *db)
{
	for (int i = 0; i < SLOTS; i++)
		if (db && all[i].db == db)
			return &all[i];
	return NULL;
}

static struct slot *slot_of(const struct kept *k)
{
	return &sim_slots[k - all];
}

static int really_close(struct kept *k)
{
	uint64_t key;
	void *s;
	for (size_t i = 0; map_next(&k->free, &i, &key, &s);)
		__real_sqlite3_finalize(s);
	map_fini(&k->free);
	sqlite3_free(k->setup);
	int rc = __real_sqlite3_close(k->db);
	*k = (struct kept){0};
	return rc;
}

/* Whether its first page says that it has a log: a kept connection takes that for granted. */
static bool has_log(struct slot *slot, const char *file)
{
	struct disk_file *f;
	uint8_t head[20];
	size_t got = 0;
	if (slot->disk->ops->open(slot->disk, file, DISK_READ, &f))
		return false;
	f->disk = slot->disk;
	int err = slot->disk->ops->pread(f, head, sizeof(head), 0, &got);
	slot->disk->ops->close(f);
	return !err && got == sizeof(head) && memcmp(head, "SQLite format 3", 16) == 0 && head[18] == 2 && head[19] == 2;
}

static bool take_up(struct kept *k, const char *file)
{
	struct slot *slot = slot_of(k);
	if (!slot->files[0] || strcmp(slot->files[0]->name, file) != 0 || !has_log(slot, file))
		return false;
	int err = vfs_attach(slot);
	if (err)
		vfs_detach(slot);
	return !err;
}

int __wrap_sqlite3_open_v2(const char *file, sqlite3 **out, int flags, const char *vfs)
{
	struct kept *k = &all[vfs[3] - '0'];
	must(!k->in_use);
	if (k->db && !take_up(k, file))
		really_close(k);
	int rc = k->db ? SQLITE_OK : __real_sqlite3_open_v2(file, &k->db, flags, vfs);
	k->in_use = true;
	*out = k->db;
	return rc;
}

static bool at_rest(sqlite3 *db)
{
	for (sqlite3_stmt *s = NULL; (s = sqlite3_next_stmt(db, s));)
		if (sqlite3_stmt_busy(s))
			return false;
	return sqlite3_get_autocommit(db);
}

/* Its files lead nowhere, and what waits for its log (db/db_sqlite_log.h) is gone, as with a process. */
static void detach(struct kept *k)
{
	sqlite3_file *log = NULL;
	sqlite3_int64 size;
	vfs_detach(slot_of(k));
	must(sqlite3_file_control(k->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK);
	must(log->pMethods->xFileSize(log, &size) != SQLITE_OK);
}

int __wrap_sqlite3_close(sqlite3 *db)
{
	struct kept *k = of(db);
	struct slot *slot = slot_of(k);
	k->in_use = false;
	if (!disk_fault_is_dead(slot->disk) || !at_rest(db) || !slot->files[0] || !slot->files[1] || slot->n_open != 2)
		return really_close(k);
	detach(k);
	return SQLITE_OK;
}

int __wrap_sqlite3_exec(sqlite3 *db, const char *sql, int (*row)(void *, int, char **, char **), void *arg, char **why)
{
	struct kept *k = of(db);
	if (k->setup && strcmp(k->setup, sql) == 0)
		return SQLITE_OK;
	int rc = __real_sqlite3_exec(db, sql, row, arg, why);
	if (!k->setup && rc == SQLITE_OK)
		k->setup = sqlite3_mprintf("%s", sql);
	return rc;
}

int __wrap_sqlite3_prepare_v3(sqlite3 *db, const char *sql, int n, unsigned flags, sqlite3_stmt **out, const char **tail)
{
	struct kept *k = of(db);
	uint64_t key = xxh3_64(sql, strlen(sql));
	sqlite3_stmt *s = map_get(&k->free, key);
	if (!s || strcmp(sqlite3_sql(s), sql) != 0)
		return __real_sqlite3_prepare_v3(db, sql, n, flags, out, tail);
	map_del(&k->free, key);
	*out = s;
	return SQLITE_OK;
}

int __wrap_sqlite3_finalize(sqlite3_stmt *s)
{
	if (!s)
		return SQLITE_OK;
	struct kept *k = of(sqlite3_db_handle(s));
	const char *sql = sqlite3_sql(s);
	uint64_t key = xxh3_64(sql, strlen(sql));
	if (map_get(&k->free, key))
		return __real_sqlite3_finalize(s);
	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	map_put(&k->free, key, s);
	return SQLITE_OK;
}

void kept_meet(int i, struct disk *disk, const char *file)
{
	char vfs[] = {'s', 'i', 'm', (char)('0' + i), 0};
	struct slot *slot = &sim_slots[i];
	struct disk *before = slot->disk;
	sqlite3 *db;
	slot->disk = disk;
	must(__wrap_sqlite3_open_v2(file, &db, SQLITE_OPEN_READWRITE, vfs) == SQLITE_OK);
	sqlite3_stmt *look;
	must(__wrap_sqlite3_prepare_v3(db, "select count(*) from sqlite_schema", -1, SQLITE_PREPARE_PERSISTENT, &look, NULL) == SQLITE_OK);
	must(sqlite3_step(look) == SQLITE_ROW && __wrap_sqlite3_finalize(look) == SQLITE_OK);
	detach(&all[i]);
	all[i].in_use = false;
	slot->disk = before;
}
