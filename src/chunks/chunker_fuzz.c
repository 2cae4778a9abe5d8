/* The cuts do not depend on how the bytes are split into calls. First byte: how. The rest is repeated to a length. */
#include "base/must.h"
#include "chunks/chunker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LENGTH = 300000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[LENGTH];
	static const uint8_t key[32] = {1};
	static struct gear g;
	if (size < 2)
		return 0;
	if (!g.table[0])
		gear_init(&g, key);
	for (size_t i = 0; i < LENGTH; i++)
		bytes[i] = (uint8_t)(data[1 + i % (size - 1)] + i / 4096 * data[0]);
	struct chunker a, b;
	chunker_init(&a, &g);
	chunker_init(&b, &g);
	size_t step = 1 + data[0] * 37u;
	for (size_t at = 0, b_at = 0; at < LENGTH;) {
		bool cut, b_cut = false;
		at += chunker_scan(&a, bytes + at, LENGTH - at, &cut);
		while (b_at < at && !b_cut)
			b_at += chunker_scan(&b, bytes + b_at, at - b_at < step ? at - b_at : step, &b_cut);
		must(b_at == at && cut == b_cut);
	}
	return 0;
}
