#include "chunks/recipe.h"

#include "base/limits.h"
#include "chunks/chunker.h"

void recipe_begin(struct recipe_writer *w, struct buf *out)
{
	*w = (struct recipe_writer){.out = out};
	buf_char(out, RECIPE_VERSION);
}

void recipe_add(struct recipe_writer *w, int64_t chunk_id, uint32_t length)
{
	must(chunk_id > 0 && length > 0 && length <= CHUNK_MAX_BYTES);
	buf_varint(w->out, zigzag(chunk_id - w->previous));
	buf_varint(w->out, length);
	w->previous = chunk_id;
}

int recipe_open(struct recipe_reader *r, struct str recipe)
{
	*r = (struct recipe_reader){.rest = str_skip(recipe, 1)};
	return recipe.n >= 1 && recipe.p[0] == RECIPE_VERSION ? E_OK : E_CORRUPT;
}

int recipe_next(struct recipe_reader *r, bool *more, int64_t *chunk_id, uint32_t *length)
{
	*more = r->rest.n > 0;
	if (!*more)
		return E_OK;
	uint64_t delta, n;
	int64_t id;
	if (!varint_read(&r->rest, &delta) || !varint_read(&r->rest, &n))
		return E_CORRUPT;
	if (__builtin_add_overflow(r->previous, unzigzag(delta), &id) || id <= 0)
		return E_CORRUPT;
	if (n == 0 || n > CHUNK_MAX_BYTES || r->offset > LIMIT_CONTENT_BYTES - (int64_t)n)
		return E_CORRUPT;
	r->previous = id;
	r->offset += (int64_t)n;
	*chunk_id = id;
	*length = (uint32_t)n;
	return E_OK;
}

int recipe_measure(struct str recipe, size_t *n_chunks, int64_t *size_bytes)
{
	struct recipe_reader r;
	int err = recipe_open(&r, recipe);
	bool more = err == E_OK;
	*n_chunks = 0;
	while (err == E_OK && more) {
		int64_t id;
		uint32_t length;
		err = recipe_next(&r, &more, &id, &length);
		*n_chunks += err == E_OK && more;
	}
	*size_bytes = r.offset;
	return err;
}
