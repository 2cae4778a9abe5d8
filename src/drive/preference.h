/* preference: what a device wants of a share. The server stores and announces it; clients alone act on it. */
#ifndef SD_DRIVE_PREFERENCE_H
#define SD_DRIVE_PREFERENCE_H

#include "drive/drive.h"

struct preference {
	int64_t share_id;
	bool sync_enabled;
	bool has_selected, has_excluded; /* else null */
	int64_t *selected, *excluded;    /* folder ids */
	size_t n_selected, n_excluded;
	int64_t updated_at;
};

struct preference_list {
	struct preference *items; /* by share id */
	size_t n;
};

/* A preference that changed, for the sockets of its user. */
struct preference_notice {
	int64_t user_id, share_id, updated_at;
	struct str device_id;
};

enum { PREFERENCE_FOLDERS_MAX = 10000, PREFERENCE_LIST_MAX = 10000 };

int drive_preference_list(struct ctx *ctx, struct str device_id, struct preference_list *out);
/* Stores items for the device, all or none; replace: shares that are not named return to the default (to sync it whole).
 * *out is the list of all afterwards. Each share must be
 * readable (E_NOT_FOUND); whether the folders exist is not asked, since they may come and go later. E_INVALID above
 * PREFERENCE_FOLDERS_MAX folders in a list. */
int drive_preference_put(struct ctx *ctx, struct str device_id, const struct preference *items, size_t n,
                         bool replace, struct preference_list *out);
/* What was set in the tenant after since_us, oldest first, at most max: a hint for sockets. In a read. */
int preference_changed(struct dtx *t, int64_t since_us, size_t max, struct preference_notice **out, size_t *n);

#endif
