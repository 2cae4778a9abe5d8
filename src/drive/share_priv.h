/* share_priv: what share.c and member.c say to each other. */
#ifndef SD_DRIVE_SHARE_PRIV_H
#define SD_DRIVE_SHARE_PRIV_H

#include "drive/share.h"

/* E_NOT_FOUND unless it is a user or a group of the caller's tenant. */
int principal_exists(struct dtx *t, struct rid who);
/* The caller is that user, or a member of that group. */
bool principal_is_caller(const struct ctx *ctx, struct rid who);
/* A membership row; E_CONFLICT is left to the caller to prevent. */
int member_insert(struct dtx *t, int64_t share_id, struct rid who, enum role role, int64_t expires_at);

#endif
