/* Sending what changed in a large file. It is cut as the server cuts; chunks that the base has are named by runs (chunks/steps.h). After
 * an edit the old bytes are usually gone from here, so of chunks that the base has and the file has no more the server tells
 * signatures, and the chunks that took their place are sent as patches (chunks/patch.h), a few MiB of the file at a time. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/codec.h"
#include "chunks/patch.h"
#include "chunks/steps.h"
#include "client/agent_priv.h"
#include "client/layout.h"

enum {
	WINDOW_BYTES = 1 << 20,
	BATCH_BYTES = 16 << 20, /* of the file */
	BATCH_CHUNKS = BATCH_BYTES / CHUNK_MIN_BYTES + 1,
	BATCH_BASE_BYTES = 64 << 20, /* signatures of one request */
	BATCH_BASE_CHUNKS = LIMIT_CHUNKS_REQUEST,
	AROUND = 8,             /* chunks of the base beside those in the place of a chunk */
	BUSY_TRIES = 600,       /* the server hashes as many contents as it has processors; others wait for their turn */
	BUSY_PAUSE_MS = 100,
	SAMPLE_BYTES = 8 << 20,
	LEAST_PART = 4,         /* at least a fourth of the file must be had, or the first batch shrink by a fourth */
};

struct piece {
	struct sha256 hash;
	int64_t offset;
	uint32_t length;
	struct remote_run base; /* count 0: nothing is in its place */
	size_t same;            /* the chunk of the base that it is, or LAYOUT_NONE */
};

struct sending {
	struct job *j;
	struct root_file *file;
	struct piece *pieces;
	size_t n, cap;
	struct act_base of; /* the version that is there, */
	struct layout base; /* and its chunks */
	int64_t news_bytes, size_bytes;
	bool no_patches; /* signatures cost more than they saved */
	struct codec_work *work;
};

static void add_piece(struct sending *s, const struct sha256 *hash, int64_t offset, uint32_t length)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 256;
		s->pieces = realloc(s->pieces, s->cap * sizeof *s->pieces);
		must(s->pieces != NULL);
	}
	s->pieces[s->n++] = (struct piece){.hash = *hash, .offset = offset, .length = length};
}

/* Cuts the file, or the first of it: whole chunks of most_bytes at least. */
static int cut(struct sending *s, int64_t most_bytes)
{
	struct job *j = s->j;
	struct chunker c;
	struct sha256_state *sha = sha256_new();
	uint8_t *window = malloc(WINDOW_BYTES);
	int64_t size = j->op->local.size_bytes, offset = 0, from = 0; /* of the next chunk; of the window */
	size_t length = 0, n = 0;
	int err = 0;
	must(window != NULL);
	chunker_init(&c, &j->agent->gear);
	s->n = 0;
	for (; !err && from < size && offset < most_bytes; from += (int64_t)n) {
		n = size - from < WINDOW_BYTES ? (size_t)(size - from) : WINDOW_BYTES;
		err = j->agent->root->ops->read_at(s->file, from, window, n);
		for (size_t at = 0, k; !err && at < n; at += k) {
			bool is_cut;
			k = chunker_scan(&c, window + at, n - at, &is_cut);
			sha256_update(sha, window + at, k);
			length += k;
			if (!is_cut && from + (int64_t)(at + k) < size)
				continue;
			struct sha256 hash = sha256_final(sha);
			add_piece(s, &hash, offset, (uint32_t)length);
			offset += (int64_t)length;
			length = 0;
			sha256_reset(sha);
		}
	}
	s->size_bytes = offset;
	sha256_free(sha);
	free(window);
	return err;
}

/* A new file may resemble another one: whether it does, its beginning tells. */
static int find_base(struct sending *s)
{
	struct buf text = {0};
	struct layout like;
	if (act_delta_own_base(s->j, &s->of))
		return 0;
	int err = cut(s, SAMPLE_BYTES);
	for (size_t i = 0; i < s->n; i++)
		layout_put(&text, &s->pieces[i].hash, s->pieces[i].length);
	if (!err)
		err = layout_read(&like, buf_as_str(&text));
	if (!err) {
		err = act_delta_other_base(s->j, &like, &s->of);
		layout_fini(&like);
	}
	buf_fini(&text);
	return err;
}

/* It is still what the plan saw. */
static int look(const struct sending *s)
{
	struct root_entry now;
	int err = s->j->agent->root->ops->file_stat(s->file, &now);
	return err ? err : stamp_same(&now.stamp, &s->j->stamp) ? 0 : act_changed(s->j);
}

/* Opens the file, finds the base and what they have in common. */
static int prepare(struct sending *s, struct buf *text)
{
	struct job *j = s->j;
	struct root_entry now;
	int err = j->agent->root->ops->open(j->agent->root, &j->ctx, j->path, &s->file, &now);
	if (!err)
		err = look(s);
	if (!err)
		err = find_base(s);
	if (!err)
		err = act_delta_layout(j, s->of.id, s->of.version_id, text, &s->base);
	if (!err)
		err = cut(s, INT64_MAX);
	return err ? err : look(s);
}

/* ---- what the base has ---- */

/* Pieces [from, to) are new, and stand where the base has chunks [first, end), which are gone; each is likely to resemble those
 * about as far within. */
static void place_news(struct sending *s, size_t from, size_t to, size_t first, size_t end)
{
	size_t gone = end > first ? end - first : 0, n = to - from;
	for (size_t i = 0; i < n && gone; i++) {
		size_t lo = i * gone / n, hi = ((i + 1) * gone + n - 1) / n;
		lo = lo > AROUND ? lo - AROUND : 0;
		hi = hi + AROUND < gone ? hi + AROUND : gone;
		s->pieces[from + i].base = (struct remote_run){(uint32_t)(first + lo), (uint32_t)(hi - lo)};
	}
}

static void match(struct sending *s)
{
	size_t likely = 0, news = 0; /* the chunk of the base behind the last match; the first piece that was not matched since */
	for (size_t i = 0; i <= s->n; i++) {
		struct piece *p = &s->pieces[i];
		size_t at = i < s->n ? layout_find(&s->base, &p->hash, p->length, likely) : s->base.n;
		if (i < s->n)
			p->same = at;
		if (at == LAYOUT_NONE) {
			s->news_bytes += p->length;
			continue;
		}
		place_news(s, news, i, likely, at);
		likely = at + 1;
		news = i + 1;
	}
}

/* ---- what it does not have ---- */

struct batch {
	size_t pieces[BATCH_CHUNKS];
	struct remote_chunk chunks[BATCH_CHUNKS];
	size_t at[BATCH_CHUNKS];  /* where its bytes begin in bytes */
	bool wanted[BATCH_CHUNKS];
	size_t n;
	struct remote_run runs[BATCH_CHUNKS];
	size_t n_runs;
	int64_t raw_bytes;
	struct buf bytes;         /* what travels */
	struct buf signatures;
	uint8_t raw[CHUNK_MAX_BYTES];
	struct patch_base *base;
};

/* Adds chunks of the base; they come in ascending order, and may overlap. False: there is no room for them. */
static bool add_run(const struct sending *s, struct batch *b, struct remote_run run, int64_t *base_bytes, size_t *base_chunks)
{
	struct remote_run *last = b->n_runs ? &b->runs[b->n_runs - 1] : NULL;
	uint32_t end = run.first + run.count;
	if (last && run.first < last->first + last->count)
		run.first = last->first + last->count;
	if (!run.count || end <= run.first)
		return true;
	int64_t bytes = s->base.offsets[end] - s->base.offsets[run.first];
	if (*base_bytes + bytes > BATCH_BASE_BYTES || *base_chunks + (end - run.first) > BATCH_BASE_CHUNKS)
		return false;
	*base_bytes += bytes;
	*base_chunks += end - run.first;
	if (last && run.first == last->first + last->count)
		last->count += end - run.first;
	else
		b->runs[b->n_runs++] = (struct remote_run){run.first, end - run.first};
	return true;
}

/* The next new pieces. Returns where it stopped. */
static size_t gather(const struct sending *s, struct batch *b, size_t i)
{
	int64_t base_bytes = 0;
	size_t base_chunks = 0;
	b->n = b->n_runs = 0;
	b->raw_bytes = 0;
	buf_clear(&b->bytes);
	for (; i < s->n && b->n < BATCH_CHUNKS; i++) {
		const struct piece *p = &s->pieces[i];
		if (p->same != LAYOUT_NONE)
			continue;
		if (b->n && b->raw_bytes + p->length > BATCH_BYTES)
			break;
		if (!s->no_patches && !add_run(s, b, p->base, &base_bytes, &base_chunks) && b->n)
			break;
		b->pieces[b->n] = i;
		b->wanted[b->n] = true;
		b->chunks[b->n++] = (struct remote_chunk){.hash = p->hash};
		b->raw_bytes += p->length;
	}
	return i;
}

/* Signatures are a help: without them chunks go whole. */
static void ask_signatures(struct sending *s, struct batch *b)
{
	struct job *j = s->j;
	uint32_t length;
	size_t most = 0;
	patch_base_free(b->base);
	b->base = NULL;
	buf_fini(&b->signatures);
	if (!b->n_runs)
		return;
	for (size_t i = 0; i < b->n_runs; i++)
		for (uint32_t k = 0; k < b->runs[i].count; k++)
			most += signature_bytes(layout_length(&s->base, b->runs[i].first + k));
	int err = remote_signatures(&j->ctx, j->agent->remote, j->agent->share, s->of.version_id, b->runs, b->n_runs, most, &b->signatures);
	struct str in = buf_as_str(&b->signatures);
	b->base = patch_base_new();
	for (size_t i = 0; !err && i < b->n_runs; i++)
		for (uint32_t k = 0; !err && k < b->runs[i].count; k++)
			err = in.n ? patch_base_add(b->base, 0, b->runs[i].first + k, &in, &length) : E_UPSTREAM;
	if (!err)
		return;
	ctx_clear(&j->ctx);
	patch_base_free(b->base);
	b->base = NULL;
}

/* The chunk as it is, packed, or as a patch, which may be packed too: what is shortest. */
static int make_chunk(struct sending *s, struct batch *b, size_t k)
{
	const struct piece *p = &s->pieces[b->pieces[k]];
	struct remote_chunk *c = &b->chunks[k];
	struct str packed, plain = str_n(b->raw, p->length);
	int err = s->j->agent->root->ops->read_at(s->file, p->offset, b->raw, p->length);
	struct sha256 hash = sha256_of(b->raw, err ? 0 : p->length);
	if (err)
		return err;
	if (!sha256_eq(&hash, &p->hash))
		return act_changed(s->j);
	size_t at = b->at[k] = b->bytes.n;
	if (b->base && patch_make(b->base, b->raw, p->length, &b->bytes)) {
		plain = str_n(b->bytes.p + at, b->bytes.n - at);
		c->flags = FRAME_BASED;
	}
	if (codec_pack(s->work, STR_NULL, plain.p, plain.n, &packed)) {
		b->bytes.n = at;
		buf_str(&b->bytes, packed);
		c->flags |= FRAME_ZSTD;
	} else if (!c->flags) {
		buf_str(&b->bytes, plain);
	}
	c->length = (uint32_t)(b->bytes.n - at);
	return 0;
}

static int send_batch(struct sending *s, struct batch *b, bool first)
{
	struct job *j = s->j;
	struct agent *a = j->agent;
	int64_t source = s->of.version_id;
	int err = 0;
	if (s->news_bytes > BATCH_BYTES) /* some may have been sent before the last attempt ended */
		err = remote_missing(&j->ctx, a->remote, a->share, b->chunks, b->n, &source, 1, b->wanted);
	if (!err)
		ask_signatures(s, b);
	for (size_t k = 0; !err && k < b->n; k++)
		if (b->wanted[k])
			err = make_chunk(s, b, k);
	if (err)
		return err;
	int64_t saved = b->raw_bytes - (int64_t)b->bytes.n;
	s->no_patches = saved < (int64_t)b->signatures.n;
	if (first && s->size_bytes - s->news_bytes < s->size_bytes / LEAST_PART && saved < b->raw_bytes / LEAST_PART)
		return ctx_fail(&j->ctx, E_NOT_FOUND, "Too little of the file is as it was.");
	for (size_t k = 0; k < b->n; k++)
		b->chunks[k].bytes = b->bytes.p + b->at[k];
	err = remote_send_chunks(&j->ctx, a->remote, a->share, b->base ? source : 0, b->chunks, b->n, b->wanted);
	if (!err)
		a->bytes += (int64_t)b->bytes.n;
	return err;
}

static int send_news(struct sending *s)
{
	if (s->news_bytes > LIMIT_LEASED_BYTES)
		return ctx_fail(&s->j->ctx, E_NOT_FOUND, "Too much of the file is new.");
	struct batch *b = calloc(1, sizeof *b);
	must(b != NULL);
	int err = 0;
	bool first = true;
	for (size_t i = 0; !err && i < s->n; first = false) {
		i = gather(s, b, i);
		if (b->n)
			err = send_batch(s, b, first);
	}
	patch_base_free(b->base);
	buf_fini(&b->signatures);
	buf_fini(&b->bytes);
	free(b);
	return err;
}

/* ---- together ---- */

/* Runs of the base as long as they go; what it does not have, by its hash. */
static void put_steps(const struct sending *s, struct buf *steps)
{
	for (size_t i = 0, n; i < s->n; i += n) {
		const struct piece *p = &s->pieces[i];
		n = 1;
		if (p->same == LAYOUT_NONE) {
			step_put_chunk(steps, &p->hash, p->length);
			continue;
		}
		while (i + n < s->n && s->pieces[i + n].same == p->same + n)
			n++;
		step_put_run(steps, 0, (uint32_t)p->same, (uint32_t)n);
	}
}

static int put_together(const struct sending *s)
{
	struct job *j = s->j;
	struct agent *a = j->agent;
	struct buf steps = {0};
	put_steps(s, &steps);
	int err = remote_put_steps(&j->ctx, a->remote, a->share, &j->up, s->of.version_id, buf_as_str(&steps));
	for (int i = 0; err == E_BUSY && a->pause && i < BUSY_TRIES; i++) {
		ctx_clear(&j->ctx);
		a->pause(a->arg, BUSY_PAUSE_MS);
		err = remote_put_steps(&j->ctx, a->remote, a->share, &j->up, s->of.version_id, buf_as_str(&steps));
	}
	buf_fini(&steps);
	return err;
}

int act_delta_send(struct job *j)
{
	struct sending s = {.j = j, .work = codec_work_new()};
	struct buf text = {0};
	int err = prepare(&s, &text);
	if (!err) {
		match(&s);
		err = send_news(&s);
	}
	if (!err)
		err = put_together(&s);
	buf_clear(&j->layout);
	for (size_t i = 0; !err && !j->up.conflict && i < s.n; i++)
		layout_put(&j->layout, &s.pieces[i].hash, s.pieces[i].length);
	if (s.file)
		j->agent->root->ops->close(s.file);
	codec_work_free(s.work);
	layout_fini(&s.base);
	free(s.pieces);
	buf_fini(&text);
	return err;
}
