#include "http/range.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t sizes[] = {0, 1, 10, 1000, INT64_MAX};
	struct str s = str_n(data, size);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct ranges r;
		if (range_parse(s, sizes[i], &r) != RANGE_PARTIAL)
			continue;
		for (size_t j = 0; j < r.n; j++)
			if (r.r[j].first < 0 || r.r[j].length < 1 || r.r[j].length > sizes[i] - r.r[j].first)
				abort();
	}
	etag_listed(s, STR("\"a\""), true);
	if_range_holds(s, STR("\"a\""));
	return 0;
}
