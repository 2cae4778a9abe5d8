/* Rounds of housekeeping against a clock that the test moves, on both engines. */
#include <stdatomic.h>

#include "base/limits.h"
#include "drive/cast_testing.h"
#include "drive/housekeeping.h"
#include "drive/version.h"

static struct job_result round_of(const struct job_run *how)
{
	struct job_result r;
	assert_int_equal(job_run(&t.drive, &job_housekeeping, how, &r), 0);
	return r;
}

static bool run(void)
{
	return round_of(&(struct job_run){0}).ran;
}

/* Rows of a kind that a round removes. */
static int64_t removes(enum housekeeping_kind kind)
{
	int64_t before = housekeeping_removed(kind);
	assert_true(run());
	return housekeeping_removed(kind) - before;
}

static void later(int64_t s)
{
	t.clock.offset_us += SECONDS_US(s);
}

struct rows_of {
	const char *sql;
	int n;
	int64_t at;
};

static int insert_op(struct tx *tx, void *arg)
{
	struct rows_of *in = arg;
	int err = 0;
	for (int i = 0; !err && i < in->n; i++) {
		struct str key = arena_fmt(&arena, "key-%lld-%d", (long long)in->at, i);
		err = tx_exec(tx, in->sql, DB_ARGS(V_T(key), V_B(key), V_I(in->at)), NULL);
	}
	return err;
}

static void insert(const char *sql, int n, int64_t at)
{
	struct rows_of in = {sql, n, at};
	assert_int_equal(db_write(t.db, 0, insert_op, &in), 0);
}

static const char op[] =
    "insert into op_results (device, op_id, err, status, change_type, resource_kind, resource_id, version_id, version,"
    " parent_id, conflict_id, seq, detail, created_at)"
    " select 1, $1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, null, $3 where length($2) > 0";
static const char key[] =
    "insert into idempotency (user_id, key, operation, request_hash, resource_kind, resource_id, created_at)"
    " values (1, $1, 'x', $2, 1, 1, $3)";
static const char login[] =
    "insert into login_attempts (key, attempts, window_end) select $2, 1, $3 where $1 <> ''";

static void test_stages(void **state)
{
	(void)state;
	struct node f;
	struct version_result r;
	assert_int_equal(testing_file(&t, &bob, share, 0, "f", STR("one"), &f), 0);
	struct content *content = testing_content(&t, t.tenant_id, STR("staged"));
	struct version_put in = {.replace_file_id = f.id, .staged = true, .content = content};
	assert_int_equal(drive_file_put(&bob, &in, &r), 0);
	content_free(content);
	assert_int_equal(testing_i64(&t, "select sum(used_bytes) from shares"), 9);
	assert_int_equal(removes(HOUSEKEEPING_STAGES), 0);
	later(24 * 3600 + 1);
	assert_int_equal(removes(HOUSEKEEPING_STAGES), 1);
	assert_int_equal(testing_i64(&t, "select sum(used_bytes) from shares"), 3);
	assert_int_equal(testing_i64(&t, "select count(*) from versions"), 1);
}

static void told_of(void *arg, struct str what, int64_t bytes)
{
	(void)what, (void)bytes;
	++*(int *)arg;
}

static void test_ages(void **state)
{
	(void)state;
	int64_t now = clock_now(&t.clock.clock), old = now - MILLIS_US(LIMIT_OP_RESULT_MS) - SECONDS_US(5);
	insert(op, HOUSEKEEPING_STEP_ROWS + 20, old);
	insert(op, 3, now);
	insert(key, 7, old);
	insert(key, 2, now);
	insert(login, 4, now - 1);
	insert(login, 1, now + SECONDS_US(600));
	enum { OLD = HOUSEKEEPING_STEP_ROWS + 20 + 7 + 4 };
	int told = 0;
	struct job_result r = round_of(&(struct job_run){.dry = true, .tell = told_of, .tell_arg = &told});
	assert_int_equal(r.items, OLD);
	assert_int_equal(told, 3);
	assert_int_equal(testing_i64(&t, "select count(*) from idempotency"), 9);
	r = round_of(&(struct job_run){0});
	assert_true(r.ran);
	assert_int_equal(r.items, OLD);
	assert_int_equal(testing_i64(&t, "select count(*) from op_results"), 3);
	assert_int_equal(testing_i64(&t, "select count(*) from idempotency"), 2);
	assert_int_equal(testing_i64(&t, "select count(*) from login_attempts"), 1);
}

/* More results than one round looks at: it goes on where it stopped, and begins again at the end. */
static void test_walk(void **state)
{
	(void)state;
	enum { MANY = HOUSEKEEPING_WALK_ROWS * HOUSEKEEPING_WALK_STEPS };
	int64_t now = clock_now(&t.clock.clock), old = now - MILLIS_US(LIMIT_OP_RESULT_MS) - SECONDS_US(5);
	insert(op, MANY, now); /* "key-NOW-...": behind the old ones */
	insert(op, 3, old);
	assert_int_equal(removes(HOUSEKEEPING_OPS), 3);
	assert_int_equal(testing_i64(&t, "select count(*) from jobs where state <> ''"), 1);
	insert(op, 5, old); /* passed already */
	later(HOUSEKEEPING_PERIOD_S + 1);
	assert_int_equal(removes(HOUSEKEEPING_OPS), 0);
	assert_int_equal(testing_i64(&t, "select count(*) from jobs where state <> ''"), 0);
	later(HOUSEKEEPING_PERIOD_S + 1);
	assert_int_equal(removes(HOUSEKEEPING_OPS), 5);
	assert_int_equal(testing_i64(&t, "select count(*) from op_results"), MANY);
}

static void test_stop(void **state)
{
	(void)state;
	static const _Atomic bool stop = true;
	insert(login, 4, 1);
	struct job_result r = round_of(&(struct job_run){.stop = &stop});
	assert_true(r.ran && r.more);
	assert_int_equal(testing_i64(&t, "select count(*) from login_attempts"), 4);
	later(HOUSEKEEPING_PERIOD_S + 1);
	assert_int_equal(removes(HOUSEKEEPING_LOGINS), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_stages), CASE(test_ages), CASE(test_walk), CASE(test_stop)};
	return RUN_ON_BOTH("housekeeping", tests);
}
