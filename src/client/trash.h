/* trash: what remote deletions removed from this disk, in .scaidrive/trash/DATE/PATH of the synced folder, until it is restored,
 * emptied, too old, or too much. */
#ifndef SD_CLIENT_TRASH_H
#define SD_CLIENT_TRASH_H

#include "client/root.h"

struct trash_entry {
	struct str name; /* "DATE/PATH", as restore takes it; in the ctx's arena */
	int64_t size_bytes;
	struct disk_stamp stamp;
};

/* The oldest day first. */
int trash_list(struct ctx *ctx, struct root *root, struct trash_entry **out, size_t *n);
/* Puts a file back to where it was; *where is the path, which has another name when the old one is taken. E_NOT_FOUND: there is no such
 * entry. */
int trash_restore(struct ctx *ctx, struct root *root, struct str name, struct str *where);
/* Deletes for good: what was put there more than keep_days ago (0: keeps all of them), and of the rest the oldest while they are
 * larger than max_bytes together (negative: no bound; 0: everything, empty files too). What cannot be deleted stays, and the first such
 * fault is the answer. */
struct trash_purged {
	size_t files;
	int64_t bytes;
};
/* A clock that has jumped ahead makes everything look old: when much time lies between two looks by it, the first one is not to go by
 * ages, the next one may. *seen_us is kept in between; 0 at first. */
bool trash_age_doubtful(int64_t *seen_us, int64_t now_us);
int trash_purge(struct ctx *ctx, struct root *root, int keep_days, int64_t max_bytes, struct trash_purged *out);

#endif
