#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/rng.h"
#include "chunks/chunker.h"
#include "chunks/frame.h"

enum { CHUNKS = 60 };

static void put(struct buf *b, const void *p, uint32_t n)
{
	uint8_t head[FRAME_HEAD_BYTES];
	struct sha256 hash = sha256_of(p, n);
	frame_head(head, &hash, n);
	buf_put(b, head, sizeof head);
	buf_put(b, p, n);
}

static void test_any_pieces(void **state)
{
	(void)state;
	struct rng_seeded rng;
	struct buf b = {0};
	uint8_t *bytes = malloc(CHUNK_MAX_BYTES);
	uint32_t lengths[CHUNKS];
	rng_seeded_init(&rng, 7);
	for (size_t i = 0; i < CHUNK_MAX_BYTES; i++)
		bytes[i] = (uint8_t)rng_u64(&rng.base);
	for (size_t i = 0; i < CHUNKS; i++) {
		static const uint32_t edges[] = {0, 1, CHUNK_MAX_BYTES, CHUNK_MAX_BYTES - 1};
		lengths[i] = i < 4 ? edges[i] : (uint32_t)rng_below(&rng.base, 5000);
		put(&b, bytes, lengths[i]);
	}
	for (int round = 0; round < 50; round++) {
		struct frame_reader r = {0};
		size_t n = 0;
		for (size_t at = 0; at < b.n;) {
			size_t piece = 1 + (size_t)rng_below(&rng.base, round < 10 ? 50 : 300000);
			struct str in = str_n(b.p + at, piece < b.n - at ? piece : b.n - at);
			at += in.n;
			for (bool ready = true; ready;) {
				struct frame f;
				assert_int_equal(frame_next(&r, &in, &ready, &f), 0);
				if (!ready)
					continue;
				assert_true(n < CHUNKS);
				struct sha256 h = sha256_of(f.bytes, f.length);
				assert_int_equal(f.length, lengths[n++]);
				assert_true(sha256_eq(&h, &f.hash));
			}
			assert_int_equal(in.n, 0);
		}
		assert_int_equal(n, CHUNKS);
		assert_true(frame_between(&r));
		frame_reader_fini(&r);
	}
	free(bytes);
	buf_fini(&b);
}

static void test_refused(void **state)
{
	(void)state;
	uint8_t head[FRAME_HEAD_BYTES];
	struct sha256 zero = {0};
	struct frame f;
	bool ready;
	static const uint32_t bad[] = {CHUNK_MAX_BYTES + 1, 1u << 31, UINT32_MAX};
	for (size_t i = 0; i < 3; i++) {
		struct frame_reader r = {0};
		frame_head(head, &zero, bad[i]);
		struct str in = str_n(head, sizeof head);
		assert_int_equal(frame_next(&r, &in, &ready, &f), E_BAD_REQUEST);
		assert_false(ready);
		frame_reader_fini(&r);
	}
	for (size_t cut = 1; cut < FRAME_HEAD_BYTES + 3; cut++) {
		struct frame_reader r = {0};
		uint8_t whole[FRAME_HEAD_BYTES + 3] = {0};
		frame_head(whole, &zero, 3);
		struct str in = str_n(whole, cut);
		assert_int_equal(frame_next(&r, &in, &ready, &f), 0);
		assert_false(ready);
		assert_false(frame_between(&r));
		frame_reader_fini(&r);
	}
}

/* A frame with these flags that says that n bytes follow. */
static int flagged(uint32_t allowed, uint32_t n, uint32_t flags, struct frame *f)
{
	static uint8_t whole[FRAME_HEAD_BYTES + FRAME_MAX_BYTES + 1];
	static const struct sha256 zero;
	struct frame_reader r = {.allowed = allowed};
	struct str in = str_n(whole, sizeof whole);
	bool ready;
	frame_head(whole, &zero, n | flags);
	int err = frame_next(&r, &in, &ready, f);
	frame_reader_fini(&r);
	return err;
}

static void test_flags(void **state)
{
	(void)state;
	const uint32_t both = FRAME_BASED | FRAME_ZSTD, flags[] = {FRAME_BASED, FRAME_ZSTD, both};
	struct frame f;
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(flagged(flags[i], 5, flags[i], &f), 0);
		assert_true(f.length == 5 && f.flags == flags[i]);
		assert_int_equal(flagged(both, FRAME_MAX_BYTES, flags[i], &f), 0);
		assert_int_equal(flagged(both, FRAME_MAX_BYTES + 1, flags[i], &f), E_BAD_REQUEST);
		assert_int_equal(flagged(both, 0, flags[i], &f), E_BAD_REQUEST);
		assert_int_equal(flagged(flags[i] ^ both, 5, flags[i], &f), E_BAD_REQUEST);
		assert_int_equal(flagged(0, 5, flags[i], &f), E_BAD_REQUEST);
	}
	assert_int_equal(flagged(both, CHUNK_MAX_BYTES + 1, 0, &f), E_BAD_REQUEST);
	assert_int_equal(flagged(both, 5, 1u << 29, &f), E_BAD_REQUEST);
	assert_int_equal(flagged(both, 5, 0, &f), 0);
	assert_int_equal(f.flags, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_any_pieces),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_flags),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
