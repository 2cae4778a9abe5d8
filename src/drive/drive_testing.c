#include "drive/drive_testing.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/must.h"
#include "drive/schema.h"

static int64_t now_us(const struct clock *c)
{
	const struct testing_clock *t = (const struct testing_clock *)c;
	return clock_now(&clock_system) + t->offset_us;
}

static int64_t monotonic_us(const struct clock *c)
{
	(void)c;
	return clock_mono(&clock_system);
}

static int run_sql(struct tx *tx, void *arg)
{
	return tx_exec(tx, arg, DB_NO_ARGS, NULL);
}

/* One statement a transaction, since each may name what the one before made. */
static void sql(struct testing *t, const char *text)
{
	must(db_write(t->db, 0, run_sql, (void *)text) == 0);
}

static int seed_op(struct tx *tx, void *arg)
{
	struct testing *t = arg;
	static const uint8_t key[32] = "an arbitrary key for the chunker";
	int64_t tenants[] = {t->tenant_id, t->other_tenant_id};
	int err = 0;
	for (int i = 0; !err && i < 2; i++)
		err = tx_exec(tx,
		              "insert into tenants (id, name, display_name, chunk_key, created_at) values ($1, $2, $2, $3, 1)",
		              DB_ARGS(V_I(tenants[i]), V_T(i ? STR("other") : STR("main")), V_B(str_n(key, 32))), NULL);
	for (int i = 0; !err && i <= TESTING_USERS; i++) {
		const struct principal *p = i < TESTING_USERS ? &t->users[i] : &t->stranger;
		err = tx_exec(tx,
		              "insert into users (id, tenant_id, email, email_key, name, created_at)"
		              " values ($1, $2, $3, $3, $4, 1)",
		              DB_ARGS(V_I(p->user_id), V_I(p->tenant_id), V_T(p->email), V_T(p->name)), NULL);
	}
	if (!err)
		err = tx_exec(tx, "insert into user_groups (id, tenant_id, name, created_at) values ($1, $2, 'crew', 1)",
		              DB_ARGS(V_I(t->group_id), V_I(t->tenant_id)), NULL);
	if (!err)
		err = tx_exec(tx, "insert into user_group_members (group_id, user_id) values ($1, $2)",
		              DB_ARGS(V_I(t->group_id), V_I(t->users[3].user_id)), NULL);
	return err;
}

static void people(struct testing *t)
{
	static const char *const names[] = {"Ada Admin", "Bob Baker", "Cleo Carter", "Dan Dock", "Eve Else"};
	static const char *const emails[] = {"ada@example.org", "bob@example.org", "cleo@example.org", "dan@example.org",
	                                     "eve@example.net"};
	for (int i = 0; i <= TESTING_USERS; i++)
		*(i < TESTING_USERS ? &t->users[i] : &t->stranger) = (struct principal){
		    .tenant_id = i < TESTING_USERS ? t->tenant_id : t->other_tenant_id,
		    .user_id = idgen_next(&t->ids),
		    .admin = i == 0 ? ADMIN_TENANT : ADMIN_NONE,
		    .scopes = SCOPE_FILES_READ | SCOPE_FILES_WRITE | (i == 0 ? SCOPE_TENANT_ADMIN : 0),
		    .email = str_c(emails[i]),
		    .name = str_c(names[i]),
		    .device_id = STR_NULL,
		};
	t->users[3].groups = &t->group_id;
	t->users[3].n_groups = 1;
}

static void open_store(struct testing *t)
{
	struct store_config store = {.disk = t->disk, .db = t->db, .ids = &t->ids, .clock = &t->clock.clock};
	must(store_open(&store, &t->store) == 0);
	t->drive.store = t->store;
}

void testing_open(struct testing *t, const char *pg_url)
{
	testing_open_on(t, pg_url, NULL);
}

void testing_restart(struct testing *t, void (*between)(void *arg), void *arg)
{
	store_close(t->store);
	if (between)
		between(arg);
	open_store(t);
}

void testing_open_on(struct testing *t, const char *pg_url, struct disk *disk)
{
	char url[128], packs[80], *why = NULL;
	*t = (struct testing){.clock = {.clock = {now_us, monotonic_us}}};
	snprintf(t->dir, sizeof t->dir, "%s/drive-test-XXXXXX", getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 32 ? getenv("TMPDIR") : "/tmp");
	must(mkdtemp(t->dir));
	snprintf(url, sizeof url, "sqlite:%s/db", t->dir);
	snprintf(packs, sizeof packs, "%s/packs", t->dir);
	must(mkdir(packs, 0700) == 0);
	struct db_config config = {.url = pg_url ? pg_url : url, .clock = &t->clock.clock};
	must(db_open(&config, &t->db, &why) == 0);
	if (pg_url) {
		sql(t, "drop schema public cascade");
		sql(t, "create schema public");
	}
	must(db_migrate(t->db, schema_migrations, schema_n_migrations, &why) == 0);
	idgen_init(&t->ids, &t->clock.clock, 0);
	t->disk = disk;
	if (!disk)
		must(disk_posix_open(packs, &t->disk) == 0);
	t->tenant_id = idgen_next(&t->ids);
	t->other_tenant_id = idgen_next(&t->ids);
	t->group_id = idgen_next(&t->ids);
	people(t);
	must(db_write(t->db, 0, seed_op, t) == 0);
	t->drive = (struct drive){.db = t->db, .packs = t->disk, .ids = &t->ids, .clock = &t->clock.clock,
	                          .rng = &rng_system, .file_max_bytes = INT64_C(5) << 30, .assembling_max = 1};
	open_store(t);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st, (void)kind, (void)at;
	return remove(path);
}

void testing_close(struct testing *t)
{
	store_close(t->store);
	db_close(t->db);
	disk_free(t->disk);
	nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

struct ctx testing_ctx(struct testing *t, struct arena *a, const struct principal *who)
{
	struct ctx ctx;
	ctx_init(&ctx, a, &t->clock.clock, &rng_system);
	ctx.drive = &t->drive;
	ctx.who = who;
	ctx.tenant_id = who->tenant_id;
	ctx.operation = STR("test");
	return ctx;
}

struct content *testing_content(struct testing *t, int64_t tenant_id, struct str bytes)
{
	static const uint8_t key[32] = "an arbitrary key for the chunker";
	struct ingest *in;
	struct content *content;
	must(ingest_begin(t->store, tenant_id, key, (int64_t)bytes.n, &in) == 0);
	must(ingest_feed(in, bytes.p, bytes.n) == 0);
	must(ingest_finish(in, &content) == 0);
	return content;
}

int64_t testing_share(struct ctx *ctx, const char *name)
{
	struct share s;
	struct share_create in = {.name = str_c(name), .share_type = STR("project")};
	must(drive_share_create(ctx, &in, &s) == 0);
	return s.id;
}

int testing_folder(struct ctx *ctx, int64_t share_id, int64_t parent_id, const char *name, struct node *out)
{
	struct folder_create in = {.share_id = share_id, .parent_id = parent_id, .name = str_c(name)};
	return drive_folder_create(ctx, &in, out);
}

int testing_file(struct testing *t, struct ctx *ctx, int64_t share_id, int64_t folder_id, const char *name,
                 struct str bytes, struct node *out)
{
	struct content *content = testing_content(t, ctx->tenant_id, bytes);
	struct version_put in = {.share_id = share_id, .folder_id = folder_id, .name = str_c(name), .content = content};
	struct version_result result;
	int err = drive_file_put(ctx, &in, &result);
	content_free(content);
	*out = result.node;
	return err;
}

int testing_edit(struct testing *t, struct ctx *ctx, int64_t file_id, int64_t base_version_id,
                 enum resolve_strategy strategy, struct str bytes, struct version_result *out)
{
	struct content *content = testing_content(t, ctx->tenant_id, bytes);
	struct version_put in = {.replace_file_id = file_id, .base_version_id = base_version_id, .strategy = strategy,
	                         .content = content};
	int err = drive_file_put(ctx, &in, out);
	content_free(content);
	return err;
}

struct statement {
	const char *sql;
	const struct dbv *args;
	size_t n_args;
};

static int statement_op(struct tx *tx, void *arg)
{
	const struct statement *s = arg;
	return tx_exec(tx, s->sql, s->args, s->n_args, NULL);
}

void testing_exec(struct testing *t, const char *sql, const struct dbv *args, size_t n_args)
{
	must(db_write(t->db, 0, statement_op, &(struct statement){sql, args, n_args}) == 0);
}

struct one {
	const char *text;
	int64_t n;
};

static int one_op(struct tx *tx, void *arg)
{
	struct one *o = arg;
	return tx_i64(tx, o->text, DB_NO_ARGS, -1, &o->n);
}

int64_t testing_i64(struct testing *t, const char *text)
{
	struct one o = {.text = text};
	must(db_read(t->db, one_op, &o) == 0);
	return o.n;
}
