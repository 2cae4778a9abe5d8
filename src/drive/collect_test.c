/* The collector against a model. A world of files, versions, leases, uploads and contents in flight is worked at by random
 * operations, which also happen between any two steps of a collection, with a clock that jumps and a disk that dies at any
 * call and forgets what was not synced. At all times every version has its bytes; what failed did so for a reason that the
 * collector may give; and what nobody refers to goes in the end, files and rows.
 *
 * SD_COLLECT_OPS: so many operations; SD_SEED: this seed alone. HACKING.md names the long form and the seeded bugs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"
#include "base/rng.h"
#include "chunks/parts.h"
#include "chunks/recipe.h"
#include "drive/check.h"
#include "drive/chunk.h"
#include "drive/collect.h"
#include "drive/drive_testing.h"
#include "drive/hold.h"
#include "drive/upload.h"
#include "io/disk_fault.h"

enum { FILES = 40, VERSIONS = 6, HELD = 8, UPLOADS = 3, READERS = 3, WHATS = 160, PIECE = 64 << 10, OPS = 2500, CHECK_EVERY = 500 };
#define MINUTE SECONDS_US(60)

struct made {
	int64_t number;
	int what;
};

struct model_file {
	int64_t id;
	bool trashed;
	struct made versions[VERSIONS];
	size_t n;
};

/* On its way to be a version. */
struct held {
	struct content *content; /* or a recipe */
	struct str recipe;
	int what;
	int64_t since_us;
};

struct sending {
	int64_t id, size;
	int what;
	int64_t next;
};

struct reading {
	struct file_content c;
	int what;
	int64_t since_us;
};

static struct {
	struct testing t;
	struct arena arena;
	struct ctx ctx;
	struct disk *staging;
	struct rng_seeded rng;
	int64_t share, names;
	struct model_file files[FILES];
	struct held held[HELD];
	struct sending uploads[UPLOADS];
	struct reading readers[READERS];
	struct collection *collection;
	bool quiet; /* no operations between the collector's steps */
	int64_t ops, refused, crashes, collections;
	bool lost;  /* something is not as it should be: for mutants */
	const char *how;
} w;

static uint64_t below(uint64_t n)
{
	return rng_below(&w.rng.base, n);
}

static int64_t now(void)
{
	return clock_now(&w.t.clock.clock);
}

static bool dead(void)
{
	return disk_fault_is_dead(w.t.disk);
}

static void wrong(const char *how, long long a, long long b)
{
	if (!w.lost)
		fprintf(stderr, "%s (%lld, %lld) after %lld operations\n", how, a, b, (long long)w.ops);
	w.lost = true;
	w.how = how;
}

/* ---- contents: of blocks that several share ---- */

static size_t block(int number, uint8_t *out)
{
	struct rng_seeded r;
	rng_seeded_init(&r, (uint64_t)number * 7919 + 1);
	size_t n = number % 5 == 0 ? 40000 + (size_t)number * 97 % 40000 : 60 + (size_t)number * 131 % 3000;
	r.base.fill(&r.base, out, n);
	return n;
}

/* Most are one small chunk; some have several, and a few are above 4 MiB, which get packs of their own. Made once. */
static struct str bytes_of(int what)
{
	static struct str made[WHATS];
	static uint8_t b[6 << 20];
	size_t n = 0;
	int blocks = what % 53 == 52 ? 90 : what % 7 == 6 ? 4 : 1;
	if (made[what].p)
		return made[what];
	for (int i = 0; i < blocks; i++)
		n += block(blocks == 1 ? what / 2 * 5 + 1 : (what * 5 + i * 5) % 500, b + n);
	char *copy = malloc(n);
	must(copy);
	memcpy(copy, b, n);
	return made[what] = str_n(copy, n);
}

static struct sha256 sha256_of_what(int what)
{
	static struct sha256 made[WHATS];
	static bool is_made[WHATS];
	if (!is_made[what])
		made[what] = sha256_of(bytes_of(what).p, bytes_of(what).n);
	is_made[what] = true;
	return made[what];
}

static struct ctx *ctx(void)
{
	arena_reset(&w.arena);
	ctx_clear(&w.ctx);
	return &w.ctx;
}

/* A failure is one of those that the collector may cause, or the disk is dead. */
static void may_fail(int err, bool old)
{
	bool fair = dead() || (old && (err == E_BUSY || err == E_TIMEOUT));
	w.refused += err != 0 && !dead();
	if (err && !fair)
		wrong(err_info(err)->code, old, 0);
}

/* ---- files ---- */

static struct model_file *some_file(bool there)
{
	for (int tries = 0; tries < 20; tries++) {
		struct model_file *f = &w.files[below(FILES)];
		if ((f->id != 0) == there)
			return f;
	}
	return NULL;
}

static void add_version(struct model_file *f, int64_t number, int what)
{
	f->trashed = false;
	if (f->n && f->versions[f->n - 1].number == number)
		return; /* the head has these bytes */
	must(f->n < VERSIONS);
	f->versions[f->n++] = (struct made){number, what};
}

static void put(struct version_put *put, int what, bool old)
{
	char name[32];
	struct version_result r;
	struct model_file *f = some_file(below(2));
	if (!f || f->n == VERSIONS || f->trashed)
		return;
	snprintf(name, sizeof name, "f%lld", (long long)++w.names);
	put->strategy = RESOLVE_LAST_WRITER_WINS;
	if (f->id) {
		put->replace_file_id = f->id;
	} else {
		put->share_id = w.share;
		put->name = str_c(name);
	}
	int err = drive_file_put(ctx(), put, &r);
	may_fail(err, old);
	if (err)
		return;
	f->id = r.node.id;
	add_version(f, r.version.number, what);
}

static void op_purge(void)
{
	struct model_file *f = some_file(true);
	if (!f)
		return;
	int err = drive_node_delete(ctx(), NODE_FILE, &(struct node_delete){.id = f->id, .permanent = true});
	may_fail(err, false);
	if (!err)
		*f = (struct model_file){0};
}

static void op_trash(void)
{
	struct model_file *f = some_file(true);
	struct node n;
	if (!f)
		return;
	int err = f->trashed ? drive_node_patch(ctx(), NODE_FILE, &(struct node_patch){.id = f->id, .restore = true}, &n)
	                     : drive_node_delete(ctx(), NODE_FILE, &(struct node_delete){.id = f->id});
	may_fail(err, false);
	f->trashed ^= !err;
}

static void op_copy(void)
{
	struct model_file *f = some_file(true), *to = some_file(false);
	struct node n;
	if (!f || !to || f->trashed)
		return;
	int err = drive_file_copy(ctx(), &(struct node_place){.id = f->id, .target_share_id = w.share}, &n);
	may_fail(err, false);
	if (err)
		return;
	*to = (struct model_file){.id = n.id};
	add_version(to, 1, f->versions[f->n - 1].what);
}

static void op_old_version_again(void)
{
	struct model_file *f = some_file(true);
	struct version_result r;
	if (!f || f->trashed || f->n == VERSIONS)
		return;
	size_t i = below(f->n);
	int err = drive_file_version_restore(ctx(), f->id, f->versions[i].number, &r);
	may_fail(err, false);
	if (!err)
		add_version(f, r.version.number, f->versions[i].what);
}

struct thinning {
	int64_t file, number;
};

static int thin_op(struct dtx *t, void *arg)
{
	struct thinning *x = arg;
	struct node n;
	struct version v;
	int err = node_load(t, x->file, NODE_FILE, RIGHT_READ | NODE_WITH_TRASH, &n);
	if (!err)
		err = version_load_number(t, &n, x->number, &v);
	if (!err)
		err = version_remove(t, v.id);
	return err ? err : share_use(t, n.share_id, -v.size_bytes);
}

/* One of the history goes, as when it is thinned. */
static void op_thin(void)
{
	struct model_file *f = some_file(true);
	if (!f || f->n < 2)
		return;
	size_t i = below(f->n - 1);
	struct thinning x = {f->id, f->versions[i].number};
	int err = drive_write(ctx(), thin_op, &x);
	may_fail(err, false);
	if (!err)
		memmove(&f->versions[i], &f->versions[i + 1], (--f->n - i) * sizeof f->versions[0]);
}

/* ---- contents in flight ---- */

static struct held *some_held(bool there)
{
	for (int tries = 0; tries < 20; tries++) {
		struct held *h = &w.held[below(HELD)];
		if ((h->content || h->recipe.p) == there)
			return h;
	}
	return NULL;
}

static void drop_held(struct held *h)
{
	content_free(h->content);
	free((void *)(uintptr_t)h->recipe.p);
	*h = (struct held){0};
}

static int ingest(int what, struct content **out)
{
	static const uint8_t key[32] = "an arbitrary key for the chunker";
	struct ingest *in;
	struct str b = bytes_of(what);
	int err = ingest_begin(w.t.store, w.ctx.tenant_id, key, (int64_t)b.n, &in);
	if (err)
		return err;
	err = ingest_feed(in, b.p, b.n);
	if (err) {
		ingest_abort(in);
		return err;
	}
	return ingest_finish(in, out);
}

static void op_feed(void)
{
	struct held *h = some_held(false);
	int what = (int)below(WHATS);
	struct content *c;
	if (!h)
		return;
	int64_t since = now();
	int err = ingest(what, &c);
	may_fail(err, false);
	if (!err)
		*h = (struct held){.content = c, .what = what, .since_us = since};
}

static void op_commit(void)
{
	struct held *h = some_held(true);
	if (!h)
		return;
	struct version_put in = {.content = h->content, .recipe = h->recipe, .had_us = h->since_us};
	in.size_bytes = (int64_t)bytes_of(h->what).n;
	in.sha256 = sha256_of_what(h->what);
	put(&in, h->what, now() - h->since_us >= MILLIS_US(LIMIT_FOUND_MS) || now() < h->since_us);
	drop_held(h);
}

struct look {
	int64_t file, number;
	struct sha256 hash;
	uint32_t length;
	struct str recipe;
};

static int source_op(struct dtx *t, void *arg)
{
	struct look *l = arg;
	struct node n;
	struct version v;
	int err = node_load(t, l->file, NODE_FILE, RIGHT_READ | NODE_WITH_TRASH, &n);
	if (!err)
		err = version_load_number(t, &n, l->number, &v);
	l->recipe = err ? STR_NULL : v.recipe;
	return err;
}

static int lease_op(struct dtx *t, void *arg)
{
	struct look *l = arg;
	struct chunk_found found;
	struct buf b = {0};
	struct recipe_writer rw;
	int err = chunk_leased(t, &l->hash, 1, &found);
	l->recipe = STR_NULL;
	if (err || !found.id)
		return err;
	recipe_begin(&rw, &b);
	recipe_add(&rw, found.id, found.length);
	l->recipe = arena_str(t->ctx->arena, buf_as_str(&b));
	buf_fini(&b);
	return 0;
}

static void hold_recipe(struct held *h, struct str recipe, int what)
{
	char *copy = malloc(recipe.n + 1);
	must(copy);
	memcpy(copy, recipe.p, recipe.n);
	*h = (struct held){.recipe = str_n(copy, recipe.n), .what = what, .since_us = now()};
}

/* A request that makes a version of another's chunks has read that one's recipe. */
static void op_take_source(void)
{
	struct model_file *f = some_file(true);
	struct held *h = some_held(false);
	if (!f || !h)
		return;
	struct made *v = &f->versions[below(f->n)];
	struct look l = {.file = f->id, .number = v->number};
	int err = drive_read(ctx(), source_op, &l);
	may_fail(err, false);
	if (!err)
		hold_recipe(h, l.recipe, v->what);
}

static int small(void)
{
	int what;
	do
		what = (int)below(WHATS);
	while (what % 53 == 52 || what % 7 == 6);
	return what;
}

/* A chunk is sent in bulk, or one that was sent is looked for by its hash. */
static void op_lease(void)
{
	struct held *h = some_held(false);
	int what = small();
	struct str b = bytes_of(what);
	struct sha256 hash = sha256_of_what(what);
	if (below(2)) {
		struct ingest *in;
		struct content *c;
		int64_t expires_at;
		int err = ingest_begin_chunks(w.t.store, w.ctx.tenant_id, -1, &in);
		if (!err)
			err = ingest_chunk(in, &hash, b.p, b.n);
		if (!err)
			err = ingest_finish(in, &c);
		may_fail(err, false);
		if (err)
			return;
		err = drive_chunks_keep(ctx(), c, &expires_at);
		content_free(c);
		may_fail(err, false);
		return;
	}
	struct look l = {.hash = hash};
	int err = h ? drive_read(ctx(), lease_op, &l) : 0;
	may_fail(err, false);
	if (!err && l.recipe.p)
		hold_recipe(h, l.recipe, what);
}

/* ---- uploads in pieces ---- */

static void op_upload_begin(void)
{
	for (int i = 0; i < UPLOADS; i++) {
		struct sending *u = &w.uploads[i];
		if (u->id)
			continue;
		int what = below(3) ? (int)below(WHATS / 7) * 7 + 6 : 52;
		char name[32];
		struct upload up;
		snprintf(name, sizeof name, "u%lld", (long long)++w.names);
		struct upload_create in = {.put = {.share_id = w.share, .name = str_c(name)},
		                           .size_bytes = (int64_t)bytes_of(what).n,
		                           .chunk_bytes = PIECE};
		int err = drive_upload_create(ctx(), &in, &up);
		may_fail(err, false);
		if (!err)
			*u = (struct sending){.id = up.id, .size = in.size_bytes, .what = what};
		return;
	}
}

static void end_upload(struct sending *u, bool cancel)
{
	struct version_result r;
	struct model_file *f = some_file(false);
	int err;
	if (cancel || !f) {
		err = drive_upload_cancel(ctx(), u->id);
		may_fail(err == E_EXPIRED ? 0 : err, false);
	} else {
		err = drive_upload_complete(ctx(), u->id, &r);
		if (err == E_BUSY)
			return; /* the mover is at it */
		may_fail(err == E_EXPIRED ? 0 : err, false);
		if (!err) {
			*f = (struct model_file){.id = r.node.id};
			add_version(f, 1, u->what);
		}
	}
	if (!err || err == E_EXPIRED)
		*u = (struct sending){0};
}

static void op_upload_on(void)
{
	struct sending *u = &w.uploads[below(UPLOADS)];
	struct upload_piece *p;
	struct upload_receipt receipt;
	if (!u->id)
		return;
	int64_t at = u->next * PIECE, n = u->size - at < PIECE ? u->size - at : PIECE;
	if (n <= 0 || below(40) == 0) {
		end_upload(u, n > 0);
		return;
	}
	int err = upload_piece_begin(ctx(), u->id, u->next, n, NULL, &p);
	if (!err) {
		err = upload_piece_feed(&w.ctx, p, bytes_of(u->what).p + at, (size_t)n);
		if (!err)
			err = upload_piece_end(&w.ctx, p, &receipt);
		upload_piece_close(p);
	}
	if (err == E_EXPIRED || err == E_NOT_FOUND) { /* a day without a piece: the clock jumps */
		*u = (struct sending){0};
		return;
	}
	may_fail(err, true);
	u->next += !err;
}

/* ---- reading ---- */

static bool same(struct content_reader *r, int what)
{
	struct str b = bytes_of(what);
	char *is = malloc(b.n + 1);
	size_t got = 0;
	must(is);
	bool ok = !content_read(r, 0, is, b.n + 1, &got) && got == b.n && memcmp(is, b.p, b.n) == 0;
	free(is);
	return ok;
}

static void op_open(void)
{
	struct reading *r = &w.readers[below(READERS)];
	struct model_file *f = some_file(true);
	if (r->c.reader) {
		/* one who has been reading for less than the hour is served to the end */
		bool ok = same(r->c.reader, r->what);
		if (!ok && !dead() && now() - r->since_us < MILLIS_US(LIMIT_CONDEMNED_MS) && now() >= r->since_us)
			wrong("a reader was cut off", r->what, 0);
		file_content_close(&r->c);
		r->c.reader = NULL;
		return;
	}
	if (!f)
		return;
	struct made *v = &f->versions[below(f->n)];
	int err = file_content_open(ctx(), f->id, v->number, true, &r->c);
	may_fail(err, false);
	if (err)
		r->c.reader = NULL;
	r->what = v->what;
	r->since_us = now();
}

static void verify_all(void)
{
	for (int i = 0; i < FILES && !w.lost; i++)
		for (size_t k = 0; k < w.files[i].n && !w.lost; k++) {
			struct file_content c;
			struct made *v = &w.files[i].versions[k];
			int err = file_content_open(ctx(), w.files[i].id, v->number, true, &c);
			bool ok = !err && same(c.reader, v->what);
			if (!err)
				file_content_close(&c);
			if (!ok)
				wrong("a version does not have its bytes", i, v->number);
		}
}

static void on_finding(void *arg, const struct check_finding *f)
{
	(void)arg;
	fprintf(stderr, "fsck: %.*s %s\n", STR_ARG(f->sentence), f->code);
	wrong("fsck has a finding", 0, 0);
}

static void no_garbage(void *arg, struct str file, int64_t bytes)
{
	(void)arg, (void)file, (void)bytes;
}

static void no_progress(void *arg, const char *what, int64_t done, int64_t all)
{
	(void)arg, (void)what, (void)done, (void)all;
}

static void check(enum check_depth depth)
{
	struct check_totals totals;
	struct check_config config = {.db = w.t.db, .store = w.t.store, .packs = w.t.disk, .staging = w.staging,
	                              .clock = &w.t.clock.clock, .depth = depth, .finding = on_finding,
	                              .garbage = no_garbage, .progress = no_progress};
	if (drive_check(&config, &totals))
		wrong("fsck does not come to its end", 0, 0);
}

/* ---- time, crashes, and the collector ---- */

static void op_wait(void)
{
	static const int64_t steps[] = {1, 1, 3, 3, 10, 10, 29, 31, 61, 61, 6 * 60, 25 * 60, 49 * 60, -7};
	w.t.clock.offset_us += steps[below(sizeof steps / sizeof *steps)] * MINUTE;
}

static void op_stages(void)
{
	int64_t removed;
	struct model_file *f = some_file(true);
	if (f && !f->trashed && below(2)) {
		struct content *c;
		struct version_result r;
		int err = ingest((int)below(WHATS), &c);
		may_fail(err, false);
		if (err)
			return;
		struct version_put in = {.replace_file_id = f->id, .staged = true, .content = c};
		may_fail(drive_file_put(ctx(), &in, &r), false);
		content_free(c);
		return;
	}
	may_fail(drive_version_sweep(ctx(), &removed), false);
}

static void some_op(void);

static bool between(void *arg, int64_t bytes)
{
	(void)arg, (void)bytes;
	for (int i = 0; !w.quiet && !dead() && i < 3 && below(2); i++)
		some_op();
	return !dead() && !w.lost && (w.quiet || below(30));
}

static void collect_some(void)
{
	bool done = false;
	if (!w.collection)
		w.collection = collection_new(&(struct collection_config){.drive = &w.t.drive, .go_on = between});
	int err = collection_go_on(w.collection, &done);
	may_fail(err, false);
	if (!done && !err)
		return;
	collection_free(w.collection);
	w.collection = NULL;
	w.collections++;
}

static void some_op(void)
{
	static void (*const ops[])(void) = {op_feed,   op_feed,    op_feed,        op_commit,      op_commit,       op_commit,
	                                    op_commit, op_purge,   op_trash,       op_copy,        op_old_version_again, op_thin,
	                                    op_thin,   op_lease,   op_take_source, op_take_source, op_upload_begin, op_upload_on,
	                                    op_upload_on, op_upload_on, op_open,   op_open,        op_wait,         op_stages};
	w.ops++;
	ops[below(sizeof ops / sizeof *ops)]();
}

static void close_uploads(void)
{
	uploads_close(w.t.drive.uploads);
	w.t.drive.uploads = NULL;
}

static void open_uploads(void)
{
	must(uploads_open(&w.t.drive, w.staging, &w.t.drive.uploads) == 0);
}

static void let_go(void)
{
	for (int i = 0; i < HELD; i++)
		drop_held(&w.held[i]);
	for (int i = 0; i < READERS; i++) {
		if (w.readers[i].c.reader)
			file_content_close(&w.readers[i].c);
		w.readers[i].c.reader = NULL;
	}
	collection_free(w.collection);
	w.collection = NULL;
}

static void power_goes(void *arg)
{
	(void)arg;
	disk_fault_crash(w.t.disk);
}

/* What a session had got is asked of the server, as a client does. */
static void resume(void)
{
	for (int i = 0; i < UPLOADS; i++) {
		struct upload up;
		if (w.uploads[i].id && drive_upload_get(ctx(), w.uploads[i].id, &up) == 0)
			w.uploads[i].next = up.next_piece;
		else
			w.uploads[i] = (struct sending){0};
	}
}

static void crash(void)
{
	let_go();
	close_uploads();
	testing_restart(&w.t, power_goes, NULL);
	w.crashes++;
	verify_all();
	check(CHECK_FULL);
	open_uploads();
	resume();
}

/* ---- a life ---- */

static void begin(uint64_t seed)
{
	memset(&w, 0, sizeof w);
	rng_seeded_init(&w.rng, seed);
	testing_open_on(&w.t, getenv("SCAIDRIVE_TEST_PG"), disk_fault_new(seed));
	w.staging = disk_fault_new(seed + 1);
	arena_init(&w.arena);
	w.ctx = testing_ctx(&w.t, &w.arena, &w.t.users[1]);
	w.share = testing_share(&w.ctx, "share");
	open_uploads();
}

static void end(void)
{
	let_go();
	close_uploads();
	testing_close(&w.t);
	disk_free(w.staging);
	arena_fini(&w.arena);
}

static void live(int64_t ops)
{
	int64_t next_check = CHECK_EVERY;
	while (w.ops < ops && !w.lost) {
		if (below(6) == 0)
			collect_some();
		else
			some_op();
		if (!dead() && below(50) == 0)
			disk_fault_die(w.t.disk, (int64_t)below(60));
		if (dead())
			crash();
		if (w.ops < next_check || w.lost)
			continue;
		disk_fault_die(w.t.disk, -1);
		verify_all();
		close_uploads(); /* nobody writes while it looks */
		check(CHECK_FULL);
		open_uploads();
		resume();
		next_check = w.ops + CHECK_EVERY;
	}
}

static int64_t count(const char *sql)
{
	return testing_i64(&w.t, sql);
}

static void collect_whole(void)
{
	for (int i = 0; i < 4 && !w.lost; i++) {
		w.t.clock.offset_us += 2 * 60 * MINUTE;
		do
			collect_some();
		while (w.collection && !w.lost);
	}
}

static int one_file(void *arg, const char *name, bool is_folder)
{
	*(int *)arg += !is_folder && str_ends(str_c(name), STR(".pack"));
	return 0;
}

static int pack_files(void)
{
	int n = 0;
	for (unsigned i = 0; i < PACK_FOLDERS; i++) {
		char folder[2];
		pack_folder_name(folder, i);
		(void)disk_list(w.t.disk, folder, one_file, &n);
	}
	return n;
}

/* Everything is given up, and everything goes. */
static void nothing_stays(void)
{
	disk_fault_die(w.t.disk, -1);
	w.quiet = true;
	let_go();
	for (int i = 0; i < UPLOADS; i++)
		if (w.uploads[i].id)
			(void)drive_upload_cancel(ctx(), w.uploads[i].id);
	for (int i = 0; i < FILES; i++)
		if (w.files[i].id)
			may_fail(drive_node_delete(ctx(), NODE_FILE, &(struct node_delete){.id = w.files[i].id, .permanent = true}), false);
	w.t.clock.offset_us += 50 * 60 * MINUTE;
	for (int64_t n = 1; n > 0;)
		must(drive_version_sweep(ctx(), &n) == 0);
	close_uploads();
	open_uploads(); /* the mover clears away what is over */
	for (int i = 0; i < 200 && count("select count(*) from upload_parts"); i++)
		nanosleep(&(struct timespec){0, 20000000}, NULL);
	op_lease();
	w.t.clock.offset_us += 30 * 60 * MINUTE;
	for (int i = 0; i < 50; i++) { /* whoever leases clears away what is over */
		struct content *c = NULL;
		int64_t expires_at;
		must(ingest(1, &c) == 0);
		must(drive_chunks_keep(ctx(), c, &expires_at) == 0);
		content_free(c);
	}
	collect_whole();
	w.t.clock.offset_us += 50 * 60 * MINUTE;
	testing_restart(&w.t, NULL, NULL);
	collect_whole();
	if (count("select count(*) from chunks") > 1)
		wrong("chunks stay", count("select count(*) from chunks"), 0);
	if (count("select count(*) from chunk_marks") || count("select count(*) from removed_versions"))
		wrong("marks or removed versions stay", count("select count(*) from chunk_marks"), 0);
	if (pack_files() > 1)
		wrong("packs stay", pack_files(), 0);
	close_uploads();
	check(CHECK_FULL);
	open_uploads();
}

static bool run(uint64_t seed, int64_t ops)
{
	begin(seed);
	live(ops);
	bool ended = !w.lost;
	if (ended)
		nothing_stays();
	if (getenv("SD_COLLECT_TOLD"))
		fprintf(stderr, "seed %llu: %lld operations, %lld collections, %lld crashes, %lld refused\n", (unsigned long long)seed,
		        (long long)w.ops, (long long)w.collections, (long long)w.crashes, (long long)w.refused);
	bool lost = w.lost;
	end();
	return !lost;
}

/* ---- what chance would hardly find ---- */

static void wait_minutes(int64_t n)
{
	w.t.clock.offset_us += n * MINUTE;
}

static void collect_now(void)
{
	w.quiet = true;
	do
		collect_some();
	while (w.collection && !w.lost);
	w.quiet = false;
}

static struct held fed(int what)
{
	struct held h = {.what = what, .since_us = now()};
	must(ingest(what, &h.content) == 0);
	return h;
}

static struct model_file put_one(const char *name, struct held *h)
{
	struct version_result r;
	struct version_put in = {.share_id = w.share, .name = str_c(name), .content = h->content, .recipe = h->recipe,
	                         .had_us = h->since_us, .size_bytes = (int64_t)bytes_of(h->what).n, .sha256 = sha256_of_what(h->what)};
	must(drive_file_put(ctx(), &in, &r) == 0);
	struct model_file f = {.id = r.node.id, .versions = {{1, h->what}}, .n = 1};
	drop_held(h);
	return f;
}

static void purge_one(const struct model_file *f)
{
	must(drive_node_delete(ctx(), NODE_FILE, &(struct node_delete){.id = f->id, .permanent = true}) == 0);
}

/* A chunk that was condemned is used once more by one who had found it before; a third reads that version's recipe to make
 * another of it, and the version goes before the second look. */
static bool source_goes(void)
{
	enum { WHAT = 2 };
	begin(1);
	struct held h = fed(WHAT);
	struct model_file f = put_one("first", &h);
	purge_one(&f);
	wait_minutes(90);
	h = fed(WHAT);
	collect_now(); /* forgets the version, and condemns the chunk */
	f = put_one("second", &h);
	wait_minutes(59);
	struct look l = {.file = f.id, .number = 1};
	must(drive_read(ctx(), source_op, &l) == 0);
	hold_recipe(&h, l.recipe, WHAT);
	purge_one(&f);
	wait_minutes(3);
	collect_now();
	w.files[0] = put_one("third", &h);
	verify_all();
	bool lost = w.lost;
	end();
	return !lost;
}

static void test_source_goes(void **state)
{
	(void)state;
	assert_true(source_goes());
}

/* What the last collection found is known after a restart, before there is another. */
static void test_last_is_known(void **state)
{
	struct collect_stats before, after;
	struct job_result r;
	(void)state;
	begin(1);
	struct held h = fed(2);
	(void)put_one("first", &h);
	w.t.drive.packs = w.t.disk;
	assert_int_equal(job_run(&w.t.drive, &job_collect, &(struct job_run){.by_hand = true}, &r), 0);
	assert_true(r.ran && !r.more);
	collect_stats(&w.t.drive, &before);
	assert_true(before.last.ended_us > 0 && before.last.packs.file_bytes > 0 && before.last.packs.live_bytes > 0);
	collect_close(&w.t.drive);
	wait_minutes(6);
	assert_int_equal(job_run(&w.t.drive, &job_collect, &(struct job_run){0}, &r), 0);
	assert_true(r.ran && r.items == 0);
	collect_stats(&w.t.drive, &after);
	assert_true(after.last.began_us == before.last.began_us && after.last.ended_us == before.last.ended_us);
	assert_true(after.last.packs.file_bytes == before.last.packs.file_bytes && after.last.packs.live_bytes == before.last.packs.live_bytes);
	collect_close(&w.t.drive);
	end();
}

static void test_nothing_is_lost(void **state)
{
	(void)state;
	const char *ops = getenv("SD_COLLECT_OPS"), *seed = getenv("SD_SEED");
	int64_t left = ops ? strtoll(ops, NULL, 10) : OPS;
	for (uint64_t s = seed ? strtoull(seed, NULL, 10) : 1; left > 0; s++) {
		int64_t n = seed || left < 20000 ? left : 20000;
		if (!run(s, n))
			fprintf(stderr, "seed %llu, %lld operations\n", (unsigned long long)s, (long long)n);
		assert_false(w.lost);
		left -= n;
	}
}

#ifdef SD_MUTANTS
/* Each seeded bug is seen. The times it took are in HACKING.md. */
static void test_seeded_bugs(void **state)
{
	static const enum mutant_name bugs[] = {M_SWEEP_SEES_MARKED, M_SWEEP_ONE_LOOK,   M_COLLECT_NO_LEASES, M_COLLECT_NO_PARTS,
	                                        M_COLLECT_NO_REMOVED, M_COLLECT_NO_TAILS, M_CONTENT_NEVER_OLD, M_REPACK_NO_SYNC};
	enum { LIVES = 60, LIFE = 4000 };
	(void)state;
	if (!getenv("SD_MUTANT_ALL"))
		skip();
	for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
		int64_t ops = 0;
		mutant_on = bugs[i];
		bool seen = !source_goes();
		for (uint64_t seed = 1; !seen && seed <= LIVES; seed++) {
			seen = !run(seed, LIFE);
			ops += w.ops;
		}
		mutant_on = M_NONE;
		fprintf(stderr, "%s: %s %lld operations: %s\n", mutant_label(bugs[i]), seen ? "seen after" : "NOT SEEN in", (long long)ops,
		        seen ? w.how : "");
		assert_true(seen);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_source_goes),
	    cmocka_unit_test(test_last_is_known),
	    cmocka_unit_test(test_nothing_is_lost),
#ifdef SD_MUTANTS
	    cmocka_unit_test(test_seeded_bugs),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
