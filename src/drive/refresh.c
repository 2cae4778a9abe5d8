#include "drive/refresh.h"

#include "base/hash.h"
#include "base/log.h"

#define PREFIX "sdr_"

enum { NAME_BYTES = 16, SECRET_BYTES = 32, PREFIX_BYTES = sizeof PREFIX - 1 };

struct text {
	uint8_t name[NAME_BYTES], secret[SECRET_BYTES];
};

static struct str text_put(struct arena *a, const struct text *t)
{
	enum { N = PREFIX_BYTES + 2 * (NAME_BYTES + SECRET_BYTES) };
	char *p = arena_alloc(a, N);
	memcpy(p, PREFIX, PREFIX_BYTES);
	hex_encode(t->name, NAME_BYTES, p + PREFIX_BYTES);
	hex_encode(t->secret, SECRET_BYTES, p + PREFIX_BYTES + 2 * NAME_BYTES);
	return str_n(p, N);
}

static bool text_read(struct str s, struct text *out)
{
	if (s.n != PREFIX_BYTES + 2 * (NAME_BYTES + SECRET_BYTES) || !str_starts(s, STR(PREFIX)))
		return false;
	return str_unhex(str_n(s.p + PREFIX_BYTES, 2 * NAME_BYTES), out->name, NAME_BYTES) &&
	       str_unhex(str_n(s.p + PREFIX_BYTES + 2 * NAME_BYTES, 2 * SECRET_BYTES), out->secret, SECRET_BYTES);
}

#define BLOB(hash) V_B(str_n((const char *)(hash).b, 32))

/* ---- beginning ---- */

struct begin {
	const struct user *user;
	struct sha256 name, current;
	struct str device_id;
	int64_t now, expires_at;
};

static int begin_op(struct tx *tx, void *arg)
{
	struct begin *b = arg;
	const struct user *u = b->user;
	int err = tx_exec(tx,
	                  "delete from refresh_families where name in (select name from refresh_families where user_id = $1"
	                  " order by used_at desc, name limit 1000 offset $2)",
	                  DB_ARGS(V_I(u->id), V_I(REFRESH_FAMILIES_PER_USER - 1)), NULL);
	if (err)
		return err;
	return tx_exec(tx,
	               "insert into refresh_families (name, tenant_id, user_id, user_gen, device_id, current, created_at,"
	               " used_at, expires_at) values ($1, $2, $3, $4, $5, $6, $7, $7, $8)",
	               DB_ARGS(BLOB(b->name), V_I(u->tenant_id), V_I(u->id), V_I(u->gen), V_T(b->device_id),
	                       BLOB(b->current), V_I(b->now), V_I(b->expires_at)),
	               NULL);
}

int refresh_begin(struct ctx *ctx, const struct user *u, struct str device_id, int64_t ttl_s, struct str *token)
{
	struct text text;
	ctx->rng->fill(ctx->rng, &text, sizeof text);
	int64_t now = clock_now(ctx->clock);
	struct begin b = {
	    .user = u,
	    .name = sha256_of(text.name, NAME_BYTES),
	    .current = sha256_of(text.secret, SECRET_BYTES),
	    .device_id = device_id,
	    .now = now,
	    .expires_at = now + SECONDS_US(ttl_s),
	};
	int err = db_write(ctx->drive->db, u->tenant_id, begin_op, &b);
	if (!err)
		*token = text_put(ctx->arena, &text);
	explicit_bzero(&text, sizeof text);
	return err;
}

/* ---- using ---- */

enum verdict { UNKNOWN, EXPIRED, STALE, REUSED, SUSPENDED, ROTATED };

struct use {
	struct sha256 name, secret, next;
	int64_t now, expires_at;
	enum verdict verdict;
	int64_t tenant_id, user_id;
};

static bool is(struct rows *r, int col, const struct sha256 *hash)
{
	struct str s = rows_blob(r, col);
	return s.n == 32 && memcmp(s.p, hash->b, 32) == 0;
}

/* The family's row is locked by the update before it (D20). */
static int look(struct tx *tx, struct use *u, bool *again)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx,
	                       "select f.tenant_id, f.user_id, f.user_gen, f.expires_at, f.current, f.sibling, f.previous,"
	                       " u.gen, u.status, t.status from refresh_families f join users u on u.id = f.user_id"
	                       " join tenants t on t.id = f.tenant_id where f.name = $1",
	                       DB_ARGS(BLOB(u->name)), &r, &found);
	if (err)
		return err;
	u->verdict = UNKNOWN;
	if (!found)
		return rows_close(&r);
	u->tenant_id = rows_i64(r, 0);
	u->user_id = rows_i64(r, 1);
	*again = is(r, 6, &u->secret);
	bool active = str_eq(rows_text(r, 8), STR("active")) && str_eq(rows_text(r, 9), STR("active"));
	if (rows_i64(r, 3) <= u->now)
		u->verdict = EXPIRED;
	else if (!*again && !is(r, 4, &u->secret) && !is(r, 5, &u->secret))
		u->verdict = REUSED;
	else if (!active)
		u->verdict = SUSPENDED;
	else
		u->verdict = rows_i64(r, 2) == rows_i64(r, 7) ? ROTATED : STALE;
	return rows_close(&r);
}

static int use_op(struct tx *tx, void *arg)
{
	struct use *u = arg;
	bool again = false;
	int err = tx_exec(tx, "update refresh_families set used_at = $2 where name = $1", DB_ARGS(BLOB(u->name), V_I(u->now)),
	                  NULL);
	if (!err)
		err = look(tx, u, &again);
	if (err || u->verdict == UNKNOWN || u->verdict == SUSPENDED)
		return err;
	if (u->verdict != ROTATED)
		return tx_exec(tx, "delete from refresh_families where name = $1", DB_ARGS(BLOB(u->name)), NULL);
	if (again)
		return tx_exec(tx, "update refresh_families set sibling = current, current = $2, expires_at = $3 where name = $1",
		               DB_ARGS(BLOB(u->name), BLOB(u->next), V_I(u->expires_at)), NULL);
	return tx_exec(tx,
	               "update refresh_families set previous = $4, sibling = null, current = $2, expires_at = $3"
	               " where name = $1",
	               DB_ARGS(BLOB(u->name), BLOB(u->next), V_I(u->expires_at), BLOB(u->secret)), NULL);
}

int refresh_use(struct ctx *ctx, struct str token, int64_t ttl_s, struct user *out, struct str *next)
{
	struct text text;
	if (!text_read(token, &text))
		return ctx_fail(ctx, E_UNAUTHENTICATED, "The refresh token is not valid; sign in again.");
	int64_t now = clock_now(ctx->clock);
	struct use u = {
	    .name = sha256_of(text.name, NAME_BYTES),
	    .secret = sha256_of(text.secret, SECRET_BYTES),
	    .now = now,
	    .expires_at = now + SECONDS_US(ttl_s),
	};
	ctx->rng->fill(ctx->rng, text.secret, SECRET_BYTES);
	u.next = sha256_of(text.secret, SECRET_BYTES);
	int err = db_write(ctx->drive->db, 0, use_op, &u);
	if (!err && u.verdict == REUSED)
		log_warn("an old refresh token was used: the sign-in is revoked", LOG_I("user", u.user_id),
		         LOG_S("request_id", ctx->request_id));
	if (!err && u.verdict == SUSPENDED)
		err = E_SUSPENDED;
	else if (!err && u.verdict != ROTATED)
		err = ctx_fail(ctx, E_UNAUTHENTICATED, "The refresh token is not valid; sign in again.");
	if (!err) {
		char id[ID_WIRE_MAX + 1];
		err = user_find(ctx, u.tenant_id, str_n(id, id_format(id, ID_USER, u.user_id)), out);
	}
	if (!err)
		*next = text_put(ctx->arena, &text);
	explicit_bzero(&text, sizeof text);
	return err;
}
