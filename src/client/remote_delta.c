/* What versions consist of, versions made of chunks, and chunks told as differences (docs/integrate/bulk.md). */
#include "base/limits.h"
#include "base/must.h"
#include "client/layout.h"
#include "client/remote_priv.h"

static void query_id(struct buf *path, const char *name, enum id_kind kind, int64_t id)
{
	buf_fmt(path, "&%s=", name);
	buf_id(path, kind, id);
}

/* The body of the answer, into *out, which is the caller's to give back. */
static int bytes_of(struct ctx *ctx, struct remote *r, struct http_call *call, size_t most, struct buf *out)
{
	call->reply_max = most;
	int err = remote_call(ctx, r, call, NULL);
	*out = err ? (struct buf){0} : call->reply;
	if (err)
		http_call_fini(call);
	return err;
}

int remote_layout(struct ctx *ctx, struct remote *r, int64_t version_id, struct buf *out)
{
	struct buf path = {0};
	buf_lit(&path, "/api/v1/sync/steps?short=true");
	query_id(&path, "version_id", ID_VERSION, version_id);
	struct http_call call = {.method = "GET", .path = buf_as_str(&path)};
	int err = bytes_of(ctx, r, &call, LAYOUT_CHUNKS_MAX * LAYOUT_CHUNK_BYTES, out);
	buf_fini(&path);
	return err;
}

int remote_steps(struct ctx *ctx, struct remote *r, int64_t version_id, int64_t base_version_id, struct buf *out)
{
	enum { STEPS_MAX_BYTES = 8 << 20 }; /* 226,000 new chunks, 14 GiB: who lacks more fetches all of it */
	struct buf path = {0};
	buf_lit(&path, "/api/v1/sync/steps?short=false");
	query_id(&path, "version_id", ID_VERSION, version_id);
	query_id(&path, "base_version_id", ID_VERSION, base_version_id);
	struct http_call call = {.method = "GET", .path = buf_as_str(&path)};
	int err = bytes_of(ctx, r, &call, STEPS_MAX_BYTES, out);
	buf_fini(&path);
	return err;
}

int remote_signatures(struct ctx *ctx, struct remote *r, struct str share, int64_t version_id, const struct remote_run *runs, size_t n,
                      size_t most, struct buf *out)
{
	struct buf body = {0};
	must(n <= LIMIT_CHUNKS_REQUEST);
	buf_lit(&body, "{\"version_id\":\"");
	buf_id(&body, ID_VERSION, version_id);
	buf_lit(&body, "\",\"runs\":[");
	for (size_t i = 0; i < n; i++)
		buf_fmt(&body, "%s{\"first\":%u,\"count\":%u}", i ? "," : "", runs[i].first, runs[i].count);
	buf_lit(&body, "]}");
	struct http_call call = {.method = "POST", .path = remote_bulk_path(ctx, "chunks/signatures", share), .body = buf_as_str(&body),
	                         .content_type = STR("application/json")};
	int err = bytes_of(ctx, r, &call, most, out);
	buf_fini(&body);
	return err;
}

static void put_place(struct buf *path, struct str share, const struct remote_upload *up)
{
	if (up->replace_id) {
		query_id(path, "replace_file_id", ID_FILE, up->replace_id);
		query_id(path, "base_version_id", ID_VERSION, up->base_version_id);
		if (up->strategy.n)
			buf_fmt(path, "&conflict_resolution=%.*s", STR_ARG(up->strategy));
		return;
	}
	buf_lit(path, "&share_id=");
	http_escape(path, share);
	if (up->parent != TREE_ROOT)
		query_id(path, "folder_id", ID_FOLDER, up->parent);
	buf_lit(path, "&name=");
	http_escape(path, up->name);
}

int remote_put_steps(struct ctx *ctx, struct remote *r, struct str share, struct remote_upload *up, int64_t source, struct str steps)
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
	query_id(&path, "sources", ID_VERSION, source);
	put_place(&path, share, up);
	struct http_call call = {.method = "POST", .path = buf_as_str(&path), .body = steps,
	                         .content_type = STR("application/octet-stream")};
	int err = remote_call(ctx, r, &call, &doc);
	http_call_fini(&call);
	buf_fini(&path);
	buf_fini(&mtime);
	return err ? err : remote_read_uploaded(ctx, doc, up);
}
