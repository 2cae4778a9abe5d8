/* Whatever is read as steps says the same bytes when it is put again; nothing beyond the input is ever read. */
#include <stdlib.h>

#include "base/must.h"
#include "chunks/chunker.h"
#include "chunks/steps.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct buf again = {0};
	struct str in = str_n((const char *)p, n);
	while (in.n) {
		struct step s;
		if (step_next(&in, &s))
			break;
		must(s.is_run ? s.count > 0 && s.source <= UINT16_MAX : s.length > 0 && s.length <= CHUNK_MAX_BYTES);
		if (s.is_run)
			step_put_run(&again, s.source, s.first, s.count);
		else
			step_put_chunk(&again, &s.hash, s.length);
		must(again.n == n - in.n);
	}
	must(again.n <= n && (again.n == 0 || memcmp(again.p, p, again.n) == 0));
	buf_fini(&again);
	return 0;
}
