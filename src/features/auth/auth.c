/* auth: signing in with a local account, and what others need to verify our tokens. */
#include "api.h"
#include "base/log.h"
#include "drive/refresh.h"
#include "drive/token.h"
#include "http/facts.h"
#include "http/handler.h"

/* The caller as a User; the same shape that users/me shows. */
static int fill_user(struct ctx *ctx, const struct user *u, unsigned scopes, struct User *out)
{
	struct principal p = {0};
	int err = principal_load(ctx, u->tenant_id, u->id, &p);
	if (err)
		return err;
	*out = (struct User){
	    .id = u->id,
	    .email = u->email,
	    .name = u->name,
	    .display_name = u->name,
	    .tenant_id = u->tenant_id,
	    .groups = p.groups,
	    .n_groups = p.n_groups,
	    .is_admin = p.admin != ADMIN_NONE,
	    .admin_role = p.admin == ADMIN_SUPER    ? ADMIN_ROLE_SUPER_ADMIN
	                  : p.admin == ADMIN_TENANT ? ADMIN_ROLE_TENANT_ADMIN
	                                            : 0,
	};
	out->scopes = arena_many(ctx->arena, 8, struct str);
	out->n_scopes = scopes_names(scopes, out->scopes);
	return 0;
}

int auth_login(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct AuthLoginIn in;
	struct user user;
	struct token token;
	struct tokens *tokens = ctx->drive->tokens;
	int err = args_auth_login(ctx, req, &in);
	if (err)
		return err;
	if (!tokens)
		return ctx_fail(ctx, E_LOGIN_FAILED, "This server has no local accounts.");
	err = user_login(ctx, tokens_login_limits(tokens), in.body.email, in.body.password, req->peer, &user);
	if (err)
		return err;
	/* The sign-in ends with its device; the token works on any of the user's devices. */
	err = token_issue(ctx, tokens, &(struct token_new){.user = &user, .device_id = STR_NULL, .scope = STR_NULL}, &token);
	if (err)
		return err;
	struct LoginAnswer answer = {
	    .access_token = token.text,
	    .token_type = STR("Bearer"),
	    .expires_in = token.expires_in_s,
	};
	err = refresh_begin(ctx, &user, in.body.device_id, tokens_refresh_ttl_s(tokens), &answer.refresh_token);
	if (err)
		return err;
	err = fill_user(ctx, &user, token.scopes, &answer.user);
	if (err)
		return err;
	log_info("signed in", LOG_I("user", user.id), LOG_S("device_id", in.body.device_id),
	         LOG_S("request_id", ctx->request_id));
	write_LoginAnswer(&out->body, &answer);
	reply_header(out, STR("Cache-Control"), STR("no-store"));
	return 0;
}

/* The body's fields; STR_NULL for what is absent. */
static int read_token_form(struct ctx *ctx, struct request *req, struct TokenForm *out)
{
	static const char *const names[] = {"grant_type", "refresh_token"};
	struct http_header fields[2];
	struct str type = request_header(req, STR("Content-Type")), media = str_trim(str_cut(&type, ';'));
	if (!str_ieq(media, STR("application/x-www-form-urlencoded")))
		return ctx_fail(ctx, E_MEDIA_TYPE, "The content type must be application/x-www-form-urlencoded.");
	struct request form = {.query = req->body}; /* spelled like a query */
	for (size_t i = 0; i < 2; i++)
		fields[i] = (struct http_header){str_c(names[i]), request_query(&form, ctx->arena, names[i])};
	return read_form_TokenForm(ctx, fields, 2, out);
}

int auth_token(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct TokenForm form;
	struct user user;
	struct token token;
	struct tokens *tokens = ctx->drive->tokens;
	struct TokenAnswer answer = {.token_type = STR("Bearer")};
	reply_header(out, STR("Cache-Control"), STR("no-store"));
	int err = read_token_form(ctx, req, &form);
	if (err)
		return err;
	if (!tokens)
		return ctx_fail(ctx, E_UNAUTHENTICATED, "This server issues no tokens.");
	err = refresh_use(ctx, form.refresh_token, tokens_refresh_ttl_s(tokens), &user, &answer.refresh_token);
	if (!err)
		err = token_issue(ctx, tokens, &(struct token_new){.user = &user, .device_id = STR_NULL, .scope = STR_NULL}, &token);
	if (err)
		return err;
	answer.access_token = token.text;
	answer.expires_in = token.expires_in_s;
	write_TokenAnswer(&out->body, &answer);
	return 0;
}

int auth_jwks(struct ctx *ctx, struct request *req, struct reply *out)
{
	struct str jwks = STR("{\"keys\":[]}");
	(void)req;
	int err = ctx->drive->tokens ? tokens_jwks(ctx, ctx->drive->tokens, &jwks) : 0;
	if (err)
		return err;
	buf_str(&out->body, jwks);
	reply_header(out, STR("Cache-Control"), STR("public, max-age=300"));
	return 0;
}

int auth_config(struct ctx *ctx, const struct AuthConfigIn *in, struct AuthConfig *out)
{
	(void)in;
	*out = (struct AuthConfig){.login_url = ctx->drive->tokens ? server_facts()->login_url : STR_NULL};
	return 0;
}
