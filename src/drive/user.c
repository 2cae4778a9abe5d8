#include "drive/user.h"

#include <arpa/inet.h>

#include "base/log.h"
#include "base/name.h"
#include "drive/password.h"

enum { EMAIL_MAX_BYTES = 320, NAME_MAX_BYTES = 255, GROUPS_MAX = 10000 };

static _Atomic uint64_t epoch;

uint64_t user_epoch(void)
{
	return atomic_load_explicit(&epoch, memory_order_acquire);
}

static enum admin_role admin_parse(struct str s)
{
	if (str_eq(s, STR("super_admin")))
		return ADMIN_SUPER;
	return str_eq(s, STR("tenant_admin")) ? ADMIN_TENANT : ADMIN_NONE;
}

static struct str admin_text(enum admin_role role)
{
	return role == ADMIN_SUPER ? STR("super_admin") : role == ADMIN_TENANT ? STR("tenant_admin") : STR_NULL;
}

static bool plain_text(struct str s, size_t max)
{
	if (s.n == 0 || s.n > max || !str_is_utf8(s))
		return false;
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	return true;
}

static bool email_valid(struct str s)
{
	ptrdiff_t at = str_rchr(s, '@');
	return plain_text(s, EMAIL_MAX_BYTES) && at > 0 && (size_t)at + 1 < s.n && str_chr(s, ' ') < 0;
}

#define USER_COLUMNS \
	"select u.id, u.tenant_id, u.email, u.name, u.status, u.admin_role, u.created_at, u.last_login_at, t.name," \
	" u.password_hash, u.gen from "

static struct user user_row(struct arena *a, struct rows *r)
{
	return (struct user){
	    .id = rows_i64(r, 0),
	    .tenant_id = rows_i64(r, 1),
	    .email = arena_str(a, rows_text(r, 2)),
	    .name = arena_str(a, rows_text(r, 3)),
	    .status = arena_str(a, rows_text(r, 4)),
	    .admin = admin_parse(rows_text(r, 5)),
	    .created_at = rows_i64(r, 6),
	    .last_login_at = rows_i64(r, 7),
	    .tenant_name = arena_str(a, rows_text(r, 8)),
	    .gen = rows_i64(r, 10),
	};
}

int user_prepare(struct ctx *ctx, const struct user_new *in, struct user_draft *out)
{
	*out = (struct user_draft){.in = in, .hash = STR_NULL, .name = in->name};
	if (!email_valid(in->email))
		return ctx_invalid(ctx, "body", STR("email"), "value_error", "This is not an e-mail address");
	if (out->name.n == 0)
		out->name = str_head(in->email, (size_t)str_rchr(in->email, '@'));
	if (!plain_text(out->name, NAME_MAX_BYTES))
		return ctx_invalid(ctx, "body", STR("name"), "value_error", "A name has 1 to %d bytes and no control characters",
		                   NAME_MAX_BYTES);
	return in->password.p ? password_hash(ctx, in->password, &out->hash) : 0;
}

int user_insert(struct tx *tx, struct ctx *ctx, const struct user_draft *draft, struct user *out)
{
	const struct user_new *in = draft->in;
	int64_t now = clock_now(ctx->clock), id = idgen_next(ctx->drive->ids), there = 0;
	int err = tx_i64(tx, "select count(*) from tenants where id = $1", DB_ARGS(V_I(in->tenant_id)), 0, &there);
	if (!err && !there)
		err = ctx_fail(ctx, E_NOT_FOUND, "There is no such tenant.");
	struct str key = name_key(ctx->arena, in->email);
	if (!err)
		err = tx_i64(tx, "select count(*) from users where tenant_id = $1 and email_key = $2",
		             DB_ARGS(V_I(in->tenant_id), V_T(key)), 0, &there);
	if (!err && there)
		err = ctx_fail(ctx, E_CONFLICT, "A user with the address %.*s exists.", STR_ARG(in->email));
	if (!err)
		err = tx_exec(tx,
		              "insert into users (id, tenant_id, email, email_key, name, status, admin_role, password_hash,"
		              " created_at) values ($1, $2, $3, $4, $5, 'active', $6, $7, $8)",
		              DB_ARGS(V_I(id), V_I(in->tenant_id), V_T(in->email), V_T(key), V_T(draft->name),
		                      V_T(admin_text(in->admin)), V_T(draft->hash), V_I(now)),
		              NULL);
	*out = (struct user){.id = id, .tenant_id = in->tenant_id, .email = in->email, .name = draft->name,
	                     .status = STR("active"), .admin = in->admin, .created_at = now};
	return err;
}

struct add {
	struct ctx *ctx;
	const struct user_draft *draft;
	struct user *out;
};

static int add_op(struct tx *tx, void *arg)
{
	struct add *a = arg;
	return user_insert(tx, a->ctx, a->draft, a->out);
}

int user_add(struct ctx *ctx, const struct user_new *in, struct user *out)
{
	struct user_draft draft;
	struct add a = {.ctx = ctx, .draft = &draft, .out = out};
	int err = user_prepare(ctx, in, &draft);
	return err ? err : db_write(ctx->drive->db, in->tenant_id, add_op, &a);
}

struct find {
	struct ctx *ctx;
	int64_t tenant_id;
	struct str email, hash;
	struct user *out;
	int found;
};

static int find_op(struct tx *tx, void *arg)
{
	struct find *f = arg;
	struct rid id;
	AUTO_ROWS *r = NULL;
	int err;
	f->found = 0;
	if (id_parse(f->email, &id) && id.kind == ID_USER)
		err = tx_query(tx, USER_COLUMNS "users u join tenants t on t.id = u.tenant_id where u.id = $1",
		               DB_ARGS(V_I(id.n)), &r);
	else /* tenants first: the index on users is by tenant and address */
		err = tx_query(tx,
		               USER_COLUMNS "tenants t cross join users u where u.tenant_id = t.id and u.email_key = $1",
		               DB_ARGS(V_T(name_key(f->ctx->arena, f->email))), &r);
	while (!err && rows_next(r)) {
		if (f->tenant_id && rows_i64(r, 1) != f->tenant_id)
			continue;
		if (f->found++ == 0) {
			*f->out = user_row(f->ctx->arena, r);
			f->hash = arena_str(f->ctx->arena, rows_text(r, 9));
		}
	}
	return err ? err : rows_close(&r);
}

int user_find(struct ctx *ctx, int64_t tenant_id, struct str email_or_id, struct user *out)
{
	struct find f = {.ctx = ctx, .tenant_id = tenant_id, .email = email_or_id, .out = out};
	if (!str_is_utf8(email_or_id))
		return ctx_fail(ctx, E_NOT_FOUND, "There is no such user.");
	int err = db_read(ctx->drive->db, find_op, &f);
	if (err)
		return err;
	if (f.found == 0)
		return ctx_fail(ctx, E_NOT_FOUND, "There is no user %.*s.", STR_ARG(email_or_id));
	if (f.found > 1)
		return ctx_fail(ctx, E_CONFLICT, "Several tenants know %.*s; name the tenant.", STR_ARG(email_or_id));
	return 0;
}

struct list {
	struct ctx *ctx;
	int64_t tenant_id;
	struct user_list *out;
};

static int list_op(struct tx *tx, void *arg)
{
	struct list *l = arg;
	int64_t total;
	size_t n = 0;
	AUTO_ROWS *r = NULL;
	int err = tx_i64(tx, "select count(*) from users where tenant_id = $1 or $1 = 0", DB_ARGS(V_I(l->tenant_id)), 0, &total);
	if (!err)
		err = tx_query(tx,
		               USER_COLUMNS "users u join tenants t on t.id = u.tenant_id where u.tenant_id = $1 or $1 = 0"
		                            " order by t.name, u.email_key",
		               DB_ARGS(V_I(l->tenant_id)), &r);
	if (err)
		return err;
	struct user *items = arena_many(l->ctx->arena, (size_t)total, struct user);
	while (rows_next(r) && n < (size_t)total)
		items[n++] = user_row(l->ctx->arena, r);
	*l->out = (struct user_list){items, n};
	return rows_close(&r);
}

int user_list(struct ctx *ctx, int64_t tenant_id, struct user_list *out)
{
	struct list l = {ctx, tenant_id, out};
	return db_read(ctx->drive->db, list_op, &l);
}

struct set {
	const struct user *u;
	const char *sql;
	struct str value;
};

static int set_op(struct tx *tx, void *arg)
{
	struct set *s = arg;
	int64_t n = 0;
	int err = tx_exec(tx, s->sql, DB_ARGS(V_T(s->value), V_I(s->u->id)), &n);
	return err ? err : n ? 0 : E_NOT_FOUND;
}

static int set(struct ctx *ctx, const struct user *u, const char *sql, struct str value)
{
	struct set s = {u, sql, value};
	int err = db_write(ctx->drive->db, u->tenant_id, set_op, &s);
	atomic_fetch_add_explicit(&epoch, 1, memory_order_release);
	return err;
}

int user_set_status(struct ctx *ctx, const struct user *u, struct str status)
{
	static const char *const known[] = {"active", "pending", "suspended", "inactive", "deleted"};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (str_eq(str_c(known[i]), status))
			return set(ctx, u, "update users set status = $1, gen = gen + 1 where id = $2", status);
	return ctx_invalid(ctx, "body", STR("status"), "enum", "This is not a state of a user");
}

int user_set_password(struct ctx *ctx, const struct user *u, struct str password)
{
	struct str hash;
	int err = password_hash(ctx, password, &hash);
	return err ? err : set(ctx, u, "update users set password_hash = $1, gen = gen + 1 where id = $2", hash);
}

/* ---- signing in ---- */

struct attempt {
	struct ctx *ctx;
	int64_t window_us, now;
	struct sha256 keys[3]; /* account and address, account, address */
	int64_t most[3];
	int64_t refused_until; /* 0: not refused */
	int64_t user_id;       /* of a success */
};

static struct sha256 attempt_key(struct ctx *ctx, const char *kind, struct str a, struct str b)
{
	/* A zero byte cannot occur in either, so the parts cannot run together. */
	struct str s = arena_fmt(ctx->arena, "%s%c%.*s%c%.*s", kind, 0, STR_ARG(a), 0, STR_ARG(b));
	return sha256_of(s.p, s.n);
}

/* One person has a whole /64 of IPv6 addresses. */
static struct str peer_network(struct ctx *ctx, struct str peer)
{
	struct in6_addr v6;
	char text[INET6_ADDRSTRLEN];
	if (inet_pton(AF_INET6, arena_cstr(ctx->arena, peer), &v6) != 1 || IN6_IS_ADDR_V4MAPPED(&v6))
		return peer;
	memset(v6.s6_addr + 8, 0, 8);
	return arena_str(ctx->arena, str_c(inet_ntop(AF_INET6, &v6, text, sizeof text) ? text : "::"));
}

/* Counted before the password is looked at, so that parallel guesses count too. */
static int attempt_op(struct tx *tx, void *arg)
{
	struct attempt *a = arg;
	a->refused_until = 0;
	int err = tx_exec(tx, "delete from login_attempts where window_end <= $1", DB_ARGS(V_I(a->now)), NULL);
	for (int i = 0; i < 3 && !err; i++) {
		int64_t end;
		err = tx_i64(tx, "select window_end from login_attempts where key = $1 and attempts >= $2",
		             DB_ARGS(V_B(str_n(a->keys[i].b, 32)), V_I(a->most[i])), 0, &end);
		if (!err && end > a->refused_until)
			a->refused_until = end;
	}
	for (int i = 0; i < 3 && !err && !a->refused_until; i++)
		err = tx_exec(tx,
		              "insert into login_attempts (key, attempts, window_end) values ($1, 1, $2)"
		              " on conflict (key) do update set attempts = login_attempts.attempts + 1",
		              DB_ARGS(V_B(str_n(a->keys[i].b, 32)), V_I(a->now + a->window_us)), NULL);
	return err;
}

/* A success forgets the failures of the account; those of the address stay, less this one. */
static int success_op(struct tx *tx, void *arg)
{
	struct attempt *a = arg;
	int err = tx_exec(tx, "delete from login_attempts where key = $1 or key = $2",
	                  DB_ARGS(V_B(str_n(a->keys[0].b, 32)), V_B(str_n(a->keys[1].b, 32))), NULL);
	if (!err)
		err = tx_exec(tx, "update login_attempts set attempts = attempts - 1 where key = $1 and attempts > 0",
		              DB_ARGS(V_B(str_n(a->keys[2].b, 32))), NULL);
	if (!err)
		err = tx_exec(tx, "update users set last_login_at = $1 where id = $2", DB_ARGS(V_I(a->now), V_I(a->user_id)), NULL);
	return err;
}

static int login_in_place(struct ctx *ctx, struct attempt *a, struct str email, struct str password, struct user *out)
{
	int err = db_write(ctx->drive->db, 0, attempt_op, a);
	if (err)
		return err;
	if (a->refused_until) {
		log_warn("sign-in refused: too many attempts", LOG_S("request_id", ctx->request_id));
		ctx_retry_after(ctx, a->refused_until - a->now);
		return ctx_fail(ctx, E_RATE_LIMITED, "Too many failed sign-ins; try again later.");
	}
	struct find f = {.ctx = ctx, .email = email, .hash = STR_NULL, .out = out};
	err = db_read(ctx->drive->db, find_op, &f);
	if (err)
		return err;
	if (!password_matches(f.found == 1 ? f.hash : STR_NULL, password))
		return E_LOGIN_FAILED;
	if (!str_eq(out->status, STR("active")))
		return ctx_fail(ctx, E_SUSPENDED, "This account is %.*s.", STR_ARG(out->status));
	a->user_id = out->id;
	return db_write(ctx->drive->db, 0, success_op, a);
}

int user_login(struct ctx *ctx, const struct login_limits *limits, struct str email, struct str password, struct str peer,
               struct user *out)
{
	struct attempt a = {
	    .ctx = ctx,
	    .window_us = SECONDS_US(limits->window_s),
	    .now = clock_now(ctx->clock),
	    .most = {limits->attempts, limits->attempts * 2, limits->attempts * 10},
	};
	if (!email_valid(email) || password.n > PASSWORD_MAX_BYTES)
		return E_LOGIN_FAILED;
	struct str account = name_key(ctx->arena, email), network = peer_network(ctx, peer);
	a.keys[0] = attempt_key(ctx, "pair", account, network);
	a.keys[1] = attempt_key(ctx, "account", account, STR(""));
	a.keys[2] = attempt_key(ctx, "address", network, STR(""));
	int err = password_enter();
	if (err)
		return ctx_fail(ctx, err, "Too many sign-ins at once; try again shortly.");
	err = login_in_place(ctx, &a, email, password, out);
	password_leave();
	return err;
}

/* ---- principals ---- */

struct load {
	struct ctx *ctx;
	int64_t tenant_id, user_id;
	struct principal *out;
};

static int load_groups(struct tx *tx, struct load *l)
{
	struct principal *p = l->out;
	size_t cap = 0;
	AUTO_ROWS *r = NULL;
	int err = tx_query(tx, "select group_id from user_group_members where user_id = $1 order by group_id",
	                   DB_ARGS(V_I(l->user_id)), &r);
	p->groups = NULL;
	p->n_groups = 0;
	while (!err && p->n_groups < GROUPS_MAX && rows_next(r)) {
		if (p->n_groups == cap) {
			int64_t *more = arena_many(l->ctx->arena, cap ? cap * 4 : 8, int64_t);
			if (cap)
				memcpy(more, p->groups, cap * sizeof *more);
			p->groups = more;
			cap = cap ? cap * 4 : 8;
		}
		p->groups[p->n_groups++] = rows_i64(r, 0);
	}
	return err ? err : rows_close(&r);
}

static int load_op(struct tx *tx, void *arg)
{
	struct load *l = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx,
	                       "select u.tenant_id, u.email, u.name, u.status, u.admin_role, t.status from users u"
	                       " join tenants t on t.id = u.tenant_id where u.id = $1",
	                       DB_ARGS(V_I(l->user_id)), &r, &found);
	if (err)
		return err;
	if (!found || rows_i64(r, 0) != l->tenant_id || str_eq(rows_text(r, 3), STR("deleted")))
		return E_UNAUTHENTICATED;
	if (!str_eq(rows_text(r, 3), STR("active")) || !str_eq(rows_text(r, 5), STR("active")))
		return E_SUSPENDED;
	l->out->tenant_id = l->tenant_id;
	l->out->user_id = l->user_id;
	l->out->email = arena_str(l->ctx->arena, rows_text(r, 1));
	l->out->name = arena_str(l->ctx->arena, rows_text(r, 2));
	l->out->admin = admin_parse(rows_text(r, 4));
	err = rows_close(&r);
	return err ? err : load_groups(tx, l);
}

int principal_load(struct ctx *ctx, int64_t tenant_id, int64_t user_id, struct principal *out)
{
	struct load l = {ctx, tenant_id, user_id, out};
	return db_read(ctx->drive->db, load_op, &l);
}
