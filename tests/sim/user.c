/* People and their programs. Every content is written once, so that its fate can be told. */
#include <stdio.h>

#include "base/must.h"
#include "reconcile/guard.h"
#include "sim.h"

static const char *const pool[] = {"a", "b", "c", "A", "B", "notes.txt", "Notes.txt", "data", "caf\xc3\xa9", "cafe\xcc\x81"};

struct user {
	struct sim *s;
	struct device *d;
	struct fs *fs;
	struct rng_seeded rng;
	struct seen *seen;
	size_t n;
	int epoch;
};

static uint64_t below(struct user *u, uint64_t n)
{
	return rng_below(&u->rng.base, n);
}

static struct str some_name(struct user *u)
{
	return str_c(pool[below(u, sizeof(pool) / sizeof(pool[0]))]);
}

static struct seen *pick(struct user *u, bool folder)
{
	size_t k = 0, *which = arena_many(&u->s->arena, u->n + 1, size_t);
	for (size_t i = 0; i < u->n; i++)
		if (u->seen[i].node->is_folder == folder)
			which[k++] = i;
	return k ? &u->seen[which[below(u, k)]] : NULL;
}

static struct inode *pick_folder(struct user *u)
{
	struct seen *f = below(u, 3) ? pick(u, true) : NULL;
	return f ? f->node : u->fs->root;
}

/* Others may come in between; false: the machine failed meanwhile. */
static bool pass(struct user *u)
{
	sim_hook(u->s, NULL);
	return u->fs->epoch == u->epoch && !sim_failed(u->s);
}

static bool in_tree(struct user *u, struct inode *n)
{
	return fs_dent(u->fs, n) && fs_is_below(u->fs, n, u->fs->root) && !fs_is_below(u->fs, n, u->fs->own);
}

static void release(struct user *u, struct inode *n, const char *why)
{
	if (!n->is_folder)
		content_release(u->s, n->content, why);
}

static void overwrite(struct user *u, struct inode *n, int content)
{
	release(u, n, "overwritten");
	fs_write(u->fs, n, content);
}

/* A program writes a file: at once, or truncating it and in two pieces. */
static void write_once(struct user *u, struct inode *n)
{
	size_t same = below(u, 2) ? u->s->contents[n->content].n : 0;
	int c = content_make(u->s, &u->rng.base, same, u->d->number);
	struct content_row row = u->s->contents[c];
	sim_note(u->s, "d%d: a program writes content %d", u->d->number, c);
	if (below(u, 2)) {
		overwrite(u, n, 0);
		if (!pass(u))
			return;
		overwrite(u, n, content_add(u->s, row.p, row.n / 2));
		if (!pass(u))
			return;
	}
	overwrite(u, n, c);
	u->s->contents[c].tracked = in_tree(u, n);
	if (!below(u, 4))
		fs_sync_file(u->fs, n);
}

/* Often, and often with as many bytes as before: what a stamp may not show. */
static void write_file(struct user *u, struct inode *n)
{
	for (uint64_t times = 1 + below(u, 4) / 3 * 2; times > 0; times--) {
		write_once(u, n);
		if (times > 1 && !pass(u))
			return;
	}
	if (u->fs->epoch == u->epoch && below(u, 4) == 0) {
		u->d->writer = n;
		u->d->writer_left = 4 + (int)below(u, 20);
	}
}

void user_writes_on(struct sim *s, struct device *d)
{
	struct inode *n = d->writer;
	struct user u = {.s = s, .d = d, .fs = &d->fs, .epoch = d->fs.epoch};
	d->writer_left--;
	if (!in_tree(&u, n) || rng_below(&d->rng.base, 2))
		return;
	int c = content_make(s, &d->rng.base, s->contents[n->content].n, d->number);
	sim_note(s, "d%d: a program goes on writing: content %d", d->number, c);
	overwrite(&u, n, c);
	s->contents[c].tracked = true;
}

static void create(struct user *u, struct inode *dir, struct str name)
{
	struct inode *n;
	if (fs_make(u->fs, dir, name, false, &n) == 0) {
		sim_note(u->s, "d%d: new file \"%.*s\"", u->d->number, STR_ARG(name));
		write_file(u, n);
	}
}

/* A folder full of files, as from an archive. */
static void unpack(struct user *u, struct inode *dir)
{
	struct inode *made, *n;
	if (fs_make(u->fs, dir, STR("unpacked"), true, &made))
		return;
	sim_note(u->s, "d%d: unpacks an archive", u->d->number);
	for (uint64_t i = 0, files = 8 + below(u, 10); i < files && u->fs->epoch == u->epoch && in_tree(u, made); i++) {
		if (fs_make(u->fs, made, arena_fmt(&u->s->arena, "f%d", (int)i), false, &n))
			return;
		write_once(u, n);
	}
}

/* As rename(2): a file goes over a file. */
static void rename_over(struct user *u, struct inode *dir, struct str name, struct inode *to, struct str to_name)
{
	struct inode *n = fs_child(u->fs, dir, name), *there = fs_child(u->fs, to, to_name);
	if (!n || there == n || (there && (there->is_folder || n->is_folder)) || fs_is_below(u->fs, to, n))
		return;
	if (there)
		release(u, there, "renamed over");
	sim_note(u->s, "d%d: \"%.*s\" becomes \"%.*s\"", u->d->number, STR_ARG(name), STR_ARG(to_name));
	fs_rename(u->fs, dir, name, to, to_name);
}

static void save_by_temp(struct user *u, struct seen *f)
{
	struct inode *dir = f->dent->dir, *temp;
	struct str name = f->dent->name, other = arena_fmt(&u->s->arena, ".%.*s.tmp", STR_ARG(f->dent->name));
	if (fs_make(u->fs, dir, other, false, &temp))
		return;
	sim_note(u->s, "d%d: a program saves \"%.*s\" by \"%.*s\"", u->d->number, STR_ARG(name), STR_ARG(other));
	write_file(u, temp);
	if (pass(u) && fs_child(u->fs, dir, other) == temp)
		rename_over(u, dir, other, dir, name);
}

static void save_by_backup(struct user *u, struct seen *f)
{
	struct inode *dir = f->dent->dir, *was = f->node;
	struct str name = f->dent->name, other = arena_fmt(&u->s->arena, "%.*s~", STR_ARG(f->dent->name));
	if (fs_child(u->fs, dir, other))
		return;
	sim_note(u->s, "d%d: a program saves \"%.*s\" with a backup", u->d->number, STR_ARG(name));
	fs_rename(u->fs, dir, name, dir, other);
	if (!pass(u))
		return;
	create(u, dir, name);
	if (!pass(u) || fs_child(u->fs, dir, other) != was)
		return;
	release(u, was, "the backup is deleted");
	fs_unlink(u->fs, dir, other);
}

static void delete_tree(struct user *u, struct inode *dir, struct str name, struct inode *node)
{
	for (size_t i = 0; node->is_folder && i < u->fs->live.n;) {
		struct dent e = u->fs->live.v[i];
		if (e.dir != node) {
			i++;
			continue;
		}
		delete_tree(u, node, e.name, e.node);
		if (u->fs->epoch != u->epoch || fs_child(u->fs, node, e.name))
			return;
		i = 0;
	}
	if (!pass(u) || fs_child(u->fs, dir, name) != node)
		return;
	for (size_t i = 0; i < u->fs->live.n; i++)
		if (u->fs->live.v[i].dir == node)
			return; /* somebody put something there */
	sim_note(u->s, "d%d: deletes \"%.*s\"", u->d->number, STR_ARG(name));
	release(u, node, "deleted");
	fs_unlink(u->fs, dir, name);
}

/* Enough for the guard to ask. */
static void delete_much(struct user *u)
{
	sim_note(u->s, "d%d: deletes all", u->d->number);
	for (size_t i = 0; i < u->n; i++)
		if (u->seen[i].dent->dir == u->fs->root && u->fs->epoch == u->epoch &&
		    fs_child(u->fs, u->fs->root, u->seen[i].dent->name) == u->seen[i].node)
			delete_tree(u, u->fs->root, u->seen[i].dent->name, u->seen[i].node);
}

static void move(struct user *u, struct seen *f, bool elsewhere)
{
	struct inode *to = elsewhere ? pick_folder(u) : f->dent->dir;
	struct str name = elsewhere && below(u, 2) ? f->dent->name : some_name(u);
	struct inode *there = fs_child(u->fs, to, name);
	if ((there && there != f->node) || fs_is_below(u->fs, to, f->node) || (to == f->dent->dir && str_eq(name, f->dent->name)))
		return;
	sim_note(u->s, "d%d: moves \"%.*s\" to \"%.*s\"", u->d->number, STR_ARG(f->path), STR_ARG(name));
	fs_rename(u->fs, f->dent->dir, f->dent->name, to, name);
}

static void recase(struct user *u, struct seen *f)
{
	struct str name = arena_str(&u->s->arena, f->dent->name);
	char *c = (char *)(uintptr_t)name.p;
	if (!name.n || !((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z')))
		return;
	*c ^= 32;
	struct inode *there = fs_child(u->fs, f->dent->dir, name);
	if (there && there != f->node)
		return;
	sim_note(u->s, "d%d: changes the case of \"%.*s\"", u->d->number, STR_ARG(f->path));
	fs_rename(u->fs, f->dent->dir, f->dent->name, f->dent->dir, name);
}

static void swap(struct user *u, struct seen *a, struct seen *b)
{
	struct str hold = STR("swapping"), an = a->dent->name, bn = b->dent->name;
	struct inode *ad = a->dent->dir, *bd = b->dent->dir, *x = a->node, *y = b->node;
	if (x == y || fs_is_below(u->fs, x, y) || fs_is_below(u->fs, y, x) || fs_child(u->fs, ad, hold))
		return;
	sim_note(u->s, "d%d: swaps \"%.*s\" and \"%.*s\"", u->d->number, STR_ARG(a->path), STR_ARG(b->path));
	fs_rename(u->fs, ad, an, ad, hold);
	if (below(u, 2) && !pass(u))
		return;
	if (fs_child(u->fs, bd, bn) != y || fs_child(u->fs, ad, an) || fs_child(u->fs, ad, hold) != x || fs_is_below(u->fs, ad, y))
		return;
	fs_rename(u->fs, bd, bn, ad, an);
	if (below(u, 2) && !pass(u))
		return;
	if (fs_child(u->fs, ad, hold) == x && !fs_child(u->fs, bd, bn) && !fs_is_below(u->fs, bd, x))
		fs_rename(u->fs, ad, hold, bd, bn);
}

static void replace_kind(struct user *u, struct seen *f)
{
	struct inode *dir = f->dent->dir, *made;
	struct str name = f->dent->name;
	bool was_folder = f->node->is_folder;
	delete_tree(u, dir, name, f->node);
	if (u->fs->epoch != u->epoch || fs_child(u->fs, dir, name) || !in_tree(u, dir))
		return;
	if (was_folder)
		create(u, dir, name);
	else if (fs_make(u->fs, dir, name, true, &made) == 0 && below(u, 2))
		create(u, made, some_name(u));
}

static void copy(struct user *u, struct seen *f)
{
	struct inode *n;
	struct inode *dir = pick_folder(u);
	int c = f->node->content;
	if (fs_make(u->fs, dir, some_name(u), false, &n))
		return;
	sim_note(u->s, "d%d: copies \"%.*s\"", u->d->number, STR_ARG(f->path));
	fs_write(u->fs, n, c);
}

static void touch_up(struct user *u, struct seen *f)
{
	if (below(u, 2))
		fs_set_executable(u->fs, f->node, !f->node->executable);
	else
		fs_write(u->fs, f->node, f->node->content);
	sim_note(u->s, "d%d: touches \"%.*s\"", u->d->number, STR_ARG(f->path));
}

static void edit(struct user *u)
{
	struct seen *file = pick(u, false), *folder = pick(u, true), *any = below(u, 3) || !folder ? file : folder, *b = pick(u, below(u, 3) == 0);
	uint64_t what = below(u, 20);
	struct inode *dir = pick_folder(u), *made;
	if (what < 4 || !any) {
		if (below(u, 16) == 0)
			unpack(u, dir);
		else if (what == 0 || what == 6)
			fs_make(u->fs, dir, some_name(u), true, &made);
		else
			create(u, dir, some_name(u));
	} else if (what < 6 && file) {
		write_file(u, file->node);
	} else if (what < 7 && file) {
		save_by_temp(u, file);
	} else if (what < 8 && file) {
		save_by_backup(u, file);
	} else if (what < 10) {
		move(u, any, false);
	} else if (what < 13) {
		move(u, any, true);
	} else if (what < 14 && b) {
		swap(u, any, b);
	} else if (what < 15) {
		recase(u, any);
	} else if (what < 17 && u->n >= GUARD_LEAST && below(u, 3) == 0) {
		delete_much(u);
	} else if (what < 17) {
		delete_tree(u, any->dent->dir, any->dent->name, any->node);
	} else if (what < 18) {
		replace_kind(u, any);
	} else if (what < 19 && file) {
		copy(u, file);
	} else if (file) {
		touch_up(u, file);
	}
}

void user_edit(struct sim *s, struct device *d, uint64_t seed)
{
	struct user u = {.s = s, .d = d, .fs = &d->fs, .epoch = d->fs.epoch};
	rng_seeded_init(&u.rng, seed);
	u.n = fs_list(u.fs, &u.seen);
	/* The names that were listed stay where they are, though the journal copies them. */
	for (size_t i = 0; i < u.n; i++) {
		struct dent *keep = arena_new(&s->arena, struct dent);
		*keep = *u.seen[i].dent;
		u.seen[i].dent = keep;
	}
	if (u.n < 40)
		edit(&u);
}

/* ---- programs that edit on the server ---- */

static struct str wire(struct sim *s, enum id_kind kind, int64_t id)
{
	struct buf b = {0};
	buf_id(&b, kind, id);
	struct str out = arena_str(&s->arena, buf_as_str(&b));
	buf_fini(&b);
	return out;
}

/* The status; 0: the server did not live to answer. */
static int ask(struct sim *s, const char *method, struct str path, struct str type, struct str body)
{
	struct exchange *x = server_request(&s->server, str_c(method), path, STR("u0"), type, NULL, 0, body);
	int status = x ? x->reply.status : 0;
	sim_note(s, "api: %s %.*s: %d", method, STR_ARG(path), status);
	if (x && status >= 400)
		sim_note(s, "     %.*s", STR_ARG(buf_as_str(&x->reply.body)));
	if (x)
		exchange_free(x);
	if (server_is_dead(&s->server)) {
		server_stop(&s->server);
		return 0;
	}
	if (status >= 200 && status < 300) {
		int64_t head = server_i64(&s->server, "select seq from tenants where id = $1", s->server.tenant_id);
		s->server.acked_seq = head > s->server.acked_seq ? head : s->server.acked_seq;
	}
	return status;
}

static int ask_json(struct sim *s, const char *method, struct str path, struct str body)
{
	return ask(s, method, path, STR("application/json"), body);
}

static void put(struct buf *b, const char *name, struct str value)
{
	buf_fmt(b, "--xx\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%.*s\r\n", name, STR_ARG(value));
}

static const struct server_node *pick_node(struct rng *rng, const struct server_node *v, size_t n, int kind, bool live)
{
	size_t k = 0;
	for (size_t i = 0; i < n; i++)
		k += v[i].live == live && (kind < 0 || v[i].is_folder == kind);
	if (!k)
		return NULL;
	k = rng_below(rng, k);
	for (size_t i = 0; i < n; i++)
		if (v[i].live == live && (kind < 0 || v[i].is_folder == kind) && k-- == 0)
			return &v[i];
	return NULL;
}

static void api_write(struct sim *s, struct rng *rng, int share, const struct server_node *file, const struct server_node *dir)
{
	struct buf b = {0};
	int c = content_make(s, rng, 0, -1);
	put(&b, "share_id", wire(s, ID_SHARE, s->server.share_ids[share]));
	if (file) {
		put(&b, "replace_file_id", wire(s, ID_FILE, file->id));
		put(&b, "base_version_id", wire(s, ID_VERSION, file->version_id));
	} else {
		if (dir)
			put(&b, "folder_id", wire(s, ID_FOLDER, dir->id));
		put(&b, "name", str_c(pool[rng_below(rng, 10)]));
	}
	buf_lit(&b, "--xx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n");
	buf_put(&b, s->contents[c].p, s->contents[c].n);
	buf_lit(&b, "\r\n--xx--\r\n");
	int status = ask(s, "POST", STR("/api/v1/files"), STR("multipart/form-data; boundary=xx"), buf_as_str(&b));
	buf_fini(&b);
	if (file && (status < 300 || status >= 500)) { /* a server that fails may have done it */
		int was = content_find(s, &file->hash);
		if (was >= 0)
			content_release(s, was, "replaced on the server");
	}
	s->contents[c].tracked = status >= 200 && status < 300;
}

static void api_delete(struct sim *s, const struct server_node *v, size_t n, const struct server_node *x)
{
	struct str path = arena_fmt(&s->arena, "/api/v1/%s/%.*s", x->is_folder ? "folders" : "files",
	                            STR_ARG(wire(s, x->is_folder ? ID_FOLDER : ID_FILE, x->id)));
	int status = ask(s, "DELETE", path, STR_NULL, STR(""));
	if (status >= 300 && status < 500)
		return;
	for (size_t i = 0; i < n; i++) {
		const struct server_node *up = &v[i];
		while (up && up != x)
			up = up->up;
		int c = up && v[i].live && !v[i].is_folder ? content_find(s, &v[i].hash) : -1;
		if (c >= 0)
			content_release(s, c, "deleted on the server");
	}
}

static struct str json_name(struct sim *s, struct rng *rng)
{
	return arena_fmt(&s->arena, "{\"name\":\"%s\"}", pool[rng_below(rng, 10)]);
}

void api_edit(struct sim *s, uint64_t seed)
{
	struct rng_seeded r;
	struct server_node *v;
	size_t n;
	rng_seeded_init(&r, seed);
	struct rng *rng = &r.base;
	if (!server_nodes(&s->server, &v, &n))
		return;
	const struct server_node *file = pick_node(rng, v, n, 0, true), *dir = pick_node(rng, v, n, 1, true);
	const struct server_node *any = rng_below(rng, 3) || !dir ? file : dir, *to = rng_below(rng, 3) ? dir : NULL;
	const struct server_node *gone = pick_node(rng, v, n, -1, false);
	uint64_t what = rng_below(rng, 12);
	int share = to ? to->share : s->n_shares > 1 ? (int)rng_below(rng, SHARES) : 0;
	if (s->n_shares > 1 && rng_below(rng, 2))
		what = 9; /* a move */
	struct str at = any ? arena_fmt(&s->arena, "/api/v1/%s/%.*s", any->is_folder ? "folders" : "files",
	                                STR_ARG(wire(s, any->is_folder ? ID_FOLDER : ID_FILE, any->id))) : STR_NULL;
	if (what < 3 || !any)
		api_write(s, rng, share, NULL, to);
	else if (what < 5 && file)
		api_write(s, rng, file->share, file, NULL);
	else if (what < 6)
		ask_json(s, "POST", STR("/api/v1/folders"),
		         arena_fmt(&s->arena, "{\"name\":\"%s\",\"share_id\":\"%.*s\"%s%.*s%s}", pool[rng_below(rng, 10)],
		                   STR_ARG(wire(s, ID_SHARE, s->server.share_ids[share])), to ? ",\"parent_id\":\"" : "",
		                   STR_ARG(to ? wire(s, ID_FOLDER, to->id) : STR("")), to ? "\"" : ""));
	else if (what < 8)
		ask_json(s, "PATCH", at, json_name(s, rng));
	else if (what < 10)
		ask_json(s, "POST", arena_fmt(&s->arena, "%.*s/move", STR_ARG(at)),
		         to ? arena_fmt(&s->arena, "{\"target_folder_id\":\"%.*s\"}", STR_ARG(wire(s, ID_FOLDER, to->id)))
		            : arena_fmt(&s->arena, "{\"target_share_id\":\"%.*s\"}", STR_ARG(wire(s, ID_SHARE, s->server.share_ids[share]))));
	else if (what < 11)
		api_delete(s, v, n, any);
	else if (gone)
		ask_json(s, "PATCH", arena_fmt(&s->arena, "/api/v1/%s/%.*s", gone->is_folder ? "folders" : "files",
		                               STR_ARG(wire(s, gone->is_folder ? ID_FOLDER : ID_FILE, gone->id))),
		         STR("{\"restore\":true}"));
}

void api_member(struct sim *s, int share, int user, const char *role)
{
	struct str members = arena_fmt(&s->arena, "/api/v1/shares/%.*s/members", STR_ARG(wire(s, ID_SHARE, s->server.share_ids[share])));
	struct str who = wire(s, ID_USER, s->server.user_ids[user]);
	ask(s, "DELETE", arena_fmt(&s->arena, "%.*s/%.*s", STR_ARG(members), STR_ARG(who)), STR_NULL, STR(""));
	if (role && s->server.open)
		ask_json(s, "POST", members, arena_fmt(&s->arena, "{\"principal_type\":\"user\",\"principal_id\":\"%.*s\",\"role\":\"%s\"}",
		                                       STR_ARG(who), role));
}

void api_quota(struct sim *s, int64_t bytes)
{
	struct str path = arena_fmt(&s->arena, "/api/v1/shares/%.*s", STR_ARG(wire(s, ID_SHARE, s->server.share_ids[0])));
	ask_json(s, "PATCH", path, bytes < 0 ? STR("{\"quota_bytes\":null}") : arena_fmt(&s->arena, "{\"quota_bytes\":%lld}", (long long)bytes));
}
