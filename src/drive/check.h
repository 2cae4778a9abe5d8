/* check: does everything in a tenant's world fit together? Reads only; for a server that is stopped (scaidrived fsck).
 *
 * The engine's own check of its files, then the store (chunks/check.h), then what the store knows nothing of: shares, nodes,
 * versions and their recipes, the change log, uploads, leases. Tables are read in pages by key, so memory does not grow with
 * them.
 */
#ifndef SD_DRIVE_CHECK_H
#define SD_DRIVE_CHECK_H

#include "chunks/check.h"
#include "chunks/store.h"

struct check_finding {
	const char *code;      /* stable, for programs: docs/admin/README.md lists them */
	struct str subject;    /* a wire id, or the name of a pack; STR_NULL: none */
	struct str share, path; /* whose it is, where that is known; else STR_NULL. path is "/a/b" */
	bool in_trash;
	int64_t version;       /* its number; 0: none */
	struct str sentence;
};

struct check_totals {
	struct store_check_totals store;
	int64_t findings;
	int64_t shares, nodes, versions, changes, uploads;
	int64_t marked; /* chunks that the scrub marked as damaged and has not healed */
	int64_t garbage_files, garbage_file_bytes; /* staging files that no row names */
};

struct check_config {
	struct db *db;
	struct store *store;          /* for CHECK_DEEP */
	struct disk *packs, *staging; /* NULL: there is no such folder yet */
	const struct clock *clock;
	enum check_depth depth;
	/* Strings live as long as the call. */
	void (*finding)(void *arg, const struct check_finding *finding);
	void (*garbage)(void *arg, struct str file, int64_t bytes); /* a whole file that nothing refers to */
	void (*progress)(void *arg, const char *what, int64_t done, int64_t all); /* all -1: not known */
	void *arg;
};

/* 0 when the check came to its end, whatever it found. A part that the database cannot tell is a finding too. */
int drive_check(const struct check_config *config, struct check_totals *out);

#endif
