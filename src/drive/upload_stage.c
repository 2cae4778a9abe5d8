/* Staging files: one a piece, so that its room comes back as soon as it is fed. */
#include <stdio.h>

#include "base/log.h"
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

int stage_read(struct uploads *u, const struct staged *s, void *out)
{
	char name[STAGE_NAME_MAX];
	struct disk_file *f;
	size_t got;
	stage_name(name, s->file_id);
	int err = disk_open(u->staging, name, DISK_READ, &f);
	if (err)
		return err == E_NOT_FOUND ? E_CORRUPT : err;
	err = disk_pread(f, out, (size_t)s->size_bytes, 0, &got);
	disk_close(f);
	if (err)
		return err;
	return got == (size_t)s->size_bytes && xxh3_64(out, got) == s->xxh ? 0 : E_CORRUPT;
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
