/* What a collection marks (drive/chunk.h names the roots), in the order that collect.h gives reasons for. */
#include "base/mutant.h"
#include "chunks/parts.h"
#include "chunks/recipe.h"
#include "drive/chunk.h"
#include "drive/collect_priv.h"

enum { PAGE_ROOTS = 32 };

static const struct root {
	const char *sql; /* two numbers that order it, and the chunks */
	bool lease;
	int left_out; /* an enum mutant_name */
	bool late;       /* it is there for those alone who had looked something up before it was over */
	const char *alone; /* when nobody is at work: without those. NULL: the same, or nothing of what is late */
} roots[] = {
    {"select id, 0, chunks from chunk_leases where id > $1 and $2 = 0 order by id limit $3", true, M_COLLECT_NO_LEASES},
    {"select upload_id, piece, recipe from upload_pieces where (upload_id, piece) > ($1, $2) and recipe is not null"
     " order by upload_id, piece limit $3", false, M_NONE},
    {"select upload_id, first_piece, recipe from upload_parts where (upload_id, first_piece) > ($1, $2)"
     " order by upload_id, first_piece limit $3", false, M_COLLECT_NO_PARTS, true,
     "select upload_id, first_piece, recipe from upload_parts where (upload_id, first_piece) > ($1, $2)"
     " and upload_id in (select id from uploads where status = 1) order by upload_id, first_piece limit $3"},
    {"select id, 0, recipe from versions where id > $1 and $2 = 0 order by id limit $3", false, M_NONE},
    {"select id, 0, recipe from removed_versions where id > $1 and $2 = 0 order by id limit $3", false, M_COLLECT_NO_REMOVED, true, NULL},
};

struct page {
	struct roots_place at;
	struct idset *seen;
	int64_t n_roots, n_chunks;
	size_t n;
	bool alone;
};

static int add_lease(struct page *p, struct str chunks)
{
	struct lease_entry e;
	if (chunks.n % LEASE_ENTRY_BYTES)
		return E_CORRUPT;
	for (size_t i = 0; i < chunks.n / LEASE_ENTRY_BYTES; i++) {
		if (lease_entry_read(chunks, i, &e))
			return E_CORRUPT;
		idset_add(p->seen, e.chunk_id);
		p->n_chunks++;
	}
	return 0;
}

static int add_recipe(struct page *p, struct str recipe)
{
	struct recipe_reader r;
	bool more = true;
	int err = recipe_open(&r, recipe);
	while (!err && more) {
		int64_t id;
		uint32_t length;
		err = recipe_next(&r, &more, &id, &length);
		if (err || !more)
			break;
		idset_add(p->seen, id);
		p->n_chunks++;
	}
	return err;
}

/* A root that cannot be read ends the collection: what it refers to is not known. */
static int page_op(struct tx *tx, void *arg)
{
	struct page *p = arg;
	const struct root *root = &roots[p->at.kind];
	const char *sql = p->alone && root->late ? root->alone : root->sql;
	AUTO_ROWS *r = NULL;
	if (!sql)
		return 0;
	if (root->left_out != M_NONE && mutant(root->left_out))
		return 0;
	int err = tx_query(tx, sql, DB_ARGS(V_I(p->at.a), V_I(p->at.b), V_I(PAGE_ROOTS)), &r);
	while (!err && rows_next(r)) {
		p->at.a = rows_i64(r, 0);
		p->at.b = rows_i64(r, 1);
		err = root->lease ? add_lease(p, rows_blob(r, 2)) : add_recipe(p, rows_blob(r, 2));
		p->n++;
	}
	p->n_roots += (int64_t)p->n;
	return err ? err : rows_close(&r);
}

int roots_page(struct db *db, bool alone, struct roots_place *at, struct idset *seen, int64_t *n_roots, int64_t *n_chunks)
{
	struct page p = {.at = *at, .seen = seen, .alone = alone};
	int err = db_read(db, page_op, &p);
	if (err)
		return err;
	*at = p.at;
	*n_roots += p.n_roots;
	*n_chunks += p.n_chunks;
	if (p.n < PAGE_ROOTS)
		*at = (struct roots_place){.kind = at->kind + 1, .done = at->kind + 1 == sizeof roots / sizeof *roots};
	return 0;
}

int roots_tail_in(struct tx *tx, void *arg, int64_t tenant_id, int64_t pack_id, bool *yes)
{
	AUTO_ROWS *r = NULL;
	(void)arg;
	*yes = false;
	if (mutant(M_COLLECT_NO_TAILS))
		return 0;
	int err = tx_query(tx, "select tail from uploads where status = 1 and tenant_id = $1 and tail is not null",
	                   DB_ARGS(V_I(tenant_id)), &r);
	while (!err && rows_next(r)) {
		struct str b = rows_blob(r, 0);
		struct ingest_tail tail = {.n = b.n};
		struct chunk_place place;
		if (b.n != sizeof tail.b)
			continue;
		memcpy(tail.b, b.p, b.n);
		*yes |= ingest_tail_place(&tail, &place) == 0 && place.pack_id == pack_id;
	}
	return err ? err : rows_close(&r);
}
