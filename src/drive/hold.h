/* hold: for as long as one lasts, the collector (collect.h) deletes no file of the store. For whoever copies the store while
 * it is in use: take the hold, then a snapshot of the database: every pack that a chunk of the snapshot lies in is there until
 * the hold is over. (Rows go on being removed and moved, and packs retired; their files stay.)
 *
 * A hold is a row "hold:NAME" of leases with an end, so that one whose taker died does not last. Renew it well before.
 */
#ifndef SD_DRIVE_HOLD_H
#define SD_DRIVE_HOLD_H

#include "drive/drive.h"

/* Takes it, or moves its end; durable on return. name: letters and digits. */
int hold_take(struct db *db, const struct clock *clock, struct str name, int64_t for_ms);
int hold_drop(struct db *db, struct str name);
/* The end of the hold that lasts longest; 0: there is none now. */
int hold_until(struct tx *tx, int64_t now_us, int64_t *until_us);

#endif
