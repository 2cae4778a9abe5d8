/* user: local accounts, their state, and signing in with a password.
 *
 * An e-mail address is unique in its tenant, compared by NFC and case folding (base/name.h). States: active, pending,
 * suspended, inactive, deleted; only active ones may do anything.
 */
#ifndef SD_DRIVE_USER_H
#define SD_DRIVE_USER_H

#include "drive/drive.h"
#include "drive/principal.h"

struct user {
	int64_t id, tenant_id;
	struct str email, name, status, tenant_name;
	enum admin_role admin;
	int64_t created_at, last_login_at; /* microseconds; last_login_at 0: never */
	int64_t gen;                       /* grows with every change of state or password */
};

struct user_new {
	int64_t tenant_id;
	struct str email, name; /* name empty: the part of the address before '@' */
	struct str password;    /* STR_NULL: cannot sign in with one */
	enum admin_role admin;
};

struct user_list {
	struct user *items;
	size_t n;
};

/* These are for tools and bootstrap: no principal is asked. */
/* E_INVALID, E_CONFLICT (the address is taken). */
int user_add(struct ctx *ctx, const struct user_new *in, struct user *out);
/* The same in two steps, for a transaction that does more: checks and hashes outside of it, then inserts. */
struct user_draft {
	const struct user_new *in;
	struct str name, hash;
};
int user_prepare(struct ctx *ctx, const struct user_new *in, struct user_draft *out);
int user_insert(struct tx *tx, struct ctx *ctx, const struct user_draft *draft, struct user *out);
/* By address, or by id ("usr_..."). tenant_id 0: any; E_CONFLICT when several tenants know the address. E_NOT_FOUND. */
int user_find(struct ctx *ctx, int64_t tenant_id, struct str email_or_id, struct user *out);
/* tenant_id 0: of all tenants; by tenant and address. */
int user_list(struct ctx *ctx, int64_t tenant_id, struct user_list *out);
int user_set_status(struct ctx *ctx, const struct user *u, struct str status);
int user_set_password(struct ctx *ctx, const struct user *u, struct str password);

/* How many failed sign-ins are counted before E_RATE_LIMITED: per account and address within the window; twice that per
 * account from everywhere, ten times per address for all accounts. */
struct login_limits {
	int64_t attempts, window_s;
};

/* Signs in. peer: the caller's address. E_LOGIN_FAILED (unknown, wrong, or several tenants know the address), E_SUSPENDED
 * (only with the right password), E_RATE_LIMITED, E_BUSY. */
int user_login(struct ctx *ctx, const struct login_limits *limits, struct str email, struct str password, struct str peer,
               struct user *out);

/* Grows whenever this process changed something that a cached principal is made of. */
uint64_t user_epoch(void);

/* Fills a principal from the user's row: tenant, roles, groups, names; strings in the arena. E_UNAUTHENTICATED: no such user
 * in that tenant; E_SUSPENDED: user or tenant is not active. scopes, device_id and expiry are left alone. */
int principal_load(struct ctx *ctx, int64_t tenant_id, int64_t user_id, struct principal *out);

#endif
