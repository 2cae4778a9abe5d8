/* Nodes, folders, the trash, names, moves: on SQLite, and on PostgreSQL when SCAIDRIVE_TEST_PG holds a URL. */
#include <stdatomic.h>
#include <pthread.h>

#include "base/limits.h"
#include "base/must.h"
#include "drive/cast_testing.h"

static struct change_page page(struct ctx *ctx, int64_t share_id, int64_t from)
{
	struct change_page p;
	struct change_page_in in = {share_id, arena_fmt(&arena, "%lld", (long long)from), 5000};
	assert_int_equal(change_page_read(ctx, &in, &p), 0);
	return p;
}

static int64_t head(void)
{
	struct change_page p;
	struct change_page_in in = {share, STR_NULL, 1};
	assert_int_equal(change_page_read(&bob, &in, &p), 0);
	assert_int_equal(p.n_items, 0);
	return p.cursor;
}

static void test_create_and_paths(void **state)
{
	(void)state;
	struct node a = folder(0, "A"), b = folder(a.id, "b"), f = file(b.id, "f.txt", "hello"), got;
	assert_str(a.path, "/A");
	assert_true(a.parent_is_root);
	assert_str(f.path, "/A/b/f.txt");
	assert_false(f.parent_is_root);
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &got), 0);
	assert_str(got.path, "/A/b/f.txt");
	assert_int_equal(got.n_ancestors, 3);
	assert_int_equal(got.ancestors[1], a.id);
	assert_int_equal(got.version, 1);
	assert_int_equal(got.size_bytes, 5);
	assert_str(got.mime_type, "text/plain");
	assert_int_equal(drive_node_get(&bob, NODE_FOLDER, f.id, false, &got), E_NOT_FOUND);
	assert_int_equal(drive_node_get(&eve, NODE_FILE, f.id, false, &got), E_NOT_FOUND);
	assert_int_equal(drive_node_get(&cleo, NODE_FILE, f.id, false, &got), E_NOT_FOUND);
	assert_int_equal(drive_node_get(&ada, NODE_FILE, f.id, false, &got), 0);
	assert_int_equal(got.rights, 127);
}

static void test_names(void **state)
{
	(void)state;
	struct node n;
	folder(0, "Straße");
	assert_int_equal(testing_folder(&bob, share, 0, "STRASSE", &n), E_NAME_CONFLICT);
	assert_int_equal(testing_file(&t, &bob, share, 0, "strasse", STR("x"), &n), E_NAME_CONFLICT);
	assert_int_equal(testing_folder(&bob, share, 0, "a/b", &n), E_NAME_INVALID);
	assert_int_equal(testing_folder(&bob, share, 0, "..", &n), E_NAME_INVALID);
	struct node a = folder(0, "a");
	int64_t before = head();
	struct node_patch p = {.id = a.id, .name = STR("a")};
	assert_int_equal(drive_node_patch(&bob, NODE_FOLDER, &p, &n), 0);
	assert_int_equal(head(), before); /* nothing changed, nothing is logged */
	p.name = STR("A");
	assert_int_equal(drive_node_patch(&bob, NODE_FOLDER, &p, &n), 0);
	assert_str(n.path, "/A");
	struct change_page changes = page(&bob, share, before);
	assert_int_equal(changes.n_items, 1);
	assert_int_equal(changes.items[0].type, CHANGE_RENAMED);
	assert_str(changes.items[0].old_path, "/a");
	assert_str(changes.items[0].new_path, "/A");
	p.name = STR("straSSe");
	assert_int_equal(drive_node_patch(&bob, NODE_FOLDER, &p, &n), E_NAME_CONFLICT);
	assert_int_equal(testing_i64(&t, "select count(*) from nodes"), 3);
}

static void test_depth(void **state)
{
	(void)state;
	int64_t parent = 0, first = 0;
	struct node n;
	for (int i = 0; i < LIMIT_PATH_DEPTH; i++) {
		n = folder(parent, "d");
		parent = n.id;
		if (!first)
			first = n.id;
	}
	assert_int_equal(testing_folder(&bob, share, parent, "d", &n), E_NAME_INVALID);
	file(parent, "f", "x"); /* files still fit */
	struct node side = folder(0, "side");
	struct node_place in = {.id = first, .target_folder_id = side.id};
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), E_NAME_INVALID);
}

static void test_moves(void **state)
{
	(void)state;
	struct node a = folder(0, "a"), b = folder(a.id, "b"), f = file(b.id, "f", "1"), n;
	struct node_place in = {.id = a.id, .target_folder_id = b.id};
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), E_MOVE_CYCLE);
	in.target_folder_id = a.id;
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), E_MOVE_CYCLE);
	int64_t before = head();
	in = (struct node_place){.id = b.id, .target_share_id = share, .name = STR("c")};
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), 0);
	assert_str(n.path, "/c");
	assert_true(n.parent_is_root);
	struct change_page p = page(&bob, share, before);
	assert_int_equal(p.n_items, 1);
	assert_int_equal(p.items[0].type, CHANGE_MOVED);
	assert_str(p.items[0].old_path, "/a/b");
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &n), 0);
	assert_str(n.path, "/c/f");
	struct folder_create root = {.share_id = share, .name = STR("x")};
	struct node x;
	assert_int_equal(drive_folder_create(&cleo, &root, &x), E_NOT_FOUND);
	in = (struct node_place){.id = f.id};
	assert_int_equal(drive_node_move(&bob, NODE_FILE, &in, &n), E_INVALID);
}

static void test_trash(void **state)
{
	(void)state;
	struct node a = folder(0, "a"), f = file(a.id, "f.txt", "1"), n;
	int64_t before = head();
	struct node_delete del = {.id = a.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FOLDER, &del), 0);
	assert_int_equal(head(), before + 1); /* one row, however much is below */
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &n), E_GONE);
	assert_int_equal(drive_node_get(&cleo, NODE_FILE, f.id, false, &n), E_NOT_FOUND);
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, true, &n), 0);
	assert_true(n.in_trash);
	assert_int_equal(n.deleted_at, 0);
	assert_int_equal(drive_node_delete(&bob, NODE_FOLDER, &del), 0); /* again: nothing changes */
	assert_int_equal(head(), before + 1);
	struct trash_list trash;
	assert_int_equal(drive_trash_list(&bob, share, 0, 0, &trash), 0);
	assert_int_equal(trash.total, 1);
	assert_str(trash.items[0].path, "/a");
	folder(0, "A"); /* the name is free again */
	struct node_patch p = {.id = a.id, .restore = true};
	assert_int_equal(drive_node_patch(&bob, NODE_FOLDER, &p, &n), 0);
	assert_str(n.path, "/a (2)");
	struct change_page changes = page(&bob, share, head() - 1);
	assert_int_equal(changes.items[0].type, CHANGE_CREATED);
	assert_true(strstr(changes.items[0].metadata.p, "\"subtree\":true") != NULL);
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &n), 0);
	assert_str(n.path, "/a (2)/f.txt");
	/* The parent is gone: to the root, under a free name. */
	del = (struct node_delete){.id = f.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FILE, &del), 0);
	del.id = a.id;
	assert_int_equal(drive_node_delete(&bob, NODE_FOLDER, &del), 0);
	file(0, "f.txt", "2");
	struct node_patch fp = {.id = f.id, .restore = true};
	assert_int_equal(drive_node_patch(&bob, NODE_FILE, &fp, &n), 0);
	assert_str(n.path, "/f (2).txt");
}

static void test_purge(void **state)
{
	(void)state;
	struct node a = folder(0, "a"), b = folder(a.id, "b"), f = file(b.id, "f", "12345"), n;
	file(a.id, "g", "123");
	struct node_delete del = {.id = f.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FILE, &del), 0);
	assert_int_equal(testing_i64(&t, "select used_bytes from shares"), 8); /* the trash counts */
	int64_t before = head();
	del = (struct node_delete){.id = a.id, .permanent = true};
	assert_int_equal(drive_node_delete(&bob, NODE_FOLDER, &del), 0);
	assert_int_equal(head(), before + 1);
	assert_int_equal(testing_i64(&t, "select used_bytes from shares"), 0);
	assert_int_equal(testing_i64(&t, "select count(*) from versions"), 0);
	assert_int_equal(testing_i64(&t, "select count(*) from nodes"), 1);
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, true, &n), E_NOT_FOUND);
}

static void test_cross_share(void **state)
{
	(void)state;
	struct node a = folder(0, "a"), b = folder(a.id, "b"), f = file(b.id, "f", "12345"), n;
	int64_t other = testing_share(&bob, "Other"), foreign = testing_share(&cleo, "Hers");
	struct node_place in = {.id = a.id, .target_share_id = foreign};
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), E_NOT_FOUND);
	int64_t before = head();
	in.target_share_id = other;
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), 0);
	assert_int_equal(n.id, a.id);
	struct change_page p = page(&bob, share, before), q = page(&bob, other, before);
	assert_int_equal(p.n_items, 1);
	assert_int_equal(p.items[0].type, CHANGE_DELETED);
	assert_str(p.items[0].old_path, "/a");
	assert_int_equal(q.n_items, 1);
	assert_int_equal(q.items[0].type, CHANGE_CREATED);
	assert_true(strstr(q.items[0].metadata.p, "\"subtree\":true") != NULL);
	assert_int_equal(p.cursor, q.cursor); /* a page that is not full ends at the head */
	assert_int_equal(drive_node_get(&bob, NODE_FILE, f.id, false, &n), 0);
	assert_int_equal(n.share_id, other);
	assert_int_equal(n.version, 1);
	assert_str(n.path, "/a/b/f");
	assert_int_equal(testing_i64(&t, "select used_bytes from shares where name = 'Team'"), 0);
	assert_int_equal(testing_i64(&t, "select used_bytes from shares where name = 'Other'"), 5);
}

static void test_children(void **state)
{
	(void)state;
	struct node a = folder(0, "a");
	file(a.id, "b", "1");
	folder(a.id, "Zoo");
	folder(a.id, "apple");
	struct node gone = file(a.id, "Able", "2");
	struct node_delete del = {.id = gone.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FILE, &del), 0);
	struct folder_children_in in = {.share_id = share, .folder_id = a.id};
	struct folder_children c;
	assert_int_equal(drive_folder_children(&bob, &in, &c), 0);
	assert_int_equal(c.total, 3);
	assert_str(c.items[0].name, "apple");
	assert_str(c.items[1].name, "Zoo");
	assert_str(c.items[2].path, "/a/b");
	in.include_deleted = true;
	in.offset = 2;
	in.limit = 1;
	assert_int_equal(drive_folder_children(&bob, &in, &c), 0);
	assert_int_equal(c.total, 4);
	assert_int_equal(c.n, 1);
	assert_str(c.items[0].name, "Able");
	assert_true(c.items[0].in_trash);
	in = (struct folder_children_in){.share_id = testing_share(&bob, "Other"), .folder_id = a.id};
	assert_int_equal(drive_folder_children(&bob, &in, &c), E_NOT_FOUND);
}

/* ---- concurrent moves never make a cycle (I12) ---- */

enum { MOVERS = 4, FOLDERS = 12, MOVES = 60 };
static int64_t folders[FOLDERS];
static atomic_int moved, refused, unexpected;

static void *mover(void *arg)
{
	struct arena a;
	arena_init(&a);
	struct ctx ctx = testing_ctx(&t, &a, &t.users[1]);
	struct rng_seeded rng;
	rng_seeded_init(&rng, (uint64_t)(uintptr_t)arg);
	for (int i = 0; i < MOVES; i++) {
		struct node n;
		struct node_place in = {.id = folders[rng_below(&rng.base, FOLDERS)]};
		if (rng_below(&rng.base, 6) == 0)
			in.target_share_id = share;
		else
			in.target_folder_id = folders[rng_below(&rng.base, FOLDERS)];
		ctx_clear(&ctx);
		int err = drive_node_move(&ctx, NODE_FOLDER, &in, &n);
		atomic_fetch_add(err == 0 ? &moved : err == E_MOVE_CYCLE ? &refused : &unexpected, 1);
		arena_reset(&a);
	}
	arena_fini(&a);
	return NULL;
}

static void test_concurrent_moves(void **state)
{
	(void)state;
	pthread_t threads[MOVERS];
	char name[16];
	moved = refused = unexpected = 0;
	for (int i = 0; i < FOLDERS; i++) {
		snprintf(name, sizeof name, "f%d", i);
		folders[i] = folder(0, name).id;
	}
	for (int i = 0; i < MOVERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mover, (void *)(uintptr_t)(i + 1)), 0);
	for (int i = 0; i < MOVERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(unexpected, 0);
	assert_true(moved > 10);
	assert_true(refused > 0);
	/* Every folder is still reached from the root: a cycle would be an island. */
	assert_int_equal(testing_i64(&t, "with recursive down(id) as (select root_id from shares union all"
	                                 " select n.id from down join nodes n on n.parent_id = down.id)"
	                                 " select count(*) from down"),
	                 FOLDERS + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_create_and_paths), CASE(test_names), CASE(test_depth),    CASE(test_moves),
	    CASE(test_trash),            CASE(test_purge), CASE(test_children), CASE(test_cross_share),
	    CASE(test_concurrent_moves),
	};
	return RUN_ON_BOTH("node", tests);
}
