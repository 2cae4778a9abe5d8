#include "http/encode.h"

#include <pthread.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/err.h"

enum { KEEP = 4, WINDOW_LOG_MAX = 23, STEP = 64 << 10 };

struct encoders {
	pthread_mutex_t lock;
	ZSTD_CCtx *zstd[KEEP];
	z_stream *gzip[KEEP];
	int n_zstd, n_gzip;
};

struct encoders *encoders_new(void)
{
	struct encoders *e = calloc(1, sizeof *e);
	must(e != NULL);
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

static void gzip_free(z_stream *z)
{
	deflateEnd(z);
	free(z);
}

void encoders_free(struct encoders *e)
{
	if (!e)
		return;
	while (e->n_zstd)
		ZSTD_freeCCtx(e->zstd[--e->n_zstd]);
	while (e->n_gzip)
		gzip_free(e->gzip[--e->n_gzip]);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static const char *const names[] = {"identity", "gzip", "zstd"};

const char *coding_name(enum coding c)
{
	return names[c];
}

enum coding coding_parse(struct str s)
{
	s = str_trim(s);
	if (!s.n || str_ieq(s, STR("identity")))
		return CODING_IDENTITY;
	if (str_ieq(s, STR("gzip")) || str_ieq(s, STR("x-gzip")))
		return CODING_GZIP;
	return str_ieq(s, STR("zstd")) ? CODING_ZSTD : CODING_UNKNOWN;
}

/* "q=0", "q=0.0" ... forbid; anything else allows. */
static bool q_is_zero(struct str params)
{
	while (params.n) {
		struct str p = str_trim(str_cut(&params, ';'));
		if (p.n < 3 || (p.p[0] | 32) != 'q' || p.p[1] != '=')
			continue;
		for (size_t i = 2; i < p.n; i++)
			if (p.p[i] != '0' && p.p[i] != '.')
				return false;
		return true;
	}
	return false;
}

enum coding coding_accepted(struct str s)
{
	bool gzip = false, zstd = false;
	while (s.n) {
		struct str item = str_cut(&s, ',');
		struct str name = str_trim(str_cut(&item, ';'));
		bool allowed = !q_is_zero(item);
		if (str_ieq(name, STR("gzip")))
			gzip = allowed;
		else if (str_ieq(name, STR("zstd")))
			zstd = allowed;
	}
	return zstd ? CODING_ZSTD : gzip ? CODING_GZIP : CODING_IDENTITY;
}

static bool encode_zstd(struct encoders *e, struct str in, struct buf *out)
{
	pthread_mutex_lock(&e->lock);
	ZSTD_CCtx *z = e->n_zstd ? e->zstd[--e->n_zstd] : NULL;
	pthread_mutex_unlock(&e->lock);
	if (!z)
		z = ZSTD_createCCtx();
	must(z != NULL);
	buf_reserve(out, ZSTD_compressBound(in.n));
	size_t n = ZSTD_compressCCtx(z, out->p + out->n, out->cap - out->n, in.p, in.n, 1);
	bool ok = !ZSTD_isError(n);
	if (ok)
		out->n += n;
	pthread_mutex_lock(&e->lock);
	if (e->n_zstd < KEEP)
		e->zstd[e->n_zstd++] = z, z = NULL;
	pthread_mutex_unlock(&e->lock);
	ZSTD_freeCCtx(z);
	return ok;
}

static bool encode_gzip(struct encoders *e, struct str in, struct buf *out)
{
	if (in.n > UINT32_MAX / 2)
		return false;
	pthread_mutex_lock(&e->lock);
	z_stream *z = e->n_gzip ? e->gzip[--e->n_gzip] : NULL;
	pthread_mutex_unlock(&e->lock);
	if (!z) {
		z = calloc(1, sizeof *z);
		must(z != NULL);
		must(deflateInit2(z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
	}
	buf_reserve(out, deflateBound(z, in.n) + 32);
	z->next_in = (Bytef *)(uintptr_t)in.p;
	z->avail_in = (uInt)in.n;
	z->next_out = (Bytef *)out->p + out->n;
	z->avail_out = (uInt)(out->cap - out->n);
	bool ok = deflate(z, Z_FINISH) == Z_STREAM_END;
	if (ok)
		out->n = out->cap - z->avail_out;
	deflateReset(z);
	pthread_mutex_lock(&e->lock);
	if (e->n_gzip < KEEP)
		e->gzip[e->n_gzip++] = z, z = NULL;
	pthread_mutex_unlock(&e->lock);
	if (z)
		gzip_free(z);
	return ok;
}

bool encode(struct encoders *e, enum coding c, struct str in, struct buf *out)
{
	return c == CODING_ZSTD ? encode_zstd(e, in, out) : c == CODING_GZIP ? encode_gzip(e, in, out) : false;
}

/* Room for the next piece: one byte above the limit shows that there is more. */
static int room(struct buf *out, size_t start, size_t max, size_t *step)
{
	size_t done = out->n - start;
	if (done > max)
		return E_TOO_LARGE;
	*step = max - done + 1 < STEP ? max - done + 1 : STEP;
	buf_reserve(out, *step);
	return E_OK;
}

static int decode_gzip(struct str in, size_t max, struct buf *out)
{
	z_stream z = {.next_in = (Bytef *)(uintptr_t)in.p, .avail_in = (uInt)in.n};
	size_t start = out->n, step = 0;
	if (in.n > UINT32_MAX / 2)
		return E_TOO_LARGE;
	must(inflateInit2(&z, 15 + 16) == Z_OK);
	int err = E_OK;
	for (;;) {
		if ((err = room(out, start, max, &step)))
			break;
		z.next_out = (Bytef *)out->p + out->n;
		z.avail_out = (uInt)step;
		int r = inflate(&z, Z_NO_FLUSH);
		out->n += step - z.avail_out;
		if (r == Z_STREAM_END && z.avail_in == 0)
			break;
		if (r == Z_STREAM_END) /* the next member */
			r = inflateReset(&z);
		if (r != Z_OK || (z.avail_in == 0 && z.avail_out > 0)) {
			err = E_BAD_REQUEST;
			break;
		}
	}
	inflateEnd(&z);
	return err ? err : out->n - start > max ? E_TOO_LARGE : E_OK;
}

static int decode_zstd(struct str in, size_t max, struct buf *out)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	must(z != NULL);
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	ZSTD_inBuffer from = {in.p, in.n, 0};
	size_t start = out->n, step = 0;
	int err = E_OK;
	for (;;) {
		if ((err = room(out, start, max, &step)))
			break;
		ZSTD_outBuffer to = {out->p + out->n, step, 0};
		size_t r = ZSTD_decompressStream(z, &to, &from);
		out->n += to.pos;
		if (ZSTD_isError(r)) {
			err = E_BAD_REQUEST;
			break;
		}
		if (r == 0 && from.pos == from.size)
			break;
		if (r != 0 && from.pos == from.size && to.pos < step) { /* cut off */
			err = E_BAD_REQUEST;
			break;
		}
	}
	ZSTD_freeDStream(z);
	return err ? err : out->n - start > max ? E_TOO_LARGE : E_OK;
}

int decode(enum coding c, struct str in, size_t max, struct buf *out)
{
	if (c == CODING_GZIP)
		return decode_gzip(in, max, out);
	if (c == CODING_ZSTD)
		return decode_zstd(in, max, out);
	if (c == CODING_UNKNOWN)
		return E_MEDIA_TYPE;
	if (in.n > max)
		return E_TOO_LARGE;
	buf_str(out, in);
	return E_OK;
}
