/* Tools beside the server: init, token, user, tenant, keys, config, migrate, version. They need the database alone and may
 * run while a server serves. */
#include <stdlib.h>

#include "base/json.h"
#include "bin/server.h"

#define TENANT_OPTION {"tenant", "NAME", "The tenant, when several know the address", NULL}

static void wipe(char **secret)
{
	if (*secret)
		explicit_bzero(*secret, strlen(*secret));
	free(*secret);
}
#define AUTO_SECRET __attribute__((cleanup(wipe))) char

static void put(struct buf *b)
{
	if (b->n)
		fwrite(b->p, 1, b->n, stdout);
	buf_fini(b);
}

/* The --tenant of a command as an id; 0: none was named. */
static int named_tenant(struct runtime *rt, const struct args *args, int64_t *id)
{
	struct tenant t;
	*id = 0;
	if (!arg(args, "tenant"))
		return 0;
	int err = tenant_find(&rt->ctx, arg_str(args, "tenant"), &t);
	if (!err)
		*id = t.id;
	return err;
}

int named_user(struct runtime *rt, const struct args *args, const char *option, struct user *u)
{
	int64_t tenant_id;
	int err = named_tenant(rt, args, &tenant_id);
	return err ? err : user_find(&rt->ctx, tenant_id, arg_str(args, option), u);
}

/* ---- init ---- */

static const struct option_spec init_options[] = {
    {"admin-email", "E", "Address of the administrator (needed)", NULL},
    {"admin-password", "P", "Password; or by --admin-password-stdin or SCAIDRIVE_ADMIN_PASSWORD", NULL},
    {"admin-password-stdin", NULL, "Read the password from standard input", NULL},
    {"admin-name", "N", "Name of the administrator", NULL},
    {"tenant", "NAME", "Name of the first tenant (default)", NULL},
    {"share", "NAME", "Name of the first share (Files)", NULL},
    {0},
};

static int run_init(struct args *args)
{
	struct runtime rt;
	struct tenant_list there;
	struct tenant tenant;
	struct user admin;
	AUTO_SECRET *password = arg_secret(args, "admin-password", "SCAIDRIVE_ADMIN_PASSWORD");
	if (!arg(args, "admin-email") || !password)
		return usage_fault("init: --admin-email and a password are needed (see: scaidrived init --help)");
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = tenant_list(&rt.ctx, &there);
	if (!err && there.n)
		err = ctx_fail(&rt.ctx, E_CONFLICT, "%s is initialised already.", rt.data);
	struct tenant_new in = {
	    .name = arg(args, "tenant") ? arg_str(args, "tenant") : STR("default"),
	    .display_name = STR(""),
	    .admin = {.email = arg_str(args, "admin-email"), .name = arg_str(args, "admin-name"), .password = str_c(password)},
	    .share_name = arg(args, "share") ? arg_str(args, "share") : STR("Files"),
	};
	if (!err)
		err = tenant_add(&rt.ctx, &in, &tenant, &admin);
	if (!err)
		printf("%s is ready; the administrator is %.*s.\n", rt.data, STR_ARG(admin.email));
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_init = {"init", "Prepare a data folder: first tenant, administrator and share", init_options, run_init};

/* ---- token ---- */

static const struct option_spec token_options[] = {
    {"user", "E", "The user's address or id (needed)", NULL},
    {"device", "ID", "Bind the token to one device", NULL},
    {"ttl", "S", "Life in seconds", NULL},
    {"scope", "SCOPES", "Scopes, separated by blanks", NULL},
    TENANT_OPTION,
    {0},
};

static int run_token(struct args *args)
{
	struct runtime rt;
	struct user u;
	struct token token;
	int64_t ttl_s = 0;
	if (!arg(args, "user"))
		return usage_fault("token: --user is needed");
	if (arg(args, "ttl") && (!str_to_i64(arg_str(args, "ttl"), &ttl_s) || ttl_s < 1))
		return usage_fault("token: --ttl must be a positive number of seconds");
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = named_user(&rt, args, "user", &u);
	if (!err && !str_eq(u.status, STR("active")))
		err = ctx_fail(&rt.ctx, E_SUSPENDED, "%.*s is %.*s.", STR_ARG(u.email), STR_ARG(u.status));
	if (!err)
		err = token_issue(&rt.ctx, rt.tokens,
		                  &(struct token_new){&u, arg_str(args, "device"), ttl_s, arg_str(args, "scope")}, &token);
	if (!err)
		printf("%.*s\n", STR_ARG(token.text));
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_token = {"token", "Print a bearer token for a user", token_options, run_token};

/* ---- users ---- */

static const struct option_spec user_add_options[] = {
    {"email", "E", "Address (needed)", NULL},
    {"name", "N", "Name", NULL},
    {"password", "P", "Password; or by --password-stdin or SCAIDRIVE_PASSWORD; none: no sign-in", NULL},
    {"password-stdin", NULL, "Read the password from standard input", NULL},
    {"admin", NULL, "An administrator of the tenant", NULL},
    {"tenant", "NAME", "The tenant; may be left out when there is one", NULL},
    {0},
};

int runtime_tenant(struct runtime *rt, const struct args *args, int64_t *id)
{
	struct tenant_list all;
	int err = named_tenant(rt, args, id);
	if (err || *id)
		return err;
	err = tenant_list(&rt->ctx, &all);
	if (!err && all.n != 1)
		err = ctx_fail(&rt->ctx, E_USAGE, all.n ? "There are several tenants; name one with --tenant."
		                                        : "There is no tenant yet (see: scaidrived init --help).");
	if (!err)
		*id = all.items[0].id;
	return err;
}

static int run_user_add(struct args *args)
{
	struct runtime rt;
	struct user u;
	struct user_new in = {.email = arg_str(args, "email"), .name = arg_str(args, "name")};
	AUTO_SECRET *password = arg_secret(args, "password", "SCAIDRIVE_PASSWORD");
	if (!in.email.p)
		return usage_fault("user add: --email is needed");
	in.password = str_c(password);
	in.admin = arg(args, "admin") ? ADMIN_TENANT : ADMIN_NONE;
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = runtime_tenant(&rt, args, &in.tenant_id);
	if (!err)
		err = user_add(&rt.ctx, &in, &u);
	if (!err) {
		struct buf b = {0};
		buf_id(&b, ID_USER, u.id);
		buf_char(&b, '\n');
		put(&b);
	}
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_user_add = {"user add", "Add a local account; prints its id", user_add_options, run_user_add};

static const struct option_spec list_options[] = {
    {"json", NULL, "As JSON", NULL},
    {"tenant", "NAME", "Of this tenant only", NULL},
    {0},
};

static void print_user(const struct user *u, bool json, bool first, struct buf *b)
{
	const char *role = u->admin == ADMIN_SUPER ? "super_admin" : u->admin == ADMIN_TENANT ? "tenant_admin" : NULL;
	if (!json) {
		buf_id(b, ID_USER, u->id);
		buf_fmt(b, "  %-10.*s %-10.*s %-12s %.*s (%.*s)\n", STR_ARG(u->tenant_name), STR_ARG(u->status), role ? role : "-",
		        STR_ARG(u->email), STR_ARG(u->name));
		return;
	}
	buf_str(b, first ? STR("{\"id\":\"") : STR(",\n{\"id\":\""));
	buf_id(b, ID_USER, u->id);
	buf_lit(b, "\",\"tenant\":");
	json_put_str(b, u->tenant_name);
	buf_lit(b, ",\"tenant_id\":\"");
	buf_id(b, ID_TENANT, u->tenant_id);
	buf_lit(b, "\",\"email\":");
	json_put_str(b, u->email);
	buf_lit(b, ",\"name\":");
	json_put_str(b, u->name);
	buf_lit(b, ",\"status\":");
	json_put_str(b, u->status);
	buf_lit(b, ",\"admin_role\":");
	json_put_str(b, str_c(role));
	buf_char(b, '}');
}

static int run_user_list(struct args *args)
{
	struct runtime rt;
	struct user_list list;
	int64_t tenant_id;
	bool json = arg(args, "json");
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = named_tenant(&rt, args, &tenant_id);
	if (!err)
		err = user_list(&rt.ctx, tenant_id, &list);
	if (!err) {
		struct buf b = {0};
		buf_str(&b, json ? STR("[") : STR(""));
		for (size_t i = 0; i < list.n; i++)
			print_user(&list.items[i], json, i == 0, &b);
		buf_str(&b, json ? STR("]\n") : STR(""));
		put(&b);
	}
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_user_list = {"user list", "List the accounts", list_options, run_user_list};

static const struct option_spec user_password_options[] = {
    {"email", "E", "Address or id (needed)", NULL},
    {"password", "P", "The new password; or by --password-stdin or SCAIDRIVE_PASSWORD", NULL},
    {"password-stdin", NULL, "Read the password from standard input", NULL},
    TENANT_OPTION,
    {0},
};

static int run_user_password(struct args *args)
{
	struct runtime rt;
	struct user u;
	AUTO_SECRET *password = arg_secret(args, "password", "SCAIDRIVE_PASSWORD");
	if (!arg(args, "email") || !password)
		return usage_fault("user password: --email and a password are needed");
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = named_user(&rt, args, "email", &u);
	if (!err)
		err = user_set_password(&rt.ctx, &u, str_c(password));
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_user_password = {"user password", "Set an account's password", user_password_options,
                                          run_user_password};

static const struct option_spec user_status_options[] = {
    {"email", "E", "Address or id (needed)", NULL},
    TENANT_OPTION,
    {0},
};

static int set_status(struct args *args, struct str status)
{
	struct runtime rt;
	struct user u;
	if (!arg(args, "email"))
		return usage_fault("%s: --email is needed", args->command->name);
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = named_user(&rt, args, "email", &u);
	if (!err)
		err = user_set_status(&rt.ctx, &u, status);
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

static int run_user_suspend(struct args *args)
{
	return set_status(args, STR("suspended"));
}

static int run_user_activate(struct args *args)
{
	return set_status(args, STR("active"));
}

const struct command cmd_user_suspend = {"user suspend", "Suspend an account: its tokens stop working within a second",
                                         user_status_options, run_user_suspend};
const struct command cmd_user_activate = {"user activate", "Make a suspended account active again", user_status_options,
                                          run_user_activate};

/* ---- tenants ---- */

static const struct option_spec tenant_add_options[] = {
    {"name", "NAME", "Name of the tenant (needed)", NULL},
    {"admin-email", "E", "Address of its administrator (needed)", NULL},
    {"admin-password", "P", "Password; or by --admin-password-stdin or SCAIDRIVE_ADMIN_PASSWORD; none: no sign-in", NULL},
    {"admin-password-stdin", NULL, "Read the password from standard input", NULL},
    {"share", "NAME", "Make a first share", NULL},
    {0},
};

static int run_tenant_add(struct args *args)
{
	struct runtime rt;
	struct tenant tenant;
	struct user admin;
	AUTO_SECRET *password = arg_secret(args, "admin-password", "SCAIDRIVE_ADMIN_PASSWORD");
	if (!arg(args, "name") || !arg(args, "admin-email"))
		return usage_fault("tenant add: --name and --admin-email are needed");
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	struct tenant_new in = {
	    .name = arg_str(args, "name"),
	    .admin = {.email = arg_str(args, "admin-email"), .password = str_c(password)},
	    .share_name = arg_str(args, "share"),
	};
	int err = tenant_add(&rt.ctx, &in, &tenant, &admin);
	if (!err) {
		struct buf b = {0};
		buf_id(&b, ID_TENANT, tenant.id);
		buf_char(&b, '\n');
		put(&b);
	}
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_tenant_add = {"tenant add", "Add a tenant with its administrator; prints its id",
                                       tenant_add_options, run_tenant_add};

static const struct option_spec no_options[] = {{0}};

static int run_tenant_list(struct args *args)
{
	struct runtime rt;
	struct tenant_list list;
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = tenant_list(&rt.ctx, &list);
	struct buf b = {0};
	for (size_t i = 0; !err && i < list.n; i++) {
		buf_id(&b, ID_TENANT, list.items[i].id);
		buf_fmt(&b, "  %-10.*s %.*s\n", STR_ARG(list.items[i].status), STR_ARG(list.items[i].name));
	}
	put(&b);
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_tenant_list = {"tenant list", "List the tenants", no_options, run_tenant_list};

/* ---- keys, config, migrate, version ---- */

static const struct option_spec keys_rotate_options[] = {
    {"revoke", NULL, "Refuse all tokens signed so far, at once", NULL},
    {0},
};

static int run_keys_rotate(struct args *args)
{
	struct runtime rt;
	struct str kid;
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = keys_rotate(&rt.ctx, arg(args, "revoke"), &kid);
	if (!err)
		printf("%.*s signs from now on.\n", STR_ARG(kid));
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_keys_rotate = {"keys rotate", "Make a new signing key", keys_rotate_options, run_keys_rotate};

static const struct option_spec config_options[] = {
    {"json", NULL, "As JSON", NULL},
    {0},
};

static int run_config(struct args *args)
{
	struct buf b = {0};
	if (arg(args, "json"))
		config_print_json(&args->config, &b);
	else
		config_print(&args->config, &b);
	put(&b);
	return 0;
}

const struct command cmd_config = {"config", "Print the effective settings, where they come from and what they mean",
                                   config_options, run_config};

static int run_migrate(struct args *args)
{
	struct runtime rt;
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	printf("The schema is up to date (%s).\n", db_engine(rt.db));
	runtime_close(&rt);
	return 0;
}

const struct command cmd_migrate = {"migrate", "Bring the database's schema up to this version", no_options, run_migrate};

static int run_version(struct args *args)
{
	(void)args;
	puts("scaidrived " SD_VERSION);
	return 0;
}

const struct command cmd_version = {"version", "Print the version", no_options, run_version};
