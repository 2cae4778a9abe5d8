#include "drive/repair_priv.h"

#include <stdlib.h>

#include "base/must.h"
#include "chunks/rebuild.h"
#include "chunks/recipe.h"
#include "drive/change.h"
#include "drive/tenant.h"

enum { TENANTS_MAX = 1000, PAGE = 64, DAY_S = 24 * 3600 };

/* ---- what was found ---- */

static bool is_of_the_store(const char *code)
{
	static const char *const codes[] = {"CHUNK_", "PACK_", "INDEX_ROW_INVALID", "VERSION_UNREADABLE"};
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		if (strncmp(code, codes[i], strlen(codes[i])) == 0)
			return true;
	return false;
}

static void note_id(struct buf *ids, struct str subject, enum id_kind kind)
{
	int64_t id;
	if (id_parse_kind(subject, kind, &id))
		buf_put(ids, &id, sizeof id);
}

void repair_note(struct repair_list *list, const struct check_finding *f)
{
	list->store |= is_of_the_store(f->code);
	list->log |= strcmp(f->code, "CHANGES_MISSING") == 0;
	list->database |= strcmp(f->code, "DATABASE_DAMAGED") == 0;
	if (strncmp(f->code, "UPLOAD_", 7) == 0)
		note_id(&list->uploads, f->subject, ID_UPLOAD);
	if (strcmp(f->code, "LEASE_CHUNK") == 0)
		note_id(&list->users, f->subject, ID_USER);
}

void repair_list_fini(struct repair_list *list)
{
	buf_fini(&list->uploads);
	buf_fini(&list->users);
}

/* ---- parts ---- */

int repair_write(struct repair *r, int64_t tenant_id, drive_op_fn *op, void *arg)
{
	const struct repair_config *c = r->config;
	arena_reset(&r->arena);
	ctx_init(&r->ctx, &r->arena, c->drive->clock, c->drive->rng);
	r->ctx.drive = c->drive;
	r->ctx.tenant_id = tenant_id;
	return drive_write(&r->ctx, op, arg);
}

void repair_done(struct repair *r, const char *code, int64_t n, const char *sentence)
{
	if (n)
		r->config->done(r->config->arg, code, n, sentence);
}

/* ---- what one statement can mend, in this order ---- */

#define HEAD_IS_THERE "exists (select 1 from versions v where v.id = nodes.version_id and v.node_id = nodes.id)"
#define OF_HEAD(column) "(select v." column " from versions v where v.id = nodes.version_id)"
#define USED_BYTES \
	"coalesce((select sum(v.size_bytes) from versions v join nodes n on n.id = v.node_id where n.share_id = shares.id), 0)"
#define DEVICE_HEAD "(select t.seq from devices d join tenants t on t.id = d.tenant_id where d.id = device_cursors.device)"
#define NODE_SEQ "(select t.seq from tenants t where t.id = nodes.tenant_id)"
#define LOG_END "(select max(c.seq) from changes c where c.tenant_id = tenants.id)"
#define A_ROOT \
	"from nodes n where n.share_id = shares.id and n.tenant_id = shares.tenant_id and n.parent_id = 0 and n.kind = 1"

/* Parameter $1 is the present time, $2 a day later; a statement that names neither gets none. */
struct statement {
	const char *code, *sentence;
	bool touches;  /* a tree or the log */
	int n_args;
	const char *sql;
};

static const struct statement statements[] = {
    {"SHARE_ROOT", "the share has its root folder again", true, 0,
     "update shares set root_id = (select min(n.id) " A_ROOT ") where exists (select 1 " A_ROOT ") and not exists"
     " (select 1 " A_ROOT " and n.id = shares.root_id)"},
    {"NODE_TRASH", "what had its place in a folder counts as not deleted", true, 0,
     "update nodes set deleted_at = 0, deleted_by = 0 where deleted_at > 0 and trash_key = 0"},
    {"NODE_TRASH", "what had no place in a folder is in the trash", true, 1,
     "update nodes set deleted_at = $1 where deleted_at = 0 and trash_key <> 0"},
    {"NODE_TRASH", "the marks of being in the trash agree", true, 0,
     "update nodes set trash_key = id where deleted_at > 0 and trash_key <> id"},
    {"NODE_FOLDER_CONTENT", "the folder has no version any more", true, 0,
     "update nodes set version_id = 0, version = 0 where kind = 1 and version_id <> 0"},
    {"MEMBER_SHARE", "memberships of shares that are gone were removed", false, 0,
     "delete from share_members where share_id not in (select id from shares)"},
    {"VERSION_STAGE", "the version has its number, and is not staged", false, 0,
     "update versions set staged_until = 0 where number > 0 and staged_until > 0"},
    {"VERSION_STAGE", "the version is staged for a day", false, 2,
     "update versions set number = 0, staged_until = $2 where number <= 0 and staged_until <= 0 and $1 > 0"},
    {"VERSION_NUMBER", "the file knows the highest number of its versions", false, 0,
     "update nodes set last_version = (select max(v.number) from versions v where v.node_id = nodes.id)"
     " where exists (select 1 from versions v where v.node_id = nodes.id and v.number > nodes.last_version)"},
    {"NODE_HEAD_MISSING", "the file's newest version is its present one", true, 0,
     "update nodes set version_id = (select v.id from versions v where v.node_id = nodes.id and v.number > 0"
     " order by v.number desc limit 1) where kind = 2 and not " HEAD_IS_THERE
     " and exists (select 1 from versions v where v.node_id = nodes.id and v.number > 0)"},
    {"NODE_HEAD_FACTS", "the file's facts are those of its present version", true, 0,
     "update nodes set version = " OF_HEAD("number") ", size_bytes = " OF_HEAD("size_bytes") ", sha256 = " OF_HEAD("sha256")
     " where kind = 2 and exists (select 1 from versions v where v.id = nodes.version_id and v.node_id = nodes.id and"
     " (v.number <> nodes.version or v.size_bytes <> nodes.size_bytes or nodes.sha256 is null or v.sha256 <> nodes.sha256))"},
    {"SHARE_USED_BYTES", "the share's bytes were counted anew", false, 0,
     "update shares set used_bytes = " USED_BYTES " where used_bytes <> " USED_BYTES},
    {"CHANGE_SHARE", "log entries of shares that are gone were removed", true, 0,
     "delete from changes where share_id not in (select id from shares)"},
    {"CHANGES_BEYOND", "the log ends behind its last entry", true, 0, "update tenants set seq = " LOG_END " where seq < " LOG_END},
    {"NODE_CHANGE", "the last change of the file or folder is one that was", true, 0,
     "update nodes set change_seq = " NODE_SEQ " where change_seq > " NODE_SEQ},
    {"CURSOR_AHEAD", "the device stands at the log's end", false, 0,
     "update device_cursors set position = " DEVICE_HEAD " where position > " DEVICE_HEAD},
    {"UPLOAD_PARTS", "parts of uploads that are gone were removed", false, 0,
     "delete from upload_parts where upload_id not in (select id from uploads)"},
    {"UPLOAD_PIECES", "pieces of uploads that are gone were removed", false, 0,
     "delete from upload_pieces where upload_id not in (select id from uploads)"},
};

struct statement_run {
	const struct statement *s;
	int64_t changed;
};

static int statement_op(struct dtx *t, void *arg)
{
	struct statement_run *run = arg;
	int64_t now = clock_now(t->ctx->clock);
	const struct dbv args[] = {V_I(now), V_I(now + SECONDS_US(DAY_S))};
	return tx_exec(t->tx, run->s->sql, args, (size_t)run->s->n_args, &run->changed);
}

static int run_statements(struct repair *r)
{
	int err = 0;
	for (size_t i = 0; !err && i < sizeof statements / sizeof *statements; i++) {
		struct statement_run run = {.s = &statements[i]};
		r->config->progress(r->config->arg, "rows that contradict each other", (int64_t)i, (int64_t)(sizeof statements / sizeof *statements));
		err = repair_write(r, 0, statement_op, &run);
		r->touched |= !err && run.changed && run.s->touches;
		if (!err)
			repair_done(r, run.s->code, run.changed, run.s->sentence);
	}
	return err;
}

/* ---- sizes: a version has the bytes that its recipe has ---- */

struct sizes {
	int64_t after, changed;
	size_t read;
};

static int sizes_op(struct dtx *t, void *arg)
{
	struct sizes *s = arg;
	struct { int64_t id, size_bytes; } wrong[PAGE];
	size_t n = 0;
	int64_t after = s->after;
	AUTO_ROWS *rows = NULL;
	s->read = 0;
	int err = tx_query(t->tx, "select id, size_bytes, recipe from versions where id > $1 order by id limit $2",
	                   DB_ARGS(V_I(after), V_I(PAGE)), &rows);
	for (; !err && s->read < PAGE && rows_next(rows); s->read++) {
		size_t chunks;
		int64_t is;
		after = rows_i64(rows, 0);
		if (recipe_measure(rows_blob(rows, 2), &chunks, &is) == 0 && is != rows_i64(rows, 1)) {
			wrong[n].id = after;
			wrong[n++].size_bytes = is;
		}
	}
	if (!err)
		err = rows_close(&rows);
	for (size_t i = 0; !err && i < n; i++)
		err = tx_exec(t->tx, "update versions set size_bytes = $2 where id = $1",
		              DB_ARGS(V_I(wrong[i].id), V_I(wrong[i].size_bytes)), NULL);
	if (!err) {
		s->after = after;
		s->changed += (int64_t)n;
	}
	return err;
}

static int repair_sizes(struct repair *r)
{
	struct sizes s = {0};
	int err;
	do
		err = repair_write(r, 0, sizes_op, &s);
	while (!err && s.read == PAGE);
	repair_done(r, "VERSION_SIZE", s.changed, "the version's size is that of its chunks");
	return err;
}

/* ---- uploads and leases ---- */

static int end_upload_op(struct dtx *t, void *arg)
{
	const struct dbv id = V_I(*(int64_t *)arg);
	static const char *const sql[] = {"delete from upload_parts where upload_id = $1", "delete from upload_pieces where upload_id = $1",
	                                  "update uploads set status = 4, tail = null, next_piece = 0 where id = $1 and status = 1"};
	int err = 0;
	for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++)
		err = tx_exec(t->tx, sql[i], &id, 1, NULL);
	return err;
}

static int drop_leases_op(struct dtx *t, void *arg)
{
	return tx_exec(t->tx, "delete from chunk_leases where user_id = $1", DB_ARGS(V_I(*(int64_t *)arg)), NULL);
}

static int for_each_id(struct repair *r, const struct buf *ids, drive_op_fn *op, const char *code, const char *sentence)
{
	int err = 0;
	for (size_t i = 0; !err && i < ids->n; i += sizeof(int64_t)) {
		int64_t id;
		memcpy(&id, ids->p + i, sizeof id);
		err = repair_write(r, 0, op, &id);
	}
	if (!err)
		repair_done(r, code, (int64_t)(ids->n / sizeof(int64_t)), sentence);
	return err;
}

/* ---- the log ---- */

struct tenants {
	int64_t ids[TENANTS_MAX];
	size_t n;
};

static int tenants_op(struct dtx *t, void *arg)
{
	struct tenants *s = arg;
	AUTO_ROWS *rows = NULL;
	s->n = 0;
	int err = tx_query(t->tx, "select id from tenants order by id", DB_NO_ARGS, &rows);
	while (!err && s->n < TENANTS_MAX && rows_next(rows))
		s->ids[s->n++] = rows_i64(rows, 0);
	return err ? err : rows_close(&rows);
}

static int leap_op(struct dtx *t, void *arg)
{
	return drive_leap_ids(t, arg);
}

static int epoch_op(struct dtx *t, void *arg)
{
	return change_epoch_begin(t, *(int64_t *)arg);
}

static int begin_logs(struct repair *r)
{
	struct tenants *s = calloc(1, sizeof *s);
	int64_t ids_behind;
	must(s != NULL);
	int err = repair_write(r, 0, tenants_op, s);
	if (!err)
		err = repair_write(r, 0, leap_op, &ids_behind);
	for (size_t i = 0; !err && i < s->n; i++)
		err = repair_write(r, s->ids[i], epoch_op, &ids_behind);
	if (!err)
		repair_done(r, "CHANGES", (int64_t)s->n, "the log begins anew: devices compare with the snapshot, and delete nothing newer");
	free(s);
	return err;
}

/* ---- the store and the engine ---- */

static int repair_store(struct repair *r)
{
	const struct repair_config *c = r->config;
	struct store_rebuild_totals totals;
	struct store_rebuild_config config = {.disk = c->drive->packs, .db = c->drive->db, .clock = c->drive->clock,
	                                      .progress = c->progress, .arg = c->arg};
	int err = tenant_only(config.db, &config.only_tenant);
	if (!err)
		err = store_rebuild(&config, &totals);
	if (!err) {
		repair_done(r, "INDEX_ROW", totals.added, "chunks that the index had lost were found in packs");
		repair_done(r, "INDEX_ROW", totals.mended, "rows of the index were made to agree with a pack that has the chunk whole");
	}
	return err;
}

static int reindex_op(struct dtx *t, void *arg)
{
	(void)arg;
	return tx_exec(t->tx, "reindex", DB_NO_ARGS, NULL);
}

int drive_repair(const struct repair_config *config, const struct repair_list *list)
{
	struct repair r = {.config = config, .list = list};
	int err = 0;
	arena_init(&r.arena);
	if (list->database && strcmp(db_engine(config->drive->db), "sqlite") == 0) {
		err = repair_write(&r, 0, reindex_op, NULL);
		if (!err)
			repair_done(&r, "DATABASE_DAMAGED", 1, "all indexes were made anew from their tables");
		err = 0; /* the next check tells */
	}
	if (list->store)
		err = repair_store(&r);
	if (!err)
		err = repair_sizes(&r);
	if (!err)
		err = run_statements(&r);
	if (!err)
		err = repair_places(&r);
	if (!err)
		err = repair_names(&r);
	if (!err)
		err = for_each_id(&r, &list->uploads, end_upload_op, "UPLOAD", "uploads that had lost what was sent were ended");
	if (!err)
		err = for_each_id(&r, &list->users, drop_leases_op, "LEASE_CHUNK", "leases of chunks that are gone were dropped");
	if (!err && (r.touched || list->log))
		err = begin_logs(&r);
	arena_fini(&r.arena);
	return err;
}
