#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/must.h"
#include "base/rng.h"
#include "chunks/finder.h"
#include "chunks/schema.h"
#include "io/disk_fault.h"

enum { MANY = 30000, BATCH = 64 };

/* They are asked for millions of times. */
static struct sha256 hash_of(int64_t i)
{
	static struct {
		struct sha256 hash;
		bool known;
	} all[2 * MANY + BATCH];
	must(i >= 0 && i < 2 * MANY + BATCH);
	if (!all[i].known)
		all[i].hash = sha256_of(&i, sizeof i);
	all[i].known = true;
	return all[i].hash;
}

static void add(struct finder *f, int64_t tenant_id, int64_t from, int64_t to)
{
	for (int64_t i = from; i < to; i++) {
		struct sha256 hash = hash_of(i);
		int64_t id = i + 1;
		finder_add(f, tenant_id, &hash, &id, 1);
	}
}

/* How many of [from, to) are found. */
static int64_t found(struct finder *f, int64_t tenant_id, int64_t from, int64_t to)
{
	int64_t n = 0;
	for (int64_t i = from; i < to; i += BATCH) {
		struct sha256 hashes[BATCH];
		int64_t ids[BATCH];
		for (int64_t k = 0; k < BATCH; k++)
			hashes[k] = hash_of(i + k);
		size_t k = to - i < BATCH ? (size_t)(to - i) : BATCH;
		finder_find(f, tenant_id, hashes, k, ids);
		while (k-- > 0)
			n += ids[k] == i + (int64_t)k + 1;
	}
	return n;
}

/* All is found that was added, nothing else, over many splits and another life; a tenant sees its own. */
static void test_model(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(1);
	struct finder *f;
	finder_open(d, NULL, &f);
	assert_int_equal(found(f, 7, 0, 10), 0);
	for (int64_t i = 0; i < MANY; i += 777) {
		add(f, 7, i, i + 777 < MANY ? i + 777 : MANY);
		assert_int_equal(found(f, 7, 0, 100), 100);
	}
	for (int life = 0; life < 2; life++) {
		assert_int_equal(found(f, 7, 0, MANY), MANY);
		assert_int_equal(found(f, 7, MANY, 2 * MANY), 0);
		assert_int_equal(found(f, 8, 0, MANY), 0);
		finder_close(f);
		finder_open(d, NULL, &f);
	}
	struct finder_stats stats;
	finder_stats(f, &stats);
	assert_int_equal(stats.hints, MANY);
	assert_in_range(stats.bytes, MANY * 16, MANY * 50);
	struct sha256 hash = hash_of(3);
	int64_t id = 99, got;
	finder_add(f, 7, &hash, &id, 1);
	finder_close(f);
	finder_open(d, NULL, &f);
	finder_find(f, 7, &hash, 1, &got); /* the newer hint counts */
	assert_int_equal(got, 99);
	finder_find_lately(f, 7, &hash, 1, &got);
	assert_int_equal(got, 0);
	finder_close(f);
	disk_free(d);
}

/* Power is lost: hints may be gone. Then it works on. */
static void test_crash(void **state)
{
	(void)state;
	int64_t kept = 0;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct disk *d = disk_fault_new(seed);
		struct finder *f;
		finder_open(d, NULL, &f);
		add(f, 7, 0, 5000);
		finder_close(f);
		finder_open(d, NULL, &f);
		add(f, 7, 5000, 10000);
		disk_fault_crash(d);
		finder_close(f);
		finder_open(d, NULL, &f);
		kept += found(f, 7, 0, 10000);
		add(f, 7, 0, 12000);
		assert_int_equal(found(f, 7, 0, 12000), 12000);
		finder_close(f);
		disk_free(d);
	}
	assert_in_range(kept, 1, 200000);
}

/* A disk that fails or is full at any call costs hints, nothing else; the next life is sound. */
static void test_faults(void **state)
{
	(void)state;
	for (int64_t nth = 1; nth < 400; nth += 3) {
		struct disk *d = disk_fault_new((uint64_t)nth);
		struct finder *f;
		disk_fault_at(d, nth, nth % 2 ? 1 : 1000, nth % 2 ? E_IO : E_NO_SPACE);
		finder_open(d, NULL, &f);
		add(f, 7, 0, 9000);
		assert_in_range(found(f, 7, 0, 9000), 0, 9000);
		disk_fault_at(d, 0, 0, E_OK);
		add(f, 7, 9000, 18000);
		(void)found(f, 7, 0, 18000);
		finder_close(f);
		if (disk_failed(d))
			disk_fault_crash(d);
		finder_open(d, NULL, &f);
		add(f, 7, 0, 18000);
		assert_int_equal(found(f, 7, 0, 18000), 18000);
		finder_close(f);
		disk_free(d);
	}
}

/* What is no finder begins anew; bytes of chance are no danger. */
static void test_nonsense(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(3);
	struct disk_file *file;
	struct finder *f;
	struct rng_seeded r;
	rng_seeded_init(&r, 3);
	finder_open(d, NULL, &f);
	add(f, 7, 0, 2000);
	finder_close(f);
	uint8_t noise[4096];
	for (int64_t page = 9; page >= 0; page--) {
		r.base.fill(&r.base, noise, sizeof noise);
		assert_int_equal(disk_open(d, "finder", DISK_WRITE, &file), E_OK);
		assert_int_equal(disk_pwrite(file, noise, sizeof noise, page * 4096), E_OK);
		disk_close(file);
		finder_open(d, NULL, &f);
		assert_in_range(found(f, 7, 0, 2000), 0, page ? 1999 : 0);
		finder_close(f);
	}
	disk_free(d);
}

struct told {
	uint64_t n_pages;
	int64_t hints, followed;
};

/* Numbers of a header that cannot be: it begins anew, and does not grow to hold hints that it was only told of. */
static void test_header(void **state)
{
	(void)state;
	const struct told wrong[] = {
	    {4, INT64_C(1) << 40, 1}, {4, INT64_MAX, 1}, {4, -1, 1}, {4, 4 * 255 + 1, 1}, {4, 10, -1}, {0, 10, 1}, {UINT64_MAX, 10, 1},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct disk *d = disk_fault_new(5);
		struct disk_file *file;
		struct finder *f;
		struct finder_stats stats;
		finder_open(d, NULL, &f);
		add(f, 7, 0, 2000);
		finder_close(f);
		assert_int_equal(disk_open(d, "finder", DISK_WRITE, &file), E_OK);
		assert_int_equal(disk_pwrite(file, &wrong[i], sizeof wrong[i], 24), E_OK);
		disk_close(file);
		disk_fault_capacity(d, 1 << 20);
		finder_open(d, NULL, &f);
		assert_int_equal(found(f, 7, 0, 2000), 0);
		add(f, 7, 0, 6000);
		assert_int_equal(found(f, 7, 0, 6000), 6000);
		finder_stats(f, &stats);
		assert_in_range(stats.bytes, 1, 6000 * 50);
		finder_close(f);
		disk_free(d);
	}
}

/* ---- rows that others wrote ---- */

static int rows_op(struct tx *tx, void *arg)
{
	int err = E_OK;
	for (int64_t i = 0; err == E_OK && i < *(int64_t *)arg; i++) {
		struct sha256 hash = hash_of(i);
		err = tx_exec(tx,
		              "insert into chunks (id, tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh)"
		              " values ($1, 7, $2, 1, 1, 1, 1, 0, 1)",
		              DB_ARGS(V_I(i + 1), V_B(str_n(hash.b, 32))), NULL);
	}
	return err;
}

struct rows {
	char folder[32];
	struct db *db;
};

static void rows_begin(struct rows *r, int64_t rows)
{
	char url[128];
	snprintf(r->folder, sizeof r->folder, "/tmp/scaidrive-finder-XXXXXX");
	must(mkdtemp(r->folder) != NULL);
	snprintf(url, sizeof url, "sqlite:%s/t.db", r->folder);
	assert_int_equal(db_open(&(struct db_config){.url = url, .clock = &clock_system}, &r->db, NULL), E_OK);
	struct migration m[] = {{1, "store", CHUNKS_SCHEMA_FIRST}, {2, "finder", CHUNKS_SCHEMA_FINDER}};
	assert_int_equal(db_migrate(r->db, m, 2, NULL), E_OK);
	assert_int_equal(db_write(r->db, 0, rows_op, &rows), E_OK);
}

static void rows_end(struct rows *r)
{
	char command[128];
	db_close(r->db);
	snprintf(command, sizeof command, "rm -r %s", r->folder);
	assert_int_equal(system(command), 0);
}

static void await(struct finder *f, int64_t rows)
{
	for (int i = 0; i < 1000 && found(f, 7, 0, rows) < rows; i++)
		usleep(10000);
	assert_int_equal(found(f, 7, 0, rows), rows);
}

static void test_follows_rows(void **state)
{
	(void)state;
	struct rows r;
	struct finder *f;
	int64_t rows = 5000;
	rows_begin(&r, rows);
	struct disk *d = disk_fault_new(4);
	finder_open(d, r.db, &f);
	await(f, rows);
	finder_close(f);
	disk_fault_crash(d); /* nothing is lost: it was made durable */
	finder_open(d, NULL, &f);
	assert_int_equal(found(f, 7, 0, rows), rows);
	finder_close(f);
	disk_free(d);
	rows_end(&r);
}

/* The database is older than the file of hints; what comes in then has ids that the file's maker saw long ago. */
static void test_restored_rows(void **state)
{
	(void)state;
	struct rows r;
	struct finder *f;
	struct disk_file *file;
	int64_t rows = 100, ahead = INT64_C(1) << 50;
	rows_begin(&r, rows);
	struct disk *d = disk_fault_new(6);
	finder_open(d, NULL, &f);
	add(f, 7, MANY, MANY + 10);
	finder_close(f);
	assert_int_equal(disk_open(d, "finder", DISK_WRITE, &file), E_OK);
	assert_int_equal(disk_pwrite(file, &ahead, sizeof ahead, 24 + 16), E_OK);
	disk_close(file);
	finder_open(d, r.db, &f);
	await(f, rows);
	finder_close(f);
	disk_free(d);
	rows_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_model),    cmocka_unit_test(test_crash),        cmocka_unit_test(test_faults),
	    cmocka_unit_test(test_nonsense), cmocka_unit_test(test_header),       cmocka_unit_test(test_follows_rows),
	    cmocka_unit_test(test_restored_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
