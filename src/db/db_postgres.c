#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/map.h"
#include "base/must.h"
#include "db/db_pg.h"

/* Parameters and results travel in binary, so that integers and bytes are exact and text keeps its length.
 *
 * Why READ COMMITTED is enough for writes: the first statement of a group updates the tenant's row and so waits for
 * every earlier group of that tenant, on any node, to end. Each later statement takes a fresh snapshot and sees all of
 * what those committed, and no other group of the tenant can write before ours ends. So a check an op makes holds
 * until it commits. Under REPEATABLE READ the wait would end in 40001 instead of going on. */

#define OID_INT8 20
#define OID_BYTEA 17
#define OID_TEXT 25
#define ADVISORY_CLASS 0x5ca1 /* the first key of our advisory locks: tenant rows that do not exist yet */
#define PARAMS_MAX 64
#define WORDS_MAX 16
#define MANY_BATCH 128        /* statements in one pipeline; bounds the answers held in memory */

struct pstmt {
	char *text;
	Oid *types;
	size_t n;
	char name[24];
};

struct pconn {
	struct conn base;
	PGconn *pg;
	struct map stmts;
	uint64_t names;
	/* Words (begin, savepoint, release) that go out with the next statement, to save their round trips. */
	const char *words[WORDS_MAX];
	size_t n_words;
	bool end_waits; /* the answer to the last read's end was not fetched yet */
};

struct prows {
	struct rows base;
	PGresult *res;
	int at;
};

static struct pconn *pc(struct conn *c)
{
	return (struct pconn *)c;
}

/* ---- faults ---- */

static int pg_fault(struct pconn *c, const PGresult *res, const char *sql)
{
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *msg = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	struct str why = str_trim(str_c(msg ? msg : PQerrorMessage(c->pg)));
	snprintf(c->base.why, sizeof c->base.why, "%.*s", STR_ARG(why));
	state = state ? state : "";
	if (PQstatus(c->pg) == CONNECTION_BAD || strncmp(state, "57P", 3) == 0)
		c->base.dead = c->base.rerun = true;
	if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0) {
		c->base.rerun = true;
		return E_BUSY;
	}
	if (strcmp(state, "23505") == 0 || strcmp(state, "23503") == 0)
		return E_CONFLICT;
	log_error("database", LOG_S("why", why), LOG_C("state", state), LOG_C("sql", sql));
	if (strcmp(state, "55P03") == 0)
		return E_BUSY;
	return strcmp(state, "53100") == 0 ? E_NO_SPACE : E_DB;
}

static bool res_good(const PGresult *res)
{
	ExecStatusType st = PQresultStatus(res);
	return st == PGRES_TUPLES_OK || st == PGRES_COMMAND_OK;
}

/* Several statements without parameters in one round trip. *tuples (may be NULL) gets what the last one touched.
 * absent (may be NULL): a missing table or column is told there instead of being logged. */
static int pg_plain(struct pconn *c, const char *sql, int64_t *tuples, bool *absent)
{
	PGresult *res = PQexec(c->pg, sql);
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	int err = 0;
	if (absent && state && (strcmp(state, "42P01") == 0 || strcmp(state, "42703") == 0)) {
		*absent = true;
		err = E_DB;
	} else if (!res_good(res)) {
		err = pg_fault(c, res, sql);
	} else if (tuples) {
		*tuples = strtoll(PQcmdTuples(res), NULL, 10);
	}
	PQclear(res);
	return err;
}

/* ---- statements ---- */

static Oid type_of(const struct dbv *v)
{
	switch (v->type) {
	case DBV_I64:
		return OID_INT8;
	case DBV_TEXT:
		return OID_TEXT;
	case DBV_BLOB:
		return OID_BYTEA;
	case DBV_NULL:
		break;
	}
	return 0; /* taken from where it stands */
}

static void pstmt_free(struct pstmt *s)
{
	free(s->text);
	free(s->types);
	free(s);
}

static void stmts_forget(struct pconn *c)
{
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&c->stmts, &i, &key, &value);)
		pstmt_free(value);
	map_fini(&c->stmts);
}

/* A statement is known by its address and the types of its arguments: a NULL has none of its own. */
static uint64_t stmt_key(const char *sql, const struct dbv *args, size_t n)
{
	uint64_t h = (uint64_t)(uintptr_t)sql;
	for (size_t i = 0; i < n; i++)
		h = h * 31 + (uint64_t)args[i].type + 1;
	return h;
}

static bool stmt_is(const struct pstmt *s, const char *sql, const struct dbv *args, size_t n)
{
	if (!s || s->n != n || strcmp(s->text, sql) != 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (s->types[i] != type_of(&args[i]))
			return false;
	return true;
}

static struct pstmt *stmt_new(struct pconn *c, const char *sql, const struct dbv *args, size_t n)
{
	struct pstmt *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->text = strdup(sql);
	s->types = calloc(n + 1, sizeof *s->types);
	must(s->text && s->types);
	s->n = n;
	for (size_t i = 0; i < n; i++)
		s->types[i] = type_of(&args[i]);
	snprintf(s->name, sizeof s->name, "s%llu", (unsigned long long)++c->names);
	return s;
}

/* A NULL argument takes its type from where it stands, and "$2 is null" gives it none. As this statement is only used
 * while the argument is NULL, that test can be answered here. types gets text for what then stands nowhere. */
static void answer_nulls(struct buf *out, const char *sql, Oid *types, size_t n)
{
	bool quoted = false, used[PARAMS_MAX] = {false};
	must(n <= PARAMS_MAX);
	for (const char *p = sql; *p;) {
		quoted ^= *p == '\'';
		char *end = NULL;
		unsigned long at = !quoted && *p == '$' ? strtoul(p + 1, &end, 10) : 0;
		if (at < 1 || at > n) {
			buf_char(out, *p++);
			continue;
		}
		struct str rest = str_c(end);
		bool null = types[at - 1] == 0 && str_starts(rest, STR(" is null"));
		bool not_null = types[at - 1] == 0 && str_starts(rest, STR(" is not null"));
		if (null || not_null) {
			buf_str(out, null ? STR("true") : STR("false"));
			end += null ? STR(" is null").n : STR(" is not null").n;
		} else {
			used[at - 1] = true;
			buf_put(out, p, (size_t)(end - p));
		}
		p = end;
	}
	buf_char(out, 0);
	for (size_t i = 0; i < n; i++)
		if (!used[i] && !types[i])
			types[i] = OID_TEXT;
}

static bool send_prepare(struct pconn *c, const struct pstmt *s)
{
	struct arena *a = &c->base.arena;
	Oid *types = arena_many(a, s->n + 1, Oid);
	for (size_t i = 0; i < s->n; i++)
		types[i] = s->types[i];
	struct buf text = {0};
	answer_nulls(&text, s->text, types, s->n);
	bool sent = PQsendPrepare(c->pg, s->name, text.p, (int)s->n, types);
	buf_fini(&text);
	return sent;
}

static bool send_run(struct pconn *c, const struct pstmt *s, const struct dbv *args, size_t n)
{
	struct arena *a = &c->base.arena;
	const char **values = arena_many(a, n + 1, const char *);
	int *lengths = arena_many(a, n + 1, int), *formats = arena_many(a, n + 1, int);
	uint64_t *ints = arena_many(a, n + 1, uint64_t);
	for (size_t i = 0; i < n; i++) {
		const struct dbv *v = &args[i];
		formats[i] = 1;
		if (v->type == DBV_I64) {
			ints[i] = htobe64((uint64_t)v->i);
			values[i] = (const char *)&ints[i];
			lengths[i] = 8;
		} else if (v->type != DBV_NULL) {
			must(v->s.n < 1u << 30); /* PostgreSQL's own bound for a value */
			values[i] = v->s.p;
			lengths[i] = (int)v->s.n;
		}
	}
	return PQsendQueryPrepared(c->pg, s->name, (int)n, values, lengths, formats, 1);
}

/* The next statement's answer in a pipeline. Each is followed by a NULL, the sync point is not. */
static PGresult *pipe_result(struct pconn *c)
{
	PGresult *res = PQgetResult(c->pg);
	if (res && PQresultStatus(res) != PGRES_PIPELINE_SYNC) {
		PGresult *end = PQgetResult(c->pg);
		must(!end);
	}
	return res;
}

typedef int pg_got_fn(void *arg, size_t call, PGresult *res); /* owns res */

struct batch {
	const char *sql;
	const struct dbv *args;
	size_t n_args, first, n;
	pg_got_fn *got;
	void *arg;
	int err;     /* of the engine */
	int got_err; /* of got */
};

/* One answer of the pipeline; false when the statement failed or was skipped behind one that did. */
static bool batch_answer(struct pconn *c, struct batch *b, PGresult *res)
{
	if (res_good(res))
		return true;
	if (!b->err)
		b->err = pg_fault(c, PQresultStatus(res) == PGRES_PIPELINE_ABORTED ? NULL : res, b->sql);
	return false;
}

static void batch_read(struct pconn *c, struct batch *b, struct pstmt *fresh, bool *prepared)
{
	PGresult *res;
	for (size_t i = 0; i < c->n_words; i++) {
		res = pipe_result(c);
		batch_answer(c, b, res);
		PQclear(res);
	}
	if (fresh) {
		res = pipe_result(c);
		*prepared = batch_answer(c, b, res);
		PQclear(res);
	}
	for (size_t i = 0; i < b->n; i++) {
		res = pipe_result(c);
		if (!batch_answer(c, b, res) || b->got_err)
			PQclear(res);
		else
			b->got_err = b->got(b->arg, b->first + i, res);
	}
	PQclear(pipe_result(c)); /* the sync point */
}

/* Sends the batch, with the words that wait and the preparation when it is due, in one round trip. */
static int batch_run(struct pconn *c, struct batch *b)
{
	const struct dbv *model = b->args ? b->args + b->first * b->n_args : NULL;
	uint64_t key = stmt_key(b->sql, model, b->n_args);
	struct pstmt *s = map_get(&c->stmts, key), *fresh = NULL;
	bool sent = PQenterPipelineMode(c->pg), prepared = false;
	if (!stmt_is(s, b->sql, model, b->n_args))
		s = fresh = stmt_new(c, b->sql, model, b->n_args);
	for (size_t i = 0; sent && i < c->n_words; i++)
		sent = PQsendQueryParams(c->pg, c->words[i], 0, NULL, NULL, NULL, NULL, 1);
	if (sent && fresh)
		sent = send_prepare(c, s);
	for (size_t i = 0; sent && i < b->n; i++)
		sent = send_run(c, s, b->args ? b->args + (b->first + i) * b->n_args : NULL, b->n_args);
	if (sent && PQpipelineSync(c->pg)) {
		batch_read(c, b, fresh, &prepared);
		PQexitPipelineMode(c->pg);
	} else {
		b->err = pg_fault(c, NULL, b->sql);
		c->base.dead = c->base.rerun = true; /* what was sent is unknown */
	}
	c->n_words = 0;
	if (fresh && prepared) {
		struct pstmt *old = map_put(&c->stmts, key, fresh);
		if (old)
			pstmt_free(old);
	} else if (fresh) {
		pstmt_free(fresh);
	}
	return b->err ? b->err : b->got_err;
}

static int keep_result(void *arg, size_t call, PGresult *res)
{
	(void)call;
	*(PGresult **)arg = res;
	return 0;
}

static int pg_run(struct tx *tx, const char *sql, const struct dbv *args, size_t n, PGresult **out)
{
	*out = NULL;
	struct batch b = {.sql = sql, .args = args, .n_args = n, .n = 1, .got = keep_result, .arg = out};
	int err = tx->conn->dead ? E_DB : batch_run(pc(tx->conn), &b);
	if (err) {
		PQclear(*out);
		*out = NULL;
	}
	return err;
}

static int pg_exec(struct tx *tx, const char *sql, const struct dbv *args, size_t n, int64_t *changed)
{
	PGresult *res;
	int err = pg_run(tx, sql, args, n, &res);
	if (!err && changed)
		*changed = strtoll(PQcmdTuples(res), NULL, 10);
	PQclear(res);
	return err;
}

static struct rows *rows_of(struct tx *tx, PGresult *res)
{
	struct prows *r = calloc(1, sizeof *r);
	must(r != NULL);
	*r = (struct prows){.base.tx = tx, .res = res, .at = -1};
	return &r->base;
}

static int pg_query(struct tx *tx, const char *sql, const struct dbv *args, size_t n, struct rows **out)
{
	PGresult *res;
	int err = pg_run(tx, sql, args, n, &res);
	if (!err)
		*out = rows_of(tx, res);
	return err;
}

struct many {
	struct tx *tx;
	db_row_fn *row;
	void *arg;
	int64_t *changed;
};

static int many_got(void *arg, size_t call, PGresult *res)
{
	struct many *m = arg;
	struct prows r = {.base.tx = m->tx, .res = res, .at = -1};
	int err = 0;
	for (r.at = 0; m->row && !err && r.at < PQntuples(res); r.at++)
		err = m->row(m->arg, call, &r.base);
	if (m->changed)
		m->changed[call] = strtoll(PQcmdTuples(res), NULL, 10);
	PQclear(res);
	return err;
}

static bool same_types(const struct dbv *a, const struct dbv *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (a[i].type != b[i].type)
			return false;
	return true;
}

static int pg_many(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, db_row_fn *row,
		   void *arg, int64_t *changed)
{
	struct many m = {tx, row, arg, changed};
	for (size_t first = 0; first < n;) {
		size_t end = first + 1;
		/* A run of calls whose arguments have the same types shares one prepared statement. */
		while (args && end < n && end - first < MANY_BATCH &&
		       same_types(args + first * n_args, args + end * n_args, n_args))
			end++;
		struct batch b = {sql, args, n_args, first, end - first, many_got, &m, 0, 0};
		if (tx->conn->dead)
			return tx->err = E_DB;
		int err = batch_run(pc(tx->conn), &b);
		if (b.err)
			tx->err = b.err;
		if (err)
			return err;
		first = end;
	}
	return 0;
}

/* Sends the words that wait. */
static int words_flush(struct pconn *c)
{
	char sql[WORDS_MAX * 64] = "";
	if (!c->n_words)
		return 0;
	for (size_t i = 0, at = 0; i < c->n_words; i++)
		at += (size_t)snprintf(sql + at, sizeof sql - at, "%s; ", c->words[i]);
	c->n_words = 0;
	return pg_plain(c, sql, NULL, NULL);
}

/* Lets a word of less than 60 bytes wait. */
static int word_later(struct pconn *c, const char *word)
{
	int err = c->n_words == WORDS_MAX ? words_flush(c) : 0;
	if (!err)
		c->words[c->n_words++] = word;
	return err;
}

static int pg_script(struct tx *tx, const char *sql)
{
	int err = words_flush(pc(tx->conn));
	return err ? err : pg_plain(pc(tx->conn), sql, NULL, NULL);
}

/* ---- rows ---- */

static bool pg_next(struct rows *base)
{
	struct prows *r = (struct prows *)base;
	if (r->at < PQntuples(r->res))
		r->at++;
	return r->at < PQntuples(r->res);
}

static int64_t be_int(const uint8_t *p, int n)
{
	uint64_t v = n > 0 && p[0] & 0x80 ? ~UINT64_C(0) : 0;
	for (int i = 0; i < n; i++)
		v = v << 8 | p[i];
	return (int64_t)v;
}

/* sum() of bigint is a numeric: 16-bit counts of base-10000 digits, weight, sign and scale, then the digits. The whole
 * part, held at the ends of int64. */
static int64_t numeric_int(const uint8_t *p)
{
	int digits = (int)be_int(p, 2), weight = (int)be_int(p + 2, 2);
	bool minus = p[4] == 0x40;
	int64_t v = 0;
	for (int i = 0; i <= weight; i++) {
		int64_t digit = i < digits ? be_int(p + 8 + 2 * i, 2) : 0;
		if (__builtin_mul_overflow(v, 10000, &v) || __builtin_add_overflow(v, minus ? -digit : digit, &v))
			return minus ? INT64_MIN : INT64_MAX;
	}
	return v;
}

static int64_t pg_i64(struct rows *base, int col)
{
	struct prows *r = (struct prows *)base;
	must(col >= 0 && col < PQnfields(r->res));
	if (PQgetisnull(r->res, r->at, col))
		return 0;
	const uint8_t *p = (const uint8_t *)PQgetvalue(r->res, r->at, col);
	int n = PQgetlength(r->res, r->at, col);
	switch (PQftype(r->res, col)) {
	case 16: /* bool */
		return p[0] != 0;
	case 20: /* int8, int2, int4, oid */
	case 21:
	case 23:
	case 26:
		return be_int(p, n);
	case 1700:
		return numeric_int(p);
	}
	must(!"an integer column");
	return 0;
}

static bool pg_is_null(struct rows *base, int col)
{
	struct prows *r = (struct prows *)base;
	must(col >= 0 && col < PQnfields(r->res));
	return PQgetisnull(r->res, r->at, col);
}

static struct str pg_bytes(struct rows *base, int col, bool text)
{
	struct prows *r = (struct prows *)base;
	(void)text;
	if (pg_is_null(base, col))
		return STR_NULL;
	return str_n(PQgetvalue(r->res, r->at, col), (size_t)PQgetlength(r->res, r->at, col));
}

static int pg_close(struct rows *base)
{
	struct prows *r = (struct prows *)base;
	int err = base->err;
	PQclear(r->res);
	free(r);
	return err;
}

/* ---- transactions ---- */

/* Fetches the answer to the last read's COMMIT. */
static int pg_drain(struct pconn *c, int64_t timeout_us)
{
	while (c->end_waits && !c->base.dead) {
		struct pollfd fd = {.fd = PQsocket(c->pg), .events = POLLIN};
		if (PQisBusy(c->pg)) {
			if (poll(&fd, 1, (int)(timeout_us / 1000)) <= 0 || !PQconsumeInput(c->pg))
				c->base.dead = true;
			continue;
		}
		PGresult *res = PQgetResult(c->pg);
		c->end_waits = res != NULL;
		PQclear(res);
	}
	return c->base.dead ? E_DB : 0;
}

/* Between transactions: forget statements when there are too many. */
static int pg_tidy(struct pconn *c)
{
	int err = pg_drain(c, DB_CONNECT_US);
	if (err || c->stmts.count < DB_STATEMENTS_MAX)
		return err;
	stmts_forget(c);
	return pg_plain(c, "deallocate all", NULL, NULL);
}

static int pg_begin_read(struct conn *base)
{
	int err = pg_tidy(pc(base));
	base->in_tx = !err;
	return err ? err : word_later(pc(base), "begin isolation level repeatable read read only");
}

static void pg_rollback(struct conn *base)
{
	struct pconn *c = pc(base);
	/* A read that asked nothing has not even begun. */
	bool nothing = (base->role == DB_READER && c->n_words) || !base->in_tx;
	base->in_tx = false;
	if (nothing)
		c->n_words = 0;
	/* In inline mode reads run on the writer's connection, where the BEGIN that waits must come first. */
	if (!nothing && !base->dead && words_flush(c))
		base->dead = true;
	if (base->dead || nothing)
		return;
	if (base->role == DB_READER)
		base->dead = !(c->end_waits = PQsendQuery(c->pg, "rollback"));
	else if (pg_plain(c, "rollback", NULL, NULL))
		base->dead = true;
}

#define BEGIN_WRITE "begin isolation level read committed read write; "

static int pg_begin_write(struct conn *base, int64_t tenant_id)
{
	struct pconn *c = pc(base);
	char lock[80], update[100], sql[240];
	int64_t touched = 0;
	bool absent = false;
	int err = pg_tidy(c);
	if (err) {
		base->rerun = true; /* nothing was done on the lost connection */
		return err;
	}
	base->in_tx = true;
	/* The advisory lock stands for a row that is not there: tenant 0, a tenant that the group is about to create. */
	snprintf(lock, sizeof lock, "select pg_advisory_xact_lock(%d, %d)", ADVISORY_CLASS,
		 (int)(uint32_t)((uint64_t)tenant_id ^ (uint64_t)tenant_id >> 32));
	snprintf(update, sizeof update, "update tenants set gen = gen + 1 where id = %lld", (long long)tenant_id);
	snprintf(sql, sizeof sql, BEGIN_WRITE "%s", tenant_id ? update : lock);
	err = pg_plain(c, sql, &touched, &absent);
	if (!err && tenant_id && !touched) {
		/* Again behind the lock: whoever held it may have made the row, and its later writers lock that. */
		snprintf(sql, sizeof sql, "%s; %s", lock, update);
		err = pg_plain(c, sql, NULL, NULL);
	}
	if (absent) { /* before the schema is there */
		snprintf(sql, sizeof sql, "rollback; " BEGIN_WRITE "%s", lock);
		err = pg_plain(c, sql, NULL, NULL);
	}
	if (err)
		pg_rollback(base);
	return err;
}

static int pg_commit(struct conn *base)
{
	struct pconn *c = pc(base);
	int err = words_flush(c);
	if (err) {
		pg_rollback(base);
		return err;
	}
	PGresult *res = PQexec(c->pg, "commit");
	/* COMMIT of a transaction that had failed answers ROLLBACK, and that is no error to PostgreSQL. */
	if (!res_good(res))
		err = pg_fault(c, res, "commit");
	else if (strcmp(PQcmdStatus(res), "COMMIT") != 0)
		err = E_DB;
	PQclear(res);
	base->in_tx = false;
	if (base->dead) {
		base->rerun = false; /* it may have been committed */
		return E_DB;
	}
	return err;
}

static int pg_savepoint(struct conn *c)
{
	return word_later(pc(c), "savepoint s");
}

static int pg_release(struct conn *c)
{
	return word_later(pc(c), "release s");
}

static int pg_undo(struct conn *c)
{
	int err = words_flush(pc(c));
	return err ? err : pg_plain(pc(c), "rollback to s; release s", NULL, NULL);
}

/* ---- connections ---- */

static void no_notice(void *arg, const PGresult *res)
{
	(void)arg, (void)res;
}

static bool pg_connect_poll(PGconn *pg, int64_t timeout_us)
{
	const struct clock *clock = &clock_system; /* a socket's patience is in real time */
	int64_t end_us = clock_mono(clock) + timeout_us;
	for (PostgresPollingStatusType st = PGRES_POLLING_WRITING; st != PGRES_POLLING_OK; st = PQconnectPoll(pg)) {
		struct pollfd fd = {.fd = PQsocket(pg), .events = st == PGRES_POLLING_READING ? POLLIN : POLLOUT};
		int64_t left_us = end_us - clock_mono(clock);
		if (st == PGRES_POLLING_FAILED || left_us <= 0 || poll(&fd, 1, (int)(left_us / 1000) + 1) == 0)
			return false;
	}
	return true;
}

PGconn *pg_connect(const char *url, int64_t timeout_us, char why[400])
{
	/* What the URL says comes later and so wins. */
	static const char *const keys[] = {"client_encoding", "keepalives_idle", "keepalives_interval", "keepalives_count",
					   "tcp_user_timeout", "fallback_application_name", "dbname", NULL};
	const char *const values[] = {"UTF8", "30", "10", "3", "20000", "scaidrived", url, NULL};
	PGconn *pg = PQconnectStartParams(keys, values, 1);
	must(pg != NULL);
	if (PQstatus(pg) == CONNECTION_BAD || !pg_connect_poll(pg, timeout_us)) {
		const char *msg = PQerrorMessage(pg);
		snprintf(why, 400, "%.*s", STR_ARG(str_trim(str_c(*msg ? msg : "no answer in time"))));
		PQfinish(pg);
		return NULL;
	}
	PQsetNoticeReceiver(pg, no_notice, NULL);
	PGresult *res = PQexec(pg, "set lock_timeout = '20s'; set idle_in_transaction_session_timeout = '60s'; set jit = off;"
				   "select set_config('synchronous_commit', 'on', false)"
				   " where current_setting('synchronous_commit') = 'off'");
	bool good = res_good(res);
	PQclear(res);
	if (good)
		return pg;
	snprintf(why, 400, "%.*s", STR_ARG(str_trim(str_c(PQerrorMessage(pg)))));
	PQfinish(pg);
	return NULL;
}

static int pg_conn_open(struct db *db, enum db_role role, int64_t timeout_us, struct conn **out, char why[400])
{
	*out = NULL;
	PGconn *pg = pg_connect(db->url, timeout_us, why);
	if (!pg)
		return E_DB;
	struct pconn *c = calloc(1, sizeof *c);
	must(c != NULL);
	c->base = (struct conn){.db = db, .role = role};
	c->pg = pg;
	arena_init(&c->base.arena);
	*out = &c->base;
	return 0;
}

static void pg_conn_close(struct conn *base)
{
	struct pconn *c = pc(base);
	stmts_forget(c);
	PQfinish(c->pg);
	arena_fini(&base->arena);
	free(c);
}

static bool pg_alive(struct conn *base)
{
	struct pconn *c = pc(base);
	/* A server that went away has closed the socket, which then reads. */
	struct pollfd fd = {.fd = PQsocket(c->pg), .events = POLLIN};
	if (base->dead || pg_drain(c, DB_CONNECT_US))
		return false;
	if (poll(&fd, 1, 0) > 0 && !PQconsumeInput(c->pg))
		return false;
	return PQstatus(c->pg) == CONNECTION_OK;
}

static int pg_ping(struct conn *base, int64_t timeout_us)
{
	struct pconn *c = pc(base);
	if (!PQsendQuery(c->pg, "select 1")) {
		base->dead = true;
		return E_DB;
	}
	c->end_waits = true;
	return pg_drain(c, timeout_us);
}

const struct db_driver db_driver_postgres = {
    .name = "postgresql",
    .max_writers = DB_WRITERS_MAX,
    .start = pg_start,
    .stop = pg_stop,
    .connect = pg_conn_open,
    .disconnect = pg_conn_close,
    .alive = pg_alive,
    .ping = pg_ping,
    .begin_read = pg_begin_read,
    .begin_write = pg_begin_write,
    .commit = pg_commit,
    .rollback = pg_rollback,
    .savepoint = pg_savepoint,
    .release = pg_release,
    .undo = pg_undo,
    .exec = pg_exec,
    .query = pg_query,
    .many = pg_many,
    .script = pg_script,
    .next = pg_next,
    .i64 = pg_i64,
    .bytes = pg_bytes,
    .is_null = pg_is_null,
    .close = pg_close,
    .listen = pg_listen,
    .notify = pg_notify,
};
