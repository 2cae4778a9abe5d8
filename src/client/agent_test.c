/* One agent on a real folder, with a server that says what the test wants: what it pulls, what it may delete, what it believes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/id.h"
#include "client/agent_priv.h"

static char base[64], top[80], file[80];
static struct arena arena;
static struct ctx ctx;
static struct root *root;
static struct replica replica;
static struct agent agent;
static struct agent_round rounds;
static int events, applies, snapshots, asked;
static bool may;

/* The server: its nodes and its head; changes are always answered from the snapshot's cursor on: none, or a refusal. */
static struct fake {
	struct http_client face;
	struct {
		const char *name, *text;
		int64_t id, version_id; /* version_id: 0: the next number */
	} files[64];
	int64_t restored_behind; /* the newest version that a restore left; 0: there was none */
	int n;
	int64_t head;
	bool refuse_cursor, refuse_all;
} server;

static void put_id(struct buf *b, const char *key, enum id_kind kind, int64_t id)
{
	buf_fmt(b, ",\"%s\":\"", key);
	buf_id(b, kind, id);
	buf_char(b, '"');
}

static void put_snapshot(struct buf *b)
{
	buf_lit(b, "{\"nodes\":[");
	for (int i = 0; i < server.n; i++) {
		struct sha256 sum = sha256_of(server.files[i].text, strlen(server.files[i].text));
		char hex[64];
		hex_encode(sum.b, 32, hex);
		buf_fmt(b, "%s{\"type\":\"file\",\"name\":\"%s\",\"size\":%zu,\"version\":1,\"checksum_sha256\":\"%.64s\"", i ? "," : "",
		        server.files[i].name, strlen(server.files[i].text), hex);
		put_id(b, "id", ID_FILE, server.files[i].id);
		put_id(b, "version_id", ID_VERSION, server.files[i].version_id ? server.files[i].version_id : server.files[i].id + 1);
		buf_lit(b, ",\"parent_id\":null}");
	}
	buf_fmt(b, "],\"cursor\":%lld,\"has_more\":false", (long long)server.head);
	if (server.restored_behind) {
		buf_lit(b, ",\"restores\":[{\"cursor\":1");
		put_id(b, "version_id", ID_VERSION, server.restored_behind);
		buf_lit(b, "}]");
	}
	buf_char(b, '}');
}

static int answer(struct http_call *call, int status, const char *text)
{
	call->status = status;
	buf_str(&call->reply, str_c(text));
	return 0;
}

static int fake_call(struct http_client *self, struct ctx *c, struct http_call *call)
{
	(void)self;
	call->is_json = true;
	call->status = 200;
	if (server.refuse_all)
		return ctx_fail(c, E_NETWORK, "no network");
	if (str_starts(call->path, STR("/api/v1/sync/snapshot"))) {
		snapshots++;
		put_snapshot(&call->reply);
	} else if (str_starts(call->path, STR("/api/v1/sync/changes"))) {
		if (server.refuse_cursor && !snapshots)
			return answer(call, 400, "{\"detail\":\"no\",\"error\":{\"code\":\"SYNC_CURSOR_INVALID\",\"message\":\"no\"}}");
		buf_fmt(&call->reply, "{\"changes\":[],\"cursor\":%lld,\"has_more\":false}", (long long)server.head);
	} else if (str_starts(call->path, STR("/api/v1/sync/download/"))) {
		for (int i = 0; i < server.n; i++) {
			struct buf id = {0};
			buf_id(&id, ID_FILE, server.files[i].id);
			bool wanted = memmem(call->path.p, call->path.n, id.p, id.n) != NULL;
			buf_fini(&id);
			if (wanted)
				return call->sink->write(call->sink, server.files[i].text, strlen(server.files[i].text));
		}
		return answer(call, 404, "{\"detail\":\"no\"}");
	} else if (str_starts(call->path, STR("/api/v1/sync/apply"))) {
		applies++;
		return answer(call, 503, "{\"detail\":\"later\"}");
	} else {
		return answer(call, 200, "{}");
	}
	return 0;
}

static struct remote remote = {.http = &server.face, .token = {"tok", 3}, .device_id = {"dev", 3}};

static void on_event(void *arg, const struct agent_event *e)
{
	(void)arg;
	assert_true(e->why.n > 0 && e->path.n > 0);
	events++;
}

static bool confirmed(void *arg, const struct plan *p, const struct guard_verdict *v)
{
	(void)arg, (void)p;
	asked = (int)(v->remote + v->local);
	return may;
}

static int setup(void **s)
{
	(void)s;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	snprintf(base, sizeof base, "/tmp/scaidrive-agent-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(top, sizeof top, "%s/top", base);
	snprintf(file, sizeof file, "%s/db", base);
	events = applies = snapshots = asked = 0;
	may = false;
	server = (struct fake){.face = {.call = fake_call}, .head = 10};
	assert_int_equal(replica_open(&ctx, file, &replica), 0);
	replica_set_str(&replica, &replica.share, STR("shr_1"));
	struct root_mark mark = {replica.marker, STR("shr_1"), STR("http://a")};
	assert_int_equal(root_open(&ctx, top, true, &mark, &root), 0);
	agent_init(&agent, root, &replica, &remote);
	agent.one_by_one = true; /* bulk calls have tests of their own */
	agent.on_event = on_event;
	agent.confirmed = confirmed;
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	agent_fini(&agent);
	root_free(root);
	replica_close(&replica);
	arena_fini(&arena);
	char command[128];
	snprintf(command, sizeof command, "rm -r %s", base);
	return system(command);
}

static void serve(const char *name, const char *text, int64_t id)
{
	server.files[server.n].name = name;
	server.files[server.n].text = text;
	server.files[server.n++].id = id;
}

static const char *path_of(const char *name)
{
	return arena_fmt(&arena, "%s/%s", top, name).p;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static bool holds(const char *name, const char *text)
{
	char got[64] = "";
	FILE *f = fopen(path_of(name), "r");
	if (!f)
		return false;
	size_t n = fread(got, 1, sizeof got - 1, f);
	fclose(f);
	got[n] = 0;
	return strcmp(got, text) == 0;
}

static int settle(void)
{
	ctx_clear(&ctx);
	for (int i = 0; i < 20; i++) {
		int err = agent_settle(&ctx, &agent, &rounds);
		if (err || rounds.in_step)
			return err;
		usleep(40000);
	}
	return 0;
}

static void it_fetches_and_is_in_step(void **s)
{
	(void)s;
	serve("one", "1", 100);
	serve("two", "22", 200);
	assert_int_equal(settle(), 0);
	assert_true(rounds.in_step && holds("one", "1") && holds("two", "22"));
	assert_int_equal(events, 2);
	assert_int_equal(replica.cursor, 10);
	assert_int_equal(replica.trees[REPLICA_SYNCED].count, 2);
	assert_int_equal(snapshots, 1);
	assert_int_equal(settle(), 0);
	assert_int_equal(events, 2); /* a fixpoint */
}

static void content_of_another_checksum_is_not_used(void **s)
{
	(void)s;
	serve("one", "1", 100);
	assert_int_equal(settle(), 0);
	serve("bad", "good", 300);
	agent.reread = true;
	snapshots = 0;
	assert_int_equal(agent_round(&ctx, &agent, &rounds), 0);
	assert_true(holds("bad", "good"));
	assert_int_equal(unlink(path_of("bad")), 0);
	write_file("bad", "mine");
	server.files[1].text = "other"; /* the trees say another checksum than what comes */
	struct node_facts f = tree_get(&replica.trees[REPLICA_REMOTE], 300)->f;
	f.version_id += 5;
	f.checksum = sha256_of("wrong", 5);
	f.size_bytes = 5;
	f.name = STR("third");
	f.id = 400;
	assert_true(replica_put(&replica, REPLICA_REMOTE, &f));
	agent.scan_wanted = true;
	agent_settle(&ctx, &agent, &rounds);
	assert_false(holds("third", "other"));
	assert_true(holds("bad", "mine"));
}

static void a_dead_network_changes_nothing(void **s)
{
	(void)s;
	serve("one", "1", 100);
	assert_int_equal(settle(), 0);
	server.refuse_all = true;
	server.n = 0;
	ctx_clear(&ctx);
	assert_int_equal(agent_round(&ctx, &agent, &rounds), E_NETWORK);
	assert_true(holds("one", "1"));
	assert_int_equal(replica.trees[REPLICA_SYNCED].count, 1);
}

static void many(void)
{
	for (int i = 0; i < 20; i++)
		serve(arena_fmt(&arena, "file-%d", i).p, "x", 100 + i * 10);
	assert_int_equal(settle(), 0);
	assert_true(rounds.in_step);
}

static void many_deletions_wait_for_a_word(void **s)
{
	(void)s;
	many();
	for (int i = 0; i < 15; i++)
		assert_int_equal(unlink(path_of(arena_fmt(&arena, "file-%d", i).p)), 0);
	agent.scan_wanted = true;
	assert_int_equal(settle(), E_PRECONDITION);
	assert_int_equal(asked, 15);
	assert_int_equal(rounds.guard.remote, 15);
	assert_int_equal(applies, 0);
	may = true;
	ctx_clear(&ctx);
	assert_int_equal(agent_round(&ctx, &agent, &rounds), E_BUSY); /* it asks the server now, which is busy */
	assert_int_equal(applies, 1);
	assert_int_equal(replica.trees[REPLICA_SYNCED].count, 20); /* results, not intentions (I8) */
}

static void a_lost_root_is_no_deletion(void **s)
{
	(void)s;
	many();
	assert_int_equal(rename(top, arena_fmt(&arena, "%s/elsewhere", base).p), 0);
	assert_int_equal(mkdir(top, 0700), 0);
	agent.scan_wanted = true;
	assert_int_equal(settle(), E_NOT_FOUND);
	assert_int_equal(applies, 0);
	assert_int_equal(replica.trees[REPLICA_LOCAL].count, 20);
}

static void what_a_restored_server_lacks_is_new_to_it(void **s)
{
	(void)s;
	many();
	server.n = 5;
	server.head = 3;
	server.refuse_cursor = true;
	snapshots = 0;
	ctx_clear(&ctx);
	agent_round(&ctx, &agent, &rounds); /* what it sends is refused here; what matters is what it keeps */
	assert_int_equal(snapshots, 1);
	assert_int_equal(rounds.guard.local, 0);
	for (int i = 0; i < 20; i++)
		assert_true(holds(arena_fmt(&arena, "file-%d", i).p, "x"));
	assert_int_equal(replica.trees[REPLICA_SYNCED].count, 5);
	assert_int_equal(replica.cursor, 3);
}

/* Its clock is behind the time that was lost, so the new version's id is below the one that was agreed. Here the user changed nothing. */
static void restored(int64_t behind)
{
	many();
	server.files[5].text = "y";
	server.files[5].version_id = server.files[5].id;
	server.restored_behind = behind;
	server.head = 3;
	server.refuse_cursor = true;
	snapshots = 0;
	ctx_clear(&ctx);
	agent_round(&ctx, &agent, &rounds);
}

static void what_came_after_a_restore_is_no_older_version(void **s)
{
	(void)s;
	restored(149);
	assert_null(tree_get(&replica.trees[REPLICA_SYNCED], 150)); /* both were edited */
}

static void what_a_restore_brought_back_is_older(void **s)
{
	(void)s;
	restored(150);
	assert_int_equal(tree_get(&replica.trees[REPLICA_SYNCED], 150)->f.version_id, 150); /* here it was edited since */
}

static const struct root_ops *real;
static int settled, settled_at_rename;

static int counted_settle(struct root *r, struct ctx *c)
{
	settled++;
	return real->settle(r, c);
}

static int counted_rename(struct root *r, struct ctx *c, struct str from, const struct disk_stamp *assumed, struct str to,
                          struct root_entry *out)
{
	settled_at_rename = settled;
	return real->rename(r, c, from, assumed, to, out);
}

/* A copy's new identity is stored before its rename, and with it whatever was agreed just before: that, too, must be on the
 * disk first. */
static void what_is_agreed_beside_a_copy_is_on_the_disk_first(void **s)
{
	(void)s;
	serve("edited", "1", 300);
	assert_int_equal(settle(), 0);
	server.files[0].text = "theirs";
	serve("alike", "same", 100);
	write_file("edited", "mine");
	write_file("alike", "same");
	usleep(40000);
	agent.reread = agent.scan_wanted = true;
	real = root->ops;
	struct root_ops counted = *real;
	counted.settle = counted_settle;
	counted.rename = counted_rename;
	root->ops = &counted;
	settled = settled_at_rename = 0;
	agent_round(&ctx, &agent, &rounds);
	root->ops = real;
	assert_non_null(tree_get(&replica.trees[REPLICA_SYNCED], 100));
	assert_int_equal(agent.stats.copies, 1);
	assert_true(settled_at_rename > 0);
}

static int fails_once(struct root *r, struct ctx *c)
{
	return settled++ ? real->settle(r, c) : ctx_fail(c, E_IO, "the disk failed");
}

/* The kernel tells once that something could not be written, and not of which batch it was: none of them is agreed then. */
static void what_a_failed_sync_may_have_lost_is_not_agreed(void **s)
{
	enum { N = 1001 }; /* a batch and one more */
	static struct job jobs[N];
	struct plan_op op = {.verb = PLAN_FETCH, .remote = {.kind = NODE_FILE, .version_id = 1, .size_bytes = 4, .checksum = sha256_of("twin", 4)}};
	(void)s;
	write_file("twin", "twin");
	for (int i = 0; i < N; i++) {
		struct job *j = &jobs[i];
		*j = (struct job){.agent = &agent, .op = &op, .bulk = true, .twin = STR("twin"), .path = arena_fmt(&arena, "f%d", i)};
		arena_init(&j->arena);
		ctx_init(&j->ctx, &j->arena, ctx.clock, ctx.rng);
	}
	real = root->ops;
	struct root_ops once = *real;
	once.settle = fails_once;
	root->ops = &once;
	settled = 0;
	act_bulk_fetch(&ctx, &agent, jobs, N);
	root->ops = real;
	assert_int_equal(settled, 1);
	for (int i = 0; i < N; i++) {
		assert_int_equal(jobs[i].err, E_IO);
		arena_fini(&jobs[i].arena);
	}
	assert_false(holds("f0", "twin") || holds("f1000", "twin"));
}

static void ends(void)
{
	agent_fini(&agent);
	root_free(root);
	replica_close(&replica);
}

static void starts(void)
{
	struct root_mark mark = {.share = STR("shr_1"), .server = STR("http://a")};
	assert_int_equal(replica_open(&ctx, file, &replica), 0);
	mark.id = replica.marker;
	assert_int_equal(root_open(&ctx, top, false, &mark, &root), 0);
	agent_init(&agent, root, &replica, &remote);
	agent.one_by_one = agent.reread = true;
	agent.on_event = on_event;
}

/* Nothing of what is in memory stays. */
static void ends_there(void)
{
	ends();
	starts();
}

static int settles_until_trashed(struct root *r, struct ctx *c)
{
	return agent.stats.trashed ? ctx_fail(c, E_IO, "the disk is gone") : real->settle(r, c);
}

static struct root_ops failing;

/* Trashed here, and not recorded. Then the process starts again. */
static void trash_unrecorded(void)
{
	server.n = 1;
	usleep(40000);
	agent.reread = agent.scan_wanted = true;
	real = root->ops;
	failing = *real;
	failing.settle = settles_until_trashed;
	root->ops = &failing;
	ctx_clear(&ctx);
	assert_int_equal(agent_round(&ctx, &agent, &rounds), E_IO);
	assert_int_equal(agent.stats.trashed, 1);
	root->ops = real;
	ends_there();
}

static void what_it_trashed_and_could_not_record_was_not_deleted_by_a_user(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	serve("leaves", "22", 200);
	assert_int_equal(settle(), 0);
	trash_unrecorded();
	assert_int_equal(replica.leaving.count, 1);
	assert_non_null(tree_get(&replica.trees[REPLICA_SYNCED], 200));
	server.n = 2; /* it is back */
	assert_int_equal(settle(), 0);
	assert_int_equal(applies, 0);
	assert_true(rounds.in_step && holds("leaves", "22") && holds("stays", "1"));
	assert_int_equal(replica.leaving.count, 0);
	ends_there();
	assert_int_equal(replica.leaving.count, 0); /* nor in the database */
	assert_int_equal(unlink(path_of("leaves")), 0);
	settle(); /* the server is busy */
	assert_true(applies > 0); /* a user's own deletion is one */
}

static void what_is_made_under_the_name_of_what_it_trashed_is_new(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	serve("leaves", "22", 200);
	assert_int_equal(settle(), 0);
	trash_unrecorded();
	write_file("leaves", "mine");
	usleep(40000);
	server.n = 2;
	settle(); /* what is sent is refused here */
	assert_true(holds("leaves", "22")); /* the server's keeps the name, and mine is beside it */
	assert_int_equal(agent.stats.copies + agent.stats.moved, 1);
}

static void in_base(const char *what)
{
	assert_int_equal(system(arena_fmt(&arena, "cd %s && { %s; }", base, what).p), 0);
}

static void copy_state(void)
{
	in_base("rm -rf old && mkdir old && cp db* old");
}

static void put_state_back(void)
{
	in_base("rm -f db* && cp old/* .");
}

/* "leaves" is trashed here, the copy comes back, and so does "leaves" on the server. */
static void nothing_is_deleted_for_the_copy(void)
{
	server.n = 1;
	agent.reread = true;
	assert_int_equal(settle(), 0);
	assert_true(!holds("leaves", "22"));
	ends();
	put_state_back();
	starts();
	server.n = 2;
	assert_int_equal(settle(), 0);
	assert_int_equal(applies, 0);
	assert_true(rounds.in_step && holds("leaves", "22") && holds("stays", "1"));
}

/* What was trashed here since the copy was made, and is back on the server, was deleted by nobody. */
static void an_older_state_is_forgotten(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	serve("leaves", "22", 200);
	assert_int_equal(settle(), 0);
	ends();
	copy_state();
	starts();
	nothing_is_deleted_for_the_copy();
	assert_int_equal(unlink(path_of("leaves")), 0);
	agent.scan_wanted = true;
	settle();
	assert_true(applies > 0); /* this one is the user's */
}

/* A folder that was put back from a backup: what it lacks was deleted by nobody. */
static void an_older_folder_is_compared_anew(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	assert_int_equal(settle(), 0);
	ends();
	in_base("cp -a top top.old");
	for (int i = 0; i < 2; i++) {
		starts();
		assert_int_equal(settle(), 0);
		if (i == 0)
			ends();
	}
	serve("newer", "22", 200);
	agent.reread = true;
	assert_int_equal(settle(), 0);
	assert_true(holds("newer", "22"));
	ends();
	in_base("rm -rf top && mv top.old top");
	starts();
	assert_int_equal(settle(), 0);
	assert_int_equal(applies, 0);
	assert_true(rounds.in_step && holds("stays", "1") && holds("newer", "22"));
}

/* The marker that cannot be written holds up nothing, nor is the state older for it. */
static int cannot_mark(struct root *r, struct ctx *c, int64_t generation)
{
	(void)r, (void)generation;
	return ctx_fail(c, E_NO_SPACE, "no room");
}

static void a_marker_that_cannot_be_written_is_no_other_folder(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	assert_int_equal(settle(), 0);
	for (int i = 0; i < 3; i++) {
		ends();
		starts();
		real = root->ops;
		failing = *real;
		failing.set_generation = cannot_mark;
		root->ops = &failing;
		assert_int_equal(settle(), 0);
		root->ops = real;
		assert_int_equal(replica.generation, root->generation + 1);
	}
	assert_int_equal(unlink(path_of("stays")), 0);
	ends_there();
	settle();
	assert_true(applies > 0); /* a user deleted it */
}

/* A copy that was made while the client ran: what it trashes is told by the marker all the same. */
static void nor_does_a_copy_of_a_running_client_delete(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	serve("leaves", "22", 200);
	assert_int_equal(settle(), 0);
	copy_state();
	nothing_is_deleted_for_the_copy();
}

static void what_was_to_be_trashed_and_is_still_here_is_agreed(void **s)
{
	(void)s;
	serve("stays", "1", 100);
	serve("leaves", "22", 200);
	assert_int_equal(settle(), 0);
	replica_set_leaving(&replica, 200, true);
	assert_int_equal(replica_flush(&ctx, &replica), 0);
	ends_there();
	assert_int_equal(replica.leaving.count, 1);
	assert_int_equal(rename(path_of("leaves"), path_of("moved")), 0);
	server.n = 1;
	assert_int_equal(settle(), 0);
	assert_true(rounds.in_step && access(path_of("moved"), F_OK) != 0);
	assert_int_equal(agent.stats.trashed, 1); /* it is no new file */
	assert_int_equal(replica.leaving.count, 0);
}

static int told;

static void on_item(void *arg, const struct plan_op *op, struct str path, struct str why)
{
	(void)arg;
	assert_true(op->case_no > 0 && path.n && why.n);
	told++;
}

static void looking_does_nothing(void **s)
{
	(void)s;
	serve("one", "1", 100);
	mkdir(path_of("folder"), 0700);
	write_file("folder/mine", "2");
	usleep(40000);
	told = 0;
	assert_int_equal(agent_look(&ctx, &agent, on_item, NULL, &rounds), 0);
	assert_int_equal(told, 3); /* fetch, make_remote, send */
	assert_false(rounds.in_step);
	assert_true(access(path_of("one"), F_OK) != 0 && applies == 0 && events == 0);
	struct replica again;
	assert_int_equal(replica_open(&ctx, file, &again), 0);
	assert_int_equal(again.cursor, -1);
	assert_int_equal(again.trees[REPLICA_REMOTE].count + again.trees[REPLICA_LOCAL].count, 0);
	replica_close(&again);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(it_fetches_and_is_in_step), T(content_of_another_checksum_is_not_used),
	                                   T(a_dead_network_changes_nothing), T(many_deletions_wait_for_a_word),
	                                   T(a_lost_root_is_no_deletion), T(what_a_restored_server_lacks_is_new_to_it),
	                                   T(what_came_after_a_restore_is_no_older_version), T(what_a_restore_brought_back_is_older),
	                                   T(what_is_agreed_beside_a_copy_is_on_the_disk_first),
	                                   T(what_a_failed_sync_may_have_lost_is_not_agreed),
	                                   T(what_it_trashed_and_could_not_record_was_not_deleted_by_a_user),
	                                   T(what_is_made_under_the_name_of_what_it_trashed_is_new),
	                                   T(what_was_to_be_trashed_and_is_still_here_is_agreed),
	                                   T(an_older_state_is_forgotten),
	                                   T(an_older_folder_is_compared_anew), T(a_marker_that_cannot_be_written_is_no_other_folder),
	                                   T(nor_does_a_copy_of_a_running_client_delete), T(looking_does_nothing)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
