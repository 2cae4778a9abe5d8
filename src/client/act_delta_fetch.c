/* Fetching what changed in a large file. The server tells of what the new version consists: runs of chunks of the version that is here,
 * which are copied from the old file, and new chunks, which come packed with those that they replaced as prefix. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/codec.h"
#include "chunks/steps.h"
#include "client/agent_priv.h"
#include "client/layout.h"

enum {
	BATCH_BYTES = 16 << 20, /* new chunks of one request, held in memory */
	AROUND = 8,             /* chunks of the base beside those in the place of a chunk, as far as a prefix goes */
	LEAST_PART = 4,         /* at least a fourth of a file with more news than a batch must be had, else it is not worth it */
};

struct news {
	struct remote_want want;
	uint32_t length;
};

struct joining {
	struct job *j;
	struct act_stage *to;
	struct act_base of;     /* the version that is here, */
	struct root_file *file; /* its file, */
	struct layout base;     /* and its chunks */
	struct buf layout;      /* of what comes out */
	struct str steps;       /* that were not carried out yet */
	struct news *news;
	size_t n, cap, done;    /* new chunks; those that were written */
	size_t to_news, came;   /* up to which this request goes, and has come */
	int64_t had_bytes, news_bytes;
	struct remote_want *wants;
	uint8_t *bytes;         /* of this request */
	size_t n_bytes;
	uint8_t *prefix;
	struct codec_work *work;
};

/* ---- what is wanted ---- */

static void add_news(struct joining *d, const struct step *s)
{
	if (d->n == d->cap) {
		d->cap = d->cap ? 2 * d->cap : 64;
		d->news = realloc(d->news, d->cap * sizeof *d->news);
		must(d->news != NULL);
	}
	d->news[d->n++] = (struct news){.want = {.hash = s->hash}, .length = s->length};
	d->news_bytes += s->length;
	layout_put(&d->layout, &s->hash, s->length);
}

/* News from `from` on stand where the base has chunks [first, end), which are gone; each is likely to resemble those about as far
 * within. */
static void place_news(struct joining *d, size_t from, size_t first, size_t end)
{
	size_t gone = end > first ? end - first : 0, n = d->n - from;
	for (size_t i = 0; i < n && gone; i++) {
		size_t lo = i * gone / n, hi = ((i + 1) * gone + n - 1) / n, mid = first + lo;
		lo = first + (lo > AROUND ? lo - AROUND : 0);
		hi = first + (hi + AROUND < gone ? hi + AROUND : gone);
		while (d->base.offsets[hi] - d->base.offsets[lo] > CODEC_PREFIX_MAX) {
			if (hi - mid > mid - lo)
				hi--;
			else
				lo++;
		}
		d->news[from + i].want.base = (struct remote_run){(uint32_t)lo, (uint32_t)(hi - lo)};
	}
}

static int read_steps(struct joining *d)
{
	struct str in = d->steps;
	size_t end = 0, from = 0; /* the chunk of the base behind the last run; the first new chunk since */
	int err = 0;
	while (!err && in.n) {
		struct step s;
		err = step_next(&in, &s);
		if (err || !s.is_run) {
			if (!err)
				add_news(d, &s);
			continue;
		}
		if (s.source || s.first > d->base.n || s.count > d->base.n - s.first)
			return E_UPSTREAM;
		place_news(d, from, end, s.first);
		from = d->n;
		end = (size_t)s.first + s.count;
		d->had_bytes += d->base.offsets[end] - d->base.offsets[s.first];
		layout_put_run(&d->layout, &d->base, s.first, s.count);
		if (d->had_bytes > d->j->op->remote.size_bytes || d->layout.n > LAYOUT_CHUNKS_MAX * LAYOUT_CHUNK_BYTES)
			return E_UPSTREAM;
	}
	place_news(d, from, end, d->base.n);
	if (err || d->had_bytes + d->news_bytes != d->j->op->remote.size_bytes)
		return E_UPSTREAM;
	if (d->news_bytes > BATCH_BYTES && d->had_bytes < d->j->op->remote.size_bytes / LEAST_PART)
		return ctx_fail(&d->j->ctx, E_NOT_FOUND, "Too little of the file is as it was.");
	return 0;
}

/* ---- what comes ---- */

static int read_prefix(struct joining *d, const struct remote_run *run, struct str *out)
{
	int64_t from = d->base.offsets[run->first];
	size_t n = (size_t)(d->base.offsets[run->first + run->count] - from);
	*out = str_n(d->prefix, n);
	return d->j->agent->root->ops->read_at(d->file, from, d->prefix, n);
}

static int take_frame(struct joining *d, const struct news *w, const struct frame *frame)
{
	uint8_t *out = d->bytes + d->n_bytes;
	struct str packed = str_n((const char *)frame->bytes, frame->length), prefix = STR_NULL;
	size_t n = frame->length;
	int err = 0;
	if (frame->flags & FRAME_BASED)
		err = w->want.base.count && frame->flags & FRAME_ZSTD ? read_prefix(d, &w->want.base, &prefix) : E_UPSTREAM;
	if (!err && frame->flags & FRAME_ZSTD)
		err = codec_unpack(d->work, prefix, packed, out, w->length, &n) ? E_UPSTREAM : 0;
	else if (!err && n == w->length)
		memcpy(out, packed.p, n);
	d->n_bytes += w->length;
	return err || n == w->length ? err : E_UPSTREAM;
}

static int on_frame(void *arg, size_t i, const struct frame *frame)
{
	static const struct sha256 none;
	struct joining *d = arg;
	(void)i;
	if (!frame->length)
		return sha256_eq(&frame->hash, &none) || d->came != d->to_news ? E_NOT_FOUND : 0;
	if (d->came == d->to_news)
		return E_UPSTREAM;
	d->j->agent->bytes += frame->length;
	return take_frame(d, &d->news[d->came++], frame);
}

/* The steps up to the last new chunk that came, and the runs behind it. */
static int carry_out(struct joining *d)
{
	const struct root_ops *ops = d->j->agent->root->ops;
	size_t at = 0;
	int err = 0;
	while (!err && d->steps.n) {
		struct step s;
		struct str rest = d->steps;
		must(step_next(&rest, &s) == 0);
		if (s.is_run) {
			int64_t from = d->base.offsets[s.first];
			err = ops->stage_copy(d->to->stage, d->file, from, d->base.offsets[s.first + s.count] - from, d->to->sha);
		} else if (d->done < d->to_news) {
			err = d->to->face.write(&d->to->face, d->bytes + at, s.length);
			at += s.length;
			d->done++;
		} else {
			break;
		}
		d->steps = rest;
	}
	return err;
}

static int join(struct joining *d)
{
	struct job *j = d->j;
	int err = 0;
	do {
		size_t n = 0;
		int64_t bytes = 0;
		const struct news *next = d->news + d->done;
		while (d->done + n < d->n && n < LIMIT_CHUNKS_REQUEST && bytes + next[n].length <= BATCH_BYTES) {
			d->wants[n] = next[n].want;
			bytes += next[n++].length;
		}
		d->came = d->done;
		d->to_news = d->done + n;
		d->n_bytes = 0;
		if (n)
			err = remote_fetch_chunks(&j->ctx, j->agent->remote, j->agent->share, j->op->remote.version_id, d->of.version_id,
			                          d->wants, n, on_frame, d);
		if (!err)
			err = carry_out(d);
	} while (!err && d->steps.n);
	return err;
}

static int open_and_join(struct joining *d)
{
	struct job *j = d->j;
	const struct root_ops *ops = j->agent->root->ops;
	struct root_entry now;
	int err = ops->open(j->agent->root, &j->ctx, d->of.path, &d->file, &now);
	if (err)
		return err;
	size_t most = d->n < LIMIT_CHUNKS_REQUEST ? d->n : LIMIT_CHUNKS_REQUEST;
	d->wants = arena_many(&j->arena, most + 1, struct remote_want);
	d->bytes = malloc(d->news_bytes < BATCH_BYTES ? (size_t)d->news_bytes + 1 : BATCH_BYTES);
	d->prefix = malloc(CODEC_PREFIX_MAX);
	d->work = codec_work_new();
	must(d->bytes && d->prefix);
	err = stamp_same(&now.stamp, &d->of.stamp) ? join(d) : ctx_fail(&j->ctx, E_NOT_FOUND, "The file that is here changed meanwhile.");
	ops->close(d->file);
	codec_work_free(d->work);
	free(d->prefix);
	free(d->bytes);
	return err;
}

/* Of a new file the layout is asked for first: it tells which other file it resembles, and is kept in any case. */
static int find_base(struct joining *d)
{
	struct job *j = d->j;
	struct layout like;
	if (act_delta_own_base(j, &d->of))
		return 0;
	buf_clear(&j->layout);
	int err = remote_layout(&j->ctx, j->agent->remote, j->op->remote.version_id, &j->layout);
	if (!err)
		err = layout_read(&like, buf_as_str(&j->layout));
	if (err) {
		buf_fini(&j->layout);
		return err;
	}
	err = act_delta_other_base(j, &like, &d->of);
	layout_fini(&like);
	return err;
}

int act_delta_fetch(struct job *j, struct act_stage *to)
{
	struct joining d = {.j = j, .to = to};
	struct buf text = {0}, steps = {0};
	int err = find_base(&d);
	if (!err)
		err = act_delta_layout(j, d.of.id, d.of.version_id, &text, &d.base);
	if (!err && d.base.offsets[d.base.n] != d.of.size_bytes)
		err = E_NOT_FOUND;
	if (!err)
		err = remote_steps(&j->ctx, j->agent->remote, j->op->remote.version_id, d.of.version_id, &steps);
	d.steps = buf_as_str(&steps);
	if (!err)
		err = read_steps(&d);
	if (!err)
		err = open_and_join(&d);
	if (!err) {
		buf_fini(&j->layout);
		j->layout = d.layout;
	} else {
		buf_fini(&d.layout);
	}
	layout_fini(&d.base);
	free(d.news);
	buf_fini(&steps);
	buf_fini(&text);
	return err;
}
