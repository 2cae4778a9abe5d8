/* A state may be put back from a copy while the folder that it tells of went on. What the client did here since would then look like its
 * user's deeds: what it trashed would be deleted on the server. So the state counts generations: a new one in the first round of each
 * process, and before anything is trashed; and the marker in the folder tells of the latest. It is written behind the state, so that
 * the state is never behind it but as a copy. */
#include "base/mutant.h"
#include "client/agent_priv.h"
#include "base/log.h"

int generation_next(struct ctx *ctx, struct agent *a)
{
	struct replica *r = a->replica;
	r->generation = 1 + (r->generation > a->root->generation ? r->generation : a->root->generation);
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
	if (a->root->generation > r->generation && !mutant(M_AGENT_OLD_STATE)) {
		log_warn("this state is older than the folder; both sides are compared anew, and nothing is deleted",
		         LOG_I("generation", r->generation), LOG_I("of the folder", a->root->generation));
		replica_forget(r);
	}
	int err = a->looking ? 0 : generation_next(ctx, a);
	a->begun = !err;
	return err;
}
