/* disk_fault: a disk in memory that fails and crashes on command, for tests and the simulator.
 *
 * It keeps what programs see and what would survive a loss of power apart. A crash keeps what was synced and, of the
 * rest, what the seed says: any subset of the written pages (torn at 512 bytes, in any order), any subset of the
 * changes to names. A file's sync does not make its name durable, as POSIX has it. */
#ifndef SD_IO_DISK_FAULT_H
#define SD_IO_DISK_FAULT_H

#include "io/disk.h"

struct disk *disk_fault_new(uint64_t seed);

/* The number of calls that could fail so far. */
int64_t disk_fault_calls(struct disk *d);
/* Calls number nth, nth + 1 ... nth + count - 1 from now (1 is the next) return err; a write that fails leaves a random
 * part behind. err 0: no more faults. */
void disk_fault_at(struct disk *d, int64_t nth, int64_t count, int err);
/* Sync number nth of a file from now fails with E_IO (0: none). What it was to make durable is taken for clean from then on:
 * a later sync does not write it. */
void disk_fault_sync(struct disk *d, int64_t nth);
/* Loses what is not durable. Files that are open are dead: their calls return E_IO; close them. The disk is as after a
 * restart: writable, no faults. */
void disk_fault_crash(struct disk *d);
/* The process ends at call number nth from now (0: at once; -1: it does not): that call and all later ones return E_IO and, but for a part
 * of a write that was under way, change nothing; until one of: a crash (the power went), a restart (it did not: what was
 * written is there). */
void disk_fault_die(struct disk *d, int64_t nth);
bool disk_fault_is_dead(struct disk *d);
void disk_fault_restart(struct disk *d);
/* Bytes that all files together may take; -1: no bound. Beyond it writes return E_NO_SPACE. */
void disk_fault_capacity(struct disk *d, int64_t bytes);

#endif
