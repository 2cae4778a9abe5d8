#include "io/reserve.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"

enum { BLOCK = 1 << 20 };
static const char name[] = "reserve";

struct reserve {
	struct disk *disk;
	int64_t bytes, margin_bytes;
	pthread_mutex_t mu;
	bool there;
};

static bool is_there(struct reserve *r)
{
	struct disk_file *f;
	int64_t size = 0;
	if (disk_open(r->disk, name, DISK_READ, &f) != E_OK)
		return false;
	int err = disk_size(f, &size);
	disk_close(f);
	return err == E_OK && size == r->bytes;
}

/* With the lock. */
static int fill(struct reserve *r)
{
	struct disk_file *f;
	(void)disk_unlink(r->disk, name); /* of another size: it was cut off, or another version's */
	int err = disk_open(r->disk, name, DISK_WRITE | DISK_CREATE, &f);
	if (err != E_OK)
		return err;
	char *zeros = calloc(1, BLOCK);
	must(zeros != NULL);
	for (int64_t at = 0; err == E_OK && at < r->bytes; at += BLOCK)
		err = disk_pwrite(f, zeros, (size_t)(r->bytes - at < BLOCK ? r->bytes - at : BLOCK), at);
	free(zeros);
	disk_close(f);
	if (err != E_OK)
		(void)disk_unlink(r->disk, name);
	return err;
}

void reserve_restore(struct reserve *r)
{
	int64_t free_bytes;
	pthread_mutex_lock(&r->mu);
	/* Twice its size, so that it does not come and go. */
	if (!r->there && disk_space(r->disk, &free_bytes) == E_OK && free_bytes > r->margin_bytes + 2 * r->bytes)
		r->there = fill(r) == E_OK;
	pthread_mutex_unlock(&r->mu);
}

struct reserve *reserve_open(struct disk *d, int64_t bytes, int64_t margin_bytes)
{
	struct reserve *r = calloc(1, sizeof *r);
	must(r != NULL);
	*r = (struct reserve){.disk = d, .bytes = bytes, .margin_bytes = margin_bytes};
	pthread_mutex_init(&r->mu, NULL);
	r->there = is_there(r);
	reserve_restore(r);
	if (!r->there)
		log_warn("the disk has no room for the reserve that lets a full server delete", LOG_I("bytes", bytes));
	return r;
}

void reserve_close(struct reserve *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->mu);
	free(r);
}

bool reserve_release(struct reserve *r)
{
	pthread_mutex_lock(&r->mu);
	bool released = r->there && disk_unlink(r->disk, name) == E_OK;
	if (released)
		r->there = false;
	pthread_mutex_unlock(&r->mu);
	if (released)
		log_error("the disk is full: the reserve is given back, so that deleting and signing in go on", LOG_I("bytes", r->bytes));
	return released;
}
