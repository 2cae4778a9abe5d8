/* server: what the subcommands of scaidrived share: arguments, settings, an opened data folder. */
#ifndef SD_BIN_SERVER_H
#define SD_BIN_SERVER_H

#include <stdio.h>

#include "base/ctx.h"
#include "drive/drive.h"
#include "drive/tenant.h"
#include "drive/token.h"
#include "io/config.h"
#include "io/disk.h"
#include "io/reserve.h"

/* ---- arguments ---- */

struct option_spec {
	const char *name;    /* without "--"; "": what stands there by itself */
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
	struct config config; /* all sources applied */
};

typedef int command_fn(struct args *args);

struct command {
	const char *name;    /* "serve", "user add" */
	const char *summary;
	const struct option_spec *options; /* ends with a NULL name; the common ones come on top */
	command_fn *run;     /* an exit code */
};

/* The last value of an option, or NULL. A flag that is set gives "". */
const char *arg(const struct args *args, const char *name);
/* The same as a str; absent: STR_NULL. */
struct str arg_str(const struct args *args, const char *name);
/* A secret: --NAME, the first line of standard input with --NAME-stdin, or the variable. NULL: none. The result is heap. */
char *arg_secret(const struct args *args, const char *name, const char *variable);
/* Prints a sentence to stderr and returns the exit code 2. */
int usage_fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

extern const struct command cmd_serve, cmd_init, cmd_token, cmd_user_add, cmd_user_list, cmd_user_password,
    cmd_user_suspend, cmd_user_activate, cmd_tenant_add, cmd_tenant_list, cmd_keys_rotate, cmd_config, cmd_migrate,
    cmd_version, cmd_fsck, cmd_jobs, cmd_jobs_run, cmd_policy_show, cmd_policy_set;

/* ---- an opened data folder ---- */

enum runtime_flags {
	RUNTIME_SERVE = 1, /* take the lock, start the database's threads, open the chunk store */
	RUNTIME_CHECK = 2, /* take the lock, open database and store for reading alone; makes and migrates nothing */
	RUNTIME_REPAIR = 8, /* with RUNTIME_CHECK: but the database may be written */
	RUNTIME_PACKS = 4, /* without the lock: the packs are opened for reading, beside a server that writes them */
};

struct runtime {
	const struct config *config;
	char *data, *database_url;
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

/* ---- node numbers (base/id.h) ---- */

/* A number of our own among those who share the database, renewed by a thread of its own. When it is lost, lost() is
 * called once. E_BUSY when all are taken. */
int node_lease_take(struct drive *drive, void (*lost)(void), struct node_lease **out, int64_t *number);
void node_lease_drop(struct node_lease *lease);

/* ---- whose packs ---- */

/* Do these packs belong to this database (server_mark.c)? The first packs that a database meets are its own. */
int mark_check(struct db *db, struct disk *packs, bool *foreign);

/* ---- background work ---- */

/* A thread that does the rounds of drive/job.h, looking every look_s seconds (0: never) which are due, until it is stopped
 * (NULL: nothing to stop). Before the drive and the metrics go. */
struct metrics;
struct worker *worker_start(struct drive *drive, struct metrics *metrics, int look_s);
void worker_stop(struct worker *w);

#endif
