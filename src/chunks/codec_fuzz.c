/* Any bytes as a frame from the wire: nothing beyond cap is written, and what was packed comes out again. */
#include <stdlib.h>

#include "base/must.h"
#include "chunks/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct codec_work *w;
	if (n < 3 || n > 100000)
		return 0;
	if (!w)
		w = codec_work_new();
	size_t cap = (size_t)p[0] << 8 | p[1], prefix_n = p[2] < n - 3 ? p[2] : n - 3, got;
	struct str prefix = str_n(p + 3, prefix_n), rest = str_n(p + 3 + prefix_n, n - 3 - prefix_n), packed;
	uint8_t *out = malloc(cap + 1), *whole = malloc(n);
	must(out != NULL && whole != NULL);
	out[cap] = 'e';
	if (codec_unpack(w, prefix, rest, out, cap, &got) == 0)
		must(got > 0 && got <= cap);
	must(out[cap] == 'e');
	if (rest.n && codec_pack(w, prefix, rest.p, rest.n, &packed)) {
		must(codec_unpack(w, prefix, packed, whole, rest.n, &got) == 0);
		must(got == rest.n && memcmp(whole, rest.p, got) == 0);
	}
	free(out);
	free(whole);
	return 0;
}
