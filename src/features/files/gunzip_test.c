/* The length of gzip files, in pieces of any size; what is none; the bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "features/files/gunzip.h"

static size_t gzip(const void *p, size_t n, unsigned char *out, size_t cap)
{
	z_stream z = {0};
	must(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	z.next_in = (Bytef *)(uintptr_t)p;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)cap;
	must(deflate(&z, Z_FINISH) == Z_STREAM_END);
	deflateEnd(&z);
	return cap - z.avail_out;
}

enum { FREE = 8 << 20 };

static bool measured(const unsigned char *p, size_t n, size_t step, int64_t limit, int64_t *length)
{
	struct gunzip *g = gunzip_new(limit < FREE ? limit : FREE, limit);
	for (size_t at = 0; at < n; at += step)
		gunzip_feed(g, p + at, n - at < step ? n - at : step);
	bool known = gunzip_length(g, length);
	gunzip_free(g);
	return known;
}

static void test_lengths(void **state)
{
	(void)state;
	enum { N = 3 << 20 };
	char *plain = calloc(1, N);
	unsigned char *z = malloc(N);
	must(plain && z);
	for (int i = 0; i < N; i += 7)
		plain[i] = (char)(i * 31);
	static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 1 << 20, N}, steps[] = {1, 7, 4096, 1 << 20};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
			int64_t length;
			size_t n = gzip(plain, sizes[i], z, N);
			assert_true(measured(z, n, steps[k], 1 << 30, &length));
			assert_int_equal(length, sizes[i]);
			size_t two = n + gzip(plain, 1000, z + n, N - n);
			assert_true(measured(z, two, steps[k], 1 << 30, &length));
			assert_int_equal(length, sizes[i] + 1000);
			assert_false(measured(z, n - 1, steps[k], 1 << 30, &length));
		}
	int64_t length;
	size_t n = gzip(plain, N, z, N);
	assert_false(measured(z, n, 4096, N - 1, &length));
	assert_true(measured(z, n, 4096, N, &length));
	z[n / 2] ^= 1;
	assert_false(measured(z, n, 4096, N, &length));
	assert_false(measured((const unsigned char *)"plain text", 10, 3, N, &length));
	assert_false(measured(z, 0, 1, N, &length));
	free(plain);
	free(z);
}

/* What grows a thousandfold is given up behind the free length; what grows less is counted to its end. */
static void test_bombs(void **state)
{
	(void)state;
	enum { N = 4 * FREE };
	unsigned char *plain = calloc(1, N), *z = malloc(N);
	int64_t length;
	must(plain && z);
	assert_true(measured(z, gzip(plain, FREE, z, N), 4096, INT64_MAX, &length));
	assert_int_equal(length, FREE);
	assert_false(measured(z, gzip(plain, N, z, N), 4096, INT64_MAX, &length));
	assert_in_range(length, FREE, FREE + (1 << 20));
	for (size_t i = 0; i < N; i += 101) /* some fifty to one */
		plain[i] = (unsigned char)(i * i >> 9);
	size_t n = gzip(plain, N, z, N);
	assert_in_range(N / n, 20, LIMIT_INFLATED_RATIO - 1);
	assert_true(measured(z, n, 4096, INT64_MAX, &length));
	assert_int_equal(length, N);
	free(plain);
	free(z);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_lengths), cmocka_unit_test(test_bombs)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
