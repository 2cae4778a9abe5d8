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
	const struct tenant_new *in;
	struct user_draft draft;
	struct principal who; /* the administrator, who owns the share */
	uint8_t chunk_key[32];
	struct tenant *out;
	struct user *admin;
};

static int add_op(struct dtx *t, void *arg)
{
	struct add *a = arg;
	const struct tenant *tenant = a->out;
	struct share made;
	int64_t there;
	int err = tx_i64(t->tx, "select count(*) from tenants where name = $1", DB_ARGS(V_T(tenant->name)), 0, &there);
	if (!err && there)
		err = ctx_fail(t->ctx, E_CONFLICT, "A tenant named %.*s exists.", STR_ARG(tenant->name));
	if (!err)
		err = tx_exec(t->tx,
		              "insert into tenants (id, name, display_name, status, chunk_key, created_at)"
		              " values ($1, $2, $3, 'active', $4, $5)",
		              DB_ARGS(V_I(tenant->id), V_T(tenant->name), V_T(tenant->display_name),
		                      V_B(str_n(a->chunk_key, sizeof a->chunk_key)), V_I(tenant->created_at)),
		              NULL);
	if (!err)
		err = user_insert(t->tx, t->ctx, &a->draft, a->admin);
	if (err || !a->in->share_name.p)
		return err;
	a->who.user_id = a->admin->id;
	return share_create_first(t, &(struct share_create){.name = a->in->share_name, .share_type = STR("central")}, &made);
}

/* A request of the tenant's own administrator. */
static struct ctx bootstrap_ctx(struct ctx *ctx, struct principal *who)
{
	struct ctx own;
	ctx_init(&own, ctx->arena, ctx->clock, ctx->rng);
	own.drive = ctx->drive;
	own.who = who;
	own.tenant_id = who->tenant_id;
	own.operation = STR("bootstrap");
	return own;
}

int tenant_share_add(struct ctx *ctx, const struct user *owner, struct str name, int64_t *share_id)
{
	struct principal who = {.scopes = SCOPE_ALL};
	struct share made;
	int err = principal_load(ctx, owner->tenant_id, owner->id, &who);
	if (err)
		return err;
	struct ctx own = bootstrap_ctx(ctx, &who);
	err = drive_share_create(&own, &(struct share_create){.name = name, .share_type = STR("central")}, &made);
	if (err)
		return ctx_fail(ctx, err, "%.*s", STR_ARG(ctx_detail(&own, err)));
	*share_id = made.id;
	return 0;
}

int tenant_add(struct ctx *ctx, const struct tenant_new *in, struct tenant *out, struct user *admin)
{
	struct add a = {.in = in, .out = out, .admin = admin};
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
	struct user_new user = in->admin;
	user.tenant_id = out->id;
	user.admin = ADMIN_TENANT;
	int err = user_prepare(ctx, &user, &a.draft);
	if (err)
		return err;
	a.who = (struct principal){.tenant_id = out->id, .admin = ADMIN_TENANT, .scopes = SCOPE_ALL, .email = user.email,
	                           .name = a.draft.name};
	ctx->rng->fill(ctx->rng, a.chunk_key, sizeof a.chunk_key);
	struct ctx own = bootstrap_ctx(ctx, &a.who);
	err = drive_write(&own, add_op, &a);
	explicit_bzero(a.chunk_key, sizeof a.chunk_key);
	if (err == E_INVALID || err == E_CONFLICT || err == E_NOT_FOUND)
		return ctx_fail(ctx, err, "%.*s", STR_ARG(ctx_detail(&own, err)));
	return err;
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

static int only_op(struct tx *tx, void *arg)
{
	return tx_i64(tx, "select case when count(*) = 1 then min(id) else 0 end from tenants", DB_NO_ARGS, 0, arg);
}

int tenant_only(struct db *db, int64_t *id)
{
	return db_read(db, only_op, id);
}
