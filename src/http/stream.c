/* Bodies that pass through slab by slab. The network thread and one job at a time share two slabs under the flight's
 * lock: in, the network fills and the job feeds the sink; out, the job fills from the source and the network sends. Who
 * finds the other behind waits: the network by suspending its connection, the job by ending (it is submitted again).
 * So no worker ever waits for a socket, and a slow disk stops the client by backpressure. */
#include <sys/socket.h>

#include "base/must.h"
#include "http/server_priv.h"

/* ---- in ---- */

static void finish_stream(struct flight *f)
{
	if (!f->x->finished)
		exchange_end(f->x);
	else
		f->close_after = f->received > SMALL_BODY;
	flight_answer(f);
}

static void feed_one(struct flight *f, struct slab *slab)
{
	if (!f->x->finished && !f->x->sink)
		exchange_open(f->x); /* small bodies come here unopened */
	if (!f->x->finished)
		exchange_feed(f->x, slab->p, slab->n);
}

/* The body is complete and the sink is ready; takes over the caller's reference. */
static void end_job(void *arg)
{
	struct flight *f = arg;
	finish_stream(f);
	flight_unref(f);
}

static void end_wake(void *arg)
{
	struct flight *f = arg;
	if (lane_continue(f->server->config.bulk, end_job, f) == E_OK)
		return;
	exchange_fail(f->x, E_SHUTDOWN);
	end_job(f);
}

static void feed_job(void *arg)
{
	struct flight *f = arg;
	pthread_mutex_lock(&f->lock);
	while (f->slab[f->reader].full) {
		struct slab *slab = &f->slab[f->reader];
		pthread_mutex_unlock(&f->lock);
		feed_one(f, slab);
		pthread_mutex_lock(&f->lock);
		f->failed = f->x->finished;
		slab->full = false;
		slab->n = 0;
		f->reader ^= 1;
		if (f->waiting && !f->ended) {
			f->waiting = false;
			flight_resume(f);
		}
	}
	f->working = false;
	bool ended = f->ended;
	if (ended)
		f->waiting = false;
	pthread_mutex_unlock(&f->lock);
	if (ended) {
		struct exchange *x = f->x;
		if (!x->finished && !x->sink)
			exchange_open(x);
		if (x->finished || !x->sink->ready || x->sink->ready(x->sink, end_wake, f))
			end_job(f);
		return;
	}
	flight_unref(f);
}

/* With the lock held, or without when nobody else is at f: the job wants it at once. False: the lane refused. */
static bool start_feed(struct flight *f)
{
	if (f->working)
		return true;
	f->working = true;
	flight_ref(f);
	struct lane *lane = f->server->config.bulk;
	bool first = !f->x->sink && !f->failed; /* opened ones were admitted before */
	if ((first ? lane_submit : lane_continue)(lane, feed_job, f) == E_OK)
		return true;
	f->working = false;
	atomic_fetch_sub(&f->refs, 1); /* never the last */
	return false;
}

/* Straight into the sink's memory, if it has any and no job is at it: the first one comes when that memory is full. */
static size_t into_sink(struct body_sink *sink, const char *data, size_t n)
{
	size_t room = 0;
	void *to = sink && sink->room ? sink->room(sink, &room) : NULL;
	size_t take = room < n ? room : n;
	if (take) {
		memcpy(to, data, take);
		sink->took(sink, take);
	}
	return take;
}

/* No job runs before a small body is whole, so until then the arena is this thread's. */
static void slab_in(struct flight *f, struct slab *slab)
{
	int64_t length = f->x->content_length;
	if (length < 0 || length > SLAB_TINY)
		slab_get(f->server, slab, length >= 0 ? length : SLAB);
	else
		*slab = (struct slab){.p = arena_alloc(&f->x->arena, (size_t)length), .cap = (size_t)length, .in_arena = true};
}

enum MHD_Result stream_receive(struct flight *f, const char *data, size_t *n)
{
	struct exchange *x = f->x;
	pthread_mutex_lock(&f->lock);
	if (!f->working && !f->failed && !x->finished) {
		size_t took = into_sink(x->sink, data, *n);
		data += took;
		*n -= took;
	}
	while (*n && !f->failed) {
		struct slab *slab = &f->slab[f->writer];
		if (slab->full) {
			/* the job may resume us, and clear the flag, as soon as the lock is free */
			bool suspended = f->waiting = flight_suspend(f);
			pthread_mutex_unlock(&f->lock);
			return suspended ? MHD_YES : MHD_NO;
		}
		if (!slab->p)
			slab_in(f, slab);
		size_t take = slab->cap - slab->n < *n ? slab->cap - slab->n : *n;
		if (x->body_max && (uint64_t)f->received + take > x->body_max) {
			pthread_mutex_unlock(&f->lock);
			return MHD_NO;
		}
		memcpy(slab->p + slab->n, data, take);
		slab->n += take;
		data += take;
		*n -= take;
		if (slab->n < slab->cap || (x->content_length >= 0 && x->content_length <= SMALL_BODY))
			continue;
		slab->full = true;
		f->writer ^= 1;
		if (!start_feed(f)) {
			pthread_mutex_unlock(&f->lock);
			return MHD_NO;
		}
	}
	bool failed = f->failed;
	pthread_mutex_unlock(&f->lock);
	if (failed) { /* the reply is made: read on for a while, so that the client sees it */
		if (f->received > DRAIN_MAX && (x->content_length < 0 || x->content_length > 2 * (int64_t)DRAIN_MAX))
			return MHD_NO;
		*n = 0;
	}
	return MHD_YES;
}

enum MHD_Result stream_ended(struct flight *f)
{
	f->state = FLIGHT_RUNNING;
	if (!flight_suspend(f))
		return MHD_NO;
	stream_complete(f);
	return MHD_YES;
}

void stream_complete(struct flight *f)
{
	pthread_mutex_lock(&f->lock);
	struct slab *slab = &f->slab[f->writer];
	if (slab->n && !slab->full)
		slab->full = true;
	f->ended = f->waiting = true;
	bool working = f->working; /* then that job sees the end */
	pthread_mutex_unlock(&f->lock);
	if (working || start_feed(f))
		return;
	f->waiting = false;
	if (!f->x->finished)
		exchange_fail(f->x, E_BUSY);
	flight_answer(f);
}

/* ---- out ---- */

/* With the lock held: is there a slab to fill? */
static bool can_fill(const struct flight *f)
{
	return !f->slab[f->writer].full && !f->eof && !f->failed && !f->detached;
}

bool stream_fill(struct flight *f, struct slab *slab, bool *eof)
{
	struct body_source *src = f->x->reply.source;
	int64_t left = src->length >= 0 ? src->length - f->fill_at : SLAB;
	if (!slab->p && left > 0)
		slab_get(f->server, slab, left);
	slab->n = slab->at = 0;
	*eof = left <= 0;
	while (!*eof && slab->n * 2 < slab->cap) { /* not to the brim: content comes cheapest in whole chunks */
		size_t got = 0, want = slab->cap - slab->n;
		if ((int64_t)want > left)
			want = (size_t)left;
		if (src->fill(src, f->fill_at, slab->p + slab->n, want, &got))
			return false;
		must(got <= want);
		slab->n += got;
		f->fill_at += (int64_t)got;
		if (src->length >= 0) {
			left -= (int64_t)got;
			if (got == 0 && left > 0)
				return false; /* shorter than promised */
			*eof = left == 0;
		} else {
			*eof = got == 0;
		}
	}
	return true;
}

/* Returns with the lock. What came before a failure is sent. */
static void fill_one(struct flight *f, struct slab *slab)
{
	bool eof = false;
	bool filled = stream_fill(f, slab, &eof);
	pthread_mutex_lock(&f->lock);
	f->failed = !filled;
	f->eof = eof;
	if (slab->n) {
		slab->full = true;
		f->writer ^= 1;
	}
}

static void fill_job(void *arg)
{
	struct flight *f = arg;
	pthread_mutex_lock(&f->lock);
	while (can_fill(f)) {
		pthread_mutex_unlock(&f->lock);
		fill_one(f, &f->slab[f->writer]); /* only this job moves writer; returns with the lock */
		if (f->waiting) {
			f->waiting = false;
			flight_resume(f);
		}
	}
	f->working = false;
	pthread_mutex_unlock(&f->lock);
	flight_unref(f);
}

/* With the lock held. */
static bool start_fill(struct flight *f)
{
	if (f->working || !can_fill(f))
		return true;
	f->working = true;
	flight_ref(f);
	if (lane_continue(f->server->config.bulk, fill_job, f) == E_OK)
		return true;
	f->working = false;
	atomic_fetch_sub(&f->refs, 1); /* never the last */
	return false;
}

static ssize_t read_locked(struct flight *f, char *out, size_t max)
{
	struct slab *slab = &f->slab[f->reader];
	if (slab->full) {
		size_t n = slab->n - slab->at < max ? slab->n - slab->at : max;
		memcpy(out, slab->p + slab->at, n);
		slab->at += n;
		f->sent += (int64_t)n;
		if (slab->at == slab->n) {
			slab->full = false;
			f->reader ^= 1;
			if (!start_fill(f))
				f->failed = true;
		}
		return (ssize_t)n;
	}
	if (f->failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (f->eof)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (!start_fill(f) || !flight_suspend(f))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	f->waiting = true;
	return 0;
}

/* With MHD_USE_TURBO a broken answer's connection stays open until the peer says something or its time is over: the peer would
 * wait as long for bytes that do not come. */
static void hang_up(struct MHD_Connection *con)
{
	shutdown(MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd, SHUT_RDWR);
}

static ssize_t on_read(void *cls, uint64_t position, char *out, size_t max)
{
	struct flight *f = cls;
	pthread_mutex_lock(&f->lock);
	must((int64_t)position == f->sent);
	ssize_t n = read_locked(f, out, max);
	pthread_mutex_unlock(&f->lock);
	if (n == MHD_CONTENT_READER_END_WITH_ERROR)
		hang_up(f->con);
	return n;
}

static void on_response_free(void *cls)
{
	struct flight *f = cls;
	pthread_mutex_lock(&f->lock);
	f->detached = true;
	pthread_mutex_unlock(&f->lock);
	flight_unref(f);
}

struct MHD_Response *stream_response(struct flight *f)
{
	/* an upload's slabs are empty by now and serve again */
	f->reader = f->writer = 0;
	f->failed = f->ended = false;
	slab_put(f->server, &f->slab[0]);
	slab_put(f->server, &f->slab[1]);
	int64_t length = f->x->reply.source->length;
	flight_ref(f);
	return MHD_create_response_from_callback(length >= 0 ? (uint64_t)length : MHD_SIZE_UNKNOWN, slab_size(f->server), on_read, f,
	                                         on_response_free);
}
