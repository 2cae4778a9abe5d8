/* policy: for how long what nobody sees any more is kept, trash and old versions; and how much one request may bring.
 *
 * Kept in the settings of a tenant and of a share, JSON objects, under the keys below; a share's value stands before its
 * tenant's, that before the default. A number, or null: without end.
 */
#ifndef SD_DRIVE_POLICY_H
#define SD_DRIVE_POLICY_H

#include "drive/drive.h"

enum policy_key {
	POLICY_TRASH_DAYS,     /* in the trash */
	POLICY_ALL_HOURS,      /* every version is kept so long */
	POLICY_HOURLY_DAYS,    /* then the last one of each hour, to this age */
	POLICY_DAILY_DAYS,     /* then the last one of each day, to this age; then the last one of each week */
	POLICY_VERSION_DAYS,   /* older versions go altogether, but for the present one */
	POLICY_FILE_BYTES,     /* of a file in one multipart request; the server's own bound holds besides. Of a tenant alone */
	POLICY_KEYS
};
enum { POLICY_FOREVER = -1, POLICY_FILE_BYTES_MIN = 1 << 20 };
struct policy_info {
	const char *name, *unit, *what;
	int64_t dflt, min, max;
	bool tenant_only; /* a share has none of its own */
};
extern const struct policy_info policy_infos[POLICY_KEYS];

struct policy {
	int64_t values[POLICY_KEYS]; /* POLICY_FOREVER */
};

/* Settings as the database has them; what is no number of the allowed range counts as not set. */
void policy_read(struct str tenant_settings, struct str share_settings, struct policy *out);

/* For tools. share_id 0: the tenant's. */
struct policy_place {
	int64_t tenant_id, share_id;
};
struct policy_shown {
	struct policy policy;
	const char *from[POLICY_KEYS]; /* "share", "tenant", "default" */
};
int policy_show(struct ctx *ctx, const struct policy_place *place, struct policy_shown *out);
/* Each of assignments is KEY=N, KEY=never (for ever) or KEY= (as the level above has it). E_USAGE with a sentence. */
int policy_set(struct ctx *ctx, const struct policy_place *place, const struct str *assignments, size_t n);
/* A share by id ("shr_...") or by a name that only one has. E_NOT_FOUND; E_CONFLICT: several have the name. */
int policy_find_share(struct ctx *ctx, struct str name_or_id, struct policy_place *out);

#endif
