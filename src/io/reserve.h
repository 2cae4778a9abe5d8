/* reserve: a file that takes room while there is some, and gives it back when a disk is full to the last byte.
 *
 * A disk's margin (disk_keep_room) keeps uploads from filling it, but others write to it too. Without a byte left even a
 * delete cannot be recorded, since that is a row and a log entry. The file is written with zeros, so it keeps room on file
 * systems that do not compress. Safe from any thread.
 */
#ifndef SD_IO_RESERVE_H
#define SD_IO_RESERVE_H

#include "io/disk.h"

struct reserve;

/* The file "reserve" of the disk, made when there is room for it and the margin besides. */
struct reserve *reserve_open(struct disk *d, int64_t bytes, int64_t margin_bytes);
/* NULL is allowed. The file stays. */
void reserve_close(struct reserve *r);
/* Gives the room back. False: it was given back before. */
bool reserve_release(struct reserve *r);
/* Takes it again, when there is room. */
void reserve_restore(struct reserve *r);

#endif
