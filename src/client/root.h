/* root: the synced folder on this disk, behind a seam that a simulator can own.
 *
 * Paths are relative to the root, '/' between names, "" for the root itself. The real one (root_posix.c) never leaves
 * the root: every path is resolved by openat2 with BENEATH, NO_SYMLINKS, NO_MAGICLINKS and NO_XDEV (where the kernel lacks it,
 * component by component with O_NOFOLLOW), and what is done is done by *at calls on the parent's descriptor.
 *
 * The folder ROOT_OWN_NAME inside the root is ours: "id" marks the root as the one this state belongs to, "staging"
 * holds files being written, "trash" what a remote deletion removed. It is not synced.
 */
#ifndef SD_CLIENT_ROOT_H
#define SD_CLIENT_ROOT_H

#include "base/ctx.h"
#include "reconcile/tree.h"

#define ROOT_OWN_NAME ".scaidrive"

enum entry_kind { ENTRY_FILE, ENTRY_FOLDER, ENTRY_OTHER }; /* other: symlinks, sockets, devices, pipes, mount points */

struct root_entry {
	struct str name;
	enum entry_kind kind;
	struct disk_stamp stamp;
	bool executable;
};

struct root_file;  /* open for reading */
struct root_stage; /* being written */

struct root;
struct root_ops {
	/* The entries of a folder, without ROOT_OWN_NAME at the top. E_IO and friends: nothing is known about it. */
	int (*list)(struct root *r, struct ctx *ctx, struct str path, struct root_entry **out, size_t *n);
	int (*stat)(struct root *r, struct ctx *ctx, struct str path, struct root_entry *out); /* E_NOT_FOUND */
	int (*open)(struct root *r, struct ctx *ctx, struct str path, struct root_file **out, struct root_entry *entry);
	int (*read)(struct root_file *f, void *out, size_t cap, size_t *got);
	/* Exactly n bytes from offset on, wherever read stands. E_CHANGED: the file is shorter. */
	int (*read_at)(struct root_file *f, int64_t offset, void *out, size_t n);
	int (*file_stat)(struct root_file *f, struct root_entry *entry);
	/* Does a program hold it open for writing? Where that cannot be told: no. */
	bool (*is_written)(struct root_file *f);
	void (*close)(struct root_file *f);
	int (*stage)(struct root *r, struct ctx *ctx, struct root_stage **out);
	int (*stage_write)(struct root_stage *s, const void *p, size_t n);
	/* The same with n bytes of a file from offset on, which share its blocks where the file system can. They go into sha as they
	 * stand in the stage, whoever wrote into f meanwhile. E_CHANGED: f is shorter. */
	int (*stage_copy)(struct root_stage *s, struct root_file *f, int64_t offset, int64_t n, struct sha256_state *sha);
	/* Makes the staged bytes durable and puts them at path. assumed == NULL: only where nothing is (E_CONFLICT); else
	 * only over the very file that bears the stamp (E_CHANGED). The stage is freed in any case. */
	int (*stage_commit)(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
	                    int64_t mtime_us, bool executable, struct root_entry *out);
	void (*stage_abort)(struct root_stage *s);
	/* The same in steps, for many files at once: seal ends the writing (nothing is durable), settle makes all that was
	 * sealed durable, place does what commit does at the path (and frees the stage in any case); after another settle the
	 * names are durable too. One settle costs about as much as one sync of a file. */
	int (*stage_seal)(struct root_stage *s, struct ctx *ctx, int64_t mtime_us, bool executable);
	int (*settle)(struct root *r, struct ctx *ctx);
	int (*stage_place)(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
	                   struct root_entry *out);
	/* Durable after settle. */
	int (*make_folder)(struct root *r, struct ctx *ctx, struct str path, struct root_entry *out);
	/* E_CONFLICT: the target exists; E_CHANGED: the source is not the thing that bears dev and ino of assumed. */
	int (*rename)(struct root *r, struct ctx *ctx, struct str from, const struct disk_stamp *assumed, struct str to,
	              struct root_entry *out);
	/* Moves a file into the trash, under label. E_CHANGED: it does not bear the stamp any more. */
	int (*trash)(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed, struct str label);
	/* Deletes a file that was in the trash for good. */
	int (*discard)(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed);
	/* Sets or clears the executable bit; *out is how the file is then. E_CHANGED: it does not bear the stamp. */
	int (*set_mode)(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed, bool executable,
	                struct root_entry *out);
	/* Removes an empty folder. E_CONFLICT: it is not empty. */
	int (*remove_folder)(struct root *r, struct ctx *ctx, struct str path, const struct disk_stamp *assumed);
	/* Writes the marker again, telling of this generation; durable. */
	int (*set_generation)(struct root *r, struct ctx *ctx, int64_t generation);
	/* Is this still the folder with the marker we wrote? E_NOT_FOUND with what to do when not. */
	int (*check)(struct root *r, struct ctx *ctx);
	void (*free)(struct root *r);
};

struct root {
	const struct root_ops *ops;
	bool fold;     /* this file system takes names with equal keys for one name */
	bool modeless; /* this file system keeps no executable bit */
	int64_t generation; /* of the state (client/generation.c), as the marker tells; 0: it does not */
};

/* The marker, a line each: which state the folder belongs to, and what it was synced with; and behind these the state's generation. */
struct root_mark {
	struct str id, share, server;
};

/* Opens (with fresh: makes) the folder, takes its lock (E_LEASE: another process syncs it) and checks the marker. fresh says
 * that this state has never synced the folder: then a missing marker is written, and a folder of a lost state that was
 * synced with the same share of the same server is taken over. Else: missing is E_NOT_FOUND, another id E_CONFLICT. */
int root_open(struct ctx *ctx, const char *path, bool fresh, const struct root_mark *mark, struct root **out);
/* Opens it for looking alone: makes nothing, and takes no lock. mark: as for root_open, an id of STR_NULL being fresh; NULL: the
 * folder's marker does not matter. E_NOT_FOUND: there is no such folder. */
int root_open_to_look(struct ctx *ctx, const char *path, const struct root_mark *mark, struct root **out);
void root_free(struct root *r);

/* Equal in everything that a change of content or a replacement would alter. */
bool stamp_same(const struct disk_stamp *a, const struct disk_stamp *b);
/* The same file as before a rename: all but ctime. */
bool stamp_same_file(const struct disk_stamp *a, const struct disk_stamp *b);

#endif
