/* A point of an older schema is checked and restored by today's program. What else there is to backups is tested from outside
 * (tests/api/test_backup.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/must.h"
#include "drive/backup_priv.h"
#include "drive/check.h"
#include "drive/drive_testing.h"
#include "drive/schema.h"
#include "io/disk_fault.h"

enum { OLD_SCHEMA = 10, FILES = 20 };

static struct testing t;
static char shelf[128];
static int64_t told, findings;

static void on_progress(void *arg, const char *what, int64_t done, int64_t all)
{
	(void)arg, (void)what, (void)done, (void)all;
}

static void on_told(void *arg, struct str sentence)
{
	(void)arg;
	fprintf(stderr, "%.*s\n", STR_ARG(sentence));
	told++;
}

static void on_finding(void *arg, const struct check_finding *f)
{
	(void)arg;
	fprintf(stderr, "%.*s [%s]\n", STR_ARG(f->sentence), f->code);
	findings++;
}

static void on_garbage(void *arg, struct str file, int64_t bytes)
{
	(void)arg, (void)file, (void)bytes;
}

static void raw(sqlite3 *db, const char *sql)
{
	char *why = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", sql, why);
}

static int copy_table(void *arg, int n, char **value, char **name)
{
	char sql[4000];
	(void)n, (void)name;
	snprintf(sql, sizeof sql, "insert into main.%s (%s) select %s from p.%s", value[0], value[1], value[1], value[0]);
	raw(arg, sql);
	return 0;
}

/* The same rows as far as that schema has room for them. */
static void make_old(const char *now, const char *old)
{
	char url[300], sql[300], *why = NULL;
	struct db *db;
	sqlite3 *raw_db;
	snprintf(url, sizeof url, "sqlite:%s", old);
	assert_int_equal(db_open(&(struct db_config){.url = url, .inline_writes = true, .clock = &clock_system}, &db, &why), 0);
	assert_int_equal(db_migrate(db, schema_migrations, OLD_SCHEMA, &why), 0);
	db_close(db);
	assert_int_equal(sqlite3_open(old, &raw_db), SQLITE_OK);
	snprintf(sql, sizeof sql, "attach '%s' as p", now);
	raw(raw_db, sql);
	static const char columns[] =
	    "select m.name, group_concat(c.name, ', ') from main.sqlite_master m join pragma_table_info(m.name, 'main') c"
	    " where m.type = 'table' and m.name not like 'sqlite%' and m.name <> 'schema_migrations'"
	    " and exists (select 1 from pragma_table_info(m.name, 'p') n where n.name = c.name) group by m.name";
	assert_int_equal(sqlite3_exec(raw_db, columns, copy_table, raw_db, NULL), SQLITE_OK);
	sqlite3_close(raw_db);
}

static void check(struct db *db, struct disk *packs)
{
	struct check_totals totals;
	struct check_config c = {.db = db, .packs = packs, .clock = &clock_system, .depth = CHECK_FULL, .finding = on_finding,
	                         .garbage = on_garbage, .progress = on_progress};
	assert_int_equal(drive_check(&c, &totals), 0);
	assert_true(totals.findings == 0 && findings == 0);
	assert_int_equal(totals.versions, FILES);
}

/* Files with contents of their own, some of them removed: then there are rows that the older schema has no table for. */
static void fill(void)
{
	struct arena a;
	arena_init(&a);
	struct ctx ctx = testing_ctx(&t, &a, &t.users[1]);
	int64_t share = testing_share(&ctx, "share");
	char bytes[5000];
	for (int i = 0; i < FILES + 2; i++) {
		struct node n;
		char name[16];
		memset(bytes, 'a' + i, sizeof bytes);
		snprintf(name, sizeof name, "%d", i);
		must(testing_file(&t, &ctx, share, 0, name, str_n(bytes, sizeof bytes), &n) == 0);
		if (i >= FILES)
			must(drive_node_delete(&ctx, NODE_FILE, &(struct node_delete){.id = n.id, .permanent = true}) == 0);
	}
	arena_fini(&a);
}

static void restore(const struct backup *b, const struct backup_point *p)
{
	char url[160], *why = NULL;
	struct db *db;
	struct arena a;
	struct backup_totals totals = {0};
	struct disk *packs = disk_fault_new(3);
	snprintf(url, sizeof url, "sqlite:%s/new.db", t.dir);
	assert_int_equal(db_open(&(struct db_config){.url = url, .clock = &clock_system}, &db, &why), 0);
	arena_init(&a);
	struct ctx ctx = testing_ctx(&t, &a, &t.users[0]);
	struct drive drive = t.drive;
	drive.db = db;
	ctx.drive = &drive;
	assert_int_equal(backup_restore(b, p, &(struct restore_target){&ctx, packs, STR("word")}, &totals), 0);
	assert_int_equal(totals.faults, 0);
	int64_t number;
	assert_int_equal(db_schema_number(db, &number), 0);
	assert_int_equal(number, schema_n_migrations);
	check(db, packs);
	db_close(db);
	disk_free(packs);
	arena_fini(&a);
}

static void test_older_schema(void **state)
{
	char now[200], old[200];
	struct backup b = {.path = shelf, .clock = &clock_system, .progress = on_progress, .told = on_told};
	struct backup_totals totals = {0};
	struct backup_point p;
	struct db *db;
	(void)state;
	testing_open(&t, NULL);
	snprintf(shelf, sizeof shelf, "%s/shelf", t.dir);
	assert_int_equal(mkdir(shelf, 0700), 0);
	assert_int_equal(disk_posix_open(shelf, &b.disk), 0);
	b.packs = disk_fault_new(2);
	fill();
	testing_restart(&t, NULL, NULL); /* small writes' pack is closed */
	assert_int_equal(backup_make(&b, &(struct backup_source){t.db, t.disk, t.drive.rng}, &p, &totals), 0);
	snprintf(now, sizeof now, "%s/%s.db", shelf, p.name);
	snprintf(old, sizeof old, "%s/old", shelf);
	make_old(now, old);
	assert_int_equal(rename(old, now), 0);
	p.schema = OLD_SCHEMA;
	char file[BACKUP_FILE_MAX];
	backup_file(file, p.name, ".db");
	assert_int_equal(backup_digest(&b, file, &p.database_sha256, &p.database_bytes), 0);
	assert_int_equal(backup_write_point(&b, &p), 0);

	assert_int_equal(backup_look(&b, &p, &totals), 0);
	assert_int_equal(backup_open_upgraded(&b, &p, &db), 0);
	check(db, b.packs);
	backup_close_point(&b, &p, &db);
	restore(&b, &p);
	assert_int_equal(backup_make(&b, &(struct backup_source){t.db, t.disk, t.drive.rng}, &p, &totals), 0);
	assert_int_equal(backup_prune(&b, 2, &totals), 0);
	assert_true(totals.faults == 0 && totals.removed_packs == 0 && told == 0);
	disk_free(b.disk);
	disk_free(b.packs);
	testing_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_older_schema)};
	return cmocka_run_group_tests_name("backup", tests, NULL, NULL);
}
