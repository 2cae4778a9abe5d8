/* Rows that go or move: for the collector and for repairs. */
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/marks.h"

/* What was taken off packs, or put to them. */
struct pack_sums {
	struct {
		int64_t pack_id, bytes;
	} of[INDEX_BATCH];
	size_t n;
};

static void sum_add(struct pack_sums *s, int64_t pack_id, int64_t bytes)
{
	size_t i = 0;
	while (i < s->n && s->of[i].pack_id != pack_id)
		i++;
	if (i == s->n) {
		must(s->n < INDEX_BATCH);
		s->of[s->n].pack_id = pack_id;
		s->of[s->n++].bytes = 0;
	}
	s->of[i].bytes += bytes;
}

static int take_off(struct tx *tx, const struct pack_sums *s)
{
	struct dbv args[INDEX_BATCH * 2];
	for (size_t i = 0; i < s->n; i++) {
		args[2 * i] = V_I(s->of[i].pack_id);
		args[2 * i + 1] = V_I(s->of[i].bytes);
	}
	return s->n ? tx_many(tx, "update packs set size_bytes = size_bytes - $2 where id = $1", args, 2, s->n, NULL, NULL)
	            : E_OK;
}

/* ---- removing ---- */

struct removal {
	const int64_t *ids;
	struct index_removed *out;
	size_t n;
	struct pack_sums sums;
};

static int removed_row(void *arg, size_t call, struct rows *r)
{
	struct removal *x = arg;
	struct index_removed *out = &x->out[x->n++];
	struct str hash = rows_blob(r, 2);
	*out = (struct index_removed){.id = x->ids[call], .stored_bytes = rows_i64(r, 1)};
	if (hash.n == sizeof out->hash.b)
		memcpy(out->hash.b, hash.p, hash.n);
	sum_add(&x->sums, rows_i64(r, 0), out->stored_bytes);
	return E_OK;
}

int index_remove(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, int64_t condemned_before_us,
                 struct index_removed *removed, size_t *n_removed)
{
	struct dbv args[INDEX_BATCH * 3];
	struct removal x = {.ids = ids, .out = removed};
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++) {
		args[3 * i] = V_I(ids[i]);
		args[3 * i + 1] = V_I(tenant_id);
		args[3 * i + 2] = V_I(condemned_before_us);
	}
	int err = tx_many(tx,
	                  "delete from chunks where id = $1 and tenant_id = $2 and exists (select 1 from chunk_marks"
	                  " where chunk_id = $1 and (reason & 1) <> 0 and since_at < $3) returning pack_id, stored_len, hash",
	                  args, 3, n, removed_row, &x);
	for (size_t i = 0; i < x.n; i++)
		args[i] = V_I(removed[i].id);
	if (err == E_OK && x.n)
		err = tx_many(tx, "delete from chunk_marks where chunk_id = $1", args, 1, x.n, NULL, NULL);
	*n_removed = x.n;
	return err != E_OK ? err : take_off(tx, &x.sums);
}

/* ---- moving ---- */

struct moving {
	const struct index_move *moves;
	struct pack_sums from, to;
	size_t n;
};

static int moved_row(void *arg, size_t call, struct rows *r)
{
	struct moving *x = arg;
	const struct index_move *m = &x->moves[call];
	(void)r;
	sum_add(&x->from, m->from_pack, m->stored_len);
	sum_add(&x->to, m->to_pack, m->stored_len);
	x->n++;
	return E_OK;
}

int index_move(struct tx *tx, int64_t tenant_id, int64_t now_us, const struct index_move *moves, size_t n, size_t *n_moved)
{
	struct dbv args[INDEX_BATCH * 6];
	struct moving x = {.moves = moves};
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++) {
		struct dbv *a = args + 6 * i;
		a[0] = V_I(moves[i].id);
		a[1] = V_I(tenant_id);
		a[2] = V_I(moves[i].to_pack);
		a[3] = V_I(moves[i].to_offset);
		a[4] = V_I(moves[i].from_pack);
		a[5] = V_I(moves[i].from_offset);
	}
	int err = tx_many(tx,
	                  "update chunks set pack_id = $3, offset_bytes = $4 where id = $1 and tenant_id = $2 and pack_id = $5"
	                  " and offset_bytes = $6 returning id",
	                  args, 6, n, moved_row, &x);
	for (size_t i = 0; err == E_OK && i < x.to.n; i++)
		err = index_pack_count(tx, x.to.of[i].pack_id, tenant_id, now_us, x.to.of[i].bytes);
	*n_moved = x.n;
	return err != E_OK ? err : take_off(tx, &x.from);
}

/* ---- packs ---- */

int index_pack_retire(struct tx *tx, int64_t pack_id, int64_t tenant_id, int64_t now_us, bool *retired)
{
	int64_t changed = 0;
	int err = tx_exec(tx,
	                  "insert into packs (id, tenant_id, size_bytes, state, created_at, retired_at)"
	                  " values ($1, $2, 0, 2, $3, $3) on conflict (id) do update set state = 2,"
	                  " retired_at = excluded.retired_at where packs.size_bytes = 0 and packs.state = 1",
	                  DB_ARGS(V_I(pack_id), V_I(tenant_id), V_I(now_us)), &changed);
	*retired = changed > 0;
	return err;
}

int index_pack_gone(struct tx *tx, int64_t pack_id)
{
	return tx_exec(tx, "update packs set state = 3 where id = $1 and state = 2", DB_ARGS(V_I(pack_id)), NULL);
}

int index_pack_forget(struct tx *tx, int64_t pack_id)
{
	return tx_exec(tx, "delete from packs where id = $1 and state = 3", DB_ARGS(V_I(pack_id)), NULL);
}
