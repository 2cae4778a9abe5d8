#include "client/layout.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "chunks/chunker.h"

static uint64_t key_at(const struct layout *l, size_t i)
{
	return get_le(l->text.p + i * LAYOUT_CHUNK_BYTES, 8);
}

static uint64_t key_of(const struct sha256 *hash)
{
	return get_le(hash->b, 8);
}

int layout_read(struct layout *l, struct str text)
{
	*l = (struct layout){.text = text, .n = text.n / LAYOUT_CHUNK_BYTES};
	if (text.n % LAYOUT_CHUNK_BYTES || l->n > LAYOUT_CHUNKS_MAX)
		return E_UPSTREAM;
	l->offsets = malloc((l->n + 1) * sizeof *l->offsets);
	must(l->offsets != NULL);
	l->offsets[0] = 0;
	for (size_t i = 0; i < l->n; i++) {
		uint64_t length = get_le(text.p + i * LAYOUT_CHUNK_BYTES + 8, 4);
		if (!length || length > CHUNK_MAX_BYTES) {
			layout_fini(l);
			return E_UPSTREAM;
		}
		l->offsets[i + 1] = l->offsets[i] + (int64_t)length;
	}
	for (size_t i = l->n; i-- > 0;)
		map_put(&l->by_key, key_at(l, i), (void *)(uintptr_t)(i + 1));
	return 0;
}

void layout_fini(struct layout *l)
{
	free(l->offsets);
	map_fini(&l->by_key);
	*l = (struct layout){0};
}

uint32_t layout_length(const struct layout *l, size_t i)
{
	return (uint32_t)(l->offsets[i + 1] - l->offsets[i]);
}

size_t layout_find(const struct layout *l, const struct sha256 *hash, uint32_t length, size_t likely)
{
	uint64_t key = key_of(hash);
	if (likely < l->n && key_at(l, likely) == key && layout_length(l, likely) == length)
		return likely;
	size_t i = (size_t)(uintptr_t)map_get(&l->by_key, key);
	return i && layout_length(l, i - 1) == length ? i - 1 : LAYOUT_NONE;
}

int64_t layout_common(const struct layout *l, struct str other)
{
	int64_t bytes = 0;
	for (; other.n >= LAYOUT_CHUNK_BYTES; other = str_skip(other, LAYOUT_CHUNK_BYTES)) {
		size_t i = (size_t)(uintptr_t)map_get(&l->by_key, get_le(other.p, 8));
		uint32_t length = (uint32_t)get_le(other.p + 8, 4);
		bytes += i && layout_length(l, i - 1) == length ? length : 0;
	}
	return bytes;
}

void layout_put(struct buf *text, const struct sha256 *hash, uint32_t length)
{
	buf_put(text, hash->b, 8);
	buf_le(text, length, 4);
}

void layout_put_run(struct buf *text, const struct layout *l, size_t first, size_t count)
{
	must(first <= l->n && count <= l->n - first);
	buf_put(text, l->text.p + first * LAYOUT_CHUNK_BYTES, count * LAYOUT_CHUNK_BYTES);
}
