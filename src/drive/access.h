/* access: the one place where rights are decided (D24).
 *
 * Rights of a principal on a node, in this order: an administrator of the tenant has all; else the role in the share
 * (direct, by a group, or as owner) plus what allow rules on the way from the root to the node give, minus what deny
 * rules take (rules come with the permissions issue; the table is there). Scopes of the token cap the result.
 */
#ifndef SD_DRIVE_ACCESS_H
#define SD_DRIVE_ACCESS_H

#include "drive/drive.h"
#include "drive/principal.h"

enum right {
	RIGHT_READ = 1,
	RIGHT_WRITE = 2,
	RIGHT_DELETE = 4,
	RIGHT_CREATE = 8,
	RIGHT_SHARE = 16,
	RIGHT_MANAGE = 32,
	RIGHT_ALL = 63,
	RIGHT_OWNER = 64, /* owner of the share or administrator of the tenant; on shares only */
};

enum role { ROLE_NONE, ROLE_READER, ROLE_CONTRIBUTOR, ROLE_ADMIN, ROLE_OWNER };

/* Bits for a role: owner and admin 63 (owner also RIGHT_OWNER), contributor 15, reader 1. */
unsigned role_rights(enum role role);

/* The rights of t's principal in a share, by role alone; *role may be NULL. No rights: 0, never an error. */
int access_share(struct dtx *t, int64_t share_id, unsigned *rights, enum role *role);

/* What a role gives the caller, after its token's scopes; an administrator of the tenant has all. */
unsigned access_rights(const struct ctx *ctx, enum role role);
/* The shares in which the principal itself has a role, ascending by id, deleted ones too; also for administrators. */
struct access_entry {
	int64_t share_id;
	enum role role;
	bool deleted;
};
int access_shares(struct dtx *t, struct access_entry **out, size_t *n);
/* An administrator of the tenant, with a token that may act as one. */
bool access_is_admin(const struct ctx *ctx);
/* Whether both act for the same principal with a token of the same scopes: what one may, the other may. */
bool access_same_principal(const struct ctx *a, const struct ctx *b);
/* Forgets what the transaction remembers about rights; after memberships were changed in it. */
void access_forget(struct dtx *t);

/* The verdict on a resource that is there: 0; E_NOT_FOUND without READ (worded as for an unknown id);
 * E_FORBIDDEN with READ but not all of want ("Permission denied: WRITE on fil_..."). */
int access_verdict(struct ctx *ctx, unsigned have, unsigned want, struct rid what);
/* "READ", "WRITE|CREATE" ... for messages. */
struct str right_names(struct arena *a, unsigned rights);

#endif
