#include "client/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/must.h"

enum {
	MASK = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF |
	       IN_MOVE_SELF | IN_DONT_FOLLOW | IN_ONLYDIR | IN_EXCL_UNLINK,
};

struct watch {
	int fd;
	char *path;
	struct map folders; /* node id -> watch descriptor + 1 */
	bool degraded;
};

int watch_open(struct ctx *ctx, const char *path, struct watch **out)
{
	struct watch *w = calloc(1, sizeof(*w));
	must(w != NULL);
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	w->path = strdup(path);
	must(w->path != NULL);
	if (w->fd < 0) {
		watch_close(w);
		return ctx_fail(ctx, E_NO_SPACE, "No inotify instance is left (fs.inotify.max_user_instances); changes are found by timer.");
	}
	*out = w;
	return 0;
}

int watch_update(struct ctx *ctx, struct watch *w, const struct tree *local, bool *added)
{
	struct arena a;
	arena_init(&a);
	int err = 0;
	w->degraded = *added = false;
	for (struct node *n = local->root; n; n = tree_walk(local->root, n)) {
		if (n->f.kind != NODE_FOLDER || map_get(&w->folders, (uint64_t)n->f.id))
			continue;
		struct str below = n->up ? tree_path(&a, n) : STR("");
		struct str path = arena_fmt(&a, "%s%.*s", w->path, STR_ARG(below));
		int wd = inotify_add_watch(w->fd, path.p, MASK);
		if (wd < 0 && (errno == ENOSPC || errno == ENOMEM)) {
			w->degraded = true;
			err = ctx_fail(ctx, E_NO_SPACE, "No inotify watches are left: some changes are found by timer only. Raise them with: sysctl fs.inotify.max_user_watches=1048576");
			break;
		}
		if (wd < 0)
			continue; /* it went away; the scan that follows sees it */
		map_put(&w->folders, (uint64_t)n->f.id, (void *)((uintptr_t)wd + 1));
		*added = true;
	}
	arena_fini(&a);
	return err;
}

int watch_fd(const struct watch *w)
{
	return w->fd;
}

/* The kernel forgot a descriptor: its folder must be watched anew if it still exists. */
static void forget(struct watch *w, int wd)
{
	uint64_t id;
	void *value;
	for (size_t i = 0; map_next(&w->folders, &i, &id, &value);) {
		if ((uintptr_t)value == (uintptr_t)wd + 1) {
			map_del(&w->folders, id);
			return;
		}
	}
}

bool watch_drain(struct watch *w)
{
	char space[16 << 10] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool any = false;
	ssize_t n;
	while ((n = read(w->fd, space, sizeof(space))) > 0) {
		for (char *p = space; p < space + n;) {
			const struct inotify_event *e = (const struct inotify_event *)(const void *)p;
			p += sizeof(*e) + e->len;
			if (e->mask & IN_IGNORED)
				forget(w, e->wd);
			if (e->len && !strcmp(e->name, ".scaidrive"))
				continue;
			any = true; /* an overflow too: then everything may have changed */
		}
	}
	return any;
}

bool watch_degraded(const struct watch *w)
{
	return w->degraded;
}

void watch_close(struct watch *w)
{
	if (!w)
		return;
	if (w->fd >= 0)
		close(w->fd);
	free(w->path);
	map_fini(&w->folders);
	free(w);
}
