#include "client/replica.h"

#include <stdlib.h>

#include "base/must.h"
#include "base/mutant.h"
#include "client/state.h"

static const struct migration migrations[] = {
    {1, "three trees and a few facts",
     "create table meta (key text primary key, value text not null);\n"
     "create table nodes (tree bigint not null, id bigint not null, parent bigint not null, kind bigint not null,"
     " name text not null, local_name text, version_id bigint not null, version bigint not null, size bigint not null,"
     " checksum bytea not null, mtime_us bigint not null, executable bigint not null, dev bigint not null,"
     " ino bigint not null, birth_ns bigint not null, mtime_ns bigint not null, ctime_ns bigint not null,"
     " primary key (tree, id));\n"},
    {2, "what the large files consist of", "create table layouts (id bigint primary key, version_id bigint not null, chunks bytea not null);\n"},
    {3, "what is about to be trashed here", "create table leaving (id bigint primary key);\n"},
};

enum { SIMILAR_BYTES = 64 << 20 }; /* of layouts, of some 350 GiB of files */

struct kept_layout {
	int64_t version_id;
	struct buf chunks;
};

static const char *const number_keys[REPLICA_NUMBERS] = {"cursor", "last_seq", "last_id", "last_at_us", "next_local_id",
                                                         "last_sync_us", "marked", "problem_us", "held_remote", "held_local",
                                                         "held_which", "aged_us", "generation"};
static const char *const text_keys[REPLICA_TEXTS] = {"marker", "problem", "share", "share_name", "path"};

static struct replica_facts facts_of(const struct replica *r)
{
	return (struct replica_facts){{r->cursor, r->last.seq, r->last.id, r->last.at_us, r->next_local_id, r->last_sync_us,
	                               r->marked, r->problem_us, r->held_remote, r->held_local, r->held_which, r->aged_us,
	                               r->generation},
	                              {r->marker, r->problem.p ? r->problem : STR(""), r->share, r->share_name, r->path}};
}

static int load_meta(struct tx *tx, struct replica *r)
{
	AUTO_ROWS *rows = NULL;
	int err = tx_query(tx, "select key, value from meta", DB_NO_ARGS, &rows);
	if (err)
		return err;
	while (rows_next(rows)) {
		struct str key = rows_text(rows, 0), value = rows_text(rows, 1);
		int64_t n = 0;
		bool number = str_to_i64(value, &n);
		if (str_eq(key, STR("cursor")) && number)
			r->cursor = n;
		else if (str_eq(key, STR("next_local_id")) && number)
			r->next_local_id = n;
		else if (str_eq(key, STR("last_sync_us")) && number)
			r->last_sync_us = n;
		else if (str_eq(key, STR("marked")))
			r->marked = n != 0;
		else if (str_eq(key, STR("marker")))
			r->marker = arena_str(&r->arena, value);
		else if (str_eq(key, STR("share")))
			r->share = arena_str(&r->arena, value);
		else if (str_eq(key, STR("share_name")))
			r->share_name = arena_str(&r->arena, value);
		else if (str_eq(key, STR("problem")) && value.n)
			r->problem = arena_str(&r->arena, value);
		else if (str_eq(key, STR("problem_us")) && number)
			r->problem_us = n;
		else if (str_eq(key, STR("last_seq")) && number)
			r->last.seq = n;
		else if (str_eq(key, STR("last_id")) && number)
			r->last.id = n;
		else if (str_eq(key, STR("last_at_us")) && number)
			r->last.at_us = n;
		else if (str_eq(key, STR("held_remote")) && number)
			r->held_remote = n;
		else if (str_eq(key, STR("held_local")) && number)
			r->held_local = n;
		else if (str_eq(key, STR("held_which")) && number)
			r->held_which = n;
		else if (str_eq(key, STR("aged_us")) && number)
			r->aged_us = n;
		else if (str_eq(key, STR("generation")) && number)
			r->generation = n;
		else if (str_eq(key, STR("path")))
			r->path = arena_str(&r->arena, value);
	}
	return rows_close(&rows);
}

static int load_leaving(struct tx *tx, struct replica *r)
{
	AUTO_ROWS *rows = NULL;
	int err = tx_query(tx, "select id from leaving", DB_NO_ARGS, &rows);
	if (err)
		return err;
	while (rows_next(rows))
		map_put(&r->leaving, (uint64_t)rows_i64(rows, 0), r);
	return rows_close(&rows);
}

static struct node_facts read_row(struct tx *tx, struct rows *rows)
{
	struct node_facts f = {.id = rows_i64(rows, 1), .parent = rows_i64(rows, 2)};
	struct str checksum = rows_blob(rows, 8);
	f.kind = rows_i64(rows, 3) ? NODE_FILE : NODE_FOLDER;
	f.name = arena_str(tx_arena(tx), rows_text(rows, 4));
	f.local_name = rows_is_null(rows, 5) ? STR_NULL : arena_str(tx_arena(tx), rows_text(rows, 5));
	f.version_id = rows_i64(rows, 6);
	f.version = rows_i64(rows, 7);
	if (checksum.n == sizeof(f.checksum.b))
		memcpy(f.checksum.b, checksum.p, checksum.n);
	f.size_bytes = rows_i64(rows, 9);
	f.mtime_us = rows_i64(rows, 10);
	f.executable = rows_i64(rows, 11) != 0;
	f.stamp = (struct disk_stamp){.dev = (uint64_t)rows_i64(rows, 12),
	                              .ino = (uint64_t)rows_i64(rows, 13),
	                              .birth_ns = rows_i64(rows, 14),
	                              .mtime_ns = rows_i64(rows, 15),
	                              .ctime_ns = rows_i64(rows, 16)};
	f.stamp.size_bytes = f.size_bytes;
	return f;
}

struct pile {
	struct node_facts *v;
	size_t n, cap;
};

static int load(struct tx *tx, void *arg)
{
	struct replica *r = arg;
	AUTO_ROWS *rows = NULL;
	struct pile piles[REPLICA_TREES] = {0};
	int err = load_meta(tx, r);
	if (!err)
		err = load_leaving(tx, r);
	if (!err)
		err = tx_query(tx, "select tree, id, parent, kind, name, local_name, version_id, version, checksum, size, mtime_us,"
		                   " executable, dev, ino, birth_ns, mtime_ns, ctime_ns from nodes", DB_NO_ARGS, &rows);
	if (err)
		return err;
	while (rows_next(rows)) {
		int64_t tree = rows_i64(rows, 0);
		if (tree < 0 || tree >= REPLICA_TREES)
			continue;
		struct pile *p = &piles[tree];
		if (p->n == p->cap) {
			p->cap = p->cap ? p->cap * 2 : 256;
			p->v = realloc(p->v, p->cap * sizeof(*p->v));
			must(p->v != NULL);
		}
		p->v[p->n++] = read_row(tx, rows);
	}
	err = rows_close(&rows);
	for (int i = 0; i < REPLICA_TREES; i++) {
		if (!err && tree_put_all(&r->trees[i], piles[i].v, piles[i].n))
			err = E_CORRUPT;
		free(piles[i].v);
	}
	return err;
}

void replica_open_blank(struct replica *out)
{
	*out = (struct replica){.cursor = -1};
	arena_init(&out->arena);
	tree_init(&out->trees[REPLICA_REMOTE]);
	tree_init(&out->trees[REPLICA_LOCAL]);
	tree_init_flat(&out->trees[REPLICA_SYNCED]);
}

int replica_open(struct ctx *ctx, const char *file, struct replica *out)
{
	char *why = NULL;
	struct str url = arena_fmt(ctx->arena, "sqlite:%s", file);
	struct db_config config = {.url = url.p, .readers = 1, .inline_writes = true, .clock = ctx->clock};
	replica_open_blank(out);
	int err = db_open(&config, &out->db, &why);
	if (!err)
		err = db_migrate(out->db, migrations, sizeof(migrations) / sizeof(migrations[0]), &why);
	if (!err)
		err = db_read(out->db, load, out);
	if (err) {
		ctx_fail(ctx, err, "The sync database %s cannot be used: %s. Move it away to start over: files that are equal on both sides are adopted, nothing is deleted.", file, why ? why : err_info(err)->sentence);
		free(why);
		replica_close(out);
		return err;
	}
	out->saved = facts_of(out);
	if (!out->marker.p) {
		out->marker = state_uuid(&out->arena, ctx->rng);
		out->meta_dirty = true;
	}
	return 0;
}

static void forget_layouts(struct replica *r)
{
	uint64_t id;
	void *value;
	for (size_t at = 0; map_next(&r->layouts, &at, &id, &value);) {
		buf_fini(&((struct kept_layout *)value)->chunks);
		free(value);
	}
	map_fini(&r->layouts);
}

void replica_close(struct replica *r)
{
	if (r->db)
		db_close(r->db);
	for (int i = 0; i < REPLICA_TREES; i++) {
		tree_fini(&r->trees[i]);
		map_fini(&r->dirty[i]);
	}
	map_fini(&r->by_content);
	map_fini(&r->leaving);
	map_fini(&r->leaving_dirty);
	forget_layouts(r);
	arena_fini(&r->arena);
	*r = (struct replica){0};
}

static void touch(struct replica *r, enum replica_tree which, int64_t id)
{
	if (mutant(M_REPLICA_NO_TOMBSTONES) && !tree_get(&r->trees[which], id))
		return;
	map_put(&r->dirty[which], (uint64_t)id, r);
}

static uint64_t content_key(const struct sha256 *checksum)
{
	uint64_t key;
	memcpy(&key, checksum->b, sizeof key);
	return key;
}

static void know_content(struct replica *r, const struct node_facts *f)
{
	if (f->kind == NODE_FILE && f->version_id && f->size_bytes)
		map_put(&r->by_content, content_key(&f->checksum), (void *)(uintptr_t)f->id);
}

const struct node_facts *replica_same_content(struct replica *r, const struct sha256 *checksum, int64_t size_bytes)
{
	struct tree *synced = &r->trees[REPLICA_SYNCED];
	uint64_t id;
	void *value;
	/* What is not agreed any more is never taken out; so now and then it is made anew. */
	if (!r->knows_content || r->by_content.count > 2 * synced->count + 1000) {
		map_fini(&r->by_content);
		for (size_t at = 0; map_next(&synced->by_id, &at, &id, &value);)
			know_content(r, &((struct node *)value)->f);
		r->knows_content = true;
	}
	void *found = map_get(&r->by_content, content_key(checksum));
	const struct node *n = found ? tree_get(synced, (int64_t)(uintptr_t)found) : NULL;
	return n && n->f.kind == NODE_FILE && n->f.size_bytes == size_bytes && sha256_eq(&n->f.checksum, checksum) ? &n->f : NULL;
}

bool replica_put(struct replica *r, enum replica_tree which, const struct node_facts *f)
{
	if (!tree_put(&r->trees[which], f))
		return false;
	touch(r, which, f->id);
	if (which == REPLICA_SYNCED && r->knows_content)
		know_content(r, f);
	return true;
}

size_t replica_put_all(struct replica *r, enum replica_tree which, const struct node_facts *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		touch(r, which, f[i].id);
	return tree_put_all(&r->trees[which], f, n);
}

void replica_del(struct replica *r, enum replica_tree which, int64_t id)
{
	struct node *top = tree_get(&r->trees[which], id);
	for (struct node *n = top; n; n = r->trees[which].flat ? NULL : tree_walk(top, n))
		touch(r, which, n->f.id);
	tree_remove(&r->trees[which], id);
}

static void forget_tree(struct replica *r, enum replica_tree which)
{
	uint64_t id;
	void *value;
	size_t n = 0;
	int64_t *ids = calloc(r->trees[which].count + 1, sizeof(*ids));
	must(ids != NULL);
	for (size_t at = 0; map_next(&r->trees[which].by_id, &at, &id, &value);)
		if ((int64_t)id != TREE_ROOT)
			ids[n++] = (int64_t)id;
	for (size_t i = 0; i < n; i++)
		if (tree_get(&r->trees[which], ids[i]))
			replica_del(r, which, ids[i]);
	free(ids);
}

void replica_forget(struct replica *r)
{
	uint64_t id;
	void *value;
	for (int i = 0; i < REPLICA_TREES; i++)
		forget_tree(r, i);
	for (size_t at = 0; map_next(&r->leaving, &at, &id, &value);)
		map_put(&r->leaving_dirty, id, r);
	map_fini(&r->leaving);
	r->cursor = -1;
	r->last = (struct replica_entry){0};
	r->held_remote = r->held_local = r->held_which = 0;
	r->meta_dirty = true;
}

bool replica_rename_id(struct replica *r, int64_t local_id, int64_t new_id)
{
	if (local_id == new_id)
		return true;
	if (!tree_rename_id(&r->trees[REPLICA_LOCAL], local_id, new_id))
		return false;
	touch(r, REPLICA_LOCAL, local_id);
	touch(r, REPLICA_LOCAL, new_id);
	for (struct node *n = tree_get(&r->trees[REPLICA_LOCAL], new_id)->first; n; n = n->next)
		touch(r, REPLICA_LOCAL, n->f.id);
	return true;
}

void replica_set_leaving(struct replica *r, int64_t id, bool leaving)
{
	if (leaving == (map_get(&r->leaving, (uint64_t)id) != NULL))
		return;
	if (leaving)
		map_put(&r->leaving, (uint64_t)id, r);
	else
		map_del(&r->leaving, (uint64_t)id);
	map_put(&r->leaving_dirty, (uint64_t)id, r);
}

static bool stamp_same_row(const struct disk_stamp *a, const struct disk_stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->birth_ns == b->birth_ns && a->mtime_ns == b->mtime_ns &&
	       a->ctime_ns == b->ctime_ns;
}

static bool same_row(const struct node_facts *a, const struct node_facts *b)
{
	return a->parent == b->parent && a->kind == b->kind && a->executable == b->executable && str_eq(a->name, b->name) &&
	       a->version_id == b->version_id && a->version == b->version && a->size_bytes == b->size_bytes &&
	       sha256_eq(&a->checksum, &b->checksum) && a->mtime_us == b->mtime_us && stamp_same_row(&a->stamp, &b->stamp);
}

static void differs(struct replica *r, enum replica_tree which, struct tree *now, int64_t id, int64_t noticed_us)
{
	touch(r, which, id);
	tree_touch(now, id);
	if (noticed_us)
		tree_set_cause(now, id, &(struct node_cause){.at_us = noticed_us});
}

void replica_replace(struct replica *r, enum replica_tree which, struct tree *t, int64_t noticed_us)
{
	struct tree *old = &r->trees[which];
	tree_succeed(t, old);
	for (struct node *n = old->root; n; n = tree_walk(old->root, n))
		if (n->up && !tree_get(t, n->f.id))
			differs(r, which, t, n->f.id, noticed_us);
	for (struct node *n = t->root; n; n = tree_walk(t->root, n)) {
		struct node *before = tree_get(old, n->f.id);
		if (n->up && (!before || !same_row(&before->f, &n->f)))
			differs(r, which, t, n->f.id, noticed_us);
	}
	tree_fini(old);
	*old = *t;
	*t = (struct tree){0};
}

void replica_set_str(struct replica *r, struct str *field, struct str value)
{
	if (field->p && str_eq(*field, value))
		return;
	*field = arena_str(&r->arena, value);
	r->meta_dirty = true;
}

void replica_set_problem(struct replica *r, struct str problem, int64_t now_us)
{
	if (str_eq(r->problem, problem))
		return;
	r->problem = problem.n ? arena_str(&r->arena, problem) : STR_NULL;
	r->problem_us = now_us;
	r->meta_dirty = true;
}

void replica_keep_layout(struct replica *r, int64_t id, int64_t version_id, struct buf *layout)
{
	struct kept_layout *k = calloc(1, sizeof *k), *before;
	must(k != NULL);
	*k = (struct kept_layout){version_id, *layout};
	*layout = (struct buf){0};
	before = map_put(&r->layouts, (uint64_t)id, k);
	if (before)
		buf_fini(&before->chunks);
	free(before);
	r->meta_dirty = true;
}

struct layout_query {
	int64_t id, version_id;
	struct buf *out;
	bool found;
};

static int read_layout(struct tx *tx, void *arg)
{
	struct layout_query *q = arg;
	AUTO_ROWS *rows = NULL;
	int err = tx_query_row(tx, "select chunks from layouts where id = $1 and version_id = $2", DB_ARGS(V_I(q->id), V_I(q->version_id)),
	                       &rows, &q->found);
	if (!err && q->found)
		buf_str(q->out, rows_blob(rows, 0));
	return err;
}

bool replica_layout(struct replica *r, int64_t id, int64_t version_id, struct buf *out)
{
	struct layout_query q = {.id = id, .version_id = version_id, .out = out};
	return db_read(r->db, read_layout, &q) == 0 && q.found;
}

struct similar_query {
	const struct layout *like;
	int64_t id, version_id, bytes;
};

static int find_similar(struct tx *tx, void *arg)
{
	struct similar_query *q = arg;
	AUTO_ROWS *rows = NULL;
	size_t seen = 0;
	int err = tx_query(tx, "select id, version_id, chunks from layouts", DB_NO_ARGS, &rows);
	if (err)
		return err;
	while (seen < SIMILAR_BYTES && rows_next(rows)) {
		struct str chunks = rows_blob(rows, 2);
		int64_t bytes = layout_common(q->like, chunks);
		seen += chunks.n;
		if (bytes > q->bytes)
			*q = (struct similar_query){q->like, rows_i64(rows, 0), rows_i64(rows, 1), bytes};
	}
	return rows_close(&rows);
}

int64_t replica_similar(struct replica *r, const struct layout *like, int64_t *id, int64_t *version_id)
{
	struct similar_query q = {.like = like};
	if (db_read(r->db, find_similar, &q))
		return 0;
	*id = q.id;
	*version_id = q.version_id;
	return q.bytes;
}

static int flush_layouts(struct tx *tx, const struct replica *r)
{
	uint64_t id;
	void *value;
	int err = 0;
	for (size_t at = 0; !err && map_next(&r->layouts, &at, &id, &value);) {
		const struct kept_layout *k = value;
		if (tree_get(&r->trees[REPLICA_SYNCED], (int64_t)id))
			err = tx_exec(tx, "insert into layouts (id, version_id, chunks) values ($1, $2, $3) on conflict (id) do update set"
			                  " version_id = excluded.version_id, chunks = excluded.chunks",
			              DB_ARGS(V_I((int64_t)id), V_I(k->version_id), V_B(buf_as_str(&k->chunks))), NULL);
	}
	return err;
}

static int put_meta(struct tx *tx, const char *key, struct str value)
{
	if (!value.p)
		return 0;
	return tx_exec(tx, "insert into meta (key, value) values ($1, $2) on conflict (key) do update set value = excluded.value",
	               DB_ARGS(V_T(str_c(key)), V_T(value)), NULL);
}

enum { ROW_ARGS = 17, ROWS_AT_ONCE = 64 };

static void row_of(int which, const struct node_facts *f, struct dbv args[ROW_ARGS])
{
	const struct dbv row[] = {V_I(which), V_I(f->id), V_I(f->parent), V_I(f->kind == NODE_FILE), V_T(f->name),
	                          V_T(f->local_name), V_I(f->version_id), V_I(f->version),
	                          V_B(str_n(f->checksum.b, sizeof(f->checksum.b))), V_I(f->size_bytes), V_I(f->mtime_us),
	                          V_I(f->executable), V_I(f->stamp.dev), V_I(f->stamp.ino), V_I(f->stamp.birth_ns),
	                          V_I(f->stamp.mtime_ns), V_I(f->stamp.ctime_ns)};
	_Static_assert(sizeof(row) == ROW_ARGS * sizeof(*row), "a value for each parameter");
	memcpy(args, row, sizeof(row));
}

static int put_rows(struct tx *tx, const struct dbv *args, size_t n)
{
	return tx_many(tx,
	               "insert into nodes (tree, id, parent, kind, name, local_name, version_id, version, checksum, size, mtime_us,"
	               " executable, dev, ino, birth_ns, mtime_ns, ctime_ns)"
	               " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
	               " on conflict (tree, id) do update set parent = excluded.parent, kind = excluded.kind,"
	               " name = excluded.name, local_name = excluded.local_name, version_id = excluded.version_id,"
	               " version = excluded.version, checksum = excluded.checksum, size = excluded.size,"
	               " mtime_us = excluded.mtime_us, executable = excluded.executable, dev = excluded.dev,"
	               " ino = excluded.ino, birth_ns = excluded.birth_ns, mtime_ns = excluded.mtime_ns,"
	               " ctime_ns = excluded.ctime_ns",
	               args, ROW_ARGS, n, NULL, NULL);
}

static int drop_row(struct tx *tx, int which, int64_t id)
{
	int err = tx_exec(tx, "delete from nodes where tree = $1 and id = $2", DB_ARGS(V_I(which), V_I(id)), NULL);
	return err || which != REPLICA_SYNCED ? err : tx_exec(tx, "delete from layouts where id = $1", DB_ARGS(V_I(id)), NULL);
}

static int by_id(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* In the order of their ids, in which the table has them: each page is met once. */
static int flush_tree(struct tx *tx, const struct replica *r, int which)
{
	struct dbv args[ROWS_AT_ONCE * ROW_ARGS];
	uint64_t id;
	void *value;
	size_t n = 0, n_rows = 0;
	int err = 0;
	int64_t *ids = arena_many(tx_arena(tx), r->dirty[which].count + 1, int64_t);
	for (size_t at = 0; map_next(&r->dirty[which], &at, &id, &value);)
		ids[n++] = (int64_t)id;
	qsort(ids, n, sizeof(*ids), by_id);
	for (size_t i = 0; !err && i < n; i++) {
		const struct node *node = tree_get(&r->trees[which], ids[i]);
		if (!node)
			err = drop_row(tx, which, ids[i]);
		else
			row_of(which, &node->f, args + n_rows++ * ROW_ARGS);
		if (!err && n_rows && (n_rows == ROWS_AT_ONCE || i + 1 == n)) {
			err = put_rows(tx, args, n_rows);
			n_rows = 0;
		}
	}
	return err;
}

/* Those that are not in the database yet. */
static int flush_meta(struct tx *tx, const struct replica *r)
{
	struct replica_facts now = facts_of(r);
	int err = 0;
	for (int i = 0; !err && i < REPLICA_NUMBERS; i++)
		if (now.numbers[i] != r->saved.numbers[i])
			err = put_meta(tx, number_keys[i], arena_fmt(tx_arena(tx), "%lld", (long long)now.numbers[i]));
	for (int i = 0; !err && i < REPLICA_TEXTS; i++)
		if (!str_eq(now.texts[i], r->saved.texts[i]))
			err = put_meta(tx, text_keys[i], now.texts[i]);
	return err;
}

static int flush_leaving(struct tx *tx, const struct replica *r)
{
	uint64_t id;
	void *value;
	int err = 0;
	for (size_t at = 0; !err && map_next(&r->leaving_dirty, &at, &id, &value);)
		err = tx_exec(tx, map_get(&r->leaving, id) ? "insert into leaving (id) values ($1) on conflict (id) do nothing"
		                                           : "delete from leaving where id = $1", DB_ARGS(V_I((int64_t)id)), NULL);
	return err;
}

static int flush(struct tx *tx, void *arg)
{
	struct replica *r = arg;
	int err = 0;
	for (int i = 0; i < REPLICA_TREES && !err; i++)
		err = flush_tree(tx, r, i);
	if (!err)
		err = flush_layouts(tx, r);
	if (!err)
		err = flush_leaving(tx, r);
	return err ? err : flush_meta(tx, r);
}

int replica_flush(struct ctx *ctx, struct replica *r)
{
	bool dirty = r->meta_dirty || r->leaving_dirty.count > 0;
	for (int i = 0; i < REPLICA_TREES; i++)
		dirty |= r->dirty[i].count > 0;
	if (!dirty)
		return 0;
	int err = db_write(r->db, 0, flush, r);
	if (err)
		return ctx_fail(ctx, err, "The sync database cannot be written: %s Make room or check the disk, then start again.", err_info(err)->sentence);
	for (int i = 0; i < REPLICA_TREES; i++)
		map_fini(&r->dirty[i]);
	map_fini(&r->leaving_dirty);
	r->saved = facts_of(r);
	forget_layouts(r);
	r->meta_dirty = false;
	return 0;
}
