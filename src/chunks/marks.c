#include "chunks/marks.h"

#include "base/must.h"

int marks_set(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, enum mark_reason reason, int64_t now_us)
{
	struct dbv args[INDEX_BATCH * 4];
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++) {
		args[4 * i] = V_I(ids[i]);
		args[4 * i + 1] = V_I(tenant_id);
		args[4 * i + 2] = V_I(reason);
		args[4 * i + 3] = V_I(now_us);
	}
	return tx_many(tx,
	               "insert into chunk_marks (chunk_id, tenant_id, reason, since_at) values ($1, $2, $3, $4)"
	               " on conflict (chunk_id) do update set reason = chunk_marks.reason | excluded.reason,"
	               " since_at = excluded.since_at",
	               args, 4, n, NULL, NULL);
}

int marks_clear(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, enum mark_reason reason)
{
	struct dbv args[INDEX_BATCH * 3];
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++) {
		args[3 * i] = V_I(ids[i]);
		args[3 * i + 1] = V_I(tenant_id);
		args[3 * i + 2] = V_I(reason);
	}
	int err = tx_many(tx,
	                  "update chunk_marks set reason = reason & ~$3 where chunk_id = $1 and tenant_id = $2"
	                  " and reason <> $3",
	                  args, 3, n, NULL, NULL);
	return err ? err
	           : tx_many(tx, "delete from chunk_marks where chunk_id = $1 and tenant_id = $2 and reason = $3", args, 3, n,
	                     NULL, NULL);
}

int marks_walk(struct tx *tx, enum mark_reason reason, int64_t after_id, struct mark *marks, size_t max, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	int err = tx_query(tx,
	                   "select chunk_id, tenant_id, since_at from chunk_marks where chunk_id > $1 and (reason & $2) <> 0"
	                   " order by chunk_id limit $3",
	                   DB_ARGS(V_I(after_id), V_I(reason), V_I(max)), &r);
	while (err == E_OK && *n < max && rows_next(r))
		marks[(*n)++] = (struct mark){rows_i64(r, 0), rows_i64(r, 1), rows_i64(r, 2)};
	return err != E_OK ? err : rows_close(&r);
}
