/* agent_priv: what observing (agent.c), acting here (act_local.c) and acting there (act_remote.c) share. */
#ifndef SD_CLIENT_AGENT_PRIV_H
#define SD_CLIENT_AGENT_PRIV_H

#include "client/agent.h"
#include "client/layout.h"
#include "client/tasks.h"

/* Pull and, when it is wanted, scan. */
int agent_observe(struct ctx *ctx, struct agent *a);
/* Results become durable behind what they tell of (I8): also what a user wrote and we sent. Were it agreed and then lost
 * with the power, the next scan would take it for deleted, or an older state of it for an edit. */
int agent_flush(struct ctx *ctx, struct agent *a);
/* The plan for the trees as they are; free it with plan_fini. */
void agent_plan(struct ctx *ctx, struct agent *a, struct plan *out);
struct str agent_op_path(struct ctx *ctx, const struct agent *a, const struct plan_op *op);
/* An error that is about the whole server, not about one operation: stop the round. */
bool agent_is_down(int err);
/* The path on this disk of a local node; "" for the root, STR_NULL when it is unknown. */
struct str agent_path(struct ctx *ctx, const struct agent *a, int64_t local_id);
/* The path of a child of a local folder. */
struct str agent_child_path(struct ctx *ctx, const struct agent *a, int64_t parent, struct str name);
/* The local node is still what the plan saw. */
const struct node *agent_as_planned(const struct agent *a, const struct plan_op *op);
/* Both sides agree about the node: facts as the server spells them; local_name as this disk does. */
void agent_agree(struct agent *a, struct node_facts facts, struct str local_name);
/* The entry of the log (0: none) tells of what the remote tree says already. */
void agent_own_entry(struct agent *a, int64_t entry, int64_t id);
void agent_report(struct ctx *ctx, struct agent *a, const struct plan_op *op, int err);
void agent_problem(struct agent *a, struct str path, struct str what);

/* Each folds its result into the trees and returns what became of the operation. */
int act_local(struct ctx *ctx, struct agent *a, const struct plan_op *op);
int act_detach(struct ctx *ctx, struct agent *a, const struct plan_op *op);
/* Metadata operations of one phase, as one apply; errs[i] is what became of ops[i]. */
int act_apply(struct ctx *ctx, struct agent *a, const struct plan_op **ops, size_t n, int *errs);
/* Transfers, several at a time; many small ones together (act_bulk.c). */
int act_transfer(struct ctx *ctx, struct agent *a, const struct plan_op **ops, size_t n, int *errs);

/* ---- which copy of the state this is (generation.c) ---- */

/* In an agent's first round. An older copy than the one that this folder was synced with last is forgotten. */
int generation_begin(struct ctx *ctx, struct agent *a);
/* From here on every copy of the state that exists is an older one. Flushes. */
int generation_next(struct ctx *ctx, struct agent *a);

/* ---- what is trashed here (leaving.c) ---- */

/* Before the first of the plan's, which is at `at`: they are written down, and durable. */
int leaving_begin(struct ctx *ctx, struct agent *a, const struct plan *p, size_t at);
/* What became of an operation. If it cannot be told whether the node went, the next scan tells. */
void leaving_end(struct agent *a, const struct plan_op *op, int err);
/* Those of which it is not known: a file that now bears the name of one is not a later state of it; */
void leaving_before_scan(struct ctx *ctx, struct agent *a);
/* and about one that is gone nothing is agreed any more: what the server has of it is new here. */
void leaving_after_scan(struct ctx *ctx, struct agent *a);

/* A version that resembles what a job transfers. */
struct act_base {
	int64_t id, version_id, size_bytes;
	struct str path;         /* FETCH: the file here that has its content, */
	struct disk_stamp stamp; /* looking so */
};

/* One transfer at work. */
struct job {
	struct task task; /* first */
	struct agent *agent;
	const struct plan_op *op;
	struct arena arena;
	struct ctx ctx;
	struct str path;
	struct str twin;              /* FETCH: a file here that is agreed to have this content; STR_NULL: none */
	int64_t twin_version_id;      /* SEND: a version there that has it; 0: none */
	struct disk_stamp stamp;      /* of the local file the plan saw */
	struct root_entry entry;      /* FETCH: what was written */
	struct remote_upload up;      /* SEND */
	struct buf layout;            /* of the version that both sides have now, if it is known */
	int err;
	bool bulk;                    /* act_bulk carries it out */
	bool delta;                   /* act_delta tries first */
};

/* What a fetch writes to: staged, and hashed as it stands there. */
struct act_stage {
	struct http_sink face; /* first */
	struct job *job;
	struct ctx *ctx; /* of the thread that does it */
	struct root_stage *stage;
	struct sha256_state *sha;
};

/* ---- content that is here, or there, under another name (act_twin.c) ---- */

/* Looks for it; sets twin or twin_version_id. */
void act_twin_find(struct job *j);
/* The content, from the twin. Whatever was wrong, another way may do (act_delta_gave_up). */
int act_twin_fetch(struct job *j, struct act_stage *to);

/* ---- many small files ---- */

/* Small enough, and simple enough, to go together with others. */
bool act_bulk_takes(const struct plan_op *op);
/* Its content need not travel, whatever its size. */
bool act_bulk_takes_twin(const struct job *j);
/* Carries out the jobs marked bulk, whose err is 0; sets entry or up, and err. */
void act_bulk(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n);
void act_bulk_send(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n);
void act_bulk_fetch(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n);
/* Asks how the server cuts, once: a->gear. */
int act_know_gear(struct ctx *ctx, struct agent *a);
/* A whole call failed with err and this sentence: each of these jobs that has no error of its own did. */
void act_bulk_fail(struct agent *a, struct job **jobs, size_t n, int err, struct str detail);

/* ---- large files that changed a little (act_delta.c) ---- */

/* Large enough, and not unlike what both sides have, or perhaps not unlike another file. */
bool act_delta_takes(const struct plan_op *op);
/* Sends what the base does not have, and tells how the version is put together; sets up, and layout. */
int act_delta_send(struct job *j);
/* The content, from a local file and what it lacks; sets layout. */
int act_delta_fetch(struct job *j, struct act_stage *to);
/* It did not work; sending or fetching all of it may. */
bool act_delta_gave_up(struct job *j, int err);
/* The version that the job's file had, whose content the other side has. False: it is new, or was edited on both sides. */
bool act_delta_own_base(struct job *j, struct act_base *out);
/* The remembered version that has most in common with this one, a fourth of it at least. E_NOT_FOUND: there is none. */
int act_delta_other_base(struct job *j, const struct layout *like, struct act_base *out);
/* The layout of a version, from memory or from the server. The text, which is the caller's to give back, must outlive *out. */
int act_delta_layout(struct job *j, int64_t id, int64_t version_id, struct buf *text, struct layout *out);
/* This version went whole: asks for its layout if it is large; sets layout. */
void act_delta_learn(struct job *j, int64_t version_id, int64_t size_bytes);
/* E_CHANGED, with its sentence. */
int act_changed(struct job *j);

#endif
