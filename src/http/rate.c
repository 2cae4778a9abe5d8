#include "http/rate.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/map.h"
#include "base/must.h"
#include "base/time.h"

enum { WAYS = 8 };
static const size_t sets_of[RATE_DIMENSIONS] = {2048, 1024, 128}; /* powers of two */

struct window {
	uint64_t key;
	int64_t turn;         /* which minute `now` is of */
	uint32_t now, before; /* units, RATE_UNITS_MAX at most; both 0: free */
	bool told;            /* a refusal, within this minute */
};

struct rates {
	/* One for all: it is held for some tens of nanoseconds, and so all three are charged or none. */
	pthread_mutex_t lock;
	struct rate_limits limits;
	int64_t window_us;
	struct window *tables[RATE_DIMENSIONS]; /* NULL: no limit */
};

const char *rate_dimension_name(enum rate_dimension d)
{
	static const char *const names[RATE_DIMENSIONS] = {"token", "user", "tenant"};
	return names[d];
}

struct rates *rates_new(const struct rate_limits *limits)
{
	bool any = false;
	for (int d = 0; d < RATE_DIMENSIONS; d++) {
		must(limits->units[d] >= 0 && limits->units[d] <= RATE_UNITS_MAX);
		any |= limits->units[d] > 0;
	}
	if (!any)
		return NULL;
	must(limits->window_s > 0 && limits->window_s <= RATE_WINDOW_MAX_S);
	struct rates *r = calloc(1, sizeof *r);
	must(r != NULL);
	r->limits = *limits;
	r->window_us = SECONDS_US(limits->window_s);
	pthread_mutexattr_t attr; /* a short spin is cheaper than sleeping */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(&r->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	for (int d = 0; d < RATE_DIMENSIONS; d++) {
		r->tables[d] = limits->units[d] ? calloc(sets_of[d] * WAYS, sizeof(struct window)) : NULL;
		must(r->tables[d] || !limits->units[d]);
	}
	return r;
}

void rates_free(struct rates *r)
{
	if (!r)
		return;
	for (int d = 0; d < RATE_DIMENSIONS; d++)
		free(r->tables[d]);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void turn_to(struct window *w, int64_t turn)
{
	if (turn <= w->turn)
		return;
	w->before = turn == w->turn + 1 ? w->now : 0;
	w->now = 0;
	w->told = false;
	w->turn = turn;
}

/* A window that is not in the table yet, and the one whose place it would take. */
struct newcomer {
	struct window window;
	struct window *place; /* NULL: it is none */
};

/* The window of that key. A new one is put into the table once it counts something: who is refused displaces nobody. */
static struct window *find(struct rates *r, int d, uint64_t key, int64_t turn, struct newcomer *new)
{
	struct window *set = r->tables[d] + (map_key(&key, sizeof key) & (sets_of[d] - 1)) * WAYS, *least = set;
	*new = (struct newcomer){0};
	for (int i = 0; i < WAYS; i++) {
		struct window *w = &set[i];
		turn_to(w, turn);
		if (w->key == key && w->now + w->before)
			return w;
		if (w->now + w->before < least->now + least->before)
			least = w;
	}
	*new = (struct newcomer){{.key = key, .turn = turn}, least};
	return &new->window;
}

/* How far a window is into its minute; one whose minute is still to come, by a clock that went back, stands at its beginning. */
static int64_t elapsed(const struct rates *r, const struct window *w, int64_t now_us)
{
	int64_t begin = w->turn * r->window_us;
	return now_us > begin ? now_us - begin : 0;
}

/* Rounded up. No product here exceeds RATE_UNITS_MAX times RATE_WINDOW_MAX_S in microseconds, 2^62. */
static int64_t used(const struct rates *r, const struct window *w, int64_t now_us)
{
	return w->now + (w->before * (r->window_us - elapsed(r, w, now_us)) + r->window_us - 1) / r->window_us;
}

/* The first moment of a minute at which no more than `room` counts of the `before` units of the one before it. */
static int64_t decayed(const struct rates *r, int64_t before, int64_t room)
{
	return before <= room ? 0 : r->window_us - room * r->window_us / before;
}

static int64_t wait_for(const struct rates *r, const struct window *w, int64_t limit, int64_t units, int64_t now_us)
{
	int64_t room = limit - units - w->now, at = elapsed(r, w, now_us);
	if (room < 0) /* not within this minute */
		return r->window_us - at + decayed(r, w->now, limit - units);
	int64_t end = decayed(r, w->before, room);
	return end > at ? end - at : 0;
}

static int64_t reset(const struct rates *r, const struct window *w, int64_t now_us)
{
	int64_t rest = r->window_us - elapsed(r, w, now_us);
	return w->now ? rest + r->window_us : w->before ? rest : 0;
}

static void add(struct window *w, int64_t units)
{
	w->now = units < RATE_UNITS_MAX - (int64_t)w->now ? w->now + (uint32_t)units : RATE_UNITS_MAX;
}

void rate_charge(struct rates *r, const uint64_t keys[RATE_DIMENSIONS], int64_t units, enum rate_kind kind, int64_t now_us,
                 struct rate_verdict *out)
{
	must(units >= 0);
	if (now_us < 0)
		now_us = 0;
	struct window *windows[RATE_DIMENSIONS] = {0};
	struct newcomer new[RATE_DIMENSIONS];
	int64_t counted[RATE_DIMENSIONS], worst = -1;
	*out = (struct rate_verdict){0};
	pthread_mutex_lock(&r->lock);
	for (int d = 0; d < RATE_DIMENSIONS; d++) {
		int64_t limit = r->limits.units[d];
		if (!limit)
			continue;
		struct window *w = windows[d] = find(r, d, keys[d], now_us / r->window_us, &new[d]);
		counted[d] = kind == RATE_ASKED && units > limit ? limit : units;
		int64_t needed = kind == RATE_ASKED ? counted[d] : 0;
		if (used(r, w, now_us) + needed <= limit)
			continue;
		int64_t wait = wait_for(r, w, limit, needed, now_us);
		if (wait > worst) {
			worst = wait;
			*out = (struct rate_verdict){.refused = true, .dimension = (enum rate_dimension)d, .limit = limit, .wait_us = wait};
		}
	}
	for (int d = 0; d < RATE_DIMENSIONS && !out->refused; d++) {
		if (!windows[d])
			continue;
		add(windows[d], counted[d]);
		if (new[d].place && counted[d])
			*new[d].place = new[d].window;
	}
	int64_t least = INT64_MAX;
	for (int d = 0; d < RATE_DIMENSIONS && !out->refused; d++) {
		int64_t limit = r->limits.units[d], left = windows[d] ? limit - used(r, windows[d], now_us) : least;
		if (left < least) {
			least = left;
			out->dimension = (enum rate_dimension)d;
			out->limit = limit;
		}
	}
	struct window *w = windows[out->dimension];
	int64_t left = out->limit - used(r, w, now_us);
	out->left = left > 0 ? left : 0;
	out->reset_us = reset(r, w, now_us);
	out->first = out->refused && !w->told;
	w->told |= out->refused;
	pthread_mutex_unlock(&r->lock);
}
