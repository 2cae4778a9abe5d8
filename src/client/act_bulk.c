/* Many small files in few requests, and written with few syncs.
 *
 * Sending: files are read into memory, and what was read must be what the plan saw (the stamp before and behind, and the
 * checksum), so no torn file leaves. Chunks that the server lacks go in one body, then one apply makes the files.
 * Fetching: each content is checked, staged and sealed; then the file system is synced once, the files are put in their
 * places, and it is synced once more. Results are recorded after that (I8). */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "client/agent_priv.h"

enum {
	GROUP_FILES = 10000,
	GROUP_BYTES = 32 << 20,      /* read into memory */
	FETCH_BYTES = 256 << 20,     /* staged on the disk */
	GROUP_CHUNKS = LIMIT_CHUNKS_REQUEST, /* asked about */
	FILE_CHUNKS = CHUNK_MAX_BYTES / CHUNK_MIN_BYTES + 1, /* of the largest file that goes this way */
};

bool act_bulk_takes(const struct plan_op *op)
{
	if (op->verb == PLAN_FETCH)
		return op->remote.size_bytes <= CHUNK_MAX_BYTES && op->remote.version_id;
	if (op->restore || op->local.size_bytes > CHUNK_MAX_BYTES)
		return false;
	return op->verb == PLAN_SEND || (op->verb == PLAN_SEND_VERSION && op->strategy != RESOLVE_NONE);
}

/* A whole call failed: each job that waits for it did. One that was not the network's or the server's state as a whole
 * would fail again: from now on these go one by one. */
static void fail_jobs(struct ctx *ctx, struct agent *a, struct job **jobs, size_t n, int err)
{
	struct str detail = ctx_detail(ctx, err);
	for (size_t i = 0; i < n; i++)
		if (!jobs[i]->err)
			jobs[i]->err = ctx_fail(&jobs[i]->ctx, err, "%.*s", STR_ARG(detail));
	if (!agent_is_down(err))
		a->one_by_one = true;
	ctx_clear(ctx);
}

/* ---- sending ---- */

struct sending {
	struct job *jobs[GROUP_FILES];
	struct remote_file files[GROUP_FILES];
	size_t n;
	struct remote_chunk chunks[GROUP_CHUNKS];
	struct sha256 hashes[GROUP_CHUNKS];
	bool wanted[GROUP_CHUNKS];
	size_t n_chunks;
	uint8_t *bytes;
	size_t n_bytes;
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
	chunker_init(&c, gear);
	file->chunks = s->hashes + s->n_chunks;
	while (n) {
		bool is_cut;
		size_t k = chunker_scan(&c, p, n, &is_cut);
		must(s->n_chunks < GROUP_CHUNKS && k > 0);
		struct sha256 hash = sha256_of(p, k);
		s->hashes[s->n_chunks] = hash;
		s->chunks[s->n_chunks++] = (struct remote_chunk){hash, p, (uint32_t)k};
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

/* Reads and cuts the file of a job into the group. */
static void take_file(struct ctx *ctx, struct agent *a, struct sending *s, struct job *j)
{
	const struct plan_op *op = j->op;
	uint8_t *p = s->bytes + s->n_bytes;
	bool replace = op->verb == PLAN_SEND_VERSION;
	j->err = read_file(j, p);
	if (j->err)
		return;
	struct remote_file *file = &s->files[s->n];
	*file = (struct remote_file){.id = replace ? op->id : 0, .parent = op->parent, .name = op->name,
	                             .base_version_id = replace ? op->base_version_id : 0, .size_bytes = op->local.size_bytes,
	                             .checksum = op->local.checksum, .mtime_us = op->local.mtime_us,
	                             .executable = op->local.executable, .op_id = op_id_of(ctx, a, op)};
	cut(s, &a->gear, p, (size_t)op->local.size_bytes, file);
	s->n_bytes += (size_t)op->local.size_bytes;
	s->jobs[s->n++] = j;
}

/* What the server does not have yet; of edited files it has most. */
static int send_chunks(struct ctx *ctx, struct agent *a, struct sending *s)
{
	int64_t sources[LIMIT_CHUNK_SOURCES];
	size_t n_sources = 0;
	for (size_t i = 0; i < s->n && n_sources < LIMIT_CHUNK_SOURCES; i++)
		if (s->files[i].base_version_id)
			sources[n_sources++] = s->files[i].base_version_id;
	if (!s->n_chunks)
		return 0;
	int err = remote_missing(ctx, a->remote, a->share, s->chunks, s->n_chunks, sources, n_sources, s->wanted);
	if (!err)
		err = remote_send_chunks(ctx, a->remote, a->share, s->chunks, s->n_chunks, s->wanted);
	for (size_t i = 0; !err && i < s->n_chunks; i++)
		a->bytes += s->wanted[i] ? s->chunks[i].length : 0;
	return err;
}

static void take_result(struct job *j, const struct remote_file *f)
{
	if (f->err) {
		j->err = ctx_fail(&j->ctx, f->err, "%.*s", STR_ARG(f->detail.p ? f->detail : STR("The server refused the file.")));
		return;
	}
	j->up.checksum = f->checksum;
	j->up.stored = f->stored;
	j->up.conflict = f->conflict;
}

/* One apply for the files that ask for one strategy; new files never take another's name, so any strategy that refuses it
 * serves them. */
static int put_some(struct ctx *ctx, struct agent *a, struct sending *s, bool replace, enum resolve_strategy strategy)
{
	struct remote_file *files = arena_many(ctx->arena, s->n, struct remote_file);
	size_t *where = arena_many(ctx->arena, s->n, size_t), n = 0;
	for (size_t i = 0; i < s->n; i++)
		if ((s->files[i].id != 0) == replace && (!replace || s->jobs[i]->op->strategy == strategy)) {
			where[n] = i;
			files[n++] = s->files[i];
		}
	if (n == 0)
		return 0;
	struct str word = str_c(resolve_strategy_name(strategy));
	int err = remote_put_files(ctx, a->remote, a->share, word, a->replica->cursor, files, n);
	for (size_t i = 0; !err && i < n; i++)
		take_result(s->jobs[where[i]], &files[i]);
	return err;
}

static void send_group(struct ctx *ctx, struct agent *a, struct sending *s)
{
	int err = s->n ? send_chunks(ctx, a, s) : 0;
	if (err) {
		fail_jobs(ctx, a, s->jobs, s->n, err);
		return;
	}
	struct job *hit[GROUP_FILES];
	for (int strategy = RESOLVE_NONE; strategy <= RESOLVE_MANUAL; strategy++) {
		bool replace = strategy != RESOLVE_NONE;
		err = put_some(ctx, a, s, replace, replace ? (enum resolve_strategy)strategy : RESOLVE_SERVER_WINS);
		size_t n = 0;
		for (size_t i = 0; err && i < s->n; i++)
			if ((s->files[i].id != 0) == replace && (!replace || (int)s->jobs[i]->op->strategy == strategy))
				hit[n++] = s->jobs[i];
		if (err)
			fail_jobs(ctx, a, hit, n, err);
	}
}

static void send_all(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	struct sending *s = malloc(sizeof *s);
	must(s != NULL);
	s->bytes = malloc(GROUP_BYTES + CHUNK_MAX_BYTES); /* touched as far as it is used */
	must(s->bytes != NULL);
	for (size_t i = 0; i < n;) {
		s->n = s->n_chunks = s->n_bytes = 0;
		for (; i < n && s->n < GROUP_FILES && s->n_bytes < GROUP_BYTES && s->n_chunks + FILE_CHUNKS <= GROUP_CHUNKS; i++)
			if (jobs[i].bulk && !jobs[i].err && jobs[i].op->verb != PLAN_FETCH)
				take_file(ctx, a, s, &jobs[i]);
		send_group(ctx, a, s);
	}
	free(s->bytes);
	free(s);
}

/* ---- fetching ---- */

struct fetching {
	struct agent *agent;
	struct job *jobs[GROUP_FILES];
	struct root_stage *stages[GROUP_FILES];
	bool told[GROUP_FILES]; /* all of it came, and its err says what became of it */
	int64_t version_ids[GROUP_FILES];
	size_t n;
	struct buf content;     /* of the present one */
};

/* All chunks of a version are here. */
static int stage_one(struct fetching *f, struct job *j, struct root_stage **stage)
{
	struct root *root = f->agent->root;
	const struct node_facts *want = &j->op->remote;
	struct sha256 got = sha256_of(f->content.p, f->content.n);
	if ((int64_t)f->content.n != want->size_bytes || !sha256_eq(&got, &want->checksum))
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

static int on_frame(void *arg, size_t i, const struct frame *frame)
{
	static const struct sha256 none;
	struct fetching *f = arg;
	struct job *j = f->jobs[i];
	if (frame->length) {
		if (f->content.n + frame->length > CHUNK_MAX_BYTES)
			return E_UPSTREAM; /* longer than any that we asked for */
		buf_put(&f->content, frame->bytes, frame->length);
		f->agent->bytes += frame->length;
		return 0;
	}
	if (sha256_eq(&frame->hash, &none))
		j->err = ctx_fail(&j->ctx, E_NOT_FOUND, "The server has no such version of \"%.*s\" any more; it is looked at again.",
		                  STR_ARG(j->path));
	else
		j->err = stage_one(f, j, &f->stages[i]);
	f->told[i] = true;
	buf_clear(&f->content);
	return j->err == E_NO_SPACE ? j->err : 0;
}

static void place_one(struct agent *a, struct job *j, struct root_stage *stage)
{
	j->err = a->root->ops->stage_place(stage, &j->ctx, j->path, j->op->has_local ? &j->stamp : NULL, &j->entry);
}

static void fetch_group(struct ctx *ctx, struct agent *a, struct fetching *f)
{
	const struct root_ops *ops = a->root->ops;
	int err = remote_fetch(ctx, a->remote, a->share, f->version_ids, f->n, on_frame, f);
	struct job *untold[GROUP_FILES];
	size_t n_untold = 0;
	for (size_t i = 0; err && i < f->n; i++)
		if (!f->told[i])
			untold[n_untold++] = f->jobs[i];
	if (err)
		fail_jobs(ctx, a, untold, n_untold, err);
	/* Whatever came whole is used, also when the rest did not come. */
	err = ops->settle(a->root, ctx);
	for (size_t i = 0; i < f->n; i++) {
		if (!f->stages[i])
			continue;
		if (err)
			ops->stage_abort(f->stages[i]);
		else
			place_one(a, f->jobs[i], f->stages[i]);
	}
	if (!err)
		err = ops->settle(a->root, ctx);
	a->unsynced = a->unsynced && err;
	if (err)
		fail_jobs(ctx, a, f->jobs, f->n, err);
}

static void fetch_all(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	struct fetching *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->agent = a;
	for (size_t i = 0; i < n;) {
		int64_t bytes = 0;
		f->n = 0;
		buf_clear(&f->content);
		memset(f->stages, 0, sizeof f->stages);
		memset(f->told, 0, sizeof f->told);
		for (; i < n && f->n < GROUP_FILES && bytes < FETCH_BYTES; i++) {
			if (!jobs[i].bulk || jobs[i].err || jobs[i].op->verb != PLAN_FETCH)
				continue;
			f->version_ids[f->n] = jobs[i].op->remote.version_id;
			f->jobs[f->n++] = &jobs[i];
			bytes += jobs[i].op->remote.size_bytes;
		}
		if (f->n)
			fetch_group(ctx, a, f);
	}
	buf_fini(&f->content);
	free(f);
}

void act_bulk(struct ctx *ctx, struct agent *a, struct job *jobs, size_t n)
{
	size_t sends = 0, fetches = 0;
	for (size_t i = 0; i < n; i++) {
		bool mine = jobs[i].bulk && !jobs[i].err;
		fetches += mine && jobs[i].op->verb == PLAN_FETCH;
		sends += mine && jobs[i].op->verb != PLAN_FETCH;
	}
	if (sends && !a->has_gear) {
		int err = remote_chunking(ctx, a->remote, a->share, &a->gear);
		a->has_gear = !err;
		struct job **waiting = arena_many(ctx->arena, n, struct job *);
		size_t n_waiting = 0;
		for (size_t i = 0; err && i < n; i++)
			if (jobs[i].bulk && jobs[i].op->verb != PLAN_FETCH)
				waiting[n_waiting++] = &jobs[i];
		if (err)
			fail_jobs(ctx, a, waiting, n_waiting, err);
	}
	if (sends && a->has_gear)
		send_all(ctx, a, jobs, n);
	if (fetches)
		fetch_all(ctx, a, jobs, n);
}
