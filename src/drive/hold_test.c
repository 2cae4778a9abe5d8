#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/must.h"
#include "drive/drive_testing.h"
#include "drive/hold.h"

static struct testing t;

static int until_op(struct tx *tx, void *arg)
{
	return hold_until(tx, clock_now(&t.clock.clock), arg);
}

static int64_t until(void)
{
	int64_t us;
	must(db_read(t.db, until_op, &us) == 0);
	return us;
}

/* The longest counts; one ends by itself. */
static void test_hold(void **state)
{
	(void)state;
	testing_open(&t, getenv("SCAIDRIVE_TEST_PG"));
	int64_t now = clock_now(&t.clock.clock);
	assert_int_equal(until(), 0);
	assert_int_equal(hold_take(t.db, &t.clock.clock, STR("backup"), 5000), 0);
	assert_int_equal(hold_take(t.db, &t.clock.clock, STR("export"), 90000), 0);
	assert_in_range(until(), now + MILLIS_US(89000), now + MILLIS_US(95000));
	assert_int_equal(hold_drop(t.db, STR("export")), 0);
	assert_in_range(until(), now, now + MILLIS_US(10000));
	assert_int_equal(hold_take(t.db, &t.clock.clock, STR("backup"), 50000), 0);
	assert_in_range(until(), now + MILLIS_US(45000), now + MILLIS_US(55000));
	t.clock.offset_us += SECONDS_US(60);
	assert_int_equal(until(), 0);
	testing_close(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_hold)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
