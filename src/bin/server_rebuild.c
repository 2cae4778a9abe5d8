/* scaidrived fsck --rebuild: a database that is lost, made anew from what lies beside it: the catalog (drive/catalog.h) tells names and
 * places, packs tell where chunks lie (chunks/rebuild.h). */
#include <sys/stat.h>

#include "bin/server.h"
#include "chunks/rebuild.h"
#include "drive/catalog.h"

enum { DONE = 0, NOT_DONE = 2 };

struct rebuilding {
	struct runtime rt;
	struct backup b;
	struct progress progress;
	struct arena arena;
};

static void on_progress(void *arg, const char *what, int64_t done, int64_t all)
{
	struct rebuilding *r = arg;
	progress_show(&r->progress, what, done, all);
}

static void on_told(void *arg, struct str sentence)
{
	struct rebuilding *r = arg;
	progress_wipe(&r->progress);
	fprintf(stderr, "scaidrived: %.*s\n", STR_ARG(sentence));
}

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

static int fill(struct rebuilding *r, const struct backup_point *p)
{
	uint8_t random[16];
	char token[2 * sizeof random];
	struct backup_totals totals = {0};
	struct store_rebuild_totals found;
	rng_system.fill(&rng_system, random, sizeof random);
	hex_encode(random, sizeof random, token);
	int err = backup_restore(&r->b, p, &(struct restore_target){&r->rt.ctx, r->rt.disk, str_n(token, sizeof token)}, &totals);
	if (!err)
		err = store_rebuild(&(struct store_rebuild_config){r->rt.disk, r->rt.db, &clock_system, on_progress, r}, &found);
	progress_wipe(&r->progress);
	if (err)
		return runtime_fault(&r->rt, err), NOT_DONE;
	printf("The database is made anew as of %s: %lld chunks in %lld packs. Everyone has to sign in again; devices bring back what is newer.\n",
	       p->name, (long long)found.added, (long long)found.packs);
	return DONE;
}

static int rebuild(struct rebuilding *r)
{
	struct backup_point p;
	bool found;
	char path[4096];
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
	r.b = (struct backup){.clock = &clock_system, .progress = on_progress, .told = on_told, .arg = &r};
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
