#include "chunks/steps.h"

#include "base/must.h"
#include "chunks/chunker.h"

enum { STEP_CHUNK = 1, STEP_RUN = 2, CHUNK_BYTES = 1 + 32 + 4, RUN_BYTES = 1 + 2 + 4 + 4 };

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
		out->source = (uint32_t)get_le(p + 1, 2);
		out->first = (uint32_t)get_le(p + 3, 4);
		out->count = (uint32_t)get_le(p + 7, 4);
		return out->count ? 0 : E_BAD_REQUEST;
	}
	memcpy(out->hash.b, p + 1, 32);
	out->length = (uint32_t)get_le(p + 33, 4);
	return out->length && out->length <= CHUNK_MAX_BYTES ? 0 : E_BAD_REQUEST;
}

void step_put_chunk(struct buf *b, const struct sha256 *hash, uint32_t length)
{
	buf_char(b, STEP_CHUNK);
	buf_put(b, hash->b, 32);
	buf_le(b, length, 4);
}

void step_put_run(struct buf *b, uint32_t source, uint32_t first, uint32_t count)
{
	must(source <= UINT16_MAX && count);
	buf_char(b, STEP_RUN);
	buf_le(b, source, 2);
	buf_le(b, first, 4);
	buf_le(b, count, 4);
}
