/* Rate limits of an exchange: whose units it takes, and what its answer says of that. */
#include "base/id.h"
#include "base/log.h"
#include "base/map.h"
#include "http/exchange_priv.h"

static void refuse(struct exchange *x)
{
	const struct rate_verdict *v = &x->rate;
	const struct http *h = x->http;
	ctx_retry_after(&x->ctx, v->wait_us);
	if (h->rejections[v->dimension])
		counter_add(h->rejections[v->dimension], 1);
	if (!v->first)
		return;
	char room[ID_WIRE_MAX + 1];
	log_warn("rate limit reached", LOG_S("request_id", x->ctx.request_id), LOG_C("dimension", rate_dimension_name(v->dimension)),
	         LOG_I("limit", v->limit), LOG_S("user", exchange_user(x, room)), LOG_I("tenant", x->ctx.tenant_id),
	         LOG_S("operation", x->ctx.operation));
}

static int charge(struct exchange *x, struct ctx *ctx, int64_t units, enum rate_kind kind)
{
	rate_charge(x->http->rates, x->rate_keys, units, kind, clock_mono(x->http->config.clock), &x->rate);
	if (!x->rate.refused)
		return 0;
	refuse(x);
	return ctx_fail(ctx, E_RATE_LIMITED, "This %s's limit of %lld rate units in %lld seconds is reached; try again in %d s.",
	                rate_dimension_name(x->rate.dimension), (long long)x->rate.limit,
	                (long long)x->http->config.rates.window_s, x->ctx.retry_after_s);
}

static int charge_found(struct meter *self, struct ctx *ctx, int64_t units)
{
	struct exchange *x = (struct exchange *)((char *)self - offsetof(struct exchange, meter));
	return charge(x, ctx, units, RATE_FOUND);
}

/* What the signature is over. Of the signature itself there are several spellings that all verify. */
static struct str signed_part(struct str token)
{
	size_t n = token.n;
	while (n && token.p[n - 1] != '.')
		n--;
	return n ? str_head(token, n) : token;
}

int exchange_charge(struct exchange *x, struct str token)
{
	struct str part = signed_part(token);
	x->rate_keys[RATE_TOKEN] = map_key(part.p, part.n);
	x->rate_keys[RATE_USER] = (uint64_t)exchange_user_id(x);
	x->rate_keys[RATE_TENANT] = (uint64_t)x->ctx.tenant_id;
	x->meter.charge = charge_found;
	x->ctx.meter = &x->meter;
	x->rated = true;
	return charge(x, &x->ctx, x->req.route->cost, RATE_ASKED);
}

void rate_headers(struct exchange *x, struct http_header out[3])
{
	struct room {
		char digits[3][U64_DIGITS];
	} *room = arena_new(&x->arena, struct room);
	int64_t whole_us = clock_now(x->http->config.clock) + x->rate.reset_us, reset_s = (whole_us + SECONDS_US(1) - 1) / SECONDS_US(1);
	out[0] = (struct http_header){STR("X-RateLimit-Limit"), u64_digits((uint64_t)x->rate.limit, room->digits[0])};
	out[1] = (struct http_header){STR("X-RateLimit-Remaining"), u64_digits((uint64_t)x->rate.left, room->digits[1])};
	out[2] = (struct http_header){STR("X-RateLimit-Reset"), u64_digits((uint64_t)reset_s, room->digits[2])};
}

void rate_details(const struct exchange *x, struct buf *out)
{
	buf_fmt(out, ",\"details\":{\"dimension\":\"%s\",\"limit\":%lld,\"window_seconds\":%lld}",
	        rate_dimension_name(x->rate.dimension), (long long)x->rate.limit, (long long)x->http->config.rates.window_s);
}

void http_rates_init(struct http *h)
{
	h->rates = rates_new(&h->config.rates);
	for (int d = 0; d < RATE_DIMENSIONS && h->rates && h->config.metrics; d++) {
		static const char *const labels[RATE_DIMENSIONS] = {"dimension=\"token\"", "dimension=\"user\"", "dimension=\"tenant\""};
		h->rejections[d] = metrics_counter(h->config.metrics, "scaidrive_rate_limit_rejections_total",
		                                   "Requests refused because a rate limit was reached.", labels[d]);
	}
}
