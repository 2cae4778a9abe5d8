/* The change log: numbers, pages, cursors; no change is missed or repeated under 16 writers (I1). Both engines. */
#include <stdatomic.h>
#include <pthread.h>

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

/* ---- 16 writers and a poller ---- */

enum { WRITERS = 16, WRITES = 40 };
static atomic_int running;

static void *writer(void *arg)
{
	struct arena a;
	arena_init(&a);
	struct ctx ctx = testing_ctx(&t, &a, &t.users[1]);
	for (int i = 0; i < WRITES; i++) {
		struct node n;
		char name[32];
		snprintf(name, sizeof name, "w%d-%d", (int)(uintptr_t)arg, i);
		must(testing_folder(&ctx, share, 0, name, &n) == 0);
		arena_reset(&a);
	}
	arena_fini(&a);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void test_writers_and_poller(void **state)
{
	(void)state;
	pthread_t threads[WRITERS];
	int64_t cursor = head(), last = cursor;
	int seen = 0;
	running = WRITERS;
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)(uintptr_t)i), 0);
	for (bool again = true; again;) {
		again = running > 0;
		struct arena a;
		arena_init(&a);
		struct ctx ctx = testing_ctx(&t, &a, &t.users[1]);
		struct change_page p = {.has_more = true};
		while (p.has_more) {
			struct change_page_in in = {share, arena_fmt(&a, "%lld", (long long)cursor), 7};
			assert_int_equal(change_page_read(&ctx, &in, &p), 0);
			for (size_t i = 0; i < p.n_items; i++) {
				assert_int_equal(p.items[i].seq, last + 1); /* none missing, none twice */
				last = p.items[i].seq;
				seen++;
			}
			assert_true(p.cursor >= cursor);
			cursor = p.cursor;
		}
		arena_fini(&a);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(seen, WRITERS * WRITES);
	assert_int_equal(testing_i64(&t, "select count(*) from changes where new_path is not null"), WRITERS * WRITES);
}

static int read_page(struct ctx *ctx, int64_t share_id, const char *cursor, int64_t limit, struct change_page *p)
{
	struct change_page_in in = {share_id, str_c(cursor), limit};
	ctx_clear(ctx);
	return change_page_read(ctx, &in, p);
}

static void test_cursors(void **state)
{
	(void)state;
	struct change_page p;
	folder(0, "a");
	folder(0, "b");
	int64_t now = head();
	assert_int_equal(read_page(&bob, share, "0", 10, &p), 0);
	assert_int_equal(p.n_items, 3);
	assert_int_equal(p.items[0].resource.kind, ID_SHARE);
	assert_int_equal(p.cursor, now);
	assert_false(p.has_more);
	assert_int_equal(read_page(&bob, share, "0", 2, &p), 0);
	assert_true(p.has_more);
	assert_int_equal(p.cursor, p.items[1].seq);
	static const char *const bad[] = {"-1", "x", "", "1.5", "99999999", "9999999999999999999999", "+1", " 1"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(read_page(&bob, share, bad[i], 10, &p), E_CURSOR_INVALID);
	assert_int_equal(read_page(&cleo, share, "0", 10, &p), E_NOT_FOUND);
	assert_int_equal(read_page(&bob, share, "0", 5001, &p), E_INVALID);
	assert_int_equal(read_page(&bob, share, "0", 0, &p), E_INVALID);
	/* Another share's activity moves the cursor of this one (the last position scanned). */
	testing_share(&cleo, "Hers");
	assert_int_equal(read_page(&bob, share, arena_fmt(&arena, "%lld", (long long)now).p, 10, &p), 0);
	assert_int_equal(p.n_items, 0);
	assert_int_equal(p.cursor, now + 1);
}

/* As a restore does. */
static int epoch_op(struct dtx *tx, void *arg)
{
	(void)arg;
	int64_t ids_behind;
	int err = drive_leap_ids(tx, &ids_behind);
	return err ? err : change_epoch_begin(tx, ids_behind);
}

static int floor_op(struct dtx *tx, void *arg)
{
	return tx_exec(tx->tx, "update tenants set floor_seq = $1", DB_ARGS(V_I(*(int64_t *)arg)), NULL);
}

static void test_epochs(void **state)
{
	(void)state;
	struct change_page p;
	folder(0, "a");
	int64_t old = head(), base;
	assert_int_equal(drive_write(&bob, epoch_op, NULL), 0);
	base = head();
	assert_true(base > old + 1000 && base < INT64_C(1) << 53);
	folder(0, "b");
	assert_int_equal(head(), base + 1);
	assert_int_equal(read_page(&bob, share, arena_fmt(&arena, "%lld", (long long)old).p, 10, &p), E_CURSOR_INVALID);
	assert_int_equal(read_page(&bob, share, arena_fmt(&arena, "%lld", (long long)old + 1).p, 10, &p), E_CURSOR_INVALID);
	assert_int_equal(read_page(&bob, share, arena_fmt(&arena, "%lld", (long long)base - 1).p, 10, &p), E_CURSOR_INVALID);
	assert_int_equal(read_page(&bob, share, arena_fmt(&arena, "%lld", (long long)base).p, 10, &p), 0);
	assert_int_equal(p.n_items, 1);
	assert_int_equal(p.items[0].seq, base + 1);
	/* A second restore. */
	assert_int_equal(drive_write(&bob, epoch_op, NULL), 0);
	assert_true(head() > base + 1);
	assert_int_equal(read_page(&bob, share, arena_fmt(&arena, "%lld", (long long)base + 1).p, 10, &p), E_CURSOR_INVALID);
	assert_int_equal(drive_write(&bob, floor_op, &base), 0);
	assert_int_equal(read_page(&bob, share, "0", 10, &p), E_CURSOR_INVALID); /* older than the log */
}

static int gaps_op(struct dtx *tx, void *arg)
{
	return change_gaps(tx, arg);
}

/* A server that is restored while its clock is behind the time that was lost: neither numbers nor ids of the first time come again. */
static void test_a_clock_set_back(void **state)
{
	(void)state;
	struct change_gap gap[8];
	struct str gaps;
	size_t n = 0;
	struct node before, after;
	assert_int_equal(testing_folder(&bob, share, 0, "before", &before), 0);
	t.clock.offset_us -= SECONDS_US(86400);
	int64_t old = head();
	assert_int_equal(drive_write(&bob, epoch_op, NULL), 0);
	assert_true(head() > old + 1000);
	idgen_init(&t.ids, &t.clock.clock, 0); /* as by a start */
	assert_int_equal(drive_follow_ids(t.db, &t.ids, &rng_system), 0);
	assert_int_equal(testing_folder(&bob, share, 0, "after", &after), 0);
	assert_int_equal(drive_read(&bob, gaps_op, &gaps), 0);
	while (n < 8 && change_gap_next(&gaps, &gap[n]))
		n++;
	assert_true(n > 0 && gap[n - 1].from == old && gap[n - 1].to == head() - 1);
	assert_true(before.id < gap[n - 1].ids_behind && gap[n - 1].ids_behind < after.id);
	assert_true(after.id > id_later(before.id, 10));
	t.clock.offset_us += SECONDS_US(86400);
}

static void test_all_shares(void **state)
{
	(void)state;
	struct change_page p;
	int64_t hers = testing_share(&cleo, "Hers");
	struct node n;
	folder(0, "mine");
	assert_int_equal(testing_folder(&cleo, hers, 0, "secret", &n), 0);
	folder(0, "mine too");
	int64_t now = head();
	assert_int_equal(read_page(&bob, 0, "0", 100, &p), 0);
	assert_int_equal(p.n_items, 3);
	for (size_t i = 0; i < p.n_items; i++)
		assert_int_equal(p.items[i].share_id, share);
	assert_int_equal(p.cursor, now);
	assert_int_equal(read_page(&ada, 0, "0", 100, &p), 0);
	assert_int_equal(p.n_items, 5);
	assert_int_equal(read_page(&bob, 0, "0", 1, &p), 0);
	assert_true(p.has_more);
	assert_int_equal(read_page(&dan, 0, "0", 100, &p), 0);
	assert_int_equal(p.n_items, 0);
	assert_int_equal(p.cursor, now);
	/* A share that is gone shows only its own end. */
	assert_int_equal(drive_share_delete(&bob, share), 0);
	assert_int_equal(read_page(&bob, 0, "0", 100, &p), 0);
	assert_int_equal(p.n_items, 2);
	assert_int_equal(p.items[1].type, CHANGE_DELETED);
	assert_int_equal(read_page(&bob, share, "0", 100, &p), E_GONE);
	assert_int_equal(read_page(&cleo, share, "0", 100, &p), E_NOT_FOUND);
}

static void test_metadata(void **state)
{
	(void)state;
	struct node a = folder(0, "a"), f;
	assert_int_equal(testing_file(&t, &bob, share, a.id, "x \"y\".txt", STR("abc"), &f), 0);
	struct change_page p = page(&bob, share, head() - 1);
	char want[600], id[ID_WIRE_MAX + 1];
	id_format(id, ID_FOLDER, a.id);
	snprintf(want, sizeof want,
	         "{\"parent_id\":\"%s\",\"name\":\"x \\\"y\\\".txt\",\"size\":3,\"mime_type\":\"text/plain\","
	         "\"checksum_sha256\":\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"version\":1,"
	         "\"mtime\":null,\"executable\":false,\"device_id\":null}",
	         id);
	assert_string_equal(p.items[0].metadata.p, want);
	assert_int_equal(p.items[0].version_id, f.version_id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_writers_and_poller),
	    CASE(test_cursors),
	    CASE(test_epochs),
	    CASE(test_a_clock_set_back),
	    CASE(test_all_shares),
	    CASE(test_metadata),
	};
	return RUN_ON_BOTH("change", tests);
}
