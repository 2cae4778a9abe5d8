/* Bodies of hostile clients: what a reader accepts must write and read back; what it refuses must be a valid 422. */
#include "api.h"
#include "base/json.h"
#include "http/validate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct ctx ctx;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, NULL);
	AUTO_JSON *doc = NULL;
	if (!json_parse(str_n(data, size), &doc)) {
		struct ApplyRequest in, again;
		int err = read_ApplyRequest(&ctx, doc, &in);
		AUTO_JSON *second = NULL;
		if (err == E_INVALID) {
			must(!json_parse(ctx.invalid, &second) && json_len(second) > 0);
		} else if (!err) {
			struct buf b = {0};
			write_ApplyRequest(&b, &in);
			must(!json_parse(buf_as_str(&b), &second));
			must(read_ApplyRequest(&ctx, second, &again) == 0 && again.n_changes == in.n_changes);
			buf_fini(&b);
		}
	}
	arena_fini(&arena);
	return 0;
}
