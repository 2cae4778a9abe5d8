/* scaidrive: the sync client and its command line. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/map.h"
#include "base/must.h"
#include "bin/client.h"

static const struct client_command *const commands[] = {&client_login, &client_shares, &client_sync, &client_status,
                                                        &client_conflicts, &client_why, &client_confirm, &client_trash,
                                                        &client_trace};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	(void)number;
	if (stopping)
		_exit(130); /* asked twice: at once; the state is safe at any moment */
	stopping = 1;
}

bool client_stopping(void *unused)
{
	(void)unused;
	return stopping != 0;
}

static void usage(FILE *out)
{
	fprintf(out, "Usage: scaidrive COMMAND [OPTIONS]\n\nCommands:\n");
	for (int i = 0; i < N_COMMANDS; i++) {
		char left[80];
		snprintf(left, sizeof left, "%s %s", commands[i]->name, commands[i]->words);
		fprintf(out, "  %-28s %s\n", left, commands[i]->summary);
	}
	fprintf(out, "  %-28s %s\n", "version", "Print the version");
	fprintf(out,
	        "\nOptions:\n"
	        "  --server URL                 the server, for login\n"
	        "  --email E                    who logs in; the password is asked for, or read with\n"
	        "  --password-stdin               from standard input\n"
	        "  --token T                    log in with a token instead\n"
	        "  --device-name NAME           how others see this device (default: the host's name)\n"
	        "  --once                       sync: one round, then end\n"
	        "  --dry-run                    sync: tell what would be done and why, and do nothing\n"
	        "  --allow-mass-delete          sync: carry out a deletion of more than half, or of 1,000 items\n"
	        "  --all                        conflicts: resolved ones too\n"
	        "  --names                      export-trace: names as they are, not hashed\n"
	        "  --state DIR                  this device's identity and memory (default: ~/.local/state/scaidrive)\n"
	        "  --config FILE                settings: server, ca_file, proxy, device_name, state, trash_days, trash_mb (INI); each also as SCAIDRIVE_*\n"
	        "  --json                       answers for programs, one JSON document or one a line\n"
	        "\nExit status: 0 done, 1 fault, 2 wrong usage, 3 no connection, 4 not logged in, 5 many deletions need to be\n"
	        "confirmed, 6 some items could not be synced.\n");
}

int client_fault(struct client *c, int err)
{
	struct str detail = ctx_detail(&c->ctx, err);
	const struct err_info *info = err_info(err);
	if (c->json) {
		struct buf b = {0};
		buf_lit(&b, "{\"error\":{\"code\":");
		json_put_str(&b, str_c(info->code));
		buf_lit(&b, ",\"message\":");
		json_put_str(&b, detail);
		buf_lit(&b, "}}\n");
		fwrite(b.p, 1, b.n, stderr);
		buf_fini(&b);
	} else {
		fprintf(stderr, "scaidrive: %.*s\n", STR_ARG(detail));
	}
	switch (err) {
	case E_USAGE:
		return EXIT_USAGE;
	case E_NETWORK:
	case E_TIMEOUT:
		return EXIT_NETWORK;
	case E_UNAUTHENTICATED:
	case E_LOGIN_FAILED:
	case E_SUSPENDED:
		return EXIT_LOGIN;
	default:
		return EXIT_FAULT;
	}
}

void client_pause_ms(void *unused, int ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	(void)unused;
	nanosleep(&t, NULL);
}

static void tell_waiting(void *arg, struct ctx *ctx, int seconds)
{
	(void)ctx;
	if (!((struct client *)arg)->json)
		fprintf(stderr, "scaidrive: The server's rate limit is reached; going on in %d s.\n", seconds);
}

int client_connect(struct client *c, bool need_login)
{
	struct str server = c->server ? str_c(c->server) : c->state.server.p ? c->state.server : c->settings.server;
	if (!server.p)
		return ctx_fail(&c->ctx, E_UNAUTHENTICATED,
		                "not logged in; run: scaidrive login --server URL --email YOU (with the same --state)");
	if (need_login && !c->state.token.p)
		return ctx_fail(&c->ctx, E_UNAUTHENTICATED, "not logged in; run: scaidrive login --server %.*s --email YOU",
		                STR_ARG(server));
	struct http_client_config config = {
	    .base_url = arena_cstr(&c->arena, server),
	    .ca_file = c->settings.ca_file.p ? arena_cstr(&c->arena, c->settings.ca_file) : NULL,
	    .proxy = c->settings.proxy.p ? arena_cstr(&c->arena, c->settings.proxy) : NULL,
	    .user_agent = "scaidrive/" SD_VERSION,
	    .cancelled = client_stopping,
	};
	int err = http_client_new(&c->ctx, &config, &c->http);
	if (err)
		return err;
	patience_init(&c->patience);
	c->patience.pause = client_pause_ms;
	c->patience.stopping = client_stopping;
	c->patience.tell = tell_waiting;
	c->patience.arg = c;
	c->remote = (struct remote){.http = c->http, .patience = &c->patience.face, .token = c->state.token, .device_id = c->state.device_id};
	if (c->state.token.p && str_eq(server, c->state.server)) { /* a refresh token goes to no other server */
		session_init(&c->session, &c->state, c->http);
		c->remote.session = &c->session.face;
	}
	return 0;
}

enum { OPT_SERVER = 256, OPT_EMAIL, OPT_PASSWORD_STDIN, OPT_TOKEN, OPT_DEVICE_NAME, OPT_ONCE, OPT_MASS, OPT_ALL, OPT_DRY_RUN, OPT_NAMES, OPT_STATE,
       OPT_CONFIG, OPT_JSON, OPT_HELP, OPT_VERSION };

static int parse(struct client *c, int argc, char **argv)
{
	static const struct option options[] = {
	    {"server", required_argument, NULL, OPT_SERVER}, {"email", required_argument, NULL, OPT_EMAIL},
	    {"password-stdin", no_argument, NULL, OPT_PASSWORD_STDIN}, {"token", required_argument, NULL, OPT_TOKEN},
	    {"device-name", required_argument, NULL, OPT_DEVICE_NAME}, {"once", no_argument, NULL, OPT_ONCE},
	    {"allow-mass-delete", no_argument, NULL, OPT_MASS}, {"all", no_argument, NULL, OPT_ALL},
	    {"state", required_argument, NULL, OPT_STATE}, {"config", required_argument, NULL, OPT_CONFIG},
	    {"dry-run", no_argument, NULL, OPT_DRY_RUN}, {"names", no_argument, NULL, OPT_NAMES},
	    {"json", no_argument, NULL, OPT_JSON}, {"help", no_argument, NULL, OPT_HELP},
	    {"version", no_argument, NULL, OPT_VERSION}, {0},
	};
	for (int o; (o = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
		switch (o) {
		case OPT_SERVER: c->server = optarg; break;
		case OPT_EMAIL: c->email = optarg; break;
		case OPT_PASSWORD_STDIN: c->password_stdin = true; break;
		case OPT_TOKEN: c->token = optarg; break;
		case OPT_DEVICE_NAME: c->device_name = optarg; break;
		case OPT_ONCE: c->once = true; break;
		case OPT_MASS: c->allow_mass_delete = true; break;
		case OPT_ALL: c->all = true; break;
		case OPT_DRY_RUN: c->dry_run = true; break;
		case OPT_NAMES: c->names = true; break;
		case OPT_STATE: c->state_dir = optarg; break;
		case OPT_CONFIG: c->config = optarg; break;
		case OPT_JSON: c->json = true; break;
		case OPT_VERSION: c->version = true; break;
		case 'h':
		case OPT_HELP: c->help = true; break;
		default: return EXIT_USAGE; /* getopt has said why */
		}
	}
	for (; optind < argc; optind++) {
		if (c->n_words == 4)
			return ctx_fail(&c->ctx, E_USAGE, "too many arguments (see: scaidrive --help)"), client_fault(c, E_USAGE);
		c->words[c->n_words++] = argv[optind];
	}
	return EXIT_OK;
}

static int prepare(struct client *c)
{
	int err = settings_read(&c->ctx, c->config, &c->settings);
	if (err)
		return err;
	if (c->device_name)
		c->settings.device_name = str_c(c->device_name);
	const char *dir = c->state_dir;
	if (!dir && c->settings.state.p)
		dir = arena_cstr(&c->arena, c->settings.state);
	if (!dir)
		dir = arena_cstr(&c->arena, state_default_dir(&c->arena));
	err = state_open(&c->ctx, dir, &c->state);
	c->state_is_open = !err;
	if (!err && c->settings.device_name.p && !str_eq(c->state.device_name, c->settings.device_name)) {
		AUTO_FD int lock = -1;
		err = state_lock(&c->ctx, &c->state, &lock);
		if (!err)
			err = state_reload(&c->ctx, &c->state);
		c->state.device_name = arena_str(&c->state.arena, c->settings.device_name);
		if (!err)
			err = state_save(&c->ctx, &c->state);
	}
	return err;
}

static int run(struct client *c)
{
	if (c->version || (c->n_words && strcmp(c->words[0], "version") == 0)) {
		printf(c->json ? "{\"version\":\"%s\"}\n" : "scaidrive %s\n", SD_VERSION);
		return EXIT_OK;
	}
	if (c->help || c->n_words == 0) {
		usage(c->help ? stdout : stderr);
		return c->help ? EXIT_OK : EXIT_USAGE;
	}
	for (int i = 0; i < N_COMMANDS; i++) {
		if (strcmp(commands[i]->name, c->words[0]) != 0)
			continue;
		if (c->n_words - 1 < commands[i]->min_words || c->n_words - 1 > commands[i]->max_words) {
			ctx_fail(&c->ctx, E_USAGE, "usage: scaidrive %s %s (see: scaidrive --help)", commands[i]->name, commands[i]->words);
			return client_fault(c, E_USAGE);
		}
		int err = prepare(c);
		return err ? client_fault(c, err) : commands[i]->run(c);
	}
	ctx_fail(&c->ctx, E_USAGE, "there is no command \"%s\" (see: scaidrive --help)", c->words[0]);
	return client_fault(c, E_USAGE);
}

int main(int argc, char **argv)
{
	struct client c = {0};
	terminal_guard();
	map_draw_secret(&rng_system);
	arena_init(&c.arena);
	ctx_init(&c.ctx, &c.arena, &clock_system, &rng_system);
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	int status = parse(&c, argc, argv);
	if (status == EXIT_OK)
		status = run(&c);
	if (c.session.face.token)
		session_fini(&c.session);
	if (c.http) {
		patience_fini(&c.patience);
		http_client_free(c.http);
	}
	if (c.state_is_open)
		state_close(&c.state);
	arena_fini(&c.arena);
	return status;
}
