/* What leaves the trash for good: at once, in steps, and when its time is over; on both engines. */
#include <pthread.h>

#include "drive/cast_testing.h"
#include "drive/job.h"
#include "drive/node_call.h"
#include "drive/policy.h"
#include "drive/purge.h"

static int delete_node(const struct node *n, bool permanent)
{
	ctx_clear(&bob);
	return drive_node_delete(&bob, n->kind, &(struct node_delete){.id = n->id, .permanent = permanent});
}

static int restore(const struct node *n)
{
	struct node out;
	ctx_clear(&bob);
	return drive_node_patch(&bob, n->kind, &(struct node_patch){.id = n->id, .restore = true}, &out);
}

static struct job_result run_job(const struct job_run *how)
{
	struct job_result r;
	assert_int_equal(job_run(&t.drive, &job_trash, how, &r), 0);
	return r;
}

static struct job_result by_hand(void)
{
	return run_job(&(struct job_run){.by_hand = true});
}

static int64_t number(const char *sql)
{
	return testing_i64(&t, sql);
}
static int64_t nodes(void)
{
	return number("select count(*) from nodes");
}
static int64_t used(void)
{
	return number("select sum(used_bytes) from shares");
}
static void later(int64_t days)
{
	t.clock.offset_us += SECONDS_US(days * 86400);
}

static void told(void *arg, struct str what, int64_t bytes)
{
	assert_true(str_starts(what, STR("Team:/")) && bytes > 0);
	++*(int *)arg;
}

static void test_expiry(void **state)
{
	(void)state;
	struct node outer = folder(0, "folder"), inner = folder(outer.id, "inner"), kept = file(0, "kept", "kept");
	struct node f = file(inner.id, "f", "12345"), young = file(0, "young", "1");
	struct version_result v;
	int n = 0;
	assert_int_equal(testing_edit(&t, &bob, f.id, 0, RESOLVE_LAST_WRITER_WINS, STR("1234567"), &v), 0);
	assert_int_equal(used(), 4 + 12 + 1);
	assert_int_equal(delete_node(&outer, false), 0);
	int64_t seq = number("select max(seq) from tenants"), there = nodes();
	later(29);
	assert_int_equal(by_hand().items, 0);
	later(2);
	assert_int_equal(delete_node(&young, false), 0);
	seq++;
	struct job_result r = run_job(&(struct job_run){.dry = true, .tell = told, .tell_arg = &n});
	assert_true(r.items == 1 && r.bytes == 12 && n == 1);
	assert_int_equal(nodes(), there);
	r = by_hand();
	assert_true(r.items == 1 && r.bytes == 12 && !r.more);
	assert_int_equal(nodes(), there - 3);
	assert_int_equal(used(), 4 + 1);
	assert_int_equal(number("select max(seq) from tenants"), seq); /* the log tells nothing of it */
	assert_int_equal(restore(&outer), E_NOT_FOUND);
	assert_int_equal(restore(&young), 0);
	assert_int_equal(delete_node(&kept, false), 0);
	later(31);
	assert_int_equal(by_hand().items, 1);
	assert_int_equal(number("select count(*) from versions"), 1);
	assert_int_equal(restore(&kept), E_NOT_FOUND);
}

/* Below a folder in the trash lies one that had its own time. */
static void test_nested(void **state)
{
	(void)state;
	struct node outer = folder(0, "folder"), inner = folder(outer.id, "inner"), f = file(inner.id, "f", "12345");
	assert_int_equal(delete_node(&inner, false), 0);
	later(20);
	assert_int_equal(delete_node(&outer, false), 0);
	later(15);
	assert_int_equal(by_hand().items, 1);
	assert_int_equal(restore(&outer), 0);
	assert_int_equal(restore(&f), E_NOT_FOUND);
	assert_int_equal(used(), 0);
}

static void test_policies(void **state)
{
	(void)state;
	struct ctx ctx;
	ctx_init(&ctx, &arena, &t.clock.clock, &rng_system);
	ctx.drive = &t.drive;
	const struct policy_place tenant = {t.tenant_id, 0}, here = {t.tenant_id, share};
	const struct str never = STR("trash_retention_days=never"), two = STR("trash_retention_days=2");
	struct node f = file(0, "f", "1");
	share = testing_share(&bob, "More");
	struct node g = file(0, "g", "1");
	assert_int_equal(delete_node(&f, false), 0);
	assert_int_equal(delete_node(&g, false), 0);
	assert_int_equal(policy_set(&ctx, &tenant, &never, 1), 0);
	later(1000);
	assert_int_equal(by_hand().items, 0);
	assert_int_equal(policy_set(&ctx, &here, &two, 1), 0);
	assert_int_equal(by_hand().items, 1);
	assert_int_equal(restore(&f), E_NOT_FOUND);
	assert_int_equal(restore(&g), 0);
}

/* A clock that is behind, and one that jumps ahead. */
static void test_clock(void **state)
{
	(void)state;
	struct node f = file(0, "f", "1");
	assert_int_equal(delete_node(&f, false), 0);
	assert_true(run_job(&(struct job_run){0}).ran);
	t.clock.offset_us -= SECONDS_US(1000 * INT64_C(86400));
	assert_int_equal(run_job(&(struct job_run){0}).items, 0);
	t.clock.offset_us += SECONDS_US(2000 * INT64_C(86400));
	assert_true(run_job(&(struct job_run){0}).doubtful);
	t.clock.offset_us -= SECONDS_US(1000 * INT64_C(86400)); /* set right within the hour */
	later(1);
	assert_int_equal(run_job(&(struct job_run){0}).items, 0);
	assert_int_equal(restore(&f), 0);
}

/* A folder with more in it than one transaction takes. */
static struct node large(void)
{
	struct node top = folder(0, "large"), at = top, f = {0};
	for (int i = 0; i < 20; i++) { /* deep, and folders beside each other */
		char name[16];
		snprintf(name, sizeof name, "d%d", i);
		struct node beside = folder(at.id, "beside");
		f = file(beside.id, "f", "12345");
		at = folder(at.id, name);
	}
	testing_exec(&t,
	             pg ? "insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, owner_id, "
	                  "created_by, created_at,"
	                  " modified_by, modified_at, change_seq, version_id) select g, tenant_id, share_id, "
	                  "parent_id, 2, 'n' || g, 'n' || g,"
	                  " 1, 1, 1, 1, 1, 0, g from nodes, generate_series(1, 700) g where id = $1"
	                : "insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, owner_id, "
	                  "created_by, created_at,"
	                  " modified_by, modified_at, change_seq, version_id) with recursive g(g) as (select 1 union "
	                  "all select g + 1 from g"
	                  " where g < 700) select g, tenant_id, share_id, parent_id, 2, 'n' || g, 'n' || g, 1, 1, 1, "
	                  "1, 1, 0, g from nodes, g"
	                  " where id = $1",
	             DB_ARGS(V_I(f.id)));
	testing_exec(
	    &t,
	    "insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, recipe, created_by, created_at)"
	    " select n.id, n.tenant_id, n.id, 1, 2, v.sha256, v.recipe, 1, 1 from nodes n, versions v where n.id <= 700"
	    " and v.node_id = $1",
	    DB_ARGS(V_I(f.id)));
	/* and a file with more versions than that */
	for (int64_t i = 0; i < 1400; i += 700)
		testing_exec(&t,
		             i ? "insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, recipe, "
		                 "created_by, created_at)"
		                 " select id + 1700, tenant_id, $1, id + 1700, 3, sha256, recipe, 1, 1 from versions "
		                 "where id <= 700"
		               : "insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, recipe, "
		                 "created_by, created_at)"
		                 " select id + 1000, tenant_id, $1, id + 1000, 3, sha256, recipe, 1, 1 from versions "
		                 "where id <= 700",
		             DB_ARGS(V_I(f.id)));
	testing_exec(&t, "update shares set used_bytes = (select sum(size_bytes) from versions) where id = $1",
	             DB_ARGS(V_I(share)));
	return top;
}

static void test_steps(void **state)
{
	(void)state;
	struct node top = large(), out;
	(void)file(0, "other", "abc");
	int64_t seq = number("select max(seq) from tenants");
	assert_int_equal(used(), 20 * 5 + 700 * 2 + 1400 * 3 + 3);
	assert_int_equal(delete_node(&top, true), 0);
	assert_int_equal(number("select max(seq) from tenants"), seq + 1);
	assert_true(nodes() > 3);
	assert_int_equal(number("select count(*) from nodes where parent_id = 0 and name_key = ''"), 1);
	/* it is gone, and so is what lies below */
	assert_int_equal(restore(&top), E_NOT_FOUND);
	assert_int_equal(delete_node(&top, true), E_NOT_FOUND);
	out = (struct node){.kind = NODE_FILE, .id = number("select max(id) from nodes where kind = 2 and name = 'f'")};
	assert_int_equal(restore(&out), E_NOT_FOUND);
	out = (struct node){.kind = NODE_FOLDER, .id = number("select max(id) from nodes where kind = 1 and parent_id <> 0")};
	assert_int_equal(testing_folder(&bob, share, out.id, "new", &out), E_NOT_FOUND);
	assert_int_equal(testing_folder(&bob, share, 0, "large", &out), 0); /* its name is free */
	struct snapshot_page page;
	assert_int_equal(drive_snapshot(&bob, &(struct snapshot_in){.share_id = share}, &page), 0);
	assert_int_equal(page.n, 2);
	assert_int_equal(used(), number("select sum(size_bytes) from versions"));
	struct job_result r = by_hand();
	assert_false(r.more);
	assert_int_equal(nodes(), 3);
	assert_int_equal(used(), 3);
	assert_int_equal(number("select count(*) from versions"), 1);
}

/* The round is ended between steps, and the next one goes on. */
static void test_stop(void **state)
{
	(void)state;
	static const _Atomic bool stop = true;
	struct node top = large();
	assert_int_equal(delete_node(&top, false), 0);
	later(31);
	struct job_result r = run_job(&(struct job_run){.by_hand = true, .stop = &stop});
	assert_true(r.ran && r.more && r.items == 0);
	assert_int_equal(restore(&top), 0);
	assert_int_equal(delete_node(&top, false), 0);
	later(31);
	r = by_hand();
	assert_true(!r.more && r.items == 1 && r.bytes == 20 * 5 + 700 * 2 + 1400 * 3);
	assert_int_equal(nodes(), 1);
	assert_int_equal(used(), 0);
}

/* ---- a restore and the expiry at once: one of them wins, and it is all or nothing ---- */

static void *restorer(void *arg)
{
	struct arena a;
	arena_init(&a);
	struct ctx ctx = testing_ctx(&t, &a, &t.users[1]);
	struct node out;
	int *err = arg;
	*err = drive_node_patch(&ctx, NODE_FOLDER, &(struct node_patch){.id = number("select id from nodes where name = 'raced'"),
	                                                                .restore = true}, &out);
	arena_fini(&a);
	return NULL;
}

static void test_race(void **state)
{
	(void)state;
	for (int i = 0; i < 40; i++) {
		struct node outer = folder(0, "raced");
		for (int k = 0; k < 3; k++)
			file(outer.id, k ? k > 1 ? "c" : "b" : "a", "12");
		assert_int_equal(delete_node(&outer, false), 0);
		later(31);
		pthread_t thread;
		int err = 0;
		pthread_create(&thread, NULL, restorer, &err);
		struct job_result r = by_hand();
		pthread_join(thread, NULL);
		if (err == 0) {
			assert_int_equal(r.items, 0);
			assert_int_equal(nodes(), 1 + 4);
			assert_int_equal(used(), 6);
			assert_int_equal(delete_node(&outer, true), 0);
		} else {
			assert_int_equal(err, E_NOT_FOUND);
			assert_int_equal(r.items, 1);
		}
		assert_int_equal(nodes(), 1);
		assert_int_equal(used(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_expiry), CASE(test_nested), CASE(test_policies), CASE(test_clock),
	                                   CASE(test_steps),  CASE(test_stop),   CASE(test_race)};
	return RUN_ON_BOTH("purging", tests);
}
