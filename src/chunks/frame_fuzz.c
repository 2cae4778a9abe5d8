/* The same bytes in any pieces give the same frames; nothing beyond the input is ever read. */
#include "base/buf.h"
#include "base/must.h"
#include "chunks/chunker.h"
#include "chunks/frame.h"

struct seen {
	size_t n;
	uint64_t digest;
	int err;
	bool between;
};

static struct seen run(const uint8_t *p, size_t n, size_t piece)
{
	struct frame_reader r = {.allowed = FRAME_BASED | FRAME_ZSTD};
	struct seen s = {0};
	for (size_t at = 0; at < n && !s.err; at += piece) {
		struct str in = str_n(p + at, n - at < piece ? n - at : piece);
		bool ready = true;
		while (!s.err && ready) {
			struct frame f;
			s.err = frame_next(&r, &in, &ready, &f);
			if (s.err || !ready)
				continue;
			must(f.length <= (f.flags ? FRAME_MAX_BYTES : CHUNK_MAX_BYTES));
			s.n++;
			s.digest = s.digest * 31 + f.flags + xxh3_64(f.bytes, f.length) + xxh3_64(f.hash.b, 32);
		}
		must(s.err || in.n == 0);
		/* a length that the reader could not hold is refused with its head */
		must(s.err || r.have_head < FRAME_HEAD_BYTES || (get_le(r.head + 32, 4) & ~(uint64_t)(FRAME_BASED | FRAME_ZSTD)) <= FRAME_MAX_BYTES);
	}
	s.between = frame_between(&r);
	frame_reader_fini(&r);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 1)
		return 0;
	struct seen whole = run(p + 1, n - 1, n), cut = run(p + 1, n - 1, (size_t)p[0] + 1);
	must(whole.n == cut.n && whole.digest == cut.digest && whole.err == cut.err);
	must(whole.err || whole.between == cut.between);
	return 0;
}
