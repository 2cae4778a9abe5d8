#include "chunks/frame.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/must.h"

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

int frame_next(struct frame_reader *r, struct str *in, bool *ready, struct frame *out)
{
	*ready = false;
	r->have_head += take(in, r->head + r->have_head, FRAME_HEAD_BYTES - r->have_head);
	if (r->have_head < FRAME_HEAD_BYTES)
		return E_OK;
	uint32_t number = (uint32_t)get_le(r->head + 32, 4), flags = number & (FRAME_BASED | FRAME_ZSTD), length = number & ~flags;
	if ((flags & ~r->allowed) || (flags && !length) || length > (flags ? FRAME_MAX_BYTES : CHUNK_MAX_BYTES))
		return E_BAD_REQUEST;
	const uint8_t *bytes = (const uint8_t *)in->p;
	if (r->have == 0 && in->n >= length) { /* all of it is here */
		*in = str_skip(*in, length);
	} else {
		if (!r->held)
			r->held = malloc(FRAME_MAX_BYTES);
		must(r->held != NULL);
		r->have += take(in, r->held + r->have, length - r->have);
		if (r->have < length)
			return E_OK;
		bytes = r->held;
	}
	*out = (struct frame){.length = length, .flags = flags, .bytes = bytes};
	memcpy(out->hash.b, r->head, 32);
	r->have_head = r->have = 0;
	*ready = true;
	return E_OK;
}

bool frame_between(const struct frame_reader *r)
{
	return r->have_head == 0;
}

void frame_head(uint8_t out[FRAME_HEAD_BYTES], const struct sha256 *hash, uint32_t number)
{
	memcpy(out, hash->b, 32);
	put_le(out + 32, number, 4);
}
