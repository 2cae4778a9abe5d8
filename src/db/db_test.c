#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/err.h"
#include "base/must.h"
#include "db/db.h"

/* The same cases on SQLite and, when SCAIDRIVE_TEST_PG holds a URL, on PostgreSQL. */

static char url[300], dir[64];
static struct db *db;
static bool pg;

static const struct migration schema[] = {
    {1, "first",
     "create table tenants (id bigint primary key, gen bigint not null);\n"
     "create table t (id bigint primary key, n bigint, small smallint, x text, b bytea);\n"},
    {2, "second",
     "create table u (a bigint not null, b bigint not null, primary key (a, b)) /*clustered*/;\n"
     "create table child (id bigint primary key, t bigint not null references t (id));\n"
     "create unique index t_x on t (x);\n"},
};

static int drop_op(struct tx *tx, void *arg)
{
	return tx_exec(tx, arg, DB_NO_ARGS, NULL);
}

static void open_db(bool inline_writes)
{
	char *why = NULL;
	struct db_config config = {.url = url, .inline_writes = inline_writes};
	if (db_open(&config, &db, &why))
		fail_msg("%s", why);
}

static void drop_all(void)
{
	static const char *const sql[] = {"drop table if exists child", "drop table if exists u",
					  "drop table if exists t", "drop table if exists tenants",
					  "drop table if exists schema_migrations", "drop table if exists half",
					  "drop table if exists other"};
	for (size_t i = 0; i < sizeof sql / sizeof *sql; i++)
		assert_int_equal(db_write(db, 0, drop_op, (void *)sql[i]), 0);
}

static int empty(void **state)
{
	(void)state;
	open_db(false);
	drop_all();
	return 0;
}

static int setup(void **state)
{
	char *why = NULL;
	empty(state);
	if (db_migrate(db, schema, 2, &why))
		fail_msg("%s", why);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	db_close(db);
	db = NULL;
	return 0;
}

struct row {
	int64_t id;
	struct dbv n, small, x, b;
};

static int insert_op(struct tx *tx, void *arg)
{
	struct row *r = arg;
	int64_t changed;
	/* Out of order on purpose. */
	int err = tx_exec(tx, "insert into t (b, x, small, n, id) values ($5, $4, $3, $2, $1)",
			  DB_ARGS(V_I(r->id), r->n, r->small, r->x, r->b), &changed);
	if (!err)
		assert_int_equal(changed, 1);
	return err;
}

static int insert(int64_t tenant, int64_t id)
{
	return db_write(db, tenant, insert_op, &(struct row){.id = id});
}

struct count {
	const char *sql;
	int64_t n;
};

static int count_op(struct tx *tx, void *arg)
{
	struct count *c = arg;
	return tx_i64(tx, c->sql, DB_NO_ARGS, -1, &c->n);
}

static int64_t one(const char *sql)
{
	struct count c = {.sql = sql};
	assert_int_equal(db_read(db, count_op, &c), 0);
	return c.n;
}

/* ---- values ---- */

static int values_op(struct tx *tx, void *arg)
{
	AUTO_ROWS *r = NULL;
	(void)arg;
	assert_false(tx_is_write(tx));
	assert_int_equal(tx_query(tx, "select n, small, x, b from t where id >= $1 order by id", DB_ARGS(V_I(1)), &r), 0);
	assert_true(rows_next(r));
	assert_true(rows_i64(r, 0) == INT64_MIN);
	assert_int_equal(rows_i64(r, 1), -32768);
	assert_true(rows_text(r, 2).p && rows_text(r, 2).n == 0);
	assert_false(rows_is_null(r, 2));
	assert_int_equal(rows_blob(r, 3).n, 4);
	assert_memory_equal(rows_blob(r, 3).p, "\0a\0\xff", 4);
	assert_true(rows_next(r));
	assert_true(rows_i64(r, 0) == INT64_MAX);
	assert_true(rows_is_null(r, 1) && rows_is_null(r, 2) && rows_is_null(r, 3));
	assert_null(rows_text(r, 2).p);
	assert_int_equal(rows_i64(r, 1), 0);
	assert_true(rows_next(r));
	assert_true(rows_is_null(r, 0));
	assert_true(str_eq(rows_text(r, 2), STR("$1 'gr\xc3\xbc\xc3\x9f' ?")));
	assert_true(rows_blob(r, 3).p && rows_blob(r, 3).n == 0);
	assert_false(rows_next(r));
	assert_false(rows_next(r));
	return rows_close(&r);
}

static int change_op(struct tx *tx, void *arg)
{
	int64_t changed, left;
	(void)arg;
	assert_int_equal(tx_exec(tx, "update t set n = n + $1 where n is not null and n < $2", DB_ARGS(V_I(1), V_I(0)),
				 &changed), 0);
	assert_int_equal(changed, 1);
	assert_int_equal(tx_exec(tx, "delete from t where id = $1", DB_ARGS(V_I(99)), &changed), 0);
	assert_int_equal(changed, 0);
	assert_int_equal(tx_exec(tx, "delete from t where id in ($2, $1)", DB_ARGS(V_I(2), V_I(3)), &changed), 0);
	assert_int_equal(changed, 2);
	assert_int_equal(tx_i64(tx, "select n from t where id = $1", DB_ARGS(V_I(7)), -5, &left), 0);
	assert_int_equal(left, -5);
	AUTO_ROWS *r = NULL;
	bool found;
	assert_int_equal(tx_query_row(tx, "insert into t (id, x) values ($1, $2) on conflict (id) do update set x = $2"
					  " returning id, x", DB_ARGS(V_I(1), V_T(STR("new"))), &r, &found), 0);
	assert_true(found && rows_i64(r, 0) == 1 && str_eq(rows_text(r, 1), STR("new")));
	return rows_close(&r);
}

static void test_values(void **state)
{
	(void)state;
	struct row a = {1, V_I(INT64_MIN), V_I(-32768), V_T(STR("")), V_B(STR("\0a\0\xff"))};
	struct row b = {2, V_I(INT64_MAX), V_NULL, V_NULL, V_NULL};
	struct row c = {3, V_ID(0), V_I(0), V_T(STR("$1 'gr\xc3\xbc\xc3\x9f' ?")), V_B(STR(""))};
	assert_int_equal(db_write(db, 5, insert_op, &a), 0);
	assert_int_equal(db_write(db, 5, insert_op, &b), 0);
	assert_int_equal(db_write(db, 5, insert_op, &c), 0);
	assert_int_equal(db_read(db, values_op, NULL), 0);
	assert_int_equal(db_write(db, 5, change_op, NULL), 0);
	assert_true(one("select n from t") == INT64_MIN + 1);
	assert_int_equal(one("select count(*) from t"), 1);
	assert_int_equal(one("select n from t where id = 404"), -1);
	assert_int_equal(one("select sum(small) from t"), -32768);
	assert_int_equal(insert(5, INT64_MAX), 0);
	assert_true(one("select sum(id) from t where id > 1") == INT64_MAX);
	assert_int_equal(db_ping(db), 0);
	db_trim(db);
	assert_int_equal(one("select sum(small) from t"), -32768);
}

static int two_open_op(struct tx *tx, void *arg)
{
	static const char sql[] = "select id from t order by id";
	AUTO_ROWS *a = NULL;
	AUTO_ROWS *b = NULL;
	(void)arg;
	assert_int_equal(tx_query(tx, sql, DB_NO_ARGS, &a), 0);
	assert_true(rows_next(a));
	assert_int_equal(tx_query(tx, sql, DB_NO_ARGS, &b), 0);
	assert_true(rows_next(b) && rows_next(b));
	assert_int_equal(rows_i64(a, 0), 1);
	assert_int_equal(rows_i64(b, 0), 2);
	assert_true(rows_next(a) && rows_i64(a, 0) == 2);
	struct str s = arena_fmt(tx_arena(tx), "%d", 42);
	assert_true(str_eq(s, STR("42")));
	return 0;
}

static void test_two_open(void **state)
{
	(void)state;
	insert(1, 1);
	insert(1, 2);
	assert_int_equal(db_read(db, two_open_op, NULL), 0);
	assert_int_equal(db_write(db, 1, two_open_op, NULL), 0);
}

/* One buffer holds one text, then another: the first one's statement must not answer for the second. */
static int reused_op(struct tx *tx, void *arg)
{
	char sql[40];
	int64_t a, b;
	(void)arg;
	snprintf(sql, sizeof sql, "select 1 + 0");
	assert_int_equal(tx_i64(tx, sql, DB_NO_ARGS, 0, &a), 0);
	snprintf(sql, sizeof sql, "select 1 + 1");
	assert_int_equal(tx_i64(tx, sql, DB_NO_ARGS, 0, &b), 0);
	assert_int_equal(a, 1);
	assert_int_equal(b, 2);
	return 0;
}

static void test_reused_text(void **state)
{
	(void)state;
	assert_int_equal(db_read(db, reused_op, NULL), 0);
}

/* ---- failures ---- */

static int fails_after_op(struct tx *tx, void *arg)
{
	insert_op(tx, arg);
	return E_QUOTA;
}

/* Ignores that its statement failed. */
static int careless_op(struct tx *tx, void *arg)
{
	insert_op(tx, &(struct row){.id = 50});
	insert_op(tx, arg);
	return 0;
}

static int bad_sql_op(struct tx *tx, void *arg)
{
	(void)arg;
	return tx_exec(tx, "insert into nowhere values (1)", DB_NO_ARGS, NULL);
}

static int orphan_op(struct tx *tx, void *arg)
{
	(void)arg;
	return tx_exec(tx, "insert into child (id, t) values (1, 12345)", DB_NO_ARGS, NULL);
}

static void test_errors(void **state)
{
	(void)state;
	assert_int_equal(insert(3, 1), 0);
	assert_int_equal(insert(3, 1), E_CONFLICT);
	assert_int_equal(db_write(db, 3, fails_after_op, &(struct row){.id = 2}), E_QUOTA);
	assert_int_equal(db_write(db, 3, careless_op, &(struct row){.id = 1}), E_CONFLICT);
	assert_int_equal(db_write(db, 3, bad_sql_op, NULL), E_DB);
	assert_int_equal(db_write(db, 3, orphan_op, NULL), E_CONFLICT);
	assert_int_equal(db_read(db, insert_op, &(struct row){.id = 9}), E_DB);
	assert_int_equal(one("select count(*) from t"), 1);
	assert_int_equal(insert(3, 2), 0);
}

static int nested_op(struct tx *tx, void *arg)
{
	(void)arg;
	assert_true(tx_is_write(tx));
	assert_int_equal(tx_nested(tx, insert_op, &(struct row){.id = 10}), 0);
	assert_int_equal(tx_nested(tx, fails_after_op, &(struct row){.id = 11}), E_QUOTA);
	assert_int_equal(tx_nested(tx, careless_op, &(struct row){.id = 10}), E_CONFLICT);
	assert_int_equal(tx_nested(tx, bad_sql_op, NULL), E_DB);
	return insert_op(tx, &(struct row){.id = 12});
}

static int nested_deep_op(struct tx *tx, void *arg)
{
	assert_int_equal(tx_nested(tx, nested_op, arg), 0);
	return E_QUOTA;
}

static int outer_op(struct tx *tx, void *arg)
{
	assert_int_equal(tx_nested(tx, nested_deep_op, arg), E_QUOTA);
	return tx_nested(tx, nested_op, arg);
}

static void test_nested(void **state)
{
	(void)state;
	assert_int_equal(db_write(db, 3, outer_op, NULL), 0);
	assert_int_equal(one("select count(*) from t"), 2);
	assert_int_equal(one("select sum(id) from t"), 22);
}

/* ---- groups ---- */

#define THREADS 16
#define EACH 40

static int slow_op(struct tx *tx, void *arg)
{
	(void)tx, (void)arg;
	usleep(30000);
	return 0;
}

static void *slow_main(void *arg)
{
	(void)arg;
	must(db_write(db, 7, slow_op, NULL) == 0);
	return NULL;
}

/* What a daring member is told is not the truth, nor the last word. */
static int dares_op(struct tx *tx, void *arg)
{
	return tx_is_daring(tx) ? E_CONFLICT : insert_op(tx, arg);
}

/* Every third one fails; its neighbours in the group must not notice. */
static void *group_main(void *arg)
{
	int64_t base = (int64_t)(intptr_t)arg * 1000;
	for (int i = 1; i <= EACH; i++) {
		struct row r = {.id = base + i};
		db_op_fn *op = i % 3 == 0 ? (i % 2 ? fails_after_op : careless_op) : i % 3 == 2 ? dares_op : insert_op;
		if (op == careless_op)
			r.id = base + 1;
		int err = db_write(db, 7, op, &r);
		must(err == (op == insert_op || op == dares_op ? 0 : op == careless_op ? E_CONFLICT : E_QUOTA));
	}
	return NULL;
}

static void test_groups(void **state)
{
	(void)state;
	pthread_t threads[THREADS], slow;
	struct db_counts before, after;
	db_counts(db, &before);
	pthread_create(&slow, NULL, slow_main, NULL);
	usleep(10000);
	for (intptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, group_main, (void *)(i + 1));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(slow, NULL);
	db_counts(db, &after);
	assert_int_equal(after.writes - before.writes, THREADS * EACH + 1);
	assert_true(after.groups - before.groups < THREADS * EACH / 2);
	assert_int_equal(one("select count(*) from t"), THREADS * (EACH - EACH / 3));
	assert_int_equal(one("select count(*) from t where id = 50"), 0);
}

static int bump_op(struct tx *tx, void *arg)
{
	int64_t n;
	(void)arg;
	int err = tx_i64(tx, "select n from t where id = 1", DB_NO_ARGS, 0, &n);
	return err ? err : tx_exec(tx, "update t set n = $1 where id = 1", DB_ARGS(V_I(n + 1)), NULL);
}

static void *bump_main(void *arg)
{
	struct db *mine = arg;
	for (int i = 0; i < 50; i++)
		must(db_write(mine, 42, bump_op, NULL) == 0);
	return NULL;
}

static int tenant_op(struct tx *tx, void *arg)
{
	(void)arg;
	return tx_exec(tx, "insert into tenants (id, gen) values (42, 0)", DB_NO_ARGS, NULL);
}

/* Two nodes read, add and write the same row: with and without a tenant row nothing may be lost. */
static void test_two_nodes(void **state)
{
	(void)state;
	struct db *other;
	struct db_config config = {.url = url};
	assert_int_equal(db_open(&config, &other, NULL), 0);
	assert_int_equal(db_write(db, 0, insert_op, &(struct row){.id = 1, .n = V_I(0)}), 0);
	for (int64_t round = 1; round <= 2; round++) {
		pthread_t threads[4];
		for (int i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, bump_main, i % 2 ? other : db);
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(one("select n from t"), round * 200);
		if (round == 1)
			assert_int_equal(db_write(db, 42, tenant_op, NULL), 0);
	}
	if (pg)
		assert_true(one("select gen from tenants") > 0);
	db_close(other);
}

/* ---- snapshots ---- */

static int snapshot_op(struct tx *tx, void *arg)
{
	static const char sql[] = "select count(*) from t";
	int64_t before, after;
	(void)arg;
	assert_int_equal(tx_i64(tx, sql, DB_NO_ARGS, -1, &before), 0);
	assert_int_equal(insert(3, 77), 0); /* of the writer's thread: a read may wait for it */
	assert_int_equal(tx_i64(tx, sql, DB_NO_ARGS, -1, &after), 0);
	assert_int_equal(before, 0);
	assert_int_equal(after, 0);
	return 0;
}

static void test_snapshot(void **state)
{
	(void)state;
	assert_int_equal(db_read(db, snapshot_op, NULL), 0);
	assert_int_equal(one("select count(*) from t"), 1);
}

static int failing_read_op(struct tx *tx, void *arg)
{
	int64_t n;
	(void)arg;
	assert_int_equal(tx_i64(tx, "select nothing from nowhere", DB_NO_ARGS, 0, &n), E_DB);
	assert_int_equal(tx_i64(tx, "select 1", DB_NO_ARGS, 0, &n), E_DB);
	return 0;
}

static void test_failing_read(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++)
		assert_int_equal(db_read(db, failing_read_op, NULL), E_DB);
	assert_int_equal(one("select count(*) from t"), 0);
}

/* ---- many ---- */

struct seen {
	int64_t sum;
	size_t rows, last;
	int stop_with;
};

static int seen_row(void *arg, size_t call, struct rows *r)
{
	struct seen *s = arg;
	assert_true(call >= s->last);
	s->last = call;
	s->rows++;
	s->sum += rows_i64(r, 0);
	return s->rows == 5 ? s->stop_with : 0;
}

#define MANY 500

static int many_op(struct tx *tx, void *arg)
{
	struct seen s = {0}, stop = {.stop_with = E_TOO_LARGE};
	struct dbv *args = arena_many(tx_arena(tx), MANY * 2, struct dbv);
	(void)arg;
	for (int i = 0; i < MANY; i++) {
		args[2 * i] = V_I(i + 1);
		args[2 * i + 1] = i % 7 ? V_I(i) : V_NULL;
	}
	assert_int_equal(tx_many(tx, "insert into t (n, id) values ($2, $1)", args, 2, MANY, NULL, NULL), 0);
	static const char sql[] = "select id from t where id = $1 and ($2 is null or n = $2)";
	assert_int_equal(tx_many(tx, sql, args, 2, MANY, seen_row, &s), 0);
	assert_true(s.rows == MANY && s.sum == MANY * (MANY + 1) / 2);
	assert_int_equal(tx_many(tx, sql, args, 2, MANY, seen_row, &stop), E_TOO_LARGE);
	assert_int_equal(stop.rows, 5);
	assert_int_equal(tx_many(tx, sql, args, 2, 0, seen_row, &stop), 0);
	return 0;
}

/* Of calls alone it tells how many rows each touched, also when that is none. */
static int many_changed_op(struct tx *tx, void *arg)
{
	const struct dbv ids[] = {V_I(1), V_I(MANY + 1), V_I(MANY + 1), V_I(MANY)}, below[] = {V_I(3), V_I(0), V_I(6)};
	int64_t changed[4] = {9, 9, 9, 9};
	(void)arg;
	assert_int_equal(tx_many_changed(tx, "insert into t (id) values ($1) on conflict (id) do nothing", ids, 1, 4, changed), 0);
	assert_memory_equal(changed, ((int64_t[]){0, 1, 0, 0}), sizeof changed);
	assert_int_equal(tx_many_changed(tx, "delete from t where id < $1", below, 1, 3, changed), 0);
	assert_memory_equal(changed, ((int64_t[]){2, 0, 3, 0}), sizeof changed);
	return E_TOO_LARGE;
}

static int many_conflict_op(struct tx *tx, void *arg)
{
	struct dbv args[] = {V_I(1000), V_I(1001), V_I(1000), V_I(1002)};
	(void)arg;
	return tx_many(tx, "insert into t (id) values ($1)", args, 1, 4, NULL, NULL);
}

/* Rows that SQLite inserts several by one statement: what stood before a failing one, number *arg, goes with it. */
static int many_wide_conflict_op(struct tx *tx, void *arg)
{
	struct dbv args[45];
	for (int i = 0; i < 45; i++)
		args[i] = V_I(i == *(int *)arg ? 2010 : 2000 + i);
	return tx_many(tx, "insert into t (id, n) values ($1, 7)", args, 1, 45, NULL, NULL);
}

static int many_wide_op(struct tx *tx, void *arg)
{
	struct dbv args[40];
	int64_t n, changed[40] = {0};
	assert_int_equal(tx_nested(tx, many_wide_conflict_op, (int *)arg), E_CONFLICT);
	assert_int_equal(tx_nested(tx, many_wide_conflict_op, (int *)arg + 1), E_CONFLICT);
	assert_int_equal(tx_i64(tx, "select count(*) from t where id >= 2000", DB_NO_ARGS, -1, &n), 0);
	assert_int_equal(n, 0);
	for (int i = 0; i < 40; i++)
		args[i] = i % 2 ? V_I(3000 + i) : V_I(4000 + i);
	assert_int_equal(tx_many(tx, "insert into t (id, n) values ($1, 7 + $1)", args, 1, 20, NULL, NULL), 0);
	assert_int_equal(tx_many(tx, "insert into t (id, n) values ($1, 7 + $1) on conflict do nothing", args, 1, 40, NULL, NULL), 0);
	assert_int_equal(tx_i64(tx, "select sum(n - id - 7) * 1000 + count(*) from t where id >= 2000", DB_NO_ARGS, -1, &n), 0);
	assert_int_equal(n, 40);
	assert_int_equal(tx_many_changed(tx, "insert into t (id) values (9000 + $1)", args, 1, 40, changed), 0);
	assert_int_equal(changed[0] + changed[39], 2);
	/* half of them are there, and one comes twice */
	for (int i = 0; i < 40; i++)
		args[i] = V_I(i == 39 ? 3041 : 3000 + 2 * i + 1);
	const char *sql = "insert into t (id, n) values ($1, 1) on conflict (id) do update set n = excluded.n - 3";
	assert_int_equal(tx_many(tx, sql, args, 1, 40, NULL, NULL), 0);
	assert_int_equal(tx_i64(tx, "select sum(n) * 1000 + count(*) from t where id > 3000 and id < 4000", DB_NO_ARGS, -1, &n), 0);
	assert_int_equal(n, (18 - 21 * 2) * 1000 + 39);
	/* a row's own values, named once more behind them */
	sql = "insert into t (id, n) values ($1, 1) on conflict (id) do update set n = $1";
	assert_int_equal(tx_many(tx, sql, args, 1, 40, NULL, NULL), 0);
	assert_int_equal(tx_i64(tx, "select count(*) from t where id > 3000 and id < 4000 and n = id", DB_NO_ARGS, -1, &n), 0);
	assert_int_equal(n, 39);
	return E_TOO_LARGE;
}

static void test_many(void **state)
{
	(void)state;
	assert_int_equal(db_write(db, 1, many_wide_op, (int[]){20, 40}), E_TOO_LARGE);
	assert_int_equal(db_write(db, 1, many_wide_conflict_op, (int[]){20}), E_CONFLICT);
	assert_int_equal(one("select count(*) from t"), 0);
	assert_int_equal(db_write(db, 1, many_op, NULL), 0);
	assert_int_equal(db_write(db, 1, many_changed_op, NULL), E_TOO_LARGE);
	assert_int_equal(db_write(db, 1, many_conflict_op, NULL), E_CONFLICT);
	assert_int_equal(one("select count(*) from t"), MANY);
}

/* ---- migrations ---- */

static void test_migrate(void **state)
{
	(void)state;
	char *why = NULL;
	assert_int_equal(db_migrate(db, schema, 1, &why), 0);
	assert_int_equal(one("select max(number) from schema_migrations"), 1);
	assert_int_equal(db_migrate(db, schema, 2, &why), 0);
	assert_int_equal(db_migrate(db, schema, 2, &why), 0);
	assert_null(why);
	assert_int_equal(one("select count(*) from schema_migrations"), 2);
	if (!pg)
		assert_int_equal(one("select count(*) from sqlite_master where name = 'u' and sql like '%without rowid%'"), 1);
	assert_int_equal(db_migrate(db, schema, 1, &why), E_DB);
	assert_non_null(strstr(why, "schema 2"));
	free(why);
	const struct migration bad[] = {schema[0], schema[1],
					{3, "third", "create table half (a bigint);\ninsert into half values (1);\nnonsense;\n"}};
	assert_int_equal(db_migrate(db, bad, 3, &why), E_DB);
	assert_non_null(strstr(why, "third"));
	free(why);
	assert_int_equal(one("select max(number) from schema_migrations"), 2);
	const struct migration good[] = {schema[0], schema[1], {3, "third", "create table half (a bigint);\n"}};
	assert_int_equal(db_migrate(db, good, 3, &why), 0);
	assert_int_equal(one("select count(*) from half"), 0);
}

static void *migrate_main(void *arg)
{
	struct db_config config = {.url = url, .inline_writes = true};
	struct db *mine;
	(void)arg;
	must(db_open(&config, &mine, NULL) == 0);
	must(db_migrate(mine, schema, 2, NULL) == 0);
	db_close(mine);
	return NULL;
}

static void test_migrate_together(void **state)
{
	(void)state;
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, migrate_main, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(one("select count(*) from schema_migrations"), 2);
}

/* ---- open, close, notices, crashes ---- */

static void test_inline(void **state)
{
	(void)state;
	db_close(db);
	open_db(true);
	assert_int_equal(insert(1, 1), 0);
	assert_int_equal(insert(1, 1), E_CONFLICT);
	assert_int_equal(db_write(db, 3, outer_op, NULL), 0);
	assert_int_equal(db_read(db, insert_op, &(struct row){.id = 9}), E_DB);
	assert_int_equal(one("select count(*) from t"), 3);
	assert_int_equal(db_ping(db), 0);
	db_trim(db);
	db_close(db);
	open_db(false); /* and closed at once by teardown */
}

static void test_open_fails(void **state)
{
	(void)state;
	char *why = NULL;
	struct db *none;
	struct db_config config = {.url = "sqlite:/nowhere/at/all.db"};
	assert_int_equal(db_open(&config, &none, &why), E_DB);
	assert_non_null(strstr(why, "/nowhere/at/all.db"));
	free(why);
	config.url = "postgresql:///x?host=/nowhere";
	assert_int_equal(db_open(&config, &none, &why), E_DB);
	assert_non_null(why);
	free(why);
}

static atomic_int heard_sum;

static void heard(void *arg, int64_t tenant_id)
{
	(void)arg;
	heard_sum += (int)tenant_id;
}

static void test_notices(void **state)
{
	(void)state;
	struct db *other;
	struct db_config config = {.url = url};
	heard_sum = 0;
	assert_int_equal(db_open(&config, &other, NULL), 0);
	db_listen(other, heard, NULL);
	if (!pg) {
		db_notify(other, 3);
		assert_int_equal(heard_sum, 3);
		db_close(other);
		return;
	}
	usleep(300000); /* a notice before LISTEN is lost, as it may be */
	for (int i = 1; i <= 2000; i++)
		db_notify(db, i);
	for (int i = 0; i < 100 && heard_sum != 2001000; i++)
		usleep(50000);
	assert_int_equal(heard_sum, 2001000);
	db_close(other);
}

struct acks {
	int fd;
	int64_t base;
};

static void *ack_main(void *arg)
{
	struct acks *a = arg;
	for (int64_t id = a->base;; id++) {
		must(insert(id % 3, id) == 0);
		must(write(a->fd, &id, sizeof id) == sizeof id);
	}
	return NULL;
}

static void crash_child(int fd)
{
	struct acks a[4];
	pthread_t threads[4];
	open_db(false);
	for (int i = 0; i < 4; i++) {
		a[i] = (struct acks){fd, 1 + i * 1000000};
		pthread_create(&threads[i], NULL, ack_main, &a[i]);
	}
	for (;;)
		pause();
}

static int has_op(struct tx *tx, void *arg)
{
	int64_t n;
	int err = tx_i64(tx, "select count(*) from t where id = $1", DB_ARGS(V_I(*(int64_t *)arg)), 0, &n);
	return err ? err : n == 1 ? 0 : E_NOT_FOUND;
}

static void test_kill(void **state)
{
	(void)state;
	db_close(db); /* nothing of SQLite's may cross the fork */
	db = NULL;
	for (int round = 0; round < 3; round++) {
		int fds[2];
		assert_int_equal(pipe(fds), 0);
		pid_t child = fork();
		if (child == 0) {
			close(fds[0]);
			crash_child(fds[1]);
		}
		close(fds[1]);
		int64_t *ids = calloc(100000, sizeof *ids), n = 0;
		while (n < 150 && read(fds[0], &ids[n], sizeof *ids) == sizeof *ids)
			n++;
		kill(child, SIGKILL);
		while (n < 100000 && read(fds[0], &ids[n], sizeof *ids) == sizeof *ids)
			n++;
		waitpid(child, NULL, 0);
		close(fds[0]);
		open_db(false);
		assert_true(n >= 150);
		for (int64_t i = 0; i < n; i++)
			assert_int_equal(db_read(db, has_op, &ids[i]), 0);
		if (round < 2) {
			assert_int_equal(db_write(db, 0, drop_op, (void *)"delete from t"), 0);
			db_close(db);
		}
		free(ids);
	}
}

static int kill_sessions_op(struct tx *tx, void *arg)
{
	(void)arg;
	int64_t n;
	return tx_i64(tx, "select count(pg_terminate_backend(pid)) from pg_stat_activity"
			  " where datname = current_database() and pid <> pg_backend_pid()", DB_NO_ARGS, 0, &n);
}

/* All sessions are ended from outside: the next read and write must find new ones by themselves. */
static void test_reconnect(void **state)
{
	(void)state;
	if (!pg)
		return;
	struct db *other;
	struct db_config config = {.url = url, .inline_writes = true};
	assert_int_equal(insert(1, 1), 0);
	assert_int_equal(one("select count(*) from t"), 1);
	assert_int_equal(db_open(&config, &other, NULL), 0);
	assert_int_equal(db_write(other, 0, kill_sessions_op, NULL), 0);
	usleep(200000);
	assert_int_equal(insert(1, 2), 0);
	assert_int_equal(one("select count(*) from t"), 2);
	db_close(other);
}

static void note_complaint(void *arg, struct str sentence)
{
	(void)sentence;
	++*(int *)arg;
}

static int complaints(bool quick)
{
	int n = 0;
	assert_int_equal(db_verify(db, quick, note_complaint, &n), 0);
	return n;
}

static int reversed_op(struct tx *tx, void *arg)
{
	static const char *const sql[] = {
	    "create table members (a bigint not null, b bigint not null, primary key (b, a)) without rowid",
	    "insert into members (a, b) values (5, 7)",
	    "create table later (a bigint, b bigint not null, primary key (b)) without rowid",
	    "insert into later (a, b) values (null, 7)",
	};
	(void)arg;
	int err = 0;
	for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++)
		err = tx_exec(tx, sql[i], DB_NO_ARGS, NULL);
	return err;
}

/* What SQLite's quick look says wrongly is not passed on; what is wrong is, by either. */
static void test_verify(void **state)
{
	(void)state;
	if (pg)
		skip();
	assert_int_equal(db_write(db, 0, reversed_op, NULL), 0);
	assert_int_equal(complaints(true), 0);
	assert_int_equal(complaints(false), 0);
	sqlite3 *raw;
	assert_int_equal(sqlite3_open(url + 7, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "pragma writable_schema = 1; update sqlite_master set sql = replace(sql, 'a bigint,',"
	                              " 'a bigint not null,') where name = 'later'", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(raw);
	db_close(db);
	open_db(true);
	assert_int_equal(complaints(true), 1);
	assert_int_equal(complaints(false), 1);
}

static int64_t raw_i64(sqlite3 *raw, const char *sql)
{
	sqlite3_stmt *s;
	assert_int_equal(sqlite3_prepare_v2(raw, sql, -1, &s, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(s), SQLITE_ROW);
	int64_t n = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return n;
}

/* The log is written once more as a database is opened. None of that is left to be written over what is committed later. */
static void test_log_of_before(void **state)
{
	(void)state;
	if (pg)
		skip();
	sqlite3 *before, *after;
	int pages = 0, copied = -1;
	db_close(db);
	assert_int_equal(sqlite3_open(url + 7, &before), SQLITE_OK);
	assert_int_equal(sqlite3_exec(before, "create table pages (n integer primary key, b blob);"
	                              "with recursive c (n) as (select 1 union all select n + 1 from c where n < 60)"
	                              " insert into pages select n, randomblob(3000) from c", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_wal_checkpoint_v2(before, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &copied), SQLITE_OK);
	assert_int_equal(copied, pages);
	open_db(true);
	assert_int_equal(sqlite3_wal_checkpoint_v2(before, NULL, SQLITE_CHECKPOINT_RESTART, &pages, &copied), SQLITE_OK);
	assert_int_equal(sqlite3_exec(before, "with recursive c (n) as (select 1 union all select n + 1 from c where n < 120)"
	                              " insert or replace into pages select n, zeroblob(3000) from c", NULL, NULL, NULL), SQLITE_OK);
	insert(1, 2);
	assert_int_equal(sqlite3_open(url + 7, &after), SQLITE_OK);
	assert_int_equal(raw_i64(after, "select count(*) from pages where b = zeroblob(3000)"), 120);
	sqlite3_close(after);
	sqlite3_close(before);
}

static int fill_and_fail_op(struct tx *tx, void *arg)
{
	(void)arg;
	assert_int_equal(tx_exec(tx, "update large set b = randomblob(3000)", DB_NO_ARGS, NULL), 0);
	assert_int_equal(tx_exec(tx, "update large set b = randomblob(3000) where n > 5000", DB_NO_ARGS, NULL), 0);
	return E_CONFLICT;
}

static int undone_op(struct tx *tx, void *arg)
{
	(void)arg;
	assert_int_equal(tx_exec(tx, "update large set b = randomblob(3000) where n < 10", DB_NO_ARGS, NULL), 0);
	assert_int_equal(tx_nested(tx, fill_and_fail_op, NULL), E_CONFLICT);
	return tx_exec(tx, "update large set b = randomblob(3000) where n > 9000", DB_NO_ARGS, NULL);
}

/* What more than fills the cache and is undone to a savepoint takes nothing from the commits behind it, when the log is read anew. */
static void test_large_undone(void **state)
{
	(void)state;
	if (pg)
		skip();
	char command[900];
	sqlite3 *reader, *after;
	assert_int_equal(db_write(db, 0, drop_op, "create table large (n integer primary key, b blob)"), 0);
	assert_int_equal(db_write(db, 0, drop_op, "with recursive c (n) as (select 1 union all select n + 1 from c where n < 10000)"
	                          " insert into large select n, randomblob(3000) from c"), 0);
	/* No checkpoint goes beyond what somebody reads. */
	assert_int_equal(sqlite3_open(url + 7, &reader), SQLITE_OK);
	assert_int_equal(sqlite3_exec(reader, "begin", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(raw_i64(reader, "select count(*) from large"), 10000);
	assert_int_equal(db_write(db, 0, undone_op, NULL), 0);
	insert(1, 1);
	insert(1, 2);
	snprintf(command, sizeof command, "cp %s %s/after.db && cp %s-wal %s/after.db-wal", url + 7, dir, url + 7, dir);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof command, "%s/after.db", dir);
	assert_int_equal(sqlite3_open(command, &after), SQLITE_OK);
	assert_int_equal(raw_i64(after, "select count(*) from t"), 2);
	sqlite3_close(after);
	sqlite3_close(reader);
	unlink(command);
}

static int run_all(const char *name)
{
	const struct CMUnitTest tests[] = {
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	    CASE(test_values),
	    CASE(test_two_open),
	    CASE(test_reused_text),
	    CASE(test_errors),
	    CASE(test_nested),
	    CASE(test_groups),
	    CASE(test_two_nodes),
	    CASE(test_snapshot),
	    CASE(test_failing_read),
	    CASE(test_many),
	    cmocka_unit_test_setup_teardown(test_migrate, empty, teardown),
	    cmocka_unit_test_setup_teardown(test_migrate_together, empty, teardown),
	    CASE(test_inline),
	    cmocka_unit_test(test_open_fails),
	    CASE(test_notices),
	    CASE(test_reconnect),
	    CASE(test_verify),
	    CASE(test_log_of_before),
	    CASE(test_large_undone),
	    CASE(test_kill),
	};
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	snprintf(dir, sizeof dir, "/tmp/db-test-XXXXXX");
	must(mkdtemp(dir) != NULL);
	snprintf(url, sizeof url, "sqlite:%s/test.db", dir);
	int failed = run_all("sqlite");
	static const char *const ends[] = {"", "-wal", "-shm"};
	for (int i = 0; i < 3; i++) {
		char path[128];
		snprintf(path, sizeof path, "%s/test.db%s", dir, ends[i]);
		unlink(path);
	}
	rmdir(dir);
	const char *server = getenv("SCAIDRIVE_TEST_PG");
	if (server && *server) {
		pg = true;
		snprintf(url, sizeof url, "%s", server);
		failed += run_all("postgresql");
	}
	return failed;
}
