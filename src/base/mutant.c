#include "base/mutant.h"

#ifdef SD_MUTANTS
int mutant_on = M_NONE;
#endif

static const struct {
	const char *label, *bug;
} table[] = {
    [M_NONE] = {"NONE", "no bug"},
#define MUTANT_ROW(name, bug) [M_##name] = {#name, bug},
    MUTANTS(MUTANT_ROW)
#undef MUTANT_ROW
};

const char *mutant_label(enum mutant_name name)
{
	return table[name].label;
}

const char *mutant_bug(enum mutant_name name)
{
	return table[name].bug;
}
