/* fs: a device's file system in memory (fs.c): inodes, stamps, names, and what a power failure leaves of them. Contents are
 * numbers (sim.h); all memory is the run's arena. */
#ifndef SD_SIM_FS_H
#define SD_SIM_FS_H

#include "base/ctx.h"

struct sim;
struct sim_clock;

struct inode {
	uint64_t ino;
	bool is_folder, executable, durable_executable;
	int64_t birth_ns, mtime_ns, ctime_ns, durable_mtime_ns, durable_ctime_ns;
	int content, durable_content;
	bool synced;    /* its bytes were ever made durable */
	bool by_client; /* holds what the client put there */
};

struct dent {
	struct inode *dir;
	struct str name, key;
	struct inode *node;
};

struct names {
	struct dent *v;
	size_t n;
};

struct fs {
	struct sim *sim;
	struct sim_clock *clock;
	struct inode *root, *own, *staging, *trash; /* own: ROOT_OWN_NAME */
	struct names live;
	struct names *past; /* how the names were, from the last sync on; the first is durable */
	size_t n_past, cap_past;
	uint64_t next_ino, free_inos[16];
	size_t n_free_inos;
	bool fold, birthless;
	int64_t tick_ns; /* of the clock behind the stamps */
	int64_t space; /* files that may still be made; -1: no bound */
	int epoch;     /* grows with every power failure */
	int64_t generation; /* in the folder's marker */
};

void fs_init(struct fs *f, struct sim *s, struct sim_clock *clock);
struct inode *fs_child(const struct fs *f, const struct inode *dir, struct str name);
/* NULL: nothing there. */
struct inode *fs_find(const struct fs *f, struct str path);
/* The folder of path, and its last name. */
struct inode *fs_parent(const struct fs *f, struct str path, struct str *name);
struct dent *fs_dent(const struct fs *f, const struct inode *node);
bool fs_is_below(const struct fs *f, const struct inode *node, const struct inode *top);
/* E_NO_SPACE, E_CONFLICT. */
int fs_make(struct fs *f, struct inode *dir, struct str name, bool is_folder, struct inode **out);
void fs_write(struct fs *f, struct inode *file, int content);
/* Replaces what is there. */
void fs_rename(struct fs *f, struct inode *dir, struct str name, struct inode *to_dir, struct str to_name);
void fs_exchange(struct fs *f, struct inode *dir, struct str name, struct inode *to_dir, struct str to_name);
void fs_unlink(struct fs *f, struct inode *dir, struct str name);
void fs_set_executable(struct fs *f, struct inode *file, bool on);
void fs_sync_file(struct fs *f, struct inode *file);
/* The names as they are now are durable. */
void fs_sync_names(struct fs *f);
void fs_sync_all(struct fs *f);
/* The power fails: a prefix of the changes to names survives; of each file's bytes the last durable or the present ones. */
void fs_power_fails(struct fs *f, struct rng *rng);
/* Everything below the root but ROOT_OWN_NAME, into the sim's arena. */
struct seen {
	struct str path;
	struct inode *node;
	struct dent *dent;
};
size_t fs_list(const struct fs *f, struct seen **out);

#endif
