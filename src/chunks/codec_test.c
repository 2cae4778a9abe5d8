#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "chunks/codec.h"

enum { OUT = CHUNK_MAX_BYTES };

static uint8_t noise[CODEC_PREFIX_MAX], out[OUT + CODEC_PACK_EXTRA];

static int setup(void **state)
{
	struct rng_seeded rng;
	rng_seeded_init(&rng, 11);
	rng.base.fill(&rng.base, noise, sizeof noise);
	*state = codec_work_new();
	return 0;
}

static int teardown(void **state)
{
	codec_work_free(*state);
	return 0;
}

static bool shrinks(const uint8_t *p, size_t n)
{
	size_t got = ZSTD_compress(out, sizeof out, p, n, 1);
	return !ZSTD_isError(got) && got <= n - n / 16;
}

/* What is taken for noise by its sample is what zstd makes nothing of. */
static void test_noise_is_told_from_the_rest(void **state)
{
	struct codec_work *w = *state;
	struct str stored;
	static uint8_t chunk[OUT];
	static const size_t sizes[] = {1000, 1024, 1500, 4096, 16383};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		size_t n = sizes[i];
		assert_int_equal(codec_encode(w, noise + i, n, &stored), CODEC_RAW);
		for (int values = 1; values <= 256; values++) { /* so many different bytes, as in letters: nothing repeats */
			for (size_t at = 0; at < n; at++)
				chunk[at] = (uint8_t)(noise[at] * values / 256);
			assert_int_equal(codec_encode(w, chunk, n, &stored), shrinks(chunk, n) ? CODEC_ZSTD : CODEC_RAW);
		}
		for (size_t at = 0; at + n / 8 <= n; at += n / 16) { /* an eighth that says nothing, wherever it lies */
			memcpy(chunk, noise, n);
			memset(chunk + at, 0, n / 8);
			assert_int_equal(codec_encode(w, chunk, n, &stored), shrinks(chunk, n) ? CODEC_ZSTD : CODEC_RAW);
		}
	}
	assert_int_equal(codec_encode(w, noise, OUT, &stored), CODEC_RAW);
}

static void test_packed(void **state)
{
	struct codec_work *w = *state;
	struct str packed;
	size_t n;
	static uint8_t text[OUT + CODEC_PACK_EXTRA];
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (uint8_t)(i / 100);
	assert_true(codec_pack(w, STR_NULL, text, sizeof text, &packed) && packed.n < sizeof text / 50);
	assert_int_equal(codec_unpack(w, STR_NULL, packed, out, sizeof out, &n), 0);
	assert_int_equal(n, sizeof text);
	assert_memory_equal(out, text, n);
	assert_int_equal(codec_unpack(w, STR_NULL, packed, out, sizeof out - 1, &n), E_BAD_REQUEST); /* says more than fits */
	assert_false(codec_pack(w, STR_NULL, noise, OUT, &packed));
}

/* Bytes of the largest prefix's beginning, and its end, cost nothing. */
static void test_prefix(void **state)
{
	struct codec_work *w = *state;
	struct str packed, prefix = str_n(noise, sizeof noise);
	static uint8_t chunk[OUT];
	static char kept[OUT];
	size_t n;
	memcpy(chunk, noise, OUT / 2);
	memcpy(chunk + OUT / 2, noise + sizeof noise - OUT / 2, OUT / 2);
	for (int i = 0; i < 4096; i++)
		chunk[100000 + i] ^= (uint8_t)(i * i >> 3);
	assert_true(codec_pack(w, prefix, chunk, OUT, &packed));
	assert_true(packed.n < 5000);
	memcpy(kept, packed.p, packed.n);
	packed.p = kept;
	assert_int_equal(codec_unpack(w, prefix, packed, out, OUT, &n), 0);
	assert_memory_equal(out, chunk, OUT);
	/* without it, or with another, nothing comes out that would pass for the chunk */
	assert_true(codec_unpack(w, STR_NULL, packed, out, OUT, &n) || memcmp(out, chunk, OUT) != 0);
	assert_true(codec_unpack(w, str_skip(prefix, 1), packed, out, OUT, &n) || memcmp(out, chunk, OUT) != 0);
	/* and the next one needs none */
	assert_true(codec_pack(w, STR_NULL, chunk, OUT / 2, &packed) == false || packed.n > 5000);
	struct str stored;
	assert_int_equal(codec_encode(w, noise, OUT, &stored), CODEC_RAW);
}

static void test_what_is_no_frame(void **state)
{
	struct codec_work *w = *state;
	struct str packed;
	char frame[64];
	size_t n;
	static uint8_t zeros[OUT];
	assert_true(codec_pack(w, STR_NULL, zeros, sizeof zeros, &packed) && packed.n < sizeof frame);
	memcpy(frame, packed.p, packed.n);
	for (size_t cut = 0; cut < packed.n; cut++)
		assert_int_equal(codec_unpack(w, STR_NULL, str_n(frame, cut), out, OUT, &n), E_BAD_REQUEST);
	frame[packed.n] = 0;
	assert_int_equal(codec_unpack(w, STR_NULL, str_n(frame, packed.n + 1), out, OUT, &n), E_BAD_REQUEST);
	/* no size declared */
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
	size_t got = ZSTD_compress2(c, frame, sizeof frame, zeros, 1000);
	assert_int_equal(codec_unpack(w, STR_NULL, str_n(frame, got), out, OUT, &n), E_BAD_REQUEST);
	/* another size declared than there is, in a frame of two bytes for it (descriptor 0x60: single segment) */
	static const uint8_t lie[] = {0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x10, 0x0b, 0x00, 0x00, 'a'};
	assert_int_equal(codec_unpack(w, STR_NULL, str_n(lie, sizeof lie), out, OUT, &n), E_BAD_REQUEST);
	/* a skippable frame */
	static const uint8_t skip[] = {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'a'};
	assert_int_equal(codec_unpack(w, STR_NULL, str_n(skip, sizeof skip), out, OUT, &n), E_BAD_REQUEST);
	ZSTD_freeCCtx(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_noise_is_told_from_the_rest),
	    cmocka_unit_test(test_packed),
	    cmocka_unit_test(test_prefix),
	    cmocka_unit_test(test_what_is_no_frame),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
