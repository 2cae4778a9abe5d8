/* Tokens and the cache before them, on a database of their own and a clock that the test moves. */
#include "http/auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/id.h"
#include "db/db.h"
#include "drive/password.h"
#include "drive/schema.h"
#include "drive/tenant.h"

static int64_t now_us = SECONDS_US(1800000000);

static int64_t fake_now(const struct clock *c)
{
	(void)c;
	return now_us;
}

static const struct clock fake_clock = {fake_now, fake_now};

struct world {
	char dir[64];
	struct arena arena;
	struct ctx ctx;
	struct idgen ids;
	struct drive drive;
	struct tokens *tokens;
	struct authenticator *auth;
	struct tenant tenant;
	struct user user;
};

static struct world w;

static int setup(void **state)
{
	(void)state;
	char url[128];
	char *why = NULL;
	memset(&w, 0, sizeof w);
	snprintf(w.dir, sizeof w.dir, "/tmp/auth-test-XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	snprintf(url, sizeof url, "sqlite:%s/t.db", w.dir);
	arena_init(&w.arena);
	ctx_init(&w.ctx, &w.arena, &fake_clock, &rng_system);
	w.ctx.drive = &w.drive;
	idgen_init(&w.ids, &fake_clock, 0);
	w.drive = (struct drive){.ids = &w.ids, .clock = &fake_clock, .rng = &rng_system};
	assert_int_equal(db_open(&(struct db_config){.url = url, .inline_writes = true, .clock = &fake_clock}, &w.drive.db, &why), 0);
	assert_int_equal(db_migrate(w.drive.db, schema_migrations, schema_n_migrations, &why), 0);
	struct tokens_config c = {&w.drive, "us", 3600, {3, 900}};
	assert_int_equal(tokens_open(&w.ctx, &c, &w.tokens), 0);
	struct tenant_new t = {.name = STR("t"), .admin = {.email = STR("a@b.c"), .password = STR("long enough")},
	                       .share_name = STR_NULL};
	assert_int_equal(tenant_add(&w.ctx, &t, &w.tenant, &w.user), 0);
	w.auth = auth_new(w.tokens, 64);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	auth_free(w.auth);
	tokens_close(w.tokens);
	db_close(w.drive.db);
	arena_fini(&w.arena);
	snprintf(command, sizeof command, "rm -rf %s", w.dir);
	return system(command);
}

static struct str issue(int64_t ttl_s)
{
	struct token t;
	assert_int_equal(token_issue(&w.ctx, w.tokens, &(struct token_new){&w.user, STR_NULL, ttl_s, STR_NULL}, &t), 0);
	return t.text;
}

static int verify(struct str token)
{
	ctx_clear(&w.ctx);
	w.ctx.who = NULL;
	return w.auth->verify(w.auth, &w.ctx, token);
}

static struct auth_counts counts(void)
{
	struct auth_counts c;
	auth_counts(w.auth, &c);
	return c;
}

static void test_hit(void **state)
{
	(void)state;
	struct str token = issue(3600);
	assert_int_equal(verify(token), 0);
	assert_int_equal(w.ctx.who->user_id, w.user.id);
	assert_int_equal(w.ctx.tenant_id, w.tenant.id);
	assert_int_equal(w.ctx.who->admin, ADMIN_TENANT);
	assert_int_equal(w.ctx.who->scopes, SCOPE_FILES_READ | SCOPE_FILES_WRITE | SCOPE_TENANT_ADMIN);
	for (int i = 0; i < 5; i++)
		assert_int_equal(verify(token), 0);
	assert_true(str_eq(w.ctx.who->email, STR("a@b.c")));
	assert_int_equal(counts().verified, 1);
	assert_int_equal(counts().hits, 5);
	now_us += SECONDS_US(2);
	assert_int_equal(verify(token), 0);
	assert_int_equal(counts().refreshed, 1);
}

static void test_expiry(void **state)
{
	(void)state;
	struct str token = issue(100);
	assert_int_equal(verify(token), 0);
	now_us += SECONDS_US(159);
	assert_int_equal(verify(token), 0); /* within the leeway */
	now_us += SECONDS_US(2);
	assert_int_equal(verify(token), E_UNAUTHENTICATED); /* from the cache */
	assert_int_equal(verify(token), E_UNAUTHENTICATED); /* and not from it */
}

static void test_suspension_at_once(void **state)
{
	(void)state;
	struct str token = issue(3600);
	assert_int_equal(verify(token), 0);
	assert_int_equal(user_set_status(&w.ctx, &w.user, STR("suspended")), 0);
	assert_int_equal(verify(token), E_SUSPENDED); /* the clock did not move */
	assert_int_equal(verify(token), E_SUSPENDED);
	assert_int_equal(user_set_status(&w.ctx, &w.user, STR("active")), 0);
	assert_int_equal(verify(token), 0);
	assert_int_equal(user_set_status(&w.ctx, &w.user, STR("deleted")), 0);
	assert_int_equal(verify(token), E_UNAUTHENTICATED);
}

static void test_rotation(void **state)
{
	(void)state;
	struct str old = issue(3600), kid;
	assert_int_equal(verify(old), 0);
	assert_int_equal(keys_rotate(&w.ctx, false, &kid), 0);
	now_us += SECONDS_US(2);
	assert_int_equal(verify(old), 0);
	assert_int_equal(keys_rotate(&w.ctx, true, &kid), 0);
	now_us += SECONDS_US(2);
	assert_int_equal(verify(old), E_UNAUTHENTICATED);
	assert_int_equal(verify(issue(3600)), 0);
}

static void test_other_issuer(void **state)
{
	(void)state;
	struct tokens *other;
	struct tokens_config c = {&w.drive, "them", 3600, {3, 900}};
	struct token t;
	assert_int_equal(tokens_open(&w.ctx, &c, &other), 0); /* the same keys */
	assert_int_equal(token_issue(&w.ctx, other, &(struct token_new){&w.user, STR_NULL, 0, STR_NULL}, &t), 0);
	assert_int_equal(verify(t.text), E_UNAUTHENTICATED);
	tokens_close(other);
}

static void test_many_tokens(void **state)
{
	(void)state;
	struct str tokens[200];
	for (int i = 0; i < 200; i++) {
		tokens[i] = issue(3600);
		assert_int_equal(verify(tokens[i]), 0);
	}
	for (int i = 0; i < 200; i++)
		assert_int_equal(verify(tokens[i]), 0);
	assert_int_equal(verify(STR("")), E_UNAUTHENTICATED);
	assert_int_equal(verify(STR("a.b.c")), E_UNAUTHENTICATED);
}

static void test_login_bound(void **state)
{
	(void)state;
	struct user u;
	struct login_limits limits = {3, 900};
	for (int i = 0; i < 3; i++) {
		ctx_clear(&w.ctx);
		assert_int_equal(user_login(&w.ctx, &limits, STR("a@b.c"), STR("wrong wrong"), STR("10.0.0.1"), &u), E_LOGIN_FAILED);
	}
	ctx_clear(&w.ctx);
	assert_int_equal(user_login(&w.ctx, &limits, STR("a@b.c"), STR("long enough"), STR("10.0.0.1"), &u), E_RATE_LIMITED);
	ctx_clear(&w.ctx);
	assert_int_equal(user_login(&w.ctx, &limits, STR("a@b.c"), STR("long enough"), STR("10.0.0.2"), &u), 0);
	now_us += SECONDS_US(901);
	ctx_clear(&w.ctx);
	assert_int_equal(user_login(&w.ctx, &limits, STR("A@B.c"), STR("long enough"), STR("10.0.0.1"), &u), 0);
	assert_int_equal(u.id, w.user.id);
	assert_int_equal(user_login(&w.ctx, &limits, STR("no"), STR("long enough"), STR("10.0.0.1"), &u), E_LOGIN_FAILED);
}

static void test_users(void **state)
{
	(void)state;
	struct user u;
	struct user_list list;
	struct user_new in = {.tenant_id = w.tenant.id, .email = STR("A@b.C"), .name = STR("x"), .password = STR_NULL};
	assert_int_equal(user_add(&w.ctx, &in, &u), E_CONFLICT);
	in.email = STR("not an address");
	ctx_clear(&w.ctx);
	assert_int_equal(user_add(&w.ctx, &in, &u), E_INVALID);
	in.email = STR("d@b.c");
	in.password = STR("short");
	ctx_clear(&w.ctx);
	assert_int_equal(user_add(&w.ctx, &in, &u), E_INVALID);
	in.password = STR_NULL;
	ctx_clear(&w.ctx);
	assert_int_equal(user_add(&w.ctx, &in, &u), 0);
	assert_int_equal(user_list(&w.ctx, 0, &list), 0);
	assert_int_equal(list.n, 2);
	assert_int_equal(user_find(&w.ctx, 0, STR("D@B.C"), &u), 0);
	assert_int_equal(user_find(&w.ctx, 0, STR("nobody@b.c"), &u), E_NOT_FOUND);
	struct tenant t;
	ctx_clear(&w.ctx);
	assert_int_equal(tenant_add(&w.ctx, &(struct tenant_new){.name = STR("t"), .admin = {.email = STR("q@b.c")}}, &t, &u),
	                 E_CONFLICT);
}

static void test_scopes(void **state)
{
	(void)state;
	struct str names[8];
	assert_int_equal(scopes_parse(STR("files:read")), SCOPE_FILES_READ);
	assert_int_equal(scopes_parse(STR_NULL), SCOPE_FILES_READ | SCOPE_FILES_WRITE);
	assert_int_equal(scopes_parse(STR("openid  email")), SCOPE_FILES_READ | SCOPE_FILES_WRITE);
	assert_int_equal(scopes_parse(STR("x *")), SCOPE_ALL);
	assert_int_equal(scopes_names(SCOPE_ALL, names), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(test_hit),         T(test_expiry),      T(test_suspension_at_once), T(test_rotation), T(test_other_issuer),
	    T(test_many_tokens), T(test_login_bound), T(test_users),              T(test_scopes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
