/* vfs: SQLite's files, for vfs.c and kept.c. */
#ifndef SD_SIM_VFS_H
#define SD_SIM_VFS_H

#include "db/db_sqlite_log.h"
#include "sim.h"

enum { SLOTS = DEVICES_MAX + 1, SHM_REGIONS = 64 };

struct vfile {
	sqlite3_file base;
	struct slot *slot;
	struct disk *disk;
	struct disk_file *file; /* NULL: detached */
	const char *name;       /* SQLite's */
	bool new_journal;
	void *shm[SHM_REGIONS];
	size_t shm_size; /* of each */
};

/* The server is slot 0, devices follow. Each has one database at a time: "simN" is the product's joined log over "diskN". */
struct slot {
	sqlite3_vfs vfs;
	struct db_sqlite_log joined;
	char name[8], disk_name[8];
	struct disk *disk;
	struct vfile *files[2]; /* the database and its log, while they are open */
	int n_open;             /* of all files */
};

extern struct slot sim_slots[SLOTS];

/* The slot's open files lead to the files of these names on its present disk; the write-ahead index is empty, as after a
 * crash. On an error some do not. */
int vfs_attach(struct slot *slot);
/* They lead nowhere. */
void vfs_detach(struct slot *slot);

#endif
