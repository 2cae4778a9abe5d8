/* What a client reads: changes, snapshot, status, cursor, content. */
#include "features/sync/sync.h"

#include "drive/change.h"
#include "drive/conflict.h"
#include "drive/cursor.h"
#include "drive/snapshot.h"
#include "features/change_wire.h"
#include "features/content.h"
#include "features/wire.h"

static struct counter fallback; /* until sync_metrics was called */
static struct counter *changes_fetched = &fallback;

static void conflicts_write(struct buf *out, const char *name, void *arg)
{
	(void)arg;
	for (int i = CONFLICT_EDIT_EDIT; i <= CONFLICT_FOLDER_DELETE; i++) {
		struct buf labels;
		buf_init(&labels);
		metrics_label(&labels, "type", str_c(conflict_type_name((enum conflict_type)i)));
		metrics_sample(out, name, buf_as_str(&labels), conflict_recorded((enum conflict_type)i));
		buf_fini(&labels);
	}
}

void sync_metrics(struct metrics *m)
{
	changes_fetched = metrics_counter(m, "scaidrive_sync_changes_fetched_total", "Entries of the change log sent to clients.",
	                                  NULL);
	metrics_family(m, "scaidrive_sync_conflicts_total", METRIC_COUNTER, "Conflicts recorded.", conflicts_write, NULL);
}

int sync_changes(struct ctx *ctx, const struct SyncChangesIn *in, struct ChangePage *out)
{
	struct change_page page;
	struct change_page_in want = {.share_id = in->share_id, .limit = in->limit};
	if (in->has_cursor)
		want.cursor = arena_fmt(ctx->arena, "%lld", (long long)in->cursor);
	int err = change_page_read(ctx, &want, &page);
	if (err)
		return err;
	*out = (struct ChangePage){
	    .changes = arena_many(ctx->arena, page.n_items, struct Change),
	    .n_changes = page.n_items,
	    .cursor = page.cursor,
	    .has_more = page.has_more,
	    .share_id = in->share_id,
	};
	for (size_t i = 0; i < page.n_items; i++)
		wire_change(&page.items[i], &out->changes[i]);
	counter_add(changes_fetched, page.n_items);
	return 0;
}

static void put_restores(struct ctx *ctx, struct str gaps, struct Snapshot *out)
{
	struct change_gap gap;
	size_t n = 0;
	for (struct str rest = gaps; change_gap_next(&rest, &gap);)
		n++;
	out->restores = arena_many(ctx->arena, n + 1, struct SnapshotRestore);
	for (; change_gap_next(&gaps, &gap); out->n_restores++)
		out->restores[out->n_restores] = (struct SnapshotRestore){.cursor = gap.to, .version_id = gap.ids_behind};
}

int sync_snapshot(struct ctx *ctx, const struct SyncSnapshotIn *in, struct Snapshot *out)
{
	struct snapshot_page page;
	struct snapshot_in want = {
	    .share_id = in->share_id, .folder_id = in->folder_id, .page_token = in->page_token, .limit = in->limit};
	int err = drive_snapshot(ctx, &want, &page);
	if (err)
		return err;
	*out = (struct Snapshot){
	    .nodes = arena_many(ctx->arena, page.n, struct SnapshotNode),
	    .n_nodes = page.n,
	    .cursor = page.cursor,
	    .page_token = page.next_page_token,
	    .has_more = page.next_page_token.p != NULL,
	    .share_id = in->share_id,
	};
	put_restores(ctx, page.gaps, out);
	for (size_t i = 0; i < page.n; i++) {
		const struct node *n = &page.items[i];
		bool file = n->kind == NODE_FILE;
		out->nodes[i] = (struct SnapshotNode){
		    .id = node_rid(n),
		    .parent_id = wire_parent(n),
		    .type = file ? NODE_TYPE_FILE : NODE_TYPE_FOLDER,
		    .name = n->name,
		    .version_id = file ? n->version_id : 0,
		    .version = n->version,
		    .has_version = file,
		    .size = n->size_bytes,
		    .has_size = file,
		    .checksum_sha256 = n->sha256,
		    .has_checksum_sha256 = file && n->has_sha256,
		    .mtime = n->mtime_us,
		    .has_mtime = n->has_mtime,
		    .executable = n->executable,
		};
	}
	return 0;
}

int sync_status(struct ctx *ctx, const struct SyncStatusIn *in, struct SyncStatus *out)
{
	struct sync_state s;
	int err = drive_sync_status(ctx, in->device_id, in->share_id, &s);
	if (err)
		return err;
	*out = (struct SyncStatus){
	    .cursor_position = s.position,
	    .last_sync_at = s.last_sync_at,
	    .has_last_sync_at = s.last_sync_at != 0,
	    .pending_changes = s.pending_changes,
	    .has_conflicts = s.has_conflicts,
	};
	return 0;
}

int sync_cursor(struct ctx *ctx, const struct SyncCursorIn *in, struct CursorState *out)
{
	struct sync_state s;
	int err = drive_sync_cursor_set(ctx, in->device_id, in->share_id, in->position, &s);
	if (err)
		return err;
	*out = (struct CursorState){
	    .cursor_position = s.position, .last_sync_at = s.last_sync_at, .has_last_sync_at = s.last_sync_at != 0};
	return 0;
}

int sync_download(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct SyncDownloadIn in;
	int err = args_sync_download(ctx, req, &in);
	if (err)
		return err;
	if (in.version_id)
		return content_answer_version(ctx, req, in.file_id, in.version_id, in.include_deleted, out);
	return content_answer(ctx, req, in.file_id, in.has_version ? in.version : 0, in.include_deleted, out);
}
