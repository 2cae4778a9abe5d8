#include "client/patience.h"

enum { SLICE_MS = 100 }; /* how soon a stop is noticed */
#define JITTER_US SECONDS_US(1)

static int64_t left_us(struct patience *p, struct ctx *ctx)
{
	pthread_mutex_lock(&p->lock);
	int64_t left = p->until_us - clock_mono(ctx->clock);
	pthread_mutex_unlock(&p->lock);
	return left;
}

static void extend(struct patience *p, struct ctx *ctx, int seconds)
{
	pthread_mutex_lock(&p->lock);
	int64_t until = clock_mono(ctx->clock) + SECONDS_US(seconds);
	if (until > p->until_us) { /* else another call was told of the same refusal, and all wait for it already */
		p->until_us = until + (int64_t)rng_below(ctx->rng, JITTER_US);
		if (p->tell)
			p->tell(p->arg, ctx, seconds);
	}
	pthread_mutex_unlock(&p->lock);
}

static int wait_for(struct remote_patience *self, struct ctx *ctx, int asked_s)
{
	struct patience *p = (struct patience *)self;
	if (asked_s)
		extend(p, ctx, asked_s);
	for (int64_t left; (left = left_us(p, ctx)) > 0;) {
		if (p->stopping(p->arg))
			return ctx_fail(ctx, E_CANCELLED, "Stopped while waiting for the server's rate limit.");
		p->pause(p->arg, left < MILLIS_US(SLICE_MS) ? (int)(left / 1000) + 1 : SLICE_MS);
	}
	return 0;
}

void patience_init(struct patience *p)
{
	*p = (struct patience){.face = {.wait = wait_for}};
	pthread_mutex_init(&p->lock, NULL);
}

void patience_fini(struct patience *p)
{
	pthread_mutex_destroy(&p->lock);
}
