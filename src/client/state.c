#include "client/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/must.h"

enum { FILE_MAX = 64 << 10 };

struct str state_uuid(struct arena *a, struct rng *rng)
{
	uint8_t b[16];
	char hex[32];
	rng->fill(rng, b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	hex_encode(b, sizeof(b), hex);
	return arena_fmt(a, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

struct str state_default_dir(struct arena *a)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	if (xdg && *xdg == '/')
		return arena_fmt(a, "%s/scaidrive", xdg);
	return arena_fmt(a, "%s/.local/state/scaidrive", home && *home ? home : ".");
}

struct str state_root_file(struct arena *a, const struct state *s, struct str share, struct str path)
{
	return arena_fmt(a, "%s/roots/%.*s-%016llx.db", s->dir, STR_ARG(share), (unsigned long long)xxh3_64(path.p, path.n));
}

static int fail_errno(struct ctx *ctx, const char *what, const char *path)
{
	int saved = errno;
	char text[128];
	return ctx_fail(ctx, err_from_errno(saved), "cannot %s %s: %s", what, path, strerror_r(saved, text, sizeof(text)));
}

/* mkdir -p */
static int make_path(struct ctx *ctx, const char *path)
{
	char *p = arena_cstr(ctx->arena, str_c(path));
	for (char *slash = p + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
		*slash = 0;
		if (mkdir(p, 0700) && errno != EEXIST && errno != EISDIR)
			return fail_errno(ctx, "create", p);
		*slash = '/';
	}
	return mkdir(p, 0700) && errno != EEXIST ? fail_errno(ctx, "create", p) : 0;
}

static struct str take(struct state *s, struct json_object *doc, const char *key)
{
	return arena_str(&s->arena, json_str(doc, key));
}

/* The old string stays when it says the same: the file is read again and again. */
static void take_again(struct state *s, struct json_object *doc, const char *key, struct str *field)
{
	struct str value = json_str(doc, key);
	if (!value.p || !value.n)
		*field = STR_NULL;
	else if (!str_eq(*field, value))
		*field = take(s, doc, key);
}

static int load(struct ctx *ctx, struct state *s, bool *missing)
{
	AUTO_JSON *doc = NULL;
	struct str path = arena_fmt(ctx->arena, "%s/device.json", s->dir);
	AUTO_FD int fd = open(path.p, O_RDONLY | O_CLOEXEC);
	*missing = fd < 0 && errno == ENOENT;
	if (*missing)
		return 0;
	char *text = arena_alloc(ctx->arena, FILE_MAX);
	ssize_t n = fd < 0 ? -1 : read(fd, text, FILE_MAX);
	if (n < 0)
		return fail_errno(ctx, "read", path.p);
	if (json_parse(str_n(text, (size_t)n), &doc) || !json_str(doc, "device_id").n)
		return ctx_fail(ctx, E_CORRUPT, "%s is damaged. Restore it from a backup, or move it away and run `scaidrive login` again.", path.p);
	take_again(s, doc, "device_id", &s->device_id);
	take_again(s, doc, "device_name", &s->device_name);
	take_again(s, doc, "server", &s->server);
	take_again(s, doc, "token", &s->token);
	take_again(s, doc, "refresh_token", &s->refresh_token);
	take_again(s, doc, "email", &s->email);
	s->renew_at_us = json_i64(doc, "renew_at_us", 0);
	explicit_bzero(text, (size_t)n);
	return 0;
}

int state_save(struct ctx *ctx, struct state *s)
{
	struct buf b = {0};
	struct str path = arena_fmt(ctx->arena, "%s/device.json", s->dir), temp = arena_fmt(ctx->arena, "%s.new", path.p);
	const struct {
		const char *key;
		struct str value;
	} fields[] = {{"device_id", s->device_id}, {"device_name", s->device_name}, {"server", s->server},
	              {"token", s->token},         {"refresh_token", s->refresh_token},
	              {"email", s->email}};
	buf_char(&b, '{');
	bool first = true;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		json_put_key(&b, &first, str_c(fields[i].key));
		json_put_str(&b, fields[i].value);
	}
	buf_fmt(&b, ",\"renew_at_us\":%lld}\n", (long long)s->renew_at_us);
	AUTO_FD int fd = open(temp.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	AUTO_FD int dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = 0;
	if (fd < 0 || dir < 0 || fchmod(fd, 0600) || write(fd, b.p, b.n) != (ssize_t)b.n || fsync(fd) ||
	    rename(temp.p, path.p) || fsync(dir))
		err = fail_errno(ctx, "write", path.p);
	explicit_bzero(b.p, b.n);
	buf_fini(&b);
	return err;
}

int state_lock(struct ctx *ctx, const struct state *s, int *fd)
{
	struct str path = arena_fmt(ctx->arena, "%s/device.lock", s->dir);
	*fd = open(path.p, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int done = *fd < 0 ? -1 : flock(*fd, LOCK_EX);
	while (done && *fd >= 0 && errno == EINTR)
		done = flock(*fd, LOCK_EX);
	return done ? fail_errno(ctx, "lock", path.p) : 0;
}

int state_reload(struct ctx *ctx, struct state *s)
{
	bool missing;
	return load(ctx, s, &missing);
}

int state_open(struct ctx *ctx, const char *dir, struct state *out)
{
	*out = (struct state){.dir = strdup(dir)};
	must(out->dir != NULL);
	arena_init(&out->arena);
	bool missing = false;
	AUTO_FD int lock = -1;
	int err = make_path(ctx, arena_fmt(ctx->arena, "%s/roots", dir).p);
	if (!err)
		err = state_lock(ctx, out, &lock);
	if (!err)
		err = load(ctx, out, &missing);
	if (!err && missing) {
		char host[256] = "";
		gethostname(host, sizeof(host) - 1);
		out->device_id = state_uuid(&out->arena, ctx->rng);
		out->device_name = arena_str(&out->arena, *host ? str_c(host) : STR("Linux"));
		err = state_save(ctx, out);
	}
	if (err)
		state_close(out);
	return err;
}

void state_close(struct state *s)
{
	free(s->dir);
	arena_fini(&s->arena);
	*s = (struct state){0};
}
