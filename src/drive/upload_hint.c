#include "drive/upload_hint.h"

#include "base/places.h"
#include "chunks/chunker.h"
#include "chunks/recipe.h"
#include "drive/chunk.h"

static int64_t piece_bytes(int64_t size_bytes, int64_t chunk_bytes, int64_t index)
{
	int64_t rest = size_bytes - index * chunk_bytes;
	return rest < chunk_bytes ? rest : chunk_bytes;
}

int upload_hints_check(struct ctx *ctx, const struct upload_create *in)
{
	const struct upload_hints *h = &in->hints;
	int64_t rest = in->size_bytes;
	if (!h->sizes && h->n && (int64_t)h->n != upload_pieces(in))
		return ctx_invalid(ctx, "body", STR("chunk_hashes"), "value_error", "one for each of %lld pieces, or with chunk_sizes",
		                   (long long)upload_pieces(in));
	for (size_t i = 0; h->sizes && rest >= 0 && i < h->n; i++)
		rest = h->sizes[i] < 1 || h->sizes[i] > CHUNK_MAX_BYTES ? -1 : rest - h->sizes[i];
	if (h->sizes && rest != 0)
		return ctx_invalid(ctx, "body", STR("chunk_sizes"), "value_error", "lengths from 1 to %d that make up the file", CHUNK_MAX_BYTES);
	return 0;
}

/* ---- along a list of chunks ---- */

struct walk {
	struct recipe_reader *recipe; /* of a recipe, or */
	const struct chunk_found *chunks; /* n of these; id 0: not had */
	const int64_t *sizes;
	size_t n, next;
	int64_t id, begin, end; /* the present chunk, and where it lies in the content */
};

static bool walk_next(struct walk *w)
{
	uint32_t length = 0;
	bool more = w->next < w->n;
	if (w->recipe && (recipe_next(w->recipe, &more, &w->id, &length) || !more))
		return false;
	if (!w->recipe && !more)
		return false;
	if (!w->recipe) {
		length = (uint32_t)w->sizes[w->next];
		w->id = w->chunks[w->next].length == length ? w->chunks[w->next].id : 0;
		w->next++;
	}
	w->begin = w->end;
	w->end += length;
	return true;
}

/* The chunks that hold the n bytes at a place, which never goes back. False: not all are there. */
static bool walk_slice(struct walk *w, int64_t at, int64_t n, struct buf *recipe, int64_t *skip_bytes)
{
	struct recipe_writer out;
	while (w->end <= at)
		if (!walk_next(w))
			return false;
	buf_clear(recipe);
	recipe_begin(&out, recipe);
	*skip_bytes = at - w->begin;
	for (bool had = true;;) {
		had = had && w->id != 0;
		if (had)
			recipe_add(&out, w->id, (uint32_t)(w->end - w->begin));
		if (w->end >= at + n)
			return had;
		if (!walk_next(w))
			return false;
	}
}

struct find {
	const struct upload_create *in;
	struct staged_row *found;
	size_t n;
	struct buf recipe; /* of one piece */
	/* by pieces */
	struct places asked;
	bool *done;
	size_t left;
	/* of one session */
	struct buf hashes, joined;
};

static void add(struct dtx *t, struct find *f, int64_t piece, int64_t skip_bytes, const struct sha256 *hash)
{
	struct staged_row *row = &f->found[f->n++];
	*row = (struct staged_row){.piece = piece, .recipe = arena_str(t->ctx->arena, buf_as_str(&f->recipe)), .skip_bytes = skip_bytes};
	row->staged = (struct staged){.size_bytes = piece_bytes(f->in->size_bytes, f->in->chunk_bytes, piece), .claimed = hash != NULL};
	if (hash)
		row->staged.claim = *hash;
}

/* ---- by the pieces of earlier uploads ---- */

struct session {
	int64_t id, chunk_bytes, size_bytes;
	bool completed;
};

static void search(struct dtx *t, struct find *f, const struct session *s)
{
	static const struct sha256 none;
	struct recipe_reader r;
	struct walk w = {.recipe = &r};
	struct upload_create const *in = f->in;
	if (recipe_open(&r, buf_as_str(&f->joined)))
		return;
	for (size_t k = 0; f->left && k < f->hashes.n / 32; k++) {
		struct sha256 hash;
		int64_t skip, at = (int64_t)k * s->chunk_bytes, n = piece_bytes(s->size_bytes, s->chunk_bytes, (int64_t)k);
		bool sliced = false;
		memcpy(hash.b, f->hashes.p + k * 32, 32);
		for (size_t i = 0; !sha256_eq(&hash, &none) && places_next(&f->asked, &hash, &i);) {
			if (f->done[i - 1] || piece_bytes(in->size_bytes, in->chunk_bytes, (int64_t)i - 1) != n)
				continue;
			if (!sliced && !walk_slice(&w, at, n, &f->recipe, &skip))
				return;
			sliced = f->done[i - 1] = true;
			f->left--;
			add(t, f, (int64_t)i - 1, skip, &in->hints.hashes[i - 1]);
		}
	}
}

/* Its pieces' hashes, as far as they were claimed, and the recipe of what is fed. */
static int read_open(struct dtx *t, struct find *f, const struct session *s)
{
	static const uint8_t none[32];
	struct recipe_join join;
	AUTO_ROWS *r = NULL;
	recipe_join_begin(&join, &f->joined);
	int err = tx_query(t->tx, "select hash, recipe from upload_parts where upload_id = $1 order by first_piece", DB_ARGS(V_I(s->id)), &r);
	while (!err && rows_next(r)) {
		struct str hash = rows_blob(r, 0);
		buf_put(&f->hashes, hash.n == 32 ? (const uint8_t *)hash.p : none, 32);
		err = recipe_join_add(&join, rows_blob(r, 1));
	}
	return err ? err : rows_close(&r);
}

static int read_completed(struct dtx *t, struct find *f, const struct session *s)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(t->tx,
	                       "select u.hashes, v.recipe from uploads u join versions v on v.id = u.version_id where u.id = $1 and"
	                       " u.hashes is not null and v.size_bytes = u.size_bytes",
	                       DB_ARGS(V_I(s->id)), &r, &found);
	if (err || !found)
		return err;
	buf_str(&f->hashes, rows_blob(r, 0));
	buf_str(&f->joined, rows_blob(r, 1));
	return rows_close(&r);
}

/* The user's, the newest first; none that may end, and lose its parts, before what is found in it was used. */
static int read_sessions(struct dtx *t, enum upload_status status, struct session **out, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	*out = arena_many(t->ctx->arena, LIMIT_UPLOAD_HINT_SESSIONS, struct session);
	int err = tx_query(t->tx,
	                   "select id, chunk_bytes, size_bytes from uploads where user_id = $1 and status = $2 and tenant_id = $3 and"
	                   " active_at > $4 order by id desc limit $5",
	                   DB_ARGS(V_I(actor(t)), V_I(status), V_I(t->ctx->tenant_id),
	                           V_I(clock_now(t->ctx->clock) - MILLIS_US(LIMIT_UPLOAD_MS - LIMIT_CONDEMNED_MS)), V_I(LIMIT_UPLOAD_HINT_SESSIONS)),
	                   &r);
	while (!err && *n < LIMIT_UPLOAD_HINT_SESSIONS && rows_next(r))
		(*out)[(*n)++] = (struct session){rows_i64(r, 0), rows_i64(r, 1), rows_i64(r, 2), status == UPLOAD_COMPLETED};
	return err ? err : rows_close(&r);
}

static int find_pieces(struct dtx *t, struct find *f)
{
	static const enum upload_status where[] = {UPLOAD_OPEN, UPLOAD_COMPLETED};
	int64_t pieces_left = LIMIT_UPLOAD_PIECES;
	int err = 0;
	for (size_t k = 0; !err && k < 2; k++) {
		struct session *s;
		size_t n;
		err = read_sessions(t, where[k], &s, &n);
		for (size_t i = 0; !err && i < n && f->left && pieces_left > 0; i++) {
			buf_clear(&f->hashes);
			buf_clear(&f->joined);
			err = s[i].completed ? read_completed(t, f, &s[i]) : read_open(t, f, &s[i]);
			pieces_left -= (int64_t)f->hashes.n / 32;
			if (!err)
				search(t, f, &s[i]);
		}
	}
	return err;
}

/* ---- by chunks ---- */

static int find_chunks(struct dtx *t, struct find *f)
{
	const struct upload_create *in = f->in;
	const struct upload_hints *h = &in->hints;
	struct chunk_sources sources = {0};
	struct chunk_found *chunks = arena_many(t->ctx->arena, h->n, struct chunk_found);
	struct walk w = {.chunks = chunks, .sizes = h->sizes, .n = h->n};
	int err = chunk_leased(t, h->hashes, h->n, chunks);
	for (size_t i = 0; !err && i < h->n; i++)
		err = chunk_source_any(t, &sources, h->sources, h->n_sources, &h->hashes[i], &chunks[i]);
	chunk_sources_fini(&sources);
	for (int64_t i = 0; !err && i < upload_pieces(in) && f->n < LIMIT_UPLOAD_HINTS; i++) {
		int64_t skip;
		if (walk_slice(&w, i * in->chunk_bytes, piece_bytes(in->size_bytes, in->chunk_bytes, i), &f->recipe, &skip))
			add(t, f, i, skip, NULL);
	}
	return err;
}

static int find_op(struct dtx *t, void *arg)
{
	struct find *f = arg;
	const struct upload_hints *h = &f->in->hints;
	f->n = 0;
	if (h->sizes)
		return find_chunks(t, f);
	f->left = h->n;
	memset(f->done, 0, h->n * sizeof *f->done);
	return find_pieces(t, f);
}

int upload_hints_find(struct ctx *ctx, const struct upload_create *in, struct staged_row **out, size_t *n)
{
	struct find f = {.in = in};
	size_t most = in->hints.sizes && upload_pieces(in) < LIMIT_UPLOAD_HINTS ? (size_t)upload_pieces(in) : LIMIT_UPLOAD_HINTS;
	if (!in->hints.sizes)
		most = in->hints.n;
	f.found = *out = arena_many(ctx->arena, most + 1, struct staged_row);
	f.done = arena_many(ctx->arena, in->hints.n + 1, bool);
	places_init(&f.asked, ctx->arena, in->hints.hashes, in->hints.n);
	int err = in->hints.n ? drive_read(ctx, find_op, &f) : 0;
	places_fini(&f.asked);
	buf_fini(&f.recipe);
	buf_fini(&f.hashes);
	buf_fini(&f.joined);
	*n = f.n;
	return err;
}

/* ---- into the upload ---- */

struct take {
	int64_t id;
	const struct staged_row *rows;
	size_t n;
};

static int take_op(struct dtx *t, void *arg)
{
	const struct take *k = arg;
	size_t n_new;
	return upload_stage(t->tx, k->id, k->rows, k->n, &n_new);
}

int upload_hints_take(struct ctx *ctx, const struct upload *up, const struct staged_row *rows, size_t n)
{
	enum { AT_ONCE = 500 };
	int err = 0;
	for (size_t i = 0; !err && i < n; i += AT_ONCE) {
		struct take k = {up->id, rows + i, n - i < AT_ONCE ? n - i : AT_ONCE};
		err = drive_write(ctx, take_op, &k);
	}
	return err;
}
