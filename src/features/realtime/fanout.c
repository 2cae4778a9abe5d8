#include "features/realtime/fanout_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"

/* Every tenant with sockets is looked at this often, whatever was heard: all wakes are hints. */
enum { POLL_US = 1000000, EVENTS_MAX = 1024 };

struct fanout {
	struct drive *drive;
	struct hub *hub;
	bool threaded;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;                               /* under lock, like what follows */
	struct map woken;                        /* tenant id -> any */
	struct access_event events[EVENTS_MAX];
	size_t n_events;
	bool events_lost;

	struct map follows; /* tenant id -> struct follow; the thread's own, like what follows */
	int64_t poll_at_us;
	struct arena arena;
	struct access_event taken[EVENTS_MAX];
};

/* ---- hearing ---- */

static void hear(void *arg, int64_t tenant_id)
{
	struct fanout *f = arg;
	/* Nobody listens, as on many a server that is being filled: then nobody is woken. Who joins meanwhile joined before
	 * reading where the log ends (listener_open), so that is behind what we were told of. */
	if (!hub_count(f->hub))
		return;
	pthread_mutex_lock(&f->lock);
	bool first = !f->woken.count; /* else the thread was woken and has not come yet */
	map_put(&f->woken, (uint64_t)tenant_id, f);
	pthread_mutex_unlock(&f->lock);
	if (first)
		pthread_cond_signal(&f->wake);
}

static void hear_access(void *arg, int64_t tenant_id, int64_t share_id, struct rid who)
{
	struct fanout *f = arg;
	pthread_mutex_lock(&f->lock);
	if (f->n_events < EVENTS_MAX)
		f->events[f->n_events++] = (struct access_event){tenant_id, share_id, who};
	else
		f->events_lost = true;
	map_put(&f->woken, (uint64_t)tenant_id, f);
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

/* ---- one round ---- */

struct gather {
	struct arena *arena;
	struct ear *ears;
	size_t n, cap;
	struct map *tenants; /* instead of ears */
	int64_t now_us;
};

static void gather_ear(struct socket_session *s, void *arg)
{
	struct gather *g = arg;
	if (g->n == g->cap) {
		size_t cap = g->cap ? 2 * g->cap : 64;
		struct ear *more = arena_many(g->arena, cap, struct ear);
		if (g->n)
			memcpy(more, g->ears, g->n * sizeof *more);
		g->ears = more;
		g->cap = cap;
	}
	g->ears[g->n++] = (struct ear){socket_ref(s), listener_ref(listener_of(s))};
}

/* Once a second, each socket: its tenant is looked at, and an outlived token ends it. */
static void gather_tenant(struct socket_session *s, void *arg)
{
	struct gather *g = arg;
	const struct principal *who = &listener_of(s)->who;
	map_put(g->tenants, (uint64_t)socket_tenant(s), g);
	if (who->expires_at_us && who->expires_at_us <= g->now_us)
		socket_close(s, 4401);
}

static struct follow *follow_of(struct fanout *f, int64_t tenant_id)
{
	struct follow *w = map_get(&f->follows, (uint64_t)tenant_id);
	if (w)
		return w;
	w = calloc(1, sizeof *w);
	must(w != NULL);
	w->tenant_id = tenant_id;
	w->due_us = INT64_MAX;
	w->preferences_us = clock_now(f->drive->clock) - POLL_US;
	map_put(&f->follows, (uint64_t)tenant_id, w);
	return w;
}

static void tenant_round(struct fanout *f, int64_t tenant_id, bool woken, size_t n_events)
{
	struct gather g = {.arena = &f->arena};
	hub_each(f->hub, tenant_id, gather_ear, &g);
	if (!g.n) {
		struct follow *w = map_del(&f->follows, (uint64_t)tenant_id);
		if (w)
			follow_free(w);
	} else {
		struct telling w = {
		    .drive = f->drive,
		    .arena = &f->arena,
		    .follow = follow_of(f, tenant_id),
		    .ears = g.ears,
		    .n_ears = g.n,
		    .events = f->taken,
		    .n_events = n_events,
		    .woken = woken,
		};
		tell(&w);
	}
	for (size_t i = 0; i < g.n; i++) {
		listener_unref(g.ears[i].listener);
		socket_unref(g.ears[i].socket);
	}
	arena_reset(&f->arena);
}

/* What was heard since the last round. */
static size_t take(struct fanout *f, struct map *woken)
{
	pthread_mutex_lock(&f->lock);
	*woken = f->woken;
	f->woken = (struct map){0};
	size_t n = f->n_events;
	memcpy(f->taken, f->events, n * sizeof *f->taken);
	if (f->events_lost) { /* too many to name: everyone's access, anywhere */
		f->taken[0] = (struct access_event){0};
		n = 1;
	}
	f->n_events = 0;
	f->events_lost = false;
	pthread_mutex_unlock(&f->lock);
	return n;
}

int64_t fanout_step(struct fanout *f)
{
	struct map woken, due = {0};
	uint64_t id;
	void *value;
	size_t n_events = take(f, &woken);
	int64_t now = clock_mono(f->drive->clock);
	bool poll = now >= f->poll_at_us;
	if (poll) {
		struct gather g = {.tenants = &due, .now_us = clock_now(f->drive->clock)};
		hub_each(f->hub, 0, gather_tenant, &g);
		f->poll_at_us = now + POLL_US;
	}
	for (size_t i = 0; map_next(&f->follows, &i, &id, &value);)
		if (poll || ((struct follow *)value)->due_us <= now) /* poll: its sockets may be gone */
			map_put(&due, id, f);
	for (size_t i = 0; map_next(&woken, &i, &id, &value);)
		tenant_round(f, (int64_t)id, true, n_events);
	for (size_t i = 0; map_next(&due, &i, &id, &value);)
		if (!map_get(&woken, id))
			tenant_round(f, (int64_t)id, false, n_events);
	int64_t next = f->poll_at_us;
	for (size_t i = 0; map_next(&f->follows, &i, &id, &value);)
		if (((struct follow *)value)->due_us < next)
			next = ((struct follow *)value)->due_us;
	map_fini(&woken);
	map_fini(&due);
	now = clock_mono(f->drive->clock);
	return next > now ? next - now : 0;
}

/* ---- thread ---- */

static void *thread_main(void *arg)
{
	struct fanout *f = arg;
	pthread_mutex_lock(&f->lock);
	while (!f->stop) {
		pthread_mutex_unlock(&f->lock);
		int64_t wait_us = fanout_step(f);
		int64_t at_us = clock_mono(f->drive->clock) + wait_us;
		struct timespec until = {.tv_sec = at_us / 1000000, .tv_nsec = at_us % 1000000 * 1000};
		pthread_mutex_lock(&f->lock);
		while (!f->stop && !f->woken.count)
			if (pthread_cond_timedwait(&f->wake, &f->lock, &until) == ETIMEDOUT)
				break;
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

struct fanout *fanout_new(struct drive *drive, struct hub *hub, bool threaded)
{
	struct fanout *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->drive = drive;
	f->hub = hub;
	arena_init(&f->arena);
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->wake, &attr);
	pthread_condattr_destroy(&attr);
	drive_listen(drive, hear, f);
	drive_listen_access(drive, hear_access, f);
	db_listen(drive->db, hear, f);
	if (threaded) {
		f->threaded = pthread_create(&f->thread, NULL, thread_main, f) == 0;
		if (!f->threaded)
			log_error("the fan-out thread cannot be started; sockets will stay silent");
	}
	return f;
}

void fanout_stop(struct fanout *f)
{
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	if (f->threaded)
		pthread_join(f->thread, NULL);
	f->threaded = false;
}

void fanout_free(struct fanout *f)
{
	uint64_t id;
	void *value;
	if (!f)
		return;
	fanout_stop(f);
	for (size_t i = 0; map_next(&f->follows, &i, &id, &value);)
		follow_free(value);
	map_fini(&f->follows);
	map_fini(&f->woken);
	arena_fini(&f->arena);
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static int64_t connections(void *arg)
{
	return (int64_t)hub_count(arg);
}

void realtime_metrics(struct metrics *m, struct hub *hub)
{
	metrics_gauge(m, "scaidrive_sync_websocket_connections", "Open WebSockets.", NULL, connections, hub);
}
