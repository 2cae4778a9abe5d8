#include "drive/device.h"

#include "base/limits.h"
#include "drive/principal.h"
#include "drive/tail.h"

static const char *const platforms[] = {
    [DEVICE_WINDOWS] = "windows", [DEVICE_MACOS] = "macos", [DEVICE_LINUX] = "linux", [DEVICE_IOS] = "ios",
    [DEVICE_ANDROID] = "android", [DEVICE_WEB] = "web",     [DEVICE_CLI] = "cli",
};

const char *device_platform_name(enum device_platform p)
{
	return p >= DEVICE_WINDOWS && p <= DEVICE_CLI ? platforms[p] : "";
}

bool device_platform_parse(struct str s, enum device_platform *out)
{
	for (int i = DEVICE_WINDOWS; i <= DEVICE_CLI; i++) {
		if (str_eq(s, str_c(platforms[i]))) {
			*out = (enum device_platform)i;
			return true;
		}
	}
	return false;
}

int device_id_check(struct ctx *ctx, const char *where, struct str device_id)
{
	if (!device_id.n)
		return ctx_invalid(ctx, where, STR("device_id"), "string_too_short", "The device id is empty.");
	if (device_id.n > LIMIT_DEVICE_ID_BYTES)
		return ctx_invalid(ctx, where, STR("device_id"), "string_too_long", "A device id has at most %d bytes.",
		                   LIMIT_DEVICE_ID_BYTES);
	for (size_t i = 0; i < device_id.n; i++) {
		unsigned char c = (unsigned char)device_id.p[i];
		if (c <= 32 || c == 127 || c == '/')
			return ctx_invalid(ctx, where, STR("device_id"), "string_pattern_mismatch",
			                   "A device id holds no blanks, slashes or control characters.");
	}
	if (!str_is_utf8(device_id))
		return ctx_invalid(ctx, where, STR("device_id"), "string_unicode", "A device id is UTF-8.");
	return 0;
}

#define DEVICE_COLUMNS \
	"id, tenant_id, user_id, device_id, name, platform, client_version, is_active, created_at, last_seen_at"

static void device_row(struct rows *r, struct arena *a, struct device *d)
{
	*d = (struct device){
	    .id = rows_i64(r, 0),
	    .tenant_id = rows_i64(r, 1),
	    .user_id = rows_i64(r, 2),
	    .device_id = arena_str(a, rows_text(r, 3)),
	    .name = arena_str(a, rows_text(r, 4)),
	    .client_version = arena_str(a, rows_text(r, 6)),
	    .is_active = rows_i64(r, 7) != 0,
	    .created_at = rows_i64(r, 8),
	    .last_seen_at = rows_i64(r, 9),
	};
	if (!device_platform_parse(rows_text(r, 5), &d->platform))
		d->platform = DEVICE_CLI;
}

static int device_unknown(struct ctx *ctx, struct str device_id)
{
	return ctx_fail(ctx, E_NOT_FOUND, "Not found: device %.*s", STR_ARG(device_id));
}

/* A token that is bound to a device speaks for no other. */
static int device_may(struct ctx *ctx, struct str device_id)
{
	if (!ctx->who->device_id.p || str_eq(ctx->who->device_id, device_id))
		return 0;
	return ctx_fail(ctx, E_FORBIDDEN, "Permission denied: the token belongs to another device");
}

/* The caller's row of that id; out->id 0 when there is none. */
static int device_find(struct dtx *t, struct str device_id, struct device *out)
{
	struct rows *r = NULL;
	bool found;
	*out = (struct device){0};
	int err = tx_query_row(t->tx, "select " DEVICE_COLUMNS " from devices where user_id = $1 and device_id = $2",
	                       DB_ARGS(V_I(t->ctx->who->user_id), V_T(device_id)), &r, &found);
	if (!err && found)
		device_row(r, t->ctx->arena, out);
	int end = rows_close(&r);
	return err ? err : end;
}

int device_load(struct dtx *t, struct str device_id, struct device *out)
{
	if (device_id.n == 0 || device_id.n > LIMIT_DEVICE_ID_BYTES || !str_is_utf8(device_id))
		return device_unknown(t->ctx, STR("?"));
	int err = device_may(t->ctx, device_id);
	if (!err)
		err = device_find(t, device_id, out);
	if (!err && !out->id)
		err = device_unknown(t->ctx, device_id);
	return err;
}

/* ---- operations ---- */

struct register_op {
	const struct device_register_in *in;
	struct device *out;
};

static int register_new(struct dtx *t, const struct device_register_in *in, struct device *d)
{
	int64_t n;
	int err = tx_i64(t->tx, "select count(*) from devices where user_id = $1", DB_ARGS(V_I(t->ctx->who->user_id)), 0, &n);
	if (err)
		return err;
	if (n >= LIMIT_DEVICES_PER_USER)
		return ctx_fail(t->ctx, E_CONFLICT, "A user has at most %d devices; remove one first.", LIMIT_DEVICES_PER_USER);
	d->id = idgen_next(t->drive->ids);
	d->tenant_id = t->ctx->tenant_id;
	d->user_id = t->ctx->who->user_id;
	d->device_id = in->device_id;
	d->created_at = clock_now(t->ctx->clock);
	return tx_exec(t->tx,
	               "insert into devices (id, tenant_id, user_id, device_id, name, platform, client_version, is_active,"
	               " created_at, last_seen_at) values ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)",
	               DB_ARGS(V_I(d->id), V_I(d->tenant_id), V_I(d->user_id), V_T(d->device_id), V_T(in->name),
	                       V_T(str_c(device_platform_name(in->platform))), V_T(in->client_version), V_I(d->created_at)),
	               NULL);
}

static int register_op(struct dtx *t, void *arg)
{
	struct register_op *op = arg;
	const struct device_register_in *in = op->in;
	struct device d;
	int64_t now = clock_now(t->ctx->clock);
	int err = device_may(t->ctx, in->device_id);
	if (!err)
		err = device_find(t, in->device_id, &d);
	if (err)
		return err;
	if (d.id)
		err = tx_exec(t->tx,
		              "update devices set name = $2, platform = $3, client_version = $4, is_active = 1, last_seen_at = $5"
		              " where id = $1",
		              DB_ARGS(V_I(d.id), V_T(in->name), V_T(str_c(device_platform_name(in->platform))),
		                      V_T(in->client_version), V_I(now)),
		              NULL);
	else
		err = register_new(t, in, &d);
	d.name = in->name;
	d.platform = in->platform;
	d.client_version = in->client_version;
	d.is_active = true;
	d.last_seen_at = now;
	*op->out = d;
	return err;
}

int drive_device_register(struct ctx *ctx, const struct device_register_in *in, struct device *out)
{
	int err = device_id_check(ctx, "body", in->device_id);
	struct register_op op = {in, out};
	return err ? err : drive_write(ctx, register_op, &op);
}

static int list_op(struct dtx *t, void *arg)
{
	struct device_list *out = arg;
	AUTO_ROWS *r = NULL;
	*out = (struct device_list){.items = arena_many(t->ctx->arena, LIMIT_DEVICES_PER_USER, struct device)};
	int err = tx_query(t->tx, "select " DEVICE_COLUMNS " from devices where user_id = $1 order by id limit $2",
	                   DB_ARGS(V_I(t->ctx->who->user_id), V_I(LIMIT_DEVICES_PER_USER)), &r);
	if (err)
		return err;
	while (out->n < LIMIT_DEVICES_PER_USER && rows_next(r))
		device_row(r, t->ctx->arena, &out->items[out->n++]);
	return rows_close(&r);
}

int drive_device_list(struct ctx *ctx, struct device_list *out)
{
	return drive_read(ctx, list_op, out);
}

struct get_op {
	struct str device_id;
	struct device *out;
};

static int get_op(struct dtx *t, void *arg)
{
	struct get_op *op = arg;
	return device_load(t, op->device_id, op->out);
}

int drive_device_get(struct ctx *ctx, struct str device_id, struct device *out)
{
	struct get_op op = {device_id, out};
	return drive_read(ctx, get_op, &op);
}

struct update_op {
	const struct device_update_in *in;
	struct device *out;
};

static int update_op(struct dtx *t, void *arg)
{
	struct update_op *op = arg;
	struct device d;
	int err = device_load(t, op->in->device_id, &d);
	if (err)
		return err;
	if (op->in->name.p)
		d.name = op->in->name;
	if (op->in->has_active)
		d.is_active = op->in->is_active;
	*op->out = d;
	return tx_exec(t->tx, "update devices set name = $2, is_active = $3 where id = $1",
	               DB_ARGS(V_I(d.id), V_T(d.name), V_I(d.is_active)), NULL);
}

int drive_device_update(struct ctx *ctx, const struct device_update_in *in, struct device *out)
{
	struct update_op op = {in, out};
	return drive_write(ctx, update_op, &op);
}

/* The stored results of apply stay until they are 30 days old: there may be millions, and row ids are never reused. */
static int delete_op(struct dtx *t, void *arg)
{
	struct device d;
	int err = device_load(t, *(struct str *)arg, &d);
	if (!err)
		err = tx_exec(t->tx, "delete from device_cursors where device = $1", DB_ARGS(V_I(d.id)), NULL);
	if (!err)
		err = tx_exec(t->tx, "delete from device_preferences where device = $1", DB_ARGS(V_I(d.id)), NULL);
	if (!err) /* its sign-ins end with it */
		err = tx_exec(t->tx, "delete from refresh_families where user_id = $1 and device_id = $2",
		              DB_ARGS(V_I(t->ctx->who->user_id), V_T(d.device_id)), NULL);
	if (!err)
		err = tx_exec(t->tx, "delete from devices where id = $1", DB_ARGS(V_I(d.id)), NULL);
	return err;
}

int drive_device_delete(struct ctx *ctx, struct str device_id)
{
	int err = drive_write(ctx, delete_op, &device_id);
	if (!err) /* its socket is to be closed */
		tail_nudge(ctx->drive, ctx->tenant_id);
	return err;
}

static int heartbeat_op(struct dtx *t, void *arg)
{
	struct device d;
	int err = device_load(t, *(struct str *)arg, &d);
	if (err)
		return err;
	return tx_exec(t->tx, "update devices set last_seen_at = $2, is_active = 1 where id = $1",
	               DB_ARGS(V_I(d.id), V_I(clock_now(t->ctx->clock))), NULL);
}

int drive_device_heartbeat(struct ctx *ctx, struct str device_id)
{
	return drive_write(ctx, heartbeat_op, &device_id);
}

static int connect_op(struct dtx *t, void *arg)
{
	struct get_op *op = arg;
	int64_t foreign;
	int err = device_load(t, op->device_id, op->out);
	if (err != E_NOT_FOUND)
		return err;
	err = tx_i64(t->tx, "select count(*) from devices where tenant_id = $1 and device_id = $2",
	             DB_ARGS(V_I(t->ctx->tenant_id), V_T(op->device_id)), 0, &foreign);
	if (err)
		return err;
	if (!foreign)
		return E_NOT_FOUND;
	ctx_clear(t->ctx);
	return ctx_fail(t->ctx, E_FORBIDDEN, "Permission denied: the device belongs to another user");
}

int drive_device_connect(struct ctx *ctx, struct str device_id, struct device *out)
{
	struct get_op op = {device_id, out};
	return drive_read(ctx, connect_op, &op);
}
