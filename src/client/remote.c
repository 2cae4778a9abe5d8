#include "client/remote.h"

#include "base/limits.h"
#include "base/name.h"
#include "client/remote_priv.h"

enum { REPLY_MAX = 64 << 20, PAGE = 2000, SNAPSHOT_PAGE = 5000, SHARES_PAGE = 100, SHARES_MAX = 100000 };

/* How often a call is refused, and waits, before that is its error; and how long in all. A server of ours counts in windows of an hour at
 * most, and what was used counts until two of them are over; one that asks for more, again and again, holds nobody for ever. */
enum { PATIENCE_TRIES = 60 };
#define PATIENCE_US SECONDS_US(2 * 3600 + 60)

int remote_bad(struct ctx *ctx, const char *what)
{
	return ctx_fail(ctx, E_UPSTREAM,
	                "The server's answer cannot be used (%s). Is the server URL right, and is no proxy in between?", what);
}

static int by_status(int status)
{
	static const struct {
		int status, err;
	} table[] = {
	    {400, E_BAD_REQUEST}, {401, E_UNAUTHENTICATED}, {403, E_FORBIDDEN}, {404, E_NOT_FOUND},
	    {409, E_CONFLICT},    {410, E_GONE},            {413, E_TOO_LARGE}, {422, E_INVALID},
	    {429, E_RATE_LIMITED}, {503, E_BUSY},           {504, E_TIMEOUT},   {507, E_QUOTA},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].status == status)
			return table[i].err;
	return E_UPSTREAM;
}

int remote_refused(struct ctx *ctx, const struct http_call *call)
{
	AUTO_JSON *doc = NULL;
	int err = by_status(call->status);
	/* Only our own error shape carries a meaning; a proxy's 404 or 503 says nothing about a file. */
	if (json_parse(buf_as_str(&call->reply), &doc) || !json_get(doc, "detail"))
		return ctx_fail(ctx, call->status == 401 ? E_UNAUTHENTICATED : E_UPSTREAM, "The server answered HTTP %d.",
		                call->status);
	struct str code = json_str(json_get(doc, "error"), "code");
	int by_code = code.p ? err_from_code(arena_cstr(ctx->arena, code)) : E_OK;
	if (by_code != E_OK)
		err = by_code;
	struct str detail = json_str(doc, "detail");
	return ctx_fail(ctx, err, "%.*s (HTTP %d)", STR_ARG(detail.p ? detail : STR("The request was refused.")),
	                call->status);
}

int remote_token(struct ctx *ctx, struct remote *r, struct str refused, struct str *out)
{
	*out = r->token;
	return r->session ? r->session->token(r->session, ctx, refused, out) : 0;
}

static int call_again(struct ctx *ctx, struct remote *r, struct http_call *call)
{
	int err = call->source ? call->source->rewind(call->source, ctx) : 0;
	buf_clear(&call->reply);
	call->retry_after_s = 0;
	return err ? err : r->http->call(r->http, ctx, call);
}

/* Until the server lets it through, or the patience ends. again: it was called before. */
static int call_patiently(struct ctx *ctx, struct remote *r, struct http_call *call, bool again)
{
	int64_t end_us = clock_mono(ctx->clock) + PATIENCE_US;
	int err = r->patience ? r->patience->wait(r->patience, ctx, 0) : 0;
	if (!err)
		err = again ? call_again(ctx, r, call) : r->http->call(r->http, ctx, call);
	for (int i = 0; !err && call->status == 429 && r->patience && i < PATIENCE_TRIES; i++) {
		int wait_s = call->retry_after_s ? call->retry_after_s : i < 6 ? 1 << i : 60;
		if (clock_mono(ctx->clock) + SECONDS_US(wait_s) > end_us)
			break;
		err = r->patience->wait(r->patience, ctx, wait_s);
		if (!err)
			err = call_again(ctx, r, call);
	}
	return err;
}

int remote_call(struct ctx *ctx, struct remote *r, struct http_call *call, struct json_object **doc)
{
	if (!call->reply_max)
		call->reply_max = REPLY_MAX;
	int err = remote_token(ctx, r, STR_NULL, &call->token);
	if (!err)
		err = call_patiently(ctx, r, call, false);
	if (!err && call->status == 401 && r->session) {
		err = remote_token(ctx, r, call->token, &call->token);
		if (!err)
			err = call_patiently(ctx, r, call, true);
	}
	if (!err && (call->status < 200 || call->status > 299))
		err = remote_refused(ctx, call);
	if (err || !doc)
		return err;
	if (!call->is_json)
		return remote_bad(ctx, "not JSON");
	const char *problem = json_parse(buf_as_str(&call->reply), doc);
	return problem ? remote_bad(ctx, problem) : 0;
}

int remote_get(struct ctx *ctx, struct remote *r, struct str path, struct json_object **doc)
{
	struct http_call call = {.method = "GET", .path = path};
	int err = remote_call(ctx, r, &call, doc);
	http_call_fini(&call);
	return err;
}

int remote_post(struct ctx *ctx, struct remote *r, struct str path, const struct buf *body, struct json_object **doc)
{
	struct http_call call = {.method = "POST", .path = path};
	if (body) {
		call.content_type = STR("application/json");
		call.body = buf_as_str(body);
	}
	int err = remote_call(ctx, r, &call, doc);
	http_call_fini(&call);
	return err;
}

/* A list is an array and nothing else: what is something else is no empty list (I11). */
static struct json_object *list_of(struct json_object *doc, const char *key)
{
	struct json_object *v = json_get(doc, key);
	return json_is_list(v) ? v : NULL;
}

static bool more_of(struct json_object *doc, bool *more)
{
	*more = json_flag(doc, "has_more", false);
	return *more == json_flag(doc, "has_more", true); /* else it is no boolean */
}

void remote_put_id(struct buf *b, enum node_kind kind, int64_t id)
{
	buf_id(b, kind == NODE_FILE ? ID_FILE : ID_FOLDER, id);
}

static bool read_parent(struct json_object *o, int64_t *parent)
{
	struct str s = json_str(o, "parent_id");
	if (!s.p)
		s = json_str(o, "folder_id");
	*parent = TREE_ROOT;
	return !s.p || id_parse_kind(s, ID_FOLDER, parent);
}

int remote_node(struct ctx *ctx, struct json_object *o, enum node_kind kind, int64_t id, struct node_facts *out)
{
	*out = (struct node_facts){.id = id, .kind = kind};
	struct str name = json_str(o, "name"), checksum = json_str(o, "checksum_sha256"), mtime = json_str(o, "mtime");
	struct str version_id = json_str(o, "version_id");
	if (!read_parent(o, &out->parent) || !name.p || name_problem(name))
		return remote_bad(ctx, "a node without a usable place");
	out->name = arena_str(ctx->arena, name);
	if (kind == NODE_FOLDER)
		return 0;
	out->size_bytes = json_i64(o, "size", -1);
	out->version = json_i64(o, "version", 0);
	out->executable = json_flag(o, "executable", false);
	if (out->size_bytes < 0 || !checksum.p || !str_unhex(checksum, out->checksum.b, sizeof(out->checksum.b)))
		return remote_bad(ctx, "a file without size and checksum");
	if (version_id.p && !id_parse_kind(version_id, ID_VERSION, &out->version_id))
		return remote_bad(ctx, "a malformed version id");
	if (mtime.p && !time_parse(mtime, &out->mtime_us))
		out->mtime_us = 0;
	return 0;
}

static int read_grant(struct ctx *ctx, struct json_object *doc, struct remote_grant *out)
{
	struct str access = json_str(doc, "access_token"), refresh = json_str(doc, "refresh_token");
	if (!access.n || access.n > LIMIT_TOKEN_BYTES)
		return remote_bad(ctx, "no access_token");
	if (refresh.n > LIMIT_TOKEN_BYTES)
		return remote_bad(ctx, "a malformed refresh_token");
	*out = (struct remote_grant){.access_token = arena_str(ctx->arena, access),
	                             .refresh_token = refresh.n ? arena_str(ctx->arena, refresh) : STR_NULL,
	                             .expires_in_s = json_i64(doc, "expires_in", 0)};
	return 0;
}

int remote_refresh(struct ctx *ctx, struct http_client *http, struct str refresh_token, struct remote_grant *out)
{
	AUTO_JSON *doc = NULL;
	struct buf body = {0};
	struct remote bare = {.http = http};
	buf_lit(&body, "grant_type=refresh_token&refresh_token=");
	http_escape(&body, refresh_token);
	struct http_call call = {.method = "POST", .path = STR("/api/v1/auth/token"), .body = buf_as_str(&body),
	                         .content_type = STR("application/x-www-form-urlencoded"), .timeout_ms = 20000};
	int err = remote_call(ctx, &bare, &call, &doc);
	explicit_bzero(body.p, body.n);
	buf_fini(&body);
	http_call_fini(&call);
	return err ? err : read_grant(ctx, doc, out);
}

int remote_login(struct ctx *ctx, struct remote *r, struct str email, struct str password, struct remote_grant *out)
{
	AUTO_JSON *doc = NULL;
	struct buf body = {0};
	struct remote hasty = *r; /* too many wrong passwords: a person is told, and waits or not */
	hasty.patience = NULL;
	buf_lit(&body, "{\"email\":");
	json_put_str(&body, email);
	buf_lit(&body, ",\"password\":");
	json_put_str(&body, password);
	if (r->device_id.n) {
		buf_lit(&body, ",\"device_id\":");
		json_put_str(&body, r->device_id);
	}
	buf_char(&body, '}');
	int err = remote_post(ctx, &hasty, STR("/api/v1/auth/login"), &body, &doc);
	if (body.p)
		explicit_bzero(body.p, body.n);
	buf_fini(&body);
	return err ? err : read_grant(ctx, doc, out);
}

int remote_shares(struct ctx *ctx, struct remote *r, struct remote_share **out, size_t *n)
{
	struct remote_share *all = NULL;
	size_t count = 0, cap = 0;
	for (size_t offset = 0; offset < SHARES_MAX;) {
		AUTO_JSON *doc = NULL;
		struct str path = arena_fmt(ctx->arena, "/api/v1/shares?limit=%d&offset=%zu", SHARES_PAGE, offset);
		int err = remote_get(ctx, r, path, &doc);
		if (err)
			return err;
		struct json_object *list = list_of(doc, "shares");
		size_t got = json_len(list);
		if (!list)
			return remote_bad(ctx, "no list of shares");
		if (count + got > cap) {
			cap = (count + got) * 2;
			struct remote_share *more = arena_many(ctx->arena, cap, struct remote_share);
			if (count)
				memcpy(more, all, count * sizeof(*more));
			all = more;
		}
		for (size_t i = 0; i < got; i++) {
			struct json_object *o = json_at(list, i);
			all[count++] = (struct remote_share){.id = arena_str(ctx->arena, json_str(o, "id")),
			                                     .name = arena_str(ctx->arena, json_str(o, "name"))};
			if (!all[count - 1].id.p || !all[count - 1].name.p)
				return remote_bad(ctx, "a share without id or name");
		}
		offset += got;
		if (got < SHARES_PAGE)
			break;
	}
	*out = all;
	*n = count;
	return 0;
}

int remote_register(struct ctx *ctx, struct remote *r, struct str device_name)
{
	AUTO_JSON *doc = NULL;
	struct buf body = {0};
	buf_lit(&body, "{\"device_id\":");
	json_put_str(&body, r->device_id);
	buf_lit(&body, ",\"device_name\":");
	json_put_str(&body, device_name);
	buf_lit(&body, ",\"platform\":\"linux\",\"client_version\":\"" SD_VERSION "\"}");
	int err = remote_post(ctx, r, STR("/api/v1/sync/devices"), &body, &doc);
	buf_fini(&body);
	return err;
}

int remote_heartbeat(struct ctx *ctx, struct remote *r)
{
	struct buf path = {0};
	buf_lit(&path, "/api/v1/sync/devices/");
	http_escape(&path, r->device_id);
	buf_lit(&path, "/heartbeat");
	int err = remote_post(ctx, r, buf_as_str(&path), NULL, NULL);
	buf_fini(&path);
	return err;
}

struct node_list {
	struct node_facts *v;
	size_t n, cap;
};

static void push(struct ctx *ctx, struct node_list *l, const struct node_facts *f)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct node_facts *v = arena_many(ctx->arena, cap, struct node_facts);
		if (l->n)
			memcpy(v, l->v, l->n * sizeof(*v));
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = *f;
}

static int snapshot_page(struct ctx *ctx, struct json_object *doc, struct node_list *out)
{
	struct json_object *list = list_of(doc, "nodes");
	if (!list)
		return remote_bad(ctx, "no list of nodes");
	for (size_t i = 0; i < json_len(list); i++) {
		struct json_object *o = json_at(list, i);
		struct rid id;
		struct node_facts f;
		bool file = str_eq(json_str(o, "type"), STR("file"));
		if (!id_parse(json_str(o, "id"), &id) || id.kind != (file ? ID_FILE : ID_FOLDER))
			return remote_bad(ctx, "a malformed node id");
		int err = remote_node(ctx, o, file ? NODE_FILE : NODE_FOLDER, id.n, &f);
		if (err)
			return err;
		push(ctx, out, &f);
	}
	return 0;
}

/* A server of before has none. */
static int read_restores(struct ctx *ctx, struct json_object *doc, struct remote_snapshot *out)
{
	struct json_object *list = list_of(doc, "restores");
	size_t n = list ? json_len(list) : 0;
	out->restores = arena_many(ctx->arena, n + 1, struct remote_restore);
	for (out->n_restores = 0; out->n_restores < n; out->n_restores++) {
		struct json_object *o = json_at(list, out->n_restores);
		struct remote_restore *to = &out->restores[out->n_restores];
		to->cursor = json_i64(o, "cursor", -1);
		if (to->cursor < 0 || !id_parse_kind(json_str(o, "version_id"), ID_VERSION, &to->version_id))
			return remote_bad(ctx, "a malformed restore");
	}
	return 0;
}

int remote_snapshot(struct ctx *ctx, struct remote *r, struct str share, int64_t folder_id, struct remote_snapshot *out)
{
	struct node_list all = {0};
	struct str token = STR_NULL;
	*out = (struct remote_snapshot){.cursor = -1};
	for (;;) {
		AUTO_JSON *doc = NULL;
		struct buf path = {0};
		buf_fmt(&path, "/api/v1/sync/snapshot?limit=%d&share_id=", SNAPSHOT_PAGE);
		http_escape(&path, share);
		if (folder_id != TREE_ROOT) {
			buf_lit(&path, "&folder_id=");
			remote_put_id(&path, NODE_FOLDER, folder_id);
		}
		if (token.p) {
			buf_lit(&path, "&page_token=");
			http_escape(&path, token);
		}
		int err = remote_get(ctx, r, buf_as_str(&path), &doc);
		buf_fini(&path);
		if (!err)
			err = snapshot_page(ctx, doc, &all);
		if (err)
			return err;
		int64_t at = json_i64(doc, "cursor", -1);
		if (at < 0 || (out->cursor >= 0 && at < out->cursor))
			return remote_bad(ctx, "a snapshot without its cursor");
		if (out->cursor < 0) {
			out->cursor = at;
			err = read_restores(ctx, doc, out);
			if (err)
				return err;
		}
		struct str next = json_str(doc, "page_token");
		bool more;
		if (!more_of(doc, &more))
			return remote_bad(ctx, "a snapshot that does not say whether it is whole");
		if (!more)
			break;
		if (!next.n || (token.p && str_eq(token, next)))
			return remote_bad(ctx, "a snapshot that does not go on");
		token = arena_str(ctx->arena, next);
	}
	out->nodes = all.v;
	out->n = all.n;
	return 0;
}

/* For people: what is not there is left out. */
static void read_cause(struct ctx *ctx, struct json_object *o, struct node_cause *out)
{
	struct str at = json_str(o, "changed_at"), by = json_str(o, "changed_by");
	if (!id_parse_kind(json_str(o, "id"), ID_CHANGE, &out->seq))
		out->seq = 0;
	if (!at.p || !time_parse(at, &out->at_us))
		out->at_us = 0;
	out->by = arena_str(ctx->arena, by);
}

static int read_change(struct ctx *ctx, struct json_object *o, struct remote_change *out)
{
	struct str type = json_str(o, "change_type");
	struct json_object *meta = json_get(o, "metadata");
	struct rid id;
	if (!id_parse(json_str(o, "resource_id"), &id) || (id.kind != ID_FILE && id.kind != ID_FOLDER) || !type.p)
		return remote_bad(ctx, "a malformed change");
	*out = (struct remote_change){.kind = CHANGE_DELETE};
	out->facts.id = id.n;
	out->facts.kind = id.kind == ID_FILE ? NODE_FILE : NODE_FOLDER;
	read_cause(ctx, o, &out->cause);
	if (str_eq(type, STR("deleted")))
		return 0;
	out->kind = CHANGE_PUT;
	out->created = str_eq(type, STR("created"));
	out->subtree = json_flag(meta, "subtree", false);
	int err = remote_node(ctx, meta, out->facts.kind, id.n, &out->facts);
	struct str version_id = json_str(o, "version_id");
	if (!err && out->facts.kind == NODE_FILE && !id_parse_kind(version_id, ID_VERSION, &out->facts.version_id))
		err = remote_bad(ctx, "a change of a file without its version");
	return err;
}

int remote_changes(struct ctx *ctx, struct remote *r, struct str share, int64_t cursor, struct remote_page *out)
{
	AUTO_JSON *doc = NULL;
	struct buf path = {0};
	buf_fmt(&path, "/api/v1/sync/changes?limit=%d&cursor=%lld&share_id=", PAGE, (long long)cursor);
	http_escape(&path, share);
	int err = remote_get(ctx, r, buf_as_str(&path), &doc);
	buf_fini(&path);
	if (err)
		return err;
	struct json_object *list = list_of(doc, "changes");
	*out = (struct remote_page){.cursor = json_i64(doc, "cursor", -1)};
	if (!more_of(doc, &out->has_more) || !list || out->cursor < cursor || (out->has_more && out->cursor == cursor))
		return remote_bad(ctx, "a page of changes without its cursor");
	size_t n = json_len(list);
	out->changes = arena_many(ctx->arena, n ? n : 1, struct remote_change);
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_at(list, i);
		if (str_eq(json_str(o, "resource_type"), STR("share")))
			continue;
		err = read_change(ctx, o, &out->changes[out->n]);
		if (err)
			return err;
		out->n++;
	}
	return 0;
}

int remote_advance(struct ctx *ctx, struct remote *r, struct str share, int64_t position)
{
	AUTO_JSON *doc = NULL; /* the page of a hotspot is none */
	struct buf path = {0};
	buf_fmt(&path, "/api/v1/sync/cursor?position=%lld&share_id=", (long long)position);
	http_escape(&path, share);
	buf_lit(&path, "&device_id=");
	http_escape(&path, r->device_id);
	int err = remote_post(ctx, r, buf_as_str(&path), NULL, &doc);
	buf_fini(&path);
	return err;
}

int remote_conflicts(struct ctx *ctx, struct remote *r, struct str share, bool include_resolved, struct str *json)
{
	AUTO_JSON *doc = NULL;
	struct buf path = {0};
	buf_fmt(&path, "/api/v1/sync/conflicts?include_resolved=%s", include_resolved ? "true" : "false");
	if (share.p) {
		buf_lit(&path, "&share_id=");
		http_escape(&path, share);
	}
	struct http_call call = {.method = "GET", .path = buf_as_str(&path)};
	int err = remote_call(ctx, r, &call, &doc);
	if (!err && (!call.reply.n || call.reply.p[0] != '['))
		err = remote_bad(ctx, "not a list");
	if (!err)
		*json = arena_str(ctx->arena, buf_as_str(&call.reply));
	http_call_fini(&call);
	buf_fini(&path);
	return err;
}
