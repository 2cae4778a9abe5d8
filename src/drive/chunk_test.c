#include "base/limits.h"
#include "base/must.h"
#include "drive/cast_testing.h"
#include "drive/chunk.h"

enum { N = 5000, SIZE = 100 }; /* more than one transaction holds */

static void bytes_of(int64_t i, uint8_t out[SIZE])
{
	memset(out, 0, SIZE);
	memcpy(out, &i, sizeof i);
}

static struct sha256 hash_of(int64_t i)
{
	uint8_t b[SIZE];
	bytes_of(i, b);
	return sha256_of(b, SIZE);
}

/* Sends chunks [from, to). */
static int send(struct ctx *who, int64_t from, int64_t to)
{
	struct ingest *in;
	struct content *c;
	int64_t expires_at;
	must(ingest_begin_chunks(t.store, who->tenant_id, -1, &in) == 0);
	for (int64_t i = from; i < to; i++) {
		uint8_t b[SIZE];
		struct sha256 hash = hash_of(i);
		bytes_of(i, b);
		must(ingest_chunk(in, &hash, b, SIZE) == 0);
	}
	must(ingest_finish(in, &c) == 0);
	int err = drive_chunks_keep(who, c, &expires_at);
	content_free(c);
	ctx_clear(who);
	return err;
}

struct look {
	int64_t from, to;
	struct chunk_found *found;
	bool use;
};

static int look_op(struct dtx *d, void *arg)
{
	struct look *l = arg;
	size_t n = (size_t)(l->to - l->from);
	struct sha256 *hashes = arena_many(&arena, n, struct sha256);
	for (size_t i = 0; i < n; i++)
		hashes[i] = hash_of(l->from + (int64_t)i);
	int err = chunk_leased(d, hashes, n, l->found);
	return err || !l->use ? err : chunk_leases_use(d, l->found, n);
}

/* How many of [from, to) the user has by lease. */
static int64_t had(struct ctx *who, int64_t from, int64_t to)
{
	struct look l = {from, to, calloc((size_t)(to - from), sizeof *l.found), false};
	int64_t n = 0;
	assert_int_equal(drive_read(who, look_op, &l), 0);
	for (int64_t i = 0; i < to - from; i++)
		n += l.found[i].id > 0 && l.found[i].length == SIZE;
	free(l.found);
	return n;
}

static void use(struct ctx *who, int64_t from, int64_t to)
{
	struct look l = {from, to, calloc((size_t)(to - from), sizeof *l.found), true};
	assert_int_equal(drive_write(who, look_op, &l), 0);
	free(l.found);
}

static int64_t unused(void)
{
	return testing_i64(&t, "select cast(coalesce(sum(unused_bytes), 0) as bigint) from chunk_leases");
}

static int64_t leases(void)
{
	return testing_i64(&t, "select count(*) from chunk_leases");
}

static void leased_to_who_sent_them(void **state)
{
	(void)state;
	assert_int_equal(send(&bob, 0, N), 0);
	assert_int_equal(leases(), 2);
	assert_int_equal(had(&bob, 0, N), N);
	assert_int_equal(had(&bob, N, N + 10), 0);
	assert_int_equal(had(&cleo, 0, N), 0);
	assert_int_equal(send(&cleo, 10, 20), 0); /* the same bytes are stored once, and leased to both */
	assert_int_equal(had(&cleo, 0, N), 10);
	assert_int_equal(testing_i64(&t, "select count(*) from chunks"), N);
	t.clock.offset_us += MILLIS_US(LIMIT_CHUNK_LEASE_MS) + 1;
	assert_int_equal(had(&bob, 0, N), 0);
	assert_int_equal(send(&bob, 0, 1), 0); /* who adds clears away what is over, an hour later */
	assert_int_equal(leases(), 4);
	t.clock.offset_us += MILLIS_US(LIMIT_CONDEMNED_MS);
	assert_int_equal(send(&bob, 0, 1), 0);
	assert_int_equal(leases(), 2);
	t.clock.offset_us = 0;
}

static void used_chunks_do_not_count(void **state)
{
	(void)state;
	t.clock.offset_us += 3 * MILLIS_US(LIMIT_CHUNK_LEASE_MS);
	assert_int_equal(send(&bob, 0, N), 0);
	assert_int_equal(unused(), N * LIMIT_LEASE_CHUNK_BYTES);
	use(&bob, 100, 4900);
	assert_int_equal(unused(), 200 * LIMIT_LEASE_CHUNK_BYTES);
	use(&bob, 100, 4900); /* once is all that a chunk counts */
	use(&bob, 4899, 4901);
	assert_int_equal(unused(), 199 * LIMIT_LEASE_CHUNK_BYTES);
	assert_int_equal(had(&bob, 0, N), N); /* another change may name them still */
	use(&bob, 0, N);
	assert_int_equal(unused(), 0);
	assert_int_equal(send(&bob, 0, 1), 0);
	assert_int_equal(leases(), 3);
	t.clock.offset_us += MILLIS_US(LIMIT_LEASE_USED_MS) + 1;
	assert_int_equal(send(&bob, 1, 2), 0); /* used up a minute ago: away with them */
	assert_int_equal(leases(), 2);
}

static int check(int64_t size_bytes, int64_t *room)
{
	int err = drive_chunks_check(&bob, share, size_bytes, room);
	ctx_clear(&bob);
	return err;
}

static void a_user_leases_no_more_than_the_bound(void **state)
{
	(void)state;
	int64_t room;
	testing_exec(&t, "delete from chunk_leases", DB_NO_ARGS);
	assert_int_equal(check(LIMIT_LEASED_BYTES, &room), 0);
	assert_true(room == LIMIT_LEASED_BYTES);
	assert_int_equal(check(LIMIT_LEASED_BYTES + 1, &room), E_QUOTA);
	assert_int_equal(send(&bob, 0, 10), 0);
	testing_exec(&t, "update chunk_leases set unused_bytes = 4294967296 - 8000", DB_NO_ARGS);
	assert_int_equal(check(-1, &room), 0);
	assert_int_equal(room, 8000);
	assert_int_equal(check(8001, &room), E_QUOTA);
	assert_int_equal(send(&bob, 0, 2), E_QUOTA); /* also who did not ask before */
	assert_int_equal(leases(), 1);
	assert_int_equal(send(&bob, 0, 1), 0);
	assert_int_equal(send(&cleo, 0, 100), 0);
	testing_exec(&t, "delete from chunk_leases", DB_NO_ARGS);
	for (int i = 0; i < LIMIT_LEASES; i += 4)
		assert_int_equal(send(&bob, i, i + 1), 0);
	testing_exec(&t,
	             "insert into chunk_leases select id - 1000000000000, tenant_id, user_id, expires_at, "
	             "unused_bytes, chunks from chunk_leases",
	             DB_NO_ARGS);
	testing_exec(&t,
	             "insert into chunk_leases select id - 3000000000000, tenant_id, user_id, expires_at, "
	             "unused_bytes, chunks from chunk_leases",
	             DB_NO_ARGS);
	assert_int_equal(check(-1, &room), E_QUOTA);
	testing_exec(&t, "delete from chunk_leases where id = (select min(id) from chunk_leases)", DB_NO_ARGS);
	assert_int_equal(check(-1, &room), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(leased_to_who_sent_them),
	    CASE(used_chunks_do_not_count),
	    CASE(a_user_leases_no_more_than_the_bound),
	};
	return RUN_ON_BOTH("chunk leases", tests);
}
