/* members: roles of users and groups in a share. */
#include "features/wire.h"

static enum role role_of(enum ShareRole r)
{
	enum role role = ROLE_NONE;
	return r && role_parse(name_ShareRole(r), &role) ? role : ROLE_NONE;
}

static void wire_member(const struct member *m, struct Member *out)
{
	*out = (struct Member){
	    .principal_type = m->principal.kind == ID_GROUP ? PRINCIPAL_TYPE_GROUP : PRINCIPAL_TYPE_USER,
	    .principal_id = m->principal,
	    .name = m->name,
	    .email = m->email,
	    .role = parse_ShareRole(str_c(role_name(m->role))),
	    .expires_at = m->expires_at,
	    .has_expires_at = m->expires_at != 0,
	    .added_by = m->created_by,
	    .created_at = m->created_at,
	};
}

int member_list(struct ctx *ctx, const struct MemberListIn *in, struct MemberPage *out)
{
	struct member_list found;
	int err = drive_member_list(ctx, in->share_id, in->limit, in->offset, &found);
	if (err)
		return err;
	*out = (struct MemberPage){
	    .members = arena_many(ctx->arena, found.n, struct Member), .n_members = found.n, .total = found.total};
	for (size_t i = 0; i < found.n; i++)
		wire_member(&found.items[i], &out->members[i]);
	return 0;
}

int member_add(struct ctx *ctx, const struct MemberAddIn *in, struct Member *out)
{
	enum id_kind kind = in->body.principal_type == PRINCIPAL_TYPE_GROUP ? ID_GROUP : ID_USER;
	if (in->body.principal_id.kind != kind)
		return ctx_invalid(ctx, "body", STR("principal_id"), "value_error", "the id is not of the principal_type");
	struct member_add add = {
	    .share_id = in->share_id,
	    .principal = in->body.principal_id,
	    .role = role_of(in->body.role),
	    .expires_at = in->body.has_expires_at ? in->body.expires_at : 0,
	};
	struct member m;
	int err = drive_member_add(ctx, &add, &m);
	if (!err)
		wire_member(&m, out);
	return err;
}

int member_update(struct ctx *ctx, const struct MemberUpdateIn *in, struct Member *out)
{
	struct member_patch patch = {
	    .share_id = in->share_id,
	    .principal = in->principal_id,
	    .role = role_of(in->body.role),
	    .has_expires = in->body.given_expires_at,
	    .expires_at = in->body.has_expires_at ? in->body.expires_at : 0,
	};
	struct member m;
	int err = drive_member_patch(ctx, &patch, &m);
	if (!err)
		wire_member(&m, out);
	return err;
}

int member_remove(struct ctx *ctx, const struct MemberRemoveIn *in)
{
	return drive_member_remove(ctx, in->share_id, in->principal_id);
}
