#include "chunks/pack_copy.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"

enum { WINDOW = 1 << 20 };

/* Of *n bytes; fewer when an upload that was given up takes back its room meanwhile, which no row of the index knows of. */
static int copy_bytes(struct disk_file *from, struct disk_file *to, int64_t *n)
{
	char *window = malloc(WINDOW);
	must(window != NULL);
	int err = 0;
	for (int64_t at = 0; !err && at < *n;) {
		size_t want = *n - at < WINDOW ? (size_t)(*n - at) : WINDOW, got = 0;
		err = disk_pread(from, window, want, at, &got);
		if (!err && got < want)
			*n = at + (int64_t)got;
		if (!err && got)
			err = disk_pwrite(to, window, got, at);
		if (!err)
			disk_start_write(to, at, (int64_t)got);
		at += (int64_t)got;
	}
	free(window);
	return err;
}

/* Looks at the copy, so that what was read wrongly is found as well as what lay there wrongly. */
static int look(struct disk_file *f, int64_t pack_id, bool *damaged)
{
	struct pack_info info;
	int err = pack_scan(f, true, NULL, NULL, &info);
	*damaged = err == E_CORRUPT || (!err && (info.n_bad || info.n_gaps || info.pack_id != pack_id));
	return err == E_CORRUPT ? 0 : err;
}

/* Does the source, which is shorter than its copy, end within a segment? An upload that was given up takes back whole ones. */
static int look_at_end(struct disk_file *source, bool *damaged)
{
	struct pack_info info;
	int err = pack_scan(source, false, NULL, NULL, &info);
	*damaged = err == E_CORRUPT || info.torn;
	return err == E_CORRUPT ? 0 : err;
}

/* A pack only grows: what an older copy has whole may stand for what rotted in the source since. */
static int take_from_old(struct disk_file *old, struct disk_file *part, int64_t pack_id, bool *whole)
{
	struct pack_info info;
	bool damaged = true;
	int err = pack_scan(old, true, NULL, NULL, &info);
	if (err || info.n_bad || info.n_gaps || info.pack_id != pack_id)
		return err == E_CORRUPT ? 0 : err;
	err = copy_bytes(old, part, &info.valid_bytes);
	if (!err)
		err = look(part, pack_id, &damaged);
	*whole = !damaged;
	return err;
}

/* old: the copy that is there, or NULL. */
static int copy_beside(struct disk *to, const char *name, struct disk_file *source, struct disk_file *old, bool same_length,
                       int64_t pack_id, struct pack_copied *out)
{
	char part[PACK_NAME_MAX + 8];
	struct disk_file *f;
	snprintf(part, sizeof part, "%s.part", name);
	int err = disk_unlink(to, part);
	if (!err || err == E_NOT_FOUND)
		err = disk_open(to, part, DISK_WRITE | DISK_CREATE, &f);
	if (err)
		return err;
	err = copy_bytes(source, f, &out->bytes);
	if (!err)
		err = look(f, pack_id, &out->damaged);
	if (!err && out->damaged && old)
		err = take_from_old(old, f, pack_id, &out->kept);
	if (!err)
		err = disk_sync(f);
	disk_close(f);
	if (!err && out->damaged && !out->kept && same_length)
		return disk_unlink(to, part); /* neither is whole: the older one stays */
	if (!err)
		err = disk_rename(to, part, name);
	if (err)
		(void)disk_unlink(to, part);
	out->copied = !err;
	return err;
}

/* *there: its length, -1 when there is none. */
static int open_old(struct disk *to, const char *name, struct disk_file **old, int64_t *there)
{
	*old = NULL;
	*there = -1;
	int err = disk_open(to, name, DISK_READ, old);
	if (err)
		return err == E_NOT_FOUND ? 0 : err;
	return disk_size(*old, there);
}

int pack_copy(struct disk *from, struct disk *to, int64_t pack_id, bool verify, struct pack_copied *out)
{
	char name[PACK_NAME_MAX];
	struct disk_file *source, *old = NULL;
	int64_t there = -1;
	bool rotten = false;
	pack_name(name, pack_id);
	*out = (struct pack_copied){0};
	int err = disk_open(from, name, DISK_READ, &source);
	if (err)
		return err;
	err = disk_size(source, &out->bytes);
	if (!err)
		err = open_old(to, name, &old, &there);
	if (!err && verify && there == out->bytes)
		err = look(old, pack_id, &rotten);
	if (!err && (there < out->bytes || rotten))
		err = copy_beside(to, name, source, old, rotten, pack_id, out);
	else if (!err && there > out->bytes)
		err = look_at_end(source, &out->damaged);
	disk_close(old);
	disk_close(source);
	return err;
}

static int each_folder(struct disk *to, int (*fn)(struct disk *, const char *))
{
	int err = 0;
	for (unsigned i = 0; !err && i < PACK_FOLDERS; i++) {
		char folder[2];
		pack_folder_name(folder, i);
		err = fn(to, folder);
	}
	return err ? err : disk_sync_dir(to, "");
}

int pack_copy_begin(struct disk *to)
{
	return each_folder(to, disk_mkdir);
}

int pack_copy_end(struct disk *to)
{
	return each_folder(to, disk_sync_dir);
}
