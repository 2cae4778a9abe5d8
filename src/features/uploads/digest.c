#include "features/uploads/digest.h"

bool digest_hex(struct str s, struct sha256 *out)
{
	return str_unhex(str_trim(s), out->b, sizeof out->b);
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 32 bytes are 43 digits and one '='; the last digit carries two bits too many, which are zero. */
static bool base64_32(struct str s, uint8_t out[32])
{
	enum { DIGITS = 43 };
	uint32_t bits = 0;
	unsigned n_bits = 0, n = 0;
	if (s.n != DIGITS + 1 || s.p[DIGITS] != '=')
		return false;
	for (size_t i = 0; i < DIGITS; i++) {
		int v = base64_value(s.p[i]);
		if (v < 0)
			return false;
		bits = bits << 6 | (uint32_t)v;
		n_bits += 6;
		if (n_bits >= 8) {
			n_bits -= 8;
			out[n++] = (uint8_t)(bits >> n_bits);
		}
	}
	return (bits & ((1u << n_bits) - 1)) == 0;
}

bool digest_field(struct str s, struct sha256 *out, bool *found)
{
	*found = false;
	while (s.p) {
		struct str value = str_trim(str_cut(&s, ','));
		struct str name = str_cut(&value, '=');
		if (!name.n || !value.p || value.n < 2 || value.p[0] != ':')
			return false;
		value = str_skip(value, 1);
		struct str base64 = str_cut(&value, ':');
		if (!value.p || (value.n && value.p[0] != ';'))
			return false;
		if (!str_eq(name, STR("sha-256")))
			continue;
		if (!base64_32(base64, out->b))
			return false;
		*found = true;
	}
	return true;
}
