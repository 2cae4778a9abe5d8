/* scaidrived fsck --rebuild: a database that is lost, made anew from what lies beside it: the catalog (drive/catalog.h) tells names and
 * places, packs tell where chunks lie (chunks/rebuild.h). */
#include <sys/stat.h>

#include "bin/server.h"
#include "chunks/rebuild.h"
#include "drive/catalog.h"

enum { DONE = 0, NOT_DONE = 2 };

struct rebuilding {
	struct progress progress; /* first: of the callbacks */
	struct runtime rt;
	struct backup b;
	struct arena arena;
};

/* The newest catalog whose file is as it was written. */
static int choose(struct rebuilding *r, struct backup_point *out, bool *found)
{
	struct backup_point *points;
	size_t n;
	*found = false;
	int err = backup_points(&r->b, &r->arena, &points, &n);
	for (size_t i = n; !err && i-- > 0 && !*found;) {
		struct backup_totals totals = {0};
		int wrong = backup_look(&r->b, &points[i], &totals);
		err = wrong == E_CORRUPT || wrong == E_NOT_FOUND ? 0 : wrong;
		*found = !wrong && !totals.faults;
		*out = points[i];
	}
	return err;
}

/* The rows of the index, which packs tell. */
static int fill_index(struct rebuilding *r)
{
	struct store_rebuild_totals found;
	struct store_rebuild_config c = {.disk = r->rt.disk, .db = r->rt.db, .clock = &clock_system, .progress = progress_on_step, .arg = r};
	int err = tenant_only(c.db, &c.only_tenant);
	if (!err)
		err = store_rebuild(&c, &found);
	progress_wipe(&r->progress);
	if (err)
		return runtime_fault(&r->rt, err), NOT_DONE;
	if (found.unreadable_packs)
		fprintf(stderr, "scaidrived: %lld packs cannot be read, or do not tell whose they are\n", (long long)found.unreadable_packs);
	printf("%lld chunks were found in %lld packs.\n", (long long)found.added, (long long)found.packs);
	return DONE;
}

/* Names and places. *refused: the database is not empty. */
static int fill_rows(struct rebuilding *r, const struct backup_point *p, const char *token, bool *refused)
{
	struct backup_totals totals = {0};
	int err = backup_restore(&r->b, p, &(struct restore_target){&r->rt.ctx, r->rt.disk, str_c(token)}, &totals);
	progress_wipe(&r->progress);
	*refused = err == E_CONFLICT;
	if (*refused)
		usage_fault("the database is there, and not empty: --repair mends what is wrong in it. To make it anew, move it away first");
	else if (err)
		runtime_fault(&r->rt, err);
	else
		printf("The database is made anew as of %s. Everyone has to sign in again; devices bring back what is newer.\n", p->name);
	return err ? NOT_DONE : DONE;
}

/* The rows come in one transaction, with the word that tells so; the index is filled chunk by chunk, as often as it takes. */
static int fill(struct rebuilding *r, const struct backup_point *p)
{
	char token[BEGUN_BYTES + 1];
	bool again = false, have_rows = false, refused = false;
	int code = begun_open(&r->rt, REBUILDING, token, &again);
	if (code)
		return code;
	int err = again ? backup_restored(r->rt.db, str_c(token), &have_rows) : 0;
	if (err)
		return runtime_fault(&r->rt, err), NOT_DONE;
	code = have_rows ? DONE : fill_rows(r, p, token, &refused);
	if (refused && again)
		usage_fault("if that database is right, remove %s/" REBUILDING, r->rt.data);
	if (code == DONE)
		code = fill_index(r);
	return code == DONE || (refused && !again) ? (begun_end(&r->rt, REBUILDING) ? NOT_DONE : code) : code;
}

static int rebuild(struct rebuilding *r)
{
	struct backup_point p;
	bool found;
	char path[4096];
	if (begun_refuse(&r->rt, RESTORING))
		return NOT_DONE;
	if ((size_t)snprintf(path, sizeof path, "%s/packs/" CATALOG_FOLDER, r->rt.data) >= sizeof path)
		return usage_fault("%s: the path is too long", r->rt.data), NOT_DONE;
	int err = disk_posix_open(path, &r->b.disk);
	if (err && err != E_NOT_FOUND)
		return usage_fault("%s: cannot be opened: %s", path, err_info(err)->sentence), NOT_DONE;
	r->b.path = path;
	err = err ? 0 : choose(r, &p, &found);
	if (err)
		return usage_fault("%s: %s", path, err_info(err)->sentence), NOT_DONE;
	if (!r->b.disk || !found)
		return usage_fault("%s has no whole catalog, and packs alone tell no names: restore a backup", path), NOT_DONE;
	return fill(r, &p);
}

int server_rebuild(const struct config *config, bool quiet)
{
	struct rebuilding r = {0};
	r.b = (struct backup){.clock = &clock_system, .progress = progress_on_step, .told = progress_on_told, .arg = &r};
	if (runtime_open(config, RUNTIME_RESTORE, &r.rt))
		return NOT_DONE;
	progress_init(&r.progress, quiet);
	arena_init(&r.arena);
	int code = rebuild(&r);
	if (r.b.disk)
		disk_free(r.b.disk);
	arena_fini(&r.arena);
	runtime_close(&r.rt);
	return code;
}
