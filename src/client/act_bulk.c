/* Many small files in few requests, and written with few syncs. */
#include "client/agent_priv.h"

static bool sends(const struct plan_op *op)
{
	return (op->verb == PLAN_SEND || op->verb == PLAN_SEND_VERSION) && !op->restore;
}

bool act_bulk_takes(const struct plan_op *op)
{
	if (op->verb == PLAN_FETCH)
		return op->remote.size_bytes <= CHUNK_MAX_BYTES && op->remote.version_id;
	return sends(op) && op->local.size_bytes <= CHUNK_MAX_BYTES;
}

bool act_bulk_takes_twin(const struct job *j)
{
	return j->twin_version_id && sends(j->op);
}

/* One that was not the network's or the server's state as a whole would fail again: from now on these go one by one. What was stale
 * is looked at again. */
void act_bulk_fail(struct agent *a, struct job **jobs, size_t n, int err, struct str detail)
{
	for (size_t i = 0; i < n; i++)
		if (!jobs[i]->err)
			jobs[i]->err = ctx_fail(&jobs[i]->ctx, err, "%.*s", STR_ARG(detail));
	if (n && !agent_is_down(err) && err != E_VERSION_STALE)
		a->one_by_one = true;
}

void act_bulk(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	size_t sends = 0, fetches = 0;
	for (size_t i = 0; i < n; i++) {
		bool mine = jobs[i].bulk && !jobs[i].err;
		fetches += mine && jobs[i].op->verb == PLAN_FETCH;
		sends += mine && jobs[i].op->verb != PLAN_FETCH;
	}
	if (sends)
		act_bulk_send(ctx, a, jobs, n);
	if (fetches)
		act_bulk_fetch(ctx, a, jobs, n);
}
