#include "drive/share.h"

#include "base/limits.h"
#include "base/mutant.h"
#include "base/name.h"
#include "drive/share_priv.h"
#include "drive/node_priv.h"

#define SHARE_COLUMNS \
	"id, tenant_id, root_id, name, description, share_type, owner_kind, owner_id, is_public, deleted_at, quota_bytes," \
	" used_bytes, settings, created_at, modified_at"

static void share_from_row(struct arena *a, struct rows *r, struct share *s)
{
	*s = (struct share){
	    .id = rows_i64(r, 0),
	    .tenant_id = rows_i64(r, 1),
	    .root_id = rows_i64(r, 2),
	    .owner = {(enum id_kind)rows_i64(r, 6), rows_i64(r, 7)},
	    .is_public = rows_i64(r, 8) != 0,
	    .deleted_at = rows_i64(r, 9),
	    .has_quota = !rows_is_null(r, 10),
	    .quota_bytes = rows_i64(r, 10),
	    .used_bytes = rows_i64(r, 11),
	    .created_at = rows_i64(r, 13),
	    .modified_at = rows_i64(r, 14),
	};
	s->name = arena_str(a, rows_text(r, 3));
	s->description = arena_str(a, rows_text(r, 4));
	s->share_type = arena_str(a, rows_text(r, 5));
	s->settings = arena_str(a, rows_text(r, 12));
}

const char *role_name(enum role role)
{
	static const char *const names[] = {"none", "reader", "contributor", "admin", "owner"};
	return (unsigned)role < sizeof names / sizeof *names ? names[role] : "";
}

bool role_parse(struct str s, enum role *out)
{
	for (enum role role = ROLE_READER; role <= ROLE_OWNER; role++)
		if (str_eq(s, str_c(role_name(role)))) {
			*out = role;
			return true;
		}
	return false;
}

int share_load(struct dtx *t, int64_t id, unsigned want, struct share *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	struct rid what = {ID_SHARE, id};
	*out = (struct share){0};
	int err = tx_query_row(t->tx, "select " SHARE_COLUMNS " from shares where id = $1 and tenant_id = $2",
	                       DB_ARGS(V_I(id), V_I(t->ctx->tenant_id)), &r, &found);
	if (err)
		return err;
	if (!found)
		return access_verdict(t->ctx, 0, want, what);
	share_from_row(t->ctx->arena, r, out);
	err = access_share(t, id, &out->rights, &out->role);
	if (!err)
		err = access_verdict(t->ctx, out->rights, RIGHT_READ, what);
	if (!err && out->deleted_at && !(want & SHARE_WITH_TRASH))
		err = ctx_fail(t->ctx, E_GONE, "The share is in the trash; restore it first");
	return err ? err : access_verdict(t->ctx, out->rights, want, what);
}

int share_use_flush(struct dtx *t)
{
	int64_t delta_bytes = t->use.pending_bytes;
	t->use.pending_bytes = 0;
	return delta_bytes ? tx_exec(t->tx, "update shares set used_bytes = used_bytes + $2 where id = $1",
	                             DB_ARGS(V_I(t->use.share_id), V_I(delta_bytes)), NULL)
	                   : 0;
}

static int use_load(struct dtx *t, int64_t share_id)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = share_use_flush(t);
	if (!err)
		err = tx_query_row(t->tx, "select coalesce(quota_bytes, $2) - used_bytes from shares where id = $1",
		                   DB_ARGS(V_I(share_id), V_I(INT64_MAX)), &r, &found);
	if (err)
		return err;
	t->use.share_id = share_id;
	t->use.left_bytes = found ? rows_i64(r, 0) : 0;
	return 0;
}

int share_use(struct dtx *t, int64_t share_id, int64_t delta_bytes)
{
	int err = t->use.share_id == share_id ? 0 : use_load(t, share_id);
	if (err || !delta_bytes)
		return err;
	if (delta_bytes > 0 && delta_bytes > t->use.left_bytes)
		return ctx_fail(t->ctx, E_QUOTA, "The quota of the share would be exceeded");
	t->use.left_bytes -= delta_bytes;
	t->use.pending_bytes += mutant(M_DRIVE_QUOTA_UNSETTLED) && delta_bytes > 0 ? 0 : delta_bytes;
	return 0;
}

/* ---- create ---- */

static int text_check(struct ctx *ctx, struct str name, struct str description)
{
	const char *problem = name.p ? name_problem(name) : NULL;
	if (problem)
		return ctx_invalid(ctx, "body", STR("name"), "value_error", "%s", problem);
	if (description.n > LIMIT_TEXT)
		return ctx_invalid(ctx, "body", STR("description"), "string_too_long", "at most %d bytes", LIMIT_TEXT);
	return 0;
}

int principal_exists(struct dtx *t, struct rid who)
{
	int64_t found = 0;
	int err = 0;
	if (who.kind == ID_USER)
		err = tx_i64(t->tx, "select 1 from users where id = $1 and tenant_id = $2 and status <> 'deleted'",
		             DB_ARGS(V_I(who.n), V_I(t->ctx->tenant_id)), 0, &found);
	else if (who.kind == ID_GROUP)
		err = tx_i64(t->tx, "select 1 from user_groups where id = $1 and tenant_id = $2",
		             DB_ARGS(V_I(who.n), V_I(t->ctx->tenant_id)), 0, &found);
	return err || found ? err : access_verdict(t->ctx, 0, 0, who);
}

bool principal_is_caller(const struct ctx *ctx, struct rid who)
{
	if (!ctx->who)
		return false;
	bool is = who.kind == ID_USER && who.n == ctx->who->user_id;
	for (size_t i = 0; !is && who.kind == ID_GROUP && i < ctx->who->n_groups; i++)
		is = ctx->who->groups[i] == who.n;
	return is;
}

int member_insert(struct dtx *t, int64_t share_id, struct rid who, enum role role, int64_t expires_at)
{
	drive_access_changed(t, share_id, who);
	return tx_exec(t->tx,
	               "insert into share_members (share_id, principal_kind, principal_id, role, expires_at, created_by,"
	               " created_at) values ($1, $2, $3, $4, $5, $6, $7)",
	               DB_ARGS(V_I(share_id), V_I(who.kind), V_I(who.n), V_I(role), V_ID(expires_at), V_I(actor(t)),
	                       V_I(clock_now(t->ctx->clock))),
	               NULL);
}

struct create {
	const struct share_create *in;
	struct rid owner;
	struct share *out;
};

static int insert_share(struct dtx *t, const struct create *c, int64_t id)
{
	const struct share_create *in = c->in;
	struct arena *a = t->ctx->arena;
	int64_t root_id = idgen_next(t->drive->ids), now = clock_now(t->ctx->clock), seq;
	int err = drive_room(t);
	if (!err)
		err = change_peek(t, &seq);
	if (!err)
		err = tx_exec(t->tx,
		              "insert into shares (id, tenant_id, root_id, name, description, share_type, owner_kind, owner_id,"
		              " quota_bytes, created_at, modified_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
		              DB_ARGS(V_I(id), V_I(t->ctx->tenant_id), V_I(root_id), V_T(in->name), V_T(in->description),
		                      V_T(in->share_type), V_I(c->owner.kind), V_I(c->owner.n),
		                      in->has_quota ? V_I(in->quota_bytes) : V_NULL, V_I(now)),
		              NULL);
	if (!err)
		err = tx_exec(t->tx,
		              "insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, owner_id, created_by,"
		              " created_at, modified_by, modified_at, change_seq)"
		              " values ($1, $2, $3, 0, 1, '', $4, $5, $5, $6, $5, $6, $7)",
		              DB_ARGS(V_I(root_id), V_I(t->ctx->tenant_id), V_I(id),
		                      V_T(arena_fmt(a, "%lld", (long long)root_id)), V_I(actor(t)), V_I(now), V_I(seq)),
		              NULL);
	return err;
}

static struct sha256 create_hash(const struct share_create *in)
{
	struct buf b = {0};
	struct str parts[] = {in->name, in->share_type, in->description};
	for (size_t i = 0; i < 3; i++) {
		buf_varint(&b, parts[i].n);
		buf_str(&b, parts[i]);
	}
	buf_varint(&b, (uint64_t)in->owner.n);
	buf_varint(&b, in->has_quota ? (uint64_t)in->quota_bytes + 1 : 0);
	struct sha256 h = sha256_of(b.p, b.n);
	buf_fini(&b);
	return h;
}

static int create_op(struct dtx *t, void *arg)
{
	struct create *c = arg;
	struct sha256 hash = create_hash(c->in);
	struct rid hit;
	int err = idempotency_find(t, &hash, &hit);
	if (!err && hit.n)
		return share_load(t, hit.n, RIGHT_READ, c->out);
	if (!err)
		err = principal_exists(t, c->owner);
	int64_t id = idgen_next(t->drive->ids);
	if (!err)
		err = insert_share(t, c, id);
	if (!err)
		err = member_insert(t, id, c->owner, ROLE_OWNER, 0);
	if (!err)
		err = change_append_share(t, CHANGE_CREATED, id, c->in->name, STR_NULL);
	if (!err)
		err = share_load(t, id, RIGHT_READ, c->out);
	return err ? err : idempotency_store(t, &hash, (struct rid){ID_SHARE, id});
}

int drive_share_create(struct ctx *ctx, const struct share_create *in, struct share *out)
{
	struct create c = {in, in->owner, out};
	if (!ctx->who)
		return E_UNAUTHENTICATED;
	if (!c.owner.n)
		c.owner = (struct rid){ID_USER, ctx->who->user_id};
	int err = text_check(ctx, in->name.p ? in->name : STR(""), in->description);
	if (err)
		return err;
	struct str type = in->share_type;
	if (!str_eq(type, STR("central")) && !str_eq(type, STR("personal")) && !str_eq(type, STR("project")))
		return ctx_invalid(ctx, "body", STR("share_type"), "enum", "Input should be 'central', 'personal' or 'project'");
	if (in->has_quota && in->quota_bytes < 0)
		return ctx_invalid(ctx, "body", STR("quota_bytes"), "greater_than_equal",
		                   "Input should be greater than or equal to 0");
	if (!(access_rights(ctx, ROLE_OWNER) & RIGHT_OWNER))
		return ctx_fail(ctx, E_FORBIDDEN, "Permission denied: the token's scopes do not allow it");
	if (!access_is_admin(ctx) && !principal_is_caller(ctx, c.owner))
		return ctx_fail(ctx, E_FORBIDDEN, "Permission denied: a share for somebody else");
	return drive_write(ctx, create_op, &c);
}

int share_create_first(struct dtx *t, const struct share_create *in, struct share *out)
{
	struct create c = {in, {ID_USER, t->ctx->who->user_id}, out};
	int err = text_check(t->ctx, in->name, in->description);
	return err ? err : create_op(t, &c);
}

/* ---- list, get ---- */

struct list {
	const struct share_list_in *in;
	int64_t limit, offset;
	struct share_list *out;
};

static const struct access_entry *entry_of(const struct access_entry *list, size_t n, int64_t share_id)
{
	for (size_t low = 0; low < n;) {
		size_t mid = low + (n - low) / 2;
		if (list[mid].share_id == share_id)
			return &list[mid];
		if (list[mid].share_id < share_id)
			low = mid + 1;
		else
			n = mid;
	}
	return NULL;
}

static int list_all(struct dtx *t, struct list *l, const struct access_entry *mine, size_t n_mine)
{
	struct share_list *out = l->out;
	AUTO_ROWS *r = NULL;
	int err = tx_i64(t->tx, "select count(*) from shares where tenant_id = $1 and (deleted_at = 0 or $2 = 1)",
	                 DB_ARGS(V_I(t->ctx->tenant_id), V_I(l->in->include_trashed)), 0, &out->total);
	if (!err)
		err = tx_query(t->tx,
		               "select " SHARE_COLUMNS " from shares where tenant_id = $1 and (deleted_at = 0 or $2 = 1)"
		               " order by id limit $3 offset $4",
		               DB_ARGS(V_I(t->ctx->tenant_id), V_I(l->in->include_trashed), V_I(l->limit), V_I(l->offset)), &r);
	if (err)
		return err;
	while ((int64_t)out->n < l->limit && rows_next(r)) {
		struct share *s = &out->items[out->n++];
		share_from_row(t->ctx->arena, r, s);
		const struct access_entry *e = entry_of(mine, n_mine, s->id);
		s->role = e ? e->role : ROLE_NONE;
		s->rights = access_rights(t->ctx, s->role);
	}
	return rows_close(&r);
}

struct fill {
	struct ctx *ctx;
	const struct access_entry *page;
	struct share *items;
};

static int fill_share(void *arg, size_t call, struct rows *r)
{
	struct fill *f = arg;
	share_from_row(f->ctx->arena, r, &f->items[call]);
	f->items[call].role = f->page[call].role;
	f->items[call].rights = access_rights(f->ctx, f->page[call].role);
	return 0;
}

static int list_mine(struct dtx *t, struct list *l, struct access_entry *mine, size_t n_mine)
{
	size_t n = 0;
	for (size_t i = 0; i < n_mine; i++)
		if (!mine[i].deleted || l->in->include_trashed)
			mine[n++] = mine[i];
	l->out->total = (int64_t)n;
	size_t from = l->offset < (int64_t)n ? (size_t)l->offset : n;
	l->out->n = n - from < (size_t)l->limit ? n - from : (size_t)l->limit;
	struct dbv *args = arena_many(t->ctx->arena, l->out->n + 1, struct dbv);
	for (size_t i = 0; i < l->out->n; i++)
		args[i] = V_I(mine[from + i].share_id);
	struct fill fill = {t->ctx, mine + from, l->out->items};
	return tx_many(t->tx, "select " SHARE_COLUMNS " from shares where id = $1", args, 1, l->out->n, fill_share, &fill);
}

static int list_op(struct dtx *t, void *arg)
{
	struct list *l = arg;
	struct access_entry *mine;
	size_t n;
	*l->out = (struct share_list){.items = arena_many(t->ctx->arena, (size_t)l->limit, struct share)};
	int err = access_shares(t, &mine, &n);
	if (err)
		return err;
	bool all = access_is_admin(t->ctx) && !l->in->mine && (access_rights(t->ctx, ROLE_NONE) & RIGHT_READ);
	return all ? list_all(t, l, mine, n) : list_mine(t, l, mine, n);
}

int drive_share_list(struct ctx *ctx, const struct share_list_in *in, struct share_list *out)
{
	struct list l = {in, in->limit > 0 && in->limit <= LIMIT_PAGE_LIST ? in->limit : 50,
	                 in->offset > 0 ? in->offset : 0, out};
	return drive_read(ctx, list_op, &l);
}

struct get {
	int64_t id;
	struct share *out;
};

static int get_op(struct dtx *t, void *arg)
{
	struct get *g = arg;
	return share_load(t, g->id, RIGHT_READ, g->out);
}

int drive_share_get(struct ctx *ctx, int64_t id, struct share *out)
{
	struct get g = {id, out};
	return drive_read(ctx, get_op, &g);
}

/* ---- patch, delete ---- */

struct patch {
	const struct share_patch *in;
	struct share *out;
};

static bool patch_merge(const struct share_patch *in, struct share *s)
{
	struct share before = *s;
	if (in->name.p)
		s->name = in->name;
	if (in->has_description)
		s->description = in->description.n ? in->description : STR_NULL;
	if (in->has_quota) {
		s->has_quota = !in->quota_none;
		s->quota_bytes = in->quota_none ? 0 : in->quota_bytes;
	}
	if (in->restore)
		s->deleted_at = 0;
	return !str_eq(before.name, s->name) || !str_eq(before.description, s->description) ||
	       !before.description.p != !s->description.p || before.has_quota != s->has_quota ||
	       before.quota_bytes != s->quota_bytes || before.deleted_at != s->deleted_at;
}

static int patch_op(struct dtx *t, void *arg)
{
	const struct share_patch *in = ((struct patch *)arg)->in;
	struct share *s = ((struct patch *)arg)->out;
	unsigned want = in->restore ? RIGHT_OWNER | SHARE_WITH_TRASH : RIGHT_MANAGE;
	int err = share_load(t, in->id, want, s);
	if (err)
		return err;
	if (in->has_quota && !access_is_admin(t->ctx))
		return ctx_fail(t->ctx, E_FORBIDDEN, "Permission denied: quotas are set by administrators of the tenant");
	bool was_deleted = s->deleted_at != 0;
	if (!patch_merge(in, s))
		return 0;
	s->modified_at = clock_now(t->ctx->clock);
	err = tx_exec(t->tx,
	              "update shares set name = $2, description = $3, quota_bytes = $4, deleted_at = $5, modified_at = $6"
	              " where id = $1",
	              DB_ARGS(V_I(s->id), V_T(s->name), V_T(s->description), s->has_quota ? V_I(s->quota_bytes) : V_NULL,
	                      V_I(s->deleted_at), V_I(s->modified_at)),
	              NULL);
	if (!err && was_deleted && !s->deleted_at)
		drive_access_changed(t, s->id, (struct rid){0});
	if (err)
		return err;
	return change_append_share(t, was_deleted && !s->deleted_at ? CHANGE_CREATED : CHANGE_UPDATED, s->id, s->name,
	                           STR_NULL);
}

int drive_share_patch(struct ctx *ctx, const struct share_patch *in, struct share *out)
{
	struct patch p = {in, out};
	int err = text_check(ctx, in->name, in->has_description ? in->description : STR_NULL);
	if (!err && in->has_quota && !in->quota_none && in->quota_bytes < 0)
		err = ctx_invalid(ctx, "body", STR("quota_bytes"), "greater_than_equal",
		                  "Input should be greater than or equal to 0");
	return err ? err : drive_write(ctx, patch_op, &p);
}

static int delete_op(struct dtx *t, void *arg)
{
	struct share s;
	int err = share_load(t, *(int64_t *)arg, RIGHT_OWNER | SHARE_WITH_TRASH, &s);
	int64_t now = clock_now(t->ctx->clock);
	if (!err && s.deleted_at)
		return 0;
	if (!err)
		err = tx_exec(t->tx, "update shares set deleted_at = $2, modified_at = $2 where id = $1",
		              DB_ARGS(V_I(s.id), V_I(now)), NULL);
	if (err)
		return err;
	drive_access_changed(t, s.id, (struct rid){0});
	return change_append_share(t, CHANGE_DELETED, s.id, s.name, STR_NULL);
}

int drive_share_delete(struct ctx *ctx, int64_t id)
{
	return drive_write(ctx, delete_op, &id);
}
