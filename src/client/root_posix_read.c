/* Listing and reading. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/must.h"
#include "client/root_posix.h"

int posix_list(struct root *face, struct ctx *ctx, struct str path, struct root_entry **out, size_t *n)
{
	struct posix_root *r = (struct posix_root *)face;
	int fd = posix_open_folder(r, path);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int saved = errno;
		if (fd >= 0)
			close(fd);
		return posix_fail(ctx, saved, "cannot read the folder", path);
	}
	size_t cap = 0;
	struct dirent *d;
	*out = NULL;
	*n = 0;
	while (errno = 0, (d = readdir(dir)) != NULL) {
		struct root_entry e;
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || (!path.n && !strcmp(d->d_name, ROOT_OWN_NAME)))
			continue;
		if (posix_entry(r, dirfd(dir), d->d_name, &e)) {
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
	return saved ? posix_fail(ctx, saved, "cannot read the folder", path) : 0;
}

int posix_stat(struct root *face, struct ctx *ctx, struct str path, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	AUTO_FD int at = posix_open_parent(r, path, name);
	if (at < 0 || posix_entry(r, at, name, out))
		return posix_fail(ctx, errno, "cannot look at", path);
	return 0;
}

/* In one call where that can be; a file may be a mount of its own. O_NONBLOCK: a pipe that took its place must not hang us. */
static int open_file(const struct posix_root *r, struct str path)
{
	enum { HOW = O_RDONLY | O_NOFOLLOW | O_NONBLOCK };
	char name[NAME_MAX + 1];
	int fd = posix_open_beneath(r, path, HOW);
	if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EXDEV))
		return fd;
	AUTO_FD int at = posix_open_parent(r, path, name);
	return at < 0 ? -1 : openat(at, name, HOW | O_CLOEXEC);
}

int posix_open(struct root *face, struct ctx *ctx, struct str path, struct root_file **out,
               struct root_entry *entry)
{
	struct posix_root *r = (struct posix_root *)face;
	int fd = open_file(r, path);
	if (fd < 0)
		return posix_fail(ctx, errno, "cannot open", path);
	if (posix_entry(r, fd, "", entry) || entry->kind != ENTRY_FILE) {
		close(fd);
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" is not a file any more", STR_ARG(path));
	}
	struct root_file *f = calloc(1, sizeof(*f));
	must(f != NULL);
	f->fd = fd;
	*out = f;
	return 0;
}

int posix_read(struct root_file *f, void *out, size_t cap, size_t *got)
{
	ssize_t n;
	do {
		n = read(f->fd, out, cap);
	} while (n < 0 && errno == EINTR);
	*got = n > 0 ? (size_t)n : 0;
	return n < 0 ? err_from_errno(errno) : 0;
}

int posix_read_at(struct root_file *f, int64_t offset, void *out, size_t n)
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

int posix_file_stat(struct root_file *f, struct root_entry *entry)
{
	struct posix_root none = {0};
	return posix_entry(&none, f->fd, "", entry) ? err_from_errno(errno) : 0;
}

bool posix_is_written(struct root_file *f)
{
	return posix_is_held(f->fd);
}

void posix_close(struct root_file *f)
{
	close(f->fd);
	free(f);
}
