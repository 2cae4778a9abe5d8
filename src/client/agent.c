#include "client/agent.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"
#include "client/agent_priv.h"

enum { RESYNC_MAX = 3, ROUNDS_MAX = 200, PROBLEMS_MAX = 1000, SETTLE_PAUSE_MS = 40, PATIENCE_MS = 1000, TRANSFERS_MAX = 10000 };

bool agent_is_down(int err)
{
	switch (err) {
	case E_NETWORK:
	case E_TIMEOUT:
	case E_UPSTREAM:
	case E_BUSY:
	case E_RATE_LIMITED:
	case E_UNAUTHENTICATED:
	case E_SUSPENDED:
	case E_SHUTDOWN:
	case E_READ_ONLY:
	case E_CANCELLED:
		return true;
	default:
		return false;
	}
}

static char *dup_str(struct str s)
{
	char *p = strndup(s.p ? s.p : "", s.n);
	must(p != NULL);
	return p;
}

void agent_problem(struct agent *a, struct str path, struct str what)
{
	if (a->n_problems == PROBLEMS_MAX)
		return;
	if (a->n_problems == a->cap_problems) {
		a->cap_problems = a->cap_problems ? a->cap_problems * 2 : 16;
		a->problems = realloc(a->problems, a->cap_problems * sizeof(*a->problems));
		must(a->problems != NULL);
	}
	a->problems[a->n_problems++] = (struct agent_problem){dup_str(path), dup_str(what)};
}

/* Those of the last scan come first and stay until the next one. */
static void clear_problems(struct agent *a, size_t keep)
{
	while (a->n_problems > keep) {
		a->n_problems--;
		free(a->problems[a->n_problems].path);
		free(a->problems[a->n_problems].what);
	}
}

void agent_init(struct agent *a, struct root *root, struct replica *replica, struct remote *remote)
{
	*a = (struct agent){.root = root, .replica = replica, .remote = remote, .share = replica->share,
	                    .strategy = RESOLVE_KEEP_BOTH, .scan_wanted = true};
}

void agent_fini(struct agent *a)
{
	clear_problems(a, 0);
	free(a->problems);
	map_fini(&a->own);
	*a = (struct agent){0};
}

struct str agent_path(struct ctx *ctx, const struct agent *a, int64_t local_id)
{
	const struct node *n = tree_get(&a->replica->trees[REPLICA_LOCAL], local_id);
	return n ? str_skip(tree_path(ctx->arena, n), 1) : STR_NULL;
}

struct str agent_child_path(struct ctx *ctx, const struct agent *a, int64_t parent, struct str name)
{
	struct str up = agent_path(ctx, a, parent);
	if (!up.p)
		return STR_NULL;
	if (!up.n)
		return arena_str(ctx->arena, name);
	char *path = arena_alloc(ctx->arena, up.n + 1 + name.n + 1);
	memcpy(path, up.p, up.n);
	path[up.n] = '/';
	memcpy(path + up.n + 1, name.p, name.n);
	return str_n(path, up.n + 1 + name.n);
}

const struct node *agent_as_planned(const struct agent *a, const struct plan_op *op)
{
	const struct node *n = op->has_local ? tree_get(&a->replica->trees[REPLICA_LOCAL], op->local.id) : NULL;
	if (!n || n->f.parent != op->local.parent || !str_eq(n->f.name, op->local.name) ||
	    !node_same_content(&n->f, &op->local))
		return NULL;
	return n;
}

void agent_agree(struct agent *a, struct node_facts facts, struct str local_name)
{
	facts.local_name = local_name.p && !str_eq(local_name, facts.name) ? local_name : STR_NULL;
	facts.stamp = (struct disk_stamp){0};
	if (!replica_put(a->replica, REPLICA_SYNCED, &facts))
		log_warn("agreement not recorded", LOG_I("id", facts.id));
}

/* Where it is, was, or would be; on this disk if it can be told. */
struct str agent_op_path(struct ctx *ctx, const struct agent *a, const struct plan_op *op)
{
	struct str path = agent_path(ctx, a, op->has_local ? op->local.id : op->id);
	if (!path.p && op->has_local) /* gone from here, or known by its new id now */
		path = agent_child_path(ctx, a, op->local.parent, op->local.name);
	if (!path.p && (op->verb == PLAN_FETCH || op->verb == PLAN_MAKE_LOCAL))
		path = agent_child_path(ctx, a, op->parent, op->name);
	const struct node *up = op->has_remote ? tree_get(&a->replica->trees[REPLICA_REMOTE], op->remote.parent) : NULL;
	if (!path.p && up)
		path = arena_fmt(ctx->arena, "%.*s%s%.*s", STR_ARG(str_skip(tree_path(ctx->arena, up), 1)), up->up ? "/" : "",
		                 STR_ARG(op->remote.name));
	if (!path.p && op->has_synced)
		path = agent_child_path(ctx, a, op->synced.parent, op->synced.name);
	if (!path.p)
		path = op->has_local ? op->local.name : op->has_remote ? op->remote.name : op->synced.name;
	return path;
}

void agent_report(struct ctx *ctx, struct agent *a, const struct plan_op *op, int err)
{
	struct str path = agent_op_path(ctx, a, op), detail = err ? ctx_detail(ctx, err) : STR_NULL;
	const struct node *made = op->id < 0 && !err ? tree_child_exact(&a->replica->trees[REPLICA_LOCAL], op->local.parent, op->local.name) : NULL;
	const struct node_facts *f = op->has_local && op->verb != PLAN_FETCH ? &op->local : op->has_remote ? &op->remote : &op->synced;
	struct agent_event e = {.verb = plan_verb_name(op->verb), .case_no = op->case_no, .path = path, .id = made ? made->f.id : op->id,
	                        .kind = op->kind, .size_bytes = f->size_bytes, .reason = op->reason, .err = err,
	                        .detail = detail};
	if (a->on_event && err != E_CHANGED) { /* what is looked at again was not tried yet */
		e.why = plan_explain(ctx->arena, op);
		a->on_event(a->arg, &e);
	}
	if (err && err != E_CHANGED)
		agent_problem(a, path, detail);
}

/* ---- observe ---- */

int agent_flush(struct ctx *ctx, struct agent *a)
{
	if (a->looking)
		return 0;
	bool agreed = a->replica->dirty[REPLICA_SYNCED].count > 0;
	int err = (a->unsynced || agreed) && !mutant(M_AGENT_NO_SETTLE) ? a->root->ops->settle(a->root, ctx) : 0;
	if (err)
		return err;
	a->unsynced = false;
	return replica_flush(ctx, a->replica);
}

static int snapshot(struct ctx *ctx, struct agent *a, struct remote_snapshot *s)
{
	int err = remote_snapshot(ctx, a->remote, a->share, TREE_ROOT, s);
	if (err)
		return err;
	struct tree t;
	tree_init(&t);
	/* A node whose folder went away between two pages has no place; the log from the cursor on says what became of it. */
	size_t unplaced = tree_put_all(&t, s->nodes, s->n);
	log_info("snapshot read", LOG_I("nodes", (int64_t)s->n), LOG_I("unplaced", (int64_t)unplaced), LOG_I("cursor", s->cursor));
	replica_replace(a->replica, REPLICA_REMOTE, &t, 0);
	a->replica->cursor = s->cursor;
	a->replica->meta_dirty = true;
	return 0;
}

static int take_subtree(struct ctx *ctx, struct agent *a, int64_t folder)
{
	struct remote_snapshot s;
	int err = remote_snapshot(ctx, a->remote, a->share, folder, &s);
	if (err == E_NOT_FOUND || err == E_GONE) {
		ctx_clear(ctx);
		return 0; /* it went again; the log says so further on */
	}
	if (!err)
		replica_put_all(a->replica, REPLICA_REMOTE, s.nodes, s.n);
	return err;
}

static int take_change(struct ctx *ctx, struct agent *a, const struct remote_change *c, bool *lost)
{
	struct tree *t = &a->replica->trees[REPLICA_REMOTE];
	tree_set_cause(t, c->facts.id, &c->cause);
	if (c->kind == CHANGE_DELETE) {
		if (tree_get(t, c->facts.id))
			replica_del(a->replica, REPLICA_REMOTE, c->facts.id);
		return 0;
	}
	/* A folder that came with another one's subtree, and had left that when its snapshot was read: its own is not known either. */
	bool came_along = !c->created && !tree_get(t, c->facts.id) && !mutant(M_AGENT_CAME_ALONG);
	if (!replica_put(a->replica, REPLICA_REMOTE, &c->facts)) {
		*lost = true; /* our tree does not fit the log: read it anew */
		return 0;
	}
	return (c->subtree || came_along) && c->facts.kind == NODE_FOLDER ? take_subtree(ctx, a, c->facts.id) : 0;
}

/* The page behind what is known. The last entry that was read is asked for once more: if another one has its number, the server
 * was put back to an older state and has gone on from there. *known: how many of the page are known already. */
static int first_page(struct ctx *ctx, struct agent *a, struct remote_page *page, size_t *known)
{
	struct replica *r = a->replica;
	*known = 0;
	if (r->last.seq <= 0 || r->last.seq > r->cursor)
		return remote_changes(ctx, a->remote, a->share, r->cursor, page);
	int err = remote_changes(ctx, a->remote, a->share, r->last.seq - 1, page);
	if (err)
		return err;
	const struct remote_change *c = page->n ? &page->changes[0] : NULL;
	if (c && c->cause.seq == r->last.seq) {
		*known = 1;
		if (c->facts.id != r->last.id || (r->last.at_us && c->cause.at_us != r->last.at_us) || page->cursor < r->cursor)
			return ctx_fail(ctx, E_CURSOR_INVALID, "The server's change log is not the one that was read.");
		return 0;
	}
	return remote_changes(ctx, a->remote, a->share, r->cursor, page); /* it is hidden now, or the log was cut: ask plainly */
}

static int read_log(struct ctx *ctx, struct agent *a, bool *lost)
{
	struct replica *r = a->replica;
	bool first = true;
	for (bool more = true; more && !*lost; first = false) {
		struct remote_page page;
		size_t known = 0;
		int err = first ? first_page(ctx, a, &page, &known) : remote_changes(ctx, a->remote, a->share, r->cursor, &page);
		if (!err && mutant(M_AGENT_CURSOR_FIRST)) {
			r->cursor = page.cursor;
			r->meta_dirty = true;
			err = replica_flush(ctx, r);
		}
		for (size_t i = known; !err && i < page.n && !*lost; i++)
			err = take_change(ctx, a, &page.changes[i], lost);
		if (err)
			return err;
		if (page.n > known && !*lost) {
			const struct remote_change *c = &page.changes[page.n - 1];
			r->last = (struct replica_entry){c->cause.seq, c->facts.id, c->cause.at_us};
		}
		if (r->cursor != page.cursor && !*lost) {
			r->cursor = page.cursor;
			r->meta_dirty = true;
		}
		more = page.has_more;
	}
	return 0;
}

/* The greatest version id that may be known here, whatever was agreed: what has a greater one came after a restore of which we had
 * not heard when we were at the cursor. Ids of the lost time say nothing of it, for the clock may have been set back. */
static int64_t known_up_to(const struct remote_snapshot *s, int64_t cursor)
{
	for (size_t i = 0; i < s->n_restores && !mutant(M_AGENT_IDS_ALONE); i++)
		if (s->restores[i].cursor > cursor || cursor > s->cursor)
			return s->restores[i].version_id;
	return INT64_MAX;
}

/* The server knows less than what was agreed: it was restored from a backup, or its log does not reach back to us. What it
 * lacks was not deleted (I11): without an agreement, what is here is new. Where it has an older version or an older place, what is
 * here is a change to that; where it has one that we never saw, both were edited. */
static void agree_anew(struct ctx *ctx, struct agent *a, int64_t known)
{
	struct replica *r = a->replica;
	uint64_t id;
	void *value;
	size_t n = 0;
	int64_t *ids = arena_many(ctx->arena, r->trees[REPLICA_SYNCED].count + 1, int64_t);
	if (mutant(M_AGENT_ABSENCE_DELETES))
		return;
	for (size_t at = 0; map_next(&r->trees[REPLICA_SYNCED].by_id, &at, &id, &value);)
		if ((int64_t)id != TREE_ROOT)
			ids[n++] = (int64_t)id;
	for (size_t i = 0; i < n; i++) {
		const struct node *there = tree_get(&r->trees[REPLICA_REMOTE], ids[i]);
		struct node_facts s = tree_get(&r->trees[REPLICA_SYNCED], ids[i])->f;
		bool same = there && node_same_content(&there->f, &s);
		/* Before a restore ids are in the order of their making. */
		bool unseen = there && !same && (there->f.version_id > s.version_id || there->f.version_id > known);
		if (!there || unseen) {
			replica_del(r, REPLICA_SYNCED, ids[i]);
			if (!there && tree_get(&r->trees[REPLICA_LOCAL], ids[i]))
				replica_rename_id(r, ids[i], --r->next_local_id);
			continue;
		}
		bool in_place = there->f.parent == s.parent && str_eq(there->f.name, s.name);
		struct node_facts f = there->f;
		f.executable = s.executable;
		agent_agree(a, f, in_place ? arena_str(ctx->arena, s.local_name) : STR_NULL);
	}
	r->meta_dirty = true;
}

/* Everything anew. The position is lost only when the snapshot is there: until then a crash, or a server that goes away, leaves
 * what tells that it has to be read. */
static int reread(struct ctx *ctx, struct agent *a)
{
	bool restored = a->restored || (a->replica->cursor < 0 && a->replica->trees[REPLICA_SYNCED].count);
	int64_t cursor = a->replica->cursor;
	struct remote_snapshot s;
	int err = snapshot(ctx, a, &s);
	if (err)
		return err;
	if (restored)
		agree_anew(ctx, a, known_up_to(&s, cursor));
	a->replica->last = (struct replica_entry){0};
	a->restored = a->reread = false;
	return 0;
}

/* A restored server may not know the device either. */
static int introduce(struct ctx *ctx, struct agent *a)
{
	if (!a->stranger || a->looking || mutant(M_AGENT_FORGOTTEN))
		return 0;
	int err = remote_register(ctx, a->remote, a->device_name);
	a->stranger = err != 0;
	return err;
}

static int pull(struct ctx *ctx, struct agent *a)
{
	for (int attempt = 0; attempt < RESYNC_MAX; attempt++) {
		bool lost = false, all = a->replica->cursor < 0 || a->restored;
		int err = introduce(ctx, a);
		if (!err && all)
			err = reread(ctx, a);
		if (!err)
			err = read_log(ctx, a, &lost);
		if (err == E_CURSOR_INVALID) {
			ctx_clear(ctx);
			a->restored = a->stranger = true;
		} else if (err) {
			/* Half a page may be in the tree, but the cursor is still before it, and replaying is harmless. */
			return err;
		} else if (!lost && !a->reread) {
			return agent_flush(ctx, a);
		} else {
			err = reread(ctx, a);
			if (err)
				return err;
		}
		log_warn("the change log cannot be continued; reading the snapshot", LOG_I("cursor", a->replica->cursor));
	}
	return ctx_fail(ctx, E_UPSTREAM, "The server's change log does not fit its snapshot. Try again later; nothing was changed here.");
}

static int scan(struct ctx *ctx, struct agent *a)
{
	struct scan_result found;
	a->scan_wanted = false;
	leaving_before_scan(ctx, a);
	int err = scan_run(ctx, a->root, a->lane, &a->replica->trees[REPLICA_LOCAL], &a->replica->next_local_id, !a->hasty, &found);
	if (err) {
		a->scan_wanted = true;
		return err;
	}
	a->unsettled = found.unsettled;
	for (size_t i = 0; i < found.n_problems; i++)
		agent_problem(a, found.problems[i].path, str_c(found.problems[i].what));
	a->n_scan_problems = a->n_problems;
	replica_replace(a->replica, REPLICA_LOCAL, &found.tree, clock_now(ctx->clock));
	leaving_after_scan(ctx, a);
	a->replica->meta_dirty = true;
	return agent_flush(ctx, a);
}

/* ---- act ---- */

void agent_own_entry(struct agent *a, int64_t entry, int64_t id)
{
	if (entry > 0)
		map_put(&a->own, (uint64_t)entry, (void *)(uintptr_t)id);
}

/* Entries that follow the cursor without a gap and are all our own need not be read: nobody else's lies between them. */
static void pass_own(struct agent *a)
{
	struct replica *r = a->replica;
	for (void *id; r->cursor >= 0 && (id = map_get(&a->own, (uint64_t)r->cursor + 1));) {
		r->last = (struct replica_entry){.seq = ++r->cursor, .id = (int64_t)(uintptr_t)id};
		r->meta_dirty = true;
	}
	map_fini(&a->own);
}

enum stage_of_work { WORK_LOCAL, WORK_APPLY, WORK_TRANSFER };

static enum stage_of_work work_of(enum plan_verb verb)
{
	switch (verb) {
	case PLAN_MAKE_REMOTE:
	case PLAN_MOVE_REMOTE:
	case PLAN_TRASH_REMOTE:
		return WORK_APPLY;
	case PLAN_FETCH:
	case PLAN_SEND:
	case PLAN_SEND_VERSION:
	case PLAN_SET_MODE_REMOTE:
		return WORK_TRANSFER;
	default:
		return WORK_LOCAL;
	}
}

static void progress(struct agent *a, const struct agent_round *out)
{
	if (a->on_progress)
		a->on_progress(a->arg, out->done + out->failed, out->planned, a->bytes);
}

static void note(struct ctx *ctx, struct agent *a, const struct plan_op *op, int err, struct agent_round *out)
{
	if (err) {
		out->failed++;
		a->scan_wanted = true;
	} else {
		out->done++;
	}
	agent_report(ctx, a, op, err);
	ctx_clear(ctx);
	progress(a, out);
}

/* Operations of one kind that follow each other. Returns how many; *err stops the round. */
static size_t act_some(struct ctx *ctx, struct agent *a, const struct plan *p, size_t at, struct agent_round *out,
                       int *err)
{
	enum stage_of_work work = work_of(p->ops[at].verb);
	uint64_t phase = p->ops[at].order >> 32;
	size_t n = 1, max = work == WORK_LOCAL ? 1 : work == WORK_APPLY ? LIMIT_APPLY_ALL_OR_NONE : TRANSFERS_MAX;
	if (work == WORK_LOCAL) {
		int e = act_local(ctx, a, &p->ops[at]);
		leaving_end(a, &p->ops[at], e);
		note(ctx, a, &p->ops[at], e, out);
		*err = agent_is_down(e) ? e : 0;
		return 1;
	}
	a->acted = out->done + out->failed;
	max = max < p->n - at ? max : p->n - at;
	const struct plan_op **ops = arena_many(ctx->arena, max, const struct plan_op *);
	int *errs = arena_many(ctx->arena, max, int);
	ops[0] = &p->ops[at];
	while (n < max && work_of(p->ops[at + n].verb) == work && p->ops[at + n].order >> 32 == phase) {
		ops[n] = &p->ops[at + n];
		n++;
	}
	*err = work == WORK_APPLY ? act_apply(ctx, a, ops, n, errs) : act_transfer(ctx, a, ops, n, errs);
	if (*err && !agent_is_down(*err)) {
		out->failed += n; /* the whole call was refused: pull and plan again */
		a->stranger |= *err == E_NOT_FOUND;
		agent_problem(a, STR(""), ctx_detail(ctx, *err));
		ctx_clear(ctx);
		*err = 0;
	} else if (!*err && work == WORK_APPLY) {
		for (size_t i = 0; i < n; i++)
			note(ctx, a, ops[i], errs[i], out);
	} else if (work == WORK_TRANSFER) {
		for (size_t i = 0; i < n; i++) {
			out->done += errs[i] == 0;
			out->failed += errs[i] != 0;
		}
		progress(a, out);
	}
	return n;
}

static int act(struct ctx *ctx, struct agent *a, const struct plan *p, struct agent_round *out)
{
	int err = 0;
	size_t since_flush = 0;
	bool told = false; /* what is trashed here */
	for (size_t at = 0; at < p->n && !err;) {
		if (p->ops[at].verb == PLAN_TRASH_LOCAL && !told) {
			err = leaving_begin(ctx, a, p, at);
			told = true;
			if (err)
				break;
		}
		size_t n = act_some(ctx, a, p, at, out, &err);
		at += n;
		since_flush += n;
		if (since_flush >= 256 || work_of(p->ops[at - 1].verb) != WORK_LOCAL) {
			int e = agent_flush(ctx, a);
			err = err ? err : e;
			since_flush = 0;
		}
	}
	pass_own(a);
	int e = agent_flush(ctx, a);
	return err ? err : e;
}

static int guarded(struct ctx *ctx, struct agent *a, const struct plan *p, struct agent_round *out)
{
	out->guard = guard_check(p, &a->replica->trees[REPLICA_REMOTE], &a->replica->trees[REPLICA_SYNCED]);
	if (!out->guard.stop || a->allow_mass_delete || (a->confirmed && a->confirmed(a->arg, p, &out->guard)))
		return 0;
	struct str what = guard_explain(ctx->arena, &out->guard);
	return ctx_fail(ctx, E_PRECONDITION,
	                "Stopped: %.*s. Nothing was done. If that is what you want, run `scaidrive confirm` with the folder; else put the "
	                "files back. (`scaidrive sync --dry-run` tells what would go.)", STR_ARG(what));
}

int agent_observe(struct ctx *ctx, struct agent *a)
{
	bool scanning = a->scan_wanted || a->unsettled;
	clear_problems(a, scanning ? 0 : a->n_scan_problems);
	int err = generation_begin(ctx, a);
	if (!err)
		err = pull(ctx, a);
	return !err && scanning && a->root ? scan(ctx, a) : err;
}

void agent_plan(struct ctx *ctx, struct agent *a, struct plan *out)
{
	char date[11];
	time_date(clock_now(ctx->clock), date);
	struct plan_options options = {.strategy = a->strategy, .device = a->device_name, .date = str_n(date, 10),
	                               .reserved = STR(ROOT_OWN_NAME), .fold = a->root && a->root->fold,
	                               .modeless = a->root && a->root->modeless};
	/* Where there are no modes, a rename may leave no trace in the stamp either. */
	options.now_us = options.modeless ? 0 : clock_now(ctx->clock);
	plan_make(&a->replica->trees[REPLICA_REMOTE], &a->replica->trees[REPLICA_LOCAL],
	          &a->replica->trees[REPLICA_SYNCED], &options, out);
}

static int one_round(struct ctx *ctx, struct agent *a, struct agent_round *out)
{
	struct plan p;
	*out = (struct agent_round){0};
	int err = agent_observe(ctx, a);
	if (err)
		return err;
	agent_plan(ctx, a, &p);
	out->planned = a->planned = p.n;
	out->waiting = p.waiting;
	out->in_step = p.n == 0 && p.waiting == 0 && !a->unsettled;
	err = guarded(ctx, a, &p, out);
	if (!err)
		err = act(ctx, a, &p, out);
	plan_fini(&p);
	a->stats.rounds++;
	if (!err && out->in_step) {
		a->replica->last_sync_us = clock_now(ctx->clock);
		a->replica->meta_dirty = true;
		err = agent_flush(ctx, a);
	}
	return err;
}

/* A round's memory is its own, so that a daemon does not grow. */
int agent_round(struct ctx *ctx, struct agent *a, struct agent_round *out)
{
	struct arena arena;
	struct ctx inner;
	arena_init(&arena);
	ctx_init(&inner, &arena, ctx->clock, ctx->rng);
	int err = one_round(&inner, a, out);
	if (err) {
		struct str detail = ctx_detail(&inner, err);
		ctx_fail(ctx, err, "%.*s", STR_ARG(detail));
	}
	arena_fini(&arena);
	return err;
}

int agent_settle(struct ctx *ctx, struct agent *a, struct agent_round *out)
{
	int64_t begin_us = clock_now(ctx->clock);
	int idle = 0;
	for (int round = 0; round < ROUNDS_MAX; round++) {
		a->hasty = clock_now(ctx->clock) >= begin_us + MILLIS_US(PATIENCE_MS); /* a log may never be closed */
		int err = agent_round(ctx, a, out);
		a->hasty = false;
		if (err || out->in_step)
			return err;
		/* A round in which nothing succeeded may have failed over something that is gone by now: once more, then give up. */
		idle = out->done ? 0 : idle + 1;
		if (idle == 3 && !a->unsettled)
			return 0;
		if (idle > 50)
			return 0;
		if (a->unsettled && !out->done && a->pause)
			a->pause(a->arg, SETTLE_PAUSE_MS);
	}
	return 0;
}
