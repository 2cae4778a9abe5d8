/* Rows from one database into another, over pages and engines, and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/must.h"
#include "db/db_copy.h"

static const struct migration schema[] = {
    {1, "first",
     "create table tenants (id bigint primary key, gen bigint not null);\n"
     "create table c_one (id bigint primary key, small smallint, x text, b bytea);\n"
     "create table c_two (a bigint not null, name text not null, n bigint, primary key (a, name)) /*clustered*/;\n"
     "create table c_blob (k bytea primary key, v text not null) /*clustered*/;\n"
     "create table c_out (id bigint primary key);\n"},
};

enum { ROWS = 1203, LONG_BYTES = 3 << 20 };

static char dir[64], urls[3][300];
static char *long_text;

static struct db *open_url(const char *url)
{
	struct db *db;
	char *why = NULL;
	if (db_open(&(struct db_config){.url = url, .inline_writes = true}, &db, &why) || db_migrate(db, schema, 1, &why))
		fail_msg("%s", why);
	return db;
}

static int fill_op(struct tx *tx, void *arg)
{
	int err = 0;
	(void)arg;
	for (int64_t i = 0; !err && i < ROWS; i++) {
		char name[32];
		snprintf(name, sizeof name, "Ünï%d", (int)(i % 7));
		struct str text = i % 100 == 50 ? str_n(long_text, LONG_BYTES) : str_c(name);
		err = tx_exec(tx, "insert into c_one (id, small, x, b) values ($1, $2, $3, $4)",
		              DB_ARGS(V_I(i * INT64_C(3000000000)), i % 3 ? V_I(i % 100 - 50) : V_NULL, V_T(text),
		                      i % 5 ? V_B(str_n("\0\xff", (size_t)(i % 3))) : V_NULL),
		              NULL);
		if (!err)
			err = tx_exec(tx, "insert into c_two (a, name, n) values ($1, $2, $3)", DB_ARGS(V_I(i / 7), V_T(str_c(name)), V_I(-i)),
			              NULL);
		if (!err)
			err = tx_exec(tx, "insert into c_blob (k, v) values ($1, 'v')", DB_ARGS(V_B(str_n(&i, sizeof i))), NULL);
	}
	return err ? err : tx_exec(tx, "insert into c_out (id) values (1)", DB_NO_ARGS, NULL);
}

struct sides {
	struct db *from;
	struct tx *to;
};

static int read_op(struct tx *tx, void *arg)
{
	static const char *const leave_out[] = {"c_out", NULL};
	return db_copy(tx, ((struct sides *)arg)->to, &(struct db_copy){.leave_out = leave_out});
}

static int write_op(struct tx *tx, void *arg)
{
	struct sides *s = arg;
	s->to = tx;
	return db_read(s->from, read_op, s);
}

static void copy(struct db *from, struct db *to)
{
	struct sides s = {from, NULL};
	assert_int_equal(db_write(to, 0, write_op, &s), 0);
}

static int look_op(struct tx *tx, void *arg)
{
	struct rows *r;
	int64_t n;
	(void)arg;
	must(!tx_i64(tx, "select count(*) from c_two", DB_NO_ARGS, 0, &n) && n == ROWS);
	must(!tx_i64(tx, "select sum(n) from c_two", DB_NO_ARGS, 0, &n) && n == -(int64_t)ROWS * (ROWS - 1) / 2);
	must(!tx_i64(tx, "select count(*) from c_blob", DB_NO_ARGS, 0, &n) && n == ROWS);
	must(!tx_i64(tx, "select count(*) from c_out", DB_NO_ARGS, 0, &n) && n == 0);
	int err = tx_query(tx, "select id, small, x, b from c_one order by id", DB_NO_ARGS, &r);
	for (int64_t i = 0; !err && i < ROWS; i++) {
		must(rows_next(r) && rows_i64(r, 0) == i * INT64_C(3000000000));
		must(rows_is_null(r, 1) == (i % 3 == 0) && (i % 3 == 0 || rows_i64(r, 1) == i % 100 - 50));
		must(rows_text(r, 2).n == (i % 100 == 50 ? LONG_BYTES : 6));
		must(rows_is_null(r, 3) == (i % 5 == 0));
		must(i % 5 == 0 || str_eq(rows_blob(r, 3), str_n("\0\xff", (size_t)(i % 3))));
	}
	must(!rows_next(r));
	return rows_close(&r);
}

static void test_there_and_back(void **state)
{
	(void)state;
	struct db *one = open_url(urls[0]), *two = open_url(urls[1]), *three = open_url(urls[2]);
	assert_int_equal(db_write(one, 0, fill_op, NULL), 0);
	copy(one, two);
	assert_int_equal(db_read(two, look_op, NULL), 0);
	copy(two, three);
	assert_int_equal(db_read(three, look_op, NULL), 0);
	/* What is there already stops it, and nothing of it stays. */
	struct sides s = {one, NULL};
	assert_int_equal(db_write(two, 0, write_op, &s), E_CONFLICT);
	assert_int_equal(db_read(two, look_op, NULL), 0);
	db_close(three);
	db_close(two);
	db_close(one);
}

static int drop_op(struct tx *tx, void *arg)
{
	return tx_exec(tx, arg, DB_NO_ARGS, NULL);
}

static void drop_tables(const char *url)
{
	static const char *const sql[] = {"drop table if exists tenants", "drop table if exists c_one", "drop table if exists c_two",
	                                  "drop table if exists c_blob", "drop table if exists c_out",
	                                  "drop table if exists schema_migrations"};
	struct db *db;
	must(!db_open(&(struct db_config){.url = url, .inline_writes = true}, &db, NULL));
	for (size_t i = 0; i < sizeof sql / sizeof *sql; i++)
		must(!db_write(db, 0, drop_op, (void *)sql[i]));
	db_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_there_and_back)};
	const char *server = getenv("SCAIDRIVE_TEST_PG");
	long_text = malloc(LONG_BYTES);
	must(long_text);
	memset(long_text, 'x', LONG_BYTES);
	snprintf(dir, sizeof dir, "/tmp/db-copy-XXXXXX");
	must(mkdtemp(dir));
	for (int i = 0; i < 3; i++)
		snprintf(urls[i], sizeof urls[i], "sqlite:%s/%d.db", dir, i);
	int failed = cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
	for (int i = 0; i < 3; i++)
		unlink(urls[i] + strlen("sqlite:"));
	if (server && *server) {
		snprintf(urls[1], sizeof urls[1], "%s", server);
		drop_tables(server);
		failed += cmocka_run_group_tests_name("postgresql", tests, NULL, NULL);
		drop_tables(server);
	}
	for (int i = 0; i < 3; i++)
		if (str_starts(str_c(urls[i]), STR("sqlite:")))
			unlink(urls[i] + strlen("sqlite:"));
	rmdir(dir);
	free(long_text);
	return failed;
}
