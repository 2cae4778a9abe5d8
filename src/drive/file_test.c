/* Files by content: through the runs of the index, and after the migration that made them. */
#include "drive/sync_testing.h"

#include "base/must.h"

enum { BEFORE_RUNS = 11 };

static struct world *w;
static const char content[] = "the same bytes";

static int setup(void **state)
{
	(void)state;
	w = world_new();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

static void sql(struct db *db, struct str text)
{
	assert_int_equal(db_write(db, 0, world_sql, (void *)text.p), 0);
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

static int64_t count(struct db *db, const char *text)
{
	struct count c = {.sql = text};
	assert_int_equal(db_read(db, count_op, &c), 0);
	return c.n;
}

static int64_t made_at(const char *name, const char *bytes, int64_t seq)
{
	struct node n = world_file(w, &w->ann, 0, name, bytes);
	sql(w->db, arena_fmt(&w->arena, "update nodes set change_seq = %lld where id = %lld", (long long)seq, (long long)n.id));
	return n.id;
}

/* Whoever has the content is found, in order, wherever in the log it was last changed. */
static void test_runs(void **state)
{
	(void)state;
	static const int64_t at[] = {1 << 20, 0, 4095, 4096, 4097, 5 << 12, INT64_C(1) << 52};
	enum { N = sizeof at / sizeof *at };
	int64_t ids[N];
	struct sha256 hash = sha256_of(content, strlen(content)), none = sha256_of("", 0);
	struct node *found;
	size_t n;
	world_ok(&w->ann.ctx, drive_file_find(&w->ann.ctx, w->share_id, &hash, &found, &n));
	assert_int_equal(n, 0);
	for (int i = 0; i < N; i++) {
		char name[] = {(char)('a' + i), 0}, other[] = {(char)('A' + i), '2', 0};
		ids[i] = made_at(name, content, at[i]);
		made_at(other, other, at[i] + 1);
	}
	world_ok(&w->ann.ctx, drive_file_find(&w->ann.ctx, w->share_id, &hash, &found, &n));
	assert_int_equal(n, N);
	for (int i = 0; i < N; i++)
		assert_int_equal(found[i].id, ids[i]);
	sql(w->db, arena_fmt(&w->arena, "update nodes set deleted_at = 1, trash_key = id where id = %lld", (long long)ids[3]));
	world_edit(w, &w->ann, ids[1], 0, false, "no longer");
	world_ok(&w->ann.ctx, drive_file_find(&w->ann.ctx, w->share_id, &hash, &found, &n));
	assert_int_equal(n, N - 2);
	world_ok(&w->ann.ctx, drive_file_find(&w->ann.ctx, w->share_id, &none, &found, &n));
	assert_int_equal(n, 0);
}

/* A database of the schema before, with files in it. */
static void test_migrated(void **state)
{
	(void)state;
	struct db *db = w->db;
	char *why = NULL;
	if (pg) {
		sql(db, STR("drop schema public cascade"));
		sql(db, STR("create schema public"));
	} else {
		struct str url = arena_fmt(&w->arena, "sqlite:%s/before", w->dir);
		assert_int_equal(db_open(&(struct db_config){.url = url.p, .inline_writes = true}, &db, &why), 0);
	}
	assert_int_equal(db_migrate(db, schema_migrations, BEFORE_RUNS, &why), 0);
	for (int i = 1; i <= 3; i++)
		sql(db, arena_fmt(&w->arena,
		                  "insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, sha256, owner_id,"
		                  " created_by, created_at, modified_by, modified_at, change_seq)"
		                  " values (%d, 1, 7, 1, 2, '%d', '%d', cast('%s' as bytea), 1, 1, 1, 1, 1, %d)",
		                  i, i, i, i < 3 ? "12345678901234567890123456789012" : "2", i << 12));
	assert_int_equal(db_migrate(db, schema_migrations, schema_n_migrations, &why), 0);
	assert_int_equal(count(db, "select count(*) from nodes"), 3);
	assert_int_equal(count(db, "select id from nodes where share_id = 7 and (change_seq >> 12) = 2 and sha256 ="
	                           " (select sha256 from nodes where id = 1)"), 2);
	assert_int_equal(
	    count(db,
	          pg ? "select count(*) from pg_indexes where indexname = 'nodes_sha256' and indexdef like '%>> 12%'"
	             : "select count(*) from sqlite_master where name = 'nodes_sha256' and sql like '%>> 12%'"),
	    1);
	if (db != w->db)
		db_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_runs),
	    CASE(test_migrated),
	};
	return RUN_ON_BOTH("file", tests);
}
