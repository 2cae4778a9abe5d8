/* Which folders this device syncs, and which shares it may sync. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "bin/client.h"

int client_real_path(struct client *c, const char *word, int missing_max, struct str *out)
{
	char real[PATH_MAX], *head = arena_cstr(&c->arena, str_c(word));
	struct str rest = STR("");
	for (int missing = 0;; missing++) {
		size_t n = strlen(head);
		if (realpath(*head ? head : ".", real)) {
			*out = !rest.n ? arena_str(&c->arena, str_c(real))
			               : arena_fmt(&c->arena, "%s/%.*s", strcmp(real, "/") ? real : "", STR_ARG(rest));
			return 0;
		}
		if (errno != ENOENT || missing == missing_max)
			return ctx_fail(&c->ctx, E_USAGE, "the folder %s cannot be used: %s", word, strerror(errno));
		while (n > 1 && head[n - 1] == '/')
			head[--n] = 0;
		char *slash = strrchr(head, '/');
		const char *name = slash ? slash + 1 : head;
		rest = rest.n ? arena_fmt(&c->arena, "%s/%.*s", name, STR_ARG(rest)) : arena_str(&c->arena, str_c(name));
		head = slash == head ? arena_cstr(&c->arena, STR("/")) : slash ? head : arena_cstr(&c->arena, STR(""));
		if (slash && slash != head)
			*slash = 0;
	}
}

int client_each_folder(struct client *c, client_folder_fn *fn, void *arg)
{
	char *dir = arena_cstr(&c->arena, arena_fmt(&c->arena, "%s/roots", c->state.dir));
	DIR *d = opendir(dir);
	int err = 0;
	bool more = true;
	for (struct dirent *e; d && !err && more && (e = readdir(d));) {
		if (!str_ends(str_c(e->d_name), STR(".db")))
			continue;
		struct replica r;
		char *file = arena_cstr(&c->arena, arena_fmt(&c->arena, "%s/%s", dir, e->d_name));
		err = replica_open(&c->ctx, file, &r);
		if (err)
			break;
		more = fn(arg, &r, file);
		replica_close(&r);
	}
	if (d)
		closedir(d);
	return err;
}

struct wanted {
	struct client *c;
	struct str path;
	struct client_folder *out;
};

static bool holds(void *arg, struct replica *r, const char *file)
{
	struct wanted *w = arg;
	if (!r->path.n || !str_starts(w->path, r->path) || (w->path.n > r->path.n && w->path.p[r->path.n] != '/'))
		return true;
	if (w->out->file && w->out->path.n > r->path.n)
		return true; /* the innermost counts */
	*w->out = (struct client_folder){.file = arena_cstr(&w->c->arena, str_c(file)),
	                                 .path = arena_str(&w->c->arena, r->path),
	                                 .below = w->path.n > r->path.n ? str_skip(w->path, r->path.n + 1) : STR("")};
	return true;
}

int client_folder_of(struct client *c, const char *word, struct client_folder *out)
{
	struct wanted w = {.c = c, .out = out};
	*out = (struct client_folder){0};
	int err = client_real_path(c, word, PATH_MAX, &w.path);
	if (!err)
		err = client_each_folder(c, holds, &w);
	if (!err && !out->file)
		err = ctx_fail(&c->ctx, E_USAGE, "%s is in no folder that this device syncs (see `scaidrive status`, and --state)", word);
	return err;
}

const char *client_journal_file(struct client *c, const char *replica_file)
{
	return arena_cstr(&c->arena, arena_fmt(&c->arena, "%.*s.journal", (int)(strlen(replica_file) - 3), replica_file));
}

int client_find_share(struct client *c, const char *word, struct str *id, struct str *name)
{
	struct ctx *ctx = &c->ctx;
	struct remote_share *list;
	size_t n, found = 0;
	int err = remote_shares(ctx, &c->remote, &list, &n);
	if (err)
		return err;
	for (size_t i = 0; i < n; i++) {
		bool by_id = str_eq(list[i].id, str_c(word));
		if (!by_id && !str_eq(list[i].name, str_c(word)))
			continue;
		*id = list[i].id;
		*name = list[i].name;
		if (by_id)
			return 0;
		found++;
	}
	if (found == 0)
		return ctx_fail(ctx, E_NOT_FOUND, "there is no share \"%s\" for you; `scaidrive shares` lists those there are", word);
	if (found > 1)
		return ctx_fail(ctx, E_USAGE, "%zu shares are called \"%s\"; name one by its id (see `scaidrive shares`)", found, word);
	return 0;
}

struct str client_server_url(const struct client *c)
{
	struct str url = c->state.server;
	while (url.n && url.p[url.n - 1] == '/')
		url.n--;
	return url;
}
