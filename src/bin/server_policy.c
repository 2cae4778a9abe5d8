/* scaidrived policy: for how long trash and old versions are kept, and other limits (drive/policy.h). */
#include "bin/server.h"
#include "drive/policy.h"

#define PLACE_OPTIONS \
	{"tenant", "NAME", "Of this tenant; may be left out when there is one", NULL}, \
	{"share", "NAME", "Of this share, by name or id, where it differs from its tenant's", NULL}

static int place_of(struct runtime *rt, const struct args *args, struct policy_place *out)
{
	*out = (struct policy_place){0};
	return arg(args, "share") ? policy_find_share(&rt->ctx, arg_str(args, "share"), out)
	                          : runtime_tenant(rt, args, &out->tenant_id);
}

static void print(const struct policy_shown *shown)
{
	for (int i = 0; i < POLICY_KEYS; i++) {
		const struct policy_info *info = &policy_infos[i];
		char value[32] = "never";
		if (shown->policy.values[i] != POLICY_FOREVER)
			snprintf(value, sizeof value, "%lld", (long long)shown->policy.values[i]);
		printf("%s=%-*s  # %s, %s: %s\n", info->name, (int)(32 - strlen(info->name)), value, shown->from[i], info->unit,
		       info->what);
	}
}

/* What is so now; for set, after its assignments. */
static int run_policy(struct args *args, const struct str *assignments, size_t n)
{
	struct runtime rt;
	struct policy_place place;
	struct policy_shown shown;
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = place_of(&rt, args, &place);
	if (!err && n)
		err = policy_set(&rt.ctx, &place, assignments, n);
	if (!err)
		err = policy_show(&rt.ctx, &place, &shown);
	if (!err)
		print(&shown);
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return err == E_USAGE ? 2 : code;
}

static const struct option_spec show_options[] = {
    PLACE_OPTIONS,
    {0},
};

static int run_show(struct args *args)
{
	return run_policy(args, NULL, 0);
}

const struct command cmd_policy_show = {"policy show", "Show for how long trash and old versions are kept, and other limits", show_options,
                                        run_show};

static const struct option_spec set_options[] = {
    PLACE_OPTIONS,
    {0},
};

static int run_set(struct args *args)
{
	struct str assignments[ARGS_MAX];
	for (int i = 0; i < args->n_operands; i++)
		assignments[i] = str_c(args->operands[i]);
	return run_policy(args, assignments, (size_t)args->n_operands);
}

const struct command cmd_policy_set = {
    "policy set", "Set what policy show shows: a number, never, or nothing (as the level above has it)",
    set_options, run_set, "KEY=VALUE..."};
