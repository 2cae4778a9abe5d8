/* Sending many small files: they are read into memory, and what was read must be what the plan saw (the stamp before and
 * behind, and the checksum), so no torn file leaves. Chunks that the server lacks go in one body, then one apply makes the
 * files. While groups are on their way the next one is read; a group belongs to one thread at a time. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "chunks/codec.h"
#include "client/agent_priv.h"

enum {
	SLOTS = 3, /* groups at a time: one is read, the others are on their way */
	GROUP_FILES = 2500,
	GROUP_BYTES = 16 << 20,
	STALE_MOST = 8, /* in a group; are there more, the halves are not worth their calls, and the rest waits for the next round */
	PACK_TRIES = 16, /* in vain, one after the other; then one in so many is tried. A chunk must shrink by such a part */
	FILE_CHUNKS = CHUNK_MAX_BYTES / CHUNK_MIN_BYTES + 1, /* of the largest file that goes this way */
	GROUP_CHUNKS = GROUP_BYTES / CHUNK_MIN_BYTES + GROUP_FILES + FILE_CHUNKS,
};
_Static_assert(GROUP_CHUNKS <= LIMIT_CHUNKS_REQUEST && GROUP_FILES <= LIMIT_APPLY_CHANGES, "a group fits one call");

struct sending {
	struct task task; /* first */
	struct tasks tasks;
	struct agent *agent;
	struct arena arena; /* of the calls */
	struct ctx ctx;
	size_t n, n_chunks, n_bytes;
	size_t n_stale; /* calls that were refused for good, because of a stale edit */
	int err; /* of a call; those that had no answer by then share it */
	/* These are written as far as they are used. */
	struct job *jobs[GROUP_FILES];
	struct remote_file files[GROUP_FILES];
	bool answered[GROUP_FILES];
	struct remote_chunk chunks[GROUP_CHUNKS];
	struct sha256 hashes[GROUP_CHUNKS];
	bool wanted[GROUP_CHUNKS];
	uint8_t bytes[GROUP_BYTES + CHUNK_MAX_BYTES];
};

static int changed(struct job *j)
{
	return ctx_fail(&j->ctx, E_CHANGED, "\"%.*s\" changed before it was sent; it is looked at again.", STR_ARG(j->path));
}

static int read_open(struct job *j, struct root_file *f, uint8_t *out)
{
	const struct root_ops *ops = j->agent->root->ops;
	size_t size = (size_t)j->op->local.size_bytes, done = 0, got = 1;
	int err = 0;
	while (!err && done < size && got) {
		err = ops->read(f, out + done, size - done, &got);
		done += got;
	}
	struct root_entry now;
	if (!err)
		err = ops->file_stat(f, &now);
	if (err)
		return err;
	struct sha256 hash = sha256_of(out, done);
	bool same = done == size && stamp_same_file(&now.stamp, &j->stamp) && now.stamp.ctime_ns == j->stamp.ctime_ns;
	return same && sha256_eq(&hash, &j->op->local.checksum) ? 0 : changed(j);
}

static int read_file(struct job *j, uint8_t *out)
{
	const struct root_ops *ops = j->agent->root->ops;
	struct root_file *f;
	struct root_entry now;
	int err = ops->open(j->agent->root, &j->ctx, j->path, &f, &now);
	if (err)
		return err;
	err = stamp_same(&now.stamp, &j->stamp) ? read_open(j, f, out) : changed(j);
	ops->close(f);
	return err;
}

static void cut(struct sending *s, const struct gear *gear, const uint8_t *p, size_t n, struct remote_file *file)
{
	struct chunker c;
	size_t whole = n;
	chunker_init(&c, gear);
	file->chunks = s->hashes + s->n_chunks;
	while (n) {
		bool is_cut;
		size_t k = chunker_scan(&c, p, n, &is_cut);
		must(s->n_chunks < GROUP_CHUNKS && k > 0);
		struct sha256 hash = k == whole ? file->checksum : sha256_of(p, k);
		s->hashes[s->n_chunks] = hash;
		s->chunks[s->n_chunks++] = (struct remote_chunk){.hash = hash, .bytes = p, .length = (uint32_t)k};
		file->n_chunks++;
		p += k;
		n -= k;
	}
}

/* The same intent from the same state has the same name (see act_remote.c). */
static struct str op_id_of(struct ctx *ctx, const struct agent *a, const struct plan_op *op)
{
	char hex[64];
	hex_encode(op->local.checksum.b, 32, hex);
	struct str s = arena_fmt(ctx->arena, "%s/%lld/%lld/%lld/%lld/%.*s/%.64s/%lld/%d/%lld", plan_verb_name(op->verb),
	                         (long long)op->id, (long long)op->local.id, (long long)op->parent,
	                         (long long)op->base_version_id, STR_ARG(op->name), hex, (long long)op->local.mtime_us,
	                         op->local.executable, (long long)a->replica->cursor);
	return arena_fmt(ctx->arena, "%s-%lld-%016llx", plan_verb_name(op->verb), (long long)op->id,
	                 (unsigned long long)xxh3_64(s.p, s.n));
}

/* It is still what the plan saw. */
static int look_at_file(struct job *j)
{
	struct root_entry now;
	int err = j->agent->root->ops->stat(j->agent->root, &j->ctx, j->path, &now);
	return err ? err : stamp_same(&now.stamp, &j->stamp) ? 0 : changed(j);
}

/* Reads and cuts the file of a job into the group, unless its content is known there. */
static void take_file(struct ctx *ctx, struct agent *a, struct sending *s, struct job *j)
{
	const struct plan_op *op = j->op;
	uint8_t *p = s->bytes + s->n_bytes;
	bool replace = op->verb == PLAN_SEND_VERSION;
	j->err = j->twin_version_id ? look_at_file(j) : read_file(j, p);
	if (j->err)
		return;
	struct remote_file *file = &s->files[s->n];
	*file = (struct remote_file){.id = replace ? op->id : 0, .parent = op->parent, .name = op->name,
	                             .base_version_id = replace ? op->base_version_id : 0, .size_bytes = op->local.size_bytes,
	                             .checksum = op->local.checksum, .mtime_us = op->local.mtime_us,
	                             .executable = op->local.executable, .op_id = op_id_of(ctx, a, op),
	                             .twin_version_id = j->twin_version_id};
	if (!j->twin_version_id) {
		cut(s, &a->gear, p, (size_t)op->local.size_bytes, file);
		s->n_bytes += (size_t)op->local.size_bytes;
	}
	s->answered[s->n] = false;
	s->jobs[s->n++] = j;
}

/* In its place, where it shrinks. Of what is compressed already only some is tried. */
static void pack_chunks(struct sending *s)
{
	struct codec_work *work = codec_work_new();
	size_t in_vain = 0;
	for (size_t i = 0; i < s->n_chunks; i++) {
		struct remote_chunk *c = &s->chunks[i];
		struct str packed;
		if (!s->wanted[i] || (in_vain >= PACK_TRIES && i % PACK_TRIES))
			continue;
		in_vain++;
		if (!codec_pack(work, STR_NULL, c->bytes, c->length, &packed) || packed.n > c->length - c->length / PACK_TRIES)
			continue;
		memcpy(s->bytes + ((const uint8_t *)c->bytes - s->bytes), packed.p, packed.n);
		c->length = (uint32_t)packed.n;
		c->flags = FRAME_ZSTD;
		in_vain = 0;
	}
	codec_work_free(work);
}

/* What the server does not have yet; of edited files it has most. */
static int send_chunks(struct sending *s)
{
	struct agent *a = s->agent;
	int64_t sources[LIMIT_CHUNK_SOURCES];
	size_t n_sources = 0;
	for (size_t i = 0; i < s->n && n_sources < LIMIT_CHUNK_SOURCES && !a->no_sources; i++)
		if (s->files[i].base_version_id)
			sources[n_sources++] = s->files[i].base_version_id;
	if (!s->n_chunks)
		return 0;
	int err = remote_missing(&s->ctx, a->remote, a->share, s->chunks, s->n_chunks, sources, n_sources, s->wanted);
	if (!err)
		pack_chunks(s);
	if (!err)
		err = remote_send_chunks(&s->ctx, a->remote, a->share, 0, s->chunks, s->n_chunks, s->wanted);
	for (size_t i = 0; !err && i < s->n_chunks; i++)
		a->bytes += s->wanted[i] ? s->chunks[i].length : 0;
	return err;
}

/* Edits without a strategy are refused together when one of them is stale: it is looked for by halves, so that the others are made. */
static int put_files(struct sending *s, struct str strategy, const size_t *which, size_t n)
{
	struct agent *a = s->agent;
	struct remote_file *files = arena_many(&s->arena, n, struct remote_file);
	for (size_t i = 0; i < n; i++)
		files[i] = s->files[which[i]];
	int err = remote_put_files(&s->ctx, a->remote, a->share, strategy, a->replica->cursor, files, n);
	if (err == E_VERSION_STALE && n > 1 && s->n_stale < STALE_MOST) {
		ctx_clear(&s->ctx);
		err = put_files(s, strategy, which, n / 2);
		return err ? err : put_files(s, strategy, which + n / 2, n - n / 2);
	}
	if (err && err != E_VERSION_STALE)
		return err;
	for (size_t i = 0; i < n; i++) {
		if (err) {
			files[i].err = err;
			files[i].detail = ctx_detail(&s->ctx, err);
		}
		s->files[which[i]] = files[i];
		s->answered[which[i]] = true;
	}
	s->n_stale += err != 0;
	ctx_clear(&s->ctx);
	return 0;
}

/* One apply for new files, which never take another's name, and one for edits that ask for one strategy. */
static int put_some(struct sending *s, bool edits, enum resolve_strategy strategy)
{
	size_t most = edits && strategy == RESOLVE_NONE ? LIMIT_APPLY_ALL_OR_NONE : LIMIT_APPLY_CHANGES, n = 0;
	size_t *which = arena_many(&s->arena, s->n, size_t);
	struct str word = str_c(resolve_strategy_name(edits ? strategy : RESOLVE_SERVER_WINS));
	int err = 0;
	for (size_t i = 0; !err && i < s->n; i++) {
		if ((s->files[i].id != 0) == edits && (!edits || s->jobs[i]->op->strategy == strategy))
			which[n++] = i;
		if (!n || (n < most && i + 1 < s->n))
			continue;
		err = put_files(s, word, which, n);
		n = 0;
	}
	return err;
}

static void send_group(struct task *self)
{
	struct sending *s = (struct sending *)self;
	s->err = send_chunks(s);
	if (!s->err)
		s->err = put_some(s, false, RESOLVE_NONE);
	for (int strategy = RESOLVE_NONE; !s->err && strategy <= RESOLVE_MANUAL; strategy++)
		s->err = put_some(s, true, (enum resolve_strategy)strategy);
}

static void take_result(struct ctx *ctx, struct job *j, const struct remote_file *f)
{
	if (f->err) {
		/* Should the twin be what it cannot have: the next round sends the bytes. */
		j->agent->no_twins |= f->twin_version_id && f->err != E_NAME_CONFLICT && f->err != E_VERSION_STALE;
		/* All bases were asked about at once: two files may have each what the other one's has. */
		if (f->err == E_CHUNK_MISSING)
			j->agent->no_sources = true;
		j->err = ctx_fail(&j->ctx, f->err, "%.*s", STR_ARG(f->detail.p ? f->detail : STR("The server refused the file.")));
		return;
	}
	j->up.checksum = f->checksum;
	j->up.stored = f->stored;
	j->up.stored.name = arena_str(ctx->arena, f->stored.name);
	j->up.conflict = f->conflict;
	j->up.entry = f->entry;
}

/* Waits for the group on its way and takes over what became of it; the slot is free then. *why: the sentence of the error. */
static int end_group(struct ctx *ctx, struct sending *s, struct str *why)
{
	struct job **left = arena_many(ctx->arena, s->n, struct job *);
	size_t n = 0;
	tasks_wait(&s->tasks, 0, NULL, NULL);
	for (size_t i = 0; i < s->n; i++) {
		if (s->answered[i])
			take_result(ctx, s->jobs[i], &s->files[i]);
		else
			left[n++] = s->jobs[i];
	}
	int err = s->err;
	if (err) {
		*why = arena_str(ctx->arena, ctx_detail(&s->ctx, err));
		s->agent->stranger |= err == E_NOT_FOUND;
		act_bulk_fail(s->agent, left, n, err, *why);
	}
	ctx_clear(&s->ctx);
	arena_reset(&s->arena);
	s->n = s->n_chunks = s->n_bytes = s->n_stale = 0;
	s->err = 0;
	return err;
}

static bool is_mine(const struct job *j)
{
	return j->bulk && !j->err && j->op->verb != PLAN_FETCH;
}

static void send_groups(struct ctx *ctx, struct agent *a, struct sending *slots, struct job *jobs, size_t n)
{
	int down = 0; /* no more calls then */
	struct str why = STR_NULL;
	for (size_t i = 0, slot = 0; i < n; slot = (slot + 1) % SLOTS) {
		struct sending *s = &slots[slot];
		int err = down ? 0 : end_group(ctx, s, &why);
		if (agent_is_down(err))
			down = err;
		for (; i < n && s->n < GROUP_FILES && s->n_bytes < GROUP_BYTES; i++) {
			if (!is_mine(&jobs[i]))
				continue;
			if (down)
				jobs[i].err = ctx_fail(&jobs[i].ctx, down, "%.*s", STR_ARG(why));
			else
				take_file(ctx, a, s, &jobs[i]);
		}
		if (s->n)
			tasks_add(&s->tasks, &s->task, send_group);
	}
	for (int i = 0; i < SLOTS; i++)
		end_group(ctx, &slots[i], &why);
}

int act_know_gear(struct ctx *ctx, struct agent *a)
{
	int err = a->has_gear ? 0 : remote_chunking(ctx, a->remote, a->share, &a->gear);
	a->has_gear = !err;
	return err;
}

void act_bulk_send(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	int err = act_know_gear(ctx, a);
	if (err) {
		struct job **mine = arena_many(ctx->arena, n, struct job *);
		size_t n_mine = 0;
		for (size_t i = 0; i < n; i++)
			if (is_mine(&jobs[i]))
				mine[n_mine++] = &jobs[i];
		act_bulk_fail(a, mine, n_mine, err, ctx_detail(ctx, err));
		ctx_clear(ctx);
		return;
	}
	struct sending *slots = malloc(SLOTS * sizeof *slots);
	must(slots != NULL);
	for (int i = 0; i < SLOTS; i++) {
		struct sending *s = &slots[i];
		memset(s, 0, offsetof(struct sending, jobs));
		s->agent = a;
		tasks_init(&s->tasks, a->lane);
		arena_init(&s->arena);
		ctx_init(&s->ctx, &s->arena, ctx->clock, ctx->rng);
	}
	send_groups(ctx, a, slots, jobs, n);
	for (int i = 0; i < SLOTS; i++) {
		tasks_fini(&slots[i].tasks);
		arena_fini(&slots[i].arena);
	}
	free(slots);
}
