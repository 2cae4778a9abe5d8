#include "drive/backup_priv.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/map.h"
#include "base/must.h"
#include "drive/schema.h"

enum { FORMAT = 1, DESCRIPTION_MAX = 16 << 10 };

static const char new_description[] = "new.json";

/* ---- descriptions ---- */

static void put_text(struct buf *b, bool *first, struct str key, const char *value)
{
	json_put_key(b, first, key);
	json_put_str(b, str_c(value));
}

static void put_number(struct buf *b, bool *first, struct str key, int64_t value)
{
	json_put_key(b, first, key);
	buf_i64(b, value);
}

static void describe(const struct backup_point *p, struct buf *b)
{
	bool first = true;
	char digest[64];
	struct buf time = {0};
	buf_char(b, '{');
	put_number(b, &first, STR("format"), FORMAT);
	json_put_key(b, &first, STR("made_at"));
	buf_time_us(&time, p->made_at);
	json_put_str(b, buf_as_str(&time));
	buf_fini(&time);
	put_text(b, &first, STR("version"), p->version);
	put_text(b, &first, STR("engine"), p->engine);
	put_number(b, &first, STR("schema"), p->schema);
	put_number(b, &first, STR("packs"), p->packs);
	put_number(b, &first, STR("pack_bytes"), p->pack_bytes);
	put_number(b, &first, STR("database_bytes"), p->database_bytes);
	hex_encode(p->database_sha256.b, 32, digest);
	json_put_key(b, &first, STR("database_sha256"));
	json_put_str(b, str_n(digest, sizeof digest));
	buf_lit(b, "}\n");
}

static void take_text(char *out, size_t cap, struct str s)
{
	snprintf(out, cap, "%.*s", STR_ARG(s));
}

static bool read_description(struct str text, struct backup_point *p)
{
	AUTO_JSON *doc = NULL;
	if (json_parse(text, &doc) || json_i64(doc, "format", 0) != FORMAT)
		return false;
	take_text(p->version, sizeof p->version, json_str(doc, "version"));
	take_text(p->engine, sizeof p->engine, json_str(doc, "engine"));
	p->schema = json_i64(doc, "schema", -1);
	p->packs = json_i64(doc, "packs", -1);
	p->pack_bytes = json_i64(doc, "pack_bytes", -1);
	p->database_bytes = json_i64(doc, "database_bytes", -1);
	return p->schema > 0 && p->packs >= 0 && p->pack_bytes >= 0 && p->database_bytes > 0 &&
	       time_parse(json_str(doc, "made_at"), &p->made_at) &&
	       str_unhex(json_str(doc, "database_sha256"), p->database_sha256.b, 32);
}

int backup_write_point(const struct backup *b, const struct backup_point *p)
{
	char file[BACKUP_FILE_MAX];
	struct disk_file *f;
	struct buf text = {0};
	describe(p, &text);
	backup_file(file, p->name, ".json");
	int err = disk_unlink(b->disk, new_description);
	if (!err || err == E_NOT_FOUND)
		err = disk_open(b->disk, new_description, DISK_WRITE | DISK_CREATE, &f);
	if (!err) {
		err = disk_pwrite(f, text.p, text.n, 0);
		if (!err)
			err = disk_sync(f);
		disk_close(f);
	}
	buf_fini(&text);
	if (!err)
		err = disk_sync_dir(b->disk, ""); /* the database's name before the description's */
	if (!err)
		err = disk_rename(b->disk, new_description, file);
	return err ? err : disk_sync_dir(b->disk, "");
}

/* ---- which there are ---- */

struct listing {
	const struct backup *b;
	struct arena *a;
	struct backup_point *points;
	size_t n, cap;
};

static int load(const struct listing *l, const char *file, struct backup_point *p)
{
	char text[DESCRIPTION_MAX];
	struct disk_file *f;
	size_t got = 0;
	int err = disk_open(l->b->disk, file, DISK_READ, &f);
	if (err)
		return err;
	err = disk_pread(f, text, sizeof text, 0, &got);
	disk_close(f);
	if (!err && (got == sizeof text || !read_description(str_n(text, got), p)))
		err = E_CORRUPT;
	return err;
}

static int on_file(void *arg, const char *name, bool is_folder)
{
	struct listing *l = arg;
	struct str s = str_c(name);
	if (is_folder || !str_ends(s, STR(".json")) || strspn(name, "0123456789TZ") != s.n - 5 || s.n - 5 >= BACKUP_NAME_MAX)
		return 0;
	struct backup_point p = {0};
	memcpy(p.name, name, s.n - 5);
	int err = load(l, name, &p);
	if (err == E_CORRUPT) {
		struct buf sentence = {0};
		buf_fmt(&sentence, "%s cannot be understood; the point is left out", name);
		l->b->told(l->b->arg, buf_as_str(&sentence));
		buf_fini(&sentence);
		return 0;
	}
	if (err)
		return err;
	if (l->n == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 64;
		struct backup_point *more = arena_many(l->a, l->cap, struct backup_point);
		if (l->n)
			memcpy(more, l->points, l->n * sizeof *more);
		l->points = more;
	}
	l->points[l->n++] = p;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct backup_point *)a)->name, ((const struct backup_point *)b)->name);
}

int backup_points(const struct backup *b, struct arena *a, struct backup_point **out, size_t *n)
{
	struct listing l = {.b = b, .a = a};
	int err = disk_list(b->disk, "", on_file, &l);
	if (!err && l.n)
		qsort(l.points, l.n, sizeof *l.points, by_name);
	*out = l.points;
	*n = l.n;
	return err;
}

/* ---- one of them ---- */

static const char upgraded_db[] = "upgraded.db";

static void drop_upgraded(const struct backup *b)
{
	(void)disk_unlink(b->disk, upgraded_db);
	backup_tidy_db(b, upgraded_db);
}

int backup_open_point(const struct backup *b, const struct backup_point *p, struct db **out)
{
	char file[BACKUP_FILE_MAX];
	backup_file(file, p->name, ".db");
	return backup_open_db(b, file, true, out);
}

static int copy_file(struct disk *d, const char *from, const char *to)
{
	enum { WINDOW = 1 << 20 };
	struct disk_file *in, *out = NULL;
	char *window = malloc(WINDOW);
	size_t got = WINDOW;
	must(window != NULL);
	int err = disk_open(d, from, DISK_READ, &in);
	if (err) {
		free(window);
		return err;
	}
	err = disk_open(d, to, DISK_WRITE | DISK_CREATE, &out);
	for (int64_t at = 0; !err && got == WINDOW; at += (int64_t)got) {
		err = disk_pread(in, window, WINDOW, at, &got);
		if (!err && got)
			err = disk_pwrite(out, window, got, at);
	}
	disk_close(in);
	disk_close(out);
	free(window);
	return err;
}

int backup_open_upgraded(const struct backup *b, const struct backup_point *p, struct db **out)
{
	AUTO_FREE char *why = NULL;
	char file[BACKUP_FILE_MAX];
	if (p->schema >= (int64_t)schema_n_migrations)
		return backup_open_point(b, p, out);
	backup_file(file, p->name, ".db");
	drop_upgraded(b);
	int err = copy_file(b->disk, file, upgraded_db);
	if (!err)
		err = backup_open_db(b, upgraded_db, false, out);
	if (err)
		return err;
	err = db_migrate(*out, schema_migrations, schema_n_migrations, &why);
	if (err) {
		b->told(b->arg, why ? str_c(why) : STR("an older point cannot be brought to this schema"));
		db_close(*out);
	}
	return err;
}

void backup_close_point(const struct backup *b, const struct backup_point *p, struct db **db)
{
	char file[BACKUP_FILE_MAX];
	backup_file(file, p->name, ".db");
	db_close(*db);
	*db = NULL;
	backup_tidy_db(b, file);
	drop_upgraded(b);
}

/* Packs that the point names and DIR does not have. */
static int look_for_packs(const struct backup *b, const struct backup_point *p, struct backup_totals *totals)
{
	struct arena a;
	struct db *db;
	int64_t *ids;
	size_t n;
	int err = backup_open_point(b, p, &db);
	if (err)
		return err;
	arena_init(&a);
	err = backup_packs_of(db, &a, &ids, &n);
	for (size_t i = 0; !err && i < n; i++) {
		char name[PACK_NAME_MAX];
		struct disk_file *f;
		pack_name(name, ids[i]);
		err = b->packs ? disk_open(b->packs, name, DISK_READ, &f) : E_NOT_FOUND;
		if (!err)
			disk_close(f);
		if (err == E_NOT_FOUND) {
			backup_tell(b, totals, "packs/%s, which %s needs, is not there", name, p->name);
			err = 0;
		}
	}
	arena_fini(&a);
	backup_close_point(b, p, &db);
	return err;
}

int backup_look(const struct backup *b, const struct backup_point *p, struct backup_totals *totals)
{
	char file[BACKUP_FILE_MAX];
	struct sha256 digest;
	int64_t bytes;
	backup_file(file, p->name, ".db");
	int err = backup_digest(b, file, &digest, &bytes);
	if (err == E_NOT_FOUND || (!err && (bytes != p->database_bytes || !sha256_eq(&digest, &p->database_sha256)))) {
		backup_tell(b, totals, "%s is not as it was written", file);
		return E_CORRUPT;
	}
	return err ? err : look_for_packs(b, p, totals);
}

/* ---- removing ---- */

struct sweep {
	const struct backup *b;
	struct backup_totals *totals;
	struct map needed; /* pack ids */
	const char *folder;
};

static int drop_file(const struct backup *b, const char *point, const char *suffix)
{
	char file[BACKUP_FILE_MAX];
	backup_file(file, point, suffix);
	int err = disk_unlink(b->disk, file);
	return err == E_NOT_FOUND ? 0 : err;
}

static int drop_point(const struct backup *b, const struct backup_point *p, struct backup_totals *totals)
{
	int err = drop_file(b, p->name, ".json");
	if (!err)
		err = disk_sync_dir(b->disk, ""); /* never a description without its database */
	if (!err)
		err = drop_file(b, p->name, ".db");
	totals->removed_points += !err;
	return err;
}

static int note_needed(struct sweep *s, const struct backup_point *p)
{
	static char here;
	struct arena a;
	struct db *db;
	int64_t *ids;
	size_t n;
	int err = backup_open_point(s->b, p, &db);
	if (err)
		return err;
	arena_init(&a);
	err = backup_packs_of(db, &a, &ids, &n);
	for (size_t i = 0; !err && i < n; i++)
		map_put(&s->needed, (uint64_t)ids[i], &here);
	arena_fini(&a);
	backup_close_point(s->b, p, &db);
	return err;
}

/* "0123456789abcdef.pack", or with ".part" behind it, which an interrupted backup leaves. */
static int on_pack(void *arg, const char *name, bool is_folder)
{
	struct sweep *s = arg;
	uint8_t raw[8];
	char path[64];
	struct str text = str_c(name);
	bool part = str_ends(text, STR(".pack.part"));
	if (is_folder || (!part && !str_ends(text, STR(".pack"))) || !str_unhex(str_head(text, 16), raw, 8) || text.n > 26)
		return 0;
	uint64_t id = 0;
	for (int i = 0; i < 8; i++)
		id = id << 8 | raw[i];
	if (!part && map_get(&s->needed, id))
		return 0;
	snprintf(path, sizeof path, "%s/%s", s->folder, name);
	struct disk_file *f;
	int64_t bytes = 0;
	int err = disk_open(s->b->packs, path, DISK_READ, &f);
	if (!err) {
		err = disk_size(f, &bytes);
		disk_close(f);
	}
	if (!err)
		err = disk_unlink(s->b->packs, path);
	s->totals->removed_packs += !err;
	s->totals->removed_bytes += err ? 0 : bytes;
	return err;
}

static int sweep_packs(struct sweep *s)
{
	int err = 0;
	for (unsigned i = 0; !err && s->b->packs && i < PACK_FOLDERS; i++) {
		char folder[2];
		pack_folder_name(folder, i);
		s->folder = folder;
		err = disk_list(s->b->packs, folder, on_pack, s);
		if (err == E_NOT_FOUND)
			err = 0;
	}
	return err;
}

/* A database whose point was never described, or is no more. */
static int on_database(void *arg, const char *name, bool is_folder)
{
	const struct sweep *s = arg;
	char point[BACKUP_NAME_MAX];
	struct disk_file *f;
	size_t n = strspn(name, "0123456789TZ");
	if (is_folder || n >= sizeof point || strcmp(name + n, ".db") != 0)
		return 0;
	memcpy(point, name, n);
	point[n] = 0;
	char file[BACKUP_FILE_MAX];
	backup_file(file, point, ".json");
	int err = disk_open(s->b->disk, file, DISK_READ, &f);
	if (err)
		return err == E_NOT_FOUND ? drop_file(s->b, point, ".db") : err;
	disk_close(f);
	return 0;
}

int backup_prune(const struct backup *b, size_t keep, struct backup_totals *totals)
{
	struct arena a;
	struct backup_point *points;
	size_t n;
	struct sweep s = {.b = b, .totals = totals};
	arena_init(&a);
	int err = backup_points(b, &a, &points, &n);
	size_t drop = n > keep ? n - keep : 0;
	for (size_t i = 0; !err && i < drop; i++)
		err = drop_point(b, &points[i], totals);
	if (!err)
		err = disk_list(b->disk, "", on_database, &s);
	/* Packs go only when every point that stays could tell what it needs. */
	for (size_t i = drop; !err && i < n; i++)
		err = note_needed(&s, &points[i]);
	if (!err)
		err = sweep_packs(&s);
	map_fini(&s.needed);
	arena_fini(&a);
	return err;
}
