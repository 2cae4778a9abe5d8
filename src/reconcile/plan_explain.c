#include "reconcile/plan.h"

#include "base/buf.h"
#include "base/time.h"

static const struct {
	const char *name, *words;
} verbs[] = {
    [PLAN_RECORD] = {"record", "note that both sides agree"},
    [PLAN_FORGET] = {"forget", "forget it"},
    [PLAN_MAKE_LOCAL] = {"make_local", "make the folder here"},
    [PLAN_FETCH] = {"fetch", "download it"},
    [PLAN_MOVE_LOCAL] = {"move_local", "move it here"},
    [PLAN_TRASH_LOCAL] = {"trash_local", "put it into this computer's trash"},
    [PLAN_DETACH] = {"detach", "keep what is here as a file of its own"},
    [PLAN_MAKE_REMOTE] = {"make_remote", "make the folder on the server"},
    [PLAN_SEND] = {"send", "upload it"},
    [PLAN_SEND_VERSION] = {"send_version", "upload it as a new version"},
    [PLAN_MOVE_REMOTE] = {"move_remote", "move it on the server"},
    [PLAN_TRASH_REMOTE] = {"trash_remote", "put it into the server's trash"},
    [PLAN_SET_MODE_LOCAL] = {"set_mode_local", "set the executable bit here"},
    [PLAN_SET_MODE_REMOTE] = {"set_mode_remote", "set the executable bit on the server"},
};

static const struct {
	enum plan_diff diff;
	const char *words;
} diffs[] = {{DIFF_NEW, "new"},         {DIFF_DELETED, "deleted"}, {DIFF_EDITED, "edited"},
             {DIFF_MOVED, "moved"},     {DIFF_RENAMED, "renamed"}, {DIFF_MODE, "executable bit changed"}};

const char *plan_verb_name(enum plan_verb v)
{
	return (size_t)v < sizeof(verbs) / sizeof(verbs[0]) ? verbs[v].name : "";
}

static void put_cause(struct buf *b, const struct node_cause *c)
{
	const char *sep = " (";
	if (c->seq) {
		buf_str(b, str_c(sep));
		buf_lit(b, "change ");
		buf_i64(b, c->seq);
		sep = ", ";
	}
	if (c->at_us) {
		buf_str(b, str_c(sep));
		buf_time(b, c->at_us);
		sep = ", ";
	}
	if (c->by.n) {
		buf_str(b, str_c(sep));
		buf_lit(b, "by ");
		buf_str(b, c->by);
		sep = ", ";
	}
	if (sep[0] == ',')
		buf_lit(b, ")");
}

static void put_side(struct buf *b, unsigned diff, bool there, const struct node_cause *c)
{
	const char *sep = "";
	for (size_t i = 0; i < sizeof(diffs) / sizeof(diffs[0]); i++) {
		if (!(diff & diffs[i].diff))
			continue;
		buf_str(b, str_c(sep));
		buf_str(b, str_c(diffs[i].words));
		sep = " and ";
	}
	if (diff)
		put_cause(b, c);
	else
		buf_str(b, there ? STR("unchanged") : STR("not there"));
}

struct str plan_explain(struct arena *a, const struct plan_op *op)
{
	struct buf b = {0};
	buf_reserve(&b, 256);
	buf_str(&b, str_c(verbs[op->verb].words));
	bool named = op->name.p && op->verb != PLAN_RECORD && !(op->has_local && str_eq(op->name, op->local.name) &&
	                                                        op->parent == op->local.parent);
	if (named) {
		buf_lit(&b, " as \"");
		buf_str(&b, op->name);
		buf_char(&b, '"');
	}
	buf_lit(&b, ": ");
	buf_str(&b, str_c(op->reason));
	buf_lit(&b, "; on the server ");
	put_side(&b, op->why.remote, op->has_remote, &op->why.remote_cause);
	buf_lit(&b, ", here ");
	put_side(&b, op->why.local, op->has_local, &op->why.local_cause);
	buf_fmt(&b, "; case %02d", op->case_no);
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}
