#include "http/download.h"

#include "base/must.h"
#include "base/time.h"
#include "http/range.h"

/* A body made of pieces: literal text (the heads of multipart/byteranges) and stretches of the content. */
struct piece {
	struct str text;
	int64_t first, length; /* of the content, when text.p == NULL */
};

struct stream {
	struct body_source base;
	struct download *from;
	size_t n, at;       /* pieces; the present one */
	int64_t piece_done; /* bytes of it that are out */
	struct piece pieces[2 * RANGE_MAX + 1];
};

static int stream_fill(struct body_source *base, int64_t position, void *out, size_t cap, size_t *got)
{
	struct stream *s = (struct stream *)base;
	(void)position; /* always called in order */
	*got = 0;
	while (*got == 0 && s->at < s->n) {
		struct piece *p = &s->pieces[s->at];
		int64_t left = (p->text.p ? (int64_t)p->text.n : p->length) - s->piece_done;
		size_t want = left < (int64_t)cap ? (size_t)left : cap;
		if (left == 0) {
			s->at++;
			s->piece_done = 0;
			continue;
		}
		if (p->text.p) {
			memcpy(out, p->text.p + s->piece_done, want);
			*got = want;
		} else {
			int err = s->from->read(s->from, p->first + s->piece_done, out, want, got);
			if (err || *got == 0)
				return err ? err : E_CORRUPT;
			must(*got <= want);
		}
		s->piece_done += (int64_t)*got;
	}
	return E_OK;
}

static void stream_close(struct body_source *base)
{
	struct stream *s = (struct stream *)base;
	s->from->close(s->from);
}

static void add(struct stream *s, struct str text, struct range r)
{
	must(s->n < sizeof s->pieces / sizeof s->pieces[0]);
	s->pieces[s->n++] = (struct piece){text, r.first, r.length};
	s->base.length += text.p ? (int64_t)text.n : r.length;
}

struct str content_disposition(struct arena *a, struct str filename)
{
	static const char hex[] = "0123456789ABCDEF";
	struct buf plain = {0}, full = {0};
	for (size_t i = 0; i < filename.n; i++) {
		uint8_t c = (uint8_t)filename.p[i];
		bool attr = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		            (c && strchr("!#$&+-.^_`|~", c));
		/* '%' and the quotes of the fallback are read differently by different clients: leave them out */
		buf_char(&plain, c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '%' || c == '/' ? '_' : (char)c);
		if (attr) {
			buf_char(&full, (char)c);
		} else {
			buf_char(&full, '%');
			buf_char(&full, hex[c >> 4]);
			buf_char(&full, hex[c & 15]);
		}
	}
	struct str out = STR("attachment");
	if (filename.n)
		out = arena_fmt(a, "attachment; filename=\"%.*s\"; filename*=UTF-8''%.*s", STR_ARG(buf_as_str(&plain)),
		                STR_ARG(buf_as_str(&full)));
	buf_fini(&plain);
	buf_fini(&full);
	return out;
}

static bool header_safe(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((uint8_t)s.p[i] < 0x20 || (uint8_t)s.p[i] >= 0x7f)
			return false;
	return s.n > 0 && s.n <= 255;
}

static void validators(struct ctx *ctx, struct download *d, struct reply *out)
{
	char date[32];
	if (d->etag.n)
		reply_header(out, STR("ETag"), d->etag);
	if (d->modified_us > 0) {
		int64_t now = clock_now(ctx->clock); /* never in the future (RFC 9110, 8.8.2.1), wherever the clock was */
		time_http(d->modified_us < now ? d->modified_us : now, date);
		reply_header(out, STR("Last-Modified"), arena_str(ctx->arena, str_c(date)));
	}
}

/* multipart/byteranges (RFC 9110, 14.6) */
static void multi(struct ctx *ctx, struct stream *s, const struct ranges *r, struct str mime, struct reply *out)
{
	uint64_t salt = rng_u64(ctx->rng);
	struct str mark = arena_fmt(ctx->arena, "range-%016llx", (unsigned long long)salt);
	for (size_t i = 0; i < r->n; i++) {
		add(s,
		    arena_fmt(ctx->arena, "%s--%.*s\r\nContent-Type: %.*s\r\nContent-Range: bytes %lld-%lld/%lld\r\n\r\n",
		              i ? "\r\n" : "", STR_ARG(mark), STR_ARG(mime), (long long)r->r[i].first,
		              (long long)(r->r[i].first + r->r[i].length - 1), (long long)s->from->size_bytes),
		    (struct range){0, 0});
		add(s, STR_NULL, r->r[i]);
	}
	add(s, arena_fmt(ctx->arena, "\r\n--%.*s--\r\n", STR_ARG(mark)), (struct range){0, 0});
	out->content_type = arena_fmt(ctx->arena, "multipart/byteranges; boundary=%.*s", STR_ARG(mark));
}

static enum range_result choose(struct ctx *ctx, const struct request *req, struct download *d, struct ranges *r)
{
	struct str start = request_query(req, ctx->arena, "range_start"), end = request_query(req, ctx->arena, "range_end");
	if (!if_range_holds(request_header(req, STR("if-range")), d->etag))
		return RANGE_WHOLE;
	if (!request_header(req, STR("range")).p && (start.p || end.p)) /* the header wins */
		return range_query(start, end, d->size_bytes, r);
	return range_parse(request_header(req, STR("range")), d->size_bytes, r);
}

static bool not_modified(struct ctx *ctx, const struct request *req, struct download *d)
{
	struct str tags = request_list(req, ctx->arena, STR("if-none-match"));
	int64_t us;
	if (tags.p)
		return etag_listed(tags, d->etag, true);
	struct str since = request_header(req, STR("if-modified-since"));
	return since.p && d->modified_us > 0 && time_http_parse(since, &us) && d->modified_us / 1000000 <= us / 1000000;
}

int download_reply(struct ctx *ctx, const struct request *req, struct download *d, struct reply *out)
{
	struct ranges r = {0};
	struct str if_match = request_list(req, ctx->arena, STR("if-match"));
	if (if_match.p && !etag_listed(if_match, d->etag, false)) {
		d->close(d);
		return E_PRECONDITION;
	}
	validators(ctx, d, out);
	if (not_modified(ctx, req, d)) {
		out->status = 304;
		out->content_bytes = d->size_bytes;
		d->close(d);
		return E_OK;
	}
	enum range_result kind = choose(ctx, req, d, &r);
	if (kind == RANGE_UNSATISFIABLE) {
		reply_header(out, STR("Content-Range"), arena_fmt(ctx->arena, "bytes */%lld", (long long)d->size_bytes));
		d->close(d);
		return E_RANGE;
	}
	struct str mime = header_safe(d->mime) ? d->mime : STR("application/octet-stream");
	struct stream *s = arena_new(ctx->arena, struct stream);
	s->base.fill = stream_fill;
	s->base.close = stream_close;
	s->from = d;
	out->content_type = mime;
	out->status = kind == RANGE_PARTIAL ? 206 : 200;
	if (kind == RANGE_WHOLE) {
		add(s, STR_NULL, (struct range){0, d->size_bytes});
	} else if (r.n == 1) {
		add(s, STR_NULL, r.r[0]);
		reply_header(out, STR("Content-Range"),
		             arena_fmt(ctx->arena, "bytes %lld-%lld/%lld", (long long)r.r[0].first,
		                       (long long)(r.r[0].first + r.r[0].length - 1), (long long)d->size_bytes));
	} else {
		multi(ctx, s, &r, mime, out);
	}
	reply_header(out, STR("Accept-Ranges"), STR("bytes"));
	reply_header(out, STR("Content-Disposition"), content_disposition(ctx->arena, d->filename));
	reply_header(out, STR("Content-Security-Policy"), STR("default-src 'none'; sandbox"));
	reply_header(out, STR("Cross-Origin-Resource-Policy"), STR("same-site"));
	out->source = &s->base;
	return E_OK;
}
