#include "chunks/finder.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/map.h"
#include "base/must.h"
#include "base/rng.h"

enum {
	PAGE_BYTES = 4096,
	SLOTS = 255,
	SPLIT_AT = 105, /* hints a page on average; a page that is next to be split holds twice as many, 3 sigma from full */
	FLUSH_AT = 4096,   /* fresh hints are worth a round through the file */
	FRESH_MAX = 65536, /* then the one who adds writes them */
	FOLLOW_ROWS = 2000,
	FOLLOW_S = 60,
};
#define FOLLOW_SLACK ((int64_t)60000 << 22) /* ids of a minute */

static const char magic[8] = "SDHINT1\n";
static const char name[] = "finder";

struct header {
	char magic[8];
	uint8_t secret[16];
	uint64_t n_pages; /* without the header */
	int64_t hints;
	int64_t followed; /* rows up to this id have been seen, and their hints synced */
};

struct page {
	uint64_t n;
	uint64_t unused;
	struct hint {
		uint64_t key;
		int64_t id;
	} hints[SLOTS];
};
_Static_assert(sizeof(struct page) == PAGE_BYTES, "a page of hints is a page");

struct finder {
	struct disk *disk;
	struct disk_file *file; /* NULL: there is none yet, and only what was added lately is found */
	pthread_mutex_t mu;     /* of the maps and newest */
	struct map fresh;       /* key -> id: not in the file yet; -id: the hint is to go if it says id */
	struct map lately;      /* the fresh ones before these: in the file, or on their way */
	int64_t newest;         /* id that was added */
	pthread_mutex_t file_mu; /* of all below: one thread changes the file */
	struct header header;
	_Atomic uint64_t n_pages; /* readers take no lock: a page that is read while it changes yields a wrong hint or none */
	bool caught_up;           /* with the rows that there were when it was opened */
	bool told;                /* a fault was logged */
	bool changed;             /* since it was opened */
	struct db *db;            /* NULL: nobody follows */
	pthread_t thread;
	pthread_cond_t wake;      /* with mu */
	_Atomic bool stop;
};

static void fault(struct finder *f, int err)
{
	if (!f->told)
		log_warn("the chunk finder cannot be written: some chunks may be stored twice", LOG_C("error", err_info(err)->code));
	f->told = true;
}

static bool write_header(struct finder *f)
{
	int err = disk_pwrite(f->file, &f->header, sizeof f->header, 0);
	if (err != E_OK)
		fault(f, err);
	return err == E_OK;
}

static bool read_page(struct finder *f, uint64_t i, struct page *p)
{
	size_t got;
	int err = disk_pread(f->file, p, PAGE_BYTES, (int64_t)(i + 1) * PAGE_BYTES, &got);
	return err == E_OK && got == PAGE_BYTES && p->n <= SLOTS;
}

static bool write_page(struct finder *f, uint64_t i, const struct page *p)
{
	int err = disk_pwrite(f->file, p, PAGE_BYTES, (int64_t)(i + 1) * PAGE_BYTES);
	if (err != E_OK)
		fault(f, err);
	return err == E_OK;
}

/* Keys depend on the secret, so it is there before the file is. */
static void begin_empty(struct finder *f)
{
	memcpy(f->header.magic, magic, sizeof magic);
	rng_system.fill(&rng_system, f->header.secret, sizeof f->header.secret);
	f->header.n_pages = 1;
	f->header.hints = f->header.followed = 0;
	disk_close(f->file);
	f->file = NULL;
}

/* With both locks. */
static void create(struct finder *f)
{
	static const struct page empty;
	int err = disk_open(f->disk, name, DISK_WRITE | DISK_CREATE, &f->file);
	if (err == E_CONFLICT)
		err = disk_open(f->disk, name, DISK_WRITE, &f->file);
	if (err != E_OK) {
		f->file = NULL;
		fault(f, err);
		return;
	}
	(void)disk_truncate(f->file, 0);
	if (write_page(f, 0, &empty) && write_header(f))
		return;
	disk_close(f->file);
	f->file = NULL;
}

static struct disk_file *file_of(struct finder *f)
{
	pthread_mutex_lock(&f->mu);
	struct disk_file *file = f->file;
	pthread_mutex_unlock(&f->mu);
	return file;
}

static bool header_fits(struct finder *f)
{
	size_t got;
	int64_t size;
	return disk_pread(f->file, &f->header, sizeof f->header, 0, &got) == E_OK && got == sizeof f->header &&
	       memcmp(f->header.magic, magic, sizeof magic) == 0 && disk_size(f->file, &size) == E_OK &&
	       f->header.n_pages > 0 && f->header.n_pages < (uint64_t)size / PAGE_BYTES + 1 && f->header.followed >= 0 &&
	       f->header.hints >= 0 && (uint64_t)f->header.hints <= f->header.n_pages * SLOTS; /* else it would grow to hold them */
}

static uint64_t key_of(const struct finder *f, int64_t tenant_id, const struct sha256 *hash)
{
	uint8_t b[16 + 8 + 32];
	memcpy(b, f->header.secret, 16);
	memcpy(b + 16, &tenant_id, 8);
	memcpy(b + 24, hash->b, 32);
	return xxh3_64(b, sizeof b);
}

/* The greatest power of two that is not above n > 0. */
static uint64_t floor_two(uint64_t n)
{
	return UINT64_C(1) << (63 - __builtin_clzll(n));
}

static uint64_t page_of(uint64_t key, uint64_t n_pages)
{
	uint64_t low = floor_two(n_pages), i = key & (2 * low - 1);
	return i < n_pages ? i : key & (low - 1);
}

static struct hint *page_find(struct page *p, uint64_t key)
{
	for (uint64_t i = 0; i < p->n; i++)
		if (p->hints[i].key == key)
			return &p->hints[i];
	return NULL;
}

/* One more page: it takes its share of the hints of another. Written so that a kill between two writes loses nothing; a loss of
 * power may lose what moved. */
static bool split(struct finder *f)
{
	struct page from, stay = {0}, go = {0};
	uint64_t n = f->header.n_pages, low = floor_two(n), i = n - low;
	if (!read_page(f, i, &from))
		from.n = 0;
	for (uint64_t k = 0; k < from.n; k++) {
		uint64_t to = page_of(from.hints[k].key, n + 1);
		if (to == n)
			go.hints[go.n++] = from.hints[k];
		else if (to == i)
			stay.hints[stay.n++] = from.hints[k];
	}
	if (!write_page(f, n, &go))
		return false;
	f->header.n_pages = n + 1;
	if (!write_header(f)) {
		f->header.n_pages = n;
		return false;
	}
	atomic_store(&f->n_pages, n + 1);
	return write_page(f, i, &stay);
}

static bool page_drop(struct page *p, struct hint *h, int64_t id)
{
	if (!h || h->id != id)
		return false;
	*h = p->hints[--p->n];
	return true;
}

static bool page_put(struct page *p, uint64_t key, int64_t id)
{
	struct hint *h = page_find(p, key);
	if (id < 0)
		return page_drop(p, h, -id);
	if (h && h->id == id)
		return false;
	if (!h && p->n == SLOTS)
		return false;
	if (!h)
		h = &p->hints[p->n++];
	*h = (struct hint){key, id};
	return true;
}

/* A hint on its way to a page. */
struct placed {
	uint64_t page;
	struct hint hint;
};

static int by_page(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;
	return (x->page > y->page) - (x->page < y->page);
}

/* All of a page in one write. */
static void put_page(struct finder *f, const struct placed *hints, size_t n)
{
	struct page page;
	if (!read_page(f, hints->page, &page))
		page.n = 0;
	uint64_t before = page.n;
	bool changed = false;
	for (size_t i = 0; i < n; i++)
		changed |= page_put(&page, hints[i].hint.key, hints[i].hint.id);
	if (changed && write_page(f, hints->page, &page))
		f->header.hints += (int64_t)(page.n - before);
}

static void put_all(struct finder *f, const struct map *hints)
{
	struct placed *all = malloc(hints->count * sizeof *all);
	must(all != NULL);
	while (f->header.hints + (int64_t)hints->count > (int64_t)(SPLIT_AT * f->header.n_pages) && split(f))
		;
	size_t n = 0;
	uint64_t key;
	void *value;
	for (size_t i = 0; map_next(hints, &i, &key, &value);)
		all[n++] = (struct placed){page_of(key, f->header.n_pages), {key, (int64_t)(intptr_t)value}};
	qsort(all, n, sizeof *all, by_page);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && all[end].page == all[i].page;)
			end++;
		put_page(f, all + i, end - i);
	}
	free(all);
}

/* What is fresh goes into the file, which is made for the first. */
static void flush(struct finder *f)
{
	pthread_mutex_lock(&f->file_mu);
	pthread_mutex_lock(&f->mu);
	bool any = f->fresh.count > 0;
	if (any && !f->file)
		create(f);
	map_fini(&f->lately);
	f->lately = f->fresh;
	f->fresh = (struct map){0};
	pthread_mutex_unlock(&f->mu);
	if (any && f->file) { /* only here `lately` changes */
		put_all(f, &f->lately);
		f->changed = true;
	}
	pthread_mutex_unlock(&f->file_mu);
}

void finder_add(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, const int64_t *ids, size_t n)
{
	pthread_mutex_lock(&f->mu);
	for (size_t i = 0; i < n; i++) {
		map_put(&f->fresh, key_of(f, tenant_id, &hashes[i]), (void *)(intptr_t)ids[i]);
		if (ids[i] > f->newest)
			f->newest = ids[i];
	}
	size_t fresh = f->fresh.count;
	if (fresh >= FLUSH_AT)
		pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->mu);
	if (fresh >= (f->db ? FRESH_MAX : FLUSH_AT))
		flush(f);
}

/* ---- looking ---- */

/* 0: not in memory. Below 0: what the file says may be old. */
static int64_t find_in_memory(const struct finder *f, uint64_t key)
{
	void *id = map_get(&f->fresh, key);
	if (!id)
		id = map_get(&f->lately, key);
	return (int64_t)(intptr_t)id;
}

void finder_forget(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, const int64_t *ids, size_t n)
{
	pthread_mutex_lock(&f->mu);
	for (size_t i = 0; i < n; i++) {
		uint64_t key = key_of(f, tenant_id, &hashes[i]);
		int64_t known = find_in_memory(f, key);
		if (known == 0 || known == ids[i]) /* else another row has those bytes by now */
			map_put(&f->fresh, key, (void *)(intptr_t)-ids[i]);
	}
	if (f->fresh.count >= FLUSH_AT)
		pthread_cond_signal(&f->wake);
	size_t fresh = f->fresh.count;
	pthread_mutex_unlock(&f->mu);
	if (fresh >= (f->db ? FRESH_MAX : FLUSH_AT))
		flush(f);
}

void finder_find_lately(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids)
{
	pthread_mutex_lock(&f->mu);
	for (size_t i = 0; i < n; i++) {
		int64_t id = find_in_memory(f, key_of(f, tenant_id, &hashes[i]));
		ids[i] = id > 0 ? id : 0;
	}
	pthread_mutex_unlock(&f->mu);
}

void finder_find(struct finder *f, int64_t tenant_id, const struct sha256 *hashes, size_t n, int64_t *ids)
{
	struct page page;
	finder_find_lately(f, tenant_id, hashes, n, ids);
	for (size_t i = 0, there = file_of(f) != NULL; there && i < n; i++) {
		if (ids[i])
			continue;
		uint64_t key = key_of(f, tenant_id, &hashes[i]);
		struct hint *h = read_page(f, page_of(key, atomic_load(&f->n_pages)), &page) ? page_find(&page, key) : NULL;
		ids[i] = h ? h->id : 0;
	}
}

/* ---- what the rows tell ---- */

struct follow {
	int64_t from, last;
	int64_t ids[FOLLOW_ROWS], tenants[FOLLOW_ROWS];
	struct sha256 hashes[FOLLOW_ROWS];
	size_t n;
};

static int follow_op(struct tx *tx, void *arg)
{
	struct follow *w = arg;
	AUTO_ROWS *rows = NULL;
	w->n = 0;
	int err = tx_query(tx, "select id, tenant_id, hash from chunks where id > $1 order by id limit 2000", DB_ARGS(V_I(w->from)),
	                   &rows);
	while (err == E_OK && w->n < FOLLOW_ROWS && rows_next(rows)) {
		struct str hash = rows_blob(rows, 2);
		w->last = rows_i64(rows, 0);
		if (hash.n != 32)
			continue;
		w->ids[w->n] = w->last;
		w->tenants[w->n] = rows_i64(rows, 1);
		memcpy(w->hashes[w->n++].b, hash.p, 32);
	}
	return err == E_OK ? rows_close(&rows) : err;
}

static int newest_op(struct tx *tx, void *newest)
{
	return tx_i64(tx, "select coalesce(max(id), 0) from chunks", NULL, 0, 0, newest);
}

static int follow_rows(struct finder *f, int64_t *last)
{
	struct follow *w = calloc(1, sizeof *w);
	must(w != NULL);
	int64_t newest;
	int err = db_read(f->db, newest_op, &newest);
	if (err == E_OK && newest < *last) /* the database was restored: its next rows may have ids that we saw once */
		*last = newest;
	w->last = *last > FOLLOW_SLACK ? *last - FOLLOW_SLACK : 0;
	while (err == E_OK && !atomic_load(&f->stop)) {
		w->from = w->last;
		err = db_read(f->db, follow_op, w);
		for (size_t i = 0; err == E_OK && i < w->n; i++)
			finder_add(f, w->tenants[i], &w->hashes[i], &w->ids[i], 1);
		if (w->last == w->from)
			break;
	}
	*last = w->last;
	free(w);
	return err;
}

static int follow(struct finder *f)
{
	/* On SQLite no other process writes rows: those that were there at the start are looked at, once. */
	bool alone = strcmp(db_engine(f->db), "sqlite") == 0 && f->caught_up;
	pthread_mutex_lock(&f->mu);
	int64_t last = alone ? f->newest : f->header.followed;
	pthread_mutex_unlock(&f->mu);
	int err = alone ? E_OK : follow_rows(f, &last);
	flush(f);
	if (err != E_OK)
		return err;
	f->caught_up |= !atomic_load(&f->stop);
	struct disk_file *file = file_of(f);
	if (!file || disk_sync(file) != E_OK)
		return E_OK;
	pthread_mutex_lock(&f->file_mu);
	if (!alone || last > f->header.followed)
		f->header.followed = last;
	write_header(f);
	pthread_mutex_unlock(&f->file_mu);
	return E_OK;
}

/* At the start and every minute with news: follows. Between: empties what is fresh. */
static void *work(void *arg)
{
	struct finder *f = arg;
	bool alone = strcmp(db_engine(f->db), "sqlite") == 0;
	int64_t seen = -1, newest = 0;
	while (!atomic_load(&f->stop)) {
		if (!alone || newest != seen)
			seen = follow(f) == E_OK ? newest : -1;
		flush(f); /* the second one lets go of what was added lately */
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += FOLLOW_S;
		int timeout = 0;
		pthread_mutex_lock(&f->mu);
		while (!timeout && !atomic_load(&f->stop)) {
			timeout = pthread_cond_timedwait(&f->wake, &f->mu, &until);
			bool full = f->fresh.count >= FLUSH_AT;
			pthread_mutex_unlock(&f->mu);
			if (full)
				flush(f);
			pthread_mutex_lock(&f->mu);
		}
		newest = f->newest;
		pthread_mutex_unlock(&f->mu);
	}
	return NULL;
}

/* ---- life ---- */

void finder_open(struct disk *d, struct db *follow, struct finder **out)
{
	struct finder *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->disk = d;
	f->db = follow;
	pthread_mutex_init(&f->mu, NULL);
	pthread_mutex_init(&f->file_mu, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->wake, &attr);
	pthread_condattr_destroy(&attr);
	int err = disk_open(d, name, DISK_WRITE, &f->file);
	if (err != E_OK)
		f->file = NULL;
	if (!f->file || !header_fits(f))
		begin_empty(f);
	atomic_store(&f->n_pages, f->header.n_pages);
	if (f->db)
		must(pthread_create(&f->thread, NULL, work, f) == 0);
	*out = f;
}

void finder_close(struct finder *f)
{
	if (f->db) {
		pthread_mutex_lock(&f->mu);
		atomic_store(&f->stop, true);
		pthread_cond_signal(&f->wake);
		pthread_mutex_unlock(&f->mu);
		pthread_join(f->thread, NULL);
	}
	flush(f);
	if (f->file && f->changed && write_header(f))
		(void)disk_sync(f->file);
	disk_close(f->file);
	map_fini(&f->fresh);
	map_fini(&f->lately);
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->file_mu);
	pthread_mutex_destroy(&f->mu);
	free(f);
}

void finder_stats(struct finder *f, struct finder_stats *out)
{
	pthread_mutex_lock(&f->file_mu);
	*out = (struct finder_stats){f->header.hints, f->file ? (int64_t)(f->header.n_pages + 1) * PAGE_BYTES : 0};
	pthread_mutex_unlock(&f->file_mu);
}

int finder_remove(struct disk *d)
{
	int err = disk_unlink(d, name);
	return err == E_NOT_FOUND ? E_OK : err;
}
