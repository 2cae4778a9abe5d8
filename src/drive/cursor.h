/* cursor: how far a device has come in a share (D1). The log itself is change.h. */
#ifndef SD_DRIVE_CURSOR_H
#define SD_DRIVE_CURSOR_H

#include "drive/drive.h"

/* The count of what is pending stops here. */
enum { CURSOR_PENDING_MAX = 100000 };

struct sync_state {
	int64_t position;
	int64_t last_sync_at;    /* 0: never */
	int64_t pending_changes; /* entries of the share after position, everyone's, at most CURSOR_PENDING_MAX */
	bool has_conflicts;      /* open ones of this device in this share */
};

/* Makes the cursor at the head when there is none. E_NOT_FOUND: device or share. */
int drive_sync_status(struct ctx *ctx, struct str device_id, int64_t share_id, struct sync_state *out);
/* Moves it forward; an older position is accepted and changes nothing. E_CURSOR_INVALID: negative, or beyond
 * the head. out->pending_changes and has_conflicts are not filled. */
int drive_sync_cursor_set(struct ctx *ctx, struct str device_id, int64_t share_id, int64_t position,
                          struct sync_state *out);

#endif
