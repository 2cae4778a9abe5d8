/* Fetching many small files: first those that are here under another name (act_twin.c), which are copied, then the others, by
 * one call for many. They gather in batches. A batch is checked and staged, then the file system is synced once, then it is put in
 * place, by one thread; and each batch is at another step, so that the processors have work while one waits for the disk. When all
 * are placed the file system is synced once more, and only then are the results recorded (I8). */
#include <pthread.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/codec.h"
#include "client/agent_priv.h"

enum {
	GROUP_FILES = LIMIT_CHUNKS_REQUEST,
	GROUP_BYTES = 256 << 20, /* of a call */
	BATCHES = 5,             /* received, staged, synced, placed, and one that waits for its turn */
	BATCH_FILES = 1000,      /* that are worth a sync of their own */
	BATCH_BYTES = 8 << 20,
};

/* Held by the batch that is at it. */
struct steps {
	pthread_mutex_t staging, syncing, placing;
	int sync_err;
};

struct batch {
	struct task task; /* first */
	struct tasks tasks;
	struct agent *agent;
	struct steps *steps;
	struct arena arena;
	struct ctx ctx;
	struct buf bytes; /* contents, one behind the other; twins have none */
	size_t n;
	struct batched {
		struct job *job;
		size_t begin, end;         /* its content, in bytes */
		struct root_stage *stage;  /* sealed and waiting for its place */
		int err;
		struct str why;
	} files[BATCH_FILES];
};

struct fetching {
	struct agent *agent;
	size_t n;
	size_t ended;  /* versions that came */
	bool no_space; /* on the disk */
	struct steps steps;
	struct codec_work *work;
	size_t at;     /* the batch that is filled */
	struct batch batches[BATCHES];
	struct job *jobs[GROUP_FILES];
	int64_t version_ids[GROUP_FILES];
};

/* ---- a batch, on a thread of its own ---- */

static void failed(struct batch *b, struct batched *file, int err)
{
	file->err = err;
	file->why = ctx_detail(&b->ctx, err);
	ctx_clear(&b->ctx);
}

/* Into the stage, which is made: the twin's content, or what came. */
static int fill(struct batch *b, const struct batched *file, struct root_stage *stage)
{
	struct act_stage to = {.job = file->job, .ctx = &b->ctx, .stage = stage};
	size_t n = file->end - file->begin;
	if (!file->job->twin.p)
		return n ? b->agent->root->ops->stage_write(stage, b->bytes.p + file->begin, n) : 0;
	to.sha = sha256_new();
	int err = act_twin_fetch(file->job, &to);
	struct sha256 got = sha256_final(to.sha);
	sha256_free(to.sha);
	return err || sha256_eq(&got, &file->job->op->remote.checksum) ? err : E_CHECKSUM;
}

static bool is_whole(const struct batch *b, const struct batched *file)
{
	const struct node_facts *want = &file->job->op->remote;
	size_t n = file->end - file->begin;
	struct sha256 got = sha256_of(b->bytes.p + file->begin, n);
	return ((int64_t)n == want->size_bytes && sha256_eq(&got, &want->checksum)) || mutant(M_FETCH_UNVERIFIED);
}

static int stage_one(struct batch *b, struct batched *file)
{
	struct root *root = b->agent->root;
	struct job *j = file->job;
	if (!j->twin.p && !is_whole(b, file))
		return ctx_fail(&b->ctx, E_CHECKSUM, "The content that came for \"%.*s\" does not match its checksum; it was not used.",
		                STR_ARG(j->path));
	int err = root->ops->stage(root, &b->ctx, &file->stage);
	if (err)
		return err;
	err = fill(b, file, file->stage);
	if (!err)
		err = root->ops->stage_seal(file->stage, &b->ctx, j->op->remote.mtime_us, j->op->remote.executable);
	if (err) {
		root->ops->stage_abort(file->stage);
		file->stage = NULL;
	}
	return err;
}

static void stage_all(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct batched *file = &b->files[i];
		int err = stage_one(b, file);
		if (err && file->job->twin.p) { /* it is fetched with the others */
			ctx_clear(&b->ctx);
			file->job->twin = STR_NULL;
		} else if (err) {
			failed(b, file, err);
		}
	}
}

static void place_one(struct batch *b, struct batched *file)
{
	struct root *root = b->agent->root;
	struct job *j = file->job;
	struct root_entry now;
	if (mutant(M_ACT_OVERWRITE) && !root->ops->stat(root, &b->ctx, j->path, &now))
		j->stamp = now.stamp;
	int err = root->ops->stage_place(file->stage, &b->ctx, j->path, j->op->has_local ? &j->stamp : NULL, &j->entry);
	if (err)
		failed(b, file, err);
}

/* What is staged must be on the disk before it gets its name. That something could not be written the kernel tells once, perhaps at
 * the sync of another batch: after a failure no sync of the group is believed. */
static void sync_all(struct batch *b)
{
	struct root *root = b->agent->root;
	int err = b->steps->sync_err;
	if (!err && !mutant(M_FETCH_NO_SYNC))
		err = b->steps->sync_err = root->ops->settle(root, &b->ctx);
	struct str why = err ? ctx_detail(&b->ctx, err) : STR_NULL;
	for (size_t i = 0; err && i < b->n; i++) {
		struct batched *file = &b->files[i];
		if (!file->stage)
			continue;
		root->ops->stage_abort(file->stage);
		file->stage = NULL;
		file->err = err;
		file->why = why;
	}
	ctx_clear(&b->ctx);
}

static void place_all(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->files[i].stage)
			place_one(b, &b->files[i]);
}

static void step(struct batch *b, pthread_mutex_t *lock, void (*fn)(struct batch *b))
{
	pthread_mutex_lock(lock);
	fn(b);
	pthread_mutex_unlock(lock);
}

static void write_batch(struct task *self)
{
	struct batch *b = (struct batch *)self;
	step(b, &b->steps->staging, stage_all);
	step(b, &b->steps->syncing, sync_all);
	step(b, &b->steps->placing, place_all);
}

/* ---- gathering ---- */

/* Waits for what it does and takes over what became of it. */
static void end_batch(struct fetching *f, struct batch *b)
{
	tasks_wait(&b->tasks, 0, NULL, NULL);
	for (size_t i = 0; i < b->n; i++) {
		const struct batched *file = &b->files[i];
		if (file->err)
			file->job->err = ctx_fail(&file->job->ctx, file->err, "%.*s", STR_ARG(file->why));
		f->no_space |= file->err == E_NO_SPACE;
	}
	arena_reset(&b->arena);
	buf_clear(&b->bytes);
	b->n = 0;
}

static void hand_over(struct fetching *f)
{
	struct batch *b = &f->batches[f->at];
	tasks_add(&b->tasks, &b->task, write_batch);
	f->at = (f->at + 1) % BATCHES;
	end_batch(f, &f->batches[f->at]);
}

/* Where the content that is coming begins. */
static size_t begin_of(const struct batch *b)
{
	return b->n ? b->files[b->n - 1].end : 0;
}

/* All of it is here. */
static void add_file(struct fetching *f, struct job *j)
{
	struct batch *b = &f->batches[f->at];
	b->files[b->n] = (struct batched){.job = j, .begin = begin_of(b), .end = b->bytes.n};
	if (++b->n == BATCH_FILES || b->bytes.n >= BATCH_BYTES)
		hand_over(f);
}

static int add_chunk(struct fetching *f, const struct frame *frame)
{
	struct buf *bytes = &f->batches[f->at].bytes;
	size_t room = CHUNK_MAX_BYTES - (bytes->n - begin_of(&f->batches[f->at])), n = frame->length; /* no file that we asked for is longer */
	buf_reserve(bytes, CHUNK_MAX_BYTES);
	if (frame->flags) {
		if (codec_unpack(f->work, STR_NULL, str_n((const char *)frame->bytes, n), bytes->p + bytes->n, room, &n))
			return E_UPSTREAM;
	} else if (n <= room) {
		memcpy(bytes->p + bytes->n, frame->bytes, n);
	} else {
		return E_UPSTREAM;
	}
	bytes->n += n;
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
	f->ended = i + 1;
	if (!sha256_eq(&frame->hash, &none)) {
		add_file(f, j);
		return f->no_space ? E_NO_SPACE : 0;
	}
	struct batch *b = &f->batches[f->at];
	b->bytes.n = begin_of(b);
	j->err = ctx_fail(&j->ctx, E_NOT_FOUND, "The server has no such version of \"%.*s\" any more; it is looked at again.", STR_ARG(j->path));
	return 0;
}

static void copy_twins(struct fetching *f)
{
	for (size_t i = 0; i < f->n; i++)
		add_file(f, f->jobs[i]);
	f->ended = f->n;
}

static void fetch_group(struct ctx *ctx, struct agent *a, struct fetching *f, bool twins)
{
	int err = 0;
	if (twins)
		copy_twins(f);
	else
		err = remote_fetch(ctx, a->remote, a->share, f->version_ids, f->n, on_frame, f);
	if (err)
		act_bulk_fail(a, f->jobs + f->ended, f->n - f->ended, err, ctx_detail(ctx, err));
	ctx_clear(ctx);
	/* Whatever came whole is used, also when the rest did not come. */
	if (f->batches[f->at].n)
		hand_over(f);
	for (size_t i = 0; i < BATCHES; i++)
		end_batch(f, &f->batches[i]);
	err = f->steps.sync_err ? f->steps.sync_err : a->root->ops->settle(a->root, ctx);
	a->unsynced = a->unsynced && err;
	if (err)
		act_bulk_fail(a, f->jobs, f->n, err, ctx_detail(ctx, err));
	ctx_clear(ctx);
}

/* Takes up the next jobs, those with twins or those without. Returns where it stopped. */
static size_t gather(struct fetching *f, struct job *jobs, size_t at, size_t n, bool twins)
{
	int64_t bytes = 0;
	f->n = f->ended = 0;
	f->steps.sync_err = 0;
	for (; at < n && f->n < GROUP_FILES && bytes < GROUP_BYTES; at++) {
		if (!jobs[at].bulk || jobs[at].err || jobs[at].op->verb != PLAN_FETCH || twins != (jobs[at].twin.p != NULL))
			continue;
		f->version_ids[f->n] = jobs[at].op->remote.version_id;
		f->jobs[f->n++] = &jobs[at];
		bytes += jobs[at].op->remote.size_bytes;
	}
	return at;
}

void act_bulk_fetch(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	struct fetching *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->agent = a;
	f->work = codec_work_new();
	pthread_mutex_init(&f->steps.staging, NULL);
	pthread_mutex_init(&f->steps.syncing, NULL);
	pthread_mutex_init(&f->steps.placing, NULL);
	for (size_t i = 0; i < BATCHES; i++) {
		struct batch *b = &f->batches[i];
		b->agent = a;
		b->steps = &f->steps;
		tasks_init(&b->tasks, a->lane);
		arena_init(&b->arena);
		ctx_init(&b->ctx, &b->arena, ctx->clock, ctx->rng);
	}
	for (int twins = 1; twins >= 0; twins--)
		for (size_t at = 0; at < n;) {
			at = gather(f, jobs, at, n, twins);
			if (f->n)
				fetch_group(ctx, a, f, twins);
		}
	for (size_t i = 0; i < BATCHES; i++) {
		tasks_fini(&f->batches[i].tasks);
		arena_fini(&f->batches[i].arena);
		buf_fini(&f->batches[i].bytes);
	}
	pthread_mutex_destroy(&f->steps.staging);
	pthread_mutex_destroy(&f->steps.syncing);
	pthread_mutex_destroy(&f->steps.placing);
	codec_work_free(f->work);
	free(f);
}
