#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "chunks/pack.h"
#include "chunks/recipe.h"
#include "io/disk_fault.h"

enum { N = 300 };

struct expected {
	struct pack_entry e[N];
	size_t at;
};

static int expect_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	(void)stored;
	struct expected *x = arg;
	const struct pack_entry *want = &x->e[x->at++];
	assert_true(intact);
	assert_int_equal(e->chunk_id, want->chunk_id);
	assert_int_equal(e->offset, want->offset);
	assert_int_equal(e->stored_len, want->stored_len);
	assert_int_equal(e->raw_len, want->raw_len);
	assert_true(e->xxh == want->xxh && sha256_eq(&e->hash, &want->hash));
	return E_OK;
}

/* Segments of random sizes; a cut of the file at any byte loses whole segments from the end and nothing else. */
static void test_scan_and_torn_tail(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(1);
	struct rng_seeded r;
	struct pack_writer w;
	struct expected *x = calloc(1, sizeof *x);
	size_t upto[N], n_segments = 0;
	int64_t ends[N];
	uint8_t *p = malloc(200000);
	rng_seeded_init(&r, 1);
	r.base.fill(&r.base, p, 200000);
	assert_int_equal(pack_create(d, 77, 5, &w), E_OK);
	for (size_t i = 0; i < N; i++) {
		bool broken;
		struct pack_entry *e = &x->e[i];
		e->chunk_id = (int64_t)i + 1;
		e->stored_len = e->raw_len = 1 + (uint32_t)rng_below(&r.base, i > 100 ? 1000 : 200000);
		e->xxh = xxh3_64(p, e->stored_len);
		e->hash = sha256_of(p, e->stored_len);
		int64_t segment = w.segment;
		assert_int_equal(pack_append(&w, e, p, &broken), E_OK);
		if (i % 17 == 16 || i == N - 1)
			assert_int_equal(pack_seal(&w), E_OK);
		if (w.segment != segment) {
			ends[n_segments] = w.segment;
			upto[n_segments++] = i + 1;
		}
	}
	struct pack_info info;
	assert_int_equal(pack_scan(w.file, true, expect_entry, x, &info), E_OK);
	assert_true(x->at == N && info.n_segments == n_segments && !info.torn && info.pack_id == 77 && info.tenant_id == 5);
	for (int64_t size = ends[n_segments - 1]; size > PACK_HEADER_BYTES;) {
		size -= 1 + (int64_t)rng_below(&r.base, size < ends[0] ? 400000 : 30000);
		size = size < PACK_HEADER_BYTES ? PACK_HEADER_BYTES : size;
		assert_int_equal(disk_truncate(w.file, size), E_OK);
		size_t whole = n_segments;
		while (whole > 0 && ends[whole - 1] > size)
			whole--;
		x->at = 0;
		assert_int_equal(pack_scan(w.file, true, expect_entry, x, &info), E_OK);
		assert_int_equal(x->at, whole ? upto[whole - 1] : 0);
		assert_int_equal(info.torn, size > (whole ? ends[whole - 1] : PACK_HEADER_BYTES));
	}
	assert_int_equal(disk_truncate(w.file, PACK_HEADER_BYTES - 1), E_OK);
	assert_int_equal(pack_scan(w.file, true, NULL, NULL, &info), E_CORRUPT);
	pack_close(&w);
	free(x);
	free(p);
	disk_free(d);
}

struct met {
	const uint8_t *content;      /* of every chunk, but for the first bytes of the first ones */
	const struct sha256 *hashes; /* of entry 1 on */
	bool entry[N + 1];
	size_t n;
};

static int note_entry(void *arg, const struct pack_entry *e, const char *stored, bool intact)
{
	struct met *m = arg;
	size_t same = e->stored_len < PACK_HEADER_BYTES ? e->stored_len : PACK_HEADER_BYTES;
	assert_true(intact && sha256_eq(&m->hashes[e->chunk_id - 1], &e->hash) && !m->entry[e->chunk_id]);
	assert_memory_equal(stored + same, m->content + same, e->stored_len - same);
	m->entry[e->chunk_id] = true;
	m->n++;
	return E_OK;
}

/* A damaged head or table costs its own segment, and hides none behind it. A head of a segment in a chunk's bytes is no
 * segment, unless it names the very place where it lies. */
static void test_damage_hides_nothing(void **state)
{
	enum { SEGMENTS = 30, EACH = N / SEGMENTS };
	(void)state;
	struct disk *d = disk_fault_new(2);
	struct rng_seeded r;
	struct pack_writer w;
	struct pack_info info;
	int64_t at[SEGMENTS], table[SEGMENTS];
	static struct sha256 hashes[N];
	uint8_t *p = malloc(50000), head[PACK_HEADER_BYTES], bad;
	size_t got;
	rng_seeded_init(&r, 2);
	r.base.fill(&r.base, p, 50000);
	assert_int_equal(pack_create(d, 78, 5, &w), E_OK);
	for (size_t i = 0; i < N; i++) {
		bool broken;
		struct pack_entry e = {.chunk_id = (int64_t)i + 1, .stored_len = 1 + (uint32_t)rng_below(&r.base, 50000)};
		if (i == EACH) { /* the bytes of an earlier head, in a chunk */
			assert_int_equal(disk_pread(w.file, head, sizeof head, at[0], &got), E_OK);
			memcpy(p, head, sizeof head);
		}
		e.raw_len = e.stored_len;
		e.xxh = xxh3_64(p, e.stored_len);
		hashes[i] = e.hash = sha256_of(p, e.stored_len);
		at[i / EACH] = w.segment;
		assert_int_equal(pack_append(&w, &e, p, &broken), E_OK);
		table[i / EACH] = w.tail;
		if (i % EACH == EACH - 1)
			assert_int_equal(pack_seal(&w), E_OK);
	}
	for (int i = 0; i < 200; i++) {
		size_t first = rng_below(&r.base, SEGMENTS), second = rng_below(&r.base, SEGMENTS);
		int64_t where[2] = {at[first] + (int64_t)rng_below(&r.base, PACK_HEADER_BYTES),
		                    table[second] + (int64_t)rng_below(&r.base, EACH * PACK_ENTRY_BYTES)};
		for (int k = 0; k < 2; k++) {
			assert_int_equal(disk_pread(w.file, &bad, 1, where[k], &got), E_OK);
			bad ^= 4;
			assert_int_equal(disk_pwrite(w.file, &bad, 1, where[k]), E_OK);
		}
		struct met m = {.content = p, .hashes = hashes};
		assert_int_equal(pack_scan(w.file, true, note_entry, &m, &info), E_OK);
		assert_int_equal(m.n, N - EACH * (first == second ? 1 : 2));
		assert_true(!m.entry[first * EACH + 1] && !m.entry[second * EACH + 1]);
		assert_true(info.torn == (first == SEGMENTS - 1 || second == SEGMENTS - 1));
		for (int k = 0; k < 2; k++) {
			assert_int_equal(disk_pread(w.file, &bad, 1, where[k], &got), E_OK);
			bad ^= 4;
			assert_int_equal(disk_pwrite(w.file, &bad, 1, where[k]), E_OK);
		}
	}
	/* a file without a head is no pack, but who knows which one it is still meets all that is in it */
	struct met m = {.content = p, .hashes = hashes};
	assert_int_equal(disk_pwrite(w.file, p, 20, 5), E_OK);
	assert_int_equal(pack_scan(w.file, true, note_entry, &m, &info), E_CORRUPT);
	assert_int_equal(pack_scan_headless(w.file, 78, 5, true, note_entry, &m, &info), E_OK);
	assert_true(m.n == N && info.n_segments == SEGMENTS && info.tenant_id == 5 && !info.torn && !info.n_gaps);
	assert_int_equal(pack_scan_headless(w.file, 79, 5, true, NULL, NULL, &info), E_OK);
	assert_true(info.n_segments == 0);
	pack_close(&w);
	free(p);
	disk_free(d);
}

static void test_recipe(void **state)
{
	(void)state;
	struct buf b = {0};
	struct recipe_writer w;
	struct recipe_reader r;
	int64_t ids[] = {INT64_MAX, 1, 5, 5, INT64_MAX - 7}, id, size;
	bool more;
	uint32_t length;
	size_t n;
	recipe_begin(&w, &b);
	for (uint32_t i = 0; i < 5; i++)
		recipe_add(&w, ids[i], i * 60000 + 1);
	assert_int_equal(recipe_open(&r, buf_as_str(&b)), E_OK);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(recipe_next(&r, &more, &id, &length), E_OK);
		assert_true(more && id == ids[i] && length == i * 60000 + 1);
	}
	assert_int_equal(recipe_next(&r, &more, &id, &length), E_OK);
	assert_false(more);
	assert_int_equal(recipe_measure(buf_as_str(&b), &n, &size), E_OK);
	assert_true(n == 5 && size == 600005);
	b.n--;
	assert_int_equal(recipe_measure(buf_as_str(&b), &n, &size), E_CORRUPT);
	assert_int_equal(recipe_measure(STR(""), &n, &size), E_CORRUPT);
	assert_int_equal(recipe_measure(STR("\2"), &n, &size), E_CORRUPT);
	assert_int_equal(recipe_measure(STR("\1\1\1"), &n, &size), E_CORRUPT);                 /* id -1 */
	assert_int_equal(recipe_measure(STR("\1\2\0"), &n, &size), E_CORRUPT);                 /* length 0 */
	assert_int_equal(recipe_measure(STR("\1\2\xff\xff\xff\x7f"), &n, &size), E_CORRUPT);   /* too long */
	assert_int_equal(recipe_measure(STR("\1\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1\1\2\1"), &n, &size), E_CORRUPT);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_scan_and_torn_tail),
	                                   cmocka_unit_test(test_damage_hides_nothing), cmocka_unit_test(test_recipe)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
