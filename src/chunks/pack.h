/* pack: append-only files that hold chunks and describe themselves; a rebuild needs no database.
 *
 * A pack is the file "X/IIIIIIIIIIIIIIII.pack" on the store's disk: I the id in hex, X the hex digit of bits 22..25 of
 * the id (its millisecond), which spreads packs over 16 folders. All numbers are little-endian.
 *
 *   file header, 64 bytes
 *      0  8  magic "SDPACK1\n"
 *      8  4  format version, 1
 *     12  4  length of this header, 64
 *     16  8  pack id
 *     24  8  tenant id
 *     32 24  zero
 *     56  8  XXH3-64 of bytes 0..55
 *   then segments, each right behind the one before:
 *   segment header, 64 bytes
 *      0  8  magic "SDSEGM1\n"
 *      8  8  pack id
 *     16  8  offset of this header in the file
 *     24  8  length of the payloads
 *     32  4  number of entries, 1..16384
 *     36 12  zero
 *     48  8  XXH3-64 of the table
 *     56  8  XXH3-64 of bytes 0..55
 *   payloads: the stored bytes of the chunks, back to back (so a large file keeps long extents)
 *   table: 64 bytes an entry, in the order of the payloads
 *      0 32  SHA-256 of the chunk
 *     32  8  chunk id
 *     40  8  XXH3-64 of the stored bytes
 *     48  4  length of the chunk
 *     52  4  length of the stored bytes
 *     56  1  codec (codec.h)
 *     57  7  zero
 *
 * While a segment is filled its header is a hole. Header and table are written together when it is sealed, and one
 * fdatasync covers all. After a crash the segment either is whole, or its checksums say that it is not: what was
 * acknowledged is whole. A pack is never continued after a restart.
 */
#ifndef SD_CHUNKS_PACK_H
#define SD_CHUNKS_PACK_H

#include "base/buf.h"
#include "base/hash.h"
#include "io/disk.h"

#define PACK_HEADER_BYTES 64
#define PACK_ENTRY_BYTES 64
#define PACK_SEGMENT_BYTES (8 << 20)     /* a segment is sealed when its payloads reach this */
#define PACK_SEGMENT_MAX_BYTES (16 << 20) /* none is ever longer */
#define PACK_SEGMENT_ENTRIES 16384
#define PACK_JOIN_BYTES (128 << 10)
#define PACK_WRITE_BYTES (1 << 20) /* runs: of one write; and their write-back is begun this often */
#define PACK_FOLDERS 16

struct pack_entry {
	struct sha256 hash;
	int64_t chunk_id;
	uint64_t xxh;
	int64_t offset; /* of the stored bytes in the file */
	uint32_t raw_len, stored_len;
	uint8_t codec;
};

enum { PACK_NAME_MAX = 32 };
void pack_name(char out[PACK_NAME_MAX], int64_t pack_id);
/* The folder of a pack: 0..PACK_FOLDERS - 1, and its name. */
unsigned pack_folder(int64_t pack_id);
void pack_folder_name(char out[2], unsigned folder);

/* The ids (int64_t) of all packs on the disk, ascending; ids is the caller's. */
int pack_list(struct disk *d, struct buf *ids);

/* What is still to be written to a pack, in the order of the file. Bytes that lie one after the other are one run. */
struct pack_runs {
	struct pack_run {
		const uint8_t *p;
		size_t n;
		int64_t offset;
		void *owned; /* p's memory, when it is ours */
	} *run;
	size_t n, cap, owned_bytes;
	int64_t started; /* write-back was begun up to here */
};

/* Writes and forgets them. After a failure they are there still. */
int pack_runs_write(struct pack_runs *r, struct disk_file *f);
void pack_runs_fini(struct pack_runs *r);

/* Appends. One caller at a time. After pack_seal failed the pack takes no more. Small payloads are joined to one write of
 * PACK_JOIN_BYTES; what is not written yet can be read by nobody, since only what is sealed and synced is told. */
struct pack_writer {
	bool deferred;   /* nothing is written but the file's header: all goes to runs, and no append fails */
	struct pack_runs runs;
	struct disk_file *file;
	int64_t id;
	int64_t segment; /* offset of the segment being filled */
	int64_t tail;    /* where the next payload goes */
	uint8_t *joined; /* the n_joined bytes before tail; NULL: there never were any */
	size_t n_joined;
	struct buf table;
	uint32_t n_entries;
};

/* Creates the file and writes its header; nothing is durable. On a failure nothing is left behind. */
int pack_create(struct disk *d, int64_t pack_id, int64_t tenant_id, struct pack_writer *w);
/* Appends stored_len bytes; sets e->offset. Seals the segment when it is full. After a failed write the pack is as
 * before (the next append goes over it), unless sealing failed: then *broken is set. */
int pack_append(struct pack_writer *w, struct pack_entry *e, const void *stored, bool *broken);
/* The same for a deferred writer, without a copy: stored has to stay until its run was written or dropped. */
void pack_append_kept(struct pack_writer *w, struct pack_entry *e, const void *stored);
/* Ends the segment, if one is begun: what is joined, header and table. Durable after disk_sync. */
int pack_seal(struct pack_writer *w);
/* Makes a pack's first end bytes durable. E_BUSY: somebody deleted the file while it was written to; they are to be stored anew, in
 * another pack. */
int pack_sync(struct disk_file *file, int64_t end);
/* Closes the file. Seals, writes and syncs nothing. */
void pack_close(struct pack_writer *w);

/* What a scan found. */
struct pack_info {
	int64_t pack_id, tenant_id;
	int64_t valid_bytes; /* the file up to its last valid segment */
	int64_t file_bytes;
	size_t n_segments, n_entries;
	size_t n_gaps;       /* places between segments where bytes are no segment: rot, or a crash */
	size_t n_bad;        /* entries whose stored bytes are damaged (when verify is set) */
	bool torn;           /* bytes behind valid_bytes that are no segment */
};

/* stored: its bytes; NULL without verify. intact: they match their checksum (always true without verify). Returning
 * non-zero ends the scan. */
typedef int pack_entry_fn(void *arg, const struct pack_entry *e, const char *stored, bool intact);

/* Walks the segments. Where none is (a crash tore the file, or rot), the next one is searched for. With verify every
 * payload is read; damage there is counted and told, and does not end the scan. fn may be NULL.
 * E_CORRUPT: the file header is no pack's. */
int pack_scan(struct disk_file *f, bool verify, pack_entry_fn *fn, void *arg, struct pack_info *out);
/* The same of a pack whose header is damaged, which the caller knows: *out begins as these two numbers. */
int pack_scan_headless(struct disk_file *f, int64_t pack_id, int64_t tenant_id, bool verify, pack_entry_fn *fn, void *arg,
                       struct pack_info *out);

#endif
