#include "io/jose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ALL (JOSE_ES256 | JOSE_EDDSA | JOSE_RS256)

struct pair {
	struct buf priv, pub;
	struct jose_keys *keys;
};

static struct pair pair_new(enum jose_alg alg, const char *kid)
{
	struct pair p = {0};
	struct buf set = {0};
	assert_int_equal(jose_generate(alg, kid, &p.priv), 0);
	assert_int_equal(jose_public(buf_as_str(&p.priv), &p.pub), 0);
	buf_lit(&set, "{\"keys\":[");
	buf_str(&set, buf_as_str(&p.pub));
	buf_lit(&set, "]}");
	assert_int_equal(jose_keys_new(buf_as_str(&set), &p.keys), 0);
	assert_int_equal(jose_keys_count(p.keys), 1);
	buf_fini(&set);
	return p;
}

static void pair_free(struct pair *p)
{
	buf_fini(&p->priv);
	buf_fini(&p->pub);
	jose_keys_free(p->keys);
}

static void put_base64url(struct buf *out, struct str in)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	for (size_t i = 0; i < in.n; i += 3) {
		uint32_t v = 0;
		size_t left = in.n - i < 3 ? in.n - i : 3;
		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (k < left ? (unsigned char)in.p[i + k] : 0);
		for (size_t k = 0; k < left + 1; k++)
			buf_char(out, digits[v >> (18 - 6 * k) & 63]);
	}
}

/* The signature of `token` under another header. */
static void with_header(struct buf *out, const char *header, struct str token)
{
	struct str rest = token;
	str_cut(&rest, '.');
	buf_clear(out);
	put_base64url(out, str_c(header));
	buf_char(out, '.');
	buf_str(out, rest);
}

static void refused(const struct jose_keys *keys, unsigned algs, struct str token, const char *reason)
{
	struct buf claims = {0};
	const char *why = NULL;
	assert_int_equal(jose_verify(keys, algs, token, &claims, &why), E_UNAUTHENTICATED);
	assert_int_equal(claims.n, 0);
	if (reason)
		assert_string_equal(why, reason);
	buf_fini(&claims);
}

static void round_trip(enum jose_alg alg)
{
	struct pair p = pair_new(alg, "k1");
	struct buf token = {0}, claims = {0};
	assert_null(memmem(p.pub.p, p.pub.n, "\"d\"", 3));
	assert_int_equal(jose_sign(buf_as_str(&p.priv), STR("{\"sub\":\"usr_1\",\"exp\":9007199254740993}"), &token), 0);
	assert_int_equal(jose_verify(p.keys, ALL, buf_as_str(&token), &claims, NULL), 0);
	assert_non_null(memmem(claims.p, claims.n, "usr_1", 5));
	assert_non_null(memmem(claims.p, claims.n, "9007199254740993", 16));
	refused(p.keys, (unsigned)(ALL & ~alg), buf_as_str(&token), "the algorithm is not allowed");

	/* One flipped bit anywhere in the token is noticed. */
	for (size_t i = 0; i < token.n; i += 7) {
		token.p[i] ^= 1;
		refused(p.keys, ALL, buf_as_str(&token), NULL);
		token.p[i] ^= 1;
	}
	for (size_t n = 0; n < token.n; n += 5)
		refused(p.keys, ALL, str_n(token.p, n), NULL);
	struct pair other = pair_new(alg, "k1"), third = pair_new(alg, "k2");
	refused(other.keys, ALL, buf_as_str(&token), "its signature is wrong");
	refused(third.keys, ALL, buf_as_str(&token), "its key is unknown");
	pair_free(&p);
	pair_free(&other);
	pair_free(&third);
	buf_fini(&token);
	buf_fini(&claims);
}

static void test_es256(void **state)
{
	(void)state;
	round_trip(JOSE_ES256);
}

static void test_eddsa(void **state)
{
	(void)state;
	round_trip(JOSE_EDDSA);
}

/* The classes of attack on JWS headers. */
static void test_headers(void **state)
{
	(void)state;
	struct pair p = pair_new(JOSE_ES256, "k1"), evil = pair_new(JOSE_ES256, "evil");
	struct buf token = {0}, forged = {0}, header = {0};
	assert_int_equal(jose_sign(buf_as_str(&p.priv), STR("{\"sub\":\"usr_1\"}"), &token), 0);
	struct str t = buf_as_str(&token);

	with_header(&forged, "{\"alg\":\"none\",\"kid\":\"k1\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "the algorithm is not allowed");
	with_header(&forged, "{\"alg\":\"HS256\",\"kid\":\"k1\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "the algorithm is not allowed");
	with_header(&forged, "{\"alg\":\"RS256\",\"kid\":\"k1\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "its key is not of its algorithm");
	with_header(&forged, "{\"alg\":\"ES256\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "its key is unknown");
	with_header(&forged, "{\"alg\":\"ES256\",\"kid\":\"k1\",\"crit\":[\"b64\"],\"b64\":false}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "it has critical header parameters");
	with_header(&forged, "{\"alg\":\"ES256\",\"kid\":\"k1\",\"zip\":\"DEF\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "it is compressed");
	with_header(&forged, "{\"alg\":\"ES256\",\"alg\":\"ES256\",\"kid\":\"k1\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "it is not a signed token");
	with_header(&forged, "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":\"JWE\"}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "its typ is neither JWT nor at+jwt");
	with_header(&forged, "{\"alg\":\"ES256\",\"kid\":\"k1\",\"typ\":7}", t);
	refused(p.keys, ALL, buf_as_str(&forged), "its typ is neither JWT nor at+jwt");

	/* A key that travels in the header never verifies: the attacker signs with his own and names ours. */
	buf_clear(&token);
	assert_int_equal(jose_sign(buf_as_str(&evil.priv), STR("{\"sub\":\"usr_1\"}"), &token), 0);
	buf_lit(&header, "{\"alg\":\"ES256\",\"kid\":\"k1\",\"jku\":\"http://127.0.0.1:1/\",\"x5u\":\"http://127.0.0.1:1/\",\"jwk\":");
	buf_str(&header, buf_as_str(&evil.pub));
	buf_lit(&header, "}");
	buf_char(&header, 0);
	with_header(&forged, header.p, buf_as_str(&token));
	refused(p.keys, ALL, buf_as_str(&forged), NULL);
	buf_fini(&token);
	buf_fini(&forged);
	buf_fini(&header);
	pair_free(&p);
	pair_free(&evil);
}

static void test_odd_tokens(void **state)
{
	(void)state;
	struct pair p = pair_new(JOSE_EDDSA, "k1");
	static const char *const odd[] = {"", ".", "..", "...", "a.b.c", "e30.e30.e30", "e30.e30", "e30.e30.e30.e30", "e30=.e30.e30"};
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
		refused(p.keys, ALL, str_c(odd[i]), NULL);
	char *big = malloc(100000);
	memset(big, 'A', 100000);
	refused(p.keys, ALL, str_n(big, 100000), "it is empty or too long");
	free(big);
	pair_free(&p);
}

static void test_jwks(void **state)
{
	(void)state;
	struct jose_keys *keys;
	assert_int_equal(jose_keys_new(STR("no"), &keys), E_BAD_REQUEST);
	assert_int_equal(jose_keys_new(STR("{}"), &keys), E_BAD_REQUEST);
	assert_int_equal(jose_keys_new(STR("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"a\"},7,{\"kty\":\"EC\"}]}"), &keys), 0);
	assert_int_equal(jose_keys_count(keys), 0);
	jose_keys_free(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_es256), cmocka_unit_test(test_eddsa), cmocka_unit_test(test_headers),
	    cmocka_unit_test(test_odd_tokens), cmocka_unit_test(test_jwks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
