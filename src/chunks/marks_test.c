#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/must.h"
#include "chunks/marks.h"
#include "chunks/schema.h"
#include "io/disk_fault.h"

enum { TENANT = 7, CHUNKS = 3 };

static struct db *db;
static struct disk *disk;
static struct finder *finder;

static char folder[] = "/tmp/scaidrive-marks-XXXXXX";

static int sql_op(struct tx *tx, void *arg)
{
	return tx_exec(tx, arg, DB_NO_ARGS, NULL);
}

static int setup(void **state)
{
	(void)state;
	char *why = NULL;
	static const struct migration m[] = {
	    {1, "store", CHUNKS_SCHEMA_FIRST}, {2, "finder", CHUNKS_SCHEMA_FINDER}, {3, "marks", CHUNKS_SCHEMA_MARKS}};
	disk = disk_fault_new(1);
	finder_open(disk, NULL, &finder);
	const char *pg = getenv("SCAIDRIVE_TEST_PG");
	char url[64];
	must(mkdtemp(folder) != NULL);
	snprintf(url, sizeof url, "sqlite:%s/t.db", folder);
	must(db_open(&(struct db_config){.url = pg ? pg : url, .clock = &clock_system}, &db, &why) == 0);
	static const char *const afresh[] = {"drop schema public cascade", "create schema public",
	                                     "create table tenants (id bigint primary key, gen bigint)",
	                                     "insert into tenants values (7, 0)"};
	for (int i = pg ? 0 : 2; i < 4; i++)
		must(db_write(db, 0, sql_op, (void *)afresh[i]) == 0);
	return db_migrate(db, m, 3, &why);
}

static int teardown(void **state)
{
	(void)state;
	finder_close(finder);
	disk_free(disk);
	db_close(db);
	char command[64];
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

struct job {
	int64_t first_id; /* of those that are added */
	int from;         /* whose hash the first has */
	int64_t ids[CHUNKS];
	enum mark_reason reason;
	struct mark marks[CHUNKS];
	size_t n;
};

static struct sha256 hash_of(int i)
{
	return sha256_of(&i, sizeof i);
}

static int add_op(struct tx *tx, void *arg)
{
	struct job *j = arg;
	struct chunk_row rows[CHUNKS];
	for (int i = 0; i < CHUNKS; i++)
		rows[i] = (struct chunk_row){j->first_id + i, hash_of(j->from + i), {.pack_id = 1, .raw_len = 1, .stored_len = 1}};
	struct index_batch batch = {.n = 0};
	int err = index_add(tx, finder, TENANT, 1, rows, CHUNKS, &batch, j->ids);
	return err ? err : index_flush(tx, finder, TENANT, 1, &batch);
}

static int set_op(struct tx *tx, void *arg)
{
	struct job *j = arg;
	return marks_set(tx, TENANT, j->ids, 2, j->reason, 99);
}

static int clear_op(struct tx *tx, void *arg)
{
	struct job *j = arg;
	return marks_clear(tx, TENANT, j->ids, 2, j->reason);
}

static int walk_op(struct tx *tx, void *arg)
{
	struct job *j = arg;
	return marks_walk(tx, j->reason, 0, j->marks, CHUNKS, &j->n);
}

static void find(int64_t ids[CHUNKS])
{
	struct sha256 hashes[CHUNKS];
	for (int i = 0; i < CHUNKS; i++)
		hashes[i] = hash_of(i);
	must(index_find(db, finder, TENANT, hashes, CHUNKS, ids) == 0);
}

static void test_marked_is_not_there(void **state)
{
	(void)state;
	int64_t found[CHUNKS];
	struct job old = {.first_id = 10, .reason = MARK_CONDEMNED}, again = {.first_id = 20};
	must(db_write(db, TENANT, add_op, &old) == 0);
	find(found);
	assert_int_equal(found[0], 10);
	must(db_write(db, TENANT, set_op, &old) == 0);
	find(found);
	assert_int_equal(found[0], 0);
	assert_int_equal(found[1], 0);
	assert_int_equal(found[2], 12);
	/* it comes again: a row of its own, while the third is used */
	must(db_write(db, TENANT, add_op, &again) == 0);
	assert_int_equal(again.ids[0], 20);
	assert_int_equal(again.ids[1], 21);
	assert_int_equal(again.ids[2], 12);
	find(found);
	assert_int_equal(found[0], 20);
}

static void test_two_reasons(void **state)
{
	(void)state;
	struct job j = {.ids = {10, 11}, .reason = MARK_DAMAGED};
	int64_t found[CHUNKS];
	must(db_write(db, TENANT, set_op, &j) == 0); /* condemned they are */
	must(db_write(db, TENANT, set_op, &j) == 0);
	j.reason = MARK_CONDEMNED;
	must(db_write(db, TENANT, clear_op, &j) == 0);
	must(db_read(db, walk_op, &j) == 0);
	assert_int_equal(j.n, 0);
	j.reason = MARK_DAMAGED;
	must(db_read(db, walk_op, &j) == 0);
	assert_int_equal(j.n, 2);
	assert_int_equal(j.marks[1].chunk_id, 11);
	assert_int_equal(j.marks[1].tenant_id, TENANT);
	assert_int_equal(j.marks[1].since_us, 99);
	must(db_write(db, TENANT, clear_op, &j) == 0);
	must(db_read(db, walk_op, &j) == 0);
	assert_int_equal(j.n, 0);
	find(found);
	assert_int_equal(found[2], 12);
}

static int sum_op(struct tx *tx, void *arg)
{
	return tx_i64(tx, "select count(*) * 1000 + (select size_bytes from packs where id = 1) from chunks", DB_NO_ARGS, -1, arg);
}

/* As a process that knows no hint would add them. */
static int add_unhinted(struct job *j)
{
	struct finder *knows = finder;
	struct disk *empty = disk_fault_new(2);
	finder_open(empty, NULL, &finder);
	int err = db_write(db, TENANT, add_op, j);
	finder_close(finder);
	disk_free(empty);
	finder = knows;
	return err;
}

/* A row that stands stays as it is, and is not counted in its pack once more. */
static void test_rows_that_are_there(void **state)
{
	(void)state;
	int64_t before, after;
	struct job first = {.first_id = 50, .from = 50}, over = {.first_id = 52, .from = 52}, beside = {.first_id = 56, .from = 70},
	           between = {.first_id = 60, .from = 80};
	must(db_write(db, TENANT, add_op, &first) == 0);
	must(db_write(db, TENANT, add_op, &beside) == 0);
	must(db_read(db, sum_op, &before) == 0);
	assert_int_equal(add_unhinted(&over), 0); /* 52 is there, the same chunk */
	must(db_read(db, sum_op, &after) == 0);
	assert_int_equal(after - before, 2002);
	assert_int_equal(db_write(db, TENANT, add_op, &between), 0);
	must(db_read(db, sum_op, &before) == 0);
	assert_int_equal(before - after, 3003);
}

/* Recipes that named it would get other bytes. */
static void test_ids_of_others(void **state)
{
	(void)state;
	int64_t before, after;
	struct job other = {.first_id = 54, .from = 90};
	must(db_read(db, sum_op, &before) == 0);
	assert_int_equal(db_write(db, TENANT, add_op, &other), E_BUSY); /* 54 is a chunk of the test before */
	must(db_read(db, sum_op, &after) == 0);
	assert_int_equal(after, before);
	other.first_id = 90;
	assert_int_equal(db_write(db, TENANT, add_op, &other), 0);
	assert_int_equal(other.ids[2], 92);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_marked_is_not_there),
	    cmocka_unit_test(test_two_reasons),
	    cmocka_unit_test(test_rows_that_are_there),
	    cmocka_unit_test(test_ids_of_others),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
