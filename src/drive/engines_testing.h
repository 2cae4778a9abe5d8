/* For tests of drive that hold on both engines. Static, so include it once a test program; its setup opens the database
 * that pg names:
 *
 *     const struct CMUnitTest tests[] = {CASE(test_one), CASE(test_two)};
 *     return RUN_ON_BOTH("tokens", tests);
 */
#ifndef SD_DRIVE_ENGINES_TESTING_H
#define SD_DRIVE_ENGINES_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *pg; /* URL of a database that the tests may empty; NULL: SQLite */

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
/* Runs them on SQLite, and on the PostgreSQL that SCAIDRIVE_TEST_PG names, if it names one; how many failed. */
#define RUN_ON_BOTH(name, tests) \
	run_on_both(name " on sqlite", name " on postgresql", tests, sizeof(tests) / sizeof *(tests))

static inline int run_on_both(const char *on_sqlite, const char *on_postgresql, const struct CMUnitTest *tests,
                              size_t n)
{
	int failed = _cmocka_run_group_tests(on_sqlite, tests, n, NULL, NULL);
	pg = getenv("SCAIDRIVE_TEST_PG");
	return failed + (pg && *pg ? _cmocka_run_group_tests(on_postgresql, tests, n, NULL, NULL) : 0);
}

#endif
