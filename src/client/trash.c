#include "client/trash.h"

#include <stdlib.h>

#include "base/must.h"
#include "base/name.h"

#define TRASH ROOT_OWN_NAME "/trash"

struct pile {
	struct trash_entry *v;
	size_t n, cap;
};

static void push(struct ctx *ctx, struct pile *p, struct trash_entry e)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? p->cap * 2 : 64;
		struct trash_entry *more = arena_many(ctx->arena, p->cap, struct trash_entry);
		if (p->n)
			memcpy(more, p->v, p->n * sizeof *more);
		p->v = more;
	}
	p->v[p->n++] = e;
}

static struct str below_trash(struct ctx *ctx, struct str name)
{
	return name.n ? arena_fmt(ctx->arena, TRASH "/%.*s", STR_ARG(name)) : STR(TRASH);
}

/* files and folders, folders before what is in them. */
static int list_all(struct ctx *ctx, struct root *root, struct pile *files, struct pile *folders)
{
	push(ctx, folders, (struct trash_entry){.name = STR("")});
	for (size_t at = 0; at < folders->n; at++) {
		struct root_entry *entries;
		size_t n;
		struct str up = folders->v[at].name;
		int err = root->ops->list(root, ctx, below_trash(ctx, up), &entries, &n);
		if (err == E_NOT_FOUND) {
			ctx_clear(ctx);
			continue;
		}
		if (err)
			return err;
		for (size_t i = 0; i < n; i++) {
			struct trash_entry e = {.size_bytes = entries[i].stamp.size_bytes, .stamp = entries[i].stamp};
			e.name = up.n ? arena_fmt(ctx->arena, "%.*s/%.*s", STR_ARG(up), STR_ARG(entries[i].name)) : entries[i].name;
			if (entries[i].kind != ENTRY_OTHER)
				push(ctx, entries[i].kind == ENTRY_FILE ? files : folders, e);
		}
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct trash_entry *x = a, *y = b;
	return str_cmp(x->name, y->name);
}

int trash_list(struct ctx *ctx, struct root *root, struct trash_entry **out, size_t *n)
{
	struct pile files = {0}, folders = {0};
	int err = list_all(ctx, root, &files, &folders);
	if (files.n)
		qsort(files.v, files.n, sizeof *files.v, by_name);
	*out = files.v;
	*n = files.n;
	return err;
}

static int make_parents(struct ctx *ctx, struct root *root, struct str path)
{
	for (size_t i = 0; i < path.n; i++) {
		struct root_entry e;
		if (path.p[i] != '/')
			continue;
		int err = root->ops->make_folder(root, ctx, str_head(path, i), &e);
		if (err && err != E_CONFLICT)
			return err;
		ctx_clear(ctx); /* there is one already, or something that the rename will meet */
	}
	return 0;
}

int trash_restore(struct ctx *ctx, struct root *root, struct str name, struct str *where)
{
	struct root_entry e;
	struct str from = below_trash(ctx, name), path = name;
	str_cut(&path, '/');
	int err = path.n ? root->ops->stat(root, ctx, from, &e) : E_NOT_FOUND;
	if (err || e.kind != ENTRY_FILE) {
		ctx_clear(ctx);
		return ctx_fail(ctx, E_NOT_FOUND, "there is no file \"%.*s\" in the trash; `scaidrive trash list` shows what there is", STR_ARG(name));
	}
	err = make_parents(ctx, root, path);
	ptrdiff_t slash = str_rchr(path, '/');
	struct str folder = slash < 0 ? STR("") : str_head(path, (size_t)slash + 1), last = str_skip(path, folder.n);
	*where = path;
	for (int attempt = 1; !err; attempt++) {
		struct disk_stamp was = e.stamp;
		err = root->ops->rename(root, ctx, from, &was, *where, &e);
		if (err != E_CONFLICT || attempt > 100)
			break;
		ctx_clear(ctx);
		err = 0;
		*where = arena_fmt(ctx->arena, "%.*s%.*s", STR_ARG(folder), STR_ARG(name_with_label(ctx->arena, last, STR("restored"), attempt)));
	}
	return err;
}

enum { GAP_HOURS = 48 };

/* Below zero: the look before was doubtful. */
bool trash_age_doubtful(int64_t *seen_us, int64_t now_us)
{
	bool doubtful = *seen_us > 0 && now_us - *seen_us > SECONDS_US(GAP_HOURS * 3600);
	*seen_us = doubtful ? -now_us : now_us;
	return doubtful;
}

int trash_purge(struct ctx *ctx, struct root *root, int keep_days, int64_t max_bytes, struct trash_purged *out)
{
	struct pile files = {0}, folders = {0};
	char oldest[11];
	int64_t total = 0;
	*out = (struct trash_purged){0};
	time_date(clock_now(ctx->clock) - SECONDS_US(86400) * keep_days, oldest);
	int err = list_all(ctx, root, &files, &folders);
	for (size_t i = 0; i < files.n; i++)
		total += files.v[i].size_bytes;
	if (files.n)
		qsort(files.v, files.n, sizeof *files.v, by_name);
	int first = 0;
	for (size_t i = 0; !err && i < files.n; i++) {
		const struct trash_entry *e = &files.v[i];
		bool old = keep_days && str_cmp(str_head(e->name, e->name.n < 10 ? e->name.n : 10), str_n(oldest, 10)) < 0;
		if (!old && max_bytes && (max_bytes < 0 || total <= max_bytes))
			continue;
		int kept = root->ops->discard(root, ctx, below_trash(ctx, e->name), &e->stamp);
		if (kept) { /* one that cannot go keeps no other */
			first = first ? first : kept;
			continue;
		}
		total -= e->size_bytes;
		out->files++;
		out->bytes += e->size_bytes;
	}
	for (size_t i = folders.n; !err && i-- > 1;) {
		if (root->ops->remove_folder(root, ctx, below_trash(ctx, folders.v[i].name), &folders.v[i].stamp))
			ctx_clear(ctx); /* not empty: something is still kept in it */
	}
	return err ? err : first;
}
