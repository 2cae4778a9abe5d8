/* device: a client of a user, named by an id that the client chose; unique per user.
 *
 * Every look-up goes through device_load: the caller's own devices only, and a token that is bound to a device reaches
 * no other. Removing a device keeps its conflicts and versions; its cursors and preferences go with it.
 */
#ifndef SD_DRIVE_DEVICE_H
#define SD_DRIVE_DEVICE_H

#include "drive/drive.h"

enum device_platform {
	DEVICE_WINDOWS = 1,
	DEVICE_MACOS,
	DEVICE_LINUX,
	DEVICE_IOS,
	DEVICE_ANDROID,
	DEVICE_WEB,
	DEVICE_CLI,
};

const char *device_platform_name(enum device_platform p);
bool device_platform_parse(struct str s, enum device_platform *out);

struct device {
	int64_t id, tenant_id, user_id;
	struct str device_id, name, client_version; /* client_version may be STR_NULL */
	enum device_platform platform;
	bool is_active;
	int64_t created_at, last_seen_at; /* last_seen_at 0: never */
};

struct device_list {
	struct device *items; /* oldest first */
	size_t n;
};

struct device_register_in {
	struct str device_id, name, client_version;
	enum device_platform platform;
};

struct device_update_in {
	struct str device_id;
	struct str name; /* STR_NULL: as it is */
	bool has_active, is_active;
};

/* The caller's device; E_NOT_FOUND when unknown or another user's; E_FORBIDDEN when the token is another device's. */
int device_load(struct dtx *t, struct str device_id, struct device *out);
/* E_INVALID with the field when the id is empty, too long or holds control characters. */
int device_id_check(struct ctx *ctx, const char *where, struct str device_id);

/* Makes it or brings it up to date, and active in either case. E_CONFLICT above LIMIT_DEVICES_PER_USER. */
int drive_device_register(struct ctx *ctx, const struct device_register_in *in, struct device *out);
int drive_device_list(struct ctx *ctx, struct device_list *out);
int drive_device_get(struct ctx *ctx, struct str device_id, struct device *out);
int drive_device_update(struct ctx *ctx, const struct device_update_in *in, struct device *out);
int drive_device_delete(struct ctx *ctx, struct str device_id);
/* Seen now, and active. */
int drive_device_heartbeat(struct ctx *ctx, struct str device_id);
/* For a socket: like device_load, but E_FORBIDDEN when the id is another user's of the tenant (D9, D23). */
int drive_device_connect(struct ctx *ctx, struct str device_id, struct device *out);

#endif
