/* Staging files: one a piece, so that its room comes back as soon as it is fed. */
#include <stdio.h>

#include "base/log.h"
#include "chunks/recipe.h"
#include "drive/upload_priv.h"

static unsigned folder_of(int64_t file_id)
{
	return (unsigned)file_id % STAGE_FOLDERS;
}

void stage_name(char out[STAGE_NAME_MAX], int64_t file_id)
{
	snprintf(out, STAGE_NAME_MAX, "%x/%016llx", folder_of(file_id), (unsigned long long)file_id);
}

void stage_folder_name(char out[2], unsigned folder)
{
	out[0] = "0123456789abcdef"[folder % STAGE_FOLDERS];
	out[1] = 0;
}

bool stage_file_id(struct str name, unsigned folder, int64_t *file_id)
{
	uint8_t id[8];
	if (!str_unhex(name, id, sizeof id))
		return false;
	*file_id = 0;
	for (size_t i = 0; i < sizeof id; i++)
		*file_id = *file_id << 8 | id[i];
	return folder_of(*file_id) == folder;
}

int stage_create(struct uploads *u, int64_t *file_id, struct disk_file **out)
{
	char name[STAGE_NAME_MAX], folder[2];
	*file_id = idgen_next(u->drive->ids);
	stage_name(name, *file_id);
	stage_folder_name(folder, folder_of(*file_id));
	int err = disk_mkdir(u->staging, folder);
	return err ? err : disk_open(u->staging, name, DISK_WRITE | DISK_CREATE, out);
}

int stage_sync(struct uploads *u, int64_t file_id, struct disk_file *f)
{
	unsigned i = folder_of(file_id);
	char folder[2];
	stage_folder_name(folder, i);
	int err = disk_sync(f);
	/* An earlier run may have made the folder and not lived to sync it. */
	if (!err && !atomic_load(&u->folder_synced[i])) {
		err = disk_sync_dir(u->staging, "");
		if (!err)
			atomic_store(&u->folder_synced[i], true);
	}
	return err ? err : disk_sync_dir(u->staging, folder);
}

struct chunks_open {
	const struct live *l;
	int64_t piece;
	struct stage_source *out;
};

static int chunks_op(struct tx *tx, void *arg)
{
	struct chunks_open *o = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	size_t n;
	int64_t size;
	int err = tx_query_row(tx, "select recipe, skip_bytes from upload_pieces where upload_id = $1 and piece = $2 and recipe is not null",
	                       DB_ARGS(V_I(o->l->id), V_I(o->piece)), &r, &found);
	if (!err && !found)
		err = E_CORRUPT;
	if (!err)
		err = recipe_measure(rows_blob(r, 0), &n, &size);
	if (err)
		return err;
	o->out->skip_bytes = rows_i64(r, 1);
	return content_open(tx, o->l->u->drive->store, o->l->tenant_id, rows_blob(r, 0), size, &o->out->chunks);
}

int stage_source_open(const struct live *l, int64_t piece, const struct staged *s, struct stage_source *out)
{
	char name[STAGE_NAME_MAX];
	struct chunks_open o = {l, piece, out};
	*out = (struct stage_source){.size_bytes = s->size_bytes, .xxh = s->xxh};
	if (!s->file_id)
		return db_read(l->u->drive->db, chunks_op, &o);
	stage_name(name, s->file_id);
	out->digest = xxh3_new();
	int err = disk_open(l->u->staging, name, DISK_READ, &out->file);
	return err == E_NOT_FOUND ? E_CORRUPT : err;
}

int stage_source_read(struct stage_source *s, void *out, size_t n, size_t *got)
{
	int64_t rest = s->size_bytes - s->at_bytes;
	size_t want = rest < (int64_t)n ? (size_t)rest : n;
	int err = s->file ? disk_pread(s->file, out, want, s->at_bytes, got)
	                  : content_read(s->chunks, s->skip_bytes + s->at_bytes, out, want, got);
	if (err)
		return err;
	s->at_bytes += (int64_t)want;
	if (s->file)
		xxh3_update(s->digest, out, *got);
	if (!s->file || s->at_bytes < s->size_bytes)
		return *got == want ? 0 : E_CORRUPT;
	uint64_t xxh = xxh3_final(s->digest);
	s->digest = NULL;
	return *got == want && xxh == s->xxh ? 0 : E_CORRUPT;
}

void stage_source_close(struct stage_source *s)
{
	disk_close(s->file);
	xxh3_free(s->digest);
	content_close(s->chunks);
}

void stage_remove(struct uploads *u, int64_t file_id)
{
	if (!file_id)
		return;
	char name[STAGE_NAME_MAX];
	stage_name(name, file_id);
	int err = disk_unlink(u->staging, name);
	if (err && err != E_NOT_FOUND)
		log_warn("cannot remove a staged piece", LOG_I("file", file_id), LOG_C("error", err_info(err)->code));
}

struct sweep {
	struct uploads *u;
	struct map known;
	unsigned folder;
	int64_t removed;
};

static int known_op(struct tx *tx, void *arg)
{
	struct sweep *s = arg;
	AUTO_ROWS *r = NULL;
	map_fini(&s->known);
	s->known = (struct map){0};
	int err = tx_query(tx, "select file_id from upload_pieces", DB_NO_ARGS, &r);
	while (!err && rows_next(r))
		map_put(&s->known, (uint64_t)rows_i64(r, 0), s);
	int closed = err ? 0 : rows_close(&r);
	return err ? err : closed;
}

static int sweep_file(void *arg, const char *name, bool is_folder)
{
	struct sweep *s = arg;
	int64_t file_id;
	if (!is_folder && stage_file_id(str_c(name), s->folder, &file_id) && !map_get(&s->known, (uint64_t)file_id)) {
		stage_remove(s->u, file_id);
		s->removed++;
	}
	return 0;
}

int stage_sweep(struct uploads *u)
{
	struct sweep s = {.u = u};
	int err = db_read(u->drive->db, known_op, &s);
	for (; !err && s.folder < STAGE_FOLDERS; s.folder++) {
		char folder[2];
		stage_folder_name(folder, s.folder);
		err = disk_list(u->staging, folder, sweep_file, &s);
		if (err == E_NOT_FOUND)
			err = 0;
	}
	map_fini(&s.known);
	if (s.removed)
		log_info("staged pieces of an earlier run removed", LOG_I("n", s.removed));
	return err;
}
