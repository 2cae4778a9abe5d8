#include "base/must.h"

#include <stdio.h>
#include <stdlib.h>

void must_fail(const char *cond, const char *file, int line, const char *func)
{
	fprintf(stderr, "BUG: must(%s) failed in %s at %s:%d\n", cond, func, file, line);
	abort();
}
