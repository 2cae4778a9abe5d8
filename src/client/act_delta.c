/* Large files that changed a little: what both ways have in common (act_delta_send.c, act_delta_fetch.c). The server's versions consist
 * of chunks; what a version of it has in common with another is told by runs of chunks, and what became of the others by
 * differences to those that they replaced. Nothing here is trusted: whoever puts a content together hashes it, and whatever is
 * wrong, the whole file goes (act_delta_gave_up). */
#include "base/limits.h"
#include "client/agent_priv.h"

enum {
	/* Smaller files go whole: a delta is two or three more requests, which take about as long as 128 KiB at 10 Mbit/s. */
	DELTA_BYTES = 128 << 10,
	/* The layout of smaller ones is asked for when it is needed: less than a kilobyte. */
	LAYOUT_KEPT_BYTES = 4 << 20,
	LEAST_PART = 4, /* of a file must be had from another one */
};

static bool has_own_base(const struct plan_op *op)
{
	if (op->verb == PLAN_SEND_VERSION)
		return op->base_version_id != 0;
	return op->verb == PLAN_FETCH && op->has_local && op->has_synced && op->synced.version_id && node_same_content(&op->local, &op->synced);
}

bool act_delta_takes(const struct plan_op *op)
{
	const struct node_facts *f = op->verb == PLAN_FETCH ? &op->remote : &op->local;
	if (op->kind != NODE_FILE || op->restore || f->size_bytes < (has_own_base(op) ? DELTA_BYTES : LAYOUT_KEPT_BYTES))
		return false;
	if (op->verb == PLAN_FETCH)
		return op->remote.version_id != 0;
	return (op->verb == PLAN_SEND || has_own_base(op)) && f->size_bytes <= LIMIT_ASSEMBLED_BYTES;
}

bool act_delta_own_base(struct job *j, struct act_base *out)
{
	const struct plan_op *op = j->op;
	if (!has_own_base(op))
		return false;
	*out = (struct act_base){.id = op->id, .version_id = op->verb == PLAN_FETCH ? op->synced.version_id : op->base_version_id,
	                         .size_bytes = op->local.size_bytes, .path = j->path, .stamp = j->stamp};
	return true;
}

int act_delta_other_base(struct job *j, const struct layout *like, struct act_base *out)
{
	struct replica *r = j->agent->replica;
	*out = (struct act_base){0};
	int64_t had = replica_similar(r, like, &out->id, &out->version_id);
	if (had < like->offsets[like->n] / LEAST_PART || !had)
		return ctx_fail(&j->ctx, E_NOT_FOUND, "No other file resembles it.");
	if (j->op->verb != PLAN_FETCH)
		return 0;
	const struct node *here = tree_get(&r->trees[REPLICA_LOCAL], out->id), *agreed = tree_get(&r->trees[REPLICA_SYNCED], out->id);
	if (!here || !agreed || agreed->f.version_id != out->version_id || !node_same_content(&here->f, &agreed->f))
		return ctx_fail(&j->ctx, E_NOT_FOUND, "The file that resembles it was edited.");
	out->size_bytes = here->f.size_bytes;
	out->stamp = here->f.stamp;
	out->path = agent_path(&j->ctx, j->agent, out->id);
	return 0;
}

bool act_delta_gave_up(struct job *j, int err)
{
	if (!err || err == E_CHANGED || err == E_VERSION_STALE || err == E_NO_SPACE)
		return false;
	if (agent_is_down(err) && err != E_BUSY && err != E_UPSTREAM && err != E_TIMEOUT)
		return false;
	ctx_clear(&j->ctx);
	return true;
}

int act_changed(struct job *j)
{
	return ctx_fail(&j->ctx, E_CHANGED, "\"%.*s\" changed meanwhile; it is looked at again.", STR_ARG(j->path));
}

int act_delta_layout(struct job *j, int64_t id, int64_t version_id, struct buf *text, struct layout *out)
{
	struct agent *a = j->agent;
	int err = replica_layout(a->replica, id, version_id, text) ? 0 : remote_layout(&j->ctx, a->remote, version_id, text);
	return err ? err : layout_read(out, buf_as_str(text));
}

void act_delta_learn(struct job *j, int64_t version_id, int64_t size_bytes)
{
	struct layout l;
	if (size_bytes < LAYOUT_KEPT_BYTES || !version_id || j->layout.n)
		return;
	int err = remote_layout(&j->ctx, j->agent->remote, version_id, &j->layout);
	if (!err)
		err = layout_read(&l, buf_as_str(&j->layout));
	if (!err)
		layout_fini(&l);
	else
		buf_fini(&j->layout);
	ctx_clear(&j->ctx);
}
