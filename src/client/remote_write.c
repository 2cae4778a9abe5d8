#include "client/remote.h"

#include <stdio.h>

#include "base/limits.h"
#include "base/must.h"
#include "client/remote_priv.h"

static void put_place(struct buf *b, const struct remote_edit *e)
{
	buf_lit(b, ",\"metadata\":{\"parent_id\":");
	if (e->parent == TREE_ROOT) {
		buf_lit(b, "null");
	} else {
		buf_char(b, '"');
		remote_put_id(b, NODE_FOLDER, e->parent);
		buf_char(b, '"');
	}
	buf_lit(b, ",\"name\":");
	json_put_str(b, e->name);
	buf_char(b, '}');
}

static void put_edit(struct buf *b, const struct remote_edit *e)
{
	static const char *const types[] = {
	    [REMOTE_MAKE_FOLDER] = "created", [REMOTE_MOVE] = "moved", [REMOTE_RENAME] = "renamed", [REMOTE_DELETE] = "deleted"};
	buf_fmt(b, "{\"resource_type\":\"%s\",\"change_type\":\"%s\"", e->kind == NODE_FILE ? "file" : "folder",
	        types[e->verb]);
	if (e->id) {
		buf_lit(b, ",\"resource_id\":\"");
		remote_put_id(b, e->kind, e->id);
		buf_char(b, '"');
	}
	if (e->base_version_id) {
		buf_lit(b, ",\"base_version_id\":\"");
		buf_id(b, ID_VERSION, e->base_version_id);
		buf_char(b, '"');
	}
	if (e->op_id.p) {
		buf_lit(b, ",\"op_id\":");
		json_put_str(b, e->op_id);
	}
	if (e->verb != REMOTE_DELETE)
		put_place(b, e);
	buf_char(b, '}');
}

static struct remote_edit *edit_at(struct json_object *o, struct remote_edit *edits, size_t n)
{
	int64_t i = json_i64(o, "index", -1);
	return i >= 0 && (uint64_t)i < n ? &edits[i] : NULL;
}

static int read_applied(struct ctx *ctx, struct json_object *o, struct remote_edit *e)
{
	struct str parent = json_str(o, "parent_id"), status = json_str(o, "status");
	struct rid id = {0};
	e->err = 0;
	e->in_part = str_eq(status, STR("conflict"));
	e->entry = e->in_part ? 0 : json_i64(o, "cursor", 0);
	if (id_parse(json_str(o, "resource_id"), &id))
		e->new_id = id.n;
	e->new_name = arena_str(ctx->arena, json_str(o, "name"));
	e->new_parent = TREE_ROOT;
	if (e->verb == REMOTE_MAKE_FOLDER && (id.kind != ID_FOLDER || !e->new_id))
		return remote_bad(ctx, "a created folder without its id");
	if (parent.p && !id_parse_kind(parent, ID_FOLDER, &e->new_parent))
		return remote_bad(ctx, "a malformed parent id");
	return 0;
}

int remote_apply(struct ctx *ctx, struct remote *r, struct str share, int64_t base_cursor, struct remote_edit *edits,
                 size_t n)
{
	AUTO_JSON *doc = NULL;
	struct buf body = {0};
	must(n <= LIMIT_APPLY_CHANGES);
	buf_lit(&body, "{\"device_id\":");
	json_put_str(&body, r->device_id);
	buf_lit(&body, ",\"share_id\":");
	json_put_str(&body, share);
	buf_fmt(&body, ",\"base_cursor\":%lld,\"changes\":[", (long long)base_cursor);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_char(&body, ',');
		put_edit(&body, &edits[i]);
		edits[i].err = E_UPSTREAM; /* until the answer names it */
	}
	buf_lit(&body, "]}");
	int err = remote_post(ctx, r, STR("/api/v1/sync/apply"), &body, &doc);
	buf_fini(&body);
	if (err)
		return err;
	struct json_object *applied = json_get(doc, "applied"), *errors = json_get(doc, "errors");
	if (!json_is_list(applied) || !json_is_list(errors))
		return remote_bad(ctx, "apply without its results");
	for (size_t i = 0; i < json_len(applied) && !err; i++) {
		struct remote_edit *e = edit_at(json_at(applied, i), edits, n);
		err = e ? read_applied(ctx, json_at(applied, i), e) : remote_bad(ctx, "a result of nothing");
	}
	for (size_t i = 0; i < json_len(errors) && !err; i++) {
		struct json_object *o = json_at(errors, i);
		struct remote_edit *e = edit_at(o, edits, n);
		if (!e)
			return remote_bad(ctx, "a result of nothing");
		struct str code = json_str(o, "code");
		e->err = code.p ? err_from_code(arena_cstr(ctx->arena, code)) : E_OK;
		e->err = e->err == E_OK ? E_CONFLICT : e->err;
		e->detail = arena_str(ctx->arena, json_str(o, "detail"));
	}
	return err;
}

/* ---- upload: multipart/form-data (RFC 7578) around a stream ---- */

struct form {
	struct http_source face;
	struct http_source *content;
	struct buf head, tail;
	size_t head_at, tail_at;
	int64_t left; /* of the content */
};

static int form_read(struct http_source *self, void *out, size_t cap, size_t *got)
{
	struct form *f = (struct form *)self;
	*got = 0;
	if (f->head_at < f->head.n) {
		*got = f->head.n - f->head_at < cap ? f->head.n - f->head_at : cap;
		memcpy(out, f->head.p + f->head_at, *got);
		f->head_at += *got;
		return 0;
	}
	if (f->left > 0) {
		if ((uint64_t)f->left < cap)
			cap = (size_t)f->left;
		int err = f->content->read(f->content, out, cap, got);
		if (!err && *got == 0)
			return E_CHANGED; /* shorter than planned */
		f->left -= (int64_t)*got;
		return err;
	}
	*got = f->tail.n - f->tail_at < cap ? f->tail.n - f->tail_at : cap;
	memcpy(out, f->tail.p + f->tail_at, *got);
	f->tail_at += *got;
	return 0;
}

static int form_rewind(struct http_source *self, struct ctx *ctx)
{
	struct form *f = (struct form *)self;
	f->head_at = f->tail_at = 0;
	f->left = f->content->length;
	return f->content->rewind(f->content, ctx);
}

static void field(struct buf *b, const char *boundary, const char *name, struct str value)
{
	buf_fmt(b, "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n", boundary, name);
	buf_str(b, value);
	buf_lit(b, "\r\n");
}

static void field_id(struct buf *b, const char *boundary, const char *name, enum id_kind kind, int64_t id)
{
	char wire[ID_WIRE_MAX + 1];
	size_t n = id_format(wire, kind, id);
	field(b, boundary, name, str_n(wire, n));
}

static void form_fields(struct buf *b, const char *boundary, struct remote *r, struct str share,
                        const struct remote_upload *up)
{
	char hex[64];
	struct buf mtime = {0};
	hex_encode(up->checksum.b, sizeof(up->checksum.b), hex);
	buf_time_us(&mtime, up->mtime_us);
	field(b, boundary, "share_id", share);
	if (up->replace_id) {
		field_id(b, boundary, "replace_file_id", ID_FILE, up->replace_id);
		if (up->base_version_id)
			field_id(b, boundary, "base_version_id", ID_VERSION, up->base_version_id);
		if (up->strategy.n)
			field(b, boundary, "conflict_resolution", up->strategy);
	} else {
		if (up->parent != TREE_ROOT)
			field_id(b, boundary, "folder_id", ID_FOLDER, up->parent);
		field(b, boundary, "name", up->name);
	}
	field(b, boundary, "mtime", buf_as_str(&mtime));
	field(b, boundary, "executable", up->executable ? STR("true") : STR("false"));
	field(b, boundary, "device_id", r->device_id);
	field(b, boundary, "checksum_sha256", str_n(hex, sizeof(hex)));
	/* The name travels in its own field; here it would need quoting that servers disagree about. */
	buf_fmt(b, "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"content\"\r\n"
	           "Content-Type: application/octet-stream\r\n\r\n", boundary);
	buf_fini(&mtime);
}

int remote_read_uploaded(struct ctx *ctx, struct json_object *doc, struct remote_upload *up)
{
	int64_t id;
	if (!id_parse_kind(json_str(doc, "id"), ID_FILE, &id))
		return remote_bad(ctx, "an upload without its file id");
	int err = remote_node(ctx, doc, NODE_FILE, id, &up->stored);
	if (err)
		return err;
	up->is_deleted = json_flag(doc, "is_deleted", false);
	up->conflict = json_str(doc, "conflict_id").p || !sha256_eq(&up->stored.checksum, &up->checksum);
	return up->stored.version_id ? 0 : remote_bad(ctx, "an upload without its version id");
}

int remote_upload(struct ctx *ctx, struct remote *r, struct str share, struct remote_upload *up)
{
	AUTO_JSON *doc = NULL;
	char boundary[48];
	snprintf(boundary, sizeof(boundary), "scaidrive-%016llx%016llx", (unsigned long long)rng_u64(ctx->rng),
	         (unsigned long long)rng_u64(ctx->rng));
	struct form form = {.face = {.read = form_read, .rewind = form_rewind}, .content = up->content, .left = up->size_bytes};
	form_fields(&form.head, boundary, r, share, up);
	buf_fmt(&form.tail, "\r\n--%s--\r\n", boundary);
	must(!__builtin_add_overflow((int64_t)(form.head.n + form.tail.n), up->size_bytes, &form.face.length));
	struct http_call call = {.method = "POST", .path = STR("/api/v1/files"), .source = &form.face};
	call.content_type = arena_fmt(ctx->arena, "multipart/form-data; boundary=%s", boundary);
	int err = remote_call(ctx, r, &call, &doc);
	http_call_fini(&call);
	buf_fini(&form.head);
	buf_fini(&form.tail);
	return err ? err : remote_read_uploaded(ctx, doc, up);
}

int remote_set_mode(struct ctx *ctx, struct remote *r, int64_t file_id, bool executable)
{
	AUTO_JSON *doc = NULL;
	int64_t id = 0;
	struct buf path = {0};
	buf_lit(&path, "/api/v1/files/");
	buf_id(&path, ID_FILE, file_id);
	struct http_call call = {.method = "PATCH", .path = buf_as_str(&path), .content_type = STR("application/json"),
	                         .body = executable ? STR("{\"executable\":true}") : STR("{\"executable\":false}")};
	int err = remote_call(ctx, r, &call, &doc);
	http_call_fini(&call);
	buf_fini(&path);
	if (err)
		return err;
	/* The page of a hotspot is no success. */
	bool set = id_parse_kind(json_str(doc, "id"), ID_FILE, &id) && id == file_id && json_flag(doc, "executable", !executable) == executable;
	return set ? 0 : remote_bad(ctx, "a file with another executable bit");
}

/* ---- download ---- */

struct counted {
	struct http_sink face;
	struct http_sink *to;
	int64_t seen, expected;
};

static int counted_write(struct http_sink *self, const void *p, size_t n)
{
	struct counted *c = (struct counted *)self;
	if ((uint64_t)(c->expected - c->seen) < n)
		return E_UPSTREAM; /* longer than the version is */
	c->seen += (int64_t)n;
	return c->to->write(c->to, p, n);
}

int remote_download(struct ctx *ctx, struct remote *r, int64_t file_id, int64_t version_id, int64_t size_bytes,
                    struct http_sink *sink)
{
	struct buf path = {0};
	buf_lit(&path, "/api/v1/sync/download/");
	buf_id(&path, ID_FILE, file_id);
	if (version_id) {
		buf_lit(&path, "?version_id=");
		buf_id(&path, ID_VERSION, version_id);
	}
	struct counted counted = {.face = {.write = counted_write}, .to = sink, .expected = size_bytes};
	struct http_call call = {.method = "GET", .path = buf_as_str(&path), .sink = &counted.face};
	int err = remote_call(ctx, r, &call, NULL);
	http_call_fini(&call);
	buf_fini(&path);
	if (err == E_UPSTREAM)
		return remote_bad(ctx, "content of another length");
	if (!err && counted.seen != size_bytes)
		return remote_bad(ctx, "content cut short");
	return err;
}
