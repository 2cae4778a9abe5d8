/* A piece on its way in: gathered in memory as long as there is room, else in its staging file. */
#include <stdlib.h>

#include "base/must.h"
#include "drive/upload_priv.h"

struct begin {
	int64_t id;
	bool want_rows;
	struct upload up;
	struct staged_row *rows;
	size_t n;
};

static int begin_op(struct dtx *t, void *arg)
{
	struct begin *b = arg;
	unsigned rights;
	int err = upload_load(t, b->id, &b->up);
	if (!err)
		err = upload_status_check(t->ctx, &b->up, true);
	if (!err)
		err = access_share(t, b->up.in.put.share_id, &rights, NULL);
	if (!err && !(rights & (RIGHT_CREATE | RIGHT_WRITE)))
		err = access_verdict(t->ctx, rights, b->up.in.put.replace_file_id ? RIGHT_WRITE : RIGHT_CREATE,
				     (struct rid){ID_SHARE, b->up.in.put.share_id});
	if (!err && b->want_rows)
		err = upload_staged(t, b->id, &b->rows, &b->n);
	return err;
}

static int length_differs(struct ctx *ctx, int64_t index, int64_t length, int64_t want)
{
	return ctx_fail(ctx, E_BAD_REQUEST, "Chunk %lld has %lld bytes; %lld are expected", (long long)index,
			(long long)length, (long long)want);
}

/* ---- memory ---- */

enum { NEAR = 16 }; /* pieces; one that is farther from its turn does not wait for it */

/* May it be received besides what its session holds? One that may have to wait for its turn leaves room for the piece whose turn is
 * next; so that one never waits for those that wait for it. One that comes again is wanted at once: the first may hang. */
static bool has_room_locked(const struct upload_piece *p)
{
	const struct live *l = p->live;
	int64_t held = p->size_bytes;
	bool next_is_here = p->index <= l->fed || map_get(&l->staged, (uint64_t)l->fed + 1), again = false;
	for (const struct upload_piece *q = l->active; q; q = q->next) {
		held += q->held ? q->size_bytes : 0;
		next_is_here |= q->held && q->index == l->fed;
		again |= q->held && q->index == p->index;
	}
	if (!next_is_here && !l->jumps && p->index - l->fed <= NEAR)
		held += l->chunk_bytes;
	return again || held <= LIMIT_UPLOAD_HELD;
}

static void admit_locked(struct upload_piece *p)
{
	if (p->held || !p->memory)
		return;
	p->held = true;
	p->memory = piece_memory_swap_locked(p->live->u, p->memory, p->size_bytes, (size_t)p->got_bytes);
}

/* Those that waited for room and have it now, from the first of the file on. */
static void admit_waiting(struct live *l)
{
	for (;;) {
		struct upload_piece *first = NULL;
		void (*wake)(void *) = NULL;
		void *arg = NULL;
		pthread_mutex_lock(&l->u->mu);
		for (struct upload_piece *p = l->active; p; p = p->next)
			if (p->wake && !p->complete && (!first || p->index < first->index))
				first = p;
		if (first && has_room_locked(first)) {
			admit_locked(first);
			wake = first->wake;
			arg = first->wake_arg;
			first->wake = NULL;
		}
		pthread_mutex_unlock(&l->u->mu);
		if (!wake)
			return;
		wake(arg);
	}
}

/* With the lock. What is to be given back. */
static void *let_go_locked(struct upload_piece *p)
{
	void *memory = p->memory;
	p->memory = NULL;
	p->held = p->lent = false;
	return memory;
}

void pieces_written(struct live *l, int64_t from, int64_t upto)
{
	struct uploads *u = l->u;
	for (;;) {
		void *memory = NULL;
		int64_t size_bytes = 0;
		pthread_mutex_lock(&u->mu);
		for (struct upload_piece *p = l->active; p && !memory; p = p->next) {
			if (!p->lent || p->index < from || p->index >= upto)
				continue;
			size_bytes = p->size_bytes;
			memory = let_go_locked(p);
		}
		pthread_mutex_unlock(&u->mu);
		if (!memory)
			break;
		piece_memory_give(u, memory, size_bytes);
	}
	admit_waiting(l);
}

bool upload_piece_may_receive(struct upload_piece *p, void (*wake)(void *arg), void *arg)
{
	struct uploads *u = p->live->u;
	pthread_mutex_lock(&u->mu);
	bool waits = p->memory && !p->held && !has_room_locked(p);
	if (waits) {
		p->wake = wake;
		p->wake_arg = arg;
		p->for_gap = false;
		p->deadline_us = clock_mono(u->drive->clock) + MILLIS_US(LIMIT_UPLOAD_HELD_MS);
		pthread_cond_signal(&u->work);
	} else {
		admit_locked(p);
	}
	pthread_mutex_unlock(&u->mu);
	return !waits;
}

/* ---- on its way ---- */

int upload_piece_begin(struct ctx *ctx, int64_t id, int64_t index, int64_t length, const struct sha256 *hash,
		       struct upload_piece **out)
{
	struct uploads *u = ctx->drive->uploads;
	must(u != NULL);
	struct live *l = live_find(u, id);
	struct begin b = {.id = id, .want_rows = !l};
	int err = drive_read(ctx, begin_op, &b);
	if (!err && (index < 0 || index >= b.up.n_pieces))
		err = ctx_invalid(ctx, "path", STR("index"), "less_than", "the upload has %lld chunks",
				  (long long)b.up.n_pieces);
	if (err) {
		if (l)
			live_put(l);
		return err;
	}
	if (!l)
		l = live_new(u, ctx->tenant_id, &b.up, b.rows, b.n);
	int64_t want = piece_size(l, index);
	if (length >= 0 && length != want) {
		live_put(l);
		return length_differs(ctx, index, length, want);
	}
	struct upload_piece *p = calloc(1, sizeof *p);
	must(p != NULL);
	*p = (struct upload_piece){.live = l, .index = index, .size_bytes = want, .claimed = hash != NULL};
	if (hash)
		p->claim = *hash;
	pthread_mutex_lock(&u->mu);
	p->held = has_room_locked(p);
	p->memory = piece_memory_take_locked(u, want, p->held);
	p->held &= p->memory != NULL;
	p->next = l->active;
	l->active = p;
	pthread_mutex_unlock(&u->mu);
	if (hash && !p->memory)
		p->digest = sha256_new();
	*out = p;
	return 0;
}

static int feed_file(struct upload_piece *p, const void *data, size_t n)
{
	int err = p->file ? 0 : stage_create(p->live->u, &p->file_id, &p->file);
	if (!p->xxh)
		p->xxh = xxh3_new();
	xxh3_update(p->xxh, data, n);
	return err ? err : disk_pwrite(p->file, data, n, p->got_bytes);
}

int upload_piece_feed(struct ctx *ctx, struct upload_piece *p, const void *data, size_t n)
{
	if ((int64_t)n > p->size_bytes - p->got_bytes)
		return ctx_fail(ctx, E_TOO_LARGE, "Chunk %lld has more than %lld bytes", (long long)p->index,
				(long long)p->size_bytes);
	if (p->digest)
		sha256_update(p->digest, data, n);
	int err = 0;
	if (p->memory)
		memcpy(p->memory + p->got_bytes, data, n);
	else
		err = feed_file(p, data, n);
	p->got_bytes += (int64_t)n;
	return err;
}

void *upload_piece_room(struct upload_piece *p, size_t *n)
{
	*n = p->memory ? (size_t)(p->size_bytes - p->got_bytes) : 0;
	return *n ? p->memory + p->got_bytes : NULL;
}

void upload_piece_took(struct upload_piece *p, size_t n)
{
	p->got_bytes += (int64_t)n;
	must(p->memory && p->got_bytes <= p->size_bytes);
}

/* Whole, and what was claimed. Once. */
static int verify(struct upload_piece *p)
{
	if (p->got_bytes != p->size_bytes)
		return E_BAD_REQUEST;
	if (!p->claimed)
		return 0;
	struct sha256 is = p->memory ? sha256_of(p->memory, (size_t)p->size_bytes) : sha256_final(p->digest);
	p->claim_differs = !sha256_eq(&is, &p->claim);
	return p->claim_differs ? E_CHECKSUM : 0;
}

/* How long it is worth to wait for its turn; 0: not at all. All pieces before it are on their way: in memory, or staged, so that the
 * mover feeds them. Or the others that are under way tell that the one that is missing may just be late. */
static int64_t patience_ms_locked(const struct upload_piece *p)
{
	const struct live *l = p->live;
	bool rebuilding = l->reader || (!l->ingest && l->fed > 0), gap = false;
	if (l->dead || l->broken || rebuilding || p->index < l->fed || p->index - l->fed > NEAR)
		return 0;
	if (p->index == l->fed)
		return l->feeding ? LIMIT_UPLOAD_WAIT_MS : 0;
	for (int64_t i = l->fed; i < p->index; i++) {
		const struct upload_piece *q = l->active;
		while (q && (q->index != i || !q->memory))
			q = q->next;
		gap |= !q && !(i == l->fed && l->feeding) && !map_get(&l->staged, (uint64_t)i + 1);
	}
	bool alone = l->active == p && !p->next;
	return !gap ? LIMIT_UPLOAD_WAIT_MS : alone || l->jumps ? 0 : LIMIT_UPLOAD_GAP_MS;
}

bool upload_piece_ready(struct upload_piece *p, void (*wake)(void *arg), void *arg)
{
	struct live *l = p->live;
	struct uploads *u = l->u;
	if (!p->memory || p->complete)
		return true;
	p->complete = true;
	if (verify(p))
		return true;
	int64_t wait_ms = 0;
	pthread_mutex_lock(&u->mu);
	bool known = live_has(l, p->index);
	if (!known && live_may_feed_locked(l, p->index))
		l->feeding = p->granted = true;
	else if (!known)
		wait_ms = patience_ms_locked(p);
	if (wait_ms) {
		p->wake = wake;
		p->wake_arg = arg;
		p->for_gap = wait_ms == LIMIT_UPLOAD_GAP_MS;
		p->deadline_us = clock_mono(u->drive->clock) + MILLIS_US(wait_ms);
		pthread_cond_signal(&u->work);
	}
	pthread_mutex_unlock(&u->mu);
	return !wait_ms;
}

/* ---- the slow way ---- */

struct stage {
	struct upload_piece *p;
	struct staged_row row;
	size_t n_new;
};

static int stage_op(struct tx *tx, void *arg)
{
	struct stage *s = arg;
	struct live *l = s->p->live;
	int64_t changed;
	int err = tx_exec(tx, "update uploads set active_at = $2 where id = $1 and status = 1",
			  DB_ARGS(V_I(l->id), V_I(clock_now(l->u->drive->clock))), &changed);
	if (!err && !changed)
		return E_EXPIRED;
	return err ? err : upload_stage(tx, l->id, &s->row, 1, &s->n_new);
}

static int put_aside(struct upload_piece *p)
{
	struct live *l = p->live;
	struct uploads *u = l->u;
	struct stage s = {.p = p};
	int err = 0;
	if (p->memory) {
		p->got_bytes = 0;
		err = feed_file(p, p->memory, (size_t)p->size_bytes);
		p->got_bytes = p->size_bytes;
	}
	if (!err)
		err = stage_sync(u, p->file_id, p->file);
	if (!err) {
		s.row = (struct staged_row){p->index, {p->file_id, p->size_bytes, xxh3_final(p->xxh), p->claimed, p->claim}, STR_NULL, 0};
		p->xxh = NULL;
		err = db_write(u->drive->db, l->tenant_id, stage_op, &s);
	}
	if (err)
		return err;
	struct staged *row = malloc(sizeof *row);
	must(row != NULL);
	*row = s.row.staged;
	pthread_mutex_lock(&u->mu);
	/* Below durable: it was fed meanwhile from another request, and the row is gone already. */
	if (s.n_new && p->index >= l->durable) {
		p->file_id = 0; /* the row's now */
		if (!l->dead && !map_get(&l->staged, (uint64_t)p->index + 1)) {
			map_put(&l->staged, (uint64_t)p->index + 1, row);
			row = NULL;
		}
	}
	live_got_locked(l, p->index);
	if (live_has_work_locked(l))
		pthread_cond_signal(&u->work);
	pthread_mutex_unlock(&u->mu);
	free(row);
	return 0;
}

/* ---- the end ---- */

/* Takes the turn if it is its, also for those that did not ask with upload_piece_ready. */
static bool my_turn(struct upload_piece *p)
{
	struct live *l = p->live;
	pthread_mutex_lock(&l->u->mu);
	if (!p->granted && p->memory && live_may_feed_locked(l, p->index))
		l->feeding = p->granted = true;
	pthread_mutex_unlock(&l->u->mu);
	return p->granted;
}

/* Before the answer leaves: the client's next piece wants it. */
static void drop_memory(struct upload_piece *p)
{
	struct uploads *u = p->live->u;
	pthread_mutex_lock(&u->mu);
	void *memory = let_go_locked(p);
	pthread_mutex_unlock(&u->mu);
	piece_memory_give(u, memory, p->size_bytes);
	admit_waiting(p->live);
}

static int take_in(struct upload_piece *p)
{
	struct live *l = p->live;
	if (!my_turn(p))
		return put_aside(p);
	uint64_t breaks;
	p->granted = false;
	pthread_mutex_lock(&l->u->mu);
	p->lent = true;
	pthread_mutex_unlock(&l->u->mu);
	int err = live_feed(l, p->index, p->memory, (size_t)p->size_bytes, p->claimed ? &p->claim : NULL, true, &breaks);
	return err ? err : live_settle(l, p->index + 1, breaks);
}

static int refuse(struct ctx *ctx, struct upload_piece *p, int err)
{
	if (err == E_CHECKSUM)
		return ctx_fail(ctx, E_CHECKSUM, "Chunk %lld does not have the SHA-256 that was sent with it",
				(long long)p->index);
	if (err == E_BAD_REQUEST)
		return length_differs(ctx, p->index, p->got_bytes, p->size_bytes);
	if (err == E_EXPIRED)
		return ctx_fail(ctx, err, "The upload has ended");
	return err;
}

int upload_piece_end(struct ctx *ctx, struct upload_piece *p, struct upload_receipt *out)
{
	struct live *l = p->live;
	int err = p->got_bytes != p->size_bytes ? E_BAD_REQUEST
		  : !p->complete                ? verify(p)
		  : p->claim_differs            ? E_CHECKSUM
						: 0;
	pthread_mutex_lock(&l->u->mu);
	p->complete = true;
	bool known = live_has(l, p->index);
	pthread_mutex_unlock(&l->u->mu);
	if (!err && !(known && !p->granted))
		err = take_in(p);
	if (err)
		return refuse(ctx, p, err);
	drop_memory(p);
	pthread_mutex_lock(&l->u->mu);
	*out = (struct upload_receipt){p->index, p->size_bytes, l->n_have, l->n_pieces, l->bytes_have};
	pthread_mutex_unlock(&l->u->mu);
	return 0;
}

void upload_piece_close(struct upload_piece *p)
{
	if (!p)
		return;
	struct live *l = p->live;
	struct uploads *u = l->u;
	pthread_mutex_lock(&u->mu);
	struct upload_piece **at = &l->active;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	bool gap = p->index >= l->fed;
	bool others = l->active != NULL;
	pthread_mutex_unlock(&u->mu);
	if (p->granted)
		live_release(l, 0);
	if (gap && others) /* those that wait for it must not */
		live_wake(u, l);
	disk_close(p->file);
	if (p->file && p->file_id)
		stage_remove(u, p->file_id);
	piece_memory_give(u, p->memory, p->size_bytes);
	admit_waiting(l);
	sha256_free(p->digest);
	xxh3_free(p->xxh);
	free(p);
	live_put(l);
}
