/* scaidrived backup, backup list, backup verify, restore: drive/backup.h, told to people. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bin/server.h"
#include "drive/backup.h"
#include "drive/check.h"

enum { WHOLE = 0, FOUND = 1, FAILED = 2 };

/* An opened folder of backups. */
struct shelf {
	struct progress progress; /* first: of the callbacks */
	struct backup b;
	int lock_fd;
	struct arena arena;
};

static void shelf_close(struct shelf *s)
{
	progress_wipe(&s->progress);
	if (s->b.packs)
		disk_free(s->b.packs);
	if (s->b.disk)
		disk_free(s->b.disk);
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	arena_fini(&s->arena);
}

/* The folder's lock: one at a time works in it. */
static int shelf_lock(struct shelf *s)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s/lock", s->b.path) >= sizeof path)
		return usage_fault("%s: the path is too long", s->b.path), FAILED;
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return usage_fault("%s: cannot be opened: %s", path, strerror(errno)), FAILED;
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) != 0)
		return usage_fault("%s is in use by another scaidrived", s->b.path), FAILED;
	return 0;
}

static int shelf_disk(const char *path, bool make, struct disk **out)
{
	if (make && mkdir(path, 0700) != 0 && errno != EEXIST)
		return usage_fault("%s: cannot be made: %s", path, strerror(errno)), FAILED;
	int err = disk_posix_open(path, out);
	if (err && (make || err != E_NOT_FOUND))
		return usage_fault("%s: cannot be opened: %s", path, err_info(err)->sentence), FAILED;
	return 0;
}

/* make: the folder may be missing. */
static int shelf_open(const char *path, bool make, struct shelf *s)
{
	char packs[4096];
	*s = (struct shelf){.lock_fd = -1};
	s->b = (struct backup){.path = path, .clock = &clock_system, .progress = progress_on_step, .told = progress_on_told, .arg = s};
	progress_init(&s->progress, false);
	arena_init(&s->arena);
	umask(077);
	if ((size_t)snprintf(packs, sizeof packs, "%s/packs", path) >= sizeof packs)
		return usage_fault("%s: the path is too long", path), FAILED;
	int code = shelf_disk(path, make, &s->b.disk);
	if (!code && !s->b.disk)
		code = (usage_fault("%s: there is no such folder", path), FAILED);
	if (!code)
		code = shelf_lock(s);
	if (!code)
		code = shelf_disk(packs, make, &s->b.packs);
	return code;
}

static int fault(struct shelf *s, const char *what, int err)
{
	progress_wipe(&s->progress);
	return usage_fault("%s: %s", what, err_info(err)->sentence), FAILED;
}

/* The point of --point, else the newest. */
static int choose(struct shelf *s, const char *name, struct backup_point *out)
{
	struct backup_point *points;
	size_t n;
	int err = backup_points(&s->b, &s->arena, &points, &n);
	if (err)
		return fault(s, s->b.path, err);
	for (size_t i = n; i-- > 0;)
		if (!name || strcmp(points[i].name, name) == 0) {
			*out = points[i];
			return 0;
		}
	if (name)
		return usage_fault("%s has no point %s (see: scaidrived backup list)", s->b.path, name), FAILED;
	return usage_fault("%s has no whole backup", s->b.path), FAILED;
}

/* ---- backup ---- */

static const struct option_spec backup_options[] = {
    {"keep", "N", "Then remove all but the newest N points, and packs that none of these needs", NULL},
    {"repair", NULL, "Also read the packs that are in DIR already, and copy those anew that have rotted there", NULL},
    {0},
};

static int print_made(struct shelf *s, const struct backup_point *p, const struct backup_totals *t)
{
	progress_wipe(&s->progress);
	printf("%s: %lld bytes of database, %lld packs of %lld bytes; copied %lld packs, %lld bytes.\n", p->name,
	       (long long)p->database_bytes, (long long)p->packs, (long long)p->pack_bytes, (long long)t->copied_packs,
	       (long long)t->copied_bytes);
	if (t->removed_points || t->removed_packs)
		printf("Removed %lld points, %lld packs, %lld bytes of packs.\n", (long long)t->removed_points,
		       (long long)t->removed_packs, (long long)t->removed_bytes);
	return t->faults ? FOUND : WHOLE;
}

static int make(struct shelf *s, const struct config *config, int64_t keep)
{
	struct runtime rt;
	struct backup_point p;
	struct backup_totals totals = {0};
	if (runtime_open(config, RUNTIME_READ, &rt))
		return FAILED;
	int err = backup_make(&s->b, &(struct backup_source){.db = rt.db, .packs = rt.disk, .rng = &rng_system}, &p, &totals);
	runtime_close(&rt);
	if (!err && keep)
		err = backup_prune(&s->b, (size_t)keep, &totals);
	return err ? fault(s, s->b.path, err) : print_made(s, &p, &totals);
}

static int run_backup(struct args *args)
{
	struct shelf s;
	int64_t keep = 0;
	if (arg(args, "keep") && (!str_to_i64(arg_str(args, "keep"), &keep) || keep < 1))
		return usage_fault("backup: --keep must be a positive number of points");
	int code = shelf_open(args->operands[0], true, &s);
	s.b.verify = arg(args, "repair");
	if (!code)
		code = make(&s, &args->config, keep);
	shelf_close(&s);
	return code;
}

const struct command cmd_backup = {"backup", "Add a point in time to a folder of backups, beside a server or not",
                                   backup_options, run_backup, "DIR"};

/* ---- backup list ---- */

static const struct option_spec no_options[] = {{0}};

static int run_list(struct args *args)
{
	struct shelf s;
	struct backup_point *points;
	size_t n;
	int code = shelf_open(args->operands[0], false, &s);
	int err = code ? 0 : backup_points(&s.b, &s.arena, &points, &n);
	if (err)
		code = fault(&s, s.b.path, err);
	for (size_t i = 0; !code && i < n; i++)
		printf("%s  %-10s  %s  schema %lld  %lld bytes of database, %lld packs of %lld bytes\n", points[i].name,
		       points[i].engine, points[i].version, (long long)points[i].schema, (long long)points[i].database_bytes,
		       (long long)points[i].packs, (long long)points[i].pack_bytes);
	shelf_close(&s);
	return code;
}

const struct command cmd_backup_list = {"backup list", "The points in a folder of backups", no_options, run_list, "DIR"};

/* ---- backup verify ---- */

static const struct option_spec verify_options[] = {
    {"point", "NAME", "This one (the newest)", NULL},
    {"all", NULL, "Every point", NULL},
    {0},
};

static void on_finding(void *arg, const struct check_finding *f)
{
	struct shelf *s = arg;
	struct buf b = {0};
	progress_wipe(&s->progress);
	if (f->share.p) {
		put_plain(&b, f->share);
		buf_char(&b, ':');
		put_plain(&b, f->path);
		buf_lit(&b, ": ");
	} else if (f->subject.p) {
		put_plain(&b, f->subject);
		buf_lit(&b, ": ");
	}
	put_plain(&b, f->sentence);
	printf("%.*s [%s]\n", STR_ARG(buf_as_str(&b)), f->code);
	buf_fini(&b);
}

/* Packs of other points are none of this one's. */
static void on_garbage(void *arg, struct str file, int64_t bytes)
{
	(void)arg, (void)file, (void)bytes;
}

/* What fsck does, to the database of the point and the packs beside it. */
static int check_point(struct shelf *s, const struct backup_point *p, struct check_totals *totals)
{
	struct db *db;
	int err = backup_open_upgraded(&s->b, p, &db);
	if (err)
		return err;
	struct check_config c = {
	    .db = db,
	    .packs = s->b.packs,
	    .clock = &clock_system,
	    .depth = CHECK_FULL,
	    .finding = on_finding,
	    .garbage = on_garbage,
	    .progress = progress_on_step,
	    .arg = s,
	};
	err = drive_check(&c, totals);
	backup_close_point(&s->b, p, &db);
	return err;
}

static int verify(struct shelf *s, const struct backup_point *p)
{
	struct backup_totals found = {0};
	struct check_totals totals = {0};
	int err = backup_look(&s->b, p, &found);
	if (!err)
		err = check_point(s, p, &totals);
	progress_wipe(&s->progress);
	if (err && err != E_CORRUPT)
		return fault(s, p->name, err);
	if (found.faults || totals.findings || err) {
		printf("%s: %lld findings. What the server still has whole scaidrived backup --repair copies anew.\n", p->name,
		       (long long)(found.faults + totals.findings));
		return FOUND;
	}
	printf("%s: whole. %lld files and folders, %lld versions, %lld chunks.\n", p->name, (long long)totals.nodes,
	       (long long)totals.versions, (long long)totals.store.chunks);
	return WHOLE;
}

static int verify_all(struct shelf *s)
{
	struct backup_point *points;
	size_t n;
	int err = backup_points(&s->b, &s->arena, &points, &n), code = WHOLE;
	if (err)
		return fault(s, s->b.path, err);
	for (size_t i = 0; i < n; i++) {
		int one = verify(s, &points[i]);
		code = one > code ? one : code;
	}
	return code;
}

static int run_verify(struct args *args)
{
	struct shelf s;
	struct backup_point p;
	int code = shelf_open(args->operands[0], false, &s);
	if (!code && arg(args, "all"))
		code = verify_all(&s);
	else if (!code && (code = choose(&s, arg(args, "point"), &p)) == 0)
		code = verify(&s, &p);
	shelf_close(&s);
	return code;
}

const struct command cmd_backup_verify = {"backup verify", "Read a point and its packs, and check that all fits together",
                                          verify_options, run_verify, "DIR"};

/* ---- restore ---- */

static const struct option_spec restore_options[] = {
    {"point", "NAME", "This one (the newest)", NULL},
    {0},
};

static int on_any(void *arg, const char *name, bool is_folder)
{
	(void)name, (void)is_folder;
	*(bool *)arg = true;
	return 0;
}

static int refuse_used(const struct runtime *rt)
{
	bool any = false;
	int err = disk_list(rt->disk, "", on_any, &any);
	if (err)
		return usage_fault("%s/packs: %s", rt->data, err_info(err)->sentence), FAILED;
	return any ? (usage_fault("%s has packs already: a restore needs an empty data folder", rt->data), FAILED) : 0;
}

/* *refused: nothing was begun, since the target is not empty. */
static int fill(struct shelf *s, struct runtime *rt, const struct backup_point *p, const char *token, bool *refused)
{
	struct backup_totals totals = {0};
	int err = backup_look(&s->b, p, &totals);
	if (err)
		return err == E_CORRUPT ? FAILED : fault(s, p->name, err);
	struct restore_target to = {&rt->ctx, rt->disk, str_c(token)};
	err = backup_restore(&s->b, p, &to, &totals);
	progress_wipe(&s->progress);
	*refused = err == E_CONFLICT;
	if (err)
		return runtime_fault(rt, err), FAILED;
	printf("%s is restored: %lld packs, %lld bytes copied. Everyone has to sign in again.\n", p->name,
	       (long long)totals.copied_packs, (long long)totals.copied_bytes);
	return totals.faults ? FOUND : WHOLE;
}

static int restore(struct shelf *s, struct runtime *rt, const struct backup_point *p)
{
	char path[4096], token[BEGUN_BYTES + 1];
	bool again = false, done = false, refused = false;
	if ((size_t)snprintf(path, sizeof path, "%s/" RESTORING, rt->data) >= sizeof path)
		return usage_fault("%s: the path is too long", rt->data), FAILED;
	int code = begun_refuse(rt, REBUILDING);
	if (!code)
		code = access(path, F_OK) == 0 ? 0 : refuse_used(rt);
	if (!code)
		code = begun_open(rt, RESTORING, token, &again);
	if (code)
		return code;
	int err = again ? backup_restored(rt->db, str_c(token), &done) : 0;
	if (err)
		return fault(s, "the database", err);
	if (done)
		printf("An earlier run has restored it.\n");
	else
		code = fill(s, rt, p, token, &refused);
	if ((code != FAILED || (refused && !again)) && begun_end(rt, RESTORING))
		return FAILED;
	return code;
}

static int run_restore(struct args *args)
{
	struct shelf s;
	struct backup_point p;
	struct runtime rt;
	int code = shelf_open(args->operands[0], false, &s);
	if (!code)
		code = choose(&s, arg(args, "point"), &p);
	if (!code && (code = runtime_open(&args->config, RUNTIME_RESTORE, &rt) ? FAILED : 0) == 0) {
		code = restore(&s, &rt, &p);
		runtime_close(&rt);
	}
	shelf_close(&s);
	return code;
}

const struct command cmd_restore = {"restore", "Fill an empty data folder and database from a folder of backups",
                                    restore_options, run_restore, "DIR"};
