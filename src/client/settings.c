#include "client/settings.h"

#include <ini.h>
#include <stddef.h>
#include <stdlib.h>

static const struct setting {
	const char *key, *variable;
	size_t at;
} table[] = {
    {"server", "SCAIDRIVE_SERVER", offsetof(struct settings, server)},
    {"ca_file", "SCAIDRIVE_CA_FILE", offsetof(struct settings, ca_file)},
    {"proxy", "SCAIDRIVE_PROXY", offsetof(struct settings, proxy)},
    {"device_name", "SCAIDRIVE_DEVICE_NAME", offsetof(struct settings, device_name)},
    {"state", "SCAIDRIVE_STATE", offsetof(struct settings, state)},
};
enum { N_SETTINGS = sizeof table / sizeof *table };

struct reading {
	struct ctx *ctx;
	struct settings *out;
	const char *unknown;
};

static struct str *field(struct settings *s, const struct setting *t)
{
	return (struct str *)(void *)((char *)s + t->at);
}

static int on_line(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;
	for (int i = 0; i < N_SETTINGS && section[0] == 0; i++)
		if (strcmp(table[i].key, name) == 0) {
			*field(r->out, &table[i]) = arena_str(r->ctx->arena, str_c(value));
			return 1;
		}
	r->unknown = arena_cstr(r->ctx->arena, str_c(name));
	return 0;
}

int settings_read(struct ctx *ctx, const char *file, struct settings *out)
{
	*out = (struct settings){0};
	if (file) {
		struct reading r = {ctx, out, NULL};
		int line = ini_parse(file, on_line, &r);
		if (line < 0)
			return ctx_fail(ctx, E_USAGE, "%s cannot be read", file);
		if (r.unknown)
			return ctx_fail(ctx, E_USAGE, "%s:%d: there is no setting \"%s\"; there are server, ca_file, proxy, device_name, state",
			                file, line, r.unknown);
		if (line > 0)
			return ctx_fail(ctx, E_USAGE, "%s:%d: this line is not \"name = value\"", file, line);
	}
	for (int i = 0; i < N_SETTINGS; i++) {
		const char *value = getenv(table[i].variable);
		if (value && *value)
			*field(out, &table[i]) = arena_str(ctx->arena, str_c(value));
	}
	return 0;
}
