#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/map.h"
#include "base/must.h"
#include "base/mutant.h"
#include "db/db_priv.h"
#include "db/db_sqlite_log.h"

/* Checkpoints: the writer leaves them to a thread of its own, so that nobody waits for one. */
#define CHECKPOINT_PAGES  4000  /* 16 MB: a PASSIVE one is worth it when nobody writes; pages that change often are copied once */
#define BUSY_PAGES        8192  /* 32 MB: also beside those who write, though its syncs and theirs wait for one disk */
#define RESTART_PAGES     12288 /* 48 MB: also stop the writer for a moment, to start the log over */
/* The log keeps its length, up to this, when it starts over: a commit that overwrites syncs data alone, one that appends also
 * the file system's journal. */
#define LOG_KEPT_BYTES    67108864
#define CHECKPOINT_US     SECONDS_US(1)
#define IDLE_ROUNDS       5     /* rounds without a commit before the log starts over */
/* No mmap: a read fault of a mapped page is a SIGBUS, one of pread is an error to answer. */
#define READER_CACHE_KIB  2048
#define WIDE_ROWS         16    /* more gain little */
#define WRITER_CACHE_KIB  16384 /* a large transaction, and the leaves that random keys fall into; given back when idle */

struct engine {
	char *path, *vfs;
	pthread_t thread;
	bool running, stop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_int wal_pages;
	atomic_uint commits;
	atomic_bool rewritten; /* the log of the process before */
};

struct stmt {
	sqlite3_stmt *s;
	sqlite3_stmt *wide; /* an insert of WIDE_ROWS rows at once; NULL: not made, or sql is no insert of a row */
	const char *sql;
	char *text; /* of sql when it was prepared: a buffer used again must not find the old statement */
	bool cached, busy;
};

struct sconn {
	struct conn base;
	sqlite3 *db;
	struct map stmts;
	bool held; /* no page goes to the log before the commit */
};

struct srows {
	struct rows base;
	struct stmt *stmt;
	bool row, done;
};

static struct sconn *sc(struct conn *c)
{
	return (struct sconn *)c;
}

/* ---- faults ---- */

static int err_of(struct sconn *c, int rc)
{
	switch (rc) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
	case SQLITE_CONSTRAINT_ROWID:
	case SQLITE_CONSTRAINT_FOREIGNKEY:
		return E_CONFLICT;
	case SQLITE_IOERR_SHMSIZE: /* the log's index could not grow */
		c->base.full = true;
		return E_NO_SPACE;
	case SQLITE_IOERR_FSYNC:
	case SQLITE_IOERR_DIR_FSYNC:
		/* The kernel may have dropped the pages it could not write: nothing since can be vouched for. */
		if (!atomic_exchange(&c->base.db->failed, true))
			log_error("database: a sync failed; no more writes until the server is started again");
		return E_DB;
	}
	switch (rc & 0xff) {
	case SQLITE_FULL:
		c->base.full = true;
		return E_NO_SPACE;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return E_BUSY;
	}
	return E_DB;
}

static int sq_fault(struct sconn *c, int rc, const char *sql)
{
	const char *msg = c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
	snprintf(c->base.why, sizeof c->base.why, "%s", msg);
	int err = err_of(c, rc);
	if (err != E_CONFLICT)
		log_error("database", LOG_C("why", msg), LOG_I("code", rc), LOG_C("sql", sql));
	c->base.in_tx = c->db && !sqlite3_get_autocommit(c->db);
	return err;
}

/* ---- statements ---- */

/* "$n" as "?n", n shifted: SQLite numbers "$2, $1" in the order of appearance. Quotes and comments stay. */
static void sq_params(struct buf *b, const char *sql, size_t shift)
{
	char quote = 0;
	for (const char *p = sql; *p; p++) {
		if (quote) {
			buf_char(b, *p);
			if (*p == quote)
				quote = 0;
		} else if (p[0] == '-' && p[1] == '-') {
			quote = '\n';
			buf_char(b, *p);
		} else if (p[0] == '$' && p[1] >= '0' && p[1] <= '9') {
			size_t n = 0;
			while (p[1] >= '0' && p[1] <= '9')
				n = n * 10 + (size_t)(*++p - '0');
			buf_char(b, '?');
			buf_i64(b, (int64_t)(n + shift));
		} else {
			if (*p == '\'' || *p == '"')
				quote = *p;
			buf_char(b, *p);
		}
	}
}

static void stmt_free(struct stmt *s)
{
	sqlite3_finalize(s->s);
	sqlite3_finalize(s->wide);
	free(s->text);
	free(s);
}

static void stmts_flush(struct sconn *c)
{
	struct map kept = {0};
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&c->stmts, &i, &key, &value);) {
		struct stmt *s = value;
		if (s->busy)
			map_put(&kept, key, s);
		else
			stmt_free(s);
	}
	map_fini(&c->stmts);
	c->stmts = kept;
}

static int stmt_get(struct sconn *c, const char *sql, struct stmt **out)
{
	uint64_t key = (uint64_t)(uintptr_t)sql;
	struct stmt *s = map_get(&c->stmts, key);
	bool same = s && strcmp(s->text, sql) == 0;
	*out = s;
	if (same && !s->busy) {
		s->busy = true;
		return 0;
	}
	if (s && !same && !s->busy) {
		map_del(&c->stmts, key);
		stmt_free(s);
		s = NULL;
	}
	if (c->stmts.count >= DB_STATEMENTS_MAX)
		stmts_flush(c);
	struct buf text = {0};
	sqlite3_stmt *handle;
	sq_params(&text, sql, 0);
	buf_char(&text, 0);
	int rc = sqlite3_prepare_v3(c->db, text.p, (int)text.n, s ? 0 : SQLITE_PREPARE_PERSISTENT, &handle, NULL);
	buf_fini(&text);
	if (rc)
		return sq_fault(c, rc, sql);
	struct stmt *fresh = calloc(1, sizeof *fresh);
	must(fresh != NULL);
	*fresh = (struct stmt){.s = handle, .sql = sql, .text = strdup(sql), .busy = true, .cached = !s};
	must(fresh->text != NULL);
	if (!s)
		map_put(&c->stmts, key, fresh);
	*out = fresh;
	return 0;
}

static void stmt_put(struct stmt *s)
{
	sqlite3_reset(s->s);
	sqlite3_clear_bindings(s->s);
	s->busy = false;
	if (!s->cached)
		stmt_free(s);
}

static int stmt_bind(struct sconn *c, sqlite3_stmt *s, const char *sql, const struct dbv *args, size_t n, bool copy)
{
	sqlite3_destructor_type life = copy ? SQLITE_TRANSIENT : SQLITE_STATIC;
	must(n == (size_t)sqlite3_bind_parameter_count(s));
	for (size_t i = 0; i < n; i++) {
		const struct dbv *v = &args[i];
		int col = (int)i + 1, rc = 0;
		switch (v->type) {
		case DBV_NULL:
			rc = sqlite3_bind_null(s, col);
			break;
		case DBV_I64:
			rc = sqlite3_bind_int64(s, col, v->i);
			break;
		case DBV_TEXT:
			rc = sqlite3_bind_text64(s, col, v->s.p, v->s.n, life, SQLITE_UTF8);
			break;
		case DBV_BLOB:
			rc = sqlite3_bind_blob64(s, col, v->s.p, v->s.n, life);
			break;
		}
		if (rc)
			return sq_fault(c, rc, sql);
	}
	return 0;
}

static int stmt_take(struct tx *tx, const char *sql, struct stmt **out)
{
	int err = stmt_get(sc(tx->conn), sql, out);
	if (err || tx->write || sqlite3_stmt_readonly((*out)->s))
		return err;
	log_error("database: a write in a read", LOG_C("sql", sql));
	stmt_put(*out);
	return E_DB;
}

static int sq_begin_stmt(struct tx *tx, const char *sql, const struct dbv *args, size_t n, bool copy, struct stmt **out)
{
	int err = stmt_take(tx, sql, out);
	if (err)
		return err;
	err = stmt_bind(sc(tx->conn), (*out)->s, sql, args, n, copy);
	if (err)
		stmt_put(*out);
	return err;
}

static int sq_exec(struct tx *tx, const char *sql, const struct dbv *args, size_t n, int64_t *changed)
{
	struct sconn *c = sc(tx->conn);
	struct stmt *s;
	int rc, err = sq_begin_stmt(tx, sql, args, n, false, &s);
	if (err)
		return err;
	int64_t before = sqlite3_total_changes64(c->db);
	while ((rc = sqlite3_step(s->s)) == SQLITE_ROW)
		;
	if (rc != SQLITE_DONE)
		err = sq_fault(c, rc, sql);
	else if (changed && sqlite3_total_changes64(c->db) != before)
		*changed = sqlite3_changes64(c->db);
	stmt_put(s);
	return err;
}

static int sq_query(struct tx *tx, const char *sql, const struct dbv *args, size_t n, struct rows **out)
{
	struct stmt *s;
	int err = sq_begin_stmt(tx, sql, args, n, true, &s);
	if (err)
		return err;
	struct srows *r = calloc(1, sizeof *r);
	must(r != NULL);
	*r = (struct srows){.base.tx = tx, .stmt = s};
	*out = &r->base;
	return 0;
}

static bool sq_next(struct rows *base)
{
	struct srows *r = (struct srows *)base;
	if (r->done)
		return false;
	int rc = sqlite3_step(r->stmt->s);
	r->row = rc == SQLITE_ROW;
	r->done = !r->row;
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		base->err = sq_fault(sc(base->tx->conn), rc, r->stmt->sql);
	return r->row;
}

static int64_t sq_i64(struct rows *base, int col)
{
	return sqlite3_column_int64(((struct srows *)base)->stmt->s, col);
}

static struct str sq_bytes(struct rows *base, int col, bool text)
{
	sqlite3_stmt *s = ((struct srows *)base)->stmt->s;
	const void *p = text ? (const void *)sqlite3_column_text(s, col) : sqlite3_column_blob(s, col);
	if (p)
		return str_n(p, (size_t)sqlite3_column_bytes(s, col));
	/* A blob of no bytes reads as a NULL pointer too. */
	return sqlite3_column_type(s, col) == SQLITE_NULL ? STR_NULL : STR("");
}

static bool sq_is_null(struct rows *base, int col)
{
	return sqlite3_column_type(((struct srows *)base)->stmt->s, col) == SQLITE_NULL;
}

/* "insert ... returning" counts when it ran to its end, deferred checks included. */
static int run_out(struct srows *r)
{
	if (!sqlite3_stmt_readonly(r->stmt->s))
		while (sq_next(&r->base))
			;
	return r->base.err;
}

static int sq_close(struct rows *base)
{
	struct srows *r = (struct srows *)base;
	int err = run_out(r);
	stmt_put(r->stmt);
	free(r);
	return err;
}

/* ---- many rows by one statement ---- */

/* The row's values in "insert into t (...) values (...)", which may say behind them what to do about conflicts, of all rows alike;
 * STR_NULL: it is another statement. */
static struct str row_values(const char *sql)
{
	const char *values = strncmp(sql, "insert into ", 12) == 0 ? strstr(sql, " values (") : NULL;
	if (!values || strstr(values, " returning"))
		return STR_NULL;
	values += strlen(" values ");
	const char *rest = strstr(values, " on conflict");
	if (rest && strchr(rest, '$'))
		return STR_NULL;
	return str_n(values, rest ? (size_t)(rest - values) : strlen(values));
}

/* "or fail": what comes to the same here, since a failed statement fails its op, and spares SQLite a savepoint of its own for each
 * statement. */
static int wide_prepare(struct sconn *c, struct stmt *s, size_t n_args)
{
	struct str values = row_values(s->text);
	struct buf text = {0}, row = {0};
	buf_str(&row, values);
	buf_char(&row, 0);
	buf_lit(&text, "insert or fail");
	buf_put(&text, s->text + strlen("insert"), (size_t)(values.p - s->text) - strlen("insert"));
	for (size_t i = 0; i < WIDE_ROWS; i++) {
		if (i)
			buf_char(&text, ',');
		sq_params(&text, row.p, i * n_args);
	}
	buf_fini(&row);
	buf_str(&text, str_c(values.p + values.n));
	buf_char(&text, 0);
	int rc = sqlite3_prepare_v3(c->db, text.p, (int)text.n, SQLITE_PREPARE_PERSISTENT, &s->wide, NULL);
	buf_fini(&text);
	return rc ? sq_fault(c, rc, s->sql) : 0;
}

/* Inserts rows as long as there are WIDE_ROWS left; *done says how many. A row costs two thirds of what it costs alone: cursors are
 * opened once, and stand where the next row goes. */
static int wide_run(struct tx *tx, struct stmt *s, const struct dbv *args, size_t n_args, size_t n, size_t *done)
{
	struct sconn *c = sc(tx->conn);
	int err = 0;
	*done = 0;
	if (n < WIDE_ROWS || !s->cached || !row_values(s->text).p)
		return 0;
	if (!s->wide)
		err = wide_prepare(c, s, n_args);
	for (; !err && n - *done >= WIDE_ROWS; *done += WIDE_ROWS) {
		err = stmt_bind(c, s->wide, s->sql, args + *done * n_args, WIDE_ROWS * n_args, false);
		int rc = err ? SQLITE_DONE : sqlite3_step(s->wide);
		if (rc != SQLITE_DONE)
			err = sq_fault(c, rc, s->sql);
		sqlite3_reset(s->wide);
	}
	if (s->wide)
		sqlite3_clear_bindings(s->wide);
	return err;
}

static int sq_many(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, db_row_fn *row,
		   void *arg, int64_t *changed)
{
	struct srows r = {.base.tx = tx};
	sqlite3 *handle = sc(tx->conn)->db;
	int failed = stmt_take(tx, sql, &r.stmt), err = 0;
	if (failed)
		return tx->err = failed;
	size_t i = 0;
	if (!row && !changed)
		failed = wide_run(tx, r.stmt, args, n_args, n, &i);
	for (; !failed && !err && i < n; i++) {
		int64_t before = sqlite3_total_changes64(handle);
		r.done = false;
		failed = stmt_bind(sc(tx->conn), r.stmt->s, sql, args ? args + i * n_args : NULL, n_args, false);
		while (!failed && !err && sq_next(&r.base))
			err = row ? row(arg, i, &r.base) : 0;
		if (!failed)
			failed = run_out(&r);
		if (!failed && changed)
			changed[i] = sqlite3_total_changes64(handle) - before;
		sqlite3_reset(r.stmt->s);
	}
	stmt_put(r.stmt);
	if (failed)
		tx->err = failed;
	return err ? err : failed;
}

static int sq_plain(struct sconn *c, const char *sql)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
	return rc ? sq_fault(c, rc, sql) : 0;
}

static int sq_script(struct tx *tx, const char *sql)
{
	return sq_plain(sc(tx->conn), sql);
}

/* ---- transactions ---- */

static int sq_word(struct conn *base, const char *sql)
{
	struct sconn *c = sc(base);
	struct stmt *s;
	int err = stmt_get(c, sql, &s);
	if (err)
		return err;
	int rc = sqlite3_step(s->s);
	if (rc != SQLITE_DONE)
		err = sq_fault(c, rc, sql);
	stmt_put(s);
	return err;
}

static int sq_begin_read(struct conn *c)
{
	int err = sq_word(c, "begin");
	c->in_tx = !err;
	return err;
}

/* Pages that a full cache puts into the log before the commit, behind a savepoint that is then undone, leave SQLite (3.40) with wrong
 * checksums: whoever reads the log after a crash stops there, and commits that were synced are lost. So from a transaction's first
 * savepoint on its pages wait in memory. */
static int hold_pages(struct sconn *c, bool hold)
{
	if (c->held == hold)
		return 0;
	int err = sq_plain(c, hold ? "pragma cache_spill = 1000000000" : "pragma cache_spill = 1");
	c->held = err ? c->held : hold;
	return err;
}

static int sq_begin_write(struct conn *c, int64_t tenant_id)
{
	(void)tenant_id; /* the file has one writer */
	int err = hold_pages(sc(c), false);
	if (!err)
		err = sq_word(c, "begin immediate");
	c->in_tx = !err;
	return err;
}

static void sq_rollback(struct conn *c)
{
	if (!sqlite3_get_autocommit(sc(c)->db) && sq_word(c, "rollback"))
		c->dead = true;
	c->in_tx = false;
}

static int sq_commit(struct conn *c)
{
	int err = sq_word(c, "commit");
	if (err)
		sq_rollback(c);
	if (mutant(M_DB_COMMIT_ASSUMED))
		err = 0;
	c->in_tx = false;
	if (!err && c->db->failed)
		return E_READ_ONLY; /* a checkpoint's sync failed meanwhile */
	return err;
}

static int sq_savepoint(struct conn *c)
{
	int err = hold_pages(sc(c), true);
	return err ? err : sq_word(c, "savepoint s");
}

static int sq_release(struct conn *c)
{
	return sq_word(c, "release s");
}

static int sq_undo(struct conn *c)
{
	int err = sq_word(c, "rollback to s");
	return err ? err : sq_word(c, "release s");
}

/* ---- connections ---- */

static int on_wal(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct engine *e = arg;
	(void)handle, (void)name;
	atomic_store(&e->wal_pages, pages);
	atomic_fetch_add(&e->commits, 1);
	if (pages > BUSY_PAGES)
		pthread_cond_signal(&e->wake);
	return SQLITE_OK;
}

static void sq_disconnect(struct conn *base)
{
	struct sconn *c = sc(base);
	stmts_flush(c);
	map_fini(&c->stmts);
	must(sqlite3_close(c->db) == SQLITE_OK);
	arena_fini(&base->arena);
	free(c);
}

static int sq_setup(struct sconn *c, bool query_only)
{
	char sql[300];
	sqlite3_busy_timeout(c->db, DB_BUSY_MS);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	snprintf(sql, sizeof sql,
		 "pragma journal_mode = wal; pragma synchronous = %s; pragma foreign_keys = on;"
		 "pragma trusted_schema = off; pragma temp_store = memory; pragma mmap_size = 0;"
		 "pragma journal_size_limit = %d; pragma cache_size = -%d; pragma query_only = %d;",
		 mutant(M_DB_NO_SYNC) ? "off" : "full", LOG_KEPT_BYTES, c->base.role == DB_WRITER ? WRITER_CACHE_KIB : READER_CACHE_KIB, query_only);
	return sq_plain(c, sql);
}

/* Of SQLite's log (sqlite.org/fileformat2.html, section 4). */
enum { LOG_HEAD = 32, LOG_PAGE_SIZE = 8, LOG_SALTS = 16, FRAME_HEAD = 24, FRAME_SALTS = 8, SALTS = 8, PAGE_SIZE_MAX = 65536, BLOCK_FRAMES = 8 };

static uint32_t big_endian(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* The frames as far as they bear the head's salts: behind them lies what the log held before it started over. */
static int rewrite_frames(sqlite3_file *f, const char *head, sqlite3_int64 end)
{
	sqlite3_int64 frame = FRAME_HEAD + big_endian(head + LOG_PAGE_SIZE);
	AUTO_FREE char *block = malloc((size_t)frame * BLOCK_FRAMES);
	must(block != NULL);
	int rc = SQLITE_OK, n = BLOCK_FRAMES, live = n;
	for (sqlite3_int64 at = LOG_HEAD; rc == SQLITE_OK && live == BLOCK_FRAMES; at += frame * n) {
		n = end - at < frame * BLOCK_FRAMES ? (int)((end - at) / frame) : BLOCK_FRAMES;
		rc = f->pMethods->xRead(f, block, n * (int)frame, at);
		for (live = 0; live < n && memcmp(block + live * frame + FRAME_SALTS, head + LOG_SALTS, SALTS) == 0;)
			live++;
		if (rc == SQLITE_OK && live)
			rc = f->pMethods->xWrite(f, block, live * (int)frame, at);
	}
	return rc;
}

/* With a sync of its own: a checkpoint that finds nothing to copy makes none, and what waits in this connection
 * (db_sqlite_log.h) would be written over what others commit later. */
static int rewrite_file(sqlite3_file *f)
{
	char head[LOG_HEAD];
	sqlite3_int64 end = 0;
	int rc = f->pMethods->xFileSize(f, &end);
	if (rc != SQLITE_OK || end < LOG_HEAD)
		return rc;
	rc = f->pMethods->xRead(f, head, LOG_HEAD, 0);
	if (rc == SQLITE_OK)
		rc = f->pMethods->xWrite(f, head, LOG_HEAD, 0);
	if (rc == SQLITE_OK && big_endian(head + LOG_PAGE_SIZE) <= PAGE_SIZE_MAX) /* or it was torn, and nothing counts */
		rc = rewrite_frames(f, head, end);
	return rc == SQLITE_OK ? f->pMethods->xSync(f, SQLITE_SYNC_NORMAL) : rc;
}

/* The process before may have ended since a sync failed. The kernel takes such pages for clean: it shows them, and no sync will
 * ever write them (Rebello and others, "Can Applications Recover from fsync Failures?", 2020). So the log is written once more. */
static int rewrite_log(struct sconn *c)
{
	sqlite3_file *log = NULL;
	int err = sq_plain(c, "begin immediate"); /* nobody else adds to it */
	if (err)
		return err;
	int rc = sqlite3_file_control(c->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
	if (rc == SQLITE_OK && log && log->pMethods)
		rc = rewrite_file(log);
	err = rc ? sq_fault(c, rc, "rewrite the log") : 0;
	struct engine *e = c->base.db->engine;
	atomic_store(&e->rewritten, !err);
	int end = sq_plain(c, "rollback");
	return err ? err : end;
}

/* Commits that a process wrote and did not live to sync are valid to whoever opens the log next: they are made durable before
 * anybody is told of them. A checkpoint begins with that sync. */
static int sync_log(struct sconn *c)
{
	const struct engine *e = c->base.db->engine;
	int failed = atomic_load(&e->rewritten) || mutant(M_DB_LOG_UNWRITTEN) ? 0 : rewrite_log(c);
	if (failed && failed != E_NO_SPACE && failed != E_BUSY)
		return failed;
	int log, done, rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &done);
	int err = rc ? sq_fault(c, rc, "checkpoint") : 0;
	bool synced = err == E_NO_SPACE || err == E_BUSY; /* only the copying failed */
	c->base.full = false;
	return synced ? 0 : err;
}

static int sq_connect(struct db *db, enum db_role role, int64_t timeout_us, struct conn **out, char why[400])
{
	struct engine *e = db->engine;
	(void)timeout_us;
	*out = NULL;
	struct sconn *c = calloc(1, sizeof *c);
	must(c != NULL);
	c->base = (struct conn){.db = db, .role = role};
	arena_init(&c->base.arena);
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	flags |= db->read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	int rc = sqlite3_open_v2(e->path, &c->db, flags, e->vfs ? e->vfs : DB_SQLITE_LOG_VFS);
	int err = rc ? sq_fault(c, rc, "open") : sq_setup(c, role == DB_READER || db->read_only);
	if (!err && role == DB_WRITER && !db->read_only && !mutant(M_DB_LOG_UNSYNCED))
		err = sync_log(c);
	if (err) {
		snprintf(why, 400, "%.200s: %.190s", e->path, c->base.why);
		sq_disconnect(&c->base);
		return err;
	}
	if (role == DB_WRITER && e->running)
		sqlite3_wal_hook(c->db, on_wal, e);
	*out = &c->base;
	return 0;
}

static bool sq_alive(struct conn *c)
{
	return !c->dead;
}

static int sq_ping(struct conn *c, int64_t timeout_us)
{
	sqlite3_busy_timeout(sc(c)->db, (int)(timeout_us / 1000));
	int err = sq_plain(sc(c), "select 1 from sqlite_master limit 1");
	sqlite3_busy_timeout(sc(c)->db, DB_BUSY_MS);
	return err;
}

static void sq_trim(struct conn *c)
{
	sqlite3_db_release_memory(sc(c)->db);
}

/* ---- the engine ---- */

static void checkpoint(struct engine *e, struct sconn *c, bool restart)
{
	int log = 0, done = 0;
	/* PASSIVE first: it copies while others write, so that RESTART, which stops them, is short. */
	int rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &done);
	if (rc == SQLITE_OK && restart)
		rc = sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_RESTART, &log, &done);
	if (rc == SQLITE_OK && restart)
		atomic_store(&e->wal_pages, 0);
	if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
		sq_fault(c, rc, "checkpoint");
}

static void *checkpoint_main(void *arg)
{
	struct db *db = arg;
	struct engine *e = db->engine;
	struct conn *c = NULL;
	unsigned seen = 0, last = 0, idle = 0; /* commits at the last checkpoint, at the last round */
	pthread_setname_np(pthread_self(), "db-checkpoint");
	pthread_mutex_lock(&e->lock);
	while (!e->stop) {
		db_cond_wait(&e->wake, &e->lock, CHECKPOINT_US);
		unsigned commits = atomic_load(&e->commits);
		int pages = atomic_load(&e->wal_pages);
		idle = commits == last ? idle + 1 : 0;
		last = commits;
		bool quiet = pages > 0 && idle >= IDLE_ROUNDS;
		bool worth = pages > (idle ? CHECKPOINT_PAGES : BUSY_PAGES) && commits != seen;
		if (e->stop || db->failed || !(quiet || worth))
			continue;
		seen = commits;
		pthread_mutex_unlock(&e->lock);
		char why[400];
		if (c || sq_connect(db, DB_WRITER, 0, &c, why) == 0) {
			sqlite3_busy_timeout(sc(c)->db, 100);
			checkpoint(e, sc(c), quiet || pages > RESTART_PAGES);
		}
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	if (c)
		sq_disconnect(c);
	return NULL;
}

/* Makes the file with the right mode and its directory entry durable, which SQLite leaves to its first journal. */
static int file_create(const char *path, char **why)
{
	AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	AUTO_FREE char *copy = strdup(path);
	must(copy != NULL);
	AUTO_FD int dir = fd < 0 ? -1 : open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && dir >= 0 && fsync(dir) == 0)
		return 0;
	db_why(why, "The database file %s cannot be opened: %s.", path, strerror(errno));
	return E_DB;
}

static void configure(void)
{
	/* They cost a lock, shared by all threads, with every allocation. Refused, and no harm, once SQLite is in use. */
	static struct db_sqlite_log joined;
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	db_sqlite_log_register(&joined, DB_SQLITE_LOG_VFS, NULL);
}

static int sq_start(struct db *db, char **why)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, configure);
	struct engine *e = calloc(1, sizeof *e);
	must(e != NULL);
	db->engine = e;
	pthread_mutex_init(&e->lock, NULL);
	db_cond_init(&e->wake);
	e->path = strdup(db->url + strlen("sqlite:"));
	must(e->path != NULL);
	char *vfs = strstr(e->path, "?vfs=");
	if (vfs) {
		*vfs = 0;
		e->vfs = vfs + strlen("?vfs=");
	}
	int err = e->vfs || db->read_only ? 0 : file_create(e->path, why);
	if (err || db->inline_writes)
		return err;
	err = db_thread(&e->thread, checkpoint_main, db);
	e->running = !err;
	return err;
}

static void sq_stop(struct db *db)
{
	struct engine *e = db->engine;
	if (e->running) {
		pthread_mutex_lock(&e->lock);
		e->stop = true;
		pthread_cond_signal(&e->wake);
		pthread_mutex_unlock(&e->lock);
		pthread_join(e->thread, NULL);
	}
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->wake);
	free(e->path);
	free(e);
	db->engine = NULL;
}

static void sq_listen(struct db *db)
{
	(void)db;
}

static void sq_notify(struct db *db, int64_t tenant_id)
{
	if (db->on_notice)
		db->on_notice(db->notice_arg, tenant_id);
}

/* quick_check of SQLite 3.40 looks for nulls in the wrong columns of a table without rowids whose primary key is not its columns in their
 * order, and reports "NULL value in TABLE.COLUMN" where there is none; integrity_check does not. */
static struct str sq_verify_doubt(struct str complaint)
{
	const struct str null_in = STR("NULL value in ");
	if (!str_starts(complaint, null_in))
		return STR("");
	struct str rest = str_n(complaint.p + null_in.n, complaint.n - null_in.n);
	return str_cut(&rest, '.');
}

const struct db_driver db_driver_sqlite = {
    .name = "sqlite",
    .max_writers = 1,
    .start = sq_start,
    .stop = sq_stop,
    .connect = sq_connect,
    .disconnect = sq_disconnect,
    .alive = sq_alive,
    .ping = sq_ping,
    .trim = sq_trim,
    .verify = {"pragma integrity_check(1000)", "pragma quick_check(1000)"},
    .verify_doubt = sq_verify_doubt,
    .verify_table = "select * from pragma_integrity_check($1)",
    .begin_read = sq_begin_read,
    .begin_write = sq_begin_write,
    .commit = sq_commit,
    .rollback = sq_rollback,
    .savepoint = sq_savepoint,
    .release = sq_release,
    .undo = sq_undo,
    .exec = sq_exec,
    .query = sq_query,
    .many = sq_many,
    .script = sq_script,
    .next = sq_next,
    .i64 = sq_i64,
    .bytes = sq_bytes,
    .is_null = sq_is_null,
    .close = sq_close,
    .listen = sq_listen,
    .notify = sq_notify,
};
