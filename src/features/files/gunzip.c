#include "features/files/gunzip.h"

#include <stdlib.h>
#include <zlib.h>

#include "base/limits.h"
#include "base/must.h"

enum { WINDOW = 64 << 10, GZIP_ONLY = 15 + 16 };

struct gunzip {
	z_stream z;
	int64_t came, length, free, limit;
	bool failed, between; /* between: a member has ended, or none has begun */
	unsigned members;
	Bytef window[WINDOW];
};

struct gunzip *gunzip_new(int64_t free_bytes, int64_t limit_bytes)
{
	struct gunzip *g = calloc(1, sizeof *g);
	must(g != NULL);
	g->free = free_bytes;
	g->limit = limit_bytes;
	g->between = true;
	g->failed = inflateInit2(&g->z, GZIP_ONLY) != Z_OK;
	return g;
}

void gunzip_free(struct gunzip *g)
{
	if (!g)
		return;
	inflateEnd(&g->z);
	free(g);
}

/* One call of inflate. False when there is no more to do with this input. */
static bool step(struct gunzip *g)
{
	if (g->between && g->z.avail_in == 0)
		return false;
	if (g->between && g->members && inflateReset(&g->z) != Z_OK)
		g->failed = true;
	g->between = false;
	g->z.next_out = g->window;
	g->z.avail_out = WINDOW;
	int rc = inflate(&g->z, Z_NO_FLUSH);
	g->length += WINDOW - (int64_t)g->z.avail_out;
	if (rc == Z_STREAM_END) {
		g->between = true;
		g->members++;
	} else if (rc == Z_BUF_ERROR) {
		return false;
	} else if (rc != Z_OK) {
		g->failed = true;
	}
	g->failed |= g->length > g->limit || (g->length > g->free && g->length / LIMIT_INFLATED_RATIO > g->came);
	return !g->failed && (g->z.avail_in > 0 || g->z.avail_out == 0);
}

void gunzip_feed(struct gunzip *g, const void *p, size_t n)
{
	must(n <= UINT32_MAX);
	g->z.next_in = (Bytef *)(uintptr_t)p;
	g->z.avail_in = (uInt)n;
	g->came += (int64_t)n;
	while (!g->failed && step(g))
		;
}

bool gunzip_length(const struct gunzip *g, int64_t *length)
{
	*length = g->length;
	return !g->failed && g->between && g->members > 0;
}
