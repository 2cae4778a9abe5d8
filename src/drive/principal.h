/* principal: who asks. Made by authentication, immutable while a request lives. */
#ifndef SD_DRIVE_PRINCIPAL_H
#define SD_DRIVE_PRINCIPAL_H

#include "base/id.h"

enum admin_role { ADMIN_NONE, ADMIN_TENANT, ADMIN_SUPER };

enum scope {
	SCOPE_FILES_READ = 1,
	SCOPE_FILES_WRITE = 2,
	SCOPE_TENANT_ADMIN = 4,
	SCOPE_PARTNER_ADMIN = 8,
	SCOPE_ALL = 15,
};

struct principal {
	int64_t tenant_id, user_id;
	enum admin_role admin; /* from the database, not from the token */
	unsigned scopes;       /* SCOPE_* bits; a token without an application scope has files:read and files:write (D25) */
	int64_t *groups;       /* ids of the user's groups */
	size_t n_groups;
	struct str email, name;
	struct str device_id;  /* of a token bound to a device, or STR_NULL */
	int64_t expires_at_us; /* of the token */
};

#endif
