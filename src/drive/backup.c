#include "drive/backup_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "chunks/index.h"
#include "chunks/pack_copy.h"
#include "db/db_copy.h"
#include "drive/hold.h"
#include "drive/schema.h"

static const char new_db[] = "new.db";

static const char *const left_out[] = {"signing_keys", "refresh_families", "login_attempts", "uploads",    "upload_parts",
                                       "upload_pieces", "chunk_leases",     "leases",         NULL};

/* A catalog has nothing of these either: packs, the log, answers for those who ask twice. */
static const char *const not_of_a_catalog[] = {
    "signing_keys", "refresh_families", "login_attempts", "uploads", "upload_parts", "upload_pieces", "chunk_leases", "leases",
    "chunks", "packs", "chunk_marks", "removed_versions", "changes", "op_results", "idempotency", "jobs", NULL};

/* ---- what the parts share ---- */

void backup_tell(const struct backup *b, struct backup_totals *totals, const char *fmt, ...)
{
	struct buf sentence = {0};
	char *text;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&text, fmt, ap);
	va_end(ap);
	must(n >= 0);
	buf_put(&sentence, text, (size_t)n);
	free(text);
	totals->faults++;
	b->told(b->arg, buf_as_str(&sentence));
	buf_fini(&sentence);
}

void backup_file(char out[BACKUP_FILE_MAX], const char *point, const char *suffix)
{
	must(snprintf(out, BACKUP_FILE_MAX, "%s%s", point, suffix) < BACKUP_FILE_MAX);
}

int backup_open_db(const struct backup *b, const char *name, bool read_only, struct db **out)
{
	AUTO_FREE char *url = NULL;
	AUTO_FREE char *why = NULL;
	must(asprintf(&url, "sqlite:%s/%s", b->path, name) >= 0);
	struct db_config c = {.url = url, .inline_writes = true, .read_only = read_only, .clock = b->clock};
	int err = db_open(&c, out, &why);
	if (err && why)
		b->told(b->arg, str_c(why));
	return err;
}

void backup_tidy_db(const struct backup *b, const char *name)
{
	static const char *const suffixes[] = {"-wal", "-shm", "-journal"};
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		char file[BACKUP_FILE_MAX + 16];
		snprintf(file, sizeof file, "%s%s", name, suffixes[i]);
		(void)disk_unlink(b->disk, file);
	}
}

struct pack_ids {
	struct arena *a;
	int64_t *ids;
	size_t n;
};

static int pack_ids_op(struct tx *tx, void *arg)
{
	struct pack_ids *p = arg;
	int64_t all;
	AUTO_ROWS *r = NULL;
	int err = tx_i64(tx, "select count(*) from packs where state = $1", DB_ARGS(V_I(PACK_LIVE)), 0, &all);
	if (!err)
		err = tx_query(tx, "select id from packs where state = $1 order by id", DB_ARGS(V_I(PACK_LIVE)), &r);
	if (err)
		return err;
	p->ids = arena_many(p->a, (size_t)all, int64_t);
	p->n = 0;
	while (p->n < (size_t)all && rows_next(r))
		p->ids[p->n++] = rows_i64(r, 0);
	return rows_close(&r);
}

int backup_packs_of(struct db *db, struct arena *a, int64_t **out, size_t *n)
{
	struct pack_ids p = {.a = a};
	int err = db_read(db, pack_ids_op, &p);
	*out = p.ids;
	*n = p.n;
	return err;
}

int backup_digest(const struct backup *b, const char *name, struct sha256 *digest, int64_t *bytes)
{
	enum { WINDOW = 1 << 20 };
	struct disk_file *f;
	int err = disk_open(b->disk, name, DISK_READ, &f);
	if (err)
		return err;
	struct sha256_state *h = sha256_new();
	char *window = malloc(WINDOW);
	must(window != NULL);
	size_t got = WINDOW;
	for (*bytes = 0; !err && got == WINDOW; *bytes += (int64_t)got) {
		got = 0;
		err = disk_pread(f, window, WINDOW, *bytes, &got);
		sha256_update(h, window, got);
	}
	*digest = sha256_final(h);
	free(window);
	sha256_free(h);
	disk_close(f);
	return err;
}

/* ---- the rows ---- */

struct rows_job {
	const struct backup *b;
	struct db *from;
	struct tx *to;
};

static bool on_table(void *arg, const char *table, int64_t rows)
{
	const struct rows_job *j = arg;
	char what[80];
	snprintf(what, sizeof what, "rows of %s", table);
	j->b->progress(j->b->arg, what, rows, -1);
	return !j->b->go_on || j->b->go_on(j->b->arg);
}

static int read_rows(struct tx *from, void *arg)
{
	struct rows_job *j = arg;
	return db_copy(from, j->to, &(struct db_copy){j->b->rows_alone ? not_of_a_catalog : left_out, on_table, j});
}

static int write_rows(struct tx *to, void *arg)
{
	struct rows_job *j = arg;
	j->to = to;
	return db_read(j->from, read_rows, j);
}

/* The file new.db, closed, in a state that needs nothing beside it. */
static int snapshot(const struct backup *b, struct db *from, struct arena *a, int64_t **packs, size_t *n)
{
	struct db *db;
	AUTO_FREE char *why = NULL;
	int err = disk_unlink(b->disk, new_db);
	if (err && err != E_NOT_FOUND)
		return err;
	backup_tidy_db(b, new_db);
	err = backup_open_db(b, new_db, false, &db);
	if (err)
		return err;
	err = db_migrate(db, schema_migrations, schema_n_migrations, &why);
	struct rows_job j = {b, from, NULL};
	if (!err)
		err = db_write(db, 0, write_rows, &j);
	if (!err)
		err = backup_packs_of(db, a, packs, n);
	db_close(db);
	return err;
}

/* ---- the packs ---- */

enum { HOLD_MS = 3600 * 1000, RENEW_MS = 60 * 1000 };

struct hold_kept {
	struct db *db;
	const struct clock *clock;
	struct str name;
	int64_t renewed_us;
};

/* Takes it, and from then on renews it now and then. */
static int keep_hold(struct hold_kept *h)
{
	int64_t now_us = clock_mono(h->clock);
	if (h->renewed_us && now_us - h->renewed_us < MILLIS_US(RENEW_MS))
		return 0;
	h->renewed_us = now_us;
	return hold_take(h->db, h->clock, h->name, HOLD_MS);
}

static int copy_packs(const struct backup *b, struct disk *from, struct hold_kept *hold, const int64_t *ids, size_t n,
                      struct backup_point *p, struct backup_totals *totals)
{
	int err = pack_copy_begin(b->packs);
	for (size_t i = 0; !err && i < n; i++) {
		struct pack_copied one = {0};
		char name[PACK_NAME_MAX];
		pack_name(name, ids[i]);
		b->progress(b->arg, "packs", (int64_t)i, (int64_t)n);
		err = from ? pack_copy(from, b->packs, ids[i], b->verify, &one) : E_NOT_FOUND;
		if (err == E_NOT_FOUND) {
			backup_tell(b, totals, "packs/%s is not there, so what it held cannot be kept", name);
			err = 0;
		} else if (!err && one.damaged) {
			backup_tell(b, totals, "packs/%s is damaged on the server; scaidrived fsck tells whose contents are in it%s", name,
			            one.kept ? ". The copy here is whole: copied back it heals them" : one.copied ? "" : ". So is the copy here");
		}
		p->packs++;
		p->pack_bytes += one.bytes;
		totals->copied_packs += one.copied;
		totals->copied_bytes += one.copied ? one.bytes : 0;
		if (!err)
			err = keep_hold(hold);
	}
	return err ? err : pack_copy_end(b->packs);
}

/* ---- the point ---- */

static void name_of(int64_t us, char out[BACKUP_NAME_MAX])
{
	struct buf t = {0};
	size_t n = 0;
	buf_time(&t, us);
	for (size_t i = 0; i < t.n && n + 1 < BACKUP_NAME_MAX; i++)
		if (t.p[i] != '-' && t.p[i] != ':')
			out[n++] = t.p[i];
	out[n] = 0;
	buf_fini(&t);
}

/* Behind every other point, also when several are made in a second or the clock was set back. */
static int choose_time(const struct backup *b, struct backup_point *p)
{
	struct arena a;
	struct backup_point *points;
	size_t n;
	arena_init(&a);
	int err = backup_points(b, &a, &points, &n);
	p->made_at = clock_now(b->clock);
	if (!err && n && p->made_at < points[n - 1].made_at + SECONDS_US(1))
		p->made_at = points[n - 1].made_at + SECONDS_US(1);
	arena_fini(&a);
	name_of(p->made_at, p->name);
	return err;
}

/* Rows and packs. */
static int gather(const struct backup *b, const struct backup_source *from, struct backup_point *p,
                  struct backup_totals *totals)
{
	struct arena a;
	int64_t *packs;
	size_t n;
	uint8_t random[8];
	char name[2 * sizeof random];
	from->rng->fill(from->rng, random, sizeof random);
	hex_encode(random, sizeof random, name);
	struct hold_kept hold = {from->db, b->clock, str_n(name, sizeof name), 0};
	int err = keep_hold(&hold);
	if (err)
		return err;
	arena_init(&a);
	err = snapshot(b, from->db, &a, &packs, &n);
	if (!err)
		err = copy_packs(b, from->packs, &hold, packs, n, p, totals);
	arena_fini(&a);
	(void)hold_drop(from->db, hold.name); /* it ends by itself, too */
	return err;
}

static int snapshot_alone(const struct backup *b, const struct backup_source *from)
{
	struct arena a;
	int64_t *packs;
	size_t n;
	arena_init(&a);
	int err = snapshot(b, from->db, &a, &packs, &n);
	arena_fini(&a);
	return err;
}

int backup_make(const struct backup *b, const struct backup_source *from, struct backup_point *out,
                struct backup_totals *totals)
{
	char file[BACKUP_FILE_MAX];
	*out = (struct backup_point){.schema = (int64_t)schema_n_migrations};
	snprintf(out->version, sizeof out->version, "%s", SD_VERSION);
	snprintf(out->engine, sizeof out->engine, "%s", db_engine(from->db));
	int err = choose_time(b, out);
	if (!err)
		err = b->rows_alone ? snapshot_alone(b, from) : gather(b, from, out, totals);
	backup_file(file, out->name, ".db");
	if (!err && b->go_on && !b->go_on(b->arg))
		err = E_CANCELLED;
	if (!err)
		err = disk_rename(b->disk, new_db, file);
	if (!err)
		err = backup_digest(b, file, &out->database_sha256, &out->database_bytes);
	if (!err)
		err = backup_write_point(b, out);
	return err;
}
