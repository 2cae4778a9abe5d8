#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/mutant.h"
#include "client/agent_priv.h"

/* ---- metadata: one apply ---- */

/* The same intent, seen from the same state, has the same name: a retry after a lost reply is answered as the first
 * was. The cursor is part of it, so that a later move back to an old place is another intent. */
static struct str op_id_of(struct ctx *ctx, const struct agent *a, const struct plan_op *op)
{
	struct str s = arena_fmt(ctx->arena, "%s/%lld/%lld/%lld/%.*s/%lld", plan_verb_name(op->verb), (long long)op->id,
	                         (long long)(op->has_local ? op->local.id : 0), (long long)op->parent, STR_ARG(op->name),
	                         (long long)a->replica->cursor);
	return arena_fmt(ctx->arena, "%s-%lld-%016llx", plan_verb_name(op->verb), (long long)op->id,
	                 (unsigned long long)xxh3_64(s.p, s.n));
}

static struct remote_edit edit_of(struct ctx *ctx, const struct agent *a, const struct plan_op *op)
{
	struct remote_edit e = {.kind = op->kind, .parent = op->parent, .name = op->name, .op_id = op_id_of(ctx, a, op)};
	if (op->verb == PLAN_MAKE_REMOTE) {
		e.verb = REMOTE_MAKE_FOLDER;
		return e;
	}
	e.id = op->id;
	if (op->verb == PLAN_MOVE_REMOTE) {
		e.verb = op->parent == op->remote.parent ? REMOTE_RENAME : REMOTE_MOVE;
	} else {
		e.verb = REMOTE_DELETE;
		e.base_version_id = op->kind == NODE_FILE ? op->remote.version_id : 0;
	}
	return e;
}

static int fold_made(struct ctx *ctx, struct agent *a, const struct plan_op *op, const struct remote_edit *e)
{
	struct node_facts f = {.id = e->new_id, .parent = e->new_parent, .kind = NODE_FOLDER};
	f.name = e->new_name.p ? e->new_name : op->name;
	if (!agent_as_planned(a, op) || !replica_put(a->replica, REPLICA_REMOTE, &f))
		return E_CHANGED; /* the next pull and plan see what there is */
	if (!replica_rename_id(a->replica, op->local.id, e->new_id))
		return E_CHANGED;
	agent_agree(a, f, arena_str(ctx->arena, op->local.name));
	agent_own_entry(a, e->entry, e->new_id);
	a->stats.made++;
	return 0;
}

static int fold_moved(struct ctx *ctx, struct agent *a, const struct plan_op *op, const struct remote_edit *e)
{
	const struct node *r = tree_get(&a->replica->trees[REPLICA_REMOTE], op->id);
	const struct node *s = tree_get(&a->replica->trees[REPLICA_SYNCED], op->id);
	if (!r || e->in_part)
		return 0;
	struct node_facts f = r->f;
	f.parent = op->parent;
	f.name = e->new_name.p ? e->new_name : op->name;
	if (!replica_put(a->replica, REPLICA_REMOTE, &f))
		return E_CHANGED;
	a->stats.moved++;
	agent_own_entry(a, e->entry, op->id);
	if (!s)
		return 0;
	struct node_facts sf = s->f;
	sf.parent = f.parent;
	sf.name = f.name;
	/* An evading name is the server's alone; the local one is still to come back. */
	struct str local = op->final ? op->local.name : op->has_local ? STR_NULL : s->f.local_name;
	agent_agree(a, sf, arena_str(ctx->arena, local));
	return 0;
}

static void fold_trashed(struct agent *a, const struct plan_op *op, const struct remote_edit *e)
{
	if (e->in_part)
		return;
	replica_del(a->replica, REPLICA_REMOTE, op->id);
	replica_del(a->replica, REPLICA_SYNCED, op->id);
	agent_own_entry(a, e->entry, op->id);
	a->stats.trashed++;
}

static int fold_edit(struct ctx *ctx, struct agent *a, const struct plan_op *op, const struct remote_edit *e)
{
	if (e->err) {
		/* Gone already is what a deletion wants. */
		if (op->verb == PLAN_TRASH_REMOTE && (e->err == E_NOT_FOUND || e->err == E_GONE))
			return 0;
		return ctx_fail(ctx, e->err, "%.*s", STR_ARG(e->detail.p ? e->detail : STR("The server refused the change.")));
	}
	if (op->verb == PLAN_MAKE_REMOTE)
		return fold_made(ctx, a, op, e);
	if (op->verb == PLAN_MOVE_REMOTE)
		return fold_moved(ctx, a, op, e);
	fold_trashed(a, op, e);
	return 0;
}

int act_apply(struct ctx *ctx, struct agent *a, const struct plan_op **ops, size_t n, int *errs)
{
	struct remote_edit *edits = arena_many(ctx->arena, n, struct remote_edit);
	for (size_t i = 0; i < n; i++)
		edits[i] = edit_of(ctx, a, ops[i]);
	int err = remote_apply(ctx, a->remote, a->share, a->replica->cursor, edits, n);
	for (size_t i = 0; i < n && !err; i++)
		errs[i] = fold_edit(ctx, a, ops[i], &edits[i]);
	return err;
}

/* ---- transfers ---- */

static int stage_sink_write(struct http_sink *self, const void *p, size_t n)
{
	struct act_stage *s = (struct act_stage *)self;
	sha256_update(s->sha, p, n);
	s->job->agent->bytes += (int64_t)n;
	return s->job->agent->root->ops->stage_write(s->stage, p, n);
}

static int download(struct job *j, struct act_stage *to)
{
	const struct plan_op *op = j->op;
	return remote_download(&j->ctx, j->agent->remote, op->id, op->remote.version_id, op->remote.size_bytes, &to->face);
}

static int fetch_by(struct job *j, int (*fill)(struct job *j, struct act_stage *to))
{
	const struct plan_op *op = j->op;
	struct root *root = j->agent->root;
	struct act_stage to = {.face = {.write = stage_sink_write}, .job = j, .ctx = &j->ctx};
	int err = root->ops->stage(root, &j->ctx, &to.stage);
	if (err)
		return err;
	to.sha = sha256_new();
	err = fill(j, &to);
	struct sha256 got = sha256_final(to.sha);
	sha256_free(to.sha);
	if (!err && !sha256_eq(&got, &op->remote.checksum) && !mutant(M_FETCH_UNVERIFIED))
		err = ctx_fail(&j->ctx, E_CHECKSUM, "The content that came for \"%.*s\" does not match its checksum; it was not used.", STR_ARG(j->path));
	if (err) {
		root->ops->stage_abort(to.stage);
		return err;
	}
	struct root_entry now;
	if (mutant(M_ACT_OVERWRITE) && !root->ops->stat(root, &j->ctx, j->path, &now))
		j->stamp = now.stamp;
	return root->ops->stage_commit(to.stage, &j->ctx, j->path, op->has_local ? &j->stamp : NULL, op->remote.mtime_us,
	                               op->executable, &j->entry);
}

static int fetch(struct job *j)
{
	int err = j->twin.p ? fetch_by(j, act_twin_fetch) : E_NOT_FOUND;
	if (act_delta_gave_up(j, err))
		err = j->delta ? fetch_by(j, act_delta_fetch) : E_NOT_FOUND;
	if (!act_delta_gave_up(j, err))
		return err;
	if (err == E_CHECKSUM)
		buf_fini(&j->layout); /* nor is it known of what the version consists */
	err = fetch_by(j, download);
	if (!err)
		act_delta_learn(j, j->op->remote.version_id, j->op->remote.size_bytes);
	return err;
}

struct file_source {
	struct http_source face;
	struct job *job;
	struct root_file *file; /* NULL: none is open */
	int64_t sent_bytes;
};

static int file_source_read(struct http_source *self, void *out, size_t cap, size_t *got)
{
	struct file_source *s = (struct file_source *)self;
	int err = s->job->agent->root->ops->read(s->file, out, cap, got);
	s->job->agent->bytes += (int64_t)*got;
	s->sent_bytes += (int64_t)*got;
	return err;
}

static void file_source_close(struct file_source *s)
{
	if (s->file)
		s->job->agent->root->ops->close(s->file);
	s->file = NULL;
}

/* The file as the plan saw it. */
static int file_source_open(struct file_source *s)
{
	struct job *j = s->job;
	struct root *root = j->agent->root;
	struct root_entry now;
	int err = root->ops->open(root, &j->ctx, j->path, &s->file, &now);
	if (err) {
		s->file = NULL;
	} else if (!stamp_same(&now.stamp, &j->stamp)) {
		file_source_close(s);
		err = ctx_fail(&j->ctx, E_CHANGED, "\"%.*s\" changed before it was sent; it is looked at again.", STR_ARG(j->path));
	}
	return err;
}

static int file_source_rewind(struct http_source *self, struct ctx *ctx)
{
	struct file_source *s = (struct file_source *)self;
	(void)ctx;
	s->job->agent->bytes -= s->sent_bytes;
	s->sent_bytes = 0;
	file_source_close(s);
	return file_source_open(s);
}

/* What the server is told of a file, whichever way its content goes. */
static struct remote_upload upload_of(const struct plan_op *op)
{
	return (struct remote_upload){.replace_id = op->verb == PLAN_SEND_VERSION ? op->id : 0, .parent = op->parent, .name = op->name,
	                              .base_version_id = op->base_version_id, .size_bytes = op->local.size_bytes,
	                              .strategy = str_c(resolve_strategy_name(op->strategy)),
	                              .checksum = op->local.checksum, .mtime_us = op->local.mtime_us,
	                              .executable = op->executable};
}

static int send_once(struct job *j)
{
	const struct plan_op *op = j->op;
	struct file_source source = {.face = {.read = file_source_read, .rewind = file_source_rewind, .length = op->local.size_bytes}, .job = j};
	int err = file_source_open(&source);
	if (err)
		return err;
	j->up = upload_of(op);
	j->up.content = &source.face;
	err = remote_upload(&j->ctx, j->agent->remote, j->agent->share, &j->up);
	file_source_close(&source);
	if (!err && !j->up.conflict)
		act_delta_learn(j, j->up.stored.version_id, op->local.size_bytes);
	return err;
}

static int send(struct job *j)
{
	if (j->delta) {
		j->up = upload_of(j->op);
		int err = act_delta_send(j);
		if (!act_delta_gave_up(j, err))
			return err;
	}
	return send_once(j);
}

static void run_job(struct task *self)
{
	struct job *j = (struct job *)self;
	const struct plan_op *op = j->op;
	if (op->verb == PLAN_SET_MODE_REMOTE)
		j->err = remote_set_mode(&j->ctx, j->agent->remote, op->id, op->executable);
	else
		j->err = op->verb == PLAN_FETCH ? fetch(j) : send(j);
}

static int fold_fetch(struct agent *a, const struct job *j)
{
	const struct plan_op *op = j->op;
	const struct node *n = op->has_local ? agent_as_planned(a, op) : NULL;
	struct node_facts f = op->remote;
	if (op->has_local && !n)
		return E_CHANGED;
	f.parent = n ? n->f.parent : op->parent;
	f.name = n ? op->local.name : op->name;
	f.stamp = j->entry.stamp;
	if (f.stamp.ctime_ns - f.stamp.mtime_ns < (int64_t)SCAN_SETTLE_MS * 1000000)
		f.stamp.ctime_ns = 0; /* an edit right behind us might not show: the next scan reads the file */
	f.executable = j->entry.executable;
	if (!replica_put(a->replica, REPLICA_LOCAL, &f))
		return E_CHANGED;
	a->stats.fetched_files++;
	a->stats.fetched_bytes += op->remote.size_bytes;
	if (!n) {
		agent_agree(a, op->remote, op->name);
		return 0;
	}
	f = op->remote; /* the bytes are agreed; the place is another matter */
	f.parent = op->synced.parent;
	f.name = op->synced.name;
	agent_agree(a, f, op->synced.local_name);
	return 0;
}

static int fold_sent_new(struct agent *a, const struct job *j)
{
	const struct plan_op *op = j->op;
	if (!agent_as_planned(a, op) || !replica_put(a->replica, REPLICA_REMOTE, &j->up.stored) ||
	    !replica_rename_id(a->replica, op->local.id, j->up.stored.id))
		return E_CHANGED;
	agent_agree(a, j->up.stored, op->local.name);
	agent_own_entry(a, j->up.entry, j->up.stored.id);
	return 0;
}

static int fold_sent_version(struct agent *a, const struct job *j)
{
	const struct plan_op *op = j->op;
	const struct node *s = tree_get(&a->replica->trees[REPLICA_SYNCED], op->id);
	if (j->up.is_deleted || !agent_as_planned(a, op))
		return E_CHANGED;
	if (!j->up.conflict && tree_get(&a->replica->trees[REPLICA_REMOTE], op->id) &&
	    replica_put(a->replica, REPLICA_REMOTE, &j->up.stored))
		agent_own_entry(a, j->up.entry, j->up.stored.id);
	/* The server keeps these bytes as a version, so they are agreed; which version is the head, the log tells. */
	struct node_facts f = s ? s->f : j->up.stored;
	f.checksum = op->local.checksum;
	f.size_bytes = op->local.size_bytes;
	f.version_id = j->up.stored.version_id;
	f.version = j->up.stored.version;
	struct arena names; /* agent_agree replaces the row that f borrows from */
	arena_init(&names);
	f.name = arena_str(&names, f.name);
	f.local_name = arena_str(&names, f.local_name);
	agent_agree(a, f, f.local_name);
	arena_fini(&names);
	return 0;
}

static int fold_mode(struct ctx *ctx, struct agent *a, const struct plan_op *op)
{
	const struct node *r = tree_get(&a->replica->trees[REPLICA_REMOTE], op->id);
	const struct node *s = tree_get(&a->replica->trees[REPLICA_SYNCED], op->id);
	if (!r || !s)
		return E_CHANGED;
	struct node_facts f = r->f, sf = s->f;
	f.executable = sf.executable = op->executable;
	f.name = arena_str(ctx->arena, f.name);
	sf.name = arena_str(ctx->arena, sf.name);
	sf.local_name = arena_str(ctx->arena, sf.local_name);
	if (!replica_put(a->replica, REPLICA_REMOTE, &f))
		return E_CHANGED;
	agent_agree(a, sf, sf.local_name);
	return 0;
}

/* What was read was not what the scan had seen. Should the stamp not show it, the next scan reads the file all the same. */
static void distrust(struct agent *a, const struct plan_op *op)
{
	const struct node *n = agent_as_planned(a, op);
	if (!n)
		return;
	struct node_facts f = n->f;
	f.name = op->local.name;
	f.stamp.ctime_ns = 0;
	replica_put(a->replica, REPLICA_LOCAL, &f);
}

static int fold_content(struct agent *a, struct job *j)
{
	int err = j->op->verb == PLAN_FETCH ? fold_fetch(a, j) : j->op->verb == PLAN_SEND ? fold_sent_new(a, j) : fold_sent_version(a, j);
	const struct node_facts *now = j->op->verb == PLAN_FETCH ? &j->op->remote : &j->up.stored;
	if (!err && j->layout.n)
		replica_keep_layout(a->replica, now->id, now->version_id, &j->layout);
	return err;
}

static int fold_job(struct ctx *ctx, struct agent *a, struct job *j)
{
	const struct plan_op *op = j->op;
	if (op->restore && (j->err == E_NOT_FOUND || j->err == E_GONE || j->err == E_CONFLICT || j->err == E_NAME_CONFLICT ||
	                    j->err == E_FORBIDDEN || (!j->err && j->up.is_deleted)))
		return act_detach(ctx, a, op); /* it cannot come back as itself: it becomes a new file */
	bool assumed = mutant(M_AGENT_INTENTIONS) && op->verb == PLAN_SEND_VERSION && j->err == E_NETWORK;
	if ((j->err == E_CHANGED || j->err == E_CHECKSUM) && op->verb != PLAN_FETCH)
		distrust(a, op);
	if (j->err && !assumed)
		return ctx_fail(ctx, j->err, "%.*s", STR_ARG(ctx_detail(&j->ctx, j->err)));
	if (op->verb == PLAN_SET_MODE_REMOTE)
		return fold_mode(ctx, a, op);
	if (op->verb != PLAN_FETCH) {
		a->stats.sent_files++;
		a->stats.sent_bytes += op->local.size_bytes;
	}
	return fold_content(a, j);
}

/* Where the file is and how it looks, settled before any worker runs. */
static int prepare(struct ctx *ctx, struct agent *a, struct job *j)
{
	const struct plan_op *op = j->op;
	if (op->has_local) {
		const struct node *n = agent_as_planned(a, op);
		if (!n)
			return ctx_fail(ctx, E_CHANGED, "\"%.*s\" changed meanwhile; it is looked at again.", STR_ARG(op->local.name));
		j->stamp = n->f.stamp;
		j->path = agent_path(&j->ctx, a, n->f.id);
		return 0;
	}
	j->path = agent_child_path(&j->ctx, a, op->parent, op->name);
	if (!j->path.p || tree_get(&a->replica->trees[REPLICA_LOCAL], op->id))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" changed meanwhile; it is looked at again.", STR_ARG(op->name));
	return 0;
}

struct telling {
	struct agent *a;
	size_t n;
};

static void tell(void *arg, size_t open)
{
	const struct telling *t = arg;
	if (t->a->on_progress)
		t->a->on_progress(t->a->arg, t->a->acted + t->n - open, t->a->planned, t->a->bytes);
}

int act_transfer(struct ctx *ctx, struct agent *a, const struct plan_op **ops, size_t n, int *errs)
{
	struct tasks tasks;
	size_t n_bulk = 0;
	struct job *jobs = calloc(n, sizeof(*jobs));
	int down = 0;
	bool delta = false, bulk;
	must(jobs != NULL);
	tasks_init(&tasks, a->lane);
	for (size_t i = 0; !a->one_by_one && i < n; i++)
		n_bulk += act_bulk_takes(ops[i]);
	bulk = n_bulk > 1;
	for (size_t i = 0; i < n; i++)
		delta |= act_delta_takes(ops[i]);
	if (delta && act_know_gear(ctx, a))
		ctx_clear(ctx); /* then whole files go */
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];
		*j = (struct job){.agent = a, .op = ops[i], .bulk = n_bulk > 1 && act_bulk_takes(ops[i]),
		                  .delta = a->has_gear && act_delta_takes(ops[i])};
		arena_init(&j->arena);
		ctx_init(&j->ctx, j->bulk ? ctx->arena : &j->arena, ctx->clock, ctx->rng); /* bulk runs on this thread */
		j->err = prepare(&j->ctx, a, j);
		if (!j->err)
			act_twin_find(j);
		if (!j->err && !a->one_by_one && act_bulk_takes_twin(j))
			bulk = j->bulk = true;
		if (!j->err && !j->bulk)
			tasks_add(&tasks, &j->task, run_job);
	}
	if (bulk)
		act_bulk(ctx, a, jobs, n);
	tasks_wait(&tasks, 0, tell, &(struct telling){a, n});
	for (size_t i = 0; i < n; i++) {
		struct job *j = &jobs[i];
		int err = fold_job(ctx, a, j);
		errs[i] = err;
		if (agent_is_down(j->err) && !down) {
			down = j->err;
			ctx_fail(ctx, down, "%.*s", STR_ARG(ctx_detail(&j->ctx, j->err)));
		}
		if (err)
			a->scan_wanted = true;
		agent_report(ctx, a, j->op, err);
		if (!down)
			ctx_clear(ctx);
		buf_fini(&j->layout);
		arena_fini(&j->arena);
	}
	tasks_fini(&tasks);
	free(jobs);
	return down;
}
