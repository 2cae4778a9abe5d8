/* The matching is that of rsync (Tridgell and Mackerras, TR-CS-96-05, 1996): the rolling hash of the bytes at each position is
 * looked up; where it is known, the strong one decides. A match is followed block by block without rolling, and so takes in
 * the short block at a chunk's end, too. */
#include "chunks/patch.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/must.h"

enum { LITERAL = 1, COPY = 2, LITERAL_HEAD = 1 + 4, COPY_BYTES = 1 + 2 + 4 + 4 + 4, BLOCK_BYTES = 4 + 8, PROBES_MAX = 16 };

#define FACTOR UINT32_C(0xc2b2ae3d)

/* ---- signatures ---- */

/* Four bytes a step, so that the multiplications do not wait for each other. */
static uint32_t rolling_of(const uint8_t *p, size_t n)
{
	const uint32_t f2 = FACTOR * FACTOR, f3 = f2 * FACTOR, f4 = f2 * f2;
	uint32_t h = 0;
	for (; n >= 4; n -= 4, p += 4)
		h = h * f4 + p[0] * f3 + p[1] * f2 + p[2] * FACTOR + p[3];
	for (; n; n--, p++)
		h = h * FACTOR + *p;
	return h;
}

void signature_put(struct buf *b, const void *chunk, size_t n)
{
	const uint8_t *p = chunk;
	must(n > 0 && n <= CHUNK_MAX_BYTES);
	buf_le(b, n, 4);
	for (size_t at = 0; at < n; at += PATCH_BLOCK_BYTES) {
		size_t k = n - at < PATCH_BLOCK_BYTES ? n - at : PATCH_BLOCK_BYTES;
		buf_le(b, rolling_of(p + at, k), 4);
		buf_le(b, xxh3_64(p + at, k), 8);
	}
}

/* ---- the base ---- */

struct block {
	uint64_t strong;
	uint32_t rolling, source, chunk, chunk_bytes, offset, length;
};

struct patch_base {
	struct block *blocks;
	size_t n, cap;
	uint32_t *table; /* the number + 1 of a whole block, by its rolling hash; linear probing */
	unsigned table_log;
	uint32_t top; /* FACTOR to the power PATCH_BLOCK_BYTES: what a byte weighs when it leaves */
};

struct patch_base *patch_base_new(void)
{
	struct patch_base *b = calloc(1, sizeof *b);
	must(b != NULL);
	b->top = 1;
	for (int i = 0; i < PATCH_BLOCK_BYTES; i++)
		b->top *= FACTOR;
	return b;
}

void patch_base_free(struct patch_base *b)
{
	if (!b)
		return;
	free(b->blocks);
	free(b->table);
	free(b);
}

static uint32_t *slot(const struct patch_base *b, uint32_t rolling, unsigned probe)
{
	uint32_t home = (rolling * UINT32_C(0x9e3779b1)) >> (32 - b->table_log);
	return &b->table[(home + probe) & ((1u << b->table_log) - 1)];
}

/* Of equal blocks the first is found; of many with one rolling hash, PROBES_MAX, whatever somebody makes up. */
static void table_add(struct patch_base *b, size_t i)
{
	const struct block *k = &b->blocks[i];
	if (k->length < PATCH_BLOCK_BYTES)
		return;
	for (unsigned probe = 0; probe < PROBES_MAX; probe++) {
		uint32_t *s = slot(b, k->rolling, probe);
		if (!*s) {
			*s = (uint32_t)i + 1;
			return;
		}
		if (b->blocks[*s - 1].rolling == k->rolling && b->blocks[*s - 1].strong == k->strong)
			return;
	}
}

static void reserve(struct patch_base *b, size_t more)
{
	if (b->cap - b->n >= more)
		return;
	while (b->cap - b->n < more)
		b->cap = b->cap ? 2 * b->cap : 512;
	b->blocks = realloc(b->blocks, b->cap * sizeof *b->blocks);
	must(b->blocks != NULL && b->cap < UINT32_MAX / 4);
	free(b->table);
	for (b->table_log = 1; (size_t)1 << b->table_log < 2 * b->cap;)
		b->table_log++;
	b->table = calloc((size_t)1 << b->table_log, sizeof *b->table);
	must(b->table != NULL);
	for (size_t i = 0; i < b->n; i++)
		table_add(b, i);
}

int patch_base_add(struct patch_base *b, uint32_t source, uint32_t chunk, struct str *in, uint32_t *length)
{
	must(source <= UINT16_MAX && in->n > 0);
	if (in->n < 4)
		return E_BAD_REQUEST;
	uint32_t n = *length = (uint32_t)get_le(in->p, 4);
	if (!n || n > CHUNK_MAX_BYTES || in->n < signature_bytes(n))
		return E_BAD_REQUEST;
	size_t count = (signature_bytes(n) - 4) / BLOCK_BYTES;
	reserve(b, count);
	for (size_t i = 0; i < count; i++) {
		const char *p = in->p + 4 + i * BLOCK_BYTES;
		uint32_t offset = (uint32_t)i * PATCH_BLOCK_BYTES;
		b->blocks[b->n++] = (struct block){
		    .rolling = (uint32_t)get_le(p, 4),
		    .strong = get_le(p + 4, 8),
		    .source = source,
		    .chunk = chunk,
		    .chunk_bytes = n,
		    .offset = offset,
		    .length = n - offset < PATCH_BLOCK_BYTES ? n - offset : PATCH_BLOCK_BYTES,
		};
		table_add(b, b->n - 1);
	}
	*in = str_skip(*in, signature_bytes(n));
	return 0;
}

/* A whole block with this rolling hash and the strong one of the bytes at p, or NULL. */
static const struct block *find(const struct patch_base *b, uint32_t rolling, const uint8_t *p)
{
	uint64_t strong = 0;
	bool known = false;
	for (unsigned probe = 0; b->n && probe < PROBES_MAX; probe++) {
		uint32_t i = *slot(b, rolling, probe);
		if (!i)
			break;
		if (b->blocks[i - 1].rolling != rolling)
			continue;
		if (!known)
			strong = xxh3_64(p, PATCH_BLOCK_BYTES);
		known = true;
		if (b->blocks[i - 1].strong == strong)
			return &b->blocks[i - 1];
	}
	return NULL;
}

/* ---- making ---- */

struct making {
	struct buf *out;
	const uint8_t *p; /* the bytes, */
	size_t done;      /* of which so many are in out, */
	size_t at;        /* and those up to here are in the copy */
	struct block copy; /* length 0: none */
	uint32_t read_source, read_chunk; /* of the copy before */
	size_t read_bytes;
};

static void put_literal(struct making *m, size_t end)
{
	if (end == m->done)
		return;
	buf_char(m->out, LITERAL);
	buf_le(m->out, end - m->done, 4);
	buf_put(m->out, m->p + m->done, end - m->done);
	m->done = end;
}

static void put_copy(struct making *m)
{
	const struct block *c = &m->copy;
	if (!c->length)
		return;
	put_literal(m, m->at - c->length);
	buf_char(m->out, COPY);
	buf_le(m->out, c->source, 2);
	buf_le(m->out, c->chunk, 4);
	buf_le(m->out, c->offset, 4);
	buf_le(m->out, c->length, 4);
	m->done = m->at;
	m->copy.length = 0;
}

/* False: the receiver would have to read too much. */
static bool take(struct making *m, const struct block *k)
{
	struct block *c = &m->copy;
	bool same = m->read_bytes && m->read_source == k->source && m->read_chunk == k->chunk;
	if (same && c->length && c->offset + c->length == k->offset) {
		c->length += k->length;
		m->at += k->length;
		return true;
	}
	if (!same && k->chunk_bytes > PATCH_READ_MAX - m->read_bytes)
		return false;
	if (!same)
		m->read_bytes += k->chunk_bytes;
	size_t at = m->at;
	put_copy(m);
	m->copy = *k;
	m->read_source = k->source;
	m->read_chunk = k->chunk;
	m->at = at + k->length;
	return true;
}

static bool is_at(const struct making *m, const struct block *k, size_t n)
{
	return n - m->at >= k->length && xxh3_64(m->p + m->at, k->length) == k->strong;
}

/* The blocks that follow, as long as the bytes do. */
static bool follow(const struct patch_base *b, struct making *m, const struct block *k, size_t n)
{
	bool taken = take(m, k);
	while (taken && ++k < b->blocks + b->n && is_at(m, k, n))
		taken = take(m, k);
	return taken;
}

bool patch_make(const struct patch_base *b, const void *p, size_t n, struct buf *out)
{
	struct making m = {.out = out, .p = p};
	size_t start = out->n;
	bool taken = true;
	must(n <= CHUNK_MAX_BYTES);
	buf_le(out, n, 4);
	while (taken && n - m.at >= PATCH_BLOCK_BYTES) {
		uint32_t rolling = rolling_of(m.p + m.at, PATCH_BLOCK_BYTES);
		const struct block *k;
		while (!(k = find(b, rolling, m.p + m.at)) && n - m.at > PATCH_BLOCK_BYTES) {
			if (m.copy.length)
				put_copy(&m);
			rolling = rolling * FACTOR + m.p[m.at + PATCH_BLOCK_BYTES] - m.p[m.at] * b->top;
			m.at++;
		}
		if (!k)
			break;
		taken = follow(b, &m, k, n);
	}
	put_copy(&m);
	put_literal(&m, n);
	if (out->n - start < n)
		return true;
	out->n = start;
	return false;
}

/* ---- applying ---- */

struct applying {
	patch_chunk_fn *fn;
	void *arg;
	uint8_t *out;
	size_t n, done, read_bytes;
	uint32_t source, chunk;
	struct str bytes; /* of that one; NULL: none yet */
};

static int apply_literal(struct applying *a, struct str *in)
{
	if (in->n < LITERAL_HEAD)
		return E_BAD_REQUEST;
	uint64_t length = get_le(in->p + 1, 4);
	if (!length || length > a->n - a->done || length > in->n - LITERAL_HEAD)
		return E_BAD_REQUEST;
	memcpy(a->out + a->done, in->p + LITERAL_HEAD, length);
	a->done += length;
	*in = str_skip(*in, LITERAL_HEAD + length);
	return 0;
}

static int apply_copy(struct applying *a, struct str *in)
{
	if (in->n < COPY_BYTES)
		return E_BAD_REQUEST;
	uint32_t source = (uint32_t)get_le(in->p + 1, 2), chunk = (uint32_t)get_le(in->p + 3, 4);
	uint64_t offset = get_le(in->p + 7, 4), length = get_le(in->p + 11, 4);
	if (!length || length > a->n - a->done)
		return E_BAD_REQUEST;
	if (!a->bytes.p || source != a->source || chunk != a->chunk) {
		int err = a->fn(a->arg, source, chunk, &a->bytes);
		if (err)
			return err;
		a->source = source;
		a->chunk = chunk;
		a->read_bytes += a->bytes.n;
	}
	if (a->read_bytes > PATCH_READ_MAX || offset > a->bytes.n || length > a->bytes.n - offset)
		return E_BAD_REQUEST;
	memcpy(a->out + a->done, a->bytes.p + offset, length);
	a->done += length;
	*in = str_skip(*in, COPY_BYTES);
	return 0;
}

int patch_apply(struct str patch, patch_chunk_fn *fn, void *arg, void *out, size_t *n)
{
	struct applying a = {.fn = fn, .arg = arg, .out = out};
	int err = 0;
	*n = 0;
	if (patch.n < 4 || patch.n > PATCH_MAX_BYTES)
		return E_BAD_REQUEST;
	a.n = get_le(patch.p, 4);
	if (!a.n || a.n > CHUNK_MAX_BYTES)
		return E_BAD_REQUEST;
	patch = str_skip(patch, 4);
	while (!err && patch.n)
		err = patch.p[0] == LITERAL ? apply_literal(&a, &patch) : patch.p[0] == COPY ? apply_copy(&a, &patch) : E_BAD_REQUEST;
	if (!err && a.done != a.n)
		err = E_BAD_REQUEST;
	*n = err ? 0 : a.n;
	return err;
}
