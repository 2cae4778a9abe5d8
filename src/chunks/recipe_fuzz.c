/* Any bytes as a recipe: refused or read, and what was read is written again to the same chunks. */
#include "chunks/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_n(data, size);
	struct recipe_reader r;
	struct recipe_writer w;
	struct buf out = {0};
	bool more = true;
	size_t n, n_again;
	int64_t bytes, bytes_again;
	int err = recipe_measure(in, &n, &bytes);
	if (err != E_OK)
		return 0;
	must(recipe_open(&r, in) == E_OK);
	recipe_begin(&w, &out);
	while (more) {
		int64_t id;
		uint32_t length;
		must(recipe_next(&r, &more, &id, &length) == E_OK);
		if (more)
			recipe_add(&w, id, length);
	}
	must(recipe_measure(buf_as_str(&out), &n_again, &bytes_again) == E_OK && n == n_again && bytes == bytes_again);
	buf_fini(&out);
	return 0;
}
