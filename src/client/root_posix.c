/* The root itself: opened, marked, locked, and known again. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/must.h"
#include "client/root_posix.h"
#include "reconcile/guard.h"

enum { MARKER_MAX = 4096 };

static int read_marker(const struct posix_root *r, char out[MARKER_MAX], size_t *n)
{
	AUTO_FD int fd = r->own < 0 ? -1 : openat(r->own, "id", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		errno = r->own < 0 ? ENOENT : errno;
		return -1;
	}
	ssize_t got = read(fd, out, MARKER_MAX);
	*n = got > 0 ? str_trim(str_n(out, (size_t)got)).n : 0;
	return got < 0 ? -1 : 0;
}

static int posix_check(struct root *face, struct ctx *ctx)
{
	struct posix_root *r = (struct posix_root *)face;
	struct stat now, held;
	char marker[MARKER_MAX];
	size_t n = 0;
	struct guard_root_facts f = {.is_there = stat(r->path, &now) == 0 && fstat(r->fd, &held) == 0};
	f.same_disk = f.is_there && now.st_dev == held.st_dev;
	f.same_folder = f.same_disk && now.st_ino == held.st_ino;
	if (f.same_folder && !r->marker.p)
		return 0; /* only looking, at what was never synced */
	f.has_marker = f.same_folder && read_marker(r, marker, &n) == 0;
	struct str text = str_n(marker, n);
	f.marker_is_ours = f.has_marker && str_eq(str_cut(&text, '\n'), r->marker);
	switch (guard_root(&f)) {
	case GUARD_ROOT_OK:
		return 0;
	case GUARD_ROOT_MISSING:
		return ctx_fail(ctx, E_NOT_FOUND, "The synced folder %s is not where it was. Nothing was deleted. Mount it or move it back, then start again.", r->path);
	case GUARD_OTHER_DISK:
		return ctx_fail(ctx, E_NOT_FOUND, "Another disk is mounted at %s, or its own is not. Nothing was deleted. Mount the right one, then start again.", r->path);
	case GUARD_MARKER_MISSING:
	case GUARD_MARKER_FOREIGN:
		break;
	}
	return ctx_fail(ctx, E_NOT_FOUND, "The marker %s/%s/id is missing or not ours. Nothing was deleted. Put the right folder back, or sync into a new one.", r->path, ROOT_OWN_NAME);
}

static void posix_free(struct root *face)
{
	struct posix_root *r = (struct posix_root *)face;
	int *fds[] = {&r->fd, &r->own, &r->trash, &r->lock};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
	for (int i = 0; i < ROOMS; i++)
		if (r->rooms[i] >= 0)
			close(r->rooms[i]);
	free(r->path);
	free((void *)(uintptr_t)r->marker.p);
	free(r);
}

static int own_folder(int at, const char *name)
{
	if (mkdirat(at, name, 0700) && errno != EEXIST)
		return -1;
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Files that a crash left in staging were never part of the tree. */
static void sweep_room(int room)
{
	int fd = openat(room, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	while (dir && (d = readdir(dir)) != NULL)
		if (!strncmp(d->d_name, "new-", 4))
			unlinkat(room, d->d_name, 0);
	if (dir)
		closedir(dir);
}

static int open_staging(struct posix_root *r)
{
	AUTO_FD int staging = own_folder(r->own, "staging");
	for (int i = 0; staging >= 0 && i < ROOMS; i++)
		if ((r->rooms[i] = own_folder(staging, (char[]){(char)(i < 10 ? '0' + i : 'a' + i - 10), 0})) < 0)
			return -1;
	return staging < 0 ? -1 : 0;
}

static int write_marker(struct posix_root *r, struct ctx *ctx, const struct root_mark *mark, int64_t generation)
{
	struct str text = arena_fmt(ctx->arena, "%.*s\n%.*s\n%.*s\n%lld\n", STR_ARG(mark->id), STR_ARG(mark->share), STR_ARG(mark->server), (long long)generation);
	unlinkat(r->own, "id.new", 0);
	AUTO_FD int fd = openat(r->own, "id.new", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n || fsync(fd) || renameat(r->own, "id.new", r->own, "id") ||
	    fsync(r->own) || fsync(r->fd))
		return posix_fail(ctx, errno, "cannot write", STR(ROOT_OWN_NAME "/id"));
	r->face.generation = generation;
	return 0;
}

/* 0: a marker of before there were generations. */
static struct root_mark parse_marker(struct str text, int64_t *generation)
{
	struct root_mark mark = {.id = str_cut(&text, '\n')};
	mark.share = str_cut(&text, '\n');
	mark.server = str_cut(&text, '\n');
	if (!str_to_i64(str_cut(&text, '\n'), generation) || *generation < 0 || *generation == INT64_MAX)
		*generation = 0;
	return mark;
}

static int posix_set_generation(struct root *face, struct ctx *ctx, int64_t generation)
{
	struct posix_root *r = (struct posix_root *)face;
	char marker[MARKER_MAX];
	size_t n = 0;
	int64_t before;
	int err = posix_check(face, ctx);
	if (err)
		return err;
	if (read_marker(r, marker, &n))
		return posix_fail(ctx, errno, "cannot read", STR(ROOT_OWN_NAME "/id"));
	struct root_mark mark = parse_marker(str_n(marker, n), &before);
	return write_marker(r, ctx, &mark, generation);
}

static const struct root_ops posix_ops = {
    .list = posix_list,
    .stat = posix_stat,
    .open = posix_open,
    .read = posix_read,
    .read_at = posix_read_at,
    .file_stat = posix_file_stat,
    .is_written = posix_is_written,
    .close = posix_close,
    .stage = posix_stage,
    .stage_write = posix_stage_write,
    .stage_copy = posix_stage_copy,
    .stage_commit = posix_stage_commit,
    .stage_abort = posix_stage_abort,
    .stage_seal = posix_stage_seal,
    .settle = posix_settle,
    .stage_place = posix_stage_place,
    .make_folder = posix_make_folder,
    .rename = posix_rename,
    .trash = posix_trash,
    .discard = posix_discard,
    .set_mode = posix_set_mode,
    .remove_folder = posix_remove_folder,
    .set_generation = posix_set_generation,
    .check = posix_check,
    .free = posix_free,
};

static int take_marker(struct posix_root *r, struct ctx *ctx, bool may_mark, bool looking, const struct root_mark *mark)
{
	char marker[MARKER_MAX];
	size_t n = 0;
	if (read_marker(r, marker, &n) == 0) {
		struct root_mark was = parse_marker(str_n(marker, n), &r->face.generation);
		bool same = str_eq(was.share, mark->share) && str_eq(was.server, mark->server);
		if (str_eq(was.id, mark->id))
			return same || looking ? 0 : write_marker(r, ctx, mark, r->face.generation); /* the server has moved */
		r->face.generation = 0;
		if (may_mark && same)
			return looking ? 0 : write_marker(r, ctx, mark, 0);
		return ctx_fail(ctx, E_CONFLICT, "%s is synced with share %.*s of %.*s by another state folder. Use the --state that synced it, or choose another folder. If that state is lost and the folder shall be synced with this share from now on, remove the file %s/%s/id and start again: what is equal on both sides is adopted, what differs is kept twice, nothing is deleted.", r->path, STR_ARG(was.share.n ? was.share : STR("(unknown)")), STR_ARG(was.server.n ? was.server : STR("(unknown)")), r->path, ROOT_OWN_NAME);
	}
	if (errno != ENOENT)
		return posix_fail(ctx, errno, "cannot read", STR(ROOT_OWN_NAME "/id"));
	if (!may_mark)
		return ctx_fail(ctx, E_NOT_FOUND, "%s has lost its marker %s/id, so it may not be the folder that was synced. Nothing was deleted. Put the right folder back (is its disk mounted?), or sync into a new one.", r->path, ROOT_OWN_NAME);
	return looking ? 0 : write_marker(r, ctx, mark, 0);
}

/* Does this file system take "A" and "a" for one name? */
static bool folds(const struct posix_root *r)
{
	struct stat st;
	return fstatat(r->own, "STAGING", &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Does a file that was told to be executable, or not to be, obey? */
static bool is_modeless(const struct posix_root *r)
{
	struct stat st;
	bool obeys = fchmod(r->lock, 0700) == 0 && fstat(r->lock, &st) == 0 && (st.st_mode & S_IXUSR);
	return !(fchmod(r->lock, 0600) == 0 && fstat(r->lock, &st) == 0 && !(st.st_mode & S_IXUSR) && obeys);
}

static struct posix_root *new_root(const char *path, struct str id)
{
	struct posix_root *r = calloc(1, sizeof(*r));
	must(r != NULL);
	r->face.ops = &posix_ops;
	signal(SIGIO, SIG_IGN); /* a lease that somebody's open breaks tells its holder so, and the default is to end it */
	r->own = r->trash = r->lock = -1;
	for (int i = 0; i < ROOMS; i++)
		r->rooms[i] = -1;
	r->path = realpath(path, NULL);
	r->umask = umask(022);
	umask(r->umask);
	r->marker = id.p ? str_n(strndup(id.p, id.n), id.n) : STR_NULL;
	r->fd = r->path ? open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return r;
}

int root_open_to_look(struct ctx *ctx, const char *path, const struct root_mark *mark, struct root **out)
{
	struct posix_root *r = new_root(path, mark ? mark->id : STR_NULL);
	struct stat st;
	int err = r->fd < 0 || fstat(r->fd, &st) ? posix_fail(ctx, errno, "cannot use the folder", str_c(path)) : 0;
	if (!err) {
		r->dev = st.st_dev;
		r->own = openat(r->fd, ROOT_OWN_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r->face.fold = r->own >= 0 && folds(r);
	}
	if (!err && mark)
		err = take_marker(r, ctx, !mark->id.p, true, mark);
	if (err) {
		posix_free(&r->face);
		return err;
	}
	*out = &r->face;
	return 0;
}

int root_open(struct ctx *ctx, const char *path, bool fresh, const struct root_mark *mark, struct root **out)
{
	if (fresh && mkdir(path, 0777) && errno != EEXIST)
		return posix_fail(ctx, errno, "cannot create", str_c(path));
	struct posix_root *r = new_root(path, mark->id);
	struct stat st;
	int err = 0;
	if (r->fd < 0 || fstat(r->fd, &st) || (r->own = own_folder(r->fd, ROOT_OWN_NAME)) < 0 ||
	    open_staging(r) || (r->trash = own_folder(r->own, "trash")) < 0)
		err = posix_fail(ctx, errno, "cannot use the folder", str_c(path));
	if (!err) {
		r->dev = st.st_dev;
		r->lock = openat(r->own, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (r->lock < 0 || flock(r->lock, LOCK_EX | LOCK_NB))
			err = ctx_fail(ctx, E_LEASE, "Another process is syncing %s. Stop it first (see `scaidrive status`).", path);
	}
	if (!err)
		err = take_marker(r, ctx, fresh, false, mark);
	if (err) {
		posix_free(&r->face);
		return err;
	}
	for (int i = 0; i < ROOMS; i++)
		sweep_room(r->rooms[i]);
	r->face.fold = folds(r);
	r->face.modeless = is_modeless(r);
	*out = &r->face;
	return 0;
}

void root_free(struct root *r)
{
	if (r)
		r->ops->free(r);
}
