/* Files that are written: staged, sealed, and put in their place, where another one may lie. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/must.h"
#include "client/root_posix.h"

enum { ROOM_RUN = 125, COPY_BLOCK = 4096, COPY_PIECE = 8 << 20, COPY_WINDOW = 256 << 10 };

int posix_stage(struct root *face, struct ctx *ctx, struct root_stage **out)
{
	struct posix_root *r = (struct posix_root *)face;
	struct root_stage *s = calloc(1, sizeof(*s));
	must(s != NULL);
	s->root = r;
	unsigned number = r->next_stage++;
	s->room = r->rooms[number / ROOM_RUN % ROOMS];
	snprintf(s->name, sizeof(s->name), "new-%u", number);
	/* The mode that most files keep; nobody else gets into our own folder. */
	s->fd = openat(s->room, s->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (s->fd < 0) {
		int saved = errno;
		free(s);
		return posix_fail(ctx, saved, "cannot create a file in", STR(ROOT_OWN_NAME "/staging"));
	}
	*out = s;
	return 0;
}

int posix_stage_write(struct root_stage *s, const void *p, size_t n)
{
	while (n) {
		ssize_t done = write(s->fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return err_from_errno(errno);
		p = (const char *)p + done;
		n -= (size_t)done;
	}
	return 0;
}

/* Up to n bytes, as many as were copied in one go. Blocks are shared only whole: the first piece ends where one ends. */
static int copy_piece(struct root_stage *s, struct root_file *f, int64_t offset, int64_t at, int64_t n, int64_t *done)
{
	int64_t into = at % COPY_BLOCK;
	off_t from = offset;
	n = into && n > COPY_BLOCK - into ? COPY_BLOCK - into : n > COPY_PIECE ? COPY_PIECE : n;
	ssize_t got;
	do {
		got = copy_file_range(f->fd, &from, s->fd, NULL, (size_t)n, 0);
	} while (got < 0 && errno == EINTR);
	*done = got;
	if (got > 0)
		return 0;
	if (got == 0)
		return E_CHANGED;
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP && errno != EXDEV)
		return err_from_errno(errno);
	char block[COPY_BLOCK]; /* a file system that cannot */
	*done = n > COPY_BLOCK ? COPY_BLOCK : n;
	int err = posix_read_at(f, offset, block, (size_t)*done);
	return err ? err : posix_stage_write(s, block, (size_t)*done);
}

static int hash_staged(struct root_stage *s, int64_t at, int64_t n, uint8_t *window, struct sha256_state *sha)
{
	struct root_file stage = {s->fd};
	int err = 0;
	for (int64_t k = 0; !err && n; at += k, n -= k) {
		k = n < COPY_WINDOW ? n : COPY_WINDOW;
		err = posix_read_at(&stage, at, window, (size_t)k);
		if (!err)
			sha256_update(sha, window, (size_t)k);
	}
	return err;
}

int posix_stage_copy(struct root_stage *s, struct root_file *f, int64_t offset, int64_t n, struct sha256_state *sha)
{
	int64_t at = lseek(s->fd, 0, SEEK_CUR);
	uint8_t *window = malloc(n < COPY_WINDOW ? (size_t)n : COPY_WINDOW);
	int err = at < 0 ? err_from_errno(errno) : 0;
	must(window || !n);
	for (int64_t done = 0; !err && n; offset += done, at += done, n -= done) {
		err = copy_piece(s, f, offset, at, n, &done);
		if (!err && done == COPY_PIECE) /* on its way to the disk while the next is copied */
			sync_file_range(s->fd, at, done, SYNC_FILE_RANGE_WRITE);
		if (!err)
			err = hash_staged(s, at, done, window, sha);
	}
	free(window);
	return err;
}

void posix_stage_abort(struct root_stage *s)
{
	unlinkat(s->room, s->name, 0);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

static int stage_attributes(struct root_stage *s, int64_t mtime_us, bool executable)
{
	int64_t seconds = mtime_us / 1000000, rest = mtime_us % 1000000;
	if (rest < 0) {
		rest += 1000000;
		seconds--;
	}
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = seconds, .tv_nsec = rest * 1000}};
	return (executable && fchmod(s->fd, 0777 & ~s->root->umask)) || (mtime_us && futimens(s->fd, times)) ? -1 : 0;
}

/* ---- in its place ---- */

static int exchange(const struct root_stage *s, int at, const char *name)
{
	return (int)syscall(SYS_renameat2, s->room, s->name, at, name, RENAME_EXCHANGE);
}

static bool being_written(int at, const char *name)
{
	AUTO_FD int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 && posix_is_held(fd);
}

static bool is_inode(int at, const char *name, uint64_t inode)
{
	struct stat st;
	return fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == inode;
}

/* The exchange is undone, for what was displaced is not what was assumed; ours: the inode of the staged file. Meanwhile the
 * user may have put another file in our file's place, which then comes to light here and goes back in its turn, or deleted
 * it. What cannot go back is put into the trash: it is the user's. */
static void give_back(struct root_stage *s, int at, const char *name, uint64_t ours, uint64_t displaced)
{
	for (int attempt = 0; attempt < 16; attempt++) {
		if (exchange(s, at, name) == 0) {
			/* The displaced one may come back here when a newer save has taken its place: an editor would have, too. */
			if (is_inode(s->room, s->name, ours) || (attempt && is_inode(s->room, s->name, displaced)))
				return;
		} else if (errno == ENOENT && posix_no_replace(s->room, s->name, at, name) == 0) {
			return;
		}
	}
	renameat(s->room, s->name, s->root->trash, s->name);
}

/* Puts the staged file over the one that bears the stamp. After the exchange the displaced file lies in staging and is
 * looked at once more: what somebody wrote in the last moment goes back where it was. So does a file that a program is
 * still writing: the rest of it would go into a file without a name. */
static int replace(struct posix_root *r, struct root_stage *s, int at, const char *name,
                   const struct disk_stamp *assumed)
{
	struct root_entry e;
	if (posix_entry(r, at, name, &e))
		return errno == ENOENT ? E_CHANGED : err_from_errno(errno);
	if (e.kind != ENTRY_FILE || !stamp_same(&e.stamp, assumed) || being_written(at, name))
		return E_CHANGED;
	struct stat ours;
	if (fstatat(s->room, s->name, &ours, AT_SYMLINK_NOFOLLOW))
		return err_from_errno(errno);
	if (exchange(s, at, name) == 0) {
		bool looked = posix_entry(r, s->room, s->name, &e) == 0;
		if (!looked || !stamp_same_file(&e.stamp, assumed) || being_written(s->room, s->name)) {
			give_back(s, at, name, ours.st_ino, looked ? e.stamp.ino : 0);
			return E_CHANGED;
		}
		unlinkat(s->room, s->name, 0);
		return 0;
	}
	if (errno != EINVAL && errno != ENOSYS)
		return err_from_errno(errno);
	return renameat(s->room, s->name, at, name) ? err_from_errno(errno) : 0;
}

int posix_stage_commit(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                       int64_t mtime_us, bool executable, struct root_entry *out)
{
	struct posix_root *r = s->root;
	char name[NAME_MAX + 1];
	AUTO_FD int at = posix_open_parent(r, path, name);
	int err = 0;
	if (at < 0 || stage_attributes(s, mtime_us, executable) || fsync(s->fd))
		err = posix_fail(ctx, errno, "cannot write", path);
	else if (assumed)
		err = replace(r, s, at, name, assumed);
	else if (posix_no_replace(s->room, s->name, at, name))
		err = posix_fail(ctx, errno, "cannot create", path);
	if (!err && fsync(at))
		err = posix_fail(ctx, errno, "cannot sync the folder of", path);
	if (!err && posix_entry(r, s->fd, "", out))
		err = posix_fail(ctx, errno, "cannot look at", path);
	if (err) {
		posix_stage_abort(s);
		return err == E_CHANGED ? ctx_fail(ctx, err, "\"%.*s\" was changed meanwhile", STR_ARG(path)) : err;
	}
	close(s->fd);
	free(s);
	return 0;
}

int posix_stage_seal(struct root_stage *s, struct ctx *ctx, int64_t mtime_us, bool executable)
{
	struct root_entry e;
	if (stage_attributes(s, mtime_us, executable) || posix_entry(s->root, s->fd, "", &e))
		return posix_fail(ctx, errno, "cannot write", str_c(s->name));
	s->sealed = e.stamp;
	if (close(s->fd)) {
		s->fd = -1;
		return posix_fail(ctx, errno, "cannot write", str_c(s->name));
	}
	s->fd = -1;
	return 0;
}

int posix_settle(struct root *face, struct ctx *ctx)
{
	struct posix_root *r = (struct posix_root *)face;
	return syncfs(r->fd) ? posix_fail(ctx, errno, "cannot sync", str_c(r->path)) : 0;
}

int posix_stage_place(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                      struct root_entry *out)
{
	struct posix_root *r = s->root;
	char name[NAME_MAX + 1];
	AUTO_FD int at = posix_open_parent(r, path, name);
	int err = 0;
	if (at < 0)
		err = posix_fail(ctx, errno, "cannot write", path);
	else if (assumed)
		err = replace(r, s, at, name, assumed);
	else if (posix_no_replace(s->room, s->name, at, name))
		err = posix_fail(ctx, errno, "cannot create", path);
	if (err) {
		posix_stage_abort(s);
		return err == E_CHANGED ? ctx_fail(ctx, err, "\"%.*s\" was changed meanwhile", STR_ARG(path)) : err;
	}
	/* What somebody wrote into it since is not what was sealed, and must not be taken for it. */
	if (posix_entry(r, at, name, out) || !stamp_same_file(&out->stamp, &s->sealed))
		err = ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	free(s);
	return err;
}
