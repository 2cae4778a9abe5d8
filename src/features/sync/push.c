/* What a client writes: apply, and the settling of conflicts. */
#include "drive/apply.h"
#include "features/wire.h"

_Static_assert((int)APPLY_STATUS_CONFLICT == (int)APPLY_CONFLICT && (int)APPLY_STATUS_RENAMED == (int)APPLY_RENAMED &&
                   (int)APPLY_STATUS_NOOP == (int)APPLY_NOOP,
               "the API's words are the domain's");
_Static_assert((int)CONFLICT_TYPE_FOLDER_DELETE == (int)CONFLICT_FOLDER_DELETE &&
                   (int)CONFLICT_TYPE_EDIT_DELETE == (int)CONFLICT_EDIT_DELETE,
               "the API's words are the domain's");
_Static_assert((int)CHANGE_TYPE_RENAMED == (int)CHANGE_RENAMED, "the API's words are the domain's");

static enum ResourceType resource_type(struct rid r)
{
	return r.kind == ID_FILE ? RESOURCE_TYPE_FILE : r.kind == ID_FOLDER ? RESOURCE_TYPE_FOLDER : RESOURCE_TYPE_SHARE;
}

static void wire_conflict(const struct conflict *c, struct Conflict *out)
{
	*out = (struct Conflict){
	    .id = c->id,
	    .tenant_id = c->tenant_id,
	    .share_id = c->share_id,
	    .device_id = c->device_id,
	    .resource_type = resource_type(c->resource),
	    .resource_id = c->resource,
	    .conflict_type = (enum ConflictType)c->type,
	    .local_version_id = c->local_version_id,
	    .server_version_id = c->server_version_id,
	    .base_version_id = c->base_version_id,
	    .path = c->path,
	    .resolution = parse_ConflictResolution(str_c(resolve_strategy_name(c->resolution))),
	    .resolved = c->resolved_at != 0,
	    .resolved_by = c->resolved_by,
	    .resolved_at = c->resolved_at,
	    .has_resolved_at = c->resolved_at != 0,
	    .created_at = c->created_at,
	    .copy_id = c->copy_id,
	};
}

/* ---- apply ---- */

static const struct apply_bytes *read_bytes(struct ctx *ctx, const struct ApplyChange *in)
{
	const struct ApplyMetadata *m = in->metadata;
	if (!in->has_chunks && !in->source_version_id)
		return NULL;
	struct apply_bytes *b = arena_new(ctx->arena, struct apply_bytes);
	*b = (struct apply_bytes){
	    .chunks = in->chunks,
	    .n_chunks = in->n_chunks,
	    .sources = in->sources,
	    .n_sources = in->n_sources,
	    .source_version_id = in->source_version_id,
	};
	if (!m)
		return b;
	b->has_checksum = m->has_checksum_sha256;
	b->checksum = m->checksum_sha256;
	b->has_size = m->has_size;
	b->size_bytes = m->size;
	b->has_mtime = m->has_mtime;
	b->mtime_us = m->mtime;
	b->has_executable = m->has_executable;
	b->executable = m->executable;
	b->mime_type = m->mime_type;
	return b;
}

static void read_change(struct ctx *ctx, const struct ApplyChange *in, struct apply_change *out)
{
	enum id_kind kind = in->resource_type == RESOURCE_TYPE_FILE     ? ID_FILE
	                    : in->resource_type == RESOURCE_TYPE_FOLDER ? ID_FOLDER
	                                                                : ID_SHARE;
	*out = (struct apply_change){
	    .op_id = in->op_id,
	    .resource = {kind, in->resource_id.n},
	    .type = (enum change_type)in->change_type,
	    .version_id = in->version_id,
	    .base_version_id = in->base_version_id,
	    .new_path = in->new_path,
	    .bytes = read_bytes(ctx, in),
	};
	if (!in->metadata)
		return;
	out->has_parent = in->metadata->given_parent_id;
	out->parent_id = in->metadata->parent_id;
	out->name = in->metadata->name;
}

static void write_applied(const struct apply_result *r, struct Applied *out)
{
	*out = (struct Applied){
	    .index = (int64_t)r->index,
	    .op_id = r->op_id,
	    .resource_type = resource_type(r->resource),
	    .resource_id = r->resource,
	    .change_type = (enum ChangeType)r->type,
	    .version_id = r->version_id,
	    .version = r->version,
	    .has_version = r->version != 0,
	    .name = r->name,
	    .parent_id = r->parent_id,
	    .status = (enum ApplyStatus)r->status,
	    .cursor = r->seq,
	    .has_cursor = r->seq != 0,
	};
}

static void write_error(const struct apply_result *r, struct ApplyError *out)
{
	const struct err_info *info = err_info(r->err);
	*out = (struct ApplyError){
	    .index = (int64_t)r->index,
	    .op_id = r->op_id,
	    .resource_type = resource_type(r->resource),
	    .resource_id = r->resource,
	    .change_type = (enum ChangeType)r->type,
	    .status = info->status,
	    .code = str_c(info->code),
	    .detail = r->detail,
	};
}

static void write_answer(struct arena *a, const struct apply_out *from, struct ApplyAnswer *out)
{
	size_t n_errors = 0, n_conflicts = 0;
	for (size_t i = 0; i < from->n_results; i++) {
		n_errors += from->results[i].status == APPLY_FAILED;
		n_conflicts += from->results[i].conflict != NULL;
	}
	*out = (struct ApplyAnswer){
	    .applied = arena_many(a, from->n_results - n_errors, struct Applied),
	    .conflicts = arena_many(a, n_conflicts, struct Conflict),
	    .errors = arena_many(a, n_errors, struct ApplyError),
	    .cursor = from->cursor,
	};
	for (size_t i = 0; i < from->n_results; i++) {
		const struct apply_result *r = &from->results[i];
		if (r->status == APPLY_FAILED) {
			write_error(r, &out->errors[out->n_errors++]);
			continue;
		}
		write_applied(r, &out->applied[out->n_applied++]);
		if (!r->conflict)
			continue;
		struct Conflict *c = &out->conflicts[out->n_conflicts++];
		wire_conflict(r->conflict, c);
		c->index = (int64_t)r->index;
		c->has_index = true;
		c->op_id = r->op_id;
	}
}

int sync_apply(struct ctx *ctx, const struct SyncApplyIn *in, struct ApplyAnswer *out)
{
	const struct ApplyRequest *body = &in->body;
	struct apply_change *changes = arena_many(ctx->arena, body->n_changes, struct apply_change);
	for (size_t i = 0; i < body->n_changes; i++) {
		read_change(ctx, &body->changes[i], &changes[i]);
		if (body->changes[i].resource_id.n && body->changes[i].resource_id.kind != changes[i].resource.kind)
			return ctx_invalid(ctx, "body", STR("resource_id"), "value_error", "changes[%zu]: resource_id is not a %.*s", i,
			                   STR_ARG(name_ResourceType(body->changes[i].resource_type)));
	}
	struct apply_in want = {
	    .device_id = body->device_id,
	    .share_id = body->share_id,
	    .strategy = wire_strategy(body->conflict_resolution),
	    .base_cursor = body->has_base_cursor ? body->base_cursor : -1,
	    .changes = changes,
	    .n_changes = body->n_changes,
	};
	struct apply_out done;
	int err = drive_apply(ctx, &want, &done);
	if (!err)
		write_answer(ctx->arena, &done, out);
	return err;
}

/* ---- conflicts ---- */

int conflict_list(struct ctx *ctx, const struct ConflictListIn *in, struct ConflictList *out)
{
	struct conflict_list list;
	struct conflict_list_in want = {
	    .share_id = in->share_id, .device_id = in->device_id, .include_resolved = in->include_resolved};
	int err = drive_conflict_list(ctx, &want, &list);
	if (err)
		return err;
	*out = (struct ConflictList){.items = arena_many(ctx->arena, list.n, struct Conflict), .n_items = list.n};
	for (size_t i = 0; i < list.n; i++)
		wire_conflict(&list.items[i], &out->items[i]);
	return 0;
}

int conflict_resolve(struct ctx *ctx, const struct ConflictResolveIn *in, struct Conflict *out)
{
	struct conflict c;
	int err = drive_conflict_resolve(ctx, in->conflict_id, wire_strategy(in->resolution), &c);
	if (!err)
		wire_conflict(&c, out);
	return err;
}
