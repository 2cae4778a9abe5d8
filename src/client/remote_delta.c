/* The chunks of a version, and versions made of chunks (docs/integrate/bulk.md). */
#include "base/limits.h"
#include "base/must.h"
#include "client/remote_priv.h"

static int read_piece(struct ctx *ctx, struct json_object *o, int64_t offset, struct remote_piece *out)
{
	int64_t length = json_i64(o, "length", 0);
	if (!str_unhex(json_str(o, "hash"), out->hash.b, sizeof out->hash.b) || length < 1 || length > CHUNK_MAX_BYTES ||
	    json_i64(o, "offset", -1) != offset)
		return remote_bad(ctx, "a malformed chunk");
	out->offset = offset;
	out->length = (uint32_t)length;
	return 0;
}

static struct str recipe_path(struct ctx *ctx, int64_t file_id, int64_t number, size_t from)
{
	char wire[ID_WIRE_MAX + 1];
	size_t n = id_format(wire, ID_FILE, file_id);
	return arena_fmt(ctx->arena, "/api/v1/files/%.*s/chunks?version=%lld&offset=%zu&limit=%d", (int)n, wire, (long long)number,
	                 from, LIMIT_CHUNKS_REQUEST);
}

int remote_recipe(struct ctx *ctx, struct remote *r, int64_t file_id, int64_t version_id, int64_t number,
                  struct remote_piece **out, size_t *n)
{
	int64_t offset = 0, total = -1, id;
	for (*n = 0; total < 0 || *n < (size_t)total;) {
		AUTO_JSON *doc = NULL;
		int err = remote_get(ctx, r, recipe_path(ctx, file_id, number, *n), &doc);
		if (err)
			return err;
		struct json_object *list = json_get(doc, "chunks");
		if (!id_parse_kind(json_str(doc, "version_id"), ID_VERSION, &id) || id != version_id)
			return ctx_fail(ctx, E_CHANGED, "The server's version %lld is another one by now.", (long long)number);
		if (total < 0) {
			total = json_i64(doc, "total", -1);
			if (total < 0 || total > LIMIT_ASSEMBLED_CHUNKS)
				return ctx_fail(ctx, E_TOO_LARGE, "The file has too many chunks.");
			*out = arena_many(ctx->arena, (size_t)total, struct remote_piece);
		}
		size_t got = json_len(list);
		if (got > (size_t)total - *n || (!got && total))
			return remote_bad(ctx, "another number of chunks than it says");
		for (size_t i = 0; !err && i < got; i++) {
			struct remote_piece *p = &(*out)[(*n)++];
			err = read_piece(ctx, json_at(list, i), offset, p);
			offset += p->length;
		}
		if (err)
			return err;
	}
	return 0;
}

static void query_id(struct buf *path, const char *name, enum id_kind kind, int64_t id)
{
	buf_fmt(path, "&%s=", name);
	buf_id(path, kind, id);
}

int remote_put_steps(struct ctx *ctx, struct remote *r, struct remote_upload *up, struct str steps)
{
	AUTO_JSON *doc = NULL;
	struct buf path = {0}, mtime = {0};
	char hex[64];
	hex_encode(up->checksum.b, sizeof up->checksum.b, hex);
	buf_time_us(&mtime, up->mtime_us);
	buf_fmt(&path, "/api/v1/sync/versions?size=%lld&checksum_sha256=%.64s&executable=%s&device_id=", (long long)up->size_bytes,
	        hex, up->executable ? "true" : "false");
	http_escape(&path, r->device_id);
	buf_lit(&path, "&mtime=");
	http_escape(&path, buf_as_str(&mtime));
	query_id(&path, "replace_file_id", ID_FILE, up->replace_id);
	query_id(&path, "base_version_id", ID_VERSION, up->base_version_id);
	query_id(&path, "sources", ID_VERSION, up->base_version_id);
	if (up->strategy.n)
		buf_fmt(&path, "&conflict_resolution=%.*s", STR_ARG(up->strategy));
	struct http_call call = {.method = "POST", .path = buf_as_str(&path), .body = steps,
	                         .content_type = STR("application/octet-stream")};
	int err = remote_call(ctx, r, &call, &doc);
	http_call_fini(&call);
	buf_fini(&path);
	buf_fini(&mtime);
	return err ? err : remote_read_uploaded(ctx, doc, up);
}
