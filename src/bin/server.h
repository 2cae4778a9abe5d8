/* server: what the subcommands of scaidrived share: arguments, settings, an opened data folder. */
#ifndef SD_BIN_SERVER_H
#define SD_BIN_SERVER_H

#include <stdio.h>

#include "base/buf.h"
#include "base/ctx.h"
#include "drive/drive.h"
#include "drive/tenant.h"
#include "drive/token.h"
#include "io/config.h"
#include "io/disk.h"
#include "io/reserve.h"

/* ---- arguments ---- */

struct option_spec {
	const char *name;    /* without "--" */
	const char *value;   /* how help calls the value; NULL: a flag */
	const char *meaning;
	const char *key;     /* a setting; NULL: look it up with arg() */
};

enum { ARGS_MAX = 64 };

struct args {
	const struct command *command;
	struct {
		const struct option_spec *spec;
		const char *value; /* "" for a flag */
	} items[ARGS_MAX];
	int n;
	const char *operands[ARGS_MAX];
	int n_operands;       /* as many as the command wants */
	struct config config; /* all sources applied */
};

typedef int command_fn(struct args *args);

struct command {
	const char *name;    /* "serve", "user add" */
	const char *summary;
	const struct option_spec *options; /* ends with a NULL name; the common ones come on top */
	command_fn *run;     /* an exit code */
	const char *operands; /* what stands beside the options, as help calls it: "SHARE DIR"; NULL: nothing.
	                       * "..." at the end: one or more of the last */
};

/* The last value of an option, or NULL. A flag that is set gives "". */
const char *arg(const struct args *args, const char *name);
/* The same as a str; absent: STR_NULL. */
struct str arg_str(const struct args *args, const char *name);
/* A secret: --NAME, the first line of standard input with --NAME-stdin, or the variable. NULL: none. The result is heap. */
char *arg_secret(const struct args *args, const char *name, const char *variable);
/* Prints a sentence to stderr and returns the exit code 2. */
int usage_fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The account that an option names, in the tenant of --tenant. */
struct runtime;
struct user;
int named_user(struct runtime *rt, const struct args *args, const char *option, struct user *u);

extern const struct command cmd_serve, cmd_init, cmd_token, cmd_user_add, cmd_user_list, cmd_user_password,
    cmd_user_suspend, cmd_user_activate, cmd_tenant_add, cmd_tenant_list, cmd_keys_rotate, cmd_config, cmd_migrate,
    cmd_version, cmd_fsck, cmd_collect, cmd_jobs, cmd_jobs_run, cmd_policy_show, cmd_policy_set, cmd_backup, cmd_backup_list,
    cmd_backup_verify, cmd_restore, cmd_export, cmd_import;

/* ---- an opened data folder ---- */

enum runtime_flags {
	RUNTIME_SERVE = 1, /* take the lock, start the database's threads, open the chunk store */
	RUNTIME_CHECK = 2, /* take the lock, open database and store for reading alone; makes and migrates nothing */
	RUNTIME_READ = 4,  /* without the lock: packs and store are opened for reading, beside a server that writes them */
	RUNTIME_REPAIR = 8, /* with RUNTIME_CHECK: but the database may be written */
	RUNTIME_IMPORT = 32, /* with RUNTIME_SERVE: who is refused is told of the other way */
	RUNTIME_RESTORE = 16, /* take the lock, make what is missing, leave the database as it is; no store */
};

struct runtime {
	const struct config *config;
	char *data, *database_url, *catalog;
	int lock_fd;
	struct db *db;
	struct disk *disk;
	struct store *store;
	struct disk *staging;
	struct uploads *uploads;
	struct idgen ids;
	struct drive drive;
	struct tokens *tokens;
	struct arena arena; /* of ctx, for the main thread */
	struct ctx ctx;
	struct node_lease *lease;
	struct reserve *reserve; /* NULL: none is kept */
};

/* ---- work that fills a data folder (server_begun.c) ---- */

/* Their names: that of a file in the data folder, and in sentences. */
#define RESTORING "restoring"
#define REBUILDING "rebuilding"
enum { BEGUN_BYTES = 32 };
/* The word of this work here: of an earlier try that did not come to its end (*again), or a new one. 0, or 2 after a sentence. */
int begun_open(const struct runtime *rt, const char *work, char token[BEGUN_BYTES + 1], bool *again);
/* It is done. 0, or 2 after a sentence. */
int begun_end(const struct runtime *rt, const char *work);
/* 2 after a sentence when it is begun. */
int begun_refuse(const struct runtime *rt, const char *work);
bool sync_folder(const char *path);

/* Makes the folder, takes the lock, opens and migrates the database, opens store and keys. On a fault it prints a sentence
 * to stderr, cleans up and returns an exit code; else 0. */
int runtime_open(const struct config *config, unsigned flags, struct runtime *out);
void runtime_close(struct runtime *rt);
/* Prints ctx's sentence for err; returns the exit code 1. */
int runtime_fault(const struct runtime *rt, int err);

/* The tenant that --tenant names; without it the only one there is. */
int runtime_tenant(struct runtime *rt, const struct args *args, int64_t *id);

/* Logs as JSON lines to the configured file or stderr. 0, or an exit code. */
int server_log_start(const struct config *config);
/* Opens the file anew, after it was moved away. */
void server_log_reopen(void);
/* Writes what is gathered. */
void server_log_stop(void);

struct str server_openapi(void);

/* ---- what tools tell ---- */

/* One line on the terminal that standard error is, five times a second. */
struct progress {
	bool quiet; /* none */
	bool line;  /* it is there now */
	int64_t told_us;
};
void progress_init(struct progress *p, bool quiet);
/* all -1: not known. */
void progress_show(struct progress *p, const char *what, int64_t done, int64_t all);
void progress_wipe(struct progress *p);
/* The same as callbacks, with a sentence on a line of its own; arg is a struct that begins with a struct progress. */
void progress_on_step(void *arg, const char *what, int64_t done, int64_t all);
void progress_on_told(void *arg, struct str sentence);
/* What came from a database or a disk must not drive a terminal. */
void put_plain(struct buf *b, struct str s);

/* ---- node numbers (base/id.h) ---- */

/* A number of our own among those who share the database, renewed by a thread of its own. When it is lost, lost() is
 * called once. E_BUSY when all are taken. */
int node_lease_take(struct drive *drive, void (*lost)(void), struct node_lease **out, int64_t *number);
void node_lease_drop(struct node_lease *lease);

/* ---- whose packs ---- */

/* Do these packs belong to this database (server_mark.c)? The first folder that a database meets is its own, unless there are
 * packs in it and the database knows of none: then it is not the one that they were written for. */
enum whose_packs { PACKS_OWN, PACKS_FOREIGN, PACKS_ORPHANED };
int mark_check(struct db *db, struct disk *packs, enum whose_packs *whose);

/* ---- a database that is lost (server_rebuild.c) ---- */

/* 0, or the exit code 2 after a sentence. */
int server_rebuild(const struct config *config, bool quiet);

/* ---- background work ---- */

/* A thread that does the rounds of drive/job.h, looking every look_s seconds (0: never) which are due, until it is stopped
 * (NULL: nothing to stop). Before the drive and the metrics go. */
struct metrics;
struct worker *worker_start(struct drive *drive, struct metrics *metrics, int look_s);
void worker_stop(struct worker *w);
/* Metrics of the garbage collector (drive/collect.h). */
void collect_metrics(struct metrics *m, struct drive *d);

#endif
