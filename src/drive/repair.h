/* repair: makes a tenant's world fit together again, for a server that is stopped (scaidrived fsck --repair).
 *
 *  - Nothing that a person made is thrown away. What lost its place goes to the folder "lost+found" of its share, what lost its
 *    name gets one; a version that cannot be read stays, since its bytes may come again (a scrub finds them, drive/scrub.h).
 *  - What is told twice is made to agree with what it was made from: the facts of a head with its version, a size with the recipe,
 *    a count with what is counted.
 *  - Uploads that lost what was sent are ended, leases of missing chunks dropped: clients send again.
 *  - When a tree or the log was touched, every tenant's log begins anew behind a gap (change_epoch_begin): clients read the snapshot, and
 *    nothing newer is deleted.
 *
 * What is left (a file without any version, rows of a share or tenant that is gone, bytes that are nowhere) the next check tells.
 */
#ifndef SD_DRIVE_REPAIR_H
#define SD_DRIVE_REPAIR_H

#include "drive/check.h"
#include "drive/drive.h"

/* What a check found, as far as a repair has to know. Zero-initialise. */
struct repair_list {
	bool store;    /* packs and index have to be gone through */
	bool database; /* the engine complained of its own files */
	bool log;      /* entries are missing */
	struct buf uploads, users; /* ids: sessions to end; whose leases to drop */
};
void repair_note(struct repair_list *list, const struct check_finding *finding);
void repair_list_fini(struct repair_list *list);

struct repair_config {
	struct drive *drive; /* db, ids, clock, rng; packs */
	/* Something was done to n rows. */
	void (*done)(void *arg, const char *code, int64_t n, const char *sentence);
	void (*progress)(void *arg, const char *what, int64_t done, int64_t all);
	void *arg;
};

/* Repeatable, and may be ended at any moment. E_DB when the database itself does not work. */
int drive_repair(const struct repair_config *config, const struct repair_list *list);

#endif
