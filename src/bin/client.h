/* client: what the subcommands of scaidrive share. */
#ifndef SD_BIN_CLIENT_H
#define SD_BIN_CLIENT_H

#include <stdio.h>

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
	/* options */
	bool json, once, allow_mass_delete, all, password_stdin, version, help;
	const char *config, *state_dir, *server, *email, *token, *device_name;
	const char *words[4]; /* what is not an option */
	int n_words;
};

struct client_command {
	const char *name, *words, *summary;
	int min_words, max_words;
	int (*run)(struct client *c); /* an exit code */
};

extern const struct client_command client_login, client_shares, client_sync, client_status, client_conflicts;

/* Makes the HTTP client for the server of the state (or --server). E_UNAUTHENTICATED when nobody is logged in. */
int client_connect(struct client *c, bool need_login);
/* Prints the sentence of err to stderr (with --json an object) and returns the exit code for it. */
int client_fault(struct client *c, int err);
/* Set by SIGINT and SIGTERM. */
bool client_stopping(void *unused);

#endif
