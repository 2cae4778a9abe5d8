/* Files: acknowledged, edited, deleted. */
#include "drive/apply_priv.h"
#include "base/mutant.h"
#include "drive/version.h"

/* The upload made the file, its version and its entry in the log; nothing is made twice. */
int apply_file_created(struct apply_step *s)
{
	struct node n;
	struct version v;
	if (!s->c->resource.n)
		return ctx_fail(s->t->ctx, E_INVALID, "resource_id is missing: upload the file first, then name it here.");
	int err = apply_node(s, RIGHT_READ, &n);
	if (!err && s->c->version_id && s->c->version_id != n.version_id)
		err = version_load(s->t, &n, s->c->version_id, &v);
	if (err == E_NOT_FOUND && n.id) {
		ctx_clear(s->t->ctx);
		err = ctx_fail(s->t->ctx, E_SYNC_CONFLICT, "version_id is not a version of this file.");
	}
	if (!err)
		apply_says(s, APPLY_NOOP, &n);
	return err;
}

/* A version that is in the history and newer than the base took effect when it was made: this is its echo, by an upload
 * that was not staged or by a request that lost its reply. Doing it again would undo what came after it. */
static int edit_is_echo(struct apply_step *s, const struct node *n, bool *yes)
{
	struct version v, base;
	struct ctx *ctx = s->t->ctx;
	*yes = false;
	int err = version_load(s->t, n, s->c->version_id, &v);
	if (err == E_NOT_FOUND) {
		ctx_clear(ctx);
		return ctx_fail(ctx, E_SYNC_CONFLICT, "version_id is not a version of this file.");
	}
	if (err || !v.number || !s->c->base_version_id)
		return err;
	err = version_load(s->t, n, s->c->base_version_id, &base);
	if (err == E_NOT_FOUND) {
		ctx_clear(ctx);
		return 0;
	}
	*yes = !err && base.number && base.number < v.number;
	return err;
}

static void edit_says(struct apply_step *s, const struct version_result *v)
{
	apply_says(s, v->fate == VERSION_HEAD ? APPLY_APPLIED : v->fate == VERSION_UNCHANGED ? APPLY_NOOP : APPLY_CONFLICT,
	           &v->node);
	if (!v->has_conflict)
		return;
	struct conflict *c = arena_new(s->t->ctx->arena, struct conflict);
	*c = v->conflict;
	s->r->conflict = c;
	s->r->conflict_id = c->id;
}

int apply_file_updated(struct apply_step *s)
{
	const struct apply_in *in = s->batch->in;
	struct node n;
	struct version_result v = {0};
	bool echo;
	if (!s->c->version_id)
		return ctx_fail(s->t->ctx, E_INVALID, "version_id is missing: upload the content first, then name it here.");
	int err = apply_node(s, RIGHT_WRITE, &n);
	if (err)
		return err;
	if (n.version_id == s->c->version_id && !n.in_trash) {
		apply_says(s, APPLY_NOOP, &n);
		return 0;
	}
	err = edit_is_echo(s, &n, &echo);
	if (!err && echo) {
		apply_says(s, APPLY_NOOP, &n);
		return 0;
	}
	if (!err)
		err = version_promote(s->t, &n, s->c->version_id, s->c->base_version_id, in->strategy, in->device_id, &v);
	if (!err)
		edit_says(s, &v);
	return err;
}

int apply_file_edited(struct apply_step *s)
{
	const struct apply_in *in = s->batch->in;
	struct node n;
	struct version_put put = {.strategy = in->strategy, .base_version_id = s->c->base_version_id, .device_id = in->device_id};
	struct version_result v = {0};
	int err = apply_node(s, RIGHT_WRITE, &n);
	if (!err)
		err = apply_bytes_put(s, &put);
	put.replace_file_id = n.id;
	if (!err)
		err = version_commit(s->t, &put, &v);
	if (!err)
		edit_says(s, &v);
	return err;
}

/* What the deleter had seen: the version it named, else the head unless others changed the file after the position up to
 * which it had read. Naming neither is a plain delete. */
static int delete_base(struct apply_step *s, const struct node *n, int64_t *version_id)
{
	bool foreign = false;
	*version_id = s->c->base_version_id && !mutant(M_DRIVE_DELETE_ANYHOW) ? s->c->base_version_id : n->version_id;
	if (s->c->base_version_id || s->batch->in->base_cursor < 0 || n->change_seq <= s->batch->in->base_cursor)
		return 0;
	int err = apply_foreign_has(s, n->id, &foreign);
	if (foreign)
		*version_id = 0;
	return err;
}

int apply_file_deleted(struct apply_step *s)
{
	const struct apply_in *in = s->batch->in;
	struct node n;
	int err = apply_node(s, RIGHT_READ, &n);
	if (err)
		return err;
	if (n.in_trash) {
		apply_says(s, APPLY_NOOP, &n);
		return 0;
	}
	int64_t base;
	err = access_verdict(s->t->ctx, n.rights, RIGHT_DELETE, node_rid(&n));
	if (!err)
		err = delete_base(s, &n, &base);
	if (err)
		return err;
	const struct resolve_side head = {.version_id = n.version_id, .has_checksum = n.has_sha256, .checksum = n.sha256};
	const struct resolve_side incoming = {.deleted = true};
	struct resolve_outcome o = resolve(in->strategy, base, &head, &incoming);
	if (o.refused)
		return ctx_fail(s->t->ctx, E_VERSION_STALE, "The file was edited since base_version_id.");
	if (o.conflict)
		err = apply_conflict(s, &n, CONFLICT_DELETE_EDIT, 0, n.version_id, 0, o.open);
	if (!err && o.head == RESOLVE_HEAD_DELETED)
		err = node_trash(s->t, &n, in->device_id);
	if (!err)
		apply_says(s, o.head == RESOLVE_HEAD_DELETED ? APPLY_APPLIED : APPLY_CONFLICT, &n);
	return err;
}
