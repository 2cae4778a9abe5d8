#include "http/multipart.h"

#include <stdlib.h>

static int on_part(void *arg, const struct multipart_part *part)
{
	(void)arg;
	return part->name.p ? 0 : (abort(), 1);
}

static int on_data(void *arg, const void *p, size_t n)
{
	*(size_t *)arg += n;
	return p && n ? 0 : (abort(), 1);
}

static int on_part_end(void *arg)
{
	(void)arg;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte is the size of the pieces. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct multipart_events events = {on_part, on_data, on_part_end};
	struct arena arena;
	struct ctx ctx;
	struct multipart *m;
	size_t total = 0, step = size ? (size_t)data[0] + 1 : 1;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	if (!multipart_new(&ctx, STR("multipart/form-data; boundary=x"), &events, &total, &m)) {
		for (size_t i = 1; i < size; i += step)
			if (multipart_feed(m, data + i, size - i < step ? size - i : step))
				break;
		multipart_end(m);
		multipart_free(m);
	}
	header_param(&arena, str_n(data, size), "filename");
	arena_fini(&arena);
	return total > size ? (abort(), 0) : 0;
}
