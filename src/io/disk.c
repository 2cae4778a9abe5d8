#include "io/disk.h"

#include "base/must.h"

enum { CREDIT_MAX_BYTES = 1 << 20 };

/* The one place of the durability rule: a sync fails once, then the disk takes no more changes. E_BUSY is a sync that
 * could not be asked for. */
static int sync_result(struct disk *d, int err)
{
	atomic_fetch_add(&d->syncs, err != E_BUSY);
	if (err != E_OK && err != E_BUSY)
		atomic_store(&d->failed, true);
	return err;
}

static int writable(struct disk *d)
{
	return atomic_load(&d->failed) ? E_READ_ONLY : E_OK;
}

void disk_free(struct disk *d)
{
	if (d)
		d->ops->free(d);
}

bool disk_failed(struct disk *d)
{
	return atomic_load(&d->failed);
}

int64_t disk_syncs(struct disk *d)
{
	return atomic_load(&d->syncs);
}

int disk_open(struct disk *d, const char *name, int flags, struct disk_file **out)
{
	*out = NULL;
	int err = flags & DISK_WRITE ? writable(d) : E_OK;
	if (err == E_OK && (flags & DISK_CREATE))
		err = disk_room(d, 0);
	if (err != E_OK)
		return err;
	err = d->ops->open(d, name, flags, out);
	if (err == E_OK)
		(*out)->disk = d;
	return err;
}

void disk_close(struct disk_file *f)
{
	if (f)
		f->disk->ops->close(f);
}

int disk_pread(struct disk_file *f, void *p, size_t n, int64_t offset, size_t *got)
{
	must(offset >= 0);
	*got = 0;
	return f->disk->ops->pread(f, p, n, offset, got);
}

int disk_pwrite(struct disk_file *f, const void *p, size_t n, int64_t offset)
{
	must(offset >= 0);
	int err = writable(f->disk);
	if (err == E_OK)
		err = disk_room(f->disk, (int64_t)n);
	return err != E_OK ? err : f->disk->ops->pwrite(f, p, n, offset);
}

int disk_sync(struct disk_file *f)
{
	int err = writable(f->disk);
	return err != E_OK ? err : sync_result(f->disk, f->disk->ops->sync(f));
}

void disk_start_write(struct disk_file *f, int64_t offset, int64_t n)
{
	if (writable(f->disk) == E_OK)
		f->disk->ops->start_write(f, offset, n);
}

int disk_size(struct disk_file *f, int64_t *size_bytes)
{
	return f->disk->ops->size(f, size_bytes);
}

int disk_there(struct disk_file *f, int64_t *size_bytes)
{
	return f->disk->ops->there(f, size_bytes);
}

int disk_truncate(struct disk_file *f, int64_t size_bytes)
{
	int err = writable(f->disk);
	return err != E_OK ? err : f->disk->ops->truncate(f, size_bytes);
}

int disk_sync_dir(struct disk *d, const char *dir)
{
	int err = writable(d);
	return err != E_OK ? err : sync_result(d, d->ops->sync_dir(d, dir));
}

int disk_rename(struct disk *d, const char *from, const char *to)
{
	int err = writable(d);
	return err != E_OK ? err : d->ops->rename(d, from, to);
}

int disk_unlink(struct disk *d, const char *name)
{
	int err = writable(d);
	return err != E_OK ? err : d->ops->unlink(d, name);
}

int disk_mkdir(struct disk *d, const char *name)
{
	int err = writable(d);
	return err != E_OK ? err : d->ops->mkdir(d, name);
}

int disk_list(struct disk *d, const char *dir, disk_list_fn *fn, void *arg)
{
	return d->ops->list(d, dir, fn, arg);
}

int disk_space(struct disk *d, int64_t *free_bytes)
{
	return d->ops->space(d, free_bytes);
}

void disk_keep_room(struct disk *d, int64_t margin_bytes)
{
	atomic_store(&d->margin_bytes, margin_bytes);
	atomic_store(&d->credit_bytes, 0);
}

int disk_room(struct disk *d, int64_t n)
{
	int64_t margin = atomic_load(&d->margin_bytes), free_bytes;
	if (!margin || (n > 0 && atomic_fetch_sub(&d->credit_bytes, n) > n))
		return E_OK;
	if (disk_space(d, &free_bytes) != E_OK)
		return E_OK; /* the write itself will tell */
	int64_t room = free_bytes - margin - n;
	/* A quarter, since others write too. */
	atomic_store(&d->credit_bytes, room < 0 ? 0 : room / 4 < CREDIT_MAX_BYTES ? room / 4 : CREDIT_MAX_BYTES);
	return room < 0 ? E_NO_SPACE : E_OK;
}
