/* db: SQL on two engines behind one small face (D20).
 *
 * A unit of work is a function. Reads run in a snapshot on a pooled connection. Writes are queued and merged: one
 * transaction carries the writes of all who wait (group commit); when one of them fails, the group is run again with a
 * savepoint for each. db_write returns after the group is durable. All writes of one tenant are serialized, on every node:
 * SQLite has one writer; on PostgreSQL the group first locks the tenant's row ("update tenants set gen = gen + 1"), so
 * inside a write op the tenant stands still and a check made by the op holds until it commits.
 *
 * A write op has no effect outside the database and its own out-memory, since it may be run again (another of its group
 * failed; PostgreSQL 40001, 40P01) and its group may be rolled back (then every member fails). It takes milliseconds, not
 * seconds. After a statement failed, the op must return that error; what it wrote is rolled back.
 *
 * SQL is written once, in the subset both engines accept: parameters $1, $2 ...; "insert ... on conflict",
 * "returning"; no "any($1)", no "for update". SQL texts are string literals: prepared statements are cached by
 * their address. In migrations "bigint primary key" becomes SQLite's rowid and "/+clustered+/" (with stars) at the
 * end of a create table makes it WITHOUT ROWID there; types are bigint, smallint, text, bytea.
 */
#ifndef SD_DB_DB_H
#define SD_DB_DB_H

#include "base/arena.h"
#include "base/err.h"
#include "base/time.h"

struct db;
struct tx;
struct rows;

struct db_config {
	const char *url;     /* "sqlite:/path/to/file.db[?vfs=NAME]" or "postgresql://..." (any libpq connection string) */
	int readers;         /* connections for reads; 0: 4 */
	bool inline_writes;  /* all runs on the caller's thread and one connection (tools, the simulator); no threads */
	bool read_only;      /* nothing is written, nor made: db_write is E_READ_ONLY (checks) */
	/* Called when a write found no room on the disk, from any thread; true: there is some now, and it is tried once more.
	 * May be NULL. */
	bool (*make_room)(void *arg);
	void *make_room_arg;
	const struct clock *clock; /* NULL: the system's */
};

/* Work done in a transaction: 0 commits, any E_* rolls back and is returned to the caller. */
typedef int db_op_fn(struct tx *tx, void *arg);

/* E_DB when the database cannot be opened; *why (may be NULL) then gets a malloc'ed sentence. */
int db_open(const struct db_config *config, struct db **out, char **why);
/* Waits for queued writes. */
void db_close(struct db *db);
const char *db_engine(const struct db *db); /* "sqlite" or "postgresql" */

/* Runs op in a read-only snapshot. */
int db_read(struct db *db, db_op_fn *op, void *arg);
/* Runs op in the tenant's next write group and returns when it is durable. tenant_id 0: system-wide rows.
 * E_BUSY: the queue is full. E_NO_SPACE, E_DB: nothing was written. */
int db_write(struct db *db, int64_t tenant_id, db_op_fn *op, void *arg);
/* Called first, on the writer's thread and outside its transaction: a sync that one caller's call does for all who are in the
 * group. Not 0: op is not run, and that is what the write comes to. It takes a sync's time, no more. */
typedef int db_before_fn(void *arg);
/* A write that nobody sleeps for. The caller fills what stands above the line and keeps it until done is called. */
struct db_write {
	int64_t tenant_id;
	db_before_fn *before; /* NULL: nothing; may be called again, when the group had no time for op */
	void *before_arg;
	db_op_fn *op;
	void *arg;
	void (*done)(void *arg);
	void *done_arg;
	bool goes_on; /* op asks for what the one before it left (tx_left); before any other that is finished */
	/* ---- */
	int err; /* what db_write would have returned; for done */
	int before_err;
	struct db_write *next;
};
/* done(done_arg) is called exactly once, when the write is durable or has failed: on the writer's thread, which must not
 * be kept, or on the caller's before this returns. *w may be gone as soon as it is called. */
void db_write_begin(struct db *db, struct db_write *w);
/* What was done since db_open. groups: write transactions tried; writes: their members; reruns: groups run again. */
struct db_counts {
	int64_t groups, writes, reruns, reads;
};
void db_counts(struct db *db, struct db_counts *out);
/* Answers within a second whether the database can be read. */
int db_ping(struct db *db);
/* Gives back what idle connections keep in memory only to be faster. */
void db_trim(struct db *db);

/* Brings the schema up: applies the numbered migrations that are missing, each in one transaction. Refuses a schema
 * that is newer than this program (E_DB, *why says so). Safe to interrupt and to run from several processes. */
struct migration {
	int number;       /* 1, 2, ... without gaps */
	const char *name;
	const char *sql;  /* statements separated by ";\n" */
};
int db_migrate(struct db *db, const struct migration *list, size_t n, char **why);
/* The number of the newest migration that the database has; 0: it has none. */
int db_schema_number(struct db *db, int64_t *number);

/* Has the engine check its own files, where a client can ask for that (SQLite). fn is told each complaint. */
typedef void db_complaint_fn(void *arg, struct str sentence);
int db_verify(struct db *db, bool quick, db_complaint_fn *fn, void *arg);

/* A parameter. Text and blobs are borrowed for the call. */
enum dbv_type { DBV_NULL, DBV_I64, DBV_TEXT, DBV_BLOB };
struct dbv {
	enum dbv_type type;
	int64_t i;
	struct str s;
};
#define V_I(x) ((struct dbv){.type = DBV_I64, .i = (int64_t)(x)})
#define V_T(x) dbv_text(x)
#define V_B(x) dbv_blob(x)
#define V_NULL ((struct dbv){.type = DBV_NULL})
/* 0 becomes NULL: for optional ids. */
#define V_ID(x) dbv_id(x)
static inline struct dbv dbv_text(struct str s)
{
	return (struct dbv){.type = s.p ? DBV_TEXT : DBV_NULL, .s = s};
}
static inline struct dbv dbv_blob(struct str s)
{
	return (struct dbv){.type = s.p ? DBV_BLOB : DBV_NULL, .s = s};
}
static inline struct dbv dbv_id(int64_t id)
{
	return (struct dbv){.type = id ? DBV_I64 : DBV_NULL, .i = id};
}
#define DB_ARGS(...) (const struct dbv[]){__VA_ARGS__}, sizeof((const struct dbv[]){__VA_ARGS__}) / sizeof(struct dbv)
#define DB_NO_ARGS NULL, 0

/* Runs a statement that returns no rows. changed (may be NULL) gets the number of rows touched.
 * E_CONFLICT: a unique or foreign key was violated. E_DB, E_NO_SPACE: the engine failed. */
int tx_exec(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, int64_t *changed);
/* Runs a query. *out is closed with rows_close (also by AUTO_ROWS); one tx may have several open. */
int tx_query(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, struct rows **out);
/* The next row; false at the end and on a fault, which rows_close reports. */
bool rows_next(struct rows *r);
/* Columns count from 0. Bytes are valid until the next rows_next or rows_close. NULL reads as 0 / STR_NULL. */
int64_t rows_i64(struct rows *r, int col);
struct str rows_text(struct rows *r, int col);
struct str rows_blob(struct rows *r, int col);
bool rows_is_null(struct rows *r, int col);
int rows_close(struct rows **r);
void rows_cleanup(struct rows **r);
#define AUTO_ROWS __attribute__((cleanup(rows_cleanup))) struct rows
/* For queries of one row: true in *found and the row current, or false; the caller closes either way. */
int tx_query_row(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, struct rows **out, bool *found);
/* One integer of one row; dflt when there is no row or it is NULL. */
int tx_i64(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, int64_t dflt, int64_t *out);

/* The same statement n times with args[i * n_args ...]; on PostgreSQL pipelined (one round trip).
 * row is called for each row of each call with the call's index; NULL for statements without rows. */
typedef int db_row_fn(void *arg, size_t call, struct rows *r);
int tx_many(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, db_row_fn *row, void *arg);
/* The same for a statement without rows: changed[i] gets the number of rows that call i touched. On SQLite much cheaper
 * than "returning", which builds a table for each call. */
int tx_many_changed(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, int64_t *changed);

/* A savepoint inside a write op: run part, and undo just that part when it fails with an E_* other than 0. */
int tx_nested(struct tx *tx, db_op_fn *part, void *arg);

bool tx_is_write(const struct tx *tx);
/* Whether the op, should it fail, is run again in a group that gives it a savepoint: it need not look for what an index will
 * tell. */
bool tx_is_daring(const struct tx *tx);
/* In a daring group: leaves work to those behind, who do it together with theirs. finish(tx, left) is called once, before the
 * commit or before an op that does not go on, unless one that does has left its own instead. NULL: nothing was left, or it is
 * finished. left lives until the group has ended, as what belongs to a db_write does. */
void tx_leave(struct tx *tx, db_op_fn *finish, void *left);
void *tx_left(const struct tx *tx);
/* Memory that lives as long as the transaction. */
struct arena *tx_arena(struct tx *tx);

/* A coalescing cross-node notice (D20): on PostgreSQL a connection of its own does NOTIFY, on SQLite only this process
 * hears it. It is a hint: losing it loses nothing. The listener is called from the database's own thread or from
 * db_notify, and must not block. db_listen is called at most once. */
typedef void db_notice_fn(void *arg, int64_t tenant_id);
void db_listen(struct db *db, db_notice_fn *fn, void *arg);
void db_notify(struct db *db, int64_t tenant_id);

#endif
