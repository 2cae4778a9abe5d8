/* client: what the subcommands of scaidrive share. */
#ifndef SD_BIN_CLIENT_H
#define SD_BIN_CLIENT_H

#include <stdio.h>

#include "client/patience.h"
#include "client/replica.h"
#include "client/session.h"
#include "client/settings.h"
#include "client/state.h"

/* Exit codes. */
enum {
	EXIT_OK = 0,
	EXIT_FAULT = 1,    /* something went wrong; the sentence says what */
	EXIT_USAGE = 2,    /* the command line is wrong */
	EXIT_NETWORK = 3,  /* the server cannot be reached */
	EXIT_LOGIN = 4,    /* not logged in, or the login is no longer valid */
	EXIT_GUARD = 5,    /* many deletions: stopped and asks */
	EXIT_PROBLEMS = 6, /* a round was done, but some items could not be synced */
};

struct client {
	struct arena arena;
	struct ctx ctx;
	struct settings settings;
	struct state state;
	bool state_is_open;
	struct http_client *http; /* NULL until client_connect */
	struct remote remote;
	struct session session; /* with http, when somebody is logged in */
	struct patience patience; /* with http; a command may tell more of it */
	/* options */
	bool json, once, dry_run, allow_mass_delete, all, names, password_stdin, version, help;
	const char *config, *state_dir, *server, *email, *token, *device_name;
	const char *words[4]; /* what is not an option */
	int n_words;
};

struct client_command {
	const char *name, *words, *summary;
	int min_words, max_words;
	int (*run)(struct client *c); /* an exit code */
};

extern const struct client_command client_login, client_shares, client_sync, client_status, client_conflicts, client_why,
    client_trash, client_confirm, client_trace;

/* ---- folders and shares (cmd_folders.c) ---- */

/* The absolute path of something whose last names, at most missing_max of them, need not exist. E_USAGE otherwise. */
int client_real_path(struct client *c, const char *word, int missing_max, struct str *out);
/* The memory of each folder that was ever synced; fn returns whether it wants more. */
typedef bool client_folder_fn(void *arg, struct replica *r, const char *file);
int client_each_folder(struct client *c, client_folder_fn *fn, void *arg);
/* The synced folder that a path, which need not exist, lies in. E_USAGE: none. */
struct client_folder {
	const char *file; /* of its memory */
	struct str path;  /* its root, absolute */
	struct str below; /* the path below it; "": the root itself */
};
int client_folder_of(struct client *c, const char *word, struct client_folder *out);
const char *client_journal_file(struct client *c, const char *replica_file);
/* The share of this id or name; asks the server. */
int client_find_share(struct client *c, const char *word, struct str *id, struct str *name);
/* As a folder's marker names it. */
struct str client_server_url(const struct client *c);
/* The word that `confirm` left, which is used up by this: which deletions it is for (guard.h). False: there is none. */
bool client_take_word(struct client *c, const char *replica_file, int64_t *which);
/* Notes beside the folder's memory, for `status`, that its sync waits for the server's rate limit; from any thread. */
void client_note_waiting(struct ctx *ctx, const char *replica_file, int64_t until_us);
/* Waits, as struct patience and struct agent want it. */
void client_pause_ms(void *unused, int ms);
/* sync --dry-run */
int client_look(struct client *c);

/* Makes the HTTP client for the server of the state (or --server). E_UNAUTHENTICATED when nobody is logged in. */
int client_connect(struct client *c, bool need_login);
/* Prints the sentence of err to stderr (with --json an object) and returns the exit code for it. */
int client_fault(struct client *c, int err);
/* Where stdout or stderr is a terminal: prints no control characters but line ends and tabs (terminal.c). */
void terminal_guard(void);
/* The line that is being rewritten on stderr. */
void terminal_clear_line(void);
/* Set by SIGINT and SIGTERM. */
bool client_stopping(void *unused);

#endif
