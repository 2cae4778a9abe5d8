#include "base/err.h"

#include <errno.h>
#include <string.h>

static const struct err_info table[E_COUNT] = {
    [E_OK] = {"E_OK", "OK", "OK", 200},
#define X(symbol, status, code, sentence) [symbol] = {#symbol, code, sentence, status},
    ERR_TABLE(X)
#undef X
};

const struct err_info *err_info(int err)
{
	return &table[err >= 0 && err < E_COUNT ? err : E_INTERNAL];
}

int err_from_errno(int saved_errno)
{
	switch (saved_errno) {
	case ENOSPC:
	case EDQUOT:
		return E_NO_SPACE;
	case ENOENT:
	case ENOTDIR:
		return E_NOT_FOUND;
	default:
		return E_IO;
	}
}

int err_from_code(const char *code)
{
	for (int i = 1; i < E_COUNT; i++)
		if (strcmp(table[i].code, code) == 0)
			return i;
	return E_OK;
}
