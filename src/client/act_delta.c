/* Large files that changed a little. The local file is cut as the server cuts; what is the same on both sides does not
 * travel. Up: the base version is the source, new chunks are sent, and steps (chunks/steps.h) tell how the version is put
 * together; the server hashes it. Down: chunks that the local file has are copied from it, the others are fetched; the
 * caller hashes what came out. Nothing here is trusted: whatever is wrong, the whole file goes (act_delta_gave_up). */
#include <stdlib.h>

#include "base/limits.h"
#include "base/map.h"
#include "base/must.h"
#include "chunks/steps.h"
#include "client/agent_priv.h"

enum {
	DELTA_BYTES = LIMIT_CHUNKS_INLINE * CHUNK_AVG_BYTES, /* smaller files go whole */
	LEAST_PART = 4,                                       /* at least a fourth must be had, else it is not worth it */
	WINDOW_BYTES = 1 << 20,
	GROUP_BYTES = 16 << 20, /* held in memory and sent together */
};

bool act_delta_takes(const struct plan_op *op)
{
	if (op->kind != NODE_FILE || !op->has_local || op->local.size_bytes < DELTA_BYTES)
		return false;
	if (op->verb == PLAN_FETCH)
		return op->remote.size_bytes >= DELTA_BYTES && op->remote.version_id && op->remote.version > 0;
	return op->verb == PLAN_SEND_VERSION && !op->restore && op->base_version_id && op->local.size_bytes <= LIMIT_ASSEMBLED_BYTES;
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

/* ---- the local file ---- */

struct pieces {
	struct remote_piece *p;
	size_t n, cap;
	struct map by_hash; /* first bytes of a hash -> the index + 1 of one with it */
};

static uint64_t short_key(const struct sha256 *hash)
{
	uint64_t key;
	memcpy(&key, hash->b, sizeof key);
	return key;
}

static void pieces_index(struct pieces *s)
{
	for (size_t i = s->n; i-- > 0;)
		map_put(&s->by_hash, short_key(&s->p[i].hash), (void *)(uintptr_t)(i + 1));
}

/* One with this hash, or NULL. */
static const struct remote_piece *pieces_find(const struct pieces *s, const struct sha256 *hash)
{
	size_t i = (size_t)(uintptr_t)map_get(&s->by_hash, short_key(hash));
	return i && sha256_eq(&s->p[i - 1].hash, hash) ? &s->p[i - 1] : NULL;
}

static void pieces_add(struct pieces *s, const struct sha256 *hash, int64_t offset, uint32_t length)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 256;
		s->p = realloc(s->p, s->cap * sizeof *s->p);
		must(s->p != NULL);
	}
	s->p[s->n++] = (struct remote_piece){*hash, offset, length};
}

/* Of an array in the arena the index alone is ours. */
static void pieces_fini(struct pieces *s)
{
	map_fini(&s->by_hash);
	if (s->cap)
		free(s->p);
}

static int cut_open(struct job *j, struct root_file *f, struct pieces *out)
{
	struct chunker c;
	struct sha256_state *sha = sha256_new();
	uint8_t *window = malloc(WINDOW_BYTES);
	size_t got = 1, length = 0;
	int64_t offset = 0;
	int err = 0;
	must(window != NULL);
	chunker_init(&c, &j->agent->gear);
	while (!err && got) {
		err = j->agent->root->ops->read(f, window, WINDOW_BYTES, &got);
		for (size_t at = 0; !err && (at < got || (!got && length));) {
			bool cut = !got;
			size_t k = got ? chunker_scan(&c, window + at, got - at, &cut) : 0;
			sha256_update(sha, window + at, k);
			at += k;
			length += k;
			if (!cut)
				continue;
			struct sha256 hash = sha256_final(sha);
			pieces_add(out, &hash, offset, (uint32_t)length);
			offset += (int64_t)length;
			length = 0;
			sha256_reset(sha);
		}
	}
	sha256_free(sha);
	free(window);
	return err;
}

static int changed(struct job *j)
{
	return ctx_fail(&j->ctx, E_CHANGED, "\"%.*s\" changed meanwhile; it is looked at again.", STR_ARG(j->path));
}

/* Opens the file that the plan saw, and cuts it. */
static int cut_local(struct job *j, struct root_file **f, struct pieces *out)
{
	const struct root_ops *ops = j->agent->root->ops;
	struct root_entry now;
	int err = ops->open(j->agent->root, &j->ctx, j->path, f, &now);
	if (err)
		return err;
	err = stamp_same(&now.stamp, &j->stamp) ? cut_open(j, *f, out) : changed(j);
	if (!err)
		err = ops->file_stat(*f, &now);
	if (!err && (!stamp_same_file(&now.stamp, &j->stamp) || now.stamp.ctime_ns != j->stamp.ctime_ns))
		err = changed(j);
	if (err)
		ops->close(*f);
	return err;
}

/* Is it worth it? want consists of what have has, in large part, and at most most_bytes are missing. */
static int worth(struct job *j, const struct pieces *want, const struct pieces *have, int64_t most_bytes)
{
	int64_t had = 0, all = 0;
	for (size_t i = 0; i < want->n; i++) {
		all += want->p[i].length;
		had += pieces_find(have, &want->p[i].hash) ? want->p[i].length : 0;
	}
	return had >= all / LEAST_PART && all - had <= most_bytes ? 0 : ctx_fail(&j->ctx, E_NOT_FOUND, "Too little of the file is as it was.");
}

/* ---- up ---- */

struct group {
	struct remote_chunk chunks[GROUP_BYTES / CHUNK_MIN_BYTES];
	bool wanted[GROUP_BYTES / CHUNK_MIN_BYTES];
	size_t n, n_bytes;
	uint8_t bytes[GROUP_BYTES];
};

static int group_send(struct job *j, struct group *g)
{
	struct agent *a = j->agent;
	int err = g->n ? remote_missing(&j->ctx, a->remote, a->share, g->chunks, g->n, NULL, 0, g->wanted) : 0;
	if (!err)
		err = remote_send_chunks(&j->ctx, a->remote, a->share, g->chunks, g->n, g->wanted);
	if (!err)
		a->bytes += (int64_t)g->n_bytes;
	g->n = g->n_bytes = 0;
	return err;
}

static int group_add(struct job *j, struct group *g, struct root_file *f, const struct remote_piece *p)
{
	int err = 0;
	if (g->n == sizeof g->wanted / sizeof *g->wanted || g->n_bytes + p->length > GROUP_BYTES)
		err = group_send(j, g);
	uint8_t *bytes = g->bytes + g->n_bytes;
	if (!err)
		err = j->agent->root->ops->read_at(f, p->offset, bytes, p->length);
	if (err)
		return err;
	struct sha256 hash = sha256_of(bytes, p->length);
	if (!sha256_eq(&hash, &p->hash))
		return changed(j);
	g->chunks[g->n++] = (struct remote_chunk){p->hash, bytes, p->length};
	g->n_bytes += p->length;
	return 0;
}

static int send_new(struct job *j, struct root_file *f, const struct pieces *local, const struct pieces *base)
{
	struct group *g = malloc(sizeof *g); /* touched as far as it is used */
	must(g != NULL);
	g->n = g->n_bytes = 0;
	int err = 0;
	for (size_t i = 0; !err && i < local->n; i++)
		if (!pieces_find(base, &local->p[i].hash))
			err = group_add(j, g, f, &local->p[i]);
	if (!err)
		err = group_send(j, g);
	free(g);
	return err;
}

/* Runs of the base as long as they go; what it does not have, by its hash. */
static void put_steps(struct buf *steps, const struct pieces *local, const struct pieces *base)
{
	for (size_t i = 0; i < local->n;) {
		const struct remote_piece *p = pieces_find(base, &local->p[i].hash);
		if (!p) {
			step_put_chunk(steps, &local->p[i].hash, local->p[i].length);
			i++;
			continue;
		}
		size_t first = (size_t)(p - base->p), n = 1;
		while (i + n < local->n && first + n < base->n && sha256_eq(&local->p[i + n].hash, &base->p[first + n].hash))
			n++;
		step_put_run(steps, 0, (uint32_t)first, (uint32_t)n);
		i += n;
	}
}

static int64_t base_number(const struct plan_op *op)
{
	return op->has_remote && op->remote.version_id == op->base_version_id   ? op->remote.version
	       : op->has_synced && op->synced.version_id == op->base_version_id ? op->synced.version
	                                                                        : 0;
}

int act_delta_send(struct job *j)
{
	const struct plan_op *op = j->op;
	struct pieces base = {0}, local = {0};
	struct root_file *f = NULL;
	struct buf steps = {0};
	int64_t number = base_number(op);
	if (number < 1)
		return ctx_fail(&j->ctx, E_NOT_FOUND, "The number of the base is not known.");
	int err = remote_recipe(&j->ctx, j->agent->remote, op->id, op->base_version_id, number, &base.p, &base.n);
	if (err)
		return err == E_CHANGED ? E_NOT_FOUND : err;
	pieces_index(&base);
	err = cut_local(j, &f, &local);
	if (!err) {
		err = worth(j, &local, &base, LIMIT_LEASED_BYTES);
		if (!err)
			err = send_new(j, f, &local, &base);
		j->agent->root->ops->close(f);
	}
	if (!err) {
		put_steps(&steps, &local, &base);
		err = remote_put_steps(&j->ctx, j->agent->remote, &j->up, buf_as_str(&steps));
	}
	buf_fini(&steps);
	pieces_fini(&local);
	pieces_fini(&base);
	return err;
}

/* ---- down ---- */

struct joining {
	struct job *j;
	struct http_sink *sink;
	struct root_file *file;
	struct pieces local;
	struct pieces want; /* the new version */
	size_t at;          /* pieces of it that were written */
	uint8_t *window;
	struct sha256 *asked;
};

/* What the local file has, up to the next piece that it does not. */
static int copy_local(struct joining *d)
{
	int err = 0;
	while (!err && d->at < d->want.n) {
		const struct remote_piece *p = pieces_find(&d->local, &d->want.p[d->at].hash);
		if (!p)
			break;
		err = d->j->agent->root->ops->read_at(d->file, p->offset, d->window, p->length);
		if (!err)
			err = d->sink->write(d->sink, d->window, p->length);
		d->at++;
	}
	return err;
}

static int on_frame(void *arg, size_t i, const struct frame *frame)
{
	static const struct sha256 none;
	struct joining *d = arg;
	(void)i;
	if (!frame->length)
		return sha256_eq(&frame->hash, &none) ? E_NOT_FOUND : 0;
	int err = copy_local(d);
	if (err)
		return err;
	if (d->at == d->want.n || d->want.p[d->at].length != frame->length)
		return E_UPSTREAM;
	d->at++;
	return d->sink->write(d->sink, frame->bytes, frame->length);
}

static int join(struct joining *d)
{
	struct job *j = d->j;
	int err = 0;
	for (size_t i = 0, n = 0; !err && i < d->want.n; i++) {
		if (!pieces_find(&d->local, &d->want.p[i].hash))
			d->asked[n++] = d->want.p[i].hash;
		if (n && (n == LIMIT_CHUNKS_REQUEST || i + 1 == d->want.n)) {
			err = remote_fetch_chunks(&j->ctx, j->agent->remote, j->agent->share, j->op->remote.version_id, d->asked, n,
			                          on_frame, d);
			n = 0;
		}
	}
	return err ? err : copy_local(d);
}

int act_delta_fetch(struct job *j, struct act_stage *to)
{
	const struct plan_op *op = j->op;
	struct joining d = {.j = j, .sink = &to->face};
	int err = remote_recipe(&j->ctx, j->agent->remote, op->id, op->remote.version_id, op->remote.version, &d.want.p, &d.want.n);
	if (err)
		return err == E_CHANGED ? E_NOT_FOUND : err;
	err = cut_local(j, &d.file, &d.local);
	if (!err) {
		pieces_index(&d.local);
		err = worth(j, &d.want, &d.local, INT64_MAX);
		d.window = arena_alloc(&j->arena, CHUNK_MAX_BYTES);
		d.asked = arena_many(&j->arena, d.want.n < LIMIT_CHUNKS_REQUEST ? d.want.n : LIMIT_CHUNKS_REQUEST, struct sha256);
		if (!err)
			err = join(&d);
		j->agent->root->ops->close(d.file);
	}
	pieces_fini(&d.local);
	return err;
}
