/* shares: the trees people work in, and who may. */
#include "features/wire.h"

static int answer(int err, const struct share *s, struct Share *out)
{
	if (!err)
		wire_share(s, out);
	return err;
}

int share_list(struct ctx *ctx, const struct ShareListIn *in, struct SharePage *out)
{
	struct share_list_in list = {.include_trashed = in->include_trashed, .limit = in->limit, .offset = in->offset};
	struct share_list found;
	int err = drive_share_list(ctx, &list, &found);
	if (err)
		return err;
	*out = (struct SharePage){
	    .shares = arena_many(ctx->arena, found.n, struct Share), .n_shares = found.n, .total = found.total};
	for (size_t i = 0; i < found.n; i++)
		wire_share(&found.items[i], &out->shares[i]);
	return 0;
}

int share_create(struct ctx *ctx, const struct ShareCreateIn *in, struct Share *out)
{
	struct share_create create = {
	    .name = in->body.name,
	    .share_type = name_ShareType(in->body.share_type),
	    .description = in->body.description,
	    .owner = in->body.owner_id,
	    .has_quota = in->body.has_quota_bytes,
	    .quota_bytes = in->body.quota_bytes,
	};
	struct share s;
	return answer(drive_share_create(ctx, &create, &s), &s, out);
}

int share_get(struct ctx *ctx, const struct ShareGetIn *in, struct Share *out)
{
	struct share s;
	return answer(drive_share_get(ctx, in->share_id, &s), &s, out);
}

int share_update(struct ctx *ctx, const struct ShareUpdateIn *in, struct Share *out)
{
	struct share_patch patch = {
	    .id = in->share_id,
	    .name = in->body.name,
	    .has_description = in->body.description.p != NULL,
	    .description = in->body.description,
	    .has_quota = in->body.given_quota_bytes,
	    .quota_none = !in->body.has_quota_bytes,
	    .quota_bytes = in->body.quota_bytes,
	};
	struct share s;
	return answer(drive_share_patch(ctx, &patch, &s), &s, out);
}

int share_delete(struct ctx *ctx, const struct ShareDeleteIn *in)
{
	return drive_share_delete(ctx, in->share_id);
}

int share_children(struct ctx *ctx, const struct ShareChildrenIn *in, struct Children *out)
{
	struct folder_children_in list = {
	    .share_id = in->share_id, .include_deleted = in->include_deleted, .limit = in->limit, .offset = in->offset};
	struct folder_children children;
	int err = drive_folder_children(ctx, &list, &children);
	if (!err)
		wire_children(ctx, &children, out);
	return err;
}

int share_principals(struct ctx *ctx, const struct SharePrincipalsIn *in, struct Principals *out)
{
	struct principal_search_in search = {
	    .query = in->q,
	    .users = in->principal_type != PRINCIPAL_TYPE_GROUP,
	    .groups = in->principal_type != PRINCIPAL_TYPE_USER,
	    .limit = in->limit,
	};
	struct principal_search found;
	int err = drive_principal_search(ctx, &search, &found);
	if (err)
		return err;
	*out = (struct Principals){
	    .users = arena_many(ctx->arena, found.n_users, struct PrincipalUser),
	    .n_users = found.n_users,
	    .groups = arena_many(ctx->arena, found.n_groups, struct PrincipalGroup),
	    .n_groups = found.n_groups,
	};
	for (size_t i = 0; i < found.n_users; i++) {
		const struct principal_hit *hit = &found.users[i];
		out->users[i] =
		    (struct PrincipalUser){.id = hit->id.n, .email = hit->email, .name = hit->name, .display_name = hit->name};
	}
	for (size_t i = 0; i < found.n_groups; i++)
		out->groups[i] = (struct PrincipalGroup){.id = found.groups[i].id.n, .name = found.groups[i].name};
	return 0;
}
