/* One server: its database and packs on two disks of ours, its handlers behind http_dispatch's exchange. */
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "drive/change.h"
#include "drive/schema.h"
#include "drive/tenant.h"
#include "kept.h"
#include "sim.h"

#define DB_NAME "server.db"

/* What a first start leaves. */
static struct {
	struct disk *disk, *state_disk; /* with a server's database; with that of a device */
	struct str db, state;
	int64_t tenant_id, share_ids[SHARES], root_ids[SHARES], user_ids[USERS];
	int64_t made_us;
} template;

/* ---- whole files ---- */

struct str disk_read_all(struct arena *a, struct disk *d, const char *name)
{
	struct disk_file *f;
	int64_t n = 0;
	size_t got = 0;
	if (d->ops->open(d, name, DISK_READ, &f))
		return STR_NULL;
	f->disk = d;
	int err = d->ops->size(f, &n);
	char *p = err ? NULL : arena_alloc(a, (size_t)n + 1);
	if (!err && n)
		err = d->ops->pread(f, p, (size_t)n, 0, &got);
	d->ops->close(f);
	return err ? STR_NULL : str_n(p, got);
}

/* Durable. */
void disk_write_all(struct disk *d, const char *name, struct str bytes)
{
	struct disk_file *f;
	d->ops->unlink(d, name);
	must(d->ops->open(d, name, DISK_WRITE | DISK_CREATE, &f) == 0);
	f->disk = d;
	must(bytes.n == 0 || d->ops->pwrite(f, bytes.p, bytes.n, 0) == 0);
	const char *slash = strrchr(name, '/');
	struct buf dir = {0};
	buf_put(&dir, name, slash ? (size_t)(slash - name) : 0);
	buf_char(&dir, 0);
	must(d->ops->sync(f) == 0 && d->ops->sync_dir(d, dir.p) == 0);
	buf_fini(&dir);
	d->ops->close(f);
}

/* ---- who asks: a token is "uN" ---- */

static int verify(struct authenticator *self, struct ctx *ctx, struct str token)
{
	struct server *v = (struct server *)((char *)self - offsetof(struct server, auth));
	int user = token.n == 2 && token.p[0] == 'u' ? token.p[1] - '0' : -1;
	if (user < 0 || user >= USERS)
		return E_UNAUTHENTICATED;
	struct principal *who = arena_new(ctx->arena, struct principal);
	who->scopes = SCOPE_FILES_READ | SCOPE_FILES_WRITE | SCOPE_TENANT_ADMIN;
	int err = principal_load(ctx, v->tenant_id, v->user_ids[user], who);
	if (err)
		return err;
	ctx->who = who;
	ctx->tenant_id = who->tenant_id;
	return 0;
}

/* ---- one life of the server ---- */

static struct ctx server_ctx(struct server *v, struct arena *a)
{
	struct ctx ctx;
	ctx_init(&ctx, a, &v->clock.clock, &v->rng.base);
	ctx.drive = &v->drive;
	ctx.tenant_id = v->tenant_id;
	return ctx;
}

/* A disk that fails just then may keep it from starting. */
static int open_parts(struct server *v)
{
	char *why = NULL;
	struct db_config config = {.url = "sqlite:" DB_NAME "?vfs=sim0", .inline_writes = true, .clock = &v->clock.clock};
	int err = db_open(&config, &v->db, &why);
	if (!err)
		err = db_migrate(v->db, schema_migrations, schema_n_migrations, &why);
	idgen_init(&v->ids, &v->clock.clock, 0);
	if (!err)
		err = drive_follow_ids(v->db, &v->ids, &v->rng.base);
	if (!err)
		err = store_open(&(struct store_config){v->pack_disk, v->db, &v->ids, &v->clock.clock}, &v->store);
	if (err && (v->sim->calm || !v->sim->faulty))
		sim_violation(v->sim, "the server does not start: %s %s", err_info(err)->symbol, why ? why : "");
	free(why);
	v->drive = (struct drive){.db = v->db, .store = v->store, .packs = v->pack_disk, .ids = &v->ids, .clock = &v->clock.clock, .rng = &v->rng.base,
	                          .file_max_bytes = INT64_C(1) << 30};
	return err;
}

static void close_parts(struct server *v)
{
	care_end(v);
	if (v->store)
		store_close(v->store);
	if (v->db)
		db_close(v->db);
	v->store = NULL;
	v->db = NULL;
}

void server_start(struct server *v)
{
	must(!v->open);
	v->sim->now_us += MILLIS_US(20);
	if (open_parts(v)) {
		close_parts(v);
		server_stop(v);
		return;
	}
	struct http_config h = {.routes = api_routes, .n_routes = api_n_routes, .clock = &v->clock.clock, .rng = &v->rng.base,
	                        .drive = &v->drive, .auth = &v->auth};
	v->http = http_new(&h);
	v->open = true;
	v->unreachable = 0;
	sim_note(v->sim, "server starts");
	if (v->power_in && !v->sim->calm) {
		v->power = true;
		disk_fault_die(v->db_disk, v->power_in);
	}
	v->power_in = 0;
	oracle_acked(v->sim);
	if (v->sim->look_for_lost)
		oracle_lost(v->sim);
}

bool server_is_dead(struct server *v)
{
	return disk_fault_is_dead(v->db_disk) || disk_fault_is_dead(v->pack_disk);
}

void server_stop(struct server *v)
{
	if (v->open) {
		disk_fault_die(v->db_disk, 0);
		disk_fault_die(v->pack_disk, 0);
		http_free(v->http);
		close_parts(v);
	}
	v->open = false;
	sim_note(v->sim, "server ends%s", v->power ? ", and the power fails" : "");
	struct disk *disks[] = {v->db_disk, v->pack_disk};
	for (int i = 0; i < 2; i++) {
		if (v->power)
			disk_fault_crash(disks[i]);
		else
			disk_fault_restart(disks[i]);
		disk_fault_capacity(disks[i], -1);
	}
	v->power = false;
}

enum { BACKUP_PACKS_MAX = 512 };

struct listing {
	struct server *v;
	const char *dir;
};

static int list_one(void *arg, const char *name, bool is_folder)
{
	const struct listing *l = arg;
	struct server *v = l->v;
	struct str path = arena_fmt(&v->sim->arena, "%s%s%s", l->dir, *l->dir ? "/" : "", name);
	if (is_folder)
		return v->pack_disk->ops->list(v->pack_disk, path.p, list_one, &(struct listing){v, path.p});
	must(v->n_backup_packs + 2 <= BACKUP_PACKS_MAX);
	v->backup_packs[v->n_backup_packs] = path;
	v->n_backup_packs += 2;
	return 0;
}

/* Files of both disks as they are between two requests, the log first folded into the database. */
void server_backup(struct server *v)
{
	struct sim *s = v->sim;
	v->backup_db = disk_read_all(&s->arena, v->db_disk, DB_NAME);
	if (v->backup_db.n < template.db.n || disk_fault_is_dead(v->db_disk))
		v->backup_db = STR_NULL;
	v->backup_packs = arena_many(&s->arena, BACKUP_PACKS_MAX, struct str);
	v->n_backup_packs = 0;
	struct str wal = disk_read_all(&s->arena, v->db_disk, DB_NAME "-wal");
	v->backup_packs[v->n_backup_packs++] = wal;
	v->n_backup_packs++;
	if (v->pack_disk->ops->list(v->pack_disk, "", list_one, &(struct listing){v, ""}))
		v->backup_db = STR_NULL; /* a part of it is none */
	for (size_t i = 2; i < v->n_backup_packs; i += 2) {
		v->backup_packs[i + 1] = disk_read_all(&s->arena, v->pack_disk, v->backup_packs[i].p);
		if (!v->backup_packs[i + 1].p)
			v->backup_db = STR_NULL;
	}
	sim_note(s, "backup");
}

static int epoch_op(struct dtx *t, void *arg)
{
	int64_t ids_behind;
	(void)arg;
	int err = drive_leap_ids(t, &ids_behind);
	return err ? err : change_epoch_begin(t, ids_behind);
}

/* Newer packs stay beside the old ones: they are not in the way. */
void server_restore(struct server *v, int64_t back_us)
{
	struct sim *s = v->sim;
	struct arena arena;
	struct living before;
	if (!v->backup_db.p)
		return;
	v->power = false;
	v->power_in = 0;
	oracle_at_risk(s);
	oracle_before_restore(s, &before);
	server_stop(v);
	s->now_us += SECONDS_US(30);
	disk_write_all(v->db_disk, DB_NAME, v->backup_db);
	v->db_disk->ops->unlink(v->db_disk, DB_NAME "-wal");
	if (v->backup_packs[0].p)
		disk_write_all(v->db_disk, DB_NAME "-wal", v->backup_packs[0]);
	for (size_t i = 2; i < v->n_backup_packs; i += 2) {
		ptrdiff_t slash = str_rchr(v->backup_packs[i], '/');
		struct str dir = str_head(v->backup_packs[i], slash < 0 ? 0 : (size_t)slash);
		if (dir.n && v->pack_disk->ops->mkdir(v->pack_disk, arena_cstr(&s->arena, dir)) == 0)
			v->pack_disk->ops->sync_dir(v->pack_disk, "");
		disk_write_all(v->pack_disk, v->backup_packs[i].p, v->backup_packs[i + 1]);
	}
	sim_note(s, "the backup is restored");
	s->restored = true;
	v->acked_seq = 0;
	v->clock.offset_us = back_us ? v->clock.offset_us - back_us : v->clock.greatest_us; /* see clock_jumps */
	server_start(v);
	if (!v->open)
		return;
	arena_init(&arena);
	struct ctx ctx = server_ctx(v, &arena);
	must(drive_write(&ctx, epoch_op, NULL) == 0);
	arena_fini(&arena);
	oracle_lost(s);
	oracle_after_restore(s, &before);
}

/* ---- requests ---- */

static void feed(struct exchange *x, struct str body)
{
	int err = exchange_open(x);
	for (size_t at = 0; !err && at < body.n; at += 7000)
		err = exchange_feed(x, body.p + at, body.n - at < 7000 ? body.n - at : 7000);
	if (!err)
		exchange_end(x);
}

struct exchange *server_request(struct server *v, struct str method, struct str target, struct str token,
                                struct str content_type, const struct str *headers, size_t n_headers, struct str body)
{
	char length[24], bearer[32];
	if (!v->open)
		return NULL;
	struct exchange *x = exchange_new(v->http);
	snprintf(length, sizeof(length), "%zu", body.n);
	snprintf(bearer, sizeof(bearer), "Bearer %.*s", STR_ARG(token));
	exchange_header(x, STR("Authorization"), arena_str(&x->arena, str_c(bearer)));
	if (body.n)
		exchange_header(x, STR("Content-Length"), arena_str(&x->arena, str_c(length)));
	if (content_type.n)
		exchange_header(x, STR("Content-Type"), content_type);
	for (size_t i = 0; i < n_headers; i++) {
		struct str value = headers[i], name = str_cut(&value, ':');
		exchange_header(x, name, str_trim(value));
	}
	switch (exchange_begin(x, method, target, STR("10.0.0.1"))) {
	case STEP_RUN:
		exchange_run(x, body);
		break;
	case STEP_STREAM:
		feed(x, body);
		break;
	case STEP_SOCKET:
		exchange_fail(x, E_BAD_REQUEST);
		break;
	case STEP_REPLY:
		break;
	}
	exchange_done(x, 0, false);
	return x;
}

struct asked {
	const char *sql;
	int64_t a, out;
};

static int ask_op(struct tx *tx, void *arg)
{
	struct asked *q = arg;
	return tx_i64(tx, q->sql, DB_ARGS(V_I(q->a)), 0, &q->out);
}

int64_t server_i64(struct server *v, const char *sql, int64_t a)
{
	struct asked q = {sql, a, 0};
	if (!v->open || db_read(v->db, ask_op, &q))
		return -1;
	return q.out;
}

struct reading {
	struct sim *s;
	struct server_node *v;
	size_t n;
};

static int nodes_op(struct tx *tx, void *arg)
{
	struct reading *r = arg;
	struct arena *a = &r->s->arena;
	int64_t total;
	AUTO_ROWS *rows = NULL;
	int err = tx_i64(tx, "select count(*) from nodes", DB_NO_ARGS, 0, &total);
	if (!err)
		err = tx_query(tx, "select id, parent_id, version_id, kind, deleted_at, executable, name, sha256, share_id from nodes"
		                   " where parent_id <> 0 order by id", DB_NO_ARGS, &rows);
	if (err)
		return err;
	r->v = arena_many(a, (size_t)total + 1, struct server_node);
	for (r->n = 0; r->n < (size_t)total && rows_next(rows); r->n++) {
		struct server_node *n = &r->v[r->n];
		*n = (struct server_node){.id = rows_i64(rows, 0), .parent_id = rows_i64(rows, 1), .version_id = rows_i64(rows, 2),
		                          .is_folder = rows_i64(rows, 3) == 1, .live = rows_i64(rows, 4) == 0,
		                          .executable = rows_i64(rows, 5) != 0, .name = arena_str(a, rows_text(rows, 6)),
		                          .share = rows_i64(rows, 8) == r->s->server.share_ids[1]};
		struct str hash = rows_blob(rows, 7);
		if (hash.n == 32)
			memcpy(n->hash.b, hash.p, 32);
	}
	return rows_close(&rows);
}

bool server_nodes(struct server *v, struct server_node **out, size_t *n)
{
	struct reading r = {.s = v->sim};
	if (!v->open || db_read(v->db, nodes_op, &r))
		return false;
	for (size_t i = 0; i < r.n; i++)
		for (size_t k = 0; k < r.n; k++)
			if (r.v[k].id == r.v[i].parent_id)
				r.v[i].up = &r.v[k];
	for (size_t i = 0; i < r.n; i++) {
		const struct server_node *up = r.v[i].up;
		for (size_t steps = 0; up && up->live && steps < r.n; steps++)
			up = up->up;
		r.v[i].live = r.v[i].live && !up;
	}
	*out = r.v;
	*n = r.n;
	return true;
}

struct having {
	const struct sha256 *hash;
	int64_t out;
};

static int has_op(struct tx *tx, void *arg)
{
	struct having *h = arg;
	return tx_i64(tx, "select count(*) from versions where sha256 = $1", DB_ARGS(V_B(str_n(h->hash->b, 32))), 0, &h->out);
}

int server_has(struct server *v, const struct sha256 *hash, bool *out)
{
	struct having h = {hash, 0};
	int err = v->open ? db_read(v->db, has_op, &h) : E_NETWORK;
	*out = h.out > 0;
	return err;
}

/* ---- the template ---- */

static int64_t clock_real(const struct clock *c)
{
	const struct sim_clock *s = (const struct sim_clock *)c;
	return s->sim->now_us + s->offset_us;
}

static int64_t clock_monotonic(const struct clock *c)
{
	return ((const struct sim_clock *)c)->sim->now_us;
}

void sim_clock_init(struct sim_clock *c, struct sim *s)
{
	*c = (struct sim_clock){.clock = {clock_real, clock_monotonic}, .sim = s};
}

static void make_rows(struct server *v, struct arena *a)
{
	struct ctx ctx = server_ctx(v, a);
	struct tenant tenant;
	struct user users[USERS];
	struct tenant_new in = {.name = STR("main"), .admin = {.email = STR("ada@example.org"), .name = STR("Ada")}};
	must(tenant_add(&ctx, &in, &tenant, &users[0]) == 0);
	v->tenant_id = ctx.tenant_id = tenant.id;
	for (int i = 1; i < USERS; i++) {
		struct user_new u = {.tenant_id = tenant.id, .email = arena_fmt(a, "u%d@example.org", i), .name = arena_fmt(a, "User %d", i)};
		must(user_add(&ctx, &u, &users[i]) == 0);
	}
	for (int i = 0; i < SHARES; i++) {
		must(tenant_share_add(&ctx, &users[0], i ? STR("Other") : STR("Files"), &template.share_ids[i]) == 0);
		template.root_ids[i] = server_i64(v, "select root_id from shares where id = $1", template.share_ids[i]);
	}
	for (int i = 0; i < USERS; i++)
		template.user_ids[i] = v->user_ids[i] = users[i].id;
	template.tenant_id = tenant.id;
}

void server_make_template(void)
{
	static struct sim s = {.seed = 1, .now_us = INT64_C(1800000000000000)};
	struct server *v = &s.server;
	arena_init(&s.arena);
	sim_vfs_register(&s);
	v->sim = &s;
	sim_clock_init(&v->clock, &s);
	rng_seeded_init(&v->rng, 1);
	v->db_disk = sim_vfs(0, disk_fault_new(1));
	v->pack_disk = disk_fault_new(2);
	must(open_parts(v) == 0);
	v->open = true;
	make_rows(v, &s.arena);
	close_parts(v);
	template.disk = v->db_disk;
	template.db = disk_read_all(&s.arena, v->db_disk, DB_NAME); /* s stays for it */
	template.state_disk = sim_vfs(1, disk_fault_new(3));
	device_make_state(&s, template.state_disk);
	template.state = disk_read_all(&s.arena, template.state_disk, STATE_NAME);
	disk_free(v->pack_disk);
}

void server_init(struct server *v, struct sim *s)
{
	*v = (struct server){.sim = s, .auth = {.verify = verify}, .tenant_id = template.tenant_id};
	memcpy(v->share_ids, template.share_ids, sizeof(v->share_ids));
	memcpy(v->root_ids, template.root_ids, sizeof(v->root_ids));
	memcpy(v->user_ids, template.user_ids, sizeof(v->user_ids));
	sim_clock_init(&v->clock, s);
	rng_seeded_init(&v->rng, s->seed * 3 + 1);
	v->db_disk = sim_vfs(0, disk_fault_new(s->seed * 5 + 1));
	v->pack_disk = disk_fault_new(s->seed * 5 + 2);
	disk_write_all(v->db_disk, DB_NAME, template.db);
	for (int i = 0; i <= DEVICES_MAX; i++)
		kept_meet(i, i ? template.state_disk : template.disk, i ? STATE_NAME : DB_NAME);
}

struct str server_template_state(void)
{
	return template.state;
}

void server_fini(struct server *v)
{
	if (v->open)
		server_stop(v);
	disk_free(v->db_disk);
	disk_free(v->pack_disk);
}
