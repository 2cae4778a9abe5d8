/* Refresh tokens: the line of a family, lost replies, reuse, and everything that ends one. Both engines. */
#include "drive/device.h"
#include "drive/drive_testing.h"
#include "drive/engines_testing.h"
#include "drive/refresh.h"

enum { TTL_S = 1000 };

static struct testing t;
static struct arena arena;
static struct ctx ctx;
static struct user user;

static int setup(void **s)
{
	(void)s;
	testing_open(&t, pg);
	arena_init(&arena);
	ctx = testing_ctx(&t, &arena, &t.users[1]);
	return user_find(&ctx, t.tenant_id, t.users[1].email, &user);
}

static int teardown(void **s)
{
	(void)s;
	arena_fini(&arena);
	testing_close(&t);
	return 0;
}

static struct str begin(const char *device_id)
{
	struct str token;
	assert_int_equal(refresh_begin(&ctx, &user, device_id ? str_c(device_id) : STR_NULL, TTL_S, &token), 0);
	return token;
}

/* The next token, or STR_NULL and *err. */
static struct str use(struct str token, int *err)
{
	struct user who;
	struct str next = STR_NULL;
	ctx_clear(&ctx);
	*err = refresh_use(&ctx, token, TTL_S, &who, &next);
	if (!*err) {
		assert_true(who.id == user.id);
		assert_false(str_eq(next, token));
	}
	return next;
}

static struct str good(struct str token)
{
	int err;
	struct str next = use(token, &err);
	assert_int_equal(err, 0);
	return next;
}

static void bad(struct str token, int want)
{
	int err;
	use(token, &err);
	assert_int_equal(err, want);
}

static int64_t families(void)
{
	return testing_i64(&t, "select count(*) from refresh_families");
}

static void a_line_of_tokens(void **s)
{
	(void)s;
	struct str token = begin(NULL);
	for (int i = 0; i < 5; i++)
		token = good(token);
	assert_int_equal(families(), 1);
}

static void a_lost_reply(void **s)
{
	(void)s;
	struct str first = begin(NULL);
	struct str second = good(good(first)); /* first -> lost is used: first is old now */
	good(second);                          /* lost */
	good(second);                          /* lost again */
	struct str third = good(second);
	good(good(third));
}

/* Two answers of one generation are on their way, and the older one arrives last. */
static void a_reply_that_was_overtaken(void **s)
{
	(void)s;
	struct str first = begin(NULL), slow = good(first), fast = good(first);
	(void)fast;
	good(good(slow));
	first = begin(NULL);
	slow = good(first);
	good(good(good(first)));
	bad(slow, E_UNAUTHENTICATED); /* not when the other one was used */
}

static void reuse_ends_the_family(void **s)
{
	(void)s;
	struct str first = begin(NULL), other = begin(NULL), second = good(first), third = good(second);
	bad(first, E_UNAUTHENTICATED);
	bad(third, E_UNAUTHENTICATED);
	bad(second, E_UNAUTHENTICATED);
	assert_int_equal(families(), 1);
	good(other);
}

/* Who stole the token and who owns it both exchanged it: the second to go on is found out. */
static void theft_is_found_out(void **s)
{
	(void)s;
	struct str token = begin(NULL), thief = good(token), owner = good(token);
	thief = good(thief);
	bad(owner, E_UNAUTHENTICATED);
	bad(thief, E_UNAUTHENTICATED);
}

static void nonsense(void **s)
{
	(void)s;
	struct str token = begin(NULL);
	char *p = arena_cstr(&arena, token);
	bad(STR(""), E_UNAUTHENTICATED);
	bad(STR("sdr_"), E_UNAUTHENTICATED);
	bad(str_n(p, token.n - 1), E_UNAUTHENTICATED);
	bad(arena_fmt(&arena, "%s0", p), E_UNAUTHENTICATED);
	p[5] = 'x';
	bad(str_c(p), E_UNAUTHENTICATED);
	bad(arena_fmt(&arena, "%.*s0000%.*s", 5, token.p, STR_ARG(str_skip(token, 9))), E_UNAUTHENTICATED); /* another family */
	good(token);
}

static void it_slides_and_it_ends(void **s)
{
	(void)s;
	struct str token = begin(NULL);
	for (int i = 0; i < 3; i++) {
		t.clock.offset_us += SECONDS_US(TTL_S - 10);
		token = good(token);
	}
	t.clock.offset_us += SECONDS_US(TTL_S + 1);
	bad(token, E_UNAUTHENTICATED);
	assert_int_equal(families(), 0);
}

static void the_user_changes(void **s)
{
	(void)s;
	struct str token = begin(NULL);
	assert_int_equal(user_set_status(&ctx, &user, STR("suspended")), 0);
	bad(token, E_SUSPENDED);
	assert_int_equal(user_set_status(&ctx, &user, STR("active")), 0);
	bad(token, E_UNAUTHENTICATED);
	/* verified under the old password, stored after the new one */
	token = begin(NULL);
	bad(token, E_UNAUTHENTICATED);
	assert_int_equal(user_find(&ctx, t.tenant_id, t.users[1].email, &user), 0);
	token = begin(NULL);
	assert_int_equal(user_set_password(&ctx, &user, STR("a new long password")), 0);
	bad(token, E_UNAUTHENTICATED);
	assert_int_equal(families(), 0);
}

static void the_device_goes(void **s)
{
	(void)s;
	struct device d;
	struct device_register_in in = {STR("dev-1"), STR("a device"), STR("1"), DEVICE_LINUX};
	assert_int_equal(drive_device_register(&ctx, &in, &d), 0);
	struct str bound = begin("dev-1"), other = begin("dev-2"), free_one = begin(NULL);
	assert_int_equal(drive_device_delete(&ctx, STR("dev-1")), 0);
	bad(bound, E_UNAUTHENTICATED);
	good(other);
	good(free_one);
}

static void there_is_a_limit(void **s)
{
	(void)s;
	struct str first = begin(NULL), second = begin(NULL);
	t.clock.offset_us += SECONDS_US(1);
	first = good(first);
	t.clock.offset_us += SECONDS_US(1);
	for (int i = 0; i < REFRESH_FAMILIES_PER_USER - 1; i++)
		begin(NULL);
	assert_int_equal(families(), REFRESH_FAMILIES_PER_USER);
	bad(second, E_UNAUTHENTICATED);
	good(first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(a_line_of_tokens),      CASE(a_lost_reply),       CASE(a_reply_that_was_overtaken),
	    CASE(reuse_ends_the_family), CASE(theft_is_found_out), CASE(nonsense),
	    CASE(it_slides_and_it_ends), CASE(the_user_changes),   CASE(the_device_goes),
	    CASE(there_is_a_limit),
	};
	return RUN_ON_BOTH("refresh tokens", tests);
}
