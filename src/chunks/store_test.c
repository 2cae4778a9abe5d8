#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/rng.h"
#include "chunks/chunker.h"
#include "chunks/pack.h"
#include "chunks/recipe.h"
#include "chunks/schema.h"
#include "chunks/store.h"
#include "io/disk_fault.h"

static const uint8_t key[32] = "the key of a tenant in a test...";
static struct db *db;
static struct idgen ids;
static char db_folder[] = "/tmp/scaidrive-store-XXXXXX";
static _Atomic int64_t next_tenant = 1;

/* A file as the caller of the store sees it: the recipe is kept where the version would be. */
struct kept {
	int64_t tenant_id;
	uint8_t *p;
	size_t n;
	struct buf recipe;
};

static int setup(void **state)
{
	(void)state;
	char url[128], *why = NULL;
	must(mkdtemp(db_folder) != NULL);
	snprintf(url, sizeof url, "sqlite:%s/t.db", db_folder);
	idgen_init(&ids, &clock_system, 1);
	int err = db_open(&(struct db_config){.url = url, .clock = &clock_system}, &db, &why);
	struct migration m[] = {{1, "store", CHUNKS_SCHEMA_FIRST}, {2, "finder", CHUNKS_SCHEMA_FINDER},
	                        {3, "marks", CHUNKS_SCHEMA_MARKS}};
	if (err == E_OK)
		err = db_migrate(db, m, 3, &why);
	if (err != E_OK)
		fprintf(stderr, "database: %s\n", why ? why : "?");
	return err;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	db_close(db);
	snprintf(command, sizeof command, "rm -r %s", db_folder);
	return system(command);
}

static struct store *open_store(struct disk *d)
{
	struct store *s;
	must(store_open(&(struct store_config){.disk = d, .db = db, .ids = &ids, .clock = &clock_system}, &s) == E_OK);
	return s;
}

struct commit {
	struct store *s;
	struct kept *k;
	struct content *c;
	int times;
};

static int commit_op(struct tx *tx, void *arg)
{
	struct commit *c = arg;
	int err = E_OK;
	for (int i = 0; err == E_OK && i < c->times; i++) {
		buf_clear(&c->k->recipe);
		err = content_commit(tx, c->s, c->k->tenant_id, c->c, NULL, &c->k->recipe);
	}
	return err;
}

/* Feeds in random pieces. On 0 the file is acknowledged. */
static int put(struct store *s, struct kept *k, int64_t hint, struct rng *rng, struct content *told)
{
	struct ingest *in;
	struct content *c;
	int err = ingest_begin(s, k->tenant_id, key, hint, &in);
	for (size_t at = 0; err == E_OK && at < k->n;) {
		size_t piece = 1 + rng_below(rng, 200000);
		if (piece > k->n - at)
			piece = k->n - at;
		err = ingest_feed(in, k->p + at, piece);
		if (err != E_OK)
			ingest_abort(in);
		at += piece;
	}
	if (err == E_OK)
		err = ingest_finish(in, &c);
	if (err != E_OK)
		return err;
	struct sha256 want = sha256_of(k->p, k->n);
	must(sha256_eq(&c->sha256, &want) && c->size_bytes == (int64_t)k->n);
	struct commit job = {s, k, c, 1 + (int)rng_below(rng, 2)};
	err = db_write(db, k->tenant_id, commit_op, &job);
	if (told)
		*told = *c;
	content_free(c);
	return err;
}

/* The same, cut by the caller into chunks of 1 to most bytes: their writes to the pack are joined. */
static int put_cut(struct store *s, struct kept *k, size_t most, int64_t hint, struct rng *rng)
{
	struct ingest *in;
	struct content *c;
	int err = ingest_begin_chunks(s, k->tenant_id, hint, &in);
	for (size_t at = 0, n; err == E_OK && at < k->n; at += n) {
		n = 1 + rng_below(rng, most);
		n = n < k->n - at ? n : k->n - at;
		struct sha256 hash = sha256_of(k->p + at, n);
		err = ingest_chunk(in, &hash, k->p + at, n);
		if (err != E_OK)
			ingest_abort(in);
	}
	if (err == E_OK)
		err = ingest_finish(in, &c);
	if (err != E_OK)
		return err;
	struct commit job = {s, k, c, 1};
	err = db_write(db, k->tenant_id, commit_op, &job);
	content_free(c);
	return err;
}

struct opening {
	struct store *s;
	const struct kept *k;
	struct content_reader *r;
};

static int open_op(struct tx *tx, void *arg)
{
	struct opening *o = arg;
	return content_open(tx, o->s, o->k->tenant_id, buf_as_str(&o->k->recipe), (int64_t)o->k->n, &o->r);
}

static int open_reader(struct store *s, const struct kept *k, struct content_reader **out)
{
	struct opening o = {s, k, NULL};
	int err = db_read(db, open_op, &o);
	*out = o.r;
	return err;
}

static bool ends_chunk(struct content_reader *r, int64_t offset)
{
	int64_t end = 0;
	for (size_t i = 0; end < offset; i++)
		end += content_chunk_bytes(r, i);
	return end == offset;
}

/* From a place on in windows that end with chunks where they can. */
static int check_windows(struct content_reader *r, const struct kept *k, size_t at, size_t window)
{
	char *out = malloc(window);
	int err = E_OK;
	for (size_t got; err == E_OK && at < k->n; at += got) {
		size_t fit = content_fit(r, (int64_t)at, window), rest = k->n - at;
		err = content_read(r, (int64_t)at, out, fit, &got);
		bool good = fit > 0 && fit <= window && got == (fit < rest ? fit : rest) && (fit == window || ends_chunk(r, (int64_t)(at + fit))) &&
		            (fit < window || window >= rest || window < CHUNK_MAX_BYTES || ends_chunk(r, (int64_t)(at + fit)));
		if (err == E_OK && (!good || memcmp(out, k->p + at, got) != 0))
			err = E_INTERNAL;
	}
	free(out);
	return err;
}

/* All of it, then ranges. The first error, or E_INTERNAL when bytes differ. */
static int check(struct store *s, const struct kept *k, struct rng *rng)
{
	struct content_reader *r;
	uint8_t *out = malloc(k->n + 1);
	size_t got;
	int err = open_reader(s, k, &r);
	for (int i = 0; err == E_OK && i < 6; i++) {
		size_t at = i ? rng_below(rng, k->n + 1) : 0, n = i ? rng_below(rng, k->n + 10) : k->n + 1;
		size_t want = at + n > k->n ? k->n - at : n;
		if (n > k->n + 1)
			n = k->n + 1;
		want = want > n ? n : want;
		err = content_read(r, (int64_t)at, out, n, &got);
		if (err == E_OK && (got != want || memcmp(out, k->p + at, got) != 0))
			err = E_INTERNAL;
	}
	if (err == E_OK && k->n > 0)
		err = check_windows(r, k, rng_below(rng, k->n), rng_below(rng, 2) ? CHUNK_MAX_BYTES : 1 + rng_below(rng, 2 * CHUNK_MAX_BYTES));
	content_close(r);
	free(out);
	return err;
}

/* Random, compressible or repetitive bytes. */
static struct kept make(int64_t tenant_id, struct rng *rng, size_t n)
{
	struct kept k = {.tenant_id = tenant_id, .p = malloc(n + 1), .n = n};
	rng->fill(rng, k.p, n);
	uint64_t kind = rng_below(rng, 4);
	for (size_t i = 0; kind == 1 && i < n; i++)
		k.p[i] &= 3;
	if (kind == 2)
		memset(k.p, 'x', n);
	for (size_t i = 300000; kind == 3 && i < n; i++)
		k.p[i] = k.p[i - 300000];
	return k;
}

static void drop(struct kept *k)
{
	free(k->p);
	buf_fini(&k->recipe);
}

static void test_empty_and_small(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(1);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, 1);
	int64_t tenant = next_tenant++;
	for (size_t n = 0; n < 40; n++) {
		struct kept k = make(tenant, &r.base, n * n * 30);
		struct content told;
		assert_int_equal(put(s, &k, n & 1 ? (int64_t)k.n : -1, &r.base, &told), E_OK);
		assert_true(n > 0 || (told.n_chunks == 0 && k.recipe.n == 1));
		assert_int_equal(check(s, &k, &r.base), E_OK);
		drop(&k);
	}
	store_close(s);
	disk_free(d);
}

static int same_bytes(struct store *s, struct kept *k, struct rng *rng, size_t *n_new)
{
	struct content told;
	int err = put(s, k, -1, rng, &told);
	*n_new = told.n_new_chunks;
	return err;
}

static void test_deduplication(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(2);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, 2);
	struct kept k = {.tenant_id = next_tenant++, .n = 3 << 20, .p = malloc(3 << 20)};
	r.base.fill(&r.base, k.p, k.n);
	size_t n_new;
	assert_int_equal(same_bytes(s, &k, &r.base, &n_new), E_OK);
	assert_true(n_new > 20);
	assert_int_equal(same_bytes(s, &k, &r.base, &n_new), E_OK);
	assert_int_equal(n_new, 0);
	k.p[1 << 20] ^= 1;
	assert_int_equal(same_bytes(s, &k, &r.base, &n_new), E_OK);
	assert_in_range(n_new, 1, 4);
	assert_int_equal(check(s, &k, &r.base), E_OK);
	k.tenant_id = next_tenant++; /* another tenant shares nothing */
	assert_int_equal(same_bytes(s, &k, &r.base, &n_new), E_OK);
	assert_true(n_new > 20);
	drop(&k);
	store_close(s);
	disk_free(d);
}

/* Two ingests store the same new chunks; both commit. */
static void test_race(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(3);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, 3);
	struct kept a = make(next_tenant++, &r.base, 900000), b = {.tenant_id = a.tenant_id, .p = a.p, .n = a.n};
	struct content *c[2];
	for (int i = 0; i < 2; i++) {
		struct ingest *in;
		assert_int_equal(ingest_begin(s, a.tenant_id, key, -1, &in), E_OK);
		assert_int_equal(ingest_feed(in, a.p, a.n), E_OK);
		assert_int_equal(ingest_finish(in, &c[i]), E_OK);
	}
	struct commit ja = {s, &a, c[0], 1}, jb = {s, &b, c[1], 2};
	assert_int_equal(db_write(db, a.tenant_id, commit_op, &ja), E_OK);
	assert_int_equal(db_write(db, a.tenant_id, commit_op, &jb), E_OK);
	assert_true(str_eq(buf_as_str(&a.recipe), buf_as_str(&b.recipe)));
	assert_int_equal(check(s, &b, &r.base), E_OK);
	content_free(c[0]);
	content_free(c[1]);
	buf_fini(&b.recipe);
	drop(&a);
	store_close(s);
	disk_free(d);
}

enum { WORKERS = 4, FILES = 12 };

struct worker {
	struct store *s;
	int64_t tenant_id;
	uint64_t seed;
	struct kept files[FILES];
	int err;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct rng_seeded r;
	rng_seeded_init(&r, w->seed);
	for (size_t i = 0; w->err == E_OK && i < FILES; i++) {
		size_t n = i % 6 == 5 ? (6 << 20) + rng_below(&r.base, 1 << 20) : rng_below(&r.base, 300000);
		struct rng_seeded shared; /* every third file is the same for all workers */
		rng_seeded_init(&shared, i);
		w->files[i] = i % 3 == 0 ? make(w->tenant_id, &shared.base, 50000 * i) : make(w->tenant_id, &r.base, n);
		if (rng_below(&r.base, 3) == 0) {
			struct ingest *in;
			w->err = ingest_begin(w->s, w->tenant_id, key, -1, &in);
			if (w->err == E_OK) {
				(void)ingest_feed(in, w->files[i].p, w->files[i].n);
				ingest_abort(in);
			}
		}
		if (w->err == E_OK)
			w->err = put(w->s, &w->files[i], i & 1 ? (int64_t)w->files[i].n : -1, &r.base, NULL);
		if (w->err == E_OK)
			w->err = check(w->s, &w->files[rng_below(&r.base, i + 1)], &r.base);
	}
	return NULL;
}

/* Random files from four threads, some aborted; then a crash: what was acknowledged is there. */
static void test_model(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(4);
	struct store *s = open_store(d);
	struct worker *w = calloc(WORKERS, sizeof *w);
	pthread_t threads[WORKERS];
	int64_t tenant = next_tenant++;
	for (size_t i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){.s = s, .tenant_id = i ? tenant : next_tenant++, .seed = i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
	}
	for (size_t i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(w[i].err, E_OK);
	}
	struct rng_seeded r;
	rng_seeded_init(&r, 4);
	disk_fault_crash(d); /* before the close: it must not save anything */
	store_close(s);
	s = open_store(d);
	for (size_t i = 0; i < WORKERS; i++)
		for (size_t f = 0; f < FILES; f++) {
			assert_int_equal(check(s, &w[i].files[f], &r.base), E_OK);
			drop(&w[i].files[f]);
		}
	free(w);
	store_close(s);
	disk_free(d);
}

enum harm { FAIL_ONCE, FULL, POWER_LOST, KILLED };

static void harm_begin(struct disk *d, enum harm harm, int64_t nth)
{
	if (harm < POWER_LOST)
		disk_fault_at(d, nth, harm == FULL ? 1000000 : 1, harm == FULL ? E_NO_SPACE : E_IO);
	else
		disk_fault_die(d, nth);
}

/* The store after the harm: opened anew on what the disk kept. */
static struct store *outlive(struct store *s, struct disk *d, enum harm harm)
{
	if (harm != KILLED)
		disk_fault_crash(d); /* before the close: it must not save anything */
	store_close(s);
	if (harm == KILLED)
		disk_fault_restart(d);
	return open_store(d);
}

/* One life with a harm at disk call nth; returns whether it still came. */
static bool fault_round(enum harm harm, int64_t nth)
{
	int err_wanted = harm == FULL ? E_NO_SPACE : E_IO;
	struct disk *d = disk_fault_new((uint64_t)nth);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, (uint64_t)nth);
	int64_t tenant = next_tenant++;
	struct kept first = make(tenant, &r.base, 200000), small = make(tenant, &r.base, 100000);
	struct kept large = make(tenant, &r.base, (4 << 20) + 300000), later = make(tenant, &r.base, 5000);
	struct kept many = make(tenant, &r.base, 600000); /* of chunks whose writes are joined, in a pack of its own */
	large.p[0] ^= 1;
	assert_int_equal(put(s, &first, -1, &r.base, NULL), E_OK);
	int64_t before = disk_fault_calls(d);
	harm_begin(d, harm, nth);
	int e_small = put(s, &small, -1, &r.base, NULL);
	int e_large = put(s, &large, (int64_t)large.n, &r.base, NULL);
	int e_many = put_cut(s, &many, 20000, 5 << 20, &r.base);
	bool reached = disk_fault_calls(d) - before >= nth;
	const int got[] = {e_small, e_large, e_many};
	for (int i = 0; i < 3; i++)
		assert_true(got[i] == E_OK || (reached && (got[i] == err_wanted || got[i] == E_READ_ONLY)));
	int e_later = E_IO;
	if (harm < POWER_LOST) {
		disk_fault_at(d, 0, 0, E_OK);
		e_later = put(s, &later, -1, &r.base, NULL);
		assert_int_equal(e_later, store_health(s)); /* a failed write heals itself, a failed sync does not */
		assert_int_equal(check(s, &first, &r.base), E_OK);
	}
	s = outlive(s, d, harm);
	assert_int_equal(store_health(s), E_OK);
	assert_int_equal(check(s, &first, &r.base), E_OK);
	assert_true(e_small != E_OK || check(s, &small, &r.base) == E_OK);
	assert_true(e_large != E_OK || check(s, &large, &r.base) == E_OK);
	assert_true(e_many != E_OK || check(s, &many, &r.base) == E_OK);
	assert_true(e_later != E_OK || check(s, &later, &r.base) == E_OK);
	drop(&first);
	drop(&small);
	drop(&large);
	drop(&many);
	drop(&later);
	store_close(s);
	disk_free(d);
	return reached;
}

static void test_faults(void **state)
{
	(void)state;
	for (int harm = FAIL_ONCE; harm <= KILLED; harm++) {
		int64_t nth = 1;
		while (fault_round((enum harm)harm, nth))
			must(++nth < 1000);
		assert_true(nth > 20); /* each of the calls was met */
	}
}

static void test_full_disk(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(6);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, 6);
	struct kept k = {.tenant_id = next_tenant++, .n = 6 << 20, .p = malloc(6 << 20)};
	r.base.fill(&r.base, k.p, k.n);
	disk_fault_capacity(d, 3 << 20);
	int64_t before, after;
	assert_int_equal(disk_space(d, &before), E_OK);
	assert_int_equal(put(s, &k, -1, &r.base, NULL), E_NO_SPACE);
	assert_int_equal(put(s, &k, (int64_t)k.n, &r.base, NULL), E_NO_SPACE);
	assert_int_equal(store_health(s), E_OK);
	assert_int_equal(disk_space(d, &after), E_OK);
	disk_fault_capacity(d, 64 << 20); /* room again: no restart needed */
	assert_int_equal(put(s, &k, -1, &r.base, NULL), E_OK);
	assert_int_equal(check(s, &k, &r.base), E_OK);
	drop(&k);
	store_close(s);
	disk_free(d);
}

/* The only pack of a disk, and how far its file goes. */
static int pack_path(void *arg, const char *name, bool is_folder)
{
	char *path = arg;
	if (is_folder)
		snprintf(path, PACK_NAME_MAX, "%s", name);
	else if (*path)
		snprintf(path + strlen(path), PACK_NAME_MAX - strlen(path), "/%s", name);
	return E_OK;
}

static void find_pack(struct disk *d, char path[PACK_NAME_MAX])
{
	char folder[PACK_NAME_MAX];
	assert_int_equal(disk_list(d, "", pack_path, path), E_OK);
	memcpy(folder, path, PACK_NAME_MAX);
	assert_int_equal(disk_list(d, folder, pack_path, path), E_OK);
}

enum { FLIPS = 10000 };

/* Any flipped bit is found: by the reader when it lies in a chunk, by the scan wherever it lies. */
static void test_rot(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(5);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, 5);
	struct kept k = {.tenant_id = next_tenant++, .n = 256 << 10, .p = malloc(256 << 10)};
	r.base.fill(&r.base, k.p, k.n);
	for (size_t i = 0; i < k.n / 2; i++)
		k.p[i] &= 15;
	assert_int_equal(put(s, &k, -1, &r.base, NULL), E_OK);
	assert_int_equal(check(s, &k, &r.base), E_OK);
	char path[PACK_NAME_MAX] = "";
	struct disk_file *f;
	struct pack_info info;
	int64_t size;
	find_pack(d, path);
	assert_int_equal(disk_open(d, path, DISK_WRITE, &f), E_OK);
	assert_int_equal(disk_size(f, &size), E_OK);
	assert_int_equal(pack_scan(f, true, NULL, NULL, &info), E_OK);
	assert_true(!info.torn && info.n_bad == 0 && info.n_entries > 2 && info.valid_bytes == size);
	size_t entries = info.n_entries;
	int read_errors = 0;
	for (int i = 0; i < FLIPS; i++) {
		int64_t at = (int64_t)rng_below(&r.base, (uint64_t)size);
		uint8_t byte, bad;
		size_t got;
		assert_int_equal(disk_pread(f, &byte, 1, at, &got), E_OK);
		bad = byte ^ (uint8_t)(1u << rng_below(&r.base, 8));
		assert_int_equal(disk_pwrite(f, &bad, 1, at), E_OK);
		int scanned = pack_scan(f, true, NULL, NULL, &info);
		assert_true(scanned == E_CORRUPT || info.n_bad == 1 || info.n_entries < entries);
		int err = check(s, &k, &r.base);
		assert_true(err == (scanned == E_OK && info.n_bad ? E_CORRUPT : E_OK));
		read_errors += err == E_CORRUPT;
		assert_int_equal(disk_pwrite(f, &byte, 1, at), E_OK);
	}
	assert_true(read_errors > FLIPS * 3 / 4);
	struct store_stats stats;
	store_stats(s, &stats);
	assert_true(stats.corrupt >= read_errors);
	assert_int_equal(check(s, &k, &r.base), E_OK);
	disk_close(f);
	drop(&k);
	store_close(s);
	disk_free(d);
}

static int count_hash(void *arg, const struct recipe_chunk *c)
{
	struct kept *k = arg;
	struct sha256 want = sha256_of(k->p, c->length);
	assert_true(sha256_eq(&want, c->hash));
	k->p += c->length;
	k->n -= c->length;
	return c->i > 100000 ? E_INTERNAL : E_OK;
}

struct walk {
	struct store *s;
	struct kept *k, *rest;
};

static int walk_op(struct tx *tx, void *arg)
{
	struct walk *w = arg;
	return recipe_each(tx, w->s, w->k->tenant_id, buf_as_str(&w->k->recipe), 0, SIZE_MAX, count_hash, w->rest);
}

static void test_recipe_each(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(8);
	struct store *s = open_store(d);
	struct rng_seeded r;
	rng_seeded_init(&r, 8);
	struct kept k = {.tenant_id = next_tenant++, .n = 9 << 20, .p = malloc(9 << 20)};
	r.base.fill(&r.base, k.p, k.n);
	assert_int_equal(put(s, &k, -1, &r.base, NULL), E_OK);
	struct kept rest = k;
	struct walk w = {s, &k, &rest};
	assert_int_equal(db_read(db, walk_op, &w), E_OK);
	assert_int_equal(rest.n, 0);
	int64_t tenant = k.tenant_id;
	struct content_reader *reader;
	k.tenant_id = next_tenant++; /* a recipe means nothing to another tenant */
	assert_int_equal(open_reader(s, &k, &reader), E_OK);
	uint8_t byte;
	size_t got;
	assert_int_equal(content_read(reader, 0, &byte, 1, &got), E_CORRUPT);
	content_close(reader);
	k.tenant_id = tenant;
	drop(&k);
	store_close(s);
	disk_free(d);
}

/* ---- chunks that the caller cut ---- */

enum { GIVEN = 300, DISTINCT = 200 };

struct given {
	struct store *s;
	int64_t tenant_id;
	struct content *c;
	struct kept k; /* all chunks, one behind the other */
	size_t told;
};

static uint32_t given_length(size_t i)
{
	return i % DISTINCT == 7 ? CHUNK_MAX_BYTES : 1 + (uint32_t)(i % DISTINCT) * 37;
}

static int told_chunk(void *arg, int64_t chunk_id, const struct sha256 *hash, uint32_t length)
{
	struct given *g = arg;
	struct recipe_writer w = {.out = &g->k.recipe, .previous = 0};
	uint8_t *p = g->k.p + g->k.n;
	memset(p, (int)(g->told + 1), length);
	struct sha256 want = sha256_of(p, length);
	assert_true(chunk_id > 0 && sha256_eq(&want, hash) && length == given_length(g->told));
	buf_clear(&g->k.recipe);
	recipe_begin(&w, &g->k.recipe);
	recipe_add(&w, chunk_id, length);
	g->told++;
	return E_OK;
}

static int index_op(struct tx *tx, void *arg)
{
	struct given *g = arg;
	int err = E_OK;
	g->told = 0;
	for (size_t at = 0; err == E_OK && at < g->c->n_chunks; at += 70)
		err = content_index(tx, g->s, g->tenant_id, g->c, at, 70, told_chunk, g);
	return err;
}

/* Twice the same chunks, some repeated: each is stored once, told once, and read back from the pack. */
static void test_given_chunks(void **state)
{
	(void)state;
	struct disk *d = disk_fault_new(9);
	struct store *s = open_store(d);
	uint8_t *p = malloc(CHUNK_MAX_BYTES);
	struct given g = {.s = s, .tenant_id = next_tenant++};
	g.k = (struct kept){.tenant_id = g.tenant_id, .p = malloc(CHUNK_MAX_BYTES)};
	for (int round = 0; round < 2; round++) {
		struct ingest *in;
		assert_int_equal(ingest_begin_chunks(s, g.tenant_id, -1, &in), E_OK);
		for (size_t i = 0; i < GIVEN; i++) {
			uint32_t n = given_length(i);
			memset(p, (int)(i % DISTINCT + 1), n);
			struct sha256 hash = sha256_of(p, n), wrong = hash;
			wrong.b[31] ^= 1;
			assert_int_equal(ingest_chunk(in, &wrong, p, n), E_CHECKSUM);
			assert_int_equal(ingest_chunk(in, &hash, p, n), E_OK);
		}
		assert_int_equal(ingest_finish(in, &g.c), E_OK);
		assert_int_equal(g.c->n_chunks, GIVEN);
		assert_int_equal(g.c->n_new_chunks, round ? 0 : DISTINCT);
		assert_int_equal(db_write(db, g.tenant_id, index_op, &g), E_OK);
		assert_int_equal(g.told, DISTINCT);
		content_free(g.c);
	}
	disk_fault_crash(d); /* what ingest_finish did not make durable is gone */
	store_close(s);
	s = open_store(d);
	struct content_reader *reader; /* of the chunk that was told last */
	size_t got;
	g.k.n = given_length(DISTINCT - 1);
	assert_int_equal(open_reader(s, &g.k, &reader), E_OK);
	assert_int_equal(content_read(reader, 0, p, CHUNK_MAX_BYTES, &got), E_OK);
	assert_true(got == g.k.n && memcmp(p, g.k.p, got) == 0);
	content_close(reader);
	drop(&g.k);
	free(p);
	store_close(s);
	disk_free(d);
}

/* ---- packs that were deleted ---- */

/* Packs of this test that are open and have no name any more. */
static int open_and_deleted(const char *folder)
{
	int n = 0;
	struct dirent *e;
	DIR *d = opendir("/proc/self/fd");
	must(d != NULL);
	while ((e = readdir(d)) != NULL) {
		char path[300], to[300];
		snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
		ssize_t len = readlink(path, to, sizeof to - 1);
		to[len > 0 ? len : 0] = 0;
		n += strncmp(to, folder, strlen(folder)) == 0 && strstr(to, " (deleted)") != NULL;
	}
	closedir(d);
	return n;
}

/* Their room comes back when the last reader ends, or at once. */
static void test_deleted_packs_are_closed(void **state)
{
	(void)state;
	char folder[64], name[PACK_NAME_MAX];
	struct disk *d;
	struct rng_seeded r;
	uint8_t byte;
	size_t got;
	snprintf(folder, sizeof folder, "%s/packs", db_folder);
	must(mkdir(folder, 0700) == 0 && disk_posix_open(folder, &d) == 0);
	rng_seeded_init(&r, 12);
	struct store *s = open_store(d);
	for (int reading = 0; reading < 2; reading++) {
		struct kept k = make(next_tenant++, &r.base, 100000);
		struct content_reader *reader;
		assert_int_equal(put(s, &k, -1, &r.base, NULL), E_OK);
		store_close(s); /* and with it the pack that is written to */
		s = open_store(d);
		assert_int_equal(open_reader(s, &k, &reader), E_OK);
		assert_int_equal(content_read(reader, 0, &byte, 1, &got), E_OK);
		if (!reading)
			content_close(reader);
		struct buf ids = {0};
		assert_int_equal(pack_list(d, &ids), E_OK);
		assert_int_equal(ids.n, sizeof(int64_t));
		int64_t id;
		memcpy(&id, ids.p, sizeof id);
		buf_fini(&ids);
		pack_name(name, id);
		assert_int_equal(disk_unlink(d, name), E_OK);
		assert_int_equal(open_and_deleted(folder), 1);
		store_forget_gone(s);
		assert_int_equal(open_and_deleted(folder), reading);
		if (reading)
			content_close(reader);
		assert_int_equal(open_and_deleted(folder), 0);
		drop(&k);
	}
	store_close(s);
	disk_free(d);
}

static void delete_newest(struct disk *d)
{
	struct buf list = {0};
	int64_t newest = 0, id;
	char name[PACK_NAME_MAX];
	must(pack_list(d, &list) == E_OK);
	for (size_t i = 0; i < list.n; i += sizeof id) {
		memcpy(&id, list.p + i, sizeof id);
		newest = id > newest ? id : newest;
	}
	buf_fini(&list);
	pack_name(name, newest);
	must(disk_unlink(d, name) == E_OK);
}

static int put_while_deleted(struct store *s, struct disk *d, struct kept *k)
{
	struct ingest *in;
	struct content *c;
	must(ingest_begin(s, k->tenant_id, key, (int64_t)k->n, &in) == E_OK);
	must(ingest_feed(in, k->p, k->n) == E_OK);
	delete_newest(d);
	int err = ingest_finish(in, &c);
	if (err == E_OK)
		content_free(c);
	return err;
}

/* Nobody would find what goes on into a pack that somebody deleted: it is not acknowledged, and stored in another one. */
static void test_open_packs_that_are_deleted(void **state)
{
	(void)state;
	char folder[64];
	struct rng_seeded r;
	rng_seeded_init(&r, 13);
	snprintf(folder, sizeof folder, "%s/vanish", db_folder);
	must(mkdir(folder, 0700) == 0);
	for (int round = 0; round < 4; round++) {
		struct disk *d = disk_fault_new(1);
		if (round & 1) {
			disk_free(d);
			must(disk_posix_open(folder, &d) == E_OK);
		}
		size_t n = round & 2 ? 6 << 20 : 100000; /* a pack of its own, or the shared one */
		struct store *s = open_store(d);
		struct kept k = make(next_tenant++, &r.base, 100000), next = make(k.tenant_id, &r.base, n);
		assert_int_equal(put(s, &k, -1, &r.base, NULL), E_OK);
		assert_int_equal(put_while_deleted(s, d, &next), E_BUSY);
		assert_int_equal(put(s, &next, -1, &r.base, NULL), E_OK);
		assert_int_equal(check(s, &next, &r.base), E_OK);
		drop(&k);
		drop(&next);
		store_close(s);
		disk_free(d);
	}
}

/* ---- indexing ahead ---- */

enum { AHEAD = LIMIT_CHUNKS_TX + 900, AHEAD_BYTES = 40 };

/* AHEAD different chunks and then the first of them again, not yet flushed. */
static struct content *close_many(struct store *s, struct kept *k)
{
	struct ingest *in;
	struct content *c;
	k->n = (AHEAD + 1) * AHEAD_BYTES;
	k->p = realloc(k->p, k->n);
	assert_int_equal(ingest_begin_chunks(s, k->tenant_id, -1, &in), E_OK);
	for (int i = 0; i <= AHEAD; i++) {
		uint8_t *p = k->p + (ptrdiff_t)i * AHEAD_BYTES;
		memset(p, 0, AHEAD_BYTES);
		snprintf((char *)p, AHEAD_BYTES, "%d", i % AHEAD);
		struct sha256 hash = sha256_of(p, AHEAD_BYTES);
		assert_int_equal(ingest_chunk(in, &hash, p, AHEAD_BYTES), E_OK);
	}
	assert_int_equal(ingest_close(in, &c), E_OK);
	return c;
}

static int count_op(struct tx *tx, void *arg)
{
	int64_t *n = arg;
	return tx_i64(tx, "select count(*) from chunks where tenant_id = $1", DB_ARGS(V_I(*n)), 0, n);
}

static int64_t rows_of(int64_t tenant_id)
{
	assert_int_equal(db_read(db, count_op, &tenant_id), E_OK);
	return tenant_id;
}

static int told_none(void *arg, int64_t chunk_id, const struct sha256 *hash, uint32_t length)
{
	(void)arg, (void)hash;
	return chunk_id > 0 && length == AHEAD_BYTES ? E_OK : E_INTERNAL;
}

static int first_batch_op(struct tx *tx, void *arg)
{
	struct commit *c = arg;
	return content_index(tx, c->s, c->k->tenant_id, c->c, 0, LIMIT_CHUNKS_TX, told_none, NULL);
}

/* A row is there when its bytes are durable, not before; what a crash between two batches leaves does no harm; and the
 * version's own transaction adds no row. */
static void test_index_ahead(void **state)
{
	(void)state;
	struct rng_seeded r;
	rng_seeded_init(&r, 10);
	struct kept k = {.tenant_id = next_tenant++};
	struct disk *broken = disk_fault_new(10), *d = disk_fault_new(11);
	struct store *s = open_store(broken);
	struct content *c = close_many(s, &k);
	disk_fault_at(broken, 1, 1000, E_IO);
	assert_int_not_equal(content_index_ahead(c, k.tenant_id), E_OK);
	assert_int_equal(rows_of(k.tenant_id), 0);
	content_free(c);
	store_close(s);
	disk_free(broken);

	s = open_store(d);
	c = close_many(s, &k);
	struct commit job = {s, &k, c, 2};
	assert_int_equal(content_flush(c), E_OK);
	assert_int_equal(db_write(db, k.tenant_id, first_batch_op, &job), E_OK);
	assert_int_equal(rows_of(k.tenant_id), LIMIT_CHUNKS_TX);
	content_free(c);
	disk_fault_crash(d);
	store_close(s);

	s = open_store(d);
	c = close_many(s, &k);
	job = (struct commit){s, &k, c, 2};
	assert_int_equal(content_index_ahead(c, k.tenant_id), E_OK);
	int64_t rows = rows_of(k.tenant_id);
	assert_int_equal(rows, LIMIT_CHUNKS_TX + AHEAD); /* no hint outlived the crash: some are stored twice */
	assert_int_equal(db_write(db, k.tenant_id, commit_op, &job), E_OK);
	assert_int_equal(rows_of(k.tenant_id), rows);
	content_free(c);
	disk_fault_crash(d); /* nobody flushed but content_index_ahead */
	store_close(s);
	s = open_store(d);
	assert_int_equal(check(s, &k, &r.base), E_OK);
	drop(&k);
	store_close(s);
	disk_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_empty_and_small), cmocka_unit_test(test_deduplication), cmocka_unit_test(test_race),
	    cmocka_unit_test(test_recipe_each),     cmocka_unit_test(test_rot),           cmocka_unit_test(test_full_disk),
	    cmocka_unit_test(test_model),           cmocka_unit_test(test_faults),
	    cmocka_unit_test(test_given_chunks),    cmocka_unit_test(test_index_ahead),
	    cmocka_unit_test(test_deleted_packs_are_closed),
	    cmocka_unit_test(test_open_packs_that_are_deleted),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
