/* member: who has which role in a share, and whom one can give one to. */
#include "base/limits.h"
#include "base/name.h"
#include "drive/node_priv.h"
#include "drive/share_priv.h"

_Static_assert(ID_USER == 3 && ID_GROUP == 4, "the joins below know the numbers");

#define MEMBER_SELECT \
	"select m.principal_kind, m.principal_id, m.role, m.expires_at, m.created_by, m.created_at," \
	" coalesce(u.name, g.name), u.email from share_members m" \
	" left join users u on m.principal_kind = 3 and u.id = m.principal_id" \
	" left join user_groups g on m.principal_kind = 4 and g.id = m.principal_id "

static void member_from_row(struct arena *a, struct rows *r, int64_t share_id, struct member *m)
{
	*m = (struct member){
	    .share_id = share_id,
	    .principal = {(enum id_kind)rows_i64(r, 0), rows_i64(r, 1)},
	    .role = (enum role)rows_i64(r, 2),
	    .expires_at = rows_i64(r, 3),
	    .created_by = rows_i64(r, 4),
	    .created_at = rows_i64(r, 5),
	};
	m->name = arena_str(a, rows_text(r, 6));
	m->email = arena_str(a, rows_text(r, 7));
}

/* m->principal.n == 0: not a member. */
static int member_load(struct dtx *t, int64_t share_id, struct rid who, struct member *m)
{
	AUTO_ROWS *r = NULL;
	bool found;
	*m = (struct member){0};
	int err = tx_query_row(t->tx,
	                       MEMBER_SELECT "where m.share_id = $1 and m.principal_kind = $2 and m.principal_id = $3",
	                       DB_ARGS(V_I(share_id), V_I(who.kind), V_I(who.n)), &r, &found);
	if (!err && found)
		member_from_row(t->ctx->arena, r, share_id, m);
	return err;
}

/* ---- list ---- */

struct list {
	int64_t share_id, limit, offset;
	struct member_list *out;
};

static int list_op(struct dtx *t, void *arg)
{
	struct list *l = arg;
	struct share s;
	*l->out = (struct member_list){.items = arena_many(t->ctx->arena, (size_t)l->limit, struct member)};
	int err = share_load(t, l->share_id, RIGHT_READ, &s);
	if (!err)
		err = tx_i64(t->tx, "select count(*) from share_members where share_id = $1", DB_ARGS(V_I(l->share_id)), 0,
		             &l->out->total);
	AUTO_ROWS *r = NULL;
	if (!err)
		err = tx_query(t->tx,
		               MEMBER_SELECT "where m.share_id = $1 order by m.principal_kind, m.principal_id limit $2 offset $3",
		               DB_ARGS(V_I(l->share_id), V_I(l->limit), V_I(l->offset)), &r);
	if (err)
		return err;
	while ((int64_t)l->out->n < l->limit && rows_next(r))
		member_from_row(t->ctx->arena, r, l->share_id, &l->out->items[l->out->n++]);
	return rows_close(&r);
}

int drive_member_list(struct ctx *ctx, int64_t share_id, int64_t limit, int64_t offset, struct member_list *out)
{
	struct list l = {share_id, limit > 0 && limit <= LIMIT_PAGE_LIST ? limit : 50, offset > 0 ? offset : 0, out};
	return drive_read(ctx, list_op, &l);
}

/* ---- changes ---- */

/* Nobody gives or takes what he does not have himself. */
static int covers(struct dtx *t, const struct share *s, enum role role)
{
	unsigned missing = role_rights(role) & ~s->rights;
	if (!missing)
		return 0;
	return ctx_fail(t->ctx, E_FORBIDDEN, "Permission denied: the role %s is more than your own", role_name(role));
}

/* Somebody else must own the share, for good, before who stops to. */
static int not_last_owner(struct dtx *t, int64_t share_id, struct rid who, struct rid *other)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(t->tx,
	                       "select principal_kind, principal_id from share_members where share_id = $1 and role = 4"
	                       " and expires_at is null and not (principal_kind = $2 and principal_id = $3)"
	                       " order by principal_kind, principal_id limit 1",
	                       DB_ARGS(V_I(share_id), V_I(who.kind), V_I(who.n)), &r, &found);
	if (err)
		return err;
	if (!found)
		return ctx_fail(t->ctx, E_CONFLICT, "A share keeps at least one owner; name another one first");
	*other = (struct rid){(enum id_kind)rows_i64(r, 0), rows_i64(r, 1)};
	return 0;
}

/* who is no longer an owner for good: the share's owner_id follows. */
static int owner_leaves(struct dtx *t, const struct share *s, struct rid who)
{
	struct rid other = {0};
	int err = not_last_owner(t, s->id, who, &other);
	if (err || s->owner.kind != who.kind || s->owner.n != who.n)
		return err;
	return tx_exec(t->tx, "update shares set owner_kind = $2, owner_id = $3 where id = $1",
	               DB_ARGS(V_I(s->id), V_I(other.kind), V_I(other.n)), NULL);
}

static int members_changed(struct dtx *t, const struct share *s, struct rid who)
{
	drive_access_changed(t, s->id, who);
	return change_append_share(t, CHANGE_UPDATED, s->id, s->name, STR("members"));
}

struct add {
	const struct member_add *in;
	struct member *out;
};

static struct sha256 add_hash(const struct member_add *in)
{
	const int64_t parts[] = {in->share_id, in->principal.kind, in->principal.n, in->role, in->expires_at};
	return sha256_of(parts, sizeof parts);
}

static int add_op(struct dtx *t, void *arg)
{
	const struct member_add *in = ((struct add *)arg)->in;
	struct member *out = ((struct add *)arg)->out;
	struct sha256 hash = add_hash(in);
	struct share s;
	struct rid hit;
	int64_t count = 0;
	int err = share_load(t, in->share_id, RIGHT_MANAGE, &s);
	if (!err)
		err = idempotency_find(t, &hash, &hit);
	if (!err && hit.n) {
		err = member_load(t, s.id, hit, out);
		return err || out->principal.n ? err : access_verdict(t->ctx, 0, 0, hit);
	}
	if (!err)
		err = covers(t, &s, in->role);
	if (!err)
		err = principal_exists(t, in->principal);
	if (!err)
		err = member_load(t, s.id, in->principal, out);
	if (!err && out->principal.n)
		err = ctx_fail(t->ctx, E_CONFLICT, "Already a member of the share");
	if (!err)
		err = tx_i64(t->tx, "select count(*) from share_members where share_id = $1", DB_ARGS(V_I(s.id)), 0, &count);
	if (!err && count >= LIMIT_MEMBERS_PER_SHARE)
		err = ctx_fail(t->ctx, E_CONFLICT, "A share has at most %d members", LIMIT_MEMBERS_PER_SHARE);
	if (!err)
		err = member_insert(t, s.id, in->principal, in->role, in->expires_at);
	if (!err)
		err = change_append_share(t, CHANGE_UPDATED, s.id, s.name, STR("members"));
	if (!err)
		err = idempotency_store(t, &hash, in->principal);
	return err ? err : member_load(t, s.id, in->principal, out);
}

static int expiry_check(struct ctx *ctx, int64_t expires_at)
{
	if (!expires_at || expires_at > clock_now(ctx->clock))
		return 0;
	return ctx_invalid(ctx, "body", STR("expires_at"), "value_error", "expires_at lies in the past");
}

int drive_member_add(struct ctx *ctx, const struct member_add *in, struct member *out)
{
	struct add a = {in, out};
	if (in->role < ROLE_READER || in->role > ROLE_OWNER)
		return ctx_invalid(ctx, "body", STR("role"), "enum", "Input should be 'owner', 'admin', 'contributor' or 'reader'");
	int err = expiry_check(ctx, in->expires_at);
	return err ? err : drive_write(ctx, add_op, &a);
}

struct patch {
	const struct member_patch *in;
	struct member *out;
};

static int patch_op(struct dtx *t, void *arg)
{
	const struct member_patch *in = ((struct patch *)arg)->in;
	struct member *m = ((struct patch *)arg)->out;
	struct share s;
	int err = share_load(t, in->share_id, RIGHT_MANAGE, &s);
	if (!err)
		err = member_load(t, s.id, in->principal, m);
	if (!err && !m->principal.n)
		err = access_verdict(t->ctx, 0, 0, in->principal);
	if (err)
		return err;
	enum role role = in->role ? in->role : m->role;
	int64_t expires_at = in->has_expires ? in->expires_at : m->expires_at;
	if (role == m->role && expires_at == m->expires_at)
		return 0;
	err = covers(t, &s, m->role > role ? m->role : role);
	if (!err && m->role == ROLE_OWNER && !m->expires_at && (role != ROLE_OWNER || expires_at))
		err = owner_leaves(t, &s, in->principal);
	if (!err)
		err = tx_exec(t->tx,
		              "update share_members set role = $4, expires_at = $5"
		              " where share_id = $1 and principal_kind = $2 and principal_id = $3",
		              DB_ARGS(V_I(s.id), V_I(in->principal.kind), V_I(in->principal.n), V_I(role), V_ID(expires_at)),
		              NULL);
	m->role = role;
	m->expires_at = expires_at;
	return err ? err : members_changed(t, &s, in->principal);
}

int drive_member_patch(struct ctx *ctx, const struct member_patch *in, struct member *out)
{
	struct patch p = {in, out};
	if (in->role > ROLE_OWNER)
		return ctx_invalid(ctx, "body", STR("role"), "enum", "Input should be 'owner', 'admin', 'contributor' or 'reader'");
	int err = in->has_expires ? expiry_check(ctx, in->expires_at) : 0;
	return err ? err : drive_write(ctx, patch_op, &p);
}

struct removal {
	int64_t share_id;
	struct rid who;
};

static int remove_op(struct dtx *t, void *arg)
{
	struct removal *rm = arg;
	struct share s;
	struct member m;
	bool self = rm->who.kind == ID_USER && principal_is_caller(t->ctx, rm->who);
	int err = share_load(t, rm->share_id, self ? RIGHT_READ : RIGHT_MANAGE, &s);
	if (!err && !(access_rights(t->ctx, ROLE_OWNER) & RIGHT_OWNER)) /* leaving takes no right, yet it is a write */
		err = ctx_fail(t->ctx, E_FORBIDDEN, "Permission denied: the token's scopes do not allow it");
	if (!err)
		err = member_load(t, s.id, rm->who, &m);
	if (!err && !m.principal.n)
		err = access_verdict(t->ctx, 0, 0, rm->who);
	if (!err && !self)
		err = covers(t, &s, m.role);
	if (!err && m.role == ROLE_OWNER && !m.expires_at)
		err = owner_leaves(t, &s, rm->who);
	if (!err)
		err = tx_exec(t->tx, "delete from share_members where share_id = $1 and principal_kind = $2 and principal_id = $3",
		              DB_ARGS(V_I(s.id), V_I(rm->who.kind), V_I(rm->who.n)), NULL);
	return err ? err : members_changed(t, &s, rm->who);
}

int drive_member_remove(struct ctx *ctx, int64_t share_id, struct rid principal)
{
	struct removal rm = {share_id, principal};
	return drive_write(ctx, remove_op, &rm);
}

/* ---- search ---- */

struct search {
	const struct principal_search_in *in;
	int64_t limit;
	struct principal_search *out;
};

/* The query as a like-pattern in ASCII lower case. The engines fold the rest, each as it folds the column. */
static struct str like_pattern(struct arena *a, struct str query, const char *before)
{
	struct buf b = {0};
	buf_str(&b, str_c(before));
	for (size_t i = 0; i < query.n; i++) {
		char c = query.p[i];
		if (c == '%' || c == '_' || c == '!')
			buf_char(&b, '!');
		buf_char(&b, c >= 'A' && c <= 'Z' ? (char)(c + 32) : c);
	}
	buf_char(&b, '%');
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

static void hits(struct dtx *t, struct rows *r, enum id_kind kind, int64_t limit, struct principal_hit **out, size_t *n)
{
	*out = arena_many(t->ctx->arena, (size_t)limit, struct principal_hit);
	while ((int64_t)*n < limit && rows_next(r)) {
		struct principal_hit *h = &(*out)[(*n)++];
		h->id = (struct rid){kind, rows_i64(r, 0)};
		h->name = arena_str(t->ctx->arena, rows_text(r, 1));
		h->email = kind == ID_USER ? arena_str(t->ctx->arena, rows_text(r, 2)) : STR_NULL;
	}
}

static int search_op(struct dtx *t, void *arg)
{
	struct search *s = arg;
	struct str start = like_pattern(t->ctx->arena, s->in->query, "");
	struct str word = like_pattern(t->ctx->arena, s->in->query, "% ");
	struct str address = like_pattern(t->ctx->arena, name_key(t->ctx->arena, s->in->query), "");
	int err = 0;
	*s->out = (struct principal_search){0};
	if (s->in->users) {
		AUTO_ROWS *r = NULL;
		err = tx_query(t->tx,
		               "select id, name, email from users where tenant_id = $1 and status = 'active' and"
		               " (lower(name) like lower($2) escape '!' or lower(name) like lower($3) escape '!'"
		               " or email_key like $5 escape '!') order by id limit $4",
		               DB_ARGS(V_I(t->ctx->tenant_id), V_T(start), V_T(word), V_I(s->limit), V_T(address)), &r);
		if (!err)
			hits(t, r, ID_USER, s->limit, &s->out->users, &s->out->n_users);
		if (!err)
			err = rows_close(&r);
	}
	if (!err && s->in->groups) {
		AUTO_ROWS *r = NULL;
		err = tx_query(t->tx,
		               "select id, name from user_groups where tenant_id = $1 and"
		               " (lower(name) like lower($2) escape '!' or lower(name) like lower($3) escape '!') order by id limit $4",
		               DB_ARGS(V_I(t->ctx->tenant_id), V_T(start), V_T(word), V_I(s->limit)), &r);
		if (!err)
			hits(t, r, ID_GROUP, s->limit, &s->out->groups, &s->out->n_groups);
		if (!err)
			err = rows_close(&r);
	}
	return err;
}

int drive_principal_search(struct ctx *ctx, const struct principal_search_in *in, struct principal_search *out)
{
	struct search s = {in, in->limit > 0 && in->limit <= 50 ? in->limit : 20, out};
	if (!in->query.n || in->query.n > LIMIT_NAME_BYTES)
		return ctx_invalid(ctx, "query", STR("q"), "string_too_short", "q must have 1 to %d bytes", LIMIT_NAME_BYTES);
	return drive_read(ctx, search_op, &s);
}
