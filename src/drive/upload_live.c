/* Sessions in memory. A piece passes two gates, each with one owner at a time: feeding (into the ingest, in file
 * order), then syncing, where one caller writes, makes durable and commits what all have fed by then, while the next
 * piece is being fed. */
#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"
#include "drive/upload_priv.h"

/* ---- memory ---- */

enum { PAGE_BYTES = 4096 };

void *piece_memory_take_locked(struct uploads *u, int64_t size_bytes, bool used)
{
	if (size_bytes <= 0 || u->memory + (size_t)size_bytes > LIMIT_UPLOAD_MEMORY)
		return NULL;
	u->memory += (size_t)size_bytes;
	if (used && size_bytes == LIMIT_UPLOAD_CHUNK_MAX && u->n_spare)
		return u->spare[--u->n_spare];
	/* By pages: content that a sender has in pages comes to the same offset of ours. At 16 bytes behind it, where malloc would put it, some
	 * processors copy at a quarter of their speed (the kernel's "rep movsb" on AMD's Zen 3). */
	void *p = aligned_alloc(PAGE_BYTES, ((size_t)size_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
	must(p != NULL);
	return p;
}

void *piece_memory_swap_locked(struct uploads *u, void *p, int64_t size_bytes, size_t n)
{
	if (size_bytes != LIMIT_UPLOAD_CHUNK_MAX || !u->n_spare)
		return p;
	void *other = memcpy(u->spare[--u->n_spare], p, n);
	free(p);
	return other;
}

void piece_memory_give(struct uploads *u, void *p, int64_t size_bytes)
{
	if (!p)
		return;
	pthread_mutex_lock(&u->mu);
	u->memory -= (size_t)size_bytes;
	if (size_bytes == LIMIT_UPLOAD_CHUNK_MAX && u->n_spare < SPARE_MAX) {
		u->spare[u->n_spare++] = p;
		p = NULL;
	}
	pthread_mutex_unlock(&u->mu);
	free(p);
}

/* ---- the table ---- */

static int64_t mono(const struct uploads *u)
{
	return clock_mono(u->drive->clock);
}

static void live_free(struct live *l)
{
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&l->staged, &i, &key, &value);)
		free(value);
	map_fini(&l->staged);
	live_park_locked(l);
	pthread_cond_destroy(&l->moved);
	free(l->have);
	free(l);
}

struct live *live_find(struct uploads *u, int64_t id)
{
	pthread_mutex_lock(&u->mu);
	struct live *l = map_get(&u->lives, (uint64_t)id);
	if (l)
		l->refs++;
	pthread_mutex_unlock(&u->mu);
	return l;
}

void live_got_locked(struct live *l, int64_t index)
{
	if (live_has(l, index))
		return;
	l->have[index / 8] |= (uint8_t)(1 << (index % 8));
	l->n_have++;
	l->bytes_have += piece_size(l, index);
}

void live_learn_locked(struct live *l, const struct staged_row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int64_t piece = rows[i].piece;
		if (piece < l->durable || piece >= l->n_pieces || map_get(&l->staged, (uint64_t)piece + 1))
			continue;
		struct staged *s = malloc(sizeof *s);
		must(s != NULL);
		*s = rows[i].staged;
		map_put(&l->staged, (uint64_t)piece + 1, s);
		live_got_locked(l, piece);
	}
}

struct live *live_new(struct uploads *u, int64_t tenant_id, const struct upload *up, const struct staged_row *rows,
		      size_t n)
{
	struct live *l = calloc(1, sizeof *l);
	must(l != NULL);
	*l = (struct live){
	    .u = u,
	    .id = up->id,
	    .tenant_id = tenant_id,
	    .size_bytes = up->in.size_bytes,
	    .chunk_bytes = up->in.chunk_bytes,
	    .n_pieces = up->n_pieces,
	    .fed = up->next_piece,
	    .durable = up->next_piece,
	    .parts_end = &l->parts,
	};
	l->have = calloc((size_t)up->n_pieces / 8 + 1, 1);
	must(l->have != NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->moved, &attr);
	pthread_condattr_destroy(&attr);
	for (int64_t i = 0; i < up->next_piece; i++)
		live_got_locked(l, i);
	live_learn_locked(l, rows, n);
	l->used_us = mono(u);
	pthread_mutex_lock(&u->mu);
	struct live *other = map_get(&u->lives, (uint64_t)l->id);
	if (!other)
		map_put(&u->lives, (uint64_t)l->id, l);
	(other ? other : l)->refs++;
	if (live_has_work_locked(l))
		pthread_cond_signal(&u->work);
	pthread_mutex_unlock(&u->mu);
	if (other)
		live_free(l);
	return other ? other : l;
}

void live_put(struct live *l)
{
	struct uploads *u = l->u;
	pthread_mutex_lock(&u->mu);
	l->used_us = mono(u);
	bool last = --l->refs == 0 && l->dead;
	if (last)
		live_free(l);
	pthread_mutex_unlock(&u->mu);
}

/* ---- the ingest ---- */

static void parts_free(struct live *l)
{
	while (l->parts) {
		struct part *p = l->parts;
		l->parts = p->next;
		content_free(p->content);
		free(p);
	}
	l->parts_end = &l->parts;
}

void live_park_locked(struct live *l)
{
	must(!l->feeding && !l->syncing);
	parts_free(l);
	if (l->reader)
		content_close(l->reader);
	l->reader = NULL;
	if (l->ingest) {
		ingest_abort(l->ingest);
		l->u->n_ingests--;
	}
	l->ingest = NULL;
	l->fed = l->durable;
	l->broken = 0;
}

static void break_locked(struct live *l, int err)
{
	if (!l->broken)
		l->breaks++;
	l->broken = l->last_fault = err;
	pthread_cond_broadcast(&l->moved);
}

static void mend_locked(struct live *l)
{
	if (l->broken && !l->feeding && !l->syncing)
		live_park_locked(l);
}

void live_kill_locked(struct live *l)
{
	if (l->dead)
		return;
	l->dead = true;
	map_del(&l->u->lives, (uint64_t)l->id);
	break_locked(l, E_BUSY);
	mend_locked(l);
	if (!l->refs)
		live_free(l);
}

/* Nobody is at its ingest or about to be. */
static bool is_idle_locked(const struct live *l)
{
	if (l->feeding || l->syncing || l->parts || live_has_work_locked(l))
		return false;
	for (const struct upload_piece *p = l->active; p; p = p->next)
		if (p->wake)
			return false;
	return true;
}

bool live_make_room_locked(struct uploads *u)
{
	struct live *oldest = NULL;
	uint64_t key;
	void *value;
	if (u->n_ingests < LIMIT_UPLOAD_INGESTS)
		return true;
	for (size_t i = 0; map_next(&u->lives, &i, &key, &value);) {
		struct live *l = value;
		if (l->ingest && is_idle_locked(l) && (!oldest || l->used_us < oldest->used_us))
			oldest = l;
	}
	if (!oldest || mono(u) - oldest->used_us < SECONDS_US(2))
		return false;
	live_park_locked(oldest);
	return true;
}

bool live_may_feed_locked(struct live *l, int64_t index)
{
	if (l->dead || l->broken || l->feeding || l->reader || l->fed != index)
		return false;
	return l->ingest || (l->fed == 0 && live_make_room_locked(l->u));
}

static int key_op(struct tx *tx, void *arg)
{
	AUTO_ROWS *r = NULL;
	bool found;
	struct {
		int64_t tenant_id;
		uint8_t key[32];
	} *k = arg;
	int err =
	    tx_query_row(tx, "select chunk_key from tenants where id = $1", DB_ARGS(V_I(k->tenant_id)), &r, &found);
	if (err)
		return err;
	struct str key = found ? rows_blob(r, 0) : STR_NULL;
	if (key.n != sizeof k->key)
		return E_CORRUPT;
	memcpy(k->key, key.p, sizeof k->key);
	return 0;
}

int live_begin_ingest(struct live *l)
{
	struct {
		int64_t tenant_id;
		uint8_t key[32];
	} k = {.tenant_id = l->tenant_id};
	int err = db_read(l->u->drive->db, key_op, &k);
	if (!err)
		err = ingest_begin(l->u->drive->store, l->tenant_id, k.key, l->size_bytes, &l->ingest);
	if (err)
		return err;
	pthread_mutex_lock(&l->u->mu);
	l->u->n_ingests++;
	pthread_mutex_unlock(&l->u->mu);
	return 0;
}

void live_release(struct live *l, int err)
{
	struct uploads *u = l->u;
	void (*wake)(void *) = NULL;
	void *arg = NULL;
	pthread_mutex_lock(&u->mu);
	l->feeding = false;
	l->used_us = mono(u);
	if (err)
		break_locked(l, err);
	mend_locked(l);
	for (struct upload_piece *p = l->active; p && !wake; p = p->next) {
		if (!p->wake || !p->complete || p->index != l->fed || !live_may_feed_locked(l, p->index))
			continue;
		l->feeding = p->granted = true;
		wake = p->wake;
		arg = p->wake_arg;
		p->wake = NULL;
	}
	if (live_has_work_locked(l))
		pthread_cond_signal(&u->work);
	pthread_mutex_unlock(&u->mu);
	if (wake)
		wake(arg);
}

int live_feed_first(struct live *l, const void *p, size_t n)
{
	int err = l->ingest ? 0 : live_begin_ingest(l);
	return err ? err : ingest_feed(l->ingest, p, n);
}

int live_feed(struct live *l, int64_t index, const void *p, size_t n, const struct sha256 *claim, bool kept, uint64_t *breaks)
{
	struct part *part = calloc(1, sizeof *part);
	must(part != NULL);
	*part = (struct part){.first = index, .upto = index + 1, .last = index + 1 == l->n_pieces, .claimed = claim != NULL};
	if (claim)
		part->claim = *claim;
	int err = l->ingest ? 0 : live_begin_ingest(l);
	if (!err)
		err = (kept ? ingest_lend : ingest_feed)(l->ingest, p, n);
	if (!err)
		err = ingest_cut(l->ingest, part->last, &part->content, &part->tail);
	pthread_mutex_lock(&l->u->mu);
	*breaks = l->breaks;
	if (!err && l->broken)
		err = l->broken;
	if (!err) {
		l->fed = index + 1;
		*l->parts_end = part;
		l->parts_end = &part->next;
		part = NULL;
	}
	pthread_mutex_unlock(&l->u->mu);
	if (part) {
		content_free(part->content);
		free(part);
	}
	live_release(l, err);
	return err;
}

/* ---- making it durable ---- */

struct commit {
	struct live *l;
	const struct part *parts;
	int64_t from;
};

static int part_insert(struct tx *tx, const struct commit *c, const struct part *p)
{
	struct buf recipe = {0};
	int err = content_commit(tx, c->l->u->drive->store, c->l->tenant_id, p->content, NULL, &recipe);
	if (!err)
		err = tx_exec(tx, "insert into upload_parts (upload_id, first_piece, recipe, hash) values ($1, $2, $3, $4)",
			      DB_ARGS(V_I(c->l->id), V_I(p->first), V_B(buf_as_str(&recipe)),
				      p->claimed ? V_B(str_n(p->claim.b, 32)) : V_NULL),
			      NULL);
	buf_fini(&recipe);
	return err;
}

/* Cancelled; or another process went on with it, and we have to look again. */
static int is_over(struct tx *tx, int64_t id)
{
	int64_t status;
	int err = tx_i64(tx, "select status from uploads where id = $1", DB_ARGS(V_I(id)), 0, &status);
	return err ? err : status == UPLOAD_OPEN ? E_CHANGED : E_EXPIRED;
}

static int commit_op(struct tx *tx, void *arg)
{
	const struct commit *c = arg;
	const struct part *last = c->parts;
	while (last->next)
		last = last->next;
	struct str tail = last->tail.n ? str_n(last->tail.b, last->tail.n) : STR_NULL;
	struct str sha256 = last->last ? str_n(last->content->sha256.b, 32) : STR_NULL;
	int64_t changed;
	int err = tx_exec(tx,
			  "update uploads set next_piece = $2, tail = $3, sha256 = $4, active_at = $5"
			  " where id = $1 and status = 1 and next_piece = $6",
			  DB_ARGS(V_I(c->l->id), V_I(last->upto), V_B(tail), V_B(sha256),
				  V_I(clock_now(c->l->u->drive->clock)), V_I(c->from)),
			  &changed);
	if (!err && !changed)
		err = is_over(tx, c->l->id);
	for (const struct part *p = c->parts; !err && p; p = p->next)
		err = part_insert(tx, c, p);
	struct chunk_place place;
	if (!err && last->tail.n)
		err = ingest_tail_place(&last->tail, &place);
	if (!err && last->tail.n) /* the collector looks for tails before it retires a pack, and we after it did */
		err = index_pack_open(tx, place.pack_id);
	if (!err)
		err = tx_exec(tx, "delete from upload_pieces where upload_id = $1 and piece < $2",
			      DB_ARGS(V_I(c->l->id), V_I(last->upto)), NULL);
	return err;
}

static int sync_parts(struct live *l, const struct part *parts, int64_t from)
{
	const struct part *last = NULL;
	int err = 0;
	for (const struct part *p = parts; !err && p; p = p->next) {
		err = content_write(p->content);
		last = p;
	}
	if (!err)
		pieces_written(l, from, last->upto);
	/* all lie in the ingest's one pack, and the last was sealed last */
	if (!err)
		err = content_sync(l->u->drive->store, last->content);
	struct commit c = {l, parts, from};
	return err ? err : db_write(l->u->drive->db, l->tenant_id, commit_op, &c);
}

/* With the lock: what the commit of [from, upto) means. Files that were fed are taken off the table, into *gone. */
static void committed_locked(struct live *l, int64_t from, int64_t upto, struct buf *gone)
{
	for (int64_t i = from; i < upto; i++) {
		live_got_locked(l, i);
		struct staged *s = l->staged.count ? map_del(&l->staged, (uint64_t)i + 1) : NULL;
		if (s && s->file_id)
			buf_put(gone, &s->file_id, sizeof s->file_id);
		free(s);
	}
	l->durable = upto;
}

/* A commit that fails by these left no rows. By others it may have: the answer was lost, or a sync failed behind the write. */
static bool left_no_rows(int err)
{
	return err == E_EXPIRED || err == E_CHANGED || err == E_NO_SPACE || err == E_BUSY || err == E_SHUTDOWN;
}

/* With the lock, which is given up meanwhile. */
static void sync_locked(struct live *l)
{
	struct uploads *u = l->u;
	struct buf gone = {0};
	struct part *parts = l->parts;
	int64_t from = l->durable, upto = l->fed;
	l->parts = NULL;
	l->parts_end = &l->parts;
	l->syncing = true;
	pthread_mutex_unlock(&u->mu);
	int err = sync_parts(l, parts, from);
	pthread_mutex_lock(&u->mu);
	for (struct part *p = parts, *next; p; p = next) {
		next = p->next;
		if (!left_no_rows(err))
			ingest_keep(l->ingest, p->content);
		content_free(p->content);
		free(p);
	}
	l->syncing = false;
	if (err == E_EXPIRED || err == E_CHANGED)
		live_kill_locked(l);
	if (err)
		break_locked(l, err == E_CHANGED ? E_BUSY : err);
	else
		committed_locked(l, from, upto, &gone);
	mend_locked(l);
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&u->mu);
	for (size_t i = 0; i < gone.n; i += sizeof(int64_t)) {
		int64_t file_id;
		memcpy(&file_id, gone.p + i, sizeof file_id);
		stage_remove(u, file_id);
	}
	buf_fini(&gone);
	pthread_mutex_lock(&u->mu);
}

int live_settle(struct live *l, int64_t upto, uint64_t breaks)
{
	pthread_mutex_lock(&l->u->mu);
	while (l->durable < upto && l->breaks == breaks) {
		if (l->syncing)
			pthread_cond_wait(&l->moved, &l->u->mu);
		else
			sync_locked(l);
	}
	int err = l->durable >= upto ? 0 : l->last_fault;
	while (err && l->broken && l->syncing) /* whoever syncs may be writing our bytes */
		pthread_cond_wait(&l->moved, &l->u->mu);
	pthread_mutex_unlock(&l->u->mu);
	return err;
}

/* ---- who waits ---- */

bool live_has_work_locked(const struct live *l)
{
	return !l->dead && !l->broken && !l->feeding && l->staged.count && map_get(&l->staged, (uint64_t)l->fed + 1);
}

static struct upload_piece *overdue_locked(struct live *l, bool all)
{
	int64_t now = mono(l->u);
	for (struct upload_piece *p = l->active; p; p = p->next)
		if (p->wake && ((all && p->complete) || p->deadline_us <= now))
			return p;
	return NULL;
}

void live_wake(struct uploads *u, struct live *only)
{
	for (;;) {
		struct upload_piece *p = NULL;
		void (*wake)(void *) = NULL;
		void *arg = NULL;
		uint64_t key;
		void *value;
		pthread_mutex_lock(&u->mu);
		if (only)
			p = overdue_locked(only, true);
		for (size_t i = 0; !only && !p && map_next(&u->lives, &i, &key, &value);)
			p = overdue_locked(value, false);
		if (p && !only)
			p->live->jumps |= p->for_gap;
		if (p) {
			wake = p->wake;
			arg = p->wake_arg;
			p->wake = NULL;
		}
		pthread_mutex_unlock(&u->mu);
		if (!wake)
			return;
		wake(arg);
	}
}
