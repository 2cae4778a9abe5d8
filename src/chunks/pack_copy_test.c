/* Copying packs: power lost, disk full or process killed at every call; a copy of the name is whole or not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chunks/pack_copy.h"
#include "io/disk_fault.h"

enum { CHUNK = 3000, ID = 77 };

static uint8_t bytes[CHUNK];

/* n more chunks in one segment. */
static void grow(struct pack_writer *w, int n)
{
	bool broken = false;
	for (int i = 0; i < n; i++) {
		bytes[0] = (uint8_t)i;
		struct pack_entry e = {.hash = sha256_of(bytes, CHUNK), .chunk_id = i + 1, .xxh = xxh3_64(bytes, CHUNK), .raw_len = CHUNK,
		                       .stored_len = CHUNK};
		assert_int_equal(pack_append(w, &e, bytes, &broken), 0);
	}
	assert_int_equal(pack_seal(w), 0);
}

static struct disk *source(struct pack_writer *w)
{
	struct disk *d = disk_fault_new(1);
	assert_int_equal(pack_copy_begin(d), 0);
	assert_int_equal(pack_create(d, ID, 5, w), 0);
	grow(w, 5);
	return d;
}

/* Entries of the copy; -1: there is none. */
static int entries(struct disk *d)
{
	char name[PACK_NAME_MAX];
	struct disk_file *f;
	struct pack_info info;
	pack_name(name, ID);
	if (disk_open(d, name, DISK_READ, &f))
		return -1;
	int err = pack_scan(f, true, NULL, NULL, &info);
	disk_close(f);
	return err || info.n_bad || info.n_gaps || info.torn ? -2 : (int)info.n_entries;
}

static bool verify;

static int copy(struct disk *from, struct disk *to, struct pack_copied *out)
{
	int err = pack_copy_begin(to);
	if (!err)
		err = pack_copy(from, to, ID, verify, out);
	return err ? err : pack_copy_end(to);
}

static void test_grows(void **state)
{
	(void)state;
	struct pack_writer w;
	struct pack_copied one;
	struct disk *from = source(&w), *to = disk_fault_new(2);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(one.copied && !one.damaged);
	assert_int_equal(entries(to), 5);
	assert_int_equal(copy(from, to, &one), 0);
	assert_false(one.copied);
	grow(&w, 3);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(one.copied);
	assert_int_equal(entries(to), 8);
	disk_fault_crash(to);
	assert_int_equal(entries(to), 8);
	assert_int_equal(pack_copy(from, to, ID + 1, false, &one), E_NOT_FOUND);
	pack_close(&w);
	disk_free(from);
	disk_free(to);
}

/* A source that lost its end does not take the copy with it; damage is told. */
static void test_damage(void **state)
{
	(void)state;
	char name[PACK_NAME_MAX];
	struct pack_writer w;
	struct pack_copied one;
	struct disk_file *f;
	struct disk *from = source(&w), *to = disk_fault_new(3), *other = disk_fault_new(4);
	pack_name(name, ID);
	assert_int_equal(copy(from, to, &one), 0);
	assert_int_equal(disk_open(from, name, DISK_WRITE, &f), 0);
	assert_int_equal(disk_pwrite(f, "rot", 3, 1000), 0);
	assert_int_equal(copy(from, other, &one), 0);
	assert_true(one.copied && one.damaged);
	assert_int_equal(disk_truncate(f, 2000), 0);
	disk_close(f);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(!one.copied && one.damaged);
	assert_int_equal(entries(to), 5);
	pack_close(&w);
	disk_free(from);
	disk_free(to);
	disk_free(other);
}

static void rot(struct disk *d, int64_t at)
{
	char name[PACK_NAME_MAX];
	struct disk_file *f;
	pack_name(name, ID);
	assert_int_equal(disk_open(d, name, DISK_WRITE, &f), 0);
	assert_int_equal(disk_pwrite(f, "rot", 3, at), 0);
	disk_close(f);
}

/* A copy that rotted is found when it is looked at, and made anew from a source that is whole, from nothing else. */
static void test_rot_of_the_copy(void **state)
{
	(void)state;
	struct pack_writer w;
	struct pack_copied one;
	struct disk *from = source(&w), *to = disk_fault_new(6);
	assert_int_equal(copy(from, to, &one), 0);
	rot(to, 1000);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(!one.copied && entries(to) == -2);
	verify = true;
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(one.copied && !one.damaged && entries(to) == 5);
	assert_int_equal(copy(from, to, &one), 0);
	assert_false(one.copied);
	rot(to, 1000);
	rot(from, 5000);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(!one.copied && one.damaged && !one.kept);
	verify = false;
	pack_close(&w);
	disk_free(from);
	disk_free(to);
}

/* A pack that rotted before it grew does not take the copy from when it was whole with it. */
static void test_rot_of_the_source(void **state)
{
	(void)state;
	struct pack_writer w;
	struct pack_copied one;
	struct disk *from = source(&w), *to = disk_fault_new(7);
	assert_int_equal(copy(from, to, &one), 0);
	rot(from, 1000);
	grow(&w, 3);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(one.copied && one.damaged && one.kept && entries(to) == 8);
	pack_close(&w);
	disk_free(from);
	disk_free(to);
}

/* An upload that was given up takes back the room behind what is kept of it: no damage, and the copy stays. */
static void test_room_given_back(void **state)
{
	(void)state;
	char name[PACK_NAME_MAX];
	struct pack_writer w;
	struct pack_copied one;
	struct disk_file *f;
	struct disk *from = source(&w), *to = disk_fault_new(5);
	int64_t kept = w.segment;
	grow(&w, 3);
	assert_int_equal(copy(from, to, &one), 0);
	pack_name(name, ID);
	assert_int_equal(disk_open(from, name, DISK_WRITE, &f), 0);
	assert_int_equal(disk_truncate(f, kept), 0);
	disk_close(f);
	assert_int_equal(copy(from, to, &one), 0);
	assert_true(!one.copied && !one.damaged);
	assert_int_equal(entries(to), 8);
	pack_close(&w);
	disk_free(from);
	disk_free(to);
}

/* how 0: the power goes at call n; 1: the process ends; 2: the call fails as on a full disk. Before, it held 5 chunks. */
static bool interrupted(int how, int64_t n)
{
	struct pack_writer w;
	struct pack_copied one;
	struct disk *from = source(&w), *to = disk_fault_new((uint64_t)n + 10);
	assert_int_equal(copy(from, to, &one), 0);
	grow(&w, 4);
	if (how == 2)
		disk_fault_at(to, n, 1, E_NO_SPACE);
	else
		disk_fault_die(to, n);
	bool failed = copy(from, to, &one) != 0;
	if (how == 0 || disk_failed(to)) /* a failed sync is final until a restart */
		disk_fault_crash(to);
	else if (how == 1)
		disk_fault_restart(to);
	disk_fault_at(to, 1, 0, 0);
	assert_true(entries(to) == 9 || (failed && entries(to) == 5));
	assert_int_equal(copy(from, to, &one), 0);
	assert_int_equal(entries(to), 9);
	pack_close(&w);
	disk_free(from);
	disk_free(to);
	return failed;
}

static void test_interrupted(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		int64_t n = 1;
		while (interrupted(how, n))
			n++;
		assert_true(n > 20);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_grows), cmocka_unit_test(test_damage), cmocka_unit_test(test_rot_of_the_copy), cmocka_unit_test(test_rot_of_the_source),
	                                   cmocka_unit_test(test_room_given_back),
	                                   cmocka_unit_test(test_interrupted)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
