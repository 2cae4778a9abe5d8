/* What everything here stands on: how a path is resolved, and what is found there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/limits.h"
#include "client/root_posix.h"

bool stamp_same_file(const struct disk_stamp *a, const struct disk_stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns;
}

bool stamp_same(const struct disk_stamp *a, const struct disk_stamp *b)
{
	return stamp_same_file(a, b) && a->ctime_ns == b->ctime_ns;
}

int posix_fail(struct ctx *ctx, int saved, const char *what, struct str path)
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
int posix_open_beneath(const struct posix_root *r, struct str path, int flags)
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
int posix_open_folder(const struct posix_root *r, struct str path)
{
	if (path.n == 0)
		return openat(r->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = posix_open_beneath(r, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0 && (errno == ENOSYS || errno == EPERM))
		return walk_to(r, path);
	return fd;
}

/* The folder that holds path, and the last name. */
int posix_open_parent(const struct posix_root *r, struct str path, char name[NAME_MAX + 1])
{
	ptrdiff_t slash = str_rchr(path, '/');
	struct str last = str_skip(path, slash < 0 ? 0 : (size_t)slash + 1);
	if (last.n == 0 || last.n > NAME_MAX || !is_plain(last) || memchr(last.p, 0, last.n)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(name, last.p, last.n);
	name[last.n] = 0;
	return posix_open_folder(r, slash < 0 ? STR("") : str_head(path, (size_t)slash));
}

/* ---- what lies there ---- */

static int64_t ns_of(struct statx_timestamp t)
{
	int64_t ns;
	if (__builtin_mul_overflow((int64_t)t.tv_sec, INT64_C(1000000000), &ns))
		return 0;
	return ns + t.tv_nsec;
}

int posix_entry(const struct posix_root *r, int at, const char *name, struct root_entry *out)
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

/* An inode is used again soon after its file went, perhaps by a folder of the same name: the birth tells them apart. */
bool posix_same_thing(const struct root_entry *e, const struct disk_stamp *assumed)
{
	bool born_together = !assumed->birth_ns || !e->stamp.birth_ns || e->stamp.birth_ns == assumed->birth_ns;
	return e->stamp.dev == assumed->dev && e->stamp.ino == assumed->ino && born_together;
}

/* A read lease says so (fcntl(2)): it is refused while a program has the file open for writing. Where there are no leases, or the
 * file is another user's: no. */
bool posix_is_held(int fd)
{
	bool held = fcntl(fd, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK); /* at once: whoever opens it for writing meanwhile waits for us */
	return held;
}

int posix_no_replace(int from_at, const char *from, int to_at, const char *to)
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
