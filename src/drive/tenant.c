#include "drive/tenant.h"

#include "base/name.h"
#include "drive/password.h"
#include "drive/share.h"

enum { NAME_MAX_BYTES = 64, TENANTS_MAX = 100000 };

static bool name_valid(struct str s)
{
	if (s.n == 0 || s.n > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-_.", c))))
			return false;
	}
	return true;
}

struct add {
	struct ctx *ctx;
	const struct tenant_new *in;
	struct tenant *out;
	uint8_t chunk_key[32];
};

static int add_op(struct tx *tx, void *arg)
{
	struct add *a = arg;
	const struct tenant *t = a->out;
	int64_t there;
	/* A tenant without users is what an interrupted start leaves: it counts as absent. */
	int err = tx_exec(tx,
	                  "delete from tenants where name = $1 and not exists"
	                  " (select 1 from users where users.tenant_id = tenants.id)",
	                  DB_ARGS(V_T(t->name)), NULL);
	if (!err)
		err = tx_i64(tx, "select count(*) from tenants where name = $1", DB_ARGS(V_T(t->name)), 0, &there);
	if (!err && there)
		err = ctx_fail(a->ctx, E_CONFLICT, "A tenant named %.*s exists.", STR_ARG(t->name));
	if (!err)
		err = tx_exec(tx,
		              "insert into tenants (id, name, display_name, status, chunk_key, created_at)"
		              " values ($1, $2, $3, 'active', $4, $5)",
		              DB_ARGS(V_I(t->id), V_T(t->name), V_T(t->display_name),
		                      V_B(str_n(a->chunk_key, sizeof a->chunk_key)), V_I(t->created_at)),
		              NULL);
	return err;
}

static int drop_op(struct tx *tx, void *arg)
{
	const struct tenant *t = arg;
	return tx_exec(tx,
	               "delete from tenants where id = $1 and not exists (select 1 from users where users.tenant_id = $1)",
	               DB_ARGS(V_I(t->id)), NULL);
}

int tenant_share_add(struct ctx *ctx, const struct user *owner, struct str name, int64_t *share_id)
{
	struct principal who = {.scopes = SCOPE_ALL};
	struct share made;
	int err = principal_load(ctx, owner->tenant_id, owner->id, &who);
	if (err)
		return err;
	struct ctx own;
	ctx_init(&own, ctx->arena, ctx->clock, ctx->rng);
	own.drive = ctx->drive;
	own.who = &who;
	own.tenant_id = owner->tenant_id;
	own.operation = STR("bootstrap");
	err = drive_share_create(&own, &(struct share_create){.name = name, .share_type = STR("central")}, &made);
	if (err)
		return ctx_fail(ctx, err, "%.*s", STR_ARG(ctx_detail(&own, err)));
	*share_id = made.id;
	return 0;
}

int tenant_add(struct ctx *ctx, const struct tenant_new *in, struct tenant *out, struct user *admin)
{
	struct add a = {.ctx = ctx, .in = in, .out = out};
	if (!name_valid(in->name))
		return ctx_invalid(ctx, "body", STR("name"), "value_error",
		                   "A tenant's name has 1 to %d letters, digits, '-', '_' or '.'", NAME_MAX_BYTES);
	if (in->admin.password.p && (in->admin.password.n < PASSWORD_MIN_BYTES || in->admin.password.n > PASSWORD_MAX_BYTES))
		return ctx_invalid(ctx, "body", STR("password"), "value_error", "A password has %d to %d bytes",
		                   PASSWORD_MIN_BYTES, PASSWORD_MAX_BYTES);
	*out = (struct tenant){
	    .id = idgen_next(ctx->drive->ids),
	    .created_at = clock_now(ctx->clock),
	    .name = in->name,
	    .display_name = in->display_name.n ? in->display_name : in->name,
	    .status = STR("active"),
	};
	ctx->rng->fill(ctx->rng, a.chunk_key, sizeof a.chunk_key);
	int err = db_write(ctx->drive->db, 0, add_op, &a);
	explicit_bzero(a.chunk_key, sizeof a.chunk_key);
	if (err)
		return err;
	struct user_new user = in->admin;
	user.tenant_id = out->id;
	user.admin = ADMIN_TENANT;
	err = user_add(ctx, &user, admin);
	if (err) {
		(void)db_write(ctx->drive->db, 0, drop_op, out);
		return err;
	}
	int64_t share_id;
	return in->share_name.p ? tenant_share_add(ctx, admin, in->share_name, &share_id) : 0;
}

struct list {
	struct ctx *ctx;
	struct str name;
	int64_t id;
	struct tenant_list *out;
};

static int list_op(struct tx *tx, void *arg)
{
	struct list *l = arg;
	size_t n = 0;
	int64_t total;
	AUTO_ROWS *r = NULL;
	int err = tx_i64(tx, "select count(*) from tenants", DB_NO_ARGS, 0, &total);
	if (!err)
		err = tx_query(tx,
		               "select id, name, display_name, status, created_at from tenants t where (id = $1 or $1 = 0)"
		               " and (name = $2 or $2 = '') and exists (select 1 from users where users.tenant_id = t.id)"
		               " order by name",
		               DB_ARGS(V_I(l->id), V_T(l->name)), &r);
	if (err)
		return err;
	struct tenant *items = arena_many(l->ctx->arena, (size_t)total, struct tenant);
	for (; n < (size_t)total && rows_next(r); n++)
		items[n] = (struct tenant){
		    .id = rows_i64(r, 0),
		    .created_at = rows_i64(r, 4),
		    .name = arena_str(l->ctx->arena, rows_text(r, 1)),
		    .display_name = arena_str(l->ctx->arena, rows_text(r, 2)),
		    .status = arena_str(l->ctx->arena, rows_text(r, 3)),
		};
	*l->out = (struct tenant_list){items, n};
	return rows_close(&r);
}

int tenant_list(struct ctx *ctx, struct tenant_list *out)
{
	struct list l = {.ctx = ctx, .name = STR(""), .out = out};
	return db_read(ctx->drive->db, list_op, &l);
}

int tenant_find(struct ctx *ctx, struct str name_or_id, struct tenant *out)
{
	struct tenant_list found = {0};
	struct list l = {.ctx = ctx, .name = STR(""), .out = &found};
	if (!id_parse_kind(name_or_id, ID_TENANT, &l.id)) {
		if (!name_valid(name_or_id))
			return ctx_fail(ctx, E_NOT_FOUND, "There is no such tenant.");
		l.name = name_or_id;
	}
	int err = db_read(ctx->drive->db, list_op, &l);
	if (err)
		return err;
	if (found.n == 0)
		return ctx_fail(ctx, E_NOT_FOUND, "There is no tenant %.*s.", STR_ARG(name_or_id));
	*out = found.items[0];
	return 0;
}
