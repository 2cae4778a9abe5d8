/* users: the caller, and the caller's shares. */
#include "api.h"
#include "drive/share.h"
#include "drive/token.h"

int user_me(struct ctx *ctx, const struct UserMeIn *in, struct User *out)
{
	const struct principal *p = ctx->who;
	(void)in;
	*out = (struct User){
	    .id = p->user_id,
	    .email = p->email,
	    .name = p->name,
	    .display_name = p->name,
	    .tenant_id = p->tenant_id,
	    .groups = p->groups,
	    .n_groups = p->n_groups,
	    .is_admin = p->admin != ADMIN_NONE,
	    .admin_role = p->admin == ADMIN_SUPER    ? ADMIN_ROLE_SUPER_ADMIN
	                  : p->admin == ADMIN_TENANT ? ADMIN_ROLE_TENANT_ADMIN
	                                             : 0,
	};
	out->scopes = arena_many(ctx->arena, 8, struct str);
	out->n_scopes = scopes_names(p->scopes, out->scopes);
	return 0;
}

int user_shares(struct ctx *ctx, const struct UserSharesIn *in, struct UserSharePage *out)
{
	struct share_list list;
	int err = drive_share_list(ctx, &(struct share_list_in){.mine = true, .limit = in->limit, .offset = in->offset}, &list);
	if (err)
		return err;
	out->total = list.total;
	out->n_shares = list.n;
	out->shares = arena_many(ctx->arena, list.n, struct UserShare);
	for (size_t i = 0; i < list.n; i++) {
		const struct share *s = &list.items[i];
		out->shares[i] = (struct UserShare){
		    .id = s->id,
		    .name = s->name,
		    .type = parse_ShareType(s->share_type),
		    .role = parse_ShareRole(str_c(role_name(s->role))),
		    .owner_id = s->owner,
		    .quota_bytes = s->quota_bytes,
		    .has_quota_bytes = s->has_quota,
		    .used_bytes = s->used_bytes,
		    .created_at = s->created_at,
		};
	}
	return 0;
}
