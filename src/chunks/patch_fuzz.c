/* Whatever the patch or the signatures say, nothing beyond the input and the chunks is read, reading is bounded, and what a
 * patch was made of comes out again. The first byte chooses. */
#include <stdlib.h>

#include "base/must.h"
#include "chunks/patch.h"

struct chunks {
	const uint8_t *p;
	size_t n, read;
};

/* Chunk i is what lies behind the first i bytes; there are no more than three. */
static int chunk_of(void *arg, uint32_t source, uint32_t chunk, struct str *bytes)
{
	struct chunks *c = arg;
	if (source > 1 || chunk > 2 || chunk >= c->n)
		return E_CHUNK_MISSING;
	*bytes = str_n(c->p + chunk, c->n - chunk);
	must(c->read <= PATCH_READ_MAX);
	c->read += bytes->n;
	return 0;
}

static void apply_any(const uint8_t *p, size_t n, uint8_t *out)
{
	struct chunks c = {(const uint8_t *)"some bytes of a base", 20, 0};
	size_t got;
	int err = patch_apply(str_n(p, n), chunk_of, &c, out, &got);
	must(err == 0 || err == E_BAD_REQUEST || err == E_CHUNK_MISSING);
	must(err ? got == 0 : got > 0 && got <= CHUNK_MAX_BYTES);
}

static void make_any(const uint8_t *p, size_t n)
{
	struct patch_base *base = patch_base_new();
	struct str in = str_n(p, n);
	struct buf out = {0};
	uint32_t length;
	for (uint32_t i = 0; in.n && !patch_base_add(base, i & 1, i, &in, &length); i++)
		must(length > 0 && length <= CHUNK_MAX_BYTES);
	patch_make(base, p, n, &out);
	buf_fini(&out);
	patch_base_free(base);
}

/* The first two bytes say where the base ends and the new content begins. */
static void there_and_back(const uint8_t *p, size_t n, uint8_t *out)
{
	size_t base_n = get_le(p, 2) % n, got;
	struct patch_base *base = patch_base_new();
	struct buf b = {0}, patch = {0};
	struct chunks c = {p, base_n, 0};
	uint32_t length;
	if (base_n) {
		signature_put(&b, p, base_n);
		struct str in = buf_as_str(&b);
		must(patch_base_add(base, 1, 0, &in, &length) == 0 && length == base_n);
	}
	if (patch_make(base, p + base_n, n - base_n, &patch)) {
		must(patch_apply(buf_as_str(&patch), chunk_of, &c, out, &got) == 0);
		must(got == n - base_n && memcmp(out, p + base_n, got) == 0);
	}
	buf_fini(&b);
	buf_fini(&patch);
	patch_base_free(base);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 4 || n > CHUNK_MAX_BYTES)
		return 0;
	uint8_t *out = malloc(CHUNK_MAX_BYTES);
	must(out != NULL);
	if (p[0] % 3 == 0)
		apply_any(p + 1, n - 1, out);
	else if (p[0] % 3 == 1)
		make_any(p + 1, n - 1);
	else
		there_and_back(p + 1, n - 1, out);
	free(out);
	return 0;
}
