/* scaidrive login: remembers a server and a token for this device. */
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "bin/client.h"

/* One line from standard input; from a terminal without showing it. The caller wipes and frees it. */
static char *read_password(bool from_stdin)
{
	struct termios before, silent;
	bool terminal = !from_stdin && isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
	if (terminal) {
		fputs("Password: ", stderr);
		silent = before;
		silent.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
	}
	char *line = NULL;
	size_t cap = 0;
	ssize_t n = getline(&line, &cap, stdin);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		fputc('\n', stderr);
	}
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		line[--n] = 0;
	if (n <= 0) {
		free(line);
		return NULL;
	}
	return line;
}

static int by_password(struct client *c, struct remote_grant *out)
{
	if (!c->email)
		return ctx_fail(&c->ctx, E_USAGE, "who logs in? Give --email E (and the password), or --token T");
	char *password = read_password(c->password_stdin);
	if (!password)
		return ctx_fail(&c->ctx, E_USAGE, "no password was given");
	int err = remote_login(&c->ctx, &c->remote, str_c(c->email), str_c(password), out);
	explicit_bzero(password, strlen(password));
	free(password);
	return err;
}

static int login(struct client *c)
{
	struct remote_grant grant = {0};
	AUTO_FD int lock = -1;
	if (!c->server && !c->settings.server.p && !c->state.server.p) {
		ctx_fail(&c->ctx, E_USAGE, "which server? Give --server URL");
		return client_fault(c, E_USAGE);
	}
	int err = client_connect(c, false);
	if (!err && c->token)
		grant.access_token = str_c(c->token);
	else if (!err)
		err = by_password(c, &grant);
	if (!err) {
		/* Registering proves the token before it is kept. */
		c->remote.session = NULL;
		c->remote.token = grant.access_token;
		err = remote_register(&c->ctx, &c->remote, c->state.device_name);
	}
	if (!err)
		err = state_lock(&c->ctx, &c->state, &lock);
	if (!err) {
		struct arena *a = &c->state.arena;
		struct str server = c->server ? str_c(c->server) : c->state.server.p ? c->state.server : c->settings.server;
		c->state.server = arena_str(a, server);
		session_keep(&c->ctx, &c->state, &grant);
		if (c->email)
			c->state.email = arena_str(a, str_c(c->email));
		err = state_save(&c->ctx, &c->state);
	}
	if (err)
		return client_fault(c, err);
	if (c->json)
		printf("{\"server\":\"%.*s\",\"device_id\":\"%.*s\"}\n", STR_ARG(c->state.server), STR_ARG(c->state.device_id));
	else
		printf("Logged in to %.*s as device \"%.*s\".\n", STR_ARG(c->state.server), STR_ARG(c->state.device_name));
	return EXIT_OK;
}

const struct client_command client_login = {"login", "", "Log in to a server and register this device", 0, 0, login};
