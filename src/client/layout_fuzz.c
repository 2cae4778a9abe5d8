/* Any bytes as a layout: refused, or whole and consistent. */
#include <stddef.h>

#include "base/must.h"
#include "client/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct layout l;
	struct str text = str_n((const char *)data, size);
	if (layout_read(&l, text))
		return 0;
	for (size_t i = 0; i < l.n; i++) {
		struct sha256 hash = {0};
		memcpy(hash.b, data + i * LAYOUT_CHUNK_BYTES, 8);
		must(layout_find(&l, &hash, layout_length(&l, i), i) == i && l.offsets[i] < l.offsets[i + 1]);
	}
	must(l.n == 0 || layout_common(&l, text) > 0);
	layout_fini(&l);
	return 0;
}
