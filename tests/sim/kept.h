/* kept: SQLite connections that outlive what they simulate. */
#ifndef SD_SIM_KEPT_H
#define SD_SIM_KEPT_H

#include "io/disk.h"

/* Before a schedule: the connection of slot i has seen this database, whatever it saw before. */
void kept_meet(int i, struct disk *disk, const char *file);

#endif
