#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/disk_fault.h"
#include "io/reserve.h"

static int count_entry(void *arg, const char *name, bool is_folder)
{
	int *n = arg;
	*n += is_folder ? 100 : 1;
	return strlen(name) > 0 ? E_OK : E_IO;
}

/* What both disks promise. */
static void exercise(struct disk *d)
{
	struct disk_file *f, *g;
	char out[16];
	size_t got;
	int64_t size;
	int n = 0;
	assert_int_equal(disk_open(d, "a/f", DISK_READ, &f), E_NOT_FOUND);
	assert_int_equal(disk_open(d, "a/f", DISK_WRITE | DISK_CREATE, &f), E_NOT_FOUND);
	assert_int_equal(disk_mkdir(d, "a"), E_OK);
	assert_int_equal(disk_mkdir(d, "a"), E_OK);
	assert_int_equal(disk_open(d, "a/f", DISK_WRITE | DISK_CREATE, &f), E_OK);
	assert_int_equal(disk_open(d, "a/f", DISK_WRITE | DISK_CREATE, &g), E_CONFLICT);
	assert_int_equal(disk_pwrite(f, "hello", 5, 10), E_OK);
	assert_int_equal(disk_sync(f), E_OK);
	assert_int_equal(disk_sync_dir(d, "a"), E_OK);
	assert_int_equal(disk_sync_dir(d, ""), E_OK);
	assert_int_equal(disk_size(f, &size), E_OK);
	assert_int_equal(size, 15);
	assert_int_equal(disk_pread(f, out, sizeof out, 9, &got), E_OK);
	assert_int_equal(got, 6);
	assert_memory_equal(out, "\0hello", 6);
	disk_start_write(f, 0, 15);
	assert_int_equal(disk_truncate(f, 3), E_OK);
	assert_int_equal(disk_pread(f, out, 4, 3, &got), E_OK);
	assert_int_equal(got, 0);
	assert_int_equal(disk_rename(d, "a/f", "g"), E_OK);
	assert_int_equal(disk_list(d, "", count_entry, &n), E_OK);
	assert_int_equal(n, 101);
	assert_int_equal(disk_unlink(d, "g"), E_OK);
	assert_int_equal(disk_unlink(d, "g"), E_NOT_FOUND);
	assert_int_equal(disk_space(d, &size), E_OK);
	assert_true(size > 0 && disk_syncs(d) == 3 && !disk_failed(d));
	disk_close(f);
}

static void test_posix(void **state)
{
	(void)state;
	char path[] = "/tmp/scaidrive-disk-XXXXXX", command[64];
	struct disk *d;
	assert_non_null(mkdtemp(path));
	assert_int_equal(disk_posix_open("/nowhere/at/all", &d), E_NOT_FOUND);
	assert_int_equal(disk_posix_open(path, &d), E_OK);
	exercise(d);
	disk_free(d);
	snprintf(command, sizeof command, "rm -r %s", path);
	assert_int_equal(system(command), 0);
}

/* Clients that use up the descriptors must not make the disk look broken. */
static void test_no_descriptors(void **state)
{
	(void)state;
	char path[] = "/tmp/scaidrive-disk-XXXXXX";
	struct disk *d;
	struct rlimit files, few;
	int fds[64], n = 0;
	assert_non_null(mkdtemp(path));
	assert_int_equal(disk_posix_open(path, &d), E_OK);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	few = files;
	few.rlim_cur = 32;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while ((fds[n] = dup(2)) >= 0)
		n++;
	assert_int_equal(disk_sync_dir(d, ""), E_BUSY);
	while (n > 0)
		close(fds[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	assert_false(disk_failed(d));
	assert_int_equal(disk_sync_dir(d, ""), E_OK);
	disk_free(d);
	assert_int_equal(rmdir(path), 0);
}

static void test_memory(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(1);
	exercise(d);
	disk_free(d);
}

/* A failed sync ends all changes until a restart, and reading goes on; a failed write ends nothing. */
static void test_failed_sync(void **state)
{
	(void)state;
	for (int folder = 0; folder < 2; folder++) {
		struct disk *d = disk_fault_new(2);
		struct disk_file *f, *g;
		char out[2];
		size_t got;
		assert_int_equal(disk_open(d, "f", DISK_WRITE | DISK_CREATE, &f), E_OK);
		disk_fault_at(d, 1, 1, E_NO_SPACE);
		assert_int_equal(disk_pwrite(f, "ab", 2, 0), E_NO_SPACE);
		assert_int_equal(disk_pwrite(f, "ab", 2, 0), E_OK);
		disk_fault_at(d, 1, 1, E_IO);
		assert_int_equal(folder ? disk_sync_dir(d, "") : disk_sync(f), E_IO);
		assert_true(disk_failed(d));
		assert_int_equal(disk_sync(f), E_READ_ONLY);
		assert_int_equal(disk_sync_dir(d, ""), E_READ_ONLY);
		assert_int_equal(disk_pwrite(f, "ab", 2, 0), E_READ_ONLY);
		assert_int_equal(disk_truncate(f, 0), E_READ_ONLY);
		assert_int_equal(disk_open(d, "g", DISK_WRITE | DISK_CREATE, &g), E_READ_ONLY);
		assert_int_equal(disk_rename(d, "f", "g"), E_READ_ONLY);
		assert_int_equal(disk_unlink(d, "f"), E_READ_ONLY);
		assert_int_equal(disk_mkdir(d, "h"), E_READ_ONLY);
		assert_int_equal(disk_pread(f, out, 2, 0, &got), E_OK);
		assert_memory_equal(out, "ab", 2);
		disk_close(f);
		disk_free(d);
	}
}

/* The margin is left free; the reserve fills room and gives it back. */
static void test_room(void **state)
{
	(void)state;
	enum { KIB = 1024, MIB = 1024 * KIB };
	struct disk *d = disk_fault_new(3);
	struct disk_file *f, *g;
	int64_t free_bytes, at = 0;
	char *block = calloc(1, 64 * KIB);
	disk_fault_capacity(d, 40 * MIB);
	assert_int_equal(disk_room(d, 100 * MIB), E_OK); /* nothing is kept yet */
	disk_keep_room(d, 10 * MIB);
	struct reserve *r = reserve_open(d, 4 * MIB, 10 * MIB);
	assert_int_equal(disk_space(d, &free_bytes), E_OK);
	assert_int_equal(free_bytes, 36 * MIB);
	assert_int_equal(disk_open(d, "f", DISK_WRITE | DISK_CREATE, &f), E_OK);
	int err;
	while ((err = disk_pwrite(f, block, 64 * KIB, at)) == E_OK)
		at += 64 * KIB;
	assert_int_equal(err, E_NO_SPACE);
	assert_int_equal(at, 26 * MIB);
	assert_int_equal(disk_open(d, "g", DISK_WRITE | DISK_CREATE, &g), E_OK); /* it takes no room itself */
	disk_close(g);
	assert_int_equal(disk_room(d, 1), E_NO_SPACE);
	assert_true(reserve_release(r) && !reserve_release(r));
	assert_int_equal(disk_room(d, 1), E_OK);
	reserve_restore(r); /* there is room for it, but not enough to be worth it */
	assert_false(reserve_release(r));
	assert_int_equal(disk_truncate(f, 0), E_OK);
	reserve_restore(r);
	assert_int_equal(disk_space(d, &free_bytes), E_OK);
	assert_int_equal(free_bytes, 36 * MIB);
	reserve_close(r);
	disk_keep_room(d, 0);
	r = reserve_open(d, 4 * MIB, 0); /* found again */
	assert_true(reserve_release(r));
	reserve_close(r);
	disk_close(f);
	free(block);
	disk_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_posix), cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_memory),
	    cmocka_unit_test(test_failed_sync), cmocka_unit_test(test_room)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
