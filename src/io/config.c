#include "io/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"

#define FILE_MAX_BYTES (1 << 20)
#define LINE_MAX_BYTES 8192

struct setting {
	const char *key;
	enum config_type type;
	const char *dflt;
	int64_t min, max;
	const char *unit;
	bool secret;
	const char *meaning;
};

static const struct setting settings[CFG_COUNT] = {
#define X(symbol, key, type, dflt, min, max, unit, secret, meaning) \
	[symbol] = {key, type, dflt, min, max, unit, secret, meaning},
    CONFIG_TABLE(X)
#undef X
};

static int fault(char **why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fault(char **why, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (why && !*why && vasprintf(why, fmt, ap) < 0)
		*why = NULL;
	va_end(ap);
	return E_USAGE;
}

static int find(struct str key)
{
	for (int i = 0; i < CFG_COUNT; i++)
		if (str_eq(str_c(settings[i].key), key))
			return i;
	return -1;
}

static bool parse_bool(struct str s, int64_t *out)
{
	if (str_ieq(s, STR("true")) || str_ieq(s, STR("yes")) || str_ieq(s, STR("on")) || str_eq(s, STR("1")))
		*out = 1;
	else if (str_ieq(s, STR("false")) || str_ieq(s, STR("no")) || str_ieq(s, STR("off")) || str_eq(s, STR("0")))
		*out = 0;
	else
		return false;
	return true;
}

/* What is wrong with a value of the right type, or NULL. */
static const char *objection(int key, const char *value)
{
	enum log_level level;
	struct str s = str_c(value);
	switch (key) {
	case CFG_LOG_LEVEL:
		return log_level_parse(s, &level) ? NULL : "debug, info, warn or error is expected";
	case CFG_METRICS_ACCESS:
		return str_eq(s, STR("local")) || str_eq(s, STR("all")) || str_eq(s, STR("off"))
		           ? NULL
		           : "local, all or off is expected";
	case CFG_DATABASE_URL:
		return s.n == 0 || str_starts(s, STR("sqlite:")) || str_starts(s, STR("postgresql:")) ||
		               str_starts(s, STR("postgres:"))
		           ? NULL
		           : "sqlite:/path or postgresql://... is expected";
	case CFG_DATA:
	case CFG_AUTH_ISSUER:
	case CFG_LISTEN:
		return s.n ? NULL : "it must not be empty";
	default:
		return NULL;
	}
}

/* place: what to say before the fault: "FILE:LINE", a variable or an option. */
static int assign(struct config *c, int key, const char *value, enum config_source source, int line, const char *place,
                  char **why)
{
	const struct setting *s = &settings[key];
	const char *shown = s->secret ? "the value" : value;
	int64_t i = 0;
	if (s->type == CONFIG_INT && !str_to_i64(str_c(value), &i))
		return fault(why, "%s: %s must be a whole number%s%s, not \"%s\"", place, s->key, *s->unit ? " of " : "",
		             s->unit, shown);
	if (s->type == CONFIG_INT && (i < s->min || i > s->max))
		return fault(why, "%s: %s must be from %lld to %lld %s, not %s", place, s->key, (long long)s->min,
		             (long long)s->max, s->unit, shown);
	if (s->type == CONFIG_BOOL && !parse_bool(str_c(value), &i))
		return fault(why, "%s: %s must be true or false, not \"%s\"", place, s->key, shown);
	const char *bad = objection(key, value);
	if (bad)
		return fault(why, "%s: %s is not valid: %s", place, s->key, bad);
	char *copy = strdup(s->type == CONFIG_BOOL ? (i ? "true" : "false") : value);
	must(copy);
	free(c->values[key].text);
	c->values[key] = (struct config_value){.source = source, .text = copy, .i = i, .line = line};
	return 0;
}

void config_init(struct config *c)
{
	memset(c, 0, sizeof *c);
	for (int i = 0; i < CFG_COUNT; i++)
		must(assign(c, i, settings[i].dflt, CONFIG_DEFAULT, 0, "default", NULL) == 0);
}

void config_fini(struct config *c)
{
	for (int i = 0; i < CFG_COUNT; i++) {
		if (c->values[i].text)
			explicit_bzero(c->values[i].text, strlen(c->values[i].text));
		free(c->values[i].text);
	}
	free(c->file);
	memset(c, 0, sizeof *c);
}

/* inih tells its handler no line numbers, but it reads one line at a time: the reader counts them. */
struct reading {
	struct config *c;
	const char *name;
	struct str rest;
	int line, err;
	char **why;
};

static char *read_line(char *out, int cap, void *arg)
{
	struct reading *r = arg;
	if (r->err || r->rest.p == NULL || r->rest.n == 0 || cap < 2)
		return NULL;
	struct str line = str_cut(&r->rest, '\n');
	r->line++;
	if (line.n > (size_t)cap - 2) {
		r->err = fault(r->why, "%s:%d: the line is too long (at most %d bytes)", r->name, r->line, cap - 2);
		return NULL;
	}
	if (memchr(line.p, 0, line.n)) {
		r->err = fault(r->why, "%s:%d: the line holds a NUL byte", r->name, r->line);
		return NULL;
	}
	memcpy(out, line.p, line.n);
	out[line.n] = '\n';
	out[line.n + 1] = 0;
	return out;
}

static int on_pair(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;
	char key[128], place[512];
	if (r->err)
		return 0;
	snprintf(place, sizeof place, "%s:%d", r->name, r->line);
	int n = snprintf(key, sizeof key, "%s%s%s", section, *section ? "." : "", name);
	int i = n > 0 && (size_t)n < sizeof key ? find(str_c(key)) : -1;
	if (i < 0)
		r->err = fault(r->why, "%s: there is no setting \"%.100s\" (see: scaidrived config)", place, key);
	else
		r->err = assign(r->c, i, value, CONFIG_FROM_FILE, r->line, place, r->why);
	return r->err == 0;
}

int config_ini(struct config *c, const char *name, struct str text, char **why)
{
	struct reading r = {.c = c, .name = name, .rest = text, .why = why};
	ini_use_stack = false; /* a database URL is longer than inih's default line */
	ini_max_line = ini_initial_alloc = LINE_MAX_BYTES;
	ini_allow_multiline = false;
	int bad_line = ini_parse_stream(read_line, &r, on_pair, &r);
	if (r.err)
		return r.err;
	if (bad_line > 0)
		return fault(why, "%s:%d: neither \"[section]\" nor \"name = value\"", name, bad_line);
	return bad_line < 0 ? fault(why, "%s: cannot be parsed", name) : 0;
}

int config_file(struct config *c, const char *path, char **why)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return fault(why, "%s: cannot be read: %s", path, strerror(errno));
	AUTO_FREE char *text = malloc(FILE_MAX_BYTES + 1);
	must(text);
	size_t n = 0;
	for (ssize_t got; n <= FILE_MAX_BYTES; n += (size_t)got) {
		got = read(fd, text + n, FILE_MAX_BYTES + 1 - n);
		if (got < 0 && errno == EINTR)
			got = 0;
		else if (got < 0)
			return fault(why, "%s: cannot be read: %s", path, strerror(errno));
		else if (got == 0)
			break;
	}
	if (n > FILE_MAX_BYTES)
		return fault(why, "%s: is larger than a configuration may be", path);
	int err = config_ini(c, path, str_n(text, n), why);
	explicit_bzero(text, n);
	if (err == 0) {
		free(c->file);
		c->file = strdup(path);
	}
	return err;
}

static void env_name(const char *key, char out[96])
{
	size_t n = (size_t)snprintf(out, 96, "SCAIDRIVE_%s", key);
	must(n < 96);
	for (char *p = out; *p; p++)
		*p = *p == '.' ? '_' : (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
}

/* Whether the name begins like a section of ours: then it is a slip of the pen, not another program's variable. */
static bool in_our_sections(struct str name)
{
	for (int i = 0; i < CFG_COUNT; i++) {
		char ours[96];
		const char *dot = strchr(settings[i].key, '.');
		if (!dot)
			continue;
		env_name(settings[i].key, ours);
		if (str_starts(name, str_n(ours, strlen("SCAIDRIVE_") + (size_t)(dot - settings[i].key) + 1)))
			return true;
	}
	return false;
}

int config_env(struct config *c, char *const *env, char **why)
{
	for (; env && *env; env++) {
		struct str value = str_c(*env);
		if (!str_starts(value, STR("SCAIDRIVE_")))
			continue;
		struct str name = str_cut(&value, '=');
		int found = -1;
		char ours[96];
		for (int i = 0; i < CFG_COUNT && found < 0; i++) {
			env_name(settings[i].key, ours);
			if (str_eq(name, str_c(ours)))
				found = i;
		}
		if (found < 0 && in_our_sections(name))
			return fault(why, "%.*s in the environment: there is no such setting (see: scaidrived config)", STR_ARG(name));
		if (found < 0)
			continue;
		int err = assign(c, found, value.p ? value.p : "", CONFIG_FROM_ENV, 0, ours, why);
		if (err)
			return err;
	}
	return 0;
}

int config_set(struct config *c, const char *key, const char *value, enum config_source source, char **why)
{
	int i = find(str_c(key));
	if (i < 0)
		return fault(why, "there is no setting \"%.100s\" (see: scaidrived config)", key);
	char place[96];
	snprintf(place, sizeof place, source == CONFIG_FROM_FLAG ? "on the command line" : "%s", key);
	return assign(c, i, value, source, 0, place, why);
}

const char *config_text(const struct config *c, enum config_key key)
{
	must(settings[key].type == CONFIG_TEXT);
	return c->values[key].text;
}

int64_t config_int(const struct config *c, enum config_key key)
{
	must(settings[key].type == CONFIG_INT);
	return c->values[key].i;
}

bool config_bool(const struct config *c, enum config_key key)
{
	must(settings[key].type == CONFIG_BOOL);
	return c->values[key].i != 0;
}

static const char *shown(const struct config *c, int key)
{
	return settings[key].secret && *c->values[key].text ? "********" : c->values[key].text;
}

static void put_source(const struct config *c, int key, struct buf *out)
{
	char name[96];
	const struct config_value *v = &c->values[key];
	switch (v->source) {
	case CONFIG_DEFAULT:
		buf_lit(out, "default");
		break;
	case CONFIG_FROM_FILE:
		buf_fmt(out, "%s:%d", c->file ? c->file : "file", v->line);
		break;
	case CONFIG_FROM_ENV:
		env_name(settings[key].key, name);
		buf_fmt(out, "environment, %s", name);
		break;
	case CONFIG_FROM_FLAG:
		buf_lit(out, "command line");
		break;
	}
}

void config_print(const struct config *c, struct buf *out)
{
	for (int i = 0; i < CFG_COUNT; i++) {
		const struct setting *s = &settings[i];
		char name[96];
		env_name(s->key, name);
		buf_fmt(out, "%s = %s\n    %s", s->key, shown(c, i), s->meaning);
		if (s->type == CONFIG_INT)
			buf_fmt(out, " [%lld to %lld %s]", (long long)s->min, (long long)s->max, s->unit);
		buf_lit(out, ".\n    From: ");
		put_source(c, i, out);
		buf_fmt(out, ". Environment: %s\n", name);
	}
}

void config_print_json(const struct config *c, struct buf *out)
{
	buf_char(out, '[');
	for (int i = 0; i < CFG_COUNT; i++) {
		struct buf source = {0};
		put_source(c, i, &source);
		buf_str(out, i ? STR(",\n{\"key\":") : STR("\n{\"key\":"));
		json_put_str(out, str_c(settings[i].key));
		buf_lit(out, ",\"value\":");
		if (settings[i].type == CONFIG_TEXT)
			json_put_str(out, str_c(shown(c, i)));
		else
			buf_str(out, str_c(c->values[i].text));
		buf_lit(out, ",\"source\":");
		json_put_str(out, buf_as_str(&source));
		buf_lit(out, ",\"unit\":");
		json_put_str(out, str_c(settings[i].unit));
		buf_lit(out, ",\"meaning\":");
		json_put_str(out, str_c(settings[i].meaning));
		buf_char(out, '}');
		buf_fini(&source);
	}
	buf_lit(out, "\n]\n");
}
