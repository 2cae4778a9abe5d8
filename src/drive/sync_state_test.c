/* Devices, cursors, preferences, conflicts. */
#include "base/limits.h"
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

static int refused(struct ctx *ctx, int err)
{
	ctx_clear(ctx);
	return err;
}

/* ---- devices ---- */

static void a_device_registers_again(void **state)
{
	struct world *w = *state;
	struct ctx *ctx = &w->ann.ctx;
	struct device d, again;
	struct device_register_in in = {STR("laptop"), STR("Laptop"), STR("1.0"), DEVICE_MACOS};
	world_ok(ctx, drive_device_register(ctx, &in, &d));
	assert_true(d.is_active && d.platform == DEVICE_MACOS && d.created_at > 0);
	world_ok(ctx, drive_device_update(ctx, &(struct device_update_in){STR("laptop"), STR_NULL, true, false}, &again));
	assert_false(again.is_active);
	in.name = STR("Laptop 2");
	world_ok(ctx, drive_device_register(ctx, &in, &again));
	assert_int_equal(again.id, d.id);
	assert_true(again.is_active && str_eq(again.name, STR("Laptop 2")));
	world_ok(ctx, drive_device_update(ctx, &(struct device_update_in){STR("laptop"), STR_NULL, true, false}, &again));
	world_ok(ctx, drive_device_heartbeat(ctx, STR("laptop")));
	world_ok(ctx, drive_device_get(ctx, STR("laptop"), &again));
	assert_true(again.is_active && again.last_seen_at > 0);
	struct device_list list;
	world_ok(ctx, drive_device_list(ctx, &list));
	assert_int_equal(list.n, 2);
	world_ok(ctx, drive_device_delete(ctx, STR("laptop")));
	assert_int_equal(refused(ctx, drive_device_heartbeat(ctx, STR("laptop"))), E_NOT_FOUND);
	assert_int_equal(refused(ctx, drive_device_register(ctx, &(struct device_register_in){STR("a b"), STR("x"), STR_NULL,
	                                                                                    DEVICE_CLI}, &d)), E_INVALID);
}

static void devices_are_their_users(void **state)
{
	struct world *w = *state;
	struct device d;
	/* the same name is another device of another user */
	struct device_register_in in = {w->ann.device, STR("Ben's"), STR_NULL, DEVICE_CLI};
	world_ok(&w->ben.ctx, drive_device_register(&w->ben.ctx, &in, &d));
	world_ok(&w->ben.ctx, drive_device_delete(&w->ben.ctx, w->ann.device));
	world_ok(&w->ann.ctx, drive_device_get(&w->ann.ctx, w->ann.device, &d));
	assert_int_equal(refused(&w->ann.ctx, drive_device_get(&w->ann.ctx, w->ben.device, &d)), E_NOT_FOUND);
	assert_int_equal(refused(&w->ann.ctx, drive_device_delete(&w->ann.ctx, w->ben.device)), E_NOT_FOUND);
	/* a socket is told which of the two it is */
	assert_int_equal(refused(&w->ann.ctx, drive_device_connect(&w->ann.ctx, w->ben.device, &d)), E_FORBIDDEN);
	assert_int_equal(refused(&w->ann.ctx, drive_device_connect(&w->ann.ctx, STR("nobody's"), &d)), E_NOT_FOUND);
	/* a token of one device reaches no other */
	in.device_id = STR("other");
	world_ok(&w->ann.ctx, drive_device_register(&w->ann.ctx, &in, &d));
	w->ann.who.device_id = w->ann.device;
	world_ok(&w->ann.ctx, drive_device_heartbeat(&w->ann.ctx, w->ann.device));
	assert_int_equal(refused(&w->ann.ctx, drive_device_heartbeat(&w->ann.ctx, STR("other"))), E_FORBIDDEN);
	assert_int_equal(refused(&w->ann.ctx, drive_device_register(&w->ann.ctx, &in, &d)), E_FORBIDDEN);
}

static void devices_are_bounded(void **state)
{
	struct world *w = *state;
	struct device d;
	int err = 0, n = 0;
	for (; !err && n < 2 * LIMIT_DEVICES_PER_USER; n++) {
		struct device_register_in in = {arena_fmt(&w->arena, "d%d", n), STR("x"), STR_NULL, DEVICE_CLI};
		err = drive_device_register(&w->ann.ctx, &in, &d);
	}
	assert_int_equal(refused(&w->ann.ctx, err), E_CONFLICT);
	assert_int_equal(n, LIMIT_DEVICES_PER_USER); /* one was there */
}

/* ---- cursors ---- */

static void a_cursor_begins_at_the_head_and_never_goes_back(void **state)
{
	struct world *w = *state;
	struct ctx *ctx = &w->ann.ctx;
	struct sync_state s;
	world_file(w, &w->ben, 0, "a", "x");
	int64_t head = world_head(w);
	world_ok(ctx, drive_sync_status(ctx, w->ann.device, w->share_id, &s));
	assert_int_equal(s.position, head);
	assert_int_equal(s.last_sync_at, 0);
	assert_int_equal(s.pending_changes, 0);
	world_file(w, &w->ben, 0, "b", "x");
	world_file(w, &w->ben, 0, "c", "x");
	world_ok(ctx, drive_sync_status(ctx, w->ann.device, w->share_id, &s));
	assert_int_equal(s.position, head);
	assert_int_equal(s.pending_changes, 2);
	world_ok(ctx, drive_sync_cursor_set(ctx, w->ann.device, w->share_id, head + 2, &s));
	assert_int_equal(s.position, head + 2);
	assert_true(s.last_sync_at > 0);
	world_ok(ctx, drive_sync_cursor_set(ctx, w->ann.device, w->share_id, head, &s));
	assert_int_equal(s.position, head + 2);
	world_ok(ctx, drive_sync_cursor_set(ctx, w->ann.device, w->share_id, head + 2, &s));
	assert_int_equal(refused(ctx, drive_sync_cursor_set(ctx, w->ann.device, w->share_id, head + 3, &s)), E_CURSOR_INVALID);
	assert_int_equal(refused(ctx, drive_sync_cursor_set(ctx, w->ann.device, w->share_id, -1, &s)), E_CURSOR_INVALID);
	assert_int_equal(refused(ctx, drive_sync_cursor_set(ctx, STR("?"), w->share_id, head, &s)), E_NOT_FOUND);
	assert_int_equal(refused(ctx, drive_sync_cursor_set(ctx, w->ann.device, w->share_id + 1, head, &s)), E_NOT_FOUND);
	assert_int_equal(refused(ctx, drive_sync_status(ctx, w->ben.device, w->share_id, &s)), E_NOT_FOUND);
	/* a cursor that was set before it was asked for */
	world_ok(&w->rea.ctx, drive_sync_cursor_set(&w->rea.ctx, w->rea.device, w->share_id, 1, &s));
	assert_int_equal(s.position, 1);
}

/* ---- preferences ---- */

static void preferences_are_kept_and_replaced(void **state)
{
	struct world *w = *state;
	struct ctx *ctx = &w->ann.ctx;
	struct preference_list list;
	int64_t folders[] = {11, 12};
	struct preference p = {.share_id = w->share_id, .sync_enabled = true, .has_selected = true, .selected = folders,
	                       .n_selected = 2};
	world_ok(ctx, drive_preference_put(ctx, w->ann.device, &p, 1, false, &list));
	assert_int_equal(list.n, 1);
	assert_true(list.items[0].has_selected && !list.items[0].has_excluded);
	assert_int_equal(list.items[0].n_selected, 2);
	assert_int_equal(list.items[0].selected[1], 12);
	p = (struct preference){.share_id = w->share_id, .has_excluded = true};
	world_ok(ctx, drive_preference_put(ctx, w->ann.device, &p, 1, false, &list));
	assert_true(list.n == 1 && !list.items[0].sync_enabled && !list.items[0].has_selected);
	assert_true(list.items[0].has_excluded && list.items[0].n_excluded == 0);
	world_ok(ctx, drive_preference_put(ctx, w->ann.device, NULL, 0, true, &list));
	assert_int_equal(list.n, 0);
	world_ok(ctx, drive_preference_put(ctx, w->ann.device, &p, 1, true, &list));
	assert_int_equal(list.n, 1);
	/* all or none */
	struct preference two[] = {{.share_id = w->share_id, .sync_enabled = true}, {.share_id = w->share_id + 1}};
	assert_int_equal(refused(ctx, drive_preference_put(ctx, w->ann.device, two, 2, true, &list)), E_NOT_FOUND);
	world_ok(ctx, drive_preference_list(ctx, w->ann.device, &list));
	assert_true(list.n == 1 && !list.items[0].sync_enabled);
	assert_int_equal(refused(ctx, drive_preference_list(ctx, w->ben.device, &list)), E_NOT_FOUND);
}

/* ---- conflicts ---- */

/* Ben's edit is the head, Ann's came with MANUAL. */
static struct conflict manual(struct world *w, const char *name)
{
	struct apply_result r;
	struct node n = world_file(w, &w->ann, 0, name, "base");
	world_edit(w, &w->ben, n.id, n.version_id, false, "ben's");
	struct apply_change c = {.resource = {ID_FILE, n.id}, .type = CHANGE_UPDATED, .base_version_id = n.version_id};
	c.version_id = world_edit(w, &w->ann, n.id, n.version_id, true, "ann's");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_MANUAL, -1, c, &r), 0);
	return *r.conflict;
}

static void conflicts_are_listed_to_readers(void **state)
{
	struct world *w = *state;
	struct conflict_list list;
	struct sync_state s;
	struct conflict c = manual(w, "a.txt");
	manual(w, "b.txt");
	struct conflict_list_in all = {0}, mine = {.device_id = w->ann.device}, here = {.share_id = w->share_id, .limit = 1};
	world_ok(&w->rea.ctx, drive_conflict_list(&w->rea.ctx, &all, &list));
	assert_int_equal(list.n, 2);
	assert_true(list.items[0].id > list.items[1].id);
	assert_true(str_eq(list.items[1].path, STR("/a.txt")));
	world_ok(&w->ann.ctx, drive_conflict_list(&w->ann.ctx, &mine, &list));
	assert_int_equal(list.n, 2);
	world_ok(&w->ann.ctx, drive_conflict_list(&w->ann.ctx, &here, &list));
	assert_int_equal(list.n, 1);
	mine.device_id = w->ben.device;
	world_ok(&w->ben.ctx, drive_conflict_list(&w->ben.ctx, &mine, &list));
	assert_int_equal(list.n, 0);
	assert_int_equal(refused(&w->ann.ctx, drive_conflict_list(&w->ann.ctx, &mine, &list)), E_NOT_FOUND);
	world_ok(&w->ann.ctx, drive_sync_status(&w->ann.ctx, w->ann.device, w->share_id, &s));
	assert_true(s.has_conflicts);
	/* who is no member sees none of it */
	world_ok(&w->admin.ctx, drive_member_remove(&w->admin.ctx, w->share_id, (struct rid){ID_USER, w->rea.user.id}));
	world_ok(&w->rea.ctx, drive_conflict_list(&w->rea.ctx, &all, &list));
	assert_int_equal(list.n, 0);
	assert_int_equal(refused(&w->rea.ctx, drive_conflict_resolve(&w->rea.ctx, c.id, RESOLVE_SERVER_WINS, &c)), E_NOT_FOUND);
}

static void a_conflict_is_settled_once(void **state)
{
	struct world *w = *state;
	struct ctx *ctx = &w->ann.ctx;
	static const enum resolve_strategy ways[] = {RESOLVE_LAST_WRITER_WINS, RESOLVE_CLIENT_WINS, RESOLVE_SERVER_WINS,
	                                             RESOLVE_KEEP_BOTH};
	for (int i = 0; i < 4; i++) {
		char name[16];
		snprintf(name, sizeof name, "s%d.txt", i);
		struct conflict c = manual(w, name), again;
		bool wins = i < 2;
		int64_t head = world_head(w);
		assert_int_equal(refused(ctx, drive_conflict_resolve(ctx, c.id, RESOLVE_MANUAL, &again)), E_INVALID);
		assert_int_equal(refused(&w->rea.ctx, drive_conflict_resolve(&w->rea.ctx, c.id, ways[i], &again)), E_FORBIDDEN);
		assert_int_equal(world_head(w), head);
		world_ok(ctx, drive_conflict_resolve(ctx, c.id, ways[i], &again));
		assert_int_equal(again.resolution, ways[i]);
		assert_true(again.resolved_at > 0 && again.resolved_by == w->ann.user.id);
		struct node n = world_node(w, c.resource.n);
		assert_int_equal(n.version, wins ? 4 : 2);
		assert_int_equal(again.copy_id != 0, ways[i] == RESOLVE_KEEP_BOTH);
		head = world_head(w);
		world_ok(ctx, drive_conflict_resolve(ctx, c.id, ways[i], &again));
		assert_int_equal(world_head(w), head);
		enum resolve_strategy other = ways[(i + 1) % 4];
		assert_int_equal(refused(ctx, drive_conflict_resolve(ctx, c.id, other, &again)), E_CONFLICT);
	}
	struct conflict_list list;
	world_ok(ctx, drive_conflict_list(ctx, &(struct conflict_list_in){0}, &list));
	assert_int_equal(list.n, 0);
	world_ok(ctx, drive_conflict_list(ctx, &(struct conflict_list_in){.include_resolved = true}, &list));
	assert_int_equal(list.n, 4);
}

static void a_newer_edit_is_not_overwritten(void **state)
{
	struct world *w = *state;
	struct ctx *ctx = &w->ann.ctx;
	struct conflict c = manual(w, "a.txt"), out;
	int64_t newer = world_edit(w, &w->ben, c.resource.n, c.server_version_id, false, "newer");
	assert_int_equal(refused(ctx, drive_conflict_resolve(ctx, c.id, RESOLVE_CLIENT_WINS, &out)), E_CONFLICT);
	assert_int_equal(refused(ctx, drive_conflict_resolve(ctx, c.id, RESOLVE_KEEP_BOTH, &out)), E_CONFLICT);
	assert_int_equal(world_node(w, c.resource.n).version_id, newer);
}

static void a_delete_that_met_an_edit_is_settled(void **state)
{
	struct world *w = *state;
	struct ctx *ctx = &w->ann.ctx;
	struct apply_result r;
	struct conflict out;
	struct node n = world_file(w, &w->ann, 0, "a.txt", "base");
	world_edit(w, &w->ben, n.id, n.version_id, false, "ben's");
	struct apply_change d = {.resource = {ID_FILE, n.id}, .type = CHANGE_DELETED, .base_version_id = n.version_id};
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_MANUAL, -1, d, &r), 0);
	assert_false(world_node(w, n.id).in_trash);
	world_ok(ctx, drive_conflict_resolve(ctx, r.conflict->id, RESOLVE_CLIENT_WINS, &out));
	assert_true(world_node(w, n.id).in_trash);
	/* and an edit that met a delete */
	struct node m = world_file(w, &w->ann, 0, "b.txt", "base");
	struct apply_change u = {.resource = {ID_FILE, m.id}, .type = CHANGE_UPDATED, .base_version_id = m.version_id};
	u.version_id = world_edit(w, &w->ann, m.id, m.version_id, true, "ann's");
	d = (struct apply_change){.resource = {ID_FILE, m.id}, .type = CHANGE_DELETED};
	assert_int_equal(world_apply(w, &w->ben, RESOLVE_NONE, -1, d, NULL), 0);
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_MANUAL, -1, u, &r), 0);
	assert_true(world_node(w, m.id).in_trash);
	world_ok(ctx, drive_conflict_resolve(ctx, r.conflict->id, RESOLVE_CLIENT_WINS, &out));
	m = world_node(w, m.id);
	assert_true(!m.in_trash && m.size_bytes == 5);
}

/* The file went to a share whose readers do not know the folders it came from. */
static void a_conflict_names_no_foreign_path(void **state)
{
	struct world *w = *state;
	struct person *eve = arena_new(&w->arena, struct person);
	struct apply_result r;
	struct node folder, moved;
	struct share other;
	struct member m;
	struct conflict_list list;
	person_init(w, eve, "eve@x", ROLE_NONE);
	world_ok(&w->ann.ctx, drive_folder_create(&w->ann.ctx, &(struct folder_create){.share_id = w->share_id,
	                                                                               .name = STR("merger")}, &folder));
	struct node n = world_file(w, &w->ann, folder.id, "a.txt", "base");
	world_edit(w, &w->ben, n.id, n.version_id, false, "ben's");
	struct apply_change u = {.resource = {ID_FILE, n.id}, .type = CHANGE_UPDATED, .base_version_id = n.version_id};
	u.version_id = world_edit(w, &w->ann, n.id, n.version_id, true, "ann's");
	assert_int_equal(world_apply(w, &w->ann, RESOLVE_MANUAL, -1, u, &r), 0);
	assert_true(str_eq(r.conflict->path, STR("/merger/a.txt")));
	world_ok(&w->ann.ctx, drive_share_create(&w->ann.ctx, &(struct share_create){.name = STR("Two"),
	                                                                             .share_type = STR("project")}, &other));
	world_ok(&w->ann.ctx, drive_member_add(&w->ann.ctx, &(struct member_add){other.id, {ID_USER, eve->user.id},
	                                                                         ROLE_READER, 0}, &m));
	struct node_place place = {.id = n.id, .target_share_id = other.id};
	world_ok(&w->ann.ctx, drive_node_move(&w->ann.ctx, NODE_FILE, &place, &moved));
	world_ok(&eve->ctx, drive_conflict_list(&eve->ctx, &(struct conflict_list_in){0}, &list));
	assert_int_equal(list.n, 1);
	assert_true(str_eq(list.items[0].path, STR("/a.txt")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    CASE(a_device_registers_again),
	    CASE(devices_are_their_users),
	    CASE(devices_are_bounded),
	    CASE(a_cursor_begins_at_the_head_and_never_goes_back),
	    CASE(preferences_are_kept_and_replaced),
	    CASE(conflicts_are_listed_to_readers),
	    CASE(a_conflict_is_settled_once),
	    CASE(a_newer_edit_is_not_overwritten),
	    CASE(a_delete_that_met_an_edit_is_settled),
	    CASE(a_conflict_names_no_foreign_path),
	};
	return RUN_ON_BOTH("sync state", tests);
}
