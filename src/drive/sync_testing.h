/* For the tests of apply, conflicts, devices and cursors: a tenant with one share, two contributors and a reader, each with
 * a device, on SQLite and packs in a temporary folder. Test code: any fault ends the test. */
#ifndef SD_DRIVE_SYNC_TESTING_H
#define SD_DRIVE_SYNC_TESTING_H

#include <unistd.h>

#include "drive/apply.h"
#include "drive/cursor.h"
#include "drive/device.h"
#include "drive/engines_testing.h"
#include "drive/file.h"
#include "drive/folder.h"
#include "drive/preference.h"
#include "drive/schema.h"
#include "drive/share.h"
#include "drive/tenant.h"
#include "io/disk.h"

struct person {
	struct ctx ctx;
	struct principal who;
	struct user user;
	struct str device;
};

struct world {
	char dir[64];
	struct db *db;
	struct disk *disk;
	struct store *store;
	struct idgen ids;
	struct drive drive;
	struct arena arena;
	struct ctx root;
	struct tenant tenant;
	int64_t share_id;
	struct person admin, ann, ben, rea; /* ann and ben contribute, rea reads */
};

static inline void world_ok(struct ctx *ctx, int err)
{
	if (err) {
		struct str s = ctx_detail(ctx, err);
		fail_msg("%s: %.*s", err_info(err)->symbol, STR_ARG(s));
	}
}

static inline void person_init(struct world *w, struct person *p, const char *email, enum role role)
{
	ctx_init(&p->ctx, &w->arena, &clock_system, &rng_system);
	p->ctx.drive = &w->drive;
	p->ctx.tenant_id = w->tenant.id;
	if (!p->user.id)
		world_ok(&w->root, user_add(&w->root, &(struct user_new){.tenant_id = w->tenant.id, .email = str_c(email)}, &p->user));
	world_ok(&w->root, principal_load(&p->ctx, w->tenant.id, p->user.id, &p->who));
	p->who.scopes = SCOPE_FILES_READ | SCOPE_FILES_WRITE;
	p->ctx.who = &p->who;
	if (role != ROLE_NONE) {
		struct member_add add = {w->share_id, {ID_USER, p->user.id}, role, 0};
		struct member m;
		world_ok(&w->admin.ctx, drive_member_add(&w->admin.ctx, &add, &m));
	}
	struct device d;
	p->device = arena_fmt(&w->arena, "dev-%s", email);
	struct device_register_in in = {p->device, str_c(email), STR("1.0"), DEVICE_LINUX};
	world_ok(&p->ctx, drive_device_register(&p->ctx, &in, &d));
}

static inline int world_sql(struct tx *tx, void *arg)
{
	return tx_exec(tx, arg, DB_NO_ARGS, NULL);
}

static inline struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof *w);
	assert_non_null(w);
	snprintf(w->dir, sizeof w->dir, "/tmp/sync-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	arena_init(&w->arena);
	idgen_init(&w->ids, &clock_system, 0);
	char url[128], *why = NULL;
	snprintf(url, sizeof url, "sqlite:%s/db", w->dir);
	assert_int_equal(db_open(&(struct db_config){.url = pg ? pg : url, .inline_writes = true}, &w->db, &why), 0);
	if (pg) {
		assert_int_equal(db_write(w->db, 0, world_sql, "drop schema public cascade"), 0);
		assert_int_equal(db_write(w->db, 0, world_sql, "create schema public"), 0);
	}
	assert_int_equal(db_migrate(w->db, schema_migrations, schema_n_migrations, &why), 0);
	assert_int_equal(disk_posix_open(w->dir, &w->disk), 0);
	struct store_config sc = {w->disk, w->db, &w->ids, &clock_system};
	assert_int_equal(store_open(&sc, &w->store), 0);
	w->drive = (struct drive){.db = w->db,
	                          .store = w->store,
	                          .ids = &w->ids,
	                          .clock = &clock_system,
	                          .rng = &rng_system,
	                          .file_max_bytes = 1 << 30};
	ctx_init(&w->root, &w->arena, &clock_system, &rng_system);
	w->root.drive = &w->drive;
	struct tenant_new in = {.name = STR("t"), .admin = {.email = STR("admin@x")}};
	world_ok(&w->root, tenant_add(&w->root, &in, &w->tenant, &w->admin.user));
	world_ok(&w->root, tenant_share_add(&w->root, &w->admin.user, STR("Share"), &w->share_id));
	person_init(w, &w->admin, "admin@x", ROLE_NONE);
	w->admin.who.scopes = SCOPE_ALL;
	person_init(w, &w->ann, "ann@x", ROLE_CONTRIBUTOR);
	person_init(w, &w->ben, "ben@x", ROLE_CONTRIBUTOR);
	person_init(w, &w->rea, "rea@x", ROLE_READER);
	return w;
}

static inline void world_free(struct world *w)
{
	char cmd[128];
	store_close(w->store);
	disk_free(w->disk);
	db_close(w->db);
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", w->dir);
	assert_int_equal(system(cmd), 0);
	arena_fini(&w->arena);
	free(w);
}

static inline int world_put(struct world *w, struct person *p, struct version_put put, const char *bytes,
                            struct version_result *out)
{
	struct ingest *ingest;
	struct content *content;
	uint8_t key[32];
	world_ok(&p->ctx, drive_chunk_key(&p->ctx, key));
	assert_int_equal(ingest_begin(w->store, w->tenant.id, key, -1, &ingest), 0);
	assert_int_equal(ingest_feed(ingest, bytes, strlen(bytes)), 0);
	assert_int_equal(ingest_finish(ingest, &content), 0);
	put.content = content;
	put.device_id = p->device;
	int err = drive_file_put(&p->ctx, &put, out);
	content_free(content);
	return err;
}

/* A new file. */
static inline struct node world_file(struct world *w, struct person *p, int64_t folder_id, const char *name,
                                     const char *bytes)
{
	struct version_result r;
	struct version_put put = {.share_id = w->share_id, .folder_id = folder_id, .name = str_c(name)};
	world_ok(&p->ctx, world_put(w, p, put, bytes, &r));
	return r.node;
}

/* Another version, as the head or staged; returns its id. */
static inline int64_t world_edit(struct world *w, struct person *p, int64_t file_id, int64_t base, bool staged,
                                 const char *bytes)
{
	struct version_result r;
	struct version_put put = {.replace_file_id = file_id, .base_version_id = base, .staged = staged};
	world_ok(&p->ctx, world_put(w, p, put, bytes, &r));
	return r.version.id;
}

static inline struct node world_node(struct world *w, int64_t id)
{
	struct node n;
	world_ok(&w->admin.ctx, drive_node_get(&w->admin.ctx, NODE_FILE, id, true, &n));
	return n;
}

/* Applies one change; a refusal of the request and a failure of the change look alike. */
static inline int world_apply(struct world *w, struct person *p, enum resolve_strategy s, int64_t base_cursor,
                              struct apply_change c, struct apply_result *out)
{
	struct apply_in in = {p->device, w->share_id, s, base_cursor, &c, 1};
	struct apply_out o;
	struct apply_result scratch;
	int err = drive_apply(&p->ctx, &in, &o);
	*(out ? out : &scratch) = err ? (struct apply_result){0} : o.results[0];
	ctx_clear(&p->ctx);
	return err ? err : o.results[0].err;
}

static inline int64_t world_head(struct world *w)
{
	struct sync_state s;
	struct device d;
	struct device_register_in in = {arena_fmt(&w->arena, "probe-%lld", (long long)idgen_next(&w->ids)), STR("probe"),
	                                STR_NULL, DEVICE_CLI};
	world_ok(&w->admin.ctx, drive_device_register(&w->admin.ctx, &in, &d));
	world_ok(&w->admin.ctx, drive_sync_status(&w->admin.ctx, in.device_id, w->share_id, &s));
	world_ok(&w->admin.ctx, drive_device_delete(&w->admin.ctx, in.device_id));
	return s.position;
}

#endif
