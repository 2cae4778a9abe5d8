/* store_priv: what the parts of the store share. store.c: life, pools, pack files; shared.c: the shared packs and their
 * common flush; ingest.c: in; reader.c: out. */
#ifndef SD_CHUNKS_STORE_PRIV_H
#define SD_CHUNKS_STORE_PRIV_H

#include <pthread.h>

#include "base/map.h"
#include "chunks/chunker.h"
#include "chunks/codec.h"
#include "chunks/index.h"
#include "chunks/pack.h"
#include "chunks/store.h"

#define SHARED_PACK_BYTES (64 << 20)
#define OWN_PACK_FROM_BYTES (4 << 20)
#define SLAB_BYTES (2 * CHUNK_MAX_BYTES)
enum { POOL_SLABS = 32, POOL_WORKS = 8, GEARS = 16, SHARED_OPEN = 64, HANDLES = 256, NOTED = 64 };

/* One chunk of a content, in file order. */
struct content_chunk {
	struct chunk_row row; /* id and place are set when the chunk was stored by this ingest or found in the index */
	uint32_t first;       /* the first chunk of the file with this hash; its own number if it is that */
	bool is_new;          /* stored by this ingest and not in the index when looked for */
};

/* The open pack that a tenant's small writes share. */
struct shared_pack {
	int64_t tenant_id;
	struct pack_writer w;
	pthread_mutex_t mu;
	pthread_cond_t flushed;
	uint64_t appended, durable; /* counts of appends */
	int err;                    /* appends above durable are lost; the pack takes no more */
	bool flushing, full;
	int refs;                   /* store's lock */
};

/* An open pack file, shared by readers. */
struct pack_handle {
	int64_t pack_id;
	struct disk_file *file;
	int refs;
	bool gone;     /* the file was deleted: closed when nobody reads it any more */
	uint64_t used; /* larger: later */
};

struct store {
	struct store_config config;
	struct finder *finder;
	struct gear_entry {
		int64_t tenant_id;
		uint8_t key[32];
		struct gear gear;
		uint64_t used;
	} gears[GEARS];
	pthread_mutex_t mu; /* gears, shared, handles, pools; never held over a disk call except opening a pack */
	uint64_t tick;
	struct map shared;  /* tenant id -> struct shared_pack */
	struct map handles; /* pack id -> struct pack_handle */
	void *slabs[POOL_SLABS];
	struct codec_work *works[POOL_WORKS];
	size_t n_slabs, n_works;
	_Atomic bool folder_synced[PACK_FOLDERS];
	_Atomic int64_t noted[NOTED]; /* chunks that reads marked as damaged lately (damage_note) */
	_Atomic int64_t chunks_new, chunks_deduplicated, bytes_in, bytes_stored, bytes_out, corrupt;
};

/* Pools; what does not fit into them is freed. */
void *slab_take(struct store *s);
void slab_give(struct store *s, void *slab);
struct codec_work *work_take(struct store *s);
void work_give(struct store *s, struct codec_work *w);
void gear_of(struct store *s, int64_t tenant_id, const uint8_t key[32], struct gear *out);

/* A new pack whose name is durable. */
int store_pack_create(struct store *s, int64_t tenant_id, struct pack_writer *w);
/* Removes a pack that nothing refers to. */
void store_pack_drop(struct store *s, struct pack_writer *w);
/* An open pack file; give it back with handle_give. E_NOT_FOUND: the pack is gone. */
int handle_take(struct store *s, int64_t pack_id, struct pack_handle **out);
void handle_give(struct store *s, struct pack_handle *h);
/* The file was deleted: whoever has it open goes on. */
void handle_forget(struct store *s, int64_t pack_id);
/* Counts and logs damage; returns E_CORRUPT. */
int store_corrupt(struct store *s, int64_t pack_id, int64_t offset, const char *what);

/* Appends to the tenant's shared pack. *held is the pack of this ingest's earlier appends (or NULL); it is replaced,
 * after those are durable, when a new pack was begun. *ticket is what shared_flush waits for. */
int shared_append(struct store *s, int64_t tenant_id, struct shared_pack **held, struct pack_entry *e,
                  const void *stored, int64_t *pack_id, uint64_t *ticket);
/* Returns when the append with this ticket is durable: one caller flushes for all who appended before it. */
int shared_flush(struct store *s, struct shared_pack *p, uint64_t ticket);
void shared_release(struct store *s, struct shared_pack *p);
/* At the end: makes all durable and closes them. */
void shared_close_all(struct store *s);

#endif
