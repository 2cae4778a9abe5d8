/* From entries of the log to frames. All reading is done in one snapshot; then, outside it, frames are sent. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "drive/device.h"
#include "drive/preference.h"
#include "drive/tail.h"
#include "features/change_wire.h"
#include "features/realtime/fanout_priv.h"
#include "features/wire.h"
#include "http/validate.h"

/* A page is kept below a socket's queue while user interfaces listen, since they get a frame for each entry. */
enum { PAGE = 1000, PAGE_UI = LIMIT_WS_QUEUE_FRAMES / 2, PACE_UI_US = 20000, NOTICES = 256 };
/* A verdict is asked again after this long: memberships end by time, and other nodes change them too. */
enum { VERDICT_US = 5000000 };

/* A verdict and its moment (monotonic) in one word, never NULL. */
static void *verdict(bool yes, int64_t at_us)
{
	return (void *)(((uintptr_t)at_us << 2) | (yes ? 3 : 1));
}

static bool verdict_yes(const void *v)
{
	return ((uintptr_t)v & 2) != 0;
}

static bool verdict_fresh(const void *v, int64_t now_us)
{
	return v && now_us - (int64_t)((uintptr_t)v >> 2) <= VERDICT_US;
}

/* Something to tell of one share. */
struct told {
	int64_t share_id, seq;
	struct str frame;    /* for sync clients; STR_NULL: none */
	struct str ui_frame; /* for user interfaces; STR_NULL: none */
	bool held;           /* was due before; its entry was counted then */
};

struct resync {
	struct ear *ear;
	int64_t share_id;
};

struct tell_op {
	struct telling *w;
	int64_t now_us; /* monotonic */
	struct told *told;
	size_t n_told;
	struct resync *resyncs;
	size_t n_resyncs, cap_resyncs;
	struct preference_notice *notices;
	size_t n_notices;
	struct ear **gone; /* their device was removed */
	size_t n_gone;
	int64_t scanned;   /* positions up to here are done with */
	bool any_ui, more;
};

void follow_free(struct follow *f)
{
	uint64_t id;
	void *value;
	for (size_t i = 0; map_next(&f->bursts, &i, &id, &value);) {
		free(((struct burst *)value)->held);
		free(value);
	}
	map_fini(&f->bursts);
	free(f);
}

static bool is_open(const struct ear *e)
{
	return atomic_load(&e->listener->open);
}

/* ---- who may read ---- */

static void resync_add(struct tell_op *op, struct ear *e, int64_t share_id)
{
	if (op->n_resyncs == op->cap_resyncs) {
		size_t cap = op->cap_resyncs ? 2 * op->cap_resyncs : 64;
		struct resync *more = arena_many(op->w->arena, cap, struct resync);
		if (op->n_resyncs)
			memcpy(more, op->resyncs, op->n_resyncs * sizeof *more);
		op->resyncs = more;
		op->cap_resyncs = cap;
	}
	op->resyncs[op->n_resyncs++] = (struct resync){e, share_id};
}

/* Asks for the verdict unless it is known and fresh. *was gets the one before, or NULL. */
static int judge(struct dtx *t, struct tell_op *op, struct ear *e, int64_t share_id, bool afresh, void **was)
{
	struct listener *l = e->listener;
	bool yes;
	*was = map_get(&l->verdicts, (uint64_t)share_id);
	if (verdict_fresh(*was, op->now_us) && !afresh)
		return 0;
	int err = tail_readable(t, &l->who, share_id, &yes);
	if (!err)
		map_put(&l->verdicts, (uint64_t)share_id, verdict(yes, op->now_us));
	else /* never the old verdict on a fault */
		map_del(&l->verdicts, (uint64_t)share_id);
	return err;
}

static bool may_read(const struct ear *e, int64_t share_id)
{
	return verdict_yes(map_get(&e->listener->verdicts, (uint64_t)share_id));
}

static bool is_about(const struct access_event *event, const struct principal *who)
{
	if (!event->who.n || (event->who.kind == ID_USER && event->who.n == who->user_id))
		return true;
	for (size_t i = 0; event->who.kind == ID_GROUP && i < who->n_groups; i++)
		if (who->groups[i] == event->who.n)
			return true;
	return false;
}

/* A share is named to those alone who may read it, or could until now. */
static int take_event(struct dtx *t, struct tell_op *op, const struct access_event *event, struct ear *e)
{
	void *was;
	if (!is_open(e) || !is_about(event, &e->listener->who))
		return 0;
	if (!event->share_id) {
		map_fini(&e->listener->verdicts);
		resync_add(op, e, 0);
		return 0;
	}
	int err = judge(t, op, e, event->share_id, true, &was);
	if (!err && (event->who.n || verdict_yes(was) || may_read(e, event->share_id)))
		resync_add(op, e, event->share_id);
	return err;
}

static int take_events(struct dtx *t, struct tell_op *op)
{
	struct telling *w = op->w;
	int err = 0;
	for (size_t k = 0; !err && k < w->n_events; k++) {
		const struct access_event *event = &w->events[k];
		if (event->tenant_id && event->tenant_id != w->follow->tenant_id)
			continue;
		for (size_t i = 0; !err && i < w->n_ears; i++)
			err = take_event(t, op, event, &w->ears[i]);
	}
	return err;
}

/* Every verdict that the sending will need. An entry of the share itself may have changed who reads it. */
static int judge_all(struct dtx *t, struct tell_op *op, int64_t share_id, bool afresh)
{
	int err = 0;
	for (size_t i = 0; !err && i < op->w->n_ears; i++) {
		struct ear *e = &op->w->ears[i];
		void *was;
		if (!is_open(e))
			continue;
		err = judge(t, op, e, share_id, afresh, &was);
		if (!err && was && may_read(e, share_id) != verdict_yes(was))
			resync_add(op, e, share_id);
	}
	return err;
}

/* ---- frames ---- */

static struct str frame_keep(struct arena *a, struct buf *b)
{
	buf_char(b, '}');
	struct str s = arena_str(a, buf_as_str(b));
	buf_fini(b);
	return s;
}

static struct str sync_frame(struct arena *a, const struct change *c)
{
	struct buf b;
	struct Change wire;
	buf_init(&b);
	frame_begin(&b, "change", c->share_id);
	buf_lit(&b, ",\"data\":");
	wire_change(c, &wire);
	write_Change(&b, &wire);
	return frame_keep(a, &b);
}

static bool wants_ui(struct ear *e, int64_t share_id)
{
	struct listener *l = e->listener;
	if (l->kind != LISTENER_UI || !is_open(e) || !may_read(e, share_id))
		return false;
	pthread_mutex_lock(&l->lock);
	bool yes = map_get(&l->shares, (uint64_t)share_id) != NULL;
	pthread_mutex_unlock(&l->lock);
	return yes;
}

static void ui_data(struct buf *b, const struct node *n)
{
	buf_lit(b, ",\"data\":");
	if (n->kind == NODE_FILE) {
		struct File f;
		wire_file(n, &f);
		write_File(b, &f);
	} else {
		struct Folder f;
		wire_folder(n, &f);
		write_Folder(b, &f);
	}
}

/* file_created, file_updated, folder_created, folder_updated with the metadata as it is now; file_deleted and
 * folder_deleted with the id alone. A node that is gone by now gets none: its deletion is told by a later entry. */
static int ui_frame(struct dtx *t, const struct change *c, const struct principal *who, struct str *out)
{
	struct buf b;
	struct node n;
	char name[32];
	bool file = c->resource.kind == ID_FILE;
	const char *noun = file ? "file" : "folder";
	*out = STR_NULL;
	if (!file && c->resource.kind != ID_FOLDER)
		return 0;
	buf_init(&b);
	if (c->type == CHANGE_DELETED) {
		snprintf(name, sizeof name, "%s_deleted", noun);
		frame_begin(&b, name, c->share_id);
		buf_fmt(&b, ",\"data\":{\"%s_id\":", noun);
		put_rid(&b, c->resource);
		buf_char(&b, '}');
		*out = frame_keep(t->ctx->arena, &b);
		return 0;
	}
	tail_as(t, who);
	int err = node_load(t, c->resource.n, file ? NODE_FILE : NODE_FOLDER, RIGHT_READ, &n);
	tail_as(t, NULL);
	if (!err) {
		snprintf(name, sizeof name, "%s_%s", noun, c->type == CHANGE_CREATED ? "created" : "updated");
		frame_begin(&b, name, c->share_id);
		ui_data(&b, &n);
		*out = frame_keep(t->ctx->arena, &b);
		return 0;
	}
	buf_fini(&b);
	ctx_clear(t->ctx);
	return err == E_NOT_FOUND || err == E_GONE || err == E_FORBIDDEN ? 0 : err;
}

static int told_of(struct dtx *t, struct tell_op *op, const struct change *c)
{
	int err = judge_all(t, op, c->share_id, c->resource.kind == ID_SHARE);
	if (err)
		return err;
	struct told *told = &op->told[op->n_told++];
	*told = (struct told){.share_id = c->share_id, .seq = c->seq, .frame = sync_frame(op->w->arena, c)};
	for (size_t i = 0; op->any_ui && i < op->w->n_ears; i++)
		if (wants_ui(&op->w->ears[i], c->share_id))
			return ui_frame(t, c, &op->w->ears[i].listener->who, &told->ui_frame);
	return 0;
}

/* ---- reading ---- */

static int take_held(struct dtx *t, struct tell_op *op)
{
	uint64_t id;
	void *value;
	int err = 0;
	for (size_t i = 0; !err && map_next(&op->w->follow->bursts, &i, &id, &value);) {
		struct burst *b = value;
		if (!b->held || op->now_us - b->begin_us < MILLIS_US(LIMIT_WS_BURST_MS))
			continue;
		err = judge_all(t, op, b->share_id, false);
		if (!err && op->n_told < PAGE)
			op->told[op->n_told++] = (struct told){.share_id = b->share_id,
			                                       .seq = b->held_seq,
			                                       .frame = arena_str(op->w->arena, str_n(b->held, b->held_n)),
			                                       .held = true};
	}
	return err;
}

static int take_devices(struct dtx *t, struct tell_op *op)
{
	int err = 0;
	op->gone = arena_many(op->w->arena, op->w->n_ears, struct ear *);
	for (size_t i = 0; !err && i < op->w->n_ears; i++) {
		struct ear *e = &op->w->ears[i];
		struct device d;
		if (e->listener->kind != LISTENER_SYNC)
			continue;
		tail_as(t, &e->listener->who);
		err = device_load(t, e->listener->device_id, &d);
		tail_as(t, NULL);
		if (err == E_NOT_FOUND) {
			ctx_clear(t->ctx);
			op->gone[op->n_gone++] = e;
			err = 0;
		}
	}
	return err;
}

static int tell_op(struct dtx *t, void *arg)
{
	struct tell_op *op = arg;
	struct telling *w = op->w;
	struct tail_page page;
	int64_t from = INT64_MAX;
	for (size_t i = 0; i < w->n_ears; i++) {
		op->any_ui = op->any_ui || w->ears[i].listener->kind == LISTENER_UI;
		if (is_open(&w->ears[i]) && w->ears[i].listener->position < from)
			from = w->ears[i].listener->position;
	}
	if (from == INT64_MAX)
		return 0;
	size_t max = op->any_ui ? PAGE_UI : PAGE;
	op->told = arena_many(w->arena, PAGE + max, struct told);
	int err = take_events(t, op);
	if (!err)
		err = take_held(t, op);
	if (!err)
		err = tail_read(t, from, max, &page);
	for (size_t i = 0; !err && i < page.n; i++)
		err = told_of(t, op, &page.items[i]);
	if (err)
		return err;
	op->more = page.n == max;
	op->scanned = op->more ? page.items[page.n - 1].seq : page.head;
	if (w->woken && !page.n && !w->n_events)
		err = take_devices(t, op);
	return err ? err : preference_changed(t, w->follow->preferences_us, NOTICES, &op->notices, &op->n_notices);
}

/* ---- sending ---- */

static struct burst *burst_of(struct follow *f, int64_t share_id)
{
	struct burst *b = map_get(&f->bursts, (uint64_t)share_id);
	if (b)
		return b;
	b = calloc(1, sizeof *b);
	must(b != NULL);
	b->share_id = share_id;
	b->begin_us = INT64_MIN / 2;
	map_put(&f->bursts, (uint64_t)share_id, b);
	return b;
}

/* Whether the frame goes now; else it is held and stands for all before it (D9). */
static bool burst_take(struct tell_op *op, const struct told *told)
{
	struct burst *b = burst_of(op->w->follow, told->share_id);
	if (op->now_us - b->begin_us >= MILLIS_US(LIMIT_WS_BURST_MS)) {
		b->begin_us = op->now_us;
		b->count = 0;
	}
	free(b->held);
	b->held = NULL;
	if (b->count < LIMIT_WS_BURST) {
		b->count++;
		return true;
	}
	b->held = malloc(told->frame.n);
	must(b->held != NULL);
	memcpy(b->held, told->frame.p, told->frame.n);
	b->held_n = told->frame.n;
	b->held_seq = told->seq;
	return false;
}

static void send_told(struct tell_op *op, const struct told *told)
{
	bool now = burst_take(op, told);
	for (size_t i = 0; i < op->w->n_ears; i++) {
		struct ear *e = &op->w->ears[i];
		struct listener *l = e->listener;
		if (!is_open(e) || !may_read(e, told->share_id) || told->seq <= (told->held ? l->since : l->position))
			continue;
		if (l->kind == LISTENER_SYNC && now)
			socket_send(e->socket, told->frame);
		else if (told->ui_frame.p && wants_ui(e, told->share_id))
			socket_send(e->socket, told->ui_frame);
	}
}

static void send_notice(struct tell_op *op, const struct preference_notice *p)
{
	struct follow *f = op->w->follow;
	for (size_t i = 0; i < op->w->n_ears; i++) {
		struct ear *e = &op->w->ears[i];
		if (e->listener->kind != LISTENER_SYNC || e->listener->who.user_id != p->user_id)
			continue;
		struct buf b;
		buf_init(&b);
		frame_begin(&b, "sync_preference_updated", p->share_id);
		buf_lit(&b, ",\"device_id\":");
		json_put_str(&b, p->device_id);
		frame_send(e->socket, &b);
	}
	if (p->updated_at > f->preferences_us)
		f->preferences_us = p->updated_at;
}

static void send_all(struct tell_op *op)
{
	struct telling *w = op->w;
	for (size_t i = 0; i < op->n_resyncs; i++)
		if (op->resyncs[i].ear->listener->kind == LISTENER_SYNC)
			frame_plain(op->resyncs[i].ear->socket, "force_sync", op->resyncs[i].share_id);
	for (size_t i = 0; i < op->n_told; i++)
		send_told(op, &op->told[i]);
	for (size_t i = 0; i < op->n_notices; i++)
		send_notice(op, &op->notices[i]);
	for (size_t i = 0; i < op->n_gone; i++)
		socket_close(op->gone[i]->socket, 4404);
	for (size_t i = 0; i < w->n_ears; i++)
		if (is_open(&w->ears[i]) && w->ears[i].listener->position < op->scanned)
			w->ears[i].listener->position = op->scanned;
}

/* When there is more: the rest of the log, or the end of a burst. Bursts that are over are forgotten. */
static int64_t due_next(struct tell_op *op)
{
	struct follow *f = op->w->follow;
	uint64_t id;
	void *value;
	int64_t due = op->more ? op->now_us + (op->any_ui ? PACE_UI_US : 0) : INT64_MAX;
	struct burst **over = arena_many(op->w->arena, f->bursts.count, struct burst *);
	size_t n_over = 0;
	for (size_t i = 0; map_next(&f->bursts, &i, &id, &value);) {
		struct burst *b = value;
		int64_t end = b->begin_us + MILLIS_US(LIMIT_WS_BURST_MS);
		if (b->held && end < due)
			due = end;
		if (!b->held && end <= op->now_us)
			over[n_over++] = b;
	}
	for (size_t i = 0; i < n_over; i++)
		free(map_del(&f->bursts, (uint64_t)over[i]->share_id));
	return due;
}

void tell(struct telling *w)
{
	struct ctx ctx;
	ctx_init(&ctx, w->arena, w->drive->clock, w->drive->rng);
	ctx.drive = w->drive;
	ctx.tenant_id = w->follow->tenant_id;
	struct tell_op op = {.w = w, .now_us = clock_mono(w->drive->clock)};
	int err = drive_read(&ctx, tell_op, &op);
	w->follow->due_us = INT64_MAX; /* after a fault the next poll tries again */
	if (err)
		return;
	send_all(&op);
	w->follow->due_us = due_next(&op);
}
