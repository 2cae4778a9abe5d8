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
    {"trash_days", "SCAIDRIVE_TRASH_DAYS", offsetof(struct settings, trash_days)},
    {"trash_mb", "SCAIDRIVE_TRASH_MB", offsetof(struct settings, trash_mb)},
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

static int whole_number(struct ctx *ctx, const char *key, struct str s, int64_t max, int64_t dflt, int64_t *out)
{
	*out = dflt;
	if (s.p && (!str_to_i64(s, out) || *out < 0 || *out > max))
		return ctx_fail(ctx, E_USAGE, "%s is \"%.*s\"; it must be a whole number from 0 to %lld", key, STR_ARG(s), (long long)max);
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
			return ctx_fail(ctx, E_USAGE, "%s:%d: there is no setting \"%s\"; there are server, ca_file, proxy, device_name, state, trash_days, trash_mb",
			                file, line, r.unknown);
		if (line > 0)
			return ctx_fail(ctx, E_USAGE, "%s:%d: this line is not \"name = value\"", file, line);
	}
	for (int i = 0; i < N_SETTINGS; i++) {
		const char *value = getenv(table[i].variable);
		if (value && *value)
			*field(out, &table[i]) = arena_str(ctx->arena, str_c(value));
	}
	int64_t days = 0, mb = 0;
	int err = whole_number(ctx, "trash_days", out->trash_days, 36500, 30, &days);
	if (!err)
		err = whole_number(ctx, "trash_mb", out->trash_mb, INT64_C(1) << 40, -1, &mb);
	out->keep_days = (int)days;
	out->keep_bytes = mb < 0 ? -1 : mb << 20;
	return err;
}
