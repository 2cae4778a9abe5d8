/* What the members of one write group do for each other: what comes before the commit, and what one leaves to the next. On SQLite and,
 * when SCAIDRIVE_TEST_PG holds a URL, on PostgreSQL. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/must.h"
#include "db/db.h"

static char url[300];
static struct db *db;

static int sql_op(struct tx *tx, void *arg)
{
	return tx_exec(tx, arg, DB_NO_ARGS, NULL);
}

static int setup(void **state)
{
	static const char *const sql[] = {"drop table if exists grouped", "create table grouped (id bigint primary key)"};
	(void)state;
	struct db_config config = {.url = url};
	assert_int_equal(db_open(&config, &db, NULL), 0);
	for (size_t i = 0; i < sizeof sql / sizeof *sql; i++)
		assert_int_equal(db_write(db, 0, sql_op, (void *)sql[i]), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	db_close(db);
	return 0;
}

static int insert_op(struct tx *tx, void *arg)
{
	return tx_exec(tx, "insert into grouped (id) values ($1)", DB_ARGS(V_I(*(int64_t *)arg)), NULL);
}

static int count_op(struct tx *tx, void *arg)
{
	return tx_i64(tx, "select count(*) from grouped", DB_NO_ARGS, -1, arg);
}

static int64_t count(void)
{
	int64_t n;
	assert_int_equal(db_read(db, count_op, &n), 0);
	return n;
}

static void wait_for(sem_t *s)
{
	while (sem_wait(s) != 0)
		assert_int_equal(errno, EINTR);
}

/* What comes before: once a caller; its fault spares the op. */
static int before_counts(void *arg)
{
	return ++*(int *)arg == 2 ? E_IO : 0;
}

struct begun {
	struct db_write w;
	int64_t id;
	sem_t *done;
	pthread_t by;
};

static void begun_done(void *arg)
{
	struct begun *b = arg;
	b->by = pthread_self();
	sem_post(b->done);
}

static void test_begun(void **state)
{
	(void)state;
	enum { N = 40 };
	static const int64_t ids[] = {1, 2, 2};
	struct begun b[N];
	int calls = 0, taken = 0;
	sem_t done;
	assert_int_equal(sem_init(&done, 0, 0), 0);
	for (int i = 0; i < N; i++) {
		b[i] = (struct begun){.id = i < 3 ? ids[i] : i / 2 * 2, .done = &done};
		b[i].w = (struct db_write){.tenant_id = 1, .op = insert_op, .arg = &b[i].id, .done = begun_done, .done_arg = &b[i]};
		if (i < 3) {
			b[i].w.before = before_counts;
			b[i].w.before_arg = &calls;
		}
		db_write_begin(db, &b[i].w);
	}
	for (int i = 0; i < N; i++)
		wait_for(&done);
	assert_int_equal(calls, 3);
	assert_int_equal(b[0].w.err, 0);
	assert_int_equal(b[1].w.err, E_IO);
	assert_int_equal(b[2].w.err, 0);
	for (int i = 3; i < N; i++)
		taken += b[i].w.err == E_CONFLICT;
	assert_int_equal(taken, 19); /* 3 and 2 bear an id that is there, and so does each odd one */
	assert_int_equal(count(), N - 1 - taken);
	assert_false(pthread_equal(b[N - 1].by, pthread_self()));
	sem_destroy(&done);
}

struct slow_before {
	struct begun b;
	int64_t seen;
	int err;
};

static int before_looks(void *arg)
{
	struct slow_before *s = arg;
	usleep(30000);
	return db_read(db, count_op, &s->seen) ? E_DB : s->err;
}

/* It is over before anything is committed, and what it fails is as if it had not been, alone too. */
static void test_before_commit(void **state)
{
	(void)state;
	sem_t done;
	assert_int_equal(sem_init(&done, 0, 0), 0);
	for (int i = 0; i < 4; i++) {
		struct slow_before s = {.b = {.id = i + 1, .done = &done}, .seen = -1, .err = i % 2 ? E_IO : 0};
		s.b.w = (struct db_write){.tenant_id = 1, .before = before_looks, .before_arg = &s, .op = insert_op, .arg = &s.b.id,
		                          .done = begun_done, .done_arg = &s.b};
		db_write_begin(db, &s.b.w);
		wait_for(&done);
		assert_int_equal(s.b.w.err, s.err);
		assert_int_equal(s.seen, (i + 1) / 2);
		assert_int_equal(count(), i / 2 + 1);
	}
	sem_destroy(&done);
}

/* ---- what one leaves to the next ---- */

enum step_kind { LEAVES, OTHER, FAILS_ONCE };

struct step {
	struct db_write w;
	struct group *group;
	enum step_kind kind;
	int64_t id, finish_id; /* rows that its op and its finish insert */
};

struct group {
	sem_t go, done;
	char told[200];
	size_t n;
};

static void tell(struct group *g, char what, int64_t id)
{
	g->n += (size_t)snprintf(g->told + g->n, sizeof g->told - g->n, "%c%d ", what, (int)id);
}

static int finish_op(struct tx *tx, void *arg)
{
	struct step *s = arg;
	tell(s->group, 'f', s->id);
	return s->finish_id ? insert_op(tx, &s->finish_id) : 0;
}

static int step_op(struct tx *tx, void *arg)
{
	struct step *s = arg, *left = tx_left(tx);
	tell(s->group, tx_is_daring(tx) ? 'd' : 'c', s->id);
	if (left)
		tell(s->group, '<', left->id);
	if (s->kind == FAILS_ONCE && tx_is_daring(tx))
		return E_CONFLICT;
	int err = insert_op(tx, &s->id);
	if (!err && s->kind == LEAVES && tx_is_daring(tx))
		tx_leave(tx, finish_op, s);
	return err;
}

static int stand_still(void *arg)
{
	wait_for(arg);
	return 0;
}

static int nothing(struct tx *tx, void *arg)
{
	(void)tx, (void)arg;
	return 0;
}

static void step_done(void *arg)
{
	sem_post(&((struct group *)arg)->done);
}

/* Runs the steps as one group; what was called is in g->told. */
static void together(struct group *g, struct step *steps, size_t n)
{
	*g = (struct group){.n = 0};
	sem_init(&g->go, 0, 0);
	sem_init(&g->done, 0, 0);
	struct db_write hold = {.tenant_id = 1, .before = stand_still, .before_arg = &g->go, .op = nothing, .done = step_done, .done_arg = g};
	db_write_begin(db, &hold);
	usleep(5000);
	for (size_t i = 0; i < n; i++) {
		struct step *s = &steps[i];
		s->group = g;
		s->id = (int64_t)i + 1;
		s->w = (struct db_write){.tenant_id = 1, .op = step_op, .arg = s, .done = step_done, .done_arg = g, .goes_on = s->kind == LEAVES};
		db_write_begin(db, &s->w);
	}
	sem_post(&g->go);
	for (size_t i = 0; i <= n; i++)
		wait_for(&g->done);
	sem_destroy(&g->go);
	sem_destroy(&g->done);
}

/* It is finished once: before the commit, or before an op that does not go on. */
static void test_left(void **state)
{
	(void)state;
	struct group g;
	struct step s[] = {{.kind = LEAVES}, {.kind = LEAVES, .finish_id = 20}, {.kind = OTHER}, {.kind = LEAVES}, {.kind = LEAVES, .finish_id = 21}};
	together(&g, s, 5);
	assert_string_equal(g.told, "d1 d2 <1 f2 d3 d4 d5 <4 f5 ");
	for (int i = 0; i < 5; i++)
		assert_int_equal(s[i].w.err, 0);
	assert_int_equal(count(), 7);
}

/* What fails at the end gives up the attempt, and each is run again for itself. */
static void test_left_fails(void **state)
{
	(void)state;
	struct group g;
	struct step s[] = {{.kind = LEAVES}, {.kind = LEAVES, .finish_id = 1}};
	together(&g, s, 2);
	assert_string_equal(g.told, "d1 d2 <1 f2 c1 c2 ");
	assert_int_equal(s[0].w.err, 0);
	assert_int_equal(s[1].w.err, 0);
	assert_int_equal(count(), 2);
}

/* So does a member that fails: what others left is not finished. */
static void test_left_behind(void **state)
{
	(void)state;
	struct group g;
	struct step s[] = {{.kind = LEAVES, .finish_id = 20}, {.kind = FAILS_ONCE}};
	together(&g, s, 2);
	assert_string_equal(g.told, "d1 f1 d2 c1 c2 ");
	assert_int_equal(count(), 2);
}

static int run_all(const char *name)
{
	const struct CMUnitTest tests[] = {
#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	    CASE(test_begun), CASE(test_before_commit), CASE(test_left), CASE(test_left_fails), CASE(test_left_behind),
	};
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	char dir[] = "/tmp/db-test-XXXXXX", path[128];
	static const char *const ends[] = {"", "-wal", "-shm"};
	must(mkdtemp(dir) != NULL);
	snprintf(url, sizeof url, "sqlite:%s/test.db", dir);
	int failed = run_all("groups on sqlite");
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/test.db%s", dir, ends[i]);
		unlink(path);
	}
	rmdir(dir);
	const char *server = getenv("SCAIDRIVE_TEST_PG");
	if (server && *server) {
		snprintf(url, sizeof url, "%s", server);
		failed += run_all("groups on postgresql");
	}
	return failed;
}
