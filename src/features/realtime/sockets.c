/* The two sockets: /api/v1/sync/ws/{device_id} for sync clients, /api/v1/realtime/ws for user interfaces. */
#include "api.h"
#include "drive/device.h"
#include "drive/tail.h"
#include "features/realtime/listener.h"
#include "http/validate.h"

/* ---- sync ---- */

static void sync_text(struct socket_session *s, struct ctx *ctx, struct str text)
{
	struct str word;
	int64_t share_id;
	if (!frame_read(text, ctx->arena, &word, &share_id))
		frame_error(s, E_BAD_REQUEST, STR("A frame is a JSON object with a type."));
	else if (str_eq(word, STR("ping")))
		listener_pong(s, ctx);
	else if (str_eq(word, STR("subscribe"))) /* every share is subscribed from the start; the answer says so */
		frame_plain(s, "subscribed", share_id);
	/* other words belong to later versions of the protocol */
}

int sync_socket(struct ctx *ctx, struct request *req, struct socket_session **out)
{
	static const struct socket_handler handler = {listener_open, sync_text, listener_on_close};
	struct SyncSocketIn in;
	struct device d;
	int err = args_sync_socket(ctx, req, &in);
	if (!err)
		err = drive_device_connect(ctx, in.device_id, &d);
	if (err)
		return err;
	struct listener *l = listener_new(LISTENER_SYNC, ctx->who, d.device_id);
	*out = socket_new(&handler, l, ctx->tenant_id, ctx->who->user_id);
	return 0;
}

/* ---- user interfaces ---- */

static void ui_open(struct socket_session *s, struct ctx *ctx)
{
	struct listener *l = listener_of(s);
	struct buf b;
	listener_open(s, ctx);
	buf_init(&b);
	frame_begin(&b, "connected", 0);
	buf_lit(&b, ",\"user_id\":");
	put_id(&b, ID_USER, l->who.user_id);
	buf_lit(&b, ",\"timestamp\":");
	put_time(&b, clock_now(ctx->clock));
	frame_send(s, &b);
}

struct readable_op {
	const struct principal *who;
	int64_t share_id;
	bool yes;
};

static int readable_op(struct dtx *t, void *arg)
{
	struct readable_op *op = arg;
	return tail_readable(t, op->who, op->share_id, &op->yes);
}

static void ui_subscribe(struct socket_session *s, struct ctx *ctx, int64_t share_id)
{
	struct listener *l = listener_of(s);
	struct readable_op op = {&l->who, share_id, false};
	ctx->who = &l->who;
	int err = share_id ? drive_read(ctx, readable_op, &op) : 0;
	if (!err && !op.yes)
		err = E_NOT_FOUND;
	pthread_mutex_lock(&l->lock);
	if (!err && l->shares.count >= LISTENER_SHARES_MAX)
		err = E_CONFLICT;
	if (!err)
		map_put(&l->shares, (uint64_t)share_id, l);
	pthread_mutex_unlock(&l->lock);
	if (err)
		frame_error(s, err, err == E_CONFLICT ? STR("Too many shares on one socket.") : STR("Not found: the share"));
	else
		frame_plain(s, "subscribed", share_id);
}

static void ui_text(struct socket_session *s, struct ctx *ctx, struct str text)
{
	struct listener *l = listener_of(s);
	struct str word;
	int64_t share_id;
	if (!frame_read(text, ctx->arena, &word, &share_id)) {
		frame_error(s, E_BAD_REQUEST, STR("A frame is a JSON object with an action."));
	} else if (str_eq(word, STR("ping"))) {
		listener_pong(s, ctx);
	} else if (str_eq(word, STR("subscribe"))) {
		ui_subscribe(s, ctx, share_id);
	} else if (str_eq(word, STR("unsubscribe"))) {
		pthread_mutex_lock(&l->lock);
		map_del(&l->shares, (uint64_t)share_id);
		pthread_mutex_unlock(&l->lock);
		frame_plain(s, "unsubscribed", share_id);
	}
}

int realtime_socket(struct ctx *ctx, struct request *req, struct socket_session **out)
{
	static const struct socket_handler handler = {ui_open, ui_text, listener_on_close};
	struct RealtimeSocketIn in;
	int err = args_realtime_socket(ctx, req, &in);
	if (err)
		return err;
	struct listener *l = listener_new(LISTENER_UI, ctx->who, STR_NULL);
	*out = socket_new(&handler, l, ctx->tenant_id, ctx->who->user_id);
	return 0;
}
