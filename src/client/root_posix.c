#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/must.h"
#include "client/root.h"
#include "reconcile/guard.h"

/* Files are staged in several folders, so many in a row in each: then one thread can fill one while another empties an earlier one, and
 * neither waits for the folder's lock; and names are looked for among few, ext4 going through a block of them each time. */
enum { MARKER_MAX = 4096, ROOMS = 32, ROOM_RUN = 125, COPY_BLOCK = 4096, COPY_PIECE = 8 << 20, COPY_WINDOW = 256 << 10 };

struct posix_root {
	struct root face;
	int fd, own, trash; /* descriptors of the root and of our own folders */
	int rooms[ROOMS];   /* of staging */
	int lock;
	dev_t dev;
	mode_t umask;
	char *path;
	struct str marker; /* its id */
	_Atomic unsigned next_stage;
};

struct root_file {
	int fd;
};

struct root_stage {
	struct posix_root *root;
	int room; /* descriptor of its folder, the root's */
	int fd;   /* -1: sealed */
	char name[64];
	struct disk_stamp sealed;
};

bool stamp_same_file(const struct disk_stamp *a, const struct disk_stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns;
}

bool stamp_same(const struct disk_stamp *a, const struct disk_stamp *b)
{
	return stamp_same_file(a, b) && a->ctime_ns == b->ctime_ns;
}

static int fail_errno(struct ctx *ctx, int saved, const char *what, struct str path)
{
	char text[128];
	return ctx_fail(ctx, saved == EEXIST || saved == ENOTEMPTY ? E_CONFLICT : err_from_errno(saved), "%s \"%.*s\": %s",
	                what, STR_ARG(path), strerror_r(saved, text, sizeof(text)));
}

/* ---- paths ---- */

/* One component at a time, for kernels and sandboxes without openat2. */
static int walk_to(const struct posix_root *r, struct str path)
{
	int at = fcntl(r->fd, F_DUPFD_CLOEXEC, 3);
	while (at >= 0 && path.n) {
		struct str name = str_cut(&path, '/');
		char buf[NAME_MAX + 1];
		struct stat st;
		if (name.n > NAME_MAX) {
			close(at);
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(buf, name.p, name.n);
		buf[name.n] = 0;
		int next = openat(at, buf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int saved = errno;
		close(at);
		if (next >= 0 && (fstat(next, &st) || st.st_dev != r->dev)) {
			close(next);
			next = -1;
			saved = EXDEV;
		}
		errno = saved;
		at = next;
	}
	return at;
}

/* Names only: nothing that means another place, however the kernel would take it. */
static bool is_plain(struct str path)
{
	while (path.p && path.n) {
		struct str name = str_cut(&path, '/');
		if (!name.n || str_eq(name, STR(".")) || str_eq(name, STR("..")))
			return false;
	}
	return true;
}

/* What lies at the path, below the root and on its file system; -1 and errno. */
static int open_beneath(const struct posix_root *r, struct str path, int flags)
{
	char buf[LIMIT_PATH_BYTES + 1];
	if (path.n > LIMIT_PATH_BYTES || !is_plain(path) || memchr(path.p, 0, path.n)) {
		errno = path.n > LIMIT_PATH_BYTES ? ENAMETOOLONG : EINVAL;
		return -1;
	}
	memcpy(buf, path.p, path.n);
	buf[path.n] = 0;
	struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC,
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	return (int)syscall(SYS_openat2, r->fd, buf, &how, sizeof(how));
}

/* A folder of the root; -1 and errno. */
static int open_folder(const struct posix_root *r, struct str path)
{
	if (path.n == 0)
		return openat(r->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = open_beneath(r, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		return walk_to(r, path);
	return fd;
}

/* The folder that holds path, and the last name. */
static int open_parent(const struct posix_root *r, struct str path, char name[NAME_MAX + 1])
{
	ptrdiff_t slash = str_rchr(path, '/');
	struct str last = str_skip(path, slash < 0 ? 0 : (size_t)slash + 1);
	if (last.n == 0 || last.n > NAME_MAX || !is_plain(last) || memchr(last.p, 0, last.n)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(name, last.p, last.n);
	name[last.n] = 0;
	return open_folder(r, slash < 0 ? STR("") : str_head(path, (size_t)slash));
}

static int64_t ns_of(struct statx_timestamp t)
{
	int64_t ns;
	if (__builtin_mul_overflow((int64_t)t.tv_sec, INT64_C(1000000000), &ns))
		return 0;
	return ns + t.tv_nsec;
}

static int entry_of(const struct posix_root *r, int at, const char *name, struct root_entry *out)
{
	struct statx st;
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
	if (statx(at, name, flags, STATX_BASIC_STATS | STATX_BTIME, &st))
		return -1;
	dev_t dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	out->kind = S_ISREG(st.stx_mode) ? ENTRY_FILE : S_ISDIR(st.stx_mode) ? ENTRY_FOLDER : ENTRY_OTHER;
	if (out->kind == ENTRY_FOLDER && dev != r->dev)
		out->kind = ENTRY_OTHER;
	out->executable = out->kind == ENTRY_FILE && (st.stx_mode & S_IXUSR);
	out->stamp = (struct disk_stamp){.dev = dev,
	                                 .ino = st.stx_ino,
	                                 .birth_ns = st.stx_mask & STATX_BTIME ? ns_of(st.stx_btime) : 0,
	                                 .mtime_ns = ns_of(st.stx_mtime),
	                                 .ctime_ns = ns_of(st.stx_ctime),
	                                 .size_bytes = (int64_t)st.stx_size};
	return 0;
}

/* ---- reading ---- */

static int posix_list(struct root *face, struct ctx *ctx, struct str path, struct root_entry **out, size_t *n)
{
	struct posix_root *r = (struct posix_root *)face;
	int fd = open_folder(r, path);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int saved = errno;
		if (fd >= 0)
			close(fd);
		return fail_errno(ctx, saved, "cannot read the folder", path);
	}
	size_t cap = 0;
	struct dirent *d;
	*out = NULL;
	*n = 0;
	while (errno = 0, (d = readdir(dir)) != NULL) {
		struct root_entry e;
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || (!path.n && !strcmp(d->d_name, ROOT_OWN_NAME)))
			continue;
		if (entry_of(r, dirfd(dir), d->d_name, &e)) {
			if (errno == ENOENT)
				continue; /* went away meanwhile */
			break;
		}
		e.name = arena_str(ctx->arena, str_c(d->d_name));
		if (*n == cap) {
			cap = cap ? cap * 2 : 32;
			struct root_entry *more = arena_many(ctx->arena, cap, struct root_entry);
			if (*n)
				memcpy(more, *out, *n * sizeof(*more));
			*out = more;
		}
		(*out)[(*n)++] = e;
	}
	int saved = errno;
	closedir(dir);
	return saved ? fail_errno(ctx, saved, "cannot read the folder", path) : 0;
}

static int posix_stat(struct root *face, struct ctx *ctx, struct str path, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	AUTO_FD int at = open_parent(r, path, name);
	if (at < 0 || entry_of(r, at, name, out))
		return fail_errno(ctx, errno, "cannot look at", path);
	return 0;
}

/* In one call where that can be; a file may be a mount of its own. O_NONBLOCK: a pipe that took its place must not hang us. */
static int open_file(const struct posix_root *r, struct str path)
{
	enum { HOW = O_RDONLY | O_NOFOLLOW | O_NONBLOCK };
	char name[NAME_MAX + 1];
	int fd = open_beneath(r, path, HOW);
	if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EXDEV))
		return fd;
	AUTO_FD int at = open_parent(r, path, name);
	return at < 0 ? -1 : openat(at, name, HOW | O_CLOEXEC);
}

static int posix_open(struct root *face, struct ctx *ctx, struct str path, struct root_file **out,
                      struct root_entry *entry)
{
	struct posix_root *r = (struct posix_root *)face;
	int fd = open_file(r, path);
	if (fd < 0)
		return fail_errno(ctx, errno, "cannot open", path);
	if (entry_of(r, fd, "", entry) || entry->kind != ENTRY_FILE) {
		close(fd);
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" is not a file any more", STR_ARG(path));
	}
	struct root_file *f = calloc(1, sizeof(*f));
	must(f != NULL);
	f->fd = fd;
	*out = f;
	return 0;
}

static int posix_read(struct root_file *f, void *out, size_t cap, size_t *got)
{
	ssize_t n;
	do {
		n = read(f->fd, out, cap);
	} while (n < 0 && errno == EINTR);
	*got = n > 0 ? (size_t)n : 0;
	return n < 0 ? err_from_errno(errno) : 0;
}

static int posix_read_at(struct root_file *f, int64_t offset, void *out, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t got = pread(f->fd, (char *)out + done, n - done, offset + (off_t)done);
		if (got < 0 && errno != EINTR)
			return err_from_errno(errno);
		if (got == 0)
			return E_CHANGED;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

static int posix_file_stat(struct root_file *f, struct root_entry *entry)
{
	struct posix_root none = {0};
	return entry_of(&none, f->fd, "", entry) ? err_from_errno(errno) : 0;
}

/* A read lease says so (fcntl(2)): it is refused while a program has the file open for writing. Where there are no leases, or the
 * file is another user's: no. */
static bool is_held(int fd)
{
	bool held = fcntl(fd, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK); /* at once: whoever opens it for writing meanwhile waits for us */
	return held;
}

static bool posix_is_written(struct root_file *f)
{
	return is_held(f->fd);
}

static void posix_close(struct root_file *f)
{
	close(f->fd);
	free(f);
}

/* ---- writing ---- */

static int posix_stage(struct root *face, struct ctx *ctx, struct root_stage **out)
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
		return fail_errno(ctx, saved, "cannot create a file in", STR(ROOT_OWN_NAME "/staging"));
	}
	*out = s;
	return 0;
}

static int posix_stage_write(struct root_stage *s, const void *p, size_t n)
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

static int posix_stage_copy(struct root_stage *s, struct root_file *f, int64_t offset, int64_t n, struct sha256_state *sha)
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

static void posix_stage_abort(struct root_stage *s)
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

static int exchange(const struct root_stage *s, int at, const char *name)
{
	return (int)syscall(SYS_renameat2, s->room, s->name, at, name, RENAME_EXCHANGE);
}

static int no_replace(int from_at, const char *from, int to_at, const char *to)
{
	int rc = (int)syscall(SYS_renameat2, from_at, from, to_at, to, RENAME_NOREPLACE);
	if (rc == 0 || (errno != EINVAL && errno != ENOSYS))
		return rc;
	struct stat st; /* a file system without the flag: link for files, a check for folders */
	if (fstatat(from_at, from, &st, AT_SYMLINK_NOFOLLOW))
		return -1;
	if (S_ISREG(st.st_mode) && linkat(from_at, from, to_at, to, 0) == 0)
		return unlinkat(from_at, from, 0);
	if (S_ISREG(st.st_mode) && errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
		return -1;
	if (fstatat(to_at, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(from_at, from, to_at, to);
}

static bool being_written(int at, const char *name)
{
	AUTO_FD int fd = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd >= 0 && is_held(fd);
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
		} else if (errno == ENOENT && no_replace(s->room, s->name, at, name) == 0) {
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
	if (entry_of(r, at, name, &e))
		return errno == ENOENT ? E_CHANGED : err_from_errno(errno);
	if (e.kind != ENTRY_FILE || !stamp_same(&e.stamp, assumed) || being_written(at, name))
		return E_CHANGED;
	struct stat ours;
	if (fstatat(s->room, s->name, &ours, AT_SYMLINK_NOFOLLOW))
		return err_from_errno(errno);
	if (exchange(s, at, name) == 0) {
		bool looked = entry_of(r, s->room, s->name, &e) == 0;
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

static int posix_stage_commit(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                              int64_t mtime_us, bool executable, struct root_entry *out)
{
	struct posix_root *r = s->root;
	char name[NAME_MAX + 1];
	AUTO_FD int at = open_parent(r, path, name);
	int err = 0;
	if (at < 0 || stage_attributes(s, mtime_us, executable) || fsync(s->fd))
		err = fail_errno(ctx, errno, "cannot write", path);
	else if (assumed)
		err = replace(r, s, at, name, assumed);
	else if (no_replace(s->room, s->name, at, name))
		err = fail_errno(ctx, errno, "cannot create", path);
	if (!err && fsync(at))
		err = fail_errno(ctx, errno, "cannot sync the folder of", path);
	if (!err && entry_of(r, s->fd, "", out))
		err = fail_errno(ctx, errno, "cannot look at", path);
	if (err) {
		posix_stage_abort(s);
		return err == E_CHANGED ? ctx_fail(ctx, err, "\"%.*s\" was changed meanwhile", STR_ARG(path)) : err;
	}
	close(s->fd);
	free(s);
	return 0;
}

static int posix_stage_seal(struct root_stage *s, struct ctx *ctx, int64_t mtime_us, bool executable)
{
	struct root_entry e;
	if (stage_attributes(s, mtime_us, executable) || entry_of(s->root, s->fd, "", &e))
		return fail_errno(ctx, errno, "cannot write", str_c(s->name));
	s->sealed = e.stamp;
	if (close(s->fd)) {
		s->fd = -1;
		return fail_errno(ctx, errno, "cannot write", str_c(s->name));
	}
	s->fd = -1;
	return 0;
}

static int posix_settle(struct root *face, struct ctx *ctx)
{
	struct posix_root *r = (struct posix_root *)face;
	return syncfs(r->fd) ? fail_errno(ctx, errno, "cannot sync", str_c(r->path)) : 0;
}

static int posix_stage_place(struct root_stage *s, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                             struct root_entry *out)
{
	struct posix_root *r = s->root;
	char name[NAME_MAX + 1];
	AUTO_FD int at = open_parent(r, path, name);
	int err = 0;
	if (at < 0)
		err = fail_errno(ctx, errno, "cannot write", path);
	else if (assumed)
		err = replace(r, s, at, name, assumed);
	else if (no_replace(s->room, s->name, at, name))
		err = fail_errno(ctx, errno, "cannot create", path);
	if (err) {
		posix_stage_abort(s);
		return err == E_CHANGED ? ctx_fail(ctx, err, "\"%.*s\" was changed meanwhile", STR_ARG(path)) : err;
	}
	/* What somebody wrote into it since is not what was sealed, and must not be taken for it. */
	if (entry_of(r, at, name, out) || !stamp_same_file(&out->stamp, &s->sealed))
		err = ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	free(s);
	return err;
}

static int posix_make_folder(struct root *face, struct ctx *ctx, struct str path, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	AUTO_FD int at = open_parent(r, path, name);
	if (at < 0 || mkdirat(at, name, 0777) || entry_of(r, at, name, out))
		return fail_errno(ctx, errno, "cannot create the folder", path);
	return 0;
}

/* An inode is used again soon after its file went, perhaps by a folder of the same name: the birth tells them apart. */
static bool same_thing(const struct root_entry *e, const struct disk_stamp *assumed)
{
	bool born_together = !assumed->birth_ns || !e->stamp.birth_ns || e->stamp.birth_ns == assumed->birth_ns;
	return e->stamp.dev == assumed->dev && e->stamp.ino == assumed->ino && born_together;
}

static int posix_rename(struct root *face, struct ctx *ctx, struct str from, const struct disk_stamp *assumed,
                        struct str to, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char old_name[NAME_MAX + 1], new_name[NAME_MAX + 1];
	AUTO_FD int at = open_parent(r, from, old_name);
	AUTO_FD int to_at = at < 0 ? -1 : open_parent(r, to, new_name);
	if (to_at < 0 || entry_of(r, at, old_name, out))
		return fail_errno(ctx, errno, "cannot move", from);
	if (!same_thing(out, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was replaced meanwhile", STR_ARG(from));
	struct root_entry there;
	bool case_only = face->fold && entry_of(r, to_at, new_name, &there) == 0 && same_thing(&there, assumed);
	if (case_only ? renameat(at, old_name, to_at, new_name) : no_replace(at, old_name, to_at, new_name))
		return fail_errno(ctx, errno, "cannot move to", to);
	if (fsync(to_at) || fsync(at) || entry_of(r, to_at, new_name, out))
		return fail_errno(ctx, errno, "cannot move to", to);
	return 0;
}

enum { TRASH_NAMES_MAX = 10000 };

/* "name", then "name~2", ...: what was put in the trash before may bear the name. */
static void trash_name(char out[NAME_MAX + 1], struct str name, int attempt)
{
	if (attempt == 1)
		snprintf(out, NAME_MAX + 1, "%.*s", STR_ARG(name));
	else
		snprintf(out, NAME_MAX + 1, "%.*s~%d", (int)(name.n < 200 ? name.n : 200), name.p, attempt);
}

/* Folders of the trash are made as needed, under another name where a file bears theirs; deeper ones than the trash can hold are
 * flattened by the caller's label. */
static int trash_folder(struct posix_root *r, struct str path)
{
	int at = fcntl(r->trash, F_DUPFD_CLOEXEC, 3);
	while (at >= 0 && path.n) {
		struct str name = str_cut(&path, '/');
		char buf[NAME_MAX + 1];
		if (name.n == 0 || name.n > NAME_MAX) {
			close(at);
			errno = EINVAL;
			return -1;
		}
		int next = -1;
		for (int attempt = 1; attempt == 1 || (next < 0 && errno == ENOTDIR && attempt <= TRASH_NAMES_MAX); attempt++) {
			trash_name(buf, name, attempt);
			mkdirat(at, buf, 0700);
			next = openat(at, buf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		}
		int saved = errno;
		close(at);
		errno = saved;
		at = next;
	}
	return at;
}

static int posix_trash(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                       struct str label)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1], target[NAME_MAX + 1];
	struct root_entry e;
	ptrdiff_t slash = str_rchr(path, '/');
	struct str folder = slash < 0 ? label : arena_fmt(ctx->arena, "%.*s/%.*s", STR_ARG(label), (int)slash, path.p);
	AUTO_FD int at = open_parent(r, path, name);
	if (at < 0 || entry_of(r, at, name, &e))
		return fail_errno(ctx, errno, "cannot look at", path);
	if (e.kind != ENTRY_FILE || !stamp_same(&e.stamp, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	AUTO_FD int to = trash_folder(r, folder);
	if (to < 0)
		return fail_errno(ctx, errno, "cannot make room in the trash for", path);
	trash_name(target, str_c(name), 1);
	for (int attempt = 2; no_replace(at, name, to, target); attempt++) {
		if (errno != EEXIST || attempt > TRASH_NAMES_MAX)
			return fail_errno(ctx, errno, "cannot move to the trash", path);
		trash_name(target, str_c(name), attempt);
	}
	return fsync(to) || fsync(at) ? fail_errno(ctx, errno, "cannot sync the folder of", path) : 0;
}

static int posix_discard(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	struct root_entry e;
	must(str_starts(path, STR(ROOT_OWN_NAME "/trash/")));
	AUTO_FD int at = open_parent(r, path, name);
	if (at < 0 || entry_of(r, at, name, &e))
		return fail_errno(ctx, errno, "cannot look at", path);
	if (e.kind != ENTRY_FILE || !stamp_same(&e.stamp, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	return unlinkat(at, name, 0) ? fail_errno(ctx, errno, "cannot delete", path) : 0;
}

static int posix_set_mode(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                          bool executable, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	struct stat st;
	AUTO_FD int at = open_parent(r, path, name);
	AUTO_FD int fd = at < 0 ? -1 : openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || entry_of(r, fd, "", out) || fstat(fd, &st))
		return fail_errno(ctx, errno, "cannot look at", path);
	if (out->kind != ENTRY_FILE || !stamp_same(&out->stamp, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	/* Executable for whoever may read it, as far as the umask lets. */
	mode_t may = st.st_mode & 07777, read = (may & 0444) >> 2;
	if (fchmod(fd, executable ? may | S_IXUSR | (read & ~r->umask) : may & ~(mode_t)0111) || fsync(fd) || entry_of(r, fd, "", out))
		return fail_errno(ctx, errno, "cannot change the mode of", path);
	if (out->executable != executable)
		return ctx_fail(ctx, E_IO, "the executable bit of \"%.*s\" cannot be changed on this disk", STR_ARG(path));
	return 0;
}

static int posix_remove_folder(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	struct root_entry e;
	AUTO_FD int at = open_parent(r, path, name);
	if (at < 0 || entry_of(r, at, name, &e))
		return fail_errno(ctx, errno, "cannot look at", path);
	if (e.kind != ENTRY_FOLDER || !same_thing(&e, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was replaced meanwhile", STR_ARG(path));
	if (unlinkat(at, name, AT_REMOVEDIR) || fsync(at))
		return fail_errno(ctx, errno, "cannot remove the folder", path);
	return 0;
}

/* ---- the root itself ---- */

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
		if ((r->rooms[i] = own_folder(staging, (char[]){(char)('0' + i / 10), (char)('0' + i % 10), 0})) < 0)
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
		return fail_errno(ctx, errno, "cannot write", STR(ROOT_OWN_NAME "/id"));
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
		return fail_errno(ctx, errno, "cannot read", STR(ROOT_OWN_NAME "/id"));
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
		return fail_errno(ctx, errno, "cannot read", STR(ROOT_OWN_NAME "/id"));
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
	int err = r->fd < 0 || fstat(r->fd, &st) ? fail_errno(ctx, errno, "cannot use the folder", str_c(path)) : 0;
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
		return fail_errno(ctx, errno, "cannot create", str_c(path));
	struct posix_root *r = new_root(path, mark->id);
	struct stat st;
	int err = 0;
	if (r->fd < 0 || fstat(r->fd, &st) || (r->own = own_folder(r->fd, ROOT_OWN_NAME)) < 0 ||
	    open_staging(r) || (r->trash = own_folder(r->own, "trash")) < 0)
		err = fail_errno(ctx, errno, "cannot use the folder", str_c(path));
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
