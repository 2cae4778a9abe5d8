/* tenant: one change log, one chunk scope; and the first start. For tools: no principal is asked. */
#ifndef SD_DRIVE_TENANT_H
#define SD_DRIVE_TENANT_H

#include "drive/user.h"

struct tenant_new {
	struct str name;         /* unique, for tools: letters, digits, '-', '_', '.' */
	struct str display_name; /* empty: name */
	struct user_new admin;   /* its tenant_id and role are set here */
	struct str share_name;   /* the first share, owned by the administrator; STR_NULL: none */
};

struct tenant {
	int64_t id, created_at;
	struct str name, display_name, status;
};

struct tenant_list {
	struct tenant *items;
	size_t n;
};

/* The tenant, its administrator and the share come in one transaction. E_CONFLICT: the name is taken. */
int tenant_add(struct ctx *ctx, const struct tenant_new *in, struct tenant *out, struct user *admin);
/* By name or id ("tnt_..."). E_NOT_FOUND. */
int tenant_find(struct ctx *ctx, struct str name_or_id, struct tenant *out);
int tenant_list(struct ctx *ctx, struct tenant_list *out);
/* *id: of the one that there is; 0: there are several, or none. */
int tenant_only(struct db *db, int64_t *id);

/* A share of that owner, made with the owner's rights; for bootstrap and tools. */
int tenant_share_add(struct ctx *ctx, const struct user *owner, struct str name, int64_t *share_id);

#endif
