#include "chunks/codec.h"

#include <stdlib.h>
#include <zstd.h>

#include "base/must.h"

enum { LEVEL = 1, TOO_SMALL = 64, PROBE_BYTES = 4096, SAMPLE_BYTES = 1024, SAMPLE_RUNS = 32, PREFIX_WINDOW_LOG = 21 };
/* Level 3 finds an edit in a prefix of a MiB (4 KiB new of 64: 4.1 KiB, 1 ms); level 1 forgets most of such a prefix. */
enum { PREFIX_LEVEL = 3 };

struct codec_work {
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	size_t cap;
	char *out;
};

struct codec_work *codec_work_new(void)
{
	struct codec_work *w = calloc(1, sizeof *w);
	must(w != NULL);
	return w;
}

void codec_work_free(struct codec_work *w)
{
	if (!w)
		return;
	ZSTD_freeCCtx(w->cctx);
	ZSTD_freeDCtx(w->dctx);
	free(w->out);
	free(w);
}

/* Compression must save a sixteenth, or reading pays for nothing. */
static size_t worthwhile(size_t n)
{
	return n - n / 16;
}

static size_t compress(struct codec_work *w, const void *p, size_t n)
{
	size_t got = ZSTD_compressCCtx(w->cctx, w->out, w->cap, p, n, LEVEL);
	return ZSTD_isError(got) ? SIZE_MAX : got;
}

static void prepare(struct codec_work *w)
{
	if (w->cctx)
		return;
	w->cap = ZSTD_compressBound(CHUNK_MAX_BYTES + CODEC_PACK_EXTRA);
	w->cctx = ZSTD_createCCtx();
	w->out = malloc(w->cap);
	must(w->cctx && w->out);
}

/* Whether bytes are spread so evenly that repetitions alone could make them shorter. Of pairs of random bytes one in 256 is equal;
 * where it is less than six fifths of that, there are more than 7.7 bits in a byte (entropy of order 2, which Shannon's is not
 * below), and coding bytes one by one saves less than a thirtieth. Found in a sample from all over the chunk, for a tenth of what
 * a try costs. */
static bool is_even(const uint8_t *p, size_t n)
{
	enum { RUN = SAMPLE_BYTES / SAMPLE_RUNS };
	uint16_t counts[2][256] = {0}; /* two: a byte that follows its like would wait for it */
	uint32_t equal = 0;
	for (size_t at = 0; at < SAMPLE_RUNS; at++)
		for (size_t i = 0; i < RUN; i += 2) {
			const uint8_t *two = p + at * (n / SAMPLE_RUNS) + i;
			counts[0][two[0]]++;
			counts[1][two[1]]++;
		}
	for (size_t i = 0; i < 256; i++) {
		uint32_t count = (uint32_t)counts[0][i] + counts[1][i];
		equal += count * (count - 1);
	}
	return equal / 6 * 5 < SAMPLE_BYTES * (SAMPLE_BYTES - 1) / 256;
}

enum codec codec_encode(struct codec_work *w, const void *p, size_t n, struct str *stored)
{
	must(n <= CHUNK_MAX_BYTES);
	*stored = str_n(p, n);
	if (n < TOO_SMALL || (n >= SAMPLE_BYTES && is_even(p, n)))
		return CODEC_RAW;
	prepare(w);
	/* Cheap answer for what is compressed already: a piece from the middle, where no file header is. */
	if (n >= 4 * PROBE_BYTES && compress(w, (const char *)p + n / 2, PROBE_BYTES) > worthwhile(PROBE_BYTES))
		return CODEC_RAW;
	size_t got = compress(w, p, n);
	if (got > worthwhile(n))
		return CODEC_RAW;
	*stored = str_n(w->out, got);
	return CODEC_ZSTD;
}

int codec_decode(struct codec_work *w, enum codec codec, struct str stored, void *out, size_t raw_len)
{
	switch (codec) {
	case CODEC_RAW:
		if (stored.n != raw_len)
			return E_CORRUPT;
		memcpy(out, stored.p, raw_len);
		return E_OK;
	case CODEC_ZSTD:
		if (!w->dctx)
			w->dctx = ZSTD_createDCtx();
		must(w->dctx != NULL);
		return ZSTD_decompressDCtx(w->dctx, out, raw_len, stored.p, stored.n) == raw_len ? E_OK : E_CORRUPT;
	default:
		return E_CORRUPT;
	}
}

bool codec_pack(struct codec_work *w, struct str prefix, const void *p, size_t n, struct str *packed)
{
	must(n <= CHUNK_MAX_BYTES + CODEC_PACK_EXTRA && prefix.n <= CODEC_PREFIX_MAX);
	prepare(w);
	ZSTD_CCtx_reset(w->cctx, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(w->cctx, ZSTD_c_compressionLevel, prefix.n ? PREFIX_LEVEL : LEVEL);
	if (prefix.n) {
		ZSTD_CCtx_setParameter(w->cctx, ZSTD_c_windowLog, PREFIX_WINDOW_LOG);
		must(!ZSTD_isError(ZSTD_CCtx_refPrefix(w->cctx, prefix.p, prefix.n)));
	}
	size_t got = ZSTD_compress2(w->cctx, w->out, w->cap, p, n);
	*packed = str_n(w->out, got);
	return !ZSTD_isError(got) && got < n;
}

int codec_unpack(struct codec_work *w, struct str prefix, struct str packed, void *out, size_t cap, size_t *n)
{
	*n = 0;
	unsigned long long size = ZSTD_getFrameContentSize(packed.p, packed.n); /* the two largest numbers: none, an error */
	if (!size || size > cap || ZSTD_findFrameCompressedSize(packed.p, packed.n) != packed.n)
		return E_BAD_REQUEST;
	if (!w->dctx)
		w->dctx = ZSTD_createDCtx();
	must(w->dctx != NULL);
	if (prefix.n)
		must(!ZSTD_isError(ZSTD_DCtx_refPrefix(w->dctx, prefix.p, prefix.n)));
	size_t got = ZSTD_decompressDCtx(w->dctx, out, cap, packed.p, packed.n);
	ZSTD_DCtx_reset(w->dctx, ZSTD_reset_session_and_parameters);
	if (got != size)
		return E_BAD_REQUEST;
	*n = got;
	return 0;
}
