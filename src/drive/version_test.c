/* Versions: every way in, every strategy, quotas, copies, content. Both engines. */
#include "drive/cast_testing.h"

static void assert_content(struct node *n, int64_t number, const char *want)
{
	struct file_content c;
	char got[256];
	size_t size;
	assert_int_equal(file_content_open(&bob, n->id, number, true, &c), 0);
	assert_int_equal(content_read(c.reader, 0, got, sizeof got, &size), 0);
	assert_int_equal(size, strlen(want));
	assert_memory_equal(got, want, size);
	file_content_close(&c);
}

static int64_t used(void)
{
	return testing_i64(&t, "select used_bytes - (select coalesce(sum(size_bytes), 0) from versions) from shares");
}

static int put(int64_t file_id, int64_t base, enum resolve_strategy strategy, const char *bytes, struct version_result *r)
{
	ctx_clear(&bob);
	return testing_edit(&t, &bob, file_id, base, strategy, str_c(bytes), r);
}

static void test_replace(void **state)
{
	(void)state;
	struct node f = file(0, "f.txt", "one");
	struct version_result r;
	assert_int_equal(put(f.id, f.version_id, RESOLVE_NONE, "two", &r), 0);
	assert_int_equal(r.fate, VERSION_HEAD);
	assert_int_equal(r.node.version, 2);
	assert_int_equal(put(f.id, f.version_id, RESOLVE_NONE, "three", &r), E_VERSION_STALE);
	assert_int_equal(put(f.id, 0, RESOLVE_NONE, "three", &r), 0); /* no base was named: the head is it */
	assert_int_equal(r.node.version, 3);
	int64_t changes = testing_i64(&t, "select count(*) from changes");
	assert_int_equal(put(f.id, f.version_id, RESOLVE_NONE, "three", &r), 0); /* the reply was lost, it comes again */
	assert_int_equal(r.fate, VERSION_UNCHANGED);
	assert_int_equal(r.version.number, 3);
	assert_int_equal(testing_i64(&t, "select count(*) from changes"), changes);
	assert_content(&f, 0, "three");
	assert_content(&f, 1, "one");
	assert_content(&f, 2, "two");
	struct file_versions v;
	assert_int_equal(drive_file_versions(&bob, f.id, false, 0, 0, &v), 0);
	assert_int_equal(v.total, 3);
	assert_int_equal(v.items[0].number, 3);
	assert_int_equal(used(), 0);
	assert_int_equal(testing_i64(&t, "select used_bytes from shares"), 11);
}

static void test_strategies(void **state)
{
	(void)state;
	static const struct {
		enum resolve_strategy strategy;
		enum version_fate fate;
		bool copy, open;
	} cases[] = {
	    {RESOLVE_LAST_WRITER_WINS, VERSION_HEAD, false, false}, {RESOLVE_CLIENT_WINS, VERSION_HEAD, false, false},
	    {RESOLVE_SERVER_WINS, VERSION_KEPT, false, false},      {RESOLVE_MANUAL, VERSION_KEPT, false, true},
	    {RESOLVE_KEEP_BOTH, VERSION_KEPT, true, false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[] = "f0.txt";
		name[1] = (char)('0' + i);
		struct node f = file(0, name, "base"), n;
		struct version_result r;
		assert_int_equal(put(f.id, f.version_id, RESOLVE_NONE, "theirs", &r), 0);
		int64_t head = r.node.version_id;
		struct version_result again;
		bob.idempotency_key = arena_fmt(bob.arena, "conflict-%zu", i);
		assert_int_equal(put(f.id, f.version_id, cases[i].strategy, "mine", &r), 0);
		assert_int_equal(put(f.id, f.version_id, cases[i].strategy, "mine", &again), 0);
		bob.idempotency_key = STR_NULL;
		assert_int_equal(again.version.id, r.version.id);
		assert_true(again.has_conflict);
		assert_int_equal(again.conflict.id, r.conflict.id);
		assert_int_equal(again.has_copy, r.has_copy);
		assert_int_equal(again.has_copy ? again.copy.id : 0, r.has_copy ? r.copy.id : 0);
		assert_int_equal(r.fate, cases[i].fate);
		assert_int_equal(r.version.number, 3);
		assert_true(r.has_conflict);
		assert_int_equal(r.conflict.resolved_at == 0, cases[i].open);
		assert_int_equal(r.conflict.server_version_id, head);
		assert_int_equal(r.conflict.local_version_id, r.version.id);
		assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &n), 0);
		assert_int_equal(n.version, cases[i].fate == VERSION_HEAD ? 3 : 2);
		assert_int_equal(n.last_version, 3);
		assert_content(&f, 2, "theirs"); /* nothing is ever dropped */
		assert_content(&f, 3, "mine");
		assert_int_equal(r.has_copy, cases[i].copy);
		if (r.has_copy) {
			assert_true(str_starts(r.copy.name, STR("f4 (conflicted copy Bob Baker ")));
			assert_true(str_ends(r.copy.name, STR(").txt")));
			assert_content(&r.copy, 0, "mine");
			assert_int_equal(put(f.id, f.version_id, RESOLVE_KEEP_BOTH, "mine again", &again), 0);
			assert_true(again.has_copy);
			assert_false(str_eq(again.copy.name, r.copy.name));
		}
		assert_int_equal(used(), 0);
	}
}

static void test_edit_beats_delete(void **state)
{
	(void)state;
	struct node f = file(0, "f.txt", "base");
	struct version_result r;
	struct node_delete del = {.id = f.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FILE, &del), 0);
	assert_int_equal(put(f.id, f.version_id, RESOLVE_NONE, "edit", &r), E_GONE);
	assert_int_equal(put(f.id, f.version_id, RESOLVE_MANUAL, "edit", &r), 0);
	assert_int_equal(r.fate, VERSION_KEPT);
	assert_true(r.node.in_trash);
	assert_int_equal(put(f.id, f.version_id, RESOLVE_LAST_WRITER_WINS, "edit 2", &r), 0);
	assert_int_equal(r.fate, VERSION_HEAD);
	assert_false(r.node.in_trash);
	assert_int_equal(r.conflict.type, CONFLICT_EDIT_DELETE);
	assert_content(&f, 0, "edit 2");
	assert_int_equal(used(), 0);
}

struct promote {
	int64_t file_id, version_id, base;
	enum resolve_strategy strategy;
	struct version_result out;
};

static int promote_op(struct dtx *tx, void *arg)
{
	struct promote *p = arg;
	struct node n;
	int err = node_load(tx, p->file_id, NODE_FILE, RIGHT_WRITE, &n);
	return err ? err : version_promote(tx, &n, p->version_id, p->base, p->strategy, STR_NULL, &p->out);
}

static void test_staged(void **state)
{
	(void)state;
	struct node f = file(0, "f", "base"), n;
	struct content *content = testing_content(&t, t.tenant_id, STR("staged"));
	struct version_put in = {.replace_file_id = f.id, .staged = true, .content = content};
	struct version_result r;
	assert_int_equal(drive_file_put(&bob, &in, &r), 0);
	assert_int_equal(r.fate, VERSION_STAGED);
	assert_int_equal(r.version.number, 0);
	in = (struct version_put){.share_id = share, .name = STR("new"), .staged = true, .content = content};
	struct version_result none;
	assert_int_equal(drive_file_put(&bob, &in, &none), E_INVALID);
	content_free(content);
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &n), 0);
	assert_int_equal(n.version, 1);
	assert_int_equal(testing_i64(&t, "select used_bytes from shares"), 10); /* it counts */
	struct file_versions v;
	assert_int_equal(drive_file_versions(&bob, f.id, false, 0, 0, &v), 0);
	assert_int_equal(v.total, 1);
	struct promote p = {f.id, r.version.id, f.version_id, RESOLVE_NONE, {0}};
	assert_int_equal(drive_write(&ada, promote_op, &p), E_SYNC_CONFLICT); /* another's stage, also for administrators */
	assert_int_equal(drive_write(&bob, promote_op, &p), 0);
	assert_int_equal(p.out.fate, VERSION_HEAD);
	assert_int_equal(p.out.node.version_id, r.version.id);
	assert_int_equal(p.out.version.number, 2);
	assert_int_equal(drive_write(&bob, promote_op, &p), 0); /* twice is once */
	assert_int_equal(p.out.fate, VERSION_UNCHANGED);
	assert_content(&f, 0, "staged");
	assert_int_equal(used(), 0);
	/* A stage with the head's bytes comes to nothing; it waits for a retry until its time is over. */
	content = testing_content(&t, t.tenant_id, STR("staged"));
	in = (struct version_put){.replace_file_id = f.id, .staged = true, .content = content};
	assert_int_equal(drive_file_put(&bob, &in, &r), 0);
	content_free(content);
	p.version_id = r.version.id;
	assert_int_equal(drive_write(&bob, promote_op, &p), 0);
	assert_int_equal(p.out.fate, VERSION_UNCHANGED);
	assert_int_equal(p.out.version.number, 2);
	assert_int_equal(used(), 0);
	/* A stage ends after a day, and its bytes are given back. */
	content = testing_content(&t, t.tenant_id, STR("late"));
	in = (struct version_put){.replace_file_id = f.id, .staged = true, .content = content};
	assert_int_equal(drive_file_put(&bob, &in, &r), 0);
	content_free(content);
	t.clock.offset_us += SECONDS_US(25 * 3600);
	p.version_id = r.version.id;
	assert_int_equal(drive_write(&bob, promote_op, &p), E_SYNC_CONFLICT);
	int64_t removed;
	assert_int_equal(drive_version_sweep(&bob, &removed), 0);
	assert_int_equal(removed, 2);
	assert_int_equal(used(), 0);
	assert_int_equal(testing_i64(&t, "select count(*) from versions"), 2);
}

static void test_restore_version(void **state)
{
	(void)state;
	struct node f = file(0, "f", "one");
	struct version_result r;
	for (int i = 2; i <= 4; i++)
		assert_int_equal(put(f.id, 0, RESOLVE_NONE, arena_fmt(&arena, "v%d", i).p, &r), 0);
	assert_int_equal(drive_file_version_restore(&bob, f.id, 2, &r), 0);
	assert_int_equal(r.node.version, 5);
	assert_content(&f, 5, "v2");
	assert_content(&f, 4, "v4");
	assert_int_equal(drive_file_version_restore(&bob, f.id, 9, &r), E_NOT_FOUND);
	assert_int_equal(drive_file_version_restore(&cleo, f.id, 1, &r), E_NOT_FOUND);
	assert_int_equal(used(), 0);
}

static void test_quota(void **state)
{
	(void)state;
	struct share s;
	struct share_patch patch = {.id = share, .has_quota = true, .quota_bytes = 10};
	assert_int_equal(drive_share_patch(&bob, &patch, &s), E_FORBIDDEN);
	assert_int_equal(drive_share_patch(&ada, &patch, &s), 0);
	struct node f = file(0, "f", "12345"), n;
	struct version_result r;
	assert_int_equal(put(f.id, 0, RESOLVE_NONE, "123456", &r), E_QUOTA);
	assert_non_null(strstr(bob.detail.p, "share"));
	assert_int_equal(put(f.id, 0, RESOLVE_NONE, "54321", &r), 0);
	ctx_clear(&bob);
	assert_int_equal(testing_file(&t, &bob, share, 0, "g", STR("1"), &n), E_QUOTA);
	struct node_delete del = {.id = f.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FILE, &del), 0);
	assert_int_equal(testing_file(&t, &bob, share, 0, "g", STR("1"), &n), E_QUOTA); /* the trash counts */
	del.permanent = true;
	assert_int_equal(drive_node_delete(&bob, NODE_FILE, &del), 0);
	assert_int_equal(testing_file(&t, &bob, share, 0, "g", STR("1"), &n), 0);
	assert_int_equal(used(), 0);
}

static void test_copy(void **state)
{
	(void)state;
	struct node f = file(0, "f.txt", "content"), n;
	struct node_place in = {.id = f.id, .target_share_id = share};
	assert_int_equal(drive_file_copy(&bob, &in, &n), 0);
	assert_str(n.name, "f (2).txt");
	in.name = STR("F.TXT");
	assert_int_equal(drive_file_copy(&bob, &in, &n), E_NAME_CONFLICT);
	ctx_clear(&bob);
	int64_t other = testing_share(&bob, "Other");
	in = (struct node_place){.id = f.id, .target_share_id = other};
	assert_int_equal(drive_file_copy(&bob, &in, &n), 0);
	assert_int_equal(n.share_id, other);
	assert_int_equal(n.version, 1);
	assert_content(&n, 0, "content");
	assert_int_equal(testing_i64(&t, "select used_bytes from shares where name = 'Other'"), 7);
	assert_int_equal(drive_file_copy(&cleo, &in, &n), E_NOT_FOUND);
}

static void test_idempotency(void **state)
{
	(void)state;
	struct content *content = testing_content(&t, t.tenant_id, STR("abc"));
	struct version_put in = {.share_id = share, .name = STR("f"), .content = content};
	struct version_result a, b;
	bob.idempotency_key = STR("key-1");
	assert_int_equal(drive_file_put(&bob, &in, &a), 0);
	assert_int_equal(drive_file_put(&bob, &in, &b), 0);
	assert_int_equal(a.node.id, b.node.id);
	in.name = STR("g");
	assert_int_equal(drive_file_put(&bob, &in, &b), E_IDEMPOTENCY);
	content_free(content);
	assert_int_equal(testing_i64(&t, "select count(*) from nodes where kind = 2"), 1);
}

static void test_attributes(void **state)
{
	(void)state;
	struct node f = file(0, "f", "abc"), n;
	int64_t changes = testing_i64(&t, "select count(*) from changes");
	struct node_patch p = {.id = f.id, .has_mtime = true, .mtime_us = 1234567, .has_executable = true, .executable = true};
	assert_int_equal(drive_node_patch(&bob, NODE_FILE, &p, &n), 0);
	assert_int_equal(drive_node_patch(&bob, NODE_FILE, &p, &n), 0); /* the second time nothing is new */
	assert_int_equal(n.mtime_us, 1234567);
	assert_true(n.executable);
	assert_int_equal(n.version, 1);
	assert_int_equal(testing_i64(&t, "select count(*) from changes"), changes + 1);
	assert_int_equal(drive_node_patch(&cleo, NODE_FILE, &p, &n), E_NOT_FOUND);
}

/* A repeated key answers with what the first request did, and does not undo what came between. */
static void test_done_once(void **state)
{
	(void)state;
	struct node f = file(0, "f", "one"), a, b, n;
	struct version_result r, again;
	assert_int_equal(testing_folder(&bob, share, 0, "a", &a), 0);
	assert_int_equal(testing_folder(&bob, share, 0, "b", &b), 0);
	assert_int_equal(put(f.id, f.version_id, RESOLVE_NONE, "two", &r), 0);
	struct node_place to_a = {.id = f.id, .target_folder_id = a.id}, to_b = {.id = f.id, .target_folder_id = b.id};
	bob.idempotency_key = STR("move-1");
	assert_int_equal(drive_node_move(&bob, NODE_FILE, &to_a, &n), 0);
	bob.idempotency_key = STR_NULL;
	assert_int_equal(drive_node_move(&bob, NODE_FILE, &to_b, &n), 0);
	bob.idempotency_key = STR("move-1");
	assert_int_equal(drive_node_move(&bob, NODE_FILE, &to_a, &n), 0);
	assert_int_equal(n.id, f.id);
	assert_int_equal(n.parent_id, b.id);
	assert_int_equal(drive_node_move(&bob, NODE_FILE, &to_b, &n), E_IDEMPOTENCY);
	bob.idempotency_key = STR("restore-1");
	assert_int_equal(drive_file_version_restore(&bob, f.id, 1, &r), 0);
	assert_int_equal(r.version.number, 3);
	bob.idempotency_key = STR_NULL;
	assert_int_equal(put(f.id, r.version.id, RESOLVE_NONE, "four", &again), 0);
	bob.idempotency_key = STR("restore-1");
	assert_int_equal(drive_file_version_restore(&bob, f.id, 1, &again), 0);
	assert_int_equal(again.version.id, r.version.id);
	assert_int_equal(again.version.number, 3);
	assert_int_equal(again.node.version, 4);
	assert_content(&f, 0, "four");
	/* the same for folders */
	to_a = (struct node_place){.id = b.id, .target_folder_id = a.id};
	to_b = (struct node_place){.id = b.id, .target_share_id = share};
	bob.idempotency_key = STR("move-2");
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &to_a, &n), 0);
	bob.idempotency_key = STR_NULL;
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &to_b, &n), 0);
	bob.idempotency_key = STR("move-2");
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &to_a, &n), 0);
	assert_true(n.parent_is_root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_replace),
	    CASE(test_strategies),
	    CASE(test_edit_beats_delete),
	    CASE(test_staged),
	    CASE(test_restore_version),
	    CASE(test_quota),
	    CASE(test_copy),
	    CASE(test_idempotency),
	    CASE(test_attributes),
	    CASE(test_done_once),
	};
	return RUN_ON_BOTH("version", tests);
}
