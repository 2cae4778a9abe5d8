/* pack_copy: packs from one disk to another, for backups. */
#ifndef SD_CHUNKS_PACK_COPY_H
#define SD_CHUNKS_PACK_COPY_H

#include "chunks/pack.h"

struct pack_copied {
	bool copied;  /* false: it was there already, and is not shorter */
	bool damaged; /* not all of what was copied is whole; or the source is shorter than its copy, which stays, and ends in a segment */
	bool kept;    /* with damaged: what the copy that was there had whole was kept, so that the copy is whole */
	int64_t bytes; /* of the source */
};

/* A file of the pack's name is whole, durable but for its name, or not there: it is written beside and renamed. A pack that
 * is there and shorter than its source is copied anew, since the head of its last segment may have been a hole; one of equal
 * length is the same, because packs only grow, but for room that an upload takes back as it is given up: whole segments that the
 * index never knew of, behind which nothing is written any more. verify: those of equal length are read, and one that has rotted is copied
 * anew, unless its source is no better. E_NOT_FOUND: the source has no such pack. E_NO_SPACE, E_IO, E_READ_ONLY. */
int pack_copy(struct disk *from, struct disk *to, int64_t pack_id, bool verify, struct pack_copied *out);
/* Makes the folders of packs. */
int pack_copy_begin(struct disk *to);
/* Makes the names durable. */
int pack_copy_end(struct disk *to);

#endif
