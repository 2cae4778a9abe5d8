/* Ages by a clock that jumps. What the trash does with files is tested from outside (tests/api/test_client_safety.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/time.h"
#include "client/trash.h"

#define HOUR SECONDS_US(3600)

static void jumps(void **state)
{
	int64_t seen = 0, now = SECONDS_US(1795000000);
	(void)state;
	assert_false(trash_age_doubtful(&seen, now));
	assert_false(trash_age_doubtful(&seen, now += HOUR));
	assert_true(trash_age_doubtful(&seen, now + 9000 * HOUR)); /* a year ahead */
	assert_false(trash_age_doubtful(&seen, now += HOUR));      /* set right again */
	assert_false(trash_age_doubtful(&seen, now += HOUR));
	assert_true(trash_age_doubtful(&seen, now += 300 * HOUR)); /* the device was off */
	assert_false(trash_age_doubtful(&seen, now += HOUR));
	assert_true(trash_age_doubtful(&seen, now += 170 * HOUR)); /* or syncs once a week */
	assert_false(trash_age_doubtful(&seen, now += 170 * HOUR));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(jumps)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
