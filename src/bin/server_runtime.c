/* Opening a data folder: lock, database, chunk store, keys. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "bin/server.h"
#include "drive/catalog.h"
#include "drive/collect.h"
#include "drive/schema.h"
#include "drive/upload.h"

static int make_folder(const char *path)
{
	struct stat st;
	char *part = strdup(path);
	must(part);
	/* mkdir -p; only the last folder is ours to close to others */
	for (char *p = part + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			if (mkdir(part, 0755) != 0 && errno != EEXIST)
				break;
			*p = '/';
		}
	free(part);
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return usage_fault("%s: the data folder cannot be made: %s", path, strerror(errno)), 1;
	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return usage_fault("%s: is not a folder", path), 1;
	if (st.st_uid == geteuid() && (st.st_mode & 077) && chmod(path, 0700) != 0)
		return usage_fault("%s: others may enter the data folder, and that cannot be changed: %s", path, strerror(errno)), 1;
	return 0;
}

static int take_lock(struct runtime *rt, unsigned flags)
{
	char path[4096], pid[32] = "";
	if ((size_t)snprintf(path, sizeof path, "%s/lock", rt->data) >= sizeof path)
		return usage_fault("%s: the path is too long", rt->data), 1;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return usage_fault("%s: cannot be opened: %s", path, strerror(errno)), 1;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
		pid[n > 0 ? n : 0] = 0;
		close(fd);
		return usage_fault("%s is in use by another scaidrived (process %.*s). Stop it first, or %s.", rt->data,
		                   (int)strcspn(pid, "\n"), pid,
		                   flags & RUNTIME_IMPORT ? "bring the files in with `scaidrive sync`, which a running server takes"
		                                          : "name another folder with --data"), 1;
	}
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		log_warn("the process number could not be noted in the lock", LOG_C("path", path));
	rt->lock_fd = fd;
	return 0;
}

/* What db_migrate would not leave as it is cannot be checked. */
static int schema_is_ours(struct db *db, char **why)
{
	int64_t number = 0;
	int err = db_schema_number(db, &number);
	if (!err && number == (int64_t)schema_n_migrations)
		return 0;
	const char *advice = number < (int64_t)schema_n_migrations ? " (scaidrived migrate brings it there)" : "";
	if (asprintf(why, "it has schema %lld; this program checks schema %zu%s", (long long)number, schema_n_migrations,
	             advice) < 0)
		*why = NULL;
	return E_DB;
}

static bool make_room(void *arg)
{
	struct runtime *rt = arg;
	return rt->reserve && reserve_release(rt->reserve);
}

static int open_database(struct runtime *rt, unsigned flags)
{
	char *why = NULL;
	const char *url = config_text(rt->config, CFG_DATABASE_URL);
	if (*url)
		rt->database_url = strdup(url);
	else if (asprintf(&rt->database_url, "sqlite:%s/scaidrive.db", rt->data) < 0)
		rt->database_url = NULL;
	must(rt->database_url);
	struct db_config c = {
	    .url = rt->database_url,
	    .readers = (int)config_int(rt->config, CFG_DATABASE_READERS),
	    .inline_writes = !(flags & RUNTIME_SERVE),
	    .read_only = (flags & (RUNTIME_CHECK | RUNTIME_REPAIR)) == RUNTIME_CHECK,
	    .make_room = make_room,
	    .make_room_arg = rt,
	    .clock = &clock_system,
	};
	int err = db_open(&c, &rt->db, &why);
	if (!err && (flags & RUNTIME_CHECK))
		err = schema_is_ours(rt->db, &why);
	else if (!err && !(flags & RUNTIME_RESTORE))
		err = db_migrate(rt->db, schema_migrations, schema_n_migrations, &why);
	if (err)
		usage_fault("the database cannot be used: %s", why ? why : err_info(err)->sentence);
	free(why);
	return err ? 1 : 0;
}

/* A disk rooted at a folder of the data folder. */
static int open_disk(struct runtime *rt, const char *name, struct disk **out)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s/%s", rt->data, name) >= sizeof path)
		return usage_fault("%s: the path is too long", rt->data), 1;
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return usage_fault("%s: cannot be made: %s", path, strerror(errno)), 1;
	/* A pack's file and folder are made durable by the store; that the store's own folder is there is for us to see to, also
	 * when an earlier run made it and did not live to sync it. */
	if (!sync_folder(rt->data))
		return usage_fault("%s: cannot be synced: %s", rt->data, strerror(errno)), 1;
	int err = disk_posix_open(path, out);
	return err ? (usage_fault("%s: cannot be opened: %s", path, err_info(err)->sentence), 1) : 0;
}

static int open_store(struct runtime *rt)
{
	int code = open_disk(rt, "packs", &rt->disk);
	if (!code)
		code = open_disk(rt, "uploads", &rt->staging);
	if (code)
		return code;
	int64_t margin = config_int(rt->config, CFG_STORAGE_MARGIN), reserve = config_int(rt->config, CFG_STORAGE_RESERVE);
	disk_keep_room(rt->disk, margin);
	disk_keep_room(rt->staging, margin);
	if (reserve && strcmp(db_engine(rt->db), "sqlite") == 0)
		rt->reserve = reserve_open(rt->disk, reserve, margin);
	enum whose_packs whose;
	int err = mark_check(rt->db, rt->disk, &whose);
	if (!err && whose == PACKS_ORPHANED)
		return usage_fault("%s/packs holds packs, and the database knows of none of them: it is another one, or it was lost"
		                   " (scaidrived fsck --rebuild, with no database there)", rt->data), 1;
	if (!err && whose == PACKS_FOREIGN)
		return usage_fault("the contents of this database lie in another data folder than %s (its packs/mark is another)",
		                   rt->data), 1;
	if (!err)
		err = store_open(&(struct store_config){rt->disk, rt->db, &rt->ids, &clock_system, true}, &rt->store);
	if (err)
		return usage_fault("%s: the chunk store cannot be opened: %s", rt->data, err_info(err)->sentence), 1;
	return 0;
}

static void lease_lost(void)
{
	/* Ids could repeat from here on: stop, and let the supervisor start us with another number. */
	log_error("the lease of this node's number is lost; stopping");
	kill(getpid(), SIGTERM);
}

/* As it is there, for reading; a folder that was never made is no fault. */
static int open_there(struct runtime *rt, const char *name, struct disk **out)
{
	char path[4096];
	if ((size_t)snprintf(path, sizeof path, "%s/%s", rt->data, name) >= sizeof path)
		return usage_fault("%s: the path is too long", rt->data), 1;
	int err = disk_posix_open(path, out);
	if (err && err != E_NOT_FOUND)
		return usage_fault("%s: cannot be opened: %s", path, err_info(err)->sentence), 1;
	return 0;
}

static int open_store_to_read(struct runtime *rt)
{
	struct store_config c = {.disk = rt->disk, .db = rt->db, .ids = &rt->ids, .clock = &clock_system, .read_only = true};
	if (rt->disk && store_open(&c, &rt->store))
		return usage_fault("%s: the chunk store cannot be opened", rt->data), 1;
	return 0;
}

/* A data folder that such work has begun to fill is for that work alone. */
static int refuse_half_filled(const struct runtime *rt)
{
	int code = begun_refuse(rt, RESTORING);
	return (code ? code : begun_refuse(rt, REBUILDING)) ? 1 : 0;
}

static int open_check(struct runtime *rt, unsigned flags)
{
	struct stat st;
	if (stat(rt->data, &st) != 0 || !S_ISDIR(st.st_mode))
		return usage_fault("%s: is not a data folder", rt->data), 1;
	int code = take_lock(rt, flags);
	if (!code)
		code = refuse_half_filled(rt);
	if (!code)
		code = open_database(rt, flags);
	if (!code)
		code = open_there(rt, "packs", &rt->disk);
	if (!code)
		code = open_there(rt, "uploads", &rt->staging);
	idgen_init(&rt->ids, &clock_system, 0);
	if (!code && drive_follow_ids(rt->db, &rt->ids, &rng_system))
		return usage_fault("the database cannot be read"), 1;
	rt->drive = (struct drive){.db = rt->db, .ids = &rt->ids, .clock = &clock_system, .rng = &rng_system, .packs = rt->disk};
	/* a repair needs no store, and would change what it has read */
	return code || (flags & RUNTIME_REPAIR) ? code : open_store_to_read(rt);
}

/* Ids of two processes must differ: the embedded server is number 0, tools beside it draw one, and servers that share a
 * database lease one each. */
static int choose_number(struct runtime *rt, bool serve)
{
	int64_t number = 0;
	if (!serve)
		number = 512 + (int64_t)rng_below(&rng_system, 512);
	else if (strcmp(db_engine(rt->db), "sqlite") != 0 && node_lease_take(&rt->drive, lease_lost, &rt->lease, &number))
		return usage_fault("no node number could be leased from the database"), 1;
	idgen_init(&rt->ids, &clock_system, number);
	return drive_follow_ids(rt->db, &rt->ids, &rng_system) ? usage_fault("the database cannot be read"), 1 : 0;
}

/* Half of the bulk workers, so that the others serve; and no more than there are processors to hash. */
static int assembling_max(const struct config *config)
{
	int64_t half = (config_int(config, CFG_LANES_BULK) + 1) / 2, cores = sysconf(_SC_NPROCESSORS_ONLN);
	return (int)(cores > 0 && cores < half ? cores : half);
}

static int open_all(struct runtime *rt, unsigned flags)
{
	bool serve = flags & RUNTIME_SERVE, restore = flags & RUNTIME_RESTORE;
	int code = make_folder(rt->data);
	if (!code && (serve || restore))
		code = take_lock(rt, flags);
	if (!code && !restore)
		code = refuse_half_filled(rt);
	if (!code)
		code = open_database(rt, flags);
	if (code)
		return code;
	must(asprintf(&rt->catalog, "%s/packs/" CATALOG_FOLDER, rt->data) >= 0);
	rt->drive = (struct drive){
	    .db = rt->db,
	    .ids = &rt->ids,
	    .clock = &clock_system,
	    .rng = &rng_system,
	    .scrub_bytes_per_s = config_int(rt->config, CFG_SCRUB_BYTES_PER_S),
	    .catalog = rt->catalog,
	    .file_max_bytes = config_int(rt->config, CFG_LIMITS_FILE_MAX_BYTES),
	    .assembling_max = assembling_max(rt->config),
	};
	rt->ctx.drive = &rt->drive;
	if (restore) /* it makes no ids, and there may be no tables yet */
		return open_disk(rt, "packs", &rt->disk);
	code = choose_number(rt, serve);
	if (!code && serve)
		code = open_store(rt);
	if (!code && (flags & RUNTIME_READ))
		code = open_there(rt, "packs", &rt->disk);
	if (!code && (flags & RUNTIME_READ))
		code = open_store_to_read(rt);
	if (code)
		return code;
	rt->drive.store = rt->store;
	rt->drive.packs = rt->disk;
	struct tokens_config t = {
	    .drive = &rt->drive,
	    .issuer = config_text(rt->config, CFG_AUTH_ISSUER),
	    .ttl_s = config_int(rt->config, CFG_AUTH_TOKEN_TTL),
	    .refresh_ttl_s = config_int(rt->config, CFG_AUTH_REFRESH_TTL),
	    .login = {config_int(rt->config, CFG_AUTH_LOGIN_ATTEMPTS), config_int(rt->config, CFG_AUTH_LOGIN_WINDOW)},
	};
	int err = tokens_open(&rt->ctx, &t, &rt->tokens);
	if (err)
		return runtime_fault(rt, err);
	rt->drive.tokens = rt->tokens;
	if (serve)
		err = uploads_open(&rt->drive, rt->staging, &rt->uploads);
	if (err)
		return runtime_fault(rt, err);
	rt->drive.uploads = rt->uploads;
	return 0;
}

int runtime_open(const struct config *config, unsigned flags, struct runtime *out)
{
	*out = (struct runtime){.config = config, .lock_fd = -1};
	umask(077);
	arena_init(&out->arena);
	ctx_init(&out->ctx, &out->arena, &clock_system, &rng_system);
	out->data = strdup(config_text(config, CFG_DATA));
	must(out->data);
	for (size_t n = strlen(out->data); n > 1 && out->data[n - 1] == '/';)
		out->data[--n] = 0;
	int code = flags & RUNTIME_CHECK ? open_check(out, flags) : open_all(out, flags);
	if (code)
		runtime_close(out);
	return code;
}

void runtime_close(struct runtime *rt)
{
	uploads_close(rt->uploads);
	collect_close(&rt->drive);
	tokens_close(rt->tokens);
	if (rt->store)
		store_close(rt->store);
	if (rt->lease)
		node_lease_drop(rt->lease);
	if (rt->db)
		db_close(rt->db);
	reserve_close(rt->reserve);
	if (rt->disk)
		disk_free(rt->disk);
	if (rt->staging)
		disk_free(rt->staging);
	if (rt->lock_fd >= 0)
		close(rt->lock_fd);
	if (rt->database_url)
		explicit_bzero(rt->database_url, strlen(rt->database_url));
	free(rt->database_url);
	free(rt->catalog);
	free(rt->data);
	arena_fini(&rt->arena);
	*rt = (struct runtime){.lock_fd = -1};
}

int runtime_fault(const struct runtime *rt, int err)
{
	struct str s = ctx_detail(&rt->ctx, err);
	return usage_fault("%.*s", STR_ARG(s)), 1;
}
