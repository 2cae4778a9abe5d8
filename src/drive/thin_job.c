/* The job "versions": goes through all files that have several versions, a part of them each round, and removes what thin()
 * does not keep. */
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "drive/job.h"
#include "drive/share.h"
#include "drive/thin.h"
#include "drive/version.h"
#include "drive/where.h"

/* A version of the file at hand. */
struct old {
	int64_t id, number, created_at, size_bytes;
};

struct file {
	int64_t share_id, head_id;
	struct policy policy;
	struct old *versions; /* by number */
	size_t n;
};

static int load_versions(struct tx *tx, int64_t node_id, struct file *f)
{
	AUTO_ROWS *r = NULL;
	int64_t count;
	int err = tx_i64(tx, "select count(*) from versions where node_id = $1 and number > 0", DB_ARGS(V_I(node_id)), 0, &count);
	if (!err)
		err = tx_query(tx,
		               "select id, number, created_at, size_bytes from versions where node_id = $1 and number > 0"
		               " order by number",
		               DB_ARGS(V_I(node_id)), &r);
	if (err)
		return err;
	f->versions = arena_many(tx_arena(tx), (size_t)count + 1, struct old);
	while (f->n < (size_t)count && rows_next(r))
		f->versions[f->n++] = (struct old){rows_i64(r, 0), rows_i64(r, 1), rows_i64(r, 2), rows_i64(r, 3)};
	return rows_close(&r);
}

/* Those that an open conflict names stay: someone has to choose among them. */
static int keep_disputed(struct tx *tx, int64_t node_id, const struct file *f, bool *keep)
{
	AUTO_ROWS *r = NULL;
	int err = tx_query(tx,
	                   "select base_version_id, local_version_id, server_version_id from conflicts where resource_id = $1"
	                   " and coalesce(resolved_at, 0) = 0",
	                   DB_ARGS(V_I(node_id)), &r);
	while (!err && rows_next(r))
		for (size_t i = 0; i < f->n; i++)
			keep[i] |= f->versions[i].id == rows_i64(r, 0) || f->versions[i].id == rows_i64(r, 1) ||
			           f->versions[i].id == rows_i64(r, 2);
	return err ? err : rows_close(&r);
}

/* What of a file is to go, as things are in this transaction; at most max. */
static int choose(struct tx *tx, int64_t node_id, int64_t now, size_t max, struct file *f, struct old *out, size_t *n_out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	*f = (struct file){0};
	*n_out = 0;
	int err = tx_query_row(tx,
	                       "select n.share_id, n.version_id, t.settings, s.settings from nodes n"
	                       " join shares s on s.id = n.share_id join tenants t on t.id = n.tenant_id where n.id = $1",
	                       DB_ARGS(V_I(node_id)), &r, &found);
	if (err || !found)
		return err;
	f->share_id = rows_i64(r, 0);
	f->head_id = rows_i64(r, 1);
	policy_read(rows_text(r, 2), rows_text(r, 3), &f->policy);
	err = load_versions(tx, node_id, f);
	if (err)
		return err;
	int64_t *times = arena_many(tx_arena(tx), f->n + 1, int64_t);
	bool *keep = arena_many(tx_arena(tx), f->n + 1, bool);
	for (size_t i = 0; i < f->n; i++)
		times[i] = f->versions[i].created_at;
	thin(&f->policy, now, times, f->n, keep);
	err = keep_disputed(tx, node_id, f, keep);
	for (size_t i = 0; !err && i < f->n && *n_out < max; i++)
		if (!keep[i] && f->versions[i].id != f->head_id)
			out[(*n_out)++] = f->versions[i];
	return err;
}

/* ---- looking ---- */

struct page {
	struct job_round *round;
	int64_t after;
	bool end; /* no versions behind it */
	struct {
		int64_t node_id, tenant_id;
	} nodes[THIN_PAGE]; /* of which something is to go */
	size_t n;
	size_t at, next; /* of nodes: those of the transaction at hand */
	int64_t removed, freed;
};

/* Files with several versions among the next THIN_PAGE versions, by the index alone; p->after moves on. */
static int several_op(struct tx *tx, struct page *p, int64_t *ids, size_t *n_ids)
{
	AUTO_ROWS *r = NULL;
	int64_t seen = 0, last = 0, last_count = 0, before = p->after;
	*n_ids = 0;
	int err = tx_query(tx,
	                   "select node_id, count(*) from (select node_id from versions where node_id > $1 and number > 0"
	                   " order by node_id limit $2) v group by node_id order by node_id",
	                   DB_ARGS(V_I(p->after), V_I(THIN_PAGE)), &r);
	while (!err && rows_next(r)) {
		if (last) {
			p->after = last;
			if (last_count > 1)
				ids[(*n_ids)++] = last;
		}
		last = rows_i64(r, 0);
		last_count = rows_i64(r, 1);
		seen += last_count;
	}
	p->end = seen < THIN_PAGE;
	if (!err && last && (p->end || p->after == before)) { /* else the last file may go on behind the page */
		p->after = last;
		if (last_count > 1)
			ids[(*n_ids)++] = last;
	}
	return err ? err : rows_close(&r);
}

static int tell_dry(struct tx *tx, struct job_round *r, int64_t node_id, const struct old *gone, size_t n)
{
	struct str path;
	int err = where_text(tx, tx_arena(tx), node_id, &path);
	for (size_t i = 0; !err && i < n; i++) {
		r->items++;
		r->bytes += gone[i].size_bytes;
		r->tell(r->tell_arg, arena_fmt(tx_arena(tx), "%.*s version %lld", STR_ARG(path), (long long)gone[i].number),
		        gone[i].size_bytes);
	}
	return err;
}

static int look_op(struct tx *tx, void *arg)
{
	struct page *p = arg;
	struct job_round *r = p->round;
	size_t n_ids, max = r->dry ? THIN_PAGE : 1;
	int64_t *ids = arena_many(tx_arena(tx), THIN_PAGE, int64_t);
	struct old *gone = arena_many(tx_arena(tx), max, struct old);
	p->n = 0;
	int err = several_op(tx, p, ids, &n_ids);
	for (size_t i = 0; !err && i < n_ids; i++) {
		struct file f;
		size_t n;
		err = choose(tx, ids[i], r->begin, max, &f, gone, &n);
		if (err || !n)
			continue;
		if (r->dry)
			err = tell_dry(tx, r, ids[i], gone, n);
		p->nodes[p->n++].node_id = ids[i];
	}
	return err;
}

/* ---- removing ---- */

/* In the tenant's own transaction, where nothing moves: is it still so? */
static int remove_op(struct dtx *t, void *arg)
{
	struct page *p = arg;
	struct old *gone = arena_many(t->ctx->arena, THIN_TX_VERSIONS, struct old);
	int err = 0;
	p->removed = p->freed = 0;
	for (p->next = p->at; !err && p->next < p->n && p->nodes[p->next].tenant_id == t->ctx->tenant_id;) {
		struct file f;
		size_t n, max = (size_t)(THIN_TX_VERSIONS - p->removed);
		int64_t freed = 0;
		if (!max)
			break;
		err = choose(t->tx, p->nodes[p->next].node_id, p->round->begin, max, &f, gone, &n);
		for (size_t i = 0; !err && i < n; i++) {
			err = version_remove(t, gone[i].id);
			freed += gone[i].size_bytes;
		}
		if (!err && n)
			err = share_use(t, f.share_id, -freed);
		p->removed += (int64_t)n;
		p->freed += freed;
		p->next += n < max; /* else there may be more of it */
	}
	return err;
}

static int tenant_op(struct tx *tx, void *arg)
{
	struct page *p = arg;
	int err = 0;
	for (size_t i = 0; !err && i < p->n; i++)
		err = tx_i64(tx, "select tenant_id from nodes where id = $1", DB_ARGS(V_I(p->nodes[i].node_id)), 0,
		             &p->nodes[i].tenant_id);
	return err;
}

static int remove_page(struct page *p, struct arena *a)
{
	struct job_round *r = p->round;
	int err = db_read(r->drive->db, tenant_op, p);
	for (p->at = 0; !err && p->at < p->n && job_go_on(r);) {
		struct ctx ctx;
		if (!p->nodes[p->at].tenant_id) { /* it has gone meanwhile */
			p->at++;
			continue;
		}
		job_ctx(r, &ctx, a, p->nodes[p->at].tenant_id);
		err = drive_write(&ctx, remove_op, p);
		if (!err) {
			r->items += p->removed;
			r->bytes += p->freed;
			p->at = p->next;
		}
		arena_reset(a);
	}
	return err;
}

static int run(struct job_round *r)
{
	struct page *p = calloc(1, sizeof *p);
	struct arena arena;
	must(p != NULL);
	arena_init(&arena);
	p->round = r;
	if (!str_to_i64(str_c(r->state), &p->after))
		p->after = 0;
	int err = 0, pages = 0;
	while (!err && !p->end && (r->dry || pages++ < THIN_PAGES) && job_go_on(r)) {
		err = db_read(r->drive->db, look_op, p);
		if (!err && !r->dry)
			err = remove_page(p, &arena);
		if (!err && (r->dry || p->at == p->n)) /* else what is left is looked at again */
			snprintf(r->state, sizeof r->state, "%lld", (long long)p->after);
	}
	if (!err && p->end && !r->more)
		r->state[0] = 0;
	r->more |= !p->end;
	arena_fini(&arena);
	free(p);
	return err;
}

const struct job job_versions = {
    .name = "versions",
    .what = "Removes old versions of files, as the policy says (scaidrived policy)",
    .period_s = THIN_PERIOD_S,
    .round_s = THIN_ROUND_S,
    .by_age = true,
    .run = run,
};
