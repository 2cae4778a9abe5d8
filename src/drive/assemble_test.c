#include "drive/assemble.h"

#include "drive/cast_testing.h"

#include "base/limits.h"
#include "chunks/chunker.h"
#include "chunks/recipe.h"
#include "chunks/steps.h"
#include "drive/chunk.h"

enum { PART = 3000 };

/* A chunk of PART equal bytes, leased to bob. */
static struct str part(char c)
{
	char *p = arena_alloc(&arena, PART);
	memset(p, c, PART);
	return str_n(p, PART);
}

static void send(struct ctx *ctx, struct str bytes)
{
	struct ingest *in;
	struct content *content;
	struct sha256 hash = sha256_of(bytes.p, bytes.n);
	int64_t expires_at;
	assert_int_equal(ingest_begin_chunks(t.store, ctx->tenant_id, -1, &in), 0);
	assert_int_equal(ingest_chunk(in, &hash, bytes.p, bytes.n), 0);
	assert_int_equal(ingest_finish(in, &content), 0);
	assert_int_equal(drive_chunks_keep(ctx, content, &expires_at), 0);
	content_free(content);
}

static void say(struct buf *steps, struct str bytes)
{
	struct sha256 hash = sha256_of(bytes.p, bytes.n);
	step_put_chunk(steps, &hash, (uint32_t)bytes.n);
}

/* A new file of bob's; want: the bytes that it claims. */
static int make(struct ctx *ctx, struct buf *steps, struct str want, const int64_t *sources, size_t n_sources,
                struct version_result *out)
{
	static int number;
	struct assemble_in in = {
	    .put = {.share_id = share, .name = arena_fmt(&arena, "made %d", ++number), .size_bytes = (int64_t)want.n,
	            .sha256 = sha256_of(want.p, want.n)},
	    .steps = buf_as_str(steps),
	    .sources = sources,
	    .n_sources = n_sources,
	};
	ctx_clear(ctx);
	int err = drive_assemble(ctx, &in, out);
	buf_fini(steps);
	*steps = (struct buf){0};
	return err;
}

static void assert_content(int64_t file_id, struct str want)
{
	struct file_content c;
	size_t got;
	char *p = arena_alloc(&arena, want.n + 1);
	assert_int_equal(file_content_open(&bob, file_id, 0, false, &c), 0);
	assert_int_equal(content_read(c.reader, 0, p, want.n + 1, &got), 0);
	assert_int_equal(got, want.n);
	assert_memory_equal(p, want.p, want.n);
	file_content_close(&c);
}

/* A file of parts a..z, each a chunk: its version. */
static int64_t alphabet(struct version_result *r, struct str *bytes)
{
	struct buf steps = {0}, whole = {0};
	for (char c = 'a'; c <= 'z'; c++) {
		send(&bob, part(c));
		say(&steps, part(c));
		buf_str(&whole, part(c));
	}
	*bytes = arena_str(&arena, buf_as_str(&whole));
	buf_fini(&whole);
	assert_int_equal(make(&bob, &steps, *bytes, NULL, 0, r), 0);
	return r->version.id;
}

static void after(int64_t ms)
{
	t.clock.offset_us += MILLIS_US(ms);
}

static void test_chunks_and_runs(void **state)
{
	(void)state;
	struct version_result base, r;
	struct buf steps = {0}, want = {0};
	struct str bytes;
	int64_t source = alphabet(&base, &bytes);
	assert_content(base.node.id, bytes);
	after(LIMIT_CHUNK_LEASE_MS + 1); /* no lease lasts: sources alone */
	step_put_run(&steps, 0, 20, 6);
	say(&steps, part('c'));
	step_put_run(&steps, 0, 0, 26);
	buf_put(&want, bytes.p + (ptrdiff_t)20 * PART, (size_t)6 * PART);
	buf_str(&want, part('c'));
	buf_str(&want, bytes);
	assert_int_equal(make(&bob, &steps, buf_as_str(&want), &source, 1, &r), 0);
	assert_content(r.node.id, buf_as_str(&want));
	buf_fini(&want);
	assert_int_equal(make(&bob, &steps, STR(""), NULL, 0, &r), 0);
	assert_int_equal(r.version.size_bytes, 0);
}

static int64_t unused(void)
{
	return testing_i64(&t, "select cast(coalesce(sum(unused_bytes), 0) as bigint) from chunk_leases");
}

/* What a version took no longer counts against its maker; what nothing took does. */
static void test_leases_are_used(void **state)
{
	(void)state;
	struct version_result base, r;
	struct buf steps = {0};
	struct str bytes;
	alphabet(&base, &bytes);
	assert_int_equal(unused(), 0);
	send(&bob, part('1'));
	send(&bob, part('2'));
	assert_int_equal(unused(), 2 * LIMIT_LEASE_CHUNK_BYTES);
	say(&steps, part('1'));
	assert_int_equal(make(&bob, &steps, part('2'), NULL, 0, &r), E_CHECKSUM);
	assert_int_equal(unused(), 2 * LIMIT_LEASE_CHUNK_BYTES);
	say(&steps, part('1'));
	assert_int_equal(make(&bob, &steps, part('1'), NULL, 0, &r), 0);
	assert_int_equal(unused(), LIMIT_LEASE_CHUNK_BYTES);
	/* the head's bytes in chunks of another cut: no version consists of them */
	struct str half = str_n(part('1').p, PART / 2);
	send(&bob, half);
	say(&steps, half);
	say(&steps, half);
	struct str whole = part('1');
	struct assemble_in in = {
	    .put = {.replace_file_id = r.node.id, .size_bytes = PART, .sha256 = sha256_of(whole.p, whole.n)},
	    .steps = buf_as_str(&steps),
	};
	assert_int_equal(drive_assemble(&bob, &in, &r), 0);
	assert_int_equal(r.fate, VERSION_UNCHANGED);
	assert_int_equal(unused(), 2 * LIMIT_LEASE_CHUNK_BYTES);
	buf_fini(&steps);
}

/* More steps than are looked up together. */
static void test_many_steps(void **state)
{
	(void)state;
	enum { N = 9000 };
	struct version_result base, r;
	struct buf steps = {0}, want = {0};
	struct str bytes;
	int64_t source = alphabet(&base, &bytes);
	for (int i = 0; i < N; i++) {
		struct str p = part((char)('a' + i % 26));
		if (i % 3)
			step_put_run(&steps, 0, (uint32_t)(i % 26), 1);
		else
			say(&steps, p);
		buf_str(&want, p);
	}
	assert_int_equal(make(&bob, &steps, buf_as_str(&want), &source, 1, &r), 0);
	size_t n;
	int64_t size;
	assert_int_equal(recipe_measure(r.version.recipe, &n, &size), 0);
	assert_int_equal(n, N);
	assert_content(r.node.id, buf_as_str(&want));
	buf_fini(&want);
}

static void test_what_is_not_had(void **state)
{
	(void)state;
	struct version_result base, r;
	struct buf steps = {0};
	struct str bytes;
	int64_t source = alphabet(&base, &bytes), unknown = 7;
	int64_t mine = testing_share(&cleo, "Cleo's");
	int64_t teams = share;
	share = mine;
	say(&steps, part('a')); /* sent by another */
	assert_int_equal(make(&cleo, &steps, part('a'), &source, 1, &r), E_CHUNK_MISSING);
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&cleo, &steps, bytes, &source, 1, &r), E_CHUNK_MISSING);
	share = testing_share(&eve, "Eve's");
	step_put_run(&steps, 0, 0, 26); /* another tenant */
	assert_int_equal(make(&eve, &steps, bytes, &source, 1, &r), E_CHUNK_MISSING);
	share = teams;
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &unknown, 1, &r), E_CHUNK_MISSING);
	say(&steps, part('a'));
	after(LIMIT_CHUNK_LEASE_MS + 1);
	assert_int_equal(make(&bob, &steps, part('a'), NULL, 0, &r), E_CHUNK_MISSING); /* the lease has ended */
	struct version_result next;
	assert_int_equal(testing_edit(&t, &bob, base.node.id, source, RESOLVE_NONE, STR("other"), &next), 0);
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), 0); /* of the history: had */
	testing_exec(&t, "delete from versions where id = $1", DB_ARGS(V_I(source)));
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_CHUNK_MISSING);
}

static void test_runs_beyond_the_end(void **state)
{
	(void)state;
	struct version_result base, r;
	struct buf steps = {0};
	struct str bytes;
	int64_t source = alphabet(&base, &bytes);
	static const uint32_t runs[][2] = {{0, 27}, {26, 1}, {25, 2}, {UINT32_MAX, 1}, {1, UINT32_MAX}, {UINT32_MAX, UINT32_MAX}};
	for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
		step_put_run(&steps, 0, runs[i][0], runs[i][1]);
		assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_BAD_REQUEST);
	}
	step_put_run(&steps, 1, 0, 1);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_BAD_REQUEST);
	/* more than LIMIT_ASSEMBLED_CHUNKS */
	for (size_t i = 0; i < LIMIT_ASSEMBLED_CHUNKS / 26 + 1; i++)
		step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_TOO_LARGE);
}

static void test_claims(void **state)
{
	(void)state;
	struct version_result base, r;
	struct buf steps = {0};
	struct str bytes;
	int64_t source = alphabet(&base, &bytes), versions = testing_i64(&t, "select count(*) from versions");
	step_put_run(&steps, 0, 0, 25);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_CHECKSUM);
	step_put_run(&steps, 0, 1, 25);
	step_put_run(&steps, 0, 0, 1); /* the right length in the wrong order */
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_CHECKSUM);
	struct sha256 hash = sha256_of(part('a').p, PART);
	step_put_chunk(&steps, &hash, PART - 1);
	assert_int_equal(make(&bob, &steps, str_n(bytes.p, PART - 1), &source, 1, &r), E_BAD_REQUEST);
	assert_int_equal(testing_i64(&t, "select count(*) from versions"), versions);
}

static void test_bounds_of_the_work(void **state)
{
	(void)state;
	struct version_result base, r;
	struct buf steps = {0};
	struct str bytes;
	struct sha256 hash;
	int64_t source = alphabet(&base, &bytes);
	t.drive.assembling = 1; /* another is at it */
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_BUSY);
	assert_int_equal(t.drive.assembling, 1);
	t.drive.assembling = 0;
	t.drive.stopping = true;
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), E_SHUTDOWN);
	t.drive.stopping = false;
	ctx_clear(&bob);
	int64_t now = clock_now(bob.clock);
	assert_int_equal(content_hash(&bob, base.version.recipe, base.version.size_bytes, now - 1, &hash), E_TIMEOUT);
	ctx_clear(&bob);
	assert_int_equal(content_hash(&bob, base.version.recipe, base.version.size_bytes, 0, &hash), 0);
	assert_true(sha256_eq(&hash, &base.version.sha256));
	step_put_run(&steps, 0, 0, 26);
	assert_int_equal(make(&bob, &steps, bytes, &source, 1, &r), 0);
	assert_int_equal(t.drive.assembling, 0);
}

/* A request that is sent again with its key is answered without reading the content again; with another claim it is refused. */
static void test_sent_again(void **state)
{
	(void)state;
	struct version_result base, first, again;
	struct buf steps = {0};
	struct str bytes;
	struct store_stats before, after_it;
	int64_t source = alphabet(&base, &bytes);
	struct assemble_in in = {.put = {.share_id = share, .name = STR("once"), .size_bytes = (int64_t)bytes.n, .sha256 = base.version.sha256},
	                         .sources = &source,
	                         .n_sources = 1};
	step_put_run(&steps, 0, 0, 26);
	in.steps = buf_as_str(&steps);
	ctx_clear(&bob);
	bob.idempotency_key = STR("again");
	assert_int_equal(drive_assemble(&bob, &in, &first), 0);
	store_stats(t.store, &before);
	assert_int_equal(drive_assemble(&bob, &in, &again), 0);
	store_stats(t.store, &after_it);
	assert_int_equal(again.version.id, first.version.id);
	assert_int_equal(after_it.bytes_out, before.bytes_out);
	in.put.sha256.b[0] ^= 1;
	assert_int_equal(drive_assemble(&bob, &in, &again), E_IDEMPOTENCY);
	bob.idempotency_key = STR_NULL;
	buf_fini(&steps);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(test_chunks_and_runs), CASE(test_leases_are_used),     CASE(test_many_steps), CASE(test_what_is_not_had),
	    CASE(test_claims),          CASE(test_runs_beyond_the_end), CASE(test_bounds_of_the_work),
	    CASE(test_sent_again),
	};
	return RUN_ON_BOTH("assemble", tests);
}
