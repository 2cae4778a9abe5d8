/* tail: the tenant's log as the server itself follows it, for whoever passes changes on (realtime). No principal reads
 * here; who may see an entry is asked with tail_readable before it leaves.
 */
#ifndef SD_DRIVE_TAIL_H
#define SD_DRIVE_TAIL_H

#include "drive/change.h"
#include "drive/principal.h"

struct tail_page {
	struct change *items; /* ascending */
	size_t n;
	int64_t head; /* of the log in the same snapshot */
};

/* In a read, with t->ctx->tenant_id set: entries after position, at most max. */
int tail_read(struct dtx *t, int64_t position, size_t max, struct tail_page *out);
/* Whether who may read a share now; nobody who was suspended since it came. */
int tail_readable(struct dtx *t, const struct principal *who, int64_t share_id, bool *yes);
/* From here on the transaction reads with the rights of who (NULL: nobody's). */
void tail_as(struct dtx *t, const struct principal *who);
/* After a commit that wrote no entry but matters to sockets (a preference, a device): wakes whoever listens. */
void tail_nudge(struct drive *d, int64_t tenant_id);

#endif
