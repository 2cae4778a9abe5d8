#include "drive/sync_testing.h"

static int setup(void **state)
{
	*state = world_new();
	return 0;
}

static int teardown(void **state)
{
	world_free(*state);
	return 0;
}

static struct apply_change change(enum change_type type, struct rid what)
{
	return (struct apply_change){.resource = what, .type = type};
}

static struct apply_change update(int64_t file, int64_t version, int64_t base)
{
	struct apply_change c = change(CHANGE_UPDATED, (struct rid){ID_FILE, file});
	c.version_id = version;
	c.base_version_id = base;
	return c;
}

static struct apply_change folder(const char *path)
{
	struct apply_change c = change(CHANGE_CREATED, (struct rid){ID_FOLDER, 0});
	c.new_path = str_c(path);
	return c;
}

static struct apply_change place(enum change_type type, struct node n, const char *path)
{
	struct apply_change c = change(type, node_rid(&n));
	c.new_path = str_c(path);
	return c;
}

static int64_t mkdir_(struct world *w, struct person *p, const char *path)
{
	struct apply_result r;
	assert_int_equal(world_apply(w, p, RESOLVE_NONE, -1, folder(path), &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
	return r.resource.n;
}

static bool folder_live(struct world *w, int64_t id)
{
	struct node n;
	int err = drive_node_get(&w->admin.ctx, NODE_FOLDER, id, false, &n);
	ctx_clear(&w->admin.ctx);
	return !err;
}

/* ---- files: edits ---- */

static void a_staged_edit_on_the_head(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "one");
	int64_t v2 = world_edit(w, &w->ann, n.id, n.version_id, true, "two");
	assert_int_equal(world_node(w, n.id).version, 1);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(n.id, v2, n.version_id), &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
	assert_int_equal(r.version, 2);
	assert_int_equal(r.version_id, v2);
	assert_true(r.seq > 0);
	assert_null(r.conflict);
	int64_t head = world_head(w);
	/* the same again changes nothing, also after someone else went on */
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(n.id, v2, n.version_id), &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
	assert_int_equal(world_head(w), head);
	world_edit(w, &w->ben, n.id, v2, false, "three");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(n.id, v2, n.version_id), &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
	assert_int_equal(world_node(w, n.id).version, 3);
}

static void a_stale_edit_by_strategy(void **state)
{
	struct world *w = *state;
	static const struct {
		enum resolve_strategy strategy;
		enum apply_status status;
		bool incoming, copy, open;
	} table[] = {
	    {RESOLVE_LAST_WRITER_WINS, APPLY_APPLIED, true, false, false},
	    {RESOLVE_CLIENT_WINS, APPLY_APPLIED, true, false, false},
	    {RESOLVE_SERVER_WINS, APPLY_CONFLICT, false, false, false},
	    {RESOLVE_KEEP_BOTH, APPLY_CONFLICT, false, true, false},
	    {RESOLVE_MANUAL, APPLY_CONFLICT, false, false, true},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct apply_result r;
		char name[16];
		snprintf(name, sizeof name, "f%zu.txt", i);
		struct node n = world_file(w, &w->ann, 0, name, "base");
		int64_t bens = world_edit(w, &w->ben, n.id, n.version_id, false, "ben's");
		int64_t anns = world_edit(w, &w->ann, n.id, n.version_id, true, "ann's");
		assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(n.id, anns, n.version_id), &r), E_VERSION_STALE);
		assert_int_equal(world_node(w, n.id).version_id, bens);
		assert_int_equal(world_apply(w, &w->ann, table[i].strategy, -1, update(n.id, anns, n.version_id), &r), 0);
		assert_int_equal(r.status, table[i].status);
		assert_non_null(r.conflict);
		assert_int_equal(r.conflict->type, CONFLICT_EDIT_EDIT);
		assert_int_equal(r.conflict->resolved_at == 0, table[i].open);
		assert_int_equal(r.conflict->copy_id != 0, table[i].copy);
		assert_int_equal(world_node(w, n.id).version_id, table[i].incoming ? anns : bens);
		/* nothing is lost: all three are versions */
		struct file_versions versions;
		world_ok(&w->ann.ctx, drive_file_versions(&w->ann.ctx, n.id, false, 0, 0, &versions));
		assert_int_equal(versions.total, 3);
		if (table[i].copy)
			assert_true(world_node(w, r.conflict->copy_id).size_bytes == 5);
	}
}

static void equal_bytes_are_no_conflict(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "base");
	int64_t bens = world_edit(w, &w->ben, n.id, n.version_id, false, "same");
	int64_t anns = world_edit(w, &w->ann, n.id, n.version_id, true, "same");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(n.id, anns, n.version_id), &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
	assert_int_equal(r.version_id, bens);
	assert_null(r.conflict);
}

static void a_foreign_version_is_refused(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	struct node a = world_file(w, &w->ann, 0, "a.txt", "a"), b = world_file(w, &w->ann, 0, "b.txt", "b");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(a.id, b.version_id, a.version_id), &r),
	                 E_SYNC_CONFLICT);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_LAST_WRITER_WINS, -1, update(a.id, b.version_id, a.version_id), &r),
	                 E_SYNC_CONFLICT);
	int64_t staged = world_edit(w, &w->ben, a.id, a.version_id, true, "ben's stage");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(a.id, staged, a.version_id), &r), E_SYNC_CONFLICT);
	/* among others, and with a strategy, it is told beside them */
	struct apply_change two[] = {update(a.id, b.version_id, a.version_id), folder("/made")};
	struct apply_in in = {w->ann.device, w->share_id, RESOLVE_LAST_WRITER_WINS, -1, two, 2};
	struct apply_out out;
	world_ok(&w->ann.ctx, drive_apply(&w->ann.ctx, &in, &out));
	assert_int_equal(out.results[0].err, E_SYNC_CONFLICT);
	assert_int_equal(out.results[1].status, APPLY_APPLIED);
}

static void an_older_version_comes_back(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "one");
	int64_t v2 = world_edit(w, &w->ann, n.id, n.version_id, false, "two");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, update(n.id, n.version_id, v2), &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
	assert_int_equal(r.version, 3);
	struct node now = world_node(w, n.id);
	assert_true(sha256_eq(&now.sha256, &n.sha256));
}

/* ---- files: created, deleted ---- */

static void created_is_acknowledged(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "a");
	int64_t head = world_head(w);
	struct apply_change c = place(CHANGE_CREATED, n, "/a.txt");
	c.version_id = n.version_id;
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_LAST_WRITER_WINS, -1, c, &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
	assert_int_equal(r.version, 1);
	assert_int_equal(world_head(w), head);
	c.resource.n = 0;
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_LAST_WRITER_WINS, -1, c, &r), E_INVALID);
}

static void a_delete_by_strategy(void **state)
{
	struct world *w = *state;
	for (int s = RESOLVE_NONE; s <= RESOLVE_MANUAL; s++) {
		struct apply_result r;
		char name[16];
		snprintf(name, sizeof name, "d%d.txt", s);
		struct node n = world_file(w, &w->ann, 0, name, "base");
		int64_t bens = world_edit(w, &w->ben, n.id, n.version_id, false, "edited");
		struct apply_change c = change(CHANGE_DELETED, node_rid(&n));
		c.base_version_id = n.version_id;
		int err = world_apply(w, &w->ann, (enum resolve_strategy)s, -1, c, &r);
		assert_int_equal(err, s == RESOLVE_NONE ? E_VERSION_STALE : 0);
		assert_int_equal(world_node(w, n.id).in_trash, s == RESOLVE_CLIENT_WINS);
		if (s != RESOLVE_NONE) {
			assert_int_equal(r.status, s == RESOLVE_CLIENT_WINS ? APPLY_APPLIED : APPLY_CONFLICT);
			assert_int_equal(r.conflict->type, CONFLICT_DELETE_EDIT);
			assert_int_equal(r.conflict->server_version_id, bens);
		}
		/* on the head it goes, and again is nothing new */
		c.base_version_id = bens;
		assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, c, &r), 0);
		assert_true(world_node(w, n.id).in_trash);
		assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, c, &r), 0);
		assert_int_equal(r.status, APPLY_NOOP);
	}
}

static void an_edit_beats_a_delete(void **state)
{
	struct world *w = *state;
	for (int s = RESOLVE_NONE; s <= RESOLVE_MANUAL; s++) {
		struct apply_result r;
		char name[16];
		snprintf(name, sizeof name, "e%d.txt", s);
		struct node n = world_file(w, &w->ann, 0, name, "base");
		int64_t anns = world_edit(w, &w->ann, n.id, n.version_id, true, "edited");
		assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, change(CHANGE_DELETED, node_rid(&n)), NULL), 0);
		int err = world_apply(w, &w->ann, (enum resolve_strategy)s, -1, update(n.id, anns, n.version_id), &r);
		bool back = s == RESOLVE_LAST_WRITER_WINS || s == RESOLVE_CLIENT_WINS || s == RESOLVE_KEEP_BOTH;
		assert_int_equal(err, s == RESOLVE_NONE ? E_VERSION_STALE : 0);
		assert_int_equal(world_node(w, n.id).in_trash, !back);
		if (back)
			assert_int_equal(world_node(w, n.id).version_id, anns);
		if (s == RESOLVE_MANUAL)
			assert_int_equal(r.conflict->resolved_at, 0);
	}
}

/* ---- places ---- */

static void folders_merge(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	int64_t a = mkdir_(w, &w->ann, "/Docs");
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, folder("/docs"), &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
	assert_int_equal(r.resource.n, a);
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, folder("/nowhere/x"), &r), E_NOT_FOUND);
	world_file(w, &w->ann, 0, "taken", "x");
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, folder("/taken"), &r), E_NAME_CONFLICT);
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_KEEP_BOTH, -1, folder("/taken"), &r), 0);
	assert_int_equal(r.status, APPLY_RENAMED);
	assert_false(str_eq(r.name, STR("taken")));
}

static void moves_and_renames(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	int64_t a = mkdir_(w, &w->ann, "/a"), b = mkdir_(w, &w->ann, "/a/b");
	struct node f = world_file(w, &w->ann, 0, "f.txt", "x"), g = world_file(w, &w->ann, a, "g.txt", "y");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, place(CHANGE_MOVED, f, "/a/b/f2.txt"), &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
	assert_int_equal(r.parent_id, b);
	assert_true(str_eq(r.name, STR("f2.txt")));
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, place(CHANGE_MOVED, f, "/a/b/f2.txt"), &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
	/* taken */
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_LAST_WRITER_WINS, -1, place(CHANGE_MOVED, f, "/a/g.txt"), &r),
	                 E_NAME_CONFLICT);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_KEEP_BOTH, -1, place(CHANGE_MOVED, f, "/a/g.txt"), &r), 0);
	assert_int_equal(r.status, APPLY_RENAMED);
	/* by metadata, a rename by case alone, to the root, a cycle */
	struct apply_change c = change(CHANGE_RENAMED, node_rid(&g));
	c.name = STR("G.txt");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, c, &r), 0);
	assert_true(str_eq(r.name, STR("G.txt")));
	c.has_parent = true;
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, c, &r), 0);
	assert_int_equal(r.parent_id, 0);
	struct node folder_a = {.id = a, .kind = NODE_FOLDER};
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, place(CHANGE_MOVED, folder_a, "/a/b/a"), &r), E_MOVE_CYCLE);
}

/* ---- deleting a folder as it was seen ---- */

static void a_folder_nobody_touched_goes(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	int64_t a = mkdir_(w, &w->ben, "/a");
	world_file(w, &w->ben, a, "f.txt", "x");
	int64_t seen = world_head(w);
	int64_t before = world_head(w);
	/* the device's own changes do not protect it */
	world_file(w, &w->ann, a, "own.txt", "y");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, seen, change(CHANGE_DELETED, (struct rid){ID_FOLDER, a}), &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
	assert_false(folder_live(w, a));
	assert_int_equal(world_head(w), before + 2);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, seen, change(CHANGE_DELETED, (struct rid){ID_FOLDER, a}), &r), 0);
	assert_int_equal(r.status, APPLY_NOOP);
}

static void what_others_changed_stays(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	int64_t a = mkdir_(w, &w->ann, "/a"), b = mkdir_(w, &w->ann, "/a/b"), c = mkdir_(w, &w->ann, "/a/c");
	int64_t out = mkdir_(w, &w->ann, "/moved");
	struct node keep = world_file(w, &w->ann, b, "keep.txt", "x"), go = world_file(w, &w->ann, b, "go.txt", "x");
	struct node deep = world_file(w, &w->ann, c, "deep.txt", "x"), inside = world_file(w, &w->ann, out, "in.txt", "x");
	int64_t seen = world_head(w);
	world_edit(w, &w->ben, keep.id, keep.version_id, false, "edited");
	struct node moved = {.id = out, .kind = NODE_FOLDER};
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, place(CHANGE_MOVED, moved, "/a/moved"), NULL), 0);
	struct node fresh = world_file(w, &w->ben, a, "new.txt", "n");
	struct apply_change d = change(CHANGE_DELETED, (struct rid){ID_FOLDER, a});
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, seen, d, &r), 0);
	assert_int_equal(r.status, APPLY_CONFLICT);
	assert_int_equal(r.conflict->type, CONFLICT_FOLDER_DELETE);
	assert_true(folder_live(w, a) && folder_live(w, b) && folder_live(w, out));
	assert_false(world_node(w, keep.id).in_trash || world_node(w, inside.id).in_trash || world_node(w, fresh.id).in_trash);
	assert_false(folder_live(w, c));
	assert_true(world_node(w, go.id).in_trash && world_node(w, deep.id).in_trash);
	/* having seen it all, it goes whole */
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, world_head(w), d, &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
	assert_true(world_node(w, keep.id).in_trash);
}

static int forget_op(struct tx *tx, void *arg)
{
	(void)arg;
	int err = tx_exec(tx, "delete from changes", DB_NO_ARGS, NULL);
	return err ? err : tx_exec(tx, "update tenants set floor_seq = seq", DB_NO_ARGS, NULL);
}

static void a_folder_that_was_renamed_stays(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	int64_t a = mkdir_(w, &w->ann, "/a");
	int64_t seen = world_head(w);
	struct node n = {.id = a, .kind = NODE_FOLDER};
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, place(CHANGE_RENAMED, n, "/important"), NULL), 0);
	struct apply_change d = change(CHANGE_DELETED, (struct rid){ID_FOLDER, a});
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, seen, d, &r), 0);
	assert_int_equal(r.status, APPLY_CONFLICT);
	assert_true(folder_live(w, a));
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, world_head(w) + 5, d, &r), E_CURSOR_INVALID);
	/* the log no longer reaches back to what others did: nothing is known of it, so nothing goes */
	assert_int_equal(db_write(w->db, 0, forget_op, NULL), 0);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, seen, d, &r), E_CURSOR_INVALID);
	assert_true(folder_live(w, a));
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, d, &r), 0);
	assert_false(folder_live(w, a));
}

static void a_file_is_judged_by_base_cursor_too(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "x");
	int64_t seen = world_head(w);
	int64_t v2 = world_edit(w, &w->ben, n.id, n.version_id, false, "edited");
	world_edit(w, &w->ann, n.id, v2, false, "and by ann");
	struct apply_change d = change(CHANGE_DELETED, node_rid(&n));
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_LAST_WRITER_WINS, seen, d, &r), 0);
	assert_int_equal(r.status, APPLY_CONFLICT);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_LAST_WRITER_WINS, world_head(w), d, &r), 0);
	assert_int_equal(r.status, APPLY_APPLIED);
}

/* ---- requests ---- */

static void an_op_is_done_once(void **state)
{
	struct world *w = *state;
	struct apply_result r, again;
	struct apply_change c = folder("/once");
	c.op_id = STR("op-1");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_KEEP_BOTH, -1, c, &r), 0);
	struct node n = {.id = r.resource.n, .kind = NODE_FOLDER};
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, place(CHANGE_RENAMED, n, "/renamed"), NULL), 0);
	int64_t head = world_head(w);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_KEEP_BOTH, -1, c, &again), 0);
	assert_int_equal(again.status, APPLY_DUPLICATE);
	assert_int_equal(again.resource.n, r.resource.n);
	assert_int_equal(again.seq, r.seq);
	assert_true(str_eq(again.name, STR("once")));
	assert_int_equal(world_head(w), head);
	/* another device's op of that name is another op; another change under it is refused */
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_KEEP_BOTH, -1, c, &again), 0);
	assert_int_equal(again.status, APPLY_APPLIED);
	struct apply_change d = change(CHANGE_DELETED, r.resource);
	d.op_id = STR("op-1");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, d, &again), E_IDEMPOTENCY);
}

static void a_conflict_is_repeated_with_its_op(void **state)
{
	struct world *w = *state;
	struct apply_result r, again;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "base");
	world_edit(w, &w->ben, n.id, n.version_id, false, "ben's");
	struct apply_change c = update(n.id, world_edit(w, &w->ann, n.id, n.version_id, true, "ann's"), n.version_id);
	c.op_id = STR("op");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_KEEP_BOTH, -1, c, &r), 0);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_KEEP_BOTH, -1, c, &again), 0);
	assert_int_equal(again.status, APPLY_CONFLICT);
	assert_int_equal(again.conflict->id, r.conflict->id);
	assert_int_equal(again.conflict->copy_id, r.conflict->copy_id);
}

static void without_a_strategy_all_or_nothing(void **state)
{
	struct world *w = *state;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "base");
	world_edit(w, &w->ben, n.id, n.version_id, false, "ben's");
	int64_t stale = world_edit(w, &w->ann, n.id, n.version_id, true, "ann's");
	int64_t head = world_head(w);
	struct apply_change two[] = {folder("/first"), update(n.id, stale, n.version_id)};
	struct apply_in in = {w->ann.device, w->share_id, RESOLVE_NONE, -1, two, 2};
	struct apply_out out;
	assert_int_equal(drive_apply(&w->ann.ctx, &in, &out), E_VERSION_STALE);
	ctx_clear(&w->ann.ctx);
	assert_int_equal(world_head(w), head);
	struct apply_change *many = arena_many(&w->arena, 10001, struct apply_change);
	for (int i = 0; i < 10001; i++)
		many[i] = folder("/x");
	in = (struct apply_in){w->ann.device, w->share_id, RESOLVE_NONE, -1, many, 501};
	assert_int_equal(drive_apply(&w->ann.ctx, &in, &out), E_INVALID);
	ctx_clear(&w->ann.ctx);
	in.strategy = RESOLVE_KEEP_BOTH;
	in.n_changes = 10001;
	assert_int_equal(drive_apply(&w->ann.ctx, &in, &out), E_INVALID);
	ctx_clear(&w->ann.ctx);
}

static void many_changes_in_order(void **state)
{
	struct world *w = *state;
	enum { N = 1201 };
	struct apply_change *many = arena_many(&w->arena, N, struct apply_change);
	many[0] = folder("/d");
	for (int i = 1; i < N; i++)
		many[i] = folder((const char *)arena_cstr(&w->arena, arena_fmt(&w->arena, "/d/%d", i % 1100)));
	many[700].new_path = STR("/absent/x");
	struct apply_in in = {w->ann.device, w->share_id, RESOLVE_KEEP_BOTH, -1, many, N};
	struct apply_out out;
	world_ok(&w->ann.ctx, drive_apply(&w->ann.ctx, &in, &out));
	assert_int_equal(out.n_results, N);
	assert_int_equal(out.results[0].status, APPLY_APPLIED);
	assert_int_equal(out.results[700].err, E_NOT_FOUND);
	assert_int_equal(out.results[1150].status, APPLY_NOOP);
	assert_int_equal(out.results[1150].resource.n, out.results[50].resource.n);
	assert_int_equal(out.cursor, world_head(w));
}

/* ---- the daring way and the careful one ---- */

struct told {
	struct buf text;
	int64_t from_seq;
};

static int tell_rows(struct tx *tx, void *arg)
{
	struct told *told = arg;
	static const char *const queries[] = {
	    "select seq - $1, change_type, coalesce(old_path, '-'), coalesce(new_path, '-') from changes where seq > $1 order by seq",
	    "select status, err, op_id, coalesce(name, '-') from op_results order by op_id",
	    "select kind, version, name, cast(size_bytes as text) from nodes order by name_key, kind, version",
	    "select used_bytes, 0, '', '' from shares order by used_bytes",
	    "select count(*), 0, '', '' from versions",
	    "select strategy, resolution, conflict_type, coalesce(path, '-') from conflicts order by id",
	};
	for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
		AUTO_ROWS *r = NULL;
		const struct dbv from = V_I(told->from_seq);
		assert_int_equal(tx_query(tx, queries[i], &from, i == 0, &r), 0);
		while (rows_next(r))
			buf_fmt(&told->text, "%lld %lld %.*s %.*s\n", (long long)rows_i64(r, 0), (long long)rows_i64(r, 1),
			        STR_ARG(rows_text(r, 2)), STR_ARG(rows_text(r, 3)));
		assert_int_equal(rows_close(&r), 0);
	}
	return 0;
}

enum { MIXED = 180, STEPS = MIXED + 150 };

/* A request of changes that mostly succeed, behind a world in which some cannot; files alone from MIXED on. */
static void fill(struct world *w, struct apply_change *c)
{
	struct arena *a = &w->arena;
	struct apply_bytes *bytes = arena_new(a, struct apply_bytes);
	struct apply_result before;
	struct node source = world_file(w, &w->ann, 0, "source", "some bytes"), edited = world_file(w, &w->ann, 0, "edited", "base");
	int64_t base = edited.version_id, mine = world_edit(w, &w->ann, edited.id, base, true, "mine");
	struct apply_change done = folder("/done");
	done.op_id = STR("op-93");
	world_edit(w, &w->ben, edited.id, base, false, "theirs");
	world_file(w, &w->ben, 0, "taken", "x");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_KEEP_BOTH, -1, done, &before), 0);
	bytes->source_version_id = source.version_id;
	for (int i = 0; i < STEPS; i++) {
		c[i] = folder(arena_cstr(a, arena_fmt(a, i % 3 || i >= MIXED ? "/f%d" : "/f%d/sub", i % 3 || i >= MIXED ? i : i - 1)));
		if (i % 3 == 0 || i % 6 == 1 || i >= MIXED) {
			c[i].resource.kind = ID_FILE;
			c[i].bytes = bytes;
		}
		if (i % 5)
			c[i].op_id = arena_fmt(a, "op-%d", i);
	}
	c[93] = done;                                                   /* done by an earlier request */
	c[107] = update(edited.id, mine, base);                         /* a conflict */
	c[121].new_path = STR("/taken");                                /* a file's name, by another user */
	c[122].new_path = STR("/TAKEN");
	c[123].op_id = STR("op-121");                                   /* twice in one request */
	c[170].new_path = STR("/absent/x");
	c[280].new_path = STR("/f200");                                 /* made just before */
	c[311].op_id = STR("op-312");
}

/* What the request of changes from..from + n answers and leaves behind; first_fails: its first change trips it, so that all is done
 * with care. */
static struct buf play(struct world *w, bool first_fails, size_t from, size_t n)
{
	struct told told = {0};
	struct apply_change c[1 + STEPS];
	struct apply_out out;
	fill(w, c + 1);
	c[from] = folder("/absent/y");
	size_t skip = first_fails ? 0 : 1;
	struct apply_in in = {w->ann.device, w->share_id, RESOLVE_KEEP_BOTH, -1, c + from + skip, n + 1 - skip};
	told.from_seq = world_head(w);
	world_ok(&w->ann.ctx, drive_apply(&w->ann.ctx, &in, &out));
	for (size_t i = 1 - skip; i < in.n_changes; i++) {
		const struct apply_result *r = &out.results[i];
		buf_fmt(&told.text, "%zu %d %d %d %d %lld %.*s %lld %d\n", i - (1 - skip), r->status, r->err, r->type, r->resource.kind,
		        (long long)r->version, STR_ARG(r->name), (long long)(r->seq ? r->seq - told.from_seq : 0), r->conflict_id != 0);
	}
	assert_int_equal(db_read(w->db, tell_rows, &told), 0);
	buf_char(&told.text, 0);
	return told.text;
}

/* A failure at any place of a request gives the answers and the rows that care from the start would have given. */
static void daring_and_careful_do_the_same(void **state)
{
	static const struct {
		size_t from, n;
	} parts[] = {{0, 90}, {0, 94}, {0, 108}, {0, 122}, {0, 124}, {0, MIXED}, {MIXED, 100}, {MIXED, 150}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		struct buf text[2];
		for (int careful = 0; careful < 2; careful++) {
			world_free(*state);
			*state = world_new();
			text[careful] = play(*state, careful, parts[i].from, parts[i].n);
		}
		assert_string_equal(text[0].p, text[1].p);
		assert_true(text[0].n > 1000);
		buf_fini(&text[0]);
		buf_fini(&text[1]);
	}
}

static void rights_are_asked(void **state)
{
	struct world *w = *state;
	struct apply_result r;
	assert_int_equal(world_apply(w, &w->rea, RESOLVE_NONE, -1, folder("/x"), &r), E_FORBIDDEN);
	struct apply_change c = folder("/x");
	struct apply_in in = {w->ben.device, w->share_id, RESOLVE_NONE, -1, &c, 1};
	struct apply_out out;
	assert_int_equal(drive_apply(&w->ann.ctx, &in, &out), E_NOT_FOUND); /* another user's device */
	ctx_clear(&w->ann.ctx);
	in.device_id = w->ann.device;
	in.share_id += 1;
	assert_int_equal(drive_apply(&w->ann.ctx, &in, &out), E_NOT_FOUND);
	ctx_clear(&w->ann.ctx);
	c.resource = (struct rid){ID_SHARE, w->share_id};
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_NONE, -1, c, &r), E_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(a_staged_edit_on_the_head),
	    CASE(a_stale_edit_by_strategy),
	    CASE(equal_bytes_are_no_conflict),
	    CASE(a_foreign_version_is_refused),
	    CASE(an_older_version_comes_back),
	    CASE(created_is_acknowledged),
	    CASE(a_delete_by_strategy),
	    CASE(an_edit_beats_a_delete),
	    CASE(folders_merge),
	    CASE(moves_and_renames),
	    CASE(a_folder_nobody_touched_goes),
	    CASE(what_others_changed_stays),
	    CASE(a_folder_that_was_renamed_stays),
	    CASE(a_file_is_judged_by_base_cursor_too),
	    CASE(an_op_is_done_once),
	    CASE(a_conflict_is_repeated_with_its_op),
	    CASE(without_a_strategy_all_or_nothing),
	    CASE(many_changes_in_order),
	    CASE(daring_and_careful_do_the_same),
	    CASE(rights_are_asked),
	};
	return RUN_ON_BOTH("apply", tests);
}
