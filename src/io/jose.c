#include "io/jose.h"

#include <stdlib.h>

#include <jansson.h>
#include <rhonabwy.h>

#include "base/cleanup.h"
#include "base/limits.h"

#define HEADER_MAX_BYTES 2048
#define KEYS_MAX         64

struct key {
	char *kid, *jwk;
	unsigned algs; /* what this type of key can verify */
};

struct jose_keys {
	struct key keys[KEYS_MAX];
	size_t n;
};

static void cleanup_json(json_t **j)
{
	json_decref(*j);
}
static void cleanup_jwk(jwk_t **k)
{
	r_jwk_free(*k);
}
static void cleanup_jwt(jwt_t **t)
{
	r_jwt_free(*t);
}
#define AUTO_JANSSON CLEANUP(cleanup_json) json_t
#define AUTO_JWK     CLEANUP(cleanup_jwk) jwk_t
#define AUTO_JWT     CLEANUP(cleanup_jwt) jwt_t

static const struct {
	enum jose_alg alg;
	const char *name;
	jwa_alg code;
} algs_known[] = {
    {JOSE_ES256, "ES256", R_JWA_ALG_ES256},
    {JOSE_EDDSA, "EdDSA", R_JWA_ALG_EDDSA},
    {JOSE_RS256, "RS256", R_JWA_ALG_RS256},
};
enum { N_ALGS = sizeof algs_known / sizeof *algs_known };

enum jose_alg jose_alg_parse(struct str name)
{
	for (int i = 0; i < N_ALGS; i++)
		if (str_eq(str_c(algs_known[i].name), name))
			return algs_known[i].alg;
	return 0;
}

const char *jose_alg_name(enum jose_alg alg)
{
	for (int i = 0; i < N_ALGS; i++)
		if (algs_known[i].alg == alg)
			return algs_known[i].name;
	return "";
}

static void free_secret(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static int put_jwk(jwk_t *jwk, struct buf *out)
{
	char *text = r_jwk_export_to_json_str(jwk, 0);
	if (!text)
		return E_INTERNAL;
	buf_str(out, str_c(text));
	free_secret(text);
	return 0;
}

int jose_generate(enum jose_alg alg, const char *kid, struct buf *private_jwk)
{
	AUTO_JWK *priv = NULL, *pub = NULL;
	int type = alg == JOSE_EDDSA ? R_KEY_TYPE_EDDSA : R_KEY_TYPE_EC;
	must(alg == JOSE_EDDSA || alg == JOSE_ES256);
	if (r_jwk_init(&priv) != RHN_OK || r_jwk_init(&pub) != RHN_OK ||
	    r_jwk_generate_key_pair(priv, pub, type, 256, kid) != RHN_OK ||
	    r_jwk_set_property_str(priv, "alg", jose_alg_name(alg)) != RHN_OK ||
	    r_jwk_set_property_str(priv, "use", "sig") != RHN_OK)
		return E_INTERNAL;
	return put_jwk(priv, private_jwk);
}

/* A JWK from trusted text, without following a URL in it. */
static jwk_t *jwk_from(struct str text)
{
	jwk_t *jwk = NULL;
	json_t *j = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
	if (!j || r_jwk_init(&jwk) != RHN_OK || r_jwk_import_from_json_t(jwk, j) != RHN_OK) {
		r_jwk_free(jwk);
		jwk = NULL;
	}
	json_decref(j);
	return jwk;
}

int jose_public(struct str private_jwk, struct buf *public_jwk)
{
	static const char *const shown[] = {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"};
	AUTO_JANSSON *in = json_loadb(private_jwk.p, private_jwk.n, JSON_REJECT_DUPLICATES, NULL), *out = json_object();
	if (!json_is_object(in) || !out)
		return E_INTERNAL;
	/* What is public is listed, so that no private member can slip through. */
	for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
		json_t *v = json_object_get(in, shown[i]);
		if (json_is_string(v) && json_object_set(out, shown[i], v) != 0)
			return E_INTERNAL;
	}
	char *text = json_dumps(out, JSON_COMPACT);
	if (!text)
		return E_INTERNAL;
	buf_str(public_jwk, str_c(text));
	free(text);
	return 0;
}

int jose_sign(struct str private_jwk, struct str claims, struct buf *token)
{
	AUTO_JWK *jwk = jwk_from(private_jwk);
	AUTO_JWT *jwt = NULL;
	AUTO_JANSSON *j = json_loadb(claims.p, claims.n, JSON_REJECT_DUPLICATES, NULL);
	const char *name = jwk ? r_jwk_get_property_str(jwk, "alg") : NULL, *kid;
	enum jose_alg alg = name ? jose_alg_parse(str_c(name)) : 0;
	if (!alg || !json_is_object(j) || r_jwt_init(&jwt) != RHN_OK)
		return E_INTERNAL;
	for (int i = 0; i < N_ALGS; i++)
		if (algs_known[i].alg == alg && r_jwt_set_sign_alg(jwt, algs_known[i].code) != RHN_OK)
			return E_INTERNAL;
	if (r_jwt_set_full_claims_json_t(jwt, j) != RHN_OK || r_jwt_set_header_str_value(jwt, "typ", "JWT") != RHN_OK)
		return E_INTERNAL;
	if ((kid = r_jwk_get_property_str(jwk, "kid")) && r_jwt_set_header_str_value(jwt, "kid", kid) != RHN_OK)
		return E_INTERNAL;
	char *text = r_jwt_serialize_signed(jwt, jwk, R_FLAG_IGNORE_REMOTE);
	if (!text)
		return E_INTERNAL;
	buf_str(token, str_c(text));
	free_secret(text);
	return 0;
}

static bool is(json_t *obj, const char *key, const char *value)
{
	const char *s = json_string_value(json_object_get(obj, key));
	return s && strcmp(s, value) == 0;
}

/* What a key can verify, by its type and its own alg and use; 0: it is not for us. */
static unsigned key_algs(json_t *jwk)
{
	unsigned can = 0;
	if (is(jwk, "kty", "EC") && is(jwk, "crv", "P-256"))
		can = JOSE_ES256;
	else if (is(jwk, "kty", "OKP") && is(jwk, "crv", "Ed25519"))
		can = JOSE_EDDSA;
	else if (is(jwk, "kty", "RSA"))
		can = JOSE_RS256;
	const char *own = json_string_value(json_object_get(jwk, "alg"));
	if (own)
		can &= (unsigned)jose_alg_parse(str_c(own));
	if (json_object_get(jwk, "use") && !is(jwk, "use", "sig"))
		can = 0;
	return can;
}

static int keys_add(struct jose_keys *keys, json_t *jwk)
{
	static const char *const foreign[] = {"x5u", "x5c", "x5t", "x5t#S256", "key_ops"};
	const char *kid = json_string_value(json_object_get(jwk, "kid"));
	unsigned algs = json_is_object(jwk) ? key_algs(jwk) : 0;
	if (!kid || !*kid || !algs || keys->n == KEYS_MAX)
		return 0;
	for (size_t i = 0; i < keys->n; i++)
		if (strcmp(keys->keys[i].kid, kid) == 0)
			return 0;
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
		json_object_del(jwk, foreign[i]);
	char *text = json_dumps(jwk, JSON_COMPACT), *name = strdup(kid);
	jwk_t *probe = text ? jwk_from(str_c(text)) : NULL;
	if (probe && name) {
		keys->keys[keys->n++] = (struct key){name, text, algs};
		text = name = NULL;
	}
	r_jwk_free(probe);
	free(text);
	free(name);
	return 0;
}

int jose_keys_new(struct str jwks, struct jose_keys **out)
{
	*out = NULL;
	AUTO_JANSSON *doc = json_loadb(jwks.p ? jwks.p : "", jwks.n, JSON_REJECT_DUPLICATES, NULL);
	json_t *list = json_object_get(doc, "keys");
	if (!json_is_array(list))
		return E_BAD_REQUEST;
	struct jose_keys *keys = calloc(1, sizeof *keys);
	must(keys);
	for (size_t i = 0; i < json_array_size(list); i++)
		keys_add(keys, json_array_get(list, i));
	*out = keys;
	return 0;
}

void jose_keys_free(struct jose_keys *keys)
{
	for (size_t i = 0; keys && i < keys->n; i++) {
		free(keys->keys[i].kid);
		free(keys->keys[i].jwk);
	}
	free(keys);
}

size_t jose_keys_count(const struct jose_keys *keys)
{
	return keys->n;
}

/* base64url without padding (RFC 4648, 5), strictly; the number of bytes or -1. */
static ptrdiff_t unbase64url(struct str in, uint8_t *out, size_t cap)
{
	uint32_t acc = 0;
	int bits = 0;
	size_t n = 0;
	for (size_t i = 0; i < in.n; i++) {
		unsigned char c = (unsigned char)in.p[i];
		uint32_t v;
		if (c >= 'A' && c <= 'Z')
			v = c - 'A';
		else if (c >= 'a' && c <= 'z')
			v = c - 'a' + 26u;
		else if (c >= '0' && c <= '9')
			v = c - '0' + 52u;
		else if (c == '-' || c == '_')
			v = c == '-' ? 62 : 63;
		else
			return -1;
		acc = (acc << 6 | v) & 0xffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			if (n == cap)
				return -1;
			out[n++] = (uint8_t)(acc >> bits);
		}
	}
	return in.n % 4 == 1 || (acc & ((1u << bits) - 1)) ? -1 : (ptrdiff_t)n;
}

/* The parsed header when the token is three parts of base64url, else NULL. */
static json_t *read_header(struct str token)
{
	uint8_t raw[HEADER_MAX_BYTES];
	struct str rest = token, parts[3];
	for (int i = 0; i < 3; i++) {
		parts[i] = str_cut(&rest, '.');
		if (parts[i].n == 0)
			return NULL;
	}
	if (rest.p)
		return NULL;
	ptrdiff_t n = unbase64url(parts[0], raw, sizeof raw);
	if (n < 0)
		return NULL;
	json_t *header = json_loadb((char *)raw, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(header)) {
		json_decref(header);
		return NULL;
	}
	return header;
}

static const char *judge_header(json_t *header, unsigned algs, enum jose_alg *alg)
{
	json_t *typ = json_object_get(header, "typ");
	const char *name = json_string_value(json_object_get(header, "alg"));
	*alg = name ? jose_alg_parse(str_c(name)) : 0;
	if (!*alg || !(*alg & algs))
		return "the algorithm is not allowed";
	if (json_object_get(header, "crit"))
		return "it has critical header parameters";
	if (json_object_get(header, "zip")) /* the library would inflate it before it looks at the signature */
		return "it is compressed";
	struct str t = typ ? str_c(json_string_value(typ)) : STR("JWT");
	if (t.n > 12 && str_ieq(str_head(t, 12), STR("application/")))
		t = str_skip(t, 12);
	if (!str_ieq(t, STR("JWT")) && !str_ieq(t, STR("at+jwt")))
		return "its typ is neither JWT nor at+jwt";
	return NULL;
}

static int refuse(const char **why, const char *reason)
{
	if (why)
		*why = reason;
	return E_UNAUTHENTICATED;
}

int jose_verify(const struct jose_keys *keys, unsigned algs, struct str token, struct buf *claims, const char **why)
{
	enum jose_alg alg;
	if (token.n == 0 || token.n > LIMIT_TOKEN_BYTES)
		return refuse(why, "it is empty or too long");
	AUTO_JANSSON *header = read_header(token);
	if (!header)
		return refuse(why, "it is not a signed token");
	const char *bad = judge_header(header, algs, &alg);
	if (bad)
		return refuse(why, bad);
	const char *kid = json_string_value(json_object_get(header, "kid"));
	const struct key *key = NULL;
	for (size_t i = 0; kid && i < keys->n && !key; i++)
		if (strcmp(keys->keys[i].kid, kid) == 0)
			key = &keys->keys[i];
	if (!key)
		return refuse(why, "its key is unknown");
	if (!(key->algs & alg))
		return refuse(why, "its key is not of its algorithm");

	AUTO_JWK *jwk = jwk_from(str_c(key->jwk));
	AUTO_JWT *jwt = NULL;
	if (!jwk || r_jwt_init(&jwt) != RHN_OK)
		return refuse(why, "its key cannot be read");
	if (r_jwt_advanced_parsen(jwt, token.p, token.n, R_PARSE_NONE, R_FLAG_IGNORE_REMOTE) != RHN_OK)
		return refuse(why, "it cannot be parsed");
	if (r_jwt_verify_signature(jwt, jwk, R_FLAG_IGNORE_REMOTE) != RHN_OK)
		return refuse(why, "its signature is wrong");
	char *text = r_jwt_get_full_claims_str(jwt);
	if (!text)
		return refuse(why, "it has no claims");
	buf_str(claims, str_c(text));
	free(text);
	return 0;
}
