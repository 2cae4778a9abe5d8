#include "features/uploads/digest.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A digest that was found stands in the field in its one spelling, and is found again from that. */
static void check_found(struct str field, const struct sha256 *found)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char text[64] = "sha-256=:";
	size_t n = 9;
	struct sha256 again;
	bool yes;
	for (size_t i = 0; i < 43; i++) {
		unsigned bits = 0;
		for (size_t k = 0; k < 6; k++) {
			size_t at = i * 6 + k;
			bits = bits << 1 | (at < 256 ? found->b[at / 8] >> (7 - at % 8) & 1u : 0);
		}
		text[n++] = digits[bits];
	}
	text[n++] = '=';
	text[n++] = ':';
	if (!memmem(field.p, field.n, text + 8, 46))
		abort();
	if (!digest_field(str_n(text, n), &again, &yes) || !yes || !sha256_eq(&again, found))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str s = str_n(data, size);
	struct sha256 hash;
	bool found = false;
	if (digest_field(s, &hash, &found) && found)
		check_found(s, &hash);
	digest_hex(s, &hash);
	return 0;
}
