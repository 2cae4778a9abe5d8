#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* XXH3 by the widest vectors that the CPU has */
#else
#include <xxhash.h>
#endif

#include "base/must.h"
#include "base/sha256_x86.h"

enum { SHA256_BLOCK = 64 };

static EVP_MD *sha256_md;
static bool own; /* our own blocks; else EVP's */
static pthread_once_t md_once = PTHREAD_ONCE_INIT;

struct sha256_state {
	EVP_MD_CTX *evp; /* NULL: own */
	uint32_t h[SHA256_WORDS];
	uint64_t n; /* bytes so far; those of the last, unfinished block: */
	uint8_t block[SHA256_BLOCK];
};

static void md_fetch(void)
{
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	must(sha256_md != NULL);
	own = sha256_x86_usable();
}

/* FIPS 180-4, 5.3.3 */
static const struct sha256_state initial = {
    .h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
};

struct sha256_state *sha256_new(void)
{
	struct sha256_state *s = calloc(1, sizeof *s);
	must(s != NULL);
	pthread_once(&md_once, md_fetch);
	if (!own)
		s->evp = EVP_MD_CTX_new();
	must(own || s->evp != NULL);
	sha256_reset(s);
	return s;
}

void sha256_free(struct sha256_state *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->evp);
	free(s);
}

void sha256_reset(struct sha256_state *s)
{
	if (s->evp)
		must(EVP_DigestInit_ex2(s->evp, sha256_md, NULL) == 1);
	else
		*s = initial;
}

/* Up to the end of the unfinished block. */
static size_t top_up(struct sha256_state *s, const uint8_t *p, size_t n)
{
	size_t have = s->n % SHA256_BLOCK, k = have ? SHA256_BLOCK - have : 0;
	if (k > n)
		k = n;
	if (!k)
		return 0;
	memcpy(s->block + have, p, k);
	s->n += k;
	if (s->n % SHA256_BLOCK == 0)
		sha256_x86_one(s->h, s->block, 1);
	return k;
}

static void own_update(struct sha256_state *s, const uint8_t *p, size_t n)
{
	size_t k = top_up(s, p, n), blocks = (n - k) / SHA256_BLOCK, rest = (n - k) % SHA256_BLOCK;
	sha256_x86_one(s->h, p + k, blocks);
	if (rest)
		memcpy(s->block, p + n - rest, rest);
	s->n += n - k;
}

/* FIPS 180-4, 5.1.1: a one, zeros, and the length in bits */
static struct sha256 own_final(struct sha256_state *s)
{
	uint8_t pad[2 * SHA256_BLOCK] = {0};
	struct sha256 out;
	size_t have = s->n % SHA256_BLOCK, blocks = have + 9 > SHA256_BLOCK ? 2 : 1;
	uint64_t bits = s->n * 8;
	memcpy(pad, s->block, have);
	pad[have] = 0x80;
	for (size_t i = 0; i < 8; i++)
		pad[blocks * SHA256_BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
	sha256_x86_one(s->h, pad, blocks);
	for (size_t i = 0; i < sizeof out.b; i++)
		out.b[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
	return out;
}

void sha256_update(struct sha256_state *s, const void *p, size_t n)
{
	if (s->evp)
		must(EVP_DigestUpdate(s->evp, p, n) == 1);
	else if (n)
		own_update(s, p, n);
}

struct sha256 sha256_final(struct sha256_state *s)
{
	struct sha256 out;
	if (!s->evp)
		return own_final(s);
	must(EVP_DigestFinal_ex(s->evp, out.b, NULL) == 1);
	return out;
}

void sha256_pair_begin(struct sha256_pair *pair, struct sha256_state *s, const void *p, size_t n)
{
	*pair = (struct sha256_pair){.s = s, .p = p, .n = n};
	if (s->evp || n < 2 * SHA256_BLOCK)
		return;
	pair->from = top_up(s, p, n);
	pair->blocks = (n - pair->from) / SHA256_BLOCK;
	memcpy(pair->one, initial.h, sizeof pair->one);
}

bool sha256_pair_beside(struct sha256_pair *pair, struct rolling *r, const uint8_t *p, bool *hit)
{
	if (pair->blocks - pair->done < SHA256_BESIDE_BLOCKS)
		return false;
	const uint8_t *at = pair->p + pair->done * SHA256_BLOCK;
	*hit = sha256_x86_two_beside(pair->s->h, at + pair->from, pair->one, at, r, p);
	pair->done += SHA256_BESIDE_BLOCKS;
	return true;
}

struct sha256 sha256_pair_end(struct sha256_pair *pair)
{
	struct sha256_state *s = pair->s, one = initial;
	const uint8_t *p = pair->p, *at = p + pair->done * SHA256_BLOCK;
	if (!pair->blocks) {
		sha256_update(s, p, pair->n);
		return sha256_of(p, pair->n);
	}
	sha256_x86_two(s->h, at + pair->from, pair->one, at, pair->blocks - pair->done);
	memcpy(one.h, pair->one, sizeof one.h);
	one.n = pair->blocks * SHA256_BLOCK;
	s->n += one.n;
	own_update(s, p + pair->from + one.n, pair->n - pair->from - one.n);
	own_update(&one, p + one.n, pair->n - one.n);
	return own_final(&one);
}

struct sha256 sha256_update_of(struct sha256_state *s, const void *p, size_t n)
{
	struct sha256_pair pair;
	sha256_pair_begin(&pair, s, p, n);
	return sha256_pair_end(&pair);
}

struct sha256 sha256_of(const void *p, size_t n)
{
	struct sha256 out;
	pthread_once(&md_once, md_fetch);
	if (own) {
		struct sha256_state s = initial;
		own_update(&s, p, n);
		return own_final(&s);
	}
	must(EVP_Digest(p, n, out.b, NULL, sha256_md, NULL) == 1);
	return out;
}

/* RFC 2104, over our own blocks: the digest of a padded key and what follows. */
static struct sha256 own_keyed(const uint8_t *key, size_t n_key, uint8_t pad, const void *p, size_t n)
{
	struct sha256_state s = initial;
	uint8_t block[SHA256_BLOCK];
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)((i < n_key ? key[i] : 0) ^ pad);
	own_update(&s, block, sizeof block);
	own_update(&s, p, n);
	return own_final(&s);
}

struct sha256 hmac_sha256(struct str key, struct str data)
{
	struct sha256 out;
	unsigned n = sizeof out.b;
	pthread_once(&md_once, md_fetch);
	must(key.n <= INT32_MAX);
	if (own) {
		struct sha256 short_key;
		const uint8_t *k = (const uint8_t *)key.p;
		if (key.n > SHA256_BLOCK)
			short_key = sha256_of(key.p, key.n), k = short_key.b, key.n = sizeof short_key.b;
		out = own_keyed(k, key.n, 0x36, data.p, data.n);
		return own_keyed(k, key.n, 0x5c, out.b, sizeof out.b);
	}
	must(HMAC(sha256_md, key.p, (int)key.n, (const unsigned char *)data.p, data.n, out.b, &n) != NULL);
	return out;
}

bool hash_equal_ct(const void *a, const void *b, size_t n)
{
	return CRYPTO_memcmp(a, b, n) == 0;
}

uint64_t xxh3_64(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

uint64_t xxh3_64_seeded(const void *p, size_t n, uint64_t seed)
{
	return XXH3_64bits_withSeed(p, n, seed);
}

struct xxh3_state *xxh3_new(void)
{
	XXH3_state_t *s = XXH3_createState();
	must(s != NULL);
	XXH3_64bits_reset(s);
	return (struct xxh3_state *)s;
}

void xxh3_update(struct xxh3_state *s, const void *p, size_t n)
{
	XXH3_64bits_update((XXH3_state_t *)s, p, n);
}

uint64_t xxh3_final(struct xxh3_state *s)
{
	uint64_t h = XXH3_64bits_digest((XXH3_state_t *)s);
	xxh3_free(s);
	return h;
}

void xxh3_free(struct xxh3_state *s)
{
	if (s)
		XXH3_freeState((XXH3_state_t *)s);
}
