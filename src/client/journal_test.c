/* The journal comes back as it was told, stays within its bound, and a cut line costs that line alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/journal.h"

static char dir[64], file[96], old[96];
static int64_t ids[200000];
static size_t n, cut;
static char last_path[64];

static int setup(void **s)
{
	(void)s;
	snprintf(dir, sizeof dir, "/tmp/scaidrive-journal-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/j", dir);
	snprintf(old, sizeof old, "%s/j.old", dir);
	n = 0;
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	unlink(file);
	unlink(old);
	return rmdir(dir);
}

static int note(void *arg, struct json_object *e)
{
	(void)arg;
	struct str path = json_str(e, "path");
	snprintf(last_path, sizeof last_path, "%.*s", STR_ARG(path));
	ids[n++] = json_i64(e, "id", 0);
	return 0;
}

static void tell(struct journal *j, int64_t id, const char *path)
{
	struct agent_event e = {.verb = "fetch", .case_no = 2, .path = str_c(path), .id = id, .kind = NODE_FILE, .why = STR("because")};
	journal_add(j, &e, id);
}

static void it_comes_back(void **s)
{
	(void)s;
	struct journal j;
	assert_int_equal(journal_read(file, note, NULL, &cut), 0);
	assert_int_equal(n, 0);
	journal_open(&j, file);
	tell(&j, 1, "a");
	tell(&j, 2, "with \"quotes\" and \xc3\xa4");
	journal_close(&j);
	FILE *f = fopen(file, "a");
	fputs("{\"op\":\"fet", f); /* a crash */
	fclose(f);
	assert_int_equal(journal_read(file, note, NULL, &cut), 0);
	assert_true(n == 2 && cut == 1);
	assert_int_equal(ids[1], 2);
	assert_string_equal(last_path, "with \"quotes\" and \xc3\xa4");
	journal_open(&j, file); /* the next process */
	tell(&j, 3, "b");
	journal_close(&j);
	n = 0;
	assert_int_equal(journal_read(file, note, NULL, &cut), 0);
	assert_true(n == 3 && cut == 1 && ids[2] == 3);
}

static void it_is_bounded(void **s)
{
	(void)s;
	struct journal j;
	struct stat a = {0}, b = {0};
	journal_open(&j, file);
	for (int64_t i = 1; i <= 190000; i++)
		tell(&j, i, "some/folder/and/a/file/name.txt");
	journal_close(&j);
	assert_int_equal(stat(file, &a) | stat(old, &b), 0);
	assert_true(a.st_size <= JOURNAL_BYTES + (128 << 10) && b.st_size <= JOURNAL_BYTES + (128 << 10));
	assert_int_equal(journal_read(file, note, NULL, &cut), 0);
	assert_true(n > 50000);
	assert_int_equal(ids[n - 1], 190000);
	for (size_t i = 1; i < n; i++)
		assert_int_equal(ids[i], ids[i - 1] + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(it_comes_back, setup, teardown),
	                                   cmocka_unit_test_setup_teardown(it_is_bounded, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
