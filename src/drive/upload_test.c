/* Parts agree with one ingest wherever they are cut; sessions against a model, with faults and losses of power on both
 * disks, by chance and at every call in turn; the full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/must.h"
#include "chunks/pack.h"
#include "chunks/parts.h"
#include "drive/drive_testing.h"
#include "drive/upload.h"
#include "io/disk_fault.h"

static const uint8_t key[32] = "an arbitrary key for the chunker";

static struct rng_seeded rng;

static void *noise(size_t n)
{
	char *p = malloc(n + 1);
	must(p != NULL);
	rng.base.fill(&rng.base, p, n);
	if (n > 200000 && rng_below(&rng.base, 2)) /* some that shrinks and repeats */
		for (size_t i = n / 3; i < n / 3 * 2; i++) /* never the same twice: the worlds share an index, but no disk */
			p[i] = p[i - 64];
	return p;
}

/* ---- parts ---- */

struct one_part {
	struct testing *t;
	const struct content *content;
	struct buf *recipe;
};

static int commit_op(struct tx *tx, void *arg)
{
	struct one_part *p = arg;
	buf_clear(p->recipe);
	return content_commit(tx, p->t->store, p->t->tenant_id, p->content, NULL, p->recipe);
}

static struct buf commit(struct testing *t, const struct content *c)
{
	struct buf recipe = {0};
	struct one_part p = {t, c, &recipe};
	assert_int_equal(db_write(t->db, t->tenant_id, commit_op, &p), 0);
	return recipe;
}

struct reading {
	struct testing *t;
	struct str recipe;
	int64_t size;
	struct content_reader *reader;
};

static int open_op(struct tx *tx, void *arg)
{
	struct reading *r = arg;
	return content_open(tx, r->t->store, r->t->tenant_id, r->recipe, r->size, &r->reader);
}

/* A new ingest that stands where the one before stood. */
static struct ingest *resumed(struct testing *t, int64_t size, struct str recipe, int64_t parted,
			      const struct ingest_tail *tail)
{
	struct ingest *in;
	struct reading r = {.t = t, .recipe = recipe, .size = parted};
	static char window[100000];
	assert_int_equal(ingest_begin(t->store, t->tenant_id, key, size, &in), 0);
	assert_int_equal(db_read(t->db, open_op, &r), 0);
	for (int64_t at = 0; at < parted;) {
		size_t got;
		assert_int_equal(content_read(r.reader, at, window, sizeof window, &got), 0);
		ingest_resume(in, window, got);
		at += (int64_t)got;
	}
	content_close(r.reader);
	assert_int_equal(ingest_resume_tail(in, tail), 0);
	return in;
}

static void test_parts(void **state)
{
	struct testing *t = *state;
	for (int round = 0; round < 25; round++) {
		size_t n = 1 + (size_t)rng_below(&rng.base, round % 2 ? 6 << 20 : 1 << 20), at = 0;
		AUTO_FREE char *p = noise(n);
		struct content *whole = testing_content(t, t->tenant_id, str_n(p, n));
		struct buf expected = commit(t, whole), joined = {0};
		struct recipe_join join;
		struct ingest_tail tail = {0};
		struct ingest *in;
		struct content *part;
		bool last = false;
		recipe_join_begin(&join, &joined);
		assert_int_equal(ingest_begin(t->store, t->tenant_id, key, (int64_t)n, &in), 0);
		while (!last) {
			size_t k = (size_t)rng_below(&rng.base, 900000);
			k = k < n - at ? k : n - at;
			AUTO_FREE char *lent = rng_below(&rng.base, 2) ? memcpy(malloc(k + 1), p + at, k) : NULL;
			assert_int_equal(lent ? ingest_lend(in, lent, k) : ingest_feed(in, p + at, k), 0);
			at += k;
			last = at == n;
			assert_int_equal(ingest_cut(in, last, &part, &tail), 0);
			assert_int_equal(content_write(part), 0);
			if (lent)
				memset(lent, 0, k);
			assert_int_equal(content_sync(t->store, part), 0);
			struct buf recipe = commit(t, part);
			ingest_keep(in, part);
			assert_int_equal(recipe_join_add(&join, buf_as_str(&recipe)), 0);
			buf_fini(&recipe);
			if (last)
				assert_memory_equal(&part->sha256, &whole->sha256, 32);
			content_free(part);
			if (last || rng_below(&rng.base, 3) == 0) {
				ingest_abort(in);
				in = last ? NULL : resumed(t, (int64_t)n, buf_as_str(&joined), join.size_bytes, &tail);
			}
		}
		assert_int_equal(join.size_bytes, n);
		assert_int_equal(joined.n, expected.n);
		assert_memory_equal(joined.p, expected.p, expected.n);
		buf_fini(&joined);
		buf_fini(&expected);
		content_free(whole);
	}
}

/* ---- sessions ---- */

struct world {
	struct testing *t;
	struct disk *packs, *staging;
	struct store *store;
	struct uploads *uploads;
	struct arena arena;
	struct ctx ctx;
	int64_t share_id;
};

static int world_try_start(struct world *w)
{
	struct store_config c = {.disk = w->packs, .db = w->t->db, .ids = &w->t->ids, .clock = &w->t->clock.clock};
	int err = store_open(&c, &w->store);
	if (err)
		return err;
	w->t->drive.store = w->store;
	err = uploads_open(&w->t->drive, w->staging, &w->uploads);
	if (err)
		store_close(w->store);
	w->t->drive.uploads = err ? NULL : w->uploads;
	return err;
}

static void world_start(struct world *w)
{
	must(world_try_start(w) == 0);
}

static void world_stop(struct world *w, bool power_lost)
{
	if (power_lost) {
		disk_fault_crash(w->packs);
		disk_fault_crash(w->staging);
	}
	uploads_close(w->uploads);
	store_close(w->store);
	w->t->drive.store = w->t->store;
	w->t->drive.uploads = NULL;
}

static void world_open(struct world *w, struct testing *t, uint64_t seed)
{
	*w = (struct world){.t = t, .packs = disk_fault_new(seed), .staging = disk_fault_new(seed + 1)};
	arena_init(&w->arena);
	w->ctx = testing_ctx(t, &w->arena, &t->users[1]);
	w->share_id = testing_share(&w->ctx, "uploads");
	world_start(w);
}

static void world_close(struct world *w)
{
	world_stop(w, false);
	disk_free(w->packs);
	disk_free(w->staging);
	arena_fini(&w->arena);
}

static int64_t begin_in(struct world *w, int64_t size, int64_t chunk_bytes, struct upload *out)
{
	static int number;
	char name[32];
	snprintf(name, sizeof name, "f%d", number++);
	struct upload_create in = {.put = {.share_id = w->share_id, .name = arena_str(&w->arena, str_c(name))},
				   .size_bytes = size,
				   .chunk_bytes = chunk_bytes};
	assert_int_equal(drive_upload_create(&w->ctx, &in, out), 0);
	return out->id;
}

static int64_t begin(struct world *w, int64_t size, struct upload *out)
{
	return begin_in(w, size, LIMIT_UPLOAD_CHUNK_MIN, out);
}

static int put(struct world *w, const struct upload *up, const char *content, int64_t i)
{
	struct upload_piece *p;
	struct upload_receipt receipt;
	int64_t at = i * up->in.chunk_bytes, step = up->in.chunk_bytes / 6;
	int64_t n = up->in.size_bytes - at < up->in.chunk_bytes ? up->in.size_bytes - at : up->in.chunk_bytes;
	ctx_clear(&w->ctx);
	int err = upload_piece_begin(&w->ctx, up->id, i, n, NULL, &p);
	if (err)
		return err;
	for (int64_t k = 0; !err && k < n; k += step)
		err = upload_piece_feed(&w->ctx, p, content + at + k, (size_t)(n - k < step ? n - k : step));
	if (!err)
		err = upload_piece_end(&w->ctx, p, &receipt);
	upload_piece_close(p);
	return err;
}

static void expect_file(struct world *w, int64_t file_id, const char *content, int64_t n)
{
	struct file_content c;
	size_t got;
	char *is = malloc((size_t)n + 1);
	must(is != NULL);
	assert_int_equal(file_content_open(&w->ctx, file_id, 0, false, &c), 0);
	assert_int_equal(content_read(c.reader, 0, is, (size_t)n, &got), 0);
	assert_int_equal(got, n);
	assert_memory_equal(is, content, (size_t)n);
	file_content_close(&c);
	free(is);
}

static int complete(struct world *w, int64_t id, struct version_result *r)
{
	int err = E_BUSY;
	for (int i = 0; i < 30 && err == E_BUSY; i++) {
		ctx_clear(&w->ctx);
		err = drive_upload_complete(&w->ctx, id, r);
	}
	return err;
}

/* What get says must be what was acknowledged, and nothing that was sent without success. */
static void expect_received(struct world *w, int64_t id, const bool *have, const bool *may)
{
	struct upload up;
	size_t k = 0;
	ctx_clear(&w->ctx);
	assert_int_equal(drive_upload_get(&w->ctx, id, &up), 0);
	for (int64_t i = 0; i < up.n_pieces; i++) {
		bool there = k < up.n_received_listed && up.received[k] == i;
		k += there;
		assert_true(there || !have[i]);
		assert_true(!there || have[i] || may[i]);
	}
	assert_int_equal(up.n_received + (int64_t)up.n_missing_listed, up.n_pieces);
}

static void session_round(struct testing *t, uint64_t seed)
{
	struct world w;
	struct upload up;
	struct version_result r;
	world_open(&w, t, seed);
	int64_t size = 1 + (int64_t)rng_below(&rng.base, 30 * LIMIT_UPLOAD_CHUNK_MIN);
	AUTO_FREE char *content = noise((size_t)size);
	bool have[32] = {0}, may[32] = {0};
	int64_t id = begin(&w, size, &up);
	for (int step = 0; step < 60; step++) {
		int64_t i = (int64_t)rng_below(&rng.base, (uint64_t)up.n_pieces);
		bool fault = rng_below(&rng.base, 4) == 0;
		struct disk *d = rng_below(&rng.base, 2) ? w.packs : w.staging;
		if (fault)
			disk_fault_at(d, 1 + (int64_t)rng_below(&rng.base, 5), 1,
				      rng_below(&rng.base, 2) ? E_IO : E_NO_SPACE);
		int err = put(&w, &up, content, i);
		assert_true(!err || fault || disk_failed(w.packs) || disk_failed(w.staging));
		disk_fault_at(d, 1, 0, 0);
		have[i] |= !err;
		may[i] = true;
		expect_received(&w, id, have, may);
		if (disk_failed(w.packs) || disk_failed(w.staging) || rng_below(&rng.base, 8) == 0) {
			world_stop(&w, true);
			world_start(&w);
			expect_received(&w, id, have, may);
		}
	}
	for (int64_t i = 0; i < up.n_pieces; i++)
		assert_int_equal(put(&w, &up, content, i), 0);
	assert_int_equal(complete(&w, id, &r), 0);
	int64_t version_id = r.version.id;
	expect_file(&w, r.node.id, content, size);
	world_stop(&w, true);
	world_start(&w);
	expect_file(&w, r.node.id, content, size);
	assert_int_equal(complete(&w, id, &r), 0);
	assert_int_equal(r.version.id, version_id);
	world_close(&w);
}

static void test_sessions(void **state)
{
	for (uint64_t i = 0; i < 12; i++)
		session_round(*state, 100 + i);
}

/* ---- a fault at every call ---- */

enum { PIECES = 9 };

enum harm { FAIL_ONCE, FULL, POWER_LOST, KILLED, HARMS };

/* One upload whose disks meet one harm, and what its client was told. */
struct life {
	struct world w;
	struct upload up;
	char *content;
	enum harm harm;
	struct disk *harmed;
	int64_t last; /* the call of the harmed disk that meets it */
	bool have[PIECES], may[PIECES];
	bool completed;
	struct version_result made;
};

static bool harm_came(struct life *l)
{
	return disk_fault_calls(l->harmed) >= l->last;
}

static bool is_over(struct life *l)
{
	return l->harm >= POWER_LOST && harm_came(l);
}

static void send(struct life *l, int64_t i)
{
	if (is_over(l) || l->have[i])
		return;
	l->may[i] = true;
	int err = put(&l->w, &l->up, l->content, i);
	l->have[i] = !err;
	assert_true(!err || harm_came(l));
}

static void mend(struct life *l)
{
	disk_fault_at(l->harmed, 1, 0, 0);
	disk_fault_die(l->harmed, -1);
}

/* The server ends as it should and begins again, as often as it takes. */
static void begin_again(struct life *l)
{
	if (is_over(l))
		return;
	world_stop(&l->w, false);
	int err = world_try_start(&l->w);
	assert_true(!err || harm_came(l));
	if (!err)
		return;
	mend(l);
	disk_fault_restart(l->harmed);
	world_start(&l->w);
}

static int64_t moved_so_far(struct life *l)
{
	char sql[80];
	snprintf(sql, sizeof sql, "select next_piece from uploads where id = %lld", (long long)l->up.id);
	return testing_i64(l->w.t, sql);
}

/* Until the mover has fed all below upto; after the harm it need not come to that. */
static void let_move(struct life *l, int64_t upto)
{
	int64_t until = clock_mono(&clock_system) + SECONDS_US(100);
	while (moved_so_far(l) < upto && !harm_came(l)) {
		assert_true(clock_mono(&clock_system) < until);
		usleep(500);
	}
}

/* Pieces in their turn, one that comes behind a restart and waits until the ingest was rebuilt, two before their turn and the one that
 * they wait for, the last; then the version. */
static void upload_all(struct life *l)
{
	send(l, 0);
	send(l, 1);
	begin_again(l);
	send(l, 2);
	let_move(l, 3);
	send(l, 3);
	send(l, 6);
	send(l, 5);
	send(l, 4);
	let_move(l, 7);
	send(l, 7);
	send(l, 8);
	let_move(l, PIECES);
	if (moved_so_far(l) == PIECES && !is_over(l))
		l->completed = complete(&l->w, l->up.id, &l->made) == 0;
	assert_true(l->completed || harm_came(l));
}

/* What every life comes to: the client learns what is missing, sends that alone, and gets the file. */
static void finish(struct life *l)
{
	struct version_result r;
	struct upload now;
	expect_received(&l->w, l->up.id, l->have, l->may);
	assert_int_equal(drive_upload_get(&l->w.ctx, l->up.id, &now), 0);
	assert_int_equal(now.status, l->completed ? UPLOAD_COMPLETED : now.status);
	for (size_t i = 0; i < now.n_missing_listed; i++)
		assert_int_equal(put(&l->w, &l->up, l->content, now.missing[i]), 0);
	assert_int_equal(complete(&l->w, l->up.id, &r), 0);
	assert_true(!l->completed || r.version.id == l->made.version.id);
	struct sha256 sent = sha256_of(l->content, (size_t)l->up.in.size_bytes);
	assert_memory_equal(&r.version.sha256, &sent, sizeof sent);
	world_stop(&l->w, true);
	world_start(&l->w);
	expect_file(&l->w, r.node.id, l->content, l->up.in.size_bytes);
}

static void bring(struct life *l, int64_t nth)
{
	l->last = disk_fault_calls(l->harmed) + nth;
	if (l->harm == FAIL_ONCE)
		disk_fault_at(l->harmed, nth, 1, E_IO);
	else if (l->harm == FULL)
		disk_fault_at(l->harmed, nth, 1000000, E_NO_SPACE);
	else
		disk_fault_die(l->harmed, nth);
}

static void outlive(struct life *l)
{
	struct world *w = &l->w;
	if (!is_over(l) && !disk_failed(w->packs) && !disk_failed(w->staging))
		return;
	if (l->harm == KILLED) {
		disk_fault_restart(w->packs);
		disk_fault_restart(w->staging);
	}
	world_stop(w, l->harm != KILLED);
	world_start(w);
}

/* Whether the harm came at all: the call was made. */
static bool one_life(struct testing *t, int64_t chunk_bytes, enum harm harm, bool staging, int64_t nth)
{
	static uint64_t seed = 5000;
	struct life l = {.harm = harm};
	int64_t size = (PIECES - 1) * chunk_bytes + 1 + (int64_t)rng_below(&rng.base, (uint64_t)chunk_bytes);
	world_open(&l.w, t, seed += 2);
	l.content = noise((size_t)size);
	begin_in(&l.w, size, chunk_bytes, &l.up);
	l.harmed = staging ? l.w.staging : l.w.packs;
	bring(&l, nth);
	upload_all(&l);
	bool came = harm_came(&l);
	if (harm < POWER_LOST)
		expect_received(&l.w, l.up.id, l.have, l.may);
	outlive(&l);
	mend(&l);
	finish(&l);
	world_close(&l.w);
	free(l.content);
	return came;
}

/* The pack that small files share; and a pack of its own, into which lent pieces are written where they lie. SD_UPLOAD_CALLS=all: every
 * harm at every call; else each harm at every so many calls. */
static void test_each_call(void **state)
{
	const char *calls = getenv("SD_UPLOAD_CALLS");
	bool all = calls && strcmp(calls, "all") == 0;
	for (int own = 0; own < 2; own++)
		for (int harm = 0; harm < HARMS; harm++)
			for (int staging = 0; staging < 2; staging++) {
				int64_t step = all ? 1 : own ? 24 : 3, nth = 1 + harm * step / HARMS;
				while (one_life(*state, own ? 512 << 10 : LIMIT_UPLOAD_CHUNK_MIN, harm, staging, nth))
					must((nth += step) < 1000);
				assert_true(nth > 30);
			}
}

struct packs {
	struct disk *disk;
	char folder[2];
	int64_t bytes;
};

static int pack_size(void *arg, const char *name, bool is_folder)
{
	struct packs *p = arg;
	struct disk_file *f;
	int64_t size;
	char path[64];
	assert_false(is_folder);
	snprintf(path, sizeof path, "%s/%s", p->folder, name);
	assert_int_equal(disk_open(p->disk, path, DISK_READ, &f), 0);
	assert_int_equal(disk_size(f, &size), 0);
	disk_close(f);
	p->bytes += size;
	return 0;
}

static int64_t packs_bytes(struct world *w)
{
	struct packs p = {.disk = w->packs};
	for (unsigned i = 0; i < PACK_FOLDERS; i++) {
		pack_folder_name(p.folder, i);
		(void)disk_list(w->packs, p.folder, pack_size, &p);
	}
	return p.bytes;
}

/* Whether a commit that failed was one is not always known: then rows may point to the bytes, which stay. */
static void test_commit_in_doubt(void **state)
{
	struct world w;
	struct upload up;
	world_open(&w, *state, 11);
	int64_t size = 5 << 20; /* a pack of its own */
	AUTO_FREE char *content = noise((size_t)size);
	begin(&w, size, &up);
	for (int64_t i = 0; i < 2; i++) { /* the first makes the pack, the second adds to it */
		int64_t before = packs_bytes(&w);
		testing_exec(w.t, "alter table upload_parts rename to elsewhere", DB_NO_ARGS);
		assert_int_equal(put(&w, &up, content, i), E_DB);
		testing_exec(w.t, "alter table elsewhere rename to upload_parts", DB_NO_ARGS);
		assert_true(packs_bytes(&w) > before + LIMIT_UPLOAD_CHUNK_MIN);
		assert_int_equal(put(&w, &up, content, i), 0);
	}
	world_close(&w);
}

/* No room for the pieces: E_NO_SPACE, nothing received, no file left; then there is room. */
static void test_full_disk(void **state)
{
	struct world w;
	struct upload up;
	struct version_result r;
	world_open(&w, *state, 7);
	int64_t size = 8 * LIMIT_UPLOAD_CHUNK_MIN;
	AUTO_FREE char *content = noise((size_t)size);
	int64_t id = begin(&w, size, &up);
	bool have[32] = {0}, may[32] = {0};
	disk_fault_capacity(w.staging, 100000);
	disk_fault_capacity(w.packs, 50000);
	assert_int_equal(put(&w, &up, content, 5), 0);
	assert_int_equal(put(&w, &up, content, 6), E_NO_SPACE);
	assert_int_equal(put(&w, &up, content, 0), E_NO_SPACE);
	have[5] = true;
	expect_received(&w, id, have, may);
	disk_fault_capacity(w.packs, -1);
	for (int64_t i = 0; i < 6; i++)
		assert_int_equal(put(&w, &up, content, i), 0);
	int err = E_NO_SPACE; /* until the mover has fed piece 5: then its room comes back */
	for (int i = 0; i < 200 && err == E_NO_SPACE; i++) {
		usleep(10000);
		for (int k = 0; k < 16; k++) /* this disk gives room back when the name is gone for good */
			(void)disk_sync_dir(w.staging, (const char[]){"0123456789abcdef"[k], 0});
		err = put(&w, &up, content, 7);
	}
	assert_int_equal(err, 0);
	assert_int_equal(put(&w, &up, content, 6), 0);
	assert_int_equal(complete(&w, id, &r), 0);
	expect_file(&w, r.node.id, content, size);
	world_close(&w);
}

/* Parts of an upload that was given up are there for the collector, for an hour: another upload may have found its pieces in them. */
static void test_parts_of_the_cancelled(void **state)
{
	struct world w;
	struct upload up;
	world_open(&w, *state, 13);
	int64_t size = 4 * LIMIT_UPLOAD_CHUNK_MIN;
	AUTO_FREE char *content = noise((size_t)size);
	begin(&w, size, &up);
	for (int64_t i = 0; i < 2; i++)
		assert_int_equal(put(&w, &up, content, i), 0);
	assert_int_equal(drive_upload_cancel(&w.ctx, up.id), 0);
	const char *parts = "select count(*) from upload_parts p join uploads u on u.id = p.upload_id where u.status = 3";
	int64_t n = testing_i64(w.t, parts);
	assert_true(n > 0);
	world_stop(&w, false); /* who starts clears away what is over */
	world_start(&w);
	usleep(300000);
	assert_int_equal(testing_i64(w.t, parts), n);
	w.t->clock.offset_us += MILLIS_US(LIMIT_CONDEMNED_MS) + SECONDS_US(1);
	world_stop(&w, false);
	world_start(&w);
	for (int i = 0; i < 500 && testing_i64(w.t, parts); i++)
		usleep(10000);
	assert_int_equal(testing_i64(w.t, parts), 0);
	w.t->clock.offset_us = 0;
	world_close(&w);
}

static void count_wake(void *arg)
{
	++*(int *)arg;
}

struct coming {
	struct upload_piece *p;
	int woken;
	bool waits;
};

/* Its first bytes are there when it is asked whether there is room, as a network thread does it. */
static void come(struct world *w, const struct upload *up, const char *content, struct coming *c, int64_t i)
{
	c[i] = (struct coming){0};
	assert_int_equal(upload_piece_begin(&w->ctx, up->id, i, up->in.chunk_bytes, NULL, &c[i].p), 0);
	assert_int_equal(upload_piece_feed(&w->ctx, c[i].p, content + i * up->in.chunk_bytes, 5000), 0);
	c[i].waits = !upload_piece_may_receive(c[i].p, count_wake, &c[i].woken);
}

static void come_whole(struct world *w, const struct upload *up, const char *content, struct coming *c, int64_t i)
{
	struct upload_receipt receipt;
	assert_int_equal(upload_piece_feed(&w->ctx, c[i].p, content + i * up->in.chunk_bytes + 5000, (size_t)up->in.chunk_bytes - 5000), 0);
	assert_true(upload_piece_ready(c[i].p, count_wake, &c[i].woken));
	assert_int_equal(upload_piece_end(&w->ctx, c[i].p, &receipt), 0);
	upload_piece_close(c[i].p);
}

/* Three pieces of 4 MiB of a session are received at a time, and the one whose turn is next is among them. */
static void test_room(void **state)
{
	struct world w;
	struct upload up;
	struct version_result r;
	struct coming c[6], again;
	world_open(&w, *state, 17);
	int64_t size = 6 * LIMIT_UPLOAD_CHUNK_MAX;
	AUTO_FREE char *content = noise((size_t)size);
	int64_t id = begin_in(&w, size, LIMIT_UPLOAD_CHUNK_MAX, &up);
	come(&w, &up, content, c, 1);
	come(&w, &up, content, c, 2);
	come(&w, &up, content, c, 3);
	assert_true(!c[1].waits && !c[2].waits && c[3].waits); /* there is room for one, which is piece 0's */
	come(&w, &up, content, c, 0);
	assert_false(c[0].waits);
	come(&w, &up, content, &again, 0); /* it is sent once more */
	assert_false(again.waits);
	upload_piece_close(again.p);
	assert_int_equal(c[3].woken, 0);
	come_whole(&w, &up, content, c, 0);
	assert_int_equal(c[3].woken, 1);
	come(&w, &up, content, c, 5);
	assert_true(c[5].waits);
	come_whole(&w, &up, content, c, 1);
	assert_int_equal(c[5].woken, 1);
	come(&w, &up, content, c, 4);
	assert_true(c[4].waits);
	upload_piece_close(c[3].p); /* its sender went away */
	assert_int_equal(c[4].woken, 1);
	come_whole(&w, &up, content, c, 2);
	come(&w, &up, content, c, 3);
	assert_false(c[3].waits);
	come_whole(&w, &up, content, c, 3);
	come_whole(&w, &up, content, c, 4);
	come_whole(&w, &up, content, c, 5);
	assert_int_equal(c[4].woken + c[5].woken, 2);
	assert_int_equal(complete(&w, id, &r), 0);
	expect_file(&w, r.node.id, content, size);
	world_close(&w);
}

static int set_up(void **state)
{
	static struct testing t;
	rng_seeded_init(&rng, 42);
	testing_open(&t, NULL);
	*state = &t;
	return 0;
}

static int tear_down(void **state)
{
	testing_close(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_sessions),
	    cmocka_unit_test(test_commit_in_doubt),
	    cmocka_unit_test(test_full_disk),
	    cmocka_unit_test(test_parts_of_the_cancelled),
	    cmocka_unit_test(test_room),
	    cmocka_unit_test(test_each_call), /* last: it leaves sessions behind */
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
