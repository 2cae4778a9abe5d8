#include "client/session.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/must.h"

#define AGAIN_US SECONDS_US(30)

static void forget(char *token)
{
	if (token)
		explicit_bzero(token, strlen(token));
	free(token);
}

static void adopt(struct session *s)
{
	forget(s->token);
	s->token = strndup(s->state->token.n ? s->state->token.p : "", s->state->token.n);
	must(s->token != NULL);
	s->renew_at_us = s->state->renew_at_us;
	s->not_before_us = 0;
	s->ended = false;
}

void session_keep(struct ctx *ctx, struct state *state, const struct remote_grant *grant)
{
	state->token = arena_str(&state->arena, grant->access_token);
	state->refresh_token = grant->refresh_token.p ? arena_str(&state->arena, grant->refresh_token) : STR_NULL;
	state->renew_at_us = 0;
	/* At three quarters of its life: a server that is away for a while then costs nothing. */
	if (grant->expires_in_s > 0 && grant->expires_in_s <= LIMIT_TOKEN_TTL_MAX_S)
		state->renew_at_us = clock_now(ctx->clock) + SECONDS_US(grant->expires_in_s) / 4 * 3;
}

static int ended(struct ctx *ctx, struct session *s)
{
	s->ended = true;
	ctx_clear(ctx);
	return ctx_fail(ctx, E_UNAUTHENTICATED, "The login has ended. Run: scaidrive login --server %.*s --email %.*s",
	                STR_ARG(s->state->server), STR_ARG(s->state->email.n ? s->state->email : STR("YOU")));
}

static bool fresh(struct session *s, struct ctx *ctx)
{
	return s->renew_at_us == 0 || clock_now(ctx->clock) < s->renew_at_us;
}

/* Under the thread lock. refused: the token in hand does not work any more. */
static int renew(struct session *s, struct ctx *ctx, bool refused)
{
	struct remote_grant grant;
	AUTO_FD int lock = -1;
	int err = state_lock(ctx, s->state, &lock);
	if (!err)
		err = state_reload(ctx, s->state);
	if (err)
		return err;
	if (!str_eq(s->state->token, str_c(s->token))) {
		adopt(s); /* another process has renewed it, or signed in */
		if (fresh(s, ctx))
			return 0;
		refused = false;
	}
	if (!s->state->refresh_token.n)
		return refused ? ended(ctx, s) : 0;
	err = remote_refresh(ctx, s->http, s->state->refresh_token, &grant);
	if (err == E_UNAUTHENTICATED && refused)
		return ended(ctx, s);
	if (err)
		return err;
	session_keep(ctx, s->state, &grant);
	/* When it cannot be saved, the pair on disk is good until this one is used for the next. */
	err = state_save(ctx, s->state);
	adopt(s);
	return err;
}

static int hand_out(struct remote_session *self, struct ctx *ctx, struct str refused, struct str *out)
{
	struct session *s = (struct session *)self;
	int err = 0;
	pthread_mutex_lock(&s->lock);
	bool is_refused = s->ended || (refused.p && str_eq(refused, str_c(s->token)));
	if (is_refused) {
		err = renew(s, ctx, true);
	} else if (!fresh(s, ctx) && clock_mono(ctx->clock) >= s->not_before_us) {
		if (renew(s, ctx, false)) { /* it still works for a while */
			s->not_before_us = clock_mono(ctx->clock) + AGAIN_US;
			ctx_clear(ctx);
		}
	}
	*out = arena_str(ctx->arena, str_c(s->token));
	pthread_mutex_unlock(&s->lock);
	return err;
}

void session_init(struct session *s, struct state *state, struct http_client *http)
{
	*s = (struct session){.face = {.token = hand_out}, .state = state, .http = http};
	pthread_mutex_init(&s->lock, NULL);
	adopt(s);
}

void session_fini(struct session *s)
{
	forget(s->token);
	s->token = NULL;
	pthread_mutex_destroy(&s->lock);
}
