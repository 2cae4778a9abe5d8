/* The disk of POSIX file calls. EINTR and short transfers end here. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/must.h"
#include "io/disk.h"

struct posix_disk {
	struct disk base;
	int root_fd;
};

struct posix_file {
	struct disk_file base;
	int fd;
};

static int root_of(struct disk *d)
{
	return ((struct posix_disk *)d)->root_fd;
}

static int fd_of(struct disk_file *f)
{
	return ((struct posix_file *)f)->fd;
}

static int open_at(int dir_fd, const char *name, int flags, mode_t mode)
{
	int fd;
	do
		fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int posix_open(struct disk *d, const char *name, int flags, struct disk_file **out)
{
	int how = flags & DISK_WRITE ? O_RDWR | O_NOFOLLOW : O_RDONLY | O_NOFOLLOW;
	if (flags & DISK_CREATE)
		how |= O_CREAT | O_EXCL;
	int fd = open_at(root_of(d), name, how, 0600);
	if (fd < 0)
		return errno == EEXIST ? E_CONFLICT : err_from_errno(errno);
	struct posix_file *f = calloc(1, sizeof *f);
	must(f != NULL);
	f->fd = fd;
	*out = &f->base;
	return E_OK;
}

static void posix_close(struct disk_file *f)
{
	close(fd_of(f));
	free(f);
}

static int posix_pread(struct disk_file *f, void *p, size_t n, int64_t offset, size_t *got)
{
	size_t done = 0;
	while (done < n) {
		ssize_t k = pread(fd_of(f), (char *)p + done, n - done, offset + (int64_t)done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return err_from_errno(errno);
		if (k == 0)
			break;
		done += (size_t)k;
	}
	*got = done;
	return E_OK;
}

static int posix_pwrite(struct disk_file *f, const void *p, size_t n, int64_t offset)
{
	size_t done = 0;
	while (done < n) {
		ssize_t k = pwrite(fd_of(f), (const char *)p + done, n - done, offset + (int64_t)done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? err_from_errno(errno) : E_IO;
		done += (size_t)k;
	}
	return E_OK;
}

/* EINTR of a sync is not retried either: the first answer counts. */
static int posix_sync(struct disk_file *f)
{
	return fdatasync(fd_of(f)) == 0 ? E_OK : err_from_errno(errno);
}

static void posix_start_write(struct disk_file *f, int64_t offset, int64_t n)
{
	/* WRITE alone neither waits nor consumes a write-back error: the later fdatasync still reports it. */
	(void)sync_file_range(fd_of(f), offset, n, SYNC_FILE_RANGE_WRITE);
}

static int posix_size(struct disk_file *f, int64_t *size_bytes)
{
	struct stat st;
	if (fstat(fd_of(f), &st) != 0)
		return err_from_errno(errno);
	*size_bytes = st.st_size;
	return E_OK;
}

static int posix_there(struct disk_file *f, int64_t *size_bytes)
{
	struct stat st;
	if (fstat(fd_of(f), &st) != 0)
		return err_from_errno(errno);
	*size_bytes = st.st_nlink ? st.st_size : 0;
	return E_OK;
}

static int posix_truncate(struct disk_file *f, int64_t size_bytes)
{
	return ftruncate(fd_of(f), size_bytes) == 0 ? E_OK : err_from_errno(errno);
}

static int posix_sync_dir(struct disk *d, const char *dir)
{
	int fd = open_at(root_of(d), *dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) /* out of descriptors: nothing was synced, and nothing is lost */
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? E_BUSY : err_from_errno(errno);
	int err = fsync(fd) == 0 ? E_OK : err_from_errno(errno);
	close(fd);
	return err;
}

static int posix_rename(struct disk *d, const char *from, const char *to)
{
	return renameat(root_of(d), from, root_of(d), to) == 0 ? E_OK : err_from_errno(errno);
}

static int posix_unlink(struct disk *d, const char *name)
{
	return unlinkat(root_of(d), name, 0) == 0 ? E_OK : err_from_errno(errno);
}

static int posix_mkdir(struct disk *d, const char *name)
{
	return mkdirat(root_of(d), name, 0700) == 0 || errno == EEXIST ? E_OK : err_from_errno(errno);
}

static int posix_list(struct disk *d, const char *dir, disk_list_fn *fn, void *arg)
{
	int fd = open_at(root_of(d), *dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_from_errno(errno);
	DIR *stream = fdopendir(fd);
	if (!stream) {
		close(fd);
		return E_IO;
	}
	int err = E_OK;
	while (err == E_OK) {
		errno = 0;
		struct dirent *e = readdir(stream);
		if (!e) {
			err = errno ? err_from_errno(errno) : E_OK;
			break;
		}
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		bool is_folder = e->d_type == DT_DIR;
		if (e->d_type == DT_UNKNOWN) {
			struct stat st;
			is_folder = fstatat(dirfd(stream), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
		}
		err = fn(arg, e->d_name, is_folder);
	}
	closedir(stream);
	return err;
}

static int posix_space(struct disk *d, int64_t *free_bytes)
{
	struct statvfs st;
	if (fstatvfs(root_of(d), &st) != 0)
		return err_from_errno(errno);
	*free_bytes = (int64_t)((uint64_t)st.f_bavail * st.f_frsize);
	return E_OK;
}

static void posix_free(struct disk *d)
{
	close(root_of(d));
	free(d);
}

static const struct disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .sync = posix_sync,
    .start_write = posix_start_write,
    .size = posix_size,
    .there = posix_there,
    .truncate = posix_truncate,
    .sync_dir = posix_sync_dir,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .list = posix_list,
    .space = posix_space,
    .free = posix_free,
};

int disk_posix_open(const char *path, struct disk **out)
{
	*out = NULL;
	int fd = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_from_errno(errno);
	struct posix_disk *d = calloc(1, sizeof *d);
	must(d != NULL);
	d->base.ops = &posix_ops;
	d->root_fd = fd;
	*out = &d->base;
	return E_OK;
}
