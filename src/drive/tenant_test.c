/* A tenant comes with its administrator and its share, or not at all. On both engines. */
#include "drive/cast_testing.h"
#include "drive/tenant.h"

/* The command line's context: nobody's, and of no tenant. */
static struct ctx tool(void)
{
	struct ctx ctx = eve;
	ctx.who = NULL;
	ctx.tenant_id = 0;
	return ctx;
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
	struct ctx ctx = tool();
	return tenant_add(&ctx, &in, tenant, admin);
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
	struct ctx ctx = tool();
	assert_int_equal(principal_load(&ctx, tenant.id, admin.id, &who), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_whole), CASE(test_nothing)};
	return RUN_ON_BOTH("tenant", tests);
}
