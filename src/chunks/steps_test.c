#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "chunks/chunker.h"
#include "chunks/steps.h"

static const struct sha256 hash = {{1, 2, 3}};

static void test_there_and_back(void **state)
{
	(void)state;
	struct buf b = {0};
	struct step s;
	step_put_run(&b, 7, 13990, 4000000000u);
	step_put_chunk(&b, &hash, CHUNK_MAX_BYTES);
	step_put_run(&b, UINT16_MAX, 0, 1);
	assert_int_equal(b.n, 11 + 37 + 11);
	assert_memory_equal(b.p, "\x02\x07\x00\xa6\x36\x00\x00\x00\x28\x6b\xee", 11); /* as docs/integrate/bulk.md says */
	struct str in = buf_as_str(&b);
	assert_int_equal(step_next(&in, &s), 0);
	assert_true(s.is_run && s.source == 7 && s.first == 13990 && s.count == 4000000000u);
	assert_int_equal(step_next(&in, &s), 0);
	assert_true(!s.is_run && s.length == CHUNK_MAX_BYTES && sha256_eq(&s.hash, &hash));
	assert_int_equal(step_next(&in, &s), 0);
	assert_true(s.is_run && s.source == UINT16_MAX && s.count == 1);
	assert_int_equal(in.n, 0);
	buf_fini(&b);
}

static void refused(struct buf *b)
{
	struct step s;
	struct str in = buf_as_str(b);
	assert_int_equal(step_next(&in, &s), E_BAD_REQUEST);
	buf_clear(b);
}

static void test_what_is_no_step(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_put(&b, "\0\0\0\0\0\0\0\0\0\0\0\0", 12);
	refused(&b);
	buf_put(&b, "\x03zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 41);
	refused(&b);
	step_put_run(&b, 0, 5, 1);
	b.p[7] = 0; /* of no chunks */
	refused(&b);
	step_put_chunk(&b, &hash, 0);
	refused(&b);
	step_put_chunk(&b, &hash, CHUNK_MAX_BYTES + 1);
	refused(&b);
	for (size_t cut = 1; cut < 37; cut++) {
		step_put_chunk(&b, &hash, 1);
		b.n = cut;
		refused(&b);
		if (cut < 11) {
			step_put_run(&b, 0, 0, 1);
			b.n = cut;
			refused(&b);
		}
	}
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_there_and_back),
	    cmocka_unit_test(test_what_is_no_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
