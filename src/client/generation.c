/* A state may be put back from a copy while the folder that it tells of went on; or the folder, while the state did. What was done here
 * between the two would then look like the user's deeds: what the client trashed, or fetched, would be deleted on the server. So the
 * state counts generations: a new one in the first round of each process, and before anything is trashed; and the marker in the folder
 * tells of the latest. It is written behind the state, which is therefore at the marker's generation or one ahead, or one of the two is
 * a copy. */
#include "base/mutant.h"
#include "client/agent_priv.h"
#include "base/log.h"

bool agent_state_fits(const struct replica *r, const struct root *root)
{
	return r->generation == root->generation || r->generation - 1 == root->generation;
}

int generation_next(struct ctx *ctx, struct agent *a)
{
	struct replica *r = a->replica;
	int64_t last = r->generation > a->root->generation ? r->generation : a->root->generation;
	r->generation = last + (last == a->root->generation || !agent_state_fits(r, a->root)); /* a marker that could not be written may be now */
	r->meta_dirty = true;
	int err = agent_flush(ctx, a);
	if (err)
		return err;
	if (a->root->ops->set_generation(a->root, ctx, r->generation)) { /* a full disk must not stop what makes room; the last one stays */
		log_warn("the folder's marker was not renewed", LOG_S("why", ctx_detail(ctx, E_IO)));
		ctx_clear(ctx);
	}
	return 0;
}

int generation_begin(struct ctx *ctx, struct agent *a)
{
	struct replica *r = a->replica;
	if (a->begun || !a->root)
		return 0;
	if (!agent_state_fits(r, a->root) && !mutant(M_AGENT_OLD_STATE)) {
		log_warn("the folder or the state is a copy, older than the other; both sides are compared anew, and nothing is deleted",
		         LOG_I("of the state", r->generation), LOG_I("of the folder", a->root->generation));
		replica_forget(r);
	}
	int err = a->looking ? 0 : generation_next(ctx, a);
	a->begun = !err;
	return err;
}
