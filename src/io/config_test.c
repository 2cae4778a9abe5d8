#include "io/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void ini_fails(const char *text, const char *expected)
{
	struct config c;
	char *why = NULL;
	config_init(&c);
	assert_int_equal(config_ini(&c, "a.ini", str_c(text), &why), E_USAGE);
	assert_non_null(why);
	if (!strstr(why, expected))
		fail_msg("\"%s\" is not in \"%s\"", expected, why);
	free(why);
	config_fini(&c);
}

static void test_defaults(void **state)
{
	(void)state;
	struct config c;
	config_init(&c);
	assert_string_equal(config_text(&c, CFG_LISTEN), "127.0.0.1:8000");
	assert_int_equal(config_int(&c, CFG_LIMITS_FILE_MAX_BYTES), INT64_C(5368709120));
	assert_false(config_bool(&c, CFG_COMPAT_DATA_MIRROR));
	config_fini(&c);
}

static void test_sources(void **state)
{
	(void)state;
	struct config c;
	char *why = NULL;
	config_init(&c);
	assert_int_equal(config_ini(&c, "a.ini", STR("listen = 0.0.0.0:1\n; no\n[compat]\ndata_mirror = yes\n\n[lanes]\nmeta=7"),
	                            &why), 0);
	assert_string_equal(config_text(&c, CFG_LISTEN), "0.0.0.0:1");
	assert_true(config_bool(&c, CFG_COMPAT_DATA_MIRROR));
	assert_int_equal(config_int(&c, CFG_LANES_META), 7);
	assert_int_equal(c.values[CFG_LANES_META].line, 7);
	char *env[] = {(char *)"SCAIDRIVE_LANES_META=8", (char *)"SCAIDRIVE_TOKEN=x", (char *)"HOME=/", NULL};
	assert_int_equal(config_env(&c, env, &why), 0);
	assert_int_equal(config_int(&c, CFG_LANES_META), 8);
	assert_int_equal(config_set(&c, "lanes.meta", "9", CONFIG_FROM_FLAG, &why), 0);
	assert_int_equal(config_int(&c, CFG_LANES_META), 9);
	assert_int_equal(c.values[CFG_LANES_META].source, CONFIG_FROM_FLAG);
	config_fini(&c);
}

static void test_faults(void **state)
{
	(void)state;
	ini_fails("listen = a:1\n[compat]\ndata_miror = true\n", "a.ini:3: there is no setting \"compat.data_miror\"");
	ini_fails("\n\n[lanes]\nmeta = many\n", "a.ini:4: lanes.meta must be a whole number of threads, not \"many\"");
	ini_fails("[lanes]\nmeta = 0\n", "a.ini:2: lanes.meta must be from 1 to 256 threads, not 0");
	ini_fails("[lanes]\nmeta = 99999999999999999999\n", "a.ini:2");
	ini_fails("[compat]\ndata_mirror = maybe\n", "a.ini:2: compat.data_mirror must be true or false");
	ini_fails("[log]\nlevel = loud\n", "a.ini:2: log.level is not valid: debug, info");
	ini_fails("[log]\nnonsense\n", "a.ini:2: neither");
	char *long_line = malloc(20001);
	memset(long_line, 'x', 20000);
	long_line[20000] = 0;
	ini_fails(long_line, "a.ini:1: the line is too long");
	free(long_line);
}

static void test_environment_slip(void **state)
{
	(void)state;
	struct config c;
	char *why = NULL;
	config_init(&c);
	char *env[] = {(char *)"SCAIDRIVE_COMPAT_DATA_MIROR=1", NULL};
	assert_int_equal(config_env(&c, env, &why), E_USAGE);
	assert_non_null(strstr(why, "SCAIDRIVE_COMPAT_DATA_MIROR"));
	free(why);
	config_fini(&c);
}

static void test_secrets_masked(void **state)
{
	(void)state;
	struct config c;
	struct buf b = {0};
	char *why = NULL;
	config_init(&c);
	assert_int_equal(config_set(&c, "database.url", "postgresql://u:hunter2@h/db", CONFIG_FROM_FLAG, &why), 0);
	assert_string_equal(config_text(&c, CFG_DATABASE_URL), "postgresql://u:hunter2@h/db");
	config_print(&c, &b);
	config_print_json(&c, &b);
	buf_char(&b, 0);
	assert_null(strstr(b.p, "hunter2"));
	assert_non_null(strstr(b.p, "database.url = ********"));
	assert_int_equal(config_set(&c, "database.url", "mysql://u:hunter2@h/db", CONFIG_FROM_FLAG, &why), E_USAGE);
	assert_null(strstr(why, "hunter2"));
	free(why);
	buf_fini(&b);
	config_fini(&c);
}

/* Lines longer than inih's own default of 200 bytes are whole. */
static void test_long_value(void **state)
{
	(void)state;
	struct config c;
	struct buf b = {0};
	char *why = NULL;
	config_init(&c);
	buf_lit(&b, "[database]\nurl = postgresql://");
	for (int i = 0; i < 500; i++)
		buf_char(&b, 'h');
	buf_lit(&b, "/db\n");
	assert_int_equal(config_ini(&c, "a.ini", buf_as_str(&b), &why), 0);
	assert_int_equal(strlen(config_text(&c, CFG_DATABASE_URL)), 516);
	buf_fini(&b);
	config_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),         cmocka_unit_test(test_sources),
	    cmocka_unit_test(test_faults),           cmocka_unit_test(test_environment_slip),
	    cmocka_unit_test(test_secrets_masked),   cmocka_unit_test(test_long_value),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
