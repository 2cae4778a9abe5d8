#include "drive/apply_priv.h"

#include "base/limits.h"
#include "drive/principal.h"
#include "drive/share.h"

enum { RUN = DTX_ROWS_MAX };

const char *apply_status_name(enum apply_status s)
{
	switch (s) {
	case APPLY_APPLIED:
		return "applied";
	case APPLY_DUPLICATE:
		return "duplicate";
	case APPLY_NOOP:
		return "noop";
	case APPLY_RENAMED:
		return "renamed";
	case APPLY_CONFLICT:
		return "conflict";
	case APPLY_FAILED:
		return "failed";
	}
	return "";
}

/* ---- what the parts share ---- */

int apply_node(struct apply_step *s, unsigned want, struct node *out)
{
	struct ctx *ctx = s->t->ctx;
	if (!s->c->resource.n)
		return ctx_fail(ctx, E_INVALID, "resource_id is missing.");
	enum node_kind kind = s->c->resource.kind == ID_FILE ? NODE_FILE : NODE_FOLDER;
	int err = node_load(s->t, s->c->resource.n, kind, want | NODE_WITH_TRASH, out);
	if (!err && out->share_id != s->batch->in->share_id) {
		char wire[ID_WIRE_MAX + 1];
		id_format(wire, s->c->resource.kind, s->c->resource.n);
		return ctx_fail(ctx, E_NOT_FOUND, "Not found: %s in this share", wire);
	}
	return err;
}

void apply_says(struct apply_step *s, enum apply_status status, const struct node *n)
{
	struct apply_result *r = s->r;
	r->status = status;
	r->resource = node_rid(n);
	r->version_id = n->kind == NODE_FILE ? n->version_id : 0;
	r->version = n->kind == NODE_FILE ? n->version : 0;
	r->parent_id = n->parent_is_root ? 0 : n->parent_id;
	r->name = n->name;
}

int apply_conflict(struct apply_step *s, const struct node *n, enum conflict_type type, int64_t local_version_id,
                   int64_t server_version_id, int64_t copy_id, bool open)
{
	const struct apply_in *in = s->batch->in;
	struct conflict *c = arena_new(s->t->ctx->arena, struct conflict);
	*c = (struct conflict){
	    .share_id = in->share_id,
	    .device_id = in->device_id,
	    .resource = node_rid(n),
	    .type = type,
	    .path = n->path,
	    .base_version_id = s->c->base_version_id,
	    .local_version_id = local_version_id,
	    .server_version_id = server_version_id,
	    .copy_id = copy_id,
	    .strategy = in->strategy,
	};
	int err = conflict_record(s->t, c, open);
	s->r->conflict_id = c->id;
	s->r->conflict = c;
	return err;
}

/* ---- results by op_id (D4) ---- */

static int stored_read(struct apply_step *s, bool *hit)
{
	struct rows *r = NULL;
	struct arena *a = s->t->ctx->arena;
	int err = tx_query_row(s->t->tx,
	                       "select status, change_type, resource_kind, resource_id, version_id, version, parent_id, name,"
	                       " conflict_id, seq, detail from op_results where device = $1 and op_id = $2",
	                       DB_ARGS(V_I(s->batch->device.id), V_T(s->c->op_id)), &r, hit);
	if (!err && *hit) {
		struct apply_result *x = s->r;
		x->status = rows_i64(r, 0) == APPLY_CONFLICT ? APPLY_CONFLICT : APPLY_DUPLICATE;
		x->type = (enum change_type)rows_i64(r, 1);
		x->resource = (struct rid){(enum id_kind)rows_i64(r, 2), rows_i64(r, 3)};
		x->version_id = rows_i64(r, 4);
		x->version = rows_i64(r, 5);
		x->parent_id = rows_i64(r, 6);
		x->name = arena_str(a, rows_text(r, 7));
		x->conflict_id = rows_i64(r, 8);
		x->seq = rows_i64(r, 9);
		x->detail = arena_str(a, rows_text(r, 10));
	}
	int end = rows_close(&r);
	return err ? err : end;
}

/* A repeated op_id must mean the same change. */
static bool stored_fits(const struct apply_change *c, const struct apply_result *r)
{
	if (c->type != r->type || c->resource.kind != r->resource.kind)
		return false;
	return !c->resource.n || c->resource.n == r->resource.n;
}

static int stored_take(struct apply_step *s, bool *hit)
{
	struct ctx *ctx = s->t->ctx;
	int err = stored_read(s, hit);
	if (err || !*hit)
		return err;
	if (!stored_fits(s->c, s->r))
		return ctx_fail(ctx, E_IDEMPOTENCY, "That op_id was used for another change.");
	if (!s->r->conflict_id)
		return 0;
	struct conflict *c = arena_new(ctx->arena, struct conflict);
	err = conflict_load(s->t, s->r->conflict_id, c);
	if (err == E_NOT_FOUND || err == E_FORBIDDEN) {
		ctx_clear(ctx);
		return 0;
	}
	s->r->conflict = c;
	return err;
}

static int stored_write(struct apply_step *s)
{
	const struct apply_result *r = s->r;
	return drive_insert(s->t,
	                    "insert into op_results (device, op_id, err, status, change_type, resource_kind, resource_id,"
	                    " version_id, version, parent_id, name, conflict_id, seq, detail, created_at)"
	                    " values ($1, $2, 0, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
	                    DB_ARGS(V_I(s->batch->device.id), V_T(s->c->op_id), V_I(r->status), V_I(r->type), V_I(r->resource.kind),
	                            V_I(r->resource.n), V_I(r->version_id), V_I(r->version), V_I(r->parent_id), V_T(r->name),
	                            V_I(r->conflict_id), V_I(r->seq), V_T(r->detail), V_I(clock_now(s->t->ctx->clock))));
}

/* ---- one change ---- */

/* Content comes along in one way, and with nothing that could not use it. */
static int content_check(const struct apply_step *s)
{
	const struct apply_change *c = s->c;
	if (!c->bytes)
		return 0;
	if (c->resource.kind != ID_FILE || (c->type != CHANGE_CREATED && c->type != CHANGE_UPDATED))
		return ctx_fail(s->t->ctx, E_INVALID, "Only a file that is created or updated brings content along.");
	if (c->version_id || (c->bytes->source_version_id && c->bytes->n_chunks))
		return ctx_fail(s->t->ctx, E_INVALID, "version_id, chunks and source_version_id exclude each other.");
	return 0;
}

static int step_dispatch(struct apply_step *s)
{
	bool file = s->c->resource.kind == ID_FILE;
	if (!file && s->c->resource.kind != ID_FOLDER)
		return ctx_fail(s->t->ctx, E_INVALID, "Only files and folders are changed here.");
	int err = content_check(s);
	if (err)
		return err;
	switch (s->c->type) {
	case CHANGE_CREATED:
		if (file && s->c->bytes)
			return apply_file_made(s);
		return file ? apply_file_created(s) : apply_folder_created(s);
	case CHANGE_UPDATED:
		if (file && s->c->bytes)
			return apply_file_edited(s);
		if (file)
			return apply_file_updated(s);
		return ctx_fail(s->t->ctx, E_INVALID, "A folder has nothing to update.");
	case CHANGE_DELETED:
		return file ? apply_file_deleted(s) : apply_folder_deleted(s);
	case CHANGE_MOVED:
	case CHANGE_RENAMED:
		return apply_placed(s);
	}
	return ctx_fail(s->t->ctx, E_INVALID, "The change_type is not known.");
}

static int step_part(struct dtx *t, void *arg)
{
	struct apply_step *s = arg;
	bool hit = false;
	int err = s->c->op_id.n && !t->by_index ? stored_take(s, &hit) : 0;
	if (err || hit)
		return err;
	size_t before = t->n_changes;
	err = drive_makes_files(t, s->c->type == CHANGE_CREATED && s->c->resource.kind == ID_FILE && s->c->bytes);
	if (!err)
		err = step_dispatch(s);
	if (!err && t->n_changes > before)
		s->r->seq = t->seq;
	return err || !s->c->op_id.n ? err : stored_write(s);
}

/* Faults of the machine end the request; what is the client's to mend is told beside the change. */
static bool step_is_fault(int err)
{
	int status = err_info(err)->status;
	return (status >= 500 && err != E_QUOTA) || err == E_UNAUTHENTICATED || err == E_SUSPENDED;
}

/* Faults that refuse the request as a whole (the table in apply.h). */
static bool step_refuses(const struct apply_in *in, int err)
{
	if (err == E_SYNC_CONFLICT)
		return in->n_changes == 1 || in->strategy == RESOLVE_NONE;
	return err == E_VERSION_STALE && in->strategy == RESOLVE_NONE;
}

static struct apply_step step_begin(struct apply_batch *b, struct dtx *t, size_t i)
{
	const struct apply_change *c = &b->in->changes[i];
	struct apply_result *r = &b->out->results[i];
	*r = (struct apply_result){.index = i, .op_id = c->op_id, .type = c->type, .resource = c->resource};
	return (struct apply_step){.batch = b, .t = t, .c = c, .r = r};
}

static int step_run(struct apply_batch *b, struct dtx *t, size_t i)
{
	struct apply_step s = step_begin(b, t, i);
	int err = drive_nested(t, step_part, &s);
	if (!err)
		return 0;
	if (step_is_fault(err) || step_refuses(b->in, err))
		return err;
	struct apply_result *r = step_begin(b, t, i).r;
	r->status = APPLY_FAILED;
	r->err = err;
	r->detail = arena_str(t->ctx->arena, ctx_detail(t->ctx, err));
	ctx_clear(t->ctx);
	return 0;
}

/* Many changes under one savepoint, which costs a third of the writer's time when each has its own. */
struct run {
	struct apply_batch *batch;
	size_t from, to;
};

static int run_part(struct dtx *t, void *arg)
{
	struct run *run = arg;
	int err = 0;
	for (size_t i = run->from; !err && i < run->to; i++) {
		struct apply_step s = step_begin(run->batch, t, i);
		err = step_part(t, &s);
	}
	return err;
}

/* One failure undoes the run; then each of its changes is tried for itself. */
static int run_together(struct apply_batch *b, struct dtx *t, size_t from, size_t to)
{
	struct run run = {b, from, to};
	int err = to - from > 1 ? drive_nested(t, run_part, &run) : E_CONFLICT;
	if (!err)
		return 0;
	if (step_is_fault(err))
		return err;
	ctx_clear(t->ctx);
	err = 0;
	for (size_t i = from; !err && i < to; i++)
		err = step_run(b, t, i);
	return err;
}

/* ---- transactions ---- */

static int batch_begin(struct dtx *t, struct apply_batch *b)
{
	struct share share;
	int64_t position;
	int err = device_load(t, b->in->device_id, &b->device);
	if (!err)
		err = share_load(t, b->in->share_id, RIGHT_WRITE, &share);
	if (err || b->in->base_cursor < 0)
		return err;
	/* In a later transaction the head is the one that this request's own changes moved. A position that the log no longer
	 * reaches back to says nothing about what others did since. */
	err = cursor_check(t, arena_fmt(t->ctx->arena, "%lld", (long long)b->in->base_cursor), &position);
	return err == E_CURSOR_INVALID ? ctx_fail(t->ctx, err, "base_cursor is not in the log; read a snapshot.") : err;
}

/* Nothing is looked for that a unique index tells, rows go in together, and there is no savepoint: most requests meet no failure. */
static int run_daring(struct apply_batch *b, struct dtx *t, size_t from, size_t to)
{
	struct run run = {b, from, to};
	t->by_index = true;
	int err = run_part(t, &run);
	if (!err)
		err = drive_insert_flush(t);
	if (!err)
		err = change_flush_rows(t);
	b->tripped = err != 0;
	return err;
}

static int batch_op(struct dtx *t, void *arg)
{
	struct apply_batch *b = arg;
	size_t n = b->in->n_changes, i = b->from;
	bool all_or_none = b->in->strategy == RESOLVE_NONE;
	int64_t end_us = clock_mono(t->ctx->clock) + LIMIT_APPLY_TX_US;
	b->foreign = (struct apply_foreign){0};
	b->tripped = false;
	int err = batch_begin(t, b);
	while (!err && i < n && (all_or_none || i == b->from || clock_mono(t->ctx->clock) < end_us)) {
		size_t to = n - i < RUN ? n : i + RUN;
		err = b->careful ? run_together(b, t, i, to) : run_daring(b, t, i, to);
		i = to;
	}
	b->to = i;
	if (!err && i == n)
		err = apply_bytes_used(t, b);
	if (!err)
		err = drive_head(t, &b->out->cursor);
	map_fini(&b->foreign.ids);
	return err;
}

static int apply_check(struct ctx *ctx, const struct apply_in *in)
{
	if (in->n_changes > LIMIT_APPLY_CHANGES)
		return ctx_invalid(ctx, "body", STR("changes"), "too_long", "At most %d changes a request.", LIMIT_APPLY_CHANGES);
	if (in->strategy == RESOLVE_NONE && in->n_changes > LIMIT_APPLY_ALL_OR_NONE)
		return ctx_invalid(ctx, "body", STR("changes"), "too_long",
		                   "Without conflict_resolution at most %d changes a request, since all or none are applied.",
		                   LIMIT_APPLY_ALL_OR_NONE);
	for (size_t i = 0; i < in->n_changes; i++)
		if (in->changes[i].op_id.n > LIMIT_OP_ID_BYTES)
			return ctx_invalid(ctx, "body", STR("op_id"), "string_too_long", "An op_id has at most %d bytes.",
			                   LIMIT_OP_ID_BYTES);
	return 0;
}

int drive_apply(struct ctx *ctx, const struct apply_in *in, struct apply_out *out)
{
	int err = apply_check(ctx, in);
	if (err)
		return err;
	*out = (struct apply_out){.results = arena_many(ctx->arena, in->n_changes, struct apply_result),
	                          .n_results = in->n_changes};
	struct apply_batch b = {.in = in, .out = out, .hash_left = LIMIT_APPLY_HASH_BYTES};
	err = apply_bytes_find(ctx, &b);
	do {
		if (!err)
			err = drive_write(ctx, batch_op, &b);
		if (err && b.tripped && !b.careful && !step_is_fault(err)) {
			b.careful = true;
			err = 0;
		} else {
			b.from = b.to;
		}
	} while (!err && b.from < in->n_changes);
	return err;
}
