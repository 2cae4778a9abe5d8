/* Random operations by two people on two shares; after every step the books must balance: bytes, rows, numbers of the
 * log. The seed is printed when a step fails (SCAIDRIVE_TEST_SEED, SCAIDRIVE_TEST_STEPS repeat it). Both engines. */
#include <pthread.h>

#include "base/limits.h"
#include "drive/apply.h"
#include "drive/device.h"
#include "drive/drive_testing.h"
#include "drive/engines_testing.h"

enum { SHARES = 2, IDS = 10, STAGES = 8, BYTES_MAX = 40 };

static struct testing t;
static struct arena arena;
static struct ctx ada, people[2];
static int64_t shares[SHARES], files[IDS], folders[IDS], stages[STAGES][2];
static uint64_t state;
static int done[32], refused[32];

static int setup(void **s)
{
	(void)s;
	testing_open(&t, pg);
	arena_init(&arena);
	ada = testing_ctx(&t, &arena, &t.users[0]);
	for (int i = 0; i < 2; i++) {
		struct device d;
		people[i] = testing_ctx(&t, &arena, &t.users[1 + i]);
		struct device_register_in in = {i ? STR("dev-1") : STR("dev-0"), STR("a device"), STR("1"), DEVICE_LINUX};
		assert_int_equal(drive_device_register(&people[i], &in, &d), 0);
	}
	for (int i = 0; i < SHARES; i++) {
		shares[i] = testing_share(&people[0], i ? "Two" : "One");
		struct member_add add = {shares[i], {ID_USER, t.users[2].user_id}, ROLE_CONTRIBUTOR, 0};
		struct member m;
		assert_int_equal(drive_member_add(&people[0], &add, &m), 0);
		struct share_patch quota = {.id = shares[i], .has_quota = true, .quota_bytes = i ? 2000 : 6000};
		struct share changed;
		assert_int_equal(drive_share_patch(&ada, &quota, &changed), 0);
	}
	for (int i = 0; i < IDS; i++) {
		char name[] = "N0";
		struct node n;
		name[1] = (char)('0' + i);
		assert_int_equal(testing_folder(&people[0], shares[i % 2], 0, name, &n), 0);
		folders[i] = n.id;
		assert_int_equal(testing_file(&t, &people[0], 0, folders[i / 2], name, STR("first"), &n), 0);
		files[i] = n.id;
	}
	memset(stages, 0, sizeof stages);
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	testing_close(&t);
	arena_fini(&arena);
	return 0;
}

static uint64_t next(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

/* What must be 0 at any time. */
static const char *const books[] = {
    "select count(*) from shares s where used_bytes <> (select coalesce(sum(v.size_bytes), 0) from versions v"
    " join nodes n on n.id = v.node_id where n.share_id = s.id)",
    "select count(*) from versions where node_id not in (select id from nodes)",
    "select count(*) from nodes n left join nodes p on p.id = n.parent_id where n.parent_id <> 0"
    " and (p.id is null or p.kind <> 1 or p.share_id <> n.share_id)",
    "select count(*) from nodes n left join versions v on v.id = n.version_id where n.kind = 2 and (v.id is null"
    " or v.node_id <> n.id or v.number <> n.version or v.size_bytes <> n.size_bytes or v.sha256 <> n.sha256"
    " or n.last_version < (select max(number) from versions h where h.node_id = n.id))",
    /* the log has no gap, and a row's last change is the log's last about it */
    "select count(*) from tenants q where seq <> (select count(*) from changes c where c.tenant_id = q.id)",
    "select count(*) from nodes n where parent_id <> 0 and change_seq <>"
    " (select max(seq) from changes c where c.resource_id = n.id)",
    "select count(*) from nodes n join changes c on c.resource_id = n.id and c.seq = n.change_seq"
    " where parent_id <> 0 and n.deleted_at > 0 and c.change_type <> 3",
    "select count(*) from conflicts c left join nodes n on n.id = c.resource_id where n.id is null or"
    " n.share_id <> c.share_id",
};

static void balance(uint64_t seed, int step, int what)
{
	for (size_t i = 0; i < sizeof books / sizeof *books; i++)
		if (testing_i64(&t, books[i]))
			fail_msg("seed %llu step %d operation %d: %s", (unsigned long long)seed, step, what, books[i]);
}

/* Changes whenever anything does that an operation may change. */
static int64_t imprint(void)
{
	return testing_i64(&t, "select (select count(*) from changes) * 1000003 + (select coalesce(sum(used_bytes), 0) from shares)"
	                       " * 10007 + (select count(*) from nodes) * 101 + (select count(*) from versions) * 11"
	                       " + (select count(*) from conflicts) * 7 + (select coalesce(sum(number), 0) from versions)"
	                       " + (select coalesce(sum(last_version), 0) from nodes)");
}

static void keep(int64_t *ids, int64_t id)
{
	ids[next(IDS)] = id;
}

static int64_t head_of(int64_t file_id)
{
	char sql[96];
	snprintf(sql, sizeof sql, "select version_id from nodes where id = %lld", (long long)file_id);
	return testing_i64(&t, sql);
}

static int put(struct ctx *c, int64_t file_id, bool staged)
{
	char bytes[BYTES_MAX + 1];
	size_t n = next(BYTES_MAX);
	for (size_t i = 0; i < n; i++)
		bytes[i] = (char)('a' + next(2));
	char name[] = "n0";
	name[1] = (char)('0' + next(10));
	struct content *content = testing_content(&t, t.tenant_id, str_n(bytes, n));
	struct version_put in = {.share_id = shares[next(SHARES)], .name = str_c(name), .content = content, .staged = staged,
	                         .replace_file_id = file_id, .strategy = (enum resolve_strategy)next(6)};
	struct version_result r;
	if (next(2)) {
		in.folder_id = folders[next(IDS)];
		in.share_id = 0;
	}
	if (file_id && next(3))
		in.base_version_id = head_of(file_id);
	int err = drive_file_put(c, &in, &r);
	content_free(content);
	if (err)
		return err;
	keep(files, r.node.id);
	if (r.has_copy)
		keep(files, r.copy.id);
	if (r.fate == VERSION_STAGED) {
		size_t at = next(STAGES);
		stages[at][0] = r.node.id;
		stages[at][1] = r.version.id;
	}
	return 0;
}

static int apply(struct ctx *c, struct apply_change change)
{
	struct str device = c == people ? STR("dev-0") : STR("dev-1");
	struct apply_in in = {device, shares[next(SHARES)], (enum resolve_strategy)next(6), -1, &change, 1};
	struct apply_out out;
	if (next(2))
		in.base_cursor = (int64_t)next((uint64_t)testing_i64(&t, "select max(seq) from tenants"));
	int err = drive_apply(c, &in, &out);
	if (!err && !out.results[0].err && out.results[0].resource.kind == ID_FOLDER)
		keep(folders, out.results[0].resource.n);
	return err ? err : out.results[0].err;
}

static struct node_place place(int64_t id)
{
	struct node_place p = {.id = id, .target_share_id = shares[next(SHARES)], .name = next(2) ? STR("n1") : STR_NULL};
	if (next(3)) {
		p.target_share_id = 0;
		p.target_folder_id = folders[next(IDS)];
	}
	return p;
}

static int change(struct ctx *c, int what)
{
	struct node n;
	struct share s;
	struct conflict settled;
	struct version_result r;
	int64_t file = files[next(IDS)], folder = folders[next(IDS)], removed;
	struct node_place to = place(what == 8 ? folder : file);
	struct node_delete del = {.id = what & 1 ? file : folder, .permanent = next(3) == 0};
	size_t stage = next(STAGES);
	int err;
	switch (what) {
	case 0:
		return put(c, 0, false);
	case 1:
		return put(c, file, false);
	case 2:
	case 3:
		return put(c, file, true);
	case 4:
	case 5: {
		char name[] = "d0";
		name[1] = (char)('0' + next(6));
		err = testing_folder(c, next(2) ? shares[next(SHARES)] : 0, next(2) ? folder : 0, name, &n);
		if (!err)
			keep(folders, n.id);
		return err;
	}
	case 6:
		err = drive_file_copy(c, &to, &n);
		if (!err)
			keep(files, n.id);
		return err;
	case 7:
		return drive_node_move(c, NODE_FILE, &to, &n);
	case 8:
		return drive_node_move(c, NODE_FOLDER, &to, &n);
	case 9:
		return drive_node_delete(c, NODE_FILE, &del);
	case 10:
		return drive_node_delete(c, NODE_FOLDER, &del);
	case 11:
	case 12:
		return drive_node_patch(c, NODE_FILE, &(struct node_patch){.id = file, .restore = next(2), .name = next(2) ? STR("n2") : STR_NULL,
		                                               .has_mtime = next(2), .mtime_us = (int64_t)next(3)}, &n);
	case 13:
	case 14:
		return drive_node_patch(c, NODE_FOLDER, &(struct node_patch){.id = folder, .restore = next(2),
		                                                   .name = next(2) ? STR("d2") : STR_NULL}, &n);
	case 15:
		return drive_file_version_restore(c, file, 1 + (int64_t)next(3), &r);
	case 16:
	case 17:
	case 18: {
		int64_t base = next(2) ? head_of(stages[stage][0]) : next(2) ? stages[stage][1] : 0;
		return apply(c, (struct apply_change){.resource = {ID_FILE, stages[stage][0]}, .type = CHANGE_UPDATED,
		                                      .version_id = stages[stage][1], .base_version_id = base});
	}
	case 19:
		return apply(c, (struct apply_change){.resource = {ID_FILE, file}, .type = CHANGE_DELETED,
		                                      .base_version_id = next(2) ? head_of(file) : next(2) ? 1 : 0});
	case 20:
	case 21:
		return apply(c, (struct apply_change){.resource = {ID_FOLDER, folder}, .type = CHANGE_DELETED});
	case 22:
		return apply(c, (struct apply_change){.resource = {ID_FOLDER, 0}, .type = CHANGE_CREATED, .new_path = STR("/n1/x"),
		                                      .has_parent = next(2), .parent_id = folder, .name = STR("n3")});
	case 23:
		return apply(c, (struct apply_change){.resource = {ID_FILE, file}, .type = CHANGE_MOVED, .has_parent = true,
		                                      .parent_id = folder, .name = next(2) ? STR("N1") : STR_NULL});
	case 24:
		err = drive_conflict_resolve(c, testing_i64(&t, next(2) ? "select max(id) from conflicts where resolved_at is null"
		                                                      : "select min(id) from conflicts where resolved_at is null"),
		                             (enum resolve_strategy)(1 + (int)next(4)), &settled);
		return err;
	case 25:
		t.clock.offset_us += next(4) ? 0 : MILLIS_US(LIMIT_STAGED_MS) + 1;
		return drive_version_sweep(c, &removed);
	case 26:
		if (!next(4))
			return drive_share_delete(people, shares[1]);
		return drive_share_patch(people, &(struct share_patch){.id = shares[1], .restore = true}, &s);
	default:
		return 0;
	}
}

static void test_books(void **s)
{
	(void)s;
	const char *given = getenv("SCAIDRIVE_TEST_SEED"), *count = getenv("SCAIDRIVE_TEST_STEPS");
	uint64_t seed = given ? strtoull(given, NULL, 10) : 20261121;
	int steps = count ? (int)strtol(count, NULL, 10) : 600;
	state = seed * 2654435761u + 1;
	for (int i = 0; i < steps; i++) {
		int what = (int)next(27);
		struct ctx *c = &people[next(2)];
		int64_t before = imprint();
		ctx_clear(c);
		int err = change(c, what);
		balance(seed, i, what);
		done[what] += err == 0;
		refused[what] += err != 0;
		assert_true(err_info(err)->status < 500 || err == E_QUOTA);
		if (err && imprint() != before)
			fail_msg("seed %llu step %d: operation %d failed (%s) and left a trace", (unsigned long long)seed, i, what,
			         err_info(err)->symbol);
		if (i % 50 == 49)
			arena_reset(&arena);
	}
	if (count)
		for (int i = 0; i < 27; i++)
			print_message("operation %d: done %d refused %d\n", i, done[i], refused[i]);
}

/* ---- the same request several times at once ---- */

enum { TWINS = 8 };

struct twin {
	pthread_t thread;
	const struct content *content;
	int err, apply_err;
	int64_t file_id, folder_id;
	enum apply_status status;
};

static pthread_barrier_t start;

static void *twin_run(void *arg)
{
	struct twin *w = arg;
	struct arena a;
	struct version_result r;
	struct apply_out out;
	arena_init(&a);
	struct ctx c = testing_ctx(&t, &a, &t.users[1]);
	struct version_put in = {.share_id = shares[0], .name = STR("twin"), .content = w->content};
	struct apply_change change = {.op_id = STR("op"), .resource = {ID_FOLDER, 0}, .type = CHANGE_CREATED,
	                              .new_path = STR("/twins")};
	struct apply_in apply = {STR("dev-0"), shares[0], RESOLVE_KEEP_BOTH, -1, &change, 1};
	c.idempotency_key = STR("twins");
	pthread_barrier_wait(&start);
	w->err = drive_file_put(&c, &in, &r);
	w->file_id = w->err ? 0 : r.node.id;
	c.idempotency_key = STR_NULL;
	w->apply_err = drive_apply(&c, &apply, &out);
	w->status = w->apply_err ? APPLY_FAILED : out.results[0].status;
	w->folder_id = w->apply_err ? 0 : out.results[0].resource.n;
	arena_fini(&a);
	return NULL;
}

static void test_twins(void **s)
{
	(void)s;
	struct twin twins[TWINS] = {0};
	struct content *content = testing_content(&t, t.tenant_id, STR("the same"));
	int64_t head = testing_i64(&t, "select max(seq) from tenants");
	int applied = 0;
	assert_int_equal(pthread_barrier_init(&start, NULL, TWINS), 0);
	for (int i = 0; i < TWINS; i++) {
		twins[i].content = content;
		assert_int_equal(pthread_create(&twins[i].thread, NULL, twin_run, &twins[i]), 0);
	}
	for (int i = 0; i < TWINS; i++)
		pthread_join(twins[i].thread, NULL);
	for (int i = 0; i < TWINS; i++) {
		assert_int_equal(twins[i].err, 0);
		assert_int_equal(twins[i].apply_err, 0);
		assert_int_equal(twins[i].file_id, twins[0].file_id);
		assert_int_equal(twins[i].folder_id, twins[0].folder_id);
		assert_true(twins[i].status == APPLY_APPLIED || twins[i].status == APPLY_DUPLICATE);
		applied += twins[i].status == APPLY_APPLIED;
	}
	assert_int_equal(applied, 1);
	assert_int_equal(testing_i64(&t, "select max(seq) from tenants"), head + 2);
	balance(0, 0, 0);
	content_free(content);
	pthread_barrier_destroy(&start);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_books),
	    CASE(test_twins),
	};
	return RUN_ON_BOTH("account", tests);
}
