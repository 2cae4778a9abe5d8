/* What a device remembers: everything up to the last flush, after a crash too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/replica.h"

static char dir[64], file[96];
static struct arena arena;
static struct ctx ctx;

static int setup(void **s)
{
	(void)s;
	snprintf(dir, sizeof dir, "/tmp/scaidrive-replica-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof file, "%s/r.db", dir);
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	return 0;
}

static int teardown(void **s)
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	(void)s;
	for (size_t i = 0; i < 3; i++)
		unlink(arena_fmt(&arena, "%s%s", file, ends[i]).p);
	arena_fini(&arena);
	return rmdir(dir);
}

static struct node_facts node(int64_t id, int64_t parent, const char *name, bool is_file)
{
	struct node_facts f = {.id = id, .parent = parent, .name = str_c(name), .kind = is_file ? NODE_FILE : NODE_FOLDER};
	if (is_file) {
		f.checksum.b[0] = (uint8_t)id;
		f.size_bytes = INT64_C(1) << 40;
		f.version_id = 7;
		f.version = 3;
		f.executable = true;
		f.mtime_us = -5;
		f.stamp = (struct disk_stamp){.dev = UINT64_MAX, .ino = 9, .birth_ns = 1, .mtime_ns = -2, .ctime_ns = 3, .size_bytes = INT64_C(1) << 40};
	}
	return f;
}

static void put(struct replica *r, enum replica_tree t, int64_t id, int64_t parent, const char *name, bool is_file)
{
	struct node_facts f = node(id, parent, name, is_file);
	assert_true(replica_put(r, t, &f));
}

static void everything_comes_back(void **s)
{
	(void)s;
	struct replica r;
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	assert_true(r.cursor == -1 && r.marker.n && !r.problem.p);
	struct str marker = arena_str(&arena, r.marker);
	for (int t = 0; t < REPLICA_TREES; t++) {
		put(&r, t, 5, TREE_ROOT, "folder", false); /* a parent with the larger id */
		put(&r, t, 2, 5, "file", true);
	}
	r.cursor = 77;
	replica_set_str(&r, &r.share, STR("shr_1"));
	replica_set_problem(&r, STR("away"), 99);
	replica_set_leaving(&r, 2, true);
	replica_set_leaving(&r, 5, true);
	assert_int_equal(replica_flush(&ctx, &r), 0);
	replica_close(&r);
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	assert_true(r.cursor == 77 && str_eq(r.marker, marker) && str_eq(r.share, STR("shr_1")));
	assert_true(str_eq(r.problem, STR("away")) && r.problem_us == 99);
	struct node_facts want = node(2, 5, "file", true);
	for (int t = 0; t < REPLICA_TREES; t++) {
		const struct node *n = tree_get(&r.trees[t], 2);
		assert_non_null(n);
		assert_true(n->f.parent == 5 && str_eq(n->f.name, want.name) && sha256_eq(&n->f.checksum, &want.checksum));
		assert_true(n->f.executable && n->f.mtime_us == -5 && n->f.version_id == 7 && n->f.version == 3);
		assert_memory_equal(&n->f.stamp, &want.stamp, sizeof want.stamp);
	}
	assert_true(r.leaving.count == 2 && map_get(&r.leaving, 2) && map_get(&r.leaving, 5));
	replica_set_leaving(&r, 5, false); /* nothing else is to be written */
	assert_int_equal(replica_flush(&ctx, &r), 0);
	replica_close(&r);
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	assert_true(r.leaving.count == 1 && map_get(&r.leaving, 2));
	replica_del(&r, REPLICA_LOCAL, 5);
	assert_true(replica_rename_id(&r, 2, 2));
	replica_set_problem(&r, STR_NULL, 0);
	assert_int_equal(replica_flush(&ctx, &r), 0);
	replica_close(&r);
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	assert_true(r.trees[REPLICA_LOCAL].count == 0 && r.trees[REPLICA_REMOTE].count == 2 && !r.problem.p);
	replica_close(&r);
}

/* What was agreed is found by its content, and only as long as it is. */
static void content_is_found(void **s)
{
	(void)s;
	struct replica r;
	struct node_facts f = node(3, TREE_ROOT, "a", true), later = f;
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	assert_null(replica_same_content(&r, &f.checksum, f.size_bytes));
	assert_true(replica_put(&r, REPLICA_SYNCED, &f));
	const struct node_facts *found = replica_same_content(&r, &f.checksum, f.size_bytes);
	assert_true(found && found->id == 3 && found->version_id == 7);
	assert_null(replica_same_content(&r, &f.checksum, f.size_bytes + 1));
	struct sha256 near = f.checksum;
	near.b[31] ^= 1;
	assert_null(replica_same_content(&r, &near, f.size_bytes));
	later.checksum.b[0] = 99;
	assert_true(replica_put(&r, REPLICA_SYNCED, &later));
	assert_null(replica_same_content(&r, &f.checksum, f.size_bytes));
	assert_non_null(replica_same_content(&r, &later.checksum, f.size_bytes));
	for (int i = 0; i < 3000; i++) { /* what is forgotten does not pile up */
		memcpy(later.checksum.b, &(uint64_t){(uint64_t)i << 8}, 8);
		assert_true(replica_put(&r, REPLICA_SYNCED, &later) && replica_same_content(&r, &later.checksum, f.size_bytes));
	}
	assert_true(r.by_content.count < 1100);
	replica_del(&r, REPLICA_SYNCED, 3);
	assert_null(replica_same_content(&r, &later.checksum, f.size_bytes));
	replica_close(&r);
}

static void keep_layout(struct replica *r, int64_t id, int64_t version_id, const char *chunks)
{
	struct buf text = {0};
	for (; *chunks; chunks++)
		layout_put(&text, &(struct sha256){{(uint8_t)*chunks}}, 1000);
	replica_keep_layout(r, id, version_id, &text);
}

/* Of the layouts that were flushed, of files that are still agreed, the one that has most in common. */
static void what_resembles_is_found(void **s)
{
	(void)s;
	struct replica r;
	struct layout like;
	struct buf text = {0};
	int64_t id = 0, version_id = 0;
	const char *const chunks = "abcd";
	for (size_t i = 0; i < 4; i++)
		layout_put(&text, &(struct sha256){{(uint8_t)chunks[i]}}, 1000);
	assert_int_equal(layout_read(&like, buf_as_str(&text)), 0);
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	for (int64_t i = 2; i < 5; i++)
		put(&r, REPLICA_SYNCED, i, TREE_ROOT, (char[]){(char)('a' + i), 0}, true);
	keep_layout(&r, 2, 7, "xaxyx");
	keep_layout(&r, 3, 8, "dyyyyycb");
	keep_layout(&r, 4, 9, "xyz");
	keep_layout(&r, 5, 10, "abcd"); /* of a file that is not agreed */
	assert_int_equal(replica_similar(&r, &like, &id, &version_id), 0);
	assert_int_equal(replica_flush(&ctx, &r), 0);
	assert_int_equal(replica_similar(&r, &like, &id, &version_id), 3000);
	assert_true(id == 3 && version_id == 8);
	keep_layout(&r, 3, 11, "xyz"); /* its next version */
	assert_int_equal(replica_flush(&ctx, &r), 0);
	assert_int_equal(replica_similar(&r, &like, &id, &version_id), 1000);
	assert_true(id == 2 && version_id == 7);
	replica_del(&r, REPLICA_SYNCED, 2);
	assert_int_equal(replica_flush(&ctx, &r), 0);
	assert_int_equal(replica_similar(&r, &like, &id, &version_id), 0);
	replica_close(&r);
	layout_fini(&like);
	buf_fini(&text);
}

/* The process dies with changes in memory: the state before them is whole. */
static void a_crash_between_flushes(void **s)
{
	(void)s;
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		struct replica r;
		if (replica_open(&ctx, file, &r))
			_exit(1);
		put(&r, REPLICA_SYNCED, 1, TREE_ROOT, "kept", true);
		r.cursor = 5;
		r.meta_dirty = true;
		if (replica_flush(&ctx, &r))
			_exit(1);
		put(&r, REPLICA_SYNCED, 2, TREE_ROOT, "lost", true);
		replica_del(&r, REPLICA_SYNCED, 1);
		r.cursor = 6;
		_exit(0); /* nothing is closed */
	}
	int status;
	assert_true(waitpid(child, &status, 0) == child && status == 0);
	struct replica r;
	assert_int_equal(replica_open(&ctx, file, &r), 0);
	assert_true(r.cursor == 5 && r.trees[REPLICA_SYNCED].count == 1 && tree_get(&r.trees[REPLICA_SYNCED], 1));
	replica_close(&r);
}

static void a_damaged_file_says_what_to_do(void **s)
{
	(void)s;
	struct replica r;
	FILE *f = fopen(file, "w");
	assert_non_null(f);
	fputs("this is no database, however long one looks at it; it is only text, and more of it than a header has", f);
	fclose(f);
	int err = replica_open(&ctx, file, &r);
	assert_int_not_equal(err, 0);
	assert_true(strstr(arena_cstr(&arena, ctx_detail(&ctx, err)), "Move it away") != NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(everything_comes_back), T(content_is_found), T(what_resembles_is_found),
	                                   T(a_crash_between_flushes), T(a_damaged_file_says_what_to_do)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
