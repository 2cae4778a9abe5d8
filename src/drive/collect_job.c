/* The job: a collection that goes on from round to round, and what is known of it. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/must.h"
#include "drive/collect_priv.h"

enum { WORK_US = 10000, BYTES_A_SECOND = 64 << 20 };

struct collector {
	struct collection *now; /* NULL: none is under way */
	/* of the round */
	struct job_round *round;
	int64_t worked_from_us, bytes; /* since the last pause */
	/* for whoever asks */
	pthread_mutex_t lock;
	struct collect_stats stats;
};

static struct collector *collector_of(struct drive *d)
{
	if (!d->collector) {
		d->collector = calloc(1, sizeof *d->collector);
		must(d->collector);
		pthread_mutex_init(&d->collector->lock, NULL);
	}
	return d->collector;
}

void collect_close(struct drive *d)
{
	if (!d->collector)
		return;
	collection_free(d->collector->now);
	pthread_mutex_destroy(&d->collector->lock);
	free(d->collector);
	d->collector = NULL;
}

/* ---- pace ---- */

static void pause_us(int64_t us)
{
	struct timespec left = {us / 1000000, us % 1000000 * 1000};
	while (us > 0 && clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
		;
}

/* Rests as long as it worked, and reads and writes no more than so many bytes a second. */
static void keep_pace(struct collector *x, int64_t bytes)
{
	int64_t now = clock_mono(&clock_system), worked = now - x->worked_from_us;
	x->bytes += bytes;
	if (worked < WORK_US && x->bytes < BYTES_A_SECOND / 100)
		return;
	int64_t rest = worked, least = x->bytes * 1000000 / BYTES_A_SECOND - worked;
	if (!x->round->by_hand)
		pause_us(rest > least ? rest : least);
	x->worked_from_us = clock_mono(&clock_system);
	x->bytes = 0;
}

static bool go_on(void *arg, int64_t bytes)
{
	struct collector *x = arg;
	keep_pace(x, bytes);
	pthread_mutex_lock(&x->lock);
	x->stats.phase = collection_progress(x->now, &x->stats.done, &x->stats.all);
	pthread_mutex_unlock(&x->lock);
	return job_go_on(x->round);
}

/* ---- rounds ---- */

static int64_t done_so_far(const struct collect_totals *t)
{
	return t->sweep.condemned + t->sweep.removed + t->packs.deleted + t->packs.moved;
}

static void sum_up(struct collector *x, const struct collect_totals *t)
{
	pthread_mutex_lock(&x->lock);
	x->stats.phase = COLLECT_IDLE;
	x->stats.last = *t;
	x->stats.swept.condemned += t->sweep.condemned;
	x->stats.swept.spared += t->sweep.spared;
	x->stats.swept.removed += t->sweep.removed;
	x->stats.swept.removed_bytes += t->sweep.removed_bytes;
	repack_count(&x->stats.packed, &t->packs);
	pthread_mutex_unlock(&x->lock);
}

static void tell(struct job_round *r, const char *what, int64_t n, int64_t bytes)
{
	char line[96];
	int len = snprintf(line, sizeof line, "%lld %s", (long long)n, what);
	if (r->tell && n)
		r->tell(r->tell_arg, str_n(line, (size_t)len), bytes);
}

static void tell_all(struct job_round *r, const struct collect_totals *t)
{
	tell(r, "chunks would be removed", t->sweep.removed, t->sweep.removed_bytes);
	tell(r, "chunks are unused, and condemned now or waiting since", t->sweep.garbage, t->sweep.garbage_bytes);
	tell(r, "packs without chunks would be retired", t->packs.retired, 0);
	tell(r, "packs would be deleted", t->packs.deleted, t->packs.deleted_bytes);
}

/* The state: the last collection that ended, on whichever node: when, and what it found. */
static void keep_last(struct job_round *r, const struct collect_totals *t)
{
	snprintf(r->state, sizeof r->state, "%lld %lld %lld %lld %lld %lld %lld", (long long)t->began_us, (long long)t->ended_us,
	         (long long)t->packs.file_bytes, (long long)t->packs.live_bytes, (long long)t->sweep.garbage_bytes,
	         (long long)t->packs.dead_bytes, (long long)t->packs.idle_bytes);
}

/* After a restart, or when another node was at it, it is news here. */
static void take_last(struct collector *x, const struct job_round *r)
{
	long long v[7];
	if (sscanf(r->state, "%lld %lld %lld %lld %lld %lld %lld", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]) != 7)
		return;
	pthread_mutex_lock(&x->lock);
	if (v[1] != x->stats.last.ended_us)
		x->stats.last = (struct collect_totals){
		    .began_us = v[0],
		    .ended_us = v[1],
		    .sweep = {.garbage_bytes = v[4]},
		    .packs = {.file_bytes = v[2], .live_bytes = v[3], .dead_bytes = v[5], .idle_bytes = v[6]},
		};
	pthread_mutex_unlock(&x->lock);
}

static bool is_time(const struct job_round *r)
{
	long long began = 0;
	if (sscanf(r->state, "%lld", &began) != 1 || r->by_hand)
		return true;
	return r->begin - began >= SECONDS_US(COLLECT_EVERY_S) || began > r->begin;
}

static int run_dry(struct job_round *r)
{
	struct collection_config config = {.drive = r->drive, .dry = true};
	struct collection *c = collection_new(&config);
	struct collect_totals t;
	bool done = false;
	int err = collection_go_on(c, &done);
	collection_totals(c, &t);
	collection_free(c);
	tell_all(r, &t);
	r->items = t.sweep.removed + t.sweep.condemned + t.packs.retired + t.packs.deleted;
	r->bytes = t.packs.deleted_bytes;
	return err;
}

static int run(struct job_round *r)
{
	struct collector *x = collector_of(r->drive);
	struct collect_totals before = {0}, t;
	bool done = false;
	if (r->dry)
		return run_dry(r);
	if (r->drive->store)
		store_forget_gone(r->drive->store);
	take_last(x, r);
	if (!x->now && !is_time(r))
		return 0;
	if (!x->now)
		x->now = collection_new(&(struct collection_config){.drive = r->drive, .go_on = go_on, .arg = x});
	else
		collection_totals(x->now, &before);
	x->round = r;
	x->worked_from_us = clock_mono(&clock_system);
	int err = collection_go_on(x->now, &done);
	collection_totals(x->now, &t);
	r->items = done_so_far(&t) - done_so_far(&before);
	r->bytes = t.packs.deleted_bytes - before.packs.deleted_bytes;
	r->more = !done;
	if (done) {
		keep_last(r, &t);
		sum_up(x, &t);
		collection_free(x->now);
		x->now = NULL;
	}
	return err;
}

void collect_stats(struct drive *d, struct collect_stats *out)
{
	struct collector *x = d->collector;
	*out = (struct collect_stats){0};
	if (!x)
		return;
	pthread_mutex_lock(&x->lock);
	*out = x->stats;
	pthread_mutex_unlock(&x->lock);
}

const struct job job_collect = {
    .name = "collect",
    .what = "Finds chunks that nothing refers to, removes those it found before, and rewrites packs that are mostly dead",
    .period_s = COLLECT_PERIOD_S,
    .round_s = COLLECT_ROUND_S,
    .by_age = true,
    .packs = true,
    .run = run,
};
