/* system: is it alive, can it work, what can it do, how is it doing. */
#include "api.h"
#include "base/limits.h"
#include "drive/drive.h"
#include "http/facts.h"
#include "http/handler.h"

/* Where a resumable upload's pieces end; the next issue's upload sessions obey it too. */
enum { UPLOAD_CHUNK_MAX_BYTES = 5 << 20 };

int health_get(struct ctx *ctx, const struct HealthGetIn *in, struct Health *out)
{
	(void)ctx;
	(void)in;
	*out = (struct Health){.status = STR("healthy"), .version = STR(SD_VERSION)};
	return 0;
}

int ready_get(struct ctx *ctx, struct request *req, struct reply *out)
{
	const struct drive *d = ctx->drive;
	int storage = store_health(d->store), database = db_ping(d->db);
	struct Ready answer = {
	    .status = storage || database ? STR("unavailable") : STR("ready"),
	    .checks = {
	        .database = database ? STR("unavailable") : STR("ok"),
	        .storage = storage == E_READ_ONLY ? STR("read_only") : storage ? STR("unavailable") : STR("ok"),
	    },
	};
	(void)req;
	write_Ready(&out->body, &answer);
	out->status = storage || database ? 503 : 200;
	reply_header(out, STR("Cache-Control"), STR("no-store"));
	return 0;
}

int config_get(struct ctx *ctx, const struct ConfigGetIn *in, struct Config *out)
{
	static struct str capabilities[] = {
	    STR("snapshot"), STR("op_id"), STR("base_cursor"), STR("staged"), STR("conflict_resolution"), STR("idempotency_key"),
	    STR("sync_websocket"), STR("trash_restore"),
	};
	(void)in;
	*out = (struct Config){
	    .version = STR(SD_VERSION),
	    .capabilities = capabilities,
	    .n_capabilities = sizeof capabilities / sizeof *capabilities,
	    .limits = {
	        .max_file_size_bytes = ctx->drive->file_max_bytes,
	        .max_upload_chunk_size_bytes = UPLOAD_CHUNK_MAX_BYTES,
	        .max_apply_changes = LIMIT_APPLY_CHANGES,
	        .max_page_changes = LIMIT_PAGE_CHANGES,
	        .max_page_snapshot = LIMIT_PAGE_SNAPSHOT,
	        .max_name_bytes = LIMIT_NAME_BYTES,
	    },
	};
	return 0;
}

/* A request that came through a proxy is not from this machine, even when the proxy is. */
static bool is_local(const struct request *req)
{
	return (str_starts(req->peer, STR("127.")) || str_eq(req->peer, STR("::1")) ||
	        str_starts(req->peer, STR("::ffff:127."))) &&
	       !request_header(req, STR("X-Forwarded-For")).p && !request_header(req, STR("Forwarded")).p &&
	       !request_header(req, STR("X-Real-IP")).p;
}

int metrics_get(struct ctx *ctx, struct request *req, struct reply *out)
{
	const struct server_facts *f = server_facts();
	if (!f->metrics || f->metrics_access == METRICS_OFF || (f->metrics_access == METRICS_LOCAL && !is_local(req)))
		return ctx_fail(ctx, E_NOT_FOUND, "Not found.");
	metrics_text(f->metrics, &out->body);
	out->content_type = STR("text/plain; version=0.0.4");
	reply_header(out, STR("Cache-Control"), STR("no-store"));
	return 0;
}

int openapi_get(struct ctx *ctx, struct request *req, struct reply *out)
{
	const struct server_facts *f = server_facts();
	(void)req;
	if (!f->openapi.n)
		return ctx_fail(ctx, E_NOT_FOUND, "Not found.");
	buf_str(&out->body, f->openapi);
	return 0;
}
