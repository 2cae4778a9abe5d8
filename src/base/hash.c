#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/must.h"

static EVP_MD *sha256_md;
static pthread_once_t md_once = PTHREAD_ONCE_INIT;

static void md_fetch(void)
{
	sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	must(sha256_md != NULL);
}

struct sha256_state *sha256_new(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	must(c != NULL);
	sha256_reset((struct sha256_state *)c);
	return (struct sha256_state *)c;
}

void sha256_free(struct sha256_state *s)
{
	EVP_MD_CTX_free((EVP_MD_CTX *)s);
}

void sha256_reset(struct sha256_state *s)
{
	pthread_once(&md_once, md_fetch);
	must(EVP_DigestInit_ex2((EVP_MD_CTX *)s, sha256_md, NULL) == 1);
}

void sha256_update(struct sha256_state *s, const void *p, size_t n)
{
	must(EVP_DigestUpdate((EVP_MD_CTX *)s, p, n) == 1);
}

struct sha256 sha256_final(struct sha256_state *s)
{
	struct sha256 out;
	must(EVP_DigestFinal_ex((EVP_MD_CTX *)s, out.b, NULL) == 1);
	return out;
}

struct sha256 sha256_of(const void *p, size_t n)
{
	struct sha256 out;
	pthread_once(&md_once, md_fetch);
	must(EVP_Digest(p, n, out.b, NULL, sha256_md, NULL) == 1);
	return out;
}

struct sha256 hmac_sha256(struct str key, struct str data)
{
	struct sha256 out;
	unsigned n = sizeof out.b;
	pthread_once(&md_once, md_fetch);
	must(key.n <= INT32_MAX);
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
