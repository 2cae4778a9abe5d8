#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *b)
{
	*b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
	free(b->p);
	*b = (struct buf){0};
}

void buf_reserve(struct buf *b, size_t n)
{
	size_t need;
	must(!__builtin_add_overflow(b->n, n, &need));
	if (need <= b->cap)
		return;
	size_t cap = b->cap < 128 ? 256 : b->cap * 2;
	if (cap < need)
		cap = need;
	char *p = realloc(b->p, cap);
	must(p != NULL);
	b->p = p;
	b->cap = cap;
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	size_t room = b->cap - b->n;
	int n = vsnprintf(room ? b->p + b->n : NULL, room, fmt, again);
	va_end(again);
	must(n >= 0);
	if ((size_t)n >= room) {
		buf_reserve(b, (size_t)n + 1);
		vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
	}
	va_end(ap);
	b->n += (size_t)n;
}

struct str u64_digits(uint64_t v, char room[U64_DIGITS])
{
	char *end = room + U64_DIGITS, *p = end;
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	return str_n(p, (size_t)(end - p));
}

void buf_u64(struct buf *b, uint64_t v)
{
	char tmp[U64_DIGITS];
	struct str digits = u64_digits(v, tmp);
	buf_put(b, digits.p, digits.n);
}

void buf_i64(struct buf *b, int64_t v)
{
	if (v < 0)
		buf_char(b, '-');
	buf_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void buf_varint(struct buf *b, uint64_t v)
{
	while (v >= 0x80) {
		buf_char(b, (char)(v | 0x80));
		v >>= 7;
	}
	buf_char(b, (char)v);
}

bool varint_read(struct str *in, uint64_t *out)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64 && in->n; shift += 7) {
		uint8_t byte = (uint8_t)in->p[0];
		in->p++;
		in->n--;
		if (shift == 63 && (byte & 0x7e))
			return false;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*out = v;
			return true;
		}
	}
	return false;
}
