#include "chunks/index.h"

#include "base/must.h"
#include "base/mutant.h"
#include "chunks/marks.h"
#include "chunks/store.h"

static void id_args(struct dbv *args, int64_t tenant_id, const int64_t *ids, size_t n)
{
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++) {
		args[2 * i] = V_I(ids[i]);
		args[2 * i + 1] = V_I(tenant_id);
	}
}

/* What the finder said, until the rows have been looked at. */
struct hinted {
	int64_t tenant_id;
	const struct sha256 *hashes;
	int64_t *ids;
	size_t where[INDEX_BATCH]; /* of those with a hint */
	size_t n;
};

static int hinted_row(void *arg, size_t call, struct rows *r)
{
	struct hinted *h = arg;
	size_t i = h->where[call];
	struct str hash = rows_blob(r, 1);
	if (hash.n == 32 && memcmp(hash.p, h->hashes[i].b, 32) == 0)
		h->ids[i] = rows_i64(r, 0);
	return E_OK;
}

/* Keeps those of ids whose rows have the hashes and bear no mark. */
static int verify_op(struct tx *tx, void *arg)
{
	struct hinted *h = arg;
	struct dbv args[INDEX_BATCH * 2];
	for (size_t k = 0; k < h->n; k++) {
		args[2 * k] = V_I(h->ids[h->where[k]]);
		args[2 * k + 1] = V_I(h->tenant_id);
		h->ids[h->where[k]] = 0;
	}
	if (mutant(M_SWEEP_SEES_MARKED))
		return tx_many(tx, "select id, hash from chunks where id = $1 and tenant_id = $2", args, 2, h->n, hinted_row, h);
	return tx_many(tx,
	               "select id, hash from chunks where id = $1 and tenant_id = $2"
	               " and not exists (select 1 from chunk_marks where chunk_id = $1)",
	               args, 2, h->n, hinted_row, h);
}

static struct hinted hinted_of(int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids)
{
	struct hinted h = {.tenant_id = tenant_id, .hashes = hashes, .ids = ids};
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++)
		if (ids[i])
			h.where[h.n++] = i;
	return h;
}

int index_find(struct db *db, struct finder *f, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids)
{
	finder_find(f, tenant_id, hashes, n, ids);
	struct hinted h = hinted_of(tenant_id, hashes, n, ids);
	return h.n ? db_read(db, verify_op, &h) : E_OK;
}

/* Counts bytes in packs, each of which gets a row: args are five a pack. E_BUSY: one is not live any more. */
static int count_in_packs(struct tx *tx, const struct dbv *args, size_t n)
{
	int64_t counted[INDEX_BATCH];
	must(n <= INDEX_BATCH);
	if (n == 0)
		return E_OK;
	int err = tx_many_changed(tx,
	                          "insert into packs (id, tenant_id, size_bytes, state, created_at) values ($1, $2, $3, $4, $5) "
	                          "on conflict (id) do update set size_bytes = packs.size_bytes + excluded.size_bytes "
	                          "where packs.state = excluded.state",
	                          args, 5, n, counted);
	for (size_t i = 0; err == E_OK && i < n; i++)
		err = counted[i] ? E_OK : E_BUSY;
	return err;
}

static void count_args(struct dbv *a, int64_t pack_id, int64_t tenant_id, int64_t now_us, int64_t bytes)
{
	a[0] = V_I(pack_id);
	a[1] = V_I(tenant_id);
	a[2] = V_I(bytes);
	a[3] = V_I(PACK_LIVE);
	a[4] = V_I(now_us);
}

int index_pack_count(struct tx *tx, int64_t pack_id, int64_t tenant_id, int64_t now_us, int64_t bytes)
{
	struct dbv args[5];
	count_args(args, pack_id, tenant_id, now_us, bytes);
	return count_in_packs(tx, args, 1);
}

/* Counts the bytes of the rows that were really added to their packs. */
static int add_packs(struct tx *tx, int64_t tenant_id, int64_t now_us, const struct chunk_row *rows, size_t n,
                     const int64_t *added)
{
	struct dbv args[INDEX_BATCH * 5];
	size_t calls = 0;
	for (size_t i = 0; i < n;) {
		int64_t pack_id = rows[i].place.pack_id, bytes = 0;
		for (; i < n && rows[i].place.pack_id == pack_id; i++)
			bytes += added[i] ? rows[i].place.stored_len : 0;
		if (bytes > 0)
			count_args(args + 5 * calls++, pack_id, tenant_id, now_us, bytes);
	}
	return count_in_packs(tx, args, calls);
}

int index_replace(struct tx *tx, int64_t tenant_id, int64_t now_us, int64_t id, const struct chunk_place *from,
                  const struct chunk_place *to)
{
	const struct chunk_row row = {.id = id, .place = *to};
	int err = tx_exec(tx,
	                  "update chunks set pack_id = $3, offset_bytes = $4, stored_len = $5, codec = $6, xxh = $7"
	                  " where id = $1 and tenant_id = $2",
	                  DB_ARGS(V_I(id), V_I(tenant_id), V_I(to->pack_id), V_I(to->offset), V_I(to->stored_len), V_I(to->codec),
	                          V_I(to->xxh)),
	                  NULL);
	if (err == E_OK)
		err = tx_exec(tx, "update packs set size_bytes = size_bytes - $2 where id = $1",
		              DB_ARGS(V_I(from->pack_id), V_I(from->stored_len)), NULL);
	return err != E_OK ? err : add_packs(tx, tenant_id, now_us, &row, 1, &id);
}

enum { N_ROW_ARGS = 9 };

static void row_args(struct dbv a[N_ROW_ARGS], int64_t tenant_id, const struct chunk_row *row)
{
	const struct chunk_place *p = &row->place;
	a[0] = V_I(row->id);
	a[1] = V_I(tenant_id);
	a[2] = V_B(str_n(row->hash.b, 32));
	a[3] = V_I(p->pack_id);
	a[4] = V_I(p->offset);
	a[5] = V_I(p->stored_len);
	a[6] = V_I(p->raw_len);
	a[7] = V_I(p->codec);
	a[8] = V_I(p->xxh);
}

/* Whether the table may have one of their ids; false: it has none. Between them lie those that were made at the same time, mostly few. */
static int ids_there(struct tx *tx, const struct chunk_row *rows, size_t n, bool *any)
{
	enum { LOOK_AT = 256 };
	int64_t from = rows[0].id, to = from;
	int looked_at = 0;
	AUTO_ROWS *r = NULL;
	for (size_t i = 1; i < n; i++) {
		from = rows[i].id < from ? rows[i].id : from;
		to = rows[i].id > to ? rows[i].id : to;
	}
	*any = false;
	int err = tx_query(tx, "select id from chunks where id >= $1 and id <= $2 limit 256", DB_ARGS(V_I(from), V_I(to)), &r);
	while (err == E_OK && !*any && rows_next(r)) {
		int64_t id = rows_i64(r, 0);
		*any = ++looked_at == LOOK_AT;
		for (size_t i = 0; i < n; i++)
			*any |= rows[i].id == id;
	}
	return err != E_OK ? err : rows_close(&r);
}

#define INSERT_ROW \
	"insert into chunks (id, tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh)" \
	" values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"

/* added[i]: whether row i was not there. Nearly always none was: then they need not be told apart, which is cheaper. */
static int insert_rows(struct tx *tx, int64_t tenant_id, const struct chunk_row *rows, size_t n, int64_t *added)
{
	struct dbv args[INDEX_BATCH * N_ROW_ARGS];
	bool any;
	int err = ids_there(tx, rows, n, &any);
	for (size_t i = 0; i < n; i++) {
		row_args(args + N_ROW_ARGS * i, tenant_id, &rows[i]);
		added[i] = 1;
	}
	if (err != E_OK || !any)
		return err != E_OK ? err : tx_many(tx, INSERT_ROW, args, N_ROW_ARGS, n, NULL, NULL);
	return tx_many_changed(tx, INSERT_ROW " on conflict (id) do nothing", args, N_ROW_ARGS, n, added);
}

/* Rows that were there under these ids are of these very chunks, added in a first try; else somebody else has the id (a node number
 * that two processes have, a clock that was set back), and a recipe would name other bytes by it. */
static int check_same(struct tx *tx, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids)
{
	struct hinted h = hinted_of(tenant_id, hashes, n, ids);
	int err = verify_op(tx, &h);
	for (size_t i = 0; err == E_OK && i < n; i++)
		err = ids[i] ? E_OK : E_BUSY;
	return err;
}

int index_flush(struct tx *tx, struct finder *f, int64_t tenant_id, int64_t now_us, struct index_batch *b)
{
	struct sha256 hashes[INDEX_BATCH];
	int64_t ids[INDEX_BATCH], added[INDEX_BATCH];
	size_t n = b->n;
	bool all = true;
	b->n = 0;
	if (n == 0)
		return E_OK;
	int err = insert_rows(tx, tenant_id, b->rows, n, added);
	for (size_t i = 0; i < n; i++) {
		hashes[i] = b->rows[i].hash;
		ids[i] = b->rows[i].id;
		all &= added[i] != 0;
	}
	if (err == E_OK && !all)
		err = check_same(tx, tenant_id, hashes, n, ids);
	if (err == E_OK)
		err = add_packs(tx, tenant_id, now_us, b->rows, n, added);
	if (err == E_OK) /* should the transaction fail, the hint leads to no row */
		finder_add(f, tenant_id, hashes, ids, n);
	return err;
}

static int64_t id_waiting(const struct index_batch *b, const struct sha256 *hash)
{
	for (size_t i = 0; i < b->n; i++)
		if (sha256_eq(&b->rows[i].hash, hash))
			return b->rows[i].id;
	return 0;
}

int index_add(struct tx *tx, struct finder *f, int64_t tenant_id, int64_t now_us, const struct chunk_row *rows, size_t n,
              struct index_batch *b, int64_t *ids)
{
	struct sha256 hashes[INDEX_BATCH];
	must(n <= INDEX_BATCH);
	if (n == 0)
		return E_OK;
	for (size_t i = 0; i < n; i++)
		hashes[i] = rows[i].hash;
	/* Another ingest may have been first since we looked; then our bytes are garbage for the collector. */
	finder_find_lately(f, tenant_id, hashes, n, ids);
	struct hinted h = hinted_of(tenant_id, hashes, n, ids);
	int err = h.n ? verify_op(tx, &h) : E_OK;
	for (size_t i = 0; err == E_OK && i < n; i++) {
		if (!ids[i])
			ids[i] = id_waiting(b, &hashes[i]);
		if (ids[i])
			continue;
		ids[i] = rows[i].id;
		b->rows[b->n++] = rows[i];
		if (b->n == INDEX_BATCH)
			err = index_flush(tx, f, tenant_id, now_us, b);
	}
	return err;
}

int index_pack_open(struct tx *tx, int64_t pack_id)
{
	int64_t state;
	int err = tx_i64(tx, "select state from packs where id = $1", DB_ARGS(V_I(pack_id)), PACK_LIVE, &state);
	return err != E_OK ? err : state == PACK_LIVE ? E_OK : E_BUSY;
}

static int count_row(void *arg, size_t call, struct rows *r)
{
	(void)call;
	(void)r;
	++*(size_t *)arg;
	return E_OK;
}

int index_use(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n)
{
	struct dbv args[INDEX_BATCH * 2];
	size_t there = 0;
	if (n == 0)
		return E_OK;
	id_args(args, tenant_id, ids, n);
	int err = tx_many(tx, "select id from chunks where id = $1 and tenant_id = $2", args, 2, n, count_row, &there);
	if (err == E_OK && there < n)
		err = E_BUSY;
	return err != E_OK ? err : marks_clear(tx, tenant_id, ids, n, MARK_CONDEMNED);
}

static int place_row(void *arg, size_t call, struct rows *r)
{
	int64_t stored = rows_i64(r, 2), raw = rows_i64(r, 3), codec = rows_i64(r, 4);
	/* What does not fit its field is no chunk that we wrote; the zero in pack_id says so. */
	if (stored <= 0 || stored > UINT32_MAX || raw <= 0 || raw > UINT32_MAX || codec < 0 || codec > UINT8_MAX)
		return E_OK;
	((struct chunk_place *)arg)[call] = (struct chunk_place){
	    .pack_id = rows_i64(r, 0),
	    .offset = rows_i64(r, 1),
	    .stored_len = (uint32_t)stored,
	    .raw_len = (uint32_t)raw,
	    .codec = (uint8_t)codec,
	    .xxh = (uint64_t)rows_i64(r, 5),
	};
	return E_OK;
}

int index_place(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, struct chunk_place *places)
{
	struct dbv args[INDEX_BATCH * 2];
	id_args(args, tenant_id, ids, n);
	memset(places, 0, n * sizeof *places);
	return tx_many(tx,
	               "select pack_id, offset_bytes, stored_len, raw_len, codec, xxh from chunks "
	               "where id = $1 and tenant_id = $2",
	               args, 2, n, place_row, places);
}

struct hashes_found {
	struct sha256 *hashes;
	size_t n;
};

static int hash_row(void *arg, size_t call, struct rows *r)
{
	struct hashes_found *h = arg;
	struct str blob = rows_blob(r, 0);
	if (blob.n != 32)
		return E_CORRUPT;
	memcpy(h->hashes[call].b, blob.p, 32);
	h->n++;
	return E_OK;
}

int index_hashes(struct tx *tx, int64_t tenant_id, const int64_t *ids, size_t n, struct sha256 *hashes)
{
	struct dbv args[INDEX_BATCH * 2];
	struct hashes_found found = {.hashes = hashes};
	id_args(args, tenant_id, ids, n);
	int err = tx_many(tx, "select hash from chunks where id = $1 and tenant_id = $2", args, 2, n, hash_row, &found);
	return err != E_OK || found.n == n ? err : E_CORRUPT;
}

/* ---- for checks ---- */

#define ROW_COLUMNS "id, tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh"

static void index_row_read(struct rows *r, struct index_row *row)
{
	int64_t stored = rows_i64(r, 5), raw = rows_i64(r, 6), codec = rows_i64(r, 7);
	struct str hash = rows_blob(r, 2);
	*row = (struct index_row){.chunk.id = rows_i64(r, 0), .tenant_id = rows_i64(r, 1)};
	if (hash.n != 32 || stored <= 0 || stored > UINT32_MAX || raw <= 0 || raw > UINT32_MAX || codec < 0 ||
	    codec > UINT8_MAX)
		return;
	memcpy(row->chunk.hash.b, hash.p, 32);
	row->chunk.place = (struct chunk_place){
	    .pack_id = rows_i64(r, 3),
	    .offset = rows_i64(r, 4),
	    .stored_len = (uint32_t)stored,
	    .raw_len = (uint32_t)raw,
	    .codec = (uint8_t)codec,
	    .xxh = (uint64_t)rows_i64(r, 8),
	};
}

static int one_index_row(void *arg, size_t call, struct rows *r)
{
	index_row_read(r, (struct index_row *)arg + call);
	return E_OK;
}

struct look_up {
	const int64_t *ids;
	size_t n;
	struct index_row *rows;
};

static int look_up_op(struct tx *tx, void *arg)
{
	struct look_up *l = arg;
	struct dbv args[INDEX_BATCH];
	must(l->n <= INDEX_BATCH);
	memset(l->rows, 0, l->n * sizeof *l->rows);
	for (size_t i = 0; i < l->n; i++)
		args[i] = V_I(l->ids[i]);
	return tx_many(tx, "select " ROW_COLUMNS " from chunks where id = $1", args, 1, l->n, one_index_row, l->rows);
}

int index_rows(struct db *db, const int64_t *ids, size_t n, struct index_row *rows)
{
	struct look_up l = {ids, n, rows};
	return n ? db_read(db, look_up_op, &l) : E_OK;
}

static int walk_rows(struct tx *tx, const char *sql, const struct dbv *args, size_t n_args, struct index_row *rows,
                     size_t max, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	int err = tx_query(tx, sql, args, n_args, &r);
	while (err == E_OK && *n < max && rows_next(r))
		index_row_read(r, &rows[(*n)++]);
	return err != E_OK ? err : rows_close(&r);
}

int index_walk(struct tx *tx, int64_t after_id, struct index_row *rows, size_t max, size_t *n)
{
	return walk_rows(tx, "select " ROW_COLUMNS " from chunks where id > $1 order by id limit $2",
	                 DB_ARGS(V_I(after_id), V_I(max)), rows, max, n);
}

int index_walk_pack(struct tx *tx, int64_t pack_id, int64_t after_id, struct index_row *rows, size_t max, size_t *n)
{
	return walk_rows(tx, "select " ROW_COLUMNS " from chunks where pack_id = $1 and id > $2 order by id limit $3",
	                 DB_ARGS(V_I(pack_id), V_I(after_id), V_I(max)), rows, max, n);
}

int index_walk_packs(struct tx *tx, int64_t after_id, struct index_pack *packs, size_t max, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	int err = tx_query(tx, "select id, tenant_id, size_bytes, retired_at, state from packs where id > $1 order by id limit $2",
	                   DB_ARGS(V_I(after_id), V_I(max)), &r);
	while (err == E_OK && *n < max && rows_next(r))
		packs[(*n)++] = (struct index_pack){rows_i64(r, 0), rows_i64(r, 1), rows_i64(r, 2), rows_i64(r, 3),
		                                    (enum pack_state)rows_i64(r, 4)};
	return err != E_OK ? err : rows_close(&r);
}

/* ---- for repairs ---- */

int index_put(struct tx *tx, int64_t tenant_id, const struct chunk_row *rows, size_t n)
{
	struct dbv args[INDEX_BATCH * N_ROW_ARGS];
	must(n <= INDEX_BATCH);
	for (size_t i = 0; i < n; i++)
		row_args(args + N_ROW_ARGS * i, tenant_id, &rows[i]);
	return tx_many(tx,
	               "insert into chunks (id, tenant_id, hash, pack_id, offset_bytes, stored_len, raw_len, codec, xxh) "
	               "values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict (id) do update set tenant_id = $2, hash = $3, "
	               "pack_id = $4, offset_bytes = $5, stored_len = $6, raw_len = $7, codec = $8, xxh = $9",
	               args, N_ROW_ARGS, n, NULL, NULL);
}

int index_recount_packs(struct tx *tx, int64_t now_us)
{
	int err = tx_exec(tx, "update packs set size_bytes = 0", DB_NO_ARGS, NULL);
	return err != E_OK ? err
	                   : tx_exec(tx,
	                             "insert into packs (id, tenant_id, size_bytes, state, created_at) select pack_id, "
	                             "min(tenant_id), cast(sum(stored_len) as bigint), cast($1 as bigint), cast($2 as bigint) from chunks where pack_id > 0 group by pack_id "
	                             "on conflict (id) do update set size_bytes = excluded.size_bytes, state = excluded.state",
	                             DB_ARGS(V_I(PACK_LIVE), V_I(now_us)), NULL);
}
