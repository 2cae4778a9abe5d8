/* SQLite, and its joined log, on a disk that is full or fails. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/must.h"
#include "db/db.h"
#include "db/db_sqlite_log.h"

static char dir[64];
static struct db *db;

static const struct migration schema[] = {
    {1, "first", "create table tenants (id bigint primary key, gen bigint not null);\ncreate table t (id bigint primary key, b bytea);\n"},
};

static atomic_bool no_room, room_is_found;
static _Atomic int64_t file_max = INT64_MAX; /* bytes of a file of the database */

/* As a reserve that is given up. */
static bool find_room(void *arg)
{
	(void)arg;
	if (room_is_found)
		no_room = false;
	return room_is_found;
}

static void open_db(const char *how)
{
	char url[128];
	snprintf(url, sizeof url, "sqlite:%s/test.db%s", dir, how);
	assert_int_equal(db_open(&(struct db_config){.url = url, .make_room = find_room}, &db, NULL), 0);
}

struct row {
	int64_t id;
	struct str b;
};

static int insert_op(struct tx *tx, void *arg)
{
	struct row *r = arg;
	return tx_exec(tx, "insert into t (id, b) values ($1, $2)", DB_ARGS(V_I(r->id), V_B(r->b)), NULL);
}

static int insert(int64_t id)
{
	return db_write(db, 1, insert_op, &(struct row){.id = id});
}

struct count {
	const char *sql;
	int64_t n;
};

static int count_op(struct tx *tx, void *arg)
{
	struct count *c = arg;
	return tx_i64(tx, c->sql, DB_NO_ARGS, 0, &c->n);
}

static int64_t one(const char *sql)
{
	struct count c = {.sql = sql};
	assert_int_equal(db_read(db, count_op, &c), 0);
	return c.n;
}

/* A VFS whose syncs and writes can be made to fail. The database and its log have method tables of their own. */
static sqlite3_vfs *real_vfs, bad_vfs;
static struct db_sqlite_log joined;
static struct {
	const sqlite3_io_methods *real;
	sqlite3_io_methods bad;
} io[2];
static atomic_bool no_sync;
static _Atomic int64_t log_bytes; /* written so far */
static atomic_int calls, failing_call; /* writes and syncs so far; the number of the one that fails, 0: none */

static bool call_fails(void)
{
	return ++calls == failing_call;
}

static const sqlite3_io_methods *real_io(sqlite3_file *f)
{
	return io[f->pMethods == &io[1].bad].real;
}

static int bad_sync(sqlite3_file *f, int flags)
{
	(void)f, (void)flags;
	return no_sync || call_fails() ? SQLITE_IOERR_FSYNC : SQLITE_OK; /* no power fails here */
}

static int bad_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	if (no_room || at + n > file_max)
		return SQLITE_FULL;
	log_bytes += f->pMethods == &io[1].bad ? n : 0;
	if (!call_fails())
		return real_io(f)->xWrite(f, p, n, at);
	real_io(f)->xWrite(f, p, n / 2, at);
	return SQLITE_FULL;
}

static int bad_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
	int rc = real_vfs->xOpen(vfs, name, f, flags, out);
	int which = (flags & SQLITE_OPEN_WAL) != 0;
	if (rc != SQLITE_OK || !(flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB)))
		return rc;
	if (!io[which].real) {
		io[which].bad = *f->pMethods;
		io[which].bad.xSync = bad_sync;
		io[which].bad.xWrite = bad_write;
		io[which].real = f->pMethods;
	}
	f->pMethods = &io[which].bad;
	return rc;
}

static void await(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		must(errno == EINTR);
}

/* May run again. */
static int wait_op(struct tx *tx, void *arg)
{
	(void)tx;
	await(arg);
	sem_post(arg);
	return 0;
}

static int delete_op(struct tx *tx, void *arg)
{
	return tx_exec(tx, "delete from t where id = $1", DB_ARGS(V_I(*(int64_t *)arg)), NULL);
}

static void post(void *sem)
{
	sem_post(sem);
}

/* Of a group that does not fit on the disk, what fits passes. */
static void part_of_a_group_fits(void)
{
	static char large[1 << 20];
	sem_t go, done;
	int64_t old = 1;
	struct row rows[] = {{60, str_n(large, 100)}, {61, str_n(large, sizeof large)}};
	struct db_write w[] = {{.op = wait_op, .arg = &go},
	                       {.op = insert_op, .arg = &rows[0]},
	                       {.op = insert_op, .arg = &rows[1]},
	                       {.op = delete_op, .arg = &old}};
	must(sem_init(&go, 0, 0) == 0 && sem_init(&done, 0, 0) == 0);
	file_max = 256 << 10;
	for (size_t i = 0; i < 4; i++) {
		w[i].tenant_id = 1;
		w[i].done = post;
		w[i].done_arg = &done;
		db_write_begin(db, &w[i]);
	}
	sem_post(&go);
	for (size_t i = 0; i < 4; i++)
		await(&done);
	assert_int_equal(w[1].err, 0);
	assert_int_equal(w[2].err, E_NO_SPACE);
	assert_int_equal(w[3].err, 0);
	assert_int_equal(one("select count(*) from t where id in (1, 60, 61)"), 1);
	file_max = INT64_MAX;
	sem_destroy(&go);
	sem_destroy(&done);
}

static void test_bad_disk(void **state)
{
	(void)state;
	open_db("?vfs=joined-bad");
	assert_int_equal(db_migrate(db, schema, 1, NULL), 0);
	assert_int_equal(insert(1), 0);
	part_of_a_group_fits();
	assert_int_equal(insert(1), 0);
	no_room = true;
	assert_int_equal(insert(2), E_NO_SPACE);
	room_is_found = true;
	assert_int_equal(insert(3), 0); /* tried once more */
	assert_false(no_room);
	assert_int_equal(one("select count(*) from t"), 3);
	no_sync = true;
	assert_int_equal(insert(4), E_DB);
	no_sync = false;
	/* The disk works again, but what it lost is unknown: no more writes, reads go on. */
	assert_int_equal(insert(5), E_READ_ONLY);
	assert_int_equal(one("select count(*) from t where id in (1, 3)"), 2);
	assert_int_equal(one("select count(*) from t where id in (2, 4, 5)"), 0);
	db_close(db);
	open_db("");
	assert_int_equal(one("select count(*) from t where id in (1, 3)"), 2);
	db_close(db);
}

enum { ROWS = 8 };

static void shell(const char *what)
{
	char command[300];
	snprintf(command, sizeof command, "cd %s && %s", dir, what);
	must(system(command) == 0);
}

/* As its process is killed: what is in the files stays. */
static void kill_db(void)
{
	shell("mkdir left && cp test.db test.db-wal left");
	db_close(db);
	shell("rm -f test.db* && mv left/* . && rmdir left");
}

static void check_rows(const int *errs)
{
	for (int i = 0; i < ROWS; i++) {
		char sql[100];
		snprintf(sql, sizeof sql, "select count(*) from t where id = %d and length(b) = %d", i, i * 8000);
		int64_t n = one(sql);
		assert_true(errs[i] ? n == 0 || errs[i] == E_DB : n == 1); /* E_DB: its sync failed, so nobody knows */
	}
}

static int open_joined(void)
{
	char url[128];
	snprintf(url, sizeof url, "sqlite:%s/test.db?vfs=joined-bad", dir);
	int err = db_open(&(struct db_config){.url = url, .inline_writes = true}, &db, NULL);
	if (err)
		return err;
	err = db_migrate(db, schema, 1, NULL);
	if (err)
		db_close(db);
	return err;
}

/* Two processes put rows of up to 14 pages, so that a commit is one write or more, and one of their calls fails. What is
 * acknowledged is there, what is refused is not. True: there was no such call. */
static bool lives_with(int nth)
{
	static char bytes[60000];
	int errs[ROWS];
	shell("rm -f test.db*");
	assert_int_equal(open_joined(), 0);
	calls = 0;
	failing_call = nth;
	for (int i = 0; i < ROWS; i++) {
		if (i == ROWS / 2) {
			kill_db();
			if (open_joined())
				assert_int_equal(open_joined(), 0);
		}
		struct row r = {i, str_n(bytes, (size_t)i * 8000)};
		errs[i] = db_write(db, 1, insert_op, &r);
		assert_true(!errs[i] || errs[i] == E_NO_SPACE || errs[i] == E_DB || errs[i] == E_READ_ONLY);
	}
	bool none = calls < nth;
	failing_call = 0;
	check_rows(errs);
	kill_db();
	open_db("");
	check_rows(errs);
	assert_int_equal(db_verify(db, false, NULL, NULL), 0);
	db_close(db);
	return none;
}

static void test_each_call(void **state)
{
	(void)state;
	int nth = 1;
	while (!lives_with(nth))
		nth++;
	assert_in_range(nth, 30, 300);
}

/* A log that starts over keeps its length. What lies behind its end is not written once more when it is opened. */
static void test_dead_part_of_the_log(void **state)
{
	static char bytes[300000];
	(void)state;
	shell("rm -f test.db*");
	assert_int_equal(open_joined(), 0);
	assert_int_equal(db_write(db, 1, insert_op, &(struct row){1, str_n(bytes, sizeof bytes)}), 0);
	kill_db();
	log_bytes = 0;
	assert_int_equal(open_joined(), 0); /* and folds all into the database */
	assert_in_range(log_bytes, sizeof bytes, 2 * sizeof bytes);
	assert_int_equal(insert(2), 0);
	kill_db();
	log_bytes = 0;
	assert_int_equal(open_joined(), 0);
	assert_in_range(log_bytes, 4096, sizeof bytes / 4);
	assert_int_equal(one("select count(*) from t"), 2);
	db_close(db);
}

static int set_up(void **state)
{
	(void)state;
	real_vfs = sqlite3_vfs_find(NULL);
	bad_vfs = *real_vfs;
	bad_vfs.zName = "bad";
	bad_vfs.xOpen = bad_open;
	bad_vfs.pNext = NULL;
	must(sqlite3_vfs_register(&bad_vfs, 0) == SQLITE_OK);
	db_sqlite_log_register(&joined, "joined-bad", "bad");
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_bad_disk), cmocka_unit_test(test_each_call),
	                                   cmocka_unit_test(test_dead_part_of_the_log)};
	snprintf(dir, sizeof dir, "/tmp/db-disk-test-XXXXXX");
	must(mkdtemp(dir) != NULL);
	int failed = cmocka_run_group_tests(tests, set_up, NULL);
	shell("rm -r $PWD");
	return failed;
}
