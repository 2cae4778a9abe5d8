#include "client/daemon.h"

#include <poll.h>

#include "client/nudge.h"
#include "client/watch.h"

#define PULL_US SECONDS_US(60)
#define HEARTBEAT_US SECONDS_US(300)
#define BACKOFF_FIRST_US SECONDS_US(1)
#define BACKOFF_MOST_US SECONDS_US(300)
#define GATHER_US MILLIS_US(40)      /* after the last event ... */
#define GATHER_MOST_US MILLIS_US(500) /* ... but not for longer than this */
#define HELD_US SECONDS_US(3)        /* how soon an answer is noticed */
#define TICK_US MILLIS_US(500)       /* how soon a stop is noticed */

struct waiting {
	int64_t next_us; /* when to try again */
	int64_t pause_us;
};

struct loop {
	struct daemon *d;
	struct ctx *ctx;
	struct watch *watch;
	struct nudge *nudge;
	int64_t pull_at, heartbeat_at, scan_at, first_event_at;
	struct waiting server, socket;
	bool socket_noticed;
};

static int64_t now(const struct loop *l)
{
	return clock_mono(l->ctx->clock);
}

int64_t daemon_pause_us(struct rng *rng, int64_t *pause_us)
{
	*pause_us = *pause_us ? *pause_us * 2 : BACKOFF_FIRST_US;
	if (*pause_us > BACKOFF_MOST_US)
		*pause_us = BACKOFF_MOST_US;
	return *pause_us / 2 + (int64_t)rng_below(rng, (uint64_t)(*pause_us / 2) + 1);
}

static void back_off(struct loop *l, struct waiting *w)
{
	w->next_us = now(l) + daemon_pause_us(l->ctx->rng, &w->pause_us);
}

static void notice(struct loop *l, int err)
{
	if (l->d->on_notice)
		l->d->on_notice(l->d->arg, ctx_detail(l->ctx, err));
	ctx_clear(l->ctx);
}

static void update_watches(struct loop *l)
{
	bool added = false, before;
	if (!l->watch)
		return;
	before = watch_degraded(l->watch);
	int err = watch_update(l->ctx, l->watch, &l->d->agent->replica->trees[REPLICA_LOCAL], &added);
	if (err && !before)
		notice(l, err);
	ctx_clear(l->ctx);
	if (added) { /* nobody watched there since the last scan */
		l->d->agent->scan_wanted = true;
		l->scan_at = now(l);
	}
}

static int settle(struct loop *l)
{
	struct agent_round round;
	struct agent *a = l->d->agent;
	l->scan_at = l->first_event_at = 0;
	if (!l->watch || watch_degraded(l->watch))
		a->scan_wanted = true;
	int err = agent_settle(l->ctx, a, &round);
	if (l->d->on_settled)
		l->d->on_settled(l->d->arg, l->ctx, err, &round);
	ctx_clear(l->ctx);
	l->pull_at = now(l) + PULL_US;
	if (!err) {
		l->server = (struct waiting){0};
		if (!round.in_step) /* something refuses to go through; not at full speed */
			l->pull_at = now(l) + PULL_US / 4;
		update_watches(l);
		return 0;
	}
	if (err == E_CANCELLED)
		return err;
	if (err == E_PRECONDITION) { /* until a person agrees, or puts things back */
		l->pull_at = now(l) + HELD_US;
		return 0;
	}
	a->scan_wanted = true;
	back_off(l, &l->server);
	l->pull_at = l->server.next_us;
	return 0;
}

static void heartbeat(struct loop *l)
{
	l->heartbeat_at = now(l) + HEARTBEAT_US;
	if (remote_heartbeat(l->ctx, l->d->agent->remote) == 0)
		remote_advance(l->ctx, l->d->agent->remote, l->d->agent->share, l->d->agent->replica->cursor);
	if (l->nudge && nudge_ping(l->nudge)) {
		nudge_close(l->nudge);
		l->nudge = NULL;
	}
	ctx_clear(l->ctx);
}

static void connect_socket(struct loop *l)
{
	int err = nudge_open(l->ctx, l->d->agent->remote, &l->nudge);
	if (err) {
		back_off(l, &l->socket);
		if (!l->socket_noticed)
			notice(l, err);
		l->socket_noticed = true;
		ctx_clear(l->ctx);
		return;
	}
	l->socket = (struct waiting){0};
	l->socket_noticed = false;
	l->pull_at = now(l); /* what happened before it was open was not told */
}

static void hear_socket(struct loop *l)
{
	enum nudge_news news;
	int err = nudge_drain(l->ctx, l->nudge, l->d->agent->share, &news);
	if (err) {
		nudge_close(l->nudge);
		l->nudge = NULL;
		back_off(l, &l->socket);
		ctx_clear(l->ctx);
	}
	if (news == NUDGE_FORCE)
		l->d->agent->reread = true;
	if (news != NUDGE_NONE && !l->server.pause_us)
		l->pull_at = now(l);
}

static void hear_disk(struct loop *l)
{
	if (!watch_drain(l->watch))
		return;
	l->d->agent->scan_wanted = true;
	if (!l->first_event_at)
		l->first_event_at = now(l);
	l->scan_at = now(l) + GATHER_US;
	if (l->scan_at > l->first_event_at + GATHER_MOST_US)
		l->scan_at = l->first_event_at + GATHER_MOST_US;
}

static int64_t earliest(int64_t a, int64_t b)
{
	return b && b < a ? b : a;
}

static void wait_for_news(struct loop *l)
{
	struct pollfd fds[2];
	nfds_t n = 0;
	int64_t until = earliest(earliest(now(l) + TICK_US, l->pull_at), l->server.pause_us ? 0 : l->scan_at);
	int64_t ms = (until - now(l) + 999) / 1000;
	int watch_at = -1, nudge_at = -1;
	if (l->watch) {
		watch_at = (int)n;
		fds[n++] = (struct pollfd){.fd = watch_fd(l->watch), .events = POLLIN};
	}
	if (l->nudge) {
		nudge_at = (int)n;
		fds[n++] = (struct pollfd){.fd = nudge_fd(l->nudge), .events = POLLIN};
	}
	if (poll(fds, n, ms < 0 ? 0 : (int)ms) <= 0)
		return;
	if (watch_at >= 0 && fds[watch_at].revents)
		hear_disk(l);
	if (nudge_at >= 0 && fds[nudge_at].revents)
		hear_socket(l);
}

static bool due(const struct loop *l)
{
	int64_t t = now(l);
	return t >= l->pull_at || (!l->server.pause_us && l->scan_at && t >= l->scan_at);
}

int daemon_run(struct ctx *ctx, struct daemon *d)
{
	struct loop l = {.d = d, .ctx = ctx};
	int err = watch_open(ctx, d->root_path, &l.watch);
	if (err)
		notice(&l, err);
	err = 0;
	l.heartbeat_at = now(&l) + HEARTBEAT_US;
	while (!err && !d->stopping(d->arg)) {
		if (due(&l))
			err = settle(&l);
		if (err)
			break;
		if (now(&l) >= l.heartbeat_at)
			heartbeat(&l);
		if (!l.nudge && !l.server.pause_us && now(&l) >= l.socket.next_us)
			connect_socket(&l);
		wait_for_news(&l);
		arena_reset(ctx->arena);
	}
	nudge_close(l.nudge);
	watch_close(l.watch);
	return err == E_CANCELLED ? 0 : err;
}
