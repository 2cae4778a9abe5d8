#include "drive/policy.h"

#include "base/json.h"
#include "base/limits.h"

enum { DAYS_MAX = 36500 };

const struct policy_info policy_infos[POLICY_KEYS] = {
    [POLICY_TRASH_DAYS] = {"trash_retention_days", "days", "What is in the trash goes for good after this", 30, 0, DAYS_MAX, false},
    [POLICY_ALL_HOURS] = {"version_all_hours", "hours", "Every version of a file is kept so long", 24, 0, DAYS_MAX * 24,
                          false},
    [POLICY_HOURLY_DAYS] = {"version_hourly_days", "days", "To this age the last version of each hour is kept", 7, 0,
                            DAYS_MAX, false},
    [POLICY_DAILY_DAYS] = {"version_daily_days", "days",
                           "To this age the last version of each day is kept; then the last of each week", 90, 0, DAYS_MAX, false},
    [POLICY_VERSION_DAYS] = {"version_retention_days", "days", "Older versions go, but for the present one", POLICY_FOREVER, 0,
                             DAYS_MAX, false},
    [POLICY_FILE_BYTES] = {"max_file_size_bytes", "bytes", "Largest file in one multipart request; limits.file_max_bytes holds besides",
                           POLICY_FOREVER, POLICY_FILE_BYTES_MIN, LIMIT_CONTENT_BYTES, true},
};

/* False: the settings say nothing of it. */
static bool value_in(struct json_object *settings, const struct policy_info *info, int64_t *out)
{
	for (size_t i = 0; settings && settings->type == JSON_OBJECT && i < settings->n; i++) {
		const struct json_member *m = &settings->members[i];
		if (!str_eq(m->key, str_c(info->name)))
			continue;
		if (m->value.type == JSON_NULL)
			*out = POLICY_FOREVER;
		else if (m->value.type == JSON_INT && m->value.i >= info->min && m->value.i <= info->max)
			*out = m->value.i;
		else
			return false;
		return true;
	}
	return false;
}

static void read_levels(struct str tenant, struct str share, struct policy_shown *out)
{
	AUTO_JSON *t = NULL, *s = NULL;
	if (json_parse(tenant, &t))
		t = NULL;
	if (json_parse(share, &s))
		s = NULL;
	for (int i = 0; i < POLICY_KEYS; i++) {
		int64_t *v = &out->policy.values[i];
		*v = policy_infos[i].dflt;
		bool of_share = !policy_infos[i].tenant_only && value_in(s, &policy_infos[i], v);
		out->from[i] = of_share ? "share" : value_in(t, &policy_infos[i], v) ? "tenant" : "default";
	}
}

void policy_read(struct str tenant_settings, struct str share_settings, struct policy *out)
{
	struct policy_shown shown;
	read_levels(tenant_settings, share_settings, &shown);
	*out = shown.policy;
}

/* ---- show ---- */

struct show {
	const struct policy_place *place;
	struct policy_shown *out;
};

static int show_op(struct tx *tx, void *arg)
{
	struct show *s = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx,
	                       "select t.settings, s.settings from tenants t left join shares s on s.id = $2 and s.tenant_id = t.id"
	                       " where t.id = $1",
	                       DB_ARGS(V_I(s->place->tenant_id), V_I(s->place->share_id)), &r, &found);
	if (!err && !found)
		err = E_NOT_FOUND;
	if (!err)
		read_levels(rows_text(r, 0), rows_text(r, 1), s->out);
	return err;
}

int policy_show(struct ctx *ctx, const struct policy_place *place, struct policy_shown *out)
{
	return db_read(ctx->drive->db, show_op, &(struct show){place, out});
}

/* ---- set ---- */

struct assigned {
	enum { UNTOUCHED, UNSET_HERE, SET } how;
	int64_t value;
};

static int parse_one(struct ctx *ctx, struct str text, bool share, struct assigned *values)
{
	struct str rest = text, key = str_cut(&rest, '=');
	int i = 0;
	while (i < POLICY_KEYS && !str_eq(key, str_c(policy_infos[i].name)))
		i++;
	if (i == POLICY_KEYS || str_chr(text, '=') < 0)
		return ctx_fail(ctx, E_USAGE, "\"%.*s\" is not KEY=VALUE of a policy (see: scaidrived policy show)", STR_ARG(text));
	const struct policy_info *info = &policy_infos[i];
	if (share && info->tenant_only)
		return ctx_fail(ctx, E_USAGE, "%s is set for a tenant, not for a share", info->name);
	struct assigned *v = &values[i];
	v->how = rest.n ? SET : UNSET_HERE;
	v->value = POLICY_FOREVER;
	if (!rest.n || str_eq(rest, STR("never")))
		return 0;
	if (!str_to_i64(rest, &v->value) || v->value < info->min || v->value > info->max)
		return ctx_fail(ctx, E_USAGE, "%s is a number of %s from %lld to %lld, or never", info->name, info->unit, (long long)info->min,
		                (long long)info->max);
	return 0;
}

static const struct assigned *assigned_of(const struct assigned *values, struct str key)
{
	for (int i = 0; i < POLICY_KEYS; i++)
		if (values[i].how != UNTOUCHED && str_eq(key, str_c(policy_infos[i].name)))
			return &values[i];
	return NULL;
}

/* The settings with the values in them; what else stands there stays. */
static void merge(struct buf *out, struct json_object *settings, const struct assigned *values)
{
	bool first = true;
	buf_char(out, '{');
	for (size_t i = 0; settings && settings->type == JSON_OBJECT && i < settings->n; i++) {
		const struct json_member *m = &settings->members[i];
		if (assigned_of(values, m->key))
			continue;
		if (!first)
			buf_char(out, ',');
		first = false;
		json_put_str(out, m->key);
		buf_char(out, ':');
		json_put_value(out, &m->value);
	}
	for (int i = 0; i < POLICY_KEYS; i++) {
		if (values[i].how != SET)
			continue;
		json_put_key(out, &first, str_c(policy_infos[i].name));
		if (values[i].value == POLICY_FOREVER)
			buf_lit(out, "null");
		else
			buf_i64(out, values[i].value);
	}
	buf_char(out, '}');
}

struct set {
	const struct policy_place *place;
	struct assigned values[POLICY_KEYS];
};

static int set_op(struct tx *tx, void *arg)
{
	struct set *s = arg;
	AUTO_ROWS *r = NULL;
	AUTO_JSON *settings = NULL;
	struct buf b = {0};
	bool found, share = s->place->share_id;
	struct dbv id = V_I(share ? s->place->share_id : s->place->tenant_id);
	int err = tx_query_row(tx, share ? "select settings from shares where id = $1" : "select settings from tenants where id = $1",
	                       DB_ARGS(id), &r, &found);
	if (err || !found)
		return err ? err : E_NOT_FOUND;
	if (json_parse(rows_text(r, 0), &settings))
		return E_CORRUPT;
	merge(&b, settings, s->values);
	err = tx_exec(tx,
	              share ? "update shares set settings = $2 where id = $1" : "update tenants set settings = $2 where id = $1",
	              DB_ARGS(id, V_T(buf_as_str(&b))), NULL);
	buf_fini(&b);
	return err;
}

int policy_set(struct ctx *ctx, const struct policy_place *place, const struct str *assignments, size_t n)
{
	struct set s = {.place = place};
	int err = 0;
	for (size_t i = 0; !err && i < n; i++)
		err = parse_one(ctx, assignments[i], place->share_id != 0, s.values);
	return err ? err : db_write(ctx->drive->db, place->tenant_id, set_op, &s);
}

/* ---- by name ---- */

struct find {
	struct str name;
	int64_t id;
	struct policy_place *out;
	int n;
};

static int find_op(struct tx *tx, void *arg)
{
	struct find *f = arg;
	AUTO_ROWS *r = NULL;
	f->n = 0;
	int err = tx_query(tx, "select id, tenant_id from shares where id = $1 or ($1 = 0 and name = $2 and deleted_at = 0) limit 2",
	                   DB_ARGS(V_I(f->id), V_T(f->name)), &r);
	for (; !err && rows_next(r); f->n++) {
		f->out->share_id = rows_i64(r, 0);
		f->out->tenant_id = rows_i64(r, 1);
	}
	return err ? err : rows_close(&r);
}

int policy_find_share(struct ctx *ctx, struct str name_or_id, struct policy_place *out)
{
	struct find f = {.name = name_or_id, .out = out};
	if (!id_parse_kind(name_or_id, ID_SHARE, &f.id))
		f.id = 0;
	int err = db_read(ctx->drive->db, find_op, &f);
	if (!err && f.n != 1)
		err = f.n ? ctx_fail(ctx, E_CONFLICT, "Several shares are called %.*s; name one by its id.", STR_ARG(name_or_id))
		          : ctx_fail(ctx, E_NOT_FOUND, "There is no share %.*s.", STR_ARG(name_or_id));
	return err;
}
