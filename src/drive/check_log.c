/* The change log: of each tenant every number from behind the floor to the head, but for the gaps that a restore made (D1). */
#include <stdlib.h>

#include "base/must.h"
#include "drive/change.h"
#include "drive/check_priv.h"

enum { TENANTS_MAX = 1000, PAGE = 10000 };

struct log_job {
	struct check *c;
	int64_t after; /* a tenant, or a number of the log */
	struct {
		int64_t id, seq, floor_seq;
		struct str name, gaps;
	} tenants[TENANTS_MAX];
	size_t n_tenants;
	int64_t tenant_id;
	int64_t seqs[PAGE];
	size_t n;
};

static int tenants_op(struct tx *tx, void *arg)
{
	struct log_job *j = arg;
	struct arena *a = &j->c->arena;
	AUTO_ROWS *r = NULL;
	j->n_tenants = 0;
	int err = tx_query(tx, "select id, seq, floor_seq, name from tenants where id > $1 order by id limit $2",
	                   DB_ARGS(V_I(j->after), V_I(TENANTS_MAX)), &r);
	for (; !err && j->n_tenants < TENANTS_MAX && rows_next(r); j->n_tenants++) {
		j->tenants[j->n_tenants].id = rows_i64(r, 0);
		j->tenants[j->n_tenants].seq = rows_i64(r, 1);
		j->tenants[j->n_tenants].floor_seq = rows_i64(r, 2);
		j->tenants[j->n_tenants].name = arena_str(a, rows_text(r, 3));
	}
	err = err ? err : rows_close(&r);
	for (size_t i = 0; !err && i < j->n_tenants; i++) {
		AUTO_ROWS *g = NULL;
		bool found;
		err = tx_query_row(tx, "select value from facts where key = $1",
		                   DB_ARGS(V_T(change_gaps_key(a, j->tenants[i].id))), &g, &found);
		j->tenants[i].gaps = !err && found ? arena_str(a, rows_text(g, 0)) : STR("");
	}
	return err;
}

static int page_op(struct tx *tx, void *arg)
{
	struct log_job *j = arg;
	AUTO_ROWS *r = NULL;
	j->n = 0;
	int err = tx_query(tx, "select seq from changes where tenant_id = $1 and seq > $2 order by seq limit $3",
	                   DB_ARGS(V_I(j->tenant_id), V_I(j->after), V_I(PAGE)), &r);
	while (!err && j->n < PAGE && rows_next(r))
		j->seqs[j->n++] = rows_i64(r, 0);
	return err ? err : rows_close(&r);
}

/* The number that must follow at. */
static int64_t next_of(struct str gaps, int64_t at)
{
	struct change_gap gap;
	while (change_gap_next(&gaps, &gap))
		if (at == gap.from)
			return gap.to + 1;
	return at + 1;
}

static void tell_missing(struct check *c, int64_t tenant_id, struct str name, int64_t from, int64_t to)
{
	check_tell(c, "CHANGES_MISSING", &(struct check_place){.subject = {ID_TENANT, tenant_id}},
	           "the change log of %.*s lacks numbers %lld to %lld", STR_ARG(name), (long long)from, (long long)to);
}

static int check_tenant(struct log_job *j, size_t i)
{
	struct check *c = j->c;
	struct str gaps = j->tenants[i].gaps, name = j->tenants[i].name;
	int64_t at = j->tenants[i].floor_seq, head = j->tenants[i].seq;
	int err;
	j->tenant_id = j->tenants[i].id;
	do {
		j->after = at;
		err = db_read(c->config->db, page_op, j);
		for (size_t k = 0; !err && k < j->n; k++) {
			int64_t want = next_of(gaps, at);
			if (j->seqs[k] > want)
				tell_missing(c, j->tenant_id, name, want, j->seqs[k] - 1);
			at = j->seqs[k];
			c->totals->changes++;
		}
		check_progress(c, "changes", c->totals->changes);
	} while (!err && j->n == PAGE);
	if (!err && at > head)
		check_tell(c, "CHANGES_BEYOND", &(struct check_place){.subject = {ID_TENANT, j->tenant_id}},
		           "the change log of %.*s goes to %lld, but its head is %lld", STR_ARG(name), (long long)at,
		           (long long)head);
	else if (!err && at < head && next_of(gaps, at) <= head)
		tell_missing(c, j->tenant_id, name, next_of(gaps, at), head);
	return err;
}

int check_log(struct check *c)
{
	struct log_job *j = calloc(1, sizeof *j);
	must(j != NULL);
	j->c = c;
	int64_t after = 0;
	int err;
	do {
		arena_reset(&c->arena);
		j->after = after;
		err = db_read(c->config->db, tenants_op, j);
		for (size_t i = 0; !err && i < j->n_tenants; i++) {
			after = j->tenants[i].id;
			err = check_tenant(j, i);
		}
	} while (!err && j->n_tenants == TENANTS_MAX);
	free(j);
	return err;
}
