#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/must.h"
#include "base/rng.h"
#include "chunks/patch.h"

enum { CHUNKS = 8, ROUNDS = 3000 };

/* Two sources, each a recipe of random chunks. */
struct world {
	struct rng_seeded rng;
	uint8_t *bytes[2][CHUNKS];
	uint32_t length[2][CHUNKS];
	struct patch_base *base;
	size_t n_read;
};

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)rng_below(&w->rng.base, n);
}

static void world_init(struct world *w, uint64_t seed, uint32_t length_max)
{
	struct buf b = {0};
	*w = (struct world){.base = patch_base_new()};
	rng_seeded_init(&w->rng, seed);
	for (uint32_t s = 0; s < 2; s++) {
		buf_clear(&b);
		for (size_t i = 0; i < CHUNKS; i++) {
			uint32_t n = w->length[s][i] = 1 + below(w, length_max);
			w->bytes[s][i] = malloc(n);
			must(w->bytes[s][i] != NULL);
			w->rng.base.fill(&w->rng.base, w->bytes[s][i], n);
			if (below(w, 4) == 0)
				memset(w->bytes[s][i], 'x', n / 2); /* the same block many times */
			signature_put(&b, w->bytes[s][i], n);
		}
		struct str in = buf_as_str(&b);
		for (uint32_t i = 0; i < CHUNKS; i++) {
			uint32_t n;
			assert_int_equal(patch_base_add(w->base, s, i, &in, &n), 0);
			assert_int_equal(n, w->length[s][i]);
		}
		assert_int_equal(in.n, 0);
	}
	buf_fini(&b);
}

static void world_fini(struct world *w)
{
	for (size_t s = 0; s < 2; s++)
		for (size_t i = 0; i < CHUNKS; i++)
			free(w->bytes[s][i]);
	patch_base_free(w->base);
}

static int chunk_of(void *arg, uint32_t source, uint32_t chunk, struct str *bytes)
{
	struct world *w = arg;
	if (source >= 2 || chunk >= CHUNKS)
		return E_CHUNK_MISSING;
	*bytes = str_n(w->bytes[source][chunk], w->length[source][chunk]);
	w->n_read += bytes->n;
	return 0;
}

/* The bytes come out again, whether or not a patch was worth it. Bytes of the patch, or n. */
static size_t there_and_back(struct world *w, const uint8_t *p, size_t n)
{
	static uint8_t out[CHUNK_MAX_BYTES];
	struct buf patch = {0};
	size_t got, size = n;
	buf_lit(&patch, "before");
	if (patch_make(w->base, p, n, &patch)) {
		w->n_read = 0;
		assert_int_equal(patch_apply(str_skip(buf_as_str(&patch), 6), chunk_of, w, out, &got), 0);
		assert_int_equal(got, n);
		assert_memory_equal(out, p, n);
		assert_true(w->n_read <= PATCH_READ_MAX);
		size = patch.n - 6;
		assert_true(size < n);
	} else {
		assert_int_equal(patch.n, 6);
	}
	buf_fini(&patch);
	return size;
}

/* A chunk of the first source, with an edit in it. */
static void test_an_edit_is_small(void **state)
{
	(void)state;
	struct world w;
	world_init(&w, 1, CHUNK_MAX_BYTES);
	uint8_t *p = malloc(CHUNK_MAX_BYTES);
	size_t i = 0;
	while (w.length[0][i] < 100000)
		i++;
	size_t n = w.length[0][i];
	memcpy(p, w.bytes[0][i], n);
	assert_int_equal(there_and_back(&w, p, n), 4 + 15); /* all of it, the short block at the end too */
	memset(p + 50000, 'e', 4096);
	assert_true(there_and_back(&w, p, n) < 4096 + 2 * PATCH_BLOCK_BYTES + 4 + 5 + 2 * 15);
	memcpy(p, w.bytes[0][i], 777); /* bytes are put in */
	memset(p + 777, 'e', 10);
	memcpy(p + 787, w.bytes[0][i] + 777, n - 787);
	assert_true(there_and_back(&w, p, n) < 10 + 3 * PATCH_BLOCK_BYTES + 100);
	memcpy(p, w.bytes[0][i] + 333, n - 333); /* bytes are taken away */
	assert_true(there_and_back(&w, p, n - 333) < 2 * PATCH_BLOCK_BYTES + 100);
	w.rng.base.fill(&w.rng.base, p, n); /* nothing is known */
	assert_int_equal(there_and_back(&w, p, n), n);
	assert_int_equal(there_and_back(&w, p, 0), 0);
	assert_int_equal(there_and_back(&w, p, 1), 1);
	free(p);
	world_fini(&w);
}

/* Any bytes that are put together from pieces of the base and others. */
static void test_any_content(void **state)
{
	(void)state;
	uint8_t *p = malloc(CHUNK_MAX_BYTES);
	for (uint64_t seed = 0; seed < 10; seed++) {
		struct world w;
		world_init(&w, seed, seed < 5 ? 5000 : 60000);
		for (int round = 0; round < ROUNDS / 10; round++) {
			size_t n = 0, want = below(&w, round % 10 ? 20000 : CHUNK_MAX_BYTES);
			while (n < want) {
				uint32_t s = below(&w, 2), c = below(&w, CHUNKS), from = below(&w, w.length[s][c]);
				size_t k = 1 + below(&w, w.length[s][c] - from);
				k = k < want - n ? k : want - n;
				if (below(&w, 3) == 0)
					w.rng.base.fill(&w.rng.base, p + n, k);
				else
					memcpy(p + n, w.bytes[s][c] + from, k);
				n += k;
			}
			there_and_back(&w, p, n);
		}
		world_fini(&w);
	}
	free(p);
}

/* Two chunks by turns: the maker stops before the receiver would refuse. */
static void test_reading_is_bounded(void **state)
{
	(void)state;
	struct world w = {.base = patch_base_new()};
	uint8_t *p = malloc(CHUNK_MAX_BYTES);
	struct buf b = {0};
	rng_seeded_init(&w.rng, 3);
	for (uint32_t i = 0; i < 2; i++) {
		w.bytes[0][i] = malloc(CHUNK_MAX_BYTES);
		w.length[0][i] = CHUNK_MAX_BYTES;
		w.rng.base.fill(&w.rng.base, w.bytes[0][i], CHUNK_MAX_BYTES);
		buf_clear(&b);
		signature_put(&b, w.bytes[0][i], CHUNK_MAX_BYTES);
		struct str in = buf_as_str(&b);
		uint32_t n;
		assert_int_equal(patch_base_add(w.base, 0, i, &in, &n), 0);
	}
	for (size_t at = 0; at < CHUNK_MAX_BYTES; at += PATCH_BLOCK_BYTES)
		memcpy(p + at, w.bytes[0][at / PATCH_BLOCK_BYTES % 2] + at, PATCH_BLOCK_BYTES);
	size_t n = there_and_back(&w, p, CHUNK_MAX_BYTES);
	assert_true(n < CHUNK_MAX_BYTES - 10 * PATCH_BLOCK_BYTES && w.n_read > PATCH_READ_MAX - 2 * CHUNK_MAX_BYTES);
	buf_clear(&b); /* another maker does not stop */
	buf_le(&b, 100, 4);
	for (uint32_t i = 0; i < 100; i++) {
		buf_char(&b, 2);
		buf_le(&b, 0, 2);
		buf_le(&b, i % 2, 4);
		buf_le(&b, 0, 4);
		buf_le(&b, 1, 4);
	}
	assert_int_equal(patch_apply(buf_as_str(&b), chunk_of, &w, p, &n), E_BAD_REQUEST);
	buf_fini(&b);
	free(p);
	world_fini(&w);
}

/* Many blocks whose rolling hashes were made equal cost no more than a few looks each. */
static void test_equal_rolling_hashes(void **state)
{
	(void)state;
	struct patch_base *base = patch_base_new();
	struct buf b = {0}, out = {0};
	static uint8_t p[CHUNK_MAX_BYTES]; /* of zeros: rolling 0 */
	struct rng_seeded rng;
	rng_seeded_init(&rng, 4);
	for (uint32_t i = 0; i < 200; i++) {
		buf_le(&b, CHUNK_MAX_BYTES, 4);
		for (size_t k = 0; k < CHUNK_MAX_BYTES / PATCH_BLOCK_BYTES; k++) {
			buf_le(&b, 0, 4);
			buf_le(&b, rng_u64(&rng.base), 8);
		}
	}
	struct str in = buf_as_str(&b);
	for (uint32_t i = 0, n; in.n; i++)
		assert_int_equal(patch_base_add(base, 0, i, &in, &n), 0);
	assert_false(patch_make(base, p, sizeof p, &out)); /* takes hours otherwise */
	buf_fini(&b);
	buf_fini(&out);
	patch_base_free(base);
}

static void no_patch(struct world *w, struct buf *b)
{
	static uint8_t out[CHUNK_MAX_BYTES];
	size_t n;
	assert_int_equal(patch_apply(buf_as_str(b), chunk_of, w, out, &n), E_BAD_REQUEST);
	assert_int_equal(n, 0);
	buf_clear(b);
}

static void copy(struct buf *b, uint32_t source, uint32_t chunk, uint32_t offset, uint32_t length)
{
	buf_char(b, 2);
	buf_le(b, source, 2);
	buf_le(b, chunk, 4);
	buf_le(b, offset, 4);
	buf_le(b, length, 4);
}

static void test_what_is_no_patch(void **state)
{
	(void)state;
	struct world w;
	struct buf b = {0};
	static uint8_t out[CHUNK_MAX_BYTES];
	static const uint32_t lengths[] = {0, CHUNK_MAX_BYTES + 1, UINT32_MAX};
	size_t n;
	world_init(&w, 2, 5000);
	no_patch(&w, &b);
	for (size_t i = 0; i < 3; i++) {
		buf_le(&b, lengths[i], 4);
		buf_put(&b, "\x01\x01\0\0\0a", 6);
		no_patch(&w, &b);
	}
	const uint32_t has = w.length[1][3];
	const struct {
		uint32_t makes, offset, length;
	} bad[] = {{10, has, 10}, {10, has - 9, 10}, {10, UINT32_MAX, 10}, {10, 0, 9}, {10, 0, 11}, {10, 0, 0},
	           {10, UINT32_MAX - 4, 10}, {has + 1, 0, has + 1}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		buf_le(&b, bad[i].makes, 4);
		copy(&b, 1, 3, bad[i].offset, bad[i].length);
		no_patch(&w, &b);
	}
	buf_le(&b, 5, 4);
	copy(&b, 1, 3, 1, 3);
	buf_put(&b, "\x01\x02\0\0\0ab", 7);
	struct buf whole = {0};
	buf_put(&whole, b.p, b.n);
	assert_int_equal(patch_apply(buf_as_str(&whole), chunk_of, &w, out, &n), 0);
	assert_int_equal(n, 5);
	assert_memory_equal(out, w.bytes[1][3] + 1, 3);
	assert_memory_equal(out + 3, "ab", 2);
	for (size_t cut = 0; cut < whole.n; cut++) { /* cut anywhere */
		buf_clear(&b);
		buf_put(&b, whole.p, cut);
		no_patch(&w, &b);
	}
	buf_put(&b, whole.p, whole.n); /* something behind the end */
	buf_put(&b, "\x01\x01\0\0\0a", 6);
	no_patch(&w, &b);
	buf_put(&b, whole.p, whole.n);
	b.p[4] = 3;
	no_patch(&w, &b);
	buf_le(&b, 1, 4);
	copy(&b, 2, 0, 0, 1); /* what the source answers is handed on */
	assert_int_equal(patch_apply(buf_as_str(&b), chunk_of, &w, out, &n), E_CHUNK_MISSING);
	buf_fini(&b);
	buf_fini(&whole);
	world_fini(&w);
}

/* As docs/integrate/bulk.md says. */
static void test_signatures(void **state)
{
	(void)state;
	struct buf b = {0};
	uint8_t chunk[PATCH_BLOCK_BYTES + 3];
	uint32_t rolling = 0, n;
	for (size_t i = 0; i < sizeof chunk; i++)
		chunk[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < PATCH_BLOCK_BYTES; i++)
		rolling = rolling * UINT32_C(0xc2b2ae3d) + chunk[i];
	signature_put(&b, chunk, sizeof chunk);
	assert_int_equal(b.n, 4 + 2 * 12);
	assert_int_equal(get_le(b.p, 4), sizeof chunk);
	assert_int_equal(get_le(b.p + 4, 4), rolling);
	assert_true(get_le(b.p + 8, 8) == xxh3_64(chunk, PATCH_BLOCK_BYTES));
	assert_true(get_le(b.p + 20, 8) == xxh3_64(chunk + PATCH_BLOCK_BYTES, 3));
	struct patch_base *base = patch_base_new();
	for (size_t cut = 1; cut < b.n; cut++) {
		struct str in = str_n(b.p, cut);
		assert_int_equal(patch_base_add(base, 0, 0, &in, &n), E_BAD_REQUEST);
	}
	put_le(b.p, 0, 4);
	struct str in = buf_as_str(&b);
	assert_int_equal(patch_base_add(base, 0, 0, &in, &n), E_BAD_REQUEST);
	put_le(b.p, UINT32_MAX, 4);
	assert_int_equal(patch_base_add(base, 0, 0, &in, &n), E_BAD_REQUEST);
	patch_base_free(base);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_signatures),      cmocka_unit_test(test_an_edit_is_small),
	    cmocka_unit_test(test_any_content),     cmocka_unit_test(test_reading_is_bounded),
	    cmocka_unit_test(test_equal_rolling_hashes), cmocka_unit_test(test_what_is_no_patch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
