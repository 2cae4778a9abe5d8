#include "features/realtime/listener.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/must.h"
#include "drive/device.h"

struct listener *listener_new(enum listener_kind kind, const struct principal *who, struct str device_id)
{
	struct listener *l = calloc(1, sizeof *l);
	must(l != NULL);
	l->refs = 1;
	l->kind = kind;
	arena_init(&l->arena);
	pthread_mutex_init(&l->lock, NULL);
	l->who = *who;
	l->who.email = arena_str(&l->arena, who->email);
	l->who.name = arena_str(&l->arena, who->name);
	l->who.device_id = arena_str(&l->arena, who->device_id);
	l->who.groups = arena_many(&l->arena, who->n_groups, int64_t);
	for (size_t i = 0; i < who->n_groups; i++)
		l->who.groups[i] = who->groups[i];
	l->device_id = arena_str(&l->arena, device_id);
	return l;
}

struct listener *listener_ref(struct listener *l)
{
	atomic_fetch_add(&l->refs, 1);
	return l;
}

void listener_unref(struct listener *l)
{
	if (atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	map_fini(&l->shares);
	map_fini(&l->verdicts);
	pthread_mutex_destroy(&l->lock);
	arena_fini(&l->arena);
	free(l);
}

struct listener *listener_of(struct socket_session *s)
{
	return socket_state(s);
}

void listener_on_close(struct socket_session *s)
{
	listener_unref(listener_of(s));
}

/* ---- frames ---- */

void frame_begin(struct buf *b, const char *name, int64_t share_id)
{
	buf_fmt(b, "{\"type\":\"%s\",\"event_type\":\"%s\"", name, name);
	if (!share_id)
		return;
	buf_lit(b, ",\"share_id\":\"");
	buf_id(b, ID_SHARE, share_id);
	buf_char(b, '"');
}

void frame_send(struct socket_session *s, struct buf *b)
{
	buf_char(b, '}');
	socket_send(s, buf_as_str(b)); /* a socket that does not take it is being closed: it will pull */
	buf_fini(b);
}

void frame_plain(struct socket_session *s, const char *name, int64_t share_id)
{
	struct buf b;
	buf_init(&b);
	frame_begin(&b, name, share_id);
	frame_send(s, &b);
}

void frame_error(struct socket_session *s, int err, struct str detail)
{
	struct buf b;
	buf_init(&b);
	frame_begin(&b, "error", 0);
	buf_fmt(&b, ",\"code\":\"%s\",\"detail\":", err_info(err)->code);
	json_put_str(&b, detail);
	frame_send(s, &b);
}

bool frame_read(struct str text, struct arena *a, struct str *word, int64_t *share_id)
{
	AUTO_JSON *doc = NULL;
	*word = STR_NULL;
	*share_id = 0;
	if (json_parse(text, &doc))
		return false;
	struct str w = json_str(doc, "type");
	if (!w.p)
		w = json_str(doc, "action");
	*word = arena_str(a, w);
	if (!id_parse_kind(json_str(doc, "share_id"), ID_SHARE, share_id))
		*share_id = 0;
	return w.p != NULL;
}

/* ---- head ---- */

struct head_op {
	struct str device_id; /* STR_NULL: a user interface */
	int64_t head;
};

static int head_op(struct dtx *t, void *arg)
{
	struct head_op *op = arg;
	struct device d;
	int err = op->device_id.p ? device_load(t, op->device_id, &d) : 0;
	return err ? err : drive_head(t, &op->head);
}

static int head_read(struct ctx *ctx, struct listener *l, int64_t *head)
{
	struct head_op op = {.device_id = l->kind == LISTENER_SYNC ? l->device_id : STR_NULL};
	ctx->who = &l->who;
	int err = drive_read(ctx, head_op, &op);
	*head = op.head;
	return err;
}

void listener_open(struct socket_session *s, struct ctx *ctx)
{
	struct listener *l = listener_of(s);
	int err = head_read(ctx, l, &l->since);
	l->position = l->since;
	if (err)
		socket_close(s, err == E_NOT_FOUND ? 4404 : 1011);
	else
		atomic_store(&l->open, true);
}

void listener_pong(struct socket_session *s, struct ctx *ctx)
{
	int64_t head;
	int err = head_read(ctx, listener_of(s), &head);
	if (err == E_NOT_FOUND) {
		socket_close(s, 4404);
		return;
	}
	struct buf b;
	buf_init(&b);
	frame_begin(&b, "pong", 0);
	if (!err)
		buf_fmt(&b, ",\"cursor\":%lld", (long long)head);
	frame_send(s, &b);
}
