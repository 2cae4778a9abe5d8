#include "drive/token.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "io/jose.h"

#define LEEWAY_US        SECONDS_US(60)
#define KEYS_FRESH_US    SECONDS_US(1)
#define KEYS_STALE_MAX   64

struct tokens {
	struct drive *drive;
	char *issuer;
	int64_t ttl_s, refresh_ttl_s;
	struct login_limits login;

	_Atomic int64_t looked_at;  /* monotonic: when the keys were last read */
	_Atomic uint64_t epoch;
	pthread_mutex_t loading;
	pthread_rwlock_t lock;      /* guards what follows */
	struct jose_keys *keys;
	struct buf jwks, signing;   /* public set; private JWK that signs (secret) */
	struct sha256 fingerprint;
};

static void forget(struct buf *secret)
{
	if (secret->p)
		explicit_bzero(secret->p, secret->cap);
	buf_fini(secret);
}

/* ---- keys ---- */

struct key_set {
	int64_t now;
	struct buf jwks, signing, trace;
	size_t n;
};

static int read_keys(struct tx *tx, void *arg)
{
	struct key_set *s = arg;
	AUTO_ROWS *r = NULL;
	s->n = 0;
	buf_clear(&s->jwks);
	buf_clear(&s->signing);
	buf_clear(&s->trace);
	buf_lit(&s->jwks, "{\"keys\":[");
	int err = tx_query(tx, "select kid, private_jwk, retired_at from signing_keys order by created_at desc, kid",
	                   DB_NO_ARGS, &r);
	while (!err && s->n < KEYS_STALE_MAX && rows_next(r)) {
		bool retiring = !rows_is_null(r, 2);
		if (retiring && rows_i64(r, 2) <= s->now)
			continue;
		if (s->n++)
			buf_char(&s->jwks, ',');
		err = jose_public(rows_text(r, 1), &s->jwks);
		if (!retiring && s->signing.n == 0)
			buf_str(&s->signing, rows_text(r, 1));
		buf_str(&s->trace, rows_text(r, 0));
		buf_char(&s->trace, retiring ? '-' : '+');
	}
	buf_lit(&s->jwks, "]}");
	return err ? err : rows_close(&r);
}

static int load_keys(struct ctx *ctx, struct tokens *t)
{
	struct key_set s = {.now = clock_now(ctx->clock)};
	struct jose_keys *keys = NULL;
	int err = db_read(t->drive->db, read_keys, &s);
	struct sha256 fingerprint = sha256_of(s.trace.p ? s.trace.p : "", s.trace.n);
	if (!err && (!t->keys || !sha256_eq(&fingerprint, &t->fingerprint)))
		err = jose_keys_new(buf_as_str(&s.jwks), &keys);
	if (keys) {
		pthread_rwlock_wrlock(&t->lock);
		jose_keys_free(t->keys);
		forget(&t->signing);
		buf_fini(&t->jwks);
		t->keys = keys;
		t->jwks = s.jwks;
		t->signing = s.signing;
		t->fingerprint = fingerprint;
		pthread_rwlock_unlock(&t->lock);
		s.jwks = s.signing = (struct buf){0};
		atomic_fetch_add(&t->epoch, 1);
	}
	buf_fini(&s.jwks);
	buf_fini(&s.trace);
	forget(&s.signing);
	return err;
}

/* Reads the keys when the last look is older than a second; one thread at a time, the others use what there is. */
static void freshen(struct ctx *ctx, struct tokens *t)
{
	int64_t now = clock_mono(ctx->clock);
	if (now - atomic_load_explicit(&t->looked_at, memory_order_relaxed) < KEYS_FRESH_US ||
	    pthread_mutex_trylock(&t->loading) != 0)
		return;
	int err = load_keys(ctx, t);
	if (err)
		log_error("the signing keys cannot be read", LOG_C("error", err_info(err)->code));
	atomic_store_explicit(&t->looked_at, now, memory_order_relaxed);
	pthread_mutex_unlock(&t->loading);
}

struct new_key {
	struct ctx *ctx;
	struct str kid, jwk;
	int64_t now, retire_at; /* when the present ones end */
	bool only_first;
};

static int add_key(struct tx *tx, void *arg)
{
	struct new_key *k = arg;
	int64_t there;
	int err = tx_i64(tx, "select count(*) from signing_keys where retired_at is null", DB_NO_ARGS, 0, &there);
	if (err || (there && k->only_first))
		return err;
	err = tx_exec(tx, "update signing_keys set retired_at = $1 where retired_at is null or retired_at > $1",
	              DB_ARGS(V_I(k->retire_at)), NULL);
	if (!err)
		err = tx_exec(tx, "delete from signing_keys where retired_at < $1", DB_ARGS(V_I(k->now - SECONDS_US(86400))), NULL);
	if (!err)
		err = tx_exec(tx,
		              "insert into signing_keys (kid, alg, private_jwk, created_at) values ($1, 'ES256', $2, $3)",
		              DB_ARGS(V_T(k->kid), V_T(k->jwk), V_I(k->now)), NULL);
	return err;
}

static int make_key(struct ctx *ctx, bool only_first, bool revoke, struct str *kid)
{
	struct buf jwk = {0};
	uint8_t random[8];
	char name[17];
	ctx->rng->fill(ctx->rng, random, sizeof random);
	hex_encode(random, sizeof random, name);
	name[16] = 0;
	int err = jose_generate(JOSE_ES256, name, &jwk);
	int64_t now = clock_now(ctx->clock);
	struct new_key k = {
	    .ctx = ctx,
	    .kid = arena_str(ctx->arena, str_c(name)),
	    .jwk = buf_as_str(&jwk),
	    .now = now,
	    .retire_at = revoke ? now : now + SECONDS_US(LIMIT_TOKEN_TTL_MAX_S) + LEEWAY_US,
	    .only_first = only_first,
	};
	if (!err)
		err = db_write(ctx->drive->db, 0, add_key, &k);
	forget(&jwk);
	*kid = k.kid;
	return err;
}

int keys_rotate(struct ctx *ctx, bool revoke, struct str *kid)
{
	return make_key(ctx, false, revoke, kid);
}

int tokens_open(struct ctx *ctx, const struct tokens_config *config, struct tokens **out)
{
	struct tokens *t = calloc(1, sizeof *t);
	must(t);
	t->drive = config->drive;
	t->issuer = strdup(config->issuer);
	must(t->issuer);
	t->ttl_s = config->ttl_s;
	t->refresh_ttl_s = config->refresh_ttl_s;
	t->login = config->login;
	pthread_mutex_init(&t->loading, NULL);
	pthread_rwlock_init(&t->lock, NULL);
	struct str kid;
	int err = load_keys(ctx, t);
	if (!err && t->signing.n == 0) {
		err = make_key(ctx, true, false, &kid);
		if (!err)
			err = load_keys(ctx, t);
	}
	atomic_store(&t->looked_at, clock_mono(ctx->clock));
	if (err) {
		tokens_close(t);
		t = NULL;
	}
	*out = t;
	return err;
}

void tokens_close(struct tokens *t)
{
	if (!t)
		return;
	jose_keys_free(t->keys);
	forget(&t->signing);
	buf_fini(&t->jwks);
	free(t->issuer);
	pthread_mutex_destroy(&t->loading);
	pthread_rwlock_destroy(&t->lock);
	free(t);
}

const struct login_limits *tokens_login_limits(const struct tokens *t)
{
	return &t->login;
}

int64_t tokens_refresh_ttl_s(const struct tokens *t)
{
	return t->refresh_ttl_s;
}

uint64_t tokens_epoch(struct ctx *ctx, struct tokens *t)
{
	freshen(ctx, t);
	return atomic_load(&t->epoch);
}

int tokens_jwks(struct ctx *ctx, struct tokens *t, struct str *out)
{
	freshen(ctx, t);
	pthread_rwlock_rdlock(&t->lock);
	*out = arena_str(ctx->arena, buf_as_str(&t->jwks));
	pthread_rwlock_unlock(&t->lock);
	return 0;
}

/* ---- scopes ---- */

static const struct {
	const char *name;
	unsigned bits;
} scopes_known[] = {
    {"files:read", SCOPE_FILES_READ},
    {"files:write", SCOPE_FILES_WRITE},
    {"tenant:admin", SCOPE_FILES_READ | SCOPE_FILES_WRITE | SCOPE_TENANT_ADMIN},
    {"partner:admin", SCOPE_ALL},
    {"admin:*", SCOPE_ALL},
    {"*", SCOPE_ALL},
};

unsigned scopes_parse(struct str claim)
{
	unsigned bits = 0;
	for (struct str rest = claim; rest.p;) {
		struct str word = str_cut(&rest, ' ');
		for (size_t i = 0; i < sizeof scopes_known / sizeof *scopes_known; i++)
			if (str_eq(word, str_c(scopes_known[i].name)))
				bits |= scopes_known[i].bits;
	}
	return bits ? bits : SCOPE_FILES_READ | SCOPE_FILES_WRITE;
}

size_t scopes_names(unsigned scopes, struct str out[8])
{
	static const struct {
		unsigned bit;
		const char *name;
	} bits[] = {{SCOPE_FILES_READ, "files:read"},
	            {SCOPE_FILES_WRITE, "files:write"},
	            {SCOPE_TENANT_ADMIN, "tenant:admin"},
	            {SCOPE_PARTNER_ADMIN, "partner:admin"}};
	size_t n = 0;
	for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
		if (scopes & bits[i].bit)
			out[n++] = str_c(bits[i].name);
	return n;
}

/* ---- issuing ---- */

static void put_claim(struct buf *b, bool *first, struct str key, struct str value)
{
	json_put_key(b, first, key);
	json_put_str(b, value);
}

static void put_claims(struct ctx *ctx, struct tokens *t, const struct token_new *in, struct str scope, int64_t ttl_s,
                       struct buf *b)
{
	uint8_t random[16];
	char jti[32], id[ID_WIRE_MAX + 1];
	bool first = true;
	int64_t now_s = clock_now(ctx->clock) / 1000000;
	const struct user *u = in->user;
	ctx->rng->fill(ctx->rng, random, sizeof random);
	hex_encode(random, sizeof random, jti);
	buf_char(b, '{');
	put_claim(b, &first, STR("iss"), str_c(t->issuer));
	put_claim(b, &first, STR("sub"), str_n(id, id_format(id, ID_USER, u->id)));
	put_claim(b, &first, STR("tenant_id"), str_n(id, id_format(id, ID_TENANT, u->tenant_id)));
	put_claim(b, &first, STR("email"), u->email);
	put_claim(b, &first, STR("name"), u->name);
	put_claim(b, &first, STR("scope"), scope);
	if (in->device_id.p)
		put_claim(b, &first, STR("device_id"), in->device_id);
	put_claim(b, &first, STR("jti"), str_n(jti, sizeof jti));
	buf_fmt(b, ",\"iat\":%lld,\"exp\":%lld}", (long long)now_s, (long long)(now_s + ttl_s));
}

int token_issue(struct ctx *ctx, struct tokens *t, const struct token_new *in, struct token *out)
{
	struct buf claims = {0}, text = {0};
	int64_t ttl_s = in->ttl_s ? in->ttl_s : t->ttl_s;
	struct str scope = in->scope;
	if (!scope.p)
		scope = in->user->admin ? STR("files:read files:write tenant:admin") : STR("files:read files:write");
	if (ttl_s < 1 || ttl_s > LIMIT_TOKEN_TTL_MAX_S)
		return ctx_invalid(ctx, "body", STR("ttl"), "value_error", "A token lives from 1 to %d seconds",
		                   LIMIT_TOKEN_TTL_MAX_S);
	if (in->device_id.p && (in->device_id.n == 0 || in->device_id.n > LIMIT_DEVICE_ID_BYTES || !str_is_utf8(in->device_id)))
		return ctx_invalid(ctx, "body", STR("device_id"), "value_error", "A device id has 1 to %d bytes",
		                   LIMIT_DEVICE_ID_BYTES);
	freshen(ctx, t);
	put_claims(ctx, t, in, scope, ttl_s, &claims);
	pthread_rwlock_rdlock(&t->lock);
	int err = t->signing.n ? jose_sign(buf_as_str(&t->signing), buf_as_str(&claims), &text) : E_INTERNAL;
	pthread_rwlock_unlock(&t->lock);
	if (!err && text.n > LIMIT_TOKEN_BYTES)
		err = E_INTERNAL;
	if (err)
		ctx_fail(ctx, err, "The token could not be signed.");
	else
		*out = (struct token){arena_str(ctx->arena, buf_as_str(&text)), ttl_s, scopes_parse(scope)};
	buf_fini(&claims);
	forget(&text);
	return err;
}

/* ---- verifying ---- */

bool token_expired(int64_t now_us, int64_t expires_at_us)
{
	return now_us - LEEWAY_US >= expires_at_us;
}

/* Seconds as microseconds; false when it is not a sane moment. */
static bool moment(int64_t s, int64_t *us)
{
	return s > 0 && s < INT64_C(253402300800) && !__builtin_mul_overflow(s, INT64_C(1000000), us);
}

/* What is wrong with the claims, or NULL; fills what the user's row does not tell. */
static const char *judge_claims(struct ctx *ctx, struct tokens *t, struct json_object *claims, struct principal *out)
{
	int64_t now = clock_now(ctx->clock), exp, from;
	if (!str_eq(json_str(claims, "iss"), str_c(t->issuer)))
		return "its issuer is another";
	if (!moment(json_i64(claims, "exp", 0), &exp))
		return "it has no expiry";
	if (token_expired(now, exp))
		return "it has expired";
	if (json_get(claims, "nbf") && (!moment(json_i64(claims, "nbf", 0), &from) || from > now + LEEWAY_US))
		return "it is not valid yet";
	if (!id_parse_kind(json_str(claims, "sub"), ID_USER, &out->user_id) ||
	    !id_parse_kind(json_str(claims, "tenant_id"), ID_TENANT, &out->tenant_id))
		return "it names no user";
	out->scopes = scopes_parse(json_str(claims, "scope"));
	out->device_id = arena_str(ctx->arena, json_str(claims, "device_id"));
	out->expires_at_us = exp;
	return NULL;
}

int token_verify(struct ctx *ctx, struct tokens *t, struct str token, struct principal *out)
{
	struct buf text = {0};
	const char *why = NULL;
	*out = (struct principal){0};
	freshen(ctx, t);
	pthread_rwlock_rdlock(&t->lock);
	int err = jose_verify(t->keys, JOSE_ES256 | JOSE_EDDSA, token, &text, &why);
	pthread_rwlock_unlock(&t->lock);
	if (!err) {
		AUTO_JSON *claims = NULL;
		why = json_parse(buf_as_str(&text), &claims);
		if (!why)
			why = judge_claims(ctx, t, claims, out);
		err = why ? E_UNAUTHENTICATED : 0;
	}
	buf_fini(&text);
	if (err) {
		log_debug("token refused", LOG_C("reason", why ? why : ""), LOG_S("request_id", ctx->request_id));
		return ctx_fail(ctx, err, "The token is not valid.");
	}
	return principal_load(ctx, out->tenant_id, out->user_id, out);
}
