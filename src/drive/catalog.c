#include "drive/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

#include "base/cleanup.h"

#include "io/disk.h"

enum { HOUR_S = 3600, DAY_S = 24 * 3600, ROUND_S = 3600, SHARE_OF_TIME = 100 };

/* What the catalog would tell: it is written when this differs. A name or a role that is only replaced may slip through,
 * and so it is written once a day all the same. */
static int stamp_op(struct tx *tx, void *arg)
{
	return tx_i64(tx,
	              "select (select sum(seq) + sum(length(settings)) from tenants) + (select count(*) + sum(gen) from users)"
	              " + (select count(*) from share_members) + (select count(*) from versions)"
	              " + coalesce((select sum(length(settings)) from shares), 0)",
	              DB_NO_ARGS, 0, arg);
}

static void on_progress(void *arg, const char *what, int64_t done, int64_t all)
{
	(void)arg, (void)what, (void)done, (void)all;
}

/* It is of one moment, so what was not finished is begun anew. The time of a round is bounded, since other jobs wait; whom that is
 * too short is told, and makes the catalog by hand, which takes as long as it takes. */
static bool go_on(void *arg)
{
	struct job_round *r = arg;
	bool on = job_go_on(r), stopped = r->stop && atomic_load(r->stop);
	if (!on && r->by_hand && !stopped) {
		r->more = false;
		on = true;
	}
	return on;
}

/* One at a time works in the folder, also when a process slept longer than it holds the job's row: the second would take the first
 * one's file for its own. *fd is the lock, until it is closed. E_BUSY: another is at it. */
static int lock(const char *folder, int *fd)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s/lock", folder) >= sizeof path)
		return E_INVALID;
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0)
		return err_from_errno(errno);
	return flock(*fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? E_BUSY : err_from_errno(errno);
}

static void on_told(void *arg, struct str sentence)
{
	(void)arg, (void)sentence; /* the fault itself is in the job's row */
}

/* Twice the last one must fit: the new one is made before that goes. */
static int room(const struct job_round *r, const struct backup *b)
{
	struct backup_point *points;
	struct arena a;
	size_t n;
	arena_init(&a);
	int err = backup_points(b, &a, &points, &n);
	if (!err && n && r->drive->store)
		err = store_room(r->drive->store, 2 * points[n - 1].database_bytes);
	arena_fini(&a);
	return err;
}

static int write_catalog(struct job_round *r, struct disk *disk)
{
	struct backup b = {.path = r->drive->catalog, .disk = disk, .clock = r->drive->clock, .rows_alone = true,
	                   .progress = on_progress, .go_on = go_on, .told = on_told, .arg = r};
	AUTO_FD int locked = -1;
	struct backup_totals totals = {0};
	struct backup_point point;
	int err = lock(b.path, &locked);
	if (!err)
		err = room(r, &b);
	if (!err)
		err = backup_make(&b, &(struct backup_source){.db = r->drive->db, .rng = r->drive->rng}, &point, &totals);
	if (!err)
		err = backup_prune(&b, 1, &totals);
	if (err == E_CANCELLED)
		err = r->stop && atomic_load(r->stop) ? 0 : E_TIMEOUT;
	else
		r->items = !err;
	r->bytes = err ? 0 : point.database_bytes;
	return err;
}

static int run(struct job_round *r)
{
	int64_t stamp, last = -1, not_before = 0, written = 0, began = clock_mono(r->drive->clock);
	struct str state = str_c(r->state), first = str_cut(&state, ' '), second = str_cut(&state, ' ');
	struct disk *disk;
	if (!r->drive->catalog)
		return 0;
	(void)str_to_i64(first, &last);
	(void)str_to_i64(second, &not_before);
	(void)str_to_i64(state, &written);
	int err = db_read(r->drive->db, stamp_op, &stamp);
	bool fresh = stamp == last && r->begin - written < SECONDS_US(DAY_S);
	if (err || (!r->by_hand && (fresh || r->begin < not_before)))
		return err;
	if (r->dry) {
		r->items = 1;
		r->tell(r->tell_arg, STR("the catalog"), 0);
		return 0;
	}
	err = r->drive->packs ? disk_mkdir(r->drive->packs, CATALOG_FOLDER) : 0;
	if (!err && r->drive->packs)
		err = disk_sync_dir(r->drive->packs, "");
	if (!err)
		err = disk_posix_open(r->drive->catalog, &disk);
	if (err)
		return err;
	err = write_catalog(r, disk);
	disk_free(disk);
	int64_t took = clock_mono(r->drive->clock) - began;
	if (!err || err == E_TIMEOUT) /* nor does one that is never finished take more than its share */
		snprintf(r->state, sizeof r->state, "%lld %lld %lld", (long long)(err ? last : stamp),
		         (long long)(r->begin + SHARE_OF_TIME * took), (long long)(err ? written : r->begin));
	return err;
}

const struct job job_catalog = {
    .name = "catalog",
    .what = "writes down beside the packs what these cannot tell, for a database that is lost",
    .period_s = HOUR_S,
    .round_s = ROUND_S,
    .packs = true,
    .run = run,
};
