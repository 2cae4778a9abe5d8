/* Versions and their recipes, uploads under way, staged pieces, leases: all that names chunks or bytes. */
#include <stdlib.h>

#include "base/map.h"
#include "base/must.h"
#include "chunks/parts.h"
#include "chunks/recipe.h"
#include "drive/check_priv.h"
#include "drive/chunk.h"
#include "drive/upload_priv.h"

enum { PAGE = 64, WINDOW = 1 << 20 };

/* ---- a recipe ---- */

struct named { /* a chunk as a recipe or a lease names it */
	int64_t id, offset;
	uint32_t length;
};

struct recipe_check {
	struct check *c;
	int64_t tenant_id;
	struct named batch[INDEX_BATCH];
	size_t n_batch, n_chunks, n_hurt;
	int64_t size_bytes, first_hurt;
	const char *wrong; /* of the first that is hurt; or of the recipe itself, then n_chunks is 0 */
};

static int settle(struct recipe_check *rc)
{
	int64_t ids[INDEX_BATCH];
	struct index_row rows[INDEX_BATCH];
	for (size_t i = 0; i < rc->n_batch; i++)
		ids[i] = rc->batch[i].id;
	int err = index_rows(rc->c->config->db, ids, rc->n_batch, rows);
	for (size_t i = 0; !err && i < rc->n_batch; i++) {
		const struct index_row *row = &rows[i];
		const char *wrong = rc->c->store ? store_check_chunk(rc->c->store, row) : NULL;
		if (!wrong && row->tenant_id != rc->tenant_id)
			wrong = "belongs to another tenant";
		if (!wrong && row->chunk.place.raw_len != rc->batch[i].length)
			wrong = "has another length in the index";
		if (wrong && rc->n_hurt++ == 0) {
			rc->wrong = wrong;
			rc->first_hurt = rc->batch[i].offset;
		}
	}
	rc->n_batch = 0;
	return err;
}

/* Not 0: the database failed. */
static int check_recipe(struct recipe_check *rc, struct str recipe)
{
	struct recipe_reader r;
	size_t n;
	int err = 0;
	if (recipe_measure(recipe, &n, &rc->size_bytes) || recipe_open(&r, recipe)) {
		rc->wrong = "the list of its chunks is damaged";
		return 0;
	}
	rc->n_chunks = n;
	for (bool more = true; !err && more;) {
		struct named *at = &rc->batch[rc->n_batch];
		at->offset = r.offset;
		must(recipe_next(&r, &more, &at->id, &at->length) == E_OK);
		rc->n_batch += more;
		if (rc->n_batch == INDEX_BATCH || !more)
			err = settle(rc);
	}
	return err;
}

static void tell_hurt(struct recipe_check *rc, const char *code, const struct check_place *at)
{
	if (!rc->n_chunks)
		check_tell(rc->c, code, at, "%s", rc->wrong);
	else
		check_tell(rc->c, code, at, "%zu of %zu chunks cannot be read; the first, at byte %lld, %s", rc->n_hurt, rc->n_chunks,
		           (long long)rc->first_hurt, rc->wrong);
}

/* ---- versions ---- */

struct version_row {
	int64_t id, tenant_id, node_id, number, size_bytes;
	struct str sha256, recipe;
};

struct versions {
	struct check *c;
	int64_t after;
	struct version_row rows[PAGE];
	size_t n;
	struct content_reader *reader;
	const struct version_row *at;
};

static int versions_op(struct tx *tx, void *arg)
{
	struct versions *s = arg;
	struct arena *a = &s->c->arena;
	AUTO_ROWS *r = NULL;
	s->n = 0;
	int err = tx_query(tx,
	                   "select id, tenant_id, node_id, number, size_bytes, sha256, recipe from versions where id > $1"
	                   " order by id limit $2",
	                   DB_ARGS(V_I(s->after), V_I(PAGE)), &r);
	while (!err && s->n < PAGE && rows_next(r)) {
		struct version_row *v = &s->rows[s->n++];
		*v = (struct version_row){rows_i64(r, 0), rows_i64(r, 1), rows_i64(r, 2), rows_i64(r, 3), rows_i64(r, 4),
		                          arena_str(a, rows_blob(r, 5)), arena_str(a, rows_blob(r, 6))};
		s->after = v->id;
	}
	return err ? err : rows_close(&r);
}

static int open_op(struct tx *tx, void *arg)
{
	struct versions *s = arg;
	return content_open(tx, s->c->config->store, s->at->tenant_id, s->at->recipe, s->at->size_bytes, &s->reader);
}

/* Reads all of it, as a download would. NULL: it is what it should be. */
static const char *read_whole(struct versions *s, const struct version_row *v, uint8_t *window)
{
	s->at = v;
	s->reader = NULL;
	int err = db_read(s->c->config->db, open_op, s);
	struct sha256_state *whole = sha256_new();
	for (int64_t at = 0; !err && at < v->size_bytes;) {
		size_t got;
		err = content_read(s->reader, at, window, WINDOW, &got);
		sha256_update(whole, window, got);
		at += (int64_t)got;
	}
	content_close(s->reader);
	struct sha256 is = sha256_final(whole);
	sha256_free(whole);
	if (err)
		return "it cannot be read";
	return memcmp(is.b, v->sha256.p, 32) == 0 ? NULL : "its content does not have its SHA-256";
}

static int check_version(struct versions *s, const struct version_row *v, uint8_t *window)
{
	struct check_place at = {{ID_VERSION, v->id}, v->node_id, 0, v->number};
	struct recipe_check rc = {.c = s->c, .tenant_id = v->tenant_id};
	int err = check_recipe(&rc, v->recipe);
	if (err)
		return err;
	if (rc.wrong)
		tell_hurt(&rc, "VERSION_UNREADABLE", &at);
	else if (rc.size_bytes != v->size_bytes)
		check_tell(s->c, "VERSION_SIZE", &at, "it has %lld bytes, but its chunks have %lld", (long long)v->size_bytes,
		           (long long)rc.size_bytes);
	else if (v->sha256.n != 32)
		check_tell(s->c, "VERSION_CHECKSUM", &at, "it has no SHA-256");
	else if (window) {
		const char *wrong = read_whole(s, v, window);
		if (wrong)
			check_tell(s->c, "VERSION_CHECKSUM", &at, "%s", wrong);
	}
	return 0;
}

int check_versions(struct check *c)
{
	struct versions *s = calloc(1, sizeof *s);
	uint8_t *window = c->config->depth == CHECK_DEEP && c->config->store ? malloc(WINDOW) : NULL;
	must(s != NULL);
	s->c = c;
	int err;
	do {
		arena_reset(&c->arena);
		err = db_read(c->config->db, versions_op, s);
		for (size_t i = 0; !err && i < s->n; i++) {
			err = check_version(s, &s->rows[i], window);
			check_progress(c, "versions", ++c->totals->versions);
		}
	} while (!err && s->n == PAGE);
	free(window);
	free(s);
	return err;
}

/* ---- leases ---- */

struct leases {
	struct check *c;
	int64_t id, tenant_id, user_id; /* the one being looked at */
	struct str chunks;
	struct lease_entry entries[INDEX_BATCH];
};

static int next_lease_op(struct tx *tx, void *arg)
{
	struct leases *s = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx,
	                       "select id, tenant_id, user_id, chunks from chunk_leases where expires_at > $1 and id > $2"
	                       " order by id limit 1",
	                       DB_ARGS(V_I(clock_now(s->c->config->clock)), V_I(s->id)), &r, &found);
	s->id = !err && found ? rows_i64(r, 0) : 0;
	if (!s->id)
		return err;
	s->tenant_id = rows_i64(r, 1);
	s->user_id = rows_i64(r, 2);
	s->chunks = arena_str(&s->c->arena, rows_blob(r, 3));
	return rows_close(&r);
}

static const char *lease_wrong(const struct leases *s, const struct lease_entry *e, const struct index_row *row)
{
	const char *wrong = s->c->store ? store_check_chunk(s->c->store, row) : NULL;
	if (wrong)
		return wrong;
	bool same = row->tenant_id == s->tenant_id && row->chunk.place.raw_len == e->length && sha256_eq(&e->hash, &row->chunk.hash);
	return same ? NULL : "is not the one that the index has";
}

/* The chunks [at, at + n) of the lease, which s->entries holds. */
static int check_lease_chunks(struct leases *s, size_t n)
{
	struct check_place at = {.subject = {ID_USER, s->user_id}};
	int64_t ids[INDEX_BATCH];
	struct index_row rows[INDEX_BATCH];
	for (size_t i = 0; i < n; i++)
		ids[i] = s->entries[i].chunk_id;
	int err = index_rows(s->c->config->db, ids, n, rows);
	for (size_t i = 0; !err && i < n; i++) {
		const char *wrong = lease_wrong(s, &s->entries[i], &rows[i]);
		if (wrong)
			check_tell(s->c, "LEASE_CHUNK", &at, "a chunk that was sent in bulk and may be named %s", wrong);
	}
	return err;
}

int check_leases(struct check *c)
{
	struct leases *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->c = c;
	int err;
	while (!(err = db_read(c->config->db, next_lease_op, s)) && s->id) {
		size_t n = 0, count = s->chunks.n / LEASE_ENTRY_BYTES;
		for (size_t i = 0; !err && i < count; i++) {
			(void)lease_entry_read(s->chunks, i, &s->entries[n++]); /* what is odd about it, the index says */
			if (n < INDEX_BATCH && i + 1 < count)
				continue;
			err = check_lease_chunks(s, n);
			n = 0;
		}
		arena_reset(&c->arena);
		if (err)
			break;
	}
	free(s);
	return err;
}

/* ---- uploads ---- */

struct upload_row {
	int64_t id, tenant_id, share_id, size_bytes, chunk_bytes, next_piece;
	struct str name;
	struct ingest_tail tail;
	bool tail_odd;
};

struct uploads_page {
	struct check *c;
	int64_t after;
	struct upload_row rows[PAGE];
	size_t n;
	const struct upload_row *at;
	struct buf recipe;
	struct recipe_join join;
};

static int uploads_op(struct tx *tx, void *arg)
{
	struct uploads_page *s = arg;
	AUTO_ROWS *r = NULL;
	s->n = 0;
	int err = tx_query(tx,
	                   "select id, tenant_id, share_id, size_bytes, chunk_bytes, next_piece, name, tail from uploads"
	                   " where status = 1 and id > $1 order by id limit $2",
	                   DB_ARGS(V_I(s->after), V_I(PAGE)), &r);
	while (!err && s->n < PAGE && rows_next(r)) {
		struct upload_row *u = &s->rows[s->n++];
		struct str tail = rows_blob(r, 7);
		*u = (struct upload_row){rows_i64(r, 0), rows_i64(r, 1), rows_i64(r, 2), rows_i64(r, 3), rows_i64(r, 4),
		                         rows_i64(r, 5), arena_str(&s->c->arena, rows_text(r, 6))};
		u->tail_odd = tail.n && tail.n != INGEST_TAIL_BYTES;
		if (tail.n == INGEST_TAIL_BYTES) {
			u->tail.n = tail.n;
			memcpy(u->tail.b, tail.p, tail.n);
		}
		s->after = u->id;
	}
	return err ? err : rows_close(&r);
}

static int parts_op(struct tx *tx, void *arg)
{
	struct uploads_page *s = arg;
	AUTO_ROWS *r = NULL;
	buf_clear(&s->recipe);
	recipe_join_begin(&s->join, &s->recipe);
	int err = tx_query(tx, "select recipe from upload_parts where upload_id = $1 order by first_piece",
	                   DB_ARGS(V_I(s->at->id)), &r);
	while (!err && rows_next(r))
		if (recipe_join_add(&s->join, rows_blob(r, 0)))
			s->join.size_bytes = -1; /* it stays below zero, and is told */
	return err ? err : rows_close(&r);
}

static int check_upload(struct uploads_page *s, const struct upload_row *u)
{
	struct check *c = s->c;
	struct check_place at = {.subject = {ID_UPLOAD, u->id}, .share_id = u->share_id};
	struct recipe_check rc = {.c = c, .tenant_id = u->tenant_id};
	struct chunk_place tail = {0};
	s->at = u;
	int err = db_read(c->config->db, parts_op, s);
	if (!err)
		err = check_recipe(&rc, buf_as_str(&s->recipe));
	if (err)
		return err;
	const char *wrong = u->tail_odd || (u->tail.n && ingest_tail_place(&u->tail, &tail)) ? "is not described rightly"
	                    : u->tail.n && c->store ? store_check_bytes(c->store, &tail) : NULL;
	int64_t fed = u->next_piece * u->chunk_bytes < u->size_bytes ? u->next_piece * u->chunk_bytes : u->size_bytes;
	if (rc.wrong)
		tell_hurt(&rc, "UPLOAD_UNREADABLE", &at);
	else if (wrong)
		check_tell(c, "UPLOAD_UNREADABLE", &at, "what was received last %s", wrong);
	else if (s->join.size_bytes + tail.raw_len != fed)
		check_tell(c, "UPLOAD_SIZE", &at, "%lld bytes of it were acknowledged in order, but %lld are there", (long long)fed,
		           (long long)(s->join.size_bytes + tail.raw_len));
	return 0;
}

int check_uploads(struct check *c)
{
	struct uploads_page *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->c = c;
	int err;
	do {
		arena_reset(&c->arena);
		err = db_read(c->config->db, uploads_op, s);
		for (size_t i = 0; !err && i < s->n; i++) {
			err = check_upload(s, &s->rows[i]);
			check_progress(c, "uploads", ++c->totals->uploads);
		}
	} while (!err && s->n == PAGE);
	buf_fini(&s->recipe);
	free(s);
	return err;
}

/* ---- staged pieces ---- */

struct staging {
	struct check *c;
	int64_t after_upload, after_piece;
	struct {
		int64_t upload_id, piece, share_id, tenant_id, skip_bytes;
		bool open;
		struct staged staged;
		struct str recipe; /* of one without a file */
	} rows[PAGE];
	size_t n;
	struct map known; /* file id -> */
	unsigned folder;
};

static int pieces_op(struct tx *tx, void *arg)
{
	struct staging *s = arg;
	AUTO_ROWS *r = NULL;
	s->n = 0;
	int err = tx_query(tx,
	                   "select p.upload_id, p.piece, p.file_id, p.size_bytes, p.xxh, u.status, u.share_id, u.tenant_id, p.skip_bytes,"
	                   " p.recipe from upload_pieces p join uploads u on u.id = p.upload_id where (p.upload_id, p.piece) > ($1, $2)"
	                   " order by p.upload_id, p.piece limit $3",
	                   DB_ARGS(V_I(s->after_upload), V_I(s->after_piece), V_I(PAGE)), &r);
	for (; !err && s->n < PAGE && rows_next(r); s->n++) {
		s->after_upload = s->rows[s->n].upload_id = rows_i64(r, 0);
		s->after_piece = s->rows[s->n].piece = rows_i64(r, 1);
		s->rows[s->n].staged = (struct staged){.file_id = rows_i64(r, 2), .size_bytes = rows_i64(r, 3), .xxh = (uint64_t)rows_i64(r, 4)};
		s->rows[s->n].open = rows_i64(r, 5) == UPLOAD_OPEN;
		s->rows[s->n].share_id = rows_i64(r, 6);
		s->rows[s->n].tenant_id = rows_i64(r, 7);
		s->rows[s->n].skip_bytes = rows_i64(r, 8);
		s->rows[s->n].recipe = arena_str(&s->c->arena, rows_blob(r, 9));
	}
	return err ? err : rows_close(&r);
}

static const char *file_wrong(struct check *c, const struct staged *st)
{
	char name[STAGE_NAME_MAX];
	struct disk_file *f;
	const char *wrong = NULL;
	int64_t size = 0;
	stage_name(name, st->file_id);
	if (!c->config->staging || disk_open(c->config->staging, name, DISK_READ, &f))
		return "is missing";
	if (st->size_bytes < 0 || st->size_bytes > LIMIT_UPLOAD_CHUNK_MAX || disk_size(f, &size) || size != st->size_bytes)
		wrong = "has another length";
	if (!wrong && c->config->depth != CHECK_QUICK) {
		size_t got = 0;
		uint8_t *bytes = malloc((size_t)st->size_bytes + 1);
		must(bytes != NULL);
		if (disk_pread(f, bytes, (size_t)st->size_bytes, 0, &got) || got != (size_t)st->size_bytes ||
		    xxh3_64(bytes, got) != st->xxh)
			wrong = "is damaged";
		free(bytes);
	}
	disk_close(f);
	return wrong;
}

static int check_piece(struct staging *s, size_t i)
{
	struct check *c = s->c;
	const struct staged *st = &s->rows[i].staged;
	struct check_place at = {.subject = {ID_UPLOAD, s->rows[i].upload_id}, .share_id = s->rows[i].share_id};
	struct recipe_check rc = {.c = c, .tenant_id = s->rows[i].tenant_id};
	int64_t skip = s->rows[i].skip_bytes;
	const char *wrong = NULL;
	int err = 0;
	if (st->file_id) {
		wrong = file_wrong(c, st);
	} else {
		err = check_recipe(&rc, s->rows[i].recipe);
		wrong = rc.wrong ? "cannot be read" : skip < 0 || skip > rc.size_bytes - st->size_bytes ? "has another length" : NULL;
	}
	if (!err && wrong)
		check_tell(c, "UPLOAD_PIECE", &at, "piece %lld, which was acknowledged, %s", (long long)s->rows[i].piece, wrong);
	return err;
}

/* Files that no row names are swept away when the server starts. */
static int on_file(void *arg, const char *name, bool is_folder)
{
	struct staging *s = arg;
	struct disk *d = s->c->config->staging;
	char path[STAGE_NAME_MAX];
	struct disk_file *f;
	int64_t file_id, size = 0;
	if (is_folder || !stage_file_id(str_c(name), s->folder, &file_id) || map_get(&s->known, (uint64_t)file_id))
		return 0;
	stage_name(path, file_id);
	if (disk_open(d, path, DISK_READ, &f) == 0) {
		(void)disk_size(f, &size);
		disk_close(f);
	}
	s->c->totals->garbage_files++;
	s->c->totals->garbage_file_bytes += size;
	s->c->config->garbage(s->c->config->arg, arena_fmt(&s->c->arena, "uploads/%s", path), size);
	return 0;
}

int check_staging(struct check *c)
{
	struct staging *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->c = c;
	s->after_piece = -1;
	int err;
	do {
		arena_reset(&c->arena);
		err = db_read(c->config->db, pieces_op, s);
		for (size_t i = 0; !err && i < s->n; i++) {
			map_put(&s->known, (uint64_t)s->rows[i].staged.file_id, s);
			if (s->rows[i].open)
				err = check_piece(s, i);
		}
	} while (!err && s->n == PAGE);
	for (; !err && c->config->staging && s->folder < STAGE_FOLDERS; s->folder++) {
		char folder[2];
		stage_folder_name(folder, s->folder);
		err = disk_list(c->config->staging, folder, on_file, s);
		if (err == E_NOT_FOUND)
			err = 0;
	}
	map_fini(&s->known);
	free(s);
	return err;
}
