/* Shares, members, roles, who sees what. Both engines. */
#include "drive/cast_testing.h"
#include "drive/tail.h"
#include "drive/user.h"

static struct rid user(int i)
{
	return (struct rid){ID_USER, t.users[i].user_id};
}

static int add(struct ctx *ctx, struct rid who, enum role role)
{
	struct member m;
	struct member_add in = {.share_id = share, .principal = who, .role = role};
	ctx_clear(ctx);
	return drive_member_add(ctx, &in, &m);
}

static int set_role(struct ctx *ctx, struct rid who, enum role role)
{
	struct member m;
	struct member_patch in = {.share_id = share, .principal = who, .role = role};
	ctx_clear(ctx);
	return drive_member_patch(ctx, &in, &m);
}

static int new_folder(struct ctx *ctx, const char *name)
{
	struct node n;
	ctx_clear(ctx);
	return testing_folder(ctx, share, 0, name, &n);
}

static void test_create(void **state)
{
	(void)state;
	struct share s;
	struct share_create in = {.name = STR("X"), .share_type = STR("weird")};
	assert_int_equal(drive_share_create(&bob, &in, &s), E_INVALID);
	in.share_type = STR("central");
	in.owner = user(2);
	assert_int_equal(drive_share_create(&bob, &in, &s), E_FORBIDDEN);
	ctx_clear(&bob);
	in.owner = (struct rid){ID_USER, t.stranger.user_id};
	assert_int_equal(drive_share_create(&ada, &in, &s), E_NOT_FOUND);
	in.owner = (struct rid){ID_GROUP, t.group_id};
	assert_int_equal(drive_share_create(&dan, &in, &s), 0);
	assert_int_equal(s.role, ROLE_OWNER);
	assert_int_equal(s.owner.kind, ID_GROUP);
	assert_int_equal(s.rights, RIGHT_ALL | RIGHT_OWNER);
	assert_int_equal(drive_share_get(&bob, s.id, &s), E_NOT_FOUND);
	assert_int_equal(drive_share_get(&eve, share, &s), E_NOT_FOUND);
}

static void test_roles(void **state)
{
	(void)state;
	struct share s;
	assert_int_equal(new_folder(&cleo, "a"), E_NOT_FOUND);
	assert_int_equal(add(&bob, user(2), ROLE_READER), 0);
	assert_int_equal(add(&bob, user(2), ROLE_READER), E_CONFLICT);
	assert_int_equal(add(&bob, (struct rid){ID_USER, t.stranger.user_id}, ROLE_READER), E_NOT_FOUND);
	assert_int_equal(new_folder(&cleo, "a"), E_FORBIDDEN);
	assert_non_null(strstr(cleo.detail.p, "CREATE"));
	assert_int_equal(set_role(&bob, user(2), ROLE_CONTRIBUTOR), 0);
	assert_int_equal(new_folder(&cleo, "a"), 0);
	assert_int_equal(add(&cleo, user(3), ROLE_READER), E_FORBIDDEN);
	assert_int_equal(set_role(&bob, user(2), ROLE_ADMIN), 0);
	assert_int_equal(add(&cleo, (struct rid){ID_GROUP, t.group_id}, ROLE_OWNER), E_FORBIDDEN); /* more than her own */
	assert_int_equal(add(&cleo, (struct rid){ID_GROUP, t.group_id}, ROLE_CONTRIBUTOR), 0);
	assert_int_equal(new_folder(&dan, "b"), 0); /* by the group */
	assert_int_equal(set_role(&cleo, user(1), ROLE_READER), E_FORBIDDEN);
	assert_int_equal(drive_member_remove(&cleo, share, user(1)), E_FORBIDDEN);
	ctx_clear(&cleo);
	assert_int_equal(drive_share_delete(&cleo, share), E_FORBIDDEN);
	ctx_clear(&cleo);
	struct share_patch patch = {.id = share, .name = STR("Renamed")};
	assert_int_equal(drive_share_patch(&cleo, &patch, &s), 0);
	assert_str(s.name, "Renamed");
	assert_int_equal(drive_share_patch(&dan, &patch, &s), E_FORBIDDEN);
	struct member_list list;
	assert_int_equal(drive_member_list(&dan, share, 0, 0, &list), 0);
	assert_int_equal(list.total, 3);
	assert_str(list.items[2].name, "crew");
}

static void test_last_owner(void **state)
{
	(void)state;
	struct share s;
	assert_int_equal(set_role(&bob, user(1), ROLE_ADMIN), E_CONFLICT);
	assert_int_equal(drive_member_remove(&bob, share, user(1)), E_CONFLICT);
	ctx_clear(&bob);
	assert_int_equal(drive_member_remove(&ada, share, user(1)), E_CONFLICT);
	ctx_clear(&ada);
	assert_int_equal(add(&bob, user(2), ROLE_OWNER), 0);
	assert_int_equal(drive_member_remove(&bob, share, user(1)), 0); /* one may leave */
	assert_int_equal(drive_share_get(&bob, share, &s), E_NOT_FOUND);
	assert_int_equal(drive_share_get(&cleo, share, &s), 0);
	assert_int_equal(s.owner.n, t.users[2].user_id);
}

static void test_delete(void **state)
{
	(void)state;
	struct share s;
	struct share_list list;
	struct share_list_in in = {0};
	assert_int_equal(drive_share_delete(&bob, share), 0);
	assert_int_equal(drive_share_get(&bob, share, &s), E_GONE);
	assert_int_equal(drive_share_get(&cleo, share, &s), E_NOT_FOUND);
	assert_int_equal(new_folder(&bob, "a"), E_GONE);
	assert_int_equal(drive_share_list(&bob, &in, &list), 0);
	assert_int_equal(list.total, 0);
	in.include_trashed = true;
	assert_int_equal(drive_share_list(&bob, &in, &list), 0);
	assert_int_equal(list.total, 1);
	struct share_patch patch = {.id = share, .restore = true};
	ctx_clear(&bob);
	assert_int_equal(drive_share_patch(&bob, &patch, &s), 0);
	assert_int_equal(s.deleted_at, 0);
	assert_int_equal(new_folder(&bob, "a"), 0);
}

static void test_lists(void **state)
{
	(void)state;
	struct share_list list;
	struct share_list_in in = {.limit = 2};
	for (int i = 0; i < 3; i++)
		testing_share(&cleo, "Hers");
	assert_int_equal(add(&bob, user(2), ROLE_READER), 0);
	assert_int_equal(drive_share_list(&cleo, &in, &list), 0);
	assert_int_equal(list.total, 4);
	assert_int_equal(list.n, 2);
	assert_int_equal(list.items[0].id, share);
	assert_int_equal(list.items[0].role, ROLE_READER);
	assert_int_equal(list.items[0].rights, RIGHT_READ);
	in.offset = 3;
	assert_int_equal(drive_share_list(&cleo, &in, &list), 0);
	assert_int_equal(list.n, 1);
	assert_int_equal(drive_share_list(&ada, &in, &list), 0);
	assert_int_equal(list.total, 4);
	in.mine = true;
	assert_int_equal(drive_share_list(&ada, &in, &list), 0);
	assert_int_equal(list.total, 0);
	assert_int_equal(drive_share_list(&eve, &(struct share_list_in){0}, &list), 0);
	assert_int_equal(list.total, 0);
}

static void test_scopes(void **state)
{
	(void)state;
	t.users[1].scopes = SCOPE_FILES_READ;
	struct share s;
	assert_int_equal(drive_share_get(&bob, share, &s), 0);
	assert_int_equal(new_folder(&bob, "a"), E_FORBIDDEN);
	t.users[1].scopes = 0;
	assert_int_equal(drive_share_get(&bob, share, &s), E_NOT_FOUND);
	t.users[1].scopes = SCOPE_FILES_READ | SCOPE_FILES_WRITE;
	/* Leaving is a write too, though it takes no right in the share. */
	assert_int_equal(add(&bob, user(2), ROLE_READER), 0);
	t.users[2].scopes = SCOPE_FILES_READ;
	assert_int_equal(drive_member_remove(&cleo, share, user(2)), E_FORBIDDEN);
	t.users[2].scopes = SCOPE_FILES_READ | SCOPE_FILES_WRITE;
	assert_int_equal(drive_member_remove(&cleo, share, user(2)), 0);
}

static void test_expiry(void **state)
{
	(void)state;
	struct share s;
	struct member m;
	struct member_add in = {.share_id = share, .principal = user(2), .role = ROLE_READER,
	                        .expires_at = clock_now(&t.clock.clock) + SECONDS_US(60)};
	assert_int_equal(drive_member_add(&bob, &in, &m), 0);
	assert_int_equal(drive_share_get(&cleo, share, &s), 0);
	t.clock.offset_us += SECONDS_US(61);
	assert_int_equal(drive_share_get(&cleo, share, &s), E_NOT_FOUND);
}

static void test_add_again(void **state)
{
	(void)state;
	struct member_add in = {.share_id = share, .principal = user(2), .role = ROLE_READER};
	struct member a, b;
	bob.idempotency_key = STR("add-1");
	assert_int_equal(drive_member_add(&bob, &in, &a), 0);
	int64_t head = testing_i64(&t, "select max(seq) from tenants");
	assert_int_equal(drive_member_add(&bob, &in, &b), 0); /* the reply was lost */
	assert_int_equal(b.role, ROLE_READER);
	assert_int_equal(testing_i64(&t, "select max(seq) from tenants"), head);
	in.role = ROLE_ADMIN;
	assert_int_equal(drive_member_add(&bob, &in, &b), E_IDEMPOTENCY);
	bob.idempotency_key = STR_NULL;
	in.role = ROLE_READER;
	assert_int_equal(drive_member_add(&bob, &in, &b), E_CONFLICT);
}

struct readable {
	struct principal *who;
	bool yes;
};

static int readable_op(struct dtx *tx, void *arg)
{
	struct readable *r = arg;
	return tail_readable(tx, r->who, share, &r->yes);
}

/* Who listens keeps the principal it came with; what it is told must not. */
static void test_suspended_listener(void **state)
{
	(void)state;
	struct readable r = {.who = &t.users[1]};
	struct user u = {.id = t.users[1].user_id, .tenant_id = t.tenant_id};
	assert_int_equal(drive_read(&ada, readable_op, &r), 0);
	assert_true(r.yes);
	assert_int_equal(user_set_status(&ada, &u, STR("suspended")), 0);
	assert_int_equal(drive_read(&ada, readable_op, &r), 0);
	assert_false(r.yes);
	assert_int_equal(user_set_status(&ada, &u, STR("active")), 0);
	assert_int_equal(drive_read(&ada, readable_op, &r), 0);
	assert_true(r.yes);
}

static int64_t told_share;
static struct rid told_who;

static void told(void *arg, int64_t tenant_id, int64_t share_id, struct rid who)
{
	(*(int *)arg)++;
	assert_int_equal(tenant_id, t.tenant_id);
	told_share = share_id;
	told_who = who;
}

static void test_access_listener(void **state)
{
	(void)state;
	int calls = 0;
	drive_listen_access(&t.drive, told, &calls);
	assert_int_equal(add(&bob, user(2), ROLE_READER), 0);
	assert_int_equal(calls, 1);
	assert_int_equal(told_share, share);
	assert_int_equal(told_who.n, t.users[2].user_id);
	assert_int_equal(drive_member_remove(&bob, share, user(2)), 0);
	assert_int_equal(calls, 2);
	assert_int_equal(add(&cleo, user(3), ROLE_READER), E_NOT_FOUND);
	assert_int_equal(calls, 2);
}

static void test_search(void **state)
{
	(void)state;
	struct principal_search r;
	struct principal_search_in in = {.query = STR("B"), .users = true, .groups = true};
	assert_int_equal(drive_principal_search(&bob, &in, &r), 0);
	assert_int_equal(r.n_users, 1);
	assert_str(r.users[0].name, "Bob Baker");
	in.query = STR("cr");
	assert_int_equal(drive_principal_search(&bob, &in, &r), 0);
	assert_int_equal(r.n_users, 0);
	assert_int_equal(r.n_groups, 1);
	in.query = STR("%");
	assert_int_equal(drive_principal_search(&bob, &in, &r), 0);
	assert_int_equal(r.n_users, 0);
	in.query = STR("dock");
	assert_int_equal(drive_principal_search(&eve, &in, &r), 0);
	assert_int_equal(r.n_users, 0);
	/* A name is found as it is written, whatever the engine folds. */
	testing_exec(&t, "update users set name = 'Ärmel Özil' where name = 'Cleo Carter'", DB_NO_ARGS);
	in.query = STR("Ärm");
	assert_int_equal(drive_principal_search(&bob, &in, &r), 0);
	assert_int_equal(r.n_users, 1);
	in.query = STR("Özil");
	assert_int_equal(drive_principal_search(&bob, &in, &r), 0);
	assert_int_equal(r.n_users, 1);
	in.query = STR("");
	assert_int_equal(drive_principal_search(&bob, &in, &r), E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_create),
	    CASE(test_roles),
	    CASE(test_last_owner),
	    CASE(test_delete),
	    CASE(test_lists),
	    CASE(test_scopes),
	    CASE(test_expiry),
	    CASE(test_access_listener),
	    CASE(test_search),
	    CASE(test_add_again),
	    CASE(test_suspended_listener),
	};
	return RUN_ON_BOTH("share", tests);
}
