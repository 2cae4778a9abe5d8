/* thin(): by cases, and by properties of random histories; then the job, on both engines. */
#include "drive/cast_testing.h"
#include "drive/job.h"
#include "drive/thin.h"
#include "drive/version.h"

#define HOUR SECONDS_US(3600)
#define DAY (24 * HOUR)

static const struct policy usual = {{30, 24, 7, 90, POLICY_FOREVER}};
static const int64_t now = 20000 * DAY + 5 * HOUR; /* an arbitrary day of 2024 */

static void expect(const struct policy *p, int64_t at, const int64_t *ages, size_t n, const char *kept)
{
	int64_t times[16];
	bool keep[16];
	for (size_t i = 0; i < n; i++)
		times[i] = now - ages[i];
	thin(p, at, times, n, keep);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(keep[i], kept[i] == '+');
}

#define EXPECT(p, kept, ...) \
	do { \
		const int64_t ages_[] = {__VA_ARGS__}; \
		expect(p, now, ages_, sizeof ages_ / sizeof *ages_, kept); \
	} while (0)

static void test_tiers(void **state)
{
	(void)state;
	const struct policy none = {{30, 0, 0, 0, 0}}, all = {{30, POLICY_FOREVER, 7, 90, POLICY_FOREVER}};
	const struct policy year = {{30, 24, 7, 90, 365}};
	EXPECT(&usual, "+++", 3 * HOUR, 3 * HOUR - 1, 1);
	EXPECT(&usual, "-+", 30 * HOUR, 30 * HOUR - 1000);       /* of one hour */
	EXPECT(&usual, "++", 31 * HOUR, 30 * HOUR);
	EXPECT(&usual, "-+-+", 10 * DAY, 10 * DAY - HOUR, 9 * DAY, 9 * DAY - HOUR);
	EXPECT(&usual, "-+", 7 * DAY + 2 * HOUR, 7 * DAY - 2 * HOUR); /* the newer one is in the tier before */
	EXPECT(&usual, "-+-+", 402 * DAY, 401 * DAY, 400 * DAY, 395 * DAY); /* weeks begin on Thursdays */
	EXPECT(&all, "+++", 400 * DAY, 400 * DAY - 1, 2 * DAY);
	EXPECT(&year, "-++", 366 * DAY, 364 * DAY, DAY);
	EXPECT(&none, "--", 2, 1);
	EXPECT(&none, "+", 0);
	thin(&usual, now, NULL, 0, NULL);
}

/* A clock that was ahead, or is behind, is no reason to delete. */
static void test_future(void **state)
{
	(void)state;
	const int64_t ages[] = {300 * DAY, 300 * DAY - 1, -1};
	EXPECT(&usual, "+++", 300 * DAY, 300 * DAY - 1, -1);
	expect(&usual, now - 400 * DAY, ages, 2, "++");
	expect(&usual, now + 1, ages, 3, "-++");
}

/* ---- properties ---- */

enum { MANY = 60, RUNS = 20000 };

struct history {
	int64_t times[MANY];
	bool keep[MANY];
	size_t n;
};

static void make(struct rng *r, struct history *h)
{
	static const int64_t spans[] = {2 * HOUR, 3 * DAY, 20 * DAY, 200 * DAY, 3000 * DAY};
	h->n = rng_below(r, MANY);
	for (size_t i = 0; i < h->n; i++)
		h->times[i] = now - (int64_t)rng_below(r, (uint64_t)spans[rng_below(r, 5)]);
}

static struct history thinned(const struct policy *p, int64_t at, const struct history *h)
{
	struct history in = *h, out = {.n = 0};
	thin(p, at, in.times, in.n, in.keep);
	for (size_t i = 0; i < in.n; i++)
		if (in.keep[i])
			out.times[out.n++] = in.times[i];
	return out;
}

static void same(const struct history *a, const struct history *b)
{
	assert_int_equal(a->n, b->n);
	assert_memory_equal(a->times, b->times, a->n * sizeof *a->times);
}

static int64_t bucket_of(int64_t t, int64_t span)
{
	return t / span;
}

/* What the rule says, the slow way. */
static bool rule_keeps(const struct policy *p, const struct history *h, size_t i, int64_t at)
{
	int64_t age = at - h->times[i], days = age / DAY + (age % DAY > 0);
	int64_t span = age <= p->values[POLICY_ALL_HOURS] * HOUR ? 0
	               : days <= p->values[POLICY_HOURLY_DAYS]   ? HOUR
	               : days <= p->values[POLICY_DAILY_DAYS]    ? DAY
	                                                         : 7 * DAY;
	for (size_t k = 0; span && k < h->n; k++)
		if (k != i && (h->times[k] > h->times[i] || (h->times[k] == h->times[i] && k > i)) &&
		    bucket_of(h->times[k], span) == bucket_of(h->times[i], span))
			return false;
	return p->values[POLICY_VERSION_DAYS] == POLICY_FOREVER || age <= p->values[POLICY_VERSION_DAYS] * DAY;
}

static void test_properties(void **state)
{
	(void)state;
	struct rng_seeded seeded;
	rng_seeded_init(&seeded, 11);
	struct rng *r = &seeded.base;
	for (int run = 0; run < RUNS; run++) {
		struct policy p = {{30, (int64_t)rng_below(r, 60), (int64_t)rng_below(r, 12), (int64_t)rng_below(r, 120),
		                    rng_below(r, 2) ? POLICY_FOREVER : (int64_t)rng_below(r, 800)}};
		struct history h;
		make(r, &h);
		thin(&p, now, h.times, h.n, h.keep);
		for (size_t i = 0; i < h.n; i++)
			assert_int_equal(h.keep[i], rule_keeps(&p, &h, i, now));
		struct history once = thinned(&p, now, &h), twice = thinned(&p, now, &once);
		same(&once, &twice);
		int64_t later = now + (int64_t)rng_below(r, (uint64_t)(500 * DAY));
		struct history straight = thinned(&p, later, &h), by_way = thinned(&p, later, &once);
		same(&straight, &by_way); /* what has gone would have gone, and what is left does not depend on the way */
	}
}

/* ---- the job ---- */

/* A file of n versions with one byte, two bytes ..., each a minute older than the next, the last of them ages_us old. */
static struct node history(const char *name, int n, int64_t age_us)
{
	static const char bytes[] = "abcdefghijklmnopqrstuvwxyz";
	struct node f;
	struct version_result v;
	assert_int_equal(testing_file(&t, &bob, share, 0, name, str_n(bytes, 1), &f), 0);
	for (int i = 2; i <= n; i++)
		assert_int_equal(testing_edit(&t, &bob, f.id, 0, RESOLVE_LAST_WRITER_WINS, str_n(bytes, (size_t)i), &v), 0);
	/* the newest of them stand at the end of an hour, so that all are of one */
	int64_t newest = (clock_now(&t.clock.clock) - age_us) / HOUR * HOUR + HOUR - SECONDS_US(60);
	for (int i = 1; i <= n; i++)
		testing_exec(&t,
		             "update versions set created_at = $2 where node_id = $1 and number = "
		             "(select min(number) from versions where node_id = $1 and created_at > $2)",
		             DB_ARGS(V_I(f.id), V_I(newest - SECONDS_US(60) * (n - i))));
	return f;
}

static struct job_result run_job(const struct job_run *how)
{
	struct job_result r;
	assert_int_equal(job_run(&t.drive, &job_versions, how, &r), 0);
	assert_true(r.ran);
	return r;
}

static struct job_result by_hand(void)
{
	return run_job(&(struct job_run){.by_hand = true});
}

static int64_t count_of(const struct node *f)
{
	char sql[96];
	snprintf(sql, sizeof sql, "select count(*) from versions where node_id = %lld", (long long)f->id);
	return testing_i64(&t, sql);
}

static void told(void *arg, struct str what, int64_t bytes)
{
	assert_true(str_starts(what, STR("Team:/")) && bytes > 0);
	++*(int *)arg;
}

static void test_job(void **state)
{
	(void)state;
	struct node old = history("old", 6, 3 * DAY), young = history("young", 4, 3 * HOUR);
	int64_t used = testing_i64(&t, "select used_bytes from shares"), head = testing_i64(&t, "select seq from tenants limit 1");
	int n = 0;
	struct job_result r = run_job(&(struct job_run){.by_hand = true, .dry = true, .tell = told, .tell_arg = &n});
	assert_true(r.items == 5 && r.bytes == 1 + 2 + 3 + 4 + 5 && n == 5);
	assert_int_equal(count_of(&old), 6);
	r = by_hand();
	assert_true(r.items == 5 && r.bytes == 15 && !r.more);
	assert_int_equal(count_of(&old), 1);
	assert_int_equal(count_of(&young), 4);
	assert_int_equal(testing_i64(&t, "select used_bytes from shares"), used - 15);
	assert_int_equal(testing_i64(&t, "select seq from tenants limit 1"), head);
	assert_int_equal(by_hand().items, 0);
	struct version_result v; /* numbers go on */
	assert_int_equal(testing_edit(&t, &bob, old.id, 0, RESOLVE_LAST_WRITER_WINS, STR("next"), &v), 0);
	assert_int_equal(v.version.number, 7);
}

static void test_spared(void **state)
{
	(void)state;
	struct node f = history("f", 5, 3 * DAY), g = history("g", 3, 3 * DAY);
	struct version_result v;
	/* an open conflict names the head's predecessor and a loser */
	assert_int_equal(testing_edit(&t, &bob, f.id, f.version_id, RESOLVE_MANUAL, STR("loser"), &v), 0);
	assert_true(v.has_conflict && v.version.number == 6);
	testing_exec(&t, "update versions set created_at = $2 where node_id = $1 and number = 6",
	             DB_ARGS(V_I(f.id), V_I(clock_now(&t.clock.clock) - 3 * DAY)));
	/* the head is not the newest */
	testing_exec(
	    &t,
	    "update nodes set version_id = (select id from versions where node_id = $1 and number = 2), version = 2"
	    " where id = $1",
	    DB_ARGS(V_I(g.id)));
	/* a staged one is none of ours */
	struct content *content = testing_content(&t, t.tenant_id, STR("staged"));
	struct version_put in = {.replace_file_id = g.id, .staged = true, .content = content};
	assert_int_equal(drive_file_put(&bob, &in, &v), 0);
	content_free(content);
	by_hand();
	assert_int_equal(count_of(&f), 3); /* 1: the base; 5: the head; 6: the loser */
	assert_int_equal(count_of(&g), 3); /* 2, 3, staged */
	testing_exec(&t, "update conflicts set resolved_at = $2 where resource_id = $1", DB_ARGS(V_I(f.id), V_I(1)));
	by_hand();
	assert_true(count_of(&f) < 3);
}

/* More versions than a page or a transaction takes. */
static void test_many(void **state)
{
	(void)state;
	enum { MORE = 2 * THIN_PAGE + 10 };
	struct node a = history("a", 2, 3 * DAY), f = history("f", 2, 3 * DAY), z = history("z", 2, 3 * DAY);
	for (int i = 0; i < MORE; i += MORE / 2)
		testing_exec(
		    &t,
		    pg ? "insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, recipe, "
		         "created_by, created_at)"
			 " select $2 + g, tenant_id, node_id, $2 + g, 0, sha256, recipe, 1, created_at from versions,"
			 " generate_series(1, 4005) g where node_id = $1 and number = 1"
		       : "insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, recipe, "
		         "created_by, created_at)"
			 " with recursive g(g) as (select 1 union all select g + 1 from g where g < 4005)"
			 " select $2 + g, tenant_id, node_id, $2 + g, 0, sha256, recipe, 1, created_at from versions, g"
			 " where node_id = $1 and number = 1",
		    DB_ARGS(V_I(f.id), V_I(10 + i)));
	assert_int_equal(count_of(&f), MORE + 2);
	struct job_result r = by_hand();
	assert_false(r.more);
	assert_true(count_of(&a) == 1 && count_of(&f) == 1 && count_of(&z) == 1);
	assert_int_equal(r.items, MORE + 3);
	assert_int_equal(testing_i64(&t, "select count(*) from jobs where state <> ''"), 0);
}

static void test_policy(void **state)
{
	(void)state;
	struct ctx ctx;
	const struct policy_place tenant = {t.tenant_id, 0}, of_share = {t.tenant_id, share};
	struct policy_shown shown;
	struct node f = history("f", 6, 3 * DAY);
	ctx_init(&ctx, &arena, &t.clock.clock, &rng_system);
	ctx.drive = &t.drive;
	testing_exec(&t, "update tenants set settings = '{\"other\":[1],\"version_all_hours\":\"x\"}' where id = $1",
	             DB_ARGS(V_I(t.tenant_id)));
	assert_int_equal(policy_show(&ctx, &of_share, &shown), 0);
	assert_int_equal(shown.policy.values[POLICY_ALL_HOURS], 24);
	assert_string_equal(shown.from[POLICY_ALL_HOURS], "default");
	const struct str never[] = {STR("version_all_hours=never")}, inherit[] = {STR("version_all_hours=")};
	assert_int_equal(policy_set(&ctx, &tenant, never, 1), 0);
	assert_int_equal(policy_show(&ctx, &of_share, &shown), 0);
	assert_int_equal(shown.policy.values[POLICY_ALL_HOURS], POLICY_FOREVER);
	assert_string_equal(shown.from[POLICY_ALL_HOURS], "tenant");
	assert_int_equal(testing_i64(&t, "select count(*) from tenants where settings = '{\"other\":[1],\"version_all_hours\":null}'"), 1);
	assert_int_equal(by_hand().items, 0);
	const struct str some[] = {STR("version_all_hours=24"), STR("trash_retention_days=0")};
	assert_int_equal(policy_set(&ctx, &of_share, some, 2), 0);
	assert_int_equal(policy_show(&ctx, &of_share, &shown), 0);
	assert_string_equal(shown.from[POLICY_TRASH_DAYS], "share");
	assert_int_equal(policy_set(&ctx, &of_share, inherit, 1), 0);
	assert_int_equal(by_hand().items, 0);
	assert_int_equal(policy_set(&ctx, &tenant, inherit, 1), 0);
	assert_int_equal(by_hand().items, 5);
	assert_int_equal(count_of(&f), 1);
	const char *bad[] = {"version_all_hours", "x=1", "version_all_hours=-1", "version_all_hours=1.5", "version_daily_days=36501"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const struct str one = str_c(bad[i]);
		ctx_clear(&ctx);
		assert_int_equal(policy_set(&ctx, &tenant, &one, 1), E_USAGE);
	}
}

int main(void)
{
	const struct CMUnitTest pure[] = {cmocka_unit_test(test_tiers), cmocka_unit_test(test_future), cmocka_unit_test(test_properties)};
	const struct CMUnitTest tests[] = {CASE(test_job), CASE(test_spared), CASE(test_many), CASE(test_policy)};
	return cmocka_run_group_tests_name("thin", pure, NULL, NULL) + RUN_ON_BOTH("thinning", tests);
}
