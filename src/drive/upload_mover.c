/* The mover: one thread that feeds pieces which were staged before their turn, rebuilds ingests for that, wakes pieces
 * that have waited long enough, parks what is idle, and ends sessions nobody goes on with. It works in steps of one
 * piece. */
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/must.h"
#include "drive/upload_priv.h"

enum {
	TICK_MS = 100,
	IDLE_TICK_MS = 5000,
	PARK_AFTER_S = 30,
	SWEEP_EVERY_S = 60,
	WINDOW = 512 << 10,
	PAUSE_AFTER_FAULT_MS = 1000,
	BATCH = 8
};

/* ---- rebuilding ---- */

struct rebuild {
	struct live *l;
	struct buf recipe;
	struct ingest_tail tail;
	int64_t from;
};

/* The joined recipe of all parts below next_piece, or the tail behind them. */
static int parts_op(struct tx *tx, void *arg)
{
	struct rebuild *b = arg;
	struct live *l = b->l;
	AUTO_ROWS *r = NULL;
	struct recipe_join join;
	buf_clear(&b->recipe);
	recipe_join_begin(&join, &b->recipe);
	int err = tx_query(tx, "select recipe from upload_parts where upload_id = $1 order by first_piece",
			   DB_ARGS(V_I(l->id)), &r);
	while (!err && rows_next(r))
		err = recipe_join_add(&join, rows_blob(r, 0));
	int closed = rows_close(&r);
	l->rebuild_bytes = join.size_bytes;
	err = err ? err : closed;
	return err ? err
		   : content_open(tx, l->u->drive->store, l->tenant_id, buf_as_str(&b->recipe), join.size_bytes,
				  &l->reader);
}

static int tail_op(struct tx *tx, void *arg)
{
	struct rebuild *b = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx, "select tail, next_piece from uploads where id = $1 and status = 1",
			       DB_ARGS(V_I(b->l->id)), &r, &found);
	if (err)
		return err;
	struct str tail = found ? rows_blob(r, 0) : STR_NULL;
	if (!found || rows_i64(r, 1) != b->l->durable)
		return E_EXPIRED;
	b->tail = (struct ingest_tail){.n = tail.n};
	if (tail.n && tail.n != INGEST_TAIL_BYTES)
		return E_CORRUPT;
	if (tail.n)
		memcpy(b->tail.b, tail.p, tail.n);
	return 0;
}

/* With l->feeding set. One step: opens, or shows the ingest a window, or ends with the tail. */
static int rebuild_step(struct live *l, uint8_t *window)
{
	struct rebuild b = {.l = l};
	struct db *db = l->u->drive->db;
	size_t got;
	if (!l->reader) {
		l->rebuilt_bytes = 0;
		int err = live_begin_ingest(l);
		if (!err)
			err = db_read(db, parts_op, &b);
		buf_fini(&b.recipe);
		return err;
	}
	if (l->rebuilt_bytes < l->rebuild_bytes) {
		int err = content_read(l->reader, l->rebuilt_bytes, window, WINDOW, &got);
		if (!err)
			ingest_resume(l->ingest, window, got);
		l->rebuilt_bytes += (int64_t)got;
		return err;
	}
	int err = db_read(db, tail_op, &b);
	if (!err)
		err = ingest_resume_tail(l->ingest, &b.tail);
	content_close(l->reader);
	l->reader = NULL;
	return err;
}

/* ---- feeding ---- */

struct lost {
	struct live *l;
	int64_t piece;
};

static int lost_op(struct tx *tx, void *arg)
{
	struct lost *x = arg;
	return tx_exec(tx, "delete from upload_pieces where upload_id = $1 and piece = $2",
		       DB_ARGS(V_I(x->l->id), V_I(x->piece)), NULL);
}

/* A staged piece is damaged or gone: it counts as missing again, and the client sends it anew. */
static int forget_piece(struct live *l, int64_t piece, int64_t file_id)
{
	struct uploads *u = l->u;
	struct lost x = {l, piece};
	log_error("a staged piece is damaged; it has to be sent again", LOG_I("upload", l->id), LOG_I("piece", piece));
	int err = db_write(u->drive->db, l->tenant_id, lost_op, &x);
	if (err)
		return err; /* it stays; the caller pauses before it is tried again */
	stage_remove(u, file_id);
	pthread_mutex_lock(&u->mu);
	free(map_del(&l->staged, (uint64_t)piece + 1));
	if (live_has(l, piece)) {
		l->have[piece / 8] &= (uint8_t) ~(1 << (piece % 8));
		l->n_have--;
		l->bytes_have -= piece_size(l, piece);
	}
	pthread_mutex_unlock(&u->mu);
	return 0;
}

/* Shows the ingest all of the piece but its last bytes, which are left in the window. *fed: some were shown. */
static int move_most(struct live *l, struct stage_source *source, uint8_t *window, size_t *n, bool *fed, int *fault)
{
	int err = stage_source_read(source, window, WINDOW, n);
	while (!err && !*fault && source->at_bytes < source->size_bytes) {
		*fed = true;
		*fault = live_feed_first(l, window, *n);
		if (!*fault)
			err = stage_source_read(source, window, WINDOW, n);
	}
	return err;
}

/* With l->feeding set; clears it. */
static int move_piece(struct live *l, int64_t index, struct staged s, uint8_t *window)
{
	uint64_t breaks;
	struct stage_source source = {0};
	size_t n = 0;
	bool fed = false;
	int fault = 0; /* of the ingest */
	int err = s.size_bytes == piece_size(l, index) ? stage_source_open(l, index, &s, &source) : E_CORRUPT;
	if (!err)
		err = move_most(l, &source, window, &n, &fed, &fault);
	stage_source_close(&source);
	bool damaged = err == E_CORRUPT;
	if (damaged)
		err = forget_piece(l, index, s.file_id);
	if (damaged || err || fault) {
		live_release(l, fault ? fault : fed ? E_BUSY : 0); /* an ingest that was shown a part is of no more use */
		return err ? err : fault;
	}
	err = live_feed(l, index, window, n, s.claimed ? &s.claim : NULL, false, &breaks);
	if (err)
		return err;
	/* one sync for several, unless somebody may wait */
	pthread_mutex_lock(&l->u->mu);
	bool more = live_has_work_locked(l) && l->fed - l->durable < BATCH;
	pthread_mutex_unlock(&l->u->mu);
	return more ? 0 : live_settle(l, index + 1, breaks);
}

/* A rebuild reads all that was fed. When there is little room, and ingests are let go to make some, it has to be worth
 * it: then it waits until the pieces that came meanwhile are a fair part of the file, or all have come. */
static bool worth_it_locked(struct live *l)
{
	struct uploads *u = l->u;
	if (l->ingest)
		return true;
	bool plenty = u->n_ingests < LIMIT_UPLOAD_INGESTS / 2;
	bool worth = l->fed == 0 || l->n_have == l->n_pieces || (int64_t)l->staged.count * 4 >= l->fed;
	return (plenty || worth) && live_make_room_locked(u);
}

/* The next session with work, in turn; referenced, with feeding set. */
static struct live *next_work_locked(struct uploads *u)
{
	struct live *first = NULL, *next = NULL;
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&u->lives, &i, &key, &value);) {
		struct live *l = value;
		if (!live_has_work_locked(l) || !worth_it_locked(l))
			continue;
		if (!first || l->id < first->id)
			first = l;
		if (l->id > u->last_moved && (!next || l->id < next->id))
			next = l;
	}
	struct live *l = next ? next : first;
	if (!l)
		return NULL;
	u->last_moved = l->id;
	l->refs++;
	l->feeding = true;
	return l;
}

/* With the lock, which is given up meanwhile. */
static int step_locked(struct uploads *u, struct live *l, uint8_t **window)
{
	int64_t index = l->fed;
	struct staged *s = map_get(&l->staged, (uint64_t)index + 1);
	struct staged copy = *s;
	bool rebuild = l->reader || (!l->ingest && l->fed > 0);
	pthread_mutex_unlock(&u->mu);
	if (!*window)
		*window = malloc(WINDOW);
	must(*window != NULL);
	int err;
	if (rebuild) {
		err = rebuild_step(l, *window);
		live_release(l, err);
	} else {
		err = move_piece(l, index, copy, *window);
	}
	if (err)
		log_warn("an upload cannot go on now", LOG_I("upload", l->id), LOG_C("error", err_info(err)->code));
	live_put(l);
	pthread_mutex_lock(&u->mu);
	return err;
}

/* ---- housekeeping ---- */

static void park_idle_locked(struct uploads *u)
{
	int64_t before = clock_mono(u->drive->clock) - SECONDS_US(PARK_AFTER_S);
	for (bool again = true; again;) {
		uint64_t key;
		void *value;
		again = false;
		for (size_t i = 0; !again && map_next(&u->lives, &i, &key, &value);) {
			struct live *l = value;
			if (l->refs || l->feeding || l->syncing || l->used_us > before || live_has_work_locked(l))
				continue;
			live_kill_locked(l);
			again = true;
		}
	}
	while (!u->lives.count && u->n_spare)
		free(u->spare[--u->n_spare]);
}

struct ended {
	struct uploads *u;
	int64_t tenant_id;
	int64_t ids[64];
	int64_t tenants[64];
	size_t n;
	struct buf files;
};

/* Parts of a session that is over stay for as long as somebody who found their chunks there (upload_hint.c) may not have named them yet:
 * the collector would not know of them else. */
static int64_t parts_before_us(const struct uploads *u)
{
	return clock_now(u->drive->clock) - MILLIS_US(LIMIT_CONDEMNED_MS);
}

/* Sessions that are over, or whose time is: their tenants. */
static int ended_op(struct tx *tx, void *arg)
{
	struct ended *e = arg;
	int64_t now = clock_now(e->u->drive->clock);
	AUTO_ROWS *r = NULL;
	e->n = 0;
	int err =
	    tx_query(tx,
		     "select id, tenant_id from uploads where (status = 1 and active_at < $1) or (status > 1 and"
		     " (active_at < $2 or"
		     " (active_at < $3 and exists (select 1 from upload_parts p where p.upload_id = uploads.id)) or"
		     " exists (select 1 from upload_pieces p where p.upload_id = uploads.id))) order by id limit 64",
		     DB_ARGS(V_I(now - MILLIS_US(LIMIT_UPLOAD_MS)), V_I(now - MILLIS_US(LIMIT_UPLOAD_KEPT_MS)), V_I(parts_before_us(e->u))), &r);
	if (err)
		return err;
	for (; e->n < 64 && rows_next(r); e->n++) {
		e->ids[e->n] = rows_i64(r, 0);
		e->tenants[e->n] = rows_i64(r, 1);
	}
	return rows_close(&r);
}

struct end_one {
	struct ended *e;
	int64_t id;
	bool more;
};

static int end_files(struct tx *tx, struct end_one *x)
{
	AUTO_ROWS *r = NULL;
	buf_clear(&x->e->files);
	int err = tx_query(tx, "select file_id from upload_pieces where upload_id = $1 order by piece limit 500",
			   DB_ARGS(V_I(x->id)), &r);
	while (!err && rows_next(r)) {
		int64_t file_id = rows_i64(r, 0);
		buf_put(&x->e->files, &file_id, sizeof file_id);
	}
	int closed = err ? 0 : rows_close(&r);
	return err ? err : closed;
}

/* A step of ending one session: at most 500 rows of each kind. */
static int end_op(struct tx *tx, void *arg)
{
	struct end_one *x = arg;
	int64_t now = clock_now(x->e->u->drive->clock), parts, pieces;
	int err = tx_exec(tx, "update uploads set status = 4 where id = $1 and status = 1 and active_at < $2",
			  DB_ARGS(V_I(x->id), V_I(now - MILLIS_US(LIMIT_UPLOAD_MS))), NULL);
	if (!err)
		err = end_files(tx, x);
	if (!err)
		err = tx_exec(
		    tx,
		    "delete from upload_pieces where upload_id = $1 and piece in (select piece from upload_pieces where"
		    " upload_id = $1 order by piece limit 500) and exists (select 1 from uploads where id = $1 and "
		    "status > 1)",
		    DB_ARGS(V_I(x->id)), &pieces);
	if (!err)
		err = tx_exec(tx,
			      "delete from upload_parts where upload_id = $1 and first_piece in (select first_piece "
			      "from upload_parts"
			      " where upload_id = $1 order by first_piece limit 500) and exists (select 1 from uploads "
			      "where id = $1 and status > 1 and active_at < $2)",
			      DB_ARGS(V_I(x->id), V_I(parts_before_us(x->e->u))), &parts);
	if (!err)
		err = tx_exec(tx, "delete from uploads where id = $1 and status > 1 and active_at < $2",
			      DB_ARGS(V_I(x->id), V_I(now - MILLIS_US(LIMIT_UPLOAD_KEPT_MS))), NULL);
	x->more = !err && (parts >= 500 || pieces >= 500);
	if (!err && !pieces)
		buf_clear(&x->e->files);
	return err;
}

static void end_sessions(struct uploads *u)
{
	struct ended e = {.u = u};
	int err = db_read(u->drive->db, ended_op, &e);
	for (size_t i = 0; !err && i < e.n; i++) {
		struct end_one x = {.e = &e, .id = e.ids[i]};
		pthread_mutex_lock(&u->mu);
		struct live *l = map_get(&u->lives, (uint64_t)x.id);
		if (l)
			live_kill_locked(l);
		pthread_mutex_unlock(&u->mu);
		do {
			err = db_write(u->drive->db, e.tenants[i], end_op, &x);
			for (size_t k = 0; !err && k < e.files.n; k += sizeof(int64_t)) {
				int64_t file_id;
				memcpy(&file_id, e.files.p + k, sizeof file_id);
				stage_remove(u, file_id);
			}
		} while (!err && x.more && !u->stopping);
	}
	buf_fini(&e.files);
	if (err)
		log_warn("ended uploads cannot be cleared away", LOG_C("error", err_info(err)->code));
}

/* ---- the thread ---- */

static bool anyone_waits_locked(struct uploads *u)
{
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&u->lives, &i, &key, &value);)
		for (const struct upload_piece *p = ((struct live *)value)->active; p; p = p->next)
			if (p->wake)
				return true;
	return false;
}

static void pause_locked(struct uploads *u, int64_t ms)
{
	struct timespec until;
	int64_t us = clock_mono(&clock_system) + MILLIS_US(ms);
	until = (struct timespec){us / 1000000, us % 1000000 * 1000};
	if (!u->stopping)
		pthread_cond_timedwait(&u->work, &u->mu, &until);
}

void *upload_mover(void *arg)
{
	struct uploads *u = arg;
	uint8_t *window = NULL;
	int64_t swept_us = 0, parked_us = 0;
	pthread_mutex_lock(&u->mu);
	while (!u->stopping) {
		int64_t now = clock_mono(u->drive->clock);
		pthread_mutex_unlock(&u->mu);
		live_wake(u, NULL);
		if (!swept_us || now - swept_us > SECONDS_US(SWEEP_EVERY_S)) {
			end_sessions(u);
			swept_us = now;
		}
		pthread_mutex_lock(&u->mu);
		if (now - parked_us > SECONDS_US(5)) {
			park_idle_locked(u);
			parked_us = now;
		}
		struct live *l = next_work_locked(u);
		if (l) {
			if (step_locked(u, l, &window))
				pause_locked(u, PAUSE_AFTER_FAULT_MS);
			continue;
		}
		free(window);
		window = NULL;
		pause_locked(u, anyone_waits_locked(u) ? TICK_MS : IDLE_TICK_MS);
	}
	pthread_mutex_unlock(&u->mu);
	free(window);
	return NULL;
}
