#include "drive/access.h"

#include <stdlib.h>

#include "base/map.h"

unsigned role_rights(enum role role)
{
	switch (role) {
	case ROLE_OWNER:
		return RIGHT_ALL | RIGHT_OWNER;
	case ROLE_ADMIN:
		return RIGHT_ALL;
	case ROLE_CONTRIBUTOR:
		return RIGHT_READ | RIGHT_WRITE | RIGHT_DELETE | RIGHT_CREATE;
	case ROLE_READER:
		return RIGHT_READ;
	case ROLE_NONE:
		break;
	}
	return 0;
}

bool access_is_admin(const struct ctx *ctx)
{
	return ctx->who && ctx->who->admin != ADMIN_NONE && ctx->who->tenant_id == ctx->tenant_id &&
	       (ctx->who->scopes & (SCOPE_TENANT_ADMIN | SCOPE_PARTNER_ADMIN));
}

void access_forget(struct dtx *t)
{
	t->rights_share_id = 0;
	t->folder = NULL;
}

bool access_same_principal(const struct ctx *a, const struct ctx *b)
{
	const struct principal *x = a->who, *y = b->who;
	if (!x || !y)
		return x == y;
	return x->tenant_id == y->tenant_id && x->user_id == y->user_id && x->admin == y->admin && x->scopes == y->scopes &&
	       x->n_groups == y->n_groups &&
	       (!x->n_groups || memcmp(x->groups, y->groups, x->n_groups * sizeof *x->groups) == 0);
}

/* What the token's scopes leave of the rights. */
static unsigned cap(const struct principal *who, unsigned rights)
{
	unsigned allowed = 0;
	if (who->scopes & SCOPE_FILES_READ)
		allowed |= RIGHT_READ;
	if (who->scopes & SCOPE_FILES_WRITE)
		allowed |= (RIGHT_ALL | RIGHT_OWNER) & ~(unsigned)RIGHT_READ;
	if (who->scopes & (SCOPE_TENANT_ADMIN | SCOPE_PARTNER_ADMIN))
		allowed |= RIGHT_ALL | RIGHT_OWNER;
	return rights & allowed;
}

unsigned access_rights(const struct ctx *ctx, enum role role)
{
	if (!ctx->who || ctx->who->tenant_id != ctx->tenant_id)
		return 0;
	return cap(ctx->who, access_is_admin(ctx) ? RIGHT_ALL | RIGHT_OWNER : role_rights(role));
}

static void better_role(enum role *role, int64_t found)
{
	if (found > (int64_t)*role && found <= ROLE_OWNER)
		*role = (enum role)found;
}

static int best_role(void *arg, size_t call, struct rows *r)
{
	(void)call;
	better_role(arg, rows_i64(r, 0));
	return 0;
}

int access_share(struct dtx *t, int64_t share_id, unsigned *rights, enum role *role)
{
	const struct principal *who = t->ctx->who;
	enum role best = ROLE_NONE;
	*rights = 0;
	if (role)
		*role = ROLE_NONE;
	if (!who || who->tenant_id != t->ctx->tenant_id)
		return 0;
	if (t->rights_share_id == share_id) {
		*rights = t->rights;
		if (role)
			*role = (enum role)t->role;
		return 0;
	}
	size_t n = 1 + who->n_groups;
	struct dbv few[4 * 8], *args = n <= 8 ? few : arena_many(t->ctx->arena, n * 4, struct dbv);
	int64_t now = clock_now(t->ctx->clock);
	for (size_t i = 0; i < n; i++) {
		args[i * 4] = V_I(share_id);
		args[i * 4 + 1] = V_I(i ? ID_GROUP : ID_USER);
		args[i * 4 + 2] = V_I(i ? who->groups[i - 1] : who->user_id);
		args[i * 4 + 3] = V_I(now);
	}
	int err = tx_many(t->tx,
	                  "select role from share_members where share_id = $1 and principal_kind = $2 and principal_id = $3"
	                  " and (expires_at is null or expires_at > $4)",
	                  args, 4, n, best_role, &best);
	if (err)
		return err;
	t->rights_share_id = share_id;
	t->rights = *rights = access_rights(t->ctx, best);
	t->role = best;
	if (role)
		*role = best;
	return 0;
}

struct gather {
	struct arena *arena;
	struct map map;
};

static int gather_share(void *arg, size_t call, struct rows *r)
{
	(void)call;
	struct gather *g = arg;
	uint64_t id = (uint64_t)rows_i64(r, 0);
	struct access_entry *e = map_get(&g->map, id);
	if (!e) {
		e = arena_new(g->arena, struct access_entry);
		e->share_id = (int64_t)id;
		e->deleted = rows_i64(r, 2) != 0;
		map_put(&g->map, id, e);
	}
	better_role(&e->role, rows_i64(r, 1));
	return 0;
}

static int by_share(const void *a, const void *b)
{
	int64_t x = ((const struct access_entry *)a)->share_id, y = ((const struct access_entry *)b)->share_id;
	return x < y ? -1 : x > y;
}

int access_shares(struct dtx *t, struct access_entry **out, size_t *n_out)
{
	const struct principal *who = t->ctx->who;
	*out = NULL;
	*n_out = 0;
	if (!who || !cap(who, RIGHT_READ))
		return 0;
	struct gather g = {.arena = t->ctx->arena};
	size_t n = 1 + who->n_groups;
	struct dbv *args = arena_many(g.arena, n * 4, struct dbv);
	for (size_t i = 0; i < n; i++) {
		args[i * 4] = V_I(i ? ID_GROUP : ID_USER);
		args[i * 4 + 1] = V_I(i ? who->groups[i - 1] : who->user_id);
		args[i * 4 + 2] = V_I(t->ctx->tenant_id);
		args[i * 4 + 3] = V_I(clock_now(t->ctx->clock));
	}
	int err = tx_many(t->tx,
	                  "select m.share_id, m.role, s.deleted_at from share_members m join shares s on s.id = m.share_id"
	                  " where m.principal_kind = $1 and m.principal_id = $2 and s.tenant_id = $3"
	                  " and (m.expires_at is null or m.expires_at > $4)",
	                  args, 4, n, gather_share, &g);
	if (!err) {
		*out = arena_many(g.arena, g.map.count, struct access_entry);
		void *value;
		uint64_t key;
		for (size_t i = 0; map_next(&g.map, &i, &key, &value);)
			(*out)[(*n_out)++] = *(struct access_entry *)value;
		if (*n_out)
			qsort(*out, *n_out, sizeof **out, by_share);
	}
	map_fini(&g.map);
	return err;
}

struct str right_names(struct arena *a, unsigned rights)
{
	static const char *const names[] = {"READ", "WRITE", "DELETE", "CREATE", "SHARE", "MANAGE_PERMISSIONS", "OWNER"};
	struct buf b = {0};
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (rights & 1U << i) {
			if (b.n)
				buf_char(&b, '|');
			buf_str(&b, str_c(names[i]));
		}
	struct str s = arena_str(a, buf_as_str(&b));
	buf_fini(&b);
	return s;
}

int access_verdict(struct ctx *ctx, unsigned have, unsigned want, struct rid what)
{
	char id[ID_WIRE_MAX + 1];
	id_format(id, what.kind, what.n);
	if (!(have & RIGHT_READ))
		return ctx_fail(ctx, E_NOT_FOUND, "Not found: %s", id);
	unsigned missing = want & ~have & (RIGHT_ALL | RIGHT_OWNER);
	if (missing)
		return ctx_fail(ctx, E_FORBIDDEN, "Permission denied: %.*s on %s",
		                STR_ARG(right_names(ctx->arena, missing)), id);
	return 0;
}
