#include "chunks/store_priv.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"

int store_open(const struct store_config *config, struct store **out)
{
	int64_t free_bytes;
	*out = NULL;
	int err = disk_space(config->disk, &free_bytes);
	if (err != E_OK)
		return err;
	struct store *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->config = *config;
	pthread_mutex_init(&s->mu, NULL);
	if (!config->read_only)
		finder_open(config->disk, config->follow ? config->db : NULL, &s->finder);
	*out = s;
	return E_OK;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	shared_close_all(s);
	if (s->finder)
		finder_close(s->finder);
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&s->handles, &i, &key, &value);) {
		struct pack_handle *h = value;
		must(h->refs == 0);
		disk_close(h->file);
		free(h);
	}
	map_fini(&s->handles);
	for (size_t i = 0; i < s->n_slabs; i++)
		free(s->slabs[i]);
	for (size_t i = 0; i < s->n_works; i++)
		codec_work_free(s->works[i]);
	pthread_mutex_destroy(&s->mu);
	free(s);
}

int store_health(struct store *s)
{
	return disk_failed(s->config.disk) ? E_READ_ONLY : E_OK;
}

int store_room(struct store *s, int64_t n)
{
	return disk_room(s->config.disk, n);
}

void store_stats(struct store *s, struct store_stats *out)
{
	struct finder_stats finder = {0};
	if (s->finder)
		finder_stats(s->finder, &finder);
	*out = (struct store_stats){
	    .chunks_new = atomic_load(&s->chunks_new),
	    .chunks_deduplicated = atomic_load(&s->chunks_deduplicated),
	    .bytes_in = atomic_load(&s->bytes_in),
	    .bytes_stored = atomic_load(&s->bytes_stored),
	    .bytes_out = atomic_load(&s->bytes_out),
	    .fsyncs = disk_syncs(s->config.disk),
	    .corrupt = atomic_load(&s->corrupt),
	    .finder_hints = finder.hints,
	    .finder_bytes = finder.bytes,
	};
}

int store_corrupt(struct store *s, int64_t pack_id, int64_t offset, const char *what)
{
	atomic_fetch_add(&s->corrupt, 1);
	log_error("stored content is damaged", LOG_C("what", what), LOG_I("pack_id", pack_id), LOG_I("offset", offset));
	return E_CORRUPT;
}

void *slab_take(struct store *s)
{
	pthread_mutex_lock(&s->mu);
	void *slab = s->n_slabs ? s->slabs[--s->n_slabs] : NULL;
	pthread_mutex_unlock(&s->mu);
	if (!slab)
		slab = malloc(SLAB_BYTES);
	must(slab != NULL);
	return slab;
}

void slab_give(struct store *s, void *slab)
{
	pthread_mutex_lock(&s->mu);
	if (slab && s->n_slabs < POOL_SLABS) {
		s->slabs[s->n_slabs++] = slab;
		slab = NULL;
	}
	pthread_mutex_unlock(&s->mu);
	free(slab);
}

struct codec_work *work_take(struct store *s)
{
	pthread_mutex_lock(&s->mu);
	struct codec_work *w = s->n_works ? s->works[--s->n_works] : NULL;
	pthread_mutex_unlock(&s->mu);
	return w ? w : codec_work_new();
}

void work_give(struct store *s, struct codec_work *w)
{
	pthread_mutex_lock(&s->mu);
	if (w && s->n_works < POOL_WORKS) {
		s->works[s->n_works++] = w;
		w = NULL;
	}
	pthread_mutex_unlock(&s->mu);
	codec_work_free(w);
}

bool store_tenant_key(struct store *s, int64_t tenant_id, uint8_t tenant_key[32])
{
	bool known = false;
	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; !known && i < GEARS; i++) {
		const struct gear_entry *g = &s->gears[i];
		known = g->used && g->tenant_id == tenant_id;
		if (known)
			memcpy(tenant_key, g->key, sizeof g->key);
	}
	pthread_mutex_unlock(&s->mu);
	return known;
}

void gear_of(struct store *s, int64_t tenant_id, const uint8_t key[32], struct gear *out)
{
	pthread_mutex_lock(&s->mu);
	struct gear_entry *e = s->gears;
	for (size_t i = 0; i < GEARS; i++) {
		struct gear_entry *g = &s->gears[i];
		if (g->used && g->tenant_id == tenant_id && memcmp(g->key, key, 32) == 0) {
			e = g;
			break;
		}
		if (g->used < e->used)
			e = g;
	}
	if (!e->used || e->tenant_id != tenant_id || memcmp(e->key, key, 32) != 0) {
		e->tenant_id = tenant_id;
		memcpy(e->key, key, 32);
		gear_init(&e->gear, key);
	}
	e->used = ++s->tick;
	*out = e->gear;
	pthread_mutex_unlock(&s->mu);
}

int store_pack_create(struct store *s, int64_t tenant_id, struct pack_writer *w)
{
	int64_t id = idgen_next(s->config.ids);
	unsigned folder = pack_folder(id);
	char name[2];
	pack_folder_name(name, folder);
	int err = pack_create(s->config.disk, id, tenant_id, w);
	if (err != E_OK)
		return err;
	/* An earlier run may have made the folder and not lived to sync it: once a run, the root is synced for it. */
	if (!atomic_load(&s->folder_synced[folder]))
		err = disk_sync_dir(s->config.disk, "");
	if (err == E_OK) {
		atomic_store(&s->folder_synced[folder], true);
		err = mutant(M_PACK_NO_NAME_SYNC) ? 0 : disk_sync_dir(s->config.disk, name);
	}
	if (err != E_OK)
		store_pack_drop(s, w);
	return err;
}

void store_pack_drop(struct store *s, struct pack_writer *w)
{
	char name[PACK_NAME_MAX];
	pack_name(name, w->id);
	pack_close(w);
	int err = disk_unlink(s->config.disk, name);
	if (err != E_OK)
		log_warn("cannot remove an unused pack", LOG_I("pack_id", w->id), LOG_C("error", err_info(err)->code));
}

static void handle_close(struct store *s, struct pack_handle *h)
{
	map_del(&s->handles, (uint64_t)h->pack_id);
	disk_close(h->file);
	free(h);
}

/* Closes the handle that was idle longest. */
static void handles_trim(struct store *s)
{
	struct pack_handle *oldest = NULL;
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(&s->handles, &i, &key, &value);) {
		struct pack_handle *h = value;
		if (h->refs == 0 && (!oldest || h->used < oldest->used))
			oldest = h;
	}
	if (!oldest)
		return;
	handle_close(s, oldest);
}

int handle_take(struct store *s, int64_t pack_id, struct pack_handle **out)
{
	int err = E_OK;
	pthread_mutex_lock(&s->mu);
	struct pack_handle *h = map_get(&s->handles, (uint64_t)pack_id);
	if (!h) {
		char name[PACK_NAME_MAX];
		struct disk_file *file;
		pack_name(name, pack_id);
		err = disk_open(s->config.disk, name, DISK_READ, &file);
		if (err == E_OK) {
			if (s->handles.count >= HANDLES)
				handles_trim(s);
			h = calloc(1, sizeof *h);
			must(h != NULL);
			*h = (struct pack_handle){.pack_id = pack_id, .file = file};
			map_put(&s->handles, (uint64_t)pack_id, h);
		}
	}
	if (h) {
		h->refs++;
		h->used = ++s->tick;
	}
	pthread_mutex_unlock(&s->mu);
	*out = h;
	return err;
}

void handle_forget(struct store *s, int64_t pack_id)
{
	pthread_mutex_lock(&s->mu);
	struct pack_handle *h = map_get(&s->handles, (uint64_t)pack_id);
	if (h && h->refs == 0)
		handle_close(s, h);
	else if (h)
		h->gone = true;
	pthread_mutex_unlock(&s->mu);
}

void store_forget_gone(struct store *s)
{
	int64_t ids[2 * HANDLES];
	size_t n = 0;
	uint64_t key;
	void *value;
	pthread_mutex_lock(&s->mu);
	for (size_t i = 0; n < 2 * HANDLES && map_next(&s->handles, &i, &key, &value);)
		ids[n++] = (int64_t)key;
	pthread_mutex_unlock(&s->mu);
	for (size_t i = 0; i < n; i++) {
		char name[PACK_NAME_MAX];
		struct disk_file *f;
		pack_name(name, ids[i]);
		int err = disk_open(s->config.disk, name, DISK_READ, &f);
		if (err == E_NOT_FOUND)
			handle_forget(s, ids[i]);
		else if (err == E_OK)
			disk_close(f);
	}
}

void handle_give(struct store *s, struct pack_handle *h)
{
	if (!h)
		return;
	pthread_mutex_lock(&s->mu);
	h->refs--;
	if (h->refs == 0 && h->gone)
		handle_close(s, h);
	else if (h->refs == 0 && s->handles.count > HANDLES)
		handles_trim(s);
	pthread_mutex_unlock(&s->mu);
}
