/* disk: every file call of the server's stores, behind one seam, so that a simulator can own the disk.
 *
 * A disk is rooted at a folder. Names are relative to it, made by us (never user text), with '/' between folders.
 * All calls are safe from any thread.
 *
 * The durability rule lives here, once: after a failed sync the kernel may have dropped the dirty pages and marked
 * them clean, so a second sync that succeeds proves nothing. A failed disk_sync or disk_sync_dir therefore turns the
 * whole disk read-only: every later call that changes something returns E_READ_ONLY until the process is restarted.
 * A failed write does not: nothing was acknowledged, the caller drops the piece and may go on when there is room.
 *
 * A disk may keep a margin of room (disk_keep_room): what grows is refused (E_NO_SPACE) while less is free, so that there
 * is room for what makes room.
 */
#ifndef SD_IO_DISK_H
#define SD_IO_DISK_H

#include <stdatomic.h>

#include "base/err.h"
#include "base/str.h"

struct disk;
struct disk_file;

enum disk_flags {
	DISK_READ = 0,
	DISK_WRITE = 1,  /* read and write */
	DISK_CREATE = 2, /* with DISK_WRITE: the file must not exist (else E_CONFLICT) */
};

typedef int disk_list_fn(void *arg, const char *name, bool is_folder);

/* What an implementation provides; called through the functions below only. */
struct disk_ops {
	int (*open)(struct disk *d, const char *name, int flags, struct disk_file **out);
	void (*close)(struct disk_file *f);
	int (*pread)(struct disk_file *f, void *p, size_t n, int64_t offset, size_t *got);
	int (*pwrite)(struct disk_file *f, const void *p, size_t n, int64_t offset);
	int (*sync)(struct disk_file *f);
	void (*start_write)(struct disk_file *f, int64_t offset, int64_t n);
	int (*size)(struct disk_file *f, int64_t *size_bytes);
	int (*there)(struct disk_file *f, int64_t *size_bytes);
	int (*truncate)(struct disk_file *f, int64_t size_bytes);
	int (*sync_dir)(struct disk *d, const char *dir);
	int (*rename)(struct disk *d, const char *from, const char *to);
	int (*unlink)(struct disk *d, const char *name);
	int (*mkdir)(struct disk *d, const char *name);
	int (*list)(struct disk *d, const char *dir, disk_list_fn *fn, void *arg);
	int (*space)(struct disk *d, int64_t *free_bytes);
	void (*free)(struct disk *d);
};

struct disk {
	const struct disk_ops *ops;
	_Atomic bool failed; /* a sync failed */
	_Atomic int64_t syncs;
	_Atomic int64_t margin_bytes;
	_Atomic int64_t credit_bytes; /* may be written before the room is looked at again */
};

struct disk_file {
	struct disk *disk;
};

/* The real one, rooted at path (an existing folder). E_NOT_FOUND, E_IO. */
int disk_posix_open(const char *path, struct disk **out);
/* All files must be closed. */
void disk_free(struct disk *d);
/* True after a failed sync: the disk is read-only until a restart. */
bool disk_failed(struct disk *d);
/* Syncs of files and folders so far, for metrics. */
int64_t disk_syncs(struct disk *d);

/* flags: enum disk_flags. E_NOT_FOUND, E_CONFLICT (exists), E_NO_SPACE, E_READ_ONLY, E_IO. */
int disk_open(struct disk *d, const char *name, int flags, struct disk_file **out);
/* NULL is allowed. Closing makes nothing durable. */
void disk_close(struct disk_file *f);
/* Reads n bytes; *got < n only at the end of the file. */
int disk_pread(struct disk_file *f, void *p, size_t n, int64_t offset, size_t *got);
/* Writes all n bytes or fails; after a failure any part of them may be there. */
int disk_pwrite(struct disk_file *f, const void *p, size_t n, int64_t offset);
/* fdatasync: the bytes and the size are durable; the name is only after disk_sync_dir of its folder. */
int disk_sync(struct disk_file *f);
/* Hint: begin writing this range out, without waiting (keeps the last sync of a long file short). */
void disk_start_write(struct disk_file *f, int64_t offset, int64_t n);
int disk_size(struct disk_file *f, int64_t *size_bytes);
/* How much of it whoever opens it by its name gets: 0 when it was deleted. */
int disk_there(struct disk_file *f, int64_t *size_bytes);
int disk_truncate(struct disk_file *f, int64_t size_bytes);
/* dir: "" is the root. */
int disk_sync_dir(struct disk *d, const char *dir);
/* Replaces to if it exists. */
int disk_rename(struct disk *d, const char *from, const char *to);
/* Works on a full disk; E_NOT_FOUND when it is gone. */
int disk_unlink(struct disk *d, const char *name);
/* 0 also when the folder exists. */
int disk_mkdir(struct disk *d, const char *name);
/* Calls fn for each entry, in no order, until it returns non-zero, which is returned. */
int disk_list(struct disk *d, const char *dir, disk_list_fn *fn, void *arg);
int disk_space(struct disk *d, int64_t *free_bytes);

/* From now on files are made and written only while so much room is left besides. Others' writes are seen with a delay of
 * 1 MiB of ours at most. 0 (at first): to the last byte. */
void disk_keep_room(struct disk *d, int64_t margin_bytes);
/* Is there room for n more bytes besides the margin? 0 or E_NO_SPACE. Cheap; n 0 looks in any case. */
int disk_room(struct disk *d, int64_t n);

#endif
