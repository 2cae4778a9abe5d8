#include "chunks/frame.h"

#include <stdlib.h>

#include "base/must.h"
#include "chunks/chunker.h"

void frame_reader_fini(struct frame_reader *r)
{
	free(r->held);
	*r = (struct frame_reader){0};
}

static size_t take(struct str *in, void *out, size_t want)
{
	size_t n = in->n < want ? in->n : want;
	if (n)
		memcpy(out, in->p, n);
	*in = str_skip(*in, n);
	return n;
}

static uint32_t length_of(const uint8_t head[FRAME_HEAD_BYTES])
{
	return head[32] | (uint32_t)head[33] << 8 | (uint32_t)head[34] << 16 | (uint32_t)head[35] << 24;
}

int frame_next(struct frame_reader *r, struct str *in, bool *ready, struct frame *out)
{
	*ready = false;
	r->have_head += take(in, r->head + r->have_head, FRAME_HEAD_BYTES - r->have_head);
	if (r->have_head < FRAME_HEAD_BYTES)
		return E_OK;
	uint32_t length = length_of(r->head);
	if (length > CHUNK_MAX_BYTES)
		return E_BAD_REQUEST;
	const uint8_t *bytes = (const uint8_t *)in->p;
	if (r->have == 0 && in->n >= length) { /* all of it is here */
		*in = str_skip(*in, length);
	} else {
		if (!r->held)
			r->held = malloc(CHUNK_MAX_BYTES);
		must(r->held != NULL);
		r->have += take(in, r->held + r->have, length - r->have);
		if (r->have < length)
			return E_OK;
		bytes = r->held;
	}
	*out = (struct frame){.length = length, .bytes = bytes};
	memcpy(out->hash.b, r->head, 32);
	r->have_head = r->have = 0;
	*ready = true;
	return E_OK;
}

bool frame_between(const struct frame_reader *r)
{
	return r->have_head == 0;
}

void frame_head(uint8_t out[FRAME_HEAD_BYTES], const struct sha256 *hash, uint32_t length)
{
	memcpy(out, hash->b, 32);
	for (unsigned i = 0; i < 4; i++)
		out[32 + i] = (uint8_t)(length >> (8 * i));
}
