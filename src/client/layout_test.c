#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/err.h"
#include "chunks/chunker.h"
#include "client/layout.h"

static struct sha256 hash(int i)
{
	return sha256_of(&i, sizeof i);
}

static void put(struct buf *b, int i, uint32_t length)
{
	struct sha256 h = hash(i);
	layout_put(b, &h, length);
}

static void chunks_are_found(void **s)
{
	(void)s;
	struct buf b = {0}, part = {0};
	struct layout l;
	struct sha256 h[4] = {hash(0), hash(1), hash(2), hash(3)};
	put(&b, 0, 100);
	put(&b, 1, 200);
	put(&b, 0, 100);
	put(&b, 2, 5);
	assert_int_equal(layout_read(&l, buf_as_str(&b)), 0);
	assert_true(l.n == 4 && l.offsets[1] == 100 && l.offsets[4] == 405 && layout_length(&l, 1) == 200);
	assert_true(layout_find(&l, &h[0], 100, LAYOUT_NONE) == 0 && layout_find(&l, &h[0], 100, 2) == 2);
	assert_true(layout_find(&l, &h[0], 100, 1) == 0 && layout_find(&l, &h[2], 5, 4) == 3);
	assert_true(layout_find(&l, &h[0], 101, 0) == LAYOUT_NONE && layout_find(&l, &h[3], 5, 3) == LAYOUT_NONE);
	put(&part, 0, 100);
	put(&part, 1, 201);
	put(&part, 2, 5);
	put(&part, 3, 9);
	assert_int_equal(layout_common(&l, buf_as_str(&part)), 105);
	assert_int_equal(layout_common(&l, str_n(part.p, 11)), 0);
	buf_clear(&part);
	layout_put_run(&part, &l, 1, 2);
	layout_fini(&l);
	assert_int_equal(layout_read(&l, buf_as_str(&part)), 0);
	assert_true(l.n == 2 && l.offsets[2] == 300 && layout_find(&l, &h[1], 200, LAYOUT_NONE) == 0);
	layout_fini(&l);
	buf_fini(&part);
	buf_fini(&b);
}

static void what_is_no_layout_is_refused(void **s)
{
	(void)s;
	struct buf b = {0};
	struct layout l;
	assert_int_equal(layout_read(&l, STR("")), 0);
	assert_true(l.n == 0 && l.offsets[0] == 0);
	layout_fini(&l);
	put(&b, 0, CHUNK_MAX_BYTES);
	assert_int_equal(layout_read(&l, buf_as_str(&b)), 0);
	layout_fini(&l);
	assert_int_equal(layout_read(&l, str_n(b.p, 11)), E_UPSTREAM);
	put(&b, 1, CHUNK_MAX_BYTES + 1);
	assert_int_equal(layout_read(&l, buf_as_str(&b)), E_UPSTREAM);
	b.n -= LAYOUT_CHUNK_BYTES;
	put(&b, 1, 0);
	assert_int_equal(layout_read(&l, buf_as_str(&b)), E_UPSTREAM);
	buf_clear(&b);
	for (int i = 0; i < LAYOUT_CHUNKS_MAX; i++)
		put(&b, i, 1);
	assert_int_equal(layout_read(&l, buf_as_str(&b)), 0);
	layout_fini(&l);
	put(&b, 0, 1);
	assert_int_equal(layout_read(&l, buf_as_str(&b)), E_UPSTREAM);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(chunks_are_found), cmocka_unit_test(what_is_no_layout_is_refused)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
