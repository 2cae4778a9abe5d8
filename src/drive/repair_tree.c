/* Places and names. What no folder leads to goes to "lost+found" in the root of its share. */
#include <stdlib.h>

#include "base/map.h"
#include "base/must.h"
#include "base/name.h"
#include "drive/check_priv.h"
#include "drive/node_priv.h"
#include "drive/repair_priv.h"

enum { AT_ONCE = 100, NAMES_PAGE = 500 };

#define LOST_FOLDER STR("lost+found")

/* ---- lost and found ---- */

/* The share's folder for what is lost; made when there is none. *folder 0: the share has no root to put it into. */
static int lost_folder(struct dtx *t, int64_t share_id, int64_t *folder)
{
	struct arena *a = t->ctx->arena;
	int64_t root = 0, now = clock_now(t->ctx->clock);
	struct str key = name_key(a, LOST_FOLDER), name;
	*folder = 0;
	int err = tx_i64(t->tx, "select n.id from shares s join nodes n on n.id = s.root_id and n.kind = 1 and n.parent_id = 0 where s.id = $1",
	                 DB_ARGS(V_I(share_id)), 0, &root);
	if (err || !root)
		return err;
	err = tx_i64(t->tx, "select id from nodes where parent_id = $1 and name_key = $2 and trash_key = 0 and kind = 1",
	             DB_ARGS(V_I(root), V_T(key)), 0, folder);
	if (err || *folder)
		return err;
	err = node_free_name(t, root, LOST_FOLDER, &name);
	if (err)
		return err;
	*folder = idgen_next(t->drive->ids);
	return tx_exec(t->tx,
	               "insert into nodes (id, tenant_id, share_id, parent_id, kind, name, name_key, owner_id, created_by, created_at,"
	               " modified_by, modified_at, change_seq) select $2, tenant_id, share_id, id, 1, $3, $4, owner_id, created_by, $5,"
	               " modified_by, $5, 0 from nodes where id = $1",
	               DB_ARGS(V_I(root), V_I(*folder), V_T(name), V_T(name_key(a, name)), V_I(now)), NULL);
}

static int put_into_lost(struct dtx *t, int64_t id, int64_t *moved)
{
	struct arena *a = t->ctx->arena;
	int64_t share_id, folder;
	struct str name;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(t->tx, "select share_id, name from nodes where id = $1", DB_ARGS(V_I(id)), &r, &found);
	if (err || !found)
		return err;
	share_id = rows_i64(r, 0);
	name = arena_str(a, rows_text(r, 1));
	err = rows_close(&r);
	if (!err)
		err = lost_folder(t, share_id, &folder);
	if (err || !folder || folder == id)
		return err;
	if (name_problem(name)) {
		char label[ID_WIRE_MAX + 1];
		name = arena_str(a, str_n(label, id_format(label, ID_FILE, id)));
	}
	err = node_free_name(t, folder, name, &name);
	++*moved;
	return err ? err
	           : tx_exec(t->tx, "update nodes set parent_id = $2, name = $3, name_key = $4 where id = $1",
	                     DB_ARGS(V_I(id), V_I(folder), V_T(name), V_T(name_key(a, name))), NULL);
}

/* ---- places ---- */

struct places {
	const char *code;
	struct broken found[AT_ONCE];
	size_t n;
	int64_t moved;
	int64_t now_moved; /* of this write */
};

static int places_op(struct dtx *t, void *arg)
{
	struct places *p = arg;
	p->now_moved = 0;
	int err = check_rule_find(t->tx, p->code, p->found, AT_ONCE, &p->n);
	for (size_t i = 0; !err && i < p->n; i++)
		err = put_into_lost(t, p->found[i].at.subject.n, &p->now_moved);
	return err;
}

/* One that lies on the circle, or has no parent: from any that no root leads to, up until one comes twice. */
static int cycle_op(struct dtx *t, void *arg)
{
	struct places *p = arg;
	struct map seen = {0};
	p->now_moved = 0;
	int err = check_rule_find(t->tx, p->code, p->found, 1, &p->n);
	int64_t id = p->n ? p->found[0].at.subject.n : 0, up = id;
	while (!err && up && !map_get(&seen, (uint64_t)up)) {
		id = up;
		map_put(&seen, (uint64_t)id, p);
		err = tx_i64(t->tx, "select p.id from nodes n join nodes p on p.id = n.parent_id where n.id = $1", DB_ARGS(V_I(id)), 0, &up);
	}
	map_fini(&seen);
	return err || !id ? err : put_into_lost(t, id, &p->now_moved);
}

static int until_none(struct repair *r, const char *code, drive_op_fn *op, const char *sentence)
{
	struct places *p = calloc(1, sizeof *p);
	must(p != NULL);
	p->code = code;
	int err;
	do {
		err = repair_write(r, 0, op, p);
		p->moved += err ? 0 : p->now_moved;
	} while (!err && p->now_moved); /* none: what is left cannot be put anywhere */
	r->touched |= p->moved > 0;
	repair_done(r, code, p->moved, sentence);
	free(p);
	return err;
}

int repair_places(struct repair *r)
{
	static const char sentence[] = "what had lost its place is in lost+found";
	int err = until_none(r, "NODE_ROOT", places_op, sentence);
	if (!err)
		err = until_none(r, "NODE_PARENT_MISSING", places_op, sentence);
	if (!err)
		err = until_none(r, "NODE_PARENT_WRONG", places_op, sentence);
	if (!err)
		err = until_none(r, "NODE_CYCLE", cycle_op, sentence);
	return err;
}

/* ---- names ---- */

struct names {
	int64_t after;
	size_t read;
	int64_t keys, renamed, now_keys, now_renamed;
};

struct named {
	int64_t id, parent_id;
	bool live;
	struct str name;
	bool rename;
};

static int mend_name(struct dtx *t, struct names *s, struct named *n)
{
	struct arena *a = t->ctx->arena;
	int64_t other = 0;
	if (n->rename) {
		char label[ID_WIRE_MAX + 1];
		n->name = arena_str(a, str_n(label, id_format(label, ID_FILE, n->id)));
	}
	if (!n->parent_id) { /* a share's root has no name; its key is its id */
		s->now_renamed++;
		return tx_exec(t->tx, "update nodes set name = '' where id = $1", DB_ARGS(V_I(n->id)), NULL);
	}
	struct str key = name_key(a, n->name);
	int err = n->live ? tx_i64(t->tx, "select id from nodes where parent_id = $1 and name_key = $2 and trash_key = 0 and id <> $3",
	                           DB_ARGS(V_I(n->parent_id), V_T(key), V_I(n->id)), 0, &other)
	                  : 0;
	if (!err && other) {
		err = node_free_name(t, n->parent_id, n->name, &n->name);
		n->rename = true;
	}
	if (err)
		return err;
	s->now_keys += !n->rename;
	s->now_renamed += n->rename;
	return tx_exec(t->tx, "update nodes set name = $2, name_key = $3 where id = $1",
	               DB_ARGS(V_I(n->id), V_T(n->name), V_T(name_key(a, n->name))), NULL);
}

static int names_op(struct dtx *t, void *arg)
{
	struct names *s = arg;
	struct arena *a = t->ctx->arena;
	struct named *wrong = arena_many(a, NAMES_PAGE, struct named);
	int64_t after = s->after;
	size_t n = 0, read = 0;
	AUTO_ROWS *r = NULL;
	s->now_keys = s->now_renamed = 0;
	int err = tx_query(t->tx, "select id, parent_id, trash_key, name, name_key from nodes where id > $1 order by id limit $2",
	                   DB_ARGS(V_I(after), V_I(NAMES_PAGE)), &r);
	for (; !err && read < NAMES_PAGE && rows_next(r); read++) {
		after = rows_i64(r, 0);
		bool is_root = rows_i64(r, 1) == 0;
		if (!check_name(a, rows_text(r, 3), rows_text(r, 4), is_root))
			continue;
		struct str name = rows_text(r, 3);
		wrong[n++] = (struct named){after, rows_i64(r, 1), rows_i64(r, 2) == 0, arena_str(a, name), is_root || name_problem(name) != NULL};
	}
	if (!err)
		err = rows_close(&r);
	for (size_t i = 0; !err && i < n; i++)
		err = mend_name(t, s, &wrong[i]);
	if (!err) {
		s->after = after;
		s->read = read;
	}
	return err;
}

int repair_names(struct repair *r)
{
	struct names s = {0};
	int err;
	do {
		err = repair_write(r, 0, names_op, &s);
		s.keys += err ? 0 : s.now_keys;
		s.renamed += err ? 0 : s.now_renamed;
	} while (!err && s.read == NAMES_PAGE);
	r->touched |= s.renamed > 0;
	repair_done(r, "NODE_NAME", s.keys, "the key by which the name is compared is that of the name");
	repair_done(r, "NODE_NAME", s.renamed, "what had a name that is not allowed, or taken, has another one");
	return err;
}
