/* share: a tree with members and a quota. */
#ifndef SD_DRIVE_SHARE_H
#define SD_DRIVE_SHARE_H

#include "drive/node.h"

struct share {
	int64_t id, tenant_id, root_id;
	struct str name, description; /* description may be STR_NULL */
	struct str share_type;        /* "central", "personal", "project" */
	struct rid owner;             /* ID_USER or ID_GROUP */
	bool is_public;
	int64_t deleted_at;           /* 0: live */
	bool has_quota;
	int64_t quota_bytes, used_bytes;
	struct str settings;          /* JSON object */
	int64_t created_at, modified_at;
	unsigned rights;              /* of the principal who loaded it */
	enum role role;               /* its role; an administrator without one: ROLE_NONE */
};

const char *role_name(enum role role); /* "owner" ... */
bool role_parse(struct str s, enum role *out);

enum {
	SHARE_WITH_TRASH = 1 << 9, /* flag beside rights: a deleted share is wanted too (else E_GONE for members) */
};
/* E_NOT_FOUND, E_FORBIDDEN, E_GONE; see node_load. */
int share_load(struct dtx *t, int64_t id, unsigned want, struct share *out);
/* delta bytes more (or fewer) are counted on the share. E_QUOTA, naming the level, when more would not fit. The row follows
 * at the end of the write (share_use_flush, called by drive_write) or when another share is counted on. */
int share_use(struct dtx *t, int64_t share_id, int64_t delta_bytes);
int share_use_flush(struct dtx *t);

struct share_create {
	struct str name, share_type, description;
	struct rid owner;        /* n 0: the caller. Someone else's share may be made by administrators of the tenant; a
	                            group's also by its members */
	bool has_quota;
	int64_t quota_bytes;
};
int drive_share_create(struct ctx *ctx, const struct share_create *in, struct share *out);
/* The same inside a write, for ctx's principal, who has just been made (a tenant's first share). */
int share_create_first(struct dtx *t, const struct share_create *in, struct share *out);

struct share_list_in {
	bool include_trashed;
	bool mine; /* only where the caller has a role (users/me/shares), also for administrators */
	int64_t limit, offset; /* limit 0: 50 */
};
struct share_list {
	struct share *items; /* oldest first */
	size_t n;
	int64_t total;
};
int drive_share_list(struct ctx *ctx, const struct share_list_in *in, struct share_list *out);
int drive_share_get(struct ctx *ctx, int64_t id, struct share *out);

struct share_patch {
	int64_t id;
	struct str name;         /* STR_NULL: as it is */
	bool has_description;
	struct str description;
	bool has_quota;          /* administrators of the tenant only */
	bool quota_none;         /* the quota is taken away */
	int64_t quota_bytes;
	bool restore;            /* a deleted share comes back; owner */
};
/* MANAGE. */
int drive_share_patch(struct ctx *ctx, const struct share_patch *in, struct share *out);
/* Soft; owner of the share or administrator of the tenant, else E_FORBIDDEN. */
int drive_share_delete(struct ctx *ctx, int64_t id);

struct member {
	int64_t share_id;
	struct rid principal;    /* ID_USER or ID_GROUP */
	struct str name, email;  /* email STR_NULL for groups */
	enum role role;
	int64_t expires_at;      /* 0: never */
	int64_t created_by, created_at;
};
struct member_list {
	struct member *items;
	size_t n;
	int64_t total;
};
/* READ. limit 0: 50. */
int drive_member_list(struct ctx *ctx, int64_t share_id, int64_t limit, int64_t offset, struct member_list *out);

struct member_add {
	int64_t share_id;
	struct rid principal;
	enum role role;
	int64_t expires_at;
};
/* MANAGE; a role is given only by those who have all it gives (so owners alone make owners). E_CONFLICT: already a
 * member. E_NOT_FOUND: no such principal in the tenant. */
int drive_member_add(struct ctx *ctx, const struct member_add *in, struct member *out);
struct member_patch {
	int64_t share_id;
	struct rid principal;
	enum role role;     /* ROLE_NONE: as it is */
	bool has_expires;
	int64_t expires_at;
};
/* The last owner stays (E_CONFLICT). */
int drive_member_patch(struct ctx *ctx, const struct member_patch *in, struct member *out);
/* MANAGE, or the member itself leaves. */
int drive_member_remove(struct ctx *ctx, int64_t share_id, struct rid principal);

struct principal_search_in {
	struct str query;        /* at least one character: start of the name, of the address, or of a later word of the name */
	bool users, groups;
	int64_t limit;           /* 1..50, 0: 20, of each kind */
};
struct principal_hit {
	struct rid id;
	struct str name, email;
};
struct principal_search {
	struct principal_hit *users, *groups;
	size_t n_users, n_groups;
};
int drive_principal_search(struct ctx *ctx, const struct principal_search_in *in, struct principal_search *out);

#endif
