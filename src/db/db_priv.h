/* db_priv: what db.c (pool, write groups, migrations) and the engines say to each other. Only db/ includes this. */
#ifndef SD_DB_DB_PRIV_H
#define SD_DB_DB_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "db/db.h"

/* clang-format off */
#define DB_QUEUE_MAX       4096             /* writes waiting for one writer; more are E_BUSY */
#define DB_GROUP_MAX       256              /* writes in one transaction */
#define DB_GROUP_US        MILLIS_US(20)    /* a group closes after this, however many wait */
#define DB_CAREFUL_GROUPS 16                /* after a member failed, this many groups give each member a savepoint */
#define DB_POOL_WAIT_US    SECONDS_US(10)   /* for a reader */
#define DB_BUSY_MS         10000            /* for another process that writes the same SQLite file */
#define DB_CONNECT_US      SECONDS_US(10)
#define DB_STATEMENTS_MAX  512              /* prepared and cached, per connection */
#define DB_WRITERS_MAX     4
#define DB_WARM_US         SECONDS_US(5)    /* without work before a writer gives its cache back */
/* clang-format on */

enum db_role { DB_READER, DB_WRITER };

/* The head of an engine's connection; used by one thread at a time. */
struct conn {
	struct db *db;
	enum db_role role;
	bool in_tx; /* false also after the engine rolled back by itself */
	bool dead;  /* to be closed, not reused */
	bool rerun; /* the transaction lost a race: run the whole group again */
	bool full;  /* a statement found no room on the disk: the transaction is given up */
	int64_t idle_since_us;
	struct arena arena; /* tx_arena */
	char why[400];      /* the engine's last complaint */
};

struct tx {
	struct db *db;
	struct conn *conn;
	bool write;
	bool daring;      /* of a group of several without savepoints */
	int err;          /* of a failed statement that no savepoint has undone yet */
	size_t open_rows;
	db_op_fn *finish; /* of tx_leave; NULL: nothing is left */
	void *left;
};

/* The head of an engine's open query. */
struct rows {
	struct tx *tx;
	int err;
};

/* What an engine does. Functions that return int return 0 or E_* and have logged the engine's complaint; one that
 * fails a statement need not touch tx->err, db.c does. */
struct db_driver {
	const char *name;
	int max_writers;
	/* Once, before any connection and after all of them. start allocates db->engine; stop frees it. */
	int (*start)(struct db *db, char **why);
	void (*stop)(struct db *db);
	/* why gets a sentence on failure. */
	int (*connect)(struct db *db, enum db_role role, int64_t timeout_us, struct conn **out, char why[400]);
	void (*disconnect)(struct conn *c);
	/* False when an idle connection is known to be gone. */
	bool (*alive)(struct conn *c);
	int (*ping)(struct conn *c, int64_t timeout_us);
	void (*trim)(struct conn *c); /* NULL: nothing to give back */
	const char *verify[2];        /* queries whose rows are complaints, or "ok": thorough, quick. NULL: there is none */
	struct str (*verify_doubt)(struct str complaint); /* of the quick one: the table that has to be looked at once more; "": it is true */
	const char *verify_table;     /* thorough, of table $1 */

	int (*begin_read)(struct conn *c);
	/* Locks the tenant. */
	int (*begin_write)(struct conn *c, int64_t tenant_id);
	/* On failure the transaction is rolled back, or its outcome unknown and the connection dead. */
	int (*commit)(struct conn *c);
	void (*rollback)(struct conn *c);
	/* Savepoints nest; all have one name, since both engines mean the innermost by it. */
	int (*savepoint)(struct conn *c);
	int (*release)(struct conn *c);
	int (*undo)(struct conn *c); /* rolls back to the savepoint and releases it */

	int (*exec)(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, int64_t *changed);
	int (*query)(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, struct rows **out);
	/* row, changed: NULL when that is not asked for. */
	int (*many)(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, size_t n, db_row_fn *row,
		    void *arg, int64_t *changed);
	/* One statement that is not worth preparing, already in the engine's dialect. */
	int (*script)(struct tx *tx, const char *sql);
	bool (*next)(struct rows *r);
	int64_t (*i64)(struct rows *r, int col);
	struct str (*bytes)(struct rows *r, int col, bool text);
	bool (*is_null)(struct rows *r, int col);
	int (*close)(struct rows *r); /* frees r; returns r->err or what ending the statement gave */

	/* After db->on_notice was set. */
	void (*listen)(struct db *db);
	void (*notify)(struct db *db, int64_t tenant_id);
};

extern const struct db_driver db_driver_sqlite, db_driver_postgres;

struct db_writer {
	struct db *db;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct db_write *head, **tail;
	size_t queued;
	bool running, stop;
	int careful;       /* groups left that give each member a savepoint; most need none, and it costs a third of the time */
	struct conn *conn; /* NULL: to be opened */
	bool warm;         /* there was work since its cache was given back */
};

struct db {
	const struct db_driver *driver;
	char *url;
	const struct clock *clock;
	bool inline_writes, read_only;
	bool (*make_room)(void *arg);
	void *make_room_arg;
	void *engine; /* the driver's */

	/* Readers: a stack, so that the last one used, whose cache is warm, is used next. */
	pthread_mutex_t pool_lock;
	pthread_cond_t pool_wake;
	struct conn **idle;
	int n_idle, n_open, max_readers;

	struct db_writer *writers;
	int n_writers;
	pthread_mutex_t inline_lock;

	atomic_bool failed; /* a sync failed: nothing more is acknowledged (E_READ_ONLY) */
	atomic_bool stopping;
	atomic_int_fast64_t groups, writes, reruns, reads;

	db_notice_fn *on_notice;
	void *notice_arg;
};

/* pthread_create with every signal blocked. */
int db_thread(pthread_t *out, void *(*fn)(void *), void *arg);
/* A condition that waits on the monotonic clock; returns false at the deadline. */
void db_cond_init(pthread_cond_t *c);
bool db_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t timeout_us);
/* A malloc'ed sentence into *why when why is not NULL and nothing is there yet. */
void db_why(char **why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A transaction that is not part of a group (migrations and db.c's own). Runs op, checks tx.err. */
int db_run(struct conn *c, bool write, db_op_fn *op, void *arg);
/* sql with its migration markers in the engine's words (db_migrate.c); malloc'ed. */
char *db_dialect(struct str sql, bool sqlite);

#endif
