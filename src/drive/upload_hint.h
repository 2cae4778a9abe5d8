/* upload_hint: pieces of a new upload that need not be sent (D16).
 *
 * Two kinds of hint: the hash of each piece, which finds pieces that this user sent in the last 24 hours, in an upload of its own
 * that is open or completed, with a claimed hash that was verified; or the hashes and lengths of the chunks that the content was
 * cut into, which are had by D13 (drive/chunk.h). What others have is not looked at. A piece that was found gets a row that
 * names the chunks it lies in; the mover reads it there when its turn comes.
 */
#ifndef SD_DRIVE_UPLOAD_HINT_H
#define SD_DRIVE_UPLOAD_HINT_H

#include "drive/upload_priv.h"

/* Number and lengths fit the file. E_INVALID. */
int upload_hints_check(struct ctx *ctx, const struct upload_create *in);
/* The pieces that are had, in the arena; each once. E_TOO_LARGE: the sources have too many chunks. */
int upload_hints_find(struct ctx *ctx, const struct upload_create *in, struct staged_row **out, size_t *n);
/* The new upload has them. */
int upload_hints_take(struct ctx *ctx, const struct upload *up, const struct staged_row *rows, size_t n);

#endif
