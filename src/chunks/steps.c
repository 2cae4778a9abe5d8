#include "chunks/steps.h"

#include "base/must.h"
#include "chunks/chunker.h"

enum { STEP_CHUNK = 1, STEP_RUN = 2, CHUNK_BYTES = 1 + 32 + 4, RUN_BYTES = 1 + 2 + 4 + 4 };

static uint32_t get_le(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;
	for (unsigned i = 0; i < n; i++)
		v |= (uint32_t)p[i] << (8 * i);
	return v;
}

static void put_le(struct buf *b, uint32_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		buf_char(b, (char)(uint8_t)(v >> (8 * i)));
}

int step_next(struct str *in, struct step *out)
{
	must(in->n > 0);
	const uint8_t *p = (const uint8_t *)in->p;
	*out = (struct step){.is_run = p[0] == STEP_RUN};
	size_t want = out->is_run ? RUN_BYTES : CHUNK_BYTES;
	if ((p[0] != STEP_CHUNK && p[0] != STEP_RUN) || in->n < want)
		return E_BAD_REQUEST;
	*in = str_skip(*in, want);
	if (out->is_run) {
		out->source = get_le(p + 1, 2);
		out->first = get_le(p + 3, 4);
		out->count = get_le(p + 7, 4);
		return out->count ? 0 : E_BAD_REQUEST;
	}
	memcpy(out->hash.b, p + 1, 32);
	out->length = get_le(p + 33, 4);
	return out->length && out->length <= CHUNK_MAX_BYTES ? 0 : E_BAD_REQUEST;
}

void step_put_chunk(struct buf *b, const struct sha256 *hash, uint32_t length)
{
	buf_char(b, STEP_CHUNK);
	buf_put(b, hash->b, 32);
	put_le(b, length, 4);
}

void step_put_run(struct buf *b, uint32_t source, uint32_t first, uint32_t count)
{
	must(source <= UINT16_MAX && count);
	buf_char(b, STEP_RUN);
	put_le(b, source, 2);
	put_le(b, first, 4);
	put_le(b, count, 4);
}
