/* root_posix: the synced folder on a real disk, in parts: paths (root_posix_path.c), reading (_read), writing (_stage), folders,
 * names and the trash (_change), and the root with its marker (root_posix.c). Only these include it; root.h says what the
 * functions of the table do. */
#ifndef SD_CLIENT_ROOT_POSIX_H
#define SD_CLIENT_ROOT_POSIX_H

#include <limits.h>
#include <sys/types.h>

#include "client/root.h"

/* Files are staged in several folders, so many in a row in each: then one thread can fill one while another empties an earlier one, and
 * neither waits for the folder's lock; and names are looked for among few, ext4 going through a block of them each time. */
enum { ROOMS = 32 };

struct posix_root {
	struct root face;
	int fd, own, trash; /* descriptors of the root and of our own folders */
	int rooms[ROOMS];   /* of staging */
	int lock;
	dev_t dev;
	mode_t umask;
	char *path;
	struct str marker; /* its id */
	_Atomic unsigned next_stage;
};

struct root_file {
	int fd;
};

struct root_stage {
	struct posix_root *root;
	int room; /* descriptor of its folder, the root's */
	int fd;   /* -1: sealed */
	char name[64];
	struct disk_stamp sealed;
};

/* Records what the errno means, with the path. */
int posix_fail(struct ctx *ctx, int saved, const char *what, struct str path);
/* What lies at the path, below the root and on its file system; -1 and errno, as all of these. */
int posix_open_beneath(const struct posix_root *r, struct str path, int flags);
int posix_open_folder(const struct posix_root *r, struct str path);
/* The folder that holds path, and the last name. */
int posix_open_parent(const struct posix_root *r, struct str path, char name[NAME_MAX + 1]);
/* Of a name in the folder `at`; "": of `at` itself. No name is set. */
int posix_entry(const struct posix_root *r, int at, const char *name, struct root_entry *out);
/* The very file or folder, whatever became of it. */
bool posix_same_thing(const struct root_entry *e, const struct disk_stamp *assumed);
/* Does a program have it open for writing? Where that cannot be told: no. */
bool posix_is_held(int fd);
/* Renames, if nothing bears the name. */
int posix_no_replace(int from_at, const char *from, int to_at, const char *to);

/* ---- the table ---- */

int posix_list(struct root *face, struct ctx *ctx, struct str path, struct root_entry **out, size_t *n);
int posix_stat(struct root *face, struct ctx *ctx, struct str path, struct root_entry *out);
int posix_open(struct root *face, struct ctx *ctx, struct str path, struct root_file **out, struct root_entry *entry);
int posix_read(struct root_file *f, void *out, size_t cap, size_t *got);
int posix_read_at(struct root_file *f, int64_t offset, void *out, size_t n);
int posix_file_stat(struct root_file *f, struct root_entry *entry);
bool posix_is_written(struct root_file *f);
void posix_close(struct root_file *f);
int posix_stage(struct root *face, struct ctx *ctx, struct root_stage **out);
int posix_stage_write(struct root_stage *s, const void *p, size_t n);
int posix_stage_copy(struct root_stage *s, struct root_file *f, int64_t offset, int64_t n, struct sha256_state *sha);
int posix_stage_commit(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                       int64_t mtime_us, bool executable, struct root_entry *out);
void posix_stage_abort(struct root_stage *s);
int posix_stage_seal(struct root_stage *s, struct ctx *ctx, int64_t mtime_us, bool executable);
int posix_settle(struct root *face, struct ctx *ctx);
int posix_stage_place(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                      struct root_entry *out);
int posix_make_folder(struct root *face, struct ctx *ctx, struct str path, struct root_entry *out);
int posix_rename(struct root *face, struct ctx *ctx, struct str from, const struct disk_stamp *assumed,
                 struct str to, struct root_entry *out);
int posix_trash(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                struct str label);
int posix_discard(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed);
int posix_set_mode(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                   bool executable, struct root_entry *out);
int posix_remove_folder(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed);

#endif
