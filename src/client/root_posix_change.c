/* Folders, names, modes and the trash. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/must.h"
#include "client/root_posix.h"

int posix_make_folder(struct root *face, struct ctx *ctx, struct str path, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	AUTO_FD int at = posix_open_parent(r, path, name);
	if (at < 0 || mkdirat(at, name, 0777) || posix_entry(r, at, name, out))
		return posix_fail(ctx, errno, "cannot create the folder", path);
	return 0;
}

int posix_rename(struct root *face, struct ctx *ctx, struct str from, const struct disk_stamp *assumed,
                 struct str to, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char old_name[NAME_MAX + 1], new_name[NAME_MAX + 1];
	AUTO_FD int at = posix_open_parent(r, from, old_name);
	AUTO_FD int to_at = at < 0 ? -1 : posix_open_parent(r, to, new_name);
	if (to_at < 0 || posix_entry(r, at, old_name, out))
		return posix_fail(ctx, errno, "cannot move", from);
	if (!posix_same_thing(out, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was replaced meanwhile", STR_ARG(from));
	struct root_entry there;
	bool case_only = face->fold && posix_entry(r, to_at, new_name, &there) == 0 && posix_same_thing(&there, assumed);
	if (case_only ? renameat(at, old_name, to_at, new_name) : posix_no_replace(at, old_name, to_at, new_name))
		return posix_fail(ctx, errno, "cannot move to", to);
	if (fsync(to_at) || fsync(at) || posix_entry(r, to_at, new_name, out))
		return posix_fail(ctx, errno, "cannot move to", to);
	return 0;
}

/* ---- the trash ---- */

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

int posix_trash(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                struct str label)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1], target[NAME_MAX + 1];
	struct root_entry e;
	ptrdiff_t slash = str_rchr(path, '/');
	struct str folder = slash < 0 ? label : arena_fmt(ctx->arena, "%.*s/%.*s", STR_ARG(label), (int)slash, path.p);
	AUTO_FD int at = posix_open_parent(r, path, name);
	if (at < 0 || posix_entry(r, at, name, &e))
		return posix_fail(ctx, errno, "cannot look at", path);
	if (e.kind != ENTRY_FILE || !stamp_same(&e.stamp, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	AUTO_FD int to = trash_folder(r, folder);
	if (to < 0)
		return posix_fail(ctx, errno, "cannot make room in the trash for", path);
	trash_name(target, str_c(name), 1);
	for (int attempt = 2; posix_no_replace(at, name, to, target); attempt++) {
		if (errno != EEXIST || attempt > TRASH_NAMES_MAX)
			return posix_fail(ctx, errno, "cannot move to the trash", path);
		trash_name(target, str_c(name), attempt);
	}
	return fsync(to) || fsync(at) ? posix_fail(ctx, errno, "cannot sync the folder of", path) : 0;
}

int posix_discard(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	struct root_entry e;
	must(str_starts(path, STR(ROOT_OWN_NAME "/trash/")));
	AUTO_FD int at = posix_open_parent(r, path, name);
	if (at < 0 || posix_entry(r, at, name, &e))
		return posix_fail(ctx, errno, "cannot look at", path);
	if (e.kind != ENTRY_FILE || !stamp_same(&e.stamp, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	return unlinkat(at, name, 0) ? posix_fail(ctx, errno, "cannot delete", path) : 0;
}

/* ---- modes, and folders that go ---- */

int posix_set_mode(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed,
                   bool executable, struct root_entry *out)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	struct stat st;
	AUTO_FD int at = posix_open_parent(r, path, name);
	AUTO_FD int fd = at < 0 ? -1 : openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || posix_entry(r, fd, "", out) || fstat(fd, &st))
		return posix_fail(ctx, errno, "cannot look at", path);
	if (out->kind != ENTRY_FILE || !stamp_same(&out->stamp, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was changed meanwhile", STR_ARG(path));
	/* Executable for whoever may read it, as far as the umask lets. */
	mode_t may = st.st_mode & 07777, read = (may & 0444) >> 2;
	if (fchmod(fd, executable ? may | S_IXUSR | (read & ~r->umask) : may & ~(mode_t)0111) || fsync(fd) || posix_entry(r, fd, "", out))
		return posix_fail(ctx, errno, "cannot change the mode of", path);
	if (out->executable != executable)
		return ctx_fail(ctx, E_IO, "the executable bit of \"%.*s\" cannot be changed on this disk", STR_ARG(path));
	return 0;
}

int posix_remove_folder(struct root *face, struct ctx *ctx, struct str path, const struct disk_stamp *assumed)
{
	struct posix_root *r = (struct posix_root *)face;
	char name[NAME_MAX + 1];
	struct root_entry e;
	AUTO_FD int at = posix_open_parent(r, path, name);
	if (at < 0 || posix_entry(r, at, name, &e))
		return posix_fail(ctx, errno, "cannot look at", path);
	if (e.kind != ENTRY_FOLDER || !posix_same_thing(&e, assumed))
		return ctx_fail(ctx, E_CHANGED, "\"%.*s\" was replaced meanwhile", STR_ARG(path));
	if (unlinkat(at, name, AT_REMOVEDIR) || fsync(at))
		return posix_fail(ctx, errno, "cannot remove the folder", path);
	return 0;
}
