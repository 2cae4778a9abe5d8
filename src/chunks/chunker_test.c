#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/rng.h"
#include "chunks/chunker.h"

enum { SIZE = 8 << 20, MAX_CUTS = SIZE / CHUNK_MIN_BYTES + 2 };

static const uint8_t key_a[32] = "an example key of 32 bytes......";
static const uint8_t key_b[32] = "another example key, 32 bytes...";

static uint8_t *noise(uint64_t seed, size_t n)
{
	struct rng_seeded r;
	uint8_t *p = malloc(n);
	rng_seeded_init(&r, seed);
	r.base.fill(&r.base, p, n);
	return p;
}

/* Cuts with pieces of up to step bytes; a last cut at the end. */
static size_t cut_all(const uint8_t key[32], const uint8_t *p, size_t n, size_t step, size_t *cuts)
{
	struct gear g;
	struct chunker c;
	struct rng_seeded r;
	size_t n_cuts = 0, at = 0;
	gear_init(&g, key);
	chunker_init(&c, &g);
	rng_seeded_init(&r, step);
	while (at < n) {
		size_t piece = 1 + rng_below(&r.base, step), end = n - at < piece ? n : at + piece;
		while (at < end) {
			bool cut;
			at += chunker_scan(&c, p + at, end - at, &cut);
			if (cut)
				cuts[n_cuts++] = at;
		}
	}
	if (n_cuts == 0 || cuts[n_cuts - 1] != n)
		cuts[n_cuts++] = n;
	return n_cuts;
}

/* The definition, said plainly: no state but the 64 bytes before each position. */
static size_t cut_plain(const uint8_t key[32], const uint8_t *p, size_t n, size_t *cuts)
{
	struct gear g;
	size_t n_cuts = 0;
	gear_init(&g, key);
	for (size_t start = 0; start < n;) {
		size_t end = start;
		while (end < n) {
			size_t length = ++end - start;
			if (length == CHUNK_MAX_BYTES)
				break;
			if (length < CHUNK_MIN_BYTES)
				continue;
			uint64_t h = 0;
			for (size_t i = end - 64; i < end; i++)
				h = (h << 1) + g.table[p[i]];
			if ((h >> (length <= CHUNK_AVG_BYTES ? 46 : 50)) == 0)
				break;
		}
		cuts[n_cuts++] = start = end;
	}
	return n_cuts;
}

static void test_definition(void **state)
{
	(void)state;
	size_t a[MAX_CUTS], b[MAX_CUTS], n = 2 << 20;
	uint8_t *p = noise(7, n);
	memset(p + (1 << 20), 0, 700000); /* a run without cuts */
	size_t n_a = cut_all(key_a, p, n, n, a), n_b = cut_plain(key_a, p, n, b);
	assert_int_equal(n_a, n_b);
	assert_memory_equal(a, b, n_a * sizeof *a);
	free(p);
}

/* Frozen: see chunker.h. */
static void test_known_answers(void **state)
{
	(void)state;
	struct gear g;
	gear_init(&g, key_a);
	struct sha256 table = sha256_of(g.table, sizeof g.table);
	char hex[65] = {0};
	hex_encode(table.b, 32, hex);
	assert_string_equal(hex, "cca8d251d52edb71fde844e754ff615f7928417f9a0bf74fe3ca20d2ccc310f1");
	size_t cuts[MAX_CUTS];
	uint8_t *p = noise(1, SIZE);
	size_t n = cut_all(key_a, p, SIZE, SIZE, cuts);
	free(p);
	assert_int_equal(n, 112);
	static const size_t first[] = {100659, 129819, 198937, 286080};
	assert_memory_equal(cuts, first, sizeof first);
	struct sha256 all = sha256_of(cuts, n * sizeof *cuts);
	hex_encode(all.b, 32, hex);
	assert_string_equal(hex, "88a6720d9ad7cd8f49121155721bf5b545174d95d94e2d790c48de2855b864fd");
}

/* Beside a pair of digests the cuts are the same, and the digests are right, wherever they end. */
static void test_beside_digests(void **state)
{
	(void)state;
	size_t want[MAX_CUTS], n = 3 << 20, n_want, at = 0, from = 0;
	uint8_t *p = noise(4, n), *other = noise(5, n);
	memset(p + (1 << 20), 0, 700000);
	n_want = cut_all(key_a, p, n, n, want);
	struct gear g;
	struct chunker c;
	struct rng_seeded r;
	struct sha256_state *whole = sha256_new();
	gear_init(&g, key_a);
	chunker_init(&c, &g);
	rng_seeded_init(&r, 6);
	for (size_t i = 0; i < n_want; i++) {
		struct sha256_pair pair;
		size_t k = i % 4 ? rng_below(&r.base, 1 << 17) : rng_below(&r.base, 200);
		k = k < n - from ? k : n - from;
		bool cut;
		sha256_pair_begin(&pair, whole, other + from, k);
		at += chunker_scan_beside(&c, p + at, n - at, &cut, &pair);
		assert_int_equal(at, want[i]);
		struct sha256 one = sha256_pair_end(&pair), is = sha256_of(other + from, k);
		assert_true(sha256_eq(&one, &is));
		from += k;
	}
	struct sha256 all = sha256_final(whole), is = sha256_of(other, from);
	assert_true(sha256_eq(&all, &is));
	sha256_free(whole);
	free(p);
	free(other);
}

static void test_any_split(void **state)
{
	(void)state;
	static const size_t steps[] = {1, 63, 64, 65, 1000, 16384, 70000, 1 << 20};
	size_t n = 3 << 20, want[MAX_CUTS], got[MAX_CUTS];
	uint8_t *p = noise(2, n);
	size_t n_want = cut_all(key_a, p, n, n, want);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		assert_int_equal(cut_all(key_a, p, n, steps[i], got), n_want);
		assert_memory_equal(got, want, n_want * sizeof *want);
	}
	free(p);
}

static void test_lengths_and_key(void **state)
{
	(void)state;
	size_t a[MAX_CUTS], b[MAX_CUTS];
	uint8_t *p = noise(3, SIZE);
	size_t n_a = cut_all(key_a, p, SIZE, SIZE, a), n_b = cut_all(key_b, p, SIZE, SIZE, b), same = 0;
	for (size_t i = 0; i < n_a; i++) {
		size_t length = a[i] - (i ? a[i - 1] : 0);
		assert_true(length <= CHUNK_MAX_BYTES);
		assert_true(length >= CHUNK_MIN_BYTES || i == n_a - 1);
		for (size_t j = 0; j < n_b; j++)
			same += a[i] == b[j];
	}
	assert_in_range(SIZE / n_a, 48 << 10, 100 << 10);
	assert_int_equal(same, 1); /* the end */
	free(p);
}

/* Inserting or deleting some bytes leaves nearly all chunks as they were. */
static void test_locality(void **state)
{
	(void)state;
	for (uint64_t round = 0; round < 20; round++) {
		struct rng_seeded r;
		rng_seeded_init(&r, 100 + round);
		size_t a[MAX_CUTS], b[MAX_CUTS], at = rng_below(&r.base, SIZE - 2000), k = 1 + rng_below(&r.base, 1000);
		uint8_t *p = noise(round, SIZE), *q = noise(round + 1000, SIZE + k);
		bool insert = round & 1;
		memcpy(q, p, at);
		if (insert)
			memcpy(q + at + k, p + at, SIZE - at);
		else
			memcpy(q + at, p + at + k, SIZE - at - k);
		size_t n_q = insert ? SIZE + k : SIZE - k;
		size_t n_a = cut_all(key_a, p, SIZE, SIZE, a), n_b = cut_all(key_a, q, n_q, n_q, b), changed = 0;
		for (size_t j = 0; j < n_b; j++) {
			bool found = false;
			size_t old = b[j] <= at ? b[j] : insert ? b[j] - k : b[j] + k;
			for (size_t i = 0; i < n_a && !found; i++)
				found = a[i] == old;
			changed += !found;
		}
		assert_true(changed <= 8);
		free(p);
		free(q);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_definition),     cmocka_unit_test(test_known_answers),   cmocka_unit_test(test_any_split),
	    cmocka_unit_test(test_beside_digests), cmocka_unit_test(test_lengths_and_key), cmocka_unit_test(test_locality),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
