/* The joined log against a plain copy in memory: what is read is what was written, in whatever pieces; it is in the file after a
 * sync; and a failed write is told, once. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "db/db_sqlite_log.h"

enum { FLAGS = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_WAL, MAX_BYTES = 600000 };

static char database[32], path[40]; /* SQLite gives the log its database's mode */
static sqlite3_file *file;

static int set_up(void **state)
{
	(void)state;
	snprintf(database, sizeof database, "/tmp/joined-XXXXXX");
	int fd = mkstemp(database);
	if (fd < 0 || close(fd))
		return -1;
	snprintf(path, sizeof path, "%s-wal", database);
	static struct db_sqlite_log joined;
	db_sqlite_log_register(&joined, DB_SQLITE_LOG_VFS, NULL);
	sqlite3_vfs *v = sqlite3_vfs_find(DB_SQLITE_LOG_VFS);
	file = v ? calloc(1, (size_t)v->szOsFile) : NULL;
	return file ? v->xOpen(v, path, file, FLAGS, NULL) : -1;
}

static int tear_down(void **state)
{
	(void)state;
	file->pMethods->xClose(file);
	free(file);
	return unlink(path) || unlink(database);
}

static size_t on_disk(char *out)
{
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	size_t n = fread(out, 1, MAX_BYTES, f);
	fclose(f);
	return n;
}

static void test_as_written(void **state)
{
	(void)state;
	static char want[MAX_BYTES], bytes[MAX_BYTES];
	struct rng_seeded seeded;
	struct rng *r = &seeded.base;
	rng_seeded_init(&seeded, 7);
	size_t end = 0, at = 0;
	for (int round = 0; round < 20000; round++) {
		size_t n = 1 + (size_t)rng_below(r, rng_below(r, 50) ? 5000 : 100000);
		at = rng_below(r, 8) ? at : (size_t)rng_below(r, end + 1);
		if (at + n > MAX_BYTES)
			at = 0;
		r->fill(r, want + at, n);
		assert_int_equal(file->pMethods->xWrite(file, want + at, (int)n, (sqlite3_int64)at), SQLITE_OK);
		at += n;
		end = at > end ? at : end;
		size_t from = (size_t)rng_below(r, end), k = end - from;
		sqlite3_int64 size;
		switch (rng_below(r, 20)) {
		case 0:
			assert_int_equal(file->pMethods->xRead(file, bytes, (int)k, (sqlite3_int64)from), SQLITE_OK);
			assert_memory_equal(bytes, want + from, k);
			break;
		case 1:
			assert_int_equal(file->pMethods->xFileSize(file, &size), SQLITE_OK);
			assert_int_equal(size, end);
			break;
		case 2:
			assert_int_equal(file->pMethods->xSync(file, SQLITE_SYNC_NORMAL), SQLITE_OK);
			assert_int_equal(on_disk(bytes), end);
			assert_memory_equal(bytes, want, end);
			break;
		case 3:
			assert_int_equal(file->pMethods->xTruncate(file, (sqlite3_int64)from), SQLITE_OK);
			end = from;
			at = at < end ? at : end;
			break;
		}
	}
}

static void test_joined(void **state)
{
	(void)state;
	static char bytes[MAX_BYTES], page[4096];
	for (int i = 0; i < 4; i++)
		assert_int_equal(file->pMethods->xWrite(file, page, sizeof page, i * (int)sizeof page), SQLITE_OK);
	assert_int_equal(on_disk(bytes), 0);
	assert_int_equal(file->pMethods->xSync(file, SQLITE_SYNC_NORMAL), SQLITE_OK);
	assert_int_equal(on_disk(bytes), 4 * sizeof page);
}

static void test_failure_is_told(void **state)
{
	(void)state;
	static char bytes[MAX_BYTES], page[4096];
	struct rlimit before, none;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	assert_int_equal(file->pMethods->xWrite(file, page, sizeof page, 0), SQLITE_OK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	int rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_not_equal(rc, SQLITE_OK);
	assert_int_equal(file->pMethods->xSync(file, SQLITE_SYNC_NORMAL), SQLITE_OK);
	assert_int_equal(on_disk(bytes), 0);
	assert_int_equal(file->pMethods->xWrite(file, page, sizeof page, 0), SQLITE_OK);
	assert_int_equal(file->pMethods->xSync(file, SQLITE_SYNC_NORMAL), SQLITE_OK);
	assert_int_equal(on_disk(bytes), sizeof page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_as_written, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_joined, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_failure_is_told, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
