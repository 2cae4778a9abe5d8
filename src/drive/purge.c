#include "drive/purge.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "drive/job.h"
#include "drive/node_priv.h"
#include "drive/policy.h"
#include "drive/share.h"
#include "drive/version.h"
#include "drive/where.h"

/* ---- removing what is below, deepest first ---- */

enum { CHILDREN = 256, FOLDERS_A_VISIT = 8, STACK = NODE_WALK_MAX * FOLDERS_A_VISIT };

struct purging {
	struct dtx *t;
	int64_t budget; /* rows that may still be removed */
	int64_t freed_bytes;
};

static int remove_node(struct purging *p, int64_t id, enum node_kind kind)
{
	struct version_removed gone = {0};
	int err = kind == NODE_FILE ? version_remove_some(p->t, id, p->budget, &gone) : 0;
	p->freed_bytes += gone.size_bytes;
	p->budget -= gone.n;
	if (err || gone.more)
		return err;
	err = tx_exec(p->t->tx, "delete from conflicts where resource_id = $1", DB_ARGS(V_I(id)), NULL);
	if (!err)
		err = tx_exec(p->t->tx, "delete from nodes where id = $1", DB_ARGS(V_I(id)), NULL);
	p->budget--;
	return err;
}

struct child {
	int64_t id;
	enum node_kind kind;
};

static int children_of(struct dtx *t, int64_t folder_id, struct child *children, size_t *n)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	int err = tx_query(t->tx, "select id, kind from nodes where parent_id = $1 limit $2",
	                   DB_ARGS(V_I(folder_id), V_I(CHILDREN)), &r);
	while (!err && *n < CHILDREN && rows_next(r))
		children[(*n)++] = (struct child){rows_i64(r, 0), (enum node_kind)rows_i64(r, 1)};
	return err ? err : rows_close(&r);
}

/* A folder whose children were removed is asked again, and goes when it has none. Looking costs of the budget, too. */
static int remove_below(struct purging *p, struct child top)
{
	struct child children[CHILDREN];
	struct child *stack = arena_many(p->t->ctx->arena, STACK, struct child);
	size_t depth = 0;
	int err = 0;
	for (stack[depth++] = top; !err && depth && p->budget > 0;) {
		struct child at = stack[depth - 1];
		size_t n = 0, folders = 0;
		if (at.kind == NODE_FOLDER)
			err = children_of(p->t, at.id, children, &n);
		if (!err && !n) {
			depth--;
			err = remove_node(p, at.id, at.kind);
			continue;
		}
		p->budget--;
		if (!err && depth + FOLDERS_A_VISIT > STACK)
			err = ctx_fail(p->t->ctx, E_CORRUPT, "folders are nested too deep");
		for (size_t i = 0; !err && i < n && p->budget > 0; i++) {
			if (children[i].kind == NODE_FILE)
				err = remove_node(p, children[i].id, NODE_FILE);
			else if (folders++ < FOLDERS_A_VISIT)
				stack[depth++] = children[i];
		}
	}
	return err;
}

static int cut_off(struct dtx *t, int64_t id)
{
	return tx_exec(t->tx,
	               "update nodes set parent_id = 0, name = '', name_key = '', trash_key = id,"
	               " deleted_at = case when deleted_at > 0 then deleted_at else $2 end where id = $1",
	               DB_ARGS(V_I(id), V_I(clock_now(t->ctx->clock))), NULL);
}

/* What *budget allows of a node and what is below it; the bytes are counted off the share. Cut off, if it could not be all. */
static int purge(struct dtx *t, int64_t share_id, struct child top, int64_t *budget, int64_t *freed_bytes)
{
	struct purging p = {.t = t, .budget = *budget};
	int err = remove_below(&p, top);
	if (!err)
		err = share_use(t, share_id, -p.freed_bytes);
	if (!err && p.budget <= 0)
		err = cut_off(t, top.id);
	*budget = p.budget;
	*freed_bytes += p.freed_bytes;
	return err;
}

int node_purge(struct dtx *t, struct node *n, struct str device_id)
{
	int64_t budget = PURGE_ROWS, freed_bytes = 0;
	int err = node_not_root(t, n);
	if (!err && !n->in_trash)
		err = change_append(t, CHANGE_DELETED, n, n->path, STR_NULL, false, device_id, NULL);
	if (!err)
		err = purge(t, n->share_id, (struct child){n->id, n->kind}, &budget, &freed_bytes);
	n->deleted_at = clock_now(t->ctx->clock);
	n->in_trash = true;
	return err;
}

/* ---- the job: what was cut off ---- */

struct rest {
	struct child top;
	int64_t tenant_id, share_id, freed_bytes;
};

static int next_rest_op(struct tx *tx, void *arg)
{
	struct rest *rest = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx, "select id, kind, tenant_id, share_id from nodes where parent_id = 0 and name_key = '' limit 1",
	                       DB_NO_ARGS, &r, &found);
	*rest = (struct rest){0};
	if (!err && found)
		*rest = (struct rest){{rows_i64(r, 0), (enum node_kind)rows_i64(r, 1)}, rows_i64(r, 2), rows_i64(r, 3), 0};
	return err;
}

static int rest_op(struct dtx *t, void *arg)
{
	struct rest *rest = arg;
	int64_t budget = PURGE_ROWS;
	rest->freed_bytes = 0;
	return purge(t, rest->share_id, rest->top, &budget, &rest->freed_bytes);
}

static int purge_rests(struct job_round *r, struct arena *a)
{
	int err = 0;
	while (!err && !r->dry && job_go_on(r)) {
		struct rest rest;
		struct ctx ctx;
		err = db_read(r->drive->db, next_rest_op, &rest);
		if (err || !rest.top.id)
			break;
		job_ctx(r, &ctx, a, rest.tenant_id);
		err = drive_write(&ctx, rest_op, &rest);
		r->bytes += err ? 0 : rest.freed_bytes;
		arena_reset(a);
	}
	return err;
}

/* ---- the job: what has been in the trash long enough ---- */

enum { EXPIRED = 100, SHARES = 100 };

struct expiring {
	struct job_round *round;
	int64_t tenant_id, share_id;
	int64_t before; /* what was trashed earlier goes; 0: nothing does */
	struct child nodes[EXPIRED];
	size_t n;
	int64_t after_at, after_id; /* of a dry round: those up to here were told */
	int64_t items, freed_bytes;
};

static int expired(struct tx *tx, struct expiring *x)
{
	AUTO_ROWS *r = NULL;
	struct policy policy;
	bool found;
	x->n = 0;
	int err = tx_query_row(tx, "select t.settings, s.settings from shares s join tenants t on t.id = s.tenant_id where s.id = $1",
	                       DB_ARGS(V_I(x->share_id)), &r, &found);
	if (err || !found)
		return err;
	policy_read(rows_text(r, 0), rows_text(r, 1), &policy);
	err = rows_close(&r);
	int64_t days = policy.values[POLICY_TRASH_DAYS];
	x->before = days == POLICY_FOREVER ? 0 : x->round->begin - days * SECONDS_US(86400);
	if (!err && x->before > 0)
		err = tx_query(tx,
		               "select id, kind, deleted_at from nodes where share_id = $1 and deleted_at > 0 and deleted_at <= $2"
		               " and parent_id <> 0 and (deleted_at > $3 or (deleted_at = $3 and id > $4))"
		               " order by deleted_at, id limit $5",
		               DB_ARGS(V_I(x->share_id), V_I(x->before), V_I(x->after_at), V_I(x->after_id), V_I(EXPIRED)), &r);
	while (!err && r && x->n < EXPIRED && rows_next(r)) {
		x->nodes[x->n++] = (struct child){rows_i64(r, 0), (enum node_kind)rows_i64(r, 1)};
		if (x->round->dry) {
			x->after_id = rows_i64(r, 0);
			x->after_at = rows_i64(r, 2);
		}
	}
	return err || !r ? err : rows_close(&r);
}

/* Nothing of the tenant moves here: what is in the trash for long enough now is not restored before we commit. */
static int expire_op(struct dtx *t, void *arg)
{
	struct expiring *x = arg;
	int64_t budget = PURGE_ROWS;
	x->items = x->freed_bytes = 0;
	int err = expired(t->tx, x);
	for (size_t i = 0; !err && i < x->n && budget > 0; i++) {
		err = purge(t, x->share_id, x->nodes[i], &budget, &x->freed_bytes);
		x->items++;
	}
	return err;
}

static int dry_op(struct dtx *t, void *arg)
{
	struct expiring *x = arg;
	struct job_round *r = x->round;
	int err = expired(t->tx, x);
	for (size_t i = 0; !err && i < x->n; i++) {
		struct str where;
		int64_t size_bytes;
		err = node_bytes(t, &(struct node){.id = x->nodes[i].id, .kind = x->nodes[i].kind}, &size_bytes);
		if (!err)
			err = where_text(t->tx, t->ctx->arena, x->nodes[i].id, &where);
		if (err)
			break;
		r->items++;
		r->bytes += size_bytes;
		r->tell(r->tell_arg, where, size_bytes);
	}
	return err;
}

static int expire_share(struct job_round *r, struct arena *a, struct expiring *x)
{
	int err = 0;
	do {
		struct ctx ctx;
		job_ctx(r, &ctx, a, x->tenant_id);
		err = r->dry ? drive_read(&ctx, dry_op, x) : drive_write(&ctx, expire_op, x);
		if (!err && !r->dry) {
			r->items += x->items;
			r->bytes += x->freed_bytes;
			err = purge_rests(r, a);
		}
		arena_reset(a);
	} while (!err && x->n && job_go_on(r));
	return err;
}

struct shares {
	int64_t after;
	struct {
		int64_t id, tenant_id;
	} items[SHARES];
	size_t n;
};

static int shares_op(struct tx *tx, void *arg)
{
	struct shares *s = arg;
	AUTO_ROWS *r = NULL;
	s->n = 0;
	int err = tx_query(tx,
	                   "select s.id, s.tenant_id from shares s where s.id > $1 and exists (select 1 from nodes n"
	                   " where n.share_id = s.id and n.deleted_at > 0) order by s.id limit $2",
	                   DB_ARGS(V_I(s->after), V_I(SHARES)), &r);
	for (; !err && s->n < SHARES && rows_next(r); s->n++) {
		s->items[s->n].id = rows_i64(r, 0);
		s->items[s->n].tenant_id = rows_i64(r, 1);
	}
	return err ? err : rows_close(&r);
}

static int run(struct job_round *r)
{
	struct shares shares = {.n = SHARES};
	struct arena arena;
	arena_init(&arena);
	if (!str_to_i64(str_c(r->state), &shares.after))
		shares.after = 0;
	int err = purge_rests(r, &arena), first_err = 0;
	while (!err && shares.n == SHARES && job_go_on(r)) {
		err = db_read(r->drive->db, shares_op, &shares);
		for (size_t i = 0; !err && i < shares.n && job_go_on(r); i++) {
			struct expiring x = {.round = r, .tenant_id = shares.items[i].tenant_id, .share_id = shares.items[i].id};
			int wrong = expire_share(r, &arena, &x); /* a share that cannot be done must not keep the others */
			first_err = first_err ? first_err : wrong;
			if (r->more)
				break;
			shares.after = x.share_id;
			snprintf(r->state, sizeof r->state, "%lld", (long long)shares.after);
		}
	}
	if (!err && !r->more)
		r->state[0] = 0;
	arena_fini(&arena);
	return err ? err : first_err;
}

const struct job job_trash = {
    .name = "trash",
    .what = "Removes for good what has been in the trash for long enough (scaidrived policy)",
    .period_s = PURGE_PERIOD_S,
    .round_s = PURGE_ROUND_S,
    .by_age = true,
    .run = run,
};
