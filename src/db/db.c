#include "db/db_priv.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"
#include "base/rng.h"

/* ---- small helpers ---- */

int db_thread(pthread_t *out, void *(*fn)(void *), void *arg)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int rc = pthread_create(out, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc ? E_BUSY : 0;
}

void db_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;
	must(pthread_condattr_init(&attr) == 0);
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	must(pthread_cond_init(c, &attr) == 0);
	pthread_condattr_destroy(&attr);
}

bool db_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t timeout_us)
{
	/* Real time on purpose: this bounds how long a thread sleeps, whatever clock the product is shown. */
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	int64_t ns = ts.tv_nsec + timeout_us % 1000000 * 1000;
	ts.tv_sec += timeout_us / 1000000 + ns / 1000000000;
	ts.tv_nsec = ns % 1000000000;
	return pthread_cond_timedwait(c, m, &ts) != ETIMEDOUT;
}

void db_why(char **why, const char *fmt, ...)
{
	if (!why || *why)
		return;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(why, fmt, ap) < 0)
		*why = NULL;
	va_end(ap);
}

/* ---- statements ---- */

static int tx_note(struct tx *tx, int err)
{
	if (err && !tx->err)
		tx->err = err;
	return err;
}

int tx_exec(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, int64_t *changed)
{
	if (changed)
		*changed = 0;
	if (tx->err)
		return tx->err;
	return tx_note(tx, tx->db->driver->exec(tx, sql, args, n_args, changed));
}

int tx_query(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, struct rows **out)
{
	*out = NULL;
	if (tx->err)
		return tx->err;
	int err = tx->db->driver->query(tx, sql, args, n_args, out);
	tx->open_rows += err == 0;
	return tx_note(tx, err);
}

bool rows_next(struct rows *r)
{
	return !r->err && r->tx->db->driver->next(r);
}

int64_t rows_i64(struct rows *r, int col)
{
	return r->tx->db->driver->i64(r, col);
}

struct str rows_text(struct rows *r, int col)
{
	return r->tx->db->driver->bytes(r, col, true);
}

struct str rows_blob(struct rows *r, int col)
{
	return r->tx->db->driver->bytes(r, col, false);
}

bool rows_is_null(struct rows *r, int col)
{
	return r->tx->db->driver->is_null(r, col);
}

int rows_close(struct rows **rp)
{
	struct rows *r = *rp;
	if (!r)
		return 0;
	*rp = NULL;
	struct tx *tx = r->tx;
	tx->open_rows--;
	return tx_note(tx, tx->db->driver->close(r));
}

void rows_cleanup(struct rows **r)
{
	rows_close(r);
}

int tx_query_row(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, struct rows **out, bool *found)
{
	*found = false;
	int err = tx_query(tx, sql, args, n_args, out);
	if (err)
		return err;
	*found = rows_next(*out);
	return *found || !(*out)->err ? 0 : rows_close(out);
}

int tx_i64(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, int64_t dflt, int64_t *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	*out = dflt;
	int err = tx_query_row(tx, sql, args, n_args, &r, &found);
	if (err)
		return err;
	if (found && !rows_is_null(r, 0))
		*out = rows_i64(r, 0);
	return rows_close(&r);
}

int tx_many(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, db_row_fn *row, void *arg)
{
	if (tx->err)
		return tx->err;
	if (n == 0)
		return 0;
	/* An error of the row function is not a failed statement, so it does not poison the transaction. */
	return tx->db->driver->many(tx, sql, args, n_args, n, row, arg, NULL);
}

int tx_many_changed(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, int64_t *changed)
{
	return tx->err || n == 0 ? tx->err : tx->db->driver->many(tx, sql, args, n_args, n, NULL, NULL, changed);
}

bool tx_is_write(const struct tx *tx)
{
	return tx->write;
}

bool tx_is_daring(const struct tx *tx)
{
	return tx->daring;
}

void tx_leave(struct tx *tx, db_op_fn *finish, void *left)
{
	must(tx->daring);
	tx->finish = finish;
	tx->left = left;
}

void *tx_left(const struct tx *tx)
{
	return tx->finish ? tx->left : NULL;
}

struct arena *tx_arena(struct tx *tx)
{
	return &tx->conn->arena;
}

/* ---- transactions ---- */

/* Runs op; a failed statement the op did not answer for fails it. */
static int tx_run(struct tx *tx, db_op_fn *op, void *arg)
{
	size_t open_rows = tx->open_rows;
	int err = op(tx, arg);
	must(tx->open_rows == open_rows);
	return err ? err : tx->err;
}

static bool conn_broken(const struct conn *c)
{
	return c->dead || c->rerun || c->full || !c->in_tx;
}

int tx_nested(struct tx *tx, db_op_fn *part, void *arg)
{
	if (tx->err)
		return tx->err;
	struct conn *c = tx->conn;
	const struct db_driver *d = tx->db->driver;
	int err = d->savepoint(c);
	if (err)
		return tx_note(tx, err);
	err = tx_run(tx, part, arg);
	if (!err)
		return tx_note(tx, d->release(c));
	/* When the whole transaction is lost, the error must reach the op's caller: tx->err stays. */
	tx->err = conn_broken(c) || (mutant(M_DB_HALF_DONE) ? d->release(c) : d->undo(c)) ? err : 0;
	return err;
}

int db_run(struct conn *c, bool write, db_op_fn *op, void *arg)
{
	struct tx tx = {.db = c->db, .conn = c, .write = write};
	int err = tx_run(&tx, op, arg);
	arena_reset(&c->arena);
	return err;
}

/* ---- readers ---- */

static void conn_drop(struct conn *c)
{
	if (c)
		c->db->driver->disconnect(c);
}

static int pool_take(struct db *db, int64_t timeout_us, struct conn **out)
{
	int64_t end_us = 0; /* real time, as in db_cond_wait */
	*out = NULL;
	pthread_mutex_lock(&db->pool_lock);
	while (db->n_idle == 0 && db->n_open >= db->max_readers && !db->stopping) {
		int64_t now_us = clock_mono(&clock_system);
		if (!end_us)
			end_us = now_us + timeout_us;
		int64_t left_us = end_us - now_us;
		if (left_us <= 0) {
			pthread_mutex_unlock(&db->pool_lock);
			return E_BUSY;
		}
		db_cond_wait(&db->pool_wake, &db->pool_lock, left_us);
	}
	if (db->stopping) {
		pthread_mutex_unlock(&db->pool_lock);
		return E_SHUTDOWN;
	}
	if (db->n_idle > 0)
		*out = db->idle[--db->n_idle];
	else
		db->n_open++;
	pthread_mutex_unlock(&db->pool_lock);
	if (*out && db->driver->alive(*out))
		return 0;
	conn_drop(*out);
	char why[400] = "";
	int err = db->driver->connect(db, DB_READER, timeout_us, out, why);
	if (err) {
		log_error("database: no connection", LOG_C("why", why));
		pthread_mutex_lock(&db->pool_lock);
		db->n_open--;
		pthread_cond_signal(&db->pool_wake);
		pthread_mutex_unlock(&db->pool_lock);
	}
	return err;
}

static void pool_give(struct db *db, struct conn *c)
{
	bool dead = c->dead;
	if (dead)
		conn_drop(c);
	else
		c->idle_since_us = clock_mono(db->clock);
	pthread_mutex_lock(&db->pool_lock);
	if (dead)
		db->n_open--;
	else
		db->idle[db->n_idle++] = c;
	pthread_cond_signal(&db->pool_wake);
	pthread_mutex_unlock(&db->pool_lock);
}

/* The writer's connection, opened again when it was lost. In inline mode the caller holds inline_lock. */
static int writer_conn(struct db_writer *w, struct conn **out)
{
	struct db *db = w->db;
	if (w->conn && (w->conn->dead || !db->driver->alive(w->conn))) {
		conn_drop(w->conn);
		w->conn = NULL;
	}
	char why[400] = "";
	int err = w->conn ? 0 : db->driver->connect(db, DB_WRITER, DB_CONNECT_US, &w->conn, why);
	if (err)
		log_error("database: no connection", LOG_C("why", why));
	*out = w->conn;
	return err;
}

static int read_on(struct conn *c, db_op_fn *op, void *arg)
{
	const struct db_driver *d = c->db->driver;
	c->rerun = false;
	int err = d->begin_read(c);
	if (err)
		return err;
	err = db_run(c, false, op, arg);
	d->rollback(c);
	atomic_fetch_add(&c->db->reads, 1);
	return err;
}

int db_read(struct db *db, db_op_fn *op, void *arg)
{
	struct conn *c;
	int err;
	if (db->inline_writes) {
		pthread_mutex_lock(&db->inline_lock);
		err = writer_conn(&db->writers[0], &c);
		err = err ? err : read_on(c, op, arg);
		pthread_mutex_unlock(&db->inline_lock);
		return err;
	}
	err = pool_take(db, DB_POOL_WAIT_US, &c);
	if (err)
		return err;
	err = read_on(c, op, arg);
	pool_give(db, c);
	return err;
}

int db_ping(struct db *db)
{
	struct conn *c;
	int err;
	if (db->inline_writes) {
		pthread_mutex_lock(&db->inline_lock);
		err = writer_conn(&db->writers[0], &c);
		err = err ? err : db->driver->ping(c, MILLIS_US(900));
		pthread_mutex_unlock(&db->inline_lock);
		return err;
	}
	err = pool_take(db, MILLIS_US(450), &c);
	if (err)
		return err;
	err = db->driver->ping(c, MILLIS_US(450));
	pool_give(db, c);
	return err;
}

void db_trim(struct db *db)
{
	pthread_mutex_lock(&db->pool_lock);
	for (int i = 0; i < db->n_idle && db->driver->trim; i++)
		db->driver->trim(db->idle[i]);
	pthread_mutex_unlock(&db->pool_lock);
}

/* ---- writers ---- */

static int left_finish(struct tx *tx)
{
	db_op_fn *finish = tx->finish;
	tx->finish = NULL;
	return finish ? tx_run(tx, finish, tx->left) : 0;
}

static int member_run(struct tx *tx, struct db_write *r, bool in_savepoint)
{
	int err = r->before_err;
	if (!err && !r->goes_on)
		err = left_finish(tx);
	if (!err)
		err = (in_savepoint ? tx_nested : tx_run)(tx, r->op, r->arg);
	arena_reset(&tx->conn->arena);
	return err;
}

/* Runs the members in one transaction. *rest gets those the group had no time for. Not 0: none was committed. careful: each
 * member has a savepoint, so that its failure is its own; else *tripped tells that one failed. */
static int group_once(struct db *db, struct conn *c, struct db_write *list, bool careful, struct db_write **rest,
                      bool *tripped)
{
	const struct db_driver *d = db->driver;
	bool alone = !list->next;
	struct tx tx = {.db = db, .conn = c, .write = true, .daring = !alone && !careful};
	int64_t start_us = clock_mono(db->clock);
	size_t good = 0;
	*rest = NULL;
	*tripped = c->rerun = c->full = false;
	int err = d->begin_write(c, list->tenant_id);
	if (err)
		return err;
	bool lost = false;
	for (struct db_write *r = list; r && !lost; r = r->next) {
		/* A lone member needs no savepoint: the transaction is its own. */
		err = r->err = member_run(&tx, r, careful && !alone);
		bool failed = r->err && !r->before_err;
		lost = conn_broken(c) || (!alone && (tx.err || (failed && !careful)));
		good += r->err == 0;
		if (!lost && r->next && clock_mono(db->clock) - start_us > DB_GROUP_US) {
			*rest = r->next;
			r->next = NULL;
		}
	}
	if (!lost && good) {
		err = left_finish(&tx);
		lost = err != 0;
	}
	if (!lost && good)
		return d->commit(c);
	*tripped = lost && !conn_broken(c) && !careful;
	d->rollback(c);
	return lost ? err ? err : E_DB : 0;
}

static struct db_write *list_join(struct db_write *list, struct db_write *rest)
{
	struct db_write **end = &list;
	while (*end)
		end = &(*end)->next;
	*end = rest;
	return list;
}

/* What had no room together, one by one: what makes room, or needs little, is not to fail with what does not fit. */
static void group_apart(struct db_writer *w, struct db_write *list)
{
	for (struct db_write *r = list, *next, *rest; r; r = next) {
		struct conn *c;
		bool tripped;
		next = r->next;
		r->next = NULL;
		int err = w->db->failed ? E_READ_ONLY : writer_conn(w, &c);
		if (!err)
			err = group_once(w->db, c, r, false, &rest, &tripped);
		if (err)
			r->err = err;
		r->next = next;
	}
}

/* Runs one group to its end, with the retries a lost race needs. Every member's err is set. Returns the members that
 * were not run. */
static struct db_write *group_run(struct db_writer *w, struct db_write *list)
{
	struct db *db = w->db;
	struct db_write *rest = NULL;
	int err;
	uint64_t jitter;
	for (struct db_write *r = list; r; r = r->next)
		r->before_err = r->before ? r->before(r->before_arg) : 0;
	bool full = false;
	for (int attempt = 0;; attempt++) {
		struct conn *c;
		bool tripped = full = false;
		err = db->failed ? E_READ_ONLY : writer_conn(w, &c);
		if (err)
			break;
		err = group_once(db, c, list, w->careful > 0, &rest, &tripped);
		if (tripped)
			w->careful = DB_CAREFUL_GROUPS + 1;
		full = err && c->full;
		bool again = tripped || (full && db->make_room && db->make_room(db->make_room_arg));
		if (!err || (!c->rerun && !again) || attempt == 8)
			break;
		atomic_fetch_add(&db->reruns, 1);
		list = list_join(list, rest);
		rest = NULL;
		if (again)
			continue;
		rng_system.fill(&rng_system, &jitter, sizeof jitter);
		usleep((useconds_t)(1000 + jitter % (2000u << attempt)));
	}
	if (w->careful > 0)
		w->careful--;
	atomic_fetch_add(&db->groups, 1);
	bool apart = full && list->next;
	if (apart)
		group_apart(w, list);
	for (struct db_write *r = list; r; r = r->next) {
		atomic_fetch_add(&db->writes, 1);
		if (err && !apart)
			r->err = err;
	}
	return rest;
}

/* The oldest waiting member and those of its tenant that wait behind it, in order. SQLite has one writer for all, so
 * there a group is not limited to a tenant. The caller holds the lock. */
static struct db_write *group_take(struct db_writer *w)
{
	struct db_write *list = NULL, **end = &list, **at = &w->head;
	int64_t tenant_id = w->head->tenant_id;
	bool any_tenant = w->db->driver->max_writers == 1;
	for (size_t n = 0; *at && n < DB_GROUP_MAX;) {
		struct db_write *r = *at;
		if (!any_tenant && r->tenant_id != tenant_id) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		r->next = NULL;
		*end = r;
		end = &r->next;
		n++;
	}
	w->tail = &w->head;
	while (*w->tail)
		w->tail = &(*w->tail)->next;
	return list;
}

static void writer_wait(struct db_writer *w)
{
	if (!w->warm) {
		pthread_cond_wait(&w->wake, &w->lock);
	} else if (!db_cond_wait(&w->wake, &w->lock, DB_WARM_US)) {
		w->warm = false;
		if (w->conn && w->db->driver->trim)
			w->db->driver->trim(w->conn);
	}
}

static void *writer_main(void *arg)
{
	struct db_writer *w = arg;
	pthread_setname_np(pthread_self(), "db-writer");
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->head && !w->stop)
			writer_wait(w);
		if (!w->head)
			break;
		w->warm = true;
		/* Whoever is about to ask, and needs only the processor for it, shares the commit. */
		pthread_mutex_unlock(&w->lock);
		sched_yield();
		pthread_mutex_lock(&w->lock);
		struct db_write *list = group_take(w);
		pthread_mutex_unlock(&w->lock);
		struct db_write *rest = group_run(w, list);
		pthread_mutex_lock(&w->lock);
		if (rest) {
			w->head = list_join(rest, w->head);
			w->tail = &w->head;
			while (*w->tail)
				w->tail = &(*w->tail)->next;
		}
		for (struct db_write *r = list; r && r != rest; r = r->next)
			w->queued--;
		pthread_mutex_unlock(&w->lock);
		for (struct db_write *r = list, *next; r && r != rest; r = next) {
			next = r->next;
			r->done(r->done_arg); /* r is gone with its caller */
		}
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* False: *w was not taken, and w->err says why. */
static bool write_queue(struct db *db, struct db_write *r)
{
	uint64_t spread = (uint64_t)r->tenant_id * UINT64_C(0x9e3779b97f4a7c15) >> 32;
	struct db_writer *w = &db->writers[spread % (uint64_t)db->n_writers];
	pthread_mutex_lock(&w->lock);
	bool taken = !w->stop && w->queued < DB_QUEUE_MAX;
	if (taken) {
		bool first = !w->head;
		*w->tail = r;
		w->tail = &r->next;
		w->queued++;
		if (first)
			pthread_cond_signal(&w->wake);
	} else {
		r->err = w->stop ? E_SHUTDOWN : E_BUSY;
	}
	pthread_mutex_unlock(&w->lock);
	return taken;
}

void db_write_begin(struct db *db, struct db_write *w)
{
	w->err = E_DB;
	w->next = NULL;
	if (db->failed) {
		w->err = E_READ_ONLY;
	} else if (db->inline_writes) {
		pthread_mutex_lock(&db->inline_lock);
		group_run(&db->writers[0], w);
		pthread_mutex_unlock(&db->inline_lock);
	} else if (write_queue(db, w)) {
		return;
	}
	w->done(w->done_arg);
}

static void write_done(void *arg)
{
	sem_post(arg);
}

int db_write(struct db *db, int64_t tenant_id, db_op_fn *op, void *arg)
{
	/* A semaphore, since who is woken by it needs no lock that the others woken with him want too. */
	sem_t done;
	must(sem_init(&done, 0, 0) == 0);
	struct db_write w = {.tenant_id = tenant_id, .op = op, .arg = arg, .done = write_done, .done_arg = &done};
	db_write_begin(db, &w);
	while (sem_wait(&done) != 0)
		must(errno == EINTR);
	sem_destroy(&done);
	return w.err;
}

/* ---- open, close ---- */

static int writers_start(struct db *db)
{
	db->n_writers = db->inline_writes ? 1 : db->driver->max_writers;
	db->writers = calloc((size_t)db->n_writers, sizeof *db->writers);
	must(db->writers != NULL);
	for (int i = 0; i < db->n_writers; i++) {
		struct db_writer *w = &db->writers[i];
		w->db = db;
		w->tail = &w->head;
		pthread_mutex_init(&w->lock, NULL);
		db_cond_init(&w->wake);
	}
	for (int i = 0; i < db->n_writers && !db->inline_writes; i++) {
		int err = db_thread(&db->writers[i].thread, writer_main, &db->writers[i]);
		if (err)
			return err;
		db->writers[i].running = true;
	}
	return 0;
}

static void writers_stop(struct db *db)
{
	for (int i = 0; i < db->n_writers; i++) {
		struct db_writer *w = &db->writers[i];
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_cond_signal(&w->wake);
		pthread_mutex_unlock(&w->lock);
	}
	for (int i = 0; i < db->n_writers; i++) {
		struct db_writer *w = &db->writers[i];
		if (w->running)
			pthread_join(w->thread, NULL);
		conn_drop(w->conn);
		pthread_mutex_destroy(&w->lock);
		pthread_cond_destroy(&w->wake);
	}
	free(db->writers);
}

int db_open(const struct db_config *config, struct db **out, char **why)
{
	*out = NULL;
	if (why)
		*why = NULL;
	struct db *db = calloc(1, sizeof *db);
	must(db != NULL);
	bool sqlite = strncmp(config->url, "sqlite:", 7) == 0;
	db->driver = sqlite ? &db_driver_sqlite : &db_driver_postgres;
	db->url = strdup(config->url);
	must(db->url != NULL);
	db->clock = config->clock ? config->clock : &clock_system;
	db->inline_writes = config->inline_writes;
	db->read_only = config->read_only;
	db->failed = config->read_only;
	db->make_room = config->make_room;
	db->make_room_arg = config->make_room_arg;
	db->max_readers = config->readers > 0 ? config->readers : 4;
	db->idle = calloc((size_t)db->max_readers, sizeof *db->idle);
	must(db->idle != NULL);
	pthread_mutex_init(&db->pool_lock, NULL);
	pthread_mutex_init(&db->inline_lock, NULL);
	db_cond_init(&db->pool_wake);
	char reason[400] = "the writer could not be started";
	int err = db->driver->start(db, why);
	if (!err)
		err = writers_start(db);
	/* One connection now, so that a wrong URL or a damaged file is told at the start. It becomes the writer's. */
	if (!err)
		err = db->driver->connect(db, DB_WRITER, DB_CONNECT_US, &db->writers[0].conn, reason);
	if (!err) {
		*out = db;
		return 0;
	}
	db_why(why, "The database cannot be opened: %s", reason);
	db_close(db);
	return err;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	writers_stop(db);
	pthread_mutex_lock(&db->pool_lock);
	db->stopping = true;
	pthread_cond_broadcast(&db->pool_wake);
	/* Readers at work end first; nobody may start a new read by now. */
	while (db->n_open > db->n_idle)
		db_cond_wait(&db->pool_wake, &db->pool_lock, MILLIS_US(100));
	pthread_mutex_unlock(&db->pool_lock);
	for (int i = 0; i < db->n_idle; i++)
		conn_drop(db->idle[i]);
	if (db->engine)
		db->driver->stop(db);
	pthread_mutex_destroy(&db->pool_lock);
	pthread_mutex_destroy(&db->inline_lock);
	pthread_cond_destroy(&db->pool_wake);
	free(db->idle);
	free(db->url);
	free(db);
}

const char *db_engine(const struct db *db)
{
	return db->driver->name;
}

struct verify {
	const struct db_driver *driver;
	bool quick;
	db_complaint_fn *fn;
	void *arg;
};

/* What the quick look says of one table, the thorough one may know better (db_sqlite.c). */
static int verify_table(struct tx *tx, const struct verify *v, struct str complaint)
{
	struct str table = v->driver->verify_doubt(complaint);
	AUTO_ROWS *r = NULL;
	int err = table.n ? tx_query(tx, v->driver->verify_table, DB_ARGS(V_T(table)), &r) : 0;
	bool wrong = !table.n || (!err && rows_next(r) && !str_eq(rows_text(r, 0), STR("ok")));
	if (!err && wrong)
		v->fn(v->arg, complaint);
	return err || !r ? err : rows_close(&r);
}

static int verify_op(struct tx *tx, void *arg)
{
	const struct verify *v = arg;
	AUTO_ROWS *r = NULL;
	int err = tx_query(tx, v->driver->verify[v->quick], DB_NO_ARGS, &r);
	while (!err && rows_next(r)) {
		struct str complaint = rows_text(r, 0);
		if (str_eq(complaint, STR("ok")))
			continue;
		if (v->quick)
			err = verify_table(tx, v, complaint);
		else
			v->fn(v->arg, complaint);
	}
	return err ? err : rows_close(&r);
}

int db_verify(struct db *db, bool quick, db_complaint_fn *fn, void *arg)
{
	struct verify v = {db->driver, quick, fn, arg};
	return v.driver->verify[quick] ? db_read(db, verify_op, &v) : 0;
}

void db_counts(struct db *db, struct db_counts *out)
{
	*out = (struct db_counts){.groups = db->groups, .writes = db->writes, .reruns = db->reruns, .reads = db->reads};
}

void db_listen(struct db *db, db_notice_fn *fn, void *arg)
{
	must(!db->on_notice);
	db->notice_arg = arg;
	db->on_notice = fn;
	db->driver->listen(db);
}

void db_notify(struct db *db, int64_t tenant_id)
{
	db->driver->notify(db, tenant_id);
}
