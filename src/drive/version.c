#include "drive/version.h"

#include "base/limits.h"
#include "base/must.h"
#include "base/name.h"
#include "drive/file.h"
#include "drive/node_priv.h"
#include "drive/share.h"
#include "drive/version_priv.h"

int version_from_row(struct arena *a, struct rows *r, struct version *v)
{
	*v = (struct version){
	    .id = rows_i64(r, 0),
	    .node_id = rows_i64(r, 1),
	    .number = rows_i64(r, 2),
	    .size_bytes = rows_i64(r, 3),
	    .has_mtime = !rows_is_null(r, 6),
	    .mtime_us = rows_i64(r, 6),
	    .executable = rows_i64(r, 7) != 0,
	    .created_by = rows_i64(r, 8),
	    .created_at = rows_i64(r, 9),
	    .staged_until = rows_i64(r, 11),
	    .has_decompressed = !rows_is_null(r, 12),
	    .decompressed_bytes = rows_i64(r, 12),
	};
	struct str sha256 = rows_blob(r, 4);
	if (sha256.n != sizeof v->sha256.b)
		return E_CORRUPT;
	memcpy(v->sha256.b, sha256.p, sizeof v->sha256.b);
	v->mime_type = arena_str(a, rows_text(r, 5));
	v->device_id = arena_str(a, rows_text(r, 10));
	return 0;
}

/* One row of a query over VERSION_COLUMNS, recipe. */
static int read_one(struct dtx *t, struct rows *r, bool found, const struct node *n, struct version *out)
{
	if (!found)
		return ctx_fail(t->ctx, E_NOT_FOUND, "There is no such version of the file");
	int err = version_from_row(t->ctx->arena, r, out);
	if (err)
		return err;
	out->recipe = arena_str(t->ctx->arena, rows_blob(r, 13));
	bool mine = out->created_by == actor(t) && out->staged_until > clock_now(t->ctx->clock);
	if (out->node_id != n->id || (!out->number && !mine))
		return ctx_fail(t->ctx, E_NOT_FOUND, "There is no such version of the file");
	return 0;
}

int version_load(struct dtx *t, const struct node *n, int64_t id, struct version *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(t->tx, "select " VERSION_COLUMNS ", recipe from versions where id = $1", DB_ARGS(V_I(id)),
	                       &r, &found);
	return err ? err : read_one(t, r, found, n, out);
}

int version_load_number(struct dtx *t, const struct node *n, int64_t number, struct version *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(t->tx, "select " VERSION_COLUMNS ", recipe from versions where node_id = $1 and number = $2",
	                       DB_ARGS(V_I(n->id), V_I(number)), &r, &found);
	return err ? err : read_one(t, r, found && number > 0, n, out);
}

/* ---- writing rows ---- */

/* Content on its way to become a version of a file. */
struct incoming {
	struct version v;
	const struct content *content; /* its recipe is not made yet; else v.recipe */
	bool staged;                   /* a row with number 0 */
	bool in_history;               /* a row with a number; its content, not the row, can become the head */
};

static int make_recipe(struct dtx *t, struct incoming *in)
{
	if (!in->content)
		return 0;
	struct buf recipe = {0};
	int err = content_commit(t->tx, t->drive->store, t->ctx->tenant_id, in->content, drive_chunk_batch(t), &recipe);
	if (!err)
		in->v.recipe = arena_str(t->ctx->arena, buf_as_str(&recipe));
	buf_fini(&recipe);
	in->content = NULL;
	return err;
}

/* A new row for v; v->id may be given. Counts it on the share. */
static int insert_version(struct dtx *t, int64_t share_id, struct version *v)
{
	int err = drive_room(t);
	if (!err)
		err = share_use(t, share_id, v->size_bytes);
	if (err)
		return err;
	if (!v->id)
		v->id = idgen_next(t->drive->ids);
	v->created_by = actor(t);
	v->created_at = clock_now(t->ctx->clock);
	return drive_insert(t,
	                    "insert into versions (id, tenant_id, node_id, number, size_bytes, sha256, mime_type, mtime, executable,"
	                    " recipe, created_by, device_id, created_at, staged_until, decompressed_bytes)"
	                    " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
	                    DB_ARGS(V_I(v->id), V_I(t->ctx->tenant_id), V_I(v->node_id), V_I(v->number), V_I(v->size_bytes),
	                            V_B(str_n(v->sha256.b, 32)), V_T(v->mime_type), v->has_mtime ? V_I(v->mtime_us) : V_NULL,
	                            V_I(v->executable), V_B(v->recipe), V_I(v->created_by), V_T(v->device_id), V_I(v->created_at),
	                            V_I(v->staged_until), v->has_decompressed ? V_I(v->decompressed_bytes) : V_NULL));
}

/* The next number of the file; the caller stores n->last_version. */
static int give_number(struct dtx *t, struct node *n, struct incoming *in)
{
	in->v.number = ++n->last_version;
	if (in->staged) {
		in->v.staged_until = 0;
		return tx_exec(t->tx, "update versions set number = $2, staged_until = 0 where id = $1",
		               DB_ARGS(V_I(in->v.id), V_I(in->v.number)), NULL);
	}
	int err = make_recipe(t, in);
	if (err)
		return err;
	in->v.id = 0;
	in->v.node_id = n->id;
	in->v.staged_until = 0;
	return insert_version(t, n->share_id, &in->v);
}

static void head_facts(struct node *n, const struct version *v)
{
	n->version_id = v->id;
	n->version = v->number;
	n->size_bytes = v->size_bytes;
	n->has_sha256 = true;
	n->sha256 = v->sha256;
	n->mime_type = v->mime_type;
	n->has_mtime = v->has_mtime;
	n->mtime_us = v->mtime_us;
	n->executable = v->executable;
}

static int move_head(struct dtx *t, struct node *n, const struct version *v, struct str device_id)
{
	int err = change_peek(t, &n->change_seq);
	if (err)
		return err;
	head_facts(n, v);
	n->modified_by = actor(t);
	n->modified_at = clock_now(t->ctx->clock);
	err = tx_exec(t->tx,
	              "update nodes set version_id = $2, version = $3, last_version = $4, size_bytes = $5, sha256 = $6,"
	              " mime_type = $7, mtime = $8, executable = $9, modified_by = $10, modified_at = $11, change_seq = $12"
	              " where id = $1",
	              DB_ARGS(V_I(n->id), V_I(n->version_id), V_I(n->version), V_I(n->last_version), V_I(n->size_bytes),
	                      V_B(str_n(n->sha256.b, 32)), V_T(n->mime_type), n->has_mtime ? V_I(n->mtime_us) : V_NULL,
	                      V_I(n->executable), V_I(n->modified_by), V_I(n->modified_at), V_I(n->change_seq)),
	              NULL);
	if (err)
		return err;
	return change_append(t, CHANGE_UPDATED, n, n->path, n->path, false, device_id, NULL);
}

/* ---- copies ---- */

int version_copy(struct dtx *t, const struct node *n, const struct version *v, const struct node *folder, struct str name,
                 struct str device_id, struct node *out)
{
	must(v->recipe.p);
	struct version copy = *v;
	copy.id = idgen_next(t->drive->ids);
	copy.number = 1;
	copy.staged_until = 0;
	copy.device_id = device_id;
	*out = (struct node){.id = idgen_next(t->drive->ids), .kind = NODE_FILE, .name = name, .last_version = 1};
	copy.node_id = out->id;
	head_facts(out, &copy);
	if (!out->mime_type.p)
		out->mime_type = n->mime_type;
	int err = node_insert(t, folder, out, device_id);
	return err ? err : insert_version(t, out->share_id, &copy);
}

/* What the device is called, for the copy's name. */
static int device_label(struct dtx *t, struct str device_id, struct str *out)
{
	AUTO_ROWS *r = NULL;
	bool found;
	if (!device_id.p && t->ctx->who)
		device_id = t->ctx->who->device_id;
	*out = device_id.p ? device_id : t->ctx->who ? t->ctx->who->name : STR("");
	if (!device_id.p)
		return 0;
	int err = tx_query_row(t->tx, "select name from devices where user_id = $1 and device_id = $2",
	                       DB_ARGS(V_I(actor(t)), V_T(device_id)), &r, &found);
	if (!err && found && rows_text(r, 0).n)
		*out = arena_str(t->ctx->arena, rows_text(r, 0));
	return err;
}

int version_copy_beside(struct dtx *t, const struct node *n, const struct version *v, struct str device_id,
                        struct node *out)
{
	enum { ATTEMPTS = 20 };
	struct arena *a = t->ctx->arena;
	struct node folder;
	struct str label, name = STR_NULL;
	char date[11];
	time_date(clock_now(t->ctx->clock), date);
	int err = node_load(t, n->parent_id, NODE_FOLDER, RIGHT_READ, &folder);
	if (!err)
		err = device_label(t, device_id, &label);
	int64_t taken = 1;
	for (int attempt = 1; !err && taken && attempt <= ATTEMPTS; attempt++) {
		name = resolve_copy_name(a, n->name, label, str_c(date), attempt);
		err = tx_i64(t->tx, "select id from nodes where parent_id = $1 and name_key = $2 and trash_key = 0",
		             DB_ARGS(V_I(folder.id), V_T(name_key(a, name))), 0, &taken);
	}
	if (!err && taken)
		err = node_free_name(t, folder.id, name, &name);
	return err ? err : version_copy(t, n, v, &folder, name, device_id, out);
}

/* The conflict that was recorded when this version came, and the copy it led to. */
static int conflict_again(struct dtx *t, struct version_result *out)
{
	int64_t id = 0;
	int err = tx_i64(t->tx, "select min(id) from conflicts where resource_id = $1 and local_version_id = $2",
	                 DB_ARGS(V_I(out->node.id), V_I(out->version.id)), 0, &id);
	if (err || !id)
		return err;
	err = conflict_load(t, id, &out->conflict);
	out->has_conflict = !err;
	if (err || !out->conflict.copy_id)
		return err;
	err = node_load(t, out->conflict.copy_id, NODE_FILE, RIGHT_READ | NODE_WITH_TRASH, &out->copy);
	out->has_copy = !err;
	return err == E_NOT_FOUND ? 0 : err; /* purged since */
}

int version_again(struct dtx *t, int64_t file_id, int64_t version_id, struct version_result *out)
{
	*out = (struct version_result){.fate = VERSION_HEAD};
	int err = node_load(t, file_id, NODE_FILE, RIGHT_READ | NODE_WITH_TRASH, &out->node);
	if (err)
		return err;
	err = version_load(t, &out->node, version_id, &out->version);
	if (err == E_NOT_FOUND) { /* it has been thinned out since: the file is what can be told of */
		ctx_clear(t->ctx);
		out->fate = VERSION_KEPT;
		return version_load(t, &out->node, out->node.version_id, &out->version);
	}
	if (err)
		return err;
	if (!out->version.number)
		out->fate = VERSION_STAGED;
	else if (out->version.id != out->node.version_id)
		out->fate = VERSION_KEPT;
	return conflict_again(t, out);
}

/* ---- the way in ---- */

static int record(struct dtx *t, const struct node *n, const struct incoming *in, int64_t base_version_id,
                  int64_t server_version_id, enum resolve_strategy strategy, const struct resolve_outcome *o,
                  struct str device_id, struct version_result *out)
{
	out->has_conflict = true;
	out->conflict = (struct conflict){
	    .share_id = n->share_id,
	    .device_id = device_id,
	    .resource = node_rid(n),
	    .type = o->restore || n->in_trash ? CONFLICT_EDIT_DELETE : CONFLICT_EDIT_EDIT,
	    .path = n->path,
	    .base_version_id = base_version_id,
	    .local_version_id = in->v.id,
	    .server_version_id = server_version_id,
	    .copy_id = out->has_copy ? out->copy.id : 0,
	    .strategy = strategy,
	};
	return conflict_record(t, &out->conflict, o->open);
}

/* The head has these bytes: at most its attributes follow. A stage that came to nothing stays until its time is over, so
 * that the same request sent again finds it (I10). */
static int settle_unchanged(struct dtx *t, struct node *n, const struct incoming *in, bool current, struct str device_id,
                            struct version_result *out)
{
	int err = 0;
	out->fate = VERSION_UNCHANGED;
	bool differs = (in->v.has_mtime && (!n->has_mtime || n->mtime_us != in->v.mtime_us)) ||
	               n->executable != in->v.executable;
	if (!err && current && differs && !n->in_trash) {
		if (in->v.has_mtime) {
			n->has_mtime = true;
			n->mtime_us = in->v.mtime_us;
		}
		n->executable = in->v.executable;
		err = node_touch(t, n, device_id);
		out->seq = n->change_seq;
	}
	return err ? err : version_load(t, n, n->version_id, &out->version);
}

/* Carries out what resolve() says. *n becomes the file afterwards. */
static int settle(struct dtx *t, struct node *n, struct incoming *in, int64_t base_version_id,
                  enum resolve_strategy strategy, struct str device_id, struct version_result *out)
{
	struct resolve_side head = {.deleted = n->in_trash, .version_id = n->version_id, .has_checksum = n->has_sha256,
	                            .checksum = n->sha256};
	struct resolve_side side = {.version_id = in->v.id, .has_checksum = true, .checksum = in->v.sha256};
	struct resolve_outcome o = resolve(strategy, base_version_id, &head, &side);
	int64_t server_version_id = n->version_id;
	int err = 0;
	if (o.refused)
		return ctx_fail(t->ctx, E_VERSION_STALE, "base_version_id is not the current version; the file is at version %lld",
		                (long long)n->version);
	if (o.head == RESOLVE_HEAD_STAYS && !o.keep_incoming)
		return settle_unchanged(t, n, in, base_version_id == n->version_id, device_id, out);
	if (o.head == RESOLVE_HEAD_INCOMING) {
		if (o.restore)
			err = node_restore(t, n, device_id);
		if (!err)
			err = give_number(t, n, in);
		if (!err)
			err = move_head(t, n, &in->v, device_id);
		out->fate = VERSION_HEAD;
		out->seq = n->change_seq;
	} else {
		out->fate = VERSION_KEPT;
		if (!in->in_history)
			err = give_number(t, n, in);
		if (!err && !in->in_history)
			err = tx_exec(t->tx, "update nodes set last_version = $2 where id = $1",
			              DB_ARGS(V_I(n->id), V_I(n->last_version)), NULL);
		if (!err && o.copy) {
			out->has_copy = true;
			err = version_copy_beside(t, n, &in->v, device_id, &out->copy);
			out->seq = out->copy.change_seq;
		}
	}
	out->version = in->v;
	if (!err && o.conflict)
		err = record(t, n, in, base_version_id, server_version_id, strategy, &o, device_id, out);
	return err;
}

/* As sent, by the extension, by the content. */
static struct str own_mime(const struct version_put *in, struct str name)
{
	static const struct str generic = {"application/octet-stream", 24};
	if (in->mime_type.n && !str_ieq(in->mime_type, generic))
		return in->mime_type;
	struct str by_name = mime_by_name(name);
	return in->mime_by_content.p && str_eq(by_name, generic) ? in->mime_by_content : by_name;
}

static int create(struct dtx *t, const struct version_put *in, struct incoming *inc, struct version_result *out)
{
	struct node loaded, *n = &out->node;
	const struct node *folder = in->folder ? in->folder : &loaded;
	if (in->staged)
		return ctx_invalid(t->ctx, "body", STR("replace_file_id"), "missing", "Field required when staged");
	int err = in->folder ? 0 : node_load_folder(t, in->share_id, in->folder_id, RIGHT_CREATE, &loaded);
	if (!err)
		err = node_name_check(t->ctx, in->name);
	if (err)
		return err;
	*n = (struct node){.id = idgen_next(t->drive->ids), .kind = NODE_FILE, .name = in->name, .last_version = 1};
	inc->v.id = idgen_next(t->drive->ids);
	inc->v.node_id = n->id;
	inc->v.number = 1;
	inc->v.mime_type = own_mime(in, in->name);
	head_facts(n, &inc->v);
	err = node_insert(t, folder, n, in->device_id);
	if (!err)
		err = make_recipe(t, inc);
	if (!err)
		err = insert_version(t, n->share_id, &inc->v);
	out->fate = VERSION_HEAD;
	out->version = inc->v;
	out->seq = n->change_seq;
	return err;
}

static int replace(struct dtx *t, const struct version_put *in, struct incoming *inc, struct version_result *out)
{
	struct node *n = &out->node;
	unsigned trash = in->strategy != RESOLVE_NONE || in->staged ? NODE_WITH_TRASH : 0;
	int err = node_load(t, in->replace_file_id, NODE_FILE, RIGHT_WRITE | trash, n);
	if (err)
		return err;
	inc->v.node_id = n->id;
	inc->v.mime_type = in->mime_type.n ? own_mime(in, n->name) : n->mime_type;
	if (!in->has_executable)
		inc->v.executable = n->executable;
	if (!in->staged) {
		bool unconditional = in->strategy == RESOLVE_NONE || in->strategy == RESOLVE_LAST_WRITER_WINS ||
		                     in->strategy == RESOLVE_CLIENT_WINS;
		int64_t base = !in->base_version_id && unconditional ? n->version_id : in->base_version_id;
		return settle(t, n, inc, base, in->strategy, in->device_id, out);
	}
	inc->v.staged_until = clock_now(t->ctx->clock) + MILLIS_US(LIMIT_STAGED_MS);
	err = make_recipe(t, inc);
	if (!err)
		err = insert_version(t, n->share_id, &inc->v);
	out->fate = VERSION_STAGED;
	out->version = inc->v;
	return err;
}

int version_commit(struct dtx *t, const struct version_put *in, struct version_result *out)
{
	int64_t had_for = clock_now(t->ctx->clock) - in->had_us;
	*out = (struct version_result){0};
	if (!in->content && (had_for < 0 || had_for >= MILLIS_US(LIMIT_FOUND_MS))) /* the collector spares them no longer */
		return ctx_fail(t->ctx, E_BUSY, "Putting the content together took too long; send the request again");
	struct incoming inc = {
	    .v = {.size_bytes = in->content ? in->content->size_bytes : in->size_bytes,
	          .sha256 = in->content ? in->content->sha256 : in->sha256,
	          .recipe = in->recipe,
	          .has_mtime = in->has_mtime,
	          .mtime_us = in->mtime_us,
	          .executable = in->has_executable && in->executable,
	          .has_decompressed = in->has_decompressed,
	          .decompressed_bytes = in->decompressed_bytes,
	          .device_id = in->device_id.p || !t->ctx->who ? in->device_id : t->ctx->who->device_id},
	    .content = in->content,
	};
	return in->replace_file_id ? replace(t, in, &inc, out) : create(t, in, &inc, out);
}

int version_promote(struct dtx *t, const struct node *n, int64_t version_id, int64_t base_version_id,
                    enum resolve_strategy strategy, struct str device_id, struct version_result *out)
{
	*out = (struct version_result){.node = *n};
	struct incoming in = {0};
	int err = version_load(t, n, version_id, &in.v);
	if (err == E_NOT_FOUND) {
		ctx_clear(t->ctx);
		return ctx_fail(t->ctx, E_SYNC_CONFLICT, "version_id is not a version of this file");
	}
	if (err)
		return err;
	in.staged = in.v.number == 0;
	in.in_history = !in.staged;
	return settle(t, &out->node, &in, base_version_id, strategy, device_id, out);
}

int version_restore(struct dtx *t, const struct node *n, int64_t number, struct str device_id, struct version_result *out)
{
	*out = (struct version_result){.node = *n};
	struct incoming in = {.in_history = true};
	int err = version_load_number(t, n, number, &in.v);
	in.v.device_id = device_id;
	return err ? err : settle(t, &out->node, &in, n->version_id, RESOLVE_NONE, device_id, out);
}

/* ---- removing ---- */

int version_remove(struct dtx *t, int64_t id)
{
	int err = tx_exec(t->tx,
	                  "insert into removed_versions (id, tenant_id, removed_at, recipe)"
	                  " select id, tenant_id, $2, recipe from versions where id = $1",
	                  DB_ARGS(V_I(id), V_I(clock_now(t->ctx->clock))), NULL);
	return err ? err : tx_exec(t->tx, "delete from versions where id = $1", DB_ARGS(V_I(id)), NULL);
}

int version_remove_some(struct dtx *t, int64_t node_id, int64_t max, struct version_removed *out)
{
	AUTO_ROWS *r = NULL;
	int64_t *ids = arena_many(t->ctx->arena, (size_t)max, int64_t);
	*out = (struct version_removed){0};
	int err = tx_query(t->tx,
	                   "select v.id, v.size_bytes from versions v join nodes n on n.id = v.node_id where v.node_id = $1"
	                   " order by case when v.id = n.version_id then 1 else 0 end limit $2",
	                   DB_ARGS(V_I(node_id), V_I(max + 1)), &r);
	while (!err && !out->more && rows_next(r)) {
		out->more = out->n == max;
		if (out->more)
			break;
		ids[out->n++] = rows_i64(r, 0);
		out->size_bytes += rows_i64(r, 1);
	}
	err = err ? err : rows_close(&r);
	for (int64_t i = 0; !err && i < out->n; i++)
		err = version_remove(t, ids[i]);
	return err;
}

/* ---- the end of stages ---- */

struct sweep {
	int64_t removed;
};

static int sweep_op(struct dtx *t, void *arg)
{
	enum { MAX = 500 };
	struct sweep *sweep = arg;
	struct {
		int64_t id, share_id, size_bytes;
	} found[MAX];
	size_t n = 0;
	AUTO_ROWS *r = NULL;
	int err = tx_query(t->tx,
	                   "select v.id, n.share_id, v.size_bytes from versions v join nodes n on n.id = v.node_id"
	                   " where v.staged_until > 0 and v.staged_until < $1 and v.tenant_id = $2 limit 500",
	                   DB_ARGS(V_I(clock_now(t->ctx->clock)), V_I(t->ctx->tenant_id)), &r);
	if (err)
		return err;
	for (; n < MAX && rows_next(r); n++) {
		found[n].id = rows_i64(r, 0);
		found[n].share_id = rows_i64(r, 1);
		found[n].size_bytes = rows_i64(r, 2);
	}
	err = rows_close(&r);
	for (size_t i = 0; !err && i < n; i++) {
		err = version_remove(t, found[i].id);
		if (!err)
			err = share_use(t, found[i].share_id, -found[i].size_bytes);
	}
	sweep->removed = (int64_t)n;
	return err;
}

int drive_version_sweep(struct ctx *ctx, int64_t *removed)
{
	struct sweep sweep = {0};
	int err = drive_write(ctx, sweep_op, &sweep);
	*removed = sweep.removed;
	return err;
}
