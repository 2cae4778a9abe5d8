/* str: a borrowed run of bytes that carries its length.
 *
 * A str owns nothing; whoever made the bytes (an arena, a buf, a literal, a database row) says how long they live.
 * p == NULL means "absent" (JSON null); an empty string has p != NULL and n == 0. Bytes are not NUL-terminated.
 */
#ifndef SD_BASE_STR_H
#define SD_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *p;
	size_t n;
};

#define STR(literal) ((struct str){("" literal), sizeof(literal) - 1})
#define STR_NULL ((struct str){NULL, 0})
/* For printf's "%.*s". */
#define STR_ARG(s) (int)((s).n > 0x7fffffff ? 0x7fffffff : (s).n), ((s).p ? (s).p : "")

static inline struct str str_c(const char *cstr)
{
	return (struct str){cstr, cstr ? strlen(cstr) : 0};
}

static inline struct str str_n(const void *p, size_t n)
{
	return (struct str){p, n};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

static inline bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n && (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* Bytes [from, s.n); an index past the end yields an empty str. */
static inline struct str str_skip(struct str s, size_t from)
{
	if (from > s.n)
		from = s.n;
	return (struct str){s.p ? s.p + from : NULL, s.n - from};
}

static inline struct str str_head(struct str s, size_t n)
{
	return (struct str){s.p, n < s.n ? n : s.n};
}

/* Byte-wise order, shorter first on a tie. */
int str_cmp(struct str a, struct str b);
/* ASCII case-insensitive equality (header names, schemes). */
bool str_ieq(struct str a, struct str b);
/* Index of the first / last c, or -1. */
ptrdiff_t str_chr(struct str s, char c);
ptrdiff_t str_rchr(struct str s, char c);
struct str str_trim(struct str s);
/* Cuts *rest at the first sep: returns what is before it and moves *rest behind it; at the end *rest becomes STR_NULL. */
struct str str_cut(struct str *rest, char sep);
/* Decimal integers, the whole string, no leading '+' or blanks. False on overflow or any other byte. */
bool str_to_i64(struct str s, int64_t *out);
bool str_to_u64(struct str s, uint64_t *out);
/* Lower-case hex to bytes; s must be exactly 2 * n digits (upper case is accepted too). */
bool str_unhex(struct str s, uint8_t *out, size_t n);
void hex_encode(const uint8_t *in, size_t n, char *out /* 2n bytes, no NUL */);
/* Strict UTF-8 (no surrogates, no overlong forms). */
bool str_is_utf8(struct str s);

#endif
