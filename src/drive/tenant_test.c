/* A tenant comes with its administrator and its share, or not at all. On both engines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "drive/drive_testing.h"
#include "drive/tenant.h"

static struct testing t;
static const char *pg;
static struct arena arena;
static struct ctx tool;

static int setup(void **state)
{
	(void)state;
	testing_open(&t, pg);
	arena_init(&arena);
	tool = testing_ctx(&t, &arena, &t.stranger);
	tool.who = NULL;
	tool.tenant_id = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	testing_close(&t);
	arena_fini(&arena);
	return 0;
}

static int64_t rows(void)
{
	return testing_i64(&t, "select (select count(*) from tenants) + (select count(*) from users) + (select count(*) from shares)"
	                       " + (select count(*) from nodes) + (select count(*) from changes)"
	                       " + (select count(*) from share_members)");
}

static int add(const char *name, const char *email, const char *share, struct tenant *tenant, struct user *admin)
{
	struct tenant_new in = {.name = str_c(name), .admin = {.email = str_c(email)}, .share_name = str_c(share)};
	ctx_clear(&tool);
	return tenant_add(&tool, &in, tenant, admin);
}

static void test_whole(void **state)
{
	(void)state;
	struct tenant tenant;
	struct user admin;
	struct principal who = {.scopes = SCOPE_ALL};
	int64_t before = rows();
	assert_int_equal(add("new", "ada@new.example", "Files", &tenant, &admin), 0);
	assert_int_equal(rows(), before + 6);
	assert_int_equal(principal_load(&tool, tenant.id, admin.id, &who), 0);
	assert_int_equal(who.admin, ADMIN_TENANT);
	struct ctx ada = testing_ctx(&t, &arena, &who);
	struct share_list shares;
	assert_int_equal(drive_share_list(&ada, &(struct share_list_in){.mine = true}, &shares), 0);
	assert_int_equal(shares.total, 1);
	assert_true(str_eq(shares.items[0].name, STR("Files")));
	struct node folder;
	assert_int_equal(testing_folder(&ada, shares.items[0].id, 0, "a", &folder), 0);
	assert_int_equal(add("new", "eve@new.example", "Files", &tenant, &admin), E_CONFLICT);
}

static void test_nothing(void **state)
{
	(void)state;
	struct tenant tenant;
	struct user admin;
	int64_t before = rows();
	assert_int_equal(add("new", "ada@new.example", "a/b", &tenant, &admin), E_INVALID);
	assert_int_equal(add("new", "nobody", "Files", &tenant, &admin), E_INVALID);
	assert_int_equal(add("n/w", "ada@new.example", "Files", &tenant, &admin), E_INVALID);
	assert_int_equal(rows(), before);
	assert_int_equal(add("new", "ada@new.example", "Files", &tenant, &admin), 0);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static int run_all(const char *name)
{
	const struct CMUnitTest tests[] = {CASE(test_whole), CASE(test_nothing)};
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	int failed = run_all("tenant on sqlite");
	pg = getenv("SCAIDRIVE_TEST_PG");
	if (pg && *pg)
		failed += run_all("tenant on postgresql");
	return failed;
}
