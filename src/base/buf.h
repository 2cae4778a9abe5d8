/* buf: a growing run of bytes on the heap, for output whose size is not known. Zero-initialise or buf_init. */
#ifndef SD_BASE_BUF_H
#define SD_BASE_BUF_H

#include "base/must.h"
#include "base/str.h"

struct buf {
	char *p;
	size_t n, cap;
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b);
/* Makes room for n more bytes (the capacity at least doubles). */
void buf_reserve(struct buf *b, size_t n);
void buf_fmt(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* v in decimal, at the end of the room. */
enum { U64_DIGITS = 20 };
struct str u64_digits(uint64_t v, char room[U64_DIGITS]);
void buf_u64(struct buf *b, uint64_t v);
void buf_i64(struct buf *b, int64_t v);

static inline void buf_clear(struct buf *b)
{
	b->n = 0;
}

static inline void buf_put(struct buf *b, const void *p, size_t n)
{
	if (b->cap - b->n < n)
		buf_reserve(b, n);
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
}

static inline void buf_str(struct buf *b, struct str s)
{
	buf_put(b, s.p, s.n);
}

static inline void buf_char(struct buf *b, char c)
{
	buf_put(b, &c, 1);
}

#define buf_lit(b, literal) buf_put((b), ("" literal), sizeof(literal) - 1)

static inline struct str buf_as_str(const struct buf *b)
{
	return (struct str){b->p ? b->p : "", b->n};
}

/* Little-endian base-128 varints, at most 10 bytes each. */
void buf_varint(struct buf *b, uint64_t v);
/* Reads one varint from *in and moves it on. False when cut off or above 64 bits. */
bool varint_read(struct str *in, uint64_t *out);

/* Little-endian numbers of n <= 8 bytes. */
static inline void put_le(void *to, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)to)[i] = (uint8_t)(v >> (8 * i));
}

static inline uint64_t get_le(const void *from, size_t n)
{
	uint64_t v = 0;
	for (size_t i = n; i-- > 0;)
		v = v << 8 | ((const uint8_t *)from)[i];
	return v;
}

static inline void buf_le(struct buf *b, uint64_t v, size_t n)
{
	uint8_t bytes[8];
	put_le(bytes, v, n);
	buf_put(b, bytes, n);
}

static inline uint64_t zigzag(int64_t v)
{
	return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t unzigzag(uint64_t v)
{
	return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#endif
