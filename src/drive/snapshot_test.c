/* The snapshot: every live node once, also while nodes move between pages. Both engines. */
#include "base/map.h"
#include "drive/cast_testing.h"

static int64_t cursor;
static int pages;

/* Reads page after page; between two pages step is called. Nodes by id; 0 or the error. */
static int read_all(int64_t folder_id, int64_t limit, void (*step)(int), struct map *out)
{
	struct snapshot_in in = {.share_id = share, .folder_id = folder_id, .limit = limit};
	pages = 0;
	do {
		struct snapshot_page p;
		int err = drive_snapshot(&bob, &in, &p);
		if (err)
			return err;
		assert_true(p.n <= (size_t)limit);
		for (size_t i = 0; i < p.n; i++)
			assert_null(map_put(out, (uint64_t)p.items[i].id, &p.items[i])); /* each once */
		if (pages++)
			assert_int_equal(p.cursor, cursor);
		cursor = p.cursor;
		in.page_token = p.next_page_token;
		if (step && in.page_token.p)
			step(pages);
	} while (in.page_token.p);
	return 0;
}

static void test_whole(void **state)
{
	(void)state;
	struct map all = {0};
	struct node a = folder(0, "a"), b = folder(a.id, "b"), gone = folder(0, "gone"), below = folder(gone.id, "below");
	struct node f = file(b.id, "f", "abc"), lost = file(below.id, "lost", "x");
	struct node_delete del = {.id = gone.id};
	assert_int_equal(drive_node_delete(&bob, NODE_FOLDER, &del), 0);
	for (int64_t limit = 1; limit <= 10; limit++) {
		assert_int_equal(read_all(0, limit, NULL, &all), 0);
		assert_int_equal(all.count, 3);
		const struct node *n = map_get(&all, (uint64_t)f.id);
		assert_int_equal(n->parent_id, b.id);
		assert_int_equal(n->size_bytes, 3);
		assert_true(n->has_sha256);
		assert_true(((const struct node *)map_get(&all, (uint64_t)a.id))->parent_is_root);
		assert_null(map_get(&all, (uint64_t)lost.id)); /* below what is in the trash */
		map_fini(&all);
	}
	assert_int_equal(read_all(a.id, 2, NULL, &all), 0);
	assert_int_equal(all.count, 3);
	map_fini(&all);
	assert_int_equal(read_all(b.id, 10, NULL, &all), 0);
	assert_int_equal(all.count, 2);
	map_fini(&all);
	assert_int_equal(read_all(gone.id, 10, NULL, &all), E_GONE);
}

static struct node left, right, carried;

/* A folder with a subtree goes to and fro between the pages. */
static void carry(int i)
{
	struct node n;
	struct node_place in = {.id = carried.id, .target_folder_id = i % 2 ? right.id : left.id};
	assert_int_equal(drive_node_move(&bob, NODE_FOLDER, &in, &n), 0);
}

static void test_moves_between_pages(void **state)
{
	(void)state;
	struct map all = {0};
	left = folder(0, "left");
	carried = folder(left.id, "carried");
	int64_t parent = carried.id;
	for (int i = 0; i < 10; i++)
		parent = folder(parent, "deeper").id;
	right = folder(0, "right");
	for (int i = 0; i < 10; i++) {
		char name[] = "f0";
		name[1] = (char)('0' + i);
		file(parent, name, "x");
	}
	assert_int_equal(read_all(0, 3, carry, &all), 0);
	assert_int_equal(all.count, 23);
	assert_true(pages > 5);
	/* Where it ended is told by the changes since the cursor. */
	struct change_page p;
	struct change_page_in in = {share, arena_fmt(&arena, "%lld", (long long)cursor), 100};
	assert_int_equal(change_page_read(&bob, &in, &p), 0);
	assert_int_equal(p.n_items, pages - 1);
	assert_int_equal(p.items[0].type, CHANGE_MOVED);
	map_fini(&all);
}

static void test_tokens(void **state)
{
	(void)state;
	struct snapshot_page p;
	struct node a = folder(0, "a");
	folder(0, "b");
	struct snapshot_in in = {.share_id = share, .limit = 1};
	assert_int_equal(drive_snapshot(&bob, &in, &p), 0);
	assert_true(p.next_page_token.p);
	struct str good = p.next_page_token;
	static const char *const bad[] = {"", "x", "1", "1.2.3.4.5", "1.2.3.4", "2.2.3.4.5"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		in.page_token = str_c(bad[i]);
		assert_int_equal(drive_snapshot(&bob, &in, &p), E_BAD_REQUEST);
	}
	in.page_token = good;
	in.folder_id = a.id;
	assert_int_equal(drive_snapshot(&bob, &in, &p), E_BAD_REQUEST);
	in.folder_id = 0;
	assert_int_equal(drive_snapshot(&cleo, &in, &p), E_NOT_FOUND);
	assert_int_equal(drive_snapshot(&bob, &in, &p), 0);
	in.limit = 10001;
	assert_int_equal(drive_snapshot(&bob, &in, &p), E_INVALID);
	in = (struct snapshot_in){.share_id = share, .page_token = arena_fmt(&arena, "1.%lld.0.999999.0", (long long)share)};
	assert_int_equal(drive_snapshot(&bob, &in, &p), E_CURSOR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_whole),
	    CASE(test_moves_between_pages),
	    CASE(test_tokens),
	};
	return RUN_ON_BOTH("snapshot", tests);
}
