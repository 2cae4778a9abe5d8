/* Repack and rebuild where a pack cannot tell what it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "chunks/chunks_testing.h"
#include "chunks/pack.h"
#include "chunks/rebuild.h"
#include "chunks/repack.h"
#include "io/disk_fault.h"

enum { TENANT = 7, CHUNKS = 5, CHUNK_BYTES = 3000 };

static char folder[] = "/tmp/repack-test-XXXXXX";
static struct db *db;
static struct idgen ids;
static struct disk *disk;

static int setup(void **state)
{
	(void)state;
	idgen_init(&ids, &clock_system, 1);
	db = testing_store_db(folder);
	disk = disk_fault_new(3);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	db_close(db);
	disk_free(disk);
	return 0;
}

static void write_at(int64_t pack_id, const void *p, size_t n, int64_t at)
{
	char name[PACK_NAME_MAX];
	struct disk_file *f;
	pack_name(name, pack_id);
	assert_int_equal(disk_open(disk, name, DISK_WRITE, &f), E_OK);
	assert_int_equal(disk_pwrite(f, p, n, at), E_OK);
	disk_close(f);
}

/* A pack that no row names. */
static int64_t make_pack(void)
{
	struct pack_writer w;
	uint8_t bytes[CHUNK_BYTES];
	int64_t id = idgen_next(&ids);
	char name[2];
	pack_folder_name(name, pack_folder(id));
	assert_int_equal(disk_mkdir(disk, name), E_OK);
	assert_int_equal(pack_create(disk, id, TENANT, &w), E_OK);
	for (int i = 0; i < CHUNKS; i++) {
		bool broken;
		memset(bytes, 'a' + i, sizeof bytes);
		struct pack_entry e = {.hash = sha256_of(bytes, sizeof bytes), .chunk_id = idgen_next(&ids), .xxh = xxh3_64(bytes, sizeof bytes),
		                       .raw_len = sizeof bytes, .stored_len = sizeof bytes};
		assert_int_equal(pack_append(&w, &e, bytes, &broken), E_OK);
	}
	assert_int_equal(pack_seal(&w), E_OK);
	assert_int_equal(disk_sync(w.file), E_OK);
	pack_close(&w);
	return id;
}

static bool go_on(void *arg, int64_t bytes)
{
	(void)arg, (void)bytes;
	return true;
}

static struct repack_totals round_of_all(void)
{
	struct repack r = {.db = db, .disk = disk, .ids = &ids, .clock = &clock_system, .ids_below = INT64_MAX,
	                   .retired_before_us = INT64_MAX, .go_on = go_on};
	assert_int_equal(repack_run(&r), E_OK);
	return r.totals;
}

static void on_progress(void *arg, const char *what, int64_t done, int64_t all)
{
	(void)arg, (void)what, (void)done, (void)all;
}

static struct store_rebuild_totals rebuild(int64_t only_tenant)
{
	struct store_rebuild_totals t;
	struct store_rebuild_config c = {.disk = disk, .db = db, .only_tenant = only_tenant, .clock = &clock_system, .progress = on_progress};
	assert_int_equal(store_rebuild(&c, &t), E_OK);
	return t;
}

static void test_head_is_damaged(void **state)
{
	(void)state;
	int64_t id = make_pack();
	write_at(id, "rot", 3, 18);
	struct repack_totals t = round_of_all();
	assert_true(t.retired == 0 && t.deleted == 0);
	struct store_rebuild_totals found = rebuild(0);
	assert_true(found.added == 0 && found.unreadable_packs == 1);
	found = rebuild(TENANT);
	assert_true(found.added == CHUNKS && found.damaged == 0 && found.unreadable_packs == 0);
	found = rebuild(0); /* by now its rows tell */
	assert_true(found.added == 0 && found.unreadable_packs == 0);
	t = round_of_all();
	assert_true(t.retired == 0 && t.live_bytes == CHUNKS * CHUNK_BYTES);
}

/* What a crash leaves, or an upload that was given up, goes. */
static void test_leftovers_go(void **state)
{
	(void)state;
	uint8_t hole[2 * PACK_HEADER_BYTES] = {0};
	(void)make_pack();
	write_at(make_pack(), hole, sizeof hole, 0); /* neither head nor segment */
	struct repack_totals t = round_of_all();
	assert_true(t.retired == 2 && t.deleted == 2);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_head_is_damaged), CASE(test_leftovers_go)};
	if (!mkdtemp(folder))
		return 1;
	int failed = cmocka_run_group_tests_name("repack", tests, NULL, NULL);
	char path[64];
	snprintf(path, sizeof path, "rm -rf %s", folder);
	return system(path) ? 1 : failed;
}
