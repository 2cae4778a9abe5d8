/* Indexing ahead: the writer serves others between the batches of a large content. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/store_priv.h"

struct ahead {
	struct store *s;
	int64_t tenant_id;
	struct content *c;
	size_t from, n;
	size_t at; /* behind the chunk that was told last */
	int64_t ids[LIMIT_CHUNKS_TX];
};

static int told(void *arg, int64_t chunk_id, const struct sha256 *hash, uint32_t length)
{
	struct ahead *a = arg;
	(void)hash;
	(void)length;
	while (a->c->chunks[a->at].first != a->at) /* repetitions are not told */
		a->at++;
	a->ids[a->at++ - a->from] = chunk_id;
	return E_OK;
}

static int batch_op(struct tx *tx, void *arg)
{
	struct ahead *a = arg;
	a->at = a->from;
	return content_index(tx, a->s, a->tenant_id, a->c, a->from, a->n, told, a);
}

/* What the rows say, once they are committed. */
static void batch_done(struct ahead *a)
{
	for (size_t i = a->from; i < a->from + a->n; i++) {
		struct content_chunk *chunk = &a->c->chunks[i];
		if (chunk->first == i)
			chunk->row.id = a->ids[i - a->from];
		chunk->is_new = false;
	}
}

int content_index_ahead(struct content *c, int64_t tenant_id)
{
	if (c->n_new_chunks <= LIMIT_CHUNKS_TX)
		return E_OK;
	struct ahead *a = malloc(sizeof *a);
	must(a != NULL);
	*a = (struct ahead){.s = c->store, .tenant_id = tenant_id, .c = c};
	int err = content_flush(c); /* others may refer to a chunk as soon as it has a row */
	for (; err == E_OK && a->from < c->n_chunks; a->from += a->n) {
		a->n = c->n_chunks - a->from < LIMIT_CHUNKS_TX ? c->n_chunks - a->from : LIMIT_CHUNKS_TX;
		err = db_write(c->store->config.db, tenant_id, batch_op, a);
		if (err == E_OK)
			batch_done(a);
	}
	free(a);
	return err;
}
