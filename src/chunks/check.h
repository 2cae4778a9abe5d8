/* check: is what the store holds whole? Reads only; for a store that nobody writes to.
 *
 * One pass over the index counts the chunks of each pack; one pass over the packs, file by file in id order, reads their
 * segments and looks up each entry in the index, so the disk is read in order and memory holds a few words a pack. When
 * not every chunk that the index has in a pack was met in it whole, the chunks of that pack are looked at one by one.
 * What is found is told, and kept, so that callers can ask which of a file's chunks are hurt.
 *
 * What no row of the index points to is garbage: left by a crash or by an upload that was given up. It is counted, and no
 * fault.
 */
#ifndef SD_CHUNKS_CHECK_H
#define SD_CHUNKS_CHECK_H

#include "chunks/index.h"
#include "io/disk.h"

enum check_depth {
	CHECK_QUICK, /* packs: heads and tables, no content */
	CHECK_FULL,  /* every stored byte: XXH3 and SHA-256 of each chunk */
	CHECK_DEEP,  /* and all that takes reading it once more */
};

struct store_fault {
	const char *code;        /* "CHUNK_DAMAGED" ... stable, for programs */
	int64_t pack_id;         /* 0: none in particular */
	int64_t chunk_id, offset;
	const char *sentence;    /* without the pack's name */
};

struct store_check_totals {
	int64_t packs, chunks, bytes; /* looked at: files, rows of the index, bytes of packs */
	int64_t garbage_packs, garbage_pack_bytes; /* packs that no row points into */
	int64_t garbage_chunks, garbage_bytes;     /* within the others */
};

struct store_check_config {
	struct disk *disk; /* of the packs; NULL: there is no such folder */
	struct db *db;
	enum check_depth depth;
	void (*fault)(void *arg, const struct store_fault *fault);
	void (*garbage)(void *arg, int64_t pack_id, int64_t bytes); /* a pack that no row points into */
	void (*progress)(void *arg, const char *what, int64_t done, int64_t all); /* bytes; often */
	void *arg;
};

struct store_check;
/* 0 also when faults were found; else the check could not be brought to its end. *out is freed with store_check_free in
 * any case; until then what config names must live. */
int store_check_run(const struct store_check_config *config, struct store_check **out);
void store_check_free(struct store_check *c);
void store_check_totals(const struct store_check *c, struct store_check_totals *out);
/* What is wrong with a chunk of the index, in words that follow "a chunk": "is damaged". NULL: nothing. */
const char *store_check_chunk(const struct store_check *c, const struct index_row *row);
/* The same for bytes that no row of the index names; they are read now. At most CHUNK_MAX_BYTES, stored as they are. */
const char *store_check_bytes(struct store_check *c, const struct chunk_place *place);

#endif
