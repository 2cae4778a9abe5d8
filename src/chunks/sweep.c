#include "chunks/sweep.h"

#include <stdlib.h>

#include "base/must.h"
#include "base/mutant.h"
#include "chunks/store_priv.h"

struct swept_row {
	int64_t id, tenant_id, pack_id, stored_bytes;
	bool condemned;
	int64_t since_us;
};

enum verdict { CONDEMN, SPARE, REMOVE, VERDICTS };

/* Rows of one tenant that are to be written with one verdict. */
struct pile {
	enum verdict verdict;
	int64_t tenant_id;
	int64_t ids[SWEEP_WRITE_ROWS];
	size_t n;
	struct index_removed removed[SWEEP_WRITE_ROWS];
	size_t n_removed;
};

struct page {
	struct sweep *s;
	struct swept_row rows[SWEEP_PAGE_ROWS];
	size_t n;
	struct pile piles[VERDICTS];
};

static int page_op(struct tx *tx, void *arg)
{
	struct page *p = arg;
	AUTO_ROWS *r = NULL;
	p->n = 0;
	int err = tx_query(tx,
	                   "select c.id, c.tenant_id, c.pack_id, c.stored_len, m.reason, m.since_at from chunks c"
	                   " left join chunk_marks m on m.chunk_id = c.id where c.id > $1 and c.id < $2 order by c.id limit $3",
	                   DB_ARGS(V_I(p->s->after_id), V_I(p->s->ids_below), V_I(SWEEP_PAGE_ROWS)), &r);
	while (err == E_OK && p->n < SWEEP_PAGE_ROWS && rows_next(r))
		p->rows[p->n++] = (struct swept_row){rows_i64(r, 0),        rows_i64(r, 1),
		                                     rows_i64(r, 2),        rows_i64(r, 3),
		                                     rows_i64(r, 4) & MARK_CONDEMNED, rows_i64(r, 5)};
	return err != E_OK ? err : rows_close(&r);
}

/* ---- writing ---- */

struct pile_write {
	struct sweep *s;
	struct pile *pile;
};

static int pile_op(struct tx *tx, void *arg)
{
	struct pile_write *w = arg;
	struct pile *p = w->pile;
	int err = E_OK;
	p->n_removed = 0;
	for (size_t i = 0; err == E_OK && i < p->n; i += INDEX_BATCH) {
		size_t n = p->n - i < INDEX_BATCH ? p->n - i : INDEX_BATCH, removed = 0;
		if (p->verdict == CONDEMN)
			err = marks_set(tx, p->tenant_id, p->ids + i, n, MARK_CONDEMNED, clock_now(w->s->clock));
		else if (p->verdict == SPARE)
			err = marks_clear(tx, p->tenant_id, p->ids + i, n, MARK_CONDEMNED);
		else
			err = index_remove(tx, p->tenant_id, p->ids + i, n, w->s->condemned_before_us, p->removed + p->n_removed, &removed);
		p->n_removed += removed;
	}
	return err;
}

static void count_removed(struct sweep *s, const struct pile *p)
{
	for (size_t i = 0; i < p->n_removed; i++) {
		s->totals.removed_bytes += p->removed[i].stored_bytes;
		if (s->store && s->store->finder)
			finder_forget(s->store->finder, p->tenant_id, &p->removed[i].hash, &p->removed[i].id, 1);
	}
	s->totals.removed += (int64_t)p->n_removed;
}

static int write_pile(struct sweep *s, struct pile *p)
{
	struct pile_write w = {s, p};
	if (p->n == 0)
		return E_OK;
	int err = s->dry ? E_OK : db_write(s->db, p->tenant_id, pile_op, &w);
	if (err == E_OK && p->verdict == CONDEMN)
		s->totals.condemned += (int64_t)p->n;
	else if (err == E_OK && p->verdict == SPARE)
		s->totals.spared += (int64_t)p->n;
	else if (err == E_OK && !s->dry)
		count_removed(s, p);
	p->n = 0;
	return err;
}

static int pile_up(struct sweep *s, struct pile *p, const struct swept_row *row)
{
	int err = E_OK;
	if (p->n == SWEEP_WRITE_ROWS || (p->n && p->tenant_id != row->tenant_id))
		err = write_pile(s, p);
	p->tenant_id = row->tenant_id;
	p->ids[p->n++] = row->id;
	return err;
}

/* ---- judging ---- */

static void count_row(struct sweep *s, int64_t pack_id)
{
	uintptr_t n = (uintptr_t)map_get(&s->rows, (uint64_t)pack_id);
	map_put(&s->rows, (uint64_t)pack_id, (void *)(n + 1));
}

static int judge(struct page *p, const struct swept_row *row)
{
	struct sweep *s = p->s;
	bool seen = idset_has(s->seen, row->id);
	bool again = row->condemned && row->since_us < s->condemned_before_us;
	bool gone = !seen && again;
	s->totals.chunks++;
	s->totals.stored_bytes += row->stored_bytes;
	if (!gone)
		count_row(s, row->pack_id);
	else if (s->dry) {
		s->totals.removed++;
		s->totals.removed_bytes += row->stored_bytes;
	}
	if (!seen && !gone) {
		s->totals.garbage++;
		s->totals.garbage_bytes += row->stored_bytes;
	}
	if (gone)
		return pile_up(s, &p->piles[REMOVE], row);
	if (seen == row->condemned)
		return pile_up(s, &p->piles[seen ? SPARE : CONDEMN], row);
	return E_OK;
}

int sweep_page(struct sweep *s)
{
	struct page *p = malloc(sizeof *p);
	must(p != NULL);
	p->s = s;
	for (int v = 0; v < VERDICTS; v++)
		p->piles[v] = (struct pile){.verdict = (enum verdict)v};
	int err = db_read(s->db, page_op, p);
	for (size_t i = 0; err == E_OK && i < p->n; i++)
		err = judge(p, &p->rows[i]);
	for (int v = 0; err == E_OK && v < VERDICTS; v++)
		err = write_pile(s, &p->piles[v]);
	if (err == E_OK && p->n)
		s->after_id = p->rows[p->n - 1].id;
	s->done = err == E_OK && p->n < SWEEP_PAGE_ROWS;
	free(p);
	return err;
}

void sweep_fini(struct sweep *s)
{
	map_fini(&s->rows);
	s->rows = (struct map){0};
}
