/* collect_priv: collect.c is the collection, collect_roots.c what it marks, collect_job.c the job. */
#ifndef SD_DRIVE_COLLECT_PRIV_H
#define SD_DRIVE_COLLECT_PRIV_H

#include "drive/collect.h"

/* How far it is: *n of about *all; references to chunks, or rows. */
enum collect_phase collection_progress(const struct collection *c, int64_t *n, int64_t *all);

/* A place in the roots. Zero-initialise. */
struct roots_place {
	size_t kind;
	int64_t a, b; /* of the last that was read */
	bool done;
};
/* The next few roots go into seen. *n_roots and *n_chunks count up. alone: as in collection_config. */
int roots_page(struct db *db, bool alone, struct roots_place *at, struct idset *seen, int64_t *n_roots, int64_t *n_chunks);
/* repack.in_use: the tail of an open upload lies in the pack. */
int roots_tail_in(struct tx *tx, void *arg, int64_t tenant_id, int64_t pack_id, bool *yes);

#endif
