/* scaidrived: the server and its tools, as subcommands. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "bin/server.h"

static const struct command *const commands[] = {
    &cmd_serve,         &cmd_init,         &cmd_token,       &cmd_user_add,   &cmd_user_list,
    &cmd_user_password, &cmd_user_suspend, &cmd_user_activate, &cmd_tenant_add, &cmd_tenant_list,
    &cmd_keys_rotate,   &cmd_config,       &cmd_migrate,     &cmd_fsck,        &cmd_collect,     &cmd_jobs_run,
    &cmd_jobs,          &cmd_policy_show,  &cmd_policy_set,  &cmd_backup_list, &cmd_backup_verify,
    &cmd_backup,        &cmd_restore,      &cmd_export,      &cmd_import,      &cmd_version,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static const struct option_spec common[] = {
    {"config", "FILE", "Settings from an INI file", NULL},
    {"data", "DIR", "Folder of the server's data", "data"},
    {"set", "KEY=VALUE", "Any setting (see: scaidrived config)", NULL},
    {"help", NULL, "This text", NULL},
    {0},
};

static void overview(FILE *out)
{
	fprintf(out, "Usage: scaidrived COMMAND [OPTIONS]\n\nCommands:\n");
	for (int i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-15s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "\nscaidrived COMMAND --help lists a command's options. Settings come from --config FILE, then from\n"
	             "SCAIDRIVE_* variables, then from options; scaidrived config prints them all with their meaning.\n");
}

static void print_options(const struct option_spec *o)
{
	for (; o->name; o++) {
		char left[64];
		snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
		printf("  %-28s %s\n", left, o->meaning);
	}
}

static void help(const struct command *c)
{
	printf("Usage: scaidrived %s%s%s [OPTIONS]\n\n%s.\n\nOptions:\n", c->name, c->operands ? " " : "",
	       c->operands ? c->operands : "", c->summary);
	print_options(c->options);
	print_options(common);
}

int usage_fault(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fputs("scaidrived: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return 2;
}

const char *arg(const struct args *args, const char *name)
{
	for (int i = args->n - 1; i >= 0; i--)
		if (strcmp(args->items[i].spec->name, name) == 0)
			return args->items[i].value;
	return NULL;
}

struct str arg_str(const struct args *args, const char *name)
{
	return str_c(arg(args, name));
}

char *arg_secret(const struct args *args, const char *name, const char *variable)
{
	char from_stdin[64];
	const char *value = arg(args, name);
	snprintf(from_stdin, sizeof from_stdin, "%s-stdin", name);
	if (!value && arg(args, from_stdin)) {
		char *line = NULL;
		size_t cap = 0;
		ssize_t n = getline(&line, &cap, stdin);
		if (n < 0) {
			free(line);
			return NULL;
		}
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
			line[--n] = 0;
		return line;
	}
	if (!value)
		value = getenv(variable);
	return value ? strdup(value) : NULL;
}

static const struct option_spec *find_option(const struct command *c, struct str name)
{
	const struct option_spec *lists[] = {c->options, common};
	for (int l = 0; l < 2; l++)
		for (const struct option_spec *o = lists[l]; o->name; o++)
			if (str_eq(str_c(o->name), name))
				return o;
	return NULL;
}

static int operands_of(const struct command *c)
{
	int n = c->operands != NULL;
	for (const char *p = c->operands; p && *p; p++)
		n += *p == ' ';
	return n;
}

/* --name VALUE, --name=VALUE or --flag, and the operands anywhere between. 0 or an exit code. */
static int parse(int argc, char **argv, struct args *args)
{
	int wanted = operands_of(args->command);
	int most = str_ends(str_c(args->command->operands), STR("...")) ? ARGS_MAX : wanted;
	for (int i = 0; i < argc; i++) {
		struct str rest = str_c(argv[i]);
		if (!str_starts(rest, STR("-")) && args->n_operands < most) {
			args->operands[args->n_operands++] = argv[i];
			continue;
		}
		if (!str_starts(rest, STR("--")) || rest.n == 2)
			return usage_fault("%s: unexpected argument \"%s\" (see: scaidrived %s --help)", args->command->name, argv[i],
			                   args->command->name);
		rest = str_skip(rest, 2);
		bool has_value = str_chr(rest, '=') >= 0;
		struct str name = str_cut(&rest, '=');
		const struct option_spec *o = find_option(args->command, name);
		if (!o)
			return usage_fault("%s: there is no option --%.*s (see: scaidrived %s --help)", args->command->name,
			                   STR_ARG(name), args->command->name);
		if (!o->value && has_value)
			return usage_fault("--%s takes no value", o->name);
		if (o->value && !has_value && ++i >= argc)
			return usage_fault("--%s needs a value: %s", o->name, o->value);
		if (args->n == ARGS_MAX)
			return usage_fault("too many options");
		args->items[args->n].spec = o;
		args->items[args->n++].value = !o->value ? "" : has_value ? rest.p : argv[i];
	}
	if (args->n_operands < wanted && !arg(args, "help"))
		return usage_fault("%s needs %s (see: scaidrived %s --help)", args->command->name, args->command->operands,
		                   args->command->name);
	return 0;
}

static int set_one(struct config *c, const char *text, char **why)
{
	char key[96];
	const char *eq = strchr(text, '=');
	if (!eq || (size_t)(eq - text) >= sizeof key)
		return usage_fault("--set needs KEY=VALUE, not \"%s\"", text);
	memcpy(key, text, (size_t)(eq - text));
	key[eq - text] = 0;
	return config_set(c, key, eq + 1, CONFIG_FROM_FLAG, why);
}

static int configure(struct args *args)
{
	char *why = NULL;
	const char *file = arg(args, "config");
	if (!file)
		file = getenv("SCAIDRIVE_CONFIG");
	int err = file && *file ? config_file(&args->config, file, &why) : 0;
	if (!err)
		err = config_env(&args->config, environ, &why);
	for (int i = 0; i < args->n && !err; i++) {
		if (args->items[i].spec->key)
			err = config_set(&args->config, args->items[i].spec->key, args->items[i].value, CONFIG_FROM_FLAG, &why);
		else if (strcmp(args->items[i].spec->name, "set") == 0)
			err = set_one(&args->config, args->items[i].value, &why);
	}
	if (err && why)
		usage_fault("%s", why);
	free(why);
	return err ? 2 : 0;
}

int main(int argc, char **argv)
{
	const struct command *c = NULL;
	int skip = 0;
	map_draw_secret(&rng_system);
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
		overview(stdout);
		return 0;
	}
	for (int i = 0; i < N_COMMANDS && argc >= 2 && !c; i++) {
		char two[128];
		snprintf(two, sizeof two, "%s %s", argv[1], argc >= 3 ? argv[2] : "");
		if (strcmp(commands[i]->name, argv[1]) == 0 || strcmp(commands[i]->name, two) == 0) {
			c = commands[i];
			skip = strchr(c->name, ' ') ? 3 : 2;
		}
	}
	if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
		c = &cmd_version;
		skip = argc;
	}
	if (!c) {
		if (argc >= 2)
			usage_fault("there is no command \"%s\"\n", argv[1]);
		overview(stderr);
		return 2;
	}
	struct args args = {.command = c};
	config_init(&args.config);
	int code = parse(argc - skip, argv + skip, &args);
	if (code == 0 && arg(&args, "help"))
		help(c);
	else if (code == 0 && (code = configure(&args)) == 0)
		code = c->run(&args);
	config_fini(&args.config);
	return code;
}
