#include "base/name.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "base/limits.h"
#include "base/must.h"

const char *name_problem(struct str name)
{
	if (name.n == 0)
		return "a name must not be empty";
	if (name.n > LIMIT_NAME_BYTES)
		return "a name has at most 255 bytes";
	if (str_eq(name, STR(".")) || str_eq(name, STR("..")))
		return "'.' and '..' are not names";
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];
		if (c == '/')
			return "a name must not contain '/'";
		if (c < 32 || c == 127)
			return "a name must not contain control characters";
		if (c == 0xc2 && i + 1 < name.n && (unsigned char)name.p[i + 1] < 0xa0)
			return "a name must not contain control characters"; /* U+0080 to U+009F */
	}
	if (!str_is_utf8(name))
		return "a name must be UTF-8";
	return NULL;
}

static bool is_ascii(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] >= 0x80)
			return false;
	return true;
}

static struct str map(struct arena *a, struct str s, int options)
{
	utf8proc_uint8_t *out = NULL;
	utf8proc_ssize_t n =
	    utf8proc_map((const utf8proc_uint8_t *)s.p, (utf8proc_ssize_t)s.n, &out, (utf8proc_option_t)options);
	if (n < 0)
		return arena_str(a, s);
	struct str r = arena_str(a, str_n(out, (size_t)n));
	free(out);
	return r;
}

struct str name_nfc(struct arena *a, struct str name)
{
	return is_ascii(name) ? arena_str(a, name) : map(a, name, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
}

struct str name_key(struct arena *a, struct str name)
{
	if (!is_ascii(name)) {
		struct str folded = map(a, name, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
		return map(a, folded, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	}
	char *p = arena_cstr(a, name);
	for (size_t i = 0; i < name.n; i++)
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] = (char)(p[i] + 32);
	return str_n(p, name.n);
}

const char *name_unicode_version(void)
{
	return utf8proc_unicode_version();
}

void name_split(struct str name, struct str *stem, struct str *ext)
{
	ptrdiff_t dot = str_rchr(name, '.');
	if (dot <= 0 || (size_t)dot + 1 == name.n)
		dot = (ptrdiff_t)name.n;
	*stem = str_head(name, (size_t)dot);
	*ext = str_skip(name, (size_t)dot);
}

struct str name_cut(struct str s, size_t max)
{
	if (s.n <= max)
		return s;
	while (max > 0 && ((unsigned char)s.p[max] & 0xc0) == 0x80)
		max--;
	return str_head(s, max);
}

struct str name_with_label(struct arena *a, struct str name, struct str label, int attempt)
{
	struct str stem, ext;
	name_split(name, &stem, &ext);
	if (ext.n > LIMIT_NAME_BYTES / 2) { /* not an extension in any useful sense */
		stem = name;
		ext = STR("");
	}
	label = name_cut(label, LIMIT_NAME_BYTES / 2 - 16);
	struct str suffix = attempt > 1 ? arena_fmt(a, " (%.*s %d)", STR_ARG(label), attempt)
	                                : arena_fmt(a, " (%.*s)", STR_ARG(label));
	must(suffix.n + ext.n < LIMIT_NAME_BYTES);
	stem = name_cut(stem, LIMIT_NAME_BYTES - suffix.n - ext.n);
	return arena_fmt(a, "%.*s%.*s%.*s", STR_ARG(stem), STR_ARG(suffix), STR_ARG(ext));
}
