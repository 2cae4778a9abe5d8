/* Bytes as a token, against a set of one key of each kind. */
#include "io/jose.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct jose_keys *keys;

static void setup(void)
{
	struct buf set = {0};
	buf_lit(&set, "{\"keys\":[");
	for (int i = 0; i < 2; i++) {
		struct buf priv = {0};
		must(jose_generate(i ? JOSE_EDDSA : JOSE_ES256, i ? "b" : "a", &priv) == 0);
		buf_str(&set, i ? STR(",") : STR(""));
		must(jose_public(buf_as_str(&priv), &set) == 0);
		buf_fini(&priv);
	}
	buf_lit(&set, "]}");
	must(jose_keys_new(buf_as_str(&set), &keys) == 0);
	buf_fini(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!keys)
		setup();
	struct buf claims = {0};
	struct jose_keys *other = NULL;
	must(jose_verify(keys, JOSE_ES256 | JOSE_EDDSA | JOSE_RS256, str_n(data, size), &claims, NULL) == E_UNAUTHENTICATED);
	if (jose_keys_new(str_n(data, size), &other) == 0)
		jose_keys_free(other);
	buf_fini(&claims);
	return 0;
}
