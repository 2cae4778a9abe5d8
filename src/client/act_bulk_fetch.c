/* Fetching many small files: each content is checked, staged and sealed as it comes; first those that are here under
 * another name (act_twin.c), which are copied, then the others, by one call for many. Meanwhile those that are sealed are put
 * in their places, many at a time: the file system is synced once, then they are renamed. When all are placed it is synced
 * once more, and only then are the results recorded (I8). */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/codec.h"
#include "client/agent_priv.h"

enum {
	GROUP_FILES = LIMIT_CHUNKS_REQUEST,
	GROUP_BYTES = 256 << 20, /* staged on the disk */
	PLACE_LEAST = 1000,      /* files that are worth a sync of their own */
};

struct fetching {
	struct agent *agent;
	size_t n;
	size_t ended;       /* versions that came */
	struct buf content; /* of the present one */
	struct codec_work *work;
	/* Placing, on another thread: files from .. to. Its results are taken over when it has ended. */
	struct placing {
		struct task task; /* first */
		struct fetching *f;
		size_t from, to;
		struct arena arena;
		struct ctx ctx;
	} placing;
	struct tasks tasks;
	/* These are written as far as they are used. */
	struct job *jobs[GROUP_FILES];
	struct root_stage *stages[GROUP_FILES]; /* sealed and waiting for their place */
	bool told[GROUP_FILES]; /* all of it came, and its err says what became of it */
	int64_t version_ids[GROUP_FILES];
	int place_err[GROUP_FILES];
	struct str place_detail[GROUP_FILES];
};

static void place(struct task *self)
{
	struct placing *p = (struct placing *)self;
	struct root *root = p->f->agent->root;
	int settled = mutant(M_FETCH_NO_SYNC) ? 0 : root->ops->settle(root, &p->ctx);
	struct str why = settled ? ctx_detail(&p->ctx, settled) : STR_NULL;
	for (size_t i = p->from; i < p->to; i++) {
		struct job *j = p->f->jobs[i];
		struct root_stage *stage = p->f->stages[i];
		if (!stage)
			continue;
		p->f->stages[i] = NULL;
		p->f->place_err[i] = settled;
		p->f->place_detail[i] = why;
		if (settled) {
			root->ops->stage_abort(stage);
			continue;
		}
		ctx_clear(&p->ctx);
		struct root_entry now;
		if (mutant(M_ACT_OVERWRITE) && !root->ops->stat(root, &p->ctx, j->path, &now))
			j->stamp = now.stamp;
		p->f->place_err[i] = root->ops->stage_place(stage, &p->ctx, j->path, j->op->has_local ? &j->stamp : NULL, &j->entry);
		if (p->f->place_err[i])
			p->f->place_detail[i] = ctx_detail(&p->ctx, p->f->place_err[i]);
	}
}

/* Starts placing what is sealed, if nobody is at it. */
static void place_more(struct fetching *f)
{
	struct placing *p = &f->placing;
	if (tasks_open(&f->tasks))
		return;
	p->from = p->to;
	p->to = f->ended;
	tasks_add(&f->tasks, &p->task, place);
}

/* What comes of i is known, but for its place. */
static void end_one(struct fetching *f, size_t i)
{
	f->told[i] = true;
	f->ended = i + 1;
	if (f->agent->lane && f->ended - f->placing.to >= PLACE_LEAST)
		place_more(f);
}

/* All chunks of a version are here. */
static int stage_one(struct fetching *f, struct job *j, struct root_stage **stage)
{
	struct root *root = f->agent->root;
	const struct node_facts *want = &j->op->remote;
	struct sha256 got = sha256_of(f->content.p, f->content.n);
	bool whole = (int64_t)f->content.n == want->size_bytes && sha256_eq(&got, &want->checksum);
	if (!whole && !mutant(M_FETCH_UNVERIFIED))
		return ctx_fail(&j->ctx, E_CHECKSUM, "The content that came for \"%.*s\" does not match its checksum; it was not used.",
		                STR_ARG(j->path));
	int err = root->ops->stage(root, &j->ctx, stage);
	if (err)
		return err;
	err = f->content.n ? root->ops->stage_write(*stage, f->content.p, f->content.n) : 0;
	if (!err)
		err = root->ops->stage_seal(*stage, &j->ctx, want->mtime_us, want->executable);
	if (err) {
		root->ops->stage_abort(*stage);
		*stage = NULL;
	}
	return err;
}

/* Those that could not be copied have no twin any more, and are fetched with the others. */
static void copy_twins(struct fetching *f)
{
	struct root *root = f->agent->root;
	for (size_t i = 0; i < f->n; i++) {
		struct job *j = f->jobs[i];
		const struct node_facts *want = &j->op->remote;
		struct act_stage to = {.job = j, .sha = sha256_new()};
		int err = root->ops->stage(root, &j->ctx, &to.stage);
		if (!err)
			err = act_twin_fetch(j, &to);
		struct sha256 got = sha256_final(to.sha);
		sha256_free(to.sha);
		if (!err && !sha256_eq(&got, &want->checksum))
			err = E_CHECKSUM;
		if (!err)
			err = root->ops->stage_seal(to.stage, &j->ctx, want->mtime_us, want->executable);
		if (err && to.stage)
			root->ops->stage_abort(to.stage);
		if (err) {
			ctx_clear(&j->ctx);
			j->twin = STR_NULL;
		} else {
			f->stages[i] = to.stage;
		}
		end_one(f, i);
	}
}

static int add_chunk(struct fetching *f, const struct frame *frame)
{
	size_t room = CHUNK_MAX_BYTES - f->content.n, n = frame->length; /* no file that we asked for is longer */
	buf_reserve(&f->content, CHUNK_MAX_BYTES);
	if (frame->flags) {
		if (codec_unpack(f->work, STR_NULL, str_n((const char *)frame->bytes, n), f->content.p + f->content.n, room, &n))
			return E_UPSTREAM;
	} else if (n <= room) {
		memcpy(f->content.p + f->content.n, frame->bytes, n);
	} else {
		return E_UPSTREAM;
	}
	f->content.n += n;
	f->agent->bytes += frame->length;
	return 0;
}

static int on_frame(void *arg, size_t i, const struct frame *frame)
{
	static const struct sha256 none;
	struct fetching *f = arg;
	struct job *j = f->jobs[i];
	if (frame->length)
		return add_chunk(f, frame);
	if (sha256_eq(&frame->hash, &none))
		j->err = ctx_fail(&j->ctx, E_NOT_FOUND, "The server has no such version of \"%.*s\" any more; it is looked at again.",
		                  STR_ARG(j->path));
	else
		j->err = stage_one(f, j, &f->stages[i]);
	buf_clear(&f->content);
	end_one(f, i);
	return j->err == E_NO_SPACE ? j->err : 0;
}

static void fetch_group(struct ctx *ctx, struct agent *a, struct fetching *f, bool twins)
{
	struct placing *p = &f->placing;
	int err = 0;
	if (twins)
		copy_twins(f);
	else
		err = remote_fetch(ctx, a->remote, a->share, f->version_ids, f->n, on_frame, f);
	struct job **failed = arena_many(ctx->arena, f->n, struct job *);
	size_t n = 0;
	for (size_t i = 0; err && i < f->n; i++)
		if (!f->told[i])
			failed[n++] = f->jobs[i];
	if (err)
		act_bulk_fail(a, failed, n, err, ctx_detail(ctx, err));
	ctx_clear(ctx);
	/* Whatever came whole is used, also when the rest did not come. */
	tasks_wait(&f->tasks, 0, NULL, NULL);
	if (p->to < f->ended)
		place_more(f);
	tasks_wait(&f->tasks, 0, NULL, NULL);
	for (size_t i = 0; i < f->ended; i++)
		if (f->place_err[i])
			f->jobs[i]->err = ctx_fail(&f->jobs[i]->ctx, f->place_err[i], "%.*s", STR_ARG(f->place_detail[i]));
	err = a->root->ops->settle(a->root, ctx);
	a->unsynced = a->unsynced && err;
	if (err)
		act_bulk_fail(a, f->jobs, f->n, err, ctx_detail(ctx, err));
	ctx_clear(ctx);
}

/* Takes up the next jobs, those with twins or those without. Returns where it stopped. */
static size_t gather(struct fetching *f, struct job *jobs, size_t at, size_t n, bool twins)
{
	int64_t bytes = 0;
	f->n = f->ended = f->placing.from = f->placing.to = 0;
	buf_clear(&f->content);
	for (; at < n && f->n < GROUP_FILES && bytes < GROUP_BYTES; at++) {
		if (!jobs[at].bulk || jobs[at].err || jobs[at].op->verb != PLAN_FETCH || twins != (jobs[at].twin.p != NULL))
			continue;
		f->stages[f->n] = NULL;
		f->told[f->n] = false;
		f->place_err[f->n] = 0;
		f->version_ids[f->n] = jobs[at].op->remote.version_id;
		f->jobs[f->n++] = &jobs[at];
		bytes += jobs[at].op->remote.size_bytes;
	}
	return at;
}

void act_bulk_fetch(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	struct fetching *f = malloc(sizeof *f);
	must(f != NULL);
	memset(f, 0, offsetof(struct fetching, jobs));
	f->agent = a;
	f->work = codec_work_new();
	f->placing.f = f;
	tasks_init(&f->tasks, a->lane);
	arena_init(&f->placing.arena);
	ctx_init(&f->placing.ctx, &f->placing.arena, ctx->clock, ctx->rng);
	for (int twins = 1; twins >= 0; twins--)
		for (size_t at = 0; at < n;) {
			at = gather(f, jobs, at, n, twins);
			if (f->n)
				fetch_group(ctx, a, f, twins);
		}
	arena_fini(&f->placing.arena);
	tasks_fini(&f->tasks);
	buf_fini(&f->content);
	codec_work_free(f->work);
	free(f);
}
